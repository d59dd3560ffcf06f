//! Bodies at random places: the field `reset.placements` of a scene.

use std::f64::consts::PI;
use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtGeomBase, MjtJoint, MjtObjBase};
use serde::{Deserialize, Serialize};

use super::arm::carries;
use super::randomise::{CompiledRandomisation, Draw, turned};
use super::resolve::{Resolver, finite, invalid};
use super::{Scene, SceneError};
use crate::rng::Stream;

/// Bodies that are put at random places of an area without overlap.
///
/// Each is the circle of [`radius`](Self::radius) around its origin; circles of all placements keep at least the larger
/// one of both clearances between them. Places are drawn one after another, up to 1000 times each; when one finds no
/// room all are drawn again, up to 20 times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// Bodies with a free joint, or with two slide joints, not parallel, in the horizontal plane.
    pub bodies: Vec<String>,
    /// Where their origins are put, m, axes of the world.
    pub area: Area,
    /// Turn about the vertical that is added to the rotation of the start, rad: lowest and highest. Free joints only.
    #[serde(default)]
    pub yaw: Option<(f64, f64)>,
    /// Height on which they are put, m: their lowest point touches it in the rotation of the start. Without it they keep
    /// the height of the start. Free joints only.
    #[serde(default)]
    pub surface: Option<f64>,
    /// Least distance between their circles and others, m.
    #[serde(default)]
    pub clearance: f64,
    /// Radius of their circles, m. Without it that of the sphere around the origin which holds all their geoms that can
    /// collide.
    #[serde(default)]
    pub radius: Option<f64>,
    /// Further bodies that they keep the clearance from, wherever those are.
    #[serde(default)]
    pub avoid: Vec<String>,
}

/// Where bodies are put.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Area {
    /// A rectangle along the axes of the world.
    Rectangle {
        /// Lowest and highest x, m.
        x: (f64, f64),
        /// Lowest and highest y, m.
        y: (f64, f64),
    },
    /// A ring, or a sector of it; uniform by area.
    Ring {
        /// Its middle, m.
        centre: (f64, f64),
        /// Inner and outer radius, m.
        radius: (f64, f64),
        /// First and last direction, rad, from the x axis to the left.
        #[serde(default = "all_around")]
        angle: (f64, f64),
    },
}

fn all_around() -> (f64, f64) {
    (-PI, PI)
}

impl Area {
    /// A point, uniform by area.
    pub(crate) fn sample(self, stream: &mut Stream) -> [f64; 2] {
        match self {
            Self::Rectangle { x, y } => [x, y].map(|(low, high)| Draw::Uniform(low, high).sample(stream)),
            Self::Ring { centre, radius, angle } => {
                let squared = Draw::Uniform(radius.0.powi(2), radius.1.powi(2)).sample(stream);
                let (sin, cos) = Draw::Uniform(angle.0, angle.1).sample(stream).sin_cos();
                let radius = squared.sqrt();
                [centre.0 + radius * cos, centre.1 + radius * sin]
            }
        }
    }

    fn check(self, field: &str) -> Result<(), SceneError> {
        let ordered = |(low, high): (f64, f64), least: f64, name: &str| {
            Draw::Uniform(low, high).check(least, &format!("{field}.{name}"))
        };
        match self {
            Self::Rectangle { x, y } => {
                ordered(x, f64::NEG_INFINITY, "x")?;
                ordered(y, f64::NEG_INFINITY, "y")
            }
            Self::Ring { centre, radius, angle } => {
                finite(&[centre.0, centre.1], || format!("{field}.centre"))?;
                ordered(radius, 0.0, "radius")?;
                ordered(angle, f64::NEG_INFINITY, "angle")
            }
        }
    }
}

/// A resolved [`Placement`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CompiledPlacement {
    pub(crate) things: Vec<CompiledThing>,
    pub(crate) area: Area,
    pub(crate) yaw: Option<Draw>,
    pub(crate) clearance: f64,
    /// Bodies to keep away from, with their radii.
    pub(crate) avoid: Vec<(usize, f64)>,
}

/// A body that is put somewhere.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CompiledThing {
    pub(crate) body: usize,
    pub(crate) radius: f64,
    pub(crate) seat: Seat,
}

/// How a body is moved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seat {
    /// By its free joint.
    Free {
        /// Address of the joint in `qpos`.
        position: usize,
        /// The height, if it changes.
        height: Option<f64>,
    },
    /// By two slide joints.
    Slides {
        /// Indices into `qpos`.
        positions: [usize; 2],
        /// Where the origin is with both joints at 0, m.
        origin: [f64; 2],
        /// Directions of the joints; they are not parallel.
        axes: [[f64; 2]; 2],
    },
}

