//! The page: one HTML file that needs nothing else.

use super::comparison::{Comparison, LEVEL, RESAMPLES, Section, title};
use super::estimates::{Estimate, Row};
use super::html::{Html, fixed, join, paragraph, picture, scrolling, table, tag, text, void, words};
use super::media::{self, Medium};
use super::settings::differences;
use super::style::STYLE;
use super::tables::{
    code, element_table, estimate, health, improvement_table, published_table, result_table, runs, settings_table,
    steps,
};
use super::{Behaviour, Gathered, Kept, Method, Options, ReportPicture, Run, short};

/// Writes the page.
pub(super) fn page(
    gathered: &Gathered,
    comparison: &Comparison,
    pictures: &[ReportPicture],
    problems: &[String],
    options: &Options,
) -> String {
    let title = options.title.clone().unwrap_or_else(|| title(gathered, comparison));
    let mut parts: Vec<(String, Html)> = vec![("What was run".to_owned(), runs(gathered))];
    for section in &comparison.sections {
        parts.push((section.title(), results(section, pictures, &options.published)));
    }
    if !comparison.all_scenes.is_empty() {
        parts.push(("All scenes".to_owned(), all_scenes(&comparison.all_scenes)));
    }
    parts.extend(shown("Videos and pictures", gallery(gathered, options)));
    let differing = differences(gathered);
    if differing.columns.len() > 1 {
        parts.push(("Settings that differ".to_owned(), settings_table(&differing)));
    }
    parts.push(("Faults and skipped updates".to_owned(), health(gathered)));
    parts.push(("Machine, version and commands".to_owned(), machines(gathered)));
    parts.push(("How the numbers are computed".to_owned(), method_notes(gathered)));

    let id = |index: usize| format!("part-{index}");
    let links = parts.iter().enumerate().map(|(index, (name, _))| {
        let link = tag("a", &[("href", &format!("#{}", id(index)))], &text(name));
        tag("li", &[], &link)
    });
    let contents = tag("nav", &[("aria-label", "Contents")], &tag("ul", &[], &join(links)));
    let sections = parts.iter().enumerate().map(|(index, (name, content))| {
        let id = id(index);
        let heading_id = format!("{id}-heading");
        let heading = tag("h2", &[("id", &heading_id)], &text(name));
        tag(
            "section",
            &[("id", &id), ("aria-labelledby", &heading_id)],
            &join([heading, content.clone()]),
        )
    });
    let sections = join(sections);
    let footer = paragraph(&format!(
        "Made by apprentice {} (`apprentice report`).",
        env!("CARGO_PKG_VERSION")
    ));
    let body = join([
        tag("header", &[], &tag("h1", &[], &text(&title))),
        notes(problems),
        contents,
        tag("main", &[], &sections),
        tag("footer", &[], &footer),
    ]);
    let head = join([
        void("meta", &[("charset", "utf-8")]),
        void(
            "meta",
            &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")],
        ),
        void("meta", &[("name", "color-scheme"), ("content", "light dark")]),
        void("meta", &[("name", "generator"), ("content", "apprentice report")]),
        tag("title", &[], &text(&title)),
        tag("style", &[], &fixed(STYLE)),
    ]);
    let html = tag(
        "html",
        &[("lang", "en")],
        &join([tag("head", &[], &head), tag("body", &[], &body)]),
    );
    format!("<!DOCTYPE html>\n{}\n", html.into_string())
}

/// A part with a title, unless there is nothing in it.
fn shown(name: &str, content: Option<Html>) -> Option<(String, Html)> {
    content.map(|content| (name.to_owned(), content))
}

fn notes(problems: &[String]) -> Html {
    if problems.is_empty() {
        return Html::default();
    }
    let lines = problems.iter().map(|line| tag("li", &[], &text(line)));
    let content = join([
        tag("strong", &[], &text("What is missing or needs care")),
        tag("ul", &[], &join(lines)),
    ]);
    tag("div", &[("class", "notes"), ("role", "note")], &content)
}

