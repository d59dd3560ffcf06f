//! A scripted demonstrator for the Franka kitchen: all seven elements, in any order, through the environment's own
//! actions. No human data is involved.
//!
//! Here are the settings and what happens in one control step; [`routines`](super::routines) says how each element is
//! done. A routine looks at the kitchen once and lists segments, [`Follower`] walks through them, and the servo law
//! makes the arm follow.
//!
//! The routines are built to be *learnable* by a policy that sees only noisy joint positions: objects are pushed or
//! hooked rather than balanced in a grip, so that errors of the tool of one or two centimetres do no harm. What is
//! executed can be disturbed ([`Disturbance`]) while the action that would have been right is recorded, as in DART
//! (Laskey et al. 2017, <https://arxiv.org/abs/1703.09327>), so the demonstrations show how to get back on the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::DemoError;
use super::demonstrator::{Account, Act, Demonstrator, Rejection, Start};
use super::ik::Arm;
use super::routines::{Kitchen, Plan, Routine};
use super::segments::{Advance, Command, Follower, View, reference_action};
use crate::rng::{Purpose, Stream, stream};
use crate::scene::CompiledScene;
use crate::sim::{Measurement, Physics, TaskProgress};

use KitchenElement::{BottomBurner, HingeCabinet, Kettle, LightSwitch, Microwave, SlideCabinet, TopBurner};

/// Longer demonstrations are rejected, steps; the mean is about 200.
const STEP_LIMIT: usize = 500;

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

/// The 24 sequences of the human data set of relay policy learning (Gupta et al. 2019), without the one that D4RL's
/// mixed task asks for.
pub fn human_sequences() -> Vec<Vec<KitchenElement>> {
    [
        [Kettle, BottomBurner, HingeCabinet, SlideCabinet],
        [Kettle, BottomBurner, LightSwitch, SlideCabinet],
        [Kettle, LightSwitch, HingeCabinet, SlideCabinet],
        [Kettle, TopBurner, BottomBurner, SlideCabinet],
        [Kettle, TopBurner, LightSwitch, SlideCabinet],
        [Microwave, BottomBurner, HingeCabinet, SlideCabinet],
        [Microwave, BottomBurner, LightSwitch, SlideCabinet],
        [Microwave, Kettle, BottomBurner, HingeCabinet],
        [Microwave, Kettle, BottomBurner, SlideCabinet],
        [Microwave, Kettle, HingeCabinet, SlideCabinet],
        [Microwave, Kettle, LightSwitch, SlideCabinet],
        [Microwave, Kettle, TopBurner, HingeCabinet],
        [Microwave, Kettle, TopBurner, LightSwitch],
        [Microwave, TopBurner, BottomBurner, HingeCabinet],
        [Microwave, TopBurner, BottomBurner, SlideCabinet],
        [TopBurner, BottomBurner, LightSwitch, SlideCabinet],
        [Kettle, BottomBurner, LightSwitch, HingeCabinet],
        [Kettle, TopBurner, BottomBurner, HingeCabinet],
        [Kettle, TopBurner, BottomBurner, LightSwitch],
        [Microwave, Kettle, LightSwitch, HingeCabinet],
        [Microwave, LightSwitch, HingeCabinet, SlideCabinet],
        [Microwave, TopBurner, BottomBurner, LightSwitch],
        [Microwave, TopBurner, LightSwitch, HingeCabinet],
        [TopBurner, BottomBurner, HingeCabinet, SlideCabinet],
    ]
    .map(Vec::from)
    .to_vec()
}

/// What is done in the kitchen, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KitchenDemos {
    /// Every demonstration does one of these sequences, drawn at random.
    pub sequences: Vec<Vec<KitchenElement>>,
    /// Sequences of just these elements, in any order, are left out: a downstream task must not be in its data.
    pub without: Vec<Vec<KitchenElement>>,
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

