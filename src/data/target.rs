//! What the writers of all layouts have in common.

use std::path::{Path, PathBuf};

use super::template::Template;
use super::{DataError, Episode, Written};

/// Where episodes are written, what they are like, and how many there are.
#[derive(Debug)]
pub(super) struct Target {
    pub path: PathBuf,
    pub observation_dim: usize,
    pub action_dim: usize,
    pub episodes: usize,
    pub steps: usize,
    /// That of the first episode.
    template: Option<Template>,
}

impl Target {
    /// # Errors
    /// [`DataError::Write`] if observations or actions have no numbers.
    pub fn new(path: &Path, observation_dim: usize, action_dim: usize) -> Result<Self, DataError> {
        let target = Self {
            path: path.to_owned(),
            observation_dim,
            action_dim,
            episodes: 0,
            steps: 0,
            template: None,
        };
        if observation_dim == 0 || action_dim == 0 {
            return Err(target.failed("observations and actions need at least one number"));
        }
        Ok(target)
    }

    /// What the episode that comes next is like.
    ///
    /// # Errors
    /// [`DataError::Episode`] if it is malformed or is not like the first one.
    pub fn check(&self, episode: &Episode) -> Result<Template, DataError> {
        Template::after(self.template.as_ref(), episode, (self.observation_dim, self.action_dim))
    }

    /// Counts an episode that is written now.
    pub fn count(&mut self, episode: &Episode, template: Template) {
        self.template.get_or_insert(template);
        self.episodes += 1;
        self.steps += episode.len();
    }

    /// # Errors
    /// [`DataError::Write`] if no episode was written.
    pub fn check_not_empty(&self) -> Result<(), DataError> {
        match self.episodes {
            0 => Err(self.failed("there is no episode to write")),
            _ => Ok(()),
        }
    }

    pub fn failed(&self, problem: impl ToString) -> DataError {
        DataError::Write {
            path: self.path.clone(),
            problem: problem.to_string(),
        }
    }

    /// What was written, in so many bytes.
    pub fn written(&self, bytes: u64) -> Written {
        Written {
            path: self.path.clone(),
            episodes: self.episodes,
            steps: self.steps,
            bytes,
        }
    }
}
