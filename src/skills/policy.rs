//! The Gaussian network behind skill priors, flat priors and the policies that learners start from them.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::{PixelDims, Result, Sees, SkillError, check_shape};
use crate::nn::{Compute, ConvEncoder, ConvSpec, DiagGaussian, Mlp, Mode, Params};
use crate::rng::Stream;

/// A dimension that moves less than this over a data set is centred but not scaled: dividing by next to nothing would
/// turn the first deviation in use into a huge input.
const SMALLEST_SCALE: f32 = 1e-4;
const MEAN: &str = "standardise.mean";
const SCALE: &str = "standardise.scale";

/// Fixed, per-dimension standardisation of observations: `(x - mean) / scale`.
///
/// Stored with the model under `standardise.mean` and `standardise.scale`, so that whoever uses the model or a policy
/// taken from it feeds raw observations.
#[derive(Debug, Clone)]
pub struct Standardiser {
    mean: Tensor,
    scale: Tensor,
}

impl Standardiser {
    /// From the mean and the standard deviation of every observation dimension over a data set.
    ///
    /// # Errors
    /// If the lengths differ or a number is not finite.
    pub fn new(mean: &[f32], deviation: &[f32]) -> Result<Self> {
        if mean.len() != deviation.len() || mean.iter().chain(deviation).any(|value| !value.is_finite()) {
            return Err(SkillError::Config(
                "standardisation needs as many finite means as standard deviations".into(),
            ));
        }
        let scale: Vec<f32> = deviation
            .iter()
            .map(|value| if *value < SMALLEST_SCALE { 1.0 } else { *value })
            .collect();
        Ok(Self {
            mean: Tensor::from_slice(mean, mean.len(), &Device::Cpu)?,
            scale: Tensor::from_vec(scale, mean.len(), &Device::Cpu)?,
        })
    }

    /// Leaves observations of `state` numbers as they are; what a model holds until it sees a data set.
    pub(crate) fn identity(state: usize) -> Result<Self> {
        Self::new(&vec![0.0; state], &vec![1.0; state])
    }

    /// Adds the numbers of a standardiser, if there is one, to a model's weights.
    ///
    /// # Errors
    /// They could not be read back.
    pub(crate) fn export(this: Option<&Self>, out: &mut BTreeMap<String, Tensor>) -> Result<()> {
        if let Some(Self { mean, scale }) = this {
            out.insert(MEAN.into(), mean.to_device(&Device::Cpu)?);
            out.insert(SCALE.into(), scale.to_device(&Device::Cpu)?);
        }
        Ok(())
    }

    /// Reads what [`Standardiser::export`] wrote, if the model is one that standardises (`wanted`).
    ///
    /// # Errors
    /// If the weights belong to a model with the other setting, or to another number of states.
    pub(crate) fn import(wanted: bool, from: &BTreeMap<String, Tensor>, state: usize) -> Result<Option<Self>> {
        let problem = match (wanted, from.get(MEAN), from.get(SCALE)) {
            (false, None, None) => return Ok(None),
            (true, Some(mean), Some(scale)) => {
                check_shape(MEAN, mean, &[Some(state)])?;
                check_shape(SCALE, scale, &[Some(state)])?;
                return Ok(Some(Self::new(&mean.to_vec1::<f32>()?, &scale.to_vec1::<f32>()?)?));
            }
            (true, _, _) => {
                format!("no tensors `{MEAN}` and `{SCALE}`: the weights are those of a model without `standardise`")
            }
            (false, _, _) => {
                format!(
                    "unexpected tensors `{MEAN}` and `{SCALE}`: the weights are those of a model with `standardise`"
                )
            }
        };
        Err(SkillError::Weights(vec![problem]))
    }

    /// Mean and scale, each `[S]`.
    pub fn tensors(&self) -> (&Tensor, &Tensor) {
        (&self.mean, &self.scale)
    }

    /// The same with its numbers on `device`.
    pub(crate) fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            mean: self.mean.to_device(device)?,
            scale: self.scale.to_device(device)?,
        })
    }

    /// Standardises the last dimension of `observations`, `[.., S]`.
    pub fn apply(&self, observations: &Tensor) -> Result<Tensor> {
        let observations = observations.to_device(self.mean.device())?;
        Ok(observations.broadcast_sub(&self.mean)?.broadcast_div(&self.scale)?)
    }
}

/// Applies a standardiser where there is one.
pub(crate) fn standardised(standardiser: Option<&Standardiser>, observations: &Tensor) -> Result<Tensor> {
    standardiser.map_or_else(
        || Ok(observations.clone()),
        |standardiser| standardiser.apply(observations),
    )
}

/// A network from observations to a diagonal Gaussian over skills or actions: a multi-layer perceptron, behind a
/// convolutional encoder if it sees pictures.
///
/// This is the `SPiRL` prior network taken out of its skill model. Learners copy it twice: once as the policy they
/// train, once as the frozen prior they stay close to. Both run with batch normalisation on running statistics.
#[derive(Clone)]
pub struct GaussianNetwork {
    eye: Option<ConvEncoder>,
    net: Mlp,
    standardiser: Option<Standardiser>,
}

impl GaussianNetwork {
    /// Wraps a network of numbers with `2 d` outputs `[mean | log sigma]`.
    pub fn new(net: Mlp, standardiser: Option<Standardiser>) -> Self {
        Self {
            eye: None,
            net,
            standardiser,
        }
    }

