//! The scene of a run, kept in its folder: no later edit of the scene's file, and of what that extends, changes what the run
//! stands on.
//!
//! ```text
//! RUN/scene.ron     the scene with all that it extends and every default written out
//! RUN/model/        the files of its MJCF model, where that is not found by its name in a model folder
//! ```
//!
//! The same goes for the model, if it is copied. One that is found by its name in a model folder is not, and its files go on
//! to count; nor is one that is too large, or names files by absolute paths, and of that a warning tells.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::folder::{remove_folder, rename};
use super::{RunError, RunFolder, RunFolderError};
use crate::experiment::{Experiment, KeptScene};
use crate::files::{self, Loaded};
use crate::scene::{CompiledScene, ModelFiles, PhysicsSpec, Scene};

const SCENE: &str = "scene.ron";
const MODEL: &str = "model";
/// The model until it is whole, and until the one before it may go.
const PARTIAL: &str = ".model.partial";
/// Larger models stay where they are, and the kept scene names them by their absolute paths, bytes.
const MOST_BYTES: u64 = 32 << 20;
/// Changes that are named in full.
const SHOWN: usize = 6;

impl RunFolder {
    /// Lets an experiment of this run stand on the scene that the run keeps, if it keeps one and the experiment is in that
    /// scene. Who names the run's own copy means that scene as well.
    pub fn attach_scene(&self, experiment: &mut Experiment) -> Result<(), RunError> {
        let path = self.root().join(SCENE);
        if !path.is_file() {
            return Ok(());
        }
        let stored = self.stored_experiment()?.scene;
        if names(&experiment.scene, &path) {
            experiment.scene = stored;
        } else if stored != experiment.scene {
            return Ok(());
        }
        let text = self.read(SCENE)?;
        experiment.kept_scene = Some(KeptScene {
            file: path,
            text: Arc::from(text),
        });
        Ok(())
    }

    /// Keeps the scene of the experiment in the folder, with its model, and lets the experiment stand on that. Nothing
    /// happens if it stands on a kept scene already.
    pub fn keep_scene(&self, experiment: &mut Experiment) -> Result<(), RunError> {
        if experiment.kept_scene.is_none() {
            let ready = self.prepare_scene(experiment)?;
            experiment.kept_scene = Some(self.store_scene(ready)?);
        }
        Ok(())
    }

    /// Notes the settings of a run, and keeps its scene if the experiment stands on none that is kept: runs of earlier
    /// versions have none, and what was trained in one scene may go on to practise in another.
    pub(super) fn note_settings(&self, experiment: &Experiment) -> Result<(), RunError> {
        let settings = files::to_text(experiment)?;
        if experiment.kept_scene.is_some() {
            return Ok(self.note_experiment(&settings)?);
        }
        // The scene may stand on what is kept of the one before.
        let ready = self.prepare_scene(experiment)?;
        // At no time does the folder hold the settings of one scene and the text of another.
        remove_scene(self.root());
        let noted = self.note_experiment(&settings).map_err(RunError::from);
        let stored = noted.and_then(|()| self.store_scene(ready));
        stored.map(drop).inspect_err(|_| {
            let _ = fs::remove_dir_all(self.root().join(PARTIAL));
        })
    }

    /// Reads the scene of an experiment that stands on none that is kept, and copies its model.
    fn prepare_scene(&self, experiment: &Experiment) -> Result<Ready, RunError> {
        let loaded = Scene::load_with(&experiment.scene, &[])?;
        let mut scene = loaded.value;
        let copied = self.copy_model(&scene.physics).inspect_err(|_| {
            // The first error is the one that counts.
            let _ = fs::remove_dir_all(self.root().join(PARTIAL));
        })?;
        if let Some(main) = &copied {
            scene.physics.model = Path::new(MODEL).join(main);
        }
        Ok(Ready {
            scene,
            source: loaded.sources.first().and_then(|path| path.canonicalize().ok()),
            has_model: copied.is_some(),
        })
    }

    /// Writes what has been prepared.
    fn store_scene(&self, ready: Ready) -> Result<KeptScene, RunError> {
        let Ready {
            scene,
            source,
            has_model,
        } = ready;
        if has_model {
            let target = self.root().join(MODEL);
            remove_folder(&target)?;
            rename(&self.root().join(PARTIAL), &target)?;
        }
        self.note_scene_source(source.as_deref())?;
        let text = format!(
            "// The scene of this run, with all that its file extends and every default written out. The run reads it in\n\
             // place of that file, which version.txt names.\n{}",
            files::to_text(&scene)?
        );
        // Last, because with it the scene counts as kept.
        let file = self.write(SCENE, &text)?;
        Ok(KeptScene {
            file,
            text: Arc::from(text),
        })
    }

