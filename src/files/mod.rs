//! Files that users write: scenes and experiments, in RON.
//!
//! * **Located errors.** Whatever is wrong is reported with file, line, column, the field, what was expected and the
//!   nearest valid name:
//!   ```text
//!   scenes/kitchen.ron:12:9: unknown field `theshold` in `Element`; did you mean `threshold`? (...)
//!   12 |         theshold: 0.3,
//!      |         ^^^^^^^^
//!   ```
//! * **Extending.** A file may start with `extends: "name"`; it is then laid over that file. Structs and maps merge key
//!   by key, enum variants of the same name merge their fields; lists, scalars and other variants replace.
//! * **Overrides.** `learner.discount=0.98` on the command line is laid over the result in the same way. The value is
//!   RON; words and paths need no quotes. Numbers in the path index lists: `task.elements.0=Kettle`.
//! * **Spelling.** `Some(x)` may be written `x`, a variant that holds one struct `Sac(a: 1)` instead of `Sac((a: 1))`
//!   or just `Sac` for its defaults, a fixed-size array `[0, 0, 1]` or `(0, 0, 1)`, a whole number `1e6`.
//!
//! Typed values come from `serde`; fields that the type does not know are always an error, also without
//! `deny_unknown_fields`.
//!
//! [`load`] stops at the first fault; [`check()`] gathers all of them. On the command line of commands that train, an
//! override may list several values: see [`Alternatives`].
//!
//! [`write_whole`] is how the program itself writes files: whole or not at all.

mod alternatives;
mod check;
mod de;
mod draft;
mod fill;
mod flat;
mod lookup;
mod mend;
mod origin;
mod parse;
mod source;
mod suffix;
mod tree;
mod whole;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use alternatives::{Alternatives, MOST_VALUES};
pub use check::{Checked, check};
pub(crate) use draft::{Draft, Removed};
pub use flat::flatten;
pub use lookup::{FileKind, list, means_the_same, roots};
pub use origin::Origin;
pub use source::{FileError, Location, choices, nearest};
pub(crate) use whole::{folder_of, is_temporary, put_in_place, sync_folder, temporary_beside};
pub use whole::{write_whole, write_with_folders};

use check::Faults;
use source::{Source, Span};
use tree::{Ident, Node, Value};

/// Longest chain of `extends`.
const MAX_CHAIN: usize = 16;

/// A file that was read, with everything it extends and all overrides.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The typed value.
    pub value: T,
    /// The file itself, then the one it extends, and so on.
    pub sources: Vec<PathBuf>,
    /// The value as RON text with every default written out, to be stored with a run; it loads to the same value.
    pub resolved_text: String,
    tree: Node,
}

impl<T> Loaded<T> {
    /// An error at the value with a dotted path such as `task.elements.0`, for faults that show only when the value
    /// is used (an unknown joint, a negative length). Names the deepest part of the path that was written down.
    pub fn error_at(&self, path: &str, message: impl Into<String>) -> FileError {
        FileError::at(&self.tree.find(path).span, message)
    }

    /// The same at the last key of the path, where that leads into a map: the name itself is wrong.
    pub(crate) fn error_at_key(&self, path: &str, message: impl Into<String>) -> FileError {
        match self.tree.find_key(path) {
            Some(span) => FileError::at(span, message),
            None => self.error_at(path, message),
        }
    }
}

/// Loads a scene or an experiment.
///
/// `name` is a path or a name below one of the [`roots`]; `overrides` are `path=value` texts, applied in order.
///
/// # Errors
/// When a file is missing or unreadable, is no RON, extends itself, or does not describe a `T`.
pub fn load<T: DeserializeOwned + Serialize>(
    kind: FileKind,
    name: &str,
    overrides: &[String],
) -> Result<Loaded<T>, FileError> {
    load_from(kind, name, overrides, &roots())
}

/// [`load`] with other root folders.
///
/// # Errors
/// As [`load`].
pub fn load_from<T: DeserializeOwned + Serialize>(
    kind: FileKind,
    name: &str,
    overrides: &[String],
    roots: &[PathBuf],
) -> Result<Loaded<T>, FileError> {
    let path = lookup::find(kind, name, None, roots)?;
    let (tree, sources) = resolve(kind, path, roots, &mut Faults::first())?;
    finish(tree, sources, overrides)
}

