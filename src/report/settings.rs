//! What differs between the settings of runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Gathered;
use crate::files;

/// The settings in the resolved experiment of a run: dotted paths to values.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    files::flatten(path, &text).map_err(|error| error.message().to_owned())
}

/// The whole numbers in a list such as `[0, 1]`.
pub(super) fn numbers(list: &str) -> Vec<u64> {
    let parts = list.split(|letter: char| !letter.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// A table of settings that are not the same in all runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Differences {
    /// What the columns are.
    pub(super) columns: Vec<String>,
    /// Dotted path and the value in each column; `None` where a run has no such setting.
    pub(super) rows: Vec<(String, Vec<Option<String>>)>,
}

/// Compares the settings of all runs; runs of a method that do not differ share a column.
pub(super) fn differences(gathered: &Gathered) -> Differences {
    let mut columns: Vec<(String, &BTreeMap<String, String>)> = Vec::new();
    for method in &gathered.methods {
        let known: Vec<_> = (method.runs.iter())
            .filter_map(|run| run.settings.as_ref().map(|settings| (run, settings)))
            .collect();
        let same = known
            .windows(2)
            .all(|pair| matches!(pair, [one, other] if one.1 == other.1));
        for (index, (run, settings)) in known.iter().enumerate() {
            if same && index > 0 {
                break;
            }
            let label = match same {
                true => method.label.clone(),
                false => format!("{}: {}", method.label, run.path.display()),
            };
            columns.push((label, settings));
        }
    }
    let paths: BTreeSet<&String> = columns.iter().flat_map(|(_, settings)| settings.keys()).collect();
    let maps: Vec<&BTreeMap<String, String>> = columns.iter().map(|(_, settings)| *settings).collect();
    let row = |path: &String| {
        let values: Vec<Option<&String>> = maps.iter().map(|settings| settings.get(path)).collect();
        let first = values.first().copied().flatten();
        let differs = values.iter().any(|value| *value != first);
        let shown = || maps.iter().map(|settings| shown(settings, path)).collect();
        (differs && !is_explained(path, &values, &maps)).then(|| (path.clone(), shown()))
    };
    Differences {
        rows: paths.into_iter().filter_map(row).collect(),
        columns: columns.into_iter().map(|(label, _)| label).collect(),
    }
}

/// A setting of one run; `(...)` where there are only settings below it.
fn shown(settings: &BTreeMap<String, String>, path: &str) -> Option<String> {
    let below = format!("{path}.");
    let has_more = || settings.keys().any(|known| known.starts_with(&below));
    let value = settings.get(path).cloned();
    value.or_else(|| has_more().then(|| "(...)".to_owned()))
}

/// Whether a setting is the same in all runs that have it, and the others lack it because something above it differs,
/// such as the variant it belongs to: that line says enough.
fn is_explained(path: &str, values: &[Option<&String>], maps: &[&BTreeMap<String, String>]) -> bool {
    let mut there = values.iter().flatten();
    let first = there.next();
    if there.any(|value| Some(value) != first) {
        return false;
    }
    let Some(with) = values
        .iter()
        .position(Option::is_some)
        .and_then(|index| maps.get(index))
    else {
        return false;
    };
    let above = || path.match_indices('.').filter_map(|(end, _)| path.get(..end));
    let lacking = maps.iter().zip(values).filter(|(_, value)| value.is_none());
    lacking
        .into_iter()
        .all(|(without, _)| above().any(|above| without.get(above) != with.get(above)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::report::{Method, Run};

    fn method(label: &str, texts: &[&str]) -> Method {
        let run = |text: &&str| Run {
            path: label.into(),
            settings: Some(files::flatten(Path::new("x.ron"), text).unwrap()),
            ..Run::default()
        };
        Method {
            label: label.to_owned(),
            runs: texts.iter().map(run).collect(),
            ..Method::default()
        }
    }

    #[test]
    fn only_what_differs_is_shown_and_variants_stand_for_what_is_in_them() {
        let spirl = "(data: (path: \"x\"), model: Spirl((width: 5, deep: (er: 1))), learner: (lr: 0.1, policy: Prior), seeds: [0])";
        let sac = "(data: None, model: None, learner: (lr: 0.2, policy: Scratch(width: 7), new: 1), seeds: [0])";
        let gathered = |methods: Vec<Method>| Gathered {
            methods,
            ..Gathered::default()
        };
        let found = differences(&gathered(vec![method("spirl", &[spirl, spirl]), method("sac", &[sac])]));
        assert_eq!(found.columns, ["spirl", "sac"]);
        let rows: Vec<String> = (found.rows.iter())
            .map(|(path, values)| {
                let values: Vec<&str> = values.iter().map(|value| value.as_deref().unwrap_or("-")).collect();
                format!("{path}: {}", values.join(" | "))
            })
            .collect();
        assert_eq!(
            rows,
            [
                "data: (...) | None",
                "learner.lr: 0.1 | 0.2",
                "learner.new: - | 1",
                "learner.policy: Prior | Scratch",
                "model: Spirl | None",
            ]
        );
        // Runs of one method that differ have columns of their own; what differs within a variant is shown.
        let wider = spirl.replace("width: 5", "width: 6");
        let found = differences(&gathered(vec![
            method("spirl", &[spirl, &wider]),
            method("sac", &[sac]),
        ]));
        assert_eq!(found.columns, ["spirl: spirl", "spirl: spirl", "sac"]);
        assert!(found.rows.iter().any(|(path, _)| path == "model.width"));
        assert_eq!(numbers("[0, 12]"), [0, 12]);
        assert!(
            differences(&gathered(vec![method("a", &[spirl]), method("b", &[spirl])]))
                .rows
                .is_empty()
        );
    }
}
