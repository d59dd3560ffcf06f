//! The reward for lifting and stacking blocks.
//!
//! All words below are those of `SPiRL`'s block stacking (reference section 4.3.2), for cubes of half edge `r` (4 cm
//! there), `z` upwards:
//!
//! | word | meaning |
//! |---|---|
//! | lifted | higher than at the start of the episode by more than `(√3 - 1) r`, what tilting a block on its corner gives |
//! | grasped | lifted and between the fingers, for [`StackSpec::grasp_steps`] steps in a row |
//! | above another block | within `r` of it in `x` and `y`, and higher by more than `2 r - 5 mm`, however much |
//! | on another block | within `2 r` of it in `x` and `y`, and higher by `r` to `2 r + 5 mm` |
//! | supported | not lifted, or on another block that is supported |
//! | upright | tilted by at most 45° |
//! | height | how far above its start the highest supported block is, m |
//!
//! A block that is held just above another one is "on" it, and one that is carried over another is "above" it: these
//! rules are the published ones.
//!
//! What a scene reports besides the reward, each at the end of the last step:
//!
//! | figure | meaning |
//! |---|---|
//! | `height` | the height that the reward counts, in blocks: 0 with all blocks on the table |
//! | `grasped`, `lifted`, `delivered`, `stacked` | blocks that have been so in this episode; all need to have been grasped |
//! | `stacked at end` | blocks that are lifted and supported now, and have been grasped |

use mujoco_rs::wrappers::mj_model::{MjModel, MjtGeomBase, MjtJoint, MjtObjBase};
use serde::{Deserialize, Serialize};

use super::Physics;
use crate::files;

/// Slack of the rules on heights, m.
const SLACK: f64 = 0.005;
/// Each finger is at least so far on its side of a grasped block, m.
const FINGER_MARGIN: f64 = 0.01;
/// Cosine of the largest tilt of an upright block.
const UPRIGHT: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// Numbers remembered of a block.
const REMEMBERED: usize = 7;
/// Names of the figures.
const FIGURES: [&str; 6] = ["height", "grasped", "lifted", "delivered", "stacked", "stacked at end"];

/// What is paid for, and the names of the bodies it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StackSpec {
    /// What is paid in each step.
    pub pay: Pay,
    /// All bodies whose names begin with this are blocks.
    pub blocks: String,
    /// The two fingers, bodies with one slide each that grows as the gripper opens.
    pub fingers: (String, String),
    /// Smallest and largest sum of the two slides that may hold a block, m.
    pub grip: (f64, f64),
    /// Where a grasped block has to be.
    pub grasp: GraspRule,
    /// Steps in a row before a block counts as grasped.
    pub grasp_steps: u32,
}

impl Default for StackSpec {
    fn default() -> Self {
        Self {
            pay: Pay::default(),
            blocks: "block_".into(),
            fingers: ("finger_left".into(), "finger_right".into()),
            grip: (0.03, 0.05),
            grasp: GraspRule::default(),
            grasp_steps: 5,
        }
    }
}

/// What is paid in each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Pay {
    /// For every block that has been delivered, or else lifted, and for the height among blocks that have been grasped
    /// (`HighStack11StackEnvV0`). Both flags need the block to have been grasped before, and stay for the episode.
    Dense {
        /// For a block that was above another one after it had been grasped.
        #[serde(default = "two")]
        delivered: f64,
        /// For a block that was grasped and lifted, but not delivered.
        #[serde(default = "one")]
        lifted: f64,
        /// For each metre of height; one block of 8 cm gives 4.
        #[serde(default = "fifty")]
        height: f64,
    },
    /// For the height among upright blocks, grasped or not (`SparseHighStack11StackEnvV0`).
    Sparse {
        /// For each metre of height.
        #[serde(default = "one")]
        height: f64,
    },
}

impl Default for Pay {
    fn default() -> Self {
        Self::Dense {
            delivered: two(),
            lifted: one(),
            height: fifty(),
        }
    }
}

fn one() -> f64 {
    1.0
}

fn two() -> f64 {
    2.0
}

fn fifty() -> f64 {
    50.0
}

/// Where a block has to be to be grasped, besides being lifted while the fingers are as far apart as a block is wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum GraspRule {
    /// Between the pads: the middle of the pads is inside the block.
    #[default]
    BetweenPads,
    /// Anywhere between the planes of the two fingers, however far below or beside them. As published: another test is
    /// without effect there because of a mistake. A block of a tower counts as grasped when another one is held over it.
    BetweenPlanes,
}

