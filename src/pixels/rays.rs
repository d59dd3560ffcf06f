//! Pictures of any model by rays against its shapes.
//!
//! Drawn are the geoms and sites of groups 0 to 2, as in `MuJoCo`'s own pictures: boxes, spheres, capsules, cylinders,
//! ellipsoids and planes. Each is drawn into the rectangle of the picture in which its bounding box is seen, and the
//! nearest point counts. A pixel is the mean of four points.
//!
//! Textures are laid on planes; other shapes have their mean colour. What is at least half transparent is left out, what is
//! less is drawn as solid. The background has the mean colour of the sky box, black without one.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use bevy::math::{DMat3, DVec3, Vec2, Vec3};
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtGeomBase, MjtObjBase, MjtTexture, MjtTextureRole};

use super::light::{Finish, HeadLight, bytes};
use super::shapes::Shape;
use super::{POINTS, mean};

/// Groups up to this one are there to be seen, the others to collide.
const LAST_SEEN_GROUP: i32 = 2;
/// The colour of geoms that were given none.
const DEFAULT_RGBA: [f32; 4] = [0.5, 0.5, 0.5, 1.0];
/// Roles of a material's textures that give its colour, best first.
const COLOUR_ROLES: [MjtTextureRole; 3] = [
    MjtTextureRole::mjTEXROLE_RGB,
    MjtTextureRole::mjTEXROLE_RGBA,
    MjtTextureRole::mjTEXROLE_USER,
];
/// Nothing nearer to the eye is seen, m.
pub(super) const NEAR: f32 = 0.01;

/// Where a picture is taken from: axes of the eye in the world, of length 1 and square to each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Camera {
    pub eye: DVec3,
    pub right: DVec3,
    pub up: DVec3,
    pub forward: DVec3,
    /// Tangent of half the field of view.
    pub half: f64,
}

/// What is to be seen of a model. Sizes and colours are looked up when it is drawn: environments may have their own.
#[derive(Debug, Clone)]
pub(super) struct Pieces {
    pieces: Vec<Piece>,
    background: Vec3,
}

/// A geom or a site.
#[derive(Debug, Clone)]
struct Piece {
    owner: Owner,
    kind: MjtGeomBase,
    /// The colour of its material, which counts if it has none of its own.
    of_material: Option<[f32; 4]>,
    /// What its colour is multiplied by: the mean colour of a texture that is not laid on.
    tint: Vec3,
    /// Without the colour.
    finish: Finish,
    texture: Option<Texture>,
}

/// Where the pose of a piece is found.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Geom(usize),
    Site(usize),
}

/// A picture that is laid on a plane.
#[derive(Debug, Clone)]
struct Texture {
    width: usize,
    height: usize,
    texels: Arc<[Vec3]>,
    /// Half times a metre that it is repeated.
    repeats: Vec2,
}

impl Pieces {
    /// Looks up what is to be seen of a model.
    ///
    /// # Errors
    /// A visible geom whose shape cannot be drawn, in words.
    pub fn new(model: &MjModel) -> Result<Self, String> {
        let mut pieces = Vec::new();
        for id in 0..model.geom_type().len() {
            let (kind, size, rgba) = (model.geom_type()[id], model.geom_size()[id], model.geom_rgba()[id]);
            let (material, group) = (usize::try_from(model.geom_matid()[id]).ok(), model.geom_group()[id]);
            pieces.extend(Piece::new(model, Owner::Geom(id), kind, size, (rgba, material, group))?);
        }
        for id in 0..model.site_type().len() {
            let (kind, size, rgba) = (model.site_type()[id], model.site_size()[id], model.site_rgba()[id]);
            let (material, group) = (usize::try_from(model.site_matid()[id]).ok(), model.site_group()[id]);
            pieces.extend(Piece::new(model, Owner::Site(id), kind, size, (rgba, material, group))?);
        }
        let sky = model
            .tex_type()
            .iter()
            .position(|kind| *kind == MjtTexture::mjTEXTURE_SKYBOX);
        Ok(Self {
            pieces,
            background: sky.and_then(|sky| mean_texel(model, sky)).unwrap_or(Vec3::ZERO),
        })
    }

    /// Draws the poses that are worked out in `data` into `[3, size, size]`.
    pub fn draw(&self, data: &MjData<Arc<MjModel>>, camera: &Camera, size: usize, out: &mut [u8]) {
        CANVAS.with_borrow_mut(|canvas| {
            canvas.clear(size);
            let model = data.model();
            for piece in &self.pieces {
                let (shape, finish) = piece.look(model);
                canvas.add(shape, finish, piece.frame(data, camera));
            }
            canvas.paint(self, &HeadLight::of(model), out);
        });
    }
}

