//! Replay memory: the transitions that a learner samples from.
//!
//! A [`ReplayBuffer`] holds fixed-capacity columns. New transitions overwrite the oldest ones; batches are drawn
//! uniformly *with replacement*, as in the systems this crate reproduces.
//!
//! **Memory.** One transition of `S` observation and `A` action values takes `8 S + 4 A + 7` bytes: both observations,
//! the action and the reward as `f32`, the number of control steps as `u16` and how it ended as `u8`. A kitchen buffer
//! for skills (S = 60, A = 10) of a million transitions is 527 MB when full. Address space for the whole capacity is
//! reserved at the start, pages are touched only as the buffer fills, and nothing is allocated by
//! [`push`](ReplayBuffer::push).

use std::collections::BTreeMap;

use bevy::prelude::Component;
use candle_core::{Device, Tensor};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::rng::Stream;

/// How a transition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum End {
    /// The episode goes on.
    #[default]
    Continues = 0,
    /// The episode ended for a reason inside the task; nothing can be earned afterwards.
    Terminated = 1,
    /// The episode was cut off by its time limit; its state still has a value.
    TimedOut = 2,
}

impl End {
    fn from_code(code: u8) -> Option<Self> {
        [Self::Continues, Self::Terminated, Self::TimedOut]
            .into_iter()
            .find(|&end| end as u8 == code)
    }

    /// Whether the episode is over.
    pub fn is_over(self) -> bool {
        self != Self::Continues
    }
}

/// One transition, borrowed from whoever observed it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transition<'a> {
    /// Observation in which the action (or skill) was chosen, `[S]`.
    pub observation: &'a [f32],
    /// Action (or skill) as it was executed, `[A]`.
    pub action: &'a [f32],
    /// Sum of the rewards over the control steps of the transition.
    pub reward: f32,
    /// Observation after the last of these control steps, `[S]`.
    pub next_observation: &'a [f32],
    /// Control steps whose rewards were summed (1 for a plain action). Larger numbers than 65 535 are stored as that.
    pub steps: u32,
    /// How it ended.
    pub end: End,
}