fn results(section: &Section, pictures: &[ReportPicture], published: &[Kept]) -> Html {
    let mut content = Html::default();
    if !section.rows.is_empty() {
        content.push(&tag("h3", &[], &text("Evaluation after practice")));
        content.push(&result_table(section, &section.rows));
        let says = section.rows.iter().map(|row| {
            let iqm = estimate(&row.iqm);
            format!("{} ({} skills): {iqm}", row.method, row.behaviour.name())
        });
        let says = format!(
            "Interquartile mean of {}: {}",
            section.label(),
            says.collect::<Vec<_>>().join("; ")
        );
        content.push(&figure(pictures, &section.interval_name(), &says));
    } else {
        content.push(&paragraph("There is no evaluation after practice here."));
    }
    for set in &section.curves {
        let during = if set.tag.starts_with("evaluation/") {
            "evaluations during practice"
        } else {
            "practice"
        };
        content.push(&tag("h3", &[], &text(&format!("Learning curves: {during}"))));
        let ends = section.plotted(set).map(|curves| {
            let ends = set.methods.iter().zip(curves.points()).filter_map(|(method, points)| {
                let point = points.last()?;
                let last = Estimate {
                    value: point.value,
                    interval: (method.seeds.len() > 1).then_some(point.interval),
                };
                Some(format!(
                    "{} ends at {} after {} steps",
                    method.label,
                    estimate(&last),
                    steps(point.x as u64)
                ))
            });
            ends.collect::<Vec<_>>().join("; ")
        });
        let says = format!(
            "{} against environment steps, interquartile mean over seeds, band: {:.0} % bootstrap interval. {}",
            set.tag,
            100.0 * LEVEL,
            ends.unwrap_or_default()
        );
        content.push(&figure(pictures, &section.curve_name(set), &says));
    }
    if !section.improvements.is_empty() {
        content.push(&tag("h3", &[], &text("Probability of improvement")));
        content.push(&improvement_table(&section.improvements));
    }
    if !section.elements.rows.is_empty() {
        content.push(&tag("h3", &[], &text("Elements of the task")));
        content.push(&element_table(&section.elements));
    }
    content.push(&published_table(section, published));
    content
}

fn figure(pictures: &[ReportPicture], name: &str, says: &str) -> Html {
    let Some(found) = pictures.iter().find(|picture| picture.name == name) else {
        return Html::default();
    };
    let drawn = scrolling("Plot", &picture(&found.svg, says));
    tag("figure", &[], &join([drawn, tag("figcaption", &[], &text(says))]))
}

fn all_scenes(rows: &[Row]) -> Html {
    let section = Section {
        name: "share of each scene's maximum".to_owned(),
        ..Section::default()
    };
    join([
        paragraph("Methods that were evaluated in every scene; resamples keep the number of seeds of each scene."),
        result_table(&section, rows),
    ])
}

fn gallery(gathered: &Gathered, options: &Options) -> Option<Html> {
    let mut room = options.embed;
    let mut content = Html::default();
    for method in &gathered.methods {
        for run in method.runs.iter().filter(|run| !run.media.is_empty()) {
            let name = match method.runs.len() {
                1 => method.label.clone(),
                _ => format!("{}: {}", method.label, short(&run.path)),
            };
            content.push(&tag("h3", &[], &text(&name)));
            let shown = run
                .media
                .iter()
                .map(|medium| medium_figure(medium, run, &name, &mut room, options));
            content.push(&tag("div", &[("class", "media")], &join(shown)));
        }
    }
    (content != Html::default()).then_some(content)
}