thread_local! {
    /// Memory for drawing: it is needed on whatever thread draws, and only while it does.
    static CANVAS: RefCell<Canvas> = const { RefCell::new(Canvas::EMPTY) };
}

/// Four rows of points for every row of pixels, from the top; see [`POINTS`].
struct Canvas {
    /// Pixels along a side.
    size: usize,
    depths: Vec<f32>,
    /// The piece that each point shows, and the normal there, in the piece's frame.
    shown: Vec<(u32, Vec3)>,
    /// The eye in the frame of each piece, and how that looks.
    frames: Vec<(Frame, Finish)>,
}

/// The eye, seen from a piece.
#[derive(Debug, Clone, Copy)]
struct Frame {
    eye: Vec3,
    /// To the edges of the picture at a depth of one.
    right: Vec3,
    up: Vec3,
    forward: Vec3,
}

impl Frame {
    /// The ray through a point of the picture; `right` and `up` are shares of half the field of view.
    fn ray(&self, right: f32, up: f32) -> Vec3 {
        self.forward + self.up * up + self.right * right
    }
}

/// What a point shows that no piece is in front of.
const NOTHING: u32 = u32::MAX;

impl Canvas {
    const EMPTY: Self = Self {
        size: 0,
        depths: Vec::new(),
        shown: Vec::new(),
        frames: Vec::new(),
    };

    fn clear(&mut self, size: usize) {
        self.size = size;
        self.depths.clear();
        self.depths.resize(4 * size * size, f32::INFINITY);
        self.shown.clear();
        self.shown.resize(4 * size * size, (NOTHING, Vec3::ZERO));
        self.frames.clear();
    }

    /// How far above the middle of the picture a row of points is, as a share of half the field of view.
    fn up(&self, row: usize) -> f32 {
        1.0 - (2 * row + 1) as f32 / (4 * self.size) as f32
    }

    /// How far right of it something is that is `share` of a pixel from the left edge of a column of pixels.
    fn right(&self, column: usize, share: f32) -> f32 {
        2.0 * (column as f32 + share) / self.size as f32 - 1.0
    }

    /// Adds a piece where it is nearer than all before it.
    fn add(&mut self, shape: Option<Shape>, finish: Finish, frame: Frame) {
        let piece = self.frames.len() as u32;
        self.frames.push((frame, finish));
        let Some(shape) = shape else { return };
        let Some([rows, columns]) = frame.seen_in(&shape, self.size) else {
            return;
        };
        for row in rows {
            let (up, share) = (self.up(row), POINTS[row % 4]);
            for column in columns.clone() {
                let hit = shape.hit(frame.eye, frame.ray(self.right(column, share), up));
                let point = row * self.size + column;
                if let Some((depth, normal)) = hit
                    && depth < self.depths[point]
                {
                    self.depths[point] = depth;
                    self.shown[point] = (piece, normal);
                }
            }
        }
    }

    /// Light and textures. Points of a pixel that show the same flat surface share the light in the middle of the pixel.
    fn paint(&self, all: &Pieces, light: &HeadLight, out: &mut [u8]) {
        for row in 0..self.size {
            let middle = 0.5 * (self.up(4 * row + 1) + self.up(4 * row + 2));
            for column in 0..self.size {
                let mut lit = ((NOTHING, Vec3::ZERO), all.background);
                let colours = [0, 1, 2, 3].map(|point| {
                    let (down, share) = (4 * row + point, POINTS[point]);
                    let place = down * self.size + column;
                    let shown = self.shown[place];
                    let piece = shown.0 as usize;
                    let Some((piece, (frame, finish))) = all.pieces.get(piece).zip(self.frames.get(piece)) else {
                        return all.background;
                    };
                    if lit.0 != shown {
                        let ray = frame.ray(self.right(column, 0.5), middle);
                        let halfway = (-frame.forward - ray.normalize()).normalize();
                        let (facing, mirrored) = (-shown.1.dot(frame.forward), shown.1.dot(halfway));
                        lit = (shown, light.shade(finish, facing, mirrored));
                    }
                    match &piece.texture {
                        Some(texture) => {
                            let ray = frame.ray(self.right(column, share), self.up(down));
                            lit.1 * texture.at(frame.eye + self.depths[place] * ray)
                        }
                        None => lit.1,
                    }
                });
                for (channel, value) in bytes(mean(colours)).into_iter().enumerate() {
                    out[(channel * self.size + row) * self.size + column] = value;
                }
            }
        }
    }
}

