//! `apprentice evaluate`: episodes of a trained agent.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, print, table};
use crate::run::{self, EvaluationPlan, RunFolder, Settings};

/// Evaluate the newest checkpoints of a run: completed elements per episode, with interval, per element.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Folder of the run.
    run: PathBuf,
    /// Overrides such as `scene=kitchen_mis_aligned`; results with overrides go to a file of their own.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Episodes of each seed [default: the experiment's `evaluation.final_episodes`].
    #[arg(long, value_name = "N")]
    episodes: Option<usize>,
    /// Leave out the evaluation with most likely skills.
    #[arg(long)]
    sampled_only: bool,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let folder = RunFolder::open(&arguments.run)?;
    let experiment = folder.experiment(&arguments.overrides)?;
    let plan = EvaluationPlan {
        skills: folder.skills_used()?,
        episodes: arguments.episodes.unwrap_or(experiment.evaluation.final_episodes),
        most_likely: !arguments.sampled_only,
        overrides: arguments.overrides.clone(),
    };
    let results = run::evaluate_run(&experiment, &folder, &plan, settings)?;
    // First, so that a full disk does not take the results.
    print(format_args!("{}", table::evaluation(&results)))?;
    let name = if plan.overrides.is_empty() {
        "evaluation.json"
    } else {
        "evaluation_with_overrides.json"
    };
    let file = folder.write(name, &serde_json::to_string_pretty(&results)?)?;
    print(format_args!("written to {}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}
