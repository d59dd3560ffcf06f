//! Practice: agents act in many environments, learners learn from what they did, metrics and checkpoints are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use super::skills::latest;
use super::{RunError, RunFolder, Settings, SkillFolder};
use crate::agents::{ActsIn, AgentPlugin, AgentState, Agents, Behaviour, SkillDecoder, agent_bundle};
use crate::app::{self, Ended};
use crate::checkpoint::Checkpoints;
use crate::evaluate::{Evaluation, EvaluationPlugin, EvaluationSummary, begin_evaluation};
use crate::experiment::{self, Experiment, TrainingConfig};
use crate::files;
use crate::learners::sac::{Sac, SacDims, UpdateMetrics};
use crate::metrics::{BarId, Figure, MetricsWriter, Progress};
use crate::practice::{Practice, PracticePlugin, RecentEpisodes, RecentUpdates, Replays, Seed};
use crate::replay::ReplayBuffer;
use crate::rng::{Purpose, stream};
use crate::scene::{CompiledScene, Scene};
use crate::sim::{SimPlugin, spawn_environment};
use crate::skills::{GaussianNetwork, Primitive, SkillDims, SkillModel};
use crate::tick::TickCount;

/// What a learner's policy starts from and acts through.
#[derive(Clone)]
pub struct Foundations {
    /// Turns skills into actions.
    pub skills: Arc<dyn SkillModel>,
    /// The prior over skills (or actions), if the experiment has a trained model.
    pub prior: Option<GaussianNetwork>,
    /// The folder it came from.
    pub folder: Option<PathBuf>,
}

/// What [`train`] needs besides the experiment.
pub struct TrainPlan<'a> {
    /// The trained skill model, or none for learners that start from scratch.
    pub skills: Option<PathBuf>,
    /// Where the run is kept.
    pub folder: &'a RunFolder,
    /// Whether learners go on from their checkpoints.
    pub resume: bool,
}

impl Foundations {
    /// Loads what the experiment's learner stands on and checks that it fits the scene.
    pub fn load(
        experiment: &Experiment,
        scene: &CompiledScene,
        skills: Option<PathBuf>,
    ) -> Result<Self, RunError> {
        let dims = SkillDims { state: scene.observation_len(), action: scene.action_len() };
        let mut prior = None;
        let mut decoder: Option<Arc<dyn SkillModel>> = None;
        if let Some(path) = &skills {
            let (folder, saved) = SkillFolder::open(path)?;
            if saved.dims() != dims {
                return Err(RunError::Experiment(format!(
                    "{}: the skill model sees {} numbers and acts with {}; scene `{}` has {} and {}",
                    path.display(),
                    saved.observation,
                    saved.action,
                    experiment.scene,
                    dims.state,
                    dims.action
                )));
            }
            let (model, _) = folder.load(&saved)?;
            prior = Some(model.policy_prior()?);
            decoder = model.into_skills();
        }
        let skills_of = match (experiment.acts_in, decoder) {
            (experiment::ActsIn::Actions, _) => Arc::new(Primitive { dims }),
            (experiment::ActsIn::Skills, Some(decoder)) => decoder,
            (experiment::ActsIn::Skills, None) => {
                return Err(RunError::Experiment(
                    "this experiment acts in skills (acts_in: Skills) and needs a trained model of skills \
                     (skill_model: Spirl)"
                        .into(),
                ));
            }
        };
        Ok(Self { skills: skills_of, prior, folder: skills })
    }

    /// A learner that stands on this.
    pub fn learner(&self, experiment: &Experiment, seed: u64) -> Result<Sac, RunError> {
        let dims = SacDims { observation: self.skills.dims().state, action: self.skills.space().width() };
        let mut rng = stream(seed, Purpose::Weights, 1, 0);
        Ok(Sac::new(experiment.learner.clone(), dims, self.prior.as_ref(), &mut rng)?)
    }
}

/// The scene of an experiment, compiled.
pub fn load_scene(experiment: &Experiment) -> Result<CompiledScene, RunError> {
    Ok(CompiledScene::new(Scene::load(&experiment.scene)?)?)
}

