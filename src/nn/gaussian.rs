//! Diagonal Gaussians.

use std::f64::consts::PI;

use candle_core::{D, Result, Tensor, bail};

/// Lower limit of every log standard deviation.
const LOG_SIGMA_MIN: f32 = -10.0;
/// Upper limit of every log standard deviation.
const LOG_SIGMA_MAX: f32 = 2.0;

/// Batch of Gaussians with diagonal covariance; both tensors `[.., d]`.
#[derive(Debug, Clone)]
pub struct DiagGaussian {
    /// Means.
    pub mu: Tensor,
    /// Log standard deviations.
    pub log_sigma: Tensor,
}

impl DiagGaussian {
    /// From a network output `raw [.., 2 d] = [mu | log sigma]`; the log standard deviation is clamped to [-10, 2].
    pub fn from_raw(raw: &Tensor) -> Result<Self> {
        let width = raw.dim(D::Minus1)?;
        if !width.is_multiple_of(2) {
            bail!("means and log standard deviations need an even number of outputs, got {width}");
        }
        let mu = raw.narrow(D::Minus1, 0, width / 2)?;
        let log_sigma = raw.narrow(D::Minus1, width / 2, width / 2)?;
        Ok(Self {
            mu,
            log_sigma: clamp_log_sigma(&log_sigma)?,
        })
    }

    /// Standard deviations.
    pub fn sigma(&self) -> Result<Tensor> {
        self.log_sigma.exp()
    }

    /// `mu + sigma * noise`, re-parameterised: gradients reach the parameters. `noise` broadcasts from the left, so
    /// `[n, B, d]` gives n samples.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        noise.broadcast_mul(&self.sigma()?)?.broadcast_add(&self.mu)
    }

    /// Log-density at `x [.., d]`, summed over the last axis. `x` may have further axes on the left.
    pub fn log_prob(&self, x: &Tensor) -> Result<Tensor> {
        self.log_prob_per_dim(x)?.sum(D::Minus1)
    }

    /// Log-density of each coordinate.
    pub fn log_prob_per_dim(&self, x: &Tensor) -> Result<Tensor> {
        let standard = x
            .broadcast_sub(&self.mu)?
            .broadcast_mul(&self.log_sigma.neg()?.exp()?)?;
        standard
            .sqr()?
            .affine(-0.5, -0.5 * (2.0 * PI).ln())?
            .broadcast_sub(&self.log_sigma)
    }

    /// KL(self || other) of each coordinate.
    pub fn kl(&self, other: &Self) -> Result<Tensor> {
        let log_ratio = (&other.log_sigma - &self.log_sigma)?;
        let distance = ((&self.mu - &other.mu)? * other.log_sigma.neg()?.exp()?)?.sqr()?;
        let variance_ratio = (&log_ratio * -2.0)?.exp()?;
        log_ratio + (variance_ratio + distance)?.affine(0.5, -0.5)?
    }

    /// KL(self || N(0, 1)) of each coordinate.
    pub fn kl_unit(&self) -> Result<Tensor> {
        let second_moment = ((&self.log_sigma * 2.0)?.exp()? + self.mu.sqr()?)?;
        second_moment.affine(0.5, -0.5)? - &self.log_sigma
    }

    /// Differential entropy of each coordinate.
    pub fn entropy(&self) -> Result<Tensor> {
        &self.log_sigma + 0.5 * (1.0 + (2.0 * PI).ln())
    }

    /// The same distribution without gradients.
    pub fn detach(&self) -> Self {
        Self {
            mu: self.mu.detach(),
            log_sigma: self.log_sigma.detach(),
        }
    }
}

/// Clamps log standard deviations to [-10, 2]; the gradient passes strictly inside the limits only (the golden numbers
/// of the original say so; candle's own clamp would halve it at a limit).
pub(super) fn clamp_log_sigma(x: &Tensor) -> Result<Tensor> {
    let inside = (x.gt(LOG_SIGMA_MIN)? * x.lt(LOG_SIGMA_MAX)?)?;
    let limited = x.detach().clamp(LOG_SIGMA_MIN, LOG_SIGMA_MAX)?;
    inside.where_cond(x, &limited)
}
