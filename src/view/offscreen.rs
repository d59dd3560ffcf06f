//! Pictures without a window: the same scene, drawn into a texture and read back.
//!
//! One picture is one update of the app, drawn and waited for, so the same snapshot gives the same pixels on the same
//! machine. No display is needed, only a driver: that of a graphics card, or one that draws with the processor.

use bevy::app::{PluginsState, TerminalCtrlCHandlerPlugin};
use bevy::light::ShadowFilteringMethod;
use bevy::log::LogPlugin;
use bevy::prelude::*;
use bevy::render::pipelined_rendering::PipelinedRenderingPlugin;
use bevy::render::render_asset::RenderAssets;
use bevy::render::render_resource::{
    Buffer, BufferDescriptor, BufferUsages, CommandEncoderDescriptor, Extent3d, MapMode, PipelineCache, PollType,
    TexelCopyBufferInfo, TexelCopyBufferLayout, TextureFormat, TextureUsages,
};
use bevy::render::renderer::{RenderAdapterInfo, RenderDevice, RenderQueue};
use bevy::render::settings::{Backends, WgpuSettings};
use bevy::render::texture::GpuImage;
use bevy::render::{RenderApp, RenderPlugin};
use bevy::tasks::{block_on, tick_global_task_pools_on_main_thread};
use bevy::window::ExitCondition;
use bevy::winit::WinitPlugin;
use crossbeam::channel;

use super::camera::Orbit;
use super::crowd::{Crowd, Instance};
use super::stage::haze;
use super::{PicturePlugin, ViewSystems, Watched};
use crate::scene::{Camera as SceneCamera, CompiledScene, LARGEST_PICTURE};
use crate::watch::{Snapshot, Subject};

/// Frames after which the picture may be right: assets reach the renderer one after another.
const FIRST_FRAMES: usize = 4;
/// Frames after which the picture should long have been right.
const LAST_FRAMES: usize = 2_000;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// No driver draws for us.
    #[error(
        "no graphics driver was found ({0}). Pictures need Vulkan, or what stands in for it on other systems; without a \
         graphics card the processor can draw: on Debian and Ubuntu `apt install mesa-vulkan-drivers libvulkan1`"
    )]
    NoDriver(String),
    /// There is no display for a window.
    #[error(
        "no window can be opened: {0}; without a display, `train` practises all the \
             same and `evaluate --video` makes videos"
    )]
    NoDisplay(String),
    /// The window ended by itself.
    #[error("the window ended early: its display or the graphics driver failed; standard error says more")]
    Ended,
    /// The picture is empty or larger than the driver can draw.
    #[error("a picture of {width} x {height} pixels: expected 1 x 1 to {largest} x {largest}")]
    Size {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// The largest side that the driver can draw, pixels.
        largest: u32,
    },
    /// The renderer failed.
    #[error("the renderer failed: {0}")]
    Renderer(String),
}

impl ViewError {
    fn renderer(error: impl std::fmt::Display) -> Self {
        Self::Renderer(error.to_string())
    }
}

/// Whether there is a driver that can draw. Bevy does not ask, but ends the process where there is none.
///
/// # Errors
/// [`ViewError::NoDriver`] if not.
pub fn check_renderer() -> Result<(), ViewError> {
    find_driver().map(drop)
}

/// Settings for the renderer with which a driver is found: the system's own interface (Vulkan, Metal, Direct3D 12), or
/// else OpenGL. The environment variable `WGPU_BACKEND` chooses another.
///
/// # Errors
/// [`ViewError::NoDriver`] if there is none.
pub fn find_driver() -> Result<WgpuSettings, ViewError> {
    let chosen = Backends::from_env();
    // OpenGL only where there is nothing better.
    let tried = chosen.map_or(vec![Backends::PRIMARY, Backends::GL], |chosen| vec![chosen]);
    let mut error = String::new();
    for backends in tried {
        let settings = WgpuSettings {
            backends: Some(backends),
            ..default()
        };
        match look_for_driver(backends, &settings) {
            Ok(()) => return Ok(settings),
            Err(missing) if error.is_empty() => error = missing,
            Err(_) => {}
        }
    }
    Err(ViewError::NoDriver(error))
}

