//! Demonstrations in memory: flat arrays, the sequences they are cut into, splits and statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{Column, DataError, Episode, ImageStore, Images, NonFinite};
use crate::rng::{self, Purpose};

/// The arrays of a file, joined but not cut yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Flat {
    pub origin: String,
    pub observation_dim: usize,
    pub action_dim: usize,
    pub observations: Vec<f32>,
    pub actions: Vec<f32>,
    pub rewards: Vec<f32>,
    pub terminals: Vec<bool>,
    pub timeouts: Vec<bool>,
    pub index: Option<Vec<i64>>,
    /// Observations after the last step of a sequence, by the row after that step.
    pub finals: BTreeMap<usize, Vec<f32>>,
    pub infos: BTreeMap<String, Column>,
    /// Names below `infos/` in the file, read or not.
    pub info_names: BTreeSet<String>,
    pub images: Option<Arc<ImageStore>>,
    pub attributes: BTreeMap<String, String>,
    pub notes: Vec<String>,
    pub non_finite: Vec<(String, NonFinite)>,
}

/// How flat arrays are cut into sequences.
///
/// The default cuts after every terminal, after every timeout and where the number of the demonstration changes, and
/// keeps whatever follows the last end as a sequence of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CutRule {
    /// A set `timeouts` flag ends a sequence as well as a terminal does.
    pub timeouts: bool,
    /// A change of the demonstration's number (`infos` or `infos/sequence`) ends a sequence.
    pub index: bool,
    /// Steps after the last end form a sequence; otherwise they are dropped.
    pub keep_tail: bool,
    /// Sequences shorter than this are joined with the one that follows; 0 joins none.
    ///
    /// This is what SPiRL's kitchen loader does with sequences shorter than a window (it skips their end but not their
    /// start), so such a joined sequence contains a jump.
    pub join_shorter_than: usize,
}

impl Default for CutRule {
    fn default() -> Self {
        Self {
            timeouts: true,
            index: true,
            keep_tail: true,
            join_shorter_than: 0,
        }
    }
}

impl CutRule {
    /// The rule of SPiRL's kitchen loader for windows of `length` states: terminals only, steps after the last terminal
    /// dropped, sequences shorter than a window joined with the next (`kitchen_data_loader.py`).
    pub fn spirl_kitchen(length: usize) -> Self {
        Self {
            timeouts: false,
            index: false,
            keep_tail: false,
            join_shorter_than: length,
        }
    }
}

/// Numbers that [`Dataset::checksum`] turns into bytes at a time.
const SUMMED_AT_ONCE: usize = 4096;

/// Demonstrations in memory. Rows are steps; every sequence is a range of rows.
#[derive(Debug, Clone)]
pub struct Dataset {
    flat: Flat,
    sequences: Vec<Range<usize>>,
    unterminated: usize,
}

impl Dataset {
    /// One sequence per range, for layouts that say themselves where sequences are.
    pub(super) fn from_sequences(flat: Flat, sequences: Vec<Range<usize>>) -> Self {
        Self {
            flat,
            sequences,
            unterminated: 0,
        }
    }

    pub(super) fn from_flat(flat: Flat, rule: &CutRule) -> Self {
        let mut dataset = Self {
            flat,
            sequences: Vec::new(),
            unterminated: 0,
        };
        dataset.sequences = dataset.cut(rule);
        let default_cut = dataset.cut(&CutRule {
            keep_tail: false,
            ..CutRule::default()
        });
        dataset.unterminated = dataset.len() - default_cut.last().map_or(0, |last| last.end);
        dataset
    }

