//! Reading Minari's datasets (<https://minari.farama.org>): a folder `NAME-v0` with `data/main_data.hdf5`, which holds a
//! group `episode_<n>` for every episode, and `data/metadata.json`.
//!
//! An episode of `T` steps has `T + 1` observations. The last one is no row of a [`Dataset`], whose rows are steps; it is
//! kept beside them. Observations that are a dict, as goal-conditioned environments have them, are read in part: the
//! array `observation`, and pictures where there are some. What was left out is noted.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hdf5::types::{IntSize, TypeDescriptor};

use super::dataset::{Dataset, Flat};
use super::file::{Part, Source, listing, one_per_step};
use super::images::Pieces;
use super::minari_metadata::{self as metadata, METADATA_FILE};
use super::read::join;
use super::rollouts::shorten;
use super::{DataError, ReadOptions};

/// The file with the episodes.
pub(super) const MAIN_FILE: &str = "main_data.hdf5";

/// Names of the vector among dict observations: Gymnasium-Robotics', then that of Gymnasium's `AddRenderObservation`.
const VECTORS: [&str; 2] = ["observation", "state"];

/// Name of the pictures among dict observations, as `AddRenderObservation` has it.
pub(super) const PIXELS: &str = "pixels";

/// Attribute of episodes whose last observation is not known, so that the one before stands there again.
pub(super) const REPEATED: &str = "final_observation_repeated";

/// Whether a file holds a Minari dataset.
pub(super) fn is_minari(root: &Part) -> bool {
    !root.members.contains_key("observations") && root.members.keys().any(|name| episode_number(name).is_some())
}

fn episode_number(name: &str) -> Option<u64> {
    name.strip_prefix("episode_")?.parse().ok()
}

/// The file with the episodes, if `folder` is a dataset or the folder `data` of one.
///
/// # Errors
/// [`DataError::Open`] if it is one that is not stored as HDF5.
pub(super) fn main_file(folder: &Path) -> Result<Option<PathBuf>, DataError> {
    for data in [folder.join("data"), folder.to_owned()] {
        let file = data.join(MAIN_FILE);
        if file.is_file() {
            return Ok(Some(file));
        }
        let format = metadata::read(&data)
            .ok()
            .flatten()
            .and_then(|found| found.get("data_format").cloned());
        if let Some(format) = format.filter(|format| format != "hdf5") {
            return Err(DataError::Open {
                path: folder.to_owned(),
                problem: format!(
                    "this Minari dataset is stored as `{format}`; only those stored as `hdf5` can be read"
                ),
            });
        }
    }
    Ok(None)
}

/// Reads the dataset whose episodes are in `file`. `origin` is what the user named.
pub(super) fn read(origin: &Path, file: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let source = Source::open(file, options.limits, 0)?;
    let mut gathered = Gathered {
        options,
        flat: Flat {
            origin: origin.display().to_string(),
            // Up to version 0.4 the metadata are attributes of the file.
            attributes: source.attributes()?,
            ..Flat::default()
        },
        sequences: Vec::new(),
        images: Pieces::default(),
        index: Vec::new(),
        observed: None,
        left_out: BTreeSet::new(),
        without_last: 0,
        without_end: 0,
    };
    match metadata::read(file.parent().unwrap_or(Path::new(""))) {
        Ok(Some(found)) => gathered.flat.attributes.extend(found),
        Ok(None) => {}
        Err(problem) => gathered
            .flat
            .notes
            .push(format!("`{METADATA_FILE}` is ignored: {problem}")),
    }
    let root = source.root()?;
    let mut numbers: Vec<u64> = root.members.keys().filter_map(|name| episode_number(name)).collect();
    numbers.sort_unstable();
    for (expected, &number) in (0..).zip(&numbers) {
        let name = format!("episode_{expected}");
        if number != expected {
            let found = format!("`episode_{number}` after {expected} episodes");
            return Err(source.wrong(&name, "a group for every episode, numbered from 0", found));
        }
        match source.subgroup(&root, &name)? {
            Some(part) => gathered.append(&source, &part)?,
            None => return Err(source.wrong(&name, "a group with one episode", "an array")),
        }
    }
    if numbers.is_empty() {
        return Err(source.wrong("episode_0", "a group for every episode", listing(&root.members)));
    }
    let claimed = gathered.flat.attributes.get("total_episodes");
    if let Some(claimed) = claimed.filter(|claimed| **claimed != numbers.len().to_string()) {
        let there = numbers.len();
        let note = format!("the metadata count {claimed} episodes, but there are {there}: all of them were read");
        gathered.flat.notes.push(note);
    }
    Ok(gathered.finish())
}

/// The arrays that make up the observations of an episode.
struct Observed {
    part: Part,
    /// The vector.
    vector: String,
    /// Pictures beside it, with their number of rows.
    pictures: Option<(String, usize)>,
}

/// What reading has gathered so far.
struct Gathered<'a> {
    options: &'a ReadOptions,
    flat: Flat,
    sequences: Vec<Range<usize>>,
    images: Pieces,
    index: Vec<i64>,
    /// Names of the vector and of the pictures of dict observations.
    observed: Option<(String, Option<String>)>,
    /// Names of other dict observations.
    left_out: BTreeSet<String>,
    without_last: usize,
    without_end: usize,
}

