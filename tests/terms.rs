//! Terms about places, contacts and actions, on a two-link arm above a table-less floor with a cube: what is observed and
//! rewarded against formulas, how a task ends, drawn goals, and what is said of terms that make no sense.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::LazyLock;

use apprentice::demos::recording_scene;
use apprentice::files;
use apprentice::scene::{CompiledScene, Place, Scene};
use apprentice::sim::{Environment, EnvironmentState, InstanceOf, spawn_environment, step};
use bevy::math::DVec3;
use bevy::prelude::World;

/// Lengths of the two links and height of the shoulder, m.
const UPPER: f64 = 0.3;
const LOWER: f64 = 0.2;
const SHOULDER: f64 = 1.0;
/// Mass of the cube, kg, and half its edge, m.
const MASS: f64 = 0.5;
const HALF: f64 = 0.05;
/// Torque of the shoulder's motor at an action of 1, N m.
const GEAR: f64 = 2.0;
/// Length of a physics step, s.
const TIMESTEP: f64 = 0.002;

/// Both hinges turn about y, so positive angles point downwards. The arm touches nothing.
const MODEL: &str = r#"<mujoco><option timestep="0.002"/><worldbody>
    <geom name="floor" type="plane" size="5 5 0.1"/>
    <body name="upper" pos="0 0 1"><joint name="shoulder" axis="0 1 0" damping="0.05"/>
        <geom name="upper rod" type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" contype="0" conaffinity="0"/>
        <body name="lower" pos="0.3 0 0"><joint name="elbow" axis="0 1 0" damping="0.05"/>
            <geom name="lower rod" type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" contype="0" conaffinity="0"/>
            <site name="tip" pos="0.2 0 0"/></body></body>
    <body name="cube" pos="0.6 0.2 0.2"><freejoint name="cube"/>
        <geom name="cube side" type="box" size="0.05 0.05 0.05" mass="0.5"/></body>
    <body name="bare" pos="0 1 0"/>
    <site name="goal" pos="0.3 0 0.8"/></worldbody>
    <actuator><motor name="shoulder" joint="shoulder" gear="2"/><motor name="elbow" joint="elbow"/></actuator>
    <sensor><jointpos name="angle" joint="shoulder"/>
        <framelinvel name="tip velocity" objtype="site" objname="tip"/></sensor></mujoco>"#;

/// Parts of a scene file.
#[derive(Clone, Copy)]
struct Parts<'a> {
    observation: &'a str,
    elements: &'a str,
    task: &'a str,
    frames: u32,
    steps: u32,
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Self {
            observation: r#"Position(joints: ["shoulder", "elbow"])"#,
            elements: "",
            task: "",
            frames: 5,
            steps: 200,
        }
    }
}

fn load(parts: Parts) -> Result<CompiledScene, String> {
    static MODELS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("arm.xml"), MODEL).unwrap();
        folder
    });
    let folder = tempfile::tempdir().unwrap();
    let model = MODELS.path().join("arm.xml");
    let Parts {
        observation,
        elements,
        task,
        frames,
        steps,
    } = parts;
    let text = format!(
        r#"(
            physics: (model: {model:?}, frame_skip: {frames}),
            control: Motors(motors: [(actuator: "shoulder"), (actuator: "elbow")]),
            observation: (terms: [{observation}]),
            reset: (positions: {{"shoulder": [0.4], "elbow": [-0.7]}}),
            elements: [{elements}],
            task: ({task}),
            episode: (steps: {steps}),
        )"#
    );
    let path = folder.path().join("arm.ron");
    std::fs::write(&path, text).unwrap();
    CompiledScene::load(path.to_str().unwrap(), &[]).map_err(|error| error.to_string())
}

fn observing(observation: &str) -> CompiledScene {
    load(Parts {
        observation,
        ..Parts::default()
    })
    .unwrap()
}

fn rewarding(rewards: &str) -> CompiledScene {
    load(Parts {
        task: &format!("rewards: [{rewards}]"),
        ..Parts::default()
    })
    .unwrap()
}

fn action(step: usize) -> [f64; 2] {
    let step = step as f64;
    [(0.37 * step).sin(), 0.8 * (0.23 * step + 1.0).cos()]
}

/// The arm's angles and their velocities.
fn joints(environment: &Environment) -> ([f64; 2], [f64; 2]) {
    let (qpos, qvel) = (environment.physics.qpos(), environment.physics.qvel());
    ([qpos[0], qpos[1]], [qvel[0], qvel[1]])
}

/// Where the elbow and the tip are.
fn points(q: [f64; 2]) -> [DVec3; 2] {
    let direction = |angle: f64| DVec3::new(angle.cos(), 0.0, -angle.sin());
    let elbow = DVec3::new(0.0, 0.0, SHOULDER) + UPPER * direction(q[0]);
    [elbow, elbow + LOWER * direction(q[0] + q[1])]
}

