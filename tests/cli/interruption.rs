//! Ctrl-C, power cuts, damaged checkpoints and full disks.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use apprentice::checkpoint::Checkpoints;
use apprentice::data::Dataset;

use super::program::{Place, Running, copy, files, names, skills, tiny};

fn practice(steps: u64, out: &str) -> String {
    format!(
        "train kitchen/spirl_cl {} training.steps={steps} training.checkpoint_every=100 --skills {} --out {out}",
        tiny(),
        skills().display()
    )
}

/// Steps of the checkpoints in the run's folder.
fn checkpoints(place: &Place, run: &str) -> Vec<u64> {
    Checkpoints::new(place.path(run).join("seed_0/checkpoints"), "learner", 2)
        .steps()
        .unwrap()
}

fn begins(running: Running, label: &str) -> super::program::Ran {
    let ran = running.interrupt_when(|log| log.contains(label));
    assert_eq!(ran.status.code(), Some(130), "{}", ran.stderr);
    assert!(!ran.stderr.contains("error"), "{}", ran.stderr);
    ran
}

#[test]
fn an_interrupted_collection_is_never_taken_for_a_whole_one() {
    let place = Place::new();
    let learn = format!("learn kitchen/spirl_cl {} --out run", tiny());
    let learn = learn + " dataset.path=many.hdf5 dataset.collect.episodes=300";
    begins(place.start(&learn), "demonstrations: ");
    assert!(!place.path("many.hdf5").exists());
    assert!(!place.path("run").exists(), "a run that has not begun leaves nothing");
    // The command for demonstrations keeps what it has.
    let ran = begins(
        place.start("collect kitchen --episodes 300 --out some.hdf5"),
        "demonstrations: ",
    );
    let found = Dataset::read(place.path("some.hdf5")).unwrap().sequences().len();
    assert!((1..300).contains(&found), "{found}: {}", ran.stdout);
    place.fails(
        "collect kitchen --episodes 1 --out some.hdf5",
        &["some.hdf5: is there already", "--force"],
    );
    // A file that is there is not replaced by less.
    let before = fs::read(place.path("some.hdf5")).unwrap();
    let ran = begins(
        place.start("collect kitchen --episodes 300 --seed 1 --out some.hdf5 --force"),
        "demonstrations: ",
    );
    assert!(
        ran.stderr.contains("some.hdf5: the collection was interrupted"),
        "{}",
        ran.stderr
    );
    assert!(fs::read(place.path("some.hdf5")).unwrap() == before);
    // Whoever uses what was gathered hears how much is missing.
    let pretrain = format!("pretrain kitchen/spirl_cl {} --out run", tiny());
    let ran = place.run(&format!(
        "{pretrain} pretraining.updates=1 dataset.path=some.hdf5 dataset.collect=None"
    ));
    let warning = format!("it holds only {found} of 300 demonstrations");
    assert!(ran.stderr.contains(&warning), "{}", ran.stderr);
    assert_eq!(
        names(&place.path(""))
            .iter()
            .filter(|name| name.ends_with("hdf5"))
            .count(),
        1
    );
}

#[test]
fn stages_without_checkpoints_end_when_asked() {
    let place = Place::new();
    let rollout = format!(
        "rollout kitchen/spirl_cl {} --skills {} --episodes 20",
        tiny(),
        skills().display()
    );
    begins(place.start(&rollout), "sampled: ");
}

#[test]
fn commands_with_nothing_to_save_end_at_once() {
    let place = Place::new();
    let begun = Instant::now();
    // Time enough for the program to begin.
    let ran = place
        .start("bench simulation --seconds 60")
        .signal_when("TERM", |_| begun.elapsed() > Duration::from_secs(2));
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(ran.status.signal(), Some(15), "{}", ran.stderr);
}

/// A script of a batch system goes by the exit code.
#[test]
fn a_job_that_is_ended_asks_to_be_queued_again() {
    for signal in ["TERM", "USR1"] {
        let place = Place::new();
        let first = place.path("run/seed_0/checkpoints/step_000000100/manifest.json");
        let ran = place
            .start(&practice(1_000_000, "run"))
            .signal_when(signal, |_| first.exists());
        assert_eq!(ran.status.code(), Some(75), "{}", ran.stderr);
        let last = checkpoints(&place, "run").pop().unwrap();
        place.succeeds(&format!(
            "train kitchen/spirl_cl training.steps={} --resume --out run",
            last + 20
        ));
        assert_eq!(checkpoints(&place, "run").last(), Some(&(last + 20)));
    }
}

