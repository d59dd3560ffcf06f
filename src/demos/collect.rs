//! Gathering demonstrations from many environments at once.
//!
//! Attempt number `k` depends on the seed and on `k` alone: which environment runs it and how many run beside it makes
//! no difference. Attempts are judged in the order of their numbers, so the demonstrations kept are the same, in the
//! same order, with any number of environments and threads.

use std::collections::{BTreeMap, BTreeSet};

use bevy::ecs::batching::BatchingStrategy;
use bevy::prelude::*;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::kitchen::{Attempt, DemonstratorConfig, KitchenDemonstrator, KitchenElement, Recorded};
use super::spread::Spread;
use super::{DemoError, kitchen::Act};
use crate::app::{self, Ended, StopRequest};
use crate::data;
use crate::rng::{Purpose, stream};
use crate::scene::{CompiledScene, JudgedOn, ObservationTerm, Scene, Shown};
use crate::sim::{
    Action, Environment, Episode, Fault, InstanceOf, Measurement, Observation, Outcome, PartsQuery, Physics, SimPlugin,
    Slot, TaskProgress, begin_episodes, spawn_environment, step,
};
use crate::tick::{Tick, TickSystems};

use KitchenElement::{BottomBurner, HingeCabinet, Kettle, LightSwitch, Microwave, SlideCabinet, TopBurner};

/// The 24 sequences of the human data set of relay policy learning (Gupta et al. 2019), without the one that D4RL's
/// mixed task asks for.
pub fn human_sequences() -> Vec<Vec<KitchenElement>> {
    [
        [Kettle, BottomBurner, HingeCabinet, SlideCabinet],
        [Kettle, BottomBurner, LightSwitch, SlideCabinet],
        [Kettle, LightSwitch, HingeCabinet, SlideCabinet],
        [Kettle, TopBurner, BottomBurner, SlideCabinet],
        [Kettle, TopBurner, LightSwitch, SlideCabinet],
        [Microwave, BottomBurner, HingeCabinet, SlideCabinet],
        [Microwave, BottomBurner, LightSwitch, SlideCabinet],
        [Microwave, Kettle, BottomBurner, HingeCabinet],
        [Microwave, Kettle, BottomBurner, SlideCabinet],
        [Microwave, Kettle, HingeCabinet, SlideCabinet],
        [Microwave, Kettle, LightSwitch, SlideCabinet],
        [Microwave, Kettle, TopBurner, HingeCabinet],
        [Microwave, Kettle, TopBurner, LightSwitch],
        [Microwave, TopBurner, BottomBurner, HingeCabinet],
        [Microwave, TopBurner, BottomBurner, SlideCabinet],
        [TopBurner, BottomBurner, LightSwitch, SlideCabinet],
        [Kettle, BottomBurner, LightSwitch, HingeCabinet],
        [Kettle, TopBurner, BottomBurner, HingeCabinet],
        [Kettle, TopBurner, BottomBurner, LightSwitch],
        [Microwave, Kettle, LightSwitch, HingeCabinet],
        [Microwave, LightSwitch, HingeCabinet, SlideCabinet],
        [Microwave, TopBurner, BottomBurner, LightSwitch],
        [Microwave, TopBurner, LightSwitch, HingeCabinet],
        [TopBurner, BottomBurner, HingeCabinet, SlideCabinet],
    ]
    .map(Vec::from)
    .to_vec()
}

/// What is to be demonstrated, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectConfig {
    /// Successful demonstrations to gather.
    pub episodes: usize,
    /// Master seed.
    pub seed: u64,
    /// Environments that run at the same time; 0 for four for each thread.
    pub environments: usize,
    /// Threads; 0 for all processors.
    pub threads: usize,
    /// Every demonstration does one of these sequences, drawn at random.
    pub sequences: Vec<Vec<KitchenElement>>,
    /// Sequences of just these elements, in any order, are left out: a downstream task must not be in its data.
    pub without: Vec<Vec<KitchenElement>>,
    /// Longer demonstrations are rejected, steps.
    pub step_limit: usize,
    /// How the demonstrator moves.
    pub demonstrator: DemonstratorConfig,
}

