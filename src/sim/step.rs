//! One control step, piece by piece, on plain values. Nothing here allocates.

use std::sync::Arc;

use mujoco_rs::mujoco_c::mjtWarning;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;
use rand::RngExt;

use super::{
    Delayed, Episode, Fault, FaultCount, Measurement, NextObservation, NoiseStream, Observation, Outcome, Physics,
    Slot, TaskProgress, control::send_action, terms,
};
use crate::scene::{CompiledElement, CompiledScene, JudgedOn, Order, Source, TermKind};

pub use super::control::apply_action;
pub use super::start::{StartError, start, vary_model};
pub use super::terms::refresh;

/// Warnings of `MuJoCo` after which a state cannot be trusted, and what to make of them.
const BAD_STATE: [(usize, Fault); 5] = [
    (mjtWarning::mjWARN_BADQPOS as usize, Fault::Unstable),
    (mjtWarning::mjWARN_BADQVEL as usize, Fault::Unstable),
    (mjtWarning::mjWARN_BADQACC as usize, Fault::Unstable),
    (mjtWarning::mjWARN_CONTACTFULL as usize, Fault::Memory),
    (mjtWarning::mjWARN_CNSTRFULL as usize, Fault::Memory),
];

/// Puts the physics into the fresh state of the scene, by copying it: the bits are those of [`place`]. Where episodes
/// differ in how they start, [`start`] does that.
pub fn reset(scene: &CompiledScene, physics: &mut Physics) {
    // Only the physics of another model refuses the copy.
    if scene.fresh().copy_to(&mut physics.0).is_err() {
        physics.0 = scene.fresh().clone();
    }
    refresh(scene, physics);
}

/// Puts the physics into the state with joint positions `positions` (`[nq]`) at rest. Everything else, warm starts and
/// warnings included, is as in a fresh `MjData`.
pub fn place(physics: &mut MjData<Arc<MjModel>>, positions: &[f64]) {
    place_from(physics, None, positions);
}

/// The same with everything but the joint positions as in a keyframe of the model, if there is one.
pub(crate) fn place_from(physics: &mut MjData<Arc<MjModel>>, keyframe: Option<usize>, positions: &[f64]) {
    put(physics, keyframe, positions);
    physics.forward();
}

/// The same without working out anything that follows from the state.
pub(super) fn put(physics: &mut MjData<Arc<MjModel>>, keyframe: Option<usize>, positions: &[f64]) {
    // A keyframe that the model does not have changes nothing.
    if keyframe.is_none_or(|key| physics.reset_keyframe(key).is_err()) {
        physics.reset();
    }
    for (to, from) in physics.qpos_mut().iter_mut().zip(positions) {
        *to = *from;
    }
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
    /// What is under way.
    pub delayed: &'a mut Delayed,
}

impl Parts<'_> {
    /// Begins `episode` as the scene says: [`start`], then [`Self::begin`]. If it cannot start so, that counts as a fault.
    pub fn begin_anew(&mut self, scene: &CompiledScene, physics: &mut Physics, slot: Slot, episode: Episode) {
        let started = start(scene, slot, &episode, physics);
        self.begin(scene, physics, slot, episode);
        self.faults.0 += u64::from(started.is_err());
    }

    /// Begins `episode`, with the noise of `slot`, in the state that `physics` has been put into.
    pub fn begin(&mut self, scene: &CompiledScene, physics: &Physics, slot: Slot, episode: Episode) {
        *self.episode = episode;
        *self.noise = NoiseStream::of(slot, &episode);
        *self.outcome = Outcome::default();
        terms::draw_goals(scene, slot, &episode, self.progress);
        terms::begin_actions(scene, self.progress);
        let Self { noise, measurement, .. } = self;
        observe(scene, physics, self.progress, noise, measurement, self.next_observation);
        clear_progress(scene, physics, self.measurement, self.progress);
        self.observe_scored(scene);
        self.delayed.begin(scene, slot, self.episode, self.next_observation);
    }

    /// Ends a control step: what [`advance`] made of it is in `outcome`, the state after it in `physics`, and
    /// `observation` and `action` (`[action_len]`) are those before it.
    ///
    /// After a fault nothing is observed, and `observation` stands for what would have been.
    pub fn end_step<A: Copy + Into<f64>>(
        &mut self,
        scene: &CompiledScene,
        physics: &Physics,
        observation: &Observation,
        action: &[A],
    ) {
        let fault = self.outcome.fault.is_some();
        if fault {
            self.next_observation.copy_from_slice(observation);
            self.faults.0 += 1;
        } else {
            terms::note_action(scene, action, self.progress);
            let Self { noise, measurement, .. } = self;
            observe(scene, physics, self.progress, noise, measurement, self.next_observation);
        }
        score(
            scene,
            physics,
            self.measurement,
            self.progress,
            self.episode,
            self.outcome,
        );
        if !fault {
            self.observe_scored(scene);
            self.observe_late(scene);
        }
    }

    /// Puts the observation that has come through in the place of that of the state. What an agent knows without
    /// sensing, its last action and the time, stays.
    fn observe_late(&mut self, scene: &CompiledScene) {
        if !self.delayed.sees_late() {
            return;
        }
        self.delayed.see(self.next_observation);
        for term in scene.terms() {
            if matches!(term.kind, TermKind::PreviousAction(_) | TermKind::Time(_)) {
                let known = self.measurement.0[term.channels.clone()].iter();
                for (to, from) in self.next_observation[term.channels.clone()].iter_mut().zip(known) {
                    *to = *from as f32;
                }
            }
        }
    }

    /// Observes what is known only once a step has been scored.
    fn observe_scored(&mut self, scene: &CompiledScene) {
        let clip = scene.scene().observation.clip;
        for term in scene.terms().iter().filter(|term| term.kind.is_scored()) {
            for (at, channel) in term.channels.clone().enumerate() {
                let value = terms::observe_scored(&term.kind, self.episode, self.progress, at);
                let value = clip.map_or(value, |(low, high)| value.clamp(low, high));
                self.measurement.0[channel] = value;
                self.next_observation[channel] = value as f32;
            }
        }
    }
}

