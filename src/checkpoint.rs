//! Checkpoints: folders that are either whole or not there.
//!
//! ```text
//! checkpoints/
//!   step_000120000/
//!     manifest.json        what it is, and size and checksum (CRC-32C) of every file
//!     state.ron            counters, random streams
//!     learner.safetensors  weights, optimiser state; any number of such files
//!     replay_00000.safetensors  a block of the replay buffer, and so on
//! ```
//!
//! A checkpoint is written under a temporary name, each file and the folder are synced to disk, then it is renamed: a
//! crash or a full disk leaves the previous one as the last. Loading verifies every checksum; a damaged checkpoint is
//! skipped with a message and the one before it is used, unless the two share the file that is damaged (see below).
//!
//! A file that holds the same as in an earlier checkpoint is not written again: it becomes a hard link to that one, and
//! its checksum is taken over. So a checkpoint of a large replay buffer writes only what is new, and each folder is
//! complete in itself, also when older ones are removed. Where the file system has no hard links, files are written.
//!
//! The state is RON rather than JSON because it must come back to the last bit: JSON has no infinities, and
//! `serde_json` rounds some `f64` when it reads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::files;

/// The layout of checkpoint folders that this program writes; older ones are read, newer ones refused.
pub const FORMAT: u32 = 1;

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.ron";
const PREFIX: &str = "step_";
const PARTIAL: &str = ".partial_";

/// Tensors of one safetensors file, by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// A file of tensors that a checkpoint is to hold.
pub struct Part<'a, E> {
    /// Its name, without ending.
    pub name: String,
    /// The folder of an earlier checkpoint in which the file of this name holds the same.
    pub same_as: Option<&'a Path>,
    /// Makes the tensors, if they must be written.
    pub tensors: Box<dyn FnOnce() -> Result<Tensors, E> + 'a>,
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused, for example because the disk is full.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The content is not what was written.
    #[error("the checkpoint {} is damaged: {what}", path.display())]
    Damaged {
        /// The checkpoint folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A checkpoint of something else.
    #[error("{} is a checkpoint of `{found}`; `{wanted}` was expected", path.display())]
    Kind {
        /// The checkpoint folder.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// Written by a later version of the program.
    #[error("{} was written by {program} in format {format}; this program reads up to format {FORMAT}", path.display())]
    Newer {
        /// The checkpoint folder.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The program that wrote it.
        program: String,
    },
    /// The state is whole but describes something else, such as counters of another algorithm.
    #[error("the state of checkpoint {} (written by {program}) does not fit: {what}", path.display())]
    State {
        /// The checkpoint folder.
        path: PathBuf,
        /// The program that wrote it.
        program: String,
        /// Where and why.
        what: String,
    },
    /// A file of tensors is missing.
    #[error("the checkpoint {} has no tensors `{file}`; there are: {known}", path.display())]
    NoSuchFile {
        /// The checkpoint folder.
        path: PathBuf,
        /// The safetensors file, without ending.
        file: String,
        /// Those that are there.
        known: String,
    },
    /// No evaluation had ended when the checkpoint was written.
    #[error(
        "the checkpoint {} knows no best learner: no evaluation had ended by then (evaluation.every); one takes as many \
         ticks as its longest episode has steps",
        path.display()
    )]
    NoBest {
        /// The checkpoint folder.
        path: PathBuf,
    },
    /// There is no checkpoint of a step that was asked for.
    #[error("{}: no checkpoint at step {step}; there are: {known}", folder.display())]
    NoSuchStep {
        /// The folder of checkpoints.
        folder: PathBuf,
        /// What was asked for.
        step: u64,
        /// Steps that have one.
        known: String,
    },
    /// The state cannot be written, or tensors cannot be serialised.
    #[error("cannot store the checkpoint: {0}")]
    Unwritable(String),
    /// There are checkpoints, and none of them is whole.
    #[error("none of the {} checkpoints in {} can be used:\n{}", faults.len(), folder.display(), list(faults))]
    NoneUsable {
        /// The folder of checkpoints.
        folder: PathBuf,
        /// What is wrong with each.
        faults: Vec<CheckpointError>,
    },
}

