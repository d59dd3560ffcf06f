//! Run folders: everything one execution of an experiment leaves behind, ready to be zipped and sent.
//!
//! ```text
//! runs/kitchen_spirl_cl/
//!   experiment.ron      the resolved experiment
//!   version.txt         program, version, processor, experiment, command line
//!   skills/             the skill model: trained by this run, with metrics, or copied from where it was
//!   seed_0/             one learner: metrics (TensorBoard events and CSV), checkpoints
//!   evaluation.json     results of the last evaluation
//!   learning.svg        completed elements against environment steps
//! ```

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{RunError, SkillFolder};

const EXPERIMENT: &str = "experiment.ron";
const VERSION: &str = "version.txt";
/// How the line of [`VERSION`] begins that names the experiment.
const EXPERIMENT_LINE: &str = "experiment ";
/// In runs of earlier versions, names the folder of a skill model that lies elsewhere.
const SKILLS_USED: &str = "skills_from.txt";
/// In the folder of a skill model that is a copy, names where it comes from.
const COPIED_FROM: &str = "copied_from.txt";

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
    /// The folder of a new run holds something else.
    #[error(
        "{}: expected a new or an empty folder, found `{found}` in it and no run; choose another folder (--out)",
        path.display()
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// The run's learners stand on a skill model of its own.
    #[error(
        "{}: this run has trained a skill model of its own (skills/), which is not replaced by {}; \
         choose another folder (--out)",
        run.display(), skills.display()
    )]
    OwnSkills {
        /// The run.
        run: PathBuf,
        /// The other skill model.
        skills: PathBuf,
    },
    /// The run is one of another experiment.
    #[error("{} is a run of the experiment `{found}`, not of `{wanted}`; name that one to go on with it", path.display())]
    OtherExperiment {
        /// The folder.
        path: PathBuf,
        /// The run's experiment.
        found: String,
        /// The one that was named.
        wanted: String,
    },
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
    made: Made,
}

/// What of a run folder this process made, and may remove again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// The run was there.
    Nothing,
    /// The folder was there, and empty.
    Files,
    /// Everything.
    Folder,
}

impl RunFolder {
    /// Makes the folder of a new run of the experiment `name` and stores the resolved experiment in it. A folder that is
    /// there must be empty.
    pub fn create(root: &Path, name: &str, resolved_experiment: &str) -> Result<Self, RunFolderError> {
        let folder = Self {
            root: root.to_path_buf(),
            made: if root.is_dir() { Made::Files } else { Made::Folder },
        };
        if folder.experiment_file().exists() {
            return Err(RunFolderError::Taken(root.to_path_buf()));
        }
        if let Some(found) = first_in(root) {
            return Err(RunFolderError::NotEmpty {
                path: root.to_path_buf(),
                found,
            });
        }
        make_folder(root)?;
        let write = || {
            folder.write(VERSION, &version_text(name))?;
            // Last, because with it the folder counts as a run.
            folder.write(EXPERIMENT, resolved_experiment)
        };
        if let Err(error) = write() {
            folder.remove_if_unused();
            return Err(error);
        }
        Ok(folder)
    }

    /// Removes what [`create`](Self::create) made, unless a stage has begun: a run whose settings turned out to be wrong
    /// leaves nothing behind. A run that was there before stays, and so does whatever else is in the folder.
    pub fn remove_if_unused(&self) {
        if self.made == Made::Nothing {
            return;
        }
        let is_stage = |name: &str| name == "skills" || name.starts_with("seed_");
        let unused = fs::read_dir(&self.root).is_ok_and(|entries| {
            !entries
                .flatten()
                .any(|entry| is_stage(&entry.file_name().to_string_lossy()))
        });
        if unused {
            // What cannot be removed does no harm.
            for name in [EXPERIMENT, VERSION] {
                let _ = fs::remove_file(self.root.join(name));
            }
            if self.made == Made::Folder {
                let _ = fs::remove_dir(&self.root);
            }
        }
    }

    /// Stores the resolved experiment of a run that goes on with other overrides than before.
    pub fn note_experiment(&self, resolved: &str) -> Result<(), RunFolderError> {
        if self.read(EXPERIMENT)? != resolved {
            self.write(EXPERIMENT, resolved)?;
        }
        Ok(())
    }

