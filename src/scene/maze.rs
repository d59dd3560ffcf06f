//! A point mass in a maze: layouts, and the `MuJoCo` model that is written for them.
//!
//! The maze of D4RL (Fu et al. 2020, <https://arxiv.org/abs/2004.07219>) as `SPiRL` uses it. A [`Layout`] is a grid of
//! cells of 1 m, walls or free; row numbers grow along x, column numbers along y. Three systems of coordinates:
//!
//! | of | cell (i, j) has its middle at |
//! |---|---|
//! | the world, m | `(i + 1, j + 1)` |
//! | the joints "x" and "y", hence states, goals and observations, m | `(i - 0.2, j - 0.2)` |
//! | a start or target that names the cell, in joint coordinates | `(i, j)`, so 0.2 m off the middle |
//!
//! | module | what it does |
//! |---|---|
//! | [`grid`] | cells: layouts from text, ways between cells, walls as boxes |
//! | [`random`] | random layouts |

pub mod grid;
pub mod random;

use std::fmt::Write;

use serde::{Deserialize, Serialize};

pub use grid::{Cell, Grid};
pub use random::RandomLayout;

/// World coordinates are joint coordinates plus this, m.
pub const ORIGIN: f64 = 1.2;
/// The target's disc stands at the target's joint coordinates plus this, m: 0.2 m short of it along both axes, as in
/// the original.
pub const DISC_ORIGIN: f64 = 1.0;
/// Walls reach this far above and below z = 0, m.
pub const WALL_HALF_HEIGHT: f64 = 0.2;
/// Radius of the discs (spheres, seen from above) that show the particle and the target, m.
pub const DISC_RADIUS: f64 = 0.2;
/// Height of the floor, m.
pub const FLOOR_HEIGHT: f64 = -0.1;
/// Side of a square of the floor's checker, m. A square begins at the world's origin.
pub const CHECKER: f64 = 2.0;
/// Colour of walls, red, green and blue from 0 to 1.
pub const WALL_COLOUR: [f64; 3] = [0.7, 0.5, 0.3];
/// Colour of the particle's disc.
pub const PARTICLE_COLOUR: [f64; 3] = [0.3, 0.6, 0.3];
/// Colour of the target's disc.
pub const TARGET_COLOUR: [f64; 3] = [0.6, 0.3, 0.3];
/// The two colours of the floor.
pub const FLOOR_COLOURS: [[f64; 3]; 2] = [[0.2, 0.3, 0.4], [0.1, 0.2, 0.3]];
/// The light that comes from the camera: ambient, diffuse and specular share.
pub const HEADLIGHT: [f64; 3] = [0.4, 0.8, 0.1];

/// Half the side of the floor in the original, m.
const FLOOR_HALF_SIZE: f64 = 40.0;
/// The floor is larger where the maze is, in steps that leave the checker in its place, m.
const FLOOR_STEP: f64 = 2.0 * CHECKER;

/// What is wrong with a field: its name below the spec, with dots, and the reason.
pub type Fault = (String, String);

/// A point mass in a maze, for [`Built::Maze`](super::Built::Maze).
///
/// The model has the body "particle" with the slide joints "x" and "y", motors of the same names, and a box for each
/// stretch of wall. There is no gravity. The defaults are those of the original.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MazeSpec {
    /// Where walls are.
    pub layout: Layout,
    /// Length of a physics step, s.
    pub timestep: f64,
    /// Radius of the particle, m; at most 0.2, so that it fits between walls wherever it may start.
    pub radius: f64,
    /// Its density, kg/m³: with a radius of 0.1 m the default gives 4.18879 kg.
    pub density: f64,
    /// Damping of both joints, N s/m.
    pub damping: f64,
    /// Force of a motor at a control of 1, N.
    pub force: f64,
    /// Coefficient of sliding friction along walls; at 0 they are smooth, as in the original.
    pub friction: f64,
    /// Neighbouring wall cells become one box, as large as possible: fewer boxes to look at, and no seams that a
    /// sliding particle could feel. Without it every cell is a box, as in the original.
    pub merge_walls: bool,
}

impl Default for MazeSpec {
    fn default() -> Self {
        Self {
            layout: Layout::default(),
            timestep: 0.01,
            radius: 0.1,
            density: 1000.0,
            damping: 1.0,
            force: 100.0,
            friction: 0.0,
            merge_walls: true,
        }
    }
}

/// Where the walls of a maze are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Layout {
    /// Drawn as text, row by row: `#` wall, `.` free, `S` start, `T` target. All rows have the same length, walls
    /// enclose everything, there is one start, and at most one target, which can be reached.
    Rows(Vec<String>),
    /// Drawn at random.
    Random(RandomLayout),
}

impl Default for Layout {
    fn default() -> Self {
        Self::Random(RandomLayout::default())
    }
}

impl MazeSpec {
    /// The cells, with start and target.
    ///
    /// # Errors
    /// The field of the layout that makes no sense, and why.
    pub fn grid(&self) -> Result<Grid, Fault> {
        match &self.layout {
            // The rows stand as the only item of `Rows`, hence the 0.
            Layout::Rows(rows) => Grid::from_rows(rows).map_err(|(row, reason)| {
                let field = row.map_or_else(|| "layout".into(), |row| format!("layout.0.{row}"));
                (field, reason)
            }),
            Layout::Random(random) => random
                .draw()
                .map_err(|(field, reason)| (format!("layout.{field}"), reason)),
        }
    }