fn list(faults: &[CheckpointError]) -> String {
    faults
        .iter()
        .map(|fault| format!("  {fault}"))
        .collect::<Vec<_>>()
        .join("\n")
}

impl CheckpointError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// True where an earlier checkpoint may still be good; false where it would have the same fault.
    fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Io { .. })
    }
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    kind: String,
    program: String,
    step: u64,
    /// Always `None`. It stays because the checksum of manifests in this format covers its name.
    score: Option<f64>,
    files: BTreeMap<String, FileEntry>,
    /// CRC-32C of this manifest without the score and with a zero here.
    checksum: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FileEntry {
    bytes: u64,
    crc32c: u32,
}

impl Manifest {
    fn own_checksum(&self) -> Result<u32, CheckpointError> {
        let zeroed = Self {
            checksum: 0,
            score: None,
            ..self.clone()
        };
        serde_json::to_vec(&zeroed)
            .map(|bytes| crc32c::crc32c(&bytes))
            .map_err(|error| CheckpointError::Unwritable(error.to_string()))
    }
}

/// A checkpoint that was read and verified.
#[derive(Debug)]
pub struct Checkpoint<S> {
    /// Its folder.
    pub path: PathBuf,
    /// The step it was taken at.
    pub step: u64,
    /// The program that wrote it, with its version.
    pub program: String,
    /// Counters, streams and the like.
    pub state: S,
    /// Tensors by safetensors file (without ending) and name.
    pub tensors: BTreeMap<String, Tensors>,
    /// CRC-32C of each of these files. A copy has the same, other tensors have others.
    pub checksums: BTreeMap<String, u32>,
}

impl<S> Checkpoint<S> {
    /// The tensors of one file.
    ///
    /// # Errors
    /// [`CheckpointError::NoSuchFile`].
    pub fn file(&self, file: &str) -> Result<&Tensors, CheckpointError> {
        self.tensors.get(file).ok_or_else(|| {
            let known: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
            CheckpointError::NoSuchFile {
                path: self.path.clone(),
                file: file.to_owned(),
                known: known.join(", "),
            }
        })
    }