fn tip_velocity(q: [f64; 2], v: [f64; 2]) -> DVec3 {
    let turned = |angle: f64| DVec3::new(-angle.sin(), 0.0, -angle.cos());
    UPPER * v[0] * turned(q[0]) + LOWER * (v[0] + v[1]) * turned(q[0] + q[1])
}

fn cube(environment: &Environment) -> DVec3 {
    DVec3::from_slice(&environment.physics.qpos()[2..5])
}

const GOAL: DVec3 = DVec3::new(0.3, 0.0, 0.8);

fn assert_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(worst < 1e-9, "{found:?} is not {expected:?}");
}

fn vector(vector: DVec3) -> Vec<f64> {
    vector.to_array().to_vec()
}

#[test]
fn places_and_velocities_are_those_of_the_state_after_the_step() {
    let scene = observing(
        r#"
        Place(of: [Site("tip"), Body("lower"), Geom("cube side"), Point(1, 2, 3)]),
        Place(of: [Site("tip")], relative_to: Site("goal")),
        Place(of: [Site("tip"), Offset(of: Body("upper"), by: (0.1, 0.2, 0))], relative_to: Body("lower"), axes: Own),
        LinearVelocity(of: [Site("tip"), Offset(of: Body("lower"), by: (0.2, 0, 0))]),
        LinearVelocity(of: [Site("tip")], relative_to: Body("lower"), axes: Own),
        AngularVelocity(of: [Site("tip")]),
        AngularVelocity(of: [Body("lower")], relative_to: Body("upper")),
        "#,
    );
    assert_eq!(scene.observation_len(), 12 + 3 + 6 + 6 + 3 + 3 + 3);
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    for step in 0..60 {
        let (q, v) = joints(&environment);
        let [elbow, tip] = points(q);
        let seen = &environment.measurement.0;
        let lengthwise = DVec3::new(LOWER, 0.0, 0.0);
        // The upper arm's origin seen from the elbow, and from there on in its axes.
        let (sin, cos) = q[1].sin_cos();
        let turn = |x: f64, y: f64| DVec3::new(cos * x, y, sin * x);
        let ahead = turn(0.1 - UPPER, 0.2);
        let velocity = tip_velocity(q, v);
        let mut expected = [
            tip,
            elbow,
            cube(&environment),
            DVec3::new(1.0, 2.0, 3.0),
            tip - GOAL,
            lengthwise,
        ]
        .map(vector)
        .concat();
        expected.extend(vector(ahead));
        expected.extend([velocity, velocity].map(vector).concat());
        // Along the link nothing moves; across it the tip moves downwards (-z) as the angles grow.
        expected.extend([0.0, 0.0, -LOWER * (v[0] + v[1])]);
        expected.extend([0.0, v[0] + v[1], 0.0, 0.0, v[1], 0.0]);
        assert_near(seen, &expected);
        environment.step(&scene, &action(step));
    }
    assert!(joints(&environment).1[0].abs() > 0.1, "the arm has moved");
}

#[test]
fn orientations_come_as_quaternions_matrices_and_columns() {
    let scene = observing(
        r#"
        Orientation(of: [Site("tip")]),
        Orientation(of: [Site("tip")], form: Matrix),
        Orientation(of: [Site("tip")], form: Columns),
        Orientation(of: [Body("lower")], relative_to: Body("upper")),
        "#,
    );
    let names: Vec<_> = scene.channels().iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names[..5], ["tip.qw", "tip.qx", "tip.qy", "tip.qz", "tip.r11"]);
    assert_eq!(names[names.len() - 1], "lower.qz from upper");
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let quaternion = |angle: f64| {
        let sign = if (angle / 2.0).cos() < 0.0 { -1.0 } else { 1.0 };
        [(angle / 2.0).cos(), 0.0, (angle / 2.0).sin(), 0.0].map(|part| sign * part)
    };
    for turns in -40..40 {
        let q = [0.21 * f64::from(turns), 0.1 * f64::from(turns) - 0.3];
        let mut start = scene.start().to_vec();
        start[..2].copy_from_slice(&q);
        environment.begin(&scene, 0, &start);
        let (sin, cos) = (q[0] + q[1]).sin_cos();
        let mut expected = quaternion(q[0] + q[1]).to_vec();
        expected.extend([cos, 0.0, sin, 0.0, 1.0, 0.0, -sin, 0.0, cos]);
        expected.extend([cos, 0.0, -sin, 0.0, 1.0, 0.0]);
        expected.extend(quaternion(q[1]));
        assert_near(&environment.measurement.0, &expected);
    }
}

