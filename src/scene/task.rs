//! What there is to do and what it is worth: the fields `elements` and `task` of a scene.

use mujoco_rs::wrappers::mj_model::MjModel;
use serde::{Deserialize, Serialize};

use super::observation::{Channel, Source};
use super::resolve::{Resolver, finite, invalid, unknown};
use super::{Built, MazeSpec, Scene, SceneError, one};
use crate::sim::stack::{Stack, StackSpec};

/// A thing of the scene that is done when its joints are near a goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Element {
    /// Name, unique in the scene.
    pub name: String,
    /// Its joints.
    pub joints: Vec<String>,
    /// Goal position, all numbers of the joints one after another. In a maze it may be left out: then it is the target of
    /// the layout.
    #[serde(default)]
    pub goal: Vec<f64>,
    /// Done when the Euclidean distance to the goal is below this.
    pub threshold: f64,
}

/// What is rewarded: elements of the scene, and further terms. The reward of a step is the sum of both.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Names of the elements that give a reward of 1, once. When all are done the episode terminates; without any it
    /// never does.
    #[serde(default)]
    pub elements: Vec<String>,
    /// Whether the order of the list matters.
    #[serde(default)]
    pub order: Order,
    /// What the elements are judged on.
    #[serde(default)]
    pub judged_on: JudgedOn,
    /// Further terms of the reward.
    #[serde(default)]
    pub rewards: Vec<Reward>,
}

/// A term of the reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Reward {
    /// The value in every step after which an element is at its goal.
    Near {
        /// The element.
        element: String,
        /// Reward of such a step.
        #[serde(default = "one")]
        value: f64,
    },
    /// Blocks that are lifted and stacked.
    Stack(StackSpec),
}

/// In which order the elements of a task count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Order {
    /// Any order.
    #[default]
    Any,
    /// An element counts only in a step in which every element listed before it has been counted or is at its goal
    /// too. The rule of the D4RL fork that `SPiRL` uses, since January 2021.
    Listed,
}

/// What the elements of a task are judged on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum JudgedOn {
    /// The true state.
    #[default]
    State,
    /// The noisy observation, as in D4RL. All joints of the elements must be observed.
    Observation,
}

/// A resolved [`Reward`].
#[derive(Debug, Clone)]
pub enum CompiledReward {
    /// See [`Reward::Near`].
    Near {
        /// Index of the element.
        element: usize,
        /// Reward of a step.
        value: f64,
    },
    /// See [`Reward::Stack`].
    Stack {
        /// The term.
        stack: Stack,
        /// Numbers it remembers within an episode.
        memory: usize,
        /// Numbers it reports.
        figures: usize,
    },
}

impl CompiledReward {
    /// Numbers that the term remembers within an episode.
    pub fn memory_len(&self) -> usize {
        match self {
            Self::Near { .. } => 0,
            Self::Stack { memory, .. } => *memory,
        }
    }

    /// Names of the numbers it reports.
    pub fn figures(&self) -> Vec<String> {
        match self {
            Self::Near { .. } => Vec::new(),
            Self::Stack { stack, .. } => stack.figures(),
        }
    }
}

/// A resolved [`Element`](super::Element).
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledElement {
    /// Name of the element.
    pub name: String,
    /// The numbers that are compared with the goal.
    pub values: Vec<Source>,
    /// Channel of each of these numbers in the observation; empty when it is not observed completely.
    pub channels: Vec<usize>,
    /// Goal of each of these numbers.
    pub goal: Vec<f64>,
    /// Done when the Euclidean distance to the goal is below this.
    pub threshold: f64,
}

impl CompiledElement {
    /// Euclidean distance to the goal in a state of the scene's model, `qpos` `[nq]` and `qvel` `[nv]`.
    pub fn distance(&self, qpos: &[f64], qvel: &[f64]) -> f64 {
        self.distance_of(self.values.iter().map(|source| source.read(qpos, qvel, &[])))
    }

    /// The same as seen in `observation` (`[observation_len]`), for an element with `channels`.
    pub(crate) fn observed_distance(&self, observation: &[f64]) -> f64 {
        self.distance_of(self.channels.iter().map(|&channel| observation[channel]))
    }

