//! `apprentice learn`: the whole chain.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::sweep::{self, Failed, SweepRuns};
use super::train::SweepArguments;
use super::{Failure, finished, print, table};
use crate::app::Ended;
use crate::evaluate::EvaluationSummary;
use crate::experiment::{Experiment, LearningDevice, SkillModelConfig};
use crate::files::Loaded;
use crate::run::{
    self, Evaluated, EvaluationPlan, RunFolder, RunFolderError, Settings, Sweep, TrainPlan, Variant, share_skills,
};

/// The whole chain: demonstrations, skill model, practice, evaluation, table and plot.
///
/// Interrupted, it goes on when the same command is given again; demonstrations and evaluations start over. An override
/// may list values, as for `apprentice train`: variants with the same skill model share it.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Experiment: a name in configs/ or a path.
    #[arg(default_value = "kitchen/spirl_cl")]
    experiment: String,
    /// Overrides such as `seeds=[0,1,2]` or `device=cuda`.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// The short form of the experiment, to see that everything works: three minutes for `kitchen/spirl_cl`.
    #[arg(long)]
    quick: bool,
    /// Folder of the run [default: runs/EXPERIMENT, with _quick for the short form].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    // Of the other commands; only to say that it is not needed here.
    #[arg(long, hide = true)]
    resume: bool,
    #[command(flatten)]
    sweep: SweepArguments,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let name = &arguments.experiment;
    if arguments.resume {
        return Err("--resume: not needed here: `learn` goes on by itself when the same command is given again".into());
    }
    let mut overrides = Vec::new();
    if arguments.quick {
        overrides = Experiment::load(name, &[])?.value.quick;
        if overrides.is_empty() {
            return Err(format!("--quick: experiment `{name}` has no short form (a list `quick` of overrides)").into());
        }
    }
    overrides.extend(arguments.overrides.iter().cloned());
    let default = run::default_name(name) + if arguments.quick { "_quick" } else { "" };
    let root = arguments
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(default));
    match Sweep::of(name, &overrides)? {
        Sweep::One(overrides) if arguments.sweep.dry_run => sweep::plan_one(&root, name, &overrides, true),
        Sweep::One(overrides) => learn(arguments, &overrides, &root, settings),
        Sweep::Several(variants) if arguments.sweep.dry_run => sweep::plan(&root, name, &variants, true),
        Sweep::Several(variants) => learn_all(arguments, &overrides, &variants, &root, settings),
    }
}

