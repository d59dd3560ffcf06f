//! What trainable models share: weights and training state by name, the optimiser with its clip, checks of settings.

use std::collections::BTreeMap;
use std::fmt::Display;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Result, SkillError, Standardiser};
use crate::nn::{ImportError, Norm, Optimiser, OptimiserConfig, Params};

const UPDATES: &str = "updates";
const OPTIMISER: &str = "optimiser.";

/// Drops the second name of every decoder tensor, or takes it where the first one is missing.
pub(super) fn one_name_each(from: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let mut out = from.clone();
    for (name, tensor) in from {
        if let Some(rest) = name.strip_prefix("decoder.lstm.cell.") {
            out.remove(name);
            out.entry(format!("decoder.cell.{rest}"))
                .or_insert_with(|| tensor.clone());
        }
    }
    out
}

/// Imports several networks, each with its prefix, or none.
pub(super) fn import_all(parts: &[(String, &Params)], from: &BTreeMap<String, Tensor>) -> Result<()> {
    let networks: Vec<_> = parts
        .iter()
        .map(|(prefix, params)| (prefix.clone(), (*params).clone()))
        .collect();
    Params::import_all(&networks, from).map_err(|error| match error {
        ImportError::Tensor(error) => error.into(),
        ImportError::Mismatch(found) => SkillError::Weights(found.iter().map(ToString::to_string).collect()),
    })
}

/// Weights and running statistics of several networks, each with its prefix, and the standardisation.
pub(super) fn export_all(
    parts: &[(String, &Params)],
    standardiser: Option<&Standardiser>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut out = BTreeMap::new();
    for (prefix, params) in parts {
        params.export(prefix, &mut out)?;
    }
    Standardiser::export(standardiser, &mut out)?;
    Ok(out)
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

/// The training half of a model: its optimiser, the clip of the first updates, and how many were made.
pub(super) struct Stepper {
    optimiser: Optimiser,
    learning_rate: f64,
    early_clip: Option<EarlyClip>,
    updates: u64,
}

impl Stepper {
    /// Zero moments for `trained`.
    ///
    /// # Errors
    /// A setting that cannot be used, by its name in the settings of the model.
    pub(super) fn new(config: OptimiserConfig, early_clip: Option<EarlyClip>, trained: Vec<Params>) -> Result<Self> {
        check_optimiser(&config, early_clip)?;
        Ok(Self {
            optimiser: Optimiser::new(config, trained),
            learning_rate: config.lr,
            early_clip,
            updates: 0,
        })
    }

    /// Steps taken so far.
    pub(super) fn updates(&self) -> u64 {
        self.updates
    }

    /// Steps to come use `scale` times the learning rate of the settings.
    pub(super) fn scale_learning_rate(&mut self, scale: f64) {
        self.optimiser.set_lr(self.learning_rate * scale);
    }

    /// Global norm of the gradients, before clipping, `[]`.
    pub(super) fn gradient_norm(&self, gradients: &GradStore) -> Result<Tensor> {
        Ok(self.optimiser.gradient_norm(gradients)?)
    }

    /// One step with gradients of the global norm `norm`; with `sound`, a condition `[]`, nothing moves where that is 0.
    pub(super) fn step(&mut self, gradients: &GradStore, norm: &Tensor, sound: Option<&Tensor>) -> Result<()> {
        let clip = self
            .early_clip
            .filter(|clip| self.updates < clip.updates)
            .map(|clip| clip.norm);
        self.optimiser.step_with_norm(gradients, clip, norm, sound)?;
        self.updates += 1;
        Ok(())
    }

    /// Moments and the number of updates by name.
    pub(super) fn export(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        export_moments(OPTIMISER, &self.optimiser, &mut out)?;
        let updates = Tensor::from_vec(vec![self.updates as i64], (), &Device::Cpu)?;
        out.insert(UPDATES.into(), updates);
        Ok(out)
    }

    /// Takes what [`Stepper::export`] gave.
    ///
    /// # Errors
    /// A tensor is missing or does not fit; nothing has changed then.
    pub(super) fn import(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        let problem = |text: String| SkillError::Weights(vec![text]);
        let Some(updates) = from.get(UPDATES) else {
            return Err(problem(format!(
                "no tensor `{UPDATES}`: this is not the training state of a model"
            )));
        };
        let updates = updates.to_dtype(DType::I64)?.to_scalar::<i64>()?;
        let updates = u64::try_from(updates).map_err(|_| problem(format!("`{UPDATES}` is {updates}")))?;
        import_moments(OPTIMISER, &mut self.optimiser, from)?;
        self.updates = updates;
        Ok(())
    }
}

/// Adds the moments of an optimiser to `out`, under `prefix`.
pub(super) fn export_moments(prefix: &str, optimiser: &Optimiser, out: &mut BTreeMap<String, Tensor>) -> Result<()> {
    for (name, tensor) in optimiser.export()? {
        out.insert(format!("{prefix}{name}"), tensor);
    }
    Ok(())
}

/// Takes what [`export_moments`] gave.
pub(super) fn import_moments(prefix: &str, optimiser: &mut Optimiser, from: &BTreeMap<String, Tensor>) -> Result<()> {
    let own = from
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.into(), tensor.clone())));
    Ok(optimiser.import(&own.collect())?)
}

