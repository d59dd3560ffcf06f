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
//! [`SpirlConfig`] documents every setting, and where the original code differs.
//!
//! Batches: states `[B, T, S]` with `T >= H` (sub-sequences have `T = H + 1`; the last state is not used), actions
//! `[B, H, A]`. Where [`SkillDims::pixels`] says so, frames stand in place of states and the networks see stacks of
//! neighbours through convolutional encoders; the windows begin one action early for every further frame of a stack
//! (`sight.rs`). Units of the three losses are those of the original code, because the published weights belong to
//! them; see [`Spirl::losses`].

mod config;
mod pretrain;
mod sight;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};

use super::policy::standardised;
use super::prior::{PriorDistribution, PriorNetwork, PriorSpec};
use super::top_n::TopN;
use super::weights::Stepper;
use super::{
    Decoding, Result, Sees, SkillDims, SkillError, SkillModel, SkillSpace, Standardiser, check_seen, check_shape,
    scalar,
};
use crate::nn::{
    Compute, ConvEncoder, DiagGaussian, Linear, LstmDecoder, LstmEncoder, LstmSpec, Mlp, MlpSpec, Mode, Optimiser,
    OptimiserConfig, Params, is_finite,
};
use crate::rng::Stream;

pub(super) use sight::first_picture;

pub use config::{AutoBeta, DecoderKind, PriorTraining, SpirlConfig};

/// Sub-sequences of demonstrations.
#[derive(Debug, Clone)]
pub struct SkillBatch {
    /// `[B, T, S]`, `T >= H`; or frames `[B, T, 3, size, size]` in -1 to 1, `T >= H + frames`, or `T >= H` for a
    /// single one.
    pub states: Tensor,
    /// `[B, H, A]`; with frames `[B, H + frames - 1, A]`, of which the last `H` are decoded.
    pub actions: Tensor,
}

impl SkillBatch {
    pub(super) fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            states: self.states.to_device(device)?,
            actions: self.actions.to_device(device)?,
        })
    }
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
    pub kl_weight: Tensor,
}

