//! A scripted demonstrator for the Franka kitchen: all seven elements, in any order, through the environment's own
//! actions. No human data is involved.
//!
//! Read from top to bottom: the settings, one control step, the choice of a path, the seven routines. A routine looks
//! at the kitchen once and lists [`Segment`]s; [`Follower`] walks through them and the servo law makes the arm follow.
//!
//! The routines are built to be *learnable* by a policy that sees only noisy joint positions: objects are pushed or
//! hooked rather than balanced in a grip, so that errors of the tool of one or two centimetres do no harm. What is
//! executed can be disturbed ([`Disturbance`]) while the action that would have been right is recorded, as in DART
//! (Laskey et al. 2017, <https://arxiv.org/abs/1703.09327>), so the demonstrations show how to get back on the way.

use std::sync::Arc;

use bevy::ecs::component::Component;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use nalgebra::{Matrix3, Vector3};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::DemoError;
use super::ik::{Arm, Joints, Pose, orientation};
use super::segments::{Advance, Command, Follower, Line, OPEN, Segment, Steering, Transfer, View, reference_action};
use crate::rng::{Purpose, Stream, stream};
use crate::scene::{CompiledElement, CompiledScene, Source};

/// What can be done in the kitchen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KitchenElement {
    /// Pull the door open.
    Microwave,
    /// Push it to the rear burner.
    Kettle,
    /// Turn the second knob from the left, lower row.
    BottomBurner,
    /// Turn the knob above it.
    TopBurner,
    /// Push the lever to the left.
    LightSwitch,
    /// Slide the door to the right.
    SlideCabinet,
    /// Pull the right one of the two doors open.
    HingeCabinet,
}

impl KitchenElement {
    /// All of them, in the order of the scene.
    pub const ALL: [Self; 7] = [
        Self::Microwave,
        Self::Kettle,
        Self::BottomBurner,
        Self::TopBurner,
        Self::LightSwitch,
        Self::SlideCabinet,
        Self::HingeCabinet,
    ];

    /// Its name in the scene.
    pub fn name(self) -> &'static str {
        match self {
            Self::Microwave => "microwave",
            Self::Kettle => "kettle",
            Self::BottomBurner => "bottom burner",
            Self::TopBurner => "top burner",
            Self::LightSwitch => "light switch",
            Self::SlideCabinet => "slide cabinet",
            Self::HingeCabinet => "hinge cabinet",
        }
    }
}

/// How a demonstrator moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DemonstratorConfig {
    /// Scale of all random variation of waypoints, grips, angles and approach sides; 0 gives the same motion always.
    pub variety: f64,
    /// Each element is done at a speed drawn from `1 - slowdown` to 1.
    pub slowdown: f64,
    /// Joints of the arm start within plus and minus this of the scene's start, rad.
    pub start_spread: f64,
    /// How often the slide cabinet is pulled from the right although the way from the left is free. A second way to do
    /// the same thing is variety too, but one that a unimodal policy averages.
    pub second_way: f64,
    /// Further attempts at an element that was not done.
    pub retries: usize,
    /// Steps after which an attempt is given up.
    pub attempt_limit: usize,
    /// How executed actions differ from intended ones.
    pub disturbance: Disturbance,
    /// Which of the two is recorded.
    pub record: Recorded,
}

impl Default for DemonstratorConfig {
    fn default() -> Self {
        Self {
            variety: 1.0,
            slowdown: 0.3,
            start_spread: 0.05,
            second_way: 0.0,
            retries: 3,
            attempt_limit: 150,
            disturbance: Disturbance::default(),
            record: Recorded::Intended,
        }
    }
}

impl DemonstratorConfig {
    /// No randomness at all: full speed, no variation, no disturbance.
    pub fn exact() -> Self {
        Self {
            variety: 0.0,
            slowdown: 0.0,
            start_spread: 0.0,
            second_way: 0.0,
            retries: 0,
            disturbance: Disturbance::NONE,
            ..Self::default()
        }
    }
}

/// The action that goes into the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Recorded {
    /// What the demonstrator wanted: from a disturbed state it shows the way back.
    #[default]
    Intended,
    /// What was done: replaying it with the same observation noise repeats the episode.
    Executed,
}

/// Noise on executed actions, arm joints only. An action of 1 asks for 0.16 rad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disturbance {
    /// Standard deviation per joint and step during transfers in free space.
    pub free: f64,
    /// The same near objects.
    pub near: f64,
    /// Standard deviation per joint of an offset that stays for a whole attempt. 0.1 moves the tool by about a
    /// centimetre, so that grips are missed now and then and tried again.
    pub bias: f64,
    /// Probability per step that a push begins: a constant offset over a few steps.
    pub push_rate: f64,
    /// Standard deviation of a push per joint.
    pub push_size: f64,
    /// Fewest and most steps of a push.
    pub push_steps: (usize, usize),
}

