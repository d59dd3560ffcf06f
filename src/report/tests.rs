//! Tests of reports, on run folders written by hand.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::evaluate::{EvaluationSummary, Measures};
use crate::practice::EpisodeResult;
use crate::run::Evaluated;

const HOSTILE: &str = "<script>alert(\"1\")</script> & 'x'";

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Results of an evaluation whose episodes completed so many of four elements.
fn evaluated(seed: u64, completed: &[usize]) -> Evaluated {
    let names: Vec<String> = ["microwave", "kettle", "burner", "switch"].map(str::to_owned).to_vec();
    let measures = Measures {
        task: names.clone(),
        scene: names,
        ..Measures::default()
    };
    let result = |&count: &usize| {
        let done: Vec<bool> = (0..4).map(|index| index < count).collect();
        EpisodeResult {
            return_: count as f32,
            steps: 280,
            reached: done.clone(),
            done,
            figures: Vec::new(),
        }
    };
    let results: Vec<EpisodeResult> = completed.iter().map(result).collect();
    Evaluated {
        scene: "kitchen".to_owned(),
        overrides: Vec::new(),
        seed,
        practised: 20_000,
        sampled: EvaluationSummary::of(&results, &measures, 0),
        most_likely: None,
    }
}

/// A run of 20 000 steps whose seeds end at about `level` elements.
fn run(root: &Path, name: &str, seeds: u64, level: usize, discount: &str) -> PathBuf {
    let run = root.join(name);
    let list: Vec<String> = (0..seeds).map(|seed| seed.to_string()).collect();
    let experiment = format!(
        "(scene: \"kitchen\", seeds: [{}], training: (steps: 20000), learner: (discount: {discount}, critic: (width: 256)))",
        list.join(", ")
    );
    write(&run.join("experiment.ron"), &experiment);
    let version =
        format!("apprentice 0.1.0\nprocessor A & B\nexperiment kitchen/{name}\ncommand apprentice train {HOSTILE}\n");
    write(&run.join("version.txt"), &version);
    let mut results = Vec::new();
    for seed in 0..seeds {
        let mut rows = "step,tag,value,wall_s\n".to_owned();
        for step in 1..=20 {
            let value = (level as f64 + 0.1 * seed as f64) * f64::from(step) / 20.0;
            for (tag, value) in [
                ("practice/completed", value),
                ("practice/success", value / 8.0),
                ("practice/faults", f64::from(step / 20)),
                ("learner/skipped", 0.01),
            ] {
                let _ = writeln!(rows, "{},{tag},{value:?},{step}", 1_000 * step);
            }
        }
        write(&run.join(format!("seed_{seed}/metrics.csv")), &rows);
        results.push(evaluated(seed, &[level, level + 1, level, level]));
    }
    write(&run.join("evaluation.json"), &serde_json::to_string(&results).unwrap());
    run
}

fn sources(parts: &[(&str, &[&Path])]) -> Vec<Source> {
    let source = |(label, paths): &(&str, &[&Path])| Source {
        label: Some((*label).to_owned()),
        paths: paths.iter().map(|path| path.to_path_buf()).collect(),
    };
    parts.iter().map(source).collect()
}

/// Every element is closed, in order, and nothing is loaded from elsewhere.
fn expect_sound(html: &str) {
    assert!(html.starts_with("<!DOCTYPE html>"));
    for foreign in [
        "<script",
        "<link",
        "@import",
        "src=\"http",
        "url(",
        "href=\"http",
        "href=\"/",
    ] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    let mut open: Vec<&str> = Vec::new();
    for piece in html.split('<').skip(1) {
        let Some((inside, _)) = piece.split_once('>') else {
            panic!("no end: {piece:.60}")
        };
        let name = inside
            .split([' ', '/', '\n'])
            .find(|part| !part.is_empty())
            .unwrap_or("");
        if let Some(closed) = inside.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "{piece:.60}");
        } else if !["meta", "img", "!DOCTYPE", "br"].contains(&name) && !inside.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(html.matches("<h1>").count(), 1);
    assert!(html.contains("lang=\"en\"") && html.contains("prefers-color-scheme: dark"));
    assert_eq!(html.matches("<table").count(), html.matches("<caption>").count());
    assert_eq!(
        html.matches("<svg").count(),
        html.matches("<svg role=\"img\" aria-label=").count()
    );
    assert_eq!(html.matches("<img ").count(), html.matches("<img alt=").count());
}

