//! Conditions: what can be true of a state.
//!
//! Every condition is a distance and a threshold: it holds while the distance is below the threshold.
//!
//! | condition | distance | threshold |
//! |---|---|---|
//! | `Near` | between the two places, m | `within` |
//! | `Inside` a sphere | from the centre, m | `radius` |
//! | `Inside` a box | how far outside, m | above 0 |
//! | `Joint`, `Height`, `Slow`, `Sensor` | how far above or below the bounds | above 0 |
//! | `Upright`, `Aligned` | angle, degrees | `within` |
//! | `Contact` | 0 if they touch, otherwise 1 | 0.5 |
//! | `All` | how many do not hold | 0.5 |
//! | `Any`, `Not` | 0 if it holds, otherwise 1 | 0.5 |

use bevy::math::DVec3;
use mujoco_rs::wrappers::mj_model::{MjtJoint, MjtObjBase};
use serde::{Deserialize, Serialize};

use super::SceneError;
use super::observation::{joint_unit, sensor_unit};
use super::place::{CompiledContact, CompiledPlace, CompiledZone, Data, Place, Thing, Zone};
use super::resolve::{Resolver, invalid};

/// Something that is true of a state or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Condition {
    /// A place is near another one: `|of - to| < within`.
    Near {
        /// The place.
        of: Place,
        /// The other one.
        to: Place,
        /// Distance, m.
        within: f64,
    },
    /// A hinge (rad) or slide (m) joint is at `above` or more, and at `below` or less.
    Joint {
        /// The joint.
        joint: String,
        /// The least position.
        #[serde(default)]
        above: Option<f64>,
        /// The largest position.
        #[serde(default)]
        below: Option<f64>,
    },
    /// The z coordinate of a place is `above` or more, and `below` or less.
    Height {
        /// The place.
        of: Place,
        /// The least height, m.
        #[serde(default)]
        above: Option<f64>,
        /// The largest height, m.
        #[serde(default)]
        below: Option<f64>,
    },
    /// The first number of a sensor is `above` or more, and `below` or less.
    Sensor {
        /// The sensor.
        sensor: String,
        /// The least number.
        #[serde(default)]
        above: Option<f64>,
        /// The largest number.
        #[serde(default)]
        below: Option<f64>,
    },
    /// A place moves at `below` or less.
    Slow {
        /// The place.
        of: Place,
        /// Speed, m/s.
        below: f64,
    },
    /// A place is inside a zone.
    Inside {
        /// The place.
        of: Place,
        /// The zone.
        zone: Zone,
    },
    /// The z axis of a place is tilted away from the world's by less than an angle.
    Upright {
        /// The place.
        of: Place,
        /// Angle, degrees.
        within: f64,
    },
    /// The axes of two places differ by a rotation of less than an angle.
    Aligned {
        /// The place.
        of: Place,
        /// The other one.
        to: Place,
        /// Angle, degrees.
        within: f64,
    },
    /// Two things touch.
    Contact {
        /// The two.
        between: (Thing, Thing),
    },
    /// All of these hold.
    All(Vec<Condition>),
    /// At least one of these holds.
    Any(Vec<Condition>),
    /// This does not hold.
    Not(Box<Condition>),
}