    /// Puts episodes into one dataset, each as one sequence.
    ///
    /// # Errors
    /// [`DataError::Episode`] for a malformed episode, one without a set terminal or timeout flag in exactly its last
    /// step, or one whose infos or pictures differ in name, width, type or size from the first one's.
    pub fn from_episodes<'a>(
        observation_dim: usize,
        action_dim: usize,
        episodes: impl IntoIterator<Item = &'a Episode>,
    ) -> Result<Self, DataError> {
        let mut flat = Flat {
            origin: "episodes".to_owned(),
            observation_dim,
            action_dim,
            ..Flat::default()
        };
        let mut images: Option<Images> = None;
        for (number, episode) in episodes.into_iter().enumerate() {
            episode.check(observation_dim, action_dim)?;
            episode.check_end()?;
            flat.observations.extend_from_slice(&episode.observations);
            flat.actions.extend_from_slice(&episode.actions);
            flat.rewards.extend_from_slice(&episode.rewards);
            flat.terminals.extend_from_slice(&episode.terminals);
            flat.timeouts.extend_from_slice(&episode.timeouts);
            if let Some(last) = &episode.final_observation {
                flat.finals.insert(flat.rewards.len(), last.clone());
            }
            flat.index
                .get_or_insert_default()
                .extend(std::iter::repeat_n(number as i64, episode.len()));
            if number == 0 {
                flat.infos = episode.infos.clone();
                flat.info_names = episode.infos.keys().cloned().collect();
                images = episode.images.clone();
                continue;
            }
            match (&mut images, &episode.images) {
                (None, None) => {}
                (Some(first), Some(more)) if first.size() == more.size() => first.bytes.extend_from_slice(&more.bytes),
                _ => {
                    let problem = "its pictures are missing, new or of another size than the first episode's";
                    return Err(DataError::Episode(problem.to_owned()));
                }
            }
            if !flat.infos.keys().eq(episode.infos.keys()) {
                return Err(DataError::Episode(
                    "its infos have other names than the first episode's".to_owned(),
                ));
            }
            for (name, column) in &episode.infos {
                if !flat.infos.get_mut(name).is_some_and(|first| first.append(column)) {
                    let problem = format!("`infos/{name}` has another width or type than in the first episode");
                    return Err(DataError::Episode(problem));
                }
            }
        }
        flat.images = images.map(|images| Arc::new(ImageStore::in_memory(images)));
        Ok(Self::from_flat(flat, &CutRule::default()))
    }

    /// Cuts the rows into sequences by a rule of your own; see [`Dataset::sequences`] for those of the reading.
    pub fn cut(&self, rule: &CutRule) -> Vec<Range<usize>> {
        let rows = self.len();
        let index = self.flat.index.as_deref().filter(|_| rule.index);
        let ends_at = |row: usize| {
            let flagged = self.flat.terminals[row] || (rule.timeouts && self.flat.timeouts[row]);
            flagged || index.is_some_and(|index| index.get(row + 1).is_none_or(|next| *next != index[row]))
        };
        let mut sequences = Vec::new();
        let mut start = 0;
        for end in (0..rows).filter(|&row| ends_at(row)).map(|row| row + 1) {
            if end - start >= rule.join_shorter_than {
                sequences.push(start..end);
                start = end;
            }
        }
        if rule.keep_tail && start < rows {
            sequences.push(start..rows);
        }
        sequences
    }

    /// The sequences, in the order of the file.
    pub fn sequences(&self) -> &[Range<usize>] {
        &self.sequences
    }

    /// Number of steps over all sequences, including dropped ones.
    pub fn len(&self) -> usize {
        self.flat.rewards.len()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Steps after the last terminal, timeout or change of demonstration: a recording that was broken off.
    pub fn unterminated(&self) -> usize {
        self.unterminated
    }

    /// Size `S` of an observation.
    pub fn observation_dim(&self) -> usize {
        self.flat.observation_dim
    }

    /// Size `A` of an action.
    pub fn action_dim(&self) -> usize {
        self.flat.action_dim
    }

    /// All observations `[N, S]`, row-major.
    pub fn observations(&self) -> &[f32] {
        &self.flat.observations
    }

    /// All actions `[N, A]`, row-major.
    pub fn actions(&self) -> &[f32] {
        &self.flat.actions
    }

    /// All rewards `[N]`.
    pub fn rewards(&self) -> &[f32] {
        &self.flat.rewards
    }

    /// All terminal flags `[N]`.
    pub fn terminals(&self) -> &[bool] {
        &self.flat.terminals
    }

    /// All timeout flags `[N]`.
    pub fn timeouts(&self) -> &[bool] {
        &self.flat.timeouts
    }

    /// The side arrays, if they were read.
    pub fn infos(&self) -> &BTreeMap<String, Column> {
        &self.flat.infos
    }

    /// Names of all side arrays of the file, read or not.
    pub fn info_names(&self) -> &BTreeSet<String> {
        &self.flat.info_names
    }

    /// The pictures `[N, H, W, 3]`, if there are any.
    pub fn images(&self) -> Option<&ImageStore> {
        self.flat.images.as_deref()
    }

    /// The file's attributes as text.
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.flat.attributes
    }

    /// CRC-32C of what models learn from: sizes, observations, actions and where sequences begin and end. The same
    /// demonstrations have the same in every layout; pictures are not part of it.
    pub fn checksum(&self) -> u32 {
        let mut sum = 0;
        let mut bytes = Vec::with_capacity(4 * SUMMED_AT_ONCE);
        let mut add = |bytes: &[u8]| sum = crc32c::crc32c_append(sum, bytes);
        let bounds = (self.sequences.iter()).flat_map(|rows| [rows.start, rows.end]);
        for number in [self.observation_dim(), self.action_dim()].into_iter().chain(bounds) {
            add(&(number as u64).to_le_bytes());
        }
        for values in [self.observations(), self.actions()] {
            for part in values.chunks(SUMMED_AT_ONCE) {
                bytes.clear();
                bytes.extend(part.iter().flat_map(|value| value.to_le_bytes()));
                add(&bytes);
            }
        }
        sum
    }

    /// Where the data came from, for messages.
    pub fn origin(&self) -> &str {
        &self.flat.origin
    }

    /// What was left out or assumed while reading.
    pub fn notes(&self) -> &[String] {
        &self.flat.notes
    }

    /// Datasets with values that are not finite; empty unless they were asked for.
    pub fn non_finite(&self) -> &[(String, NonFinite)] {
        &self.flat.non_finite
    }

    /// Sequence number `number` as an episode of its own, with its pictures, which may have to be read from the file.
    ///
    /// # Errors
    /// As [`ImageStore::read`].
    pub fn whole_episode(&self, number: usize) -> Result<Option<Episode>, DataError> {
        let (Some(mut episode), Some(rows)) = (self.episode(number), self.sequences.get(number)) else {
            return Ok(None);
        };
        if let Some(store) = self.images() {
            let mut bytes = Vec::new();
            store.read(rows.clone(), &mut bytes)?;
            episode.images = Some(Images {
                height: store.height(),
                width: store.width(),
                bytes,
            });
        }
        Ok(Some(episode))
    }

    /// Sequence number `number` as an episode of its own, without pictures; see [`Dataset::whole_episode`].
    pub fn episode(&self, number: usize) -> Option<Episode> {
        let rows = self.sequences.get(number)?.clone();
        let wide = |width: usize| rows.start * width..rows.end * width;
        Some(Episode {
            observations: self.flat.observations[wide(self.flat.observation_dim)].to_vec(),
            final_observation: self.flat.finals.get(&rows.end).cloned(),
            actions: self.flat.actions[wide(self.flat.action_dim)].to_vec(),
            rewards: self.flat.rewards[rows.clone()].to_vec(),
            terminals: self.flat.terminals[rows.clone()].to_vec(),
            timeouts: self.flat.timeouts[rows.clone()].to_vec(),
            infos: self
                .flat
                .infos
                .iter()
                .map(|(name, all)| (name.clone(), all.slice(rows.clone())))
                .collect(),
            images: None,
        })
    }

    /// Statistics of every observation dimension over the given sequences.
    pub fn observation_statistics(&self, sequences: &[Range<usize>]) -> Vec<Statistics> {
        statistics(&self.flat.observations, self.flat.observation_dim, sequences)
    }

    /// Statistics of every action dimension over the given sequences.
    pub fn action_statistics(&self, sequences: &[Range<usize>]) -> Vec<Statistics> {
        statistics(&self.flat.actions, self.flat.action_dim, sequences)
    }
}

