//! How episodes start, and what of the model differs between them.

#![allow(clippy::unwrap_used, reason = "tests")]

use apprentice::app::{StopRequest, headless};
use apprentice::scene::{CompiledScene, SceneError};
use apprentice::sim::{
    Action, Environment, EnvironmentState, Episode, FaultCount, NextObservation, Physics, SimPlugin, spawn_environment,
};
use apprentice::tick::Tick;
use bevy::prelude::*;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};

/// Three boxes on a floor, a puck on two slides, a post, an arm with a servo.
const TABLE: &str = r#"<mujoco><compiler angle="radian"/>
  <worldbody>
    <geom name="floor" type="plane" size="2 2 .1" friction="1 .005 .0001"/>
    <body name="post" pos="0 0 .1"><geom name="post" type="cylinder" size=".05 .1"/></body>
    <body name="a" pos="0.5 0 .05"><freejoint name="a"/><geom name="a" type="box" size=".03 .04 .05" mass=".2"/></body>
    <body name="b" pos="0.7 0 .05"><freejoint name="b"/><geom name="b" type="box" size=".03 .04 .05" mass=".2"/></body>
    <body name="c" pos="0.9 0 .05"><freejoint name="c"/><geom name="c" type="sphere" size=".04" mass=".2"/></body>
    <body name="puck" pos="0.2 -0.3 .03"><joint name="px" type="slide" axis="1 0 0"/><joint name="py" type="slide" axis="0 1 0" damping="2"/>
      <geom name="puck" type="cylinder" size=".04 .02" mass=".5"/></body>
    <body name="arm" pos="0 1 1"><joint name="arm" axis="0 1 0" damping=".1"/><geom type="capsule" fromto="0 0 0 0 0 -.5" size=".02" contype="0" conaffinity="0"/></body>
  </worldbody>
  <actuator><position name="servo" joint="arm" kp="5" ctrlrange="-1 1"/></actuator>
  <keyframe><key name="ready" qpos=".5 0 .05 1 0 0 0 .7 0 .05 1 0 0 0 .9 0 .04 1 0 0 0 .1 .2 .4" ctrl=".3"/></keyframe>
</mujoco>"#;

