//! Writing Minari's layout: a folder `NAME-v0` with all episodes in `data/main_data.hdf5`, each in a group of its own, and
//! `data/metadata.json`.
//!
//! Minari's arrays of what is seen have one row more than an episode has steps. Where the last observation is not known,
//! the one before stands there again, and the episode has the attribute `final_observation_repeated`. Pictures and side
//! arrays always repeat their last row.

use std::fs;
use std::io::Write;
use std::path::Path;

use hdf5::{Extent, Group, H5Type};
use ndarray::{ArrayView1, ArrayView2, ArrayView4};

use super::error::explain;
use super::minari::{MAIN_FILE, PIXELS, REPEATED};
use super::minari_metadata::{self as metadata, Contents, METADATA_FILE};
use super::new_folder::NewFolder;
use super::target::Target;
use super::write::{CHUNK_BYTES, GZIP_LEVEL, discard, picture_chunk};
use super::{Column, DataError, Description, Episode, Values, Written};
use crate::files::sync_folder;

/// The file being written; `None` once a write has failed or the file is closed.
#[derive(Debug)]
struct Open(Option<hdf5::File>);

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            discard(file.clone(), file);
        }
    }
}

/// Writes episodes to a new Minari dataset. Dropping it without [`MinariWriter::finish`] discards what was written.
#[derive(Debug)]
pub struct MinariWriter {
    // Closed before its folder goes.
    file: Open,
    folder: NewFolder,
    target: Target,
    description: Description,
    /// Name by which Minari knows the dataset.
    id: String,
    contents: Contents,
}

impl MinariWriter {
    /// Starts a dataset with observations of size `observation_dim` and actions of size `action_dim` in the folder
    /// `path`, whose name ends in a version (`kitchen-v0`), as Minari wants it. Folders on the way are created. A folder
    /// that is there already is replaced in the end if it is empty or holds nothing but such a dataset.
    ///
    /// # Errors
    /// [`DataError::Write`] if `path` has another kind of name or holds something else, or if nothing can be written
    /// there.
    pub fn create(
        path: impl AsRef<Path>,
        observation_dim: usize,
        action_dim: usize,
        description: &Description,
    ) -> Result<Self, DataError> {
        let path = path.as_ref();
        let target = Target::new(path, observation_dim, action_dim)?;
        let failed = |problem: String| target.failed(problem);
        let id = metadata::dataset_id(path, metadata::all_datasets().as_deref()).map_err(failed)?;
        check_replaceable(path).map_err(failed)?;
        let folder = NewFolder::create(path).map_err(|error| target.failed(error))?;
        let data = folder.hidden().join("data");
        fs::create_dir(&data).map_err(|error| target.failed(error))?;
        let file = hdf5::File::create(data.join(MAIN_FILE)).map_err(|error| target.failed(explain(&error)))?;
        Ok(Self {
            file: Open(Some(file)),
            folder,
            target,
            description: description.clone(),
            id,
            contents: Contents::default(),
        })
    }

    /// Writes one episode. The first one decides names, widths and types of the `infos` and the size of the pictures.
    ///
    /// # Errors
    /// [`DataError::Episode`] for a malformed episode, which is not written; [`DataError::Write`] if writing fails (no
    /// space), after which the dataset can only be given up.
    pub fn append(&mut self, episode: &Episode) -> Result<(), DataError> {
        let template = self.target.check(episode)?;
        let Some(file) = &self.file.0 else {
            return Err(self
                .target
                .failed("an earlier write failed, so the dataset cannot be continued"));
        };
        // Arrays stay open until everything is stored, see `give_up`.
        let mut arrays = Vec::new();
        let written = write(file, episode, &self.target, &mut arrays).and_then(|()| file.flush());
        if let Err(error) = written {
            std::mem::forget(arrays);
            return Err(self.give_up(&error));
        }
        self.target.count(episode, template);
        self.contents.unbounded |= episode.actions.iter().any(|action| action.abs() > 1.0);
        self.contents.pictures = episode.images.as_ref().map(|images| images.size());
        Ok(())
    }

    /// Number of episodes so far.
    pub fn episodes(&self) -> usize {
        self.target.episodes
    }

    /// Number of steps so far.
    pub fn steps(&self) -> usize {
        self.target.steps
    }

    /// Completes the dataset and gives its folder its name, in the place of an older one.
    ///
    /// # Errors
    /// [`DataError::Write`] if nothing was appended, an earlier write failed or this one does; the target is untouched
    /// then.
    pub fn finish(mut self) -> Result<Written, DataError> {
        let file = self.file.0.take();
        let target = &self.target;
        let Some(file) = file else {
            return Err(target.failed("an earlier write failed"));
        };
        target.check_not_empty()?;
        file.close().map_err(|error| target.failed(explain(&error)))?;
        // It may have been filled in the meantime.
        check_replaceable(&target.path).map_err(|problem| target.failed(problem))?;
        let bytes = self.complete().map_err(|error| target.failed(error))?;
        let Self { folder, target, .. } = self;
        folder.put_in_place().map_err(|error| target.failed(error))?;
        Ok(target.written(bytes))
    }

    /// Syncs the file and writes the metadata; returns the bytes of both.
    fn complete(&self) -> std::io::Result<u64> {
        let data = self.folder.hidden().join("data");
        let episodes = fs::File::open(data.join(MAIN_FILE))?;
        episodes.sync_all()?;
        let bytes = episodes.metadata()?.len();
        let text = metadata::text(&self.description, &self.id, &self.target, &self.contents, bytes);
        let mut file = fs::File::create(data.join(METADATA_FILE))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync_folder(&data);
        Ok(bytes + text.len() as u64)
    }

