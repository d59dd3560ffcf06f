//! A look at the heaps of an HDF5 file, and at what else misleads the library, before it reads them.
//!
//! Texts of variable length and the sources of virtual datasets are in global heaps, names of a group in a local one, so
//! opening a dataset is enough to get there. The library (2.2.0) trusts three things in them, and one elsewhere:
//!
//! - It follows the list of free places in a local heap to its end, and takes memory for each, also where the list leads
//!   back to itself (`H5HLcache.c`).
//! - It goes through the objects of a heap by their sizes, and never ends where free space has size 0 (`H5HGcache.c`).
//! - It reserves as many sources of a virtual dataset as the heap claims, some hundred bytes each, before it reads them;
//!   the product may also overflow, and then it writes behind what it has reserved (`H5Dvirtual.c`).
//! - It takes memory for as many bytes of driver information, which come before all else, as those claim (`H5Fsuper.c`).
//!
//! The look itself must end, too: sizes in the file bound nothing, and heaps of a hostile file may lie over one another, so
//! that each leads through the rest of the file. Heaps of a sound file do not, so all of them share one budget of steps.
//!
//! Format: HDF5 File Format Specification, II.A and II.B (superblock, driver information), III.D and III.E (heaps),
//! IV.A.2.i (layout messages).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};
use std::ops::Range;

/// What a global heap begins with: signature and version.
const GLOBAL: [u8; 5] = *b"GCOL\x01";

/// What a local heap begins with.
const LOCAL: [u8; 5] = *b"HEAP\0";

/// Where the list of free places in a local heap ends.
const END_OF_LIST: u64 = 1;

/// What layout messages of virtual datasets begin with: version and class.
const VIRTUAL: [[u8; 2]; 2] = [[4, 3], [5, 3]];

/// Bytes that are looked through at a time.
const STRIP: usize = 1 << 20;

/// A free place or an object takes 8 bytes and more, and is looked at twice at most.
const BYTES_OF_STEP: u64 = 4;

/// A source of a virtual dataset takes at least so many bytes: two selections of 12 and more.
const SMALLEST_SOURCE: u64 = 24;

/// Why the library must not read the file, if so.
///
/// # Errors
/// What the system answered.
pub(super) fn trap(file: &mut File, superblock: u64) -> Result<Option<String>> {
    let widths = Widths::of(file, superblock)?;
    let Found {
        end,
        heaps,
        local,
        sources,
    } = Found::in_file(file, superblock, widths)?;
    if let Some(problem) = long_driver(file, superblock..end, widths)? {
        return Ok(Some(problem));
    }
    let mut steps = Steps(end / BYTES_OF_STEP + 1024);
    for &heap in &local {
        if let Some(problem) = endless_list(file, heap, superblock..end, widths, &mut steps)? {
            return Ok(Some(problem));
        }
    }
    for &heap in &heaps {
        if let Some(problem) = walk(file, heap, widths, &mut steps, |_, _| Ok(None))? {
            return Ok(Some(problem));
        }
    }
    for (heap, objects) in sources.iter().filter(|(heap, _)| heaps.contains(heap)) {
        let problem = walk(file, *heap, widths, &mut steps, |file, object| {
            match objects.contains(&object.index) {
                true => too_many_sources(file, object, widths),
                false => Ok(None),
            }
        })?;
        if problem.is_some() {
            return Ok(problem);
        }
    }
    Ok(None)
}

/// Steps that may still be taken through the heaps of a file.
#[derive(Debug)]
struct Steps(u64);

impl Steps {
    /// Takes one; tells what is wrong with the file if there is none left.
    fn take(&mut self) -> Option<String> {
        match self.0.checked_sub(1) {
            Some(left) => self.0 = left,
            None => return Some("the file is damaged: its heaps lie over one another".to_owned()),
        }
        None
    }
}

/// Bytes of numbers in a file.
#[derive(Debug, Clone, Copy)]
struct Widths {
    address: usize,
    length: usize,
}

