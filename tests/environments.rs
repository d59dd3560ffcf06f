//! Environments by themselves and in the schedule: resets, noise, completion, time limits, control, faults, storage.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use apprentice::scene::{CompiledScene, JudgedOn, ObservationTerm, Order, Scene, SceneError, Shown};
use apprentice::sim::{
    Action, Environment, EnvironmentState, Episode, Fault, FaultCount, NextObservation, Observation, Outcome, Physics,
    SimPlugin, Slot, TaskProgress, spawn_environment, step,
};
use apprentice::tick::{Tick, TickPlugin};
use bevy::prelude::*;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

fn kitchen() -> Scene {
    Scene::load("kitchen").unwrap()
}

fn compiled(change: impl FnOnce(&mut Scene)) -> CompiledScene {
    let mut scene = kitchen();
    change(&mut scene);
    CompiledScene::new(scene).unwrap()
}

/// A world with `count` environments of one scene.
fn app(scene: &CompiledScene, count: usize, seed: u64) -> (App, Vec<Entity>) {
    let mut app = App::new();
    app.add_plugins((TaskPoolPlugin::default(), TickPlugin, SimPlugin));
    let scene = app.world_mut().spawn(scene.clone()).id();
    let environments = (0..count)
        .map(|slot| spawn_environment(app.world_mut(), scene, slot, seed).unwrap())
        .collect();
    (app, environments)
}

/// A different, repeatable action for every step and environment.
fn action(step: u64, slot: usize) -> Vec<f32> {
    (0..9)
        .map(|joint| ((step as f32) * 0.7 + (slot as f32) * 1.3 + joint as f32).sin())
        .collect()
}

fn tick(app: &mut App, environments: &[Entity], step: u64) {
    for (slot, entity) in environments.iter().enumerate() {
        app.world_mut().get_mut::<Action>(*entity).unwrap().0 = action(step, slot);
    }
    app.world_mut().run_schedule(Tick);
}

fn states(app: &App, environments: &[Entity]) -> Vec<EnvironmentState> {
    environments
        .iter()
        .map(|entity| EnvironmentState::capture(app.world().entity(*entity)).unwrap())
        .collect()
}

/// Joint positions with some elements at their goals and the others at the start.
fn with_elements_at_goal(scene: &CompiledScene, names: &[&str]) -> Vec<f64> {
    let mut positions = scene.start().to_vec();
    for name in names {
        let element = scene
            .scene()
            .elements
            .iter()
            .find(|element| element.name == *name)
            .unwrap();
        let mut goal = element.goal.iter();
        for joint in &element.joints {
            for position in &mut positions[scene.joint_positions(joint).unwrap()] {
                *position = *goal.next().unwrap();
            }
        }
    }
    positions
}

/// Scores one state after another within one episode; the names are the elements at their goals.
fn score_states(scene: &CompiledScene, states: &[&[&str]]) -> Vec<Outcome> {
    let mut it = Environment::new(scene, 0, 1).unwrap();
    states
        .iter()
        .map(|names| {
            step::place(&mut it.physics, &with_elements_at_goal(scene, names));
            step::observe(
                scene,
                &it.physics,
                &it.progress,
                &mut it.noise,
                &mut it.measurement,
                &mut it.next_observation,
            );
            it.outcome = Outcome::default();
            step::score(
                scene,
                &it.physics,
                &it.measurement,
                &mut it.progress,
                &mut it.episode,
                &mut it.outcome,
            );
            it.outcome
        })
        .collect()
}

fn rewards(outcomes: &[Outcome]) -> Vec<f32> {
    outcomes.iter().map(|outcome| outcome.reward).collect()
}

#[test]
fn sizes_of_the_kitchen() {
    let scene = compiled(|_| ());
    assert_eq!((scene.observation_len(), scene.action_len()), (60, 9));
    assert_eq!((scene.model().nq(), scene.model().nv()), (30, 29));
    assert_eq!(scene.period(), 0.08);
}

