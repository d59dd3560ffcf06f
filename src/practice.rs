//! Practice: how a learner's counters, replay and gradient updates follow the ticks of its agents.
//!
//! A learner first warms up: its agents act from where the policy starts, transitions are stored, nothing is learned
//! and environment steps are not counted. Then every stored transition earns it a number of updates. Updates that are
//! due are spread over ticks, because skills of many agents tend to end in the same tick and the processor would
//! otherwise simulate and learn in turn instead of side by side.

mod best;

pub use best::{BEST, BestEvaluation, BestLearner, Choice, note_best_learners};

use std::path::PathBuf;

use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use crate::agents::{ActsIn, AgentState, Agents, Behaviour, record_steps, store_transitions};
use crate::checkpoint::{CheckpointError, Checkpoints, Part};
use crate::evaluate::{Evaluation, EvaluationSchedule, SavedEvaluation};
use crate::experiment::{Experiment, TrainingConfig};
use crate::learners::sac::{Sac, SacError, Temperature, UpdateMetrics, UpdateNoise};
use crate::learners::skill_recorder::TransitionRule;
use crate::metrics::MetricsError;
use crate::panics;
use crate::replay::{self, Batch, ReplayBuffer, ReplayError};
use crate::reports::{Reporter, next_multiple};
use crate::rng::{Purpose, Stream, stream};
use crate::sim::{Episode, Outcome, TaskProgress};
use crate::tick::{AtRest, Faults, Tick, TickCount, TickSystems, Workers, stop_on_error};
use crate::watchdog::{Work, busy};

/// The replay buffer a learner samples from.
#[derive(Component, Debug)]
#[relationship(relationship_target = ReplayedBy)]
pub struct Replays(pub Entity);

/// The learners that sample from this replay buffer.
#[derive(Component, Debug)]
#[relationship_target(relationship = Replays)]
pub struct ReplayedBy(Vec<Entity>);

/// The seed of a learner: with it go all random numbers of the learner and its agents.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

/// An error of one learner. It ends the run of all that are in the world.
#[derive(Debug, thiserror::Error)]
#[error("learner with seed {seed}: {error}")]
pub struct LearnerFailed<E> {
    seed: u64,
    error: E,
}

impl Seed {
    /// Says whose error it is.
    pub fn failed<E>(self) -> impl FnOnce(E) -> LearnerFailed<E> {
        move |error| LearnerFailed { seed: self.0, error }
    }
}

/// What a learner's checkpoints fix: practice goes on with the same or not at all.
#[derive(Component, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FixedSettings {
    /// The scene, as the experiment names it.
    pub scene: String,
    /// Transitions that the replay buffer holds.
    pub replay_capacity: usize,
    /// Transitions of the warm-up.
    pub warmup: u64,
    /// What makes up a transition.
    pub transitions: TransitionRule,
    /// How the penalty is weighted.
    pub temperature: Temperature,
    /// Checksum of the skill model's weights, if there is one: policy and replay buffer hold skills that mean something
    /// to this model only.
    pub skill_model: Option<u32>,
}

impl FixedSettings {
    /// Those of an experiment whose learners stand on the skill model with this checksum.
    pub fn new(experiment: &Experiment, skill_model: Option<u32>) -> Self {
        Self {
            scene: experiment.scene.clone(),
            replay_capacity: experiment.training.replay_capacity,
            warmup: experiment.training.warmup,
            transitions: experiment.training.transitions,
            temperature: experiment.learner.temperature,
            skill_model,
        }
    }
}

/// How far a learner's practice has come. Everything here goes into checkpoints.
#[derive(Component, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Practice {
    /// Environment steps since the warm-up ended.
    pub steps: u64,
    /// Transitions stored, warm-up included.
    pub transitions: u64,
    /// Episodes finished since the warm-up ended.
    pub episodes: u64,
    /// Episodes cut off since then because physics or an action was no longer finite.
    #[serde(default)]
    pub faults: u64,
    /// Transitions the warm-up still needs.
    warmup_left: u64,
    /// Updates that transitions have earned and that are not yet made.
    owed: f64,
    updates_per_transition: f64,
    updates_per_tick: u32,
    /// Skills or actions of the warm-up, wherever the policy starts from.
    pub exploration: Stream,
    replay: Stream,
    update: Stream,
}

