//! The weight of the penalty, and how it is learned.

use super::config::Temperature;

/// Logarithm of the temperature and its Adam (betas 0.9 and 0.999, epsilon 1e-8), in double precision: one number needs
/// no tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LearnedTemperature {
    pub(super) setting: Temperature,
    pub(super) log_alpha: f64,
    pub(super) first: f64,
    pub(super) second: f64,
    pub(super) steps: u64,
}

impl LearnedTemperature {
    pub(super) fn new(setting: Temperature) -> Self {
        let (Temperature::Learned { initial: start, .. } | Temperature::Fixed(start)) = setting;
        Self {
            setting,
            log_alpha: f64::from(start).ln(),
            first: 0.0,
            second: 0.0,
            steps: 0,
        }
    }

    pub(super) fn value(&self) -> f32 {
        self.log_alpha.exp() as f32
    }

    /// After one step on the loss `alpha (target - g)`, whose derivative by `log alpha` is the loss itself.
    pub(super) fn stepped(self, gradient: f32) -> Self {
        let Temperature::Learned { lr, minimum, .. } = self.setting else {
            return self;
        };
        let gradient = f64::from(gradient);
        let steps = self.steps + 1;
        let power = i32::try_from(steps).unwrap_or(i32::MAX);
        let first = 0.9 * self.first + 0.1 * gradient;
        let second = 0.999 * self.second + 0.001 * gradient * gradient;
        let (bias_1, bias_2) = (1.0 - 0.9_f64.powi(power), 1.0 - 0.999_f64.powi(power));
        let log_alpha = self.log_alpha - lr * (first / bias_1) / ((second / bias_2).sqrt() + 1e-8);
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