/// A compiled [`StackSpec`].
#[derive(Debug, Clone)]
pub struct Stack {
    pay: Pay,
    grip: (f64, f64),
    grasp: GraspRule,
    grasp_steps: f64,
    /// Half edge of the blocks, m.
    half: f64,
    /// Where each block's position starts in `qpos`; the quaternion follows.
    blocks: Vec<usize>,
    /// The bodies of the fingers.
    fingers: [usize; 2],
    /// Index of each finger's slide in `qpos`.
    slides: [usize; 2],
}

/// What is remembered of a block, as numbers.
struct Block<'a>(&'a mut [f64]);

/// Places in [`Block`].
enum Part {
    /// Height at the start of the episode, m.
    Start,
    /// Steps in a row for which it was held.
    Held,
    /// Has been grasped: 1 or 0, as all that follows.
    Grasped,
    /// Has been lifted after that.
    Lifted,
    /// Has been delivered.
    Delivered,
    /// Has been stacked.
    Stacked,
    /// Is supported now.
    Supported,
}

impl Block<'_> {
    fn get(&self, part: Part) -> f64 {
        self.0[part as usize]
    }

    fn is(&self, part: Part) -> bool {
        self.get(part) > 0.0
    }

    fn set(&mut self, part: Part, value: f64) {
        self.0[part as usize] = value;
    }

    /// Sets a flag that stays.
    fn mark(&mut self, part: Part, holds: bool) {
        if holds {
            self.set(part, 1.0);
        }
    }
}

impl Stack {
    /// Resolves the names of `spec` in `model`.
    ///
    /// # Errors
    /// The field that does not fit the model, and the reason.
    pub fn new(spec: &StackSpec, model: &MjModel) -> Result<Self, (String, String)> {
        let wrong = |field: &str, reason: String| (field.to_owned(), reason);
        for (field, value) in spec.pay.numbers() {
            if !value.is_finite() {
                return Err(wrong(field, "must be finite".into()));
            }
        }
        let (narrowest, widest) = spec.grip;
        if !(narrowest.is_finite() && widest.is_finite() && narrowest < widest) {
            return Err(wrong("grip", "expected two numbers, the smaller one first".into()));
        }
        if spec.grasp_steps == 0 {
            return Err(wrong("grasp_steps", "expected at least 1 step".into()));
        }
        let (blocks, half) = blocks(&spec.blocks, model).map_err(|reason| wrong("blocks", reason))?;
        let (first, second) = &spec.fingers;
        let (left, left_slide) = finger(first, model).map_err(|reason| wrong("fingers.0", reason))?;
        let (right, right_slide) = finger(second, model).map_err(|reason| wrong("fingers.1", reason))?;
        if left == right {
            return Err(wrong("fingers", format!("both are {first:?}")));
        }
        Ok(Self {
            pay: spec.pay,
            grip: spec.grip,
            grasp: spec.grasp,
            grasp_steps: f64::from(spec.grasp_steps),
            half,
            blocks,
            fingers: [left, right],
            slides: [left_slide, right_slide],
        })
    }

    /// Numbers remembered within an episode.
    pub fn memory_len(&self) -> usize {
        REMEMBERED * self.blocks.len()
    }

    /// Names of the figures; see the [module](self).
    pub fn figures(&self) -> Vec<String> {
        FIGURES.map(str::to_owned).to_vec()
    }

    /// Begins an episode in the state of `physics`: `memory` (`[memory_len]`) and `figures` (one for each name) are
    /// written anew.
    pub fn begin(&self, physics: &Physics, memory: &mut [f64], figures: &mut [f64]) {
        memory.fill(0.0);
        figures.fill(0.0);
        let positions = physics.qpos();
        for (block, &at) in memory.chunks_exact_mut(REMEMBERED).zip(&self.blocks) {
            Block(block).set(Part::Start, positions[at + 2]);
        }
    }

    /// The reward of a step, from the state after it. `memory` and `figures` are those of [`Self::begin`].
    pub fn step(&self, physics: &Physics, memory: &mut [f64], figures: &mut [f64]) -> f64 {
        let positions = physics.qpos();
        self.note_support(positions, memory);
        for (&at, block) in self.blocks.iter().zip(memory.chunks_exact_mut(REMEMBERED)) {
            let mut block = Block(block);
            let lifted = self.is_lifted(positions[at + 2], &block);
            let held = lifted && self.is_held(physics, at);
            let steps = if held { block.get(Part::Held) + 1.0 } else { 0.0 };
            block.set(Part::Held, steps.min(self.grasp_steps));
            block.mark(Part::Grasped, steps >= self.grasp_steps);
            let grasped = block.is(Part::Grasped);
            let delivered = self
                .blocks
                .iter()
                .any(|&below| below != at && self.is_above(positions, at, below));
            let stacked = lifted && block.is(Part::Supported);
            block.mark(Part::Lifted, grasped && lifted);
            block.mark(Part::Delivered, grasped && delivered);
            block.mark(Part::Stacked, grasped && stacked);
        }
        let (reward, height) = self.reward(positions, memory);
        self.report(positions, memory, height, figures);
        reward
    }

