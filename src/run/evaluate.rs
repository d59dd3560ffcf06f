//! Episodes of trained agents, and of priors nobody has trained on yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use super::problems::check;
use super::train::{Foundations, learner_checkpoints};
use super::{RunError, RunFolder, Settings, load_scene};
use crate::agents::{ActsIn, AgentPlugin, Agents, Behaviour, SkillDecoder};
use crate::app;
use crate::checkpoint::{Checkpoint, Tensors};
use crate::evaluate::{Evaluation, EvaluationPlugin, EvaluationSummary, Measures, begin_evaluation};
use crate::experiment::{EvaluationConfig, Experiment};
use crate::learners::sac::{PolicyStart, Sac};
use crate::metrics::{Figure, Progress};
use crate::practice::{Choice, Practice, SavedPractice, Seed};
use crate::sim::{Episode, SimPlugin};
use crate::watch::{WatchPlugin, WorldLink};

/// What to evaluate.
#[derive(Debug, Clone)]
pub struct EvaluationPlan {
    /// The trained skill model the learners stand on.
    pub skills: Option<PathBuf>,
    /// Episodes per seed.
    pub episodes: usize,
    /// Evaluate the most likely skills as well as sampled ones.
    pub most_likely: bool,
    /// Overrides with which the experiment was loaded, to be kept with the results.
    pub overrides: Vec<String>,
    /// The link to whoever watches.
    pub watch: Option<WorldLink>,
}

/// The weights of a policy that see an observation, `[width, observation]`.
const FIRST_LAYER: &str = "policy.input.linear.weight";

/// Results of one learner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// The scene of the episodes.
    pub scene: String,
    /// Overrides of the run's experiment with which the episodes were made; none in files of earlier versions.
    #[serde(default)]
    pub overrides: Vec<String>,
    /// The learner's seed.
    pub seed: u64,
    /// Environment steps it had practised.
    pub practised: u64,
    /// With skills sampled from the policy.
    pub sampled: EvaluationSummary,
    /// With the most likely skill of the policy.
    pub most_likely: Option<EvaluationSummary>,
}

/// A learner as one of its checkpoints has it.
pub(super) struct Trained {
    /// Its seed.
    pub seed: u64,
    /// How far it had practised.
    pub practice: Practice,
    /// The learner itself.
    pub sac: Sac,
}

impl Trained {
    /// The learner with this seed from its newest checkpoint; `None` before the first one.
    pub fn newest(
        experiment: &Experiment,
        foundations: &Foundations,
        folder: &RunFolder,
        seed: u64,
    ) -> Result<Option<Self>, RunError> {
        Self::chosen(experiment, foundations, folder, seed, Choice::Latest)
    }

    /// As [`newest`](Self::newest), from the checkpoint that is chosen.
    pub fn chosen(
        experiment: &Experiment,
        foundations: &Foundations,
        folder: &RunFolder,
        seed: u64,
        choice: Choice,
    ) -> Result<Option<Self>, RunError> {
        let checkpoints = learner_checkpoints(folder, seed, &experiment.training);
        // Transitions are of no use here, and there may be gigabytes of them.
        let Some((checkpoint, damaged)) = choice.load(&checkpoints)? else {
            return Ok(None);
        };
        for fault in damaged {
            bevy::log::warn!("{fault}; going back to step {}", checkpoint.step);
        }
        let file = choice.file();
        Self::of(experiment, foundations, &folder.seed(seed), seed, checkpoint, file).map(Some)
    }

    /// The learner with this seed, whose folder is `learner`, from a `file` of one of its checkpoints.
    pub fn of(
        experiment: &Experiment,
        foundations: &Foundations,
        learner: &Path,
        seed: u64,
        checkpoint: Checkpoint<SavedPractice>,
        file: &str,
    ) -> Result<Self, RunError> {
        let saved = checkpoint.state.fixed.as_ref();
        foundations.expect_same(saved, learner, "it can act with that one only")?;
        let tensors = checkpoint.file(file)?;
        expect_sizes(experiment, foundations, learner, tensors)?;
        let mut sac = foundations.learner(experiment, seed)?;
        sac.import(tensors)?;
        Ok(Self {
            seed,
            practice: checkpoint.state.practice,
            sac,
        })
    }
}

