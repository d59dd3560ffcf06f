//! What an action does: the field `control` of a scene.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::arm::{compile_arm, compile_direct};
use super::observation::{Channel, Source};
use super::resolve::{Resolver, finite, invalid};
use super::{Scene, SceneError, one};

/// Most joints of an arm with [`Control::EndEffector`].
pub(crate) const MOST_JOINTS: usize = 16;

/// How an action moves the actuators. Actions are clipped to `[-1, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Control {
    /// Position servos whose target moves with limited speed away from the *last observed*, hence noisy, position:
    /// `target = clip(observed + speed · action · period, range)`, held for the whole control step.
    ///
    /// The step rule of relay policy learning's and D4RL's kitchen.
    VelocityLimitedPosition {
        /// Speed that an action of 1 asks for, rad/s or m/s.
        speed: f64,
        /// The driven joints, in the order of the action's numbers.
        servos: Vec<Servo>,
    },
    /// Actuators that get the action itself: `control = scale · action`, held for the whole control step.
    Motors {
        /// The actuators, in the order of the action's numbers.
        motors: Vec<Motor>,
        /// Before the physics steps the velocity of every joint is clipped to plus and minus this, rad/s or m/s, as
        /// D4RL's point mass does.
        #[serde(default)]
        speed_limit: Option<f64>,
    },
    /// Actuators of any kind whose control follows the action over a range:
    /// `control = low + (action + 1) / 2 · (high - low)`, held for the whole control step.
    Direct {
        /// The actuators, in the order of the action's numbers.
        actuators: Vec<DirectActuator>,
    },
    /// The action is the velocity of a point of an arm; see [`EndEffector`].
    EndEffector(EndEffector),
}

/// An actuator whose control follows a number of the action over a range. A name alone stands for one without `range`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DirectActuator {
    /// The actuator of the model.
    pub actuator: String,
    /// Control for an action of -1 and of 1, in the actuator's unit. Without it the model's `ctrlrange`. The first may be
    /// the larger one.
    pub range: Option<(f64, f64)>,
}

impl<'de> Deserialize<'de> for DirectActuator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            actuator: String,
            #[serde(default)]
            range: Option<(f64, f64)>,
        }

        struct NameOrWhole;

        impl<'de> Visitor<'de> for NameOrWhole {
            type Value = DirectActuator;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of an actuator")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<DirectActuator, E> {
                Ok(DirectActuator {
                    actuator: name.to_owned(),
                    range: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<DirectActuator, A::Error> {
                let Whole { actuator, range } = Whole::deserialize(MapAccessDeserializer::new(fields))?;
                Ok(DirectActuator { actuator, range })
            }
        }

        deserializer.deserialize_struct("DirectActuator", &["actuator", "range"], NameOrWhole)
    }
}

/// Velocity control of a site by differential inverse kinematics.
///
/// The first three numbers of the action are the site's velocity along the world's axes x, y and z, each times `speed`;
/// [`Turning`] says what the next ones are, and one number for each of `grippers` comes last. With `J` the Jacobian of
/// the site over `joints` in the current pose, `v` the wanted velocity and `λ` the damping, joint velocities are
///
/// ```text
/// q̇ = Jᵀ (J Jᵀ + λ² I)⁻¹ v        all divided by max |q̇| / joint_speed where that is above 1
/// target += q̇ · period            kept within `lead` of the joint, its limits and the actuator's ctrlrange
/// ```
///
/// Joints that would leave their limits are held and the others solved for again. Targets go to position servos and are
/// held for the whole control step; an episode begins with them where the joints are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndEffector {
    /// The site that is moved.
    pub site: String,
    /// The joints that move it, from the base on, each with its position servo; at most 16.
    pub joints: Vec<ArmJoint>,
    /// Speed along each axis for an action of 1, m/s.
    pub speed: f64,
    /// What becomes of the site's orientation.
    #[serde(default)]
    pub rotation: Turning,
    /// Speed about each axis for an action of 1, rad/s.
    #[serde(default = "one")]
    pub turn_speed: f64,
    /// Largest speed of a joint, rad/s or m/s.
    #[serde(default = "joint_speed")]
    pub joint_speed: f64,
    /// Damping `λ` of the least squares, in the unit of the Jacobian (m/rad for positions): larger is slower and steadier
    /// near singular poses.
    #[serde(default = "damping")]
    pub damping: f64,
    /// Largest distance of a target from its joint, rad or m: how hard the servos push against what is in the way.
    #[serde(default = "lead")]
    pub lead: f64,
    /// The box in which the site stays, m: lowest and highest x, y and z. The velocity that would lead the point to which
    /// the targets bring the site out of it is shortened, axis by axis; from outside it leads back.
    #[serde(default)]
    pub workspace: Option<[(f64, f64); 3]>,
    /// Further actuators, such as those of a gripper, as with [`Control::Direct`].
    #[serde(default)]
    pub grippers: Vec<DirectActuator>,
}

fn joint_speed() -> f64 {
    2.0
}

fn damping() -> f64 {
    0.05
}