    /// Wraps a network with `2 d` outputs `[mean | log sigma]` that sees pictures through `eye`, whose outputs are its
    /// inputs. Frames have three channels.
    pub fn seeing(eye: ConvEncoder, net: Mlp) -> Self {
        Self {
            eye: Some(eye),
            net,
            standardiser: None,
        }
    }

    /// Every part with its name in the original checkpoints: what an optimiser is given.
    pub fn parts(&self) -> Vec<(String, &Params)> {
        with_eye(self.eye.as_ref(), vec![(String::new(), self.net.params())])
    }

    /// The perceptron, without encoder and standardisation.
    pub fn mlp(&self) -> &Mlp {
        &self.net
    }

    /// The standardisation of its observations, if any.
    pub fn standardiser(&self) -> Option<&Standardiser> {
        self.standardiser.as_ref()
    }

    /// What it looks at.
    pub fn sees(&self) -> Sees {
        self.eye.as_ref().map_or(Sees::Numbers, |eye| {
            let spec = eye.spec();
            Sees::Pixels(PixelDims {
                frames: spec.channels / 3,
                size: spec.resolution,
            })
        })
    }

    /// Numbers in an observation; `None` if it sees pictures.
    pub fn observation_dim(&self) -> Option<usize> {
        self.eye.is_none().then_some(self.net.spec().input)
    }

    /// Numbers in a sample.
    pub fn sample_dim(&self) -> usize {
        self.net.spec().output / 2
    }

    /// The distribution for observations `[B, S]` or pictures `[B, 3 * frames, size, size]`, differentiable in the
    /// weights. Batch normalisation uses running statistics, as everywhere outside skill-model training.
    pub fn forward(&self, observations: &Tensor) -> Result<DiagGaussian> {
        self.forward_in(observations, Mode::Eval)
    }

    /// As [`GaussianNetwork::forward`], with the statistics of `mode`.
    pub(crate) fn forward_in(&self, observations: &Tensor, mode: Mode) -> Result<DiagGaussian> {
        let input = standardised(self.standardiser.as_ref(), observations)?;
        let input = match &self.eye {
            Some(eye) => eye.forward(&input, mode)?,
            None => input,
        };
        Ok(DiagGaussian::from_raw(&self.net.forward(&input, mode)?)?)
    }

    /// The same distribution with no gradient to the weights, for acting and for frozen priors.
    pub fn forward_frozen(&self, observations: &Tensor) -> Result<DiagGaussian> {
        let input = standardised(self.standardiser.as_ref(), observations)?;
        let input = match &self.eye {
            Some(eye) => eye.forward_frozen(&input, Mode::Eval)?,
            None => input,
        };
        Ok(DiagGaussian::from_raw(&self.net.forward_frozen(&input, Mode::Eval)?)?)
    }

    /// Uses up to `threads` threads of the current rayon pool in every pass (default 1). Results do not depend on it.
    pub fn with_threads(self, threads: usize) -> Self {
        Self {
            eye: self.eye.map(|eye| eye.with_threads(threads)),
            net: self.net.with_threads(threads),
            standardiser: self.standardiser,
        }
    }

    /// Observations are standardised from now on.
    pub(crate) fn set_standardiser(&mut self, standardiser: Option<Standardiser>) {
        self.standardiser = standardiser;
    }

    /// An independent copy of another kind of computation.
    pub(crate) fn moved(&self, to: &Compute) -> Result<Self> {
        let standardiser = self.standardiser.as_ref().map(|seen| seen.on(to.device()));
        Ok(Self {
            eye: self.eye.as_ref().map(|eye| eye.moved(to)).transpose()?,
            net: self.net.moved(to)?,
            standardiser: standardiser.transpose()?,
        })
    }

    /// An independent copy of weights and running statistics.
    pub fn deep_clone(&self) -> Result<Self> {
        Ok(Self {
            eye: self.eye.as_ref().map(ConvEncoder::deep_clone).transpose()?,
            net: self.net.deep_clone()?,
            standardiser: self.standardiser.clone(),
        })
    }
}

/// The encoder of pictures of these sizes: `width` channels after the first convolution, `output` numbers.
pub(crate) fn eye(pixels: PixelDims, width: usize, output: usize, rng: &mut Stream) -> Result<ConvEncoder> {
    let spec = ConvSpec {
        channels: pixels.channels(),
        resolution: pixels.size,
        width,
        output,
    };
    Ok(ConvEncoder::new(spec, rng)?)
}

/// The parts of a network behind an encoder, as the original checkpoints name them: they count the steps from picture
/// to output, of which the resizing (0) and the removal of the spatial axes (2) have no weights.
pub(crate) fn with_eye<'a>(
    eye: Option<&'a ConvEncoder>,
    parts: Vec<(String, &'a Params)>,
) -> Vec<(String, &'a Params)> {
    let Some(eye) = eye else { return parts };
    let behind = parts.into_iter().map(|(name, params)| (format!("3.{name}"), params));
    std::iter::once((IN_SEQUENCE.to_owned(), eye.params()))
        .chain(behind)
        .collect()
}

/// Name of an encoder, as the second step in a sequence.
pub(crate) const IN_SEQUENCE: &str = "1.net.net.";