/// `B` transitions as CPU tensors (`f32`).
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B, S]`
    pub observation: Tensor,
    /// `[B, A]`
    pub action: Tensor,
    /// `[B]`
    pub reward: Tensor,
    /// `[B, S]`
    pub next_observation: Tensor,
    /// Control steps per transition, `[B]`.
    pub steps: Tensor,
    /// 1 where the episode terminated, else 0, `[B]`.
    pub terminated: Tensor,
    /// 1 where the episode was cut off by its time limit, else 0, `[B]`.
    pub timed_out: Tensor,
}

/// What can go wrong with a replay buffer.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A capacity or size of zero.
    #[error(
        "a replay buffer needs a capacity and sizes above zero (capacity {capacity}, observation {observation}, action {action})"
    )]
    Empty {
        /// Transitions.
        capacity: usize,
        /// Values per observation.
        observation: usize,
        /// Values per action.
        action: usize,
    },
    /// The address space for the columns is not to be had.
    #[error("no memory for a replay buffer of {bytes} bytes")]
    OutOfMemory {
        /// Size of the full buffer.
        bytes: usize,
    },
    /// A transition whose vectors have the wrong length.
    #[error("transition with {part} of {found} values pushed into a replay buffer for {expected}")]
    Size {
        /// Which vector.
        part: &'static str,
        /// Its length.
        found: usize,
        /// The buffer's length.
        expected: usize,
    },
    /// A batch was asked of a buffer that holds nothing.
    #[error("no transition has been stored yet")]
    NothingStored,
    /// A stored buffer that cannot be used.
    #[error("the stored buffer cannot be used: {0}")]
    Stored(String),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Ring buffer of transitions in columns. See the [module](self) for its memory.
#[derive(Debug, Clone, PartialEq, Component)]
pub struct ReplayBuffer {
    capacity: usize,
    observation_size: usize,
    action_size: usize,
    /// Row that the next transition is written to.
    cursor: usize,
    /// Transitions refused because a value was not finite.
    refused: u64,
    observation: Vec<f32>,
    action: Vec<f32>,
    reward: Vec<f32>,
    next_observation: Vec<f32>,
    steps: Vec<u16>,
    end: Vec<u8>,
}

impl ReplayBuffer {
    /// An empty buffer for `capacity` transitions of `observation` and `action` values.
    ///
    /// # Errors
    /// A zero among the arguments, or more memory than the address space has.
    pub fn new(capacity: usize, observation: usize, action: usize) -> Result<Self, ReplayError> {
        if capacity == 0 || observation == 0 || action == 0 {
            return Err(ReplayError::Empty {
                capacity,
                observation,
                action,
            });
        }
        let bytes = capacity.saturating_mul(8 * observation + 4 * action + 7);
        let floats = |width: usize| reserved::<f32>(capacity.saturating_mul(width), bytes);
        Ok(Self {
            capacity,
            observation_size: observation,
            action_size: action,
            cursor: 0,
            refused: 0,
            observation: floats(observation)?,
            action: floats(action)?,
            reward: floats(1)?,
            next_observation: floats(observation)?,
            steps: reserved(capacity, bytes)?,
            end: reserved(capacity, bytes)?,
        })
    }

    /// Transitions held at present.
    pub fn len(&self) -> usize {
        self.reward.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.reward.is_empty()
    }

    /// Transitions held at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Values per observation.
    pub fn observation_size(&self) -> usize {
        self.observation_size
    }

    /// Values per action.
    pub fn action_size(&self) -> usize {
        self.action_size
    }

    /// Transitions refused so far because a value was not finite.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Bytes that the held transitions occupy.
    pub fn bytes(&self) -> usize {
        self.len() * (8 * self.observation_size + 4 * self.action_size + 7)
    }

    /// Stores one transition, over the oldest one when full. Returns `false`, and counts, when it was refused because
    /// a value is not finite: one such number in a batch would spoil every weight.
    ///
    /// # Errors
    /// Vectors of the wrong length.
    pub fn push(&mut self, transition: Transition<'_>) -> Result<bool, ReplayError> {
        let Transition {
            observation,
            action,
            reward,
            next_observation,
            steps,
            end,
        } = transition;
        for (part, found, expected) in [
            ("an observation", observation.len(), self.observation_size),
            ("an action", action.len(), self.action_size),
            ("a next observation", next_observation.len(), self.observation_size),
        ] {
            if found != expected {
                return Err(ReplayError::Size { part, found, expected });
            }
        }
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !(finite(observation) && finite(action) && finite(next_observation) && reward.is_finite()) {
            self.refused += 1;
            return Ok(false);
        }
        let row = self.cursor;
        write_row(&mut self.observation, row, observation);
        write_row(&mut self.action, row, action);
        write_row(&mut self.reward, row, &[reward]);
        write_row(&mut self.next_observation, row, next_observation);
        write_row(&mut self.steps, row, &[u16::try_from(steps).unwrap_or(u16::MAX)]);
        write_row(&mut self.end, row, &[end as u8]);
        self.cursor = (row + 1) % self.capacity;
        Ok(true)
    }

    /// The transition in `row` (storage order, not age), if there is one.
    pub fn get(&self, row: usize) -> Option<Transition<'_>> {
        Some(Transition {
            observation: read_row(&self.observation, row, self.observation_size)?,
            action: read_row(&self.action, row, self.action_size)?,
            reward: *self.reward.get(row)?,
            next_observation: read_row(&self.next_observation, row, self.observation_size)?,
            steps: u32::from(*self.steps.get(row)?),
            end: End::from_code(*self.end.get(row)?)?,
        })
    }

    /// Draws `batch` transitions uniformly with replacement.
    ///
    /// Takes `&self`, so several learners can sample one buffer at the same time: each column is gathered once into
    /// the vector that then *is* the tensor, without a second copy.
    ///
    /// # Errors
    /// An empty buffer.
    pub fn sample(&self, stream: &mut Stream, batch: usize) -> Result<Batch, ReplayError> {
        if self.is_empty() {
            return Err(ReplayError::NothingStored);
        }
        let rows = self.len() as u64;
        let rows: Vec<usize> = (0..batch).map(|_| stream.random_range(0..rows) as usize).collect();
        self.gather(&rows)
    }

    /// The transitions in `rows` (storage order), one batch row each; rows that hold nothing are left out.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn gather(&self, rows: &[usize]) -> Result<Batch, ReplayError> {
        let (s, a, n) = (self.observation_size, self.action_size, rows.len());
        let mut observation = Vec::with_capacity(n * s);
        let mut action = Vec::with_capacity(n * a);
        let mut next_observation = Vec::with_capacity(n * s);
        let mut scalars: [Vec<f32>; 4] = std::array::from_fn(|_| Vec::with_capacity(n));
        for transition in rows.iter().filter_map(|&row| self.get(row)) {
            observation.extend_from_slice(transition.observation);
            action.extend_from_slice(transition.action);
            next_observation.extend_from_slice(transition.next_observation);
            let flag = |end| f32::from(u8::from(transition.end == end));
            let values = [
                transition.reward,
                transition.steps as f32,
                flag(End::Terminated),
                flag(End::TimedOut),
            ];
            for (column, value) in scalars.iter_mut().zip(values) {
                column.push(value);
            }
        }
        let n = scalars[0].len();
        let [reward, steps, terminated, timed_out] = scalars.map(|column| Tensor::from_vec(column, n, &Device::Cpu));
        Ok(Batch {
            observation: Tensor::from_vec(observation, (n, s), &Device::Cpu)?,
            action: Tensor::from_vec(action, (n, a), &Device::Cpu)?,
            reward: reward?,
            next_observation: Tensor::from_vec(next_observation, (n, s), &Device::Cpu)?,
            steps: steps?,
            terminated: terminated?,
            timed_out: timed_out?,
        })
    }

    /// The held transitions as tensors for a checkpoint: one per column, in storage order, so that sampling goes on
    /// with the same rows after [`import`](Self::import). Needs memory for all columns once more.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn export(&self) -> Result<BTreeMap<String, Tensor>, ReplayError> {
        let (n, s, a) = (self.len(), self.observation_size, self.action_size);
        let steps = self.steps.iter().map(|&steps| u32::from(steps)).collect::<Vec<_>>();
        let counters = [
            self.capacity as i64,
            self.cursor as i64,
            self.refused as i64,
            s as i64,
            a as i64,
        ];
        // candle has no tensors of zero elements.
        let columns = if n == 0 {
            Vec::new()
        } else {
            vec![
                (
                    "observation",
                    Tensor::from_slice(&self.observation, (n, s), &Device::Cpu)?,
                ),
                ("action", Tensor::from_slice(&self.action, (n, a), &Device::Cpu)?),
                ("reward", Tensor::from_slice(&self.reward, n, &Device::Cpu)?),
                (
                    "next_observation",
                    Tensor::from_slice(&self.next_observation, (n, s), &Device::Cpu)?,
                ),
                ("steps", Tensor::from_vec(steps, n, &Device::Cpu)?),
                ("end", Tensor::from_slice(&self.end, n, &Device::Cpu)?),
            ]
        };
        let counters = [("counters", Tensor::new(&counters, &Device::Cpu)?)];
        Ok(columns
            .into_iter()
            .chain(counters)
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .collect())
    }

    /// The buffer that [`export`](Self::export) wrote.
    ///
    /// # Errors
    /// A column is missing, columns do not fit together, or they hold values that no buffer stores.
    pub fn import(from: &BTreeMap<String, Tensor>) -> Result<Self, ReplayError> {
        let column = |name: &str| {
            from.get(name)
                .ok_or_else(|| ReplayError::Stored(format!("its column {name:?} is missing")))
        };
        let counters = column("counters")?.to_vec1::<i64>()?;
        let counters: Option<Vec<usize>> = counters.iter().map(|&count| usize::try_from(count).ok()).collect();
        let Some([capacity, cursor, refused, s, a]) = counters.as_deref() else {
            return Err(ReplayError::Stored("its counters are not five whole numbers".into()));
        };
        let mut buffer = Self::new(*capacity, *s, *a)?;
        (buffer.cursor, buffer.refused) = (*cursor, *refused as u64);
        if from.contains_key("observation") {
            let floats = |name: &str| Ok::<_, ReplayError>(column(name)?.flatten_all()?.to_vec1::<f32>()?);
            let steps = column("steps")?.to_vec1::<u32>()?;
            buffer.observation.extend(floats("observation")?);
            buffer.action.extend(floats("action")?);
            buffer.reward.extend(floats("reward")?);
            buffer.next_observation.extend(floats("next_observation")?);
            buffer
                .steps
                .extend(steps.iter().map(|&steps| u16::try_from(steps).unwrap_or(u16::MAX)));
            buffer.end.extend(column("end")?.to_vec1::<u8>()?);
        }
        let n = buffer.len();
        let sizes = [
            buffer.observation.len() / s,
            buffer.action.len() / a,
            buffer.next_observation.len() / s,
        ];
        let rows_agree = [buffer.steps.len(), buffer.end.len()]
            .into_iter()
            .chain(sizes)
            .all(|rows| rows == n);
        let cursor_fits = if n < *capacity { *cursor == n } else { cursor < capacity };
        if !rows_agree || n > *capacity || !cursor_fits {
            return Err(ReplayError::Stored("its columns do not fit together".into()));
        }
        let columns = [
            &buffer.observation,
            &buffer.action,
            &buffer.next_observation,
            &buffer.reward,
        ];
        let finite = columns
            .iter()
            .all(|column| column.iter().all(|value| value.is_finite()));
        if !finite || !buffer.end.iter().all(|&code| End::from_code(code).is_some()) {
            return Err(ReplayError::Stored("it holds values that no buffer stores".into()));
        }
        Ok(buffer)
    }
}

fn reserved<T>(count: usize, bytes: usize) -> Result<Vec<T>, ReplayError> {
    let mut column = Vec::new();
    column
        .try_reserve_exact(count)
        .map_err(|_| ReplayError::OutOfMemory { bytes })?;
    Ok(column)
}

/// Writes `values` to `row`, which is at most one past the last row.
fn write_row<T: Copy>(column: &mut Vec<T>, row: usize, values: &[T]) {
    let start = row * values.len();
    match column.get_mut(start..start + values.len()) {
        Some(old) => old.copy_from_slice(values),
        None => column.extend_from_slice(values),
    }
}

fn read_row(column: &[f32], row: usize, width: usize) -> Option<&[f32]> {
    let start = row.checked_mul(width)?;
    column.get(start..start.checked_add(width)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::rng::{Purpose, stream};

    /// A transition all of whose values tell its number.
    fn numbered(buffer: &mut ReplayBuffer, number: usize) -> bool {
        let value = number as f32;
        let observation = vec![value; buffer.observation_size()];
        let next = vec![value + 0.5; buffer.observation_size()];
        let action = vec![-value; buffer.action_size()];
        let end = [End::Continues, End::Terminated, End::TimedOut][number % 3];
        let transition = Transition {
            observation: &observation,
            action: &action,
            reward: value,
            next_observation: &next,
            steps: number as u32,
            end,
        };
        buffer.push(transition).expect("sizes fit")
    }

    proptest! {
        /// Whatever was pushed, the buffer holds exactly the last `capacity` transitions, each one whole.
        #[test]
        fn holds_the_newest_whole(capacity in 1_usize..20, pushed in 0_usize..70, s in 1_usize..4, a in 1_usize..4) {
            let mut buffer = ReplayBuffer::new(capacity, s, a).unwrap();
            for number in 0..pushed {
                prop_assert!(numbered(&mut buffer, number));
            }
            prop_assert_eq!(buffer.len(), pushed.min(capacity));
            let mut numbers: Vec<usize> = Vec::new();
            for row in 0..buffer.len() {
                let t = buffer.get(row).unwrap();
                prop_assert!(t.observation.iter().all(|&v| v == t.reward));
                prop_assert!(t.next_observation.iter().all(|&v| v == t.reward + 0.5));
                prop_assert!(t.action.iter().all(|&v| v == -t.reward));
                prop_assert_eq!(t.steps as f32, t.reward);
                prop_assert_eq!(t.end as usize, t.steps as usize % 3);
                numbers.push(t.steps as usize);
            }
            numbers.sort_unstable();
            let expected: Vec<usize> = (pushed.saturating_sub(capacity)..pushed).collect();
            prop_assert_eq!(numbers, expected);
            prop_assert!(buffer.get(buffer.len()).is_none());
        }

        /// A stored and loaded buffer is the same buffer and goes on in the same way.
        #[test]
        fn survives_a_checkpoint(capacity in 1_usize..9, pushed in 0_usize..20) {
            let mut first = ReplayBuffer::new(capacity, 2, 3).unwrap();
            for number in 0..pushed {
                numbered(&mut first, number);
            }
            let mut second = ReplayBuffer::import(&first.export().unwrap()).unwrap();
            prop_assert_eq!(&first, &second);
            numbered(&mut first, 99);
            numbered(&mut second, 99);
            prop_assert_eq!(first, second);
        }
    }

    #[test]
    fn batches_are_whole_transitions_and_repeat_with_the_stream() {
        let mut buffer = ReplayBuffer::new(7, 2, 1).unwrap();
        let mut draws = stream(3, Purpose::Replay, 0, 0);
        assert!(matches!(buffer.sample(&mut draws, 4), Err(ReplayError::NothingStored)));
        for number in 0..10 {
            numbered(&mut buffer, number);
        }
        let mut again = draws.clone();
        let batch = buffer.sample(&mut draws, 500).unwrap();
        let reward: Vec<f32> = batch.reward.to_vec1().unwrap();
        assert_eq!(
            reward,
            buffer.sample(&mut again, 500).unwrap().reward.to_vec1::<f32>().unwrap()
        );
        for value in 3..10 {
            assert!(reward.contains(&(value as f32)), "uniform sampling reaches every row");
        }
        let observation: Vec<Vec<f32>> = batch.observation.to_vec2().unwrap();
        let terminated: Vec<f32> = batch.terminated.to_vec1().unwrap();
        let timed_out: Vec<f32> = batch.timed_out.to_vec1().unwrap();
        for row in 0..500 {
            assert_eq!(observation[row], vec![reward[row]; 2]);
            assert_eq!(terminated[row] == 1.0, reward[row] as u32 % 3 == 1);
            assert_eq!(timed_out[row] == 1.0, reward[row] as u32 % 3 == 2);
        }
    }

    #[test]
    fn refuses_and_counts_what_is_not_finite() {
        let mut buffer = ReplayBuffer::new(4, 2, 1).unwrap();
        let good = Transition {
            observation: &[0.0, 1.0],
            action: &[0.0],
            reward: 0.0,
            next_observation: &[1.0, 2.0],
            steps: 1,
            end: End::Continues,
        };
        assert!(buffer.push(good).unwrap());
        assert!(
            !buffer
                .push(Transition {
                    reward: f32::NAN,
                    ..good
                })
                .unwrap()
        );
        assert!(
            !buffer
                .push(Transition {
                    action: &[f32::INFINITY],
                    ..good
                })
                .unwrap()
        );
        assert!(
            !buffer
                .push(Transition {
                    next_observation: &[f32::NAN, 0.0],
                    ..good
                })
                .unwrap()
        );
        assert_eq!((buffer.len(), buffer.refused()), (1, 3));
        assert!(matches!(
            buffer.push(Transition {
                action: &[0.0, 0.0],
                ..good
            }),
            Err(ReplayError::Size { .. })
        ));
    }

    #[test]
    fn columns_that_do_not_fit_together_are_an_error() {
        let mut buffer = ReplayBuffer::new(4, 2, 1).unwrap();
        numbered(&mut buffer, 1);
        let whole = buffer.export().unwrap();
        for name in whole.keys() {
            let mut damaged = whole.clone();
            damaged.remove(name);
            assert!(
                matches!(ReplayBuffer::import(&damaged), Err(ReplayError::Stored(_))),
                "{name}"
            );
        }
        let mut poisoned = whole;
        poisoned.insert("reward".to_owned(), Tensor::new(&[f32::NAN], &Device::Cpu).unwrap());
        assert!(matches!(ReplayBuffer::import(&poisoned), Err(ReplayError::Stored(_))));
    }
}
