//! Everything that is wrong with a file, at once.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lookup::{self, FileKind, roots};
use super::source::{FileError, Span};
use super::suffix::whole_path;
use super::{Loaded, apply, mend, resolve, to_text};

/// After so many faults the rest is left alone.
pub(super) const MOST_FAULTS: usize = 100;

/// Faults as they are met: the first one ends the reading, or all are gathered.
#[derive(Debug, Default)]
pub(super) struct Faults {
    gathers: bool,
    found: Vec<FileError>,
    /// Brackets that were closed by others: what they hold was probably meant to be of another kind.
    mismatched: Vec<Span>,
    lacks_parent: bool,
}

impl Faults {
    /// The first fault is the last one.
    pub(super) fn first() -> Self {
        Self::default()
    }

    /// Every fault is wanted.
    pub(super) fn all() -> Self {
        Self {
            gathers: true,
            ..Self::default()
        }
    }

    /// Whether reading goes on after a fault.
    pub(super) fn gathers(&self) -> bool {
        self.gathers
    }

    /// Remembers that the bracket that opens here was closed by another one.
    pub(super) fn note_mismatch(&mut self, open: Span) {
        self.mismatched.push(open);
    }

    /// Remembers that a file that is extended cannot be read.
    pub(super) fn note_lack(&mut self) {
        self.lacks_parent = true;
    }

    /// Takes the fault down, or gives it back where it ends the reading.
    pub(super) fn note(&mut self, fault: FileError) -> Result<(), FileError> {
        if !self.gathers {
            return Err(fault);
        }
        if !self.found.contains(&fault) {
            self.found.push(fault);
        }
        if self.found.len() >= MOST_FAULTS {
            self.gathers = false;
            return Err(FileError::plain(format!(
                "there are more faults; {MOST_FAULTS} are listed"
            )));
        }
        Ok(())
    }
}

/// A file that was read as far as possible, and all that is wrong with it.
#[derive(Debug, Clone)]
pub struct Checked<T> {
    /// The value, in which faulty parts are left at their defaults, or empty where there are none; `None` if there is
    /// nothing to be read.
    pub loaded: Option<Loaded<T>>,
    /// What is wrong, in the order in which it was found.
    pub errors: Vec<FileError>,
    /// A file that this one extends cannot be read, so nothing can be said of the value as a whole.
    pub lacks_parent: bool,
}

impl<T> Checked<T> {
    /// Adds a fault of the value at a dotted path, as [`Loaded::error_at`] does. Where that value is only the stand-in
    /// for a faulty one, nothing is added: what is wrong has been said.
    pub fn report(&mut self, path: &str, message: impl Into<String>) {
        if let Some(loaded) = &self.loaded
            && self.is_sound(path)
        {
            self.errors.push(loaded.error_at(path, message));
        }
    }

    /// The same at the last key of the path, where that leads into a map: the name itself is wrong.
    pub(crate) fn report_key(&mut self, path: &str, message: impl Into<String>) {
        if let Some(loaded) = &self.loaded
            && self.is_sound(path)
        {
            self.errors.push(loaded.error_at_key(path, message));
        }
    }

    /// Whether nothing is known to be wrong with the value at a dotted path, or with what holds it or is in it.
    pub fn is_sound(&self, path: &str) -> bool {
        let Some(loaded) = &self.loaded else {
            return false;
        };
        let holders = path
            .match_indices('.')
            .map(|(end, _)| path.get(..end).unwrap_or_default());
        let broken = |path: &str| loaded.tree.find_whole(path).is_some_and(|node| node.is_gap());
        let mut ways = holders.chain(["", path]);
        !ways.any(broken) && loaded.tree.find_whole(path).is_none_or(|node| !node.has_gaps())
    }

