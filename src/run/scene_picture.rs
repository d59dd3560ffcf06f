//! A picture of a scene at the start of an episode.

use std::path::{Path, PathBuf};

use super::RunError;
use crate::files;
use crate::scene::{Camera, CompiledScene};
use crate::sim::Environment;

/// The name of the camera that stands for what agents see.
const AGENT: &str = "agent";

/// A picture, row by row from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Red, green, blue, `[height, width, 3]`.
    pub rgb: Vec<u8>,
    /// What is to be known about how it was drawn, to be written behind its size; usually nothing.
    pub note: String,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The scene has no such camera.
    #[error("--camera: the scene has no camera {name:?}{nearest} (there are: {known})")]
    Camera {
        /// The name.
        name: String,
        /// The most similar one there is, in words.
        nearest: String,
        /// All there are.
        known: String,
    },
    /// Without the window's renderer only simple shapes can be drawn.
    #[error(
        "this program was built without its window (--no-default-features), and what it has draws simple shapes only: \
         {reason}. Build it with `cargo build` for this picture"
    )]
    NeedsWindow {
        /// What cannot be drawn.
        reason: String,
    },
    /// The scene with this camera.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The renderer.
    #[cfg(feature = "window")]
    #[error(transparent)]
    View(#[from] crate::view::ViewError),
    /// The file cannot be written.
    #[error("cannot write {path:?}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        reason: String,
    },
}

/// Draws a scene at the start of the first episode of seed 0: with the camera of this name, or its first one, or what
/// agents see if the name is `agent` and no camera has it. `size` is width and height, by default the camera's.
///
/// # Errors
/// There is no such camera, or no driver that could draw the picture.
pub fn picture_of(
    scene: &CompiledScene,
    camera: Option<&str>,
    size: Option<(u32, u32)>,
    threads: usize,
) -> Result<Picture, PictureError> {
    let cameras = &scene.scene().cameras;
    let chosen = match camera {
        None => cameras.first(),
        Some(name) => match cameras.iter().find(|camera| camera.name == name) {
            None if name == AGENT && scene.eye().is_some() => return agents_view(scene, size),
            None => return Err(unknown_camera(scene, name)),
            found => found,
        },
    };
    let own = chosen.map_or((640, 480), |camera| (camera.width.max(1), camera.height.max(1)));
    drawn(scene, chosen, size.unwrap_or(own), threads)
}

fn unknown_camera(scene: &CompiledScene, name: &str) -> PictureError {
    let cameras = scene.scene().cameras.iter().map(|camera| camera.name.as_str());
    let known: Vec<&str> = cameras.chain(scene.eye().map(|_| AGENT)).collect();
    PictureError::Camera {
        name: name.to_owned(),
        nearest: files::nearest(name, known.iter().copied())
            .map_or_else(String::new, |name| format!("; did you mean {name:?}?")),
        known: if known.is_empty() {
            "none".into()
        } else {
            known.join(", ")
        },
    }
}

/// The newest picture that an agent sees at the start.
fn agents_view(scene: &CompiledScene, size: Option<(u32, u32)>) -> Result<Picture, PictureError> {
    let environment = Environment::new(scene, 0, 0).map_err(RunError::Sim)?;
    let planes = environment
        .eyes
        .0
        .as_ref()
        .map_or(&[][..], |sighted| sighted.pixels.as_slice());
    let side = scene.eye().map_or(0, |eye| eye.size());
    let newest = planes.rchunks(3 * side * side).next().unwrap_or_default();
    let side = side as u32;
    let (width, height) = size.unwrap_or((side, side));
    Ok(sampled(newest, side, (width, height), Area::whole(side)))
}

