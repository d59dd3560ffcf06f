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

use std::collections::BTreeMap;

use bevy::prelude::Component;
use candle_core::{D, Device, Tensor};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::nn::{DiagGaussian, ImportError, Mlp, MlpSpec, Mode, Norm, Optimiser, OptimiserConfig, Params, squash};
use crate::replay::Batch;
use crate::rng::Stream;
use crate::skills::{GaussianNetwork, SkillError};

// ---------------------------------------------------------------------------------------------------------------------
// Settings
// ---------------------------------------------------------------------------------------------------------------------

/// Settings of [`Sac`]. The defaults are the published ones for `SPiRL` on the kitchen, except where a switch says that
/// the original differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SacConfig {
    /// What the policy pays for. Default: divergence from the prior with target 5 nats.
    pub regulariser: Regulariser,
    /// Where the policy's weights come from. Default: a copy of the prior.
    pub policy: PolicyStart,
    /// Both critics and their targets, without normalisation. Default: 5 hidden layers of 256.
    pub critic: CriticConfig,
    /// How the executed action follows from the Gaussian sample. Default: `2 tanh(sample)`.
    pub squash: Squash,
    /// The weight of the penalty. Default: learned, starting at 1.
    pub temperature: Temperature,
    /// Transitions per update. Default 256.
    pub batch: usize,
    /// Discount `gamma` per transition, so with skills per *skill*; see [`discounting`](Self::discounting).
    /// Default 0.99.
    pub discount: f32,
    /// What the discount counts. Default: transitions.
    pub discounting: Discounting,
    /// Share `tau` of the critic that moves into its target per update. Default 0.005.
    pub target_rate: f32,
    /// Factor on every reward. Default 1.
    pub reward_scale: f32,
    /// Step size of the policy's Adam. Default 3e-4.
    pub policy_lr: f64,
    /// Step size of the critics' Adam. Default 3e-4.
    pub critic_lr: f64,
    /// Largest global norm of the gradient of one network. Default: no limit.
    pub gradient_clip: Option<f32>,
    /// Largest absolute value of the critics' target. The published option is `1 / (1 - discount)`. Default: no limit.
    pub target_clip: Option<f32>,
    /// What the value of a state is that the time limit cut off. Default: the critics'.
    pub time_outs: TimeOuts,
    /// Updates in a row that may be skipped because of numbers that are not finite; one more is an error. Default 20.
    pub skip_limit: u32,
}

impl Default for SacConfig {
    fn default() -> Self {
        Self {
            regulariser: Regulariser::default(),
            policy: PolicyStart::default(),
            critic: CriticConfig::default(),
            squash: Squash::default(),
            temperature: Temperature::default(),
            batch: 256,
            discount: 0.99,
            discounting: Discounting::default(),
            target_rate: 0.005,
            reward_scale: 1.0,
            policy_lr: 3e-4,
            critic_lr: 3e-4,
            gradient_clip: None,
            target_clip: None,
            time_outs: TimeOuts::default(),
            skip_limit: 20,
        }
    }
}

/// The penalty `g(s)` and its target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Regulariser {
    /// Negative entropy: plain SAC.
    Entropy {
        /// Target entropy in nats. `None`: minus the number of action values.
        #[serde(default)]
        target: Option<f32>,
    },
    /// Divergence of the policy from a frozen prior, both before squashing.
    PriorDivergence {
        /// Target divergence in nats. Kitchen skills 5, maze skills 1, flat prior 1.
        #[serde(default = "default_divergence")]
        target: Schedule,
        /// How the divergence is computed.
        #[serde(default)]
        estimate: Estimate,
        /// The divergence of a state is clamped to plus or minus this many nats. Default 100.
        #[serde(default = "default_clamp")]
        clamp: f32,
        /// `KL(prior, policy)` instead of `KL(policy, prior)`. Default false.
        #[serde(default)]
        reversed: bool,
    },
}

fn default_divergence() -> Schedule {
    Schedule::Constant(5.0)
}

fn default_clamp() -> f32 {
    100.0
}

impl Default for Regulariser {
    fn default() -> Self {
        Self::PriorDivergence {
            target: default_divergence(),
            estimate: Estimate::default(),
            clamp: default_clamp(),
            reversed: false,
        }
    }
}

/// How the divergence between two diagonal Gaussians is computed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Estimate {
    /// Mean of `log p(x) - log q(x)` over this many re-parameterised samples `x` of `p`, as published.
    MonteCarlo {
        /// Samples per state. Default 10.
        samples: usize,
    },
    /// In closed form, summed over dimensions: the same expectation without its noise.
    Analytic,
    /// In closed form, averaged over dimensions: the original code before 2020-11-30. A target means `d` times as
    /// much as with the other two.
    AnalyticMean,
}

impl Default for Estimate {
    fn default() -> Self {
        Self::MonteCarlo { samples: 10 }
    }
}

/// A number that may change with the number of updates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Schedule {
    /// Always the same.
    Constant(f32),
    /// From one value to another in equal steps, constant before and after.
    Linear {
        /// Value up to update `delay`.
        from: f32,
        /// Value from update `delay + updates` on.
        to: f32,
        /// Length of the change in updates.
        updates: u64,
        /// Updates before the change begins. Default 0.
        #[serde(default)]
        delay: u64,
    },
}

impl Schedule {
    /// The value after `updates` updates.
    pub fn at(self, updates: u64) -> f32 {
        match self {
            Self::Constant(value) => value,
            Self::Linear {
                from,
                to,
                updates: length,
                delay,
            } => {
                let share = updates.saturating_sub(delay).min(length) as f32 / length.max(1) as f32;
                if length == 0 && updates >= delay {
                    to
                } else {
                    from + (to - from) * share
                }
            }
        }
    }
}

