//! Filling snapshots.
//!
//! [`publish`] runs when a tick's transitions are recorded and before evaluations take theirs away, so the last step
//! of an episode is to be seen as well. It reads the world and changes nothing of it. The vectors of a snapshot that
//! comes back from the watcher are filled anew where they are.
//!
//! Poses are what `MuJoCo` has worked out last, which is at the *beginning* of the last physics step of the tick: they
//! are one physics step (for the kitchen 2 ms) behind the joint positions.

use std::collections::VecDeque;

use bevy::ecs::entity::EntityHashMap;
use bevy::ecs::system::SystemParam;
use bevy::prelude::*;
use crossbeam::channel::RecvTimeoutError;

use super::hold::{Clock, NAP};
use super::inspect::{self, Inspection};
use super::looks::Differences;
use super::reload::SceneGeneration;
use super::{EnvironmentLook, EnvironmentView, LearnerView, Pace, Pose, Snapshot, WorldLink, moving_bodies};
use crate::agents::{ActedInBy, ActsIn, CurrentSkill};
use crate::app::StopRequest;
use crate::evaluate::{Evaluates, Evaluation, evaluation_episode};
use crate::learners::sac::Sac;
use crate::practice::{Budget, Practice, Replays, Seed};
use crate::replay::ReplayBuffer;
use crate::scene::CompiledScene;
use crate::sim::{
    Action, Environment, Episode, FaultCount, InstanceOf, Observation, Outcome, Physics, Pixels, Slot, TaskProgress,
};
use crate::tick::TickCount;

/// Skills that are remembered.
const RECENT: usize = 512;

/// Skills that agents have begun lately, oldest first: the environment and the skill. Skills that last one tick are
/// actions and are left out.
#[derive(Resource, Debug, Default)]
pub struct RecentSkills(VecDeque<(Entity, Vec<f32>)>);

impl RecentSkills {
    fn note(&mut self, environment: Entity, skill: &[f32]) {
        let full = self.0.len() >= RECENT;
        let mut kept = full
            .then(|| self.0.pop_front())
            .flatten()
            .map_or_else(Vec::new, |(_, kept)| kept);
        kept.clear();
        kept.extend_from_slice(skill);
        self.0.push_back((environment, kept));
    }
}

/// Return of the last episode of each environment. Environments of evaluations are left out: they live for one.
#[derive(Resource, Debug, Default)]
pub struct LastEpisodes(EntityHashMap<f32>);

/// What is worked out once, and lists that are filled anew for every snapshot.
#[derive(Resource, Debug, Default)]
pub struct Scratch {
    /// The moving bodies of each scene, and what its environments differ in.
    scenes: EntityHashMap<(Vec<usize>, Differences)>,
    /// The environments in the order in which they are shown: seed, evaluates, slot.
    order: Vec<(u64, bool, usize, Entity)>,
}

/// Notes the skills that have begun in this tick. Runs after [`Act`](crate::tick::TickSystems::Act), where the first
/// step of a skill is counted, and before [`Record`](crate::tick::TickSystems::Record), where the end of an episode
/// drops it.
pub fn note_skills(agents: Query<(&ActsIn, &CurrentSkill)>, mut recent: ResMut<RecentSkills>) {
    for (acts_in, skill) in &agents {
        if skill.active.length() > 1 && skill.active.elapsed() == 1 {
            recent.note(acts_in.0, skill.active.skill());
        }
    }
}

/// Notes the returns of episodes that end in this tick.
pub fn note_episodes(
    environments: Query<(Entity, &Outcome, &Episode, Option<&ActedInBy>)>,
    evaluating: Query<(), With<Evaluates>>,
    mut last: ResMut<LastEpisodes>,
) {
    for (environment, outcome, episode, acted_in_by) in &environments {
        let evaluates = agent_of(acted_in_by).is_some_and(|agent| evaluating.contains(agent));
        if outcome.ended() && !evaluates {
            last.0.insert(environment, episode.return_);
        }
    }
}

