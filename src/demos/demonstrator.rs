//! What every demonstrator is: a script that acts in one environment, and says what it did.
//!
//! [`collect`](super::collect()) drives any of them in the same way:
//!
//! ```text
//! begin(seed, attempt)          the state to start from, in a scene of its own if it wants one
//! act, write_columns, after     once for each control step, around the physics
//! act gives None                the attempt is over
//! judge, account                whether it counts, and what is told of it
//! ```
//!
//! A new one is a file with a settings struct and an implementation of [`Demonstrator`], and a variant of
//! [`DemonstratorSpec`].

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::DemoError;
use super::blocks::{BlocksDemonstrator, BlocksDemos};
use super::kitchen::{KitchenAccount, KitchenDemonstrator, KitchenDemos};
use super::maze::{MazeDemonstrator, MazeDemos};
use super::waypoints::{WaypointDemonstrator, WaypointDemos};
use crate::scene::CompiledScene;
use crate::sim::{Fault, Measurement, Physics, TaskProgress};

/// Who shows how a scene is used; the field `demonstrator` of a scene file.
///
/// Each variant holds the settings of its demonstrator. `demonstrator: Kitchen` stands for its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each scene, so a box would save nothing"
)]
pub enum DemonstratorSpec {
    /// Does sequences of the Franka kitchen's elements.
    Kitchen(KitchenDemos),
    /// Finds its way through random mazes.
    Maze(MazeDemos),
    /// Builds towers of blocks.
    Blocks(BlocksDemos),
    /// Moves an arm by waypoints that stand in the file.
    Waypoints(WaypointDemos),
}

impl DemonstratorSpec {
    /// A demonstrator for `scene`, which is the [recording scene](super::recording_scene) in which it is going to act.
    ///
    /// # Errors
    /// [`DemoError`] if the scene is not of its kind, or a setting makes no sense.
    pub fn build(&self, scene: &CompiledScene) -> Result<Box<dyn Demonstrator>, DemoError> {
        Ok(match self {
            Self::Kitchen(config) => Box::new(KitchenDemonstrator::new(scene, config.clone())?),
            Self::Blocks(config) => Box::new(BlocksDemonstrator::new(scene, config.clone())?),
            Self::Maze(config) => Box::new(MazeDemonstrator::new(scene, config.clone())?),
            Self::Waypoints(config) => Box::new(WaypointDemonstrator::new(scene, config.clone())?),
        })
    }

    /// The same with whatever depends on the `task` of a scene, the names of its elements, said outright: the task is not
    /// part of a [recording scene](super::recording_scene).
    pub(super) fn of_task(&self, task: &[String]) -> Self {
        match self {
            Self::Waypoints(config) => Self::Waypoints(config.listed(task)),
            other => other.clone(),
        }
    }
}

/// Acts by a script; one for each environment.
///
/// Whatever it does depends on the seed, the number of the attempt and what it sees, never on the attempts before.
pub trait Demonstrator: fmt::Debug + Send + Sync {
    /// Prepares attempt number `attempt`, with all random choices from
    /// `rng::stream(seed, Purpose::Demonstrator, 0, attempt)`.
    ///
    /// # Errors
    /// [`DemoError`] if the attempt cannot be set up at all. What may merely not work out is for
    /// [`Demonstrator::judge`]: an attempt that has nothing to do gives no action and is rejected.
    fn begin(&mut self, seed: u64, attempt: u64) -> Result<Start, DemoError>;

    /// The action for this step; `None` once it has finished.
    ///
    /// `physics` is the true state, `measurement` the last observation (`[observation_len]`), which the environment's
    /// control law builds on. `scene` is the one of [`Start::scene`] if there is one.
    fn act(&mut self, scene: &CompiledScene, physics: &Physics, measurement: &Measurement) -> Option<Act>;

