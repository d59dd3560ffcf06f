//! Pictures of demonstrations: those of one episode, and those of a data set, in memory or in its files.
//!
//! A picture is `[height, width, 3]` bytes, row by row from the top, red, green, blue: as `SPiRL`'s roll-outs hold it.
//! Pictures of a data set that are needed are kept in memory up to a limit; above it, the rows that are asked for are
//! read from the file, and the last files stay open.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ndarray::Ix4;

use super::error::explain;
use super::file::{Source, Stamp};
use super::{DataError, Limits, ReadOptions};

/// Largest height and width of a picture in a file.
pub(super) const LARGEST_SIDE: usize = 2048;

/// Files that stay open while pictures are read from them.
const OPEN_FILES: usize = 16;

/// Bytes that are taken from a file at a time.
const STRIP: usize = 32 << 20;

/// Pictures in memory, `[T, height, width, 3]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Images {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// Row by row from the top, red, green, blue.
    pub bytes: Vec<u8>,
}

impl Images {
    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Checks that the size is possible and that there are `rows` pictures.
    pub(super) fn check(&self, rows: usize) -> Result<(), DataError> {
        let Self { height, width, bytes } = self;
        let sides = 1..=LARGEST_SIDE;
        if !sides.contains(height) || !sides.contains(width) {
            return Err(DataError::Episode(format!(
                "`images` should have sides of 1 to {LARGEST_SIDE}, found {height} x {width}"
            )));
        }
        let expected = rows * height * width * 3;
        if bytes.len() == expected {
            return Ok(());
        }
        Err(DataError::Episode(format!(
            "`images` should hold {expected} bytes for {rows} pictures of {height} x {width}, found {}",
            bytes.len()
        )))
    }
}

/// Where the pictures of some rows are.
#[derive(Debug, Clone)]
struct Piece {
    /// First row of the data set.
    start: usize,
    /// Rows in the file; the first one belongs to `start`.
    rows: usize,
    path: Arc<Path>,
    /// Full name of the array in its file.
    array: String,
    /// What the file was like when it was first read. While it is like that it need not be looked through again.
    stamp: Option<Stamp>,
}

/// Pieces while files are read.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    size: Option<[usize; 2]>,
    pieces: Vec<Piece>,
    parts: usize,
    given_up: bool,
}

impl Pieces {
    /// Adds the pictures of the `rows` rows from `start` on, which are in `array` of the file, or that there are none.
    ///
    /// # Errors
    /// What was expected after the pictures before, and what was found.
    pub fn add(
        &mut self,
        source: &Source,
        array: String,
        start: usize,
        rows: usize,
        size: Option<[usize; 2]>,
    ) -> Result<(), (String, String)> {
        self.parts += 1;
        if self.given_up || (self.parts > 1 && self.size.is_none() && size.is_none()) {
            return Ok(());
        }
        if self.parts > 1 && self.size != size {
            let describe = |size: Option<[usize; 2]>| match size {
                Some([height, width]) => format!("pictures of {height} x {width} pixels"),
                None => "no pictures".to_owned(),
            };
            return Err((format!("{} as before", describe(self.size)), describe(size)));
        }
        self.size = size;
        if size.is_some() {
            let path = match self.pieces.last() {
                Some(last) if *last.path == *source.path => last.path.clone(),
                _ => source.path.into(),
            };
            self.pieces.push(Piece {
                start,
                rows,
                path,
                array,
                stamp: source.stamp,
            });
        }
        Ok(())
    }

    /// From now on there are no pictures.
    pub fn give_up(&mut self) {
        self.given_up = true;
    }

    /// Whether there are none any more.
    pub fn given_up(&self) -> bool {
        self.given_up
    }

    /// The pictures, if there are any.
    pub fn finish(self, rows: usize, options: &ReadOptions) -> Option<Arc<ImageStore>> {
        let [height, width] = self.size.filter(|_| !self.given_up)?;
        Some(Arc::new(ImageStore {
            height,
            width,
            rows,
            limits: options.limits,
            memory: options.image_memory,
            pieces: self.pieces,
            kept: OnceLock::new(),
            open: Mutex::default(),
        }))
    }
}

