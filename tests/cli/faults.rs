//! Faults from outside: folders that cannot be written to, disks that fill up on the way, data that goes away, memory that
//! is not there, physics that diverges. Each ends with one message, and costs no more than what it says.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use apprentice::checkpoint::Checkpoints;
use apprentice::metrics::read_scalars;

use super::program::{Place, TINY, assert_same, copy, demonstrations, files, skills, tiny};

fn practice(more: &str, out: &str) -> String {
    let (tiny, skills) = (tiny(), skills().display());
    format!("train kitchen/spirl_cl {tiny} training.checkpoint_every=100 {more} --skills {skills} --out {out}")
}

fn checkpoints(place: &Place, run: &str) -> Vec<u64> {
    let folder = place.path(run).join("seed_0/checkpoints");
    Checkpoints::new(folder, "learner", 2).steps().unwrap()
}

fn set_mode(folder: &Path, mode: u32) {
    fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_to_loses_nothing() {
    let place = Place::new();
    place.succeeds(&practice("training.steps=200", "run"));
    let folder = place.path("run/seed_0/checkpoints");
    let before = files(&folder);
    let resume = "train kitchen/spirl_cl training.steps=400 --resume --out run";
    set_mode(&folder, 0o555);
    let ran = place.run_without_privileges(resume);
    set_mode(&folder, 0o755);
    ran.fails_with(
        resume,
        &[
            "learner with seed 0: cannot create",
            "step_000000300",
            "Permission denied",
        ],
    );
    assert!(before == files(&folder));
    place.succeeds(resume);
    assert_eq!(checkpoints(&place, "run"), [300, 400]);

    fs::create_dir(place.path("locked")).unwrap();
    set_mode(&place.path("locked"), 0o555);
    for command in [
        practice("training.steps=200", "locked/run"),
        "collect kitchen --episodes 1 --out locked/a.hdf5".into(),
    ] {
        place
            .run_without_privileges(&command)
            .fails_with(&command, &["locked", "Permission denied"]);
    }
}

#[test]
fn a_disk_that_fills_up_with_metrics_loses_nothing() {
    let place = Place::new();
    let settings = "training.report_every=2 evaluation.every=0";
    place.succeeds(&practice(&format!("training.steps=1400 {settings}"), "whole"));
    place.succeeds(&practice(&format!("training.steps=100 {settings}"), "parts"));
    // More than any checkpoint's file, less than the metrics of 1 300 steps.
    let resume = "train kitchen/spirl_cl training.steps=1400 --resume --out parts";
    let said = place
        .run_with_small_files(90, resume)
        .fails_with(resume, &["seed_0/", "File too large"]);
    assert!(said.contains("events.out") || said.contains("metrics.csv"), "{said}");
    let last = *checkpoints(&place, "parts").last().unwrap();
    assert!((100..1400).contains(&last), "{last}");
    // The figures of what was practised after the last checkpoint are made again, with the same numbers.
    place.succeeds(resume);
    let [whole, parts] = ["whole", "parts"].map(|run| place.path(run).join("seed_0"));
    assert_same(&whole.join("checkpoints"), &parts.join("checkpoints"));
    let figures = |learner: &Path| -> Vec<_> {
        let rows = read_scalars(learner).unwrap().into_iter();
        rows.filter(|row| !row.tag.starts_with("rate/"))
            .map(|row| (row.step, row.tag, row.value.to_bits()))
            .collect()
    };
    assert_eq!(figures(&whole), figures(&parts));
}

#[test]
fn logs_on_a_full_disk_stop_no_practice() {
    let place = Place::new();
    let first = practice("training.steps=100", "run");
    place
        .run_with_full_outputs(false, &first)
        .fails_with(&first, &["standard output", "No space left"]);
    assert_eq!(checkpoints(&place, "run"), [100], "practice came to its end");
    let ran = place.run_with_full_outputs(true, "train kitchen/spirl_cl training.steps=200 --resume --out run");
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(checkpoints(&place, "run"), [100, 200]);
}

#[test]
fn skill_models_outlive_full_disks_and_lost_data() {
    let place = Place::new();
    copy(skills(), &place.path("run"));
    let folder = place.path("run/skills/checkpoints");
    let before = files(&folder);
    let resume = "pretrain kitchen/spirl_cl pretraining.updates=400 --resume --out run";
    place
        .run_with_small_files(16, resume)
        .fails_with(resume, &["safetensors", "File too large"]);
    assert!(before == files(&folder));
    place.fails(
        &format!("{resume} dataset.path=gone.hdf5 dataset.collect=None"),
        &["gone.hdf5", "no such file"],
    );
    // Half a file.
    let bytes = fs::read(demonstrations()).unwrap();
    fs::write(place.path("half.hdf5"), &bytes[..bytes.len() / 2]).unwrap();
    place.fails(&format!("{resume} dataset.path=half.hdf5"), &["half.hdf5"]);
    assert!(before == files(&folder));
    place.succeeds(&format!("{resume} dataset.path={}", demonstrations().display()));
}

/// Numbers are in memory by then. Pictures that do not fit there are read meanwhile; `data::tests::pictures` cuts those off.
#[test]
fn demonstrations_may_go_while_a_model_trains_on_them() {
    let place = Place::new();
    fs::copy(demonstrations(), place.path("mine.hdf5")).unwrap();
    let settings = format!("{} dataset.path=mine.hdf5 dataset.collect=None", TINY.join(" "));
    let ran = place
        .start(&format!(
            "pretrain kitchen/spirl_cl {settings} pretraining.updates=1000000 --out run"
        ))
        .interrupt_when(|log| log.contains("skill model: ") && fs::remove_file(place.path("mine.hdf5")).is_ok());
    assert_eq!(ran.status.code(), Some(130), "{}", ran.stderr);
    let before = files(&place.path("run/skills/checkpoints"));
    assert!(!before.is_empty());
    let resume = "pretrain kitchen/spirl_cl --resume --out run";
    place.fails(resume, &["mine.hdf5", "no such file"]);
    assert!(before == files(&place.path("run/skills/checkpoints")));
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    let place = Place::new();
    place.fails(
        &practice("training.steps=100 training.replay_capacity=1000000000000000", "run"),
        &["no memory for a replay buffer of"],
    );
    assert!(!place.path("run").exists());
}

const UNSTABLE: &str = r#"<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body name="sled">
      <joint name="sled" type="slide" axis="1 0 0"/>
      <geom type="box" size=".1 .1 .1" mass="1e-3"/>
    </body>
  </worldbody>
  <actuator><position name="sled" joint="sled" kp="1e9"/></actuator>
</mujoco>"#;

const SCENE: &str = r#"(
    physics: (model: "sled.xml", frame_skip: 5),
    control: VelocityLimitedPosition(
        speed: 2.0,
        servos: [(joint: "sled", actuator: "sled", range: (-2.0, 2.0))],
    ),
    observation: (terms: [Position(joints: ["sled"]), Velocity(joints: ["sled"])]),
    reset: (),
    elements: [(name: "there", joints: ["sled"], goal: [1.9], threshold: 0.01)],
    task: (elements: ["there"]),
    episode: (steps: 30),
)"#;

