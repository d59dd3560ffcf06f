//! Inverse kinematics of a chain of hinges and slides that carries a hand.

use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;
use nalgebra::{Matrix3, SMatrix, SVector, Vector3};

use super::lookup::Joint;
use crate::demos::DemoError;
use crate::demos::ik::{Pose, rotation_vector};

/// Damping of the least squares, in the unit of the Jacobian (m/rad).
const DAMPING: f64 = 0.03;
/// Pull towards the posture per iteration, within the null space.
const POSTURE_PULL: f64 = 0.10;
/// Largest change of a joint per iteration, rad or m.
const LARGEST_STEP: f64 = 0.2;
/// Distance kept from the joint limits, as a share of the range and at most, rad or m.
const LIMIT_MARGIN: (f64, f64) = (0.02, 0.03);

/// How much of a pose's orientation is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Heading {
    /// Nothing of it.
    #[default]
    Free,
    /// The direction of its z axis.
    Approach,
    /// All of it.
    Full,
}

/// A pose that is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// The pose.
    pub pose: Pose,
    /// How much of its orientation counts.
    pub heading: Heading,
    /// How much that counts beside the position, m/rad.
    pub weight: f64,
}

/// The point of the model that is moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tool {
    /// Number of the site.
    pub site: usize,
    /// From the site to the point, m, axes of the site.
    pub offset: Vector3<f64>,
}

impl Tool {
    /// Where it is, as of the last position stage of `data`.
    pub fn pose(&self, data: &MjData<Arc<MjModel>>) -> Pose {
        let (Some(position), Some(axes)) = (data.site_xpos().get(self.site), data.site_xmat().get(self.site)) else {
            return Pose {
                position: Vector3::zeros(),
                axes: Matrix3::identity(),
            };
        };
        let axes = Matrix3::from_row_slice(axes);
        Pose {
            position: Vector3::from(*position) + axes * self.offset,
            axes,
        }
    }
}

/// The joints that move the hand, on a scratch state of their own.
#[derive(Debug)]
pub struct Chain {
    scratch: MjData<Arc<MjModel>>,
    tool: Tool,
    joints: Vec<Joint>,
    low: Vec<f64>,
    high: Vec<f64>,
    /// The Jacobian, one column for each joint: position, then `weight` times the turning.
    columns: Vec<SVector<f64, 6>>,
    /// What draws each joint towards its posture.
    pull: Vec<f64>,
}

impl Chain {
    /// The chain of these joints with their ranges (low and high), limited further by the joints' own limits.
    pub(super) fn new(model: &Arc<MjModel>, tool: Tool, joints: &[(Joint, (f64, f64))]) -> Result<Self, DemoError> {
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for (joint, (from, to)) in joints {
            let (mut from, mut to) = (*from, *to);
            let limited = model.jnt_limited().get(joint.id).copied().unwrap_or(false);
            if let (true, Some(limit)) = (limited, model.jnt_range().get(joint.id)) {
                (from, to) = (from.max(limit[0]), to.min(limit[1]));
            }
            let margin = (LIMIT_MARGIN.0 * (to - from).max(0.0)).min(LIMIT_MARGIN.1);
            low.push(from + margin);
            high.push((to - margin).max(from + margin));
        }
        Ok(Self {
            scratch: MjData::try_new(Arc::clone(model)).map_err(|error| DemoError::Memory(error.to_string()))?,
            tool,
            columns: vec![SVector::zeros(); joints.len()],
            pull: Vec::with_capacity(joints.len()),
            joints: joints.iter().map(|(joint, _)| *joint).collect(),
            low,
            high,
        })
    }

    /// Number of joints.
    pub fn len(&self) -> usize {
        self.joints.len()
    }

    /// Whether there is no joint.
    pub fn is_empty(&self) -> bool {
        self.joints.is_empty()
    }

    /// The point that is moved.
    pub fn tool(&self) -> Tool {
        self.tool
    }

    /// Positions of the joints in a state, rad or m.
    pub fn positions(&self, data: &MjData<Arc<MjModel>>, into: &mut Vec<f64>) {
        let positions = data.qpos();
        into.clear();
        into.extend(
            self.joints
                .iter()
                .map(|joint| positions.get(joint.position).copied().unwrap_or(0.0)),
        );
    }