/// The agent that acts in an environment.
pub(super) fn agent_of(acted_in_by: Option<&ActedInBy>) -> Option<Entity> {
    acted_in_by.and_then(|agents| agents.iter().next())
}

/// Fills a snapshot if the watcher has handed over an empty one. At [`Pace::EveryTick`] it waits for one, until the
/// watcher is gone, asks for another pace, or the end of the run is requested.
pub fn publish(mut publisher: Publisher, stop: Option<Res<StopRequest>>) {
    if publisher.clock.pace() == Pace::EveryTick {
        let stops = || stop.as_ref().is_some_and(|stop| stop.is_made());
        publisher.wait_and_publish(stops);
    } else {
        publisher.publish();
    }
}

type Learners<'a> = (
    Entity,
    &'a Seed,
    &'a Sac,
    &'a Practice,
    Option<&'a Budget>,
    Option<&'a Replays>,
    Option<&'a Evaluation>,
);

type Environments<'a> = (
    Entity,
    &'a InstanceOf,
    &'a Physics,
    &'a Slot,
    &'a Episode,
    &'a Outcome,
    &'a TaskProgress,
    &'a FaultCount,
    Option<&'a ActedInBy>,
);

/// Everything that a snapshot shows.
#[derive(SystemParam)]
pub struct Publisher<'w, 's> {
    link: Res<'w, WorldLink>,
    clock: ResMut<'w, Clock>,
    ticks: Res<'w, TickCount>,
    inspection: Res<'w, Inspection>,
    recent: Res<'w, RecentSkills>,
    last: Res<'w, LastEpisodes>,
    scratch: ResMut<'w, Scratch>,
    learners: Query<'w, 's, Learners<'static>>,
    buffers: Query<'w, 's, &'static ReplayBuffer>,
    agents: Query<'w, 's, (&'static CurrentSkill, Has<Evaluates>)>,
    environments: Query<'w, 's, Environments<'static>>,
    seen: Query<'w, 's, (&'static Observation, Option<&'static Pixels>, &'static Action)>,
    scenes: Query<'w, 's, (Entity, &'static CompiledScene)>,
    generation: Option<Res<'w, SceneGeneration>>,
}

impl Publisher<'_, '_> {
    /// Fills and sends a snapshot if there is an empty one.
    pub fn publish(&mut self) {
        if let Ok(snapshot) = self.link.empty.try_recv() {
            self.send(snapshot);
        }
    }

    /// Whether the world has any environment.
    pub fn has_environments(&self) -> bool {
        !self.environments.is_empty()
    }

    fn wait_and_publish(&mut self, stops: impl Fn() -> bool) {
        loop {
            match self.link.empty.recv_timeout(NAP) {
                Ok(snapshot) => return self.send(snapshot),
                Err(RecvTimeoutError::Disconnected) => return,
                // A watcher that has asked for another pace may wait for that before it hands back a snapshot.
                Err(RecvTimeoutError::Timeout) => {
                    let Self { clock, link, .. } = self;
                    clock.take_requests(&link.requests);
                    if stops() || clock.is_asked_for_another_pace() {
                        return;
                    }
                }
            }
        }
    }

    fn send(&mut self, mut snapshot: Box<Snapshot>) {
        self.fill(&mut snapshot);
        self.clock.has_shown(snapshot.tick);
        // There is room for every snapshot that goes around; without a watcher nobody misses it.
        let _ = self.link.filled.try_send(snapshot);
    }

    fn fill(&mut self, snapshot: &mut Snapshot) {
        snapshot.tick = self.ticks.0;
        snapshot.pace = Some(self.clock.pace());
        snapshot.scene = self.generation.as_ref().map_or(0, |generation| generation.0);
        self.put_in_order();
        self.fill_environments(snapshot);
        self.fill_learners(&mut snapshot.learners);
        self.fill_inspected(snapshot);
        let recent = &self.recent.0;
        snapshot
            .recent_skills
            .resize_with(recent.len(), || (Entity::PLACEHOLDER, Vec::new()));
        for ((environment, skill), (where_, what)) in snapshot.recent_skills.iter_mut().zip(recent) {
            *environment = *where_;
            skill.clone_from(what);
        }
    }

    fn put_in_order(&mut self) {
        let Self {
            environments,
            agents,
            scratch,
            scenes,
            ..
        } = self;
        for (scene, compiled) in &*scenes {
            let known = scratch.scenes.entry(scene);
            known.or_insert_with(|| (moving_bodies(compiled.model()), Differences::of(compiled)));
        }
        scratch.order.clear();
        for (environment, _, _, slot, episode, .., acted_in_by) in &*environments {
            let agent = agent_of(acted_in_by).and_then(|agent| agents.get(agent).ok());
            let seed = agent.map_or(0, |_| episode.seed);
            let evaluates = agent.is_some_and(|(_, evaluates)| evaluates);
            scratch.order.push((seed, evaluates, slot.0, environment));
        }
        scratch.order.sort_unstable();
    }

    fn fill_environments(&self, snapshot: &mut Snapshot) {
        let Snapshot {
            environments,
            poses,
            looks,
            ..
        } = snapshot;
        poses.clear();
        let mut shown = 0;
        for &(seed, evaluates, slot, environment) in &self.scratch.order {
            let Ok((_, scene, physics, _, episode, outcome, progress, faults, acted_in_by)) =
                self.environments.get(environment)
            else {
                continue;
            };
            let (Some((moving, differences)), Ok((_, compiled))) =
                (self.scratch.scenes.get(&scene.0), self.scenes.get(scene.0))
            else {
                continue;
            };
            fill_poses(poses, moving, physics, compiled);
            fill_look(looks, shown, differences, (environment, episode, physics));
            if environments.len() <= shown {
                environments.push(blank(environment));
            }
            let skill = agent_of(acted_in_by).and_then(|agent| self.agents.get(agent).ok());
            let skill = skill.map(|(skill, _)| (skill.active.elapsed(), skill.active.length()));
            if let Some(view) = environments.get_mut(shown) {
                let mut done = std::mem::take(&mut view.done);
                done.clone_from(&progress.done);
                *view = EnvironmentView {
                    environment,
                    seed,
                    slot: if evaluates { evaluation_episode(slot) } else { slot },
                    evaluates,
                    episode: episode.index,
                    step: episode.step,
                    return_: episode.return_,
                    reward: outcome.reward,
                    done,
                    skill: skill.filter(|(_, length)| *length > 0),
                    last_return: self.last.0.get(&environment).copied(),
                    faults: faults.0,
                };
            }
            shown += 1;
        }
        environments.truncate(shown);
        looks.truncate(shown);
    }

    fn fill_learners(&self, views: &mut Vec<LearnerView>) {
        views.clear();
        for (learner, seed, sac, practice, budget, replays, evaluation) in &self.learners {
            let buffer = replays.and_then(|replays| self.buffers.get(replays.0).ok());
            views.push(LearnerView {
                learner,
                seed: seed.0,
                steps: practice.steps,
                budget: budget.map(|budget| budget.0),
                warmup_left: practice.warmup_left(),
                transitions: buffer.map_or(0, |buffer| buffer.len() as u64),
                episodes: practice.episodes,
                updates: sac.updates(),
                temperature: sac.temperature(),
                evaluating: evaluation.is_some_and(Evaluation::is_running),
            });
        }
        views.sort_unstable_by_key(|view| view.seed);
    }

    fn fill_inspected(&self, snapshot: &mut Snapshot) {
        let environment = self.inspection.environment();
        let picked = environment.and_then(|environment| {
            let (_, _, physics, _, episode, _, progress, ..) = self.environments.get(environment).ok()?;
            let seen = self.seen.get(environment).ok()?;
            Some((environment, physics, episode, progress, seen))
        });
        let Some((environment, physics, episode, progress, (observation, pixels, action))) = picked else {
            snapshot.inspected = None;
            return;
        };
        let view = snapshot.inspected.get_or_insert_with(|| inspect::blank(environment));
        view.environment = environment;
        view.episode = episode.index;
        view.observation.clone_from(&observation.0);
        view.pixels.clear();
        view.pixels.extend(pixels.map_or(&[][..], |pixels| pixels.as_slice()));
        view.action.clone_from(&action.0);
        view.reached.clone_from(&progress.reached);
        self.inspection.fill(view);
        inspect::fill_tendons(&mut view.tendons, physics);
    }
}

/// Adds the poses of the moving bodies. After a fault the physics may hold numbers that are not finite, which no
/// picture can show; the pose of the start state stands for them until the next episode begins.
fn fill_poses(poses: &mut Vec<Pose>, moving: &[usize], physics: &Physics, scene: &CompiledScene) {
    let (positions, rotations) = (physics.xpos(), physics.xquat());
    let (first_positions, first_rotations) = (scene.fresh().xpos(), scene.fresh().xquat());
    for &body in moving {
        let (Some(position), Some(rotation)) = (positions.get(body), rotations.get(body)) else {
            continue;
        };
        let finite = position.iter().chain(rotation).all(|number| number.is_finite());
        let (position, rotation) = match (first_positions.get(body), first_rotations.get(body)) {
            (Some(first_position), Some(first_rotation)) if !finite => (first_position, first_rotation),
            _ => (position, rotation),
        };
        poses.push(Pose {
            position: position.map(|number| number as f32),
            rotation: rotation.map(|number| number as f32),
        });
    }
}

/// What a snapshot shows of an environment that runs by itself, and the poses of its bodies.
pub fn still_view(scene: &CompiledScene, environment: &Environment) -> (EnvironmentView, Vec<Pose>) {
    let mut poses = Vec::new();
    fill_poses(&mut poses, &moving_bodies(scene.model()), &environment.physics, scene);
    let mut view = blank(Entity::PLACEHOLDER);
    view.done.clone_from(&environment.progress.done);
    (view, poses)
}

/// Fills the look of environment `shown` of a snapshot, unless it is that of the same episode already. Nothing is there
/// for scenes whose environments look alike.
fn fill_look(
    looks: &mut Vec<EnvironmentLook>,
    shown: usize,
    differences: &Differences,
    (environment, episode, physics): (Entity, &Episode, &Physics),
) {
    if differences.is_empty() {
        if let Some(look) = looks.get_mut(shown) {
            look.pieces.clear();
            look.lights.clear();
        }
        return;
    }
    if looks.len() <= shown {
        looks.resize_with(shown + 1, EnvironmentLook::default);
    }
    let Some(look) = looks.get_mut(shown) else { return };
    let blank = look.pieces.is_empty() && look.lights.is_empty();
    if blank || look.environment != environment || look.episode != episode.index {
        (look.environment, look.episode) = (environment, episode.index);
        differences.fill(physics.model(), look);
    }
}

/// How an environment that runs by itself looks, as a snapshot with its [`still_view`] has it.
pub fn still_look(scene: &CompiledScene, environment: &Environment) -> Vec<EnvironmentLook> {
    let mut looks = Vec::new();
    let shown = (Entity::PLACEHOLDER, &environment.episode, &environment.physics);
    fill_look(&mut looks, 0, &Differences::of(scene), shown);
    looks
}

fn blank(environment: Entity) -> EnvironmentView {
    EnvironmentView {
        environment,
        seed: 0,
        slot: 0,
        evaluates: false,
        episode: 0,
        step: 0,
        return_: 0.0,
        reward: 0.0,
        done: Vec::new(),
        skill: None,
        last_return: None,
        faults: 0,
    }
}
