#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use bevy::mesh::VertexAttributeValues;
use bevy::render::render_resource::TextureFormat;

use super::*;
use crate::scene::CompiledScene;

/// A look with the assets it refers to.
struct Drawn {
    look: ModelLook,
    meshes: Assets<Mesh>,
    materials: Assets<StandardMaterial>,
    images: Assets<Image>,
}

/// The vertices of a mesh.
struct Vertices {
    positions: Vec<Vec3>,
    normals: Vec<Vec3>,
    uvs: Vec<Vec2>,
    colours: Vec<[f32; 4]>,
    triangles: Vec<[usize; 3]>,
}

impl Drawn {
    fn of<M: ModelType>(model: &MjModel, data: &MjData<M>) -> Self {
        let (mut meshes, mut materials, mut images) = (Assets::default(), Assets::default(), Assets::default());
        let look = look_of(model, data, &[], &mut meshes, &mut materials, &mut images);
        Self {
            look,
            meshes,
            materials,
            images,
        }
    }

    /// A model with these assets and this in its world.
    fn of_world(assets: &str, world: &str) -> Self {
        Self::of_model(&model(assets, world))
    }

    fn of_model(model: &MjModel) -> Self {
        let mut data = MjData::new(model);
        data.forward();
        Self::of(model, &data)
    }

    fn vertices(&self, part: usize) -> Vertices {
        let mesh = self.meshes.get(&self.look.parts[part].mesh).unwrap();
        let vectors = |attribute| {
            let values: &VertexAttributeValues = mesh.attribute(attribute).unwrap();
            values
                .as_float3()
                .unwrap()
                .iter()
                .map(|value| Vec3::from(*value))
                .collect::<Vec<_>>()
        };
        let Some(VertexAttributeValues::Float32x2(uvs)) = mesh.attribute(Mesh::ATTRIBUTE_UV_0) else {
            panic!("no texture coordinates");
        };
        let Some(VertexAttributeValues::Float32x4(colours)) = mesh.attribute(Mesh::ATTRIBUTE_COLOR) else {
            panic!("no colours");
        };
        let Some(Indices::U32(indices)) = mesh.indices() else {
            panic!("no indices");
        };
        Vertices {
            positions: vectors(Mesh::ATTRIBUTE_POSITION),
            normals: vectors(Mesh::ATTRIBUTE_NORMAL),
            uvs: uvs.iter().map(|uv| Vec2::from(*uv)).collect(),
            colours: colours.clone(),
            triangles: (indices.as_chunks::<3>().0.iter())
                .map(|triangle| triangle.map(|index| index as usize))
                .collect(),
        }
    }

    fn material(&self, part: usize) -> &StandardMaterial {
        self.materials.get(&self.look.parts[part].material).unwrap()
    }
}

impl Vertices {
    fn extent(&self) -> (Vec3, Vec3) {
        (self.positions.iter()).fold((Vec3::INFINITY, Vec3::NEG_INFINITY), |(low, high), point| {
            (low.min(*point), high.max(*point))
        })
    }

    /// The share of triangles whose corners are anticlockwise, seen from where their normals point.
    fn share_outward(&self) -> f32 {
        let outward = self.triangles.iter().filter(|[a, b, c]| {
            let (ab, ac) = (
                self.positions[*b] - self.positions[*a],
                self.positions[*c] - self.positions[*a],
            );
            ab.cross(ac).dot(self.normals[*a] + self.normals[*b] + self.normals[*c]) > 0.0
        });
        outward.count() as f32 / self.triangles.len() as f32
    }

    /// Everything is there for each vertex, finite, and in range.
    fn check(&self) {
        let count = self.positions.len();
        assert!(count > 0 && !self.triangles.is_empty());
        assert_eq!([self.normals.len(), self.uvs.len(), self.colours.len()], [count; 3]);
        assert!(self.positions.iter().all(|position| position.is_finite()));
        assert!(self.uvs.iter().all(|uv| uv.is_finite()));
        assert!(self.normals.iter().all(|normal| (normal.length() - 1.0).abs() < 1e-3));
        assert!(self.triangles.iter().flatten().all(|index| *index < count));
    }
}

fn model(assets: &str, world: &str) -> MjModel {
    let xml = format!("<mujoco><asset>{assets}</asset><worldbody>{world}</worldbody></mujoco>");
    MjModel::from_xml_string(&xml).unwrap()
}