impl Widths {
    fn of(file: &mut File, superblock: u64) -> Result<Self> {
        let mut head = [0_u8; 16];
        file.seek(SeekFrom::Start(superblock))?;
        fill(file, &mut head)?;
        let [_, _, _, _, _, _, _, _, version, addresses, lengths, ..] = head;
        let [.., old_addresses, old_lengths, _] = head;
        let (address, length) = match version {
            0 | 1 => (old_addresses, old_lengths),
            _ => (addresses, lengths),
        };
        Ok(Self {
            address: address.into(),
            length: length.into(),
        })
    }
}

/// Places in a file.
#[derive(Debug, Default)]
struct Found {
    /// Where the file ends.
    end: u64,
    /// Where global heaps begin.
    heaps: BTreeSet<u64>,
    /// Where local heaps begin.
    local: BTreeSet<u64>,
    /// Of places where global heaps begin, the numbers of the objects that may be sources of virtual datasets.
    sources: BTreeMap<u64, BTreeSet<u64>>,
}

impl Found {
    fn in_file(file: &mut File, superblock: u64, widths: Widths) -> Result<Self> {
        let end = file.seek(SeekFrom::End(0))?;
        let message = VIRTUAL[0].len() + widths.address + 4;
        let longest = message.max(GLOBAL.len());
        let mut found = Self { end, ..Self::default() };
        let mut strip = vec![0; STRIP + longest];
        let (mut offset, mut kept) = (0_u64, 0_usize);
        loop {
            file.seek(SeekFrom::Start(offset + kept as u64))?;
            let read = fill(file, strip.get_mut(kept..).unwrap_or_default())?;
            let there = strip.get(..kept + read).unwrap_or_default();
            for (at, window) in there.windows(GLOBAL.len()).enumerate() {
                if *window == GLOBAL {
                    found.heaps.insert(offset + at as u64);
                } else if *window == LOCAL {
                    found.local.insert(offset + at as u64);
                } else if VIRTUAL.iter().any(|start| window.starts_with(start)) {
                    let message = there.get(at..at + message);
                    found.sources(file, message.unwrap_or_default(), superblock..end, widths)?;
                }
            }
            if read == 0 {
                return Ok(found);
            }
            // Something may lie across the border.
            let rest = there.len().min(longest - 1);
            let next = there.len() - rest;
            strip.copy_within(next..next + rest, 0);
            offset += next as u64;
            kept = rest;
        }
    }

    /// Takes the place that a layout message names, if a global heap begins there `within` the file: most of what looks
    /// like a message is not one.
    fn sources(&mut self, file: &mut File, message: &[u8], within: Range<u64>, widths: Widths) -> Result<()> {
        let Some((address, index)) = message.get(2..).and_then(|rest| rest.split_at_checked(widths.address)) else {
            return Ok(());
        };
        let heap = number(address).saturating_add(within.start);
        if index.is_empty() || !within.contains(&heap) {
            return Ok(());
        }
        if self.sources.contains_key(&heap) || begins_with(file, heap, GLOBAL)? {
            self.sources.entry(heap).or_default().insert(number(index));
        }
        Ok(())
    }
}

/// Whether driver information, of which files in one piece have none, claims more bytes than the file has.
fn long_driver(file: &mut File, within: Range<u64>, widths: Widths) -> Result<Option<String>> {
    let version = number_at(file, within.start.saturating_add(8), 1)?;
    // Later versions have it elsewhere, with two bytes for its size.
    let addresses = match version {
        Some(0) => 24,
        Some(1) => 28,
        _ => return Ok(None),
    };
    let field = within.start.saturating_add(addresses + 3 * widths.address as u64);
    let Some(address) = number_at(file, field, widths.address)? else {
        return Ok(None);
    };
    let block = within.start.saturating_add(address);
    // Where there is none, the address is beyond all files.
    let Some(size) = number_at(file, block.saturating_add(4), 4)? else {
        return Ok(None);
    };
    let end = block.saturating_add(16).saturating_add(size);
    Ok((end > within.end).then(|| {
        format!("the file is damaged: its driver information at byte {block} claims {size} bytes, more than there are")
    }))
}