impl Gathered<'_> {
    /// Appends one episode.
    fn append(&mut self, source: &Source, part: &Part) -> Result<(), DataError> {
        check_actions(source, part)?;
        let observed = self.observed(source, part)?;
        let (seen, vector, pictures) = match &observed {
            Some(dict) => (&dict.part, dict.vector.as_str(), dict.pictures.as_ref()),
            None => (part, "observations", None),
        };
        let mut floats = |part: &Part, name: &str, expected: &str| {
            let non_finite = self.options.keep_non_finite.then_some(&mut self.flat.non_finite);
            source.floats(part, name, expected, non_finite)
        };
        let (action_shape, actions) = floats(part, "actions", "shape [steps, action size]")?;
        let rows = action_shape[0];
        if rows == 0 {
            return Err(source.wrong(&part.name("actions"), "at least one row", "none"));
        }
        let (shape, mut observations) = floats(seen, vector, "shape [steps + 1, observation size]")?;
        let last = match shape[0].checked_sub(rows) {
            Some(1) => Some(observations.split_off(rows * shape[1])),
            Some(0) => None,
            _ => {
                let expected = format!("{} rows, one more than `actions` has", rows.saturating_add(1));
                return Err(source.wrong(&seen.name(vector), expected, format!("{} rows", shape[0])));
            }
        };
        let expected = one_per_step(rows, "actions");
        let (reward_shape, rewards) = floats(part, "rewards", &expected)?;
        if reward_shape != [rows, 1] {
            return Err(source.wrong(&part.name("rewards"), expected, format!("shape {reward_shape:?}")));
        }
        self.check_sizes(source, [(seen, vector, shape[1]), (part, "actions", action_shape[1])])?;
        let terminations: Option<Vec<f32>> = source.per_step(part, "terminations", rows, "actions")?;
        let truncations: Option<Vec<f32>> = source.per_step(part, "truncations", rows, "actions")?;
        let start = self.flat.rewards.len();
        self.add_pictures(source, seen, pictures, start, shape[0]);

        join(&mut self.flat.observations, observations);
        join(&mut self.flat.actions, actions);
        join(&mut self.flat.rewards, rewards);
        let flags = |values: Option<Vec<f32>>| -> Vec<bool> {
            let values = values.unwrap_or_else(|| vec![0.0; rows]);
            values.iter().map(|&value| value != 0.0).collect()
        };
        let (terminals, mut timeouts) = (flags(terminations), flags(truncations));
        if let (Some(terminal), Some(timeout)) = (terminals.last(), timeouts.last_mut())
            && !terminal
            && !*timeout
        {
            *timeout = true;
            self.without_end += 1;
        }
        self.flat.terminals.extend(terminals);
        self.flat.timeouts.extend(timeouts);
        let end = start + rows;
        match last.filter(|_| part.attribute(REPEATED) != Some(1)) {
            Some(last) => drop(self.flat.finals.insert(end, last)),
            None => self.without_last += 1,
        }
        let steps = part.attribute("total_steps");
        if let Some(steps) = steps.filter(|&steps| usize::try_from(steps) != Ok(rows)) {
            let name = part.prefix.trim_end_matches('/');
            let note = format!("`{name}` says that it has {steps} steps, but its arrays have {rows}");
            self.flat.notes.push(note);
        }
        self.index
            .extend(std::iter::repeat_n(self.sequences.len() as i64, rows));
        self.sequences.push(start..end);
        match source.subgroup(part, "infos")? {
            Some(infos) => source.append_infos(
                &infos,
                self.options,
                (start, rows),
                rows..=rows.saturating_add(1),
                &mut self.flat,
            ),
            None => {
                // Side arrays are there for every row or not at all.
                self.flat.infos.clear();
                Ok(())
            }
        }
    }

    /// Which arrays to read if the observations are a dict.
    fn observed(&mut self, source: &Source, part: &Part) -> Result<Option<Observed>, DataError> {
        let Some(dict) = source.subgroup(part, "observations")? else {
            return Ok(None);
        };
        let array = |name: &str| source.find(&dict, name).ok().flatten();
        let known = VECTORS
            .into_iter()
            .find(|name| dict.members.contains_key(*name) && !matches!(source.subgroup(&dict, name), Ok(Some(_))));
        let vector = match known {
            Some(name) => name.to_owned(),
            None => {
                let vectors = dict
                    .members
                    .keys()
                    .filter(|name| array(name).is_some_and(|it| is_vector(&it)));
                match vectors.collect::<Vec<_>>().as_slice() {
                    [name] => (*name).clone(),
                    _ => {
                        let expected = "an array `observation` or `state`, or a single array of floating-point numbers";
                        return Err(source.wrong(&part.name("observations"), expected, listing(&dict.members)));
                    }
                }
            }
        };
        let pictures = |name: &String| Some((name.clone(), picture_rows(&array(name)?)?));
        let pictures = match array(PIXELS).as_ref().and_then(picture_rows) {
            Some(rows) => Some((PIXELS.to_owned(), rows)),
            None => dict.members.keys().find_map(pictures),
        };
        let picture_name = pictures.as_ref().map(|(name, _)| name.clone());
        let left_out = (dict.members.keys()).filter(|name| **name != vector && Some(*name) != picture_name.as_ref());
        self.left_out.extend(left_out.cloned());
        self.observed.get_or_insert((vector.clone(), picture_name));
        Ok(Some(Observed {
            part: dict,
            vector,
            pictures,
        }))
    }

    /// Notes where the pictures of an episode are. Whoever does not look at pictures can do without them.
    fn add_pictures(
        &mut self,
        source: &Source,
        seen: &Part,
        pictures: Option<&(String, usize)>,
        start: usize,
        observations: usize,
    ) {
        let (name, rows) = match pictures {
            Some((name, rows)) => (name.as_str(), *rows),
            None => (PIXELS, 0),
        };
        let array = seen.name(name);
        let size = match pictures {
            Some(_) if rows == observations => source.images(seen, name, rows).map(|found| found.map(|(_, size)| size)),
            Some(_) => {
                let expected = format!("{observations} pictures, one for every observation");
                Err(source.wrong(&array, expected, format!("{rows}")))
            }
            None => Ok(None),
        };
        let added = size.and_then(|size| {
            let added = self.images.add(source, array.clone(), start, rows, size);
            added.map_err(|(expected, found)| source.wrong(&array, expected, found))
        });
        if let Err(problem) = added {
            if !self.images.given_up() {
                self.flat.notes.push(format!("pictures were left out: {problem}"));
            }
            self.images.give_up();
        }
    }

    /// All episodes have the same sizes.
    fn check_sizes(&mut self, source: &Source, found: [(&Part, &str, usize); 2]) -> Result<(), DataError> {
        let known = [&mut self.flat.observation_dim, &mut self.flat.action_dim];
        for (known, (part, name, found)) in known.into_iter().zip(found) {
            if self.sequences.is_empty() {
                *known = found;
            } else if *known != found {
                let expected = format!("{known} columns, as in the first episode");
                return Err(source.wrong(&part.name(name), expected, format!("{found} columns")));
            }
        }
        Ok(())
    }

    fn finish(self) -> Dataset {
        let mut flat = self.flat;
        shorten(&mut flat.notes);
        let all = self.sequences.len();
        if let Some((vector, pictures)) = &self.observed {
            let mut note = format!("of the dict observations `{vector}` was read");
            if let Some(pictures) = pictures {
                note.push_str(&format!(", and `{pictures}` as pictures"));
            }
            if !self.left_out.is_empty() {
                let names: Vec<String> = self.left_out.iter().map(|name| format!("`{name}`")).collect();
                note.push_str(&format!("; left out: {}", names.join(", ")));
            }
            flat.notes.push(note);
        }
        if self.without_end > 0 {
            flat.notes.push(format!(
                "{} of {all} episodes end without termination or truncation: they count as cut off",
                self.without_end
            ));
        }
        if self.without_last > 0 {
            let without = self.without_last;
            flat.notes.push(format!(
                "{without} of {all} episodes lack the observation after the last step"
            ));
        }
        flat.index = Some(self.index);
        flat.images = self.images.finish(flat.rewards.len(), self.options);
        Dataset::from_sequences(flat, self.sequences)
    }
}

