//! Reading `SPiRL`'s roll-out files: groups `traj0`, `traj1`, ... with one trajectory each, usually one per file.
//!
//! Format and reading follow `data_loader.py`: the last row whose `pad_mask` is 1 ends a trajectory, what follows is
//! padding. Files without pictures or rewards are common; this program adds flags and side arrays (`terminals`,
//! `timeouts`, `infos/*`), which other readers pass over.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::dataset::{Dataset, Flat};
use super::file::{Part, Source, listing, one_per_step};
use super::images::Pieces;
use super::read::{IMAGES, join};
use super::{DataError, ReadOptions, minari};

/// How many trajectories a file holds.
pub(super) const COUNT: &str = "traj_per_file";

/// Notes that are kept; a folder may have as many as trajectories.
const NOTES: usize = 20;

/// Whether a file is one of roll-outs.
pub(super) fn is_rollouts(root: &Part) -> bool {
    let known = |name: &String| name == COUNT || trajectory_number(name).is_some();
    !root.members.contains_key("observations") && root.members.keys().any(known)
}

fn trajectory_number(name: &str) -> Option<u64> {
    name.strip_prefix("traj")?.parse().ok()
}

/// All HDF5 files below a folder (`.h5`, `.hdf5`) in the order of their paths. Links to folders are followed, each
/// folder once.
pub(super) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let failed = |error: std::io::Error| DataError::Open {
            path: next.clone(),
            problem: error.to_string(),
        };
        if !seen.insert(next.canonicalize().map_err(failed)?) {
            continue;
        }
        let entries = std::fs::read_dir(&next).map_err(failed)?;
        let entries = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut entries: Vec<PathBuf> = entries.collect::<Result<_, _>>().map_err(failed)?;
        // Where two links lead to one folder, always the same one names it.
        entries.sort_unstable_by(|one, other| other.cmp(one));
        for path in entries {
            // Files that are being written have hidden names.
            let hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if path.is_dir() && !hidden {
                folders.push(path);
            } else if !hidden && path.extension().is_some_and(|end| end == "h5" || end == "hdf5") {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(DataError::Open {
            path: folder.to_owned(),
            problem: "this folder holds no roll-out files (*.h5, *.hdf5), at no depth".to_owned(),
        });
    }
    Ok(files)
}

/// Keeps the first notes.
pub(super) fn shorten(notes: &mut Vec<String>) {
    if notes.len() > NOTES {
        let more = notes.len() - NOTES;
        notes.truncate(NOTES);
        notes.push(format!("and {more} more such notes"));
    }
}

/// What reading has gathered so far.
struct Gathered<'a> {
    options: &'a ReadOptions,
    flat: Flat,
    sequences: Vec<Range<usize>>,
    images: Pieces,
    index: Vec<i64>,
    /// Where the sizes were first seen, for messages.
    first: Option<PathBuf>,
    without_rewards: usize,
    without_mask: usize,
}

/// Reads roll-out files as one data set, whose `origin` is the folder or the only file.
pub(super) fn read(origin: &Path, files: &[PathBuf], options: &ReadOptions) -> Result<Dataset, DataError> {
    let mut gathered = Gathered {
        options,
        flat: Flat {
            origin: origin.display().to_string(),
            ..Flat::default()
        },
        sequences: Vec::new(),
        images: Pieces::default(),
        index: Vec::new(),
        first: None,
        without_rewards: 0,
        without_mask: 0,
    };
    let mut used = 0;
    for path in files {
        let source = Source::open(path, options.limits, used)?;
        if gathered.first.is_none() {
            gathered.flat.attributes = source.attributes()?;
        }
        let listed = gathered.flat.non_finite.len();
        for part in trajectories(&source)? {
            gathered.append(&source, &part)?;
        }
        if files.len() > 1 {
            for (dataset, _) in gathered.flat.non_finite.iter_mut().skip(listed) {
                *dataset = format!("{}: {dataset}", path.display());
            }
        }
        used = source.used();
    }
    Ok(gathered.finish())
}

/// The groups of the trajectories, in numeric order.
fn trajectories(source: &Source) -> Result<Vec<Part>, DataError> {
    let root = source.root()?;
    let there = root.members.keys().filter_map(|name| trajectory_number(name)).count() as u64;
    let claimed = source.scalar(&root, COUNT)?;
    if root.members.contains_key("observations") {
        let found = "D4RL's flat arrays; give that file by itself";
        return Err(source.wrong("traj0", "a file of roll-outs, as the others in the folder", found));
    }
    if minari::is_minari(&root) {
        let found = "a Minari dataset; give its folder by itself";
        return Err(source.wrong("traj0", "a file of roll-outs", found));
    }
    if there == 0 {
        let found = format!("no such group ({})", listing(&root.members));
        return Err(source.wrong("traj0", "a group with one trajectory", found));
    }
    let count = match claimed {
        None => there,
        Some(claimed) if claimed == there as f64 => there,
        Some(claimed) => {
            let expected = format!("{there}, as there are groups `traj<number>`");
            return Err(source.wrong(COUNT, expected, claimed.to_string()));
        }
    };
    let group = |number: u64| {
        let name = format!("traj{number}");
        let found = source.subgroup(&root, &name)?;
        found.ok_or_else(|| source.wrong(&name, "a group with one trajectory", listing(&root.members)))
    };
    (0..count).map(group).collect()
}

