//! Estimates of methods in one scene and in all of them.

use std::collections::BTreeMap;

use super::comparison::{LEVEL, RESAMPLES, Section, rng};
use super::{Behaviour, Final, Method};
use crate::evaluate::EvaluationSummary;
use crate::metrics::statistics::{
    Interval, OfScores, Statistic, Stratum, mean, optimality_gap, probability_of_improvement, scores,
    stratified_intervals,
};

/// The result of one method.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) method: String,
    /// Its place among the methods.
    pub(super) place: usize,
    pub(super) behaviour: Behaviour,
    /// Seed and score of each learner.
    pub(super) learners: Vec<(u64, f64)>,
    /// Episodes that count, and those that do not because of a fault.
    pub(super) episodes: usize,
    pub(super) faults: usize,
    /// Fewest and most steps of practice.
    pub(super) steps: (u64, u64),
    pub(super) iqm: Estimate,
    pub(super) mean: Estimate,
    pub(super) median: Estimate,
    pub(super) gap: Option<Estimate>,
    pub(super) success: f64,
    stratum: Stratum,
}

/// A number and how sure it is; without an interval where nothing is known about that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
}

/// How probable it is that a learner of one method is better than one of the other.
#[derive(Debug, Clone)]
pub(super) struct Improvement {
    pub(super) one: String,
    pub(super) other: String,
    pub(super) probability: Estimate,
}

/// Shares of episodes that completed each element.
#[derive(Debug, Clone, Default)]
pub(super) struct Elements {
    pub(super) names: Vec<String>,
    pub(super) rows: Vec<(String, Behaviour, Vec<Option<f64>>)>,
}

/// What says most in a summary, as in the tags of metrics.
pub(super) fn headline_name(summary: &EvaluationSummary) -> &str {
    match summary.headline.as_str() {
        "" => "completed",
        name => name,
    }
}

/// A number of a summary by its name.
fn value_of(summary: &EvaluationSummary, name: &str) -> Option<f64> {
    let in_list = |list: &[(String, f64)], wanted: &str| {
        let found = list.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| *value)
    };
    match name {
        "completed" => Some(summary.completed),
        "success" => Some(summary.success),
        "return" => Some(summary.return_),
        "episode_length" => Some(summary.steps),
        name => match name.split_once('/') {
            Some(("figures", figure)) => in_list(&summary.figures, figure),
            Some(("elements", element)) => in_list(&summary.elements, element),
            _ => None,
        },
    }
}

/// Mean, interquartile mean, median and, where there is a maximum, optimality gap.
fn estimates(strata: &[Stratum], maximum: Option<f64>) -> Option<[Option<Estimate>; 4]> {
    let pooled = |statistic: Statistic| move |scores: &[Vec<f64>]| statistic.of(&scores.concat());
    let gap = |scores: &[Vec<f64>]| optimality_gap(&scores.concat(), maximum?);
    let statistics: [OfScores; 4] = [
        &pooled(Statistic::Mean),
        &pooled(Statistic::InterquartileMean),
        &pooled(Statistic::Median),
        &gap,
    ];
    let points = scores(strata);
    let values = statistics.map(|statistic| statistic(&points));
    values.first().copied().flatten()?;
    let known = is_known(strata);
    let intervals = stratified_intervals(strata, statistics, LEVEL, RESAMPLES, &mut rng());
    let both = |index: usize| {
        let value = values.get(index).copied().flatten()?;
        let interval = intervals.get(index).copied().flatten().filter(|_| known);
        Some(Estimate { value, interval })
    };
    Some(std::array::from_fn(both))
}

/// Whether anything is known about the noise of results: of one learner without its episodes nothing is.
fn is_known(strata: &[Stratum]) -> bool {
    strata
        .iter()
        .any(|stratum| stratum.len() > 1 || stratum.iter().any(|episodes| episodes.len() > 1))
}

impl Row {
    /// The result of a method in a section; `None` where it has none.
    pub(super) fn of<'a>(
        section: &Section,
        method: &str,
        place: usize,
        behaviour: Behaviour,
        finals: impl Iterator<Item = &'a Final>,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let (mut stratum, mut learners, mut successes) = (Stratum::new(), Vec::new(), Vec::new());
        let (mut episodes, mut faults, mut steps) = (0, 0, (u64::MAX, 0));
        for result in finals {
            let summary = &result.summary;
            let line = |what: String| format!("`{method}`, seed {}, {}: {what}", result.seed, behaviour.name());
            if summary.counted() == 0 {
                problems.push(line(
                    "no episode of the evaluation counts, all ended with a fault".to_owned(),
                ));
                continue;
            }
            let Some(value) = value_of(summary, &section.name).filter(|value| value.is_finite()) else {
                problems.push(line(format!("the evaluation has no `{}`", section.name)));
                continue;
            };
            let whole = headline_name(summary) == section.name && summary.values.len() == summary.counted();
            let finite = summary.values.iter().all(|value| value.is_finite());
            stratum.push(if whole && finite {
                summary.values.clone()
            } else {
                vec![value]
            });
            learners.push((result.seed, value));
            successes.push(summary.success);
            episodes += summary.counted();
            faults += summary.faults;
            steps = (steps.0.min(result.steps), steps.1.max(result.steps));
        }
        let strata = std::slice::from_ref(&stratum);
        let [mean_, iqm, median, gap] = estimates(strata, section.maximum)?;
        Some(Self {
            method: method.to_owned(),
            place,
            behaviour,
            learners,
            episodes,
            faults,
            steps,
            iqm: iqm?,
            mean: mean_?,
            median: median?,
            gap,
            success: mean(&successes).unwrap_or(0.0),
            stratum,
        })
    }
}

