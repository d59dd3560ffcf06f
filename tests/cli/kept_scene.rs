//! A run stands on its own copy of its scene: from any folder, after an edit, and without the file it was made from.

use super::program::{Place, copy, names, skills};

const MODEL: &str = "<mujoco>
  <worldbody>
    <include file=\"parts/slider.xml\"/>
  </worldbody>
  <actuator><motor name=\"push\" joint=\"slide\" gear=\"2\" ctrlrange=\"-1 1\"/></actuator>
</mujoco>
";
const PART: &str = "<mujocoinclude>
  <body name=\"slider\"><joint name=\"slide\" type=\"slide\" axis=\"1 0 0\" damping=\"1\"/><geom size=\"0.1\"/></body>
</mujocoinclude>
";
const SCENE: &str = "(
    physics: (model: \"slider.xml\", frame_skip: 5),
    control: Direct(actuators: [(actuator: \"push\")]),
    observation: (noise: false, terms: [Position(joints: [\"slide\"]), Velocity(joints: [\"slide\"])]),
    reset: (),
    elements: [(name: \"end\", joints: [\"slide\"], goal: [0.5], threshold: 0.3)],
    task: (elements: [\"end\"]),
    episode: (steps: 10),
)
";
const EXPERIMENT: &str = "(
    extends: \"maze/sac\",
    scene: \"scene/slider.ron\",
    environments: 2,
    learner: (
        batch: 8,
        standardise: None,
        policy: Scratch(width: 8, hidden: 1),
        critic: (width: 8, hidden: 1),
    ),
    training: (steps: 60, warmup: 5, replay_capacity: 1000),
    evaluation: (final_episodes: 2),
)
";

/// A run of a user's scene, whose model has two files.
fn trained() -> Place {
    let place = Place::new();
    place.write("scene/slider.xml", MODEL);
    place.write("scene/parts/slider.xml", PART);
    place.write("scene/slider.ron", SCENE);
    place.write("mine.ron", EXPERIMENT);
    place.succeeds("train mine.ron --out run --threads 1");
    place
}

fn warnings(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.contains("warning: ")).collect()
}

#[test]
fn a_run_goes_anywhere_without_the_files_of_its_scene() {
    let place = trained();
    let inside = names(&place.path("run"));
    for name in ["scene.ron", "model/slider.xml", "model/parts/slider.xml"] {
        assert!(inside.iter().any(|inside| inside == name), "no {name} in {inside:?}");
    }
    let elsewhere = Place::new();
    copy(&place.path("run"), &elsewhere.path("moved"));
    let own = place.run("evaluate run --threads 1");
    assert!(
        own.status.success() && warnings(&own.stderr).is_empty(),
        "{}",
        own.stderr
    );
    drop(place);
    let ran = elsewhere.run("evaluate moved --threads 1");
    assert!(ran.status.success(), "{}", ran.stderr);
    assert_eq!(warnings(&ran.stderr), [""; 0]);
    assert_eq!(
        own.stdout.lines().next(),
        ran.stdout.lines().next(),
        "other results in another place"
    );
    elsewhere.succeeds("collect --from moved --episodes 2 --out two.hdf5");
    elsewhere.succeeds("train mine.ron training.steps=80 --resume --out moved");
    assert!(elsewhere.path("moved/seed_0/checkpoints/step_000000080").is_dir());
    assert!(elsewhere.succeeds("plot moved --out curves.svg").contains("curves.svg"));
    // Also where the whole experiment is another one's.
    elsewhere.succeeds(&format!("rollout {} --episodes 1 --threads 1", skills().display()));
}

#[test]
fn an_edited_scene_changes_no_run_and_is_told_of() {
    let place = trained();
    copy(&place.path("run"), &place.path("untouched"));
    let before = place.run("evaluate run --threads 1").stdout;
    let results = place.read("run/evaluation.json");
    place.succeeds("train mine.ron training.steps=120 --resume --out untouched --threads 1");

    place.write(
        "scene/slider.ron",
        &SCENE.replace("steps: 10", "steps: 20").replace("[0.5]", "[0.25]"),
    );
    place.write(
        "scene/parts/slider.xml",
        &PART.replace("damping=\"1\"", "damping=\"9\""),
    );
    let told = |arguments: &str| {
        let ran = place.run(arguments);
        assert!(ran.status.success(), "{arguments}: {}", ran.stderr);
        let said = warnings(&ran.stderr);
        assert_eq!(said.len(), 1, "{arguments}: {}", ran.stderr);
        for part in [
            "run: this run goes by its own scene",
            "scene/slider.ron has other values now: ",
            "physics.model (parts/slider.xml)",
            "elements.0.goal ([0.5] in the run, [0.25] in the file)",
            "episode.steps (10 in the run, 20 in the file)",
        ] {
            assert!(said[0].contains(part), "{arguments}: no `{part}` in {}", said[0]);
        }
        ran.stdout
    };
    assert_eq!(told("evaluate run --threads 1"), before);
    assert_eq!(place.read("run/evaluation.json"), results);
    told("collect --from run --episodes 1 --out one.hdf5");
    // Named again, the scene is still the run's.
    told("train mine.ron training.steps=120 scene=scene/slider.ron --resume --out run --threads 1");
    let rows = |run: &str| -> Vec<String> {
        let text = place.read(&format!("{run}/seed_0/metrics.csv"));
        let practised = text.lines().filter(|line| !line.contains(",rate/"));
        practised
            .map(|line| line.rsplit_once(',').unwrap().0.to_owned())
            .collect()
    };
    assert_eq!(rows("run"), rows("untouched"));

    // The file as it is now, on demand.
    let ran = place.run("evaluate run scene=scene/slider.ron --threads 1");
    assert!(
        ran.status.success() && warnings(&ran.stderr).is_empty(),
        "{}",
        ran.stderr
    );
    let now = place.read("run/evaluation_with_overrides.json");
    assert_ne!(now.split("sampled").nth(1), results.split("sampled").nth(1));
    // One that cannot be read now changes nothing either.
    place.write("scene/slider.ron", "(");
    let ran = place.run("evaluate run --threads 1");
    let said = warnings(&ran.stderr);
    assert!(ran.status.success() && said.len() == 1, "{}", ran.stderr);
    for part in ["the file it was made from cannot be used now: ", "slider.ron:1:1: "] {
        assert!(said[0].contains(part), "{}", said[0]);
    }
}

#[test]
fn runs_of_earlier_versions_read_the_file() {
    let place = trained();
    std::fs::remove_file(place.path("run/scene.ron")).unwrap();
    std::fs::remove_dir_all(place.path("run/model")).unwrap();
    let ran = place.run("evaluate run --threads 1");
    assert!(
        ran.status.success() && warnings(&ran.stderr).is_empty(),
        "{}",
        ran.stderr
    );
    place.succeeds("train mine.ron training.steps=80 --resume --out run");
    assert!(place.path("run/scene.ron").is_file(), "kept from now on");
    std::fs::remove_file(place.path("run/scene.ron")).unwrap();
    std::fs::remove_file(place.path("scene/slider.ron")).unwrap();
    place.fails("evaluate run", &["no scene `scene/slider.ron`"]);
}

#[test]
fn a_model_that_is_found_by_its_name_is_not_copied_and_faults_are_told_of_the_own_file() {
    let place = Place::new();
    place.write("scene/slider.ron", &SCENE.replace("frame_skip: 5", "frame_skip: 0"));
    place.write("scene/slider.xml", MODEL);
    place.write("scene/parts/slider.xml", PART);
    place.write("mine.ron", EXPERIMENT);
    place.fails(
        "train mine.ron --out run",
        &["scene/slider.ron:2:48: physics.frame_skip"],
    );
    assert!(!place.path("run").exists(), "a run that could not begin left something");
    let kitchen = names(skills());
    assert!(kitchen.contains(&"scene.ron".to_owned()));
    assert!(!kitchen.iter().any(|name| name.starts_with("model/")), "{kitchen:?}");
    // A sweep is one scene, however long it takes.
    place.write("scene/slider.ron", SCENE);
    place.succeeds("train mine.ron learner.discount=0.9,0.95 training.steps=20 --out sweep --threads 1");
    place.write("scene/slider.ron", &SCENE.replace("steps: 10", "steps: 20"));
    let ran = place.run("train mine.ron training.steps=40 --resume --out sweep --threads 1");
    assert!(ran.status.success(), "{}", ran.stderr);
    assert_eq!(warnings(&ran.stderr).len(), 1, "{}", ran.stderr);
}

#[test]
fn the_own_scene_of_a_run_is_that_of_the_run() {
    let place = trained();
    let scene = place.read("run/scene.ron");
    for (number, name) in ["run/scene.ron", "./run/scene"].into_iter().enumerate() {
        let steps = 80 + 20 * number;
        place.succeeds(&format!(
            "train mine.ron scene={name} training.steps={steps} --resume --out run --threads 1"
        ));
        assert_eq!(place.read("run/scene.ron"), scene);
        assert!(place.path("run/model/parts/slider.xml").is_file());
        assert!(place.read("run/experiment.ron").contains("scene: \"scene/slider.ron\""));
    }
}

#[test]
fn of_a_model_that_is_not_copied_one_warning_tells() {
    let place = Place::new();
    let shared = format!("frame_skip: 5, allow: [{:?}]", place.path("scene/parts"));
    place.write("scene/slider.xml", MODEL);
    place.write("scene/parts/slider.xml", PART);
    place.write("scene/slider.ron", &SCENE.replace("frame_skip: 5", &shared));
    place.write("mine.ron", EXPERIMENT);
    let told = |arguments: &str| -> Vec<String> {
        let ran = place.run(arguments);
        assert!(ran.status.success(), "{arguments}: {}", ran.stderr);
        let said = warnings(&ran.stderr).into_iter();
        said.filter(|line| line.contains("model")).map(str::to_owned).collect()
    };
    let said = told("train mine.ron --out run --threads 1");
    assert_eq!(said.len(), 1, "{said:?}");
    for part in [
        "scene/slider.xml: the model of the scene is not copied into the run",
        "absolute paths",
    ] {
        assert!(said[0].contains(part), "no `{part}` in {}", said[0]);
    }
    let inside = names(&place.path("run"));
    assert!(!inside.iter().any(|name| name.contains("model")), "{inside:?}");
    let said = told("train mine.ron training.steps=80 --resume --out run --threads 1");
    assert_eq!(said, [""; 0], "it is known");
}

#[test]
fn a_model_that_does_not_fit_on_the_disk_leaves_nothing() {
    let place = Place::new();
    let long = format!("<mujoco>\n<!-- {} -->", "x".repeat(80_000));
    place.write("scene/slider.xml", &MODEL.replacen("<mujoco>", &long, 1));
    place.write("scene/parts/slider.xml", PART);
    place.write("scene/slider.ron", SCENE);
    place.write("mine.ron", EXPERIMENT);
    let begin = "train mine.ron --out run --threads 1";
    place
        .run_with_small_files(40, begin)
        .fails_with(begin, &[".model.partial", "File too large"]);
    assert!(!place.path("run").exists(), "{:?}", names(&place.path("run")));
    place.succeeds(begin);
}