#[test]
fn noise_has_the_amplitudes_of_the_reference() {
    let mut expected = vec![0.01; 9];
    expected.extend([5e-4; 2]);
    expected.extend([5e-5; 6]);
    expected.extend([5e-4; 3]);
    expected.extend([0.01; 3]);
    expected.extend([5e-4, 5e-4, 5e-4, 0.01, 0.01, 0.01, 5e-4]);
    expected.extend([0.0; 30]);

    let scene = compiled(|_| ());
    let mut it = Environment::new(&scene, 0, 3).unwrap();
    let truth: Vec<f64> = it.physics.qpos().to_vec();
    let (mut largest, mut sum) = (vec![0.0_f64; 60], vec![0.0_f64; 60]);
    const DRAWS: usize = 4000;
    for _ in 0..DRAWS {
        step::observe(
            &scene,
            &it.physics,
            &it.progress,
            &mut it.noise,
            &mut it.measurement,
            &mut it.observation,
        );
        for (index, truth) in truth.iter().enumerate() {
            let noise = it.measurement[index] - truth;
            largest[index] = largest[index].max(noise.abs());
            sum[index] += noise;
        }
    }
    for (index, amplitude) in expected.iter().enumerate() {
        assert!(
            largest[index] <= amplitude * (1.0 + 1e-9),
            "entry {index}: {} of {amplitude}",
            largest[index]
        );
        assert!(
            largest[index] >= 0.98 * amplitude,
            "entry {index}: {} of {amplitude}",
            largest[index]
        );
        assert!(
            sum[index].abs() / DRAWS as f64 <= 0.05 * amplitude,
            "entry {index} is biased"
        );
    }
    for (observed, measured) in it.observation.iter().zip(&it.measurement.0) {
        assert_eq!(*observed, *measured as f32);
    }
}

#[test]
fn the_goal_part_shows_the_task_or_always_the_same() {
    let slide = |scene: &mut Scene| scene.task.elements = vec!["slide cabinet".into()];
    // The kitchen's own file shows the goals of "mixed", whatever is rewarded.
    let mixed = Environment::new(&compiled(slide), 0, 0).unwrap().observation;
    let mut expected = vec![0.0; 30];
    (expected[11], expected[12], expected[17], expected[18]) = (-0.88, -0.01, -0.69, -0.05);
    expected[22..].copy_from_slice(&[-0.75, -0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06]);
    assert_eq!(mixed[30..], expected);

    let of_the_task = compiled(|scene| {
        slide(scene);
        scene.observation.terms.pop();
        scene
            .observation
            .terms
            .push(ObservationTerm::Goal { shown: Shown::Task });
    });
    let mut expected = vec![0.0; 30];
    expected[19] = 0.37;
    assert_eq!(
        Environment::new(&of_the_task, 0, 0).unwrap().observation[30..],
        expected
    );
}

#[test]
fn velocities_can_be_observed() {
    let scene = compiled(|scene| {
        let joints = vec!["robot:panda0_joint1".into(), "kettle".into()];
        scene.observation.terms.push(ObservationTerm::Velocity {
            joints,
            noise: vec![],
            scale: 1.0,
        });
    });
    assert_eq!(scene.observation_len(), 67);
    let mut it = Environment::new(&scene, 0, 0).unwrap();
    it.step(&scene, &[1.0_f32; 9]);
    assert_eq!(it.measurement[60], it.physics.qvel()[0]);
    assert_eq!(it.measurement[61..], it.physics.qvel()[23..29]);
    assert!(it.measurement[60] > 0.1);
}

