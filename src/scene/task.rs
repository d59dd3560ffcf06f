//! What there is to do and what it is worth: the fields `elements` and `task` of a scene.

use bevy::math::DVec3;
use mujoco_rs::wrappers::mj_model::MjtObjBase;
use serde::{Deserialize, Serialize};

use super::condition::{CompiledCondition, Condition};
use super::observation::{Channel, Source, joint_unit};
use super::place::Data;
use super::resolve::{Resolver, finite, invalid, numbers, unknown};
use super::reward::Reward;
use super::{Built, MazeSpec, Scene, SceneError, one};
use crate::sim::TaskProgress;

/// A thing of the scene that is done when its joints are near a goal, or when a condition holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Element {
    /// Name, unique in the scene.
    pub name: String,
    /// Its joints.
    #[serde(default)]
    pub joints: Vec<String>,
    /// Goal position, all numbers of the joints one after another. In a maze it may be left out: then it is the target of
    /// the layout.
    #[serde(default)]
    pub goal: Vec<f64>,
    /// Done when the Euclidean distance to the goal is below this.
    #[serde(default)]
    pub threshold: f64,
    /// In place of joints, goal and threshold: done when this holds. Always judged on the true state.
    #[serde(default)]
    pub when: Option<Condition>,
    /// For each episode the goal is drawn uniformly within plus and minus this around the one that is given: one number
    /// for each of the goal; for a condition `Near` or `Inside` a sphere three, m, which move its target along the axes of
    /// the world. Empty for a goal that stays.
    #[serde(default)]
    pub spread: Vec<f64>,
    /// Reward when it is counted as an element of the task.
    #[serde(default = "one")]
    pub value: f64,
}

/// What is rewarded, and when an episode ends before its time.
///
/// The reward of a step is `scale · (elements counted, each with its value, + rewards - penalty if the task has failed)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Task {
    /// Names of the elements, or sub-goals, that are rewarded once in an episode.
    pub elements: Vec<String>,
    /// Whether the order of the list matters.
    pub order: Order,
    /// What elements with joints are judged on.
    pub judged_on: JudgedOn,
    /// Further terms of the reward.
    pub rewards: Vec<Reward>,
    /// The task is done when all elements of this list have been counted (or, those that are not in the task, have been at
    /// their goals) in the episode. Left out: all elements of the task. Without any it is never done.
    pub success: Vec<String>,
    /// Whether the episode terminates when the task is done.
    pub ends: bool,
    /// The task has failed, and the episode terminates, after a step in which one of these holds, unless it has just
    /// ended with success.
    pub terminate: Vec<Condition>,
    /// What failing costs.
    pub penalty: f64,
    /// Factor on all rewards.
    pub scale: f64,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            elements: Vec::new(),
            order: Order::default(),
            judged_on: JudgedOn::default(),
            rewards: Vec::new(),
            success: Vec::new(),
            ends: true,
            terminate: Vec::new(),
            penalty: 0.0,
            scale: 1.0,
        }
    }
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

/// A resolved [`Element`](super::Element).
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledElement {
    /// Name of the element.
    pub name: String,
    /// The numbers that are compared with the goal; none where a condition is judged.
    pub values: Vec<Source>,
    /// What each of them is measured in.
    pub units: Vec<&'static str>,
    /// Channel of each of these numbers in the observation; empty when it is not observed completely.
    pub channels: Vec<usize>,
    /// Goal of each of these numbers.
    pub goal: Vec<f64>,
    /// Done when the distance is below this.
    pub threshold: f64,
    /// The condition that is judged, if it is none about joints.
    pub when: Option<CompiledCondition>,
    /// What is drawn of its goal for each episode.
    pub drawn: Option<Drawn>,
    /// Reward when it is counted.
    pub value: f64,
}

/// What is drawn of a goal for each episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Amplitudes of the uniform numbers that are added to the goal.
    pub spread: Vec<f64>,
    /// Where in [`TaskProgress::memory`](crate::sim::TaskProgress::memory) they are.
    pub memory: usize,
}

