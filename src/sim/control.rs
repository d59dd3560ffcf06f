//! What an action does: from the numbers of an agent to the controls of the actuators. Nothing here allocates.

use nalgebra::{SMatrix, SVector, Vector3};

use super::{Delayed, Fault, Measurement, Physics};
use crate::scene::{
    CompiledControl, CompiledDirect, CompiledEndEffector, CompiledScene, MOST_JOINTS, MotorKind, Turning,
};

/// Sends `action` (`[action_len]`) on its way, and sets the controls that the one which arrives now asks for. Until the
/// first one of an episode arrives, joints that are driven by velocity are held, motors are off, and the other controls
/// stay.
///
/// # Errors
/// As [`apply_action`], for the action that is sent.
pub(super) fn send_action<A: Copy + Into<f64>>(
    scene: &CompiledScene,
    measurement: &Measurement,
    action: &[A],
    delayed: &mut Delayed,
    physics: &mut Physics,
) -> Result<(), Fault> {
    if delayed.acts_at_once() {
        return apply_action(scene, measurement, action, physics);
    }
    check(scene, action)?;
    match delayed.send(action) {
        Some(arrived) => apply_action(scene, measurement, arrived, physics),
        None => {
            hold(scene, measurement, physics);
            Ok(())
        }
    }
}

fn check<A: Copy + Into<f64>>(scene: &CompiledScene, action: &[A]) -> Result<(), Fault> {
    let finite = action.iter().all(|&number| number.into().is_finite());
    if action.len() == scene.action_len() && finite {
        Ok(())
    } else {
        Err(Fault::Action)
    }
}

/// What happens while no action has arrived.
fn hold(scene: &CompiledScene, measurement: &Measurement, physics: &mut Physics) {
    match scene.control() {
        CompiledControl::Servos { servos, .. } => {
            let controls = physics.0.ctrl_mut();
            for servo in servos {
                controls[servo.control] = measurement.0[servo.channel].clamp(servo.low, servo.high);
            }
        }
        CompiledControl::Motors { motors, speed_limit } => {
            let controls = physics.0.ctrl_mut();
            for motor in motors {
                controls[motor.control] = 0.0;
            }
            if let Some(limit) = speed_limit {
                limit_speed(physics, *limit);
            }
        }
        CompiledControl::Direct { .. } => {}
        CompiledControl::EndEffector(arm) => {
            let first = is_first(scene, physics);
            move_site(arm, &[0.0; 6], scene.period(), first, physics);
        }
    }
}

/// Sets the controls that `action` (`[action_len]`, clipped to `[-1, 1]`) asks for.
///
/// # Errors
/// [`Fault::Action`] if a number is not finite or the length is wrong; the targets stay as they were.
pub fn apply_action<A: Copy + Into<f64>>(
    scene: &CompiledScene,
    measurement: &Measurement,
    action: &[A],
    physics: &mut Physics,
) -> Result<(), Fault> {
    check(scene, action)?;
    match scene.control() {
        CompiledControl::Servos { speed, servos } => {
            let controls = physics.0.ctrl_mut();
            for (servo, &number) in servos.iter().zip(action) {
                let velocity = speed * number.into().clamp(-1.0, 1.0);
                let target = measurement.0[servo.channel] + velocity * scene.period();
                controls[servo.control] = target.clamp(servo.low, servo.high);
            }
        }
        CompiledControl::Motors { motors, speed_limit } => {
            let first = is_first(scene, physics);
            let controls = physics.0.ctrl_mut();
            for (motor, &number) in motors.iter().zip(action) {
                let number = number.into().clamp(-1.0, 1.0);
                let between = number.abs() > 0.3 && number.abs() < 0.7;
                let held = motor.kind == MotorKind::Gripper && !first && between;
                if !held {
                    controls[motor.control] = motor.scale * level(motor.kind, number);
                }
            }
            if let Some(limit) = speed_limit {
                limit_speed(physics, *limit);
            }
        }
        CompiledControl::Direct { actuators } => set_direct(actuators, action, physics),
        CompiledControl::EndEffector(arm) => {
            let (motion, grippers) = action.split_at(3 + arm.rotation.numbers());
            let mut numbers = [0.0; 6];
            for (to, &from) in numbers.iter_mut().zip(motion) {
                *to = from.into().clamp(-1.0, 1.0);
            }
            let first = is_first(scene, physics);
            move_site(arm, &numbers, scene.period(), first, physics);
            set_direct(&arm.grippers, grippers, physics);
        }
    }
    Ok(())
}

/// Whether no step of the episode has been taken. A fresh state is at time zero but for the steps of the reset.
fn is_first(scene: &CompiledScene, physics: &Physics) -> bool {
    physics.0.time() <= scene.fresh().time()
}

fn set_direct<A: Copy + Into<f64>>(actuators: &[CompiledDirect], action: &[A], physics: &mut Physics) {
    let controls = physics.0.ctrl_mut();
    for (direct, &number) in actuators.iter().zip(action) {
        let share = (number.into().clamp(-1.0, 1.0) + 1.0) / 2.0;
        controls[direct.control] = direct.low + share * (direct.high - direct.low);
    }
}

/// What a motor makes of its number of the action.
fn level(kind: MotorKind, number: f64) -> f64 {
    match kind {
        MotorKind::Proportional => number,
        MotorKind::Gripper if number > 0.5 => 1.0,
        MotorKind::Gripper if number < -0.5 => -1.0,
        MotorKind::Gripper => 0.0,
    }
}

