//! Finding and loading `MuJoCo` models.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};

use bevy::log::{debug, warn};
use mujoco_rs::error::MjModelError;
use mujoco_rs::logging::set_log_handler;
use mujoco_rs::mujoco_c::mjtDisableBit;
use mujoco_rs::wrappers::mj_logging::{MjLogMessage, MjtLogLevel};
use mujoco_rs::wrappers::mj_model::MjModel;

use super::mjcf::Mjcf;
use super::resolve::invalid;
use super::{Built, PhysicsSpec, Scene, SceneError, changes};
use crate::files::{self, Loaded, Origin};

/// Environment variable with further model folders, separated as in `PATH`.
const FOLDERS_VARIABLE: &str = "APPRENTICE_MODELS";

/// The folders that models are looked for in, first match wins: those of the environment variable
/// `APPRENTICE_MODELS`, `models` and `.deps/models` beside the executable and in each folder above it, and
/// `.deps/models` of the checkout the program was built from.
pub fn model_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os(FOLDERS_VARIABLE)
        .map(|list| std::env::split_paths(&list).collect())
        .unwrap_or_default();
    if let Ok(executable) = std::env::current_exe() {
        for folder in executable.ancestors().skip(1) {
            folders.extend([folder.join("models"), folder.join(".deps/models")]);
        }
    }
    folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/models"));
    folders
}

/// Most memory that a state of a model may claim for contacts and constraints, bytes. `MuJoCo` ends the process when it
/// gets none.
const MOST_MEMORY: i64 = 16 << 30;

impl PhysicsSpec {
    /// Whether the model can be read.
    pub(crate) fn is_readable(&self) -> bool {
        load(self).is_ok()
    }
}

/// Finds and loads a model, or builds it, with `MuJoCo`'s automatic reset of unstable states off, and makes the changes
/// that the scene wants.
pub(super) fn load(physics: &PhysicsSpec) -> Result<Arc<MjModel>, SceneError> {
    install_log_handler();
    let mut loaded = match (&physics.built, physics.model.as_os_str().is_empty()) {
        (None, false) => read(&find(&physics.model)?, &physics.allow)?,
        (Some(built), true) => build(built)?,
        (both, _) => {
            let found = if both.is_some() { "both" } else { "neither" };
            return Err(SceneError::Invalid {
                field: "physics".into(),
                reason: format!("expected either `model`, a file, or `built`, found {found}"),
            });
        }
    };
    loaded.opt_mut().disableflags |= mjtDisableBit::mjDSBL_AUTORESET as i32;
    if loaded.narena() > MOST_MEMORY {
        return Err(SceneError::Model {
            path: physics.model.clone(),
            reason: format!(
                "<size memory> claims {} bytes; at most {MOST_MEMORY} are given",
                loaded.narena()
            ),
        });
    }
    changes::apply(&physics.changes, &mut loaded)?;
    let timestep = loaded.opt().timestep;
    if !(timestep.is_finite() && timestep > 0.0) {
        return Err(SceneError::Model {
            path: physics.model.clone(),
            reason: format!("the time step must be a positive number, found {timestep}"),
        });
    }
    // Copies of the model, of environments that change theirs, share this; comparing it takes no time then.
    loaded.layout();
    Ok(Arc::new(loaded))
}

/// Reads a file and everything it names, none of it outside its folder, the model folder it was found in, and those of
/// `allowed`, which are relative to its folder.
fn read(path: &Path, allowed: &[PathBuf]) -> Result<MjModel, SceneError> {
    let failed = |reason: String| SceneError::Model {
        path: path.into(),
        reason,
    };
    let mjcf = open(path, allowed)?;
    MjModel::from_xml(path).map_err(|cause| match cause {
        MjModelError::LoadFailed(message) => mjcf.located(&message),
        other => failed(other.to_string()),
    })
}

