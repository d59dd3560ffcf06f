//! Pictures of mazes from straight above: the walls are cells of equal height, so a ray is two look-ups.
//!
//! The colour of a point is found by where its ray meets the plane of the walls' tops and where it meets the floor. All
//! points of a row have the same x there, all of a column the same y, so the cells are worked out once for each row and
//! each column. Only rays that leave their cell between the two planes, by a side of it, have to be followed.
//!
//! A pixel is the mean of four points, as in `MuJoCo`'s pictures. The discs are spheres, seen from above.

use std::ops::Range;

use bevy::math::{DVec3, Vec3};

use super::light::{Finish, HeadLight, bytes};
use super::{LARGEST, POINTS, mean};
use crate::scene::maze::{
    CHECKER, DISC_ORIGIN, DISC_RADIUS, FLOOR_COLOURS, FLOOR_HEIGHT, Grid, HEADLIGHT, ORIGIN, PARTICLE_COLOUR,
    TARGET_COLOUR, WALL_COLOUR, WALL_HALF_HEIGHT,
};

/// What the points of a row of pixels show, one line for each of their points.
type Shown = [[u8; LARGEST]; 4];

/// Share of a point in a pixel of full brightness: sums are 256 times as large as bytes.
const POINT: f32 = 64.0 * 255.0;

/// What a point shows.
const DARK: u8 = 0;
const LIGHT: u8 = 1;
const SIDE: u8 = 2;
const TOP: u8 = 3;

/// Which cells are walls, with a ring of free ones around them, and where the target's disc is.
#[derive(Debug, Clone)]
pub(super) struct Walls {
    cells: Vec<bool>,
    rows: usize,
    columns: usize,
    /// Middle of the disc in the world, m.
    target: Option<[f64; 2]>,
}

impl Walls {
    pub fn new(grid: &Grid) -> Self {
        let (rows, columns) = (grid.rows() + 2, grid.columns() + 2);
        let cell = |row: usize, column: usize| row > 0 && column > 0 && grid.is_wall((row - 1, column - 1));
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| cell(row, column)));
        Self {
            cells: cells.collect(),
            rows,
            columns,
            target: grid.target().map(|target| target.map(|at| at + DISC_ORIGIN)),
        }
    }

    /// The row of cells with this number, the ring included.
    fn row(&self, row: usize) -> &[bool] {
        &self.cells[row * self.columns..(row + 1) * self.columns]
    }

    /// Whether there is a wall at a point of the world, m.
    fn at(&self, x: f64, y: f64) -> bool {
        self.row(cell(x, self.rows))[cell(y, self.columns)]
    }
}

/// The cell of a coordinate in the world, counted with the ring; the ring stands for all that is outside.
fn cell(at: f64, count: usize) -> usize {
    // Cell i reaches from i + 0.5 to i + 1.5.
    ((at + 0.5).max(0.0) as usize).min(count - 1)
}

/// Where the rays of a row (along x) or a column (along y) of points meet the two planes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Line {
    /// Cell in the plane of the tops.
    top: usize,
    /// Cell in the plane of the floor.
    floor: usize,
    /// The square of the checker is an odd one.
    odd: bool,
}

/// A camera that looks down on mazes.
#[derive(Debug, Clone)]
pub(super) struct View {
    size: usize,
    /// Height of the eye, m.
    height: f64,
    /// Tangent of half the field of view.
    half: f64,
    /// For the points of every row of pixels from the top, how far a ray moves along x while it sinks by one.
    down: Vec<[f64; 4]>,
    /// For the points of every column from the left, how far it moves along y: up in the picture is +x, right is -y.
    right: Vec<[f64; 4]>,
    /// What each kind of point adds to its pixel: its colour, and a one if it gets the highlight.
    colours: [[u32; 4]; 4],
    /// The same for all kinds of pixels, by what their four points show, two bits each.
    mixtures: Vec<[u32; 4]>,
    /// Highlight of a point on the walls' tops, for every pixel row by row.
    highlights: Vec<u32>,
    light: HeadLight,
}

