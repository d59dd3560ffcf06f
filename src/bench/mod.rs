//! How fast this machine does what the program does: simulation, learning, and both at once.
//!
//! Rates depend on the machine and on what else it is doing; ratios compare two sides that took turns in the same run.
//! Networks have fresh weights and demonstrations are random numbers, which costs the same as real ones.

mod learning;
mod practice;
mod simulation;

use std::time::Duration;

use serde::Serialize;

use crate::nn::Compute;

pub use learning::learning;
pub use practice::practice;
pub use simulation::simulation;

/// What is measured, and for how long.
#[derive(Debug, Clone)]
pub struct BenchConfig {
    /// Worker threads.
    pub threads: usize,
    /// Time for each rate.
    pub time: Duration,
    /// What computes the updates of [`learning`]; [`practice`] is about the CPU.
    pub compute: Compute,
}

/// One measured number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// What was measured.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

impl Measured {
    fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let name = name.into();
        Self { name, value, unit }
    }
}

/// A benchmark could not run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The experiment or scene file.
    #[error(transparent)]
    File(#[from] crate::files::FileError),
    /// The scene.
    #[error(transparent)]
    Scene(#[from] crate::scene::SceneError),
    /// An environment.
    #[error(transparent)]
    Sim(#[from] crate::sim::SimError),
    /// The skill model.
    #[error("skill model: {0}")]
    Skill(#[from] crate::skills::SkillError),
    /// The learner.
    #[error("learner: {0}")]
    Learner(#[from] crate::learners::sac::SacError),
    /// An update of the learner.
    #[error("learner: {0}")]
    Update(#[from] crate::practice::LearnError),
    /// The replay buffer.
    #[error("replay buffer: {0}")]
    Replay(#[from] crate::replay::ReplayError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// No memory for an environment's physics.
    #[error("physics: {0}")]
    Physics(String),
    /// An error inside a tick.
    #[error("{0}")]
    Tick(String),
    /// What should be equal is not.
    #[error("{0}")]
    Wrong(String),
}
