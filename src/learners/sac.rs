//! Soft actor-critic, plain or kept close to a skill prior (`SPiRL`).
//!
//! The algorithm of Pertsch, Lee, Lim, "Accelerating Reinforcement Learning with Learned Skill Priors" (2020,
//! arXiv 2010.11944, algorithm 1) on top of Haarnoja et al., "Soft Actor-Critic Algorithms and Applications" (2018,
//! arXiv 1812.05905). In both, a penalty `g(s)` with temperature `alpha` is paid in the value and in the policy's
//! objective, and `alpha` is moved so that the penalty keeps to a target:
//!
//! | | penalty `g(s)` | target |
//! |---|---|---|
//! | SAC | `log pi(a \| s)` | minus the target entropy |
//! | `SPiRL` | divergence of the policy from the prior, `KL(pi(. \| s), p(. \| s))` | target divergence |
//!
//! ```text
//! target    y = r + gamma (1 - terminated) (min_i Q'_i(s', a') - alpha g(s'))
//! critics   L_i = 1/2 mean (Q_i(s, a) - y)^2
//! policy    L = mean (alpha g(s) - min_i Q_i(s, a_pi)),   a_pi ~ pi(.|s)
//! alpha     L = mean (alpha (target - g(s)))
//! targets   theta' <- tau theta + (1 - tau) theta'
//! ```
//!
//! The learner knows nothing of environments: an "action" is whatever was stored in the replay buffer, a skill or a
//! plain action. With that, one learner serves five methods:
//!
//! | method | actions are | [`SacConfig::policy`] | [`SacConfig::regulariser`] |
//! |---|---|---|---|
//! | `SPiRL` | skills | `Prior` | `PriorDivergence` |
//! | flat prior | actions | `Prior` (single-step prior) | `PriorDivergence` |
//! | BC + fine-tune | actions | `Prior` (single-step prior) | `Entropy` |
//! | skills without prior | skills | `Scratch` | `Entropy` |
//! | SAC | actions | `Scratch` | `Entropy` |
//!
//! Policy and prior may see pictures in place of the numbers of an observation; critics always see the numbers, and so
//! does a policy from scratch. That is the original's division: pictures are what an agent has, and the state behind
//! them is at hand while it learns.
//!
//! [`SacConfig`] documents every setting, and where the original code differs.

mod checkpoint;
mod config;
mod error;
mod temperature;
#[cfg(test)]
mod tests;

use bevy::prelude::Component;
use candle_core::{D, Device, Tensor};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::nn::{
    Compute, DiagGaussian, Mlp, MlpSpec, Mode, Norm, Optimiser, OptimiserConfig, Params, is_finite, squash,
};
use crate::replay::{Batch, ReplayBuffer};
use crate::rng::Stream;
use crate::skills::{GaussianNetwork, PixelDims, Sees, Standardiser, standardised};
use checkpoint::numbers;
use temperature::LearnedTemperature;

pub use config::{
    CriticConfig, Discounting, Estimate, PolicyStart, Regulariser, SacConfig, Schedule, Squash, Standardise,
    Temperature, TimeOuts,
};
pub use error::SacError;

type Result<T, E = SacError> = std::result::Result<T, E>;

// ---------------------------------------------------------------------------------------------------------------------
// The learner
// ---------------------------------------------------------------------------------------------------------------------

/// Sizes of what the learner sees and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SacDims {
    /// Values per observation, `S`.
    pub observation: usize,
    /// Values per action (or skill), `d`.
    pub action: usize,
}

/// How [`Sac::act`] picks from the Gaussian.
#[derive(Debug, Clone, Copy)]
pub enum Pick<'a> {
    /// `mu + sigma * noise` with these standard normal numbers, `[B, d]`.
    Sample(&'a Tensor),
    /// The mean.
    Mean,
}

/// The standard normal numbers of one update.
#[derive(Debug, Clone)]
pub struct UpdateNoise {
    /// For the states of the batch.
    pub here: StateNoise,
    /// For their successors.
    pub next: StateNoise,
}

/// The standard normal numbers for one pass of the policy.
#[derive(Debug, Clone)]
pub struct StateNoise {
    /// For the action, `[B, d]`.
    pub action: Tensor,
    /// Of the numbers for the Monte-Carlo divergence only these moments matter.
    pub divergence: Option<NoiseMoments>,
}