impl Practice {
    /// The start of practice for the learner with this seed.
    pub fn new(config: &TrainingConfig, seed: u64) -> Self {
        Self {
            steps: 0,
            transitions: 0,
            episodes: 0,
            faults: 0,
            warmup_left: config.warmup,
            owed: 0.0,
            updates_per_transition: config.updates_per_transition,
            updates_per_tick: config.updates_per_tick,
            exploration: stream(seed, Purpose::Policy, u64::MAX, 0),
            replay: stream(seed, Purpose::Replay, 0, 0),
            update: stream(seed, Purpose::Update, 0, 0),
        }
    }

    /// Takes over the rates of a configuration that may have changed since this practice began.
    pub fn with_rates(mut self, config: &TrainingConfig) -> Self {
        self.updates_per_transition = config.updates_per_transition;
        self.updates_per_tick = config.updates_per_tick;
        self
    }

    /// Practice of a learner that is only watched or evaluated: no warm-up, no updates.
    pub fn none(seed: u64) -> Self {
        let config = TrainingConfig {
            warmup: 0,
            updates_per_transition: 0.0,
            ..TrainingConfig::default()
        };
        Self::new(&config, seed)
    }

    /// Whether transitions are still only gathered.
    pub fn warms_up(&self) -> bool {
        self.warmup_left > 0
    }

    /// Transitions the warm-up still needs.
    pub fn warmup_left(&self) -> u64 {
        self.warmup_left
    }

    /// Counts a stored transition and what it earns.
    pub fn count_transition(&mut self) {
        self.transitions += 1;
        if self.warmup_left > 0 {
            self.warmup_left -= 1;
        } else {
            self.owed += self.updates_per_transition;
        }
    }

    /// Takes the updates that are due in this tick off the account.
    fn take_due(&mut self) -> u32 {
        // A tenth of the account, so that learners of single actions, which earn updates every tick, keep up as well.
        let most = f64::from(self.updates_per_tick).max((self.owed / 10.0).ceil());
        let due = self.owed.floor().clamp(0.0, most) as u32;
        self.owed -= f64::from(due);
        due
    }
}

/// What a learner's finished episodes looked like lately, for reports. Cleared by whoever reports.
#[derive(Component, Debug, Clone, Default)]
pub struct RecentEpisodes(pub Vec<EpisodeResult>);

/// What a learner's latest updates looked like, for reports. Cleared by whoever reports.
#[derive(Component, Debug, Clone, Default)]
pub struct RecentUpdates(pub Vec<UpdateMetrics>);

/// How an episode ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodeResult {
    /// Sum of rewards.
    pub return_: f32,
    /// Control steps.
    pub steps: u32,
    /// For each element of the task: counted.
    pub done: Vec<bool>,
    /// For each element of the scene: was at its goal at some time.
    pub reached: Vec<bool>,
    /// What terms of the reward reported at the end.
    pub figures: Vec<f64>,
}

impl EpisodeResult {
    /// Elements of the task that were completed.
    pub fn completed(&self) -> usize {
        self.done.iter().filter(|done| **done).count()
    }
}

/// Environment steps after which a learner is saved for the last time and leaves the world, with its agents, their
/// environments and its replay buffer: others may take longer, and that must not change it.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget(pub u64);

/// Where and when a learner is saved.
#[derive(Component, Debug)]
pub struct LearnerCheckpoints {
    /// Its checkpoints.
    pub folder: Checkpoints,
    /// Environment steps between two of them; 0 for none but the last.
    pub every: u64,
    /// Environment steps of practice at which the next one is due.
    pub next: u64,
    /// The tick of the last one; 0 for the one that practice goes on from.
    pub saved_at: Option<u64>,
    /// The last one: its folder, and how many transitions had been [stored](ReplayBuffer::stored) then. Blocks of the
    /// replay buffer that have not changed since are taken over from there.
    pub last: Option<(PathBuf, u64)>,
}

impl LearnerCheckpoints {
    /// Whether one is due: at its time, and when the learner's steps are made.
    pub fn are_due(&self, practice: &Practice, budget: Budget) -> bool {
        practice.steps >= self.next || practice.steps >= budget.0
    }
}

/// The part of a learner's checkpoint that is not tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedPractice {
    /// Counters and random streams.
    pub practice: Practice,
    /// Evaluations that have ended.
    pub evaluations: usize,
    /// Another one was under way.
    #[serde(default)]
    pub evaluating: bool,
    /// How far it was. Checkpoints of earlier versions do not say; there it begins again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<SavedEvaluation>,
    /// Environment steps at which the next one is due; fewer than were made if it had to wait for the one under way.
    #[serde(default)]
    pub next_evaluation: Option<u64>,
    /// The best evaluation; the file [`BEST`] has the learner as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestEvaluation>,
    /// What must not change. Checkpoints of earlier versions do not say.
    #[serde(default)]
    pub fixed: Option<FixedSettings>,
    /// The agents that practise, by slot.
    #[serde(default)]
    pub agents: Vec<AgentState>,
}

