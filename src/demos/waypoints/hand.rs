//! What moves: one implementation of [`Hand`] for each kind of control.

use std::fmt;

use super::chain::{Tool, Wanted};
use super::driven::DrivenHand;
use super::joints::JointHand;
use super::{GripperSpec, WaypointDemos, lookup};
use crate::demos::DemoError;
use crate::scene::{CompiledScene, Control};
use crate::sim::{Measurement, Physics};
use mujoco_rs::wrappers::mj_model::MjtObjBase;
use nalgebra::Vector3;

/// What a hand looks at in one step.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The true state.
    pub physics: &'a Physics,
    /// The last observation, which some control laws start from.
    pub measurement: &'a Measurement,
    /// How far the fingers are open: the sum of the positions of their joints, m or rad.
    pub fingers: f64,
}

/// Where a hand should be after the next step.
#[derive(Debug, Clone, Copy)]
pub struct Aim<'a> {
    /// Its pose.
    pub wanted: Wanted,
    /// The joints that are wanted, if not just any that have the hand there; `[joints]`.
    pub joints: Option<&'a [f64]>,
    /// Posture that free joints are pulled to; empty for the one of the start.
    pub posture: &'a [f64],
    /// What the fingers get.
    pub grip: f64,
}

/// A hand, and the control law that moves it.
pub trait Hand: fmt::Debug + Send + Sync {
    /// The point that is moved.
    fn tool(&self) -> Tool;

    /// Begins an attempt in this state.
    fn begin(&mut self, physics: &Physics);

    /// Numbers of the action that move the hand. The others are those of the fingers.
    fn places(&self) -> &[usize];

    /// Positions of the driven joints, rad or m; none where the hand itself is driven.
    fn joints(&self, physics: &Physics) -> Option<Vec<f64>>;

    /// Indices in `qpos` of the driven joints.
    fn positions(&self) -> &[usize];

    /// Joints that have the hand at a pose; none where the hand itself is driven.
    fn joints_at(&mut self, physics: &Physics, wanted: &Wanted, posture: &[f64]) -> Option<Vec<f64>>;

    /// Writes the action that leads to `aim`, `[action_len]`, each number within -1 and 1.
    fn act(&mut self, aim: &Aim, look: Look, action: &mut [f64]);
}

/// The hand of a scene.
pub(super) fn of(scene: &CompiledScene, config: &WaypointDemos) -> Result<Box<dyn Hand>, DemoError> {
    let (x, y, z) = config.hand.offset;
    if !(x + y + z).is_finite() {
        return Err(super::wrong("hand.offset", "expected finite numbers"));
    }
    let site = lookup::id(scene.model(), MjtObjBase::mjOBJ_SITE, &config.hand.site, "hand.site")?;
    let tool = Tool {
        site,
        offset: Vector3::new(x, y, z),
    };
    Ok(match &scene.scene().control {
        Control::EndEffector(arm) => Box::new(DrivenHand::new(scene, config, arm, tool)?),
        _ => Box::new(JointHand::new(scene, config, tool)?),
    })
}

/// How a number of the action becomes the control of an actuator: `control = middle + half · number`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub middle: f64,
    pub half: f64,
}

impl Scale {
    /// The number itself.
    pub const ONE: Self = Self { middle: 0.0, half: 1.0 };

    /// From `low` for -1 to `high` for 1.
    pub fn between(low: f64, high: f64) -> Self {
        Self {
            middle: (low + high) / 2.0,
            half: (high - low) / 2.0,
        }
    }

    /// The number for a control, not clipped.
    pub fn number(self, control: f64) -> f64 {
        if self.half == 0.0 {
            0.0
        } else {
            (control - self.middle) / self.half
        }
    }
}

/// The number for fingers that get `grip`, between the two ends of the gripper: exactly 1 or -1 at the ends.
pub(super) fn finger_number(grip: f64, gripper: &GripperSpec, between: f64) -> f64 {
    let up = if gripper.open >= gripper.closed { 1.0 } else { -1.0 };
    if grip == gripper.open {
        up
    } else if grip == gripper.closed {
        -up
    } else {
        between
    }
}
