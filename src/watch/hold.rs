//! Requests and pace: a watched world waits here between two ticks.
//!
//! Nothing here can keep a run from its end: a request to stop, an error of the tick, a watcher that is gone and a
//! world whose environments are all gone end every waiting. A world that is to start paused runs one tick first, so
//! that there is something to be seen.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bevy::ecs::system::{RunSystemOnce, SystemState};
use bevy::prelude::*;
use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::inspect::Inspector;
use super::publish::{Publisher, agent_of};
use super::{Notice, Pace, Request, WorldLink};
use crate::agents::{ActedInBy, CurrentSkill};
use crate::app::StopRequest;
use crate::evaluate::{Evaluates, Measures};
use crate::learners::skill_recorder::SkillRecorder;
use crate::practice::{LearnerCheckpoints, save_all_learners};
use crate::reports::report_all_practice;
use crate::sim::{InstanceOf, restart_episode};
use crate::tick::{Faults, TickCount};

/// The longest time for which a waiting world does not look whether it should end.
pub(super) const NAP: Duration = Duration::from_millis(20);
/// The longest time between two ticks that a pace can ask for.
const SLOWEST: Duration = Duration::from_secs(3600);
/// Numbers of episodes that can be asked for; there is room to count on from each.
const EPISODES: u64 = 1 << 62;

/// When the world may go on.
#[derive(Resource, Debug)]
pub struct Clock {
    pace: Pace,
    /// Ticks that may run although the pace is [`Pace::Paused`].
    granted: u32,
    /// When the tick in hand was due.
    due: Option<Instant>,
    /// Requests taken from the link and not followed yet.
    requests: VecDeque<Request>,
    /// Nobody can make requests any more.
    alone: bool,
    /// The tick of the last snapshot.
    shown: Option<u64>,
    /// A request may have changed what that one showed.
    changed: bool,
}

impl FromWorld for Clock {
    fn from_world(world: &mut World) -> Self {
        Self::new(
            world
                .get_resource::<WorldLink>()
                .map_or(Pace::Unlimited, |link| link.pace),
        )
    }
}

/// When the next tick may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Now,
    At(Instant),
    WhenAsked,
}

impl Clock {
    /// A clock that starts at `pace`.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            granted: 0,
            due: None,
            requests: VecDeque::new(),
            alone: false,
            shown: None,
            changed: false,
        }
    }

    /// The pace at which the world runs.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Notes that a snapshot of this tick is on its way.
    pub(super) fn has_shown(&mut self, tick: u64) {
        (self.shown, self.changed) = (Some(tick), false);
    }

    /// Takes the requests that wait in the link, to be followed after the tick.
    pub(super) fn take_requests(&mut self, from: &Receiver<Request>) {
        loop {
            match from.try_recv() {
                Ok(request) => self.requests.push_back(request),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.alone = true;
                    return;
                }
            }
        }
    }

    /// Whether a request waits after which not every tick need be shown.
    pub(super) fn is_asked_for_another_pace(&self) -> bool {
        self.requests.iter().any(|request| match request {
            Request::Pace(pace) => *pace != Pace::EveryTick,
            Request::Ticks(_) => true,
            _ => false,
        })
    }

    /// Notes that the last snapshot does not show the world as it is now.
    pub(super) fn has_changed(&mut self) {
        self.changed = true;
    }

    fn set_pace(&mut self, pace: Pace) -> Result<(), String> {
        if let Pace::Limited(rate) = pace
            && period(rate).is_none()
        {
            return Err(format!("expected a rate above zero, found {rate} ticks a second"));
        }
        (self.pace, self.granted) = (pace, 0);
        Ok(())
    }

    fn grant(&mut self, ticks: u32) {
        let left = if self.pace == Pace::Paused { self.granted } else { 0 };
        (self.pace, self.granted) = (Pace::Paused, left.saturating_add(ticks));
    }

    /// Goes on as if nobody had ever watched.
    fn let_go(&mut self) {
        (self.pace, self.granted) = (Pace::Unlimited, 0);
    }

    fn next(&self) -> Next {
        match self.pace {
            Pace::Paused if self.granted > 0 => Next::Now,
            Pace::Paused => Next::WhenAsked,
            Pace::Unlimited | Pace::EveryTick => Next::Now,
            Pace::Limited(rate) => match (self.due, period(rate)) {
                (Some(due), Some(period)) => due.checked_add(period).map_or(Next::WhenAsked, Next::At),
                _ => Next::Now,
            },
        }
    }

    /// Begins the next tick. It counts from when it was due, so that rates do not drift, but one that comes later than
    /// that is not made up for.
    fn begin(&mut self, now: Instant) {
        self.granted = self.granted.saturating_sub(1);
        let was_due = match self.next() {
            Next::At(due) => due,
            _ => now,
        };
        // A wake-up is never exactly in time; only a whole period's delay means that ticks are slower than the pace.
        let late = now.saturating_duration_since(was_due);
        let on_time = matches!(self.pace, Pace::Limited(rate) if period(rate).is_some_and(|period| late < period));
        self.due = Some(if on_time { was_due } else { now });
    }
}

