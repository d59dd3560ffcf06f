//! `apprentice collect`: scripted demonstrations.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, finished, print, table};
use crate::demos::CollectConfig;
use crate::run::{self, Settings, Unfinished};

/// Collect scripted demonstrations into an HDF5 file (D4RL layout).
///
/// Interrupted, it writes what it has, unless it was to replace a file: that one stays.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Scene to demonstrate in: a name in scenes/ or a path. The demonstrator knows the kitchen.
    scene: String,
    /// Successful demonstrations to gather.
    #[arg(long, value_name = "N", default_value_t = 600)]
    episodes: usize,
    /// File to write.
    #[arg(long, value_name = "FILE", default_value = "data/kitchen.hdf5")]
    out: PathBuf,
    /// Master seed: the same seed gives the same file.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    if arguments.out.exists() && !arguments.force {
        return Err(format!("{}: is there already; --force replaces it", arguments.out.display()).into());
    }
    let config = CollectConfig {
        episodes: arguments.episodes,
        seed: arguments.seed,
        ..CollectConfig::default()
    };
    let (report, written, ended) = run::collect(&config, &arguments.scene, &arguments.out, Unfinished::Keep, settings)?;
    print(format_args!(
        "{}\n{}: {} demonstrations, {} steps, {:.1} MB",
        table::collection(&report),
        written.path.display(),
        written.episodes,
        written.steps,
        written.bytes as f64 / 1e6
    ))?;
    Ok(finished(ended))
}