/// Loads from a text; `path` stands for it in messages, and `extends` is looked up beside it.
///
/// # Errors
/// As [`load`].
pub fn load_text<T: DeserializeOwned + Serialize>(
    kind: FileKind,
    path: &Path,
    text: &str,
    overrides: &[String],
) -> Result<Loaded<T>, FileError> {
    let source = Arc::new(Source::File {
        path: path.to_path_buf(),
        text: text.to_owned(),
    });
    let tree = parse::parse(&source)?;
    let (tree, sources) = extend(kind, path.to_path_buf(), tree, &roots(), &mut Faults::first())?;
    finish(tree, sources, overrides)
}

/// A value as RON text in the form that [`load`] reads.
///
/// # Errors
/// When the type has something RON cannot write.
pub fn to_text<T: Serialize>(value: &T) -> Result<String, FileError> {
    let config = ron::ser::PrettyConfig::new()
        .extensions(ron::extensions::Extensions::IMPLICIT_SOME)
        .compact_arrays(true)
        .new_line("\n");
    let mut text = ron::ser::to_string_pretty(value, config)
        .map_err(|error| FileError::plain(format!("this value cannot be written as RON: {error}")))?;
    text.push('\n');
    Ok(text)
}

/// The value of a RON text of any size, without `extends` or overrides; `path` stands for it in messages.
///
/// # Errors
/// As [`load`].
pub fn from_text<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, FileError> {
    let source = Arc::new(Source::File {
        path: path.to_path_buf(),
        text: text.to_owned(),
    });
    de::from_node(&parse::parse(&source)?)
}

fn read(path: &Path) -> Result<Arc<Source>, FileError> {
    check_length(
        path,
        std::fs::metadata(path)
            .map_err(|error| FileError::file(path, error))?
            .len(),
    )?;
    let bytes = std::fs::read(path).map_err(|error| FileError::file(path, error))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| FileError::file(path, format!("is no text: {}", error.utf8_error())))?;
    Ok(Arc::new(Source::File {
        path: path.to_path_buf(),
        text,
    }))
}

fn check_length(path: &Path, bytes: u64) -> Result<(), FileError> {
    if bytes > parse::MAX_BYTES as u64 {
        return Err(FileError::file(
            path,
            format!("has {bytes} bytes; at most {} are read", parse::MAX_BYTES),
        ));
    }
    Ok(())
}

/// Reads the text of a file, resolves `extends` and gives the tree of all files with their paths.
fn resolve(
    kind: FileKind,
    path: PathBuf,
    roots: &[PathBuf],
    faults: &mut Faults,
) -> Result<(Node, Vec<PathBuf>), FileError> {
    let tree = parse::parse_with(&read(&path)?, faults)?;
    extend(kind, path, tree, roots, faults)
}

/// Lays a tree over those of the files that it extends.
fn extend(
    kind: FileKind,
    path: PathBuf,
    mut tree: Node,
    roots: &[PathBuf],
    faults: &mut Faults,
) -> Result<(Node, Vec<PathBuf>), FileError> {
    let mut sources = vec![path];
    let mut layers = Vec::new();
    loop {
        let under = match parent(kind, &mut tree, &sources, roots) {
            Ok(None) => break,
            Ok(Some(parent)) => {
                let under = read(&parent).and_then(|text| parse::parse_with(&text, faults));
                sources.push(parent);
                under
            }
            Err(error) => Err(error),
        };
        match under {
            Ok(under) => layers.push(std::mem::replace(&mut tree, under)),
            Err(error) => {
                faults.note(error)?;
                faults.note_lack();
                break;
            }
        }
    }
    for layer in layers.into_iter().rev() {
        tree.merge(layer);
    }
    Ok((tree, sources))
}

