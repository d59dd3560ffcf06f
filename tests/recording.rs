//! Episodes of agents as demonstrations: runs of the program itself.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use apprentice::data::{Dataset, ReadOptions, Values};
use apprentice::scene::{CompiledScene, Source};

fn apprentice(folder: &Path, words: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_apprentice");
    let output = Command::new(program).current_dir(folder).args(words).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn must(folder: &Path, words: &[&str]) {
    assert!(apprentice(folder, words).status.success(), "{words:?}");
}

fn says(folder: &Path, words: &[&str]) -> String {
    let output = apprentice(folder, words);
    assert!(!output.status.success(), "{words:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Everything in a file of demonstrations; the files differ in the time at which they were made.
fn read(path: &Path) -> Dataset {
    let options = ReadOptions {
        every_info: true,
        ..ReadOptions::default()
    };
    Dataset::read_with(path, &options).unwrap()
}

fn same(one: &Path, other: &Path) {
    let (one, other) = (read(one), read(other));
    assert_eq!(one.sequences(), other.sequences());
    for number in 0..one.sequences().len() {
        assert_eq!(one.whole_episode(number).unwrap(), other.whole_episode(number).unwrap());
    }
    assert_eq!(one.attributes(), other.attributes());
}

#[test]
fn random_actions_are_recorded_alike_with_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let scene = [
        "collect",
        "maze",
        "--by",
        "random",
        "--episodes",
        "20",
        "episode.steps=12",
    ];
    let with = |more: &[&str]| must(at, &[&scene[..], more].concat());
    with(&["--out", "one.hdf5", "--threads", "1"]);
    with(&["--out", "two.hdf5", "--threads", "2"]);
    with(&["--out", "other.hdf5", "--seed", "1"]);
    with(&["--out", "rollouts", "--layout", "rollouts"]);
    same(&at.join("one.hdf5"), &at.join("two.hdf5"));
    let (one, other) = (read(&at.join("one.hdf5")), read(&at.join("other.hdf5")));
    assert_ne!(one.whole_episode(0).unwrap(), other.whole_episode(0).unwrap());
    let rollouts = read(&at.join("rollouts"));
    assert_eq!(rollouts.sequences().len(), 20);
    assert_eq!(
        rollouts.whole_episode(3).unwrap().unwrap().actions,
        one.whole_episode(3).unwrap().unwrap().actions
    );
    // What was observed is the state that was recorded, and actions fill their range.
    let compiled = CompiledScene::load("maze", &[]).unwrap();
    let episode = one.whole_episode(0).unwrap().unwrap();
    assert_eq!(episode.len(), 12);
    let Values::F64(qpos) = &episode.infos["qpos"].values else {
        panic!()
    };
    let width = episode.infos["qpos"].width;
    for (channel, described) in compiled.channels().iter().enumerate() {
        if let (Source::Position(index), true) = (described.source, described.noise == 0.0) {
            for step in 0..episode.len() {
                let observed = episode.observations[step * compiled.observation_len() + channel];
                assert_eq!(observed, qpos[step * width + index] as f32);
            }
        }
    }
    let actions: Vec<f32> = (0..20)
        .flat_map(|number| one.whole_episode(number).unwrap().unwrap().actions)
        .collect();
    assert!(actions.iter().all(|number| number.abs() <= 1.0));
    let mean = actions.iter().sum::<f32>() / actions.len() as f32;
    let variance = actions.iter().map(|number| number * number).sum::<f32>() / actions.len() as f32;
    assert!(
        mean.abs() < 0.1 && (variance - 1.0 / 3.0).abs() < 0.06,
        "{mean} {variance}"
    );
    // Pictures come along, as many as steps, and not all the same.
    must(
        at,
        &[
            "collect",
            "maze_pixels",
            "--by",
            "random",
            "--episodes",
            "1",
            "episode.steps=6",
            "--images",
            "--out",
            "seen.hdf5",
        ],
    );
    let images = read(&at.join("seen.hdf5"))
        .whole_episode(0)
        .unwrap()
        .unwrap()
        .images
        .unwrap();
    let size = images.height * images.width * 3;
    assert_eq!(images.bytes.len(), 6 * size);
    assert!(images.bytes[..size] != images.bytes[5 * size..]);
    let message = says(
        at,
        &[
            "collect",
            "blocks",
            "--by",
            "random",
            "--successful",
            "--out",
            "never.hdf5",
        ],
    );
    assert!(message.contains("nothing says what success is"), "{message}");
    assert!(says(at, &["collect", "maze", "--by", "agent"]).contains("--from RUN"));
}

#[test]
fn episodes_of_an_agent_become_demonstrations_to_learn_from() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    must(
        at,
        &[
            &["learn", "examples/puck", "--out", "run"][..],
            &[
                "dataset.collect.episodes=12",
                "pretraining.updates=20",
                "training.steps=600",
                "training.warmup=4",
                "evaluation.final_episodes=2",
            ],
        ]
        .concat(),
    );
    let collect = |more: &[&str]| {
        let words = ["collect", "--from", "run", "--episodes", "3"];
        must(at, &[&words[..], more].concat());
    };
    collect(&["--out", "one.hdf5", "--threads", "1"]);
    collect(&["--out", "two.hdf5", "--threads", "2"]);
    collect(&["--out", "best.hdf5", "--by", "most-likely"]);
    collect(&["--out", "prior.hdf5", "--by", "prior"]);
    same(&at.join("one.hdf5"), &at.join("two.hdf5"));
    let actions = |file: &str| read(&at.join(file)).whole_episode(0).unwrap().unwrap().actions;
    assert_ne!(actions("one.hdf5"), actions("best.hdf5"));
    assert_ne!(actions("one.hdf5"), actions("prior.hdf5"));
    assert_eq!(read(&at.join("one.hdf5")).attributes()["scene"], "examples/puck");
    // They are used as any others.
    must(
        at,
        &[
            "pretrain",
            "examples/puck",
            "dataset.path=one.hdf5",
            "dataset.collect=None",
            "pretraining.updates=5",
            "--out",
            "again",
        ],
    );
    let message = says(
        at,
        &["collect", "--from", "run", "--learner", "7", "--out", "never.hdf5"],
    );
    assert!(
        message.contains("expected one of the run's seeds [0], found 7"),
        "{message}"
    );
}
