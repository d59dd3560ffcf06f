//! Where gripper and blocks are, and how the gripper moves: everything in the plane of `y` and `z`.

use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use rand::RngExt;

use super::super::DemoError;
use super::{HIGHEST, unfit};
use crate::rng::Stream;
use crate::scene::blocks::{EDGE, REACH, TABLE_HEIGHT};
use crate::scene::{Built, CompiledScene, Control, MotorKind};
use crate::sim::Physics;

/// `y` and `z`, m.
pub(super) type Point = [f64; 2];

/// The motors that are driven: along `y`, along `z`, and the fingers.
const MOTORS: [(&str, MotorKind); 3] = [
    ("gripper_y", MotorKind::Proportional),
    ("gripper_z", MotorKind::Proportional),
    ("fingers", MotorKind::Gripper),
];
/// Speed for an action of 1, m/s: 500 N against 1000 N·s/m.
const SPEED: f64 = 0.5;
/// Action that holds the empty gripper against gravity: 2 kg in units of 500 N.
const AGAINST_GRAVITY: f64 = 2.0 * 9.81 / 500.0;
/// Largest step on the way, m.
const STRIDE: f64 = 0.05;
/// Half the width that the opened gripper needs, with some room, m.
const HALF_WIDTH: f64 = 0.08;
/// How far the fingers hang below the origin of the gripper, with some room, m.
const FINGERS_BELOW: f64 = 0.14;
/// The same with a block between them.
const BLOCK_BELOW: f64 = 0.16;

/// The gripper, and where to find it and the blocks in a state of the scene.
#[derive(Debug, Clone)]
pub(super) struct Hand {
    /// Index in `qpos` of the gripper's slides along `y` and `z`.
    slides: [usize; 2],
    /// Where each block's position starts in `qpos`.
    blocks: Vec<usize>,
    /// Place in the action of each of [`MOTORS`].
    motors: [usize; 3],
    action_len: usize,
    /// Distance for an action of 1, m.
    stride: f64,
}

impl Hand {
    /// Finds gripper, blocks and motors.
    pub(super) fn new(scene: &CompiledScene) -> Result<Self, DemoError> {
        let Some(Built::Blocks(blocks)) = &scene.scene().physics.built else {
            return Err(unfit("a scene in which `physics.built` is `Blocks`"));
        };
        let Control::Motors { motors, .. } = &scene.scene().control else {
            return Err(unfit("the control `Motors`"));
        };
        let mut driven = [0; 3];
        for (place, (name, kind)) in driven.iter_mut().zip(MOTORS) {
            let fits = |motor: &crate::scene::Motor| motor.actuator == name && motor.kind == kind && motor.scale == 1.0;
            *place = motors
                .iter()
                .position(fits)
                .ok_or_else(|| unfit(&format!("a motor {name:?} of kind {kind:?} with scale 1")))?;
        }
        let model = scene.model();
        let names = (0..blocks.count).map(|block| format!("block_{block}"));
        Ok(Self {
            slides: [joint("gripper_y", model)?, joint("gripper_z", model)?],
            blocks: names.map(|name| joint(&name, model)).collect::<Result<_, _>>()?,
            motors: driven,
            action_len: scene.action_len(),
            stride: SPEED * scene.period(),
        })
    }

    /// Where the origin of the gripper is.
    pub(super) fn position(&self, physics: &Physics) -> Point {
        let positions = physics.qpos();
        self.slides
            .map(|slide| positions.get(slide).copied().unwrap_or_default())
    }

    /// Where the middle of a block is.
    pub(super) fn block(&self, block: usize, physics: &Physics) -> Point {
        let [_, y, z] = self.block_in_space(block, physics);
        [y, z]
    }

    fn block_in_space(&self, block: usize, physics: &Physics) -> [f64; 3] {
        let at = self.blocks.get(block).copied().unwrap_or_default();
        let position = physics
            .qpos()
            .get(at..at + 3)
            .and_then(|position| position.try_into().ok());
        position.unwrap_or_default()
    }

    /// Puts a block somewhere in joint positions.
    pub(super) fn place(&self, block: usize, [y, z]: Point, qpos: &mut [f64]) {
        let at = self.blocks.get(block).copied().unwrap_or_default();
        if let Some(position) = qpos.get_mut(at..at + 3) {
            position.copy_from_slice(&[0.0, y, z]);
        }
    }

