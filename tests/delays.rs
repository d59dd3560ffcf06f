//! Actions that take effect later, and observations of earlier states.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use apprentice::app::{StopRequest, headless};
use apprentice::scene::{CompiledScene, SceneError};
use apprentice::sim::{
    Action, Environment, EnvironmentState, Fault, NextObservation, NextPixels, Observation, Pixels, SimPlugin,
    spawn_environment,
};
use apprentice::tick::Tick;
use bevy::prelude::*;

/// A cart with a motor and a pole with a servo over a floor.
const CART: &str = r#"<mujoco><compiler angle="radian"/>
  <worldbody>
    <geom name="floor" type="plane" size="9 9 .1"/>
    <body name="cart" pos="0 0 .5"><joint name="x" type="slide" axis="1 0 0" damping="1"/>
      <geom name="cart" type="box" size=".2 .1 .1" mass="1" rgba="1 0 0 1"/>
      <body name="pole"><joint name="pole" axis="0 1 0" damping=".1"/>
        <geom type="capsule" fromto="0 0 .1 0 0 .6" size=".03" mass=".1" contype="0" conaffinity="0"/>
        <site name="tip" pos="0 0 .6"/></body>
    </body>
  </worldbody>
  <actuator><motor name="push" joint="x" gear="5"/><position name="servo" joint="pole" kp="5" ctrlrange="-2 2"/></actuator>
  <keyframe><key name="ready" qpos=".1 .3" ctrl="0 .4"/></keyframe>
</mujoco>"#;

const MOTOR: &str = r#"Motors(motors: [(actuator: "push"), (actuator: "servo")])"#;
const SERVO: &str =
    r#"VelocityLimitedPosition(speed: 2.0, servos: [(joint: "pole", actuator: "servo", range: (-1.5, 1.5))])"#;
const DIRECT: &str = r#"Direct(actuators: [(actuator: "push", range: (-1, 1)), (actuator: "servo")])"#;
const ARM: &str = r#"EndEffector(site: "tip", joints: [(joint: "pole", actuator: "servo")], speed: 0.3)"#;
const EYE: &str =
    r#", pixels: (eye: Carried(body: "cart", offset: (0, -2, 1), target: (0.3, 0, 0)), size: 16, frames: 2)"#;

fn scene_with(control: &str, delays: &str, noise: f64, pixels: &str) -> Result<CompiledScene, SceneError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cart.xml"), CART).unwrap();
    let path = folder.path().join("cart.ron");
    let text = format!(
        r#"(physics: (model: "cart.xml", frame_skip: 5),
        control: {control},
        observation: (terms: [
            Position(joints: ["x", "pole"], noise: [{noise}]), Velocity(joints: ["x"]), PreviousAction(), Time(),
        ]{pixels}),
        reset: (keyframe: "ready"),
        {delays}
        episode: (steps: 20))"#
    );
    std::fs::write(&path, text).unwrap();
    CompiledScene::load(path.to_str().unwrap(), &[])
}

fn scene(control: &str, delays: &str) -> CompiledScene {
    scene_with(control, delays, 0.0, "").unwrap()
}

fn action(len: usize, step: usize) -> Vec<f64> {
    (0..len).map(|at| (0.7 * step as f64 + at as f64).sin()).collect()
}

fn bits(environment: &Environment) -> Vec<u64> {
    let physics = &environment.physics;
    let all = physics.qpos().iter().chain(physics.qvel()).chain(physics.ctrl());
    all.map(|number| number.to_bits()).collect()
}

#[test]
fn an_action_takes_effect_as_many_steps_later_as_the_delay_says() {
    for control in [MOTOR, SERVO, ARM] {
        let at_once = scene(control, "");
        for delay in [1, 3] {
            let late = scene(control, &format!("delays: (action: Steps({delay})),"));
            let len = late.action_len();
            let mut one = Environment::new(&at_once, 0, 0).unwrap();
            let mut other = Environment::new(&late, 0, 0).unwrap();
            assert_eq!(other.delayed.steps(), (delay, 0));
            for step in 0..15_usize {
                // Nothing is what no velocity and no force ask for.
                let arrives = step.checked_sub(delay).map_or(vec![0.0; len], |sent| action(len, sent));
                one.step(&at_once, &arrives);
                other.step(&late, &action(len, step));
                assert_eq!(bits(&one), bits(&other), "{control}, delay {delay}, step {step}");
            }
        }
    }
}

