//! Scripted demonstrators: demonstrations without human data.
//!
//! | item | duty |
//! |---|---|
//! | [`Demonstrator`] | what every one of them is |
//! | [`DemonstratorSpec`] | which one a scene has, with its settings |
//! | [`collect`] | gathers demonstrations from many environments at once |
//! | [`demonstrate`] | one demonstration, without a schedule |
//! | [`Spread`] | what the demonstrations show, and how varied they are |
//! | [`KitchenDemonstrator`], [`KitchenDemos`] | any sequence of the seven kitchen elements, and how it is done |
//! | [`MazeDemonstrator`], [`MazeDemos`] | ways through random mazes |
//! | [`BlocksDemonstrator`], [`BlocksDemos`] | towers of blocks |
//! | [`WaypointDemonstrator`], [`WaypointDemos`] | anything an arm does, as the scene file says |
//! | [`record`] | episodes of agents as demonstrations |
//! | [`ik`], [`segments`] | the kitchen arm's kinematics and the pieces of motion |

pub mod blocks;
mod collect;
mod demonstrator;
pub mod ik;
mod kitchen;
mod maze;
pub mod record;
mod recording;
mod routines;
pub mod segments;
mod spread;
pub mod waypoints;

pub use blocks::{BlocksDemonstrator, BlocksDemos};
pub use collect::{
    CollectConfig, CollectProgress, CollectReport, Demonstration, collect, demonstrate, recording_scene,
};
pub use demonstrator::{Account, Act, Demonstrator, DemonstratorSpec, Rejection, Start};
pub use kitchen::{
    Attempt, Disturbance, KitchenAccount, KitchenDemonstrator, KitchenDemos, KitchenElement, Recorded, human_sequences,
};
pub use maze::{MazeDemonstrator, MazeDemos};
pub use spread::{ElementSpread, KitchenSpread, Spread, Summary};
pub use waypoints::{WaypointDemonstrator, WaypointDemos};

use crate::data::DataError;
use crate::scene::SceneError;
use crate::sim::SimError;

/// What can go wrong with demonstrators.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The model lacks something that the demonstrator works with.
    #[error("the kitchen demonstrator needs the {kind} {name:?}, which the scene's model does not have")]
    Model {
        /// What kind of thing.
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// The scene lacks something that the demonstrator works with, or cannot be compiled.
    #[error("the demonstrator cannot work in this scene: {0}")]
    Scene(#[from] SceneError),
    /// A name in the demonstrator's settings that model or scene do not have.
    #[error(transparent)]
    UnknownName(Box<SceneError>),
    /// The scene is not of the demonstrator's kind.
    #[error("the {demonstrator} demonstrator needs {needs}")]
    Unfit {
        /// The demonstrator, in a word.
        demonstrator: &'static str,
        /// What it needs and the scene does not have.
        needs: String,
    },
    /// Nobody demonstrates in the scene.
    #[error(
        "the scene has no demonstrator, so nobody can show how it is used; take a scene that has one ({scenes}), or add the \
         field `demonstrator` (Kitchen, Maze, Blocks, Waypoints) to this one"
    )]
    NoDemonstrator {
        /// The scenes that have one.
        scenes: String,
    },
    /// A setting that makes no sense.
    #[error("demonstrator.{field}: expected {expected}, found {value}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What would be valid.
        expected: &'static str,
        /// What was given.
        value: String,
    },
    /// A setting of a waypoint demonstrator that makes no sense.
    #[error("demonstrator.{field}: {problem}")]
    Waypoints {
        /// Where below `demonstrator`, with dots: `skills.door.2`.
        field: String,
        /// What is wrong, and what would be valid.
        problem: String,
    },
    /// The scene drives more or fewer joints than arm and fingers.
    #[error("the kitchen demonstrator drives nine servos, this scene has {0}")]
    Servos(usize),
    /// The scene drives another joint than arm and fingers, or not in their order.
    #[error("control.servos.{place}.joint: the kitchen demonstrator expects {expected:?} here, found {found:?}")]
    Joint {
        /// Place in the list of servos.
        place: usize,
        /// The joint of arm or fingers.
        expected: String,
        /// The scene's joint.
        found: String,
    },
    /// A joint of the arm cannot move.
    #[error(
        "control.servos.{joint}.range: the kitchen demonstrator needs {needed} rad to move in; this range and the \
         joint's own limits leave {from} to {to}",
        needed = 2.0 * ik::LIMIT_MARGIN
    )]
    Range {
        /// Place in the list of servos.
        joint: usize,
        /// Lowest position, rad.
        from: f64,
        /// Highest position, rad.
        to: f64,
    },
    /// Pictures are to be stored, and the scene has none.
    #[error("the scene has no pictures to be stored (`observation.pixels` in its file says what is seen)")]
    NoPictures,
    /// `MuJoCo` has no memory for another state.
    #[error("MuJoCo: {0}")]
    Memory(String),
    /// An environment could not be made.
    #[error(transparent)]
    Environment(#[from] SimError),
    /// A demonstration could not be stored.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An error inside a tick.
    #[error("{0}")]
    Tick(String),
    /// The settings leave no sequence to demonstrate.
    #[error("no sequence of elements is left to demonstrate: every one is excluded, or the list is empty")]
    NoSequences,
    /// So many demonstrations fail that the number asked for is out of reach.
    #[error("gave up after {attempts} attempts: only {accepted} of {episodes} demonstrations succeeded ({reasons})")]
    TooManyFailures {
        /// Demonstrations begun and judged.
        attempts: usize,
        /// Those that succeeded.
        accepted: usize,
        /// Those asked for.
        episodes: usize,
        /// Why the others failed.
        reasons: String,
    },
}

impl DemoError {
    /// Where in the scene the fault is, with dots.
    pub fn field(&self) -> String {
        match self {
            Self::Setting { field, .. } => format!("demonstrator.{field}"),
            Self::Waypoints { field, .. } => format!("demonstrator.{field}"),
            Self::Scene(error) => error.field().unwrap_or("demonstrator").to_owned(),
            Self::UnknownName(error) => error.field().unwrap_or("demonstrator").to_owned(),
            _ => "demonstrator".to_owned(),
        }
    }
}
