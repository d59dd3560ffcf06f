//! The encoder as one autograd operation: forward and backward pass.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::norm::{self, Statistics};
use super::patches::Geometry;
use super::{After, Conv, Layer};
use crate::nn::backward::contribute;
use crate::nn::gemm::{Into, Mat, product};
use crate::nn::params::{Scratch, slice_of, with_slice};
use crate::nn::{Mode, kernels};

/// Some pictures of a batch, and the gradient at what was made of them.
type Given<'a> = (&'a Range<usize>, &'a [f32]);
/// Where the gradients of pictures and of weights go.
type Sought<'a> = (&'a mut Option<&'a mut [f32]>, &'a mut [f32]);

/// A batch is worked on in this many parts whatever the number of threads, so that sums over it have one order.
const PARTS: usize = 16;
/// Patches in one product: few enough to stay in the cache between being gathered and multiplied.
const BLOCK: usize = 256;

/// Where the pictures lie in the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pictures {
    /// Pictures in all.
    pub(super) count: usize,
    /// Pictures per sequence.
    pub(super) windows: usize,
    /// Numbers from one sequence to the next.
    pub(super) sequence: usize,
    /// Numbers from one picture of a sequence to the next.
    pub(super) frame: usize,
}

impl Pictures {
    fn start(&self, picture: usize) -> usize {
        picture / self.windows * self.sequence + picture % self.windows * self.frame
    }
}

/// A batch cut into stretches of pictures, each with `positions` rows per picture.
pub(super) struct Parts {
    pictures: Vec<Range<usize>>,
    positions: usize,
}

impl Parts {
    fn new(count: usize, positions: usize) -> Self {
        let parts = PARTS.min(count);
        let cut = |part: usize| count * part / parts;
        Self {
            pictures: (0..parts).map(|part| cut(part)..cut(part + 1)).collect(),
            positions,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pictures.len()
    }

    /// Rows in all.
    pub(super) fn rows(&self) -> usize {
        self.pictures.last().map_or(0, |last| last.end) * self.positions
    }

    /// Rows of each part.
    pub(super) fn sizes(&self) -> impl Iterator<Item = usize> {
        self.pictures.iter().map(|part| part.len() * self.positions)
    }

    /// The parts of something with the same number of numbers for every picture.
    pub(super) fn split<'a>(&self, data: &'a [f32]) -> impl Iterator<Item = &'a [f32]> + use<'a, '_> {
        let width = data.len() / self.pictures.last().map_or(1, |last| last.end);
        self.pictures
            .iter()
            .map(move |part| &data[part.start * width..part.end * width])
    }

    /// As [`split`](Self::split), to be changed.
    pub(super) fn split_mut<'a>(&self, mut data: &'a mut [f32]) -> impl Iterator<Item = &'a mut [f32]> + use<'a, '_> {
        let width = data.len() / self.pictures.last().map_or(1, |last| last.end);
        self.pictures.iter().map(move |part| {
            let (own, rest) = std::mem::take(&mut data).split_at_mut(part.len() * width);
            data = rest;
            own
        })
    }
}

/// Calls `work` on every part, on up to `threads` threads.
pub(super) fn spread<P: Send>(threads: usize, mut parts: Vec<P>, work: impl Fn(P) + Sync) {
    let share = parts.len().div_ceil(threads.max(1)).max(1);
    if share >= parts.len() {
        return parts.into_iter().for_each(work);
    }
    let work = &work;
    rayon::scope(|scope| {
        while !parts.is_empty() {
            let own = parts.split_off(parts.len().saturating_sub(share));
            scope.spawn(move |_| own.into_iter().for_each(work));
        }
    });
}

/// Activations of one layer.
struct Saved {
    /// Layer output `[pictures * positions, outputs]`.
    out: Scratch,
    /// Output of the convolution, and the statistics it was normalised with.
    norm: Option<(Scratch, Statistics)>,
}

struct ConvOp {
    net: Conv,
    pictures: Pictures,
    mode: Mode,
    /// Whether a backward pass will follow.
    keep: bool,
    version: u64,
    saved: Mutex<Vec<Saved>>,
}

impl Conv {
    /// Codes `[pictures, output]` of the pictures in `x`. With `frozen` the weights get no gradient.
    pub(super) fn forward(&self, x: &Tensor, pictures: Pictures, mode: Mode, frozen: bool) -> Result<Tensor> {
        if pictures.count == 0 {
            bail!("there are no pictures to encode");
        }
        let weights = if frozen {
            self.params.var().as_detached_tensor()
        } else {
            self.params.var().as_tensor().clone()
        };
        let op = ConvOp {
            net: self.clone(),
            pictures,
            mode,
            keep: weights.track_op(),
            version: self.params.version(),
            saved: Mutex::default(),
        };
        x.detach().contiguous()?.apply_op2(&weights, op)
    }
}

