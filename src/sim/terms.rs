//! The terms of a scene in a state: what is observed, what is rewarded, what a goal is. Nothing here allocates.
//!
//! What they remember within an episode is in [`TaskProgress::memory`], one after another: what was drawn of goals, the
//! action before the last one and the last one (where a term needs them), and the numbers of each term of the reward.

use bevy::math::{DMat3, DQuat, DVec3};
use rand::RngExt;

use super::{Episode, Physics, Slot, TaskProgress};
use crate::rng::{Purpose, stream};
use crate::scene::{
    CompiledPlace, CompiledReward, CompiledScene, CompiledTerm, Data, GoalPart, Relative, RewardKind, Rotation,
    TermKind,
};

/// Brings positions and velocities of bodies, geoms and sites up to the state, in a scene with terms that read them.
///
/// After a physics step they are those from which `MuJoCo` has begun it. The state itself and the next step do not change
/// by this; contacts, forces and sensors stay those of the last physics step.
pub fn refresh(scene: &CompiledScene, physics: &mut Physics) {
    if scene.reads().poses {
        physics.0.forward_kinematics();
        physics.0.com_vel();
    }
}

/// Draws what is drawn of goals for an episode.
pub fn draw_goals(scene: &CompiledScene, slot: Slot, episode: &Episode, progress: &mut TaskProgress) {
    if scene.elements().iter().all(|element| element.drawn.is_none()) {
        return;
    }
    let mut stream = stream(episode.seed, Purpose::Goals, slot.0 as u64, episode.index);
    for drawn in scene.elements().iter().filter_map(|element| element.drawn.as_ref()) {
        for (number, amplitude) in progress.memory[drawn.memory..].iter_mut().zip(&drawn.spread) {
            *number = amplitude * stream.random_range(-1.0..1.0);
        }
    }
}

/// Forgets the actions of the last episode.
pub(super) fn begin_actions(scene: &CompiledScene, progress: &mut TaskProgress) {
    let (before, last) = scene.remembered_actions();
    progress.memory[before.start..last.end].fill(0.0);
}

/// Remembers the action of a step, in a scene with terms about actions.
pub fn note_action<A: Copy + Into<f64>>(scene: &CompiledScene, action: &[A], progress: &mut TaskProgress) {
    let (before, last) = scene.remembered_actions();
    progress.memory.copy_within(last.clone(), before.start);
    for (to, from) in progress.memory[last].iter_mut().zip(action) {
        *to = (*from).into().clamp(-1.0, 1.0);
    }
}

/// Works the numbers of a term out; `out` are its own in the observation.
pub(super) fn observe(term: &CompiledTerm, physics: &Physics, progress: &TaskProgress, out: &mut [f64]) {
    let data = &physics.0;
    match &term.kind {
        TermKind::Read(sources) => {
            for (to, source) in out.iter_mut().zip(sources) {
                *to = source.read(data.qpos(), data.qvel(), data.xpos());
            }
        }
        TermKind::Places(places, relative) => {
            let origin = relative.place.map_or(DVec3::ZERO, |place| place.position(data));
            let axes = axes_of(relative, data);
            write_vectors(out, places, |place| axes * (place.position(data) - origin));
        }
        TermKind::Orientations(places, relative, form) => {
            let axes = relative.map_or(DMat3::IDENTITY, |place| place.axes(data).transpose());
            for (to, place) in out.chunks_exact_mut(rotation_len(*form)).zip(places) {
                write_rotation(to, axes * place.axes(data), *form);
            }
        }
        TermKind::LinearVelocities(places, relative) => {
            let own = relative.place.map_or(DVec3::ZERO, |place| place.velocity(data).0);
            let axes = axes_of(relative, data);
            write_vectors(out, places, |place| axes * (place.velocity(data).0 - own));
        }
        TermKind::AngularVelocities(places, relative) => {
            let own = relative.place.map_or(DVec3::ZERO, |place| place.velocity(data).1);
            let axes = axes_of(relative, data);
            write_vectors(out, places, |place| axes * (place.velocity(data).1 - own));
        }
        TermKind::Sensors(addresses) => {
            for (to, &address) in out.iter_mut().zip(addresses) {
                *to = data.sensordata()[address];
            }
        }
        TermKind::Touching(contacts) => {
            for (to, contact) in out.iter_mut().zip(contacts) {
                *to = if contact.touches(data) { 1.0 } else { 0.0 };
            }
        }
        TermKind::Forces(contacts) => {
            for (to, contact) in out.iter_mut().zip(contacts) {
                *to = contact.force(data);
            }
        }
        TermKind::PreviousAction(first) => out.copy_from_slice(&progress.memory[*first..first + out.len()]),
        TermKind::Goals(parts, relative) => observe_goals(parts, relative, data, &progress.memory, out),
        // Known only when the step has been scored.
        TermKind::Done(_) | TermKind::Time(_) => out.fill(0.0),
    }
}

