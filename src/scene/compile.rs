//! Resolving the names of a scene against its model.

use std::ops::Range;
use std::sync::Arc;

use bevy::ecs::component::Component;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;

use super::arm::actions;
use super::channels::{CompiledTerm, Observed, channels};
use super::condition::{CompiledCondition, Reads};
use super::control::{ActionChannel, CompiledControl, CompiledServo, control};
use super::looks::says_lights;
use super::observation::{Channel, ObservationTerm};
use super::place::{CompiledPlace, Place};
use super::randomise::{CompiledRandomisation, randomisation};
use super::reset::{CompiledReset, fresh, keyframe, reset, start};
use super::resolve::{Resolver, finite, invalid};
use super::reward::Reward;
use super::reward_terms::{CompiledReward, rewards};
use super::task::{CompiledElement, Flag, JudgedOn, element_index, elements, failures, success, with_channels};
use super::{Camera, LARGEST_PICTURE, Scene, SceneError, model};
use crate::files::Loaded;
use crate::pixels::CompiledEye;
use crate::sim::step::{StartError, start as start_episode};
use crate::sim::{Episode, Physics, Slot};

/// A scene with every name resolved, and its model. Environments refer to it with
/// [`InstanceOf`](crate::sim::InstanceOf).
#[derive(Component, Debug, Clone)]
pub struct CompiledScene {
    scene: Scene,
    model: Arc<MjModel>,
    period: f64,
    control: CompiledControl,
    actions: Vec<ActionChannel>,
    reset: CompiledReset,
    randomisation: Arc<CompiledRandomisation>,
    channels: Vec<Channel>,
    terms: Vec<CompiledTerm>,
    start: Vec<f64>,
    fresh: Arc<MjData<Arc<MjModel>>>,
    elements: Vec<CompiledElement>,
    task: Vec<usize>,
    rewards: Vec<CompiledReward>,
    figures: Vec<String>,
    success: Vec<Flag>,
    failures: Vec<CompiledCondition>,
    /// Where in the memory the action before the last one is, and the last one.
    remembered_actions: (Range<usize>, Range<usize>),
    memory_len: usize,
    reads: Reads,
    eye: Option<Arc<CompiledEye>>,
}

impl CompiledScene {
    /// Reads a scene, by its name in `scenes/` or its path, lays `overrides` (`path=value`) over it, loads its model
    /// and resolves all names.
    ///
    /// # Errors
    /// As [`Self::new`], but with the place in the file.
    pub fn load(name: &str, overrides: &[String]) -> Result<Self, SceneError> {
        Self::of_file(&Scene::load_with(name, overrides)?)
    }

