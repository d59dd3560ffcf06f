//! Where the values of a file come from: itself, a file it extends, an override, or nobody, and then the default.

use std::path::PathBuf;
use std::sync::Arc;

use super::source::{FileError, Location, Source};
use super::tree::{Node, Value};
use super::{Loaded, parse};

/// Where a value was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// On the command line, as this text.
    Override(String),
}

impl<T> Loaded<T> {
    /// Where the value at a dotted path was written down; `None` if it is a default.
    pub fn origin(&self, path: &str) -> Option<Origin> {
        let node = self.tree.find_whole(path)?;
        Some(match &*node.span.source {
            Source::Override(text) => Origin::Override(text.clone()),
            Source::File { path, .. } => Origin::File {
                path: path.clone(),
                line: Location::of(&node.span).map_or(1, |place| place.line),
            },
        })
    }

    /// Whether the value at a dotted path is a list or a tuple, whose values may be separated by commas.
    pub fn is_list(&self, path: &str) -> bool {
        let text = Arc::new(Source::File {
            path: PathBuf::new(),
            text: self.resolved_text.clone(),
        });
        let is_list = |node: &Node| matches!(node.value, Value::List(_) | Value::Tuple { name: None, .. });
        parse::parse(&text).is_ok_and(|tree| tree.find_whole(path).is_some_and(is_list))
    }

    /// The resolved text, in which every value that does not come from the file itself says in a comment where it comes
    /// from. It loads to the same value.
    ///
    /// # Errors
    /// None that a file could cause.
    pub fn annotated(&self) -> Result<String, FileError> {
        let text = Arc::new(Source::File {
            path: PathBuf::new(),
            text: self.resolved_text.clone(),
        });
        let mut leaves = Vec::new();
        gather(&parse::parse(&text)?, &mut String::new(), &mut leaves);
        let mut notes = vec![String::new(); self.resolved_text.lines().count()];
        let mut ends = LineNumbers::new(&self.resolved_text);
        leaves.sort_by_key(|(end, _)| *end);
        for (end, path) in leaves {
            if let Some(note) = notes.get_mut(ends.of(end)) {
                *note = self.note(&path);
            }
        }
        let mut annotated = String::new();
        for (line, note) in self.resolved_text.lines().zip(notes) {
            annotated.push_str(line);
            if !note.is_empty() {
                // In a column of their own, as far as lines are short.
                let padding = 48_usize.saturating_sub(line.chars().count()).max(2);
                annotated.extend(std::iter::repeat_n(' ', padding));
                annotated.push_str("// ");
                annotated.push_str(&note);
            }
            annotated.push('\n');
        }
        Ok(annotated)
    }

    /// Where the value at a path comes from, in words; nothing if from the file itself.
    fn note(&self, path: &str) -> String {
        match self.origin(path) {
            None => "default".into(),
            Some(Origin::Override(_)) => "override".into(),
            Some(Origin::File { path, .. }) if self.sources.first() == Some(&path) => String::new(),
            Some(Origin::File { path, line }) => format!("{}:{line}", path.display()),
        }
    }
}

/// Every value that is no struct, by the place of its end in the text, with its path.
fn gather(node: &Node, path: &mut String, leaves: &mut Vec<(usize, String)>) {
    match &node.value {
        Value::Struct { fields, .. } if !fields.is_empty() => {
            for (field, value) in fields {
                let length = path.len();
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&field.text);
                gather(value, path, leaves);
                path.truncate(length);
            }
        }
        // A variant that holds one struct: its fields are fields of the variant.
        Value::Tuple { name: Some(_), items } if matches!(items.as_slice(), [inner] if inner.is_struct()) => {
            for item in items {
                gather(item, path, leaves);
            }
        }
        _ => leaves.push((node.span.end, path.clone())),
    }
}

/// Numbers of lines, from 0, of places in a text that are asked for in their order.
struct LineNumbers<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl<'t> LineNumbers<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, at: 0, line: 0 }
    }

    fn of(&mut self, place: usize) -> usize {
        self.line += self.text.get(self.at..place).unwrap_or_default().matches('\n').count();
        self.at = place;
        self.line
    }
}
