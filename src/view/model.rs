//! How a `MuJoCo` model looks: its geoms and sites as meshes, materials and textures.
//!
//! Everything stays in `MuJoCo`'s frame (z up, m). Geoms that move together and look alike become one [`Part`], with
//! their colours in its vertices, so that an environment is a few dozen draws, and the same ones as of all other
//! environments.
//!
//! | module | what it does |
//! |---|---|
//! | `shapes` | triangles of each type of geom |
//! | `meshes` | triangles of meshes |
//! | `mapping` | texture coordinates |
//! | `textures` | textures as images |
//! | `finish` | materials |
//! | `simplify` | simpler forms of fine meshes |
//! | `varied` | geoms and sites that environments differ in |
//!
//! As in `MuJoCo`'s own renderer a colour is a display value (sRGB), and the colour of a geom replaces that of its
//! material unless it is the default grey. Cube textures are laid on from the six sides of a geom's box without
//! stretching, so they show more or less of the texture than `MuJoCo` does on long geoms. Left out are skins, flexes,
//! the skybox and all textures but the one for colours.

mod finish;
mod mapping;
mod meshes;
mod shapes;
mod simplify;
#[cfg(test)]
mod tests;
mod textures;
mod varied;

use std::collections::BTreeMap;

use bevy::asset::RenderAssetUsages;
use bevy::math::{DAffine3, DMat3, DQuat, DVec3};
use bevy::mesh::{Indices, PrimitiveTopology};
use bevy::prelude::*;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::traits::ModelType;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtGeomBase};

use self::finish::Finish;
use self::mapping::Mapping;
use self::shapes::Surface;
use self::textures::Pictures;
pub use self::varied::VariedPart;
use crate::scene::VariedPiece;
use crate::watch::{moved_by, moving_bodies};

/// `MuJoCo`'s highest group of geoms.
const LAST_GROUP: i32 = 5;
/// Groups up to this one are there to be seen, the others to collide.
const LAST_SEEN_GROUP: usize = 2;
/// The colour of geoms that were given none.
const DEFAULT_RGBA: [f32; 4] = [0.5, 0.5, 0.5, 1.0];

/// How a model looks: what is spawned for every environment.
#[derive(Debug, Clone)]
pub struct ModelLook {
    /// What is drawn.
    pub parts: Vec<Part>,
    /// What environments differ in, each by itself.
    pub varied: Vec<VariedPart>,
    /// Lowest and highest corner of the box around all geoms of groups 0 to 2 in the start state, m. Infinite planes
    /// are left out.
    pub bounds: (Vec3, Vec3),
    /// The same without any planes: what stands on the floor.
    pub bounds_without_planes: (Vec3, Vec3),
}

impl ModelLook {
    /// The corners of the box around what stands on the floor.
    pub fn corners(&self) -> (Vec3, Vec3) {
        let (low, high) = self.bounds_without_planes;
        if low == high { self.bounds } else { (low, high) }
    }
}

/// Geoms or sites that move together and share a material.
#[derive(Debug, Clone)]
pub struct Part {
    /// Place in [`moving_bodies`] of the body it moves with; none for what never moves.
    pub body: Option<usize>,
    /// `MuJoCo`'s group, 0 to 5.
    pub group: usize,
    /// What it is made of.
    pub kind: PartKind,
    /// It consists of planes: the floor, mostly.
    pub plane: bool,
    /// The triangles, in the frame of the body (that of the environment if it never moves).
    pub mesh: Handle<Mesh>,
    /// The same in far fewer triangles, for pictures of many environments; none if the mesh is not fine.
    pub simple: Option<Handle<Mesh>>,
    /// The material; colours are in the mesh.
    pub material: Handle<StandardMaterial>,
}

/// What a [`Part`] is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartKind {
    /// Geoms.
    Geom,
    /// Sites.
    Site,
}

