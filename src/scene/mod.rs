//! Scenes: what an environment is made of, written as a RON file.
//!
//! A [`Scene`] is the description as it stands in the file: the `MuJoCo` model, how actions drive it, what is observed,
//! the start state, the elements of the task and when an episode ends. [`CompiledScene`] is the same with every name
//! resolved against the loaded model; all environments of a scene share one. Nothing in a scene knows about kitchens:
//! every part is a list of terms over the joints and actuators of the model, named as in its MJCF file.
//!
//! `scenes/kitchen.ron` is the example to start from; a scene that `extends` it only states what differs.

pub(crate) mod adjust;
mod arm;
pub mod blocks;
mod changes;
mod channels;
mod check;
mod compile;
mod condition;
mod control;
mod delay;
pub(crate) mod fields;
mod light;
mod looks;
pub mod maze;
mod mjcf;
mod model;
mod model_files;
mod observation;
mod place;
mod placement;
pub(crate) mod randomise;
mod reset;
pub(crate) mod resolve;
mod reward;
mod reward_terms;
mod suspicions;
mod task;

pub(crate) use arm::geared_unit;
pub use blocks::BlocksSpec;
pub use changes::ModelChange;
pub use channels::{CompiledTerm, GoalPart, Relative, TermKind};
pub use check::{Findings, Models};
pub use compile::CompiledScene;
pub use condition::{CompiledCondition, Condition};
pub(crate) use control::MOST_JOINTS;
pub use control::{
    ActionChannel, ArmJoint, CompiledArmJoint, CompiledControl, CompiledDirect, CompiledEndEffector, CompiledMotor,
    CompiledServo, Control, DirectActuator, EndEffector, Motor, MotorKind, Servo, Turning,
};
pub use delay::{Delay, Delays};
pub(crate) use light::HEAD_LIGHT;
pub use looks::{Looks, VariedPiece};
pub use maze::MazeSpec;
pub use model::model_folders;
pub(crate) use model_files::ModelFiles;
pub use observation::{Axes, Channel, Eye, ObservationSpec, ObservationTerm, PixelSpec, Rotation, Shown, Source};
pub(crate) use place::Data;
pub use place::{CompiledContact, CompiledPlace, CompiledZone, Place, Thing, Zone};
pub(crate) use placement::CompiledPlacement;
pub use placement::{Area, Placement};
pub use randomise::{CompiledRandomisation, Draw, Randomise};
pub use reset::ResetSpec;
pub use reward::{Reward, Shape};
pub use reward_terms::{CompiledReward, RewardKind};
pub use suspicions::Suspicion;
pub use task::{CompiledElement, Drawn, Element, Flag, JudgedOn, Order, Task};

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::demos::DemonstratorSpec;
use crate::files::{self, FileError, FileKind, Loaded};

/// A scene file: everything an environment needs to know, in names of the `MuJoCo` model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// One line for lists and logs.
    #[serde(default)]
    pub description: String,
    /// The model and its time steps.
    pub physics: PhysicsSpec,
    /// What an action does.
    pub control: Control,
    /// What an agent sees.
    pub observation: ObservationSpec,
    /// The state an episode starts in.
    pub reset: ResetSpec,
    /// What of the model differs from episode to episode.
    #[serde(default)]
    pub randomise: Vec<Randomise>,
    /// How late actions and observations are.
    #[serde(default)]
    pub delays: Delays,
    /// The things of the scene that can be brought to a goal.
    #[serde(default)]
    pub elements: Vec<Element>,
    /// Which of the elements are rewarded.
    #[serde(default)]
    pub task: Task,
    /// How long an episode lasts.
    pub episode: EpisodeSpec,
    /// Views for pictures and videos.
    #[serde(default)]
    pub cameras: Vec<Camera>,
    /// Who shows how the scene is used; without one there are no scripted demonstrations.
    #[serde(default)]
    pub demonstrator: Option<DemonstratorSpec>,
}

/// The `MuJoCo` model and how often it is stepped.
///
/// `MuJoCo`'s automatic reset of unstable states is always off: an unstable episode ends with a
/// [fault](crate::sim::Fault) instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhysicsSpec {
    /// MJCF file: absolute, relative to the scene file that names it, or relative to one of the [`model_folders`]. Left
    /// out where the model is `built`.
    #[serde(default)]
    pub model: PathBuf,
    /// Folders, besides that of the model, from which it may take MJCF files, meshes and textures; relative to the folder
    /// of the model. Models in one of the [`model_folders`] may take them from anywhere in it.
    #[serde(default)]
    pub allow: Vec<PathBuf>,
    /// A model that the program writes itself, in place of a file.
    #[serde(default)]
    pub built: Option<Built>,
    /// Changes to the model, made once when it is loaded.
    #[serde(default)]
    pub changes: Vec<ModelChange>,
    /// Physics steps per control step. Their length is the model's own time step.
    pub frame_skip: u32,
}

