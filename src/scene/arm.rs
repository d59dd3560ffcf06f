//! Resolving the controls that follow ranges and the motion of a site.

use mujoco_rs::wrappers::mj_model::{MjModel, MjtBias, MjtGain, MjtJoint, MjtObjBase, MjtTrn};

use super::SceneError;
use super::control::{
    ActionChannel, CompiledArmJoint, CompiledDirect, CompiledEndEffector, Control, DirectActuator, EndEffector,
    MOST_JOINTS, MotorKind, Turning,
};
use super::resolve::{Resolver, invalid};

/// `taken` are the controls that belong to something else already.
pub(super) fn compile_direct(
    actuators: &[DirectActuator],
    field: &str,
    resolver: &Resolver,
    taken: &[usize],
) -> Result<Vec<CompiledDirect>, SceneError> {
    let mut compiled: Vec<CompiledDirect> = Vec::with_capacity(actuators.len());
    for (index, direct) in actuators.iter().enumerate() {
        let field = format!("{field}.{index}");
        let control = resolver.control(&direct.actuator, &format!("{field}.actuator"))?;
        if taken.contains(&control) || compiled.iter().any(|other| other.control == control) {
            let reason = format!(
                "{:?} stands in the list twice, or belongs to a joint already",
                direct.actuator
            );
            return Err(invalid(format!("{field}.actuator"), reason));
        }
        let limited = resolver.model.actuator_ctrllimited()[control];
        let [low, high] = match direct.range {
            Some((low, high)) => [low, high],
            None if limited => resolver.model.actuator_ctrlrange()[control],
            None => {
                let reason = format!("{:?} has no ctrlrange in the model: give it a `range`", direct.actuator);
                return Err(invalid(format!("{field}.actuator"), reason));
            }
        };
        if !(low.is_finite() && high.is_finite() && low != high) {
            return Err(invalid(format!("{field}.range"), "must be two different numbers"));
        }
        compiled.push(CompiledDirect { control, low, high });
    }
    Ok(compiled)
}

pub(super) fn compile_arm(arm: &EndEffector, resolver: &Resolver) -> Result<CompiledEndEffector, SceneError> {
    for (name, value) in [
        ("speed", arm.speed),
        ("turn_speed", arm.turn_speed),
        ("joint_speed", arm.joint_speed),
        ("damping", arm.damping),
        ("lead", arm.lead),
    ] {
        if !(value.is_finite() && value > 0.0) {
            return Err(invalid(format!("control.{name}"), "must be a positive number"));
        }
    }
    for (axis, (low, high)) in arm.workspace.iter().flatten().enumerate() {
        if !(low.is_finite() && high.is_finite() && low <= high) {
            let field = format!("control.workspace.{axis}");
            return Err(invalid(field, "must be two numbers, the lower one first"));
        }
    }
    if arm.joints.is_empty() || arm.joints.len() > MOST_JOINTS {
        let reason = format!("must list 1 to {MOST_JOINTS} joints, found {}", arm.joints.len());
        return Err(invalid("control.joints", reason));
    }
    let site = resolver.id(MjtObjBase::mjOBJ_SITE, "site", &arm.site, "control.site")?;
    let carrier = resolver.model.site_bodyid()[site] as usize;
    let mut joints: Vec<CompiledArmJoint> = Vec::with_capacity(arm.joints.len());
    for (index, servo) in arm.joints.iter().enumerate() {
        let field = format!("control.joints.{index}");
        let joint = arm_joint(&servo.joint, &servo.actuator, &field, resolver)?;
        let owner = resolver.model.jnt_bodyid()[joint.joint] as usize;
        if !carries(resolver.model, owner, carrier) {
            let reason = format!("{:?} does not move the site {:?}", servo.joint, arm.site);
            return Err(invalid(format!("{field}.joint"), reason));
        }
        let same = |other: &CompiledArmJoint| other.joint == joint.joint || other.control == joint.control;
        if let Some(other) = joints.iter().position(same) {
            let reason = format!("joint or actuator belongs to control.joints.{other} already");
            return Err(invalid(field, reason));
        }
        joints.push(joint);
    }
    let taken: Vec<usize> = joints.iter().map(|joint| joint.control).collect();
    Ok(CompiledEndEffector {
        site,
        joints,
        speed: arm.speed,
        rotation: arm.rotation,
        turn_speed: arm.turn_speed,
        joint_speed: arm.joint_speed,
        damping: arm.damping,
        lead: arm.lead,
        workspace: arm.workspace,
        grippers: compile_direct(&arm.grippers, "control.grippers", resolver, &taken)?,
    })
}