impl Default for CollectConfig {
    fn default() -> Self {
        Self {
            episodes: 600,
            seed: 0,
            environments: 0,
            threads: 0,
            sequences: human_sequences(),
            without: vec![vec![Microwave, Kettle, BottomBurner, LightSwitch]],
            step_limit: 500,
            demonstrator: DemonstratorConfig::default(),
        }
    }
}

impl CollectConfig {
    /// The sequences that are left.
    ///
    /// # Errors
    /// [`DemoError::NoSequences`] if none is.
    pub fn mix(&self) -> Result<Vec<Vec<KitchenElement>>, DemoError> {
        let set = |sequence: &Vec<KitchenElement>| sequence.iter().copied().collect::<BTreeSet<_>>();
        let without: BTreeSet<_> = self.without.iter().map(set).collect();
        let mix: Vec<_> = self
            .sequences
            .iter()
            .filter(|sequence| !sequence.is_empty() && !without.contains(&set(sequence)))
            .cloned()
            .collect();
        if mix.is_empty() {
            Err(DemoError::NoSequences)
        } else {
            Ok(mix)
        }
    }
}

/// One successful demonstration.
#[derive(Debug, Clone, PartialEq)]
pub struct Demonstration {
    /// The recording: observations `[T, S]`, actions `[T, 9]`, rewards `[T]` (elements of the sequence done for the
    /// first time in that step), a timeout at its last step (the kitchen goes on), and as infos `qpos`, `qvel` (exact,
    /// before the action), `executed` `[T, 9]`, `element` (index in the scene of what the demonstrator is at),
    /// `completed` `[T, 7]` (elements of the scene that have been done by the end of the step), `attempt`.
    pub episode: data::Episode,
    /// Number of the attempt; with the seed it determines everything.
    pub attempt: u64,
    /// What was done.
    pub sequence: Vec<KitchenElement>,
    /// For each element of the sequence, the step after which it was done for the first time.
    pub completed_at: Vec<usize>,
    /// All attempts at single elements, failed ones too.
    pub attempts: Vec<Attempt>,
    /// Tool point before each step `[T]`, m.
    pub tool: Vec<[f64; 3]>,
    /// Root mean square difference of intended and executed actions of the arm.
    pub correction: f64,
}

/// Why a demonstration was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejection {
    /// This element was not done at the end.
    NotDone(KitchenElement),
    /// It took more steps than allowed.
    TooLong,
    /// A step could not be trusted.
    Fault(Fault),
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::NotDone(element) => write!(to, "{} not done", element.name()),
            Self::TooLong => write!(to, "too long"),
            Self::Fault(fault) => write!(to, "{fault}"),
        }
    }
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

/// What a collection came to.
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
    /// Kept ones, by sequence.
    pub sequences: BTreeMap<Vec<KitchenElement>, usize>,
    /// Whether a stop was requested before the last one was kept.
    pub interrupted: bool,
    /// How varied the kept ones are.
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

    fn reasons(&self) -> String {
        let reasons: Vec<_> = self
            .rejected
            .iter()
            .map(|(reason, count)| format!("{reason}: {count}"))
            .collect();
        reasons.join(", ")
    }
}

