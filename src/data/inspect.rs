//! What a user should know about a demonstration file before training on it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::read::files_of;
use super::report::ranges;
use super::{DataError, Dataset, NonFinite, PAINTED_FROM, ReadOptions, Statistics, Values};

/// An action this close to its limit of 1 counts as saturated; D4RL clips demonstrated actions to 0.999.
const SATURATED: f32 = 0.9985;
/// Side array with the number of the layout.
const LAYOUT: &str = "layout";

/// A part of a task that is complete while the observation is near a goal.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// Its name.
    pub name: String,
    /// Observation columns it is judged by.
    pub columns: Vec<usize>,
    /// Goal value of each of these columns.
    pub goal: Vec<f32>,
    /// Complete below this Euclidean distance.
    pub threshold: f32,
}

/// The seven elements of the Franka kitchen (D4RL, `kitchen_envs.py`).
pub fn kitchen_elements() -> Vec<Element> {
    let element = |name: &str, columns: Range<usize>, goal: &[f32]| Element {
        name: name.to_owned(),
        columns: columns.collect(),
        goal: goal.to_vec(),
        threshold: 0.3,
    };
    vec![
        element("bottom burner", 11..13, &[-0.88, -0.01]),
        element("top burner", 15..17, &[-0.92, -0.01]),
        element("light switch", 17..19, &[-0.69, -0.05]),
        element("slide cabinet", 19..20, &[0.37]),
        element("hinge cabinet", 20..22, &[0.0, 1.45]),
        element("microwave", 22..23, &[-0.75]),
        element("kettle", 23..30, &[-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06]),
    ]
}

/// What to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectOptions {
    /// How the file is read and cut. Values that are not finite are always kept and reported.
    pub read: ReadOptions,
    /// Elements to judge. `None`: if this looks like kitchen data (30 or 60 observations, 9 actions, and no attribute
    /// `scene` that says otherwise), those of the kitchen that the attribute `elements` names, or all seven without that
    /// attribute.
    pub elements: Option<Vec<Element>>,
    /// Actions per skill; shorter episodes are reported, since no window can be cut from them.
    pub skill_length: usize,
}

impl Default for InspectOptions {
    fn default() -> Self {
        Self {
            read: ReadOptions::default(),
            elements: None,
            skill_length: 10,
        }
    }
}

/// Least, mean and largest of something over episodes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    /// Least.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Largest.
    pub max: f64,
}

impl Summary {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        Self {
            min: values.clone().fold(f64::INFINITY, f64::min),
            mean: values.clone().sum::<f64>() / count,
            max: values.fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// How often an element was completed.
#[derive(Debug, Clone, PartialEq)]
pub struct ElementReport {
    /// Its name.
    pub name: String,
    /// Share of episodes in which some observation shows it complete.
    pub completed: f64,
    /// Share of episodes whose last observation shows it complete.
    pub at_end: f64,
    /// Share of episodes whose first observation shows it complete.
    pub at_start: f64,
    /// Mean step of the first completion in the episodes that have one.
    pub mean_step: Option<f64>,
}

/// Pictures of demonstrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PictureReport {
    /// They are stored.
    Stored {
        /// How many.
        count: usize,
        /// Pixels from top to bottom.
        height: usize,
        /// Pixels from left to right.
        width: usize,
    },
    /// None are stored, but states are from which the scene can draw them, if it has pixels.
    Drawable {
        /// Side arrays that are there for drawing.
        from: Vec<String>,
    },
}

/// What is in a file or folder; its `Display` is the report for the terminal.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The file or folder.
    pub origin: String,
    /// Number of files.
    pub files: usize,
    /// Size of all files together in bytes.
    pub bytes: u64,
    /// Names of the side arrays.
    pub infos: BTreeSet<String>,
    /// Pictures, if there are any or any can be drawn.
    pub pictures: Option<PictureReport>,
    /// Different layouts of the scene, by `infos/layout`; 0 if there is none.
    pub layouts: usize,
    /// The file's attributes.
    pub attributes: BTreeMap<String, String>,
    /// Length of every episode, in steps.
    pub lengths: Vec<usize>,
    /// Sum of rewards of every episode.
    pub returns: Vec<f64>,
    /// Per-element completion; empty if the elements are not known.
    pub elements: Vec<ElementReport>,
    /// Number of episodes by number of completed elements.
    pub completed_counts: BTreeMap<usize, usize>,
    /// Orders of first completion with their number of episodes, most frequent first. (Elements complete from the start
    /// are left out.)
    pub orders: Vec<(String, usize)>,
    /// Range of every observation dimension.
    pub observations: Vec<Statistics>,
    /// Range of every action dimension.
    pub actions: Vec<Statistics>,
    /// Range of the rewards.
    pub rewards: Option<Statistics>,
    /// Anything a user should look at, one sentence each.
    pub odd: Vec<String>,
}

