//! Trains a skill model from demonstrations.

use std::collections::BTreeMap;
use std::sync::Arc;

use bevy::prelude::*;

use super::latent::{PICTURE, draw_latent_space};
use super::skills::{SavedModel, SkillFolder, WEIGHTS};
use super::train::dims_of;
use super::windows::windows;
use super::{RunError, RunFolder, Settings, load_scene};
use crate::app::{self, Ended};
use crate::data::Dataset;
use crate::experiment::{Experiment, SkillModelConfig};
use crate::metrics::{Figure, MetricsWriter, Progress};
use crate::pretraining::{Averages, Batches, Pretrain, PretrainingPlugin, Trainer, TrainerProgress, TrainerSettings};
use crate::rng::{Purpose, stream};
use crate::scene::CompiledScene;
use crate::skills::Standardiser;

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
    let scene = load_scene(experiment)?;
    check_sizes(&experiment.scene, &scene, dataset)?;
    let saved = SavedModel {
        model: experiment.skill_model.clone(),
        observation: dataset.observation_dim(),
        action: dataset.action_dim(),
        pixels: dims_of(&scene).pixels,
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
    let Some(mut model) = saved
        .model
        .build(saved.dims(), statistics, &mut rng, settings.threads)?
    else {
        return Err(RunError::Experiment(
            "this experiment has no skill model to train (skill_model: None)".into(),
        ));
    };
    // Before there is anything to import, which is taken up where the model is.
    model = model.computed_by(&experiment.device.open().map_err(RunError::Experiment)?)?;
    let windows = |sequences| windows(model.as_ref(), experiment, dataset, sequences);
    let batches = Batches {
        training: windows(training)?,
        // What is wrong with pictures has been said of the training windows.
        validation: windows(validation).ok(),
    };

    let root = folder.skills();
    let mut progress = TrainerProgress::new(config.seed);
    let mut saved_at = None;
    let mut existing = None;
    if SkillFolder::exists(&root) {
        let (skills, before) = SkillFolder::open(&root)?;
        if before != saved {
            return Err(RunError::Experiment(format!(
                "{}: holds a skill model with other settings; choose another folder (--out)",
                root.display()
            )));
        }
        if let Some(checkpoint) = skills.latest()? {
            model.import(checkpoint.file(WEIGHTS)?)?;
            model.import_optimiser(checkpoint.file("optimiser")?)?;
            progress = checkpoint.state;
            saved_at = Some(progress.updates);
        }
        existing = Some(skills);
    }
    let finished = saved_at.is_some_and(|updates| updates >= config.updates);
    let checksum = dataset.checksum();
    if !finished && progress.demonstrations.is_some_and(|before| before != checksum) {
        return Err(RunError::Experiment(format!(
            "{}: other demonstrations than those that this model was trained on for {} updates; put the former ones back, \
             or train another model in another folder (--out)",
            dataset.origin(),
            progress.updates
        )));
    }
    progress.demonstrations = Some(checksum);
    if !finished && folder.has_practised()? {
        return Err(RunError::Experiment(format!(
            "{}: learners of this run have practised with its skill model, which is not trained any further; train \
             another one in another folder (--out)",
            folder.root().display()
        )));
    }
    // Not before everything has turned out to fit.
    folder.note_settings(experiment)?;
    let (skills, mut metrics) = match existing {
        Some(skills) if finished => {
            // The last time may have ended between the last checkpoint and the picture.
            if lacks_picture(&skills, &saved) {
                draw(model.as_ref(), experiment, dataset, &skills, None);
            }
            return Ok(Ended::Finished);
        }
        Some(skills) => (skills, MetricsWriter::resume(&root, progress.updates)?),
        None => (SkillFolder::create(&root, &saved)?, MetricsWriter::create(&root)?),
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
        draw(
            model.0.as_ref(),
            experiment,
            dataset,
            &skills,
            Some((&mut metrics, config.updates)),
        );
    }
    metrics.sync()?;
    Ok(ended)
}

/// Whether [`pretrain`] has anything left to do that takes demonstrations. A picture that is missing is worth it only if
/// they are at hand.
pub fn needs_demonstrations(experiment: &Experiment, folder: &RunFolder) -> Result<bool, RunError> {
    let root = folder.skills();
    if !SkillFolder::exists(&root) {
        return Ok(true);
    }
    let (skills, saved) = SkillFolder::open(&root)?;
    let made = skills.latest()?.map_or(0, |checkpoint| checkpoint.state.updates);
    let trained = saved.model == experiment.skill_model && made >= experiment.pretraining.updates;
    let at_hand = (experiment.dataset.as_ref()).is_some_and(|dataset| dataset.path.exists());
    Ok(!trained || (at_hand && lacks_picture(&skills, &saved)))
}

/// Refuses to begin practice with the run's own skill model before that has made its updates: afterwards it is not
/// trained any further.
pub fn expect_trained(experiment: &Experiment, folder: &RunFolder) -> Result<(), RunError> {
    let root = folder.skills();
    if !SkillFolder::exists(&root) || folder.skills_are_copied() || folder.has_practised()? {
        return Ok(());
    }
    let (skills, _) = SkillFolder::open(&root)?;
    let made = skills.latest()?.map_or(0, |checkpoint| checkpoint.state.updates);
    let wanted = experiment.pretraining.updates;
    if made >= wanted {
        return Ok(());
    }
    Err(RunError::Experiment(format!(
        "{}: the skill model has made {made} of {wanted} updates (pretraining.updates), and makes no more once learners \
         have practised with it; `apprentice pretrain` with --resume goes on with it, `pretraining.updates={made}` takes it \
         as it is",
        root.display()
    )))
}

/// Whether a model that has skills to show has no picture of them.
fn lacks_picture(skills: &SkillFolder, saved: &SavedModel) -> bool {
    matches!(saved.model, SkillModelConfig::Spirl(_)) && !skills.root().join(PICTURE).exists()
}

/// Draws the picture of the latent space. The model is trained and saved by then, so a failure is only worth a warning.
fn draw(
    model: &dyn Pretrain,
    experiment: &Experiment,
    dataset: &Arc<Dataset>,
    skills: &SkillFolder,
    metrics: Option<(&mut MetricsWriter, u64)>,
) {
    if let Err(error) = draw_latent_space(model, experiment, dataset, skills, metrics) {
        let root = skills.root().display();
        bevy::log::warn!("{root}: there is no picture of the skills: {error}");
    }
}

/// Fails if the demonstrations come from another kind of scene than the one with this name.
pub(super) fn check_sizes(name: &str, scene: &CompiledScene, dataset: &Dataset) -> Result<(), RunError> {
    let (found, expected) = (
        (dataset.observation_dim(), dataset.action_dim()),
        (scene.observation_len(), scene.action_len()),
    );
    // Who sees pictures does not look at the numbers: blocks are stacked with more of them than were demonstrated.
    if found == expected || (scene.scene().observation.pixels.is_some() && found.1 == expected.1) {
        return Ok(());
    }
    Err(RunError::Experiment(format!(
        "{}: the demonstrations have {} observed numbers and {} action numbers; scene `{name}` has {} and {}",
        dataset.origin(),
        found.0,
        found.1,
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
        (WEIGHTS.to_owned(), model.0.export()?),
        ("optimiser".to_owned(), model.0.export_optimiser()?),
    ]);
    skills.checkpoints().save(progress.updates, progress, &tensors)?;
    Ok(())
}