impl Drawn {
    /// The numbers that were drawn for the running episode.
    pub(crate) fn of<'a>(&self, memory: &'a [f64]) -> &'a [f64] {
        &memory[self.memory..self.memory + self.spread.len()]
    }
}

/// Whether an element is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Has been counted: index into the elements of the task.
    Counted(usize),
    /// Has been at its goal: index into the elements of the scene.
    Reached(usize),
}

impl Flag {
    /// That of an element of the scene.
    pub(super) fn of(element: usize, task: &[usize]) -> Self {
        let place = task.iter().position(|&other| other == element);
        place.map_or(Self::Reached(element), Self::Counted)
    }

    /// Whether it is set.
    pub(crate) fn is_set(self, progress: &TaskProgress) -> bool {
        match self {
            Self::Counted(index) => progress.done[index],
            Self::Reached(index) => progress.reached[index],
        }
    }
}

impl CompiledElement {
    /// Euclidean distance to the goal in a state of the scene's model, `qpos` `[nq]` and `qvel` `[nv]`, for an element with
    /// joints. What is drawn counts as zero.
    pub fn distance(&self, qpos: &[f64], qvel: &[f64]) -> f64 {
        self.distance_of(self.values.iter().map(|source| source.read(qpos, qvel, &[])), &[])
    }

    /// The distance after a step: to the goal of the episode, whose memory is given, or from the condition.
    pub(crate) fn distance_in(&self, physics: &Data, memory: &[f64]) -> f64 {
        let drawn = self.drawn.as_ref().map_or(&[][..], |drawn| drawn.of(memory));
        match (&self.when, drawn) {
            (Some(when), &[x, y, z]) => when.distance(physics, DVec3::new(x, y, z)),
            (Some(when), _) => when.distance(physics, DVec3::ZERO),
            (None, _) => {
                let (qpos, qvel) = (physics.qpos(), physics.qvel());
                self.distance_of(self.values.iter().map(|source| source.read(qpos, qvel, &[])), drawn)
            }
        }
    }

    /// The same as seen in `observation` (`[observation_len]`), for an element with `channels`.
    pub(crate) fn observed_distance(&self, observation: &[f64], memory: &[f64]) -> f64 {
        let drawn = self.drawn.as_ref().map_or(&[][..], |drawn| drawn.of(memory));
        self.distance_of(self.channels.iter().map(|&channel| observation[channel]), drawn)
    }

    fn distance_of(&self, values: impl Iterator<Item = f64>, drawn: &[f64]) -> f64 {
        let drawn = drawn.iter().copied().chain(std::iter::repeat(0.0));
        let squares = values
            .zip(self.goal.iter().zip(drawn))
            .map(|(value, (goal, drawn))| (value - (goal + drawn)).powi(2));
        squares.sum::<f64>().sqrt()
    }

    /// What the distance is measured in.
    pub fn unit(&self) -> &'static str {
        if let Some(when) = &self.when {
            return when.unit();
        }
        let first = self.units.first().copied().unwrap_or("");
        if self.units.iter().all(|unit| *unit == first) {
            first
        } else {
            "rad and m"
        }
    }
}

pub(super) fn elements(scene: &Scene, resolver: &Resolver) -> Result<Vec<CompiledElement>, SceneError> {
    let mut compiled: Vec<CompiledElement> = Vec::with_capacity(scene.elements.len());
    let mut memory = 0;
    for (index, element) in scene.elements.iter().enumerate() {
        let field = format!("elements.{index}");
        if compiled.iter().any(|other| other.name == element.name) {
            return Err(invalid(
                format!("{field}.name"),
                format!("a second element is named {:?}", element.name),
            ));
        }
        finite(&[element.value], || format!("{field}.value"))?;
        let mut done = match &element.when {
            Some(when) => with_condition(element, when, resolver, &field)?,
            None => with_joints(scene, element, resolver, &field)?,
        };
        let count = match &done.when {
            Some(when) if when.has_drawn_target() => 3,
            Some(_) => 0,
            None => done.goal.len(),
        };
        let spread = &element.spread;
        if !spread.is_empty() && spread.len() != count {
            let reason = match count {
                0 => "has no meaning: the condition has no target that could be drawn".into(),
                _ => format!("has {}, the goal has {count}", numbers(spread.len())),
            };
            return Err(invalid(format!("{field}.spread"), reason));
        }
        finite(spread, || format!("{field}.spread"))?;
        if !spread.is_empty() {
            let spread: Vec<f64> = spread.iter().map(|amplitude| amplitude.abs()).collect();
            done.drawn = Some(Drawn { spread, memory });
            memory += count;
        }
        compiled.push(done);
    }
    Ok(compiled)
}

