//! Element-wise loops, compiled for AVX-512, AVX2 and the baseline of the build; the best one is chosen at run time.
//!
//! The order of every sum is written out and no product is contracted, so all variants give the same bits.

#![allow(
    clippy::needless_range_loop,
    reason = "several slices of one length, indexed together"
)]

use std::ops::Range;

use super::optimiser::Rule;

macro_rules! dispatch {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                    fn avx512($($arg: $ty),*) {
                    body($($arg),*);
                }
                #[target_feature(enable = "avx2,fma")]
                    fn avx2($($arg: $ty),*) {
                    body($($arg),*);
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: the features were detected just now.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the features were detected just now.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*);
        }
    )*};
}

/// Slope of the leaky ReLU for negative inputs.
pub(crate) const SLOPE: f32 = 0.2;

/// exp(x), relative error below 2e-7; saturates outside +-87.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 87.0 { 87.0 } else { x };
    // Adding 1.5 * 2^23 leaves the nearest integer in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts: the first has few bits, so n times it is exact.
    let r = x - n * 0.693_359_4;
    let r = r - n * -2.121_944_4e-4;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let power = (shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23;
    p * f32::from_bits(power)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh(x): a polynomial near zero, where the exponential form would cancel.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let p = -5.704_988_7e-3;
    let p = p * z + 2.063_908_8e-2;
    let p = p * z - 5.373_971_5e-2;
    let p = p * z + 1.333_144_2e-1;
    let p = p * z - 3.333_328e-1;
    let small = p * z * x + x;
    let large = (1.0 - 2.0 / (exp(2.0 * a) + 1.0)).copysign(x);
    if a < 0.625 { small } else { large }
}

#[inline(always)]
fn leaky(x: f32) -> f32 {
    if x < 0.0 { x * SLOPE } else { x }
}

/// Sum of `of` every value, the one with index `i` in lane `i % 64`.
#[inline(always)]
fn lane_sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    for chunk in values.chunks(LANES) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += of(*value);
        }
    }
    sum_of_lanes(&lanes)
}

