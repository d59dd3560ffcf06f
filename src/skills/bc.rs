//! The flat single-step prior `p(a_0 | s_0)` of `SPiRL`, which is also its behaviour-cloning model: a perceptron to a
//! diagonal Gaussian over one action, trained by maximum likelihood.
//!
//! One checkpoint serves two baselines: SAC held close to this prior, and behaviour cloning with fine-tuning.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::policy::standardised;
use super::spirl::EarlyClip;
use super::weights::{export_training, import_all, import_training};
use super::{GaussianNetwork, Result, SkillDims, SkillError, SkillModel, Standardiser, check_shape, scalar};
use crate::nn::{DiagGaussian, Mlp, MlpSpec, Mode, Norm, Optimiser, OptimiserConfig, OptimiserKind, Params};
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
    /// Normalisation in the hidden layers. Default: batch normalisation.
    pub norm: Norm,
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
            standardise: false,
            optimiser: OptimiserKind::RAdam,
            learning_rate: 1e-3,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            early_clip: Some(EarlyClip::default()),
        }
    }
}

/// Numbers of one training step or validation batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BcMetrics {
    /// `-log p(a | s)`, summed over action dimensions, mean over the batch, in nats.
    pub nll: f32,
    /// Global gradient norm before clipping; zero in validation.
    pub gradient_norm: f32,
    /// The loss or its gradient was not finite, and the weights were left alone.
    pub skipped: bool,
}

/// A flat single-step prior with its optimiser.
pub struct Bc {
    config: BcConfig,
    dims: SkillDims,
    net: Mlp,
    standardiser: Option<Standardiser>,
    optimiser: Optimiser,
    updates: u64,
}

impl Bc {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: BcConfig, dims: SkillDims, rng: &mut Stream) -> Result<Self> {
        if [dims.state, dims.action, config.width].contains(&0) {
            return Err(SkillError::Config("sizes of a flat prior must be at least 1".into()));
        }
        let spec = MlpSpec {
            input: dims.state,
            width: config.width,
            output: 2 * dims.action,
            hidden: config.hidden_layers,
            norm: config.norm,
        };
        let net = Mlp::new(spec, rng)?;
        let optimiser = OptimiserConfig {
            kind: config.optimiser,
            lr: config.learning_rate,
            betas: config.betas,
            eps: config.epsilon,
        };
        let optimiser = Optimiser::new(optimiser, vec![net.params().clone()]);
        let standardiser = if config.standardise {
            Some(Standardiser::identity(dims.state)?)
        } else {
            None
        };
        Ok(Self {
            config,
            dims,
            net,
            standardiser,
            optimiser,
            updates: 0,
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

    /// Training steps taken so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Uses up to `threads` threads of the current rayon pool in every pass (default 1). Results do not depend on it.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.net = self.net.with_threads(threads);
        self
    }

    /// Sets the standardisation of states; only with `config.standardise`, and before training.
    pub fn set_standardiser(&mut self, standardiser: Standardiser) -> Result<()> {
        if !self.config.standardise {
            return Err(SkillError::Config("`standardise` is off in this flat prior".into()));
        }
        check_shape("mean of the states", standardiser.tensors().0, &[Some(self.dims.state)])?;
        self.standardiser = Some(standardiser);
        Ok(())
    }

    /// The distribution over actions for states `[B, S]`, differentiable in the weights.
    pub fn forward(&self, states: &Tensor, mode: Mode) -> Result<DiagGaussian> {
        check_shape("states", states, &[None, Some(self.dims.state)])?;
        let states = standardised(self.standardiser.as_ref(), states)?;
        Ok(DiagGaussian::from_raw(&self.net.forward(&states, mode)?)?)
    }

    /// Negative log-likelihood of actions `[B, A]` in states `[B, S]`: sum over dimensions, mean over the batch.
    pub fn loss(&self, states: &Tensor, actions: &Tensor, mode: Mode) -> Result<Tensor> {
        check_shape("actions", actions, &[Some(states.dim(0)?), Some(self.dims.action)])?;
        Ok(self.forward(states, mode)?.log_prob(actions)?.mean_all()?.neg()?)
    }

    /// One update on states `[B, S]` and actions `[B, A]`.
    pub fn train_step(&mut self, states: &Tensor, actions: &Tensor) -> Result<BcMetrics> {
        let loss = self.loss(states, actions, Mode::Train)?;
        let nll = scalar(&loss)?;
        let gradients = crate::nn::backward(&loss)?;
        let gradient_norm = self.optimiser.gradient_norm(&gradients)?;
        if !nll.is_finite() || !gradient_norm.is_finite() {
            return Ok(BcMetrics {
                nll,
                gradient_norm,
                skipped: true,
            });
        }
        let clip = self
            .config
            .early_clip
            .filter(|clip| self.updates < clip.updates)
            .map(|clip| clip.norm);
        self.optimiser.step(&gradients, clip)?;
        self.updates += 1;
        Ok(BcMetrics {
            nll,
            gradient_norm,
            skipped: false,
        })
    }

    /// The loss in evaluation mode.
    pub fn validate(&self, states: &Tensor, actions: &Tensor) -> Result<BcMetrics> {
        Ok(BcMetrics {
            nll: scalar(&self.loss(states, actions, Mode::Eval)?)?,
            ..BcMetrics::default()
        })
    }

    /// A copy of the network that stands on its own: a policy to fine-tune, or a prior to stay close to.
    pub fn network(&self) -> Result<GaussianNetwork> {
        Ok(GaussianNetwork::new(
            self.net.deep_clone()?.with_threads(1),
            self.standardiser.clone(),
        ))
    }

    /// The network with its prefix in the original checkpoints.
    pub fn parts(&self) -> Vec<(String, &Params)> {
        vec![("net.".into(), self.net.params())]
    }

    /// Number of trained weights.
    pub fn parameter_count(&self) -> usize {
        self.net.params().len()
    }

    /// Weights and running statistics under their original names, and the standardisation.
    pub fn export(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        self.net.params().export("net.", &mut out)?;
        Standardiser::export(self.standardiser.as_ref(), &mut out);
        Ok(out)
    }

    /// Takes weights and running statistics by their original names.
    ///
    /// # Errors
    /// Names every tensor that is missing or has another shape; nothing has changed then.
    pub fn import(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        let standardiser = Standardiser::import(self.standardiser.is_some(), from, self.dims.state)?;
        import_all(&self.parts(), from)?;
        self.standardiser = standardiser;
        Ok(())
    }

    /// The rest of the training state, for resuming: optimiser moments and the number of updates.
    pub fn export_optimiser(&self) -> Result<BTreeMap<String, Tensor>> {
        export_training(&[("optimiser.", &self.optimiser)], self.updates)
    }

    /// Takes what [`Bc::export_optimiser`] gave.
    pub fn import_optimiser(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        self.updates = import_training(&mut [("optimiser.", &mut self.optimiser)], from)?;
        Ok(())
    }
}

impl Pretrain for Bc {
    fn window(&self) -> usize {
        2
    }

