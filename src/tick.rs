//! The `Tick` schedule: one control step of every environment, and the learning that happens beside it.
//!
//! ```text
//! Reset → Observe → Decide → ((Act → Simulate → Score) ∥ Learn) → Record → Evaluate → Report → Checkpoint
//! ```
//!
//! `Learn` touches other components than the sets beside it, so the executor runs them at the same time: learning at
//! tick *t* sees the replay as of tick *t - 1*, whatever the number of threads. `Act` gives it a head start: an update
//! is long, and one that began after the environments' tasks had filled the queue would end after everything else.

use bevy::ecs::schedule::{LogLevel, MultiThreadedExecutor, ScheduleBuildSettings, ScheduleLabel};
use bevy::prelude::*;
use bevy::tasks::ComputeTaskPool;
use crossbeam::channel::{self, Receiver, Sender};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use crate::watchdog::Heartbeat;

/// Runs once per control step. Its sets are [`TickSystems`].
#[derive(ScheduleLabel, Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tick;

/// The stages of a [`Tick`], in order.
#[derive(SystemSet, Debug, Clone, PartialEq, Eq, Hash)]
pub enum TickSystems {
    /// Environments whose episode has ended start a new one.
    Reset,
    /// Observations are read from the physics.
    Observe,
    /// Agents choose skills: the policies are used.
    Decide,
    /// Skills become actions. Runs beside [`TickSystems::Learn`], as do the next two.
    Act,
    /// Physics advances by one control step.
    Simulate,
    /// Rewards, task progress and the end of episodes are worked out.
    Score,
    /// Learners take the gradient updates that are due. Runs beside [`TickSystems::Act`], [`TickSystems::Simulate`] and
    /// [`TickSystems::Score`].
    Learn,
    /// Transitions go to replay buffers, demonstrations to files.
    Record,
    /// Policies are evaluated when it is due.
    Evaluate,
    /// Metrics and progress are reported.
    Report,
    /// Checkpoints are written when it is due, after the metrics that belong to them.
    Checkpoint,
}

/// Number of ticks that have run since the world was made.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TickCount(pub u64);

/// Errors that systems met. The first one ends the run; see [`stop_on_error`].
///
/// A channel, because systems that run side by side may fail side by side.
#[derive(Resource, Debug, Clone)]
pub struct Faults {
    sender: Sender<String>,
    receiver: Receiver<String>,
}

impl Default for Faults {
    fn default() -> Self {
        let (sender, receiver) = channel::unbounded();
        Self { sender, receiver }
    }
}

impl Faults {
    /// Notes an error.
    pub fn report(&self, error: impl std::fmt::Display) {
        // The receiver lives in the same value, so sending cannot fail.
        let _ = self.sender.send(error.to_string());
    }

    /// Whether there is no error that has not been taken yet.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// The oldest error that has not been taken yet.
    pub fn take(&self) -> Option<String> {
        self.receiver.try_recv().ok()
    }
}

/// Pipe a fallible system into this one to end the run with its error: `system.pipe(stop_on_error)`.
pub fn stop_on_error<E: std::fmt::Display>(In(result): In<Result<(), E>>, faults: Res<Faults>) {
    if let Err(error) = result {
        faults.report(error);
    }
}

/// The threads that the heavy work of a tick, physics and learning, is spread over.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Workers {
    /// Bevy's, on which the systems run as well: a learner has a thread to itself while the others simulate.
    #[default]
    Systems,
    /// rayon's. The systems of a window share Bevy's threads, and each of them would wait behind a whole tick of work.
    Apart,
}

impl Workers {
    /// Does `work` for every item, one after another by whoever is free.
    pub(crate) fn spread<I: Send>(self, items: impl Iterator<Item = I>, work: impl Fn(I) + Send + Sync) {
        match self {
            Self::Apart => {
                let items: Vec<I> = items.collect();
                items.into_par_iter().with_max_len(1).for_each(work);
            }
            Self::Systems => {
                let work = &work;
                let mut items = items.peekable();
                let Some(first) = items.next() else { return };
                // The task of a single learner would wait behind those of the environments.
                if items.peek().is_none() {
                    return work(first);
                }
                ComputeTaskPool::get().scope(|scope| {
                    for item in std::iter::once(first).chain(items) {
                        scope.spawn(async move { work(item) });
                    }
                });
            }
        }
    }
}

/// Adds the [`Tick`] schedule with its sets in order. Ambiguous system order is an error.
pub struct TickPlugin;

impl Plugin for TickPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<TickCount>()
            .init_resource::<Faults>()
            .init_resource::<Workers>()
            .init_resource::<Heartbeat>();
        app.edit_schedule(Tick, |schedule| {
            use TickSystems::*;
            schedule
                .set_executor(MultiThreadedExecutor::new())
                .set_build_settings(ScheduleBuildSettings {
                    ambiguity_detection: LogLevel::Error,
                    ..default()
                })
                .configure_sets(
                    (
                        Reset,
                        Observe,
                        Decide,
                        ((Act, Simulate, Score).chain(), Learn),
                        Record,
                        Evaluate,
                        Report,
                        Checkpoint,
                    )
                        .chain(),
                )
                .add_systems((count_tick.before(Reset), rest.in_set(AtRest).in_set(Checkpoint)));
        });
    }
}

/// The end of [`TickSystems::Checkpoint`]: the work of the tick is done, and the world may wait.
#[derive(SystemSet, Debug, Clone, PartialEq, Eq, Hash)]
pub struct AtRest;

fn rest(heartbeat: Res<Heartbeat>) {
    heartbeat.rest();
}

fn count_tick(mut count: ResMut<TickCount>) {
    count.0 += 1;
}
