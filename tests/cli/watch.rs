//! Watching: what is refused, and the worlds behind the window, with a thread in its place.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use apprentice::agents::Behaviour;
use apprentice::app::{Ended, StopRequest};
use apprentice::run::{Actors, Replay, RunFolder, Settings, all_steps_made, subject_of_run};
use apprentice::watch::{Pace, Snapshot, WatcherLink, link};

use super::program::{Place, demonstrations, files};

/// More than any of this takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn practice(steps: u64) -> String {
    format!("train kitchen/sac training.steps={steps} training.warmup=8 learner.batch=16 environments=2 --out run")
}

fn settings() -> Settings {
    Settings {
        threads: 2,
        stop: StopRequest::default(),
    }
}

/// Ends a world when it goes out of scope, so that a failed test does not wait for it.
struct Ends<'a>(&'a Settings);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.stop.make();
    }
}

/// Hands snapshots to `look` until it has seen enough.
fn watch(watcher: &WatcherLink, mut look: impl FnMut(&Snapshot) -> bool) {
    let begun = Instant::now();
    loop {
        let snapshot = watcher.filled.recv_timeout(PATIENCE).expect("the world goes on");
        let enough = look(&snapshot);
        let _ = watcher.empty.send(snapshot);
        if enough {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the world never got there");
    }
}

#[test]
fn help_names_every_option() {
    let place = Place::new();
    let help = place.succeeds("watch --help");
    for part in [
        "experiment",
        "checkpoint",
        "demonstrations",
        "PATH=VALUE",
        "--environments <N>",
        "--evaluate",
        "--most-likely",
        "--pace <SPEED>",
        "--paused",
        "--scene <NAME>",
        "--skills <FOLDER>",
        "--out <FOLDER>",
        "--resume",
        "Examples:",
        "apprentice watch runs/practice",
        "Without a screen",
    ] {
        assert!(help.contains(part), "no `{part}` in {help}");
    }
    assert!(place.succeeds("train --help").contains("--window"));
    assert!(place.succeeds("--help").contains("  watch "));
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let place = Place::new();
    let data = format!("{}/tests/data", env!("CARGO_MANIFEST_DIR"));
    place.write("mine/notes.txt", "mine");
    place.write("elsewhere/step_000000001/manifest.json", "{}");
    let demonstrations = demonstrations().display().to_string();
    for (arguments, parts) in [
        (
            "watch kitchen/spirl_lc".to_owned(),
            &[
                "kitchen/spirl_lc: nothing to watch",
                "folder of a run",
                ".hdf5",
                "did you mean `kitchen/spirl_cl`?",
            ][..],
        ),
        (
            "watch mine".into(),
            &["mine: nothing to watch", "mine is no run folder"],
        ),
        (
            "watch elsewhere/step_000000001".into(),
            &["lies in its run", "RUN/seed_0/checkpoints"],
        ),
        ("watch none.hdf5".into(), &["none.hdf5: there is no such file"]),
        (
            format!("watch {data}/timeouts_only.hdf5"),
            &["timeouts_only.hdf5", "scene `kitchen` has 60 and 9"],
        ),
        (
            format!("watch {demonstrations} --scene kitchn"),
            &["no scene `kitchn`", "did you mean `kitchen`"],
        ),
        (
            format!("watch {demonstrations} task.elments=[]"),
            &["`task.elments=[]`", "`elements`"],
        ),
        (
            format!("watch {demonstrations} --out out"),
            &["--out is for an experiment"],
        ),
        (
            "watch kitchen/sac --evaluate".into(),
            &["--evaluate is for the folder of a run"],
        ),
        (
            "watch kitchen/sac --most-likely".into(),
            &["--most-likely is for trained agents"],
        ),
        (
            "watch kitchen/sac --scene kitchen".into(),
            &["--scene is for demonstrations", "scene=NAME"],
        ),
    ] {
        place.fails(&arguments, parts);
    }
    for wrong in ["--pace never", "--pace 0", "--environments 0", "--paused --pace slow"] {
        let ran = place.run(&format!("watch kitchen/sac {wrong}"));
        assert_eq!(ran.status.code(), Some(2), "{wrong}: {}", ran.stderr);
    }
    assert!(!place.path("runs").exists());
}

#[test]
fn without_a_screen_nothing_is_begun() {
    let place = Place::new();
    let message = if cfg!(feature = "window") {
        &["no window can be opened: DISPLAY is not set", "evaluate --video"]
    } else {
        &["built without its window", "`apprentice train` practises"]
    };
    for arguments in [
        "watch kitchen/sac --out out".to_owned(),
        "train kitchen/sac --window --out out".into(),
        "watch kitchen/sac".into(),
        format!("watch {}", demonstrations().display()),
    ] {
        let ran = place.run_without_display(&arguments);
        ran.fails_with(&arguments, message);
        assert!(
            !place.path("out").exists() && !place.path("runs").exists(),
            "{arguments}"
        );
    }
    for nobody in ["nonsense", ":x", ":61234"].iter().filter(|_| cfg!(feature = "window")) {
        let ran = place.run_at_display(Some(*nobody), "watch kitchen/sac --out out");
        ran.fails_with(nobody, &[&format!("no window can be opened: DISPLAY={nobody}: ")]);
        assert!(!place.path("out").exists());
    }
}

#[test]
fn agents_of_a_run_act_without_end_and_without_a_trace() {
    let place = Place::new();
    place.succeeds(&practice(60));
    let scene = place.path("short.ron").display().to_string();
    place.write("short.ron", "(extends: \"kitchen\", episode: (steps: 20))");
    let folder = RunFolder::open(&place.path("run")).unwrap();
    assert!(all_steps_made(&folder.experiment(&[]).unwrap(), &folder).unwrap());
    assert!(!all_steps_made(&folder.experiment(&["training.steps=61".into()]).unwrap(), &folder).unwrap());
    let experiment = folder.experiment(&[format!("scene={scene:?}")]).unwrap();
    let before = files(folder.root());

    let actors = Actors::newest(&experiment, &folder, None).unwrap();
    let practised: Vec<_> = actors.practised().collect();
    assert_eq!(practised, [(0, 60)]);
    let subject = subject_of_run(&experiment, &folder, None, actors.scene(), false);
    assert!(!subject.trains && subject.skill_map.is_none() && subject.task.len() == 4);
    assert!(!subject.metrics.is_empty());

    let settings = settings();
    let (world_end, watcher) = link(Pace::Unlimited, 3);
    let ended = thread::scope(|scope| {
        let end = Ends(&settings);
        let world = scope.spawn(|| actors.act(3, Behaviour::Samples, world_end, &settings));
        watch(&watcher, |snapshot| {
            assert_eq!(snapshot.environments.len(), 3);
            assert_eq!(snapshot.learners.len(), 1);
            let least = snapshot.environments.iter().map(|view| view.episode).min();
            least >= Some(10) && snapshot.tick >= 200
        });
        assert!(before == files(folder.root()), "acting wrote something");
        // Nor is the run locked: it goes on, and the newer checkpoint takes its place.
        place.succeeds(&format!("{} --resume", practice(80)));
        let mut news = None;
        watch(&watcher, |_| {
            news = news.take().or_else(|| watcher.notices.try_recv().ok());
            news.is_some()
        });
        assert_eq!(news, Some(Ok("seed 0 acts as after 80 steps now".to_owned())));
        watch(&watcher, |snapshot| {
            snapshot.learners.iter().any(|learner| learner.steps == 80)
        });
        drop(end);
        world.join().unwrap()
    });
    assert_eq!(ended.unwrap(), Ended::Stopped);
}

#[test]
fn one_checkpoint_of_a_run_acts() {
    let place = Place::new();
    place.succeeds(&format!("{} training.checkpoint_every=30", practice(60)));
    let checkpoint = place.path("run/seed_0/checkpoints/step_000000030");
    assert!(checkpoint.is_dir());
    let (folder, seed) = RunFolder::of_checkpoint(&checkpoint).unwrap();
    assert_eq!((folder.root(), seed), (&*place.path("run"), 0));
    assert!(RunFolder::of_checkpoint(Path::new("run/seed_0/step_000000030")).is_none());
    let experiment = folder.experiment(&[]).unwrap();
    let act = |behaviour| {
        let actors = Actors::from_checkpoint(&experiment, &folder, None, seed, &checkpoint).unwrap();
        assert_eq!(actors.practised().collect::<Vec<_>>(), [(0, 30)]);
        let settings = settings();
        let (world_end, watcher) = link(Pace::EveryTick, 3);
        thread::scope(|scope| {
            let end = Ends(&settings);
            let world = scope.spawn(|| actors.act(1, behaviour, world_end, &settings));
            let mut poses = Vec::new();
            watch(&watcher, |snapshot| {
                poses.push(snapshot.poses.clone());
                poses.len() == 20
            });
            drop((end, watcher));
            world.join().unwrap().unwrap();
            poses
        })
    };
    let most_likely = act(Behaviour::MostLikely);
    assert!(most_likely == act(Behaviour::MostLikely), "the same every time");
    assert!(most_likely != act(Behaviour::Samples));
    assert!(most_likely.first() != most_likely.last(), "nothing moves");
}

#[test]
fn demonstrations_are_played() {
    let replay = Replay::load(demonstrations(), None, &[]).unwrap();
    let subject = replay.subject();
    assert!(
        subject.title.ends_with("four.hdf5: 4 demonstrations"),
        "{}",
        subject.title
    );
    let settings = settings();
    let (world_end, watcher) = link(Pace::Unlimited, 3);
    thread::scope(|scope| {
        let end = Ends(&settings);
        let world = scope.spawn(|| replay.play(8, world_end, &settings));
        let mut most = 0;
        watch(&watcher, |snapshot| {
            assert_eq!(snapshot.environments.len(), 4);
            assert!(snapshot.learners.is_empty());
            let completed = snapshot.environments.iter().map(|view| view.completed());
            most = most.max(completed.max().unwrap_or(0));
            snapshot.tick >= 500
        });
        assert!(most >= 3, "demonstrations complete their tasks: {most}");
        drop(end);
        assert_eq!(world.join().unwrap().unwrap(), Ended::Stopped);
    });
}
