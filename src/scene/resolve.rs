//! Looking names up in a model, and what to say of those that are not there.

use std::ops::Range;

use mujoco_rs::wrappers::mj_model::{MjModel, MjtJoint, MjtObjBase};

use super::SceneError;
use crate::files;

/// So many numbers, in words.
pub(super) fn numbers(count: usize) -> String {
    format!("{count} number{}", if count == 1 { "" } else { "s" })
}

/// Looks names up in a model.
pub(super) struct Resolver<'m> {
    pub(super) model: &'m MjModel,
}

pub(super) struct Joint {
    pub(super) positions: Range<usize>,
    pub(super) velocities: Range<usize>,
}

impl Resolver<'_> {
    pub(super) fn id(
        &self,
        object: MjtObjBase,
        kind: &'static str,
        name: &str,
        field: &str,
    ) -> Result<usize, SceneError> {
        // A NUL byte cannot be part of a name in the model, and must not reach the C side.
        let id = if name.contains('\0') {
            None
        } else {
            self.model.name_to_id(object, name)
        };
        id.ok_or_else(|| {
            let count = match object {
                MjtObjBase::mjOBJ_JOINT => self.model.njnt(),
                MjtObjBase::mjOBJ_ACTUATOR => self.model.nactuator(),
                MjtObjBase::mjOBJ_BODY => self.model.nbody(),
                MjtObjBase::mjOBJ_GEOM => self.model.ngeom(),
                MjtObjBase::mjOBJ_SITE => self.model.nsite(),
                MjtObjBase::mjOBJ_SENSOR => self.model.nsensor(),
                MjtObjBase::mjOBJ_KEY => self.model.nkey(),
                _ => 0,
            };
            let names = (0..count as usize).map(|id| self.model.id_to_name(object, id));
            unknown(field, kind, name, names.flatten())
        })
    }

    pub(super) fn joint(&self, name: &str, field: &str) -> Result<Joint, SceneError> {
        let id = self.id(MjtObjBase::mjOBJ_JOINT, "joint", name, field)?;
        let (positions, velocities) = match self.model.jnt_type()[id] {
            MjtJoint::mjJNT_FREE => (7, 6),
            MjtJoint::mjJNT_BALL => (4, 3),
            MjtJoint::mjJNT_SLIDE | MjtJoint::mjJNT_HINGE => (1, 1),
        };
        let position = self.model.jnt_qposadr()[id] as usize;
        let velocity = self.model.jnt_dofadr()[id] as usize;
        Ok(Joint {
            positions: position..position + positions,
            velocities: velocity..velocity + velocities,
        })
    }

    /// Index into `ctrl` of an actuator with one control.
    pub(super) fn control(&self, name: &str, field: &str) -> Result<usize, SceneError> {
        let id = self.id(MjtObjBase::mjOBJ_ACTUATOR, "actuator", name, field)?;
        match self.model.actuator_ctrlnum()[id] {
            1 => Ok(self.model.actuator_ctrladr()[id] as usize),
            several => Err(invalid(
                field,
                format!("actuator {name:?} has {several} controls, a servo needs 1"),
            )),
        }
    }
}

pub(super) fn finite(values: &[f64], field: impl Fn() -> String) -> Result<(), SceneError> {
    if values.iter().all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err(invalid(field(), "must be finite"))
    }
}

pub(super) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> SceneError {
    SceneError::Invalid {
        field: field.into(),
        reason: reason.into(),
    }
}

pub(crate) fn unknown<'n>(
    field: &str,
    kind: &'static str,
    name: &str,
    known: impl Iterator<Item = &'n str>,
) -> SceneError {
    let known: Vec<&str> = known.collect();
    let nearest = files::nearest(name, known.iter().copied()).map(str::to_owned);
    SceneError::UnknownName {
        field: field.into(),
        kind,
        name: name.into(),
        nearest,
        known: files::choices(known).into(),
    }
}
