//! `TensorBoard` event files.
//!
//! The format: `TFRecord` frames (little-endian length, its masked CRC-32C, payload, its masked CRC-32C;
//! `tensorflow/core/lib/io/record_writer.h`), each holding one `Event` message (`tensorflow/core/util/event.proto`,
//! `tensorflow/core/framework/summary.proto`). Only the fields that are written are declared here.

use std::path::{Path, PathBuf};

use prost::Message;

use super::{Appender, MetricsError, replace, warn_of_cut};

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Unix time in seconds.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    /// 1 is START: readers drop what they have at and after the step of this event.
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    // These two are one `oneof`; exactly one of them is set.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// 3 is RGB.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded: Vec<u8>,
}

/// One event file that is being written.
#[derive(Debug)]
pub(super) struct EventFile(Appender);

impl EventFile {
    /// A new file in `folder`, named so that readers take it after all others there.
    pub(super) fn create(folder: &Path, unix: f64) -> Result<Self, MetricsError> {
        let newest = existing(folder)?.iter().filter_map(|path| seconds(path)).max();
        let now = (unix.max(0.0) as u64).max(newest.map_or(0, |newest| newest + 1));
        let mut file = Self(Appender::open(folder.join(format!("{PREFIX}{now:010}.apprentice")))?);
        file.push(&Event {
            wall_time: unix,
            step: 0,
            file_version: Some("brain.Event:2".to_owned()),
            summary: None,
            session_log: None,
        });
        Ok(file)
    }

    /// Tells readers that everything from `step` on is going to be written anew.
    pub(super) fn session_start(&mut self, unix: f64, step: u64) {
        self.push(&Event {
            wall_time: unix,
            step: signed(step),
            file_version: None,
            summary: None,
            session_log: Some(SessionLog { status: 1 }),
        });
    }

    pub(super) fn scalars(&mut self, unix: f64, step: u64, values: &[(&str, f64)]) {
        let value = values
            .iter()
            .map(|&(tag, value)| SummaryValue {
                simple_value: Some(value as f32),
                ..named(tag)
            })
            .collect();
        self.summary(unix, step, value);
    }

    pub(super) fn image(&mut self, unix: f64, step: u64, tag: &str, width: u32, height: u32, encoded: Vec<u8>) {
        let side = |pixels: u32| i32::try_from(pixels).unwrap_or(i32::MAX);
        let image = Image {
            height: side(height),
            width: side(width),
            colorspace: 3,
            encoded,
        };
        self.summary(
            unix,
            step,
            vec![SummaryValue {
                image: Some(image),
                ..named(tag)
            }],
        );
    }

    fn summary(&mut self, unix: f64, step: u64, value: Vec<SummaryValue>) {
        self.push(&Event {
            wall_time: unix,
            step: signed(step),
            file_version: None,
            summary: Some(Summary { value }),
            session_log: None,
        });
    }

    fn push(&mut self, event: &Event) {
        let payload = event.encode_to_vec();
        let length = (payload.len() as u64).to_le_bytes();
        let frame = &mut self.0.waiting;
        frame.extend_from_slice(&length);
        frame.extend_from_slice(&masked_crc(&length).to_le_bytes());
        frame.extend_from_slice(&payload);
        frame.extend_from_slice(&masked_crc(&payload).to_le_bytes());
    }

    pub(super) fn waiting(&self) -> usize {
        self.0.waiting.len()
    }

    pub(super) fn flush(&mut self) -> Result<(), MetricsError> {
        self.0.flush()
    }

    pub(super) fn sync(&self) -> Result<(), MetricsError> {
        self.0.sync()
    }
}

const PREFIX: &str = "events.out.tfevents.";

fn named(tag: &str) -> SummaryValue {
    SummaryValue {
        tag: tag.to_owned(),
        ..SummaryValue::default()
    }
}

fn signed(step: u64) -> i64 {
    i64::try_from(step).unwrap_or(i64::MAX)
}

