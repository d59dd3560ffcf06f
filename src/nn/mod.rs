//! Networks, distributions and optimisers.
//!
//! candle's autograd keeps the graph; on the CPU every network is one node in it, with a hand-written backward pass on
//! `gemm` ([`Mlp`], [`Linear`], [`LstmEncoder`], [`LstmDecoder`], [`ConvEncoder`]). Each network's weights are one flat
//! variable ([`Params`]), so an [`Optimiser`] step, gradient clipping and a target update are one pass each.
//! Everything is `f32`.
//!
//! On a graphics processor the same networks are composed of candle's own operations ([`Compute`]); networks take
//! inputs from any device and answer on their own.

mod backward;
mod composed;
mod compute;
mod conv;
mod dense;
mod gaussian;
mod gemm;
mod init;
mod kernels;
mod linear;
mod lstm;
mod mlp;
mod optimiser;
mod params;
pub mod squash;
#[cfg(test)]
mod tests;

/// Reader of golden fixtures, shared with the integration tests.
#[cfg(test)]
#[path = "../../tests/support/mod.rs"]
pub(crate) mod golden;

pub use backward::backward;
pub(crate) use composed::is_finite;
pub use compute::Compute;
pub use conv::{ConvEncoder, ConvSpec};
pub use gaussian::DiagGaussian;
pub use linear::Linear;
pub use lstm::{LstmDecoder, LstmEncoder, LstmSpec};
pub use mlp::{Mlp, MlpSpec, Norm};
pub use optimiser::{Optimiser, OptimiserConfig, OptimiserKind, OptimiserState};
pub use params::{Entry, ImportError, Kind, Mismatch, Params};

/// Which statistics batch normalisation uses; networks without it ignore the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Those of the batch; the running statistics move once per forward pass.
    Train,
    /// The running statistics, which stay.
    Eval,
}