    /// Brings `joints` (`[len]`) nearer to `wanted`, by so many iterations of damped least squares, with everything else as
    /// in `data`. What freedom is left pulls them towards `posture` (`[len]`). They keep to their limits, and need not
    /// reach the goal.
    pub fn solve(
        &mut self,
        data: &MjData<Arc<MjModel>>,
        joints: &mut [f64],
        wanted: &Wanted,
        posture: &[f64],
        iterations: usize,
    ) {
        self.scratch.qpos_mut().copy_from_slice(data.qpos());
        for _ in 0..iterations {
            self.place(joints);
            let at = self.tool.pose(&self.scratch);
            let step = wanted.pose.position - at.position;
            let turn = missing_turn(&at.axes, wanted) * wanted.weight;
            let error = SVector::<f64, 6>::new(step.x, step.y, step.z, turn.x, turn.y, turn.z);
            self.fill_columns(&at, wanted);
            self.pull.clear();
            let aims = posture.iter().copied().map(Some).chain(std::iter::repeat(None));
            let pulled = joints.iter().zip(aims);
            self.pull
                .extend(pulled.map(|(at, aim)| POSTURE_PULL * (aim.unwrap_or(*at) - at)));
            // Joints at a limit that would go beyond it stay, and the others do without them.
            let Some(mut solved) = self.step(&error) else { return };
            if self.pin(joints, &solved) {
                let Some(again) = self.step(&error) else { return };
                solved = again;
            }
            let limits = self.low.iter().zip(&self.high);
            let changes = self.columns.iter().zip(&self.pull);
            for ((at, (column, pull)), (low, high)) in joints.iter_mut().zip(changes).zip(limits) {
                let change = (column.dot(&solved) + pull).clamp(-LARGEST_STEP, LARGEST_STEP);
                *at = (*at + change).clamp(*low, *high);
            }
        }
    }

    /// Damped least squares: the joints' changes are the columns times this, and their pull.
    fn step(&self, error: &SVector<f64, 6>) -> Option<SVector<f64, 6>> {
        let mut normal = SMatrix::<f64, 6, 6>::identity() * DAMPING.powi(2);
        let mut pulled = SVector::<f64, 6>::zeros();
        for (column, pull) in self.columns.iter().zip(&self.pull) {
            normal += column * column.transpose();
            pulled += column * *pull;
        }
        Some(normal.cholesky()?.solve(&(error - pulled)))
    }

    /// Takes joints at a limit that would go beyond it out of the columns; tells if there are some.
    fn pin(&mut self, joints: &[f64], solved: &SVector<f64, 6>) -> bool {
        let mut pinned = false;
        let limits = self.low.iter().zip(&self.high);
        for (((column, pull), at), (low, high)) in self.columns.iter_mut().zip(&mut self.pull).zip(joints).zip(limits) {
            let change = column.dot(solved) + *pull;
            if (at <= low && change < 0.0) || (at >= high && change > 0.0) {
                *column = SVector::zeros();
                *pull = 0.0;
                pinned = true;
            }
        }
        pinned
    }

    /// Pose of the hand with these joints, and everything else as at the last [`solve`](Self::solve).
    pub fn pose_at(&mut self, joints: &[f64]) -> Pose {
        self.place(joints);
        self.tool.pose(&self.scratch)
    }

    fn place(&mut self, joints: &[f64]) {
        let positions = self.scratch.qpos_mut();
        for (joint, at) in self.joints.iter().zip(joints) {
            if let Some(position) = positions.get_mut(joint.position) {
                *position = *at;
            }
        }
        self.scratch.kinematics();
    }

    fn fill_columns(&mut self, at: &Pose, wanted: &Wanted) {
        let approach: Vector3<f64> = at.axes.column(2).into();
        let (axes, anchors) = (self.scratch.xaxis(), self.scratch.xanchor());
        for (joint, column) in self.joints.iter().zip(&mut self.columns) {
            let axis = axes
                .get(joint.id)
                .map_or_else(Vector3::zeros, |axis| Vector3::from(*axis));
            let anchor = anchors
                .get(joint.id)
                .map_or_else(Vector3::zeros, |at| Vector3::from(*at));
            let (moves, turns) = if joint.slides {
                (axis, Vector3::zeros())
            } else {
                (axis.cross(&(at.position - anchor)), axis)
            };
            let turns = match wanted.heading {
                Heading::Free => Vector3::zeros(),
                Heading::Approach => turns - approach * approach.dot(&turns),
                Heading::Full => turns,
            } * wanted.weight;
            *column = SVector::<f64, 6>::new(moves.x, moves.y, moves.z, turns.x, turns.y, turns.z);
        }
    }
}

/// Rotation vector from these axes to what is wanted, rad.
fn missing_turn(axes: &Matrix3<f64>, wanted: &Wanted) -> Vector3<f64> {
    match wanted.heading {
        Heading::Free => Vector3::zeros(),
        Heading::Full => rotation_vector(&(wanted.pose.axes * axes.transpose())),
        Heading::Approach => between(&axes.column(2).into(), &wanted.pose.approach()),
    }
}