/// Bringing poses up to date must not change where the state goes, nor the contacts.
#[test]
fn looking_does_not_change_what_happens() {
    let plain = load(Parts::default()).unwrap();
    let looking =
        observing(r#"LinearVelocity(of: [Site("tip")]), Contact(between: [(Body("cube"), Anything)], force: true)"#);
    let [mut first, mut second] = [&plain, &looking].map(|scene| Environment::new(scene, 0, 0).unwrap());
    let mut touched = 0.0_f64;
    for step in 0..200 {
        first.step(&plain, &action(step));
        second.step(&looking, &action(step));
        assert_eq!(first.physics.qpos(), second.physics.qpos());
        assert_eq!(first.physics.qvel(), second.physics.qvel());
        let force = |it: &Environment| -> f64 {
            (0..it.physics.contact().len())
                .map(|contact| it.physics.contact_force(contact)[0])
                .sum()
        };
        assert_eq!(force(&first), force(&second));
        assert_eq!(force(&second), second.measurement[3]);
        touched = touched.max(force(&first));
    }
    assert!(touched > 1.0);
}

#[test]
fn a_cube_at_rest_presses_with_its_weight() {
    let scene = observing(
        r#"
        Contact(between: [
            (Body("cube"), Geom("floor")), (Geom("floor"), Geom("cube side")), (Tree("world"), Tree("cube")),
            (Body("cube"), Tree("upper")), (Anything, Anything),
        ]),
        Contact(between: [(Body("cube"), Geom("floor")), (Body("cube"), Tree("upper"))], force: true),
        "#,
    );
    let names: Vec<_> = scene
        .channels()
        .iter()
        .map(|channel| (channel.name.as_str(), channel.unit))
        .collect();
    assert_eq!(
        (names[0], names[5]),
        (("contact cube-floor", ""), ("force cube-floor", "N"))
    );
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    assert_eq!(environment.measurement.0, [0.0; 7], "it starts in the air");
    for step in 0..190 {
        environment.step(&scene, &action(step));
    }
    assert_eq!(environment.measurement[..5], [1.0, 1.0, 1.0, 0.0, 1.0]);
    let weight = MASS * 9.81;
    assert!(
        (environment.measurement[5] - weight).abs() < 0.01 * weight,
        "{:?}",
        environment.measurement
    );
    assert_eq!(environment.measurement[6], 0.0);
    assert!((cube(&environment).z - HALF).abs() < 1e-3);
}

#[test]
fn sensors_actions_time_and_scales() {
    let scene = load(Parts {
        observation: r#"
            Position(joints: ["shoulder"], scale: 0.5),
            Velocity(joints: ["elbow"], scale: -2, noise: [0.01]),
            Sensor(sensors: ["angle", "tip velocity"]),
            PreviousAction(),
            Time(), Time(steps: 4),
            Done(shown: Task),
            Place(of: [Body("cube")], scale: 10, noise: [0, 0, 0.001]),
        "#,
        elements: r#"(name: "low", when: Height(of: Body("cube"), below: 0.15))"#,
        task: r#"elements: ["low"], ends: false"#,
        frames: 1,
        steps: 100,
    })
    .unwrap();
    let noise: Vec<_> = scene.channels().iter().map(|channel| channel.noise).collect();
    assert_eq!((noise[0], noise[1], noise[13]), (0.0, 0.02, 0.01));
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let mut before: Option<([f64; 2], [f64; 2])> = None;
    let (mut last, mut done) = ([0.0; 2], false);
    for step in 0..100_u32 {
        let (q, v) = joints(&environment);
        let seen = environment.measurement.0.clone();
        assert_eq!(seen[0], 0.5 * q[0]);
        assert!((seen[1] + 2.0 * v[1]).abs() <= 0.02);
        // Sensors are read at the beginning of a physics step.
        let (at, moving) = before.unwrap_or((q, v));
        assert_near(
            &seen[2..6],
            &[&[at[0]], &tip_velocity(at, moving).to_array()[..]].concat(),
        );
        assert_eq!(seen[6..8], last);
        assert_eq!(seen[8], 1.0 - f64::from(step) / 100.0);
        assert_eq!(seen[9], (1.0 - f64::from(step) / 4.0).max(0.0));
        done |= cube(&environment).z <= 0.15;
        assert_eq!(seen[10], f64::from(done));
        let place = cube(&environment);
        assert_near(&seen[11..13], &[10.0 * place.x, 10.0 * place.y]);
        assert!((seen[13] - 10.0 * cube(&environment).z).abs() <= 0.01);
        before = Some((q, v));
        last = action(step as usize).map(|number| 1.5 * number);
        environment.step(&scene, &last);
        last = last.map(|number| number.clamp(-1.0, 1.0));
    }
    assert!(done && environment.outcome.truncated);
    environment.begin_anew(&scene, 1);
    assert_eq!(environment.measurement[6..11], [0.0, 0.0, 1.0, 1.0, 0.0]);
}

/// Every reward against its formula.
#[test]
fn rewards_are_what_their_formulas_say() {
    type Formula = fn(&Environment) -> f64;
    fn distance(it: &Environment) -> f64 {
        points(joints(it).0)[1].distance(GOAL)
    }
    fn away(it: &Environment) -> f64 {
        let q = joints(it).0;
        (q[0] - 0.1).hypot(q[1] + 0.2)
    }
    let cases: [(&str, Formula); 17] = [
        (r#"Distance(from: Site("tip"), to: Site("goal"))"#, |it| -distance(it)),
        (
            r#"Distance(from: Site("tip"), to: Site("goal"), shape: Squared, weight: 3)"#,
            |it| -3.0 * distance(it).powi(2),
        ),
        (
            r#"Distance(from: Site("tip"), to: Site("goal"), shape: Exponential(0.1))"#,
            |it| (-distance(it) / 0.1).exp(),
        ),
        (
            r#"Distance(from: Site("tip"), to: Point(0.3, 0, 0.8), shape: Tanh(0.2))"#,
            |it| 1.0 - (distance(it) / 0.2).tanh(),
        ),
        (r#"JointNear(joints: ["shoulder", "elbow"], goal: [0.1, -0.2])"#, |it| {
            -away(it)
        }),
        (r#"Height(of: Body("cube"), above: 0.1, weight: 2)"#, |it| {
            2.0 * (cube(it).z - 0.1).max(0.0)
        }),
        (r#"Height(of: Body("cube"), at_most: 0.12)"#, |it| cube(it).z.min(0.12)),
        (r#"Upright(of: Site("tip"))"#, |it| {
            let q = joints(it).0;
            (q[0] + q[1]).cos()
        }),
        (r#"Speed(of: Site("tip"), along: (0, 0, -3))"#, |it| {
            let (q, v) = joints(it);
            -tip_velocity(q, v).z
        }),
        (r#"Speed(of: Body("cube"), along: (0, 0, -1), at_most: 0.5)"#, |it| {
            (-it.physics.qvel()[4]).min(0.5)
        }),
        (
            r#"Reached(of: Site("tip"), zone: Sphere(centre: Site("goal"), radius: 0.2), value: 5)"#,
            |it| {
                if distance(it) < 0.2 { 5.0 } else { 0.0 }
            },
        ),
        (
            r#"Reached(of: Body("cube"), zone: Box(centre: Point(0.6, 0.2, 0), half: (0.1, inf, 0.12)))"#,
            |it| f64::from(cube(it).z <= 0.12),
        ),
        (
            r#"When(condition: Joint(joint: "shoulder", above: 0.4, below: 0.6), value: -1)"#,
            |it| -f64::from((0.4..=0.6).contains(&joints(it).0[0])),
        ),
        (r#"When(condition: Not(Slow(of: Site("tip"), below: 0.3)))"#, |it| {
            let (q, v) = joints(it);
            f64::from(tip_velocity(q, v).length() > 0.3)
        }),
        (r#"When(condition: Upright(of: Body("upper"), within: 25))"#, |it| {
            f64::from(joints(it).0[0].abs() < 25_f64.to_radians())
        }),
        (
            r#"When(condition: Aligned(of: Body("lower"), to: Body("upper"), within: 30))"#,
            |it| f64::from(joints(it).0[1].abs() < 30_f64.to_radians()),
        ),
        (r#"Constant(value: -0.25)"#, |_| -0.25),
    ];
    for (text, formula) in cases {
        let scene = rewarding(text);
        let mut environment = Environment::new(&scene, 0, 0).unwrap();
        let mut different = std::collections::BTreeSet::new();
        for step in 0..120 {
            let reward = environment.step(&scene, &action(step)).reward;
            let expected = formula(&environment);
            assert!(
                (f64::from(reward) - expected).abs() < 1e-6,
                "{text}, step {step}: {reward}, not {expected}"
            );
            different.insert(reward.to_bits());
        }
        assert!(
            different.len() > 1 || text.starts_with("Constant"),
            "{text} is always the same"
        );
    }
}

