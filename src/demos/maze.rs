//! A scripted demonstrator for mazes: plans a shortest way from cell to cell and follows it with a PD controller, as the
//! one that made `SPiRL`'s maze data.
//!
//! Every attempt has a task of its own: in a random layout another maze, in a fixed one another start and target. The
//! task follows from one number, [`MazeSpec::drawn`], which is stored in the column `layout` of the data, so that
//! pictures can be drawn from the states later.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::DemoError;
use super::demonstrator::{Account, Act, Demonstrator, Rejection, Start};
use super::kitchen::Recorded;
use crate::rng::{Purpose, Stream, stream};
use crate::scene::maze::{Cell, Fault, Grid};
use crate::scene::{Built, CompiledScene, MazeSpec, Scene, SceneError};
use crate::sim::{Measurement, Physics, TaskProgress};

/// The joints that a maze drives, in the order of the action's numbers.
const JOINTS: [&str; 2] = ["x", "y"];

/// How mazes are demonstrated. The defaults are those of `SPiRL`'s maze data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MazeDemos {
    /// Acceleration that is asked for, as an action, for each metre to the next waypoint.
    pub gain: f64,
    /// The same against each m/s of velocity.
    pub damping: f64,
    /// A waypoint is reached within this distance, m, if the last step was shorter than this as well.
    pub reach: f64,
    /// Waypoints are shifted by up to this towards lower x and y, m: from the edge of the middle to the middle of a cell.
    pub shift: f64,
    /// The start is drawn within plus and minus this of its cell, m.
    pub start_spread: f64,
    /// Standard deviation of the first velocity along each axis, m/s.
    pub start_speed: f64,
    /// Standard deviation of noise on executed actions; the original has a mode with 0.5.
    pub noise: f64,
    /// Which action is recorded where noise is added.
    pub record: Recorded,
    /// Attempts end after so many steps, at the target or not.
    pub step_limit: usize,
    /// Attempts of so many steps or fewer are rejected.
    pub too_short: usize,
    /// Whether attempts count that end before the target, at the limit of steps.
    pub keep_unfinished: bool,
}

impl Default for MazeDemos {
    fn default() -> Self {
        Self {
            gain: 10.0,
            damping: 1.0,
            reach: 0.1,
            shift: 0.2,
            start_spread: 0.1,
            start_speed: 0.1,
            noise: 0.0,
            record: Recorded::Executed,
            step_limit: 500,
            too_short: 20,
            keep_unfinished: true,
        }
    }
}

impl MazeDemos {
    /// Checks that every setting makes sense.
    ///
    /// # Errors
    /// [`DemoError::Setting`] with the first one that does not.
    pub fn check(&self) -> Result<(), DemoError> {
        for (field, value, most) in [
            ("gain", self.gain, f64::MAX),
            ("damping", self.damping, f64::MAX),
            ("reach", self.reach, 0.5),
            ("shift", self.shift, 0.4),
            ("start_spread", self.start_spread, 0.2),
            ("start_speed", self.start_speed, f64::MAX),
            ("noise", self.noise, f64::MAX),
        ] {
            if !(0.0..=most).contains(&value) {
                let expected = match field {
                    "reach" => "a distance from 0 to 0.5 m",
                    "shift" => "a distance from 0 to 0.4 m",
                    "start_spread" => "a distance from 0 to 0.2 m",
                    _ => "a number from 0",
                };
                let value = value.to_string();
                return Err(DemoError::Setting { field, expected, value });
            }
        }
        if self.step_limit <= self.too_short {
            return Err(DemoError::Setting {
                field: "step_limit",
                expected: "more steps than `too_short`",
                value: self.step_limit.to_string(),
            });
        }
        Ok(())
    }
}

/// Finds its way through mazes..
#[derive(Debug)]
pub struct MazeDemonstrator {
    config: MazeDemos,
    /// What the attempts' scenes are made from.
    scene: Scene,
    maze: MazeSpec,
    attempt: Attempt,
    stream: Stream,
}

/// The running attempt.
#[derive(Debug, Clone, Default)]
struct Attempt {
    /// Number from which the task follows.
    task: u32,
    /// Points to pass, joint coordinates; the last one is the target cell.
    waypoints: Vec<[f64; 2]>,
    /// The next one.
    next: usize,
    /// Where it was a step ago.
    before: Option<[f64; 2]>,
    steps: usize,
    arrived: bool,
}

impl MazeDemonstrator {
    /// A demonstrator for the kind of maze in `scene`.
    ///
    /// # Errors
    /// [`DemoError::Unfit`] if the scene is not a maze, [`DemoError::Setting`] if a setting makes no sense.
    pub fn new(scene: &CompiledScene, config: MazeDemos) -> Result<Self, DemoError> {
        config.check()?;
        let scene = scene.scene().clone();
        let Some(Built::Maze(maze)) = &scene.physics.built else {
            return Err(DemoError::Unfit {
                demonstrator: "maze",
                needs: "a scene in which `physics.built` is a `Maze`".into(),
            });
        };
        Ok(Self {
            config,
            maze: maze.clone(),
            scene,
            attempt: Attempt::default(),
            stream: stream(0, Purpose::Demonstrator, 0, 0),
        })
    }

    /// The scene of a task: its maze, with the goal at its target.
    fn scene_of(&self, maze: MazeSpec, grid: &Grid) -> Scene {
        let mut scene = self.scene.clone();
        scene.physics.built = Some(Built::Maze(maze));
        for joint in JOINTS {
            scene.reset.positions.remove(joint);
        }
        if let Some(target) = grid.target() {
            let goals = scene.elements.iter_mut().filter(|element| element.joints == JOINTS);
            goals.for_each(|element| element.goal = target.to_vec());
        }
        scene
    }