fn arm_joint(joint: &str, actuator: &str, field: &str, resolver: &Resolver) -> Result<CompiledArmJoint, SceneError> {
    let model = resolver.model;
    let (joint_field, actuator_field) = (format!("{field}.joint"), format!("{field}.actuator"));
    let id = resolver.id(MjtObjBase::mjOBJ_JOINT, "joint", joint, &joint_field)?;
    let turns = match model.jnt_type()[id] {
        MjtJoint::mjJNT_HINGE => true,
        MjtJoint::mjJNT_SLIDE => false,
        _ => return Err(invalid(joint_field, format!("{joint:?} is no hinge or slide joint"))),
    };
    let control = resolver.control(actuator, &actuator_field)?;
    let servo = resolver.id(MjtObjBase::mjOBJ_ACTUATOR, "actuator", actuator, &actuator_field)?;
    if input_unit(model, servo) != Some(Input::Position) || model.actuator_trnid()[servo][0] as usize != id {
        let reason = format!("{actuator:?} is no position servo of the joint {joint:?} with gear 1");
        return Err(invalid(actuator_field, reason));
    }
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    let ranges = [
        (model.jnt_limited()[id], model.jnt_range()[id]),
        (
            model.actuator_ctrllimited()[control],
            model.actuator_ctrlrange()[control],
        ),
    ];
    for [from, to] in ranges
        .into_iter()
        .filter_map(|(limited, range)| limited.then_some(range))
    {
        (low, high) = (low.max(from), high.min(to));
    }
    if low > high {
        let reason = format!("the limits of {joint:?} and the ctrlrange of {actuator:?} have nothing in common");
        return Err(invalid(actuator_field, reason));
    }
    Ok(CompiledArmJoint {
        joint: id,
        turns,
        position: model.jnt_qposadr()[id] as usize,
        control,
        low,
        high,
    })
}

/// Whether `body` is `other` or one of those that carry it.
pub(super) fn carries(model: &MjModel, body: usize, mut other: usize) -> bool {
    while other != body && other != 0 {
        other = model.body_parentid()[other] as usize;
    }
    other == body
}

/// What the control of an actuator on a joint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Force,
    Position,
    Velocity,
}

/// What the control of an actuator with gear 1 on a joint is; `None` for any other.
fn input_unit(model: &MjModel, actuator: usize) -> Option<Input> {
    let output = model.actuator_outadr()[actuator] as usize;
    let on_joint = model.actuator_trntype()[actuator] == MjtTrn::mjTRN_JOINT;
    let geared = model.actuator_gear().get(output).is_none_or(|gear| gear[0] != 1.0);
    if !on_joint || geared || model.actuator_gaintype()[actuator] != MjtGain::mjGAIN_FIXED {
        return None;
    }
    let gain = model.actuator_gainprm()[actuator][0];
    let [constant, stiffness, damping, ..] = model.actuator_biasprm()[actuator];
    let near = |bias: f64| (bias + gain).abs() <= 1e-9 * gain.abs();
    match model.actuator_biastype()[actuator] {
        MjtBias::mjBIAS_NONE if gain == 1.0 => Some(Input::Force),
        MjtBias::mjBIAS_AFFINE if constant == 0.0 && gain > 0.0 && near(stiffness) => Some(Input::Position),
        MjtBias::mjBIAS_AFFINE if constant == 0.0 && stiffness == 0.0 && gain > 0.0 && near(damping) => {
            Some(Input::Velocity)
        }
        _ => None,
    }
}

