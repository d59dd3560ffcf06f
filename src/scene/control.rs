//! What an action does: the field `control` of a scene.

use serde::{Deserialize, Serialize};

use super::observation::{Channel, Source};
use super::resolve::{Resolver, finite, invalid};
use super::{Scene, SceneError, one};

/// How an action moves the actuators. Actions are clipped to `[-1, 1]`, one number for each servo.
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
