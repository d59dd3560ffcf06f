//! Settings of the learner and their checks.

use serde::{Deserialize, Serialize};

use super::SacError;
use crate::experiment::MOST_IN_A_BATCH;
use crate::nn::Norm;

/// Settings of [`Sac`](super::Sac). The defaults are the published ones for `SPiRL` on the kitchen, except where a
/// switch says that the original differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SacConfig {
    /// What the policy pays for. Default: divergence from the prior with target 5 nats.
    pub regulariser: Regulariser,
    /// Where the policy's weights come from. Default: a copy of the prior.
    pub policy: PolicyStart,
    /// Both critics and their targets. Default: 5 hidden layers of 256 without normalisation.
    pub critic: CriticConfig,
    /// How critics see the numbers of an observation, and a policy from scratch where no prior says how it sees them.
    /// Default: as they are, as published. Metres that go up to 40 drown skills of size 1 beside them, and walls among
    /// them.
    pub standardise: Option<Standardise>,
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
            standardise: None,
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
        /// The divergence of a state is clamped to plus or minus this many nats; beyond, it has no gradient. Default
        /// 100.
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
    /// Normalisation of those hidden layers: `None` (default, as published) or `Layer`, which bounds what a critic can
    /// claim about actions it has never seen (Ball, Smith, Kostrikov, Levine, "Efficient Online Reinforcement Learning
    /// with Offline Data", 2023, arXiv 2302.02948, section 4.2).
    pub norm: Norm,
}

impl Default for CriticConfig {
    fn default() -> Self {
        Self {
            width: 256,
            hidden: 5,
            norm: Norm::None,
        }
    }
}

/// `u = (value - mean) / deviation`, with one number of each list for each number of an observation, or one for all.
///
/// Critics are smooth: what they learn of a place holds for its neighbours, also behind a wall. With `frequencies: K` they
/// also see `sin(2^k pi u)` and `cos(2^k pi u)` of every number for `k` in `0..K`, with which they tell places `deviation /
/// 2^K` apart (Yang, Ajay, Agrawal, "Overcoming the Spectral Bias of Neural Value Approximation", 2022, arXiv 2206.04672).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardise {
    /// Middle of the values, in their own unit.
    pub mean: Vec<f32>,
    /// How far they go to both sides of it, in their own unit.
    pub deviation: Vec<f32>,
    /// How many frequencies critics see besides. Default 0.
    #[serde(default)]
    pub frequencies: usize,
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
    /// The sample itself, cut off at plus and minus `range`: a policy equal to the prior draws true skills of the
    /// prior. The critics have no say beyond the range, so only the penalty moves the policy there.
    Clip {
        /// Largest absolute value of an action; at least 4 for skills, whose prior is about as wide as a unit Gaussian.
        range: f32,
    },
    /// The sample itself. Nothing keeps the policy from where the critics have never seen an action; with a learned
    /// prior of small variance it can run away.
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
    /// `gamma` to the power of the transition's control steps. Not quite the return of a semi-Markov decision process:
    /// the rewards within a transition are summed without a discount, as in MLSP.
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
    /// Whether a learner with these settings stands on a prior.
    pub fn needs_prior(&self) -> bool {
        self.policy == PolicyStart::Prior || matches!(self.regulariser, Regulariser::PriorDivergence { .. })
    }

    /// Normal numbers per state that the divergence estimate draws.
    pub(super) fn divergence_samples(&self) -> usize {
        match self.regulariser {
            Regulariser::PriorDivergence {
                estimate: Estimate::MonteCarlo { samples },
                ..
            } => samples,
            _ => 0,
        }
    }

    /// Checks every number for itself.
    ///
    /// # Errors
    /// Names the first field that cannot be used, and why.
    pub fn validate(&self) -> Result<(), SacError> {
        match self.problems().into_iter().next() {
            Some((field, rule)) => Err(SacError::Config { field, rule }),
            None => Ok(()),
        }
    }

    /// Every field that cannot be used, by its path, and what it must be.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        let mut check = |good: bool, field: &'static str, rule: &'static str| {
            if !good {
                found.push((field, rule));
            }
        };
        let positive = |value: f32| value > 0.0 && value.is_finite();
        let step_size = |value: f64| value > 0.0 && value.is_finite();
        match &self.regulariser {
            Regulariser::Entropy { target } => {
                check(target.is_none_or(f32::is_finite), "regulariser.target", "finite");
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
                check(finite, "regulariser.target", "finite");
                check(positive(*clamp), "regulariser.clamp", "above zero");
                let samples = !matches!(estimate, Estimate::MonteCarlo { samples: 0 });
                check(samples, "regulariser.estimate.samples", "at least 1");
            }
        }
        if let PolicyStart::Scratch { width, .. } = self.policy {
            check(width > 0, "policy.width", "at least 1");
        }
        if let Squash::Tanh { range, .. } | Squash::Clip { range } = self.squash {
            check(positive(range), "squash.range", "above zero");
        }
        match self.temperature {
            Temperature::Learned { initial, lr, minimum } => {
                check(positive(initial), "temperature.initial", "above zero");
                check(step_size(lr), "temperature.lr", "above zero");
                check(minimum.is_none_or(positive), "temperature.minimum", "above zero");
            }
            Temperature::Fixed(value) => check(value >= 0.0 && value.is_finite(), "temperature", "zero or above"),
        }
        check(self.critic.width > 0, "critic.width", "at least 1");
        check(self.critic.norm != Norm::Batch, "critic.norm", "None or Layer");
        if let Some(Standardise {
            mean,
            deviation,
            frequencies,
        }) = &self.standardise
        {
            check(*frequencies <= 16, "standardise.frequencies", "at most 16");
            check(mean.iter().all(|mean| mean.is_finite()), "standardise.mean", "finite");
            let positive = deviation.iter().all(|deviation| positive(*deviation));
            check(positive, "standardise.deviation", "above zero");
        }
        check(self.batch > 0, "batch", "at least 1");
        check(
            self.batch <= MOST_IN_A_BATCH,
            "batch",
            "at most 1048576: a batch is in memory as a whole",
        );
        check((0.0..=1.0).contains(&self.discount), "discount", "between 0 and 1");
        check(
            self.target_rate > 0.0 && self.target_rate <= 1.0,
            "target_rate",
            "above 0, at most 1",
        );
        check(self.reward_scale.is_finite(), "reward_scale", "finite");
        check(step_size(self.policy_lr), "policy_lr", "above zero");
        check(step_size(self.critic_lr), "critic_lr", "above zero");
        check(self.gradient_clip.is_none_or(positive), "gradient_clip", "above zero");
        check(self.target_clip.is_none_or(positive), "target_clip", "above zero");
        found
    }
}
