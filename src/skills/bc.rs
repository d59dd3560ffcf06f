//! The flat single-step prior `p(a_0 | s_0)` of `SPiRL`, which is also its behaviour-cloning model: a perceptron to a
//! diagonal Gaussian over one action, trained by maximum likelihood; of pictures behind a convolutional encoder.
//!
//! One checkpoint serves two baselines: SAC held close to this prior, and behaviour cloning with fine-tuning.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::policy::eye;
use super::spirl::first_picture;
use super::weights::{Stepper, check_pictures, export_all, import_all, optimiser_problems};
use super::{
    EarlyClip, GaussianNetwork, Result, Sees, SkillDims, SkillError, SkillModel, Standardiser, check_seen, check_shape,
    scalar,
};
use crate::nn::{Compute, DiagGaussian, Mlp, MlpSpec, Mode, Norm, OptimiserConfig, OptimiserKind, Params, is_finite};
use crate::pretraining::{Numbers, Pretrain};
use crate::rng::Stream;

/// Settings of a flat prior. Defaults: the published model of the kitchen (`kitchen/flat`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BcConfig {
    /// Width of the network. Default 128.
    pub width: usize,
    /// Hidden layers of the network. Default 5.
    pub hidden_layers: usize,
    /// Normalisation in the hidden layers. Default: batch normalisation, which a model that sees pictures needs.
    pub norm: Norm,
    /// Pictures only: channels after the first convolution; each further one doubles them. Pictures are encoded to
    /// `width` numbers. Default 8.
    pub conv_width: usize,
    /// Standardise states by mean and standard deviation of the data set. The original does not. Default false.
    pub standardise: bool,

    /// Default: `RAdam`.
    pub optimiser: OptimiserKind,
    /// Default 1e-3.
    pub learning_rate: f64,
    /// Decay of first and second moments. Default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the root of the second moment. Default 1e-8.
    pub epsilon: f64,
    /// Small gradient clip at the start. Default: norm 0.001 for 100 updates.
    pub early_clip: Option<EarlyClip>,
}

impl Default for BcConfig {
    fn default() -> Self {
        Self {
            width: 128,
            hidden_layers: 5,
            norm: Norm::Batch,
            conv_width: 8,
            standardise: false,
            optimiser: OptimiserKind::RAdam,
            learning_rate: 1e-3,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            early_clip: Some(EarlyClip::default()),
        }
    }
}

/// Numbers of one training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BcMetrics {
    /// `-log p(a | s)`, summed over action dimensions, mean over the batch, in nats.
    pub nll: f32,
    /// Global gradient norm before clipping.
    pub gradient_norm: f32,
    /// The loss or its gradient was not finite, and the weights were left alone.
    pub skipped: bool,
}

/// A flat single-step prior with its optimiser.
pub struct Bc {
    config: BcConfig,
    dims: SkillDims,
    network: GaussianNetwork,
    stepper: Stepper,
    compute: Compute,
}

impl BcConfig {
    /// Every setting that is impossible, alone or together with another one, for a model of these sizes.
    pub(crate) fn problems(&self, dims: SkillDims) -> Vec<SkillError> {
        let mut found = optimiser_problems(&self.optimiser_config(), self.early_clip);
        for (name, size) in [("width", self.width), ("conv_width", self.conv_width)] {
            if size == 0 {
                found.push(SkillError::Config(format!("`{name}` must be at least 1")));
            }
        }
        if dims.pixels.is_some() {
            found.extend(check_pictures(self.norm, self.standardise).err());
        }
        found
    }

    fn optimiser_config(&self) -> OptimiserConfig {
        OptimiserConfig {
            kind: self.optimiser,
            lr: self.learning_rate,
            betas: self.betas,
            eps: self.epsilon,
        }
    }
}

