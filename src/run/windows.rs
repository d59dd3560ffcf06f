//! Windows of demonstrations as a model sees them.

use std::ops::Range;
use std::sync::Arc;

use super::collect::recorded_overrides;
use super::{RunError, read_scene};
use crate::data::{Dataset, Paint, WindowConfig, WindowSampler};
use crate::experiment::Experiment;
use crate::pixels::Painter;
use crate::pretraining::Pretrain;
use crate::scene::Scene;

/// Windows of `sequences` with what `model` looks at: states, or pictures, which are those of the data or drawn from its
/// states in the scene in which they were recorded.
pub(super) fn windows(
    model: &dyn Pretrain,
    experiment: &Experiment,
    dataset: &Arc<Dataset>,
    sequences: Vec<Range<usize>>,
) -> Result<WindowSampler, RunError> {
    let sampler = WindowSampler::new(dataset.clone(), sequences, WindowConfig::new(model.window()))?;
    match model.sees().pixels() {
        None => Ok(sampler),
        Some(dims) => Ok(sampler.with_pixels(dims.size, model.frames(), painter(experiment, dataset)?)?),
    }
}

/// Draws what is not stored, in the scene in which it was recorded, with the eye of the experiment's scene.
fn painter(experiment: &Experiment, dataset: &Dataset) -> Result<Option<Box<dyn Paint>>, RunError> {
    if dataset.images().is_some() {
        return Ok(None);
    }
    let described = read_scene(experiment)?.value;
    let mut recorded: Scene = match dataset.attributes().get("scene") {
        Some(name) => Scene::load_with(name, &recorded_overrides(dataset))?.value,
        None => described.clone(),
    };
    recorded.observation.pixels = described.observation.pixels;
    Ok(Some(Box::new(Painter::new(&recorded)?)))
}
