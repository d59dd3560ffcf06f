//! One recorded episode, as a demonstrator hands it over and as a file gives it back.

use std::collections::BTreeMap;

use super::{DataError, Images, NonFinite};

/// One episode of `T` steps: row `t` of every array belongs to the step that starts in `observations[t]`.
///
/// The arrays are flat and row-major, so they go to a file and into a batch without being rearranged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Episode {
    /// Observations `[T, S]` *before* the action of the same row.
    pub observations: Vec<f32>,
    /// Observation `[S]` after the last step, if it is known. Only Minari's layout stores it.
    pub final_observation: Option<Vec<f32>>,
    /// Actions `[T, A]`.
    pub actions: Vec<f32>,
    /// Rewards `[T]` for the action of the same row.
    pub rewards: Vec<f32>,
    /// `[T]`: the task ended after this step (no bootstrapping beyond it).
    pub terminals: Vec<bool>,
    /// `[T]`: the recording was cut after this step although the task went on.
    pub timeouts: Vec<bool>,
    /// Further arrays of `T` rows by name (`qpos`, `qvel`, ...), stored as `infos/<name>`.
    pub infos: BTreeMap<String, Column>,
    /// Pictures `[T, H, W, 3]`, taken at the same time as the observation of the same row.
    pub images: Option<Images>,
}

impl Episode {
    /// Number of steps `T`.
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// Whether the episode has no step.
    pub fn is_empty(&self) -> bool {
        self.rewards.is_empty()
    }

    /// Sum of the rewards.
    pub fn episode_return(&self) -> f64 {
        self.rewards.iter().map(|&reward| f64::from(reward)).sum()
    }

    /// Checks that every array has `T` rows, that widths are `observation_dim` and `action_dim`, that observations,
    /// actions, rewards and floating-point infos are finite, and that pictures have a possible size.
    ///
    /// # Errors
    /// [`DataError::Episode`] with the first offence.
    pub fn check(&self, observation_dim: usize, action_dim: usize) -> Result<(), DataError> {
        let rows = self.len();
        let wrong = |name: &str, expected: usize, found: usize| {
            let what = format!("`{name}` should hold {expected} values for {rows} steps, found {found}");
            Err(DataError::Episode(what))
        };
        if rows == 0 {
            return Err(DataError::Episode(
                "the episode has no steps (`rewards` is empty)".to_owned(),
            ));
        }
        for (name, width, found) in [
            ("observations", observation_dim, self.observations.len()),
            ("actions", action_dim, self.actions.len()),
            ("terminals", 1, self.terminals.len()),
            ("timeouts", 1, self.timeouts.len()),
        ] {
            if found != rows * width {
                return wrong(name, rows * width, found);
            }
        }
        if let Some(last) = &self.final_observation {
            if last.len() != observation_dim {
                let found = last.len();
                return Err(DataError::Episode(format!(
                    "`final_observation` should hold {observation_dim} values, found {found}"
                )));
            }
            check_finite("final_observation", last, observation_dim)?;
        }
        for (name, values, width) in [
            ("observations", &self.observations, observation_dim),
            ("actions", &self.actions, action_dim),
            ("rewards", &self.rewards, 1),
        ] {
            check_finite(name, values, width)?;
        }
        for (name, column) in &self.infos {
            if column.values.len() != rows * column.width {
                return wrong(&format!("infos/{name}"), rows * column.width, column.values.len());
            }
            match &column.values {
                Values::F32(values) => check_finite(&format!("infos/{name}"), values, column.width)?,
                Values::F64(values) => check_finite(&format!("infos/{name}"), values, column.width)?,
                Values::I64(_) | Values::U8(_) => {}
            }
        }
        match &self.images {
            Some(images) => images.check(rows),
            None => Ok(()),
        }
    }

    /// Checks that the last step, and no other, is marked as terminal or timeout, so that a reader finds the end.
    ///
    /// # Errors
    /// [`DataError::Episode`] naming the step.
    pub fn check_end(&self) -> Result<(), DataError> {
        let first_end = self
            .terminals
            .iter()
            .zip(&self.timeouts)
            .position(|(terminal, timeout)| *terminal || *timeout);
        let last = self.len().saturating_sub(1);
        match first_end {
            Some(step) if step == last => Ok(()),
            Some(step) => Err(DataError::Episode(format!(
                "step {step} of {} is marked as terminal or timeout, but only the last one may be",
                self.len()
            ))),
            None => Err(DataError::Episode(
                "no step is marked as terminal or timeout".to_owned(),
            )),
        }
    }
}

fn check_finite<T: Copy + Into<f64>>(name: &str, values: &[T], width: usize) -> Result<(), DataError> {
    match NonFinite::find(values, width) {
        None => Ok(()),
        Some(problem) => Err(DataError::Episode(format!(
            "`{name}` should be finite, found {problem}"
        ))),
    }
}

/// A named side array: `width` numbers per step.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Numbers per step; a width of 1 is stored as `[T]`, any other as `[T, width]`.
    pub width: usize,
    /// The numbers, row-major.
    pub values: Values,
}

impl Column {
    /// A column of single-precision numbers.
    pub fn f32(width: usize, values: Vec<f32>) -> Self {
        Self {
            width,
            values: Values::F32(values),
        }
    }

    /// A column of double-precision numbers, for states that must be restored exactly.
    pub fn f64(width: usize, values: Vec<f64>) -> Self {
        Self {
            width,
            values: Values::F64(values),
        }
    }

    /// A column of integers.
    pub fn i64(width: usize, values: Vec<i64>) -> Self {
        Self {
            width,
            values: Values::I64(values),
        }
    }

    /// A column of bytes or flags.
    pub fn u8(width: usize, values: Vec<u8>) -> Self {
        Self {
            width,
            values: Values::U8(values),
        }
    }

    /// Number of complete rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Appends `other` if width and type agree; tells whether it did.
    pub(super) fn append(&mut self, other: &Self) -> bool {
        if self.width != other.width {
            return false;
        }
        match (&mut self.values, &other.values) {
            (Values::F32(values), Values::F32(more)) => values.extend_from_slice(more),
            (Values::F64(values), Values::F64(more)) => values.extend_from_slice(more),
            (Values::I64(values), Values::I64(more)) => values.extend_from_slice(more),
            (Values::U8(values), Values::U8(more)) => values.extend_from_slice(more),
            _ => return false,
        }
        true
    }

    /// Rows `rows` as a column of its own; rows that do not exist are left out.
    pub fn slice(&self, rows: std::ops::Range<usize>) -> Self {
        fn cut<T: Copy>(values: &[T], width: usize, rows: std::ops::Range<usize>) -> Vec<T> {
            values
                .chunks(width.max(1))
                .take(rows.end)
                .skip(rows.start)
                .flatten()
                .copied()
                .collect()
        }
        let values = match &self.values {
            Values::F32(values) => Values::F32(cut(values, self.width, rows)),
            Values::F64(values) => Values::F64(cut(values, self.width, rows)),
            Values::I64(values) => Values::I64(cut(values, self.width, rows)),
            Values::U8(values) => Values::U8(cut(values, self.width, rows)),
        };
        Self {
            width: self.width,
            values,
        }
    }
}

/// The numbers of a [`Column`] with their type in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 32-bit floating point.
    F32(Vec<f32>),
    /// 64-bit floating point.
    F64(Vec<f64>),
    /// 64-bit signed integers.
    I64(Vec<i64>),
    /// Bytes.
    U8(Vec<u8>),
}

impl Values {
    /// Number of values over all rows and columns.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
