//! Recurrent networks: an encoder over sequences and an autoregressive decoder.

use candle_core::{D, Result, Tensor, bail};

use super::params::Builder;
use super::{Params, init};
use crate::rng::Stream;

/// Architecture of an [`LstmEncoder`] or [`LstmDecoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LstmSpec {
    /// Numbers per step at the input; for a decoder `output + nz`.
    pub input: usize,
    /// Width of every LSTM layer.
    pub hidden: usize,
    /// Number of stacked LSTM layers.
    pub layers: usize,
    /// Numbers per step at the output.
    pub output: usize,
}

impl LstmSpec {
    /// Length of the flat hidden state: `[h | c]` per layer, layers concatenated.
    pub fn state(&self) -> usize {
        2 * self.hidden * self.layers
    }
}

/// Offsets of the tensors of a recurrent block in its flat weights.
#[derive(Debug, Clone)]
struct Block {
    spec: LstmSpec,
    params: Params,
    threads: usize,
}

impl Block {
    fn new(spec: LstmSpec, rng: &mut Stream) -> Result<Self> {
        let LstmSpec {
            input,
            hidden,
            layers,
            output,
        } = spec;
        if layers == 0 {
            bail!("an LSTM needs at least one layer");
        }
        let mut builder = Builder::default();
        builder.weight("embed.weight", &[hidden, input], |w| init::uniform(rng, w, input));
        builder.weight("embed.bias", &[hidden], |w| init::uniform(rng, w, input));
        for layer in 0..layers {
            for name in ["weight_ih", "weight_hh"] {
                builder.weight(format!("lstm.{layer}.{name}"), &[4 * hidden, hidden], |w| {
                    init::uniform(rng, w, hidden);
                });
            }
            for name in ["bias_ih", "bias_hh"] {
                builder.weight(format!("lstm.{layer}.{name}"), &[4 * hidden], |w| {
                    init::uniform(rng, w, hidden);
                    w[hidden..2 * hidden].fill(1.0);
                });
            }
        }
        builder.weight("output.weight", &[output, hidden], |w| init::uniform(rng, w, hidden));
        builder.weight("output.bias", &[output], |w| init::uniform(rng, w, hidden));
        Ok(Self {
            spec,
            params: builder.build()?,
            threads: 1,
        })
    }

    fn deep_clone(&self) -> Result<Self> {
        Ok(Self {
            params: self.params.deep_clone()?,
            ..self.clone()
        })
    }

    fn weights(&self, frozen: bool) -> Tensor {
        if frozen {
            self.params.var().as_detached_tensor()
        } else {
            self.params.var().as_tensor().clone()
        }
    }
}

/// LSTM block over a whole sequence: linear embedding, stacked LSTM cells from a zero state, linear output of the last
/// step.
///
/// Weight names: `embed.{weight,bias}`, `lstm.{l}.{weight_ih,weight_hh,bias_ih,bias_hh}` (gates stacked input, forget,
/// cell, output), `output.{weight,bias}`. Fresh weights are the `PyTorch` defaults, except that the forget quarter of
/// both bias vectors is one. A clone shares the weights.
#[derive(Debug, Clone)]
pub struct LstmEncoder {
    block: Block,
}

impl LstmEncoder {
    /// An encoder with fresh weights.
    pub fn new(spec: LstmSpec, rng: &mut Stream) -> Result<Self> {
        Ok(Self {
            block: Block::new(spec, rng)?,
        })
    }

    /// Uses up to `threads` threads of the current rayon pool in every pass (default 1). Results do not depend on it.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.block.threads = threads;
        self
    }

    /// The architecture.
    pub fn spec(&self) -> &LstmSpec {
        &self.block.spec
    }

    /// The weights.
    pub fn params(&self) -> &Params {
        &self.block.params
    }

    /// `x [B, T, input]` -> output of the last step `[B, output]`, with gradients to the weights and, if `x` is
    /// tracked, to `x`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, false)
    }

    /// As [`LstmEncoder::forward`], but no gradient to the weights is computed.
    pub fn forward_frozen(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, true)
    }

    /// An independent copy.
    pub fn deep_clone(&self) -> Result<Self> {
        Ok(Self {
            block: self.block.deep_clone()?,
        })
    }

    fn run(&self, x: &Tensor, frozen: bool) -> Result<Tensor> {
        plain::encode(&self.block.spec, &self.block.weights(frozen), x)
    }
}

