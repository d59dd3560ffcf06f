//! Stacks of dense layers as one autograd node: the operation behind [`Mlp`](super::Mlp) and [`Linear`](super::Linear).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};

use super::backward::contribute;
use super::composed::{self, Weights};
use super::gemm::{Into, Mat, for_blocks, for_row_blocks, product};
use super::params::{Builder, Scratch, slice_of, with_slice};
use super::{Compute, Mode, Params, init, kernels};
use crate::rng::Stream;

/// Added to the variance before the square root (`PyTorch` default).
pub(super) const EPSILON: f32 = 1e-5;
/// Weight of the newest batch in the running statistics (`PyTorch` default).
pub(super) const MOMENTUM: f32 = 0.1;

/// Offsets of a batch-normalisation layer; the statistics lie in the buffer store.
#[derive(Debug, Clone, Copy)]
pub(super) struct NormLayer {
    pub(super) gamma: usize,
    pub(super) beta: usize,
    pub(super) running_mean: usize,
    pub(super) running_var: usize,
}

/// What is added after the product with the weight.
#[derive(Debug, Clone, Copy)]
pub(super) enum Offset {
    /// A bias at this offset.
    Bias(usize),
    /// Batch normalisation.
    Norm(NormLayer),
    /// Layer normalisation, with the offsets of gain and shift. Always followed by an activation.
    LayerNorm { gamma: usize, beta: usize },
}

/// What follows a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    None,
    /// Slope 0.2. Always follows a batch normalisation.
    LeakyRelu,
}

/// One dense layer: weight `[output, input]`, then bias or batch normalisation, then an activation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) weight: usize,
    pub(super) offset: Offset,
    pub(super) activation: Activation,
}

impl Layer {
    /// A layer with bias and the fresh weights of `PyTorch`'s `Linear`, named `{prefix}weight` and `{prefix}bias`.
    pub(super) fn uniform(
        builder: &mut Builder,
        prefix: &str,
        (input, output): (usize, usize),
        activation: Activation,
        rng: &mut Stream,
    ) -> Self {
        let weight = builder.weight(format!("{prefix}weight"), &[output, input], |w| {
            init::uniform(rng, w, input)
        });
        let bias = builder.weight(format!("{prefix}bias"), &[output], |w| init::uniform(rng, w, input));
        Self {
            input,
            output,
            weight,
            offset: Offset::Bias(bias),
            activation,
        }
    }

    fn weight<'a>(&self, weights: &'a [f32]) -> Mat<'a> {
        Mat::new(
            &weights[self.weight..self.weight + self.output * self.input],
            self.output,
            self.input,
        )
    }
}

/// A stack of layers with its weights.
#[derive(Debug, Clone)]
pub(super) struct Dense {
    pub(super) params: Params,
    pub(super) threads: usize,
    layers: Arc<[Layer]>,
    transposed: Arc<Mutex<Transposed>>,
}

/// The weights `[input, output]` of all layers, each where its weights `[output, input]` lie in the flat variable: the
/// library packs a transposed right-hand side more slowly than they are transposed once per change.
#[derive(Debug, Default)]
struct Transposed {
    /// Version of the weights; `None` before the first pass.
    of: Option<u64>,
    values: Arc<Vec<f32>>,
}

impl Dense {
    pub(super) fn new(params: Params, layers: impl std::convert::Into<Arc<[Layer]>>) -> Self {
        Self {
            params,
            threads: 1,
            layers: layers.into(),
            transposed: Arc::default(),
        }
    }

    /// An independent copy on the same device.
    pub(super) fn deep_clone(&self) -> Result<Self> {
        Ok(self.with_params(self.params.deep_clone()?))
    }

    /// An independent copy of another kind of computation.
    pub(super) fn moved(&self, to: &Compute) -> Result<Self> {
        Ok(self.with_params(to.take(&self.params)?))
    }

    fn with_params(&self, params: Params) -> Self {
        Self {
            threads: self.threads,
            ..Self::new(params, self.layers.clone())
        }
    }

    /// The transposed matrices of these `weights`, which are the current ones.
    fn transposed(&self, weights: &[f32]) -> Arc<Vec<f32>> {
        let version = self.params.version();
        let mut cache = self.transposed.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.of != Some(version) {
            // A pass in another thread may still read the old ones.
            if Arc::get_mut(&mut cache.values).is_none() {
                cache.values = Arc::default();
            }
            let values = Arc::make_mut(&mut cache.values);
            values.resize(weights.len(), 0.0);
            for layer in self.layers.iter() {
                let range = layer.weight..layer.weight + layer.output * layer.input;
                kernels::transpose(&weights[range.clone()], layer.input, &mut values[range]);
            }
            cache.of = Some(version);
        }
        cache.values.clone()
    }

