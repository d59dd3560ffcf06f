//! What can be wrong with demonstration data.

/// Everything that can go wrong with demonstration data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// An episode handed over for writing is malformed.
    #[error("malformed episode: {0}")]
    Episode(String),
}