/// Numbers of one training step or validation batch, for logging.
#[derive(Debug, Clone, Default, PartialEq)]
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
            kl_weight: scalar(&losses.kl_weight)?,
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
    /// Through which posterior and decoder of a closed-loop model see pictures.
    eye: Option<ConvEncoder>,
    priors: Vec<PriorNetwork>,
    standardiser: Option<Standardiser>,
    beta: Option<Beta>,
    stepper: Stepper,
    compute: Compute,
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
    fn new(settings: AutoBeta, log_beta: Params) -> Self {
        let optimiser = Optimiser::new(OptimiserConfig::radam(settings.learning_rate), vec![log_beta.clone()]);
        Self {
            log_beta,
            optimiser,
            settings,
        }
    }

    fn value(&self) -> Result<Tensor> {
        Ok(self.log_beta.var().as_detached_tensor().sum_all()?.exp()?)
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
    /// If settings are impossible or contradict each other, or a number cannot be used.
    pub fn new(config: SpirlConfig, dims: SkillDims, rng: &mut Stream) -> Result<Self> {
        config.check(dims)?;
        let SkillDims { state, action, .. } = dims;
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
        // Numbers that stand for a moment: the state itself, or the code of a picture.
        let seen = dims.pixels.map_or(state, |_| config.conv_features);
        let sees_states = closed || config.conditioned_start;
        let posterior_input = if sees_states { action + seen } else { action };
        let posterior = Posterior {
            encoder: LstmEncoder::new(lstm(posterior_input, config.encoder_output), rng)?,
            head: Linear::new(config.encoder_output, 2 * config.latent, rng)?,
        };
        let decoder = if closed {
            Decoder::Closed(mlp(seen + config.latent, action, config.decoder_hidden_layers, rng)?)
        } else {
            let lstm = LstmDecoder::new(lstm(action + config.latent, action), !config.conditioned_start, rng)?;
            let hidden = 2 * config.lstm_width * config.lstm_layers;
            let start = if config.conditioned_start {
                Some(StartNetworks {
                    input: mlp(seen, action, config.prior_hidden_layers, rng)?,
                    hidden: mlp(seen, hidden, config.prior_hidden_layers, rng)?,
                })
            } else {
                None
            };
            Decoder::Open { lstm, start }
        };
        let eye = match dims.pixels.filter(|_| closed) {
            Some(pixels) => Some(sight::shared_eye(pixels, config.conv_width, seen, rng)?),
            None => None,
        };
        let prior = PriorSpec {
            state: seen,
            eye: dims.pixels.map(|pixels| (pixels, config.conv_width)),
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
            Some(settings) => Some(Beta::new(settings, Params::single("t", settings.start)?)),
            None => None,
        };
        let standardiser = if config.standardise {
            Some(Standardiser::identity(state)?)
        } else {
            None
        };
        let (optimiser, early_clip) = (config.optimiser_config(), config.early_clip);
        let lengths = [config.length];
        let mut model = Self {
            config,
            dims,
            lengths,
            posterior,
            decoder,
            eye,
            priors,
            standardiser,
            beta,
            stepper: Stepper::new(optimiser, early_clip, Vec::new())?,
            compute: Compute::Fused,
        };
        // Which networks are trained is known once they are all there.
        model.stepper = Stepper::new(optimiser, early_clip, model.trained())?;
        Ok(model)
    }

    /// The settings the model was built with.
    pub fn config(&self) -> &SpirlConfig {
        &self.config
    }

    /// Training steps taken so far.
    pub fn updates(&self) -> u64 {
        self.stepper.updates()
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
        self.eye = self.eye.map(|eye| eye.with_threads(threads));
        self.priors = self
            .priors
            .into_iter()
            .map(|prior| prior.with_threads(threads))
            .collect();
        self
    }

    /// The same model, computed in another way or elsewhere; its optimisers begin anew.
    ///
    /// # Errors
    /// Not enough memory there.
    pub fn computed_by(self, compute: &Compute) -> Result<Self> {
        let posterior = Posterior {
            encoder: self.posterior.encoder.moved(compute)?,
            head: self.posterior.head.moved(compute)?,
        };
        let decoder = match &self.decoder {
            Decoder::Closed(net) => Decoder::Closed(net.moved(compute)?),
            Decoder::Open { lstm, start } => Decoder::Open {
                lstm: lstm.moved(compute)?,
                start: match start {
                    Some(StartNetworks { input, hidden }) => Some(StartNetworks {
                        input: input.moved(compute)?,
                        hidden: hidden.moved(compute)?,
                    }),
                    None => None,
                },
            },
        };
        let priors = self.priors.iter().map(|prior| prior.moved(compute));
        let beta = match &self.beta {
            Some(beta) => Some(Beta::new(beta.settings, compute.take(&beta.log_beta)?)),
            None => None,
        };
        let (optimiser, early_clip) = (self.config.optimiser_config(), self.config.early_clip);
        let mut model = Self {
            posterior,
            decoder,
            eye: self.eye.as_ref().map(|eye| eye.moved(compute)).transpose()?,
            priors: priors.collect::<Result<_>>()?,
            standardiser: (self.standardiser.as_ref())
                .map(|seen| seen.on(compute.device()))
                .transpose()?,
            beta,
            compute: compute.clone(),
            ..self
        };
        model.stepper = Stepper::new(optimiser, early_clip, model.trained())?;
        Ok(model)
    }

    /// Sets the standardisation of states; only with `config.standardise`, and before training.
    pub fn set_standardiser(&mut self, standardiser: Standardiser) -> Result<()> {
        if !self.config.standardise {
            return Err(SkillError::Config("`standardise` is off in this skill model".into()));
        }
        check_shape("mean of the states", standardiser.tensors().0, &[Some(self.dims.state)])?;
        self.standardiser = Some(standardiser.on(self.compute.device())?);
        Ok(())
    }

    // ---------------------------------------------------------------------------------------------- training

    /// Posterior, a sample of it (`noise` is `[B, nz]`, standard normal), its decoding, and the prior.
    ///
    /// The closed-loop decoder is always given the states of the data set, in training and in evaluation.
    pub fn pass(&self, batch: &SkillBatch, noise: &Tensor, mode: Mode) -> Result<Pass> {
        let rows = self.check_batch(batch)?;
        check_shape("noise", noise, &[Some(rows), Some(self.config.latent)])?;
        let device = self.compute.device();
        let (batch, noise) = (&batch.to_device(device)?, &noise.to_device(device)?);
        let embedding = if self.config.freeze_embedding {
            Use::Frozen
        } else {
            Use::Train(mode)
        };
        let views = self.views(batch, embedding)?;
        let posterior = self.posterior(views.as_ref(), &batch.actions, embedding)?;
        let skills = posterior.sample(noise)?;
        let actions = self.decode(views.as_ref(), &skills, embedding)?;
        let first = self.beginning(batch)?;
        let mut priors = Vec::with_capacity(self.priors.len());
        // Like torch.chunk: parts of equal size, the last one may be shorter.
        let part = rows.div_ceil(self.priors.len());
        for (member, prior) in self.priors.iter().enumerate() {
            let begin = (member * part).min(rows);
            let seen = first.narrow(0, begin, part.min(rows - begin))?;
            priors.push(prior.forward(&seen, mode)?);
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
        let batch = &batch.to_device(self.compute.device())?;
        let half_ln_2_pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        let reconstruction = (&pass.actions - self.targets(batch)?)?
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
            Some(beta) => beta.value()?,
            None => Tensor::new(self.config.kl_weight, self.compute.device())?,
        };
        let SpirlConfig {
            reconstruction_weight,
            freeze_embedding,
            ..
        } = self.config;
        let mut total = prior.clone();
        if !freeze_embedding && reconstruction_weight > 0.0 {
            total = (total + reconstruction.affine(f64::from(reconstruction_weight), 0.0)?)?;
        }
        if !freeze_embedding && (self.beta.is_some() || self.config.kl_weight > 0.0) {
            total = (total + (&kl * &kl_weight)?)?;
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
        let gradients = self.gradients(&losses)?;
        let norm = self.stepper.gradient_norm(&gradients)?;
        metrics.gradient_norm = scalar(&norm)?;
        if !metrics.gradient_norm.is_finite() {
            metrics.skipped = true;
            return Ok(metrics);
        }
        self.step(&gradients, &norm, None)?;
        Ok(metrics)
    }

    /// As [`train_step`](Self::train_step), without reading anything back where that takes time.
    pub(super) fn train_step_unread(&mut self, batch: &SkillBatch, noise: &Tensor) -> Result<()> {
        if let Compute::Fused = self.compute {
            return self.train_step(batch, noise).map(|_| ());
        }
        let losses = self.loss(batch, noise, Mode::Train)?;
        let gradients = self.gradients(&losses)?;
        let norm = self.stepper.gradient_norm(&gradients)?;
        let sound = is_finite(&(losses.total.detach() + &norm)?)?;
        self.step(&gradients, &norm, Some(&sound))
    }

    fn gradients(&self, losses: &Losses) -> Result<GradStore> {
        let objective = match &self.beta {
            Some(beta) => (&losses.total + beta.objective(&losses.kl)?)?,
            None => losses.total.clone(),
        };
        Ok(crate::nn::backward(&objective)?)
    }

    /// One step with gradients of the global norm `norm`; with `sound`, a condition `[]`, nothing moves where that is 0.
    fn step(&mut self, gradients: &GradStore, norm: &Tensor, sound: Option<&Tensor>) -> Result<()> {
        if let Some(beta) = &mut self.beta {
            // Without a clip its own norm is of no use.
            beta.optimiser.step_with_norm(gradients, None, norm, sound)?;
        }
        self.stepper.step(gradients, norm, sound)
    }

    /// Losses of a validation batch in evaluation mode, and how close decodings of random skills come to it.
    ///
    /// `noise` is `[B, nz]`; `draws` is `[N, B, nz]`, the random skills: N of **the unit Gaussian, not of the learned
    /// prior**, for every sequence (the original takes N = 100).
    pub fn validate_step(&self, batch: &SkillBatch, noise: &Tensor, draws: &Tensor) -> Result<(StepMetrics, TopN)> {
        let metrics = StepMetrics::of(&self.loss(batch, noise, Mode::Eval)?)?;
        let (batch, draws) = (
            &batch.to_device(self.compute.device())?,
            draws.to_device(self.compute.device())?,
        );
        let rows = batch.states.dim(0)?;
        check_shape("draws", &draws, &[None, Some(rows), Some(self.config.latent)])?;
        let (views, targets) = (self.views(batch, Use::Frozen)?, self.targets(batch)?);
        let mut top = TopN {
            errors: vec![Vec::new(); rows],
        };
        for draw in 0..draws.dim(0)? {
            let skills = draws.get(draw)?;
            let actions = self.decode(views.as_ref(), &skills, Use::Frozen)?;
            let errors = (actions - &targets)?
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

    // ---------------------------------------------------------------------------------------------- networks

    /// `q(z | ..)` from what it sees, `[B, n, width]`, and the actions, the last `n` of which it then takes.
    fn posterior(&self, views: Option<&Tensor>, actions: &Tensor, using: Use) -> Result<DiagGaussian> {
        let seen = match (&self.decoder, views) {
            (Decoder::Closed(_), views) => views.cloned(),
            (Decoder::Open { start: Some(_), .. }, Some(views)) => {
                Some(views.narrow(1, 0, 1)?.expand(views.dims())?.contiguous()?)
            }
            (Decoder::Open { .. }, _) => None,
        };
        let sequence = match seen {
            Some(seen) => {
                let (steps, all) = (seen.dim(1)?, actions.dim(1)?);
                Tensor::cat(&[&actions.narrow(1, all - steps, steps)?.contiguous()?, &seen], 2)?
            }
            None => actions.clone(),
        };
        let Posterior { encoder, head } = &self.posterior;
        let raw = match using {
            Use::Train(_) => head.forward(&encoder.forward(&sequence)?)?,
            Use::Frozen => head.forward_frozen(&encoder.forward_frozen(&sequence)?)?,
        };
        Ok(DiagGaussian::from_raw(&raw)?)
    }

    /// Actions `[B, H, A]` of skills `[B, nz]` along what the decoder sees, `[B, n, width]` with `n >= H`; a conditioned
    /// open-loop decoder looks at the first entry only, and without that at nothing.
    fn decode(&self, views: Option<&Tensor>, skills: &Tensor, using: Use) -> Result<Tensor> {
        match &self.decoder {
            Decoder::Closed(net) => {
                let views = views.ok_or_else(|| SkillError::Config("a closed-loop decoder needs to see".into()))?;
                let views = views.narrow(1, 0, self.config.length)?.contiguous()?;
                let (rows, length, width) = views.dims3()?;
                let latent = self.config.latent;
                let skills = skills.unsqueeze(1)?.expand((rows, length, latent))?.contiguous()?;
                let input = Tensor::cat(&[&views, &skills], 2)?;
                let actions = using.run(net, &input.reshape((rows * length, width + latent))?)?;
                Ok(actions.reshape((rows, length, self.dims.action))?)
            }
            Decoder::Open { lstm, start } => {
                let start = match (start, views) {
                    (Some(networks), Some(views)) => {
                        let first = views.narrow(1, 0, 1)?.squeeze(1)?;
                        Some((
                            using.run(&networks.input, &first)?,
                            using.run(&networks.hidden, &first)?,
                        ))
                    }
                    _ => None,
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

    /// The prior over skills for observations `[B, S]` or pictures `[B, 3 * frames, size, size]`, any family; no
    /// gradients, running statistics.
    pub fn prior_distribution(&self, observations: &Tensor) -> Result<PriorDistribution> {
        check_seen("observations", observations, None, self.dims)?;
        let [member, ..] = self.priors.as_slice() else {
            return Err(SkillError::Config("the skill model has no prior".into()));
        };
        member.forward_frozen(&standardised(self.standardiser.as_ref(), observations)?)
    }

    /// The Gaussian prior over skills, `[B, nz]`, for observations `[B, S]` or pictures.
    ///
    /// # Errors
    /// If the prior is not Gaussian.
    pub fn prior(&self, observations: &Tensor) -> Result<DiagGaussian> {
        match self.prior_distribution(observations)? {
            PriorDistribution::Gauss(gauss) => Ok(gauss),
            PriorDistribution::Mixture(_) | PriorDistribution::Flow(_) => Err(not_gaussian()),
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
                check_seen("observations", observations, Some(rows), self.dims)?;
                Some(self.view(&observations.detach())?.unsqueeze(1)?)
            }
            (Some(_), None) => {
                return Err(SkillError::Config(
                    "a conditioned decoder needs the observations".into(),
                ));
            }
            (None, _) => None,
        };
        self.decode(states.as_ref(), &skills.detach(), Use::Frozen)
    }

    /// The next actions `[B, A]` for observations `[B, S]` or pictures `[B, 3 * frames, size, size]`, and skills
    /// `[B, nz]`. Evaluation mode, no gradients, no tanh.
    pub fn decode_closed(&self, observations: &Tensor, skills: &Tensor) -> Result<Tensor> {
        let Decoder::Closed(net) = &self.decoder else {
            return Err(SkillError::Config("an open-loop decoder does not react".into()));
        };
        let rows = observations.dim(0)?;
        let view = self.view(observations)?;
        check_shape("skills", skills, &[Some(rows), Some(self.config.latent)])?;
        let input = Tensor::cat(&[&view, skills], 1)?.detach();
        Ok(net.forward_frozen(&input, Mode::Eval)?)
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

    fn sees(&self) -> Sees {
        match self.decoder {
            // It looks at nothing.
            Decoder::Open { start: None, .. } => Sees::Numbers,
            Decoder::Open { .. } | Decoder::Closed(_) => self.dims.sees(),
        }
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

fn not_gaussian() -> SkillError {
    SkillError::Config("only a Gaussian prior can be used as a policy or compared with one".into())
}
