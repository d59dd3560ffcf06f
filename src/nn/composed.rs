//! The networks of this module composed of candle's own operations: what computes them on every device that the fused
//! passes do not run on. Same weights, same results to rounding (`tests/composed.rs`), gradients by candle's autograd.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

use super::backward::contribute_part;
use super::conv::{After, Conv, KERNEL};
use super::dense::{self, Activation, EPSILON, MOMENTUM, NormLayer, Offset};
use super::{LstmSpec, Mode, Params};

/// Slope of the leaky ReLU below zero.
const SLOPE: f64 = 0.2;

// ---------------------------------------------------------------------------------------------------------------------
// Parts of the flat variable
// ---------------------------------------------------------------------------------------------------------------------

/// The weights of a network, cut out of its flat variable.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    params: &'a Params,
    frozen: bool,
}

impl<'a> Weights<'a> {
    /// With `frozen` the weights get no gradient.
    pub(super) fn new(params: &'a Params, frozen: bool) -> Self {
        Self { params, frozen }
    }

    /// The weights from `offset` on, in this shape.
    pub(super) fn at(&self, offset: usize, shape: &[usize]) -> Result<Tensor> {
        let part = Part {
            params: self.params.clone(),
            offset,
            count: shape.iter().product(),
        };
        let flat = self.params.var();
        if self.frozen {
            return flat.as_detached_tensor().narrow(0, offset, part.count)?.reshape(shape);
        }
        flat.apply_op1(part)?.reshape(shape)
    }
}

/// Some of the weights. Its gradient is handed over as it is: candle would make a flat vector, zero but for this part,
/// and add it to that of all others.
struct Part {
    params: Params,
    offset: usize,
    count: usize,
}

impl Part {
    fn copy<S: BackendStorage>(&self, flat: &S, layout: &Layout) -> Result<(S, Shape)> {
        let part = layout.narrow(0, self.offset, self.count)?;
        Ok((flat.affine(&part, 1.0, 0.0)?, Shape::from(self.count)))
    }
}

