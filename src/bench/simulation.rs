//! Environments in the schedule against bare `mj_step` loops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy::prelude::*;
use mujoco_rs::wrappers::mj_data::MjData;

use super::{BenchConfig, BenchError, Measured};
use crate::app::{self, StopRequest};
use crate::scene::{CompiledControl, CompiledScene, Source};
use crate::sim::{Action, Measurement, Physics, SimPlugin, spawn_environment, step};
use crate::tick::Tick;

/// Control steps of one side before it is the other's turn.
const TURN: usize = 5;

/// Control steps per second of `environments` copies of the scene `name` in the schedule, their ratio to a loop that only
/// sets the controls and calls `mj_step`, and the resident memory of one more environment. Pictures that agents see are
/// drawn on the scheduled side.
///
/// Both sides take the same actions, in turn, a few steps at a time, so that other load on the machine meets both
/// alike, and both start anew when an episode is over; in the end their states must be equal to the last bit. The bare
/// side runs on as many threads, each with its fixed share of the environments.
///
/// # Errors
/// A scene that does not load, no memory, or states that differ.
pub fn simulation(config: &BenchConfig, name: &str, environments: usize) -> Result<Vec<Measured>, BenchError> {
    // Noise far below the resolution of the numbers: its cost is in, and both sides still see the same.
    let scene = CompiledScene::load(name, &["observation.noise_scale=1e-300".into()])?;
    let copies = if name == "kitchen" {
        "kitchens".to_owned()
    } else {
        format!("of {name}")
    };
    let mut bare = bare_environments(&scene, environments)?;

    let mut app = app::headless(config.threads, StopRequest::default());
    app.add_plugins(SimPlugin);
    let world = app.world_mut();
    let before = resident_kib();
    let instance = world.spawn(scene.clone()).id();
    let scheduled: Vec<Entity> = (0..environments)
        .map(|slot| spawn_environment(world, instance, slot, 0))
        .collect::<Result<_, _>>()?;

    let episode = scene.scene().episode.steps as usize;
    let (mut scheduled_time, mut bare_time) = (Duration::ZERO, Duration::ZERO);
    let mut ticks = 0;
    while scheduled_time + bare_time < 2 * config.time {
        let turn: Vec<_> = (ticks..ticks + TURN)
            .map(|tick| Step {
                begins: tick > 0 && tick.is_multiple_of(episode),
                actions: actions(tick % episode, environments, scene.action_len()),
            })
            .collect();
        let start = Instant::now();
        for step in &turn {
            for (&environment, action) in scheduled.iter().zip(&step.actions) {
                if let Some(mut wanted) = world.get_mut::<Action>(environment) {
                    wanted.copy_from_slice(action);
                }
            }
            world.run_schedule(Tick);
        }
        scheduled_time += start.elapsed();
        let start = Instant::now();
        bare_turn(&scene, &mut bare, &turn, config.threads);
        bare_time += start.elapsed();
        ticks += TURN;
    }
    let memory = resident_kib()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));

    let same = scheduled.iter().zip(&bare).all(|(&entity, bare)| {
        let physics = world.get::<Physics>(entity);
        physics.is_some_and(|physics| physics.qpos() == bare.qpos())
    });
    if !same {
        return Err(BenchError::Wrong("environments and bare physics differ".into()));
    }
    let name = |what: &str| format!("{what}, {environments} {copies}");
    let rate = |time: Duration| (ticks * environments) as f64 / time.as_secs_f64();
    let ratio = bare_time.as_secs_f64() / scheduled_time.as_secs_f64();
    let mut results = vec![
        Measured::new(name("simulation"), rate(scheduled_time), "control steps/s"),
        Measured::new(name("bare mj_step"), rate(bare_time), "control steps/s"),
        Measured::new(name("simulation to bare mj_step"), ratio, "ratio"),
    ];
    results.extend(memory.map(|kib| {
        let each = kib as f64 / environments.max(1) as f64;
        Measured::new(name("memory of an environment"), each, "KiB")
    }));
    Ok(results)
}

/// Physics states at the scene's start whose memory has been touched: what `MuJoCo` touches of its arena must not count
/// as memory of the other side.
fn bare_environments(scene: &CompiledScene, count: usize) -> Result<Vec<Physics>, BenchError> {
    let action = vec![0.5; scene.action_len()];
    (0..count)
        .map(|_| {
            let data = MjData::try_new(Arc::clone(scene.model()));
            let mut physics = Physics(data.map_err(|error| BenchError::Physics(error.to_string()))?);
            step::reset(scene, &mut physics);
            for _ in 0..2 * TURN {
                bare_step(scene, &mut physics, &action);
            }
            step::reset(scene, &mut physics);
            Ok(physics)
        })
        .collect()
}

/// What all environments do in one tick.
struct Step {
    /// A new episode begins before it.
    begins: bool,
    /// One action for each environment.
    actions: Vec<Vec<f32>>,
}

/// The actions in step `step` of an episode. `benches/peers.py` has the same formula, so that all programs simulate the
/// same motion.
fn actions(step: usize, environments: usize, numbers: usize) -> Vec<Vec<f32>> {
    (0..environments)
        .map(|environment| {
            let phase = 0.7 * step as f64 + 1.3 * environment as f64;
            (0..numbers).map(|joint| (phase + joint as f64).sin() as f32).collect()
        })
        .collect()
}

fn bare_turn(scene: &CompiledScene, bare: &mut [Physics], turn: &[Step], threads: usize) {
    let share = bare.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (part, physics) in bare.chunks_mut(share).enumerate() {
            scope.spawn(move || {
                for step in turn {
                    for (physics, action) in physics.iter_mut().zip(step.actions.iter().skip(part * share)) {
                        if step.begins {
                            step::reset(scene, physics);
                        }
                        bare_step(scene, physics, action);
                    }
                }
            });
        }
    });
}

fn bare_step(scene: &CompiledScene, physics: &mut Physics, action: &[f32]) {
    if let CompiledControl::Motors { .. } = scene.control() {
        // They do not look at what was observed, and these actions are finite.
        let _ = step::apply_action(scene, &Measurement(Vec::new()), action, physics);
    }
    for (servo, number) in scene.servos().iter().zip(action) {
        let Some(Source::Position(joint)) = scene.channels().get(servo.channel).map(|channel| channel.source) else {
            continue;
        };
        let Some(&position) = physics.qpos().get(joint) else {
            continue;
        };
        let target = position + scene.speed() * f64::from(*number) * scene.period();
        if let Some(control) = physics.ctrl_mut().get_mut(servo.control) {
            *control = target.clamp(servo.low, servo.high);
        }
    }
    for _ in 0..scene.scene().physics.frame_skip {
        physics.step();
    }
}

/// Resident memory of this process in KiB, where the system tells (Linux).
fn resident_kib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}
