//! Gathering demonstrations from many environments at once.
//!
//! Attempt number `k` depends on the seed and on `k` alone: which demonstrator makes it and how many there are beside it
//! makes no difference. Attempts are judged in the order of their numbers, so the demonstrations kept are the same, in the
//! same order, with any number of environments and threads.
//!
//! ```text
//! demonstrator ──ActsIn──> environment ──InstanceOf──> scene
//! ```
//!
//! A demonstrator is an entity that stays. Its environment lasts for one attempt, and so does its scene if the attempt
//! has one of its own; the others share theirs.

use std::collections::BTreeMap;

use bevy::ecs::batching::BatchingStrategy;
use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use super::DemoError;
use super::demonstrator::{Account, Demonstrator, DemonstratorSpec, Rejection, Start};
use super::recording::{Before, Recording};
use super::spread::Spread;
use crate::agents::ActsIn;
use crate::app::{self, Ended, StopRequest};
use crate::data;
use crate::files::{self, FileKind};
use crate::pixels::Gaze;
use crate::scene::{CompiledScene, Eye, JudgedOn, ObservationTerm, Scene, Shown};
use crate::sim::{
    Action, Environment, InstanceOf, Measurement, Observation, Outcome, Physics, Pixels, SimPlugin, TaskProgress,
    begin_episodes, step,
};
use crate::tick::{Tick, TickSystems, Workers};

/// What is to be demonstrated, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectConfig {
    /// The scene to demonstrate in: a name below `scenes/` or a path. Without one it is that of the experiment.
    pub scene: Option<String>,
    /// Who demonstrates. Without one it is the demonstrator of the scene.
    pub demonstrator: Option<DemonstratorSpec>,
    /// Successful demonstrations to gather.
    pub episodes: usize,
    /// Master seed.
    pub seed: u64,
    /// Environments that run at the same time; 0 for four for each thread.
    pub environments: usize,
    /// Threads; 0 for all processors.
    pub threads: usize,
    /// Longer demonstrations are rejected, steps. Without one it is the demonstrator's own limit.
    pub step_limit: Option<usize>,
    /// Whether pictures are stored, too; the scene must have some (`observation.pixels`). Those of mazes can be drawn from
    /// the states when they are needed.
    pub images: bool,
    /// One file, a folder with a file for each demonstration, or a Minari dataset.
    pub layout: data::Layout,
}

impl Default for CollectConfig {
    fn default() -> Self {
        Self {
            scene: None,
            demonstrator: None,
            episodes: 600,
            seed: 0,
            environments: 0,
            threads: 0,
            step_limit: None,
            images: false,
            layout: data::Layout::default(),
        }
    }
}

impl CollectConfig {
    /// Who demonstrates in `scene`.
    ///
    /// # Errors
    /// [`DemoError::NoDemonstrator`] if neither the settings nor the scene say.
    pub fn demonstrator(&self, scene: &Scene) -> Result<DemonstratorSpec, DemoError> {
        let named = self.demonstrator.as_ref().or(scene.demonstrator.as_ref());
        let named = named.map(|demonstrator| demonstrator.of_task(&scene.task.elements));
        named.ok_or_else(|| DemoError::NoDemonstrator {
            scenes: scenes_with_demonstrator().join(", "),
        })
    }

    /// `scene` as it is for recording with these settings: pictures that nobody keeps are not drawn. Those from above are,
    /// because the point looked at is kept.
    fn recorded(&self, scene: &Scene) -> Result<CompiledScene, DemoError> {
        let mut scene = recording_scene(scene);
        let eye = scene.observation.pixels.as_ref().map(|pixels| &pixels.eye);
        match (self.images, eye) {
            (true, None) => return Err(DemoError::NoPictures),
            (false, Some(Eye::Carried { .. })) => scene.observation.pixels = None,
            _ => {}
        }
        Ok(CompiledScene::new(scene)?)
    }