impl Inspection {
    /// Reads and judges a file, a folder of roll-outs or a Minari dataset. Pictures are counted, not read.
    ///
    /// # Errors
    /// As [`Dataset::read`], but values that are not finite are reported in [`Inspection::odd`].
    pub fn of(path: impl AsRef<Path>, options: &InspectOptions) -> Result<Self, DataError> {
        let path = path.as_ref();
        let mut read = ReadOptions {
            keep_non_finite: true,
            ..options.read.clone()
        };
        read.infos.push(LAYOUT.to_owned());
        let dataset = Dataset::read_with(path, &read)?;
        let files = files_of(path)?;
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(Self {
            files: files.len(),
            bytes: files.iter().map(size).sum(),
            ..Self::of_dataset(&dataset, options)
        })
    }

    /// Judges data that is in memory already ([`Inspection::files`] and [`Inspection::bytes`] are 0 then).
    pub fn of_dataset(dataset: &Dataset, options: &InspectOptions) -> Self {
        let sequences = dataset.sequences();
        let lengths: Vec<usize> = sequences.iter().map(ExactSizeIterator::len).collect();
        let episode_return = |rows: &Range<usize>| dataset.rewards()[rows.clone()].iter().map(|&r| f64::from(r)).sum();
        let elements = elements_of(dataset, options);
        let first_steps: Vec<Vec<Option<usize>>> = sequences
            .iter()
            .map(|rows| elements.iter().map(|e| first_step(dataset, rows, e)).collect())
            .collect();
        let mut completed_counts = BTreeMap::new();
        let mut orders: BTreeMap<String, usize> = BTreeMap::new();
        for steps in first_steps.iter().filter(|_| !elements.is_empty()) {
            *completed_counts.entry(steps.iter().flatten().count()).or_insert(0) += 1;
            let mut order: Vec<(usize, &str)> = steps
                .iter()
                .zip(&elements)
                .filter_map(|(step, element)| Some((step.filter(|&step| step > 0)?, element.name.as_str())))
                .collect();
            order.sort();
            let names: Vec<&str> = order.into_iter().map(|(_, name)| name).collect();
            *orders.entry(names.join(", ")).or_insert(0) += 1;
        }
        let mut orders: Vec<(String, usize)> = orders.into_iter().collect();
        orders.sort_by_key(|(_, episodes)| std::cmp::Reverse(*episodes));
        let episodes = sequences.len().max(1) as f64;
        let share = |count: usize| count as f64 / episodes;
        let reports = elements.iter().enumerate().map(|(number, element)| {
            let steps = || first_steps.iter().filter_map(|steps| steps[number]);
            let at_end = sequences
                .iter()
                .filter(|rows| is_complete(dataset, rows.end - 1, element))
                .count();
            ElementReport {
                name: element.name.clone(),
                completed: share(steps().count()),
                at_end: share(at_end),
                at_start: share(steps().filter(|&step| step == 0).count()),
                mean_step: (steps().count() > 0).then(|| Summary::of(steps().map(|step| step as f64)).mean),
            }
        });
        let reports = reports.collect();
        let observations = dataset.observation_statistics(sequences);
        let actions = dataset.action_statistics(sequences);
        let rewards = super::dataset::statistics(dataset.rewards(), 1, sequences)
            .first()
            .copied();
        Self {
            origin: dataset.origin().to_owned(),
            files: 0,
            bytes: 0,
            infos: dataset.info_names().clone(),
            pictures: pictures(dataset),
            layouts: layouts(dataset),
            attributes: dataset.attributes().clone(),
            returns: sequences.iter().map(episode_return).collect(),
            elements: reports,
            completed_counts,
            orders,
            odd: odd(
                dataset,
                &lengths,
                [&observations, &actions],
                rewards,
                options.skill_length,
            ),
            lengths,
            observations,
            actions,
            rewards,
        }
    }