impl Disturbance {
    /// Nothing happens.
    pub const NONE: Self = Self {
        free: 0.0,
        near: 0.0,
        bias: 0.0,
        push_rate: 0.0,
        push_size: 0.0,
        push_steps: (1, 1),
    };

    /// Independent noise of one size everywhere.
    pub fn noise(deviation: f64) -> Self {
        Self {
            free: deviation,
            near: deviation,
            ..Self::NONE
        }
    }
}

impl Default for Disturbance {
    fn default() -> Self {
        Self {
            free: 0.15,
            near: 0.10,
            bias: 0.06,
            push_rate: 0.02,
            push_size: 0.35,
            push_steps: (2, 4),
        }
    }
}

/// One step of a demonstrator: two actions within -1 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Act {
    /// What it wanted.
    pub intended: [f64; 9],
    /// What it does.
    pub executed: [f64; 9],
}

/// The random choices of one attempt at one element, for the report on spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The element.
    pub element: KitchenElement,
    /// Step of the episode in which it began.
    pub start: usize,
    /// Step of the episode in which it ended.
    pub end: usize,
    /// Whether the element was done then.
    pub done: bool,
    /// Speed factor.
    pub speed: f64,
    /// Yaw, pitch and roll of the tool at the object, rad.
    pub angles: [f64; 3],
    /// First contact point that was aimed for, m.
    pub contact: [f64; 3],
}

/// Does a sequence of elements, one control step at a time.
#[derive(Component, Debug)]
pub struct KitchenDemonstrator {
    config: DemonstratorConfig,
    kitchen: Kitchen,
    /// Where arm and fingers stand in the observation.
    channels: [usize; 9],
    arm: Arm,
    rng: Stream,
    sequence: Vec<KitchenElement>,
    /// Place in the sequence of the element being done.
    current: usize,
    /// Attempt at it that is under way.
    under_way: Option<UnderWay>,
    failures: usize,
    follower: Follower,
    step: usize,
    push: Option<Push>,
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
struct UnderWay {
    start: usize,
    plan: Plan,
    /// Offset of the executed actions.
    bias: [f64; 7],
}

#[derive(Debug)]
struct Push {
    offset: [f64; 7],
    left: usize,
}

/// What a routine decides.
#[derive(Debug)]
struct Plan {
    segments: Vec<Segment>,
    angles: [f64; 3],
    contact: Vector3<f64>,
    speed: f64,
}

impl KitchenDemonstrator {
    /// A demonstrator for `scene` with nothing to do; [`Self::begin`] gives it a sequence.
    ///
    /// # Errors
    /// [`DemoError::Model`] or [`DemoError::Scene`] if the scene is no Franka kitchen with nine servos.
    pub fn new(scene: &CompiledScene, config: DemonstratorConfig) -> Result<Self, DemoError> {
        let kitchen = Kitchen::new(scene)?;
        let mut channels = [0; 9];
        for (channel, servo) in channels.iter_mut().zip(scene.servos()) {
            *channel = servo.channel;
        }
        let mut ranges = [(0.0, 0.0); 7];
        for (range, servo) in ranges.iter_mut().zip(scene.servos()) {
            *range = (servo.low, servo.high);
        }
        Ok(Self {
            config,
            kitchen,
            channels,
            arm: Arm::new(scene.model(), &ranges)?,
            rng: stream(0, Purpose::Demonstrator, 0, 0),
            sequence: Vec::new(),
            current: 0,
            under_way: None,
            failures: 0,
            follower: Follower::default(),
            step: 0,
            push: None,
            attempts: Vec::new(),
        })
    }

    /// Starts on `sequence`, with all random choices from `rng`.
    ///
    /// Returns the offsets of the seven arm joints from the scene's start with which the episode should begin, rad.
    pub fn begin(&mut self, sequence: Vec<KitchenElement>, mut rng: Stream) -> [f64; 7] {
        let spread = self.config.start_spread;
        let offsets = std::array::from_fn(|_| spread * rng.random_range(-1.0..1.0));
        self.rng = rng;
        self.sequence = sequence;
        (self.current, self.failures, self.step) = (0, 0, 0);
        (self.under_way, self.push) = (None, None);
        self.attempts.clear();
        offsets
    }

    /// How it moves.
    pub fn config(&self) -> &DemonstratorConfig {
        &self.config
    }

    /// What it was asked to do.
    pub fn sequence(&self) -> &[KitchenElement] {
        &self.sequence
    }

    /// Whether the whole sequence has been gone through, with or without success.
    pub fn finished(&self) -> bool {
        self.current >= self.sequence.len()
    }

    /// Place in the sequence of what it is at.
    pub fn current(&self) -> usize {
        self.current
    }

