//! What agents see of an environment in pictures, in scenes with `observation.pixels`.
//!
//! The components here are beside [`Observation`](super::Observation) and
//! [`NextObservation`](super::NextObservation) and follow the same beat: [`simulate_all`](super::simulate_all) draws
//! [`NextPixels`] where the physics has been stepped, on the same thread, and [`observe_all`](super::observe_all) makes
//! them [`Pixels`]. The first picture of an episode is drawn when it is observed. Environments of other scenes have none
//! of these components.

use std::sync::Arc;

use bevy::ecs::lifecycle::HookContext;
use bevy::ecs::query::QueryData;
use bevy::ecs::world::DeferredWorld;
use bevy::prelude::*;

use super::{Delayed, Outcome, Physics};
use crate::pixels::{CompiledEye, Gaze, Sight};
use crate::scene::CompiledScene;

/// The pictures that the agent sees in this tick, `[3 * frames, size, size]`, oldest first; see [`crate::pixels`].
#[derive(Component, Debug, Clone, PartialEq, Eq, Deref, DerefMut)]
pub struct Pixels(pub Vec<u8>);

/// The pictures it sees after this tick's step, also when the episode ends; valid from Simulate on.
///
/// After a [fault](super::Fault) they repeat [`Pixels`].
#[derive(Component, Debug, Clone, PartialEq, Eq, Deref, DerefMut)]
pub struct NextPixels(pub Vec<u8>);

/// All components that an environment has for its pictures.
#[derive(Bundle, Debug)]
pub struct Sighted {
    /// Draws them.
    pub sight: Sight,
    /// The point looked at.
    pub gaze: Gaze,
    /// What the agent sees.
    pub pixels: Pixels,
    /// What it sees after the step.
    pub next_pixels: NextPixels,
}

impl Sighted {
    fn new(eye: Arc<CompiledEye>) -> Self {
        let dark = vec![0; eye.len()];
        Self {
            sight: Sight(eye),
            gaze: Gaze::default(),
            pixels: Pixels(dark.clone()),
            next_pixels: NextPixels(dark),
        }
    }

    /// Begins an episode in the state the physics is in.
    pub(super) fn begin(&mut self, physics: &Physics, delayed: &mut Delayed) {
        begin(&self.sight, physics, &mut self.gaze, &mut self.pixels, delayed);
        self.next_pixels.copy_from_slice(&self.pixels);
    }

    /// Sees the state after a step.
    pub(super) fn step(&mut self, physics: &Physics, outcome: &Outcome, delayed: &mut Delayed) {
        let Self {
            sight,
            gaze,
            pixels,
            next_pixels,
        } = self;
        look(sight, physics, outcome, delayed, gaze, pixels, next_pixels);
        pixels.copy_from_slice(next_pixels);
    }
}

/// Whether an [`Environment`](super::Environment) has pictures, and which. In a world it is replaced, as soon as it is
/// added, by the components of [`Sighted`], or by nothing.
#[derive(Component, Debug, Default)]
#[component(on_add = open)]
pub struct Eyes(pub Option<Box<Sighted>>);

impl Eyes {
    /// Eyes for an environment of the scene.
    pub(super) fn of(scene: &CompiledScene) -> Self {
        Self(scene.eye().map(|eye| Box::new(Sighted::new(Arc::clone(eye)))))
    }
}

fn open(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    let sighted = world.get_mut::<Eyes>(entity).and_then(|mut eyes| eyes.0.take());
    let mut commands = world.commands();
    let mut environment = commands.entity(entity);
    environment.remove::<Eyes>();
    if let Some(sighted) = sighted {
        environment.insert(*sighted);
    }
}

/// Query for what an environment sees.
#[derive(QueryData)]
#[query_data(mutable)]
pub struct SightQuery {
    sight: &'static Sight,
    gaze: &'static mut Gaze,
    pixels: &'static mut Pixels,
    next_pixels: &'static mut NextPixels,
}

impl SightQueryItem<'_, '_> {
    /// Sees the state after a step.
    pub(super) fn look(&mut self, physics: &Physics, outcome: &Outcome, delayed: &mut Delayed) {
        let Self {
            sight,
            gaze,
            pixels,
            next_pixels,
        } = self;
        look(sight, physics, outcome, delayed, gaze, pixels, next_pixels);
    }

    /// Makes the pictures after the last step those of this tick; at the `start` of an episode they are drawn now.
    pub(super) fn observe(&mut self, physics: &Physics, delayed: &mut Delayed, start: bool) {
        if start {
            begin(self.sight, physics, &mut self.gaze, &mut self.pixels, delayed);
        } else {
            std::mem::swap(&mut self.pixels.0, &mut self.next_pixels.0);
        }
    }
}

fn begin(sight: &Sight, physics: &Physics, gaze: &mut Gaze, seen: &mut [u8], delayed: &mut Delayed) {
    sight.0.begin(physics, gaze, seen);
    // All pictures are the first one now.
    delayed.begin_pictures(&seen[..sight.0.picture_len()]);
}

/// Sees the state after a step: `seen` and `next` are the pictures before it and after it.
fn look(
    sight: &Sight,
    physics: &Physics,
    outcome: &Outcome,
    delayed: &mut Delayed,
    gaze: &mut Gaze,
    seen: &[u8],
    next: &mut [u8],
) {
    if outcome.fault.is_some() {
        next.copy_from_slice(seen);
    } else {
        sight.0.look(physics, gaze, seen, next);
        let older = sight.0.len() - sight.0.picture_len();
        delayed.see_picture(&mut next[older..]);
    }
}
