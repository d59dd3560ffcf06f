//! Turns the control steps of one agent into transitions between skills.
//!
//! A high-level learner sees one transition per skill, however many control steps the skill lasted. The agent calls
//! [`SkillRecorder::decide`] whenever it picks a skill and [`SkillRecorder::step`] after every control step; both may
//! hand back a finished transition. Skills may have any length, and a recorder that has seen one transition allocates
//! no more.
//!
//! ```
//! use apprentice::learners::skill_recorder::{SkillRecorder, TransitionRule};
//! use apprentice::replay::End;
//!
//! let mut recorder = SkillRecorder::new(TransitionRule::Aligned);
//! assert!(recorder.decide(&[0.0], None, &[7.0]).is_none()); // a first skill from state 0
//! assert!(recorder.step(1.0, &[1.0], None, End::Continues).is_none());
//! assert!(recorder.step(2.0, &[2.0], None, End::Continues).is_none());
//! let first = recorder.decide(&[2.0], None, &[8.0]).expect("the first skill is over");
//! assert_eq!((first.observation, first.action, first.reward), (&[0.0][..], &[7.0][..], 3.0));
//! assert_eq!((first.next_observation, first.steps), (&[2.0][..], 2));
//! let last = recorder.step(4.0, &[3.0], None, End::TimedOut).expect("the episode is over");
//! assert_eq!((last.reward, last.steps, last.end), (4.0, 1, End::TimedOut));
//! ```

use bevy::prelude::Component;
use serde::{Deserialize, Serialize};

use crate::replay::{End, Transition};

/// Which states and rewards make up the transition of a skill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TransitionRule {
    /// From the state in which the skill was chosen to the state in which the next one is chosen, with all rewards in
    /// between; the last skill of an episode is stored however short it is.
    #[default]
    Aligned,
    /// The rule of the published `SPiRL` code (commit e74ad23, `spirl/rl/components/sampler.py`): a transition is
    /// completed *one step after* the next decision, so both of its states lie one step late (except the first state
    /// of an episode) while its rewards are aligned with the skill; a reward on the very last step of a timed-out
    /// episode is lost, and a skill that was chosen on the last step is never stored.
    Original,
}

/// Skill and the observation stored with it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Choice {
    observation: Vec<f32>,
    /// Empty where no pictures are seen.
    #[serde(default)]
    pixels: Vec<u8>,
    skill: Vec<f32>,
}

impl Choice {
    fn set_seen(&mut self, observation: &[f32], pixels: Option<&[u8]>) {
        assign(&mut self.observation, observation);
        assign(&mut self.pixels, pixels.unwrap_or_default());
    }
}

/// Bookkeeping of one agent. See the [module](self).
#[derive(Debug, Clone, PartialEq, Default, Component, Serialize, Deserialize)]
pub struct SkillRecorder {
    rule: TransitionRule,
    /// The choice whose rewards are being summed, if `running`.
    current: Choice,
    running: bool,
    reward: f64,
    steps: u32,
    /// The choice that was finished last; lent out as part of a transition.
    finished: Choice,
    /// [`TransitionRule::Original`] only: the newest choice, until the step after the decision.
    fresh: Choice,
    decided: bool,
    /// Control steps since the episode began.
    elapsed: u64,
}

impl SkillRecorder {
    /// A recorder at the start of an episode.
    pub fn new(rule: TransitionRule) -> Self {
        Self {
            rule,
            ..Self::default()
        }
    }

    /// Forgets the running skill, as after a fault of the environment; the next episode starts afresh.
    pub fn discard(&mut self) {
        self.running = false;
        self.decided = false;
        self.reward = 0.0;
        self.steps = 0;
        self.elapsed = 0;
    }