    /// The reward of a step and the height it counts, m.
    fn reward(&self, positions: &[f64], memory: &mut [f64]) -> (f64, f64) {
        let (mut reward, mut highest) = (0.0, 0.0_f64);
        for (&at, block) in self.blocks.iter().zip(memory.chunks_exact_mut(REMEMBERED)) {
            let block = Block(block);
            let counts = match self.pay {
                Pay::Dense { delivered, lifted, .. } => {
                    reward += match (block.is(Part::Delivered), block.is(Part::Lifted)) {
                        (true, _) => delivered,
                        (false, true) => lifted,
                        (false, false) => 0.0,
                    };
                    block.is(Part::Grasped)
                }
                Pay::Sparse { .. } => is_upright(positions, at),
            };
            if counts && block.is(Part::Supported) {
                highest = highest.max(positions[at + 2] - block.get(Part::Start));
            }
        }
        let (Pay::Dense { height, .. } | Pay::Sparse { height }) = self.pay;
        (reward + height * highest, highest)
    }

    fn report(&self, positions: &[f64], memory: &mut [f64], height: f64, figures: &mut [f64]) {
        let mut counts = [0.0; FIGURES.len()];
        counts[0] = height / (2.0 * self.half);
        for (&at, block) in self.blocks.iter().zip(memory.chunks_exact_mut(REMEMBERED)) {
            let block = Block(block);
            let now = self.is_lifted(positions[at + 2], &block) && block.is(Part::Supported);
            counts[1] += block.get(Part::Grasped);
            counts[2] += block.get(Part::Lifted);
            counts[3] += block.get(Part::Delivered);
            counts[4] += block.get(Part::Stacked);
            counts[5] += f64::from(now && block.is(Part::Grasped));
        }
        for (figure, count) in figures.iter_mut().zip(counts) {
            *figure = count;
        }
    }

    /// Works out which blocks are supported, from the table upwards.
    fn note_support(&self, positions: &[f64], memory: &mut [f64]) {
        for (&at, block) in self.blocks.iter().zip(memory.chunks_exact_mut(REMEMBERED)) {
            let mut block = Block(block);
            let on_table = !self.is_lifted(positions[at + 2], &block);
            block.set(Part::Supported, f64::from(on_table));
        }
        // Each round adds at least one block or is the last one. Of two blocks only the higher one can be on the
        // other, so nothing supports itself.
        loop {
            let mut found = false;
            for upper in 0..self.blocks.len() {
                if !supported(memory, upper) && self.has_support(positions, memory, upper) {
                    memory[upper * REMEMBERED + Part::Supported as usize] = 1.0;
                    found = true;
                }
            }
            if !found {
                return;
            }
        }
    }

    /// Whether a block is on one that is supported.
    fn has_support(&self, positions: &[f64], memory: &[f64], upper: usize) -> bool {
        let at = self.blocks[upper];
        (self.blocks.iter().enumerate())
            .any(|(lower, &below)| lower != upper && supported(memory, lower) && self.is_on(positions, at, below))
    }

    fn is_lifted(&self, height: f64, block: &Block) -> bool {
        height - block.get(Part::Start) > (3.0_f64.sqrt() - 1.0) * self.half
    }

    fn is_above(&self, positions: &[f64], upper: usize, lower: usize) -> bool {
        let [x, y, z] = difference(positions, upper, lower);
        x.abs() < self.half && y.abs() < self.half && z > 2.0 * self.half - SLACK
    }

    fn is_on(&self, positions: &[f64], upper: usize, lower: usize) -> bool {
        let [x, y, z] = difference(positions, upper, lower);
        let edge = 2.0 * self.half;
        x.abs() < edge && y.abs() < edge && z > self.half && z < edge + SLACK
    }

