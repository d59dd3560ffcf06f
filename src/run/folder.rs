//! Run folders: everything one execution of an experiment leaves behind, ready to be zipped and sent.
//!
//! ```text
//! runs/kitchen_spirl_cl/
//!   experiment.ron      the resolved experiment
//!   version.txt         program, version, processor, command line
//!   skills/             the skill model and its training: metrics, checkpoints
//!   seed_0/             one learner: metrics (TensorBoard events and CSV), checkpoints
//!   evaluation.json     results of the last evaluation
//!   learning.svg        completed elements against environment steps
//! ```

use std::fs;
use std::path::{Path, PathBuf};

/// Names the folder of a skill model that lies elsewhere.
const SKILLS_USED: &str = "skills_from.txt";

/// A run folder could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// An operation on a file or folder failed.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The folder holds another run.
    #[error(
        "{} holds a run already; go on with it (--resume), or choose another folder (--out)",
        .0.display()
    )]
    Taken(PathBuf),
    /// The folder holds no run.
    #[error("{} is no run folder: it has no experiment.ron{}", path.display(), nearest(path))]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
}

/// The folder of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run and stores the resolved experiment in it.
    pub fn create(root: &Path, resolved_experiment: &str) -> Result<Self, RunFolderError> {
        let folder = Self {
            root: root.to_path_buf(),
        };
        if folder.experiment_file().exists() {
            return Err(RunFolderError::Taken(root.to_path_buf()));
        }
        make_folder(root)?;
        folder.write("experiment.ron", resolved_experiment)?;
        folder.write("version.txt", &version_text())?;
        Ok(folder)
    }

    /// Opens the folder of a run that was started before.
    pub fn open(root: &Path) -> Result<Self, RunFolderError> {
        let folder = Self {
            root: root.to_path_buf(),
        };
        if folder.experiment_file().is_file() {
            Ok(folder)
        } else {
            Err(RunFolderError::NotARun {
                path: root.to_path_buf(),
            })
        }
    }

    /// The default folder for an experiment: `runs/NAME`, or `runs/NAME_2` and so on if that is taken.
    pub fn next_free(experiment: &str) -> PathBuf {
        let name = default_name(experiment);
        let mut candidate = Path::new("runs").join(&name);
        let mut number = 2;
        while candidate.exists() {
            candidate = Path::new("runs").join(format!("{name}_{number}"));
            number += 1;
        }
        candidate
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved experiment.
    pub fn experiment_file(&self) -> PathBuf {
        self.root.join("experiment.ron")
    }

    /// Metrics and checkpoints of the skill model.
    pub fn skills(&self) -> PathBuf {
        self.root.join("skills")
    }

    /// Metrics and checkpoints of the learner with this seed.
    pub fn seed(&self, seed: u64) -> PathBuf {
        self.root.join(format!("seed_{seed}"))
    }

    /// The skill model that the run's learners stand on: its own, or the one it was started with.
    pub fn skills_used(&self) -> Result<Option<PathBuf>, RunFolderError> {
        if self.root.join(SKILLS_USED).is_file() {
            return Ok(Some(PathBuf::from(self.read(SKILLS_USED)?.trim())));
        }
        Ok(Some(self.skills()).filter(|skills| skills.is_dir()))
    }

    /// Notes which skill model the run's learners stand on, if it is not the run's own.
    pub fn note_skills(&self, skills: &Path) -> Result<(), RunFolderError> {
        if skills == self.skills() || skills == self.root {
            return Ok(());
        }
        let path = skills.canonicalize().unwrap_or_else(|_| skills.to_path_buf());
        self.write(SKILLS_USED, &path.display().to_string()).map(|_| ())
    }

    /// Writes a small text file whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, RunFolderError> {
        let path = self.root.join(name);
        let failed = |action, source| RunFolderError::Io {
            path: path.clone(),
            action,
            source,
        };
        let mut file = tempfile::NamedTempFile::new_in(&self.root).map_err(|error| failed("write", error))?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(|error| failed("write", error))?;
        file.as_file().sync_all().map_err(|error| failed("write", error))?;
        file.persist(&path).map_err(|error| failed("write", error.error))?;
        Ok(path)
    }

    /// Reads a text file of the run.
    pub fn read(&self, name: &str) -> Result<String, RunFolderError> {
        let path = self.root.join(name);
        fs::read_to_string(&path).map_err(|source| RunFolderError::Io {
            path,
            action: "read",
            source,
        })
    }
}

/// The name a run of this experiment has by default: `kitchen/spirl_cl` gives `kitchen_spirl_cl`.
pub fn default_name(experiment: &str) -> String {
    experiment
        .trim_end_matches(".ron")
        .trim_matches(['/', '.'])
        .replace(['/', '\\'], "_")
}

/// Makes a folder and its parents.
pub fn make_folder(path: &Path) -> Result<(), RunFolderError> {
    fs::create_dir_all(path).map_err(|source| RunFolderError::Io {
        path: path.to_path_buf(),
        action: "make the folder",
        source,
    })
}

fn version_text() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            text.lines().find_map(|line| {
                line.strip_prefix("model name")
                    .map(|rest| rest.trim_matches([' ', '\t', ':']).to_string())
            })
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_string());
    let command: Vec<String> = std::env::args().collect();
    format!(
        "apprentice {}\nMuJoCo {}\nprocessor {processor}\ncommand {}\n",
        env!("CARGO_PKG_VERSION"),
        mujoco_rs::mujoco_version(),
        command.join(" "),
    )
}

fn nearest(path: &Path) -> String {
    let runs: Vec<String> = path
        .parent()
        .and_then(|parent| fs::read_dir(parent).ok())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("experiment.ron").is_file())
        .map(|entry| entry.path().display().to_string())
        .collect();
    if runs.is_empty() {
        String::new()
    } else {
        format!(" (runs nearby: {})", runs.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_run_folder_is_never_taken_twice() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("first");
        let folder = RunFolder::create(&root, "(scene: \"kitchen\")").unwrap();
        assert_eq!(folder.read("experiment.ron").unwrap(), "(scene: \"kitchen\")");
        assert!(matches!(RunFolder::create(&root, "()"), Err(RunFolderError::Taken(_))));
        assert_eq!(RunFolder::open(&root).unwrap(), folder);
        let message = RunFolder::open(&parent.path().join("frist")).unwrap_err().to_string();
        assert!(message.contains("first"), "{message}");
    }

    #[test]
    fn names_come_from_experiments() {
        assert_eq!(default_name("kitchen/spirl_cl"), "kitchen_spirl_cl");
        assert_eq!(default_name("./configs/mine.ron"), "configs_mine");
    }
}
