//! `apprentice evaluate`: episodes of a trained agent.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Failure, print, table};
use crate::experiment::Experiment;
use crate::practice::Choice;
use crate::run::{self, Evaluated, EvaluationPlan, RunFolder, Settings};
#[cfg(feature = "window")]
use crate::run::{FilmError, Filming, RunError};

/// Evaluate the newest checkpoints of a run: completed elements per episode, with interval, per element.
#[derive(clap::Args, Debug)]
#[command(override_usage = "apprentice evaluate <RUN> [PATH=VALUE]... [OPTIONS]")]
pub(super) struct Arguments {
    /// Folder of the run, or of a sweep: then every variant is evaluated.
    run: PathBuf,
    /// Overrides such as `scene=kitchen_mis_aligned`; results with overrides go to a file of their own.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Episodes of each seed [default: the experiment's `evaluation.final_episodes`].
    #[arg(long, value_name = "N")]
    episodes: Option<usize>,
    /// Which checkpoint of each seed acts: `latest`, `best` (as it was after its best evaluation on the way), or the step of
    /// one that is still there.
    #[arg(long, value_name = "latest|best|STEP", default_value = "latest")]
    checkpoint: Choice,
    /// Leave out the evaluation with most likely skills.
    #[arg(long)]
    sampled_only: bool,
    /// Make a video of the first sampled episodes of the first seed, at their real speed [default file: evaluation.mp4 in
    /// the folder of the run].
    #[arg(long, value_name = "FILE.mp4", num_args = 0..=1)]
    video: Option<Option<PathBuf>>,
    /// Episodes in the video [default: 4, or all if there are fewer; 1 where the processor draws].
    #[arg(long, value_name = "N", requires = "video")]
    video_episodes: Option<usize>,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    if let Some((folder, step)) = of_checkpoint(&arguments.run) {
        let (path, run) = (arguments.run.display(), folder.root().display());
        return Err(format!(
            "{path}: a checkpoint of a learner; `apprentice evaluate {run} --checkpoint {step}` lets it act"
        )
        .into());
    }
    let runs = run::runs_of(&arguments.run)?;
    for (variant, root) in &runs {
        if let Some(variant) = variant {
            if arguments.video.is_some() {
                let root = root.display();
                return Err(format!("--video: name one run of the sweep, such as {root}").into());
            }
            print(format_args!("{variant}"))?;
        }
        evaluate(arguments, root, settings)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The run of a checkpoint and its step, if the path leads to one.
fn of_checkpoint(path: &Path) -> Option<(RunFolder, u64)> {
    let (run, _) = RunFolder::of_checkpoint(path)?;
    let digits = path.file_name()?.to_str()?.strip_prefix("step_")?;
    let end = digits
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(digits.len());
    Some((run, digits.get(..end)?.parse().ok()?))
}

fn evaluate(arguments: &Arguments, root: &Path, settings: &Settings) -> Result<(), Failure> {
    let folder = RunFolder::open(root)?;
    let experiment = folder.experiment(&arguments.overrides)?;
    folder.warn_of_changed_scene(&experiment);
    let plan = EvaluationPlan {
        skills: folder.skills_used()?,
        episodes: arguments.episodes.unwrap_or(experiment.evaluation.final_episodes),
        most_likely: !arguments.sampled_only,
        overrides: arguments.overrides.clone(),
        watch: None,
    };
    match &arguments.video {
        None => write_results(
            &folder,
            arguments.checkpoint,
            &plan.overrides,
            &run::evaluate_chosen(&experiment, &folder, arguments.checkpoint, &plan, settings)?,
        )?,
        Some(file) => film(arguments, file.as_deref(), &experiment, &folder, plan, settings)?,
    }
    Ok(())
}

fn write_results(
    folder: &RunFolder,
    choice: Choice,
    overrides: &[String],
    results: &[Evaluated],
) -> Result<(), Failure> {
    // First, so that a full disk does not take the results.
    print(format_args!("{}", table::evaluation(results)))?;
    let overridden = if overrides.is_empty() { "" } else { "_with_overrides" };
    let name = format!("evaluation{}{overridden}.json", choice.suffix());
    let episodes = |results: &[Evaluated]| results.iter().map(|result| result.sampled.episodes).min();
    let before = folder.read(&name).ok();
    let before = before.and_then(|text| episodes(&serde_json::from_str::<Vec<Evaluated>>(&text).ok()?));
    let file = folder.write(&name, &serde_json::to_string_pretty(results)?)?;
    let replaced = match before {
        Some(before) if Some(before) > episodes(results) => {
            format!(", in the place of an evaluation of {before} episodes")
        }
        _ => String::new(),
    };
    print(format_args!("written to {}{replaced}", file.display()))
}

/// Evaluates, then films some of the episodes.
#[cfg(feature = "window")]
fn film(
    arguments: &Arguments,
    file: Option<&Path>,
    experiment: &Experiment,
    folder: &RunFolder,
    plan: EvaluationPlan,
    settings: &Settings,
) -> Result<(), Failure> {
    let overrides = plan.overrides.clone();
    let own = run::default_video(folder.root(), !overrides.is_empty());
    let file = file.unwrap_or(&own);
    let filming = Filming::prepare(experiment, file, arguments.video_episodes, plan.episodes, settings)?;
    let episodes = filming.episodes();
    let (results, recording) = filming.record(|link| {
        // Of its own, so that the link goes with it.
        let plan = EvaluationPlan {
            watch: Some(link),
            ..plan
        };
        run::evaluate_chosen(experiment, folder, arguments.checkpoint, &plan, settings)
    });
    write_results(folder, arguments.checkpoint, &overrides, &results?)?;
    let video = filming.film(&recording, settings).map_err(|error| match error {
        // So that it is taken for one.
        FilmError::Run(RunError::Interrupted) => Failure::from(RunError::Interrupted),
        error => error.into(),
    })?;
    print(format_args!("video of {episodes} episodes in {}", video.path.display()))
}

#[cfg(not(feature = "window"))]
fn film(
    _arguments: &Arguments,
    _file: Option<&Path>,
    _experiment: &Experiment,
    _folder: &RunFolder,
    _plan: EvaluationPlan,
    _settings: &Settings,
) -> Result<(), Failure> {
    Err(
        "--video: this build has no renderer; build it with the feature `window` (without --no-default-features)"
            .into(),
    )
}