fn with_condition(
    element: &Element,
    when: &Condition,
    resolver: &Resolver,
    field: &str,
) -> Result<CompiledElement, SceneError> {
    for (name, given) in [
        ("joints", !element.joints.is_empty()),
        ("goal", !element.goal.is_empty()),
        ("threshold", element.threshold != 0.0),
    ] {
        if given {
            return Err(invalid(format!("{field}.{name}"), "has no meaning beside `when`"));
        }
    }
    let when = resolver.condition(when, &format!("{field}.when"))?;
    Ok(CompiledElement {
        name: element.name.clone(),
        values: Vec::new(),
        units: Vec::new(),
        channels: Vec::new(),
        goal: Vec::new(),
        threshold: when.threshold(),
        when: Some(when),
        drawn: None,
        value: element.value,
    })
}

fn with_joints(
    scene: &Scene,
    element: &Element,
    resolver: &Resolver,
    field: &str,
) -> Result<CompiledElement, SceneError> {
    let (mut values, mut units) = (Vec::new(), Vec::new());
    for (at, name) in element.joints.iter().enumerate() {
        let field = format!("{field}.joints.{at}");
        let joint = resolver.joint(name, &field)?;
        let id = resolver.id(MjtObjBase::mjOBJ_JOINT, "joint", name, &field)?;
        units.extend((0..joint.positions.len()).map(|component| joint_unit(resolver.model, id, component)));
        values.extend(joint.positions.map(Source::Position));
    }
    if values.is_empty() {
        return Err(invalid(format!("{field}.joints"), "must name at least one joint"));
    }
    let goal = match (&scene.physics.built, element.goal.is_empty()) {
        (Some(Built::Maze(maze)), true) => target_of(maze, &format!("{field}.goal"))?,
        _ => element.goal.clone(),
    };
    if goal.len() != values.len() {
        let reason = format!("has {}, the joints have {}", numbers(goal.len()), values.len());
        return Err(invalid(format!("{field}.goal"), reason));
    }
    finite(&goal, || format!("{field}.goal"))?;
    if !(element.threshold.is_finite() && element.threshold > 0.0) {
        return Err(invalid(format!("{field}.threshold"), "must be a positive number"));
    }
    Ok(CompiledElement {
        name: element.name.clone(),
        values,
        units,
        channels: Vec::new(),
        goal,
        threshold: element.threshold,
        when: None,
        drawn: None,
        value: element.value,
    })
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

/// Which elements make the task done: those that are listed, otherwise those of the task.
pub(super) fn success(scene: &Scene, elements: &[CompiledElement], task: &[usize]) -> Result<Vec<Flag>, SceneError> {
    let listed = scene.task.success.iter().enumerate();
    let listed = listed
        .map(|(at, name)| element_index(elements, name, &format!("task.success.{at}")))
        .collect::<Result<Vec<_>, _>>()?;
    let elements = if listed.is_empty() { task } else { &listed };
    Ok(elements.iter().map(|&element| Flag::of(element, task)).collect())
}

/// Conditions that end an episode.
pub(super) fn failures(scene: &Scene, resolver: &Resolver) -> Result<Vec<CompiledCondition>, SceneError> {
    finite(&[scene.task.penalty], || "task.penalty".into())?;
    finite(&[scene.task.scale], || "task.scale".into())?;
    let conditions = scene.task.terminate.iter().enumerate();
    conditions
        .map(|(at, condition)| resolver.condition(condition, &format!("task.terminate.{at}")))
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
