//! Demonstrations into a file.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::{RunError, Settings};
use crate::app::Ended;
use crate::data::{Dataset, Description, EpisodeWriter, ReadOptions, Written};
use crate::demos::{self, CollectConfig, CollectReport};
use crate::experiment::Experiment;
use crate::files;
use crate::metrics::{Figure, Progress};
use crate::scene::{CompiledScene, Scene};

/// What becomes of the demonstrations gathered before an interruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// They are written all the same.
    Keep,
    /// There is no file, and the collection ends with [`RunError::Interrupted`].
    Discard,
}

/// Collects demonstrations in a scene and writes them to `path` (D4RL layout). The file appears when it is complete.
pub fn collect(
    config: &CollectConfig,
    scene: &str,
    path: &Path,
    unfinished: Unfinished,
    settings: &Settings,
) -> Result<(CollectReport, Written, Ended), RunError> {
    if config.episodes == 0 {
        return Err(RunError::Experiment(
            "expected at least one demonstration to collect, found 0".into(),
        ));
    }
    let described = Scene::load(scene)?;
    let compiled = CompiledScene::new(described.clone())?;
    let description = Description {
        scene: scene.to_owned(),
        seed: config.seed,
        elements: compiled.elements().iter().map(|element| element.name.clone()).collect(),
        demonstrator: files::to_text(config)?,
        more: BTreeMap::new(),
    };
    let (observation, action) = (compiled.observation_len(), compiled.action_len());
    let mut writer = EpisodeWriter::create(path, observation, action, &description)?;
    let mut bars = Progress::default();
    let bar = bars.add("demonstrations", 0, config.episodes as u64, "episodes");
    let mut config = config.clone();
    config.threads = settings.threads;
    let report = demos::collect(
        &config,
        &described,
        |demonstration| Ok(writer.append(&demonstration.episode)?),
        |state| {
            let figures = [Figure {
                name: "rejected",
                value: state.rejected as f64,
            }];
            bars.update(bar, state.episodes as u64, &figures);
            if settings.stop.is_made() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    )?;
    bars.finish();
    if report.interrupted && (unfinished == Unfinished::Discard || report.episodes == 0) {
        return Err(RunError::Interrupted);
    }
    let ended = if report.interrupted {
        Ended::Stopped
    } else {
        Ended::Finished
    };
    Ok((report, writer.finish()?, ended))
}

/// The experiment's demonstrations: read from its file, which is made first if it is not there and can be made; then
/// the report comes with them.
pub fn ensure_dataset(
    experiment: &Experiment,
    settings: &Settings,
) -> Result<(Arc<Dataset>, Option<CollectReport>), RunError> {
    let Some(dataset) = &experiment.dataset else {
        return Err(RunError::Experiment(
            "this experiment names no demonstrations (dataset: (path: \"...\"))".into(),
        ));
    };
    let mut collected = None;
    if !dataset.path.exists() {
        let Some(config) = &dataset.collect else {
            return Err(RunError::Experiment(format!(
                "{}: no such file, and the experiment does not say how to collect it (dataset.collect)",
                dataset.path.display()
            )));
        };
        // Half a data set would be taken for the whole one next time.
        let (report, ..) = collect(config, &experiment.scene, &dataset.path, Unfinished::Discard, settings)?;
        collected = Some(report);
    }
    // With what the demonstrator was at, for pictures of the latent space.
    let options = ReadOptions {
        infos: true,
        ..ReadOptions::default()
    };
    let dataset = Arc::new(Dataset::read_with(&dataset.path, &options)?);
    Ok((dataset, collected))
}
