//! Kinematics of the Franka arm for demonstrators: tool pose, inverse kinematics, collisions along a path.
//!
//! The *tool* is the point between the finger pads. Its axes are those of the model's `end_effector` site: z is the
//! approach direction, y the direction in which the fingers open, x points up in the neutral pose.

use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use nalgebra::{Matrix3, SMatrix, SVector, Vector3};

use super::DemoError;

/// Positions of the seven arm joints, rad.
pub type Joints = SVector<f64, 7>;

/// Position of the tool, m, and its axes as columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Tool point in the world, m.
    pub position: Vector3<f64>,
    /// Tool axes in the world.
    pub axes: Matrix3<f64>,
}

impl Pose {
    /// The approach direction.
    pub fn approach(&self) -> Vector3<f64> {
        self.axes.column(2).into()
    }
}

/// Tool axes from three angles, rad: `yaw` turns the approach direction to the left, `pitch` up, `roll` turns the
/// fingers about it, clockwise as the robot sees it. All zero: approach along the world's +y, fingers open along x.
pub fn orientation(yaw: f64, pitch: f64, roll: f64) -> Matrix3<f64> {
    let neutral = Matrix3::new(0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0);
    about_z(yaw) * about_x(pitch) * neutral * about_z(roll)
}

fn about_x(angle: f64) -> Matrix3<f64> {
    let (sin, cos) = angle.sin_cos();
    Matrix3::new(1.0, 0.0, 0.0, 0.0, cos, -sin, 0.0, sin, cos)
}

fn about_z(angle: f64) -> Matrix3<f64> {
    let (sin, cos) = angle.sin_cos();
    Matrix3::new(cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0)
}

/// Logarithm of a rotation: axis times angle, rad.
pub fn rotation_vector(rotation: &Matrix3<f64>) -> Vector3<f64> {
    let angle = ((rotation.trace() - 1.0) / 2.0).clamp(-1.0, 1.0).acos();
    let axis = Vector3::new(
        rotation[(2, 1)] - rotation[(1, 2)],
        rotation[(0, 2)] - rotation[(2, 0)],
        rotation[(1, 0)] - rotation[(0, 1)],
    );
    let length = axis.norm();
    if length < 1e-9 {
        Vector3::zeros()
    } else {
        axis * (angle / length)
    }
}

/// Rotation about `vector` by its length in rad.
pub fn rotation(vector: &Vector3<f64>) -> Matrix3<f64> {
    let angle = vector.norm();
    if angle < 1e-12 {
        return Matrix3::identity();
    }
    let cross = (vector / angle).cross_matrix();
    Matrix3::identity() + cross * angle.sin() + cross * cross * (1.0 - angle.cos())
}

/// Damping of the least squares, in the unit of the Jacobian (m/rad).
const DAMPING: f64 = 0.04;
/// Pull towards the posture per iteration, within the null space.
const POSTURE_PULL: f64 = 0.10;
/// Largest change of a joint per iteration, rad.
const LARGEST_STEP: f64 = 0.2;
/// Distance kept from the joint limits, rad.
pub(super) const LIMIT_MARGIN: f64 = 0.03;
/// Distance of the tool point from the `end_effector` site along the approach direction, m.
const TOOL_OFFSET: f64 = 0.03;
/// Joint positions are compared with obstacles every so many rad.
const PATH_SAMPLING: f64 = 0.10;
/// Penetrations up to this depth are forgiven, m.
const TOUCH: f64 = 0.001;
/// Samples at the start of a path whose collisions are forgiven: the arm may touch what it is about to leave.
const FORGIVEN_SAMPLES: usize = 2;

/// The arm's kinematics on a scratch state of its own.
#[derive(Debug)]
pub struct Arm {
    scratch: MjData<Arc<MjModel>>,
    site: usize,
    low: Joints,
    high: Joints,
    /// For each geom: belongs to a robot link that may collide, to the base (whose contacts do not count), or neither.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Moving,
    Base,
    Other,
}

