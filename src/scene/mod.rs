//! Scenes: what an environment is made of, written as a RON file.
//!
//! A [`Scene`] is the description as it stands in the file: the `MuJoCo` model, how actions drive it, what is observed,
//! the start state, the elements of the task and when an episode ends. [`CompiledScene`] is the same with every name
//! resolved against the loaded model; all environments of a scene share one. Nothing in a scene knows about kitchens:
//! every part is a list of terms over the joints and actuators of the model, named as in its MJCF file.
//!
//! `scenes/kitchen.ron` is the example to start from; a scene that `extends` it only states what differs.

pub mod blocks;
mod compile;
pub mod maze;
mod model;

pub use blocks::BlocksSpec;
pub use compile::{
    Channel, CompiledControl, CompiledElement, CompiledMotor, CompiledReward, CompiledScene, CompiledServo, Source,
};
pub use maze::MazeSpec;
pub use model::model_folders;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::demos::DemonstratorSpec;
use crate::files::{self, FileError, FileKind, Loaded};
use crate::sim::stack::StackSpec;

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
    /// MJCF file, absolute or relative to one of the [`model_folders`]. Left out where the model is `built`.
    #[serde(default)]
    pub model: PathBuf,
    /// A model that the program writes itself, in place of a file.
    #[serde(default)]
    pub built: Option<Built>,
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

/// How an action moves the actuators. Actions are clipped to `[-1, 1]`, one number for each servo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Control {
    /// Position servos whose target moves with limited speed away from the *last observed*, hence noisy, position:
    /// `target = clip(observed + speed · action · period, range)`, held for the whole control step.
    ///
    /// The step rule of relay policy learning's and D4RL's kitchen.
    VelocityLimitedPosition {
        /// Speed that an action of 1 asks for, rad/s or m/s.
        speed: f64,
        /// The driven joints, in the order of the action's numbers.
        servos: Vec<Servo>,
    },
    /// Actuators that get the action itself: `control = scale · action`, held for the whole control step.
    Motors {
        /// The actuators, in the order of the action's numbers.
        motors: Vec<Motor>,
        /// Before the physics steps the velocity of every joint is clipped to plus and minus this, rad/s or m/s, as
        /// D4RL's point mass does.
        #[serde(default)]
        speed_limit: Option<f64>,
    },
}

/// An actuator that gets a number of the action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Motor {
    /// The actuator of the model.
    pub actuator: String,
    /// Control for an action of 1, in the actuator's unit.
    #[serde(default = "one")]
    pub scale: f64,
    /// How the number is understood.
    #[serde(default)]
    pub kind: MotorKind,
}

/// How a [`Motor`] understands its number of the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum MotorKind {
    /// As it is.
    #[default]
    Proportional,
    /// As a switch with three positions: above 0.5 it is 1, below -0.5 it is -1, otherwise 0. Where its magnitude is
    /// between 0.3 and 0.7 the control stays as it was, except in the first step of an episode.
    Gripper,
}

/// A joint driven by a position servo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Servo {
    /// Hinge or slide joint; it must be part of the observation.
    pub joint: String,
    /// Actuator of the model that receives the target.
    pub actuator: String,
    /// Lowest and highest target, rad or m.
    pub range: (f64, f64),
}

/// What an agent sees: the terms one after another, with uniform noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservationSpec {
    /// Whether noise is added at all.
    #[serde(default = "yes")]
    pub noise: bool,
    /// Factor on the amplitudes of all terms.
    #[serde(default = "one")]
    pub noise_scale: f64,
    /// Lowest and highest number; others are clipped.
    #[serde(default)]
    pub clip: Option<(f64, f64)>,
    /// The terms, in the order of the observation's numbers.
    pub terms: Vec<ObservationTerm>,
    /// Pictures that agents see besides the numbers.
    #[serde(default)]
    pub pixels: Option<PixelSpec>,
}

/// Pictures that agents see: RGB, the last few of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelSpec {
    /// Where they are taken from.
    pub eye: Eye,
    /// Width and height, pixels.
    #[serde(default = "thirty_two")]
    pub size: u32,
    /// Pictures that are seen at once, one for each of the last control steps.
    #[serde(default = "two")]
    pub frames: u32,
}

/// Where the pictures of a [`PixelSpec`] are taken from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Eye {
    /// From straight above: up in the picture is +x, right is -y. The point that is looked at follows a body.
    Above {
        /// The body.
        body: String,
        /// Distance from the point that is looked at, m.
        #[serde(default = "five")]
        distance: f64,
        /// Vertical field of view, degrees.
        #[serde(default = "forty_five")]
        fovy: f64,
        /// Share of the way to the body by which the point moves at each picture; 1 follows at once.
        #[serde(default = "one")]
        lag: f64,
    },
    /// Carried along by a body without turning with it.
    Carried {
        /// The body.
        body: String,
        /// From the body to the eye, m, axes of the world.
        offset: (f64, f64, f64),
        /// From the body to the point that is looked at, m, axes of the world.
        target: (f64, f64, f64),
        /// Vertical field of view, degrees.
        #[serde(default = "forty_five")]
        fovy: f64,
    },
}

