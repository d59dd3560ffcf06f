//! Cameras that circle around a point: all environments, or the selected one.

use bevy::input::mouse::{AccumulatedMouseScroll, MouseScrollUnit};
use bevy::prelude::*;
use bevy::window::CursorMoved;

use super::crowd::{Crowd, Instance};
use super::{CameraMode, ViewState, ViewSystems, Watched};

/// Cameras with an [`Orbit`].
pub struct CameraPlugin;

impl Plugin for CameraPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(Update, (aim, glide).chain().in_set(ViewSystems::Camera));
    }
}

/// A camera that circles around a point. It glides to where it is wanted.
#[derive(Component, Debug, Clone)]
pub struct Orbit {
    wanted: Place,
    now: Option<Place>,
    /// What it was aimed at last; it is aimed anew when this changes, and left alone otherwise.
    aimed: Option<Aim>,
    /// The user has moved it since: the size of the picture no longer matters.
    steered: bool,
    /// Glide, or jump.
    pub glides: bool,
}

/// What a camera is aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Aim {
    mode: CameraMode,
    followed: Option<Entity>,
    environments: usize,
    picture: Option<Vec2>,
}

/// Where an orbiting camera is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    focus: Vec3,
    /// Angle around the vertical, rad; 0 looks along -z.
    yaw: f32,
    /// Angle below the horizon, rad.
    pitch: f32,
    /// From the point, m.
    distance: f32,
}

impl Place {
    fn transform(&self) -> Transform {
        let rotation = Quat::from_euler(EulerRot::YXZ, self.yaw, -self.pitch, 0.0);
        Transform {
            translation: self.focus + rotation * Vec3::Z * self.distance,
            rotation,
            ..default()
        }
    }
}

impl Default for Orbit {
    fn default() -> Self {
        Self {
            wanted: Place {
                focus: Vec3::ZERO,
                yaw: 0.0,
                pitch: 0.7,
                distance: 5.0,
            },
            now: None,
            aimed: None,
            steered: false,
            glides: true,
        }
    }
}

impl Orbit {
    /// Distance from the point it looks at, m.
    pub fn distance(&self) -> f32 {
        self.now.unwrap_or(self.wanted).distance
    }

    /// Aims anew at the next opportunity.
    pub fn reset(&mut self) {
        self.aimed = None;
    }

    /// Turns by `(right, down)` pixels.
    pub fn turn(&mut self, pixels: Vec2) {
        self.steered = true;
        self.wanted.yaw -= pixels.x * 0.006;
        self.wanted.pitch = (self.wanted.pitch + pixels.y * 0.006).clamp(-0.1, 1.55);
    }

    /// Shifts the point by `(right, down)` pixels of a picture that is `height` pixels high.
    pub fn shift(&mut self, pixels: Vec2, height: f32) {
        self.steered = true;
        let transform = self.wanted.transform();
        let scale = 0.83 * self.wanted.distance / height.max(1.0);
        self.wanted.focus += scale * (transform.up() * pixels.y - transform.right() * pixels.x);
    }

    /// Comes nearer by this many notches of a wheel, or goes away.
    pub fn approach(&mut self, notches: f32) {
        self.steered = true;
        self.wanted.distance = (self.wanted.distance * 0.88_f32.powf(notches)).clamp(0.2, 1_000.0);
    }
}

/// Points cameras at what the view asks for, once for each change: after that they are the user's.
fn aim(
    mut orbits: Query<(&mut Orbit, &Camera, &Projection)>,
    instances: Query<(&Instance, &Transform)>,
    view: Res<ViewState>,
    watched: Res<Watched>,
    crowd: Res<Crowd>,
) {
    let selected = view.selected.and_then(|selected| crowd.instance(selected));
    let followed = match view.camera {
        CameraMode::Overview => None,
        CameraMode::Follow => selected,
    };
    // Evaluation episodes come and go; that moves no camera.
    let lasting = watched.current.environments.iter().filter(|view| !view.evaluates);
    let environments = lasting.count();
    for (mut orbit, camera, projection) in &mut orbits {
        let size = camera.logical_viewport_size();
        let then = orbit.aimed.and_then(|aimed| aimed.picture);
        let aim = Aim {
            mode: view.camera,
            followed,
            environments,
            picture: if orbit.steered { then } else { size },
        };
        if orbit.aimed == Some(aim) || instances.is_empty() {
            continue;
        }
        orbit.aimed = Some(Aim { picture: size, ..aim });
        orbit.steered = false;
        let (yaw, pitch) = crowd.direction();
        orbit.wanted.yaw = yaw;
        if let Some((_, transform)) = followed.and_then(|followed| instances.get(followed).ok()) {
            let (point, distance) = crowd.close_up();
            orbit.wanted.focus = transform.transform_point(point);
            orbit.wanted.pitch = pitch;
            orbit.wanted.distance = distance;
            continue;
        }
        let places = instances
            .iter()
            .map(|(_, transform)| transform.transform_point(crowd.centre()));
        let (low, high) = places.fold((Vec3::MAX, Vec3::MIN), |(low, high), place| {
            (low.min(place), high.max(place))
        });
        let half = crowd.half_extents() + 0.5 * (high - low);
        let field = match projection {
            Projection::Perspective(perspective) => perspective.fov,
            _ => 0.8,
        };
        let aspect = size.map_or(1.5, |size| size.x / size.y.max(1.0));
        orbit.wanted.focus = 0.5 * (low + high);
        // Rows further back are to be seen above the walls of those in front.
        let alone = instances.iter().len() == 1;
        orbit.wanted.pitch = if alone { pitch } else { pitch.max(0.8) };
        orbit.wanted.distance = fit(half, yaw, orbit.wanted.pitch, field, aspect);
    }
}