    /// Whether `upper` stands on `lower`, and nothing holds it.
    pub(super) fn is_stacked(&self, lower: usize, upper: usize, physics: &Physics) -> bool {
        let (below, above) = (self.block_in_space(lower, physics), self.block_in_space(upper, physics));
        let [x, y, z]: [f64; 3] = std::array::from_fn(|axis| above[axis] - below[axis]);
        let [hand_y, hand_z] = self.position(physics);
        let held = (hand_y - above[1]).abs() < HALF_WIDTH && (hand_z - above[2] - REACH).abs() < EDGE / 2.0;
        x.abs() < EDGE / 2.0 && y.abs() < EDGE / 2.0 && (z - EDGE).abs() < 0.01 && !held
    }

    /// The numbers for `y` and `z` that lead from one point to another, with steps of at most [`STRIDE`].
    pub(super) fn towards(&self, from: Point, to: Point) -> Point {
        let way = [to[0] - from[0], to[1] - from[1]];
        let length = way[0].hypot(way[1]);
        let share = if length > STRIDE { STRIDE / length } else { 1.0 };
        let [y, z] = way.map(|part| part * share / self.stride);
        [y.clamp(-1.0, 1.0), (z + AGAINST_GRAVITY).clamp(-1.0, 1.0)]
    }

    /// The action with numbers for `y`, `z` and the fingers.
    pub(super) fn action(&self, numbers: [f64; 3]) -> Vec<f64> {
        let mut action = vec![0.0; self.action_len];
        for (place, number) in self.motors.iter().zip(numbers) {
            if let Some(to) = action.get_mut(*place) {
                *to = number;
            }
        }
        action
    }

    /// A random point beside the way, at 20 to 80 % of it and up to `share` of its length to one side, that leaves room
    /// for all blocks but the `held` one; none for short ways and where there is no room.
    pub(super) fn detour(
        &self,
        from: Point,
        to: Point,
        held: Option<usize>,
        share: f64,
        physics: &Physics,
        rng: &mut Stream,
    ) -> Option<Point> {
        // Drawn even if it is not needed: the numbers after it stay the same then.
        let along = rng.random_range(0.2..0.8);
        let mut aside = share * rng.random_range(-1.0..1.0);
        if share == 0.0 || apart(from, to) < 2.0 * STRIDE {
            return None;
        }
        let way = [to[0] - from[0], to[1] - from[1]];
        for _ in 0..4 {
            let y = from[0] + along * way[0] - aside * way[1];
            let z = from[1] + along * way[1] + aside * way[0];
            let point = [y, z.min(HIGHEST)];
            if self.is_clear(from, point, held, physics) && self.is_clear(point, to, held, physics) {
                return Some(point);
            }
            aside /= 2.0;
        }
        None
    }

    /// Whether the gripper can go straight from one point to another without touching blocks.
    fn is_clear(&self, from: Point, to: Point, held: Option<usize>, physics: &Physics) -> bool {
        let below = if held.is_some() { BLOCK_BELOW } else { FINGERS_BELOW };
        let others = (0..self.blocks.len()).filter(|block| Some(*block) != held);
        let mut obstacles = others.map(|block| self.block(block, physics));
        let samples = 20;
        let points = |[y, z]: Point| {
            (0..=samples).any(|sample| {
                let share = f64::from(sample) / f64::from(samples);
                let at = [from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])];
                (at[0] - y).abs() < EDGE / 2.0 + HALF_WIDTH && z + EDGE / 2.0 > at[1] - below
            })
        };
        from[1].min(to[1]) - below > TABLE_HEIGHT && !obstacles.any(points)
    }
}

/// Distance of two points, m.
pub(super) fn apart(a: Point, b: Point) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Where a joint's position starts in `qpos`.
fn joint(name: &str, model: &MjModel) -> Result<usize, DemoError> {
    let id = model.name_to_id(MjtObjBase::mjOBJ_JOINT, name);
    let place = id.and_then(|id| model.jnt_qposadr().get(id).copied());
    match place {
        Some(place) => Ok(place as usize),
        None => Err(unfit(&format!("the joint {name:?}"))),
    }
}
