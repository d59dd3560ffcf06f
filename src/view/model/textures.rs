//! Textures as images.

use std::borrow::Cow;
use std::collections::HashMap;

use bevy::asset::RenderAssetUsages;
use bevy::image::{ImageAddressMode, ImageFilterMode, ImageSampler, ImageSamplerDescriptor};
use bevy::prelude::*;
use bevy::render::render_resource::{Extent3d, TextureDimension, TextureFormat};
use mujoco_rs::wrappers::mj_model::{MjModel, MjtTexture, MjtTextureRole};

/// Roles of a material's textures that give its colour, best first.
const COLOUR_ROLES: [MjtTextureRole; 3] = [
    MjtTextureRole::mjTEXROLE_RGB,
    MjtTextureRole::mjTEXROLE_RGBA,
    MjtTextureRole::mjTEXROLE_USER,
];
/// Longer sides are halved until they fit: every graphics card takes images of this size.
const LONGEST_SIDE: u32 = 4096;

/// A texture of the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texture {
    /// Place of its image among the [`Pictures`].
    pub picture: usize,
    pub layout: Layout,
    /// Some of it lets light through.
    pub translucent: bool,
}

/// What an image shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    /// A picture.
    Flat,
    /// One picture for all sides of a cube.
    Cube,
    /// The six sides of a cube, one above the other, each with so many pixels along a side.
    Stack {
        /// Pixels along a side.
        side: u32,
    },
}

/// The images of a model's textures, as far as materials ask for them. Textures with the same pixels share one.
pub(super) struct Pictures<'a> {
    model: &'a MjModel,
    rasters: Vec<Raster<'a>>,
    known: HashMap<usize, Option<Texture>>,
}

/// An image and the pixels it was made from: rows from the top, `channels` bytes a pixel.
struct Raster<'a> {
    width: u32,
    height: u32,
    channels: usize,
    pixels: Cow<'a, [u8]>,
    image: Handle<Image>,
}

impl<'a> Pictures<'a> {
    pub fn new(model: &'a MjModel) -> Self {
        Self {
            model,
            rasters: Vec::new(),
            known: HashMap::new(),
        }
    }

    pub fn image(&self, picture: usize) -> Option<Handle<Image>> {
        self.rasters.get(picture).map(|raster| raster.image.clone())
    }

    /// The texture that colours a material, if there is one.
    pub fn of_material(&mut self, material: usize, images: &mut Assets<Image>) -> Option<Texture> {
        let roles = self.model.mat_texid().get(material)?;
        let id = COLOUR_ROLES
            .iter()
            .find_map(|role| usize::try_from(roles[*role as usize]).ok())?;
        if let Some(texture) = self.known.get(&id) {
            return *texture;
        }
        let texture = self.load(id, images);
        self.known.insert(id, texture);
        texture
    }

    fn load(&mut self, id: usize, images: &mut Assets<Image>) -> Option<Texture> {
        let model = self.model;
        let width = u32::try_from(*model.tex_width().get(id)?).ok()?;
        let height = u32::try_from(*model.tex_height().get(id)?).ok()?;
        let channels = usize::try_from(*model.tex_nchannel().get(id)?).ok()?;
        let layout = match model.tex_type().get(id)? {
            MjtTexture::mjTEXTURE_SKYBOX => return None,
            MjtTexture::mjTEXTURE_2D => Layout::Flat,
            MjtTexture::mjTEXTURE_CUBE if height == 6 * width => Layout::Stack { side: width },
            MjtTexture::mjTEXTURE_CUBE => Layout::Cube,
        };
        let pixels = match model.load_texture(id) {
            Ok(pixels) => pixels,
            Err(error) => {
                warn!("texture {id} of the model is left out: {error}");
                return None;
            }
        };
        if pixels.is_empty() || pixels.len() != width as usize * height as usize * channels {
            warn!("texture {id} of the model is left out: it is not {width} x {height} pixels");
            return None;
        }
        let translucent = channels == 4 && pixels.chunks_exact(4).any(|pixel| pixel[3] < u8::MAX);
        let same = |raster: &Raster| {
            (raster.width, raster.height, raster.channels) == (width, height, channels) && raster.pixels == pixels
        };
        let picture = match self.rasters.iter().position(same) {
            Some(picture) => picture,
            None => {
                let image = images.add(image_of(rgba(&pixels, channels), width, height));
                self.rasters.push(Raster {
                    width,
                    height,
                    channels,
                    pixels,
                    image,
                });
                self.rasters.len() - 1
            }
        };
        Some(Texture {
            picture,
            layout,
            translucent,
        })
    }
}

/// Grey, grey with opacity, colour, or colour with opacity as four bytes a pixel.
fn rgba(pixels: &[u8], channels: usize) -> Vec<u8> {
    let four = |pixel: &[u8]| match *pixel {
        [grey] => [grey, grey, grey, u8::MAX],
        [grey, alpha] => [grey, grey, grey, alpha],
        [red, green, blue] => [red, green, blue, u8::MAX],
        [red, green, blue, alpha, ..] => [red, green, blue, alpha],
        [] => [u8::MAX; 4],
    };
    pixels.chunks_exact(channels.max(1)).flat_map(four).collect()
}

/// An image with all its smaller versions, which keep it from flickering far away.
fn image_of(mut pixels: Vec<u8>, mut width: u32, mut height: u32) -> Image {
    while width.max(height) > LONGEST_SIDE {
        (pixels, width, height) = halved(&pixels, width, height);
    }
    let (first_width, first_height) = (width, height);
    let mut levels = 1;
    let mut all = pixels.clone();
    while width.max(height) > 1 {
        (pixels, width, height) = halved(&pixels, width, height);
        all.extend_from_slice(&pixels);
        levels += 1;
    }
    let size = Extent3d {
        width: first_width,
        height: first_height,
        depth_or_array_layers: 1,
    };
    let format = TextureFormat::Rgba8UnormSrgb;
    let mut image = Image::new_uninit(size, TextureDimension::D2, format, RenderAssetUsages::RENDER_WORLD);
    image.data = Some(all);
    image.texture_descriptor.mip_level_count = levels;
    image.sampler = ImageSampler::Descriptor(ImageSamplerDescriptor {
        address_mode_u: ImageAddressMode::Repeat,
        address_mode_v: ImageAddressMode::Repeat,
        mag_filter: ImageFilterMode::Linear,
        min_filter: ImageFilterMode::Linear,
        mipmap_filter: ImageFilterMode::Linear,
        anisotropy_clamp: 8,
        ..default()
    });
    image
}

/// Half as wide and high, four pixels averaged into one; with the new width and height.
fn halved(pixels: &[u8], width: u32, height: u32) -> (Vec<u8>, u32, u32) {
    let (half_width, half_height) = ((width / 2).max(1), (height / 2).max(1));
    let mut half = Vec::with_capacity(4 * half_width as usize * half_height as usize);
    for row in 0..half_height {
        for column in 0..half_width {
            for channel in 0..4 {
                let value = |right: u32, down: u32| {
                    let column = (2 * column + right).min(width - 1) as usize;
                    let row = (2 * row + down).min(height - 1) as usize;
                    u16::from(pixels[4 * (row * width as usize + column) + channel])
                };
                half.push(((value(0, 0) + value(1, 0) + value(0, 1) + value(1, 1) + 2) / 4) as u8);
            }
        }
    }
    (half, half_width, half_height)
}
