//! `apprentice train`: practice.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Begun, Failure, TrainingArguments, ended, skills_for};
use crate::app::Ended;
use crate::run::{self, Settings, TrainPlan};

/// Practise: agents act, learners learn, for every seed of the experiment side by side.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    run: TrainingArguments,
    /// Folder of the skill model or of a run that has one [default: the newest one below runs/ that fits].
    #[arg(long, value_name = "FOLDER")]
    skills: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let run = Begun::new(&arguments.run)?;
    let result = run.undo_if_unused(practise(&run, arguments, settings))?;
    ended(result, "train", &arguments.run, &run.folder)
}

fn practise(run: &Begun, arguments: &Arguments, settings: &Settings) -> Result<Ended, Failure> {
    let TrainingArguments { experiment, resume, .. } = &arguments.run;
    run::check(&run.experiment)?;
    let own = if *resume { run.folder.skills_used()? } else { None };
    let skills = skills_for(&run.experiment, arguments.skills.clone().or(own), experiment)?;
    let plan = TrainPlan {
        skills,
        folder: &run.folder,
        resume: *resume,
    };
    Ok(run::train(&run.experiment, &plan, settings)?)
}