/// Unit of an actuator's control; empty where it is not plain.
fn unit_of(resolver: &Resolver, name: &str) -> &'static str {
    let model = resolver.model;
    let Some(actuator) = model.name_to_id(MjtObjBase::mjOBJ_ACTUATOR, name) else {
        return "";
    };
    let Some(input) = input_unit(model, actuator) else {
        return "";
    };
    let turns = model.jnt_type()[model.actuator_trnid()[actuator][0] as usize] == MjtJoint::mjJNT_HINGE;
    match (input, turns) {
        (Input::Force, true) => "N m",
        (Input::Force, false) => "N",
        (Input::Position, true) => "rad",
        (Input::Position, false) => "m",
        (Input::Velocity, true) => "rad/s",
        (Input::Velocity, false) => "m/s",
    }
}

/// What a control of 1 is, and the unit of that, where an actuator pushes a joint with a gear or a gain.
pub(crate) fn geared_unit(model: &MjModel, name: &str) -> Option<(f64, &'static str)> {
    let actuator = model.name_to_id(MjtObjBase::mjOBJ_ACTUATOR, name)?;
    let pushes = model.actuator_gaintype()[actuator] == MjtGain::mjGAIN_FIXED
        && model.actuator_biastype()[actuator] == MjtBias::mjBIAS_NONE
        && model.actuator_trntype()[actuator] == MjtTrn::mjTRN_JOINT;
    let gear = model.actuator_gear().get(model.actuator_outadr()[actuator] as usize)?[0];
    let unit = match model.jnt_type()[model.actuator_trnid()[actuator][0] as usize] {
        MjtJoint::mjJNT_HINGE => "N m",
        MjtJoint::mjJNT_SLIDE => "N",
        _ => return None,
    };
    pushes.then(|| (gear * model.actuator_gainprm()[actuator][0], unit))
}

/// What the numbers of the action mean. The control has been compiled, so all its names exist.
pub(super) fn actions(control: &Control, resolver: &Resolver) -> Vec<ActionChannel> {
    let directs = |actuators: &[DirectActuator]| -> Vec<ActionChannel> {
        let compiled = compile_direct(actuators, "", resolver, &[]).unwrap_or_default();
        let channels = actuators.iter().zip(compiled).map(|(direct, compiled)| ActionChannel {
            name: direct.actuator.clone(),
            unit: unit_of(resolver, &direct.actuator),
            low: compiled.low,
            high: compiled.high,
            meaning: "control of the actuator",
        });
        channels.collect()
    };
    match control {
        Control::VelocityLimitedPosition { speed, servos } => {
            let channels = servos.iter().map(|servo| {
                let joint = resolver.model.name_to_id(MjtObjBase::mjOBJ_JOINT, &servo.joint);
                let slides = joint.is_some_and(|id| resolver.model.jnt_type()[id] == MjtJoint::mjJNT_SLIDE);
                ActionChannel {
                    name: servo.joint.clone(),
                    unit: if slides { "m/s" } else { "rad/s" },
                    low: -speed,
                    high: *speed,
                    meaning: "velocity of the target, from the observed position on",
                }
            });
            channels.collect()
        }
        Control::Motors { motors, .. } => {
            let channels = motors.iter().map(|motor| ActionChannel {
                name: motor.actuator.clone(),
                unit: unit_of(resolver, &motor.actuator),
                low: -motor.scale,
                high: motor.scale,
                meaning: match motor.kind {
                    MotorKind::Proportional => "control of the actuator",
                    MotorKind::Gripper => "switch: closed up to 0.5, open above",
                },
            });
            channels.collect()
        }
        Control::Direct { actuators } => directs(actuators),
        Control::EndEffector(arm) => {
            let axes = |prefix: &str, letters: &[&str], unit, speed: f64, meaning| {
                let channels = letters.iter().map(move |letter| ActionChannel {
                    name: format!("{}.{prefix}{letter}", arm.site),
                    unit,
                    low: -speed,
                    high: speed,
                    meaning,
                });
                channels.collect::<Vec<_>>()
            };
            let turns: &[&str] = match arm.rotation {
                Turning::Free | Turning::Held => &[],
                Turning::Yaw => &["z"],
                Turning::Full => &["x", "y", "z"],
            };
            let mut channels = axes("", &["x", "y", "z"], "m/s", arm.speed, "velocity of the site");
            channels.extend(axes("turn_", turns, "rad/s", arm.turn_speed, "rotation of the site"));
            channels.extend(directs(&arm.grippers));
            channels
        }
    }
}