fn learn(arguments: &Arguments, overrides: &[String], root: &Path, settings: &Settings) -> Result<ExitCode, Failure> {
    let name = &arguments.experiment;
    let Loaded {
        value: mut experiment,
        resolved_text,
        ..
    } = Experiment::load(name, overrides)?;
    experiment.device.ready()?;
    let folder = match RunFolder::resume(root) {
        Ok(folder) => {
            expect_same(&folder, &experiment)?;
            folder.attach_scene(&mut experiment)?;
            folder.warn_of_changed_scene(&experiment);
            run::check(&experiment)?;
            folder
        }
        Err(RunFolderError::NotARun { .. }) => {
            run::check(&experiment)?;
            RunFolder::create(root, name, &resolved_text)?
        }
        Err(error) => return Err(error.into()),
    };
    let kept = folder.keep_scene(&mut experiment).map_err(Failure::from);
    let result = kept.and_then(|()| chain(name, overrides, &experiment, &folder, settings));
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

/// The whole chain for every variant of a sweep; variants with the same skill model share the first one's.
fn learn_all(
    arguments: &Arguments,
    overrides: &[String],
    variants: &[Variant],
    root: &Path,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let runs = SweepRuns::begin(root, &arguments.experiment, overrides, variants, true)?;
    for run in runs.runs.iter().filter(|run| run.was_there) {
        expect_same(&run.folder, &run.experiment)?;
    }
    let mut stages = Stages::begin();
    let mut failures = Vec::new();
    let result = runs.undo_if_unused(chain_all(arguments, &runs, &mut stages, &mut failures, settings))?;
    if result == Ended::Finished {
        stages.print()?;
        let practised = runs.runs.iter().enumerate();
        let practised = practised.filter(|(number, _)| failures.iter().all(|failed| failed.number != *number));
        let curves: Vec<_> = practised
            .map(|(_, run)| (run.name.clone(), run.folder.root().to_path_buf()))
            .collect();
        draw(&curves, |picture| {
            let path = root.join("learning.svg");
            run::write_whole(&path, picture)?;
            Ok(path)
        })?;
    }
    runs.ended(result, "the same command", &failures)
}

fn chain_all(
    arguments: &Arguments,
    runs: &SweepRuns,
    stages: &mut Stages,
    failures: &mut Vec<Failed>,
    settings: &Settings,
) -> Result<Ended, Failure> {
    let mut skills: Vec<Option<PathBuf>> = Vec::new();
    for (number, run) in runs.runs.iter().enumerate() {
        let leader = runs
            .runs
            .iter()
            .take(number)
            .position(|other| share_skills(&other.experiment, &run.experiment));
        let model = match leader.and_then(|leader| skills.get(leader)) {
            Some(model) => model.clone(),
            None => match skill_model(&run.overrides, &run.experiment, &run.folder, stages, settings)? {
                Some(model) => model,
                None => return Ok(Ended::Stopped),
            },
        };
        skills.push(model);
    }
    for world in runs.worlds(arguments.sweep.most()) {
        let from = Instant::now();
        let models: Vec<_> = world
            .iter()
            .map(|&number| skills.get(number).cloned().flatten())
            .collect();
        let (ended, failed) = runs.practise(&world, &models, true, settings)?;
        failures.extend(failed);
        if ended == Ended::Stopped {
            return Ok(Ended::Stopped);
        }
        stages.add("practice", from);
    }
    for (number, run) in runs.runs.iter().enumerate() {
        if failures.iter().any(|failed| failed.number == number) {
            continue;
        }
        print(format_args!("\n{}", run.name))?;
        let model = skills.get(number).cloned().flatten();
        evaluation(&run.experiment, &run.folder, model, stages, settings)?;
    }
    Ok(Ended::Finished)
}

/// Refuses a run of another experiment, and names what differs. Settings count, not how a file writes them down, nor
/// what it says about itself, nor what computes it.
fn expect_same(folder: &RunFolder, experiment: &Experiment) -> Result<(), Failure> {
    const SHOWN: usize = 3;
    let settings = |experiment: &Experiment| Experiment {
        description: String::new(),
        quick: Vec::new(),
        kept_scene: None,
        device: LearningDevice::default(),
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
    name: &str,
    overrides: &[String],
    experiment: &Experiment,
    folder: &RunFolder,
    settings: &Settings,
) -> Result<Ended, Failure> {
    let mut stages = Stages::begin();
    let Some(skills) = skill_model(overrides, experiment, folder, &mut stages, settings)? else {
        return Ok(Ended::Stopped);
    };
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
    stages.add("practice", from);
    evaluation(experiment, folder, skills, &mut stages, settings)?;
    stages.print()?;
    let runs = [(name.to_owned(), folder.root().to_path_buf())];
    draw(&runs, |picture| Ok(folder.write("learning.svg", picture)?))?;
    Ok(Ended::Finished)
}

/// Trains the skill model of a run, if it has one, and rolls out its prior. Gives the folder of the model, or nothing
/// after an interruption.
fn skill_model(
    overrides: &[String],
    experiment: &Experiment,
    folder: &RunFolder,
    stages: &mut Stages,
    settings: &Settings,
) -> Result<Option<Option<PathBuf>>, Failure> {
    if experiment.skill_model == SkillModelConfig::None {
        return Ok(Some(None));
    }
    if run::needs_demonstrations(experiment, folder)? {
        let from = Instant::now();
        if let Some(note) = run::collection_note(experiment, overrides) {
            print(format_args!("{note}"))?;
        }
        let (dataset, collected) = run::ensure_dataset(experiment, settings)?;
        if let Some(report) = collected {
            print(format_args!("{}", table::collection(&report)))?;
        }
        stages.add("demonstrations", from);
        let from = Instant::now();
        if run::pretrain(experiment, &dataset, folder, settings)? == Ended::Stopped {
            return Ok(None);
        }
        stages.add("skill model", from);
    }
    let skills = Some(folder.skills());
    let from = Instant::now();
    let prior = match results::<Evaluated>(folder, "prior.json") {
        Some(prior) => Some(prior),
        None => {
            let plan = evaluation_plan(experiment, skills.clone());
            let prior = run::evaluate_prior(experiment, &plan, settings)?;
            if let Some(prior) = &prior {
                folder.write("prior.json", &serde_json::to_string_pretty(prior)?)?;
            }
            prior
        }
    };
    if let Some(prior) = prior {
        print(format_args!("{}", table::rollout(&prior)))?;
        stages.add("prior roll-outs", from);
    } else {
        bevy::log::warn!("the prior of this model is not Gaussian; there are no prior roll-outs");
    }
    Ok(Some(skills))
}

/// Evaluates a run, unless an earlier command has done so, and prints the results.
fn evaluation(
    experiment: &Experiment,
    folder: &RunFolder,
    skills: Option<PathBuf>,
    stages: &mut Stages,
    settings: &Settings,
) -> Result<(), Failure> {
    let from = Instant::now();
    let episodes = experiment.evaluation.final_episodes;
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
            let plan = evaluation_plan(experiment, skills);
            let results = run::evaluate_run(experiment, folder, &plan, settings)?;
            folder.write("evaluation.json", &serde_json::to_string_pretty(&results)?)?;
            results
        }
    };
    stages.add("evaluation", from);
    print(format_args!("{}", table::evaluation(&results)))
}

