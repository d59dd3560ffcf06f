//! Replay memory: the transitions that a learner samples from.
//!
//! A [`ReplayBuffer`] holds fixed-capacity columns. New transitions overwrite the oldest ones; batches are drawn
//! uniformly *with replacement*, as in the systems this crate reproduces.
//!
//! **Memory.** One transition of `S` observation and `A` action values takes `8 S + 4 A + 7` bytes: both observations,
//! the action and the reward as `f32`, the number of control steps as `u16` and how it ended as `u8`. A kitchen buffer
//! for skills (S = 60, A = 10) of a million transitions is 527 MB when full. Pictures are kept as bytes, `3 * frames`
//! of them for each pixel, so with them a transition takes 12.3 kB more for two frames of 32 x 32, and a hundred thousand
//! transitions are 1.24 GB. What a frozen prior says of both pictures can be kept beside them, `16 A` bytes. Address space
//! for the whole capacity is reserved at the start, pages are touched only as the buffer fills, and nothing is allocated by
//! [`push`](ReplayBuffer::push) unless a prior is to be asked.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bevy::prelude::Component;
use candle_core::{Device, Tensor};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Tensors;
use crate::nn::DiagGaussian;
use crate::rng::Stream;
use crate::skills::PixelDims;
use crate::skills::sees::extend_with_brightness;

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
    /// The picture seen then, `[3 * frames, size, size]`, where pictures are kept.
    pub pixels: Option<&'a [u8]>,
    /// Action (or skill) as it was executed, `[A]`.
    pub action: &'a [f32],
    /// Sum of the rewards over the control steps of the transition.
    pub reward: f32,
    /// Observation after the last of these control steps, `[S]`.
    pub next_observation: &'a [f32],
    /// The picture seen then, where pictures are kept.
    pub next_pixels: Option<&'a [u8]>,
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
    /// Pictures `[B, 3 * frames, size, size]` in -1 to 1, where they are kept.
    pub pixels: Option<Tensor>,
    /// `[B, A]`
    pub action: Tensor,
    /// `[B]`
    pub reward: Tensor,
    /// `[B, S]`
    pub next_observation: Tensor,
    /// As `pixels`, for the next observation.
    pub next_pixels: Option<Tensor>,
    /// What a frozen prior says of both observations, where that is kept.
    pub prior: Option<PriorBatch>,
    /// Control steps per transition, `[B]`.
    pub steps: Tensor,
    /// 1 where the episode terminated, else 0, `[B]`.
    pub terminated: Tensor,
    /// 1 where the episode was cut off by its time limit, else 0, `[B]`.
    pub timed_out: Tensor,
}

impl Batch {
    /// The same on another device.
    ///
    /// # Errors
    /// Not enough memory there.
    pub fn to_device(&self, device: &Device) -> candle_core::Result<Self> {
        let pictures = |pixels: &Option<Tensor>| pixels.as_ref().map(|pixels| pixels.to_device(device)).transpose();
        let gaussian = |said: &DiagGaussian| {
            Ok::<_, candle_core::Error>(DiagGaussian {
                mu: said.mu.to_device(device)?,
                log_sigma: said.log_sigma.to_device(device)?,
            })
        };
        let prior = self.prior.as_ref().map(|said| {
            Ok::<_, candle_core::Error>(PriorBatch {
                here: gaussian(&said.here)?,
                next: gaussian(&said.next)?,
            })
        });
        Ok(Self {
            observation: self.observation.to_device(device)?,
            pixels: pictures(&self.pixels)?,
            action: self.action.to_device(device)?,
            reward: self.reward.to_device(device)?,
            next_observation: self.next_observation.to_device(device)?,
            next_pixels: pictures(&self.next_pixels)?,
            prior: prior.transpose()?,
            steps: self.steps.to_device(device)?,
            terminated: self.terminated.to_device(device)?,
            timed_out: self.timed_out.to_device(device)?,
        })
    }
}

/// What a frozen prior says of the observations of a [`Batch`], rows of `[B, A]`.
#[derive(Debug, Clone)]
pub struct PriorBatch {
    /// In which the actions were chosen.
    pub here: DiagGaussian,
    /// After them.
    pub next: DiagGaussian,
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
    /// Pictures without a frame or a pixel.
    #[error(
        "pictures need at least one frame and one pixel, got {frames} frames with a side of {size}",
        frames = .0.frames,
        size = .0.size
    )]
    NoPicture(PixelDims),
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
    /// Transitions stored so far, those that were overwritten too.
    stored: u64,
    /// Transitions refused because a value was not finite.
    refused: u64,
    observation: Vec<f32>,
    action: Vec<f32>,
    reward: Vec<f32>,
    next_observation: Vec<f32>,
    steps: Vec<u16>,
    end: Vec<u8>,
    pictures: Option<Pictures>,
    asked: Option<Asked>,
}