/// Every pair of methods once, with sampled skills.
pub(super) fn improvements(rows: &[Row]) -> Vec<Improvement> {
    let sampled: Vec<&Row> = rows.iter().filter(|row| row.behaviour == Behaviour::Sampled).collect();
    let mut found = Vec::new();
    for (index, one) in sampled.iter().enumerate() {
        for other in sampled.iter().skip(index + 1) {
            let strata = [one.stratum.clone(), other.stratum.clone()];
            let probability = |scores: &[Vec<f64>]| match scores {
                [one, other] => probability_of_improvement(one, other),
                _ => None,
            };
            let Some(value) = probability(&scores(&strata)) else {
                continue;
            };
            let [interval] = stratified_intervals(&strata, [&probability], LEVEL, RESAMPLES, &mut rng());
            found.push(Improvement {
                one: one.method.clone(),
                other: other.method.clone(),
                probability: Estimate {
                    value,
                    interval: interval.filter(|_| is_known(&strata)),
                },
            });
        }
    }
    found
}

/// Shares of elements: means over the learners of each method.
pub(super) fn elements(finals: &[(usize, &Method, Vec<&Final>)]) -> Elements {
    let mut elements = Elements::default();
    let all = finals
        .iter()
        .flat_map(|(.., finals)| finals)
        .flat_map(|result| &result.summary.elements);
    for (name, _) in all {
        if !elements.names.contains(name) {
            elements.names.push(name.clone());
        }
    }
    if elements.names.is_empty() {
        return elements;
    }
    for behaviour in [Behaviour::Sampled, Behaviour::MostLikely] {
        for (_, method, finals) in finals {
            let chosen: Vec<&EvaluationSummary> = (finals.iter())
                .filter(|result| result.behaviour == behaviour && result.summary.counted() > 0)
                .map(|result| &result.summary)
                .collect();
            if chosen.is_empty() {
                continue;
            }
            let share = |name: &String| {
                let of = |summary: &&EvaluationSummary| value_of(summary, &format!("elements/{name}"));
                mean(&chosen.iter().filter_map(of).collect::<Vec<f64>>())
            };
            let shares = elements.names.iter().map(share).collect();
            elements.rows.push((method.label.clone(), behaviour, shares));
        }
    }
    elements
}

/// Methods that were evaluated in all scenes, if there are several: shares of each scene's maximum, with a stratum per
/// scene.
pub(super) fn all_scenes(sections: &[Section]) -> Vec<Row> {
    let whole: Vec<&Section> = (sections.iter())
        .filter(|section| section.overrides.is_empty() && section.maximum.is_some() && !section.rows.is_empty())
        .collect();
    if whole.len() < 2 {
        return Vec::new();
    }
    let mut found: BTreeMap<(Behaviour, usize), Vec<(&Section, &Row)>> = BTreeMap::new();
    for section in &whole {
        for row in &section.rows {
            found
                .entry((row.behaviour, row.place))
                .or_default()
                .push((section, row));
        }
    }
    let mut rows = Vec::new();
    for ((behaviour, place), parts) in found {
        if parts.len() < whole.len() {
            continue;
        }
        let share = |(section, row): &(&Section, &Row)| -> Stratum {
            let maximum = section.maximum.unwrap_or(1.0);
            let shares = |episodes: &Vec<f64>| episodes.iter().map(|value| value / maximum).collect();
            row.stratum.iter().map(shares).collect()
        };
        let strata: Vec<Stratum> = parts.iter().map(share).collect();
        let Some([Some(mean_), Some(iqm), Some(median), gap]) = estimates(&strata, Some(1.0)) else {
            continue;
        };
        rows.push(Row {
            method: parts.first().map(|(_, row)| row.method.clone()).unwrap_or_default(),
            place,
            behaviour,
            learners: (parts.iter())
                .flat_map(|(section, row)| {
                    let maximum = section.maximum.unwrap_or(1.0);
                    row.learners.iter().map(move |(seed, value)| (*seed, value / maximum))
                })
                .collect(),
            episodes: parts.iter().map(|(_, row)| row.episodes).sum(),
            faults: parts.iter().map(|(_, row)| row.faults).sum(),
            steps: parts.iter().fold((u64::MAX, 0), |steps, (_, row)| {
                (steps.0.min(row.steps.0), steps.1.max(row.steps.1))
            }),
            iqm,
            mean: mean_,
            median,
            gap,
            success: mean(&parts.iter().map(|(_, row)| row.success).collect::<Vec<_>>()).unwrap_or(0.0),
            stratum: strata.concat(),
        });
    }
    rows
}
