//! Reading D4RL's HDF5 layout.
//!
//! A file is foreign input: links and storage that lead out of it are refused, every size is checked against what the
//! file can hold and against [`Limits`] before memory is reserved, and the values are checked before anybody trains on
//! them. The HDF5 library runs under one process-wide lock, so everything is read into memory once.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use hdf5::dataset::Layout;
use hdf5::types::{FloatSize, IntSize, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Group, H5Type, IndexType, IterationOrder, LinkType, LocationType};

use super::dataset::{CutRule, Dataset, Flat};
use super::error::{explain, explain_open};
use super::write::SEQUENCE;
use super::{Column, DataError, NonFinite, Values};

/// Signature at the start of an HDF5 superblock.
const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// Above this claimed size, what a dataset claims is compared with what is stored.
const PLAUSIBILITY_FROM: u64 = 64 << 20;

/// No deflate stream unpacks to more than 1032 times its size.
const LARGEST_COMPRESSION: u64 = 1100;

/// Attribute arrays longer than this are left out.
const LONGEST_ATTRIBUTE: usize = 4096;

/// What a file may demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory for all arrays together, in bytes.
    pub memory: u64,
    /// Size of one storage chunk, in bytes.
    pub chunk: u64,
}

impl Default for Limits {
    /// 16 GiB of memory, chunks of 1 GiB.
    fn default() -> Self {
        Self {
            memory: 16 << 30,
            chunk: 1 << 30,
        }
    }
}

/// What to read and how strictly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// Sizes that are refused.
    pub limits: Limits,
    /// How the flat arrays are cut into sequences.
    pub cut: CutRule,
    /// Side arrays to read as well: names below `infos/`; those that are not there are left out.
    pub infos: Vec<String>,
    /// Keep NaN and infinite values and list them in [`Dataset::non_finite`] instead of refusing the file.
    pub keep_non_finite: bool,
}

impl Dataset {
    /// Reads a file in D4RL's layout with default [`ReadOptions`].
    ///
    /// Expected datasets, all with `N` rows: `observations` `[N, S]`, `actions` `[N, A]`, `rewards` `[N]` or `[N, 1]`,
    /// `terminals` and/or `timeouts` `[N]` (booleans, integers or floats; not zero = set), optionally the number of the
    /// demonstration as `infos/sequence` `[N]` (whole numbers) or `infos` `[N]` (whole numbers that never fall; others
    /// mean something else and are left out, with a note). Any number type is converted to 32-bit floats. D4RL's
    /// chunked files (`virtual/<n>/observations`, ...) are joined in numeric order.
    ///
    /// # Errors
    /// [`DataError`] naming file, dataset, expectation and finding.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DataError> {
        Self::read_with(path, &ReadOptions::default())
    }

    /// Reads a file in D4RL's layout, see [`Dataset::read`].
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn read_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self, DataError> {
        let path = path.as_ref();
        let (file, file_size) = open(path)?;
        let file_number = file
            .loc_info()
            .map_err(|error| explain_open(&error, path, file_size))?
            .fileno;
        let reader = Reader {
            path,
            file_size,
            file_number,
            limits: options.limits,
            used: Cell::new(0),
        };
        let root = reader.part(String::new(), &file)?;
        let parts = reader.parts(root)?;

        let mut flat = Flat {
            origin: path.display().to_string(),
            ..Flat::default()
        };
        flat.attributes = attributes(&file).map_err(|error| reader.failed("(attributes)", &error))?;
        for part in &parts {
            reader.append(part, options, &mut flat)?;
        }
        if flat.rewards.is_empty() {
            return Err(reader.wrong("observations", "at least one row", "none"));
        }
        Ok(Dataset::from_flat(flat, &options.cut))
    }
}

/// Opens `path`, with its size in bytes.
fn open(path: &Path) -> Result<(hdf5::File, u64), DataError> {
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
    if !has_signature(path).map_err(|error| problem(error.to_string()))? {
        return Err(problem(
            "this is not an HDF5 file (its signature is missing)".to_owned(),
        ));
    }
    let file = hdf5::File::open(path).map_err(|error| explain_open(&error, path, size))?;
    Ok((file, size))
}