impl View {
    /// Pictures of `size` times `size` pixels from `distance` above the point that is looked at, with a vertical field of
    /// view of `fovy` degrees.
    pub fn new(size: usize, distance: f64, fovy: f64) -> Self {
        let half = (0.5 * fovy.to_radians()).tan();
        let slope = |pixel: usize, share: f64| half * (1.0 - 2.0 * (pixel as f64 + share) / size as f64);
        let points = |shares: [f64; 4]| (0..size).map(move |pixel| shares.map(|share| slope(pixel, share)));
        let [ambient, diffuse, specular] = HEADLIGHT.map(|share| Vec3::splat(share as f32));
        let light = HeadLight {
            ambient,
            diffuse,
            specular,
        };
        let plain = |colour| light.shade(&Finish::plain(colour), 1.0, 0.0);
        let [bright, dark] = FLOOR_COLOURS.map(|square| vector(square) * plain(Vec3::ONE));
        let wall = Finish::plain(vector(WALL_COLOUR));
        let colours = [dark, bright, light.shade(&wall, 0.0, 0.0), plain(wall.colour)];
        let colours = [DARK, LIGHT, SIDE, TOP].map(|kind| {
            let [red, green, blue] = (colours[usize::from(kind)] * POINT)
                .to_array()
                .map(|share| share.round() as u32);
            [red, green, blue, u32::from(kind == TOP)]
        });
        let mixtures = (0..256_usize).map(|kinds| {
            let [one, two, three, four] = [0, 2, 4, 6].map(|shift| colours[kinds >> shift & 3]);
            std::array::from_fn(|share| one[share] + two[share] + three[share] + four[share])
        });
        let highlights = (0..size * size).map(|pixel| {
            let away = slope(pixel / size, 0.5).hypot(slope(pixel % size, 0.5));
            // A surface that faces up is lit from above, so halfway to the eye is half of the angle from below it.
            let halfway = (0.5 * away.atan()).cos() as f32;
            let glossy = light.specular.x * wall.shine * halfway.powf(wall.exponent);
            (glossy * POINT).round() as u32
        });
        Self {
            size,
            height: distance,
            half,
            down: points([0.125, 0.375, 0.625, 0.875]).collect(),
            right: points(POINTS.map(f64::from)).collect(),
            colours,
            mixtures: mixtures.collect(),
            highlights: highlights.collect(),
            light,
        }
    }

    /// Draws the maze with the particle at `particle` (joint coordinates), looking at the point `gaze` of the world, into
    /// `[3, size, size]`.
    pub fn draw(&self, walls: &Walls, particle: [f64; 2], gaze: [f64; 2], out: &mut [u8]) {
        let mut columns = [[Line::default(); 4]; LARGEST];
        for (column, slopes) in columns.iter_mut().zip(&self.right) {
            *column = slopes.map(|slope| self.line(gaze[1], slope, walls.columns));
        }
        let columns = &columns[..self.size];
        let discs = [
            Some(self.disc(gaze, particle.map(|at| at + ORIGIN), PARTICLE_COLOUR)),
            walls.target.map(|at| self.disc(gaze, at, TARGET_COLOUR)),
        ];
        let mut shown = [[DARK; LARGEST]; 4];
        let mut above = [None; 4];
        for (row, slopes) in self.down.iter().enumerate() {
            for (point, slope) in slopes.iter().enumerate() {
                let line = self.line(gaze[0], *slope, walls.rows);
                // Mostly it is what the pixels above show.
                if line.top != line.floor || above[point] != Some(line) {
                    self.look(walls, gaze, (point, *slope, line), columns, &mut shown[point]);
                }
                above[point] = Some(line);
            }
            self.paint(row, &shown, out);
            for disc in discs.iter().flatten().filter(|disc| disc.rows.contains(&row)) {
                for column in disc.columns.clone() {
                    self.paint_disc(walls, gaze, &discs, (row, column), &shown, out);
                }
            }
        }
    }

    /// Where rays of this slope meet the planes, looking at the coordinate `gaze`.
    fn line(&self, gaze: f64, slope: f64, count: usize) -> Line {
        let on_floor = gaze + slope * (self.height - FLOOR_HEIGHT);
        Line {
            top: cell(gaze + slope * (self.height - WALL_HALF_HEIGHT), count),
            floor: cell(on_floor, count),
            odd: (on_floor / CHECKER).floor() as i64 % 2 != 0,
        }
    }

    /// What a row of points shows: the ones with number `point` of their pixels, with this slope.
    fn look(
        &self,
        walls: &Walls,
        gaze: [f64; 2],
        (point, slope, line): (usize, f64, Line),
        columns: &[[Line; 4]],
        shown: &mut [u8],
    ) {
        let (tops, floor) = (walls.row(line.top), walls.row(line.floor));
        for ((column, to), slopes) in columns.iter().zip(shown).zip(&self.right) {
            let column = &column[point];
            *to = if tops[column.top] {
                TOP
            } else if line.floor == line.top {
                // At most a side across the columns is in the way.
                if tops[column.floor] {
                    SIDE
                } else {
                    checker(line, *column)
                }
            } else {
                let rows_first = column.floor == column.top
                    || self.crossing(gaze[0], slope, line) < self.crossing(gaze[1], slopes[point], *column);
                let between = if rows_first {
                    floor[column.top]
                } else {
                    tops[column.floor]
                };
                if between || floor[column.floor] {
                    SIDE
                } else {
                    checker(line, *column)
                }
            };
        }
    }

    /// How far below the eye a ray of this slope passes from one cell to the next, m.
    fn crossing(&self, gaze: f64, slope: f64, line: Line) -> f64 {
        // Counted with the ring, cell i begins at i - 0.5.
        (line.top.max(line.floor) as f64 - 0.5 - gaze) / slope
    }