/// A model that the program writes itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Built {
    /// A point mass among walls.
    Maze(MazeSpec),
    /// A gripper in a plane, a table and blocks.
    Blocks(BlocksSpec),
}

/// How long an episode lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeSpec {
    /// Control steps after which an unfinished episode is truncated.
    pub steps: u32,
}

/// A free camera, in `MuJoCo`'s terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Name, unique in the scene.
    pub name: String,
    /// The point in the middle of the picture, m.
    pub look_at: (f64, f64, f64),
    /// Distance from that point, m.
    pub distance: f64,
    /// Direction of view in the ground plane, degrees.
    pub azimuth: f64,
    /// Angle of the view above the horizon, degrees; negative looks down.
    pub elevation: f64,
    /// Width of the picture, pixels.
    pub width: u32,
    /// Height of the picture, pixels.
    pub height: u32,
}

/// Longest side of a picture of a scene, pixels.
pub const LARGEST_PICTURE: u32 = 8_192;

/// What can be wrong with a scene.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The scene file cannot be found, read or understood, or something in it does not fit the model.
    #[error(transparent)]
    File(#[from] FileError),
    /// No folder holds the model.
    #[error(
        "model {model:?} is neither beside the scene file nor in {searched}; `make setup` fetches the models that scenes/ uses"
    )]
    ModelNotFound {
        /// The model as the scene names it.
        model: PathBuf,
        /// The folders that were searched.
        searched: String,
    },
    /// `MuJoCo` refuses the model, or cannot simulate it as it is.
    #[error("model {path:?}: {reason}")]
    Model {
        /// The model file.
        path: PathBuf,
        /// `MuJoCo`'s own words.
        reason: String,
    },
    /// A name that the model or the scene does not have.
    #[error("{field}: no {kind} is named {name:?}{}", did_you_mean(.nearest).unwrap_or_else(|| .known.to_string()))]
    UnknownName {
        /// Where in the scene, with dots: `control.servos.0.joint`.
        field: String,
        /// What kind of thing was named.
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// The most similar name there is.
        nearest: Option<String>,
        /// The names there are, as the end of a sentence, in case none of them is similar.
        known: Box<str>,
    },
    /// A fault in a file of the model, with its place there.
    #[error("physics.model: {0}")]
    ModelFile(FileError),
    /// A value that makes no sense where it stands.
    #[error("{field}: {reason}")]
    Invalid {
        /// Where in the scene, with dots: `control.servos.0.joint`.
        field: String,
        /// What is wrong.
        reason: String,
    },
}

fn did_you_mean(nearest: &Option<String>) -> Option<String> {
    nearest.as_ref().map(|name| format!("; did you mean {name:?}?"))
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

fn five() -> f64 {
    5.0
}

fn forty_five() -> f64 {
    45.0
}

fn thirty_two() -> u32 {
    32
}

fn two() -> u32 {
    2
}

impl SceneError {
    /// Where in the scene the fault is, if it is in a particular place.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::UnknownName { field, .. } | Self::Invalid { field, .. } => Some(field),
            Self::ModelNotFound { .. } | Self::Model { .. } | Self::ModelFile(_) => Some("physics.model"),
            Self::File(_) => None,
        }
    }

    /// Whether the name that is unknown is the last part of the field itself, as the key of a map is.
    pub(crate) fn is_of_key(&self) -> bool {
        matches!(self, Self::UnknownName { field, name, .. }
            if field.strip_suffix(name.as_str()).is_some_and(|holder| holder.ends_with('.')))
    }

    /// The same fault as an error at its place in the file.
    fn located(self, file: &Loaded<Scene>) -> Self {
        match self.field() {
            Some(field) if self.is_of_key() => Self::File(file.error_at_key(field, self.to_string())),
            Some(field) => Self::File(file.error_at(field, self.to_string())),
            None => self,
        }
    }
}

impl Scene {
    /// Reads a scene, by its name in `scenes/` or its path.
    ///
    /// # Errors
    /// [`SceneError::File`] with the place if there is no such scene or it does not parse.
    pub fn load(name: &str) -> Result<Self, SceneError> {
        Ok(Self::load_with(name, &[])?.value)
    }

    /// The same with `overrides` (`path=value`) laid over it, and with where everything comes from. The path of a model
    /// that lies beside the scene is absolute.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(name: &str, overrides: &[String]) -> Result<Loaded<Self>, SceneError> {
        let mut file = files::load(FileKind::Scene, name, overrides)?;
        model::beside_its_scene(&mut file)?;
        Ok(file)
    }

    /// The scene of a text that was read from the file `path`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_text(path: &Path, text: &str) -> Result<Loaded<Self>, SceneError> {
        let mut file = files::load_text(FileKind::Scene, path, text, &[])?;
        model::beside_its_scene(&mut file)?;
        Ok(file)
    }
}
