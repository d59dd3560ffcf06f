//! Skill folders: a trained skill model with everything needed to use it.
//!
//! ```text
//! skills/
//!   model.ron      what the model is: its settings and sizes
//!   checkpoints/   weights, optimiser, progress
//!   metrics        TensorBoard events and CSV
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{RunError, RunFolderError, make_folder, write_whole};
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
        let text = fs::read_to_string(folder.model_file()).map_err(|source| RunFolderError::Io {
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

    /// Copies what it takes to use the model, its description and the newest checkpoint that is whole, into a new
    /// folder. Metrics and pictures stay behind.
    pub fn copy_to(&self, target: &Path) -> Result<(), RunError> {
        let Some(checkpoint) = self.latest()? else {
            return Err(self.untrained());
        };
        let copy = Self {
            root: target.to_path_buf(),
        };
        let mut folder = copy.checkpoints().folder().to_path_buf();
        folder.extend(checkpoint.path.file_name());
        make_folder(&folder)?;
        copy_file(&self.model_file(), &copy.model_file())?;
        let failed = |source| RunFolderError::Io {
            path: checkpoint.path.clone(),
            action: "list",
            source,
        };
        for entry in fs::read_dir(&checkpoint.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            copy_file(&entry.path(), &folder.join(entry.file_name()))?;
        }
        Ok(())
    }

    fn untrained(&self) -> RunError {
        RunError::Experiment(format!(
            "{}: this skill model has no checkpoint yet; train it first",
            self.root.display()
        ))
    }

    /// The trained model and its progress.
    pub fn load(&self, saved: &SavedModel) -> Result<(Box<dyn Pretrain>, TrainerProgress), RunError> {
        let Some(checkpoint) = self.latest()? else {
            return Err(self.untrained());
        };
        let mut model = saved.build(0)?;
        model.restore(checkpoint.file("weights")?, None)?;
        Ok((model, checkpoint.state))
    }
}

/// Copies a file, with the time of its last change: that of a checkpoint says how new the model is.
fn copy_file(from: &Path, to: &Path) -> Result<(), RunFolderError> {
    let copy = || {
        fs::copy(from, to)?;
        let file = fs::File::options().write(true).open(to)?;
        file.set_modified(fs::metadata(from)?.modified()?)?;
        file.sync_all()
    };
    copy().map_err(|source| RunFolderError::Io {
        path: to.to_path_buf(),
        action: "write",
        source,
    })
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

/// The skill folder below `runs/` whose model has these settings and is fully trained; of several, the one trained last.
pub fn find_skills(model: &SkillModelConfig, updates: u64) -> Option<PathBuf> {
    newest_fitting(Path::new("runs"), model, updates)
}

fn newest_fitting(runs: &Path, model: &SkillModelConfig, updates: u64) -> Option<PathBuf> {
    let mut candidates: Vec<_> = fs::read_dir(runs)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let (folder, saved) = SkillFolder::open(&entry.path()).ok()?;
            // Checkpoints of models that do not fit anyway are not read.
            if saved.model != *model {
                return None;
            }
            let checkpoint = folder.latest().ok()??;
            (checkpoint.state.updates >= updates).then_some(())?;
            Some((written_at(&checkpoint)?, folder.root))
        })
        .collect();
    candidates.sort();
    candidates.pop().map(|(_, path)| path)
}

/// When a checkpoint was written: its manifest is the last of its files.
fn written_at(checkpoint: &Checkpoint<TrainerProgress>) -> Option<SystemTime> {
    fs::metadata(checkpoint.path.join("manifest.json"))
        .ok()?
        .modified()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use super::*;
    use crate::skills::BcConfig;

    /// A model whose checkpoint was written so many seconds after 1970.
    fn trained(root: &Path, model: &SkillModelConfig, updates: u64, second: u64) -> SkillFolder {
        let saved = SavedModel {
            model: model.clone(),
            observation: 3,
            action: 2,
        };
        let folder = SkillFolder::create(&root.join("skills"), &saved).unwrap();
        let mut progress = TrainerProgress::new(0);
        progress.updates = updates;
        let path = folder
            .checkpoints()
            .save(updates, &progress, &BTreeMap::new(), None)
            .unwrap();
        let manifest = fs::File::options()
            .write(true)
            .open(path.join("manifest.json"))
            .unwrap();
        manifest
            .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
            .unwrap();
        folder
    }

    #[test]
    fn the_model_trained_last_is_found() {
        let runs = tempfile::tempdir().unwrap();
        let root = |name: &str| runs.path().join(name);
        let model = SkillModelConfig::Bc(BcConfig::default());
        let other = SkillModelConfig::Bc(BcConfig {
            width: 16,
            ..BcConfig::default()
        });
        let old = trained(&root("a"), &model, 10, 1_000);
        trained(&root("b"), &model, 10, 2_000);
        trained(&root("unfinished"), &model, 9, 3_000);
        trained(&root("other"), &other, 10, 3_000);
        // Neither a later change of the folder nor a copy makes a model newer.
        fs::write(root("a").join("evaluation.json"), "[]").unwrap();
        old.copy_to(&root("copy").join("skills")).unwrap();
        let found = |updates| newest_fitting(runs.path(), &model, updates);
        assert_eq!(found(10), Some(root("b").join("skills")));
        assert_eq!(found(9), Some(root("unfinished").join("skills")));
        assert_eq!(found(11), None);
    }
}
