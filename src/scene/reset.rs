//! The state an episode starts in: the field `reset` of a scene.

use std::collections::BTreeMap;
use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;
use serde::{Deserialize, Serialize};

use super::resolve::{Resolver, finite, invalid};
use super::{Scene, SceneError};
use crate::sim::{Physics, step};

/// The state an episode starts in. Velocities are zero.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetSpec {
    /// Joint name to position (as many numbers as the joint has). Other joints start where the model puts them.
    #[serde(default)]
    pub positions: BTreeMap<String, Vec<f64>>,
    /// Control steps without control that belong to the reset.
    #[serde(default)]
    pub settle: u32,
}

pub(super) fn start(scene: &Scene, resolver: &Resolver) -> Result<Vec<f64>, SceneError> {
    let mut start = resolver.model.qpos0().to_vec();
    for (name, position) in &scene.reset.positions {
        let field = format!("reset.positions.{name}");
        let range = resolver.joint(name, &field)?.positions;
        if position.len() != range.len() {
            let reason = format!("has {} numbers, the joint has {}", position.len(), range.len());
            return Err(invalid(field, reason));
        }
        finite(position, || field.clone())?;
        start[range].copy_from_slice(position);
    }
    Ok(start)
}

/// A state with joint positions `start` at rest.
pub(super) fn fresh(scene: &Scene, model: &Arc<MjModel>, start: &[f64]) -> Result<MjData<Arc<MjModel>>, SceneError> {
    let refused = |reason: String| SceneError::Model {
        path: scene.physics.model.clone(),
        reason,
    };
    let mut fresh = MjData::try_new(Arc::clone(model)).map_err(|error| refused(error.to_string()))?;
    step::place(&mut fresh, start);
    let mut physics = Physics(fresh);
    for _ in 0..scene.reset.settle {
        // A fault shows below.
        if step::simulate(scene.physics.frame_skip, &mut physics).is_err() {
            break;
        }
    }
    let fresh = physics.0;
    // Every step of every episode would end with this fault.
    match step::complaint(&fresh) {
        None => Ok(fresh),
        Some(fault) => Err(refused(format!("the start state cannot be simulated: {fault}"))),
    }
}