/// Mean and mean square over the samples of standard normal numbers `eps [K, B, d]`.
///
/// For Gaussians, `log p(x) - log q(x)` at `x = mu + sigma eps` is a quadratic in `eps`, so the average over `K`
/// samples and its gradient follow exactly from these two, at the cost of one sample.
#[derive(Debug, Clone)]
pub struct NoiseMoments {
    /// `mean_k eps_k`, `[B, d]`.
    pub first: Tensor,
    /// `mean_k eps_k^2`, `[B, d]`.
    pub second: Tensor,
}

impl UpdateNoise {
    fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            here: self.here.to_device(device)?,
            next: self.next.to_device(device)?,
        })
    }
}

impl StateNoise {
    fn to_device(&self, device: &Device) -> Result<Self> {
        let moments = self.divergence.as_ref().map(|noise| {
            Ok::<_, SacError>(NoiseMoments {
                first: noise.first.to_device(device)?,
                second: noise.second.to_device(device)?,
            })
        });
        Ok(Self {
            action: self.action.to_device(device)?,
            divergence: moments.transpose()?,
        })
    }
}

impl NoiseMoments {
    /// The moments of given numbers `[K, B, d]`.
    ///
    /// # Errors
    /// A tensor of another rank.
    pub fn of(noise: &Tensor) -> Result<Self> {
        Ok(Self {
            first: noise.mean(0)?,
            second: noise.sqr()?.mean(0)?,
        })
    }

    fn draw(stream: &mut Stream, samples: usize, shape: (usize, usize)) -> Result<Self> {
        let mut noise = vec![0.0; shape.0 * shape.1];
        let (mut first, mut second) = (noise.clone(), noise.clone());
        let share = 1.0 / samples as f32;
        for _ in 0..samples {
            stream.fill_normal(&mut noise);
            for ((first, second), eps) in first.iter_mut().zip(&mut second).zip(&noise) {
                *first += share * eps;
                *second += share * eps * eps;
            }
        }
        let tensor = |values| Tensor::from_vec(values, shape, &Device::Cpu);
        Ok(Self {
            first: tensor(first)?,
            second: tensor(second)?,
        })
    }
}

/// Everything about one pass of the policy over a batch of states.
#[derive(Debug, Clone)]
pub struct PolicyPass {
    /// The policy's Gaussian before squashing.
    pub policy: DiagGaussian,
    /// The sampled action as it would be executed, `[B, d]`.
    pub action: Tensor,
    /// Log-probability of that action, corrected for squashing, `[B]`.
    pub log_prob: Tensor,
    /// The prior's Gaussian, if the policy is held to one.
    pub prior: Option<DiagGaussian>,
    /// The penalty `g(s)`: divergence from the prior, or else the log-probability, `[B]`.
    pub penalty: Tensor,
}

/// Everything one update computes before it changes anything: [`Sac::losses`].
pub struct Losses {
    /// Policy on the states of the batch.
    pub here: PolicyPass,
    /// Policy on their successors (without gradient).
    pub next: PolicyPass,
    /// `min_i Q'_i(s', a') - alpha g(s')`, `[B]`.
    pub value_next: Tensor,
    /// Target `y` of both critics, `[B]`.
    pub q_target: Tensor,
    /// Both critics on the stored actions, `[B]` each.
    pub q: [Tensor; 2],
    /// Gradients of the policy's and both critics' losses, each with respect to its own network.
    pub gradients: candle_core::backprop::GradStore,
    /// The losses and statistics.
    pub figures: Figures,
    temperature: LearnedTemperature,
}

/// Figures of one update where they were computed. To read them is to wait until they are.
#[derive(Debug, Clone)]
pub struct Figures {
    /// In the order of [`Figures::read`].
    values: Tensor,
    penalty_target: f32,
}

impl Figures {
    /// Norms of the gradients of policy and critics, `[]` each.
    fn gradient_norms(&self) -> Result<[Tensor; 3]> {
        let norm = |index: usize| self.values.get(index);
        Ok([norm(10)?, norm(11)?, norm(12)?])
    }

    /// Reads them back, all at once.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn read(&self) -> Result<UpdateMetrics> {
        let values = numbers("figures", self.values.to_vec1::<f32>()?)?;
        let [
            policy_loss,
            critic_loss_1,
            critic_loss_2,
            temperature_loss,
            temperature,
            penalty,
            log_prob,
            q_1,
            q_2,
            q_target,
            policy_gradient,
            critic_gradient_1,
            critic_gradient_2,
        ] = values;
        Ok(UpdateMetrics {
            policy_loss,
            critic_loss: [critic_loss_1, critic_loss_2],
            temperature_loss,
            temperature,
            penalty,
            penalty_target: self.penalty_target,
            entropy: -log_prob,
            q: [q_1, q_2],
            q_target,
            policy_gradient,
            critic_gradient: [critic_gradient_1, critic_gradient_2],
            skipped: false,
        })
    }
}

