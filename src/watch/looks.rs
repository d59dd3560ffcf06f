//! What environments of one scene look like where they differ.
//!
//! Scenes that draw colours, sizes, places or lights for every episode give each environment a model of its own. A watcher
//! knows that of the scene only, so a [`Snapshot`](super::Snapshot) carries the rest, for those environments alone; it is
//! filled anew when an episode has begun.

use bevy::math::{DQuat, DVec3};
use bevy::prelude::*;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtLightType};

use super::{Pose, moved_by, moving_bodies};
use crate::scene::{CompiledScene, VariedPiece};

/// How one environment looks in its running episode.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentLook {
    /// The environment.
    pub environment: Entity,
    /// Number of the episode.
    pub episode: u64,
    /// The geoms and sites that may differ, in the order of [`Looks::pieces`](crate::scene::Looks::pieces).
    pub pieces: Vec<PieceLook>,
    /// All lights, that of the eye first, in a scene that draws some of them; otherwise none.
    pub lights: Vec<LightLook>,
}

impl Default for EnvironmentLook {
    fn default() -> Self {
        Self {
            environment: Entity::PLACEHOLDER,
            episode: 0,
            pieces: Vec::new(),
            lights: Vec::new(),
        }
    }
}

/// How a geom or a site looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PieceLook {
    /// In the frame of the moving body that carries it, or of the environment.
    pub pose: Pose,
    /// As in the model, m; what it means depends on the shape.
    pub size: [f32; 3],
    /// Red, green, blue and opacity, 0 to 1, sRGB. The default grey stands for the colour of the material.
    pub rgba: [f32; 4],
}

/// What kind of light it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LightKind {
    /// From the eye.
    Head,
    /// From far away, along its direction.
    Sun,
    /// A cone.
    Spot,
    /// In all directions.
    Point,
}

/// How a light shines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LightLook {
    /// What kind it is.
    pub kind: LightKind,
    /// Whether it shines.
    pub on: bool,
    /// The place in [`moving_bodies`] of the body that carries it; none where it stays.
    pub body: Option<usize>,
    /// In the frame of that body, or of the environment, m.
    pub position: [f32; 3],
    /// The same, of length 1.
    pub direction: [f32; 3],
    /// Angle between the axis of a cone and its side, rad.
    pub cutoff: f32,
    /// What it adds everywhere: red, green and blue, 0 to 1.
    pub ambient: [f32; 3],
    /// What it adds to surfaces that face it.
    pub diffuse: [f32; 3],
    /// Whether it casts shadows.
    pub shadows: bool,
}

/// What a scene's environments may differ in, with what carries it.
#[derive(Debug, Clone, Default)]
pub struct Differences {
    pieces: Vec<(VariedPiece, Option<usize>)>,
    lights: bool,
}

impl Differences {
    /// Those of a scene.
    pub fn of(scene: &CompiledScene) -> Self {
        let (looks, model) = (scene.randomisation().looks(), scene.model());
        if looks.is_empty() {
            return Self::default();
        }
        let (moving, moved) = (moving_bodies(model), moved_by(model));
        let carrier = |piece: &VariedPiece| {
            let carrier = moved.get(body_of(model, *piece)).copied().flatten();
            carrier.and_then(|place| moving.get(place)).copied()
        };
        Self {
            pieces: looks.pieces.iter().map(|piece| (*piece, carrier(piece))).collect(),
            lights: looks.lights,
        }
    }

    /// Whether all environments look alike.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && !self.lights
    }

    /// Fills `look` from the model of an environment, in the memory it has.
    pub fn fill(&self, model: &MjModel, look: &mut EnvironmentLook) {
        let pieces = self.pieces.iter();
        look.pieces.clear();
        look.pieces
            .extend(pieces.map(|(piece, carrier)| piece_look(model, *piece, *carrier)));
        look.lights.clear();
        if self.lights {
            look.lights.extend(lights(model));
        }
    }
}

