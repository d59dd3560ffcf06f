//! The multi-layer perceptron of all skill models, policies and critics.

use candle_core::{Result, Tensor};

use super::dense::{Activation, Dense, Layer, NormLayer, Offset};
use super::params::Builder;
use super::{Compute, Mode, Params, init};
use crate::rng::Stream;

/// Normalisation after each hidden linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Norm {
    /// None; the hidden layers have biases.
    None,
    /// Layer normalisation (Ba, Kiros, Hinton 2016; epsilon 1e-5); the hidden layers have no biases.
    Layer,
    /// Batch normalisation (Ioffe & Szegedy 2015; momentum 0.1, epsilon 1e-5); the hidden layers have no biases.
    Batch,
}

/// Architecture of an [`Mlp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MlpSpec {
    /// Numbers per input row.
    pub input: usize,
    /// Width of every hidden layer.
    pub width: usize,
    /// Numbers per output row.
    pub output: usize,
    /// Number of hidden layers between the input layer and the head; the network has `hidden + 2` linear layers.
    pub hidden: usize,
    /// Normalisation of those hidden layers.
    pub norm: Norm,
}

/// Multi-layer perceptron of `SPiRL` ("Predictor"): linear + leaky ReLU (slope 0.2), `hidden` times linear
/// (+ normalisation) + leaky ReLU, linear head.
///
/// Weight names: `input.linear.{weight,bias}`, `pyramid-{i}.linear.{weight[,bias]}`,
/// `pyramid-{i}.norm.{weight,bias[,running_mean,running_var]}`, `head.linear.{weight,bias}`.
/// Fresh weights are Xavier-normal, biases zero.
///
/// A clone shares the weights; see [`Mlp::deep_clone`].
#[derive(Debug, Clone)]
pub struct Mlp {
    spec: MlpSpec,
    net: Dense,
}

impl Mlp {
    /// A network with fresh weights.
    pub fn new(spec: MlpSpec, rng: &mut Stream) -> Result<Self> {
        let MlpSpec {
            input,
            width,
            output,
            hidden,
            norm,
        } = spec;
        let mut builder = Builder::default();
        let mut weight = |builder: &mut Builder, name: &str, input, output| {
            builder.weight(format!("{name}.linear.weight"), &[output, input], |w| {
                init::xavier_normal(rng, w, input, output);
            })
        };
        let bias = |builder: &mut Builder, name: &str, output| {
            Offset::Bias(builder.weight(format!("{name}.linear.bias"), &[output], |_| ()))
        };
        let mut layers = Vec::with_capacity(hidden + 2);
        for index in 0..hidden + 2 {
            let (name, (input, output), activation) = match index {
                0 => ("input".to_owned(), (input, width), Activation::LeakyRelu),
                _ if index == hidden + 1 => ("head".to_owned(), (width, output), Activation::None),
                _ => (format!("pyramid-{}", index - 1), (width, width), Activation::LeakyRelu),
            };
            let weight = weight(&mut builder, &name, input, output);
            let gain = |builder: &mut Builder| {
                let gamma = builder.weight(format!("{name}.norm.weight"), &[output], |w| w.fill(1.0));
                (gamma, builder.weight(format!("{name}.norm.bias"), &[output], |_| ()))
            };
            let offset = match norm {
                Norm::Layer if (1..=hidden).contains(&index) => {
                    let (gamma, beta) = gain(&mut builder);
                    Offset::LayerNorm { gamma, beta }
                }
                Norm::Batch if (1..=hidden).contains(&index) => {
                    let (gamma, beta) = gain(&mut builder);
                    Offset::Norm(NormLayer {
                        gamma,
                        beta,
                        running_mean: builder.buffer(format!("{name}.norm.running_mean"), &[output], 0.0),
                        running_var: builder.buffer(format!("{name}.norm.running_var"), &[output], 1.0),
                    })
                }
                _ => bias(&mut builder, &name, output),
            };
            layers.push(Layer {
                input,
                output,
                weight,
                offset,
                activation,
            });
        }
        let net = Dense::new(builder.build()?, layers);
        Ok(Self { spec, net })
    }

    /// Uses up to `threads` threads of the current rayon pool in every pass (default 1). Results do not depend on it.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.net.threads = threads;
        self
    }

    /// The architecture.
    pub fn spec(&self) -> &MlpSpec {
        &self.spec
    }

    /// The weights.
    pub fn params(&self) -> &Params {
        &self.net.params
    }

    /// `x [B, input]` -> `[B, output]`, with gradients to the weights and, if `x` is tracked, to `x`.
    ///
    /// # Errors
    /// If `x` has another shape, or has fewer than two rows in [`Mode::Train`] with batch normalisation. The backward
    /// pass fails if the weights were changed in between.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.net.forward(x, mode, false)
    }

    /// As [`Mlp::forward`], but no gradient to the weights is computed.
    pub fn forward_frozen(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.net.forward(x, mode, true)
    }

    /// An independent copy on the same device.
    pub fn deep_clone(&self) -> Result<Self> {
        Ok(Self {
            spec: self.spec,
            net: self.net.deep_clone()?,
        })
    }

    /// An independent copy of another kind of computation.
    pub(crate) fn moved(&self, to: &Compute) -> Result<Self> {
        Ok(Self {
            spec: self.spec,
            net: self.net.moved(to)?,
        })
    }
}