impl Arm {
    /// The arm of `model`, with target ranges `ranges` of the servos (low and high, rad).
    ///
    /// # Errors
    /// [`DemoError::Model`] if the model is no Franka kitchen, [`DemoError::Range`] if a servo's range and the limits of
    /// its joint leave no room to move, [`DemoError::Memory`] if there is no memory for the scratch state.
    pub fn new(model: &Arc<MjModel>, ranges: &[(f64, f64); 7]) -> Result<Self, DemoError> {
        let site = model
            .name_to_id(MjtObjBase::mjOBJ_SITE, "end_effector")
            .ok_or(DemoError::Model {
                kind: "site",
                name: "end_effector",
            })?;
        let (mut low, mut high) = (Joints::zeros(), Joints::zeros());
        let limits = model.jnt_range().iter().zip(model.jnt_limited());
        for (joint, (limit, limited)) in limits.take(7).enumerate() {
            let (mut from, mut to) = ranges[joint];
            if *limited {
                (from, to) = (from.max(limit[0]), to.min(limit[1]));
            }
            (low[joint], high[joint]) = (from + LIMIT_MARGIN, to - LIMIT_MARGIN);
            if low[joint] > high[joint] {
                return Err(DemoError::Range { joint, from, to });
            }
        }
        let parts = model
            .geom_bodyid()
            .iter()
            .map(|&body| match model.id_to_name(MjtObjBase::mjOBJ_BODY, body as usize) {
                Some("panda0_link0" | "panda0_link1" | "panda0_link2") => Part::Base,
                Some(name) if name.contains("panda0") => Part::Moving,
                _ => Part::Other,
            })
            .collect();
        Ok(Self {
            scratch: MjData::try_new(Arc::clone(model)).map_err(|error| DemoError::Memory(error.to_string()))?,
            site,
            low,
            high,
            parts,
        })
    }

    /// Pose of the tool in `data`, as of its last position stage.
    pub fn tool(&self, data: &MjData<Arc<MjModel>>) -> Pose {
        tool(data, self.site)
    }

    /// Pose of the tool with the arm at `joints`.
    pub fn tool_at(&mut self, joints: &Joints) -> Pose {
        self.place(joints);
        tool(&self.scratch, self.site)
    }

    fn place(&mut self, joints: &Joints) {
        for (to, from) in self.scratch.qpos_mut().iter_mut().zip(joints.iter()) {
            *to = *from;
        }
        self.scratch.kinematics();
    }

    /// Joints that bring the tool to `goal`, by `iterations` of damped least squares from `start`.
    ///
    /// `rotation_weight` (m/rad) says how much the orientation counts beside the position. What freedom is left pulls
    /// the arm towards `posture`. The result keeps to the joint limits; it need not reach the goal.
    pub fn solve(
        &mut self,
        start: &Joints,
        goal: &Pose,
        posture: &Joints,
        rotation_weight: f64,
        iterations: usize,
    ) -> Joints {
        let mut joints = *start;
        for _ in 0..iterations {
            self.place(&joints);
            let at = tool(&self.scratch, self.site);
            let turn = rotation_vector(&(goal.axes * at.axes.transpose())) * rotation_weight;
            let step = goal.position - at.position;
            let error = SVector::<f64, 6>::new(step.x, step.y, step.z, turn.x, turn.y, turn.z);
            let jacobian = self.jacobian(&at.position, rotation_weight);
            let normal = jacobian * jacobian.transpose() + SMatrix::<f64, 6, 6>::identity() * DAMPING.powi(2);
            let Some(factor) = normal.cholesky() else { return joints };
            let pull = (posture - joints) * POSTURE_PULL;
            let change = jacobian.transpose() * factor.solve(&error) + pull
                - jacobian.transpose() * factor.solve(&(jacobian * pull));
            for joint in 0..7 {
                let stepped = joints[joint] + change[joint].clamp(-LARGEST_STEP, LARGEST_STEP);
                joints[joint] = stepped.clamp(self.low[joint], self.high[joint]);
            }
        }
        joints
    }

