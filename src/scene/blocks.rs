//! The model of block stacking: a gripper that floats above a table with blocks.
//!
//! [`BlocksSpec`] says what can be chosen; [`BlocksSpec::mjcf`] writes the model. Names in it:
//!
//! | name | what |
//! |---|---|
//! | `gripper`, `finger_left`, `finger_right` | bodies; the fingers' are at the middle of their pads |
//! | `gripper_x`, `gripper_y`, `gripper_z`, `gripper_yaw` | joints of the gripper and their motors |
//! | `finger_left`, `finger_right` | slides of the fingers, m; mirrored, so that both grow when the gripper opens |
//! | `fingers` | actuator of both: 1 opens, 0 closes, -1 closes beyond a block's width |
//! | `block_0`, `block_1`, ... | bodies and free joints of the blocks |
//!
//! # Physics
//!
//! Time steps of 2 ms, elliptic friction cones, `impratio` 20. The slides of the gripper are damped with 1000 N·s/m and
//! driven with 500 N for an action of 1, so that action is a velocity: 0.5 m/s, reached within milliseconds. The gripper
//! weighs 2 kg and therefore sinks by 2 cm/s when nothing holds it up.
//!
//! One position servo acts on both fingers, over a tendon whose length is the sum of the two slides. On each finger it
//! has the force of the original's servos, which are one for each finger: gain 10 000, gear 2, at most 20 N before the
//! gear, with targets 0.04 (open), 0.0148 (closed) and -0.0104 m. A spring of 500 N/m in each finger keeps the two at
//! the same opening. The pads touch a block of 8 cm when the slides are at 0.02 m. Their contacts are stiffer than
//! usual (`solref` 0.004) and have the friction of the pads alone.
//!
//! # Source
//! `SPiRL`'s block stacking, reference section 4.3.1. Its gripper consists of meshes of a Sawyer robot. Here arm, palm
//! and fingers are boxes of our own choice, 11 cm from the origin of the gripper down to the middle of the pads.

use std::fmt::Write;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::rng::{Purpose, stream};

/// Height of the table's surface, m.
pub const TABLE_HEIGHT: f64 = 0.8;
/// Edge of a block, m.
pub const EDGE: f64 = 0.08;
/// From the origin of the gripper down to the middle of the pads, m.
pub const REACH: f64 = 0.11;
/// Slide of a finger at the start of an episode, as in the original, m; also where its spring rests.
pub const FINGER_REST: f64 = 0.020_833;
/// Free height above the table, m. The reference has 0.7 plus 0.2.
const HEADROOM: f64 = 0.9;
/// Most blocks in a scene.
const MOST_BLOCKS: usize = 100;
/// Entity of the random stream that densities are drawn from.
const DENSITIES: u64 = u64::MAX - 1;

/// A gripper, a table and blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlocksSpec {
    /// Number of blocks.
    pub count: usize,
    /// Where the blocks stand: `y` of each, m. Empty for a row along the table with the [spacing](Self::spacing).
    pub places: Vec<f64>,
    /// Distance from block to block in the row, m.
    pub spacing: f64,
    /// Length of the table along `y`, m. At its ends are invisible walls.
    pub table: f64,
    /// Every block has one of these densities, kg/m³.
    pub densities: Vec<f64>,
    /// Seed of that choice. The weights are part of the model, so they stay the same in all episodes.
    pub density_seed: u64,
    /// Colours of the blocks.
    pub colours: BlockColours,
}

/// Colours of the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BlockColours {
    /// All different, for people.
    #[default]
    Varied,
    /// All white, as in the original: in pictures for agents no block looks like one of the demonstrations, and none
    /// looks new.
    White,
}

impl Default for BlocksSpec {
    /// Eleven blocks in a row on the long table: the original's downstream task.
    fn default() -> Self {
        Self {
            count: 11,
            places: Vec::new(),
            spacing: 0.2,
            table: 2.4,
            densities: vec![200.0, 500.0, 1000.0, 3000.0, 5000.0],
            density_seed: 0,
            colours: BlockColours::Varied,
        }
    }
}

impl BlocksSpec {
    /// The model as MJCF text.
    ///
    /// # Errors
    /// The field that makes no sense (below `physics.built.Blocks`, with dots) and the reason.
    pub fn mjcf(&self) -> Result<String, (String, String)> {
        self.check()?;
        let mut blocks = String::new();
        let height = TABLE_HEIGHT + EDGE / 2.0;
        for (index, (y, density)) in self.places().into_iter().zip(self.drawn_densities()).enumerate() {
            let [red, green, blue] = self.colour(index);
            let half = EDGE / 2.0;
            // Writing to a string does not fail.
            let _ = write!(
                blocks,
                r#"
    <body name="block_{index}" pos="0 {y} {height}" quat="0.70710678118654752 0 0 -0.70710678118654752">
      <freejoint name="block_{index}"/>
      <geom name="block_{index}" class="block" size="{half} {half} {half}" density="{density}" rgba="{red} {green} {blue} 1"/>
    </body>"#
            );
        }
        Ok(self.around(&blocks))
    }