/// Learning from replay beside the simulation, and the counting of steps and episodes.
pub struct PracticePlugin;

impl Plugin for PracticePlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(
            Tick,
            (
                learn.in_set(TickSystems::Learn),
                (store_transitions.pipe(stop_on_error), ask_priors, count_steps)
                    .chain()
                    .after(record_steps)
                    .in_set(TickSystems::Record),
                (
                    save_due_learners.pipe(stop_on_error).run_if(a_checkpoint_is_due),
                    retire_finished_learners,
                )
                    .chain()
                    .in_set(TickSystems::Checkpoint)
                    .before(AtRest),
            ),
        );
    }
}

/// A learner could not update.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The networks failed, or learning diverged.
    #[error(transparent)]
    Sac(#[from] SacError),
    /// There is nothing to learn from.
    #[error("replay buffer: {0}")]
    Replay(#[from] ReplayError),
}

type Learning<'a> = (
    &'a Seed,
    &'a mut Sac,
    &'a mut Practice,
    &'a mut RecentUpdates,
    &'a Replays,
);

type LearningItem<'a> = (
    &'a Seed,
    Mut<'a, Sac>,
    Mut<'a, Practice>,
    Mut<'a, RecentUpdates>,
    &'a Replays,
);

/// Of so many updates on another processor, the figures of one are read back: metrics are means of these.
const READ_EVERY: u64 = 20;

/// A learned temperature above this leaves nothing of the rewards.
const RUN_AWAY: f32 = 1e6;

fn warn_of_running_away(seed: Seed, step: u64) {
    warn!(
        "seed {}: at step {step} the temperature has passed {RUN_AWAY:e}, and rewards no longer count: the penalty stays \
         away from its target whatever the policy does (learner/penalty; of a divergence beyond learner.regulariser.clamp \
         there is no gradient). What is learned from here on is of no use",
        seed.0
    );
}

/// Every learner takes the updates that are due, one thread each.
pub fn learn(mut learners: Query<Learning>, buffers: Query<&ReplayBuffer>, workers: Res<Workers>, faults: Res<Faults>) {
    let updates = |(seed, mut sac, practice, mut recent, replays): LearningItem| {
        let Ok(buffer) = buffers.get(replays.0) else { return };
        let practice = practice.into_inner();
        for _ in 0..practice.take_due() {
            if !sac.compute().reads_at_once() && !sac.updates().is_multiple_of(READ_EVERY) {
                match update_unread(&mut sac, buffer, &mut practice.replay, &mut practice.update) {
                    Ok(()) => continue,
                    Err(error) => return faults.report(seed.failed()(error)),
                }
            }
            let before = sac.temperature();
            match update(&mut sac, buffer, &mut practice.replay, &mut practice.update) {
                Ok(metrics) => {
                    if before <= RUN_AWAY && sac.temperature() > RUN_AWAY {
                        warn_of_running_away(*seed, practice.steps);
                    }
                    recent.0.push(metrics);
                }
                Err(error) => return faults.report(seed.failed()(error)),
            }
        }
    };
    workers.spread(learners.iter_mut(), |learner| {
        busy(Work::Learner(learner.0.0), || updates(learner));
    });
}

/// Priors that see pictures say what they think of the transitions that have just been stored. They are frozen, so it is
/// enough to ask them once.
pub fn ask_priors(
    learners: Query<(&Seed, &Sac, &Replays)>,
    mut buffers: Query<&mut ReplayBuffer>,
    faults: Res<Faults>,
) {
    for (seed, sac, replays) in &learners {
        let Ok(mut buffer) = buffers.get_mut(replays.0) else {
            continue;
        };
        if let Err(error) = sac.ask_prior(buffer.bypass_change_detection()) {
            faults.report(seed.failed()(LearnError::from(error)));
        }
    }
}

/// A whole update of a learner: a batch from its replay buffer, drawn with `batches`; random numbers, drawn with
/// `noise`; losses, gradients, optimisers, targets.
pub(crate) fn update(
    sac: &mut Sac,
    buffer: &ReplayBuffer,
    batches: &mut Stream,
    noise: &mut Stream,
) -> Result<UpdateMetrics, LearnError> {
    let (batch, noise) = draw(sac, buffer, batches, noise)?;
    Ok(sac.update(&batch, &noise)?)
}

