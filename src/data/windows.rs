//! Drawing training windows: sub-sequences of a fixed length from random places.
//!
//! The kitchen loader of `SPiRL` (`kitchen_data_loader.py`) picks a sequence uniformly, then a start uniformly, but
//! never draws the last two valid starts. Here every valid start can be drawn; the original range is [`Starts::Spirl`].

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::paint::Pictures;
use super::{DataError, Dataset, Paint};
use crate::rng::Stream;

/// Which sequence a window comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Weighting {
    /// Every sequence is equally likely, whatever its length, as in `SPiRL`.
    #[default]
    Sequence,
    /// Every window is equally likely, so long sequences are drawn more often.
    Window,
}

/// Where in a sequence of `T` rows a window of `L` rows may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Starts {
    /// At `0..=T-L`: all that fit.
    #[default]
    All,
    /// At `0..=T-L-2`: the range of SPiRL's loader, which misses the last two. Sequences of `L` or `L + 1` rows, on
    /// which that loader stops with an error, are left out.
    Spirl,
}

/// What a window is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// States per window, `L`; a skill of `H` actions needs `H + 1`.
    pub length: usize,
    /// Which sequence a window comes from.
    #[serde(default)]
    pub weighting: Weighting,
    /// Where in the sequence it starts.
    #[serde(default)]
    pub starts: Starts,
    /// Keep only the first this many numbers of an observation (30 drops the kitchen's goal; `remove_goal` in
    /// the original).
    #[serde(default)]
    pub observation_dim: Option<usize>,
    /// Put this many rows of zeros in front of every sequence (`pad_n_steps` in the original).
    #[serde(default)]
    pub pad_front: usize,
}

impl WindowConfig {
    /// Windows of `length` states with the sound defaults.
    pub fn new(length: usize) -> Self {
        Self {
            length,
            weighting: Weighting::default(),
            starts: Starts::default(),
            observation_dim: None,
            pad_front: 0,
        }
    }
}

/// One window: a sequence (position in the list given to [`WindowSampler::new`]) and its first row in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Position in the sampler's list of sequences.
    pub sequence: usize,
    /// First row, counted from the start of the sequence (with its padding).
    pub start: usize,
}

/// A batch of windows.
#[derive(Debug, Clone)]
pub struct WindowBatch {
    /// States `[B, L, S]`.
    pub states: Tensor,
    /// Actions `[B, L - 1, A]`; an action belongs to the state of the same index.
    pub actions: Tensor,
    /// Pictures `[B, frames, 3, size, size]` at the time of the first states, from -1 to 1, if the sampler has any.
    pub pixels: Option<Tensor>,
}

impl WindowBatch {
    /// What a model looks at (pictures if there are any, otherwise states), and the actions.
    pub fn seen(self) -> (Tensor, Tensor) {
        (self.pixels.unwrap_or(self.states), self.actions)
    }
}

/// Draws windows from a [`Dataset`]; the same stream gives the same windows.
#[derive(Debug, Clone)]
pub struct WindowSampler {
    dataset: Arc<Dataset>,
    config: WindowConfig,
    /// Sequences with at least one window: position in the caller's list, rows.
    sequences: Vec<(usize, Range<usize>)>,
    /// Number of windows in all usable sequences up to and including this one.
    windows_up_to: Vec<usize>,
    skipped: usize,
    pictures: Option<Pictures>,
    /// Rows at the beginning of a window of which there are pictures.
    frames: usize,
    states: Vec<f32>,
    actions: Vec<f32>,
}

impl WindowSampler {
    /// A sampler over `sequences` (ranges of rows, such as [`Dataset::sequences`]; a range given twice counts twice).
    /// Sequences too short for a window are left out and counted.
    ///
    /// # Errors
    /// [`DataError::Settings`] if `length` is below 2, if `observation_dim` is larger than the data's, if a range lies
    /// outside the data, or if no sequence is long enough.
    pub fn new(
        dataset: Arc<Dataset>,
        sequences: impl IntoIterator<Item = Range<usize>>,
        config: WindowConfig,
    ) -> Result<Self, DataError> {
        let wrong = |problem: String| {
            Err(DataError::Settings(format!(
                "windows of {}: {problem}",
                dataset.origin()
            )))
        };
        if config.length < 2 {
            return wrong(format!(
                "a window needs at least 2 states, found length {}",
                config.length
            ));
        }
        if let Some(kept) = config
            .observation_dim
            .filter(|&kept| kept == 0 || kept > dataset.observation_dim())
        {
            let there = dataset.observation_dim();
            return wrong(format!("observation_dim: expected 1 to {there}, found {kept}"));
        }
        let mut usable = Vec::new();
        let mut windows_up_to = Vec::new();
        let mut total = 0;
        let mut skipped = 0;
        let mut longest = 0;
        for (position, rows) in sequences.into_iter().enumerate() {
            if rows.start > rows.end || rows.end > dataset.len() {
                return wrong(format!("sequence {position} covers rows {rows:?} of {}", dataset.len()));
            }
            longest = longest.max(rows.len());
            let starts = starts(&config, rows.len());
            if starts == 0 {
                skipped += 1;
                continue;
            }
            total += starts;
            usable.push((position, rows));
            windows_up_to.push(total);
        }
        if usable.is_empty() {
            let needed = config.length;
            return wrong(format!(
                "no sequence has a window of {needed} states; the longest has {longest} steps"
            ));
        }
        Ok(Self {
            dataset,
            config,
            sequences: usable,
            windows_up_to,
            skipped,
            pictures: None,
            frames: 0,
            states: Vec::new(),
            actions: Vec::new(),
        })
    }

