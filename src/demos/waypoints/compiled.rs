//! Stretches with every name resolved and every default filled in.

use std::sync::Arc;

use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use nalgebra::{Matrix3, Vector3};

use super::chain::Heading;
use super::lookup::{self, Joint};
use super::stretch::Manner;
use super::{Axes, Beyond, Facing, Grasp, Move, Path, Place, Pull, Push, Reach, Spot, Steer, Stretch, Turn};
use super::{GripperSpec, WaypointDemos};
use crate::demos::DemoError;
use crate::demos::ik::Pose;
use crate::sim::Physics;

/// Something that is done without anything else in between. A [`Stretch`] is one or a few of them.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub what: What,
    /// m/s.
    pub speed: f64,
    /// m.
    pub tolerance: f64,
    /// s, where the file says.
    pub limit: Option<f64>,
    /// m.
    pub spread: f64,
    pub facing: Option<Facing>,
    pub posture: Vec<f64>,
    /// s.
    pub hold: f64,
    /// Place of its stretch in the list.
    pub place: usize,
    /// Kind of its stretch, as the file has it.
    pub kind: &'static str,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    /// To a place.
    Go(Target, Path),
    /// By a way.
    By(Vector3<f64>, Axes),
    /// With what is held to a place.
    Carry { thing: Place3, to: Target },
    /// Along with a joint, to its position.
    Along { joint: Joint, to: f64, turns: f64 },
    /// Pushes a thing.
    Steer {
        thing: Place3,
        to: Place3,
        contact: f64,
        aside: f64,
    },
    /// Moves the fingers, and waits so long, s.
    Grip { to: f64, time: f64 },
    /// Goes on only if the fingers are at least so far open together.
    Holds(f64),
    /// Stays, s.
    Wait(f64),
}

impl What {
    /// Whether the hand moves.
    fn moves(&self) -> bool {
        !matches!(self, Self::Grip { .. } | Self::Holds(_) | Self::Wait(_))
    }
}

/// A place with its offsets.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub spot: Place3,
    pub offset: Vector3<f64>,
    pub axes: Axes,
    pub beyond: Option<(Place3, f64)>,
    pub follow: bool,
}

/// A resolved [`Spot`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place3 {
    Site(usize),
    Body(usize),
    Point(Vector3<f64>),
    Here,
}

impl Place3 {
    /// Where it is; `hand` is the hand's reference.
    pub fn position(self, physics: &Physics, hand: &Pose) -> Vector3<f64> {
        match self {
            Self::Site(id) => physics.site_xpos().get(id).map(|at| Vector3::from(*at)),
            Self::Body(id) => physics.xpos().get(id).map(|at| Vector3::from(*at)),
            Self::Point(at) => Some(at),
            Self::Here => Some(hand.position),
        }
        .unwrap_or_else(Vector3::zeros)
    }

    fn axes(self, physics: &Physics, hand: &Pose) -> Matrix3<f64> {
        match self {
            Self::Site(id) => physics.site_xmat().get(id).map(|axes| Matrix3::from_row_slice(axes)),
            Self::Body(id) => physics.xmat().get(id).map(|axes| Matrix3::from_row_slice(axes)),
            Self::Point(_) => None,
            Self::Here => Some(hand.axes),
        }
        .unwrap_or_else(Matrix3::identity)
    }
}

impl Target {
    /// Where the hand should be.
    pub fn position(&self, physics: &Physics, hand: &Pose) -> Vector3<f64> {
        let at = self.spot.position(physics, hand);
        let offset = match self.axes {
            Axes::World => self.offset,
            Axes::Own => self.spot.axes(physics, hand) * self.offset,
        };
        let away = self.beyond.map_or_else(Vector3::zeros, |(from, by)| {
            level_direction(from.position(physics, hand), at) * by
        });
        at + offset + away
    }
}

/// The horizontal direction from one point to another; none (zero) where they are above each other.
pub(super) fn level_direction(from: Vector3<f64>, to: Vector3<f64>) -> Vector3<f64> {
    let way = Vector3::new(to.x - from.x, to.y - from.y, 0.0);
    let length = way.norm();
    if length < 1e-9 { Vector3::zeros() } else { way / length }
}

