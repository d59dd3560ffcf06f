//! Walking through the steps of a skill: where the hand should be, control step by control step.

use nalgebra::{Matrix3, Vector3};
use rand::RngExt;

use super::chain::{Heading, Wanted};
use super::compiled::{Place3, Step, What, facing_axes, level_direction};
use super::hand::{Aim, Hand, Look};
use super::lookup::Joint;
use super::{Axes, Path};
use crate::demos::ik::{Pose, rotation, rotation_vector};
use crate::rng::Stream;
use crate::sim::Physics;

/// The hand may be this far behind its reference before that waits: so many steps of its own, but at least some m.
const LAG: (f64, f64) = (3.0, 0.04);
/// Joints may be this far behind their reference before that waits, steps of its own.
const JOINT_LAG: f64 = 1.25;
/// Time that the reference waits at most, s.
const PATIENCE: f64 = 0.4;
/// Time that the hand has to arrive after its reference, s, where the stretch has no limit of its own.
const SETTLING: f64 = 0.6;
/// A hand nearer to a joint's axis than this moves as if it were so far from it, m.
const LEAST_RADIUS: f64 = 0.03;
/// What is pushed may take so many times as long as its way at full speed, where the stretch has no limit.
const DETOUR: f64 = 4.0;

/// What is fixed for all attempts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Length of a control step, s.
    pub period: f64,
    /// Speed at which the hand turns, rad/s.
    pub turning: f64,
    /// Most that a joint moves, rad/s or m/s.
    pub joint_speed: f64,
    /// Scale of all spreads.
    pub variety: f64,
    /// Factor on speeds.
    pub speed: f64,
}

/// Where a skill has got to.
#[derive(Debug)]
pub(super) struct Walker {
    at: usize,
    progress: Option<Progress>,
    reference: Pose,
    heading: Heading,
    weight: f64,
    /// Where in the skill the posture stands that counts.
    posture_of: Option<usize>,
    grip: f64,
    /// The first step whose time passed before it came to its end.
    late: Option<usize>,
}

/// How a control step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// The action is written.
    Acts,
    /// All is done.
    Done,
    /// The fingers hold nothing.
    Missed,
}

#[derive(Debug)]
struct Progress {
    /// Control steps so far.
    ticks: usize,
    /// Steps that the reference has waited.
    waited: usize,
    /// Steps since the reference has arrived.
    arrived: usize,
    /// Steps at the end.
    held: usize,
    /// The time passed before the end was reached.
    late: bool,
    /// The drawn part of the end, m.
    shift: Vector3<f64>,
    motion: Motion,
}

#[derive(Debug)]
enum Motion {
    /// Straight to a place; none for one that is followed.
    Line {
        to: Option<Vector3<f64>>,
        axes: Matrix3<f64>,
    },
    /// Straight in joint space.
    Joints {
        from: Vec<f64>,
        to: Vec<f64>,
        pose: Pose,
        steps: usize,
        step: usize,
        waited: usize,
    },
    /// With a joint.
    Along(Along),
    /// Behind a thing.
    Steer { limit: usize },
    /// At rest, so many steps.
    Rest(usize),
}

#[derive(Debug)]
struct Along {
    start: Pose,
    axis: Vector3<f64>,
    anchor: Vector3<f64>,
    from: f64,
    /// Where the reference is, position of the joint.
    at: f64,
    to: f64,
    turns: f64,
    /// Rotation to the facing at the end.
    turn: Vector3<f64>,
    /// m per unit of the joint.
    radius: f64,
}

impl Along {
    /// Pose of the hand with the joint at `at`.
    fn pose(&self, at: f64, slides: bool) -> Pose {
        let moved = at - self.from;
        let whole = self.to - self.from;
        let part = if whole == 0.0 { 1.0 } else { moved / whole };
        let turned = rotation(&(self.turn * part)) * self.start.axes;
        if slides {
            return Pose {
                position: self.start.position + self.axis * moved,
                axes: turned,
            };
        }
        let arm = self.start.position - self.anchor;
        Pose {
            position: self.anchor + rotation(&(self.axis * moved)) * arm,
            axes: rotation(&(self.axis * moved * self.turns)) * turned,
        }
    }
}

impl Walker {
    /// A hand at rest in this state, with this in its fingers.
    pub fn new(hand: &dyn Hand, physics: &Physics, grip: f64) -> Self {
        Self {
            at: 0,
            progress: None,
            reference: hand.tool().pose(physics),
            heading: Heading::Free,
            weight: 0.0,
            posture_of: None,
            grip,
            late: None,
        }
    }