/// Mean, spread and range of one dimension, over its finite values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Mean; 0 if there is no finite value.
    pub mean: f64,
    /// Standard deviation of the population (division by the count).
    pub std: f64,
    /// Smallest value; infinity if there is no finite value.
    pub min: f32,
    /// Largest value; minus infinity if there is no finite value.
    pub max: f32,
    /// Number of finite values.
    pub count: usize,
}

impl Statistics {
    /// Whether all values are equal.
    pub fn is_constant(&self) -> bool {
        self.min >= self.max
    }
}

/// Two passes in double precision, so that a large mean does not swallow a small spread.
pub(super) fn statistics(values: &[f32], width: usize, sequences: &[Range<usize>]) -> Vec<Statistics> {
    let rows = || {
        sequences
            .iter()
            .flat_map(|rows| values[rows.start * width..rows.end * width].chunks_exact(width))
    };
    let empty = Statistics {
        mean: 0.0,
        std: 0.0,
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
        count: 0,
    };
    let mut found = vec![empty; width];
    for row in rows() {
        for (column, &value) in found.iter_mut().zip(row).filter(|(_, value)| value.is_finite()) {
            column.mean += f64::from(value);
            column.min = column.min.min(value);
            column.max = column.max.max(value);
            column.count += 1;
        }
    }
    for column in &mut found {
        column.mean /= column.count.max(1) as f64;
    }
    for row in rows() {
        for (column, &value) in found.iter_mut().zip(row).filter(|(_, value)| value.is_finite()) {
            column.std += (f64::from(value) - column.mean).powi(2);
        }
    }
    for column in &mut found {
        column.std = (column.std / column.count.max(1) as f64).sqrt();
    }
    found
}