/// The shortest rotation that takes one direction to another, as axis times angle, rad.
pub(super) fn between(from: &Vector3<f64>, to: &Vector3<f64>) -> Vector3<f64> {
    let cross = from.cross(to);
    let (sin, cos) = (cross.norm(), from.dot(to));
    if sin > 1e-9 {
        return cross * (sin.atan2(cos) / sin);
    }
    if cos > 0.0 {
        return Vector3::zeros();
    }
    // Opposite: about any perpendicular axis.
    let other = if from.x.abs() < 0.9 * from.norm() {
        Vector3::x()
    } else {
        Vector3::y()
    };
    from.cross(&other).normalize() * std::f64::consts::PI
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use rand::RngExt;

    use super::super::lookup;
    use super::*;
    use crate::demos::ik::rotation;
    use crate::rng::{Purpose, stream};

    /// A turntable, three hinges and a slide at the end.
    const ARM: &str = r#"<mujoco><compiler angle="radian"/><worldbody><body><joint name="a" axis="0 0 1" range="-3 3" limited="true"/>
        <geom size=".05"/><body pos="0 0 .3"><joint name="b" axis="0 1 0" range="-2 2" limited="true"/><geom size=".05"/>
        <body pos=".4 0 0"><joint name="c" axis="0 1 0" range="-2.5 2.5" limited="true"/><geom size=".05"/>
        <body pos=".3 0 0"><joint name="d" axis="0 1 0" range="-2 2" limited="true"/><geom size=".05"/>
        <body><joint name="e" type="slide" axis="1 0 0" range="0 .1" limited="true"/><geom size=".02"/>
        <site name="hand" pos=".1 0 0" euler="0 1.5708 0"/></body></body></body></body></body></worldbody></mujoco>"#;

    fn chain(range: (f64, f64)) -> (Arc<MjModel>, Chain) {
        let model = Arc::new(MjModel::from_xml_string(ARM).unwrap());
        let joints = ["a", "b", "c", "d", "e"].map(|name| (lookup::joint(&model, name, "").unwrap(), range));
        let tool = Tool {
            site: 0,
            offset: Vector3::new(0.0, 0.0, 0.02),
        };
        let chain = Chain::new(&model, tool, &joints).unwrap();
        (model, chain)
    }

    #[test]
    fn poses_of_random_joints_are_reached_again() {
        let (model, mut chain) = chain((-9.0, 9.0));
        let data = MjData::try_new(Arc::clone(&model)).unwrap();
        let mut rng = stream(0, Purpose::Demonstrator, 0, 0);
        let home = [0.0, 0.5, 1.0, 0.5, 0.05];
        chain.solve(&data, &mut home.clone(), &wanted(POSE, Heading::Free), &[], 0);
        for heading in [Heading::Free, Heading::Approach, Heading::Full] {
            for _ in 0..20 {
                let spread = [0.3, 0.3, 0.3, 0.3, 0.04];
                let there: Vec<f64> = (home.iter().zip(spread))
                    .map(|(at, spread)| at + spread * rng.random_range(-1.0..1.0))
                    .collect();
                let pose = chain.pose_at(&there);
                let mut joints = home;
                chain.solve(&data, &mut joints, &wanted(pose, heading), &home, 200);
                let reached = chain.pose_at(&joints);
                let off = (reached.position - pose.position).norm();
                assert!(off < 2e-3, "{heading:?}: {off} m at {joints:?} for {there:?}");
                if heading != Heading::Free {
                    assert!(
                        between(&reached.approach(), &pose.approach()).norm() < 0.02,
                        "{heading:?}"
                    );
                }
            }
        }
    }

    const POSE: Pose = Pose {
        position: Vector3::new(0.0, 0.0, 0.0),
        axes: Matrix3::new(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    };

    fn wanted(pose: Pose, heading: Heading) -> Wanted {
        Wanted {
            pose,
            heading,
            weight: 0.3,
        }
    }

    #[test]
    fn limits_are_kept_out_of_reach() {
        let (model, mut chain) = chain((-0.5, 0.5));
        let data = MjData::try_new(Arc::clone(&model)).unwrap();
        let mut joints = vec![0.0; 5];
        let far = Pose {
            position: Vector3::new(-5.0, 1.0, 3.0),
            axes: Matrix3::identity(),
        };
        chain.solve(&data, &mut joints, &wanted(far, Heading::Full), &[], 100);
        for (joint, (low, high)) in [(-0.5, 0.5), (-0.5, 0.5), (-0.5, 0.5), (-0.5, 0.5), (0.0, 0.1)]
            .into_iter()
            .enumerate()
        {
            assert!(
                joints[joint] >= low && joints[joint] <= high,
                "{joint}: {}",
                joints[joint]
            );
        }
        assert!(joints.iter().all(|at| at.is_finite()));
    }

    #[test]
    fn the_shortest_rotation_takes_one_direction_to_the_other() {
        let directions = [Vector3::x(), -Vector3::x(), Vector3::new(0.6, 0.0, 0.8), -Vector3::z()];
        for from in directions {
            for to in directions {
                assert!(
                    (rotation(&between(&from, &to)) * from - to).norm() < 1e-9,
                    "{from} {to}"
                );
            }
        }
    }
}
