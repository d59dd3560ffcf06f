//! Attributes, and texts in them that claim to be longer than they are.

use hdf5::types::VarLenUnicode;

use super::super::file::Source;
use super::*;

/// Writes a file with texts as attributes, in the oldest form: without checksums.
fn write(path: &Path, texts: &[(&str, String)]) {
    let mut options = hdf5::File::with_options();
    let file = options
        .with_fapl(|access| access.libver_earliest())
        .create(path)
        .unwrap();
    for (name, text) in texts {
        let text: VarLenUnicode = text.parse().unwrap();
        let attribute = file.new_attr::<VarLenUnicode>().create(*name).unwrap();
        attribute.write_scalar(&text).unwrap();
    }
}

fn read(path: &Path) -> Result<std::collections::BTreeMap<String, String>, String> {
    let source = Source::open(path, Limits::default(), 0).unwrap();
    source.attributes().map_err(|error| error.to_string())
}

/// Gives the only text of a file, of `length` bytes, another length.
fn claim(path: &Path, length: u32, claimed: u32) {
    let mut bytes = std::fs::read(path).unwrap();
    let heap = bytes.windows(5).position(|bytes| bytes == b"GCOL\x01").unwrap() as u64;
    // Length, address of the heap, number of the object.
    let stored = [&length.to_le_bytes()[..], &heap.to_le_bytes(), &1_u32.to_le_bytes()].concat();
    let places = bytes.windows(stored.len()).enumerate();
    let places: Vec<usize> = places.filter(|(_, found)| *found == stored).map(|(at, _)| at).collect();
    let &[at] = &places[..] else { panic!("{places:?}") };
    bytes[at..at + 4].copy_from_slice(&claimed.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn texts_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("texts.hdf5");
    let long = "x".repeat(70_000);
    let texts = [("empty", String::new()), ("long", long), ("word", "Ümlaut".to_owned())];
    write(&path, &texts);
    let expected = texts.map(|(name, text)| (name.to_owned(), text));
    // Again, since the library remembers how it converted.
    for _ in 0..3 {
        assert_eq!(read(&path).unwrap(), expected.clone().into());
    }
}

#[test]
fn a_text_longer_than_its_file_is_refused_before_memory_is_reserved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.hdf5");
    for claimed in [1 << 20, 1 << 30, u32::MAX] {
        write(&path, &[("scene", "kitchen".to_owned())]);
        claim(&path, 7, claimed);
        let error = read(&path).unwrap_err();
        let expected = format!("found one of {claimed} bytes in `scene`");
        assert!(error.contains("long.hdf5") && error.contains(&expected), "{error}");
    }
    // The library finds the rest.
    write(&path, &[("scene", "kitchen".to_owned())]);
    claim(&path, 7, 6);
    let error = read(&path).unwrap_err();
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn more_text_than_anybody_reads_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("much.hdf5");
    let megabytes = |count: usize| "x".repeat(count << 20);
    write(
        &path,
        &[
            ("a", megabytes(9)),
            ("b", megabytes(9)),
            ("c", megabytes(7)),
            ("d", "end".to_owned()),
        ],
    );
    let found = read(&path).unwrap();
    let lengths: Vec<_> = found.iter().map(|(name, text)| (name.as_str(), text.len())).collect();
    assert_eq!(lengths, [("a", 9 << 20), ("c", 7 << 20)]);
}
