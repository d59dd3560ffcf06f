//! Names of the model, and what to say of those that are not there.

use std::sync::Arc;

use mujoco_rs::wrappers::mj_model::{MjModel, MjtJoint, MjtObjBase};

use super::super::DemoError;
use crate::scene::resolve::unknown;

/// Number of the object with this name; `field` is where it is named, below `demonstrator`.
pub(super) fn id(model: &Arc<MjModel>, object: MjtObjBase, name: &str, field: &str) -> Result<usize, DemoError> {
    // A NUL byte must not reach the C side.
    let found = if name.contains('\0') {
        None
    } else {
        model.name_to_id(object, name)
    };
    found.ok_or_else(|| {
        let (kind, count) = match object {
            MjtObjBase::mjOBJ_SITE => ("site", model.nsite()),
            MjtObjBase::mjOBJ_BODY => ("body", model.nbody()),
            MjtObjBase::mjOBJ_JOINT => ("joint", model.njnt()),
            _ => ("actuator", model.nactuator()),
        };
        let names = (0..count as usize).filter_map(|id| model.id_to_name(object, id));
        no_such(kind, name, field, names)
    })
}

/// There is nothing of this name.
pub(super) fn no_such<'n>(
    kind: &'static str,
    name: &str,
    field: &str,
    known: impl Iterator<Item = &'n str>,
) -> DemoError {
    DemoError::UnknownName(Box::new(unknown(&format!("demonstrator.{field}"), kind, name, known)))
}

/// A hinge or slide joint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Joint {
    pub id: usize,
    /// Index in `qpos`.
    pub position: usize,
    /// Index in `qvel`.
    pub velocity: usize,
    pub slides: bool,
}

/// The hinge or slide joint with this number; `None` for others.
pub(super) fn simple_joint(model: &Arc<MjModel>, id: usize) -> Option<Joint> {
    let slides = match model.jnt_type().get(id)? {
        MjtJoint::mjJNT_SLIDE => true,
        MjtJoint::mjJNT_HINGE => false,
        _ => return None,
    };
    Some(Joint {
        id,
        position: usize::try_from(*model.jnt_qposadr().get(id)?).ok()?,
        velocity: usize::try_from(*model.jnt_dofadr().get(id)?).ok()?,
        slides,
    })
}

/// The hinge or slide joint with this name.
pub(super) fn joint(model: &Arc<MjModel>, name: &str, field: &str) -> Result<Joint, DemoError> {
    let id = id(model, MjtObjBase::mjOBJ_JOINT, name, field)?;
    simple_joint(model, id).ok_or_else(|| super::wrong(field, format!("joint {name:?} is no hinge and no slide")))
}
