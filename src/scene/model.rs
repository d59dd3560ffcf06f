//! Finding and loading `MuJoCo` models.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use bevy::log::{debug, warn};
use mujoco_rs::logging::set_log_handler;
use mujoco_rs::mujoco_c::mjtDisableBit;
use mujoco_rs::wrappers::mj_logging::{MjLogMessage, MjtLogLevel};
use mujoco_rs::wrappers::mj_model::MjModel;

use super::{Built, PhysicsSpec, SceneError};

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

/// Finds and loads a model, or builds it, with `MuJoCo`'s automatic reset of unstable states off.
pub(super) fn load(physics: &PhysicsSpec) -> Result<Arc<MjModel>, SceneError> {
    install_log_handler();
    let mut loaded = match (&physics.built, physics.model.as_os_str().is_empty()) {
        (None, false) => {
            let path = find(&physics.model)?;
            MjModel::from_xml(&path).map_err(|cause| SceneError::Model {
                path,
                reason: cause.to_string(),
            })?
        }
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
    Ok(Arc::new(loaded))
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

fn find(model: &Path) -> Result<PathBuf, SceneError> {
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

fn handle_message(message: &MjLogMessage) {
    let subject = message.subject();
    match message.level() {
        // The process ends when this returns, so the reason has to reach the user whatever the log is set to.
        MjtLogLevel::mjLOG_ERROR => {
            let body = message.body().unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "MuJoCo cannot go on: {subject} {body}");
        }
        MjtLogLevel::mjLOG_WARNING => warn!("MuJoCo: {subject}"),
        _ => debug!("MuJoCo: {subject}"),
    }
}
