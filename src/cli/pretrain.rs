//! `apprentice pretrain`: a skill model from demonstrations.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Begun, Context, Failure, ended, print, table};
use crate::app::Ended;
use crate::experiment::SkillModelConfig;
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
    /// Folder of the run [default: runs/EXPERIMENT, or `runs/EXPERIMENT_2` and so on if that is taken].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on with the run in the folder, with its own settings and the overrides given now.
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
    let result = run.undo_if_unused(pretrain(&run, context))?;
    ended(result, "pretrain", &arguments.experiment, run.folder.root())
}

fn pretrain(run: &Begun, context: &Context) -> Result<Ended, Failure> {
    let settings = context.settings();
    run::check(&run.experiment)?;
    if run.experiment.skill_model == SkillModelConfig::None {
        return Err(
            "this experiment has no skill model to train (skill_model: None); `apprentice train` practises".into(),
        );
    }
    let (dataset, collected) = run::ensure_dataset(&run.experiment, &settings)?;
    if let Some(report) = collected {
        print(format_args!("{}", table::collection(&report)))?;
    }
    Ok(run::pretrain(&run.experiment, &dataset, &run.folder, &settings)?)
}