    /// The attempts that have ended in this episode.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Whether `element` is at its goal.
    pub fn is_done(&self, element: KitchenElement, data: &MjData<Arc<MjModel>>) -> bool {
        self.kitchen.distance(element, data) < self.kitchen.element(element).threshold
    }

    /// Distance of `element` to its goal, as the scene measures it.
    pub fn distance(&self, element: KitchenElement, data: &MjData<Arc<MjModel>>) -> f64 {
        self.kitchen.distance(element, data)
    }

    /// Position of the tool point, m.
    pub fn tool_position(&self, data: &MjData<Arc<MjModel>>) -> [f64; 3] {
        self.arm.tool(data).position.into()
    }

    /// The action for this step; `None` once the sequence is finished.
    ///
    /// `data` is the true state, `measurement` the last observation (`[observation_len]`), which the environment's
    /// control law builds on.
    pub fn act(&mut self, data: &MjData<Arc<MjModel>>, measurement: &[f64]) -> Option<Act> {
        let observed = self
            .channels
            .map(|channel| measurement.get(channel).copied().unwrap_or(0.0));
        let view = View {
            data,
            observed: &observed,
        };
        let command = self.command(view)?;
        self.step += 1;
        let intended = reference_action(&command, view);
        Some(Act {
            intended,
            executed: self.disturbed(intended, command.free),
        })
    }

    /// The next command, through the ends and beginnings of attempts.
    fn command(&mut self, view: View) -> Option<Command> {
        loop {
            let element = *self.sequence.get(self.current)?;
            let Some(under_way) = &self.under_way else {
                let plan = self.plan(element, view);
                self.follower.start(plan.segments.clone(), view);
                let mut bias = [0.0_f32; 7];
                if self.config.disturbance.bias > 0.0 {
                    self.rng.fill_normal(&mut bias);
                }
                self.under_way = Some(UnderWay {
                    start: self.step,
                    plan,
                    bias: bias.map(|number| self.config.disturbance.bias * f64::from(number)),
                });
                continue;
            };
            let given_up = self.step - under_way.start >= self.config.attempt_limit;
            if !given_up
                && let Advance::Command(command) = self.follower.advance(&mut self.arm, view, under_way.plan.speed)
            {
                return Some(command);
            }
            self.end_attempt(element, view);
        }
    }

    fn end_attempt(&mut self, element: KitchenElement, view: View) {
        let Some(UnderWay { start, plan, .. }) = self.under_way.take() else {
            return;
        };
        let done = self.is_done(element, view.data);
        self.attempts.push(Attempt {
            element,
            start,
            end: self.step,
            done,
            speed: plan.speed,
            angles: plan.angles,
            contact: plan.contact.into(),
        });
        if done || self.failures >= self.config.retries {
            self.current += 1;
            self.failures = 0;
        } else {
            self.failures += 1;
        }
    }

    fn disturbed(&mut self, mut action: [f64; 9], free: bool) -> [f64; 9] {
        let Disturbance {
            free: in_free_space,
            near,
            bias: _,
            push_rate,
            push_size,
            push_steps,
        } = self.config.disturbance;
        let deviation = if free { in_free_space } else { near };
        let mut noise = [0.0_f32; 7];
        if deviation > 0.0 {
            self.rng.fill_normal(&mut noise);
        }
        if push_rate > 0.0 && self.push.is_none() && self.rng.random_bool(push_rate.min(1.0)) {
            let mut offset = [0.0_f32; 7];
            self.rng.fill_normal(&mut offset);
            let left = self
                .rng
                .random_range(push_steps.0.max(1)..=push_steps.1.max(push_steps.0).max(1));
            self.push = Some(Push {
                offset: offset.map(|number| push_size * f64::from(number)),
                left,
            });
        }
        for (joint, action) in action.iter_mut().take(7).enumerate() {
            *action += deviation * f64::from(noise[joint]);
            if let Some(under_way) = &self.under_way {
                *action += under_way.bias[joint];
            }
            if let Some(push) = &self.push {
                *action += push.offset[joint];
            }
            *action = action.clamp(-1.0, 1.0);
        }
        self.push = self.push.take().and_then(|push| {
            (push.left > 1).then(|| Push {
                left: push.left - 1,
                ..push
            })
        });
        action
    }

