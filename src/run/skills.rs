//! Skill folders: a trained skill model with everything needed to use it.
//!
//! ```text
//! skills/
//!   model.ron      what the model is: its settings and sizes
//!   checkpoints/   weights, optimiser, progress
//!   metrics        TensorBoard events and CSV
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::folder::{expect_empty, remove_folder, rename};
use super::sweep::runs_of;
use super::train::{dims_of, in_words, serves};
use super::{RunError, RunFolder, RunFolderError, load_scene, make_folder, write_whole};
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::experiment::{Experiment, SkillModelConfig};
use crate::files::{self, sync_folder};
use crate::pretraining::{Pretrain, TrainerProgress};
use crate::rng::{Purpose, stream};
use crate::skills::import::ImportedModel;
use crate::skills::{PixelDims, SkillDims, SkillError, SkillModel, Standardiser};

/// The file of a checkpoint that holds the model itself.
pub(super) const WEIGHTS: &str = "weights";

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
    /// Sizes of the pictures it sees in place of the numbers.
    #[serde(default)]
    pub pixels: Option<PixelDims>,
}

impl SavedModel {
    /// Sizes of observation and action.
    pub fn dims(&self) -> SkillDims {
        SkillDims {
            state: self.observation,
            action: self.action,
            pixels: self.pixels,
        }
    }

    /// What it sees and does, in words.
    pub fn in_words(&self) -> String {
        in_words(&self.dims())
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
        sync_folder(&folder);
        Ok(())
    }

    /// Whether the model belongs to a run whose learners have practised.
    fn has_learners(&self) -> bool {
        let run = self.root.parent().and_then(|run| RunFolder::open(run).ok());
        run.is_some_and(|run| run.skills() == self.root && run.has_practised().unwrap_or(false))
    }

    fn untrained(&self) -> RunError {
        RunError::Experiment(format!(
            "{}: this skill model has no checkpoint yet; train it first",
            self.root.display()
        ))
    }

    /// The trained model, and the checksum of its weights: a copy has the same, another model has another.
    ///
    /// # Errors
    /// There is no checkpoint, or no whole one. Where learners of the same run stand on the model, nothing takes the place
    /// of its newest checkpoint.
    pub fn load(&self, saved: &SavedModel) -> Result<(Box<dyn Pretrain>, Option<u32>), RunError> {
        let wanted = |file: &str| file == WEIGHTS;
        let Some((checkpoint, damaged)) = self.checkpoints().load_latest_files::<TrainerProgress>(&wanted)? else {
            return Err(self.untrained());
        };
        for fault in damaged {
            if self.has_learners() {
                return Err(RunError::Experiment(format!(
                    "{}: the skill model of this run is damaged, and its learners need it as it was: {fault}; restore that \
                     file",
                    self.root.display()
                )));
            }
            bevy::log::warn!("{fault}; going back to step {}", checkpoint.step);
        }
        let mut model = saved.build(0)?;
        model.import(checkpoint.file(WEIGHTS)?)?;
        Ok((model, checkpoint.checksums.get(WEIGHTS).copied()))
    }

    /// The checksum that comes with [`load`](Self::load); `None` before the first checkpoint.
    pub fn checksum(&self) -> Result<Option<u32>, RunError> {
        let checkpoint = self.latest()?;
        Ok(checkpoint.and_then(|checkpoint| checkpoint.checksums.get(WEIGHTS).copied()))
    }
}

/// Copies a file, with the time of its last change: that of a checkpoint says how new the model is.
fn copy_file(from: &Path, to: &Path) -> Result<(), RunFolderError> {
    let copy = || {
        // Not `fs::copy`: the copy of a file that is read-only would be so too, and its time could not be set.
        let (mut source, mut target) = (File::open(from)?, File::create(to)?);
        io::copy(&mut source, &mut target)?;
        target.set_modified(source.metadata()?.modified()?)?;
        target.sync_all()
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
    latest_files(checkpoints, &|_| true)
}

/// As [`latest`], with the tensors of some files only.
pub(super) fn latest_files<S: serde::de::DeserializeOwned>(
    checkpoints: &Checkpoints,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Option<Checkpoint<S>>, RunError> {
    let Some((checkpoint, damaged)) = checkpoints.load_latest_files(wanted)? else {
        return Ok(None);
    };
    for fault in damaged {
        bevy::log::warn!("{fault}; going back to step {}", checkpoint.step);
    }
    Ok(Some(checkpoint))
}

/// Stores a model from somewhere else as a skill folder, which is whole or not there.
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
        pixels: dims.pixels,
    };
    if SkillFolder::exists(root) {
        return Err(RunError::Experiment(format!(
            "{}: holds a skill model already",
            root.display()
        )));
    }
    expect_empty(root)?;
    let Some(name) = root.file_name() else {
        let root = root.display();
        return Err(RunError::Experiment(format!(
            "{root}: expected the name of a new folder"
        )));
    };
    let partial = root.with_file_name(format!(".{}.partial", name.to_string_lossy()));
    let store = || -> Result<(), RunError> {
        remove_folder(&partial)?;
        let folder = SkillFolder::create(&partial, &saved)?;
        let tensors = BTreeMap::from([(WEIGHTS.to_owned(), model.export()?)]);
        folder.checkpoints().save(0, &TrainerProgress::new(0), &tensors)?;
        Ok(rename(&partial, root)?)
    };
    store().inspect_err(|_| {
        // The first error is the one that counts.
        let _ = fs::remove_dir_all(&partial);
    })?;
    Ok(saved)
}