impl Seat {
    /// Writes a place into `qpos`, and with a turn the rotation of `start` that is turned by it.
    pub(crate) fn put(&self, place: [f64; 2], yaw: Option<f64>, start: &[f64], qpos: &mut [f64]) {
        match self {
            Self::Free { position, height } => {
                let joint = &mut qpos[*position..*position + 7];
                joint[..2].copy_from_slice(&place);
                if let Some(height) = height {
                    joint[2] = *height;
                }
                if let (Some(yaw), [_, _, _, w, x, y, z]) = (yaw, &start[*position..*position + 7]) {
                    joint[3..].copy_from_slice(&turned([*w, *x, *y, *z], yaw));
                }
            }
            Self::Slides {
                positions,
                origin,
                axes: [a, b],
            } => {
                let [x, y] = [place[0] - origin[0], place[1] - origin[1]];
                let determinant = a[0] * b[1] - a[1] * b[0];
                qpos[positions[0]] = (b[1] * x - b[0] * y) / determinant;
                qpos[positions[1]] = (a[0] * y - a[1] * x) / determinant;
            }
        }
    }

    /// The place that `qpos` says.
    pub(crate) fn place(&self, qpos: &[f64]) -> [f64; 2] {
        match self {
            Self::Free { position, .. } => [qpos[*position], qpos[*position + 1]],
            Self::Slides {
                positions,
                origin,
                axes: [a, b],
            } => {
                let [first, second] = positions.map(|position| qpos[position]);
                [0, 1].map(|axis| origin[axis] + a[axis] * first + b[axis] * second)
            }
        }
    }
}

type State = MjData<Arc<MjModel>>;

pub(super) fn placements(
    scene: &Scene,
    resolver: &Resolver,
    fresh: &State,
    randomisation: &CompiledRandomisation,
) -> Result<Vec<CompiledPlacement>, SceneError> {
    let mut seen = Vec::new();
    let mut compiled = Vec::with_capacity(scene.reset.placements.len());
    for (index, placement) in scene.reset.placements.iter().enumerate() {
        let field = format!("reset.placements.{index}");
        placement.area.check(&format!("{field}.area"))?;
        for (name, value) in [
            ("clearance", placement.clearance),
            ("radius", placement.radius.unwrap_or(0.0)),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(invalid(format!("{field}.{name}"), "must not be negative"));
            }
        }
        if placement.bodies.is_empty() {
            return Err(invalid(format!("{field}.bodies"), "must list at least one body"));
        }
        let yaw = placement.yaw.map(|(low, high)| Draw::Uniform(low, high));
        if let Some(yaw) = yaw {
            yaw.check(f64::NEG_INFINITY, &format!("{field}.yaw"))?;
        }
        let mut things = Vec::with_capacity(placement.bodies.len());
        for (at, name) in placement.bodies.iter().enumerate() {
            let field = format!("{field}.bodies.{at}");
            let body = resolver.id(MjtObjBase::mjOBJ_BODY, "body", name, &field)?;
            if seen.contains(&body) {
                return Err(invalid(field, format!("{name:?} is placed twice")));
            }
            seen.push(body);
            let grown = randomisation.largest_size(body);
            let seat = seat(placement, resolver, fresh, (body, name, &field), grown)?;
            let radius = placement
                .radius
                .unwrap_or_else(|| radius(resolver.model, fresh, body) * grown);
            things.push(CompiledThing { body, radius, seat });
        }
        let avoid = placement.avoid.iter().enumerate().map(|(at, name)| {
            let field = format!("{field}.avoid.{at}");
            let body = resolver.id(MjtObjBase::mjOBJ_BODY, "body", name, &field)?;
            let radius = radius(resolver.model, fresh, body) * randomisation.largest_size(body);
            Ok::<_, SceneError>((body, radius))
        });
        compiled.push(CompiledPlacement {
            things,
            area: placement.area,
            yaw,
            clearance: placement.clearance,
            avoid: avoid.collect::<Result<_, _>>()?,
        });
    }
    // What is placed in another list is kept away from already, at its new place.
    for placement in &mut compiled {
        placement.avoid.retain(|(body, _)| !seen.contains(body));
    }
    Ok(compiled)
}

