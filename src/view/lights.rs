//! The lights of a model, where its scene says something of them. Otherwise the [stage](super::stage) has its own.
//!
//! `MuJoCo` adds up light as shares of a colour, Bevy as illuminance. A share of one is taken as `LUX` in the middle of
//! an environment, however far away the light is. Lights without a place shine on all environments alike; where a scene
//! draws lights, each environment gets its own beam of them instead, little wider than it is. That of the eye shines from the
//! scene's first camera. Highlights have the colour of the light itself.

use std::f32::consts::PI;

use bevy::ecs::query::QueryData;
use bevy::light::cluster::{ClusterConfig, ClusterFarZMode, ClusterZConfig};
use bevy::prelude::*;

use super::crowd::{Crowd, upright};
use super::stage::{Fill, STAGE_AMBIENT, Sun, stage_sun};
use super::{ViewSystems, Watched};
use crate::scene::CompiledScene;
use crate::watch::looks::{LightKind, LightLook, lights};

/// Illuminance of what `MuJoCo` calls a light of one.
const LUX: f32 = 6_000.0;
/// Brightness of an ambient light of one, cd/m².
const AMBIENT: f32 = 1_000.0;
/// How many times the size of an environment a beam comes from.
const FAR: f32 = 8.0;
/// How far lights reach, in distances to the middle of the environment.
const REACH: f32 = 1.6;

/// Lights as a scene says.
pub struct LightsPlugin;

impl Plugin for LightsPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(
            Update,
            (choose_lights, fit_ambient, sort_far).chain().in_set(ViewSystems::Pose),
        );
    }
}

/// The lights of a scene's environments.
#[derive(Debug, Clone, PartialEq)]
pub struct Lighting {
    lights: Vec<LightLook>,
    /// Each environment has its own.
    differ: bool,
    middle: Vec3,
    /// Half the diagonal of an environment, m.
    radius: f32,
    /// Where the eye looks to.
    forward: Vec3,
}

/// A light of one environment.
#[derive(Component, Debug, Clone, Copy)]
pub struct OwnLight;

/// A light of a model that shines on all environments alike, besides the [`Sun`].
#[derive(Component, Debug, Clone, Copy)]
struct SharedLight;

/// Query for an [`OwnLight`].
#[derive(QueryData)]
#[query_data(mutable)]
pub struct OwnLights {
    transform: &'static mut Transform,
    visibility: &'static mut Visibility,
    spot: Option<&'static mut SpotLight>,
    point: Option<&'static mut PointLight>,
}

impl Lighting {
    /// That of a scene whose environments have these corners and are looked at along `(yaw, pitch)`.
    pub fn of(scene: &CompiledScene, (low, high): (Vec3, Vec3), (yaw, pitch): (f32, f32)) -> Self {
        Self {
            lights: lights(scene.model()).collect(),
            differ: scene.randomisation().looks().lights,
            middle: 0.5 * (low + high),
            radius: (0.5 * (high - low).length()).max(0.1),
            // A yaw of zero looks along y.
            forward: Vec3::new(-yaw.sin() * pitch.cos(), yaw.cos() * pitch.cos(), -pitch.sin()),
        }
    }

    /// For every light, whether each environment has one of its own, and which.
    pub fn own(&self) -> impl Iterator<Item = Option<&LightLook>> {
        self.lights.iter().map(|light| self.is_own(light).then_some(light))
    }

    fn is_own(&self, light: &LightLook) -> bool {
        self.differ || matches!(light.kind, LightKind::Spot | LightKind::Point)
    }

    /// The lights that shine on all environments alike.
    fn shared(&self) -> impl Iterator<Item = &LightLook> {
        self.lights.iter().filter(|light| light.on && !self.is_own(light))
    }

    fn direction(&self, light: &LightLook) -> Vec3 {
        match light.kind {
            LightKind::Head => self.forward,
            _ => Vec3::from(light.direction).normalize_or(Vec3::NEG_Z),
        }
    }

    /// A light of an environment, whose root or carrying body is `parent`.
    pub fn spawn(&self, commands: &mut Commands, parent: Entity, light: &LightLook) -> Entity {
        let visibility = if light.on {
            Visibility::Inherited
        } else {
            Visibility::Hidden
        };
        let mut entity = commands.spawn((ChildOf(parent), OwnLight, self.transform(light), visibility));
        match light.kind {
            LightKind::Point => entity.insert(self.point(light)),
            _ => entity.insert(self.spot(light)),
        };
        entity.id()
    }

    /// Makes a light shine like this.
    pub fn dress(&self, light: &LightLook, shown: &mut OwnLightsItem) {
        *shown.transform = self.transform(light);
        shown.visibility.set_if_neq(if light.on {
            Visibility::Inherited
        } else {
            Visibility::Hidden
        });
        if let Some(spot) = &mut shown.spot {
            **spot = self.spot(light);
        }
        if let Some(point) = &mut shown.point {
            **point = self.point(light);
        }
    }

    fn is_beam(light: &LightLook) -> bool {
        matches!(light.kind, LightKind::Head | LightKind::Sun)
    }

    fn transform(&self, light: &LightLook) -> Transform {
        let direction = self.direction(light);
        let place = match Self::is_beam(light) {
            true => self.middle - direction * FAR * self.radius,
            false => Vec3::from(light.position),
        };
        Transform::from_translation(place).looking_to(direction, direction.any_orthonormal_vector())
    }

    /// How far the light is from the middle of the environment, m.
    fn distance(&self, light: &LightLook) -> f32 {
        match Self::is_beam(light) {
            true => FAR * self.radius,
            // On a body that moves, or in the middle of things: no nearer than their size.
            false => Vec3::from(light.position).distance(self.middle).max(0.5 * self.radius),
        }
    }