#[test]
fn contacts_and_conditions_pay_in_every_step_or_once() {
    let scene = rewarding(
        r#"
        Contact(between: (Body("cube"), Geom("floor")), value: 2, name: "touching"),
        Contact(between: (Body("cube"), Geom("floor")), value: 30, once: true, name: "touched"),
        When(condition: All([Contact(between: (Body("cube"), Anything)), Height(of: Body("cube"), below: 0.3)]), once: true),
        When(condition: Any([Sensor(sensor: "angle", above: 100), Joint(joint: "elbow", below: -100)])),
        "#,
    );
    assert_eq!(scene.figures(), ["touching", "touched"]);
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let (mut touching, mut sum) = (0, 0.0);
    for step in 0..100 {
        let reward = environment.step(&scene, &action(step)).reward;
        let touches = !environment.physics.contact().is_empty();
        let first = if touches && touching == 0 { 31.0 } else { 0.0 };
        touching += u32::from(touches);
        assert_eq!(reward, if touches { 2.0 } else { 0.0 } + first);
        sum += f64::from(reward);
    }
    assert!((10..100).contains(&touching));
    assert_eq!(environment.progress.figures, [2.0 * f64::from(touching), 30.0]);
    assert_eq!(sum, environment.progress.figures.iter().sum::<f64>() + 1.0);
    environment.begin_anew(&scene, 1);
    assert_eq!(environment.progress.figures, [0.0, 0.0]);
}

