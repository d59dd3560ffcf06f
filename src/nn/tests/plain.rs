//! The networks again, composed of candle's own operations: an independent check of the fused ones.

use candle_core::{Result, Tensor};

use crate::nn::{ConvSpec, LstmSpec, MlpSpec, Norm, Params};

struct Weights<'a> {
    flat: &'a Tensor,
    at: usize,
}

impl Weights<'_> {
    fn next(&mut self, shape: &[usize]) -> Result<Tensor> {
        let count = shape.iter().product();
        let part = self.flat.narrow(0, self.at, count)?.reshape(shape)?;
        self.at += count;
        Ok(part)
    }
}

struct Cell {
    ih: Tensor,
    hh: Tensor,
    bias: Tensor,
}

struct Net {
    embed: (Tensor, Tensor),
    cells: Vec<Cell>,
    output: (Tensor, Tensor),
}

impl Net {
    fn new(spec: &LstmSpec, flat: &Tensor) -> Result<Self> {
        let LstmSpec {
            input,
            hidden,
            layers,
            output,
        } = *spec;
        let mut weights = Weights { flat, at: 0 };
        let embed = (weights.next(&[hidden, input])?, weights.next(&[hidden])?);
        let cells = (0..layers)
            .map(|_| {
                let (ih, hh) = (
                    weights.next(&[4 * hidden, hidden])?,
                    weights.next(&[4 * hidden, hidden])?,
                );
                Ok(Cell {
                    ih,
                    hh,
                    bias: (weights.next(&[4 * hidden])? + weights.next(&[4 * hidden])?)?,
                })
            })
            .collect::<Result<_>>()?;
        let output = (weights.next(&[output, hidden])?, weights.next(&[output])?);
        Ok(Self { embed, cells, output })
    }

    fn step(&self, x: &Tensor, state: &mut [(Tensor, Tensor)]) -> Result<Tensor> {
        let mut below = x.matmul(&self.embed.0.t()?)?.broadcast_add(&self.embed.1)?;
        for (cell, (h, c)) in self.cells.iter().zip(state) {
            let gates = (below.matmul(&cell.ih.t()?)? + h.matmul(&cell.hh.t()?)?)?.broadcast_add(&cell.bias)?;
            let gates = gates.chunk(4, 1)?;
            let sigmoid = |x: &Tensor| (x.neg()?.exp()? + 1.0)?.recip();
            *c = ((sigmoid(&gates[1])? * &*c)? + (sigmoid(&gates[0])? * gates[2].tanh()?)?)?;
            *h = (sigmoid(&gates[3])? * c.tanh()?)?;
            below = h.clone();
        }
        below.matmul(&self.output.0.t()?)?.broadcast_add(&self.output.1)
    }
}

pub(super) fn encode(spec: &LstmSpec, flat: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (rows, steps, _) = x.dims3()?;
    let net = Net::new(spec, flat)?;
    let zeros = Tensor::zeros((rows, spec.hidden), x.dtype(), x.device())?;
    let mut state = vec![(zeros.clone(), zeros.clone()); spec.layers];
    let mut out = zeros;
    for t in 0..steps {
        out = net.step(&x.narrow(1, t, 1)?.squeeze(1)?.contiguous()?, &mut state)?;
    }
    Ok(out)
}

