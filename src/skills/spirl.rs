//! The skill model of `SPiRL`: *Accelerating Reinforcement Learning with Learned Skill Priors* (Pertsch, Lee, Lim;
//! `CoRL` 2020, arXiv 2010.11944), and its closed-loop successor from the authors' code.
//!
//! A skill is a latent vector `z` of `nz` numbers that stands for `H` actions. Three networks are trained together on
//! sub-sequences of demonstrations:
//!
//! ```text
//! posterior  q(z | a_0..a_{H-1})      what skill was this?          (closed loop: also sees s_0..s_{H-1})
//! decoder    open loop    z -> a_0..a_{H-1}, recurrent, blind
//!            closed loop  s_t, z -> a_t
//! prior      p(z | s_0)               which skills are likely here?
//!
//! L = reconstruction + kl_weight * KL(q || N(0, 1)) + prior,   prior = -log p(z | s_0) for a detached z ~ q
//! ```
//!
//! Batches: states `[B, T, S]` with `T >= H` (sub-sequences have `T = H + 1`; the last state is not used), actions
//! `[B, H, A]`. Units of the three losses are those of the original code, because the published weights belong to
//! them; see [`Spirl::losses`].

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::policy::standardised;
use super::prior::{PriorDistribution, PriorKind, PriorNetwork, PriorSpec};
use super::top_n::TopN;
use super::weights::{export_training, import_all, import_training, one_name_each};
use super::{
    Decoding, GaussianNetwork, Result, SkillDims, SkillError, SkillModel, SkillSpace, Standardiser, check_shape, scalar,
};
use crate::nn::{
    DiagGaussian, Linear, LstmDecoder, LstmEncoder, LstmSpec, Mlp, MlpSpec, Mode, Norm, Optimiser, OptimiserConfig,
    OptimiserKind, Params,
};
use crate::pretraining::{Numbers, Pretrain};
use crate::rng::Stream;

/// Settings of a `SPiRL` skill model. Defaults: the published closed-loop model of the kitchen
/// (`kitchen/hierarchical_cl`); the open-loop model of the paper differs only in `decoder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpirlConfig {
    /// Open loop (the paper) or closed loop (the authors' later default). Default: closed loop.
    pub decoder: DecoderKind,
    /// Numbers in a skill, `nz`. Default 10.
    pub latent: usize,
    /// Length of a skill `H`, in ticks. Default 10.
    pub length: usize,
    /// Outputs of the posterior's recurrent network, before the layer to mean and log sigma. Default 128.
    pub encoder_output: usize,
    /// Width of the recurrent networks. Default 128.
    pub lstm_width: usize,
    /// LSTM layers of each recurrent network. Default 1.
    pub lstm_layers: usize,
    /// Width of prior, closed-loop decoder and start networks. Default 128.
    pub width: usize,
    /// Hidden layers of the closed-loop decoder. Default 5.
    pub decoder_hidden_layers: usize,
    /// Hidden layers of the prior and of the start networks; coupling layers of a flow prior. Default 6.
    pub prior_hidden_layers: usize,
    /// Normalisation in the perceptrons' hidden layers. Default: batch normalisation.
    pub norm: Norm,
    /// Open loop only: the decoder's first input and hidden state come from two networks of `s_0` instead of learned
    /// constants, and the posterior sees `s_0` at every step. Default false.
    pub conditioned_start: bool,
    /// Closed loop, when acting: pass decoded actions through tanh, as the original does although the decoder was
    /// trained without it (it then executes 0.76 where it learned 1.0). Default false: actions are used as decoded.
    pub tanh_actions: bool,
    /// Standardise states by mean and standard deviation of the data set. The original does not. Default false.
    pub standardise: bool,

    /// Weight of the reconstruction loss; zero leaves it out. Default 1.
    pub reconstruction_weight: f32,
    /// Weight of the KL loss, which is a mean over batch and latent dimensions; zero leaves it out. Default 5e-4.
    pub kl_weight: f32,
    /// Adapt the KL weight until the KL loss reaches this target (nats per latent dimension) instead of using
    /// `kl_weight`. Default: off.
    pub auto_beta: Option<AutoBeta>,

    /// Family of the prior. Default: Gaussian.
    pub prior: PriorKind,
    /// Numbers between the perceptron and the head of a mixture prior. Default 128.
    pub mixture_features: usize,
    /// Size of the prior ensemble. A batch is cut into as many parts, one per member; member 0 is the one used after
    /// training. Default 1.
    pub prior_members: usize,
    /// How the prior is trained. Default: on samples of the posterior.
    pub prior_training: PriorTraining,
    /// Train only the prior: posterior and decoder keep the weights they were loaded with. Default false.
    pub freeze_embedding: bool,

    /// Update rule. Default: `RAdam`.
    pub optimiser: OptimiserKind,
    /// Default 1e-3.
    pub learning_rate: f64,
    /// Decay of first and second moments. Default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the root of the second moment. Default 1e-8.
    pub epsilon: f64,
    /// Small gradient clip while `RAdam` still takes unadapted steps. Default: norm 0.001 for 100 updates (added to the
    /// original in 2022, against rare divergence).
    pub early_clip: Option<EarlyClip>,
}

