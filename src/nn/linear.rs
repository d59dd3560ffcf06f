//! A single affine layer.

use candle_core::{Result, Tensor};

use super::dense::{Activation, Dense, Layer};
use super::params::Builder;
use super::{Compute, Mode, Params};
use crate::rng::Stream;

/// Affine map `[B, in] -> [B, out]` with weights `weight [out, in]` and `bias [out]`.
///
/// Fresh weights are uniform in `+-1 / sqrt(in)`, the `PyTorch` default. A clone shares the weights.
#[derive(Debug, Clone)]
pub struct Linear {
    net: Dense,
}

impl Linear {
    /// A layer with fresh weights.
    pub fn new(input: usize, output: usize, rng: &mut Stream) -> Result<Self> {
        let mut builder = Builder::default();
        let layer = Layer::uniform(&mut builder, "", (input, output), Activation::None, rng);
        Ok(Self {
            net: Dense::new(builder.build()?, [layer]),
        })
    }

    /// The weights.
    pub fn params(&self) -> &Params {
        &self.net.params
    }

    /// An independent copy of another kind of computation.
    pub(crate) fn moved(&self, to: &Compute) -> Result<Self> {
        Ok(Self {
            net: self.net.moved(to)?,
        })
    }

    /// `x [B, in]` -> `[B, out]`, with gradients to the weights and, if `x` is tracked, to `x`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.net.forward(x, Mode::Eval, false)
    }

    /// As [`Linear::forward`], but no gradient to the weights is computed.
    pub fn forward_frozen(&self, x: &Tensor) -> Result<Tensor> {
        self.net.forward(x, Mode::Eval, true)
    }
}