fn look_for_driver(backends: Backends, settings: &WgpuSettings) -> Result<(), String> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        flags: settings.instance_flags,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions {
        power_preference: settings.power_preference,
        ..default()
    });
    // The error lists every way that was tried, line by line; the first line says what matters.
    let first_line = |error: wgpu::RequestAdapterError| error.to_string().lines().next().unwrap_or_default().to_owned();
    block_on(adapter).map(drop).map_err(first_line)
}

/// Whether the processor draws, in place of a graphics card.
pub fn is_software(adapter: &RenderAdapterInfo) -> bool {
    adapter.device_type == wgpu::DeviceType::Cpu
}

/// Where the camera of an [`Offscreen`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Viewpoint {
    /// Where the scene's first camera is, in front of the first environment of the snapshot.
    #[default]
    Scene,
    /// Where all environments are to be seen.
    Overview,
}

/// Draws snapshots without a window. It belongs to the thread that made it.
pub struct Offscreen {
    app: App,
    target: Handle<Image>,
    buffer: Buffer,
    size: (u32, u32),
    software: bool,
    /// Bytes of a row in the buffer, of which the driver wants a multiple of 256.
    stride: usize,
    picture: Vec<u8>,
    /// The environments of the last picture; `None` before the first.
    environments: Option<Vec<Entity>>,
}