/// `APPRENTICE_PICTURES=folder` keeps pages and pictures, to be looked at.
fn keep(name: &str, report: &Report) {
    if let Some(folder) = std::env::var_os("APPRENTICE_PICTURES") {
        let folder = Path::new(&folder);
        fs::write(folder.join(format!("{name}.html")), &report.html).unwrap();
        for picture in &report.pictures {
            fs::write(folder.join(format!("{name}_{}.png", picture.name)), &picture.png).unwrap();
            fs::write(folder.join(format!("{name}_{}.svg", picture.name)), &picture.svg).unwrap();
        }
    }
}

#[test]
fn a_report_compares_methods() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (one, two) = (run(root, "one", 3, 3, "0.98"), run(root, "two", 2, 3, "0.98"));
    let other = run(root, "other", 3, 1, "0.9");
    write(&one.join("evaluation.mp4"), "a video");
    write(&one.join("frames/large.png"), &"x".repeat(1_000));
    let found = gather(&sources(&[(HOSTILE, &[&one, &two]), ("other", &[&other])])).unwrap();
    // The seeds 0 and 1 are in both runs of the first method.
    assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
    assert!(found.problems.iter().all(|line| line.contains("more than once")));
    let options = Options {
        embed: 500,
        folder: root.to_path_buf(),
        ..Options::default()
    };
    let made = report(&found, &options).unwrap();
    keep("methods", &made);
    expect_sound(&made.html);
    let says = |text: &str| assert!(made.html.contains(text), "{text}");
    // 3, 4, 3, 3 in every seed: scores of 3.25, so the gap is 0.75 of 4; episodes widen the interval.
    says("<td class=\"number\">3.25<span class=\"of\"> (3.0");
    says("<td class=\"number\">0.19<span class=\"of\"> (0.");
    // No seed of `other` is better than one of the first.
    says("<td class=\"number\">1.00<span");
    says(
        "<td class=\"number\">100 %</td><td class=\"number\">100 %</td><td class=\"number\">100 %</td><td class=\"number\">25 %</td>",
    );
    says("<th scope=\"row\" class=\"text\"><code>learner.discount</code></th>");
    says("<code>0.98</code>");
    assert!(
        !made.html.contains("<code>learner.critic.width</code>"),
        "the same in all"
    );
    says("data:video/mp4;base64,YSB2aWRlbw==");
    says("href=\"one/frames/large.png\"");
    assert!(!made.html.contains("data:image/png"), "too large");
    says("A &amp; B");
    says("after 20\u{202F}000 steps");
    // Faults: one per seed; a share of updates.
    says("<td class=\"number\">5</td><td class=\"number\">–</td><td class=\"number\">1.00 %</td>");
    let names: Vec<&str> = made.pictures.iter().map(|picture| picture.name.as_str()).collect();
    assert_eq!(names, ["final_kitchen", "practice_completed_kitchen"]);
    assert!(made.pictures.iter().all(|picture| picture.png.starts_with(b"\x89PNG")));
    assert_eq!(
        made,
        report(&found, &options).unwrap(),
        "the same runs give the same page"
    );
    // Another metric.
    let tag = |tag: &str| Options {
        tag: Some(tag.to_owned()),
        ..Options::default()
    };
    let success = report(&found, &tag("practice/success")).unwrap();
    assert!(success.html.contains("success of 1: estimates"));
    let error = report(&found, &tag("practice/nothing")).unwrap_err().to_string();
    assert!(
        error.contains("practice/nothing") && error.contains("practice/completed"),
        "{error}"
    );
}