/// The MJCF files of a model, after a look at every name in them.
pub(super) fn open(path: &Path, allowed: &[PathBuf]) -> Result<Mjcf, SceneError> {
    let failed = |reason: String| SceneError::Model {
        path: path.into(),
        reason,
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let home = folder.canonicalize().map_err(|error| failed(error.to_string()))?;
    let mut roots: Vec<PathBuf> = model_folders()
        .iter()
        .filter_map(|root| root.canonicalize().ok())
        .filter(|root| home.starts_with(root))
        .collect();
    for (index, extra) in allowed.iter().enumerate() {
        let field = format!("physics.allow.{index}");
        match folder.join(extra).canonicalize() {
            Ok(root) if root.is_dir() => roots.push(root),
            _ => {
                let reason = format!("{:?} is no folder, seen from {}", extra.display(), folder.display());
                return Err(invalid(field, reason));
            }
        }
    }
    roots.push(home);
    Mjcf::read(path, &roots)
}

/// Makes a model path that is meant relative to the file which names it (or, on the command line, to the current folder)
/// an absolute one, so that the scene can be loaded from anywhere. Paths without such a file are left for the
/// [`model_folders`].
pub(super) fn beside_its_scene(file: &mut Loaded<Scene>) -> Result<(), SceneError> {
    let named = &file.value.physics.model;
    if named.as_os_str().is_empty() || named.is_absolute() {
        return Ok(());
    }
    let folder = match file.origin("physics.model") {
        Some(Origin::File { path, .. }) => path.parent().map(Path::to_path_buf),
        Some(Origin::Override(_)) => Some(PathBuf::new()),
        None => None,
    };
    let Some(path) = folder.map(|folder| folder.join(named)).filter(|path| path.is_file()) else {
        return Ok(());
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    // Without `..`, but the last part may be a link: what the model includes is meant relative to the link.
    if let Ok(parent) = parent.canonicalize() {
        file.value.physics.model = parent.join(name);
        file.resolved_text = files::to_text(&file.value)?;
    }
    Ok(())
}

fn build(built: &Built) -> Result<MjModel, SceneError> {
    let text = match built {
        Built::Maze(maze) => maze.mjcf(),
        Built::Blocks(blocks) => blocks.mjcf(),
    };
    let text = text.map_err(|(field, reason)| SceneError::Invalid {
        field: format!("physics.built.{field}"),
        reason,
    })?;
    MjModel::from_xml_string(&text).map_err(|cause| SceneError::Invalid {
        field: "physics.built".into(),
        reason: format!("MuJoCo refuses the model: {cause}"),
    })
}

pub(super) fn find(model: &Path) -> Result<PathBuf, SceneError> {
    if model.is_absolute() && model.is_file() {
        return Ok(model.into());
    }
    let folders = model_folders();
    folders
        .iter()
        .map(|folder| folder.join(model))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let existing: Vec<_> = folders
                .iter()
                .filter(|folder| folder.is_dir())
                .map(|folder| folder.display().to_string())
                .collect();
            let searched = if existing.is_empty() {
                "no existing folder".into()
            } else {
                existing.join(", ")
            };
            SceneError::ModelNotFound {
                model: model.into(),
                searched,
            }
        })
}

/// Sends `MuJoCo`'s messages to the program's log. Without this it writes `MUJOCO_LOG.TXT` into the working directory.
fn install_log_handler() {
    static ONCE: Once = Once::new();
    // SAFETY: nothing can use MuJoCo without a model, models are loaded by `load` only, and `Once` holds back every
    // other thread that wants to load one until the handler is in place.
    ONCE.call_once(|| unsafe { set_log_handler(handle_message) });
}

/// Whether no warning of this kind has been shown yet: those of a simulation that diverges would come with every episode.
/// Such episodes are counted where they are cut off.
fn is_new(subject: &str) -> bool {
    static SHOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    const MOST: usize = 64;
    // What follows are the time and the number of a joint.
    let kind = subject.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    shown.len() < MOST && shown.insert(kind.to_owned())
}

fn handle_message(message: &MjLogMessage) {
    let subject = message.subject();
    match message.level() {
        // The process ends when this returns, so the reason has to reach the user whatever the log is set to.
        MjtLogLevel::mjLOG_ERROR => {
            let body = message.body().unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "MuJoCo cannot go on: {subject} {body}");
        }
        MjtLogLevel::mjLOG_WARNING if is_new(subject) => warn!("MuJoCo: {subject}"),
        _ => debug!("MuJoCo: {subject}"),
    }
}