    /// `x [B, in]` -> `[B, out]`. With `frozen` the weights get no gradient.
    pub(super) fn forward(&self, x: &Tensor, mode: Mode, frozen: bool) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let Some(first) = self.layers.first() else {
            bail!("a network without layers")
        };
        if width != first.input {
            bail!("the network takes {} numbers per row, got {width}", first.input);
        }
        if mode == Mode::Train && rows < 2 && self.layers.iter().any(|layer| matches!(layer.offset, Offset::Norm(_))) {
            bail!("batch statistics need at least two rows");
        }
        if self.params.is_composed() {
            return composed::dense(&self.layers, Weights::new(&self.params, frozen), x, mode);
        }
        let x = x.contiguous()?;
        let weights = if frozen {
            self.params.var().as_detached_tensor()
        } else {
            self.params.var().as_tensor().clone()
        };
        let keep = match (weights.track_op(), x.track_op()) {
            (true, _) => Keep::All,
            (false, true) => Keep::InputGradient,
            (false, false) => Keep::Nothing,
        };
        let op = DenseOp {
            net: self.clone(),
            mode,
            keep,
            version: self.params.version(),
            saved: Mutex::default(),
        };
        x.apply_op2(&weights, op)
    }
}

/// What a backward pass will need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    InputGradient,
    All,
}

/// Activations of one layer.
struct Saved {
    /// Layer output `[B, output]`; absent for the last layer, whose output needs no derivative.
    out: Option<Scratch>,
    norm: Option<SavedNorm>,
    rows: Option<SavedRows>,
}

/// What layer normalisation made of the rows.
struct SavedRows {
    /// Normalised linear output `[B, output]`.
    normal: Scratch,
    /// `[B]`
    inv_std: Scratch,
}

struct SavedNorm {
    /// Linear output before normalisation `[B, output]`; absent if no gradient needs it.
    linear: Option<Scratch>,
    mean: Vec<f32>,
    inv_std: Vec<f32>,
    /// `gamma * inv_std`
    scale: Vec<f32>,
}

struct DenseOp {
    net: Dense,
    mode: Mode,
    keep: Keep,
    version: u64,
    saved: Mutex<Vec<Saved>>,
}

impl CustomOp2 for DenseOp {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weights) = (slice_of(x, lx)?, slice_of(w, lw)?);
        let rows = lx.dims()[0];
        let transposed = self.net.transposed(weights);
        let mut saved: Vec<Saved> = Vec::with_capacity(self.net.layers.len());
        let mut result = Vec::new();
        let mut previous: Option<Scratch> = None;
        for (index, layer) in self.net.layers.iter().enumerate() {
            let last = index + 1 == self.net.layers.len();
            let input: &[f32] = match (&previous, saved.last()) {
                (Some(scratch), _) => scratch,
                (None, Some(Saved { out: Some(out), .. })) => out,
                _ => x,
            };
            let (out, norm, of_rows) = self.layer_forward(layer, input, rows, weights, &transposed);
            if last {
                result = out.to_vec();
                saved.push(Saved {
                    out: (layer.activation != Activation::None).then_some(out),
                    norm,
                    rows: of_rows,
                });
            } else if self.keep == Keep::Nothing {
                previous = Some(out);
            } else {
                saved.push(Saved {
                    out: Some(out),
                    norm,
                    rows: of_rows,
                });
            }
        }
        if self.keep != Keep::Nothing {
            *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        }
        let width = self.net.layers.last().map_or(0, |layer| layer.output);
        Ok((CpuStorage::F32(result), Shape::from((rows, width))))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.net.params.check_version(self.version, self.name())?;
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let grad = grad.contiguous()?;
        let gradients = with_slice(x, |x_values| {
            with_slice(w, |weights| {
                with_slice(&grad, |grad| {
                    self.backward(x_values, weights, grad, &saved, x.track_op(), w.track_op())
                })
            })
        })?;
        let input = gradients
            .input
            .map(|values| Tensor::from_vec(values, x.dims(), &Device::Cpu))
            .transpose()?;
        let weights = gradients
            .weights
            .map(|flat| contribute(&self.net.params, flat))
            .transpose()?
            .flatten();
        Ok((input, weights))
    }
}

