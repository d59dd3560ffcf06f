//! Recurrent networks: an encoder over sequences and an autoregressive decoder, each one autograd node with full
//! back-propagation through time.

mod decode;
mod encode;
mod stack;

use candle_core::{D, Result, Tensor, bail};

use super::composed::{self, Weights};
use super::params::Builder;
use super::{Compute, Params, init};
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

/// A recurrent block with its weights.
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

    fn moved(&self, to: &Compute) -> Result<Self> {
        Ok(Self {
            params: to.take(&self.params)?,
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

    /// An independent copy of another kind of computation.
    pub(crate) fn moved(&self, to: &Compute) -> Result<Self> {
        Ok(Self {
            block: self.block.moved(to)?,
        })
    }

    fn run(&self, x: &Tensor, frozen: bool) -> Result<Tensor> {
        encode::encode(&self.block, x, frozen)
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

    /// An independent copy of another kind of computation.
    pub(crate) fn moved(&self, to: &Compute) -> Result<Self> {
        Ok(Self {
            block: self.block.moved(to)?,
            start: self.start.as_ref().map(|start| to.take(start)).transpose()?,
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
        decode::decode(&self.block, z, &start, steps, frozen)
    }
}