/// As [`update`], without reading anything back where that takes time.
pub(crate) fn update_unread(
    sac: &mut Sac,
    buffer: &ReplayBuffer,
    batches: &mut Stream,
    noise: &mut Stream,
) -> Result<(), LearnError> {
    let (batch, noise) = draw(sac, buffer, batches, noise)?;
    Ok(sac.update_unread(&batch, &noise)?)
}

/// What is random in an update.
fn draw(
    sac: &Sac,
    buffer: &ReplayBuffer,
    batches: &mut Stream,
    noise: &mut Stream,
) -> Result<(Batch, UpdateNoise), LearnError> {
    let size = sac.config().batch;
    Ok((buffer.sample(batches, size)?, sac.draw_noise(noise, size)?))
}

/// Saving a learner failed.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The weights could not be read out.
    #[error(transparent)]
    Sac(#[from] SacError),
    /// The transitions could not be read out.
    #[error("replay buffer: {0}")]
    Replay(#[from] ReplayError),
    /// The checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The metrics could not be brought to the disk.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// Whether [`save_due_learners`] has anything to do, which would otherwise have the world to itself in every tick.
fn a_checkpoint_is_due(learners: Query<(&Practice, &LearnerCheckpoints, &Budget)>) -> bool {
    learners
        .iter()
        .any(|(practice, checkpoints, budget)| checkpoints.are_due(practice, *budget))
}

/// Saves every learner whose checkpoint is due or whose steps are made; none in a tick in which something failed.
pub fn save_due_learners(world: &mut World) -> Result<(), LearnerFailed<SaveError>> {
    if !world.resource::<Faults>().is_empty() || panics::have_happened() {
        return Ok(());
    }
    let mut learners = world.query::<(Entity, &Practice, &LearnerCheckpoints, &Budget)>();
    let due: Vec<Entity> = learners
        .iter(world)
        .filter(|(_, practice, checkpoints, budget)| checkpoints.are_due(practice, **budget))
        .map(|(learner, ..)| learner)
        .collect();
    due.into_iter().try_for_each(|learner| save_learner(world, learner))
}

/// Saves every learner to which something has happened since its last checkpoint, as at the end of a run. One that
/// cannot be saved does not keep the others from it; the first error comes back.
pub fn save_all_learners(world: &mut World) -> Result<(), LearnerFailed<SaveError>> {
    let mut learners = world.query_filtered::<Entity, With<LearnerCheckpoints>>();
    let all: Vec<Entity> = learners.iter(world).collect();
    let results: Vec<_> = all.into_iter().map(|learner| save_learner(world, learner)).collect();
    results.into_iter().collect()
}

fn save_learner(world: &mut World, learner: Entity) -> Result<(), LearnerFailed<SaveError>> {
    let seed = world.get::<Seed>(learner).copied().unwrap_or(Seed(0));
    busy(Work::Checkpoint(seed.0), || write_checkpoint(world, learner)).map_err(seed.failed())
}

fn write_checkpoint(world: &mut World, learner: Entity) -> Result<(), SaveError> {
    let tick = world.resource::<TickCount>().0;
    let mut entity = world.entity_mut(learner);
    if entity
        .get::<LearnerCheckpoints>()
        .is_none_or(|checkpoints| checkpoints.saved_at == Some(tick))
    {
        return Ok(());
    }
    // A checkpoint whose metrics are not on the disk would leave a gap after a resume.
    if let Some(mut reporter) = entity.get_mut::<Reporter>() {
        reporter.sync()?;
    }
    let entity = world.entity(learner);
    let (Some(sac), Some(practice), Some(replays), Some(members), Some(schedule), Some(evaluation)) = (
        entity.get::<Sac>(),
        entity.get::<Practice>(),
        entity.get::<Replays>(),
        entity.get::<Agents>(),
        entity.get::<EvaluationSchedule>(),
        entity.get::<Evaluation>(),
    ) else {
        return Ok(());
    };
    let Some(buffer) = world.get::<ReplayBuffer>(replays.0) else {
        return Ok(());
    };
    let practises = |agent: &Entity| {
        world
            .get::<Behaviour>(*agent)
            .is_some_and(|behaviour| behaviour.practises())
    };
    let state = SavedPractice {
        practice: practice.clone(),
        evaluations: schedule.begun - usize::from(evaluation.is_running()),
        evaluating: evaluation.is_running(),
        evaluation: SavedEvaluation::capture(world, learner),
        next_evaluation: Some(schedule.next),
        best: entity.get::<BestLearner>().and_then(BestLearner::evaluation),
        fixed: entity.get::<FixedSettings>().cloned(),
        agents: members
            .iter()
            .filter(practises)
            .filter_map(|agent| AgentState::capture(world, agent))
            .collect(),
    };
    let (steps, stored) = (practice.steps, buffer.stored());
    let Some(checkpoints) = entity.get::<LearnerCheckpoints>() else {
        return Ok(());
    };
    let mut parts = parts(sac, buffer, checkpoints.last.as_ref());
    parts.extend(best_part(entity.get::<BestLearner>(), checkpoints.last.as_ref()));
    let folder = checkpoints.folder.save_parts(steps, &state, parts)?;
    if let Some(mut checkpoints) = world.get_mut::<LearnerCheckpoints>(learner) {
        checkpoints.saved_at = Some(tick);
        checkpoints.last = Some((folder, stored));
        checkpoints.next = next_multiple(steps, checkpoints.every);
    }
    if let Some(mut best) = world.get_mut::<BestLearner>(learner) {
        best.stored = true;
    }
    Ok(())
}

/// The file with the best learner so far, if there is one.
fn best_part<'a>(best: Option<&'a BestLearner>, last: Option<&'a (PathBuf, u64)>) -> Option<Part<'a, SaveError>> {
    let best = best?;
    let tensors = best.tensors()?;
    Some(Part {
        name: BEST.to_owned(),
        same_as: last.filter(|_| best.stored).map(|(folder, _)| folder.as_path()),
        tensors: Box::new(|| Ok(tensors.clone())),
    })
}

/// The files of a checkpoint: the learner, and its replay buffer block by block.
fn parts<'a>(sac: &'a Sac, buffer: &'a ReplayBuffer, last: Option<&'a (PathBuf, u64)>) -> Vec<Part<'a, SaveError>> {
    let mut parts = vec![
        Part {
            name: LEARNER.to_owned(),
            same_as: None,
            tensors: Box::new(|| Ok(sac.export()?)),
        },
        Part {
            name: replay::HEAD.to_owned(),
            same_as: None,
            tensors: Box::new(|| Ok(buffer.export_head()?)),
        },
    ];
    parts.extend((0..buffer.blocks()).map(|block| {
        Part {
            name: replay::block_name(block),
            same_as: last
                .filter(|(_, stored)| !buffer.has_changed(block, *stored))
                .map(|(folder, _)| folder.as_path()),
            tensors: Box::new(move || Ok::<_, SaveError>(buffer.export_block(block)?)),
        }
    }));
    parts
}

