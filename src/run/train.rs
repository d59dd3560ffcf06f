//! Practice: agents act in many environments, learners learn from what they did, metrics and checkpoints are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use super::skills::latest;
use super::{RunError, RunFolder, Settings, SkillFolder};
use crate::agents::{AgentPlugin, Behaviour, SkillDecoder, agent_bundle};
use crate::app::{self, Ended};
use crate::checkpoint::Checkpoints;
use crate::evaluate::{Evaluation, EvaluationPlugin, EvaluationSummary, begin_evaluation};
use crate::experiment::{ActsIn, Experiment, TrainingConfig};
use crate::learners::sac::{Sac, SacDims, UpdateMetrics};
use crate::metrics::{BarId, Figure, MetricsWriter, Progress};
use crate::practice::{Practice, PracticePlugin, RecentEpisodes, RecentUpdates, Replays, Seed};
use crate::replay::ReplayBuffer;
use crate::rng::{Purpose, stream};
use crate::scene::{CompiledScene, Scene};
use crate::sim::{SimPlugin, spawn_environment};
use crate::skills::{GaussianNetwork, Primitive, SkillDims, SkillModel};

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
            (ActsIn::Actions, _) => Arc::new(Primitive { dims }),
            (ActsIn::Skills, Some(decoder)) => decoder,
            (ActsIn::Skills, None) => {
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

/// Metrics of one learner.
#[derive(Component)]
struct Reporter {
    writer: MetricsWriter,
    bar: BarId,
    next: u64,
    checkpoint_next: u64,
    evaluation_next: u64,
    evaluations: usize,
    checkpoints: Checkpoints,
    since: Instant,
    steps_then: u64,
}

/// The part of a checkpoint that is not tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedPractice {
    practice: Practice,
    evaluations: usize,
}

/// The checkpoints of the learner with this seed.
pub(super) fn learner_checkpoints(folder: &RunFolder, seed: u64, config: &TrainingConfig) -> Checkpoints {
    Checkpoints::new(folder.seed(seed).join("checkpoints"), "learner", config.keep_checkpoints)
}

/// Practises until every seed has made its steps, or goes on from checkpoints. Returns how it ended.
pub fn train(experiment: &Experiment, plan: &TrainPlan, settings: &Settings) -> Result<Ended, RunError> {
    let scene = load_scene(experiment)?;
    let (task, elements) = element_names(&scene);
    let foundations = Foundations::load(experiment, &scene, plan.skills.clone())?;
    if experiment.environments == 0 || experiment.seeds.is_empty() {
        return Err(RunError::Experiment("expected at least one environment and one seed".into()));
    }

    if let Some(skills) = &plan.skills {
        plan.folder.note_skills(skills)?;
    }
    let mut app = app::headless(settings.threads, settings.stop.clone());
    app.add_plugins((SimPlugin, AgentPlugin, PracticePlugin, EvaluationPlugin));
    let world = app.world_mut();
    let scene = world.spawn(scene).id();
    let mut bars = Progress::default();
    let mut learners = Vec::new();
    for &seed in &experiment.seeds {
        learners.push(spawn_learner(world, experiment, plan, &foundations, scene, seed, &mut bars)?);
    }

    let mut failure = None;
    let total = experiment.training.steps;
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
    })
    .map_err(RunError::Tick);
    // Whatever ended the run, what was learned is kept.
    let world = app.world_mut();
    for &learner in &learners {
        let steps = world.get::<Practice>(learner).map_or(0, |practice| practice.steps);
        if failure.is_none() && (ended.is_err() || steps < total || steps > 0) {
            save(world, learner)?;
        }
        if let Some(mut reporter) = world.get_mut::<Reporter>(learner) {
            reporter.writer.sync()?;
        }
    }
    bars.finish();
    failure.map_or(ended, Err)
}

fn spawn_learner(
    world: &mut World,
    experiment: &Experiment,
    plan: &TrainPlan,
    foundations: &Foundations,
    scene: Entity,
    seed: u64,
    bars: &mut Progress,
) -> Result<Entity, RunError> {
    let config = &experiment.training;
    let root = plan.folder.seed(seed);
    let checkpoints = learner_checkpoints(plan.folder, seed, config);
    let mut sac = foundations.learner(experiment, seed)?;
    let dims = sac.dims();
    let mut practice = Practice::new(config, seed);
    let mut buffer = ReplayBuffer::new(config.replay_capacity, dims.observation, dims.action)?;
    let mut evaluations = 0;
    let saved = if plan.resume { latest::<SavedPractice>(&checkpoints)? } else { None };
    let writer = match saved {
        Some(checkpoint) => {
            sac.import(checkpoint.file("learner")?)?;
            buffer = ReplayBuffer::import(checkpoint.file("replay")?)?;
            practice = checkpoint.state.practice;
            evaluations = checkpoint.state.evaluations;
            MetricsWriter::resume(&root, practice.steps)?
        }
        None => MetricsWriter::create(&root)?,
    };

    let replay = world.spawn(buffer).id();
    let bar = bars.add(&format!("seed {seed}"), practice.steps, config.steps, "steps");
    let steps = practice.steps;
    let after = |every: u64| if every == 0 { u64::MAX } else { (steps / every + 1) * every };
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
                next: after(config.report_every),
                checkpoint_next: after(config.checkpoint_every),
                evaluation_next: after(experiment.evaluation.every),
                evaluations,
                checkpoints,
                since: Instant::now(),
                steps_then: steps,
            },
        ))
        .id();
    for slot in 0..experiment.environments {
        let environment = spawn_environment(world, scene, slot, seed)?;
        let stream = stream(seed, Purpose::Policy, slot as u64, steps);
        world.spawn(agent_bundle(environment, learner, Behaviour::Practises, config.transitions, stream));
    }
    Ok(learner)
}