/// The body that a geom or a site belongs to.
fn body_of(model: &MjModel, piece: VariedPiece) -> usize {
    match piece {
        VariedPiece::Geom(id) => model.geom_bodyid()[id] as usize,
        VariedPiece::Site(id) => model.site_bodyid()[id] as usize,
    }
}

fn piece_look(model: &MjModel, piece: VariedPiece, carrier: Option<usize>) -> PieceLook {
    let (position, rotation, size, rgba) = match piece {
        VariedPiece::Geom(id) => (
            model.geom_pos()[id],
            model.geom_quat()[id],
            model.geom_size()[id],
            model.geom_rgba()[id],
        ),
        VariedPiece::Site(id) => (
            model.site_pos()[id],
            model.site_quat()[id],
            model.site_size()[id],
            model.site_rgba()[id],
        ),
    };
    let (position, rotation) = carried(model, body_of(model, piece), carrier, position, rotation);
    PieceLook {
        pose: Pose {
            position: position.as_vec3().to_array(),
            rotation: [rotation.w, rotation.x, rotation.y, rotation.z].map(|part| part as f32),
        },
        size: size.map(|side| side as f32),
        rgba,
    }
}

/// A pose on a body in the frame of another one that carries it, or in that of the environment. All bodies between the two
/// are fixed.
fn carried(
    model: &MjModel,
    body: usize,
    carrier: Option<usize>,
    position: [f64; 3],
    rotation: [f64; 4],
) -> (DVec3, DQuat) {
    let turn = |[w, x, y, z]: [f64; 4]| DQuat::from_xyzw(x, y, z, w);
    let (mut position, mut rotation) = (DVec3::from(position), turn(rotation));
    let mut at = body;
    while at != 0 && Some(at) != carrier {
        let own = turn(model.body_quat()[at]);
        position = DVec3::from(model.body_pos()[at]) + own * position;
        rotation = own * rotation;
        at = model.body_parentid()[at] as usize;
    }
    (position, rotation.normalize())
}

/// The lights of a model, that of the eye first. Those that follow something are shown where they are at the start.
pub fn lights(model: &MjModel) -> impl Iterator<Item = LightLook> {
    let head = &model.vis().headlight;
    let head = LightLook {
        kind: LightKind::Head,
        on: head.active != 0,
        body: None,
        position: [0.0; 3],
        direction: [0.0, 0.0, -1.0],
        cutoff: 0.0,
        ambient: head.ambient,
        diffuse: head.diffuse,
        shadows: false,
    };
    let others = (0..model.light_type().len()).map(|light| {
        let body = model.light_bodyid()[light] as usize;
        let carrier = carrier_of(model, body);
        let identity = [1.0, 0.0, 0.0, 0.0];
        let (position, turn) = carried(
            model,
            body,
            carrier.map(|(body, _)| body),
            model.light_pos()[light],
            identity,
        );
        let direction = turn * DVec3::from(model.light_dir()[light]);
        let kind = match model.light_type()[light] {
            MjtLightType::mjLIGHT_DIRECTIONAL => LightKind::Sun,
            MjtLightType::mjLIGHT_POINT => LightKind::Point,
            _ => LightKind::Spot,
        };
        LightLook {
            kind,
            on: model.light_active()[light] && model.light_type()[light] != MjtLightType::mjLIGHT_IMAGE,
            body: carrier.map(|(_, place)| place),
            position: position.as_vec3().to_array(),
            direction: direction.as_vec3().to_array(),
            cutoff: model.light_cutoff()[light].to_radians(),
            ambient: model.light_ambient()[light],
            diffuse: model.light_diffuse()[light],
            shadows: model.light_castshadow()[light],
        }
    });
    std::iter::once(head).chain(others)
}

/// The moving body that carries a body, and its place among those; asked seldom, so nothing is kept.
fn carrier_of(model: &MjModel, body: usize) -> Option<(usize, usize)> {
    // Lights are nearly always fixed to the world.
    if body == 0 {
        return None;
    }
    let place = moved_by(model).get(body).copied().flatten()?;
    moving_bodies(model).get(place).map(|body| (*body, place))
}