    /// Opens the folder of a run that was started before.
    pub fn open(root: &Path) -> Result<Self, RunFolderError> {
        let folder = Self {
            root: root.to_path_buf(),
            made: Made::Nothing,
        };
        if folder.experiment_file().is_file() {
            Ok(folder)
        } else {
            Err(RunFolderError::NotARun {
                path: root.to_path_buf(),
            })
        }
    }

    /// Refuses a run that was begun with another experiment than the one named. Runs of earlier versions do not say.
    pub fn expect_experiment(&self, name: &str) -> Result<(), RunFolderError> {
        let version = self.read(VERSION).unwrap_or_default();
        let found = version.lines().find_map(|line| line.strip_prefix(EXPERIMENT_LINE));
        match found {
            Some(found) if default_name(found) != default_name(name) => Err(RunFolderError::OtherExperiment {
                path: self.root.clone(),
                found: found.to_string(),
                wanted: name.to_string(),
            }),
            _ => Ok(()),
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
        self.root.join(EXPERIMENT)
    }

    /// Metrics and checkpoints of the skill model.
    pub fn skills(&self) -> PathBuf {
        self.root.join("skills")
    }

    /// Metrics and checkpoints of the learner with this seed.
    pub fn seed(&self, seed: u64) -> PathBuf {
        self.root.join(format!("seed_{seed}"))
    }

    /// The skill model that the run's learners stand on. Runs of earlier versions may only name one that lies
    /// elsewhere.
    pub fn skills_used(&self) -> Result<Option<PathBuf>, RunFolderError> {
        if self.skills().is_dir() {
            return Ok(Some(self.skills()));
        }
        if self.root.join(SKILLS_USED).is_file() {
            return Ok(Some(PathBuf::from(self.read(SKILLS_USED)?.trim())));
        }
        Ok(None)
    }

    /// Keeps a copy of the skill model that the run's learners stand on, unless it is the run's own: then the run needs
    /// nothing outside its folder. A copy of another model is replaced, one that the run has trained is not.
    pub fn note_skills(&self, skills: &Path) -> Result<(), RunError> {
        let (from, _) = SkillFolder::open(skills)?;
        let target = self.skills();
        let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if resolved(from.root()) == resolved(&target) {
            return Ok(());
        }
        if target.exists() && !target.join(COPIED_FROM).is_file() {
            return Err(RunError::Folder(RunFolderError::OwnSkills {
                run: self.root.clone(),
                skills: skills.to_path_buf(),
            }));
        }
        // Under another name first: `skills` is whole or not there.
        let [partial, old] = ["partial", "old"].map(|what| self.root.join(format!(".skills.{what}")));
        let copy = || -> Result<(), RunError> {
            remove_folder(&partial)?;
            remove_folder(&old)?;
            from.copy_to(&partial)?;
            let note = format!("{}\n", resolved(from.root()).display());
            write_whole(&partial.join(COPIED_FROM), &note)?;
            if target.exists() {
                rename(&target, &old)?;
            }
            rename(&partial, &target)?;
            Ok(remove_folder(&old)?)
        };
        copy().inspect_err(|_| {
            // The first error is the one that counts.
            let _ = fs::remove_dir_all(&partial);
        })
    }

    /// Writes a text file of the run whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, RunFolderError> {
        let path = self.root.join(name);
        write_whole(&path, text)?;
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

/// The name a run of this experiment has by default: `kitchen/spirl_cl` and `configs/kitchen/spirl_cl.ron` give
/// `kitchen_spirl_cl`.
pub fn default_name(experiment: &str) -> String {
    let path = experiment.trim_end_matches(".ron").trim_matches(['/', '.']);
    path.strip_prefix("configs/").unwrap_or(path).replace(['/', '\\'], "_")
}

/// Makes a folder and its parents.
pub fn make_folder(path: &Path) -> Result<(), RunFolderError> {
    fs::create_dir_all(path).map_err(|source| RunFolderError::Io {
        path: path.to_path_buf(),
        action: "make the folder",
        source,
    })
}

fn remove_folder(path: &Path) -> Result<(), RunFolderError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(RunFolderError::Io {
            path: path.to_path_buf(),
            action: "remove",
            source,
        }),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), RunFolderError> {
    fs::rename(from, to).map_err(|source| RunFolderError::Io {
        path: from.to_path_buf(),
        action: "rename",
        source,
    })
}

/// The name of one thing in a folder, the first in the order of names; `None` if it is empty or no folder.
fn first_in(folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?;
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.min()
}

/// Writes a text file whole or not at all, in the place of an older one.
pub fn write_whole(path: &Path, text: &str) -> Result<(), RunFolderError> {
    let failed = |source| RunFolderError::Io {
        path: path.to_path_buf(),
        action: "write",
        source,
    };
    let name = path
        .file_name()
        .ok_or_else(|| failed(std::io::ErrorKind::IsADirectory.into()))?;
    let partial = path.with_file_name(format!(".{}.partial", name.to_string_lossy()));
    let write = || {
        let mut file = fs::File::create(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|error| {
        // The first error is the one that counts.
        let _ = fs::remove_file(&partial);
        failed(error)
    })
}

/// The processor's name, as far as the system tells it.
pub fn processor() -> String {
    let names = fs::read_to_string("/proc/cpuinfo").ok();
    let first = names.as_deref().and_then(|text| {
        let mut names = text.lines().filter_map(|line| line.strip_prefix("model name"));
        names.next().map(|rest| rest.trim_matches([' ', '\t', ':']).to_string())
    });
    first.unwrap_or_else(|| std::env::consts::ARCH.to_string())
}

fn version_text(experiment: &str) -> String {
    let command: Vec<String> = std::env::args().collect();
    format!(
        "apprentice {}\nMuJoCo {}\nprocessor {}\n{EXPERIMENT_LINE}{experiment}\ncommand {}\n",
        env!("CARGO_PKG_VERSION"),
        mujoco_rs::mujoco_version(),
        processor(),
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
        let folder = RunFolder::create(&root, "kitchen/sac", "(scene: \"kitchen\")").unwrap();
        assert_eq!(folder.read("experiment.ron").unwrap(), "(scene: \"kitchen\")");
        assert!(matches!(
            RunFolder::create(&root, "kitchen/sac", "()"),
            Err(RunFolderError::Taken(_))
        ));
        assert_eq!(RunFolder::open(&root).unwrap().root(), folder.root());
        folder.expect_experiment("configs/kitchen/sac.ron").unwrap();
        let message = folder.expect_experiment("kitchen/spirl").unwrap_err().to_string();
        assert!(
            message.contains("of the experiment `kitchen/sac`, not of `kitchen/spirl`"),
            "{message}"
        );
        let message = RunFolder::open(&parent.path().join("frist")).unwrap_err().to_string();
        assert!(message.contains("first"), "{message}");
    }

    #[test]
    fn only_unused_folders_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&parent.path().join("run"), "mine", "()").unwrap();
        make_folder(&folder.skills()).unwrap();
        folder.remove_if_unused();
        assert_eq!(folder.read("experiment.ron").unwrap(), "()");
        fs::remove_dir(folder.skills()).unwrap();
        RunFolder::open(folder.root()).unwrap().remove_if_unused();
        assert!(folder.root().exists(), "a run that was there stays");
        folder.remove_if_unused();
        assert!(!folder.root().exists());
        fs::create_dir(folder.root()).unwrap();
        RunFolder::create(folder.root(), "mine", "()")
            .unwrap()
            .remove_if_unused();
        assert_eq!(first_in(folder.root()), None);
        assert!(folder.root().exists(), "a folder that was there stays");
    }

    #[test]
    fn folders_with_other_things_are_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("version.txt"), "mine").unwrap();
        let message = RunFolder::create(parent.path(), "mine", "()").unwrap_err().to_string();
        assert!(message.contains("found `version.txt` in it"), "{message}");
        assert_eq!(fs::read_to_string(parent.path().join("version.txt")).unwrap(), "mine");
    }

    #[test]
    fn names_come_from_experiments() {
        assert_eq!(default_name("kitchen/spirl_cl"), "kitchen_spirl_cl");
        assert_eq!(default_name("./configs/mine.ron"), "mine");
    }
}