/// What a backward pass was asked for.
struct Gradients {
    input: Option<Vec<f32>>,
    weights: Option<Vec<f32>>,
}

impl DenseOp {
    fn layer_forward(
        &self,
        layer: &Layer,
        input: &[f32],
        rows: usize,
        weights: &[f32],
        transposed: &[f32],
    ) -> (Scratch, Option<SavedNorm>, Option<SavedRows>) {
        let (threads, width) = (self.net.threads, layer.output);
        let mut out = self.net.params.take(rows * width);
        let x = Mat::new(input, rows, layer.input);
        let matrix = Mat::new(&transposed[layer.weight..][..width * layer.input], layer.input, width);
        let norm = match layer.offset {
            Offset::Norm(norm) => norm,
            Offset::Bias(bias) => {
                let bias = &weights[bias..bias + width];
                for_row_blocks(threads, &mut out, width, |first, out| {
                    product(x.row_range(first, out.len() / width), matrix, Into::Replace, out);
                    match layer.activation {
                        Activation::None => kernels::add_bias(out, bias),
                        Activation::LeakyRelu => kernels::add_bias_leaky(out, bias),
                    }
                });
                return (out, None, None);
            }
            Offset::LayerNorm { gamma, beta } => {
                let (gamma, beta) = (&weights[gamma..gamma + width], &weights[beta..beta + width]);
                let mut normal = self.net.params.take(rows * width);
                let mut inv_std = self.net.params.take(rows);
                for_row_blocks(threads, &mut normal, width, |first, normal| {
                    product(x.row_range(first, normal.len() / width), matrix, Into::Replace, normal);
                });
                kernels::layer_norm_leaky(&mut normal, gamma, beta, EPSILON, &mut inv_std, &mut out);
                return (out, None, Some(SavedRows { normal, inv_std }));
            }
        };
        let (gamma, beta) = (
            &weights[norm.gamma..norm.gamma + width],
            &weights[norm.beta..norm.beta + width],
        );
        let mut linear = self.net.params.take(rows * width);
        let multiply = |first: usize, linear: &mut [f32]| {
            product(x.row_range(first, linear.len() / width), matrix, Into::Replace, linear);
        };
        let (mean, inv_std) = match self.mode {
            Mode::Train => {
                for_row_blocks(threads, &mut linear, width, multiply);
                self.batch_statistics(&linear, rows, width, norm)
            }
            Mode::Eval => {
                let buffers = self.net.params.buffers();
                let mean = buffers[norm.running_mean..norm.running_mean + width].to_vec();
                let var = &buffers[norm.running_var..norm.running_var + width];
                (mean, var.iter().map(|var| 1.0 / (var + EPSILON).sqrt()).collect())
            }
        };
        let scale: Vec<f32> = gamma
            .iter()
            .zip(&inv_std)
            .map(|(gamma, inv_std)| gamma * inv_std)
            .collect();
        let shift: Vec<f32> = beta
            .iter()
            .zip(&mean)
            .zip(&scale)
            .map(|((beta, mean), s)| beta - mean * s)
            .collect();
        let needs_linear = self.keep == Keep::All || (self.keep == Keep::InputGradient && self.mode == Mode::Train);
        if self.mode == Mode::Train || needs_linear {
            if self.mode == Mode::Eval {
                for_row_blocks(threads, &mut linear, width, multiply);
            }
            let linear: &[f32] = &linear;
            for_row_blocks(threads, &mut out, width, |first, out| {
                let linear = &linear[first * width..first * width + out.len()];
                kernels::scale_shift_leaky(linear, &scale, &shift, out);
            });
        } else {
            for_row_blocks(threads, &mut out, width, |first, out| {
                multiply(first, out);
                kernels::scale_shift_leaky_in_place(out, &scale, &shift);
            });
        }
        (
            out,
            Some(SavedNorm {
                linear: needs_linear.then_some(linear),
                mean,
                inv_std,
                scale,
            }),
            None,
        )
    }