impl Gathered<'_> {
    /// Appends one trajectory.
    fn append(&mut self, source: &Source, part: &Part) -> Result<(), DataError> {
        let mut floats = |name: &str, expected: &str| {
            let non_finite = self.options.keep_non_finite.then_some(&mut self.flat.non_finite);
            source.floats(part, name, expected, non_finite)
        };
        let (shape, mut states) = floats("states", "shape [steps, state size]")?;
        let rows = shape[0];
        let (action_shape, mut actions) = floats("actions", "shape [steps, action size]")?;
        if rows == 0 {
            return Err(source.wrong(&part.name("states"), "at least one row", "none"));
        }
        if action_shape[0] != rows {
            let expected = format!("{rows} rows, as `states` has");
            return Err(source.wrong(&part.name("actions"), expected, format!("{} rows", action_shape[0])));
        }
        let mut rewards = match part.members.contains_key("rewards") {
            false => None,
            true => {
                let expected = one_per_step(rows, "states");
                let (reward_shape, rewards) = floats("rewards", &expected)?;
                if reward_shape != [rows, 1] {
                    return Err(source.wrong(&part.name("rewards"), expected, format!("shape {reward_shape:?}")));
                }
                Some(rewards)
            }
        };
        self.check_sizes(source, part, [shape[1], action_shape[1]])?;

        let mask: Option<Vec<f32>> = source.per_step(part, "pad_mask", rows, "states")?;
        self.without_mask += usize::from(mask.is_none());
        let kept = match mask {
            None => rows,
            Some(mask) => match mask.iter().rposition(|&valid| valid == 1.0) {
                Some(last) => last + 1,
                None => return Err(source.wrong(&part.name("pad_mask"), "at least one row with 1", "none")),
            },
        };
        let terminals: Option<Vec<f32>> = source.per_step(part, "terminals", rows, "states")?;
        let timeouts: Option<Vec<f32>> = source.per_step(part, "timeouts", rows, "states")?;
        let size = source.images(part, IMAGES, rows)?.map(|(_, size)| size);
        let start = self.flat.rewards.len();
        self.images
            .add(source, part.name(IMAGES), start, rows, size)
            .map_err(|problem| {
                let (expected, found) = problem;
                source.wrong(&part.name(IMAGES), expected, found)
            })?;

        states.truncate(kept * shape[1]);
        actions.truncate(kept * action_shape[1]);
        join(&mut self.flat.observations, states);
        join(&mut self.flat.actions, actions);
        self.without_rewards += usize::from(rewards.is_none());
        let mut rewards = rewards.take().unwrap_or_else(|| vec![0.0; rows]);
        rewards.truncate(kept);
        join(&mut self.flat.rewards, rewards);
        let flags = |values: Option<Vec<f32>>| -> Vec<bool> {
            let values = values.unwrap_or_else(|| vec![0.0; rows]);
            values.iter().take(kept).map(|&value| value != 0.0).collect()
        };
        let (terminals, mut timeouts) = (flags(terminals), flags(timeouts));
        // The layout does not say why a trajectory ends: then the recording was cut.
        if let (Some(terminal), Some(timeout)) = (terminals.last(), timeouts.last_mut()) {
            *timeout |= !terminal;
        }
        self.flat.terminals.extend(terminals);
        self.flat.timeouts.extend(timeouts);
        self.index
            .extend(std::iter::repeat_n(self.sequences.len() as i64, kept));
        self.sequences.push(start..start + kept);
        if let Some(infos) = source.subgroup(part, "infos")? {
            source.append_infos(&infos, self.options, (start, kept), rows..=rows, &mut self.flat)?;
        } else {
            // Side arrays are there for every row or not at all.
            self.flat.infos.clear();
        }
        Ok(())
    }

    /// All trajectories have the same sizes.
    fn check_sizes(&mut self, source: &Source, part: &Part, found: [usize; 2]) -> Result<(), DataError> {
        let Some(first) = &self.first else {
            self.first = Some(source.path.to_owned());
            [self.flat.observation_dim, self.flat.action_dim] = found;
            return Ok(());
        };
        let known = [self.flat.observation_dim, self.flat.action_dim];
        for (name, (known, found)) in ["states", "actions"].iter().zip(known.iter().zip(found)) {
            if *known != found {
                let expected = format!("{known} columns, as in {}", first.display());
                return Err(source.wrong(&part.name(name), expected, format!("{found} columns")));
            }
        }
        Ok(())
    }

    fn finish(self) -> Dataset {
        let Self {
            mut flat, sequences, ..
        } = self;
        let all = sequences.len();
        shorten(&mut flat.notes);
        if self.without_rewards > 0 {
            let without = self.without_rewards;
            flat.notes.push(format!(
                "{without} of {all} trajectories have no `rewards`: they count as 0"
            ));
        }
        if self.without_mask > 0 {
            let without = self.without_mask;
            flat.notes.push(format!(
                "{without} of {all} trajectories have no `pad_mask`: all of their rows count"
            ));
        }
        flat.index = Some(self.index);
        flat.images = self.images.finish(flat.rewards.len(), self.options);
        Dataset::from_sequences(flat, sequences)
    }
}