/// Where the policy's weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum PolicyStart {
    /// A trained copy of the prior network. Its batch normalisation keeps the running statistics of pre-training; gains
    /// and shifts are trained on.
    #[default]
    Prior,
    /// A fresh network without normalisation.
    Scratch {
        /// Hidden units per layer. Published: 256 for the kitchen, 64 for maze and block stacking.
        width: usize,
        /// Hidden layers between the first and the last one. Published: 5 for the kitchen, 3 else.
        hidden: usize,
    },
}

/// Size of a critic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CriticConfig {
    /// Hidden units per layer. Default 256.
    pub width: usize,
    /// Hidden layers between the first and the last one. Default 5 (published: kitchen skills 5, all others 2).
    pub hidden: usize,
}

impl Default for CriticConfig {
    fn default() -> Self {
        Self { width: 256, hidden: 5 }
    }
}

/// How the executed action follows from the policy's Gaussian sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Squash {
    /// `range * tanh(sample)`, as published: a sample of the prior is *not* executed as the prior's skill (0.5 becomes
    /// 0.924 with range 2).
    Tanh {
        /// Largest absolute value of an action. Published: 2 for skills, 1 for actions.
        #[serde(default = "default_range")]
        range: f32,
        /// Quirk of the original: the log-probability is corrected by `ln range` once instead of once per dimension, a
        /// constant offset that shifts the meaning of a target entropy. Default false.
        #[serde(default)]
        single_range_correction: bool,
    },
    /// The sample itself: a policy equal to the prior draws true skills of the prior.
    None,
}

fn default_range() -> f32 {
    2.0
}

impl Default for Squash {
    fn default() -> Self {
        Self::Tanh {
            range: default_range(),
            single_range_correction: false,
        }
    }
}

/// The weight of the penalty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Temperature {
    /// Moved by Adam on its logarithm so that the penalty keeps to its target.
    Learned {
        /// First value. Default 1.
        #[serde(default = "default_temperature")]
        initial: f32,
        /// Step size of its Adam. Default 3e-4.
        #[serde(default = "default_lr")]
        lr: f64,
        /// Smallest value. Default: no limit.
        #[serde(default)]
        minimum: Option<f32>,
    },
    /// Constant. (The original's option of this name ignores the number and stays at 1.)
    Fixed(f32),
}

fn default_temperature() -> f32 {
    1.0
}

fn default_lr() -> f64 {
    3e-4
}

impl Default for Temperature {
    fn default() -> Self {
        Self::Learned {
            initial: default_temperature(),
            lr: default_lr(),
            minimum: None,
        }
    }
}

/// What the discount counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Discounting {
    /// `gamma` per transition, whatever its length, as published.
    #[default]
    PerTransition,
    /// `gamma` to the power of the transition's control steps, as in a semi-Markov decision process.
    PerStep,
}

/// The value of a state that the time limit cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TimeOuts {
    /// The task would have gone on: the critics' value.
    #[default]
    Bootstrap,
    /// Nothing, as if the task had ended: the original rule.
    Terminal,
}

impl SacConfig {
    /// Checks every number for itself.
    ///
    /// # Errors
    /// Names the first field that cannot be used, and why.
    pub fn validate(&self) -> Result<(), SacError> {
        let check = |good: bool, field: &'static str, rule: &'static str| {
            if good {
                Ok(())
            } else {
                Err(SacError::Config { field, rule })
            }
        };
        let positive = |value: f32| value > 0.0 && value.is_finite();
        let step_size = |value: f64| value > 0.0 && value.is_finite();
        match &self.regulariser {
            Regulariser::Entropy { target } => {
                check(target.is_none_or(f32::is_finite), "regulariser.target", "finite")?;
            }
            Regulariser::PriorDivergence {
                target,
                estimate,
                clamp,
                ..
            } => {
                let finite = match *target {
                    Schedule::Constant(value) => value.is_finite(),
                    Schedule::Linear { from, to, .. } => from.is_finite() && to.is_finite(),
                };
                check(finite, "regulariser.target", "finite")?;
                check(positive(*clamp), "regulariser.clamp", "above zero")?;
                let samples = !matches!(estimate, Estimate::MonteCarlo { samples: 0 });
                check(samples, "regulariser.estimate.samples", "at least 1")?;
            }
        }
        if let PolicyStart::Scratch { width, .. } = self.policy {
            check(width > 0, "policy.width", "at least 1")?;
        }
        if let Squash::Tanh { range, .. } = self.squash {
            check(positive(range), "squash.range", "above zero")?;
        }
        match self.temperature {
            Temperature::Learned { initial, lr, minimum } => {
                check(positive(initial), "temperature.initial", "above zero")?;
                check(step_size(lr), "temperature.lr", "above zero")?;
                check(minimum.is_none_or(positive), "temperature.minimum", "above zero")?;
            }
            Temperature::Fixed(value) => check(value >= 0.0 && value.is_finite(), "temperature", "zero or above")?,
        }
        check(self.critic.width > 0, "critic.width", "at least 1")?;
        check(self.batch > 0, "batch", "at least 1")?;
        check((0.0..=1.0).contains(&self.discount), "discount", "between 0 and 1")?;
        check(
            self.target_rate > 0.0 && self.target_rate <= 1.0,
            "target_rate",
            "above 0, at most 1",
        )?;
        check(self.reward_scale.is_finite(), "reward_scale", "finite")?;
        check(step_size(self.policy_lr), "policy_lr", "above zero")?;
        check(step_size(self.critic_lr), "critic_lr", "above zero")?;
        check(self.gradient_clip.is_none_or(positive), "gradient_clip", "above zero")?;
        check(self.target_clip.is_none_or(positive), "target_clip", "above zero")
    }

