//! One control step, piece by piece, on plain values. Nothing here allocates.

use std::sync::Arc;

use mujoco_rs::mujoco_c::mjtWarning;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;
use rand::RngExt;

use super::{
    Episode, Fault, FaultCount, Measurement, NextObservation, NoiseStream, Observation, Outcome, Physics, Slot,
    TaskProgress,
};
use crate::scene::{CompiledControl, CompiledElement, CompiledReward, CompiledScene, JudgedOn, MotorKind, Order};

/// Warnings of `MuJoCo` after which a state cannot be trusted, and what to make of them.
const BAD_STATE: [(usize, Fault); 5] = [
    (mjtWarning::mjWARN_BADQPOS as usize, Fault::Unstable),
    (mjtWarning::mjWARN_BADQVEL as usize, Fault::Unstable),
    (mjtWarning::mjWARN_BADQACC as usize, Fault::Unstable),
    (mjtWarning::mjWARN_CONTACTFULL as usize, Fault::Memory),
    (mjtWarning::mjWARN_CNSTRFULL as usize, Fault::Memory),
];

/// Puts the physics into the start state of the scene, by copying it: the bits are those of [`place`].
pub fn reset(scene: &CompiledScene, physics: &mut Physics) {
    // Only the physics of another model refuses the copy.
    if scene.fresh().copy_to(&mut physics.0).is_err() {
        physics.0 = scene.fresh().clone();
    }
}

/// Puts the physics into the state with joint positions `positions` (`[nq]`) at rest. Everything else, warm starts and
/// warnings included, is as in a fresh `MjData`.
pub fn place(physics: &mut MjData<Arc<MjModel>>, positions: &[f64]) {
    physics.reset();
    for (to, from) in physics.qpos_mut().iter_mut().zip(positions) {
        *to = *from;
    }
    physics.forward();
}

/// What `MuJoCo` has complained of since the last reset, if the state cannot be trusted because of it.
pub fn complaint(physics: &MjData<Arc<MjModel>>) -> Option<Fault> {
    let warnings = physics.warning();
    let found = BAD_STATE.iter().find(|(kind, _)| warnings[*kind].number > 0);
    found.map(|(_, fault)| *fault)
}

/// The parts of an environment in which an episode is kept, borrowed from an entity or an
/// [`Environment`](super::Environment).
#[derive(Debug)]
pub struct Parts<'a> {
    /// The running episode.
    pub episode: &'a mut Episode,
    /// Random numbers of the observation noise.
    pub noise: &'a mut NoiseStream,
    /// The latest observation in double precision.
    pub measurement: &'a mut Measurement,
    /// What the agent sees after the step.
    pub next_observation: &'a mut NextObservation,
    /// How far the task has come.
    pub progress: &'a mut TaskProgress,
    /// What came of the last step.
    pub outcome: &'a mut Outcome,
    /// Episodes that ended with a fault.
    pub faults: &'a mut FaultCount,
}

impl Parts<'_> {
    /// Begins `episode`, with the noise of `slot`, in the state that `physics` has been put into.
    pub fn begin(&mut self, scene: &CompiledScene, physics: &Physics, slot: Slot, episode: Episode) {
        *self.episode = episode;
        *self.noise = NoiseStream::of(slot, &episode);
        *self.outcome = Outcome::default();
        observe(scene, physics, self.noise, self.measurement, self.next_observation);
        clear_progress(scene, physics, self.measurement, self.progress);
    }

    /// Ends a control step: what [`advance`] made of it is in `outcome`, the state after it in `physics`, and
    /// `observation` is the one before it.
    ///
    /// After a fault nothing is observed, and `observation` stands for what would have been.
    pub fn end_step(&mut self, scene: &CompiledScene, physics: &Physics, observation: &Observation) {
        if self.outcome.fault.is_some() {
            self.next_observation.copy_from_slice(observation);
            self.faults.0 += 1;
        } else {
            observe(scene, physics, self.noise, self.measurement, self.next_observation);
        }
        score(
            scene,
            physics,
            self.measurement,
            self.progress,
            self.episode,
            self.outcome,
        );
    }
}

/// Takes the physics through one control step with `action` (`[action_len]`); the outcome says if that went wrong.
pub fn advance<A: Copy + Into<f64>>(
    scene: &CompiledScene,
    measurement: &Measurement,
    action: &[A],
    physics: &mut Physics,
) -> Outcome {
    let frames = scene.scene().physics.frame_skip;
    let stepped = apply_action(scene, measurement, action, physics).and_then(|()| simulate(frames, physics));
    Outcome {
        fault: stepped.err(),
        ..Outcome::default()
    }
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
    let (positions, velocities, bodies) = (physics.0.qpos(), physics.0.qvel(), physics.0.xpos());
    let clip = scene.scene().observation.clip;
    for ((channel, measured), observed) in scene.channels().iter().zip(&mut measurement.0).zip(observation) {
        let mut value = channel.source.read(positions, velocities, bodies);
        if channel.noise > 0.0 {
            value += channel.noise * noise.0.random_range(-1.0..1.0);
        }
        if let Some((low, high)) = clip {
            value = value.clamp(low, high);
        }
        *measured = value;
        *observed = value as f32;
    }
}

