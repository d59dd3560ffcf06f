//! Places and things of a model that terms are about: points with axes, zones, and what can touch.
//!
//! Positions and velocities are those of the state after the control step. What touches, and how hard, is what `MuJoCo`
//! found in its last physics step.

use std::sync::Arc;

use bevy::math::{DMat3, DVec3};
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use serde::{Deserialize, Serialize};

use super::SceneError;
use super::resolve::{Resolver, finite, invalid};

/// State of the physics.
pub(crate) type Data = MjData<Arc<MjModel>>;

/// A point in the world, with axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Place {
    /// Origin and axes of a body of the model. `Body("world")` is the origin of the world.
    Body(String),
    /// A site of the model.
    Site(String),
    /// The middle of a geom of the model.
    Geom(String),
    /// A fixed point, x, y and z in m, with the axes of the world.
    Point(f64, f64, f64),
    /// A point that is fixed to another place.
    Offset {
        /// The other place; the axes are its.
        of: Box<Place>,
        /// From that place to the point, m, in its axes.
        by: (f64, f64, f64),
    },
}

impl Place {
    /// What it is called in names of channels.
    pub fn label(&self) -> String {
        match self {
            Self::Body(name) | Self::Site(name) | Self::Geom(name) => name.clone(),
            Self::Point(x, y, z) => format!("({x}, {y}, {z})"),
            Self::Offset { of, by: (x, y, z) } => format!("{} + ({x}, {y}, {z})", of.label()),
        }
    }
}

/// A resolved [`Place`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompiledPlace {
    frame: Frame,
    /// From the frame's origin, m, in its axes.
    offset: DVec3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    World,
    Body(usize),
    Site(usize),
    Geom(usize),
}

impl CompiledPlace {
    /// Position in the world, m.
    pub fn position(&self, data: &Data) -> DVec3 {
        let origin = match self.frame {
            Frame::World => return self.offset,
            Frame::Body(id) => data.xpos()[id],
            Frame::Site(id) => data.site_xpos()[id],
            Frame::Geom(id) => data.geom_xpos()[id],
        };
        let origin = DVec3::from_array(origin);
        if self.offset == DVec3::ZERO {
            origin
        } else {
            origin + self.axes(data) * self.offset
        }
    }

    /// Its axes, as columns, in the world's.
    pub fn axes(&self, data: &Data) -> DMat3 {
        let rows = match self.frame {
            Frame::World => return DMat3::IDENTITY,
            Frame::Body(id) => &data.xmat()[id],
            Frame::Site(id) => &data.site_xmat()[id],
            Frame::Geom(id) => &data.geom_xmat()[id],
        };
        DMat3::from_cols_array(rows).transpose()
    }

    /// Velocity of the point, m/s, and angular velocity of what it is fixed to, rad/s, both in the axes of the world.
    pub fn velocity(&self, data: &Data) -> (DVec3, DVec3) {
        let (kind, id) = match self.frame {
            Frame::World => return (DVec3::ZERO, DVec3::ZERO),
            Frame::Body(id) => (MjtObjBase::mjOBJ_XBODY, id),
            Frame::Site(id) => (MjtObjBase::mjOBJ_SITE, id),
            Frame::Geom(id) => (MjtObjBase::mjOBJ_GEOM, id),
        };
        // The ids were found in this model.
        let [wx, wy, wz, vx, vy, vz] = data.try_object_velocity(kind, id, false).unwrap_or_default();
        let angular = DVec3::new(wx, wy, wz);
        (
            DVec3::new(vx, vy, vz) + angular.cross(self.axes(data) * self.offset),
            angular,
        )
    }

    /// Whether it can move.
    pub(crate) fn is_fixed(&self) -> bool {
        self.frame == Frame::World
    }
}

/// What can touch something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Thing {
    /// A geom.
    Geom(String),
    /// The geoms of a body, without those of bodies attached to it.
    Body(String),
    /// A body with everything attached to it.
    Tree(String),
    /// Whatever there is.
    Anything,
}

impl Thing {
    /// What it is called in names of channels.
    pub fn label(&self) -> &str {
        match self {
            Self::Geom(name) | Self::Body(name) | Self::Tree(name) => name,
            Self::Anything => "anything",
        }
    }
}

/// Two resolved [things](Thing), for the contacts between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledContact {
    /// For each geom of the model: whether it belongs to the first thing, and to the second.
    geoms: Vec<[bool; 2]>,
}

impl CompiledContact {
    /// Whether the two touch.
    pub fn touches(&self, data: &Data) -> bool {
        self.found(data).next().is_some()
    }

    /// Sum of the normal forces of all contacts between the two, N.
    pub fn force(&self, data: &Data) -> f64 {
        let forces = self.found(data).filter_map(|index| data.try_contact_force(index).ok());
        forces.map(|[normal, ..]| normal).sum()
    }

    /// Indices of the contacts between the two.
    fn found<'a>(&'a self, data: &'a Data) -> impl Iterator<Item = usize> + 'a {
        let side = |geom: i32| {
            let geom = usize::try_from(geom).ok();
            geom.and_then(|geom| self.geoms.get(geom)).copied().unwrap_or_default()
        };
        data.contact().iter().enumerate().filter_map(move |(index, contact)| {
            let ([first, second], [other_first, other_second]) = (side(contact.geom[0]), side(contact.geom[1]));
            let between = first && other_second || second && other_first;
            // Those further apart are in the list because of a margin.
            (between && contact.dist <= contact.includemargin).then_some(index)
        })
    }
}