#[inline(always)]
fn sum_of_lanes(lanes: &[f32; LANES]) -> f32 {
    let mut sums = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

dispatch! {
    /// `target <- tau * source + (1 - tau) * target`.
    pub(crate) fn lerp(target: &mut [f32], source: &[f32], tau: f32) {
        for (t, s) in target.iter_mut().zip(source) {
            *t = tau * s + (1.0 - tau) * *t;
        }
    }

    /// `target += source`.
    pub(crate) fn add(target: &mut [f32], source: &[f32]) {
        for (t, s) in target.iter_mut().zip(source) {
            *t += s;
        }
    }

    /// One LSTM step: `gates [rows, 4 h]` holds the pre-activations of input, forget, cell and output without `bias`,
    /// and becomes the activations; `c`, `tanh_c` and `h [rows, h]` are written.
    pub(crate) fn lstm_forward(
        gates: &mut [f32], bias: &[f32], c_before: &[f32], c: &mut [f32], tanh_c: &mut [f32], h: &mut [f32],
    ) {
        let width = bias.len() / 4;
        let (bias_i, rest) = bias.split_at(width);
        let (bias_f, rest) = rest.split_at(width);
        let (bias_g, bias_o) = rest.split_at(width);
        for (row, gates) in gates.chunks_exact_mut(4 * width).enumerate() {
            let at = row * width;
            let (i, rest) = gates.split_at_mut(width);
            let (f, rest) = rest.split_at_mut(width);
            let (g, o) = rest.split_at_mut(width);
            // Slices of one known length, so that the loop has no bounds checks.
            let (o, bias_o) = (&mut o[..width], &bias_o[..width]);
            let (c_before, c) = (&c_before[at..][..width], &mut c[at..][..width]);
            let (tanh_c, h) = (&mut tanh_c[at..][..width], &mut h[at..][..width]);
            for n in 0..width {
                i[n] = sigmoid(i[n] + bias_i[n]);
                f[n] = sigmoid(f[n] + bias_f[n]);
                g[n] = tanh(g[n] + bias_g[n]);
                o[n] = sigmoid(o[n] + bias_o[n]);
                c[n] = f[n] * c_before[n] + i[n] * g[n];
                tanh_c[n] = tanh(c[n]);
                h[n] = o[n] * tanh_c[n];
            }
        }
    }

    /// Back through one LSTM step: from `dh` and `dc`, the gradients of the states after it, to `dc` of the state
    /// before and `d_gates`, that of the pre-activations.
    pub(crate) fn lstm_backward(
        gates: &[f32], c_before: &[f32], tanh_c: &[f32],
        dh: &[f32], dc: &mut [f32], d_gates: &mut [f32], width: usize,
    ) {
        for (row, d_gates) in d_gates.chunks_exact_mut(4 * width).enumerate() {
            let at = row * width;
            let gates = &gates[4 * at..][..4 * width];
            let (i, rest) = gates.split_at(width);
            let (f, rest) = rest.split_at(width);
            let (g, o) = rest.split_at(width);
            let (d_i, rest) = d_gates.split_at_mut(width);
            let (d_f, rest) = rest.split_at_mut(width);
            let (d_g, d_o) = rest.split_at_mut(width);
            let (o, d_o) = (&o[..width], &mut d_o[..width]);
            let (c_before, tanh_c) = (&c_before[at..][..width], &tanh_c[at..][..width]);
            let (dh, dc) = (&dh[at..][..width], &mut dc[at..][..width]);
            for n in 0..width {
                let d_cell = dc[n] + dh[n] * o[n] * (1.0 - tanh_c[n] * tanh_c[n]);
                d_o[n] = dh[n] * tanh_c[n] * o[n] * (1.0 - o[n]);
                d_i[n] = d_cell * g[n] * i[n] * (1.0 - i[n]);
                d_f[n] = d_cell * c_before[n] * f[n] * (1.0 - f[n]);
                d_g[n] = d_cell * i[n] * (1.0 - g[n] * g[n]);
                dc[n] = d_cell * f[n];
            }
        }
    }

    /// Adds `bias [w]` to every row of `y [rows, w]`.
    pub(crate) fn add_bias(y: &mut [f32], bias: &[f32]) {
        for row in y.chunks_exact_mut(bias.len()) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }

    /// Adds `bias [w]` to every row of `y [rows, w]`, then applies the leaky ReLU.
    pub(crate) fn add_bias_leaky(y: &mut [f32], bias: &[f32]) {
        for row in y.chunks_exact_mut(bias.len()) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y = leaky(*y + b);
            }
        }
    }

    /// `y <- leaky(u * scale + shift)` per column.
    pub(crate) fn scale_shift_leaky(u: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
        let w = scale.len();
        for (row, u) in y.chunks_exact_mut(w).zip(u.chunks_exact(w)) {
            for (((y, u), a), b) in row.iter_mut().zip(u).zip(scale).zip(shift) {
                *y = leaky(u * a + b);
            }
        }
    }

    /// As [`scale_shift_leaky`], in place.
    pub(crate) fn scale_shift_leaky_in_place(y: &mut [f32], scale: &[f32], shift: &[f32]) {
        for row in y.chunks_exact_mut(scale.len()) {
            for ((y, a), b) in row.iter_mut().zip(scale).zip(shift) {
                *y = leaky(*y * a + b);
            }
        }
    }

    /// Gradient through the leaky ReLU, from the sign of its output `y`.
    pub(crate) fn leaky_backward(d: &mut [f32], y: &[f32]) {
        for (d, y) in d.iter_mut().zip(y) {
            *d *= if *y < 0.0 { SLOPE } else { 1.0 };
        }
    }

    /// Multiplies every row of `d [rows, w]` by `scale [w]`.
    pub(crate) fn scale_rows(d: &mut [f32], scale: &[f32]) {
        for row in d.chunks_exact_mut(scale.len()) {
            for (d, s) in row.iter_mut().zip(scale) {
                *d *= s;
            }
        }
    }

    /// Column sums over columns `first..first + out.len()` of `d [rows, width]`.
    pub(crate) fn column_sums(d: &[f32], width: usize, first: usize, out: &mut [f32]) {
        out.fill(0.0);
        for row in d.chunks_exact(width) {
            for (sum, d) in out.iter_mut().zip(&row[first..]) {
                *sum += d;
            }
        }
    }

    /// Adds the square of element `i` to lane `i % 64`.
    fn add_squares(values: &[f32], lanes: &mut [f32; LANES]) {
        for chunk in values.chunks(LANES) {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value * value;
            }
        }
    }

    /// One optimiser step, see [`Rule`].
    pub(crate) fn adam(weights: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], rule: &Rule) {
        let Rule { betas, rest, step, root, eps, adaptive, scale } = *rule;
        for (((w, g), m), v) in weights.iter_mut().zip(grad).zip(first).zip(second) {
            let g = g * scale;
            *m = *m * betas.0 + g * rest.0;
            *v = *v * betas.1 + g * g * rest.1;
            let change = if adaptive { *m / (v.sqrt() * root + eps) } else { *m };
            *w -= step * change;
        }
    }

    /// Mean and biased variance of columns `first..` of `u [rows, width]`, as pairs in `out [columns, 2]`.
    ///
    /// Sums run in `f32` over 32 rows and in `f64` beyond, so that long batches lose no precision.
    pub(crate) fn column_moments(u: &[f32], width: usize, first: usize, out: &mut [f32]) {
        let rows = (u.len() / width) as f64;
        for (index, out) in out.chunks_mut(2 * TILE).enumerate() {
            let (from, columns) = (first + index * TILE, out.len() / 2);
            let mut mean = [0.0_f32; TILE];
            let mut total = [0.0_f64; TILE];
            for block in u.chunks(BLOCK * width) {
                let mut sum = [0.0_f32; TILE];
                for row in block.chunks_exact(width) {
                    for (sum, u) in sum.iter_mut().zip(&row[from..from + columns]) {
                        *sum += u;
                    }
                }
                for (total, sum) in total.iter_mut().zip(sum) {
                    *total += f64::from(sum);
                }
            }
            for (mean, total) in mean.iter_mut().zip(total) {
                *mean = (total / rows) as f32;
            }
            let mut total = [0.0_f64; TILE];
            for block in u.chunks(BLOCK * width) {
                let mut sum = [0.0_f32; TILE];
                for row in block.chunks_exact(width) {
                    for ((sum, u), mean) in sum.iter_mut().zip(&row[from..from + columns]).zip(mean) {
                        let distance = u - mean;
                        *sum += distance * distance;
                    }
                }
                for (total, sum) in total.iter_mut().zip(sum) {
                    *total += f64::from(sum);
                }
            }
            for ((out, mean), total) in out.chunks_exact_mut(2).zip(mean).zip(total) {
                out.copy_from_slice(&[mean, (total / rows) as f32]);
            }
        }
    }

    /// Sums of `d` and of `d * x` per column, `x = (u - mean) * inv_std`, for columns `first..` of
    /// `d, u [rows, width]`, as pairs in `out [columns, 2]`.
    pub(crate) fn norm_sums(
        d: &[f32], u: &[f32], mean: &[f32], inv_std: &[f32], first: usize, out: &mut [f32],
    ) {
        let width = mean.len();
        for (index, out) in out.chunks_mut(2 * TILE).enumerate() {
            let from = first + index * TILE;
            let columns = from..from + out.len() / 2;
            let (mean, inv_std) = (&mean[columns.clone()], &inv_std[columns.clone()]);
            let (mut plain, mut weighted) = ([0.0_f32; TILE], [0.0_f32; TILE]);
            for (d, u) in d.chunks_exact(width).zip(u.chunks_exact(width)) {
                let (d, u) = (&d[columns.clone()], &u[columns.clone()]);
                for i in 0..d.len().min(TILE) {
                    plain[i] += d[i];
                    weighted[i] += d[i] * ((u[i] - mean[i]) * inv_std[i]);
                }
            }
            for ((out, plain), weighted) in out.chunks_exact_mut(2).zip(plain).zip(weighted) {
                out.copy_from_slice(&[plain, weighted]);
            }
        }
    }

    /// Layer normalisation: rows of `x [rows, width]` become `(x - mean) * inv_std` with the statistics of the row,
    /// whose reciprocal deviations are stored in `inv_std [rows]`, and `out` is the leaky ReLU of that times `gamma`
    /// plus `beta`.
    pub(crate) fn layer_norm_leaky(
        x: &mut [f32], gamma: &[f32], beta: &[f32], eps: f32, inv_std: &mut [f32], out: &mut [f32],
    ) {
        let width = gamma.len();
        let share = 1.0 / width as f32;
        for ((x, out), inv_std) in x.chunks_exact_mut(width).zip(out.chunks_exact_mut(width)).zip(inv_std) {
            let mean = lane_sum(x, |x| x) * share;
            for x in x.iter_mut() {
                *x -= mean;
            }
            *inv_std = 1.0 / (lane_sum(x, |x| x * x) * share + eps).sqrt();
            for i in 0..width {
                x[i] *= *inv_std;
                out[i] = leaky(x[i] * gamma[i] + beta[i]);
            }
        }
    }

    /// Gradient through layer normalisation: `d` with respect to what follows `gamma` becomes that with respect to what
    /// was normalised; `normal [rows, width]` and `inv_std [rows]` are those of [`layer_norm_leaky`].
    pub(crate) fn layer_norm_backward(d: &mut [f32], normal: &[f32], gamma: &[f32], inv_std: &[f32]) {
        let width = gamma.len();
        let share = 1.0 / width as f32;
        for ((d, normal), inv_std) in d.chunks_exact_mut(width).zip(normal.chunks_exact(width)).zip(inv_std) {
            let mut weighted = [0.0_f32; LANES];
            for ((d, gamma), normal) in d.chunks_mut(LANES).zip(gamma.chunks(LANES)).zip(normal.chunks(LANES)) {
                for i in 0..d.len() {
                    d[i] *= gamma[i];
                    weighted[i] += d[i] * normal[i];
                }
            }
            let (offset, slope) = (lane_sum(d, |d| d) * share, sum_of_lanes(&weighted) * share);
            for i in 0..width {
                d[i] = inv_std * (d[i] - offset - normal[i] * slope);
            }
        }
    }

    /// Gradient through batch statistics: `d <- scale * (d - offset - x * slope)`, with `x` as in [`norm_sums`], where
    /// `offset` and `slope` are its two sums divided by the number of rows of the batch.
    pub(crate) fn norm_backward(
        d: &mut [f32], u: &[f32], mean: &[f32], inv_std: &[f32], scale: &[f32], offset: &[f32], slope: &[f32],
    ) {
        let w = mean.len();
        for (d, u) in d.chunks_exact_mut(w).zip(u.chunks_exact(w)) {
            for i in 0..w {
                d[i] = scale[i] * (d[i] - offset[i] - (u[i] - mean[i]) * inv_std[i] * slope[i]);
            }
        }
    }
}

