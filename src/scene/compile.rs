//! Resolving the names of a scene against its model.

use std::ops::Range;
use std::sync::Arc;

use bevy::ecs::component::Component;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtJoint, MjtObjBase};

use super::{Built, Control, JudgedOn, MazeSpec, MotorKind, ObservationTerm, Reward, Scene, SceneError, Shown, model};
use crate::files::{self, FileKind};
use crate::pixels::CompiledEye;
use crate::sim::stack::Stack;
use crate::sim::{Physics, step};

/// A scene with every name resolved, and its model. Environments refer to it with
/// [`InstanceOf`](crate::sim::InstanceOf).
#[derive(Component, Debug, Clone)]
pub struct CompiledScene {
    scene: Scene,
    model: Arc<MjModel>,
    period: f64,
    control: CompiledControl,
    channels: Vec<Channel>,
    start: Vec<f64>,
    fresh: Arc<MjData<Arc<MjModel>>>,
    elements: Vec<CompiledElement>,
    task: Vec<usize>,
    rewards: Vec<CompiledReward>,
    figures: Vec<String>,
    eye: Option<Arc<CompiledEye>>,
}

/// One number of the observation.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Joint name, with the component for joints of several numbers, for example `kettle[2]`.
    pub name: String,
    /// Where the number comes from.
    pub source: Source,
    /// Amplitude of the uniform noise, after all scales; 0 for none.
    pub noise: f64,
}

/// Where a number of the observation comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source {
    /// Index into `qpos`.
    Position(usize),
    /// Magnitude of the number at this index in `qpos`.
    Magnitude(usize),
    /// Index into `qvel`.
    Velocity(usize),
    /// Index into `xpos`, the bodies' positions in the world, three numbers each.
    Body(usize),
    /// Always this number.
    Constant(f64),
}

impl Source {
    /// The number in a state of the scene's model: `qpos` `[nq]`, `qvel` `[nv]` and `xpos` `[nbody]`.
    pub fn read(self, qpos: &[f64], qvel: &[f64], xpos: &[[f64; 3]]) -> f64 {
        match self {
            Self::Position(index) => qpos[index],
            Self::Magnitude(index) => qpos[index].abs(),
            Self::Velocity(index) => qvel[index],
            Self::Body(index) => xpos[index / 3][index % 3],
            Self::Constant(value) => value,
        }
    }
}

/// A resolved [`Control`].
#[derive(Debug, Clone, PartialEq)]
pub enum CompiledControl {
    /// See [`Control::VelocityLimitedPosition`].
    Servos {
        /// Speed that an action of 1 asks for, rad/s or m/s.
        speed: f64,
        /// The driven joints, in the order of the action's numbers.
        servos: Vec<CompiledServo>,
    },
    /// See [`Control::Motors`].
    Motors {
        /// The actuators, in the order of the action's numbers.
        motors: Vec<CompiledMotor>,
        /// Largest speed of a joint before a control step, rad/s or m/s.
        speed_limit: Option<f64>,
    },
}

