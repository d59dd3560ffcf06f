//! A hand at the end of joints that are driven one by one.

use std::sync::Arc;

use mujoco_rs::mujoco_c::{mjtBias, mjtTrn};
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};

use super::chain::{Chain, Tool, Wanted};
use super::hand::{Aim, Hand, Look, Scale, finger_number};
use super::lookup::{self, Joint, simple_joint};
use super::{GripperSpec, WaypointDemos};
use crate::demos::DemoError;
use crate::scene::{CompiledControl, CompiledScene, Control, MotorKind};
use crate::sim::Physics;

/// Iterations of inverse kinematics per step; the last reference is the warm start.
const ITERATIONS: usize = 10;
/// The same to find joints far away.
const FAR_ITERATIONS: usize = 120;
/// Largest change that a velocity-limited servo is asked for, as a share of what it can.
const LARGEST_LEAD: f64 = 0.94;
/// Joints under a motor's force get to where they should be within so many control steps.
const FORCE_STEPS: f64 = 2.5;

/// How a number of the action becomes motion of a joint.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Law {
    /// A position servo whose target starts from the observed position.
    Limited {
        /// Channel of the observation with the joint's position.
        channel: usize,
        /// Change of the target for an action of 1, rad or m.
        reach: f64,
    },
    /// A position servo, whose control is in the unit of the joint times the gear.
    Position { gear: f64 },
    /// A velocity servo.
    Velocity { gear: f64 },
    /// A force or torque, `gain` for a control of 1; `inertia` and `damping` are those of the joint.
    Force { gain: f64, inertia: f64, damping: f64 },
}

/// A joint of the chain under its number of the action.
#[derive(Debug, Clone, Copy)]
struct Drive {
    place: usize,
    joint: Joint,
    law: Law,
    range: Scale,
    /// Force of the servo per rad or m, at the joint; 0 for those without.
    stiffness: f64,
}

/// A number of the action that moves fingers.
#[derive(Debug, Clone, Copy)]
struct FingerDrive {
    place: usize,
    law: FingerLaw,
}

#[derive(Debug, Clone, Copy)]
enum FingerLaw {
    Limited { channel: usize, reach: f64 },
    Scaled(Scale),
}

/// A hand whose arm is driven joint by joint.
#[derive(Debug)]
pub(super) struct JointHand {
    chain: Chain,
    drives: Vec<Drive>,
    places: Vec<usize>,
    positions: Vec<usize>,
    gripper: Option<GripperSpec>,
    fingers: Vec<FingerDrive>,
    lead: f64,
    /// Most that a joint's reference moves in a step, rad or m.
    joint_step: f64,
    period: f64,
    home: Vec<f64>,
    /// Where the joints should be, and the same before the last step.
    reference: Vec<f64>,
    solved: Vec<f64>,
    at: Vec<f64>,
}

/// A number of the action: the actuator behind it, and what a control law makes of it.
struct Driven {
    actuator: String,
    /// Of velocity-limited servos: channel, reach, range.
    limited: Option<(usize, f64, (f64, f64))>,
    /// Of others.
    scale: Scale,
    kind: MotorKind,
}