#[test]
fn a_damaged_run_costs_no_more_than_its_part() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (good, bad) = (run(root, "good", 2, 2, "0.98"), run(root, "bad", 3, 2, "0.98"));
    fs::write(bad.join("experiment.ron"), "(scene: ").unwrap();
    fs::write(bad.join("evaluation.json"), "[{\"scene\"").unwrap();
    fs::write(bad.join("seed_1/metrics.csv"), "step,tag,value,wall_s\n5,a,b,c\n").unwrap();
    fs::remove_file(bad.join("seed_2/metrics.csv")).unwrap();
    fs::remove_file(bad.join("version.txt")).unwrap();
    let found = gather(&sources(&[("good", &[&good]), ("bad", &[&bad])])).unwrap();
    let made = report(&found, &Options::default()).unwrap();
    keep("damaged", &made);
    expect_sound(&made.html);
    for what in [
        "version.txt",
        "settings cannot be read",
        "evaluation.json cannot be read",
        "seed 1 has no curve",
        "seed 2 has no curve",
    ] {
        let lines: Vec<_> = made.problems.iter().filter(|line| line.contains(what)).collect();
        assert_eq!(lines.len(), 1, "{what}: {:?}", made.problems);
        assert!(lines[0].contains("bad"), "{lines:?}");
    }
    assert!(made.html.contains("settings cannot be read"));
    // What is whole is there: a row of the good run, and the curve of seed 0 of the damaged one, in a scene of its own.
    assert!(made.html.contains("Scene kitchen") && made.html.contains("Scene unknown"));
    assert!(made.html.contains("bad ends at 2.00 after"));

    // Steps and seeds that are missing are named.
    let short = run(root, "short", 2, 2, "0.98");
    let experiment = fs::read_to_string(short.join("experiment.ron")).unwrap();
    let experiment = experiment.replace("20000", "50000").replace("[0, 1]", "[0, 1, 7]");
    fs::write(short.join("experiment.ron"), experiment).unwrap();
    fs::remove_file(short.join("evaluation.json")).unwrap();
    let problems = gather(&sources(&[("short", &[&short])])).unwrap().problems.join("\n");
    for what in [
        "seed 0 has reported 20000 of 50000 steps",
        "no learner has practised with seed 7",
        "apprentice evaluate",
    ] {
        assert!(problems.contains(what), "{problems}");
    }
}

#[test]
fn nothing_to_show_is_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let error = |path: &Path| match gather(&sources(&[("x", &[path])])) {
        Ok(found) => report(&found, &Options::default()).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(error(&root.join("none")).contains("no such run folder"));
    fs::create_dir(root.join("empty")).unwrap();
    assert!(error(&root.join("empty")).contains("no run folder"));
    write(&root.join("text.txt"), "x");
    assert!(error(&root.join("text.txt")).contains("expected a run folder or a CSV"));
    write(&root.join("fresh/experiment.ron"), "(scene: \"kitchen\")");
    assert!(error(&root.join("fresh")).contains("nothing to report"));
    write(&root.join("a.csv"), "method,seed,step,value\n");
    assert!(error(&root.join("a.csv")).contains("no column `metric`"));
    write(
        &root.join("b.csv"),
        "method,seed,step,metric,value\na,0,x,practice/completed,1\n",
    );
    assert!(
        error(&root.join("b.csv")).contains("line: 2"),
        "{}",
        error(&root.join("b.csv"))
    );
}