fn assert_near(actual: (Vec3, Vec3), expected: (Vec3, Vec3)) {
    let near = actual.0.abs_diff_eq(expected.0, 2e-4) && actual.1.abs_diff_eq(expected.1, 2e-4);
    assert!(near, "{actual:?} is not {expected:?}");
}

const MESH: &str = r#"<mesh name="brick" vertex="-.1 -.2 -.3  .1 -.2 -.3  -.1 .2 -.3  .1 .2 -.3
    -.1 -.2 .3  .1 -.2 .3  -.1 .2 .3  .1 .2 .3"/>"#;

/// Every convex shape with half its size along each axis.
const CONVEX: [(&str, Vec3); 7] = [
    (r#"type="box" size=".1 .2 .3""#, Vec3::new(0.1, 0.2, 0.3)),
    (r#"type="sphere" size=".2""#, Vec3::splat(0.2)),
    (r#"type="ellipsoid" size=".1 .2 .3""#, Vec3::new(0.1, 0.2, 0.3)),
    (r#"type="capsule" size=".1 .3""#, Vec3::new(0.1, 0.1, 0.4)),
    (r#"type="cylinder" size=".1 .3""#, Vec3::new(0.1, 0.1, 0.3)),
    (r#"type="mesh" mesh="brick""#, Vec3::new(0.1, 0.2, 0.3)),
    (r#"type="plane" size=".4 .5 .1""#, Vec3::new(0.4, 0.5, 0.0)),
];

#[test]
fn convex_shapes_have_their_size_and_face_outwards() {
    for (shape, half) in CONVEX {
        let drawn = Drawn::of_world(MESH, &format!(r#"<geom {shape} pos="1 2 3"/>"#));
        assert_eq!(drawn.look.parts.len(), 1, "{shape}");
        let vertices = drawn.vertices(0);
        vertices.check();
        let centre = Vec3::new(1.0, 2.0, 3.0);
        assert_near(drawn.look.bounds, (centre - half, centre + half));
        assert_near(vertices.extent(), drawn.look.bounds);
        assert_eq!(vertices.share_outward(), 1.0, "{shape}");
        let plane = half.z == 0.0;
        assert_eq!(drawn.look.parts[0].plane, plane);
        for (position, normal) in vertices.positions.iter().zip(&vertices.normals) {
            assert!(
                plane || (position - centre).dot(*normal) > 0.0,
                "{shape}: {position} {normal}"
            );
        }
    }
}

#[test]
fn sites_have_the_same_shapes() {
    for (shape, half) in &CONVEX[..5] {
        let drawn = Drawn::of_world("", &format!(r#"<site {shape} group="4"/>"#));
        let part = &drawn.look.parts[0];
        assert_eq!((part.kind, part.group, part.body), (PartKind::Site, 4, None));
        assert_near(drawn.vertices(0).extent(), (-half, *half));
        assert_eq!(drawn.look.bounds, (Vec3::ZERO, Vec3::ZERO));
    }
}

#[test]
fn height_fields_are_closed() {
    let hill = r#"<hfield name="hill" nrow="3" ncol="4" size="1 2 .5 .1" elevation="0 0 0 0  0 1 0 0  0 0 0 0"/>"#;
    let drawn = Drawn::of_world(hill, r#"<geom type="hfield" hfield="hill"/>"#);
    let vertices = drawn.vertices(0);
    vertices.check();
    assert_near(
        drawn.look.bounds,
        (Vec3::new(-1.0, -2.0, -0.1), Vec3::new(1.0, 2.0, 0.5)),
    );
    assert_eq!(vertices.share_outward(), 1.0);
    // A closed surface encloses the volume that its triangles span with any point.
    let spanned = |[a, b, c]: &[usize; 3]| {
        vertices.positions[*a]
            .cross(vertices.positions[*b])
            .dot(vertices.positions[*c])
            / 6.0
    };
    let volume: f32 = vertices.triangles.iter().map(spanned).sum();
    // The base, and six triangles around the summit, each a third as high on average, of half a cell.
    let hill = 6.0 * (0.5 / 3.0) * 0.5 * (2.0 / 3.0) * 2.0;
    assert!((volume - (2.0 * 4.0 * 0.1 + hill)).abs() < 1e-4, "{volume}");
}

#[test]
fn parts_are_in_the_frame_of_the_body_they_move_with() {
    let drawn = Drawn::of_world(
        "",
        r#"<geom type="box" size=".1 .1 .1"/>
        <body pos="1 2 3" euler="0 0 90">
            <geom type="box" size=".1 .2 .3" pos="0 0 1"/>
            <body pos="0 0 5"><geom type="box" size=".1 .2 .3"/></body>
            <body pos="2 0 0" euler="90 0 0">
                <joint type="hinge"/>
                <geom type="box" size=".1 .2 .3" pos="1 0 0"/>
                <body pos="0 1 0" euler="0 0 90"><geom type="box" size=".1 .2 .3"/></body>
            </body>
        </body>"#,
    );
    let bodies: Vec<Option<usize>> = drawn.look.parts.iter().map(|part| part.body).collect();
    assert_eq!(bodies, [None, Some(0)]);
    // Turned by a right angle around z: the second body's x is the environment's y.
    assert_near(
        drawn.vertices(0).extent(),
        (Vec3::splat(-0.1), Vec3::new(1.2, 2.1, 8.3)),
    );
    let (low, high) = (Vec3::new(-0.2, -0.2, -0.3), Vec3::new(1.1, 1.1, 0.3));
    assert_near(drawn.vertices(1).extent(), (low, high));
    // The moving body is at (1, 4, 3), its x is y, its y is z, its z is x.
    assert_near(drawn.look.bounds, (Vec3::splat(-0.1), Vec3::new(1.3, 5.1, 8.3)));
    for part in 0..2 {
        drawn.vertices(part).check();
        assert_eq!(drawn.vertices(part).share_outward(), 1.0);
    }
}

#[test]
fn what_looks_alike_is_merged_and_keeps_its_colour() {
    let drawn = Drawn::of_world(
        r#"<material name="red" rgba="1 0 0 1" shininess="0.5"/><material name="dull" shininess="0"/>"#,
        r#"<geom size=".1" material="red"/>
        <geom size=".1" material="red" rgba="0 .5 0 1"/>
        <geom size=".1" rgba="0 0 1 1"/>
        <geom size=".1" rgba="0 0 1 .5"/>
        <geom size=".1" rgba="0 0 1 0"/>
        <geom size=".1" material="dull" group="1"/>
        <geom size=".1" material="dull" group="1"/>
        <geom size="9" group="3"/>
        <geom type="plane" size="0 0 .1"/>"#,
    );
    let seen: Vec<(usize, bool, AlphaMode)> = (drawn.look.parts.iter().enumerate())
        .map(|(index, part)| (part.group, part.plane, drawn.material(index).alpha_mode))
        .collect();
    let (opaque, blend) = (AlphaMode::Opaque, AlphaMode::Blend);
    let expected = [
        (0, false, opaque),
        (0, false, blend),
        (0, true, opaque),
        (1, false, opaque),
        (3, false, opaque),
    ];
    assert_eq!(seen, expected);
    // Infinite planes and groups that only collide do not count.
    assert_near(drawn.look.bounds, (Vec3::splat(-0.1), Vec3::splat(0.1)));
    let mut colours: Vec<[f32; 4]> = drawn.vertices(0).colours;
    colours.dedup();
    // Half of what a screen can show is about a fifth of the light.
    assert_eq!(colours.len(), 3);
    assert_eq!(colours[0], [1.0, 0.0, 0.0, 1.0]);
    assert!((colours[1][1] - 0.214).abs() < 1e-3 && colours[1][0] == 0.0);
    assert_eq!(colours[2], [0.0, 0.0, 1.0, 1.0]);
    assert_eq!(drawn.vertices(1).colours[0], [0.0, 0.0, 1.0, 0.5]);
    assert!(drawn.material(3).perceptual_roughness > drawn.material(0).perceptual_roughness);
    // Parts with the same finish share the material: the first, the plane and the last.
    assert_eq!(drawn.materials.len(), 3);
    assert_eq!(drawn.look.parts[0].material, drawn.look.parts[2].material);
}

#[test]
fn flat_textures_repeat() {
    let assets = r#"<texture name="tiles" type="2d" builtin="checker" width="16" height="8" rgb1="1 0 0" rgb2="0 1 0"/>
        <texture name="again" type="2d" builtin="checker" width="16" height="8" rgb1="1 0 0" rgb2="0 1 0"/>
        <material name="fitted" texture="tiles" texrepeat="3 2"/>
        <material name="even" texture="again" texrepeat="3 2" texuniform="true"/>"#;
    let extent = |material: &str| {
        let drawn = Drawn::of_world(
            assets,
            &format!(r#"<geom type="plane" size="4 5 .1" material="{material}"/>"#),
        );
        assert_eq!(drawn.images.len(), 1);
        let (_, image) = drawn.images.iter().next().unwrap();
        assert_eq!(image.texture_descriptor.format, TextureFormat::Rgba8UnormSrgb);
        assert_eq!(
            (image.width(), image.height(), image.texture_descriptor.mip_level_count),
            (16, 8, 5)
        );
        // All levels down to a single pixel: 16 x 8, 8 x 4, 4 x 2, 2 x 1, 1 x 1.
        assert_eq!(image.data.as_ref().unwrap().len(), 4 * (128 + 32 + 8 + 2 + 1));
        assert!(drawn.material(0).base_color_texture.is_some());
        let uvs = drawn.vertices(0).uvs;
        uvs.iter()
            .fold((Vec2::INFINITY, Vec2::NEG_INFINITY), |(low, high), uv| {
                (low.min(*uv), high.max(*uv))
            })
    };
    let (low, high) = extent("fitted");
    assert!((high - low).abs_diff_eq(Vec2::new(3.0, 2.0), 1e-5));
    let (low, high) = extent("even");
    assert!((high - low).abs_diff_eq(Vec2::new(12.0, 10.0), 1e-5));

    // The same pixels are one image, and with that one material.
    let both = r#"<geom type="plane" size="4 5 .1" material="fitted"/>
        <geom type="box" size="4 5 .1" material="even"/>"#;
    let drawn = Drawn::of_world(assets, both);
    assert_eq!(
        (drawn.images.len(), drawn.materials.len(), drawn.look.parts.len()),
        (1, 1, 2)
    );
}

#[test]
fn cube_textures_have_a_picture_for_every_side() {
    let assets = r#"<texture name="dice" type="cube" builtin="flat" mark="edge" width="8" height="48" rgb1="1 0 0" rgb2="0 1 0"/>
        <material name="dice" texture="dice"/>"#;
    let drawn = Drawn::of_world(assets, r#"<geom type="box" size=".1 .2 .4" material="dice"/>"#);
    let vertices = drawn.vertices(0);
    vertices.check();
    for (normal, uv) in vertices.normals.iter().zip(&vertices.uvs) {
        let sides = [Vec3::X, Vec3::NEG_X, Vec3::Y, Vec3::NEG_Y, Vec3::Z, Vec3::NEG_Z];
        let side = sides.iter().position(|side| side.dot(*normal) > 0.9).unwrap();
        let (from, to) = (side as f32 / 6.0, (side + 1) as f32 / 6.0);
        assert!(
            (from..=to).contains(&uv.y) && (0.0..=1.0).contains(&uv.x),
            "side {side}: {uv}"
        );
    }
    // Along the longest side there is all of the picture, across it as much as fits.
    let across: Vec<f32> = (vertices.normals.iter().zip(&vertices.uvs))
        .filter(|(normal, _)| normal.z > 0.9)
        .map(|(_, uv)| uv.x)
        .collect();
    assert!(
        across
            .iter()
            .all(|x| (x - 0.375).abs() < 1e-5 || (x - 0.625).abs() < 1e-5),
        "{across:?}"
    );
}

#[test]
fn curved_shapes_are_unwrapped_side_by_side() {
    let assets = r#"<texture name="dice" type="cube" builtin="flat" width="8" height="48" rgb1="1 0 0" rgb2="0 1 0"/>
        <material name="dice" texture="dice"/>"#;
    let drawn = Drawn::of_world(assets, r#"<geom type="capsule" size=".1 .2" material="dice"/>"#);
    let vertices = drawn.vertices(0);
    vertices.check();
    assert_eq!(vertices.share_outward(), 1.0);
    for [a, b, c] in &vertices.triangles {
        let strips: BTreeSet<usize> = [a, b, c].map(|vertex| (vertices.uvs[*vertex].y * 6.0) as usize).into();
        assert_eq!(strips.len(), 1, "a triangle lies across two pictures");
    }
}

#[test]
fn meshes_keep_their_texture_coordinates() {
    let assets = r#"<texture name="tiles" type="2d" builtin="checker" width="8" height="8" rgb1="1 0 0" rgb2="0 1 0"/>
        <material name="tiles" texture="tiles"/>
        <mesh name="pyramid" vertex="0 0 0 1 0 0 0 1 0 0 0 1" texcoord="0 0 .25 .5 .75 1 .125 .875"
            face="0 2 1 0 1 3 0 3 2 1 2 3"/>"#;
    let model = model(assets, r#"<geom type="mesh" mesh="pyramid" material="tiles"/>"#);
    let vertices = Drawn::of_model(&model).vertices(0);
    vertices.check();
    assert_eq!(vertices.share_outward(), 1.0);
    let given = [
        (Vec3::ZERO, Vec2::ZERO),
        (Vec3::X, Vec2::new(0.25, 0.5)),
        (Vec3::Y, Vec2::new(0.75, 1.0)),
        (Vec3::Z, Vec2::new(0.125, 0.875)),
    ];
    for (position, uv) in vertices.positions.iter().zip(&vertices.uvs) {
        let (_, expected) = given
            .iter()
            .find(|(corner, _)| corner.distance(*position) < 1e-4)
            .unwrap();
        assert_eq!(uv, expected);
    }
}

#[test]
fn meshes_have_sharp_edges_and_smooth_sides() {
    // A prism with sixteen sides, whose caps the model closes with a hull.
    let corner = |corner: usize, z: f32| {
        let (y, x) = (corner as f32 * std::f32::consts::TAU / 16.0).sin_cos();
        format!("{x} {y} {z} ")
    };
    let points: String = (0..16)
        .flat_map(|index| [corner(index, -0.5), corner(index, 0.5)])
        .collect();
    let drawn = Drawn::of_world(
        &format!(r#"<mesh name="prism" vertex="{points}"/>"#),
        r#"<geom type="mesh" mesh="prism"/>"#,
    );
    let vertices = drawn.vertices(0);
    vertices.check();
    assert_eq!(vertices.share_outward(), 1.0);
    // Each corner belongs to a cap and to the sides.
    assert_eq!(vertices.positions.len(), 64);
    for (position, normal) in vertices.positions.iter().zip(&vertices.normals) {
        let outward = Vec3::new(position.x, position.y, 0.0).normalize();
        let cap = Vec3::new(0.0, 0.0, position.z.signum());
        assert!(
            normal.dot(cap) > 0.999 || normal.dot(outward) > 0.98,
            "{position} {normal}"
        );
    }
}

#[test]
fn emission_glows_in_the_colour_of_the_geom() {
    let drawn = Drawn::of_world(
        r#"<material name="lamp" rgba="1 1 0 1" emission="1"/>"#,
        r#"<geom size=".1" material="lamp"/>"#,
    );
    assert_eq!(drawn.material(0).emissive, LinearRgba::rgb(1.0, 1.0, 0.0));
}

#[test]
fn the_kitchen_is_a_few_dozen_parts() {
    let scene = CompiledScene::load("kitchen", &[]).unwrap();
    let drawn = Drawn::of(scene.model(), scene.fresh());
    let parts = drawn.look.parts.len();
    for index in 0..parts {
        let vertices = drawn.vertices(index);
        vertices.check();
        let outward = vertices.share_outward();
        assert!(
            outward > 0.995,
            "part {index}: only {outward} of the triangles face outwards"
        );
    }
    let moving = moving_bodies(scene.model()).len();
    assert!(parts < 120, "{parts}");
    let mut bodies = drawn.look.parts.iter().filter_map(|part| part.body);
    assert!(bodies.all(|body| body < moving));
    // Floor, wood, metal and marble: each is several textures in the model.
    assert_eq!(drawn.images.len(), 4);
    let (low, high) = drawn.look.bounds_without_planes;
    assert!((high - low).cmple(Vec3::splat(6.0)).all(), "{low} {high}");
}

#[test]
fn the_hand_is_drawn_too() {
    for task in ["door", "hammer", "pen", "relocate"] {
        let path = format!(".deps/models/adroit_hand/adroit_{task}.xml");
        let model = MjModel::from_xml(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let drawn = Drawn::of_model(&model);
        for index in 0..drawn.look.parts.len() {
            let vertices = drawn.vertices(index);
            vertices.check();
            let outward = vertices.share_outward();
            assert!(
                outward > 0.995,
                "{task}, part {index}: only {outward} of the triangles face outwards"
            );
        }
    }
}
