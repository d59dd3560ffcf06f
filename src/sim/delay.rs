//! Actions and observations that are under way; see [`Delays`]. Nothing here allocates
//! once an environment is made.

use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Episode, Slot};
use crate::rng::{Purpose, stream};
use crate::scene::{CompiledScene, Delays};

/// What is under way in an environment. Empty where a scene has no delays.
#[derive(Component, Debug, Clone, PartialEq, Default)]
pub struct Delayed {
    actions: Queue<f64>,
    observations: Queue<f32>,
    pictures: Queue<u8>,
    /// Control steps until the first action of the episode arrives.
    waits: usize,
    /// The action that takes effect in this step, `[action_len]`; empty where actions are never late.
    arrived: Vec<f64>,
}

/// Things that stay for a number of control steps, one after another in a ring.
#[derive(Debug, Clone, PartialEq, Default)]
struct Queue<T> {
    /// Room for the longest delay, of which that of the episode is used.
    kept: Vec<T>,
    /// Numbers in a thing.
    len: usize,
    /// Control steps in this episode.
    delay: usize,
    /// Place of the oldest one.
    oldest: usize,
}

impl<T: Copy + Default> Queue<T> {
    fn new(longest: usize, len: usize) -> Self {
        Self {
            kept: vec![T::default(); longest * len],
            len,
            ..Self::default()
        }
    }

    fn begin(&mut self, delay: usize) {
        (self.delay, self.oldest) = (delay, 0);
        // So that nothing in a checkpoint depends on earlier episodes.
        self.kept.fill(T::default());
    }

    /// `first` stands for all that came before it.
    fn fill(&mut self, first: &[T]) {
        for kept in self.kept.chunks_exact_mut(self.len.max(1)).take(self.delay) {
            kept.copy_from_slice(first);
        }
    }

    /// Takes `thing` in and leaves what was taken in so many exchanges ago as the delay says; itself without one.
    fn exchange(&mut self, thing: &mut [T]) {
        let place = self.oldest * self.len..(self.oldest + 1) * self.len;
        if let Some(kept) = self.kept.get_mut(place).filter(|_| self.delay > 0) {
            kept.swap_with_slice(thing);
            self.oldest = (self.oldest + 1) % self.delay;
        }
    }
}

impl Delayed {
    /// Room for what is under way in an environment of the scene.
    pub(super) fn of(scene: &CompiledScene) -> Self {
        let Delays { action, observation } = scene.scene().delays;
        let picture = scene.eye().map_or(0, |eye| eye.picture_len());
        let actions = if action.longest() > 0 { scene.action_len() } else { 0 };
        Self {
            actions: Queue::new(action.longest(), scene.action_len()),
            observations: Queue::new(observation.longest(), scene.observation_len()),
            pictures: Queue::new(observation.longest(), picture),
            waits: 0,
            arrived: vec![0.0; actions],
        }
    }

    /// Control steps that actions and observations of the running episode are late.
    pub fn steps(&self) -> (usize, usize) {
        (self.actions.delay, self.observations.delay)
    }

    /// Begins an episode with its `first` observation, `[observation_len]`.
    pub(super) fn begin(&mut self, scene: &CompiledScene, slot: Slot, episode: &Episode, first: &[f32]) {
        let delays = scene.scene().delays;
        if delays.is_none() {
            return;
        }
        let mut stream = stream(episode.seed, Purpose::Delays, slot.0 as u64, episode.index);
        self.waits = delays.action.sample(&mut stream);
        self.actions.begin(self.waits);
        let delay = delays.observation.sample(&mut stream);
        self.observations.begin(delay);
        self.observations.fill(first);
        self.pictures.begin(delay);
    }

    /// The `first` picture of an episode, `[3, size, size]`.
    pub(super) fn begin_pictures(&mut self, first: &[u8]) {
        self.pictures.fill(first);
    }

    /// Whether actions take effect at once.
    pub(super) fn acts_at_once(&self) -> bool {
        self.actions.delay == 0
    }

    /// Sends an action, `[action_len]`, and returns the one that arrives; none if none has been sent early enough.
    pub(super) fn send<A: Copy + Into<f64>>(&mut self, action: &[A]) -> Option<&[f64]> {
        for (to, from) in self.arrived.iter_mut().zip(action) {
            *to = (*from).into();
        }
        self.actions.exchange(&mut self.arrived);
        if self.waits > 0 {
            self.waits -= 1;
            return None;
        }
        Some(&self.arrived)
    }

    /// Whether observations are late.
    pub(super) fn sees_late(&self) -> bool {
        self.observations.delay > 0
    }

    /// Exchanges the observation of the state, `[observation_len]`, for the one that is seen.
    pub(super) fn see(&mut self, observation: &mut [f32]) {
        self.observations.exchange(observation);
    }