fn evaluation_plan(experiment: &Experiment, skills: Option<PathBuf>) -> EvaluationPlan {
    EvaluationPlan {
        skills,
        episodes: experiment.evaluation.final_episodes,
        most_likely: true,
        overrides: Vec::new(),
        watch: None,
    }
}

/// Draws the learning curves of labelled run folders, and says where `write` has put them.
fn draw(runs: &[(String, PathBuf)], write: impl FnOnce(&str) -> Result<PathBuf, Failure>) -> Result<(), Failure> {
    match run::learning_curves(runs, None) {
        Ok(picture) => print(format_args!("plot in {}", write(&picture)?.display())),
        // Practice may have been too short for a single episode.
        Err(error) => {
            bevy::log::warn!("there is no learning curve to draw: {error}");
            Ok(())
        }
    }
}

/// How long the stages took.
struct Stages {
    begun: Instant,
    took: Vec<(&'static str, Duration)>,
}

impl Stages {
    fn begin() -> Self {
        Self {
            begun: Instant::now(),
            took: Vec::new(),
        }
    }

    /// A stage that ends now; the times of stages with one name are added up.
    fn add(&mut self, name: &'static str, from: Instant) {
        match self.took.iter_mut().find(|(known, _)| *known == name) {
            Some((_, took)) => *took += from.elapsed(),
            None => self.took.push((name, from.elapsed())),
        }
    }

    fn print(&self) -> Result<(), Failure> {
        for (name, took) in &self.took {
            print(format_args!("{name:<16} {:>6.1} min", minutes(*took)))?;
        }
        print(format_args!(
            "{:<16} {:>6.1} min",
            "in all",
            minutes(self.begun.elapsed())
        ))
    }
}

/// Results that an earlier run of the same command left; `None` if there are none that can be read.
fn results<T: serde::de::DeserializeOwned>(folder: &RunFolder, name: &str) -> Option<T> {
    serde_json::from_str(&folder.read(name).ok()?).ok()
}

fn minutes(duration: Duration) -> f64 {
    duration.as_secs_f64() / 60.0
}
