//! Random layouts: straight walls with a framed door each, placed where little stands yet.
//!
//! The distribution of the layouts in `SPiRL`'s maze data; the random numbers are this program's own.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::Fault;
use super::grid::{Cell, Grid, LONGEST_SIDE, named};
use crate::rng::{Purpose, Stream, stream};

/// Keeps the numbers of layouts apart from those of demonstrators, which count their entities from 0.
const ENTITY: u64 = u64::from_be_bytes(*b"the maze");
/// A wall is placed in a window of this width and runs along its middle.
const WINDOW: usize = 5;
/// Shortest wall, cells: a door and its two posts.
const SHORTEST_WALL: usize = 3;
/// Start and target lie within plus and minus this of the point that names their cell, m.
const SPREAD: f64 = 0.1;
/// So many walls, or ends, without success, and the settings are given up.
const PATIENCE: usize = 10_000;

/// How a layout is drawn at random, with start and target: two of its free cells with a way between them.
///
/// Everything depends on these fields alone. The defaults are those of `SPiRL`'s maze data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomLayout {
    /// Seed: another one is another maze.
    pub seed: u64,
    /// Rows and columns, without the wall around them.
    pub size: usize,
    /// Walls are added until they cover this share of the cells.
    pub coverage: f64,
    /// Length of the shortest walls, as a share of `size`; never below 3 cells.
    pub shortest: f64,
    /// Length of the longest walls, as a share of `size`.
    pub longest: f64,
    /// How much walls avoid each other: a window of which walls cover the share p is chosen with a probability
    /// proportional to `exp(-temperature · p)`.
    pub temperature: f64,
}

impl Default for RandomLayout {
    fn default() -> Self {
        Self {
            seed: 0,
            size: 20,
            coverage: 0.25,
            shortest: 0.3,
            longest: 0.5,
            temperature: 20.0,
        }
    }
}

impl RandomLayout {
    /// Draws the layout: `size + 2` rows and columns.
    ///
    /// # Errors
    /// The field that makes no sense, and why.
    pub fn draw(&self) -> Result<Grid, Fault> {
        self.check()?;
        let mut stream = stream(self.seed, Purpose::Demonstrator, ENTITY, 0);
        let inner = self.walls(&mut stream)?;
        let side = self.size + 2;
        let mut walls = vec![true; side * side];
        for (row, cells) in inner.cells.chunks_exact(self.size).enumerate() {
            walls[(row + 1) * side + 1..][..self.size].copy_from_slice(cells);
        }
        let grid = Grid::new(side, side, walls, [0.0; 2], None);
        let (start, target) = ends(&grid, &mut stream).ok_or_else(|| {
            let reason = format!("the walls leave no way between two cells at {}", self.coverage);
            ("coverage".to_owned(), reason)
        })?;
        let mut spread = |cell| named(cell).map(|at| at + stream.random_range(-SPREAD..SPREAD));
        Ok(grid.with_ends(spread(start), spread(target)))
    }

    fn check(&self) -> Result<(), Fault> {
        let fault = |field: &str, expected: &str, found: String| {
            Err((field.to_owned(), format!("expected {expected}, found {found}")))
        };
        let share = |value: f64| (0.0..=1.0).contains(&value);
        if !(WINDOW..=LONGEST_SIDE - 2).contains(&self.size) {
            let expected = format!("{WINDOW} to {} cells", LONGEST_SIDE - 2);
            return fault("size", &expected, self.size.to_string());
        }
        if !(0.0..=0.5).contains(&self.coverage) {
            return fault("coverage", "a share from 0 to 0.5", self.coverage.to_string());
        }
        if !share(self.longest) {
            return fault("longest", "a share from 0 to 1", self.longest.to_string());
        }
        if !(share(self.shortest) && self.shortest <= self.longest) {
            let expected = format!("a share from 0 to `longest` ({})", self.longest);
            return fault("shortest", &expected, self.shortest.to_string());
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return fault("temperature", "a number from 0", self.temperature.to_string());
        }
        Ok(())
    }

    fn walls(&self, stream: &mut Stream) -> Result<Square, Fault> {
        let mut square = Square {
            size: self.size,
            cells: vec![false; self.size * self.size],
        };
        for _ in 0..PATIENCE {
            if square.covered() >= self.coverage {
                return Ok(square);
            }
            self.add_wall(&mut square, stream);
        }
        let reason = format!(
            "{PATIENCE} walls did not cover the share {} of the cells; take a lower one",
            self.coverage
        );
        Err(("coverage".into(), reason))
    }

