//! Light, sky and floor.

use bevy::camera::visibility::NoFrustumCulling;
use bevy::light::{CascadeShadowConfigBuilder, DirectionalLightShadowMap};
use bevy::pbr::DistanceFog;
use bevy::prelude::*;

use super::camera::Orbit;
use super::crowd::Crowd;
use super::{ViewState, ViewSystems};

/// The colour of the horizon, which the floor fades into.
pub const HORIZON: Color = Color::srgb(0.62, 0.68, 0.74);

/// Light, sky and floor for all environments together: a light for each would be the dearest part of the picture.
pub struct StagePlugin;

impl Plugin for StagePlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(ClearColor(HORIZON))
            .insert_resource(GlobalAmbientLight {
                color: STAGE_AMBIENT.0,
                brightness: STAGE_AMBIENT.1,
                ..default()
            })
            .insert_resource(DirectionalLightShadowMap { size: 2048 })
            .add_plugins(super::lights::LightsPlugin)
            .add_systems(Startup, build_stage.after(super::crowd::load_look))
            .add_systems(Update, lower_ground.in_set(ViewSystems::Pose))
            .add_systems(Update, (fit_shadows, fit_haze).after(ViewSystems::Camera));
    }
}

/// Colour and brightness (cd/m²) of the light that is everywhere.
pub const STAGE_AMBIENT: (Color, f32) = (Color::srgb(0.87, 0.92, 1.0), 330.0);

/// The sun.
#[derive(Component)]
pub struct Sun;

/// A second, weak light from the other side, so that what lies in the shade keeps its shape.
#[derive(Component)]
pub struct Fill;

/// The sun of scenes that say nothing of their lights.
pub fn stage_sun() -> (DirectionalLight, Transform) {
    let light = DirectionalLight {
        illuminance: 6_000.0,
        color: Color::srgb(1.0, 0.965, 0.91),
        shadow_maps_enabled: true,
        ..default()
    };
    // From behind the camera's left shoulder and high up.
    (
        light,
        Transform::from_xyz(-2.5, 6.0, 3.0).looking_at(Vec3::ZERO, Vec3::Y),
    )
}

/// The plane under everything.
#[derive(Component)]
pub struct Ground;

fn build_stage(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<StandardMaterial>>,
    crowd: Res<Crowd>,
) {
    commands.spawn((Sun, stage_sun()));
    commands.spawn((
        Fill,
        DirectionalLight {
            illuminance: 900.0,
            color: Color::srgb(0.78, 0.86, 1.0),
            shadow_maps_enabled: false,
            ..default()
        },
        Transform::from_xyz(3.0, 3.0, 4.0).looking_at(Vec3::ZERO, Vec3::Y),
    ));
    commands.spawn((
        Ground,
        Mesh3d(meshes.add(Plane3d::default().mesh().size(2_000.0, 2_000.0))),
        MeshMaterial3d(materials.add(StandardMaterial {
            base_color: Color::srgb(0.42, 0.45, 0.48),
            perceptual_roughness: 0.95,
            reflectance: 0.15,
            ..default()
        })),
        Transform::from_xyz(0.0, ground_height(&crowd), 0.0),
        NoFrustumCulling,
    ));
}

/// A little below the models' own floors.
fn ground_height(crowd: &Crowd) -> f32 {
    crowd.floor() - 0.01
}

/// Another scene may have its floor elsewhere.
fn lower_ground(mut grounds: Query<&mut Transform, With<Ground>>, crowd: Res<Crowd>) {
    for mut ground in &mut grounds {
        ground.set_if_neq(Transform::from_xyz(0.0, ground_height(&crowd), 0.0));
    }
}

/// Shadows reach as far as the camera looks, and are off if they are not wanted.
fn fit_shadows(
    mut commands: Commands,
    mut sun: Single<(Entity, &mut DirectionalLight), With<Sun>>,
    orbit: Option<Single<&Orbit>>,
    view: Res<ViewState>,
    mut fitted: Local<f32>,
) {
    let (entity, light) = &mut *sun;
    if light.shadow_maps_enabled != view.shadows {
        light.shadow_maps_enabled = view.shadows;
    }
    let reach = orbit.map_or(8.0, |orbit| (orbit.distance() * 2.5).max(6.0));
    // Fitting anew in every frame would make the edges of shadows crawl.
    if (reach / *fitted - 1.0).abs() > 0.2 {
        *fitted = reach;
        commands.entity(*entity).insert(
            CascadeShadowConfigBuilder {
                num_cascades: 2,
                minimum_distance: 0.1,
                first_cascade_far_bound: 0.35 * reach,
                maximum_distance: reach,
                ..default()
            }
            .build(),
        );
    }
}

/// Haze hides where the floor ends.
fn fit_haze(mut cameras: Query<(&Orbit, &mut DistanceFog)>) {
    for (orbit, mut fog) in &mut cameras {
        let (start, end) = (orbit.distance() * 1.6 + 5.0, orbit.distance() * 4.0 + 25.0);
        let falloff = FogFalloff::Linear { start, end };
        if !matches!(fog.falloff, FogFalloff::Linear { end: then, .. } if (then / end - 1.0).abs() < 1e-3) {
            fog.falloff = falloff;
        }
    }
}

/// The haze of a camera.
pub fn haze() -> DistanceFog {
    DistanceFog {
        color: HORIZON,
        falloff: FogFalloff::Linear {
            start: 40.0,
            end: 120.0,
        },
        ..default()
    }
}
