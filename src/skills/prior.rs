//! Learned priors over skills given a state: diagonal Gaussian, Gaussian mixture, conditional `RealNVP` flow.
//!
//! `SPiRL` (arXiv 2010.11944) uses the Gaussian; its code offers the other two, and no published configuration uses
//! them. Names, shapes and numbers are those of the original checkpoints.

use candle_core::{D, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{GaussianNetwork, PixelDims, Result, check_shape, policy};
use crate::nn::{Compute, ConvEncoder, DiagGaussian, Linear, Mlp, MlpSpec, Mode, Norm, Params};
use crate::rng::Stream;

/// Smallest weight a mixture component can have. Weights are cut off there and not normalised again.
const SMALLEST_WEIGHT: f64 = 1e-6;
/// Width of the two hidden layers in the four small nets of a coupling layer.
const COUPLING_WIDTH: usize = 32;
const LN_2_PI: f64 = 1.837_877_066_409_345_5;

/// Family of the learned prior.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum PriorKind {
    /// Diagonal Gaussian. The only one a policy can be started from.
    #[default]
    Gauss,
    /// Mixture of diagonal Gaussians.
    Gmm {
        /// Number of components; 5 in the original.
        components: usize,
    },
    /// Conditional `RealNVP` with as many coupling layers as the prior network has hidden layers.
    Flow,
}

/// Sizes of a prior network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PriorSpec {
    /// Numbers in a state; of a prior that sees pictures, the numbers they are encoded to.
    pub state: usize,
    /// Pictures that are seen in place of states, and the channels after the encoder's first convolution.
    pub eye: Option<(PixelDims, usize)>,
    /// Numbers in a skill.
    pub latent: usize,
    /// Width of the perceptron; also of the flow's condition.
    pub width: usize,
    /// Hidden layers of the perceptron; also coupling layers of the flow.
    pub hidden: usize,
    /// Numbers between perceptron and mixture head.
    pub features: usize,
    /// Normalisation of the hidden layers.
    pub norm: Norm,
}

/// A prior network: a network of one of the families, behind an encoder if it sees pictures.
#[derive(Clone)]
pub struct PriorNetwork {
    eye: Option<ConvEncoder>,
    family: PriorFamily,
}

/// What makes a distribution of a state or of a picture's code.
#[derive(Clone)]
pub enum PriorFamily {
    /// Perceptron with `2 nz` outputs.
    Gauss(Mlp),
    /// Perceptron and mixture head.
    Gmm(Mlp, MixtureHead),
    /// Conditional flow.
    Flow(ConditionalFlow),
}

impl PriorNetwork {
    /// Fresh weights.
    pub fn new(kind: PriorKind, spec: &PriorSpec, rng: &mut Stream) -> Result<Self> {
        let eye = match spec.eye {
            Some((pixels, width)) => Some(policy::eye(pixels, width, spec.state, rng)?),
            None => None,
        };
        Ok(Self {
            eye,
            family: PriorFamily::new(kind, spec, rng)?,
        })
    }

    /// The distribution over skills for states `[B, S]` or pictures `[B, 3 * frames, size, size]`, differentiable in
    /// the weights.
    pub fn forward(&self, seen: &Tensor, mode: Mode) -> Result<PriorDistribution> {
        match &self.eye {
            Some(eye) => self.family.forward(&eye.forward(seen, mode)?, mode),
            None => self.family.forward(seen, mode),
        }
    }

    /// As [`PriorNetwork::forward`] in evaluation mode; a Gaussian records nothing for differentiation.
    pub(crate) fn forward_frozen(&self, seen: &Tensor) -> Result<PriorDistribution> {
        match &self.gauss() {
            Some(network) => Ok(PriorDistribution::Gauss(network.forward_frozen(seen)?)),
            None => self.forward(seen, Mode::Eval),
        }
    }

    /// The network by itself, sharing its weights, if it is a Gaussian.
    pub fn gauss(&self) -> Option<GaussianNetwork> {
        match (&self.family, &self.eye) {
            (PriorFamily::Gauss(net), Some(eye)) => Some(GaussianNetwork::seeing(eye.clone(), net.clone())),
            (PriorFamily::Gauss(net), None) => Some(GaussianNetwork::new(net.clone(), None)),
            (PriorFamily::Gmm(..) | PriorFamily::Flow(_), _) => None,
        }
    }

