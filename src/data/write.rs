//! Writing D4RL's HDF5 layout, episode by episode.
//!
//! The file grows under a temporary name beside its target and takes the target's name only when it is complete and
//! synced, so a reader never meets half a file and a failed run leaves an older file untouched. Memory stays bounded:
//! every array is stored in gzip chunks of about a quarter of a mebibyte, and only the last one is held.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hdf5::types::VarLenUnicode;
use hdf5::{Extent, Group, H5Type};
use ndarray::{ArrayView2, ArrayView4};
use tempfile::NamedTempFile;

use super::error::explain;
use super::target::Target;
use super::{Column, DataError, Episode, Images, Values};
use crate::files::{folder_of, put_in_place, temporary_beside};

/// Bytes per chunk before compression; smaller than HDF5's chunk cache, so that a half-filled chunk stays there and is
/// packed once.
pub(super) const CHUNK_BYTES: usize = 256 << 10;

/// Bytes of pictures per chunk: few, because a window is a few pictures from anywhere.
const PICTURE_CHUNK_BYTES: usize = 48 << 10;

/// zlib's level, h5py's default.
pub(super) const GZIP_LEVEL: u8 = 4;

/// Name under `infos/` that holds the number of the episode.
pub(super) const SEQUENCE: &str = "sequence";

/// What a file says about itself, stored as attributes of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// `scene`: the scene file the episodes come from.
    pub scene: String,
    /// `seed`: master seed of the recording.
    pub seed: u64,
    /// `elements`: names of the task elements.
    pub elements: Vec<String>,
    /// `demonstrator`: who acted, with all settings, as text.
    pub demonstrator: String,
    /// Further attributes.
    pub more: BTreeMap<String, String>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Number of episodes.
    pub episodes: usize,
    /// Number of steps.
    pub steps: usize,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// One growing array.
#[derive(Debug)]
struct Array {
    dataset: hdf5::Dataset,
    width: usize,
}

/// The file being written with its arrays.
#[derive(Debug)]
struct Open {
    arrays: BTreeMap<String, Array>,
    terminals: hdf5::Dataset,
    timeouts: hdf5::Dataset,
    images: Option<hdf5::Dataset>,
    file: hdf5::File,
}

/// Writes episodes to a new file. Dropping it without [`EpisodeWriter::finish`] discards what was written.
#[derive(Debug)]
pub struct EpisodeWriter {
    /// `None` once a write has failed, since the arrays may have different lengths then.
    open: Option<Open>,
    temporary: Option<NamedTempFile>,
    target: Target,
}

impl EpisodeWriter {
    /// Starts a file with observations of size `observation_dim` and actions of size `action_dim`. Folders on the way
    /// to `path` are created.
    ///
    /// # Errors
    /// [`DataError::Write`] if the folder or the temporary file cannot be made.
    pub fn create(
        path: impl AsRef<Path>,
        observation_dim: usize,
        action_dim: usize,
        description: &Description,
    ) -> Result<Self, DataError> {
        let path = path.as_ref();
        let target = Target::new(path, observation_dim, action_dim)?;
        if path.is_dir() {
            return Err(target.failed("this is a folder"));
        }
        std::fs::create_dir_all(folder_of(path)).map_err(|error| target.failed(error))?;
        let temporary = temporary_beside(path).map_err(|error| target.failed(error))?;
        let file = hdf5::File::create(temporary.path()).map_err(|error| target.failed(explain(&error)))?;
        let start = || -> hdf5::Result<_> {
            describe(&file, description, "D4RL")?;
            let mut arrays = BTreeMap::new();
            for (name, width) in [
                ("observations", observation_dim),
                ("actions", action_dim),
                ("rewards", 1),
            ] {
                let empty = Column::f32(width, Vec::new());
                arrays.insert(name.to_owned(), Array::create(&file, name, &empty)?);
            }
            Ok((
                arrays,
                grow::<bool>(&file, "terminals", 1)?,
                grow::<bool>(&file, "timeouts", 1)?,
            ))
        };
        let (arrays, terminals, timeouts) = match start() {
            Ok(parts) => parts,
            Err(error) => {
                let problem = explain(&error);
                discard(file.clone(), file);
                return Err(target.failed(problem));
            }
        };
        Ok(Self {
            open: Some(Open {
                arrays,
                terminals,
                timeouts,
                images: None,
                file,
            }),
            temporary: Some(temporary),
            target,
        })
    }