    /// Normal numbers per state that the divergence estimate draws.
    fn divergence_samples(&self) -> usize {
        match self.regulariser {
            Regulariser::PriorDivergence {
                estimate: Estimate::MonteCarlo { samples },
                ..
            } => samples,
            _ => 0,
        }
    }
}

/// What can go wrong in the learner.
#[derive(Debug, thiserror::Error)]
pub enum SacError {
    /// A setting that cannot be used.
    #[error("{field} must be {rule}")]
    Config {
        /// Its path in [`SacConfig`].
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The settings need a prior network and none was given.
    #[error("{0} needs a prior, and none was given")]
    NoPrior(&'static str),
    /// The prior is for other sizes.
    #[error("the prior maps {found:?} observation and action values, the learner needs {expected:?}")]
    PriorSize {
        /// Sizes of the prior.
        found: (usize, usize),
        /// Sizes of the learner.
        expected: (usize, usize),
    },
    /// An update with a Monte-Carlo divergence was given no random numbers for it.
    #[error("the Monte-Carlo divergence needs random numbers, and the update was given none")]
    NoNoise,
    /// Too many updates in a row had losses or gradients that are not finite.
    #[error("{count} updates in a row were skipped because of numbers that are not finite (first: {first})")]
    Diverged {
        /// Skipped updates in a row.
        count: u32,
        /// The first such number of the last update.
        first: &'static str,
    },
    /// A checkpoint that does not fit.
    #[error("checkpoint of the learner: {0}")]
    Checkpoint(String),
    /// Weights of a checkpoint that do not fit.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The policy or prior network failed.
    #[error(transparent)]
    Network(#[from] SkillError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

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

/// A policy's answer to a batch of observations.
#[derive(Debug, Clone)]
pub struct PolicyOutput {
    /// Action to execute, `[B, d]`.
    pub action: Tensor,
    /// Mean of the Gaussian before squashing, `[B, d]`.
    pub mu: Tensor,
    /// Its log standard deviation, `[B, d]`.
    pub log_sigma: Tensor,
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

/// Everything one update computes before it changes anything: [`Sac::evaluate`].
pub struct Evaluation {
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
    pub metrics: UpdateMetrics,
    temperature: LearnedTemperature,
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
    temperature: LearnedTemperature,
    policy_optimiser: Optimiser,
    critic_optimisers: [Optimiser; 2],
    updates: u64,
    skipped: u64,
    skipped_in_row: u32,
}

impl Sac {
    /// A learner before its first update. `rng` fills whatever is not copied from the prior; the targets start equal to
    /// the critics. A policy from scratch takes over the prior's standardisation of observations, if a prior is given;
    /// critics see observations as they were stored.
    ///
    /// # Errors
    /// Settings that cannot be used, a missing prior, or one of other sizes.
    pub fn new(config: SacConfig, dims: SacDims, prior: Option<&GaussianNetwork>, rng: &mut Stream) -> Result<Self> {
        config.validate()?;
        if let Some(prior) = prior {
            let found = (prior.observation_dim(), prior.sample_dim());
            let expected = (dims.observation, dims.action);
            if found != expected {
                return Err(SacError::PriorSize { found, expected });
            }
        }
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
                GaussianNetwork::new(
                    Mlp::new(spec, rng)?,
                    prior.and_then(|prior| prior.standardiser().cloned()),
                )
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
        let CriticConfig { width, hidden } = config.critic;
        let input = dims.observation + dims.action;
        let spec = MlpSpec {
            input,
            width,
            output: 1,
            hidden,
            norm: Norm::None,
        };
        let critics = [Mlp::new(spec, rng)?, Mlp::new(spec, rng)?];
        let targets = [critics[0].deep_clone()?, critics[1].deep_clone()?];
        let (policy_optimiser, critic_optimisers) = optimisers(&config, &policy, &critics);
        let temperature = LearnedTemperature::new(config.temperature);
        Ok(Self {
            config,
            dims,
            policy,
            prior,
            critics,
            targets,
            temperature,
            policy_optimiser,
            critic_optimisers,
            updates: 0,
            skipped: 0,
            skipped_in_row: 0,
        })
    }

    /// Uses up to `threads` threads of the current rayon pool inside every network pass (default 1). The results do not
    /// depend on it.
    pub fn with_threads(self, threads: usize) -> Self {
        let critic = |critic: Mlp| critic.with_threads(threads);
        let gaussian = |network: GaussianNetwork| {
            let net = network.mlp().clone().with_threads(threads);
            GaussianNetwork::new(net, network.standardiser().cloned())
        };
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

    /// The frozen prior, if the policy is held to one.
    pub fn prior(&self) -> Option<&GaussianNetwork> {
        self.prior.as_ref()
    }

    /// Both critics.
    pub fn critics(&self) -> &[Mlp; 2] {
        &self.critics
    }

    /// Both critics' slowly moving targets.
    pub fn targets(&self) -> &[Mlp; 2] {
        &self.targets
    }

    /// The temperature `alpha`.
    pub fn temperature(&self) -> f32 {
        self.temperature.value()
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

    /// The policy's action for observations `[B, S]`; nothing is recorded for differentiation.
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn act(&self, observations: &Tensor, pick: Pick<'_>) -> Result<PolicyOutput> {
        let DiagGaussian { mu, log_sigma } = self.policy.forward_frozen(observations)?;
        let sample = match pick {
            Pick::Sample(noise) => (&mu + (log_sigma.exp()? * noise)?)?,
            Pick::Mean => mu.clone(),
        };
        Ok(PolicyOutput {
            action: self.config.squash.apply(&sample)?,
            mu,
            log_sigma,
        })
    }

    /// The action of the published warm-up: uniform over the range for a policy from scratch; one that starts from the
    /// prior simply acts (as does one without a range).
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn act_at_random(&self, observations: &Tensor, stream: &mut Stream) -> Result<PolicyOutput> {
        let shape = (observations.dim(0)?, self.dims.action);
        match (self.config.policy, self.config.squash) {
            (PolicyStart::Scratch { .. }, Squash::Tanh { range, .. }) => {
                let uniform = (0..shape.0 * shape.1)
                    .map(|_| stream.random_range(-range..=range))
                    .collect();
                let action = Tensor::from_vec(uniform, shape, &Device::Cpu)?;
                Ok(PolicyOutput {
                    action,
                    ..self.act(observations, Pick::Mean)?
                })
            }
            _ => self.act(observations, Pick::Sample(&stream.normal_tensor(shape)?)),
        }
    }

    /// Closed-form divergence of the policy from the prior in the configured direction, in nats, `[B]`, for an output
    /// of [`act`](Self::act); `None` without a prior. For display.
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn divergence(&self, observations: &Tensor, output: &PolicyOutput) -> Result<Option<Tensor>> {
        let (Some(prior), Regulariser::PriorDivergence { reversed, .. }) = (&self.prior, &self.config.regulariser)
        else {
            return Ok(None);
        };
        let prior = prior.forward_frozen(observations)?;
        let policy = DiagGaussian {
            mu: output.mu.clone(),
            log_sigma: output.log_sigma.clone(),
        };
        let (p, q) = if *reversed {
            (&prior, &policy)
        } else {
            (&policy, &prior)
        };
        Ok(Some(p.kl(q)?.sum(D::Minus1)?))
    }

    /// Minimum of both critics for observations `[B, S]` and actions `[B, d]`, `[B]`. For display.
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn value(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        let input = Tensor::cat(&[observations, actions], 1)?;
        smaller(&self.critics, &input)
    }

    // ----- learning -----

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

    /// One update: [`evaluate`](Self::evaluate), then one step of the temperature, of the policy, of both critics and
    /// of their targets. If a loss or a gradient is not finite nothing changes but the counters of skipped updates,
    /// and the metrics say so.
    ///
    /// # Errors
    /// More than [`SacConfig::skip_limit`] such updates in a row, or wrong shapes.
    pub fn update(&mut self, batch: &Batch, noise: &UpdateNoise) -> Result<UpdateMetrics> {
        let Evaluation {
            gradients,
            mut metrics,
            temperature,
            ..
        } = self.evaluate(batch, noise)?;
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
        self.temperature = temperature;
        self.policy_optimiser.step(&gradients, self.config.gradient_clip)?;
        for optimiser in &mut self.critic_optimisers {
            optimiser.step(&gradients, self.config.gradient_clip)?;
        }
        for (target, critic) in self.targets.iter().zip(&self.critics) {
            target.params().soft_update(critic.params(), self.config.target_rate)?;
        }
        self.updates += 1;
        Ok(metrics)
    }

    /// Losses and gradients of one update, in the order of the original code; changes nothing.
    ///
    /// # Errors
    /// Wrong shapes.
    pub fn evaluate(&self, batch: &Batch, noise: &UpdateNoise) -> Result<Evaluation> {
        let config = &self.config;
        let (s, a, next_s) = (&batch.observation, &batch.action, &batch.next_observation);

        // The policy where we are, and the temperature that follows from how far it strays.
        let here = self.pass(self.policy.forward(s)?, s, &noise.here)?;
        let penalty = mean(&here.penalty)?;
        let penalty_target = self.penalty_target();
        let temperature_loss = self.temperature() * (penalty_target - penalty);
        let temperature = self.temperature.stepped(temperature_loss);
        let alpha = f64::from(temperature.value());

        // The policy's loss, already with the new temperature. The critics only judge here.
        let q_of_policy = smaller(&self.critics, &Tensor::cat(&[s, &here.action], 1)?)?;
        let policy_loss = ((&here.penalty * alpha)? - q_of_policy)?.mean_all()?;

        // What the critics should have said.
        let next = self.pass(self.policy.forward_frozen(next_s)?, next_s, &noise.next)?;
        let next_input = Tensor::cat(&[next_s, &next.action], 1)?;
        let value_next = (smaller(&self.targets, &next_input)? - (&next.penalty * alpha)?)?;
        let q_target = ((&batch.reward * f64::from(config.reward_scale))? + (self.discounts(batch)? * &value_next)?)?;
        let q_target = match config.target_clip {
            Some(limit) => q_target.clamp(-limit, limit)?,
            None => q_target,
        };

        // What they say.
        let input = Tensor::cat(&[s, a], 1)?;
        let q = [value(&self.critics[0], &input)?, value(&self.critics[1], &input)?];
        let [loss_1, loss_2] = [&q[0], &q[1]].map(|q| (q - &q_target)?.sqr()?.mean_all()? * 0.5);
        let (loss_1, loss_2) = (loss_1?, loss_2?);

        // The three losses have no weights in common, so one backward pass gives each network its own gradient.
        let gradients = ((&policy_loss + &loss_1)? + &loss_2)?.backward()?;
        let [critic_1, critic_2] = &self.critic_optimisers;
        let metrics = UpdateMetrics {
            policy_loss: policy_loss.to_scalar()?,
            critic_loss: [loss_1.to_scalar()?, loss_2.to_scalar()?],
            temperature_loss,
            temperature: temperature.value(),
            penalty,
            penalty_target,
            entropy: -mean(&here.log_prob)?,
            q: [mean(&q[0])?, mean(&q[1])?],
            q_target: mean(&q_target)?,
            policy_gradient: self.policy_optimiser.gradient_norm(&gradients)?,
            critic_gradient: [critic_1.gradient_norm(&gradients)?, critic_2.gradient_norm(&gradients)?],
            skipped: false,
        };
        Ok(Evaluation {
            here,
            next,
            value_next,
            q_target,
            q,
            gradients,
            metrics,
            temperature,
        })
    }

    /// Samples an action and computes the penalty at `observations`.
    fn pass(&self, policy: DiagGaussian, observations: &Tensor, noise: &StateNoise) -> Result<PolicyPass> {
        let sample = (&policy.mu + (policy.log_sigma.exp()? * &noise.action)?)?;
        // The density of a re-parameterised sample depends on sigma alone: its distance from mu is sigma * noise.
        let log_prob = ((noise.action.sqr()? * -0.5)? - &policy.log_sigma)?.sum(D::Minus1)?;
        let log_prob = (log_prob - 0.5 * (std::f64::consts::TAU).ln() * self.dims.action as f64)?;
        let log_prob = self.config.squash.log_prob(log_prob, &sample)?;
        let action = self.config.squash.apply(&sample)?;
        let prior = self
            .prior
            .as_ref()
            .map(|prior| prior.forward_frozen(observations))
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

    // ----- checkpoints -----

    /// Everything the learner would need to go on, by name: networks, targets, temperature, optimisers, counters.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn export(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        for (name, params) in self.networks() {
            params.export(&name, &mut out)?;
        }
        for (name, optimiser) in self.optimisers() {
            out.extend(
                optimiser
                    .export()?
                    .into_iter()
                    .map(|(key, tensor)| (format!("{name}{key}"), tensor)),
            );
        }
        let LearnedTemperature {
            log_alpha,
            first,
            second,
            steps,
            ..
        } = self.temperature;
        out.insert(
            TEMPERATURE.into(),
            Tensor::new(&[log_alpha, first, second], &Device::Cpu)?,
        );
        let counters = [steps, self.updates, self.skipped, u64::from(self.skipped_in_row)];
        out.insert(
            COUNTERS.into(),
            Tensor::new(&counters.map(|count| count as i64), &Device::Cpu)?,
        );
        Ok(out)
    }

    /// Takes up the state that [`export`](Self::export) gave, for a learner of the same settings and sizes.
    ///
    /// # Errors
    /// A tensor is missing or does not fit; the learner is then unchanged.
    pub fn import(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        let get = |name: &str| {
            from.get(name)
                .ok_or_else(|| SacError::Checkpoint(format!("no tensor `{name}`")))
        };
        let policy = self.policy.deep_clone()?;
        let prior = self.prior.as_ref().map(GaussianNetwork::deep_clone).transpose()?;
        let [critic_1, critic_2] = self.critics.each_ref().map(Mlp::deep_clone);
        let [target_1, target_2] = self.targets.each_ref().map(Mlp::deep_clone);
        let (critics, targets) = ([critic_1?, critic_2?], [target_1?, target_2?]);
        let (policy_optimiser, critic_optimisers) = optimisers(&self.config, &policy, &critics);
        let mut fresh = Self {
            config: self.config.clone(),
            dims: self.dims,
            policy,
            prior,
            critics,
            targets,
            temperature: self.temperature,
            policy_optimiser,
            critic_optimisers,
            updates: 0,
            skipped: 0,
            skipped_in_row: 0,
        };
        for (name, params) in fresh.networks() {
            params.import(&name, from)?;
        }
        for (name, optimiser) in fresh.optimisers_mut() {
            let state = from
                .iter()
                .filter_map(|(key, tensor)| Some((key.strip_prefix(name)?.to_owned(), tensor.clone())));
            optimiser.import(&state.collect())?;
        }
        let [log_alpha, first, second] = numbers(TEMPERATURE, get(TEMPERATURE)?.to_vec1::<f64>()?)?;
        let counters: [i64; 4] = numbers(COUNTERS, get(COUNTERS)?.to_vec1()?)?;
        let [steps, updates, skipped, in_row] = counters.map(|count| u64::try_from(count).unwrap_or(0));
        fresh.temperature = LearnedTemperature {
            log_alpha,
            first,
            second,
            steps,
            ..fresh.temperature
        };
        fresh.updates = updates;
        fresh.skipped = skipped;
        fresh.skipped_in_row = u32::try_from(in_row).unwrap_or(u32::MAX);
        *self = fresh;
        Ok(())
    }

    fn networks(&self) -> Vec<(String, Params)> {
        let mut all = vec![("policy.".to_owned(), self.policy.params().clone())];
        all.extend(
            self.prior
                .iter()
                .map(|prior| ("prior.".to_owned(), prior.params().clone())),
        );
        for (index, (critic, target)) in self.critics.iter().zip(&self.targets).enumerate() {
            all.push((format!("critics.{index}."), critic.params().clone()));
            all.push((format!("critic_targets.{index}."), target.params().clone()));
        }
        all
    }

    fn optimisers(&self) -> [(&'static str, &Optimiser); 3] {
        let [first, second] = &self.critic_optimisers;
        [
            (OPTIMISERS[0], &self.policy_optimiser),
            (OPTIMISERS[1], first),
            (OPTIMISERS[2], second),
        ]
    }

    fn optimisers_mut(&mut self) -> [(&'static str, &mut Optimiser); 3] {
        let [first, second] = &mut self.critic_optimisers;
        [
            (OPTIMISERS[0], &mut self.policy_optimiser),
            (OPTIMISERS[1], first),
            (OPTIMISERS[2], second),
        ]
    }
}

const OPTIMISERS: [&str; 3] = ["optimiser.policy.", "optimiser.critics.0.", "optimiser.critics.1."];
const TEMPERATURE: &str = "temperature";
const COUNTERS: &str = "counters";

fn optimisers(config: &SacConfig, policy: &GaussianNetwork, critics: &[Mlp; 2]) -> (Optimiser, [Optimiser; 2]) {
    let adam = |lr: f64, params: &Params| Optimiser::new(OptimiserConfig::adam(lr), vec![params.clone()]);
    let critics = critics.each_ref().map(|critic| adam(config.critic_lr, critic.params()));
    (adam(config.policy_lr, policy.params()), critics)
}

fn numbers<T, const N: usize>(name: &str, values: Vec<T>) -> Result<[T; N]> {
    let wrong = |values: Vec<T>| SacError::Checkpoint(format!("`{name}` has {} values, not {N}", values.len()));
    values.try_into().map_err(wrong)
}

// ---------------------------------------------------------------------------------------------------------------------
// The formulas
// ---------------------------------------------------------------------------------------------------------------------

impl Squash {
    fn apply(self, sample: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Tanh { range, .. } => squash::squash(sample, f64::from(range))?,
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

fn mean(values: &Tensor) -> Result<f32> {
    Ok(values.mean_all()?.to_scalar()?)
}

/// Logarithm of the temperature and its Adam (betas 0.9 and 0.999, epsilon 1e-8), in double precision: one number needs
/// no tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
struct LearnedTemperature {
    setting: Temperature,
    log_alpha: f64,
    first: f64,
    second: f64,
    steps: u64,
}

impl LearnedTemperature {
    fn new(setting: Temperature) -> Self {
        let (Temperature::Learned { initial: start, .. } | Temperature::Fixed(start)) = setting;
        Self {
            setting,
            log_alpha: f64::from(start).ln(),
            first: 0.0,
            second: 0.0,
            steps: 0,
        }
    }

    fn value(&self) -> f32 {
        self.log_alpha.exp() as f32
    }

    /// After one step on the loss `alpha (target - g)`, whose derivative by `log alpha` is the loss itself.
    fn stepped(self, gradient: f32) -> Self {
        let Temperature::Learned { lr, minimum, .. } = self.setting else {
            return self;
        };
        let gradient = f64::from(gradient);
        let steps = self.steps + 1;
        let power = i32::try_from(steps).unwrap_or(i32::MAX);
        let first = 0.9 * self.first + 0.1 * gradient;
        let second = 0.999 * self.second + 0.001 * gradient * gradient;
        let (bias_1, bias_2) = (1.0 - 0.9_f64.powi(power), 1.0 - 0.999_f64.powi(power));
        let log_alpha = self.log_alpha - f64::from(lr) * (first / bias_1) / ((second / bias_2).sqrt() + 1e-8);
        // Clamped itself, not only where it is used: otherwise it would wind down and take long to come back.
        let floor = minimum.map_or(f64::NEG_INFINITY, |minimum| f64::from(minimum).ln());
        Self {
            log_alpha: if log_alpha < floor { floor } else { log_alpha },
            first,
            second,
            steps,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use crate::replay::{End, ReplayBuffer, Transition};
    use crate::rng::{Purpose, stream};

    const DIMS: SacDims = SacDims {
        observation: 3,
        action: 2,
    };

    fn prior(outputs: usize) -> GaussianNetwork {
        let spec = MlpSpec {
            input: 3,
            width: 8,
            output: outputs,
            hidden: 1,
            norm: Norm::Batch,
        };
        GaussianNetwork::new(Mlp::new(spec, &mut stream(5, Purpose::Weights, 1, 0)).unwrap(), None)
    }

    fn small() -> SacConfig {
        SacConfig {
            policy: PolicyStart::Scratch { width: 16, hidden: 1 },
            regulariser: Regulariser::Entropy { target: None },
            critic: CriticConfig { width: 16, hidden: 1 },
            squash: Squash::Tanh {
                range: 1.0,
                single_range_correction: false,
            },
            batch: 16,
            ..SacConfig::default()
        }
    }

    fn learner(config: SacConfig) -> Sac {
        Sac::new(config, DIMS, Some(&prior(4)), &mut stream(5, Purpose::Weights, 0, 0)).unwrap()
    }

    fn regularised() -> SacConfig {
        SacConfig {
            policy: PolicyStart::Prior,
            regulariser: Regulariser::default(),
            ..small()
        }
    }

    fn replay(rows: usize) -> ReplayBuffer {
        let mut buffer = ReplayBuffer::new(rows, 3, 2).unwrap();
        let mut draws = stream(5, Purpose::Batches, 0, 0);
        for row in 0..rows {
            let mut values = [0.0; 9];
            draws.fill_normal(&mut values);
            let transition = Transition {
                observation: &values[..3],
                action: &values[3..5],
                reward: values[5],
                next_observation: &values[6..],
                steps: 10,
                end: [End::Continues, End::Terminated, End::TimedOut][row % 3],
            };
            buffer.push(transition).unwrap();
        }
        buffer
    }

    fn weights(sac: &Sac) -> Vec<Vec<f32>> {
        sac.networks()
            .iter()
            .map(|(_, params)| params.var().to_vec1().unwrap())
            .collect()
    }

    /// One step, reward `1 - |a - goal|^2`: the policy must find the goal.
    #[test]
    fn solves_a_one_step_task() {
        let goal = [0.5_f32, -0.3];
        let config = SacConfig {
            policy_lr: 3e-3,
            critic_lr: 3e-3,
            temperature: Temperature::Fixed(0.01),
            batch: 64,
            ..small()
        };
        let mut sac = learner(config);
        let mut draws = stream(6, Purpose::Policy, 0, 0);
        let mut buffer = ReplayBuffer::new(2000, 3, 2).unwrap();
        let observation = Tensor::new(&[[0.1_f32, -0.2, 0.3]], &Device::Cpu).unwrap();
        for step in 0..800 {
            let output = if step < 100 {
                sac.act_at_random(&observation, &mut draws).unwrap()
            } else {
                let noise = draws.normal_tensor((1, 2)).unwrap();
                sac.act(&observation, Pick::Sample(&noise)).unwrap()
            };
            let action: Vec<f32> = output.action.flatten_all().unwrap().to_vec1().unwrap();
            let distance: f32 = action.iter().zip(goal).map(|(a, g)| (a - g).powi(2)).sum();
            let seen = [0.1, -0.2, 0.3];
            let transition = Transition {
                observation: &seen,
                action: &action,
                reward: 1.0 - distance,
                next_observation: &seen,
                steps: 1,
                end: End::Terminated,
            };
            buffer.push(transition).unwrap();
            if step >= 100 {
                let batch = buffer.sample(&mut draws, 64).unwrap();
                let noise = sac.draw_noise(&mut draws, 64).unwrap();
                assert!(!sac.update(&batch, &noise).unwrap().skipped);
            }
        }
        let best = sac
            .act(&observation, Pick::Mean)
            .unwrap()
            .action
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        for (found, goal) in best.iter().zip(goal) {
            assert!((found - goal).abs() < 0.1, "found {best:?}");
        }
    }

    #[test]
    fn a_policy_equal_to_the_prior_has_no_divergence() {
        let estimates = [
            Estimate::MonteCarlo { samples: 10 },
            Estimate::Analytic,
            Estimate::AnalyticMean,
        ];
        for (estimate, reversed) in estimates
            .into_iter()
            .flat_map(|estimate| [(estimate, false), (estimate, true)])
        {
            let regulariser = Regulariser::PriorDivergence {
                target: Schedule::Constant(5.0),
                estimate,
                clamp: 100.0,
                reversed,
            };
            let sac = learner(SacConfig {
                regulariser,
                ..regularised()
            });
            let mut draws = stream(1, Purpose::Update, 0, 0);
            let batch = replay(16).sample(&mut draws, 16).unwrap();
            let noise = sac.draw_noise(&mut draws, 16).unwrap();
            let metrics = sac.evaluate(&batch, &noise).unwrap().metrics;
            assert!(metrics.penalty.abs() < 1e-6, "{estimate:?}: {}", metrics.penalty);
            assert_eq!(metrics.penalty_target, 5.0);
        }
    }

    /// The moments stand for the samples: the average over them, written out, is the same.
    #[test]
    fn the_sampled_divergence_is_the_average_over_its_samples() {
        let mut draws = stream(2, Purpose::Update, 0, 0);
        let mut gaussian = || DiagGaussian::from_raw(&draws.normal_tensor((7, 6)).unwrap()).unwrap();
        let (p, q) = (gaussian(), gaussian());
        let noise = draws.normal_tensor((10, 7, 3)).unwrap();
        let x = p.sample(&noise).unwrap();
        let written_out = (p.log_prob(&x).unwrap() - q.log_prob(&x).unwrap())
            .unwrap()
            .mean(0)
            .unwrap();
        let moments = NoiseMoments::of(&noise).unwrap();
        let short = sampled_divergence(&p, &q, &moments).unwrap().sum(D::Minus1).unwrap();
        let error = (written_out - short)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(error < 1e-4, "{error}");
    }

    #[test]
    fn squash_none_executes_samples_of_the_prior() {
        let sac = learner(SacConfig {
            squash: Squash::None,
            ..regularised()
        });
        let mut draws = stream(1, Purpose::Policy, 0, 0);
        let (observation, noise) = (
            draws.normal_tensor((4, 3)).unwrap(),
            draws.normal_tensor((4, 2)).unwrap(),
        );
        let action = sac.act(&observation, Pick::Sample(&noise)).unwrap().action;
        let expected = prior(4).forward_frozen(&observation).unwrap().sample(&noise).unwrap();
        assert_eq!(action.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
    }

    #[test]
    fn time_outs_and_lengths_weigh_the_next_value() {
        let batch = replay(3).gather(&[0, 1, 2]).unwrap();
        let discounts = |time_outs, discounting| {
            let config = SacConfig {
                time_outs,
                discounting,
                discount: 0.5,
                ..small()
            };
            learner(config).discounts(&batch).unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(
            discounts(TimeOuts::Bootstrap, Discounting::PerTransition),
            [0.5, 0.0, 0.5]
        );
        assert_eq!(
            discounts(TimeOuts::Terminal, Discounting::PerTransition),
            [0.5, 0.0, 0.0]
        );
        let per_step = discounts(TimeOuts::Bootstrap, Discounting::PerStep);
        assert!((per_step[0] - 0.5_f32.powi(10)).abs() < 1e-8);
    }

    #[test]
    fn numbers_that_are_not_finite_change_nothing_and_end_in_an_error() {
        let mut sac = learner(SacConfig {
            skip_limit: 2,
            ..regularised()
        });
        let mut draws = stream(1, Purpose::Update, 0, 0);
        let noise = sac.draw_noise(&mut draws, 16).unwrap();
        let good = replay(16).sample(&mut draws, 16).unwrap();
        let bad = Batch {
            reward: (&good.reward * f64::NAN).unwrap(),
            ..good.clone()
        };
        let before = (weights(&sac), sac.temperature);
        assert!(sac.update(&bad, &noise).unwrap().skipped);
        assert!(sac.update(&bad, &noise).unwrap().skipped);
        assert_eq!((weights(&sac), sac.temperature), before);
        assert!(!sac.update(&good, &noise).unwrap().skipped);
        assert_ne!(weights(&sac), before.0);
        assert!(sac.update(&bad, &noise).is_ok() && sac.update(&bad, &noise).is_ok());
        assert!(matches!(
            sac.update(&bad, &noise),
            Err(SacError::Diverged { count: 3, .. })
        ));
        assert_eq!((sac.skipped(), sac.updates()), (5, 1));
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let run = |threads| {
            let mut sac = learner(regularised()).with_threads(threads);
            let mut draws = stream(1, Purpose::Update, 0, 0);
            for _ in 0..3 {
                let batch = replay(300).sample(&mut draws, 256).unwrap();
                let noise = sac.draw_noise(&mut draws, 256).unwrap();
                sac.update(&batch, &noise).unwrap();
            }
            weights(&sac)
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn a_restored_learner_goes_on_with_the_same_bits() {
        let buffer = replay(64);
        let mut draws = stream(1, Purpose::Update, 0, 0);
        let mut step = |sac: &mut Sac| {
            let batch = buffer.sample(&mut draws, 16).unwrap();
            let noise = sac.draw_noise(&mut draws, 16).unwrap();
            sac.update(&batch, &noise).unwrap()
        };
        let mut first = learner(regularised());
        for _ in 0..3 {
            step(&mut first);
        }
        let state = first.export().unwrap();
        let mut second = Sac::new(
            regularised(),
            DIMS,
            Some(&prior(4)),
            &mut stream(99, Purpose::Weights, 0, 0),
        )
        .unwrap();
        second.import(&state).unwrap();
        let mut again = stream(1, Purpose::Batches, 0, 0);
        let batch = buffer.sample(&mut again, 16).unwrap();
        let noise = first.draw_noise(&mut again, 16).unwrap();
        assert_eq!(
            first.update(&batch, &noise).unwrap(),
            second.update(&batch, &noise).unwrap()
        );
        assert_eq!(weights(&first), weights(&second));
        assert_eq!((first.updates(), second.updates()), (4, 4));

        let mut broken = state.clone();
        broken.remove("critics.1.head.linear.bias");
        let before = weights(&second);
        assert!(second.import(&broken).is_err());
        assert_eq!(weights(&second), before);
    }

    #[test]
    fn settings_are_checked_and_unknown_fields_refused() {
        let new = |config, prior: Option<&GaussianNetwork>| {
            Sac::new(config, DIMS, prior, &mut stream(0, Purpose::Weights, 0, 0)).map(|_| ())
        };
        let wrong = SacConfig {
            target_rate: 0.0,
            ..small()
        };
        assert!(matches!(
            new(wrong, None),
            Err(SacError::Config {
                field: "target_rate",
                ..
            })
        ));
        assert!(matches!(new(SacConfig::default(), None), Err(SacError::NoPrior(_))));
        assert!(matches!(
            new(regularised(), Some(&prior(6))),
            Err(SacError::PriorSize { .. })
        ));
        assert!(new(small(), None).is_ok());

        let text = "(regulariser: PriorDivergence(target: Constant(1.0)), squash: Tanh(range: 1.0), discount: 0.98)";
        let config: SacConfig = ron::from_str(text).unwrap();
        assert_eq!(config.batch, 256);
        assert!(ron::from_str::<SacConfig>("(discont: 0.98)").is_err());
        assert!(ron::from_str::<SacConfig>("(squash: Tanh(rnge: 1.0))").is_err());
    }

    #[test]
    fn schedules_and_the_temperature_keep_their_limits() {
        let schedule = Schedule::Linear {
            from: 1.0,
            to: 5.0,
            updates: 4,
            delay: 2,
        };
        assert_eq!(
            [0, 2, 3, 6, 99].map(|updates| schedule.at(updates)),
            [1.0, 1.0, 2.0, 5.0, 5.0]
        );
        let setting = Temperature::Learned {
            initial: 1.0,
            lr: 0.1,
            minimum: Some(0.5),
        };
        let mut temperature = LearnedTemperature::new(setting);
        for _ in 0..100 {
            temperature = temperature.stepped(1.0);
        }
        assert!((temperature.value() - 0.5).abs() < 1e-6);
        temperature = temperature.stepped(-1e4);
        assert!(temperature.value() > 0.5, "it comes back at once");
        assert_eq!(
            LearnedTemperature::new(Temperature::Fixed(0.2)).stepped(1.0).value(),
            0.2
        );
    }

    /// `cargo test --no-default-features --lib -- --ignored --nocapture cost_of_one_update`
    #[test]
    #[ignore = "measures time"]
    fn cost_of_one_update() {
        let dims = SacDims {
            observation: 60,
            action: 10,
        };
        let spec = MlpSpec {
            input: 60,
            width: 128,
            output: 20,
            hidden: 6,
            norm: Norm::Batch,
        };
        let mut draws = stream(1, Purpose::Weights, 0, 0);
        let prior = GaussianNetwork::new(Mlp::new(spec, &mut draws).unwrap(), None);
        let mut buffer = ReplayBuffer::new(10_000, 60, 10).unwrap();
        for _ in 0..10_000 {
            let mut values = [0.0; 131];
            draws.fill_normal(&mut values);
            let transition = Transition {
                observation: &values[..60],
                action: &values[60..70],
                reward: values[70],
                next_observation: &values[71..],
                steps: 10,
                end: End::Continues,
            };
            buffer.push(transition).unwrap();
        }
        let mut sac = Sac::new(SacConfig::default(), dims, Some(&prior), &mut draws).unwrap();
        let mut parts = [const { Vec::new() }; 3];
        for _ in 0..300 {
            let start = std::time::Instant::now();
            let batch = buffer.sample(&mut draws, 256).unwrap();
            parts[0].push(start.elapsed());
            let noise = sac.draw_noise(&mut draws, 256).unwrap();
            parts[1].push(start.elapsed());
            sac.update(&batch, &noise).unwrap();
            parts[2].push(start.elapsed());
        }
        let milliseconds = |part: &mut Vec<std::time::Duration>| {
            part.sort_unstable();
            (
                part[part.len() / 10].as_secs_f64() * 1e3,
                part[part.len() / 2].as_secs_f64() * 1e3,
            )
        };
        let names = ["batch", "batch and noise", "batch, noise and update"];
        for (name, part) in names.into_iter().zip(&mut parts) {
            let (fast, median) = milliseconds(part);
            println!("{name}: {median:.2} ms (fastest tenth {fast:.2} ms)");
        }
    }
}
