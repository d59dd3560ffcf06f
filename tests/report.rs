//! `apprentice report` on run folders written by hand: the real program, its files, messages and exit codes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn place() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn report(place: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apprentice"));
    command.arg("report").args(arguments).current_dir(place.path());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The result of one seed as programs before the single episodes wrote it.
fn evaluation(seed: u64, completed: f64) -> String {
    format!(
        "{{\"scene\": \"kitchen\", \"seed\": {seed}, \"practised\": 3000, \"most_likely\": null, \"sampled\": {{
           \"episodes\": 50, \"completed\": {completed}, \"interval\": [0.0, 4.0], \"task_elements\": 4, \"success\": 0.5,
           \"steps\": 200.0, \"elements\": [[\"kettle\", 0.25]], \"reached\": [[\"kettle\", 0.25]] }} }}"
    )
}

/// A run whose seeds end at these numbers of elements.
fn run(place: &TempDir, name: &str, ends: &[f64]) {
    let run = place.path().join(name);
    let seeds: Vec<String> = (0..ends.len()).map(|seed| seed.to_string()).collect();
    let experiment = format!(
        "(scene: \"kitchen\", seeds: [{}], training: (steps: 3000))",
        seeds.join(", ")
    );
    write(&run.join("experiment.ron"), &experiment);
    write(
        &run.join("version.txt"),
        "apprentice 0.1.0\nprocessor P\nexperiment e\ncommand apprentice train e\n",
    );
    let results: Vec<String> = (0..).zip(ends).map(|(seed, end)| evaluation(seed, *end)).collect();
    write(&run.join("evaluation.json"), &format!("[{}]", results.join(", ")));
    for (seed, end) in ends.iter().enumerate() {
        let mut rows = "step,tag,value,wall_s\n".to_owned();
        for step in 1..=3 {
            let _ = writeln!(
                rows,
                "{},practice/completed,{:?},1",
                1_000 * step,
                end * f64::from(step) / 3.0
            );
        }
        write(&run.join(format!("seed_{seed}/metrics.csv")), &rows);
    }
}

#[test]
fn one_page_with_pictures_and_a_table_that_can_be_reported_again() {
    let place = place();
    run(&place, "runs/a", &[4.0, 3.0, 3.5]);
    run(&place, "runs/b", &[0.5, 0.0]);
    run(&place, "runs/c", &[0.25]);
    let file = |name: &str| fs::read(place.path().join(name)).unwrap();
    let ours = "ours=runs/a";
    // Seed 0 is in both runs of the second method, and a table could not tell its learners apart.
    let made = report(&place, &[ours, "SAC & co=runs/b,runs/c", "--csv", "kept.csv"]);
    assert_eq!(made.status.code(), Some(1));
    assert!(
        text(&made.stderr).contains("has seed 0 twice"),
        "{}",
        text(&made.stderr)
    );
    assert!(!place.path().join("report.html").exists());
    let made = report(&place, &[ours, "SAC & co=runs/b,runs/c"]);
    assert!(made.status.success());
    assert!(text(&made.stderr).starts_with("warning: `SAC & co` has seed 0 more than once"));

    let arguments = [
        ours,
        "SAC & co=runs/b",
        "--pictures",
        "pictures",
        "--csv",
        "kept.csv",
        "--title",
        "A <title>",
    ];
    let made = report(&place, &arguments);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(text(&made.stderr), "");
    let written = text(&made.stdout);
    assert!(
        written.starts_with("report.html\n") && written.ends_with("kept.csv\n"),
        "{written}"
    );
    let page = text(&file("report.html"));
    // Three seeds: the interquartile mean is the mean.
    for says in [
        "<h1>A &lt;title&gt;</h1>",
        "3.50",
        "SAC &amp; co",
        "4.00, 3.00, 3.50",
        "apprentice train e",
    ] {
        assert!(page.contains(says), "{says}");
    }
    for name in ["final_kitchen", "practice_completed_kitchen"] {
        assert!(file(&format!("pictures/{name}.png")).starts_with(b"\x89PNG"));
        assert!(file(&format!("pictures/{name}.svg")).starts_with(b"<svg "));
    }
    let curve = file("pictures/practice_completed_kitchen.svg");
    let table = file("kept.csv");
    let again = report(
        &place,
        &[
            "kept.csv",
            "--out",
            "again.html",
            "--pictures",
            "again",
            "--csv",
            "again.csv",
        ],
    );
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(file("again.csv"), table);
    assert_eq!(file("again/practice_completed_kitchen.svg"), curve);
    assert!(text(&file("again.html")).contains("4.00, 3.00, 3.50"));
}

#[test]
fn damage_is_a_warning_and_a_line_on_the_page() {
    let place = place();
    run(&place, "whole", &[2.0, 3.0]);
    run(&place, "damaged", &[1.0]);
    fs::write(place.path().join("damaged/evaluation.json"), "[{").unwrap();
    let made = report(&place, &["whole", "damaged"]);
    assert!(made.status.success());
    let warning = text(&made.stderr);
    assert_eq!(warning.lines().count(), 1, "{warning}");
    assert!(
        warning.starts_with("warning: damaged: evaluation.json cannot be read"),
        "{warning}"
    );
    let page = fs::read_to_string(place.path().join("report.html")).unwrap();
    assert!(page.contains("damaged: evaluation.json cannot be read") && page.contains("2.50"));
}

#[test]
fn slips_are_one_clear_error_and_write_nothing() {
    let place = place();
    run(&place, "a", &[2.0]);
    write(&place.path().join("empty/experiment.ron"), "(scene: \"kitchen\")");
    for (arguments, expected) in [
        (&["b"][..], "b: there is no such run folder or CSV file"),
        (&["empty"], "there is nothing to report"),
        (&["a", "--out", "page.pdf"], "expected a name that ends in .html"),
        (&["x=a", "x=empty"], "two methods are called `x`"),
        (
            &["a", "--tag", "practice/complete"],
            "no run has the metric `practice/complete`",
        ),
        (&["a", "--published", "none.csv"], "none.csv"),
    ] {
        let made = report(&place, arguments);
        let error = text(&made.stderr);
        assert_eq!(made.status.code(), Some(1), "{error}");
        assert!(error.starts_with("error: ") && error.contains(expected), "{error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
        assert!(!place.path().join("report.html").exists());
    }
}
