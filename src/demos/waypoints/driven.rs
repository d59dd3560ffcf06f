//! A hand whose velocity is the action: [`Control::EndEffector`](crate::scene::Control::EndEffector).

use nalgebra::{UnitQuaternion, Vector3};

use super::chain::{Heading, Tool, Wanted, between};
use super::hand::{Aim, Hand, Look, Scale};
use super::{WaypointDemos, lookup};
use crate::demos::DemoError;
use crate::demos::ik::rotation_vector;
use crate::scene::{CompiledControl, CompiledScene, EndEffector, Turning};
use crate::sim::Physics;

/// Share of what is missing that is asked for in a step, where it is less than the hand can do.
const GAIN: f64 = 0.8;

/// A hand that is moved as a whole.
#[derive(Debug)]
pub(super) struct DrivenHand {
    tool: Tool,
    /// Way for an action of 1, m, and turning, rad.
    stride: f64,
    turn: f64,
    turning: Turning,
    /// Place in the action of each finger, and how its control follows.
    fingers: Vec<(usize, Scale)>,
    /// Indices in `qpos` of the arm's joints.
    positions: Vec<usize>,
    /// Numbers of the action that move the hand.
    places: Vec<usize>,
}

impl DrivenHand {
    pub fn new(
        scene: &CompiledScene,
        config: &WaypointDemos,
        arm: &EndEffector,
        tool: Tool,
    ) -> Result<Self, DemoError> {
        if arm.site != config.hand.site {
            let problem = format!(
                "expected the site that the action moves, {:?}, found {:?}",
                arm.site, config.hand.site
            );
            return Err(super::wrong("hand.site", problem));
        }
        let CompiledControl::EndEffector(compiled) = scene.control() else {
            return Err(super::wrong("hand", "the control of the scene does not move a hand"));
        };
        let first = 3 + arm.rotation.numbers();
        let mut fingers = Vec::new();
        let names = config.gripper.iter().flat_map(|gripper| &gripper.actuators);
        for (place, name) in names.enumerate() {
            let found = arm.grippers.iter().zip(&compiled.grippers).enumerate();
            let mut found = found.filter(|(_, (named, _))| named.actuator == *name);
            let Some((at, (_, gripper))) = found.next() else {
                let known = arm.grippers.iter().map(|named| named.actuator.as_str());
                return Err(lookup::no_such(
                    "gripper",
                    name,
                    &format!("gripper.actuators.{place}"),
                    known,
                ));
            };
            fingers.push((first + at, Scale::between(gripper.low, gripper.high)));
        }
        Ok(Self {
            tool,
            stride: arm.speed * scene.period(),
            turn: arm.turn_speed * scene.period(),
            turning: arm.rotation,
            fingers,
            positions: compiled.joints.iter().map(|joint| joint.position).collect(),
            places: (0..first).collect(),
        })
    }
}

impl Hand for DrivenHand {
    fn tool(&self) -> Tool {
        self.tool
    }

    fn begin(&mut self, _physics: &Physics) {}

    fn places(&self) -> &[usize] {
        &self.places
    }

    fn joints(&self, _physics: &Physics) -> Option<Vec<f64>> {
        None
    }

    fn positions(&self) -> &[usize] {
        &self.positions
    }

    fn joints_at(&mut self, _physics: &Physics, _wanted: &Wanted, _posture: &[f64]) -> Option<Vec<f64>> {
        None
    }

    fn act(&mut self, aim: &Aim, look: Look, action: &mut [f64]) {
        let tool = self.tool.pose(look.physics);
        let wanted = &aim.wanted;
        let missing = match wanted.heading {
            Heading::Free => Vector3::zeros(),
            Heading::Approach => between(&tool.approach(), &wanted.pose.approach()),
            Heading::Full => rotation_vector(&(wanted.pose.axes * tool.axes.transpose())),
        };
        let turn = match self.turning {
            Turning::Free | Turning::Held => Vector3::zeros(),
            Turning::Yaw => Vector3::z() * missing.z,
            Turning::Full => missing,
        };
        let turn = bounded(turn * (GAIN / self.turn.max(1e-12)));
        // The action moves the site; the hand's point is beside it.
        let turned = UnitQuaternion::from_scaled_axis(turn * self.turn);
        let arm = tool.axes * self.tool.offset;
        let swing = turned * arm - arm;
        let way = wanted.pose.position - tool.position;
        let velocity = bounded((way - swing) * (GAIN / self.stride.max(1e-12)));
        let turns = match self.turning {
            Turning::Free | Turning::Held => [0.0; 3],
            Turning::Yaw => [turn.z, 0.0, 0.0],
            Turning::Full => turn.into(),
        };
        let numbers = velocity.iter().copied().chain(turns);
        for (place, number) in self.places.iter().zip(numbers) {
            if let Some(to) = action.get_mut(*place) {
                *to = number;
            }
        }
        for (place, scale) in &self.fingers {
            if let Some(to) = action.get_mut(*place) {
                *to = scale.number(aim.grip).clamp(-1.0, 1.0);
            }
        }
    }
}

/// The vector, made shorter where a number of it is beyond -1 and 1: its direction stays.
fn bounded(vector: Vector3<f64>) -> Vector3<f64> {
    let most = vector.amax();
    if !most.is_finite() {
        Vector3::zeros()
    } else if most > 1.0 {
        vector / most
    } else {
        vector
    }
}
