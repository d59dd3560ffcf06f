//! `apprentice train`: practice.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::sweep::{self, SweepRuns, Task};
use super::watch::Speed;
use super::{Begun, Failure, TrainingArguments, ended, print, skills_for};
use crate::app::Ended;
use crate::run::{self, RunFolder, Settings, TrainPlan};

/// Practise: agents act, learners learn, for every seed of the experiment side by side.
///
/// An override may list values, `learner.discount=0.97,0.99` or `learner.batch=64..=66`: then every combination is a
/// variant with a run of its own, in a folder within the folder of the sweep. Variants with the same scene,
/// demonstrations and skill model practise side by side in one world.
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
    #[command(flatten)]
    pub(super) sweep: SweepArguments,
}

// What commands with sweeps have in common. A doc comment would become the description of those commands.
#[derive(clap::Args, Debug, Default)]
pub(super) struct SweepArguments {
    /// Variants of a sweep that practise side by side at most [default: all that can].
    #[arg(long, value_name = "N")]
    pub(super) at_once: Option<std::num::NonZero<usize>>,
    /// Say what would be trained, and stop.
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl SweepArguments {
    /// Most variants in one world.
    pub(super) fn most(&self) -> usize {
        self.at_once.map_or(usize::MAX, usize::from)
    }
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
    let TrainingArguments {
        experiment: name,
        overrides,
        out,
        ..
    } = &arguments.run;
    let root = || out.clone().unwrap_or_else(|| RunFolder::next_free(name));
    let dry_run = arguments.sweep.dry_run;
    match Task::of(&arguments.run)? {
        Task::One(one) if dry_run => sweep::plan_one(&root(), name, &one.overrides, false),
        Task::One(one) => {
            let run = Begun::new(&one)?;
            let result = run.undo_if_unused(practise(&run, arguments, speed, settings))?;
            ended(result, "train", &arguments.run, &run.folder)
        }
        _ if arguments.window => Err(
            "a sweep has no window: practise one of its variants in one, or `apprentice watch` its \
                                      run afterwards"
                .into(),
        ),
        Task::Several(variants) if dry_run => sweep::plan(&root(), name, &variants, false),
        Task::Several(variants) => {
            let runs = SweepRuns::begin(&root(), name, overrides, &variants, false)?;
            practise_all(&runs, arguments, settings)
        }
        Task::GoesOn(root, index) if dry_run => sweep::plan_to_go_on(&root, &index),
        Task::GoesOn(root, index) => {
            let runs = SweepRuns::go_on(&root, &index, name, overrides)?;
            practise_all(&runs, arguments, settings)
        }
    }
}

fn practise(run: &Begun, arguments: &Arguments, speed: Speed, settings: &Settings) -> Result<Ended, Failure> {
    let TrainingArguments { experiment, resume, .. } = &arguments.run;
    let scene = run::check(&run.experiment)?;
    let own = if *resume { run.folder.skills_used()? } else { None };
    if own.as_ref().is_some_and(|own| *own == run.folder.skills()) && arguments.skills.is_none() {
        run::expect_trained(&run.experiment, &run.folder)?;
    }
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

/// Practises with all variants of a sweep, world by world.
fn practise_all(runs: &SweepRuns, arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let TrainingArguments { experiment, resume, .. } = &arguments.run;
    let mut failures = Vec::new();
    let mut result = Ended::Finished;
    for world in runs.worlds(arguments.sweep.most()) {
        let skills = runs.undo_if_unused(skills_of(runs, &world, arguments.skills.as_deref(), experiment))?;
        let (ended, failed) = runs.undo_if_unused(runs.practise(&world, &skills, *resume, settings))?;
        failures.extend(failed);
        result = ended;
        if ended == Ended::Stopped {
            break;
        }
    }
    let again = format!("`apprentice train {experiment} --resume --out {}`", runs.root.display());
    runs.undo_if_unused(runs.ended(result, &again, &failures))
}

/// The skill models of the runs of one world: the one asked for, a run's own, or the newest one that fits.
fn skills_of(
    runs: &SweepRuns,
    world: &[usize],
    asked: Option<&Path>,
    name: &str,
) -> Result<Vec<Option<PathBuf>>, Failure> {
    let mut shared = None;
    let mut found = Vec::new();
    for run in world.iter().filter_map(|&number| runs.runs.get(number)) {
        let own = match asked {
            Some(asked) => Some(asked.to_path_buf()),
            None => run.folder.skills_used()?,
        };
        found.push(match (own, &shared) {
            // They have the same settings, so what fits one of them fits all.
            (None, Some(shared)) => Option::clone(shared),
            (own, _) => shared.insert(skills_for(&run.experiment, own, name)?).clone(),
        });
    }
    Ok(found)
}