/// A resolved [`Motor`](super::Motor).
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledMotor {
    /// Index into `ctrl`.
    pub control: usize,
    /// Control for an action of 1.
    pub scale: f64,
    /// How the number is understood.
    pub kind: MotorKind,
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

/// A resolved [`Servo`](super::Servo).
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledServo {
    /// Channel of the observation that holds the joint's position.
    pub channel: usize,
    /// Index into `ctrl`.
    pub control: usize,
    /// Lowest target, rad or m.
    pub low: f64,
    /// Highest target, rad or m.
    pub high: f64,
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

impl CompiledScene {
    /// Reads a scene, by its name in `scenes/` or its path, lays `overrides` (`path=value`) over it, loads its model
    /// and resolves all names.
    ///
    /// # Errors
    /// As [`Self::new`], but with the place in the file.
    pub fn load(name: &str, overrides: &[String]) -> Result<Self, SceneError> {
        let file = files::load::<Scene>(FileKind::Scene, name, overrides)?;
        Self::new(file.value.clone()).map_err(|error| error.located(&file))
    }

    /// Loads the model and resolves all names.
    ///
    /// # Errors
    /// [`SceneError`] if the model cannot be found or loaded, a name does not exist or a value makes no sense.
    pub fn new(scene: Scene) -> Result<Self, SceneError> {
        let model = model::load(&scene.physics)?;
        let resolver = Resolver { model: &model };

        if scene.physics.frame_skip == 0 {
            return Err(invalid("physics.frame_skip", "must be at least 1"));
        }
        if scene.episode.steps == 0 {
            return Err(invalid("episode.steps", "must be at least 1"));
        }
        let elements = elements(&scene, &resolver)?;
        let task = scene
            .task
            .elements
            .iter()
            .enumerate()
            .map(|(index, name)| element_index(&elements, name, &format!("task.elements.{index}")))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(index) = (1..task.len()).find(|&index| task[..index].contains(&task[index])) {
            return Err(invalid(format!("task.elements.{index}"), "stands in the list twice"));
        }
        let channels = channels(&scene, &resolver, &elements, &task)?;
        let elements: Vec<_> = elements
            .into_iter()
            .map(|element| with_channels(element, &channels))
            .collect();
        if scene.task.judged_on == JudgedOn::Observation
            && let Some(&unseen) = task.iter().find(|&&element| elements[element].channels.is_empty())
        {
            let reason = format!(
                "{:?} is not observed, so it cannot be judged on the observation",
                elements[unseen].name
            );
            return Err(invalid("task.judged_on", reason));
        }
        let control = control(&scene, &resolver, &channels)?;
        let rewards = rewards(&scene, &model, &elements)?;
        let figures = rewards.iter().flat_map(CompiledReward::figures).collect();
        let pixels = scene.observation.pixels.as_ref();
        let eye = pixels
            .map(|spec| CompiledEye::new(spec, &scene.physics, &model))
            .transpose()?;
        let start = start(&scene, &resolver)?;
        let fresh = fresh(&scene, &model, &start)?;
        for (index, camera) in scene.cameras.iter().enumerate() {
            if scene.cameras.iter().take(index).any(|other| other.name == camera.name) {
                return Err(invalid(
                    format!("cameras.{index}.name"),
                    format!("a second camera is named {:?}", camera.name),
                ));
            }
        }
        let period = f64::from(scene.physics.frame_skip) * model.opt().timestep;
        Ok(Self {
            scene,
            period,
            control,
            channels,
            start,
            fresh: Arc::new(fresh),
            elements,
            task,
            rewards,
            figures,
            eye: eye.map(Arc::new),
            model,
        })
    }

    /// The description this was made from.
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// The model that all environments of this scene share.
    pub fn model(&self) -> &Arc<MjModel> {
        &self.model
    }

    /// Length of a control step, s.
    pub fn period(&self) -> f64 {
        self.period
    }

    /// What an action does.
    pub fn control(&self) -> &CompiledControl {
        &self.control
    }

    /// Speed that an action of 1 asks for, rad/s or m/s, where actions move servos; otherwise 0.
    pub fn speed(&self) -> f64 {
        match &self.control {
            CompiledControl::Servos { speed, .. } => *speed,
            CompiledControl::Motors { .. } => 0.0,
        }
    }

    /// The driven joints, in the order of the action's numbers, where actions move servos; otherwise none.
    pub fn servos(&self) -> &[CompiledServo] {
        match &self.control {
            CompiledControl::Servos { servos, .. } => servos,
            CompiledControl::Motors { .. } => &[],
        }
    }

    /// Numbers in an action.
    pub fn action_len(&self) -> usize {
        match &self.control {
            CompiledControl::Servos { servos, .. } => servos.len(),
            CompiledControl::Motors { motors, .. } => motors.len(),
        }
    }

    /// Terms of the reward besides the elements of the task.
    pub fn rewards(&self) -> &[CompiledReward] {
        &self.rewards
    }

    /// Names of the [figures](crate::sim::TaskProgress::figures) that the terms of the reward report.
    pub fn figures(&self) -> &[String] {
        &self.figures
    }

    /// The numbers of the observation.
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// Numbers in an observation.
    pub fn observation_len(&self) -> usize {
        self.channels.len()
    }

    /// What draws the pictures that agents see, if they see any.
    pub fn eye(&self) -> Option<&Arc<CompiledEye>> {
        self.eye.as_ref()
    }

    /// Joint positions at the start of an episode, `[nq]`.
    pub fn start(&self) -> &[f64] {
        &self.start
    }

    /// The physics at the start of an episode; [`step::reset`] copies it.
    pub fn fresh(&self) -> &MjData<Arc<MjModel>> {
        &self.fresh
    }

    /// All elements of the scene.
    pub fn elements(&self) -> &[CompiledElement] {
        &self.elements
    }

    /// Indices into [`Self::elements`] of the rewarded elements, in the order of the task.
    pub fn task(&self) -> &[usize] {
        &self.task
    }

    /// Index of an element by its name.
    ///
    /// # Errors
    /// [`SceneError::UnknownName`] with the nearest name.
    pub fn element(&self, name: &str) -> Result<usize, SceneError> {
        element_index(&self.elements, name, "element")
    }

    /// The stretch of `qpos` that holds a joint's position.
    ///
    /// # Errors
    /// [`SceneError::UnknownName`] with the nearest name.
    pub fn joint_positions(&self, joint: &str) -> Result<Range<usize>, SceneError> {
        Ok(Resolver { model: &self.model }.joint(joint, "joint")?.positions)
    }
}

/// Looks names up in a model.
struct Resolver<'m> {
    model: &'m MjModel,
}

struct Joint {
    positions: Range<usize>,
    velocities: Range<usize>,
}

impl Resolver<'_> {
    fn id(&self, object: MjtObjBase, kind: &'static str, name: &str, field: &str) -> Result<usize, SceneError> {
        // A NUL byte cannot be part of a name in the model, and must not reach the C side.
        let id = if name.contains('\0') {
            None
        } else {
            self.model.name_to_id(object, name)
        };
        id.ok_or_else(|| {
            let names = (0..).map_while(|id| match object {
                MjtObjBase::mjOBJ_JOINT if id < self.model.njnt() as usize => Some(self.model.id_to_name(object, id)),
                MjtObjBase::mjOBJ_ACTUATOR if id < self.model.nactuator() as usize => {
                    Some(self.model.id_to_name(object, id))
                }
                MjtObjBase::mjOBJ_BODY if id < self.model.nbody() as usize => Some(self.model.id_to_name(object, id)),
                _ => None,
            });
            unknown(field, kind, name, names.flatten())
        })
    }

    fn joint(&self, name: &str, field: &str) -> Result<Joint, SceneError> {
        let id = self.id(MjtObjBase::mjOBJ_JOINT, "joint", name, field)?;
        let (positions, velocities) = match self.model.jnt_type()[id] {
            MjtJoint::mjJNT_FREE => (7, 6),
            MjtJoint::mjJNT_BALL => (4, 3),
            MjtJoint::mjJNT_SLIDE | MjtJoint::mjJNT_HINGE => (1, 1),
        };
        let position = self.model.jnt_qposadr()[id] as usize;
        let velocity = self.model.jnt_dofadr()[id] as usize;
        Ok(Joint {
            positions: position..position + positions,
            velocities: velocity..velocity + velocities,
        })
    }

    /// Index into `ctrl` of an actuator with one control.
    fn control(&self, name: &str, field: &str) -> Result<usize, SceneError> {
        let id = self.id(MjtObjBase::mjOBJ_ACTUATOR, "actuator", name, field)?;
        match self.model.actuator_ctrlnum()[id] {
            1 => Ok(self.model.actuator_ctrladr()[id] as usize),
            several => Err(invalid(
                field,
                format!("actuator {name:?} has {several} controls, a servo needs 1"),
            )),
        }
    }
}

