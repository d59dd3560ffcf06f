//! Materials.

use bevy::prelude::*;
use mujoco_rs::wrappers::mj_model::MjModel;

use super::Piece;
use super::textures::{Pictures, Texture};

/// Steps between 0 and 1 that two materials must differ by to be told apart. Few, so that more geoms share a mesh.
const STEPS: f32 = 20.0;

/// All that a material depends on but the colour, which is in the vertices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finish {
    /// Place of the texture among the pictures.
    picture: Option<usize>,
    translucent: bool,
    roughness: u8,
    specular: u8,
    metallic: u8,
    /// Linear red, green and blue that it emits; vertex colours have no part in it.
    emission: [u8; 3],
}

/// Properties of a `MuJoCo` material; the default is that of geoms without one. Below zero: not given.
struct Properties {
    emission: f32,
    specular: f32,
    shininess: f32,
    reflectance: f32,
    metallic: f32,
    roughness: f32,
}

impl Default for Properties {
    fn default() -> Self {
        Self {
            emission: 0.0,
            specular: 0.5,
            shininess: 0.5,
            reflectance: 0.0,
            metallic: -1.0,
            roughness: -1.0,
        }
    }
}

impl Properties {
    fn of(model: &MjModel, material: usize) -> Option<Self> {
        Some(Self {
            emission: *model.mat_emission().get(material)?,
            specular: *model.mat_specular().get(material)?,
            shininess: *model.mat_shininess().get(material)?,
            reflectance: *model.mat_reflectance().get(material)?,
            metallic: *model.mat_metallic().get(material)?,
            roughness: *model.mat_roughness().get(material)?,
        })
    }
}

impl Finish {
    /// The finish of a geom or site that is painted in `rgba`.
    ///
    /// `MuJoCo`'s own renderer knows shininess and mirrors. Roughness falls with the one; of mirrors, which would need
    /// a picture of their own each, a metallic tinge is left. Values for physically based rendering go before.
    pub fn of(model: &MjModel, piece: &Piece, rgba: [f32; 4], texture: Option<Texture>) -> Self {
        let properties = piece
            .material
            .and_then(|material| Properties::of(model, material))
            .unwrap_or_default();
        let given = |value: f32, otherwise: f32| if value >= 0.0 { value } else { otherwise };
        let roughness = given(properties.roughness, 0.9 - 0.6 * properties.shininess);
        let metallic = given(properties.metallic, 0.2 * properties.reflectance);
        let [red, green, blue, alpha] = rgba;
        let glow = Color::srgb(red, green, blue).to_linear() * properties.emission;
        let step = |value: f32| (value.clamp(0.0, 1.0) * STEPS).round() as u8;
        Self {
            picture: texture.map(|texture| texture.picture),
            translucent: alpha < 1.0 || texture.is_some_and(|texture| texture.translucent),
            roughness: step(roughness.clamp(0.15, 0.95)),
            specular: step(properties.specular),
            metallic: step(metallic),
            emission: [step(glow.red), step(glow.green), step(glow.blue)],
        }
    }

    pub fn material(&self, pictures: &Pictures) -> StandardMaterial {
        let value = |steps: u8| f32::from(steps) / STEPS;
        let [red, green, blue] = self.emission.map(value);
        let image = self.picture.and_then(|picture| pictures.image(picture));
        let glows = self.emission != [0; 3];
        StandardMaterial {
            base_color: Color::WHITE,
            emissive: LinearRgba::rgb(red, green, blue),
            emissive_texture: if glows { image.clone() } else { None },
            base_color_texture: image,
            perceptual_roughness: value(self.roughness),
            // Half is the default of both, and 4 % of the light at a right angle.
            reflectance: value(self.specular),
            metallic: value(self.metallic),
            alpha_mode: if self.translucent {
                AlphaMode::Blend
            } else {
                AlphaMode::Opaque
            },
            ..default()
        }
    }
}