/// The file of a checkpoint with the learner's networks.
pub const LEARNER: &str = "learner";

/// Learners whose steps are made leave the world.
pub fn retire_finished_learners(
    mut commands: Commands,
    learners: Query<(Entity, &Practice, &Budget, &Agents, &Replays)>,
    agents: Query<&ActsIn>,
    faults: Res<Faults>,
) {
    if !faults.is_empty() {
        return;
    }
    for (learner, practice, budget, members, replays) in &learners {
        if practice.steps >= budget.0 {
            for acts_in in agents.iter_many(members.iter()) {
                commands.entity(acts_in.0).despawn();
            }
            commands.entity(replays.0).despawn();
            // Its agents go with it.
            commands.entity(learner).despawn();
        }
    }
}

/// Counts the steps and ended episodes of practising agents.
pub fn count_steps(
    mut learners: Query<(&Seed, &Agents, &mut Practice, &mut RecentEpisodes)>,
    agents: Query<(&ActsIn, &Behaviour)>,
    environments: Query<(&Outcome, &Episode, &TaskProgress)>,
) {
    for (seed, members, mut practice, mut recent) in &mut learners {
        let counts = !practice.warms_up();
        for (acts_in, behaviour) in agents.iter_many(members.iter()) {
            let Ok((outcome, episode, progress)) = environments.get(acts_in.0) else {
                continue;
            };
            if !behaviour.practises() || !counts {
                continue;
            }
            practice.steps += 1;
            if let Some(fault) = outcome.fault {
                if practice.faults == 0 {
                    warn!(
                        "seed {}: an episode was cut off at step {} ({fault}); such episodes are left out and counted \
                         (practice/faults)",
                        seed.0, episode.step
                    );
                }
                practice.faults += 1;
            } else if outcome.ended() {
                practice.episodes += 1;
                recent.0.push(EpisodeResult::of(episode, progress));
            }
        }
    }
}

impl EpisodeResult {
    /// The result of an episode that has just ended.
    pub fn of(episode: &Episode, progress: &TaskProgress) -> Self {
        Self {
            return_: episode.return_,
            steps: episode.step,
            done: progress.done.clone(),
            reached: progress.reached.clone(),
            figures: progress.figures.clone(),
        }
    }
}