    /// The same with the task of `seed`: a random layout is drawn anew with it; in a layout that stands fixed, start and
    /// target move to cells that it determines, with a way between them.
    ///
    /// # Errors
    /// As [`Self::grid`].
    pub fn drawn(&self, seed: u64) -> Result<Self, Fault> {
        let layout = match &self.layout {
            Layout::Random(random) => Layout::Random(RandomLayout { seed, ..random.clone() }),
            Layout::Rows(_) => Layout::Rows(random::move_ends(self.grid()?, seed)?.to_rows()),
        };
        Ok(Self { layout, ..self.clone() })
    }

    /// The model as MJCF text.
    ///
    /// # Errors
    /// The field that makes no sense, and why.
    pub fn mjcf(&self) -> Result<String, Fault> {
        self.check()?;
        Ok(self.write(&self.grid()?))
    }

    fn check(&self) -> Result<(), Fault> {
        for (field, value, least_is_valid, most) in [
            ("timestep", self.timestep, false, 1.0),
            ("radius", self.radius, false, 0.2),
            ("density", self.density, false, f64::MAX),
            ("damping", self.damping, true, f64::MAX),
            ("force", self.force, false, f64::MAX),
            ("friction", self.friction, true, f64::MAX),
        ] {
            let least = value > 0.0 || (least_is_valid && value == 0.0);
            if !(least && value <= most) {
                let from = if least_is_valid { "from 0" } else { "above 0" };
                let to = if most < f64::MAX {
                    format!(" and up to {most}")
                } else {
                    String::new()
                };
                return Err((field.into(), format!("expected a number {from}{to}, found {value}")));
            }
        }
        Ok(())
    }

    /// What can be seen is in groups 0 and 1. Only the particle (in the hidden group 3) and the walls collide. Only walls
    /// have a margin: `MuJoCo` adds those of two geoms today, and took the larger one in the original.
    fn write(&self, grid: &Grid) -> String {
        let Self {
            timestep,
            radius,
            density,
            damping,
            force,
            friction,
            merge_walls,
            ..
        } = self;
        let dimensions = if *friction > 0.0 { 3 } else { 1 };
        let longest = grid.rows().max(grid.columns()) as f64 + 1.0;
        let floor = FLOOR_HALF_SIZE.max((longest / FLOOR_STEP).ceil() * FLOOR_STEP);
        let repeats = floor / CHECKER;
        let [ambient, diffuse, specular] = HEADLIGHT;
        let [light, dark] = FLOOR_COLOURS.map(rgb);
        let [start_x, start_y] = grid.start();
        let (x, y) = (start_x + ORIGIN, start_y + ORIGIN);
        // `ref` makes joint coordinates count from the origin wherever the body starts.
        let mut text = format!(
            r#"<mujoco model="maze">
  <compiler angle="radian" inertiafromgeom="true"/>
  <option timestep="{timestep}" gravity="0 0 0" iterations="20" integrator="Euler"/>
  <visual>
    <headlight ambient="{ambient} {ambient} {ambient}" diffuse="{diffuse} {diffuse} {diffuse}" specular="{specular} {specular} {specular}"/>
    <map znear="0.01"/>
  </visual>
  <asset>
    <texture name="floor" type="2d" builtin="checker" rgb1="{light}" rgb2="{dark}" width="100" height="100"/>
    <material name="floor" texture="floor" texrepeat="{repeats} {repeats}"/>
    <material name="wall" rgba="{wall} 1"/>
    <material name="particle" rgba="{particle} 1"/>
    <material name="target" rgba="{target} 1"/>
  </asset>
  <default>
    <geom condim="{dimensions}" friction="{friction} 0.1 0.1"/>
    <default class="seen">
      <geom type="sphere" size="{DISC_RADIUS}" contype="0" conaffinity="0" mass="0" group="1"/>
    </default>
    <default class="wall">
      <geom type="box" material="wall" contype="2" conaffinity="1" margin="0.002"/>
    </default>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="{floor} {floor} 0.25" pos="0 0 {FLOOR_HEIGHT}" material="floor" contype="0" conaffinity="0"/>
    <body name="particle" pos="{x} {y} 0">
      <joint name="x" type="slide" axis="1 0 0" ref="{start_x}" damping="{damping}"/>
      <joint name="y" type="slide" axis="0 1 0" ref="{start_y}" damping="{damping}"/>
      <geom name="particle" type="sphere" size="{radius}" density="{density}" group="3" contype="1" conaffinity="1"/>
      <geom name="particle_disc" class="seen" material="particle"/>
    </body>
"#,
            wall = rgb(WALL_COLOUR),
            particle = rgb(PARTICLE_COLOUR),
            target = rgb(TARGET_COLOUR),
        );
        // Writing to a string cannot fail.
        if let Some([x, y]) = grid.target() {
            let (x, y) = (x + DISC_ORIGIN, y + DISC_ORIGIN);
            let _ = writeln!(
                text,
                r#"    <geom name="target_disc" class="seen" material="target" pos="{x} {y} 0"/>"#
            );
        }
        for wall in grid.boxes(*merge_walls) {
            let (half_x, half_y) = (wall.rows as f64 / 2.0, wall.columns as f64 / 2.0);
            let (x, y) = (wall.row as f64 + 0.5 + half_x, wall.column as f64 + 0.5 + half_y);
            let _ = writeln!(
                text,
                r#"    <geom name="wall_{}_{}" class="wall" pos="{x} {y} 0" size="{half_x} {half_y} {WALL_HALF_HEIGHT}"/>"#,
                wall.row, wall.column
            );
        }
        let _ = write!(
            text,
            r#"  </worldbody>
  <actuator>
    <motor name="x" joint="x" gear="{force}" ctrllimited="true" ctrlrange="-1 1"/>
    <motor name="y" joint="y" gear="{force}" ctrllimited="true" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"#
        );
        text
    }
}

fn rgb([red, green, blue]: [f64; 3]) -> String {
    format!("{red} {green} {blue}")
}
