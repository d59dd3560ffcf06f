//! Reports: one page that compares runs, its pictures, and results as a table that is kept.
//!
//! ```text
//! sources (run folders, kept tables) ── gather ──> methods: curves, evaluations, settings, pictures
//!                                                     │
//!                                      comparison: one section per scene, estimates with intervals
//!                                                     │
//!                                       page (HTML) · pictures (SVG, PNG) · kept table (CSV)
//! ```
//!
//! What of a run is missing or damaged costs no more than that part: the page says so, and so does a warning. Settings
//! are compared as text, so runs of other versions of the program can be reported as well.

mod comparison;
mod estimates;
mod gather;
mod health;
mod html;
mod kept;
mod media;
mod page;
mod settings;
mod source;
mod style;
mod tables;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use gather::{Behaviour, Final, Gathered, Learner, Method, Run, gather};
pub use kept::{Kept, read_kept};
pub use source::Source;

use comparison::Comparison;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A path that was named is not there.
    #[error("{}: there is no such run folder or CSV file", .0.display())]
    Missing(PathBuf),
    /// A path that was named is something else.
    #[error("{}: expected a run folder or a CSV file that `apprentice report --csv` wrote", .0.display())]
    Other(PathBuf),
    /// A folder that was named holds no run.
    #[error(transparent)]
    Folder(#[from] crate::run::RunFolderError),
    /// A table of kept results cannot be read.
    #[error("{}: {what}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        what: String,
    },
    /// No learner has the metric that was asked for.
    #[error("no run has the metric `{tag}`; there are: {there}")]
    NoMetric {
        /// What was asked for.
        tag: String,
        /// Those of all runs.
        there: String,
    },
    /// No run has anything to show.
    #[error("there is nothing to report: no run has metrics or an evaluation ({0})")]
    Nothing(String),
    /// A table tells learners apart by method, scene and seed.
    #[error("--csv: `{method}` has seed {seed} twice in scene {scene}; give the runs different labels")]
    SeedTwice {
        /// The method.
        method: String,
        /// The scene.
        scene: String,
        /// The seed.
        seed: u64,
    },
    /// A table could not be written.
    #[error("--csv: {0}")]
    Csv(String),
    /// A picture could not be drawn.
    #[error(transparent)]
    Plot(#[from] crate::plot::PlotError),
}

/// How a report is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Title of the page; a title that names the methods if there is none.
    pub title: Option<String>,
    /// The metric to compare, such as `practice/success`; what says most of an episode if there is none.
    pub tag: Option<String>,
    /// Published figures to set beside the results.
    pub published: Vec<Kept>,
    /// Bytes of videos and pictures that the page holds itself; others are linked.
    pub embed: u64,
    /// Where the page will lie: links are relative to it.
    pub folder: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            title: None,
            tag: None,
            published: Vec::new(),
            embed: 32 << 20,
            folder: PathBuf::from("."),
        }
    }
}

/// One picture of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportPicture {
    /// Name of its file, without ending.
    pub name: String,
    /// As SVG.
    pub svg: String,
    /// As PNG.
    pub png: Vec<u8>,
}

/// A finished report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The page.
    pub html: String,
    /// The pictures on it.
    pub pictures: Vec<ReportPicture>,
    /// What is missing or damaged, one line each; the page says it too.
    pub problems: Vec<String>,
}

/// Makes the report of what was gathered.
///
/// # Errors
/// When there is nothing to show, or no run has the metric that was asked for.
pub fn report(gathered: &Gathered, options: &Options) -> Result<Report, ReportError> {
    let comparison = Comparison::of(gathered, options)?;
    let mut problems = gathered.problems.clone();
    problems.extend(comparison.problems.iter().cloned());
    let pictures = comparison.pictures()?;
    let html = page::page(gathered, &comparison, &pictures, &problems, options);
    Ok(Report {
        html,
        pictures,
        problems,
    })
}

/// The results as a CSV table that [`gather`] reads like run folders.
///
/// # Errors
/// When a method has a seed twice.
pub fn kept_table(gathered: &Gathered) -> Result<String, ReportError> {
    kept::write_kept(gathered)
}

/// A text as part of the name of a file.
fn file_name(text: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let name: String = text.chars().map(plain).take(80).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// The last part of a path, for people.
fn short(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| path.display().to_string())
}
