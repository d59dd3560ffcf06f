//! How late actions and observations are: the field `delays` of a scene.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::SceneError;
use super::resolve::invalid;
use crate::rng::Stream;

/// Longest delay, control steps: what waits is kept.
const LONGEST: u32 = 1_000;

/// Delays in control steps, each drawn anew for every episode unless it is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delays {
    /// From an action to its effect. Until the first action of an episode arrives, joints that are driven by velocity are
    /// held, motors are off, and the other controls stay as they are at the start.
    #[serde(default)]
    pub action: Delay,
    /// From a state to its observation, pictures included. Until the first one arrives, the observation of the start is
    /// seen. The previous action and the time left are known at once; rewards, elements and the control law are those of
    /// the state itself.
    #[serde(default)]
    pub observation: Delay,
}

/// A delay, control steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Delay {
    /// The same in every episode.
    Steps(u32),
    /// Shortest and longest; those and all between are equally likely.
    Uniform(u32, u32),
}

impl Default for Delay {
    fn default() -> Self {
        Self::Steps(0)
    }
}

impl Delay {
    /// Longest delay, control steps.
    pub fn longest(self) -> usize {
        match self {
            Self::Steps(steps) | Self::Uniform(_, steps) => steps as usize,
        }
    }

    /// The delay of an episode, control steps. A fixed one takes no random number.
    pub fn sample(self, stream: &mut Stream) -> usize {
        match self {
            Self::Steps(steps) => steps as usize,
            Self::Uniform(shortest, longest) => stream.random_range(shortest..=longest.max(shortest)) as usize,
        }
    }

    fn check(self, field: &str) -> Result<(), SceneError> {
        if let Self::Uniform(shortest, longest) = self
            && shortest > longest
        {
            let reason =
                format!("must be two numbers of control steps, the lower one first, found {shortest} and {longest}");
            return Err(invalid(field, reason));
        }
        if self.longest() > LONGEST as usize {
            let reason = format!("must be at most {LONGEST} control steps, found {}", self.longest());
            return Err(invalid(field, reason));
        }
        Ok(())
    }
}

impl Delays {
    /// Whether nothing is ever late.
    pub fn is_none(&self) -> bool {
        self.action.longest() == 0 && self.observation.longest() == 0
    }

    pub(super) fn check(&self) -> Result<(), SceneError> {
        self.action.check("delays.action")?;
        self.observation.check("delays.observation")
    }
}