/// Refuses a learner that was made for observations of another length. Where it stands on a skill model, that has been
/// compared already; where it sees pictures, the numbers beside them may be others.
fn expect_sizes(
    experiment: &Experiment,
    foundations: &Foundations,
    learner: &Path,
    tensors: &Tensors,
) -> Result<(), RunError> {
    let dims = foundations.skills.dims();
    let seen = tensors.get(FIRST_LAYER);
    let seen = seen.and_then(|weights| weights.dims().get(1).copied());
    match seen {
        Some(seen) if foundations.folder.is_none() && dims.pixels.is_none() && seen != dims.state => {
            Err(RunError::Experiment(format!(
                "{}: the learner is for {seen} observed numbers; scene `{}` has {}",
                learner.display(),
                experiment.scene,
                dims.state
            )))
        }
        _ => Ok(()),
    }
}

/// Spawns a learner whose agents act and learn nothing; `practice` holds counters only.
pub(super) fn spawn_actor(
    world: &mut World,
    foundations: &Foundations,
    practice: Practice,
    seed: u64,
    sac: Sac,
) -> Entity {
    let decoder = SkillDecoder(foundations.skills.clone());
    world
        .spawn((Seed(seed), sac, practice, decoder, Evaluation::default()))
        .id()
}

/// Evaluates the newest checkpoint of every seed of a run. The settings are checked as for practice.
pub fn evaluate_run(
    experiment: &Experiment,
    folder: &RunFolder,
    plan: &EvaluationPlan,
    settings: &Settings,
) -> Result<Vec<Evaluated>, RunError> {
    evaluate_chosen(experiment, folder, Choice::Latest, plan, settings)
}

/// As [`evaluate_run`], with the checkpoint of every seed that is chosen.
pub fn evaluate_chosen(
    experiment: &Experiment,
    folder: &RunFolder,
    choice: Choice,
    plan: &EvaluationPlan,
    settings: &Settings,
) -> Result<Vec<Evaluated>, RunError> {
    let scene = check(experiment)?;
    let foundations = Foundations::load(experiment, &scene, plan.skills.clone())?;
    let mut learners = Vec::new();
    for &seed in &experiment.seeds {
        let Some(trained) = Trained::chosen(experiment, &foundations, folder, seed, choice)? else {
            return Err(no_checkpoint(folder, seed));
        };
        learners.push((seed, trained.practice.steps, trained.sac));
    }
    evaluate(experiment, &foundations, learners, plan, settings)
}

/// The learner with this seed cannot act yet.
pub(super) fn no_checkpoint(folder: &RunFolder, seed: u64) -> RunError {
    RunError::Experiment(format!(
        "{}: the learner with seed {seed} has no checkpoint yet",
        folder.seed(seed).display()
    ))
}

/// Rolls out the prior of a skill model without any learning: how good is the model before practice? `None` if the
/// prior is not Gaussian: such a prior cannot act.
pub fn evaluate_prior(
    experiment: &Experiment,
    plan: &EvaluationPlan,
    settings: &Settings,
) -> Result<Option<Evaluated>, RunError> {
    if plan.skills.is_none() {
        return Err(RunError::Experiment(
            "there is no prior to roll out: this experiment has no skill model".into(),
        ));
    }
    let scene = load_scene(experiment)?;
    let foundations = Foundations::load(experiment, &scene, plan.skills.clone())?;
    if foundations.prior.is_none() {
        return Ok(None);
    }
    let seed = experiment.seeds.first().copied().unwrap_or(0);
    let mut from_prior = experiment.clone();
    from_prior.learner.policy = PolicyStart::Prior;
    let learner = foundations.learner(&from_prior, seed)?;
    let mut results = evaluate(experiment, &foundations, vec![(seed, 0, learner)], plan, settings)?;
    Ok(results.pop())
}

