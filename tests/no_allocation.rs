//! A running environment allocates nothing, and the schedule around it no more than Bevy's tasks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use apprentice::app::{self, StopRequest};
use apprentice::scene::{CompiledScene, Scene};
use apprentice::sim::{Action, Environment, Episode, SimPlugin, spawn_environment};
use apprentice::tick::Tick;
use bevy::prelude::*;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}
static ALL_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Counts the allocations of each thread and of the whole process. `MuJoCo` has an allocator of its own, which this does
/// not see.
struct Counting;

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        ALL_ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        FREED_BYTES.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Each test has the process to itself, but for the test harness.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn steps_and_resets_allocate_nothing() {
    let _alone = alone();
    let scene = CompiledScene::new(Scene::load("kitchen").unwrap()).unwrap();
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let before = ALLOCATIONS.get();
    for episode in 0..3 {
        environment.begin(&scene, episode, scene.start());
        for step in 0..20 {
            environment.step(&scene, &[(step as f32).sin(); 9]);
        }
        apprentice::sim::step::reset(&scene, &mut environment.physics);
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!(environment.episode.step, 20);
}

/// A cube that is pushed over a floor, with a term of every kind.
fn cube() -> CompiledScene {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("cube.xml");
    let text = r#"<mujoco><worldbody><geom name="floor" type="plane" size="5 5 0.1"/><site name="goal" pos="1 0 0.1"/>
        <body name="cube" pos="0 0 0.1"><joint name="x" type="slide" axis="1 0 0"/><joint name="z" type="slide" axis="0 0 1"/>
        <geom name="side" type="box" size="0.1 0.1 0.1"/></body></worldbody>
        <actuator><motor name="x" joint="x" gear="50"/></actuator>
        <sensor><framepos name="place" objtype="body" objname="cube"/></sensor></mujoco>"#;
    std::fs::write(&model, text).unwrap();
    let scene = folder.path().join("cube.ron");
    let text = format!(
        r#"(
            physics: (model: {model:?}, frame_skip: 5),
            control: Motors(motors: [(actuator: "x")]),
            observation: (terms: [
                Position(joints: ["x"], scale: 2, noise: [0.1]), Goal(shown: Task),
                Place(of: [Body("cube"), Geom("side")], relative_to: Site("goal"), axes: Own),
                Orientation(of: [Body("cube")]), Orientation(of: [Site("goal")], form: Matrix),
                LinearVelocity(of: [Body("cube")]), AngularVelocity(of: [Body("cube")]), Sensor(sensors: ["place"]),
                Contact(between: [(Body("cube"), Geom("floor"))]), Contact(between: [(Body("cube"), Anything)], force: true),
                PreviousAction(), GoalOf(shown: Task), Done(shown: Task), Time(),
            ]),
            reset: (),
            elements: [
                (name: "there", when: Near(of: Body("cube"), to: Site("goal"), within: 0.1), spread: [0.1, 0, 0]),
                (name: "far", joints: ["x"], goal: [4], threshold: 0.5, spread: [1]),
                (name: "resting", when: All([
                    Slow(of: Body("cube"), below: 0.01), Upright(of: Body("cube"), within: 5),
                    Contact(between: (Body("cube"), Geom("floor"))), Not(Joint(joint: "x", above: 5)),
                    Any([Sensor(sensor: "place", above: 0), Height(of: Body("cube"), below: 1)]),
                    Aligned(of: Body("cube"), to: Site("goal"), within: 5),
                ])),
            ],
            task: (
                elements: ["there", "far"], success: ["far"], ends: false, penalty: 1, scale: 2,
                terminate: [Not(Inside(of: Body("cube"), zone: Box(centre: Point(0, 0, 0), half: (50, 1, 1))))],
                rewards: [
                    Near(element: "there", name: "near"), Distance(from: Body("cube"), to: Site("goal"), shape: Tanh(1)),
                    Progress(from: Body("cube"), to: Site("goal")), ElementDistance(element: "far"),
                    ElementProgress(element: "far"), JointNear(joints: ["x"], goal: [1]), Height(of: Body("cube")),
                    Upright(of: Body("cube")), Speed(of: Body("cube"), along: (1, 0, 0)),
                    Contact(between: (Body("cube"), Geom("floor"))), When(condition: Slow(of: Body("cube"), below: 1)),
                    Reached(of: Body("cube"), zone: Sphere(centre: Site("goal"), radius: 0.3), once: true),
                    ActionCost(), ActionRate(), EnergyCost(name: "work"), Completion(), Constant(value: 1),
                ],
            ),
            episode: (steps: 100),
        )"#
    );
    std::fs::write(&scene, text).unwrap();
    CompiledScene::load(scene.to_str().unwrap(), &[]).unwrap()
}

