//! The state an episode starts in: the field `reset` of a scene.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtJoint, MjtObjBase};
use serde::{Deserialize, Serialize};

use super::placement::{CompiledPlacement, Placement, placements};
use super::randomise::{CompiledRandomisation, Draw};
use super::resolve::{Resolver, finite, invalid, numbers};
use super::{Scene, SceneError};
use crate::sim::{Physics, step};

/// The state an episode starts in: that of the keyframe or of the model, then `positions`, then `ranges` and
/// `velocities`, then `placements`, then `settle`. Velocities are zero but for those of a keyframe and of `velocities`.
///
/// What is drawn depends on nothing but the seed, the slot of the environment and the number of the episode.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetSpec {
    /// A keyframe of the model: positions, velocities, controls, activations.
    #[serde(default)]
    pub keyframe: Option<String>,
    /// Joint name to position (as many numbers as the joint has). Other joints start where the keyframe or the model puts
    /// them.
    #[serde(default)]
    pub positions: BTreeMap<String, Vec<f64>>,
    /// Joint name to the lowest and highest position, one pair for each number of the joint, drawn uniformly. The
    /// rotations of ball and free joints are made unit quaternions afterwards.
    #[serde(default)]
    pub ranges: BTreeMap<String, Vec<(f64, f64)>>,
    /// Joint name to the lowest and highest velocity, rad/s or m/s, one pair for each degree of freedom, drawn uniformly.
    #[serde(default)]
    pub velocities: BTreeMap<String, Vec<(f64, f64)>>,
    /// Bodies that are put at random places.
    #[serde(default)]
    pub placements: Vec<Placement>,
    /// Control steps without control that belong to the reset.
    #[serde(default)]
    pub settle: u32,
}

/// A resolved [`ResetSpec`].
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct CompiledReset {
    /// Index of the keyframe.
    pub(crate) keyframe: Option<usize>,
    /// Index into `qpos` and what is drawn for it.
    pub(crate) positions: Vec<(usize, Draw)>,
    /// Addresses of the quaternions among them.
    pub(crate) rotations: Vec<usize>,
    /// Index into `qvel` and what is drawn for it.
    pub(crate) velocities: Vec<(usize, Draw)>,
    /// Bodies at random places.
    pub(crate) placements: Vec<CompiledPlacement>,
}

impl CompiledReset {
    /// Whether all episodes start in the same state.
    pub(crate) fn is_fixed(&self) -> bool {
        self.positions.is_empty() && self.velocities.is_empty() && self.placements.is_empty()
    }
}

/// Index of the keyframe that the scene names.
pub(super) fn keyframe(scene: &Scene, resolver: &Resolver) -> Result<Option<usize>, SceneError> {
    let find = |name: &String| resolver.id(MjtObjBase::mjOBJ_KEY, "keyframe", name, "reset.keyframe");
    scene.reset.keyframe.as_ref().map(find).transpose()
}

pub(super) fn start(scene: &Scene, resolver: &Resolver) -> Result<Vec<f64>, SceneError> {
    let model = resolver.model;
    let mut start = match keyframe(scene, resolver)? {
        None => model.qpos0().to_vec(),
        Some(key) => {
            let length = model.nq() as usize;
            model
                .key_qpos()
                .get(key * length..(key + 1) * length)
                .unwrap_or(&[])
                .to_vec()
        }
    };
    for (name, position) in &scene.reset.positions {
        let field = format!("reset.positions.{name}");
        let range = resolver.joint(name, &field)?.positions;
        expect_numbers(position.len(), &range, &field)?;
        finite(position, || field.clone())?;
        start[range].copy_from_slice(position);
    }
    Ok(start)
}

fn expect_numbers(found: usize, range: &Range<usize>, field: &str) -> Result<(), SceneError> {
    if found == range.len() {
        return Ok(());
    }
    let reason = format!("has {}, the joint has {}", numbers(found), range.len());
    Err(invalid(field, reason))
}

/// A state with joint positions `start`, in all else that of the keyframe, at rest if there is none.
pub(super) fn fresh(
    scene: &Scene,
    model: &Arc<MjModel>,
    keyframe: Option<usize>,
    start: &[f64],
) -> Result<MjData<Arc<MjModel>>, SceneError> {
    let refused = |reason: String| SceneError::Model {
        path: scene.physics.model.clone(),
        reason,
    };
    let mut fresh = MjData::try_new(Arc::clone(model)).map_err(|error| refused(error.to_string()))?;
    step::place_from(&mut fresh, keyframe, start);
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

pub(super) fn reset(
    scene: &Scene,
    resolver: &Resolver,
    fresh: &MjData<Arc<MjModel>>,
    randomisation: &CompiledRandomisation,
) -> Result<CompiledReset, SceneError> {
    let (mut positions, mut rotations, mut velocities) = (Vec::new(), Vec::new(), Vec::new());
    for (name, pairs) in &scene.reset.ranges {
        let field = format!("reset.ranges.{name}");
        let range = resolver.joint(name, &field)?.positions;
        let joint = resolver.id(MjtObjBase::mjOBJ_JOINT, "joint", name, &field)?;
        match resolver.model.jnt_type()[joint] {
            MjtJoint::mjJNT_FREE => rotations.push(range.start + 3),
            MjtJoint::mjJNT_BALL => rotations.push(range.start),
            MjtJoint::mjJNT_SLIDE | MjtJoint::mjJNT_HINGE => {}
        }
        positions.extend(draws(pairs, range, &field)?);
    }
    for (name, pairs) in &scene.reset.velocities {
        let field = format!("reset.velocities.{name}");
        let range = resolver.joint(name, &field)?.velocities;
        velocities.extend(draws(pairs, range, &field)?);
    }
    Ok(CompiledReset {
        keyframe: keyframe(scene, resolver)?,
        positions,
        rotations,
        velocities,
        placements: placements(scene, resolver, fresh, randomisation)?,
    })
}

fn draws(pairs: &[(f64, f64)], range: Range<usize>, field: &str) -> Result<Vec<(usize, Draw)>, SceneError> {
    expect_numbers(pairs.len(), &range, field)?;
    let draws = range.zip(pairs).enumerate().map(|(at, (address, &(low, high)))| {
        let draw = Draw::Uniform(low, high);
        draw.check(f64::NEG_INFINITY, &format!("{field}.{at}"))?;
        Ok((address, draw))
    });
    draws.collect()
}