impl JointHand {
    pub fn new(scene: &CompiledScene, config: &WaypointDemos, tool: Tool) -> Result<Self, DemoError> {
        let model = scene.model();
        let driven = driven(scene)?;
        let bodies = bodies_above(model, tool.site);
        let gripper = config.gripper.clone();
        let finger_names: &[String] = gripper.as_ref().map_or(&[], |gripper| &gripper.actuators);
        for (place, name) in finger_names.iter().enumerate() {
            if !driven.iter().any(|driven| driven.actuator == *name) {
                let known = driven.iter().map(|driven| driven.actuator.as_str());
                return Err(lookup::no_such(
                    "driven actuator",
                    name,
                    &format!("gripper.actuators.{place}"),
                    known,
                ));
            }
        }
        let (mut drives, mut fingers, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        for (place, driven) in driven.iter().enumerate() {
            if finger_names.contains(&driven.actuator) {
                let law = match driven.limited {
                    Some((channel, reach, _)) => FingerLaw::Limited { channel, reach },
                    None => FingerLaw::Scaled(driven.scale),
                };
                fingers.push(FingerDrive { place, law });
                continue;
            }
            let Some((joint, law, stiffness)) = drive(model, driven, &bodies) else {
                continue;
            };
            ranges.push((
                joint,
                driven
                    .limited
                    .map_or((f64::MIN / 4.0, f64::MAX / 4.0), |(.., range)| range),
            ));
            drives.push(Drive {
                place,
                joint,
                law,
                range: driven.scale,
                stiffness,
            });
        }
        if drives.is_empty() {
            return Err(unfit(format!(
                "an action that drives at least one joint of the arm that carries the site {:?}",
                config.hand.site
            )));
        }
        let chain = Chain::new(model, tool, &ranges)?;
        if !(config.posture.is_empty() || config.posture.len() == chain.len()) {
            let problem = format!("expected {} numbers, found {}", chain.len(), config.posture.len());
            return Err(super::wrong("posture", problem));
        }
        let positions: Vec<usize> = drives.iter().map(|drive| drive.joint.position).collect();
        let start = |position: &usize| scene.start().get(*position).copied().unwrap_or(0.0);
        let home = match config.posture.is_empty() {
            true => positions.iter().map(start).collect(),
            false => config.posture.clone(),
        };
        Ok(Self {
            places: drives.iter().map(|drive| drive.place).collect(),
            positions,
            chain,
            drives,
            gripper,
            fingers,
            lead: config.lead,
            joint_step: config.joint_speed * scene.period(),
            period: scene.period(),
            reference: Vec::new(),
            solved: Vec::new(),
            at: Vec::new(),
            home,
        })
    }

    /// Moves the reference towards the solved joints, all of them in the same proportion.
    fn advance(&mut self) {
        let farthest = self.solved.iter().zip(&self.reference);
        let farthest = farthest.fold(0.0, |most: f64, (to, from)| most.max((to - from).abs()));
        let share = (self.joint_step / farthest.max(1e-9)).min(1.0);
        for (from, to) in self.reference.iter_mut().zip(&self.solved) {
            *from += share * (to - *from);
        }
    }

    /// Writes the numbers of the arm.
    fn follow(&self, look: Look, action: &mut [f64]) {
        let physics = look.physics;
        // All joints are led in the same proportion: clipping each of them would bend the path.
        let mut share = 1.0_f64;
        for (drive, (reference, at)) in self.drives.iter().zip(self.reference.iter().zip(&self.at)) {
            if let Law::Limited { reach, .. } = drive.law {
                let lead = (self.lead * (reference - at)).abs();
                share = share.min(LARGEST_LEAD * reach / lead.max(1e-12));
            }
        }
        for (drive, (reference, at)) in self.drives.iter().zip(self.reference.iter().zip(&self.at)) {
            let of = |values: &[f64]| values.get(drive.joint.velocity).copied().unwrap_or(0.0);
            // Gravity is made up for, since a servo under load would sag.
            let load = of(physics.qfrc_bias()) - of(physics.qfrc_gravcomp());
            let sag = if drive.stiffness > 0.0 {
                load / drive.stiffness
            } else {
                0.0
            };
            let missing = reference - at;
            let number = match drive.law {
                Law::Limited { channel, reach } => {
                    // The target counts from the observed position, so the noise cancels.
                    let observed = look.measurement.get(channel).copied().unwrap_or(*at);
                    (at + self.lead * missing * share + sag - observed) / reach
                }
                Law::Position { gear } => drive.range.number(gear * (at + self.lead * missing + sag)),
                Law::Velocity { gear } => drive.range.number(gear * missing / (FORCE_STEPS * self.period)),
                Law::Force { gain, inertia, damping } => {
                    let speed = missing / (FORCE_STEPS * self.period);
                    let push = inertia * (speed - of(physics.qvel())) / self.period;
                    drive.range.number((damping * speed + push + load) / gain)
                }
            };
            if let Some(to) = action.get_mut(drive.place) {
                *to = if number.is_finite() {
                    number.clamp(-1.0, 1.0)
                } else {
                    0.0
                };
            }
        }
    }
}

impl Hand for JointHand {
    fn tool(&self) -> Tool {
        self.chain.tool()
    }

    fn begin(&mut self, physics: &Physics) {
        let mut reference = std::mem::take(&mut self.reference);
        self.chain.positions(physics, &mut reference);
        self.reference = reference;
    }

    fn places(&self) -> &[usize] {
        &self.places
    }

    fn joints(&self, physics: &Physics) -> Option<Vec<f64>> {
        let mut joints = Vec::with_capacity(self.chain.len());
        self.chain.positions(physics, &mut joints);
        Some(joints)
    }

    fn positions(&self) -> &[usize] {
        &self.positions
    }

    fn joints_at(&mut self, physics: &Physics, wanted: &Wanted, posture: &[f64]) -> Option<Vec<f64>> {
        let posture = if posture.is_empty() { &self.home } else { posture };
        let mut joints = posture.to_vec();
        self.chain.solve(physics, &mut joints, wanted, posture, FAR_ITERATIONS);
        Some(joints)
    }