impl Default for SpirlConfig {
    fn default() -> Self {
        Self {
            decoder: DecoderKind::ClosedLoop,
            latent: 10,
            length: 10,
            encoder_output: 128,
            lstm_width: 128,
            lstm_layers: 1,
            width: 128,
            decoder_hidden_layers: 5,
            prior_hidden_layers: 6,
            norm: Norm::Batch,
            conditioned_start: false,
            tanh_actions: false,
            standardise: false,
            reconstruction_weight: 1.0,
            kl_weight: 5e-4,
            auto_beta: None,
            prior: PriorKind::Gauss,
            mixture_features: 128,
            prior_members: 1,
            prior_training: PriorTraining::Nll,
            freeze_embedding: false,
            optimiser: OptimiserKind::RAdam,
            learning_rate: 1e-3,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            early_clip: Some(EarlyClip::default()),
        }
    }
}

/// How a skill is turned into actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecoderKind {
    /// A recurrent network unrolls the skill without looking at the world.
    OpenLoop,
    /// A perceptron maps the current state and the skill to the next action.
    ClosedLoop,
}

/// What the prior is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PriorTraining {
    /// `-log p(z | s_0)` of posterior samples, summed over dimensions.
    Nll,
    /// `KL(q || p)`, mean over dimensions; Gaussian priors only.
    Kl,
}

/// Automatic KL weight: `beta = exp(log beta)` grows while the KL loss is above its target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoBeta {
    /// Target of the KL loss, nats per latent dimension. Default 1.
    pub target: f32,
    /// Start of log beta. Default 0.
    pub start: f32,
    /// Learning rate of log beta, which has its own `RAdam`. Default 3e-4.
    pub learning_rate: f64,
    /// Step log beta a second time with the model's optimiser, and count its gradient in the clip, as happens in the
    /// original where it is also registered as a model parameter. Default false.
    pub double_step: bool,
}

impl Default for AutoBeta {
    fn default() -> Self {
        Self {
            target: 1.0,
            start: 0.0,
            learning_rate: 3e-4,
            double_step: false,
        }
    }
}

/// Clip of the global gradient norm during the first updates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyClip {
    /// Largest norm. Default 0.001.
    pub norm: f32,
    /// Number of updates it applies to. Default 100.
    pub updates: u64,
}

impl Default for EarlyClip {
    fn default() -> Self {
        Self {
            norm: 1e-3,
            updates: 100,
        }
    }
}

/// Sub-sequences of demonstrations.
#[derive(Debug, Clone)]
pub struct SkillBatch {
    /// `[B, T, S]`, `T >= H`.
    pub states: Tensor,
    /// `[B, H, A]`
    pub actions: Tensor,
}

/// What one pass over a batch computes.
pub struct Pass {
    /// `q(z | ..)`, `[B, nz]`.
    pub posterior: DiagGaussian,
    /// The sample of the posterior that was decoded, `[B, nz]`.
    pub skills: Tensor,
    /// Decoded actions `[B, H, A]`.
    pub actions: Tensor,
    /// `p(z | s_0)`: one distribution per ensemble member, over its part of the batch.
    pub priors: Vec<PriorDistribution>,
}

/// The losses of a batch; every tensor is a scalar.
#[derive(Debug)]
pub struct Losses {
    /// See [`Spirl::losses`].
    pub reconstruction: Tensor,
    /// See [`Spirl::losses`].
    pub kl: Tensor,
    /// Mean over the prior ensemble; see [`Spirl::losses`].
    pub prior: Tensor,
    /// Weighted sum of the three.
    pub total: Tensor,
    /// Prior loss of every ensemble member.
    pub breakdown: Vec<Tensor>,
    /// The KL weight in `total`.
    pub kl_weight: f32,
}

/// Numbers of one training step or validation batch, for logging.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Reconstruction loss, nats per action number.
    pub reconstruction: f32,
    /// KL to the unit Gaussian, nats per latent dimension.
    pub kl: f32,
    /// Prior loss: nats per skill (NLL) or per latent dimension (KL).
    pub prior: f32,
    /// Weighted sum.
    pub total: f32,
    /// Prior loss of every ensemble member.
    pub breakdown: Vec<f32>,
    /// KL weight used.
    pub kl_weight: f32,
    /// Global gradient norm before clipping; zero in validation.
    pub gradient_norm: f32,
    /// The loss or its gradient was not finite, and the weights were left alone.
    pub skipped: bool,
}

impl StepMetrics {
    fn of(losses: &Losses) -> Result<Self> {
        Ok(Self {
            reconstruction: scalar(&losses.reconstruction)?,
            kl: scalar(&losses.kl)?,
            prior: scalar(&losses.prior)?,
            total: scalar(&losses.total)?,
            breakdown: losses.breakdown.iter().map(scalar).collect::<Result<_>>()?,
            kl_weight: losses.kl_weight,
            ..Self::default()
        })
    }
}