/// Shaping by a potential adds up to the difference of the potential, whatever happened between.
#[test]
fn progress_adds_up_to_the_way_that_was_made() {
    let scene = load(Parts {
        elements: r#"(name: "there", when: Near(of: Site("tip"), to: Site("goal"), within: 0.01))"#,
        task: r#"scale: 10, rewards: [
            Progress(from: Site("tip"), to: Site("goal"), weight: 3, name: "way"),
            ElementProgress(element: "there", name: "element"),
            ElementDistance(element: "there", weight: 0, shape: Squared),
        ]"#,
        ..Parts::default()
    })
    .unwrap();
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let distance = |it: &Environment| points(joints(it).0)[1].distance(GOAL);
    let start = distance(&environment);
    for step in 0..150 {
        environment.step(&scene, &action(step));
        let way = start - distance(&environment);
        assert_near(&environment.progress.figures, &[30.0 * way, 10.0 * way]);
        assert_near(&environment.progress.distance, &[distance(&environment)]);
    }
    assert!((start - distance(&environment)).abs() > 0.01);
}

#[test]
fn actions_and_energy_cost() {
    let scene = load(Parts {
        task: r#"rewards: [
            ActionCost(weight: 0.5, name: "size"), ActionRate(weight: 2, name: "rate"), EnergyCost(weight: 3, name: "work"),
        ]"#,
        frames: 1,
        ..Parts::default()
    })
    .unwrap();
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let (mut size, mut rate, mut work, mut last) = (0.0, 0.0, 0.0, [0.0; 2]);
    for step in 0..100 {
        let action = action(step);
        let moving = joints(&environment).1;
        size -= 0.5 * (action[0].powi(2) + action[1].powi(2));
        rate -= 2.0 * ((action[0] - last[0]).powi(2) + (action[1] - last[1]).powi(2));
        work -= 3.0 * TIMESTEP * ((GEAR * action[0] * moving[0]).abs() + (action[1] * moving[1]).abs());
        environment.step(&scene, &action);
        last = action;
        assert_near(&environment.progress.figures, &[size, rate, work]);
    }
    assert!(work < -0.01);
    // The next episode knows nothing of the last action.
    environment.begin_anew(&scene, 1);
    environment.step(&scene, &[0.5, 0.0]);
    assert_near(&environment.progress.figures[1..2], &[-0.5]);
}