/// The checksum of `TFRecord`: CRC-32C rotated and shifted, so that a checksum of checksums stays useful.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The event files of a folder, oldest first.
pub(super) fn existing(folder: &Path) -> Result<Vec<PathBuf>, MetricsError> {
    let entries = std::fs::read_dir(folder).map_err(MetricsError::io("list", folder))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(PREFIX))
        })
        .collect();
    paths.sort();
    Ok(paths)
}

/// The time in the name of an event file.
fn seconds(path: &Path) -> Option<u64> {
    path.file_name()?
        .to_str()?
        .strip_prefix(PREFIX)?
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// Removes the events of later steps, and what follows the last whole record before the first damaged one.
pub(super) fn cut_after(path: &Path, step: u64) -> Result<(), MetricsError> {
    let bytes = std::fs::read(path).map_err(MetricsError::io("read", path))?;
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    let damage = loop {
        let Some((frame, payload, after)) = next_record(rest) else {
            break (!is_torn(rest)).then(|| "has a wrong checksum".to_owned());
        };
        match Event::decode(payload) {
            Ok(event) if event.step <= signed(step) => kept.extend_from_slice(frame),
            Ok(_) => {}
            Err(error) => break Some(format!("is no event ({error})")),
        }
        rest = after;
    };
    if let Some(damage) = damage {
        let what = format!("the record at byte {} {damage}", bytes.len() - rest.len());
        if rest.len() == bytes.len() {
            let path = path.to_path_buf();
            return Err(MetricsError::Damaged { path, what });
        }
        warn_of_cut(path, &what);
    }
    if kept.len() != bytes.len() {
        replace(path, &kept)?;
    }
    Ok(())
}

/// True for what a crash leaves behind the last whole record: nothing, half a record, or zeros where the file had grown
/// but the data had not arrived.
fn is_torn(rest: &[u8]) -> bool {
    let Some((length, after)) = rest.split_first_chunk::<8>() else {
        return true;
    };
    let Some((crc, payload)) = after.split_first_chunk::<4>() else {
        return true;
    };
    let sound = u32::from_le_bytes(*crc) == masked_crc(length);
    let half = (payload.len() as u64) < u64::from_le_bytes(*length).saturating_add(4);
    (sound && half) || rest.iter().all(|&byte| byte == 0)
}

/// The first record of `bytes` if it is whole and sound: the frame, its payload, and what comes after.
fn next_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (length_crc, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*length_crc) != masked_crc(length) {
        return None;
    }
    let count = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (payload, rest) = rest.split_at_checked(count)?;
    let (crc, after) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*crc) != masked_crc(payload) {
        return None;
    }
    let frame = bytes.get(..bytes.len() - after.len())?;
    Some((frame, payload, after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn checksums_are_those_of_tensorflow() {
        // The check value of CRC-32C, then masked as TensorFlow's `crc32c::Mask` does.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn any_bytes_are_cut_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.1.x");
        for (bytes, torn) in [
            (&[0xff; 40][..], false),
            (&[0; 40], true),
            (b"short", true),
            (b"", true),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(cut_after(&path, 3).is_ok(), torn);
            assert_eq!(std::fs::read(&path).unwrap().is_empty(), torn);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_changed_byte_is_noticed_or_cut(at in 0_usize..400, byte in 0_u8..=255) {
            let folder = tempfile::tempdir().unwrap();
            let mut file = EventFile::create(folder.path(), 1.0).unwrap();
            (0..8).for_each(|step| file.scalars(1.0, step, &[("a", 1.0)]));
            file.flush().unwrap();
            let path = existing(folder.path()).unwrap().remove(0);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            std::fs::write(&path, &bytes).unwrap();
            if cut_after(&path, u64::MAX).is_ok() {
                proptest::prop_assert!(bytes.starts_with(&std::fs::read(&path).unwrap()));
            }
        }
    }
}