    /// The agent chose `skill` (`[d]`, as executed) from `observation` (`[S]`, with its picture where pictures are seen)
    /// and will act on it from the next control step on. Returns the transition that this decision completes.
    pub fn decide<'a>(
        &'a mut self,
        observation: &'a [f32],
        pixels: Option<&'a [u8]>,
        skill: &[f32],
    ) -> Option<Transition<'a>> {
        match self.rule {
            TransitionRule::Aligned => {
                let complete = self.running && self.steps > 0;
                let (reward, steps) = self.begin(complete);
                self.current.set_seen(observation, pixels);
                assign(&mut self.current.skill, skill);
                self.running = true;
                complete.then_some(self.lend(reward, steps, (observation, pixels), End::Continues))
            }
            TransitionRule::Original => {
                self.fresh.set_seen(observation, pixels);
                assign(&mut self.fresh.skill, skill);
                self.decided = true;
                None
            }
        }
    }

    /// One control step passed: it earned `reward` and led to `next_observation` (`[S]`, with its picture where pictures
    /// are seen). Returns the transition that the step completes. Steps before the first decision of an episode are not
    /// recorded.
    pub fn step<'a>(
        &'a mut self,
        reward: f32,
        next_observation: &'a [f32],
        next_pixels: Option<&'a [u8]>,
        end: End,
    ) -> Option<Transition<'a>> {
        let next = (next_observation, next_pixels);
        let completed = match self.rule {
            TransitionRule::Aligned => {
                self.add(reward);
                (end.is_over() && self.running).then(|| self.begin(true))
            }
            TransitionRule::Original => self.step_original(reward, next, end),
        };
        self.elapsed += 1;
        if end.is_over() {
            self.discard();
        }
        let (reward, steps) = completed?;
        Some(self.lend(reward, steps, next, end))
    }

    fn step_original(&mut self, reward: f32, next: (&[f32], Option<&[u8]>), end: End) -> Option<(f64, u32)> {
        let mut completed = None;
        if self.decided || end.is_over() {
            if self.running && end == End::Terminated {
                self.add(reward);
            }
            let complete = self.running;
            let sums = self.begin(complete);
            completed = complete.then_some(sums);
            if self.elapsed == 0 {
                let Choice {
                    observation, pixels, ..
                } = &self.fresh;
                self.current.set_seen(observation, Some(pixels));
            } else {
                self.current.set_seen(next.0, next.1);
            }
            assign(&mut self.current.skill, &self.fresh.skill);
            self.running = true;
            self.decided = false;
        }
        self.add(reward);
        completed
    }

    fn add(&mut self, reward: f32) {
        if self.running {
            self.reward += f64::from(reward);
            self.steps += 1;
        }
    }

    /// Starts new sums and returns the old ones; if the current choice is complete it becomes the finished one.
    fn begin(&mut self, complete: bool) -> (f64, u32) {
        if complete {
            std::mem::swap(&mut self.current, &mut self.finished);
        }
        (std::mem::take(&mut self.reward), std::mem::take(&mut self.steps))
    }

    fn lend<'a>(&'a self, reward: f64, steps: u32, next: (&'a [f32], Option<&'a [u8]>), end: End) -> Transition<'a> {
        let Choice {
            observation,
            pixels,
            skill,
        } = &self.finished;
        Transition {
            observation,
            pixels: (!pixels.is_empty()).then_some(pixels),
            action: skill,
            reward: reward as f32,
            next_observation: next.0,
            next_pixels: next.1,
            steps,
            end,
        }
    }
}

