//! Videos: pictures go in one after another, an H.264 stream in an mp4 file comes out.
//!
//! A thread of its own encodes, so that whoever draws the pictures waits only when it is far ahead. The encoded stream is
//! kept in memory (about 20 MB a minute at 1280 x 720) and written when the video is finished, index first, so that it
//! can be played while it is being fetched. Until then nothing stands under the video's name.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver, Sender};
use muxide::api::{Muxer, MuxerBuilder, MuxerError, VideoCodec};
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, MatrixCoefficients, QpRange,
    RateControlMode, UsageType, VuiConfig,
};
use openh264::formats::{RgbaSliceU8, YUVBuffer};
use openh264::{OpenH264API, Timestamp};
use tempfile::NamedTempFile;

use crate::files::{put_in_place, temporary_beside};

/// Longest and shortest side that the encoder takes, pixels.
const LARGEST: (u32, u32) = (3840, 2160);
/// Smallest side that the encoder takes, pixels.
const SMALLEST: u32 = 16;
/// Pictures that may wait for the encoder.
const WAITING: usize = 4;
/// Bits for each pixel of a second at 25 pictures a second; 3 Mbit/s at 1280 x 720.
const BITS_PER_PIXEL: f64 = 0.13;
/// An encoded stream longer than this, in bytes, ends the video: it is in memory.
const LONGEST: u64 = 1 << 31;

