//! Overrides that give only the end of a path.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::source::FileError;
use super::tree::Node;
use super::{de, flatten, nearest, to_text};

/// Most paths that are named.
const SHOWN: usize = 6;

/// The error that came of laying `overrides` over `plain`: where one of them names an unknown field, and there are fields
/// of that name elsewhere, it says where.
pub(super) fn whole_path<T: DeserializeOwned + Serialize>(
    error: FileError,
    plain: &Node,
    overrides: &[String],
) -> FileError {
    let Some((text, unknown, end, value)) = overrides.iter().find_map(|text| blamed(&error, text)) else {
        return error;
    };
    let known = de::from_node::<T>(plain).and_then(|value| flatten(Path::new("known"), &to_text(&value)?));
    let Ok(known) = known else { return error };
    let paths: BTreeSet<&str> = known.keys().flat_map(|path| with_holders(path)).collect();
    let ends_so = |path: &str, end: &str| path.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
    let mut found: Vec<&str> = paths.iter().copied().filter(|path| ends_so(path, end)).collect();
    // A slip besides.
    if found.is_empty() && !error.message().contains("did you mean") {
        let last = |path: &&str| path.rsplit('.').next().unwrap_or_default().to_owned();
        let names: BTreeSet<String> = paths.iter().map(last).collect();
        let near = nearest(unknown, names.iter().map(String::as_str));
        found = match near {
            Some(near) if end == unknown => paths.iter().copied().filter(|path| last(path) == near).collect(),
            _ => Vec::new(),
        };
    }
    let meant = |path: &&str| format!("`{path}={value}`");
    let shown: Vec<String> = found.iter().take(SHOWN).map(meant).collect();
    let hint = match (shown.as_slice(), found.len()) {
        ([], _) => return error,
        ([only], _) => format!("did you mean {only}?"),
        (_, count) if count > SHOWN => {
            format!(
                "did you mean one of {}, or of {} more?",
                shown.join(", "),
                count - SHOWN
            )
        }
        _ => format!("did you mean one of {}?", shown.join(", ")),
    };
    // What was said before it guessed or listed the fields that are there.
    let said = error
        .message()
        .strip_prefix(&format!("override `{text}`: "))
        .unwrap_or_default();
    let said = said.split([';', '(']).next().unwrap_or_default().trim_end();
    FileError::of_override(text, format!("{said}; {hint}"))
}

/// If the error says that the override `text` names an unknown field: the text, that field, the end of the path from
/// there on, and the value.
fn blamed<'t>(error: &FileError, text: &'t str) -> Option<(&'t str, &'t str, &'t str, &'t str)> {
    let said = error
        .message()
        .strip_prefix(&format!("override `{text}`: unknown field `"))?;
    let unknown = said.split('`').next()?;
    let (path, value) = text.split_once('=')?;
    let path = path.trim();
    let mut at = 0;
    for part in path.split('.') {
        if part.trim() == unknown {
            return Some((text, part.trim(), path.get(at..)?, value.trim()));
        }
        at += part.len() + 1;
    }
    None
}

/// A path and those of everything that holds what it leads to.
fn with_holders(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
    ends.filter_map(|end| path.get(..end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use crate::experiment::Experiment;
    use crate::scene::Scene;

    #[test]
    fn the_end_of_a_path_leads_to_the_whole() {
        let message = |text: &str| {
            let error = Experiment::load("kitchen/spirl_cl", &[text.to_owned()]).unwrap_err();
            error.to_string()
        };
        assert!(message("steps=100").contains("did you mean `training.steps=100`?"));
        let several = message("batch=8");
        for path in ["`learner.batch=8`", "`pretraining.batch=8`"] {
            assert!(
                several.contains("did you mean one of ") && several.contains(path),
                "{several}"
            );
        }
        // From a wrong holder, with a slip, and in the midst of a path.
        assert!(message("learner.steps=5").contains("`training.steps=5`"));
        assert!(message("replay_capasity=5").contains("`training.replay_capacity=5`"));
        assert!(message("collect.episodes=5").contains("`dataset.collect.episodes=5`"));
        let none = message("nonsense=5");
        assert!(none.contains("unknown field `nonsense` in `Experiment`"), "{none}");
        let scene = Scene::load_with("maze", &["steps=9".into()]).unwrap_err().to_string();
        assert!(scene.contains("did you mean `episode.steps=9`?"), "{scene}");
    }
}
