//! Demonstration files and what training draws from them.
//!
//! | item | duty |
//! |---|---|
//! | [`Episode`] | one recorded episode, the unit that demonstrators hand over |
//! | [`EpisodeWriter`] | a new file in D4RL's HDF5 layout, episode by episode |
//! | [`Dataset`] | a file in memory: flat arrays, sequences, statistics |
//! | [`Split`] | training and validation sequences |
//! | [`WindowSampler`] | random sub-sequences as batches |
//! | [`Inspection`] | what a user should know about a file before training on it |
//!
//! The layout (D4RL, <https://github.com/Farama-Foundation/D4RL>): flat arrays `observations` `[N, S]`, `actions`
//! `[N, A]`, `rewards`, `terminals` and `timeouts` `[N]` over all episodes, and side arrays `infos/*` with `N` rows.

mod dataset;
mod episode;
mod error;
mod inspect;
mod read;
mod windows;
mod write;

#[cfg(test)]
mod tests;

pub use dataset::{CutRule, Dataset, Partition, Split, SplitOrder, Statistics};
pub use episode::{Column, Episode, Values};
pub use error::{DataError, NonFinite};
pub use inspect::{Element, ElementReport, InspectOptions, Inspection, Summary, kitchen_elements};
pub use read::{Limits, ReadOptions};
pub use windows::{Starts, Weighting, Window, WindowConfig, WindowSampler, spirl_epoch};
pub use write::{Description, EpisodeWriter, Written};