#[test]
fn a_closed_terminal_ends_what_is_not_told_to_outlive_it() {
    let place = Place::new();
    let collect = |episodes| format!("collect kitchen --episodes {episodes} --out {episodes}.hdf5");
    let ran = place
        .start(&collect(300))
        .signal_when("HUP", |log| log.contains("demonstrations: "));
    assert_eq!(ran.status.code(), Some(130), "{}", ran.stderr);
    let ran = place
        .start_without_hangup(&collect(6))
        .signal_when("HUP", |log| log.contains("demonstrations: "));
    assert!(ran.status.success(), "{}", ran.stderr);
    assert_eq!(Dataset::read(place.path("6.hdf5")).unwrap().sequences().len(), 6);
}

#[test]
fn what_a_crash_leaves_is_taken_up() {
    let place = Place::new();
    place.succeeds(&practice(300, "run"));
    assert_eq!(checkpoints(&place, "run"), [200, 300]);
    let [before, last] = [200, 300].map(|step| place.path(&format!("run/seed_0/checkpoints/step_000000{step}")));

    // A bit that has turned over in the last checkpoint.
    let whole = fs::read(last.join("learner.safetensors")).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(last.join("learner.safetensors"), damaged).unwrap();
    let ran = place.run("evaluate run --episodes 1 --sampled-only");
    assert!(ran.status.success(), "{}", ran.stderr);
    let warnings: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect();
    assert_eq!(warnings.len(), 1, "{}", ran.stderr);
    assert!(warnings[0].contains("step_000000300 is damaged") && warnings[0].contains("going back to step 200"));
    assert!(place.read("run/evaluation.json").contains("\"practised\": 200"));

    // Going on repeats the lost steps, to the same bits.
    place.succeeds("train kitchen/spirl_cl --resume --out run");
    assert_eq!(checkpoints(&place, "run"), [200, 300]);
    let repeated = files(&place.path("run/seed_0/checkpoints"));
    assert!(
        repeated
            .iter()
            .any(|(name, bytes)| name.ends_with("learner.safetensors") && *bytes == whole)
    );

    // Checkpoints that were never finished count for nothing, and all damaged is an error.
    copy(&before, &place.path("run/seed_0/checkpoints/.partial_step_000000350"));
    place.succeeds("train kitchen/spirl_cl training.steps=400 --resume --out run");
    assert_eq!(checkpoints(&place, "run"), [300, 400]);
    for step in [300, 400] {
        for (name, _) in files(&place.path("run/seed_0/checkpoints")) {
            if name.contains(&step.to_string()) && name.ends_with("manifest.json") {
                place.write(&format!("run/seed_0/checkpoints/{name}"), "{}");
            }
        }
    }
    place.fails("evaluate run", &["none of the 2 checkpoints in", "step_000000400"]);

    // Killed before its first checkpoint, a run begins anew.
    fs::remove_dir_all(place.path("run/seed_0/checkpoints")).unwrap();
    place.succeeds("train kitchen/spirl_cl training.steps=100 --resume --out run");
    assert_eq!(checkpoints(&place, "run"), [100]);
    fs::remove_dir_all(place.path("run/seed_0")).unwrap();
    place.fails("evaluate run", &["the learner with seed 0 has no checkpoint yet"]);
}

#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::new();
    place.write("old.hdf5", "old");
    let collect = "collect kitchen --episodes 2 --out old.hdf5 --force";
    place
        .run_with_small_files(100, collect)
        .fails_with(collect, &["old.hdf5: cannot be written", "File too large"]);
    assert_eq!(place.read("old.hdf5"), "old");

    place.succeeds(&practice(200, "run"));
    let before = files(&place.path("run/seed_0/checkpoints"));
    let resume = "train kitchen/spirl_cl training.steps=400 --resume --out run";
    let message = place
        .run_with_small_files(32, resume)
        .fails_with(resume, &["File too large"]);
    assert!(message.contains("learner.safetensors"), "{message}");
    assert!(
        before == files(&place.path("run/seed_0/checkpoints")),
        "{:?}",
        names(&place.path("run"))
    );
    place.succeeds(resume);
    assert_eq!(checkpoints(&place, "run"), [300, 400]);

    let plot = "plot run --tag learner/q --out curve.svg";
    place.succeeds(plot);
    let whole = place.read("curve.svg");
    assert!(whole.len() > 2048);
    place
        .run_with_small_files(2, plot)
        .fails_with(plot, &["curve.svg: cannot write", "File too large"]);
    assert_eq!(place.read("curve.svg"), whole);
    let fresh = practice(200, "fresh");
    place
        .run_with_small_files(2, &fresh)
        .fails_with(&fresh, &["fresh", "File too large"]);
    assert!(!place.path("fresh").exists());
    assert!(
        !names(&place.path(""))
            .iter()
            .any(|name| name.contains("partial") || name.contains(".tmp"))
    );
}