/// A `SPiRL` skill model with its optimiser.
pub struct Spirl {
    config: SpirlConfig,
    dims: SkillDims,
    lengths: [usize; 1],
    posterior: Posterior,
    decoder: Decoder,
    priors: Vec<PriorNetwork>,
    standardiser: Option<Standardiser>,
    beta: Option<Beta>,
    optimiser: Optimiser,
    updates: u64,
}

/// `q(z | actions, maybe states)`: LSTM over the sequence, last output to mean and log sigma.
struct Posterior {
    encoder: LstmEncoder,
    head: Linear,
}

enum Decoder {
    Open {
        lstm: LstmDecoder,
        start: Option<StartNetworks>,
    },
    Closed(Mlp),
}

/// How the networks of posterior and decoder are run.
#[derive(Clone, Copy)]
enum Use {
    /// With gradients to the weights.
    Train(Mode),
    /// In evaluation mode and without gradients to the weights.
    Frozen,
}

impl Use {
    fn run(self, net: &Mlp, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Train(mode) => net.forward(x, mode)?,
            Self::Frozen => net.forward_frozen(x, Mode::Eval)?,
        })
    }
}

/// First input and first hidden state of the open-loop decoder from the state in which the skill begins.
struct StartNetworks {
    input: Mlp,
    hidden: Mlp,
}

/// The adaptive KL weight with its own optimiser.
struct Beta {
    log_beta: Params,
    optimiser: Optimiser,
    settings: AutoBeta,
}

impl Beta {
    fn log_beta(&self) -> Result<f32> {
        Ok(self.log_beta.var().sum_all()?.to_scalar::<f32>()?)
    }

    /// Its gradient is positive, and log beta falls, while the KL loss is below the target.
    fn objective(&self, kl: &Tensor) -> Result<Tensor> {
        let gap = kl.detach().affine(-1.0, f64::from(self.settings.target))?;
        Ok((self.log_beta.var().exp()?.sum_all()? * gap)?)
    }
}

impl Spirl {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// If settings are impossible or contradict each other.
    pub fn new(config: SpirlConfig, dims: SkillDims, rng: &mut Stream) -> Result<Self> {
        check(&config, dims)?;
        let SkillDims { state, action } = dims;
        let closed = config.decoder == DecoderKind::ClosedLoop;
        let mlp = |input, output, hidden, rng: &mut Stream| {
            Mlp::new(
                MlpSpec {
                    input,
                    width: config.width,
                    output,
                    hidden,
                    norm: config.norm,
                },
                rng,
            )
        };
        let lstm = |input, output| LstmSpec {
            input,
            hidden: config.lstm_width,
            layers: config.lstm_layers,
            output,
        };
        let sees_states = closed || config.conditioned_start;
        let posterior_input = if sees_states { action + state } else { action };
        let posterior = Posterior {
            encoder: LstmEncoder::new(lstm(posterior_input, config.encoder_output), rng)?,
            head: Linear::new(config.encoder_output, 2 * config.latent, rng)?,
        };
        let decoder = if closed {
            Decoder::Closed(mlp(state + config.latent, action, config.decoder_hidden_layers, rng)?)
        } else {
            let lstm = LstmDecoder::new(lstm(action + config.latent, action), !config.conditioned_start, rng)?;
            let hidden = 2 * config.lstm_width * config.lstm_layers;
            let start = if config.conditioned_start {
                Some(StartNetworks {
                    input: mlp(state, action, config.prior_hidden_layers, rng)?,
                    hidden: mlp(state, hidden, config.prior_hidden_layers, rng)?,
                })
            } else {
                None
            };
            Decoder::Open { lstm, start }
        };
        let prior = PriorSpec {
            state,
            latent: config.latent,
            width: config.width,
            hidden: config.prior_hidden_layers,
            features: config.mixture_features,
            norm: config.norm,
        };
        let priors = (0..config.prior_members)
            .map(|_| PriorNetwork::new(config.prior, &prior, rng))
            .collect::<Result<Vec<_>>>()?;
        let beta = match config.auto_beta {
            Some(settings) => {
                let log_beta = Params::single("t", settings.start)?;
                let optimiser = Optimiser::new(OptimiserConfig::radam(settings.learning_rate), vec![log_beta.clone()]);
                Some(Beta {
                    log_beta,
                    optimiser,
                    settings,
                })
            }
            None => None,
        };
        let standardiser = if config.standardise {
            Some(Standardiser::identity(state)?)
        } else {
            None
        };
        let optimiser = OptimiserConfig {
            kind: config.optimiser,
            lr: config.learning_rate,
            betas: config.betas,
            eps: config.epsilon,
        };
        let lengths = [config.length];
        let mut model = Self {
            config,
            dims,
            lengths,
            posterior,
            decoder,
            priors,
            standardiser,
            beta,
            optimiser: Optimiser::new(optimiser, Vec::new()),
            updates: 0,
        };
        model.optimiser = Optimiser::new(optimiser, model.trained());
        Ok(model)
    }

