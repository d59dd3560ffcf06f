//! `apprentice pretrain`: a skill model from demonstrations.

use std::process::ExitCode;

use super::{Begun, Failure, TrainingArguments, ended, print, table};
use crate::app::Ended;
use crate::experiment::SkillModelConfig;
use crate::run::{self, Settings};

/// Train the skill model of an experiment from its demonstrations.
///
/// Demonstrations that are not there are collected first, if the experiment says how.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    run: TrainingArguments,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let run = Begun::new(&arguments.run)?;
    let result = run.undo_if_unused(pretrain(&run, settings))?;
    ended(result, "pretrain", &arguments.run, &run.folder)
}

fn pretrain(run: &Begun, settings: &Settings) -> Result<Ended, Failure> {
    run::check(&run.experiment)?;
    if run.experiment.skill_model == SkillModelConfig::None {
        return Err(
            "this experiment has no skill model to train (skill_model: None); `apprentice train` practises".into(),
        );
    }
    let (dataset, collected) = run::ensure_dataset(&run.experiment, settings)?;
    if let Some(report) = collected {
        print(format_args!("{}", table::collection(&report)))?;
    }
    Ok(run::pretrain(&run.experiment, &dataset, &run.folder, settings)?)
}
