//! Every experiment there is: same bits with any number of threads, in one go or in two, watched or not. And every scene:
//! the states it comes to under random actions are those that are stored.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use apprentice::app::{Ended, StopRequest};
use apprentice::experiment::{Experiment, SkillModelConfig};
use apprentice::files::{self, FileKind};
use apprentice::metrics::read_scalars;
use apprentice::rng::{Purpose, stream};
use apprentice::run::{self, RunFolder, Settings, TrainPlan};
use apprentice::scene::CompiledScene;
use apprentice::sim::Environment;
use apprentice::watch::{Pace, Request, link};
use rand::RngExt;
use serde::{Deserialize, Serialize};

#[path = "cli/program.rs"]
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
mod program;

use program::{Place, assert_same};

/// Environment steps of half a run, of two environments.
const HALF: u64 = 60;

const PRACTICE: &str = "learner.critic.width=16 learner.critic.hidden=1 learner.batch=8 training.warmup=4 \
                        training.replay_capacity=500 environments=2 training.report_every=20 evaluation.every=0 seeds=[0]";

/// What makes the skill model of an experiment as small as can be.
fn small(model: &SkillModelConfig) -> &'static str {
    match model {
        SkillModelConfig::None => "",
        SkillModelConfig::Bc(_) => {
            "skill_model.width=8 skill_model.hidden_layers=1 pretraining.updates=3 pretraining.batch=4"
        }
        SkillModelConfig::Spirl(_) => {
            "skill_model.width=8 skill_model.lstm_width=8 skill_model.encoder_output=8 skill_model.decoder_hidden_layers=1 \
             skill_model.prior_hidden_layers=1 pretraining.updates=3 pretraining.batch=4"
        }
    }
}

/// Step, tag and value of everything but wall times.
fn metrics(folder: &Path) -> Vec<(u64, String, u64)> {
    let rows = read_scalars(folder).unwrap().into_iter();
    rows.filter(|row| !row.tag.starts_with("rate/"))
        .map(|row| (row.step, row.tag, row.value.to_bits()))
        .collect()
}

#[track_caller]
fn assert_same_practice(name: &str, one: &Path, other: &Path) {
    let [one, other] = [one, other].map(|run| run.join("seed_0"));
    let found = metrics(&one);
    assert!(
        found.iter().any(|row| row.1 == "learner/policy_loss"),
        "{name}: {found:?}"
    );
    assert_eq!(found, metrics(&other), "{name}");
    let [states, others] = [&one, &other].map(|run| program::files(&run.join("checkpoints")));
    for ((file, state), (_, other)) in states
        .iter()
        .zip(&others)
        .filter(|((file, _), _)| file.ends_with("state.ron"))
    {
        let lines = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for (line, other) in lines(state).iter().zip(lines(other)) {
            assert_eq!(*line, other, "{name}: {file}");
        }
    }
    for ((file, bytes), (_, other)) in states
        .iter()
        .zip(&others)
        .filter(|((file, _), _)| file.ends_with("safetensors"))
    {
        assert!(bytes == other, "{name}: {file} differs");
    }
    assert_same(&one.join("checkpoints"), &other.join("checkpoints"));
}

/// Practises with somebody who looks at every tick and inspects one environment after the other.
fn watched(name: &str, overrides: &[String], skills: Option<PathBuf>, root: &Path) {
    let loaded = Experiment::load(name, overrides).unwrap();
    let folder = RunFolder::create(root, name, &loaded.resolved_text).unwrap();
    let (to_world, watcher) = link(Pace::EveryTick, 2);
    let watcher = thread::spawn(move || {
        let mut seen = 0;
        while let Ok(snapshot) = watcher.filled.recv_timeout(Duration::from_secs(120)) {
            let inspected = snapshot.environments.get(seen % 2).map(|view| view.environment);
            let _ = watcher.empty.send(snapshot);
            let _ = watcher.requests.send(Request::Inspect(inspected));
            seen += 1;
        }
        seen
    });
    let plan = TrainPlan {
        skills,
        folder: &folder,
        resume: false,
        watch: Some(to_world),
    };
    let settings = Settings {
        threads: 2,
        stop: StopRequest::default(),
    };
    assert_eq!(run::train(&loaded.value, &plan, &settings).unwrap(), Ended::Finished);
    // The watcher waits as long as there is a world to be watched.
    drop(plan);
    assert!(watcher.join().unwrap() > 20, "{name}");
}