    /// Windows with pictures of their first `frames` rows from now on, `size` pixels a side. Stored pictures are taken if there are any, in another
    /// size if need be (bilinear); otherwise `painter` draws them from the recorded states
    /// ([`PAINTED_FROM`](super::PAINTED_FROM)). Stored pictures are read into memory here unless they are too many
    /// ([`ReadOptions::image_memory`](super::ReadOptions::image_memory)). Which windows are drawn does not change.
    ///
    /// # Errors
    /// [`DataError::Settings`] if there is nothing to take pictures from (the message says what to do), if the painter's
    /// pictures have another size, if a window has fewer rows than `frames` or together with `pad_front`; other
    /// [`DataError`]s if pictures cannot be read.
    pub fn with_pixels(
        mut self,
        size: usize,
        frames: usize,
        painter: Option<Box<dyn Paint>>,
    ) -> Result<Self, DataError> {
        let length = self.config.length;
        if !(1..=length).contains(&frames) {
            let origin = self.dataset.origin();
            let problem =
                format!("pictures of the first {frames} rows: expected 1 to {length}, the length of a window");
            return Err(DataError::Settings(format!("windows of {origin}: {problem}")));
        }
        if self.config.pad_front > 0 {
            let problem = "pad_front: expected 0 with pictures, as there is none of the rows in front";
            let origin = self.dataset.origin();
            return Err(DataError::Settings(format!("windows of {origin}: {problem}")));
        }
        self.pictures = Some(Pictures::new(self.dataset.clone(), size, painter)?);
        self.frames = frames;
        Ok(self)
    }

    /// The settings.
    pub fn config(&self) -> &WindowConfig {
        &self.config
    }

    /// Numbers per state, after [`WindowConfig::observation_dim`].
    pub fn state_dim(&self) -> usize {
        self.config.observation_dim.unwrap_or(self.dataset.observation_dim())
    }

    /// Numbers per action.
    pub fn action_dim(&self) -> usize {
        self.dataset.action_dim()
    }

    /// Number of different windows.
    pub fn windows(&self) -> usize {
        self.windows_up_to.last().copied().unwrap_or(0)
    }

    /// Steps in the usable sequences.
    pub fn steps(&self) -> usize {
        self.sequences.iter().map(|(_, rows)| rows.len()).sum()
    }

    /// Sequences that are too short for a window.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Draws one window.
    pub fn draw(&self, rng: &mut Stream) -> Window {
        let (usable, start) = match self.config.weighting {
            Weighting::Sequence => {
                let usable = rng.random_range(0..self.sequences.len() as u64) as usize;
                let starts = starts(&self.config, self.sequences[usable].1.len());
                (usable, rng.random_range(0..starts as u64) as usize)
            }
            Weighting::Window => {
                let number = rng.random_range(0..self.windows() as u64) as usize;
                let usable = self.windows_up_to.partition_point(|&up_to| up_to <= number);
                let before = if usable == 0 { 0 } else { self.windows_up_to[usable - 1] };
                (usable, number - before)
            }
        };
        Window {
            sequence: self.sequences[usable].0,
            start,
        }
    }

    /// Copies the given windows into the sampler's buffers and returns them: states `[B, L, S]` and actions
    /// `[B, L - 1, A]`, row-major. The buffers are reused by the next call.
    ///
    /// # Errors
    /// [`DataError::Settings`] for a window that does not exist.
    pub fn gather(&mut self, windows: &[Window]) -> Result<(&[f32], &[f32]), DataError> {
        let Self {
            dataset,
            config,
            sequences,
            states,
            actions,
            ..
        } = self;
        let kept = config.observation_dim.unwrap_or(dataset.observation_dim());
        states.clear();
        actions.clear();
        for window in windows {
            let rows = sequence_of(sequences, config, window)?;
            let zeros = config.pad_front.saturating_sub(window.start).min(config.length);
            let first = rows.start + (window.start + zeros).saturating_sub(config.pad_front);
            states.resize(states.len() + zeros * kept, 0.0);
            for row in first..first + config.length - zeros {
                let start = row * dataset.observation_dim();
                states.extend_from_slice(&dataset.observations()[start..start + kept]);
            }
            let width = dataset.action_dim();
            let zeros = zeros.min(config.length - 1);
            actions.resize(actions.len() + zeros * width, 0.0);
            let end = first + config.length - 1 - zeros;
            actions.extend_from_slice(&dataset.actions()[first * width..end * width]);
        }
        Ok((states, actions))
    }