/// The file that a tree extends, the last of `sources`.
fn parent(
    kind: FileKind,
    tree: &mut Node,
    sources: &[PathBuf],
    roots: &[PathBuf],
) -> Result<Option<PathBuf>, FileError> {
    let Some((span, name)) = tree.take_text_field("extends")? else {
        return Ok(None);
    };
    let parent = lookup::find(kind, &name, sources.last().map(PathBuf::as_path), roots)
        .map_err(|error| FileError::at(&span, format!("extends: {}", error.message())))?;
    let chain = || {
        let shown: Vec<String> = sources
            .iter()
            .chain([&parent])
            .map(|path| path.display().to_string())
            .collect();
        shown.join(" -> ")
    };
    if sources.iter().any(|path| lookup::same_file(path, &parent)) {
        return Err(FileError::at(&span, format!("this file extends itself: {}", chain())));
    }
    if sources.len() == MAX_CHAIN {
        return Err(FileError::at(
            &span,
            format!("more than {MAX_CHAIN} files extend each other: {}", chain()),
        ));
    }
    Ok(Some(parent))
}

/// Lays the overrides on a tree and reads the typed value.
fn finish<T: DeserializeOwned + Serialize>(
    mut tree: Node,
    sources: Vec<PathBuf>,
    overrides: &[String],
) -> Result<Loaded<T>, FileError> {
    let plain = (!overrides.is_empty()).then(|| tree.clone());
    for text in overrides {
        apply(&mut tree, text)?;
    }
    let value: T = de::from_node(&tree).map_err(|error| match &plain {
        Some(plain) => suffix::whole_path::<T>(error, plain, overrides),
        None => error,
    })?;
    let resolved_text = to_text(&value)?;
    Ok(Loaded {
        value,
        sources,
        resolved_text,
        tree,
    })
}

/// Lays one `path=value` on the tree.
fn apply(tree: &mut Node, text: &str) -> Result<(), FileError> {
    let source = Arc::new(Source::Override(text.to_owned()));
    let whole = Span::new(&source, 0, text.len());
    if text.len() > parse::MAX_BYTES {
        return Err(FileError::plain("an override is longer than any file may be"));
    }
    let Some((path, value)) = text.split_once('=') else {
        return Err(FileError::at(&whole, "an override is written `path.to.field=value`"));
    };
    let mut parts = Vec::new();
    let mut start = 0;
    for part in path.split('.') {
        let name = part.trim();
        if name.is_empty() {
            return Err(FileError::at(&whole, "the path before `=` has an empty part"));
        }
        if parts.len() == MAX_PARTS {
            return Err(FileError::at(
                &whole,
                format!("the path has more than {MAX_PARTS} parts"),
            ));
        }
        parts.push(Ident {
            span: Span::new(&source, start, start + part.len()),
            text: name.to_owned(),
        });
        start += part.len() + 1;
    }
    let word = value.trim();
    let node = match parse::parse_from(&source, path.len() + 1) {
        Ok(node) if node.span.text() == word => node,
        // Paths, dates and names with signs are no RON, and `//` in a path is no comment: without brackets, quotes or
        // commas they are plain words.
        outcome => {
            if word.is_empty() || word.contains(['(', ')', '[', ']', '{', '}', '"', '\'', ',', '\n']) {
                return Err(outcome.map_or_else(
                    |error| error,
                    |node| {
                        let read = node.span.text();
                        FileError::at(
                            &whole,
                            format!("expected one value without comments, found more than `{read}`"),
                        )
                    },
                ));
            }
            Node {
                span: Span::new(&source, path.len() + 1, text.len()),
                value: Value::Text(word.to_owned()),
            }
        }
    };
    tree.set(&parts, node)
}

/// An error at a stretch of bytes of a text that was read from `path`, such as a model.
pub(crate) fn error_in(
    path: &Path,
    text: &str,
    range: std::ops::Range<usize>,
    message: impl Into<String>,
) -> FileError {
    let source = Arc::new(Source::File {
        path: path.to_path_buf(),
        text: text.to_owned(),
    });
    FileError::at(&Span::new(&source, range.start, range.end), message)
}

/// Most parts of the path of an override; values nest no deeper either.
const MAX_PARTS: usize = 100;
