//! Run folders: everything one execution of an experiment leaves behind, ready to be zipped and sent.
//!
//! ```text
//! runs/kitchen_spirl_cl/
//!   experiment.ron      the resolved experiment
//!   version.txt         program, version, processor, experiment, command line, and one for each time it went on
//!   scene.ron           the resolved scene
//!   model/              the files of its MJCF model, where that is the user's own
//!   skills/             the skill model: trained by this run, with metrics, or copied from where it was
//!   seed_0/             one learner: metrics (TensorBoard events and CSV), checkpoints
//!   evaluation.json     results of the last evaluation; with overrides evaluation_with_overrides.json
//!   learning.svg        completed elements against environment steps
//!   .lock               empty; locked while a process works in the run
//! ```

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::kept_scene::{remove_kept, source_in, with_source};
use super::{RunError, SkillFolder};
use crate::checkpoint::Checkpoints;
use crate::experiment::Experiment;
use crate::files::{self, FileKind, Loaded, Origin, folder_of, sync_folder};

const EXPERIMENT: &str = "experiment.ron";
const VERSION: &str = "version.txt";
/// How it begins.
const PROGRAM: &str = "apprentice ";
/// How the folders of learners begin.
const SEED: &str = "seed_";
/// In the folder of a learner, its checkpoints.
const CHECKPOINTS: &str = "checkpoints";
/// Begins the line of [`VERSION`] with the command that began the run.
const COMMAND_LINE: &str = "command ";

/// Begins a line with another command that the run went on with.
const WENT_ON_LINE: &str = "went on with ";

