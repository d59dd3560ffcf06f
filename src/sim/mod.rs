//! Environments: running copies of a [scene](crate::scene), stepped in parallel.
//!
//! | component | holds |
//! |---|---|
//! | [`Physics`] | the `MuJoCo` state, and the model, mostly shared by all environments of a scene |
//! | [`Observation`] | what the agent sees during this tick |
//! | [`NextObservation`] | what it sees after the step, also when the episode ends |
//! | [`Measurement`] | the latest observation in double precision, which the control law builds on |
//! | [`Action`] | what the agent wants |
//! | [`Outcome`] | reward, `terminated`, `truncated`, fault of the last step |
//! | [`Episode`] | seed, number of the episode, step and return so far |
//! | [`TaskProgress`] | which elements are done |
//! | [`Slot`] | place among the environments of the same seed |
//! | [`NoiseStream`] | the episode's random numbers |
//! | [`FaultCount`] | how many episodes ended with a [`Fault`] |
//! | [`Delayed`] | actions and observations that are under way, in scenes with delays |
//! | [`InstanceOf`] | the scene entity |
//! | [`Pixels`], [`NextPixels`] | the pictures that it sees, in scenes that have them |
//! | [`Sight`](crate::pixels::Sight), [`Gaze`](crate::pixels::Gaze) | what draws them, and where it looks |
//!
//! One tick of an environment is
//!
//! ```text
//! Reset     an ended episode gives way to the next one            begin_episodes
//! Observe   NextObservation of the last tick becomes Observation  observe_all
//! Decide    somebody writes Action
//! Simulate  Action moves the servos, the physics advances         simulate_all
//! Score     NextObservation, Outcome, Episode, TaskProgress       score_all
//! ```
//!
//! so from Score on, a tick holds one whole transition: `Observation`, `Action`, `Outcome`, `NextObservation`. Resets
//! are *next-step* resets in Gymnasium's terms: the last transition of an episode keeps its own next observation.
//!
//! The functions in [`step`] do the work on plain values; [`Environment`] runs them without a schedule:
//!
//! ```
//! use apprentice::scene::CompiledScene;
//! use apprentice::sim::Environment;
//!
//! let scene = CompiledScene::load("kitchen", &["observation.noise=false".into()])?;
//! let mut environment = Environment::new(&scene, 0, 7)?;
//! let outcome = environment.step(&scene, &[0.5_f32; 9]);
//! assert!(!outcome.ended());
//! assert_eq!(environment.observation.len(), 60);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod control;
mod delay;
mod environment;
mod sight;
mod sleep;
pub mod stack;
mod start;
mod state;
pub mod step;
pub mod terms;

pub use delay::Delayed;
pub use environment::{Environment, spawn_environment};
pub use sight::{Eyes, NextPixels, Pixels, SightQuery, SightQueryItem, Sighted};
pub use state::EnvironmentState;

use std::sync::Arc;

use bevy::ecs::query::QueryData;
use bevy::prelude::*;
use mujoco_rs::error::MjDataError;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;
use serde::{Deserialize, Serialize};

use crate::rng::{Purpose, Stream, stream};
use crate::scene::CompiledScene;
use crate::tick::{Tick, TickSystems, Workers};
use crate::watchdog::{Work, busy};

/// State of the physics. The model behind it is shared by all environments of a scene, unless its episodes
/// [differ](crate::scene::Randomise) in it: then each environment has a copy of its own.
#[derive(Component, Debug, Deref, DerefMut)]
pub struct Physics(pub MjData<Arc<MjModel>>);

/// What the agent sees in this tick, `[observation_len]`; in scenes with [`Delays`](crate::scene::Delays) an earlier state.
#[derive(Component, Debug, Clone, PartialEq, Deref, DerefMut)]
pub struct Observation(pub Vec<f32>);

/// What the agent sees after this tick's step, `[observation_len]`; valid from [`TickSystems::Score`] on.
///
/// After a [fault](Fault) it repeats [`Observation`], so that nothing non-finite gets out.
#[derive(Component, Debug, Clone, PartialEq, Deref, DerefMut)]
pub struct NextObservation(pub Vec<f32>);

/// The latest observation in double precision, `[observation_len]`.
///
/// The control law starts from the *measured* joints, noise included. From Reset to Simulate this is [`Observation`],
/// from Score on [`NextObservation`]; where observations are [late](Delayed) it is what those will be.
#[derive(Component, Debug, Clone, PartialEq, Deref, DerefMut)]
pub struct Measurement(pub Vec<f64>);

