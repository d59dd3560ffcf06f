#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::process::Command;

use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

use super::*;

/// A moving gradient with a bright square that moves the other way.
fn picture(index: usize, width: usize, height: usize) -> Vec<u8> {
    let mut rgba = Vec::with_capacity(width * height * 4);
    for y in 0..height {
        for x in 0..width {
            let square = (x + 3 * index) % width < width / 8 && (height / 3..height / 2).contains(&y);
            let [red, green, blue] = if square {
                [240, 220, 60]
            } else {
                [
                    (2 * x + 3 * index) / 4 % 256,
                    y * 255 / height,
                    (x + y) * 200 / (width + height),
                ]
            };
            rgba.extend([red as u8, green as u8, blue as u8, 255]);
        }
    }
    rgba
}

fn film(path: &Path, frames: usize, width: usize, height: usize) -> Result<Video, VideoError> {
    let mut writer = VideoWriter::create(path, width as u32, height as u32, 25.0)?;
    for index in 0..frames {
        writer.push(&picture(index, width, height))?;
    }
    assert_eq!(writer.frames(), frames as u64);
    writer.finish()
}

/// The content of the first box of this type, found by its name.
fn content<'a>(mp4: &'a [u8], name: &[u8; 4]) -> &'a [u8] {
    let at = mp4.windows(4).position(|four| four == name).unwrap();
    let size = u32::from_be_bytes(mp4[at - 4..at].try_into().unwrap()) as usize;
    &mp4[at + 4..at - 4 + size]
}

/// The stream of an mp4 file as the decoder wants it: units that begin with 0 0 0 1, parameters first.
fn stream(mp4: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut add = |unit: &[u8]| {
        stream.extend([0, 0, 0, 1]);
        stream.extend(unit);
    };
    // One sequence and one picture parameter set, each with its length in two bytes.
    let parameters = content(mp4, b"avcC");
    let length = |at: usize| usize::from(parameters[at]) << 8 | usize::from(parameters[at + 1]);
    let sequence = length(6);
    add(&parameters[8..8 + sequence]);
    let picture = 8 + sequence + 3;
    add(&parameters[picture..picture + length(picture - 2)]);
    let mut samples = content(mp4, b"mdat");
    while let Some((size, rest)) = samples.split_first_chunk::<4>() {
        let (unit, rest) = rest.split_at(u32::from_be_bytes(*size) as usize);
        add(unit);
        samples = rest;
    }
    stream
}

/// Decodes a video and compares it with its source: number of pictures and mean absolute error, 0 to 255.
fn compare(path: &Path, width: usize, height: usize) -> (usize, f64) {
    let stream = stream(&fs::read(path).unwrap());
    let mut decoder = Decoder::new().unwrap();
    let (mut frames, mut error) = (0, 0.0);
    let mut check = |decoded: &openh264::decoder::DecodedYUV| {
        let (even_width, even_height) = decoded.dimensions();
        assert_eq!((even_width, even_height), (width & !1, height & !1));
        let mut rgb = vec![0; even_width * even_height * 3];
        decoded.write_rgb8(&mut rgb);
        let source = picture(frames, width, height);
        let mut sum = 0.0;
        for y in 0..even_height {
            for x in 0..even_width {
                let (from, to) = (&source[(y * width + x) * 4..], &rgb[(y * even_width + x) * 3..]);
                sum += (0..3)
                    .map(|colour| f64::from(from[colour].abs_diff(to[colour])))
                    .sum::<f64>();
            }
        }
        error += sum / rgb.len() as f64;
        frames += 1;
    };
    for unit in openh264::nal_units(&stream) {
        if let Some(decoded) = decoder.decode(unit).unwrap() {
            check(&decoded);
        }
    }
    for decoded in decoder.flush_remaining().unwrap() {
        check(&decoded);
    }
    (frames, error / frames.max(1) as f64)
}

#[test]
fn what_goes_in_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    // Odd sizes lose a column and a row.
    for (width, height) in [(320, 240), (161, 121)] {
        let path = folder.path().join(format!("{width}.mp4"));
        let video = film(&path, 30, width, height).unwrap();
        assert_eq!((video.frames, video.bytes), (30, fs::metadata(&path).unwrap().len()));
        let (frames, error) = compare(&path, width, height);
        assert_eq!(frames, 30);
        // The edges of the square lose colour resolution, which alone makes about 1.
        assert!(error < 4.0, "mean absolute error {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn players_see_a_video() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    film(&path, 30, 320, 240).unwrap();
    let probe = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_frames",
            "-select_streams",
            "v:0",
            "-of",
            "csv=p=0",
            "-show_entries",
        ])
        .arg("stream=codec_name,width,height,pix_fmt,color_range,color_space,avg_frame_rate,duration,nb_read_frames")
        .arg(&path)
        .output();
    // Not everybody has it; the other tests read the file themselves.
    let Ok(probe) = probe else { return };
    assert!(probe.stderr.is_empty(), "{}", String::from_utf8_lossy(&probe.stderr));
    let seen = String::from_utf8(probe.stdout).unwrap();
    assert_eq!(seen.trim(), "h264,320,240,yuv420p,tv,smpte170m,25/1,1.200000,30");
}

#[test]
fn equal_pictures_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |name: &str| {
        let path = folder.path().join(name);
        film(&path, 10, 128, 96).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(bytes("a.mp4"), bytes("b.mp4"));
}

#[test]
fn an_unfinished_video_leaves_nothing_and_spares_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    fs::write(&path, "older").unwrap();
    let mut writer = VideoWriter::create(&path, 64, 64, 25.0).unwrap();
    writer.push(&picture(0, 64, 64)).unwrap();
    drop(writer);
    let empty = VideoWriter::create(&path, 64, 64, 25.0).unwrap().finish();
    assert!(matches!(empty, Err(VideoError::Empty(_))));
    assert_eq!(fs::read(&path).unwrap(), b"older");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    film(&path, 2, 64, 64).unwrap();
    assert_eq!(compare(&path, 64, 64).0, 2);
}

#[test]
fn errors_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str, width, height, rate| {
        let path = folder.path().join(name);
        let error = VideoWriter::create(&path, width, height, rate).err().unwrap();
        error.to_string().replace(&folder.path().display().to_string(), "F")
    };
    let format = "F/video.gif: videos are written as mp4; expected a name that ends in `.mp4`";
    assert_eq!(error("video.gif", 64, 64, 25.0), format);
    assert_eq!(
        error("video.mp4", 64, 9, 25.0),
        "pictures of 64 x 9 pixels cannot be encoded: expected 16 x 16 to 3840 x 2160, either way up"
    );
    assert!(error("video.mp4", 4000, 64, 25.0).contains("4000 x 64"));
    assert_eq!(
        error("video.mp4", 64, 64, f64::NAN),
        "NaN pictures a second: expected more than 0 and at most 240"
    );
    assert_eq!(
        error("missing/video.mp4", 64, 64, 25.0),
        "F/missing/video.mp4: there is no folder F/missing; create it first, or give another name"
    );
    fs::create_dir(folder.path().join("folder.mp4")).unwrap();
    assert_eq!(error("folder.mp4", 64, 64, 25.0), "F/folder.mp4: is a directory");
    let mut writer = VideoWriter::create(&folder.path().join("video.mp4"), 64, 64, 25.0).unwrap();
    let wrong = writer.push(&picture(0, 32, 64)).unwrap_err().to_string();
    assert_eq!(wrong, "a picture of 8192 bytes in a video whose pictures have 16384");
}
