//! `apprentice inspect`: what is inside demonstrations.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, print};
use crate::data::{InspectOptions, Inspection};

/// Show what is inside demonstrations: episodes, lengths, returns, elements, pictures, ranges, anything odd.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// HDF5 file in D4RL layout, a roll-out file or folder of roll-out files as SPiRL has them, or a Minari dataset.
    #[arg(value_name = "FILE|FOLDER")]
    path: PathBuf,
    /// Actions per skill; shorter episodes are reported.
    #[arg(long, value_name = "TICKS", default_value_t = 10)]
    skill_length: usize,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let options = InspectOptions {
        skill_length: arguments.skill_length,
        ..InspectOptions::default()
    };
    print(format_args!("{}", Inspection::of(&arguments.path, &options)?))?;
    Ok(ExitCode::SUCCESS)
}