fn elements(scene: &Scene, resolver: &Resolver) -> Result<Vec<CompiledElement>, SceneError> {
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
fn target_of(maze: &MazeSpec, field: &str) -> Result<Vec<f64>, SceneError> {
    let located = |(place, reason): (String, String)| invalid(format!("physics.built.{place}"), reason);
    let target = maze.grid().map_err(located)?.target();
    target.map(|target| target.to_vec()).ok_or_else(|| {
        invalid(
            field,
            "expected two numbers, or a target 'T' in the layout; found neither",
        )
    })
}

fn element_index(elements: &[CompiledElement], name: &str, field: &str) -> Result<usize, SceneError> {
    elements.iter().position(|element| element.name == name).ok_or_else(|| {
        unknown(
            field,
            "element",
            name,
            elements.iter().map(|element| element.name.as_str()),
        )
    })
}

fn channels(
    scene: &Scene,
    resolver: &Resolver,
    elements: &[CompiledElement],
    task: &[usize],
) -> Result<Vec<Channel>, SceneError> {
    let spec = &scene.observation;
    if !(spec.noise_scale.is_finite() && spec.noise_scale >= 0.0) {
        return Err(invalid("observation.noise_scale", "must not be negative"));
    }
    let scale = if spec.noise { spec.noise_scale } else { 0.0 };
    let mut channels: Vec<Channel> = Vec::new();
    for (index, term) in spec.terms.iter().enumerate() {
        let field = format!("observation.terms.{index}");
        let first = channels.len();
        let (joints, noise) = match term {
            ObservationTerm::Position { joints, noise, .. } | ObservationTerm::Velocity { joints, noise } => {
                (joints, noise)
            }
            ObservationTerm::Body { bodies } => {
                for (at, name) in bodies.iter().enumerate() {
                    let field = format!("{field}.bodies.{at}");
                    let id = resolver.id(MjtObjBase::mjOBJ_BODY, "body", name, &field)?;
                    channels.extend(["x", "y", "z"].iter().enumerate().map(|(axis, letter)| Channel {
                        name: format!("{name}.{letter}"),
                        source: Source::Body(3 * id + axis),
                        noise: 0.0,
                    }));
                }
                continue;
            }
            ObservationTerm::Goal { shown } => {
                let shown = match shown {
                    Shown::Task => task.to_vec(),
                    Shown::Elements(names) => names
                        .iter()
                        .enumerate()
                        .map(|(at, name)| element_index(elements, name, &format!("{field}.shown.{at}")))
                        .collect::<Result<_, _>>()?,
                };
                let seen = channels
                    .iter()
                    .filter(|channel| !matches!(channel.source, Source::Constant(_)));
                let goals: Vec<_> = seen.map(|channel| goal_of(channel, elements, &shown)).collect();
                channels.extend(goals);
                continue;
            }
        };
        for (at, name) in joints.iter().enumerate() {
            let joint = resolver.joint(name, &format!("{field}.joints.{at}"))?;
            let (range, source): (_, fn(usize) -> Source) = match term {
                ObservationTerm::Velocity { .. } => (joint.velocities, Source::Velocity),
                ObservationTerm::Position { absolute: true, .. } => (joint.positions, Source::Magnitude),
                _ => (joint.positions, Source::Position),
            };
            let several = range.len() > 1;
            channels.extend(range.enumerate().map(|(component, address)| Channel {
                name: if several {
                    format!("{name}[{component}]")
                } else {
                    name.clone()
                },
                source: source(address),
                noise: 0.0,
            }));
        }
        let stretch = &mut channels[first..];
        if !(noise.len() <= 1 || noise.len() == stretch.len()) {
            let reason = format!("has {} numbers, must have 0, 1 or {}", noise.len(), stretch.len());
            return Err(invalid(format!("{field}.noise"), reason));
        }
        finite(noise, || format!("{field}.noise"))?;
        for (channel, amplitude) in stretch.iter_mut().zip(noise.iter().cycle()) {
            channel.noise = amplitude.abs() * scale;
        }
    }
    if channels.is_empty() {
        return Err(invalid("observation.terms", "nothing is observed"));
    }
    if let Some((low, high)) = spec.clip
        && !(low.is_finite() && high.is_finite() && low < high)
    {
        return Err(invalid("observation.clip", "must be two numbers, the lower one first"));
    }
    Ok(channels)
}

fn goal_of(channel: &Channel, elements: &[CompiledElement], shown: &[usize]) -> Channel {
    let goal = shown
        .iter()
        .filter_map(|&element| elements.get(element))
        .find_map(|element| {
            element
                .values
                .iter()
                .zip(&element.goal)
                .find(|(value, _)| **value == channel.source)
                .map(|(_, goal)| *goal)
        });
    Channel {
        name: format!("goal of {}", channel.name),
        source: Source::Constant(goal.unwrap_or(0.0)),
        noise: 0.0,
    }
}

fn with_channels(mut element: CompiledElement, channels: &[Channel]) -> CompiledElement {
    let places = element
        .values
        .iter()
        .map(|value| channels.iter().position(|channel| channel.source == *value));
    element.channels = places.collect::<Option<Vec<_>>>().unwrap_or_default();
    element
}

fn control(scene: &Scene, resolver: &Resolver, channels: &[Channel]) -> Result<CompiledControl, SceneError> {
    match &scene.control {
        Control::VelocityLimitedPosition { speed, servos } => compile_servos(*speed, servos, resolver, channels),
        Control::Motors { motors, speed_limit } => compile_motors(motors, *speed_limit, resolver),
    }
}

fn compile_motors(
    motors: &[super::Motor],
    speed_limit: Option<f64>,
    resolver: &Resolver,
) -> Result<CompiledControl, SceneError> {
    if motors.is_empty() {
        return Err(invalid("control.motors", "must list at least one motor"));
    }
    if speed_limit.is_some_and(|limit| !(limit.is_finite() && limit > 0.0)) {
        return Err(invalid("control.speed_limit", "must be a positive number"));
    }
    let mut compiled: Vec<CompiledMotor> = Vec::with_capacity(motors.len());
    for (index, motor) in motors.iter().enumerate() {
        let field = format!("control.motors.{index}");
        let control = resolver.control(&motor.actuator, &format!("{field}.actuator"))?;
        if let Some(other) = compiled.iter().position(|other| other.control == control) {
            let reason = format!("{:?} belongs to control.motors.{other} already", motor.actuator);
            return Err(invalid(format!("{field}.actuator"), reason));
        }
        finite(&[motor.scale], || format!("{field}.scale"))?;
        compiled.push(CompiledMotor {
            control,
            scale: motor.scale,
            kind: motor.kind,
        });
    }
    Ok(CompiledControl::Motors {
        motors: compiled,
        speed_limit,
    })
}

fn rewards(scene: &Scene, model: &MjModel, elements: &[CompiledElement]) -> Result<Vec<CompiledReward>, SceneError> {
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

fn compile_servos(
    speed: f64,
    servos: &[super::Servo],
    resolver: &Resolver,
    channels: &[Channel],
) -> Result<CompiledControl, SceneError> {
    if !(speed.is_finite() && speed > 0.0) {
        return Err(invalid("control.speed", "must be a positive number"));
    }
    if servos.is_empty() {
        return Err(invalid("control.servos", "must list at least one servo"));
    }
    let mut compiled: Vec<CompiledServo> = Vec::with_capacity(servos.len());
    for (index, servo) in servos.iter().enumerate() {
        let field = format!("control.servos.{index}");
        let joint = resolver.joint(&servo.joint, &format!("{field}.joint"))?;
        if joint.positions.len() != 1 {
            return Err(invalid(
                format!("{field}.joint"),
                "a servo drives a hinge or slide joint",
            ));
        }
        let source = Source::Position(joint.positions.start);
        let channel = channels
            .iter()
            .position(|channel| channel.source == source)
            .ok_or_else(|| {
                invalid(
                    format!("{field}.joint"),
                    "is not observed, and the target starts from the observed position",
                )
            })?;
        let (low, high) = servo.range;
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(invalid(
                format!("{field}.range"),
                "must be two numbers, the lower one first",
            ));
        }
        let control = resolver.control(&servo.actuator, &format!("{field}.actuator"))?;
        if let Some(other) = compiled.iter().position(|other| other.control == control) {
            let reason = format!("{:?} belongs to control.servos.{other} already", servo.actuator);
            return Err(invalid(format!("{field}.actuator"), reason));
        }
        compiled.push(CompiledServo {
            channel,
            control,
            low,
            high,
        });
    }
    Ok(CompiledControl::Servos {
        speed,
        servos: compiled,
    })
}

fn start(scene: &Scene, resolver: &Resolver) -> Result<Vec<f64>, SceneError> {
    let mut start = resolver.model.qpos0().to_vec();
    for (name, position) in &scene.reset.positions {
        let field = format!("reset.positions.{name}");
        let range = resolver.joint(name, &field)?.positions;
        if position.len() != range.len() {
            let reason = format!("has {} numbers, the joint has {}", position.len(), range.len());
            return Err(invalid(field, reason));
        }
        finite(position, || field.clone())?;
        start[range].copy_from_slice(position);
    }
    Ok(start)
}

/// A state with joint positions `start` at rest.
fn fresh(scene: &Scene, model: &Arc<MjModel>, start: &[f64]) -> Result<MjData<Arc<MjModel>>, SceneError> {
    let refused = |reason: String| SceneError::Model {
        path: scene.physics.model.clone(),
        reason,
    };
    let mut fresh = MjData::try_new(Arc::clone(model)).map_err(|error| refused(error.to_string()))?;
    step::place(&mut fresh, start);
    let mut physics = Physics(fresh);
    for _ in 0..scene.reset.settle {
        // A fault shows below.
        if step::simulate(scene.physics.frame_skip, &mut physics).is_err() {
            break;
        }
    }
    let fresh = physics.0;
    // Every step of every episode would end with this fault.
    match step::complaint(&fresh) {
        None => Ok(fresh),
        Some(fault) => Err(refused(format!("the start state cannot be simulated: {fault}"))),
    }
}

fn finite(values: &[f64], field: impl Fn() -> String) -> Result<(), SceneError> {
    if values.iter().all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err(invalid(field(), "must be finite"))
    }
}

fn invalid(field: impl Into<String>, reason: impl Into<String>) -> SceneError {
    SceneError::Invalid {
        field: field.into(),
        reason: reason.into(),
    }
}

fn unknown<'n>(field: &str, kind: &'static str, name: &str, known: impl Iterator<Item = &'n str>) -> SceneError {
    let nearest = files::nearest(name, known).map(str::to_owned);
    SceneError::UnknownName {
        field: field.into(),
        kind,
        name: name.into(),
        nearest,
    }
}
