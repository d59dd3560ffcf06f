//! The tables of a page.

use super::comparison::{LEVEL, Section, reported_steps};
use super::estimates::{Elements, Estimate, Improvement, Row};
use super::health::Health;
use super::html::{Column, Html, join, numbers, paragraph, table, tag, text, words};
use super::settings::Differences;
use super::{Gathered, Kept, Method};

/// A number for people.
fn number(value: f64) -> String {
    match value {
        value if !value.is_finite() => "–".to_owned(),
        value if value.abs() >= 1_000.0 => steps(value.round() as u64),
        value => format!("{value:.2}"),
    }
}

/// A count with gaps between thousands, at which no line breaks.
pub(super) fn steps(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202F}');
        }
        text.push(digit);
    }
    text
}

fn step_range((least, most): (u64, u64)) -> String {
    match least == most {
        true => steps(least),
        false => format!("{} to {}", steps(least), steps(most)),
    }
}

pub(super) fn estimate(estimate: &Estimate) -> String {
    let interval = estimate.interval;
    let interval = interval.map(|ends| format!(" ({} to {})", number(ends.low), number(ends.high)));
    format!("{}{}", number(estimate.value), interval.unwrap_or_default())
}

fn estimate_cell(one: &Estimate) -> Html {
    let interval = one
        .interval
        .map(|ends| format!(" ({} to {})", number(ends.low), number(ends.high)));
    join([
        text(&number(one.value)),
        tag("span", &[("class", "of")], &text(&interval.unwrap_or_default())),
    ])
}

pub(super) fn code(plain: &str) -> Html {
    tag("code", &[], &text(plain))
}

fn dash() -> Html {
    text("–")
}

pub(super) fn runs(gathered: &Gathered) -> Html {
    let mut rows = Vec::new();
    for method in &gathered.methods {
        for run in &method.runs {
            let seeds: Vec<String> = run.seeds.iter().map(u64::to_string).collect();
            let words = |value: Option<&str>| value.map_or_else(dash, text);
            rows.push(vec![
                text(&method.label),
                words(
                    run.fact("experiment")
                        .or(run.setting("description").filter(|line| !line.is_empty())),
                ),
                words(run.setting("scene")),
                text(&seeds.join(", ")),
                run.steps().map_or_else(dash, |count| text(&steps(count))),
                reported_steps(method).map_or_else(dash, |range| text(&step_range(range))),
                code(&run.path.display().to_string()),
            ]);
        }
        for file in &method.tables {
            rows.push(vec![
                text(&method.label),
                dash(),
                text(&scenes_of(method)),
                text(&seeds_of(method)),
                dash(),
                reported_steps(method).map_or_else(dash, |range| text(&step_range(range))),
                code(&file.display().to_string()),
            ]);
        }
    }
    let columns = [
        words("method"),
        words("experiment"),
        words("scene"),
        words("seeds"),
        numbers("steps planned"),
        numbers("steps made"),
        words("from"),
    ];
    table("Methods and the run folders or tables they come from", &columns, &rows)
}

fn scenes_of(method: &Method) -> String {
    let learners = method.learners.iter().map(|learner| learner.scene.as_str());
    let mut scenes: Vec<&str> = learners
        .chain(method.finals.iter().map(|result| result.scene.as_str()))
        .collect();
    scenes.sort_unstable();
    scenes.dedup();
    scenes.join(", ")
}

