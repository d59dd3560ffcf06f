//! Same seed, same bits: whatever the number of threads, whoever else is in the world.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use apprentice::data::{Dataset, ReadOptions, Values};
use apprentice::metrics::read_scalars;
use apprentice::rng::{Purpose, stream};
use rand::RngExt;

use super::program::{Place, assert_same, demonstrations, skills, tiny};

/// Two environments for each seed and 1 000 steps: 500 ticks and the warm-up, an evaluation among them.
const PRACTICE: &str = "training.steps=1000 training.checkpoint_every=400 training.report_every=100 \
                        evaluation.every=300 evaluation.episodes=1";

/// Step, tag and value of everything but wall times.
fn metrics(folder: &Path) -> Vec<(u64, String, u64)> {
    let rows = read_scalars(folder).unwrap();
    let timed = |tag: &str| tag.starts_with("rate/");
    rows.into_iter()
        .filter(|row| !timed(&row.tag))
        .map(|row| (row.step, row.tag, row.value.to_bits()))
        .collect()
}

#[track_caller]
fn assert_same_practice(one: &Path, other: &Path, seed: u64) {
    let seed = format!("seed_{seed}");
    assert_same(
        &one.join(&seed).join("checkpoints"),
        &other.join(&seed).join("checkpoints"),
    );
    assert_eq!(metrics(&one.join(&seed)), metrics(&other.join(&seed)));
}

#[test]
fn practice_depends_on_the_seed_alone() {
    let place = Place::new();
    let skills = skills().display();
    let train = |more: &str, out: &str| {
        format!(
            "train kitchen/spirl_cl {} {PRACTICE} --skills {skills} {more} --out {out}",
            tiny()
        )
    };
    place.succeeds(&train("seeds=[3,5] --threads 1", "one"));
    let one = place.path("one");
    assert!(
        metrics(&one.join("seed_3"))
            .iter()
            .any(|row| row.1 == "evaluation/completed")
    );
    assert!(
        metrics(&one.join("seed_3")) != metrics(&one.join("seed_5")),
        "seeds differ"
    );

    for threads in [2, 4] {
        let out = format!("threads_{threads}");
        place.succeeds(&train(&format!("seeds=[3,5] --threads {threads}"), &out));
        assert_same_practice(&one, &place.path(&out), 3);
        assert_same_practice(&one, &place.path(&out), 5);
    }

    // Alone in its world, a learner does the same.
    place.succeeds(&train("seeds=[5]", "alone"));
    assert_same_practice(&one, &place.path("alone"), 5);

    // Evaluations on the way change nothing about practice.
    place.succeeds(&train("seeds=[3] evaluation.every=0", "unseen"));
    for file in ["learner", "replay", "replay_00000"] {
        let path = format!("seed_3/checkpoints/step_000001000/{file}.safetensors");
        assert!(std::fs::read(one.join(&path)).unwrap() == std::fs::read(place.path("unseen").join(path)).unwrap());
    }

    // Interrupted, taken up again with a second seed that has yet to begin: the first one is ready earlier and leaves.
    let checkpoint = place.path("resumed/seed_3/checkpoints/step_000000400/manifest.json");
    let ran = place
        .start(&train("seeds=[3]", "resumed"))
        .interrupt_when(|_| checkpoint.exists());
    assert_eq!(ran.status.code(), Some(130), "{}", ran.stderr);
    assert!(ran.stdout.contains("interrupted"), "{}", ran.stdout);
    place.succeeds("train kitchen/spirl_cl seeds=[3,5] --resume --out resumed");
    let resumed = place.path("resumed");
    assert_same_practice(&one, &resumed, 5);
    let last = |run: &str| place.path(run).join("seed_3/checkpoints/step_000001000");
    for file in ["learner", "best", "replay", "replay_00000"] {
        let bytes = |run: &str| std::fs::read(last(run).join(format!("{file}.safetensors"))).unwrap();
        assert!(bytes("one") == bytes("resumed"), "{file}");
    }
    // The evaluation under way at the interruption goes on, too.
    let state = |run: &str| std::fs::read_to_string(last(run).join("state.ron")).unwrap();
    assert_eq!(state("one"), state("resumed"));
    assert_eq!(place.read("one/experiment.ron"), place.read("resumed/experiment.ron"));

    // The interruption adds a row to each curve; nothing is missing or there twice.
    let steps = |run: &str, tag: &str| -> Vec<u64> {
        let rows = metrics(&place.path(run).join("seed_3"));
        rows.into_iter().filter(|row| row.1 == tag).map(|row| row.0).collect()
    };
    for tag in ["learner/temperature", "practice/completed", "evaluation/completed"] {
        let found = steps("resumed", tag);
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{tag}: {found:?}");
    }
    let found = steps("resumed", "learner/temperature");
    assert!(
        steps("one", "learner/temperature")
            .iter()
            .all(|step| found.contains(step)),
        "{found:?}"
    );
}

