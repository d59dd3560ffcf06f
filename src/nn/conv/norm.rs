//! Batch normalisation over pictures and positions: rows `[pictures * positions, channels]` that are worked on in parts.

use super::Conv;
use super::op::{Parts, spread};
use crate::nn::dense::{EPSILON, MOMENTUM, NormLayer};
use crate::nn::kernels;

/// Statistics of the channels, and the affine map that normalisation with them is.
pub(super) struct Statistics {
    pub(super) mean: Vec<f32>,
    pub(super) inv_std: Vec<f32>,
    /// `gamma * inv_std`
    pub(super) scale: Vec<f32>,
    /// `beta - mean * scale`
    pub(super) shift: Vec<f32>,
}

impl Statistics {
    fn new(norm: NormLayer, weights: &[f32], mean: Vec<f32>, var: impl Iterator<Item = f32>) -> Self {
        let inv_std: Vec<f32> = var.map(|var| 1.0 / (var + EPSILON).sqrt()).collect();
        let scale: Vec<f32> = inv_std.iter().zip(&weights[norm.gamma..]).map(|(s, g)| g * s).collect();
        let shift = (mean.iter().zip(&scale).zip(&weights[norm.beta..]))
            .map(|((mean, scale), beta)| beta - mean * scale)
            .collect();
        Self {
            mean,
            inv_std,
            scale,
            shift,
        }
    }

    /// The running ones.
    pub(super) fn running(net: &Conv, norm: NormLayer, weights: &[f32], channels: usize) -> Self {
        let buffers = net.params.buffers();
        let mean = buffers[norm.running_mean..norm.running_mean + channels].to_vec();
        let var = buffers[norm.running_var..norm.running_var + channels].iter().copied();
        Self::new(norm, weights, mean, var)
    }

    /// Those of a batch `linear [rows, channels]`; the running ones move.
    pub(super) fn of_batch(net: &Conv, norm: NormLayer, weights: &[f32], linear: &[f32], parts: &Parts) -> Self {
        let channels = linear.len() / parts.rows();
        let mut moments = vec![0.0; parts.len() * 2 * channels];
        let work = parts
            .split(linear)
            .zip(moments.chunks_exact_mut(2 * channels))
            .collect();
        spread(net.threads, work, |(linear, out)| {
            kernels::column_moments(linear, channels, 0, out);
        });
        let (mean, var) = merge(&moments, parts, channels);
        move_running(net, norm, &mean, &var, parts.rows());
        Self::new(norm, weights, mean, var.into_iter())
    }
}

/// Mean and biased variance of all rows from those of the parts.
fn merge(moments: &[f32], parts: &Parts, channels: usize) -> (Vec<f32>, Vec<f32>) {
    let average = |of: &dyn Fn(&[f32]) -> f64| {
        let weighted = parts.sizes().zip(moments.chunks_exact(2 * channels));
        weighted.map(|(rows, part)| rows as f64 * of(part)).sum::<f64>() / parts.rows() as f64
    };
    (0..channels)
        .map(|channel| {
            let mean = average(&|part| f64::from(part[2 * channel]));
            let var = average(&|part| f64::from(part[2 * channel + 1]) + (f64::from(part[2 * channel]) - mean).powi(2));
            (mean as f32, var as f32)
        })
        .unzip()
}

fn move_running(net: &Conv, norm: NormLayer, mean: &[f32], var: &[f32], rows: usize) {
    // One batch that is not finite must not spoil the statistics for good.
    if !mean.iter().chain(var).all(|moment| moment.is_finite()) {
        return;
    }
    let unbias = rows as f32 / (rows as f32 - 1.0);
    let mut buffers = net.params.buffers();
    for _ in 0..net.moves {
        for (running, mean) in buffers[norm.running_mean..].iter_mut().zip(mean) {
            *running += MOMENTUM * (mean - *running);
        }
        for (running, var) in buffers[norm.running_var..].iter_mut().zip(var) {
            *running += MOMENTUM * (var * unbias - *running);
        }
    }
}

/// Gradient through the normalisation: `delta` with respect to its output becomes that with respect to its input
/// `linear`. `of_batch` says whose statistics were used.
pub(super) fn backward(
    net: &Conv,
    (norm, statistics, of_batch): (NormLayer, &Statistics, bool),
    linear: &[f32],
    parts: &Parts,
    delta: &mut [f32],
    flat: &mut [f32],
) {
    let Statistics {
        mean, inv_std, scale, ..
    } = statistics;
    let channels = mean.len();
    let mut sums = vec![0.0; parts.len() * 2 * channels];
    let work = parts
        .split(linear)
        .zip(parts.split(delta))
        .zip(sums.chunks_exact_mut(2 * channels))
        .collect();
    spread(net.threads, work, |((linear, delta), out): ((&[f32], &[f32]), _)| {
        kernels::norm_sums(delta, linear, mean, inv_std, 0, out);
    });
    let total = |index: usize| sums.chunks_exact(2 * channels).map(|part| part[index]).sum::<f32>();
    for channel in 0..channels {
        flat[norm.beta + channel] = total(2 * channel);
        flat[norm.gamma + channel] = total(2 * channel + 1);
    }
    let share = 1.0 / parts.rows() as f32;
    let shared = |at: usize| {
        flat[at..at + channels]
            .iter()
            .map(|sum| sum * share)
            .collect::<Vec<f32>>()
    };
    let (offset, slope) = (shared(norm.beta), shared(norm.gamma));
    let work = parts.split(linear).zip(parts.split_mut(delta)).collect();
    spread(net.threads, work, |(linear, delta): (&[f32], &mut [f32])| {
        if of_batch {
            kernels::norm_backward(delta, linear, mean, inv_std, scale, &offset, &slope);
        } else {
            kernels::scale_rows(delta, scale);
        }
    });
}