/// An open array of pictures; the array is closed before its file.
#[derive(Debug)]
struct Open {
    piece: usize,
    dataset: hdf5::Dataset,
    _file: hdf5::File,
}

/// The pictures of a data set, one per row.
#[derive(Debug)]
pub struct ImageStore {
    height: usize,
    width: usize,
    rows: usize,
    limits: Limits,
    /// Bytes that may be kept.
    memory: u64,
    pieces: Vec<Piece>,
    kept: OnceLock<Vec<u8>>,
    /// The arrays read last, the newest at the end.
    open: Mutex<Vec<Open>>,
}

impl ImageStore {
    /// Pictures that are in memory already.
    pub(super) fn in_memory(images: Images) -> Self {
        let Images { height, width, bytes } = images;
        Self {
            height,
            width,
            rows: bytes.len() / (height * width * 3).max(1),
            limits: Limits::default(),
            memory: u64::MAX,
            pieces: Vec::new(),
            kept: OnceLock::from(bytes),
            open: Mutex::default(),
        }
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels from left to right.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of one picture.
    pub fn picture_bytes(&self) -> usize {
        self.height * self.width * 3
    }

    /// Reads all pictures into memory if they do not exceed [`ReadOptions::image_memory`]; tells whether they are there.
    ///
    /// # Errors
    /// As [`ImageStore::read`].
    pub fn keep(&self) -> Result<bool, DataError> {
        let bytes = (self.rows as u64).saturating_mul(self.picture_bytes() as u64);
        if self.kept.get().is_some() {
            return Ok(true);
        }
        if bytes > self.memory {
            return Ok(false);
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have read them in the meantime.
        if self.kept.get().is_none() {
            let mut all = Vec::new();
            if all.try_reserve_exact(bytes as usize).is_err() {
                return Ok(false);
            }
            self.stream(&mut open, 0..self.rows, &mut all)?;
            open.clear();
            let _ = self.kept.set(all);
        }
        Ok(true)
    }

    /// All pictures, if they are in memory.
    pub fn kept(&self) -> Option<&[u8]> {
        self.kept.get().map(Vec::as_slice)
    }

    /// Puts the pictures of `rows` into `into`, in place of what it holds.
    ///
    /// # Errors
    /// [`DataError`] if there are no such rows, or if a file has changed since it was first read, has gone or is damaged.
    pub fn read(&self, rows: Range<usize>, into: &mut Vec<u8>) -> Result<(), DataError> {
        into.clear();
        if rows.start > rows.end || rows.end > self.rows {
            return Err(DataError::Settings(format!(
                "there are no pictures of rows {rows:?}, only of {}",
                self.rows
            )));
        }
        let width = self.picture_bytes();
        match self.kept() {
            Some(all) => into.extend_from_slice(&all[rows.start * width..rows.end * width]),
            None => {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                self.stream(&mut open, rows, into)?;
            }
        }
        Ok(())
    }

    /// Appends pictures from the files.
    fn stream(&self, open: &mut Vec<Open>, mut rows: Range<usize>, into: &mut Vec<u8>) -> Result<(), DataError> {
        while !rows.is_empty() {
            let after = self.pieces.partition_point(|piece| piece.start <= rows.start);
            let Some((number, piece)) = after.checked_sub(1).and_then(|at| Some((at, self.pieces.get(at)?))) else {
                return Err(DataError::Settings(format!(
                    "there is no picture of row {}",
                    rows.start
                )));
            };
            let first = rows.start - piece.start;
            let last = (rows.end - piece.start)
                .min(
                    self.pieces
                        .get(after)
                        .map_or(piece.rows, |next| next.start - piece.start),
                )
                .min(first + (STRIP / self.picture_bytes()).max(1));
            let dataset = self.opened(open, number, piece)?;
            let strip = dataset.read_slice::<u8, _, Ix4>(ndarray::s![first..last, .., .., ..]);
            let strip = strip.map_err(|error| DataError::Read {
                path: piece.path.to_path_buf(),
                dataset: piece.array.clone(),
                problem: explain(&error),
            })?;
            into.extend(strip.iter());
            rows.start = piece.start + last;
        }
        Ok(())
    }

    /// The array of a piece, which is opened and checked if it is not open already.
    fn opened<'a>(
        &self,
        open: &'a mut Vec<Open>,
        number: usize,
        piece: &Piece,
    ) -> Result<&'a hdf5::Dataset, DataError> {
        if let Some(at) = open.iter().position(|open| open.piece == number) {
            let found = open.remove(at);
            open.push(found);
        } else {
            let source = Source::reopen(&piece.path, self.limits, 0, piece.stamp)?;
            let (group, name) = piece.array.rsplit_once('/').unwrap_or(("", &piece.array));
            let part = source.descend(group)?;
            let dataset = match source.images(&part, name, piece.rows)? {
                Some((dataset, size)) if size == [self.height, self.width] => dataset,
                _ => {
                    let expected = format!("pictures of {} x {} pixels, as before", self.height, self.width);
                    return Err(source.wrong(&piece.array, expected, "a file that has changed"));
                }
            };
            if open.len() >= OPEN_FILES {
                open.remove(0);
            }
            open.push(Open {
                piece: number,
                dataset,
                _file: source.file,
            });
        }
        match open.last() {
            Some(newest) => Ok(&newest.dataset),
            None => Err(DataError::Settings("no file is open".to_owned())),
        }
    }

