//! The window itself.

mod capture;
mod follow;
mod keys;
mod overlay;

use std::time::{Duration, Instant};

use bevy::app::{PluginGroupBuilder, TerminalCtrlCHandlerPlugin};
use bevy::log::LogPlugin;
use bevy::prelude::*;
use bevy::render::RenderPlugin;
use bevy::render::renderer::RenderAdapterInfo;
use bevy::render::settings::WgpuSettings;
use bevy::window::{PresentMode, PrimaryWindow, WindowResolution};
use bevy::winit::{UpdateMode, WinitSettings};
use bevy_egui::EguiPlugin;
use crossbeam::channel::Receiver;
use x11rb::connection::Connection;
use x11rb::errors::ConnectError;

use super::camera::Orbit;
use super::offscreen::{self, ViewError};
use super::stage::haze;
use super::{Ask, Curves, PicturePlugin, ViewState, ViewSystems, Watched};
use crate::app::StopRequest;
use crate::watch::{Notice, Pace, Request, Subject, WatcherLink};

/// Size of the window when it opens, logical pixels.
const SIZE: (u32, u32) = (1440, 900);
/// Frames a second, at most.
const FRAME_RATE: f64 = 60.0;
/// Share of the time that frames may take while a world trains and the processor draws them: training comes first.
const SOFTWARE_SHARE: f64 = 0.5;
/// How often a display that does not answer is tried again.
const TRIES: usize = 5;
/// Notices that are kept.
const NOTICES: usize = 100;

/// Whether a window can be opened at all.
///
/// # Errors
/// [`ViewError::NoDisplay`] where there is no display to open it on, and what [`offscreen::check_renderer`] says.
pub fn check_display() -> Result<(), ViewError> {
    open_display()?;
    offscreen::check_renderer()
}

/// Connects to the display. A server may be there and let nobody in, so nothing less says whether a window can be opened.
fn open_display() -> Result<impl Connection, ViewError> {
    let display = std::env::var("DISPLAY").unwrap_or_default();
    if display.is_empty() {
        return Err(ViewError::NoDisplay("DISPLAY is not set".into()));
    }
    let mut tries = TRIES;
    loop {
        match x11rb::connect(None) {
            Ok((connection, _)) => return Ok(connection),
            // Some servers begin anew when their last client has left, and are away for a moment.
            Err(ConnectError::IoError(_)) if tries > 0 => {
                tries -= 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(error) => return Err(ViewError::NoDisplay(format!("DISPLAY={display}: {error}"))),
        }
    }
}

/// Opens the window on a watched world, and comes back when it is closed. `ended` brings the world's last words; the
/// window stays open after them.
///
/// # Errors
/// What [`check_display`] says, and [`ViewError::Ended`] if the renderer gave up.
pub fn run_window(
    subject: Subject,
    link: WatcherLink,
    stop: StopRequest,
    ended: Receiver<Notice>,
) -> Result<(), ViewError> {
    offscreen::check_renderer()?;
    // Held until the window is closed: there is then no moment without a client, in which the server might begin anew.
    let _held = open_display()?;
    let mut app = App::new();
    app.add_plugins(bevys_plugins(&subject, offscreen::find_driver()?))
        .add_plugins((EguiPlugin::default(), PicturePlugin { subject }))
        .insert_resource(link)
        .insert_resource(stop)
        .insert_resource(WorldEnd(ended))
        .insert_resource(frame_rate(FRAME_RATE))
        .init_resource::<FrameTimes>()
        .add_message::<Ask>()
        .add_systems(Startup, (spawn_camera, suit_renderer.after(super::crowd::load_look)))
        .add_systems(First, begin_frame)
        .add_systems(
            Update,
            (
                receive,
                follow::follow_scene,
                keys::press_keys,
                follow_asks,
                select,
                inspect_selected,
            )
                .chain()
                .in_set(ViewSystems::Receive),
        )
        .add_systems(
            Update,
            super::camera::steer
                .run_if(overlay::pointer_is_on_picture)
                .in_set(ViewSystems::Receive),
        )
        .add_systems(
            Update,
            (overlay::frame_instances, close_when_stopped).after(ViewSystems::Camera),
        )
        .add_systems(Last, (limit_frames, tell_time));
    overlay::add(&mut app);
    capture::add(&mut app);
    match app.run() {
        AppExit::Success => Ok(()),
        AppExit::Error(_) => Err(ViewError::Ended),
    }
}

/// Bevy's own plugins, as this window needs them.
fn bevys_plugins(subject: &Subject, driver: WgpuSettings) -> PluginGroupBuilder {
    DefaultPlugins
        .build()
        // The program shows warnings and follows signals in its own way.
        .disable::<LogPlugin>()
        .disable::<TerminalCtrlCHandlerPlugin>()
        .set(RenderPlugin {
            render_creation: driver.into(),
            ..default()
        })
        .set(WindowPlugin {
            primary_window: Some(Window {
                title: format!("{} - Apprentice", subject.title),
                name: Some("apprentice".into()),
                resolution: WindowResolution::new(SIZE.0, SIZE.1),
                present_mode: PresentMode::AutoVsync,
                ..default()
            }),
            ..default()
        })
}

/// Where the world's last words come from.
#[derive(Resource)]
struct WorldEnd(Receiver<Notice>);

/// What frames cost.
#[derive(Resource, Debug)]
pub struct FrameTimes {
    began: Instant,
    /// Frames a second, averaged.
    pub rate: f32,
    /// Time that the window's own systems take of a frame, s, averaged; what the renderer does is not in it.
    pub cost: f64,
    /// The processor draws: there is no graphics processor.
    pub software: bool,
}

impl Default for FrameTimes {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            rate: 0.0,
            cost: 0.0,
            software: false,
        }
    }
}