    /// Copies the files of a model, and gives the path of the model below the copy. A model that is found by its name is not
    /// copied, nor is one of which a warning tells.
    fn copy_model(&self, physics: &PhysicsSpec) -> Result<Option<PathBuf>, RunError> {
        // Models that the program builds need no files.
        if physics.built.is_some() || !physics.model.is_absolute() {
            return Ok(None);
        }
        let partial = self.root().join(PARTIAL);
        remove_folder(&partial)?;
        let left = |why: &str| {
            bevy::log::warn_once!(
                "{}: the model of the scene is not copied into the run, because {why}; whatever changes in its files \
                 from now on changes the run",
                physics.model.display()
            );
            Ok(None)
        };
        let Some(model) = ModelFiles::of(physics) else {
            return left("it names files by absolute paths, or files that are not to be found");
        };
        if model.bytes() > MOST_BYTES {
            let (found, most) = (model.bytes().div_ceil(1 << 20), MOST_BYTES >> 20);
            return left(&format!("it has {found} MiB, and at most {most} are copied"));
        }
        // MuJoCo opens no path that is no text.
        if self.root().to_str().is_none() {
            return left("the path of the run is not valid Unicode");
        }
        model.copy_to(&partial).map_err(|source| RunFolderError::Io {
            path: partial.clone(),
            action: "write",
            source,
        })?;
        // Only an absolute path is not looked for in the model folders.
        let copied = partial.canonicalize().map(|partial| PhysicsSpec {
            model: partial.join(model.main()),
            ..physics.clone()
        });
        if !copied.is_ok_and(|copy| copy.is_readable()) {
            remove_folder(&partial)?;
            return left("a copy of it cannot be read");
        }
        Ok(Some(model.main().to_path_buf()))
    }