    /// Intensity in lumens that gives the light's illuminance in the middle of the environment, and how far it reaches, m.
    /// What Bevy takes away so that the light ends there is given back.
    fn strength(&self, light: &LightLook) -> (f32, f32) {
        let distance = self.distance(light);
        let reach = REACH * distance + if Self::is_beam(light) { 0.0 } else { 2.0 * self.radius };
        let kept = (1.0 - (distance / reach).powi(4)).powi(2);
        let (share, _) = colour_of(light.diffuse);
        (4.0 * PI * distance.powi(2) * LUX * share / kept, reach)
    }

    fn spot(&self, light: &LightLook) -> SpotLight {
        let (intensity, range) = self.strength(light);
        let beam = Self::is_beam(light);
        let outer = if beam {
            (1.5 / FAR).asin()
        } else {
            light.cutoff.clamp(0.02, 0.49 * PI)
        };
        SpotLight {
            color: colour_of(light.diffuse).1,
            intensity,
            range,
            outer_angle: outer,
            inner_angle: if beam { (1.0 / FAR).asin() } else { 0.6 * outer },
            shadow_maps_enabled: false,
            ..default()
        }
    }

    fn point(&self, light: &LightLook) -> PointLight {
        let (intensity, range) = self.strength(light);
        PointLight {
            color: colour_of(light.diffuse).1,
            intensity,
            range,
            shadow_maps_enabled: false,
            ..default()
        }
    }
}

/// The highest of red, green and blue, and the colour in which that is one.
fn colour_of(light: [f32; 3]) -> (f32, Color) {
    let highest = light.into_iter().fold(0.0, f32::max);
    let [red, green, blue] = light.map(|part| if highest > 0.0 { part / highest } else { 1.0 });
    (highest, Color::linear_rgb(red, green, blue))
}

fn directional(light: &LightLook) -> DirectionalLight {
    let (share, color) = colour_of(light.diffuse);
    DirectionalLight {
        illuminance: LUX * share,
        color,
        shadow_maps_enabled: false,
        ..default()
    }
}

type Suns<'a> = (&'a mut DirectionalLight, &'a mut Transform, &'a mut Visibility);

/// Puts the lights of the scene in the place of those of the stage, or those of the stage back.
fn choose_lights(
    mut commands: Commands,
    crowd: Res<Crowd>,
    mut sun: Single<Suns, With<Sun>>,
    mut fills: Query<&mut Visibility, (With<Fill>, Without<Sun>)>,
    shared: Query<Entity, With<SharedLight>>,
    mut chosen: Local<Option<Lighting>>,
) {
    let lighting = crowd.lighting();
    if chosen.as_ref() == lighting {
        return;
    }
    *chosen = lighting.cloned();
    for light in &shared {
        commands.entity(light).despawn();
    }
    let fill_shines = if lighting.is_none() {
        Visibility::Inherited
    } else {
        Visibility::Hidden
    };
    fills.iter_mut().for_each(|mut fill| *fill = fill_shines);
    let (light, transform, visibility) = &mut *sun;
    let shadows = light.shadow_maps_enabled;
    let Some(lighting) = lighting else {
        (**light, **transform) = stage_sun();
        light.shadow_maps_enabled = shadows;
        **visibility = Visibility::Inherited;
        return;
    };
    // The sun is the one light with shadows.
    let first = lighting.shared().position(|light| light.shadows);
    **visibility = if first.is_some() {
        Visibility::Inherited
    } else {
        Visibility::Hidden
    };
    for (place, look) in lighting.shared().enumerate() {
        let direction = upright() * lighting.direction(look);
        let to = Transform::default().looking_to(direction, direction.any_orthonormal_vector());
        if Some(place) == first {
            (**light, **transform) = (directional(look), to);
            light.shadow_maps_enabled = shadows;
        } else {
            commands.spawn((SharedLight, directional(look), to));
        }
    }
}

/// Bevy finds no light at all where the farthest one ends nearer to the camera than its first slice of space does, so
/// cameras look for lights as far as anything is to be seen.
fn sort_far(mut commands: Commands, cameras: Query<Entity, Added<Camera3d>>) {
    for camera in &cameras {
        commands.entity(camera).insert(ClusterConfig::FixedZ {
            total: 4096,
            z_slices: 24,
            z_config: ClusterZConfig {
                first_slice_depth: 5.0,
                far_z_mode: ClusterFarZMode::Constant(400.0),
            },
            dynamic_resizing: true,
        });
    }
}

/// There is one ambient light for all environments: the mean of theirs.
fn fit_ambient(crowd: Res<Crowd>, watched: Res<Watched>, mut ambient: ResMut<GlobalAmbientLight>) {
    let (color, brightness) = match crowd.lighting() {
        None => STAGE_AMBIENT,
        Some(lighting) => {
            let looks = &watched.current.looks;
            let own = looks.iter().filter(|look| lighting.differ && !look.lights.is_empty());
            let count = own.clone().count();
            let sum = |lights: &[LightLook]| {
                let on = lights.iter().filter(|light| light.on);
                on.map(|light| Vec3::from(light.ambient)).sum::<Vec3>()
            };
            let mean = match count {
                0 => sum(&lighting.lights),
                _ => own.map(|look| sum(&look.lights)).sum::<Vec3>() / count as f32,
            };
            let (share, color) = colour_of(mean.to_array());
            (color, AMBIENT * share)
        }
    };
    if ambient.color != color || ambient.brightness != brightness {
        (ambient.color, ambient.brightness) = (color, brightness);
    }
}