    /// Uses up to `threads` threads of the current rayon pool in every pass of encoder and perceptron.
    pub(crate) fn with_threads(self, threads: usize) -> Self {
        Self {
            eye: self.eye.map(|eye| eye.with_threads(threads)),
            family: self.family.with_threads(threads),
        }
    }

    /// An independent copy of another kind of computation.
    pub(crate) fn moved(&self, to: &Compute) -> Result<Self> {
        let family = match &self.family {
            PriorFamily::Gauss(net) => PriorFamily::Gauss(net.moved(to)?),
            PriorFamily::Gmm(trunk, head) => PriorFamily::Gmm(trunk.moved(to)?, head.moved(to)?),
            PriorFamily::Flow(flow) => PriorFamily::Flow(flow.moved(to)?),
        };
        Ok(Self {
            eye: self.eye.as_ref().map(|eye| eye.moved(to)).transpose()?,
            family,
        })
    }

    /// Every part with its name in the original checkpoints, relative to the prior.
    pub fn parts(&self) -> Vec<(String, &Params)> {
        policy::with_eye(self.eye.as_ref(), self.family.parts())
    }
}

impl PriorFamily {
    fn new(kind: PriorKind, spec: &PriorSpec, rng: &mut Stream) -> Result<Self> {
        let mut mlp = |output| {
            let PriorSpec {
                state: input,
                width,
                hidden,
                norm,
                ..
            } = *spec;
            Mlp::new(
                MlpSpec {
                    input,
                    width,
                    output,
                    hidden,
                    norm,
                },
                rng,
            )
        };
        Ok(match kind {
            PriorKind::Gauss => Self::Gauss(mlp(2 * spec.latent)?),
            PriorKind::Gmm { components } => {
                let trunk = mlp(spec.features)?;
                Self::Gmm(trunk, MixtureHead::new(spec.features, spec.latent, components, rng)?)
            }
            PriorKind::Flow => {
                let condition = mlp(spec.width)?;
                Self::Flow(ConditionalFlow::new(condition, spec.latent, spec.hidden, rng)?)
            }
        })
    }

    fn forward(&self, states: &Tensor, mode: Mode) -> Result<PriorDistribution> {
        Ok(match self {
            Self::Gauss(net) => PriorDistribution::Gauss(DiagGaussian::from_raw(&net.forward(states, mode)?)?),
            Self::Gmm(trunk, head) => PriorDistribution::Mixture(head.forward(&trunk.forward(states, mode)?)?),
            Self::Flow(flow) => PriorDistribution::Flow(flow.condition_on(states, mode)?),
        })
    }

    fn with_threads(self, threads: usize) -> Self {
        match self {
            Self::Gauss(net) => Self::Gauss(net.with_threads(threads)),
            Self::Gmm(trunk, head) => Self::Gmm(trunk.with_threads(threads), head),
            Self::Flow(flow) => Self::Flow(ConditionalFlow {
                condition: flow.condition.with_threads(threads),
                ..flow
            }),
        }
    }

    fn parts(&self) -> Vec<(String, &Params)> {
        match self {
            Self::Gauss(net) => vec![(String::new(), net.params())],
            Self::Gmm(trunk, head) => {
                let mut parts = vec![("0.".to_owned(), trunk.params())];
                parts.extend(head.parts().map(|(name, params)| (format!("1.{name}."), params)));
                parts
            }
            Self::Flow(flow) => flow.parts(),
        }
    }
}

/// A distribution over skills, one per row of a batch.
#[derive(Clone)]
pub enum PriorDistribution {
    /// Diagonal Gaussian.
    Gauss(DiagGaussian),
    /// Mixture of diagonal Gaussians.
    Mixture(Mixture),
    /// Flow with its condition.
    Flow(ConditionedFlow),
}

