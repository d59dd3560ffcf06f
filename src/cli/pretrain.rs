//! `apprentice pretrain`: a skill model from demonstrations.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Context, Failure, finished, open_or_create};
use crate::experiment::Experiment;
use crate::run;

/// Train the skill model of an experiment from its demonstrations.
///
/// Demonstrations that are not there are collected first, if the experiment says how.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Experiment: a name in configs/ or a path.
    experiment: String,
    /// Overrides such as `pretraining.updates=20000`.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Folder of the run [default: runs/EXPERIMENT].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on with the run in the folder.
    #[arg(long)]
    resume: bool,
}

pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let loaded = Experiment::load(&arguments.experiment, &arguments.overrides)?;
    let settings = context.settings();
    let dataset = run::ensure_dataset(&loaded.value, &settings)?;
    let folder = open_or_create(
        &arguments.experiment,
        arguments.out.as_deref(),
        arguments.resume,
        &loaded,
    )?;
    let ended = run::pretrain(&loaded.value, &dataset, &folder, &settings)?;
    println!("skill model in {}", folder.skills().display());
    Ok(finished(ended))
}
