//! Triangles of each type of geom.

use std::f32::consts::FRAC_PI_2;

use bevy::mesh::{CylinderMeshBuilder, MeshBuilder, Meshable, VertexAttributeValues};
use bevy::prelude::*;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtGeomBase};

use super::{Piece, meshes};

/// Corners of a circle. Multiples of four, so that the shapes are as wide as they should be.
const AROUND: u32 = 24;
/// Rings of a sphere from pole to pole.
const RINGS: u32 = 12;
/// Half the side of what is drawn of an infinite plane, m.
const FAR: f32 = 5.0;

/// Triangles in the frame of a geom, m. Seen from outside their corners are anticlockwise.
#[derive(Debug, Clone, Default)]
pub(super) struct Surface {
    /// Vertices.
    pub positions: Vec<Vec3>,
    /// For each vertex, of length 1.
    pub normals: Vec<Vec3>,
    /// For each vertex, if there are texture coordinates.
    pub uvs: Option<Vec<Vec2>>,
    /// Vertices of each triangle.
    pub triangles: Vec<[u32; 3]>,
    /// What textures that are fitted to the geom relate to along each axis, m; zero for none.
    pub unit: Vec3,
}

impl Surface {
    /// The surface of a geom or a site; none if its mesh or height field is missing.
    pub fn of(model: &MjModel, piece: &Piece) -> Option<Self> {
        let size = Vec3::from(piece.size.map(|size| size as f32));
        match piece.shape {
            MjtGeomBase::mjGEOM_PLANE => Some(Self::plane(size)),
            MjtGeomBase::mjGEOM_HFIELD => Self::height_field(model, piece.asset?),
            MjtGeomBase::mjGEOM_SPHERE => Self::ellipsoid(Vec3::splat(size.x)),
            MjtGeomBase::mjGEOM_ELLIPSOID => Self::ellipsoid(size),
            MjtGeomBase::mjGEOM_CAPSULE => Self::capsule(size.x, size.y),
            MjtGeomBase::mjGEOM_CYLINDER => Self::cylinder(size.x, size.y),
            MjtGeomBase::mjGEOM_BOX => Self::cuboid(size),
            MjtGeomBase::mjGEOM_MESH | MjtGeomBase::mjGEOM_SDF => meshes::surface(model, piece.asset?, size),
        }
    }

    /// Facing up. A size of zero is infinity.
    fn plane(size: Vec3) -> Self {
        let half = size.truncate().map(|size| if size > 0.0 { size } else { FAR });
        Self::rectangle(Vec2::ZERO, half, Vec3::new(size.x, size.y, 0.0))
    }

    /// A part of a plane, with textures as on the plane.
    pub fn rectangle(middle: Vec2, half: Vec2, unit: Vec3) -> Self {
        let mut plane = Self { unit, ..default() };
        let corner = |x: f32, y: f32| Vec3::new(middle.x + x * half.x, middle.y + y * half.y, 0.0);
        plane.add_quad([
            corner(-1.0, -1.0),
            corner(1.0, -1.0),
            corner(1.0, 1.0),
            corner(-1.0, 1.0),
        ]);
        plane
    }

    fn ellipsoid(half: Vec3) -> Option<Self> {
        let unit_sphere = Sphere::new(1.0).mesh().uv(AROUND, RINGS);
        let mut surface = Self::of_primitive(&unit_sphere, Quat::IDENTITY, half)?;
        for position in &mut surface.positions {
            *position *= half;
        }
        for normal in &mut surface.normals {
            *normal = (*normal / half.max(Vec3::splat(1e-6))).normalize_or(*normal);
        }
        Some(surface)
    }

    fn capsule(radius: f32, half_length: f32) -> Option<Self> {
        let capsule = Capsule3d::new(radius, 2.0 * half_length)
            .mesh()
            .longitudes(AROUND)
            .latitudes(RINGS)
            .build();
        Self::of_primitive(&capsule, upright(), Vec3::new(radius, radius, half_length))
    }

    fn cylinder(radius: f32, half_length: f32) -> Option<Self> {
        let cylinder = CylinderMeshBuilder::new(radius, 2.0 * half_length, AROUND).build();
        Self::of_primitive(&cylinder, upright(), Vec3::new(radius, radius, half_length))
    }

    fn cuboid(half: Vec3) -> Option<Self> {
        let cuboid = Cuboid::from_size(2.0 * half).mesh().build();
        Self::of_primitive(&cuboid, Quat::IDENTITY, half)
    }