/// Where a hand that faces like this points, starting from these axes, and how much of it counts.
pub(super) fn facing_axes(facing: &Facing, turned: &Vector3<f64>, from: &Matrix3<f64>) -> (Matrix3<f64>, Heading) {
    let vector = |(x, y, z): (f64, f64, f64)| Vector3::new(x, y, z);
    let turn = crate::demos::ik::rotation(turned);
    let approach = vector(facing.approach).normalize();
    match facing.fingers {
        Some(fingers) => {
            let fingers = vector(fingers);
            let y = (fingers - approach * approach.dot(&fingers)).normalize();
            let axes = Matrix3::from_columns(&[y.cross(&approach), y, approach]);
            (turn * axes, Heading::Full)
        }
        None => {
            let approach = turn * approach;
            let least = super::chain::between(&from.column(2).into(), &approach);
            (crate::demos::ik::rotation(&least) * from, Heading::Approach)
        }
    }
}

/// Resolves the stretches of a skill; `field` is where they stand.
pub(super) fn steps(
    stretches: &[Stretch],
    config: &WaypointDemos,
    model: &Arc<MjModel>,
    field: &str,
    joints: usize,
) -> Result<Vec<Step>, DemoError> {
    let mut steps = Vec::new();
    for (place, stretch) in stretches.iter().enumerate() {
        let field = format!("{field}.{place}");
        let compiler = Compiler {
            config,
            model,
            field: &field,
            place,
        };
        let manner = stretch.manner().unwrap_or_default();
        if !(manner.posture.is_empty() || manner.posture.len() == joints) {
            let problem = format!(
                "expected as many numbers as joints are driven, {joints}, found {}",
                manner.posture.len()
            );
            return Err(super::wrong(&format!("{field}.posture"), problem));
        }
        compiler.add(stretch, &manner, &mut steps)?;
    }
    // From then on the hand keeps facing as it did.
    if let Some(first) = steps.iter_mut().find(|step| step.what.moves()) {
        first.facing = first.facing.take().or_else(|| config.facing.clone());
    }
    Ok(steps)
}

struct Compiler<'a> {
    config: &'a WaypointDemos,
    model: &'a Arc<MjModel>,
    field: &'a str,
    /// Place of the stretch in its list.
    place: usize,
}

