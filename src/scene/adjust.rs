//! Numbers of a model that may be changed after it was compiled, and what follows from them.
//!
//! Sizes of arrays and connections between things stay as they are; only these numbers change, which `MuJoCo` allows.

use std::ops::Range;

use mujoco_rs::mujoco_c::mj_setConst;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::traits::ModelType;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtBias, MjtGain, MjtGeomBase, MjtJoint, MjtObjBase};

use super::SceneError;
use super::light::Lamp;
use super::resolve::{Resolver, invalid};

/// One adjustable property of one thing of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Knob {
    /// Mass and inertia of a body.
    Mass { body: usize },
    /// Lengths of a body: its geoms and sites, their places in its frame, its centre of mass. With `density` the mass
    /// follows the volume.
    Size { body: usize, density: bool },
    /// The three coefficients of friction of a geom.
    Friction { geom: usize },
    /// Linear damping of a joint.
    Damping { velocities: Range<usize> },
    /// The vector of gravity.
    Gravity,
    /// Force of an actuator for the same control and state.
    Gain { actuator: usize },
    /// Colour of a geom.
    Colour { geom: usize },
    /// Place of a body in the frame of its parent.
    Position { body: usize },
    /// Place, direction, colours and switch of a light.
    Light(Lamp),
}

impl Knob {
    /// Whether constants of the model follow from the property.
    pub(crate) fn has_consequences(&self) -> bool {
        matches!(
            self,
            Self::Mass { .. } | Self::Size { .. } | Self::Position { .. } | Self::Light(Lamp::Numbered(_))
        )
    }

    /// Puts the property back to what it is in `base`, a model of the same layout.
    pub(crate) fn restore(&self, model: &mut MjModel, base: &MjModel) {
        match self {
            Self::Mass { body } => restore_mass(model, base, *body),
            Self::Size { body, .. } => {
                restore_mass(model, base, *body);
                put(model.body_ipos_mut(), base.body_ipos(), *body);
                for geom in geoms_of(base, *body) {
                    put(model.geom_size_mut(), base.geom_size(), geom);
                    put(model.geom_pos_mut(), base.geom_pos(), geom);
                    put(model.geom_aabb_mut(), base.geom_aabb(), geom);
                    put(model.geom_rbound_mut(), base.geom_rbound(), geom);
                }
                for site in sites_of(base, *body) {
                    put(model.site_pos_mut(), base.site_pos(), site);
                    put(model.site_size_mut(), base.site_size(), site);
                }
                for node in boxes_of(base, *body) {
                    put(model.bvh_aabb_mut(), base.bvh_aabb(), node);
                }
            }
            Self::Friction { geom } => put(model.geom_friction_mut(), base.geom_friction(), *geom),
            Self::Damping { velocities } => {
                for velocity in velocities.clone() {
                    put(model.dof_damping_mut(), base.dof_damping(), velocity);
                }
            }
            Self::Gravity => model.opt_mut().gravity = base.opt().gravity,
            Self::Gain { actuator } => {
                put(gains(model), base.actuator_gainprm(), *actuator);
                put(model.actuator_biasprm_mut(), base.actuator_biasprm(), *actuator);
            }
            Self::Colour { geom } => put(model.geom_rgba_mut(), base.geom_rgba(), *geom),
            Self::Position { body } => {
                put(model.body_pos_mut(), base.body_pos(), *body);
                put(model.body_quat_mut(), base.body_quat(), *body);
            }
            Self::Light(lamp) => lamp.restore(model, base),
        }
    }

    /// Multiplies the property. Colours, places and lights have no factor and stay as they are.
    pub(crate) fn scale(&self, model: &mut MjModel, factor: f64) {
        match self {
            Self::Mass { body } => scale_mass(model, *body, factor, factor),
            Self::Size { body, density } => scale_size(model, *body, factor, *density),
            Self::Friction { geom } => scale(&mut model.geom_friction_mut()[*geom], factor),
            Self::Damping { velocities } => scale(&mut model.dof_damping_mut()[velocities.clone()], factor),
            Self::Gravity => scale(&mut model.opt_mut().gravity, factor),
            Self::Gain { actuator } => {
                scale(&mut gains(model)[*actuator][..3], factor);
                scale(&mut model.actuator_biasprm_mut()[*actuator][..3], factor);
            }
            Self::Colour { .. } | Self::Position { .. } | Self::Light(_) => {}
        }
    }
}

fn put<T: Copy>(to: &mut [T], from: &[T], index: usize) {
    to[index] = from[index];
}

fn scale(values: &mut [f64], factor: f64) {
    for value in values {
        *value *= factor;
    }
}

/// The parameters of gains.
fn gains(model: &mut MjModel) -> &mut [[f64; 10]] {
    // SAFETY: `Resolver::gain` lets only fixed and affine gains through, whose parameters are coefficients; no index or
    // count is among them.
    unsafe { model.actuator_gainprm_mut() }
}

fn restore_mass(model: &mut MjModel, base: &MjModel, body: usize) {
    put(model.body_mass_mut(), base.body_mass(), body);
    put(model.body_inertia_mut(), base.body_inertia(), body);
}

fn scale_mass(model: &mut MjModel, body: usize, mass: f64, inertia: f64) {
    model.body_mass_mut()[body] *= mass;
    scale(&mut model.body_inertia_mut()[body], inertia);
}