    /// Mean and reciprocal standard deviation of the batch; moves the running statistics.
    fn batch_statistics(&self, linear: &[f32], rows: usize, width: usize, norm: NormLayer) -> (Vec<f32>, Vec<f32>) {
        let mut moments = vec![0.0; 2 * width];
        for_blocks(self.net.threads, &mut moments, 2, |first, out| {
            kernels::column_moments(linear, width, first, out);
        });
        let mean: Vec<f32> = moments.chunks_exact(2).map(|pair| pair[0]).collect();
        let inv_std = moments
            .chunks_exact(2)
            .map(|pair| 1.0 / (pair[1] + EPSILON).sqrt())
            .collect();
        // One batch that is not finite must not spoil the statistics for good.
        if !moments.iter().all(|moment| moment.is_finite()) {
            return (mean, inv_std);
        }
        let unbias = rows as f32 / (rows as f32 - 1.0);
        let mut buffers = self.net.params.buffers();
        for (index, pair) in moments.chunks_exact(2).enumerate() {
            let running = &mut buffers[norm.running_mean + index];
            *running += MOMENTUM * (pair[0] - *running);
            let running = &mut buffers[norm.running_var + index];
            *running += MOMENTUM * (pair[1] * unbias - *running);
        }
        (mean, inv_std)
    }

    /// The rows whose output gradient is not all zero, if so few that leaving out the others pays: of two critics, only
    /// the smaller one judges a row. `None` where rows depend on each other.
    fn live_rows(&self, grad: &[f32], width: usize) -> Option<Vec<usize>> {
        let norm = |layer: &Layer| matches!(layer.offset, Offset::Norm(_));
        if self.mode == Mode::Train && self.net.layers.iter().any(norm) {
            return None;
        }
        let rows = grad.chunks_exact(width);
        let all = rows.len();
        let live: Vec<usize> = rows
            .enumerate()
            .filter_map(|(row, grad)| grad.iter().any(|grad| *grad != 0.0).then_some(row))
            .collect();
        (live.len() <= all * 7 / 8).then_some(live)
    }

    fn backward(
        &self,
        x: &[f32],
        weights: &[f32],
        grad: &[f32],
        saved: &[Saved],
        want_input: bool,
        want_weights: bool,
    ) -> Result<Gradients> {
        let layers = &self.net.layers;
        let threads = self.net.threads;
        if saved.len() != layers.len() {
            bail!("{}: no activations were kept for a backward pass", self.name());
        }
        let Some(head) = layers.last() else {
            bail!("a network without layers")
        };
        let live = if want_weights {
            None
        } else {
            self.live_rows(grad, head.output)
        };
        let rows = live.as_ref().map_or(grad.len() / head.output, Vec::len);
        let mut flat = if want_weights {
            vec![0.0; weights.len()]
        } else {
            Vec::new()
        };
        let mut input = None;
        let mut delta = self.net.params.take(rows * head.output);
        match &live {
            None => delta.copy_from_slice(grad),
            Some(live) => {
                for (delta, &row) in delta.chunks_exact_mut(head.output).zip(live) {
                    delta.copy_from_slice(&grad[row * head.output..][..head.output]);
                }
            }
        }
        for (index, (layer, saved_layer)) in layers.iter().zip(saved).enumerate().rev() {
            let width = layer.output;
            if let Some(out) = &saved_layer.out {
                let out: &[f32] = out;
                for_row_blocks(threads, &mut delta, width, |first, delta| {
                    match (layer.activation, &live) {
                        (Activation::None, _) => {}
                        (Activation::LeakyRelu, None) => {
                            kernels::leaky_backward(delta, &out[first * width..first * width + delta.len()]);
                        }
                        (Activation::LeakyRelu, Some(live)) => {
                            for (delta, row) in delta.chunks_exact_mut(width).zip(&live[first..]) {
                                kernels::leaky_backward(delta, &out[row * width..][..width]);
                            }
                        }
                    }
                });
            }
            if let (Offset::Norm(norm), Some(state)) = (layer.offset, &saved_layer.norm) {
                self.norm_backward(norm, state, rows, &mut delta, want_weights.then_some(&mut flat))?;
            }
            if let (Offset::LayerNorm { gamma, beta }, Some(SavedRows { normal, inv_std })) =
                (layer.offset, &saved_layer.rows)
            {
                if want_weights {
                    let mut sums = vec![0.0; 2 * width];
                    kernels::norm_sums(&delta, normal, &vec![0.0; width], &vec![1.0; width], 0, &mut sums);
                    for (index, pair) in sums.chunks_exact(2).enumerate() {
                        (flat[beta + index], flat[gamma + index]) = (pair[0], pair[1]);
                    }
                }
                let gain = &weights[gamma..gamma + width];
                match &live {
                    None => kernels::layer_norm_backward(&mut delta, normal, gain, inv_std),
                    Some(live) => {
                        for (delta, &row) in delta.chunks_exact_mut(width).zip(live) {
                            let normal = &normal[row * width..][..width];
                            kernels::layer_norm_backward(delta, normal, gain, &inv_std[row..=row]);
                        }
                    }
                }
            }
            let below: &[f32] = match index.checked_sub(1).and_then(|below| saved[below].out.as_ref()) {
                Some(out) => out,
                None => x,
            };
            if want_weights {
                let (d, below) = (Mat::new(&delta, rows, width).t(), Mat::new(below, rows, layer.input));
                let slot = &mut flat[layer.weight..layer.weight + width * layer.input];
                for_row_blocks(threads, slot, layer.input, |first, slot| {
                    product(d.row_range(first, slot.len() / layer.input), below, Into::Replace, slot);
                });
                if let Offset::Bias(bias) = layer.offset {
                    kernels::column_sums(&delta, width, 0, &mut flat[bias..bias + width]);
                }
            }
            if index > 0 || want_input {
                let d = Mat::new(&delta, rows, width);
                let multiply = |first: usize, out: &mut [f32]| {
                    product(
                        d.row_range(first, out.len() / layer.input),
                        layer.weight(weights),
                        Into::Replace,
                        out,
                    );
                };
                if index > 0 {
                    let mut next = self.net.params.take(rows * layer.input);
                    for_row_blocks(threads, &mut next, layer.input, multiply);
                    delta = next;
                } else {
                    let mut out = vec![0.0; x.len()];
                    match &live {
                        None => for_row_blocks(threads, &mut out, layer.input, multiply),
                        Some(live) => {
                            let mut few = self.net.params.take(rows * layer.input);
                            for_row_blocks(threads, &mut few, layer.input, multiply);
                            for (few, row) in few.chunks_exact(layer.input).zip(live) {
                                out[row * layer.input..][..layer.input].copy_from_slice(few);
                            }
                        }
                    }
                    input = Some(out);
                }
            }
        }
        Ok(Gradients {
            input,
            weights: want_weights.then_some(flat),
        })
    }