#[test]
fn episodes_that_diverge_are_cut_off_and_counted() {
    let place = Place::new();
    place.write("scenes/sled.xml", UNSTABLE);
    place.write("scenes/sled.ron", SCENE);
    let settings = TINY
        .iter()
        .filter(|setting| !setting.starts_with("skill_model") && !setting.starts_with("pretraining"));
    let settings: Vec<&str> = settings.copied().collect();
    let settings = settings.join(" ");
    let ran = place.run(&format!(
        "train sac scene=sled {settings} training.warmup=0 training.steps=400 training.report_every=100 --out run"
    ));
    assert!(ran.status.success(), "{}", ran.stderr);
    let warnings: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect();
    assert!(
        warnings
            .iter()
            .filter(|line| line.contains("an episode was cut off at step"))
            .count()
            == 1,
        "{}",
        ran.stderr
    );
    assert!(warnings.len() < 4, "{}", ran.stderr);
    let rows = read_scalars(&place.path("run/seed_0")).unwrap();
    let faults = rows.iter().rev().find(|row| row.tag == "practice/faults").unwrap();
    assert!(faults.value > 1.0, "{faults:?}");
}

#[test]
fn a_temperature_that_runs_away_is_warned_of_once() {
    let place = Place::new();
    // No policy of two bounded numbers has so much entropy.
    let ran = place.run(
        "train sac scene=maze training.steps=300 training.warmup=20 environments=2 evaluation.every=0 \
         learner.batch=16 learner.critic.width=16 learner.regulariser=Entropy(target:1000) \
         learner.temperature=Learned(initial:999999,lr:0.01) --out run",
    );
    assert!(ran.status.success(), "{}", ran.stderr);
    let said = ran.stderr.matches("the temperature has passed 1e6").count();
    assert_eq!(said, 1, "{}", ran.stderr);
}

#[test]
fn the_best_learner_is_kept_and_can_be_evaluated() {
    let place = Place::new();
    let settings = "training.checkpoint_every=500 evaluation.every=100 evaluation.episodes=1";
    place.succeeds(&practice(&format!("training.steps=700 {settings}"), "parts"));
    place.succeeds("train kitchen/spirl_cl training.steps=1500 --resume --out parts");
    let best =
        |step: &str| fs::read(place.path(&format!("parts/seed_0/checkpoints/step_{step}/best.safetensors"))).unwrap();
    assert!(
        best("000001000") == best("000001500"),
        "nothing was better than the first"
    );
    let state = place.read("parts/seed_0/checkpoints/step_000001500/state.ron");
    let line = state
        .lines()
        .skip_while(|line| !line.contains("best: ("))
        .find_map(|line| line.trim().strip_prefix("step: "));
    let step = line.unwrap().trim_end_matches(',').to_owned();

    place.succeeds("evaluate parts --checkpoint best --episodes 1 --sampled-only");
    assert!(
        place
            .read("parts/evaluation_best.json")
            .contains(&format!("\"practised\": {step}"))
    );
    place.succeeds("evaluate parts --checkpoint 1_000 --episodes 1 --sampled-only");
    assert!(place.read("parts/evaluation_1000.json").contains("\"practised\": 1000"));
    assert!(!place.path("parts/evaluation.json").exists());
    place.fails(
        "evaluate parts --checkpoint 999",
        &["no checkpoint at step 999; there are: 1000, 1500"],
    );
    // Practice does without it.
    let path = "parts/seed_0/checkpoints/step_000001500/best.safetensors";
    let bytes = fs::read(place.path(path)).unwrap();
    fs::write(place.path(path), &bytes[..bytes.len() / 2]).unwrap();
    place.fails(
        "evaluate parts --checkpoint best --episodes 1",
        &["best.safetensors", "bytes instead of"],
    );
    let said = place.run("train kitchen/spirl_cl training.steps=1700 --resume --out parts");
    assert!(said.status.success(), "{}", said.stderr);
    assert!(
        said.stderr.contains("the best learner so far is lost"),
        "{}",
        said.stderr
    );
    place.succeeds(&practice("training.steps=100 evaluation.every=0", "unseen"));
    place.fails(
        "evaluate unseen --checkpoint best",
        &["knows no best learner", "evaluation.every"],
    );
}