    fn plan(&mut self, element: KitchenElement, view: View) -> Plan {
        let speed = 1.0 - self.config.slowdown * self.rng.random_range(0.0..1.0);
        let variety = self.config.variety;
        let mut routine = Routine {
            kitchen: &self.kitchen,
            arm: &mut self.arm,
            view,
            rng: &mut self.rng,
            variety,
            second_way: self.config.second_way,
        };
        let plan = match element {
            KitchenElement::Microwave => routine.microwave(),
            KitchenElement::Kettle => routine.kettle(),
            KitchenElement::BottomBurner => routine.knob(Knob::Bottom),
            KitchenElement::TopBurner => routine.knob(Knob::Top),
            KitchenElement::LightSwitch => routine.light_switch(),
            KitchenElement::SlideCabinet => routine.slide_cabinet(),
            KitchenElement::HingeCabinet => routine.hinge_cabinet(),
        };
        Plan { speed, ..plan }
    }
}

/// The places of the kitchen in model and scene.
#[derive(Debug)]
struct Kitchen {
    elements: [CompiledElement; 7],
    microwave_handle: usize,
    microwave_hinge: usize,
    knobs: [usize; 2],
    light: usize,
    slide_handle: usize,
    hinge_handle: usize,
    hinge: usize,
    /// Index in `qpos` of its free joint.
    kettle: usize,
}

impl Kitchen {
    fn new(scene: &CompiledScene) -> Result<Self, DemoError> {
        if scene.action_len() != 9 {
            return Err(DemoError::Servos(scene.action_len()));
        }
        let model = scene.model();
        let site = |name| {
            model
                .name_to_id(MjtObjBase::mjOBJ_SITE, name)
                .ok_or(DemoError::Model { kind: "site", name })
        };
        let body = |name| {
            model
                .name_to_id(MjtObjBase::mjOBJ_BODY, name)
                .ok_or(DemoError::Model { kind: "body", name })
        };
        let mut elements = Vec::with_capacity(7);
        for element in KitchenElement::ALL {
            elements.push(scene.elements()[scene.element(element.name())?].clone());
        }
        let elements = elements.try_into().map_err(|_| DemoError::Model {
            kind: "element",
            name: "all seven",
        })?;
        Ok(Self {
            elements,
            microwave_handle: site("microhandle_site")?,
            microwave_hinge: body("microdoorroot")?,
            knobs: [site("knob2_site")?, site("knob4_site")?],
            light: site("light_site")?,
            slide_handle: site("slide_site")?,
            hinge_handle: site("hinge_site2")?,
            hinge: body("hingerightdoor")?,
            kettle: scene.joint_positions("kettle")?.start,
        })
    }

    fn element(&self, element: KitchenElement) -> &CompiledElement {
        &self.elements[element as usize]
    }

    fn values(&self, element: KitchenElement, data: &MjData<Arc<MjModel>>) -> impl Iterator<Item = f64> {
        self.element(element).values.iter().map(|source| match *source {
            Source::Position(index) => data.qpos()[index],
            Source::Velocity(index) => data.qvel()[index],
            Source::Constant(value) => value,
        })
    }

    fn distance(&self, element: KitchenElement, data: &MjData<Arc<MjModel>>) -> f64 {
        let goal = &self.element(element).goal;
        self.values(element, data)
            .zip(goal)
            .map(|(value, goal)| (value - goal).powi(2))
            .sum::<f64>()
            .sqrt()
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Paths to an object
// ---------------------------------------------------------------------------------------------------------------------

/// Speed of transfers, largest joint change per step, rad.
const TRANSFER_SPEED: f64 = 0.08;
/// Cost of a metre of penetration, in steps.
const PENETRATION_COST: f64 = 2000.0;
/// Poses to go around by when neither the straight path nor small detours are free. The first is the scene's start.
const DETOURS: [[f64; 7]; 4] = [
    [
        1.48388023e-1,
        -1.76848573,
        1.84390296,
        -2.47685760,
        2.60252026e-1,
        7.12533105e-1,
        1.59515394,
    ],
    [-0.9, -0.9, 1.5, -2.5, -0.2, 1.7, 1.6],
    [-0.5, -1.2, 1.0, -2.7, 0.0, 1.8, 1.2],
    [0.3, -0.9, 0.0, -2.4, 0.0, 1.5, 0.8],
];
/// Shifts of the present tool pose that lead away from what the arm is at, m.
const WAYS_OUT: [[f64; 3]; 4] = [
    [0.0, -0.12, 0.0],
    [0.0, -0.2, -0.1],
    [0.0, -0.1, 0.12],
    [0.0, -0.12, -0.15],
];
/// Shifts of the goal pose that lead up to it, m.
const WAYS_IN: [[f64; 3]; 3] = [[0.0, -0.12, -0.1], [0.0, -0.12, 0.1], [0.0, -0.2, 0.0]];

/// Everything a routine looks at and draws from.
struct Routine<'a> {
    kitchen: &'a Kitchen,
    arm: &'a mut Arm,
    view: View<'a>,
    rng: &'a mut Stream,
    variety: f64,
    second_way: f64,
}

impl Routine<'_> {
    /// A number from `-spread` to `spread`, scaled by the variety.
    fn vary(&mut self, spread: f64) -> f64 {
        self.variety * spread * self.rng.random_range(-1.0..1.0)
    }

    fn vary_point(&mut self, spread: f64) -> Vector3<f64> {
        Vector3::from_fn(|_, _| self.vary(spread))
    }

