//! The whole state of an environment as a value, for checkpoints.

use bevy::ecs::world::{EntityRef, EntityWorldMut};
use mujoco_rs::mujoco_c::mjtState;
use serde::{Deserialize, Serialize};

use super::{
    Action, Episode, FaultCount, Measurement, NextObservation, NoiseStream, Observation, Outcome, Physics, SimError,
    Slot, TaskProgress,
};

/// Everything that decides how an environment goes on. Going on from a restored state gives the same bits as never
/// having stopped.
///
/// Floating-point numbers are kept as their bits, so that every file format preserves them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentState {
    physics: Vec<u64>,
    measurement: Vec<u64>,
    observation: Vec<u32>,
    next_observation: Vec<u32>,
    action: Vec<u32>,
    outcome: Outcome,
    episode: Episode,
    done: Vec<bool>,
    reached: Vec<bool>,
    distance: Vec<u64>,
    slot: Slot,
    noise: NoiseStream,
    faults: FaultCount,
}

impl EnvironmentState {
    /// The state of an environment entity; `None` if it is none.
    pub fn capture(entity: EntityRef) -> Option<Self> {
        let physics = entity.get::<Physics>()?.0.state(mjtState::mjSTATE_INTEGRATION as u32);
        let progress = entity.get::<TaskProgress>()?;
        Some(Self {
            physics: bits(&physics),
            measurement: bits(entity.get::<Measurement>()?),
            observation: bits_f32(entity.get::<Observation>()?),
            next_observation: bits_f32(entity.get::<NextObservation>()?),
            action: bits_f32(entity.get::<Action>()?),
            outcome: *entity.get()?,
            episode: *entity.get()?,
            done: progress.done.clone(),
            reached: progress.reached.clone(),
            distance: bits(&progress.distance),
            slot: *entity.get()?,
            noise: entity.get::<NoiseStream>()?.clone(),
            faults: *entity.get()?,
        })
    }

    /// Puts the state into an environment entity of the same scene.
    ///
    /// # Errors
    /// [`SimError::Mismatch`] if the sizes differ, in which case nothing has changed.
    pub fn restore(&self, entity: &mut EntityWorldMut) -> Result<(), SimError> {
        self.check(entity)?;
        if let Some(mut physics) = entity.get_mut::<Physics>() {
            let state = floats(&self.physics);
            let spec = mjtState::mjSTATE_INTEGRATION as u32;
            physics.0.reset();
            physics.0.set_state(&state, spec)?;
            // Poses and whatever else follows from the state are not part of it. Working them out moves the warm
            // start of the solver, which is.
            physics.0.forward();
            physics.0.set_state(&state, spec)?;
        }
        entity.insert((
            Measurement(floats(&self.measurement)),
            Observation(floats_f32(&self.observation)),
            NextObservation(floats_f32(&self.next_observation)),
            Action(floats_f32(&self.action)),
            self.outcome,
            self.episode,
            TaskProgress {
                done: self.done.clone(),
                reached: self.reached.clone(),
                distance: floats(&self.distance),
            },
            self.slot,
            self.noise.clone(),
            self.faults,
        ));
        Ok(())
    }

    fn check(&self, entity: &EntityWorldMut) -> Result<(), SimError> {
        let physics = entity
            .get::<Physics>()
            .map(|physics| physics.0.model().state_size(mjtState::mjSTATE_INTEGRATION as u32));
        let progress = entity.get::<TaskProgress>();
        let lengths = [
            ("physics", physics, self.physics.len()),
            (
                "measurement",
                entity.get::<Measurement>().map(|it| it.len()),
                self.measurement.len(),
            ),
            (
                "observation",
                entity.get::<Observation>().map(|it| it.len()),
                self.observation.len(),
            ),
            (
                "next observation",
                entity.get::<NextObservation>().map(|it| it.len()),
                self.next_observation.len(),
            ),
            ("action", entity.get::<Action>().map(|it| it.len()), self.action.len()),
            ("task", progress.map(|it| it.done.len()), self.done.len()),
            ("elements", progress.map(|it| it.reached.len()), self.reached.len()),
            ("distances", progress.map(|it| it.distance.len()), self.distance.len()),
        ];
        for (name, here, stored) in lengths {
            if here != Some(stored) {
                let here = here.map_or_else(|| "no".into(), |here| here.to_string());
                return Err(SimError::Mismatch(format!(
                    "{name} has {stored} numbers stored, {here} here"
                )));
            }
        }
        Ok(())
    }
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn bits_f32(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn floats(bits: &[u64]) -> Vec<f64> {
    bits.iter().map(|bits| f64::from_bits(*bits)).collect()
}

fn floats_f32(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|bits| f32::from_bits(*bits)).collect()
}