    /// Loads the model of a scene that was read and resolves all names.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn of_file(file: &Loaded<Scene>) -> Result<Self, SceneError> {
        Self::new(file.value.clone()).map_err(|error| error.located(file))
    }

    /// Loads the model and resolves all names.
    ///
    /// # Errors
    /// [`SceneError`] if the model cannot be found or loaded, a name does not exist or a value makes no sense.
    pub fn new(scene: Scene) -> Result<Self, SceneError> {
        let model = model::load(&scene.physics)?;
        Self::with_model(scene, model)
    }

    /// Resolves all names in the model that the scene describes.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn with_model(scene: Scene, model: Arc<MjModel>) -> Result<Self, SceneError> {
        check_without_model(&scene)?;
        let resolver = Resolver { model: &model };
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
        let actions = actions(&scene.control, &resolver);
        let remembered_actions = remembered_actions(&scene, &elements, actions.len());
        let last_action = remembered_actions.1.start;
        let Observed { channels, terms } = channels(&scene, &resolver, (&elements, &task), (&actions, last_action))?;
        let elements: Vec<_> = elements
            .into_iter()
            .map(|element| with_channels(element, &channels))
            .collect();
        if scene.task.judged_on == JudgedOn::Observation
            && let Some(&unseen) = (task.iter())
                .find(|&&element| elements[element].when.is_none() && elements[element].channels.is_empty())
        {
            let reason = format!(
                "{:?} is not observed, so it cannot be judged on the observation",
                elements[unseen].name
            );
            return Err(invalid("task.judged_on", reason));
        }
        let control = control(&scene, &resolver, &channels)?;
        let (rewards, figures) = rewards(&scene, &resolver, &elements, remembered_actions.1.end)?;
        let memory_len = rewards.last().map_or(remembered_actions.1.end, |last| last.memory.end);
        let success = success(&scene, &elements, &task)?;
        let failures = failures(&scene, &resolver)?;
        let reads = reads(&terms, &elements, &rewards, &failures);
        let pixels = scene.observation.pixels.as_ref();
        let eye = pixels
            .map(|spec| CompiledEye::new(spec, &scene.physics, &model))
            .transpose()?;
        let start = start(&scene, &resolver)?;
        let keyframe = keyframe(&scene, &resolver)?;
        let fresh = fresh(&scene, &model, keyframe, &start)?;
        let randomisation = randomisation(&scene, &resolver)?;
        if let Some(eye) = &eye {
            for (index, term) in scene.randomise.iter().enumerate() {
                eye.shows(term)
                    .map_err(|reason| invalid(format!("randomise.{index}"), reason))?;
            }
        }
        let reset = reset(&scene, &resolver, &fresh, &randomisation)?;
        let period = f64::from(scene.physics.frame_skip) * model.opt().timestep;
        let compiled = Self {
            scene,
            period,
            control,
            actions,
            reset,
            randomisation: Arc::new(randomisation),
            channels,
            terms,
            start,
            fresh: Arc::new(fresh),
            elements,
            task,
            rewards,
            figures,
            success,
            failures,
            remembered_actions,
            memory_len,
            reads,
            eye: eye.map(Arc::new),
            model,
        };
        compiled.try_starts()?;
        Ok(compiled)
    }

    /// Starts a few episodes, so that what cannot be drawn is found now.
    fn try_starts(&self) -> Result<(), SceneError> {
        /// Episodes that are tried.
        const EPISODES: u64 = 32;
        /// No environment has this slot.
        const SLOT: Slot = Slot(usize::MAX);
        if self.reset.is_fixed() && self.randomisation.is_empty() {
            return Ok(());
        }
        let mut physics = Physics((*self.fresh).clone());
        for index in 0..EPISODES {
            start_episode(self, SLOT, &Episode::new(0, index), &mut physics).map_err(|error| {
                let field = match error {
                    StartError::NoRoom { placement, body } => format!("reset.placements.{placement}.bodies.{body}"),
                    StartError::Physics(_) => "reset".into(),
                };
                invalid(field, error.to_string())
            })?;
        }
        Ok(())
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
            _ => 0.0,
        }
    }

    /// The driven joints, in the order of the action's numbers, where actions move servos; otherwise none.
    pub fn servos(&self) -> &[CompiledServo] {
        match &self.control {
            CompiledControl::Servos { servos, .. } => servos,
            _ => &[],
        }
    }

    /// Numbers in an action.
    pub fn action_len(&self) -> usize {
        self.control.action_len()
    }

    /// What each number of an action means.
    pub fn actions(&self) -> &[ActionChannel] {
        &self.actions
    }

    /// How episodes start.
    pub(crate) fn reset(&self) -> &CompiledReset {
        &self.reset
    }

    /// What of the model differs from episode to episode.
    pub fn randomisation(&self) -> &Arc<CompiledRandomisation> {
        &self.randomisation
    }

    /// Whether pictures have the lights of the model, of which the scene says something, instead of those of the window.
    pub fn lit_by_model(&self) -> bool {
        says_lights(&self.scene)
    }

    /// Terms of the reward besides the elements of the task.
    pub fn rewards(&self) -> &[CompiledReward] {
        &self.rewards
    }

    /// Names of the [figures](crate::sim::TaskProgress::figures) that the terms of the reward report.
    pub fn figures(&self) -> &[String] {
        &self.figures
    }

    /// What makes the task done, if all of it is: the elements of its `success`, or all of its own.
    pub fn success(&self) -> &[Flag] {
        &self.success
    }

    /// What makes the task fail.
    pub fn failures(&self) -> &[CompiledCondition] {
        &self.failures
    }

    /// Numbers that are remembered within an episode: the length of
    /// [`TaskProgress::memory`](crate::sim::TaskProgress::memory).
    pub fn memory_len(&self) -> usize {
        self.memory_len
    }

    /// Where in the memory the action before the last one is, and the last one; empty where no term asks for them.
    pub(crate) fn remembered_actions(&self) -> (Range<usize>, Range<usize>) {
        self.remembered_actions.clone()
    }

    /// What has to be up to date after a step.
    pub(crate) fn reads(&self) -> Reads {
        self.reads
    }

    /// Resolves a place in the model.
    ///
    /// # Errors
    /// [`SceneError`] with `field` if a name does not exist or a number is not finite.
    pub fn place(&self, place: &Place, field: &str) -> Result<CompiledPlace, SceneError> {
        Resolver { model: &self.model }.place(place, field)
    }

    /// The terms of the observation that work their numbers out.
    pub fn terms(&self) -> &[CompiledTerm] {
        &self.terms
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

    /// Joint positions at the start of an episode, `[nq]`, before anything is drawn or settles.
    pub fn start(&self) -> &[f64] {
        &self.start
    }

    /// The physics at the start of an episode, without anything drawn; [`reset`](crate::sim::step::reset) copies it.
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

/// Where in the memory actions are, behind what is drawn of goals.
fn remembered_actions(scene: &Scene, elements: &[CompiledElement], actions: usize) -> (Range<usize>, Range<usize>) {
    let drawn = elements.iter().filter_map(|element| element.drawn.as_ref());
    let first = drawn.map(|drawn| drawn.spread.len()).sum();
    let rewarded = |reward: &Reward| matches!(reward, Reward::ActionCost { .. } | Reward::ActionRate { .. });
    let observed = |term: &ObservationTerm| matches!(term, ObservationTerm::PreviousAction { .. });
    let wanted = scene.task.rewards.iter().any(rewarded) || scene.observation.terms.iter().any(observed);
    let count = if wanted { actions } else { 0 };
    (first..first + count, first + count..first + 2 * count)
}

fn reads(
    terms: &[CompiledTerm],
    elements: &[CompiledElement],
    rewards: &[CompiledReward],
    failures: &[CompiledCondition],
) -> Reads {
    let terms = terms.iter().map(|term| term.kind.reads());
    let elements = elements.iter().filter_map(|element| element.when.as_ref());
    let conditions = elements.chain(failures).map(CompiledCondition::reads);
    terms
        .chain(conditions)
        .chain(rewards.iter().map(CompiledReward::reads))
        .collect()
}

/// Whether a picture can be taken with a camera.
fn check_camera(camera: &Camera, field: &str) -> Result<(), SceneError> {
    let (x, y, z) = camera.look_at;
    for (name, numbers) in [
        ("look_at", &[x, y, z][..]),
        ("azimuth", &[camera.azimuth][..]),
        ("elevation", &[camera.elevation][..]),
    ] {
        finite(numbers, || format!("{field}.{name}"))?;
    }
    if !(camera.distance.is_finite() && camera.distance > 0.0) {
        let reason = format!("must be a positive number of metres, found {}", camera.distance);
        return Err(invalid(format!("{field}.distance"), reason));
    }
    for (name, pixels) in [("width", camera.width), ("height", camera.height)] {
        if !(1..=LARGEST_PICTURE).contains(&pixels) {
            let reason = format!("must be 1 to {LARGEST_PICTURE} pixels, found {pixels}");
            return Err(invalid(format!("{field}.{name}"), reason));
        }
    }
    Ok(())
}

/// What can be said about a scene without its model.
pub(super) fn check_without_model(scene: &Scene) -> Result<(), SceneError> {
    if scene.physics.frame_skip == 0 {
        return Err(invalid("physics.frame_skip", "must be at least 1"));
    }
    if scene.episode.steps == 0 {
        return Err(invalid("episode.steps", "must be at least 1"));
    }
    scene.delays.check()?;
    for (index, camera) in scene.cameras.iter().enumerate() {
        if scene.cameras.iter().take(index).any(|other| other.name == camera.name) {
            return Err(invalid(
                format!("cameras.{index}.name"),
                format!("a second camera is named {:?}", camera.name),
            ));
        }
        check_camera(camera, &format!("cameras.{index}"))?;
    }
    Ok(())
}