impl Offscreen {
    /// A renderer for pictures of `(width, height)` pixels. Takes a second or so.
    ///
    /// Bevy's task pools belong to the process and are as large as the first app has made them.
    ///
    /// # Errors
    /// No driver, or none for pictures of this size.
    pub fn new(subject: Subject, size: (u32, u32), viewpoint: Viewpoint) -> Result<Self, ViewError> {
        let shot = shot_of(&subject.scene);
        let mut app = windowless(find_driver()?);
        app.add_plugins(PicturePlugin { subject });
        app.add_systems(Update, stay_with_first.in_set(ViewSystems::Camera));
        while app.plugins_state() == PluginsState::Adding {
            tick_global_task_pools_on_main_thread();
        }
        app.finish();
        app.cleanup();

        let device = resource::<RenderDevice>(app.world())?.clone();
        let (width, height) = size;
        let largest = device.limits().max_texture_dimension_2d.min(LARGEST_PICTURE);
        if width.min(height) == 0 || width.max(height) > largest {
            return Err(ViewError::Size { width, height, largest });
        }
        let mut image = Image::new_target_texture(width, height, TextureFormat::Rgba8UnormSrgb, None);
        image.texture_descriptor.usage |= TextureUsages::COPY_SRC;
        let target = app.world_mut().resource_mut::<Assets<Image>>().add(image);
        let camera = spawn_camera(&mut app, target.clone(), shot, viewpoint);
        let software = is_software(resource(app.world())?);
        if software {
            // Smooth edges, of things and of shadows, make a picture five times as slow there; shadows take a tenth of what
            // is left.
            let plain = (Msaa::Off, ShadowFilteringMethod::Hardware2x2);
            app.world_mut().entity_mut(camera).insert(plain);
            app.world_mut().resource_mut::<super::ViewState>().shadows = false;
        }
        let stride = RenderDevice::align_copy_bytes_per_row(width as usize * 4);
        let buffer = device.create_buffer(&BufferDescriptor {
            label: Some("picture"),
            size: stride as u64 * u64::from(height),
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Ok(Self {
            app,
            target,
            buffer,
            size,
            software,
            stride,
            picture: Vec::new(),
            environments: None,
        })
    }

    /// The picture of a snapshot: RGBA, 8 bits each, sRGB, opaque, row by row without gaps, the top row first.
    ///
    /// # Errors
    /// Whatever the driver says.
    pub fn show(&mut self, snapshot: Box<Snapshot>) -> Result<&[u8], ViewError> {
        let shown = snapshot.environments.iter().map(|view| view.environment).collect();
        let mut watched = self.app.world_mut().resource_mut::<Watched>();
        watched.since = std::time::Instant::now();
        watched.previous = None;
        watched.current = snapshot;
        if self.environments.as_ref() == Some(&shown) {
            self.draw()?;
            self.read()?;
        } else {
            self.settle()?;
            self.environments = Some(shown);
        }
        Ok(&self.picture)
    }

    /// Width and height of the pictures, pixels.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Whether the processor draws, without shadows and smooth edges.
    pub fn software(&self) -> bool {
        self.software
    }

    /// What is drawn can be changed here: [`ViewState`](super::ViewState), cameras, light.
    pub fn world_mut(&mut self) -> &mut World {
        // What is changed may take more than one frame to be seen.
        self.environments = None;
        self.app.world_mut()
    }

    /// Draws until nothing changes any more: shaders and meshes take a few frames to get to the driver.
    fn settle(&mut self) -> Result<(), ViewError> {
        let mut before = Vec::new();
        for frame in 0..LAST_FRAMES {
            self.draw()?;
            if self.compiles()? {
                // Shaders are read on another thread.
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            }
            self.read()?;
            if frame >= FIRST_FRAMES && before == self.picture {
                return Ok(());
            }
            before.clone_from(&self.picture);
        }
        Err(ViewError::Renderer("the picture does not come to rest".into()))
    }

    fn draw(&mut self) -> Result<(), ViewError> {
        self.app.update();
        match self.app.should_exit() {
            // The error itself is in the log already.
            Some(_) => Err(ViewError::Renderer("the driver reported an error".into())),
            None => Ok(()),
        }
    }

    fn render_world(&self) -> Result<&World, ViewError> {
        let renderer = self.app.get_sub_app(RenderApp);
        renderer
            .map(|renderer| renderer.world())
            .ok_or_else(|| ViewError::renderer("it is gone"))
    }

    /// Whether something waits for its shaders.
    fn compiles(&self) -> Result<bool, ViewError> {
        let cache = resource::<PipelineCache>(self.render_world()?)?;
        Ok(cache.waiting_pipelines().next().is_some())
    }

    /// Copies the target into `picture`, without what fills up the rows.
    fn read(&mut self) -> Result<(), ViewError> {
        let world = self.app.world();
        let device = resource::<RenderDevice>(world)?;
        let queue = resource::<RenderQueue>(world)?;
        self.picture.clear();
        let Some(image) = resource::<RenderAssets<GpuImage>>(self.render_world()?)?.get(&self.target) else {
            return Ok(());
        };
        let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
        let layout = TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(self.stride as u32),
            rows_per_image: None,
        };
        let to = TexelCopyBufferInfo {
            buffer: &self.buffer,
            layout,
        };
        let (width, height) = self.size;
        let size = Extent3d {
            width,
            height,
            depth_or_array_layers: 1,
        };
        encoder.copy_texture_to_buffer(image.texture.as_image_copy(), to, size);
        queue.submit([encoder.finish()]);
        let slice = self.buffer.slice(..);
        let (sender, receiver) = channel::bounded(1);
        slice.map_async(MapMode::Read, move |mapped| {
            let _ = sender.send(mapped);
        });
        device
            .poll(PollType::wait_indefinitely())
            .map_err(ViewError::renderer)?;
        (receiver.recv().map_err(ViewError::renderer)?).map_err(ViewError::renderer)?;
        for row in slice.get_mapped_range().chunks_exact(self.stride) {
            self.picture.extend(row.iter().take(width as usize * 4));
        }
        self.buffer.unmap();
        // What lies behind the scene is not part of the picture.
        self.picture.chunks_exact_mut(4).for_each(|pixel| pixel[3] = 255);
        Ok(())
    }
}

fn resource<R: Resource>(world: &World) -> Result<&R, ViewError> {
    let missing = || ViewError::renderer(format_args!("{} is missing", std::any::type_name::<R>()));
    world.get_resource::<R>().ok_or_else(missing)
}

/// Bevy with its renderer, and without a window and all that belongs to one.
fn windowless(driver: WgpuSettings) -> App {
    let mut app = App::new();
    app.add_plugins(
        DefaultPlugins
            .set(WindowPlugin {
                primary_window: None,
                exit_condition: ExitCondition::DontExit,
                ..default()
            })
            .set(RenderPlugin {
                render_creation: driver.into(),
                synchronous_pipeline_compilation: true,
                ..default()
            })
            .disable::<WinitPlugin>()
            // A picture is finished when the update is.
            .disable::<PipelinedRenderingPlugin>()
            // The program shows warnings and follows signals in its own way.
            .disable::<LogPlugin>()
            .disable::<TerminalCtrlCHandlerPlugin>(),
    );
    app
}

/// What a camera sees: where it is, in the frame of an environment that stands upright, and its vertical field of view,
/// rad.
#[derive(Component, Debug, Clone, Copy)]
struct Shot {
    place: Transform,
    field: f32,
}

fn shot_of(scene: &CompiledScene) -> Shot {
    let model = scene.model();
    let (global, statistic) = (&model.vis().global, model.stat());
    let own = scene.scene().cameras.first();
    let place = own.map_or_else(
        || {
            let (azimuth, elevation) = (f64::from(global.azimuth), f64::from(global.elevation));
            orbit(statistic.center, 1.5 * statistic.extent, azimuth, elevation)
        },
        free_camera,
    );
    Shot {
        place,
        field: global.fovy.to_radians(),
    }
}

/// Where a scene's camera is and looks, in the frame of an environment that stands upright: `MuJoCo`'s `(x, y, z)` with
/// z up is Bevy's `(x, z, -y)`.
pub fn free_camera(camera: &SceneCamera) -> Transform {
    let (x, y, z) = camera.look_at;
    orbit([x, y, z], camera.distance, camera.azimuth, camera.elevation)
}

/// `MuJoCo`'s free camera: it looks at a point from a distance, m. Azimuth 0 looks along x, 90 along y; a negative
/// elevation looks down; both in degrees.
fn orbit([x, y, z]: [f64; 3], distance: f64, azimuth: f64, elevation: f64) -> Transform {
    let yaw = (azimuth - 90.0).to_radians() as f32;
    let rotation = Quat::from_euler(EulerRot::YXZ, yaw, elevation.to_radians() as f32, 0.0);
    let focus = Vec3::new(x as f32, z as f32, -y as f32);
    Transform {
        translation: focus + rotation * Vec3::Z * distance as f32,
        rotation,
        ..default()
    }
}

fn spawn_camera(app: &mut App, target: Handle<Image>, shot: Shot, viewpoint: Viewpoint) -> Entity {
    let projection = PerspectiveProjection {
        fov: shot.field,
        ..default()
    };
    let camera = (
        Camera3d::default(),
        bevy::camera::RenderTarget::from(target),
        Projection::from(projection),
        haze(),
    );
    let mut camera = app.world_mut().spawn(camera);
    match viewpoint {
        Viewpoint::Scene => camera.insert((shot, shot.place)),
        Viewpoint::Overview => {
            let mut orbit = Orbit::default();
            orbit.glides = false;
            camera.insert(orbit)
        }
    }
    .id()
}

/// Keeps a scene's camera in front of the first environment, wherever that is.
fn stay_with_first(
    mut cameras: Query<(&Shot, &mut Transform), Without<Instance>>,
    instances: Query<&Transform, With<Instance>>,
    watched: Res<Watched>,
    crowd: Res<Crowd>,
) {
    let first = watched.current.environments.first();
    let first = first.and_then(|view| crowd.instance(view.environment));
    let Some(place) = first.and_then(|first| instances.get(first).ok()) else {
        return;
    };
    for (shot, mut transform) in &mut cameras {
        transform.set_if_neq(shot.place.with_translation(place.translation + shot.place.translation));
    }
}

#[cfg(test)]
mod tests;
