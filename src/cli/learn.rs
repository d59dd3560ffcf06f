//! `apprentice learn`: the whole chain.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{Context, Failure, finished, table};
use crate::app::Ended;
use crate::experiment::{Experiment, SkillModelConfig};
use crate::run::{self, EvaluationPlan, RunFolder, TrainPlan};

/// The whole chain: demonstrations, skill model, practice, evaluation, table and plot.
///
/// Interrupted, it goes on where it was when the same command is given again.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Experiment: a name in configs/ or a path.
    #[arg(default_value = "kitchen/spirl_cl")]
    experiment: String,
    /// Overrides such as `seeds=[0,1,2]`.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// The short form of the experiment: a few minutes, to see that everything works.
    #[arg(long)]
    quick: bool,
    /// Folder of the run [default: runs/EXPERIMENT, with _quick for the short form].
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let mut loaded = Experiment::load(&arguments.experiment, &[])?;
    let mut overrides = if arguments.quick {
        loaded.value.quick.clone()
    } else {
        Vec::new()
    };
    overrides.extend(arguments.overrides.iter().cloned());
    loaded = Experiment::load(&arguments.experiment, &overrides)?;
    let experiment = &loaded.value;
    let settings = context.settings();
    let name = run::default_name(&arguments.experiment) + if arguments.quick { "_quick" } else { "" };
    let root = arguments
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(name));
    let folder = match RunFolder::open(&root) {
        Ok(folder) if folder.read("experiment.ron")? == loaded.resolved_text => folder,
        Ok(_) => {
            let message = "holds a run of another experiment or with other overrides; choose another folder (--out)";
            return Err(format!("{}: {message}", root.display()).into());
        }
        Err(_) => RunFolder::create(&root, &loaded.resolved_text)?,
    };
    let start = Instant::now();
    let mut stages = Vec::new();
    let mut stage = |name: &'static str, from: Instant| stages.push((name, from.elapsed()));

    let mut skills = None;
    if experiment.skill_model != SkillModelConfig::None {
        let from = Instant::now();
        let dataset = run::ensure_dataset(experiment, &settings)?;
        stage("demonstrations", from);
        let from = Instant::now();
        if run::pretrain(experiment, &dataset, &folder, &settings)? == Ended::Stopped {
            return interrupted(&root);
        }
        stage("skill model", from);
        skills = Some(folder.skills());
        let from = Instant::now();
        let plan = EvaluationPlan {
            skills: skills.clone(),
            episodes: experiment.evaluation.final_episodes,
            most_likely: true,
        };
        let prior = run::evaluate_prior(experiment, &plan, &settings)?;
        folder.write("prior.json", &serde_json::to_string_pretty(&prior)?)?;
        println!("{}", table::rollout(&prior));
        stage("prior roll-outs", from);
    }
    let from = Instant::now();
    let plan = TrainPlan {
        skills: skills.clone(),
        folder: &folder,
        resume: true,
    };
    if run::train(experiment, &plan, &settings)? == Ended::Stopped {
        return interrupted(&root);
    }
    stage("practice", from);
    let from = Instant::now();
    let plan = EvaluationPlan {
        skills,
        episodes: experiment.evaluation.final_episodes,
        most_likely: true,
    };
    let results = run::evaluate_run(experiment, &folder, &plan, &settings)?;
    folder.write("evaluation.json", &serde_json::to_string_pretty(&results)?)?;
    stage("evaluation", from);
    let runs = [(arguments.experiment.clone(), root.clone())];
    let picture = folder.write("learning.svg", &run::learning_curves(&runs, "practice/completed")?)?;

    println!("{}", table::evaluation(&results));
    for (name, took) in &stages {
        println!("{name:<16} {:>6.1} min", minutes(*took));
    }
    println!(
        "{:<16} {:>6.1} min\nplot in {}",
        "in all",
        minutes(start.elapsed()),
        picture.display()
    );
    Ok(finished(Ended::Finished))
}

fn interrupted(root: &std::path::Path) -> Result<ExitCode, Failure> {
    println!(
        "interrupted; the same command goes on where it was ({})",
        root.display()
    );
    Ok(finished(Ended::Stopped))
}

fn minutes(duration: Duration) -> f64 {
    duration.as_secs_f64() / 60.0
}