pub(super) fn decode(spec: &LstmSpec, flat: &Tensor, z: &Tensor, start: &Tensor, steps: usize) -> Result<Tensor> {
    let rows = z.dim(0)?;
    let net = Net::new(spec, flat)?;
    let start = start.broadcast_as((rows, spec.output + spec.state()))?.contiguous()?;
    let mut x = start.narrow(1, 0, spec.output)?;
    let mut state = (0..spec.layers)
        .map(|layer| {
            let at = spec.output + 2 * spec.hidden * layer;
            Ok((
                start.narrow(1, at, spec.hidden)?,
                start.narrow(1, at + spec.hidden, spec.hidden)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut outputs = Vec::with_capacity(steps);
    for _ in 0..steps {
        x = net.step(&Tensor::cat(&[&x, z], 1)?, &mut state)?;
        outputs.push(x.clone());
    }
    Tensor::stack(&outputs, 1)
}

/// The MLP in training mode (batch statistics) or, with `running`, on running statistics.
pub(super) fn mlp(spec: &MlpSpec, flat: &Tensor, x: &Tensor, running: Option<&Params>) -> Result<Tensor> {
    let MlpSpec {
        input,
        width,
        output,
        hidden,
        norm,
    } = *spec;
    let mut weights = Weights { flat, at: 0 };
    let leaky = |x: Tensor| x.maximum(&(&x * 0.2)?);
    let mut y = leaky(
        x.matmul(&weights.next(&[width, input])?.t()?)?
            .broadcast_add(&weights.next(&[width])?)?,
    )?;
    for layer in 0..hidden {
        y = y.matmul(&weights.next(&[width, width])?.t()?)?;
        y = match norm {
            Norm::None => y.broadcast_add(&weights.next(&[width])?)?,
            Norm::Layer => {
                let distance = y.broadcast_sub(&y.mean_keepdim(1)?)?;
                let var = distance.sqr()?.mean_keepdim(1)?;
                distance
                    .broadcast_div(&(var + 1e-5)?.sqrt()?)?
                    .broadcast_mul(&weights.next(&[width])?)?
                    .broadcast_add(&weights.next(&[width])?)?
            }
            Norm::Batch => {
                let (mean, var) = match running {
                    Some(params) => (
                        params.tensor(&format!("pyramid-{layer}.norm.running_mean"))?,
                        params.tensor(&format!("pyramid-{layer}.norm.running_var"))?,
                    ),
                    None => (y.mean(0)?, y.broadcast_sub(&y.mean(0)?)?.sqr()?.mean(0)?),
                };
                let standard = y.broadcast_sub(&mean)?.broadcast_div(&(var + 1e-5)?.sqrt()?)?;
                standard
                    .broadcast_mul(&weights.next(&[width])?)?
                    .broadcast_add(&weights.next(&[width])?)?
            }
        };
        y = leaky(y)?;
    }
    y.matmul(&weights.next(&[output, width])?.t()?)?
        .broadcast_add(&weights.next(&[output])?)
}

/// A weight of `params` as a part of its flat variable, so that gradients reach that.
fn part(params: &Params, name: &str) -> Result<Tensor> {
    let entry = params.entries().iter().find(|entry| entry.name == name).unwrap();
    params
        .var()
        .narrow(0, entry.offset, entry.elements())?
        .reshape(entry.shape.as_slice())
}

/// Rows `[.., 1]` of one number per channel, as they are added to pictures.
fn channels(params: &Params, name: &str) -> Result<Tensor> {
    part(params, name)?.reshape((1, (), 1, 1))
}

fn leaky(x: &Tensor) -> Result<Tensor> {
    x.maximum(&(x * 0.2)?)
}

/// The convolutional encoder in training mode (batch statistics) or, with `running`, on running statistics.
pub(super) fn conv(spec: &ConvSpec, params: &Params, x: &Tensor, running: Option<&Params>) -> Result<Tensor> {
    let mut y = x.conv2d(&part(params, "input.conv.weight")?, 1, 2, 1, 1)?;
    y = leaky(&y.broadcast_add(&channels(params, "input.conv.bias")?)?)?;
    for layer in 0..spec.resolution.ilog2() - 3 {
        y = y.conv2d(&part(params, &format!("pyramid-{layer}.conv.weight"))?, 1, 2, 1, 1)?;
        let norm = format!("pyramid-{layer}.norm");
        let (mean, var) = match running {
            Some(params) => {
                let buffer = |name: &str| params.tensor(&format!("{norm}.running_{name}"))?.reshape((1, (), 1, 1));
                (buffer("mean")?, buffer("var")?)
            }
            None => {
                let average = |y: &Tensor| y.mean_keepdim((0, 2, 3));
                (average(&y)?, average(&y.broadcast_sub(&average(&y)?)?.sqr()?)?)
            }
        };
        y = y.broadcast_sub(&mean)?.broadcast_div(&(var + 1e-5)?.sqrt()?)?;
        y = y.broadcast_mul(&channels(params, &format!("{norm}.weight"))?)?;
        y = leaky(&y.broadcast_add(&channels(params, &format!("{norm}.bias"))?)?)?;
    }
    y.conv2d(&part(params, "head.weight")?, 0, 1, 1, 1)?
        .broadcast_add(&channels(params, "head.bias")?)?
        .reshape((x.dim(0)?, spec.output))
}

/// What the encoder's first normalisation is given, one row per position of every picture, `[rows, channels]`.
pub(super) fn conv_linear(spec: &ConvSpec, params: &Params, x: &Tensor) -> Result<Tensor> {
    let y = x.conv2d(&part(params, "input.conv.weight")?, 1, 2, 1, 1)?;
    let y = leaky(&y.broadcast_add(&channels(params, "input.conv.bias")?)?)?;
    let y = y.conv2d(&part(params, "pyramid-0.conv.weight")?, 1, 2, 1, 1)?;
    y.permute((0, 2, 3, 1))?.contiguous()?.reshape(((), 2 * spec.width))
}
