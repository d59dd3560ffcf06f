//! Resolving the terms of the reward.

use std::ops::Range;

use super::condition::{CompiledCondition, Condition, Reads};
use super::place::{CompiledPlace, Place};
use super::resolve::{Resolver, finite, invalid, numbers};
use super::reward::{Reward, Shape};
use super::task::{CompiledElement, element_index};
use super::{Scene, SceneError};
use crate::sim::stack::Stack;

/// A resolved [`Reward`].
#[derive(Debug, Clone)]
pub struct CompiledReward {
    /// Numbers of [`TaskProgress::memory`](crate::sim::TaskProgress::memory) in which it remembers something within an
    /// episode.
    pub memory: Range<usize>,
    /// The numbers it reports.
    pub figures: Range<usize>,
    /// What it rewards.
    pub kind: RewardKind,
}

/// What a [`CompiledReward`] rewards; weights, values and shapes are those of [`Reward`].
#[derive(Debug, Clone)]
pub enum RewardKind {
    /// Index of the element and value.
    Near(usize, f64),
    /// Blocks.
    Stack(Stack),
    /// Two places.
    Distance(CompiledPlace, CompiledPlace, Shape, f64),
    /// Two places.
    Progress(CompiledPlace, CompiledPlace, f64),
    /// Index of the element.
    ElementDistance(usize, Shape, f64),
    /// Index of the element.
    ElementProgress(usize, f64),
    /// Index into `qpos` and goal of each number.
    JointNear(Vec<(usize, f64)>, Shape, f64),
    /// A place and bounds.
    Height {
        /// The place.
        of: CompiledPlace,
        /// From this height on, m.
        above: f64,
        /// No more than this, m.
        at_most: f64,
        /// Weight.
        weight: f64,
    },
    /// A place.
    Upright(CompiledPlace, f64),
    /// A place and a direction.
    Speed {
        /// The place.
        of: CompiledPlace,
        /// Unit vector.
        along: [f64; 3],
        /// No more than this, m/s.
        at_most: f64,
        /// Weight.
        weight: f64,
    },
    /// A condition, its value and whether it counts once.
    When(CompiledCondition, f64, bool),
    /// Size of the action.
    ActionCost(f64),
    /// Change of the action.
    ActionRate(f64),
    /// Work of the actuators.
    EnergyCost(f64),
    /// The task is done.
    Completion(f64),
    /// Always.
    Constant(f64),
}

impl RewardKind {
    /// Numbers it remembers.
    fn memory_len(&self) -> usize {
        match self {
            Self::Stack(stack) => stack.memory_len(),
            Self::Progress(..) | Self::ElementProgress(..) | Self::When(_, _, true) | Self::Completion(_) => 1,
            _ => 0,
        }
    }

    /// What has to be up to date.
    fn reads(&self) -> Reads {
        match self {
            Self::Distance(..) | Self::Progress(..) | Self::Height { .. } | Self::Upright(..) | Self::Speed { .. } => {
                Reads::POSES
            }
            Self::When(condition, ..) => condition.reads(),
            _ => Reads::default(),
        }
    }
}

impl CompiledReward {
    /// The element that it is about, if success is to be at its goal.
    pub fn goal(&self) -> Option<usize> {
        match self.kind {
            RewardKind::Near(element, _) => Some(element),
            _ => None,
        }
    }

    pub(super) fn reads(&self) -> Reads {
        self.kind.reads()
    }
}

/// The terms, and the names of the figures. `memory` is the first free number of the memory.
pub(super) fn rewards(
    scene: &Scene,
    resolver: &Resolver,
    elements: &[CompiledElement],
    mut memory: usize,
) -> Result<(Vec<CompiledReward>, Vec<String>), SceneError> {
    let mut compiled = Vec::with_capacity(scene.task.rewards.len());
    let mut figures: Vec<String> = Vec::new();
    for (index, reward) in scene.task.rewards.iter().enumerate() {
        let field = format!("task.rewards.{index}");
        let kind = Term {
            resolver,
            elements,
            field: &field,
        }
        .compile(reward)?;
        let reported = match (&kind, reward.name()) {
            (RewardKind::Stack(stack), _) => stack.figures(),
            (_, "") => Vec::new(),
            (_, name) if figures.iter().any(|other| other == name) => {
                return Err(invalid(
                    format!("{field}.name"),
                    format!("a second figure is named {name:?}"),
                ));
            }
            (_, name) => vec![name.to_owned()],
        };
        let first = figures.len();
        figures.extend(reported);
        let remembered = memory..memory + kind.memory_len();
        memory = remembered.end;
        compiled.push(CompiledReward {
            memory: remembered,
            figures: first..figures.len(),
            kind,
        });
    }
    Ok((compiled, figures))
}

/// A term at its place in the scene.
struct Term<'a> {
    resolver: &'a Resolver<'a>,
    elements: &'a [CompiledElement],
    field: &'a str,
}