/// Names of the elements of the task and of the scene.
pub fn element_names(scene: &CompiledScene) -> (Vec<String>, Vec<String>) {
    let all: Vec<String> = scene.elements().iter().map(|element| element.name.clone()).collect();
    let task = scene.task().iter().filter_map(|&index| all.get(index).cloned()).collect();
    (task, all)
}

/// What is written about one learner, and when next.
#[derive(Component)]
struct Reporter {
    writer: MetricsWriter,
    bar: BarId,
    /// Steps at which the next report, checkpoint and evaluation are due.
    next: u64,
    checkpoint_next: u64,
    evaluation_next: u64,
    /// Evaluations begun.
    evaluations: usize,
    checkpoints: Checkpoints,
    /// The tick of the last checkpoint; 0 for the one that practice goes on from.
    saved_at: Option<u64>,
    since: Instant,
    steps_then: u64,
    /// Completed elements per episode in the last report.
    completed: Option<f64>,
}

/// The part of a checkpoint that is not tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedPractice {
    practice: Practice,
    /// Evaluations that are finished.
    evaluations: usize,
    /// Another one was under way; it begins again.
    #[serde(default)]
    evaluating: bool,
    /// The agents that practise, by slot.
    #[serde(default)]
    agents: Vec<AgentState>,
}

/// The checkpoints of the learner with this seed.
pub(super) fn learner_checkpoints(folder: &RunFolder, seed: u64, config: &TrainingConfig) -> Checkpoints {
    Checkpoints::new(folder.seed(seed).join("checkpoints"), "learner", config.keep_checkpoints)
}

/// Practises until every seed has made its steps, or goes on from checkpoints. Returns how it ended.
pub fn train(experiment: &Experiment, plan: &TrainPlan, settings: &Settings) -> Result<Ended, RunError> {
    check(experiment)?;
    let scene = load_scene(experiment)?;
    let (task, elements) = element_names(&scene);
    let foundations = Foundations::load(experiment, &scene, plan.skills.clone())?;

    let mut app = app::headless(settings.threads, settings.stop.clone());
    app.add_plugins((SimPlugin, AgentPlugin, PracticePlugin, EvaluationPlugin));
    let world = app.world_mut();
    let scene = world.spawn(scene).id();
    let mut bars = Progress::default();
    let mut learners = Vec::new();
    for &seed in &experiment.seeds {
        learners.extend(spawn_learner(world, experiment, plan, &foundations, scene, seed, &mut bars)?);
    }
    // Not before every checkpoint has turned out to fit.
    plan.folder.note_experiment(&files::to_text(experiment)?)?;
    if let Some(skills) = &plan.skills {
        plan.folder.note_skills(skills)?;
    }

    let mut failure = None;
    let ended = app::run(&mut app, |world| {
        let mut step = || -> Result<bool, RunError> {
            let mut finished = true;
            for &learner in &learners {
                finished &= follow(world, learner, scene, experiment, (&task, &elements), &mut bars)?;
            }
            Ok(finished)
        };
        match step() {
            Ok(finished) => finished,
            Err(error) => {
                failure = Some(error);
                true
            }
        }
    });
    // An interruption, or a full disk under one learner, must cost the others nothing. After an error inside a tick the
    // last checkpoint is the one to trust.
    let world = app.world_mut();
    if ended.is_ok() {
        for &learner in &learners {
            let kept = report(world, learner, &task, &elements).and_then(|()| save(world, learner));
            failure = failure.or(kept.err());
        }
    }
    bars.finish();
    match failure {
        Some(error) => Err(error),
        None => ended.map_err(RunError::Tick),
    }
}

/// Finds settings of practice that cannot be used, before anything is made or trained.
pub fn check(experiment: &Experiment) -> Result<(), RunError> {
    if experiment.environments == 0 || experiment.seeds.is_empty() {
        return Err(RunError::Experiment("expected at least one environment and one seed".into()));
    }
    let mut seen = BTreeSet::new();
    if let Some(seed) = experiment.seeds.iter().find(|seed| !seen.insert(**seed)) {
        return Err(RunError::Experiment(format!("seeds: expected different ones, found {seed} twice")));
    }
    load_scene(experiment)?;
    Ok(experiment.learner.validate()?)
}

