//! The `Tick` schedule: one control step of every environment, and the learning that happens beside it.
//!
//! ```text
//! Reset → Observe → Decide → (Simulate ∥ Learn) → Score → Record → Evaluate → Checkpoint → Report
//! ```
//!
//! `Simulate` and `Learn` touch different components, so the executor runs them at the same time: learning at tick
//! *t* sees the replay as of tick *t - 1*, whatever the number of threads.

use bevy::ecs::schedule::{LogLevel, MultiThreadedExecutor, ScheduleBuildSettings, ScheduleLabel};
use bevy::prelude::*;

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
    /// Agents choose skills and actions.
    Decide,
    /// Physics advances by one control step. Runs beside [`TickSystems::Learn`].
    Simulate,
    /// Learners take the gradient updates that are due. Runs beside [`TickSystems::Simulate`].
    Learn,
    /// Rewards, task progress and the end of episodes are worked out.
    Score,
    /// Transitions go to replay buffers, demonstrations to files.
    Record,
    /// Policies are evaluated when it is due.
    Evaluate,
    /// Checkpoints are written when it is due.
    Checkpoint,
    /// Metrics and progress are reported.
    Report,
}

/// Number of ticks that have run since the world was made.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TickCount(pub u64);

/// Adds the [`Tick`] schedule with its sets in order. Ambiguous system order is an error.
pub struct TickPlugin;

impl Plugin for TickPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<TickCount>();
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
                        (Simulate, Learn),
                        Score,
                        Record,
                        Evaluate,
                        Checkpoint,
                        Report,
                    )
                        .chain(),
                )
                .add_systems(count_tick.before(Reset));
        });
    }
}

fn count_tick(mut count: ResMut<TickCount>) {
    count.0 += 1;
}
