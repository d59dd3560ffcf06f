//! Watching a world from another thread: what it shows, and what may be asked of it.
//!
//! The window does not share its frames with the ticks. A watched world runs on a thread of its own, with the same
//! plugins as without a window and [`WatchPlugin`] besides; the window has a world of its own for its pictures. Between
//! them are the two ends of [`link`]: the watched world fills [`Snapshot`]s when the watcher has handed it an empty one,
//! and follows [`Request`]s. So training never waits for a picture, a picture never waits for a tick, and a watched
//! run gives the same bits as one that nobody watches: publishing only reads.
//!
//! | module | what it holds |
//! |---|---|
//! | [`publish`] | the systems that fill snapshots |
//! | [`hold`] | requests and pace: pause, single ticks, slow motion |
//! | [`inspect`] | what is shown of the one environment that was picked |
//! | [`looks`] | what environments look like where they differ |
//! | [`demonstrations`] | a world that plays recorded demonstrations |
//! | [`reload`] | a world with a scene alone, which follows the scene's files |

pub mod demonstrations;
pub mod hold;
pub mod inspect;
pub mod looks;
pub mod publish;
pub mod reload;

pub use looks::EnvironmentLook;
pub use publish::{still_look, still_view};

use std::sync::Arc;

use bevy::prelude::*;
use crossbeam::channel::{self, Receiver, Sender};
use mujoco_rs::wrappers::mj_model::MjModel;

use crate::metrics::Row;
use crate::tick::{Tick, TickSystems, Workers};

/// Adds the systems that publish snapshots and follow requests.
pub struct WatchPlugin {
    /// The world's end of the link.
    pub link: WorldLink,
}

impl Plugin for WatchPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(self.link.clone())
            .insert_resource(Workers::Apart)
            .init_resource::<hold::Clock>()
            .init_resource::<inspect::Inspection>()
            .init_resource::<publish::RecentSkills>()
            .init_resource::<publish::LastEpisodes>()
            .init_resource::<publish::Scratch>()
            .add_systems(
                Tick,
                (
                    // Beside physics and learning: recording may end an episode and drop its skill.
                    (publish::note_skills, inspect::note_decision)
                        .after(TickSystems::Act)
                        .before(TickSystems::Record),
                    ((publish::note_episodes, inspect::note_step), publish::publish)
                        .chain()
                        .after(TickSystems::Record)
                        .before(TickSystems::Evaluate),
                    hold::hold.after(TickSystems::Checkpoint),
                ),
            );
    }
}

/// How fast a watched world runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Not at all.
    Paused,
    /// At most this many ticks a second.
    Limited(f64),
    /// As fast as it can.
    Unlimited,
    /// As fast as every tick is taken by the watcher: none is left out. For videos.
    EveryTick,
}

/// What a watcher may ask of the world. Requests are followed between two ticks.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Go on at this pace.
    Pace(Pace),
    /// Run this many ticks, then pause. While the world is paused they are added to those still to run.
    Ticks(u32),
    /// Look inside the agent of this environment, or of none.
    Inspect(Option<Entity>),
    /// Save a checkpoint of every learner.
    Save,
    /// End the running episode of this environment without recording it, and begin the one with this number.
    Restart {
        /// The environment.
        environment: Entity,
        /// Number of the episode, from which its noise follows; the next one if `None`.
        episode: Option<u64>,
    },
}

/// What the world says in words: `Ok` for what was done, `Err` for what could not be.
pub type Notice = Result<String, String>;

/// The world's end of a [`link`].
#[derive(Resource, Debug, Clone)]
pub struct WorldLink {
    /// Empty snapshots to be filled.
    pub empty: Receiver<Box<Snapshot>>,
    /// Where they go.
    pub filled: Sender<Box<Snapshot>>,
    /// What the watcher asks for.
    pub requests: Receiver<Request>,
    /// Answers and other news.
    pub notices: Sender<Notice>,
    /// Every metric that a learner with this seed writes.
    pub metrics: Sender<(u64, Row)>,
    /// What has become of the scene's files, where they are followed.
    pub scenes: Sender<SceneNews>,
    /// The pace to start with.
    pub pace: Pace,
}

/// The watcher's end of a [`link`].
#[derive(Resource, Debug)]
pub struct WatcherLink {
    /// Hand a snapshot back here to have it filled anew.
    pub empty: Sender<Box<Snapshot>>,
    /// Filled snapshots.
    pub filled: Receiver<Box<Snapshot>>,
    /// Requests.
    pub requests: Sender<Request>,
    /// Answers and other news.
    pub notices: Receiver<Notice>,
    /// Metrics, as they are written.
    pub metrics: Receiver<(u64, Row)>,
    /// What has become of the scene's files, where they are followed.
    pub scenes: Receiver<SceneNews>,
}

