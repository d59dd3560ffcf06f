//! The layouts in which demonstrations are written, and going from one to another.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::minari_metadata::COMPUTED;
use super::{DataError, Dataset, Description, Episode, EpisodeWriter, MinariWriter, RolloutWriter, Written};

/// A layout of demonstrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
pub enum Layout {
    /// One file with flat arrays over all episodes, as D4RL has them.
    #[default]
    #[value(name = "d4rl")]
    Flat,
    /// A folder with one file per trajectory, as SPiRL has them.
    Rollouts,
    /// A Minari dataset: a folder whose name ends in a version (`kitchen-v0`), with all episodes in one file.
    Minari,
}

/// Writes episodes in any layout.
#[derive(Debug)]
pub enum LayoutWriter {
    /// Into one file.
    Flat(Box<EpisodeWriter>),
    /// Into a folder.
    Rollouts(Box<RolloutWriter>),
    /// Into a Minari dataset.
    Minari(Box<MinariWriter>),
}

impl LayoutWriter {
    /// Starts a file or a folder; see [`EpisodeWriter::create`], [`RolloutWriter::create`] and
    /// [`MinariWriter::create`].
    ///
    /// # Errors
    /// [`DataError::Write`], as these.
    pub fn create(
        layout: Layout,
        path: impl AsRef<Path>,
        observation_dim: usize,
        action_dim: usize,
        description: &Description,
    ) -> Result<Self, DataError> {
        Ok(match layout {
            Layout::Flat => Self::Flat(Box::new(EpisodeWriter::create(
                path,
                observation_dim,
                action_dim,
                description,
            )?)),
            Layout::Rollouts => Self::Rollouts(Box::new(RolloutWriter::create(
                path,
                observation_dim,
                action_dim,
                description,
            )?)),
            Layout::Minari => Self::Minari(Box::new(MinariWriter::create(
                path,
                observation_dim,
                action_dim,
                description,
            )?)),
        })
    }

    /// Appends one episode.
    ///
    /// # Errors
    /// As [`EpisodeWriter::append`].
    pub fn append(&mut self, episode: &Episode) -> Result<(), DataError> {
        match self {
            Self::Flat(writer) => writer.append(episode),
            Self::Rollouts(writer) => writer.append(episode),
            Self::Minari(writer) => writer.append(episode),
        }
    }

    /// Number of episodes so far.
    pub fn episodes(&self) -> usize {
        match self {
            Self::Flat(writer) => writer.episodes(),
            Self::Rollouts(writer) => writer.episodes(),
            Self::Minari(writer) => writer.episodes(),
        }
    }

    /// Gives what was written its name.
    ///
    /// # Errors
    /// As [`EpisodeWriter::finish`].
    pub fn finish(self) -> Result<Written, DataError> {
        match self {
            Self::Flat(writer) => writer.finish(),
            Self::Rollouts(writer) => writer.finish(),
            Self::Minari(writer) => writer.finish(),
        }
    }
}

/// Writes demonstrations to `to` in this layout, with pictures, description and the side arrays that were read
/// ([`ReadOptions::every_info`](super::ReadOptions)). A sequence whose end is not marked is marked as cut off. Pictures go
/// through memory one sequence at a time.
///
/// `go_on` is told before each sequence how many are done; where it says no, nothing is written, and `None` comes back.
///
/// # Errors
/// As [`Dataset::whole_episode`] and [`LayoutWriter::append`].
pub fn convert(
    dataset: &Dataset,
    to: impl AsRef<Path>,
    layout: Layout,
    mut go_on: impl FnMut(usize) -> bool,
) -> Result<Option<Written>, DataError> {
    let description = Description::of_attributes(dataset.attributes());
    let (observation_dim, action_dim) = (dataset.observation_dim(), dataset.action_dim());
    let mut writer = LayoutWriter::create(layout, to, observation_dim, action_dim, &description)?;
    for number in 0..dataset.sequences().len() {
        if !go_on(number) {
            return Ok(None);
        }
        let Some(mut episode) = dataset.whole_episode(number)? else {
            continue;
        };
        if let (Some(terminal), Some(timeout)) = (episode.terminals.last(), episode.timeouts.last_mut()) {
            *timeout |= !terminal;
        }
        writer.append(&episode)?;
    }
    writer.finish().map(Some)
}

impl Description {
    /// What a file with these attributes says about itself.
    pub fn of_attributes(attributes: &BTreeMap<String, String>) -> Self {
        let mut more = attributes.clone();
        for computed in ["layout", "version", "episodes", "steps"].iter().chain(&COMPUTED) {
            more.remove(*computed);
        }
        let mut take = |name: &str| more.remove(name).unwrap_or_default();
        let (scene, demonstrator, seed, elements) =
            (take("scene"), take("demonstrator"), take("seed"), take("elements"));
        let elements = elements.split(", ").filter(|name| !name.is_empty());
        Self {
            scene,
            seed: seed.parse().unwrap_or_default(),
            elements: elements.map(str::to_owned).collect(),
            demonstrator,
            more,
        }
    }
}