impl Default for KitchenDemos {
    fn default() -> Self {
        Self {
            sequences: human_sequences(),
            without: vec![vec![Microwave, Kettle, BottomBurner, LightSwitch]],
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

impl KitchenDemos {
    /// The sequences that are left.
    ///
    /// # Errors
    /// [`DemoError::NoSequences`] if none is.
    pub fn mix(&self) -> Result<Vec<Vec<KitchenElement>>, DemoError> {
        let set = |sequence: &Vec<KitchenElement>| sequence.iter().copied().collect::<BTreeSet<_>>();
        let without: BTreeSet<_> = self.without.iter().map(set).collect();
        let mix: Vec<_> = self
            .sequences
            .iter()
            .filter(|sequence| !sequence.is_empty() && !without.contains(&set(sequence)))
            .cloned()
            .collect();
        if mix.is_empty() {
            Err(DemoError::NoSequences)
        } else {
            Ok(mix)
        }
    }

    /// Checks that every setting makes sense.
    ///
    /// # Errors
    /// [`DemoError::Setting`] with the first one that does not.
    pub fn check(&self) -> Result<(), DemoError> {
        let noise = &self.disturbance;
        let size = |value: f64| value.is_finite() && value >= 0.0;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        for (field, value, valid, expected) in [
            ("variety", self.variety, size(self.variety), "a number from 0"),
            (
                "slowdown",
                self.slowdown,
                (0.0..1.0).contains(&self.slowdown),
                "a number from 0 to below 1",
            ),
            (
                "start_spread",
                self.start_spread,
                size(self.start_spread),
                "a number from 0",
            ),
            (
                "second_way",
                self.second_way,
                share(self.second_way),
                "a share from 0 to 1",
            ),
            ("disturbance.free", noise.free, size(noise.free), "a number from 0"),
            ("disturbance.near", noise.near, size(noise.near), "a number from 0"),
            ("disturbance.bias", noise.bias, size(noise.bias), "a number from 0"),
            (
                "disturbance.push_rate",
                noise.push_rate,
                share(noise.push_rate),
                "a share from 0 to 1",
            ),
            (
                "disturbance.push_size",
                noise.push_size,
                size(noise.push_size),
                "a number from 0",
            ),
        ] {
            if !valid {
                let value = value.to_string();
                return Err(DemoError::Setting { field, expected, value });
            }
        }
        if self.attempt_limit == 0 {
            return Err(DemoError::Setting {
                field: "attempt_limit",
                expected: "at least 1 step",
                value: self.attempt_limit.to_string(),
            });
        }
        let (fewest, most) = noise.push_steps;
        if fewest == 0 || fewest > most {
            return Err(DemoError::Setting {
                field: "disturbance.push_steps",
                expected: "two numbers of steps from 1, the smaller one first",
                value: format!("({fewest}, {most})"),
            });
        }
        Ok(())
    }

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

/// Noise on executed actions, arm joints only. In the project's scenes an action of 1 asks for 0.16 rad.
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

/// What a kitchen demonstration consists of, for the report on spread.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KitchenAccount {
    /// What was done.
    pub sequence: Vec<KitchenElement>,
    /// For each element of the sequence, the step after which it was done for the first time.
    pub completed_at: Vec<usize>,
    /// All attempts at single elements, failed ones too.
    pub attempts: Vec<Attempt>,
    /// Tool point before each step `[T]`, m.
    pub tool: Vec<[f64; 3]>,
    /// Root mean square difference of intended and executed actions of the arm.
    pub correction: f64,
}

/// Does a sequence of elements, one control step at a time.
///
/// Its data has the column `element`: the index in the scene of the element that it is at. A step in which an element of
/// the sequence is done for the first time is worth 1.
#[derive(Debug)]
pub struct KitchenDemonstrator {
    config: KitchenDemos,
    mix: Vec<Vec<KitchenElement>>,
    kitchen: Kitchen,
    /// Where arm and fingers stand in the observation.
    channels: [usize; 9],
    /// Change of a servo target that an action of 1 asks for, rad or m.
    reach: f64,
    /// Joint positions of the scene's start, `[nq]`.
    home: Vec<f64>,
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
    /// For each element of the sequence.
    completed_at: Vec<Option<usize>>,
    tool: Vec<[f64; 3]>,
    /// Sum of the squared differences of intended and executed actions of the arm.
    squares: f64,
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

impl KitchenDemonstrator {
    /// A demonstrator for `scene` with nothing to do; [`Demonstrator::begin`] or [`Self::start_on`] gives it a sequence.
    ///
    /// # Errors
    /// [`DemoError::Model`], [`DemoError::Scene`], [`DemoError::Servos`], [`DemoError::Joint`] or [`DemoError::Range`] if
    /// the scene is no Franka kitchen, [`DemoError::Setting`] if a setting makes no sense, [`DemoError::NoSequences`] if
    /// no sequence is left to do.
    pub fn new(scene: &CompiledScene, config: KitchenDemos) -> Result<Self, DemoError> {
        config.check()?;
        let mix = config.mix()?;
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
            mix,
            kitchen,
            channels,
            reach: scene.speed() * scene.period(),
            home: scene.start().to_vec(),
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
            completed_at: Vec::new(),
            tool: Vec::new(),
            squares: 0.0,
        })
    }

    /// Starts on `sequence`, with all random choices from `rng`.
    ///
    /// Returns the offsets of the seven arm joints from the scene's start with which the episode should begin, rad.
    pub fn start_on(&mut self, sequence: Vec<KitchenElement>, mut rng: Stream) -> [f64; 7] {
        let spread = self.config.start_spread;
        let offsets = std::array::from_fn(|_| spread * rng.random_range(-1.0..1.0));
        self.rng = rng;
        self.completed_at = vec![None; sequence.len()];
        self.sequence = sequence;
        (self.current, self.failures, self.step) = (0, 0, 0);
        (self.under_way, self.push) = (None, None);
        self.attempts.clear();
        self.tool.clear();
        self.squares = 0.0;
        offsets
    }

    /// How it moves.
    pub fn config(&self) -> &KitchenDemos {
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

    /// The next command, through the ends and beginnings of attempts.
    fn command(&mut self, view: View) -> Option<Command> {
        loop {
            let element = *self.sequence.get(self.current)?;
            let Some(under_way) = &self.under_way else {
                let mut plan = self.plan(element, view);
                self.follower.start(std::mem::take(&mut plan.segments), view);
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
        if push_rate > 0.0 && self.push.is_none() && self.rng.random_bool(push_rate) {
            let mut offset = [0.0_f32; 7];
            self.rng.fill_normal(&mut offset);
            let left = self.rng.random_range(push_steps.0..=push_steps.1);
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
        Plan {
            speed,
            ..routine.plan(element)
        }
    }
}

impl Demonstrator for KitchenDemonstrator {
    fn begin(&mut self, seed: u64, attempt: u64) -> Result<Start, DemoError> {
        let mut rng = stream(seed, Purpose::Demonstrator, 0, attempt);
        let choice = rng.random_range(0..self.mix.len());
        let sequence = self.mix.get(choice).cloned().unwrap_or_default();
        let mut qpos = self.home.clone();
        for (joint, offset) in qpos.iter_mut().zip(self.start_on(sequence, rng)) {
            *joint += offset;
        }
        Ok(Start {
            qpos,
            ..Start::of_scene()
        })
    }

    fn act(&mut self, _scene: &CompiledScene, physics: &Physics, measurement: &Measurement) -> Option<Act> {
        let observed = self
            .channels
            .map(|channel| measurement.get(channel).copied().unwrap_or(0.0));
        let view = View {
            data: physics,
            observed: &observed,
        };
        let command = self.command(view)?;
        self.step += 1;
        let intended = reference_action(&command, view, self.reach);
        let executed = self.disturbed(intended, command.free);
        self.tool.push(self.tool_position(physics));
        for (intended, executed) in intended.iter().zip(&executed).take(7) {
            self.squares += (intended - executed).powi(2);
        }
        let recorded = match self.config.record {
            Recorded::Intended => intended,
            Recorded::Executed => executed,
        };
        Some(Act {
            intended: recorded.to_vec(),
            executed: executed.to_vec(),
        })
    }

    fn after(&mut self, _scene: &CompiledScene, _physics: &Physics, progress: &TaskProgress) -> f32 {
        let mut reward = 0.0;
        for (element, completed_at) in self.sequence.iter().zip(&mut self.completed_at) {
            let reached = progress.reached.get(self.kitchen.place(*element));
            if completed_at.is_none() && reached.copied().unwrap_or(false) {
                *completed_at = Some(self.step);
                reward += 1.0;
            }
        }
        reward
    }

    fn judge(&self, _scene: &CompiledScene, physics: &Physics, _progress: &TaskProgress) -> Result<(), Rejection> {
        match self.sequence.iter().find(|element| !self.is_done(**element, physics)) {
            Some(element) => Err(Rejection::Missed(format!("{} not done", element.name()).into())),
            None => Ok(()),
        }
    }

    fn step_limit(&self) -> usize {
        STEP_LIMIT
    }

    fn account(&self) -> Account {
        let names: Vec<_> = self.sequence.iter().map(|element| element.name()).collect();
        let rows = self.tool.len();
        Account {
            shown: names.join(", "),
            figures: Vec::new(),
            kitchen: Some(KitchenAccount {
                sequence: self.sequence.clone(),
                completed_at: self.completed_at.iter().flatten().copied().collect(),
                attempts: self.attempts.clone(),
                tool: self.tool.clone(),
                correction: (self.squares / (7 * rows.max(1)) as f64).sqrt(),
            }),
        }
    }

    fn columns(&self) -> &'static [&'static str] {
        &["element"]
    }

    fn write_columns(&self, numbers: &mut Vec<i64>) {
        let element = self.sequence.get(self.current);
        numbers.push(element.map_or(-1, |element| self.kitchen.place(*element) as i64));
    }
}