#[test]
fn direct_controls_stay_as_at_the_start_until_an_action_arrives() {
    let scene = scene(DIRECT, "delays: (action: Steps(2)),");
    let mut it = Environment::new(&scene, 0, 0).unwrap();
    for step in 0..5 {
        it.step(&scene, &[0.1 * step as f32, -0.5]);
        let expected = match step {
            0 | 1 => [0.0, 0.4],
            _ => [0.1 * f64::from(step as f32 - 2.0), -1.0],
        };
        let found = it.physics.ctrl();
        assert!(
            (found[0] - expected[0]).abs() < 1e-6 && (found[1] - expected[1]).abs() < 1e-6,
            "{found:?}"
        );
    }
    let outcome = it.step(&scene, &[f32::NAN, 0.0]);
    assert_eq!(outcome.fault, Some(Fault::Action), "it is refused when it is sent");
}

#[test]
fn an_observation_is_of_an_earlier_state_but_for_what_is_known_at_once() {
    for delay in [1, 4] {
        let at_once = scene(MOTOR, "");
        let late = scene(MOTOR, &format!("delays: (observation: Steps({delay})),"));
        let mut one = Environment::new(&at_once, 0, 0).unwrap();
        let mut other = Environment::new(&late, 0, 0).unwrap();
        let mut seen = vec![one.observation.0.clone()];
        for step in 0..12 {
            one.step(&at_once, &action(2, step));
            other.step(&late, &action(2, step));
            seen.push(one.observation.0.clone());
            let then = &seen[(step + 1).saturating_sub(delay)];
            assert_eq!(other.observation.0[..3], then[..3], "step {step}");
            assert_eq!(
                other.observation.0[3..],
                seen[step + 1][3..],
                "the action and the time are known"
            );
            assert_eq!(
                other.measurement.0, one.measurement.0,
                "the control law knows the state"
            );
            assert_eq!(bits(&one), bits(&other));
        }
    }
}

#[test]
fn drawn_delays_follow_from_seed_slot_and_episode() {
    let scene = scene(MOTOR, "delays: (action: Uniform(1, 3), observation: Uniform(0, 2)),");
    let (mut one, mut other) = (
        Environment::new(&scene, 3, 7).unwrap(),
        Environment::new(&scene, 3, 7).unwrap(),
    );
    let mut drawn = BTreeSet::new();
    let mut counts = [0_u32; 3];
    for episode in 0..900 {
        one.begin_anew(&scene, episode);
        drawn.insert(one.delayed.steps());
        counts[one.delayed.steps().0 - 1] += 1;
    }
    assert_eq!(drawn.len(), 9, "{drawn:?}");
    assert!(counts.iter().all(|count| (230..370).contains(count)), "{counts:?}");
    other.begin_anew(&scene, 899);
    assert_eq!(one.delayed.steps(), other.delayed.steps());
    for step in 0..10 {
        one.step(&scene, &action(2, step));
        other.step(&scene, &action(2, step));
    }
    assert_eq!(one.delayed, other.delayed);
    assert_eq!(bits(&one), bits(&other), "nothing is left of earlier episodes");
}

/// A world with an environment, whose actions follow from the tick.
fn world(scene: &CompiledScene) -> (App, Entity) {
    let mut app = headless(1, StopRequest::default());
    app.add_plugins(SimPlugin);
    let entity = app.world_mut().spawn(scene.clone()).id();
    let environment = spawn_environment(app.world_mut(), entity, 2, 11).unwrap();
    (app, environment)
}

fn tick(app: &mut App, environment: Entity, count: usize) {
    let mut act = app.world_mut().get_mut::<Action>(environment).unwrap();
    for (to, from) in act.0.iter_mut().zip(action(2, count)) {
        *to = from as f32;
    }
    app.world_mut().run_schedule(Tick);
}

const BOTH: &str = "delays: (action: Uniform(0, 4), observation: Uniform(1, 5)),";

