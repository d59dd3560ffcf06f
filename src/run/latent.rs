//! Maps and pictures of a skill model's latent space, coloured by what the demonstrator was at.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::{RunError, SkillFolder, write_whole};
use crate::data::{Dataset, Values};
use crate::experiment::Experiment;
use crate::metrics::MetricsWriter;
use crate::plot::{Group, ScatterPlot, scatter_png, scatter_svg};
use crate::pretraining::Pretrain;
use crate::rng::{Purpose, stream};
use crate::skills::latent::{LatentMap, latent_map};

/// The side array that says what the demonstrator was at.
pub(super) const ELEMENT: &str = "element";
/// The picture in a skill folder.
pub(super) const PICTURE: &str = "latent.svg";
/// Windows in a picture.
const WINDOWS: usize = 1_500;
/// Windows that are encoded at once: with pictures each is 150 kB.
const AT_ONCE: usize = 250;
/// Pixels of the picture in TensorBoard.
const PIXELS: (u32, u32) = (480, 420);

/// Posterior means of random windows of the demonstrations along their two principal axes, labelled with what the
/// demonstrator was at; `None` for models without a latent space.
pub(super) fn latent_space(
    model: &dyn Pretrain,
    experiment: &Experiment,
    dataset: &Arc<Dataset>,
) -> Result<Option<LatentMap>, RunError> {
    let ranges = dataset.sequences();
    let mut sampler = super::windows::windows(model, experiment, dataset, ranges.to_vec())?;
    let mut rng = stream(0, Purpose::Batches, 2, 0);
    let windows: Vec<_> = (0..WINDOWS).map(|_| sampler.draw(&mut rng)).collect();
    let mut latents = Vec::new();
    for some in windows.chunks(AT_ONCE) {
        let (states, actions) = sampler.batch(some, true, &Device::Cpu)?.seen();
        let Some(found) = model.embed(states, actions)? else {
            return Ok(None);
        };
        latents.push(found);
    }
    let latents = Tensor::cat(&latents, 0)?;

    let names: Vec<&str> = dataset
        .attributes()
        .get("elements")
        .map(|names| names.split(", ").collect())
        .unwrap_or_default();
    let label = |row: usize| -> String {
        let element = match dataset.infos().get(ELEMENT).map(|column| &column.values) {
            Some(Values::I64(values)) => values.get(row).and_then(|&index| usize::try_from(index).ok()),
            _ => None,
        };
        element
            .and_then(|index| names.get(index))
            .map_or_else(|| "demonstrations".into(), |name| (*name).into())
    };
    let rows = windows.iter().map(|window| {
        ranges
            .get(window.sequence)
            .map_or(0, |range| range.start + window.start)
    });
    Ok(Some(latent_map(&latents, rows.map(label).collect())?))
}

/// Draws the [`latent_space`]: `latent.svg` in the skill folder and an image in TensorBoard, with the number of updates,
/// if there are metrics to write. Models without a latent space have no picture.
pub(super) fn draw_latent_space(
    model: &dyn Pretrain,
    experiment: &Experiment,
    dataset: &Arc<Dataset>,
    folder: &SkillFolder,
    metrics: Option<(&mut MetricsWriter, u64)>,
) -> Result<(), RunError> {
    let Some(map) = latent_space(model, experiment, dataset)? else {
        return Ok(());
    };
    let mut groups: Vec<Group> = Vec::new();
    for (label, &[x, y]) in map.labels.iter().zip(&map.points) {
        let point = (f64::from(x), f64::from(y));
        match groups.iter_mut().find(|group| group.label == *label) {
            Some(group) => group.points.push(point),
            None => groups.push(Group {
                label: label.clone(),
                points: vec![point],
            }),
        }
    }
    groups.sort_by(|a, b| a.label.cmp(&b.label));
    let axis = |number: usize, share: f32| format!("principal axis {number} ({:.0} % of the variance)", 100.0 * share);
    let plot = ScatterPlot {
        title: "Skills of the demonstrations".into(),
        x_label: axis(1, map.explained[0]),
        y_label: axis(2, map.explained[1]),
        ..ScatterPlot::default()
    };
    write_whole(&folder.root().join(PICTURE), &scatter_svg(&plot, &groups)?)?;
    if let Some((metrics, updates)) = metrics {
        metrics.png(updates, "latent", PIXELS.0, PIXELS.1, scatter_png(PIXELS, &groups)?)?;
    }
    Ok(())
}
