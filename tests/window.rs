//! The window as a person uses it: on a display of its own, with keys and mouse, drawn by the processor.
//!
//! Needs `Xvfb`, `xdotool` and a Vulkan driver; without them the test says so and passes. `APPRENTICE_BLESS=1` rewrites the
//! reference pictures.
#![cfg(feature = "window")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use apprentice::view::offscreen::check_renderer;

/// More than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// An X server without a screen.
struct Display {
    server: Child,
    name: String,
}

impl Display {
    /// Starts one; `None`, with a printed line, where that cannot be.
    fn start() -> Option<Self> {
        if let Err(error) = check_renderer() {
            eprintln!("left out: {error}");
            return None;
        }
        let missing = ["Xvfb", "xdotool"].iter().find(|program| !is_there(program));
        if let Some(program) = missing {
            eprintln!("left out: {program} is not installed");
            return None;
        }
        // It finds a free number and says which, once it is ready.
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1440x900x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut number = String::new();
        BufReader::new(server.stdout.as_mut().unwrap())
            .read_line(&mut number)
            .unwrap();
        let name = format!(":{}", number.trim());
        Some(Self { server, name })
    }

    fn xdotool(&self, arguments: &str) -> Output {
        let mut command = Command::new("xdotool");
        command.args(arguments.split_whitespace()).env("DISPLAY", &self.name);
        command.output().unwrap()
    }

    fn press(&self, key: &str) {
        // Without a window manager nobody else gives the window the focus.
        self.xdotool("search --name Apprentice windowfocus --sync");
        assert!(self.xdotool(&format!("key --delay 50 {key}")).status.success());
        // Two presses in one frame are one for the window.
        thread::sleep(Duration::from_secs(2));
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The program, ended when it goes out of scope.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} never came");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Rows of red, green, blue.
struct Picture {
    width: usize,
    pixels: Vec<[f32; 3]>,
}

impl Picture {
    fn read(path: &Path) -> Self {
        let decoder = png::Decoder::new(BufReader::new(std::fs::File::open(path).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size()];
        let info = reader.next_frame(&mut bytes).unwrap();
        let each = info.color_type.samples();
        let pixels = bytes[..info.buffer_size()].chunks(each);
        Self {
            width: info.width as usize,
            pixels: pixels
                .map(|pixel| [0, 1, 2].map(|channel| f32::from(pixel[channel])))
                .collect(),
        }
    }

    fn height(&self) -> usize {
        self.pixels.len() / self.width
    }

    /// The mean of every square of `size` pixels.
    fn shrunk(&self, size: usize) -> Self {
        let (width, height) = (self.width / size, self.height() / size);
        let mean = |x: usize, y: usize| {
            let mut sum = [0.0; 3];
            for (row, column) in (0..size * size).map(|at| (y * size + at / size, x * size + at % size)) {
                let pixel = self.pixels[row * self.width + column];
                sum = [0, 1, 2].map(|channel| sum[channel] + pixel[channel]);
            }
            sum.map(|sum| sum / (size * size) as f32)
        };
        Self {
            width,
            pixels: (0..width * height).map(|at| mean(at % width, at / width)).collect(),
        }
    }

    fn write(&self, path: &Path) {
        let file = std::fs::File::create(path).unwrap();
        let mut encoder = png::Encoder::new(file, self.width as u32, self.height() as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let bytes: Vec<u8> = self.pixels.iter().flatten().map(|value| value.round() as u8).collect();
        encoder.write_header().unwrap().write_image_data(&bytes).unwrap();
    }

    /// Mean absolute difference of all values, of 255.
    fn difference(&self, other: &Self) -> f32 {
        assert_eq!((self.width, self.height()), (other.width, other.height()));
        let pairs = self.pixels.iter().flatten().zip(other.pixels.iter().flatten());
        pairs.map(|(a, b)| (a - b).abs()).sum::<f32>() / (3 * self.pixels.len()) as f32
    }
}

/// Takes pictures until one is like the reference, both shrunk so that drivers may differ in single pixels: on a busy
/// machine it takes a while until everything is there to be seen.
fn expect_like(picture: impl Fn() -> Picture, name: &str) -> Picture {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/window").join(name);
    if std::env::var_os("APPRENTICE_BLESS").is_some() {
        let picture = picture();
        picture.shrunk(4).write(&reference);
        return picture;
    }
    let expected = Picture::read(&reference);
    let begun = Instant::now();
    loop {
        let picture = picture();
        let difference = picture.shrunk(4).difference(&expected);
        if difference < 4.0 {
            return picture;
        }
        assert!(begun.elapsed() < PATIENCE, "{name}: differs by {difference} of 255");
    }
}

#[test]
fn practice_in_a_window_follows_keys_and_mouse() {
    let Some(display) = Display::start() else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let arguments = "watch kitchen/sac environments=2 training.steps=100_000 training.warmup=8 learner.batch=16 \
                     learner.critic.width=16 --paused --out run";
    let program = Command::new(env!("CARGO_BIN_EXE_apprentice"))
        .args(arguments.split_whitespace())
        .current_dir(folder.path())
        .env("DISPLAY", &display.name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut program = Program(program);
    wait_for("the window", || {
        let found = display.xdotool("search --onlyvisible --name Apprentice");
        (!found.stdout.is_empty()).then_some(())
    });
    thread::sleep(Duration::from_secs(10));

    let pictures = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder.path().join("pictures")).into_iter().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.extension().is_some_and(|extension| extension == "png"));
        found.sort();
        found
    };
    let picture = || {
        let before = pictures().len();
        // A key may get lost while a slow frame is drawn, as for anybody who types.
        let mut pressed = Instant::now() - PATIENCE;
        wait_for("a picture", || {
            if pictures().len() > before {
                return Some(Picture::read(pictures().last().unwrap()));
            }
            if pressed.elapsed() > Duration::from_secs(10) {
                display.press("p");
                pressed = Instant::now();
            }
            None
        })
    };
    let overview = expect_like(picture, "overview.png");
    assert_eq!((overview.width, overview.height()), (1440, 900));

