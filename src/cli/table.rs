//! Results as text tables.

use std::fmt::Write as _;

use crate::demos::CollectReport;
use crate::evaluate::EvaluationSummary;
use crate::run::Evaluated;

/// Evaluation of every seed, with the mean over seeds.
pub(super) fn evaluation(results: &[Evaluated]) -> String {
    let mut out = String::new();
    let Some(first) = results.first() else { return out };
    let headline = label(&first.sampled).to_owned();
    let mut header = format!("{:<22}{:>10}{headline:>12}  {:<15}", "", "steps", "95 % interval");
    for name in columns(&first.sampled).map(|(name, _)| name) {
        let _ = write!(header, "  {name:>width$}", width = width(&name));
    }
    let _ = writeln!(out, "{header}");
    for result in results {
        for (what, summary) in rounds(result) {
            let label = format!("seed {}, {what}", result.seed);
            line(&mut out, &label, result.practised, summary);
        }
    }
    if results.len() > 1 {
        let mean = results.iter().map(|result| value(&result.sampled)).sum::<f64>() / results.len() as f64;
        let _ = writeln!(out, "{:<22}{:>10}{mean:>12.2}", "mean over seeds", "");
    }
    let (episodes, elements) = (first.sampled.episodes, first.sampled.task_elements);
    let of = match elements {
        0 => "in the scene's own unit, at the end".to_owned(),
        elements => format!("elements of {elements}"),
    };
    let _ = match headline.as_str() {
        "success" => write!(out, "success: share of {episodes} episodes that reached the goal"),
        "return" => write!(
            out,
            "return: sum of the rewards of an episode, mean of {episodes} episodes"
        ),
        _ => write!(out, "{headline}: {of} per episode, mean of {episodes} episodes"),
    };
    for result in results {
        for (what, summary) in rounds(result) {
            if summary.faults > 0 {
                let _ = write!(out, "\nseed {}, {what}: {}", result.seed, faults(summary));
            }
        }
    }
    out
}

/// What says most, in a word.
fn label(summary: &EvaluationSummary) -> &str {
    match summary.headline.as_str() {
        "" => "completed",
        name => name.strip_prefix("figures/").unwrap_or(name),
    }
}

fn value(summary: &EvaluationSummary) -> f64 {
    if summary.headline.is_empty() {
        summary.completed
    } else {
        summary.value
    }
}

/// What stands beside the headline: names and values as they are shown.
fn columns(summary: &EvaluationSummary) -> impl Iterator<Item = (String, String)> {
    let percent = |share: f64| format!("{:.0}%", 100.0 * share);
    let mut columns = Vec::new();
    if label(summary) != "success" && summary.task_elements > 0 {
        columns.push(("success".to_owned(), percent(summary.success)));
    }
    if summary.task_elements == 0 && label(summary) != "return" {
        columns.push(("return".to_owned(), format!("{:.2}", summary.return_)));
    }
    let figures = summary.figures.iter().filter(|(name, _)| name != label(summary));
    columns.extend(figures.map(|(name, mean)| (name.clone(), format!("{mean:.2}"))));
    columns.extend(
        summary
            .elements
            .iter()
            .map(|(name, share)| (name.clone(), percent(*share))),
    );
    columns.into_iter()
}

/// Width of a column.
fn width(name: &str) -> usize {
    match name {
        "success" => 7,
        name => name.len().max(12),
    }
}

fn line(out: &mut String, label: &str, practised: u64, summary: &EvaluationSummary) {
    let (low, high) = summary.interval;
    let interval = format!("{low:.2} to {high:.2}");
    let value = value(summary);
    let _ = write!(out, "{label:<22}{practised:>10}{value:>12.2}  {interval:<15}");
    for (name, shown) in columns(summary) {
        let _ = write!(out, "  {shown:>width$}", width = width(&name));
    }
    out.push('\n');
}

/// The kinds of episodes of an evaluation.
fn rounds(result: &Evaluated) -> impl Iterator<Item = (&'static str, &EvaluationSummary)> {
    let most_likely = result.most_likely.as_ref().map(|summary| ("most likely", summary));
    std::iter::once(("sampled", &result.sampled)).chain(most_likely)
}

/// How many episodes count for nothing.
fn faults(summary: &EvaluationSummary) -> String {
    format!(
        "{} of {} episodes left out, because the physics became unstable or an action was not finite",
        summary.faults, summary.episodes
    )
}

/// Roll-outs of a prior: elements of the scene, whatever the task.
pub(super) fn rollout(result: &Evaluated) -> String {
    let mut out = String::from("prior roll-outs (no learning)");
    if !result.sampled.reached.is_empty() {
        out += ": elements of the scene at their goal at some time";
    }
    out.push('\n');
    for (label, summary) in rounds(result) {
        let mut parts = Vec::new();
        if summary.task_elements == 0 {
            parts.push(format!("return {:.2}", summary.return_));
        }
        parts.extend(summary.figures.iter().map(|(name, mean)| format!("{name} {mean:.2}")));
        if !summary.reached.is_empty() {
            parts.push(format!("{:.2} of {}", summary.reached_mean(), summary.reached.len()));
        }
        let _ = writeln!(
            out,
            "  {label} skills: {} per episode ({} episodes)",
            parts.join(", "),
            summary.counted()
        );
        if summary.faults > 0 {
            let _ = writeln!(out, "    {}", faults(summary));
        }
        for (name, share) in &summary.reached {
            let _ = writeln!(out, "    {name:<16} {:>4.0}%", 100.0 * share);
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// What a collection came to.
pub(super) fn collection(report: &CollectReport) -> String {
    let mut out = format!(
        "{} demonstrations of {:.0} steps on average; {} of {} attempts rejected",
        report.episodes,
        report.steps as f64 / report.episodes.max(1) as f64,
        report.attempts - report.episodes,
        report.attempts
    );
    for (reason, count) in &report.rejected {
        let _ = write!(out, "\n  {reason}: {count}");
    }
    let _ = write!(out, "\n{}", report.spread);
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Measures;

    #[test]
    fn faults_are_told_where_there_are_any() {
        let summary = EvaluationSummary::of(&[], &Measures::default(), 0);
        let mut result = Evaluated {
            scene: "kitchen".to_owned(),
            overrides: Vec::new(),
            seed: 3,
            practised: 0,
            sampled: summary.clone(),
            most_likely: Some(summary),
        };
        assert!(!evaluation(std::slice::from_ref(&result)).contains("left out"));
        result.sampled = result.sampled.with_faults(2);
        let line = "seed 3, sampled: 2 of 2 episodes left out";
        assert!(evaluation(std::slice::from_ref(&result)).contains(line));
        assert!(rollout(&result).contains("    2 of 2 episodes left out"));
    }
}