    fn distance_of(&self, values: impl Iterator<Item = f64>) -> f64 {
        let squares = values.zip(&self.goal).map(|(value, goal)| (value - goal).powi(2));
        squares.sum::<f64>().sqrt()
    }
}

pub(super) fn elements(scene: &Scene, resolver: &Resolver) -> Result<Vec<CompiledElement>, SceneError> {
    let mut compiled: Vec<CompiledElement> = Vec::with_capacity(scene.elements.len());
    for (index, element) in scene.elements.iter().enumerate() {
        let field = format!("elements.{index}");
        if compiled.iter().any(|other| other.name == element.name) {
            return Err(invalid(
                format!("{field}.name"),
                format!("a second element is named {:?}", element.name),
            ));
        }
        let mut values = Vec::new();
        for (joint, name) in element.joints.iter().enumerate() {
            values.extend(
                resolver
                    .joint(name, &format!("{field}.joints.{joint}"))?
                    .positions
                    .map(Source::Position),
            );
        }
        if values.is_empty() {
            return Err(invalid(format!("{field}.joints"), "must name at least one joint"));
        }
        let goal = match (&scene.physics.built, element.goal.is_empty()) {
            (Some(Built::Maze(maze)), true) => target_of(maze, &format!("{field}.goal"))?,
            _ => element.goal.clone(),
        };
        if goal.len() != values.len() {
            let reason = format!("has {} numbers, the joints have {}", goal.len(), values.len());
            return Err(invalid(format!("{field}.goal"), reason));
        }
        finite(&goal, || format!("{field}.goal"))?;
        if !(element.threshold.is_finite() && element.threshold > 0.0) {
            return Err(invalid(format!("{field}.threshold"), "must be a positive number"));
        }
        compiled.push(CompiledElement {
            name: element.name.clone(),
            values,
            channels: Vec::new(),
            goal,
            threshold: element.threshold,
        });
    }
    Ok(compiled)
}

/// The target of a maze, joint coordinates.
pub(super) fn target_of(maze: &MazeSpec, field: &str) -> Result<Vec<f64>, SceneError> {
    let located = |(place, reason): (String, String)| invalid(format!("physics.built.{place}"), reason);
    let target = maze.grid().map_err(located)?.target();
    target.map(|target| target.to_vec()).ok_or_else(|| {
        invalid(
            field,
            "expected two numbers, or a target 'T' in the layout; found neither",
        )
    })
}

pub(super) fn element_index(elements: &[CompiledElement], name: &str, field: &str) -> Result<usize, SceneError> {
    elements.iter().position(|element| element.name == name).ok_or_else(|| {
        unknown(
            field,
            "element",
            name,
            elements.iter().map(|element| element.name.as_str()),
        )
    })
}

pub(super) fn rewards(
    scene: &Scene,
    model: &MjModel,
    elements: &[CompiledElement],
) -> Result<Vec<CompiledReward>, SceneError> {
    let terms = scene.task.rewards.iter().enumerate();
    terms
        .map(|(index, reward)| {
            let field = format!("task.rewards.{index}");
            Ok(match reward {
                Reward::Near { element, value } => {
                    finite(&[*value], || format!("{field}.value"))?;
                    CompiledReward::Near {
                        element: element_index(elements, element, &format!("{field}.element"))?,
                        value: *value,
                    }
                }
                Reward::Stack(spec) => {
                    let stack =
                        Stack::new(spec, model).map_err(|(name, reason)| invalid(format!("{field}.{name}"), reason))?;
                    CompiledReward::Stack {
                        memory: stack.memory_len(),
                        figures: stack.figures().len(),
                        stack,
                    }
                }
            })
        })
        .collect()
}

pub(super) fn with_channels(mut element: CompiledElement, channels: &[Channel]) -> CompiledElement {
    let places = element
        .values
        .iter()
        .map(|value| channels.iter().position(|channel| channel.source == *value));
    element.channels = places.collect::<Option<Vec<_>>>().unwrap_or_default();
    element
}