    /// Least, mean and largest length.
    pub fn length(&self) -> Summary {
        Summary::of(self.lengths.iter().map(|&length| length as f64))
    }

    /// Least, mean and largest return.
    pub fn episode_return(&self) -> Summary {
        Summary::of(self.returns.iter().copied())
    }
}

fn pictures(dataset: &Dataset) -> Option<PictureReport> {
    if let Some(images) = dataset.images() {
        return Some(PictureReport::Stored {
            count: images.len(),
            height: images.height(),
            width: images.width(),
        });
    }
    let from = PAINTED_FROM
        .into_iter()
        .filter(|name| dataset.info_names().contains(*name));
    let from: Vec<String> = from.map(str::to_owned).collect();
    from.iter()
        .any(|name| name == "qpos")
        .then_some(PictureReport::Drawable { from })
}

fn layouts(dataset: &Dataset) -> usize {
    match dataset.infos().get(LAYOUT).map(|column| &column.values) {
        Some(Values::I64(values)) => values.iter().collect::<BTreeSet<_>>().len(),
        _ => 0,
    }
}

/// The elements to judge, without those whose columns the observation does not have.
fn elements_of(dataset: &Dataset, options: &InspectOptions) -> Vec<Element> {
    let plain = |name: &str| {
        name.chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_lowercase()
    };
    let elsewhere =
        (dataset.attributes().get("scene")).is_some_and(|scene| !scene.is_empty() && !scene.contains("kitchen"));
    let looks_like_kitchen = matches!(dataset.observation_dim(), 30 | 60) && dataset.action_dim() == 9 && !elsewhere;
    let mut elements = match (&options.elements, dataset.attributes().get("elements")) {
        (Some(elements), _) => elements.clone(),
        (None, Some(names)) if looks_like_kitchen => {
            let names: Vec<String> = names.split(',').map(plain).collect();
            kitchen_elements()
                .into_iter()
                .filter(|element| names.contains(&plain(&element.name)))
                .collect()
        }
        (None, None) if looks_like_kitchen => kitchen_elements(),
        (None, _) => Vec::new(),
    };
    elements.retain(|element| element.columns.iter().all(|&column| column < dataset.observation_dim()));
    elements
}

fn is_complete(dataset: &Dataset, row: usize, element: &Element) -> bool {
    let start = row * dataset.observation_dim();
    let squares = element.columns.iter().zip(&element.goal).map(|(&column, &goal)| {
        let difference = dataset.observations()[start + column] - goal;
        difference * difference
    });
    squares.sum::<f32>().sqrt() < element.threshold
}

fn first_step(dataset: &Dataset, rows: &Range<usize>, element: &Element) -> Option<usize> {
    rows.clone().position(|row| is_complete(dataset, row, element))
}