/// A video or picture; a link to it where there is no room for it in the page.
fn medium_figure(medium: &Medium, run: &Run, of: &str, room: &mut u64, options: &Options) -> Html {
    let inside = medium.path.strip_prefix(&run.path).unwrap_or(&medium.path);
    let name = inside.display().to_string();
    let size = format!("{:.1} MiB", medium.size as f64 / f64::from(1 << 20));
    let fits = medium.size <= *room;
    let uri = if fits { medium.data_uri() } else { None };
    let Some(uri) = uri else {
        let link = tag(
            "a",
            &[("href", &media::link(&medium.path, &options.folder))],
            &text(&name),
        );
        let rest = format!(" ({size}) is not part of this page: it lies beside the run.");
        let caption = tag("figcaption", &[], &join([link, text(&rest)]));
        return tag("figure", &[], &caption);
    };
    *room -= medium.size;
    let what = if medium.is_video() { "Video" } else { "Picture" };
    let says = format!("{what} {name} of {of}");
    let shown = match medium.is_video() {
        true => tag(
            "video",
            &[
                ("controls", ""),
                ("preload", "metadata"),
                ("aria-label", &says),
                ("src", &uri),
            ],
            &text("This browser shows no videos."),
        ),
        false => void("img", &[("alt", &says), ("src", &uri)]),
    };
    let caption = tag("figcaption", &[], &text(&format!("{name} ({size})")));
    tag("figure", &[], &join([shown, caption]))
}

fn machines(gathered: &Gathered) -> Html {
    let mut content = Html::default();
    let mut rows = Vec::new();
    let runs = || {
        let of = |method: &'_ Method| {
            method
                .runs
                .iter()
                .map(|run| (method.label.clone(), run.clone()))
                .collect::<Vec<_>>()
        };
        gathered.methods.iter().flat_map(of)
    };
    for (label, run) in runs() {
        for (name, value) in run
            .facts
            .iter()
            .filter(|(name, _)| name != "command" && name != "experiment")
        {
            rows.push(vec![
                text(&label),
                code(&run.path.display().to_string()),
                text(name),
                text(value),
            ]);
        }
    }
    if rows.is_empty() {
        return paragraph("No run says on which machine and with which version it was made.");
    }
    let columns = [words("method"), words("run"), words("what"), words("value")];
    content.push(&table("What the runs say about how they were made", &columns, &rows));
    for (label, run) in runs() {
        if let Some(command) = run.fact("command") {
            content.push(&tag("h3", &[], &text(&format!("{label}: {}", run.path.display()))));
            content.push(&tag("pre", &[], &code(command)));
        }
    }
    content
}

fn method_notes(gathered: &Gathered) -> Html {
    let tables = gathered.methods.iter().any(|method| !method.tables.is_empty());
    let several = gathered.methods.iter().any(|method| {
        method
            .finals
            .iter()
            .any(|result| result.behaviour == Behaviour::MostLikely)
    });
    let mut lines = vec![
        "The score of a seed is the mean of its evaluation episodes; episodes that ended with a fault are left out."
            .to_owned(),
        "The interquartile mean is the mean of the scores without the lowest and the highest quarter of them; with fewer \
         than four seeds it is the mean. The optimality gap is the share of the maximum that scores miss on average. \
         (R. Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021.)"
            .to_owned(),
        format!(
            "Intervals hold {:.0} % of {RESAMPLES} bootstrap resamples, drawn within each scene: seeds with replacement, \
             then episodes of each drawn seed, as far as single episodes are on file. With one seed they are over its \
             episodes only and say nothing about other seeds.",
            100.0 * LEVEL
        ),
        "Bands of learning curves are over seeds, at steps that all seeds of a method have; one seed has no band. With few \
         seeds, intervals are too narrow."
            .to_owned(),
        "The probability of improvement is the share of pairs of seeds in which the first method is better, ties counted \
         half."
            .to_owned(),
    ];
    if several {
        lines.push("Sampled skills are drawn from the policy, most likely ones are its means.".to_owned());
    }
    if tables {
        lines.push("Tables keep the scores of seeds, not single episodes.".to_owned());
    }
    let lines = lines.iter().map(|line| tag("li", &[], &text(line)));
    tag("ul", &[], &join(lines))
}