/// The multiple of `every` after `steps`; never if `every` is 0.
fn next_multiple(steps: u64, every: u64) -> u64 {
    steps.checked_div(every).map_or(u64::MAX, |done| done.saturating_add(1).saturating_mul(every))
}

/// Spawns a learner with its agents, from its checkpoint if practice goes on; `None` if its steps are made already.
fn spawn_learner(
    world: &mut World,
    experiment: &Experiment,
    plan: &TrainPlan,
    foundations: &Foundations,
    scene: Entity,
    seed: u64,
    bars: &mut Progress,
) -> Result<Option<Entity>, RunError> {
    let config = &experiment.training;
    let root = plan.folder.seed(seed);
    let checkpoints = learner_checkpoints(plan.folder, seed, config);
    let mut sac = foundations.learner(experiment, seed)?;
    let dims = sac.dims();
    let mut practice = Practice::new(config, seed);
    let mut buffer = ReplayBuffer::new(config.replay_capacity, dims.observation, dims.action)?;
    let (mut evaluations, mut evaluating, mut agents) = (0, false, Vec::new());
    let mut saved_at = None;
    if plan.resume {
        if let Some(checkpoint) = latest::<SavedPractice>(&checkpoints)? {
            sac.import(checkpoint.file("learner")?)?;
            buffer = ReplayBuffer::import(checkpoint.file("replay")?)?;
            practice = checkpoint.state.practice.with_rates(config);
            SavedPractice { evaluations, evaluating, agents, .. } = checkpoint.state;
            saved_at = Some(0);
        }
    }
    let steps = practice.steps;
    if saved_at.is_some() && steps >= config.steps {
        return Ok(None);
    }
    let writer = if plan.resume { MetricsWriter::resume(&root, steps)? } else { MetricsWriter::create(&root)? };

    let replay = world.spawn(buffer).id();
    let bar = bars.add(&format!("seed {seed}"), steps, config.steps, "steps");
    let evaluation_next = next_multiple(steps, experiment.evaluation.every);
    let learner = world
        .spawn((
            Name::new(format!("learner, seed {seed}")),
            Seed(seed),
            sac,
            practice,
            Replays(replay),
            SkillDecoder(foundations.skills.clone()),
            RecentEpisodes::default(),
            RecentUpdates::default(),
            Evaluation::default(),
            Reporter {
                writer,
                bar,
                next: next_multiple(steps, config.report_every),
                checkpoint_next: next_multiple(steps, config.checkpoint_every),
                evaluation_next: if evaluating { steps } else { evaluation_next },
                evaluations,
                checkpoints,
                saved_at,
                since: Instant::now(),
                steps_then: steps,
                completed: None,
            },
        ))
        .id();
    for slot in 0..experiment.environments {
        let environment = spawn_environment(world, scene, slot, seed)?;
        let stream = stream(seed, Purpose::Policy, slot as u64, steps);
        let agent = agent_bundle(environment, learner, Behaviour::Practises, config.transitions, stream);
        let agent = world.spawn(agent).id();
        if let Some(state) = agents.get(slot) {
            state.restore(world, agent)?;
        }
    }
    Ok(Some(learner))
}