/// Goes through the experiments whose names begin so.
fn check(prefix: &str, published: bool) {
    let place = Place::new();
    let mut models: BTreeMap<String, String> = BTreeMap::new();
    let all = files::list(FileKind::Experiment, &files::roots());
    let names = all.into_keys().filter(|name| {
        let own = if prefix.is_empty() {
            !name.contains('/')
        } else {
            name.starts_with(prefix)
        };
        own && name.contains("published") == published
    });
    let names: Vec<String> = names.collect();
    assert!(!names.is_empty(), "{prefix}");
    for name in names {
        let experiment = Experiment::load(&name, &[]).unwrap().value;
        let mut settings = format!("{PRACTICE} {}", small(&experiment.skill_model));
        let mut skills = None;
        if let Some(dataset) = experiment
            .dataset
            .filter(|_| experiment.skill_model != SkillModelConfig::None)
        {
            let how = dataset.collect.map(|how| how.scene);
            let file = place.path(&format!(
                "{}.hdf5",
                format!("{how:?}").replace(|c: char| !c.is_alphanumeric(), "_")
            ));
            settings += &format!(" dataset.collect.episodes=2 dataset.path={}", file.display());
            // Experiments often share their skill model.
            let model = format!("{:?} {file:?}", experiment.skill_model);
            let number = models.len();
            let trained = models.entry(model).or_insert_with(|| {
                let out = format!("skills_{number}");
                place.succeeds(&format!("pretrain {name} {settings} --out {out}"));
                out
            });
            skills = Some(place.path(trained));
        }
        let given = skills
            .as_ref()
            .map_or(String::new(), |skills| format!("--skills {}", skills.display()));
        let steps = |steps: u64| format!("training.steps={steps} training.checkpoint_every={HALF}");
        let out = |part: &str| format!("{}_{part}", name.replace('/', "_"));
        let (whole, parts, seen) = (out("whole"), out("parts"), out("watched"));

        place.succeeds(&format!(
            "train {name} {settings} {} {given} --threads 1 --out {whole}",
            steps(2 * HALF)
        ));
        place.succeeds(&format!(
            "train {name} {settings} {} {given} --threads 2 --out {parts}",
            steps(HALF)
        ));
        let go_on = steps(2 * HALF);
        place.succeeds(&format!("train {name} {go_on} --resume --threads 4 --out {parts}"));
        assert_same_practice(&name, &place.path(&whole), &place.path(&parts));

        let overrides: Vec<String> = format!("{settings} {}", steps(2 * HALF))
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        watched(&name, &overrides, skills, &place.path(&seen));
        assert_same_practice(&name, &place.path(&whole), &place.path(&seen));
    }
}

#[test]
fn kitchen() {
    check("kitchen/", false);
}

#[test]
fn maze() {
    check("maze/", false);
}

#[test]
fn blocks() {
    check("blocks/", false);
}

#[test]
fn examples_and_the_rest() {
    check("examples/", false);
    check("", false);
}

/// The same code with other numbers; takes as long again.
#[test]
#[ignore = "the experiments with published settings, before a release"]
fn published() {
    check("", true);
}

// ----- scenes -----

/// Ticks of random actions.
const TICKS: usize = 300;
/// The tick whose state is compared with a tolerance on other processors: before contacts make differences grow.
const EARLY: usize = 5;

/// What a scene came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Course {
    /// CRC-32C of all observations, rewards, positions and velocities.
    hash: String,
    /// Joint positions after [`EARLY`] ticks, the first eight.
    early: Vec<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    /// Where the hashes were made.
    processor: String,
    scenes: BTreeMap<String, Course>,
}

/// What decides which code paths the mathematical libraries take.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or("", |(_, value)| value.trim())
    };
    let flags: Vec<&str> = field("flags").split_whitespace().collect();
    let vector: Vec<&str> = ["fma", "avx2", "avx512f"]
        .into_iter()
        .filter(|flag| flags.contains(flag))
        .collect();
    format!("{} {}", field("vendor_id"), vector.join(" "))
}

fn course(name: &str) -> Course {
    let scene = CompiledScene::load(name, &[]).unwrap();
    let mut environment = Environment::new(&scene, 0, 7).unwrap();
    let mut random = stream(7, Purpose::Policy, 0, 0);
    let (mut hash, mut early, mut episode) = (0, Vec::new(), 0);
    for tick in 0..TICKS {
        let action: Vec<f32> = (0..scene.action_len())
            .map(|_| random.random_range(-1.0..1.0))
            .collect();
        let outcome = environment.step(&scene, &action);
        assert_eq!(outcome.fault, None, "{name}");
        let mut add = |bytes: &[u8]| hash = crc32c::crc32c_append(hash, bytes);
        environment
            .observation
            .iter()
            .for_each(|value| add(&value.to_le_bytes()));
        add(&outcome.reward.to_le_bytes());
        let physics = &environment.physics;
        physics
            .qpos()
            .iter()
            .chain(physics.qvel())
            .for_each(|value| add(&value.to_le_bytes()));
        if tick + 1 == EARLY {
            early = physics.qpos().iter().take(8).copied().collect();
        }
        if outcome.ended() {
            episode += 1;
            environment.begin_anew(&scene, episode);
        }
    }
    Course {
        hash: format!("{hash:08x}"),
        early,
    }
}

#[test]
fn scenes_come_to_the_states_that_are_stored() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scenes.json");
    let names = files::list(FileKind::Scene, &files::roots()).into_keys();
    let scenes: BTreeMap<String, Course> = names.map(|name| (name.clone(), course(&name))).collect();
    if std::env::var_os("APPRENTICE_STORE_GOLDEN").is_some() {
        let processor = processor();
        let text = serde_json::to_string_pretty(&Stored { processor, scenes }).unwrap();
        return std::fs::write(path, text + "\n").unwrap();
    }
    let stored: Stored = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(
        stored.scenes.keys().collect::<Vec<_>>(),
        scenes.keys().collect::<Vec<_>>(),
        "store them anew with APPRENTICE_STORE_GOLDEN=1"
    );
    let exact = stored.processor == processor();
    for (name, course) in &scenes {
        let expected = &stored.scenes[name];
        if exact {
            assert_eq!(expected.hash, course.hash, "{name}");
        }
        for (expected, found) in expected.early.iter().zip(&course.early) {
            assert!((expected - found).abs() < 1e-6, "{name}: {:?}", course.early);
        }
    }
    if !exact {
        println!("another processor ({}): compared with a tolerance", processor());
    }
}
