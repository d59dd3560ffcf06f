//! Geoms and sites that environments differ in: each is drawn by itself, so that it can have another colour, size and place
//! in each of them.

use bevy::math::Vec3Swizzles;
use bevy::prelude::*;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::traits::ModelType;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtGeomBase};

use super::finish::Finish;
use super::mapping::Mapping;
use super::shapes::Surface;
use super::textures::Pictures;
use super::{Batch, LAST_SEEN_GROUP, ModelLook, PartKind, Piece, own_or, pieces};
use crate::scene::VariedPiece;
use crate::view::crowd::GAP;
use crate::watch::looks::PieceLook;
use crate::watch::moved_by;

/// A geom or site that environments may differ in.
#[derive(Debug, Clone)]
pub struct VariedPart {
    /// Its place in [`Looks::pieces`](crate::scene::Looks::pieces).
    pub piece: usize,
    /// Place in [`moving_bodies`](crate::watch::moving_bodies) of the body it moves with; none for what never moves.
    pub body: Option<usize>,
    /// `MuJoCo`'s group, 0 to 5.
    pub group: usize,
    /// What it is.
    pub kind: PartKind,
    /// The triangles in its own frame and in the size that it has in the scene's model, white.
    pub mesh: Handle<Mesh>,
    /// The same in far fewer triangles, if the mesh is fine.
    pub simple: Option<Handle<Mesh>>,
    /// The material without the colour.
    material: StandardMaterial,
    /// The colour that the model's material has.
    of_material: Option<[f32; 4]>,
    /// How much of its colour it emits.
    emission: f32,
    /// The first number of its size in the scene's model.
    size: f32,
}

impl VariedPart {
    /// The material of one that looks like this.
    pub fn material(&self, look: &PieceLook) -> StandardMaterial {
        let mut material = self.material.clone();
        self.paint(look, &mut material);
        material
    }

    /// Gives the material the colour.
    pub fn paint(&self, look: &PieceLook, material: &mut StandardMaterial) {
        let [red, green, blue, alpha] = own_or(self.of_material, look.rgba);
        material.base_color = Color::srgba(red, green, blue, alpha);
        material.emissive = Color::srgb(red, green, blue).to_linear() * self.emission;
    }

    /// Where it is on its body, and how large.
    pub fn transform(&self, look: &PieceLook) -> Transform {
        let [w, x, y, z] = look.pose.rotation;
        // All sides grow alike.
        let scale = if self.size > 0.0 { look.size[0] / self.size } else { 1.0 };
        Transform {
            translation: Vec3::from(look.pose.position),
            rotation: Quat::from_xyzw(x, y, z, w).normalize(),
            scale: Vec3::splat(scale),
        }
    }
}

/// The parts of those pieces that are to be seen at all.
pub(super) fn parts<M: ModelType>(
    model: &MjModel,
    data: &MjData<M>,
    varied: &[VariedPiece],
    look: &ModelLook,
    (pictures, images, meshes): (&mut Pictures, &mut Assets<Image>, &mut Assets<Mesh>),
) -> Vec<VariedPart> {
    let moved = moved_by(model);
    let mut parts = Vec::with_capacity(varied.len());
    for piece in pieces(model, data) {
        let Some(place) = varied.iter().position(|varied| *varied == piece.id) else {
            continue;
        };
        let rgba = piece.colour(model);
        let body = moved.get(piece.body).copied().flatten();
        let surface = match body {
            None => floor(&piece, look).or_else(|| Surface::of(model, &piece)),
            Some(_) => Surface::of(model, &piece),
        };
        let Some(surface) = surface.filter(|_| rgba[3] > 0.0) else {
            continue;
        };
        let texture = piece
            .material
            .and_then(|material| pictures.of_material(material, images));
        let finish = Finish::of(model, &piece, rgba, texture);
        let mapping = Mapping::of(model, &piece, texture, &surface);
        let mut batch = Batch::default();
        batch.add(&mapping.apply(surface), bevy::math::DAffine3::IDENTITY, [1.0; 4]);
        parts.push(VariedPart {
            piece: place,
            body,
            group: piece.group,
            kind: piece.kind,
            simple: batch.simplified().map(|simple| meshes.add(simple.into_mesh())),
            mesh: meshes.add(batch.into_mesh()),
            material: finish.material(pictures),
            of_material: piece.material_colour(model),
            emission: (piece.material)
                .and_then(|material| model.mat_emission().get(material))
                .copied()
                .unwrap_or_default(),
            size: piece.size[0] as f32,
        });
    }
    parts
}

/// A floor of its own ends where the next environment begins; none for what is no floor, or small enough.
fn floor(piece: &Piece, look: &ModelLook) -> Option<Surface> {
    let plane = piece.kind == PartKind::Geom && piece.shape == MjtGeomBase::mjGEOM_PLANE;
    if !plane || piece.group > LAST_SEEN_GROUP {
        return None;
    }
    let (low, high) = look.corners();
    let room = 0.5 * (high - low).xy() + Vec2::splat(0.5 * GAP);
    let half = Vec3::from(piece.size.map(|size| size as f32)).xy();
    let endless = half.min_element() <= 0.0;
    if !endless && half.cmple(room).all() {
        return None;
    }
    let unit = Vec3::new(half.x, half.y, 0.0);
    let middle = (piece.pose.inverse()).transform_point3((0.5 * (low + high)).as_dvec3());
    Some(Surface::rectangle(middle.as_vec3().xy(), room, unit))
}
