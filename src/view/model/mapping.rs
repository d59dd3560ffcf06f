//! Texture coordinates.

use std::collections::HashMap;

use bevy::prelude::*;
use mujoco_rs::wrappers::mj_model::MjModel;

use super::Piece;
use super::shapes::Surface;
use super::textures::{Layout, Texture};

/// How a texture is laid on a surface.
pub(super) enum Mapping {
    /// Not at all.
    Plain,
    /// As the mesh says.
    Own,
    /// A picture from above, repeated so many half times a metre along each axis. Where `MuJoCo` would draw it out
    /// into streaks, on triangles that do not face up or down, it is laid on from the side.
    Flat { repeats: Vec3 },
    /// A picture for each of the six sides of a box.
    Cube { centre: Vec3, half: f32, faces: Faces },
}

/// The pictures of a cube.
pub(super) enum Faces {
    /// One for all sides.
    Same,
    /// One above the other: right, left, up, down, front, back.
    Stacked {
        /// Half a pixel, as a share of a side: keeps the neighbours out.
        inset: f32,
    },
}

/// A side of a box: the axis it is square to, and whether it looks along it backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Side {
    axis: usize,
    backwards: bool,
}

impl Mapping {
    pub fn of(model: &MjModel, piece: &Piece, texture: Option<Texture>, surface: &Surface) -> Self {
        let (Some(texture), Some(material)) = (texture, piece.material) else {
            return Self::Plain;
        };
        match texture.layout {
            Layout::Flat if surface.uvs.is_some() => Self::Own,
            Layout::Flat => {
                let repeat = model
                    .mat_texrepeat()
                    .get(material)
                    .map_or(Vec2::ONE, |repeat| Vec2::from(*repeat));
                let uniform = model.mat_texuniform().get(material).is_some_and(|uniform| *uniform);
                let relative = |repeat: f32, unit: f32| if uniform || unit <= 0.0 { repeat } else { repeat / unit };
                let unit = surface.unit;
                let repeats = Vec3::new(
                    relative(repeat.x, unit.x),
                    relative(repeat.y, unit.y),
                    relative(repeat.y, unit.z),
                );
                Self::Flat { repeats }
            }
            Layout::Cube => Self::cube(surface, Faces::Same),
            Layout::Stack { side } => {
                let inset = 0.5 / side as f32;
                Self::cube(surface, Faces::Stacked { inset })
            }
        }
    }

    /// Around the longest side of the surface's box, so that nothing is stretched.
    fn cube(surface: &Surface, faces: Faces) -> Self {
        let (lowest, highest) = (surface.positions.iter())
            .fold((Vec3::INFINITY, Vec3::NEG_INFINITY), |(low, high), point| {
                (low.min(*point), high.max(*point))
            });
        Self::Cube {
            centre: 0.5 * (lowest + highest),
            half: (0.5 * (highest - lowest)).max_element().max(f32::EPSILON),
            faces,
        }
    }

    /// Gives the surface its texture coordinates.
    pub fn apply(&self, surface: Surface) -> Surface {
        match self {
            Self::Plain => Surface { uvs: None, ..surface },
            Self::Own => surface,
            Self::Flat { repeats } => unwrap_sides(&surface, |point, side| flat(point * repeats, side)),
            Self::Cube { centre, half, faces } => unwrap_sides(&surface, |point, side| {
                let (place, uv) = cube((point - centre) / half, side);
                match faces {
                    Faces::Same => uv,
                    Faces::Stacked { inset } => {
                        let uv = uv.clamp(Vec2::splat(*inset), Vec2::splat(1.0 - inset));
                        Vec2::new(uv.x, (place as f32 + uv.y) / 6.0)
                    }
                }
            }),
        }
    }
}

/// `MuJoCo`'s mapping of pictures, for triangles that face up or down; the others in the same way.
fn flat(point: Vec3, side: Side) -> Vec2 {
    let (right, up) = match side.axis {
        0 => (point.y, point.z),
        1 => (point.x, point.z),
        _ => (point.x, point.y),
    };
    Vec2::new(0.5 * right - 0.5, -0.5 * up - 0.5)
}

/// Place of a side in a cube texture, and the coordinates there: OpenGL's convention, which `MuJoCo` follows, but with
/// the sides looked at straight on.
fn cube(point: Vec3, side: Side) -> (usize, Vec2) {
    let Vec3 { x, y, z } = point;
    let (s, t) = match (side.axis, side.backwards) {
        (0, false) => (-z, -y),
        (0, true) => (z, -y),
        (1, false) => (x, z),
        (1, true) => (x, -z),
        (_, false) => (x, -y),
        (_, true) => (-x, -y),
    };
    (2 * side.axis + usize::from(side.backwards), 0.5 + 0.5 * Vec2::new(s, t))
}

/// Lays every triangle on the side of a box that it faces most. Vertices between sides are doubled.
fn unwrap_sides(surface: &Surface, place: impl Fn(Vec3, Side) -> Vec2) -> Surface {
    let mut unwrapped = Surface {
        unit: surface.unit,
        ..default()
    };
    let mut uvs = Vec::with_capacity(surface.positions.len());
    let mut known: HashMap<(u32, Side), u32> = HashMap::with_capacity(surface.positions.len());
    for triangle in &surface.triangles {
        let [a, b, c] = triangle.map(|vertex| surface.positions[vertex as usize]);
        let side = facing((b - a).cross(c - a));
        let corners = triangle.map(|vertex| {
            *known.entry((vertex, side)).or_insert_with(|| {
                let position = surface.positions[vertex as usize];
                uvs.push(place(position, side));
                unwrapped.positions.push(position);
                unwrapped.normals.push(surface.normals[vertex as usize]);
                unwrapped.positions.len() as u32 - 1
            })
        });
        unwrapped.triangles.push(corners);
    }
    unwrapped.uvs = Some(uvs);
    unwrapped
}

/// The side of a box that looks most into this direction.
fn facing(direction: Vec3) -> Side {
    let size = direction.abs();
    let axis = if size.z >= size.x && size.z >= size.y {
        2
    } else if size.x >= size.y {
        0
    } else {
        1
    };
    Side {
        axis,
        backwards: direction[axis] < 0.0,
    }
}