    /// Whether the block whose position starts at `at` is between the fingers.
    fn is_held(&self, physics: &Physics, at: usize) -> bool {
        let positions = physics.qpos();
        let opening = self.slides.iter().map(|&slide| positions[slide]).sum::<f64>();
        let (narrowest, widest) = self.grip;
        if !(narrowest..=widest).contains(&opening) {
            return false;
        }
        let bodies = physics.xpos();
        let [left, right] = self.fingers.map(|finger| bodies[finger]);
        let across: [f64; 3] = std::array::from_fn(|axis| left[axis] - right[axis]);
        let width = across.iter().map(|part| part * part).sum::<f64>().sqrt();
        if width < 2.0 * FINGER_MARGIN {
            return false;
        }
        // The block seen from the right finger, along the line between the fingers and across it.
        let from_right: [f64; 3] = std::array::from_fn(|axis| positions[at + axis] - right[axis]);
        let along = (from_right.iter().zip(across))
            .map(|(block, line)| block * line / width)
            .sum::<f64>();
        let between = along >= FINGER_MARGIN && width - along >= FINGER_MARGIN;
        let square = from_right.iter().map(|part| part * part).sum::<f64>();
        let beside = (square - along * along).max(0.0).sqrt();
        between && (self.grasp == GraspRule::BetweenPlanes || beside < self.half)
    }
}

impl Pay {
    /// The numbers with their fields, below the spec.
    fn numbers(self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Dense {
                delivered,
                lifted,
                height,
            } => vec![
                ("pay.Dense.delivered", delivered),
                ("pay.Dense.lifted", lifted),
                ("pay.Dense.height", height),
            ],
            Self::Sparse { height } => vec![("pay.Sparse.height", height)],
        }
    }
}

fn supported(memory: &[f64], block: usize) -> bool {
    memory[block * REMEMBERED + Part::Supported as usize] > 0.0
}

fn difference(positions: &[f64], upper: usize, lower: usize) -> [f64; 3] {
    std::array::from_fn(|axis| positions[upper + axis] - positions[lower + axis])
}

/// Whether the body whose free joint starts at `at` is tilted by at most 45°.
fn is_upright(positions: &[f64], at: usize) -> bool {
    let (x, y) = (positions[at + 4], positions[at + 5]);
    1.0 - 2.0 * (x * x + y * y) >= UPRIGHT
}

/// The free joints of all bodies whose names begin with `prefix`, as places in `qpos`, and the half edge of the cubes.
fn blocks(prefix: &str, model: &MjModel) -> Result<(Vec<usize>, f64), String> {
    let (mut found, mut half): (Vec<usize>, Option<f64>) = (Vec::new(), None);
    for (body, name) in bodies(model).filter(|(_, name)| name.starts_with(prefix)) {
        let joint = (model.body_jntadr()[body] >= 0).then(|| model.body_jntadr()[body] as usize);
        let geom = (model.body_geomadr()[body] >= 0).then(|| model.body_geomadr()[body] as usize);
        let free = joint.filter(|&joint| model.jnt_type()[joint] == MjtJoint::mjJNT_FREE);
        let cube = geom.map(|geom| (model.geom_type()[geom], model.geom_size()[geom]));
        let (Some(joint), Some((MjtGeomBase::mjGEOM_BOX, size))) = (free, cube) else {
            return Err(format!("{name:?} is no box with a free joint"));
        };
        let differs = |size: f64, other: f64| (size - other).abs() > 1e-9;
        if size.iter().any(|&other| differs(other, size[0])) || half.is_some_and(|half| differs(half, size[0])) {
            return Err(format!("expected cubes of one size, {name:?} is none"));
        }
        half = Some(size[0]);
        found.push(model.jnt_qposadr()[joint] as usize);
    }
    match half {
        Some(half) => Ok((found, half)),
        None => Err(format!("the model has no body whose name begins with {prefix:?}")),
    }
}

/// The bodies that have a name, with it.
fn bodies(model: &MjModel) -> impl Iterator<Item = (usize, &str)> {
    (0..model.nbody() as usize).filter_map(|body| Some((body, model.id_to_name(MjtObjBase::mjOBJ_BODY, body)?)))
}

/// A finger's body and the place of its slide in `qpos`.
fn finger(name: &str, model: &MjModel) -> Result<(usize, usize), String> {
    let Some((body, _)) = bodies(model).find(|(_, known)| *known == name) else {
        let nearest = files::nearest(name, bodies(model).map(|(_, known)| known));
        let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest:?}?"));
        return Err(format!("no body is named {name:?}{hint}"));
    };
    let joint = model.body_jntadr()[body].max(0) as usize;
    if model.body_jntnum()[body] == 1 && model.jnt_type()[joint] == MjtJoint::mjJNT_SLIDE {
        Ok((body, model.jnt_qposadr()[joint] as usize))
    } else {
        Err(format!("body {name:?} does not have one slide joint"))
    }
}