/// How sequences are shared out between training and validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    /// Share of the sequences for training.
    pub train: f64,
    /// Share of the sequences for validation.
    pub validation: f64,
    /// Which sequences go where.
    pub order: SplitOrder,
}

/// Which sequences a [`Split`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SplitOrder {
    /// As they stand in the file: the first for training, the next for validation (SPiRL's way). Where a file is sorted
    /// by task, validation then sees other tasks than training.
    #[default]
    File,
    /// Shuffled with this seed first.
    Shuffled {
        /// Seed of the shuffle.
        seed: u64,
    },
}

impl Default for Split {
    /// SPiRL's kitchen split: 99 % for training, 1 % for validation, in the order of the file.
    fn default() -> Self {
        Self {
            train: 0.99,
            validation: 0.01,
            order: SplitOrder::File,
        }
    }
}

impl Split {
    /// SPiRL's maze split: 90 % for training, 10 % for validation, shuffled with seed 1. (Its shuffle gives other
    /// sequences.)
    pub fn spirl_maze() -> Self {
        Self {
            train: 0.9,
            validation: 0.1,
            order: SplitOrder::Shuffled { seed: 1 },
        }
    }

    /// SPiRL's block stacking split: 95 % for training, 5 % for validation, shuffled as [`Split::spirl_maze`].
    pub fn spirl_blocks() -> Self {
        Self {
            train: 0.95,
            validation: 0.05,
            ..Self::spirl_maze()
        }
    }
}

/// Sequences for training and for validation, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Training sequences.
    pub train: Vec<usize>,
    /// Validation sequences.
    pub validation: Vec<usize>,
}

impl Split {
    /// Shares out `sequences` sequences; the bounds are rounded down, but training gets at least one.
    ///
    /// # Errors
    /// [`DataError::Settings`] if a share is negative or not finite, both exceed 1 together, or nothing is there.
    pub fn apply(&self, sequences: usize) -> Result<Partition, DataError> {
        let shares = [self.train, self.validation];
        // A little more than 1 is allowed because shares like 0.7 + 0.3 need not add up exactly.
        if !shares.iter().all(|share| share.is_finite() && *share >= 0.0) || self.train + self.validation > 1.0 + 1e-9 {
            return Err(DataError::Settings(format!(
                "split: expected shares between 0 and 1 with a sum of at most 1, found train {} and validation {}",
                self.train, self.validation
            )));
        }
        if sequences == 0 {
            return Err(DataError::Settings(
                "split: there is no sequence to share out".to_owned(),
            ));
        }
        let mut order: Vec<usize> = (0..sequences).collect();
        if let SplitOrder::Shuffled { seed } = self.order {
            // Batches are drawn from entities that count from 0, so this stream is not used twice.
            let mut stream = rng::stream(seed, Purpose::Batches, u64::MAX, 0);
            for last in (1..sequences).rev() {
                order.swap(last, stream.random_range(0..=last as u64) as usize);
            }
        }
        let bound = |share: f64| ((share * sequences as f64) as usize).min(sequences);
        let train = bound(self.train).max(1);
        let end = bound(self.train + self.validation).max(train);
        Ok(Partition {
            train: order[..train].to_vec(),
            validation: order[train..end].to_vec(),
        })
    }
}
