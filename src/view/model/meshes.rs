//! Triangles of meshes.

use std::collections::HashMap;

use bevy::prelude::*;
use mujoco_rs::wrappers::mj_model::MjModel;

use super::shapes::Surface;

/// Cosine of the angle between two triangles above which the edge between them is sharp: 40 degrees.
const CREASE: f32 = 0.766;

/// A triangle of a mesh: indices into its vertices, normals and texture coordinates.
struct Face {
    vertices: [i32; 3],
    normals: [i32; 3],
    uvs: [i32; 3],
    positions: [Vec3; 3],
    /// Its normal, twice as long as it is large.
    across: Vec3,
}

/// The surface of mesh `id`, in the frame of its geom. `half` is half the size of its box, m.
///
/// `MuJoCo` works out normals for meshes without any, one for each vertex, which does not suit corners. They are left
/// aside for normals with sharp edges.
pub(super) fn surface(model: &MjModel, id: usize, half: Vec3) -> Option<Surface> {
    let positions = section(model.mesh_vert(), model.mesh_vertadr(), model.mesh_vertnum(), id)?;
    let normals = section(model.mesh_normal(), model.mesh_normaladr(), model.mesh_normalnum(), id).unwrap_or(&[]);
    let uvs = section(
        model.mesh_texcoord(),
        model.mesh_texcoordadr(),
        model.mesh_texcoordnum(),
        id,
    )
    .unwrap_or(&[]);
    let faces = faces(model, id, positions)?;
    let has_normals = faces.iter().any(|face| face.normals != face.vertices);
    let around = faces_around(&faces, positions.len());

    let mut surface = Surface {
        unit: half,
        ..default()
    };
    let mut own_uvs = Vec::new();
    let mut known: HashMap<(i32, i32, [u32; 3]), u32> = HashMap::with_capacity(positions.len());
    for face in &faces {
        surface.triangles.push([0, 1, 2].map(|corner| {
            let (vertex, uv) = (face.vertices[corner], face.uvs[corner]);
            let normal = if has_normals {
                // Dark triangles would betray a normal that points inwards.
                let normal = at(normals, face.normals[corner]).map(Vec3::from);
                normal
                    .filter(|normal| normal.dot(face.across) > 0.0)
                    .unwrap_or(face.across)
            } else {
                smooth_normal(face, &around[vertex as usize], &faces)
            };
            let normal = normal.normalize_or(Vec3::Z);
            *known
                .entry((vertex, uv, normal.to_array().map(f32::to_bits)))
                .or_insert_with(|| {
                    surface.positions.push(face.positions[corner]);
                    surface.normals.push(normal);
                    own_uvs.push(at(uvs, uv).map_or(Vec2::ZERO, Vec2::from));
                    surface.positions.len() as u32 - 1
                })
        }));
    }
    surface.uvs = (!uvs.is_empty()).then_some(own_uvs);
    Some(surface)
}

/// The triangles of a mesh that have an area.
fn faces(model: &MjModel, id: usize, positions: &[[f32; 3]]) -> Option<Vec<Face>> {
    let (starts, lengths) = (model.mesh_faceadr(), model.mesh_facenum());
    let vertices = section(model.mesh_face(), starts, lengths, id)?;
    let normals = section(model.mesh_facenormal(), starts, lengths, id)?;
    let uvs = section(model.mesh_facetexcoord(), starts, lengths, id)?;
    let face = |((vertices, normals), uvs): ((&[i32; 3], &[i32; 3]), &[i32; 3])| {
        let [Some(a), Some(b), Some(c)] = vertices.map(|vertex| at(positions, vertex).map(Vec3::from)) else {
            return None;
        };
        let across = (b - a).cross(c - a);
        across.try_normalize().map(|_| Face {
            vertices: *vertices,
            normals: *normals,
            uvs: *uvs,
            positions: [a, b, c],
            across,
        })
    };
    Some(vertices.iter().zip(normals).zip(uvs).filter_map(face).collect())
}

/// For each vertex the triangles it belongs to.
fn faces_around(faces: &[Face], vertices: usize) -> Vec<Vec<usize>> {
    let mut around = vec![Vec::new(); vertices];
    for (index, face) in faces.iter().enumerate() {
        for vertex in face.vertices {
            around[vertex as usize].push(index);
        }
    }
    around
}

/// The mean normal of those triangles around a corner that go on from this one without a sharp edge, by their areas.
fn smooth_normal(face: &Face, around: &[usize], faces: &[Face]) -> Vec3 {
    let direction = face.across.normalize_or_zero();
    (around.iter().map(|index| faces[*index].across))
        .filter(|across| across.normalize_or_zero().dot(direction) >= CREASE)
        .sum()
}

/// The elements that belong to one of several meshes.
fn section<'a, T>(all: &'a [T], starts: &[i32], lengths: &[i32], id: usize) -> Option<&'a [T]> {
    let start = usize::try_from(*starts.get(id)?).ok()?;
    let length = usize::try_from(*lengths.get(id)?).ok()?;
    all.get(start..start + length)
}

/// The element at an index that may be none.
fn at<T: Copy>(all: &[T], index: i32) -> Option<T> {
    all.get(usize::try_from(index).ok()?).copied()
}