/// A stretch of numbers in the observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ObservationTerm {
    /// Joint positions: 1 number for a hinge (rad) or slide (m), 4 for a ball joint (quaternion w x y z), 7 for a free
    /// joint (position in m, then quaternion).
    Position {
        /// The joints.
        joints: Vec<String>,
        /// Noise amplitudes before [`ObservationSpec::noise_scale`]: none, one for all numbers, or one for each. The
        /// noise is uniform within plus and minus the amplitude.
        #[serde(default)]
        noise: Vec<f64>,
        /// Their magnitudes, without the sign.
        #[serde(default)]
        absolute: bool,
    },
    /// Joint velocities: 1 number for a hinge (rad/s) or slide (m/s), 3 for a ball joint, 6 for a free joint.
    Velocity {
        /// The joints.
        joints: Vec<String>,
        /// Noise amplitudes, as for positions.
        #[serde(default)]
        noise: Vec<f64>,
    },
    /// Positions of bodies in the world, 3 numbers each, m. After a step they are those that `MuJoCo` has worked out in its
    /// last physics step, from the positions before it.
    Body {
        /// The bodies.
        bodies: Vec<String>,
    },
    /// For every position and velocity before it, the goal of the shown elements, or zero where they have none.
    Goal {
        /// The elements whose goals are shown.
        shown: Shown,
    },
}

/// The elements whose goals an observation shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Shown {
    /// Those of the task.
    Task,
    /// These, whatever the task is.
    Elements(Vec<String>),
}

/// The state an episode starts in. Velocities are zero.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetSpec {
    /// Joint name to position (as many numbers as the joint has). Other joints start where the model puts them.
    #[serde(default)]
    pub positions: BTreeMap<String, Vec<f64>>,
    /// Control steps without control that belong to the reset.
    #[serde(default)]
    pub settle: u32,
}

/// A thing of the scene that is done when its joints are near a goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Element {
    /// Name, unique in the scene.
    pub name: String,
    /// Its joints.
    pub joints: Vec<String>,
    /// Goal position, all numbers of the joints one after another. In a maze it may be left out: then it is the target of
    /// the layout.
    #[serde(default)]
    pub goal: Vec<f64>,
    /// Done when the Euclidean distance to the goal is below this.
    pub threshold: f64,
}

/// What is rewarded: elements of the scene, and further terms. The reward of a step is the sum of both.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Names of the elements that give a reward of 1, once. When all are done the episode terminates; without any it
    /// never does.
    #[serde(default)]
    pub elements: Vec<String>,
    /// Whether the order of the list matters.
    #[serde(default)]
    pub order: Order,
    /// What the elements are judged on.
    #[serde(default)]
    pub judged_on: JudgedOn,
    /// Further terms of the reward.
    #[serde(default)]
    pub rewards: Vec<Reward>,
}

/// A term of the reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Reward {
    /// The value in every step after which an element is at its goal.
    Near {
        /// The element.
        element: String,
        /// Reward of such a step.
        #[serde(default = "one")]
        value: f64,
    },
    /// Blocks that are lifted and stacked.
    Stack(StackSpec),
}

/// In which order the elements of a task count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Order {
    /// Any order.
    #[default]
    Any,
    /// An element counts only in a step in which every element listed before it has been counted or is at its goal
    /// too. The rule of the D4RL fork that `SPiRL` uses, since January 2021.
    Listed,
}

/// What the elements of a task are judged on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum JudgedOn {
    /// The true state.
    #[default]
    State,
    /// The noisy observation, as in D4RL. All joints of the elements must be observed.
    Observation,
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

/// What can be wrong with a scene.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The scene file cannot be found, read or understood, or something in it does not fit the model.
    #[error(transparent)]
    File(#[from] FileError),
    /// No folder holds the model.
    #[error("model {model:?} not found; looked in {searched}. `make setup` fetches the models that scenes/ uses")]
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
    #[error("{field}: no {kind} is named {name:?}{}", did_you_mean(.nearest))]
    UnknownName {
        /// Where in the scene, with dots: `control.servos.0.joint`.
        field: String,
        /// What kind of thing was named.
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// The most similar name there is.
        nearest: Option<String>,
    },
    /// A value that makes no sense where it stands.
    #[error("{field}: {reason}")]
    Invalid {
        /// Where in the scene, with dots: `control.servos.0.joint`.
        field: String,
        /// What is wrong.
        reason: String,
    },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
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
            Self::ModelNotFound { .. } | Self::Model { .. } => Some("physics.model"),
            Self::File(_) => None,
        }
    }

    /// The same fault as an error at its place in the file.
    fn located(self, file: &Loaded<Scene>) -> Self {
        match self.field() {
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
        Ok(files::load(FileKind::Scene, name, &[])?.value)
    }
}
