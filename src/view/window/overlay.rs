//! What is drawn over the picture: panels, labels, frames around environments.

use bevy::camera::visibility::RenderLayers;
use bevy::camera::{CameraOutputMode, Viewport};
use bevy::prelude::*;
use bevy::render::render_resource::BlendState;
use bevy::window::PrimaryWindow;
use bevy_egui::{EguiContexts, EguiGlobalSettings, EguiPrimaryContextPass, PrimaryEguiContext, egui};

use super::FrameTimes;
use crate::panel::{self, Show};
use crate::view::camera::Orbit;
use crate::view::crowd::{Crowd, Instance};
use crate::view::{Ask, CameraMode, Curves, ViewState, Watched};

/// The environment that is selected.
const SELECTED: Color = Color::srgb(0.25, 0.7, 1.0);
/// The environment with the highest return.
const BEST: Color = Color::srgb(1.0, 0.78, 0.2);

pub(super) fn add(app: &mut App) {
    app.init_resource::<PictureArea>()
        .add_systems(PreStartup, own_context)
        .add_systems(Startup, spawn_panel_camera)
        .add_systems(EguiPrimaryContextPass, draw);
}

/// The part of the window that the panels leave to the picture, logical pixels.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct PictureArea {
    low: Vec2,
    high: Vec2,
    /// A panel, menu or window of the panels is under the pointer.
    covered: bool,
}

impl PictureArea {
    /// Whether a point of the window belongs to the picture.
    pub(super) fn contains(&self, point: Vec2) -> bool {
        !self.covered && point.cmpge(self.low).all() && point.cmplt(self.high).all()
    }
}

/// Run condition: the pointer is on the picture, not on a panel.
pub(super) fn pointer_is_on_picture(area: Res<PictureArea>, window: Single<&Window, With<PrimaryWindow>>) -> bool {
    window.cursor_position().is_some_and(|at| area.contains(at))
}

/// The panels have a camera of their own, so that the picture's viewport does not cut them off.
fn own_context(mut settings: ResMut<EguiGlobalSettings>) {
    settings.auto_create_primary_context = false;
}

fn spawn_panel_camera(mut commands: Commands) {
    commands.spawn((
        PrimaryEguiContext,
        Camera2d,
        RenderLayers::none(),
        Msaa::Off,
        Camera {
            order: 1,
            output_mode: CameraOutputMode::Write {
                blend_state: Some(BlendState::ALPHA_BLENDING),
                clear_color: ClearColorConfig::None,
            },
            clear_color: ClearColorConfig::Custom(Color::NONE),
            ..default()
        },
    ));
}

/// Draws panels and labels, and gives what is left of the window to the picture.
#[allow(
    clippy::too_many_arguments,
    reason = "a system's parameters are what it reads and writes"
)]
fn draw(
    mut contexts: EguiContexts,
    watched: Res<Watched>,
    curves: Res<Curves>,
    times: Res<FrameTimes>,
    mut view: ResMut<ViewState>,
    mut asks: MessageWriter<Ask>,
    mut area: ResMut<PictureArea>,
    mut camera: Single<(&mut Camera, &GlobalTransform), With<Orbit>>,
    instances: Query<(&Instance, &Transform, &Visibility)>,
    crowd: Res<Crowd>,
    window: Single<&Window, With<PrimaryWindow>>,
) -> Result {
    let context = contexts.ctx_mut()?;
    let mut ui = egui::Ui::new(
        context.clone(),
        "window".into(),
        egui::UiBuilder::new()
            .layer_id(egui::LayerId::background())
            .max_rect(context.viewport_rect()),
    );
    let show = Show {
        watched: &watched,
        curves: &curves,
        frames_per_second: times.rate,
    };
    // Changes of the view cost something further down, so only true ones count.
    let mut wanted = view.clone();
    let asked = panel::panels(&mut ui, &show, &mut wanted);
    view.set_if_neq(wanted);
    asks.write_batch(asked);

    let left = ui.available_rect_before_wrap();
    let pointer = context.pointer_latest_pos();
    let above = pointer.and_then(|at| context.layer_id_at(at));
    area.set_if_neq(PictureArea {
        low: Vec2::new(left.min.x, left.min.y),
        high: Vec2::new(left.max.x, left.max.y),
        covered: above.is_some_and(|layer| layer.order != egui::Order::Background) || context.egui_is_using_pointer(),
    });
    let (camera, place) = &mut *camera;
    fit_viewport(camera, left, &window);
    if view.labels {
        let painter = context.layer_painter(egui::LayerId::background()).with_clip_rect(left);
        draw_labels(&painter, &watched, &view, &crowd, &instances, (camera, place));
    }
    Ok(())
}

