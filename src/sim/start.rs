//! How an episode starts: the model it has and the state it begins in. Both depend on nothing but the scene, the seed,
//! the slot of the environment and the number of the episode.

use std::sync::Arc;

use bevy::log::warn_once;
use mujoco_rs::wrappers::mj_model::MjModel;

use super::{Episode, Fault, Physics, Slot, step};
use crate::rng::{Purpose, Stream, stream};
use crate::scene::{CompiledPlacement, CompiledRandomisation, CompiledScene};

/// Places that are drawn for a body before all bodies are placed anew.
const TRIES: usize = 1000;
/// Times that all bodies are placed anew.
const ROUNDS: usize = 20;

/// Why an episode cannot start in the way the scene asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// No room was found.
    #[error(
        "found no room for a body in {ROUNDS} rounds of {TRIES} places: the area is too small for what is in it and the \
         clearance"
    )]
    NoRoom {
        /// Place of the list among the placements.
        placement: usize,
        /// Place of the body in it.
        body: usize,
    },
    /// The state cannot be simulated.
    #[error("the start state cannot be simulated: {0}")]
    Physics(Fault),
}

/// Gives the physics the model and the start state of an episode.
///
/// Scenes in which all episodes start alike copy their [fresh state](CompiledScene::fresh).
///
/// # Errors
/// [`StartError`]; the physics is then in the fresh state.
pub fn start(scene: &CompiledScene, slot: Slot, episode: &Episode, physics: &mut Physics) -> Result<(), StartError> {
    vary_model(scene, slot, episode, physics);
    if scene.reset().is_fixed() && scene.randomisation().is_empty() {
        step::reset(scene, physics);
        return Ok(());
    }
    let mut stream = stream(episode.seed, Purpose::Start, slot.0 as u64, episode.index);
    let started = begin(scene, physics, &mut stream);
    step::refresh(scene, physics);
    if let Err(error) = started {
        // The scene was tried when it was compiled, so this is rare.
        warn_once!("An episode starts in the fresh state: {error}");
        step::reset(scene, physics);
        physics.0.forward();
    }
    started
}

/// Gives the physics the model of an episode, for those who put it into a state of their own. Where the scene draws
/// something of the model the physics is left in an arbitrary state; elsewhere nothing happens.
pub fn vary_model(scene: &CompiledScene, slot: Slot, episode: &Episode, physics: &mut Physics) {
    vary(scene.randomisation(), scene.model(), slot, episode, physics);
}

/// Gives the physics the model of an episode, in a scene whose episodes differ in theirs. The physics is left in an
/// arbitrary state then.
///
/// Such an environment has a copy of the model of its own from its first episode on.
pub(super) fn vary(
    randomisation: &CompiledRandomisation,
    base: &Arc<MjModel>,
    slot: Slot,
    episode: &Episode,
    physics: &mut Physics,
) {
    if randomisation.is_empty() {
        return;
    }
    // Nothing refers to the own model while it changes; only physics of another scene would refuse the exchange.
    let Ok(mut own) = physics.0.try_swap_model(Arc::clone(base)) else {
        return;
    };
    if Arc::get_mut(&mut own).is_none() {
        own = Arc::new(MjModel::clone(base));
    }
    if let Some(model) = Arc::get_mut(&mut own) {
        let mut stream = stream(episode.seed, Purpose::Model, slot.0 as u64, episode.index);
        randomisation.apply(model, base, &mut physics.0, &mut stream);
    }
    let _ = physics.0.try_swap_model(own);
}

fn begin(scene: &CompiledScene, physics: &mut Physics, stream: &mut Stream) -> Result<(), StartError> {
    let reset = scene.reset();
    step::put(&mut physics.0, reset.keyframe, scene.start());
    for (address, draw) in &reset.positions {
        physics.0.qpos_mut()[*address] = draw.sample(stream);
    }
    for &address in &reset.rotations {
        normalise(&mut physics.0.qpos_mut()[address..address + 4]);
    }
    for (address, draw) in &reset.velocities {
        physics.0.qvel_mut()[*address] = draw.sample(stream);
    }
    if !reset.placements.is_empty() {
        // Of those that are kept away from.
        physics.0.kinematics();
        place_all(scene, physics, stream)?;
    }
    physics.0.forward();
    for _ in 0..scene.scene().reset.settle {
        step::simulate(scene.scene().physics.frame_skip, physics).map_err(StartError::Physics)?;
    }
    step::complaint(&physics.0).map_or(Ok(()), |fault| Err(StartError::Physics(fault)))
}

/// Makes a quaternion one of length 1.
fn normalise(rotation: &mut [f64]) {
    let length = rotation.iter().map(|part| part * part).sum::<f64>().sqrt();
    if length > 1e-9 {
        rotation.iter_mut().for_each(|part| *part /= length);
    } else {
        rotation.copy_from_slice(&[1.0, 0.0, 0.0, 0.0]);
    }
}

/// Puts all bodies somewhere.
fn place_all(scene: &CompiledScene, physics: &mut Physics, stream: &mut Stream) -> Result<(), StartError> {
    let mut failed = StartError::NoRoom { placement: 0, body: 0 };
    for _ in 0..ROUNDS {
        match place_round(scene, physics, stream) {
            Ok(()) => return Ok(()),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn place_round(scene: &CompiledScene, physics: &mut Physics, stream: &mut Stream) -> Result<(), StartError> {
    let placements = &scene.reset().placements;
    for (index, placement) in placements.iter().enumerate() {
        for (body, thing) in placement.things.iter().enumerate() {
            let found = (0..TRIES)
                .map(|_| placement.area.sample(stream))
                .find(|place| is_free(placements, (index, body), *place, physics));
            let Some(place) = found else {
                return Err(StartError::NoRoom { placement: index, body });
            };
            let yaw = placement.yaw.map(|yaw| yaw.sample(stream));
            thing.seat.put(place, yaw, scene.start(), physics.0.qpos_mut());
        }
    }
    Ok(())
}

/// Whether there is room for a body, given by its list and its place in that, among what has been placed before it.
fn is_free(placements: &[CompiledPlacement], (list, body): (usize, usize), place: [f64; 2], physics: &Physics) -> bool {
    let own = &placements[list];
    let far = |[x, y]: [f64; 2], radius: f64, clearance: f64| {
        (x - place[0]).hypot(y - place[1]) >= own.things[body].radius + radius + clearance
    };
    let from_others = own.avoid.iter().all(|&(other, radius)| {
        let [x, y, _] = physics.0.xpos()[other];
        far([x, y], radius, own.clearance)
    });
    from_others
        && placements.iter().take(list + 1).enumerate().all(|(index, earlier)| {
            let placed = if index == list { body } else { earlier.things.len() };
            let clearance = earlier.clearance.max(own.clearance);
            let mut things = earlier.things.iter().take(placed);
            things.all(|other| far(other.seat.place(physics.0.qpos()), other.radius, clearance))
        })
}
