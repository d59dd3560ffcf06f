//! The weight of the penalty, and how it is learned.

use candle_core::{DType, Device, Result, Tensor};

use super::config::Temperature;

/// Logarithm of the temperature and its Adam (betas 0.9 and 0.999, epsilon 1e-8), in double precision and on the device
/// of the networks, where nothing has to be read back to go on.
#[derive(Debug, Clone)]
pub(super) struct LearnedTemperature {
    pub(super) setting: Temperature,
    /// `[]`, as the two moments.
    pub(super) log_alpha: Tensor,
    pub(super) first: Tensor,
    pub(super) second: Tensor,
    pub(super) steps: u64,
}

impl LearnedTemperature {
    pub(super) fn new(setting: Temperature, device: &Device) -> Result<Self> {
        let (Temperature::Learned { initial: start, .. } | Temperature::Fixed(start)) = setting;
        Self::with_state(setting, [f64::from(start).ln(), 0.0, 0.0], 0, device)
    }

    /// With these values of logarithm and moments after `steps` steps.
    pub(super) fn with_state(
        setting: Temperature,
        [log_alpha, first, second]: [f64; 3],
        steps: u64,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            setting,
            log_alpha: Tensor::new(log_alpha, device)?,
            first: Tensor::new(first, device)?,
            second: Tensor::new(second, device)?,
            steps,
        })
    }

    /// Logarithm and moments, read back.
    pub(super) fn state(&self) -> Result<[f64; 3]> {
        Ok([
            self.log_alpha.to_scalar()?,
            self.first.to_scalar()?,
            self.second.to_scalar()?,
        ])
    }

    /// The temperature, `[]` in single precision.
    pub(super) fn value(&self) -> Result<Tensor> {
        self.log_alpha.exp()?.to_dtype(DType::F32)
    }

    /// After one step on the loss `alpha (target - g)`, `[]`, whose derivative by `log alpha` is the loss itself.
    pub(super) fn stepped(&self, gradient: &Tensor) -> Result<Self> {
        let Temperature::Learned { lr, minimum, .. } = self.setting else {
            return Ok(self.clone());
        };
        let gradient = gradient.to_dtype(DType::F64)?;
        let steps = self.steps + 1;
        let power = i32::try_from(steps).unwrap_or(i32::MAX);
        let first = ((&self.first * 0.9)? + (&gradient * 0.1)?)?;
        let second = ((&self.second * 0.999)? + (gradient.sqr()? * 0.001)?)?;
        let (bias_1, bias_2) = (1.0 - 0.9_f64.powi(power), 1.0 - 0.999_f64.powi(power));
        let root = (&second * (1.0 / bias_2))?.sqrt()?;
        let log_alpha = (&self.log_alpha - ((&first * (lr / bias_1))? / (root + 1e-8)?)?)?;
        // Clamped itself, not only where it is used: otherwise it would wind down and take long to come back.
        let log_alpha = match minimum {
            Some(minimum) => log_alpha.maximum(f64::from(minimum).ln())?,
            None => log_alpha,
        };
        Ok(Self {
            setting: self.setting,
            log_alpha,
            first,
            second,
            steps,
        })
    }

    /// This one where `sound`, a condition `[]`, is 0, else `next`.
    pub(super) fn or(&self, next: Self, sound: &Tensor) -> Result<Self> {
        Ok(Self {
            log_alpha: sound.where_cond(&next.log_alpha, &self.log_alpha)?,
            first: sound.where_cond(&next.first, &self.first)?,
            second: sound.where_cond(&next.second, &self.second)?,
            ..next
        })
    }
}