    /// Change of the tool point and (times `rotation_weight`) of its orientation with the joints, `[6, 7]`.
    fn jacobian(&self, point: &Vector3<f64>, rotation_weight: f64) -> SMatrix<f64, 6, 7> {
        let mut jacobian = SMatrix::<f64, 6, 7>::zeros();
        for (joint, (axis, anchor)) in self
            .scratch
            .xaxis()
            .iter()
            .zip(self.scratch.xanchor())
            .take(7)
            .enumerate()
        {
            let axis = Vector3::from(*axis);
            let velocity = axis.cross(&(point - Vector3::from(*anchor)));
            jacobian.fixed_view_mut::<3, 1>(0, joint).copy_from(&velocity);
            jacobian
                .fixed_view_mut::<3, 1>(3, joint)
                .copy_from(&(axis * rotation_weight));
        }
        jacobian
    }

    /// Summed depth, m, to which the moving links sink into anything along the straight joint-space `path`, with the
    /// fingers at `grip` and everything else as in `data`. Stops adding up beyond `limit`.
    pub fn penetration(&mut self, data: &MjData<Arc<MjModel>>, path: &[Joints], grip: f64, limit: f64) -> f64 {
        self.scratch.qpos_mut().copy_from_slice(data.qpos());
        for finger in self.scratch.qpos_mut().iter_mut().skip(7).take(2) {
            *finger = grip;
        }
        let mut sum = 0.0;
        let mut sample = 0;
        for (from, to) in path.iter().zip(path.iter().skip(1)) {
            let samples = ((to - from).amax() / PATH_SAMPLING).ceil().max(2.0);
            for part in 1..=samples as usize {
                sample += 1;
                if sum > limit {
                    return sum;
                }
                if sample > FORGIVEN_SAMPLES {
                    sum += self.depth(&(from + (to - from) * (part as f64 / samples)));
                }
            }
        }
        sum
    }

    fn depth(&mut self, joints: &Joints) -> f64 {
        self.place(joints);
        self.scratch.com_pos();
        self.scratch.collision();
        let part = |geom: i32| self.parts.get(geom as usize).copied().unwrap_or(Part::Other);
        self.scratch
            .contact()
            .iter()
            .filter(|contact| contact.dist < -TOUCH)
            .filter(|contact| {
                let parts = contact.geom.map(part);
                parts.contains(&Part::Moving) && !parts.contains(&Part::Base)
            })
            .map(|contact| -contact.dist)
            .sum()
    }
}

fn tool(data: &MjData<Arc<MjModel>>, site: usize) -> Pose {
    let (Some(position), Some(axes)) = (data.site_xpos().get(site), data.site_xmat().get(site)) else {
        return Pose {
            position: Vector3::zeros(),
            axes: Matrix3::identity(),
        };
    };
    let axes = Matrix3::from_row_slice(axes);
    Pose {
        position: Vector3::from(*position) + axes.column(2) * TOOL_OFFSET,
        axes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_vectors_undo_rotations() {
        for vector in [
            Vector3::new(0.3, -1.2, 0.7),
            Vector3::new(0.0, 0.0, 2.9),
            Vector3::zeros(),
        ] {
            assert!((rotation_vector(&rotation(&vector)) - vector).norm() < 1e-12);
        }
    }

    #[test]
    fn yaw_turns_left_and_pitch_up() {
        let approach = |yaw, pitch| {
            Pose {
                position: Vector3::zeros(),
                axes: orientation(yaw, pitch, 0.4),
            }
            .approach()
        };
        assert!((approach(0.0, 0.0) - Vector3::y()).norm() < 1e-12);
        assert!(approach(0.3, 0.0).x < 0.0);
        assert!(approach(0.0, 0.3).z > 0.0);
    }
}