/// Sets the controls that `action` (`[action_len]`, clipped to `[-1, 1]`) asks for.
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
    match scene.control() {
        CompiledControl::Servos { speed, servos } => {
            let controls = physics.0.ctrl_mut();
            for (servo, &number) in servos.iter().zip(action) {
                let velocity = speed * number.into().clamp(-1.0, 1.0);
                let target = measurement.0[servo.channel] + velocity * scene.period();
                controls[servo.control] = target.clamp(servo.low, servo.high);
            }
        }
        CompiledControl::Motors { motors, speed_limit } => {
            // A fresh state is at time zero but for the steps of the reset.
            let first = physics.0.time() <= scene.fresh().time();
            let controls = physics.0.ctrl_mut();
            for (motor, &number) in motors.iter().zip(action) {
                let number = number.into().clamp(-1.0, 1.0);
                let between = number.abs() > 0.3 && number.abs() < 0.7;
                let held = motor.kind == MotorKind::Gripper && !first && between;
                if !held {
                    controls[motor.control] = motor.scale * level(motor.kind, number);
                }
            }
            if let Some(limit) = speed_limit {
                limit_speed(physics, *limit);
            }
        }
    }
    Ok(())
}

/// What a motor makes of its number of the action.
fn level(kind: MotorKind, number: f64) -> f64 {
    match kind {
        MotorKind::Proportional => number,
        MotorKind::Gripper if number > 0.5 => 1.0,
        MotorKind::Gripper if number < -0.5 => -1.0,
        MotorKind::Gripper => 0.0,
    }
}

/// Clips the velocities of all joints to plus and minus `limit`.
fn limit_speed(physics: &mut Physics, limit: f64) {
    let too_fast = |velocity: &f64| velocity.abs() > limit;
    if physics.0.qvel().iter().any(too_fast) {
        for velocity in physics.0.qvel_mut() {
            *velocity = velocity.clamp(-limit, limit);
        }
        // What follows from velocities is worked out at the beginning of a step anyway.
    }
}

/// Advances the physics by one control step of `frames` physics steps.
///
/// # Errors
/// [`Fault::Unstable`] if the state diverges, [`Fault::Memory`] if contacts are left out. The rest of the control step is
/// skipped then.
pub fn simulate(frames: u32, physics: &mut Physics) -> Result<(), Fault> {
    for _ in 0..frames {
        physics.0.step();
        if let Some(fault) = complaint(physics) {
            return Err(fault);
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
    progress.figures.fill(0.0);
    each_stack(scene, progress, |stack, memory, figures| {
        stack.begin(physics, memory, figures)
    });
}

/// Calls `with` for every term of the reward that remembers something, with its numbers.
fn each_stack(
    scene: &CompiledScene,
    progress: &mut TaskProgress,
    mut with: impl FnMut(&super::stack::Stack, &mut [f64], &mut [f64]),
) {
    let (mut memory, mut figures) = (progress.memory.as_mut_slice(), progress.figures.as_mut_slice());
    for reward in scene.rewards() {
        if let CompiledReward::Stack {
            stack,
            memory: remembered,
            figures: reported,
        } = reward
        {
            let (own, others) = memory.split_at_mut(*remembered);
            let (shown, rest) = figures.split_at_mut(*reported);
            with(stack, own, shown);
            (memory, figures) = (others, rest);
        }
    }
}

/// The terms of the reward besides the elements of the task.
fn terms(scene: &CompiledScene, physics: &Physics, progress: &mut TaskProgress) -> f64 {
    let mut sum = 0.0;
    each_stack(scene, progress, |stack, memory, figures| {
        sum += stack.step(physics, memory, figures);
    });
    for reward in scene.rewards() {
        if let CompiledReward::Near { element, value } = reward
            && progress.distance[*element] < scene.elements()[*element].threshold
        {
            sum += value;
        }
    }
    sum
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
    outcome.reward = (counted as f64 + terms(scene, physics, progress)) as f32;
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

/// Distance of an element to its goal, in the true state or as observed.
fn distance_to_goal(
    scene: &CompiledScene,
    element: &CompiledElement,
    physics: &Physics,
    measurement: &Measurement,
) -> f64 {
    if scene.scene().task.judged_on == JudgedOn::Observation && !element.channels.is_empty() {
        element.observed_distance(measurement)
    } else {
        element.distance(physics.qpos(), physics.qvel())
    }
}
