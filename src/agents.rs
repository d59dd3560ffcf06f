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
use serde::{Deserialize, Serialize};

use crate::learners::sac::{Pick, Sac, SacError};
use crate::learners::skill_recorder::{SkillRecorder, TransitionRule};
use crate::practice::{LearnerFailed, Practice, Replays, Seed};
use crate::replay::{End, ReplayBuffer, ReplayError, Transition};
use crate::rng::Stream;
use crate::sim::{Action, EnvironmentState, NextObservation, NextPixels, Observation, Outcome, Pixels, SimError};
use crate::skills::{ActiveSkill, Decoding, Sees, SkillError, SkillModel, extend_with_brightness};
use crate::tick::{Tick, TickSystems, stop_on_error};

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

impl Behaviour {
    /// Whether transitions are recorded.
    pub fn practises(self) -> bool {
        self == Self::Practises
    }
}

/// The skill an agent is carrying out, and the actions planned for the rest of it (open-loop models).
#[derive(Component, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CurrentSkill {
    /// The skill and how much of it is done.
    pub active: ActiveSkill,
    /// Actions still to be taken, oldest first; empty for closed-loop models.
    pub plan: VecDeque<Vec<f32>>,
}

/// The random numbers of an agent's policy.
#[derive(Component, Debug, Clone)]
pub struct PolicyStream(pub Stream);

/// Transitions that an agent has completed in this tick, waiting to enter the replay buffer.
#[derive(Component, Debug, Clone, Default)]
pub struct Completed(Vec<OwnedTransition>);

/// A [`Transition`] that owns its vectors.
#[derive(Debug, Clone)]
struct OwnedTransition {
    observation: Vec<f32>,
    pixels: Option<Vec<u8>>,
    action: Vec<f32>,
    reward: f32,
    next_observation: Vec<f32>,
    next_pixels: Option<Vec<u8>>,
    steps: u32,
    end: End,
}

impl Completed {
    fn keep(&mut self, transition: Transition<'_>) {
        self.0.push(OwnedTransition {
            observation: transition.observation.to_vec(),
            pixels: transition.pixels.map(<[u8]>::to_vec),
            action: transition.action.to_vec(),
            reward: transition.reward,
            next_observation: transition.next_observation.to_vec(),
            next_pixels: transition.next_pixels.map(<[u8]>::to_vec),
            steps: transition.steps,
            end: transition.end,
        });
    }
}

/// An agent and its environment between two ticks. Going on from here gives the same bits as never having stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentState {
    environment: EnvironmentState,
    skill: CurrentSkill,
    recorder: SkillRecorder,
    stream: Stream,
}

impl AgentState {
    /// The state of an agent; `None` for anything else.
    pub fn capture(world: &World, agent: Entity) -> Option<Self> {
        let agent = world.get_entity(agent).ok()?;
        let environment = world.get_entity(agent.get::<ActsIn>()?.0).ok()?;
        Some(Self {
            environment: EnvironmentState::capture(environment)?,
            skill: agent.get::<CurrentSkill>()?.clone(),
            recorder: agent.get::<SkillRecorder>()?.clone(),
            stream: agent.get::<PolicyStream>()?.0.clone(),
        })
    }

    /// Puts the state into an agent and its environment.
    ///
    /// # Errors
    /// [`SimError::Mismatch`] if the environment's scene has other sizes; nothing has changed then. Other scenes of the
    /// same sizes are not noticed.
    pub fn restore(&self, world: &mut World, agent: Entity) -> Result<(), SimError> {
        if let Some(environment) = world.get::<ActsIn>(agent).map(|acts_in| acts_in.0) {
            self.environment.restore(&mut world.entity_mut(environment))?;
            let (skill, recorder) = (self.skill.clone(), self.recorder.clone());
            world
                .entity_mut(agent)
                .insert((skill, recorder, PolicyStream(self.stream.clone())));
        }
        Ok(())
    }
}

/// Decisions of agents and the recording of their transitions.
pub struct AgentPlugin;

impl Plugin for AgentPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(
            Tick,
            (
                choose_skills.pipe(stop_on_error).in_set(TickSystems::Decide),
                decode_actions.pipe(stop_on_error).in_set(TickSystems::Act),
                record_steps.in_set(TickSystems::Record),
            ),
        );
    }
}

