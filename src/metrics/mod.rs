//! What a run reports while it goes: `TensorBoard` event files and one CSV file, progress on the terminal, and the
//! statistics that curves over seeds are drawn with.
//!
//! The folder of a learner or of a skill model holds
//!
//! * `events.out.tfevents.*`, one file per session (start or resume), for `tensorboard --logdir`;
//! * `metrics.csv` with the columns `step,tag,value,wall_s`, one row per scalar. The long form takes new tags at any
//!   time and is cut at a step without gaps or doubles; one line turns it into a wide table
//!   (`pandas.read_csv(f).pivot_table(index="step", columns="tag", values="value")`).

mod event_file;
mod progress;
mod scalars;
pub mod statistics;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::Sender;

pub use progress::{BarId, Figure, Progress};
pub use scalars::{Row, read_scalars, series};

use event_file::EventFile;
use scalars::ScalarFile;

use crate::files::write_whole;

/// How long figures may wait in memory before they are written.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// How many bytes may wait in memory before they are written.
const FLUSH_BYTES: usize = 1 << 20;

/// Why figures could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file that is to be continued is not what this program wrote.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A new run was asked for in a folder that already has figures.
    #[error("{} already holds figures of a run: resume it or choose another folder", .0.display())]
    Exists(PathBuf),
}

impl MetricsError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// Stores figures of one run as `TensorBoard` events and CSV rows.
///
/// Figures are buffered; they reach the files every few seconds, on [`MetricsWriter::flush`] and when the writer is
/// dropped. Call [`MetricsWriter::sync`] before a checkpoint is written, so that a run resumed from it has no gap.
/// After an error nothing is lost as long as the writer lives: the next flush tries the same bytes again.
#[derive(Debug)]
pub struct MetricsWriter {
    events: EventFile,
    scalars: ScalarFile,
    flushed: Instant,
    clock: Clock,
    listener: Option<(u64, Sender<(u64, Row)>)>,
}

/// Wall time; tests hold it still.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// Seconds that earlier sessions of the run took.
    before: f64,
    started: Instant,
    /// Unix time in seconds at the start.
    unix: f64,
    #[cfg(test)]
    frozen: bool,
}

impl Clock {
    fn start(before: f64) -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        Self {
            before,
            started: Instant::now(),
            unix,
            #[cfg(test)]
            frozen: false,
        }
    }

    fn elapsed(&self) -> f64 {
        #[cfg(test)]
        if self.frozen {
            return 0.0;
        }
        self.started.elapsed().as_secs_f64()
    }
}

impl MetricsWriter {
    /// Starts a new run in `folder`, which is created if need be.
    ///
    /// # Errors
    /// [`MetricsError::Exists`] where there are figures already; [`MetricsError::Io`].
    pub fn create(folder: &Path) -> Result<Self, MetricsError> {
        std::fs::create_dir_all(folder).map_err(MetricsError::io("create", folder))?;
        if folder.join(scalars::FILE).exists() || !event_file::existing(folder)?.is_empty() {
            return Err(MetricsError::Exists(folder.to_path_buf()));
        }
        Self::start(folder, None, Clock::start(0.0))
    }

    /// Goes on with the run in `folder` from a checkpoint taken at `step`: every figure of a later step is removed
    /// from the files, and so is everything from the first record on that a crash left half written or damaged: the
    /// figures of a checkpoint are on the disk before it, so they come first. Starts a new run where there is none.
    ///
    /// # Errors
    /// [`MetricsError::Damaged`] when a file does not begin as one that this writer made; [`MetricsError::Io`].
    pub fn resume(folder: &Path, step: u64) -> Result<Self, MetricsError> {
        std::fs::create_dir_all(folder).map_err(MetricsError::io("create", folder))?;
        for path in event_file::existing(folder)? {
            event_file::cut_after(&path, step)?;
        }
        let before = scalars::cut_after(&folder.join(scalars::FILE), step)?;
        Self::start(folder, Some(step), Clock::start(before))
    }

    fn start(folder: &Path, resumed_at: Option<u64>, clock: Clock) -> Result<Self, MetricsError> {
        let mut events = EventFile::create(folder, clock.unix)?;
        if let Some(step) = resumed_at {
            events.session_start(clock.unix, step.saturating_add(1));
        }
        let mut writer = Self {
            events,
            scalars: ScalarFile::open(folder)?,
            flushed: Instant::now(),
            clock,
            listener: None,
        };
        writer.flush()?;
        Ok(writer)
    }

