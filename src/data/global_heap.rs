//! A look at the global heaps of an HDF5 file before the library reads them.
//!
//! The library (2.2.0, `H5HGcache.c`) goes through the objects of a heap by their sizes and never ends where free space
//! has size 0. Texts of variable length and virtual datasets are in such heaps, so opening a dataset is enough to get
//! there. Format: HDF5 File Format Specification, III.E.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// What a heap begins with: signature and version.
const START: [u8; 5] = *b"GCOL\x01";

/// Bytes that are looked through at a time.
const STRIP: usize = 1 << 20;

/// Byte of the first heap that the library would never be done with.
///
/// # Errors
/// What the system answered.
pub(super) fn endless(file: &mut File, superblock: u64) -> std::io::Result<Option<u64>> {
    let width = length_width(file, superblock)?;
    let mut strip = vec![0; STRIP + START.len()];
    let (mut offset, mut kept) = (0_u64, 0_usize);
    loop {
        file.seek(SeekFrom::Start(offset + kept as u64))?;
        let found = fill(file, strip.get_mut(kept..).unwrap_or_default())?;
        let there = strip.get(..kept + found).unwrap_or_default();
        for at in starts(there) {
            let at = offset + at as u64;
            if is_endless(file, at, width)? {
                return Ok(Some(at));
            }
        }
        if found == 0 {
            return Ok(None);
        }
        // A signature may lie across the border.
        let rest = there.len().min(START.len() - 1);
        let next = there.len() - rest;
        strip.copy_within(next..next + rest, 0);
        offset += next as u64;
        kept = rest;
    }
}

/// Where heaps begin in these bytes.
fn starts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let windows = bytes.windows(START.len()).enumerate();
    windows.filter(|(_, window)| *window == START).map(|(at, _)| at)
}

/// Bytes of a length in this file.
fn length_width(file: &mut File, superblock: u64) -> std::io::Result<usize> {
    let mut head = [0_u8; 16];
    file.seek(SeekFrom::Start(superblock))?;
    fill(file, &mut head)?;
    let [_, _, _, _, _, _, _, _, version, _, lengths, _, _, _, old_lengths, _] = head;
    Ok(usize::from(if version < 2 { old_lengths } else { lengths }))
}

/// Goes through the objects of the heap at `start` as the library does.
fn is_endless(file: &mut File, start: u64, width: usize) -> std::io::Result<bool> {
    let aligned = |bytes: u64| bytes.checked_next_multiple_of(8).unwrap_or(0);
    let header = aligned(8 + width as u64);
    let Some(size) = length_at(file, start.saturating_add(8), width)? else {
        return Ok(false);
    };
    let end = start.saturating_add(size);
    let mut at = start.saturating_add(header);
    while at < end && at.saturating_add(header) <= end {
        let Some(index) = length_at(file, at, 2)? else { break };
        let Some(length) = length_at(file, at.saturating_add(8), width)? else {
            break;
        };
        let need = match index {
            0 => length,
            _ => header.saturating_add(aligned(length)),
        };
        if need == 0 {
            return Ok(true);
        }
        at = at.saturating_add(need);
    }
    Ok(false)
}

/// The number of `width` bytes, the least one first, at a place; `None` behind the end of the file. Bytes beyond the
/// eighth do not count, as for the library.
fn length_at(file: &mut File, at: u64, width: usize) -> std::io::Result<Option<u64>> {
    let mut bytes = [0_u8; 8];
    let wanted = bytes.get_mut(..width.min(8)).unwrap_or_default();
    file.seek(SeekFrom::Start(at))?;
    let complete = fill(file, wanted)? == wanted.len();
    Ok(complete.then(|| u64::from_le_bytes(bytes)))
}

/// Reads until `bytes` is full or the file ends.
fn fill(file: &mut File, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}