    /// Reads and verifies one more file (without ending), which loading left out.
    ///
    /// # Errors
    /// [`CheckpointError::NoSuchFile`], [`CheckpointError::Damaged`].
    pub fn read(&self, file: &str) -> Result<Tensors, CheckpointError> {
        let manifest = read_manifest(&self.path)?;
        let name = format!("{file}.safetensors");
        match manifest.files.get(&name) {
            Some(entry) => read_tensors(&self.path, &name, entry),
            None => Err(CheckpointError::NoSuchFile {
                path: self.path.clone(),
                file: file.to_owned(),
                known: manifest.files.keys().cloned().collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

/// A checkpoint, and what is wrong with those after it.
pub type Latest<S> = (Checkpoint<S>, Vec<CheckpointError>);

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    kind: String,
    keep: usize,
}

impl Checkpoints {
    /// The checkpoints in `folder` of things of one `kind` (such as `learner`). The last `keep` (at least
    /// one) stay. Nothing is read or written yet.
    pub fn new(folder: impl Into<PathBuf>, kind: impl Into<String>, keep: usize) -> Self {
        Self {
            folder: folder.into(),
            kind: kind.into(),
            keep: keep.max(1),
        }
    }

    /// The folder they are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stores a checkpoint and gives its folder. `tensors` become one safetensors file per key.
    ///
    /// Afterwards older ones are removed as far as they are not to be kept, and so are those of later steps: they
    /// belong to a course that was abandoned when the run was resumed from before them.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] (a full disk, missing rights) and [`CheckpointError::Unwritable`]. The checkpoints that
    /// were there are untouched then, and nothing half-written stays.
    pub fn save<S: Serialize>(
        &self,
        step: u64,
        state: &S,
        tensors: &BTreeMap<String, Tensors>,
    ) -> Result<PathBuf, CheckpointError> {
        let parts = tensors.iter().map(|(name, tensors)| Part {
            name: name.clone(),
            same_as: None,
            tensors: Box::new(|| Ok(tensors.clone())),
        });
        self.save_parts(step, state, parts.collect())
    }

    /// As [`save`](Self::save); files that hold the same as in an earlier checkpoint are taken from there, the others
    /// are made one after another.
    ///
    /// # Errors
    /// As [`save`](Self::save), and whatever the parts fail with.
    pub fn save_parts<S: Serialize, E: From<CheckpointError>>(
        &self,
        step: u64,
        state: &S,
        parts: Vec<Part<'_, E>>,
    ) -> Result<PathBuf, E> {
        fs::create_dir_all(&self.folder).map_err(CheckpointError::io("create", &self.folder))?;
        // What a crash left behind.
        for name in names(&self.folder)?.iter().filter(|name| name.starts_with(PARTIAL)) {
            remove(&self.folder.join(name))?;
        }
        // A second checkpoint of the same step gets a name of its own, so that there is no moment without one.
        let revision = self
            .entries()?
            .iter()
            .filter(|entry| entry.step == step)
            .map(|entry| entry.revision)
            .max();
        let entry = Entry {
            step,
            revision: revision.map_or(1, |revision| revision + 1),
        };
        let partial = self.folder.join(format!("{PARTIAL}{}", entry.name()));
        let path = self.folder.join(entry.name());
        let written = self.write(&partial, step, state, parts);
        let renamed = written.and_then(|()| {
            fs::rename(&partial, &path).map_err(CheckpointError::io("rename the new checkpoint to", &path))?;
            Ok(sync_folder(&self.folder)?)
        });
        if let Err(error) = renamed {
            // The first error is the one that counts.
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        self.prune(entry)?;
        Ok(path)
    }

    fn write<S: Serialize, E: From<CheckpointError>>(
        &self,
        folder: &Path,
        step: u64,
        state: &S,
        parts: Vec<Part<'_, E>>,
    ) -> Result<(), E> {
        fs::create_dir(folder).map_err(CheckpointError::io("create", folder))?;
        let mut entries = BTreeMap::new();
        let state = files::to_text(state).map_err(|error| CheckpointError::Unwritable(error.to_string()))?;
        entries.insert(STATE.to_owned(), write_synced(&folder.join(STATE), state.as_bytes())?);
        let mut earlier = None;
        for Part { name, same_as, tensors } in parts {
            let sound = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if name.is_empty() || !name.chars().all(sound) {
                return Err(CheckpointError::Unwritable(format!("`{name}` is no name for a file of tensors")).into());
            }
            let name = format!("{name}.safetensors");
            let linked = same_as.and_then(|from| link(from, &name, folder, &mut earlier));
            let entry = match linked {
                Some(entry) => entry,
                None => {
                    let bytes = safetensors::serialize(tensors()?, None)
                        .map_err(|error| CheckpointError::Unwritable(format!("{name}: {error}")))?;
                    write_synced(&folder.join(&name), &bytes)?
                }
            };
            entries.insert(name, entry);
        }
        let mut manifest = Manifest {
            format: FORMAT,
            kind: self.kind.clone(),
            program: concat!("apprentice ", env!("CARGO_PKG_VERSION")).to_owned(),
            step,
            score: None,
            files: entries,
            checksum: 0,
        };
        manifest.checksum = manifest.own_checksum()?;
        let text =
            serde_json::to_vec_pretty(&manifest).map_err(|error| CheckpointError::Unwritable(error.to_string()))?;
        write_synced(&folder.join(MANIFEST), &text)?;
        Ok(sync_folder(folder)?)
    }

    /// Steps that have a checkpoint, in order. Whether they are whole is seen when they are loaded.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] when the folder cannot be listed; one that does not exist has none.
    pub fn steps(&self) -> Result<Vec<u64>, CheckpointError> {
        let mut steps: Vec<u64> = self.entries()?.iter().map(|entry| entry.step).collect();
        steps.dedup();
        Ok(steps)
    }

    fn entries(&self) -> Result<Vec<Entry>, CheckpointError> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let mut entries: Vec<Entry> = names(&self.folder)?
            .iter()
            .filter_map(|name| Entry::parse(name))
            .collect();
        entries.sort();
        Ok(entries)
    }

    /// Removes older checkpoints that are still there because the process was killed when it had just written the newest
    /// one. Nothing happens unless `newest`, the folder of the one that was loaded, is that one.
    ///
    /// # Errors
    /// A folder cannot be read or removed.
    pub fn tidy(&self, newest: &Path) -> Result<(), CheckpointError> {
        match self.entries()?.last() {
            Some(&last) if self.folder.join(last.name()) == newest => self.prune(last),
            _ => Ok(()),
        }
    }

    /// Removes what is not to be kept; `newest` was just written.
    fn prune(&self, newest: Entry) -> Result<(), CheckpointError> {
        let entries = self.entries()?;
        // Only the last revision of a step counts.
        let past: Vec<Entry> = entries
            .iter()
            .filter(|entry| **entry <= newest)
            .filter(|entry| {
                !entries
                    .iter()
                    .any(|other| other.step == entry.step && other.revision > entry.revision)
            })
            .copied()
            .collect();
        let kept = past.get(past.len().saturating_sub(self.keep)..).unwrap_or_default();
        for entry in entries.iter().filter(|entry| !kept.contains(entry)) {
            remove(&self.folder.join(entry.name()))?;
        }
        Ok(())
    }

    /// The last whole checkpoint, and what is wrong with those after it; `None` where there is none at all.
    ///
    /// # Errors
    /// [`CheckpointError::NoneUsable`] when all are damaged. A checkpoint of another kind, of a newer program or with
    /// another state is not skipped but reported.
    pub fn load_latest<S: DeserializeOwned>(&self) -> Result<Option<Latest<S>>, CheckpointError> {
        self.load_latest_files(&|_| true)
    }

    /// As [`load_latest`](Self::load_latest), with the tensors of the `wanted` files (without ending) only; the others
    /// are neither read nor verified.
    ///
    /// # Errors
    /// As [`load_latest`](Self::load_latest).
    pub fn load_latest_files<S: DeserializeOwned>(
        &self,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Option<Latest<S>>, CheckpointError> {
        let mut faults = Vec::new();
        for entry in self.entries()?.iter().rev() {
            match load_files(&self.folder.join(entry.name()), &self.kind, wanted) {
                Ok(checkpoint) => return Ok(Some((checkpoint, faults))),
                Err(fault) if fault.is_damage() => faults.push(fault),
                Err(error) => return Err(error),
            }
        }
        if faults.is_empty() {
            return Ok(None);
        }
        Err(CheckpointError::NoneUsable {
            folder: self.folder.clone(),
            faults,
        })
    }

    /// The checkpoint of one step, with the tensors of the `wanted` files (without ending) only.
    ///
    /// # Errors
    /// [`CheckpointError::NoSuchStep`]; it is damaged, or one of something else.
    pub fn load_step<S: DeserializeOwned>(
        &self,
        step: u64,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Checkpoint<S>, CheckpointError> {
        let entries = self.entries()?;
        // Of several revisions the last one counts.
        if let Some(entry) = entries.iter().rev().find(|entry| entry.step == step) {
            return load_files(&self.folder.join(entry.name()), &self.kind, wanted);
        }
        let known: Vec<String> = self.steps()?.iter().map(u64::to_string).collect();
        Err(CheckpointError::NoSuchStep {
            folder: self.folder.clone(),
            step,
            known: known.join(", "),
        })
    }
}

/// Reads and verifies one checkpoint folder of the given kind; tensors are on the CPU.
///
/// # Errors
/// [`CheckpointError::Damaged`], [`CheckpointError::Kind`], [`CheckpointError::Newer`], [`CheckpointError::State`] and
/// [`CheckpointError::Io`].
pub fn load<S: DeserializeOwned>(path: &Path, kind: &str) -> Result<Checkpoint<S>, CheckpointError> {
    load_files(path, kind, &|_| true)
}

fn load_files<S: DeserializeOwned>(
    path: &Path,
    kind: &str,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Checkpoint<S>, CheckpointError> {
    let manifest = read_manifest(path)?;
    if manifest.kind != kind {
        return Err(CheckpointError::Kind {
            path: path.to_path_buf(),
            found: manifest.kind,
            wanted: kind.to_owned(),
        });
    }
    let damaged = |what: String| CheckpointError::Damaged {
        path: path.to_path_buf(),
        what,
    };
    let mut state = None;
    let (mut tensors, mut checksums) = (BTreeMap::new(), BTreeMap::new());
    for (name, entry) in &manifest.files {
        if name.strip_suffix(".safetensors").is_some_and(|stem| !wanted(stem)) {
            continue;
        }
        if let Some(stem) = name.strip_suffix(".safetensors") {
            tensors.insert(stem.to_owned(), read_tensors(path, name, entry)?);
            checksums.insert(stem.to_owned(), entry.crc32c);
            continue;
        }
        let bytes = read_verified(&path.join(name), entry).map_err(|what| damaged(format!("{name} {what}")))?;
        if name == STATE {
            state = Some(String::from_utf8(bytes).map_err(|_| damaged(format!("{STATE} is no text")))?);
        }
    }
    let state = state.ok_or_else(|| damaged(format!("{STATE} is missing")))?;
    let state = files::from_text(&path.join(STATE), &state).map_err(|error| CheckpointError::State {
        path: path.to_path_buf(),
        program: manifest.program.clone(),
        what: error.to_string(),
    })?;
    Ok(Checkpoint {
        path: path.to_path_buf(),
        step: manifest.step,
        program: manifest.program,
        state,
        tensors,
        checksums,
    })
}

fn read_manifest(path: &Path) -> Result<Manifest, CheckpointError> {
    let damaged = |what: String| CheckpointError::Damaged {
        path: path.to_path_buf(),
        what,
    };
    let bytes = fs::read(path.join(MANIFEST)).map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
    // The format comes first: a newer manifest may have other fields.
    #[derive(Deserialize)]
    struct Version {
        format: u32,
        program: String,
    }
    let version: Version = serde_json::from_slice(&bytes).map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
    if version.format > FORMAT {
        let Version { format, program } = version;
        return Err(CheckpointError::Newer {
            path: path.to_path_buf(),
            format,
            program,
        });
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
    if manifest.own_checksum()? != manifest.checksum {
        return Err(damaged(format!("{MANIFEST} has a wrong checksum")));
    }
    if let Some(name) = manifest
        .files
        .keys()
        .find(|name| name.contains(['/', '\\']) || name.starts_with('.'))
    {
        return Err(damaged(format!("{MANIFEST} names a file outside: {name}")));
    }
    Ok(manifest)
}

/// The tensors of the file `name` of the checkpoint at `path`.
fn read_tensors(path: &Path, name: &str, entry: &FileEntry) -> Result<Tensors, CheckpointError> {
    let damaged = |what: String| CheckpointError::Damaged {
        path: path.to_path_buf(),
        what,
    };
    let bytes = read_verified(&path.join(name), entry).map_err(|what| damaged(format!("{name} {what}")))?;
    let read = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|error| damaged(format!("{name}: {error}")))?;
    Ok(read.into_iter().collect())
}

fn read_verified(path: &Path, entry: &FileEntry) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path)
        .map_err(|error| format!("cannot be read: {error}"))?
        .len();
    if length != entry.bytes {
        return Err(format!("has {length} bytes instead of {}", entry.bytes));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    if crc32c::crc32c(&bytes) != entry.crc32c {
        return Err("has a wrong checksum".to_owned());
    }
    Ok(bytes)
}

/// Takes the file `name` of the checkpoint `from` over into `to`. `None`, and the file is to be written, where `from` has
/// no such file or the file system no hard links. `manifest` remembers that of the last folder asked about.
fn link(from: &Path, name: &str, to: &Path, manifest: &mut Option<(PathBuf, Option<Manifest>)>) -> Option<FileEntry> {
    if manifest.as_ref().is_none_or(|(path, _)| path != from) {
        *manifest = Some((from.to_path_buf(), read_manifest(from).ok()));
    }
    let entry = manifest.as_ref()?.1.as_ref()?.files.get(name)?;
    let source = from.join(name);
    let whole = fs::metadata(&source).is_ok_and(|found| found.len() == entry.bytes);
    (whole && fs::hard_link(&source, to.join(name)).is_ok()).then(|| entry.clone())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<FileEntry, CheckpointError> {
    let mut file = File::create(path).map_err(CheckpointError::io("create", path))?;
    io::Write::write_all(&mut file, bytes).map_err(CheckpointError::io("write", path))?;
    file.sync_all().map_err(CheckpointError::io("write", path))?;
    Ok(FileEntry {
        bytes: bytes.len() as u64,
        crc32c: crc32c::crc32c(bytes),
    })
}

/// Makes names in a folder last. Only Unix systems can sync a folder, and only there is it needed.
fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    if cfg!(unix) {
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(CheckpointError::io("sync", path))?;
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    let entries = fs::read_dir(folder).map_err(CheckpointError::io("list", folder))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

fn remove(path: &Path) -> Result<(), CheckpointError> {
    fs::remove_dir_all(path).map_err(CheckpointError::io("remove the old", path))
}

/// The name of a checkpoint folder: `step_000120000`, or `step_000120000_r2` when the step was stored again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    step: u64,
    revision: u32,
}

impl Entry {
    fn name(self) -> String {
        match self.revision {
            1 => format!("{PREFIX}{:09}", self.step),
            revision => format!("{PREFIX}{:09}_r{revision}", self.step),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        let (step, revision) = match rest.split_once("_r") {
            Some((step, revision)) => (step, revision.parse().ok()?),
            None => (rest, 1),
        };
        Some(Self {
            step: step.parse().ok()?,
            revision,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct State {
        updates: u64,
        best: f64,
        mean: f64,
        seeds: Vec<[u64; 4]>,
    }

    fn state(updates: u64) -> State {
        State {
            updates,
            best: f64::NEG_INFINITY,
            mean: 0.1 + 0.2 + updates as f64 / 3.0,
            seeds: vec![[u64::MAX - updates; 4]],
        }
    }

    fn tensors(value: f32) -> BTreeMap<String, Tensors> {
        let weights = Tensor::new(&[[value, f32::NAN], [-0.0, f32::MIN_POSITIVE / 2.0]], &Device::Cpu).unwrap();
        let actions = Tensor::new(&[1_u8, 2, 3], &Device::Cpu).unwrap();
        BTreeMap::from([
            (
                "learner".to_owned(),
                BTreeMap::from([("policy.weight".to_owned(), weights)]),
            ),
            ("replay".to_owned(), BTreeMap::from([("actions".to_owned(), actions)])),
        ])
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        tensor
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
            .into_iter()
            .map(f32::to_bits)
            .collect()
    }

    fn sample(keep: usize) -> (tempfile::TempDir, Checkpoints) {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().join("checkpoints"), "train", keep);
        (folder, checkpoints)
    }

    fn latest(checkpoints: &Checkpoints) -> (Checkpoint<State>, Vec<CheckpointError>) {
        checkpoints.load_latest().unwrap().unwrap()
    }

    #[test]
    fn what_is_stored_comes_back_to_the_bit() {
        let (_folder, checkpoints) = sample(3);
        assert!(checkpoints.load_latest::<State>().unwrap().is_none());
        let path = checkpoints.save(120, &state(7), &tensors(0.1)).unwrap();
        assert!(path.ends_with("step_000000120"));
        let (read, faults) = latest(&checkpoints);
        assert!(faults.is_empty());
        assert_eq!((read.step, &read.state), (120, &state(7)));
        assert_eq!(read.program, concat!("apprentice ", env!("CARGO_PKG_VERSION")));
        let stored = tensors(0.1);
        let weights = &read.file("learner").unwrap()["policy.weight"];
        assert_eq!(weights.dims(), [2, 2]);
        assert_eq!(bits(weights), bits(&stored["learner"]["policy.weight"]));
        assert_eq!(
            read.file("replay").unwrap()["actions"].to_vec1::<u8>().unwrap(),
            [1, 2, 3]
        );
        let error = read.file("critic").unwrap_err().to_string();
        assert!(
            error.ends_with("no tensors `critic`; there are: learner, replay"),
            "{error}"
        );

        let again = checkpoints.save(120, &state(7), &tensors(0.1)).unwrap();
        assert!(again.ends_with("step_000000120_r2"));
        assert!(!path.exists());
        let same = latest(&checkpoints).0;
        assert_eq!((&same.state, &same.checksums), (&state(7), &read.checksums));
        checkpoints.save(121, &state(7), &tensors(0.2)).unwrap();
        let other = latest(&checkpoints).0;
        let differs = |file: &str| other.checksums[file] != read.checksums[file];
        assert!(differs("learner") && !differs("replay"));
    }

    #[test]
    fn what_a_kill_has_left_is_tidied_up() {
        let (folder, checkpoints) = sample(2);
        let patient = Checkpoints::new(folder.path().join("checkpoints"), "train", 9);
        for step in 1..5 {
            patient.save(step, &state(step), &tensors(0.0)).unwrap();
        }
        let newest = latest(&checkpoints).0.path;
        // Where the newest one was not the one that was loaded, it may be damaged, and all are needed.
        checkpoints.tidy(&newest.with_file_name("step_000000003")).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [1, 2, 3, 4]);
        checkpoints.tidy(&newest).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [3, 4]);
    }

    #[test]
    fn manifests_that_name_a_score_are_read() {
        let (_folder, checkpoints) = sample(1);
        let path = checkpoints.save(3, &state(3), &tensors(0.0)).unwrap().join(MANIFEST);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"score\": null"), "{text}");
        fs::write(&path, text.replace("\"score\": null", "\"score\": 2.5")).unwrap();
        assert_eq!(latest(&checkpoints).0.state, state(3));
    }

    #[test]
    fn the_last_ones_are_kept() {
        let (_folder, checkpoints) = sample(2);
        assert_eq!(checkpoints.steps().unwrap(), [0; 0]);
        for step in [1, 2, 4, 5] {
            checkpoints.save(step, &state(step), &tensors(step as f32)).unwrap();
        }
        assert_eq!(checkpoints.steps().unwrap(), [4, 5]);
        let at = |step| checkpoints.load_step::<State>(step, &|_| true);
        assert_eq!(at(4).unwrap().state, state(4));
        let error = at(2).unwrap_err().to_string();
        assert!(error.ends_with("no checkpoint at step 2; there are: 4, 5"), "{error}");
        // Later ones belong to a course that was abandoned.
        checkpoints.save(3, &state(3), &tensors(3.0)).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [3]);
        assert_eq!(latest(&checkpoints).0.state, state(3));
    }

    #[test]
    fn damage_is_skipped_with_a_message() {
        let (_folder, checkpoints) = sample(10);
        for step in 1..=6 {
            checkpoints.save(step, &state(step), &tensors(step as f32)).unwrap();
        }
        let path = |step: u64, file: &str| checkpoints.folder().join(format!("step_{step:09}")).join(file);
        let mut bytes = fs::read(path(6, "learner.safetensors")).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(path(6, "learner.safetensors"), &bytes).unwrap();
        fs::write(path(5, "learner.safetensors"), &bytes[..last]).unwrap();
        fs::remove_file(path(4, "state.ron")).unwrap();
        fs::remove_file(path(3, "manifest.json")).unwrap();
        let manifest = fs::read_to_string(path(2, "manifest.json")).unwrap();
        fs::write(path(2, "manifest.json"), manifest.replace("\"step\": 2", "\"step\": 9")).unwrap();
        let (read, faults) = latest(&checkpoints);
        assert_eq!(read.step, 1);
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let ends = [
            "learner.safetensors has a wrong checksum",
            "bytes",
            "state.ron cannot be read: No such file",
            "manifest.json: No such file",
            "manifest.json has a wrong checksum",
        ];
        for (fault, part) in faults.iter().zip(ends) {
            assert!(fault.contains("is damaged: ") && fault.contains(part), "{fault}");
        }
        assert_eq!(faults.len(), 5);
        fs::write(path(1, "manifest.json"), "{").unwrap();
        let error = checkpoints.load_latest::<State>().unwrap_err().to_string();
        assert!(error.starts_with("none of the 6 checkpoints in"), "{error}");
    }

    #[test]
    fn other_things_are_refused_not_skipped() {
        let (_folder, checkpoints) = sample(5);
        checkpoints.save(1, &state(1), &tensors(0.0)).unwrap();
        let path = checkpoints.save(2, &state(2), &tensors(0.0)).unwrap();
        let other = Checkpoints::new(checkpoints.folder(), "spirl_cl", 5);
        let error = other.load_latest::<State>().unwrap_err().to_string();
        assert!(
            error.ends_with("is a checkpoint of `train`; `spirl_cl` was expected"),
            "{error}"
        );

        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only its shape matters")]
        struct Other {
            updates: u64,
            best: f64,
            mean: f64,
            seeds: Vec<[u64; 4]>,
            rounds: u64,
        }
        let error = checkpoints.load_latest::<Other>().unwrap_err().to_string();
        assert!(
            error.contains("does not fit") && error.contains("missing field `rounds` in `Other`"),
            "{error}"
        );

        fs::write(
            path.join(MANIFEST),
            "{\"format\": 99, \"program\": \"apprentice 9.0\", \"new\": {}}",
        )
        .unwrap();
        let error = checkpoints.load_latest::<State>().unwrap_err().to_string();
        assert!(
            error.contains("was written by apprentice 9.0 in format 99; this program reads up to"),
            "{error}"
        );
    }

    #[test]
    fn a_failed_save_leaves_the_last_good_one() {
        let (folder, checkpoints) = sample(1);
        checkpoints.save(1, &state(1), &tensors(1.0)).unwrap();
        // A name that cannot be a file makes the write fail after the state was written.
        let faulty = BTreeMap::from([("a/b".to_owned(), Tensors::new())]);
        assert!(checkpoints.save(2, &state(2), &faulty).is_err());
        assert_eq!(names(checkpoints.folder()).unwrap(), ["step_000000001"]);
        // What a crash leaves is not taken for a checkpoint, and removed by the next save.
        let partial = checkpoints.folder().join(".partial_step_000000002");
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("state.ron"), "(").unwrap();
        assert_eq!(latest(&checkpoints).0.step, 1);
        checkpoints.save(2, &state(2), &tensors(2.0)).unwrap();
        assert_eq!(names(checkpoints.folder()).unwrap(), ["step_000000002"]);
        // No folder can be made below a file.
        fs::write(folder.path().join("file"), "").unwrap();
        let error = Checkpoints::new(folder.path().join("file/c"), "train", 1).save(1, &1, &BTreeMap::new());
        assert!(matches!(error, Err(CheckpointError::Io { .. })));
    }

    #[test]
    fn what_has_not_changed_is_not_written_again() {
        let (_folder, checkpoints) = sample(1);
        let first = checkpoints.save(1, &state(1), &tensors(1.0)).unwrap();
        let made = std::cell::RefCell::new(Vec::new());
        let stored = tensors(1.0);
        let (made, stored) = (&made, &stored);
        let part = |name: &'static str, same_as| Part {
            name: name.to_owned(),
            same_as,
            tensors: Box::new(move || {
                made.borrow_mut().push(name);
                Ok::<_, CheckpointError>(stored["learner"].clone())
            }),
        };
        let parts = vec![
            part("learner", None),
            part("replay", Some(first.as_path())),
            part("critic", Some(first.as_path())),
        ];
        let second = checkpoints.save_parts(2, &state(2), parts).unwrap();
        assert_eq!(
            *made.borrow(),
            ["learner", "critic"],
            "the first one has no critic to take over"
        );
        assert!(!first.exists());
        let read = latest(&checkpoints).0;
        assert_eq!((read.step, &read.path), (2, &second));
        assert_eq!(
            read.file("replay").unwrap()["actions"].to_vec1::<u8>().unwrap(),
            [1, 2, 3]
        );
        let only = checkpoints
            .load_latest_files::<State>(&|name| name == "critic")
            .unwrap()
            .unwrap()
            .0;
        assert_eq!(only.tensors.keys().collect::<Vec<_>>(), ["critic"]);
        assert_eq!(only.state, state(2));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(100))]

        #[test]
        fn no_changed_byte_passes(which in 0_usize..4, at in proptest::prelude::any::<usize>(), flip in 1_u8..=255) {
            let (_folder, checkpoints) = sample(1);
            let path = checkpoints.save(1, &state(1), &tensors(1.0)).unwrap();
            let mut files = names(&path).unwrap();
            files.sort();
            let file = path.join(&files[which]);
            let mut bytes = fs::read(&file).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            fs::write(&file, &bytes).unwrap();
            // White space in the manifest may change without harm.
            if let Ok(read) = load::<State>(&path, "train") {
                proptest::prop_assert_eq!(&files[which], MANIFEST);
                proptest::prop_assert_eq!((read.step, read.state), (1, state(1)));
            }
        }
    }
}