impl CustomOp1 for Part {
    fn name(&self) -> &'static str {
        "part-of-weights"
    }

    fn cpu_fwd(&self, flat: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.copy(flat, layout)
    }

    fn cuda_fwd(&self, flat: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.copy(flat, layout)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        contribute_part(&self.params, self.offset, grad)
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Dense layers
// ---------------------------------------------------------------------------------------------------------------------

/// `x [B, in]` -> `[B, out]` through a stack of layers.
pub(super) fn dense(layers: &[dense::Layer], weights: Weights<'_>, x: &Tensor, mode: Mode) -> Result<Tensor> {
    let mut y = x.to_device(weights.params.device())?;
    for layer in layers {
        y = y.matmul(&weights.at(layer.weight, &[layer.output, layer.input])?.t()?)?;
        y = match layer.offset {
            Offset::Bias(at) => y.broadcast_add(&weights.at(at, &[layer.output])?)?,
            Offset::Norm(norm) => batch_norm(norm, weights, &y, mode, 1)?,
            Offset::LayerNorm { gamma, beta } => {
                let distance = y.broadcast_sub(&y.mean_keepdim(D::Minus1)?)?;
                let var = distance.sqr()?.mean_keepdim(D::Minus1)?;
                distance
                    .broadcast_div(&(var + f64::from(EPSILON))?.sqrt()?)?
                    .broadcast_mul(&weights.at(gamma, &[layer.output])?)?
                    .broadcast_add(&weights.at(beta, &[layer.output])?)?
            }
        };
        if layer.activation == Activation::LeakyRelu {
            y = leaky(&y)?;
        }
    }
    Ok(y)
}

fn leaky(x: &Tensor) -> Result<Tensor> {
    // Zeros are made on the device, a single number would have to go there.
    x.gt(&x.zeros_like()?)?.where_cond(x, &(x * SLOPE)?)
}

/// Batch normalisation of rows `[B, channels]`. In training mode the running statistics move `moves` times.
fn batch_norm(norm: NormLayer, weights: Weights<'_>, x: &Tensor, mode: Mode, moves: u32) -> Result<Tensor> {
    let (rows, channels) = x.dims2()?;
    let params = weights.params;
    let (mean, var) = match mode {
        Mode::Train if rows < 2 => bail!("batch statistics need at least two rows"),
        Mode::Train => {
            let mean = x.mean_keepdim(0)?;
            let var = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
            for _ in 0..moves {
                move_running(
                    params,
                    norm,
                    &mean.detach().squeeze(0)?,
                    &var.detach().squeeze(0)?,
                    rows,
                )?;
            }
            (mean, var)
        }
        Mode::Eval => {
            // Taken out of what is changed in place later on.
            let running = |at| params.composed_buffers()?.narrow(0, at, channels)?.copy();
            (running(norm.running_mean)?, running(norm.running_var)?)
        }
    };
    x.broadcast_sub(&mean)?
        .broadcast_div(&(var + f64::from(EPSILON))?.sqrt()?)?
        .broadcast_mul(&weights.at(norm.gamma, &[channels])?)?
        .broadcast_add(&weights.at(norm.beta, &[channels])?)
}

/// Moves the running statistics towards those of a batch of `rows`, if all of these are finite: one batch that is not
/// must not spoil them for good.
fn move_running(params: &Params, norm: NormLayer, mean: &Tensor, var: &Tensor, rows: usize) -> Result<()> {
    let buffers = params.composed_buffers()?;
    let channels = mean.elem_count();
    let unbias = rows as f64 / (rows as f64 - 1.0);
    let sound = is_finite(&(mean + var)?)?.broadcast_as(channels)?;
    for (at, value) in [(norm.running_mean, mean.clone()), (norm.running_var, (var * unbias)?)] {
        let before = buffers.narrow(0, at, channels)?.copy()?;
        let after = (&before + ((value - &before)? * f64::from(MOMENTUM))?)?;
        buffers.slice_set(&sound.where_cond(&after, &before)?, 0, at)?;
    }
    Ok(())
}

/// Whether all numbers of a tensor are finite, as a condition without axes (1 or 0) on its device.
pub(crate) fn is_finite(values: &Tensor) -> Result<Tensor> {
    // Infinities and NaN times zero are NaN, which equals nothing.
    (values * 0.0)?.sum_all()?.eq(0.0)
}

// ---------------------------------------------------------------------------------------------------------------------
// Recurrent blocks
// ---------------------------------------------------------------------------------------------------------------------

struct Cell {
    /// `[hidden, 4 hidden]`
    from_below: Tensor,
    /// `[hidden, 4 hidden]`
    from_before: Tensor,
    bias: Tensor,
}

/// The matrices of a recurrent block, transposed.
struct Block {
    embed: (Tensor, Tensor),
    cells: Vec<Cell>,
    output: (Tensor, Tensor),
}

impl Block {
    fn new(spec: &LstmSpec, weights: Weights<'_>) -> Result<Self> {
        let LstmSpec {
            input,
            hidden,
            layers,
            output,
        } = *spec;
        let mut at = 0;
        let mut next = |shape: &[usize]| {
            let part = weights.at(at, shape);
            at += shape.iter().product::<usize>();
            part
        };
        let embed = (next(&[hidden, input])?.t()?, next(&[hidden])?);
        let mut cells = Vec::with_capacity(layers);
        for _ in 0..layers {
            let shape = [4 * hidden, hidden];
            cells.push(Cell {
                from_below: next(&shape)?.t()?,
                from_before: next(&shape)?.t()?,
                bias: (next(&[4 * hidden])? + next(&[4 * hidden])?)?,
            });
        }
        let output = (next(&[output, hidden])?.t()?, next(&[output])?);
        Ok(Self { embed, cells, output })
    }

    /// The output of one step; `state` holds hidden state and cell of every layer.
    fn step(&self, x: &Tensor, state: &mut [(Tensor, Tensor)]) -> Result<Tensor> {
        let mut below = x.matmul(&self.embed.0)?.broadcast_add(&self.embed.1)?;
        for (cell, (h, c)) in self.cells.iter().zip(state) {
            let gates = (below.matmul(&cell.from_below)? + h.matmul(&cell.from_before)?)?;
            let gates = gates.broadcast_add(&cell.bias)?;
            let width = gates.dim(1)? / 4;
            let gate = |index: usize| gates.narrow(1, index * width, width);
            let (input, forget) = (candle_nn::ops::sigmoid(&gate(0)?)?, candle_nn::ops::sigmoid(&gate(1)?)?);
            *c = ((forget * &*c)? + (input * gate(2)?.tanh()?)?)?;
            *h = (candle_nn::ops::sigmoid(&gate(3)?)? * c.tanh()?)?;
            below = h.clone();
        }
        below.matmul(&self.output.0)?.broadcast_add(&self.output.1)
    }
}

/// `x [B, T, input]` -> output of the last step `[B, output]`.
pub(super) fn encode(spec: &LstmSpec, weights: Weights<'_>, x: &Tensor) -> Result<Tensor> {
    let (rows, steps, _) = x.dims3()?;
    let x = x.to_device(weights.params.device())?;
    let block = Block::new(spec, weights)?;
    let zeros = Tensor::zeros((rows, spec.hidden), x.dtype(), x.device())?;
    let mut state = vec![(zeros.clone(), zeros.clone()); spec.layers];
    let mut out = zeros;
    for t in 0..steps {
        out = block.step(&x.narrow(1, t, 1)?.squeeze(1)?.contiguous()?, &mut state)?;
    }
    Ok(out)
}

/// `z [B, nz]` -> `[B, steps, output]`; `start` is `[1 or B, output + state]`.
pub(super) fn decode(
    spec: &LstmSpec,
    weights: Weights<'_>,
    z: &Tensor,
    start: &Tensor,
    steps: usize,
) -> Result<Tensor> {
    let rows = z.dim(0)?;
    let device = weights.params.device();
    let (z, start) = (z.to_device(device)?, start.to_device(device)?);
    let block = Block::new(spec, weights)?;
    let start = start.broadcast_as((rows, spec.output + spec.state()))?.contiguous()?;
    let part = |at: usize, width: usize| start.narrow(1, at, width)?.contiguous();
    let mut x = part(0, spec.output)?;
    let mut state = (0..spec.layers)
        .map(|layer| {
            let at = spec.output + 2 * spec.hidden * layer;
            Ok((part(at, spec.hidden)?, part(at + spec.hidden, spec.hidden)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut outputs = Vec::with_capacity(steps);
    for _ in 0..steps {
        x = block.step(&Tensor::cat(&[&x, &z], 1)?, &mut state)?;
        outputs.push(x.clone());
    }
    Tensor::stack(&outputs, 1)
}

// ---------------------------------------------------------------------------------------------------------------------
// Convolutions
// ---------------------------------------------------------------------------------------------------------------------

/// Pictures `[B, channels, R, R]` to codes `[B, output]` through a stack of convolutions.
pub(super) fn convolutions(net: &Conv, weights: Weights<'_>, x: &Tensor, mode: Mode) -> Result<Tensor> {
    let mut y = x.detach().to_device(weights.params.device())?.contiguous()?;
    for layer in net.layers.iter() {
        let (outputs, geometry) = (layer.outputs, &layer.geometry);
        let kernel = weights.at(layer.weight, &[outputs, geometry.channels, KERNEL, KERNEL])?;
        y = y.conv2d(&kernel.contiguous()?, geometry.pad, geometry.stride, 1, 1)?;
        let bias = |y: &Tensor, at| y.broadcast_add(&weights.at(at, &[1, outputs, 1, 1])?);
        y = match layer.after {
            After::Bias(at) => bias(&y, at)?,
            After::BiasLeaky(at) => leaky(&bias(&y, at)?)?,
            After::NormLeaky(norm) => {
                let (pictures, channels, height, width) = y.dims4()?;
                let rows = y.permute((0, 2, 3, 1))?.contiguous()?;
                let rows = rows.reshape((pictures * height * width, channels))?;
                let normal = leaky(&batch_norm(norm, weights, &rows, mode, net.moves)?)?;
                let pixels = normal.reshape((pictures, height, width, channels))?;
                pixels.permute((0, 3, 1, 2))?.contiguous()?
            }
        };
    }
    y.flatten_from(1)
}

/// Sequences of frames `[B, T, c, R, R]` to the pictures `[B * windows, stack * c, R, R]` that are stacks of frames from
/// every one of the first `windows` on.
pub(super) fn stacks(x: &Tensor, windows: usize, stack: usize) -> Result<Tensor> {
    let (rows, _, channels, height, width) = x.dims5()?;
    let stacked = (0..windows).map(|first| {
        let frames = x.narrow(1, first, stack)?.contiguous()?;
        frames.reshape((rows, stack * channels, height, width))
    });
    let stacked = stacked.collect::<Result<Vec<_>>>()?;
    Tensor::stack(&stacked, 1)?.reshape((rows * windows, stack * channels, height, width))
}