    /// Attempts with more steps are rejected.
    fn limit(&self, demonstrator: &dyn Demonstrator) -> usize {
        self.step_limit.unwrap_or_else(|| demonstrator.step_limit())
    }
}

/// Names of the scenes below `scenes/` that say who demonstrates.
fn scenes_with_demonstrator() -> Vec<String> {
    let mut found = Vec::new();
    for (name, path) in files::list(FileKind::Scene, &files::roots()) {
        let scene = Scene::load(&path.display().to_string());
        if scene.is_ok_and(|scene| scene.demonstrator.is_some()) {
            found.push(name);
        }
    }
    found
}

/// One successful demonstration.
#[derive(Debug, Clone, PartialEq)]
pub struct Demonstration {
    /// The recording: observations `[T, S]` and the one after the last step, actions `[T, A]` (those intended), rewards
    /// `[T]` (the scene's, and what [`Demonstrator::after`] adds), a timeout at its last step (the scene goes on), and as infos `qpos`, `qvel` (exact,
    /// before the action), `executed` `[T, A]`, `attempt`, in scenes with E elements `completed` `[T, E]` (those that
    /// have been done by the end of the step), where pictures are seen from above `gaze` `[T, 2]` (the point looked at),
    /// and the demonstrator's [own](Demonstrator::columns).
    pub episode: data::Episode,
    /// Number of the attempt; with the seed it determines everything.
    pub attempt: u64,
    /// What the report says of it.
    pub account: Account,
}

/// How far the collection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CollectProgress {
    /// Demonstrations kept.
    pub episodes: usize,
    /// Demonstrations asked for.
    pub target: usize,
    /// Demonstrations rejected.
    pub rejected: usize,
    /// Steps in the demonstrations kept.
    pub steps: usize,
}

/// What a collection came to, or the recording of agents.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CollectReport {
    /// Demonstrations kept.
    pub episodes: usize,
    /// Steps in them.
    pub steps: usize,
    /// Demonstrations begun and judged.
    pub attempts: usize,
    /// Rejected ones, by reason.
    pub rejected: BTreeMap<Rejection, usize>,
    /// Whether a stop was requested before the last one was kept.
    pub interrupted: bool,
    /// What the kept ones show, and how varied they are.
    pub spread: Spread,
}

impl CollectReport {
    /// Share of attempts that succeeded; 1 without any.
    pub fn success_rate(&self) -> f64 {
        if self.attempts == 0 {
            1.0
        } else {
            self.episodes as f64 / self.attempts as f64
        }
    }

    /// Takes in the next attempt; gives it back if it is kept.
    pub(super) fn take(&mut self, judged: Judged) -> Option<Demonstration> {
        self.attempts += 1;
        match judged {
            Ok(demonstration) => {
                self.episodes += 1;
                self.steps += demonstration.episode.len();
                self.spread.add(&demonstration);
                Some(*demonstration)
            }
            Err(reason) => {
                *self.rejected.entry(reason).or_default() += 1;
                None
            }
        }
    }

    /// An error if the number asked for is out of reach.
    fn check(&self, episodes: usize) -> Result<(), DemoError> {
        if self.episodes >= episodes || self.attempts < 20 || self.episodes * 4 >= self.attempts {
            return Ok(());
        }
        let reasons = self.rejected.iter().map(|(reason, count)| format!("{reason}: {count}"));
        Err(DemoError::TooManyFailures {
            attempts: self.attempts,
            accepted: self.episodes,
            episodes,
            reasons: reasons.collect::<Vec<_>>().join(", "),
        })
    }
}