/// Figures of one update.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UpdateMetrics {
    /// Loss of the policy, with the new temperature.
    pub policy_loss: f32,
    /// Loss of both critics.
    pub critic_loss: [f32; 2],
    /// Loss of the temperature, which is also the gradient of its logarithm.
    pub temperature_loss: f32,
    /// The temperature after its step.
    pub temperature: f32,
    /// Mean penalty: divergence in nats, or the log-probability.
    pub penalty: f32,
    /// What the temperature pulls the penalty to.
    pub penalty_target: f32,
    /// Minus the mean log-probability of the squashed action, in nats.
    pub entropy: f32,
    /// Mean of both critics on the stored actions.
    pub q: [f32; 2],
    /// Mean target of the critics.
    pub q_target: f32,
    /// Norm of the policy's gradient before clipping.
    pub policy_gradient: f32,
    /// Norms of both critics' gradients before clipping.
    pub critic_gradient: [f32; 2],
    /// Whether the update was dropped because one of the numbers above is not finite.
    pub skipped: bool,
}

impl UpdateMetrics {
    /// The first number that is not finite.
    fn fault(&self) -> Option<&'static str> {
        [
            ("policy loss", self.policy_loss),
            ("loss of critic 1", self.critic_loss[0]),
            ("loss of critic 2", self.critic_loss[1]),
            ("temperature loss", self.temperature_loss),
            ("temperature", self.temperature),
            ("policy gradient", self.policy_gradient),
            ("gradient of critic 1", self.critic_gradient[0]),
            ("gradient of critic 2", self.critic_gradient[1]),
        ]
        .into_iter()
        .find_map(|(name, value)| (!value.is_finite()).then_some(name))
    }
}

/// Soft actor-critic, plain or prior-regularised. See the [module](self).
#[derive(Component)]
pub struct Sac {
    config: SacConfig,
    dims: SacDims,
    policy: GaussianNetwork,
    prior: Option<GaussianNetwork>,
    critics: [Mlp; 2],
    targets: [Mlp; 2],
    /// How the critics see the numbers of an observation.
    standardiser: Option<Standardiser>,
    temperature: LearnedTemperature,
    policy_optimiser: Optimiser,
    critic_optimisers: [Optimiser; 2],
    compute: Compute,
    updates: u64,
    skipped: u64,
    skipped_in_row: u32,
}

impl Sac {
    /// A learner before its first update. `rng` fills whatever is not copied from the prior; the targets start equal to
    /// the critics. A policy from scratch takes over the prior's standardisation of observations, if a prior is given;
    /// critics see observations as they were stored, or standardised if the settings say how. A prior, and a policy that
    /// starts from it, may see pictures.
    ///
    /// # Errors
    /// Settings that cannot be used, a missing prior, or one of other sizes.
    pub fn new(config: SacConfig, dims: SacDims, prior: Option<&GaussianNetwork>, rng: &mut Stream) -> Result<Self> {
        config.validate()?;
        if let Some(prior) = prior {
            // One that sees pictures has no say about the numbers.
            let found = (prior.observation_dim().unwrap_or(dims.observation), prior.sample_dim());
            let expected = (dims.observation, dims.action);
            if found != expected {
                return Err(SacError::PriorSize { found, expected });
            }
        }
        let standardiser = standardiser(&config, dims)?;
        let policy = match config.policy {
            PolicyStart::Prior => prior
                .ok_or(SacError::NoPrior("a policy that starts from the prior"))?
                .deep_clone()?,
            PolicyStart::Scratch { width, hidden } => {
                let (input, output) = (dims.observation, 2 * dims.action);
                let spec = MlpSpec {
                    input,
                    width,
                    output,
                    hidden,
                    norm: Norm::None,
                };
                let of_prior = prior.and_then(|prior| prior.standardiser().cloned());
                GaussianNetwork::new(Mlp::new(spec, rng)?, of_prior.or_else(|| standardiser.clone()))
            }
        };
        let prior = match config.regulariser {
            Regulariser::Entropy { .. } => None,
            Regulariser::PriorDivergence { .. } => Some(
                prior
                    .ok_or(SacError::NoPrior("divergence from the prior"))?
                    .deep_clone()?,
            ),
        };
        let CriticConfig { width, hidden, norm } = config.critic;
        let frequencies = config.standardise.as_ref().map_or(0, |seen| seen.frequencies);
        let input = dims.observation * (1 + 2 * frequencies) + dims.action;
        let spec = MlpSpec {
            input,
            width,
            output: 1,
            hidden,
            norm,
        };
        let critics = [Mlp::new(spec, rng)?, Mlp::new(spec, rng)?];
        let targets = [critics[0].deep_clone()?, critics[1].deep_clone()?];
        let (policy_optimiser, critic_optimisers) = optimisers(&config, &policy, &critics);
        let temperature = LearnedTemperature::new(config.temperature, &Device::Cpu)?;
        Ok(Self {
            config,
            dims,
            policy,
            prior,
            critics,
            targets,
            standardiser,
            temperature,
            policy_optimiser,
            critic_optimisers,
            compute: Compute::Fused,
            updates: 0,
            skipped: 0,
            skipped_in_row: 0,
        })
    }