#[test]
fn in_any_order_elements_count_once_when_they_are_done() {
    let scene = compiled(|_| ());
    let outcomes = score_states(
        &scene,
        &[
            &[],
            &["light switch"],
            &["light switch", "kettle"],
            &[],
            &["light switch"],
            &["top burner"],
        ],
    );
    assert_eq!(rewards(&outcomes), [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    assert!(outcomes.iter().all(|outcome| !outcome.ended()));

    let all = score_states(&scene, &[&["microwave", "kettle"], &["bottom burner", "light switch"]]);
    assert_eq!(rewards(&all), [2.0, 2.0]);
    assert!(!all[0].ended() && all[1].terminated && !all[1].truncated);
}

#[test]
fn in_listed_order_elements_wait_for_those_before_them() {
    let scene = compiled(|scene| scene.task.order = Order::Listed);
    let outcomes = score_states(
        &scene,
        &[
            &["kettle", "light switch"],
            // Both count in the same step; the light has to wait for the burner.
            &["microwave", "kettle", "light switch"],
            &["light switch"],
            &["bottom burner"],
            &["light switch"],
        ],
    );
    assert_eq!(rewards(&outcomes), [0.0, 2.0, 0.0, 1.0, 1.0]);
    assert_eq!(
        outcomes.iter().map(|outcome| outcome.terminated).collect::<Vec<_>>(),
        [false, false, false, false, true]
    );
}

#[test]
fn completion_is_latched_and_also_noted_outside_the_task() {
    let scene = compiled(|_| ());
    let mut it = Environment::new(&scene, 0, 1).unwrap();
    for names in [&["kettle", "hinge cabinet"][..], &[]] {
        step::place(&mut it.physics, &with_elements_at_goal(&scene, names));
        step::score(
            &scene,
            &it.physics,
            &it.measurement,
            &mut it.progress,
            &mut it.episode,
            &mut it.outcome,
        );
    }
    assert_eq!(it.progress.done, [false, true, false, false]);
    assert_eq!(it.progress.completed(), 1);
    let reached: Vec<_> = scene
        .elements()
        .iter()
        .zip(&it.progress.reached)
        .filter(|(_, reached)| **reached)
        .map(|(e, _)| &e.name)
        .collect();
    assert_eq!(reached, ["kettle", "hinge cabinet"]);
    assert!(
        it.progress
            .distance
            .iter()
            .zip(scene.elements())
            .all(|(distance, element)| *distance > element.threshold)
    );
    it.begin(&scene, 1, scene.start());
    assert_eq!(it.progress.completed(), 0);
    assert!(it.progress.reached.iter().all(|reached| !reached));
}

#[test]
fn elements_can_be_judged_on_the_noisy_observation() {
    // 0.299 m from its goal, with noise of 0.0005 * 20 m: done in some observations, not in others.
    let judged = |on: JudgedOn| {
        let scene = compiled(|scene| {
            (scene.task.elements, scene.task.judged_on) = (vec!["slide cabinet".into()], on);
            scene.observation.noise_scale = 2.0;
        });
        let mut start = scene.start().to_vec();
        start[19] = 0.37 - 0.299;
        let counted = |seed| {
            let mut it = Environment::new(&scene, 0, seed).unwrap();
            it.begin(&scene, 0, &start);
            step::score(
                &scene,
                &it.physics,
                &it.measurement,
                &mut it.progress,
                &mut it.episode,
                &mut it.outcome,
            );
            it.outcome.terminated
        };
        (0..20).filter(|seed| counted(*seed)).count()
    };
    assert_eq!(judged(JudgedOn::State), 20);
    assert!((1..20).contains(&judged(JudgedOn::Observation)));
}

#[test]
fn time_limits_truncate_and_success_wins() {
    let scene = compiled(|scene| scene.episode.steps = 3);
    let outcomes = score_states(&scene, &[&[], &[], &[]]);
    assert_eq!(
        outcomes.iter().map(|outcome| outcome.truncated).collect::<Vec<_>>(),
        [false, false, true]
    );
    assert!(!outcomes[2].terminated);
    let all = &["microwave", "kettle", "bottom burner", "light switch"][..];
    let last = score_states(&scene, &[&[], &[], all])[2];
    assert!(last.terminated && !last.truncated);
}

#[test]
fn a_scene_without_task_never_terminates() {
    let scene = compiled(|scene| {
        scene.task.elements.clear();
        scene.episode.steps = 2;
    });
    let outcomes = score_states(&scene, &[&["kettle"], &["kettle"]]);
    assert_eq!(rewards(&outcomes), [0.0, 0.0]);
    assert!(!outcomes[0].ended() && outcomes[1].truncated && !outcomes[1].terminated);
}

#[test]
fn episodes_follow_one_another_in_the_schedule() {
    let scene = compiled(|scene| scene.episode.steps = 3);
    let (mut app, environments) = app(&scene, 2, 11);
    let mut by_hand = Environment::new(&scene, 1, 11).unwrap();
    for count in 0..8 {
        tick(&mut app, &environments, count);
        if count > 0 && count % 3 == 0 {
            by_hand.begin(&scene, count / 3, scene.start());
        }
        let entity = app.world().entity(environments[1]);
        // The observation of this tick is the one before the step.
        assert_eq!(
            entity.get::<Observation>().unwrap(),
            &by_hand.observation,
            "tick {count}"
        );
        by_hand.step(&scene, &action(count, 1));
        assert_eq!(
            entity.get::<NextObservation>().unwrap(),
            &by_hand.next_observation,
            "tick {count}"
        );
        assert_eq!(entity.get::<Episode>().unwrap(), &by_hand.episode, "tick {count}");
        assert_eq!(entity.get::<Outcome>().unwrap(), &by_hand.outcome, "tick {count}");
        assert_eq!(entity.get::<Outcome>().unwrap().truncated, count % 3 == 2);
    }
}

#[test]
fn every_episode_has_noise_of_its_own_that_repeats() {
    let scene = compiled(|_| ());
    let first = |slot, seed, index| {
        let mut it = Environment::new(&scene, slot, seed).unwrap();
        it.begin(&scene, index, scene.start());
        it.observation
    };
    assert_eq!(first(2, 5, 7), first(2, 5, 7));
    for other in [(3, 5, 7), (2, 6, 7), (2, 5, 8)] {
        assert_ne!(first(2, 5, 7), first(other.0, other.1, other.2));
    }
}

#[test]
fn an_unstable_environment_is_cut_off_counted_and_reset() {
    let scene = compiled(|_| ());
    let (mut app, environments) = app(&scene, 2, 0);
    tick(&mut app, &environments, 0);
    app.world_mut().get_mut::<Physics>(environments[0]).unwrap().qvel_mut()[3] = f64::NAN;
    tick(&mut app, &environments, 1);
    let entity = app.world().entity(environments[0]);
    let outcome = entity.get::<Outcome>().unwrap();
    assert_eq!(
        (outcome.fault, outcome.truncated, outcome.terminated),
        (Some(Fault::Unstable), true, false)
    );
    assert_eq!(entity.get::<FaultCount>().unwrap(), &FaultCount(1));
    assert_eq!(
        entity.get::<Observation>().unwrap().0,
        entity.get::<NextObservation>().unwrap().0
    );
    assert_eq!(app.world().get::<Outcome>(environments[1]).unwrap().fault, None);

    tick(&mut app, &environments, 2);
    let entity = app.world().entity(environments[0]);
    assert_eq!(entity.get::<Outcome>().unwrap().fault, None);
    assert_eq!(entity.get::<Episode>().unwrap().index, 1);
    assert!(
        entity
            .get::<NextObservation>()
            .unwrap()
            .iter()
            .all(|number| number.is_finite())
    );
    assert_eq!(app.world().get::<Episode>(environments[1]).unwrap().index, 0);
}

/// A scene of its own: an arm with a servo, and eight balls at `height` above a floor with too little memory for all
/// their contacts.
fn crowded(height: f64) -> Result<CompiledScene, SceneError> {
    let folder = tempfile::tempdir().unwrap();
    let balls: String = (0..8)
        .map(|ball| {
            let (x, y) = (0.102 * f64::from(ball % 4), 0.102 * f64::from(ball / 4));
            format!(r#"<body pos="{x} {y} {height}"><freejoint/><geom type="sphere" size="0.05"/></body>"#)
        })
        .collect();
    let model = format!(
        r#"<mujoco><size memory="22K"/><worldbody><geom type="plane" size="1 1 1"/>
        <body pos="0 0 3"><joint name="arm" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.2" size="0.01"/></body>
        {balls}</worldbody><actuator><position name="arm" joint="arm"/></actuator></mujoco>"#
    );
    let path = folder.path().join("balls.xml");
    std::fs::write(&path, model).unwrap();
    let scene = folder.path().join("balls.ron");
    let text = format!(
        r#"(
            physics: (model: {path:?}, frame_skip: 10),
            control: VelocityLimitedPosition(
                speed: 1.0,
                servos: [(joint: "arm", actuator: "arm", range: (-1.0, 1.0))],
            ),
            observation: (terms: [Position(joints: ["arm"])]),
            reset: (),
            episode: (steps: 100),
        )"#
    );
    std::fs::write(&scene, text).unwrap();
    CompiledScene::load(scene.to_str().unwrap(), &[])
}

#[test]
fn contacts_that_are_left_out_are_a_fault() {
    // The balls touch the floor after 0.046 s; a step takes 0.02 s.
    let scene = crowded(0.06).unwrap();
    let mut it = Environment::new(&scene, 0, 0).unwrap();
    let faults: Vec<_> = (0..3).map(|_| it.step(&scene, &[0.0_f32]).fault).collect();
    assert_eq!(faults, [None, None, Some(Fault::Memory)]);
    assert!(it.outcome.truncated && it.faults == FaultCount(1));
    it.begin(&scene, 1, scene.start());
    assert_eq!(it.step(&scene, &[0.0_f32]).fault, None);

    let error = crowded(0.04).unwrap_err().to_string();
    assert!(
        error.contains("balls.ron:2:") && error.contains("not enough memory for all contacts"),
        "{error}"
    );
}

#[test]
fn a_reset_by_copying_has_the_bits_of_one_by_placing() {
    let scene = compiled(|_| ());
    let used = || {
        let mut it = Environment::new(&scene, 0, 0).unwrap();
        for count in 0..30 {
            it.step(&scene, &action(count, 0));
        }
        // And something to complain about.
        it.physics.qvel_mut()[3] = f64::NAN;
        assert_eq!(it.step(&scene, &action(30, 0)).fault, Some(Fault::Unstable));
        it
    };
    let (mut copied, mut placed) = (used(), used());
    let mut other = Environment::new(&crowded(0.06).unwrap(), 0, 0).unwrap();
    step::reset(&scene, &mut copied.physics);
    step::reset(&scene, &mut other.physics);
    step::place(&mut placed.physics, scene.start());
    let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    let everything = |physics: &Physics| {
        [
            bits(physics.qpos()),
            bits(physics.qvel()),
            bits(physics.qacc()),
            bits(physics.qacc_warmstart()),
            bits(physics.ctrl()),
            bits(physics.qfrc_bias()),
            bits(physics.xpos().as_flattened()),
            bits(physics.site_xmat().as_flattened()),
            vec![physics.time().to_bits()],
            physics.warning().iter().map(|kind| kind.number as u64).collect(),
        ]
    };
    assert_eq!(everything(&copied.physics), everything(&placed.physics));
    assert_eq!(
        everything(&other.physics),
        everything(&placed.physics),
        "physics of another model gives way"
    );
    for count in 0..20 {
        for it in [&mut copied, &mut placed] {
            assert_eq!(
                step::apply_action(&scene, &it.measurement, &action(count, 1), &mut it.physics),
                Ok(())
            );
            assert_eq!(
                step::simulate(scene.scene().physics.frame_skip, &mut it.physics),
                Ok(())
            );
        }
    }
    assert_eq!(everything(&copied.physics), everything(&placed.physics));
}

#[test]
fn a_bad_action_is_a_fault() {
    let scene = compiled(|_| ());
    let mut it = Environment::new(&scene, 0, 0).unwrap();
    let before = it.physics.qpos().to_vec();
    for bad in [&[f32::NAN; 9][..], &[f32::INFINITY; 9], &[0.0; 8]] {
        let outcome = it.step(&scene, bad);
        assert_eq!((outcome.fault, outcome.truncated), (Some(Fault::Action), true));
    }
    assert_eq!(it.physics.qpos(), before);
    assert_eq!(it.faults, FaultCount(3));
}

#[test]
fn a_restored_environment_goes_on_with_the_same_bits() {
    let scene = compiled(|scene| scene.episode.steps = 7);
    let (mut running, environments) = app(&scene, 2, 4);
    for count in 0..10 {
        tick(&mut running, &environments, count);
    }
    let text = serde_json::to_string(&states(&running, &environments)).unwrap();
    let stored: Vec<EnvironmentState> = serde_json::from_str(&text).unwrap();
    let (mut resumed, again) = app(&scene, 2, 999);
    for (entity, state) in again.iter().zip(&stored) {
        state.restore(&mut resumed.world_mut().entity_mut(*entity)).unwrap();
    }
    assert_eq!(states(&resumed, &again), stored);
    for count in 10..25 {
        tick(&mut running, &environments, count);
        tick(&mut resumed, &again, count);
        assert_eq!(
            states(&running, &environments),
            states(&resumed, &again),
            "tick {count}"
        );
    }
    assert_eq!(
        running.world().get::<Slot>(environments[1]),
        resumed.world().get::<Slot>(again[1])
    );
}

/// What lies still is not simulated, until it is touched.
#[test]
fn a_restored_environment_with_sleeping_things_goes_on_with_the_same_bits() {
    let scene = CompiledScene::new(Scene::load("blocks").unwrap()).unwrap();
    // Down onto the blocks, along the table, and up again.
    let push = |app: &mut App, environments: &[Entity], count: usize| {
        for (slot, entity) in environments.iter().enumerate() {
            let across = if slot == 0 { 1.0 } else { -1.0 };
            let down = [-1.0, -1.0, -1.0, 0.0, 0.0, 0.0, 0.5][count % 7];
            app.world_mut().get_mut::<Action>(*entity).unwrap().0 = vec![across, down, 0.0];
        }
        app.world_mut().run_schedule(Tick);
    };
    let sleepers = |app: &App, environment: Entity| {
        let physics = app.world().get::<Physics>(environment).unwrap();
        physics.0.tree_asleep().iter().filter(|&&next| next >= 0).count()
    };
    let (mut running, environments) = app(&scene, 2, 4);
    let mut past = Vec::new();
    let mut seen = BTreeSet::new();
    for count in 0..40 {
        push(&mut running, &environments, count);
        seen.insert(sleepers(&running, environments[0]));
        past.push(states(&running, &environments));
    }
    for cut in [0, 3, 9, 18, 27] {
        let text = serde_json::to_string(&past[cut]).unwrap();
        let stored: Vec<EnvironmentState> = serde_json::from_str(&text).unwrap();
        let (mut resumed, again) = app(&scene, 2, 999);
        for (entity, state) in again.iter().zip(&stored) {
            state.restore(&mut resumed.world_mut().entity_mut(*entity)).unwrap();
        }
        assert_eq!(states(&resumed, &again), past[cut]);
        for (count, then) in past.iter().enumerate().skip(cut + 1) {
            push(&mut resumed, &again, count);
            assert_eq!(&states(&resumed, &again), then, "restored after {cut}, tick {count}");
        }
    }
    assert!(seen.len() > 2, "blocks fall asleep and wake: {seen:?}");
}

#[test]
fn a_state_of_another_scene_is_refused() {
    let (running, environments) = app(&compiled(|_| ()), 1, 0);
    let state = states(&running, &environments).remove(0);
    let other = compiled(|scene| scene.task.elements.truncate(2));
    let (mut other, entities) = app(&other, 1, 0);
    let before = states(&other, &entities);
    let error = state
        .restore(&mut other.world_mut().entity_mut(entities[0]))
        .unwrap_err();
    assert!(
        error.to_string().contains("task has 4 numbers stored, 2 here"),
        "{error}"
    );
    assert_eq!(states(&other, &entities), before);
}

#[test]
fn environments_go_with_their_scene() {
    let scene = compiled(|_| ());
    let (mut app, environments) = app(&scene, 3, 0);
    let scene = app
        .world()
        .get::<apprentice::sim::InstanceOf>(environments[0])
        .unwrap()
        .0;
    assert_eq!(
        app.world()
            .get::<apprentice::sim::Instances>(scene)
            .unwrap()
            .iter()
            .count(),
        3
    );
    app.world_mut().despawn(scene);
    assert!(
        environments
            .iter()
            .all(|entity| app.world().get_entity(*entity).is_err())
    );
}

#[test]
fn mistakes_in_a_scene_are_named() {
    let message = |change: fn(&mut Scene)| {
        let mut scene = kitchen();
        change(&mut scene);
        CompiledScene::new(scene).unwrap_err().to_string()
    };
    assert_eq!(
        message(|scene| scene.elements[0].joints[0] = "mircowave".into()),
        "elements.0.joints.0: no joint is named \"mircowave\"; did you mean \"microwave\"?"
    );
    assert_eq!(
        message(|scene| scene.task.elements[1] = "ketle".into()),
        "task.elements.1: no element is named \"ketle\"; did you mean \"kettle\"?"
    );
    assert_eq!(
        message(|scene| scene
            .reset
            .positions
            .insert("kettle".into(), vec![0.0])
            .map_or((), drop)),
        "reset.positions.kettle: has 1 number, the joint has 7"
    );
    assert_eq!(
        message(|scene| scene.task.elements.push("kettle".into())),
        "task.elements.4: stands in the list twice"
    );
    assert_eq!(
        message(|scene| scene.cameras.push(scene.cameras[0].clone())),
        "cameras.1.name: a second camera is named \"overview\""
    );
    assert_eq!(
        message(|scene| scene.physics.frame_skip = 0),
        "physics.frame_skip: must be at least 1"
    );
    let mut scene = kitchen();
    scene.physics.model = "no/such.xml".into();
    assert!(matches!(
        CompiledScene::new(scene),
        Err(SceneError::ModelNotFound { .. })
    ));
}

#[test]
fn mistakes_are_shown_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.ron");
    let message = |text: &str| {
        std::fs::write(&path, text).unwrap();
        CompiledScene::load(path.to_str().unwrap(), &[])
            .unwrap_err()
            .to_string()
    };
    let unknown = message("(\n    extends: \"kitchen\",\n    task: (elements: [\"kettle\", \"botom burner\"]),\n)");
    assert!(unknown.contains("mine.ron:3:33: "), "{unknown}");
    assert!(
        unknown.contains("no element is named \"botom burner\"; did you mean \"bottom burner\"?"),
        "{unknown}"
    );
    let misspelt = message("(extends: \"kitchen\", episode: (step: 3))");
    assert!(
        misspelt.contains("mine.ron:1:32: ") && misspelt.contains("`steps`"),
        "{misspelt}"
    );
    let model = message("(extends: \"kitchen\", physics: (model: \"robot.xml\"))");
    assert!(
        model.contains("mine.ron:1:39: ") && model.contains("robot.xml"),
        "{model}"
    );
}

#[test]
fn every_scene_of_the_project_works() {
    let tasks = [
        ("kitchen", &["microwave", "kettle", "bottom burner", "light switch"][..]),
        (
            "kitchen_fast",
            &["microwave", "kettle", "bottom burner", "light switch"],
        ),
        (
            "kitchen_partial",
            &["microwave", "kettle", "light switch", "slide cabinet"],
        ),
        (
            "kitchen_complete",
            &["microwave", "kettle", "light switch", "slide cabinet"],
        ),
        (
            "kitchen_well_aligned",
            &["kettle", "bottom burner", "top burner", "slide cabinet"],
        ),
        (
            "kitchen_mis_aligned",
            &["microwave", "light switch", "slide cabinet", "hinge cabinet"],
        ),
        (
            "kitchen_all",
            &[
                "microwave",
                "kettle",
                "bottom burner",
                "top burner",
                "light switch",
                "slide cabinet",
                "hinge cabinet",
            ],
        ),
    ];
    let files = apprentice::files::list(apprentice::files::FileKind::Scene, &[env!("CARGO_MANIFEST_DIR").into()]);
    // Mazes and blocks have tests of their own. And the ordered kitchen of the published code.
    let kitchens = files.keys().filter(|name| name.starts_with("kitchen"));
    assert_eq!(kitchens.count(), tasks.len() + 1);
    for name in files.keys() {
        CompiledScene::load(name, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let published = CompiledScene::load("kitchen_published", &[]).unwrap_or_else(|error| panic!("{error}"));
    let task = &published.scene().task;
    assert_eq!(task.elements, tasks[0].1);
    assert_eq!((task.order, task.judged_on), (Order::Listed, JudgedOn::Observation));
    for (name, task) in tasks {
        let scene = CompiledScene::load(name, &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scene.scene().task.elements, task, "{name}");
        assert_eq!(scene.scene().task.order, Order::Any);
        assert_eq!((scene.observation_len(), scene.scene().episode.steps), (60, 280));
    }
    let ordered = CompiledScene::load("kitchen", &["task.order=Listed".into(), "episode.steps=10".into()]).unwrap();
    assert_eq!(
        (ordered.scene().task.order, ordered.scene().episode.steps),
        (Order::Listed, 10)
    );
}

#[test]
fn mistakes_in_control_are_named() {
    use apprentice::scene::Control::VelocityLimitedPosition as Control;
    let mut scene = kitchen();
    let Control { servos, .. } = &mut scene.control else {
        unreachable!("the kitchen has servos")
    };
    servos[2].actuator = "panda_joint3".into();
    assert_eq!(
        CompiledScene::new(scene).unwrap_err().to_string(),
        "control.servos.2.actuator: no actuator is named \"panda_joint3\"; did you mean \"panda0_joint3\"?"
    );
    let mut scene = kitchen();
    let Control { servos, .. } = &mut scene.control else {
        unreachable!("the kitchen has servos")
    };
    servos[3].actuator = "panda0_joint2".into();
    assert_eq!(
        CompiledScene::new(scene).unwrap_err().to_string(),
        "control.servos.3.actuator: \"panda0_joint2\" belongs to control.servos.1 already"
    );
    let mut scene = kitchen();
    let Control { servos, .. } = &mut scene.control else {
        unreachable!("the kitchen has servos")
    };
    servos.clear();
    assert_eq!(
        CompiledScene::new(scene).unwrap_err().to_string(),
        "control.servos: must list at least one servo"
    );
    let mut scene = kitchen();
    let Control { servos, .. } = &mut scene.control else {
        unreachable!("the kitchen has servos")
    };
    servos[0].range = (1.0, -1.0);
    let error = CompiledScene::new(scene).unwrap_err().to_string();
    assert_eq!(
        error,
        "control.servos.0.range: must be two numbers, the lower one first"
    );
}

#[test]
fn progress_of_a_fresh_environment_is_empty() {
    let (app, environments) = app(&compiled(|_| ()), 1, 0);
    let progress = app.world().get::<TaskProgress>(environments[0]).unwrap();
    assert_eq!(
        (progress.done.len(), progress.reached.len(), progress.completed()),
        (4, 7, 0)
    );
    assert!((progress.distance[0] - 0.751).abs() < 1e-3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn actions_are_clipped_to_speed_and_range(
        action in proptest::collection::vec(prop_oneof![-1.5_f32..1.5, any::<f32>()], 9),
        moved in proptest::collection::vec(-3.5_f64..3.5, 9),
    ) {
        let scene = shared();
        let mut it = Environment::new(scene, 0, 0).unwrap();
        it.measurement.0[..9].copy_from_slice(&moved);
        let before = it.physics.ctrl().to_vec();
        let applied = step::apply_action(scene, &it.measurement, &action, &mut it.physics);
        if action.iter().any(|number| !number.is_finite()) {
            prop_assert_eq!(applied, Err(Fault::Action));
            prop_assert_eq!(it.physics.ctrl(), &before[..]);
            return Ok(());
        }
        prop_assert_eq!(applied, Ok(()));
        for ((servo, &number), (&target, &from)) in
            scene.servos().iter().zip(&action).zip(it.physics.ctrl().iter().zip(&moved))
        {
            prop_assert!((servo.low..=servo.high).contains(&target));
            let wanted = from + 0.16 * f64::from(number.clamp(-1.0, 1.0));
            prop_assert!((target - wanted.clamp(servo.low, servo.high)).abs() < 1e-12);
        }
    }
}

fn shared() -> &'static CompiledScene {
    static SCENE: std::sync::OnceLock<CompiledScene> = std::sync::OnceLock::new();
    SCENE.get_or_init(|| compiled(|_| ()))
}