/// `scene` for recording: it observes what it did, but neither terminates nor runs out of time, and what is noted as done
/// is so in the true state, whatever the task is judged on.
pub fn recording_scene(scene: &Scene) -> Scene {
    let mut scene = scene.clone();
    for term in &mut scene.observation.terms {
        if let ObservationTerm::Goal { shown } = term
            && *shown == Shown::Task
        {
            *shown = Shown::Elements(scene.task.elements.clone());
        }
    }
    scene.task.elements.clear();
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
/// [`DemoError`] if the scene is no kitchen, fewer than one in four attempts succeeds, or `keep` fails.
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
    let mut app = app::headless(threads, stop);
    let environments = environments.min(config.episodes.max(1));
    set_up(&mut app, config, scene, environments)?;
    let mut report = CollectReport::default();
    let mut judge = |world: &mut World| -> Result<bool, DemoError> {
        let mut gathered = world.resource_mut::<Gathered>();
        while report.episodes < config.episodes
            && let Some(judged) = gathered.next()
        {
            report.attempts += 1;
            match judged {
                Ok(demonstration) => {
                    report.episodes += 1;
                    report.steps += demonstration.episode.len();
                    *report.sequences.entry(demonstration.sequence.clone()).or_default() += 1;
                    report.spread.add(&demonstration);
                    keep(*demonstration)?;
                }
                Err(reason) => *report.rejected.entry(reason).or_default() += 1,
            }
            progress(&CollectProgress {
                episodes: report.episodes,
                target: config.episodes,
                rejected: report.attempts - report.episodes,
                steps: report.steps,
            });
            let enough = report.episodes >= config.episodes;
            if !enough && report.attempts >= 20 && report.episodes * 4 < report.attempts {
                return Err(DemoError::TooManyFailures {
                    attempts: report.attempts,
                    accepted: report.episodes,
                    episodes: config.episodes,
                    reasons: report.reasons(),
                });
            }
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

/// Runs attempt number `attempt` by hand, without a schedule. The result is the one [`collect`] gets.
///
/// # Errors
/// [`DemoError`] if the scene is no kitchen or there is no memory.
pub fn demonstrate(
    config: &CollectConfig,
    scene: &Scene,
    attempt: u64,
) -> Result<Result<Demonstration, Rejection>, DemoError> {
    let scene = CompiledScene::new(recording_scene(scene))?;
    let mut environment = Environment::new(&scene, 0, config.seed)?;
    let mut demonstrator = KitchenDemonstrator::new(&scene, config.demonstrator.clone())?;
    let mix = config.mix()?;
    let mut recording = Recording::default();
    let start = recording.begin(&mut demonstrator, &scene, &mix, config.seed, attempt);
    environment.begin(&scene, attempt, &start);
    while let Some(act) = demonstrator.act(&environment.physics, &environment.measurement) {
        recording.before(&demonstrator, &environment.physics, &environment.observation, &act);
        let outcome = environment.step(&scene, &single(&act.executed));
        if let Some(rejection) = recording.after(&outcome, &environment.progress, config.step_limit) {
            return Ok(Err(rejection));
        }
    }
    Ok(recording.judge(&demonstrator, &environment.physics))
}

fn single(action: &[f64; 9]) -> [f32; 9] {
    action.map(|number| number as f32)
}

// ---------------------------------------------------------------------------------------------------------------------
// One recording
// ---------------------------------------------------------------------------------------------------------------------

/// The recording of the attempt that an environment is at.
#[derive(Component, Debug, Default)]
struct Recording {
    stage: Stage,
    attempt: u64,
    episode: data::Episode,
    qpos: Vec<f64>,
    qvel: Vec<f64>,
    executed: Vec<f32>,
    element: Vec<i64>,
    completed: Vec<u8>,
    /// Place in the scene of each element of the sequence.
    places: Vec<usize>,
    completed_at: Vec<Option<usize>>,
    tool: Vec<[f64; 3]>,
    squares: f64,
}

#[derive(Debug, Clone, PartialEq, Default)]
enum Stage {
    /// Waits for the next attempt.
    #[default]
    Idle,
    /// The demonstrator acts.
    Running,
    /// The demonstrator has finished, and this came of it.
    Judged(Result<Box<Demonstration>, Rejection>),
}

impl Recording {
    /// Begins attempt number `attempt`; returns the joint positions to start from, `[nq]`.
    fn begin(
        &mut self,
        demonstrator: &mut KitchenDemonstrator,
        scene: &CompiledScene,
        mix: &[Vec<KitchenElement>],
        seed: u64,
        attempt: u64,
    ) -> Vec<f64> {
        let mut rng = stream(seed, Purpose::Demonstrator, 0, attempt);
        let sequence = match mix.len() {
            0 => Vec::new(),
            choices => mix[rng.random_range(0..choices)].clone(),
        };
        let place = |element: &KitchenElement| scene.elements().iter().position(|other| other.name == element.name());
        *self = Self {
            stage: Stage::Running,
            attempt,
            places: sequence.iter().filter_map(place).collect(),
            completed_at: vec![None; sequence.len()],
            ..Self::default()
        };
        let mut start = scene.start().to_vec();
        for (joint, offset) in start.iter_mut().zip(demonstrator.begin(sequence, rng)) {
            *joint += offset;
        }
        start
    }

    /// Notes what there is before a step, and the action.
    fn before(&mut self, demonstrator: &KitchenDemonstrator, physics: &Physics, observation: &[f32], act: &Act) {
        self.episode.observations.extend_from_slice(observation);
        self.episode.actions.extend(single(match demonstrator.config().record {
            Recorded::Intended => &act.intended,
            Recorded::Executed => &act.executed,
        }));
        self.executed.extend(single(&act.executed));
        self.qpos.extend_from_slice(physics.qpos());
        self.qvel.extend_from_slice(physics.qvel());
        self.element.push(
            self.places
                .get(demonstrator.current())
                .map_or(-1, |place| *place as i64),
        );
        self.tool.push(demonstrator.tool_position(physics));
        for (intended, executed) in act.intended.iter().zip(&act.executed).take(7) {
            self.squares += (intended - executed).powi(2);
        }
    }

    /// Notes what came of a step; tells if the attempt is over because of it.
    fn after(&mut self, outcome: &Outcome, progress: &TaskProgress, step_limit: usize) -> Option<Rejection> {
        if let Some(fault) = outcome.fault {
            return Some(Rejection::Fault(fault));
        }
        let mut reward = 0.0;
        for (place, completed_at) in self.places.iter().zip(&mut self.completed_at) {
            if completed_at.is_none() && progress.reached.get(*place).copied().unwrap_or(false) {
                *completed_at = Some(self.episode.rewards.len() + 1);
                reward += 1.0;
            }
        }
        self.completed
            .extend(progress.reached.iter().map(|reached| u8::from(*reached)));
        self.episode.rewards.push(reward);
        self.episode.terminals.push(false);
        self.episode.timeouts.push(false);
        (self.episode.rewards.len() > step_limit).then_some(Rejection::TooLong)
    }

    /// Ends the recording: kept if every element of the sequence is done now.
    fn judge(&mut self, demonstrator: &KitchenDemonstrator, physics: &Physics) -> Result<Demonstration, Rejection> {
        let recording = std::mem::replace(
            self,
            Self {
                attempt: self.attempt,
                ..Self::default()
            },
        );
        for element in demonstrator.sequence() {
            if !demonstrator.is_done(*element, physics) {
                return Err(Rejection::NotDone(*element));
            }
        }
        let mut episode = recording.episode;
        if let Some(last) = episode.timeouts.last_mut() {
            *last = true;
        }
        let rows = episode.len();
        let elements = recording.completed.len().checked_div(rows).unwrap_or(0);
        episode.infos = BTreeMap::from([
            (
                "qpos".to_owned(),
                data::Column::f64(physics.qpos().len(), recording.qpos),
            ),
            (
                "qvel".to_owned(),
                data::Column::f64(physics.qvel().len(), recording.qvel),
            ),
            ("executed".to_owned(), data::Column::f32(9, recording.executed)),
            ("element".to_owned(), data::Column::i64(1, recording.element)),
            ("completed".to_owned(), data::Column::u8(elements, recording.completed)),
            (
                "attempt".to_owned(),
                data::Column::i64(1, vec![recording.attempt as i64; rows]),
            ),
        ]);
        Ok(Demonstration {
            attempt: recording.attempt,
            sequence: demonstrator.sequence().to_vec(),
            completed_at: recording.completed_at.into_iter().flatten().collect(),
            attempts: demonstrator.attempts().to_vec(),
            tool: recording.tool,
            correction: (recording.squares / (7 * rows.max(1)) as f64).sqrt(),
            episode,
        })
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Many at once
// ---------------------------------------------------------------------------------------------------------------------

/// Attempts that are given out, and those that have been judged.
#[derive(Resource, Debug)]
struct Gathered {
    seed: u64,
    step_limit: usize,
    mix: Vec<Vec<KitchenElement>>,
    given_out: u64,
    taken: u64,
    judged: BTreeMap<u64, Result<Box<Demonstration>, Rejection>>,
}

impl Gathered {
    /// The next attempt in the order of numbers, if it has been judged.
    fn next(&mut self) -> Option<Result<Box<Demonstration>, Rejection>> {
        let judged = self.judged.remove(&self.taken)?;
        self.taken += 1;
        Some(judged)
    }
}

/// Fills `app` with environments that gather demonstrations.
fn set_up(app: &mut App, config: &CollectConfig, scene: &Scene, environments: usize) -> Result<(), DemoError> {
    let mix = config.mix()?;
    let compiled = CompiledScene::new(recording_scene(scene))?;
    app.add_plugins(SimPlugin);
    app.insert_resource(Gathered {
        seed: config.seed,
        step_limit: config.step_limit,
        mix,
        given_out: 0,
        taken: 0,
        judged: BTreeMap::new(),
    });
    app.add_systems(
        Tick,
        (
            begin_demonstrations.in_set(TickSystems::Reset).after(begin_episodes),
            demonstrators_act.in_set(TickSystems::Decide),
            record_demonstrations.in_set(TickSystems::Record),
        ),
    );
    let demonstrators = (0..environments)
        .map(|_| KitchenDemonstrator::new(&compiled, config.demonstrator.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let world = app.world_mut();
    let scene = world.spawn(compiled).id();
    for (slot, demonstrator) in demonstrators.into_iter().enumerate() {
        let environment = spawn_environment(world, scene, slot, config.seed)?;
        world
            .entity_mut(environment)
            .insert((demonstrator, Recording::default()));
    }
    Ok(())
}

type Begin<'a> = (
    &'a InstanceOf,
    &'a mut Physics,
    PartsQuery,
    &'a mut KitchenDemonstrator,
    &'a mut Recording,
);

/// Gives every idle environment the next attempt.
fn begin_demonstrations(mut environments: Query<Begin>, scenes: Query<&CompiledScene>, mut gathered: ResMut<Gathered>) {
    for (scene, mut physics, mut parts, mut demonstrator, mut recording) in &mut environments {
        if recording.stage != Stage::Idle {
            continue;
        }
        let Ok(scene) = scenes.get(scene.0) else { continue };
        let attempt = gathered.given_out;
        gathered.given_out += 1;
        let start = recording.begin(&mut demonstrator, scene, &gathered.mix, gathered.seed, attempt);
        step::place(&mut physics, &start);
        // An attempt has the noise of slot 0 wherever it is made.
        let episode = Episode::new(gathered.seed, attempt);
        parts.parts().begin(scene, &physics, Slot(0), episode);
    }
}

type Acting<'a> = (
    &'a Physics,
    &'a Measurement,
    &'a Observation,
    &'a mut Action,
    &'a mut KitchenDemonstrator,
    &'a mut Recording,
);

/// Lets every demonstrator act. One that has finished sits out the rest of the tick.
fn demonstrators_act(mut environments: Query<Acting>) {
    environments
        .par_iter_mut()
        .batching_strategy(BatchingStrategy::fixed(1))
        .for_each(
            |(physics, measurement, observation, mut action, mut demonstrator, mut recording)| {
                if recording.stage != Stage::Running {
                    return;
                }
                match demonstrator.act(physics, measurement) {
                    Some(act) => {
                        recording.before(&demonstrator, physics, observation, &act);
                        action.copy_from_slice(&single(&act.executed));
                    }
                    None => recording.stage = Stage::Judged(recording.judge(&demonstrator, physics).map(Box::new)),
                }
            },
        );
}

/// Notes the outcome of every step, and takes in what has ended.
fn record_demonstrations(
    mut environments: Query<(&Outcome, &TaskProgress, &mut Recording)>,
    mut gathered: ResMut<Gathered>,
) {
    for (outcome, progress, mut recording) in &mut environments {
        let judged = match std::mem::take(&mut recording.stage) {
            Stage::Idle => continue,
            Stage::Judged(judged) => judged,
            Stage::Running => match recording.after(outcome, progress, gathered.step_limit) {
                Some(rejection) => Err(rejection),
                None => {
                    recording.stage = Stage::Running;
                    continue;
                }
            },
        };
        gathered.judged.insert(recording.attempt, judged);
    }
}
