//! Pictures of training windows: those that are stored, or drawn from recorded states.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::images::resize;
use super::{Column, DataError, Dataset, ImageStore, Values};
use crate::skills::brightness;

/// Side arrays that [`Paint`] works from; whoever wants pictures drawn reads them too
/// ([`ReadOptions::infos`](super::ReadOptions::infos)): joint positions, number of the layout, the point looked at.
pub const PAINTED_FROM: [&str; 3] = ["qpos", "layout", "gaze"];

/// Draws what an environment looked like in a recorded state.
pub trait Paint: Send + Sync {
    /// Height and width of its pictures.
    fn size(&self) -> usize;

    /// Draws a picture `[3, size, size]` (red, green, blue; rows from the top) of the joint positions `qpos`, in the
    /// layout of this number and with the point looked at, where the recording has them. It depends on these alone.
    ///
    /// # Errors
    /// What is missing or does not fit, in a few words.
    fn paint(
        &mut self,
        layout: Option<i64>,
        qpos: &[f64],
        gaze: Option<[f64; 2]>,
        out: &mut [u8],
    ) -> Result<(), String>;

    /// One that draws the same, for another thread.
    fn another(&self) -> Box<dyn Paint>;
}

/// Where pictures come from.
enum Origin {
    Stored,
    /// One painter for every thread that has been of use so far, at least one.
    Drawn(Vec<Hand>),
}

/// A painter with its buffers.
struct Hand {
    painter: Box<dyn Paint>,
    picture: Vec<u8>,
    qpos: Vec<f64>,
    gaze: Vec<f64>,
}

impl Hand {
    fn new(painter: Box<dyn Paint>) -> Self {
        let size = painter.size();
        Self {
            painter,
            picture: vec![0; 3 * size * size],
            qpos: Vec::new(),
            gaze: Vec::new(),
        }
    }
}

impl Clone for Origin {
    fn clone(&self) -> Self {
        match self {
            Self::Stored => Self::Stored,
            Self::Drawn(hands) => {
                let first = hands.iter().take(1);
                Self::Drawn(first.map(|hand| Hand::new(hand.painter.another())).collect())
            }
        }
    }
}

/// The pictures of a data set in the size that a network takes.
#[derive(Clone)]
pub(super) struct Pictures {
    dataset: Arc<Dataset>,
    size: usize,
    origin: Origin,
    /// Pictures of one window as they are in the file.
    stored: Vec<u8>,
}

impl fmt::Debug for Pictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Stored => "stored",
            Origin::Drawn(_) => "drawn",
        };
        f.debug_struct("Pictures")
            .field("size", &self.size)
            .field("origin", &origin)
            .finish_non_exhaustive()
    }
}

impl Pictures {
    /// Stored pictures if there are any, otherwise those that `painter` draws.
    pub fn new(dataset: Arc<Dataset>, size: usize, painter: Option<Box<dyn Paint>>) -> Result<Self, DataError> {
        let wrong = |problem: String| {
            Err(DataError::Settings(format!(
                "pictures of {}: {problem}",
                dataset.origin()
            )))
        };
        if size == 0 {
            return wrong("expected a size of at least 1 pixel, found 0".to_owned());
        }
        let origin = match (dataset.images(), painter) {
            (Some(images), _) => {
                images.keep()?;
                Origin::Stored
            }
            (None, Some(painter)) => {
                if painter.size() != size {
                    return wrong(format!(
                        "the scene draws pictures of {} pixels a side, the model takes {size}",
                        painter.size()
                    ));
                }
                if !dataset.infos().contains_key("qpos") {
                    return wrong(format!(
                        "there is no `images` in it, and no `infos/qpos` from which they could be drawn{}; collect the \
                         demonstrations anew in a scene with `observation.pixels`",
                        left_out(&dataset)
                    ));
                }
                Origin::Drawn(vec![Hand::new(painter)])
            }
            (None, None) => {
                return wrong(format!(
                    "there is no `images` in it{}, and its scene has no `observation.pixels` from which they could be \
                     drawn; name a scene with pixels, or store pictures as `images` [N, height, width, 3]",
                    left_out(&dataset)
                ));
            }
        };
        let mut pictures = Self {
            dataset,
            size,
            origin,
            stored: Vec::new(),
        };
        // What the painter misses should be said now, and not in the middle of training.
        if matches!(pictures.origin, Origin::Drawn(_)) && !pictures.dataset.is_empty() {
            pictures.windows(std::iter::once(0..1), 1)?;
        }
        Ok(pictures)
    }

