//! Results as text tables.

use std::fmt::Write as _;

use crate::demos::CollectReport;
use crate::evaluate::EvaluationSummary;
use crate::run::Evaluated;

/// Evaluation of every seed, with the mean over seeds.
pub(super) fn evaluation(results: &[Evaluated]) -> String {
    let mut out = String::new();
    let width = 12;
    let mut header = format!(
        "{:<22}{:>10}{:>12}  {:<15}{:>9}",
        "", "steps", "completed", "95 % interval", "success"
    );
    if let Some(first) = results.first() {
        for (name, _) in &first.sampled.elements {
            let _ = write!(header, "  {name:>width$}");
        }
    }
    let _ = writeln!(out, "{header}");
    for result in results {
        for (what, summary) in rounds(result) {
            let label = format!("seed {}, {what}", result.seed);
            line(&mut out, &label, result.practised, summary);
        }
    }
    if results.len() > 1 {
        let mean = results.iter().map(|result| result.sampled.completed).sum::<f64>() / results.len() as f64;
        let _ = writeln!(out, "{:<22}{:>10}{mean:>12.2}", "mean over seeds", "");
    }
    if let Some(first) = results.first() {
        let (episodes, elements) = (first.sampled.episodes, first.sampled.task_elements);
        let _ = write!(
            out,
            "completed: elements of {elements} per episode, mean of {episodes} episodes"
        );
    }
    for result in results {
        for (what, summary) in rounds(result) {
            if summary.faults > 0 {
                let _ = write!(out, "\nseed {}, {what}: {}", result.seed, faults(summary));
            }
        }
    }
    out
}

fn line(out: &mut String, label: &str, practised: u64, summary: &EvaluationSummary) {
    let EvaluationSummary {
        completed,
        interval: (low, high),
        success,
        elements,
        ..
    } = summary;
    let interval = format!("{low:.2} to {high:.2}");
    let _ = write!(
        out,
        "{label:<22}{practised:>10}{completed:>12.2}  {interval:<15}{:>8.0}%",
        100.0 * success
    );
    for (name, share) in elements {
        let _ = write!(out, "  {:>width$.0}%", 100.0 * share, width = name.len().max(12) - 1);
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
    let mut out = String::from("prior roll-outs (no learning): elements of the scene at their goal at some time\n");
    for (label, summary) in rounds(result) {
        let (mean, of) = (summary.reached_mean(), summary.reached.len());
        let _ = writeln!(
            out,
            "  {label} skills: {mean:.2} of {of} per episode ({} episodes)",
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

    #[test]
    fn faults_are_told_where_there_are_any() {
        let summary = EvaluationSummary::of(&[], &[], &[], 0);
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
