//! `apprentice scenes`, the examples of the guide, and a scene that is edited while it is watched: with the real program,
//! or with a thread in the window's place.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[allow(dead_code, reason = "shared with the tests of the command line")]
#[path = "cli/program.rs"]
mod program;

use std::thread;
use std::time::{Duration, Instant};

use apprentice::app::{Ended, StopRequest};
use apprentice::files::{FileKind, list};
use apprentice::run::{SceneShow, Settings};
use apprentice::watch::reload::Idle;
use apprentice::watch::{Pace, SceneNews, Snapshot, WatcherLink, link, moving_bodies};
use serde_json::Value;

use program::{Place, tiny};

/// More than any of this takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A scene of the user's own with something wrong in every part.
const FAULTY: &str = r#"(
    extends: "maze",
    physics: (frame_skip: 0),
    observatoin: (noise: true),
    control: Motors(motors: [(actuator: "xx")]),
    elements: [
        (name: "goal", joints: ["x", "wheel"], threshold: 2.0),
        (name: "gate", joints: ["y"], goal: [1.0], threshold: -1.0),
    ],
    task: (elements: ["gaol"]),
    episode: (steps: 0),
)
"#;

fn shipped() -> Vec<String> {
    list(FileKind::Scene, &[env!("CARGO_MANIFEST_DIR").into()])
        .into_keys()
        .collect()
}

#[test]
fn every_shipped_scene_is_fine() {
    let place = Place::new();
    let out = place.succeeds("scenes check");
    assert!(out.contains(&format!("{} scenes are fine", shipped().len())), "{out}");
    assert!(!out.contains("error:"), "{out}");
    assert_eq!(place.succeeds("scenes check maze blocks"), "2 scenes are fine\n");
    assert_eq!(place.succeeds("scenes check maze episode.steps=9"), "1 scene is fine\n");
}

/// Faults that only show when an episode begins or somebody demonstrates.
#[test]
fn what_would_go_wrong_in_the_first_step_is_told() {
    let place = Place::new();
    place.write(
        "hand.ron",
        "(extends: \"examples/puck\", demonstrator: Waypoints(hand: (site: \"tap\")))",
    );
    let fails = |command: &str, parts: &[&str]| {
        let ran = place.run(command);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{command}: {said}");
        for part in parts {
            assert!(said.contains(part), "{command}: no `{part}` in {said}");
        }
    };
    let parts = [
        "hand.ron:1:",
        "demonstrator.hand.site",
        "\"tap\"",
        "did you mean \"tip\"",
    ];
    fails("scenes check hand.ron", &parts);
    place.write(
        "ends.ron",
        "(extends: \"examples/puck\", task: (terminate: [Height(of: Site(\"tip\"), below: 9)]), \
         reset: (ranges: {\"puck_x\": [(-80, 5)]}))",
    );
    let ran = place.run("scenes check ends.ron");
    assert!(ran.status.success(), "{}", ran.stderr);
    for warning in ["ended after its first step", "puck_x may start outside its range"] {
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(warning), "no `{warning}` in {said}");
    }
    place.write(
        "mine.ron",
        "(extends: \"examples/puck\", scene: \"maze\", dataset: (path: \"mine.hdf5\"))",
    );
    for command in ["experiments check mine.ron", "learn mine.ron --out run"] {
        let parts = ["15 observed numbers and 3 action numbers", "scene: None"];
        fails(command, &parts);
    }
    assert!(!place.path("mine.hdf5").exists());
}

#[test]
fn scenes_are_listed_with_their_sizes() {
    let place = Place::new();
    place.write("scenes/broken.ron", "(extends: \"maze\", episode: (stepps: 5))");
    let out = place.succeeds("scenes list");
    for name in shipped() {
        assert!(
            out.lines().any(|line| line.starts_with(&format!("{name} "))),
            "no {name} in {out}"
        );
    }
    let row = |name: &str| -> Vec<&str> {
        let line = out.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap().split_whitespace().collect()
    };
    assert_eq!(row("kitchen")[1..4], ["60", "9", "Kitchen"]);
    assert_eq!(row("examples/maze_rooms")[1..4], ["4", "2", "Maze"]);
    assert!(row("broken").contains(&"check"), "{out}");
}

