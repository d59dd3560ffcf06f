//! What the window knows and what its user has chosen. Panels read and change it, the picture follows.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Instant;

use bevy::prelude::*;

use crate::metrics::Row;
use crate::watch::{Notice, Pace, Request, Snapshot, Subject};

/// The watched world as the window last saw it.
#[derive(Resource)]
pub struct Watched {
    /// What is known from the start.
    pub subject: Subject,
    /// The newest snapshot.
    pub current: Box<Snapshot>,
    /// When it came.
    pub since: Instant,
    /// The one before, to interpolate from.
    pub previous: Option<Box<Snapshot>>,
    /// Ticks a second, averaged over the last second or so.
    pub ticks_per_second: f32,
    /// What the world has said, oldest first.
    pub notices: VecDeque<Notice>,
    /// How the world's thread ended: its last words, or its error.
    pub ended: Option<Notice>,
    /// All that is wrong with the scene's files as they are now, where they are followed. What is shown is the scene as
    /// it was before.
    pub broken: Vec<String>,
}

/// The metrics of all learners: tag, seed, points (environment steps, value) in the order of the steps.
#[derive(Resource, Debug, Clone, Default)]
pub struct Curves(pub BTreeMap<String, BTreeMap<u64, Vec<[f64; 2]>>>);

impl Curves {
    /// Adds one number.
    pub fn push(&mut self, seed: u64, row: &Row) {
        let seeds = self.0.entry(row.tag.clone()).or_default();
        seeds.entry(seed).or_default().push([row.step as f64, row.value]);
    }
}

/// Where the camera is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CameraMode {
    /// Looks at all environments.
    #[default]
    Overview,
    /// Stays with the selected environment.
    Follow,
}

/// What the list of agents is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Seed and slot.
    #[default]
    Slot,
    /// Return of the running episode.
    Return,
    /// Return of the last episode that ended.
    LastReturn,
    /// Steps of the running episode.
    Step,
}

/// Which environments are listed and shown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Those of this seed only.
    pub seed: Option<u64>,
    /// Those with at least this return in the running episode; all, up to zero.
    pub least_return: f32,
    /// Leave out evaluation episodes.
    pub no_evaluations: bool,
}

/// What the user has chosen.
#[derive(Resource, Debug, Clone, PartialEq)]
pub struct ViewState {
    /// The environment that is looked into.
    pub selected: Option<Entity>,
    /// Where the camera is.
    pub camera: CameraMode,
    /// Show the selected environment only.
    pub alone: bool,
    /// Mark the environment with the highest return.
    pub highlight_best: bool,
    /// Write return, elements and skill above each environment.
    pub labels: bool,
    /// Which of `MuJoCo`'s six groups of geoms are shown. By convention 0 to 2 are to be seen and 3 to 5 collide.
    pub groups: [bool; 6],
    /// Show sites.
    pub sites: bool,
    /// Show the tendons of the selected environment.
    pub tendons: bool,
    /// Cast shadows.
    pub shadows: bool,
    /// Order of the list of agents.
    pub sort: Sort,
    /// Highest first, or last.
    pub descending: bool,
    /// Which environments are listed and shown.
    pub filter: Filter,
    /// Metrics that are drawn as curves.
    pub curves: Vec<String>,
    /// The panel of the selected agent is open.
    pub inspector: bool,
    /// The panel of the learning curves is open.
    pub learning: bool,
    /// The map of the skill space is open.
    pub skill_map: bool,
    /// The list of agents is open.
    pub agents: bool,
    /// Where the video that is being recorded goes, and its frames so far.
    pub recording: Option<(PathBuf, u64)>,
    /// The keys are listed.
    pub help: bool,
    /// The pace to go on with after a pause: the last one the world ran at.
    pub pace: Pace,
}

impl Default for ViewState {
    fn default() -> Self {
        Self {
            selected: None,
            camera: CameraMode::Overview,
            alone: false,
            highlight_best: true,
            labels: true,
            groups: [true, true, true, false, false, false],
            sites: false,
            tendons: false,
            shadows: true,
            sort: Sort::Slot,
            descending: false,
            filter: Filter::default(),
            curves: Vec::new(),
            inspector: true,
            learning: true,
            skill_map: true,
            agents: true,
            recording: None,
            help: false,
            pace: Pace::Unlimited,
        }
    }
}

/// What panels and keys ask for. [`ViewState`] alone cannot express it.
#[derive(Message, Debug, Clone, PartialEq)]
pub enum Ask {
    /// Something of the watched world.
    World(Request),
    /// Select the next environment of the list, or the one before.
    Step {
        /// Forward or back.
        forward: bool,
    },
    /// Save the next picture of the window.
    Screenshot,
    /// Begin or end a video of what the window shows.
    Record,
    /// Show everything again from the first point of view.
    ResetCamera,
    /// Close the window.
    Quit,
}

impl Watched {
    /// The environments as listed: filtered and sorted. Indices into the current snapshot.
    pub fn listed(&self, view: &ViewState) -> Vec<usize> {
        let environments = &self.current.environments;
        let shown = |index: &usize| {
            environments.get(*index).is_some_and(|environment| {
                let filter = &view.filter;
                filter.seed.is_none_or(|seed| seed == environment.seed)
                    && (filter.least_return <= 0.0 || environment.return_ >= filter.least_return)
                    && !(filter.no_evaluations && environment.evaluates)
            })
        };
        let mut listed: Vec<usize> = (0..environments.len()).filter(shown).collect();
        let key = |index: &usize| {
            environments.get(*index).map_or(0.0, |environment| match view.sort {
                Sort::Slot => 0.0,
                Sort::Return => environment.return_,
                Sort::LastReturn => environment.last_return.unwrap_or(f32::NEG_INFINITY),
                Sort::Step => environment.step as f32,
            })
        };
        // Stable, so that equals stay in the order of their slots.
        listed.sort_by(|a, b| key(a).total_cmp(&key(b)));
        if view.descending {
            listed.reverse();
        }
        listed
    }

    /// The environment with the highest return of the running episode, if any has one above zero.
    pub fn best(&self) -> Option<Entity> {
        let best = (self.current.environments.iter()).max_by(|a, b| a.return_.total_cmp(&b.return_))?;
        (best.return_ > 0.0).then_some(best.environment)
    }

    /// The entry of an environment in the current snapshot.
    pub fn index_of(&self, environment: Entity) -> Option<usize> {
        let environments = &self.current.environments;
        environments.iter().position(|other| other.environment == environment)
    }
}