impl CustomOp2 for ConvOp {
    fn name(&self) -> &'static str {
        "conv-encoder"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weights) = (slice_of(x, lx)?, slice_of(w, lw)?);
        let columns = self.net.packed(weights).columns;
        let mut saved: Vec<Saved> = Vec::with_capacity(self.net.layers.len());
        for (index, layer) in self.net.layers.iter().enumerate() {
            let input = Input::new(self.pictures, x, index, saved.last());
            let next = self.layer_forward(layer, input, weights, &columns);
            if !self.keep {
                saved.clear();
            }
            saved.push(next);
        }
        let Some(last) = saved.last() else {
            bail!("a network without layers")
        };
        let result = last.out.to_vec();
        let shape = Shape::from((self.pictures.count, result.len() / self.pictures.count));
        if self.keep {
            *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        }
        Ok((CpuStorage::F32(result), shape))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.net.params.check_version(self.version, self.name())?;
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.len() != self.net.layers.len() {
            bail!("{}: no activations were kept for a backward pass", self.name());
        }
        let grad = grad.contiguous()?;
        let flat = with_slice(x, |x| {
            with_slice(w, |weights| {
                with_slice(&grad, |grad| Ok(self.backward(x, weights, grad, &saved)))
            })
        })?;
        Ok((None, contribute(&self.net.params, flat)?))
    }
}

/// The input of a layer: the pictures, or what the layer below made of them.
#[derive(Clone, Copy)]
struct Input<'a> {
    data: &'a [f32],
    pictures: Option<Pictures>,
}

impl<'a> Input<'a> {
    fn new(pictures: Pictures, x: &'a [f32], index: usize, below: Option<&'a Saved>) -> Self {
        match below {
            Some(below) if index > 0 => Self {
                data: &below.out,
                pictures: None,
            },
            _ => Self {
                data: x,
                pictures: Some(pictures),
            },
        }
    }

    /// The patches of consecutive pictures from `first` on, as many as there is room for.
    fn gather(&self, geometry: &Geometry, first: usize, patches: &mut [f32]) {
        let size = geometry.input();
        let room = geometry.positions() * geometry.patch();
        for (index, patches) in patches.chunks_exact_mut(room).enumerate() {
            let start = match self.pictures {
                Some(pictures) => pictures.start(first + index),
                None => (first + index) * size,
            };
            geometry.gather(&self.data[start..start + size], patches);
        }
    }
}

/// Pictures in one product.
fn block(positions: usize) -> usize {
    (BLOCK / positions).max(1)
}

impl ConvOp {
    fn layer_forward(&self, layer: &Layer, input: Input<'_>, weights: &[f32], columns: &[f32]) -> Saved {
        let net = &self.net;
        let (positions, patch, outputs) = (layer.geometry.positions(), layer.geometry.patch(), layer.outputs);
        let parts = Parts::new(self.pictures.count, positions);
        let matrix = Mat::new(&columns[layer.weights()], patch, outputs);
        let mut linear = net.params.take(parts.rows() * outputs);
        let pictures = block(positions);
        let work = parts.pictures.iter().zip(parts.split_mut(&mut linear)).collect();
        spread(net.threads, work, |(part, linear): (&Range<usize>, &mut [f32])| {
            let mut patches = net.params.take(pictures * positions * patch);
            for (index, linear) in linear.chunks_mut(pictures * positions * outputs).enumerate() {
                let rows = linear.len() / outputs;
                let patches = &mut patches[..rows * patch];
                input.gather(&layer.geometry, part.start + index * pictures, patches);
                product(Mat::new(patches, rows, patch), matrix, Into::Replace, linear);
                match layer.after {
                    After::Bias(bias) => kernels::add_bias(linear, &weights[bias..bias + outputs]),
                    After::BiasLeaky(bias) => kernels::add_bias_leaky(linear, &weights[bias..bias + outputs]),
                    After::NormLeaky(_) => {}
                }
            }
        });
        let After::NormLeaky(norm) = layer.after else {
            return Saved {
                out: linear,
                norm: None,
            };
        };
        let statistics = match self.mode {
            Mode::Train => Statistics::of_batch(net, norm, weights, &linear, &parts),
            Mode::Eval => Statistics::running(net, norm, weights, outputs),
        };
        let Statistics { scale, shift, .. } = &statistics;
        if !self.keep {
            let work = parts.split_mut(&mut linear).collect();
            spread(net.threads, work, |out| {
                kernels::scale_shift_leaky_in_place(out, scale, shift);
            });
            return Saved {
                out: linear,
                norm: None,
            };
        }
        let mut out = net.params.take(linear.len());
        let work = parts.split(&linear).zip(parts.split_mut(&mut out)).collect();
        spread(net.threads, work, |(linear, out)| {
            kernels::scale_shift_leaky(linear, scale, shift, out);
        });
        Saved {
            out,
            norm: Some((linear, statistics)),
        }
    }

