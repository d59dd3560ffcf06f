//! Terms of the reward besides the elements of a task: the field `task.rewards` of a scene.
//!
//! In the formulas `d` is a distance after the step, `a` the action, and `w` the weight.

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::one;
use super::place::{Place, Thing, Zone};
use crate::sim::stack::StackSpec;

/// A term of the reward. One with a `name` is reported: the sum of what it gave in the episode is a
/// [figure](crate::sim::TaskProgress::figures) of that name.
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
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// Blocks that are lifted and stacked.
    Stack(StackSpec),
    /// The distance between two places, `w · shape(d)`, m.
    Distance {
        /// A place.
        from: Place,
        /// Another one.
        to: Place,
        /// How the reward falls with the distance.
        #[serde(default)]
        shape: Shape,
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The way by which two places have come nearer in the step, `w · (d_before - d)`, m: shaping by the potential
    /// `-w · d` with a discount of 1, which leaves the best policy what it is (Ng et al. 1999).
    Progress {
        /// A place.
        from: Place,
        /// Another one.
        to: Place,
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The distance of an element to its goal, `w · shape(d)`, in the element's unit.
    ElementDistance {
        /// The element.
        element: String,
        /// How the reward falls with the distance.
        #[serde(default)]
        shape: Shape,
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// How much nearer an element has come to its goal in the step, `w · (d_before - d)`: as [`Reward::Progress`].
    ElementProgress {
        /// The element.
        element: String,
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The Euclidean distance of joints to a goal, `w · shape(|q - goal|)`, rad or m.
    JointNear {
        /// The joints.
        joints: Vec<String>,
        /// All numbers of their positions one after another.
        goal: Vec<f64>,
        /// How the reward falls with the distance.
        #[serde(default)]
        shape: Shape,
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// How far a place is above a height, `w · clamp(z - above, 0, at_most)`, m.
    Height {
        /// The place.
        of: Place,
        /// The height, m.
        #[serde(default)]
        above: f64,
        /// More than this, m, gives no more.
        #[serde(default = "unbounded")]
        at_most: f64,
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// How upright a place is, `w · cos(tilt)`: 1 with its z axis upwards, -1 downwards.
    Upright {
        /// The place.
        of: Place,
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The velocity of a place along a direction, `w · min(v · direction, at_most)`, m/s.
    Speed {
        /// The place.
        of: Place,
        /// The direction, axes of the world; its length does not matter.
        along: (f64, f64, f64),
        /// More than this, m/s, gives no more.
        #[serde(default = "unbounded")]
        at_most: f64,
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The value in every step after which two things touch.
    Contact {
        /// The two.
        between: (Thing, Thing),
        /// Reward of such a step.
        #[serde(default = "one")]
        value: f64,
        /// Whether only the first such step of the episode counts.
        #[serde(default)]
        once: bool,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The value in every step after which a place is inside a zone.
    Reached {
        /// The place.
        of: Place,
        /// The zone.
        zone: Zone,
        /// Reward of such a step.
        #[serde(default = "one")]
        value: f64,
        /// Whether only the first such step of the episode counts.
        #[serde(default)]
        once: bool,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The value in every step after which a condition holds.
    When {
        /// The condition.
        condition: Condition,
        /// Reward of such a step.
        #[serde(default = "one")]
        value: f64,
        /// Whether only the first such step of the episode counts.
        #[serde(default)]
        once: bool,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The size of the action, `-w · Σ a²`.
    ActionCost {
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The change of the action, `-w · Σ (a - a_before)²`; the action before the first is zero.
    ActionRate {
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The work of the actuators, `-w · Σ |force · velocity| · T`, J, with force and velocity of each actuator in the last
    /// physics step and `T` the length of a control step.
    EnergyCost {
        /// Weight.
        #[serde(default = "one")]
        weight: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The value once, in the step in which the task is done.
    Completion {
        /// Reward of that step.
        #[serde(default = "one")]
        value: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
    /// The value in every step.
    Constant {
        /// Reward of a step.
        value: f64,
        /// Name of the figure.
        #[serde(default)]
        name: String,
    },
}

impl Reward {
    /// Name of the figure; empty for a term that is not reported, or has names of its own.
    pub fn name(&self) -> &str {
        match self {
            Self::Stack(_) => "",
            Self::Near { name, .. }
            | Self::Distance { name, .. }
            | Self::Progress { name, .. }
            | Self::ElementDistance { name, .. }
            | Self::ElementProgress { name, .. }
            | Self::JointNear { name, .. }
            | Self::Height { name, .. }
            | Self::Upright { name, .. }
            | Self::Speed { name, .. }
            | Self::Contact { name, .. }
            | Self::Reached { name, .. }
            | Self::When { name, .. }
            | Self::ActionCost { name, .. }
            | Self::ActionRate { name, .. }
            | Self::EnergyCost { name, .. }
            | Self::Completion { name, .. }
            | Self::Constant { name, .. } => name,
        }
    }
}

/// How a reward falls with a distance `d`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Shape {
    /// `-d`
    #[default]
    Linear,
    /// `-d²`
    Squared,
    /// `exp(-d / s)` with the scale `s`: 1 at the goal, 0 far away.
    Exponential(f64),
    /// `1 - tanh(d / s)` with the scale `s`: 1 at the goal, 0 far away.
    Tanh(f64),
}

impl Shape {
    /// Its value at a distance.
    pub fn of(self, distance: f64) -> f64 {
        match self {
            Self::Linear => -distance,
            Self::Squared => -distance * distance,
            Self::Exponential(scale) => (-distance / scale).exp(),
            Self::Tanh(scale) => 1.0 - (distance / scale).tanh(),
        }
    }
}

fn unbounded() -> f64 {
    f64::INFINITY
}
