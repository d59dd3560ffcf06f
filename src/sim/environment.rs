//! Making environments, and running one without a schedule.

use std::sync::Arc;

use bevy::prelude::*;
use mujoco_rs::wrappers::mj_data::MjData;

use super::step::Parts;
use super::{
    Action, Delayed, Episode, Eyes, FaultCount, InstanceOf, Measurement, NextObservation, NoiseStream, Observation,
    Outcome, Physics, SimError, Slot, TaskProgress, step,
};
use crate::scene::CompiledScene;

/// All components of an environment but [`InstanceOf`].
///
/// As a bundle it is spawned with `InstanceOf(scene)`. On its own it runs an environment by hand, for demonstrators and
/// tests; the numbers are the same either way.
#[derive(Bundle, Debug)]
pub struct Environment {
    /// State of the physics.
    pub physics: Physics,
    /// What the agent sees.
    pub observation: Observation,
    /// What it sees after the step.
    pub next_observation: NextObservation,
    /// The latest observation in double precision.
    pub measurement: Measurement,
    /// What the agent wants.
    pub action: Action,
    /// What came of the last step.
    pub outcome: Outcome,
    /// The running episode.
    pub episode: Episode,
    /// How far the task has come.
    pub progress: TaskProgress,
    /// Place among the environments of the same seed.
    pub slot: Slot,
    /// Random numbers of the observation noise.
    pub noise: NoiseStream,
    /// Episodes that ended with a fault.
    pub faults: FaultCount,
    /// What is under way.
    pub delayed: Delayed,
    /// What the agent sees in pictures.
    pub eyes: Eyes,
}

impl Environment {
    /// An environment at the start of its episode 0.
    ///
    /// # Errors
    /// [`SimError::Data`] if there is not enough memory for the state of the physics.
    pub fn new(scene: &CompiledScene, slot: usize, seed: u64) -> Result<Self, SimError> {
        let episode = Episode::new(seed, 0);
        let slot = Slot(slot);
        let mut environment = Self {
            physics: Physics(MjData::try_new(Arc::clone(scene.model()))?),
            observation: Observation(vec![0.0; scene.observation_len()]),
            next_observation: NextObservation(vec![0.0; scene.observation_len()]),
            measurement: Measurement(vec![0.0; scene.observation_len()]),
            action: Action(vec![0.0; scene.action_len()]),
            outcome: Outcome::default(),
            episode,
            progress: TaskProgress {
                done: vec![false; scene.task().len()],
                reached: vec![false; scene.elements().len()],
                distance: vec![0.0; scene.elements().len()],
                memory: vec![0.0; scene.memory_len()],
                figures: vec![0.0; scene.figures().len()],
            },
            slot,
            noise: NoiseStream::of(slot, &episode),
            faults: FaultCount::default(),
            delayed: Delayed::of(scene),
            eyes: Eyes::of(scene),
        };
        environment.begin_anew(scene, 0);
        Ok(environment)
    }

    /// Begins episode `index` as the scene says: from its start state, or a drawn one. If it cannot start so, that counts
    /// as a [fault](FaultCount).
    pub fn begin_anew(&mut self, scene: &CompiledScene, index: u64) {
        let episode = Episode::new(self.episode.seed, index);
        let started = step::start(scene, self.slot, &episode, &mut self.physics);
        self.begin_here(scene, index);
        self.faults.0 += u64::from(started.is_err());
    }

    /// Begins episode `index` from joint positions `start` (`[nq]`, often [`CompiledScene::start`]) at rest, with the model
    /// of that episode.
    pub fn begin(&mut self, scene: &CompiledScene, index: u64, start: &[f64]) {
        let episode = Episode::new(self.episode.seed, index);
        step::vary_model(scene, self.slot, &episode, &mut self.physics);
        step::place(&mut self.physics, start);
        self.begin_here(scene, index);
    }

    /// Begins episode `index` in the state that the physics has been put into, with all that follows from it worked out.
    pub fn begin_here(&mut self, scene: &CompiledScene, index: u64) {
        let (slot, episode) = (self.slot, Episode::new(self.episode.seed, index));
        let (mut parts, physics, observation) = self.parts();
        parts.begin(scene, physics, slot, episode);
        observation.copy_from_slice(parts.next_observation);
        if let Some(sighted) = &mut self.eyes.0 {
            sighted.begin(&self.physics, &mut self.delayed);
        }
    }

    /// Takes one control step with `action` (`[action_len]`).
    ///
    /// Afterwards `observation` and `measurement` show the state after the step, unless `outcome` has a fault: then
    /// they still show the last good one. An ended episode is not begun anew.
    pub fn step<A: Copy + Into<f64>>(&mut self, scene: &CompiledScene, action: &[A]) -> Outcome {
        self.outcome = step::advance(scene, &self.measurement, action, &mut self.delayed, &mut self.physics);
        let (mut parts, physics, observation) = self.parts();
        parts.end_step(scene, physics, observation, action);
        observation.copy_from_slice(parts.next_observation);
        if let Some(sighted) = &mut self.eyes.0 {
            sighted.step(&self.physics, &self.outcome, &mut self.delayed);
        }
        self.outcome
    }

    fn parts(&mut self) -> (Parts<'_>, &Physics, &mut Observation) {
        let parts = Parts {
            episode: &mut self.episode,
            noise: &mut self.noise,
            measurement: &mut self.measurement,
            next_observation: &mut self.next_observation,
            progress: &mut self.progress,
            outcome: &mut self.outcome,
            faults: &mut self.faults,
            delayed: &mut self.delayed,
        };
        (parts, &self.physics, &mut self.observation)
    }
}

/// Spawns an environment of the scene entity `scene`, at the start of its episode 0.
///
/// `slot` and `seed` name its random streams, so no two environments should share both.
///
/// # Errors
/// [`SimError::NotAScene`] if `scene` has no [`CompiledScene`], otherwise as [`Environment::new`].
pub fn spawn_environment(world: &mut World, scene: Entity, slot: usize, seed: u64) -> Result<Entity, SimError> {
    let compiled = world.get::<CompiledScene>(scene).ok_or(SimError::NotAScene(scene))?;
    let environment = Environment::new(compiled, slot, seed)?;
    Ok(world.spawn((environment, InstanceOf(scene))).id())
}
