//! Simulation and learning at the same time, against each of them alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy::prelude::*;

use super::learning::{LoneLearner, replay, sac, skill_model};
use super::{BenchConfig, BenchError, Measured};
use crate::agents::{AgentPlugin, Behaviour, SkillDecoder, agent_bundle};
use crate::app::{self, StopRequest};
use crate::experiment::TrainingConfig;
use crate::learners::sac::SacConfig;
use crate::nn::Compute;
use crate::practice::{Practice, PracticePlugin, RecentEpisodes, RecentUpdates, Replays, Seed};
use crate::rng::{Purpose, stream};
use crate::scene::CompiledScene;
use crate::sim::{SimPlugin, spawn_environment};
use crate::skills::SkillModel;
use crate::skills::spirl::DecoderKind;
use crate::tick::{Faults, Tick};

/// Ticks of one side before it is the next one's turn.
const TURN: u32 = 20;

/// Environment steps per second of one learner with `environments` kitchens and closed-loop skills, one update per
/// skill: acting alone, learning alone (as many steps as its updates would allow), and both at once. The three take
/// turns. The ratio is that of both at once to the slower half alone.
///
/// # Errors
/// A scene that does not load, no memory, or an error inside a tick.
pub fn practice(config: &BenchConfig, environments: usize) -> Result<Vec<Measured>, BenchError> {
    let mut acting = world(config, environments, 0.0)?;
    let mut both = world(config, environments, 1.0)?;
    let mut learner = LoneLearner::new(0, Compute::Fused)?;
    let length = skill_length()?;
    let updates = (TURN as usize * environments / length).max(1);
    let (mut acting_time, mut both_time, mut learning_time) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut turns = 0_u32;
    // The first skills end, and learning begins, after ten ticks.
    turn(&mut acting)?;
    turn(&mut both)?;
    learner.update()?;
    while acting_time + both_time + learning_time < 3 * config.time {
        acting_time += turn(&mut acting)?;
        both_time += turn(&mut both)?;
        let start = Instant::now();
        for _ in 0..updates {
            learner.update()?;
        }
        learning_time += start.elapsed();
        turns += 1;
    }
    let rate = |steps: usize, time: Duration| f64::from(turns) * steps as f64 / time.as_secs_f64();
    let steps = TURN as usize * environments;
    let (acting, both) = (rate(steps, acting_time), rate(steps, both_time));
    let learning = rate(updates * length, learning_time);

    let name = |what: &str| format!("{what}, {environments} kitchens");
    Ok(vec![
        Measured::new(name("acting alone"), acting, "control steps/s"),
        Measured::new(name("learning alone"), learning, "control steps/s"),
        Measured::new(name("acting and learning"), both, "control steps/s"),
        Measured::new(
            name("acting and learning to the slower half"),
            both / acting.min(learning),
            "ratio",
        ),
    ])
}

fn decoder() -> Result<Arc<dyn SkillModel>, BenchError> {
    let model = skill_model(DecoderKind::ClosedLoop, 1)?.into_skills();
    model.ok_or_else(|| BenchError::Wrong("the skill model has no skills".into()))
}

fn skill_length() -> Result<usize, BenchError> {
    Ok(decoder()?.lengths().first().copied().unwrap_or(1))
}

/// One learner, its agents and their kitchens.
fn world(config: &BenchConfig, environments: usize, updates_per_transition: f64) -> Result<App, BenchError> {
    let training = TrainingConfig {
        warmup: 0,
        updates_per_transition,
        ..TrainingConfig::default()
    };
    let mut app = app::headless(config.threads, StopRequest::default());
    app.add_plugins((SimPlugin, AgentPlugin, PracticePlugin));
    let world = app.world_mut();
    let scene = world.spawn(CompiledScene::load("kitchen", &[])?).id();
    let buffer = world.spawn(replay(10_000)?).id();
    let learner = world
        .spawn((
            Seed(0),
            sac(&SacConfig::default(), 0)?,
            Practice::new(&training, 0),
            Replays(buffer),
            SkillDecoder(decoder()?),
            RecentEpisodes::default(),
            RecentUpdates::default(),
        ))
        .id();
    for slot in 0..environments {
        let environment = spawn_environment(world, scene, slot, 0)?;
        let stream = stream(0, Purpose::Policy, slot as u64, 0);
        let rule = training.transitions;
        world.spawn(agent_bundle(environment, learner, Behaviour::Practises, rule, stream));
    }
    app.finish();
    app.cleanup();
    Ok(app)
}

fn turn(app: &mut App) -> Result<Duration, BenchError> {
    let world = app.world_mut();
    let start = Instant::now();
    for _ in 0..TURN {
        world.run_schedule(Tick);
    }
    let took = start.elapsed();
    match world.resource::<Faults>().take() {
        Some(error) => Err(BenchError::Tick(error)),
        None => Ok(took),
    }
}