/// `scene` for recording: it observes what it did, but neither terminates nor runs out of time, and what is noted as done
/// is so in the true state, whatever the task is judged on. The elements of the task give no reward, its further terms
/// do.
pub fn recording_scene(scene: &Scene) -> Scene {
    let mut scene = scene.clone();
    for term in &mut scene.observation.terms {
        if let ObservationTerm::Goal { shown } | ObservationTerm::GoalOf { shown, .. } | ObservationTerm::Done { shown } =
            term
            && *shown == Shown::Task
        {
            *shown = Shown::Elements(scene.task.elements.clone());
        }
        if let ObservationTerm::Time { steps } = term {
            steps.get_or_insert(scene.episode.steps);
        }
    }
    scene.task.elements.clear();
    scene.task.success.clear();
    scene.task.terminate.clear();
    scene.task.judged_on = JudgedOn::State;
    scene.episode.steps = u32::MAX;
    scene
}

/// Gathers demonstrations in `scene` and hands them to `keep` in the order of their numbers, until there are enough or a
/// `stop` is requested.
///
/// `progress` hears of every demonstration. The threads are those of Bevy's compute pool, which a process sets up once:
/// `threads` has no effect after another app has started.
///
/// # Errors
/// [`DemoError`] if the scene has no demonstrator or is none for it, fewer than one in four attempts succeeds, or `keep`
/// fails.
pub fn collect(
    config: &CollectConfig,
    scene: &Scene,
    stop: StopRequest,
    mut keep: impl FnMut(Demonstration) -> Result<(), DemoError>,
    mut progress: impl FnMut(&CollectProgress),
) -> Result<CollectReport, DemoError> {
    let threads = match config.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    let environments = match config.environments {
        0 => 4 * threads,
        environments => environments,
    };
    let environments = environments.min(config.episodes.max(1));
    let mut app = app::headless(threads, stop);
    set_up(&mut app, config, scene, environments, threads)?;
    let mut report = CollectReport::default();
    let mut judge = |world: &mut World| -> Result<bool, DemoError> {
        let mut attempts = world.resource_mut::<Attempts>();
        if let Some(failure) = attempts.failure.take() {
            return Err(failure);
        }
        while report.episodes < config.episodes
            && let Some(judged) = attempts.next()
        {
            if let Some(demonstration) = report.take(judged) {
                keep(demonstration)?;
            }
            progress(&CollectProgress {
                episodes: report.episodes,
                target: config.episodes,
                rejected: report.attempts - report.episodes,
                steps: report.steps,
            });
            report.check(config.episodes)?;
        }
        Ok(report.episodes >= config.episodes)
    };
    let mut failure = None;
    let ended = app::run(&mut app, |world| {
        judge(world).unwrap_or_else(|error| {
            failure = Some(error);
            true
        })
    })
    .map_err(DemoError::Tick)?;
    if let Some(error) = failure {
        return Err(error);
    }
    report.interrupted = ended == Ended::Stopped;
    Ok(report)
}

/// Makes attempt number `attempt` by hand, without a schedule. The result is the one [`collect`] gets.
///
/// # Errors
/// [`DemoError`] if the scene has no demonstrator or is none for it, or there is no memory.
pub fn demonstrate(
    config: &CollectConfig,
    scene: &Scene,
    attempt: u64,
) -> Result<Result<Demonstration, Rejection>, DemoError> {
    let shared = config.recorded(scene)?;
    let mut demonstrator = config.demonstrator(scene)?.build(&shared)?;
    let step_limit = config.limit(&*demonstrator);
    let begun = Begun::new(&mut *demonstrator, &shared, config.seed, attempt)?;
    let (scene, mut environment) = (begun.scene.as_ref().unwrap_or(&shared), begun.environment);
    let mut recording = Recording::new(config.images);
    while let Some(act) = demonstrator.act(scene, &environment.physics, &environment.measurement) {
        let eyes = environment.eyes.0.as_deref();
        recording.before(Before {
            demonstrator: Some(&*demonstrator),
            scene,
            physics: &environment.physics,
            observation: &environment.observation,
            sight: eyes.map(|eyes| (&eyes.gaze, &eyes.pixels)),
            act: &act,
        });
        let outcome = environment.step(scene, recording.action(scene.action_len()));
        let added = match outcome.fault {
            None => demonstrator.after(scene, &environment.physics, &environment.progress),
            Some(_) => 0.0,
        };
        let progress = &environment.progress;
        if let Some(rejection) = recording.after(added, progress, &outcome, step_limit, Some(&*demonstrator)) {
            return Ok(Err(rejection));
        }
    }
    let state = (&environment.physics, &environment.observation, &environment.progress);
    Ok(recording.judge(&*demonstrator, scene, state, attempt))
}

