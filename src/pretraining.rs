//! Pre-training: skill models learn from demonstrations before anybody practises.
//!
//! The world holds one trainer entity per model; one [`Tick`] is one gradient update of each. Batches and noise come
//! from the model's own streams, so a run repeats bit for bit.

use std::collections::BTreeMap;

use bevy::ecs::batching::BatchingStrategy;
use bevy::prelude::*;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::WindowSampler;
use crate::experiment::PretrainingConfig;
use crate::nn::Compute;
use crate::rng::{Purpose, Stream, stream};
use crate::skills::{GaussianNetwork, Sees, SkillError, SkillModel};
use crate::tick::{Faults, Tick, TickSystems};
use crate::watchdog::{Work, busy};

/// Updates in a row that may be skipped because of numbers that are not finite.
const SKIP_LIMIT: u32 = 20;

/// Of so many updates on another processor, the numbers of one are read back: metrics are means of these.
const READ_EVERY: u64 = 20;

/// Named numbers of one update or validation, for metrics.
pub type Numbers = Vec<(&'static str, f32)>;

/// A model that learns from windows of demonstrations. Each skill model implements it in its own file.
pub trait Pretrain: Send + Sync {
    /// States or frames in a window; the actions are one fewer.
    fn window(&self) -> usize;

    /// What the model looks at. Where it is pictures, every `states` below holds frames in their place,
    /// `[B, frames, 3, size, size]` with values in -1 to 1; the model stacks neighbours itself.
    fn sees(&self) -> Sees {
        Sees::Numbers
    }

    /// Of how many steps at the beginning of a window the model looks at pictures, if it does at all. Default: all of
    /// them.
    fn frames(&self) -> usize {
        self.window()
    }

    /// One gradient update from states `[B, window, S]` and actions `[B, window - 1, A]`, with `lr_scale` times the
    /// configured learning rate.
    fn train(
        &mut self,
        states: Tensor,
        actions: Tensor,
        noise: &mut Stream,
        lr_scale: f64,
    ) -> Result<Numbers, SkillError>;

    /// As [`train`](Self::train), without reading anything back if that takes time. An update with numbers that are not
    /// finite changes nothing then either, and nobody hears of it.
    fn train_unread(
        &mut self,
        states: Tensor,
        actions: Tensor,
        noise: &mut Stream,
        lr_scale: f64,
    ) -> Result<(), SkillError>;

    /// Whether the numbers of an update are at hand when it is done; else to read them is to wait for another processor.
    fn reads_at_once(&self) -> bool;

    /// The same model, computed in another way or elsewhere. For models before their first update; states and actions
    /// may be anywhere.
    ///
    /// # Errors
    /// Not enough memory there.
    fn computed_by(self: Box<Self>, compute: &Compute) -> Result<Box<dyn Pretrain>, SkillError>;

    /// Losses on held-out windows, in evaluation mode.
    fn validate(&mut self, states: Tensor, actions: Tensor, noise: &mut Stream) -> Result<Numbers, SkillError>;

    /// Weights and running statistics under their original names, and the standardisation.
    fn export(&self) -> Result<BTreeMap<String, Tensor>, SkillError>;

    /// Takes weights and running statistics by their original names; further tensors are ignored.
    ///
    /// # Errors
    /// Names every tensor that is missing or has another shape; nothing has changed then.
    fn import(&mut self, from: &BTreeMap<String, Tensor>) -> Result<(), SkillError>;

    /// The rest of the training state, for resuming: moments of the optimisers, number of updates.
    fn export_optimiser(&self) -> Result<BTreeMap<String, Tensor>, SkillError>;

    /// Takes what [`export_optimiser`](Self::export_optimiser) gave.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    fn import_optimiser(&mut self, from: &BTreeMap<String, Tensor>) -> Result<(), SkillError>;

    /// Most likely skills `[B, nz]` of windows, for pictures of the latent space; `None` for models without one.
    fn embed(&self, states: Tensor, actions: Tensor) -> Result<Option<Tensor>, SkillError>;

    /// A copy, for the CPU, of the network that starts policies or is kept as their prior: the skill prior, or the
    /// cloned policy.
    ///
    /// # Errors
    /// The prior is not Gaussian.
    fn policy_prior(&self) -> Result<GaussianNetwork, SkillError>;

    /// The decoder that turns skills into actions; `None` for models of single actions.
    fn into_skills(self: Box<Self>) -> Option<std::sync::Arc<dyn SkillModel>>;
}

/// A skill model in training.
#[derive(Component)]
pub struct Trainer(pub Box<dyn Pretrain>);

/// Where the batches of a trainer come from.
#[derive(Component)]
pub struct Batches {
    /// Windows of the training sequences.
    pub training: WindowSampler,
    /// Windows of the held-out sequences; `None` if there are none long enough.
    pub validation: Option<WindowSampler>,
}

/// Progress and random streams of a trainer; goes into checkpoints.
#[derive(Component, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerProgress {
    /// Gradient updates, those that were skipped included.
    pub updates: u64,
    /// [Checksum](crate::data::Dataset::checksum) of the demonstrations; `None` for models from elsewhere, and in
    /// checkpoints of versions that did not keep it.
    #[serde(default)]
    pub demonstrations: Option<u32>,
    batches: Stream,
    noise: Stream,
    validation: Stream,
}

