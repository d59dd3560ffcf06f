//! One control step, piece by piece, on plain values. Nothing here allocates.

use mujoco_rs::mujoco_c::mjtWarning;
use rand::RngExt;

use super::{Episode, Fault, Measurement, NoiseStream, Outcome, Physics, TaskProgress};
use crate::scene::{CompiledElement, CompiledScene, JudgedOn, Order, Source};

/// Warnings of `MuJoCo` after which a state cannot be trusted.
const BAD_STATE: [usize; 3] = [
    mjtWarning::mjWARN_BADQPOS as usize,
    mjtWarning::mjWARN_BADQVEL as usize,
    mjtWarning::mjWARN_BADQACC as usize,
];

/// Puts the physics into the start state of the scene.
pub fn reset(scene: &CompiledScene, physics: &mut Physics) {
    place(physics, scene.start());
}

/// Puts the physics into the state with joint positions `positions` (`[nq]`) at rest. Everything else, warm starts and
/// warnings included, is as in a fresh `MjData`.
pub fn place(physics: &mut Physics, positions: &[f64]) {
    physics.0.reset();
    for (to, from) in physics.0.qpos_mut().iter_mut().zip(positions) {
        *to = *from;
    }
    physics.0.forward();
}

/// Observes the state of the physics.
///
/// Every number with an amplitude gets uniform noise of its own; `measurement` and `observation` (both
/// `[observation_len]`) receive the same numbers in double and single precision.
pub fn observe(
    scene: &CompiledScene,
    physics: &Physics,
    noise: &mut NoiseStream,
    measurement: &mut Measurement,
    observation: &mut [f32],
) {
    let (positions, velocities) = (physics.0.qpos(), physics.0.qvel());
    for ((channel, measured), observed) in scene.channels().iter().zip(&mut measurement.0).zip(observation) {
        let mut value = match channel.source {
            Source::Position(index) => positions[index],
            Source::Velocity(index) => velocities[index],
            Source::Constant(value) => value,
        };
        if channel.noise > 0.0 {
            value += channel.noise * noise.0.random_range(-1.0..1.0);
        }
        *measured = value;
        *observed = value as f32;
    }
}

/// Sets the servo targets that `action` (`[action_len]`, clipped to `[-1, 1]`) asks for.
///
/// # Errors
/// [`Fault::Action`] if a number is not finite or the length is wrong; the targets stay as they were.
pub fn apply_action<A: Copy + Into<f64>>(
    scene: &CompiledScene,
    measurement: &Measurement,
    action: &[A],
    physics: &mut Physics,
) -> Result<(), Fault> {
    let finite = action.iter().all(|&number| number.into().is_finite());
    if action.len() != scene.action_len() || !finite {
        return Err(Fault::Action);
    }
    let controls = physics.0.ctrl_mut();
    for (servo, &number) in scene.servos().iter().zip(action) {
        let velocity = scene.speed() * number.into().clamp(-1.0, 1.0);
        let target = measurement.0[servo.channel] + velocity * scene.period();
        controls[servo.control] = target.clamp(servo.low, servo.high);
    }
    Ok(())
}

/// Advances the physics by one control step.
///
/// # Errors
/// [`Fault::Unstable`] if the state diverges. The rest of the control step is skipped then.
pub fn simulate(scene: &CompiledScene, physics: &mut Physics) -> Result<(), Fault> {
    for _ in 0..scene.scene().physics.frame_skip {
        physics.0.step();
        let warnings = physics.0.warning();
        if BAD_STATE.iter().any(|&kind| warnings[kind].number > 0) {
            return Err(Fault::Unstable);
        }
    }
    // MuJoCo looks at a state at the beginning of a step, so nobody has looked at the last one.
    let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
    if finite(physics.0.qpos()) && finite(physics.0.qvel()) {
        Ok(())
    } else {
        Err(Fault::Unstable)
    }
}

/// Forgets what was done, at the start of an episode.
pub fn clear_progress(
    scene: &CompiledScene,
    physics: &Physics,
    measurement: &Measurement,
    progress: &mut TaskProgress,
) {
    progress.done.fill(false);
    progress.reached.fill(false);
    for (element, distance) in scene.elements().iter().zip(&mut progress.distance) {
        *distance = distance_to_goal(scene, element, physics, measurement);
    }
}

/// Works out the result of a step from the state after it: `progress`, `episode` (step and return) and `outcome`.
///
/// A fault noted in `outcome` truncates the episode without reward, and `progress` stays as it was.
pub fn score(
    scene: &CompiledScene,
    physics: &Physics,
    measurement: &Measurement,
    progress: &mut TaskProgress,
    episode: &mut Episode,
    outcome: &mut Outcome,
) {
    episode.step += 1;
    if outcome.fault.is_some() {
        (outcome.reward, outcome.terminated, outcome.truncated) = (0.0, false, true);
        return;
    }
    for ((element, distance), reached) in scene
        .elements()
        .iter()
        .zip(&mut progress.distance)
        .zip(&mut progress.reached)
    {
        *distance = distance_to_goal(scene, element, physics, measurement);
        *reached |= *distance < element.threshold;
    }
    let counted = count(scene, &progress.distance, &mut progress.done);
    outcome.reward = counted as f32;
    outcome.terminated = !progress.done.is_empty() && progress.done.iter().all(|done| *done);
    outcome.truncated = !outcome.terminated && episode.step >= scene.scene().episode.steps;
    episode.return_ += outcome.reward;
}

/// Marks the elements of the task that count now, and returns how many they are.
fn count(scene: &CompiledScene, distances: &[f64], done: &mut [bool]) -> usize {
    let mut counted = 0;
    let mut in_order = true;
    for (&index, done) in scene.task().iter().zip(done) {
        if *done {
            continue;
        }
        let at_goal = distances[index] < scene.elements()[index].threshold;
        if at_goal && (in_order || scene.scene().task.order == Order::Any) {
            *done = true;
            counted += 1;
        }
        in_order &= at_goal;
    }
    counted
}

/// Euclidean distance of an element to its goal, in the true state or as observed.
fn distance_to_goal(
    scene: &CompiledScene,
    element: &CompiledElement,
    physics: &Physics,
    measurement: &Measurement,
) -> f64 {
    let (positions, velocities) = (physics.0.qpos(), physics.0.qvel());
    let observed = scene.scene().task.judged_on == JudgedOn::Observation && !element.channels.is_empty();
    let square = |(at, goal): (usize, &f64)| {
        let value = if observed {
            measurement.0[element.channels[at]]
        } else {
            match element.values[at] {
                Source::Position(index) => positions[index],
                Source::Velocity(index) => velocities[index],
                Source::Constant(value) => value,
            }
        };
        (value - goal).powi(2)
    };
    element.goal.iter().enumerate().map(square).sum::<f64>().sqrt()
}