/// An attempt that is about to begin.
#[derive(Debug)]
struct Begun {
    /// Its own scene, if it has one.
    scene: Option<CompiledScene>,
    environment: Environment,
}

impl Begun {
    fn new(
        demonstrator: &mut dyn Demonstrator,
        shared: &CompiledScene,
        seed: u64,
        attempt: u64,
    ) -> Result<Self, DemoError> {
        let Start {
            scene: own,
            qpos,
            qvel,
            shifts,
        } = demonstrator.begin(seed, attempt)?;
        let scene = own.as_ref().unwrap_or(shared);
        // An attempt has the noise of slot 0 wherever it is made.
        let mut environment = Environment::new(scene, 0, seed)?;
        if qpos.is_empty() {
            environment.begin_anew(scene, attempt);
            shift(&mut environment.physics, &shifts);
            step::refresh(scene, &mut environment.physics);
        } else {
            // With the model of that episode.
            environment.begin(scene, attempt, &qpos);
            let physics = &mut environment.physics;
            shift(physics, &shifts);
            if !qvel.is_empty() {
                for (to, from) in physics.qvel_mut().iter_mut().zip(&qvel) {
                    *to = *from;
                }
                physics.forward();
            }
            for _ in 0..scene.scene().reset.settle {
                // A fault shows in the first step as well.
                if step::simulate(scene.scene().physics.frame_skip, physics).is_err() {
                    break;
                }
            }
            step::refresh(scene, physics);
        }
        environment.begin_here(scene, attempt);
        Ok(Self {
            scene: own,
            environment,
        })
    }
}