/// How the line of [`VERSION`] begins that names the experiment.
const EXPERIMENT_LINE: &str = "experiment ";
/// In runs of earlier versions, names the folder of a skill model that lies elsewhere.
const SKILLS_USED: &str = "skills_from.txt";
/// Locked while a process works in the run.
const LOCK: &str = ".lock";
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
    /// Another process works in the run.
    #[error("{} is in use: another process works in this run; wait for its end, or end it", .0.display())]
    InUse(PathBuf),
    /// The folder of something new holds something else.
    #[error(
        "{}: expected a new or an empty folder, found `{found}` in it; choose another folder (--out)",
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
    /// The run's learners stand on the model that it has a copy of.
    #[error(
        "{}: learners of this run have practised with the skill model in its skills/, which is not replaced by another \
         one, {}; choose another folder (--out)",
        run.display(), skills.display()
    )]
    UsedSkills {
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
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    made: Made,
    /// Keeps other processes from working in the run as long as this lives; none if it is only read.
    _lock: Option<File>,
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
    /// What checkpoints of learners hold, as their manifests say.
    pub(super) const LEARNER: &str = "learner";

    /// Makes the folder of a new run of the experiment `name`, locks it and stores the resolved experiment in it. A
    /// folder that is there must be empty.
    pub fn create(root: &Path, name: &str, resolved_experiment: &str) -> Result<Self, RunFolderError> {
        let made = if root.is_dir() { Made::Files } else { Made::Folder };
        let expect_new = || match root.join(EXPERIMENT).exists() {
            true => Err(RunFolderError::Taken(root.to_path_buf())),
            false => expect_empty(root),
        };
        expect_new()?;
        make_folder(root)?;
        let folder = Self {
            root: root.to_path_buf(),
            made,
            _lock: Some(lock(root)?),
        };
        // Another process may have been faster.
        expect_new()?;
        remove_temporaries(root);
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
        let is_stage = |name: &str| name == "skills" || name.starts_with(SEED);
        let unused = fs::read_dir(&self.root).is_ok_and(|entries| {
            !entries
                .flatten()
                .any(|entry| is_stage(&entry.file_name().to_string_lossy()))
        });
        if unused {
            // What cannot be removed does no harm.
            remove_kept(&self.root);
            for name in [EXPERIMENT, VERSION, LOCK] {
                let _ = fs::remove_file(self.root.join(name));
            }
            if self.made == Made::Folder {
                let _ = fs::remove_dir(&self.root);
            }
        }
    }

    /// Stores the resolved experiment of a run that goes on with other overrides than before, and the command that it goes
    /// on with.
    pub fn note_experiment(&self, resolved: &str) -> Result<(), RunFolderError> {
        let (known, now) = (self.read(VERSION).unwrap_or_default(), command_line());
        let named = |line: &str| line.strip_prefix(COMMAND_LINE).or(line.strip_prefix(WENT_ON_LINE)) == Some(&now);
        if !known.lines().any(named) {
            self.write(VERSION, &format!("{known}{WENT_ON_LINE}{now}\n"))?;
        }
        if self.read(EXPERIMENT)? != resolved {
            self.write(EXPERIMENT, resolved)?;
        }
        Ok(())
    }

    /// Opens the folder of a run that was started before and goes on now, and locks it.
    pub fn resume(root: &Path) -> Result<Self, RunFolderError> {
        let mut folder = Self::open(root)?;
        folder._lock = Some(lock(root)?);
        remove_temporaries(root);
        Ok(folder)
    }

    /// Opens the folder of a run that was started before, to read what is in it.
    pub fn open(root: &Path) -> Result<Self, RunFolderError> {
        let folder = Self {
            root: root.to_path_buf(),
            made: Made::Nothing,
            _lock: None,
        };
        if folder.experiment_file().is_file() {
            Ok(folder)
        } else {
            Err(RunFolderError::NotARun {
                path: root.to_path_buf(),
            })
        }
    }

    /// The experiment that the run was begun with, as it was named then. Runs of earlier versions do not say.
    pub fn experiment_name(&self) -> Option<String> {
        let version = self.read(VERSION).ok()?;
        let found = version.lines().find_map(|line| line.strip_prefix(EXPERIMENT_LINE));
        found.map(str::to_owned)
    }

    /// Refuses a run that was begun with another experiment than the one named. Runs of earlier versions do not say.
    pub fn expect_experiment(&self, name: &str) -> Result<(), RunFolderError> {
        match self.experiment_name() {
            Some(found) if !same_experiment(&found, name) => Err(RunFolderError::OtherExperiment {
                path: self.root.clone(),
                found,
                wanted: name.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// The run and the seed that a learner's checkpoint belongs to, from the folder it is in:
    /// `RUN/seed_N/checkpoints/step_M`. `None` if it lies anywhere else.
    pub fn of_checkpoint(checkpoint: &Path) -> Option<(Self, u64)> {
        let of = |checkpoint: &Path| {
            let checkpoints = checkpoint.parent()?;
            let learner = checkpoints.parent()?;
            let seed = learner.file_name()?.to_str()?.strip_prefix(SEED)?.parse().ok()?;
            let run = learner.parent().filter(|run| *run != Path::new(""))?;
            let lies_there = checkpoints.file_name()? == CHECKPOINTS;
            lies_there.then(|| Self::open(run).ok())?.map(|run| (run, seed))
        };
        // As it was named, so that messages name it so; but a path such as `.` does not say where it is.
        of(checkpoint).or_else(|| of(&resolved(checkpoint)))
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

    /// The runs of an experiment in folders named as [`next_free`](Self::next_free) names them, in that order.
    pub fn all_of(experiment: &str) -> Vec<PathBuf> {
        all_in(Path::new("runs"), experiment)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved experiment.
    fn experiment_file(&self) -> PathBuf {
        self.root.join(EXPERIMENT)
    }

    /// The run's experiment, with overrides laid over it. It stands on the scene that the run keeps, unless an override
    /// names one.
    pub fn experiment(&self, overrides: &[String]) -> Result<Experiment, RunError> {
        let loaded = self.load_experiment(overrides)?;
        let is_named = matches!(loaded.origin("scene"), Some(Origin::Override(_)));
        let mut experiment = loaded.value;
        if !is_named {
            self.attach_scene(&mut experiment)?;
        }
        Ok(experiment)
    }

    /// The run's experiment as its file says it.
    pub(super) fn stored_experiment(&self) -> Result<Experiment, RunError> {
        Ok(self.load_experiment(&[])?.value)
    }

    fn load_experiment(&self, overrides: &[String]) -> Result<Loaded<Experiment>, RunError> {
        let text = self.read(EXPERIMENT)?;
        let loaded = files::load_text(FileKind::Experiment, &self.experiment_file(), &text, overrides)?;
        Ok(loaded)
    }

    /// The file from which the kept scene was made, if it is still there.
    pub(super) fn scene_source(&self) -> Option<PathBuf> {
        source_in(&self.read(VERSION).ok()?)
    }

    /// Notes from which file the kept scene was made.
    pub(super) fn note_scene_source(&self, source: Option<&Path>) -> Result<(), RunFolderError> {
        let known = self.read(VERSION).unwrap_or_default();
        self.write(VERSION, &with_source(&known, source)).map(drop)
    }

    /// Metrics and checkpoints of the skill model.
    pub fn skills(&self) -> PathBuf {
        self.root.join("skills")
    }

    /// Metrics and checkpoints of the learner with this seed.
    pub fn seed(&self, seed: u64) -> PathBuf {
        self.root.join(format!("{SEED}{seed}"))
    }

    /// The folders of all learners that are there, in the order of their names.
    pub fn learners(&self) -> Result<Vec<PathBuf>, RunFolderError> {
        let failed = |source| RunFolderError::Io {
            path: self.root.clone(),
            action: "list",
            source,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let seed = name.to_str().and_then(|name| name.strip_prefix(SEED));
            if seed.is_some_and(|seed| seed.parse::<u64>().is_ok()) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// The checkpoints of the learner with this folder, of which the last `keep` stay.
    pub(super) fn learner_checkpoints(learner: &Path, keep: usize) -> Checkpoints {
        Checkpoints::new(learner.join(CHECKPOINTS), Self::LEARNER, keep)
    }

    /// Whether a learner of the run has a checkpoint.
    pub fn has_practised(&self) -> Result<bool, RunError> {
        for learner in self.learners()? {
            if !Self::learner_checkpoints(&learner, 1).steps()?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
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

    /// Whether the skill model in the run is the copy of one that was trained elsewhere.
    pub fn skills_are_copied(&self) -> bool {
        self.skills().join(COPIED_FROM).exists()
    }

    /// The skill model in `skills`, if [`note_skills`](Self::note_skills) would copy it; `None` if it is the run's own.
    ///
    /// # Errors
    /// The run has trained a model of its own, or its learners have practised with another one.
    pub fn expect_skills(&self, skills: &Path) -> Result<Option<SkillFolder>, RunError> {
        let (from, _) = SkillFolder::open(skills)?;
        let target = self.skills();
        if resolved(from.root()) == resolved(&target) {
            return Ok(None);
        }
        if target.exists() && !target.join(COPIED_FROM).is_file() {
            return Err(RunError::Folder(RunFolderError::OwnSkills {
                run: self.root.clone(),
                skills: skills.to_path_buf(),
            }));
        }
        // A copy that cannot be read any more serves nobody.
        let copied = SkillFolder::open(&target).and_then(|(copy, _)| copy.checksum());
        if let Ok(Some(copied)) = copied
            && from.checksum()? != Some(copied)
            && self.has_practised()?
        {
            return Err(RunError::Folder(RunFolderError::UsedSkills {
                run: self.root.clone(),
                skills: skills.to_path_buf(),
            }));
        }
        Ok(Some(from))
    }

    /// Keeps a copy of the skill model that the run's learners stand on, unless it is the run's own: then the run needs
    /// nothing outside its folder. A copy of another model is replaced as long as no learner has practised; one that
    /// the run has trained is not.
    pub fn note_skills(&self, skills: &Path) -> Result<(), RunError> {
        let Some(from) = self.expect_skills(skills)? else {
            return Ok(());
        };
        let target = self.skills();
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

/// Whether two names are those of one experiment: they give runs the same name, or lead to one file now.
pub fn same_experiment(one: &str, other: &str) -> bool {
    default_name(one) == default_name(other) || files::means_the_same(FileKind::Experiment, one, other)
}

fn all_in(runs: &Path, experiment: &str) -> Vec<PathBuf> {
    let name = default_name(experiment);
    let number = |path: &Path| -> Option<u64> {
        let rest = path.file_name()?.to_str()?.strip_prefix(&name)?;
        if rest.is_empty() {
            return Some(1);
        }
        let digits = rest.strip_prefix('_')?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    let mut found: Vec<(u64, PathBuf)> = fs::read_dir(runs)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|path| Some((number(&path)?, path)))
        // `NAME_2` may be the first run of an experiment of that name.
        .filter(|(_, path)| RunFolder::open(path).is_ok_and(|run| run.expect_experiment(experiment).is_ok()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Keeps other processes from working in a run as long as the file lives.
fn lock(root: &Path) -> Result<File, RunFolderError> {
    let path = root.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| RunFolderError::Io {
        path,
        action: "write",
        source,
    })?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(RunFolderError::InUse(root.to_path_buf())),
        // A file system without locks is no reason to do nothing at all.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// Makes a folder and its parents.
pub fn make_folder(path: &Path) -> Result<(), RunFolderError> {
    fs::create_dir_all(path).map_err(|source| RunFolderError::Io {
        path: path.to_path_buf(),
        action: "make the folder",
        source,
    })
}

/// Removes a folder with all that is in it; one that is not there is no error.
pub(super) fn remove_folder(path: &Path) -> Result<(), RunFolderError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(RunFolderError::Io {
            path: path.to_path_buf(),
            action: "remove",
            source,
        }),
        _ => Ok(()),
    }
}

/// Gives a file or folder its final name.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), RunFolderError> {
    fs::rename(from, to).map_err(|source| RunFolderError::Io {
        path: from.to_path_buf(),
        action: "rename",
        source,
    })?;
    sync_folder(folder_of(to));
    Ok(())
}

/// Refuses a folder that holds anything, so that nothing of the user's is overwritten, and what is no folder.
pub(super) fn expect_empty(folder: &Path) -> Result<(), RunFolderError> {
    if folder.is_file() {
        return Err(RunFolderError::Io {
            path: folder.to_path_buf(),
            action: "make the folder",
            source: std::io::Error::other("there is a file of this name"),
        });
    }
    match first_in(folder) {
        Some(found) => Err(RunFolderError::NotEmpty {
            path: folder.to_path_buf(),
            found,
        }),
        None => Ok(()),
    }
}

/// The name of one thing in a folder, the first in the order of names; `None` if it is empty or no folder. What a run
/// left that was killed before its folder counted as one is nothing: its lock, its version, half-written files.
fn first_in(folder: &Path) -> Option<String> {
    let is_left_over = |name: &str| match name {
        LOCK => true,
        VERSION => fs::read_to_string(folder.join(VERSION)).is_ok_and(|text| text.starts_with(PROGRAM)),
        _ => files::is_temporary(name),
    };
    names_in(folder)?.into_iter().filter(|name| !is_left_over(name)).min()
}

fn names_in(folder: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    Some(
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect(),
    )
}

/// Removes what an earlier process could not finish writing; the folder is locked.
fn remove_temporaries(root: &Path) {
    for name in names_in(root).unwrap_or_default() {
        if files::is_temporary(&name) {
            // It does no harm.
            let _ = fs::remove_file(root.join(name));
        }
    }
}

/// Writes a text file whole or not at all, in the place of an older one.
pub fn write_whole(path: &Path, text: &str) -> Result<(), RunFolderError> {
    files::write_whole(path, text.as_bytes()).map_err(|source| RunFolderError::Io {
        path: path.to_path_buf(),
        action: "write",
        source,
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

fn command_line() -> String {
    // Paths need not be valid Unicode.
    let command: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    command.join(" ")
}

fn version_text(experiment: &str) -> String {
    format!(
        "{PROGRAM}{}\nMuJoCo {}\nprocessor {}\n{EXPERIMENT_LINE}{experiment}\n{COMMAND_LINE}{}\n",
        env!("CARGO_PKG_VERSION"),
        mujoco_rs::mujoco_version(),
        processor(),
        command_line(),
    )
}

/// The runs in a folder that is none itself, else those beside it.
fn nearest(path: &Path) -> String {
    /// More are not named.
    const SHOWN: usize = 12;
    let runs_in = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut runs: Vec<String> = entries
            .filter(|entry| entry.path().join(EXPERIMENT).is_file())
            .map(|entry| entry.path().display().to_string())
            .collect();
        runs.sort();
        runs
    };
    let inside = runs_in(path);
    let (what, runs) = match inside.is_empty() {
        false => ("runs in it", inside),
        true => ("runs nearby", path.parent().map(runs_in).unwrap_or_default()),
    };
    let shown = runs
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match runs.len() {
        0 => String::new(),
        count if count > SHOWN => format!(" ({what}: {shown}, and {} more)", count - SHOWN),
        _ => format!(" ({what}: {shown})"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_no_run() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("killed");
        fs::create_dir(&root).unwrap();
        let temporary = root.join(".apprentice-6Uu9TT.part");
        for (name, text) in [
            (LOCK, ""),
            (VERSION, "apprentice 0.1.0\nMuJoCo"),
            (".apprentice-6Uu9TT.part", "("),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        let folder = RunFolder::create(&root, "kitchen/sac", "()").unwrap();
        assert!(!temporary.exists());
        drop(folder);
        fs::write(&temporary, "(").unwrap();
        drop(RunFolder::resume(&root).unwrap());
        assert!(!temporary.exists());

        // What somebody else wrote is something.
        let root = parent.path().join("mine");
        fs::create_dir(&root).unwrap();
        fs::write(root.join(VERSION), "my thesis, version 3").unwrap();
        let error = RunFolder::create(&root, "kitchen/sac", "()").unwrap_err();
        assert!(error.to_string().contains("found `version.txt`"), "{error}");
        assert_eq!(fs::read_to_string(root.join(VERSION)).unwrap(), "my thesis, version 3");
    }

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
        let error = RunFolder::resume(&root).unwrap_err();
        assert!(matches!(error, RunFolderError::InUse(_)), "{error}");
        folder.expect_experiment("configs/kitchen/sac.ron").unwrap();
        let message = folder.expect_experiment("kitchen/spirl").unwrap_err().to_string();
        assert!(
            message.contains("of the experiment `kitchen/sac`, not of `kitchen/spirl`"),
            "{message}"
        );
        let message = RunFolder::open(&parent.path().join("frist")).unwrap_err().to_string();
        assert!(message.contains("first"), "{message}");
        drop(folder);
        let resumed = RunFolder::resume(&root).unwrap();
        assert!(RunFolder::resume(&root).is_err(), "taken up twice");
        resumed.remove_if_unused();
        assert!(RunFolder::open(&root).is_ok(), "a run that was there stays");
    }

    #[test]
    fn runs_of_an_experiment_are_found_by_their_names() {
        let runs = tempfile::tempdir().unwrap();
        assert!(all_in(&runs.path().join("none"), "kitchen/sac").is_empty());
        let run = |name: &str, experiment: &str| {
            RunFolder::create(&runs.path().join(name), experiment, "()").unwrap();
        };
        run("kitchen_sac_10", "kitchen/sac");
        run("kitchen_sac_3", "kitchen/sac");
        run("kitchen_sac_2", "kitchen/sac_2");
        run("kitchen_sac_quick", "kitchen/sac");
        run("kitchen_sac_cl", "kitchen/sac_cl");
        fs::create_dir(runs.path().join("kitchen_sac_4")).unwrap();
        let names = ["kitchen_sac_3", "kitchen_sac_10"].map(|name| runs.path().join(name));
        assert_eq!(all_in(runs.path(), "kitchen/sac"), names);
        run("kitchen_sac", "kitchen/sac");
        assert_eq!(all_in(runs.path(), "kitchen/sac").len(), 3);
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
