//! Segments: the pieces a demonstrator's motion is made of, and the state machine that walks through them.
//!
//! A segment moves a *joint reference*; the servo law in [`reference_action`] makes the arm follow it. Transfers run
//! straight in joint space; everything near an object runs on a straight line of the tool. The reference waits for
//! an arm that lags or was pushed away, so the motion depends on where the arm is more than on the clock.

use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;
use nalgebra::{Matrix3, Vector3};

use super::ik::{Arm, Joints, Pose, rotation, rotation_vector};

/// Finger position, m, when wide open; 0 is closed.
pub const OPEN: f64 = 0.04;
/// Stiffness of the arm's servos, N m/rad.
const STIFFNESS: [f64; 7] = [870.0, 870.0, 870.0, 870.0, 120.0, 120.0, 120.0];
/// Overshoot of the servo target beyond the reference; makes up for the lag of the servos.
const SERVO_GAIN: f64 = 1.7;
/// Largest change of a servo target beyond the present position, rad. All joints are scaled together: clipping each
/// of them bends the path by centimetres.
const LARGEST_LEAD: f64 = 0.15;
/// Largest change of the reference per step while following a line, rad.
const REFERENCE_STEP: f64 = 0.065;
/// A reference that lags behind by this much waits, rad: in transfers and on lines.
const TRANSFER_LAG: f64 = 0.10;
const LINE_LAG: f64 = 0.12;
/// Steps that a reference waits at most: in transfers and on lines.
const TRANSFER_PATIENCE: usize = 3;
const LINE_PATIENCE: usize = 5;
/// Steps that a transfer and a settling line wait at most at their end.
const ARRIVAL_PATIENCE: usize = 6;
const SETTLE_PATIENCE: usize = 8;
/// Iterations of inverse kinematics per step; the last reference is the warm start.
const ITERATIONS: usize = 10;

/// One piece of motion.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "most segments are lines, and a plan has about ten: a box for each would save nothing"
)]
pub enum Segment {
    /// Straight in joint space.
    Transfer(Transfer),
    /// Straight with the tool.
    Line(Line),
    /// Goes on only if the fingers hold something: together they are at least this far open, m. Otherwise the rest of
    /// the routine is given up and the element is tried anew.
    Grasped(f64),
}

/// A joint-space move.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Where to.
    pub goal: Joints,
    /// Finger position, m.
    pub grip: f64,
    /// Largest joint change per step, rad.
    pub speed: f64,
    /// Arrived when no joint is farther away, rad.
    pub slack: f64,
}

/// A move of the tool along a straight line, with its orientation turning evenly.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where to.
    pub target: Target,
    /// Finger position, m.
    pub grip: f64,
    /// Posture that the free joint is pulled to; none keeps the last one.
    pub posture: Option<Joints>,
    /// Speed of the reference, m per step.
    pub speed: f64,
    /// Turning speed of the reference, rad per step.
    pub turn: f64,
    /// Weight of the orientation, m/rad. Small lets the wrist give way.
    pub rotation_weight: f64,
    /// Steps to stay at the end.
    pub hold: usize,
    /// Stay until the tool is this near, m.
    pub settle: Option<f64>,
    /// Where an object has to be steered, the line's x gives way to this.
    pub steering: Option<Steering>,
}

/// Steers an object that is pushed along +y to a certain x.
///
/// It goes where it points, so it should point at the goal; and a push right of its centre turns it to the left. So
/// the tool stays behind the centre, and to the side by `gain` times the error of the heading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steering {
    /// Index in `qpos` of the object's free joint.
    pub joint: usize,
    /// Distance in x of the centre of friction from the object's origin, m.
    pub centre: f64,
    /// Where the object should get to in x, m.
    pub goal: f64,
    /// How far ahead the goal is taken to be, m.
    pub ahead: f64,
    /// Largest heading, rad.
    pub largest_heading: f64,
    /// Offset of the tool per error of the heading, m/rad.
    pub gain: f64,
    /// Largest offset, m.
    pub limit: f64,
}

impl Steering {
    /// The x to send the tool to now, which is at `tool`: as far beyond where it should push as it is short of it.
    fn x(&self, tool: f64, view: View) -> f64 {
        let at = |offset: usize| view.data.qpos().get(self.joint + offset).copied().unwrap_or(0.0);
        let heading = 2.0 * at(6).atan2(at(3));
        let wanted_heading = -(self.goal - at(0)).atan2(self.ahead);
        let wanted_heading = wanted_heading.clamp(-self.largest_heading, self.largest_heading);
        let aside = (-self.gain * (heading - wanted_heading)).clamp(-self.limit, self.limit);
        let wanted = at(0) + self.centre + aside;
        wanted + (wanted - tool).clamp(-self.limit, self.limit)
    }
}

