//! The cells of a maze: from text, ways between them, walls as boxes.

use std::collections::VecDeque;

use super::ORIGIN;

/// Most rows and columns of a layout.
pub(super) const LONGEST_SIDE: usize = 256;

/// A cell: row and column.
pub type Cell = (usize, usize);

/// Which cells are walls, and where start and target are.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    rows: usize,
    columns: usize,
    /// Row by row.
    walls: Vec<bool>,
    start: [f64; 2],
    target: Option<[f64; 2]>,
}

/// All faults of a layout in one message, as far as they are few.
fn all_of(faults: &[(usize, String)]) -> String {
    const SHOWN: usize = 6;
    let mut shown: Vec<&str> = faults.iter().take(SHOWN).map(|(_, reason)| reason.as_str()).collect();
    let more = format!("and {} more faults", faults.len().saturating_sub(SHOWN));
    if faults.len() > SHOWN {
        shown.push(&more);
    }
    shown.join("; ")
}

/// A rectangle of wall cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallBox {
    /// First row.
    pub row: usize,
    /// First column.
    pub column: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
}

impl Grid {
    /// Reads a layout; see [`Layout::Rows`](super::Layout::Rows).
    ///
    /// # Errors
    /// The row at fault, if it is a single one, and the reason.
    pub fn from_rows(rows: &[String]) -> Result<Self, (Option<usize>, String)> {
        let columns = rows.first().map_or(0, |row| row.chars().count());
        if rows.len() < 3 || columns < 3 || rows.len() > LONGEST_SIDE || columns > LONGEST_SIDE {
            let reason = format!(
                "expected 3 to {LONGEST_SIDE} rows and columns, found {} rows and {columns} columns",
                rows.len()
            );
            return Err((None, reason));
        }
        let mut walls = Vec::with_capacity(rows.len() * columns);
        let (mut start, mut target) = (None, None);
        let (mut faults, mut explains) = (Vec::new(), true);
        for (row, text) in rows.iter().enumerate() {
            let found = text.chars().count();
            if found != columns {
                let reason = format!("row {row}: expected {columns} letters as in row 0, found {found}");
                faults.push((row, reason));
            }
            for (column, letter) in text.chars().enumerate().take(columns) {
                let place = format!("row {row}, column {column}");
                let border = row == 0 || column == 0 || row + 1 == rows.len() || column + 1 == columns;
                let end = match letter {
                    _ if border && letter != '#' => {
                        let reason = format!("{place}: expected a wall '#' all around the maze, found {letter:?}");
                        faults.push((row, reason));
                        None
                    }
                    '#' | '.' => None,
                    'S' => Some(&mut start),
                    'T' => Some(&mut target),
                    _ => {
                        // Said once.
                        let expected = match std::mem::take(&mut explains) {
                            true => "expected '#' (wall), '.' (free), 'S' (start) or 'T' (target), ",
                            false => "",
                        };
                        faults.push((row, format!("{place}: {expected}found {letter:?}")));
                        None
                    }
                };
                if let Some(end) = end
                    && let Some((row_before, column_before)) = end.replace((row, column))
                {
                    let reason = format!(
                        "{place}: a second {letter:?}; the first one is in row {row_before}, column {column_before}"
                    );
                    faults.push((row, reason));
                }
                walls.push(letter == '#');
            }
        }
        if let Some((row, _)) = faults.first() {
            return Err((Some(*row), all_of(&faults)));
        }
        let Some(start) = start else {
            return Err((None, "expected a start 'S', found none".into()));
        };
        let grid = Self::new(rows.len(), columns, walls, named(start), target.map(named));
        if let Some((row, column)) = target
            && grid.distance(start, (row, column)).is_none()
        {
            let reason = format!("row {row}, column {column}: no way leads from 'S' to 'T'");
            return Err((Some(row), reason));
        }
        Ok(grid)
    }

    /// A grid of `rows · columns` cells, row by row; start and target in joint coordinates.
    pub(super) fn new(
        rows: usize,
        columns: usize,
        walls: Vec<bool>,
        start: [f64; 2],
        target: Option<[f64; 2]>,
    ) -> Self {
        Self {
            rows,
            columns,
            walls,
            start,
            target,
        }
    }

    /// The same cells with other ends, in joint coordinates.
    pub(super) fn with_ends(self, start: [f64; 2], target: [f64; 2]) -> Self {
        Self {
            start,
            target: Some(target),
            ..self
        }
    }

    /// Number of rows, along x.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns, along y.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Whether a cell is a wall; outside of the layout there are none.
    pub fn is_wall(&self, (row, column): Cell) -> bool {
        let inside = row < self.rows && column < self.columns;
        inside && wall(&self.walls, self.columns, row, column)
    }

    /// Whether a cell belongs to the layout and is no wall.
    pub fn is_free(&self, (row, column): Cell) -> bool {
        row < self.rows && column < self.columns && !self.is_wall((row, column))
    }