/// The distance from which a box of these half extents fills the picture.
fn fit(half: Vec3, yaw: f32, pitch: f32, field: f32, aspect: f32) -> f32 {
    let rotation = Quat::from_euler(EulerRot::YXZ, yaw, -pitch, 0.0).inverse();
    let upwards = (0.5 * field).tan();
    let corners = (0..8).map(|corner| {
        let sign = |bit: usize| if corner >> bit & 1 == 0 { -1.0 } else { 1.0 };
        rotation * (half * Vec3::new(sign(0), sign(1), sign(2)))
    });
    corners
        .map(|corner| corner.z + (corner.y.abs() / upwards).max(corner.x.abs() / (upwards * aspect)))
        .fold(0.5, f32::max)
        * 1.04
}

fn glide(mut orbits: Query<(&mut Orbit, &mut Transform)>, time: Res<Time<Real>>) {
    for (mut orbit, mut transform) in &mut orbits {
        let wanted = orbit.wanted;
        let now = orbit.now.unwrap_or(wanted);
        if orbit.now == Some(wanted) {
            continue;
        }
        let share = match orbit.glides {
            true => 1.0 - (-12.0 * time.delta_secs()).exp(),
            false => 1.0,
        };
        let between = |from: f32, to: f32| from + share * (to - from);
        let mut place = Place {
            focus: now.focus.lerp(wanted.focus, share),
            yaw: between(now.yaw, wanted.yaw),
            pitch: between(now.pitch, wanted.pitch),
            distance: between(now.distance, wanted.distance),
        };
        let near = |from: f32, to: f32| (from - to).abs() < 1e-4;
        if place.focus.distance(wanted.focus) < 1e-4 * wanted.distance
            && near(place.yaw, wanted.yaw)
            && near(place.pitch, wanted.pitch)
            && near(place.distance / wanted.distance, 1.0)
        {
            place = wanted;
        }
        orbit.now = Some(place);
        *transform = place.transform();
    }
}

/// Turns, shifts and approaches with the mouse: right button turns, middle button (or shift and the right one) shifts,
/// the wheel approaches.
pub fn steer(
    mut orbits: Query<(&mut Orbit, &Camera)>,
    buttons: Res<ButtonInput<MouseButton>>,
    keys: Res<ButtonInput<KeyCode>>,
    mut moves: MessageReader<CursorMoved>,
    scroll: Res<AccumulatedMouseScroll>,
) {
    let shifted = keys.any_pressed([KeyCode::ShiftLeft, KeyCode::ShiftRight]);
    let right = buttons.pressed(MouseButton::Right);
    let moved: Vec2 = moves.read().filter_map(|moved| moved.delta).sum();
    for (mut orbit, camera) in &mut orbits {
        let height = camera.logical_viewport_size().map_or(720.0, |size| size.y);
        if moved != Vec2::ZERO {
            if buttons.pressed(MouseButton::Middle) || (right && shifted) {
                orbit.shift(moved, height);
            } else if right {
                orbit.turn(moved);
            }
        }
        if scroll.delta.y != 0.0 {
            orbit.approach(match scroll.unit {
                MouseScrollUnit::Line => scroll.delta.y,
                MouseScrollUnit::Pixel => scroll.delta.y / 40.0,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drag_turns_and_shifts() {
        let mut orbit = Orbit::default();
        let before = orbit.wanted;
        orbit.turn(Vec2::new(100.0, -50.0));
        assert!((orbit.wanted.yaw - (before.yaw - 0.6)).abs() < 1e-6);
        assert!((orbit.wanted.pitch - (before.pitch - 0.3)).abs() < 1e-6);
        orbit.turn(Vec2::new(0.0, 1e6));
        assert!(orbit.wanted.pitch < std::f32::consts::FRAC_PI_2, "never over the top");
        let focus = orbit.wanted.focus;
        orbit.shift(Vec2::new(10.0, 0.0), 720.0);
        let moved = orbit.wanted.focus - focus;
        let right = orbit.wanted.transform().right().as_vec3();
        assert!(moved.dot(right) < 0.0, "the picture follows the pointer");
        orbit.approach(3.0);
        assert!(orbit.wanted.distance < before.distance && orbit.steered);
    }

    #[test]
    fn a_box_that_fits_is_inside_the_picture() {
        let (half, field, aspect) = (Vec3::new(8.0, 1.5, 6.0), 0.8, 1.6);
        for (yaw, pitch) in [(0.0, 0.6), (0.7, 1.2), (-2.0, 0.2)] {
            let distance = fit(half, yaw, pitch, field, aspect);
            let place = Place {
                focus: Vec3::ZERO,
                yaw,
                pitch,
                distance,
            };
            let view = place.transform().to_matrix().inverse();
            let mut fullest: f32 = 0.0;
            for corner in 0..8 {
                let sign = |bit: usize| if corner >> bit & 1 == 0 { -1.0 } else { 1.0 };
                let seen = view.transform_point3(half * Vec3::new(sign(0), sign(1), sign(2)));
                assert!(seen.z < 0.0, "in front of the camera");
                let edge = -seen.z * (0.5 * field).tan();
                fullest = fullest.max(seen.y.abs() / edge).max(seen.x.abs() / (edge * aspect));
            }
            assert!(fullest < 1.0 && fullest > 0.75, "{fullest}");
        }
    }
}