/// Takes the physics through one control step with `action` (`[action_len]`), or with the one that arrives where actions
/// are late; the outcome says if that went wrong.
pub fn advance<A: Copy + Into<f64>>(
    scene: &CompiledScene,
    measurement: &Measurement,
    action: &[A],
    delayed: &mut Delayed,
    physics: &mut Physics,
) -> Outcome {
    let frames = scene.scene().physics.frame_skip;
    let sent = send_action(scene, measurement, action, delayed, physics);
    let stepped = sent.and_then(|()| simulate(frames, physics));
    if stepped.is_ok() {
        refresh(scene, physics);
    }
    Outcome {
        fault: stepped.err(),
        ..Outcome::default()
    }
}

/// Observes the state of the physics.
///
/// Every number with an amplitude gets uniform noise of its own; `measurement` and `observation` (both
/// `[observation_len]`) receive the same numbers in double and single precision. `progress` holds the goals of the episode
/// and the last action. What is known only once a step has been scored, as which elements are done, is left at zero.
pub fn observe(
    scene: &CompiledScene,
    physics: &Physics,
    progress: &TaskProgress,
    noise: &mut NoiseStream,
    measurement: &mut Measurement,
    observation: &mut [f32],
) {
    let (positions, velocities, bodies) = (physics.0.qpos(), physics.0.qvel(), physics.0.xpos());
    let clip = scene.scene().observation.clip;
    for term in scene.terms() {
        terms::observe(term, physics, progress, &mut measurement.0[term.channels.clone()]);
    }
    for ((channel, measured), observed) in scene.channels().iter().zip(&mut measurement.0).zip(observation) {
        let mut value = match channel.source {
            Source::Term => *measured * channel.scale,
            Source::Drawn(goal, index) => goal + progress.memory[index],
            source => source.read(positions, velocities, bodies),
        };
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
    let TaskProgress { distance, memory, .. } = progress;
    for (element, distance) in scene.elements().iter().zip(distance) {
        *distance = distance_to_goal(scene, element, physics, measurement, memory);
    }
    terms::begin_rewards(scene, physics, progress);
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
    let TaskProgress {
        distance,
        reached,
        memory,
        ..
    } = progress;
    for ((element, distance), reached) in scene.elements().iter().zip(distance).zip(reached) {
        *distance = distance_to_goal(scene, element, physics, measurement, memory);
        *reached |= *distance < element.threshold;
    }
    let task = &scene.scene().task;
    let counted = count(scene, &progress.distance, &mut progress.done);
    let success = !scene.success().is_empty() && scene.success().iter().all(|flag| flag.is_set(progress));
    let finished = success && task.ends;
    let failed = !finished && scene.failures().iter().any(|failure| failure.holds(physics));
    let penalty = if failed { task.penalty } else { 0.0 };
    let rewards = terms::rewards(scene, physics, progress, success);
    outcome.reward = (task.scale * (counted + rewards - penalty)) as f32;
    outcome.terminated = finished || failed;
    outcome.truncated = !outcome.terminated && episode.step >= scene.scene().episode.steps;
    episode.return_ += outcome.reward;
}

/// Marks the elements of the task that count now, and returns what they are worth.
fn count(scene: &CompiledScene, distances: &[f64], done: &mut [bool]) -> f64 {
    let mut counted = 0.0;
    let mut in_order = true;
    for (&index, done) in scene.task().iter().zip(done) {
        if *done {
            continue;
        }
        let element = &scene.elements()[index];
        let at_goal = distances[index] < element.threshold;
        if at_goal && (in_order || scene.scene().task.order == Order::Any) {
            *done = true;
            counted += element.value;
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
    memory: &[f64],
) -> f64 {
    if scene.scene().task.judged_on == JudgedOn::Observation && !element.channels.is_empty() {
        element.observed_distance(measurement, memory)
    } else {
        element.distance_in(physics, memory)
    }
}