    fn act(&mut self, aim: &Aim, look: Look, action: &mut [f64]) {
        let mut at = std::mem::take(&mut self.at);
        self.chain.positions(look.physics, &mut at);
        self.at = at;
        self.solved.clear();
        match aim.joints {
            Some(joints) => self.solved.extend_from_slice(joints),
            None => {
                self.solved.extend_from_slice(&self.reference);
                let posture = if aim.posture.is_empty() {
                    &self.home
                } else {
                    aim.posture
                };
                self.chain
                    .solve(look.physics, &mut self.solved, &aim.wanted, posture, ITERATIONS);
            }
        }
        self.advance();
        self.follow(look, action);
        let Some(gripper) = &self.gripper else { return };
        for finger in &self.fingers {
            let number = match finger.law {
                FingerLaw::Limited { channel, reach } => {
                    let observed = look.measurement.get(channel).copied().unwrap_or(0.0);
                    finger_number(aim.grip, gripper, (aim.grip - observed) / reach)
                }
                FingerLaw::Scaled(scale) => scale.number(aim.grip),
            };
            if let Some(to) = action.get_mut(finger.place) {
                *to = number.clamp(-1.0, 1.0);
            }
        }
    }
}

/// What the numbers of the action drive, in their order.
fn driven(scene: &CompiledScene) -> Result<Vec<Driven>, DemoError> {
    match &scene.scene().control {
        Control::VelocityLimitedPosition { servos, .. } => {
            let reach = scene.speed() * scene.period();
            let both = servos.iter().zip(scene.servos());
            Ok(both
                .map(|(servo, compiled)| Driven {
                    actuator: servo.actuator.clone(),
                    limited: Some((compiled.channel, reach, (compiled.low, compiled.high))),
                    scale: Scale::ONE,
                    kind: MotorKind::Proportional,
                })
                .collect())
        }
        Control::Motors { motors, .. } => Ok(motors
            .iter()
            .map(|motor| Driven {
                actuator: motor.actuator.clone(),
                limited: None,
                scale: Scale {
                    middle: 0.0,
                    half: motor.scale,
                },
                kind: motor.kind,
            })
            .collect()),
        Control::Direct { actuators } => {
            let CompiledControl::Direct { actuators: compiled } = scene.control() else {
                return Ok(Vec::new());
            };
            let both = actuators.iter().zip(compiled);
            Ok(both
                .map(|(named, compiled)| Driven {
                    actuator: named.actuator.clone(),
                    limited: None,
                    scale: Scale::between(compiled.low, compiled.high),
                    kind: MotorKind::Proportional,
                })
                .collect())
        }
        Control::EndEffector(_) => Ok(Vec::new()),
    }
}

/// The joint that a number drives if it is one that carries the hand, and how.
fn drive(model: &Arc<MjModel>, driven: &Driven, bodies: &[usize]) -> Option<(Joint, Law, f64)> {
    let actuator = model.name_to_id(MjtObjBase::mjOBJ_ACTUATOR, &driven.actuator)?;
    if model.actuator_trntype().get(actuator) != Some(&mjtTrn::mjTRN_JOINT) || driven.kind != MotorKind::Proportional {
        return None;
    }
    let joint = usize::try_from(model.actuator_trnid().get(actuator)?[0]).ok()?;
    let body = usize::try_from(*model.jnt_bodyid().get(joint)?).ok()?;
    if !bodies.contains(&body) {
        return None;
    }
    let joint = simple_joint(model, joint)?;
    let gear = model.actuator_gear().get(actuator).map_or(1.0, |gear| gear[0]);
    let gain = model.actuator_gainprm().get(actuator)?[0];
    let affine = model.actuator_biastype().get(actuator) == Some(&mjtBias::mjBIAS_AFFINE);
    let bias = model.actuator_biasprm().get(actuator)?;
    let stiffness = if affine { -bias[1] * gear * gear } else { 0.0 };
    let of = |values: &[f64]| values.get(joint.velocity).copied().unwrap_or(0.0);
    let law = match driven.limited {
        Some((channel, reach, _)) => Law::Limited { channel, reach },
        None if stiffness > 0.0 => Law::Position { gear },
        None if affine && bias[2] < 0.0 => Law::Velocity { gear },
        None => Law::Force {
            gain: gain * gear,
            inertia: of(model.dof_m0()),
            damping: of(model.dof_damping()),
        },
    };
    Some((joint, law, stiffness))
}

/// The body of a site and all that carry it.
fn bodies_above(model: &Arc<MjModel>, site: usize) -> Vec<usize> {
    let mut bodies = Vec::new();
    let mut body = model.site_bodyid().get(site).copied();
    while let Some(id) = body.and_then(|id| usize::try_from(id).ok())
        && id > 0
    {
        bodies.push(id);
        body = model.body_parentid().get(id).copied();
    }
    bodies
}

fn unfit(needs: String) -> DemoError {
    DemoError::Unfit {
        demonstrator: "waypoint",
        needs,
    }
}