impl TrainerProgress {
    /// The start of training with this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            updates: 0,
            demonstrations: None,
            batches: stream(seed, Purpose::Batches, 0, 0),
            noise: stream(seed, Purpose::LatentNoise, 0, 0),
            validation: stream(seed, Purpose::Batches, 1, 0),
        }
    }
}

/// Settings of a trainer.
#[derive(Component, Debug, Clone, PartialEq)]
pub struct TrainerSettings(pub PretrainingConfig);

/// Sums of the numbers since the last report.
#[derive(Component, Debug, Clone, Default, PartialEq)]
pub struct Averages {
    sums: BTreeMap<&'static str, (f64, u32)>,
    skipped_in_row: u32,
    /// The newest validation, until it is reported.
    pub validation: Option<Numbers>,
}

impl Averages {
    /// Adds the numbers of an update; of a skipped one only that it was skipped.
    fn add(&mut self, numbers: Numbers) {
        let skipped = numbers.iter().any(|(name, value)| *name == "skipped" && *value > 0.0);
        self.skipped_in_row = if skipped { self.skipped_in_row + 1 } else { 0 };
        for (name, value) in numbers.into_iter().filter(|(name, _)| !skipped || *name == "skipped") {
            let (sum, count) = self.sums.entry(name).or_default();
            *sum += f64::from(value);
            *count += 1;
        }
    }

    /// The mean of every number since the last call.
    pub fn take(&mut self) -> Vec<(&'static str, f64)> {
        std::mem::take(&mut self.sums)
            .into_iter()
            .map(|(name, (sum, count))| (name, sum / f64::from(count.max(1))))
            .collect()
    }
}

/// Gradient updates of skill models.
pub struct PretrainingPlugin;

impl Plugin for PretrainingPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(
            Tick,
            (train.in_set(TickSystems::Learn), validate.in_set(TickSystems::Evaluate)),
        );
    }
}

#[derive(Debug, thiserror::Error)]
enum TrainError {
    #[error(transparent)]
    Model(#[from] SkillError),
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

type Training<'a> = (
    &'a mut Trainer,
    &'a mut Batches,
    &'a mut TrainerProgress,
    &'a mut Averages,
    &'a TrainerSettings,
);

/// One gradient update of every trainer.
pub fn train(mut trainers: Query<Training>, faults: Res<Faults>) {
    trainers
        .par_iter_mut()
        .batching_strategy(BatchingStrategy::fixed(1))
        .for_each(|(mut trainer, mut batches, mut progress, mut averages, settings)| {
            let step = || -> Result<Option<Numbers>, TrainError> {
                let progress = &mut *progress;
                let (states, actions) = (batches.training)
                    .sample_windows(settings.0.batch, &mut progress.batches, &Device::Cpu)?
                    .seen();
                let scale = settings.0.lr_scale(progress.updates);
                let (model, noise) = (&mut trainer.0, &mut progress.noise);
                let numbers = if model.reads_at_once() || (progress.updates + 1).is_multiple_of(READ_EVERY) {
                    Some(model.train(states, actions, noise, scale)?)
                } else {
                    model.train_unread(states, actions, noise, scale)?;
                    None
                };
                progress.updates += 1;
                Ok(numbers)
            };
            match busy(Work::SkillModel(0), step) {
                Ok(None) => {}
                Ok(Some(numbers)) => {
                    averages.add(numbers);
                    if averages.skipped_in_row > SKIP_LIMIT {
                        faults.report(format!(
                            "skill model: {} updates in a row were skipped because of numbers that are not finite",
                            averages.skipped_in_row
                        ));
                    }
                }
                Err(error) => faults.report(format!("skill model: {error}")),
            }
        });
}

/// Held-out losses of every trainer whose validation is due.
pub fn validate(mut trainers: Query<Training>, faults: Res<Faults>) {
    for (mut trainer, mut batches, mut progress, mut averages, settings) in &mut trainers {
        let config = &settings.0;
        let at_interval = progress.updates.is_multiple_of(config.validate_every);
        let due = config.validate_every > 0 && (at_interval || progress.updates == config.updates);
        let Some(windows) = batches.validation.as_mut().filter(|_| due) else {
            continue;
        };
        let mut step = || -> Result<Numbers, TrainError> {
            let progress = &mut *progress;
            let batch = windows.sample_windows(config.batch, &mut progress.validation, &Device::Cpu)?;
            let (states, actions) = batch.seen();
            Ok(trainer.0.validate(states, actions, &mut progress.validation)?)
        };
        match step() {
            Ok(numbers) => averages.validation = Some(numbers),
            Err(error) => faults.report(format!("skill model, validation: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_updates_are_counted_apart() {
        let mut averages = Averages::default();
        let update = |loss: f32| vec![("total", loss), ("skipped", f32::from(u8::from(!loss.is_finite())))];
        for loss in [2.0, f32::NAN, f32::NAN, 4.0] {
            averages.add(update(loss));
        }
        assert_eq!(averages.skipped_in_row, 0);
        assert_eq!(averages.take(), [("skipped", 0.5), ("total", 3.0)]);
        for _ in 0..=SKIP_LIMIT {
            averages.add(update(f32::INFINITY));
        }
        assert!(averages.skipped_in_row > SKIP_LIMIT);
        assert_eq!(averages.take(), [("skipped", 1.0)]);
    }
}