    /// Sends every number that is stored from now on to `listener` as well, with the learner's `seed`, until nobody
    /// listens any more.
    pub fn tell(&mut self, seed: u64, listener: Sender<(u64, Row)>) {
        self.listener = Some((seed, listener));
    }

    fn unix(&self) -> f64 {
        self.clock.unix + self.clock.elapsed()
    }

    /// Stores one number at a step. `NaN` and infinities are stored as they are.
    ///
    /// # Errors
    /// [`MetricsError::Io`] when the buffer was due and could not be written.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f64) -> Result<(), MetricsError> {
        self.scalars(step, &[(tag, value)])
    }

    /// Stores several numbers of one step.
    ///
    /// # Errors
    /// As [`MetricsWriter::scalar`].
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), MetricsError> {
        if values.is_empty() {
            return Ok(());
        }
        self.events.scalars(self.unix(), step, values);
        let wall = self.clock.before + self.clock.elapsed();
        for &(tag, value) in values {
            let row = Row {
                step,
                tag: tag.to_owned(),
                value,
                wall_s: wall,
            };
            self.scalars.push(&row)?;
            if let Some((seed, listener)) = &self.listener
                && listener.send((*seed, row)).is_err()
            {
                self.listener = None;
            }
        }
        self.flush_if_due()
    }

    /// Stores a picture that is encoded as PNG, such as [`crate::plot::scatter_png`].
    ///
    /// # Errors
    /// As [`MetricsWriter::scalar`].
    pub fn png(&mut self, step: u64, tag: &str, width: u32, height: u32, png: Vec<u8>) -> Result<(), MetricsError> {
        self.events.image(self.unix(), step, tag, width, height, png);
        self.flush_if_due()
    }

    fn flush_if_due(&mut self) -> Result<(), MetricsError> {
        let waiting = self.events.waiting() + self.scalars.waiting();
        if waiting >= FLUSH_BYTES || (waiting > 0 && self.flushed.elapsed() >= FLUSH_EVERY) {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands everything buffered to the operating system.
    ///
    /// # Errors
    /// [`MetricsError::Io`], for example when the disk is full.
    pub fn flush(&mut self) -> Result<(), MetricsError> {
        self.flushed = Instant::now();
        self.scalars.flush()?;
        self.events.flush()
    }

    /// [`MetricsWriter::flush`], and waits until the disk has it.
    ///
    /// # Errors
    /// As [`MetricsWriter::flush`].
    pub fn sync(&mut self) -> Result<(), MetricsError> {
        self.flush()?;
        self.scalars.sync()?;
        self.events.sync()
    }
}

impl Drop for MetricsWriter {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            bevy::log::warn!("the last figures of the run are lost: {error}");
        }
    }
}

/// A file that grows at its end. What could not be written stays and is tried again.
#[derive(Debug)]
struct Appender {
    path: PathBuf,
    file: std::fs::File,
    waiting: Vec<u8>,
}

impl Appender {
    fn open(path: PathBuf) -> Result<Self, MetricsError> {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(MetricsError::io("open", &path))?;
        Ok(Self {
            path,
            file,
            waiting: Vec::new(),
        })
    }

    fn flush(&mut self) -> Result<(), MetricsError> {
        let mut written = 0;
        let result = loop {
            match self.waiting.get(written..) {
                None | Some([]) => break Ok(()),
                Some(rest) => match io::Write::write(&mut self.file, rest) {
                    Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                },
            }
        };
        self.waiting.drain(..written);
        result.map_err(MetricsError::io("write", &self.path))
    }

    fn sync(&self) -> Result<(), MetricsError> {
        self.file.sync_data().map_err(MetricsError::io("write", &self.path))
    }
}

/// [`write_whole`] with the errors of this module.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), MetricsError> {
    write_whole(path, bytes).map_err(MetricsError::io("replace", path))
}

/// Says that a file cannot be read beyond some place, and that what follows is given up.
fn warn_of_cut(path: &Path, what: &str) {
    bevy::log::warn!(
        "{}: {what}; it is cut off there, and figures may be missing from the curves",
        path.display()
    );
}
