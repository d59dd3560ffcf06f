//! `apprentice train`: practice.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Context, Failure, finished, open_or_create, skills_for};
use crate::experiment::Experiment;
use crate::run::{self, TrainPlan};

/// Practise: agents act, learners learn, for every seed of the experiment side by side.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Experiment: a name in configs/ or a path.
    experiment: String,
    /// Overrides such as `environments=8` or `seeds=[0,1,2]`.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Folder of the skill model or of a run that has one [default: the newest one below runs/ that fits].
    #[arg(long)]
    skills: Option<PathBuf>,
    /// Folder of the run [default: runs/EXPERIMENT].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on with the run in the folder from its last checkpoints.
    #[arg(long)]
    resume: bool,
}

pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let loaded = Experiment::load(&arguments.experiment, &arguments.overrides)?;
    let skills = skills_for(&loaded.value, arguments.skills.clone(), &arguments.experiment)?;
    let folder = open_or_create(
        &arguments.experiment,
        arguments.out.as_deref(),
        arguments.resume,
        &loaded,
    )?;
    let plan = TrainPlan {
        skills,
        folder: &folder,
        resume: arguments.resume,
    };
    let ended = run::train(&loaded.value, &plan, &context.settings())?;
    println!("run in {}", folder.root().display());
    Ok(finished(ended))
}