impl PriorDistribution {
    /// Log density of skills `[B, nz]`, summed over dimensions: `[B]`.
    pub fn log_prob(&self, skills: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gauss(gauss) => Ok(gauss.log_prob(skills)?),
            Self::Mixture(mixture) => mixture.log_prob(skills),
            Self::Flow(flow) => flow.log_prob(skills),
        }
    }

    /// One skill per row, `[B, nz]`.
    pub fn sample(&self, rng: &mut Stream) -> Result<Tensor> {
        match self {
            Self::Gauss(gauss) => Ok(gauss.sample(&rng.normal_tensor(gauss.mu.dims())?)?),
            Self::Mixture(mixture) => mixture.sample(rng),
            Self::Flow(flow) => flow.sample(&rng.normal_tensor((flow.rows()?, flow.latent()))?),
        }
    }

    /// The Gaussian, if it is one.
    pub fn gauss(&self) -> Option<&DiagGaussian> {
        match self {
            Self::Gauss(gauss) => Some(gauss),
            Self::Mixture(_) | Self::Flow(_) => None,
        }
    }
}

/// Mixture-density head: features to the weights, means and log sigmas of `K` diagonal Gaussians.
#[derive(Clone)]
pub struct MixtureHead {
    weights: Linear,
    mu: Linear,
    log_sigma: Linear,
    components: usize,
    latent: usize,
}

impl MixtureHead {
    /// Fresh weights for `features` inputs and `components` Gaussians over `latent` numbers.
    pub fn new(features: usize, latent: usize, components: usize, rng: &mut Stream) -> Result<Self> {
        Ok(Self {
            weights: Linear::new(features, components, rng)?,
            mu: Linear::new(features, components * latent, rng)?,
            log_sigma: Linear::new(features, components * latent, rng)?,
            components,
            latent,
        })
    }

    fn moved(&self, to: &Compute) -> Result<Self> {
        Ok(Self {
            weights: self.weights.moved(to)?,
            mu: self.mu.moved(to)?,
            log_sigma: self.log_sigma.moved(to)?,
            ..*self
        })
    }

    /// The mixture for features `[B, F]`.
    pub fn forward(&self, features: &Tensor) -> Result<Mixture> {
        let rows = features.dim(0)?;
        let shape = (rows * self.components, self.latent);
        let mu = self.mu.forward(features)?.reshape(shape)?;
        let log_sigma = self.log_sigma.forward(features)?.reshape(shape)?;
        let weights = candle_nn::ops::softmax(&self.weights.forward(features)?, 1)?;
        Ok(Mixture {
            weights: weights.maximum(&weights.ones_like()?.affine(SMALLEST_WEIGHT, 0.0)?)?,
            components: DiagGaussian::from_raw(&Tensor::cat(&[&mu, &log_sigma], 1)?)?,
        })
    }

    /// Its three layers by name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &Params)> {
        [
            ("pi.0", &self.weights),
            ("mu", &self.mu),
            ("log_sigma", &self.log_sigma),
        ]
        .into_iter()
        .map(|(name, layer)| (name, layer.params()))
    }
}

/// Mixtures of `K` diagonal Gaussians, one per row of a batch.
#[derive(Clone)]
pub struct Mixture {
    /// Weights `[B, K]`, at least 1e-6 each, not normalised again.
    pub weights: Tensor,
    /// The components, `[B * K, nz]`, those of one row together.
    pub components: DiagGaussian,
}

impl Mixture {
    /// Log density of skills `[B, nz]`: `[B]`.
    pub fn log_prob(&self, skills: &Tensor) -> Result<Tensor> {
        let (rows, count) = self.weights.dims2()?;
        let latent = skills.dim(1)?;
        check_shape("skills", skills, &[Some(rows), Some(latent)])?;
        let repeated = skills
            .unsqueeze(1)?
            .expand((rows, count, latent))?
            .reshape((rows * count, latent))?;
        let per_component = self.components.log_prob(&repeated)?.reshape((rows, count))?;
        Ok((per_component + self.weights.log()?)?.log_sum_exp(1)?)
    }

    /// One skill per row, `[B, nz]`: a component by its weight, then a sample of it, which carries its gradient.
    pub fn sample(&self, rng: &mut Stream) -> Result<Tensor> {
        let (_, count) = self.weights.dims2()?;
        let mut chosen = Vec::new();
        for weights in self.weights.to_vec2::<f32>()? {
            let total: f32 = weights.iter().sum();
            let mut left = uniform(rng) * total;
            let pick = weights.iter().position(|weight| {
                left -= weight;
                left < 0.0
            });
            chosen.push(pick.unwrap_or(count - 1));
        }
        let noise = rng.normal_tensor((chosen.len(), self.components.mu.dim(1)?))?;
        self.sample_of(&chosen, &noise)
    }