/// `out [columns, rows]` becomes the transpose of `values [rows, columns]`.
pub(crate) fn transpose(values: &[f32], columns: usize, out: &mut [f32]) {
    let rows = values.len() / columns;
    assert!(
        values.len() == rows * columns && out.len() == values.len(),
        "a whole matrix and room for it"
    );
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the feature was detected just now.
        return unsafe { transpose_avx2(values, columns, out) };
    }
    transpose_block(values, columns, out, 0..rows, 0..columns);
}

fn transpose_block(values: &[f32], columns: usize, out: &mut [f32], rows: Range<usize>, within: Range<usize>) {
    let height = values.len() / columns;
    for row in rows {
        for column in within.clone() {
            out[column * height + row] = values[row * columns + column];
        }
    }
}

/// In blocks of 8 x 8 in registers; compilers make slow gathers of the plain loop.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn transpose_avx2(values: &[f32], columns: usize, out: &mut [f32]) {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    let rows = values.len() / columns;
    let (whole_rows, whole_columns) = (rows / 8 * 8, columns / 8 * 8);
    // Along the rows of `out` first: strided stores cost more than strided loads.
    for first in (0..whole_columns).step_by(8) {
        for first_row in (0..whole_rows).step_by(8) {
            let mut a = [_mm256_setzero_ps(); 8];
            for (i, a) in a.iter_mut().enumerate() {
                let row = &values[(first_row + i) * columns + first..][..8];
                // SAFETY: `row` has 8 elements.
                *a = unsafe { _mm256_loadu_ps(row.as_ptr()) };
            }
            let mut b = a;
            for i in (0..8).step_by(2) {
                b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
                b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
            }
            for i in (0..8).step_by(4) {
                for j in 0..2 {
                    a[i + 2 * j] = _mm256_shuffle_ps::<0x44>(b[i + j], b[i + j + 2]);
                    a[i + 2 * j + 1] = _mm256_shuffle_ps::<0xee>(b[i + j], b[i + j + 2]);
                }
            }
            for i in 0..4 {
                b[i] = _mm256_permute2f128_ps::<0x20>(a[i], a[i + 4]);
                b[i + 4] = _mm256_permute2f128_ps::<0x31>(a[i], a[i + 4]);
            }
            for (i, b) in b.iter().enumerate() {
                let column = &mut out[(first + i) * rows + first_row..][..8];
                // SAFETY: `column` has 8 elements.
                unsafe { _mm256_storeu_ps(column.as_mut_ptr(), *b) };
            }
        }
    }
    transpose_block(values, columns, out, whole_rows..rows, 0..columns);
    transpose_block(values, columns, out, 0..whole_rows, whole_columns..columns);
}