fn frame_rate(rate: f64) -> WinitSettings {
    let mode = UpdateMode::reactive(Duration::from_secs_f64(1.0 / rate));
    WinitSettings {
        focused_mode: mode,
        unfocused_mode: mode,
    }
}

fn spawn_camera(mut commands: Commands) {
    commands.spawn((
        Camera3d::default(),
        Projection::from(PerspectiveProjection {
            fov: 45.0_f32.to_radians(),
            ..default()
        }),
        Orbit::default(),
        haze(),
    ));
}

/// Leaves out what a processor draws too slowly.
fn suit_renderer(
    adapter: Res<RenderAdapterInfo>,
    mut commands: Commands,
    cameras: Query<Entity, With<Camera3d>>,
    mut times: ResMut<FrameTimes>,
    mut view: ResMut<ViewState>,
    mut watched: ResMut<Watched>,
) {
    times.software = offscreen::is_software(&adapter);
    if times.software {
        view.shadows = false;
        for camera in &cameras {
            commands.entity(camera).insert(Msaa::Off);
        }
        watched.tell(Ok(
            "no graphics processor: drawn by the processor, without shadows and smooth edges".into(),
        ));
    }
}

impl Watched {
    /// Keeps a notice.
    pub fn tell(&mut self, notice: Notice) {
        self.notices.push_back(notice);
        if self.notices.len() > NOTICES {
            self.notices.pop_front();
        }
    }
}

/// Takes what the world has sent.
fn receive(
    mut watched: ResMut<Watched>,
    mut curves: ResMut<Curves>,
    link: Res<WatcherLink>,
    end: Res<WorldEnd>,
    mut exit: MessageWriter<AppExit>,
    mut counted: Local<Option<(Instant, u64)>>,
) {
    while let Ok(snapshot) = link.filled.try_recv() {
        let watched = &mut *watched;
        let current = std::mem::replace(&mut watched.current, snapshot);
        if let Some(older) = watched.previous.replace(current) {
            // It fails only when the world has ended, and then nobody needs it.
            let _ = link.empty.try_send(older);
        }
        watched.since = Instant::now();
    }
    let tick = watched.current.tick;
    let (then, first) = *counted.get_or_insert((Instant::now(), tick));
    let passed = then.elapsed().as_secs_f32();
    if passed >= 0.5 {
        watched.ticks_per_second = tick.saturating_sub(first) as f32 / passed;
        *counted = Some((Instant::now(), tick));
    }
    while let Ok(notice) = link.notices.try_recv() {
        watched.tell(notice);
    }
    while let Ok((seed, row)) = link.metrics.try_recv() {
        curves.push(seed, &row);
    }
    if let Ok(words) = end.0.try_recv() {
        // There is nothing to look at, and the command says what is wrong.
        if words.is_err() && watched.current.tick == 0 {
            exit.write(AppExit::Success);
        }
        watched.ended = Some(words);
    }
}

/// Does what keys and panels have asked for.
fn follow_asks(
    mut asks: MessageReader<Ask>,
    link: Res<WatcherLink>,
    mut watched: ResMut<Watched>,
    mut view: ResMut<ViewState>,
    mut orbits: Query<&mut Orbit>,
    mut capture: capture::Capture,
    mut exit: MessageWriter<AppExit>,
) {
    for ask in asks.read() {
        match ask {
            Ask::World(request) => {
                // A world that has ended follows nothing; the panels say so.
                let _ = link.requests.send(request.clone());
            }
            Ask::Step { forward } => {
                let environments = &watched.current.environments;
                let listed: Vec<Entity> = (watched.listed(&view).into_iter())
                    .filter_map(|index| environments.get(index).map(|view| view.environment))
                    .collect();
                view.selected = neighbour(&listed, view.selected, *forward);
            }
            Ask::Screenshot => capture.picture(&mut watched),
            Ask::Record => capture.record(&mut watched, &mut view),
            Ask::ResetCamera => orbits.iter_mut().for_each(|mut orbit| orbit.reset()),
            Ask::Quit => {
                exit.write(AppExit::Success);
            }
        }
    }
}