    /// The settings the model was built with.
    pub fn config(&self) -> &SpirlConfig {
        &self.config
    }

    /// Training steps taken so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Uses up to `threads` threads of the current rayon pool in every pass (default 1). Results do not depend on it.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.posterior.encoder = self.posterior.encoder.with_threads(threads);
        self.decoder = match self.decoder {
            Decoder::Closed(net) => Decoder::Closed(net.with_threads(threads)),
            Decoder::Open { lstm, start } => Decoder::Open {
                lstm: lstm.with_threads(threads),
                start: start.map(|StartNetworks { input, hidden }| StartNetworks {
                    input: input.with_threads(threads),
                    hidden: hidden.with_threads(threads),
                }),
            },
        };
        self.priors = self
            .priors
            .into_iter()
            .map(|prior| prior.with_threads(threads))
            .collect();
        self
    }

    /// Sets the standardisation of states; only with `config.standardise`, and before training.
    pub fn set_standardiser(&mut self, standardiser: Standardiser) -> Result<()> {
        if !self.config.standardise {
            return Err(SkillError::Config("`standardise` is off in this skill model".into()));
        }
        check_shape("mean of the states", standardiser.tensors().0, &[Some(self.dims.state)])?;
        self.standardiser = Some(standardiser);
        Ok(())
    }

    // ---------------------------------------------------------------------------------------------- training

    /// Posterior, a sample of it (`noise` is `[B, nz]`, standard normal), its decoding, and the prior.
    ///
    /// The closed-loop decoder is always given the states of the data set, in training and in evaluation.
    pub fn pass(&self, batch: &SkillBatch, noise: &Tensor, mode: Mode) -> Result<Pass> {
        let rows = self.check_batch(batch)?;
        check_shape("noise", noise, &[Some(rows), Some(self.config.latent)])?;
        let states = standardised(self.standardiser.as_ref(), &batch.states)?;
        let first = states.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        let embedding = if self.config.freeze_embedding {
            Use::Frozen
        } else {
            Use::Train(mode)
        };
        let posterior = self.posterior(&states, &batch.actions, embedding)?;
        let skills = posterior.sample(noise)?;
        let actions = self.decode(&states, &skills, embedding)?;
        let mut priors = Vec::with_capacity(self.priors.len());
        // Like torch.chunk: parts of equal size, the last one may be shorter.
        let part = rows.div_ceil(self.priors.len());
        for (member, prior) in self.priors.iter().enumerate() {
            let begin = (member * part).min(rows);
            let states = first.narrow(0, begin, part.min(rows - begin))?;
            priors.push(prior.forward(&states, mode)?);
        }
        Ok(Pass {
            posterior,
            skills,
            actions,
            priors,
        })
    }

    /// The losses of a pass, in the units of the original code:
    ///
    /// * `reconstruction`: `-log N(a; decoded action, 1)`, **mean over batch, time and action dimensions**
    ///   (0.919 when perfect);
    /// * `kl`: `KL(q || N(0, 1))`, **mean over batch and latent dimensions**;
    /// * `prior`: `-log p(z | s_0)` of the detached posterior sample, **sum over latent dimensions**, mean over the
    ///   batch; or, trained by KL, `KL(detached q || p)` as a mean over batch and latent dimensions.
    pub fn losses(&self, pass: &Pass, batch: &SkillBatch) -> Result<Losses> {
        let half_ln_2_pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        let reconstruction = (&pass.actions - &batch.actions)?
            .sqr()?
            .mean_all()?
            .affine(0.5, half_ln_2_pi)?;
        let kl = pass.posterior.kl_unit()?.mean_all()?;

        let mut breakdown = Vec::with_capacity(pass.priors.len());
        let mut begin = 0;
        for prior in &pass.priors {
            let (loss, rows) = self.prior_loss(prior, pass, begin)?;
            begin += rows;
            breakdown.push(loss);
        }
        let prior = Tensor::stack(&breakdown, 0)?.mean_all()?;

        let kl_weight = match &self.beta {
            Some(beta) => beta.log_beta()?.exp(),
            None => self.config.kl_weight,
        };
        let mut total = prior.clone();
        if !self.config.freeze_embedding {
            for (weight, loss) in [(self.config.reconstruction_weight, &reconstruction), (kl_weight, &kl)] {
                if weight > 0.0 {
                    total = (total + loss.affine(f64::from(weight), 0.0)?)?;
                }
            }
        }
        Ok(Losses {
            reconstruction,
            kl,
            prior,
            total,
            breakdown,
            kl_weight,
        })
    }

    /// Loss of one ensemble member and the number of rows it was given, which start at `begin`.
    fn prior_loss(&self, prior: &PriorDistribution, pass: &Pass, begin: usize) -> Result<(Tensor, usize)> {
        let rows = pass
            .skills
            .dim(0)?
            .div_ceil(pass.priors.len())
            .min(pass.skills.dim(0)? - begin);
        let own = |tensor: &Tensor| tensor.detach().narrow(0, begin, rows);
        let loss = match (self.config.prior_training, prior.gauss()) {
            (PriorTraining::Kl, Some(gauss)) => {
                let target = DiagGaussian {
                    mu: own(&pass.posterior.mu)?,
                    log_sigma: own(&pass.posterior.log_sigma)?,
                };
                target.kl(gauss)?.mean_all()?
            }
            _ => prior.log_prob(&own(&pass.skills)?)?.mean_all()?.neg()?,
        };
        Ok((loss, rows))
    }

    /// Pass and losses in one call.
    pub fn loss(&self, batch: &SkillBatch, noise: &Tensor, mode: Mode) -> Result<Losses> {
        self.losses(&self.pass(batch, noise, mode)?, batch)
    }

    /// One update of all networks on a batch; `noise` is `[B, nz]`, standard normal.
    ///
    /// A loss or gradient that is not finite leaves weights and optimisers alone and sets [`StepMetrics::skipped`].
    pub fn train_step(&mut self, batch: &SkillBatch, noise: &Tensor) -> Result<StepMetrics> {
        let losses = self.loss(batch, noise, Mode::Train)?;
        let mut metrics = StepMetrics::of(&losses)?;
        if !metrics.total.is_finite() {
            metrics.skipped = true;
            return Ok(metrics);
        }
        let mut objective = losses.total;
        if let Some(beta) = &self.beta {
            objective = (objective + beta.objective(&losses.kl)?)?;
        }
        let gradients = crate::nn::backward(&objective)?;
        metrics.gradient_norm = self.optimiser.gradient_norm(&gradients)?;
        if !metrics.gradient_norm.is_finite() {
            metrics.skipped = true;
            return Ok(metrics);
        }
        if let Some(beta) = &mut self.beta {
            beta.optimiser.step(&gradients, None)?;
        }
        let clip = self
            .config
            .early_clip
            .filter(|clip| self.updates < clip.updates)
            .map(|clip| clip.norm);
        self.optimiser.step(&gradients, clip)?;
        self.updates += 1;
        Ok(metrics)
    }

    /// Losses of a validation batch in evaluation mode, and how close decodings of random skills come to it.
    ///
    /// `noise` is `[B, nz]`; `draws` is `[N, B, nz]`, the random skills: N of **the unit Gaussian, not of the learned
    /// prior**, for every sequence (the original takes N = 100). Push the errors of all batches into one [`TopN`].
    pub fn validate(&self, batch: &SkillBatch, noise: &Tensor, draws: &Tensor) -> Result<(StepMetrics, TopN)> {
        let metrics = StepMetrics::of(&self.loss(batch, noise, Mode::Eval)?)?;
        let rows = batch.states.dim(0)?;
        check_shape("draws", draws, &[None, Some(rows), Some(self.config.latent)])?;
        let states = standardised(self.standardiser.as_ref(), &batch.states)?;
        let mut top = TopN {
            errors: vec![Vec::new(); rows],
        };
        for draw in 0..draws.dim(0)? {
            let skills = draws.get(draw)?;
            let actions = self.decode(&states, &skills, Use::Frozen)?;
            let errors = (actions - &batch.actions)?
                .sqr()?
                .flatten_from(1)?
                .mean(1)?
                .to_vec1::<f32>()?;
            for (sequence, error) in top.errors.iter_mut().zip(errors) {
                sequence.push(error);
            }
        }
        Ok((metrics, top))
    }

    /// Posterior means `[B, nz]` of a batch, for latent pictures.
    pub fn posterior_means(&self, batch: &SkillBatch) -> Result<Tensor> {
        self.check_batch(batch)?;
        let states = standardised(self.standardiser.as_ref(), &batch.states)?;
        Ok(self.posterior(&states, &batch.actions, Use::Frozen)?.mu)
    }

    // ---------------------------------------------------------------------------------------------- networks

    /// `q(z | ..)` from standardised states `[B, T, S]` and actions `[B, H, A]`.
    fn posterior(&self, states: &Tensor, actions: &Tensor, using: Use) -> Result<DiagGaussian> {
        let (rows, _, state) = states.dims3()?;
        let length = self.config.length;
        let seen = match &self.decoder {
            Decoder::Closed(_) => Some(states.narrow(1, 0, length)?),
            Decoder::Open { start: Some(_), .. } => Some(states.narrow(1, 0, 1)?.expand((rows, length, state))?),
            Decoder::Open { start: None, .. } => None,
        };
        let sequence = match seen {
            Some(seen) => Tensor::cat(&[actions, &seen], 2)?,
            None => actions.clone(),
        };
        let Posterior { encoder, head } = &self.posterior;
        let raw = match using {
            Use::Train(_) => head.forward(&encoder.forward(&sequence)?)?,
            Use::Frozen => head.forward_frozen(&encoder.forward_frozen(&sequence)?)?,
        };
        Ok(DiagGaussian::from_raw(&raw)?)
    }

    /// Actions `[B, H, A]` of skills `[B, nz]` along standardised states `[B, T, S]`.
    fn decode(&self, states: &Tensor, skills: &Tensor, using: Use) -> Result<Tensor> {
        match &self.decoder {
            Decoder::Closed(net) => {
                let (rows, _, state) = states.dims3()?;
                let (length, latent) = (self.config.length, self.config.latent);
                let skills = skills.unsqueeze(1)?.expand((rows, length, latent))?;
                let input = Tensor::cat(&[&states.narrow(1, 0, length)?, &skills], 2)?;
                let actions = using.run(net, &input.reshape((rows * length, state + latent))?)?;
                Ok(actions.reshape((rows, length, self.dims.action))?)
            }
            Decoder::Open { lstm, start } => {
                let start = match start {
                    Some(networks) => {
                        let first = states.narrow(1, 0, 1)?.squeeze(1)?;
                        Some((
                            using.run(&networks.input, &first)?,
                            using.run(&networks.hidden, &first)?,
                        ))
                    }
                    None => None,
                };
                let start = start.as_ref().map(|(input, hidden)| (input, hidden));
                Ok(match using {
                    Use::Train(_) => lstm.forward(skills, start, self.config.length)?,
                    Use::Frozen => lstm.forward_frozen(skills, start, self.config.length)?,
                })
            }
        }
    }

    // ------------------------------------------------------------------------------------------------ acting

    /// The prior over skills for observations `[B, S]`, any family; no gradients, running statistics.
    pub fn prior_distribution(&self, observations: &Tensor) -> Result<PriorDistribution> {
        check_shape("observations", observations, &[None, Some(self.dims.state)])?;
        let [member, ..] = self.priors.as_slice() else {
            return Err(SkillError::Config("the skill model has no prior".into()));
        };
        let states = standardised(self.standardiser.as_ref(), observations)?;
        match member {
            PriorNetwork::Gauss(net) => {
                let raw = net.forward_frozen(&states, Mode::Eval)?;
                Ok(PriorDistribution::Gauss(DiagGaussian::from_raw(&raw)?))
            }
            PriorNetwork::Gmm(..) | PriorNetwork::Flow(_) => member.forward(&states, Mode::Eval),
        }
    }

    /// The Gaussian prior over skills, `[B, nz]`, for observations `[B, S]`.
    ///
    /// # Errors
    /// If the prior is not Gaussian.
    pub fn prior(&self, observations: &Tensor) -> Result<DiagGaussian> {
        match self.prior_distribution(observations)? {
            PriorDistribution::Gauss(gauss) => Ok(gauss),
            PriorDistribution::Mixture(_) | PriorDistribution::Flow(_) => Err(not_gaussian()),
        }
    }

    /// A copy of the prior network that stands on its own: what a learner trains as its policy, or keeps as its prior.
    ///
    /// # Errors
    /// If the prior is not Gaussian.
    pub fn prior_network(&self) -> Result<GaussianNetwork> {
        match self.priors.as_slice() {
            [PriorNetwork::Gauss(net), ..] => Ok(GaussianNetwork::new(
                net.deep_clone()?.with_threads(1),
                self.standardiser.clone(),
            )),
            _ => Err(not_gaussian()),
        }
    }

    /// The `H` actions `[B, H, A]` of skills `[B, nz]`; with a conditioned start also from the observations `[B, S]` in
    /// which they begin. Evaluation mode, no gradients, no tanh.
    pub fn decode_open(&self, observations: Option<&Tensor>, skills: &Tensor) -> Result<Tensor> {
        let Decoder::Open { start, .. } = &self.decoder else {
            return Err(SkillError::Config("a closed-loop decoder does not plan ahead".into()));
        };
        let rows = skills.dim(0)?;
        check_shape("skills", skills, &[Some(rows), Some(self.config.latent)])?;
        let states = match (start, observations) {
            (Some(_), Some(observations)) => {
                check_shape("observations", observations, &[Some(rows), Some(self.dims.state)])?;
                standardised(self.standardiser.as_ref(), &observations.detach())?.unsqueeze(1)?
            }
            (Some(_), None) => {
                return Err(SkillError::Config(
                    "a conditioned decoder needs the observations".into(),
                ));
            }
            (None, _) => Tensor::zeros((rows, 1, self.dims.state), skills.dtype(), skills.device())?,
        };
        self.decode(&states, &skills.detach(), Use::Frozen)
    }

    /// The next actions `[B, A]` for observations `[B, S]` and skills `[B, nz]`. Evaluation mode, no gradients, no
    /// tanh.
    pub fn decode_closed(&self, observations: &Tensor, skills: &Tensor) -> Result<Tensor> {
        let Decoder::Closed(net) = &self.decoder else {
            return Err(SkillError::Config("an open-loop decoder does not react".into()));
        };
        let rows = observations.dim(0)?;
        check_shape("observations", observations, &[Some(rows), Some(self.dims.state)])?;
        check_shape("skills", skills, &[Some(rows), Some(self.config.latent)])?;
        let states = standardised(self.standardiser.as_ref(), observations)?;
        let input = Tensor::cat(&[&states, skills], 1)?.detach();
        Ok(net.forward_frozen(&input, Mode::Eval)?)
    }

    // --------------------------------------------------------------------------------------- weights and state

    /// Every network with its prefix in the original checkpoints.
    pub fn parts(&self) -> Vec<(String, &Params)> {
        let mut parts = self.embedding();
        for (member, prior) in self.priors.iter().enumerate() {
            parts.extend(
                prior
                    .parts()
                    .into_iter()
                    .map(|(name, params)| (format!("p.{member}.{name}"), params)),
            );
        }
        if let Some(beta) = &self.beta {
            parts.push(("_log_beta.".into(), &beta.log_beta));
        }
        parts
    }

    /// Posterior and decoder.
    fn embedding(&self) -> Vec<(String, &Params)> {
        let mut parts = vec![
            ("q.0.cell.".to_owned(), self.posterior.encoder.params()),
            ("q.1.".to_owned(), self.posterior.head.params()),
        ];
        match &self.decoder {
            Decoder::Closed(net) => parts.push(("decoder.".into(), net.params())),
            Decoder::Open { lstm, start } => {
                parts.push(("decoder.cell.".into(), lstm.params()));
                // Its entries carry their whole names.
                parts.extend(lstm.start_params().map(|params| (String::new(), params)));
                if let Some(networks) = start {
                    parts.push(("decoder_input_initalizer.".into(), networks.input.params()));
                    parts.push(("decoder_hidden_initalizer.".into(), networks.hidden.params()));
                }
            }
        }
        parts
    }

    /// What the model's optimiser steps.
    fn trained(&self) -> Vec<Params> {
        let frozen = if self.config.freeze_embedding {
            self.embedding().len()
        } else {
            0
        };
        let double_step = self.config.auto_beta.is_some_and(|beta| beta.double_step);
        let all = self.parts();
        let kept = if self.beta.is_some() && !double_step {
            all.len() - 1
        } else {
            all.len()
        };
        all.into_iter()
            .take(kept)
            .skip(frozen)
            .map(|(_, params)| params.clone())
            .collect()
    }

    /// Number of trained weights.
    pub fn parameter_count(&self) -> usize {
        self.parts().iter().map(|(_, params)| params.len()).sum()
    }

    /// All weights and running statistics under their original names, and the standardisation.
    pub fn export(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        for (prefix, params) in self.parts() {
            params.export(&prefix, &mut out)?;
        }
        Standardiser::export(self.standardiser.as_ref(), &mut out);
        Ok(out)
    }

    /// Takes weights and running statistics by their original names (see [`Spirl::export`]). Open-loop checkpoints hold
    /// the decoder twice, as `decoder.cell.*` and `decoder.lstm.cell.*`; either will do.
    ///
    /// # Errors
    /// Names every tensor that is missing or has another shape; nothing has changed then.
    pub fn import(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        let from = one_name_each(from);
        let standardiser = Standardiser::import(self.standardiser.is_some(), &from, self.dims.state)?;
        import_all(&self.parts(), &from)?;
        self.standardiser = standardiser;
        Ok(())
    }

    /// Takes only posterior and decoder by their original names, to train a new prior for known skills (see
    /// [`SpirlConfig::freeze_embedding`]).
    ///
    /// # Errors
    /// As [`Spirl::import`].
    pub fn import_embedding(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        let from = one_name_each(from);
        let standardiser = Standardiser::import(self.standardiser.is_some(), &from, self.dims.state)?;
        import_all(&self.embedding(), &from)?;
        self.standardiser = standardiser;
        Ok(())
    }

    /// The rest of the training state, for resuming: optimiser moments and the number of updates.
    pub fn export_optimiser(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut optimisers = vec![("optimiser.", &self.optimiser)];
        optimisers.extend(self.beta.as_ref().map(|beta| ("beta_optimiser.", &beta.optimiser)));
        export_training(&optimisers, self.updates)
    }

    /// Takes what [`Spirl::export_optimiser`] gave.
    pub fn import_optimiser(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut optimisers = vec![("optimiser.", &mut self.optimiser)];
        optimisers.extend(self.beta.as_mut().map(|beta| ("beta_optimiser.", &mut beta.optimiser)));
        self.updates = import_training(&mut optimisers, from)?;
        Ok(())
    }

    fn check_batch(&self, batch: &SkillBatch) -> Result<usize> {
        let SkillDims { state, action } = self.dims;
        check_shape("states", &batch.states, &[None, None, Some(state)])?;
        let (rows, times, _) = batch.states.dims3()?;
        let length = self.config.length;
        check_shape("actions", &batch.actions, &[Some(rows), Some(length), Some(action)])?;
        if times < length {
            let expected = format!("[{rows}, at least {length}, {state}]");
            return Err(SkillError::Shape {
                what: "states",
                expected,
                got: batch.states.dims().to_vec(),
            });
        }
        let members = self.priors.len();
        if rows.div_ceil(members) * (members - 1) >= rows {
            return Err(SkillError::Config(format!(
                "{rows} sequences cannot be cut into {members} parts"
            )));
        }
        Ok(rows)
    }
}

