//! Writing `SPiRL`'s roll-out layout: a folder with one file per trajectory.
//!
//! The files grow in a hidden folder beside the target, which takes the target's name only when it is complete. Every
//! row of a trajectory is a step that was made, so `pad_mask` is 1 in all of them. (The original masks the last row.)

use std::fs;
use std::path::Path;

use hdf5::{Group, H5Type};
use ndarray::{ArrayView1, ArrayView2, ArrayView4};

use super::error::explain;
use super::new_folder::NewFolder;
use super::rollouts::COUNT;
use super::target::Target;
use super::write::{GZIP_LEVEL, describe, picture_chunk};
use super::{Column, DataError, Description, Episode, Values, Written};

/// Writes episodes to a new folder, one file each: `rollout_000000.h5`, `rollout_000001.h5`, ... Dropping it without
/// [`RolloutWriter::finish`] discards what was written.
#[derive(Debug)]
pub struct RolloutWriter {
    folder: NewFolder,
    target: Target,
    description: Description,
    /// A write has failed, so the folder is not complete.
    broken: bool,
    bytes: u64,
}

impl RolloutWriter {
    /// Starts a folder of trajectories with states of size `observation_dim` and actions of size `action_dim`. Folders
    /// on the way to `path` are created. A folder that is there already is replaced in the end if it is empty or holds
    /// nothing but what such a writer wrote.
    ///
    /// # Errors
    /// [`DataError::Write`] if `path` holds something else, or if the temporary folder cannot be made.
    pub fn create(
        path: impl AsRef<Path>,
        observation_dim: usize,
        action_dim: usize,
        description: &Description,
    ) -> Result<Self, DataError> {
        let path = path.as_ref();
        let target = Target::new(path, observation_dim, action_dim)?;
        check_replaceable(path).map_err(|problem| target.failed(problem))?;
        let folder = NewFolder::create(path).map_err(|error| target.failed(error))?;
        Ok(Self {
            folder,
            target,
            description: description.clone(),
            broken: false,
            bytes: 0,
        })
    }