    /// The same learner, computed in another way or elsewhere; its optimisers begin anew. For learners before their
    /// first update: [`import`](Self::import) then takes up a state from anywhere.
    ///
    /// # Errors
    /// Not enough memory there.
    pub fn computed_by(self, compute: Compute) -> Result<Self> {
        let policy = self.policy.moved(&compute)?;
        let prior = self.prior.as_ref().map(|prior| prior.moved(&compute)).transpose()?;
        let both = |[first, second]: &[Mlp; 2]| Ok::<_, SacError>([first.moved(&compute)?, second.moved(&compute)?]);
        let (critics, targets) = (both(&self.critics)?, both(&self.targets)?);
        let (policy_optimiser, critic_optimisers) = optimisers(&self.config, &policy, &critics);
        let standardiser = (self.standardiser.as_ref()).map(|seen| seen.on(compute.device()));
        Ok(Self {
            policy,
            prior,
            critics,
            targets,
            standardiser: standardiser.transpose()?,
            temperature: LearnedTemperature::new(self.config.temperature, compute.device())?,
            policy_optimiser,
            critic_optimisers,
            compute,
            ..self
        })
    }

    /// How and where it is computed.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// Uses up to `threads` threads of the current rayon pool inside every network pass (default 1). The results do not
    /// depend on it.
    pub fn with_threads(self, threads: usize) -> Self {
        let critic = |critic: Mlp| critic.with_threads(threads);
        let gaussian = |network: GaussianNetwork| network.with_threads(threads);
        Self {
            policy: gaussian(self.policy),
            prior: self.prior.map(gaussian),
            critics: self.critics.map(critic),
            targets: self.targets.map(critic),
            ..self
        }
    }

    /// The settings.
    pub fn config(&self) -> &SacConfig {
        &self.config
    }

    /// The sizes.
    pub fn dims(&self) -> SacDims {
        self.dims
    }

    /// The policy's network.
    pub fn policy(&self) -> &GaussianNetwork {
        &self.policy
    }

    /// The prior that the policy is held to, if it is held to one.
    pub fn prior(&self) -> Option<&GaussianNetwork> {
        self.prior.as_ref()
    }

    /// What the policy looks at, and with it [`Sac::act`].
    pub fn sees(&self) -> Sees {
        self.policy.sees()
    }

    /// The pictures that policy or prior look at: what transitions must hold.
    pub fn pixels(&self) -> Option<PixelDims> {
        let networks = std::iter::once(&self.policy).chain(&self.prior);
        networks.filter_map(|network| network.sees().pixels()).next()
    }

    /// Both critics.
    pub fn critics(&self) -> &[Mlp; 2] {
        &self.critics
    }

    /// What both critics say of actions `[B, d]` at observations `[B, S]`, `[B]` each; nothing is recorded for
    /// differentiation.
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn judge(&self, observations: &Tensor, actions: &Tensor) -> Result<[Tensor; 2]> {
        let device = self.compute.device();
        let seen = self.seen_by_critics(&observations.to_device(device)?)?;
        let input = Tensor::cat(&[&seen, &actions.to_device(device)?], 1)?;
        let [first, second] = (self.critics.each_ref()).map(|critic| critic.forward_frozen(&input, Mode::Eval));
        Ok([first?.squeeze(1)?, second?.squeeze(1)?])
    }

    /// Both critics' slowly moving targets.
    pub fn targets(&self) -> &[Mlp; 2] {
        &self.targets
    }

    /// The temperature `alpha`, read back; NaN if that fails.
    pub fn temperature(&self) -> f32 {
        let value = self.temperature.value().and_then(|value| value.to_scalar());
        value.unwrap_or(f32::NAN)
    }