    /// `mu + sigma * noise` of the component `chosen` in every row; `noise` is `[B, nz]`.
    pub fn sample_of(&self, chosen: &[usize], noise: &Tensor) -> Result<Tensor> {
        let (rows, count) = self.weights.dims2()?;
        let index: Vec<u32> = chosen
            .iter()
            .enumerate()
            .map(|(row, pick)| (row * count + pick) as u32)
            .collect();
        let index = Tensor::from_vec(index, rows, self.weights.device())?;
        let gauss = DiagGaussian {
            mu: self.components.mu.contiguous()?.index_select(&index, 0)?,
            log_sigma: self.components.log_sigma.contiguous()?.index_select(&index, 0)?,
        };
        Ok(gauss.sample(noise)?)
    }
}

/// A number in `[0, 1)` with 24 random bits.
fn uniform(rng: &mut Stream) -> f32 {
    (rng.next_u32() >> 8) as f32 / 16_777_216.0
}

/// Small tanh net `in -> 32 -> 32 -> out` for the shift or the log scale of a coupling.
#[derive(Clone)]
struct CouplingNet([Linear; 3]);

impl CouplingNet {
    fn new(input: usize, output: usize, rng: &mut Stream) -> Result<Self> {
        Ok(Self([
            Linear::new(input, COUPLING_WIDTH, rng)?,
            Linear::new(COUPLING_WIDTH, COUPLING_WIDTH, rng)?,
            Linear::new(COUPLING_WIDTH, output, rng)?,
        ]))
    }

    fn moved(&self, to: &Compute) -> Result<Self> {
        let [first, second, last] = &self.0;
        Ok(Self([first.moved(to)?, second.moved(to)?, last.moved(to)?]))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, last] = &self.0;
        Ok(last.forward(&second.forward(&first.forward(x)?.tanh()?)?.tanh()?)?)
    }
}

/// Affine coupling: the upper half moves given the lower one, then the lower half given the moved upper one.
#[derive(Clone)]
struct Coupling {
    t1: CouplingNet,
    s1: CouplingNet,
    t2: CouplingNet,
    s2: CouplingNet,
}

impl Coupling {
    fn new(latent: usize, condition: usize, rng: &mut Stream) -> Result<Self> {
        let (lower, upper) = (latent / 2, latent - latent / 2);
        Ok(Self {
            t1: CouplingNet::new(lower + condition, upper, rng)?,
            s1: CouplingNet::new(lower + condition, upper, rng)?,
            t2: CouplingNet::new(upper + condition, lower, rng)?,
            s2: CouplingNet::new(upper + condition, lower, rng)?,
        })
    }

    fn moved(&self, to: &Compute) -> Result<Self> {
        Ok(Self {
            t1: self.t1.moved(to)?,
            s1: self.s1.moved(to)?,
            t2: self.t2.moved(to)?,
            s2: self.s2.moved(to)?,
        })
    }

    /// From skill to base space; also the log determinant `[B]`.
    fn to_base(&self, x: &Tensor, condition: &Tensor) -> Result<(Tensor, Tensor)> {
        let (lower, upper) = halves(x)?;
        let given = Tensor::cat(&[&lower, condition], 1)?;
        let s1 = self.s1.forward(&given)?;
        let upper = (self.t1.forward(&given)? + (upper * s1.exp()?)?)?;
        let given = Tensor::cat(&[&upper, condition], 1)?;
        let s2 = self.s2.forward(&given)?;
        let lower = (self.t2.forward(&given)? + (lower * s2.exp()?)?)?;
        Ok((
            Tensor::cat(&[lower, upper], 1)?,
            (s1.sum(D::Minus1)? + s2.sum(D::Minus1)?)?,
        ))
    }

    /// From base to skill space.
    fn to_skill(&self, z: &Tensor, condition: &Tensor) -> Result<Tensor> {
        let (lower, upper) = halves(z)?;
        let given = Tensor::cat(&[&upper, condition], 1)?;
        let lower = ((lower - self.t2.forward(&given)?)? * self.s2.forward(&given)?.neg()?.exp()?)?;
        let given = Tensor::cat(&[&lower, condition], 1)?;
        let upper = ((upper - self.t1.forward(&given)?)? * self.s1.forward(&given)?.neg()?.exp()?)?;
        Ok(Tensor::cat(&[lower, upper], 1)?)
    }
}