/// Time between two ticks at this rate; `None` for what is no rate.
fn period(rate: f64) -> Option<Duration> {
    let period = (rate > 0.0)
        .then(|| Duration::try_from_secs_f64(1.0 / rate).ok())
        .flatten()?;
    Some(period.min(SLOWEST))
}

/// Follows requests and waits until the next tick may begin.
pub fn hold(
    world: &mut World,
    publisher: &mut SystemState<Publisher<'static, 'static>>,
    inspector: &mut SystemState<Inspector<'static, 'static>>,
) {
    let link = world.resource::<WorldLink>().clone();
    let stop = world.get_resource::<StopRequest>().cloned().unwrap_or_default();
    if world.get_resource::<Faults>().is_some_and(|faults| !faults.is_empty()) {
        return;
    }
    loop {
        super::reload::look(world);
        follow_all(world, &link, inspector);
        let now = Instant::now();
        let clock = world.resource_mut::<Clock>().into_inner();
        let wait = match clock.next() {
            Next::At(due) if due > now => due - now,
            Next::WhenAsked => NAP,
            Next::Now | Next::At(_) => return clock.begin(now),
        };
        if stop.is_made() || !show_changes(world, publisher) {
            return;
        }
        match link.requests.recv_timeout(wait.min(NAP)) {
            Ok(request) => world.resource_mut::<Clock>().requests.push_back(request),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => world.resource_mut::<Clock>().alone = true,
        }
    }
}

/// Publishes what the last snapshot does not show yet. Returns whether there is anything left to be seen: a world whose
/// environments are gone is at its end, and whoever runs it should get to know.
fn show_changes(world: &mut World, publisher: &mut SystemState<Publisher<'static, 'static>>) -> bool {
    let tick = world.resource::<TickCount>().0;
    let clock = world.resource::<Clock>();
    let is_new = clock.changed || clock.shown != Some(tick);
    let Ok(mut publisher) = publisher.get_mut(world) else {
        return false;
    };
    if is_new {
        publisher.publish();
    }
    publisher.has_environments()
}

fn follow_all(world: &mut World, link: &WorldLink, inspector: &mut SystemState<Inspector<'static, 'static>>) {
    world.resource_mut::<Clock>().take_requests(&link.requests);
    while let Some(request) = world.resource_mut::<Clock>().requests.pop_front() {
        if let Some(notice) = follow(world, inspector, request) {
            // Without a watcher nobody needs to know.
            let _ = link.notices.send(notice);
        }
        world.resource_mut::<Clock>().changed = true;
    }
    let mut clock = world.resource_mut::<Clock>();
    if clock.alone {
        clock.let_go();
    }
}

/// Does what was asked for. Returns what there is to say about it.
fn follow(
    world: &mut World,
    inspector: &mut SystemState<Inspector<'static, 'static>>,
    request: Request,
) -> Option<Notice> {
    match request {
        Request::Pace(pace) => world.resource_mut::<Clock>().set_pace(pace).err().map(Err),
        Request::Ticks(ticks) => {
            world.resource_mut::<Clock>().grant(ticks);
            None
        }
        Request::Inspect(environment) => {
            if let Ok(mut inspector) = inspector.get_mut(world) {
                inspector.pick(environment);
            }
            None
        }
        Request::Save => Some(save(world)),
        Request::Restart { environment, episode } => Some(restart(world, environment, episode)),
    }
}