/// Makes meshes, materials and images out of a model. `data` is the start state, with all poses worked out, and `varied`
/// what environments differ in.
///
/// A texture that cannot be loaded is left out, with a warning.
pub fn look_of<M: ModelType>(
    model: &MjModel,
    data: &MjData<M>,
    varied: &[VariedPiece],
    meshes: &mut Assets<Mesh>,
    materials: &mut Assets<StandardMaterial>,
    images: &mut Assets<Image>,
) -> ModelLook {
    let mut pictures = Pictures::new(model);
    let (batches, bounds, bounds_without_planes) = batches_of(model, data, varied, &mut pictures, images);
    let mut shared: BTreeMap<Finish, Handle<StandardMaterial>> = BTreeMap::new();
    let mut parts = Vec::with_capacity(batches.len());
    for (key, batch) in batches {
        let material = shared.entry(key.finish);
        let material = material.or_insert_with(|| materials.add(key.finish.material(&pictures)));
        parts.push(Part {
            body: key.body,
            group: key.group,
            kind: key.kind,
            plane: key.plane,
            simple: batch.simplified().map(|simple| meshes.add(simple.into_mesh())),
            mesh: meshes.add(batch.into_mesh()),
            material: material.clone(),
        });
    }
    let mut look = ModelLook {
        parts,
        varied: Vec::new(),
        bounds: bounds.corners(),
        bounds_without_planes: bounds_without_planes.corners(),
    };
    if !varied.is_empty() {
        look.varied = varied::parts(model, data, varied, &look, (&mut pictures, images, meshes));
    }
    look
}

/// Merges all geoms and sites, and finds the boxes around them, with and without planes.
fn batches_of<M: ModelType>(
    model: &MjModel,
    data: &MjData<M>,
    varied: &[VariedPiece],
    pictures: &mut Pictures,
    images: &mut Assets<Image>,
) -> (BTreeMap<Key, Batch>, Extent, Extent) {
    let moved = moved_by(model);
    let (positions, rotations) = (data.xpos(), data.xquat());
    let to_body: Vec<DAffine3> = (moving_bodies(model).into_iter())
        .map(|body| {
            let [w, x, y, z] = rotations[body];
            let rotation = DQuat::from_xyzw(x, y, z, w);
            DAffine3::from_rotation_translation(rotation, DVec3::from(positions[body])).inverse()
        })
        .collect();
    let mut batches: BTreeMap<Key, Batch> = BTreeMap::new();
    let (mut all, mut solid) = (Extent::EMPTY, Extent::EMPTY);
    for piece in pieces(model, data) {
        let rgba = piece.colour(model);
        if rgba[3] <= 0.0 {
            continue;
        }
        let Some(surface) = Surface::of(model, &piece) else {
            continue;
        };
        let plane = piece.shape == MjtGeomBase::mjGEOM_PLANE;
        if piece.kind == PartKind::Geom && piece.group <= LAST_SEEN_GROUP && !piece.is_infinite() {
            let points = || {
                surface
                    .positions
                    .iter()
                    .map(|point| piece.pose.transform_point3(point.as_dvec3()))
            };
            all.add(points());
            if !plane {
                solid.add(points());
            }
        }
        if varied.contains(&piece.id) {
            continue;
        }
        let texture = piece
            .material
            .and_then(|material| pictures.of_material(material, images));
        let mapping = Mapping::of(model, &piece, texture, &surface);
        let body = moved.get(piece.body).copied().flatten();
        let key = Key {
            body,
            group: piece.group,
            kind: piece.kind,
            plane,
            finish: Finish::of(model, &piece, rgba, texture),
        };
        let place = body
            .and_then(|body| to_body.get(body))
            .map_or(piece.pose, |to_body| *to_body * piece.pose);
        batches
            .entry(key)
            .or_default()
            .add(&mapping.apply(surface), place, rgba);
    }
    (batches, all, solid)
}

/// What geoms must share to be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    body: Option<usize>,
    group: usize,
    kind: PartKind,
    plane: bool,
    finish: Finish,
}

/// A geom or a site.
struct Piece {
    id: VariedPiece,
    kind: PartKind,
    shape: MjtGeomBase,
    /// As in the model; what it means depends on the shape.
    size: [f64; 3],
    /// The mesh or the height field.
    asset: Option<usize>,
    body: usize,
    group: usize,
    material: Option<usize>,
    /// Its own colour.
    rgba: [f32; 4],
    /// In the environment's frame.
    pose: DAffine3,
}

impl Piece {
    fn colour(&self, model: &MjModel) -> [f32; 4] {
        own_or(self.material_colour(model), self.rgba)
    }

    fn material_colour(&self, model: &MjModel) -> Option<[f32; 4]> {
        let material = self.material?;
        model.mat_rgba().get(material).copied()
    }

    fn is_infinite(&self) -> bool {
        self.shape == MjtGeomBase::mjGEOM_PLANE && (self.size[0] <= 0.0 || self.size[1] <= 0.0)
    }
}

/// `MuJoCo`'s rule: its own colour counts if there is no material, or if it is not the default.
fn own_or(of_material: Option<[f32; 4]>, rgba: [f32; 4]) -> [f32; 4] {
    of_material.filter(|_| rgba == DEFAULT_RGBA).unwrap_or(rgba)
}