fn scene_of(model: &str, rest: &str) -> Result<CompiledScene, SceneError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.xml"), model).unwrap();
    let path = folder.path().join("mine.ron");
    let text = format!(
        "(physics: (model: \"model.xml\", frame_skip: 5),\n{rest},
        control: Direct(actuators: [(actuator: \"servo\")]),
        observation: (terms: [Position(joints: [\"arm\"])]), episode: (steps: 6))"
    );
    std::fs::write(&path, text).unwrap();
    CompiledScene::load(path.to_str().unwrap(), &[])
}

fn scene(rest: &str) -> Result<CompiledScene, SceneError> {
    scene_of(TABLE, rest)
}

fn id(model: &MjModel, kind: MjtObjBase, name: &str) -> usize {
    model.name_to_id(kind, name).unwrap()
}

fn position(scene: &CompiledScene, joint: &str) -> usize {
    scene.joint_positions(joint).unwrap().start
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_keyframe_is_the_start() {
    let scene = scene("reset: (keyframe: \"ready\", positions: {\"px\": [0.15]})").unwrap();
    let it = Environment::new(&scene, 0, 0).unwrap();
    assert_eq!(it.physics.qpos()[position(&scene, "px")], 0.15);
    assert_eq!(it.physics.qpos()[position(&scene, "py")], 0.2);
    assert_eq!(it.physics.qpos()[position(&scene, "arm")], 0.4);
    assert_eq!(it.physics.ctrl(), [0.3]);
    assert_eq!(bits(it.physics.qpos()), bits(scene.start()));
}

#[test]
fn ranges_are_uniform_and_depend_on_seed_slot_and_episode_only() {
    let scene = scene(
        "reset: (ranges: {\"arm\": [(-0.5, 1.5)], \"c\": [(0.8, 1.0), (0.0, 0.0), (0.1, 0.2), (-1.0, 1.0), (-1.0, 1.0), (-1.0, 1.0), (-1.0, 1.0)]}, velocities: {\"px\": [(-0.2, 0.2)]})",
    )
    .unwrap();
    let (arm, c) = (position(&scene, "arm"), position(&scene, "c"));
    let mut it = Environment::new(&scene, 3, 9).unwrap();
    let (mut sum, mut squares, mut speeds) = (0.0, 0.0, 0.0);
    const COUNT: u64 = 4000;
    for index in 0..COUNT {
        it.begin_anew(&scene, index);
        let qpos = it.physics.qpos();
        let angle = qpos[arm];
        assert!((-0.5..=1.5).contains(&angle) && (0.8..=1.0).contains(&qpos[c]) && qpos[c + 1] == 0.0);
        let length: f64 = qpos[c + 3..c + 7].iter().map(|part| part * part).sum();
        assert!((length - 1.0).abs() < 1e-12);
        assert_eq!(it.physics.time(), 0.0);
        sum += angle;
        squares += (angle - 0.5).powi(2);
        speeds += it.physics.qvel()[18].abs();
    }
    let count = COUNT as f64;
    // Mean ½, variance 2²/12; the mean of |v| is 0.1. The bounds are five standard errors.
    assert!((sum / count - 0.5).abs() < 5.0 * (1.0 / 3.0 / count).sqrt());
    assert!((squares / count - 1.0 / 3.0).abs() < 0.02);
    assert!((speeds / count - 0.1).abs() < 0.006, "{}", speeds / count);

    let start = |seed, slot, index| {
        let mut it = Environment::new(&scene, slot, seed).unwrap();
        it.begin_anew(&scene, index);
        bits(it.physics.qpos())
    };
    assert_eq!(start(9, 3, 7), {
        it.step(&scene, &[0.3]);
        it.begin_anew(&scene, 7);
        bits(it.physics.qpos())
    });
    assert_ne!(start(9, 3, 7), start(9, 3, 8));
    assert_ne!(start(9, 3, 7), start(9, 2, 7));
    assert_ne!(start(9, 3, 7), start(8, 3, 7));
}

const PLACED: &str = r#"reset: (
    placements: [
        (bodies: ["a", "b", "c"], area: Ring(centre: (0.0, 0.0), radius: (0.1, 0.5)), yaw: (-3.2, 3.2), surface: 0.0, clearance: 0.02, avoid: ["post"]),
        (bodies: ["puck"], area: Rectangle(x: (-0.4, 0.4), y: (-0.4, 0.4)), clearance: 0.01, radius: 0.04, avoid: ["post"]),
    ],
)"#;

#[test]
fn placed_bodies_never_overlap() {
    let scene = scene(PLACED).unwrap();
    let mut it = Environment::new(&scene, 0, 1).unwrap();
    let model = scene.model();
    let body = |name| id(model, MjtObjBase::mjOBJ_BODY, name);
    let bodies = ["a", "b", "c", "puck", "post"].map(body);
    let radii = ["a", "b", "c", "puck", "post"].map(|name| {
        if name == "puck" {
            0.04
        } else {
            model.geom_rbound()[id(model, MjtObjBase::mjOBJ_GEOM, name)]
        }
    });
    let mut quadrants = [0_usize; 4];
    let mut inner = 0_usize;
    const COUNT: u64 = 1500;
    for index in 0..COUNT {
        it.begin_anew(&scene, index);
        assert_eq!(it.faults, FaultCount(0));
        let place = |at: usize| it.physics.xpos()[bodies[at]];
        for one in 0..5 {
            for other in 0..one {
                let gap = (place(one)[0] - place(other)[0]).hypot(place(one)[1] - place(other)[1]);
                let clearance = if other < 3 { 0.02 } else { 0.01 };
                let least = radii[one] + radii[other] + clearance;
                assert!(
                    gap >= least - 1e-9,
                    "episode {index}: {one} and {other} are {gap} apart, not {least}"
                );
            }
        }
        for at in 0..3 {
            let [x, y, z] = place(at);
            assert!((0.1 - 1e-9..=0.5 + 1e-9).contains(&x.hypot(y)));
            assert!((z - [0.05, 0.05, 0.04][at]).abs() < 1e-12, "{z}");
            quadrants[usize::from(x > 0.0) + 2 * usize::from(y > 0.0)] += 1;
            // Half of the ring's area lies within sqrt((0.1² + 0.5²) / 2) = 0.36 m.
            inner += usize::from(x.hypot(y) < 0.13_f64.sqrt());
        }
        let puck = place(3);
        assert!(puck[0].abs() <= 0.4 && puck[1].abs() <= 0.4 && puck[2] == 0.03);
        // No more contacts than boxes and sphere have with the floor.
        assert!(it.physics.contact().iter().all(|contact| contact.geom.contains(&0)));
    }
    let all = 3.0 * COUNT as f64;
    for count in quadrants {
        assert!((count as f64 / all - 0.25).abs() < 0.04, "{quadrants:?}");
    }
    // Those that find the inside taken lie outside, so it is a little less than half.
    assert!((0.35..0.55).contains(&(inner as f64 / all)), "{inner}");
}

#[test]
fn yaw_is_added_to_the_rotation_of_the_start() {
    let scene = scene(
        "reset: (positions: {\"a\": [0.5, 0.0, 0.2, 0.7071067811865476, 0.7071067811865476, 0.0, 0.0]},
        placements: [(bodies: [\"a\"], area: Rectangle(x: (1.0, 1.0), y: (1.0, 1.0)), yaw: (0.5, 0.5), surface: 0.3)])",
    )
    .unwrap();
    let it = Environment::new(&scene, 0, 0).unwrap();
    let matrix = it.physics.xmat()[id(scene.model(), MjtObjBase::mjOBJ_BODY, "a")];
    // The x axis turns by 0.5 rad, the z axis lies down to -y and turns as well.
    assert!((matrix[0] - 0.5_f64.cos()).abs() < 1e-9 && (matrix[3] - 0.5_f64.sin()).abs() < 1e-9);
    assert!((matrix[2] - 0.5_f64.sin()).abs() < 1e-9 && (matrix[5] + 0.5_f64.cos()).abs() < 1e-9);
    // Lying on its side its lowest point is half the width in y below the middle.
    assert!((it.physics.qpos()[2] - 0.34).abs() < 1e-9, "{}", it.physics.qpos()[2]);
}

#[test]
fn what_settles_starts_at_rest_on_the_floor() {
    let placed = PLACED
        .replace("surface: 0.0,", "surface: 0.02,")
        .replacen("reset: (", "reset: (settle: 40,", 1);
    let scene = scene(&placed).unwrap();
    let mut it = Environment::new(&scene, 0, 5).unwrap();
    for index in 0..10 {
        it.begin_anew(&scene, index);
        assert_eq!((it.faults, it.episode.step), (FaultCount(0), 0));
        assert!((it.physics.time() - scene.fresh().time()).abs() < 1e-12);
        let a = it.physics.qpos()[2];
        assert!((a - 0.05).abs() < 0.002, "{a}");
    }
}

#[test]
fn too_little_room_is_an_error() {
    let message = |reset: &str| scene(&format!("reset: ({reset})")).unwrap_err().to_string();
    let crowded = message(
        "placements: [(bodies: [\"a\", \"b\", \"c\"], area: Rectangle(x: (0.0, 0.1), y: (0.0, 0.1)), clearance: 0.05)]",
    );
    assert!(
        crowded.contains("mine.ron:2:") && crowded.contains("found no room for a body"),
        "{crowded}"
    );
    let unknown = message("placements: [(bodies: [\"d\"], area: Rectangle(x: (0.0, 1.0), y: (0.0, 1.0)))]");
    assert!(unknown.contains("no body is named \"d\""), "{unknown}");
    let fixed = message("placements: [(bodies: [\"arm\"], area: Rectangle(x: (0.0, 1.0), y: (0.0, 1.0)))]");
    assert!(fixed.contains("neither a free joint nor two slide joints"), "{fixed}");
    let twice = message("placements: [(bodies: [\"a\", \"a\"], area: Rectangle(x: (0.0, 1.0), y: (0.0, 1.0)))]");
    assert!(twice.contains("placed twice"), "{twice}");
    let slide =
        message("placements: [(bodies: [\"puck\"], yaw: (0.0, 1.0), area: Rectangle(x: (0.0, 1.0), y: (0.0, 1.0)))]");
    assert!(slide.contains("are for free joints"), "{slide}");
    let range = message("ranges: {\"arm\": [(1.0, 0.0)]}");
    assert!(
        range.contains("reset.ranges.arm.0: must be two numbers, the lower one first"),
        "{range}"
    );
    let length = message("ranges: {\"a\": [(1.0, 1.0)]}");
    assert!(length.contains("has 1 number, the joint has 7"), "{length}");
    let key = message("keyframe: \"redy\"");
    assert!(
        key.contains("no keyframe is named \"redy\"; did you mean \"ready\"?"),
        "{key}"
    );
}

const VARIED: &str = r#"reset: (ranges: {"arm": [(-0.5, 0.5)]}),
randomise: [
    Mass(bodies: ["a", "b"], factor: Uniform(0.5, 2.0)),
    Size(bodies: ["a"], factor: Uniform(0.8, 1.25)),
    Friction(geoms: ["floor"], factor: LogUniform(0.25, 4.0)),
    Damping(joints: ["arm", "py"], factor: Uniform(0.5, 1.5), together: true),
    Gravity(factor: Uniform(0.9, 1.1)),
    Gain(actuators: ["servo"], factor: Uniform(0.7, 1.3)),
    Colour(geoms: ["a", "b"], low: (0.1, 0.2, 0.3), high: (0.2, 0.4, 0.6)),
    Position(bodies: ["post"], offset: ((-0.1, 0.1), (-0.05, 0.05), (0.0, 0.0)), yaw: (-0.5, 0.5)),
]"#;

#[test]
fn properties_are_drawn_within_their_bounds() {
    let scene = scene(VARIED).unwrap();
    let base = scene.model();
    let mut it = Environment::new(&scene, 0, 0).unwrap();
    let (a, post) = (
        id(base, MjtObjBase::mjOBJ_BODY, "a"),
        id(base, MjtObjBase::mjOBJ_BODY, "post"),
    );
    let b = id(base, MjtObjBase::mjOBJ_BODY, "b");
    let (box_, floor) = (
        id(base, MjtObjBase::mjOBJ_GEOM, "a"),
        id(base, MjtObjBase::mjOBJ_GEOM, "floor"),
    );
    let (mut masses, mut logarithms, mut same) = (0.0, 0.0, 0);
    const COUNT: u64 = 2000;
    for index in 0..COUNT {
        it.begin_anew(&scene, index);
        let model = it.physics.model();
        let mass = model.body_mass()[a] / base.body_mass()[a];
        let size = model.geom_size()[box_][0] / base.geom_size()[box_][0];
        let friction = model.geom_friction()[floor][0] / base.geom_friction()[floor][0];
        assert!(
            (0.5..=2.0).contains(&mass) && (0.8..=1.25).contains(&size),
            "{mass} {size}"
        );
        assert!((0.25..=4.0).contains(&friction));
        let inertia = model.body_inertia()[a][0] / base.body_inertia()[a][0];
        assert!((inertia - mass * size * size).abs() < 1e-9);
        let damping: Vec<f64> = [19, 20]
            .map(|dof| model.dof_damping()[dof] / base.dof_damping()[dof])
            .into();
        assert!(
            (damping[0] - damping[1]).abs() < 1e-9 && (0.5..=1.5).contains(&damping[0]),
            "{damping:?}"
        );
        let gravity = model.opt().gravity[2] / base.opt().gravity[2];
        assert!((0.9..=1.1).contains(&gravity));
        let gain = model.actuator_gainprm()[0][0] / 5.0;
        assert!((0.7..=1.3).contains(&gain) && (model.actuator_biasprm()[0][1] + 5.0 * gain).abs() < 1e-9);
        let colour = model.geom_rgba()[box_];
        assert!((0.1..=0.2).contains(&colour[0]) && (0.3..=0.6).contains(&colour[2]) && colour[3] == 1.0);
        let place = it.physics.xpos()[post];
        assert!(
            place[0].abs() <= 0.1 && place[1].abs() <= 0.05 && place[2] == 0.1,
            "{place:?}"
        );
        let turn = it.physics.xmat()[post][3].atan2(it.physics.xmat()[post][0]);
        assert!(turn.abs() <= 0.5 + 1e-9);
        // The geom that everything collides with has moved along.
        let geom = id(base, MjtObjBase::mjOBJ_GEOM, "post");
        assert!((it.physics.geom_xpos()[geom][0] - place[0]).abs() < 1e-12);
        assert!((model.body_subtreemass()[0] - model.body_mass().iter().sum::<f64>()).abs() < 1e-9);
        masses += mass;
        logarithms += friction.ln();
        same += i32::from(model.body_mass()[b] == model.body_mass()[a]);
    }
    let count = COUNT as f64;
    assert!((masses / count - 1.25).abs() < 5.0 * 1.5 / (12.0 * count).sqrt());
    assert!((logarithms / count).abs() < 5.0 * 2.0 * 4.0_f64.ln() / (12.0 * count).sqrt());
    assert_eq!(same, 0);
    // The scene's own model is as it was.
    assert_eq!((base.body_mass()[a], base.geom_friction()[floor][0]), (0.2, 1.0));
}

/// Every number of a model.
fn all_of(model: &MjModel) -> Vec<u8> {
    let mut bytes = vec![0; model.size()];
    model.save_to_buffer(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_model_of_an_episode_does_not_depend_on_those_before() {
    let scene = scene(VARIED).unwrap();
    let mut used = Environment::new(&scene, 4, 11).unwrap();
    for index in 0..20 {
        used.begin_anew(&scene, index);
        used.step(&scene, &[0.2]);
    }
    used.begin_anew(&scene, 7);
    let mut new = Environment::new(&scene, 4, 11).unwrap();
    new.begin_anew(&scene, 7);
    assert!(all_of(used.physics.model()) == all_of(new.physics.model()));
    for count in 0..50 {
        let action = [(f64::from(count) * 0.3).sin()];
        assert_eq!(used.step(&scene, &action), new.step(&scene, &action));
        assert_eq!(bits(used.physics.qpos()), bits(new.physics.qpos()));
    }
    let other = Environment::new(&scene, 5, 11).unwrap();
    assert!(all_of(used.physics.model()) != all_of(other.physics.model()));
}

#[test]
fn heavier_and_slippery_things_move_as_formulas_say() {
    // A box that slides to a stop on a floor: the way is v² / (2 μ g), whatever its mass.
    let model = r#"<mujoco><option timestep="0.001" cone="elliptic" impratio="100"/><worldbody>
        <geom name="floor" type="plane" size="9 9 1" friction="0.001"/>
        <body name="puck" pos="0 0 .05"><joint name="x" type="slide" axis="1 0 0"/><joint name="z" type="slide" axis="0 0 1"/>
          <geom name="puck" type="box" size=".05 .05 .05" mass="1" friction=".3"/></body>
        <body name="arm" pos="0 3 1"><joint name="arm"/><geom size=".1" contype="0" conaffinity="0"/></body></worldbody>
        <actuator><position name="servo" joint="arm" kp="5" ctrlrange="-1 1"/></actuator></mujoco>"#;
    let scene = scene_of(
        model,
        "reset: (velocities: {\"x\": [(1.0, 1.0)]}), randomise: [Friction(geoms: [\"puck\"], factor: Uniform(0.5, 2.0)), Mass(bodies: [\"puck\"], factor: Uniform(0.5, 3.0)), Gravity(factor: Uniform(0.7, 1.4))]",
    )
    .unwrap();
    let mut it = Environment::new(&scene, 0, 3).unwrap();
    let mut ways = Vec::new();
    for index in 0..8 {
        it.begin_anew(&scene, index);
        let geom = id(scene.model(), MjtObjBase::mjOBJ_GEOM, "puck");
        let (mu, g) = (
            it.physics.model().geom_friction()[geom][0],
            -it.physics.model().opt().gravity[2],
        );
        for _ in 0..400 {
            it.step(&scene, &[0.0]);
        }
        let (way, wanted) = (it.physics.qpos()[0], 1.0 / (2.0 * mu * g));
        assert!((way / wanted - 1.0).abs() < 0.06, "{way} m instead of {wanted} m");
        ways.push(way);
    }
    let (low, high) = ways
        .iter()
        .fold((f64::MAX, 0.0_f64), |(low, high), way| (low.min(*way), high.max(*way)));
    assert!(high > 1.3 * low);
}

fn run(scene: &CompiledScene, threads: usize, ticks: usize) -> Vec<(Vec<u64>, Vec<u32>, Episode)> {
    let mut app = headless(threads, StopRequest::default());
    app.add_plugins(SimPlugin);
    let entity = app.world_mut().spawn(scene.clone()).id();
    let all: Vec<Entity> = (0..6)
        .map(|slot| spawn_environment(app.world_mut(), entity, slot, 2).unwrap())
        .collect();
    for count in 0..ticks {
        for (slot, entity) in all.iter().enumerate() {
            app.world_mut().get_mut::<Action>(*entity).unwrap().0[0] = (count as f32 * 0.7 + slot as f32).sin();
        }
        app.world_mut().run_schedule(Tick);
    }
    let world = app.world();
    let state = |entity: &Entity| {
        let physics = world.get::<Physics>(*entity).unwrap();
        let seen = world.get::<NextObservation>(*entity).unwrap();
        let seen = seen.iter().map(|number| number.to_bits()).collect();
        (bits(physics.qpos()), seen, *world.get::<Episode>(*entity).unwrap())
    };
    all.iter().map(state).collect()
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let both = format!("{},\n{}", PLACED, VARIED.split_once(",\n").unwrap().1);
    let scene = scene(&both).unwrap();
    let one = run(&scene, 1, 40);
    assert!(one.iter().all(|(_, _, episode)| episode.index == 6));
    assert_eq!(one, run(&scene, 3, 40));
    assert!(
        one.iter()
            .enumerate()
            .all(|(at, (qpos, ..))| one[..at].iter().all(|(other, ..)| other != qpos))
    );
}

#[test]
fn an_environment_goes_on_from_the_middle_of_an_episode() {
    let both = format!("{},\n{}", PLACED, VARIED.split_once(",\n").unwrap().1);
    let scene = scene(&both).unwrap();
    let make = || {
        let mut app = headless(1, StopRequest::default());
        app.add_plugins(SimPlugin);
        let entity = app.world_mut().spawn(scene.clone()).id();
        let environment = spawn_environment(app.world_mut(), entity, 5, 17).unwrap();
        (app, environment)
    };
    let tick = |app: &mut App, environment, count: u32| {
        app.world_mut().get_mut::<Action>(environment).unwrap().0[0] = (count as f32).sin();
        app.world_mut().run_schedule(Tick);
    };
    let (mut first, environment) = make();
    // In the middle of the third episode.
    (0..15).for_each(|count| tick(&mut first, environment, count));
    let state = EnvironmentState::capture(first.world().entity(environment)).unwrap();
    let (mut second, restored) = make();
    state.restore(&mut second.world_mut().entity_mut(restored)).unwrap();
    let models = |first: &App, second: &App| {
        let model = |app: &App, entity| all_of(app.world().get::<Physics>(entity).unwrap().model());
        model(first, environment) == model(second, restored)
    };
    assert!(models(&first, &second));
    for count in 15..40 {
        tick(&mut first, environment, count);
        tick(&mut second, restored, count);
        let one = EnvironmentState::capture(first.world().entity(environment)).unwrap();
        let other = EnvironmentState::capture(second.world().entity(restored)).unwrap();
        assert!(one == other, "tick {count}");
    }
    assert!(models(&first, &second));
}

#[test]
fn scenes_without_randomness_share_their_model_and_copy_their_start() {
    let scene = scene("reset: (settle: 2)").unwrap();
    let one = Environment::new(&scene, 0, 0).unwrap();
    let mut other = Environment::new(&scene, 1, 5).unwrap();
    assert!(std::ptr::eq(one.physics.model(), other.physics.model()));
    other.step(&scene, &[0.4]);
    other.begin_anew(&scene, 9);
    assert_eq!(bits(one.physics.qpos()), bits(other.physics.qpos()));
    assert_eq!(bits(one.physics.qacc_warmstart()), bits(scene.fresh().qacc_warmstart()));
    let varied = self::scene(VARIED).unwrap();
    let one = Environment::new(&varied, 0, 0).unwrap();
    let other = Environment::new(&varied, 1, 0).unwrap();
    assert!(!std::ptr::eq(one.physics.model(), other.physics.model()));
}

#[test]
fn mistakes_in_a_randomisation_are_named() {
    let message = |list: &str| {
        scene(&format!("reset: (), randomise: [{list}]"))
            .unwrap_err()
            .to_string()
    };
    let body = message("Mass(bodies: [\"pust\"], factor: Uniform(1.0, 2.0))");
    assert!(
        body.contains("mine.ron:2:") && body.contains("no body is named \"pust\"; did you mean"),
        "{body}"
    );
    let order = message("Mass(bodies: [\"a\"], factor: Uniform(2.0, 1.0))");
    assert!(
        order.contains("randomise.0.factor: must be two numbers, the lower one first"),
        "{order}"
    );
    let zero = message("Friction(geoms: [\"a\"], factor: LogUniform(0.0, 1.0))");
    assert!(zero.contains("logarithms need positive numbers"), "{zero}");
    let massless = message("Mass(bodies: [\"a\"], factor: Uniform(0.0, 1.0))");
    assert!(massless.contains("must be at least"), "{massless}");
    let free = message("Position(bodies: [\"a\"], offset: ((0.0, 1.0), (0.0, 0.0), (0.0, 0.0)))");
    assert!(free.contains("`reset.placements` moves it"), "{free}");
    let colour = message("Colour(geoms: [\"a\"], high: (1.0, 2.0, 1.0))");
    assert!(colour.contains("three numbers from 0 to 1"), "{colour}");
    let geom = message("Colour(geoms: [\"flor\"])");
    assert!(
        geom.contains("no geom is named \"flor\"; did you mean \"floor\"?"),
        "{geom}"
    );
    let empty = message("Colour(geoms: [])");
    assert!(empty.contains("must list at least one name"), "{empty}");
}