impl Compiler<'_> {
    fn add(&self, stretch: &Stretch, manner: &Manner, steps: &mut Vec<Step>) -> Result<(), DemoError> {
        let mut then = |what| steps.push(self.step(what, manner, stretch.kind()));
        match stretch {
            Stretch::Reach(Reach {
                to,
                offset,
                axes,
                beyond,
                follow,
                path,
                ..
            }) => {
                let mut target = self.target("to", to, *offset, *axes, *follow)?;
                if let Some(Beyond { from, by }) = beyond {
                    target.beyond = Some((self.spot("beyond.from", from)?, *by));
                }
                then(What::Go(target, *path));
            }
            Stretch::Move(Move { by, axes, .. }) => then(What::By(vector(*by), *axes)),
            Stretch::Grasp(Grasp {
                at,
                offset,
                axes,
                follow,
                holds,
                ..
            }) => {
                let gripper = self.gripper()?;
                then(What::Go(self.target("at", at, *offset, *axes, *follow)?, Path::Line));
                then(grip(gripper.closed, None, gripper));
                if let Some(width) = self.held(*holds, gripper)? {
                    then(What::Holds(width));
                }
            }
            Stretch::Place(Place {
                thing,
                at,
                offset,
                axes,
                ..
            }) => {
                let gripper = self.gripper()?;
                let thing = thing.as_ref().map(|thing| self.spot("thing", thing)).transpose()?;
                then(What::Carry {
                    thing: thing.unwrap_or(Place3::Here),
                    to: self.target("at", at, *offset, *axes, false)?,
                });
                then(grip(gripper.open, None, gripper));
            }
            Stretch::Pull(Pull {
                joint, to, turns, by, ..
            })
            | Stretch::Push(Push {
                joint, to, turns, by, ..
            }) => match by {
                Some(by) => then(What::By(vector(*by), Axes::World)),
                None => then(self.along(joint, *to, *turns)?),
            },
            Stretch::Turn(Turn { joint, to, .. }) => then(self.along(joint, *to, 1.0)?),
            Stretch::Steer(Steer {
                thing,
                to,
                contact,
                aside,
                ..
            }) => then(What::Steer {
                thing: self.spot("thing", thing)?,
                to: self.spot("to", to)?,
                contact: *contact,
                aside: *aside,
            }),
            Stretch::Open(open) => {
                let gripper = self.gripper()?;
                then(grip(gripper.open, open.time, gripper));
            }
            Stretch::Close(close) => {
                let gripper = self.gripper()?;
                then(grip(gripper.closed, close.time, gripper));
                if let Some(width) = self.held(close.holds, gripper)? {
                    then(What::Holds(width));
                }
            }
            Stretch::Fingers(fingers) => {
                let gripper = self.gripper()?;
                then(grip(fingers.to, fingers.time, gripper));
            }
            Stretch::Wait(wait) => then(What::Wait(wait.time)),
        }
        Ok(())
    }

    fn step(&self, what: What, manner: &Manner, kind: &'static str) -> Step {
        Step {
            what,
            speed: manner.speed.unwrap_or(self.config.speed),
            tolerance: manner.tolerance.unwrap_or(self.config.tolerance),
            limit: manner.limit,
            spread: manner.spread,
            facing: manner.facing.clone(),
            posture: manner.posture.clone(),
            hold: manner.hold,
            place: self.place,
            kind,
        }
    }

    fn gripper(&self) -> Result<&GripperSpec, DemoError> {
        self.config.gripper.as_ref().ok_or_else(|| {
            super::wrong(
                self.field,
                "this moves fingers, and `demonstrator.gripper` does not say which",
            )
        })
    }

    fn held(&self, holds: Option<f64>, gripper: &GripperSpec) -> Result<Option<f64>, DemoError> {
        if holds.is_some() && gripper.joints.is_empty() {
            let problem = "`holds` looks at the joints of the fingers, and `demonstrator.gripper.joints` names none";
            return Err(super::wrong(self.field, problem));
        }
        Ok(holds)
    }

    fn along(&self, joint: &str, to: f64, turns: f64) -> Result<What, DemoError> {
        let joint = lookup::joint(self.model, joint, &format!("{}.joint", self.field))?;
        Ok(What::Along { joint, to, turns })
    }

    fn target(
        &self,
        name: &str,
        spot: &Spot,
        offset: (f64, f64, f64),
        axes: Axes,
        follow: bool,
    ) -> Result<Target, DemoError> {
        Ok(Target {
            spot: self.spot(name, spot)?,
            offset: vector(offset),
            axes,
            beyond: None,
            follow,
        })
    }

    fn spot(&self, name: &str, spot: &Spot) -> Result<Place3, DemoError> {
        let find = |object, thing: &str| {
            let kind = if object == MjtObjBase::mjOBJ_SITE {
                "Site"
            } else {
                "Body"
            };
            lookup::id(self.model, object, thing, &format!("{}.{name}.{kind}", self.field))
        };
        Ok(match spot {
            Spot::Site(site) => Place3::Site(find(MjtObjBase::mjOBJ_SITE, site)?),
            Spot::Body(body) => Place3::Body(find(MjtObjBase::mjOBJ_BODY, body)?),
            Spot::Point(x, y, z) if (x + y + z).is_finite() => Place3::Point(Vector3::new(*x, *y, *z)),
            Spot::Point(..) => {
                let field = format!("{}.{name}", self.field);
                return Err(super::wrong(&field, "expected three finite numbers"));
            }
            Spot::Here => Place3::Here,
        })
    }
}

fn grip(to: f64, time: Option<f64>, gripper: &GripperSpec) -> What {
    What::Grip {
        to,
        time: time.unwrap_or(gripper.time),
    }
}

fn vector((x, y, z): (f64, f64, f64)) -> Vector3<f64> {
    Vector3::new(x, y, z)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_a_facing_hand_are_a_rotation() {
        let facing = Facing {
            approach: (0.2, 0.9, -0.3),
            fingers: Some((1.0, 0.1, 0.0)),
            weight: 0.3,
            spread: 0.0,
        };
        let (axes, heading) = facing_axes(&facing, &Vector3::zeros(), &Matrix3::identity());
        assert_eq!(heading, Heading::Full);
        assert!((axes * axes.transpose() - Matrix3::identity()).norm() < 1e-12);
        assert!((axes.determinant() - 1.0).abs() < 1e-12);
        let approach = Vector3::new(0.2, 0.9, -0.3).normalize();
        assert!((axes.column(2) - approach).norm() < 1e-12);
        let free = Facing {
            fingers: None,
            ..facing
        };
        let (axes, heading) = facing_axes(&free, &Vector3::zeros(), &Matrix3::identity());
        assert_eq!(heading, Heading::Approach);
        assert!((axes.column(2) - approach).norm() < 1e-9);
    }

    #[test]
    fn beyond_is_level_and_away() {
        let direction = level_direction(Vector3::new(1.0, 1.0, 5.0), Vector3::new(4.0, 5.0, -1.0));
        assert!((direction - Vector3::new(0.6, 0.8, 0.0)).norm() < 1e-12);
        assert_eq!(level_direction(Vector3::x(), Vector3::x()), Vector3::zeros());
    }
}
