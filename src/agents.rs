//! Agents: entities that decide the actions of one environment each, under a learner they share.
//!
//! ```text
//! Learner ──replays──> ReplayBuffer
//!    ▲ learns with
//!  Agent ──acts in──> Environment
//! ```
//!
//! A decision has two levels. An agent whose skill has run out asks the learner's policy for a new one; then every
//! agent asks the learner's skill model for the next action. Both are one batched forward pass per learner. Learners
//! that act in single actions use the skill model [`Primitive`](crate::skills::Primitive), whose skills last one tick.

use std::collections::VecDeque;
use std::sync::Arc;

use bevy::prelude::*;
use candle_core::{Device, Tensor};

use crate::learners::sac::{Noise, Sac};
use crate::learners::skill_recorder::SkillRecorder;
use crate::replay::{End, ReplayBuffer, Transition};
use crate::rng::{self, Purpose, Stream};
use crate::sim::{Action, Episode, Observation, Outcome};
use crate::skills::{ActiveSkill, Decoding, SkillModel};
use crate::tick::{Fault, Tick, TickSystems};

/// The environment an agent acts in.
#[derive(Component, Debug)]
#[relationship(relationship_target = ActedInBy)]
pub struct ActsIn(pub Entity);

/// The agent that acts in this environment.
#[derive(Component, Debug)]
#[relationship_target(relationship = ActsIn)]
pub struct ActedInBy(Entity);

/// The learner whose policy an agent follows.
#[derive(Component, Debug)]
#[relationship(relationship_target = Agents)]
pub struct LearnsWith(pub Entity);

/// The agents that follow this learner's policy, in the order in which they were spawned.
#[derive(Component, Debug)]
#[relationship_target(relationship = LearnsWith, linked_spawn)]
pub struct Agents(Vec<Entity>);

/// The replay buffer a learner samples from.
#[derive(Component, Debug)]
#[relationship(relationship_target = ReplayedBy)]
pub struct Replays(pub Entity);

/// The learners that sample from this replay buffer.
#[derive(Component, Debug)]
#[relationship_target(relationship = Replays)]
pub struct ReplayedBy(Vec<Entity>);

/// The model that turns a learner's skills into actions. Shared by all learners that use the same one.
#[derive(Component, Clone)]
pub struct SkillDecoder(pub Arc<dyn SkillModel>);

/// How an agent uses the policy.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Samples skills; its transitions are learned from.
    Practises,
    /// Samples skills; nothing is recorded.
    Samples,
    /// Takes the most likely skill; nothing is recorded.
    MostLikely,
}

/// The skill an agent is carrying out, and the actions planned for the rest of it (open-loop models).
#[derive(Component, Debug, Clone, Default)]
pub struct CurrentSkill {
    /// The skill and how much of it is done.
    pub active: ActiveSkill,
    /// Actions still to be taken, oldest first; empty for closed-loop models.
    pub plan: VecDeque<Vec<f32>>,
}

/// The random numbers of an agent's policy.
#[derive(Component, Debug, Clone)]
pub struct PolicyStream(pub Stream);

/// Transitions an agent has completed in this tick and the last one's decision, waiting to enter the replay buffer.
#[derive(Component, Debug, Clone, Default)]
pub struct Completed(Vec<StoredTransition>);

/// An owned [`Transition`].
#[derive(Debug, Clone)]
struct StoredTransition {
    observation: Vec<f32>,
    action: Vec<f32>,
    reward: f32,
    next_observation: Vec<f32>,
    steps: u32,
    end: End,
}

impl From<Transition<'_>> for StoredTransition {
    fn from(transition: Transition<'_>) -> Self {
        Self {
            observation: transition.observation.to_vec(),
            action: transition.action.to_vec(),
            reward: transition.reward,
            next_observation: transition.next_observation.to_vec(),
            steps: transition.steps,
            end: transition.end,
        }
    }
}

/// Decisions of agents and the recording of their transitions.
pub struct AgentPlugin;

impl Plugin for AgentPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(Tick, (drop_old_skills, choose_skills, decode_actions).chain().in_set(TickSystems::Decide))
            .add_systems(Tick, (record_steps, store_transitions).chain().in_set(TickSystems::Record));
    }
}

/// Everything an agent starts with.
pub fn agent_bundle(environment: Entity, learner: Entity, behaviour: Behaviour, stream: Stream) -> impl Bundle {
    (
        ActsIn(environment),
        LearnsWith(learner),
        behaviour,
        CurrentSkill::default(),
        PolicyStream(stream),
        Completed::default(),
    )
}

/// The policy stream of the agent in slot `slot` of the learner with this seed.
pub fn policy_stream(seed: u64, slot: u64) -> Stream {
    rng::stream(seed, Purpose::Policy, slot, 0)
}