    /// Gives the file up after a failed write. HDF5 2.2 crashes when it closes a file some of whose chunks it could not
    /// write, so the file stays open until the process ends; its space is given back now.
    fn give_up(&mut self, error: &hdf5::Error) -> DataError {
        let failed = self.target.failed(explain(error));
        if let Some(file) = self.file.0.take() {
            std::mem::forget(file);
            let path = self.folder.hidden().join("data").join(MAIN_FILE);
            let emptied = fs::OpenOptions::new().write(true).open(path);
            let _ = emptied.and_then(|file| file.set_len(0));
        }
        failed
    }
}

/// Writes the group of one episode. Its arrays stay open in `arrays`.
fn write(file: &hdf5::File, episode: &Episode, target: &Target, arrays: &mut Vec<hdf5::Dataset>) -> hdf5::Result<()> {
    let group = file.create_group(&format!("episode_{}", target.episodes))?;
    for (name, value) in [("id", target.episodes), ("total_steps", episode.len())] {
        group.new_attr::<i64>().create(name)?.write_scalar(&(value as i64))?;
    }
    if episode.final_observation.is_none() {
        group.new_attr::<i64>().create(REPEATED)?.write_scalar(&1_i64)?;
    }
    let width = target.observation_dim;
    let mut observations = episode.observations.clone();
    match &episode.final_observation {
        Some(last) => observations.extend_from_slice(last),
        None => repeat_last(&mut observations, width),
    }
    match &episode.images {
        None => arrays.push(numbers(&group, "observations", Some(width), &observations)?),
        Some(images) => {
            let dict = group.create_group("observations")?;
            arrays.push(numbers(&dict, VECTOR, Some(width), &observations)?);
            let [height, width] = images.size();
            let mut bytes = images.bytes.clone();
            repeat_last(&mut bytes, height * width * 3);
            let shape = (episode.len() + 1, height, width, 3);
            let [rows, ..] = picture_chunk([height, width]);
            let pictures = dict
                .new_dataset::<u8>()
                .deflate(GZIP_LEVEL)
                .chunk((rows.min(shape.0), height, width, 3))
                .shape((
                    Extent::resizable(shape.0),
                    Extent::fixed(height),
                    Extent::fixed(width),
                    Extent::fixed(3),
                ))
                .create(PIXELS)?;
            pictures.write(ArrayView4::from_shape(shape, &bytes)?)?;
            arrays.push(pictures);
        }
    }
    arrays.push(numbers(&group, "actions", Some(target.action_dim), &episode.actions)?);
    arrays.push(numbers(&group, "rewards", None, &episode.rewards)?);
    arrays.push(numbers(&group, "terminations", None, &episode.terminals)?);
    arrays.push(numbers(&group, "truncations", None, &episode.timeouts)?);
    if !episode.infos.is_empty() {
        let infos = group.create_group("infos")?;
        for (name, column) in &episode.infos {
            arrays.push(side_array(&infos, name, column)?);
        }
    }
    Ok(())
}

/// Name of the vector where there are pictures beside it, as Gymnasium-Robotics has it.
const VECTOR: &str = "observation";

fn repeat_last<T: Copy>(values: &mut Vec<T>, width: usize) {
    let last = values.len().saturating_sub(width);
    values.extend_from_within(last..);
}

/// Writes an array `[T, width]`, or `[T]` without a width. It may grow, as Minari's own may.
fn numbers<T: H5Type>(group: &Group, name: &str, width: Option<usize>, values: &[T]) -> hdf5::Result<hdf5::Dataset> {
    let columns = width.unwrap_or(1);
    let rows = values.len() / columns;
    let chunk = (CHUNK_BYTES / (size_of::<T>() * columns)).clamp(1, rows.max(1));
    let builder = group.new_dataset::<T>().shuffle().deflate(GZIP_LEVEL);
    let dataset = match width {
        None => builder.chunk(chunk).shape(Extent::resizable(rows)).create(name)?,
        Some(width) => builder
            .chunk((chunk, width))
            .shape((Extent::resizable(rows), Extent::fixed(width)))
            .create(name)?,
    };
    match width {
        None => dataset.write(ArrayView1::from(values))?,
        Some(width) => dataset.write(ArrayView2::from_shape((rows, width), values)?)?,
    }
    Ok(dataset)
}

/// Writes a side array with its last row twice.
fn side_array(group: &Group, name: &str, column: &Column) -> hdf5::Result<hdf5::Dataset> {
    fn write<T: H5Type + Copy>(group: &Group, name: &str, width: usize, values: &[T]) -> hdf5::Result<hdf5::Dataset> {
        let mut values = values.to_vec();
        repeat_last(&mut values, width);
        numbers(group, name, (width > 1).then_some(width), &values)
    }
    match &column.values {
        Values::F32(values) => write(group, name, column.width, values),
        Values::F64(values) => write(group, name, column.width, values),
        Values::I64(values) => write(group, name, column.width, values),
        Values::U8(values) => write(group, name, column.width, values),
    }
}

/// A folder may be replaced if nobody loses anything but an older dataset.
fn check_replaceable(path: &Path) -> Result<(), String> {
    let Ok(metadata) = path.metadata() else {
        return Ok(());
    };
    if !metadata.is_dir() {
        return Err("this is a file, and a Minari dataset is a folder".to_owned());
    }
    for (folder, known) in [
        (path.to_owned(), &["data"][..]),
        (path.join("data"), &[MAIN_FILE, METADATA_FILE][..]),
    ] {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.to_string()),
        };
        for entry in entries {
            let name = entry.map_err(|error| error.to_string())?.file_name();
            if !known.iter().any(|known| name == *known) {
                return Err(format!(
                    "this folder holds `{}`, so it is not replaced; name another folder",
                    name.to_string_lossy()
                ));
            }
        }
    }
    Ok(())
}