    /// Appends one episode. The first one decides names, widths and types of the `infos` and the size of the pictures;
    /// the number of the episode is added as `infos/sequence`.
    ///
    /// # Errors
    /// [`DataError::Episode`] for a malformed episode, which is not written; [`DataError::Write`] if writing fails (no
    /// space), after which the file can only be given up.
    pub fn append(&mut self, episode: &Episode) -> Result<(), DataError> {
        let template = self.target.check(episode)?;
        let (start, number) = (self.target.steps, self.target.episodes);
        let Some(open) = &mut self.open else {
            return Err(self
                .target
                .failed("an earlier write failed, so the file cannot be continued"));
        };
        if let Err(error) = open.append(episode, start, number) {
            return Err(self.give_up(&error));
        }
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

    /// Closes the file, syncs it and gives it its name, replacing an older file.
    ///
    /// # Errors
    /// [`DataError::Write`] if nothing was appended, an earlier write failed or this one does; the target is untouched
    /// then.
    pub fn finish(mut self) -> Result<Written, DataError> {
        if self.open.is_some() {
            self.target.check_not_empty()?;
        }
        let Target { episodes, steps, .. } = self.target;
        let counts = [("episodes", episodes as u64), ("steps", steps as u64)];
        let closed = self.open.as_ref().map(|open| open.complete(counts));
        if let Some(Err(error)) = closed {
            return Err(self.give_up(&error));
        }
        let Some(temporary) = self.temporary.take() else {
            return Err(self.target.failed("an earlier write failed"));
        };
        if let Some(Open {
            arrays,
            terminals,
            timeouts,
            images,
            file,
        }) = self.open.take()
        {
            drop((arrays, terminals, timeouts, images));
            file.close().map_err(|error| self.target.failed(explain(&error)))?;
        }
        let target = &self.target;
        let stored = put_in_place(temporary, &target.path).map_err(|error| target.failed(error))?;
        let bytes = stored.metadata().map_err(|error| target.failed(error))?.len();
        Ok(target.written(bytes))
    }

    /// Gives the temporary file's space back.
    fn empty(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            temporary.as_file().set_len(0).ok();
        }
    }

    /// Gives the file up after a failed write. HDF5 2.2 crashes when it closes a file some of whose chunks it could not
    /// write, so the file stays open until the process ends; its space is given back now.
    fn give_up(&mut self, error: &hdf5::Error) -> DataError {
        let failed = self.target.failed(explain(error));
        std::mem::forget(self.open.take());
        self.empty();
        failed
    }
}

impl Drop for EpisodeWriter {
    fn drop(&mut self) {
        if let Some(open) = self.open.take()
            && !discard(open.file.clone(), open)
        {
            self.empty();
        }
    }
}

/// Closes `everything` that belongs to `file`, unless the file cannot be written any more (see
/// [`EpisodeWriter::give_up`]); tells whether it did.
pub(super) fn discard<T>(file: hdf5::File, everything: T) -> bool {
    let writable = file.flush().is_ok();
    if writable {
        drop(everything);
    } else {
        std::mem::forget((file, everything));
    }
    writable
}

impl Open {
    /// Everything but closing.
    fn complete(&self, counts: [(&str, u64); 2]) -> hdf5::Result<()> {
        for (name, value) in counts {
            self.file.new_attr::<u64>().create(name)?.write_scalar(&value)?;
        }
        self.file.flush()
    }

    /// Appends episode number `number` at row `start`.
    fn append(&mut self, episode: &Episode, start: usize, number: usize) -> hdf5::Result<()> {
        let sequence = Column::i64(1, vec![number as i64; episode.len()]);
        let infos = episode.infos.iter().map(|(name, column)| (name.as_str(), column));
        for (name, column) in infos.chain([(SEQUENCE, &sequence)]) {
            let full = format!("infos/{name}");
            if number == 0 {
                self.arrays
                    .insert(full.clone(), Array::create(&self.file, &full, column)?);
            }
            if let Some(array) = self.arrays.get(&full) {
                array.append(start, column)?;
            }
        }
        for (name, values) in [
            ("observations", &episode.observations),
            ("actions", &episode.actions),
            ("rewards", &episode.rewards),
        ] {
            if let Some(array) = self.arrays.get(name) {
                append(&array.dataset, start, array.width, values)?;
            }
        }
        if let Some(images) = &episode.images {
            let dataset = match &self.images {
                Some(dataset) => dataset,
                None => self.images.insert(grow_pictures(&self.file, images.size())?),
            };
            append_pictures(dataset, start, images)?;
        }
        append(&self.terminals, start, 1, &episode.terminals)?;
        append(&self.timeouts, start, 1, &episode.timeouts)
    }
}

