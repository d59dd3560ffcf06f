//! Reading demonstrations: D4RL's flat arrays here, folders of roll-outs in `rollouts.rs`, Minari's datasets in
//! `minari.rs`.
//!
//! Values are checked before anybody trains on them. Numbers are read into memory once; pictures stay in the file until
//! somebody asks for them ([`ImageStore`](super::ImageStore)).

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use hdf5::types::{FloatSize, IntSize, TypeDescriptor};

use super::dataset::{CutRule, Dataset, Flat};
use super::file::{Part, Source, listing, one_per_step};
use super::images::Pieces;
use super::write::SEQUENCE;
use super::{Column, DataError, Values, minari, rollouts};

/// Name of the pictures in D4RL's layout and in roll-outs.
pub(super) const IMAGES: &str = "images";

/// What a file may demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory for all arrays of numbers together, in bytes. Pictures have a limit of their own.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Sizes that are refused.
    pub limits: Limits,
    /// How the flat arrays are cut into sequences. A trajectory of a roll-out file and an episode of a Minari dataset
    /// always are one sequence.
    pub cut: CutRule,
    /// Side arrays to read as well: names below `infos/`; those that are not there are left out.
    pub infos: Vec<String>,
    /// Read every side array but the numbers of the episodes.
    pub every_info: bool,
    /// Keep NaN and infinite values and list them in [`Dataset::non_finite`] instead of refusing the file.
    pub keep_non_finite: bool,
    /// Bytes of pictures that are kept in memory once they are needed. If there are more, windows are read from the
    /// file one by one, which takes longer and gives the same numbers.
    pub image_memory: u64,
}

impl Default for ReadOptions {
    /// No side arrays, 2 GiB of pictures.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            cut: CutRule::default(),
            infos: Vec::new(),
            every_info: false,
            keep_non_finite: false,
            image_memory: 2 << 30,
        }
    }
}

impl ReadOptions {
    fn wants(&self, info: &str) -> bool {
        self.infos.iter().any(|name| name == info) || (self.every_info && info != SEQUENCE)
    }
}

/// The files in which the demonstrations at `path` are, without Minari's metadata.
pub(super) fn files_of(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    match minari::main_file(path)? {
        Some(file) => Ok(vec![file]),
        None => rollouts::files_below(path),
    }
}

impl Dataset {
    /// Reads demonstrations with default [`ReadOptions`]: a file in D4RL's layout, a file of `SPiRL`'s roll-outs, a
    /// folder with such files at any depth, or a Minari dataset.
    ///
    /// D4RL's layout: all with `N` rows, `observations` `[N, S]`, `actions` `[N, A]`, `rewards` `[N]` or `[N, 1]`,
    /// `terminals` and/or `timeouts` `[N]` (booleans, integers or floats; not zero = set), optionally the number of the
    /// demonstration as `infos/sequence` `[N]` (whole numbers) or `infos` `[N]` (whole numbers that never fall; others
    /// mean something else and are left out, with a note), and pictures as `images` `[N, H, W, 3]` (bytes; anything else
    /// of that name is left out, with a note). Any number type is converted to 32-bit floats. D4RL's chunked files
    /// (`virtual/<n>/observations`, ...) are joined in numeric order.
    ///
    /// Roll-outs (`SPiRL`, `data_loader.py`): per file `traj_per_file`, and per trajectory of `T` rows `traj<n>/states`
    /// `[T, S]`, `actions` `[T, A]`, `pad_mask` `[T]` (the last 1 ends the trajectory), optionally `images`
    /// `[T, H, W, 3]`, `rewards`, `terminals`, `timeouts` `[T]` and side arrays `infos/*`. Files are taken in the order
    /// of their paths, so that it is always the same; the original's was that of the file system.
    ///
    /// Minari (0.4 and 0.5, HDF5): the folder with `data/main_data.hdf5` in it, the folder `data`, or that file itself.
    /// Per episode of `T` steps `episode_<n>/observations` `[T + 1, S]`, `actions` `[T, A]`, `rewards`, `terminations`,
    /// `truncations` `[T]` and side arrays `infos/*` of `T` or `T + 1` rows. Of dict observations `observation` is read,
    /// or `state`, or the only array of floating-point numbers, and an array of pictures, if there is one; the notes say
    /// what was left out. The last observation is kept for those who ask for an episode, but is no row.
    ///
    /// # Errors
    /// [`DataError`] naming file, dataset, expectation and finding.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DataError> {
        Self::read_with(path, &ReadOptions::default())
    }

    /// Reads demonstrations, see [`Dataset::read`].
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn read_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self, DataError> {
        let path = path.as_ref();
        if path.is_dir() {
            return match minari::main_file(path)? {
                Some(file) => minari::read(path, &file, options),
                None => rollouts::read(path, &rollouts::files_below(path)?, options),
            };
        }
        let source = Source::open(path, options.limits, 0)?;
        let root = source.root()?;
        if rollouts::is_rollouts(&root) {
            drop(source);
            return rollouts::read(path, &[path.to_owned()], options);
        }
        if minari::is_minari(&root) {
            drop(source);
            return minari::read(path, path, options);
        }
        let mut flat = Flat {
            origin: path.display().to_string(),
            attributes: source.attributes()?,
            ..Flat::default()
        };
        let mut images = Pieces::default();
        let parts = source.parts(root)?;
        for part in &parts {
            source.append(part, options, &mut flat, &mut images)?;
        }
        if flat.rewards.is_empty() {
            return Err(source.wrong("observations", "at least one row", "none"));
        }
        flat.images = images.finish(flat.rewards.len(), options);
        Ok(Dataset::from_flat(flat, &options.cut))
    }
}

