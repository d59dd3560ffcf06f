//! The headless app: a Bevy world whose [`Tick`] runs as fast as it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bevy::app::TaskPoolThreadAssignmentPolicy;
use bevy::prelude::*;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

use crate::panics;
use crate::tick::{Faults, Tick, TickCount, TickPlugin};
use crate::watchdog::{Heartbeat, PATIENCE, Watchdog};

/// A request to end the run after the tick in hand, as Ctrl-C or a termination signal makes it.
#[derive(Resource, Debug, Clone, Default)]
pub struct StopRequest {
    made: Arc<AtomicBool>,
    /// Number of the last signal that made it; 0 for none.
    signal: Arc<AtomicUsize>,
}

/// Exit code of a command that was interrupted: by Ctrl-C, by the end of its terminal, or by its window.
pub const INTERRUPTED: u8 = 130;

/// Exit code of a command that a batch system ended (`SIGTERM`, `SIGUSR1`): the job is to be queued again, and goes on then.
/// `EX_TEMPFAIL` in the BSD list of exit codes.
pub const TO_BE_REQUEUED: u8 = 75;

impl StopRequest {
    /// A request that Ctrl-C, `SIGTERM`, `SIGUSR1` (which batch systems send some time before the end of a job) and
    /// `SIGHUP` set. A second one ends the process at once. Signals that the process was told to ignore stay ignored:
    /// under `nohup` a closed terminal ends nothing.
    pub fn on_signals() -> std::io::Result<Self> {
        let request = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGUSR1] {
            if !is_ignored(signal) {
                let number = usize::try_from(signal).unwrap_or_default();
                flag::register_usize(signal, request.signal.clone(), number)?;
                // In this order, so that the first signal does not end the process itself.
                let code = i32::from(exit_code(number));
                flag::register_conditional_shutdown(signal, code, request.made.clone())?;
                flag::register(signal, request.made.clone())?;
            }
        }
        Ok(request)
    }

    /// Asks for the end, as Ctrl-C does.
    pub fn make(&self) {
        self.made.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub fn is_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }

    /// Exit code of the process if it ends because of this: [`TO_BE_REQUEUED`] or [`INTERRUPTED`].
    pub fn exit_code(&self) -> u8 {
        exit_code(self.signal.load(Ordering::Relaxed))
    }
}

fn exit_code(signal: usize) -> u8 {
    let by_batch_system = [SIGTERM, SIGUSR1]
        .iter()
        .any(|&other| usize::try_from(other) == Ok(signal));
    if by_batch_system { TO_BE_REQUEUED } else { INTERRUPTED }
}

/// Whether the process was started with this signal ignored, as far as the system tells it.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Why [`run`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The work is done.
    Finished,
    /// A [`StopRequest`] came first.
    Stopped,
}

/// Bevy's task pools with `threads` worker threads. They belong to the process: whoever makes them first decides their
/// size.
pub fn task_pools(threads: usize) -> TaskPoolOptions {
    let all = |threads| TaskPoolThreadAssignmentPolicy {
        min_threads: threads,
        max_threads: threads,
        percent: 1.0,
        on_thread_spawn: None,
        on_thread_destroy: None,
    };
    TaskPoolOptions {
        min_total_threads: threads + 2,
        max_total_threads: threads + 2,
        io: all(1),
        async_compute: all(1),
        compute: all(threads.max(1)),
    }
}

/// Threads that a window's systems need besides those of the world it shows.
const WINDOW_THREADS: usize = 2;

/// Makes the task pools for a world of `threads` worker threads and a window beside it. Comes before any app.
pub fn make_room_for_window(threads: usize) {
    task_pools(threads.max(2) + WINDOW_THREADS).create_default_pools();
}

/// A world without window or renderer, with `threads` worker threads ([`task_pools`]) and the [`Tick`] schedule.
pub fn headless(threads: usize, stop: StopRequest) -> App {
    let mut app = App::new();
    app.add_plugins((
        TaskPoolPlugin {
            task_pool_options: task_pools(threads),
        },
        TickPlugin,
    ));
    app.insert_resource(stop);
    app
}

/// Runs ticks until `finished` says so, a stop is requested, or a system reports an error or panics. After a panic the
/// world must not be used for results any more.
pub fn run(app: &mut App, mut finished: impl FnMut(&mut World) -> bool) -> Result<Ended, String> {
    app.finish();
    app.cleanup();
    let world = app.world_mut();
    let stop = world.resource::<StopRequest>().clone();
    let faults = world.resource::<Faults>().clone();
    let heartbeat = world.resource::<Heartbeat>().clone();
    let _watchdog = Watchdog::new(heartbeat.clone(), PATIENCE, |complaint| warn!("{complaint}"));
    loop {
        if finished(world) {
            return Ok(Ended::Finished);
        }
        if stop.is_made() {
            return Ok(Ended::Stopped);
        }
        heartbeat.begin(world.resource::<TickCount>().0 + 1);
        let panicked = panics::catch(|| world.run_schedule(Tick));
        heartbeat.rest();
        panicked?;
        if let Some(error) = faults.take() {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::tick::{TickSystems, Workers};
    use crate::watchdog::{Work, busy};

    /// Runs a world with a system that panics in its third tick; gives the ticks it came to, and the message.
    fn panics_in<M>(system: impl IntoScheduleConfigs<bevy::ecs::system::ScheduleSystem, M>) -> (u64, String) {
        let mut app = headless(2, StopRequest::default());
        // The executor goes on with the tick, but nothing may be saved in it.
        let save = |count: Res<TickCount>| assert_eq!(panics::have_happened(), is_third(&count));
        app.add_systems(
            Tick,
            (system.in_set(TickSystems::Learn), save.in_set(TickSystems::Checkpoint)),
        );
        let message = run(&mut app, |world| world.resource::<TickCount>().0 >= 10).unwrap_err();
        (app.world().resource::<TickCount>().0, message)
    }

    fn is_third(count: &TickCount) -> bool {
        count.0 == 3
    }

    #[test]
    #[allow(clippy::panic, reason = "that is the fault")]
    fn a_panic_on_any_thread_ends_the_run_with_one_message() {
        let here = |count: Res<TickCount>| assert!(!is_third(&count), "the third tick");
        let on = |workers: Workers| {
            move |count: Res<TickCount>| {
                workers.spread(0..8, |item| {
                    busy(Work::Learner(item), || {
                        if is_third(&count) && item == 5 {
                            panic!("item {item}");
                        }
                    });
                });
            }
        };
        for (number, (ticks, message)) in [
            panics_in(here),
            panics_in(on(Workers::Systems)),
            panics_in(on(Workers::Apart)),
        ]
        .into_iter()
        .enumerate()
        {
            let expected = [
                "the third tick (src/app.rs:",
                "item 5 (src/app.rs:",
                "item 5 (src/app.rs:",
            ];
            assert_eq!(ticks, 3);
            assert!(
                message.starts_with(&format!("internal error: {}", expected[number])),
                "{message}"
            );
            assert_eq!(
                message.contains(", the updates of the learner with seed 5)"),
                number > 0,
                "{message}"
            );
            assert!(message.contains("bug in the program") && message.contains("checkpoint is untouched"));
        }
        assert!(!panics::have_happened(), "it has been taken");
        // Another world in the same process is none the worse.
        let mut app = headless(2, StopRequest::default());
        assert_eq!(
            run(&mut app, |world| world.resource::<TickCount>().0 >= 10),
            Ok(Ended::Finished)
        );
    }
}