    /// Paints a row of pixels without the discs.
    fn paint(&self, row: usize, shown: &Shown, out: &mut [u8]) {
        let size = self.size;
        let highlights = &self.highlights[row * size..(row + 1) * size];
        let [one, two, three, four] = shown.each_ref();
        let points = one.iter().zip(two).zip(three).zip(four);
        let (red, others) = out.split_at_mut(size * size);
        let (green, blue) = others.split_at_mut(size * size);
        let place = row * size..(row + 1) * size;
        let colours = (red[place.clone()].iter_mut())
            .zip(&mut green[place.clone()])
            .zip(&mut blue[place]);
        for ((((red, green), blue), highlight), (((one, two), three), four)) in colours.zip(highlights).zip(points) {
            let kinds = one | two << 2 | three << 4 | four << 6;
            let [r, g, b, tops] = self.mixtures[usize::from(kinds)];
            let byte = |sum: u32| ((sum + tops * highlight + 128) >> 8).min(255) as u8;
            (*red, *green, *blue) = (byte(r), byte(g), byte(b));
        }
    }
}

/// The colour of a square of the floor.
fn checker(row: Line, column: Line) -> u8 {
    if row.odd == column.odd { DARK } else { LIGHT }
}

/// A sphere of the discs' radius at z = 0.
#[derive(Debug)]
struct Disc {
    /// From the eye to its middle.
    middle: DVec3,
    finish: Finish,
    /// Pixels that may show it.
    rows: Range<usize>,
    columns: Range<usize>,
}

impl View {
    fn disc(&self, gaze: [f64; 2], at: [f64; 2], colour: [f64; 3]) -> Disc {
        let middle = DVec3::new(at[0] - gaze[0], at[1] - gaze[1], -self.height);
        // Of the box around it: the upper corners look farther away from the middle of the picture than the lower ones.
        let range = |from: f64| {
            let pixel = |at: f64| {
                let depth = self.height
                    + if at * (at - from) > 0.0 {
                        -DISC_RADIUS
                    } else {
                        DISC_RADIUS
                    };
                (0.5 * (1.0 - at / depth / self.half) * self.size as f64).clamp(0.0, self.size as f64)
            };
            let (first, last) = (pixel(from + DISC_RADIUS), pixel(from - DISC_RADIUS));
            first.floor() as usize..last.ceil() as usize
        };
        Disc {
            middle,
            finish: Finish::plain(vector(colour)),
            rows: range(middle.x),
            columns: range(middle.y),
        }
    }

    /// Paints a pixel that shows a disc, point by point.
    fn paint_disc(
        &self,
        walls: &Walls,
        gaze: [f64; 2],
        discs: &[Option<Disc>; 2],
        (row, column): (usize, usize),
        shown: &Shown,
        out: &mut [u8],
    ) {
        let points = [0, 1, 2, 3].map(|point| {
            let (x, y) = (self.down[row][point], self.right[column][point]);
            let kind = shown[point][column];
            let ray = DVec3::new(x, y, -1.0);
            let near = discs.iter().flatten().filter(|disc| disc.may_show(row, column));
            let hits = near.filter_map(|disc| Some((disc.hit(ray)?, disc)));
            let nearest = hits.min_by(|(one, _), (other, _)| one.total_cmp(other));
            let visible = nearest.filter(|(depth, _)| {
                // A disc is below the tops, and before a side unless it is inside the wall.
                let inside = || walls.at(gaze[0] + depth * x, gaze[1] + depth * y);
                kind != TOP && !(kind == SIDE && inside())
            });
            if let Some((depth, disc)) = visible {
                return disc.colour(&self.light, ray, depth);
            }
            let [red, green, blue, top] = self.colours[usize::from(kind)];
            let highlight = top * self.highlights[row * self.size + column];
            Vec3::from([red, green, blue].map(|share| (share + highlight) as f32)) / POINT
        });
        for (channel, value) in bytes(mean(points)).into_iter().enumerate() {
            out[(channel * self.size + row) * self.size + column] = value;
        }
    }
}

impl Disc {
    fn may_show(&self, row: usize, column: usize) -> bool {
        self.rows.contains(&row) && self.columns.contains(&column)
    }

    /// How far below the eye a ray meets the disc first, m.
    fn hit(&self, ray: DVec3) -> Option<f64> {
        let (square, along) = (ray.length_squared(), ray.dot(self.middle));
        let root = along * along - square * (self.middle.length_squared() - DISC_RADIUS * DISC_RADIUS);
        (root >= 0.0).then(|| (along - root.sqrt()) / square)
    }

    fn colour(&self, light: &HeadLight, ray: DVec3, depth: f64) -> Vec3 {
        let normal = (ray * depth - self.middle) / DISC_RADIUS;
        let halfway = (DVec3::Z - ray.normalize()).normalize();
        light.shade(&self.finish, normal.z as f32, normal.dot(halfway) as f32)
    }
}

fn vector(colour: [f64; 3]) -> Vec3 {
    DVec3::from(colour).as_vec3()
}