impl SkillModel for Spirl {
    fn dims(&self) -> SkillDims {
        self.dims
    }

    fn space(&self) -> SkillSpace {
        SkillSpace::Continuous(self.config.latent)
    }

    fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    fn decoding(&self) -> Decoding {
        match self.decoder {
            Decoder::Open { .. } => Decoding::Plan,
            Decoder::Closed(_) => Decoding::React,
        }
    }

    fn plan(&self, observations: &Tensor, skills: &Tensor, length: usize) -> Result<Tensor> {
        if length != self.config.length {
            return Err(SkillError::Config(format!(
                "skills of this model last {} ticks, not {length}",
                self.config.length
            )));
        }
        self.decode_open(Some(observations), skills)
    }

    fn act(&self, observations: &Tensor, skills: &Tensor) -> Result<Tensor> {
        let actions = self.decode_closed(observations, skills)?;
        Ok(if self.config.tanh_actions {
            actions.tanh()?
        } else {
            actions
        })
    }
}

/// Draws of random skills per validated sequence, as in the original evaluator.
const VALIDATION_DRAWS: usize = 100;

impl Pretrain for Spirl {
    fn window(&self) -> usize {
        self.config.length + 1
    }

    fn train(&mut self, states: Tensor, actions: Tensor, noise: &mut Stream, lr_scale: f64) -> Result<Numbers> {
        let noise = noise.normal_tensor((states.dim(0)?, self.config.latent))?;
        self.optimiser.set_lr(self.config.learning_rate * lr_scale);
        let metrics = self.train_step(&SkillBatch { states, actions }, &noise)?;
        Ok(vec![
            ("reconstruction", metrics.reconstruction),
            ("kl", metrics.kl),
            ("prior", metrics.prior),
            ("total", metrics.total),
            ("gradient_norm", metrics.gradient_norm),
            ("skipped", f32::from(u8::from(metrics.skipped))),
        ])
    }