fn halves(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let dim = x.dim(1)?;
    let middle = dim / 2;
    Ok((
        x.narrow(1, 0, middle)?.contiguous()?,
        x.narrow(1, middle, dim - middle)?.contiguous()?,
    ))
}

/// Conditional `RealNVP` (Dinh et al. 2017): a perceptron makes a condition vector that every coupling sees.
#[derive(Clone)]
pub struct ConditionalFlow {
    condition: Mlp,
    couplings: Vec<Coupling>,
    latent: usize,
}

impl ConditionalFlow {
    /// Fresh couplings behind the conditioning network `condition`.
    pub fn new(condition: Mlp, latent: usize, layers: usize, rng: &mut Stream) -> Result<Self> {
        let width = condition.spec().output;
        let couplings = (0..layers)
            .map(|_| Coupling::new(latent, width, rng))
            .collect::<Result<_>>()?;
        Ok(Self {
            condition,
            couplings,
            latent,
        })
    }

    fn moved(&self, to: &Compute) -> Result<Self> {
        let couplings = self.couplings.iter().map(|coupling| coupling.moved(to));
        Ok(Self {
            condition: self.condition.moved(to)?,
            couplings: couplings.collect::<Result<_>>()?,
            latent: self.latent,
        })
    }

    /// The distribution for states `[B, S]`.
    pub fn condition_on(&self, states: &Tensor, mode: Mode) -> Result<ConditionedFlow> {
        Ok(ConditionedFlow {
            condition: self.condition.forward(states, mode)?,
            flow: self.clone(),
        })
    }

    /// Every part with its name in the original checkpoints.
    pub fn parts(&self) -> Vec<(String, &Params)> {
        let mut parts = vec![("_cond_net.".to_owned(), self.condition.params())];
        for (index, coupling) in self.couplings.iter().enumerate() {
            let Coupling { t1, s1, t2, s2 } = coupling;
            for (name, net) in [("t1", t1), ("s1", s1), ("t2", t2), ("s2", s2)] {
                for (layer, linear) in net.0.iter().enumerate() {
                    // The original counts the tanh layers in between.
                    let name = format!("_flow_mdl.flows.{index}.{name}.network.{}.", 2 * layer);
                    parts.push((name, linear.params()));
                }
            }
        }
        parts
    }
}

/// A [`ConditionalFlow`] with the condition vectors of a batch.
#[derive(Clone)]
pub struct ConditionedFlow {
    condition: Tensor,
    flow: ConditionalFlow,
}

impl ConditionedFlow {
    /// Skills `[B, nz]` in base space and the log determinants `[B]` of the way there.
    pub fn to_base(&self, skills: &Tensor) -> Result<(Tensor, Tensor)> {
        check_shape("skills", skills, &[Some(self.rows()?), Some(self.flow.latent)])?;
        let mut x = skills.clone();
        let mut log_det = Tensor::zeros(self.rows()?, x.dtype(), x.device())?;
        for coupling in &self.flow.couplings {
            let (next, step) = coupling.to_base(&x, &self.condition)?;
            log_det = (log_det + step)?;
            x = next;
        }
        Ok((x, log_det))
    }

    /// Log density of skills `[B, nz]`: `[B]`.
    pub fn log_prob(&self, skills: &Tensor) -> Result<Tensor> {
        let (base, log_det) = self.to_base(skills)?;
        let constant = -0.5 * LN_2_PI * self.flow.latent as f64;
        Ok((base.sqr()?.sum(1)?.affine(-0.5, constant)? + log_det)?)
    }

    /// The skills `[B, nz]` whose base-space points are `noise`, `[B, nz]`.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        check_shape("noise", noise, &[Some(self.rows()?), Some(self.flow.latent)])?;
        let mut z = noise.clone();
        for coupling in self.flow.couplings.iter().rev() {
            z = coupling.to_skill(&z, &self.condition)?;
        }
        Ok(z)
    }

    /// Condition vectors `[B, width]`.
    pub fn condition(&self) -> &Tensor {
        &self.condition
    }

    fn rows(&self) -> Result<usize> {
        Ok(self.condition.dim(0)?)
    }

    fn latent(&self) -> usize {
        self.flow.latent
    }
}
