//! Trains a skill model from demonstrations.

use std::collections::BTreeMap;
use std::sync::Arc;

use bevy::prelude::*;

use super::latent::draw_latent_space;
use super::skills::{SavedModel, SkillFolder};
use super::{RunError, RunFolder, Settings, load_scene};
use crate::app::{self, Ended};
use crate::data::{Dataset, WindowConfig, WindowSampler};
use crate::experiment::Experiment;
use crate::files;
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
    config.validate().map_err(RunError::Experiment)?;
    check_sizes(experiment, dataset)?;
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

    folder.note_experiment(&files::to_text(experiment)?)?;
    let root = folder.skills();
    let mut progress = TrainerProgress::new(config.seed);
    let mut saved_at = None;
    let (skills, new) = if SkillFolder::exists(&root) {
        let (skills, before) = SkillFolder::open(&root)?;
        if before != saved {
            return Err(RunError::Experiment(format!(
                "{}: holds a skill model with other settings; choose another folder (--out)",
                root.display()
            )));
        }
        if let Some(checkpoint) = skills.latest()? {
            model.restore(checkpoint.file("weights")?, Some(checkpoint.file("optimiser")?))?;
            progress = checkpoint.state;
            saved_at = Some(progress.updates);
        }
        (skills, false)
    } else {
        (SkillFolder::create(&root, &saved)?, true)
    };
    if saved_at.is_some_and(|updates| updates >= config.updates) {
        return Ok(Ended::Finished);
    }
    let mut metrics = if new {
        MetricsWriter::create(&root)?
    } else {
        MetricsWriter::resume(&root, progress.updates)?
    };

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
    let mut loss = None;
    let mut failure = None;
    let ended = app::run(&mut app, |world| {
        let mut step = || -> Result<bool, RunError> {
            let updates = world
                .get::<TrainerProgress>(trainer)
                .map_or(0, |progress| progress.updates);
            let finished = updates >= config.updates;
            if let Some(mut averages) = world.get_mut::<Averages>(trainer) {
                let due = updates.is_multiple_of(REPORT_EVERY) || finished;
                loss = report(&mut metrics, &mut averages, updates, due)?.or(loss);
            }
            if updates.is_multiple_of(100) || finished {
                let figures: Vec<_> = loss.map(|value| Figure { name: "loss", value }).into_iter().collect();
                bars.update(bar, updates, &figures);
            }
            let due = finished || (updates > 0 && updates.is_multiple_of(CHECKPOINT_EVERY));
            if due && saved_at != Some(updates) {
                metrics.sync()?;
                save(world, trainer, &skills)?;
                saved_at = Some(updates);
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
    let world = app.world_mut();
    if ended == Ended::Stopped {
        let updates = world
            .get::<TrainerProgress>(trainer)
            .map_or(0, |progress| progress.updates);
        if saved_at != Some(updates) {
            if let Some(mut averages) = world.get_mut::<Averages>(trainer) {
                report(&mut metrics, &mut averages, updates, true)?;
            }
            metrics.sync()?;
            save(world, trainer, &skills)?;
        }
    } else if let Some(model) = world.get::<Trainer>(trainer) {
        draw_latent_space(model.0.as_ref(), dataset, &skills, &mut metrics, config.updates)?;
    }
    metrics.sync()?;
    Ok(ended)
}

/// Fails if the demonstrations come from another kind of scene: a model trained on them would be of no use.
fn check_sizes(experiment: &Experiment, dataset: &Dataset) -> Result<(), RunError> {
    let scene = load_scene(experiment)?;
    let (found, expected) = (
        (dataset.observation_dim(), dataset.action_dim()),
        (scene.observation_len(), scene.action_len()),
    );
    if found == expected {
        return Ok(());
    }
    Err(RunError::Experiment(format!(
        "{}: the demonstrations have {} observed numbers and {} action numbers; scene `{}` has {} and {}",
        dataset.origin(),
        found.0,
        found.1,
        experiment.scene,
        expected.0,
        expected.1
    )))
}

/// Writes validation losses, and what has gathered since the last report if that is due. Returns the mean total loss.
fn report(
    metrics: &mut MetricsWriter,
    averages: &mut Averages,
    updates: u64,
    due: bool,
) -> Result<Option<f64>, RunError> {
    if let Some(numbers) = averages.validation.take() {
        for (name, value) in numbers {
            metrics.scalar(updates, &format!("validation/{name}"), f64::from(value))?;
        }
    }
    let mut total = None;
    if due {
        for (name, value) in averages.take() {
            metrics.scalar(updates, &format!("training/{name}"), value)?;
            if ["total", "nll"].contains(&name) {
                total = Some(value);
            }
        }
    }
    Ok(total)
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