/// The skill folder below `runs/` whose model has the experiment's settings, fits its scene and is fully trained; of
/// several, the one trained last.
pub fn find_skills(experiment: &Experiment) -> Result<Option<PathBuf>, RunError> {
    let scene = load_scene(experiment)?;
    let dims = dims_of(&scene);
    let wanted = SavedModel {
        model: experiment.skill_model.clone(),
        observation: dims.state,
        action: dims.action,
        pixels: dims.pixels,
    };
    Ok(newest_fitting(
        Path::new("runs"),
        &wanted,
        experiment.pretraining.updates,
    ))
}

fn newest_fitting(runs: &Path, wanted: &SavedModel, updates: u64) -> Option<PathBuf> {
    let mut candidates: Vec<_> = fs::read_dir(runs)
        .ok()?
        .flatten()
        // Variants of sweeps are runs like the others.
        .flat_map(|entry| runs_of(&entry.path()).unwrap_or_default())
        .filter_map(|(_, run)| {
            let (folder, saved) = SkillFolder::open(&run).ok()?;
            // Checkpoints of models that do not fit anyway are not read.
            if saved.model != wanted.model || !serves(&saved.dims(), &wanted.dims()) {
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
    fn trained(root: &Path, saved: &SavedModel, updates: u64, second: u64) -> SkillFolder {
        let folder = SkillFolder::create(&root.join("skills"), saved).unwrap();
        let mut progress = TrainerProgress::new(0);
        progress.updates = updates;
        let path = folder.checkpoints().save(updates, &progress, &BTreeMap::new()).unwrap();
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
    fn an_imported_model_takes_an_empty_folder_or_none() {
        let parent = tempfile::tempdir().unwrap();
        let root = |name: &str| parent.path().join(name);
        let dims = SkillDims {
            state: 3,
            action: 2,
            pixels: None,
        };
        let save = |name: &str| {
            let model = crate::skills::Bc::new(BcConfig::default(), dims, &mut stream(0, Purpose::Weights, 0, 0));
            save_imported(ImportedModel::Bc(Box::new(model.unwrap())), &root(name)).map_err(|error| error.to_string())
        };
        save("new/deeper").unwrap();
        fs::create_dir(root("empty")).unwrap();
        save("empty").unwrap();
        assert!(SkillFolder::open(&root("empty")).unwrap().0.latest().unwrap().is_some());
        fs::create_dir(root("mine")).unwrap();
        fs::write(root("mine/notes.txt"), "mine").unwrap();
        fs::write(root("file"), "").unwrap();
        for (name, message) in [
            ("empty", "holds a skill model already"),
            ("mine", "found `notes.txt` in it"),
            ("file", "file: cannot make the folder"),
        ] {
            let error = save(name).unwrap_err();
            assert!(error.contains(message), "{name}: {error}");
        }
        let mut left: Vec<_> = fs::read_dir(parent.path())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["empty", "file", "mine", "new"]);
    }

    #[test]
    fn the_model_trained_last_is_found() {
        let runs = tempfile::tempdir().unwrap();
        let root = |name: &str| runs.path().join(name);
        let model = SavedModel {
            model: SkillModelConfig::Bc(BcConfig::default()),
            observation: 3,
            action: 2,
            pixels: None,
        };
        let other = SavedModel {
            model: SkillModelConfig::Bc(BcConfig {
                width: 16,
                ..BcConfig::default()
            }),
            ..model.clone()
        };
        let of_other_scene = SavedModel {
            observation: 4,
            ..model.clone()
        };
        let old = trained(&root("a"), &model, 10, 1_000);
        trained(&root("b"), &model, 10, 2_000);
        trained(&root("unfinished"), &model, 9, 3_000);
        trained(&root("other"), &other, 10, 3_000);
        trained(&root("other_scene"), &of_other_scene, 10, 4_000);
        // Neither a later change of the folder nor a copy makes a model newer.
        fs::write(root("a").join("evaluation.json"), "[]").unwrap();
        // The copy of a read-only model can be written to.
        let manifest = old.checkpoints().folder().join("step_000000010/manifest.json");
        let mut read_only = fs::metadata(&manifest).unwrap().permissions();
        read_only.set_readonly(true);
        fs::set_permissions(&manifest, read_only).unwrap();
        old.copy_to(&root("copy").join("skills")).unwrap();
        let copied = root("copy").join("skills/checkpoints/step_000000010/manifest.json");
        assert!(!fs::metadata(copied).unwrap().permissions().readonly());
        let found = |updates| newest_fitting(runs.path(), &model, updates);
        assert_eq!(found(10), Some(root("b").join("skills")));
        assert_eq!(found(9), Some(root("unfinished").join("skills")));
        assert_eq!(found(11), None);
    }
}
