//! The convolutional encoder of all networks that see pictures.

mod norm;
mod op;
mod patches;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor, bail};

use self::op::Pictures;
use self::patches::Geometry;
pub(super) use self::patches::KERNEL;
use super::composed::{self, Weights};
use super::dense::NormLayer;
use super::params::Builder;
use super::{Compute, Mode, Params, init, kernels};
use crate::rng::Stream;

/// Side of the pictures that the last convolution turns into one vector.
const LAST_SIDE: usize = KERNEL;

/// Architecture of a [`ConvEncoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSpec {
    /// Channels of a picture: three per stacked frame.
    pub channels: usize,
    /// Height and width of a picture; a power of two, 8 at least.
    pub resolution: usize,
    /// Channels after the first convolution; each further one doubles them.
    pub width: usize,
    /// Numbers a picture is encoded to.
    pub output: usize,
}

/// Convolutional encoder of `SPiRL`: pictures `[channels, R, R]` to vectors of `output` numbers.
///
/// With `R = 2^n`: a convolution (4 x 4, stride 2, padding 1, bias) and a leaky ReLU (slope 0.2); `n - 3` times a
/// convolution that halves the side and doubles the channels (same kernel, no bias), batch normalisation and a leaky
/// ReLU; a last convolution (4 x 4, no padding, bias) from side 4 to a single vector, without activation.
///
/// Weight names: `input.conv.{weight,bias}`, `pyramid-{i}.conv.weight`,
/// `pyramid-{i}.norm.{weight,bias,running_mean,running_var}`, `head.{weight,bias}`. Fresh weights are uniform in
/// `+-1 / sqrt(fan in)`, the `PyTorch` default of `Conv2d`. There is no gradient with respect to the pictures.
///
/// A clone shares the weights; see [`ConvEncoder::deep_clone`].
#[derive(Debug, Clone)]
pub struct ConvEncoder {
    spec: ConvSpec,
    net: Conv,
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) enum After {
    /// The bias at this offset.
    Bias(usize),
    /// The bias at this offset and a leaky ReLU.
    BiasLeaky(usize),
    /// Batch normalisation over pictures and positions, and a leaky ReLU.
    NormLeaky(NormLayer),
}

/// One convolution, with the offset of its weight `[outputs, channels, 4, 4]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    pub(super) geometry: Geometry,
    pub(super) outputs: usize,
    pub(super) weight: usize,
    pub(super) after: After,
}

impl Layer {
    fn weights(&self) -> std::ops::Range<usize> {
        self.weight..self.weight + self.outputs * self.geometry.patch()
    }
}

/// The layers with their weights.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    params: Params,
    threads: usize,
    /// How often a pass in training mode moves the running statistics.
    pub(super) moves: u32,
    pub(super) layers: Arc<[Layer]>,
    packed: Arc<Mutex<Packed>>,
}

/// The weights in the order of patches, each layer's where its weights lie in the flat variable.
#[derive(Debug, Clone, Default)]
struct Packed {
    /// Version of the weights; `None` before the first pass.
    of: Option<u64>,
    /// `[outputs, patch]`
    rows: Arc<Vec<f32>>,
    /// `[patch, outputs]`
    columns: Arc<Vec<f32>>,
}

impl Conv {
    /// The packed form of these `weights`, which are the current ones.
    fn packed(&self, weights: &[f32]) -> Packed {
        let version = self.params.version();
        let mut cache = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.of != Some(version) {
            let (mut rows, mut columns) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
            for layer in self.layers.iter() {
                let range = layer.weights();
                let packed = &mut rows[range.clone()];
                layer.geometry.pack(&weights[range.clone()], packed);
                kernels::transpose(packed, layer.geometry.patch(), &mut columns[range]);
            }
            *cache = Packed {
                of: Some(version),
                rows: Arc::new(rows),
                columns: Arc::new(columns),
            };
        }
        cache.clone()
    }
}

impl ConvEncoder {
    /// A network with fresh weights.
    ///
    /// # Errors
    /// A resolution that is no power of two or below 8, or a size of zero.
    pub fn new(spec: ConvSpec, rng: &mut Stream) -> Result<Self> {
        let ConvSpec {
            channels,
            resolution,
            width,
            output,
        } = spec;
        if !resolution.is_power_of_two() || resolution < 2 * LAST_SIDE {
            bail!("pictures need a side of 8, 16, 32 or another power of two, got {resolution}");
        }
        if [channels, width, output].contains(&0) {
            bail!("sizes of a convolutional encoder must be at least 1");
        }
        let mut geometries = vec![Geometry::halving(channels, resolution, true)];
        let (mut side, mut outputs) = (resolution / 2, vec![width]);
        while side > LAST_SIDE {
            let channels = width << (geometries.len() - 1);
            geometries.push(Geometry::halving(channels, side, false));
            outputs.push(2 * channels);
            side /= 2;
        }
        geometries.push(Geometry::whole(width << (geometries.len() - 1), side));
        outputs.push(output);

        let mut builder = Builder::default();
        let last = geometries.len() - 1;
        let mut layers = Vec::with_capacity(geometries.len());
        for (index, (geometry, outputs)) in geometries.into_iter().zip(outputs).enumerate() {
            let (name, conv) = match index {
                0 => ("input".to_owned(), ".conv"),
                _ if index == last => ("head".to_owned(), ""),
                _ => (format!("pyramid-{}", index - 1), ".conv"),
            };
            let fan = geometry.patch();
            let shape = [outputs, fan / (KERNEL * KERNEL), KERNEL, KERNEL];
            let weight = builder.weight(format!("{name}{conv}.weight"), &shape, |w| init::uniform(rng, w, fan));
            let mut bias = |builder: &mut Builder| {
                builder.weight(format!("{name}{conv}.bias"), &[outputs], |b| init::uniform(rng, b, fan))
            };
            let after = match index {
                0 => After::BiasLeaky(bias(&mut builder)),
                _ if index == last => After::Bias(bias(&mut builder)),
                _ => After::NormLeaky(NormLayer {
                    gamma: builder.weight(format!("{name}.norm.weight"), &[outputs], |w| w.fill(1.0)),
                    beta: builder.weight(format!("{name}.norm.bias"), &[outputs], |_| ()),
                    running_mean: builder.buffer(format!("{name}.norm.running_mean"), &[outputs], 0.0),
                    running_var: builder.buffer(format!("{name}.norm.running_var"), &[outputs], 1.0),
                }),
            };
            layers.push(Layer {
                geometry,
                outputs,
                weight,
                after,
            });
        }
        let net = Conv {
            params: builder.build()?,
            threads: 1,
            moves: 1,
            layers: layers.into(),
            packed: Arc::default(),
        };
        Ok(Self { spec, net })
    }