/// Refuses actions that are no vectors of real numbers.
fn check_actions(source: &Source, part: &Part) -> Result<(), DataError> {
    let full = part.name("actions");
    let expected = "shape [steps, action size], as continuous actions (a Box space) have it";
    if let Some(dict) = source.subgroup(part, "actions")? {
        let found = format!("a group, as a Dict or Tuple space has it ({})", listing(&dict.members));
        return Err(source.wrong(&full, expected, found));
    }
    let Some(dataset) = source.find(part, "actions")? else {
        return Ok(());
    };
    let whole = matches!(
        dataset.dtype().and_then(|dtype| dtype.to_descriptor()),
        Ok(TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_))
    );
    if whole && dataset.ndim() == 1 {
        let found = "one whole number per step, as discrete actions have it";
        return Err(source.wrong(&full, expected, found));
    }
    Ok(())
}

/// Whether an array holds a vector of floating-point numbers per row.
fn is_vector(dataset: &hdf5::Dataset) -> bool {
    let kind = dataset.dtype().and_then(|dtype| dtype.to_descriptor());
    matches!(kind, Ok(TypeDescriptor::Float(_))) && matches!(dataset.ndim(), 1 | 2)
}

/// How many pictures an array holds, if it holds pictures.
fn picture_rows(dataset: &hdf5::Dataset) -> Option<usize> {
    let kind = dataset.dtype().and_then(|dtype| dtype.to_descriptor());
    match (dataset.shape().as_slice(), kind) {
        (&[rows, _, _, 3], Ok(TypeDescriptor::Unsigned(IntSize::U1))) => Some(rows),
        _ => None,
    }
}