/// The numbers of a term that are known only when the step has been scored.
pub(super) fn observe_scored(kind: &TermKind, episode: &Episode, progress: &TaskProgress, at: usize) -> f64 {
    match kind {
        TermKind::Done(flags) => f64::from(flags[at].is_set(progress)),
        TermKind::Time(steps) => (1.0 - f64::from(episode.step) / steps).max(0.0),
        _ => 0.0,
    }
}

fn observe_goals(parts: &[GoalPart], relative: &Relative, data: &Data, memory: &[f64], out: &mut [f64]) {
    let origin = relative.place.map_or(DVec3::ZERO, |place| place.position(data));
    let axes = axes_of(relative, data);
    let mut rest = out;
    for part in parts {
        let count = match part {
            GoalPart::Number(..) => 1,
            GoalPart::Point(..) => 3,
        };
        let (own, others) = rest.split_at_mut(count);
        rest = others;
        match *part {
            GoalPart::Number(goal, drawn) => own[0] = goal + drawn.map_or(0.0, |drawn| memory[drawn]),
            GoalPart::Point(place, drawn) => {
                let shift = drawn.map_or(DVec3::ZERO, |drawn| DVec3::from_slice(&memory[drawn..]));
                let point = axes * (place.position(data) + shift - origin);
                own.copy_from_slice(&point.to_array());
            }
        }
    }
}

/// What turns vectors of the world into the axes that are wanted.
fn axes_of(relative: &Relative, data: &Data) -> DMat3 {
    match relative.place {
        Some(place) if relative.own_axes => place.axes(data).transpose(),
        _ => DMat3::IDENTITY,
    }
}

fn write_vectors(out: &mut [f64], places: &[CompiledPlace], vector: impl Fn(&CompiledPlace) -> DVec3) {
    for (to, place) in out.chunks_exact_mut(3).zip(places) {
        to.copy_from_slice(&vector(place).to_array());
    }
}

fn rotation_len(form: Rotation) -> usize {
    match form {
        Rotation::Quaternion => 4,
        Rotation::Matrix => 9,
        Rotation::Columns => 6,
    }
}

fn write_rotation(out: &mut [f64], rotation: DMat3, form: Rotation) {
    match form {
        Rotation::Quaternion => {
            let quaternion = DQuat::from_mat3(&rotation);
            let sign = if quaternion.w < 0.0 { -1.0 } else { 1.0 };
            let DQuat { x, y, z, w } = quaternion;
            out.copy_from_slice(&[w, x, y, z].map(|part| sign * part));
        }
        Rotation::Matrix => out.copy_from_slice(&rotation.transpose().to_cols_array()),
        Rotation::Columns => out.copy_from_slice(&rotation.to_cols_array()[..6]),
    }
}

/// Begins an episode: what the terms of the reward remember and report.
pub(super) fn begin_rewards(scene: &CompiledScene, physics: &Physics, progress: &mut TaskProgress) {
    progress.figures.fill(0.0);
    let TaskProgress {
        memory,
        figures,
        distance,
        ..
    } = progress;
    for reward in scene.rewards() {
        let memory = &mut memory[reward.memory.clone()];
        match &reward.kind {
            RewardKind::Stack(stack) => stack.begin(physics, memory, &mut figures[reward.figures.clone()]),
            RewardKind::Progress(from, to, _) => memory[0] = between(from, to, &physics.0),
            RewardKind::ElementProgress(element, _) => memory[0] = distance[*element],
            _ => memory.fill(0.0),
        }
    }
}

