//! Simpler forms of fine meshes, for pictures of many environments.

use std::collections::HashMap;

use meshopt::SimplifyOptions;

use super::Batch;

/// Meshes of fewer triangles than this are drawn as they are.
const LEAST: usize = 1_500;
/// Share of the triangles that is aimed at.
const SHARE: f32 = 0.06;
/// How far a simpler surface may be away, of the size of the mesh.
const ERROR: f32 = 0.02;

impl Batch {
    /// The same surface in fewer triangles; `None` if it has few or cannot do with much fewer.
    pub(super) fn simplified(&self) -> Option<Self> {
        if self.indices.len() < 3 * LEAST {
            return None;
        }
        let wanted = (self.indices.len() as f32 * SHARE) as usize / 3 * 3;
        let options = SimplifyOptions::Prune | SimplifyOptions::Permissive;
        let indices = meshopt::simplify_decoder(&self.indices, &self.positions, wanted, ERROR, options, None);
        if indices.is_empty() || 2 * indices.len() > self.indices.len() {
            return None;
        }
        let mut simple = Self::default();
        let mut known = HashMap::new();
        for index in indices {
            let new = known.entry(index).or_insert_with(|| {
                let vertex = index as usize;
                simple.positions.extend(self.positions.get(vertex));
                simple.normals.extend(self.normals.get(vertex));
                simple.uvs.extend(self.uvs.get(vertex));
                simple.colours.extend(self.colours.get(vertex));
                simple.positions.len() as u32 - 1
            });
            simple.indices.push(*new);
        }
        Some(simple)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use bevy::mesh::{Indices, SphereKind};
    use bevy::prelude::*;

    use super::*;

    #[test]
    fn a_fine_sphere_stays_a_sphere() {
        let kind = SphereKind::Ico { subdivisions: 30 };
        let mesh = Sphere::new(2.0).mesh().kind(kind).build();
        let attribute = |id| mesh.attribute(id).unwrap().as_float3().unwrap().to_vec();
        let Some(Indices::U32(indices)) = mesh.indices().cloned() else {
            panic!("unexpected indices");
        };
        let count = mesh.count_vertices();
        let batch = Batch {
            positions: attribute(Mesh::ATTRIBUTE_POSITION),
            normals: attribute(Mesh::ATTRIBUTE_NORMAL),
            uvs: vec![[0.0; 2]; count],
            colours: vec![[1.0; 4]; count],
            indices,
        };
        let simple = batch.simplified().unwrap();
        assert!(
            simple.indices.len() * 5 < batch.indices.len(),
            "{}",
            simple.indices.len()
        );
        assert!(simple.positions.len() == simple.normals.len() && simple.positions.len() == simple.uvs.len());
        for triangle in simple.indices.chunks(3) {
            let centre: Vec3 = triangle
                .iter()
                .map(|&index| Vec3::from(simple.positions[index as usize]))
                .sum();
            assert!((centre.length() / 3.0 - 2.0).abs() < 0.1);
        }
    }
}