    /// Writes one episode to a file of its own. The first one decides names, widths and types of the `infos` and the
    /// size of the pictures.
    ///
    /// # Errors
    /// [`DataError::Episode`] for a malformed episode, which is not written; [`DataError::Write`] if writing fails (no
    /// space), after which the folder can only be given up.
    pub fn append(&mut self, episode: &Episode) -> Result<(), DataError> {
        let template = self.target.check(episode)?;
        if self.broken {
            return Err(self
                .target
                .failed("an earlier write failed, so the folder cannot be continued"));
        }
        let name = format!("rollout_{:06}.h5", self.target.episodes);
        let path = self.folder.hidden().join(name);
        if let Err(problem) = self.write(&path, episode) {
            self.broken = true;
            return Err(self.target.failed(problem));
        }
        self.bytes += path.metadata().map_or(0, |metadata| metadata.len());
        self.target.count(episode, template);
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

    /// Gives the folder its name, in the place of an older one.
    ///
    /// # Errors
    /// [`DataError::Write`] if nothing was appended, an earlier write failed or this one does; the target is untouched
    /// then.
    pub fn finish(self) -> Result<Written, DataError> {
        let Self {
            folder,
            target,
            broken,
            bytes,
            ..
        } = self;
        if broken {
            return Err(target.failed("an earlier write failed"));
        }
        target.check_not_empty()?;
        // It may have been filled in the meantime.
        check_replaceable(&target.path).map_err(|problem| target.failed(problem))?;
        folder.put_in_place().map_err(|error| target.failed(error))?;
        Ok(target.written(bytes))
    }

    /// Writes and syncs one file.
    fn write(&self, path: &Path, episode: &Episode) -> Result<(), String> {
        let file = hdf5::File::create(path).map_err(|error| explain(&error))?;
        let mut arrays = Vec::new();
        let written = self
            .fill(&file, episode, &mut arrays)
            .and_then(|()| file.flush())
            .map_err(|error| explain(&error));
        if let Err(problem) = written {
            // HDF5 2.2 crashes when it closes a file some of whose chunks it could not write.
            std::mem::forget((arrays, file));
            return Err(problem);
        }
        drop(arrays);
        file.close().map_err(|error| explain(&error))?;
        let stored = fs::File::open(path).and_then(|file| file.sync_all());
        stored.map_err(|error| error.to_string())
    }

    /// Writes the arrays of one file. They stay open in `arrays` until everything is stored.
    fn fill(&self, file: &hdf5::File, episode: &Episode, arrays: &mut Vec<hdf5::Dataset>) -> hdf5::Result<()> {
        describe(file, &self.description, "SPiRL roll-outs")?;
        let count = file.new_dataset::<i64>().shape(()).create(COUNT)?;
        count.write_scalar(&1_i64)?;
        let trajectory = file.create_group("traj0")?;
        let group = &trajectory;
        arrays.push(numbers(
            group,
            "states",
            self.target.observation_dim,
            true,
            &episode.observations,
        )?);
        arrays.push(numbers(
            group,
            "actions",
            self.target.action_dim,
            true,
            &episode.actions,
        )?);
        arrays.push(numbers(group, "rewards", 1, false, &episode.rewards)?);
        arrays.push(numbers(group, "pad_mask", 1, false, &vec![1.0_f32; episode.len()])?);
        arrays.push(numbers(group, "terminals", 1, false, &episode.terminals)?);
        arrays.push(numbers(group, "timeouts", 1, false, &episode.timeouts)?);
        if let Some(images) = &episode.images {
            let [height, width] = images.size();
            let shape = (episode.len(), height, width, 3);
            let [rows, _, _, _] = picture_chunk([height, width]);
            let pictures = group
                .new_dataset::<u8>()
                .deflate(GZIP_LEVEL)
                .chunk((rows.min(episode.len()), height, width, 3))
                .shape(shape)
                .create("images")?;
            pictures.write(ArrayView4::from_shape(shape, &images.bytes)?)?;
            arrays.push(pictures);
        }
        if !episode.infos.is_empty() {
            let infos = trajectory.create_group("infos")?;
            for (name, column) in &episode.infos {
                arrays.push(side_array(&infos, name, column)?);
            }
        }
        Ok(())
    }
}

/// Writes an array `[T, width]`, or `[T]` if it is not `wide` and has one column.
fn numbers<T: H5Type>(
    group: &Group,
    name: &str,
    width: usize,
    wide: bool,
    values: &[T],
) -> hdf5::Result<hdf5::Dataset> {
    let rows = values.len() / width;
    let builder = group.new_dataset::<T>();
    if wide || width > 1 {
        let dataset = builder.shape((rows, width)).create(name)?;
        dataset.write(ArrayView2::from_shape((rows, width), values)?)?;
        Ok(dataset)
    } else {
        let dataset = builder.shape(rows).create(name)?;
        dataset.write(ArrayView1::from(values))?;
        Ok(dataset)
    }
}

fn side_array(group: &Group, name: &str, column: &Column) -> hdf5::Result<hdf5::Dataset> {
    match &column.values {
        Values::F32(values) => numbers(group, name, column.width, false, values),
        Values::F64(values) => numbers(group, name, column.width, false, values),
        Values::I64(values) => numbers(group, name, column.width, false, values),
        Values::U8(values) => numbers(group, name, column.width, false, values),
    }
}

/// A folder may be replaced if nobody loses anything but older roll-outs.
fn check_replaceable(path: &Path) -> Result<(), String> {
    let Ok(metadata) = path.metadata() else {
        return Ok(());
    };
    if !metadata.is_dir() {
        return Err("this is a file, and roll-outs go into a folder".to_owned());
    }
    for entry in fs::read_dir(path).map_err(|error| error.to_string())? {
        let name = entry.map_err(|error| error.to_string())?.file_name();
        let number = (name.to_str())
            .and_then(|name| name.strip_prefix("rollout_")?.strip_suffix(".h5"))
            .is_some_and(|number| number.parse::<u64>().is_ok());
        if !number {
            return Err(format!(
                "this folder holds `{}`, so it is not replaced; name another folder",
                name.to_string_lossy()
            ));
        }
    }
    Ok(())
}