/// A resolved [`Condition`].
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledCondition {
    kind: Kind,
    threshold: f64,
    unit: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Near(CompiledPlace, CompiledPlace),
    /// Index into `qpos`.
    Joint(usize, Bounds),
    Height(CompiledPlace, Bounds),
    /// Index into `sensordata`.
    Sensor(usize, Bounds),
    Slow(CompiledPlace, Bounds),
    Outside(CompiledPlace, CompiledZone),
    Upright(CompiledPlace),
    Aligned(CompiledPlace, CompiledPlace),
    Contact(CompiledContact),
    All(Vec<CompiledCondition>),
    Any(Vec<CompiledCondition>),
    Not(Box<CompiledCondition>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Bounds {
    above: f64,
    below: f64,
}

impl Bounds {
    /// How far a value is outside.
    fn excess(self, value: f64) -> f64 {
        (self.above - value).max(value - self.below).max(0.0)
    }
}

/// Below this is only zero.
const ABOVE_ZERO: f64 = f64::MIN_POSITIVE;
/// For what is 0, 1 and so on.
const HALF: f64 = 0.5;

impl CompiledCondition {
    /// Whether it holds.
    pub fn holds(&self, data: &Data) -> bool {
        self.distance(data, DVec3::ZERO) < self.threshold
    }

    /// How far the state is from it, in [`Self::unit`]; see the table of conditions. `shift` moves the target of `Near`, m.
    pub fn distance(&self, data: &Data, shift: DVec3) -> f64 {
        let holds = |condition: &Self| condition.holds(data);
        match &self.kind {
            Kind::Near(of, to) => of.position(data).distance(to.position(data) + shift),
            Kind::Joint(index, bounds) => bounds.excess(data.qpos()[*index]),
            Kind::Height(of, bounds) => bounds.excess(of.position(data).z),
            Kind::Sensor(index, bounds) => bounds.excess(data.sensordata()[*index]),
            Kind::Slow(of, bounds) => bounds.excess(of.velocity(data).0.length()),
            Kind::Outside(of, zone) => zone.distance(of.position(data), data),
            Kind::Upright(of) => degrees(of.axes(data).z_axis.z),
            Kind::Aligned(of, to) => {
                let turned = to.axes(data).transpose() * of.axes(data);
                let trace = turned.x_axis.x + turned.y_axis.y + turned.z_axis.z;
                degrees((trace - 1.0) / 2.0)
            }
            Kind::Contact(contact) => flag(contact.touches(data)),
            Kind::All(conditions) => conditions.iter().filter(|one| !holds(one)).count() as f64,
            Kind::Any(conditions) => flag(conditions.iter().any(holds)),
            Kind::Not(condition) => flag(!holds(condition)),
        }
    }

    /// It holds while the distance is below this.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// What the distance is measured in; empty for numbers of things.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// The point to bring something to, if it is about one: the other place of `Near`, the centre of a zone.
    pub fn target(&self) -> Option<CompiledPlace> {
        match &self.kind {
            Kind::Near(_, to) => Some(*to),
            Kind::Outside(_, zone) => Some(zone.centre),
            _ => None,
        }
    }

    /// Whether the target can be drawn.
    pub(super) fn has_drawn_target(&self) -> bool {
        matches!(self.kind, Kind::Near(..))
    }

    /// What has to be up to date.
    pub(super) fn reads(&self) -> Reads {
        match &self.kind {
            Kind::Joint(..) | Kind::Sensor(..) => Reads::default(),
            Kind::Contact(_) => Reads::CONTACTS,
            Kind::All(conditions) | Kind::Any(conditions) => conditions.iter().map(Self::reads).collect(),
            Kind::Not(condition) => condition.reads(),
            _ => Reads::POSES,
        }
    }
}

/// Angle whose cosine is given, degrees.
fn degrees(cosine: f64) -> f64 {
    cosine.clamp(-1.0, 1.0).acos().to_degrees()
}

/// Distance of what holds or not.
fn flag(holds: bool) -> f64 {
    if holds { 0.0 } else { 1.0 }
}

/// What terms of a scene read besides the state itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reads {
    /// Positions or velocities of bodies, geoms or sites.
    pub poses: bool,
    /// Contacts, forces or sensors.
    pub contacts: bool,
}

impl Reads {
    pub(super) const POSES: Self = Self {
        poses: true,
        contacts: false,
    };
    pub(super) const CONTACTS: Self = Self {
        poses: false,
        contacts: true,
    };
}

impl FromIterator<Reads> for Reads {
    fn from_iter<T: IntoIterator<Item = Reads>>(all: T) -> Self {
        all.into_iter().fold(Self::default(), |sum, one| Self {
            poses: sum.poses || one.poses,
            contacts: sum.contacts || one.contacts,
        })
    }
}

impl Resolver<'_> {
    /// Resolves a condition; `field` is where it stands.
    pub(super) fn condition(&self, condition: &Condition, field: &str) -> Result<CompiledCondition, SceneError> {
        let place = |place, name: &str| self.place(place, &format!("{field}.{name}"));
        let within = |value: f64, most: f64, what: &str| {
            if value > 0.0 && value <= most {
                Ok(value)
            } else {
                Err(invalid(format!("{field}.within"), format!("must be {what}")))
            }
        };
        let distance = |value| within(value, f64::MAX, "a positive number");
        let angle = |value| within(value, 180.0, "an angle from 0 to 180 degrees");
        let (kind, threshold, unit) = match condition {
            Condition::Near { of, to, within } => {
                (Kind::Near(place(of, "of")?, place(to, "to")?), distance(*within)?, "m")
            }
            Condition::Joint { joint, above, below } => {
                let (position, unit) = self.single_joint(joint, &format!("{field}.joint"))?;
                (Kind::Joint(position, bounds(*above, *below, field)?), ABOVE_ZERO, unit)
            }
            Condition::Height { of, above, below } => {
                let bounds = bounds(*above, *below, field)?;
                (Kind::Height(place(of, "of")?, bounds), ABOVE_ZERO, "m")
            }
            Condition::Sensor { sensor, above, below } => {
                let id = self.id(MjtObjBase::mjOBJ_SENSOR, "sensor", sensor, &format!("{field}.sensor"))?;
                let address = self.model.sensor_adr()[id] as usize;
                let bounds = bounds(*above, *below, field)?;
                (Kind::Sensor(address, bounds), ABOVE_ZERO, sensor_unit(self.model, id))
            }
            Condition::Slow { of, below } => {
                let bounds = bounds(None, Some(*below), field)?;
                if *below < 0.0 {
                    return Err(invalid(format!("{field}.below"), "must not be negative"));
                }
                (Kind::Slow(place(of, "of")?, bounds), ABOVE_ZERO, "m/s")
            }
            Condition::Inside { of, zone } => {
                let (of, compiled) = (place(of, "of")?, self.zone(zone, &format!("{field}.zone"))?);
                match zone {
                    Zone::Sphere { radius, .. } => (Kind::Near(of, compiled.centre), *radius, "m"),
                    Zone::Box { .. } => (Kind::Outside(of, compiled), ABOVE_ZERO, "m"),
                }
            }
            Condition::Upright { of, within } => (Kind::Upright(place(of, "of")?), angle(*within)?, "deg"),
            Condition::Aligned { of, to, within } => (
                Kind::Aligned(place(of, "of")?, place(to, "to")?),
                angle(*within)?,
                "deg",
            ),
            Condition::Contact { between } => (
                Kind::Contact(self.contact(between, &format!("{field}.between"))?),
                HALF,
                "",
            ),
            Condition::All(conditions) => (Kind::All(self.conditions(conditions, &format!("{field}.0"))?), HALF, ""),
            Condition::Any(conditions) => (Kind::Any(self.conditions(conditions, &format!("{field}.0"))?), HALF, ""),
            Condition::Not(condition) => (Kind::Not(Box::new(self.condition(condition, field)?)), HALF, ""),
        };
        Ok(CompiledCondition { kind, threshold, unit })
    }

    fn conditions(&self, conditions: &[Condition], field: &str) -> Result<Vec<CompiledCondition>, SceneError> {
        if conditions.is_empty() {
            return Err(invalid(field, "must list at least one condition"));
        }
        let conditions = conditions.iter().enumerate();
        conditions
            .map(|(at, condition)| self.condition(condition, &format!("{field}.{at}")))
            .collect()
    }

    /// Index into `qpos` and unit of a joint with one number.
    pub(super) fn single_joint(&self, name: &str, field: &str) -> Result<(usize, &'static str), SceneError> {
        let id = self.id(MjtObjBase::mjOBJ_JOINT, "joint", name, field)?;
        match self.model.jnt_type()[id] {
            MjtJoint::mjJNT_SLIDE | MjtJoint::mjJNT_HINGE => {
                let address = self.model.jnt_qposadr()[id] as usize;
                Ok((address, joint_unit(self.model, id, 0)))
            }
            _ => Err(invalid(
                field,
                format!("expected a hinge or slide joint, {name:?} is neither"),
            )),
        }
    }
}

fn bounds(above: Option<f64>, below: Option<f64>, field: &str) -> Result<Bounds, SceneError> {
    if above.is_none() && below.is_none() {
        return Err(invalid(field, "expected `above` or `below` or both"));
    }
    let bounds = Bounds {
        above: above.unwrap_or(f64::NEG_INFINITY),
        below: below.unwrap_or(f64::INFINITY),
    };
    if bounds.above <= bounds.below {
        Ok(bounds)
    } else {
        let place = if above.is_some() { "above" } else { "below" };
        Err(invalid(
            format!("{field}.{place}"),
            "no number is above and below these bounds",
        ))
    }
}