/// Clips the velocities of all joints to plus and minus `limit`.
fn limit_speed(physics: &mut Physics, limit: f64) {
    let too_fast = |velocity: &f64| velocity.abs() > limit;
    if physics.0.qvel().iter().any(too_fast) {
        for velocity in physics.0.qvel_mut() {
            *velocity = velocity.clamp(-limit, limit);
        }
        // What follows from velocities is worked out at the beginning of a step anyway.
    }
}

/// Velocities: three along and three about the axes of the world.
type Twist = SVector<f64, 6>;
/// How the site moves with the joints; columns beyond the last joint are zero.
type Jacobian = SMatrix<f64, 6, MOST_JOINTS>;
/// One number for each joint.
type Rates = SVector<f64, MOST_JOINTS>;

/// Moves the targets of an arm so that its site moves as `numbers` (velocities, then rotations) say.
fn move_site(arm: &CompiledEndEffector, numbers: &[f64; 6], period: f64, first: bool, physics: &mut Physics) {
    // After a step poses are those before its last physics step. A restored state has others, so neither is used.
    physics.0.kinematics();
    let point = Vector3::from(physics.0.site_xpos()[arm.site]);
    let jacobian = jacobian(arm, physics, &point);
    let near = |value: f64, middle: f64| within(value, middle - arm.lead, middle + arm.lead);
    let (mut bases, mut ahead) = (Rates::zeros(), Rates::zeros());
    for (index, joint) in arm.joints.iter().enumerate() {
        let position = physics.0.qpos()[joint.position];
        let target = physics.0.ctrl()[joint.control];
        bases[index] = if first { position } else { near(target, position) };
        ahead[index] = bases[index] - position;
    }
    let goal = point + (jacobian * ahead).fixed_rows::<3>(0);
    let twist = twist(arm, numbers, &goal, period);
    let rates = rates(arm, &jacobian, &twist, &bases, period);
    for (index, joint) in arm.joints.iter().enumerate() {
        let position = physics.0.qpos()[joint.position];
        let target = near(bases[index] + rates[index] * period, position);
        physics.0.ctrl_mut()[joint.control] = within(target, joint.low, joint.high);
    }
}

/// A number brought between two others, whatever they are: after a fault none need be finite.
fn within(value: f64, low: f64, high: f64) -> f64 {
    value.max(low).min(high)
}

/// The wanted velocity, shortened at the faces of the workspace; `goal` is where the targets lead the site to.
fn twist(arm: &CompiledEndEffector, numbers: &[f64; 6], goal: &Vector3<f64>, period: f64) -> Twist {
    let mut twist = Twist::zeros();
    for axis in 0..3 {
        twist[axis] = numbers[axis] * arm.speed;
        if let Some(workspace) = &arm.workspace {
            let (low, high) = workspace[axis];
            let (least, most) = ((low - goal[axis]) / period, (high - goal[axis]) / period);
            twist[axis] = within(within(twist[axis], least, most), -arm.speed, arm.speed);
        }
    }
    match arm.rotation {
        Turning::Free | Turning::Held => {}
        Turning::Yaw => twist[5] = numbers[3] * arm.turn_speed,
        Turning::Full => {
            for axis in 3..6 {
                twist[axis] = numbers[axis] * arm.turn_speed;
            }
        }
    }
    twist
}

fn jacobian(arm: &CompiledEndEffector, physics: &Physics, point: &Vector3<f64>) -> Jacobian {
    let mut jacobian = Jacobian::zeros();
    for (index, joint) in arm.joints.iter().enumerate() {
        let axis = Vector3::from(physics.0.xaxis()[joint.joint]);
        if joint.turns {
            let anchor = Vector3::from(physics.0.xanchor()[joint.joint]);
            let velocity = axis.cross(&(point - anchor));
            jacobian.fixed_view_mut::<3, 1>(0, index).copy_from(&velocity);
            if arm.rotation != Turning::Free {
                jacobian.fixed_view_mut::<3, 1>(3, index).copy_from(&axis);
            }
        } else {
            jacobian.fixed_view_mut::<3, 1>(0, index).copy_from(&axis);
        }
    }
    jacobian
}

/// Joint velocities by damped least squares, within the speed and the limits of the joints.
fn rates(arm: &CompiledEndEffector, jacobian: &Jacobian, twist: &Twist, bases: &Rates, period: f64) -> Rates {
    let mut free = *jacobian;
    let mut rates = Rates::zeros();
    // Each round holds at least one more joint.
    for _ in 0..=arm.joints.len() {
        let normal = free * free.transpose() + SMatrix::<f64, 6, 6>::identity() * arm.damping.powi(2);
        let Some(factor) = normal.cholesky() else {
            return Rates::zeros();
        };
        rates = free.transpose() * factor.solve(twist);
        let fastest = rates.amax();
        if fastest > arm.joint_speed {
            rates *= arm.joint_speed / fastest;
        }
        let mut held = false;
        for (index, joint) in arm.joints.iter().enumerate() {
            let target = bases[index] + rates[index] * period;
            let leaves = (target > joint.high && rates[index] > 0.0) || (target < joint.low && rates[index] < 0.0);
            if leaves {
                free.column_mut(index).fill(0.0);
                held = true;
            }
        }
        if !held {
            break;
        }
    }
    rates
}