/// The superblock may start at byte 0, 512, 1024, 2048, ...
fn has_signature(path: &Path) -> std::io::Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    let mut offset = 0;
    while offset + SIGNATURE.len() as u64 <= size {
        let mut found = [0_u8; SIGNATURE.len()];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut found)?;
        if found == SIGNATURE {
            return Ok(true);
        }
        offset = if offset == 0 { 512 } else { offset * 2 };
    }
    Ok(false)
}

/// A group that holds the arrays: the file itself or one of the `virtual/<n>`.
struct Part {
    prefix: String,
    group: Group,
    members: BTreeMap<String, LinkType>,
}

struct Reader<'a> {
    path: &'a Path,
    file_size: u64,
    /// What HDF5 numbers this file; objects of other files have other numbers.
    file_number: u64,
    limits: Limits,
    /// Bytes reserved so far.
    used: Cell<u64>,
}

impl Reader<'_> {
    fn wrong(&self, dataset: &str, expected: impl Into<String>, found: impl Into<String>) -> DataError {
        DataError::Dataset {
            path: self.path.to_owned(),
            dataset: dataset.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn failed(&self, dataset: &str, error: &hdf5::Error) -> DataError {
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
            .map(|(name, info)| (valid_text(name.as_bytes()), info.link_type))
            .collect();
        Ok(Part {
            prefix,
            group: group.clone(),
            members,
        })
    }

    /// The groups to join: the root, or D4RL's chunks.
    fn parts(&self, root: Part) -> Result<Vec<Part>, DataError> {
        if root.members.contains_key("observations") {
            return Ok(vec![root]);
        }
        let Some(chunks) = self.subgroup(&root, "virtual")? else {
            return Err(self.missing(&root, "observations"));
        };
        let mut numbers: Vec<(u64, &String)> = chunks
            .members
            .keys()
            .filter_map(|name| Some((name.parse().ok()?, name)))
            .collect();
        numbers.sort_unstable();
        let mut parts = Vec::with_capacity(numbers.len());
        for (_, name) in numbers {
            match self.subgroup(&chunks, name)? {
                Some(part) => parts.push(part),
                None => return Err(self.wrong(&format!("virtual/{name}"), "a group", "a dataset")),
            }
        }
        if parts.is_empty() {
            return Err(self.wrong(
                "virtual",
                "groups `0`, `1`, ... with the arrays",
                listing(&chunks.members),
            ));
        }
        Ok(parts)
    }

    fn subgroup(&self, part: &Part, name: &str) -> Result<Option<Part>, DataError> {
        let full = format!("{}{name}", part.prefix);
        if !self.is(part, name, LocationType::Group)? {
            return Ok(None);
        }
        let group = part.group.group(name).map_err(|error| self.failed(&full, &error))?;
        self.part(format!("{full}/"), &group).map(Some)
    }

    /// Whether `name` exists in the part, inside this file, and is of this kind.
    fn is(&self, part: &Part, name: &str, kind: LocationType) -> Result<bool, DataError> {
        let full = format!("{}{name}", part.prefix);
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

    fn find(&self, part: &Part, name: &str) -> Result<Option<hdf5::Dataset>, DataError> {
        if !self.is(part, name, LocationType::Dataset)? {
            return Ok(None);
        }
        let full = format!("{}{name}", part.prefix);
        part.group
            .dataset(name)
            .map(Some)
            .map_err(|error| self.failed(&full, &error))
    }

    fn require(&self, part: &Part, name: &str) -> Result<hdf5::Dataset, DataError> {
        self.find(part, name)?.ok_or_else(|| self.missing(part, name))
    }

    /// The dataset does not exist: say which name comes nearest, and recognise other common layouts.
    fn missing(&self, part: &Part, name: &str) -> DataError {
        let known = |start: &str| part.members.keys().any(|member| member.starts_with(start));
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
        if known("episode_") {
            found.push_str("; this looks like a Minari file, not like D4RL's flat arrays");
        } else if known("traj") {
            found.push_str("; this looks like a SPiRL roll-out file, not like D4RL's flat arrays");
        }
        self.wrong(
            &format!("{}{name}", part.prefix),
            "an array with one row per step",
            found,
        )
    }

    /// `[rows, width]` of a dataset; one-dimensional arrays have width 1.
    fn shape(&self, dataset: &hdf5::Dataset, full: &str, expected: &str) -> Result<[usize; 2], DataError> {
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
    fn numbers<T>(&self, dataset: &hdf5::Dataset, full: &str, [rows, width]: [usize; 2]) -> Result<Vec<T>, DataError>
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
        let stored = if dataset.layout() == Layout::Virtual {
            self.file_size
        } else {
            dataset.storage_size()
        };
        let stored = stored.min(self.file_size);
        if in_file > PLAUSIBILITY_FROM && in_file / LARGEST_COMPRESSION > stored {
            let found = format!("a claim of {rows} x {width} values with only {stored} bytes stored");
            return Err(self.wrong(full, "as many values as its shape says", found));
        }
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

    /// Reads one floating-point array and checks it for NaN and infinities.
    fn floats(
        &self,
        part: &Part,
        name: &str,
        expected: &str,
        options: &ReadOptions,
        flat: &mut Flat,
    ) -> Result<([usize; 2], Vec<f32>), DataError> {
        let full = format!("{}{name}", part.prefix);
        let dataset = self.require(part, name)?;
        let shape = self.shape(&dataset, &full, expected)?;
        let values: Vec<f32> = self.numbers(&dataset, &full, shape)?;
        if let Some(problem) = NonFinite::find(&values, shape[1]) {
            if !options.keep_non_finite {
                return Err(DataError::NonFinite {
                    path: self.path.to_owned(),
                    dataset: full,
                    problem,
                });
            }
            flat.non_finite.push((full, problem));
        }
        Ok((shape, values))
    }

    /// Reads an array with one number per step, if it exists.
    fn per_step<T>(&self, part: &Part, name: &str, rows: usize) -> Result<Option<Vec<T>>, DataError>
    where
        T: H5Type + Copy + Default + Into<f64>,
    {
        let Some(dataset) = self.find(part, name)? else {
            return Ok(None);
        };
        let full = format!("{}{name}", part.prefix);
        let expected = format!("shape [{rows}] or [{rows}, 1], as `observations` has {rows} rows");
        let shape = self.shape(&dataset, &full, &expected)?;
        if shape != [rows, 1] {
            return Err(self.wrong(&full, expected, format!("shape {:?}", dataset.shape())));
        }
        let values: Vec<T> = self.numbers(&dataset, &full, shape)?;
        match NonFinite::find(&values, 1) {
            Some(problem) => Err(DataError::NonFinite {
                path: self.path.to_owned(),
                dataset: full,
                problem,
            }),
            None => Ok(Some(values)),
        }
    }

    /// Appends one part's arrays.
    fn append(&self, part: &Part, options: &ReadOptions, flat: &mut Flat) -> Result<(), DataError> {
        let name = |name: &str| format!("{}{name}", part.prefix);
        let (shape, observations) =
            self.floats(part, "observations", "shape [steps, observation size]", options, flat)?;
        let rows = shape[0];
        let (action_shape, actions) = self.floats(part, "actions", "shape [steps, action size]", options, flat)?;
        if action_shape[0] != rows {
            let expected = format!("{rows} rows, as `observations` has");
            return Err(self.wrong(&name("actions"), expected, format!("{} rows", action_shape[0])));
        }
        let expected = format!("shape [{rows}] or [{rows}, 1], as `observations` has {rows} rows");
        let (reward_shape, rewards) = self.floats(part, "rewards", &expected, options, flat)?;
        if reward_shape != [rows, 1] {
            return Err(self.wrong(&name("rewards"), expected, format!("shape {reward_shape:?}")));
        }
        for (dataset, known, found) in [
            ("observations", &mut flat.observation_dim, shape[1]),
            ("actions", &mut flat.action_dim, action_shape[1]),
        ] {
            if *known != 0 && *known != found {
                let expected = format!("{known} columns as in the chunks before");
                return Err(self.wrong(&name(dataset), expected, format!("{found} columns")));
            }
            *known = found;
        }

        let terminals: Option<Vec<f32>> = self.per_step(part, "terminals", rows)?;
        let timeouts: Option<Vec<f32>> = self.per_step(part, "timeouts", rows)?;
        let infos = self.subgroup(part, "infos")?;
        let before = flat.notes.len();
        let index = self.demonstration_numbers(part, infos.as_ref(), rows, flat)?;
        if terminals.is_none() && timeouts.is_none() && index.is_none() {
            let mut missing = self.missing(part, "terminals");
            if let DataError::Dataset { found, .. } = &mut missing {
                for note in flat.notes.iter().skip(before) {
                    found.push_str("; ");
                    found.push_str(note);
                }
            }
            return Err(missing);
        }
        if terminals.is_none() {
            flat.notes
                .push(format!("no `{}`: no step counts as terminal", name("terminals")));
        }
        let flags = |values: Option<Vec<f32>>| match values {
            Some(values) => values.iter().map(|&value| value != 0.0).collect(),
            None => vec![false; rows],
        };
        let start = flat.rewards.len();
        join(&mut flat.observations, observations);
        join(&mut flat.actions, actions);
        join(&mut flat.rewards, rewards);
        flat.terminals.extend(flags(terminals));
        flat.timeouts.extend(flags(timeouts));
        flat.index = match (index, flat.index.take()) {
            (Some(numbers), Some(mut known)) => {
                known.extend(numbers);
                Some(known)
            }
            (Some(numbers), None) if start == 0 => Some(numbers),
            (None, None) => None,
            _ => {
                let note = "the numbers of the demonstrations are ignored: not every chunk has them";
                flat.notes.push(note.to_owned());
                None
            }
        };
        match infos {
            Some(infos) => self.append_infos(&infos, &options.infos, [start, rows], flat),
            None => Ok(()),
        }
    }

    /// The number of the demonstration of each row, if the part has them. Only a name makes sure what an array means:
    /// in one that is just called `infos`, numbers count only if they look as if they were those.
    fn demonstration_numbers(
        &self,
        part: &Part,
        infos: Option<&Part>,
        rows: usize,
        flat: &mut Flat,
    ) -> Result<Option<Vec<i64>>, DataError> {
        if let Some(infos) = infos {
            return match self.per_step(infos, SEQUENCE, rows)? {
                Some(values) => whole_numbers(&values).map(Some).map_err(|found| {
                    let full = format!("{}{SEQUENCE}", infos.prefix);
                    self.wrong(&full, "whole numbers", found)
                }),
                None => Ok(None),
            };
        }
        let full = format!("{}infos", part.prefix);
        let problem = match self.per_step(part, "infos", rows) {
            Ok(Some(values)) => match whole_numbers(&values) {
                Ok(numbers) if numbers.is_sorted() => return Ok(Some(numbers)),
                Ok(_) => format!("`{full}` falls, as numbers of demonstrations do not"),
                Err(found) => format!("`{full}` holds {found}, which numbers no demonstration"),
            },
            Ok(None) => return Ok(None),
            Err(error) => error.to_string(),
        };
        flat.notes.push(format!("ignored: {problem}"));
        Ok(None)
    }

    fn append_infos(
        &self,
        infos: &Part,
        wanted: &[String],
        [start, rows]: [usize; 2],
        flat: &mut Flat,
    ) -> Result<(), DataError> {
        for name in infos.members.keys().filter(|name| wanted.contains(name)) {
            let full = format!("{}{name}", infos.prefix);
            let Some(dataset) = self.find(infos, name)? else {
                flat.notes.push(format!("`{full}` is not an array and was left out"));
                continue;
            };
            let Ok(shape) = self.shape(&dataset, &full, "").and_then(|shape| match shape {
                [found, _] if found == rows => Ok(shape),
                _ => Err(self.wrong(&full, "", "")),
            }) else {
                flat.notes
                    .push(format!("`{full}` has shape {:?} and was left out", dataset.shape()));
                continue;
            };
            let kind = dataset.dtype().and_then(|dtype| dtype.to_descriptor());
            let values = match kind {
                Ok(TypeDescriptor::Float(FloatSize::U4)) => Values::F32(self.numbers(&dataset, &full, shape)?),
                Ok(TypeDescriptor::Float(FloatSize::U8)) => Values::F64(self.numbers(&dataset, &full, shape)?),
                Ok(TypeDescriptor::Unsigned(IntSize::U1) | TypeDescriptor::Boolean) => {
                    Values::U8(self.numbers(&dataset, &full, shape)?)
                }
                Ok(TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_)) => {
                    Values::I64(self.numbers(&dataset, &full, shape)?)
                }
                _ => {
                    flat.notes.push(format!("`{full}` holds no numbers and was left out"));
                    continue;
                }
            };
            let column = Column {
                width: shape[1],
                values,
            };
            if start == 0 {
                flat.infos.insert(name.clone(), column);
            } else if !flat.infos.get_mut(name).is_some_and(|first| first.append(&column)) {
                flat.notes
                    .push(format!("`{full}` does not continue the chunks before and was left out"));
            }
        }
        let complete = start + rows;
        flat.infos.retain(|_, column| column.rows() == complete);
        Ok(())
    }
}

/// Appends without copying where nothing is there yet.
fn join(values: &mut Vec<f32>, more: Vec<f32>) {
    if values.is_empty() {
        *values = more;
    } else {
        values.extend_from_slice(&more);
    }
}

/// The values as whole numbers; the error says which one is none.
fn whole_numbers(values: &[f64]) -> Result<Vec<i64>, String> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = |value: f64| value.fract() == 0.0 && value.abs() <= EXACT;
    match values.iter().enumerate().find(|(_, value)| !whole(**value)) {
        Some((row, value)) => Err(format!("{value} at row {row}")),
        None => Ok(values.iter().map(|&value| value as i64).collect()),
    }
}

/// Attributes of the file as text; what is neither text nor a number is left out.
fn attributes(file: &hdf5::File) -> hdf5::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for name in file.attr_names()? {
        let name = valid_text(name.as_bytes());
        let attribute = file.attr(&name)?;
        let length = attribute
            .shape()
            .iter()
            .try_fold(1_usize, |length, &side| length.checked_mul(side));
        let Ok(kind) = attribute.dtype().and_then(|dtype| dtype.to_descriptor()) else {
            continue;
        };
        if length.is_none_or(|length| length == 0 || length > LONGEST_ATTRIBUTE) {
            continue;
        }
        let values: Vec<String> = match kind {
            TypeDescriptor::VarLenUnicode => {
                let texts = attribute.read_raw::<VarLenUnicode>()?;
                texts.iter().map(|text| valid_text(text.as_bytes())).collect()
            }
            TypeDescriptor::VarLenAscii => {
                let texts = attribute.read_raw::<VarLenAscii>()?;
                texts.iter().map(|text| valid_text(text.as_bytes())).collect()
            }
            TypeDescriptor::Float(_) => attribute
                .read_raw::<f64>()?
                .iter()
                .map(|value| value.to_string())
                .collect(),
            TypeDescriptor::Unsigned(_) => attribute
                .read_raw::<u64>()?
                .iter()
                .map(|value| value.to_string())
                .collect(),
            TypeDescriptor::Integer(_) | TypeDescriptor::Boolean => attribute
                .read_raw::<i64>()?
                .iter()
                .map(|value| value.to_string())
                .collect(),
            _ => continue,
        };
        found.insert(name, values.join(", "));
    }
    Ok(found)
}

/// Text from a file, which need not be valid UTF-8.
fn valid_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn listing(members: &BTreeMap<String, LinkType>) -> String {
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