/// Reports, evaluates and saves what is due for one learner; true when its steps are made.
fn follow(
    world: &mut World,
    learner: Entity,
    scene: Entity,
    experiment: &Experiment,
    (task, elements): (&[String], &[String]),
    bars: &mut Progress,
) -> Result<bool, RunError> {
    let config = &experiment.training;
    let mut entity = world.entity_mut(learner);
    let Some(practice) = entity.get::<Practice>() else { return Ok(true) };
    let (steps, warmup_left, warms_up) = (practice.steps, practice.warmup_left(), practice.warms_up());
    let temperature = entity.get::<Sac>().map_or(0.0, |sac| f64::from(sac.temperature()));
    let finished = steps >= config.steps;

    let Some(reporter) = entity.get::<Reporter>() else { return Ok(true) };
    let due = steps >= reporter.next || (finished && steps > reporter.steps_then);
    let (checkpoint_due, evaluation_due) = (steps >= reporter.checkpoint_next, steps >= reporter.evaluation_next);
    if due {
        let episodes = entity.get_mut::<RecentEpisodes>().map(|mut recent| std::mem::take(&mut recent.0));
        let updates = entity.get_mut::<RecentUpdates>().map(|mut recent| std::mem::take(&mut recent.0));
        let summary = EvaluationSummary::of(&episodes.unwrap_or_default(), task, elements, 0);
        let Some(mut reporter) = entity.get_mut::<Reporter>() else { return Ok(true) };
        let rate = (steps - reporter.steps_then) as f64 / reporter.since.elapsed().as_secs_f64().max(1e-9);
        reporter.write(steps, "practice", &summary)?;
        reporter.write_updates(steps, &updates.unwrap_or_default())?;
        reporter.writer.scalar(steps, "rate/steps_per_second", rate)?;
        (reporter.since, reporter.steps_then) = (Instant::now(), steps);
        reporter.next = (steps / config.report_every.max(1) + 1) * config.report_every.max(1);
        bars.update(
            reporter.bar,
            steps,
            &[
                Figure { name: "completed", value: summary.completed },
                Figure { name: "temperature", value: temperature },
            ],
        );
    } else if warms_up && warmup_left % 500 == 1 {
        bars.message(&format!("seed warm-up: {warmup_left} transitions to go"));
    }

    if entity.get::<Evaluation>().is_some_and(Evaluation::is_finished) {
        let results = entity.get_mut::<Evaluation>().map(|mut evaluation| std::mem::take(&mut evaluation.results));
        let summary = EvaluationSummary::of(&results.unwrap_or_default(), task, elements, 0);
        if let Some(mut reporter) = entity.get_mut::<Reporter>() {
            reporter.write(steps, "evaluation", &summary)?;
        }
    }
    if evaluation_due && !finished {
        let mut number = 0;
        if let Some(mut reporter) = entity.get_mut::<Reporter>() {
            number = reporter.evaluations;
            reporter.evaluations += 1;
            reporter.evaluation_next = (steps / experiment.evaluation.every + 1) * experiment.evaluation.every;
        }
        begin_evaluation(world, learner, scene, experiment.evaluation.episodes, Behaviour::Samples, number)?;
    }
    if checkpoint_due && !finished {
        save(world, learner)?;
        if let Some(mut reporter) = world.get_mut::<Reporter>(learner) {
            reporter.writer.sync()?;
            reporter.checkpoint_next = (steps / config.checkpoint_every + 1) * config.checkpoint_every;
        }
    }
    Ok(finished)
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

fn save(world: &mut World, learner: Entity) -> Result<(), RunError> {
    let entity = world.entity(learner);
    let (Some(sac), Some(practice), Some(reporter), Some(replays)) =
        (entity.get::<Sac>(), entity.get::<Practice>(), entity.get::<Reporter>(), entity.get::<Replays>())
    else {
        return Ok(());
    };
    let Some(buffer) = world.get::<ReplayBuffer>(replays.0) else { return Ok(()) };
    let tensors =
        BTreeMap::from([("learner".to_owned(), sac.export()?), ("replay".to_owned(), buffer.export()?)]);
    let state = SavedPractice { practice: practice.clone(), evaluations: reporter.evaluations };
    reporter.checkpoints.save(practice.steps, &state, &tensors, None)?;
    Ok(())
}