fn seeds_of(method: &Method) -> String {
    let mut seeds: Vec<u64> = method.learners.iter().map(|learner| learner.seed).collect();
    seeds.extend(method.finals.iter().map(|result| result.seed));
    seeds.sort_unstable();
    seeds.dedup();
    seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn result_table(section: &Section, rows: &[Row]) -> Html {
    let of = match section.maximum {
        Some(maximum) => format!("{} of {maximum}", section.label()),
        None => section.label(),
    };
    let caption = format!(
        "{of}: estimates over seeds with {:.0} % bootstrap intervals",
        100.0 * LEVEL
    );
    let mut columns = vec![
        words("method"),
        words("skills"),
        numbers("seeds"),
        numbers("episodes"),
        numbers("interquartile mean"),
        numbers("mean"),
        numbers("median"),
    ];
    let with_gap = rows.iter().any(|row| row.gap.is_some());
    let with_success = section.name != "success" && rows.iter().any(|row| row.success > 0.0);
    columns.extend(with_gap.then_some(numbers("optimality gap")));
    columns.extend(with_success.then_some(numbers("success")));
    columns.extend([numbers("steps"), words("each seed")]);
    let row = |row: &Row| {
        let episodes = match row.faults {
            0 => steps(row.episodes as u64),
            faults => format!("{} (and {faults} with a fault)", steps(row.episodes as u64)),
        };
        let each: Vec<String> = row.learners.iter().map(|(_, value)| number(*value)).collect();
        let mut cells = vec![
            text(&row.method),
            text(row.behaviour.name()),
            text(&row.learners.len().to_string()),
            text(&episodes),
            estimate_cell(&row.iqm),
            estimate_cell(&row.mean),
            estimate_cell(&row.median),
        ];
        cells.extend(with_gap.then(|| row.gap.as_ref().map_or_else(dash, estimate_cell)));
        cells.extend(with_success.then(|| text(&number(row.success))));
        cells.extend([text(&step_range(row.steps)), text(&each.join(", "))]);
        cells
    };
    table(&caption, &columns, &rows.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn improvement_table(improvements: &[Improvement]) -> Html {
    let row = |one: &Improvement| vec![text(&one.one), text(&one.other), estimate_cell(&one.probability)];
    table(
        "Probability that a seed of the first method ends better than one of the second, sampled skills; 0.5 is no difference",
        &[words("method"), words("better than"), numbers("probability")],
        &improvements.iter().map(row).collect::<Vec<_>>(),
    )
}

pub(super) fn element_table(elements: &Elements) -> Html {
    let mut columns = vec![words("method"), words("skills")];
    columns.extend(elements.names.iter().map(|name| numbers(name)));
    let rows: Vec<Vec<Html>> = (elements.rows.iter())
        .map(|(method, behaviour, shares)| {
            let mut cells = vec![text(method), text(behaviour.name())];
            let percent = |share: f64| text(&format!("{:.0} %", 100.0 * share));
            cells.extend(shares.iter().map(|share| share.map_or_else(dash, percent)));
            cells
        })
        .collect();
    table(
        "Share of evaluation episodes that completed each element, mean over seeds",
        &columns,
        &rows,
    )
}

pub(super) fn published_table(section: &Section, published: &[Kept]) -> Html {
    let here = |row: &&Kept| section.overrides.is_empty() && row.scene == section.scene;
    let rows: Vec<Vec<Html>> = (published.iter().filter(here))
        .map(|row| {
            vec![
                text(&row.method),
                text(&row.metric),
                text(&number(row.value)),
                text(&steps(row.step)),
                text(&row.source),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Html::default();
    }
    let columns = [
        words("method"),
        words("metric"),
        numbers("value"),
        numbers("steps"),
        words("source"),
    ];
    join([
        tag("h3", &[], &text("Published figures")),
        table(
            "Figures from elsewhere; not measured here, and not always under the same conditions",
            &columns,
            &rows,
        ),
    ])
}

/// Longer values are folded.
const LONG: usize = 120;

pub(super) fn settings_table(differing: &Differences) -> Html {
    if differing.rows.is_empty() {
        return paragraph("All runs have the same settings.");
    }
    let mut columns: Vec<Column> = vec![words("setting")];
    columns.extend(differing.columns.iter().map(|name| words(name)));
    let value = |value: &Option<String>| match value {
        None => dash(),
        Some(value) if value.chars().count() > LONG => {
            let begin: String = value.chars().take(LONG / 2).chain("…".chars()).collect();
            tag("details", &[], &join([tag("summary", &[], &code(&begin)), code(value)]))
        }
        Some(value) => code(value),
    };
    let row = |(path, values): &(String, Vec<Option<String>>)| {
        std::iter::once(code(path))
            .chain(values.iter().map(value))
            .collect::<Vec<_>>()
    };
    let rows: Vec<Vec<Html>> = differing.rows.iter().map(row).collect();
    table(
        "Settings of the resolved experiments; – where a run has no such setting",
        &columns,
        &rows,
    )
}

pub(super) fn health(gathered: &Gathered) -> Html {
    let count = |value: Option<f64>| value.map_or_else(dash, |value| text(&steps(value.max(0.0) as u64)));
    let percent = |value: Option<f64>| value.map_or_else(dash, |value| text(&format!("{:.2} %", 100.0 * value)));
    let row = |method: &Method| {
        let health = Health::of(method);
        vec![
            text(&method.label),
            count(health.faults),
            count(health.refused),
            percent(health.skipped),
            percent(health.most_skipped),
            text(&health.evaluation_faults.to_string()),
            count(health.rate),
        ]
    };
    let columns = [
        words("method"),
        numbers("episodes with a fault"),
        numbers("refused transitions"),
        numbers("skipped updates"),
        numbers("most in one report"),
        numbers("evaluation episodes with a fault"),
        numbers("steps a second of a seed"),
    ];
    let rows: Vec<Vec<Html>> = gathered.methods.iter().map(row).collect();
    table(
        "Sums over seeds; shares and speeds are means; – where nothing was reported",
        &columns,
        &rows,
    )
}
