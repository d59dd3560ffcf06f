//! Apprentice: many agents practise in one Bevy world.
//!
//! They learn *skills* from demonstrations, then learn long new tasks by acting in skill space under a learned
//! *skill prior*. `ARCHITECTURE.md` has the map; the words used everywhere are these:
//!
//! | word | meaning |
//! |---|---|
//! | [`scene`] | a RON file: physics model, task, observation, action, reset, episode |
//! | environment | one running copy of a scene; an entity |
//! | agent | what decides the actions in one environment; an entity |
//! | skill | a latent vector that a low-level decoder turns into a stretch of actions |
//! | skill prior | the distribution over skills given the state |
//! | learner | an online algorithm with its networks, optimisers and counters; an entity |
//! | replay buffer | the transitions a learner samples from; an entity |
//! | [`tick`] | one control step of every environment |
#![warn(clippy::doc_markdown)]

pub mod agents;
pub mod app;
pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod demos;
pub mod evaluate;
pub mod experiment;
pub mod files;
pub mod learners;
pub mod metrics;
pub mod nn;
#[cfg(feature = "window")]
pub mod panel;
mod panics;
pub mod pixels;
pub mod plot;
pub mod practice;
pub mod pretraining;
pub mod replay;
pub mod report;
pub mod reports;
pub mod rng;
pub mod run;
pub mod scene;
pub mod sim;
pub mod skills;
pub mod tick;
#[cfg(feature = "window")]
pub mod view;
pub mod watch;
pub mod watchdog;
