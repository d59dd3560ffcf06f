//! Results as a table that is kept: CSV with the columns `method,seed,step,metric,value,scene` and, for figures from
//! elsewhere, `source`.
//!
//! Metrics during practice have their own tags (`practice/completed`). Those of the evaluation after practice begin with
//! `final/` (sampled skills) or `final_most_likely/`; the first of a learner is what says most of an episode.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::estimates::headline_name;
use super::{Behaviour, Final, Gathered, Learner, Method, ReportError};
use crate::evaluate::{EvaluationSummary, Measures};

/// One number of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The method.
    pub method: String,
    /// The learner's seed; none for figures that are means over seeds.
    pub seed: Option<u64>,
    /// Environment steps of practice.
    pub step: u64,
    /// What the number is.
    pub metric: String,
    /// The number.
    pub value: f64,
    /// The scene.
    #[serde(default)]
    pub scene: String,
    /// Where a figure that is not of this program comes from.
    #[serde(default, skip_serializing)]
    pub source: String,
}

const COLUMNS: [&str; 5] = ["method", "seed", "step", "metric", "value"];

/// Prefixes of metrics of an evaluation after practice.
const FINAL: [(Behaviour, &str); 2] = [
    (Behaviour::Sampled, "final/"),
    (Behaviour::MostLikely, "final_most_likely/"),
];

/// The rows of a table.
///
/// # Errors
/// When the file cannot be read, a column is missing or a row has something else in it.
pub fn read_kept(path: &Path) -> Result<Vec<Kept>, ReportError> {
    let wrong = |what: String| ReportError::Table {
        path: path.to_path_buf(),
        what,
    };
    let mut reader = csv::ReaderBuilder::new()
        .from_path(path)
        .map_err(|error| wrong(error.to_string()))?;
    let headers = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
    if let Some(missing) = COLUMNS
        .iter()
        .find(|column| !headers.iter().any(|known| known == **column))
    {
        return Err(wrong(format!(
            "there is no column `{missing}`; expected {} and, if there is one, scene",
            COLUMNS.join(", ")
        )));
    }
    let rows: Result<Vec<Kept>, csv::Error> = reader.deserialize().collect();
    rows.map_err(|error| wrong(error.to_string()))
}

/// The methods of a table.
pub(super) fn methods(rows: &[Kept]) -> Vec<Method> {
    let mut order: Vec<&str> = Vec::new();
    let mut learners: BTreeMap<(&str, &str, u64), Vec<&Kept>> = BTreeMap::new();
    for row in rows {
        if !order.contains(&row.method.as_str()) {
            order.push(&row.method);
        }
        let key = (row.method.as_str(), row.scene.as_str(), row.seed.unwrap_or(0));
        learners.entry(key).or_default().push(row);
    }
    let mut methods: Vec<Method> = order
        .into_iter()
        .map(|label| Method {
            label: label.to_owned(),
            ..Method::default()
        })
        .collect();
    for ((label, scene, seed), rows) in learners {
        let Some(method) = methods.iter_mut().find(|method| method.label == label) else {
            continue;
        };
        method.finals.extend(FINAL.iter().filter_map(|&(behaviour, prefix)| {
            let found: Vec<(&str, &Kept)> = (rows.iter())
                .filter_map(|row| row.metric.strip_prefix(prefix).map(|name| (name, *row)))
                .collect();
            let (_, first) = found.first()?;
            Some(Final {
                scene: scene.to_owned(),
                overrides: Vec::new(),
                behaviour,
                seed,
                steps: first.step,
                summary: summary(&found),
            })
        }));
        let mut curves: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        let is_final = |row: &Kept| FINAL.iter().any(|(_, prefix)| row.metric.starts_with(prefix));
        for row in rows.iter().filter(|row| !is_final(row)) {
            let curve = curves.entry(row.metric.clone()).or_default();
            curve.push((row.step as f64, row.value));
        }
        for curve in curves.values_mut() {
            curve.sort_by(|one, other| one.0.total_cmp(&other.0));
        }
        if !curves.is_empty() {
            method.learners.push(Learner {
                scene: scene.to_owned(),
                seed,
                curves,
            });
        }
    }
    methods
}