/// Adds to joint positions, in a state at rest.
fn shift(physics: &mut Physics, shifts: &[(usize, f64)]) {
    for (joint, shift) in shifts {
        if let Some(position) = physics.qpos_mut().get_mut(*joint) {
            *position += shift;
        }
    }
    if !shifts.is_empty() {
        physics.forward();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Many at once
// ---------------------------------------------------------------------------------------------------------------------

pub(super) type Judged = Result<Box<Demonstration>, Rejection>;

/// Attempts that are given out, and those that have been judged.
#[derive(Resource, Debug)]
struct Attempts {
    seed: u64,
    /// The scene of attempts that have none of their own.
    shared: Entity,
    /// Attempts begin together as soon as so many demonstrators are idle: setting up a scene takes time, and the threads
    /// share the work.
    at_once: usize,
    given_out: u64,
    taken: u64,
    judged: BTreeMap<u64, Judged>,
    failure: Option<DemoError>,
}

impl Attempts {
    /// The next attempt in the order of numbers, if it has been judged.
    fn next(&mut self) -> Option<Judged> {
        let judged = self.judged.remove(&self.taken)?;
        self.taken += 1;
        Some(judged)
    }
}

/// A demonstrator and the attempt that it is at.
#[derive(Component, Debug)]
struct Demonstrating {
    demonstrator: Box<dyn Demonstrator>,
    step_limit: usize,
    /// Whether pictures are kept.
    images: bool,
    stage: Stage,
    attempt: u64,
    recording: Recording,
    /// The attempt's own scene.
    scene: Option<Entity>,
}

#[derive(Debug, Default)]
enum Stage {
    /// Waits for the next attempt.
    #[default]
    Idle,
    /// Has been given a number.
    Called,
    /// Has been set up, or could not be.
    Begun(Box<Result<Begun, DemoError>>),
    /// The demonstrator acts.
    Running,
    /// The demonstrator has finished, and this came of it.
    Judged(Judged),
}

/// Fills `app` with demonstrators.
fn set_up(
    app: &mut App,
    config: &CollectConfig,
    scene: &Scene,
    environments: usize,
    threads: usize,
) -> Result<(), DemoError> {
    let spec = config.demonstrator(scene)?;
    let compiled = config.recorded(scene)?;
    let demonstrators = (0..environments).map(|_| spec.build(&compiled));
    let demonstrators = demonstrators.collect::<Result<Vec<_>, _>>()?;
    app.add_plugins(SimPlugin);
    app.add_systems(
        Tick,
        (
            (call_demonstrators, prepare_attempts, begin_attempts)
                .chain()
                .in_set(TickSystems::Reset)
                .after(begin_episodes),
            demonstrators_act.in_set(TickSystems::Decide),
            take_actions.in_set(TickSystems::Act),
            record_attempts.in_set(TickSystems::Record),
        ),
    );
    let world = app.world_mut();
    let shared = world.spawn(compiled).id();
    world.insert_resource(Attempts {
        seed: config.seed,
        shared,
        at_once: environments.min(threads),
        given_out: 0,
        taken: 0,
        judged: BTreeMap::new(),
        failure: None,
    });
    for demonstrator in demonstrators {
        world.spawn(Demonstrating {
            step_limit: config.limit(&*demonstrator),
            images: config.images,
            demonstrator,
            stage: Stage::Idle,
            attempt: 0,
            recording: Recording::default(),
            scene: None,
        });
    }
    Ok(())
}

/// Gives idle demonstrators the next attempts.
fn call_demonstrators(mut demonstrators: Query<&mut Demonstrating>, mut attempts: ResMut<Attempts>) {
    let idle = |demonstrating: &Demonstrating| matches!(demonstrating.stage, Stage::Idle);
    if demonstrators.iter().filter(|it| idle(it)).count() < attempts.at_once {
        return;
    }
    for mut demonstrating in demonstrators.iter_mut().filter(|it| idle(it)) {
        demonstrating.stage = Stage::Called;
        demonstrating.attempt = attempts.given_out;
        attempts.given_out += 1;
    }
}

/// Sets up the attempts of all that have been called, spread over the worker threads.
fn prepare_attempts(
    mut demonstrators: Query<&mut Demonstrating>,
    scenes: Query<&CompiledScene>,
    attempts: Res<Attempts>,
    workers: Res<Workers>,
) {
    let Ok(shared) = scenes.get(attempts.shared) else {
        return;
    };
    let seed = attempts.seed;
    let called = demonstrators
        .iter_mut()
        .filter(|demonstrating| matches!(demonstrating.stage, Stage::Called));
    workers.spread(called, |mut demonstrating| {
        let attempt = demonstrating.attempt;
        let begun = Begun::new(&mut *demonstrating.demonstrator, shared, seed, attempt);
        demonstrating.stage = Stage::Begun(Box::new(begun));
    });
}

/// Spawns the environments of the attempts that have been set up, and their scenes.
fn begin_attempts(
    mut demonstrators: Query<(Entity, &mut Demonstrating)>,
    mut attempts: ResMut<Attempts>,
    mut commands: Commands,
) {
    for (entity, mut demonstrating) in &mut demonstrators {
        let begun = match std::mem::take(&mut demonstrating.stage) {
            Stage::Begun(begun) => *begun,
            other => {
                demonstrating.stage = other;
                continue;
            }
        };
        match begun {
            Ok(Begun { scene, environment }) => {
                let own = scene.map(|scene| commands.spawn(scene).id());
                let scene = InstanceOf(own.unwrap_or(attempts.shared));
                let environment = commands.spawn((environment, scene)).id();
                commands.entity(entity).insert(ActsIn(environment));
                demonstrating.stage = Stage::Running;
                demonstrating.recording = Recording::new(demonstrating.images);
                demonstrating.scene = own;
            }
            Err(failure) => attempts.failure = Some(failure),
        }
    }
}

type Seen<'a> = (
    &'a InstanceOf,
    &'a Physics,
    &'a Measurement,
    &'a Observation,
    &'a TaskProgress,
    Option<(&'a Gaze, &'a Pixels)>,
);

/// Lets every demonstrator act. One that has finished sits out the rest of the tick.
fn demonstrators_act(
    mut demonstrators: Query<(&ActsIn, &mut Demonstrating)>,
    environments: Query<Seen>,
    scenes: Query<&CompiledScene>,
) {
    demonstrators
        .par_iter_mut()
        .batching_strategy(BatchingStrategy::fixed(1))
        .for_each(|(acts_in, mut demonstrating)| {
            let Ok((scene, physics, measurement, observation, progress, sight)) = environments.get(acts_in.0) else {
                return;
            };
            let Ok(scene) = scenes.get(scene.0) else { return };
            let Demonstrating {
                demonstrator,
                stage: stage @ Stage::Running,
                attempt,
                recording,
                ..
            } = &mut *demonstrating
            else {
                return;
            };
            match demonstrator.act(scene, physics, measurement) {
                Some(act) => recording.before(Before {
                    demonstrator: Some(&**demonstrator),
                    scene,
                    physics,
                    observation,
                    sight,
                    act: &act,
                }),
                None => {
                    let judged = recording.judge(&**demonstrator, scene, (physics, observation, progress), *attempt);
                    *stage = Stage::Judged(judged.map(Box::new));
                }
            }
        });
}

/// Hands the demonstrators' actions to their environments.
fn take_actions(demonstrators: Query<(&ActsIn, &Demonstrating)>, mut environments: Query<&mut Action>) {
    for (acts_in, demonstrating) in &demonstrators {
        if matches!(demonstrating.stage, Stage::Running)
            && let Ok(mut action) = environments.get_mut(acts_in.0)
        {
            let len = action.len();
            action.copy_from_slice(demonstrating.recording.action(len));
        }
    }
}

type Came<'a> = (&'a InstanceOf, &'a Physics, &'a TaskProgress, &'a Outcome);

/// Notes the outcome of every step, and takes in what has ended.
fn record_attempts(
    mut demonstrators: Query<(&ActsIn, &mut Demonstrating)>,
    environments: Query<Came>,
    scenes: Query<&CompiledScene>,
    mut attempts: ResMut<Attempts>,
    mut commands: Commands,
) {
    for (acts_in, mut demonstrating) in &mut demonstrators {
        let Ok((scene, physics, progress, outcome)) = environments.get(acts_in.0) else {
            continue;
        };
        let Ok(scene) = scenes.get(scene.0) else { continue };
        let demonstrating = &mut *demonstrating;
        let judged = match std::mem::take(&mut demonstrating.stage) {
            Stage::Judged(judged) => judged,
            Stage::Running => {
                let limit = demonstrating.step_limit;
                let demonstrator = &mut *demonstrating.demonstrator;
                let added = match outcome.fault {
                    None => demonstrator.after(scene, physics, progress),
                    Some(_) => 0.0,
                };
                let recording = &mut demonstrating.recording;
                match recording.after(added, progress, outcome, limit, Some(&*demonstrator)) {
                    Some(rejection) => Err(rejection),
                    None => {
                        demonstrating.stage = Stage::Running;
                        continue;
                    }
                }
            }
            other => {
                demonstrating.stage = other;
                continue;
            }
        };
        attempts.judged.insert(demonstrating.attempt, judged);
        // A scene takes its environment along.
        commands
            .entity(demonstrating.scene.take().unwrap_or(acts_in.0))
            .despawn();
    }
}