/// Reports, evaluates and saves what is due for one learner. A learner whose steps are made is saved and leaves the
/// world, so that others may take longer without changing it. True when it has left.
fn follow(
    world: &mut World,
    learner: Entity,
    scene: Entity,
    experiment: &Experiment,
    (task, elements): (&[String], &[String]),
    bars: &mut Progress,
) -> Result<bool, RunError> {
    let config = &experiment.training;
    let Some((steps, due, finished)) = show(world, learner, config, bars) else { return Ok(true) };
    if due.report || due.checkpoint || finished {
        report(world, learner, task, elements)?;
    }
    let mut entity = world.entity_mut(learner);
    if entity.get::<Evaluation>().is_some_and(Evaluation::is_finished) {
        let results = entity.get_mut::<Evaluation>().map(|mut evaluation| std::mem::take(&mut evaluation.results));
        let summary = EvaluationSummary::of(&results.unwrap_or_default(), task, elements, 0);
        if let Some(mut reporter) = entity.get_mut::<Reporter>() {
            reporter.write(steps, "evaluation", &summary)?;
        }
    }
    if finished {
        save(world, learner)?;
        retire(world, learner);
        return Ok(true);
    }
    // One at a time: the next one waits until the episodes of the last have ended.
    if due.evaluation && !entity.get::<Evaluation>().is_some_and(Evaluation::is_running) {
        let mut number = 0;
        if let Some(mut reporter) = entity.get_mut::<Reporter>() {
            number = reporter.evaluations;
            reporter.evaluations += 1;
            reporter.evaluation_next = next_multiple(steps, experiment.evaluation.every);
        }
        begin_evaluation(world, learner, scene, experiment.evaluation.episodes, Behaviour::Samples, number)?;
    }
    if due.checkpoint {
        save(world, learner)?;
    }
    if let Some(mut reporter) = world.get_mut::<Reporter>(learner) {
        reporter.next = next_multiple(steps, config.report_every);
        reporter.checkpoint_next = next_multiple(steps, config.checkpoint_every);
    }
    Ok(false)
}

/// What is due for a learner.
struct Due {
    report: bool,
    checkpoint: bool,
    evaluation: bool,
}

/// Moves the learner's bar. Returns its steps, what is due, and whether its steps are made; `None` if it has left.
fn show(
    world: &mut World,
    learner: Entity,
    config: &TrainingConfig,
    bars: &mut Progress,
) -> Option<(u64, Due, bool)> {
    let entity = world.get_entity(learner).ok()?;
    let (practice, reporter) = (entity.get::<Practice>()?, entity.get::<Reporter>()?);
    let steps = practice.steps;
    let mut figures = Vec::new();
    if practice.warms_up() {
        figures.push(Figure { name: "warm-up transitions left", value: practice.warmup_left() as f64 });
    } else {
        figures.extend(reporter.completed.map(|value| Figure { name: "completed", value }));
        let temperature = entity.get::<Sac>()?.temperature();
        figures.push(Figure { name: "temperature", value: f64::from(temperature) });
    }
    bars.update(reporter.bar, steps, &figures);
    let due = Due {
        report: steps >= reporter.next,
        checkpoint: steps >= reporter.checkpoint_next,
        evaluation: steps >= reporter.evaluation_next,
    };
    Some((steps, due, steps >= config.steps))
}

/// Writes metrics of everything since the last report, if there was anything.
fn report(world: &mut World, learner: Entity, task: &[String], elements: &[String]) -> Result<(), RunError> {
    let Ok(mut entity) = world.get_entity_mut(learner) else { return Ok(()) };
    let steps = entity.get::<Practice>().map_or(0, |practice| practice.steps);
    if entity.get::<Reporter>().is_none_or(|reporter| steps <= reporter.steps_then) {
        return Ok(());
    }
    let episodes = entity.get_mut::<RecentEpisodes>().map(|mut recent| std::mem::take(&mut recent.0));
    let updates = entity.get_mut::<RecentUpdates>().map(|mut recent| std::mem::take(&mut recent.0));
    let summary = EvaluationSummary::of(&episodes.unwrap_or_default(), task, elements, 0);
    let Some(mut reporter) = entity.get_mut::<Reporter>() else { return Ok(()) };
    let rate = (steps - reporter.steps_then) as f64 / reporter.since.elapsed().as_secs_f64().max(1e-9);
    reporter.write(steps, "practice", &summary)?;
    reporter.write_updates(steps, &updates.unwrap_or_default())?;
    reporter.writer.scalar(steps, "rate/steps_per_second", rate)?;
    (reporter.since, reporter.steps_then) = (Instant::now(), steps);
    if summary.episodes > 0 {
        reporter.completed = Some(summary.completed);
    }
    Ok(())
}

