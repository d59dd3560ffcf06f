//! `apprentice learn`: the whole chain.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{Failure, finished, print, table};
use crate::app::Ended;
use crate::evaluate::EvaluationSummary;
use crate::experiment::{Experiment, SkillModelConfig};
use crate::run::{self, Evaluated, EvaluationPlan, RunFolder, RunFolderError, Settings, TrainPlan};

/// The whole chain: demonstrations, skill model, practice, evaluation, table and plot.
///
/// Interrupted, it goes on when the same command is given again; demonstrations and evaluations start over.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Experiment: a name in configs/ or a path.
    #[arg(default_value = "kitchen/spirl_cl")]
    experiment: String,
    /// Overrides such as `seeds=[0,1,2]`.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// The short form of the experiment, to see that everything works: three minutes for `kitchen/spirl_cl`.
    #[arg(long)]
    quick: bool,
    /// Folder of the run [default: runs/EXPERIMENT, with _quick for the short form].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let mut loaded = Experiment::load(&arguments.experiment, &[])?;
    let mut overrides = if arguments.quick {
        loaded.value.quick.clone()
    } else {
        Vec::new()
    };
    if arguments.quick && overrides.is_empty() {
        return Err(format!(
            "--quick: experiment `{}` has no short form (a list `quick` of overrides)",
            arguments.experiment
        )
        .into());
    }
    overrides.extend(arguments.overrides.iter().cloned());
    loaded = Experiment::load(&arguments.experiment, &overrides)?;
    let experiment = &loaded.value;
    run::check(experiment)?;
    let name = run::default_name(&arguments.experiment) + if arguments.quick { "_quick" } else { "" };
    let root = arguments
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(name));
    let folder = match RunFolder::resume(&root) {
        Ok(folder) => {
            expect_same(&folder, experiment)?;
            folder
        }
        Err(RunFolderError::NotARun { .. }) => RunFolder::create(&root, &arguments.experiment, &loaded.resolved_text)?,
        Err(error) => return Err(error.into()),
    };
    let result = chain(arguments, experiment, &folder, settings);
    if result.is_err() {
        folder.remove_if_unused();
    }
    let ended = result?;
    if ended == Ended::Stopped {
        print(format_args!(
            "interrupted; the same command goes on ({})",
            root.display()
        ))?;
    }
    Ok(finished(ended))
}

/// Refuses a run of another experiment, and names what differs. Settings count, not how a file writes them down, nor
/// what it says about itself.
fn expect_same(folder: &RunFolder, experiment: &Experiment) -> Result<(), Failure> {
    const SHOWN: usize = 3;
    let settings = |experiment: &Experiment| Experiment {
        description: String::new(),
        quick: Vec::new(),
        ..experiment.clone()
    };
    let (before, now) = (settings(&folder.experiment(&[])?), settings(experiment));
    if before == now {
        return Ok(());
    }
    let mut differences = run::differences("", &before, &now, &[]);
    if differences.len() > SHOWN {
        let more = differences.len() - SHOWN;
        differences.truncate(SHOWN);
        differences.push(format!("and {more} more"));
    }
    Err(format!(
        "{}: holds a run of another experiment or with other overrides ({}); choose another folder (--out)",
        folder.root().display(),
        differences.join("; ")
    )
    .into())
}

fn chain(
    arguments: &Arguments,
    experiment: &Experiment,
    folder: &RunFolder,
    settings: &Settings,
) -> Result<Ended, Failure> {
    let start = Instant::now();
    let mut stages = Vec::new();
    let mut stage = |name: &'static str, from: Instant| stages.push((name, from.elapsed()));
    let episodes = experiment.evaluation.final_episodes;

    let mut skills = None;
    if experiment.skill_model != SkillModelConfig::None {
        if run::needs_demonstrations(experiment, folder)? {
            let from = Instant::now();
            let (dataset, collected) = run::ensure_dataset(experiment, settings)?;
            if let Some(report) = collected {
                print(format_args!("{}", table::collection(&report)))?;
            }
            stage("demonstrations", from);
            let from = Instant::now();
            if run::pretrain(experiment, &dataset, folder, settings)? == Ended::Stopped {
                return Ok(Ended::Stopped);
            }
            stage("skill model", from);
        }
        skills = Some(folder.skills());
        let from = Instant::now();
        let prior = match results::<Evaluated>(folder, "prior.json") {
            Some(prior) => Some(prior),
            None => {
                let plan = EvaluationPlan {
                    skills: skills.clone(),
                    episodes,
                    most_likely: true,
                    overrides: Vec::new(),
                    watch: None,
                };
                let prior = run::evaluate_prior(experiment, &plan, settings)?;
                if let Some(prior) = &prior {
                    folder.write("prior.json", &serde_json::to_string_pretty(prior)?)?;
                }
                prior
            }
        };
        if let Some(prior) = prior {
            print(format_args!("{}", table::rollout(&prior)))?;
            stage("prior roll-outs", from);
        } else {
            bevy::log::warn!("the prior of this model is not Gaussian; there are no prior roll-outs");
        }
    }
    let from = Instant::now();
    let plan = TrainPlan {
        skills: skills.clone(),
        folder,
        resume: true,
        watch: None,
    };
    if run::train(experiment, &plan, settings)? == Ended::Stopped {
        return Ok(Ended::Stopped);
    }
    stage("practice", from);
    let from = Instant::now();
    // `apprentice evaluate` may have left results of another scene or with other budgets.
    let is_current = |results: &Vec<Evaluated>| {
        let of_run = |result: &Evaluated, seed: u64| {
            let EvaluationSummary { episodes: made, .. } = result.sampled;
            let complete = made == episodes && result.most_likely.is_some();
            complete
                && result.overrides.is_empty()
                && result.seed == seed
                && result.scene == experiment.scene
                && result.practised >= experiment.training.steps
        };
        results.len() == experiment.seeds.len()
            && results
                .iter()
                .zip(&experiment.seeds)
                .all(|(result, &seed)| of_run(result, seed))
    };
    let results = match results::<Vec<Evaluated>>(folder, "evaluation.json").filter(is_current) {
        Some(results) => results,
        None => {
            let plan = EvaluationPlan {
                skills,
                episodes,
                most_likely: true,
                overrides: Vec::new(),
                watch: None,
            };
            let results = run::evaluate_run(experiment, folder, &plan, settings)?;
            folder.write("evaluation.json", &serde_json::to_string_pretty(&results)?)?;
            results
        }
    };
    stage("evaluation", from);

    print(format_args!("{}", table::evaluation(&results)))?;
    for (name, took) in &stages {
        print(format_args!("{name:<16} {:>6.1} min", minutes(*took)))?;
    }
    print(format_args!("{:<16} {:>6.1} min", "in all", minutes(start.elapsed())))?;
    let runs = [(arguments.experiment.clone(), folder.root().to_path_buf())];
    match run::learning_curves(&runs, None) {
        Ok(picture) => {
            print(format_args!(
                "plot in {}",
                folder.write("learning.svg", &picture)?.display()
            ))?;
        }
        // Practice may have been too short for a single episode.
        Err(error) => bevy::log::warn!("there is no learning curve to draw: {error}"),
    }
    Ok(Ended::Finished)
}

/// Results that an earlier run of the same command left; `None` if there are none that can be read.
fn results<T: serde::de::DeserializeOwned>(folder: &RunFolder, name: &str) -> Option<T> {
    serde_json::from_str(&folder.read(name).ok()?).ok()
}

fn minutes(duration: Duration) -> f64 {
    duration.as_secs_f64() / 60.0
}