/// What the agent wants, `[action_len]`, each within -1 and 1 (clipped otherwise).
#[derive(Component, Debug, Clone, PartialEq, Deref, DerefMut)]
pub struct Action(pub Vec<f32>);

/// What came of the last step.
#[derive(Component, Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// What the elements of the task that were counted in this step and the further terms of the reward give.
    pub reward: f32,
    /// The task is done, and ends with that, or it has failed: nothing more can be earned.
    pub terminated: bool,
    /// The episode was cut off: by its time limit, or by a fault.
    pub truncated: bool,
    /// Why the step cannot be trusted. Such a transition must not be learned from.
    pub fault: Option<Fault>,
}

impl Outcome {
    /// Whether the episode has ended.
    pub fn ended(&self) -> bool {
        self.terminated || self.truncated
    }
}

/// Why a step cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// The action held a number that is not finite, or not as many numbers as the scene has servos.
    #[error("unusable action")]
    Action,
    /// The physics diverged: `MuJoCo` reported bad positions, velocities or accelerations, or one is not finite.
    #[error("unstable")]
    Unstable,
    /// `MuJoCo` had no memory for all contacts and constraints and left some out: things fall through each other. The
    /// model needs more (`<size memory="..."/>`).
    #[error("not enough memory for all contacts (`<size memory=\"...\"/>` in the model)")]
    Memory,
}

/// The running episode.
#[derive(Component, Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Episode {
    /// Master seed of the environment's random streams.
    pub seed: u64,
    /// Number of the episode, from 0.
    pub index: u64,
    /// Control steps taken.
    pub step: u32,
    /// Sum of the rewards.
    pub return_: f32,
}

impl Episode {
    /// Episode `index` before its first step.
    pub fn new(seed: u64, index: u64) -> Self {
        Self {
            seed,
            index,
            ..Self::default()
        }
    }
}

/// How far the task has come in the running episode.
#[derive(Component, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskProgress {
    /// For each element of the task, in its order: has been counted. Stays so until the episode ends.
    pub done: Vec<bool>,
    /// For each element of the scene: has been at its goal in this episode, rewarded or not.
    pub reached: Vec<bool>,
    /// For each element of the scene: distance to its goal after the last step.
    pub distance: Vec<f64>,
    /// What terms of the reward remember within an episode, one after another.
    pub memory: Vec<f64>,
    /// What terms of the reward report, such as the height of a tower; named by
    /// [`CompiledScene::figures`](crate::scene::CompiledScene::figures).
    pub figures: Vec<f64>,
}

impl TaskProgress {
    /// Elements of the task that have been counted.
    pub fn completed(&self) -> usize {
        self.done.iter().filter(|done| **done).count()
    }
}

/// Place of an environment among those of the same seed. With the seed it names the environment's random streams.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot(pub usize);

/// Random numbers of the running episode's observation noise.
#[derive(Component, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoiseStream(pub Stream);

impl NoiseStream {
    /// The stream of one episode.
    pub fn of(slot: Slot, episode: &Episode) -> Self {
        Self(stream(
            episode.seed,
            Purpose::ObservationNoise,
            slot.0 as u64,
            episode.index,
        ))
    }
}

/// Episodes of this environment that ended with a [`Fault`].
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FaultCount(pub u64);

/// Environment → scene: the entity with the [`CompiledScene`].
#[derive(Component, Debug, Clone, PartialEq, Eq)]
#[relationship(relationship_target = Instances)]
pub struct InstanceOf(pub Entity);

/// Scene → its environments. They are despawned with the scene.
#[derive(Component, Debug)]
#[relationship_target(relationship = InstanceOf, linked_spawn)]
pub struct Instances(Vec<Entity>);

/// What can go wrong when an environment is made or restored.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// `MuJoCo` could not set up or restore a state.
    #[error("MuJoCo: {0}")]
    Data(#[from] MjDataError),
    /// The scene entity has no compiled scene.
    #[error("entity {0} is no scene")]
    NotAScene(Entity),
    /// A stored state belongs to another scene.
    #[error("the stored state does not fit this environment: {0}")]
    Mismatch(String),
}

/// Runs all environments as part of [`Tick`]. Needs the [`TickPlugin`](crate::tick::TickPlugin).
pub struct SimPlugin;

impl Plugin for SimPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(
            Tick,
            (
                begin_episodes.in_set(TickSystems::Reset),
                observe_all.in_set(TickSystems::Observe),
                simulate_all.in_set(TickSystems::Simulate),
                score_all.in_set(TickSystems::Score),
            ),
        );
    }
}