    /// A primitive of Bevy's, turned.
    fn of_primitive(mesh: &Mesh, turn: Quat, unit: Vec3) -> Option<Self> {
        let vectors = |values: &VertexAttributeValues| -> Option<Vec<Vec3>> {
            Some(
                values
                    .as_float3()?
                    .iter()
                    .map(|vector| turn * Vec3::from(*vector))
                    .collect(),
            )
        };
        let indices: Vec<u32> = mesh.indices()?.iter().map(|index| index as u32).collect();
        let mut surface = Self {
            positions: vectors(mesh.attribute(Mesh::ATTRIBUTE_POSITION)?)?,
            normals: vectors(mesh.attribute(Mesh::ATTRIBUTE_NORMAL)?)?,
            uvs: None,
            triangles: indices.as_chunks().0.to_vec(),
            unit,
        };
        for normal in &mut surface.normals {
            *normal = normal.normalize_or(Vec3::Z);
        }
        Some(surface)
    }

    /// The heights, four walls and a bottom.
    fn height_field(model: &MjModel, id: usize) -> Option<Self> {
        let [half_x, half_y, top, bottom] = model.hfield_size().get(id)?.map(|size| size as f32);
        let rows = usize::try_from(*model.hfield_nrow().get(id)?).ok()?;
        let columns = usize::try_from(*model.hfield_ncol().get(id)?).ok()?;
        let start = usize::try_from(*model.hfield_adr().get(id)?).ok()?;
        let heights = model.hfield_data().get(start..start + rows * columns)?;
        if rows < 2 || columns < 2 {
            return None;
        }
        let step = Vec2::new(2.0 * half_x / (columns - 1) as f32, 2.0 * half_y / (rows - 1) as f32);
        let height = |column: usize, row: usize| top * heights[row * columns + column];
        let point = |column: usize, row: usize| {
            let (x, y) = (column as f32 * step.x - half_x, row as f32 * step.y - half_y);
            Vec3::new(x, y, height(column, row))
        };
        let mut surface = Self {
            unit: Vec3::new(half_x, half_y, 0.0),
            ..default()
        };
        for row in 0..rows {
            for column in 0..columns {
                let (left, right) = (column.saturating_sub(1), (column + 1).min(columns - 1));
                let (front, back) = (row.saturating_sub(1), (row + 1).min(rows - 1));
                let along = point(right, row) - point(left, row);
                let across = point(column, back) - point(column, front);
                surface.positions.push(point(column, row));
                surface.normals.push(along.cross(across).normalize_or(Vec3::Z));
            }
        }
        for row in 1..rows {
            for column in 1..columns {
                let c = (row * columns + column) as u32;
                let (b, d) = (c - columns as u32, c - 1);
                surface.triangles.extend([[b - 1, b, c], [b - 1, c, d]]);
            }
        }
        surface.add_walls(&border(columns, rows, point), -bottom);
        let corner = |x: f32, y: f32| Vec3::new(x * half_x, y * half_y, -bottom);
        surface.add_quad([
            corner(-1.0, 1.0),
            corner(1.0, 1.0),
            corner(1.0, -1.0),
            corner(-1.0, -1.0),
        ]);
        Some(surface)
    }

    /// Walls from a border, anticlockwise from above, down to a height.
    fn add_walls(&mut self, border: &[Vec3], height: f32) {
        let next = border.iter().cycle().skip(1);
        for (from, to) in border.iter().zip(next) {
            let [foot_from, foot_to] = [from, to].map(|point| Vec3::new(point.x, point.y, height));
            self.add_quad([foot_from, foot_to, *to, *from]);
        }
    }

    /// A flat quadrangle, corners anticlockwise.
    fn add_quad(&mut self, corners: [Vec3; 4]) {
        let first = self.positions.len() as u32;
        let [a, b, c, d] = corners;
        // The diagonals are there even if an edge has no length.
        let normal = (c - a).cross(d - b).normalize_or(Vec3::Z);
        self.positions.extend(corners);
        self.normals.extend([normal; 4]);
        self.triangles
            .extend([[first, first + 1, first + 2], [first, first + 2, first + 3]]);
    }
}

/// From Bevy's axis for round shapes, y, to `MuJoCo`'s, z.
fn upright() -> Quat {
    Quat::from_rotation_x(FRAC_PI_2)
}

/// The points on the border of a grid, anticlockwise from above.
fn border(columns: usize, rows: usize, point: impl Fn(usize, usize) -> Vec3) -> Vec<Vec3> {
    let (right, back) = (columns - 1, rows - 1);
    let front = (0..right).map(|column| point(column, 0));
    let right_side = (0..back).map(|row| point(right, row));
    let back_side = (1..=right).rev().map(|column| point(column, back));
    let left_side = (1..=back).rev().map(|row| point(0, row));
    front.chain(right_side).chain(back_side).chain(left_side).collect()
}
