//! Demonstrations by waypoints.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;
use std::path::Path;

use apprentice::demos::waypoints::Orders;
use apprentice::demos::{
    CollectConfig, Demonstration, DemonstratorSpec, Disturbance, KitchenDemos, KitchenElement, Rejection,
    WaypointDemos, demonstrate,
};
use apprentice::scene::{CompiledScene, Control, DirectActuator, Motor, MotorKind, Scene, Servo};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenes/examples");

/// One of the example scenes.
fn example(name: &str) -> Scene {
    Scene::load(&format!("{FOLDER}/{name}.ron")).unwrap()
}

fn waypoints(scene: &mut Scene) -> &mut WaypointDemos {
    match &mut scene.demonstrator {
        Some(DemonstratorSpec::Waypoints(demos)) => demos,
        other => panic!("{other:?}"),
    }
}

fn attempts(scene: &Scene, numbers: Range<u64>) -> Vec<Result<Demonstration, Rejection>> {
    let config = CollectConfig::default();
    numbers
        .map(|attempt| demonstrate(&config, scene, attempt).unwrap())
        .collect()
}

/// Share of the attempts that succeed.
fn success(name: &str, scene: &Scene, numbers: Range<u64>) -> f64 {
    let made = attempts(scene, numbers);
    let kept: Vec<_> = made.iter().flatten().collect();
    let steps: usize = kept.iter().map(|it| it.episode.len()).sum();
    let repeated: f64 = kept
        .iter()
        .flat_map(|it| &it.account.figures)
        .map(|figure| figure.1)
        .sum();
    let failed: Vec<_> = made.iter().filter_map(|it| it.as_ref().err()).collect();
    let mean = steps as f64 / kept.len().max(1) as f64;
    println!(
        "{name}: {} of {}, {mean:.1} steps, {repeated} repeated, {failed:?}",
        kept.len(),
        made.len()
    );
    kept.len() as f64 / made.len() as f64
}

const JOINTS: [&str; 3] = ["turn", "shoulder", "elbow"];

/// The puck's scene with another control of the same arm.
fn puck_with(control: Control) -> Scene {
    let mut scene = example("puck");
    scene.control = control;
    let mut terms = vec![apprentice::scene::ObservationTerm::Position {
        joints: JOINTS.map(str::to_owned).to_vec(),
        noise: Vec::new(),
        absolute: false,
        scale: 1.0,
    }];
    terms.append(&mut scene.observation.terms);
    scene.observation.terms = terms;
    // Noise is in units of the action, and some actions are whole positions and forces.
    waypoints(&mut scene).noise = 0.01;
    scene
}

#[test]
fn the_puck_is_pushed_and_the_button_pressed() {
    let rate = success("end effector", &example("puck"), 0..100);
    assert!(rate >= 0.95, "{rate}");
}

#[test]
fn the_same_waypoints_drive_every_kind_of_control() {
    let servos = JOINTS.map(|name| Servo {
        joint: name.into(),
        actuator: name.into(),
        range: (-1.6, 1.6),
    });
    let direct = JOINTS.map(|name| DirectActuator {
        actuator: name.into(),
        range: Some((-1.6, 1.6)),
    });
    let motors = JOINTS.map(|name| Motor {
        actuator: name.into(),
        scale: 1.6,
        kind: MotorKind::Proportional,
    });
    for (name, control) in [
        (
            "velocity-limited servos",
            Control::VelocityLimitedPosition {
                speed: 2.0,
                servos: servos.to_vec(),
            },
        ),
        (
            "position servos",
            Control::Direct {
                actuators: direct.to_vec(),
            },
        ),
        (
            "scaled position servos",
            Control::Motors {
                motors: motors.to_vec(),
                speed_limit: None,
            },
        ),
    ] {
        let rate = success(name, &puck_with(control), 0..20);
        assert!(rate >= 0.9, "{name}: {rate}");
    }
}

