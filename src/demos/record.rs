//! Episodes of agents as demonstrations.
//!
//! Agents act in the scene as it is, with its task, its length of episodes and its noise, and every step is recorded as
//! with scripted demonstrators. Episodes have numbers; with the seed a number decides everything about an episode but the
//! last bits of the networks' results, which depend on how many agents decide at once. So agents come in rounds of a
//! fixed size, and the episodes of a recording are the same with any number of threads.
//!
//! ```text
//! recorder and agent (one entity) ──ActsIn──> environment ──InstanceOf──> scene
//! ```

use std::collections::BTreeMap;

use bevy::prelude::*;
use rand::RngExt;

use super::collect::{CollectReport, Demonstration};
use super::demonstrator::{Act, Rejection};
use super::recording::{Before, Recording};
use crate::agents::{ActsIn, Behaviour, agent_bundle};
use crate::learners::skill_recorder::TransitionRule;
use crate::pixels::Gaze;
use crate::practice::EpisodeResult;
use crate::rng::{Purpose, Stream, stream};
use crate::scene::CompiledScene;
use crate::sim::{
    Action, Episode, InstanceOf, NextObservation, Observation, Outcome, Physics, Pixels, SimError, TaskProgress,
    spawn_environment,
};
use crate::tick::{Tick, TickSystems};

/// Slots of recorded environments start here, so that their random streams are nobody else's.
const FIRST_SLOT: usize = 1 << 33;
/// Number of the random streams of recorded agents.
const STREAMS: u64 = 1 << 33;
/// Agents that act at the same time.
pub const ROUND: usize = 16;

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// An agent of this learner, with this behaviour.
    Agent(Entity, Behaviour),
    /// Nobody: actions are drawn evenly from -1 to 1.
    Random,
}

/// Records the episode of the agent that it is a component of.
#[derive(Component, Debug)]
pub struct Recorder {
    number: u64,
    /// Whether pictures are kept.
    recording: Recording,
}

/// Draws the actions of its environment.
#[derive(Component, Debug)]
pub struct ActsAtRandom(Stream);

/// An episode that has ended, and what came of it.
#[derive(Debug)]
pub struct RecordedEpisode {
    /// The recording.
    pub demonstration: Demonstration,
    /// What an evaluation would say of it.
    pub result: EpisodeResult,
}

/// Episodes that have ended and have not been fetched, by their numbers.
#[derive(Resource, Debug, Default)]
pub struct RecordedEpisodes(pub BTreeMap<u64, Result<Box<RecordedEpisode>, Rejection>>);

/// Records episodes of agents.
pub struct RecordPlugin;

impl Plugin for RecordPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<RecordedEpisodes>();
        app.add_systems(
            Tick,
            (
                act_at_random.after(TickSystems::Decide).before(TickSystems::Act),
                note_steps.after(TickSystems::Act).before(TickSystems::Simulate),
                note_outcomes.after(TickSystems::Record).before(TickSystems::Evaluate),
            ),
        );
    }
}

/// Spawns the agents and environments of episodes `numbers` in the scene entity `scene`.
///
/// # Errors
/// As [`spawn_environment`].
pub fn begin_round(
    world: &mut World,
    scene: Entity,
    actor: Actor,
    seed: u64,
    numbers: std::ops::Range<u64>,
    images: bool,
) -> Result<(), SimError> {
    for number in numbers {
        let environment = spawn_environment(world, scene, FIRST_SLOT + number as usize, seed)?;
        let stream = stream(seed, Purpose::Evaluation, STREAMS, number);
        let recorder = Recorder {
            number,
            recording: Recording::new(images),
        };
        match actor {
            Actor::Agent(learner, behaviour) => world.spawn((
                agent_bundle(environment, learner, behaviour, TransitionRule::Aligned, stream),
                recorder,
            )),
            Actor::Random => world.spawn((ActsIn(environment), ActsAtRandom(stream), recorder)),
        };
    }
    Ok(())
}

fn act_at_random(mut agents: Query<(&ActsIn, &mut ActsAtRandom)>, mut environments: Query<&mut Action>) {
    for (acts_in, mut random) in &mut agents {
        if let Ok(mut action) = environments.get_mut(acts_in.0) {
            for number in action.iter_mut() {
                *number = random.0.random_range(-1.0..=1.0);
            }
        }
    }
}

type Seen<'a> = (
    &'a InstanceOf,
    &'a Physics,
    &'a Observation,
    &'a Action,
    Option<(&'a Gaze, &'a Pixels)>,
);

/// Notes what there is before the step, and the action.
fn note_steps(
    mut recorders: Query<(&ActsIn, &mut Recorder)>,
    environments: Query<Seen>,
    scenes: Query<&CompiledScene>,
) {
    for (acts_in, mut recorder) in &mut recorders {
        let Ok((scene, physics, observation, action, sight)) = environments.get(acts_in.0) else {
            continue;
        };
        let Ok(scene) = scenes.get(scene.0) else { continue };
        // What the environment does with it: numbers beyond are clipped there.
        let action = action.iter().map(|number| f64::from(number.clamp(-1.0, 1.0)));
        recorder.recording.before(Before {
            demonstrator: None,
            scene,
            physics,
            observation,
            sight,
            act: &Act::exact(action.collect()),
        });
    }
}

type Came<'a> = (
    &'a InstanceOf,
    &'a TaskProgress,
    &'a Episode,
    &'a NextObservation,
    &'a Outcome,
);

/// Notes what came of the step, and takes in what has ended: its agent and its environment go.
fn note_outcomes(
    mut recorders: Query<(Entity, &ActsIn, &mut Recorder)>,
    environments: Query<Came>,
    scenes: Query<&CompiledScene>,
    mut episodes: ResMut<RecordedEpisodes>,
    mut commands: Commands,
) {
    for (agent, acts_in, mut recorder) in &mut recorders {
        let Ok((scene, progress, episode, next, outcome)) = environments.get(acts_in.0) else {
            continue;
        };
        let Ok(scene) = scenes.get(scene.0) else { continue };
        let number = recorder.number;
        let recording = &mut recorder.recording;
        let ended = match recording.after(0.0, progress, outcome, usize::MAX, None) {
            Some(rejection) => Err(rejection),
            None if outcome.ended() => Ok(Box::new(RecordedEpisode {
                demonstration: recording.end(scene, outcome, next, number),
                result: EpisodeResult::of(episode, progress),
            })),
            None => continue,
        };
        episodes.0.insert(number, ended);
        commands.entity(agent).despawn();
        commands.entity(acts_in.0).despawn();
    }
}

impl CollectReport {
    /// Takes in the next episode; gives it back if it counts. One that does not was `refused` for this reason.
    pub fn take_episode(
        &mut self,
        episode: Result<Box<RecordedEpisode>, Rejection>,
        refused: impl FnOnce(&EpisodeResult) -> Option<Rejection>,
    ) -> Option<Demonstration> {
        let judged = episode.and_then(|episode| match refused(&episode.result) {
            Some(rejection) => Err(rejection),
            None => Ok(Box::new(episode.demonstration)),
        });
        self.take(judged)
    }
}