fn evaluate(
    experiment: &Experiment,
    foundations: &Foundations,
    learners: Vec<(u64, u64, Sac)>,
    plan: &EvaluationPlan,
    settings: &Settings,
) -> Result<Vec<Evaluated>, RunError> {
    let expected = 1..=EvaluationConfig::MOST_EPISODES;
    if !expected.contains(&plan.episodes) {
        return Err(RunError::Experiment(format!(
            "episodes of an evaluation: expected {} to {}, found {}",
            expected.start(),
            expected.end(),
            plan.episodes
        )));
    }
    let scene = load_scene(experiment)?;
    let measures = Measures::of(&scene);
    let longest = u64::from(scene.scene().episode.steps);
    let mut app = app::headless(settings.threads, settings.stop.clone());
    app.add_plugins((SimPlugin, AgentPlugin, EvaluationPlugin));
    if let Some(link) = &plan.watch {
        app.add_plugins(WatchPlugin { link: link.clone() });
    }
    let world = app.world_mut();
    let scene = world.spawn(scene).id();
    let mut entities = Vec::new();
    for (seed, practised, sac) in learners {
        let learner = spawn_actor(world, foundations, Practice::none(seed), seed, sac);
        entities.push((learner, seed, practised));
    }

    let mut rounds = vec![("sampled", Behaviour::Samples)];
    rounds.extend(plan.most_likely.then_some(("most likely", Behaviour::MostLikely)));
    let mut bars = Progress::default();
    let total = (plan.episodes * entities.len()) as u64 * longest;
    let mut summaries: BTreeMap<u64, Vec<EvaluationSummary>> = BTreeMap::new();
    for (number, (label, behaviour)) in rounds.into_iter().enumerate() {
        // Not all at once: the time that is left is worked out from the time a bar was added.
        let bar = bars.add(label, 0, total, "steps");
        for &(learner, ..) in &entities {
            begin_evaluation(app.world_mut(), learner, scene, plan.episodes, behaviour, number)?;
        }
        let ended = app::run(&mut app, |world| {
            let evaluations: Vec<_> = entities
                .iter()
                .filter_map(|&(learner, ..)| world.get::<Evaluation>(learner))
                .collect();
            let results: Vec<_> = evaluations.iter().flat_map(|evaluation| &evaluation.results).collect();
            let faults: usize = evaluations.iter().map(|evaluation| evaluation.faults).sum();
            // An episode that is over early has no steps left.
            let ended = (results.len() + faults) as u64;
            let running: u64 = entities.iter().map(|&(learner, ..)| steps_so_far(world, learner)).sum();
            let sum = results.iter().fold(0.0, |sum, result| sum + measures.value(result));
            let figures = [
                Figure {
                    name: "episodes",
                    value: ended as f64,
                },
                Figure {
                    name: measures.headline_label(),
                    value: sum / results.len().max(1) as f64,
                },
            ];
            // Before the first end there is nothing to take a mean of.
            let known = if results.is_empty() { 1 } else { 2 };
            bars.update(bar, ended * longest + running, &figures[..known]);
            !evaluations.iter().any(|evaluation| evaluation.is_running())
        })
        .map_err(RunError::Tick)?;
        if ended == app::Ended::Stopped {
            return Err(RunError::Interrupted);
        }
        for &(learner, seed, _) in &entities {
            let Some(evaluation) = app.world().get::<Evaluation>(learner) else {
                continue;
            };
            let summary = EvaluationSummary::of(&evaluation.results, &measures, seed);
            let summary = summary.with_faults(evaluation.faults);
            summaries.entry(seed).or_default().push(summary);
        }
    }
    bars.finish();
    Ok(entities
        .into_iter()
        .filter_map(|(_, seed, practised)| {
            let mut summaries = summaries.remove(&seed)?.into_iter();
            let (sampled, most_likely) = (summaries.next()?, summaries.next());
            Some(Evaluated {
                scene: experiment.scene.clone(),
                overrides: plan.overrides.clone(),
                seed,
                practised,
                sampled,
                most_likely,
            })
        })
        .collect())
}

/// Steps of the episodes with which a learner is being evaluated, as far as they have come.
fn steps_so_far(world: &World, learner: Entity) -> u64 {
    let agents = world.get::<Agents>(learner);
    agents
        .into_iter()
        .flat_map(|agents| agents.iter())
        .filter_map(|agent| world.get::<Episode>(world.get::<ActsIn>(agent)?.0))
        .map(|episode| u64::from(episode.step))
        .sum()
}
