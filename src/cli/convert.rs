//! `apprentice convert`: demonstrations from one layout into another.

use std::path::PathBuf;
use std::process::ExitCode;

use super::collect::{may_write, summary};
use super::{Failure, print};
use crate::data::{self, Dataset, Layout, ReadOptions};
use crate::metrics::Progress;
use crate::run::{RunError, Settings};

/// Write demonstrations in another layout, with their pictures, side arrays and description.
///
/// A demonstration whose end is not marked is marked as cut off. The observation after the last step is kept from one
/// Minari dataset to another; the other layouts have no place for it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  apprentice convert data/kitchen.hdf5 data/kitchen-v0 --layout minari
  apprentice convert ~/.minari/datasets/D4RL/kitchen/mixed-v2 data/mixed.hdf5 --layout d4rl
  apprentice convert kitchen_mixed.hdf5 data/mixed --layout rollouts")]
pub(super) struct Arguments {
    /// HDF5 file in D4RL's layout, a roll-out file or folder of roll-out files as SPiRL has them, or a Minari dataset.
    from: PathBuf,
    /// File or folder to write.
    to: PathBuf,
    /// One file with all steps one after another, a folder with a file for each demonstration, or a Minari dataset,
    /// whose name ends in a version.
    #[arg(long, value_name = "LAYOUT")]
    layout: Layout,
    /// Replace the file or folder if it is there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let Arguments {
        from,
        to,
        layout,
        force,
    } = arguments;
    may_write(to, *layout, *force)?;
    let options = ReadOptions {
        every_info: true,
        ..ReadOptions::default()
    };
    let dataset = Dataset::read_with(from, &options)?;
    for note in dataset.notes() {
        bevy::log::warn!("{}: {note}", from.display());
    }
    let mut bars = Progress::default();
    let bar = bars.add("demonstrations", 0, dataset.sequences().len() as u64, "episodes");
    let written = data::convert(&dataset, to, *layout, |episodes| {
        bars.update(bar, episodes as u64, &[]);
        !settings.stop.is_made()
    })?;
    bars.finish();
    match written {
        Some(written) => print(format_args!("{}", summary(&written)))?,
        None => return Err(RunError::Interrupted.into()),
    }
    Ok(ExitCode::SUCCESS)
}
