//! Demonstration files and what training draws from them.

mod episode;
mod error;

pub use episode::{Column, Episode, Values};
pub use error::DataError;