/// Agents could not decide.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The policy failed.
    #[error("policy: {0}")]
    Policy(#[from] SacError),
    /// The skill model failed.
    #[error("skill model: {0}")]
    Skill(#[from] SkillError),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A network sees pictures, and the environment has none.
    #[error("the policy or the skill model sees pictures, and the scene has none (`observation.pixels`)")]
    NoPictures,
}

/// What a network looks at in several environments, one row for each.
struct Views {
    sees: Sees,
    rows: Vec<f32>,
    count: usize,
}

impl Views {
    fn new(sees: Sees) -> Self {
        Self {
            sees,
            rows: Vec::new(),
            count: 0,
        }
    }

    fn add(&mut self, observation: &Observation, pixels: Option<&Pixels>) -> Result<(), AgentError> {
        match self.sees {
            Sees::Numbers => self.rows.extend_from_slice(observation),
            Sees::Pixels(_) => extend_with_brightness(&mut self.rows, pixels.ok_or(AgentError::NoPictures)?),
        }
        self.count += 1;
        Ok(())
    }

    /// `[B, S]`, or `[B, 3 * frames, size, size]`.
    fn into_tensor(self) -> candle_core::Result<Tensor> {
        let Self { sees, rows, count } = self;
        match sees {
            Sees::Numbers => {
                let width = rows.len().checked_div(count).unwrap_or(0);
                Tensor::from_vec(rows, (count, width), &Device::Cpu)
            }
            Sees::Pixels(dims) => Tensor::from_vec(rows, dims.shape(count), &Device::Cpu),
        }
    }
}

/// What agents see.
type Seen<'a> = (&'a Observation, Option<&'a Pixels>);

/// Everything an agent starts with.
pub fn agent_bundle(
    environment: Entity,
    learner: Entity,
    behaviour: Behaviour,
    rule: TransitionRule,
    stream: Stream,
) -> impl Bundle {
    (
        ActsIn(environment),
        LearnsWith(learner),
        behaviour,
        CurrentSkill::default(),
        PolicyStream(stream),
        SkillRecorder::new(rule),
        Completed::default(),
    )
}

type Deciding<'a> = (
    &'a ActsIn,
    &'a Behaviour,
    &'a mut CurrentSkill,
    &'a mut PolicyStream,
    &'a mut SkillRecorder,
    &'a mut Completed,
);

/// Agents whose skill has run out get a new one from their learner's policy, one forward pass for those that practise
/// and one for those that are evaluated: how many rows are multiplied at once may change the last bits of each, and
/// evaluating must change nothing about practice.
pub fn choose_skills(
    mut learners: Query<(&Seed, &Sac, &SkillDecoder, &mut Practice, &Agents)>,
    mut agents: Query<Deciding>,
    observations: Query<Seen>,
) -> Result<(), LearnerFailed<AgentError>> {
    for (seed, sac, decoder, mut practice, members) in &mut learners {
        for practising in [true, false] {
            choose(
                sac,
                decoder,
                &mut practice,
                members,
                practising,
                &mut agents,
                &observations,
            )
            .map_err(seed.failed())?;
        }
    }
    Ok(())
}