/// The same arm with torques and with velocity servos in place of position servos.
#[test]
fn torques_and_velocity_servos_are_driven_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(format!("{FOLDER}/puck/puck.xml")).unwrap();
    let servo = r#"<position kp="120" forcerange="-30 30" ctrlrange="-3.2 3.2"/>"#;
    assert!(text.contains(servo));
    for (kind, actuator, scale) in [
        ("motor", r#"<motor ctrlrange="-30 30"/>"#, 30.0),
        ("velocity", r#"<velocity kv="8" ctrlrange="-3 3"/>"#, 3.0),
    ] {
        let other = text
            .replace(servo, actuator)
            .replace("    <position ", &format!("    <{kind} "));
        let path = folder.path().join(format!("{kind}.xml"));
        std::fs::write(&path, other).unwrap();
        let motors = JOINTS.map(|name| Motor {
            actuator: name.into(),
            scale,
            kind: MotorKind::Proportional,
        });
        let mut scene = puck_with(Control::Motors {
            motors: motors.to_vec(),
            speed_limit: None,
        });
        scene.physics.model = path;
        let rate = success(kind, &scene, 0..20);
        assert!(rate >= 0.9, "{kind}: {rate}");
    }
}

/// Elements of the kitchen by waypoints do not fall behind the routines written in Rust.
#[test]
fn kitchen_elements_by_waypoints() {
    for element in [
        KitchenElement::LightSwitch,
        KitchenElement::SlideCabinet,
        KitchenElement::HingeCabinet,
    ] {
        let mut scene = example("kitchen_waypoints");
        waypoints(&mut scene).orders = Orders::Listed(vec![vec![element.name().into()]]);
        let rate = success(element.name(), &scene, 0..10);
        scene.demonstrator = Some(DemonstratorSpec::Kitchen(KitchenDemos {
            sequences: vec![vec![element]],
            disturbance: Disturbance::noise(0.1),
            ..KitchenDemos::default()
        }));
        let routine = success("  its routine", &scene, 0..10);
        assert!(rate >= routine - 0.1, "{element:?}: {rate}, routine {routine}");
    }
}

#[test]
fn the_same_attempt_has_the_same_bits() {
    let scene = example("puck");
    let (one, other) = (attempts(&scene, 3..5), attempts(&scene, 3..5));
    assert_eq!(one, other);
    assert_ne!(one[0], one[1]);
}

#[test]
fn wrong_names_and_numbers_are_located() {
    let refused = |change: fn(&mut Scene)| {
        let mut scene = example("puck");
        change(&mut scene);
        demonstrate(&CollectConfig::default(), &scene, 0)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(|scene| waypoints(scene).hand.site = "top".into()),
        "demonstrator.hand.site: no site is named \"top\"; did you mean \"tip\"?"
    );
    assert_eq!(
        refused(|scene| {
            let skills = &mut waypoints(scene).skills;
            let stretches = skills.remove("button").unwrap();
            skills.insert("buton".into(), stretches);
            waypoints(scene).orders = Orders::Permutations { length: 1 };
        }),
        "demonstrator.skills.buton: no element is named \"buton\"; did you mean \"button\"?"
    );
    assert_eq!(
        refused(|scene| waypoints(scene).speed = 0.0),
        "demonstrator.speed: expected a positive number, m/s, found 0"
    );
    let listed = |scene: &mut Scene, text: &str| {
        let with = format!("demonstrator.skills.button=[{text}]");
        let path = format!("{FOLDER}/puck.ron");
        *scene = apprentice::scene::Scene::load_with(&path, &[with]).unwrap().value;
    };
    let mut scene = example("puck");
    for (stretch, expected) in [
        (
            "Reach(to: Site(\"buton\"))",
            "demonstrator.skills.button.0.to.Site: no site is named \"buton\"; did you mean \"button\"?",
        ),
        (
            "Open()",
            "demonstrator.skills.button.0: this moves fingers, and `demonstrator.gripper` does not say which",
        ),
        (
            "Push(by: (0.0, 0.0, 0.1), joint: \"button\")",
            "demonstrator.skills.button.0: expected either a `joint` with the position `to` which it is moved, or a way `by`",
        ),
        (
            "Reach(to: Here, facing: (approach: (0.0, 0.0, 0.0)))",
            "demonstrator.skills.button.0.facing.approach: expected a direction for `facing.approach`, found none",
        ),
    ] {
        listed(&mut scene, stretch);
        let error = demonstrate(&CollectConfig::default(), &scene, 0).unwrap_err();
        assert_eq!(error.to_string(), expected, "{stretch}");
    }
}

#[test]
fn the_order_of_the_task_is_shown_and_recorded() {
    let scene = example("puck");
    let compiled = CompiledScene::new(scene.clone()).unwrap();
    let made = attempts(&scene, 0..3);
    let done = made.iter().flatten().next().unwrap();
    assert_eq!(done.account.shown, "puck, button");
    let (element, completed) = (&done.episode.infos["element"], &done.episode.infos["completed"]);
    let apprentice::data::Values::I64(element) = &element.values else {
        panic!()
    };
    let apprentice::data::Values::U8(completed) = &completed.values else {
        panic!()
    };
    assert!(element.is_sorted() && element[0] == 0 && element.last() == Some(&1));
    assert_eq!(completed[completed.len() - 2..], [1, 1]);
    assert_eq!(done.episode.episode_return(), 2.0);
    assert_eq!(
        done.episode.observations.len(),
        done.episode.len() * compiled.observation_len()
    );
    assert!(Path::new(FOLDER).is_dir());
}

/// A gantry with a gripper over a table with a block, and a knob.
const GANTRY: &str = r#"<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.004" cone="elliptic" impratio="10"/>
  <default>
    <default class="axis"><joint type="slide" damping="40"/><position kp="2000" ctrlrange="-1 1"/></default>
    <default class="finger"><joint type="slide" range="0 0.04" damping="10"/>
      <geom type="box" size="0.012 0.005 0.03" mass="0.02" friction="2"/><position kp="400" ctrlrange="0 0.04"/></default>
  </default>
  <worldbody>
    <geom type="plane" size="1 1 0.1"/>
    <site name="shelf" pos="0.2 0.15 0.05"/>
    <geom type="box" pos="0.2 0.15 0.025" size="0.05 0.05 0.025"/>
    <body gravcomp="1"><joint name="x" class="axis" axis="1 0 0"/><geom size="0.02" mass="0.5" contype="0" conaffinity="0"/>
     <body gravcomp="1"><joint name="y" class="axis" axis="0 1 0"/><geom size="0.02" mass="0.5" contype="0" conaffinity="0"/>
      <body gravcomp="1"><joint name="z" class="axis" axis="0 0 1"/><geom size="0.02" mass="0.5" contype="0" conaffinity="0"/>
       <body gravcomp="1"><joint name="yaw" type="hinge" axis="0 0 1" damping="2" armature="0.01"/><geom size="0.02" mass="0.1" contype="0" conaffinity="0"/>
        <site name="pinch" pos="0 0 -0.1" euler="3.14159265 0 0"/>
        <body pos="0 0.005 -0.1" gravcomp="1"><joint name="left" class="finger" axis="0 1 0"/><geom class="finger" pos="0 0 0.01"/></body>
        <body pos="0 -0.005 -0.1" gravcomp="1"><joint name="right" class="finger" axis="0 -1 0"/><geom class="finger" pos="0 0 0.01"/></body>
       </body></body></body></body>
    <body name="block" pos="-0.1 0 0.02"><freejoint name="block"/><geom type="box" size="0.02 0.02 0.02" mass="0.1" friction="2"/></body>
    <body name="knob" pos="0 -0.25 0.05"><joint name="knob" axis="0 0 1" damping="0.02" frictionloss="0.02"/>
      <geom type="box" size="0.03 0.008 0.02" mass="0.05"/></body>
  </worldbody>
  <actuator>
    <position name="x" joint="x" class="axis"/><position name="y" joint="y" class="axis"/>
    <position name="z" joint="z" class="axis"/><position name="yaw" joint="yaw" kp="50" ctrlrange="-2 2"/>
    <position name="left" joint="left" class="finger"/><position name="right" joint="right" class="finger"/>
  </actuator>
</mujoco>"#;

const GANTRY_SCENE: &str = r#"(
    physics: (model: "gantry.xml", frame_skip: 10),
    control: Direct(actuators: [
        (actuator: "x"), (actuator: "y"), (actuator: "z"), (actuator: "yaw"), (actuator: "left"), (actuator: "right"),
    ]),
    observation: (noise: false, terms: [Position(joints: ["x", "y", "z", "yaw", "block", "knob"])]),
    reset: (positions: {"z": [0.35]}, ranges: {"x": [(-0.1, 0.1)]}),
    elements: [
        (name: "block on the shelf", joints: ["block"], goal: [0.2, 0.15, 0.07, 1.0, 0.0, 0.0, 0.0], threshold: 0.03),
        (name: "knob", joints: ["knob"], goal: [1.0], threshold: 0.1),
    ],
    task: (elements: ["block on the shelf", "knob"]),
    episode: (steps: 400),
    demonstrator: Waypoints(
        hand: (site: "pinch"),
        gripper: (actuators: ["left", "right"], open: 0.04, closed: 0.0, joints: ["left", "right"]),
        facing: (approach: (0.0, 0.0, -1.0), fingers: (0.0, -1.0, 0.0)),
        orders: Permutations(),
        noise: 0.002,
        start_spread: 0.02,
        skills: {
            "block on the shelf": [
                Open(time: 0.1),
                Reach(to: Body("block"), offset: (0.0, 0.0, 0.12), tolerance: 0.03),
                Grasp(at: Body("block"), offset: (0.0, 0.0, 0.005), speed: 0.2, holds: 0.02),
                Move(by: (0.0, 0.0, 0.12), tolerance: 0.03),
                Reach(to: Site("shelf"), offset: (0.0, 0.0, 0.15), tolerance: 0.02),
                Place(thing: Body("block"), at: Site("shelf"), offset: (0.0, 0.0, 0.022), speed: 0.15, tolerance: 0.006),
                Move(by: (0.0, 0.0, 0.12), tolerance: 0.03),
            ],
            "knob": [
                Open(time: 0.1),
                Reach(to: Body("knob"), offset: (0.0, 0.0, 0.12), tolerance: 0.03),
                Reach(to: Body("knob"), offset: (0.0, 0.0, 0.005), speed: 0.2),
                Fingers(to: 0.004),
                Turn(joint: "knob", to: 1.05, tolerance: 0.002),
                Open(),
                Move(by: (0.0, 0.0, -0.12), axes: Own, tolerance: 0.03, facing: (approach: (0.0, 0.0, -1.0))),
            ],
        },
    ),
)"#;

#[test]
fn things_are_grasped_put_down_and_turned() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gantry.xml"), GANTRY).unwrap();
    let path = folder.path().join("gantry.ron");
    std::fs::write(&path, GANTRY_SCENE).unwrap();
    let scene = Scene::load(&path.display().to_string()).unwrap();
    let rate = success("gantry", &scene, 0..20);
    assert!(rate >= 0.95, "{rate}");
    // Without a block to hold nobody goes on: every retry is used up.
    let mut gone = scene.clone();
    waypoints(&mut gone).step_limit = 3000;
    gone.reset
        .positions
        .insert("block".into(), vec![0.8, 0.8, 0.02, 1.0, 0.0, 0.0, 0.0]);
    for stretch in waypoints(&mut gone).skills.values_mut().flatten() {
        if let apprentice::demos::waypoints::Stretch::Grasp(grasp) = stretch {
            grasp.at = apprentice::demos::waypoints::Spot::Point(-0.1, 0.0, 0.02);
        }
    }
    let missed = demonstrate(&CollectConfig::default(), &gone, 0).unwrap().unwrap_err();
    assert_eq!(
        missed.to_string(),
        "block on the shelf not done: stretch 2 (Grasp) held nothing"
    );
}