/// Follows the list of free places in the local heap at `start`, each of which begins with the place of the next one and its
/// own size.
fn endless_list(
    file: &mut File,
    start: u64,
    within: Range<u64>,
    widths: Widths,
    steps: &mut Steps,
) -> Result<Option<String>> {
    let field = |number: u64| start.saturating_add(8 + number * widths.length as u64);
    let numbers = [
        number_at(file, field(0), widths.length)?,
        number_at(file, field(1), widths.length)?,
        number_at(file, field(2), widths.address)?,
    ];
    let [Some(size), Some(mut free), Some(data)] = numbers else {
        return Ok(None);
    };
    let data = data.saturating_add(within.start);
    // The file says how long the heap is, so that counts only as far as the file reaches.
    let most = size.min(within.end) / (2 * widths.length as u64).max(1);
    for _ in 0..=most {
        // An end, or what the library refuses.
        if free == END_OF_LIST || free == 0 || free >= size {
            return Ok(None);
        }
        if let Some(problem) = steps.take() {
            return Ok(Some(problem));
        }
        match number_at(file, data.saturating_add(free), widths.length)? {
            Some(next) => free = next,
            None => return Ok(None),
        }
    }
    Ok(Some(format!(
        "the file is damaged: the list of free places in the local heap at byte {start} leads back to itself"
    )))
}

/// An object in a heap.
#[derive(Debug, Clone, Copy)]
struct Object {
    index: u64,
    /// Where its bytes are.
    at: u64,
    length: u64,
}

/// Goes through the objects of the heap at `start` as the library does, until `look` finds something wrong.
fn walk(
    file: &mut File,
    start: u64,
    widths: Widths,
    steps: &mut Steps,
    mut look: impl FnMut(&mut File, Object) -> Result<Option<String>>,
) -> Result<Option<String>> {
    let aligned = |bytes: u64| bytes.checked_next_multiple_of(8).unwrap_or(0);
    let header = aligned(8 + widths.length as u64);
    let Some(size) = number_at(file, start.saturating_add(8), widths.length)? else {
        return Ok(None);
    };
    let end = start.saturating_add(size);
    let mut at = start.saturating_add(header);
    while at < end && at.saturating_add(header) <= end {
        if let Some(problem) = steps.take() {
            return Ok(Some(problem));
        }
        let Some(index) = number_at(file, at, 2)? else { break };
        let Some(length) = number_at(file, at.saturating_add(8), widths.length)? else {
            break;
        };
        let need = match index {
            0 => length,
            _ => header.saturating_add(aligned(length)),
        };
        if need == 0 {
            return Ok(Some(format!(
                "the file is damaged: the global heap at byte {start} has free space of size 0"
            )));
        }
        let object = Object {
            index,
            at: at.saturating_add(header),
            length,
        };
        if let Some(problem) = look(file, object)? {
            return Ok(Some(problem));
        }
        at = at.saturating_add(need);
    }
    Ok(None)
}

/// What is wrong with the sources of a virtual dataset: a version of one byte, their number, and they themselves.
fn too_many_sources(file: &mut File, object: Object, widths: Widths) -> Result<Option<String>> {
    let claimed = number_at(file, object.at.saturating_add(1), widths.length)?.unwrap_or(0);
    Ok((claimed > object.length / SMALLEST_SOURCE).then(|| {
        format!(
            "the file is damaged: a virtual dataset has {claimed} sources in {} bytes at byte {}",
            object.length, object.at
        )
    }))
}

/// The number of `width` bytes at a place; `None` behind the end of the file.
fn number_at(file: &mut File, at: u64, width: usize) -> Result<Option<u64>> {
    if i64::try_from(at).is_err() {
        return Ok(None);
    }
    let mut bytes = [0_u8; 8];
    let wanted = bytes.get_mut(..width.min(8)).unwrap_or_default();
    file.seek(SeekFrom::Start(at))?;
    let complete = fill(file, wanted)? == wanted.len();
    Ok(complete.then(|| number(&bytes)))
}

/// Whether these bytes are at a place.
fn begins_with<const N: usize>(file: &mut File, at: u64, wanted: [u8; N]) -> Result<bool> {
    let mut found = [0_u8; N];
    file.seek(SeekFrom::Start(at))?;
    Ok(fill(file, &mut found)? == N && found == wanted)
}

/// A number, its least byte first. Bytes beyond the eighth do not count, as for the library.
fn number(bytes: &[u8]) -> u64 {
    let mut first = [0_u8; 8];
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(first)
}

/// Reads until `bytes` is full or the file ends.
fn fill(file: &mut File, bytes: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}