    display.press("Tab");
    display.press("f");
    thread::sleep(Duration::from_secs(10));
    let followed = expect_like(picture, "follow.png");
    assert!(followed.shrunk(4).difference(&overview.shrunk(4)) > 8.0);

    // It waits: what is shown stays as it is, but for numbers such as frames a second.
    let waiting = picture();
    assert!(waiting.shrunk(4).difference(&followed.shrunk(4)) < 1.0);

    display.press("4");
    display.press("v");
    // It is written beside its place, from its first frame on. A second press in the same frame would be none.
    let begun = || std::fs::read_dir(folder.path().join("pictures")).unwrap().flatten();
    let is_picture = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".png");
    wait_for("the first frame of a video", || {
        begun().find(|entry| !is_picture(&entry.file_name())).map(drop)
    });
    thread::sleep(Duration::from_secs(2));
    display.press("v");
    let video = folder.path().join("pictures/apprentice_0001.mp4");
    wait_for("a video", || video.is_file().then_some(()));
    assert!(std::fs::metadata(&video).unwrap().len() > 10_000);

    // The right button turns the picture.
    display.press("space");
    let before = picture();
    display.xdotool("mousemove 700 350 mousedown 3");
    for step in 1..=8 {
        display.xdotool(&format!("mousemove {} 350", 700 + 25 * step));
        thread::sleep(Duration::from_millis(300));
    }
    display.xdotool("mouseup 3");
    thread::sleep(Duration::from_secs(5));
    assert!(picture().shrunk(4).difference(&before.shrunk(4)) > 4.0);

    // As Ctrl-C does; what was practised is kept.
    let id = program.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let status = wait_for("the end", || program.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    let checkpoints = std::fs::read_dir(folder.path().join("run/seed_0/checkpoints")).unwrap();
    assert!(checkpoints.count() > 0);
}