    /// All free cells, row by row.
    pub fn free_cells(&self) -> impl Iterator<Item = Cell> + '_ {
        let cells = (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| (row, column)));
        cells.filter(|&cell| self.is_free(cell))
    }

    /// Where the particle starts, joint coordinates.
    pub fn start(&self) -> [f64; 2] {
        self.start
    }

    /// The target, joint coordinates.
    pub fn target(&self) -> Option<[f64; 2]> {
        self.target
    }

    /// The middle of a cell in joint coordinates.
    pub fn middle((row, column): Cell) -> [f64; 2] {
        [row, column].map(|index| index as f64 + 1.0 - ORIGIN)
    }

    /// The cell of the layout at a point in joint coordinates.
    pub fn cell_at(&self, point: [f64; 2]) -> Option<Cell> {
        let [row, column] = point.map(|at| (at + ORIGIN - 0.5).floor());
        let inside = row >= 0.0 && column >= 0.0 && row < self.rows as f64 && column < self.columns as f64;
        inside.then_some((row as usize, column as usize))
    }

    /// The free cells beside, above and below a cell.
    pub fn neighbours(&self, (row, column): Cell) -> impl Iterator<Item = Cell> + '_ {
        let around = [
            (row.checked_sub(1), Some(column)),
            (row.checked_add(1), Some(column)),
            (Some(row), column.checked_sub(1)),
            (Some(row), column.checked_add(1)),
        ];
        let cells = around.into_iter().filter_map(|(row, column)| row.zip(column));
        cells.filter(|&cell| self.is_free(cell))
    }

    /// Steps from cell to cell to `target`, for every cell row by row; none from where no way leads there.
    ///
    /// Breadth-first search: the numbers are those of value iteration with a reward at the target alone, up to the
    /// form in which they are written.
    pub fn distances(&self, target: Cell) -> Vec<Option<u32>> {
        let mut distances = vec![None; self.rows * self.columns];
        let mut next = VecDeque::new();
        let mut reach = |cell: Cell, distance: u32, next: &mut VecDeque<_>| {
            if let Some(place @ None) = distances.get_mut(cell.0 * self.columns + cell.1) {
                *place = Some(distance);
                next.push_back((cell, distance));
            }
        };
        if self.is_free(target) {
            reach(target, 0, &mut next);
        }
        while let Some((cell, distance)) = next.pop_front() {
            for neighbour in self.neighbours(cell) {
                reach(neighbour, distance + 1, &mut next);
            }
        }
        distances
    }

    /// Steps from cell to cell between two cells, if a way leads there.
    pub fn distance(&self, from: Cell, to: Cell) -> Option<u32> {
        let inside = from.0 < self.rows && from.1 < self.columns;
        let at = inside.then(|| from.0 * self.columns + from.1)?;
        self.distances(to).get(at).copied().flatten()
    }

    /// The layout as text; see [`Layout::Rows`](super::Layout::Rows). Start and target lose what is not their cell.
    pub fn to_rows(&self) -> Vec<String> {
        let start = self.cell_at(self.start);
        let target = self.target.and_then(|target| self.cell_at(target));
        let letter = |cell| match cell {
            _ if self.is_wall(cell) => '#',
            _ if start == Some(cell) => 'S',
            _ if target == Some(cell) => 'T',
            _ => '.',
        };
        let row = |row| (0..self.columns).map(|column| letter((row, column))).collect();
        (0..self.rows).map(row).collect()
    }

    /// The walls as boxes that do not overlap: one for each cell, or `merged` into large ones.
    pub fn boxes(&self, merged: bool) -> Vec<WallBox> {
        let mut left = self.walls.clone();
        let mut boxes = Vec::new();
        for row in 0..self.rows {
            for column in 0..self.columns {
                if !wall(&left, self.columns, row, column) {
                    continue;
                }
                let (rows, columns) = if merged {
                    self.largest(&left, row, column)
                } else {
                    (1, 1)
                };
                for taken in row..row + rows {
                    left[taken * self.columns + column..][..columns].fill(false);
                }
                boxes.push(WallBox {
                    row,
                    column,
                    rows,
                    columns,
                });
            }
        }
        boxes
    }

    /// Rows and columns of the largest rectangle of walls in `left` with its first corner at a cell.
    fn largest(&self, left: &[bool], row: usize, column: usize) -> (usize, usize) {
        let run = |row: usize| {
            let cells = column..self.columns;
            cells
                .take_while(|&column| wall(left, self.columns, row, column))
                .count()
        };
        let mut width = usize::MAX;
        let mut largest = (1, 1);
        for (rows, row) in (row..self.rows).enumerate() {
            width = width.min(run(row));
            if width == 0 {
                break;
            }
            if (rows + 1) * width > largest.0 * largest.1 {
                largest = (rows + 1, width);
            }
        }
        largest
    }
}

fn wall(walls: &[bool], columns: usize, row: usize, column: usize) -> bool {
    walls.get(row * columns + column).copied().unwrap_or(false)
}

/// The point that names a cell, in joint coordinates.
pub(super) fn named((row, column): Cell) -> [f64; 2] {
    [row as f64, column as f64]
}
