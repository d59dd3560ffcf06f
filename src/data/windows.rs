//! Drawing training windows: sub-sequences of a fixed length from random places.
//!
//! The kitchen loader of `SPiRL` (`kitchen_data_loader.py`) picks a sequence uniformly, then a start uniformly, but
//! never draws the last two valid starts. Here every valid start can be drawn; the original range is [`Starts::Spirl`].

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{DataError, Dataset};
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
            states: Vec::new(),
            actions: Vec::new(),
        })
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
            // The list is sorted by position, as `new` numbers the sequences itself.
            let found = sequences.binary_search_by_key(&window.sequence, |(position, _)| *position);
            let rows = match found {
                Ok(usable) => sequences[usable].1.clone(),
                Err(_) => return Err(no_such_window(window)),
            };
            if window.start + config.length > rows.len() + config.pad_front {
                return Err(no_such_window(window));
            }
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

    /// Draws `batch` windows: states `[B, L, S]` and actions `[B, L - 1, A]` as tensors on `device`. (An action belongs
    /// to the state of the same index; the last state's action is not part of a window.)
    ///
    /// # Errors
    /// What candle reports when the tensors cannot be made.
    pub fn sample(&mut self, batch: usize, rng: &mut Stream, device: &Device) -> candle_core::Result<(Tensor, Tensor)> {
        let windows: Vec<Window> = (0..batch).map(|_| self.draw(rng)).collect();
        let (length, state_dim, action_dim) = (self.config.length, self.state_dim(), self.action_dim());
        let (states, actions) = self.gather(&windows).map_err(candle_core::Error::wrap)?;
        let states = Tensor::from_slice(states, (batch, length, state_dim), device)?;
        let actions = Tensor::from_slice(actions, (batch, length - 1, action_dim), device)?;
        Ok((states, actions))
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