    /// Updates made, skipped ones not counted.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Updates skipped so far because of numbers that are not finite.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    // ----- acting -----

    /// The policy's actions `[B, d]` as they are executed, for observations `[B, S]`, or pictures
    /// `[B, 3 * frames, size, size]` if it [sees](Self::sees) pictures; nothing is recorded for differentiation.
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn act(&self, observations: &Tensor, pick: Pick<'_>) -> Result<Tensor> {
        let policy = self.policy.forward_frozen(observations)?;
        let sample = match pick {
            Pick::Sample(noise) => {
                let noise = noise.to_device(self.compute.device())?;
                (&policy.mu + (policy.log_sigma.exp()? * noise)?)?
            }
            Pick::Mean => policy.mu,
        };
        self.config.squash.apply(&sample)
    }

    /// The actions `[B, d]` of the published warm-up, for observations as in [`act`](Self::act): uniform over the range for a policy
    /// from scratch; one that starts from the prior simply acts (as does one without a range).
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn act_at_random(&self, observations: &Tensor, stream: &mut Stream) -> Result<Tensor> {
        let shape = (observations.dim(0)?, self.dims.action);
        match (self.config.policy, self.config.squash) {
            (PolicyStart::Scratch { .. }, Squash::Tanh { range, .. } | Squash::Clip { range }) => {
                let uniform = (0..shape.0 * shape.1)
                    .map(|_| stream.random_range(-range..=range))
                    .collect();
                Ok(Tensor::from_vec(uniform, shape, &Device::Cpu)?)
            }
            _ => self.act(observations, Pick::Sample(&stream.normal_tensor(shape)?)),
        }
    }

    // ----- learning -----

    /// Whether the prior sees pictures: then its answers are worth keeping with the transitions.
    pub fn keeps_prior(&self) -> bool {
        let prior = self.prior.as_ref();
        prior.is_some_and(|prior| prior.sees().pixels().is_some())
    }

    /// Asks the prior about all transitions of `buffer` that wait for it, a few hundred at a time.
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn ask_prior(&self, buffer: &mut ReplayBuffer) -> Result<()> {
        let Some(prior) = &self.prior else { return Ok(()) };
        while !buffer.waiting().is_empty() {
            let rows: Vec<usize> = buffer.waiting().iter().copied().take(ASKED_AT_ONCE).collect();
            let batch = buffer.gather(&rows)?;
            let said = |numbers, pixels: &Option<Tensor>| {
                let seen = Seen {
                    numbers,
                    pixels: pixels.as_ref(),
                    prior: None,
                };
                Ok::<_, SacError>(prior.forward_frozen(seen.by(prior)?)?)
            };
            let here = said(&batch.observation, &batch.pixels)?;
            let next = said(&batch.next_observation, &batch.next_pixels)?;
            buffer.answer(&here, &next)?;
        }
        Ok(())
    }