/// The end of a [`Line`].
#[derive(Debug, Clone)]
pub enum Target {
    /// This pose.
    Pose(Pose),
    /// Back from where the tool is then, along its own axis by `distance` m, and by `shift` in the world, m.
    Back {
        /// How far.
        distance: f64,
        /// In addition.
        shift: Vector3<f64>,
    },
}

impl Line {
    /// A line to `target` at 0.035 m or 0.12 rad per step, whichever takes longer.
    pub fn new(target: Pose, grip: f64) -> Self {
        Self {
            target: Target::Pose(target),
            grip,
            posture: None,
            speed: 0.035,
            turn: 0.12,
            rotation_weight: 0.3,
            hold: 0,
            settle: None,
            steering: None,
        }
    }

    /// The way back from an object.
    pub fn back(distance: f64, grip: f64) -> Self {
        Self {
            target: Target::Back {
                distance,
                shift: Vector3::zeros(),
            },
            speed: 0.04,
            ..Self::new(
                Pose {
                    position: Vector3::zeros(),
                    axes: Matrix3::identity(),
                },
                grip,
            )
        }
    }

    /// The same with an additional shift in the world, m, if it is a way back.
    pub fn aside(mut self, by: Vector3<f64>) -> Self {
        if let Target::Back { shift, .. } = &mut self.target {
            *shift += by;
        }
        self
    }
}

/// What the demonstrator looks at in one step.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The true state.
    pub data: &'a MjData<Arc<MjModel>>,
    /// Last observed positions of arm and fingers, rad and m; the control law starts from them.
    pub observed: &'a [f64; 9],
}

impl View<'_> {
    /// Positions of the arm joints, rad.
    pub fn joints(&self) -> Joints {
        Joints::from_iterator(self.data.qpos().iter().copied())
    }
}

/// Walks through a list of segments, one step at a time.
#[derive(Debug, Default)]
pub struct Follower {
    segments: Vec<Segment>,
    next: usize,
    reference: Joints,
    posture: Joints,
    progress: Option<Progress>,
}

/// What the follower wants in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Command {
    /// Reference of the arm, rad.
    pub reference: Joints,
    /// Finger position, m.
    pub grip: f64,
    /// Whether the arm is in free space, away from objects.
    pub free: bool,
}

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advance {
    /// Do this.
    Command(Command),
    /// All segments are done.
    Done,
    /// The fingers hold nothing.
    Missed,
}

#[derive(Debug)]
enum Progress {
    Transfer {
        from: Joints,
        steps: usize,
        step: usize,
        waited: usize,
        arriving: usize,
    },
    Line {
        from: Pose,
        to: Pose,
        turn: Vector3<f64>,
        steps: usize,
        step: usize,
        waited: usize,
        held: usize,
        settled: usize,
    },
}

impl Follower {
    /// Starts anew with `segments`, from where the arm is.
    pub fn start(&mut self, segments: Vec<Segment>, view: View) {
        let joints = view.joints();
        *self = Self {
            segments,
            next: 0,
            reference: joints,
            posture: joints,
            progress: None,
        };
    }

    /// Moves the reference by one step. `speed` is a factor on the speed of every segment.
    pub fn advance(&mut self, arm: &mut Arm, view: View, speed: f64) -> Advance {
        while let Some(segment) = self.segments.get(self.next) {
            let command = match segment {
                Segment::Grasped(width) => {
                    let fingers: f64 = view.data.qpos().iter().skip(7).take(2).sum();
                    if fingers < *width {
                        return Advance::Missed;
                    }
                    None
                }
                Segment::Transfer(transfer) => {
                    let progress = self
                        .progress
                        .get_or_insert_with(|| begin_transfer(transfer, &self.reference, speed));
                    let command = step_transfer(transfer, progress, &mut self.reference, view);
                    if command.is_none() {
                        self.posture = transfer.goal;
                    }
                    command
                }
                Segment::Line(line) => {
                    if self.progress.is_none() {
                        if let Some(posture) = line.posture {
                            self.posture = posture;
                        }
                        self.progress = Some(begin_line(line, &mut self.reference, arm, view, speed));
                    }
                    match &mut self.progress {
                        Some(progress) => step_line(line, progress, &mut self.reference, &self.posture, arm, view),
                        None => None,
                    }
                }
            };
            match command {
                Some(command) => return Advance::Command(command),
                None => {
                    self.next += 1;
                    self.progress = None;
                }
            }
        }
        Advance::Done
    }
}

fn begin_transfer(transfer: &Transfer, reference: &Joints, speed: f64) -> Progress {
    let steps = ((transfer.goal - reference).amax() / (transfer.speed * speed))
        .ceil()
        .max(1.0) as usize;
    Progress::Transfer {
        from: *reference,
        steps,
        step: 0,
        waited: 0,
        arriving: 0,
    }
}