    fn site(&self, site: usize) -> Vector3<f64> {
        self.view
            .data
            .site_xpos()
            .get(site)
            .map_or_else(Vector3::zeros, |position| Vector3::from(*position))
    }

    fn body(&self, body: usize) -> Vector3<f64> {
        self.view
            .data
            .xpos()
            .get(body)
            .map_or_else(Vector3::zeros, |position| Vector3::from(*position))
    }

    /// Number `at` of an element's position.
    fn position(&self, element: KitchenElement, at: usize) -> f64 {
        self.kitchen.values(element, self.view.data).nth(at).unwrap_or(0.0)
    }

    /// Whether the door of the hinge cabinet stands open, in the way of what is right of and below it.
    fn hinge_door_is_open(&self) -> bool {
        self.position(KitchenElement::HingeCabinet, 1) > 0.3
    }

    /// Transfers to `goal`: straight if nothing is in the way, otherwise over one or two detours, whichever is shortest
    /// without collision.
    fn approach(&mut self, goal: Pose, posture: &Joints, grip: f64) -> Vec<Segment> {
        let data = self.view.data;
        let end = self.arm.solve(posture, &goal, posture, 0.3, 80);
        let start = self.view.joints();
        let steps = |path: &[Joints]| -> f64 {
            path.iter()
                .zip(path.iter().skip(1))
                .map(|(from, to)| (to - from).amax() / TRANSFER_SPEED)
                .sum()
        };
        let direct = vec![start, end];
        let penetration = self.arm.penetration(data, &direct, grip, f64::INFINITY);
        let mut best = (steps(&direct) + PENETRATION_COST * penetration, direct);
        if penetration > 0.0 {
            let here = self.arm.tool(data);
            let shifted = |pose: &Pose, shift: [f64; 3]| Pose {
                position: pose.position + Vector3::from(shift),
                ..*pose
            };
            let out = WAYS_OUT.map(|shift| self.arm.solve(&start, &shifted(&here, shift), &start, 0.3, 40));
            let into = WAYS_IN.map(|shift| self.arm.solve(&end, &shifted(&goal, shift), &end, 0.3, 40));
            let around = DETOURS.map(Joints::from);
            let single = out.iter().chain(&into).chain(&around).map(|via| vec![start, *via, end]);
            let double = out.iter().take(2).flat_map(|first| {
                around
                    .iter()
                    .chain(&into)
                    .map(|second| vec![start, *first, *second, end])
            });
            for path in single.chain(double) {
                let length = steps(&path);
                if length < best.0 {
                    let limit = (best.0 - length) / PENETRATION_COST;
                    let cost = length + PENETRATION_COST * self.arm.penetration(data, &path, grip, limit);
                    if cost < best.0 {
                        best = (cost, path);
                    }
                }
            }
        }
        let last = best.1.len() - 1;
        best.1
            .into_iter()
            .enumerate()
            .skip(1)
            .map(|(place, goal)| {
                let slack = if place == last { 0.06 } else { 0.25 };
                Segment::Transfer(Transfer {
                    goal,
                    grip,
                    speed: TRANSFER_SPEED,
                    slack,
                })
            })
            .collect()
    }

    // -----------------------------------------------------------------------------------------------------------------
    // The seven routines. Lengths in m, angles in rad, speeds per step of 0.08 s.
    // -----------------------------------------------------------------------------------------------------------------

    /// Hooks the vertical handle from the right, fingers on both sides of the bar, and pulls it along its arc.
    ///
    /// Yawed by half a radian, the far finger stands behind the bar: it pulls by its shape and not by friction alone.
    fn microwave(&mut self) -> Plan {
        let (first, last) = (
            Joints::from([-1.27, -1.65, 1.91, -1.40, -0.01, 1.13, 1.75]),
            Joints::from([-0.65, -1.65, 1.91, -1.67, 0.01, 1.40, 1.74]),
        );
        let handle = self.site(self.kitchen.microwave_handle) + Vector3::z() * (0.07 + self.vary(0.025));
        // The arm cannot reach the handle with less pitch or more yaw.
        let (yaw, pitch) = (0.50 + self.vary(0.09), -0.46 + self.vary(0.06));
        let door = Door {
            hinge: self.body(self.kitchen.microwave_hinge),
            handle,
            from: self.position(KitchenElement::Microwave, 0),
            to: -0.85 + self.vary(0.08),
            depth: 0.028 + self.vary(0.006),
        };
        let at_handle = door.grip(0.0, orientation(yaw, pitch, 0.0));
        let back_off = at_handle.approach() * 0.10;
        let before = shift(
            &at_handle,
            self.vary_point(0.015) - back_off - at_handle.approach() * door.depth,
        );
        let reach = shift(&at_handle, self.vary_point(0.004));
        let mut segments = self.approach(before, &first, OPEN);
        segments.extend([
            Segment::Line(Line {
                speed: 0.04,
                settle: Some(0.012),
                ..Line::new(reach, OPEN)
            }),
            Segment::Line(Line {
                hold: 2,
                ..Line::new(reach, 0.0)
            }),
            Segment::Grasped(0.03),
        ]);
        let mut end = reach;
        for (place, speed) in [0.022, 0.028, 0.035, 0.035, 0.035, 0.035].into_iter().enumerate() {
            let part = (place + 1) as f64 / 6.0;
            end = door.grip(part, orientation(yaw + 0.05 * part, pitch, 0.0));
            let posture = Some(first + (last - first) * part);
            segments.push(Segment::Line(Line {
                posture,
                speed,
                rotation_weight: 0.1,
                ..Line::new(end, 0.0)
            }));
        }
        segments.extend([
            Segment::Line(Line {
                hold: 2,
                rotation_weight: 0.1,
                ..Line::new(end, OPEN)
            }),
            // Up as well: the way to everything else leads over the open door.
            Segment::Line(Line::back(0.15, OPEN).aside(Vector3::z() * 0.05)),
        ]);
        Plan::new(segments, [yaw, pitch, 0.0], reach.position)
    }