/// Why a video could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// The name of the file says nothing that can be written.
    #[error("{}: videos are written as mp4; expected a name that ends in `.mp4`", .0.display())]
    Format(PathBuf),
    /// The folder of the file is not there.
    #[error("{}: there is no folder {}; create it first, or give another name", .path.display(), .folder.display())]
    NoFolder {
        /// The video.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// Pictures of this size cannot be encoded.
    #[error(
        "pictures of {width} x {height} pixels cannot be encoded: expected {SMALLEST} x {SMALLEST} to {} x {}, either \
         way up",
        LARGEST.0,
        LARGEST.1
    )]
    Size {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The number of pictures a second makes no sense.
    #[error("{0} pictures a second: expected more than 0 and at most 240")]
    Rate(f64),
    /// A picture has another size than the video.
    #[error("a picture of {found} bytes in a video whose pictures have {expected}")]
    Picture {
        /// Bytes of a picture of this video.
        expected: usize,
        /// Bytes of the picture.
        found: usize,
    },
    /// No picture was ever pushed.
    #[error("{}: no video, since there was no picture", .0.display())]
    Empty(PathBuf),
    /// The video has become too long to be kept in memory. What came before is a whole file.
    #[error("{}: the video ends here, it has become too long; begin another one", .0.display())]
    TooLong(PathBuf),
    /// The encoder failed.
    #[error("encoding a video: {0}")]
    Encoder(#[from] openh264::Error),
    /// The stream cannot be put into a file.
    #[error("{}: {error}", .path.display())]
    Container {
        /// The video.
        path: PathBuf,
        /// What is wrong with the stream.
        error: String,
    },
    /// The file cannot be written.
    #[error("{}: {error}", .path.display())]
    Write {
        /// The video.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// The encoder's thread is gone.
    #[error("the encoder's thread ended unexpectedly")]
    Thread,
}

/// A finished video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// Where it is.
    pub path: PathBuf,
    /// Number of pictures.
    pub frames: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// Makes one video. Without [`finish`](Self::finish) nothing is left of it.
pub struct VideoWriter {
    width: usize,
    height: usize,
    frames: u64,
    encoder: Option<(Sender<Order>, EncoderThread)>,
    /// Buffers come back from the encoder to be filled anew.
    spare: Receiver<Vec<u8>>,
}

type EncoderThread = JoinHandle<Result<Video, VideoError>>;

enum Order {
    /// Encode this picture.
    Frame(Vec<u8>),
    /// Write the file.
    Finish,
}

impl VideoWriter {
    /// Begins a video of pictures of `width` x `height` pixels. Odd sizes lose the last column or row: the encoder halves
    /// the resolution of colours.
    ///
    /// # Errors
    /// A name that does not end in `.mp4`, a size or rate that cannot be encoded, and a folder that cannot be written to.
    pub fn create(path: &Path, width: u32, height: u32, frames_per_second: f64) -> Result<Self, VideoError> {
        check_target(path)?;
        let (long, short) = (width.max(height), width.min(height));
        if long > LARGEST.0 || short > LARGEST.1 || short < SMALLEST {
            return Err(VideoError::Size { width, height });
        }
        if !(frames_per_second > 0.0 && frames_per_second <= 240.0) {
            return Err(VideoError::Rate(frames_per_second));
        }
        let unwritten = |error| VideoError::Write {
            path: path.to_path_buf(),
            error,
        };
        let even = (width & !1, height & !1);
        let file = temporary_beside(path).map_err(without_its_path).map_err(unwritten)?;
        let (orders, to_do) = channel::bounded(WAITING);
        let (used, spare) = channel::bounded(WAITING + 2);
        let encoding = Encoding::new(path, file, even, frames_per_second)?;
        let thread = std::thread::Builder::new()
            .name("video encoder".into())
            .spawn(move || encoding.run(&to_do, &used))
            .map_err(unwritten)?;
        Ok(Self {
            width: width as usize,
            height: height as usize,
            frames: 0,
            encoder: Some((orders, thread)),
            spare,
        })
    }

    /// Adds a picture: RGBA, 8 bits each, sRGB, row by row without gaps, the top row first. Waits only while the encoder is
    /// several pictures behind.
    ///
    /// # Errors
    /// A picture of another size, and whatever went wrong with the pictures before. After an error of the encoder the
    /// video is lost, but for [`VideoError::TooLong`].
    pub fn push(&mut self, rgba: &[u8]) -> Result<(), VideoError> {
        let expected = self.width * self.height * 4;
        if rgba.len() != expected {
            return Err(VideoError::Picture {
                expected,
                found: rgba.len(),
            });
        }
        let mut frame = self.spare.try_recv().unwrap_or_default();
        frame.clear();
        let even = self.width & !1;
        for row in rgba.chunks_exact(self.width * 4).take(self.height & !1) {
            frame.extend(row.iter().take(even * 4));
        }
        let (orders, _) = self.encoder.as_ref().ok_or(VideoError::Thread)?;
        if orders.send(Order::Frame(frame)).is_err() {
            return Err(self.end().err().unwrap_or(VideoError::Thread));
        }
        self.frames += 1;
        Ok(())
    }

    /// Pictures so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Encodes what still waits and writes the file in the place of an older one.
    ///
    /// # Errors
    /// Whatever went wrong with the pictures, or with the file, such as a full disk. An older file is untouched then.
    pub fn finish(mut self) -> Result<Video, VideoError> {
        if let Some((orders, _)) = &self.encoder {
            // If the thread has ended, it says why when it is joined.
            let _ = orders.send(Order::Finish);
        }
        self.end()
    }

    fn end(&mut self) -> Result<Video, VideoError> {
        let (orders, thread) = self.encoder.take().ok_or(VideoError::Thread)?;
        drop(orders);
        thread.join().unwrap_or(Err(VideoError::Thread))
    }
}

impl Drop for VideoWriter {
    fn drop(&mut self) {
        // Waits for the thread, so that its temporary file is gone when the process ends.
        let _ = self.end();
    }
}

/// Whether a video can have this name.
///
/// # Errors
/// [`VideoError::Format`] if not.
pub fn check_name(path: &Path) -> Result<(), VideoError> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    // A name that begins with a dot has no ending: `.mp4` hides a file without a name.
    match extension {
        Some(extension) if extension.eq_ignore_ascii_case("mp4") => Ok(()),
        _ => Err(VideoError::Format(path.to_path_buf())),
    }
}

/// Whether a video can be written to `path`, as far as its name and its folder tell.
///
/// # Errors
/// A name that does not end in `.mp4`, a folder of this name, or a folder that is not there.
pub fn check_target(path: &Path) -> Result<(), VideoError> {
    check_name(path)?;
    if path.is_dir() {
        return Err(VideoError::Write {
            path: path.to_path_buf(),
            error: io::ErrorKind::IsADirectory.into(),
        });
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(VideoError::NoFolder {
            path: path.to_path_buf(),
            folder: folder.to_path_buf(),
        }),
        _ => Ok(()),
    }
}

/// An error of a temporary file without the name of that file, which means nothing to the user.
fn without_its_path(error: io::Error) -> io::Error {
    let text = error.to_string();
    let (what, _) = text.split_once(" at path ").unwrap_or((&text, ""));
    io::Error::new(error.kind(), what)
}

/// The encoder's side of a [`VideoWriter`].
struct Encoding {
    path: PathBuf,
    file: NamedTempFile,
    muxer: Muxer<BufWriter<File>>,
    encoder: Encoder,
    colours: YUVBuffer,
    size: (usize, usize),
    frames_per_second: f64,
    stream: Vec<u8>,
    frames: u64,
    bytes: u64,
}

impl Encoding {
    fn new(path: &Path, file: NamedTempFile, size: (u32, u32), frames_per_second: f64) -> Result<Self, VideoError> {
        let written = file.as_file().try_clone().map_err(|error| VideoError::Write {
            path: path.to_path_buf(),
            error,
        })?;
        let muxer = MuxerBuilder::new(BufWriter::new(written))
            .video(VideoCodec::H264, size.0, size.1, frames_per_second)
            .build()
            .map_err(|error| container(path, error))?;
        let (width, height) = (size.0 as usize, size.1 as usize);
        Ok(Self {
            path: path.to_path_buf(),
            file,
            muxer,
            encoder: Encoder::with_api_config(OpenH264API::from_source(), settings(size, frames_per_second))?,
            colours: YUVBuffer::new(width, height),
            size: (width, height),
            frames_per_second,
            stream: Vec::new(),
            frames: 0,
            bytes: 0,
        })
    }

    fn run(mut self, to_do: &Receiver<Order>, used: &Sender<Vec<u8>>) -> Result<Video, VideoError> {
        loop {
            match to_do.recv() {
                Ok(Order::Frame(frame)) => {
                    self.encode(&frame)?;
                    // If nobody takes it, a new one is made.
                    let _ = used.try_send(frame);
                    if self.bytes > LONGEST {
                        let path = self.path.clone();
                        self.write()?;
                        return Err(VideoError::TooLong(path));
                    }
                }
                Ok(Order::Finish) if self.frames > 0 => return self.write(),
                // Given up: the temporary file goes with this value.
                Ok(Order::Finish) | Err(_) => return Err(VideoError::Empty(self.path)),
            }
        }
    }

    fn encode(&mut self, rgba: &[u8]) -> Result<(), VideoError> {
        self.colours.read_rgba8(RgbaSliceU8::new(rgba, self.size));
        let time = self.frames as f64 / self.frames_per_second;
        let encoded = (self.encoder).encode_at(&self.colours, Timestamp::from_millis((time * 1e3) as u64))?;
        self.stream.clear();
        encoded.write_vec(&mut self.stream);
        let key = matches!(encoded.frame_type(), FrameType::IDR);
        (self.muxer.write_video(time, &self.stream, key)).map_err(|error| container(&self.path, error))?;
        self.bytes += self.stream.len() as u64;
        self.frames += 1;
        Ok(())
    }

    fn write(mut self) -> Result<Video, VideoError> {
        let unwritten = |error| VideoError::Write {
            path: self.path.clone(),
            error,
        };
        (self.muxer.finish_in_place()).map_err(|error| container(&self.path, error))?;
        let buffer = self.muxer.into_writer();
        buffer.into_inner().map_err(|error| unwritten(error.into_error()))?;
        let file = put_in_place(self.file, &self.path).map_err(unwritten)?;
        Ok(Video {
            bytes: file.metadata().map_err(unwritten)?.len(),
            path: self.path,
            frames: self.frames,
        })
    }
}

fn container(path: &Path, error: MuxerError) -> VideoError {
    let path = path.to_path_buf();
    match error {
        MuxerError::Io(error) => VideoError::Write { path, error },
        error => VideoError::Container {
            path,
            error: error.to_string(),
        },
    }
}

/// What the encoder is asked for.
fn settings((width, height): (u32, u32), frames_per_second: f64) -> EncoderConfig {
    // Twice as many pictures a second differ less from each other and do not need twice the bits.
    let rate = 25.0 * (frames_per_second / 25.0).sqrt();
    let bits = BITS_PER_PIXEL * f64::from(width) * f64::from(height) * rate;
    EncoderConfig::new()
        .usage_type(UsageType::CameraVideoRealTime)
        // The other modes want to leave pictures out, and say so on standard error.
        .rate_control_mode(RateControlMode::Bufferbased)
        .bitrate(BitRate::from_bps(bits.max(200e3) as u32))
        // Thin lines and text suffer above, and below there is nothing left to see.
        .qp(QpRange::new(16, 32))
        .max_frame_rate(FrameRate::from_hz(frames_per_second as f32))
        // A point to jump to every few seconds.
        .intra_frame_period(IntraFramePeriod::from_num_frames(
            (4.0 * frames_per_second).ceil() as u32
        ))
        .complexity(Complexity::Medium)
        // Every picture counts, and the same pictures give the same bytes.
        .skip_frames(false)
        .num_threads(1)
        // openh264 turns RGB into the colours of BT.601, limited range, whatever the size of the picture. Players would
        // guess BT.709 for large ones.
        .vui(VuiConfig::bt709().matrix_coefficients(MatrixCoefficients::Smpte170M))
}

#[cfg(test)]
mod tests;