#[test]
fn pictures_are_as_late_as_the_other_numbers() {
    let (at_once, late) = (
        scene_with(MOTOR, "", 0.0, EYE).unwrap(),
        scene_with(MOTOR, "delays: (observation: Steps(3)),", 0.0, EYE).unwrap(),
    );
    let ((mut one, first), (mut other, second)) = (world(&at_once), world(&late));
    let mut alone = Environment::new(&late, 2, 11).unwrap();
    let one_picture = 3 * 16 * 16;
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for count in 0..18 {
        tick(&mut one, first, count);
        tick(&mut other, second, count);
        if count == 0 {
            seen.push(one.world().get::<Pixels>(first).unwrap().0[..one_picture].to_vec());
        }
        let act: Vec<f32> = action(2, count).iter().map(|number| *number as f32).collect();
        alone.step(&late, &act);
        let newest = |pixels: &[u8]| pixels[one_picture..].to_vec();
        seen.push(newest(&one.world().get::<NextPixels>(first).unwrap().0));
        let next = &other.world().get::<NextPixels>(second).unwrap().0;
        assert_eq!(newest(next), seen[(count + 1).saturating_sub(3)], "tick {count}");
        let own = &alone.eyes.0.as_ref().unwrap().pixels.0;
        assert_eq!(own, next, "with a schedule and without");
    }
    assert!(seen.windows(2).filter(|pair| pair[0] != pair[1]).count() > 10);
}

#[test]
fn an_environment_goes_on_with_the_same_bits_from_the_middle_of_an_episode() {
    let scene = scene_with(MOTOR, BOTH, 0.05, EYE).unwrap();
    for stop in [7, 20, 27, 33] {
        let (mut first, environment) = world(&scene);
        (0..stop).for_each(|count| tick(&mut first, environment, count));
        let state = EnvironmentState::capture(first.world().entity(environment)).unwrap();
        let text = ron::to_string(&state).unwrap();
        let state: EnvironmentState = ron::from_str(&text).unwrap();
        let (mut second, restored) = world(&scene);
        state.restore(&mut second.world_mut().entity_mut(restored)).unwrap();
        for count in stop..stop + 45 {
            tick(&mut first, environment, count);
            tick(&mut second, restored, count);
            let one = EnvironmentState::capture(first.world().entity(environment)).unwrap();
            let other = EnvironmentState::capture(second.world().entity(restored)).unwrap();
            assert!(one == other, "tick {count} after {stop}");
            let seen = |app: &App, entity: Entity| {
                let entity = app.world().entity(entity);
                (
                    entity.get::<Observation>().unwrap().clone(),
                    entity.get::<NextObservation>().unwrap().clone(),
                    entity.get::<Pixels>().unwrap().clone(),
                )
            };
            assert_eq!(seen(&first, environment), seen(&second, restored));
        }
    }
}

#[test]
fn a_state_of_other_delays_is_refused() {
    let (late, later) = (
        scene(MOTOR, "delays: (action: Steps(2)),"),
        scene(MOTOR, "delays: (action: Steps(3)),"),
    );
    let ((first, environment), (mut second, other)) = (world(&late), world(&later));
    let state = EnvironmentState::capture(first.world().entity(environment)).unwrap();
    let error = state.restore(&mut second.world_mut().entity_mut(other)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("delayed actions has 4 numbers stored, 6 here"),
        "{error}"
    );
    // Less than the delay says.
    let text = ron::to_string(&state).unwrap();
    let short = text.replacen("actions:(kept:[0,0,0,0]", "actions:(kept:[0,0,0]", 1);
    assert_ne!(short, text);
    let state: EnvironmentState = ron::from_str(&short).unwrap();
    let (mut third, other) = world(&late);
    let error = state.restore(&mut third.world_mut().entity_mut(other)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("actions under way has 3 numbers stored, 4 here"),
        "{error}"
    );
}

#[test]
fn mistakes_are_named() {
    let message = |delays: &str| scene_with(MOTOR, delays, 0.0, "").unwrap_err().to_string();
    let order = message("delays: (action: Uniform(3, 1)),");
    assert!(
        order.contains("delays.action: must be two numbers of control steps, the lower one first"),
        "{order}"
    );
    assert!(order.contains("cart.ron:7:"), "{order}");
    let long = message("delays: (observation: Steps(5000)),");
    assert!(
        long.contains("delays.observation: must be at most 1000 control steps"),
        "{long}"
    );
    let unknown = message("delays: (actions: Steps(1)),");
    assert!(unknown.contains("did you mean `action`?"), "{unknown}");
}
