//! MJCF files before and after `MuJoCo` reads them: what they open, and where its errors are.
//!
//! `MuJoCo` opens whatever a model names: other MJCF files, meshes, textures. [`Mjcf::read`] follows the same names
//! first and refuses those that lead out of the folders that the scene allows, links resolved. Where `MuJoCo` would look
//! depends on settings that may stand in any of the files; every place where it might look is checked.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::SceneError;
use crate::files;

/// Largest MJCF file that is read, bytes.
const MAX_BYTES: u64 = 64 << 20;
/// Most MJCF files of one model.
const MAX_FILES: usize = 1000;

/// The files of a model that are MJCF, the model itself first.
#[derive(Debug)]
pub(super) struct Mjcf {
    files: Vec<Text>,
}

#[derive(Debug)]
struct Text {
    path: PathBuf,
    text: String,
    tags: Vec<Tag>,
}

#[derive(Debug)]
struct Tag {
    name: Range<usize>,
    /// From `<` to `>`.
    whole: Range<usize>,
    attributes: Vec<Attribute>,
}

#[derive(Debug)]
struct Attribute {
    name: Range<usize>,
    value: Range<usize>,
}

impl Text {
    fn read(path: &Path) -> Result<Self, SceneError> {
        let failed = |reason: String| SceneError::Model {
            path: path.into(),
            reason,
        };
        let length = std::fs::metadata(path)
            .map_err(|error| failed(error.to_string()))?
            .len();
        if length > MAX_BYTES {
            return Err(failed(format!(
                "has {length} bytes; at most {MAX_BYTES} are read of an MJCF file"
            )));
        }
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| failed("is no MJCF file: it is not text".into()))?;
        let tags =
            tags(&text).map_err(|(at, reason)| SceneError::ModelFile(files::error_in(path, &text, at, reason)))?;
        let path = path.into();
        Ok(Self { path, text, tags })
    }

    fn of(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    fn error(&self, range: &Range<usize>, message: impl Into<String>) -> SceneError {
        SceneError::ModelFile(files::error_in(&self.path, &self.text, range.clone(), message))
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

impl Mjcf {
    /// Reads a model and everything it includes, and checks the name of every file that it would open against `roots`,
    /// folders without links.
    pub(super) fn read(path: &Path, roots: &[PathBuf]) -> Result<Self, SceneError> {
        let main = Text::read(path)?;
        let root = main.tags.first().map(|tag| main.of(&tag.name));
        if root != Some("mujoco") {
            let found = root.map_or_else(|| "nothing".into(), |name| format!("<{name}>"));
            let place = main.tags.first().map_or(0..0, |tag| tag.whole.clone());
            let reason = format!("a model is an MJCF file: expected <mujoco> as the first element, found {found}");
            return Err(main.error(&place, reason));
        }
        let mut this = Self { files: vec![main] };
        let mut seen: BTreeSet<PathBuf> = path.canonicalize().into_iter().collect();
        let mut next = 0;
        while next < this.files.len() {
            for found in this.included(next, roots)? {
                if seen.insert(found.canonicalize().unwrap_or_else(|_| found.clone())) {
                    if this.files.len() == MAX_FILES {
                        let reason = format!("includes more than {MAX_FILES} files");
                        let path = path.into();
                        return Err(SceneError::Model { path, reason });
                    }
                    this.files.push(Text::read(&found)?);
                }
            }
            next += 1;
        }
        this.check_assets(roots)?;
        Ok(this)
    }

    /// The MJCF files that one of the files names, where they might lie.
    fn included(&self, index: usize, roots: &[PathBuf]) -> Result<Vec<PathBuf>, SceneError> {
        let mut found = Vec::new();
        let (Some(text), Some(main)) = (self.files.get(index), self.files.first()) else {
            return Ok(found);
        };
        for (tag, attribute) in text.paths() {
            if !matches!(text.of(&tag.name), "include" | "model") {
                continue;
            }
            for folder in [main.folder(), text.folder()] {
                found.extend(text.inside(attribute, &folder.join(text.of(&attribute.value)), roots)?);
            }
        }
        Ok(found)
    }

    /// The folders in which `MuJoCo` may look for the files of meshes and textures.
    fn asset_folders(&self) -> Result<BTreeSet<PathBuf>, SceneError> {
        let mut folders: BTreeSet<PathBuf> = self.files.iter().map(|text| text.folder().into()).collect();
        let bases: Vec<PathBuf> = folders.iter().cloned().collect();
        for text in &self.files {
            let named = text.tags.iter().flat_map(|tag| &tag.attributes);
            for attribute in named.filter(|it| matches!(text.of(&it.name), "meshdir" | "texturedir" | "assetdir")) {
                text.plain(attribute)?;
                folders.extend(bases.iter().map(|base| base.join(text.of(&attribute.value))));
            }
        }
        Ok(folders)
    }

    /// Every file that `MuJoCo` may open for this model, itself first. A path that is absolute in the model is so here.
    pub(super) fn opened(&self) -> Result<Vec<PathBuf>, SceneError> {
        let mut found: Vec<PathBuf> = self.files.iter().map(|text| text.path.clone()).collect();
        let folders = self.asset_folders()?;
        for text in &self.files {
            for (_, attribute) in text.paths() {
                let value = Path::new(text.of(&attribute.value));
                let names = [Some(value), value.file_name().map(Path::new)].into_iter().flatten();
                let places = names.flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
                found.extend(places.filter(|path| path.is_file()));
            }
        }
        Ok(found)
    }

    /// Whether any file or folder is named by an absolute path.
    pub(super) fn is_bound(&self) -> bool {
        self.files.iter().any(|text| {
            let named = text.tags.iter().flat_map(|tag| &tag.attributes);
            let is_path =
                |name: &str| name.starts_with("file") || matches!(name, "meshdir" | "texturedir" | "assetdir");
            let mut paths = named.filter(|attribute| is_path(text.of(&attribute.name)));
            paths.any(|attribute| Path::new(text.of(&attribute.value)).is_absolute())
        })
    }

    fn check_assets(&self, roots: &[PathBuf]) -> Result<(), SceneError> {
        let folders = self.asset_folders()?;
        for text in &self.files {
            for (_, attribute) in text.paths() {
                text.plain(attribute)?;
                let value = Path::new(text.of(&attribute.value));
                for folder in &folders {
                    text.inside(attribute, &folder.join(value), roots)?;
                    // With `strippath` only the last part counts.
                    if let Some(name) = value.file_name() {
                        text.inside(attribute, &folder.join(name), roots)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What `MuJoCo` said of the model, at its place in the files if that can be told.
    pub(super) fn located(&self, message: &str) -> SceneError {
        let said: Vec<&str> = message
            .lines()
            .map(str::trim)
            .filter(|line| !(line.is_empty() || line.starts_with("Element ")))
            .collect();
        let said = said.join("; ");
        let said = said.trim_start_matches("XML Error: ").trim_start_matches("Error: ");
        match self.place(message) {
            Some((text, range)) => text.error(&range, format!("MuJoCo refuses the model: {said}")),
            None => SceneError::Model {
                path: self.files.first().map(|text| text.path.clone()).unwrap_or_default(),
                reason: said.into(),
            },
        }
    }

    /// The place that a message is about. It may name an element, a line and, in quotes, words.
    fn place(&self, message: &str) -> Option<(&Text, Range<usize>)> {
        let line = ["line ", "Line number="].iter().find_map(|before| {
            let after = message.split(before).nth(1)?;
            let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<usize>().ok().filter(|line| *line > 0)
        });
        let element = message
            .split("Element '")
            .nth(1)
            .and_then(|after| after.split('\'').next());
        let quoted: Vec<&str> = message
            .split('\'')
            .skip(1)
            .step_by(2)
            .filter(|word| !word.is_empty() && Some(*word) != element)
            .collect();
        let fits = |text: &Text, tag: &Tag| {
            let on_line = line.is_none_or(|line| lines_of(&text.text, &tag.whole).contains(&line));
            on_line && element.is_none_or(|element| text.of(&tag.name) == element)
        };
        // The attribute that is quoted, in an element and line that fit; then without the line, which files lose
        // when they are included; then the element alone.
        // Words that come first say more: the name of the element as a whole comes last.
        let words = [true, false].map(|strict| quoted.iter().map(move |word| (strict, word)));
        for (strict, word) in words.into_iter().flatten() {
            for text in &self.files {
                for tag in text.tags.iter().filter(|tag| !strict || fits(text, tag)) {
                    let named = tag.attributes.iter().find(|attribute| {
                        let (name, value) = (text.of(&attribute.name), text.of(&attribute.value));
                        let path = value.ends_with(word) || (word.ends_with(value) && word.contains('/'));
                        name == *word || (!value.is_empty() && path)
                    });
                    let element_fits = element.is_none_or(|element| text.of(&tag.name) == element);
                    if let Some(attribute) = named.filter(|_| element_fits) {
                        return Some((text, attribute.name.start..attribute.value.end + 1));
                    }
                }
            }
        }
        let all = || {
            self.files
                .iter()
                .flat_map(|text| text.tags.iter().map(move |tag| (text, tag)))
        };
        let exact = all().find(|(text, tag)| (line.is_some() || element.is_some()) && fits(text, tag));
        if let Some((text, tag)) = exact {
            return Some((text, tag.whole.start..tag.name.end));
        }
        let main = self.files.first()?;
        let start = line.and_then(|line| start_of_line(&main.text, line))?;
        Some((main, start..start))
    }
}

impl Text {
    /// The attributes that name files.
    fn paths(&self) -> impl Iterator<Item = (&Tag, &Attribute)> {
        let tags = self.tags.iter().filter(|tag| self.of(&tag.name) != "text");
        tags.flat_map(|tag| tag.attributes.iter().map(move |attribute| (tag, attribute)))
            .filter(|(_, attribute)| self.of(&attribute.name).starts_with("file"))
    }

    /// Refuses names that the XML reader would change before they are used.
    fn plain(&self, attribute: &Attribute) -> Result<(), SceneError> {
        let value = self.of(&attribute.value);
        if value.contains(['&', '\0']) {
            let reason = "a name of a file is written without character references (`&...;`)";
            return Err(self.error(&attribute.value, reason));
        }
        Ok(())
    }

    /// `candidate`, if there is such a file, and an error if it lies outside of all `roots`.
    fn inside(
        &self,
        attribute: &Attribute,
        candidate: &Path,
        roots: &[PathBuf],
    ) -> Result<Option<PathBuf>, SceneError> {
        self.plain(attribute)?;
        let Ok(real) = candidate.canonicalize() else {
            return Ok(None);
        };
        if real.is_dir() {
            return Ok(None);
        }
        if !roots.iter().any(|root| real.starts_with(root)) {
            let reason = format!(
                "{:?} leads to {}, outside the folder of the model; `physics.allow` of the scene can list its folder",
                self.of(&attribute.value),
                real.display()
            );
            return Err(self.error(&attribute.value, reason));
        }
        if !real.is_file() {
            let reason = format!("{} is no regular file", real.display());
            return Err(self.error(&attribute.value, reason));
        }
        Ok(Some(candidate.into()))
    }
}

fn start_of_line(text: &str, line: usize) -> Option<usize> {
    let ends = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    ends.take(line).last()
}

/// The lines, from 1, that a stretch lies on.
fn lines_of(text: &str, range: &Range<usize>) -> std::ops::RangeInclusive<usize> {
    let count = |end: usize| text.as_bytes().iter().take(end).filter(|byte| **byte == b'\n').count() + 1;
    count(range.start)..=count(range.end)
}

/// What is wrong with a text, and where.
type Wrong = (Range<usize>, String);

/// The elements of an XML text, in the order in which they begin. Stricter than `MuJoCo`: what it might understand in
/// another way is an error.
fn tags(text: &str) -> Result<Vec<Tag>, Wrong> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = text.get(at..).and_then(|rest| rest.find('<')) {
        let start = at + next;
        let rest = text.get(start..).unwrap_or_default();
        let skipped = [
            ("<!--", "-->"),
            ("<![CDATA[", "]]>"),
            ("<?", "?>"),
            ("<!", ">"),
            ("</", ">"),
        ];
        if let Some((open, close)) = skipped.into_iter().find(|(open, _)| rest.starts_with(open)) {
            let inner = rest.get(open.len()..).unwrap_or_default();
            let length = inner
                .find(close)
                .ok_or_else(|| (start..start + open.len(), format!("`{open}` has no `{close}`")))?;
            if open == "<!" && inner.get(..length).is_some_and(|inner| inner.contains(['<', '['])) {
                return Err((start..start + 2, "document type declarations are not read".into()));
            }
            at = start + open.len() + length + close.len();
            continue;
        }
        let tag = tag(text, start)?;
        at = tag.whole.end;
        found.push(tag);
    }
    Ok(found)
}

fn tag(text: &str, start: usize) -> Result<Tag, Wrong> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    let length = |from: usize, of: &dyn Fn(char) -> bool| {
        let rest = text.get(from..).unwrap_or_default();
        rest.find(|c| !of(c)).unwrap_or(rest.len())
    };
    let blank = |from: usize| from + length(from, &|c| c.is_ascii_whitespace());
    let wrong = |at: usize, wanted: &str| {
        let end = at
            + text
                .get(at..)
                .and_then(|rest| rest.chars().next())
                .map_or(0, char::len_utf8);
        (at..end, format!("this is no XML: expected {wanted}"))
    };
    let name = start + 1..start + 1 + length(start + 1, &is_name);
    if name.is_empty() {
        return Err(wrong(start, "the name of an element after `<`"));
    }
    let mut attributes = Vec::new();
    let mut at = blank(name.end);
    loop {
        let rest = text.get(at..).unwrap_or_default();
        if let Some(end) = ["/>", ">"].iter().find(|end| rest.starts_with(**end)) {
            let whole = start..at + end.len();
            return Ok(Tag {
                name,
                whole,
                attributes,
            });
        }
        let key = at..at + length(at, &is_name);
        if key.is_empty() {
            return Err(wrong(at, "an attribute or `>`"));
        }
        at = blank(key.end);
        if !text.get(at..).unwrap_or_default().starts_with('=') {
            return Err(wrong(at, "`=`"));
        }
        at = blank(at + 1);
        let quote = text.get(at..).and_then(|rest| rest.chars().next());
        let Some(quote) = quote.filter(|c| matches!(c, '"' | '\'')) else {
            return Err(wrong(at, "a value in quotes"));
        };
        let value = at + 1..at + 1 + length(at + 1, &|c| c != quote);
        if value.end >= text.len() {
            return Err((at..at + 1, "this is no XML: the value never ends".into()));
        }
        at = blank(value.end + 1);
        attributes.push(Attribute { name: key, value });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn elements_and_attributes_are_found() {
        let text =
            "<?xml version='1.0'?><!-- <include file='no'/> --><mujoco a='1>2'>\n<include file = \"x\"/></mujoco>";
        let tags = tags(text).unwrap();
        let names: Vec<_> = tags.iter().map(|tag| &text[tag.name.clone()]).collect();
        assert_eq!(names, ["mujoco", "include"]);
        assert_eq!(&text[tags[0].attributes[0].value.clone()], "1>2");
        assert_eq!(&text[tags[1].attributes[0].value.clone()], "x");
    }

    #[test]
    fn what_is_no_xml_is_an_error_and_never_a_panic() {
        for text in [
            "<",
            "<a",
            "<a b",
            "<a b=",
            "<a b='",
            "<a b=c>",
            "<!--",
            "< a>",
            "<!DOCTYPE x [<!ENTITY y 'z'>]>",
        ] {
            assert!(tags(text).is_err(), "{text}");
        }
        // Every prefix of a model, and every model with one byte changed.
        let whole = "<mujoco><option a='1'/><!-- é --><b c=\"ä\"/></mujoco>";
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let _ = tags(&whole[..end]);
        }
        for at in 0..whole.len() {
            let mut bytes = whole.as_bytes().to_vec();
            for byte in [b'<', b'>', b'\'', b'&', b' '] {
                bytes[at] = byte;
                if let Ok(text) = std::str::from_utf8(&bytes) {
                    let _ = tags(text);
                }
            }
        }
    }
}