    /// The step that it is at.
    pub fn step(&self) -> usize {
        self.at
    }

    /// Where a skill that ended in this way came to grief, as far as can be told: the step, and what went wrong there.
    pub fn trouble(&self, ended: Walk) -> Option<(usize, &'static str)> {
        match ended {
            Walk::Missed => Some((self.at, "held nothing")),
            Walk::Done => self.late.map(|step| (step, "ran out of time")),
            Walk::Acts => None,
        }
    }

    /// Begins with the first step of a skill, from where the hand is.
    pub fn restart(&mut self, hand: &mut dyn Hand, physics: &Physics) {
        hand.begin(physics);
        *self = Self::new(hand, physics, self.grip);
    }

    /// The next control step: writes the action.
    pub fn walk(
        &mut self,
        steps: &[Step],
        hand: &mut dyn Hand,
        look: Look,
        pace: &Pace,
        rng: &mut Stream,
        action: &mut [f64],
    ) -> Walk {
        while let Some(step) = steps.get(self.at) {
            if let What::Holds(width) = step.what {
                if look.fingers < width {
                    return Walk::Missed;
                }
                self.at += 1;
                continue;
            }
            let mut progress = match self.progress.take() {
                Some(progress) => progress,
                None => self.begin(step, hand, look, pace, rng),
            };
            if self.advance(step, &mut progress, hand, look, pace) {
                if progress.late {
                    self.late.get_or_insert(self.at);
                }
                self.at += 1;
                continue;
            }
            progress.ticks += 1;
            let joints = match &progress.motion {
                Motion::Joints {
                    from, to, steps, step, ..
                } => {
                    let part = *step as f64 / *steps as f64;
                    Some(
                        from.iter()
                            .zip(to)
                            .map(|(from, to)| from + (to - from) * part)
                            .collect::<Vec<f64>>(),
                    )
                }
                _ => None,
            };
            let aim = Aim {
                wanted: self.wanted(),
                joints: joints.as_deref(),
                posture: self.posture(steps),
                grip: self.grip,
            };
            hand.act(&aim, look, action);
            self.progress = Some(progress);
            return Walk::Acts;
        }
        Walk::Done
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            pose: self.reference,
            heading: self.heading,
            weight: self.weight,
        }
    }

    fn posture<'s>(&self, steps: &'s [Step]) -> &'s [f64] {
        let step = self.posture_of.and_then(|place| steps.get(place));
        step.map_or(&[], |step| &step.posture)
    }

    fn begin(&mut self, step: &Step, hand: &mut dyn Hand, look: Look, pace: &Pace, rng: &mut Stream) -> Progress {
        let mut draw = |spread: f64| pace.variety * spread * rng.random_range(-1.0..1.0);
        let shift = Vector3::from_fn(|_, _| draw(step.spread));
        let turned = Vector3::from_fn(|_, _| draw(step.facing.as_ref().map_or(0.0, |facing| facing.spread)));
        if !step.posture.is_empty() {
            self.posture_of = Some(self.at);
        }
        if self.heading == Heading::Free {
            // Nobody has looked after them.
            self.reference.axes = hand.tool().pose(look.physics).axes;
        }
        let mut axes = self.reference.axes;
        if let Some(facing) = &step.facing {
            (axes, self.heading) = facing_axes(facing, &turned, &self.reference.axes);
            self.weight = facing.weight;
        }
        let motion = self.motion(step, axes, shift, hand, look, pace);
        Progress {
            ticks: 0,
            waited: 0,
            arrived: 0,
            held: 0,
            late: false,
            shift,
            motion,
        }
    }

    fn motion(
        &self,
        step: &Step,
        axes: Matrix3<f64>,
        shift: Vector3<f64>,
        hand: &mut dyn Hand,
        look: Look,
        pace: &Pace,
    ) -> Motion {
        let physics = look.physics;
        let line = |to| Motion::Line { to: Some(to), axes };
        let rest = |time: f64| Motion::Rest((time / pace.period).ceil() as usize);
        match &step.what {
            What::Go(target, path) => {
                let to = target.position(physics, &self.reference) + shift;
                let pose = Pose { position: to, axes };
                match path {
                    Path::Joints => self.joints(step, pose, hand, physics, pace).unwrap_or_else(|| line(to)),
                    Path::Line if target.follow => Motion::Line { to: None, axes },
                    Path::Line => line(to),
                }
            }
            What::By(by, of) => {
                let by = match of {
                    Axes::World => *by,
                    Axes::Own => self.reference.axes * by,
                };
                line(self.reference.position + by + shift)
            }
            What::Carry { thing, to } => {
                let held = hand.tool().pose(physics).position - thing_at(*thing, hand, physics);
                line(to.position(physics, &self.reference) + held + shift)
            }
            What::Along { joint, to, turns } => Motion::Along(self.along(*joint, *to, *turns, axes, physics)),
            What::Steer { thing, to, .. } => {
                let hand = &self.reference;
                let way = (to.position(physics, hand) - thing.position(physics, hand)).norm();
                let time = DETOUR * way / (step.speed * pace.speed) + 2.0;
                Motion::Steer {
                    limit: (step.limit.unwrap_or(time) / pace.period).ceil() as usize,
                }
            }
            What::Grip { time, .. } | What::Wait(time) => rest(*time),
            What::Holds(_) => Motion::Rest(0),
        }
    }

    /// The way straight in joint space; none for hands without joints.
    fn joints(&self, step: &Step, pose: Pose, hand: &mut dyn Hand, physics: &Physics, pace: &Pace) -> Option<Motion> {
        let from = hand.joints(physics)?;
        let wanted = Wanted { pose, ..self.wanted() };
        let to = hand.joints_at(physics, &wanted, &step.posture)?;
        let farthest = from
            .iter()
            .zip(&to)
            .fold(0.0, |most: f64, (from, to)| most.max((to - from).abs()));
        let way = (pose.position - self.reference.position).norm() / step.speed;
        let time = way.max(farthest / pace.joint_speed) / pace.speed;
        Some(Motion::Joints {
            from,
            to,
            pose,
            steps: ((time / pace.period).ceil() as usize).max(1),
            step: 0,
            waited: 0,
        })
    }

    fn along(&self, joint: Joint, to: f64, turns: f64, axes: Matrix3<f64>, physics: &Physics) -> Along {
        let vector = |values: &[[f64; 3]]| {
            values
                .get(joint.id)
                .map_or_else(Vector3::zeros, |at| Vector3::from(*at))
        };
        let (axis, anchor) = (vector(physics.xaxis()), vector(physics.xanchor()));
        let from = physics.qpos().get(joint.position).copied().unwrap_or(0.0);
        let arm = self.reference.position - anchor;
        let radius = if joint.slides {
            1.0
        } else {
            arm.cross(&axis).norm().max(LEAST_RADIUS)
        };
        Along {
            start: self.reference,
            turn: rotation_vector(&(axes * self.reference.axes.transpose())),
            axis,
            anchor,
            from,
            at: from,
            to,
            turns,
            radius,
        }
    }

    /// Moves the reference by one step; tells if the step of the skill is over.
    fn advance(&mut self, step: &Step, progress: &mut Progress, hand: &dyn Hand, look: Look, pace: &Pace) -> bool {
        let physics = look.physics;
        let tool = hand.tool().pose(physics);
        let ticks = |time: f64| (time / pace.period).ceil() as usize;
        if step.limit.is_some_and(|limit| progress.ticks >= ticks(limit)) {
            progress.late = true;
            return true;
        }
        let stride = step.speed * pace.speed * pace.period;
        let behind = (self.reference.position - tool.position).norm();
        let waits = behind > (LAG.0 * stride).max(LAG.1) && progress.waited < ticks(PATIENCE);
        progress.waited = if waits { progress.waited + 1 } else { 0 };
        let turn = pace.turning * pace.speed * pace.period;
        let mut near = |missing: f64| {
            // The reference is at the end: is the hand?
            progress.arrived += 1;
            let patient = step.limit.is_some() || progress.arrived <= ticks(SETTLING);
            if missing > step.tolerance && patient {
                return false;
            }
            progress.late |= missing > step.tolerance;
            progress.held += 1;
            progress.held > ticks(step.hold)
        };
        match &mut progress.motion {
            Motion::Rest(left) => {
                if let What::Grip { to, .. } = step.what {
                    self.grip = to;
                }
                if *left == 0 {
                    return true;
                }
                *left -= 1;
                false
            }
            Motion::Line { to, axes } => {
                let position = match (*to, &step.what) {
                    (None, What::Go(target, _)) => target.position(physics, &self.reference) + progress.shift,
                    (to, _) => to.unwrap_or(self.reference.position),
                };
                let arrived = self.is_at(position, axes);
                if arrived {
                    self.reference.position = position;
                    return near((position - tool.position).norm());
                }
                if !waits {
                    self.approach(position, axes, stride, turn);
                }
                false
            }
            Motion::Joints {
                from,
                to,
                pose,
                steps,
                step: done,
                waited,
            } => {
                if *done == *steps {
                    self.reference = *pose;
                    return near((pose.position - tool.position).norm());
                }
                let part = *done as f64 / *steps as f64;
                let at = hand.joints(physics).unwrap_or_default();
                let lags = at.iter().zip(from.iter().zip(to.iter()));
                let lag = lags.fold(0.0, |most: f64, (at, (from, to))| {
                    most.max((from + (to - from) * part - at).abs())
                });
                if lag > JOINT_LAG * pace.joint_speed * pace.period && *waited < ticks(PATIENCE) {
                    *waited += 1;
                } else {
                    *done += 1;
                    *waited = 0;
                }
                false
            }
            Motion::Along(along) => {
                let What::Along { joint, .. } = step.what else {
                    return true;
                };
                let at = physics.qpos().get(joint.position).copied().unwrap_or(0.0);
                let end = along.pose(along.to, joint.slides);
                let left = along.to - along.at;
                if left == 0.0 {
                    self.reference = end;
                    return near((along.to - at).abs() * along.radius);
                }
                if !waits {
                    let mut most = stride / along.radius;
                    let turned = along.turns.abs() + along.turn.norm() / (along.to - along.from).abs().max(1e-9);
                    if turned > 0.0 && !joint.slides {
                        most = most.min(turn / turned);
                    }
                    along.at = if left.abs() <= most {
                        along.to
                    } else {
                        along.at + most.copysign(left)
                    };
                }
                self.reference = along.pose(along.at, joint.slides);
                false
            }
            Motion::Steer { limit } => {
                let What::Steer {
                    thing,
                    to,
                    contact,
                    aside,
                } = step.what
                else {
                    return true;
                };
                let (thing, to) = (thing.position(physics, &tool), to.position(physics, &tool));
                let left = to - thing;
                if left.xy().norm() < step.tolerance || progress.ticks >= *limit {
                    progress.held += 1;
                    progress.late |= left.xy().norm() >= step.tolerance;
                    self.reference.position.x = tool.position.x;
                    self.reference.position.y = tool.position.y;
                    return progress.held > ticks(step.hold);
                }
                self.steer(thing, to, contact, aside, &tool, stride);
                false
            }
        }
    }

    fn is_at(&self, position: Vector3<f64>, axes: &Matrix3<f64>) -> bool {
        (position - self.reference.position).norm() < 1e-9 && (axes - self.reference.axes).norm() < 1e-9
    }

    /// Moves the reference towards a pose, so that position and orientation arrive together.
    fn approach(&mut self, position: Vector3<f64>, axes: &Matrix3<f64>, stride: f64, turn: f64) {
        let way = position - self.reference.position;
        let turned = rotation_vector(&(axes * self.reference.axes.transpose()));
        let share = (stride / way.norm().max(1e-12)).min(turn / turned.norm().max(1e-12));
        if share >= 1.0 {
            self.reference = Pose { position, axes: *axes };
        } else {
            self.reference.position += way * share;
            self.reference.axes = rotation(&(turned * share)) * self.reference.axes;
        }
    }

    /// Sends the hand behind `thing`, and on towards `to` as far as it is there.
    fn steer(&mut self, thing: Vector3<f64>, to: Vector3<f64>, contact: f64, aside: f64, tool: &Pose, stride: f64) {
        let ahead = level_direction(thing, to);
        let left = Vector3::new(-ahead.y, ahead.x, 0.0);
        let from_thing = tool.position - thing;
        let off = left.dot(&from_thing);
        let gap = -ahead.dot(&from_thing) - contact;
        // Behind the thing it comes up to it and pushes; beside it the hand backs off, so as not to push it askew.
        let straight = (1.0 - off.abs() / aside).clamp(-1.0, 1.0);
        let forward = if gap > stride { stride } else { stride * straight };
        let sideways = (-1.5 * off).clamp(-stride, stride);
        let height = self.reference.position.z;
        self.reference.position = tool.position + ahead * forward + left * sideways;
        self.reference.position.z = height;
    }
}

fn thing_at(thing: Place3, hand: &dyn Hand, physics: &Physics) -> Vector3<f64> {
    thing.position(physics, &hand.tool().pose(physics))
}