    /// The random numbers of one update on `batch` transitions.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn draw_noise(&self, stream: &mut Stream, batch: usize) -> Result<UpdateNoise> {
        let shape = (batch, self.dims.action);
        let samples = self.config.divergence_samples();
        let mut draw = || {
            let action = stream.normal_tensor(shape)?;
            let divergence = (samples > 0)
                .then(|| NoiseMoments::draw(stream, samples, shape))
                .transpose()?;
            Ok::<_, SacError>(StateNoise { action, divergence })
        };
        Ok(UpdateNoise {
            here: draw()?,
            next: draw()?,
        })
    }

    /// One update: [`losses`](Self::losses), then one step of the temperature, of the policy, of both critics and
    /// of their targets. If a loss or a gradient is not finite nothing changes but the counters of skipped updates,
    /// and the metrics say so.
    ///
    /// # Errors
    /// More than [`SacConfig::skip_limit`] such updates in a row, or wrong shapes.
    pub fn update(&mut self, batch: &Batch, noise: &UpdateNoise) -> Result<UpdateMetrics> {
        let losses = self.losses(batch, noise)?;
        let mut metrics = losses.figures.read()?;
        if let Some(first) = metrics.fault() {
            self.skipped += 1;
            self.skipped_in_row += 1;
            if self.skipped_in_row > self.config.skip_limit {
                return Err(SacError::Diverged {
                    count: self.skipped_in_row,
                    first,
                });
            }
            metrics.skipped = true;
            return Ok(metrics);
        }
        self.skipped_in_row = 0;
        self.step(losses, None)?;
        Ok(metrics)
    }

    /// As [`update`](Self::update), without reading anything back, so that another processor than this one is not
    /// waited for. An update with numbers that are not finite is undone there; nobody hears of it, and it counts.
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn update_unread(&mut self, batch: &Batch, noise: &UpdateNoise) -> Result<()> {
        if let Compute::Fused = self.compute {
            return self.update(batch, noise).map(|_| ());
        }
        let losses = self.losses(batch, noise)?;
        let sound = is_finite(&losses.figures.values)?;
        self.step(losses, Some(&sound))
    }

    /// Changes everything that an update changes; where `sound`, a condition `[]`, is 0, nothing but the targets, which
    /// follow the critics all the same.
    fn step(&mut self, losses: Losses, sound: Option<&Tensor>) -> Result<()> {
        let Losses {
            gradients,
            figures,
            temperature,
            ..
        } = losses;
        self.temperature = match sound {
            Some(sound) => self.temperature.or(temperature, sound)?,
            None => temperature,
        };
        let clip = self.config.gradient_clip;
        let [policy, critic_1, critic_2] = figures.gradient_norms()?;
        (self.policy_optimiser).step_with_norm(&gradients, clip, &policy, sound)?;
        for (optimiser, norm) in self.critic_optimisers.iter_mut().zip([critic_1, critic_2]) {
            optimiser.step_with_norm(&gradients, clip, &norm, sound)?;
        }
        for (target, critic) in self.targets.iter().zip(&self.critics) {
            target.params().soft_update(critic.params(), self.config.target_rate)?;
        }
        self.updates += 1;
        Ok(())
    }

    /// Losses and gradients of one update, in the order of the original code; changes nothing.
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn losses(&self, batch: &Batch, noise: &UpdateNoise) -> Result<Losses> {
        let config = &self.config;
        let device = self.compute.device();
        let (batch, noise) = (&batch.to_device(device)?, &noise.to_device(device)?);
        let (s, a, next_s) = (&batch.observation, &batch.action, &batch.next_observation);
        let here = Seen {
            numbers: s,
            pixels: batch.pixels.as_ref(),
            prior: batch.prior.as_ref().map(|prior| &prior.here),
        };
        let next = Seen {
            numbers: next_s,
            pixels: batch.next_pixels.as_ref(),
            prior: batch.prior.as_ref().map(|prior| &prior.next),
        };

        // The policy where we are, and the temperature that follows from how far it strays.
        let here = self.pass(self.policy.forward(here.by(&self.policy)?)?, here, &noise.here)?;
        let penalty = here.penalty.mean_all()?;
        let penalty_target = self.penalty_target();
        let temperature_loss = (self.temperature.value()? * penalty.detach().affine(-1.0, penalty_target.into())?)?;
        let temperature = self.temperature.stepped(&temperature_loss)?;
        let alpha = temperature.value()?;

        // The policy's loss, already with the new temperature. The critics only judge here.
        let (s, next_s) = (self.seen_by_critics(s)?, self.seen_by_critics(next_s)?);
        let q_of_policy = smaller(&self.critics, &Tensor::cat(&[&s, &here.action], 1)?)?;
        let policy_loss = (here.penalty.broadcast_mul(&alpha)? - q_of_policy)?.mean_all()?;

        // What the critics should have said.
        let next = self.pass(self.policy.forward_frozen(next.by(&self.policy)?)?, next, &noise.next)?;
        let next_input = Tensor::cat(&[&next_s, &next.action], 1)?;
        let value_next = (smaller(&self.targets, &next_input)? - next.penalty.broadcast_mul(&alpha)?)?;
        let q_target = ((&batch.reward * f64::from(config.reward_scale))? + (self.discounts(batch)? * &value_next)?)?;
        let q_target = match config.target_clip {
            Some(limit) => q_target.clamp(-limit, limit)?,
            None => q_target,
        };

        // What they say.
        let input = Tensor::cat(&[&s, a], 1)?;
        let q = [value(&self.critics[0], &input)?, value(&self.critics[1], &input)?];
        let [loss_1, loss_2] = [&q[0], &q[1]].map(|q| (q - &q_target)?.sqr()?.mean_all()? * 0.5);
        let (loss_1, loss_2) = (loss_1?, loss_2?);

        // The three losses have no weights in common, so one backward pass gives each network its own gradient.
        let gradients = crate::nn::backward(&((&policy_loss + &loss_1)? + &loss_2)?)?;
        let [critic_1, critic_2] = &self.critic_optimisers;
        let values = [
            policy_loss,
            loss_1,
            loss_2,
            temperature_loss,
            alpha,
            penalty,
            here.log_prob.mean_all()?,
            q[0].mean_all()?,
            q[1].mean_all()?,
            q_target.mean_all()?,
            self.policy_optimiser.gradient_norm(&gradients)?,
            critic_1.gradient_norm(&gradients)?,
            critic_2.gradient_norm(&gradients)?,
        ];
        let figures = Figures {
            values: Tensor::stack(&values.map(|value| value.detach()), 0)?,
            penalty_target,
        };
        Ok(Losses {
            here,
            next,
            value_next,
            q_target,
            q,
            gradients,
            figures,
            temperature,
        })
    }

    /// Observations as the critics see them, `[observation | its waves]`.
    fn seen_by_critics(&self, observations: &Tensor) -> Result<Tensor> {
        let seen = standardised(self.standardiser.as_ref(), observations)?;
        let frequencies = self.config.standardise.as_ref().map_or(0, |seen| seen.frequencies);
        if frequencies == 0 {
            return Ok(seen);
        }
        let mut parts = vec![seen.clone()];
        for k in 0..frequencies {
            let angle = (&seen * (std::f64::consts::PI * f64::from(1 << k)))?;
            parts.extend([angle.sin()?, angle.cos()?]);
        }
        Ok(Tensor::cat(&parts, 1)?)
    }

    /// Samples an action and computes the penalty at what is `seen`.
    fn pass(&self, policy: DiagGaussian, seen: Seen<'_>, noise: &StateNoise) -> Result<PolicyPass> {
        let sample = (&policy.mu + (policy.log_sigma.exp()? * &noise.action)?)?;
        // The density of a re-parameterised sample depends on sigma alone: its distance from mu is sigma * noise.
        let log_prob = ((noise.action.sqr()? * -0.5)? - &policy.log_sigma)?.sum(D::Minus1)?;
        let log_prob = (log_prob - 0.5 * (std::f64::consts::TAU).ln() * self.dims.action as f64)?;
        let log_prob = self.config.squash.log_prob(log_prob, &sample)?;
        let action = self.config.squash.apply(&sample)?;
        let prior = self
            .prior
            .as_ref()
            .map(|prior| match seen.prior {
                Some(said) => Ok(said.clone()),
                None => Ok::<_, SacError>(prior.forward_frozen(seen.by(prior)?)?),
            })
            .transpose()?;
        let penalty = match (&self.config.regulariser, &prior) {
            (
                &Regulariser::PriorDivergence {
                    estimate,
                    clamp,
                    reversed,
                    ..
                },
                Some(prior),
            ) => {
                let (p, q) = if reversed { (prior, &policy) } else { (&policy, prior) };
                let divergence = match (estimate, &noise.divergence) {
                    (Estimate::MonteCarlo { .. }, Some(noise)) => sampled_divergence(p, q, noise)?.sum(D::Minus1)?,
                    (Estimate::MonteCarlo { .. }, None) => return Err(SacError::NoNoise),
                    (Estimate::Analytic, _) => p.kl(q)?.sum(D::Minus1)?,
                    (Estimate::AnalyticMean, _) => p.kl(q)?.mean(D::Minus1)?,
                };
                divergence.clamp(-clamp, clamp)?
            }
            _ => log_prob.clone(),
        };
        Ok(PolicyPass {
            policy,
            action,
            log_prob,
            prior,
            penalty,
        })
    }

    /// What the temperature pulls the penalty to, in nats.
    fn penalty_target(&self) -> f32 {
        match self.config.regulariser {
            Regulariser::Entropy { target } => -target.unwrap_or(-(self.dims.action as f32)),
            Regulariser::PriorDivergence { target, .. } => target.at(self.updates),
        }
    }

    /// The weight of the next state's value, `[B]`.
    fn discounts(&self, batch: &Batch) -> Result<Tensor> {
        let over = match self.config.time_outs {
            TimeOuts::Bootstrap => batch.terminated.clone(),
            TimeOuts::Terminal => (&batch.terminated + &batch.timed_out)?,
        };
        let goes_on = over.affine(-1.0, 1.0)?;
        let discount = f64::from(self.config.discount);
        match self.config.discounting {
            Discounting::PerTransition => Ok((goes_on * discount)?),
            Discounting::PerStep if self.config.discount > 0.0 => {
                Ok((goes_on * (&batch.steps * discount.ln())?.exp()?)?)
            }
            Discounting::PerStep => Ok(goes_on.zeros_like()?),
        }
    }
}

