//! A demonstration file as foreign input: opening it, finding arrays in it and reading their numbers.
//!
//! Links and storage that lead out of the file are refused, and every size is checked against what the file can hold and
//! against [`Limits`] before memory is reserved. The HDF5 library runs under one process-wide lock.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use hdf5::dataset::Layout;
use hdf5::types::{IntSize, TypeDescriptor};
use hdf5::{Group, H5Type, IndexType, IterationOrder, LinkType, LocationType};

use super::error::{explain, explain_open, valid};
use super::images::LARGEST_SIDE;
use super::{DataError, Limits, NonFinite, heaps};

/// Signature at the start of an HDF5 superblock.
const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// Above this claimed size, what a dataset claims is compared with what is stored.
const PLAUSIBILITY_FROM: u64 = 64 << 20;

/// No deflate stream unpacks to more than 1032 times its size.
const LARGEST_COMPRESSION: u64 = 1100;

/// A file spends at least so many bytes on a chunk: its address. The library makes some kilobytes of each that it reads,
/// also of those that were never written.
const SMALLEST_CHUNK: u64 = 8;

/// What a file was like when it was last looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Bytes.
    size: u64,
    modified: SystemTime,
}

/// Opens `path`, with its size in bytes and what it was like just before. A file that is still as it was `known` to be
/// is not looked through again.
fn open(path: &Path, known: Option<Stamp>) -> Result<(hdf5::File, u64, Option<Stamp>), DataError> {
    let problem = |problem: String| DataError::Open {
        path: path.to_owned(),
        problem,
    };
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => problem("there is no such file".to_owned()),
        _ => problem(error.to_string()),
    })?;
    if metadata.is_dir() {
        return Err(problem("this is a folder, an HDF5 file is expected".to_owned()));
    }
    let size = metadata.len();
    if size == 0 {
        return Err(problem("the file is empty, an HDF5 file is expected".to_owned()));
    }
    let mut bytes = std::fs::File::open(path).map_err(|error| problem(error.to_string()))?;
    let Some(superblock) = find_signature(&mut bytes, size).map_err(|error| problem(error.to_string()))? else {
        return Err(problem(
            "this is not an HDF5 file (its signature is missing)".to_owned(),
        ));
    };
    let stamp = metadata.modified().ok().map(|modified| Stamp { size, modified });
    let is_known = stamp.is_some() && stamp == known;
    if !is_known && let Some(trap) = heaps::trap(&mut bytes, superblock).map_err(|error| problem(error.to_string()))? {
        return Err(problem(trap));
    }
    let file = hdf5::File::open(path).map_err(|error| explain_open(&error, path, size))?;
    Ok((file, size, stamp))
}

/// The superblock may start at byte 0, 512, 1024, 2048, ...
fn find_signature(file: &mut std::fs::File, size: u64) -> std::io::Result<Option<u64>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut offset = 0;
    while offset + SIGNATURE.len() as u64 <= size {
        let mut found = [0_u8; SIGNATURE.len()];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut found)?;
        if found == SIGNATURE {
            return Ok(Some(offset));
        }
        offset = if offset == 0 { 512 } else { offset * 2 };
    }
    Ok(None)
}

/// A group that holds arrays: the file itself or one below it, such as `virtual/<n>` or `traj<n>`.
pub(super) struct Part {
    /// Empty, or the names on the way with a slash after each.
    pub prefix: String,
    group: Group,
    pub members: BTreeMap<String, LinkType>,
}

impl Part {
    /// A whole number among the attributes of the group.
    pub fn attribute(&self, name: &str) -> Option<i64> {
        let attribute = self.group.attr(name).ok()?;
        attribute.read_scalar::<i64>().ok()
    }

    /// The full name of a member.
    pub fn name(&self, member: &str) -> String {
        format!("{}{member}", self.prefix)
    }
}

/// An open file.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    /// Closing it closes everything in it, so it comes with whatever is kept.
    pub file: hdf5::File,
    /// Bytes of the file.
    pub file_size: u64,
    /// What the file was like when it was opened, as far as the system says.
    pub stamp: Option<Stamp>,
    /// What HDF5 numbers this file; objects of other files have other numbers.
    file_number: u64,
    limits: Limits,
    /// Bytes reserved so far.
    used: Cell<u64>,
}

impl<'a> Source<'a> {
    /// Opens a file; `used` bytes of the limit are reserved already.
    pub fn open(path: &'a Path, limits: Limits, used: u64) -> Result<Self, DataError> {
        Self::reopen(path, limits, used, None)
    }

