//! Scripted demonstrators: demonstrations without human data.
//!
//! | item | duty |
//! |---|---|
//! | [`KitchenDemonstrator`] | does any sequence of the seven kitchen elements, one control step at a time |
//! | [`DemonstratorConfig`] | its speed, variety, retries and disturbances |
//! | [`collect`] | gathers demonstrations from many environments at once |
//! | [`demonstrate`] | one demonstration, without a schedule |
//! | [`Spread`] | how varied the demonstrations are |
//! | [`ik`], [`segments`] | the arm's kinematics and the pieces of motion they are made of |

mod collect;
pub mod ik;
mod kitchen;
mod routines;
pub mod segments;
mod spread;

pub use collect::{
    CollectConfig, CollectProgress, CollectReport, Demonstration, Rejection, collect, demonstrate, human_sequences,
    recording_scene,
};
pub use kitchen::{Act, Attempt, DemonstratorConfig, Disturbance, KitchenDemonstrator, KitchenElement, Recorded};
pub use spread::{ElementSpread, Spread, Summary};

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
    /// The scene lacks an element, or cannot be compiled.
    #[error("the kitchen demonstrator cannot work in this scene: {0}")]
    Scene(#[from] SceneError),
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