/// The entry after the selected one, or before it; round and round.
fn neighbour(listed: &[Entity], selected: Option<Entity>, forward: bool) -> Option<Entity> {
    let count = listed.len();
    let at = listed.iter().position(|entity| Some(*entity) == selected);
    let next = match (at, forward) {
        _ if count == 0 => return None,
        (None, true) => 0,
        (None, false) => count - 1,
        (Some(at), true) => (at + 1) % count,
        (Some(at), false) => (at + count - 1) % count,
    };
    listed.get(next).copied()
}

/// Selects the environment that is clicked.
fn select(
    buttons: Res<ButtonInput<MouseButton>>,
    window: Single<&Window, With<PrimaryWindow>>,
    camera: Single<(&Camera, &GlobalTransform), With<Orbit>>,
    instances: Query<(&super::crowd::Instance, &Transform, &Visibility)>,
    crowd: Res<super::crowd::Crowd>,
    area: Res<overlay::PictureArea>,
    mut view: ResMut<ViewState>,
) {
    let Some(at) = window.cursor_position() else { return };
    if !buttons.just_pressed(MouseButton::Left) || !area.contains(at) {
        return;
    }
    let (camera, place) = *camera;
    let Ok(ray) = camera.viewport_to_world(place, at) else {
        return;
    };
    let shown = instances
        .iter()
        .filter(|(.., visibility)| **visibility != Visibility::Hidden);
    if let Some(hit) = crowd.hit(ray, shown.map(|(instance, place, _)| (instance, place))) {
        view.selected = Some(hit);
    }
}

/// Tells the world what to look into when the selection changes, by whatever hand.
fn inspect_selected(
    mut view: ResMut<ViewState>,
    watched: Res<Watched>,
    link: Res<WatcherLink>,
    mut told: Local<Option<Entity>>,
) {
    // An evaluation episode that has ended takes its environment with it.
    if let Some(selected) = view.selected
        && watched.index_of(selected).is_none()
    {
        view.selected = None;
    }
    if *told != view.selected {
        *told = view.selected;
        let _ = link.requests.send(Request::Inspect(view.selected));
    }
}

fn close_when_stopped(stop: Res<StopRequest>, mut exit: MessageWriter<AppExit>) {
    if stop.is_made() {
        exit.write(AppExit::Success);
    }
}

fn begin_frame(mut times: ResMut<FrameTimes>, time: Res<Time<Real>>) {
    times.began = Instant::now();
    let seconds = time.delta_secs();
    if seconds > 0.0 {
        times.rate += 0.1 * (1.0 / seconds - times.rate);
    }
}

/// Gives a world that trains as fast as it can most of the processor where that draws the pictures as well.
fn limit_frames(
    mut settings: ResMut<WinitSettings>,
    watched: Res<Watched>,
    time: Res<Time<Real>>,
    times: Res<FrameTimes>,
    mut wait: Local<f64>,
) {
    let hurried = watched.subject.trains && watched.current.pace == Some(Pace::Unlimited) && watched.ended.is_none();
    let rate = if times.software && hurried {
        // What the last frame took beyond its wait is what drawing it costs.
        let cost = (time.delta_secs_f64() - *wait).max(1.0 / FRAME_RATE);
        SOFTWARE_SHARE / cost.min(2.0)
    } else {
        FRAME_RATE
    };
    *wait = if times.software && hurried {
        (1.0 / rate) * (1.0 - SOFTWARE_SHARE)
    } else {
        0.0
    };
    let wanted = frame_rate(rate);
    if settings.focused_mode != wanted.focused_mode {
        *settings = wanted;
    }
}

/// Variable that asks for the time the window's own systems take, one line on standard error every 100 frames.
const TELL_TIME: &str = "APPRENTICE_FRAME_TIMES";

fn tell_time(
    mut times: ResMut<FrameTimes>,
    watched: Res<Watched>,
    mut frames: Local<u32>,
    mut tells: Local<Option<bool>>,
) {
    let cost = times.began.elapsed().as_secs_f64();
    times.cost += 0.05 * (cost - times.cost);
    *frames += 1;
    let tells = *tells.get_or_insert_with(|| std::env::var_os(TELL_TIME).is_some());
    if tells && frames.is_multiple_of(100) {
        bevy::log::warn!(
            "frame {}: {:.2} ms of the window's own systems, {:.1} frames/s, {} environments, tick {}, {:.1} ticks/s",
            *frames,
            1e3 * times.cost,
            times.rate,
            watched.current.environments.len(),
            watched.current.tick,
            watched.ticks_per_second
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn steps_go_round() {
        let entities: Vec<Entity> = (1..4).map(|index| Entity::from_raw_u32(index).unwrap()).collect();
        assert_eq!(neighbour(&entities, None, true), Some(entities[0]));
        assert_eq!(neighbour(&entities, Some(entities[2]), true), Some(entities[0]));
        assert_eq!(neighbour(&entities, Some(entities[0]), false), Some(entities[2]));
        assert_eq!(neighbour(&[], Some(entities[0]), true), None);
    }
}