/// A part of space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Zone {
    /// A box along the axes of its centre.
    Box {
        /// The middle.
        centre: Place,
        /// Half of each edge, m; `inf` for no bounds along an axis.
        half: (f64, f64, f64),
    },
    /// A ball.
    Sphere {
        /// The middle.
        centre: Place,
        /// Radius, m.
        radius: f64,
    },
}

/// A resolved [`Zone`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompiledZone {
    /// The middle.
    pub centre: CompiledPlace,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Box(DVec3),
    Sphere(f64),
}

impl CompiledZone {
    /// How far outside a point of the world is, m; 0 inside.
    pub fn distance(&self, point: DVec3, data: &Data) -> f64 {
        let from_centre = point - self.centre.position(data);
        match self.shape {
            Shape::Box(half) => {
                let own = self.centre.axes(data).transpose() * from_centre;
                (own.abs() - half).max(DVec3::ZERO).length()
            }
            Shape::Sphere(radius) => (from_centre.length() - radius).max(0.0),
        }
    }
}

impl Resolver<'_> {
    /// Resolves a place; `field` is where it stands.
    pub(super) fn place(&self, place: &Place, field: &str) -> Result<CompiledPlace, SceneError> {
        let inner = format!("{field}.0");
        let frame = match place {
            Place::Body(name) => Frame::Body(self.id(MjtObjBase::mjOBJ_BODY, "body", name, &inner)?),
            Place::Site(name) => Frame::Site(self.id(MjtObjBase::mjOBJ_SITE, "site", name, &inner)?),
            Place::Geom(name) => Frame::Geom(self.id(MjtObjBase::mjOBJ_GEOM, "geom", name, &inner)?),
            &Place::Point(x, y, z) => {
                finite(&[x, y, z], || field.to_owned())?;
                return Ok(CompiledPlace {
                    frame: Frame::World,
                    offset: DVec3::new(x, y, z),
                });
            }
            &Place::Offset { ref of, by: (x, y, z) } => {
                finite(&[x, y, z], || format!("{field}.by"))?;
                let mut place = self.place(of, &format!("{field}.of"))?;
                place.offset += DVec3::new(x, y, z);
                return Ok(place);
            }
        };
        Ok(CompiledPlace {
            frame,
            offset: DVec3::ZERO,
        })
    }

    /// Resolves the places of a list.
    pub(super) fn places(&self, places: &[Place], field: &str) -> Result<Vec<CompiledPlace>, SceneError> {
        if places.is_empty() {
            return Err(invalid(field, "must list at least one place"));
        }
        let places = places.iter().enumerate();
        places
            .map(|(at, place)| self.place(place, &format!("{field}.{at}")))
            .collect()
    }

    /// Resolves a zone; `field` is where it stands.
    pub(super) fn zone(&self, zone: &Zone, field: &str) -> Result<CompiledZone, SceneError> {
        let positive = |values: &[f64], name: &str| {
            if values.iter().all(|value| *value > 0.0) {
                Ok(())
            } else {
                Err(invalid(format!("{field}.{name}"), "must be positive"))
            }
        };
        let (centre, shape) = match zone {
            &Zone::Box {
                ref centre,
                half: (x, y, z),
            } => {
                positive(&[x, y, z], "half")?;
                (centre, Shape::Box(DVec3::new(x, y, z)))
            }
            Zone::Sphere { centre, radius } => {
                positive(&[*radius], "radius")?;
                (centre, Shape::Sphere(*radius))
            }
        };
        Ok(CompiledZone {
            centre: self.place(centre, &format!("{field}.centre"))?,
            shape,
        })
    }

    /// Resolves two things that may touch; `field` is where the pair stands.
    pub(super) fn contact(&self, between: &(Thing, Thing), field: &str) -> Result<CompiledContact, SceneError> {
        let first = self.geoms_of(&between.0, &format!("{field}.0"))?;
        let second = self.geoms_of(&between.1, &format!("{field}.1"))?;
        Ok(CompiledContact {
            geoms: first
                .into_iter()
                .zip(second)
                .map(|(first, second)| [first, second])
                .collect(),
        })
    }

    /// For each geom of the model: whether it belongs to a thing.
    fn geoms_of(&self, thing: &Thing, field: &str) -> Result<Vec<bool>, SceneError> {
        let count = self.model.ngeom() as usize;
        let inner = format!("{field}.0");
        let body = |name| self.id(MjtObjBase::mjOBJ_BODY, "body", name, &inner);
        let (bodies, parents) = (self.model.geom_bodyid(), self.model.body_parentid());
        let geoms: Vec<bool> = match thing {
            Thing::Anything => vec![true; count],
            Thing::Geom(name) => {
                let id = self.id(MjtObjBase::mjOBJ_GEOM, "geom", name, &inner)?;
                (0..count).map(|geom| geom == id).collect()
            }
            Thing::Body(name) => {
                let id = body(name)?;
                bodies.iter().map(|&body| body as usize == id).collect()
            }
            Thing::Tree(name) => {
                let id = body(name)?;
                // The world is its own parent.
                let above = |&body: &usize| (body != 0).then(|| parents[body] as usize);
                let attached = |body: usize| std::iter::successors(Some(body), above).any(|body| body == id);
                bodies.iter().map(|&body| attached(body as usize)).collect()
            }
        };
        if geoms.contains(&true) {
            Ok(geoms)
        } else {
            Err(invalid(
                inner,
                format!("{:?} has no geom, so nothing can touch it", thing.label()),
            ))
        }
    }
}