    /// Uses up to `threads` threads of the current rayon pool in every pass (default 1). Results do not depend on it.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.net.threads = threads;
        self
    }

    /// Every pass in training mode moves the running statistics `moves` times (default 1), as if the same pictures had
    /// been encoded that often.
    pub fn with_statistics_moves(mut self, moves: u32) -> Self {
        self.net.moves = moves;
        self
    }

    /// The architecture.
    pub fn spec(&self) -> &ConvSpec {
        &self.spec
    }

    /// The weights.
    pub fn params(&self) -> &Params {
        &self.net.params
    }

    /// Pictures `x [B, channels, R, R]` to codes `[B, output]`, with gradients to the weights.
    ///
    /// # Errors
    /// If `x` has another shape. The backward pass fails if the weights were changed in between.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.single(x, mode, false)
    }

    /// As [`ConvEncoder::forward`], but no gradient to the weights is computed.
    pub fn forward_frozen(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.single(x, mode, true)
    }

    /// Sequences of frames `x [B, T, c, R, R]` to codes `[B, windows, output]`: window `t` is the stack of the
    /// `channels / c` frames from `t` on, oldest first. The stacks are not copied.
    ///
    /// # Errors
    /// If `x` has another shape or too few frames. The backward pass fails if the weights were changed in between.
    pub fn forward_windows(&self, x: &Tensor, windows: usize, mode: Mode) -> Result<Tensor> {
        self.windows(x, windows, mode, false)
    }

    /// As [`ConvEncoder::forward_windows`], but no gradient to the weights is computed.
    pub fn forward_windows_frozen(&self, x: &Tensor, windows: usize, mode: Mode) -> Result<Tensor> {
        self.windows(x, windows, mode, true)
    }

    fn single(&self, x: &Tensor, mode: Mode, frozen: bool) -> Result<Tensor> {
        let (rows, channels, height, width) = x.dims4()?;
        self.check(channels, (height, width))?;
        if self.net.params.is_composed() {
            return composed::convolutions(&self.net, Weights::new(self.params(), frozen), x, mode);
        }
        let pictures = Pictures {
            count: rows,
            windows: 1,
            sequence: channels * height * width,
            frame: 0,
        };
        self.net.forward(x, pictures, mode, frozen)
    }

    fn windows(&self, x: &Tensor, windows: usize, mode: Mode, frozen: bool) -> Result<Tensor> {
        let (rows, frames, channels, height, width) = x.dims5()?;
        let stack = self.spec.channels / channels.max(1);
        self.check(stack * channels, (height, width))?;
        if windows == 0 || windows + stack > frames + 1 {
            bail!("{windows} stacks of {stack} frames cannot be taken out of {frames}");
        }
        if self.net.params.is_composed() {
            let stacks = composed::stacks(&x.to_device(self.params().device())?, windows, stack)?;
            let codes = composed::convolutions(&self.net, Weights::new(self.params(), frozen), &stacks, mode)?;
            return codes.reshape((rows, windows, self.spec.output));
        }
        let frame = channels * height * width;
        let pictures = Pictures {
            count: rows * windows,
            windows,
            sequence: frames * frame,
            frame,
        };
        let codes = self.net.forward(x, pictures, mode, frozen)?;
        codes.reshape((rows, windows, self.spec.output))
    }

    fn check(&self, channels: usize, side: (usize, usize)) -> Result<()> {
        let ConvSpec {
            channels: wanted,
            resolution,
            ..
        } = self.spec;
        if channels != wanted || side != (resolution, resolution) {
            bail!(
                "the network takes pictures of {wanted} channels and {resolution} x {resolution} pixels, got \
                 {channels} channels and {} x {} pixels",
                side.0,
                side.1
            );
        }
        Ok(())
    }

    /// An independent copy on the same device.
    pub fn deep_clone(&self) -> Result<Self> {
        Ok(self.with_params(self.net.params.deep_clone()?))
    }

    /// An independent copy of another kind of computation.
    pub(crate) fn moved(&self, to: &Compute) -> Result<Self> {
        Ok(self.with_params(to.take(self.params())?))
    }

    fn with_params(&self, params: Params) -> Self {
        let net = Conv {
            params,
            packed: Arc::default(),
            ..self.net.clone()
        };
        Self { spec: self.spec, net }
    }
}