fn choose(
    sac: &Sac,
    decoder: &SkillDecoder,
    practice: &mut Practice,
    members: &Agents,
    practising: bool,
    agents: &mut Query<Deciding>,
    observations: &Query<Seen>,
) -> Result<(), AgentError> {
    let width = decoder.0.space().width();
    let length = decoder.0.lengths().first().copied().unwrap_or(1);
    let mut due = Vec::new();
    let mut noise = Vec::new();
    let plans = decoder.0.decoding() == Decoding::Plan;
    let mut views = Views::new(sac.sees());
    // A policy may see numbers where the skill model sees pictures.
    let mut begun = (plans && decoder.0.sees() != sac.sees()).then(|| Views::new(decoder.0.sees()));
    for member in members.iter() {
        let Ok((acts_in, behaviour, skill, mut stream, ..)) = agents.get_mut(member) else {
            continue;
        };
        let Ok((observation, pixels)) = observations.get(acts_in.0) else {
            continue;
        };
        if behaviour.practises() != practising || !skill.active.is_over() {
            continue;
        }
        due.push(member);
        views.add(observation, pixels)?;
        if let Some(begun) = &mut begun {
            begun.add(observation, pixels)?;
        }
        let start = noise.len();
        noise.resize(start + width, 0.0);
        if *behaviour != Behaviour::MostLikely {
            stream.0.fill_normal(&mut noise[start..]);
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    let observed = views.into_tensor()?;
    let skills = if practising && practice.warms_up() {
        sac.act_at_random(&observed, &mut practice.exploration)?
    } else {
        let noise = Tensor::from_vec(noise, (due.len(), width), &Device::Cpu)?;
        sac.act(&observed, Pick::Sample(&noise))?
    };
    let skills = skills.to_vec2::<f32>()?;
    let plans = if plans {
        let begun = begun.map_or(Ok(observed), Views::into_tensor)?;
        let flat: Vec<f32> = skills.iter().flatten().copied().collect();
        let skills = Tensor::from_vec(flat, (due.len(), width), &Device::Cpu)?;
        Some(decoder.0.plan(&begun, &skills, length)?.to_vec3::<f32>()?)
    } else {
        None
    };
    let records_pixels = sac.pixels().is_some();
    for (row, (&member, chosen)) in due.iter().zip(&skills).enumerate() {
        let Ok((acts_in, _, mut skill, _, mut recorder, mut completed)) = agents.get_mut(member) else {
            continue;
        };
        let Ok((observation, pixels)) = observations.get(acts_in.0) else {
            continue;
        };
        let pixels = pixels.filter(|_| records_pixels).map(|pixels| pixels.as_slice());
        if practising && let Some(transition) = recorder.decide(observation, pixels, chosen) {
            completed.keep(transition);
        }
        skill.active.begin(chosen, length);
        skill.plan.clear();
        if let Some(plan) = plans.as_ref().and_then(|plans| plans.get(row)) {
            skill.plan.extend(plan.iter().cloned());
        }
    }
    Ok(())
}

/// Every agent takes the next action of its skill: from its plan, or from one forward pass per learner for those that
/// practise and one for those that are evaluated.
pub fn decode_actions(
    learners: Query<(&Seed, &SkillDecoder, &Agents)>,
    mut agents: Query<(&ActsIn, &Behaviour, &mut CurrentSkill)>,
    mut environments: Query<(Seen, &mut Action)>,
) -> Result<(), LearnerFailed<AgentError>> {
    for (seed, decoder, members) in &learners {
        for practising in [true, false] {
            decode(decoder, members, practising, &mut agents, &mut environments).map_err(seed.failed())?;
        }
    }
    Ok(())
}

fn decode(
    decoder: &SkillDecoder,
    members: &Agents,
    practising: bool,
    agents: &mut Query<(&ActsIn, &Behaviour, &mut CurrentSkill)>,
    environments: &mut Query<(Seen, &mut Action)>,
) -> Result<(), AgentError> {
    let mut acting = Vec::new();
    let mut skills = Vec::new();
    let mut views = Views::new(decoder.0.sees());
    for member in members.iter() {
        let Ok((acts_in, behaviour, mut skill)) = agents.get_mut(member) else {
            continue;
        };
        if behaviour.practises() != practising {
            continue;
        }
        let Ok(((observation, pixels), mut action)) = environments.get_mut(acts_in.0) else {
            continue;
        };
        skill.active.advance();
        if let Some(planned) = skill.plan.pop_front() {
            action.0.copy_from_slice(&planned);
            continue;
        }
        acting.push(acts_in.0);
        views.add(observation, pixels)?;
        skills.extend_from_slice(skill.active.skill());
    }
    if acting.is_empty() {
        return Ok(());
    }
    let rows = acting.len();
    let observed = views.into_tensor()?;
    let skills = Tensor::from_vec(skills, (rows, decoder.0.space().width()), &Device::Cpu)?;
    let actions = decoder.0.act(&observed, &skills)?.to_vec2::<f32>()?;
    for (environment, values) in acting.into_iter().zip(actions) {
        if let Ok((_, mut action)) = environments.get_mut(environment) {
            action.0.copy_from_slice(&values);
        }
    }
    Ok(())
}

/// Adds the step just taken to the transition each agent is in; the skill of an ended episode is dropped.
pub fn record_steps(
    learners: Query<&Sac>,
    mut agents: Query<(
        &ActsIn,
        &LearnsWith,
        &Behaviour,
        &mut CurrentSkill,
        &mut SkillRecorder,
        &mut Completed,
    )>,
    environments: Query<(&Outcome, &NextObservation, Option<&NextPixels>)>,
) {
    for (acts_in, learner, behaviour, mut skill, mut recorder, mut completed) in &mut agents {
        let Ok((outcome, next, pixels)) = environments.get(acts_in.0) else {
            continue;
        };
        if outcome.ended() {
            skill.active.clear();
            skill.plan.clear();
        }
        if !behaviour.practises() {
            continue;
        }
        if outcome.fault.is_some() {
            recorder.discard();
            continue;
        }
        let end = match outcome {
            Outcome { terminated: true, .. } => End::Terminated,
            Outcome { truncated: true, .. } => End::TimedOut,
            _ => End::Continues,
        };
        let records_pixels = learners.get(learner.0).is_ok_and(|sac| sac.pixels().is_some());
        let pixels = pixels.filter(|_| records_pixels).map(|pixels| pixels.as_slice());
        if let Some(transition) = recorder.step(outcome.reward, next, pixels, end) {
            completed.keep(transition);
        }
    }
}

/// Moves completed transitions into the learners' replay buffers, in the order of the agents.
pub fn store_transitions(
    mut learners: Query<(&Seed, &Agents, &Replays, &mut Practice)>,
    mut buffers: Query<&mut ReplayBuffer>,
    mut agents: Query<&mut Completed>,
) -> Result<(), LearnerFailed<ReplayError>> {
    for (seed, members, replays, mut practice) in &mut learners {
        let Ok(mut buffer) = buffers.get_mut(replays.0) else {
            continue;
        };
        for member in members.iter() {
            let Ok(mut completed) = agents.get_mut(member) else {
                continue;
            };
            for transition in completed.0.drain(..) {
                let stored = buffer.push(Transition {
                    observation: &transition.observation,
                    pixels: transition.pixels.as_deref(),
                    action: &transition.action,
                    reward: transition.reward,
                    next_observation: &transition.next_observation,
                    next_pixels: transition.next_pixels.as_deref(),
                    steps: transition.steps,
                    end: transition.end,
                });
                if stored.map_err(seed.failed())? {
                    practice.count_transition();
                }
            }
        }
    }
    Ok(())
}