    /// Pushes the body of the kettle over the flat stove with two spread fingers.
    ///
    /// Below 1.71 m the kettle slides, above it tips. The stove is at 1.62 m, so the height may be wrong by 3 cm. Pushed
    /// straight it turns away now and then, and its spout catches on the microwave; so it is steered.
    fn kettle(&mut self) -> Plan {
        let (first, last) = (
            Joints::from([-0.80, -1.22, 2.53, -2.58, 0.13, 1.50, 2.10]),
            Joints::from([-1.55, -1.42, 2.35, -2.10, 0.0, 1.75, 1.80]),
        );
        let kettle = Vector3::from_fn(|axis, _| self.position(KitchenElement::Kettle, axis));
        let (yaw, pitch) = (-0.20 + self.vary(0.12), -0.78 + self.vary(0.12));
        let axes = orientation(yaw, pitch, 0.0);
        // From the middle of the kettle to its side, and on to the tool point when the tips touch.
        let reach = 0.122 + 0.014;
        let before = Vector3::new(kettle.x - 0.004, kettle.y - reach - 0.05, 1.685) + self.vary_point(0.012);
        let steering = Steering {
            joint: self.kitchen.kettle,
            centre: -0.004,
            goal: -0.21 + self.vary(0.015),
            ahead: 0.3,
            largest_heading: 0.3,
            gain: 0.25,
            limit: 0.045,
        };
        // A kettle that is far enough but askew is pushed on, to be turned.
        let end_y = (0.63 + self.vary(0.05)).max(kettle.y + 0.1);
        let end = Vector3::new(kettle.x, end_y - reach, before.z);
        let mut segments = self.approach(Pose { position: before, axes }, &first, OPEN);
        segments.extend([
            Segment::Line(Line {
                posture: Some(last),
                speed: 0.03,
                rotation_weight: 0.15,
                steering: Some(steering),
                ..Line::new(Pose { position: end, axes }, OPEN)
            }),
            Segment::Line(Line::back(0.10, OPEN)),
        ]);
        Plan::new(segments, [yaw, pitch, 0.0], before)
    }

    /// Wrenches a knob: one finger on the upper left, one on the lower right of its fin, then the wrist turns.
    ///
    /// A pinch slips, because the knob's damping is 2 N m s/rad. The fin meets the fingers about 0.85 rad off the line
    /// between them.
    fn knob(&mut self, knob: Knob) -> Plan {
        let (element, site) = match knob {
            Knob::Bottom => (KitchenElement::BottomBurner, self.kitchen.knobs[0]),
            Knob::Top => (KitchenElement::TopBurner, self.kitchen.knobs[1]),
        };
        let turned = -self.position(element, 0);
        let (mut yaw, mut pitch) = (self.vary(0.12), -0.25 + self.vary(0.1));
        let (mut posture, last_roll) = match knob {
            Knob::Bottom => (Joints::from([-1.30, -0.71, 1.55, -2.26, -0.05, 1.87, 1.55]), 1.50),
            Knob::Top => (Joints::from([-1.10, -0.52, 1.29, -2.11, -0.42, 1.62, 1.60]), 1.57),
        };
        if matches!(knob, Knob::Top) && self.hinge_door_is_open() {
            // The door stands above the knob: keep the wrist left of it.
            (yaw, pitch) = (yaw - 0.5, pitch + 0.25);
            posture = Joints::from([-1.29, -1.28, 1.31, -2.02, -0.05, 1.28, 1.85]);
        }
        let roll = 0.45 + turned + self.vary(0.1);
        let centre = self.site(site) + Vector3::new(0.0, -0.008, 0.0) + self.vary_point(0.003);
        let reach = Pose {
            position: centre,
            axes: orientation(yaw, pitch, roll),
        };
        let turn = Pose {
            position: centre,
            axes: orientation(yaw, pitch, last_roll + self.vary(0.06)),
        };
        let grip = 0.033 + self.vary(0.002);
        let before = shift(&reach, self.vary_point(0.012) - reach.approach() * 0.08);
        let mut segments = self.approach(before, &posture, grip);
        segments.extend([
            Segment::Line(Line {
                settle: Some(0.01),
                ..Line::new(reach, grip)
            }),
            Segment::Line(Line {
                turn: 0.085,
                hold: 1,
                ..Line::new(turn, grip)
            }),
            Segment::Line(Line {
                speed: 0.035,
                settle: Some(0.04),
                ..Line::back(0.10, 0.035)
            }),
        ]);
        Plan::new(segments, [yaw, pitch, roll], centre)
    }