/// Whether an optimiser can work with these numbers.
fn check_optimiser(config: &OptimiserConfig, early_clip: Option<EarlyClip>) -> Result<()> {
    optimiser_problems(config, early_clip)
        .into_iter()
        .next()
        .map_or(Ok(()), Err)
}

/// Every number that an optimiser cannot work with.
pub(super) fn optimiser_problems(config: &OptimiserConfig, early_clip: Option<EarlyClip>) -> Vec<SkillError> {
    let OptimiserConfig {
        lr,
        betas: (first, second),
        eps,
        ..
    } = *config;
    let beta = |beta: f64| check_number("betas", beta, (0.0..1.0).contains(&beta), "at least 0 and below 1");
    let checks = [
        check_positive("learning_rate", lr),
        beta(first).and_then(|()| beta(second)),
        check_positive("epsilon", eps),
        early_clip.map_or(Ok(()), |clip| check_positive("early_clip.norm", clip.norm)),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

/// Refuses a number that is not finite or not above zero.
pub(super) fn check_positive<T: Copy + Display + Into<f64>>(field: &str, value: T) -> Result<()> {
    let good = value.into().is_finite() && value.into() > 0.0;
    check_number(field, value, good, "finite and above 0")
}

/// Refuses the weight of a loss that is not finite or below zero.
pub(super) fn check_weight(field: &str, value: f32) -> Result<()> {
    let good = value.is_finite() && value >= 0.0;
    check_number(field, value, good, "finite and at least 0")
}

/// Refuses settings of a model that sees pictures which its encoders do not have.
pub(super) fn check_pictures(norm: Norm, standardise: bool) -> Result<()> {
    if norm != Norm::Batch {
        return Err(SkillError::Config(format!(
            "`norm` must be Batch for a model that sees pictures, not {norm:?}"
        )));
    }
    if standardise {
        return Err(SkillError::Config(
            "`standardise` is for models that see numbers, and this one sees pictures".into(),
        ));
    }
    Ok(())
}

/// Says which number was found where another one is needed.
pub(super) fn check_number(field: &str, value: impl Display, good: bool, rule: &str) -> Result<()> {
    if good {
        return Ok(());
    }
    Err(SkillError::Config(format!("`{field}` must be {rule}, not {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a setting that one change to good ones made, if anything.
    fn complaint(change: impl FnOnce(&mut OptimiserConfig, &mut EarlyClip)) -> Option<String> {
        let (mut config, mut clip) = (OptimiserConfig::radam(1e-3), EarlyClip::default());
        change(&mut config, &mut clip);
        let stepper = Stepper::new(config, Some(clip), Vec::new());
        stepper.err().map(|error| error.to_string())
    }

    #[test]
    fn numbers_no_optimiser_can_use_are_named() {
        assert_eq!(complaint(|_, _| ()), None);
        assert_eq!(complaint(|config, _| config.betas = (0.0, 0.0)), None);
        for lr in [0.0, -1e-3, f64::NAN, f64::INFINITY] {
            let expected = format!("`learning_rate` must be finite and above 0, not {lr}");
            assert_eq!(complaint(|config, _| config.lr = lr), Some(expected));
        }
        for beta in [1.0, -0.1, f64::NAN] {
            let expected = format!("`betas` must be at least 0 and below 1, not {beta}");
            assert_eq!(complaint(|config, _| config.betas.0 = beta), Some(expected.clone()));
            assert_eq!(complaint(|config, _| config.betas.1 = beta), Some(expected));
        }
        let expected = "`epsilon` must be finite and above 0, not 0";
        assert_eq!(complaint(|config, _| config.eps = 0.0).as_deref(), Some(expected));
        let expected = "`early_clip.norm` must be finite and above 0, not -0.001";
        assert_eq!(complaint(|_, clip| clip.norm = -1e-3).as_deref(), Some(expected));
    }

    #[test]
    fn weights_of_losses_may_be_zero_but_not_below() {
        assert!(check_weight("kl_weight", 0.0).is_ok());
        for weight in [-1e-3, f32::NAN, f32::INFINITY] {
            let message = check_weight("kl_weight", weight).err().map(|error| error.to_string());
            assert!(message.is_some_and(|text| text.starts_with("`kl_weight` must be finite and at least 0, not ")));
        }
    }
}
