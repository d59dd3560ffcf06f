//! Pictures and videos of the window.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bevy::ecs::system::SystemParam;
use bevy::prelude::*;
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured};

use crate::files::write_whole;
use crate::view::video::VideoWriter;
use crate::view::{ViewState, Watched};
use crate::watch::Notice;

/// The folder that pictures and videos go to, in the current one.
const FOLDER: &str = "pictures";
/// Frames a second of a video.
const FRAME_RATE: u32 = 25;

pub(super) fn add(app: &mut App) {
    app.init_resource::<Recording>()
        .add_systems(Update, film.in_set(super::ViewSystems::Receive))
        .add_systems(Last, finish_at_exit);
}

/// The video that is being recorded.
#[derive(Resource, Default)]
struct Recording(Option<Film>);

struct Film {
    path: PathBuf,
    /// Made with the first frame, whose size it has.
    writer: Option<(VideoWriter, UVec2)>,
    began: Instant,
    frames: u64,
    /// A frame is on its way.
    waiting: bool,
}

/// Takes pictures and begins and ends videos.
#[derive(SystemParam)]
pub(super) struct Capture<'w, 's> {
    commands: Commands<'w, 's>,
    recording: ResMut<'w, Recording>,
}

impl Capture<'_, '_> {
    /// Saves the next frame as a picture.
    pub(super) fn picture(&mut self, watched: &mut Watched) {
        match free_name("png") {
            Err(error) => watched.tell(Err(error)),
            Ok(path) => {
                let save = move |captured: On<ScreenshotCaptured>, mut watched: ResMut<Watched>| {
                    watched.tell(save_picture(&captured.image, &path));
                };
                self.commands.spawn(Screenshot::primary_window()).observe(save);
            }
        }
    }

    /// Begins a video, or ends the one that is being recorded.
    pub(super) fn record(&mut self, watched: &mut Watched, view: &mut ViewState) {
        if let Some(film) = self.recording.0.take() {
            view.recording = None;
            watched.tell(film.finish());
            return;
        }
        match free_name("mp4") {
            Err(error) => watched.tell(Err(error)),
            Ok(path) => {
                view.recording = Some((path.clone(), 0));
                self.recording.0 = Some(Film {
                    path,
                    writer: None,
                    began: Instant::now(),
                    frames: 0,
                    waiting: false,
                });
            }
        }
    }
}

/// The first name that is free in the folder of pictures.
fn free_name(extension: &str) -> Result<PathBuf, String> {
    let folder = Path::new(FOLDER);
    std::fs::create_dir_all(folder).map_err(|error| format!("cannot create {FOLDER}: {error}"))?;
    let names = (1..100_000).map(|number| folder.join(format!("apprentice_{number:04}.{extension}")));
    let mut free = names.filter(|name| !name.exists());
    free.next().ok_or_else(|| format!("{FOLDER} is full"))
}

/// Rows of red, green, blue and alpha.
fn pixels(image: &Image) -> Result<(Vec<u8>, UVec2), String> {
    let image = image.clone().try_into_dynamic().map_err(|error| error.to_string())?;
    let rgba = image.to_rgba8();
    let size = UVec2::new(rgba.width(), rgba.height());
    Ok((rgba.into_raw(), size))
}

fn save_picture(image: &Image, path: &Path) -> Notice {
    let failed = |error: &dyn std::fmt::Display| format!("cannot save {}: {error}", path.display());
    let (mut rgba, size) = pixels(image).map_err(|error| failed(&error))?;
    // What lies behind the window is not part of the picture.
    rgba.chunks_exact_mut(4).for_each(|pixel| pixel[3] = 255);
    let mut encoded = Vec::new();
    let mut encoder = png::Encoder::new(&mut encoded, size.x, size.y);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    (encoder.write_header())
        .and_then(|mut writer| writer.write_image_data(&rgba))
        .map_err(|error| failed(&error))?;
    write_whole(path, &encoded).map_err(|error| failed(&error))?;
    Ok(format!("picture saved to {}", path.display()))
}

impl Film {
    /// Adds the picture as often as the time since the last one asks for: a window that draws slowly makes no shorter
    /// video.
    fn add(&mut self, image: &Image) -> Result<(), String> {
        let (rgba, size) = pixels(image)?;
        if self.writer.is_none() {
            let writer = VideoWriter::create(&self.path, size.x, size.y, f64::from(FRAME_RATE));
            self.writer = Some((writer.map_err(|error| error.to_string())?, size));
        }
        let Some((writer, expected)) = &mut self.writer else {
            return Ok(());
        };
        if *expected != size {
            return Err("the window has changed its size".into());
        }
        let due = 1 + (self.began.elapsed().as_secs_f64() * f64::from(FRAME_RATE)) as u64;
        for _ in self.frames..due.max(self.frames + 1) {
            writer.push(&rgba).map_err(|error| error.to_string())?;
            self.frames += 1;
        }
        Ok(())
    }

    fn finish(self) -> Notice {
        let Some((writer, _)) = self.writer else {
            return Err("the video ended before its first frame".into());
        };
        writer.finish().map_err(|error| error.to_string())?;
        let seconds = self.frames as f64 / f64::from(FRAME_RATE);
        Ok(format!("video of {seconds:.1} s saved to {}", self.path.display()))
    }
}

/// Asks for the next frame of the video when it is due.
fn film(mut commands: Commands, mut recording: ResMut<Recording>) {
    let Some(film) = &mut recording.0 else { return };
    let next = Duration::from_secs_f64(film.frames as f64 / f64::from(FRAME_RATE));
    if film.waiting || film.began.elapsed() < next {
        return;
    }
    film.waiting = true;
    commands.spawn(Screenshot::primary_window()).observe(add_frame);
}

fn add_frame(
    captured: On<ScreenshotCaptured>,
    mut recording: ResMut<Recording>,
    mut watched: ResMut<Watched>,
    mut view: ResMut<ViewState>,
) {
    let Some(film) = &mut recording.0 else { return };
    film.waiting = false;
    match film.add(&captured.image) {
        Ok(()) => view.recording = Some((film.path.clone(), film.frames)),
        Err(error) => {
            watched.tell(Err(format!("the video ends: {error}")));
            view.recording = None;
            // What came before may still be a whole video; if not, the reason has been told.
            if let Some(film) = recording.0.take()
                && let Ok(saved) = film.finish()
            {
                watched.tell(Ok(saved));
            }
        }
    }
}

/// A video that is being recorded when the window is closed is finished first.
fn finish_at_exit(mut exits: MessageReader<AppExit>, mut recording: ResMut<Recording>) {
    if exits.read().next().is_some()
        && let Some(film) = recording.0.take()
        && let Err(error) = film.finish()
    {
        bevy::log::warn!("{error}");
    }
}
