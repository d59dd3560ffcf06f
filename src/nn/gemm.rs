//! Matrix products of row-major `f32` slices on the `gemm` crate, single-threaded, and their row-wise sharding.

/// A matrix view: `rows x cols` with strides in elements.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Row-major `rows x cols`.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Transposed view.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Columns `from..from + cols`.
    pub(crate) fn columns(self, from: usize, cols: usize) -> Self {
        assert!(from + cols <= self.cols, "column range");
        Self {
            data: &self.data[(from * self.col_stride).min(self.data.len())..],
            cols,
            ..self
        }
    }

    /// Rows `from..from + rows`.
    pub(crate) fn row_range(self, from: usize, rows: usize) -> Self {
        assert!(from + rows <= self.rows, "row range");
        Self {
            data: &self.data[(from * self.row_stride).min(self.data.len())..],
            rows,
            ..self
        }
    }

    fn check(&self) {
        if self.rows > 0 && self.cols > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride;
            assert!(last < self.data.len(), "matrix view out of bounds");
        }
    }
}

/// Whether a product replaces the destination or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// `dst = a b`
    Replace,
    /// `dst += a b`
    Add,
}

/// Longest inner dimension in one call of the library: it splits longer ones depending on the other dimensions, and
/// then the bits of a row would depend on how many rows are computed together.
const DEPTH: usize = 512;
/// The library takes another path, with another order of summation, for products of up to 256 elements.
const SMALL: usize = 256;
/// Rows per thread at least.
const GRAIN: usize = 32;

/// `dst = a b` or `dst += a b` for row-major `dst [a.rows, b.cols]`.
pub(crate) fn product(a: Mat<'_>, b: Mat<'_>, into: Into, dst: &mut [f32]) {
    assert_eq!(a.cols, b.rows, "inner dimensions");
    assert_eq!(dst.len(), a.rows * b.cols, "size of the product");
    let mut from = 0;
    loop {
        let depth = (a.cols - from).min(DEPTH);
        let into = if from == 0 { into } else { Into::Add };
        multiply(a.columns(from, depth), b.row_range(from, depth), into, dst);
        from += depth;
        if from == a.cols {
            return;
        }
    }
}

fn multiply(a: Mat<'_>, b: Mat<'_>, into: Into, dst: &mut [f32]) {
    a.check();
    b.check();
    // SAFETY: both views lie inside their slices (`check`), `dst` holds `rows * cols` elements (checked by the caller)
    // and, being borrowed mutably, overlaps neither.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            dst.as_mut_ptr(),
            1,
            b.cols as isize,
            into == Into::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Calls `work(first_row, rows)` on up to `threads` consecutive blocks of the rows of `data [_, width]`.
///
/// For products of at least this width, and for work that treats every row alone, the bits do not depend on `threads`.
pub(crate) fn for_row_blocks(threads: usize, data: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let threads = if width * GRAIN > SMALL { threads } else { 1 };
    for_blocks(threads, data, width, work);
}

/// As [`for_row_blocks`], for element-wise work of any width.
pub(crate) fn for_blocks(threads: usize, data: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = data.len() / width.max(1);
    let blocks = threads.min(rows / GRAIN);
    if blocks < 2 {
        return work(0, data);
    }
    let work = &work;
    rayon::scope(|scope| {
        let (mut first, mut rest) = (0, data);
        for index in 1..=blocks {
            // The last block takes what the others, of whole grains, leave.
            let next = if index == blocks {
                rows
            } else {
                rows * index / blocks / GRAIN * GRAIN
            };
            let (block, tail) = rest.split_at_mut((next - first) * width);
            scope.spawn(move |_| work(first, block));
            (first, rest) = (next, tail);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_views_match_the_definition() {
        let a: Vec<f32> = (0..12).map(|i| i as f32 - 5.0).collect(); // 3 x 4
        let b: Vec<f32> = (0..20).map(|i| (i * i % 7) as f32).collect(); // 4 x 5
        let mut dst = vec![1.0; 6];
        product(
            Mat::new(&a, 3, 4),
            Mat::new(&b, 4, 5).columns(2, 2),
            Into::Add,
            &mut dst,
        );
        for i in 0..3 {
            for j in 0..2 {
                let sum: f32 = (0..4).map(|k| a[4 * i + k] * b[5 * k + 2 + j]).sum();
                assert_eq!(dst[2 * i + j], 1.0 + sum);
            }
        }
        let mut dst = vec![0.0; 8];
        product(
            Mat::new(&a, 3, 4).t(),
            Mat::new(&a, 3, 4).columns(1, 2),
            Into::Replace,
            &mut dst,
        );
        for i in 0..4 {
            for j in 0..2 {
                let sum: f32 = (0..3).map(|k| a[4 * k + i] * a[4 * k + 1 + j]).sum();
                assert_eq!(dst[2 * i + j], sum);
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let x: Vec<f32> = (0..130 * 70)
            .map(|i| ((i * 7919) % 1000) as f32 / 997.0 - 0.5)
            .collect();
        let w: Vec<f32> = (0..70 * 33)
            .map(|i| ((i * 104_729) % 1000) as f32 / 991.0 - 0.5)
            .collect();
        let run = |threads| {
            let mut y = vec![0.0; 130 * 33];
            for_row_blocks(threads, &mut y, 33, |first, y| {
                let x = Mat::new(&x, 130, 70).row_range(first, y.len() / 33);
                product(x, Mat::new(&w, 33, 70).t(), Into::Replace, y);
            });
            y
        };
        for threads in 2..5 {
            assert!(run(1) == run(threads), "{threads} threads");
        }
    }
}
