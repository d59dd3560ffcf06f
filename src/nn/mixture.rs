//! Mixtures of Gaussians and the network head that predicts them.

use candle_core::{DType, Result, Tensor, bail};

use super::dense::{Activation, Dense, Layer, Offset};
use super::gaussian::{DiagGaussian, clamp_log_sigma};
use super::params::Builder;
use super::{Mode, Params, init};
use crate::rng::Stream;

/// Smallest mixture weight; weights are not re-normalised after this limit.
const WEIGHT_FLOOR: f64 = 1e-6;

/// Mixture-density head (Bishop 1994): `[B, in]` -> a mixture of `components` diagonal Gaussians over `dim` numbers.
///
/// Weight names: `pi.0.{weight,bias}`, `mu.{weight,bias}`, `log_sigma.{weight,bias}`. Fresh weights are the `PyTorch`
/// defaults. A clone shares the weights.
#[derive(Debug, Clone)]
pub struct MixtureHead {
    net: Dense,
    dim: usize,
    components: usize,
}

impl MixtureHead {
    /// A head with fresh weights.
    pub fn new(input: usize, dim: usize, components: usize, rng: &mut Stream) -> Result<Self> {
        let parts = [
            ("pi.0", components),
            ("mu", components * dim),
            ("log_sigma", components * dim),
        ];
        let output = components * (1 + 2 * dim);
        let mut builder = Builder::default();
        // All weights, then all biases: so the three layers are one.
        let weights = parts.map(|(name, output)| {
            builder.weight(format!("{name}.weight"), &[output, input], |w| {
                init::uniform(rng, w, input)
            })
        });
        let biases = parts
            .map(|(name, output)| builder.weight(format!("{name}.bias"), &[output], |w| init::uniform(rng, w, input)));
        let layer = Layer {
            input,
            output,
            weight: weights[0],
            offset: Offset::Bias(biases[0]),
            activation: Activation::None,
        };
        let net = Dense {
            params: builder.build()?,
            layers: [layer].into(),
            threads: 1,
        };
        Ok(Self { net, dim, components })
    }

    /// The weights.
    pub fn params(&self) -> &Params {
        &self.net.params
    }

    /// `h [B, in]` -> B mixtures.
    pub fn forward(&self, h: &Tensor) -> Result<GaussianMixture> {
        let raw = self.net.forward(h, Mode::Eval, false)?;
        let (k, d) = (self.components, self.dim);
        let part = |from: usize| raw.narrow(1, from, k * d)?.reshape(((), k, d));
        let logits = raw.narrow(1, 0, k)?;
        let exp = logits.broadcast_sub(&logits.detach().max_keepdim(1)?)?.exp()?;
        let pi = exp.broadcast_div(&exp.sum_keepdim(1)?)?.maximum(WEIGHT_FLOOR)?;
        let components = DiagGaussian {
            mu: part(k)?,
            log_sigma: clamp_log_sigma(&part(k + k * d)?)?,
        };
        Ok(GaussianMixture { pi, components })
    }

    /// An independent copy.
    pub fn deep_clone(&self) -> Result<Self> {
        let net = Dense {
            params: self.net.params.deep_clone()?,
            ..self.net.clone()
        };
        Ok(Self { net, ..*self })
    }
}

/// A batch of mixtures of K diagonal Gaussians.
#[derive(Debug, Clone)]
pub struct GaussianMixture {
    /// Mixture weights `[B, K]`, at least 1e-6 each; not exactly normalised.
    pub pi: Tensor,
    /// Components `[B, K, d]`.
    pub components: DiagGaussian,
}

impl GaussianMixture {
    /// Log-density at `x [B, d]` -> `[B]`.
    pub fn log_prob(&self, x: &Tensor) -> Result<Tensor> {
        let joint = (self.components.log_prob(&x.unsqueeze(1)?)? + self.pi.log()?)?;
        let max = joint.detach().max_keepdim(1)?;
        joint.broadcast_sub(&max)?.exp()?.sum(1)?.log()? + max.squeeze(1)?
    }

    /// Samples of the components `component [B]` (integers below K): `mu + sigma * noise [B, d]`. Only the chosen
    /// component's parameters get a gradient.
    pub fn sample(&self, component: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let (batch, _, d) = self.components.mu.dims3()?;
        if component.dims() != [batch] {
            bail!("one component per row: expected [{batch}], got {:?}", component.dims());
        }
        let index = component
            .to_dtype(DType::U32)?
            .reshape((batch, 1, 1))?
            .broadcast_as((batch, 1, d))?
            .contiguous()?;
        let pick = |x: &Tensor| x.contiguous()?.gather(&index, 1)?.squeeze(1);
        DiagGaussian {
            mu: pick(&self.components.mu)?,
            log_sigma: pick(&self.components.log_sigma)?,
        }
        .sample(noise)
    }

    /// Indices `[B]` of components drawn with probabilities proportional to the weights, from `uniform [B]` in [0, 1).
    pub fn choose(&self, uniform: &[f32]) -> Result<Tensor> {
        let weights = self.pi.to_vec2::<f32>()?;
        if weights.len() != uniform.len() {
            bail!("one number per row: expected {}, got {}", weights.len(), uniform.len());
        }
        let chosen: Vec<u32> = weights
            .iter()
            .zip(uniform)
            .map(|(weights, u)| {
                let target = u * weights.iter().sum::<f32>();
                let below = weights.iter().scan(0.0, |sum, weight| {
                    *sum += weight;
                    Some(*sum)
                });
                below.take_while(|sum| *sum <= target).count().min(weights.len() - 1) as u32
            })
            .collect();
        Tensor::from_vec(chosen, uniform.len(), self.pi.device())
    }
}