    fn train(&mut self, states: Tensor, actions: Tensor, _noise: &mut Stream, lr_scale: f64) -> Result<Numbers> {
        self.optimiser.set_lr(self.config.learning_rate * lr_scale);
        let metrics = self.train_step(&states.get_on_dim(1, 0)?.contiguous()?, &actions.get_on_dim(1, 0)?)?;
        Ok(vec![
            ("nll", metrics.nll),
            ("gradient_norm", metrics.gradient_norm),
            ("skipped", f32::from(u8::from(metrics.skipped))),
        ])
    }

    fn validate(&mut self, states: Tensor, actions: Tensor, _noise: &mut Stream) -> Result<Numbers> {
        let metrics = Self::validate(
            self,
            &states.get_on_dim(1, 0)?.contiguous()?,
            &actions.get_on_dim(1, 0)?,
        )?;
        Ok(vec![("nll", metrics.nll)])
    }

    fn weights(&self) -> Result<BTreeMap<String, Tensor>> {
        self.export()
    }

    fn optimiser(&self) -> Result<BTreeMap<String, Tensor>> {
        self.export_optimiser()
    }

    fn restore(
        &mut self,
        weights: &BTreeMap<String, Tensor>,
        optimiser: Option<&BTreeMap<String, Tensor>>,
    ) -> Result<()> {
        self.import(weights)?;
        optimiser.map_or(Ok(()), |optimiser| self.import_optimiser(optimiser))
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn embed(&self, _states: Tensor, _actions: Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    fn policy_prior(&self) -> Result<GaussianNetwork> {
        self.network()
    }

    fn into_skills(self: Box<Self>) -> Option<Arc<dyn SkillModel>> {
        None
    }
}