    /// The files that hold the pictures.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.pieces.iter().map(|piece| piece.path.to_path_buf()).collect();
        files.dedup();
        files
    }
}

/// A picture `[height, width, 3]` in another size, `[to, to, 3]`, by the bilinear filter: where a picture shrinks, its
/// triangle grows with the step, so that no pixel is passed over (as PIL's `BILINEAR` does). First along the rows, then
/// along the columns, rounded to bytes after each.
pub(super) fn resize(from: &[u8], [height, width]: [usize; 2], to: usize, between: &mut Vec<u8>, out: &mut [u8]) {
    between.clear();
    between.resize(height * to * 3, 0);
    for x in 0..to {
        let taps = Taps::new(x, width, to);
        for y in 0..height {
            for channel in 0..3 {
                let value = taps.apply(|at| from[(y * width + at) * 3 + channel]);
                between[(y * to + x) * 3 + channel] = value;
            }
        }
    }
    for y in 0..to {
        let taps = Taps::new(y, height, to);
        for at in 0..to * 3 {
            out[y * to * 3 + at] = taps.apply(|row| between[row * to * 3 + at]);
        }
    }
}

/// Which pixels make a new one, and with which weights.
struct Taps {
    first: usize,
    last: usize,
    centre: f64,
    support: f64,
    sum: f64,
}

impl Taps {
    /// Those of pixel `at` of `to`, from `from` pixels.
    fn new(at: usize, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        let centre = (at as f64 + 0.5) * scale;
        let mut taps = Self {
            first: (centre - support + 0.5).max(0.0) as usize,
            last: ((centre + support + 0.5) as usize).min(from),
            centre,
            support,
            sum: 1.0,
        };
        taps.sum = (taps.first..taps.last).map(|at| taps.weight(at)).sum();
        taps
    }

    fn weight(&self, at: usize) -> f64 {
        (1.0 - ((at as f64 + 0.5 - self.centre) / self.support).abs()).max(0.0) / self.sum
    }

    fn apply(&self, pixel: impl Fn(usize) -> u8) -> u8 {
        let value: f64 = (self.first..self.last)
            .map(|at| self.weight(at) * f64::from(pixel(at)))
            .sum();
        // A cast from a floating-point number stops at the ends of the range.
        (value + 0.5) as u8
    }
}
