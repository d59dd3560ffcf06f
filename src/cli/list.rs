//! `apprentice list`: the scenes and experiments there are.

use std::process::ExitCode;

use super::{Failure, print};
use crate::files::{self, FileKind};

/// List the scenes and experiments there are.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments) -> Result<ExitCode, Failure> {
    let roots = files::roots();
    for (title, kind) in [("Scenes", FileKind::Scene), ("Experiments", FileKind::Experiment)] {
        print(format_args!("{title}"))?;
        for (name, path) in files::list(kind, &roots) {
            print(format_args!("  {name:<32} {}", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