/// Kills the process without warning, wherever it is, again and again, and lets it go on each time.
#[test]
fn killed_at_any_moment_it_comes_to_the_same_end() {
    let place = Place::new();
    let practice = "training.steps=3000 training.checkpoint_every=60 training.report_every=100 evaluation.every=0";
    let skills = format!("--skills {}", skills().display());
    let kitchen = format!("train kitchen/spirl_cl {} {skills}", tiny());
    let maze = "train maze/sac learner.critic.width=16 learner.batch=16 training.warmup=8 environments=2 \
                evaluation.final_episodes=1";
    for (name, command, skills) in [("kitchen", kitchen.as_str(), skills.as_str()), ("maze", maze, "")] {
        let whole = format!("{name}_whole");
        place.succeeds(&format!("{command} {practice} --out {whole}"));
        let killed = format!("{name}_killed");
        let experiment = command.split_whitespace().nth(1).unwrap();
        let mut moments = stream(7, Purpose::Bootstrap, 0, 0);
        let mut kills = 0;
        loop {
            let command = match place.path(&killed).join("experiment.ron").exists() {
                // It may not have come to copying its skill model.
                true => format!("train {experiment} --resume {skills} --out {killed}"),
                false => format!("{command} {practice} --out {killed}"),
            };
            let delay = Duration::from_millis(moments.random_range(60..700));
            let begun = Instant::now();
            // After enough of them it may come to its end.
            let ran = place
                .start(&command)
                .signal_when("KILL", |_| kills < 12 && begun.elapsed() > delay);
            if ran.status.success() {
                break;
            }
            assert_eq!(ran.status.signal(), Some(9), "{}", ran.stderr);
            kills += 1;
        }
        assert!(kills > 2, "{name}: killed {kills} times only");
        assert_same_practice(&place.path(&whole), &place.path(&killed), 0);
    }
}

#[test]
fn demonstrations_depend_on_the_seed_alone() {
    let place = Place::new();
    place.succeeds("collect kitchen --episodes 4 --out four.hdf5 --threads 2");
    let options = ReadOptions {
        infos: vec!["qpos".to_owned()],
        ..ReadOptions::default()
    };
    let [one, two] = [demonstrations().to_path_buf(), place.path("four.hdf5")]
        .map(|path| Dataset::read_with(path, &options).unwrap());
    assert_eq!(one.sequences(), two.sequences());
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert!(bits(one.observations()) == bits(two.observations()) && bits(one.actions()) == bits(two.actions()));
    let column = |dataset: &Dataset, name: &str| match &dataset.infos()[name].values {
        Values::F64(values) => values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
        other => panic!("{name}: {other:?}"),
    };
    assert!(column(&one, "qpos") == column(&two, "qpos"));
    assert_eq!(one.attributes(), two.attributes());
}

#[test]
fn skill_models_depend_on_the_seed_alone() {
    let place = Place::new();
    place.succeeds(&format!("pretrain kitchen/spirl_cl {} --out two --threads 2", tiny()));
    let (one, two) = (skills().join("skills"), place.path("two/skills"));
    assert_same(&one.join("checkpoints"), &two.join("checkpoints"));
    assert_eq!(metrics(&one), metrics(&two));
    assert_eq!(
        std::fs::read(one.join("latent.svg")).unwrap(),
        std::fs::read(two.join("latent.svg")).unwrap()
    );

    // Stopped anywhere on the way, training goes on to the same bits.
    let command = |out: &str| {
        format!(
            "pretrain kitchen/spirl_cl {} pretraining.updates=4000 --out {out}",
            tiny()
        )
    };
    place.succeeds(&command("whole"));
    let ran = place
        .start(&command("parts"))
        .interrupt_when(|log| log.contains("skill model: "));
    assert_eq!(ran.status.code(), Some(130), "{}", ran.stderr);
    place.succeeds("pretrain kitchen/spirl_cl --resume --out parts");
    let last = "skills/checkpoints/step_000004000";
    assert_same(&place.path("whole").join(last), &place.path("parts").join(last));
}