fn fit_viewport(camera: &mut Camera, area: egui::Rect, window: &Window) {
    let scale = window.scale_factor();
    let whole = UVec2::new(window.physical_width(), window.physical_height());
    let low = UVec2::new((area.min.x * scale) as u32, (area.min.y * scale) as u32).min(whole);
    let high = UVec2::new((area.max.x * scale) as u32, (area.max.y * scale) as u32).min(whole);
    let size = high.saturating_sub(low);
    // Too small to see anything, as while the window is being made.
    let viewport = (size.min_element() > 8).then(|| Viewport {
        physical_position: low,
        physical_size: size,
        ..default()
    });
    let same =
        |a: &Viewport, b: &Viewport| a.physical_position == b.physical_position && a.physical_size == b.physical_size;
    let unchanged = match (&camera.viewport, &viewport) {
        (Some(then), Some(now)) => same(then, now),
        (None, None) => true,
        _ => false,
    };
    if !unchanged {
        camera.viewport = viewport;
    }
}

/// Least height of an environment in the picture for it to have a label, pixels.
const LABELLED: f32 = 60.0;

fn draw_labels(
    painter: &egui::Painter,
    watched: &Watched,
    view: &ViewState,
    crowd: &Crowd,
    instances: &Query<(&Instance, &Transform, &Visibility)>,
    (camera, place): (&Camera, &GlobalTransform),
) {
    let half = crowd.half_extents();
    for environment in &watched.current.environments {
        let Some((_, transform, visibility)) =
            (crowd.instance(environment.environment)).and_then(|instance| instances.get(instance).ok())
        else {
            continue;
        };
        if *visibility == Visibility::Hidden {
            continue;
        }
        let centre = transform.transform_point(crowd.centre());
        let top = centre + Vec3::Y * half.y;
        let (Ok(at), Ok(low)) = (
            camera.world_to_viewport(place, top),
            camera.world_to_viewport(place, top - 2.0 * half.y * Vec3::Y),
        ) else {
            continue;
        };
        let chosen = view.selected == Some(environment.environment);
        if !chosen && low.distance(at) < LABELLED {
            continue;
        }
        let done = environment.completed();
        let mut text = format!("#{}", environment.slot);
        if watched.current.learners.len() > 1 {
            text = format!("seed {} {text}", environment.seed);
        }
        if environment.evaluates {
            text = format!("evaluation {}", environment.slot);
        }
        text += &format!("  return {:.0}", environment.return_);
        if !environment.done.is_empty() {
            text += &format!("  {done}/{}", environment.done.len());
        }
        if let Some((elapsed, length)) = environment.skill.filter(|(_, length)| *length > 1) {
            text += &format!("  skill {elapsed}/{length}");
        }
        panel::label(painter, egui::pos2(at.x, at.y), &text, chosen);
    }
}

/// Frames around the selected environment and the best one.
pub(super) fn frame_instances(
    mut gizmos: Gizmos,
    watched: Res<Watched>,
    view: Res<ViewState>,
    crowd: Res<Crowd>,
    instances: Query<(&Transform, &Visibility), With<Instance>>,
) {
    let best = watched.best().filter(|_| view.highlight_best);
    let mut frame = |environment: Entity, grown: f32, colour: Color| {
        let Some((place, visibility)) = crowd
            .instance(environment)
            .and_then(|instance| instances.get(instance).ok())
        else {
            return;
        };
        if *visibility == Visibility::Hidden {
            return;
        }
        let centre = place.transform_point(crowd.centre());
        let size = 2.0 * crowd.half_extents() + grown;
        gizmos.cube(Transform::from_translation(centre).with_scale(size), colour);
    };
    // Around the one that fills the picture a frame would be in the way.
    let overview = view.camera == CameraMode::Overview;
    if let Some(best) = best.filter(|best| overview || view.selected != Some(*best)) {
        frame(best, 0.06, BEST);
    }
    if overview
        && watched.current.environments.len() > 1
        && let Some(selected) = view.selected
    {
        frame(selected, 0.12, SELECTED);
    }
    if let (true, Some(inspected)) = (view.tendons, &watched.current.inspected)
        && let Some((place, _)) =
            (crowd.instance(inspected.environment)).and_then(|instance| instances.get(instance).ok())
    {
        for tendon in &inspected.tendons {
            let points = tendon.iter().map(|point| place.transform_point(Vec3::from(*point)));
            gizmos.linestrip(points, Color::srgb(0.9, 0.3, 0.25));
        }
    }
}