/// The terms of the reward after a step, for a task that is done or not. Those with a name are summed up in the figures.
pub(super) fn rewards(scene: &CompiledScene, physics: &Physics, progress: &mut TaskProgress, success: bool) -> f64 {
    let scale = scene.scene().task.scale;
    let mut sum = 0.0;
    for reward in scene.rewards() {
        if let RewardKind::Stack(stack) = &reward.kind {
            let memory = &mut progress.memory[reward.memory.clone()];
            sum += stack.step(physics, memory, &mut progress.figures[reward.figures.clone()]);
            continue;
        }
        let value = value(scene, reward, physics, progress, success);
        if let Some(figure) = progress
            .figures
            .get_mut(reward.figures.clone())
            .and_then(<[f64]>::first_mut)
        {
            *figure += scale * value;
        }
        sum += value;
    }
    sum
}

/// What a term gives.
fn value(
    scene: &CompiledScene,
    reward: &CompiledReward,
    physics: &Physics,
    progress: &mut TaskProgress,
    success: bool,
) -> f64 {
    let data = &physics.0;
    let TaskProgress { memory, distance, .. } = progress;
    // What a term remembers, if it remembers one number.
    let at = reward.memory.start;
    match &reward.kind {
        // See above.
        RewardKind::Stack(_) => 0.0,
        RewardKind::Near(element, value) => {
            let near = distance[*element] < scene.elements()[*element].threshold;
            if near { *value } else { 0.0 }
        }
        RewardKind::Distance(from, to, shape, weight) => weight * shape.of(between(from, to, data)),
        RewardKind::Progress(from, to, weight) => weight * decrease(&mut memory[at], between(from, to, data)),
        RewardKind::ElementDistance(element, shape, weight) => weight * shape.of(distance[*element]),
        RewardKind::ElementProgress(element, weight) => weight * decrease(&mut memory[at], distance[*element]),
        RewardKind::JointNear(joints, shape, weight) => {
            let squares = joints.iter().map(|(index, goal)| (data.qpos()[*index] - goal).powi(2));
            weight * shape.of(squares.sum::<f64>().sqrt())
        }
        RewardKind::Height {
            of,
            above,
            at_most,
            weight,
        } => weight * (of.position(data).z - above).clamp(0.0, *at_most),
        RewardKind::Upright(of, weight) => weight * of.axes(data).z_axis.z,
        RewardKind::Speed {
            of,
            along,
            at_most,
            weight,
        } => weight * of.velocity(data).0.dot(DVec3::from_array(*along)).min(*at_most),
        RewardKind::When(condition, value, once) => {
            let holds = condition.holds(data);
            let counts = holds && (!once || first_time(&mut memory[at]));
            if counts { *value } else { 0.0 }
        }
        RewardKind::ActionCost(weight) => {
            let (_, last) = scene.remembered_actions();
            -weight * memory[last].iter().map(|number| number * number).sum::<f64>()
        }
        RewardKind::ActionRate(weight) => {
            let (before, last) = scene.remembered_actions();
            let changes = memory[last]
                .iter()
                .zip(&memory[before])
                .map(|(last, before)| last - before);
            -weight * changes.map(|change| change * change).sum::<f64>()
        }
        RewardKind::EnergyCost(weight) => {
            let actuators = data.actuator_force().iter().zip(data.actuator_velocity());
            let power: f64 = actuators.map(|(force, velocity)| (force * velocity).abs()).sum();
            -weight * power * scene.period()
        }
        RewardKind::Completion(value) => {
            let counts = success && first_time(&mut memory[at]);
            if counts { *value } else { 0.0 }
        }
        RewardKind::Constant(value) => *value,
    }
}

fn between(from: &CompiledPlace, to: &CompiledPlace, data: &Data) -> f64 {
    from.position(data).distance(to.position(data))
}

/// How much smaller a distance is than the one that is remembered, which it replaces.
fn decrease(remembered: &mut f64, distance: f64) -> f64 {
    std::mem::replace(remembered, distance) - distance
}

/// Whether this is the first time that it is asked.
fn first_time(remembered: &mut f64) -> bool {
    std::mem::replace(remembered, 1.0) == 0.0
}