    /// Gradient through the normalisation: `delta` with respect to its output becomes that with respect to its input.
    fn norm_backward(
        &self,
        norm: NormLayer,
        state: &SavedNorm,
        rows: usize,
        delta: &mut [f32],
        flat: Option<&mut Vec<f32>>,
    ) -> Result<()> {
        let (threads, width) = (self.net.threads, state.mean.len());
        if self.mode == Mode::Eval && flat.is_none() {
            for_row_blocks(threads, delta, width, |_, delta| {
                kernels::scale_rows(delta, &state.scale)
            });
            return Ok(());
        }
        let Some(linear) = &state.linear else {
            bail!("{}: no activations were kept for this gradient", self.name());
        };
        let linear: &[f32] = linear;
        let mut sums = vec![0.0; 2 * width];
        {
            let delta: &[f32] = delta;
            for_blocks(threads, &mut sums, 2, |first, out| {
                kernels::norm_sums(delta, linear, &state.mean, &state.inv_std, first, out);
            });
        }
        let plain: Vec<f32> = sums.chunks_exact(2).map(|pair| pair[0]).collect();
        let weighted: Vec<f32> = sums.chunks_exact(2).map(|pair| pair[1]).collect();
        if let Some(flat) = flat {
            flat[norm.beta..norm.beta + width].copy_from_slice(&plain);
            flat[norm.gamma..norm.gamma + width].copy_from_slice(&weighted);
        }
        match self.mode {
            Mode::Eval => for_row_blocks(threads, delta, width, |_, delta| {
                kernels::scale_rows(delta, &state.scale)
            }),
            Mode::Train => {
                let share = 1.0 / rows as f32;
                let offset: Vec<f32> = plain.iter().map(|sum| sum * share).collect();
                let slope: Vec<f32> = weighted.iter().map(|sum| sum * share).collect();
                for_row_blocks(threads, delta, width, |first, delta| {
                    let linear = &linear[first * width..first * width + delta.len()];
                    let (mean, inv_std) = (&state.mean, &state.inv_std);
                    kernels::norm_backward(delta, linear, mean, inv_std, &state.scale, &offset, &slope);
                });
            }
        }
        Ok(())
    }
}
