//! The light in pictures: that of `MuJoCo`'s head-light, which shines along the direction of view.
//!
//! `MuJoCo` draws with OpenGL's fixed functions. With the unit vectors N (normal of the surface), L (against the
//! direction of view, for every point the same), V (to the eye) and H (halfway between L and V), a point has the colour
//!
//! ```text
//! clip(colour · (emission + ambient + diffuse · max(0, N·L)) + specular · shine · max(0, N·H)^exponent, 0, 1) · texture
//! ```
//!
//! where the last term of the sum counts only where N·L is positive. What faces a camera that looks straight down has
//! N·L = 1, so in a maze, with ambient 0.4 and diffuse 0.8, tops of walls have 1.2 times their colour, and their sides,
//! for which N·L = 0, have 0.4 times. The floor is a white surface with a texture: 1.2 is clipped to 1 before the texture
//! comes in, so its squares have just the texture's colours.
//!
//! Left out are a model's other lights, shadows and reflections.

use bevy::math::Vec3;
use mujoco_rs::wrappers::mj_model::MjModel;

/// What `MuJoCo` multiplies the shininess of a material by.
const EXPONENT: f32 = 128.0;
/// Specular share and shininess of what has no material.
const PLAIN: f32 = 0.5;
/// Below this cosine no highlight is worked out: with the plain exponent of 64 it is less than a thousandth.
const FAINT: f32 = 0.89;

/// The light that comes from the eye; red, green and blue from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLight {
    pub ambient: Vec3,
    pub diffuse: Vec3,
    pub specular: Vec3,
}

impl HeadLight {
    /// The head-light of a model; dark if it is switched off.
    pub fn of(model: &MjModel) -> Self {
        let light = &model.vis().headlight;
        let on = f32::from(u8::from(light.active != 0));
        Self {
            ambient: on * Vec3::from(light.ambient),
            diffuse: on * Vec3::from(light.diffuse),
            specular: on * Vec3::from(light.specular),
        }
    }

    /// Colour, 0 to 1, of a point with the cosines N·L and N·H.
    pub fn shade(&self, finish: &Finish, facing: f32, mirrored: f32) -> Vec3 {
        let mut colour = finish.colour * (Vec3::splat(finish.emission) + self.ambient + self.diffuse * facing.max(0.0));
        let glossy = finish.shine > 0.0 && self.specular != Vec3::ZERO;
        if glossy && facing > 0.0 && (mirrored > FAINT || finish.exponent < 0.5 * EXPONENT) {
            colour += self.specular * (finish.shine * power(mirrored.max(0.0), finish.exponent));
        }
        colour.min(Vec3::ONE)
    }
}

/// Whole numbers, as that of a plain surface, go much faster.
fn power(base: f32, exponent: f32) -> f32 {
    if exponent.fract() == 0.0 {
        base.powi(exponent as i32)
    } else {
        base.powf(exponent)
    }
}

/// How a surface looks, without its texture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish {
    /// Red, green and blue from 0 to 1.
    pub colour: Vec3,
    pub emission: f32,
    pub shine: f32,
    pub exponent: f32,
}

impl Finish {
    /// A surface without a material.
    pub fn plain(colour: Vec3) -> Self {
        Self {
            colour,
            emission: 0.0,
            shine: PLAIN,
            exponent: PLAIN * EXPONENT,
        }
    }

    /// A surface of this colour with a material of the model.
    pub fn of(model: &MjModel, material: Option<usize>, colour: Vec3) -> Self {
        let of = |numbers: &[f32]| material.and_then(|material| numbers.get(material)).copied();
        Self {
            colour,
            emission: of(model.mat_emission()).unwrap_or(0.0),
            shine: of(model.mat_specular()).unwrap_or(PLAIN),
            exponent: EXPONENT * of(model.mat_shininess()).unwrap_or(PLAIN),
        }
    }
}

/// A colour, 0 to 1, as bytes.
pub(super) fn bytes(colour: Vec3) -> [u8; 3] {
    // Conversion to an integer cuts off, and stays within its range.
    (255.0 * colour + 0.5).to_array().map(|value| value as u8)
}