    /// A shortest way from cell to cell as points to pass, without the first cell. Among equally short ways each step is
    /// drawn anew.
    fn plan(&mut self, grid: &Grid, from: Cell, to: Cell) -> Vec<[f64; 2]> {
        let distances = grid.distances(to);
        let distance = |(row, column): Cell| distances.get(row * grid.columns() + column).copied().flatten();
        let mut waypoints = Vec::new();
        let mut cell = from;
        while let Some(left @ 1..) = distance(cell) {
            let nearer = |&next: &Cell| distance(next) == Some(left - 1);
            let choices = grid.neighbours(cell).filter(nearer).count();
            let drawn = self.stream.random_range(0..choices.max(1));
            let Some(next) = grid.neighbours(cell).filter(nearer).nth(drawn) else {
                break;
            };
            cell = next;
            let shift = if cell == to { 0.0 } else { self.config.shift };
            waypoints.push([cell.0, cell.1].map(|at| at as f64 - shift * self.stream.random::<f64>()));
        }
        waypoints
    }
}

impl Demonstrator for MazeDemonstrator {
    fn begin(&mut self, seed: u64, attempt: u64) -> Result<Start, DemoError> {
        self.stream = stream(seed, Purpose::Demonstrator, 0, attempt);
        let task = self.stream.random::<u32>();
        let maze = self.maze.drawn(task.into()).map_err(refused)?;
        let grid = maze.grid().map_err(refused)?;
        let scene = CompiledScene::new(self.scene_of(maze, &grid))?;
        let cell = |point| grid.cell_at(point).unwrap_or_default();
        let (from, to) = (cell(grid.start()), cell(grid.target().unwrap_or_default()));
        self.attempt = Attempt {
            task,
            waypoints: self.plan(&grid, from, to),
            ..Attempt::default()
        };
        let spread = self.config.start_spread;
        let mut qpos = scene.start().to_vec();
        for (position, middle) in qpos.iter_mut().zip([from.0, from.1]) {
            *position = middle as f64 + spread * (2.0 * self.stream.random::<f64>() - 1.0);
        }
        let mut qvel = vec![0.0; scene.model().nv() as usize];
        for velocity in &mut qvel {
            let drawn: f64 = StandardNormal.sample(&mut self.stream);
            *velocity = self.config.start_speed * drawn;
        }
        Ok(Start {
            scene: Some(scene),
            qpos,
            qvel,
            shifts: Vec::new(),
        })
    }

    fn act(&mut self, _scene: &CompiledScene, physics: &Physics, _measurement: &Measurement) -> Option<Act> {
        let Self {
            attempt,
            config,
            stream,
            ..
        } = self;
        let (&[x, y, ..], &[vx, vy, ..]) = (physics.0.qpos(), physics.0.qvel()) else {
            return None;
        };
        let at = [x, y];
        let before = attempt.before.replace(at);
        let slow = before.is_some_and(|before| distance(at, before) < config.reach);
        let target = attempt.waypoints.last()?;
        attempt.arrived = slow && distance(at, *target) < config.reach;
        if attempt.arrived || attempt.steps == config.step_limit {
            return None;
        }
        let waypoint = *attempt.waypoints.get(attempt.next)?;
        let last = attempt.next + 1 == attempt.waypoints.len();
        if !last && slow && distance(at, waypoint) < config.reach {
            attempt.next += 1;
        }
        attempt.steps += 1;
        let control = |to: f64, at: f64, velocity: f64| config.gain * (to - at) - config.damping * velocity;
        let wanted = [control(waypoint[0], x, vx), control(waypoint[1], y, vy)].map(|number| number.clamp(-1.0, 1.0));
        Some(disturb(wanted, config, stream))
    }

    fn judge(&self, _scene: &CompiledScene, _physics: &Physics, _progress: &TaskProgress) -> Result<(), Rejection> {
        if self.attempt.steps <= self.config.too_short {
            Err(Rejection::TooShort)
        } else if self.attempt.arrived || self.config.keep_unfinished {
            Ok(())
        } else {
            Err(Rejection::Missed("target not reached".into()))
        }
    }

    fn step_limit(&self) -> usize {
        self.config.step_limit
    }

    fn account(&self) -> Account {
        let arrived = if self.attempt.arrived { 1.0 } else { 0.0 };
        Account {
            figures: vec![
                ("cells to the target", self.attempt.waypoints.len() as f64),
                ("target reached", arrived),
            ],
            ..Account::default()
        }
    }

    fn columns(&self) -> &'static [&'static str] {
        &["layout"]
    }

    fn write_columns(&self, numbers: &mut Vec<i64>) {
        numbers.push(self.attempt.task.into());
    }
}

/// The action with noise, if noise is wanted.
fn disturb(wanted: [f64; 2], config: &MazeDemos, stream: &mut Stream) -> Act {
    if config.noise == 0.0 {
        return Act::exact(wanted.to_vec());
    }
    let executed = wanted.map(|number| {
        let drawn: f64 = StandardNormal.sample(stream);
        (number + config.noise * drawn).clamp(-1.0, 1.0)
    });
    let intended = match config.record {
        Recorded::Intended => wanted,
        Recorded::Executed => executed,
    };
    Act {
        intended: intended.to_vec(),
        executed: executed.to_vec(),
    }
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// A layout that cannot be drawn, as a fault of the scene.
fn refused((field, reason): Fault) -> DemoError {
    let field = format!("physics.built.{field}");
    DemoError::Scene(SceneError::Invalid { field, reason })
}
