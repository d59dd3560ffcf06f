//! Trains a skill model from demonstrations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bevy::prelude::*;

use super::latent::draw_latent_space;
use super::skills::{SavedModel, SkillFolder};
use super::{RunError, RunFolder, Settings};
use crate::app::{self, Ended};
use crate::data::{Dataset, WindowConfig, WindowSampler};
use crate::experiment::Experiment;
use crate::metrics::{Figure, MetricsWriter, Progress};
use crate::pretraining::{Averages, Batches, PretrainingPlugin, Trainer, TrainerProgress, TrainerSettings};
use crate::rng::{Purpose, stream};
use crate::skills::{SkillDims, Standardiser};

/// Updates between two lines of metrics.
const REPORT_EVERY: u64 = 500;
/// Updates between two checkpoints.
const CHECKPOINT_EVERY: u64 = 10_000;

/// Trains the experiment's skill model in `folder`, or goes on with it, until its updates are made.
pub fn pretrain(
    experiment: &Experiment,
    dataset: &Arc<Dataset>,
    folder: &RunFolder,
    settings: &Settings,
) -> Result<Ended, RunError> {
    let config = &experiment.pretraining;
    let saved = SavedModel {
        model: experiment.skill_model.clone(),
        observation: dataset.observation_dim(),
        action: dataset.action_dim(),
    };
    let split = config.split.apply(dataset.sequences().len())?;
    let ranges = |numbers: &[usize]| -> Vec<_> {
        numbers
            .iter()
            .filter_map(|&number| dataset.sequences().get(number).cloned())
            .collect()
    };
    let (training, validation) = (ranges(&split.train), ranges(&split.validation));

    let statistics = || {
        let columns = dataset.observation_statistics(&training);
        let mean: Vec<f32> = columns.iter().map(|column| column.mean as f32).collect();
        let deviation: Vec<f32> = columns.iter().map(|column| column.std as f32).collect();
        Standardiser::new(&mean, &deviation)
    };
    let mut rng = stream(config.seed, Purpose::Weights, 0, 0);
    let dims = SkillDims {
        state: saved.observation,
        action: saved.action,
    };
    let Some(mut model) = saved.model.build(dims, statistics, &mut rng, settings.threads)? else {
        return Err(RunError::Experiment(
            "this experiment has no skill model to train (skill_model: None)".into(),
        ));
    };
    let windows = |sequences| WindowSampler::new(dataset.clone(), sequences, WindowConfig::new(model.window()));
    let batches = Batches {
        training: windows(training)?,
        validation: windows(validation).ok(),
    };

    let root = folder.skills();
    let (skills, mut progress, mut metrics) = match SkillFolder::open(&root) {
        Ok((skills, before)) if before == saved => match skills.latest()? {
            Some(checkpoint) => {
                model.restore(checkpoint.file("weights")?, Some(checkpoint.file("optimiser")?))?;
                let metrics = MetricsWriter::resume(&root, checkpoint.step)?;
                (skills, checkpoint.state, metrics)
            }
            None => (skills, TrainerProgress::new(config.seed), MetricsWriter::create(&root)?),
        },
        Ok(_) => {
            return Err(RunError::Experiment(format!(
                "{}: holds a skill model with other settings; choose another folder (--out)",
                root.display()
            )));
        }
        Err(_) => {
            let skills = SkillFolder::create(&root, &saved)?;
            (skills, TrainerProgress::new(config.seed), MetricsWriter::create(&root)?)
        }
    };
    if progress.updates >= config.updates {
        return Ok(Ended::Finished);
    }

    let mut app = app::headless(settings.threads, settings.stop.clone());
    app.add_plugins(PretrainingPlugin);
    let trainer = app
        .world_mut()
        .spawn((
            Trainer(model),
            batches,
            progress.clone(),
            Averages::default(),
            TrainerSettings(config.clone()),
        ))
        .id();

    let mut bars = Progress::default();
    let bar = bars.add("skill model", progress.updates, config.updates, "updates");
    let start = Instant::now();
    let first = progress.updates;
    let mut failure = None;
    let ended = app::run(&mut app, |world| {
        let mut step = || -> Result<bool, RunError> {
            progress = world
                .get::<TrainerProgress>(trainer)
                .cloned()
                .unwrap_or_else(|| progress.clone());
            let updates = progress.updates;
            let finished = updates >= config.updates;
            if let Some(mut averages) = world.get_mut::<Averages>(trainer) {
                report(&mut metrics, &mut averages, updates, finished)?;
            }
            if updates.is_multiple_of(100) || finished {
                let rate = (updates - first) as f64 / start.elapsed().as_secs_f64().max(1e-9);
                bars.update(
                    bar,
                    updates,
                    &[Figure {
                        name: "updates/s",
                        value: rate,
                    }],
                );
            }
            if updates > first && (updates.is_multiple_of(CHECKPOINT_EVERY) || finished) {
                save(world, trainer, &skills)?;
                metrics.sync()?;
            }
            Ok(finished)
        };
        match step() {
            Ok(finished) => finished,
            Err(error) => {
                failure = Some(error);
                true
            }
        }
    })
    .map_err(RunError::Tick)?;
    bars.finish();
    if let Some(error) = failure {
        return Err(error);
    }
    if ended == Ended::Stopped {
        save(app.world_mut(), trainer, &skills)?;
    } else if let Some(model) = app.world().get::<Trainer>(trainer) {
        draw_latent_space(model.0.as_ref(), dataset, &skills, &mut metrics, config.updates)?;
    }
    metrics.sync()?;
    Ok(ended)
}

fn report(metrics: &mut MetricsWriter, averages: &mut Averages, updates: u64, finished: bool) -> Result<(), RunError> {
    if let Some(numbers) = averages.validation.take() {
        for (name, value) in numbers {
            metrics.scalar(updates, &format!("validation/{name}"), f64::from(value))?;
        }
    }
    if updates > 0 && (updates.is_multiple_of(REPORT_EVERY) || finished) {
        for (name, value) in averages.take() {
            metrics.scalar(updates, &format!("training/{name}"), value)?;
        }
    }
    Ok(())
}

fn save(world: &World, trainer: Entity, skills: &SkillFolder) -> Result<(), RunError> {
    let (Some(model), Some(progress)) = (world.get::<Trainer>(trainer), world.get::<TrainerProgress>(trainer)) else {
        return Ok(());
    };
    let tensors = BTreeMap::from([
        ("weights".to_owned(), model.0.weights()?),
        ("optimiser".to_owned(), model.0.optimiser()?),
    ]);
    skills.checkpoints().save(progress.updates, progress, &tensors, None)?;
    Ok(())
}