impl Bc {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// If a size is zero or a number of the optimiser cannot be used.
    pub fn new(config: BcConfig, dims: SkillDims, rng: &mut Stream) -> Result<Self> {
        let seen = dims.pixels.map_or(dims.state, |pixels| pixels.frames.min(pixels.size));
        if [seen, dims.action, config.width, config.conv_width].contains(&0) {
            return Err(SkillError::Config("sizes of a flat prior must be at least 1".into()));
        }
        let eye = match dims.pixels {
            Some(pixels) => {
                check_pictures(config.norm, config.standardise)?;
                Some(eye(pixels, config.conv_width, config.width, rng)?)
            }
            None => None,
        };
        let spec = MlpSpec {
            input: if eye.is_some() { config.width } else { dims.state },
            width: config.width,
            output: 2 * dims.action,
            hidden: config.hidden_layers,
            norm: config.norm,
        };
        let net = Mlp::new(spec, rng)?;
        let optimiser = config.optimiser_config();
        let standardiser = if config.standardise {
            Some(Standardiser::identity(dims.state)?)
        } else {
            None
        };
        let network = match eye {
            Some(eye) => GaussianNetwork::seeing(eye, net),
            None => GaussianNetwork::new(net, standardiser),
        };
        let trained = network.parts().into_iter().map(|(_, params)| params.clone());
        let stepper = Stepper::new(optimiser, config.early_clip, trained.collect())?;
        Ok(Self {
            config,
            dims,
            network,
            stepper,
            compute: Compute::Fused,
        })
    }

    /// The settings the model was built with.
    pub fn config(&self) -> &BcConfig {
        &self.config
    }

    /// Sizes of observation and action.
    pub fn dims(&self) -> SkillDims {
        self.dims
    }

    /// Uses up to `threads` threads of the current rayon pool in every pass (default 1). Results do not depend on it.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.network = self.network.with_threads(threads);
        self
    }

    /// Sets the standardisation of states; only with `config.standardise`, and before training.
    pub fn set_standardiser(&mut self, standardiser: Standardiser) -> Result<()> {
        if !self.config.standardise {
            return Err(SkillError::Config("`standardise` is off in this flat prior".into()));
        }
        check_shape("mean of the states", standardiser.tensors().0, &[Some(self.dims.state)])?;
        let standardiser = standardiser.on(self.compute.device())?;
        self.network.set_standardiser(Some(standardiser));
        Ok(())
    }

    /// The distribution over actions for states `[B, S]` or pictures `[B, 3 * frames, size, size]`, differentiable in
    /// the weights.
    pub fn forward(&self, states: &Tensor, mode: Mode) -> Result<DiagGaussian> {
        check_seen("states", states, None, self.dims)?;
        self.network.forward_in(states, mode)
    }

    /// Negative log-likelihood of actions `[B, A]` in states or pictures: sum over dimensions, mean over the batch.
    pub fn loss(&self, states: &Tensor, actions: &Tensor, mode: Mode) -> Result<Tensor> {
        check_shape("actions", actions, &[Some(states.dim(0)?), Some(self.dims.action)])?;
        let actions = actions.to_device(self.compute.device())?;
        Ok(self.forward(states, mode)?.log_prob(&actions)?.mean_all()?.neg()?)
    }

    /// One update on states or pictures, as in [`Bc::forward`], and actions `[B, A]`.
    pub fn train_step(&mut self, states: &Tensor, actions: &Tensor) -> Result<BcMetrics> {
        let loss = self.loss(states, actions, Mode::Train)?;
        let nll = scalar(&loss)?;
        let gradients = crate::nn::backward(&loss)?;
        let norm = self.stepper.gradient_norm(&gradients)?;
        let gradient_norm = scalar(&norm)?;
        let skipped = !nll.is_finite() || !gradient_norm.is_finite();
        if !skipped {
            self.stepper.step(&gradients, &norm, None)?;
        }
        Ok(BcMetrics {
            nll,
            gradient_norm,
            skipped,
        })
    }

    /// The same model, computed in another way or elsewhere; its optimiser begins anew.
    ///
    /// # Errors
    /// Not enough memory there.
    pub fn computed_by(self, compute: &Compute) -> Result<Self> {
        let network = self.network.moved(compute)?;
        let trained = network.parts().into_iter().map(|(_, params)| params.clone());
        let stepper = Stepper::new(
            self.config.optimiser_config(),
            self.config.early_clip,
            trained.collect(),
        )?;
        Ok(Self {
            network,
            stepper,
            compute: compute.clone(),
            ..self
        })
    }

    /// The network with its prefix in the original checkpoints.
    pub fn parts(&self) -> Vec<(String, &Params)> {
        let parts = self.network.parts().into_iter();
        parts.map(|(name, params)| (format!("net.{name}"), params)).collect()
    }

    /// Number of trained weights.
    pub fn parameter_count(&self) -> usize {
        self.parts().iter().map(|(_, params)| params.len()).sum()
    }

    /// The first state or picture of every window, and the action that was taken there: the one after its newest frame.
    fn moment(&self, states: &Tensor, actions: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(match self.dims.pixels {
            None => (states.get_on_dim(1, 0)?.contiguous()?, actions.get_on_dim(1, 0)?),
            Some(pixels) => (
                first_picture(states, pixels)?,
                actions.get_on_dim(1, pixels.frames - 1)?,
            ),
        })
    }
}