/// Copies into a vector that keeps its memory.
fn assign<T: Copy>(target: &mut Vec<T>, values: &[T]) {
    target.clear();
    target.extend_from_slice(values);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// Plays one episode with the given skill lengths and returns `(start, skill, reward, next, steps, end)` of every
    /// transition; the state before step `t` is `[t]` with the picture `[t]`, the reward of step `t` is `t + 1`.
    fn play(rule: TransitionRule, lengths: &[u32], total: u32, end: End) -> Vec<(u32, u32, u32, u32, u32, End)> {
        let mut recorder = SkillRecorder::new(rule);
        let mut out = Vec::new();
        let keep = |t: Transition<'_>| {
            let int = |values: &[f32]| values[0] as u32;
            assert_eq!(t.pixels, Some(&[t.observation[0] as u8][..]), "its own picture");
            assert_eq!(
                t.next_pixels,
                Some(&[t.next_observation[0] as u8][..]),
                "its own picture"
            );
            (
                int(t.observation),
                int(t.action),
                t.reward as u32,
                int(t.next_observation),
                t.steps,
                t.end,
            )
        };
        let mut left = 0;
        let mut skill = 0;
        for t in 0..total {
            if left == 0 {
                out.extend(
                    recorder
                        .decide(&[t as f32], Some(&[t as u8]), &[skill as f32])
                        .map(keep),
                );
                left = lengths[skill % lengths.len()];
                skill += 1;
            }
            left -= 1;
            let now = if t + 1 == total { end } else { End::Continues };
            let next = t + 1;
            out.extend(
                recorder
                    .step(next as f32, &[next as f32], Some(&[next as u8]), now)
                    .map(keep),
            );
        }
        out
    }

    proptest! {
        /// Aligned transitions tile the episode: each starts where the one before ended, and no reward is lost.
        #[test]
        fn aligned_transitions_tile_the_episode(
            lengths in prop::collection::vec(1_u32..20, 1..6),
            total in 1_u32..120,
            terminated in any::<bool>(),
        ) {
            let end = if terminated { End::Terminated } else { End::TimedOut };
            let transitions = play(TransitionRule::Aligned, &lengths, total, end);
            let mut at = 0;
            for (number, &(start, skill, reward, next, steps, how)) in transitions.iter().enumerate() {
                prop_assert_eq!(start, at);
                prop_assert_eq!(skill as usize, number);
                prop_assert_eq!(next, start + steps);
                prop_assert_eq!(reward, (start + 1..=next).sum::<u32>());
                let last = number + 1 == transitions.len();
                prop_assert_eq!(how, if last { end } else { End::Continues });
                prop_assert!(steps == lengths[number % lengths.len()] || last);
                at = next;
            }
            prop_assert_eq!(at, total);
        }
    }

    #[test]
    fn the_original_rule_is_one_step_late() {
        let transitions = play(TransitionRule::Original, &[10], 25, End::TimedOut);
        let states: Vec<_> = transitions.iter().map(|t| (t.0, t.3, t.4)).collect();
        assert_eq!(states, [(0, 11, 10), (11, 21, 10), (21, 25, 4)]);
        assert_eq!(transitions[0].2, (1..=10).sum::<u32>());
        assert_eq!(
            transitions[2].2,
            (21..=24).sum::<u32>(),
            "the reward of the last step is lost"
        );
    }

    #[test]
    fn a_discarded_skill_leaves_nothing_behind() {
        for rule in [TransitionRule::Aligned, TransitionRule::Original] {
            let mut recorder = SkillRecorder::new(rule);
            recorder.decide(&[0.0], None, &[1.0]);
            recorder.step(5.0, &[1.0], None, End::Continues);
            recorder.discard();
            assert!(recorder.decide(&[9.0], None, &[2.0]).is_none());
            recorder.step(1.0, &[10.0], None, End::Continues);
            let last = recorder
                .step(1.0, &[11.0], None, End::Terminated)
                .expect("the episode is over");
            assert_eq!(
                (last.observation, last.action, last.reward),
                (&[9.0][..], &[2.0][..], 2.0)
            );
        }
    }

    #[test]
    fn memory_is_kept_between_transitions() {
        let mut recorder = SkillRecorder::new(TransitionRule::Aligned);
        let observation = [0.0; 60];
        for _ in 0..3 {
            recorder.decide(&observation, Some(&[0; 24]), &[0.0; 10]);
            recorder.step(0.0, &observation, Some(&[0; 24]), End::Continues);
        }
        let before = (
            recorder.current.observation.capacity(),
            recorder.finished.observation.capacity(),
        );
        for _ in 0..100 {
            recorder.decide(&observation, Some(&[0; 24]), &[0.0; 10]);
            recorder.step(0.0, &observation, Some(&[0; 24]), End::Continues);
        }
        assert_eq!(
            before,
            (
                recorder.current.observation.capacity(),
                recorder.finished.observation.capacity()
            )
        );
    }
}
