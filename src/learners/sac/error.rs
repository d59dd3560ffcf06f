//! Errors of the learner.

use crate::nn::ImportError;
use crate::replay::ReplayError;
use crate::skills::SkillError;

/// What can go wrong in the learner.
#[derive(Debug, thiserror::Error)]
pub enum SacError {
    /// A setting that cannot be used.
    #[error("{field} must be {rule}")]
    Config {
        /// Its path in [`SacConfig`](super::SacConfig).
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
    /// The standardisation is for other observations.
    #[error("standardise has {found} means or deviations, an observation has {expected} numbers (one stands for all)")]
    StandardiseSize {
        /// Numbers it has means or deviations for.
        found: usize,
        /// Numbers of an observation.
        expected: usize,
    },
    /// Policy or prior see pictures and a batch has none.
    #[error("the policy or its prior sees pictures, and the transitions have none")]
    NoPictures,
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
    /// The replay buffer whose transitions the prior is asked about.
    #[error("replay buffer: {0}")]
    Replay(#[from] ReplayError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