/// The part of a square picture that is shown, pixels.
struct Area {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Area {
    fn whole(side: u32) -> Self {
        Self {
            left: 0.0,
            top: 0.0,
            width: f64::from(side),
            height: f64::from(side),
        }
    }
}

/// The `area` of a square picture `[3, side, side]` in another size, each pixel the one that its middle falls on.
fn sampled(planes: &[u8], side: u32, (width, height): (u32, u32), area: Area) -> Picture {
    let (side, plane) = (side as usize, side as usize * side as usize);
    let along = |place: u32, count: u32, from: f64, extent: f64| {
        let at = from + extent * (f64::from(place) + 0.5) / f64::from(count);
        (at as usize).min(side.saturating_sub(1))
    };
    let mut rgb = Vec::with_capacity(3 * width as usize * height as usize);
    for row in 0..height {
        let from_row = along(row, height, area.top, area.height);
        for column in 0..width {
            let at = from_row * side + along(column, width, area.left, area.width);
            rgb.extend((0..3).map(|channel| planes.get(channel * plane + at).copied().unwrap_or(0)));
        }
    }
    Picture {
        width,
        height,
        rgb,
        note: String::new(),
    }
}

impl Picture {
    /// Writes it as a PNG file. Folders on the way to it are made.
    ///
    /// # Errors
    /// [`PictureError::File`] if that cannot be.
    pub fn write(&self, path: &Path) -> Result<(), PictureError> {
        let failed = |error: &dyn std::fmt::Display| PictureError::File {
            path: path.into(),
            reason: error.to_string(),
        };
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.rgb))
            .map_err(|error| failed(&error))?;
        files::write_with_folders(path, &bytes).map_err(|error| failed(&error))
    }
}

#[cfg(feature = "window")]
fn drawn(
    scene: &CompiledScene,
    camera: Option<&Camera>,
    size: (u32, u32),
    threads: usize,
) -> Result<Picture, PictureError> {
    use std::sync::Arc;

    use crate::evaluate::Measures;
    use crate::view::Offscreen;
    use crate::view::offscreen::Viewpoint;
    use crate::watch::{Snapshot, Subject, still_look, still_view};

    // The renderer draws with the first camera.
    let mut described = scene.scene().clone();
    described.cameras = camera.cloned().into_iter().collect();
    let scene = CompiledScene::with_model(described, scene.model().clone()).map_err(RunError::Scene)?;
    let environment = Environment::new(&scene, 0, 0).map_err(RunError::Sim)?;
    let (view, poses) = still_view(&scene, &environment);
    let looks = still_look(&scene, &environment);
    let subject = Subject {
        title: String::new(),
        task: Measures::of(&scene).task,
        scene: Arc::new(scene),
        skill_map: None,
        trains: false,
        metrics: Vec::new(),
    };
    // The renderer's app would take all processors.
    crate::app::task_pools(threads).create_default_pools();
    let mut offscreen = Offscreen::new(subject, size, Viewpoint::Scene)?;
    let snapshot = Snapshot {
        environments: vec![view],
        poses,
        looks,
        ..Snapshot::default()
    };
    let rgba = offscreen.show(Box::new(snapshot))?;
    Ok(Picture {
        width: size.0,
        height: size.1,
        rgb: rgba
            .chunks_exact(4)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect(),
        note: String::new(),
    })
}

/// Draws with the rays that draw what agents see.
#[cfg(not(feature = "window"))]
fn drawn(scene: &CompiledScene, camera: Option<&Camera>, size: (u32, u32), _: usize) -> Result<Picture, PictureError> {
    use crate::pixels::{CompiledEye, Gaze};
    use crate::scene::{Eye, PixelSpec};

    /// The largest side that these rays draw, pixels.
    const LARGEST: u32 = 256;
    /// The widest field of view, degrees.
    const WIDEST: f64 = 120.0;

    let model = scene.model();
    let (width, height) = (f64::from(size.0), f64::from(size.1));
    let default = default_camera(scene);
    let camera = camera.unwrap_or(&default);
    // The field of view is that of the height; a square around a wide picture needs a wider one.
    let half = (0.5 * f64::from(model.vis().global.fovy).to_radians()).tan();
    let fovy = 2.0 * (half * (width / height).max(1.0)).atan().to_degrees();
    let (offset, target) = eye_of(camera);
    let side = size.0.max(size.1).clamp(4, LARGEST);
    let spec = PixelSpec {
        eye: Eye::Carried {
            body: "world".into(),
            offset,
            target,
            fovy: fovy.min(WIDEST),
        },
        size: side,
        frames: 1,
    };
    // Walls and floor as they are in the model, not as the eye above a maze sees them.
    let eye = CompiledEye::new(&spec, &scene.scene().physics, model).map_err(|error| PictureError::NeedsWindow {
        reason: error.to_string(),
    })?;
    let environment = Environment::new(scene, 0, 0).map_err(RunError::Sim)?;
    let mut planes = vec![0; eye.picture_len()];
    eye.draw(&environment.physics, &Gaze::default(), &mut planes);
    let scale = f64::from(side) / width.max(height);
    let area = Area {
        left: 0.5 * (f64::from(side) - scale * width),
        top: 0.5 * (f64::from(side) - scale * height),
        width: scale * width,
        height: scale * height,
    };
    let mut picture = sampled(&planes, side, size, area);
    picture.note = format!(", drawn by the processor in {side} x {side}; the program with its window draws it better");
    Ok(picture)
}

