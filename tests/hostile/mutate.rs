//! Files that are nearly right: small changes to sound ones.

use std::path::{Path, PathBuf};

use apprentice::rng::{Purpose, Stream, stream};
use rand::RngExt;

/// Bytes of a mutated file at most.
const LARGEST: usize = 1 << 20;

/// Pieces of RON, and values at the ends of ranges.
const PIECES: [&str; 56] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "..",
    "=",
    "Some(",
    "None",
    "true",
    "false",
    "()",
    "[]",
    "{}",
    "\"\"",
    "\"",
    "'",
    "\\",
    "//",
    "/*",
    "*/",
    "\n",
    "\t",
    "r#\"",
    "\"#",
    "#![enable(implicit_some)]",
    "extends: \"kitchen\",",
    "extends: \"maze\",",
    "0",
    "-0",
    "1",
    "-1",
    "1e9",
    "1e308",
    "-1e308",
    "1e-320",
    "inf",
    "-inf",
    "NaN",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "4294967296",
    "0x",
    "0.1.2",
    "1_000",
    "é",
    "\u{1F600}",
    "\u{feff}",
    "\u{202e}",
    "\0",
    "_",
    "r#x",
];

/// Bytes at the ends of ranges.
const ODD: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff, 0x08, 0x40];

/// Where structures of an HDF5 file begin.
const MARKS: [&[u8]; 12] = [
    b"\x89HDF", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"FHIB", b"BTHD", b"BTLF",
];

/// A supply of mutated files.
pub struct Mutations {
    seeds: Vec<Vec<u8>>,
    /// Words of all seeds.
    words: Vec<Vec<u8>>,
    random: Stream,
}

impl Mutations {
    /// Mutations of `seeds`, which depend on `seed` alone.
    pub fn of(seeds: Vec<Vec<u8>>, seed: u64) -> Self {
        let mut words: Vec<Vec<u8>> = Vec::new();
        for text in seeds.iter().filter(|seed| std::str::from_utf8(seed).is_ok()) {
            let parts = text.split(|byte| !byte.is_ascii_alphanumeric() && !b"_.-".contains(byte));
            words.extend(parts.filter(|word| !word.is_empty()).map(<[u8]>::to_vec));
        }
        words.sort();
        words.dedup();
        Self {
            seeds,
            words,
            random: stream(seed, Purpose::Batches, 0, 0),
        }
    }

    /// The files they start from.
    pub fn seeds(&self) -> &[Vec<u8>] {
        &self.seeds
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound.max(1) as u64) as usize
    }

    fn seed(&mut self) -> Vec<u8> {
        let at = self.below(self.seeds.len());
        self.seeds[at].clone()
    }

    /// The next text.
    pub fn text(&mut self) -> Vec<u8> {
        let mut text = self.seed();
        for _ in 0..1 + self.below(4) {
            let at = self.below(text.len() + 1);
            let end = (at + 1 + self.below(40)).min(text.len());
            match self.below(10) {
                0 => text.truncate(at),
                1 => drop(text.drain(at..end)),
                2 => {
                    let byte = ODD[self.below(ODD.len())];
                    if let Some(place) = text.get_mut(at) {
                        *place = byte;
                    }
                }
                3 | 4 => {
                    let piece = PIECES[self.below(PIECES.len())].as_bytes();
                    text.splice(at..at, piece.iter().copied());
                }
                5 | 6 => self.replace_word(&mut text, at),
                7 => {
                    let copy = text[at..end].to_vec();
                    let to = self.below(text.len() + 1);
                    text.splice(to..to, copy);
                }
                8 => {
                    let other = self.seed();
                    let from = self.below(other.len());
                    let length = self.below(400);
                    let part: Vec<u8> = other.iter().skip(from).take(length).copied().collect();
                    text.splice(at..end, part);
                }
                _ => {
                    let piece = PIECES[self.below(PIECES.len())].repeat(1 << self.below(12));
                    text.splice(at..at, piece.bytes());
                }
            }
        }
        text.truncate(LARGEST);
        text
    }

    /// Puts another word, or an odd value, in the place of the one at `at`.
    fn replace_word(&mut self, text: &mut Vec<u8>, at: usize) {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
        let start = text[..at]
            .iter()
            .rposition(|byte| !is_part(byte))
            .map_or(0, |before| before + 1);
        let length = text[start..].iter().take_while(|byte| is_part(byte)).count();
        let word = match self.below(2) {
            0 => PIECES[self.below(PIECES.len())].as_bytes().to_vec(),
            _ => {
                let number = self.below(self.words.len());
                self.words.get(number).cloned().unwrap_or_default()
            }
        };
        text.splice(start..start + length, word);
    }

    /// The next file of bytes.
    pub fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = self.seed();
        let marks: Vec<usize> = (0..bytes.len())
            .filter(|&at| MARKS.iter().any(|mark| bytes[at..].starts_with(mark)))
            .collect();
        for _ in 0..1 + self.below(6) {
            // Most of a file are numbers, which may be anything; what describes them lies behind the marks.
            let near = match self.below(4) {
                0 => self.below(bytes.len()),
                1 => self.below(1024),
                _ => match marks.get(self.below(marks.len())) {
                    Some(mark) => mark + self.below(200),
                    None => self.below(bytes.len()),
                },
            };
            let at = near.min(bytes.len().saturating_sub(1));
            match self.below(8) {
                0 => bytes.truncate(bytes.len() - self.below(bytes.len().min(2000))),
                1 | 2 => {
                    let length = 1 << self.below(4);
                    let byte = ODD[self.below(ODD.len())];
                    bytes.iter_mut().skip(at).take(length).for_each(|place| *place = byte);
                }
                3 => {
                    let from = self.below(bytes.len());
                    let length = self.below(64);
                    let part: Vec<u8> = bytes.iter().skip(from).take(length).copied().collect();
                    bytes
                        .iter_mut()
                        .skip(at)
                        .zip(part)
                        .for_each(|(place, byte)| *place = byte);
                }
                4 => {
                    let step = self.below(5) as u8;
                    if let Some(place) = bytes.get_mut(at) {
                        *place = place.wrapping_add(step).wrapping_sub(2);
                    }
                }
                _ => {
                    let byte = self.below(256) as u8;
                    if let Some(place) = bytes.get_mut(at) {
                        *place = byte;
                    }
                }
            }
        }
        bytes
    }
}

/// All files below a folder of the project with one of these endings, by name.
pub fn files_below(folder: &str, endings: &[&str]) -> Vec<Vec<u8>> {
    fn collect(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, endings, found);
            } else if path
                .extension()
                .is_some_and(|end| endings.iter().any(|ending| end == *ending))
            {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), endings, &mut found);
    found.sort();
    let bytes = |path: &PathBuf| std::fs::read(path).expect("a file of the project");
    found.iter().map(bytes).collect()
}
