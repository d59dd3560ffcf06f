//! Skill folders: a trained skill model with everything needed to use it.
//!
//! ```text
//! skills/
//!   model.ron      what the model is: its settings and sizes
//!   checkpoints/   weights, optimiser, progress
//!   metrics        TensorBoard events and CSV
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{RunError, make_folder, write_whole};
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::experiment::SkillModelConfig;
use crate::files;
use crate::pretraining::{Pretrain, TrainerProgress};
use crate::rng::{Purpose, stream};
use crate::skills::import::ImportedModel;
use crate::skills::{SkillDims, SkillError, SkillModel, Standardiser};

/// Settings and sizes of a saved skill model.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SavedModel {
    /// The model's settings.
    pub model: SkillModelConfig,
    /// Numbers in an observation.
    pub observation: usize,
    /// Numbers in an action.
    pub action: usize,
}

impl SavedModel {
    /// Sizes of observation and action.
    pub fn dims(&self) -> SkillDims {
        SkillDims {
            state: self.observation,
            action: self.action,
        }
    }

    /// The model with fresh weights. The standardisation of the data, if the model has one, comes with the weights.
    pub fn build(&self, seed: u64) -> Result<Box<dyn Pretrain>, RunError> {
        let mut rng = stream(seed, Purpose::Weights, 0, 0);
        self.model
            .build(self.dims(), || Standardiser::identity(self.observation), &mut rng, 1)?
            .ok_or_else(|| SkillError::Config("the experiment has no skill model (skill_model: None)".into()).into())
    }
}

/// The folder of one skill model.
#[derive(Debug, Clone)]
pub struct SkillFolder {
    root: PathBuf,
}

impl SkillFolder {
    /// A folder for a new model.
    pub fn create(root: &Path, saved: &SavedModel) -> Result<Self, RunError> {
        make_folder(root)?;
        let folder = Self {
            root: root.to_path_buf(),
        };
        write_whole(&folder.model_file(), &files::to_text(saved)?)?;
        Ok(folder)
    }

    /// Whether `root` itself is a skill folder.
    pub fn exists(root: &Path) -> bool {
        root.join("model.ron").is_file()
    }

    /// The skill model in `path`: a skill folder itself, or a run folder with one.
    pub fn open(path: &Path) -> Result<(Self, SavedModel), RunError> {
        let root = [path.to_path_buf(), path.join("skills")]
            .into_iter()
            .find(|root| Self::exists(root));
        let Some(root) = root else {
            return Err(RunError::Experiment(format!(
                "{}: no skill model here: expected model.ron in this folder or in its folder skills/",
                path.display()
            )));
        };
        let folder = Self { root };
        let text = std::fs::read_to_string(folder.model_file()).map_err(|source| super::RunFolderError::Io {
            path: folder.model_file(),
            action: "read",
            source,
        })?;
        let loaded = files::load_text(files::FileKind::Experiment, &folder.model_file(), &text, &[])?;
        Ok((folder, loaded.value))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn model_file(&self) -> PathBuf {
        self.root.join("model.ron")
    }

    /// The model's checkpoints; two are kept.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.root.join("checkpoints"), "skill model", 2)
    }

    /// The newest checkpoint that is whole; damaged ones after it are warned of.
    pub fn latest(&self) -> Result<Option<Checkpoint<TrainerProgress>>, RunError> {
        latest(&self.checkpoints())
    }

    /// The trained model and its progress.
    pub fn load(&self, saved: &SavedModel) -> Result<(Box<dyn Pretrain>, TrainerProgress), RunError> {
        let Some(checkpoint) = self.latest()? else {
            return Err(RunError::Experiment(format!(
                "{}: this skill model has no checkpoint yet; train it first",
                self.root.display()
            )));
        };
        let mut model = saved.build(0)?;
        model.restore(checkpoint.file("weights")?, None)?;
        Ok((model, checkpoint.state))
    }
}

/// The newest whole checkpoint; damaged ones after it are warned of.
pub(super) fn latest<S: serde::de::DeserializeOwned>(
    checkpoints: &Checkpoints,
) -> Result<Option<Checkpoint<S>>, RunError> {
    let Some((checkpoint, damaged)) = checkpoints.load_latest()? else {
        return Ok(None);
    };
    for fault in damaged {
        bevy::log::warn!("{fault}; going back to step {}", checkpoint.step);
    }
    Ok(Some(checkpoint))
}

/// Stores a model from somewhere else as a skill folder.
pub fn save_imported(model: ImportedModel, root: &Path) -> Result<SavedModel, RunError> {
    let (config, dims, model): (_, _, Box<dyn Pretrain>) = match model {
        ImportedModel::Spirl(model) => (
            SkillModelConfig::Spirl(model.config().clone()),
            SkillModel::dims(model.as_ref()),
            model,
        ),
        ImportedModel::Bc(model) => (SkillModelConfig::Bc(model.config().clone()), model.dims(), model),
    };
    let saved = SavedModel {
        model: config,
        observation: dims.state,
        action: dims.action,
    };
    if SkillFolder::exists(root) {
        return Err(RunError::Experiment(format!(
            "{}: holds a skill model already",
            root.display()
        )));
    }
    let folder = SkillFolder::create(root, &saved)?;
    let tensors = BTreeMap::from([("weights".to_owned(), model.weights()?)]);
    folder.checkpoints().save(0, &TrainerProgress::new(0), &tensors, None)?;
    Ok(saved)
}

/// The newest skill folder below `runs/` whose model has these settings and is fully trained.
pub fn find_skills(model: &SkillModelConfig, updates: u64) -> Option<PathBuf> {
    let mut candidates: Vec<_> = std::fs::read_dir("runs")
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let (folder, saved) = SkillFolder::open(&entry.path()).ok()?;
            let trained = folder.latest().ok()??.state.updates;
            (saved.model == *model && trained >= updates).then_some(())?;
            Some((entry.metadata().ok()?.modified().ok()?, folder.root))
        })
        .collect();
    candidates.sort();
    candidates.pop().map(|(_, path)| path)
}