/// Scales a body about its origin. All boxes around its geoms are given relative to frames that scale with it, so they
/// stay right.
fn scale_size(model: &mut MjModel, body: usize, factor: f64, density: bool) {
    let (geoms, sites, boxes) = (geoms_of(model, body), sites_of(model, body), boxes_of(model, body));
    for geom in geoms {
        scale(&mut model.geom_size_mut()[geom], factor);
        scale(&mut model.geom_pos_mut()[geom], factor);
        scale(&mut model.geom_aabb_mut()[geom], factor);
        model.geom_rbound_mut()[geom] *= factor;
    }
    for site in sites {
        scale(&mut model.site_pos_mut()[site], factor);
        scale(&mut model.site_size_mut()[site], factor);
    }
    for node in boxes {
        scale(&mut model.bvh_aabb_mut()[node], factor);
    }
    scale(&mut model.body_ipos_mut()[body], factor);
    let mass = if density { factor.powi(3) } else { 1.0 };
    scale_mass(model, body, mass, mass * factor.powi(2));
}

fn stretch(first: i32, count: i32) -> Range<usize> {
    let first = usize::try_from(first).unwrap_or(0);
    first..first + usize::try_from(count).unwrap_or(0)
}

/// Geoms that belong to a body itself.
pub(crate) fn geoms_of(model: &MjModel, body: usize) -> Range<usize> {
    stretch(model.body_geomadr()[body], model.body_geomnum()[body])
}

/// Sites that belong to a body itself.
pub(crate) fn sites_of(model: &MjModel, body: usize) -> Range<usize> {
    // Sites stand in the order of their bodies.
    let bodies = model.site_bodyid();
    let first = bodies.partition_point(|&owner| (owner as usize) < body);
    first
        ..first
            + bodies
                .iter()
                .skip(first)
                .filter(|&&owner| owner as usize == body)
                .count()
}

fn boxes_of(model: &MjModel, body: usize) -> Range<usize> {
    stretch(model.body_bvhadr()[body], model.body_bvhnum()[body])
}

/// Works out what follows from masses, sizes and places. `data` is left in the model's own pose; it has to be of a model
/// of the same layout.
///
/// Does nothing for data of another layout.
pub(crate) fn derive_constants<M: ModelType>(model: &mut MjModel, data: &mut MjData<M>) {
    if !data.model().is_compatible_with_model(model) {
        return;
    }
    // SAFETY: both are borrowed for writing and nobody else can see them, and the data has the layout of the model, so
    // all its arrays have the sizes that MuJoCo takes them to have.
    unsafe { mj_setConst(model.ffi_mut(), data.ffi_mut()) }
}

impl Resolver<'_> {
    /// A body whose mass can be changed.
    pub(super) fn heavy_body(&self, name: &str, field: &str) -> Result<usize, SceneError> {
        let body = self.id(MjtObjBase::mjOBJ_BODY, "body", name, field)?;
        if self.model.body_mass()[body] > 0.0 {
            Ok(body)
        } else {
            Err(invalid(field, format!("{name:?} has no mass")))
        }
    }

    /// A body all of whose geoms have sizes.
    pub(super) fn sizeable_body(&self, name: &str, field: &str) -> Result<usize, SceneError> {
        let body = self.id(MjtObjBase::mjOBJ_BODY, "body", name, field)?;
        let geoms = geoms_of(self.model, body);
        if body == 0 || geoms.is_empty() {
            return Err(invalid(field, format!("{name:?} has no geoms of its own")));
        }
        let sized = [
            MjtGeomBase::mjGEOM_SPHERE,
            MjtGeomBase::mjGEOM_CAPSULE,
            MjtGeomBase::mjGEOM_ELLIPSOID,
            MjtGeomBase::mjGEOM_CYLINDER,
            MjtGeomBase::mjGEOM_BOX,
        ];
        if geoms
            .into_iter()
            .all(|geom| sized.contains(&self.model.geom_type()[geom]))
        {
            Ok(body)
        } else {
            let reason = format!("{name:?} has a geom that is a mesh, plane or height field; their sizes are fixed");
            Err(invalid(field, reason))
        }
    }

    pub(super) fn geom(&self, name: &str, field: &str) -> Result<usize, SceneError> {
        self.id(MjtObjBase::mjOBJ_GEOM, "geom", name, field)
    }

    /// An actuator whose force is a gain times the control, plus a bias that is linear in length and velocity.
    pub(super) fn gain(&self, name: &str, field: &str) -> Result<usize, SceneError> {
        let id = self.id(MjtObjBase::mjOBJ_ACTUATOR, "actuator", name, field)?;
        let linear = matches!(
            self.model.actuator_gaintype()[id],
            MjtGain::mjGAIN_FIXED | MjtGain::mjGAIN_AFFINE
        ) && matches!(
            self.model.actuator_biastype()[id],
            MjtBias::mjBIAS_NONE | MjtBias::mjBIAS_AFFINE
        );
        if linear {
            Ok(id)
        } else {
            Err(invalid(
                field,
                format!("the force of {name:?} is no gain times the control plus a linear bias"),
            ))
        }
    }

    /// A body that no joint moves.
    pub(super) fn fixed_body(&self, name: &str, field: &str) -> Result<usize, SceneError> {
        let body = self.id(MjtObjBase::mjOBJ_BODY, "body", name, field)?;
        if body == 0 || self.model.body_jntnum()[body] > 0 {
            let joints = self.model.jnt_bodyid().iter().zip(self.model.jnt_type());
            let free = joints
                .into_iter()
                .any(|(&owner, kind)| owner as usize == body && *kind == MjtJoint::mjJNT_FREE);
            let hint = if free { "; `reset.placements` moves it" } else { "" };
            return Err(invalid(
                field,
                format!("{name:?} is not fixed to its parent, its joints say where it is{hint}"),
            ));
        }
        Ok(body)
    }
}