impl Source<'_> {
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

    /// Appends one part's arrays.
    fn append(
        &self,
        part: &Part,
        options: &ReadOptions,
        flat: &mut Flat,
        images: &mut Pieces,
    ) -> Result<(), DataError> {
        let name = |name: &str| part.name(name);
        let mut floats = |name: &str, expected: &str| {
            let non_finite = options.keep_non_finite.then_some(&mut flat.non_finite);
            self.floats(part, name, expected, non_finite)
        };
        let (shape, observations) = floats("observations", "shape [steps, observation size]")?;
        let rows = shape[0];
        let (action_shape, actions) = floats("actions", "shape [steps, action size]")?;
        if action_shape[0] != rows {
            let expected = format!("{rows} rows, as `observations` has");
            return Err(self.wrong(&name("actions"), expected, format!("{} rows", action_shape[0])));
        }
        let expected = one_per_step(rows, "observations");
        let (reward_shape, rewards) = floats("rewards", &expected)?;
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

        let terminals: Option<Vec<f32>> = self.per_step(part, "terminals", rows, "observations")?;
        let timeouts: Option<Vec<f32>> = self.per_step(part, "timeouts", rows, "observations")?;
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
        // Whoever does not look at pictures can do without them.
        let added = self.images(part, IMAGES, rows).and_then(|found| {
            images
                .add(self, name(IMAGES), start, rows, found.map(|(_, size)| size))
                .map_err(|(expected, found)| self.wrong(&name(IMAGES), expected, found))
        });
        if let Err(problem) = added {
            images.give_up();
            flat.notes.push(format!("pictures were left out: {problem}"));
        }
        match infos {
            Some(infos) => self.append_infos(&infos, options, (start, rows), rows..=rows, flat),
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
            return match self.per_step(infos, SEQUENCE, rows, "observations")? {
                Some(values) => whole_numbers(&values).map(Some).map_err(|found| {
                    let full = infos.name(SEQUENCE);
                    self.wrong(&full, "whole numbers", found)
                }),
                None => Ok(None),
            };
        }
        let full = part.name("infos");
        let problem = match self.per_step(part, "infos", rows, "observations") {
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

    /// Appends the first `kept` rows of the side arrays that are wanted, at row `start`. They may have as many rows as
    /// `lengths` says.
    pub(super) fn append_infos(
        &self,
        infos: &Part,
        options: &ReadOptions,
        (start, kept): (usize, usize),
        lengths: RangeInclusive<usize>,
        flat: &mut Flat,
    ) -> Result<(), DataError> {
        flat.info_names.extend(infos.members.keys().cloned());
        for name in infos.members.keys().filter(|name| options.wants(name)) {
            let full = infos.name(name);
            let Some(dataset) = self.find(infos, name)? else {
                flat.notes.push(format!("`{full}` is not an array and was left out"));
                continue;
            };
            let Ok(shape) = self.shape(&dataset, &full, "").and_then(|shape| match shape {
                [found, _] if lengths.contains(&found) => Ok(shape),
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
            let mut column = Column {
                width: shape[1],
                values,
            };
            if kept < shape[0] {
                column = column.slice(0..kept);
            }
            if start == 0 {
                flat.infos.insert(name.clone(), column);
            } else if !flat.infos.get_mut(name).is_some_and(|first| first.append(&column)) {
                flat.notes
                    .push(format!("`{full}` does not continue the chunks before and was left out"));
            }
        }
        let complete = start + kept;
        flat.infos.retain(|_, column| column.rows() == complete);
        Ok(())
    }
}

/// Appends without copying where nothing is there yet.
pub(super) fn join(values: &mut Vec<f32>, more: Vec<f32>) {
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