    /// Pictures `[B, frames, 3, size, size]` of the given windows, row-major, from -1 to 1 (byte / 255 * 2 - 1); `None` if the
    /// sampler has none.
    ///
    /// # Errors
    /// [`DataError`] for a window that does not exist, or if pictures cannot be read or drawn.
    pub fn pixels(&mut self, windows: &[Window]) -> Result<Option<Vec<f32>>, DataError> {
        let Some(pictures) = &mut self.pictures else {
            return Ok(None);
        };
        let frames = self.frames;
        let mut rows = Vec::with_capacity(windows.len());
        for window in windows {
            let first = sequence_of(&self.sequences, &self.config, window)?.start + window.start;
            rows.push(first..first + frames);
        }
        pictures.windows(rows.into_iter(), frames).map(Some)
    }

    /// Draws `batch` windows: states `[B, L, S]` and actions `[B, L - 1, A]` as tensors on `device`. (An action belongs
    /// to the state of the same index; the last state's action is not part of a window.)
    ///
    /// # Errors
    /// What candle reports when the tensors cannot be made.
    pub fn sample(&mut self, batch: usize, rng: &mut Stream, device: &Device) -> candle_core::Result<(Tensor, Tensor)> {
        let windows: Vec<Window> = (0..batch).map(|_| self.draw(rng)).collect();
        let WindowBatch { states, actions, .. } = self.batch(&windows, false, device)?;
        Ok((states, actions))
    }

    /// Draws `batch` windows with pictures, if the sampler has any ([`WindowSampler::with_pixels`]). The windows are those
    /// of [`WindowSampler::sample`].
    ///
    /// # Errors
    /// What candle reports when the tensors cannot be made, and a [`DataError`] in its form if pictures cannot be read or
    /// drawn.
    pub fn sample_windows(
        &mut self,
        batch: usize,
        rng: &mut Stream,
        device: &Device,
    ) -> candle_core::Result<WindowBatch> {
        let windows: Vec<Window> = (0..batch).map(|_| self.draw(rng)).collect();
        self.batch(&windows, true, device)
    }

    /// The given windows as tensors on `device`, with pictures if the sampler has any and they are wanted.
    ///
    /// # Errors
    /// As [`WindowSampler::sample_windows`].
    pub fn batch(&mut self, windows: &[Window], pixels: bool, device: &Device) -> candle_core::Result<WindowBatch> {
        let (batch, length) = (windows.len(), self.config.length);
        let (state_dim, action_dim) = (self.state_dim(), self.action_dim());
        let (states, actions) = self.gather(windows).map_err(candle_core::Error::wrap)?;
        let states = Tensor::from_slice(states, (batch, length, state_dim), device)?;
        let actions = Tensor::from_slice(actions, (batch, length - 1, action_dim), device)?;
        let found = match pixels {
            true => self.pixels(windows).map_err(candle_core::Error::wrap)?,
            false => None,
        };
        let size = self.pictures.as_ref().map_or(0, Pictures::size);
        let pixels = found
            .map(|pixels| Tensor::from_vec(pixels, (batch, self.frames, 3, size, size), device))
            .transpose()?;
        Ok(WindowBatch {
            states,
            actions,
            pixels,
        })
    }
}

/// The rows of the sequence of a window that exists.
fn sequence_of(
    sequences: &[(usize, Range<usize>)],
    config: &WindowConfig,
    window: &Window,
) -> Result<Range<usize>, DataError> {
    // The list is sorted by position, as `WindowSampler::new` numbers the sequences itself.
    let found = sequences.binary_search_by_key(&window.sequence, |(position, _)| *position);
    match found.ok().and_then(|usable| sequences.get(usable)) {
        Some((_, rows)) if window.start + config.length <= rows.len() + config.pad_front => Ok(rows.clone()),
        _ => Err(no_such_window(window)),
    }
}

fn no_such_window(window: &Window) -> DataError {
    let Window { sequence, start } = window;
    DataError::Settings(format!("there is no window at step {start} of sequence {sequence}"))
}

/// Number of possible starts in a sequence of `rows` rows.
fn starts(config: &WindowConfig, rows: usize) -> usize {
    let missed = match config.starts {
        Starts::All => 0,
        Starts::Spirl => 2,
    };
    (rows + config.pad_front + 1).saturating_sub(config.length + missed)
}

/// Number of windows that SPiRL's kitchen loader calls one epoch: `share * steps / length`, rounded down, where `steps`
/// counts every row of the file.
pub fn spirl_epoch(steps: usize, share: f64, length: usize) -> usize {
    (share * steps as f64 / length.max(1) as f64) as usize
}