/// Everything worth a second look, most serious first.
fn odd(
    dataset: &Dataset,
    lengths: &[usize],
    [observations, actions]: [&[Statistics]; 2],
    rewards: Option<Statistics>,
    skill_length: usize,
) -> Vec<String> {
    let mut odd = Vec::new();
    for (
        name,
        NonFinite {
            count,
            row,
            column,
            value,
        },
    ) in dataset.non_finite()
    {
        odd.push(format!(
            "`{name}`: {count} values are not finite, first {value} at row {row}, column {column}"
        ));
    }
    let short = lengths.iter().filter(|&&length| length <= skill_length).count();
    if short > 0 {
        let states = skill_length.saturating_add(1);
        odd.push(format!(
            "{} shorter than a skill of {skill_length} actions ({states} states)",
            episodes(short)
        ));
    }
    if dataset.unterminated() > 0 {
        let steps = dataset.unterminated();
        odd.push(format!(
            "the last episode has no end: {steps} steps follow the last terminal or timeout"
        ));
    }
    let duplicates = duplicates(dataset);
    if duplicates > 0 {
        odd.push(format!(
            "{} an exact copy of an earlier one",
            episodes(duplicates).replace(" are", " are each")
        ));
    }
    for (name, statistics) in [("observation", observations), ("action", actions)] {
        let constant: Vec<usize> = (0..statistics.len())
            .filter(|&column| statistics[column].is_constant())
            .collect();
        if !constant.is_empty() {
            odd.push(format!("constant {name} columns: {}", ranges(&constant)));
        }
    }
    if let Some(rewards) = rewards.filter(Statistics::is_constant) {
        odd.push(format!("every reward is {}", rewards.min));
    }
    odd.extend(odd_actions(dataset));
    let frozen = frozen(dataset);
    if frozen > 0 {
        odd.push(format!(
            "{frozen} steps repeat the observation of the step before exactly"
        ));
    }
    odd.extend(dataset.notes().iter().cloned());
    odd
}

fn episodes(count: usize) -> String {
    if count == 1 {
        "1 episode is".to_owned()
    } else {
        format!("{count} episodes are")
    }
}

/// Actions at or beyond their limits of -1 and 1.
fn odd_actions(dataset: &Dataset) -> Vec<String> {
    let width = dataset.action_dim();
    let mut saturated = vec![0_usize; width];
    let mut beyond = vec![0_usize; width];
    for row in dataset.actions().chunks_exact(width) {
        for (column, value) in row.iter().enumerate() {
            saturated[column] += usize::from(value.abs() >= SATURATED);
            beyond[column] += usize::from(value.abs() > 1.0);
        }
    }
    let percent = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
    let mut odd = Vec::new();
    for (counts, what) in [(&saturated, "saturated (at or beyond 0.9985)"), (&beyond, "beyond 1")] {
        let all: usize = counts.iter().sum();
        if let Some((column, &most)) = counts.iter().enumerate().max_by_key(|(_, count)| **count)
            && all > 0
        {
            let share = percent(all, dataset.actions().len());
            let worst = percent(most, dataset.len());
            odd.push(format!(
                "{share:.2} % of the action values are {what}; most in column {column}: {worst:.1} %"
            ));
        }
    }
    odd
}

/// Number of episodes whose observations and actions equal those of an earlier one bit for bit.
fn duplicates(dataset: &Dataset) -> usize {
    let bits = |rows: &Range<usize>| {
        let observations = rows.start * dataset.observation_dim()..rows.end * dataset.observation_dim();
        let actions = rows.start * dataset.action_dim()..rows.end * dataset.action_dim();
        let observations = dataset.observations()[observations].iter();
        observations
            .chain(&dataset.actions()[actions])
            .map(|value| value.to_bits())
    };
    let mut seen: BTreeMap<u64, Vec<&Range<usize>>> = BTreeMap::new();
    let mut found = 0;
    for rows in dataset.sequences() {
        let mut hasher = DefaultHasher::new();
        rows.len().hash(&mut hasher);
        bits(rows).for_each(|bits| bits.hash(&mut hasher));
        let same_hash = seen.entry(hasher.finish()).or_default();
        if same_hash
            .iter()
            .any(|earlier| earlier.len() == rows.len() && bits(earlier).eq(bits(rows)))
        {
            found += 1;
        } else {
            same_hash.push(rows);
        }
    }
    found
}

fn frozen(dataset: &Dataset) -> usize {
    let width = dataset.observation_dim();
    let same = |row: usize| {
        let [before, here] = [row - 1, row].map(|row| &dataset.observations()[row * width..(row + 1) * width]);
        before == here
    };
    dataset
        .sequences()
        .iter()
        .map(|rows| (rows.start + 1..rows.end).filter(|&row| same(row)).count())
        .sum()
}