    /// Exchanges the picture of the state, `[3, size, size]`, for the one that is seen.
    pub(super) fn see_picture(&mut self, picture: &mut [u8]) {
        self.pictures.exchange(picture);
    }
}

/// What is under way, for checkpoints; numbers as their bits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct DelayedState {
    actions: QueueState<u64>,
    observations: QueueState<u32>,
    pictures: QueueState<u8>,
    waits: usize,
}

/// What is in a queue. Room that the delay of the episode does not need is left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct QueueState<B> {
    kept: Vec<B>,
    /// Numbers that there is room for.
    room: usize,
    delay: usize,
    oldest: usize,
}

impl DelayedState {
    /// None where nothing is ever late.
    pub fn capture(of: &Delayed) -> Option<Self> {
        let Delayed {
            actions,
            observations,
            pictures,
            waits,
            ..
        } = of;
        let none = actions.kept.is_empty() && observations.kept.is_empty();
        (!none).then(|| Self {
            actions: actions.state(|number| number.to_bits()),
            observations: observations.state(|number| number.to_bits()),
            pictures: pictures.state(|byte| byte),
            waits: *waits,
        })
    }

    /// Numbers that there is room for, of actions, observations and pictures.
    pub fn lengths(&self) -> [usize; 3] {
        [self.actions.room, self.observations.room, self.pictures.room]
    }

    /// Numbers that are stored of them.
    pub fn stored(&self) -> [usize; 3] {
        [
            self.actions.kept.len(),
            self.observations.kept.len(),
            self.pictures.kept.len(),
        ]
    }

    /// Numbers that there should be for the stored delays in an environment like `here`.
    pub fn expected(&self, here: &Delayed) -> [usize; 3] {
        [
            here.actions.under_way(self.actions.delay),
            here.observations.under_way(self.observations.delay),
            here.pictures.under_way(self.pictures.delay),
        ]
    }

    /// Puts the state into what is under way in an environment of the same scene.
    pub fn restore(&self, to: &mut Delayed) {
        to.actions.restore(&self.actions, f64::from_bits);
        to.observations.restore(&self.observations, f32::from_bits);
        to.pictures.restore(&self.pictures, |byte| byte);
        to.waits = self.waits;
    }
}

impl Delayed {
    /// As [`DelayedState::lengths`].
    pub(super) fn lengths(&self) -> [usize; 3] {
        [
            self.actions.kept.len(),
            self.observations.kept.len(),
            self.pictures.kept.len(),
        ]
    }
}

impl<T: Copy + Default> Queue<T> {
    /// Numbers that are under way with this delay, at most all that there is room for.
    fn under_way(&self, delay: usize) -> usize {
        delay.saturating_mul(self.len).min(self.kept.len())
    }

    fn state<B>(&self, bits: impl Fn(T) -> B) -> QueueState<B> {
        let under_way = self.under_way(self.delay);
        QueueState {
            kept: (self.kept.iter().take(under_way)).map(|kept| bits(*kept)).collect(),
            room: self.kept.len(),
            delay: self.delay,
            oldest: self.oldest,
        }
    }

    fn restore<B: Copy>(&mut self, state: &QueueState<B>, number: impl Fn(B) -> T) {
        let QueueState {
            kept, delay, oldest, ..
        } = state;
        self.kept.fill(T::default());
        for (to, from) in self.kept.iter_mut().zip(kept) {
            *to = number(*from);
        }
        let most = self.kept.len() / self.len.max(1);
        self.delay = (*delay).min(most);
        self.oldest = if self.delay > 0 { oldest % self.delay } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_out_as_late_as_the_delay_says() {
        let mut queue: Queue<u32> = Queue::new(4, 2);
        for delay in [3, 0, 4, 1] {
            queue.begin(delay);
            queue.fill(&[100, 200]);
            for step in 0..10_u32 {
                let mut thing = [step, 10 * step];
                queue.exchange(&mut thing);
                let expected = match step.checked_sub(delay as u32) {
                    Some(sent) => [sent, 10 * sent],
                    None => [100, 200],
                };
                assert_eq!(thing, expected, "delay {delay}, step {step}");
            }
        }
    }

    #[test]
    fn as_much_is_stored_as_is_under_way() {
        let mut queue: Queue<f32> = Queue::new(50, 3);
        for delay in [0, 1, 7, 50, 2] {
            queue.begin(delay);
            queue.fill(&[0.5, -0.0, f32::MIN_POSITIVE]);
            for step in 0..11_u8 {
                queue.exchange(&mut [f32::from(step); 3]);
            }
            let state = queue.state(f32::to_bits);
            assert_eq!((state.kept.len(), state.room), (3 * delay, 150));
            let mut other: Queue<f32> = Queue::new(50, 3);
            // Left over from another episode.
            other.begin(50);
            other.fill(&[9.0; 3]);
            other.restore(&state, f32::from_bits);
            assert_eq!(other, queue, "delay {delay}");
        }
    }
}
