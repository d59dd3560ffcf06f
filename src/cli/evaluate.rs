//! `apprentice evaluate`: episodes of a trained agent.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Context, Failure, print, table};
use crate::experiment::Experiment;
use crate::run::{self, EvaluationPlan, RunFolder};

/// Evaluate the newest checkpoints of a run: completed elements per episode, with interval, per element.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Folder of the run.
    run: PathBuf,
    /// Overrides such as `scene=kitchen_mis_aligned`.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Episodes of each seed [default: the experiment's `evaluation.final_episodes`].
    #[arg(long, value_name = "N")]
    episodes: Option<usize>,
    /// Leave out the evaluation with most likely skills.
    #[arg(long)]
    sampled_only: bool,
}

pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let folder = RunFolder::open(&arguments.run)?;
    let loaded = Experiment::load(&folder.experiment_file().display().to_string(), &arguments.overrides)?;
    let plan = EvaluationPlan {
        skills: folder.skills_used()?,
        episodes: arguments.episodes.unwrap_or(loaded.value.evaluation.final_episodes),
        most_likely: !arguments.sampled_only,
    };
    let results = run::evaluate_run(&loaded.value, &folder, &plan, &context.settings())?;
    folder.write("evaluation.json", &serde_json::to_string_pretty(&results)?)?;
    let file = folder.root().join("evaluation.json");
    print(format_args!(
        "{}\nwritten to {}",
        table::evaluation(&results),
        file.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