/// Where `MuJoCo` looks from if nobody says.
#[cfg(not(feature = "window"))]
fn default_camera(scene: &CompiledScene) -> Camera {
    let (global, statistic) = (&scene.model().vis().global, scene.model().stat());
    let [x, y, z] = statistic.center;
    Camera {
        name: String::new(),
        look_at: (x, y, z),
        distance: 1.5 * statistic.extent,
        azimuth: f64::from(global.azimuth),
        elevation: f64::from(global.elevation),
        width: 640,
        height: 480,
    }
}

/// Where a camera is and the point it looks at, m.
#[cfg(not(feature = "window"))]
fn eye_of(camera: &Camera) -> ((f64, f64, f64), (f64, f64, f64)) {
    // From straight above nothing would say which way is up.
    let elevation = camera.elevation.clamp(-89.99, 89.99).to_radians();
    let azimuth = camera.azimuth.to_radians();
    let (x, y, z) = camera.look_at;
    let level = camera.distance * elevation.cos();
    let eye = (
        x - level * azimuth.cos(),
        y - level * azimuth.sin(),
        z - camera.distance * elevation.sin(),
    );
    (eye, camera.look_at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn scene(name: &str) -> CompiledScene {
        CompiledScene::load(name, &[]).unwrap()
    }

    fn colours(picture: &Picture) -> usize {
        let mut colours: Vec<&[u8]> = picture.rgb.chunks_exact(3).collect();
        colours.sort_unstable();
        colours.dedup();
        colours.len()
    }

    #[test]
    fn agents_pictures_keep_their_pixels() {
        let scene = scene("maze_pixels");
        let picture = picture_of(&scene, Some("agent"), None, 1).unwrap();
        assert_eq!((picture.width, picture.height), (32, 32));
        let environment = Environment::new(&scene, 0, 0).unwrap();
        let planes = &environment.eyes.0.as_ref().unwrap().pixels;
        let newest = &planes[3 * 32 * 32..];
        let pixel = |row: usize, column: usize| [0, 1, 2].map(|channel| newest[channel * 1024 + 32 * row + column]);
        assert_eq!(picture.rgb[..3], pixel(0, 0));
        assert_eq!(picture.rgb[3 * (32 * 7 + 9)..][..3], pixel(7, 9));
        let twice = picture_of(&scene, Some("agent"), Some((64, 64)), 1).unwrap();
        assert_eq!(twice.rgb[3 * (64 * 15 + 19)..][..3], pixel(7, 9));
        assert!(colours(&picture) > 3);
    }

    #[test]
    fn unknown_cameras_are_named_with_those_there_are() {
        let error = picture_of(&scene("maze_pixels"), Some("overvew"), None, 1)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("did you mean \"overview\"") && error.contains("overview, agent"),
            "{error}"
        );
        let error = picture_of(&scene("maze"), Some("agent"), None, 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("there are: overview)"), "{error}");
    }

    #[cfg(not(feature = "window"))]
    #[test]
    fn simple_shapes_are_drawn_without_a_window_and_others_are_not() {
        let maze = picture_of(&scene("maze"), None, Some((96, 64)), 1).unwrap();
        assert_eq!((maze.width, maze.height, maze.rgb.len()), (96, 64, 96 * 64 * 3));
        // Walls and floor; the picture is not one grey.
        assert!(colours(&maze) > 4, "{}", colours(&maze));
        let error = picture_of(&scene("kitchen"), None, None, 1).unwrap_err().to_string();
        assert!(
            error.contains("built without its window") && error.contains("cargo build"),
            "{error}"
        );
    }

    #[cfg(not(feature = "window"))]
    #[test]
    fn cameras_are_where_mujoco_puts_them() {
        let camera = |azimuth, elevation| Camera {
            name: String::new(),
            look_at: (1.0, 2.0, 3.0),
            distance: 2.0,
            azimuth,
            elevation,
            width: 4,
            height: 4,
        };
        let ((x, y, z), target) = eye_of(&camera(90.0, -30.0));
        assert_eq!(target, (1.0, 2.0, 3.0));
        assert!((x - 1.0).abs() < 1e-9 && (y - (2.0 - 3.0_f64.sqrt())).abs() < 1e-9 && (z - 4.0).abs() < 1e-9);
    }
}