    /// Hears of the state after each step that could be trusted. What it returns is added to the scene's reward in the
    /// data; usually nothing.
    fn after(&mut self, _scene: &CompiledScene, _physics: &Physics, _progress: &TaskProgress) -> f32 {
        0.0
    }

    /// Whether the attempt that has just finished counts, in the state after its last step.
    ///
    /// # Errors
    /// The reason why it does not.
    fn judge(&self, scene: &CompiledScene, physics: &Physics, progress: &TaskProgress) -> Result<(), Rejection>;

    /// Attempts with more steps than this are rejected, unless the user sets another limit.
    fn step_limit(&self) -> usize;

    /// Where in its script it is, for attempts that are rejected because they take too long: "kettle, stretch 3 (Pull)". Few
    /// different words, as with [`Rejection::Missed`].
    fn whereabouts(&self) -> Option<String> {
        None
    }

    /// What the report says of an attempt that counts.
    fn account(&self) -> Account;

    /// Names of its own columns in the data (below `infos/`), each one whole number per step.
    fn columns(&self) -> &'static [&'static str] {
        &[]
    }

    /// Appends one number for each of [`Demonstrator::columns`]: those of the step for which [`Demonstrator::act`] has
    /// just given the action.
    fn write_columns(&self, _numbers: &mut Vec<i64>) {}
}

/// How an attempt begins.
#[derive(Debug)]
pub struct Start {
    /// A scene of its own for this attempt, with as many observations and actions as the one that the demonstrator was
    /// made for; `None` for that one.
    pub scene: Option<CompiledScene>,
    /// Joint positions `[nq]`, hinges in rad, slides in m; none for those that an episode of the scene starts in.
    pub qpos: Vec<f64>,
    /// Joint velocities `[nv]`, 1/s; none for rest.
    pub qvel: Vec<f64>,
    /// What is added to joint positions: index and number.
    pub shifts: Vec<(usize, f64)>,
}

impl Start {
    /// As an episode of the scene starts.
    pub fn of_scene() -> Self {
        Self {
            scene: None,
            qpos: Vec::new(),
            qvel: Vec::new(),
            shifts: Vec::new(),
        }
    }
}

/// One step of a demonstrator: two actions (`[action_len]`) within -1 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// What is recorded as the action.
    pub intended: Vec<f64>,
    /// What it does; differs from what was intended where disturbances are wanted.
    pub executed: Vec<f64>,
}

impl Act {
    /// Does what it intends.
    pub fn exact(action: Vec<f64>) -> Self {
        Self {
            executed: action.clone(),
            intended: action,
        }
    }
}

/// What the report says of a demonstration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Account {
    /// What was shown, in words; demonstrations with the same words are counted together. Empty where all show the same
    /// kind of thing.
    pub shown: String,
    /// Numbers by name, of which the report gives mean, deviation and range.
    pub figures: Vec<(&'static str, f64)>,
    /// What the kitchen's table of variety is made of.
    pub kitchen: Option<KitchenAccount>,
}

/// Why a demonstration was not kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejection {
    /// It did not come to what was asked for: "kettle not done". Few different words, because the report groups by
    /// them.
    Missed(Cow<'static, str>),
    /// It took fewer steps than are wanted.
    TooShort,
    /// It took more steps than allowed.
    TooLong {
        /// Steps that are allowed.
        limit: usize,
        /// Where in its script it was by then, as [`Demonstrator::whereabouts`] says.
        at: Option<String>,
    },
    /// A step could not be trusted.
    Fault(Fault),
}

impl fmt::Display for Rejection {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Missed(what) => to.write_str(what),
            Self::TooShort => to.write_str("too short"),
            Self::TooLong { limit, at } => {
                write!(to, "more than {limit} steps (step_limit)")?;
                match at {
                    Some(at) => write!(to, ", then at {at}"),
                    None => Ok(()),
                }
            }
            Self::Fault(fault) => write!(to, "{fault}"),
        }
    }
}