#[test]
fn terms_allocate_nothing() {
    let _alone = alone();
    let scene = cube();
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let before = ALLOCATIONS.get();
    for episode in 0..3 {
        environment.begin_anew(&scene, episode);
        for step in 0..60 {
            environment.step(&scene, &[(0.1 * step as f32).cos()]);
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert!(environment.progress.reached.iter().any(|reached| *reached));
    assert!(environment.progress.figures[1] < 0.0, "work was done");
}

/// A planar arm that is moved by its tip, a box at random places, and a model that differs.
fn drawn() -> CompiledScene {
    let folder = tempfile::tempdir().unwrap();
    let model = r#"<mujoco><compiler angle="radian"/><worldbody><geom type="plane" size="5 5 1"/>
        <body pos="0 0 1"><joint name="a" axis="0 0 1"/><geom type="capsule" fromto="0 0 0 1 0 0" size=".02"/>
        <body pos="1 0 0"><joint name="b" axis="0 0 1"/><geom type="capsule" fromto=".1 0 0 1 0 0" size=".02"/>
        <site name="tip" pos="1 0 0"/></body></body>
        <body name="box"><freejoint name="box"/><geom type="box" size=".1 .1 .1" mass="1"/></body></worldbody>
        <actuator><position name="a" joint="a" kp="10"/><position name="b" joint="b" kp="10"/></actuator></mujoco>"#;
    std::fs::write(folder.path().join("arm.xml"), model).unwrap();
    let scene = folder.path().join("arm.ron");
    let text = r#"(
        physics: (model: "arm.xml", frame_skip: 5),
        control: EndEffector(
            site: "tip",
            joints: [(joint: "a", actuator: "a"), (joint: "b", actuator: "b")],
            speed: 0.3,
        ),
        observation: (terms: [Position(joints: ["a"])]),
        reset: (
            ranges: {"a": [(-1.0, 1.0)]},
            placements: [(bodies: ["box"], area: Ring(centre: (0.0, 0.0), radius: (1.0, 2.0)), yaw: (0.0, 1.0), surface: 0.0)],
            settle: 2,
        ),
        randomise: [Mass(bodies: ["box"], factor: LogUniform(0.5, 2.0)), Gravity(factor: Uniform(0.9, 1.1))],
        episode: (steps: 25),
    )"#;
    std::fs::write(&scene, text).unwrap();
    CompiledScene::load(scene.to_str().unwrap(), &[]).unwrap()
}

#[test]
fn drawn_starts_and_arms_allocate_nothing() {
    let _alone = alone();
    let scene = drawn();
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let before = ALLOCATIONS.get();
    for episode in 0..5 {
        environment.begin_anew(&scene, episode);
        for step in 0..20 {
            environment.step(&scene, &[(step as f32).sin(), (step as f32).cos(), 0.0]);
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!((environment.episode.step, environment.faults.0), (20, 0));
}

#[test]
fn delays_allocate_nothing() {
    let _alone = alone();
    let file = tempfile::Builder::new().suffix(".ron").tempfile().unwrap();
    let text = "(extends: \"kitchen\", delays: (action: Uniform(0, 3), observation: Uniform(1, 4)))";
    std::fs::write(file.path(), text).unwrap();
    let scene = CompiledScene::load(file.path().to_str().unwrap(), &[]).unwrap();
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let before = ALLOCATIONS.get();
    for episode in 0..8 {
        environment.begin_anew(&scene, episode);
        for step in 0..10 {
            environment.step(&scene, &[(step as f32).sin(); 9]);
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!((environment.episode.step, environment.faults.0), (10, 0));
}

/// Allocations of one tick: a task for each of its systems, the queues they wait in.
const PER_TICK: u64 = 40;
/// And for each environment: a task that steps it, in some ticks one that resets it, their places in queues.
const PER_ENVIRONMENT: u64 = 3;
/// Ticks that are counted together.
const WINDOW: usize = 100;

/// A pendulum with a servo; an episode lasts 25 ticks.
fn pendulum() -> CompiledScene {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("pendulum.xml");
    let text = r#"<mujoco><worldbody><body><joint name="arm" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.02"/></body></worldbody>
        <actuator><position name="arm" joint="arm" kp="5"/></actuator></mujoco>"#;
    std::fs::write(&model, text).unwrap();
    let scene = folder.path().join("pendulum.ron");
    let text = format!(
        r#"(
            physics: (model: {model:?}, frame_skip: 5),
            control: VelocityLimitedPosition(
                speed: 1.0,
                servos: [(joint: "arm", actuator: "arm", range: (-1.0, 1.0))],
            ),
            observation: (terms: [Position(joints: ["arm"], noise: [0.01]), Velocity(joints: ["arm"])]),
            reset: (),
            elements: [(name: "arm", joints: ["arm"], goal: [0.5], threshold: 0.01)],
            episode: (steps: 25),
        )"#
    );
    std::fs::write(&scene, text).unwrap();
    CompiledScene::load(scene.to_str().unwrap(), &[]).unwrap()
}

/// What a stretch of ticks cost.
#[derive(Debug)]
struct Cost {
    /// Allocations of each window.
    allocations: Vec<u64>,
    /// Bytes that were not given back.
    kept: i64,
    /// Growth of the process, where the system tells.
    resident: Option<i64>,
}

/// The cost of `windows` windows of ticks, after as many ticks as the queues need to get their size.
fn cost(scene: &CompiledScene, environments: usize, windows: usize) -> Cost {
    let mut app = app::headless(2, StopRequest::default());
    app.add_plugins(SimPlugin);
    app.finish();
    app.cleanup();
    let world = app.world_mut();
    let instance = world.spawn(scene.clone()).id();
    let entities: Vec<_> = (0..environments)
        .map(|slot| spawn_environment(world, instance, slot, 0).unwrap())
        .collect();
    for (slot, &entity) in entities.iter().enumerate() {
        world.get_mut::<Action>(entity).unwrap().fill((slot as f32).sin());
    }
    let mut window = || {
        let before = ALL_ALLOCATIONS.load(Relaxed);
        for _ in 0..WINDOW {
            world.run_schedule(Tick);
        }
        ALL_ALLOCATIONS.load(Relaxed) - before
    };
    for _ in 0..3 {
        window();
    }
    let mut allocations = Vec::with_capacity(windows);
    let (kept, resident) = (kept_bytes(), resident_bytes());
    allocations.extend((0..windows).map(|_| window()));
    let kept = kept_bytes() - kept;
    let resident = resident_bytes().zip(resident).map(|(after, before)| after - before);
    let ticks = (3 + windows) * WINDOW;
    let episode = world.get::<Episode>(entities[0]).unwrap();
    assert_eq!(episode.index, (ticks as u64 - 1) / 25, "the environments have run");
    Cost {
        allocations,
        kept,
        resident,
    }
}

fn kept_bytes() -> i64 {
    BYTES.load(Relaxed) as i64 - FREED_BYTES.load(Relaxed) as i64
}

/// Resident memory of this process, where the system tells (Linux).
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// Counted over all threads of the process, in the real schedule. The test harness is counted as well, so the least of
/// several windows counts.
#[test]
fn ticks_allocate_a_task_for_each_system_and_environment_and_keep_nothing() {
    let _alone = alone();
    let scene = pendulum();
    for environments in [4, 24] {
        let cost = cost(&scene, environments, 20);
        println!("{environments} environments: {cost:?}");
        let (early, late) = cost.allocations.split_at(10);
        let least = |windows: &[u64]| windows.iter().copied().min().unwrap();
        let bound = WINDOW as u64 * (PER_TICK + PER_ENVIRONMENT * environments as u64);
        assert!(
            least(late) <= bound,
            "{environments} environments: {cost:?}, bound {bound}"
        );
        assert!(
            least(late) <= least(early) + least(early) / 10,
            "{environments} environments: {cost:?}"
        );
        // Room for a block or two of the queues; 2000 ticks that keep 32 bytes each would be too much.
        assert!(cost.kept < 64_000, "{environments} environments: {cost:?}");
        // `MuJoCo`'s memory is in here as well. The system's allocator may take some for itself.
        assert!(
            cost.resident.is_none_or(|grown| grown < 1 << 20),
            "{environments} environments: {cost:?}"
        );
    }
}