fn step_transfer(transfer: &Transfer, progress: &mut Progress, reference: &mut Joints, view: View) -> Option<Command> {
    let Progress::Transfer {
        from,
        steps,
        step,
        waited,
        arriving,
    } = progress
    else {
        return None;
    };
    let joints = view.joints();
    let command = |reference: &Joints, free| Command {
        reference: *reference,
        grip: transfer.grip,
        free,
    };
    if step < steps {
        if (joints - *reference).amax() < TRANSFER_LAG || *waited > TRANSFER_PATIENCE {
            *step += 1;
            *waited = 0;
        } else {
            *waited += 1;
        }
        *reference = *from + (transfer.goal - *from) * (*step as f64 / *steps as f64);
        return Some(command(reference, true));
    }
    if (joints - transfer.goal).amax() > transfer.slack && *arriving < ARRIVAL_PATIENCE {
        *arriving += 1;
        return Some(command(reference, false));
    }
    None
}

fn begin_line(line: &Line, reference: &mut Joints, arm: &mut Arm, view: View, speed: f64) -> Progress {
    let to = match &line.target {
        Target::Pose(pose) => *pose,
        Target::Back { distance, shift } => {
            *reference = view.joints();
            let tool = arm.tool(view.data);
            Pose {
                position: tool.position - tool.approach() * *distance + shift,
                ..tool
            }
        }
    };
    let from = arm.tool_at(reference);
    let turn = rotation_vector(&(to.axes * from.axes.transpose()));
    let way = (to.position - from.position).norm() / (line.speed * speed);
    let steps = way.max(turn.norm() / (line.turn * speed)).ceil().max(1.0) as usize;
    Progress::Line {
        from,
        to,
        turn,
        steps,
        step: 0,
        waited: 0,
        held: 0,
        settled: 0,
    }
}

/// The tool may be this far behind the reference before the reference waits, m.
const LINE_LEAD: f64 = 0.06;

fn step_line(
    line: &Line,
    progress: &mut Progress,
    reference: &mut Joints,
    posture: &Joints,
    arm: &mut Arm,
    view: View,
) -> Option<Command> {
    let Progress::Line {
        from,
        to,
        turn,
        steps,
        step,
        waited,
        held,
        settled,
    } = progress
    else {
        return None;
    };
    let steps = *steps;
    let tool = arm.tool(view.data).position;
    let at = |step: usize| {
        let part = step as f64 / steps as f64;
        let mut position = from.position + (to.position - from.position) * part;
        if let Some(steering) = &line.steering {
            position.x = steering.x(tool.x, view);
        }
        Pose {
            position,
            axes: rotation(&(*turn * part)) * from.axes,
        }
    };
    let behind = (at(*step).position - tool).norm();
    if *step < steps {
        let lag = (view.joints() - *reference).amax();
        if (behind < LINE_LEAD && lag < LINE_LAG) || *waited >= LINE_PATIENCE {
            *step += 1;
            *waited = 0;
        } else {
            *waited += 1;
        }
    } else if *held < line.hold {
        *held += 1;
    } else if *settled < SETTLE_PATIENCE && line.settle.is_some_and(|near| behind > near) {
        *settled += 1;
    } else {
        return None;
    }
    let solved = arm.solve(reference, &at(*step), posture, line.rotation_weight, ITERATIONS);
    let change = solved - *reference;
    *reference += change * (REFERENCE_STEP / change.amax().max(1e-9)).min(1.0);
    Some(Command {
        reference: *reference,
        grip: line.grip,
        free: false,
    })
}

/// The action that drives the arm to the reference and the fingers to the grip. An action of 1 asks for a change of the
/// servo target by `reach`, rad or m.
///
/// A servo target counts from the *observed* position; the true one is known here, so the observation noise cancels.
/// Gravity is made up for, since a servo without load would sag.
pub fn reference_action(command: &Command, view: View, reach: f64) -> [f64; 9] {
    let joints = view.joints();
    let lead = (command.reference - joints) * SERVO_GAIN;
    let lead = lead / (lead.amax() / LARGEST_LEAD).max(1.0);
    let mut action = [0.0; 9];
    for (joint, action) in action.iter_mut().take(7).enumerate() {
        let bias = view.data.qfrc_bias().get(joint).copied().unwrap_or(0.0);
        let target = joints[joint] + lead[joint] + bias / STIFFNESS[joint];
        *action = (target - view.observed[joint]) / reach;
    }
    for (finger, action) in action.iter_mut().enumerate().skip(7) {
        *action = if command.grip <= 0.0 {
            -1.0
        } else if command.grip >= OPEN {
            1.0
        } else {
            (command.grip - view.observed[finger]) / reach
        };
    }
    action.map(|number| number.clamp(-1.0, 1.0))
}
