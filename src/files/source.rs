//! Texts that were read, places in them, and errors that show those places.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One text that values were read from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file.
    File {
        /// The path as the user would write it.
        path: PathBuf,
        /// The whole text.
        text: String,
    },
    /// One `path=value` argument of the command line.
    Override(String),
}

impl Source {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::File { text, .. } | Self::Override(text) => text,
        }
    }

    pub(super) fn is_override(&self) -> bool {
        matches!(self, Self::Override(_))
    }
}

/// A stretch of bytes in one [`Source`].
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) source: Arc<Source>,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) fn new(source: &Arc<Source>, start: usize, end: usize) -> Self {
        Self {
            source: Arc::clone(source),
            start,
            end,
        }
    }

    /// The text of the stretch.
    pub(super) fn text(&self) -> &str {
        self.source.text().get(self.start..self.end).unwrap_or_default()
    }
}

/// Where in a file an error is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The text of that line.
    line_text: String,
    /// How many characters the caret line marks.
    marked: usize,
}

impl Location {
    /// The place of a span, if it lies in a file.
    pub(super) fn of(span: &Span) -> Option<Self> {
        let Source::File { path, text } = &*span.source else {
            return None;
        };
        let start = floor_char_boundary(text, span.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_text = text
            .get(line_start..)
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let stretch = text.get(start..floor_char_boundary(text, span.end)).unwrap_or_default();
        // A value of several lines is marked at its first character only.
        let marked = if stretch.contains('\n') {
            1
        } else {
            stretch.chars().count().max(1)
        };
        Some(Self {
            path: path.clone(),
            line: before.matches('\n').count() + 1,
            column,
            line_text: line_text.to_owned(),
            marked,
        })
    }
}

fn floor_char_boundary(text: &str, index: usize) -> usize {
    (0..=index.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

/// Why a scene or experiment file could not be loaded.
///
/// `Display` is the whole message for the user: `FILE:LINE:COLUMN: what is wrong`, then the source line with a caret
/// under the fault. Faults in a command-line override start with ``override `a.b=c`:`` instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    message: Box<str>,
    location: Option<Box<Location>>,
}

impl FileError {
    /// An error without a place.
    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self {
            message: message.into().into_boxed_str(),
            location: None,
        }
    }

    /// An error at a place.
    pub(super) fn at(span: &Span, message: impl Into<String>) -> Self {
        let message = message.into();
        match &*span.source {
            Source::Override(text) => Self::plain(format!("override `{text}`: {message}")),
            Source::File { .. } => Self {
                message: message.into_boxed_str(),
                location: Location::of(span).map(Box::new),
            },
        }
    }

    /// An error of an override.
    pub(crate) fn of_override(text: &str, message: impl fmt::Display) -> Self {
        Self::plain(format!("override `{text}`: {message}"))
    }

    /// An error about a whole file.
    pub(super) fn file(path: &Path, message: impl fmt::Display) -> Self {
        Self::plain(format!("{}: {message}", path.display()))
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it is, if it is in a file.
    pub fn location(&self) -> Option<&Location> {
        self.location.as_deref()
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Location {
            path,
            line,
            column,
            line_text,
            marked,
        }) = self.location()
        else {
            return f.write_str(&self.message);
        };
        writeln!(f, "{}:{line}:{column}: {}", path.display(), self.message)?;
        // Long lines are cut around the fault; tabs keep their width in both lines.
        const BEFORE: usize = 70;
        const WIDTH: usize = 110;
        let skipped = (column - 1).saturating_sub(BEFORE);
        let shown: String = line_text.chars().skip(skipped).take(WIDTH).collect();
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let padding: String = shown
            .chars()
            .take(column - 1 - skipped)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let room = shown.chars().count().saturating_sub(column - 1 - skipped).max(1);
        writeln!(f, "{number} | {shown}")?;
        write!(f, "{margin} | {padding}{}", "^".repeat((*marked).min(room)))
    }
}

impl std::error::Error for FileError {}

/// The name in `candidates` that `wanted` was probably meant to be.
///
/// Case, `-` and `_` do not count; otherwise up to a third of the letters may differ (Damerau-Levenshtein).
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
    let target = plain(wanted);
    // The distance is quadratic in the length: absurdly long words have no near name.
    if target.chars().count() > 200 {
        return None;
    }
    candidates
        .into_iter()
        .filter(|name| name.len() <= 200)
        .map(|name| (strsim::damerau_levenshtein(&target, &plain(name)), name))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, name)| distance <= (target.chars().count().max(name.chars().count()) / 3).max(1))
        .map(|(_, name)| name)
}

/// `; there are: turn, shoulder, elbow`: the first dozen of the names there are.
pub fn choices<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let shown: Vec<&str> = names.iter().copied().take(SHOWN).collect();
    match names.len() {
        0 => "; there is none".to_owned(),
        count if count > SHOWN => format!("; there are: {}, and {} more", shown.join(", "), count - SHOWN),
        _ => format!("; there are: {}", shown.join(", ")),
    }
}

/// ``; did you mean `threshold`?`` or nothing.
pub(super) fn did_you_mean<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wanted, candidates).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}