#[test]
fn all_faults_are_told_at_once_with_their_places() {
    let place = Place::new();
    place.write("mine.ron", FAULTY);
    let ran = place.run("scenes check mine.ron maze");
    assert_eq!(ran.status.code(), Some(1), "{}{}", ran.stdout, ran.stderr);
    for part in [
        "mine.ron:3:27: physics.frame_skip: must be at least 1",
        "mine.ron:4:5: unknown field `observatoin` in `Scene`; did you mean `observation`?",
        "mine.ron:5:41: control.motors.0.actuator: no actuator is named \"xx\"; did you mean \"x\"?",
        "mine.ron:7:38: elements.0.joints.1: no joint is named \"wheel\"",
        "mine.ron:8:63: elements.1.threshold:",
        "mine.ron:10:23: task.elements.0: no element is named \"gaol\"; did you mean \"goal\"?",
        "mine.ron:11:22: episode.steps: must be at least 1",
    ] {
        assert!(ran.stdout.contains(part), "no `{part}` in {}", ran.stdout);
    }
    let errors = ran.stdout.lines().filter(|line| line.starts_with("error: ")).count();
    assert!(
        errors >= 7 && ran.stderr.contains(&format!("{errors} errors in 1 of 2 scenes")),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    // In the order of the lines.
    let lines: Vec<usize> = (ran.stdout.lines())
        .filter_map(|line| line.strip_prefix("error: mine.ron:")?.split(':').next()?.parse().ok())
        .collect();
    assert!(lines.is_sorted() && lines.len() >= 7, "{lines:?}");
    // Other commands tell the first one, in its place.
    for command in [
        "collect mine.ron --episodes 1",
        "scenes show mine.ron",
        "watch mine.ron --environments 1",
    ] {
        place.fails(command, &["mine.ron:", "| "]);
    }
    place.write("experiment.ron", "(extends: \"maze/sac\", scene: \"wheel.ron\")");
    place.write(
        "wheel.ron",
        "(\n  extends: \"maze\",\n  reset: (positions: {\"wheel\": [0]}),\n)",
    );
    for command in [
        "collect wheel.ron --episodes 1",
        "train experiment.ron",
        "rollout maze/spirl scene=wheel.ron --skills nowhere",
        "bench simulation --scene wheel.ron --seconds 0.1",
    ] {
        place.fails(command, &["wheel.ron:3:23", "no joint is named \"wheel\""]);
    }
}

/// Commands that must fail, with how many errors and with what is said.
fn wrong(place: &Place, command: &str, errors: usize, parts: &[&str]) {
    let ran = place.run(command);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{command}: {said}");
    let found = ran.stdout.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(found, errors, "{command}: {said}");
    for part in parts {
        assert!(said.contains(part), "{command}: no `{part}` in {said}");
    }
}

#[test]
fn a_demonstrators_faults_are_all_told() {
    let place = Place::new();
    place.write(
        "demo.ron",
        "(\n  extends: \"examples/puck\",\n  reset: (positions: {\"shoulde\": [0.0]}),\n  demonstrator: Waypoints(\n    \
         hand: (site: \"tap\"),\n    speed: -1.0,\n    skills: {\n      \"puck\": [\n        Reach(to: \
         Body(\"pukc\"), tolerance: -1.0),\n        Push(joint: \"buton\", to: 1.0),\n        Reach(to: \
         Site(\"zzzzzz\")),\n        Close(),\n      ],\n      \"batton\": [Wait(time: 1.0)],\n    },\n  ),\n)",
    );
    let parts = [
        // Faults of the scene do not hide those of the demonstrator.
        "demo.ron:3:23: reset.positions.shoulde: no joint is named \"shoulde\"; did you mean \"shoulder\"?",
        "demo.ron:5:18: demonstrator.hand.site: no site is named \"tap\"; did you mean \"tip\"?",
        "demo.ron:6:12: demonstrator.speed: expected a positive number",
        "demo.ron:9:24: demonstrator.skills.puck.0.to.Body: no body is named \"pukc\"; did you mean \"puck\"?",
        "demo.ron:9:44: demonstrator.skills.puck.0.tolerance: expected a positive number",
        "demo.ron:10:21: demonstrator.skills.puck.1.joint: no joint is named \"buton\"; did you mean \"button\"?",
        "demo.ron:11:24: demonstrator.skills.puck.2.to.Site: no site is named \"zzzzzz\"; there are: target, tip, button",
        "demo.ron:12:9: demonstrator.skills.puck.3: this moves fingers",
        "demo.ron:14:7: demonstrator.skills.batton: no element is named \"batton\"",
    ];
    wrong(&place, "scenes check demo.ron", parts.len(), &parts);
}

#[test]
fn what_only_follows_from_a_slip_is_not_told() {
    let place = Place::new();
    place.write(
        "extends.ron",
        "(\n  extends: \"mazze\",\n  physics: (frame_skip: 7),\n  control: Motors(motors: [(actuator: \"x\")]),\n  \
         task: (elements: [\"goal\"]),\n  episode: (stepps: 3),\n)",
    );
    let parts = [
        "extends.ron:2:12: extends: no scene `mazze`; did you mean `maze`?",
        "extends.ron:6:13: unknown field `stepps`",
    ];
    wrong(&place, "scenes check extends.ron", 2, &parts);
    place.write(
        "configs/lacking.ron",
        "(extends: \"maze/sack\", learner: (discount: 2.0))",
    );
    wrong(&place, "experiments check lacking", 1, &["did you mean `maze/sac`?"]);
    place.write(
        "letters.ron",
        "(\n  extends: \"maze\",\n  physics: (built: Maze(layout: Rows([\n    \"#####\",\n    \"#S?T#\",\n    \"#.xx#\",\n    \
         \"####\",\n  ]))),\n)",
    );
    let parts = [
        "letters.ron:5:5: physics.built.layout.0.1: row 1, column 2: expected '#' (wall)",
        "row 2, column 2: found 'x'; row 2, column 3: found 'x'; row 3: expected 5 letters as in row 0, found 4",
    ];
    wrong(&place, "scenes check letters.ron", 1, &parts);
    place.write(
        "brackets.ron",
        "(\n  extends: \"maze\",\n  physics: {frame_skip: 5),\n  episode: (steps: 0},\n  task: (elements: (\"goal\"]),\n)",
    );
    let parts = [
        "brackets.ron:3:26: expected `,` or `}`, found `)`; what it ends begins with `{` in line 3",
        "brackets.ron:4:21: expected `,` or `)`, found `}`",
        "brackets.ron:4:20: episode.steps: must be at least 1",
        "brackets.ron:5:27: expected `,` or `)`, found `]`",
    ];
    wrong(&place, "scenes check brackets.ron", 4, &parts);
    place.write(
        "field.ron",
        "(\n  extends: \"maze\",\n  elements: [(name: \"goal\", joints: [\"x\", \"y\"], treshold: 1.0)],\n)",
    );
    let parts = ["field.ron:3:49: unknown field `treshold` in `Element`; did you mean `threshold`?"];
    wrong(&place, "scenes check field.ron", 1, &parts);
    place.write(
        "numbers.ron",
        "(\n  extends: \"maze\",\n  randomise: [Light(lights: [\"headlight\"], diffuse: (0.3, 1.0))],\n)",
    );
    let parts = ["numbers.ron:3:53: `diffuse`: expected 3 values `(...)`, found 2 values"];
    wrong(&place, "scenes check numbers.ron", 1, &parts);
    // What is shown is misspelt where it is described.
    place.write(
        "skill.ron",
        "(\n  extends: \"puck_alone\",\n  demonstrator: Waypoints(\n    hand: (site: \"tip\"),\n    skills: {\n      \"pukc\": \
         [Wait(time: 1.0)],\n    },\n  ),\n)",
    );
    place.write(
        "puck_alone.ron",
        "(extends: \"examples/puck\", demonstrator: None, task: (elements: [\"puck\"]))",
    );
    let parts = ["skill.ron:6:7: demonstrator.skills.pukc: no element is named \"pukc\"; did you mean \"puck\"?"];
    wrong(&place, "scenes check skill.ron", 1, &parts);
}

/// A maze of the user's own, laid over the one that comes with the program.
#[test]
fn faults_of_a_maze_are_in_its_own_rows() {
    let place = Place::new();
    let scene = |rows: &str| {
        let rows: String = rows.split(' ').map(|row| format!("    \"{row}\",\n")).collect();
        format!(
            "(\n  extends: \"maze\",\n  elements: [(name: \"goal\", joints: [\"x\", \"y\"], threshold: 1.0)],\n  physics: \
             (built: Maze(layout: Rows([\n{rows}  ]))),\n)"
        )
    };
    for (name, rows, said) in [
        (
            "start",
            "##### #..T# #...# #####",
            "4:33: physics.built.layout: expected a start 'S', found none",
        ),
        ("few", "###", "4:33: physics.built.layout: expected 3 to 256 rows"),
        (
            "short",
            "##### #S..# #..T #####",
            "7:5: physics.built.layout.0.2: row 2: expected 5 letters",
        ),
        (
            "second",
            "##### #S.T# #..T# #####",
            "7:5: physics.built.layout.0.2: row 2, column 3: a second 'T'",
        ),
        (
            "shut",
            "##### #S#.# #.#T# #####",
            "7:5: physics.built.layout.0.2: row 2, column 3: no way leads from 'S'",
        ),
    ] {
        let file = format!("{name}.ron");
        place.write(&file, &scene(rows));
        wrong(&place, &format!("scenes check {file}"), 1, &[&format!("{file}:{said}")]);
    }
}

#[test]
fn paths_are_no_names() {
    let place = Place::new();
    place.write("s/a0.ron", "(extends: \"maze\")");
    std::fs::create_dir_all(place.path("s/folder.ron")).unwrap();
    for (path, said) in [
        (
            "s/a1.ron",
            "no scene `s/a1.ron`: there is no such file; did you mean `s/a0.ron`?",
        ),
        (
            "s/quite_another.ron",
            "no scene `s/quite_another.ron`: there is no such file; there are: a0.ron, folder.ron",
        ),
        ("t/a0.ron", "no scene `t/a0.ron`: there is no folder t"),
        ("s/folder.ron", "no scene `s/folder.ron`: this is a folder, not a file"),
        ("kitchn", "no scene `kitchn`; did you mean `kitchen`?"),
    ] {
        let ran = place.run(&format!("scenes check {path}"));
        let first = ran.stdout.lines().next().unwrap_or_default();
        assert_eq!(first, format!("error: {said}"));
    }
    let said = "no scene `s/a1.ron`: there is no such file; did you mean `s/a0.ron`?";
    wrong(&place, "experiments check maze/sac scene=s/a1.ron", 1, &[said]);
}

#[test]
fn cameras_are_checked() {
    let place = Place::new();
    let camera = "name: \"a\", look_at: (0, 0, 0), azimuth: 0, elevation: 0";
    place.write(
        "cameras.ron",
        &format!("(\n  extends: \"maze\",\n  cameras: [({camera},\n    distance: 0.0,\n    width: 48000,\n    height: 0)],\n)"),
    );
    let parts = [
        "cameras.ron:4:15: cameras.0.distance: must be a positive number of metres, found 0",
        "cameras.ron:5:12: cameras.0.width: must be 1 to 8192 pixels, found 48000",
        "cameras.ron:6:13: cameras.0.height: must be 1 to 8192 pixels, found 0",
    ];
    wrong(&place, "scenes check cameras.ron", 3, &parts);
}

#[test]
fn names_that_are_far_off_lead_to_those_there_are() {
    let place = Place::new();
    place.write(
        "direct.ron",
        "(\n  extends: \"examples/puck\",\n  demonstrator: None,\n  control: Direct(actuators: [(actuator: \"m1\")]),\n)",
    );
    let parts = [
        "direct.ron:4:42: control.actuators.0.actuator: no actuator is named \"m1\"; there are: turn, shoulder, elbow",
    ];
    wrong(&place, "scenes check direct.ron", 1, &parts);
    place.write(
        "short.ron",
        "(\n  extends: \"examples/puck\",\n  control: Direct(actuators: [\"m1\"]),\n)",
    );
    let parts = ["no actuator is named \"m1\"; there are: turn, shoulder, elbow"];
    wrong(&place, "scenes check short.ron", 1, &parts);
    place.write(
        "many.ron",
        "(\n  extends: \"kitchen\",\n  reset: (positions: {\"qqqqqqqqqqqqqqq\": [0.0]}),\n)",
    );
    wrong(
        &place,
        "scenes check many.ron",
        1,
        &["; there are: ", "panda0_joint1, ", " more"],
    );
}

#[test]
fn faults_of_a_model_have_two_places() {
    let place = Place::new();
    let scene = |model: &str| {
        format!(
            "(\n  physics: (\n    model: \"{model}\",\n    frame_skip: 5,\n  ),\n  control: Direct(actuators: [(actuator: \
             \"m\", range: (-1, 1))]),\n  observation: (terms: [Position(joints: [\"hinge\"]), Velocity(joints: \
             [\"hinge\"])]),\n  reset: (),\n  episode: (steps: 10),\n)"
        )
    };
    let model = "<mujoco>\n  <worldbody>\n    <body>\n      <joint name=\"hinge\"/>\n      <geom size=\"0.1\"/>\n    \
                 </body>\n  </worldbody>\n  <actuator><motor name=\"m\" joint=\"hinge\"/></actuator>\n</mujoco>\n";
    for (name, from, to, at, said) in [
        (
            "name",
            "joint=\"hinge\"",
            "joint=\"hnge\"",
            "8:29",
            "unknown transmission target 'hnge'",
        ),
        (
            "word",
            "<geom size",
            "<geom sise",
            "5:13",
            "unrecognized attribute: 'sise'",
        ),
        (
            "xml",
            "</worldbody>",
            "</worldboody>",
            "2:3",
            "MuJoCo refuses the model",
        ),
    ] {
        place.write(&format!("{name}.xml"), &model.replace(from, to));
        place.write(&format!("{name}.ron"), &scene(&format!("{name}.xml")));
        let parts = [
            format!("{name}.ron:3:12: physics.model: "),
            format!("{name}.xml:{at}"),
            said.to_owned(),
            format!("\n3 |     model: \"{name}.xml\","),
        ];
        let parts = parts.each_ref().map(String::as_str);
        wrong(&place, &format!("scenes check {name}.ron"), 1, &parts);
        place.fails(&format!("scenes show {name}.ron"), &parts);
    }
    // One joint in two terms.
    place.write("fine.xml", model);
    place.write("fine.ron", &scene("fine.xml"));
    let shown = place.succeeds("scenes show fine.ron");
    let rows: Vec<Vec<&str>> = (shown.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.get(1) == Some(&"hinge"))
        .collect();
    assert_eq!(rows[0][2..5], ["0", "Position", "rad"], "{shown}");
    assert_eq!(rows[1][2..5], ["1", "Velocity", "rad/s"], "{shown}");
}

#[test]
fn an_attempt_that_fails_names_its_stretch() {
    let place = Place::new();
    // The reach ends where the arm never gets to.
    place.write(
        "far.ron",
        "(extends: \"examples/puck\", task: (elements: [\"button\"]), demonstrator: Waypoints(retries: 0, skills: {\"button\": \
         [Reach(to: Site(\"button\"), offset: (0.0, 0.0, 0.06)), Reach(to: Point(5.0, 5.0, 5.0), limit: 0.3)]}))",
    );
    place.fails(
        "collect far.ron --episodes 3 --out far.hdf5",
        &["button not done: stretch 1 (Reach) ran out of time: "],
    );
    assert!(!place.path("far.hdf5").exists());
    place.write(
        "idle.ron",
        "(extends: \"examples/puck\", task: (elements: [\"button\"]), demonstrator: Waypoints(retries: 0, skills: {\"button\": \
         [Wait(time: 0.1)]}))",
    );
    let parts = ["button not done: every stretch came to its end: "];
    place.fails("collect idle.ron --episodes 3 --out idle.hdf5", &parts);
}

#[test]
fn what_is_strange_is_warned_of() {
    let place = Place::new();
    place.write(
        "odd.ron",
        "(\n  extends: \"maze\",\n  demonstrator: None,\n  elements: [\n    (name: \"goal\", joints: [\"x\", \"y\"], goal: [10, 24], \
         threshold: 2),\n    (name: \"spare\", joints: [\"x\"], goal: [1], threshold: 1),\n  ],\n)",
    );
    let out = place.succeeds("scenes check odd.ron");
    for part in [
        "warning: odd.ron:5:",
        "\"goal\" is at its goal from the start",
        "warning: odd.ron:6:",
        "nothing rewards the element \"spare\"",
        "1 scene is fine, with 2 warnings",
    ] {
        assert!(out.contains(part), "no `{part}` in {out}");
    }
    // A joint that is pushed to where it can never be.
    place.write(
        "push.ron",
        "(extends: \"examples/puck\", demonstrator: Waypoints(skills: {\"button\": [Push(joint: \"button\", to: -3.0)]}))",
    );
    let out = place.succeeds("scenes check push.ron");
    assert!(
        out.contains("demonstrator.skills.button.0.to: button can never be at -3"),
        "{out}"
    );
    // What is strange about a scene is not told of those that extend it.
    assert!(place.succeeds("scenes check kitchen").contains("with 1 warning"));
    assert_eq!(place.succeeds("scenes check kitchen_complete"), "1 scene is fine\n");
}

#[test]
fn a_sheet_tells_delays_units_and_what_is_given() {
    let place = Place::new();
    place.write(
        "late.ron",
        "(extends: \"maze\", delays: (action: Steps(2), observation: Uniform(1, 3)), randomise: [Light(lights: \
         [\"headlight\"], diffuse: ((0.3, 1.0), (0.3, 1.0), (0.3, 1.0)))])",
    );
    let out = place.succeeds("scenes show late.ron");
    for part in [
        "delay from an action to its effect: 2 control steps, 0.02 s",
        "delay from a state to its observation: 1 to 3 control steps, 0.01 to 0.03 s, drawn for every episode",
        "100 x N",
        "Light(lights: [\"headlight\"], diffuse: ((0.3, 1.0), ",
    ] {
        assert!(out.contains(part), "no `{part}` in {out}");
    }
    assert!(!out.contains("None"), "{out}");
    // Pictures are refused before anything is printed, and folders on the way are made.
    let ran = place.run("scenes show maze --image maze.jpg");
    assert_eq!(ran.stdout, "");
    ran.fails_with("a JPEG", &["maze.jpg: pictures are PNG"]);
    place.write("file", "");
    let ran = place.run("scenes show maze --image file/maze.png");
    assert_eq!(ran.stdout, "");
    let said = ran.fails_with("a folder that is a file", &["cannot write"]);
    assert!(!said.contains(".apprentice-"), "{said}");
    place.succeeds("scenes show maze --image new/deeper/maze.png");
    assert!(place.path("new/deeper/maze.png").is_file());
}

#[test]
fn a_scene_is_shown_in_tables_as_json_and_as_ron() {
    let place = Place::new();
    let out = place.succeeds("scenes show kitchen");
    for part in [
        "Franka arm in a kitchen",
        "time step 0.002 s, 40 to a control step of 0.08 s; episodes of 280 control steps, 22.4 s",
        "observation: 60 numbers",
        "robot:panda0_joint1",
        "actions: 9 numbers, each -1 to 1",
        "elements: order Any, judged on State",
        "microwave",
        "cameras",
        "demonstrator: Kitchen",
    ] {
        assert!(out.contains(part), "no `{part}` in {out}");
    }
    let json: Value =
        serde_json::from_str(&place.succeeds("scenes show maze_pixels elements.0.threshold=1.5 --json")).unwrap();
    assert_eq!(json["observation"].as_array().unwrap().len(), 4);
    assert_eq!(json["actions"].as_array().unwrap().len(), 2);
    assert_eq!(json["elements"][0]["threshold"], 1.5);
    assert_eq!(json["pictures"]["size"], 32);
    assert_eq!(json["physics"]["control_period"], 0.01);

    let ron = place.succeeds("scenes show examples/kitchen_breakfast task.order=Any --ron");
    assert!(
        ron.contains("scenes/kitchen.ron:") && ron.contains("// default") && ron.contains("// override"),
        "{ron}"
    );
    // What is printed is a scene, the same one.
    place.write("resolved.ron", &ron);
    let [one, other] = ["examples/kitchen_breakfast task.order=Any", "resolved.ron"].map(|scene| {
        let mut json: Value = serde_json::from_str(&place.succeeds(&format!("scenes show {scene} --json"))).unwrap();
        for field in ["name", "files"] {
            json[field] = Value::Null;
        }
        json
    });
    assert_eq!(one, other);
    place.fails("scenes show kitchn", &["no scene `kitchn`", "did you mean `kitchen`?"]);
}

fn picture(place: &Place, name: &str) -> (u32, u32, usize) {
    let file = std::io::BufReader::new(std::fs::File::open(place.path(name)).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let mut colours: Vec<&[u8]> = bytes[..info.buffer_size()].chunks(info.color_type.samples()).collect();
    colours.sort_unstable();
    colours.dedup();
    (info.width, info.height, colours.len())
}

#[test]
fn pictures_of_scenes_are_drawn() {
    let place = Place::new();
    let out = place.succeeds("scenes show maze_pixels --image agent.png --camera agent");
    assert!(out.contains("agent.png: 32 x 32 pixels"), "{out}");
    let (width, height, colours) = picture(&place, "agent.png");
    assert!(
        (width, height) == (32, 32) && colours > 3,
        "{width} x {height}, {colours} colours"
    );
    place.fails(
        "scenes show maze --image x.png --camera overveiw",
        &["no camera \"overveiw\"", "did you mean \"overview\""],
    );
    place.write("file", "");
    place.fails(
        "scenes show maze_pixels --image file/x.png --camera agent",
        &["file/x.png"],
    );
    place.succeeds("scenes show maze_pixels --image new/folder/x.png --camera agent");
    assert_eq!(picture(&place, "new/folder/x.png").0, 32);
    if cfg!(not(feature = "window")) {
        place.succeeds("scenes show examples/maze_rooms --image maze.png --size 120x80");
        let (width, height, colours) = picture(&place, "maze.png");
        assert!(
            (width, height) == (120, 80) && colours > 4,
            "{width} x {height}, {colours} colours"
        );
        place.fails(
            "scenes show kitchen --image kitchen.png",
            &["built without its window", "cargo build"],
        );
    }
}

#[test]
fn the_kitchen_variant_of_the_guide_is_checked_shown_and_trained_in() {
    let place = Place::new();
    let name = "examples/kitchen_breakfast";
    assert!(
        place
            .succeeds(&format!("scenes check {name}"))
            .contains("1 scene is fine")
    );
    let text = std::fs::read_to_string(format!("{}/scenes/{name}.ron", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//") && line.trim().len() > 1);
    assert!(lines.count() <= 5, "{text}");
    let json: Value = serde_json::from_str(&place.succeeds(&format!("scenes show {name} --json"))).unwrap();
    assert_eq!(
        (&json["order"], &json["episode_steps"]),
        (&Value::from("Listed"), &Value::from(200))
    );
    let rewarded: Vec<&str> = (json["elements"].as_array().unwrap().iter())
        .filter(|element| element["in_task"] == true)
        .map(|element| element["name"].as_str().unwrap())
        .collect();
    assert_eq!(rewarded, ["kettle", "light switch"]);
    place.succeeds(&format!("pretrain {name} {} --out run", tiny()));
    place.succeeds(&format!(
        "train {name} --resume --out run training.steps=400 training.report_every=200"
    ));
    assert!(
        place
            .path("run/seed_0/checkpoints/step_000000400/manifest.json")
            .is_file()
    );
    let metrics = place.read("run/seed_0/metrics.csv");
    assert!(
        metrics.contains("practice/elements/kettle") && !metrics.contains("practice/elements/microwave"),
        "{metrics}"
    );
}

#[test]
fn the_maze_of_the_guide_is_checked_shown_and_trained_in() {
    let place = Place::new();
    let name = "examples/maze_rooms";
    assert_eq!(place.succeeds(&format!("scenes check {name}")), "1 scene is fine\n");
    let json: Value = serde_json::from_str(&place.succeeds(&format!("scenes show {name} --json"))).unwrap();
    let distance = json["elements"][0]["distance_at_start"].as_f64().unwrap();
    // From cell (3, 2) to cell (11, 12).
    assert!(
        (distance - (8.0_f64 * 8.0 + 10.0 * 10.0).sqrt()).abs() < 0.05,
        "{distance}"
    );
    let budgets = "training.steps=300 training.warmup=240 training.report_every=100 learner.batch=16 \
                   learner.critic.width=16 training.replay_capacity=5000 environments=2";
    place.succeeds(&format!("train {name} {budgets} --out run"));
    assert!(
        place
            .path("run/seed_0/checkpoints/step_000000300/manifest.json")
            .is_file()
    );
}

#[test]
fn scene_fields_given_to_train_say_where_they_belong() {
    let place = Place::new();
    let parts = [
        "`physics` is a field of scenes",
        "extends \"kitchen\"",
        "did you mean `frame_skip`?",
    ];
    place.fails("train kitchen/sac physics.frame_skp=20", &parts);
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

/// Hands snapshots back until one is as it should be.
fn snapshot(watcher: &WatcherLink, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let begun = Instant::now();
    loop {
        let snapshot = watcher.filled.recv_timeout(PATIENCE).expect("the world goes on");
        if wanted(&snapshot) {
            let found = (*snapshot).clone();
            watcher.empty.send(snapshot).unwrap();
            return found;
        }
        watcher.empty.send(snapshot).unwrap();
        assert!(begun.elapsed() < PATIENCE, "it never came");
    }
}

/// The model of a ball that may roll along x.
fn ball(joint: &str) -> String {
    format!(
        "<mujoco><include file=\"light.xml\"/><worldbody><body name=\"ball\"><joint name=\"{joint}\" type=\"slide\" \
         axis=\"1 0 0\" damping=\"1\"/><geom size=\"0.1\"/></body></worldbody><actuator><motor name=\"push\" \
         joint=\"{joint}\" gear=\"1\"/></actuator></mujoco>"
    )
}

#[test]
fn a_watched_scene_follows_its_files() {
    let place = Place::new();
    place.write(
        "light.xml",
        "<mujoco><worldbody><light pos=\"0 0 3\"/></worldbody></mujoco>",
    );
    place.write("ball.xml", &ball("along"));
    let base = |joint: &str| {
        format!(
            "(\n  description: \"a ball\",\n  physics: (model: \"ball.xml\", frame_skip: 5),\n  control: Motors(motors: \
             [(actuator: \"push\")]),\n  observation: (noise: false, terms: [Position(joints: [\"{joint}\"])]),\n  reset: (),\n  \
             elements: [(name: \"there\", joints: [\"{joint}\"], goal: [1], threshold: 0.1)],\n  task: (elements: \
             [\"there\"]),\n  episode: (steps: 50),\n)\n"
        )
    };
    place.write("base.ron", &base("along"));
    place.write("mine.ron", "(extends: \"base\")");
    let (settings, file) = (settings(), place.path("mine.ron").display().to_string());
    let show = SceneShow::load(&file, &[]).unwrap();
    let (world, watcher) = link(Pace::Limited(200.0), 3);
    thread::scope(|scope| {
        let running = scope.spawn(|| show.play(2, Idle::ActsAtRandom, world, &settings));
        let end = Ends(&settings);
        let first = snapshot(&watcher, |snapshot| snapshot.tick > 3);
        assert_eq!((first.scene, first.environments.len()), (0, 2));
        let news = || watcher.scenes.recv_timeout(PATIENCE).expect("the edit is seen");
        // Files have times of at least this resolution.
        let wait = || thread::sleep(Duration::from_millis(20));

        // A broken edit keeps the scene and says everything that is wrong.
        wait();
        place.write(
            "mine.ron",
            "(\n  extends: \"base\",\n  episode: (steps: 0),\n  reset: (positions: {\"alogn\": [0]}),\n)",
        );
        let SceneNews::Broken(errors) = news() else {
            panic!("it is broken")
        };
        let all = errors.join("\n");
        for part in ["mine.ron:3:20", "mine.ron:4:", "did you mean \"along\"?"] {
            assert!(all.contains(part), "no `{part}` in {all}");
        }
        let later = snapshot(&watcher, |snapshot| snapshot.tick > first.tick);
        assert_eq!(later.scene, 0);
        assert_eq!(later.environments[0].environment, first.environments[0].environment);

        // A good one takes its place.
        place.write("mine.ron", "(extends: \"base\", episode: (steps: 3))");
        assert!(matches!(news(), SceneNews::Sound));
        let SceneNews::Replaced { generation: 1, scene } = news() else {
            panic!("it is sound")
        };
        assert_eq!(scene.scene().episode.steps, 3);
        let after = snapshot(&watcher, |snapshot| {
            snapshot.scene == 1 && snapshot.environments[0].episode > 0
        });
        assert_eq!(after.environments.len(), 2);
        assert_ne!(after.environments[0].environment, first.environments[0].environment);
        assert!(after.environments.iter().all(|environment| environment.step <= 3));
        assert_eq!(after.poses.len(), 2 * moving_bodies(scene.model()).len());

        // So does one of the file that is extended, and one of the model: a joint of another name has to be in both.
        wait();
        place.write("ball.xml", &ball("across"));
        let SceneNews::Broken(errors) = news() else {
            panic!("the joint has gone")
        };
        assert!(errors.join("\n").contains("base.ron:5:"), "{errors:?}");
        place.write("base.ron", &base("across"));
        assert!(matches!(news(), SceneNews::Sound));
        let SceneNews::Replaced { generation: 2, scene } = news() else {
            panic!("it is sound")
        };
        assert_eq!(scene.channels()[0].name, "across");

        // What the model includes counts as well.
        wait();
        place.write(
            "light.xml",
            "<mujoco><worldbody><light pos=\"0 0 4\"/></worldbody></mujoco>",
        );
        assert!(matches!(news(), SceneNews::Replaced { generation: 3, .. }));
        drop(end);
        assert_eq!(running.join().unwrap().unwrap(), Ended::Stopped);
    });
}
