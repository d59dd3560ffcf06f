//! How fast environments run in the schedule, against bare `mj_step` loops in the same process.
//!
//! ```text
//! cargo run --no-default-features --example simulation_speed -- [environments] [ticks]
//! taskset -c 0 cargo run ...          # on one core
//! ```
//!
//! Both sides take the same random actions, in turn, a few ticks at a time, so that other load on the machine meets
//! both alike; at the end their states must be equal to the last bit. The bare side does nothing but set the servo
//! targets and step, on as many threads as there are cores, each with its fixed share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apprentice::rng::{Purpose, stream};
use apprentice::scene::{CompiledScene, Source};
use apprentice::sim::{Action, Physics, SimPlugin, spawn_environment, step};
use apprentice::tick::{Tick, TickPlugin};
use bevy::app::{TaskPoolOptions, TaskPoolPlugin};
use bevy::prelude::*;
use mujoco_rs::wrappers::mj_data::MjData;
use rand::RngExt;

/// Ticks of one side before it is the other's turn.
const TURN: usize = 5;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let count = arguments.next().transpose()?.unwrap_or(32);
    let ticks = arguments.next().transpose()?.unwrap_or(200);
    let threads = std::thread::available_parallelism()?.get();

    // Noise far below the resolution of the numbers: its cost is in, and both sides still see the same.
    let overrides = [
        "observation.noise_scale=1e-300".into(),
        format!("episode.steps={}", ticks + 1),
    ];
    let scene = CompiledScene::load("kitchen", &overrides)?;

    let mut bare: Vec<Physics> = (0..count)
        .map(|_| MjData::try_new(Arc::clone(scene.model())).map(Physics))
        .collect::<Result<_, _>>()?;
    // What `MuJoCo` touches of its arena while stepping must not count as memory of the other side.
    bare.iter_mut().for_each(|physics| {
        step::reset(&scene, physics);
        (0..ticks).for_each(|tick| bare_step(&scene, physics, &[(tick as f32).sin(); 9]));
        step::reset(&scene, physics);
    });

    let mut random = stream(0, Purpose::Policy, 0, 0);
    let actions: Vec<Vec<Vec<f32>>> = (0..ticks)
        .map(|_| {
            (0..count)
                .map(|_| {
                    (0..scene.action_len())
                        .map(|_| random.random_range(-1.0..1.0))
                        .collect()
                })
                .collect()
        })
        .collect();

    // The thread that runs the schedule works too.
    let pools = TaskPoolOptions::with_num_threads(threads.saturating_sub(1).max(1));
    let mut app = App::new();
    app.add_plugins((
        TaskPoolPlugin {
            task_pool_options: pools,
        },
        TickPlugin,
        SimPlugin,
    ));
    let world = app.world_mut();
    let before = resident_memory()?;
    let instance = world.spawn(scene.clone()).id();
    let environments: Vec<Entity> = (0..count)
        .map(|slot| spawn_environment(world, instance, slot, 0))
        .collect::<Result<_, _>>()?;

    let (mut scheduled_time, mut bare_time) = (Duration::ZERO, Duration::ZERO);
    for turn in actions.chunks(TURN) {
        let start = Instant::now();
        for actions in turn {
            for (entity, action) in environments.iter().zip(actions) {
                if let Some(mut wanted) = world.get_mut::<Action>(*entity) {
                    wanted.copy_from_slice(action);
                }
            }
            world.run_schedule(Tick);
        }
        scheduled_time += start.elapsed();

        let start = Instant::now();
        let share = count.div_ceil(threads);
        std::thread::scope(|scope| {
            for (part, physics) in bare.chunks_mut(share).enumerate() {
                let scene = &scene;
                scope.spawn(move || {
                    for actions in turn {
                        for (physics, action) in physics.iter_mut().zip(actions.iter().skip(part * share)) {
                            bare_step(scene, physics, action);
                        }
                    }
                });
            }
        });
        bare_time += start.elapsed();
    }
    let after = resident_memory()?;

    for (entity, bare) in environments.iter().zip(&bare) {
        let same = world
            .get::<Physics>(*entity)
            .is_some_and(|physics| physics.qpos() == bare.qpos());
        if !same {
            return Err("the two sides differ".into());
        }
    }
    let rate = |time: Duration| (count * ticks) as f64 / time.as_secs_f64();
    println!("{count} environments, {ticks} ticks, {threads} cores");
    println!("schedule  {:8.0} control steps/s", rate(scheduled_time));
    println!("bare      {:8.0} control steps/s", rate(bare_time));
    println!(
        "ratio     {:8.3}",
        bare_time.as_secs_f64() / scheduled_time.as_secs_f64()
    );
    println!(
        "memory    {:8.0} KiB for each environment",
        after.saturating_sub(before) as f64 / count as f64
    );
    Ok(())
}

fn bare_step(scene: &CompiledScene, physics: &mut Physics, action: &[f32]) {
    for (servo, number) in scene.servos().iter().zip(action) {
        let Source::Position(joint) = scene.channels()[servo.channel].source else {
            continue;
        };
        let target = physics.qpos()[joint] + scene.speed() * f64::from(*number) * scene.period();
        physics.ctrl_mut()[servo.control] = target.clamp(servo.low, servo.high);
    }
    for _ in 0..scene.scene().physics.frame_skip {
        physics.step();
    }
}

/// Resident memory of this process in KiB, from Linux's `/proc`.
fn resident_memory() -> Result<usize, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