/// All geoms and sites of a model.
fn pieces<M: ModelType>(model: &MjModel, data: &MjData<M>) -> Vec<Piece> {
    let group = |group: i32| group.clamp(0, LAST_GROUP) as usize;
    let index = |id: i32| usize::try_from(id).ok();
    let geoms = (0..model.geom_type().len()).map(|id| Piece {
        id: VariedPiece::Geom(id),
        kind: PartKind::Geom,
        shape: model.geom_type()[id],
        size: model.geom_size()[id],
        asset: index(model.geom_dataid()[id]),
        body: model.geom_bodyid()[id] as usize,
        group: group(model.geom_group()[id]),
        material: index(model.geom_matid()[id]),
        rgba: model.geom_rgba()[id],
        pose: pose(data.geom_xpos()[id], data.geom_xmat()[id]),
    });
    let sites = (0..model.site_type().len()).map(|id| Piece {
        id: VariedPiece::Site(id),
        kind: PartKind::Site,
        shape: model.site_type()[id],
        size: model.site_size()[id],
        asset: index(model.site_dataid()[id]),
        body: model.site_bodyid()[id] as usize,
        group: group(model.site_group()[id]),
        material: index(model.site_matid()[id]),
        rgba: model.site_rgba()[id],
        pose: pose(data.site_xpos()[id], data.site_xmat()[id]),
    });
    geoms.chain(sites).collect()
}

/// A position and a rotation matrix, row by row.
fn pose(position: [f64; 3], matrix: [f64; 9]) -> DAffine3 {
    DAffine3::from_mat3_translation(DMat3::from_cols_array(&matrix).transpose(), DVec3::from(position))
}

/// Merged triangles.
#[derive(Default)]
struct Batch {
    positions: Vec<[f32; 3]>,
    normals: Vec<[f32; 3]>,
    uvs: Vec<[f32; 2]>,
    colours: Vec<[f32; 4]>,
    indices: Vec<u32>,
}

impl Batch {
    /// Adds a surface that stands at `place` in the frame of the batch.
    fn add(&mut self, surface: &Surface, place: DAffine3, rgba: [f32; 4]) {
        let first = self.positions.len() as u32;
        let [red, green, blue, alpha] = rgba;
        let colour = Color::srgba(red, green, blue, alpha).to_linear().to_f32_array();
        let count = surface.positions.len();
        let positions = surface
            .positions
            .iter()
            .map(|point| place.transform_point3(point.as_dvec3()).as_vec3());
        self.positions.extend(positions.map(|point| point.to_array()));
        let normals = (surface.normals.iter()).map(|normal| {
            place
                .transform_vector3(normal.as_dvec3())
                .as_vec3()
                .normalize_or(Vec3::Z)
        });
        self.normals.extend(normals.map(|normal| normal.to_array()));
        // All parts have the same attributes, whether they are textured or not: then one pipeline draws them all.
        match &surface.uvs {
            Some(uvs) => self.uvs.extend(uvs.iter().map(Vec2::to_array)),
            None => self.uvs.extend(std::iter::repeat_n([0.0; 2], count)),
        }
        self.colours.extend(std::iter::repeat_n(colour, count));
        self.indices
            .extend(surface.triangles.iter().flatten().map(|index| first + index));
    }

    fn into_mesh(self) -> Mesh {
        Mesh::new(PrimitiveTopology::TriangleList, RenderAssetUsages::default())
            .with_inserted_attribute(Mesh::ATTRIBUTE_POSITION, self.positions)
            .with_inserted_attribute(Mesh::ATTRIBUTE_NORMAL, self.normals)
            .with_inserted_attribute(Mesh::ATTRIBUTE_UV_0, self.uvs)
            .with_inserted_attribute(Mesh::ATTRIBUTE_COLOR, self.colours)
            .with_inserted_indices(Indices::U32(self.indices))
    }
}

/// A box that grows with the points it gets.
struct Extent {
    lowest: DVec3,
    highest: DVec3,
}

impl Extent {
    const EMPTY: Self = Self {
        lowest: DVec3::INFINITY,
        highest: DVec3::NEG_INFINITY,
    };

    fn add(&mut self, points: impl Iterator<Item = DVec3>) {
        for point in points {
            self.lowest = self.lowest.min(point);
            self.highest = self.highest.max(point);
        }
    }

    /// Lowest and highest corner; both zero if there was no point.
    fn corners(&self) -> (Vec3, Vec3) {
        if self.lowest.cmple(self.highest).all() {
            (self.lowest.as_vec3(), self.highest.as_vec3())
        } else {
            (Vec3::ZERO, Vec3::ZERO)
        }
    }
}