/// Transitions about which the prior is asked in one pass at most.
const ASKED_AT_ONCE: usize = 256;

/// Observations of a batch, and the pictures of the same moments where they are stored.
#[derive(Clone, Copy)]
struct Seen<'a> {
    numbers: &'a Tensor,
    pixels: Option<&'a Tensor>,
    /// What the prior says of it, where that is known.
    prior: Option<&'a DiagGaussian>,
}

impl<'a> Seen<'a> {
    /// What `network` looks at.
    fn by(self, network: &GaussianNetwork) -> Result<&'a Tensor> {
        match network.sees() {
            Sees::Numbers => Ok(self.numbers),
            Sees::Pixels(_) => self.pixels.ok_or(SacError::NoPictures),
        }
    }
}

fn standardiser(config: &SacConfig, dims: SacDims) -> Result<Option<Standardiser>> {
    let Some(Standardise { mean, deviation, .. }) = &config.standardise else {
        return Ok(None);
    };
    let size = dims.observation;
    let each = |numbers: &[f32]| match numbers {
        [number] => Ok(vec![*number; size]),
        _ if numbers.len() == size => Ok(numbers.to_vec()),
        _ => Err(SacError::StandardiseSize {
            found: numbers.len(),
            expected: size,
        }),
    };
    Ok(Some(Standardiser::new(&each(mean)?, &each(deviation)?)?))
}

