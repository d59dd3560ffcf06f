//! Under construction.

/// Temporary.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, PartialEq)]
pub struct CollectConfig {}