/// Autoregressive LSTM block: step t reads `[x_t | z]`, and its output is both the result of step t and `x_{t+1}`.
///
/// Weights as for [`LstmEncoder`], plus, if built with a learned start, the constants `x_0` and initial hidden state as
/// a second set of weights ([`LstmDecoder::start_params`]). A clone shares the weights.
#[derive(Debug, Clone)]
pub struct LstmDecoder {
    block: Block,
    start: Option<Params>,
}

impl LstmDecoder {
    /// A decoder with fresh weights; `spec.input` is `spec.output + nz`. A learned start is zero at first.
    pub fn new(spec: LstmSpec, learned_start: bool, rng: &mut Stream) -> Result<Self> {
        if spec.input < spec.output {
            bail!(
                "a decoder reads its own output: input {} is below output {}",
                spec.input,
                spec.output
            );
        }
        let start = if learned_start {
            let mut builder = Builder::default();
            builder.weight("decoder_input_initalizer.val", &[1, spec.output], |_| ());
            builder.weight("decoder_hidden_initalizer.val", &[1, spec.state()], |_| ());
            Some(builder.build()?)
        } else {
            None
        };
        Ok(Self {
            block: Block::new(spec, rng)?,
            start,
        })
    }

    /// Uses up to `threads` threads of the current rayon pool in every pass (default 1). Results do not depend on it.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.block.threads = threads;
        self
    }

    /// The architecture.
    pub fn spec(&self) -> &LstmSpec {
        &self.block.spec
    }

    /// The weights of the recurrent block.
    pub fn params(&self) -> &Params {
        &self.block.params
    }

    /// The learned start: `decoder_input_initalizer.val [1, output]` and `decoder_hidden_initalizer.val [1, state]`
    /// (names as in the original checkpoints). `None` if the start is given with every call.
    pub fn start_params(&self) -> Option<&Params> {
        self.start.as_ref()
    }

    /// Decodes `z [B, nz]` into `steps` outputs `[B, steps, output]`, from the learned start or from
    /// `start = (x_0 [B, output], hidden [B, 2 * hidden * layers])`. Gradients reach the weights, the start, and `z` if
    /// it is tracked.
    pub fn forward(&self, z: &Tensor, start: Option<(&Tensor, &Tensor)>, steps: usize) -> Result<Tensor> {
        self.run(z, start, steps, false)
    }

    /// As [`LstmDecoder::forward`], but no gradient to the weights or the learned start is computed.
    pub fn forward_frozen(&self, z: &Tensor, start: Option<(&Tensor, &Tensor)>, steps: usize) -> Result<Tensor> {
        self.run(z, start, steps, true)
    }

    /// An independent copy.
    pub fn deep_clone(&self) -> Result<Self> {
        let start = self.start.as_ref().map(Params::deep_clone).transpose()?;
        Ok(Self {
            block: self.block.deep_clone()?,
            start,
        })
    }

    fn run(&self, z: &Tensor, start: Option<(&Tensor, &Tensor)>, steps: usize, frozen: bool) -> Result<Tensor> {
        // One row [x_0 | hidden], shared by the whole batch, or one per row of it.
        let start = match (start, &self.start) {
            (Some((x0, hidden)), _) => Tensor::cat(&[x0, hidden], D::Minus1)?,
            (None, Some(params)) if frozen => params.var().as_detached_tensor().unsqueeze(0)?,
            (None, Some(params)) => params.var().unsqueeze(0)?,
            (None, None) => bail!("this decoder has no learned start: give one"),
        };
        plain::decode(&self.block.spec, &self.block.weights(frozen), z, &start, steps)
    }
}

mod plain {
    use super::*;

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
}
