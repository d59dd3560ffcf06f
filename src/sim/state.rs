//! The whole state of an environment as a value, for checkpoints.

use std::sync::Arc;

use bevy::ecs::world::{EntityRef, EntityWorldMut};
use mujoco_rs::mujoco_c::mjtState;
use serde::{Deserialize, Serialize};

use super::delay::DelayedState;
use super::sleep;
use super::start::vary;
use super::{
    Action, Delayed, Episode, FaultCount, InstanceOf, Measurement, NextObservation, NextPixels, NoiseStream,
    Observation, Outcome, Physics, Pixels, SimError, Slot, TaskProgress,
};
use crate::pixels::Gaze;
use crate::scene::CompiledScene;

/// Everything that decides how an environment goes on. Going on from a restored state gives the same bits as never
/// having stopped.
///
/// Floating-point numbers are kept as their bits, so that every file format preserves them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentState {
    physics: Vec<u64>,
    /// Which trees of bodies are asleep, in `MuJoCo`'s terms; empty where none may sleep.
    #[serde(default)]
    asleep: Vec<i32>,
    measurement: Vec<u64>,
    observation: Vec<u32>,
    next_observation: Vec<u32>,
    action: Vec<u32>,
    outcome: Outcome,
    episode: Episode,
    done: Vec<bool>,
    reached: Vec<bool>,
    distance: Vec<u64>,
    #[serde(default)]
    memory: Vec<u64>,
    #[serde(default)]
    figures: Vec<u64>,
    slot: Slot,
    noise: NoiseStream,
    faults: FaultCount,
    #[serde(default)]
    pictures: Option<Pictures>,
    #[serde(default)]
    delayed: Option<DelayedState>,
}

/// What is seen in pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pictures {
    gaze: [u64; 2],
    pixels: Vec<u8>,
    next_pixels: Vec<u8>,
}

impl Pictures {
    /// None for an environment without pictures.
    fn capture(entity: EntityRef) -> Option<Self> {
        Some(Self {
            gaze: entity.get::<Gaze>()?.0.map(f64::to_bits),
            pixels: entity.get::<Pixels>()?.0.clone(),
            next_pixels: entity.get::<NextPixels>()?.0.clone(),
        })
    }
}

impl EnvironmentState {
    /// The state of an environment entity; `None` if it is none.
    pub fn capture(entity: EntityRef) -> Option<Self> {
        let data = &entity.get::<Physics>()?.0;
        let physics = data.state(mjtState::mjSTATE_INTEGRATION as u32);
        let progress = entity.get::<TaskProgress>()?;
        Some(Self {
            physics: bits(&physics),
            asleep: sleep::capture(data),
            measurement: bits(entity.get::<Measurement>()?),
            observation: bits_f32(entity.get::<Observation>()?),
            next_observation: bits_f32(entity.get::<NextObservation>()?),
            action: bits_f32(entity.get::<Action>()?),
            outcome: *entity.get()?,
            episode: *entity.get()?,
            done: progress.done.clone(),
            reached: progress.reached.clone(),
            distance: bits(&progress.distance),
            memory: bits(&progress.memory),
            figures: bits(&progress.figures),
            slot: *entity.get()?,
            noise: entity.get::<NoiseStream>()?.clone(),
            faults: *entity.get()?,
            pictures: Pictures::capture(entity),
            delayed: DelayedState::capture(entity.get::<Delayed>()?),
        })
    }

    /// Puts the state into an environment entity of the same scene.
    ///
    /// # Errors
    /// [`SimError::Mismatch`] if the sizes differ, in which case nothing has changed.
    pub fn restore(&self, entity: &mut EntityWorldMut) -> Result<(), SimError> {
        self.check(entity)?;
        let scene = entity.get::<InstanceOf>().map(|scene| scene.0);
        let scene = scene.and_then(|scene| entity.world().get::<CompiledScene>(scene));
        let model = scene.map(|scene| (scene.randomisation().clone(), Arc::clone(scene.model())));
        if let Some(mut physics) = entity.get_mut::<Physics>() {
            // The model of an episode follows from its number.
            if let Some((randomisation, model)) = &model {
                vary(randomisation, model, self.slot, &self.episode, &mut physics);
            }
            let state = floats(&self.physics);
            let spec = mjtState::mjSTATE_INTEGRATION as u32;
            physics.0.reset();
            physics.0.set_state(&state, spec)?;
            // Poses and whatever else follows from the state are not part of it. Working them out moves the warm
            // start of the solver, which is.
            physics.0.forward();
            physics.0.set_state(&state, spec)?;
            sleep::restore(&mut physics.0, &self.asleep);
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
                memory: floats(&self.memory),
                figures: floats(&self.figures),
            },
            self.slot,
            self.noise.clone(),
            self.faults,
        ));
        if let (Some(stored), Some(mut delayed)) = (&self.delayed, entity.get_mut::<Delayed>()) {
            stored.restore(&mut delayed);
        }
        if let Some(pictures) = &self.pictures {
            entity.insert((
                Gaze(pictures.gaze.map(f64::from_bits)),
                Pixels(pictures.pixels.clone()),
                NextPixels(pictures.next_pixels.clone()),
            ));
        }
        Ok(())
    }

    fn check(&self, entity: &EntityWorldMut) -> Result<(), SimError> {
        let physics = entity
            .get::<Physics>()
            .map(|physics| physics.0.model().state_size(mjtState::mjSTATE_INTEGRATION as u32));
        // A state of an earlier version, or of before sleep was allowed, has all awake.
        let asleep = entity.get::<Physics>().map(|physics| match self.asleep.len() {
            0 => 0,
            _ => sleep::capture(&physics.0).len(),
        });
        let progress = entity.get::<TaskProgress>();
        let seen = |of: fn(&Pictures) -> &[u8]| self.pictures.as_ref().map_or(0, |pictures| of(pictures).len());
        let under_way = entity.get::<Delayed>().map_or([0; 3], Delayed::lengths);
        let stored_under_way = self.delayed.as_ref().map_or([0; 3], DelayedState::lengths);
        let late = entity.get::<Delayed>().zip(self.delayed.as_ref());
        let [wanted, late] = late.map_or([[0; 3]; 2], |(here, stored)| [stored.expected(here), stored.stored()]);
        let lengths = [
            ("physics", physics, self.physics.len()),
            ("sleep", asleep, self.asleep.len()),
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
            (
                "memory of rewards",
                progress.map(|it| it.memory.len()),
                self.memory.len(),
            ),
            ("figures", progress.map(|it| it.figures.len()), self.figures.len()),
            (
                "pixels",
                Some(entity.get::<Pixels>().map_or(0, |it| it.len())),
                seen(|pictures| &pictures.pixels),
            ),
            (
                "next pixels",
                Some(entity.get::<NextPixels>().map_or(0, |it| it.len())),
                seen(|pictures| &pictures.next_pixels),
            ),
            ("delayed actions", Some(under_way[0]), stored_under_way[0]),
            ("delayed observations", Some(under_way[1]), stored_under_way[1]),
            ("delayed pictures", Some(under_way[2]), stored_under_way[2]),
            ("actions under way", Some(wanted[0]), late[0]),
            ("observations under way", Some(wanted[1]), late[1]),
            ("pictures under way", Some(wanted[2]), late[2]),
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