/// Query for the [`step::Parts`] of an environment.
#[derive(QueryData)]
#[query_data(mutable)]
pub struct PartsQuery {
    episode: &'static mut Episode,
    noise: &'static mut NoiseStream,
    measurement: &'static mut Measurement,
    next_observation: &'static mut NextObservation,
    progress: &'static mut TaskProgress,
    outcome: &'static mut Outcome,
    faults: &'static mut FaultCount,
    delayed: &'static mut Delayed,
}

impl PartsQueryItem<'_, '_> {
    /// The parts.
    pub fn parts(&mut self) -> step::Parts<'_> {
        step::Parts {
            episode: &mut self.episode,
            noise: &mut self.noise,
            measurement: &mut self.measurement,
            next_observation: &mut self.next_observation,
            progress: &mut self.progress,
            outcome: &mut self.outcome,
            faults: &mut self.faults,
            delayed: &mut self.delayed,
        }
    }
}

type Begin<'a> = (&'a InstanceOf, &'a Slot, &'a mut Physics, PartsQuery);

/// Starts the next episode of every environment whose last one has ended.
pub fn begin_episodes(mut environments: Query<Begin>, scenes: Query<&CompiledScene>, workers: Res<Workers>) {
    if !environments.iter().any(|(.., parts)| parts.outcome.ended()) {
        return;
    }
    workers.spread(environments.iter_mut().enumerate(), |(number, environment)| {
        let (scene, slot, mut physics, mut parts) = environment;
        if !parts.outcome.ended() {
            return;
        }
        let Ok(scene) = scenes.get(scene.0) else { return };
        let next = Episode::new(parts.episode.seed, parts.episode.index + 1);
        busy(Work::Environment(number), || {
            parts.parts().begin_anew(scene, &mut physics, *slot, next);
        });
    });
}

/// Breaks off the running episode of one environment between two ticks, and begins the one with this number, or the
/// next one. Returns the number of the new one; `None` for what is no environment.
///
/// No step of the tick before is taken back, but nothing ends either: whoever records the episode has to forget it.
pub fn restart_episode(
    In((environment, index)): In<(Entity, Option<u64>)>,
    mut environments: Query<Begin>,
    scenes: Query<&CompiledScene>,
) -> Option<u64> {
    let (scene, slot, mut physics, mut parts) = environments.get_mut(environment).ok()?;
    let scene = scenes.get(scene.0).ok()?;
    let next = Episode::new(parts.episode.seed, index.unwrap_or(parts.episode.index + 1));
    parts.parts().begin_anew(scene, &mut physics, *slot, next);
    Some(next.index)
}

type Observe<'a> = (
    &'a mut Observation,
    &'a mut NextObservation,
    Option<(&'a Physics, &'a Episode, &'a mut Delayed, SightQuery)>,
);

/// Makes the observation after the last step, pictures included, the one that agents decide on.
pub fn observe_all(mut environments: Query<Observe>) {
    for (mut observation, mut next, sighted) in &mut environments {
        std::mem::swap(&mut observation.0, &mut next.0);
        if let Some((physics, episode, mut delayed, mut sight)) = sighted {
            sight.observe(physics, &mut delayed, episode.step == 0);
        }
    }
}

type Simulate<'a> = (
    &'a InstanceOf,
    &'a Action,
    &'a Measurement,
    &'a mut Physics,
    &'a mut Outcome,
    &'a mut Delayed,
    Option<SightQuery>,
);

/// Advances the physics of every environment by one control step, and draws what is seen then, spread over the worker
/// threads.
pub fn simulate_all(mut environments: Query<Simulate>, scenes: Query<&CompiledScene>, workers: Res<Workers>) {
    workers.spread(environments.iter_mut().enumerate(), |(number, environment)| {
        let (scene, action, measurement, mut physics, mut outcome, mut delayed, sight) = environment;
        let Ok(scene) = scenes.get(scene.0) else { return };
        busy(Work::Environment(number), || {
            *outcome = step::advance(scene, measurement, action, &mut delayed, &mut physics);
            if let Some(mut sight) = sight {
                sight.look(&physics, &outcome, &mut delayed);
            }
        });
    });
}

type Score<'a> = (&'a InstanceOf, &'a Physics, &'a Observation, &'a Action, PartsQuery);

/// Observes the state after the step and works out rewards, task progress and the end of episodes.
pub fn score_all(mut environments: Query<Score>, scenes: Query<&CompiledScene>) {
    for (scene, physics, observation, action, mut parts) in &mut environments {
        let Ok(scene) = scenes.get(scene.0) else { continue };
        parts.parts().end_step(scene, physics, observation, action);
    }
}
