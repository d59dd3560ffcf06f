//! `apprentice train`: practice.

use std::path::PathBuf;
use std::process::ExitCode;

use super::watch::Speed;
use super::{Begun, Failure, TrainingArguments, ended, print, skills_for};
use crate::app::Ended;
use crate::run::{self, Settings, TrainPlan};

/// Practise: agents act, learners learn, for every seed of the experiment side by side.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) run: TrainingArguments,
    /// Folder of the skill model or of a run that has one [default: the newest one below runs/ that fits].
    #[arg(long, value_name = "FOLDER")]
    pub(super) skills: Option<PathBuf>,
    /// Show it in a window, as `apprentice watch` does; closing the window interrupts practice.
    #[arg(long)]
    pub(super) window: bool,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    run_at(arguments, Speed::Fast, settings)
}

/// Practises; if it is shown in a window, at this speed to begin with.
pub(super) fn run_at(arguments: &Arguments, speed: Speed, settings: &Settings) -> Result<ExitCode, Failure> {
    if arguments.window {
        // Before a folder is made.
        run::check_window()?;
    }
    let run = Begun::new(&arguments.run)?;
    let result = run.undo_if_unused(practise(&run, arguments, speed, settings))?;
    ended(result, "train", &arguments.run, &run.folder)
}

fn practise(run: &Begun, arguments: &Arguments, speed: Speed, settings: &Settings) -> Result<Ended, Failure> {
    let TrainingArguments { experiment, resume, .. } = &arguments.run;
    let scene = run::check(&run.experiment)?;
    let own = if *resume { run.folder.skills_used()? } else { None };
    let skills = skills_for(&run.experiment, arguments.skills.clone().or(own), experiment)?;
    let plan = |watch| TrainPlan {
        skills: skills.clone(),
        folder: &run.folder,
        resume: *resume,
        watch,
    };
    if !arguments.window {
        return Ok(run::train(&run.experiment, &plan(None), settings)?);
    }
    print(format_args!("practising in {}", run.folder.root().display()))?;
    let subject = run::subject_of_run(&run.experiment, &run.folder, skills.as_deref(), &scene, true);
    let session = run::in_window(subject, speed.pace(scene.period()), settings, |link| {
        run::train(&run.experiment, &plan(Some(link)), settings)
    })?;
    Ok(session.world)
}