    /// Height and width.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Pictures `[B, length, 3, size, size]` of windows that are `length` rows long, from -1 to 1.
    pub fn windows(
        &mut self,
        windows: impl ExactSizeIterator<Item = Range<usize>>,
        length: usize,
    ) -> Result<Vec<f32>, DataError> {
        let window = length * 3 * self.size * self.size;
        let mut out = vec![0.0; windows.len() * window];
        match (&mut self.origin, self.dataset.images()) {
            (Origin::Drawn(hands), _) => {
                let rows: Vec<Range<usize>> = windows.collect();
                let threads = rayon::current_num_threads().clamp(1, rows.len().max(1));
                while hands.len() < threads
                    && let Some(first) = hands.first()
                {
                    let painter = first.painter.another();
                    hands.push(Hand::new(painter));
                }
                // Every picture depends on its row alone, so it does not matter who draws it.
                let share = rows.len().div_ceil(threads).max(1);
                let parts = out.par_chunks_mut(share * window).zip(rows.par_chunks(share));
                let dataset = &*self.dataset;
                (hands.par_iter_mut().zip(parts)).try_for_each(|(hand, (out, rows))| {
                    let rows = rows.iter().cloned().flatten();
                    hand.draw(dataset, rows, out)
                })?;
            }
            (Origin::Stored, Some(store)) => match store.kept() {
                Some(all) => {
                    let width = store.picture_bytes();
                    let rows: Vec<Range<usize>> = windows.collect();
                    out.par_chunks_mut(window)
                        .zip(rows)
                        .for_each_init(Scratch::default, |scratch, (out, rows)| {
                            convert(
                                store,
                                &all[rows.start * width..rows.end * width],
                                self.size,
                                scratch,
                                out,
                            );
                        });
                }
                None => {
                    let mut scratch = Scratch::default();
                    for (out, rows) in out.chunks_exact_mut(window).zip(windows) {
                        store.read(rows, &mut self.stored)?;
                        convert(store, &self.stored, self.size, &mut scratch, out);
                    }
                }
            },
            (Origin::Stored, None) => {}
        }
        Ok(out)
    }
}

/// What was said about pictures that were left out while reading.
fn left_out(dataset: &Dataset) -> String {
    let notes: Vec<&str> = (dataset.notes().iter())
        .filter(|note| note.contains("pictures") || note.contains("qpos"))
        .map(String::as_str)
        .collect();
    match notes.as_slice() {
        [] => String::new(),
        notes => format!(" ({})", notes.join("; ")),
    }
}

/// Buffers for resizing.
#[derive(Default)]
struct Scratch {
    between: Vec<u8>,
    resized: Vec<u8>,
}

/// Stored pictures `[T, H, W, 3]` as network input `[T, 3, size, size]`.
fn convert(store: &ImageStore, bytes: &[u8], size: usize, scratch: &mut Scratch, out: &mut [f32]) {
    let from = [store.height(), store.width()];
    let pixels = size * size;
    for (picture, out) in bytes
        .chunks_exact(store.picture_bytes())
        .zip(out.chunks_exact_mut(3 * pixels))
    {
        let picture = if from == [size, size] {
            picture
        } else {
            scratch.resized.resize(3 * pixels, 0);
            resize(picture, from, size, &mut scratch.between, &mut scratch.resized);
            &scratch.resized
        };
        for (channel, out) in out.chunks_exact_mut(pixels).enumerate() {
            for (out, pixel) in out.iter_mut().zip(picture.chunks_exact(3)) {
                *out = brightness(pixel[channel]);
            }
        }
    }
}

impl Hand {
    /// Pictures of recorded states as network input `[T, 3, size, size]`.
    fn draw(&mut self, dataset: &Dataset, rows: impl Iterator<Item = usize>, out: &mut [f32]) -> Result<(), DataError> {
        let Self {
            painter,
            picture,
            qpos,
            gaze,
        } = self;
        let infos = PAINTED_FROM.map(|name| dataset.infos().get(name));
        let [positions, layouts, gazes] = infos;
        for (row, out) in rows.zip(out.chunks_exact_mut(picture.len())) {
            if let Some(positions) = positions {
                row_of(positions, row, qpos);
            }
            let layout = layouts.and_then(|column| whole(column, row));
            let looked_at = gazes.and_then(|column| {
                row_of(column, row, gaze);
                gaze.as_slice().try_into().ok()
            });
            painter.paint(layout, qpos, looked_at, picture).map_err(|problem| {
                let origin = dataset.origin();
                DataError::Settings(format!("{origin}: the picture of row {row} cannot be drawn: {problem}"))
            })?;
            for (out, byte) in out.iter_mut().zip(picture.iter()) {
                *out = brightness(*byte);
            }
        }
        Ok(())
    }
}

/// The numbers of one row in double precision.
fn row_of(column: &Column, row: usize, into: &mut Vec<f64>) {
    let at = row * column.width..(row + 1) * column.width;
    into.clear();
    match &column.values {
        Values::F32(values) => into.extend(values[at].iter().map(|&value| f64::from(value))),
        Values::F64(values) => into.extend_from_slice(&values[at]),
        Values::I64(values) => into.extend(values[at].iter().map(|&value| value as f64)),
        Values::U8(values) => into.extend(values[at].iter().map(|&value| f64::from(value))),
    }
}

/// The number of one row, if it is a whole one.
fn whole(column: &Column, row: usize) -> Option<i64> {
    match &column.values {
        Values::I64(values) if column.width == 1 => values.get(row).copied(),
        Values::U8(values) if column.width == 1 => values.get(row).map(|&value| i64::from(value)),
        _ => None,
    }
}