impl Piece {
    /// None for what is not to be seen.
    fn new(
        model: &MjModel,
        owner: Owner,
        kind: MjtGeomBase,
        size: [f64; 3],
        (rgba, material, group): ([f32; 4], Option<usize>, i32),
    ) -> Result<Option<Self>, String> {
        let of_material = material.and_then(|material| model.mat_rgba().get(material)).copied();
        if group > LAST_SEEN_GROUP || own_or(of_material, rgba)[3] < 0.5 {
            return Ok(None);
        }
        let size = DVec3::from(size).as_vec3();
        let shape = shape_of(kind, size).ok_or_else(|| owner.refusal(model))?;
        let texture = material.and_then(|material| colour_texture(model, material));
        let (texture, tint) = match (shape, texture) {
            (Shape::Plane(half), Some((id, material))) => match Texture::new(model, id, material, half) {
                Some(texture) => (Some(texture), Vec3::ONE),
                None => (None, mean_texel(model, id).unwrap_or(Vec3::ONE)),
            },
            (_, Some((id, _))) => (None, mean_texel(model, id).unwrap_or(Vec3::ONE)),
            (_, None) => (None, Vec3::ONE),
        };
        Ok(Some(Self {
            owner,
            kind,
            of_material,
            tint,
            finish: Finish::of(model, material, Vec3::ONE),
            texture,
        }))
    }

    /// Shape and surface in `model`, which may be another one than that it was made from, of the same layout.
    fn look(&self, model: &MjModel) -> (Option<Shape>, Finish) {
        let (size, rgba) = match self.owner {
            Owner::Geom(id) => (model.geom_size()[id], model.geom_rgba()[id]),
            Owner::Site(id) => (model.site_size()[id], model.site_rgba()[id]),
        };
        let [red, green, blue, _] = own_or(self.of_material, rgba);
        let colour = Vec3::new(red, green, blue) * self.tint;
        let shape = shape_of(self.kind, DVec3::from(size).as_vec3());
        (shape, Finish { colour, ..self.finish })
    }

    /// The eye in the frame of the piece.
    fn frame(&self, data: &MjData<Arc<MjModel>>, camera: &Camera) -> Frame {
        let (position, matrix) = match self.owner {
            Owner::Geom(id) => (data.geom_xpos()[id], data.geom_xmat()[id]),
            Owner::Site(id) => (data.site_xpos()[id], data.site_xmat()[id]),
        };
        // MuJoCo's matrices stand row by row, so this is the way from the world into the piece's frame.
        let inward = DMat3::from_cols_array(&matrix);
        Frame {
            eye: (inward * (camera.eye - DVec3::from(position))).as_vec3(),
            right: (inward * camera.right * camera.half).as_vec3(),
            up: (inward * camera.up * camera.half).as_vec3(),
            forward: (inward * camera.forward).as_vec3(),
        }
    }
}

impl Frame {
    /// The rows of points and the columns of pixels in which a shape may be seen; none if it is behind the eye or beside
    /// the picture.
    fn seen_in(&self, shape: &Shape, size: usize) -> Option<[Range<usize>; 2]> {
        let all = [0..4 * size, 0..size];
        let Some(half) = shape.half_sides() else {
            return Some(all);
        };
        let (mut low, mut high) = (Vec2::INFINITY, Vec2::NEG_INFINITY);
        let wide = self.right.length_squared();
        let mut behind = 0_usize;
        for corner in 0..8 {
            let sign = |bit: u32| if corner >> bit & 1 == 0 { -1.0 } else { 1.0 };
            let to = half * Vec3::new(sign(0), sign(1), sign(2)) - self.eye;
            let depth = to.dot(self.forward);
            if depth < NEAR {
                behind += 1;
                continue;
            }
            let at = Vec2::new(to.dot(self.right), -to.dot(self.up)) / (wide * depth);
            (low, high) = (low.min(at), high.max(at));
        }
        match behind {
            0 => {}
            8 => return None,
            _ => return Some(all),
        }
        let range = |low: f32, high: f32, count: usize| {
            let place = |at: f32| (0.5 * (at + 1.0) * count as f32).clamp(0.0, count as f32);
            place(low).floor() as usize..place(high).ceil() as usize
        };
        let seen = [range(low.y, high.y, 4 * size), range(low.x, high.x, size)];
        (!seen[0].is_empty() && !seen[1].is_empty()).then_some(seen)
    }
}