fn lead() -> f64 {
    0.2
}

/// A joint of an arm and the servo that drives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmJoint {
    /// Hinge or slide joint.
    pub joint: String,
    /// Its position servo.
    pub actuator: String,
}

/// What [`EndEffector`] makes of orientations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Turning {
    /// It is what it comes to be.
    #[default]
    Free,
    /// It shall not change.
    Held,
    /// One number of the action turns the site about the world's z axis; otherwise it shall not turn.
    Yaw,
    /// Three numbers of the action turn it about the world's axes x, y and z.
    Full,
}

impl Turning {
    /// Numbers of the action.
    pub fn numbers(self) -> usize {
        match self {
            Self::Free | Self::Held => 0,
            Self::Yaw => 1,
            Self::Full => 3,
        }
    }
}

/// What a number of the action means.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionChannel {
    /// The joint, actuator or axis it moves.
    pub name: String,
    /// Unit of `low` and `high`; empty where it depends on the actuator.
    pub unit: &'static str,
    /// What -1 asks for.
    pub low: f64,
    /// What 1 asks for.
    pub high: f64,
    /// What is asked for, in words.
    pub meaning: &'static str,
}

/// An actuator that gets a number of the action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Motor {
    /// The actuator of the model.
    pub actuator: String,
    /// Control for an action of 1, in the actuator's unit.
    #[serde(default = "one")]
    pub scale: f64,
    /// How the number is understood.
    #[serde(default)]
    pub kind: MotorKind,
}

/// How a [`Motor`] understands its number of the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum MotorKind {
    /// As it is.
    #[default]
    Proportional,
    /// As a switch with three positions: above 0.5 it is 1, below -0.5 it is -1, otherwise 0. Where its magnitude is
    /// between 0.3 and 0.7 the control stays as it was, except in the first step of an episode.
    Gripper,
}

/// A joint driven by a position servo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Servo {
    /// Hinge or slide joint; it must be part of the observation.
    pub joint: String,
    /// Actuator of the model that receives the target.
    pub actuator: String,
    /// Lowest and highest target, rad or m.
    pub range: (f64, f64),
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
    /// See [`Control::Direct`].
    Direct {
        /// The actuators, in the order of the action's numbers.
        actuators: Vec<CompiledDirect>,
    },
    /// See [`Control::EndEffector`].
    EndEffector(CompiledEndEffector),
}

impl CompiledControl {
    /// Numbers in an action.
    pub fn action_len(&self) -> usize {
        match self {
            Self::Servos { servos, .. } => servos.len(),
            Self::Motors { motors, .. } => motors.len(),
            Self::Direct { actuators } => actuators.len(),
            Self::EndEffector(arm) => 3 + arm.rotation.numbers() + arm.grippers.len(),
        }
    }
}

/// A resolved [`DirectActuator`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompiledDirect {
    /// Index into `ctrl`.
    pub control: usize,
    /// Control for an action of -1.
    pub low: f64,
    /// Control for an action of 1.
    pub high: f64,
}

/// A resolved [`EndEffector`].
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledEndEffector {
    /// Index of the site.
    pub site: usize,
    /// The joints, at most 16.
    pub joints: Vec<CompiledArmJoint>,
    /// Speed along each axis, m/s.
    pub speed: f64,
    /// What becomes of the orientation.
    pub rotation: Turning,
    /// Speed about each axis, rad/s.
    pub turn_speed: f64,
    /// Largest speed of a joint, rad/s or m/s.
    pub joint_speed: f64,
    /// Damping of the least squares.
    pub damping: f64,
    /// Largest distance of a target from its joint.
    pub lead: f64,
    /// Where the site stays, m.
    pub workspace: Option<[(f64, f64); 3]>,
    /// Further actuators.
    pub grippers: Vec<CompiledDirect>,
}

/// A resolved [`ArmJoint`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompiledArmJoint {
    /// Index of the joint.
    pub joint: usize,
    /// Whether it turns; otherwise it slides.
    pub turns: bool,
    /// Index into `qpos`.
    pub position: usize,
    /// Index into `ctrl`.
    pub control: usize,
    /// Lowest target, rad or m.
    pub low: f64,
    /// Highest target, rad or m.
    pub high: f64,
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

pub(super) fn control(scene: &Scene, resolver: &Resolver, channels: &[Channel]) -> Result<CompiledControl, SceneError> {
    match &scene.control {
        Control::VelocityLimitedPosition { speed, servos } => compile_servos(*speed, servos, resolver, channels),
        Control::Motors { motors, speed_limit } => compile_motors(motors, *speed_limit, resolver),
        Control::Direct { actuators } => {
            let actuators = compile_direct(actuators, "control.actuators", resolver, &[])?;
            if actuators.is_empty() {
                return Err(invalid("control.actuators", "must list at least one actuator"));
            }
            Ok(CompiledControl::Direct { actuators })
        }
        Control::EndEffector(arm) => compile_arm(arm, resolver).map(CompiledControl::EndEffector),
    }
}

pub(super) fn compile_motors(
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