impl Term<'_> {
    fn compile(&self, reward: &Reward) -> Result<RewardKind, SceneError> {
        Ok(match reward {
            Reward::Near { element, value, .. } => RewardKind::Near(self.element(element)?, self.value(*value)?),
            Reward::Stack(spec) => {
                let located = |(name, reason): (String, String)| invalid(format!("{}.{name}", self.field), reason);
                RewardKind::Stack(Stack::new(spec, self.resolver.model).map_err(located)?)
            }
            Reward::Distance {
                from,
                to,
                shape,
                weight,
                ..
            } => RewardKind::Distance(
                self.place(from, "from")?,
                self.place(to, "to")?,
                self.shape(*shape)?,
                self.weight(*weight)?,
            ),
            Reward::Progress { from, to, weight, .. } => {
                RewardKind::Progress(self.place(from, "from")?, self.place(to, "to")?, self.weight(*weight)?)
            }
            Reward::ElementDistance {
                element, shape, weight, ..
            } => RewardKind::ElementDistance(self.element(element)?, self.shape(*shape)?, self.weight(*weight)?),
            Reward::ElementProgress { element, weight, .. } => {
                RewardKind::ElementProgress(self.element(element)?, self.weight(*weight)?)
            }
            Reward::JointNear {
                joints,
                goal,
                shape,
                weight,
                ..
            } => RewardKind::JointNear(self.joints(joints, goal)?, self.shape(*shape)?, self.weight(*weight)?),
            &Reward::Height {
                ref of,
                above,
                at_most,
                weight,
                ..
            } => RewardKind::Height {
                of: self.place(of, "of")?,
                above: self.number(above, "above")?,
                at_most: self.most(at_most)?,
                weight: self.weight(weight)?,
            },
            Reward::Upright { of, weight, .. } => RewardKind::Upright(self.place(of, "of")?, self.weight(*weight)?),
            &Reward::Speed {
                ref of,
                along,
                at_most,
                weight,
                ..
            } => RewardKind::Speed {
                of: self.place(of, "of")?,
                along: self.direction(along)?,
                at_most: self.most(at_most)?,
                weight: self.weight(weight)?,
            },
            Reward::Contact {
                between, value, once, ..
            } => {
                let between = between.clone();
                self.when(&Condition::Contact { between }, self.field, *value, *once)?
            }
            Reward::Reached {
                of, zone, value, once, ..
            } => {
                let (of, zone) = (of.clone(), zone.clone());
                self.when(&Condition::Inside { of, zone }, self.field, *value, *once)?
            }
            Reward::When {
                condition, value, once, ..
            } => self.when(condition, &format!("{}.condition", self.field), *value, *once)?,
            Reward::ActionCost { weight, .. } => RewardKind::ActionCost(self.weight(*weight)?),
            Reward::ActionRate { weight, .. } => RewardKind::ActionRate(self.weight(*weight)?),
            Reward::EnergyCost { weight, .. } => RewardKind::EnergyCost(self.weight(*weight)?),
            Reward::Completion { value, .. } => RewardKind::Completion(self.value(*value)?),
            Reward::Constant { value, .. } => RewardKind::Constant(self.value(*value)?),
        })
    }

    fn number(&self, value: f64, name: &str) -> Result<f64, SceneError> {
        finite(&[value], || format!("{}.{name}", self.field))?;
        Ok(value)
    }

    fn value(&self, value: f64) -> Result<f64, SceneError> {
        self.number(value, "value")
    }

    fn weight(&self, weight: f64) -> Result<f64, SceneError> {
        self.number(weight, "weight")
    }

    fn most(&self, most: f64) -> Result<f64, SceneError> {
        if most > 0.0 {
            Ok(most)
        } else {
            Err(invalid(format!("{}.at_most", self.field), "must be positive"))
        }
    }

    fn shape(&self, shape: Shape) -> Result<Shape, SceneError> {
        match shape {
            Shape::Exponential(scale) | Shape::Tanh(scale) if !(scale.is_finite() && scale > 0.0) => {
                Err(invalid(format!("{}.shape.0", self.field), "must be a positive number"))
            }
            _ => Ok(shape),
        }
    }

    fn direction(&self, (x, y, z): (f64, f64, f64)) -> Result<[f64; 3], SceneError> {
        let length = (x * x + y * y + z * z).sqrt();
        if length.is_finite() && length > 0.0 {
            Ok([x, y, z].map(|part| part / length))
        } else {
            Err(invalid(format!("{}.along", self.field), "must be a direction"))
        }
    }

    fn element(&self, name: &str) -> Result<usize, SceneError> {
        element_index(self.elements, name, &format!("{}.element", self.field))
    }

    fn place(&self, place: &Place, name: &str) -> Result<CompiledPlace, SceneError> {
        self.resolver.place(place, &format!("{}.{name}", self.field))
    }

    fn when(&self, condition: &Condition, field: &str, value: f64, once: bool) -> Result<RewardKind, SceneError> {
        let condition = self.resolver.condition(condition, field)?;
        Ok(RewardKind::When(condition, self.value(value)?, once))
    }

    fn joints(&self, joints: &[String], goal: &[f64]) -> Result<Vec<(usize, f64)>, SceneError> {
        let mut positions = Vec::new();
        for (at, name) in joints.iter().enumerate() {
            let joint = self.resolver.joint(name, &format!("{}.joints.{at}", self.field))?;
            positions.extend(joint.positions);
        }
        if positions.is_empty() {
            return Err(invalid(
                format!("{}.joints", self.field),
                "must name at least one joint",
            ));
        }
        if goal.len() != positions.len() {
            let reason = format!("has {}, the joints have {}", numbers(goal.len()), positions.len());
            return Err(invalid(format!("{}.goal", self.field), reason));
        }
        finite(goal, || format!("{}.goal", self.field))?;
        Ok(positions.into_iter().zip(goal.iter().copied()).collect())
    }
}
