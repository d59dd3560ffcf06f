//! `apprentice train`: practice.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Begun, Context, Failure, ended, skills_for};
use crate::app::Ended;
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
    #[arg(long, value_name = "FOLDER")]
    skills: Option<PathBuf>,
    /// Folder of the run [default: runs/EXPERIMENT, or `runs/EXPERIMENT_2` and so on if that is taken].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on with the run in the folder from its last checkpoints, with its own settings and the overrides given now.
    #[arg(long)]
    resume: bool,
}

pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let run = Begun::new(
        &arguments.experiment,
        &arguments.overrides,
        arguments.out.as_deref(),
        arguments.resume,
    )?;
    let result = run.undo_if_unused(practise(&run, arguments, context))?;
    ended(result, "train", &arguments.experiment, run.folder.root())
}

fn practise(run: &Begun, arguments: &Arguments, context: &Context) -> Result<Ended, Failure> {
    run::check(&run.experiment)?;
    let own = if arguments.resume {
        run.folder.skills_used()?
    } else {
        None
    };
    let skills = skills_for(&run.experiment, arguments.skills.clone().or(own), &arguments.experiment)?;
    let plan = TrainPlan {
        skills,
        folder: &run.folder,
        resume: arguments.resume,
    };
    Ok(run::train(&run.experiment, &plan, &context.settings())?)
}