/// The columns of a frozen prior's Gaussians.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    /// `[mean | log standard deviation]` of observation, then of next observation, `4 A` values a row.
    answers: Vec<f32>,
    /// Rows for which the prior has not been asked yet.
    waiting: Vec<usize>,
}

/// The columns of pictures.
#[derive(Debug, Clone, PartialEq)]
struct Pictures {
    dims: PixelDims,
    pixels: Vec<u8>,
    next_pixels: Vec<u8>,
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
            stored: 0,
            refused: 0,
            observation: floats(observation)?,
            action: floats(action)?,
            reward: floats(1)?,
            next_observation: floats(observation)?,
            steps: reserved(capacity, bytes)?,
            end: reserved(capacity, bytes)?,
            pictures: None,
            asked: None,
        })
    }

    /// As [`ReplayBuffer::new`], for transitions with pictures of these sizes.
    ///
    /// # Errors
    /// A zero among the sizes, or more memory than the address space has.
    pub fn with_pixels(
        capacity: usize,
        observation: usize,
        action: usize,
        dims: PixelDims,
    ) -> Result<Self, ReplayError> {
        if dims.picture() == 0 {
            return Err(ReplayError::NoPicture(dims));
        }
        let bytes = capacity.saturating_mul(2 * dims.picture());
        let column = || reserved(capacity.saturating_mul(dims.picture()), bytes);
        Ok(Self {
            pictures: Some(Pictures {
                dims,
                pixels: column()?,
                next_pixels: column()?,
            }),
            ..Self::new(capacity, observation, action)?
        })
    }

    /// As it is, and keeps what a frozen prior says of both observations of every transition: `16 A` bytes more. That is
    /// worth it where the prior sees pictures, for it is asked once instead of in every batch. Rows wait in
    /// [`waiting`](Self::waiting) until the answers are [given](Self::answer); they must not be sampled before.
    ///
    /// # Errors
    /// More memory than the address space has.
    pub fn with_prior(mut self) -> Result<Self, ReplayError> {
        if self.asked.is_none() {
            let values = self.capacity.saturating_mul(4 * self.action_size);
            let mut answers = reserved(values, values.saturating_mul(4))?;
            answers.resize(self.len() * 4 * self.action_size, 0.0);
            let waiting = (0..self.len()).collect();
            self.asked = Some(Asked { answers, waiting });
        }
        Ok(self)
    }

    /// Rows for which the prior is still to be asked, in the order of storing; empty where its answers are not kept.
    pub fn waiting(&self) -> &[usize] {
        self.asked.as_ref().map_or(&[], |asked| &asked.waiting)
    }

    /// Keeps what the prior says of the first waiting rows: `here` and `next` hold one row `[B, A]` for each.
    ///
    /// # Errors
    /// A failed tensor operation, or numbers for more rows than wait.
    pub fn answer(&mut self, here: &DiagGaussian, next: &DiagGaussian) -> Result<(), ReplayError> {
        let Some(asked) = &mut self.asked else { return Ok(()) };
        let parts = [&here.mu, &here.log_sigma, &next.mu, &next.log_sigma];
        let joined = Tensor::cat(&parts, 1)?;
        let (rows, found) = joined.dims2()?;
        let width = 4 * self.action_size;
        if found != width || rows > asked.waiting.len() {
            return Err(ReplayError::Size {
                part: "a prior's answer",
                found,
                expected: width,
            });
        }
        let values = joined.flatten_all()?.to_vec1::<f32>()?;
        for (row, values) in asked.waiting.drain(..rows).zip(values.chunks_exact(width)) {
            write_row(&mut asked.answers, row, values);
        }
        Ok(())
    }

    /// Sizes of the pictures that are kept with every transition.
    pub fn pixels(&self) -> Option<PixelDims> {
        self.pictures.as_ref().map(|pictures| pictures.dims)
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
            pixels,
            next_pixels,
        } = transition;
        let picture = self.pixels().map_or(0, PixelDims::picture);
        // A buffer without pictures takes no notice of them.
        let bytes = |pixels: Option<&[u8]>| if picture == 0 { 0 } else { pixels.map_or(0, <[u8]>::len) };
        for (part, found, expected) in [
            ("an observation", observation.len(), self.observation_size),
            ("an action", action.len(), self.action_size),
            ("a next observation", next_observation.len(), self.observation_size),
            ("a picture", bytes(pixels), picture),
            ("a next picture", bytes(next_pixels), picture),
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
        if let (Some(pictures), Some(pixels), Some(next)) = (&mut self.pictures, pixels, next_pixels) {
            write_row(&mut pictures.pixels, row, pixels);
            write_row(&mut pictures.next_pixels, row, next);
        }
        if let Some(asked) = &mut self.asked {
            // A row that is written again keeps its place among those that wait.
            if !asked.waiting.contains(&row) {
                asked.waiting.push(row);
            }
            let end = (row + 1) * 4 * self.action_size;
            asked.answers.resize(asked.answers.len().max(end), 0.0);
        }
        self.cursor = (row + 1) % self.capacity;
        self.stored += 1;
        Ok(true)
    }

    /// The transition in `row` (storage order, not age), if there is one.
    pub fn get(&self, row: usize) -> Option<Transition<'_>> {
        let pictures = self.pictures.as_ref();
        let read = |column: fn(&Pictures) -> &[u8]| {
            pictures.map_or(Some(None), |pictures| {
                read_row(column(pictures), row, pictures.dims.picture()).map(Some)
            })
        };
        Some(Transition {
            pixels: read(|pictures| &pictures.pixels)?,
            next_pixels: read(|pictures| &pictures.next_pixels)?,
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
        let picture = self.pixels().map_or(0, PixelDims::picture);
        let [mut pixels, mut next_pixels] = [(); 2].map(|()| Vec::with_capacity(n * picture));
        let mut answers = Vec::with_capacity(self.asked.as_ref().map_or(0, |_| 4 * n * a));
        let mut scalars: [Vec<f32>; 4] = std::array::from_fn(|_| Vec::with_capacity(n));
        for (row, transition) in rows.iter().filter_map(|&row| Some((row, self.get(row)?))) {
            let answer = self.asked.as_ref().map(|asked| read_row(&asked.answers, row, 4 * a));
            answers.extend_from_slice(answer.flatten().unwrap_or_default());
            observation.extend_from_slice(transition.observation);
            action.extend_from_slice(transition.action);
            next_observation.extend_from_slice(transition.next_observation);
            extend_with_brightness(&mut pixels, transition.pixels.unwrap_or_default());
            extend_with_brightness(&mut next_pixels, transition.next_pixels.unwrap_or_default());
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
        let pictures = |values| {
            let shape = self.pixels().map(|dims| dims.shape(n));
            shape
                .map(|shape| Tensor::from_vec(values, shape, &Device::Cpu))
                .transpose()
        };
        let [reward, steps, terminated, timed_out] = scalars.map(|column| Tensor::from_vec(column, n, &Device::Cpu));
        Ok(Batch {
            observation: Tensor::from_vec(observation, (n, s), &Device::Cpu)?,
            pixels: pictures(pixels)?,
            action: Tensor::from_vec(action, (n, a), &Device::Cpu)?,
            reward: reward?,
            next_observation: Tensor::from_vec(next_observation, (n, s), &Device::Cpu)?,
            next_pixels: pictures(next_pixels)?,
            prior: self.asked.is_some().then(|| prior_batch(answers, n, a)).transpose()?,
            steps: steps?,
            terminated: terminated?,
            timed_out: timed_out?,
        })
    }

    /// Transitions stored so far, those that were overwritten too.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Rows in a block of [`export_block`](Self::export_block): some 16 MB.
    fn block_rows(&self) -> usize {
        let (s, a) = (self.observation_size, self.action_size);
        let row = transition_bytes(s, a, self.pixels(), self.asked.is_some());
        (BLOCK_BYTES / row).clamp(1, self.capacity)
    }

    /// Blocks that hold the transitions there are.
    pub fn blocks(&self) -> usize {
        self.len().div_ceil(self.block_rows())
    }

    /// Whether a row of `block` was written since `stored` transitions had been [stored](Self::stored).
    pub fn has_changed(&self, block: usize, stored: u64) -> bool {
        let (rows, capacity) = (self.block_rows(), self.capacity as u64);
        let written = self.stored.saturating_sub(stored).min(capacity);
        let first = (self.cursor as u64 + capacity - written) % capacity;
        // Rows from `first` on, around the ring.
        (block * rows..((block + 1) * rows).min(self.len()))
            .any(|row| (row as u64 + capacity - first) % capacity < written)
    }

    /// Everything but the transitions, for a checkpoint: sizes and counters.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn export_head(&self) -> Result<Tensors, ReplayError> {
        let counters = [
            self.capacity as i64,
            self.cursor as i64,
            self.refused as i64,
            self.observation_size as i64,
            self.action_size as i64,
            i64::try_from(self.stored).unwrap_or(i64::MAX),
        ];
        let mut head = Tensors::from([("counters".to_owned(), Tensor::new(&counters, &Device::Cpu)?)]);
        if let Some(Pictures { dims, .. }) = &self.pictures {
            let sizes = [dims.frames as i64, dims.size as i64];
            head.insert(PICTURES.to_owned(), Tensor::new(&sizes, &Device::Cpu)?);
        }
        Ok(head)
    }

    /// The transitions of one of the [`blocks`](Self::blocks) as tensors, one per column, in storage order, so that
    /// sampling goes on with the same rows after [`import`](Self::import).
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn export_block(&self, block: usize) -> Result<Tensors, ReplayError> {
        let (s, a) = (self.observation_size, self.action_size);
        let first = (block * self.block_rows()).min(self.len());
        let last = (first + self.block_rows()).min(self.len());
        let n = last - first;
        if n == 0 {
            // candle has no tensors of zero elements.
            return Ok(Tensors::new());
        }
        let steps: Vec<u32> = self.steps[first..last].iter().map(|&steps| u32::from(steps)).collect();
        let floats = |column: &[f32], width: usize| {
            Tensor::from_slice(&column[first * width..last * width], (n, width), &Device::Cpu)
        };
        let bytes = |column: &[u8], width: usize| {
            Tensor::from_slice(&column[first * width..last * width], (n, width), &Device::Cpu)
        };
        let mut columns = vec![
            ("observation", floats(&self.observation, s)?),
            ("action", floats(&self.action, a)?),
            ("reward", floats(&self.reward, 1)?),
            ("next_observation", floats(&self.next_observation, s)?),
            ("steps", Tensor::from_vec(steps, n, &Device::Cpu)?),
            ("end", bytes(&self.end, 1)?),
        ];
        if let Some(Pictures {
            dims,
            pixels,
            next_pixels,
        }) = &self.pictures
        {
            columns.push(("pixels", bytes(pixels, dims.picture())?));
            columns.push(("next_pixels", bytes(next_pixels, dims.picture())?));
        }
        // Answers that are still to come are asked for again after a resume.
        if let Some(asked) = self.asked.as_ref().filter(|asked| asked.waiting.is_empty()) {
            columns.push((ANSWERS, floats(&asked.answers, 4 * a)?));
        }
        Ok(columns
            .into_iter()
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .collect())
    }

    /// Head and blocks as files of a checkpoint. Needs memory for all columns once more.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn export(&self) -> Result<BTreeMap<String, Tensors>, ReplayError> {
        let mut files = BTreeMap::from([(HEAD.to_owned(), self.export_head()?)]);
        for block in 0..self.blocks() {
            files.insert(block_name(block), self.export_block(block)?);
        }
        Ok(files)
    }

    /// The buffer that [`export`](Self::export) wrote, from among the files of a checkpoint. Earlier versions wrote all
    /// transitions into the head.
    ///
    /// # Errors
    /// A file or a column is missing, columns do not fit together, or they hold values that no buffer stores.
    pub fn import(from: &BTreeMap<String, Tensors>) -> Result<Self, ReplayError> {
        let missing = |what: &str| ReplayError::Stored(format!("its {what} is missing"));
        let head = from.get(HEAD).ok_or_else(|| missing("head"))?;
        let counters = head.get("counters").ok_or_else(|| missing("column \"counters\""))?;
        let counters: Option<Vec<usize>> = counters
            .to_vec1::<i64>()?
            .iter()
            .map(|&count| usize::try_from(count).ok())
            .collect();
        let Some([capacity, cursor, refused, s, a, stored @ ..]) = counters.as_deref() else {
            return Err(ReplayError::Stored("its counters are not six whole numbers".into()));
        };
        let mut buffer = match head.get(PICTURES) {
            None => Self::new(*capacity, *s, *a)?,
            Some(sizes) => Self::with_pixels(*capacity, *s, *a, picture_dims(sizes)?)?,
        };
        (buffer.cursor, buffer.refused) = (*cursor, *refused as u64);
        let mut answers = Vec::new();
        let blocks = (0..).map_while(|block| from.get(&block_name(block)));
        for block in std::iter::once(head)
            .chain(blocks)
            .filter(|block| block.contains_key("observation"))
        {
            let column = |name: &str| block.get(name).ok_or_else(|| missing(&format!("column {name:?}")));
            let floats = |name: &str| Ok::<_, ReplayError>(column(name)?.flatten_all()?.to_vec1::<f32>()?);
            let bytes = |name: &str| Ok::<_, ReplayError>(column(name)?.flatten_all()?.to_vec1::<u8>()?);
            let steps = column("steps")?.to_vec1::<u32>()?;
            buffer.observation.extend(floats("observation")?);
            buffer.action.extend(floats("action")?);
            buffer.reward.extend(floats("reward")?);
            buffer.next_observation.extend(floats("next_observation")?);
            buffer
                .steps
                .extend(steps.iter().map(|&steps| u16::try_from(steps).unwrap_or(u16::MAX)));
            buffer.end.extend(bytes("end")?);
            if let Some(pictures) = &mut buffer.pictures {
                pictures.pixels.extend(bytes("pixels")?);
                pictures.next_pixels.extend(bytes("next_pixels")?);
            }
            if block.contains_key(ANSWERS) {
                answers.extend(floats(ANSWERS)?);
            }
        }
        buffer.stored = stored.first().map_or(buffer.len() as u64, |&stored| stored as u64);
        if !answers.is_empty() && answers.len() == buffer.len() * 4 * a {
            if !answers.iter().all(|value| value.is_finite()) {
                return Err(ReplayError::Stored("it holds values that no buffer stores".into()));
            }
            buffer = buffer.with_prior()?;
            if let Some(asked) = &mut buffer.asked {
                asked.answers.copy_from_slice(&answers);
                asked.waiting.clear();
            }
        }
        let n = buffer.len();
        let sizes = [
            buffer.observation.len() / s,
            buffer.action.len() / a,
            buffer.next_observation.len() / s,
        ];
        let pictures = buffer.pictures.iter().flat_map(|pictures| {
            let rows = |column: &[u8]| column.len() / pictures.dims.picture();
            [rows(&pictures.pixels), rows(&pictures.next_pixels)]
        });
        let rows_agree = [buffer.steps.len(), buffer.end.len()]
            .into_iter()
            .chain(sizes)
            .chain(pictures)
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

/// The rows `[n, 4 a]` of a prior's answers as Gaussians.
fn prior_batch(answers: Vec<f32>, n: usize, a: usize) -> Result<PriorBatch, ReplayError> {
    let answers = Tensor::from_vec(answers, (n, 4 * a), &Device::Cpu)?;
    let part = |index: usize| answers.narrow(1, index * a, a)?.contiguous();
    let gaussian = |first: usize| {
        Ok::<_, ReplayError>(DiagGaussian {
            mu: part(first)?,
            log_sigma: part(first + 1)?,
        })
    };
    Ok(PriorBatch {
        here: gaussian(0)?,
        next: gaussian(2)?,
    })
}

/// Bytes of a transition with `observation` and `action` values: see the [module](self). `asked`: what a frozen prior says
/// is kept, too.
pub fn transition_bytes(observation: usize, action: usize, pixels: Option<PixelDims>, asked: bool) -> usize {
    let pictures = pixels.map_or(0, |pixels| 2 * pixels.picture());
    let answers = if asked { 16 * action } else { 0 };
    8 * observation + 4 * action + 7 + pictures + answers
}

/// Size of a block in a checkpoint.
const BLOCK_BYTES: usize = 16 << 20;

/// The file of a checkpoint with sizes and counters.
pub const HEAD: &str = "replay";

/// The file of a checkpoint with the transitions of a block.
pub fn block_name(block: usize) -> String {
    format!("{HEAD}_{block:05}")
}

/// The tensor of a stored buffer with what a prior says.
const ANSWERS: &str = "prior";

/// The tensor of a stored buffer that says how large its pictures are; absent from one without.
const PICTURES: &str = "pictures";

fn picture_dims(sizes: &Tensor) -> Result<PixelDims, ReplayError> {
    match sizes.to_vec1::<i64>()?.as_slice() {
        &[frames @ 1..=1024, size @ 1..=65_536] => Ok(PixelDims {
            frames: frames as usize,
            size: size as usize,
        }),
        other => Err(ReplayError::Stored(format!("it has pictures of sizes {other:?}"))),
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

fn read_row<T>(column: &[T], row: usize, width: usize) -> Option<&[T]> {
    let start = row.checked_mul(width)?;
    column.get(start..start.checked_add(width)?)
}