/// The summary that rows of one learner make up.
fn summary(rows: &[(&str, &Kept)]) -> EvaluationSummary {
    let mut summary = EvaluationSummary::of(&[], &Measures::default(), 0);
    if let Some((name, row)) = rows.first() {
        (summary.headline, summary.value) = ((*name).to_owned(), row.value);
        summary.interval = (row.value, row.value);
    }
    for (name, row) in rows {
        let value = row.value;
        match *name {
            "completed" => summary.completed = value,
            "success" => summary.success = value,
            "return" => summary.return_ = value,
            "episode_length" => summary.steps = value,
            "episodes" => summary.episodes = value as usize,
            "faults" => summary.faults = value as usize,
            "task_elements" => summary.task_elements = value as usize,
            name => {
                if let Some(element) = name.strip_prefix("elements/") {
                    summary.elements.push((element.to_owned(), value));
                } else if let Some(figure) = name.strip_prefix("figures/") {
                    summary.figures.push((figure.to_owned(), value));
                }
            }
        }
    }
    summary
}

/// The rows of a summary, what says most first.
fn of_summary(summary: &EvaluationSummary) -> Vec<(String, f64)> {
    let mut rows = vec![
        ("success".to_owned(), summary.success),
        ("return".to_owned(), summary.return_),
        ("episode_length".to_owned(), summary.steps),
        ("episodes".to_owned(), summary.episodes as f64),
        ("faults".to_owned(), summary.faults as f64),
    ];
    if summary.task_elements > 0 {
        rows.push(("completed".to_owned(), summary.completed));
        rows.push(("task_elements".to_owned(), summary.task_elements as f64));
    }
    let named = |kind: &str, list: &[(String, f64)]| -> Vec<(String, f64)> {
        let row = |(name, value): &(String, f64)| (format!("{kind}/{name}"), *value);
        list.iter().map(row).collect()
    };
    rows.extend(named("figures", &summary.figures));
    rows.extend(named("elements", &summary.elements));
    let headline = headline_name(summary);
    if let Some(place) = rows.iter().position(|(name, _)| *name == headline) {
        let first = rows.remove(place);
        rows.insert(0, first);
    }
    rows
}

/// Whether a metric during practice is kept: results are, the inner life of the learner is not.
fn is_kept(tag: &str) -> bool {
    let name = ["practice/", "evaluation/"]
        .iter()
        .find_map(|prefix| tag.strip_prefix(prefix));
    name.is_some_and(|name| {
        ["completed", "success", "return"].contains(&name)
            || name.starts_with("figures/")
            || name.starts_with("elements/")
    })
}

/// All results as a table. Evaluations with overrides are left out: a table has no column for them.
pub(super) fn write_kept(gathered: &Gathered) -> Result<String, ReportError> {
    let failed = |error: csv::Error| ReportError::Csv(error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    for method in &gathered.methods {
        expect_seeds_once(method)?;
        for learner in &method.learners {
            for (tag, curve) in learner.curves.iter().filter(|(tag, _)| is_kept(tag)) {
                for &(step, value) in curve {
                    let row = row(method, &learner.scene, learner.seed, step as u64, tag.clone(), value);
                    writer.serialize(row).map_err(failed)?;
                }
            }
        }
        for result in method.finals.iter().filter(|result| result.overrides.is_empty()) {
            let prefix = FINAL.iter().find(|(behaviour, _)| *behaviour == result.behaviour);
            let prefix = prefix.map_or("", |(_, prefix)| prefix);
            for (name, value) in of_summary(&result.summary) {
                let tag = format!("{prefix}{name}");
                let row = row(method, &result.scene, result.seed, result.steps, tag, value);
                writer.serialize(row).map_err(failed)?;
            }
        }
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| ReportError::Csv(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| ReportError::Csv(error.to_string()))
}

fn row(method: &Method, scene: &str, seed: u64, step: u64, metric: String, value: f64) -> Kept {
    Kept {
        method: method.label.clone(),
        seed: Some(seed),
        step,
        metric,
        value,
        scene: scene.to_owned(),
        source: String::new(),
    }
}

fn expect_seeds_once(method: &Method) -> Result<(), ReportError> {
    let mut curves: Vec<(&str, u64)> = (method.learners.iter())
        .map(|learner| (learner.scene.as_str(), learner.seed))
        .collect();
    let mut finals: Vec<(&str, u64)> = (method.finals.iter())
        .filter(|result| result.overrides.is_empty() && result.behaviour == Behaviour::Sampled)
        .map(|result| (result.scene.as_str(), result.seed))
        .collect();
    for learners in [&mut curves, &mut finals] {
        learners.sort_unstable();
        if let Some([(scene, seed), _]) = learners.array_windows().find(|[one, other]| one == other) {
            return Err(ReportError::SeedTwice {
                method: method.label.clone(),
                scene: (*scene).to_owned(),
                seed: *seed,
            });
        }
    }
    Ok(())
}