    /// Checks that every field makes sense.
    ///
    /// # Errors
    /// As [`Self::mjcf`].
    pub fn check(&self) -> Result<(), (String, String)> {
        let wrong = |field: &str, reason: String| Err((field.to_owned(), reason));
        if self.count == 0 || self.count > MOST_BLOCKS {
            return wrong(
                "count",
                format!("expected 1 to {MOST_BLOCKS} blocks, found {}", self.count),
            );
        }
        if !(self.table.is_finite() && (0.4..=3.0).contains(&self.table)) {
            let reason = format!(
                "expected 0.4 to 3 m, as far as the gripper reaches, found {}",
                self.table
            );
            return wrong("table", reason);
        }
        if !self.spacing.is_finite() {
            return wrong("spacing", "must be finite".into());
        }
        if !self.places.is_empty() && self.places.len() != self.count {
            let reason = format!(
                "expected none or one for each of {} blocks, found {}",
                self.count,
                self.places.len()
            );
            return wrong("places", reason);
        }
        if self.densities.is_empty() {
            return wrong("densities", "must list at least one".into());
        }
        for (index, density) in self.densities.iter().enumerate() {
            if !(density.is_finite() && *density > 0.0) {
                return wrong(&format!("densities.{index}"), "must be a positive number".into());
            }
        }
        self.check_places()
    }

    /// No block reaches over the table's end or into another one.
    fn check_places(&self) -> Result<(), (String, String)> {
        let field = if self.places.is_empty() { "spacing" } else { "places" };
        let wrong = |reason: String| Err((field.to_owned(), reason));
        let mut places = self.places();
        // Not finite is not on the table either.
        let on_table = |y: &f64| y.abs() <= (self.table - EDGE) / 2.0 + 1e-9;
        if let Some(y) = places.iter().find(|y| !on_table(y)) {
            let end = self.table / 2.0;
            return wrong(format!(
                "a block at y = {y} m is not on the table, which ends at {end} m"
            ));
        }
        places.sort_by(f64::total_cmp);
        let too_near = places
            .iter()
            .zip(places.iter().skip(1))
            .find(|(y, next)| *next - *y < EDGE - 1e-9);
        match too_near {
            Some((y, next)) => wrong(format!("the blocks at y = {y} and {next} m overlap")),
            None => Ok(()),
        }
    }

    /// Where the blocks stand: `y` of each, m.
    pub fn places(&self) -> Vec<f64> {
        if self.places.is_empty() {
            let middle = self.count.saturating_sub(1) as f64 / 2.0;
            (0..self.count)
                .map(|index| (index as f64 - middle) * self.spacing)
                .collect()
        } else {
            self.places.clone()
        }
    }

    /// Density of each block, kg/m³.
    pub fn drawn_densities(&self) -> Vec<f64> {
        let mut rng = stream(self.density_seed, Purpose::Demonstrator, DENSITIES, 0);
        let mut draw = || {
            let choice = rng.random_range(0..self.densities.len().max(1));
            self.densities.get(choice).copied().unwrap_or(1000.0)
        };
        (0..self.count).map(|_| draw()).collect()
    }

    /// Red, green and blue of a block.
    fn colour(&self, index: usize) -> [f64; 3] {
        if self.colours == BlockColours::White {
            return [1.0, 1.0, 1.0];
        }
        // Steps of the golden angle around the colour wheel: neighbours differ and no colour comes back.
        let hue = 6.0 * (0.02 + index as f64 * 0.381_966).fract();
        [0.0, 4.0, 2.0].map(|shift: f64| {
            let pure = (((hue + shift) % 6.0 - 3.0).abs() - 1.0).clamp(0.0, 1.0);
            let muted = 0.22 + 0.68 * pure;
            (muted * 1000.0).round() / 1000.0
        })
    }