    fn validate(&mut self, states: Tensor, actions: Tensor, noise: &mut Stream) -> Result<Numbers> {
        let (rows, latent) = (states.dim(0)?, self.config.latent);
        let posterior = noise.normal_tensor((rows, latent))?;
        let draws = noise.normal_tensor((VALIDATION_DRAWS, rows, latent))?;
        let (metrics, top) = Self::validate(self, &SkillBatch { states, actions }, &posterior, &draws)?;
        let top = top.summary();
        Ok(vec![
            ("reconstruction", metrics.reconstruction),
            ("kl", metrics.kl),
            ("prior", metrics.prior),
            ("total", metrics.total),
            ("top100_mse", top.best_mean as f32),
            ("all100_mse", top.all_mean as f32),
        ])
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

    fn embed(&self, states: Tensor, actions: Tensor) -> Result<Option<Tensor>> {
        self.posterior_means(&SkillBatch { states, actions }).map(Some)
    }

    fn policy_prior(&self) -> Result<GaussianNetwork> {
        self.prior_network()
    }

    fn into_skills(self: Box<Self>) -> Option<Arc<dyn SkillModel>> {
        Some(Arc::new(*self))
    }
}

fn not_gaussian() -> SkillError {
    SkillError::Config("only a Gaussian prior can be used as a policy or compared with one".into())
}

fn check(config: &SpirlConfig, dims: SkillDims) -> Result<()> {
    let fail = |reason: &str| Err(SkillError::Config(reason.into()));
    let sizes = [
        dims.state,
        dims.action,
        config.latent,
        config.length,
        config.encoder_output,
        config.lstm_width,
        config.lstm_layers,
        config.width,
        config.mixture_features,
        config.prior_members,
    ];
    if sizes.contains(&0) {
        return fail("sizes of a skill model must be at least 1");
    }
    if config.conditioned_start && config.decoder == DecoderKind::ClosedLoop {
        return fail("`conditioned_start` is for open-loop decoders; a closed-loop one sees every state");
    }
    if config.prior_training == PriorTraining::Kl && config.prior != PriorKind::Gauss {
        return fail("`prior_training: Kl` needs a Gaussian prior");
    }
    if matches!(config.prior, PriorKind::Gmm { components: 0 }) {
        return fail("a mixture prior needs at least one component");
    }
    if config.prior == PriorKind::Flow && config.latent < 2 {
        return fail("a flow prior needs at least two latent dimensions");
    }
    Ok(())
}