    /// The faults in the order of files and lines, each once; those of the command line and of whole files come last.
    pub fn into_errors(self) -> Vec<FileError> {
        let sources = self.loaded.map(|loaded| loaded.sources).unwrap_or_default();
        let mut errors: Vec<FileError> = Vec::new();
        for error in self.errors {
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        errors.sort_by_key(|error| match error.location() {
            Some(place) => {
                let file = sources.iter().position(|path| *path == place.path);
                (file.unwrap_or(usize::MAX - 1), place.line, place.column)
            }
            None => (usize::MAX, 0, 0),
        });
        errors
    }
}

/// Reads a scene or an experiment as [`load`](super::load) does, but goes on after faults and gives all of them.
pub fn check<T: DeserializeOwned + Serialize>(kind: FileKind, name: &str, overrides: &[String]) -> Checked<T> {
    let mut faults = Faults::all();
    let loaded = match read_all(kind, name, overrides, &mut faults) {
        Ok(loaded) => loaded,
        Err(error) => {
            faults.found.push(error);
            None
        }
    };
    Checked {
        loaded,
        errors: faults.found,
        lacks_parent: faults.lacks_parent,
    }
}

fn read_all<T: DeserializeOwned + Serialize>(
    kind: FileKind,
    name: &str,
    overrides: &[String],
    faults: &mut Faults,
) -> Result<Option<Loaded<T>>, FileError> {
    let roots = roots();
    let path = lookup::find(kind, name, None, &roots)?;
    let (mut tree, sources) = resolve(kind, path, &roots, faults)?;
    let incomplete = !faults.found.is_empty();
    let plain = tree.clone();
    for text in overrides {
        if let Err(error) = apply(&mut tree, text) {
            faults.note(error)?;
        }
    }
    let (value, found) = mend::mended::<T>(&mut tree, incomplete, &faults.mismatched);
    for error in found {
        faults.note(whole_path::<T>(error, &plain, overrides))?;
    }
    let Some(value) = value else {
        return Ok(None);
    };
    Ok(Some(Loaded {
        resolved_text: to_text(&value)?,
        value,
        sources,
        tree,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Plan {
        title: String,
        #[serde(default)]
        steps: Vec<Step>,
        #[serde(default)]
        limits: BTreeMap<String, (f32, f32)>,
        #[serde(default)]
        learner: Learner,
        #[serde(default)]
        deeper: Option<Box<Plan>>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Step {
        name: String,
        length: u32,
        #[serde(default = "one")]
        weight: f64,
    }

    #[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
    enum Learner {
        #[default]
        None,
        Sac {
            #[serde(default)]
            batch: usize,
            rate: f64,
        },
    }

    fn one() -> f64 {
        1.0
    }

    fn checked(text: &str, overrides: &[&str]) -> Checked<Plan> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.ron");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        check(FileKind::Experiment, path.to_str().unwrap(), &overrides)
    }

    /// Line, column and message of every fault; without a place only the message.
    fn told(checked: Checked<Plan>) -> Vec<String> {
        let told = checked.into_errors().into_iter().map(|error| match error.location() {
            Some(place) => format!("{}:{} {}", place.line, place.column, error.message()),
            None => error.message().to_owned(),
        });
        told.map(|text| text.split(" (").next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn sound_files_are_what_they_are() {
        let text = r#"(title: "t", steps: [(name: "a", length: 2)], learner: Sac(rate: 1))"#;
        let found = checked(text, &["learner.batch=3"]);
        assert_eq!(found.errors, []);
        let loaded = found.loaded.unwrap();
        assert_eq!(loaded.value.learner, Learner::Sac { batch: 3, rate: 1.0 });
        assert_eq!(loaded.value.steps[0].weight, 1.0);
    }

    #[test]
    fn every_fault_of_a_file_is_found_once() {
        let text = r#"(
    title: 7,
    steps: [
        (name: "a", lenght: 2),
        (name: b, length: -2, weight: "x"),
        3,
        (name: "d", length: 4, wieght: 1, weight: 2),
    ],
    limits: {"low": (0, 1, 2), "high": (1, true), "fine": (0, 1)},
    learner: Sac(batch: many),
    deeper: (steps: 5),
)"#;
        let mut found = checked(text, &["titel=x", "learner.rato=1", "steps.9.name=x", "nonsense"]);
        let loaded = found.loaded.clone().unwrap();
        // What is sound is read all the same.
        assert_eq!(
            loaded.value.steps[3],
            Step {
                name: "d".into(),
                length: 4,
                weight: 2.0
            }
        );
        assert_eq!(loaded.value.limits["fine"], (0.0, 1.0));
        for (path, sound) in [
            ("title", false),
            ("steps", false),
            ("steps.3", true),
            ("steps.3.weight", true),
            ("steps.1.weight", false),
            ("steps.1.name.x", false),
            ("limits.fine", true),
            ("elsewhere", true),
        ] {
            assert_eq!(found.is_sound(path), sound, "{path}");
        }
        // Of stand-ins nothing is said.
        found.report("title", "must not be empty");
        found.report("steps.3.length", "must be odd");
        assert_eq!(
            told(found),
            [
                "2:12 `title`: expected a string, found the number 7",
                "4:21 unknown field `lenght` in `Step`; did you mean `length`?",
                "5:16 `name`: expected a string; write \"b\" with quotes, found the name `b`",
                "5:27 `length`: expected a whole number that is not negative, found the number -2",
                "5:39 `weight`: expected a number, found the string \"x\"",
                "6:9 `steps`: expected `Step`, written `(name: ..., ...)`, found the number 3",
                "7:29 must be odd",
                "7:32 unknown field `wieght` in `Step`; did you mean `weight`?",
                "9:28 `limits`: expected 2 values `(...)`, found 3 values",
                "9:44 `limits`: expected a number, found `true`",
                "10:25 `batch`: expected a whole number, zero or more, found the name `many`",
                "11:13 missing field `title` in `Plan`",
                "11:21 `steps`: expected a list, as in `[5]`, found the number 5",
                // In the order in which they are noticed; a slip in a name is no missing field besides.
                "override `steps.9.name=x`: `9` is no element of a list of 4: use 0 to 3",
                "override `nonsense`: an override is written `path.to.field=value`",
                "override `titel=x`: unknown field `titel` in `Plan`; did you mean `title`?",
                "override `learner.rato=1`: unknown field `rato` in `Sac`; did you mean `rate`?",
            ]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
        );
    }

    #[test]
    fn reading_goes_on_after_faults_of_the_text() {
        let text = "(\n  title: \"t\" \"u\",\n  steps: [(name: \"a\", length: 1-2), (name \"b\"), (name: \"c\", length: x)],\n  \
                    steps: [],\n  limits: {[1]: 2},\n  deeper: @,\n  learner: Sca,\n)";
        let found = told(checked(text, &[]));
        for part in [
            "2:14 expected `,` or `)`, found",
            "3:31 `1-2` is no number",
            "3:43 expected `,` or `)`, found",
            "3:69 `length`: expected a whole number",
            "4:3 the field `steps` is given twice",
            "5:12 a list `[...]` cannot be the key of a map",
            "6:11 expected a value, found `@`",
            "7:12 unknown variant `Sca` of `Learner`; did you mean `Sac`?",
        ] {
            assert!(
                found.iter().any(|message| message.starts_with(part)),
                "no `{part}` in {found:#?}"
            );
        }
        for text in [
            "",
            "(",
            "(title: \"",
            "(title: [}",
            "((((",
            "/*",
            "(title: 'x)",
            "}",
            "(a: (b: [1, (c: \"x\"]",
            "\u{feff}",
        ] {
            assert!(!checked(text, &[]).into_errors().is_empty(), "{text}");
        }
    }

    #[test]
    fn there_is_an_end_to_the_faults() {
        for text in [
            format!("(title: \"t\", steps: [{}])", "1,".repeat(5_000)),
            format!("(title: \"t\", steps: [{}])", "@,".repeat(5_000)),
            "\"".repeat(20_001),
            "(/".repeat(20_000),
            "[\"\\q".repeat(20_000),
        ] {
            let found = checked(&text, &[]).into_errors().len();
            assert!((1..=2 * MOST_FAULTS).contains(&found), "{found}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn faults_are_found_where_loading_fails(text in r#"\((title: ("t"|7|x), )?(steps: \[(\(name: "a"(, length: (1|-1|x))?(, w: 1)?\), ){0,2}\]?, )?(learner: (None|Sac|Sac\(rate: (1|x)\)), )?(deeper: \(\))?\)"#) {
            let found = checked(&text, &[]);
            let loads = super::super::from_text::<Plan>(std::path::Path::new("plan.ron"), &text);
            prop_assert_eq!(found.errors.is_empty(), loads.is_ok(), "{:?} {:?}", loads, found.errors);
            if let Ok(value) = loads {
                prop_assert_eq!(found.loaded.map(|loaded| loaded.value), Some(value));
            }
        }
    }
}
