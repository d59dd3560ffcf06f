//! What actions do: formulas on small models.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use apprentice::scene::{CompiledScene, SceneError};
use apprentice::sim::Environment;
use mujoco_rs::wrappers::mj_model::MjtObjBase;

/// Writes a model and a scene beside each other and compiles the scene.
fn scene(folder: &Path, model: &str, rest: &str) -> Result<CompiledScene, SceneError> {
    std::fs::write(folder.join("model.xml"), model).unwrap();
    let path = folder.join("mine.ron");
    let text =
        format!("(physics: (model: \"model.xml\", frame_skip: 10),\n{rest},\nreset: (), episode: (steps: 1000000))");
    std::fs::write(&path, text).unwrap();
    CompiledScene::load(path.to_str().unwrap(), &[])
}

fn of(model: &str, control: &str, joint: &str) -> Result<CompiledScene, SceneError> {
    let folder = tempfile::tempdir().unwrap();
    let rest = format!("control: {control},\nobservation: (terms: [Position(joints: [{joint:?}])])");
    scene(folder.path(), model, &rest)
}

const MIXED: &str = r#"<mujoco><worldbody><body><joint name="j" axis="0 1 0"/>
    <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.02"/></body></worldbody>
    <actuator>
      <motor name="torque" joint="j" ctrlrange="-2 6"/>
      <velocity name="speed" joint="j" kv="3"/>
      <position name="angle" joint="j" kp="5" ctrlrange="-1 1"/>
    </actuator></mujoco>"#;

#[test]
fn a_direct_action_maps_linearly_to_the_range() {
    let control =
        r#"Direct(actuators: [(actuator: "torque"), (actuator: "speed", range: (4.0, -4.0)), (actuator: "angle")])"#;
    let scene = of(MIXED, control, "j").unwrap();
    let mut it = Environment::new(&scene, 0, 0).unwrap();
    for (action, wanted) in [
        ([-1.0, -1.0, -1.0], [-2.0, 4.0, -1.0]),
        ([1.0, 1.0, 1.0], [6.0, -4.0, 1.0]),
        ([0.0, 0.5, -0.5], [2.0, -2.0, -0.5]),
        ([7.0, -7.0, 0.25], [6.0, 4.0, 0.25]),
    ] {
        it.step(&scene, &action);
        assert_eq!(it.physics.ctrl(), wanted);
    }
    let units: Vec<_> = scene
        .actions()
        .iter()
        .map(|it| (it.name.as_str(), it.unit, it.low, it.high))
        .collect();
    assert_eq!(
        units,
        [
            ("torque", "N m", -2.0, 6.0),
            ("speed", "rad/s", 4.0, -4.0),
            ("angle", "rad", -1.0, 1.0)
        ]
    );
}