impl Reporter {
    fn write(&mut self, step: u64, prefix: &str, summary: &EvaluationSummary) -> Result<(), RunError> {
        if summary.episodes == 0 {
            return Ok(());
        }
        for (name, value) in [
            ("completed", summary.completed),
            ("success", summary.success),
            ("episode_length", summary.steps),
            ("episodes", summary.episodes as f64),
        ] {
            self.writer.scalar(step, &format!("{prefix}/{name}"), value)?;
        }
        for (name, share) in &summary.elements {
            self.writer.scalar(step, &format!("{prefix}/elements/{name}"), *share)?;
        }
        Ok(())
    }

    fn write_updates(&mut self, step: u64, updates: &[UpdateMetrics]) -> Result<(), RunError> {
        if updates.is_empty() {
            return Ok(());
        }
        let mean = |value: &dyn Fn(&UpdateMetrics) -> f32| {
            updates.iter().map(|metrics| f64::from(value(metrics))).sum::<f64>() / updates.len() as f64
        };
        for (name, value) in [
            ("policy_loss", mean(&|metrics| metrics.policy_loss)),
            ("critic_loss", mean(&|metrics| 0.5 * (metrics.critic_loss[0] + metrics.critic_loss[1]))),
            ("temperature", mean(&|metrics| metrics.temperature)),
            ("penalty", mean(&|metrics| metrics.penalty)),
            ("penalty_target", mean(&|metrics| metrics.penalty_target)),
            ("entropy", mean(&|metrics| metrics.entropy)),
            ("q", mean(&|metrics| metrics.q[0])),
            ("policy_gradient", mean(&|metrics| metrics.policy_gradient)),
            ("skipped", mean(&|metrics| f32::from(u8::from(metrics.skipped)))),
        ] {
            self.writer.scalar(step, &format!("learner/{name}"), value)?;
        }
        Ok(())
    }
}

/// Writes a checkpoint of a learner and its agents, unless nothing has happened since the last one.
fn save(world: &mut World, learner: Entity) -> Result<(), RunError> {
    let tick = world.resource::<TickCount>().0;
    let Some(mut reporter) = world.get_mut::<Reporter>(learner) else { return Ok(()) };
    if reporter.saved_at == Some(tick) {
        return Ok(());
    }
    // A run that goes on from the checkpoint must find the metrics up to it.
    reporter.writer.sync()?;
    let entity = world.entity(learner);
    let (Some(sac), Some(practice), Some(reporter), Some(replays), Some(members)) = (
        entity.get::<Sac>(),
        entity.get::<Practice>(),
        entity.get::<Reporter>(),
        entity.get::<Replays>(),
        entity.get::<Agents>(),
    ) else {
        return Ok(());
    };
    let Some(buffer) = world.get::<ReplayBuffer>(replays.0) else { return Ok(()) };
    let practises = |agent: &Entity| world.get::<Behaviour>(*agent).is_some_and(|behaviour| behaviour.practises());
    let evaluating = entity.get::<Evaluation>().is_some_and(Evaluation::is_running);
    let state = SavedPractice {
        practice: practice.clone(),
        evaluations: reporter.evaluations - usize::from(evaluating),
        evaluating,
        agents: members.iter().filter(practises).filter_map(|agent| AgentState::capture(world, agent)).collect(),
    };
    let tensors =
        BTreeMap::from([("learner".to_owned(), sac.export()?), ("replay".to_owned(), buffer.export()?)]);
    reporter.checkpoints.save(practice.steps, &state, &tensors, None)?;
    if let Some(mut reporter) = world.get_mut::<Reporter>(learner) {
        reporter.saved_at = Some(tick);
    }
    Ok(())
}

/// Removes a learner from the world, with its agents, their environments and its replay buffer.
fn retire(world: &mut World, learner: Entity) {
    let entity = world.entity(learner);
    let members: Vec<Entity> = entity.get::<Agents>().map(|members| members.iter().collect()).unwrap_or_default();
    let environments = members.iter().filter_map(|&member| Some(world.get::<ActsIn>(member)?.0));
    let leaving: Vec<Entity> = environments.chain(entity.get::<Replays>().map(|replays| replays.0)).collect();
    world.despawn(learner);
    for entity in leaving {
        world.despawn(entity);
    }
}
