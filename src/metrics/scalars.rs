//! `metrics.csv`: every scalar of a run in one plain file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Appender, MetricsError, replace, warn_of_cut};

/// The name of the file in a run folder.
pub(super) const FILE: &str = "metrics.csv";
const HEADER: &str = "step,tag,value,wall_s\n";

/// One number of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Environment steps, gradient steps or whatever the run counts.
    pub step: u64,
    /// What the number is, such as `practice/completed`.
    pub tag: String,
    /// The number.
    pub value: f64,
    /// Seconds since the run began, pauses between sessions left out.
    pub wall_s: f64,
}

/// The file while it is written.
#[derive(Debug)]
pub(super) struct ScalarFile(Appender);

impl ScalarFile {
    pub(super) fn open(folder: &Path) -> Result<Self, MetricsError> {
        let mut appender = Appender::open(folder.join(FILE))?;
        let length = appender
            .file
            .metadata()
            .map_err(MetricsError::io("read", &appender.path))?
            .len();
        if length == 0 {
            appender.waiting.extend_from_slice(HEADER.as_bytes());
        }
        Ok(Self(appender))
    }

    pub(super) fn push(&mut self, row: &Row) -> Result<(), MetricsError> {
        append(&mut self.0.waiting, row, &self.0.path)
    }

    pub(super) fn waiting(&self) -> usize {
        self.0.waiting.len()
    }

    pub(super) fn flush(&mut self) -> Result<(), MetricsError> {
        self.0.flush()
    }

    pub(super) fn sync(&self) -> Result<(), MetricsError> {
        self.0.sync()
    }
}

fn append(bytes: &mut Vec<u8>, row: &Row, path: &Path) -> Result<(), MetricsError> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(bytes);
    // Milliseconds are enough; the value keeps every digit.
    let wall_s = (row.wall_s * 1e3).round() / 1e3;
    writer
        .write_record([
            row.step.to_string(),
            row.tag.clone(),
            format!("{:?}", row.value),
            wall_s.to_string(),
        ])
        .and_then(|()| writer.flush().map_err(csv::Error::from))
        .map_err(|error| MetricsError::io("write", path)(std::io::Error::other(error)))
}

/// Removes the rows of later steps, and everything from the first row on that is damaged or has no end; gives the time
/// of the last row that stays.
pub(super) fn cut_after(path: &Path, step: u64) -> Result<f64, MetricsError> {
    if !path.exists() {
        return Ok(0.0);
    }
    let bytes = std::fs::read(path).map_err(MetricsError::io("read", path))?;
    let mut kept = HEADER.as_bytes().to_vec();
    let mut wall = 0.0_f64;
    for row in rows(path, &bytes)? {
        match row {
            Ok(row) if row.step <= step => {
                wall = wall.max(row.wall_s);
                append(&mut kept, &row, path)?;
            }
            Ok(_) => {}
            Err(damage) => {
                warn_of_cut(path, &damage);
                break;
            }
        }
    }
    if kept != bytes {
        replace(path, &kept)?;
    }
    Ok(wall)
}

/// All scalars of a run folder (or of a CSV file), in the order they were written.
///
/// # Errors
/// [`MetricsError::Io`] and [`MetricsError::Damaged`]. A last row that is still being written is left out.
pub fn read_scalars(run: &Path) -> Result<Vec<Row>, MetricsError> {
    let path = if run.is_dir() {
        run.join(FILE)
    } else {
        run.to_path_buf()
    };
    let bytes = std::fs::read(&path).map_err(MetricsError::io("read", &path))?;
    rows(&path, &bytes)?
        .map(|row| {
            row.map_err(|what| MetricsError::Damaged {
                path: path.clone(),
                what,
            })
        })
        .collect()
}

/// The curves in `rows`: tag to `(step, value)` in order of steps.
pub fn series(rows: &[Row]) -> BTreeMap<&str, Vec<(f64, f64)>> {
    let mut curves: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for row in rows {
        curves.entry(&row.tag).or_default().push((row.step as f64, row.value));
    }
    for curve in curves.values_mut() {
        curve.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    curves
}

/// The rows of a file one by one; the error is what is wrong with a row. A last row without its end is left out.
fn rows<'a>(path: &Path, bytes: &'a [u8]) -> Result<impl Iterator<Item = Result<Row, String>> + use<'a>, MetricsError> {
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let bytes = bytes.get(..whole).unwrap_or_default();
    if !bytes.is_empty() && !bytes.starts_with(HEADER.as_bytes()) {
        return Err(MetricsError::Damaged {
            path: path.to_path_buf(),
            what: format!("the first line is not `{}`", HEADER.trim()),
        });
    }
    let reader = csv::ReaderBuilder::new().from_reader(bytes);
    Ok(reader.into_deserialize().map(|row: Result<Row, csv::Error>| {
        let row = row.map_err(|error| error.to_string())?;
        // A block that never reached the disk reads as zeros, and a tag would take them.
        if row.tag.contains('\0') {
            return Err(format!("a row of step {} holds zero bytes", row.step));
        }
        Ok(row)
    }))
}