    /// The flat gradient of the weights from `grad [pictures, output]`.
    fn backward(&self, x: &[f32], weights: &[f32], grad: &[f32], saved: &[Saved]) -> Vec<f32> {
        let net = &self.net;
        let mut flat = vec![0.0; weights.len()];
        let matrices = net.packed(weights).rows;
        let mut delta = net.params.take(grad.len());
        delta.copy_from_slice(grad);
        for (index, (layer, own)) in net.layers.iter().zip(saved).enumerate().rev() {
            let parts = Parts::new(self.pictures.count, layer.geometry.positions());
            self.after_backward(layer, own, &parts, &mut delta, &mut flat);
            let below = index.checked_sub(1).and_then(|below| saved.get(below));
            let input = Input::new(self.pictures, x, index, below);
            let mut d_input = below.map(|below| net.params.take(below.out.len()));
            let target = d_input.as_deref_mut();
            self.product_backward(layer, input, &parts, (&delta, &matrices), target, &mut flat);
            if let Some(d_input) = d_input {
                delta = d_input;
            }
        }
        flat
    }

    /// Back through bias or normalisation and activation.
    fn after_backward(&self, layer: &Layer, own: &Saved, parts: &Parts, delta: &mut [f32], flat: &mut [f32]) {
        if !matches!(layer.after, After::Bias(_)) {
            let work = parts.split(&own.out).zip(parts.split_mut(delta)).collect();
            spread(self.net.threads, work, |(out, delta): (&[f32], &mut [f32])| {
                kernels::leaky_backward(delta, out);
            });
        }
        match (layer.after, &own.norm) {
            (After::NormLeaky(norm), Some((linear, statistics))) => {
                let how = (norm, statistics, self.mode == Mode::Train);
                norm::backward(&self.net, how, linear, parts, delta, flat);
            }
            (After::Bias(bias) | After::BiasLeaky(bias), _) => {
                let sum = &mut flat[bias..bias + layer.outputs];
                let mut part_sum = vec![0.0; layer.outputs];
                for part in parts.split(delta) {
                    kernels::column_sums(part, layer.outputs, 0, &mut part_sum);
                    kernels::add(sum, &part_sum);
                }
            }
            (After::NormLeaky(_), None) => {}
        }
    }

    /// Back through the matrix product: the gradient of the weights, and that of the input where it is wanted.
    fn product_backward(
        &self,
        layer: &Layer,
        input: Input<'_>,
        parts: &Parts,
        (delta, matrices): (&[f32], &[f32]),
        d_input: Option<&mut [f32]>,
        flat: &mut [f32],
    ) {
        let net = &self.net;
        let (geometry, outputs) = (&layer.geometry, layer.outputs);
        let (positions, patch) = (geometry.positions(), geometry.patch());
        let matrix = Mat::new(&matrices[layer.weights()], outputs, patch);
        let mut sums = net.params.take(parts.len() * outputs * patch);
        let mut below: Vec<Option<&mut [f32]>> = match d_input {
            Some(d_input) => parts.split_mut(d_input).map(Some).collect(),
            None => parts.pictures.iter().map(|_| None).collect(),
        };
        let pictures = block(positions);
        let work = (parts.pictures.iter().zip(parts.split(delta)))
            .zip(below.iter_mut().zip(sums.chunks_exact_mut(outputs * patch)))
            .collect();
        spread(
            net.threads,
            work,
            |((part, delta), (below, sum)): (Given<'_>, Sought<'_>)| {
                let mut patches = net.params.take(pictures * positions * patch);
                for (index, delta) in delta.chunks(pictures * positions * outputs).enumerate() {
                    let rows = delta.len() / outputs;
                    let patches = &mut patches[..rows * patch];
                    let delta = Mat::new(delta, rows, outputs);
                    input.gather(geometry, part.start + index * pictures, patches);
                    let into = if index == 0 { Into::Replace } else { Into::Add };
                    product(delta.t(), Mat::new(patches, rows, patch), into, sum);
                    if let Some(below) = below {
                        product(delta, matrix, Into::Replace, patches);
                        let first = index * pictures * geometry.input();
                        let own = &mut below[first..first + rows / positions * geometry.input()];
                        own.fill(0.0);
                        for (own, patches) in own
                            .chunks_exact_mut(geometry.input())
                            .zip(patches.chunks_exact(positions * patch))
                        {
                            geometry.scatter(patches, own);
                        }
                    }
                }
            },
        );
        let mut sums = sums.chunks_exact_mut(outputs * patch);
        if let Some(total) = sums.next() {
            for sum in sums {
                kernels::add(total, sum);
            }
            geometry.unpack(total, &mut flat[layer.weights()]);
        }
    }
}