fn optimisers(config: &SacConfig, policy: &GaussianNetwork, critics: &[Mlp; 2]) -> (Optimiser, [Optimiser; 2]) {
    let adam = |lr: f64, params: Vec<Params>| Optimiser::new(OptimiserConfig::adam(lr), params);
    let critic = |critic: &Mlp| adam(config.critic_lr, vec![critic.params().clone()]);
    let policy = policy.parts().into_iter().map(|(_, params)| params.clone());
    (adam(config.policy_lr, policy.collect()), critics.each_ref().map(critic))
}

// ---------------------------------------------------------------------------------------------------------------------
// The formulas
// ---------------------------------------------------------------------------------------------------------------------

impl Squash {
    fn apply(self, sample: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Tanh { range, .. } => squash::squash(sample, f64::from(range))?,
            Self::Clip { range } => sample.clamp(-range, range)?,
            Self::None => sample.clone(),
        })
    }

    /// The log-density of the squashed action, `[B]`, from that of its `sample [B, d]` before squashing.
    fn log_prob(self, log_prob: Tensor, sample: &Tensor) -> Result<Tensor> {
        let Self::Tanh {
            range,
            single_range_correction,
        } = self
        else {
            return Ok(log_prob);
        };
        let range = f64::from(range);
        let squashed = (log_prob - squash::log_det(sample, range)?)?;
        // `log_det` has ln(range) once.
        let missing = if single_range_correction {
            0
        } else {
            sample.dim(D::Minus1)?.saturating_sub(1)
        };
        Ok((squashed - missing as f64 * range.ln())?)
    }
}

/// `KL(p, q)` per dimension, `[B, d]`, estimated with the samples `x = mu_p + sigma_p eps` that `noise` stands for.
///
/// With `u = (mu_p - mu_q) / sigma_q` and `v = sigma_p / sigma_q`,
/// `ln p(x) - ln q(x) = ((u + v eps)^2 - eps^2) / 2 - ln v`.
fn sampled_divergence(p: &DiagGaussian, q: &DiagGaussian, noise: &NoiseMoments) -> Result<Tensor> {
    let log_v = (&p.log_sigma - &q.log_sigma)?;
    let v = log_v.exp()?;
    let u = ((&p.mu - &q.mu)? * q.log_sigma.neg()?.exp()?)?;
    let mixed = ((&u * &v)? * (&noise.first * 2.0)?)?;
    let square = ((u.sqr()? + mixed)? + ((v.sqr()? - 1.0)? * &noise.second)?)?;
    Ok(((square * 0.5)? - log_v)?)
}

/// One critic's value of `[observation | action]` rows, `[B]`, with a gradient to its weights.
fn value(critic: &Mlp, input: &Tensor) -> Result<Tensor> {
    Ok(critic.forward(input, Mode::Eval)?.squeeze(1)?)
}

/// The smaller value of two critics, `[B]`, with a gradient to the input only.
fn smaller(critics: &[Mlp; 2], input: &Tensor) -> Result<Tensor> {
    let [first, second] = critics
        .each_ref()
        .map(|critic| critic.forward_frozen(input, Mode::Eval));
    Ok(first?.minimum(&second?)?.squeeze(1)?)
}