fn seat(
    placement: &Placement,
    resolver: &Resolver,
    fresh: &State,
    (body, name, field): (usize, &str, &str),
    grown: f64,
) -> Result<Seat, SceneError> {
    let model = resolver.model;
    let first = usize::try_from(model.body_jntadr()[body]).unwrap_or(0);
    let joints = first..first + model.body_jntnum()[body] as usize;
    let kinds = &model.jnt_type()[joints.clone()];
    match kinds {
        [MjtJoint::mjJNT_FREE] => {
            let position = model.jnt_qposadr()[first] as usize;
            let height = placement
                .surface
                .map(|surface| surface + depth(model, fresh, body) * grown);
            finite(height.as_slice(), || format!("{field}.surface"))?;
            Ok(Seat::Free { position, height })
        }
        [MjtJoint::mjJNT_SLIDE, MjtJoint::mjJNT_SLIDE, ..]
            if kinds[2..].iter().all(|kind| *kind == MjtJoint::mjJNT_HINGE) =>
        {
            if placement.yaw.is_some() || placement.surface.is_some() {
                return Err(invalid(
                    field,
                    format!("{name:?} slides: `yaw` and `surface` are for free joints"),
                ));
            }
            let positions = [first, first + 1].map(|joint| model.jnt_qposadr()[joint] as usize);
            let [a, b] = [first, first + 1].map(|joint| fresh.xaxis()[joint]);
            let determinant = a[0] * b[1] - a[1] * b[0];
            if determinant.abs() < 1e-6 || a[2].abs().max(b[2].abs()) > 1e-6 {
                let reason = format!("the slides of {name:?} must be horizontal and not parallel");
                return Err(invalid(field, reason));
            }
            let at = [fresh.qpos()[positions[0]], fresh.qpos()[positions[1]]];
            // The positions of joints are relative to the reference of the model.
            let origin = [0, 1].map(|axis| fresh.xpos()[body][axis] - a[axis] * at[0] - b[axis] * at[1]);
            let axes = [[a[0], a[1]], [b[0], b[1]]];
            Ok(Seat::Slides {
                positions,
                origin,
                axes,
            })
        }
        _ => {
            let reason = format!("{name:?} has neither a free joint nor two slide joints");
            Err(invalid(field, reason))
        }
    }
}

/// Geoms of a body and of those it carries; those that can collide, or all if none can.
fn solid_geoms(model: &MjModel, body: usize) -> Vec<usize> {
    let carried = |geom: &usize| {
        let owner = model.geom_bodyid()[*geom] as usize;
        owner == body || (body != 0 && carries(model, body, owner))
    };
    let bounded = |geom: &usize| model.geom_type()[*geom] != MjtGeomBase::mjGEOM_PLANE;
    let solid = |geom: &usize| model.geom_contype()[*geom] != 0 || model.geom_conaffinity()[*geom] != 0;
    let all: Vec<usize> = (0..model.ngeom() as usize).filter(carried).filter(bounded).collect();
    let colliding: Vec<usize> = all.iter().copied().filter(solid).collect();
    if colliding.is_empty() { all } else { colliding }
}

/// Radius of the sphere around a body's origin that holds its geoms, m.
fn radius(model: &MjModel, fresh: &State, body: usize) -> f64 {
    let origin = fresh.xpos()[body];
    let reach = |geom: usize| {
        let place = fresh.geom_xpos()[geom];
        let squared: f64 = place.iter().zip(&origin).map(|(a, b)| (a - b).powi(2)).sum();
        squared.sqrt() + model.geom_rbound()[geom]
    };
    solid_geoms(model, body).into_iter().map(reach).fold(0.0, f64::max)
}

/// How far the lowest point of a body lies below its origin, m.
fn depth(model: &MjModel, fresh: &State, body: usize) -> f64 {
    let origin = fresh.xpos()[body][2];
    let reach = |geom: usize| {
        // The vertical of the world in the frame of the geom.
        let up = &fresh.geom_xmat()[geom][6..];
        let [middle @ .., _, _, _] = &model.geom_aabb()[geom];
        let half = &model.geom_aabb()[geom][3..];
        let centre: f64 = up.iter().zip(middle).map(|(up, middle)| up * middle).sum();
        let size = &model.geom_size()[geom];
        let extent = match model.geom_type()[geom] {
            MjtGeomBase::mjGEOM_SPHERE => size[0],
            MjtGeomBase::mjGEOM_CAPSULE => size[0] + up[2].abs() * size[1],
            MjtGeomBase::mjGEOM_CYLINDER => size[0] * up[0].hypot(up[1]) + size[1] * up[2].abs(),
            MjtGeomBase::mjGEOM_ELLIPSOID => {
                let squared: f64 = up.iter().zip(size).map(|(up, size)| (up * size).powi(2)).sum();
                squared.sqrt()
            }
            _ => up.iter().zip(half).map(|(up, half)| up.abs() * half).sum(),
        };
        extent - (fresh.geom_xpos()[geom][2] + centre - origin)
    };
    let lowest = solid_geoms(model, body).into_iter().map(reach).reduce(f64::max);
    lowest.unwrap_or(0.0)
}