impl Pretrain for Bc {
    fn window(&self) -> usize {
        1 + self.dims.pixels.map_or(1, |pixels| pixels.frames)
    }

    fn sees(&self) -> Sees {
        self.dims.sees()
    }

    fn train(&mut self, states: Tensor, actions: Tensor, _noise: &mut Stream, lr_scale: f64) -> Result<Numbers> {
        self.stepper.scale_learning_rate(lr_scale);
        let (states, actions) = self.moment(&states, &actions)?;
        let metrics = self.train_step(&states, &actions)?;
        Ok(vec![
            ("nll", metrics.nll),
            ("gradient_norm", metrics.gradient_norm),
            ("skipped", f32::from(u8::from(metrics.skipped))),
        ])
    }

    fn train_unread(&mut self, states: Tensor, actions: Tensor, noise: &mut Stream, lr_scale: f64) -> Result<()> {
        if let Compute::Fused = self.compute {
            return self.train(states, actions, noise, lr_scale).map(|_| ());
        }
        self.stepper.scale_learning_rate(lr_scale);
        let (states, actions) = self.moment(&states, &actions)?;
        let loss = self.loss(&states, &actions, Mode::Train)?;
        let gradients = crate::nn::backward(&loss)?;
        let norm = self.stepper.gradient_norm(&gradients)?;
        let sound = is_finite(&(loss + &norm)?)?;
        self.stepper.step(&gradients, &norm, Some(&sound))
    }

    fn reads_at_once(&self) -> bool {
        self.compute.reads_at_once()
    }

    fn computed_by(self: Box<Self>, compute: &Compute) -> Result<Box<dyn Pretrain>> {
        Ok(Box::new(Self::computed_by(*self, compute)?))
    }

    fn validate(&mut self, states: Tensor, actions: Tensor, _noise: &mut Stream) -> Result<Numbers> {
        let (states, actions) = self.moment(&states, &actions)?;
        let loss = self.loss(&states, &actions, Mode::Eval)?;
        Ok(vec![("nll", scalar(&loss)?)])
    }

    fn export(&self) -> Result<BTreeMap<String, Tensor>> {
        export_all(&self.parts(), self.network.standardiser())
    }

    fn import(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        let standardiser = Standardiser::import(self.network.standardiser().is_some(), from, self.dims.state)?;
        import_all(&self.parts(), from)?;
        let standardiser = standardiser.map(|seen| seen.on(self.compute.device())).transpose()?;
        self.network.set_standardiser(standardiser);
        Ok(())
    }

    fn export_optimiser(&self) -> Result<BTreeMap<String, Tensor>> {
        self.stepper.export()
    }

    fn import_optimiser(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        self.stepper.import(from)
    }

    fn embed(&self, _states: Tensor, _actions: Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    fn policy_prior(&self) -> Result<GaussianNetwork> {
        Ok(self.network.moved(&Compute::Fused)?.with_threads(1))
    }

    fn into_skills(self: Box<Self>) -> Option<Arc<dyn SkillModel>> {
        None
    }
}
