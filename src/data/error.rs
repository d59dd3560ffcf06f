//! What can be wrong with demonstration data, said so that the user can act on it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Everything that can go wrong with demonstration data. Every message names the file where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file cannot be opened: missing, not HDF5, truncated, not readable.
    #[error("{}: {}", path.display(), printable(problem))]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A dataset is missing or has the wrong shape, type or storage.
    #[error("{}: dataset `{}`: expected {expected}, found {}", path.display(), printable(dataset), printable(found))]
    Dataset {
        /// The file.
        path: PathBuf,
        /// Full name inside the file.
        dataset: String,
        /// What was expected.
        expected: String,
        /// What was found, with the nearest valid name if the dataset is missing.
        found: String,
    },
    /// A dataset holds NaN or infinite values.
    #[error("{}: dataset `{}`: expected finite values, found {problem}", path.display(), printable(dataset))]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// Full name inside the file.
        dataset: String,
        /// How many and where the first one is.
        problem: NonFinite,
    },
    /// The HDF5 library failed while reading a dataset.
    #[error("{}: dataset `{}` cannot be read (is the file damaged?): {}", path.display(), printable(dataset), printable(problem))]
    Read {
        /// The file.
        path: PathBuf,
        /// Full name inside the file.
        dataset: String,
        /// What the library says.
        problem: String,
    },
    /// Writing failed; the target file was not touched.
    #[error("{}: cannot be written: {problem}", path.display())]
    Write {
        /// The target file.
        path: PathBuf,
        /// What went wrong.
        problem: String,
    },
    /// An episode handed over for writing is malformed.
    #[error("malformed episode: {0}")]
    Episode(String),
    /// Split or window settings that do not fit the data.
    #[error("{0}")]
    Settings(String),
}

/// Values of one dataset that are NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NonFinite {
    /// How many there are.
    pub count: usize,
    /// Row of the first one.
    pub row: usize,
    /// Column of the first one.
    pub column: usize,
    /// The first one.
    pub value: f64,
}

impl NonFinite {
    /// Looks through row-major `values` with `width` columns.
    pub(super) fn find<T: Copy + Into<f64>>(values: &[T], width: usize) -> Option<Self> {
        let mut bad = values
            .iter()
            .enumerate()
            .filter(|(_, value)| !(**value).into().is_finite());
        let (first, value) = bad.next()?;
        let width = width.max(1);
        Some(Self {
            count: 1 + bad.count(),
            row: first / width,
            column: first % width,
            value: (*value).into(),
        })
    }
}

impl std::fmt::Display for NonFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            count,
            row,
            column,
            value,
        } = self;
        let are = if *count == 1 {
            "value that is"
        } else {
            "values that are"
        };
        write!(
            f,
            "{count} {are} not; the first is {value} at row {row}, column {column}"
        )
    }
}

/// Text from a file, which need not be valid UTF-8 although its type says so: the HDF5 bindings do not look.
pub(super) fn valid(text: &str) -> Cow<'_, str> {
    String::from_utf8_lossy(text.as_bytes())
}

/// Text from a file for a terminal: characters that would steer it are written out.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in valid(text).chars() {
        match c.is_control() {
            true => shown.extend(c.escape_debug()),
            false => shown.push(c),
        }
    }
    shown
}

/// What the HDF5 library's error stack says, outermost and innermost record, in one line. Failures of the operating
/// system (no space, file too large) are reduced to its own words.
pub(super) fn explain(error: &hdf5::Error) -> String {
    if let Some(stack) = error.stack() {
        for frame in stack.iter() {
            if let Some((_, rest)) = valid(frame.desc()).split_once("error message = '")
                && let Some((message, _)) = rest.split_once('\'')
            {
                return message.to_owned();
            }
        }
    }
    valid(&error.to_string()).into_owned()
}

/// The reason why `path` could not be opened as HDF5, from the library's error stack.
pub(super) fn explain_open(error: &hdf5::Error, path: &Path, size: u64) -> DataError {
    let records: Vec<String> = error
        .stack()
        .map(|stack| stack.iter().map(|frame| valid(frame.desc()).into_owned()).collect())
        .unwrap_or_default();
    let truncated = records.iter().find(|record| record.contains("truncated file"));
    let problem = match truncated {
        Some(record) => match record.split("stored_eof = ").nth(1) {
            Some(expected) => format!(
                "the file is truncated: {} bytes expected, {size} found",
                expected.trim()
            ),
            None => "the file is truncated".to_owned(),
        },
        None => format!("the file cannot be opened as HDF5 (damaged?): {}", explain(error)),
    };
    DataError::Open {
        path: path.to_owned(),
        problem,
    }
}
