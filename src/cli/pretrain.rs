//! `apprentice pretrain`: a skill model from demonstrations.

use std::process::ExitCode;

use super::sweep::{self, SweepRuns, Task};
use super::{Begun, Failure, TrainingArguments, ended, print, table};
use crate::app::Ended;
use crate::experiment::{Experiment, SkillModelConfig};
use crate::run::{self, RunFolder, Settings, Variant};

/// Train the skill model of an experiment from its demonstrations.
///
/// Demonstrations that are not there are collected first, if the experiment says how. An override may list values, as
/// for `apprentice train`: then every variant's model is trained in a folder of its own, one after another.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    run: TrainingArguments,
    /// Say what would be trained, and stop.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let TrainingArguments {
        experiment: name,
        overrides,
        out,
        ..
    } = &arguments.run;
    let root = || out.clone().unwrap_or_else(|| RunFolder::next_free(name));
    match Task::of(&arguments.run)? {
        Task::One(one) if arguments.dry_run => sweep::plan_one(&root(), name, &one.overrides, true),
        Task::One(one) => {
            let run = Begun::new(&one)?;
            let result = run.undo_if_unused(pretrain(&one.overrides, &run.experiment, &run.folder, settings))?;
            ended(result, "pretrain", &arguments.run, &run.folder)
        }
        Task::Several(variants) => {
            expect_other_models(&variants)?;
            if arguments.dry_run {
                return sweep::plan(&root(), name, &variants, true);
            }
            let runs = SweepRuns::begin(&root(), name, overrides, &variants, false)?;
            pretrain_all(&runs, name, settings)
        }
        Task::GoesOn(root, index) if arguments.dry_run => sweep::plan_to_go_on(&root, &index),
        Task::GoesOn(root, index) => {
            let runs = SweepRuns::go_on(&root, &index, name, overrides)?;
            pretrain_all(&runs, name, settings)
        }
    }
}

/// Refuses variants that differ in nothing that matters here.
fn expect_other_models(variants: &[Variant]) -> Result<(), Failure> {
    for (number, variant) in variants.iter().enumerate() {
        let same = |other: &&Variant| run::share_skills(&other.experiment, &variant.experiment);
        if let Some(other) = variants.iter().take(number).find(same) {
            return Err(format!(
                "the variants `{}` and `{}` train the same skill model; list values of `skill_model`, `pretraining`, \
                 `dataset` or `scene` only, the others are for `apprentice train`",
                other.name, variant.name
            )
            .into());
        }
    }
    Ok(())
}

/// One after another: all of them are busy with all threads.
fn pretrain_all(runs: &SweepRuns, name: &str, settings: &Settings) -> Result<ExitCode, Failure> {
    let mut result = Ended::Finished;
    for run in &runs.runs {
        print(format_args!("{}", run.name))?;
        result = runs.undo_if_unused(pretrain(&run.overrides, &run.experiment, &run.folder, settings))?;
        if result == Ended::Stopped {
            break;
        }
    }
    let again = format!("`apprentice pretrain {name} --resume --out {}`", runs.root.display());
    runs.ended(result, &again, &[])
}

fn pretrain(
    overrides: &[String],
    experiment: &Experiment,
    folder: &RunFolder,
    settings: &Settings,
) -> Result<Ended, Failure> {
    run::check(experiment)?;
    if experiment.skill_model == SkillModelConfig::None {
        return Err(
            "this experiment has no skill model to train (skill_model: None); `apprentice train` practises".into(),
        );
    }
    if let Some(note) = run::collection_note(experiment, overrides) {
        print(format_args!("{note}"))?;
    }
    let (dataset, collected) = run::ensure_dataset(experiment, settings)?;
    if let Some(report) = collected {
        print(format_args!("{}", table::collection(&report)))?;
    }
    Ok(run::pretrain(experiment, &dataset, folder, settings)?)
}