/// What has become of a scene's files that are [followed](reload).
#[derive(Debug, Clone)]
pub enum SceneNews {
    /// From the first snapshot with this [`Snapshot::scene`] on, this is the scene of all environments.
    Replaced {
        /// How often it has been replaced.
        generation: u64,
        /// The new one.
        scene: Arc<crate::scene::CompiledScene>,
    },
    /// The files cannot be used as they are now; the scene stays as it was. All that is wrong, in whole messages.
    Broken(Vec<String>),
    /// The files can be used again, and say what the scene is.
    Sound,
}

/// A link between a world, which starts at `pace`, and its watcher. `snapshots` of them go around: with three, a watcher
/// that keeps two to interpolate between always has one on its way.
pub fn link(pace: Pace, snapshots: usize) -> (WorldLink, WatcherLink) {
    let (empty, to_fill) = channel::bounded(snapshots);
    let (filled, to_show) = channel::bounded(snapshots);
    let (requests, to_follow) = channel::unbounded();
    let (notices, to_tell) = channel::unbounded();
    let (metrics, to_plot) = channel::unbounded();
    let (scenes, to_replace) = channel::unbounded();
    for _ in 0..snapshots {
        // The receiver is in the same function and there is room for all.
        let _ = empty.send(Box::default());
    }
    (
        WorldLink {
            empty: to_fill,
            filled,
            requests: to_follow,
            notices,
            metrics,
            scenes,
            pace,
        },
        WatcherLink {
            empty,
            filled: to_show,
            requests,
            notices: to_tell,
            metrics: to_plot,
            scenes: to_replace,
        },
    )
}

/// Position (m) and orientation (unit quaternion w x y z) of a body, in the environment's own frame (z up).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Metres.
    pub position: [f32; 3],
    /// Unit quaternion, w x y z as in `MuJoCo`.
    pub rotation: [f32; 4],
}

/// What is to be seen of a world after a tick.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Ticks that have run.
    pub tick: u64,
    /// The pace the world runs at; a watcher shows this, not what it asked for.
    pub pace: Option<Pace>,
    /// How often the scene has been [replaced](SceneNews::Replaced).
    pub scene: u64,
    /// The environments, learner by learner in the order of their slots.
    pub environments: Vec<EnvironmentView>,
    /// Poses of the bodies that can move ([`moving_bodies`]), environment by environment.
    pub poses: Vec<Pose>,
    /// How the environments look, one for each, in a scene whose episodes [differ](crate::scene::Looks) in that;
    /// otherwise none.
    pub looks: Vec<EnvironmentLook>,
    /// The learners, in the order of their seeds.
    pub learners: Vec<LearnerView>,
    /// The environment that is looked into.
    pub inspected: Option<AgentView>,
    /// Skills that agents have begun lately, oldest first: the environment and the skill.
    pub recent_skills: Vec<(Entity, Vec<f32>)>,
}

impl Snapshot {
    /// The poses of environment `index`, with `moving` of them for each.
    pub fn poses_of(&self, index: usize, moving: usize) -> &[Pose] {
        self.poses.get(index * moving..(index + 1) * moving).unwrap_or_default()
    }

    /// How environment `index` looks, where it may differ from the scene.
    pub fn look_of(&self, index: usize) -> Option<&EnvironmentLook> {
        let environment = self.environments.get(index)?.environment;
        let look = self.looks.get(index)?;
        let filled = !(look.pieces.is_empty() && look.lights.is_empty());
        (filled && look.environment == environment).then_some(look)
    }
}

/// One environment in a [`Snapshot`].
#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentView {
    /// Its entity in the watched world.
    pub environment: Entity,
    /// Seed of the learner whose agent acts in it.
    pub seed: u64,
    /// Place among the environments of the seed; counted anew for evaluations.
    pub slot: usize,
    /// Whether this is an evaluation episode, which comes and goes.
    pub evaluates: bool,
    /// Number of the episode.
    pub episode: u64,
    /// Control steps of the episode so far.
    pub step: u32,
    /// Sum of the rewards so far.
    pub return_: f32,
    /// Reward of the last step.
    pub reward: f32,
    /// For each element of the task: done.
    pub done: Vec<bool>,
    /// Control steps of the current skill that are done, and its length; none before the first one and after the last
    /// step of an episode.
    pub skill: Option<(usize, usize)>,
    /// Return of the last episode that ended here.
    pub last_return: Option<f32>,
    /// Episodes that ended with a fault.
    pub faults: u64,
}

impl EnvironmentView {
    /// Elements of the task that are done.
    pub fn completed(&self) -> usize {
        self.done.iter().filter(|done| **done).count()
    }
}

/// One learner in a [`Snapshot`].
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerView {
    /// Its entity in the watched world.
    pub learner: Entity,
    /// Its seed.
    pub seed: u64,
    /// Environment steps it has practised.
    pub steps: u64,
    /// Environment steps it will practise; none for one that only acts.
    pub budget: Option<u64>,
    /// Transitions the warm-up still needs.
    pub warmup_left: u64,
    /// Transitions in the replay buffer.
    pub transitions: u64,
    /// Episodes finished.
    pub episodes: u64,
    /// Gradient updates made.
    pub updates: u64,
    /// Weight of the divergence from the prior, or of the entropy.
    pub temperature: f32,
    /// Whether evaluation episodes are running.
    pub evaluating: bool,
}