    /// Opens a file that may have been opened before, and was as `known` then.
    pub fn reopen(path: &'a Path, limits: Limits, used: u64, known: Option<Stamp>) -> Result<Self, DataError> {
        let (file, file_size, stamp) = open(path, known)?;
        let file_number = file
            .loc_info()
            .map_err(|error| explain_open(&error, path, file_size))?
            .fileno;
        Ok(Self {
            path,
            file,
            file_size,
            stamp,
            file_number,
            limits,
            used: Cell::new(used),
        })
    }

    /// Bytes reserved so far, those of earlier files included.
    pub fn used(&self) -> u64 {
        self.used.get()
    }

    /// The file's top group.
    pub fn root(&self) -> Result<Part, DataError> {
        self.part(String::new(), &self.file)
    }

    /// The group with this [`Part::prefix`].
    pub fn descend(&self, prefix: &str) -> Result<Part, DataError> {
        let mut part = self.root()?;
        for name in prefix.split('/').filter(|name| !name.is_empty()) {
            let Some(next) = self.subgroup(&part, name)? else {
                return Err(self.wrong(&part.name(name), "a group", "none"));
            };
            part = next;
        }
        Ok(part)
    }

    pub fn wrong(&self, dataset: &str, expected: impl Into<String>, found: impl Into<String>) -> DataError {
        DataError::Dataset {
            path: self.path.to_owned(),
            dataset: dataset.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub fn failed(&self, dataset: &str, error: &hdf5::Error) -> DataError {
        DataError::Read {
            path: self.path.to_owned(),
            dataset: dataset.to_owned(),
            problem: explain(error),
        }
    }

    fn part(&self, prefix: String, group: &Group) -> Result<Part, DataError> {
        let links = group
            .links(IndexType::Name, IterationOrder::Increasing)
            .map_err(|error| self.failed(&format!("{prefix}*"), &error))?;
        let members = links
            .into_iter()
            .map(|(name, info)| (valid(&name).into_owned(), info.link_type))
            .collect();
        Ok(Part {
            prefix,
            group: group.clone(),
            members,
        })
    }

    pub fn subgroup(&self, part: &Part, name: &str) -> Result<Option<Part>, DataError> {
        let full = part.name(name);
        if !self.is(part, name, LocationType::Group)? {
            return Ok(None);
        }
        let group = part.group.group(name).map_err(|error| self.failed(&full, &error))?;
        self.part(format!("{full}/"), &group).map(Some)
    }

    /// Whether `name` exists in the part, inside this file, and is of this kind.
    fn is(&self, part: &Part, name: &str, kind: LocationType) -> Result<bool, DataError> {
        let full = part.name(name);
        match part.members.get(name) {
            None => Ok(false),
            Some(LinkType::External) => Err(self.wrong(
                &full,
                "data inside this file",
                "a link to another file, which is not followed",
            )),
            Some(LinkType::Hard | LinkType::Soft) => {
                let found = part
                    .group
                    .loc_info_by_name(name)
                    .map_err(|error| self.failed(&full, &error))?;
                // A soft link may lead through an external one.
                if found.fileno != self.file_number {
                    return Err(self.wrong(&full, "data inside this file", "a link that leads to another file"));
                }
                Ok(found.loc_type == kind)
            }
        }
    }

    pub fn find(&self, part: &Part, name: &str) -> Result<Option<hdf5::Dataset>, DataError> {
        if !self.is(part, name, LocationType::Dataset)? {
            return Ok(None);
        }
        let full = part.name(name);
        part.group
            .dataset(name)
            .map(Some)
            .map_err(|error| self.failed(&full, &error))
    }

    pub fn require(&self, part: &Part, name: &str) -> Result<hdf5::Dataset, DataError> {
        self.find(part, name)?.ok_or_else(|| self.missing(part, name))
    }

    /// The array does not exist: say which name comes nearest.
    pub fn missing(&self, part: &Part, name: &str) -> DataError {
        let nearest = part
            .members
            .keys()
            .map(|member| (strsim::jaro_winkler(member, name), member))
            .filter(|(similarity, _)| *similarity > 0.75)
            .max_by(|first, second| first.0.total_cmp(&second.0));
        let mut found = match nearest {
            Some((_, member)) => format!("no such dataset; the nearest name is `{}{member}`", part.prefix),
            None => "no such dataset".to_owned(),
        };
        if nearest.is_none() {
            found.push_str(&format!(" ({})", listing(&part.members)));
        }
        self.wrong(&part.name(name), "an array with one row per step", found)
    }

    /// `[rows, width]` of a dataset; one-dimensional arrays have width 1.
    pub fn shape(&self, dataset: &hdf5::Dataset, full: &str, expected: &str) -> Result<[usize; 2], DataError> {
        let space = dataset.space().map_err(|error| self.failed(full, &error))?;
        if space.is_null() {
            return Err(self.wrong(full, expected, "an empty dataspace"));
        }
        match *space.shape() {
            [rows] => Ok([rows, 1]),
            [rows, width] if width > 0 => Ok([rows, width]),
            [] => Err(self.wrong(full, expected, "a single value")),
            ref other => Err(self.wrong(full, expected, format!("shape {other:?}"))),
        }
    }

    /// Reads all numbers of a dataset as `T`, after checking size, storage and type.
    pub fn numbers<T>(
        &self,
        dataset: &hdf5::Dataset,
        full: &str,
        [rows, width]: [usize; 2],
    ) -> Result<Vec<T>, DataError>
    where
        T: H5Type + Copy + Default,
    {
        let dtype = dataset.dtype().map_err(|error| self.failed(full, &error))?;
        if dtype.conv_to::<T>().is_none() {
            let found = dtype
                .to_descriptor()
                .map_or_else(|error| error.to_string(), |kind| format!("type {kind}"));
            return Err(self.wrong(full, "numbers", found));
        }
        self.check_storage(dataset, full, dtype.size() as u64)?;
        let claim = |bytes: usize| {
            let count = (rows as u64).checked_mul(width as u64)?;
            count.checked_mul(bytes as u64)
        };
        let (Some(in_file), Some(in_memory)) = (claim(dtype.size()), claim(size_of::<T>())) else {
            return Err(self.wrong(full, "an array that fits in memory", format!("{rows} x {width} values")));
        };
        self.check_claim(dataset, full, in_file, || format!("{rows} x {width} values"))?;
        let used = self.used.get().saturating_add(in_memory);
        if used > self.limits.memory {
            let found = format!("{rows} x {width} values, which makes {} MiB so far", used >> 20);
            return Err(self.wrong(full, format!("at most {} MiB in all", self.limits.memory >> 20), found));
        }
        self.used.set(used);

        let mut values = Vec::new();
        if values.try_reserve_exact(rows * width).is_err() {
            return Err(self.wrong(full, "an array that fits in memory", format!("{} MiB", in_memory >> 20)));
        }
        values.resize(rows * width, T::default());
        if !values.is_empty() {
            dataset
                .read_into_raw(&mut values)
                .map_err(|error| self.failed(full, &error))?;
        }
        Ok(values)
    }

    /// Refuses a dataset whose shape claims more bytes or chunks than the file can hold.
    fn check_claim(
        &self,
        dataset: &hdf5::Dataset,
        full: &str,
        claimed: u64,
        shape: impl Fn() -> String,
    ) -> Result<(), DataError> {
        let stored = dataset.storage_size().min(self.file_size);
        if claimed > PLAUSIBILITY_FROM && claimed / LARGEST_COMPRESSION > stored {
            let found = format!("a claim of {} with only {stored} bytes stored", shape());
            return Err(self.wrong(full, "as many values as its shape says", found));
        }
        let Some(chunk) = dataset.chunk() else {
            return Ok(());
        };
        let sides = dataset.shape().into_iter().zip(chunk);
        let chunks = sides.fold(1, |chunks: u64, (side, step)| {
            chunks.saturating_mul(side.div_ceil(step.max(1)) as u64)
        });
        if chunks > self.file_size / SMALLEST_CHUNK {
            let found = format!("a claim of {chunks} chunks in a file of {} bytes", self.file_size);
            return Err(self.wrong(full, "as many values as its shape says", found));
        }
        Ok(())
    }

    /// The pictures of a part in the array `name`, if it has them, with their height and width. Nothing is read yet.
    pub fn images(
        &self,
        part: &Part,
        name: &str,
        rows: usize,
    ) -> Result<Option<(hdf5::Dataset, [usize; 2])>, DataError> {
        let Some(dataset) = self.find(part, name)? else {
            return Ok(None);
        };
        let full = part.name(name);
        let expected = format!("bytes of shape [{rows}, height, width, 3] with sides of 1 to {LARGEST_SIDE}");
        let space = dataset.space().map_err(|error| self.failed(&full, &error))?;
        let shape = space.shape();
        let sides = 1..=LARGEST_SIDE;
        let size = match *shape {
            [found, height, width, 3] if found == rows && sides.contains(&height) && sides.contains(&width) => {
                [height, width]
            }
            _ => return Err(self.wrong(&full, expected, format!("shape {shape:?}"))),
        };
        match dataset.dtype().and_then(|dtype| dtype.to_descriptor()) {
            Ok(TypeDescriptor::Unsigned(IntSize::U1)) => {}
            Ok(kind) => return Err(self.wrong(&full, expected, format!("type {kind}"))),
            Err(error) => return Err(self.failed(&full, &error)),
        }
        self.check_storage(&dataset, &full, 1)?;
        let claimed = (rows as u64).saturating_mul((size[0] * size[1] * 3) as u64);
        self.check_claim(&dataset, &full, claimed, || {
            format!("{rows} pictures of {} x {} pixels", size[0], size[1])
        })?;
        Ok(Some((dataset, size)))
    }

    /// Refuses storage outside the file, oversized chunks and filters that this build cannot undo.
    fn check_storage(&self, dataset: &hdf5::Dataset, full: &str, item: u64) -> Result<(), DataError> {
        let plist = dataset.dcpl().map_err(|error| self.failed(full, &error))?;
        if plist.layout() == Layout::Virtual {
            let found = "a virtual dataset, which may lead to other files; `h5repack -l CONTI` makes a plain copy";
            return Err(self.wrong(full, "values stored in this dataset", found));
        }
        let external = plist.get_external().map_err(|error| self.failed(full, &error))?;
        if let Some(file) = external.first() {
            return Err(self.wrong(
                full,
                "data inside this file",
                format!("values stored in `{}`", file.name),
            ));
        }
        if let Some(chunk) = plist.chunk() {
            let bytes = chunk
                .iter()
                .try_fold(item, |bytes, &side| bytes.checked_mul(side as u64));
            if bytes.is_none_or(|bytes| bytes > self.limits.chunk) {
                let expected = format!("chunks of at most {} MiB", self.limits.chunk >> 20);
                return Err(self.wrong(full, expected, format!("chunks of {chunk:?} values")));
            }
        }
        let filters = plist.get_filters().map_err(|error| self.failed(full, &error))?;
        match filters.iter().find(|filter| !filter.is_available()) {
            None => Ok(()),
            Some(filter) => {
                let found = format!("filter {filter:?}; `h5repack -f GZIP=4` makes a readable copy");
                Err(self.wrong(full, "no compression or gzip", found))
            }
        }
    }

    /// Reads one floating-point array with its shape. NaN and infinities are refused, or noted in `non_finite` if there
    /// is a list for them.
    pub fn floats(
        &self,
        part: &Part,
        name: &str,
        expected: &str,
        non_finite: Option<&mut Vec<(String, NonFinite)>>,
    ) -> Result<([usize; 2], Vec<f32>), DataError> {
        let full = part.name(name);
        let dataset = self.require(part, name)?;
        let shape = self.shape(&dataset, &full, expected)?;
        let values: Vec<f32> = self.numbers(&dataset, &full, shape)?;
        match (NonFinite::find(&values, shape[1]), non_finite) {
            (None, _) => {}
            (Some(problem), Some(list)) => list.push((full, problem)),
            (Some(problem), None) => return Err(self.non_finite(full, problem)),
        }
        Ok((shape, values))
    }

    fn non_finite(&self, dataset: String, problem: NonFinite) -> DataError {
        DataError::NonFinite {
            path: self.path.to_owned(),
            dataset,
            problem,
        }
    }

    /// Reads an array with one number per step, if it exists; `rows` is the number of rows of the array `like`.
    pub fn per_step<T>(&self, part: &Part, name: &str, rows: usize, like: &str) -> Result<Option<Vec<T>>, DataError>
    where
        T: H5Type + Copy + Default + Into<f64>,
    {
        let Some(dataset) = self.find(part, name)? else {
            return Ok(None);
        };
        let full = part.name(name);
        let expected = one_per_step(rows, like);
        let shape = self.shape(&dataset, &full, &expected)?;
        if shape != [rows, 1] {
            return Err(self.wrong(&full, expected, format!("shape {:?}", dataset.shape())));
        }
        let values: Vec<T> = self.numbers(&dataset, &full, shape)?;
        match NonFinite::find(&values, 1) {
            Some(problem) => Err(self.non_finite(full, problem)),
            None => Ok(Some(values)),
        }
    }

    /// Reads a single number, if it exists.
    pub fn scalar(&self, part: &Part, name: &str) -> Result<Option<f64>, DataError> {
        let Some(dataset) = self.find(part, name)? else {
            return Ok(None);
        };
        let full = part.name(name);
        let expected = "a single number";
        let space = dataset.space().map_err(|error| self.failed(&full, &error))?;
        if space.is_null() || space.size() != 1 {
            return Err(self.wrong(&full, expected, format!("shape {:?}", dataset.shape())));
        }
        let values: Vec<f64> = self.numbers(&dataset, &full, [1, 1])?;
        Ok(values.first().copied())
    }
}

/// What an array with one number per step should look like.
pub(super) fn one_per_step(rows: usize, like: &str) -> String {
    format!("shape [{rows}] or [{rows}, 1], as `{like}` has {rows} rows")
}

pub(super) fn listing(members: &BTreeMap<String, LinkType>) -> String {
    const SHOWN: usize = 12;
    if members.is_empty() {
        return "nothing is there".to_owned();
    }
    let mut names: Vec<String> = members.keys().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if members.len() > SHOWN {
        names.push(format!("and {} more", members.len() - SHOWN));
    }
    format!("present: {}", names.join(", "))
}