    /// Warns if the file from which the kept scene was made says something else now, or nothing that can be used. One that
    /// is gone is no business of the run.
    pub fn warn_of_changed_scene(&self, experiment: &Experiment) {
        if experiment.kept_scene.is_none() {
            return;
        }
        let Some(source) = self.scene_source() else { return };
        let Some(name) = source.to_str().filter(|_| source.exists()) else {
            return;
        };
        let now = match Scene::load_with(name, &[]) {
            Ok(now) => now,
            Err(error) => {
                let error = error.to_string();
                bevy::log::warn!(
                    "{}: this run goes by its own scene, {SCENE}; the file it was made from cannot be used now: {}",
                    self.root().display(),
                    error.lines().next().unwrap_or_default()
                );
                return;
            }
        };
        let Ok(then) = read_scene(experiment) else { return };
        let changes = changes(then.value, now.value);
        if changes.is_empty() {
            return;
        }
        let more = changes.len().saturating_sub(SHOWN);
        let shown: Vec<&str> = changes.iter().take(SHOWN).map(String::as_str).collect();
        let more = match more {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        bevy::log::warn!(
            "{}: this run goes by its own scene, {SCENE}; {} has other values now: {}{more}",
            self.root().display(),
            source.display(),
            shown.join(", ")
        );
    }
}

/// A scene that is about to be kept; its model is in [`PARTIAL`].
#[derive(Debug)]
struct Ready {
    scene: Scene,
    source: Option<PathBuf>,
    has_model: bool,
}

/// Whether the name of a scene leads to this file.
fn names(scene: &str, file: &Path) -> bool {
    let found = [scene.to_owned(), format!("{scene}.ron")].into_iter().find_map(|name| {
        let path = Path::new(&name);
        path.canonicalize().ok().filter(|path| path.is_file())
    });
    found.is_some_and(|found| file.canonicalize().is_ok_and(|file| file == found))
}

/// The scene of an experiment as its run keeps it or, where it is not part of a run, as its file is now; compiled.
pub fn load_scene(experiment: &Experiment) -> Result<CompiledScene, RunError> {
    Ok(CompiledScene::of_file(&read_scene(experiment)?)?)
}

/// The same, not compiled.
pub(super) fn read_scene(experiment: &Experiment) -> Result<Loaded<Scene>, RunError> {
    Ok(match &experiment.kept_scene {
        Some(kept) => Scene::load_text(&kept.file, &kept.text)?,
        None => Scene::load_with(&experiment.scene, &[])?,
    })
}

/// The fields of a kept scene that are others in the file it was made from.
fn changes(then: Scene, mut now: Scene) -> Vec<String> {
    let mut found = Vec::new();
    if let (Some(old), Some(new)) = (ModelFiles::of(&then.physics), ModelFiles::of(&now.physics)) {
        let files: Vec<String> = (old.differing(&new).iter())
            .map(|file| file.display().to_string())
            .collect();
        if !files.is_empty() {
            found.push(format!("physics.model ({})", files.join(", ")));
        }
        // One is the copy of the other.
        now.physics.model.clone_from(&then.physics.model);
    }
    if let (Ok(then), Ok(now)) = (serde_json::to_value(then), serde_json::to_value(now)) {
        compare("", &then, &now, &mut found);
    }
    found
}

fn compare(path: &str, then: &Value, now: &Value, found: &mut Vec<String>) {
    /// Longer values are not shown.
    const LONGEST: usize = 40;
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match (then, now) {
        _ if then == now => {}
        (Value::Object(old), Value::Object(new)) if old.keys().eq(new.keys()) => {
            for ((name, old), new) in old.iter().zip(new.values()) {
                // Paths of overrides go without the name of a variant.
                let is_variant =
                    then.as_object().is_some_and(|all| all.len() == 1) && name.starts_with(char::is_uppercase);
                let path = if is_variant { path.to_owned() } else { below(name) };
                compare(&path, old, new, found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() && old.iter().any(Value::is_object) => {
            for (place, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&below(&place.to_string()), old, new, found);
            }
        }
        _ => {
            let (then, now) = (then.to_string(), now.to_string());
            found.push(if then.len().max(now.len()) <= LONGEST {
                format!("{path} ({then} in the run, {now} in the file)")
            } else {
                path.to_owned()
            });
        }
    }
}

/// Where a scene was read from, as `version.txt` says.
pub(super) fn source_in(version: &str) -> Option<PathBuf> {
    let found = version.lines().find_map(|line| line.strip_prefix(SOURCE_LINE))?;
    Some(PathBuf::from(found)).filter(|path| path.is_file())
}

/// The text of `version.txt` with another file that the scene was read from.
pub(super) fn with_source(version: &str, source: Option<&Path>) -> String {
    let kept = version.lines().filter(|line| !line.starts_with(SOURCE_LINE));
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    // A path that is no text cannot be found again.
    if let Some(source) = source.and_then(Path::to_str).filter(|source| !source.contains('\n')) {
        text.push_str(SOURCE_LINE);
        text.push_str(source);
        text.push('\n');
    }
    text
}

/// How the line of `version.txt` begins that names the file of the scene.
const SOURCE_LINE: &str = "scene ";

/// Removes what a run keeps of its scene; what cannot be removed does no harm.
pub(super) fn remove_kept(root: &Path) {
    remove_scene(root);
    let _ = fs::remove_dir_all(root.join(PARTIAL));
}

/// The same, but for a model that is about to be kept.
fn remove_scene(root: &Path) {
    let _ = fs::remove_file(root.join(SCENE));
    let _ = fs::remove_dir_all(root.join(MODEL));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn changes_are_named_as_overrides_name_them() {
        let then = serde_json::json!({"episode": {"steps": 40}, "demonstrator": {"Waypoints": {"speed": 0.5}},
                                      "elements": [{"name": "a"}, {"name": "b"}], "same": [1, 2], "task": [1, 2]});
        let now = serde_json::json!({"episode": {"steps": 50}, "demonstrator": {"Waypoints": {"speed": 0.6}},
                                     "elements": [{"name": "a"}, {"name": "c"}], "same": [1, 2], "task": [1]});
        let mut found = Vec::new();
        compare("", &then, &now, &mut found);
        assert_eq!(
            found,
            [
                "demonstrator.speed (0.5 in the run, 0.6 in the file)",
                "elements.1.name (\"b\" in the run, \"c\" in the file)",
                "episode.steps (40 in the run, 50 in the file)",
                "task ([1,2] in the run, [1] in the file)",
            ]
        );
    }

    #[test]
    fn the_file_of_a_scene_is_noted_once() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a scene.ron");
        fs::write(&file, "()").unwrap();
        let text = with_source("apprentice 1\nscene /gone\n", Some(&file));
        assert_eq!(text, format!("apprentice 1\nscene {}\n", file.display()));
        assert_eq!(source_in(&text), Some(file));
        assert_eq!(source_in(&with_source(&text, None)), None);
    }
}
