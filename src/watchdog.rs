//! A watchdog: says once which environment or learner a tick hangs in.
//!
//! No tick takes nearly as long as [`PATIENCE`]. One that does is worth a message, because a run that hangs in a loop of
//! the physics, or on a disk that does not answer, looks from outside like one that works. Nothing is ended: the machine
//! may only be slow.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bevy::prelude::Resource;
use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};

/// How long a tick may take before it is worth a message.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A piece of work of a tick that may take long, by its number among those of its kind in the world or by the learner's
/// seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Physics, observations, resets.
    Environment(usize),
    /// Gradient updates of the learner with this seed.
    Learner(u64),
    /// Gradient updates of a skill model.
    SkillModel(usize),
    /// The checkpoint of the learner with this seed.
    Checkpoint(u64),
}

impl fmt::Display for Work {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(number) => write!(to, "environment {number}"),
            Self::Learner(seed) => write!(to, "the updates of the learner with seed {seed}"),
            Self::SkillModel(number) => write!(to, "skill model {number}"),
            Self::Checkpoint(seed) => write!(to, "the checkpoint of the learner with seed {seed}"),
        }
    }
}

const NUMBER_BITS: u32 = 56;

impl Work {
    /// Never 0. Numbers too large for it lose their upper bits.
    fn code(self) -> u64 {
        let (kind, number) = match self {
            Self::Environment(number) => (1, number as u64),
            Self::Learner(seed) => (2, seed),
            Self::SkillModel(number) => (3, number as u64),
            Self::Checkpoint(seed) => (4, seed),
        };
        kind << NUMBER_BITS | number & ((1 << NUMBER_BITS) - 1)
    }

    fn from_code(code: u64) -> Option<Self> {
        let number = code & ((1 << NUMBER_BITS) - 1);
        match code >> NUMBER_BITS {
            1 => Some(Self::Environment(number as usize)),
            2 => Some(Self::Learner(number)),
            3 => Some(Self::SkillModel(number as usize)),
            4 => Some(Self::Checkpoint(number)),
            _ => None,
        }
    }
}

/// What each thread is busy with, as far as there are places; 0 for nothing.
static BUSY: [AtomicU64; 128] = [const { AtomicU64::new(0) }; 128];

thread_local! {
    static PLACE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

fn place() -> Option<&'static AtomicU64> {
    BUSY.get(PLACE.try_with(|place| *place).ok()?)
}

/// Does `work` under this name.
pub(crate) fn busy<T>(name: Work, work: impl FnOnce() -> T) -> T {
    let place = place();
    let before = place.map_or(0, |place| place.swap(name.code(), Ordering::Relaxed));
    let done = work();
    if let Some(place) = place {
        place.store(before, Ordering::Relaxed);
    }
    done
}

/// What this thread is busy with. After a panic it forgets.
pub(crate) fn busy_here() -> Option<Work> {
    Work::from_code(place()?.swap(0, Ordering::Relaxed))
}

/// The tick in hand and when it began. Clones share it.
#[derive(Resource, Debug, Clone)]
pub struct Heartbeat(Arc<Beat>);

#[derive(Debug)]
struct Beat {
    since: Instant,
    /// Number of the tick; 0 while the world waits.
    tick: AtomicU64,
    /// When it began, in milliseconds.
    begun: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self(Arc::new(Beat {
            since: Instant::now(),
            tick: AtomicU64::new(0),
            begun: AtomicU64::new(0),
        }))
    }
}

impl Heartbeat {
    /// A tick begins.
    pub fn begin(&self, tick: u64) {
        let now = self.0.since.elapsed().as_millis() as u64;
        self.0.begun.store(now, Ordering::Relaxed);
        self.0.tick.store(tick, Ordering::Release);
    }

    /// Its work is done; the world may wait now for as long as it likes.
    pub fn rest(&self) {
        self.0.tick.store(0, Ordering::Release);
    }

    /// What to say of a tick that has taken longer than `patience`.
    fn complaint(&self, patience: Duration) -> Option<String> {
        let tick = self.0.tick.load(Ordering::Acquire);
        let begun = Duration::from_millis(self.0.begun.load(Ordering::Relaxed));
        let took = self.0.since.elapsed().saturating_sub(begun);
        if tick == 0 || took <= patience {
            return None;
        }
        let mut busy: Vec<String> = BUSY
            .iter()
            .filter_map(|place| Work::from_code(place.load(Ordering::Relaxed)))
            .map(|work| work.to_string())
            .collect();
        if busy.is_empty() {
            busy.push("neither an environment nor a learner".into());
        }
        Some(format!(
            "tick {tick} has taken {:.0} s so far; busy with {}",
            took.as_secs_f64(),
            busy.join(", ")
        ))
    }
}

/// Looks after the ticks of one world until it is dropped.
pub(crate) struct Watchdog {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Tells `say` once if a tick takes longer than `patience`. Without a thread to be had there is no watchdog.
    pub fn new(heartbeat: Heartbeat, patience: Duration, say: impl FnOnce(String) + Send + 'static) -> Self {
        let (end, ended) = channel::bounded(0);
        let watch = move || watch(&heartbeat, patience, &ended, say);
        let thread = thread::Builder::new().name("watchdog".into()).spawn(watch);
        Self {
            end: Some(end),
            thread: thread.ok(),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say any more.
            let _ = thread.join();
        }
    }
}

fn watch(heartbeat: &Heartbeat, patience: Duration, ended: &Receiver<()>, say: impl FnOnce(String)) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(patience / 4) {
        if let Some(complaint) = heartbeat.complaint(patience) {
            return say(complaint);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const SHORT: Duration = Duration::from_millis(40);

    fn watched() -> (Heartbeat, Watchdog, Receiver<String>) {
        let (heard, said) = channel::unbounded();
        let heartbeat = Heartbeat::default();
        let say = move |text| heard.send(text).unwrap();
        (heartbeat.clone(), Watchdog::new(heartbeat, SHORT, say), said)
    }

    #[test]
    fn a_tick_that_hangs_is_named_once() {
        let (heartbeat, watchdog, said) = watched();
        heartbeat.begin(7);
        let text = busy(Work::Environment(3), || {
            said.recv_timeout(Duration::from_secs(20)).unwrap()
        });
        assert!(
            text.starts_with("tick 7 has taken") && text.contains("environment 3"),
            "{text}"
        );
        heartbeat.begin(8);
        assert!(said.recv_timeout(SHORT * 5).is_err(), "once");
        drop(watchdog);
        for work in [
            Work::Learner(2),
            Work::SkillModel(0),
            Work::Checkpoint(9),
            Work::Environment(1 << 40),
        ] {
            assert_eq!(Work::from_code(work.code()), Some(work));
        }
        assert_eq!(Work::from_code(0), None);
    }

    #[test]
    fn a_world_may_wait_between_ticks() {
        let (heartbeat, _watchdog, said) = watched();
        heartbeat.begin(1);
        heartbeat.rest();
        assert!(said.recv_timeout(SHORT * 5).is_err());
        // Its end is not waited for.
        let begun = Instant::now();
        drop(Watchdog::new(heartbeat, PATIENCE, |_| ()));
        assert!(begun.elapsed() < PATIENCE / 4);
    }
}