/// The inside of one agent in a [`Snapshot`].
#[derive(Debug, Clone, PartialEq)]
pub struct AgentView {
    /// The environment it acts in.
    pub environment: Entity,
    /// Number of the episode.
    pub episode: u64,
    /// What it saw before the last step, `[observation_len]`; the names are those of the scene's channels.
    pub observation: Vec<f32>,
    /// The pictures it saw besides, `[3 * frames, size, size]`, oldest first; empty where the scene has none.
    pub pixels: Vec<u8>,
    /// What it did in the last step, `[action_len]`, each within -1 and 1.
    pub action: Vec<f32>,
    /// Whether each element of the scene has been at its goal in this episode.
    pub reached: Vec<bool>,
    /// The skill it carries out; none for demonstrations.
    pub skill: Option<SkillView>,
    /// The running episode, step by step as far as it was inspected.
    pub history: Vec<StepView>,
    /// Spatial tendons as lines through these points, m, in the environment's own frame.
    pub tendons: Vec<Vec<[f32; 3]>>,
}

/// One step of an inspected episode.
#[derive(Debug, Clone, PartialEq)]
pub struct StepView {
    /// Control steps before it.
    pub step: u32,
    /// Reward of the step.
    pub reward: f32,
    /// For each element of the scene: distance to its goal after the step.
    pub distances: Vec<f32>,
    /// Whether a new skill began with it.
    pub decides: bool,
    /// Divergence of the policy from the prior where this step's skill was chosen, in nats; none without a prior, and
    /// for a skill in whose middle the environment was picked.
    pub divergence: Option<f32>,
}

/// The skill of an inspected agent, and what policy, prior and critics say where it was chosen (or, if the agent was
/// picked in the middle of it, where it was picked).
#[derive(Debug, Clone, PartialEq)]
pub struct SkillView {
    /// The skill, `[d]`.
    pub chosen: Vec<f32>,
    /// Control steps done.
    pub elapsed: usize,
    /// Control steps in all.
    pub length: usize,
    /// The policy's distribution, before samples are squashed; see [`inspect`].
    pub policy: Gaussian,
    /// The prior's distribution, if the learner stays close to one, before samples are squashed.
    pub prior: Option<Gaussian>,
    /// Kullback-Leibler divergence of the policy from the prior, nats, for each number of the skill.
    pub divergence: Vec<f32>,
    /// What both critics expect of the skill.
    pub q: Option<[f32; 2]>,
}

impl SkillView {
    /// The divergence of all numbers together, nats; none without a prior.
    pub fn total_divergence(&self) -> Option<f32> {
        self.prior.as_ref().map(|_| self.divergence.iter().sum())
    }
}

/// A diagonal Gaussian, number by number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gaussian {
    /// Means.
    pub mean: Vec<f32>,
    /// Standard deviations.
    pub sigma: Vec<f32>,
}

/// The bodies of a model that can move, each standing for all bodies that are fixed to it, in the model's order.
/// Everything else stays where it is at the start of an episode.
pub fn moving_bodies(model: &MjModel) -> Vec<usize> {
    let welded = model.body_weldid();
    let mocap = model.body_mocapid();
    (1..model.nbody() as usize)
        .filter(|&body| welded[body] as usize == body || mocap[body] >= 0)
        .collect()
}

/// For each body of a model the place in [`moving_bodies`] of the one it moves with; none for what never moves.
pub fn moved_by(model: &MjModel) -> Vec<Option<usize>> {
    let moving = moving_bodies(model);
    let (welded, parents) = (model.body_weldid(), model.body_parentid());
    let mut moved: Vec<Option<usize>> = Vec::with_capacity(welded.len());
    for (body, root) in welded.iter().enumerate() {
        let itself = moving.binary_search(&body).ok();
        let by_root = moving.binary_search(&(*root as usize)).ok();
        // A body fixed to a mocap body counts as fixed to the world in the model, so its parent is asked.
        let by_parent = parents
            .get(body)
            .and_then(|&parent| moved.get(parent as usize).copied().flatten());
        moved.push(itself.or(by_root).or(if body == 0 { None } else { by_parent }));
    }
    moved
}

/// What a watcher knows about a world from the start.
#[derive(Clone)]
pub struct Subject {
    /// A line for the window's title.
    pub title: String,
    /// The scene of all environments.
    pub scene: Arc<crate::scene::CompiledScene>,
    /// Names of the elements of the task, in its order.
    pub task: Vec<String>,
    /// The skills of the demonstrations in two dimensions, if they are known.
    pub skill_map: Option<Arc<crate::skills::latent::LatentMap>>,
    /// Whether learners learn here.
    pub trains: bool,
    /// Metrics of the session before this one, by seed.
    pub metrics: Vec<(u64, Row)>,
}