#[test]
fn a_task_succeeds_and_fails_as_it_says() {
    let elements = r#"
        (name: "fallen", when: Height(of: Body("cube"), below: 0.1), value: 3),
        (name: "landed", when: Contact(between: (Body("cube"), Geom("floor"))), value: 0.5),
        (name: "never", joints: ["shoulder"], goal: [50], threshold: 0.1)"#;
    let run = |task: &str| {
        let scene = load(Parts {
            elements,
            task,
            ..Parts::default()
        })
        .unwrap();
        let mut environment = Environment::new(&scene, 0, 0).unwrap();
        let mut rewards = Vec::new();
        while !environment.outcome.ended() {
            rewards.push(environment.step(&scene, &[0.0, 0.0]).reward);
        }
        let paid: Vec<f32> = rewards.iter().copied().filter(|reward| *reward != 0.0).collect();
        (paid, environment.outcome.terminated, rewards.len())
    };
    // From 20 cm a cube of 10 cm falls 10 cm before it is low enough, 15 cm until it lands.
    let fall = |height: f64| ((2.0 * height / 9.81).sqrt() / (5.0 * TIMESTEP)).ceil() as usize;
    let (fallen, landed) = (fall(0.1), fall(0.15));
    let both = r#"elements: ["fallen", "landed"]"#;
    let (paid, terminated, steps) = run(both);
    assert_eq!((paid, terminated), (vec![3.0, 0.5], true));
    assert!(steps.abs_diff(landed) <= 1, "{steps}, not {landed}");
    assert_eq!(run(&format!("{both}, ends: false")), (vec![3.0, 0.5], false, 200));
    let (paid, terminated, steps) = run(&format!(
        r#"{both}, success: ["fallen"], scale: 2, rewards: [Completion(value: 7)]"#
    ));
    assert_eq!((paid, terminated), (vec![20.0], true));
    assert!(steps.abs_diff(fallen) <= 1, "{steps}, not {fallen}");
    let bonus = run(&format!(
        r#"{both}, success: ["landed"], ends: false, rewards: [Completion(value: 7)]"#
    ));
    assert_eq!(bonus, (vec![3.0, 7.5], false, 200), "the bonus comes once");
    let (paid, terminated, steps) =
        run(r#"elements: ["never"], terminate: [Height(of: Body("cube"), below: 0.1)], penalty: 4"#);
    assert_eq!((paid, terminated), (vec![-4.0], true));
    assert!(steps.abs_diff(fallen) <= 1, "{steps}, not {fallen}");
    // Success comes before failure.
    let same = r#"elements: ["fallen"], terminate: [Height(of: Body("cube"), below: 0.1)], penalty: 4"#;
    assert_eq!(run(same).0, [3.0]);
    assert!(!run("").1, "without elements nothing ends");
    // Elements that are not in the task count for success once they have been reached.
    let listed = run(r#"elements: ["landed"], success: ["fallen", "landed"]"#);
    assert_eq!((listed.0, listed.1), (vec![0.5], true));
}

#[test]
fn goals_are_drawn_for_each_episode() {
    let scene = load(Parts {
        observation: r#"
            Position(joints: ["shoulder", "elbow"]), Goal(shown: Task),
            GoalOf(shown: Task), GoalOf(shown: Elements(["reach"]), relative_to: Site("tip")),
            GoalOf(shown: Elements(["zone"])),
        "#,
        elements: r#"
            (name: "reach", when: Near(of: Site("tip"), to: Site("goal"), within: 0.05), spread: [0.2, 0, 0.1]),
            (name: "bend", joints: ["elbow"], goal: [1], threshold: 0.1, spread: [0.5]),
            (name: "zone", when: Inside(of: Body("cube"), zone: Box(centre: Body("upper"), half: (1, 1, 1))))"#,
        task: r#"elements: ["reach", "bend"], rewards: [ActionCost()]"#,
        ..Parts::default()
    })
    .unwrap();
    let names: Vec<_> = scene.channels().iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names[2..5], ["goal of shoulder", "goal of elbow", "goal of reach.x"]);
    assert_eq!(names[7..9], ["goal of bend", "goal of reach.x from tip"]);
    let mut environment = Environment::new(&scene, 3, 5).unwrap();
    let mut goals = Vec::new();
    for episode in 0..200 {
        environment.begin_anew(&scene, episode);
        environment.step(&scene, &[0.1, -0.2]);
        let q = joints(&environment).0;
        let seen = environment.measurement.0.clone();
        let (target, bend) = (DVec3::from_slice(&seen[4..7]), seen[7]);
        let off = target - GOAL;
        assert!(
            off.x.abs() <= 0.2 && off.y == 0.0 && off.z.abs() <= 0.1 && (bend - 1.0).abs() <= 0.5,
            "{seen:?}"
        );
        assert_eq!(seen[2..4], [0.0, bend]);
        assert_near(&seen[8..11], &vector(target - points(q)[1]));
        assert_near(&seen[11..14], &[0.0, 0.0, SHOULDER]);
        let distances = [points(q)[1].distance(target), (q[1] - bend).abs()];
        assert_near(&environment.progress.distance[..2], &distances);
        goals.push([off.x, off.z, bend - 1.0]);
    }
    for (part, amplitude) in [0.2, 0.1, 0.5].into_iter().enumerate() {
        let mean = goals.iter().map(|goal| goal[part]).sum::<f64>() / 200.0;
        let square = goals.iter().map(|goal| goal[part].powi(2)).sum::<f64>() / 200.0;
        // Uniform: the deviation is the amplitude over √3.
        assert!(mean.abs() < 0.15 * amplitude, "{part}: {mean}");
        assert!(
            (square.sqrt() / amplitude - 3_f64.sqrt().recip()).abs() < 0.05,
            "{part}: {square}"
        );
    }
    let mut again = Environment::new(&scene, 3, 5).unwrap();
    again.begin_anew(&scene, 17);
    assert_eq!(again.progress.memory[..4].len(), 4);
    assert_near(
        &[again.progress.memory[0], again.progress.memory[3]],
        &[goals[17][0], goals[17][2]],
    );
    let other = Environment::new(&scene, 4, 5).unwrap();
    assert_ne!(
        other.progress.memory[0],
        Environment::new(&scene, 3, 5).unwrap().progress.memory[0]
    );
}

#[test]
fn a_stored_state_keeps_goals_and_actions() {
    let scene = load(Parts {
        observation: r#"GoalOf(shown: Task), PreviousAction(), Done(shown: Task)"#,
        elements: r#"(name: "reach", when: Near(of: Site("tip"), to: Site("goal"), within: 0.05), spread: [0.2, 0, 0.1])"#,
        task: r#"elements: ["reach"], rewards: [Progress(from: Site("tip"), to: Site("goal")), ActionRate()]"#,
        ..Parts::default()
    })
    .unwrap();
    let mut world = World::new();
    let shared = world.spawn(scene.clone()).id();
    let mut by_hand = Environment::new(&scene, 0, 0).unwrap();
    for step in 0..10 {
        by_hand.step(&scene, &action(step));
    }
    let from = world.spawn((by_hand, InstanceOf(shared))).id();
    let to = spawn_environment(&mut world, shared, 1, 9).unwrap();
    let state = EnvironmentState::capture(world.entity(from)).unwrap();
    state.restore(&mut world.entity_mut(to)).unwrap();
    assert_eq!(EnvironmentState::capture(world.entity(to)).unwrap(), state);
}

#[test]
fn recordings_see_as_much_as_agents_and_never_end() {
    let scene = load(Parts {
        observation: r#"GoalOf(shown: Task), Done(shown: Task), Time(), Goal(shown: Task), Position(joints: ["elbow"])"#,
        elements: r#"(name: "low", when: Height(of: Body("cube"), below: 0.1)), (name: "bend", joints: ["elbow"], goal: [1], threshold: 0.1)"#,
        task: r#"elements: ["bend"], success: ["low"], terminate: [Height(of: Body("cube"), below: 0.05)]"#,
        steps: 50,
        ..Parts::default()
    })
    .unwrap();
    let recording = CompiledScene::new(recording_scene(scene.scene())).unwrap();
    let names = |scene: &CompiledScene| -> Vec<String> {
        scene.channels().iter().map(|channel| channel.name.clone()).collect()
    };
    // The done flag of "bend" and its goals are shown all the same.
    assert_eq!(names(&recording), names(&scene));
    let [mut seen, mut recorded] = [&scene, &recording].map(|scene| Environment::new(scene, 0, 0).unwrap());
    for step in 0..49 {
        if !seen.outcome.ended() {
            seen.step(&scene, &action(step));
            assert_eq!(recorded.step(&recording, &action(step)).reward, 0.0);
            assert_eq!(seen.observation, recorded.observation);
        }
    }
    assert!(seen.outcome.terminated && !recorded.outcome.ended(), "the cube is low");
}

/// Scenes are stored beside what was learned in them.
#[test]
fn descriptions_survive_being_stored() {
    let scene = load(Parts {
        observation: r#"Place(of: [Offset(of: Site("tip"), by: (0, 0, 0.1))], axes: Own, noise: [0.1]), Time()"#,
        elements: r#"(name: "a", when: Not(All([Slow(of: Body("cube"), below: 1), Joint(joint: "elbow", above: 2)])))"#,
        task: r#"terminate: [Any([Contact(between: (Tree("upper"), Anything))])], rewards: [
            Height(of: Body("cube")), Reached(of: Site("tip"), zone: Box(centre: Site("goal"), half: (1, inf, 1))),
            Distance(from: Site("tip"), to: Point(1, 2, 3), shape: Exponential(2)), Completion(), ActionCost(),
        ]"#,
        ..Parts::default()
    })
    .unwrap();
    let text = files::to_text(scene.scene()).unwrap();
    let read: Scene = files::from_text(std::path::Path::new("scene.ron"), &text).unwrap();
    assert_eq!(read, *scene.scene());
    CompiledScene::new(read).unwrap();
}