/// Saves every learner, after the metrics that belong to the checkpoint, as at the end of a run.
fn save(world: &mut World) -> Notice {
    let learners = world.query::<&LearnerCheckpoints>().iter(world).count();
    if learners == 0 {
        return Err("there is nothing to save: nobody learns here".into());
    }
    if world.contains_resource::<Measures>() {
        let reported = world.run_system_once(report_all_practice);
        reported
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
    }
    save_all_learners(world).map_err(|error| error.to_string())?;
    Ok(match learners {
        1 => "saved the learner".into(),
        _ => format!("saved {learners} learners"),
    })
}

/// Breaks off the running episode of an environment and begins another one. The episode that is cut leaves no
/// transition of its unfinished skill, no result and no count; skills of it that had ended stay in the replay buffer.
fn restart(world: &mut World, environment: Entity, episode: Option<u64>) -> Notice {
    if world.get::<InstanceOf>(environment).is_none() {
        return Err("this environment is gone".into());
    }
    if let Some(episode) = episode.filter(|episode| *episode > EPISODES) {
        return Err(format!("episode {episode}: expected a number up to {EPISODES}"));
    }
    let agent = agent_of(world.get::<ActedInBy>(environment));
    if agent.is_some_and(|agent| world.get::<Evaluates>(agent).is_some()) {
        return Err("episodes of an evaluation cannot be begun anew".into());
    }
    let begun = world.run_system_once_with(restart_episode, (environment, episode));
    let Some(begun) = begun.map_err(|error| error.to_string())? else {
        return Err("this environment is gone".into());
    };
    if let Some(agent) = agent {
        if let Some(mut skill) = world.get_mut::<CurrentSkill>(agent) {
            skill.active.clear();
            skill.plan.clear();
        }
        if let Some(mut recorder) = world.get_mut::<SkillRecorder>(agent) {
            recorder.discard();
        }
    }
    world
        .resource_mut::<super::inspect::Inspection>()
        .forget_episode(environment);
    Ok(format!("episode {begun} begins"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(clock: &mut Clock, start: Instant, millis: &[u64]) -> Vec<Next> {
        let mut found = Vec::new();
        for &millis in millis {
            clock.begin(start + Duration::from_millis(millis));
            found.push(clock.next());
        }
        found
    }

    #[test]
    fn limited_ticks_neither_drift_nor_come_in_bursts() {
        let start = Instant::now();
        let due = |millis| Next::At(start + Duration::from_millis(millis));
        let mut clock = Clock::new(Pace::Limited(10.0));
        assert_eq!(clock.next(), Next::Now, "the first tick is due at once");
        let found = at(&mut clock, start, &[0, 103, 207, 900, 1003]);
        assert_eq!(found, [due(100), due(200), due(300), due(1000), due(1100)]);
    }

    #[test]
    fn granted_ticks_add_up_while_paused() {
        let now = Instant::now();
        let mut clock = Clock::new(Pace::Unlimited);
        clock.grant(2);
        clock.grant(1);
        for _ in 0..3 {
            assert_eq!(clock.next(), Next::Now);
            clock.begin(now);
        }
        assert_eq!((clock.next(), clock.pace()), (Next::WhenAsked, Pace::Paused));
        clock.grant(5);
        assert_eq!(clock.set_pace(Pace::Unlimited), Ok(()));
        clock.grant(1);
        clock.begin(now);
        assert_eq!(clock.next(), Next::WhenAsked);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        let mut clock = Clock::new(Pace::Unlimited);
        for rate in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            assert!(clock.set_pace(Pace::Limited(rate)).is_err(), "{rate}");
            assert_eq!(clock.pace(), Pace::Unlimited);
        }
        assert_eq!(period(1e-9), Some(SLOWEST));
        assert_eq!(period(4.0), Some(Duration::from_millis(250)));
    }
}