    fn add_wall(&self, square: &mut Square, stream: &mut Stream) {
        let along_rows = stream.random::<f64>() < 0.5;
        let size = self.size as f64;
        let length = size * ((self.longest - self.shortest) * stream.random::<f64>() + self.shortest);
        let length = (length as usize).max(SHORTEST_WALL);
        let door = stream.random_range(1..=length - 2);
        let (rows, columns) = if along_rows { (length, WINDOW) } else { (WINDOW, length) };
        let (row, column) = square.choose_window(rows, columns, self.temperature, stream);
        let middle = WINDOW / 2;
        let mut set = |along: usize, across: usize, wall: bool| {
            let cell = if along_rows {
                (row + along, column + across)
            } else {
                (row + across, column + along)
            };
            square.cells[cell.0 * self.size + cell.1] = wall;
        };
        (0..length).for_each(|along| set(along, middle, true));
        set(door, middle, false);
        for along in [door - 1, door + 1] {
            set(along, middle - 1, true);
            set(along, middle + 1, true);
        }
    }
}

/// The cells within the outer wall.
struct Square {
    size: usize,
    cells: Vec<bool>,
}

impl Square {
    fn covered(&self) -> f64 {
        self.cells.iter().filter(|&&wall| wall).count() as f64 / self.cells.len() as f64
    }

    /// First cell of a window of `rows · columns` cells, the emptier the likelier.
    fn choose_window(&self, rows: usize, columns: usize, temperature: f64, stream: &mut Stream) -> Cell {
        let sums = self.sums();
        let side = self.size + 1;
        let places = (self.size - rows + 1, self.size - columns + 1);
        let mut weights = Vec::with_capacity(places.0 * places.1);
        for row in 0..places.0 {
            for column in 0..places.1 {
                let sum = |row: usize, column: usize| sums[row * side + column];
                let walls = sum(row + rows, column + columns) + sum(row, column)
                    - sum(row + rows, column)
                    - sum(row, column + columns);
                weights.push(f64::from(walls) / (rows * columns) as f64);
            }
        }
        // Counted from the emptiest window, so that one weight is 1 however high the temperature is.
        let emptiest = weights.iter().copied().fold(f64::INFINITY, f64::min);
        let mut total = 0.0;
        for weight in &mut weights {
            total += (-temperature * (*weight - emptiest)).exp();
            *weight = total;
        }
        let drawn = stream.random::<f64>() * total;
        let place = weights
            .partition_point(|&weight| weight <= drawn)
            .min(weights.len() - 1);
        (place / places.1, place % places.1)
    }

    /// At `[row * (size + 1) + column]`: number of walls in all rows and columns before these.
    fn sums(&self) -> Vec<u32> {
        let side = self.size + 1;
        let mut sums = vec![0; side * side];
        for row in 0..self.size {
            let mut in_row = 0;
            for column in 0..self.size {
                in_row += u32::from(self.cells[row * self.size + column]);
                sums[(row + 1) * side + column + 1] = sums[row * side + column + 1] + in_row;
            }
        }
        sums
    }
}

/// Two different free cells with a way between them.
fn ends(grid: &Grid, stream: &mut Stream) -> Option<(Cell, Cell)> {
    let free: Vec<Cell> = grid.free_cells().collect();
    if free.is_empty() {
        return None;
    }
    (0..PATIENCE).find_map(|_| {
        let [start, target] = [(); 2].map(|()| free[stream.random_range(0..free.len())]);
        let connected = start != target && grid.distance(start, target).is_some();
        connected.then_some((start, target))
    })
}

/// Moves start and target to cells that `seed` determines.
pub(super) fn move_ends(grid: Grid, seed: u64) -> Result<Grid, Fault> {
    let mut stream = stream(seed, Purpose::Demonstrator, ENTITY, 1);
    let (start, target) = ends(&grid, &mut stream).ok_or_else(|| {
        (
            "layout".to_owned(),
            "no way leads from one free cell to another".to_owned(),
        )
    })?;
    Ok(grid.with_ends(named(start), named(target)))
}