impl Array {
    fn create(parent: &Group, name: &str, like: &Column) -> hdf5::Result<Self> {
        let dataset = match &like.values {
            Values::F32(_) => grow::<f32>(parent, name, like.width)?,
            Values::F64(_) => grow::<f64>(parent, name, like.width)?,
            Values::I64(_) => grow::<i64>(parent, name, like.width)?,
            Values::U8(_) => grow::<u8>(parent, name, like.width)?,
        };
        Ok(Self {
            dataset,
            width: like.width,
        })
    }

    fn append(&self, start: usize, column: &Column) -> hdf5::Result<()> {
        match &column.values {
            Values::F32(values) => append(&self.dataset, start, self.width, values),
            Values::F64(values) => append(&self.dataset, start, self.width, values),
            Values::I64(values) => append(&self.dataset, start, self.width, values),
            Values::U8(values) => append(&self.dataset, start, self.width, values),
        }
    }
}

/// An empty dataset that can grow by rows: `[0..]` for width 1 (unless it is an observation or action), else
/// `[0.., width]`.
fn grow<T: H5Type>(parent: &Group, name: &str, width: usize) -> hdf5::Result<hdf5::Dataset> {
    let rows = (CHUNK_BYTES / (size_of::<T>() * width)).clamp(1, 1 << 14);
    let builder = parent.new_dataset::<T>().shuffle().deflate(GZIP_LEVEL);
    if is_flat(name, width) {
        builder.chunk(rows).shape(Extent::resizable(0)).create(name)
    } else {
        builder
            .chunk((rows, width))
            .shape((Extent::resizable(0), Extent::fixed(width)))
            .create(name)
    }
}

/// Observations and actions stay two-dimensional even when they have one column.
fn is_flat(name: &str, width: usize) -> bool {
    width == 1 && name != "observations" && name != "actions"
}

fn append<T: H5Type>(dataset: &hdf5::Dataset, start: usize, width: usize, values: &[T]) -> hdf5::Result<()> {
    let end = start + values.len() / width;
    if dataset.ndim() == 1 {
        dataset.resize(end)?;
        dataset.write_slice(values, start..end)
    } else {
        dataset.resize((end, width))?;
        let rows = ArrayView2::from_shape((end - start, width), values)?;
        dataset.write_slice(rows, ndarray::s![start..end, ..])
    }
}

/// Rows, height, width and channels of a chunk of whole pictures.
pub(super) fn picture_chunk([height, width]: [usize; 2]) -> [usize; 4] {
    [(PICTURE_CHUNK_BYTES / (height * width * 3)).max(1), height, width, 3]
}

/// An empty dataset of pictures that can grow.
fn grow_pictures(file: &hdf5::File, [height, width]: [usize; 2]) -> hdf5::Result<hdf5::Dataset> {
    let [rows, ..] = picture_chunk([height, width]);
    file.new_dataset::<u8>()
        .deflate(GZIP_LEVEL)
        .chunk((rows, height, width, 3))
        .shape((
            Extent::resizable(0),
            Extent::fixed(height),
            Extent::fixed(width),
            Extent::fixed(3),
        ))
        .create("images")
}

fn append_pictures(dataset: &hdf5::Dataset, start: usize, images: &Images) -> hdf5::Result<()> {
    let Images { height, width, bytes } = images;
    let rows = bytes.len() / (height * width * 3);
    dataset.resize((start + rows, *height, *width, 3))?;
    let pictures = ArrayView4::from_shape((rows, *height, *width, 3), bytes)?;
    dataset.write_slice(pictures, ndarray::s![start..start + rows, .., .., ..])
}

/// Writes the attributes of the file.
pub(super) fn describe(file: &hdf5::File, description: &Description, layout: &str) -> hdf5::Result<()> {
    let mut texts = description.more.clone();
    texts.insert("layout".to_owned(), layout.to_owned());
    texts.insert("scene".to_owned(), description.scene.clone());
    texts.insert("demonstrator".to_owned(), description.demonstrator.clone());
    texts.insert(
        "version".to_owned(),
        concat!("apprentice ", env!("CARGO_PKG_VERSION")).to_owned(),
    );
    for (name, value) in &texts {
        file.new_attr::<VarLenUnicode>()
            .create(name.as_str())?
            .write_scalar(&text(value))?;
    }
    if !description.elements.is_empty() {
        let names: Vec<VarLenUnicode> = description.elements.iter().map(|name| text(name)).collect();
        file.new_attr::<VarLenUnicode>()
            .shape(names.len())
            .create("elements")?
            .write_raw(&names)?;
    }
    file.new_attr::<u64>().create("seed")?.write_scalar(&description.seed)
}

/// HDF5 texts end at the first zero byte, so zero bytes are left out.
fn text(value: &str) -> VarLenUnicode {
    value.replace('\0', "").parse().unwrap_or_default()
}
