//! Demonstration files and what training draws from them.
//!
//! | item | duty |
//! |---|---|
//! | [`Episode`], [`Images`] | one recorded episode, the unit that demonstrators hand over, and its pictures |
//! | [`EpisodeWriter`] | a new file in D4RL's HDF5 layout, episode by episode |
//! | [`RolloutWriter`] | a new folder in `SPiRL`'s roll-out layout, one file per episode |
//! | [`MinariWriter`] | a new Minari dataset |
//! | [`LayoutWriter`], [`convert`] | any of them, and from one to another |
//! | [`Dataset`] | demonstrations in memory: flat arrays, sequences, statistics |
//! | [`ImageStore`] | their pictures, in memory or in their files |
//! | [`Split`] | training and validation sequences |
//! | [`WindowSampler`] | random sub-sequences as batches, with pictures that are stored or drawn ([`Paint`]) |
//! | [`Inspection`] | what a user should know about demonstrations before training on them |
//!
//! D4RL's layout (<https://github.com/Farama-Foundation/D4RL>): flat arrays `observations` `[N, S]`, `actions` `[N, A]`,
//! `rewards`, `terminals` and `timeouts` `[N]` over all episodes, side arrays `infos/*` with `N` rows, and pictures
//! `images` `[N, H, W, 3]`.
//!
//! SPiRL's roll-outs: one file per trajectory at any depth of a folder, with `traj_per_file` and `traj0/states`
//! `[T, S]`, `actions` `[T, A]`, `pad_mask` `[T]`, `images` `[T, H, W, 3]`.
//!
//! Minari's datasets: a folder with `data/main_data.hdf5`, in it `episode_<n>/observations` `[T + 1, S]`, `actions`
//! `[T, A]`, `rewards`, `terminations` and `truncations` `[T]`, `infos/*`; beside it `metadata.json`.

mod attributes;
mod dataset;
mod episode;
mod error;
mod file;
mod heaps;
mod images;
mod inspect;
mod layout;
mod minari;
mod minari_metadata;
mod new_folder;
mod paint;
mod read;
mod report;
mod rollouts;
mod target;
mod template;
mod windows;
mod write;
mod write_minari;
mod write_rollouts;

#[cfg(test)]
mod tests;

pub use dataset::{CutRule, Dataset, Partition, Split, SplitOrder, Statistics};
pub use episode::{Column, Episode, Values};
pub use error::{DataError, NonFinite};
pub use images::{ImageStore, Images};
pub use inspect::{Element, ElementReport, InspectOptions, Inspection, PictureReport, Summary, kitchen_elements};
pub use layout::{Layout, LayoutWriter, convert};
pub use paint::{PAINTED_FROM, Paint};
pub use read::{Limits, ReadOptions};
pub use windows::{Starts, Weighting, Window, WindowBatch, WindowConfig, WindowSampler, spirl_epoch};
pub use write::{Description, EpisodeWriter, Written};
pub use write_minari::MinariWriter;
pub use write_rollouts::RolloutWriter;