/// `MuJoCo`'s rule: its own colour counts if there is no material, or if it is not the default.
fn own_or(of_material: Option<[f32; 4]>, rgba: [f32; 4]) -> [f32; 4] {
    of_material.filter(|_| rgba == DEFAULT_RGBA).unwrap_or(rgba)
}

/// None for what cannot be drawn.
fn shape_of(kind: MjtGeomBase, size: Vec3) -> Option<Shape> {
    Some(match kind {
        MjtGeomBase::mjGEOM_PLANE => Shape::Plane(size.truncate()),
        MjtGeomBase::mjGEOM_SPHERE => Shape::Ellipsoid(Vec3::splat(size.x)),
        MjtGeomBase::mjGEOM_ELLIPSOID => Shape::Ellipsoid(size),
        MjtGeomBase::mjGEOM_CAPSULE => Shape::Capsule(size.x, size.y),
        MjtGeomBase::mjGEOM_CYLINDER => Shape::Cylinder(size.x, size.y),
        MjtGeomBase::mjGEOM_BOX => Shape::Box(size),
        _ => return None,
    })
}

impl Owner {
    fn refusal(self, model: &MjModel) -> String {
        let (kind, name) = match self {
            Self::Geom(id) => ("geom", model.id_to_name(MjtObjBase::mjOBJ_GEOM, id)),
            Self::Site(id) => ("site", model.id_to_name(MjtObjBase::mjOBJ_SITE, id)),
        };
        let (Self::Geom(id) | Self::Site(id)) = self;
        let name = name.map_or_else(|| format!("number {id}"), |name| format!("{name:?}"));
        format!(
            "pictures of meshes and height fields cannot be drawn, and {kind} {name} is one: expected planes, spheres, \
             capsules, ellipsoids, cylinders and boxes. What is in groups 3 to 5 is not drawn: the nearest choice is a \
             box or capsule in its place, and the mesh in group 3"
        )
    }
}

/// The texture that colours a material, and the material.
fn colour_texture(model: &MjModel, material: usize) -> Option<(usize, usize)> {
    let roles = model.mat_texid().get(material)?;
    let id = COLOUR_ROLES
        .iter()
        .find_map(|role| usize::try_from(roles[*role as usize]).ok())?;
    Some((id, material))
}

/// The pixels of a texture, 0 to 1, row by row.
fn texels(model: &MjModel, id: usize) -> Option<Vec<Vec3>> {
    let channels = usize::try_from(*model.tex_nchannel().get(id)?).ok()?;
    let pixels = model.load_texture(id).ok()?;
    let colour = |texel: &[u8]| match *texel {
        [red, green, blue, ..] => Vec3::new(f32::from(red), f32::from(green), f32::from(blue)) / 255.0,
        [grey, ..] => Vec3::splat(f32::from(grey) / 255.0),
        [] => Vec3::ONE,
    };
    Some(pixels.chunks_exact(channels.max(1)).map(colour).collect())
}

/// The mean colour of a texture; none if it cannot be loaded.
fn mean_texel(model: &MjModel, id: usize) -> Option<Vec3> {
    let texels = texels(model, id)?;
    (!texels.is_empty()).then(|| texels.iter().sum::<Vec3>() / texels.len() as f32)
}

impl Texture {
    /// None if it is no flat picture.
    fn new(model: &MjModel, id: usize, material: usize, half: Vec2) -> Option<Self> {
        if *model.tex_type().get(id)? != MjtTexture::mjTEXTURE_2D {
            return None;
        }
        let width = usize::try_from(*model.tex_width().get(id)?).ok()?;
        let height = usize::try_from(*model.tex_height().get(id)?).ok()?;
        let texels = texels(model, id)?;
        let repeat = Vec2::from(*model.mat_texrepeat().get(material)?);
        let uniform = *model.mat_texuniform().get(material)?;
        let relative = |repeat: f32, half: f32| if uniform || half <= 0.0 { repeat } else { repeat / half };
        (width > 0 && height > 0 && texels.len() == width * height).then(|| Self {
            width,
            height,
            texels: texels.into(),
            repeats: Vec2::new(relative(repeat.x, half.x), relative(repeat.y, half.y)),
        })
    }

    /// The colour at a point of the plane.
    fn at(&self, point: Vec3) -> Vec3 {
        let share = |along: f32, count: usize| {
            let repeated = 0.5 * along - 0.5;
            (((repeated - repeated.floor()) * count as f32) as usize).min(count - 1)
        };
        let column = share(point.x * self.repeats.x, self.width);
        let row = share(-point.y * self.repeats.y, self.height);
        self.texels[row * self.width + column]
    }
}