/// Sum of squares: in `f32` over 64 interleaved lanes of up to 64 elements, in `f64` beyond.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(LANES * LANES) {
        let mut lanes = [0.0; LANES];
        add_squares(block, &mut lanes);
        total += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    total
}

const LANES: usize = 64;
const TILE: usize = 32;
const BLOCK: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_of_all_sizes() {
        for (rows, columns) in [(1, 1), (8, 8), (16, 24), (9, 17), (3, 40), (33, 5)] {
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let mut out = vec![0.0; values.len()];
            transpose(&values, columns, &mut out);
            for row in 0..rows {
                for column in 0..columns {
                    assert_eq!(out[column * rows + row], values[row * columns + column]);
                }
            }
        }
    }

    #[test]
    fn elementary_functions_are_accurate() {
        for i in -3000..=3000 {
            let x = i as f32 * 0.01;
            let wide = f64::from(x);
            assert!((f64::from(exp(x)) / wide.exp() - 1.0).abs() < 2e-7, "exp({x})");
            assert!((f64::from(tanh(x)) - wide.tanh()).abs() < 1e-7, "tanh({x})");
            assert!(
                (f64::from(sigmoid(x)) * (1.0 + (-wide).exp()) - 1.0).abs() < 3e-7,
                "sigmoid({x})"
            );
        }
        for x in [1e-20_f32, -1e-6, 1e-3] {
            assert!((f64::from(tanh(x)) / f64::from(x).tanh() - 1.0).abs() < 2e-7);
        }
        assert_eq!((tanh(100.0), tanh(-100.0), sigmoid(-100.0) < 1e-37), (1.0, -1.0, true));
    }
}