#[test]
fn places_can_be_asked_for_by_others() {
    let scene = load(Parts::default()).unwrap();
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let place = Place::Offset {
        of: Box::new(Place::Site("tip".into())),
        by: (0.0, 0.0, 0.1),
    };
    let resolved = scene.place(&place, "demonstrator.to").unwrap();
    step::place(&mut environment.physics, scene.start());
    let (q, _) = joints(&environment);
    let up = DVec3::new((q[0] + q[1]).sin(), 0.0, (q[0] + q[1]).cos());
    assert_near(
        &resolved.position(&environment.physics).to_array(),
        &(points(q)[1] + 0.1 * up).to_array(),
    );
    let error = scene.place(&Place::Body("cub".into()), "demonstrator.to").unwrap_err();
    assert_eq!(
        error.to_string(),
        "demonstrator.to.0: no body is named \"cub\"; did you mean \"cube\"?"
    );
}

/// What is wrong, where, and what was probably meant.
#[test]
fn faults_are_told_with_their_place() {
    let cases = [
        (
            "o",
            r#"Place(of: [Site("tap")])"#,
            r#"observation.terms.0.of.0.0: no site is named "tap"; did you mean "tip"?"#,
        ),
        (
            "o",
            r#"Place(of: [])"#,
            "observation.terms.0.of: must list at least one place",
        ),
        ("o", r#"Place(of: [Geom("tip")])"#, r#"no geom is named "tip""#),
        (
            "o",
            r#"Sensor(sensors: ["angel"])"#,
            r#"sensors.0: no sensor is named "angel"; did you mean "angle"?"#,
        ),
        (
            "o",
            r#"Place(of: [Body("cube")], noise: [1, 2])"#,
            "noise: has 2 numbers, must have 0, 1 or 3",
        ),
        ("o", r#"Place(of: [Body("cube")], scale: inf)"#, "scale: must be finite"),
        (
            "o",
            r#"Orientation(of: [Body("cube")], form: Euler)"#,
            "unknown variant `Euler` of `Rotation`",
        ),
        (
            "o",
            r#"Contact(between: [(Body("bare"), Anything)])"#,
            r#"between.0.0.0: "bare" has no geom"#,
        ),
        (
            "o",
            "Done(shown: Elements([\"x\"]))",
            "shown.0.0: no element is named \"x\"",
        ),
        ("o", "Time(steps: 0)", "steps: must be at least 1"),
        (
            "e",
            r#"(name: "a", when: Near(of: Body("cube"), to: Site("gaol"), within: 0.1))"#,
            r#"elements.0.when.to.0: no site is named "gaol"; did you mean "goal"?"#,
        ),
        (
            "e",
            r#"(name: "a", when: Near(of: Body("cube"), to: Site("goal"), within: 0))"#,
            "when.within: must be a positive number",
        ),
        (
            "e",
            r#"(name: "a", when: Joint(joint: "cube", above: 1))"#,
            "when.joint: expected a hinge or slide joint",
        ),
        (
            "e",
            r#"(name: "a", when: Joint(joint: "elbow"))"#,
            "when: expected `above` or `below` or both",
        ),
        (
            "e",
            r#"(name: "a", when: Joint(joint: "elbow", above: 2, below: 1))"#,
            "when.above: no number is",
        ),
        (
            "e",
            r#"(name: "a", when: Upright(of: Body("cube"), within: 181))"#,
            "an angle from 0 to 180 degrees",
        ),
        (
            "e",
            r#"(name: "a", when: Not(All([])))"#,
            "must list at least one condition",
        ),
        (
            "e",
            r#"(name: "a", when: Any([Slow(of: Body("cub"), below: 1)]))"#,
            "when.0.0.of.0: no body is named",
        ),
        (
            "e",
            r#"(name: "a", when: Slow(of: Body("cube"), below: 1), threshold: 1)"#,
            "elements.0.threshold: has no meaning beside `when`",
        ),
        (
            "e",
            r#"(name: "a", when: Slow(of: Body("cube"), below: 1), spread: [1])"#,
            "elements.0.spread: has no meaning",
        ),
        (
            "e",
            r#"(name: "a", joints: ["elbow"], goal: [1], threshold: 1, spread: [1, 2])"#,
            "spread: has 2 numbers, the goal has 1",
        ),
        (
            "e",
            r#"(name: "a", joints: ["elbow"], goal: [1])"#,
            "elements.0.threshold: must be a positive number",
        ),
        (
            "e",
            r#"(name: "a", when: Inside(of: Body("cube"), zone: Sphere(centre: Point(0, 0, 0), radius: -1)))"#,
            "zone.radius: must be positive",
        ),
        (
            "t",
            r#"rewards: [Distance(from: Site("tip"), to: Site("goal"), shape: Tanh(0))]"#,
            "task.rewards.0.shape.0: must be a positive number",
        ),
        (
            "t",
            r#"rewards: [Distance(from: Site("tip"), to: Site("goal"), weight: inf)]"#,
            "weight: must be finite",
        ),
        (
            "t",
            r#"rewards: [Constant(value: 1, name: "a"), Constant(value: 1, name: "a")]"#,
            r#"task.rewards.1.name: a second figure is named "a""#,
        ),
        (
            "t",
            r#"rewards: [Speed(of: Site("tip"), along: (0, 0, 0))]"#,
            "along: must be a direction",
        ),
        (
            "t",
            r#"rewards: [JointNear(joints: ["elbow"], goal: [])]"#,
            "goal: has 0 numbers, the joints have 1",
        ),
        (
            "t",
            r#"rewards: [ElementProgress(element: "b")]"#,
            "element: no element is named \"b\"",
        ),
        ("t", r#"success: ["b"]"#, "task.success.0: no element is named \"b\""),
        (
            "t",
            r#"terminate: [Height(of: Body("cube"))]"#,
            "task.terminate.0: expected `above` or `below`",
        ),
        ("t", r#"penalty: inf"#, "task.penalty: must be finite"),
        (
            "t",
            r#"rewards: [Hight(of: Body("cube"))]"#,
            "unknown variant `Hight` of `Reward`; did you mean `Height`?",
        ),
    ];
    for (part, text, expected) in cases {
        let parts = match part {
            "o" => Parts {
                observation: text,
                ..Parts::default()
            },
            "e" => Parts {
                elements: text,
                ..Parts::default()
            },
            _ => Parts {
                task: text,
                ..Parts::default()
            },
        };
        let error = load(parts).err().unwrap_or_else(|| panic!("{text} is fine"));
        assert!(error.contains(expected), "{text}: {error}");
        // The place in the file: the line of the part, and a column.
        assert!(error.contains("arm.ron:"), "{text}: {error}");
    }
    let error = load(Parts {
        observation: r#"Place(of: [Site("tap")])"#,
        ..Parts::default()
    });
    // Where the name stands in the file.
    let error = error.unwrap_err();
    assert!(error.contains("arm.ron:4:51: "), "{error}");
}