    /// The model around its blocks.
    fn around(&self, blocks: &str) -> String {
        let end = self.table / 2.0;
        let wall = end + 0.02;
        let (middle, half_headroom) = (TABLE_HEIGHT + HEADROOM / 2.0, HEADROOM / 2.0);
        let (half_table, ceiling) = (TABLE_HEIGHT / 2.0, TABLE_HEIGHT + HEADROOM + 0.02);
        // What is seen of the table: the box below it is only there to collide.
        let slab = TABLE_HEIGHT - 0.02;
        let (leg, leg_x, leg_y) = ((TABLE_HEIGHT - 0.04) / 2.0, 0.55, end - 0.05);
        let corners = [(leg_x, leg_y), (leg_x, -leg_y), (-leg_x, leg_y), (-leg_x, -leg_y)];
        let legs: String = (corners.iter())
            .map(|(x, y)| {
                format!("\n    <geom class=\"table\" pos=\"{x} {y} {leg}\" size=\"0.03 0.03 {leg}\" rgba=\"0.3 0.24 0.2 1\"/>")
            })
            .collect();
        // The servo on the tendon: twice the gain because of the gear; its targets are openings of both fingers.
        let gain = 2.0 * 10_000.0;
        let (half_way, throw) = ((0.08 - 0.020_833) / 2.0, (0.08 + 0.020_833) / 2.0);
        let (push, hold) = (gain * throw, gain * half_way);
        let body = |side: &str, sign: f64| {
            let (y, outside) = (sign * 0.02, sign * 0.005);
            format!(
                r#"
      <body name="finger_{side}" pos="0 {y} -{REACH}">
        <joint name="finger_{side}" class="finger" axis="0 {sign} 0"/>
        <geom class="finger" pos="0 {outside} 0.055"/>
        <geom name="pad_{side}" class="pad" pos="0 {outside} 0"/>
      </body>"#
            )
        };
        let (left, right) = (body("left", 1.0), body("right", -1.0));
        format!(
            r#"<mujoco model="blocks">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.002" cone="elliptic" impratio="20"/>
  <default>
    <default class="block">
      <geom type="box" friction="1 0.005 0.0001"/>
    </default>
    <default class="bound">
      <geom type="box" group="3" rgba="0 0 0 0"/>
    </default>
    <default class="table">
      <geom type="box" contype="0" conaffinity="0" group="1" rgba="0.5 0.38 0.29 1"/>
    </default>
    <default class="gripper">
      <joint damping="1000"/>
      <motor gear="500" ctrllimited="false"/>
    </default>
    <default class="finger">
      <joint type="slide" range="-0.020833 0.08" damping="100" armature="0.1" stiffness="500" springref="{FINGER_REST}"/>
      <geom type="box" size="0.012 0.005 0.035" mass="0.015" rgba="0.82 0.84 0.86 1"/>
      <default class="pad">
        <geom size="0.02 0.005 0.02" friction="30 0.005 0.0001" solref="0.004 1" priority="1" rgba="0.95 0.45 0.1 1"/>
      </default>
    </default>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 0.1" group="3" rgba="0 0 0 0"/>
    <geom name="table" class="bound" pos="0 0 {half_table}" size="0.6 {end} {half_table}"/>
    <geom name="table_top" class="table" pos="0 0 {slab}" size="0.6 {end} 0.02"/>{legs}
    <geom name="wall_left" class="bound" pos="0 {wall} {middle}" size="0.6 0.02 {half_headroom}"/>
    <geom name="wall_right" class="bound" pos="0 -{wall} {middle}" size="0.6 0.02 {half_headroom}"/>
    <geom name="ceiling" class="bound" pos="0 0 {ceiling}" size="0.6 {end} 0.02"/>
    <body name="gripper" childclass="gripper">
      <joint name="gripper_x" type="slide" axis="1 0 0" range="-1.5 1.5"/>
      <joint name="gripper_y" type="slide" axis="0 1 0" range="-1.5 1.5"/>
      <joint name="gripper_z" type="slide" axis="0 0 1" range="0 5"/>
      <joint name="gripper_yaw" type="hinge" axis="0 0 1"/>
      <geom name="arm" type="box" pos="0 0 0.095" size="0.05 0.05 0.1" mass="1.9" rgba="0.25 0.29 0.36 1"/>
      <geom name="palm" type="box" pos="0 0 -0.015" size="0.03 0.07 0.01" mass="0.04" rgba="0.55 0.58 0.62 1"/>{left}{right}
    </body>{blocks}
  </worldbody>
  <tendon>
    <fixed name="fingers">
      <joint joint="finger_left" coef="1"/>
      <joint joint="finger_right" coef="1"/>
    </fixed>
  </tendon>
  <actuator>
    <motor name="gripper_x" joint="gripper_x" class="gripper"/>
    <motor name="gripper_y" joint="gripper_y" class="gripper"/>
    <motor name="gripper_z" joint="gripper_z" class="gripper"/>
    <motor name="gripper_yaw" joint="gripper_yaw" class="gripper"/>
    <general name="fingers" tendon="fingers" gainprm="{push}" biastype="affine" biasprm="{hold} -{gain} 0" forcerange="-40 40"/>
  </actuator>
</mujoco>
"#
        )
    }
}
