//! Resolving the names of a scene against its model.

use std::ops::Range;
use std::sync::Arc;

use bevy::ecs::component::Component;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;

use super::control::{CompiledControl, CompiledServo, control};
use super::observation::{Channel, channels};
use super::reset::{fresh, start};
use super::resolve::{Resolver, invalid};
use super::task::{CompiledElement, CompiledReward, JudgedOn, element_index, elements, rewards, with_channels};
use super::{Scene, SceneError, model};
use crate::files::{self, FileKind};
use crate::pixels::CompiledEye;


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

    /// The physics at the start of an episode; [`reset`](crate::sim::step::reset) copies it.
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