#[test]
fn mistakes_in_a_direct_control_are_named() {
    let message = |control: &str| of(MIXED, control, "j").unwrap_err().to_string();
    let unlimited = message(r#"Direct(actuators: [(actuator: "speed")])"#);
    assert!(
        unlimited.contains("mine.ron:2:") && unlimited.contains("has no ctrlrange"),
        "{unlimited}"
    );
    let unknown = message(r#"Direct(actuators: [(actuator: "tork")])"#);
    assert!(unknown.contains("no actuator is named \"tork\""), "{unknown}");
    let twice = message(r#"Direct(actuators: [(actuator: "angle"), (actuator: "angle")])"#);
    assert!(twice.contains("control.actuators.1.actuator"), "{twice}");
    let none = message("Direct(actuators: [])");
    assert!(none.contains("at least one"), "{none}");
    let flat = message(r#"Direct(actuators: [(actuator: "angle", range: (1.0, 1.0))])"#);
    assert!(flat.contains("two different numbers"), "{flat}");
}

/// An arm with seven hinges, a gripper and no gravity.
fn arm_model(gravity: f64) -> String {
    let mut bodies = String::new();
    let axes = ["0 0 1", "0 1 0", "0 0 1", "0 -1 0", "0 0 1", "0 -1 0", "0 0 1"];
    for (index, axis) in axes.iter().enumerate() {
        let place = if index == 0 { "0 0 0.1" } else { "0 0 0.2" };
        bodies += &format!(
            r#"<body name="link{index}" pos="{place}"><joint name="j{index}" axis="{axis}" range="-2.8 2.8" damping="1" armature="0.1"/>
            <geom type="capsule" fromto="0 0 0 0 0 0.2" size="0.03" contype="0" conaffinity="0"/>"#
        );
    }
    bodies += r#"<site name="tip" pos="0.05 0 0.25"/>
        <body name="finger"><joint name="grip" type="slide" axis="1 0 0"/><geom size="0.01" contype="0" conaffinity="0"/></body>"#;
    bodies += &"</body>".repeat(axes.len());
    let servos: String = (0..axes.len())
        .map(|index| format!(r#"<position name="s{index}" joint="j{index}" kp="400" kv="40"/>"#))
        .collect();
    format!(
        r#"<mujoco><compiler angle="radian"/><option timestep="0.002" gravity="0 0 {gravity}" integrator="implicitfast"/>
        <worldbody>{bodies}</worldbody>
        <actuator>{servos}<position name="g" joint="grip" kp="50" kv="5" ctrlrange="0 0.04"/></actuator></mujoco>"#
    )
}

fn arm_scene(folder: &Path, more: &str) -> CompiledScene {
    let joints: String = (0..7)
        .map(|i| format!("(joint: \"j{i}\", actuator: \"s{i}\"),"))
        .collect();
    let rest = format!(
        "control: EndEffector(site: \"tip\", joints: [{joints}], speed: 0.2, grippers: [(actuator: \"g\")]{more}),
        observation: (terms: [Position(joints: [\"j0\"])])"
    );
    let scene = scene(folder, &arm_model(0.0), &rest);
    // A bent pose, away from singularities.
    let text = std::fs::read_to_string(folder.join("mine.ron")).unwrap();
    let bent = "reset: (positions: {\"j1\": [0.6], \"j3\": [1.4], \"j5\": [0.9]})";
    std::fs::write(folder.join("mine.ron"), text.replace("reset: ()", bent)).unwrap();
    scene.unwrap();
    CompiledScene::load(folder.join("mine.ron").to_str().unwrap(), &[]).unwrap()
}

fn repeat(it: &mut Environment, scene: &CompiledScene, action: &[f64], steps: u32) {
    for _ in 0..steps {
        it.step(scene, action);
    }
}

fn tip(scene: &CompiledScene, it: &mut Environment) -> ([f64; 3], [f64; 9]) {
    let site = scene.model().name_to_id(MjtObjBase::mjOBJ_SITE, "tip").unwrap();
    it.physics.kinematics();
    (it.physics.site_xpos()[site], it.physics.site_xmat()[site])
}

#[test]
fn a_site_moves_with_the_wanted_velocity() {
    let folder = tempfile::tempdir().unwrap();
    let scene = arm_scene(folder.path(), ", rotation: Held");
    assert_eq!(scene.action_len(), 4);
    for axis in 0..3 {
        for sign in [-1.0, 1.0] {
            let mut it = Environment::new(&scene, 0, 0).unwrap();
            let mut action = [0.0; 4];
            action[axis] = sign * 0.5;
            let steps = 25;
            // Servos need a moment until they move as fast as their targets.
            repeat(&mut it, &scene, &action, 10);
            let (from, _) = tip(&scene, &mut it);
            let (_, before) = tip(&scene, &mut it);
            repeat(&mut it, &scene, &action, steps);
            let (to, after) = tip(&scene, &mut it);
            let wanted = sign * 0.5 * 0.2 * f64::from(steps) * scene.period();
            for other in 0..3 {
                let moved = to[other] - from[other];
                let wanted = if other == axis { wanted } else { 0.0 };
                assert!(
                    (moved - wanted).abs() < 0.006,
                    "axis {axis} {sign}: {other} moved {moved}, not {wanted}"
                );
            }
            let turned: f64 = before.iter().zip(after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(turned < 0.05, "turned by {turned}");
        }
    }
}

#[test]
fn a_site_turns_about_the_worlds_axes() {
    let folder = tempfile::tempdir().unwrap();
    let scene = arm_scene(folder.path(), ", rotation: Yaw, turn_speed: 0.8");
    assert_eq!(scene.action_len(), 5);
    let names: Vec<_> = scene.actions().iter().map(|it| (it.name.as_str(), it.unit)).collect();
    assert_eq!(
        names,
        [
            ("tip.x", "m/s"),
            ("tip.y", "m/s"),
            ("tip.z", "m/s"),
            ("tip.turn_z", "rad/s"),
            ("g", "m")
        ]
    );
    let mut it = Environment::new(&scene, 0, 0).unwrap();
    repeat(&mut it, &scene, &[0.0, 0.0, 0.0, 0.5, -1.0], 10);
    let (place, before) = tip(&scene, &mut it);
    repeat(&mut it, &scene, &[0.0, 0.0, 0.0, 0.5, -1.0], 25);
    let (there, after) = tip(&scene, &mut it);
    // The angle of `after · beforeᵀ` about z.
    let entry = |row: usize, column: usize| (0..3).map(|k| after[3 * row + k] * before[3 * column + k]).sum::<f64>();
    let angle = (entry(1, 0) - entry(0, 1)).atan2(entry(0, 0) + entry(1, 1));
    let wanted = 0.8 * 0.5 * 25.0 * scene.period();
    assert!((angle - wanted).abs() < 0.02, "{angle} instead of {wanted}");
    for axis in 0..3 {
        assert!((place[axis] - there[axis]).abs() < 0.006);
    }
    assert!(it.physics.ctrl()[7] == 0.0);
    it.step(&scene, &[0.0, 0.0, 0.0, 0.0, 1.0]);
    assert!(it.physics.ctrl()[7] == 0.04);
}

#[test]
fn an_arm_keeps_to_its_workspace_its_limits_and_its_speeds() {
    let folder = tempfile::tempdir().unwrap();
    let free = arm_scene(folder.path(), "");
    let start = tip(&free, &mut Environment::new(&free, 0, 0).unwrap()).0;
    let boxed = format!(
        ", joint_speed: 1.5, workspace: [({}, {}), ({}, {}), ({}, {})]",
        start[0] - 0.05,
        start[0] + 0.05,
        start[1] - 0.05,
        start[1] + 0.05,
        start[2] - 0.05,
        start[2] + 0.05
    );
    let scene = arm_scene(folder.path(), &boxed);
    let mut it = Environment::new(&scene, 0, 0).unwrap();
    let mut furthest: f64 = 0.0;
    let mut last: Vec<f64> = it.physics.qpos()[..7].to_vec();
    for count in 0..400 {
        let action: Vec<f64> = (0..4)
            .map(|axis| if (count / (23 + 9 * axis)) % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        assert_eq!(it.step(&scene, &action).fault, None);
        let (place, _) = tip(&scene, &mut it);
        for axis in 0..3 {
            furthest = furthest.max((place[axis] - start[axis]).abs());
        }
        let targets = it.physics.ctrl()[..7].to_vec();
        for (joint, target) in targets.iter().enumerate() {
            assert!(target.abs() <= 2.8);
            assert!((target - last[joint]).abs() <= 1.5 * scene.period() + 0.2 + 1e-9);
        }
        last = it.physics.qpos()[..7].to_vec();
    }
    assert!(furthest > 0.045 && furthest < 0.06, "{furthest}");

    // Without the box, stretched out for long: joints stay within their limits and nothing diverges.
    let mut it = Environment::new(&free, 0, 0).unwrap();
    for direction in [[1.0, 0.0, -1.0, 0.0], [-1.0, 1.0, 1.0, 0.0]] {
        for _ in 0..600 {
            assert_eq!(it.step(&free, &direction).fault, None);
            assert!(it.physics.ctrl()[..7].iter().all(|target| target.abs() <= 2.8 + 1e-12));
        }
    }
}

#[test]
fn the_resolved_velocity_is_that_of_damped_least_squares() {
    // A planar arm of two unit links: J is known.
    let model = r#"<mujoco><compiler angle="radian"/><option gravity="0 0 0"/><worldbody>
        <body><joint name="a" axis="0 0 1"/><geom type="capsule" fromto="0 0 0 1 0 0" size=".02" contype="0" conaffinity="0"/>
        <body pos="1 0 0"><joint name="b" axis="0 0 1"/><geom type="capsule" fromto="0 0 0 1 0 0" size=".02" contype="0" conaffinity="0"/>
        <site name="tip" pos="1 0 0"/></body></body></worldbody>
        <actuator><position name="sa" joint="a" kp="10"/><position name="sb" joint="b" kp="10"/></actuator></mujoco>"#;
    let folder = tempfile::tempdir().unwrap();
    let rest = r#"control: EndEffector(site: "tip", joints: [(joint: "a", actuator: "sa"), (joint: "b", actuator: "sb")],
        speed: 0.3, damping: 0.1), observation: (terms: [Position(joints: ["a"])])"#;
    scene(folder.path(), model, rest).unwrap();
    let text = std::fs::read_to_string(folder.path().join("mine.ron")).unwrap();
    let bent = r#"reset: (positions: {"a": [0.3], "b": [0.9]})"#;
    std::fs::write(folder.path().join("mine.ron"), text.replace("reset: ()", bent)).unwrap();
    let scene = CompiledScene::load(folder.path().join("mine.ron").to_str().unwrap(), &[]).unwrap();
    let mut it = Environment::new(&scene, 0, 0).unwrap();
    it.step(&scene, &[1.0, -0.5, 0.0]);
    let (a, b) = (0.3_f64, 0.9_f64);
    let j = [
        [-a.sin() - (a + b).sin(), -(a + b).sin()],
        [a.cos() + (a + b).cos(), (a + b).cos()],
    ];
    let v = [0.3, -0.15];
    // (J Jᵀ + λ² I) y = v, solved by hand for two rows; q̇ = Jᵀ y.
    let n = [
        [
            j[0][0] * j[0][0] + j[0][1] * j[0][1] + 0.01,
            j[0][0] * j[1][0] + j[0][1] * j[1][1],
        ],
        [
            j[0][0] * j[1][0] + j[0][1] * j[1][1],
            j[1][0] * j[1][0] + j[1][1] * j[1][1] + 0.01,
        ],
    ];
    let det = n[0][0] * n[1][1] - n[0][1] * n[1][0];
    let y = [
        (n[1][1] * v[0] - n[0][1] * v[1]) / det,
        (n[0][0] * v[1] - n[1][0] * v[0]) / det,
    ];
    for (joint, start) in [a, b].into_iter().enumerate() {
        let rate = j[0][joint] * y[0] + j[1][joint] * y[1];
        let target = start + rate * scene.period();
        assert!((it.physics.ctrl()[joint] - target).abs() < 1e-12);
    }
}

#[test]
fn mistakes_in_an_arm_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = |control: &str| {
        let rest = format!("control: EndEffector({control}), observation: (terms: [Position(joints: [\"j0\"])])");
        scene(folder.path(), &arm_model(0.0), &rest).unwrap_err().to_string()
    };
    let site = message(r#"site: "tipp", joints: [(joint: "j0", actuator: "s0")], speed: 1.0"#);
    assert!(
        site.contains("no site is named \"tipp\"; did you mean \"tip\"?"),
        "{site}"
    );
    let servo = message(r#"site: "tip", joints: [(joint: "j0", actuator: "s1")], speed: 1.0"#);
    assert!(servo.contains("no position servo of the joint \"j0\""), "{servo}");
    let idle = message(r#"site: "tip", joints: [(joint: "grip", actuator: "g")], speed: 1.0"#);
    assert!(idle.contains("does not move the site"), "{idle}");
    let speed = message(r#"site: "tip", joints: [(joint: "j0", actuator: "s0")], speed: 0.0"#);
    assert!(speed.contains("control.speed: must be a positive number"), "{speed}");
    let taken = message(
        r#"site: "tip", joints: [(joint: "j0", actuator: "s0")], speed: 1.0, grippers: [(actuator: "s0", range: (0.0, 1.0))]"#,
    );
    assert!(taken.contains("control.grippers.0.actuator"), "{taken}");
    let twice =
        message(r#"site: "tip", joints: [(joint: "j0", actuator: "s0"), (joint: "j0", actuator: "s0")], speed: 1.0"#);
    assert!(twice.contains("control.joints.1"), "{twice}");
}

#[test]
fn the_kitchens_actions_say_what_they_do() {
    let scene = CompiledScene::load("kitchen", &[]).unwrap();
    let channels = scene.actions();
    assert_eq!(channels.len(), 9);
    assert_eq!((channels[0].unit, channels[8].unit), ("rad/s", "m/s"));
    assert_eq!((channels[0].low, channels[0].high), (-2.0, 2.0));
}

// ---- models of the user's own ----

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

const BODY: &str = r#"<body><joint name="j"/><geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.02"/></body>"#;
const SERVO: &str = r#"<actuator><position name="a" joint="j" kp="5" ctrlrange="-1 1"/></actuator>"#;

fn user_scene(folder: &Path, name: &str, physics: &str) -> Result<CompiledScene, SceneError> {
    let text = format!(
        "(physics: ({physics}, frame_skip: 5),\ncontrol: Direct(actuators: [(actuator: \"a\")]),
        observation: (terms: [Position(joints: [\"j\"])]), reset: (), episode: (steps: 10))"
    );
    CompiledScene::load(write(folder, name, &text).to_str().unwrap(), &[])
}

#[test]
fn a_model_is_found_beside_the_scene_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(
        root,
        "models/arm.xml",
        &format!("<mujoco><include file=\"parts/body.xml\"/>{SERVO}</mujoco>"),
    );
    write(
        root,
        "models/parts/body.xml",
        &format!("<mujoco><worldbody>{BODY}</worldbody></mujoco>"),
    );
    let base = user_scene(root, "scenes/base.ron", "model: \"../models/arm.xml\"").unwrap();
    assert!(base.scene().physics.model.is_absolute());
    assert!(!base.scene().physics.model.to_str().unwrap().contains(".."));
    // A scene elsewhere that extends it finds the model beside the one that names it.
    let child = write(
        root,
        "elsewhere/deep/child.ron",
        "(extends: \"../../scenes/base\", episode: (steps: 3))",
    );
    let child = CompiledScene::load(child.to_str().unwrap(), &[]).unwrap();
    assert_eq!(child.scene().physics.model, base.scene().physics.model);
    // And the resolved text loads from anywhere.
    let resolved = apprentice::scene::Scene::load_with(root.join("scenes/base.ron").to_str().unwrap(), &[]).unwrap();
    let copy = write(root, "runs/one/scene.ron", &resolved.resolved_text);
    assert_eq!(
        CompiledScene::load(copy.to_str().unwrap(), &[]).unwrap().scene(),
        base.scene()
    );
}

#[test]
fn nothing_outside_the_folder_of_the_model_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(
        root,
        "secret.xml",
        &format!("<mujoco><worldbody>{BODY}</worldbody></mujoco>"),
    );
    write(root, "meshes/m.stl", "solid nothing");
    let message = |xml: &str, physics: &str| {
        write(root, "m/arm.xml", xml);
        user_scene(root, "mine.ron", physics).unwrap_err().to_string()
    };
    let model = "model: \"m/arm.xml\"";
    let include = message(
        &format!("<mujoco>\n  <include file=\"../secret.xml\"/>{SERVO}</mujoco>"),
        model,
    );
    assert!(
        include.contains("arm.xml:2:18: ") && include.contains("outside the folder of the model"),
        "{include}"
    );
    let mesh = |dir: &str, file: &str| {
        format!(
            "<mujoco><compiler meshdir=\"{dir}\"/><asset><mesh file=\"{file}\"/></asset><worldbody>{BODY}</worldbody>{SERVO}</mujoco>"
        )
    };
    for (dir, file) in [("../meshes", "m.stl"), ("", "../meshes/m.stl"), ("..", "meshes/m.stl")] {
        let text = message(&mesh(dir, file), model);
        assert!(text.contains("outside the folder of the model"), "{dir} {file}: {text}");
    }
    let absolute = message(&mesh("", root.join("meshes/m.stl").to_str().unwrap()), model);
    assert!(absolute.contains("outside the folder of the model"), "{absolute}");
    // Allowed, it gets as far as MuJoCo, which says what is wrong with the mesh.
    let allowed = message(
        &mesh("../meshes", "m.stl"),
        "model: \"m/arm.xml\", allow: [\"../meshes\"]",
    );
    assert!(!allowed.contains("outside the folder"), "{allowed}");
    let missing = message(
        &mesh("../meshes", "m.stl"),
        "model: \"m/arm.xml\", allow: [\"../mashes\"]",
    );
    assert!(
        missing.contains("mine.ron:1:") && missing.contains("is no folder"),
        "{missing}"
    );
    let references = message("<mujoco><include file=\"&#46;./secret.xml\"/></mujoco>", model);
    assert!(references.contains("character references"), "{references}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(root.join("secret.xml"), root.join("m/link.xml")).unwrap();
        let link = message(&format!("<mujoco><include file=\"link.xml\"/>{SERVO}</mujoco>"), model);
        assert!(link.contains("outside the folder of the model"), "{link}");
    }
}

#[test]
fn errors_of_mujoco_are_shown_in_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let message = |xml: &str| {
        write(root, "arm.xml", xml);
        user_scene(root, "mine.ron", "model: \"arm.xml\"")
            .unwrap_err()
            .to_string()
    };
    let attribute = message("<mujoco>\n<worldbody>\n <geom sise=\"1\"/>\n</worldbody></mujoco>");
    assert!(
        attribute.contains("arm.xml:3:8: ") && attribute.contains("sise"),
        "{attribute}"
    );
    let mesh =
        message("<mujoco>\n<worldbody><geom size=\"1\"/>\n<geom type=\"mesh\" mesh=\"q\"/></worldbody></mujoco>");
    assert!(mesh.contains("arm.xml:3:") && mesh.contains("mesh 'q'"), "{mesh}");
    let file = message("<mujoco>\n<asset>\n<mesh file=\"q.stl\"/></asset></mujoco>");
    assert!(file.contains("arm.xml:3:") && file.contains("q.stl"), "{file}");
    let syntax = message("<mujoco>\n<worldbody>\n<geom size=1/></worldbody></mujoco>");
    assert!(
        syntax.contains("arm.xml:3:12: ") && syntax.contains("in quotes"),
        "{syntax}"
    );
    let mismatch = message("<mujoco>\n<worldbody>\n</mujoco>");
    assert!(mismatch.contains("arm.xml:"), "{mismatch}");
    let other = message("<robot name=\"x\"/>");
    assert!(other.contains("expected <mujoco>"), "{other}");
    let empty = message("");
    assert!(empty.contains("expected <mujoco>"), "{empty}");
    let time = message(&format!(
        "<mujoco><option timestep=\"0\"/><worldbody>{BODY}</worldbody>{SERVO}</mujoco>"
    ));
    assert!(time.contains("time step must be a positive number"), "{time}");
    let memory = message(&format!(
        "<mujoco><size memory=\"999G\"/><worldbody>{BODY}</worldbody>{SERVO}</mujoco>"
    ));
    assert!(memory.contains("memory"), "{memory}");
    write(
        root,
        "part.xml",
        "<mujoco>\n<worldbody>\n<geom size=\".1\" fool=\"2\"/></worldbody></mujoco>",
    );
    let included = message("<mujoco>\n<include file=\"part.xml\"/></mujoco>");
    assert!(
        included.contains("part.xml:3:17: ") && included.contains("fool"),
        "{included}"
    );
}

#[test]
fn changes_are_made_to_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let model = format!(
        r#"<mujoco><worldbody><body name="base" pos="1 2 3"/>
        <body name="box"><freejoint/><geom name="box" type="box" size=".1 .2 .3" mass="2"/><site name="s" pos="0 0 .3"/></body>{BODY}</worldbody>{SERVO}</mujoco>"#
    );
    write(root, "arm.xml", &model);
    let plain = user_scene(root, "plain.ron", "model: \"arm.xml\"").unwrap();
    let changed = |changes: &str| user_scene(root, "mine.ron", &format!("model: \"arm.xml\", changes: [{changes}]"));
    let it = changed(
        r#"Timestep(0.004), Gravity(0.0, 0.0, -3.7), Friction(geoms: ["box"], value: [0.3, 0.02]),
        Damping(joints: ["j"], value: 0.7), Mass(bodies: ["box"], value: 5.0), Gain(actuators: ["a"], factor: 2.0),
        Colour(geoms: ["box"], rgba: (1.0, 0.5, 0.25, 1.0)), Position(bodies: ["base"], offset: (0.1, 0.0, -1.0))"#,
    )
    .unwrap();
    let (model, plain) = (it.model(), plain.model());
    assert_eq!((model.opt().timestep, it.period()), (0.004, 0.02));
    assert_eq!(model.opt().gravity, [0.0, 0.0, -3.7]);
    let id = |kind, name| plain.name_to_id(kind, name).unwrap();
    let (geom, body, base) = (
        id(MjtObjBase::mjOBJ_GEOM, "box"),
        id(MjtObjBase::mjOBJ_BODY, "box"),
        id(MjtObjBase::mjOBJ_BODY, "base"),
    );
    assert_eq!(model.geom_friction()[geom], [0.3, 0.02, plain.geom_friction()[geom][2]]);
    assert_eq!(model.geom_rgba()[geom], [1.0, 0.5, 0.25, 1.0]);
    assert_eq!(model.body_mass()[body], 5.0);
    let joint = id(MjtObjBase::mjOBJ_JOINT, "j");
    assert_eq!(model.dof_damping()[model.jnt_dofadr()[joint] as usize], 0.7);
    for axis in 0..3 {
        assert!((model.body_inertia()[body][axis] - 2.5 * plain.body_inertia()[body][axis]).abs() < 1e-12);
    }
    assert_eq!(model.body_pos()[base], [1.1, 2.0, 2.0]);
    assert_eq!(
        (model.actuator_gainprm()[0][0], model.actuator_biasprm()[0][1]),
        (10.0, -10.0)
    );
    // What follows from the mass follows.
    assert!((model.body_subtreemass()[0] - plain.body_subtreemass()[0] - 3.0).abs() < 1e-9);

    // Scaled sizes are those of a model that is written so.
    let sized = changed(r#"Size(bodies: ["box"], factor: 1.5, density: true)"#).unwrap();
    write(
        root,
        "arm.xml",
        r#"<mujoco><worldbody><body name="base" pos="1 2 3"/>
        <body name="box"><freejoint/><geom name="box" type="box" size=".15 .3 .45" mass="6.75"/><site name="s" pos="0 0 .45"/></body>BODY</worldbody>SERVO</mujoco>"#
            .replace("BODY", BODY)
            .replace("SERVO", SERVO)
            .as_str(),
    );
    let written = user_scene(root, "plain.ron", "model: \"arm.xml\"").unwrap();
    let (sized, written) = (sized.model(), written.model());
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-9 * (1.0 + b.abs()));
    assert!(near(&sized.geom_size()[geom], &written.geom_size()[geom]));
    assert!(near(&sized.geom_aabb()[geom], &written.geom_aabb()[geom]));
    assert!(near(&[sized.geom_rbound()[geom]], &[written.geom_rbound()[geom]]));
    assert!(near(&sized.body_inertia()[body], &written.body_inertia()[body]));
    assert!(near(&[sized.body_mass()[body]], &[written.body_mass()[body]]));
    assert!(near(&sized.site_pos()[0], &written.site_pos()[0]));
    assert!(near(sized.dof_invweight0(), written.dof_invweight0()));
    let boxes = sized.bvh_aabb().iter().zip(written.bvh_aabb());
    assert!(boxes.into_iter().all(|(a, b)| near(a, b)));

    let message = |changes: &str| changed(changes).unwrap_err().to_string();
    let unknown = message(r#"Friction(geoms: ["bocks"], value: [1.0])"#);
    assert!(
        unknown.contains("mine.ron:1:") && unknown.contains("no geom is named \"bocks\""),
        "{unknown}"
    );
    assert!(message(r#"Mass(bodies: ["base"], value: 1.0)"#).contains("has no mass"));
    assert!(message(r#"Mass(bodies: ["box"], value: -1.0)"#).contains("must be a positive number"));
    assert!(message(r#"Position(bodies: ["box"], offset: (0.0, 0.0, 1.0))"#).contains("is not fixed"));
    assert!(message("Timestep(0.0)").contains("must be a positive number"));

    // A box on the floor.
    let resting = |option: &str, changes: &str| {
        let floor = r#"<geom type="plane" pos="0 0 -1" size="5 5 1"/>"#;
        let block = r#"<body pos="2 0 -.7"><freejoint/><geom type="box" size=".1 .2 .3"/></body>"#;
        let text = format!("<mujoco>{option}<worldbody>{floor}{block}{BODY}</worldbody>{SERVO}</mujoco>");
        write(root, "arm.xml", &text);
        changed(changes)
    };
    let asleep = |scene: &CompiledScene| {
        let mut data = scene.fresh().clone();
        (0..500).for_each(|_| data.step());
        data.tree_asleep().iter().filter(|&&next| next >= 0).count()
    };
    assert_eq!(asleep(&resting("", "").unwrap()), 0);
    assert_eq!(asleep(&resting("", "Sleep()").unwrap()), 1);
    let refused = |option: &str, changes: &str| resting(option, changes).unwrap_err().to_string();
    assert!(refused("", "Sleep(tolerance: 0.0)").contains("must be a positive number"));
    let runge_kutta = refused(r#"<option integrator="RK4"/>"#, "Sleep()");
    assert!(
        runge_kutta.contains("mine.ron:1:") && runge_kutta.contains("integrator RK4"),
        "{runge_kutta}"
    );
    let no_islands = refused(r#"<option><flag island="disable"/></option>"#, "Sleep()");
    assert!(no_islands.contains("island"), "{no_islands}");
}