    /// Pushes the lever to the left with closed fingers.
    fn light_switch(&mut self) -> Plan {
        let lever = self.site(self.kitchen.light);
        let (mut yaw, pitch) = (self.vary(0.12), -0.25 + self.vary(0.12));
        let mut posture = Joints::from([-1.12, -0.72, 1.42, -2.17, -0.24, 1.65, 0.98]);
        if self.hinge_door_is_open() {
            yaw -= 0.25;
            posture = Joints::from([-1.14, -0.94, 1.41, -2.10, 0.0, 1.38, 0.99]);
        }
        let axes = orientation(yaw, pitch, 0.0);
        // A little below the middle of the lever (2.28): a finger slips off its upper side more easily.
        let height = 2.267;
        let reach = Vector3::new(lever.x + 0.065, 0.615, height) + self.vary_point(0.008);
        let end = Vector3::new(-0.425 + self.vary(0.008), 0.615, height);
        let reach = Pose { position: reach, axes };
        let before = shift(&reach, self.vary_point(0.015) - reach.approach() * 0.09);
        let mut segments = self.approach(before, &posture, 0.0);
        segments.extend([
            Segment::Line(Line {
                settle: Some(0.02),
                ..Line::new(reach, 0.0)
            }),
            Segment::Line(Line {
                speed: 0.025,
                hold: 1,
                ..Line::new(Pose { position: end, axes }, 0.0)
            }),
            Segment::Line(Line::back(0.10, 0.0).aside(Vector3::x() * 0.02)),
        ]);
        Plan::new(segments, [yaw, pitch, 0.0], reach.position)
    }

    /// Pushes the handle to the right with closed fingers; or, if the hinge door stands in the way (and sometimes
    /// without need), comes from the right with the fingers astride the handle and pulls.
    fn slide_cabinet(&mut self) -> Plan {
        let handle = self.site(self.kitchen.slide_handle) + Vector3::z() * (self.vary(0.04) - 0.02);
        let left_to_go = 0.37 - self.position(KitchenElement::SlideCabinet, 0);
        let from_right = self.rng.random_bool(self.second_way.clamp(0.0, 1.0));
        if from_right || self.hinge_door_is_open() {
            let (yaw, pitch) = (0.6 + self.vary(0.08), -0.3 + self.vary(0.08));
            let reach = Pose {
                position: handle + self.vary_point(0.004),
                axes: orientation(yaw, pitch, 0.0),
            };
            let end = Pose {
                position: handle + Vector3::x() * (left_to_go + 0.02 + self.vary(0.03)),
                axes: orientation(0.1, pitch, 0.0),
            };
            let posture = Joints::from([0.65, -0.30, -0.45, -1.70, 0.61, 0.98, -0.77]);
            let last = Joints::from([0.04, -0.18, -0.43, -1.60, 0.66, 0.99, -0.76]);
            let mut segments = self.approach(shift(&reach, reach.approach() * -0.10), &posture, 0.035);
            segments.extend([
                Segment::Line(Line {
                    settle: Some(0.015),
                    ..Line::new(reach, 0.035)
                }),
                Segment::Line(Line {
                    posture: Some(last),
                    rotation_weight: 0.1,
                    hold: 1,
                    ..Line::new(end, OPEN)
                }),
                Segment::Line(Line::back(0.10, OPEN)),
            ]);
            return Plan::new(segments, [yaw, pitch, 0.0], reach.position);
        }
        let (yaw, pitch) = (
            -0.3 + self.vary(0.12),
            self.variety * self.rng.random_range(-0.17..0.12),
        );
        let reach = Pose {
            position: Vector3::new(handle.x - 0.075, 0.605, handle.z) + self.vary_point(0.01),
            axes: orientation(yaw, pitch, 0.0),
        };
        let end = Pose {
            position: Vector3::new(handle.x + left_to_go - 0.03 + self.vary(0.03), 0.60, handle.z),
            axes: orientation(yaw - 0.15, pitch, 0.0),
        };
        let posture = Joints::from([-1.02, -0.59, 0.95, -1.78, -0.51, 1.31, 0.97]);
        let last = Joints::from([-1.27, -0.37, 0.74, -1.81, -0.64, 1.51, 0.89]);
        let mut segments = self.approach(shift(&reach, reach.approach() * -0.10), &posture, 0.0);
        segments.extend([
            Segment::Line(Line {
                speed: 0.04,
                settle: Some(0.02),
                ..Line::new(reach, 0.0)
            }),
            Segment::Line(Line {
                posture: Some(last),
                rotation_weight: 0.15,
                hold: 1,
                ..Line::new(end, 0.0)
            }),
            Segment::Line(Line::back(0.10, 0.0).aside(Vector3::x() * -0.02)),
        ]);
        Plan::new(segments, [yaw, pitch, 0.0], reach.position)
    }

