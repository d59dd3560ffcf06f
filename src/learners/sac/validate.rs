//! Checks of the settings.

use super::{Estimate, PolicyStart, Regulariser, SacConfig, SacError, Schedule, Squash, Temperature};

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
        if let Squash::Tanh { range, .. } | Squash::Clip { range } = self.squash {
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
}