#[test]
fn kept_tables_say_what_runs_said() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (ours, other) = (run(root, "ours", 3, 3, "0.98"), run(root, "other", 3, 1, "0.9"));
    let runs = gather(&sources(&[("ours, \"best\"", &[&ours]), ("other", &[&other])])).unwrap();
    let table = kept_table(&runs).unwrap();
    let file = root.join("kept.csv");
    fs::write(&file, &table).unwrap();
    let unlabelled = Source {
        label: None,
        paths: vec![file.clone()],
    };
    let kept = gather(std::slice::from_ref(&unlabelled)).unwrap();
    assert_eq!(kept_table(&kept).unwrap(), table, "to a table and back");
    let labels: Vec<&str> = kept.methods.iter().map(|method| method.label.as_str()).collect();
    assert_eq!(labels, ["ours, \"best\"", "other"]);
    let pictures = |found: &Gathered| {
        let made = report(found, &Options::default()).unwrap();
        expect_sound(&made.html);
        made.pictures
            .into_iter()
            .find(|picture| picture.name.starts_with("practice"))
            .unwrap()
            .svg
    };
    assert_eq!(pictures(&kept), pictures(&runs), "the same curves");
    // The columns that were asked for come first; others may follow.
    assert!(table.starts_with("method,seed,step,metric,value,scene\n"));
    assert!(table.contains("other,0,20000,final/completed,1.25,kitchen\n"));
    // Published figures stand beside the results of their scene.
    let published = root.join("published.csv");
    let rows = "method,seed,step,metric,value,scene,source\nSPiRL,,1300000,completed,2.9,kitchen,figure <2>\n\
                SPiRL,,1,success,0.9,maze,figure 3\n";
    fs::write(&published, rows).unwrap();
    let options = Options {
        published: read_kept(&published).unwrap(),
        ..Options::default()
    };
    let made = report(&kept, &options).unwrap();
    assert!(made.html.contains("figure &lt;2&gt;") && !made.html.contains("figure 3"));
    // Two learners of one seed cannot be told apart.
    let twice = gather(&sources(&[("x", &[&ours, &other])])).unwrap();
    let error = kept_table(&twice).unwrap_err().to_string();
    assert!(error.contains("seed 0 twice"), "{error}");
}

#[test]
fn sweeps_and_several_scenes_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let sweep = root.join("sweep");
    run(&sweep, "discount=0.9", 2, 2, "0.9");
    let far = run(&sweep, "discount=0.98", 2, 3, "0.98");
    write(&sweep.join("sweep.ron"), "()");
    let found = gather(&sources(&[("swept", &[&sweep])])).unwrap();
    let labels: Vec<&str> = found.methods.iter().map(|method| method.label.as_str()).collect();
    assert_eq!(labels, ["swept: discount=0.9", "swept: discount=0.98"]);
    // The same methods in a second scene, half as good there.
    let second = |name: &str, level| {
        let path = run(root, name, 2, level, "0.9");
        for file in ["experiment.ron", "evaluation.json"] {
            let text = fs::read_to_string(path.join(file)).unwrap();
            fs::write(path.join(file), text.replace("\"kitchen\"", "\"second\"")).unwrap();
        }
        path
    };
    let (a, b) = (second("a", 1), second("b", 0));
    let near = sweep.join("discount=0.9");
    let found = gather(&sources(&[("far", &[&far, &a]), ("near", &[&near, &b])])).unwrap();
    assert!(
        found.problems.is_empty(),
        "seed 0 of two scenes is no double: {:?}",
        found.problems
    );
    let made = report(&found, &Options::default()).unwrap();
    expect_sound(&made.html);
    for text in ["Scene kitchen", "Scene second", "All scenes"] {
        assert!(made.html.contains(text), "{text}");
    }
    // Shares of the maximum: (3.25 + 1.25) / 2 / 4.
    let (_, rest) = made.html.split_once("share of each scene&#39;s maximum").unwrap();
    assert!(rest.contains("<td class=\"number\">0.56<span"), "{rest:.900}");
    // Scenes whose names differ in signs that files do not take have pictures of their own.
    for path in [&a, &b] {
        for file in ["experiment.ron", "evaluation.json"] {
            let text = fs::read_to_string(path.join(file)).unwrap();
            let name = if *path == a { "my/scene" } else { "my scene" };
            fs::write(path.join(file), text.replace("\"second\"", &format!("\"{name}\""))).unwrap();
        }
    }
    let made = report(
        &gather(&sources(&[("a", &[&a]), ("b", &[&b])])).unwrap(),
        &Options::default(),
    )
    .unwrap();
    let names: Vec<&str> = made.pictures.iter().map(|picture| picture.name.as_str()).collect();
    let parts = [
        "final_my_scene",
        "practice_completed_my_scene",
        "final_my_scene-2",
        "practice_completed_my_scene-2",
    ];
    assert_eq!(names, parts);
}