    /// Hooks the right door's handle from the left and pulls it along its arc, as with the microwave.
    fn hinge_cabinet(&mut self) -> Plan {
        let posture = Joints::from([-1.48, -0.72, 1.65, -1.16, 0.28, 1.29, 0.45]);
        let handle = self.site(self.kitchen.hinge_handle) + Vector3::z() * (self.vary(0.03) - 0.04);
        let (yaw, pitch) = (-0.2 + self.vary(0.1), 0.1 + self.vary(0.1));
        let door = Door {
            hinge: self.body(self.kitchen.hinge),
            handle,
            from: self.position(KitchenElement::HingeCabinet, 1),
            to: 1.45 + self.vary(0.04),
            depth: 0.035 + self.vary(0.006),
        };
        let reach = door.grip(0.0, orientation(yaw, pitch, 0.0));
        let before = shift(&reach, self.vary_point(0.012) - reach.approach() * 0.10);
        let mut segments = self.approach(before, &posture, OPEN);
        segments.extend([
            Segment::Line(Line {
                settle: Some(0.015),
                ..Line::new(reach, OPEN)
            }),
            Segment::Line(Line {
                hold: 2,
                ..Line::new(reach, 0.0)
            }),
            Segment::Grasped(0.03),
        ]);
        // A fixed end posture makes the arm too slow for its arc, so each posture goes on from the one before it.
        let mut joints = match segments.iter().rev().find_map(|segment| match segment {
            Segment::Transfer(transfer) => Some(transfer.goal),
            _ => None,
        }) {
            Some(goal) => goal,
            None => posture,
        };
        let mut end = reach;
        for (place, speed) in [0.018, 0.022, 0.026, 0.032, 0.032, 0.032, 0.032, 0.032]
            .into_iter()
            .enumerate()
        {
            let part = (place + 1) as f64 / 8.0;
            end = door.grip(part, orientation(yaw, pitch + part * (0.05 - pitch), 0.0));
            joints = self.arm.solve(&joints, &end, &joints, 0.2, 30);
            segments.push(Segment::Line(Line {
                posture: Some(joints),
                speed,
                rotation_weight: 0.2,
                ..Line::new(end, 0.0)
            }));
        }
        segments.extend([
            Segment::Line(Line {
                hold: 2,
                rotation_weight: 0.1,
                ..Line::new(end, OPEN)
            }),
            // A shorter way back drags the door shut again in the next transfer.
            Segment::Line(Line::back(0.17, OPEN)),
        ]);
        Plan::new(segments, [yaw, pitch, 0.0], reach.position)
    }
}

#[derive(Debug, Clone, Copy)]
enum Knob {
    Bottom,
    Top,
}

/// A door with a vertical hinge.
struct Door {
    hinge: Vector3<f64>,
    handle: Vector3<f64>,
    /// Present angle, rad.
    from: f64,
    /// Angle to open it to, rad.
    to: f64,
    /// How far the tool point goes beyond the handle, m.
    depth: f64,
}

impl Door {
    /// Pose of the tool with the handle between the fingers when `part` of the way is done.
    fn grip(&self, part: f64, axes: Matrix3<f64>) -> Pose {
        let (sin, cos) = ((self.to - self.from) * part).sin_cos();
        let arm = self.handle - self.hinge;
        let handle = Vector3::new(
            self.hinge.x + cos * arm.x - sin * arm.y,
            self.hinge.y + sin * arm.x + cos * arm.y,
            self.handle.z,
        );
        Pose {
            position: handle + axes.column(2) * self.depth,
            axes,
        }
    }
}

fn shift(pose: &Pose, by: Vector3<f64>) -> Pose {
    Pose {
        position: pose.position + by,
        ..*pose
    }
}

impl Plan {
    fn new(segments: Vec<Segment>, angles: [f64; 3], contact: Vector3<f64>) -> Self {
        Self {
            segments,
            angles,
            contact,
            speed: 1.0,
        }
    }
}
