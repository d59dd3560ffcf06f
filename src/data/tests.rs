#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use super::*;
use crate::rng::{self, Purpose};

mod attributes;
mod minari;
mod pictures;
mod rollouts;

const LENGTHS: [usize; 3] = [12, 7, 14];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(format!("{name}.hdf5"))
}

/// Writes everything that is in demonstrations in another layout.
fn convert(from: impl AsRef<Path>, to: impl AsRef<Path>, layout: Layout) -> Written {
    let options = ReadOptions {
        every_info: true,
        ..ReadOptions::default()
    };
    let dataset = Dataset::read_with(from, &options).unwrap();
    super::convert(&dataset, to, layout, |_| true).unwrap().unwrap()
}

fn message(path: impl AsRef<Path>) -> String {
    Dataset::read(path).expect_err("the file should be refused").to_string()
}

/// The content that `tests/data/make.py` puts into every file.
fn check_content(dataset: &Dataset) {
    let rows = LENGTHS.iter().sum::<usize>();
    assert_eq!(
        (dataset.len(), dataset.observation_dim(), dataset.action_dim()),
        (rows, 4, 2)
    );
    let lengths: Vec<usize> = dataset.sequences().iter().map(|rows| rows.len()).collect();
    assert_eq!(lengths, LENGTHS);
    for row in 0..rows {
        for column in 0..4 {
            assert_eq!(
                dataset.observations()[row * 4 + column],
                row as f32 + column as f32 / 8.0
            );
        }
        for column in 0..2 {
            assert_eq!(
                dataset.actions()[row * 2 + column],
                column as f32 / 8.0 - row as f32 / 64.0
            );
        }
        assert_eq!(dataset.rewards()[row], (row % 3) as f32);
    }
}

#[test]
fn reads_every_variant_of_the_layout() {
    for name in [
        "terminals_only",
        "timeouts_only",
        "f64_column_rewards",
        "float16_tail",
        "virtual_chunks",
    ] {
        println!("{name}");
        check_content(&Dataset::read(fixture(name)).unwrap());
    }
    let kitchen = Dataset::read(fixture("terminals_only")).unwrap();
    assert_eq!(kitchen.attributes()["elements"], "microwave, kettle");
    assert_eq!(kitchen.attributes()["seed"], "7");
    assert_eq!(kitchen.terminals().iter().filter(|flag| **flag).count(), 3);
    let timeouts = Dataset::read(fixture("timeouts_only")).unwrap();
    assert!(!timeouts.terminals().contains(&true));
    assert_eq!(timeouts.timeouts().iter().filter(|flag| **flag).count(), 3);
    assert_eq!(timeouts.unterminated(), 0);
    assert_eq!(Dataset::read(fixture("float16_tail")).unwrap().unterminated(), 14);
}

fn with_infos(names: &[&str]) -> ReadOptions {
    ReadOptions {
        infos: names.iter().map(|&name| name.to_owned()).collect(),
        ..ReadOptions::default()
    }
}

#[test]
fn reads_side_arrays_on_request() {
    let read = |infos: &[&str]| Dataset::read_with(fixture("timeouts_only"), &with_infos(infos)).unwrap();
    assert!(read(&[]).infos().is_empty());
    // What nobody asked for is not even looked at.
    let dataset = read(&["count", "nothing"]);
    assert!(dataset.infos().keys().eq(["count"]) && dataset.notes().is_empty());
    let dataset = read(&["count", "qpos", "qvel", "text", "short"]);
    let names: Vec<&str> = dataset.infos().keys().map(String::as_str).collect();
    assert_eq!(names, ["count", "qpos", "qvel"]);
    let episode = dataset.episode(1).unwrap();
    assert_eq!(episode.len(), 7);
    assert_eq!(episode.infos["count"], Column::i64(1, (12..19).collect()));
    assert!(matches!(&episode.infos["qpos"].values, Values::F64(values) if values[..2] == [12.0, 12.125]));
    assert_eq!(dataset.notes().len(), 2, "{:?}", dataset.notes());
}

#[test]
fn demonstration_numbers_cut_where_no_flag_does() {
    let episodes = [episode(5, 3, 2, 0), episode(6, 3, 2, 1)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("numbers.hdf5");
    write(&path, &episodes, 3, 2);
    {
        let file = hdf5::File::open_rw(&path).unwrap();
        file.unlink("terminals").unwrap();
        file.unlink("timeouts").unwrap();
    }
    let dataset = Dataset::read(&path).unwrap();
    assert_eq!(dataset.sequences(), [0..5, 5..11]);
    assert_eq!(dataset.notes().len(), 1);
    let rule = CutRule {
        index: false,
        ..CutRule::default()
    };
    assert_eq!(dataset.cut(&rule), vec![0..11]);
}

/// A file without flags whose demonstrations have these numbers, as `infos/sequence` or as `infos`.
fn with_numbers(path: &Path, named: bool, numbers: &[f64]) {
    write(path, &[episode(numbers.len(), 3, 2, 0)], 3, 2);
    let file = hdf5::File::open_rw(path).unwrap();
    for name in ["terminals", "timeouts", "infos"] {
        file.unlink(name).unwrap();
    }
    let name = if named { "infos/sequence" } else { "infos" };
    let dataset = file.new_dataset::<f64>().shape(numbers.len()).create(name).unwrap();
    dataset.write_raw(numbers).unwrap();
}

#[test]
fn falling_demonstration_numbers_cut_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("numbers.hdf5");
    with_numbers(&path, true, &[3.0, 3.0, 1.0, 1.0, 2.0]);
    let dataset = Dataset::read(&path).unwrap();
    assert_eq!(dataset.sequences(), [0..2, 2..4, 4..5]);
    with_numbers(&path, true, &[3.0, 3.5]);
    let found = message(&path);
    assert!(
        found.contains("`infos/sequence`: expected whole numbers, found 3.5 at row 1"),
        "{found}"
    );

    with_numbers(&path, false, &[0.0, 0.0, 1.0]);
    assert_eq!(Dataset::read(&path).unwrap().sequences(), [0..2, 2..3]);
    // Without its name, an array that does not look like numbers of demonstrations is something else.
    for (numbers, problem) in [([3.0, 3.0, 1.0], "`infos` falls"), ([0.5, 1.0, 2.0], "0.5 at row 0")] {
        with_numbers(&path, false, &numbers);
        let found = message(&path);
        assert!(found.contains("`terminals`") && found.contains(problem), "{found}");
        {
            let file = hdf5::File::open_rw(&path).unwrap();
            let ends = file.new_dataset::<u8>().shape(3).create("terminals").unwrap();
            ends.write_raw(&[0_u8, 0, 1]).unwrap();
        }
        let dataset = Dataset::read(&path).unwrap();
        assert_eq!(dataset.sequences(), std::slice::from_ref(&(0..3)));
        assert!(
            dataset.notes().iter().any(|note| note.contains(problem)),
            "{:?}",
            dataset.notes()
        );
    }
}

#[test]
fn refuses_bad_files_with_one_clear_message() {
    for (name, parts) in [
        ("bad_nan", vec!["`observations`", "2 values", "NaN at row 9, column 2"]),
        ("bad_rows", vec!["`actions`", "33 rows", "32 rows"]),
        (
            "bad_rank",
            vec!["`observations`", "shape [steps, observation size]", "[33, 2, 2]"],
        ),
        ("bad_rewards", vec!["`rewards`", "[33] or [33, 1]", "[33, 2]"]),
        ("bad_missing", vec!["`observations`", "nearest name is `observation`"]),
        ("bad_no_ends", vec!["`terminals`", "nearest name is `terminal`"]),
        ("bad_text", vec!["`actions`", "numbers", "string"]),
        (
            "bad_claim_chunked",
            vec!["`observations`", "1099511627776 x 4 values", "0 bytes stored"],
        ),
        (
            "bad_claim_contiguous",
            vec!["`observations`", "1099511627776 x 4 values", "0 bytes stored"],
        ),
        (
            "bad_claim_overflow",
            vec!["`observations`", "4611686018427387904 x 16 values"],
        ),
        (
            "bad_chunk",
            vec!["`observations`", "chunks of at most 1024 MiB", "[134217728, 4]"],
        ),
        ("bad_external_link", vec!["`observations`", "link to another file"]),
        ("bad_external_soft_link", vec!["`observations`", "another file"]),
        (
            "bad_external_storage",
            vec!["`observations`", "stored in `outside.bin`"],
        ),
        (
            "bad_virtual_dataset",
            vec!["`observations`", "virtual dataset", "h5repack"],
        ),
        ("bad_lzf", vec!["`observations`", "filter", "h5repack"]),
        ("bad_empty", vec!["`observations`", "at least one row"]),
        ("bad_minari", vec!["`episode_0/actions`", "`observations`"]),
    ] {
        let found = message(fixture(name));
        println!("{found}");
        for part in parts.into_iter().chain([name, "expected", "found"]) {
            assert!(found.contains(part), "{name}: {part:?} is missing in: {found}");
        }
        assert!(!found.contains('\n') && found.len() < 400, "{found}");
    }
}

#[test]
fn refuses_what_is_not_hdf5() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.hdf5");
    assert!(message(&path).contains("no such file"));
    assert!(message(folder.path()).contains("folder"));
    std::fs::write(&path, "").unwrap();
    assert!(message(&path).contains("empty"));
    std::fs::write(&path, vec![b'x'; 5000]).unwrap();
    assert!(message(&path).contains("not an HDF5 file"));
    let whole = std::fs::read(fixture("terminals_only")).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let found = message(&path);
    println!("{found}");
    assert!(
        found.contains("truncated") && found.contains(&format!("{} bytes expected", whole.len())),
        "{found}"
    );
    for length in (1..whole.len()).step_by(997) {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(!message(&path).contains('\n'));
    }
}

#[test]
fn damaged_gzip_data_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.hdf5");
    let mut whole = std::fs::read(fixture("terminals_only")).unwrap();
    let streams: Vec<usize> = (0..whole.len() - 2)
        .filter(|&at| whole[at..at + 2] == [0x78, 0x5e])
        .collect();
    assert!(!streams.is_empty());
    for at in streams {
        whole[at + 2..at + 12].fill(0xff);
    }
    std::fs::write(&path, whole).unwrap();
    let found = message(&path);
    println!("{found}");
    assert!(found.contains("`observations`") && found.contains("damaged"), "{found}");
}

/// The library would go through such a heap for ever.
#[test]
fn heaps_without_an_end_are_found_before_the_library_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heap.hdf5");
    let mut whole = std::fs::read(fixture("bad_virtual_dataset")).unwrap();
    let heap = whole.windows(5).position(|bytes| bytes == b"GCOL\x01").unwrap();
    // The first object becomes free space of size 0.
    whole[heap + 16..heap + 32].fill(0);
    std::fs::write(&path, whole).unwrap();
    let found = message(&path);
    assert!(found.contains(&format!("global heap at byte {heap}")), "{found}");
}

/// The library would follow such a list for ever, and take memory all the while.
#[test]
fn lists_of_free_places_that_lead_back_are_found_before_the_library_follows_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("local_heap.hdf5");
    let mut whole = std::fs::read(fixture("terminals_only")).unwrap();
    assert!(Dataset::read(fixture("terminals_only")).is_ok());
    let heap = whole.windows(5).position(|bytes| bytes == b"HEAP\0").unwrap();
    let number = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().unwrap());
    let data = number(heap + 24) as usize;
    let size = number(heap + 8);
    assert!(size >= 32);
    // Two free places, each of which names the other.
    whole[heap + 16..heap + 24].copy_from_slice(&8_u64.to_le_bytes());
    for (at, next) in [(8, 24_u64), (24, 8)] {
        whole[data + at..data + at + 8].copy_from_slice(&next.to_le_bytes());
        whole[data + at + 8..data + at + 16].copy_from_slice(&8_u64.to_le_bytes());
    }
    // What the heap says of its own size bounds nothing.
    for size in [size, 1 << 62] {
        let mut bytes = whole.clone();
        bytes[heap + 8..heap + 16].copy_from_slice(&size.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let found = message(&path);
        assert!(
            found.contains(&format!("local heap at byte {heap} leads back")),
            "{size}: {found}"
        );
    }
}

/// The library would take four gigabytes for it.
#[test]
fn driver_information_that_is_longer_than_its_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("driver.hdf5");
    let mut whole = std::fs::read(fixture("terminals_only")).unwrap();
    assert_eq!(
        (whole[8], whole[13]),
        (0, 8),
        "superblock 0 with addresses of eight bytes"
    );
    // It begins in the middle of the address of nothing: size 0xffffffff.
    whole[48..56].copy_from_slice(&29_u64.to_le_bytes());
    std::fs::write(&path, whole).unwrap();
    let found = message(&path);
    assert!(
        found.contains("driver information at byte 29 claims 4294967295 bytes"),
        "{found}"
    );
}

/// Four thousand heaps that all lead through the same eight thousand things.
#[test]
fn heaps_that_lie_over_one_another_are_refused_at_once() {
    const HEAPS: u64 = 4096;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heaps.hdf5");
    let whole = std::fs::read(fixture("terminals_only")).unwrap();
    let begin = whole.len() as u64;
    let common = begin + HEAPS * 32;
    let global = (0..HEAPS).map(|heap| {
        let rest = common - (begin + heap * 32 + 32);
        // A heap to the end of the file with one object up to what is common to all.
        [u64::from_le_bytes(*b"GCOL\x01\0\0\0"), 1 << 20, 1, rest]
    });
    let objects = (0..8192).map(|_| [1_u64, 0]);
    let local = (0..HEAPS).map(|_| [u64::from_le_bytes(*b"HEAP\0\0\0\0"), 1 << 20, 16, common]);
    let places = (0..8192).map(|place| [16 * place + 16, 16]);
    let global: Vec<u64> = global.flatten().chain(objects.flatten()).collect();
    let local: Vec<u64> = local.flatten().chain(places.flatten()).collect();
    for heaps in [global, local] {
        let more = heaps.iter().flat_map(|number| number.to_le_bytes());
        std::fs::write(&path, whole.iter().copied().chain(more).collect::<Vec<u8>>()).unwrap();
        let begun = std::time::Instant::now();
        let found = message(&path);
        assert!(found.contains("its heaps lie over one another"), "{found}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }
}

#[test]
fn virtual_datasets_that_claim_many_sources_are_refused_before_memory_is_reserved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sources.hdf5");
    let whole = std::fs::read(fixture("bad_virtual_dataset")).unwrap();
    let heap = whole.windows(5).position(|bytes| bytes == b"GCOL\x01").unwrap();
    // Behind the headers of the heap and of its first object, and the version; the last product overflows.
    let number = heap + 16 + 16 + 1;
    assert_eq!(whole[number..number + 8], 1_u64.to_le_bytes());
    for claimed in [5, 1 << 24, u64::MAX / 256] {
        let mut bytes = whole.clone();
        bytes[number..number + 8].copy_from_slice(&claimed.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let found = message(&path);
        assert!(
            found.contains(&format!("a virtual dataset has {claimed} sources")),
            "{found}"
        );
    }
}

/// The C library meets hostile bytes here; whatever they make of the file, reading ends with a value or an error.
#[test]
fn flipped_bytes_never_crash_the_reader() {
    use rand::RngExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flipped.hdf5");
    let limits = Limits {
        memory: 1 << 28,
        chunk: 1 << 26,
    };
    let options = ReadOptions {
        limits,
        ..with_infos(&["count", "qpos", "qvel", "text", "short"])
    };
    let mut stream = rng::stream(11, Purpose::Batches, 0, 0);
    let mut refused = 0;
    for name in ["terminals_only", "timeouts_only", "virtual_chunks"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..stream.random_range(1..4) {
                let at = stream.random_range(0..bytes.len() as u64) as usize;
                bytes[at] = stream.random_range(0..=255) as u8;
            }
            std::fs::write(&path, bytes).unwrap();
            refused += usize::from(Dataset::read_with(&path, &options).is_err());
        }
    }
    println!("{refused} of 900 refused");
    assert!(refused > 0);
}

#[test]
fn memory_limit_holds_over_all_arrays() {
    let limits = Limits {
        memory: 33 * 4 * 4 + 33 * 2 * 4,
        ..Limits::default()
    };
    let options = ReadOptions {
        limits,
        ..ReadOptions::default()
    };
    let found = Dataset::read_with(fixture("terminals_only"), &options)
        .unwrap_err()
        .to_string();
    assert!(
        found.contains("`rewards`") && found.contains("at most 0 MiB in all"),
        "{found}"
    );
}

/// An episode with recognisable finite content.
fn episode(steps: usize, observation_dim: usize, action_dim: usize, number: usize) -> Episode {
    let values = |count: usize, offset: f32| {
        (0..count)
            .map(|at| offset + (at % 97) as f32 / 7.0)
            .collect::<Vec<f32>>()
    };
    let mut ends = vec![false; steps];
    ends[steps - 1] = true;
    let [terminals, timeouts] = if number.is_multiple_of(2) {
        [ends, vec![false; steps]]
    } else {
        [vec![false; steps], ends]
    };
    Episode {
        observations: values(steps * observation_dim, number as f32),
        final_observation: None,
        actions: values(steps * action_dim, -(number as f32)),
        rewards: values(steps, 0.0),
        terminals,
        timeouts,
        infos: [
            (
                "qpos".to_owned(),
                Column::f64(5, (0..steps * 5).map(|at| at as f64 * 0.1).collect()),
            ),
            (
                "contacts".to_owned(),
                Column::u8(1, (0..steps).map(|at| at as u8).collect()),
            ),
            ("speed".to_owned(), Column::f32(1, values(steps, 0.5))),
            (
                "ticks".to_owned(),
                Column::i64(2, (0..steps as i64 * 2).map(|at| at << 40).collect()),
            ),
        ]
        .into(),
        images: None,
    }
}

fn write(path: &Path, episodes: &[Episode], observation_dim: usize, action_dim: usize) -> Written {
    let description = Description {
        scene: "kitchen".to_owned(),
        seed: 3,
        elements: vec!["microwave".to_owned(), "kettle".to_owned()],
        demonstrator: "(\n    speed: 1.0,\n)".to_owned(),
        more: [("note".to_owned(), "a\0b ü".to_owned())].into(),
    };
    let mut writer = EpisodeWriter::create(path, observation_dim, action_dim, &description).unwrap();
    for episode in episodes {
        writer.append(episode).unwrap();
    }
    writer.finish().unwrap()
}

fn read_back(path: &Path) -> Vec<Episode> {
    let options = with_infos(&["qpos", "contacts", "speed", "ticks", "sequence"]);
    let dataset = Dataset::read_with(path, &options).unwrap();
    (0..dataset.sequences().len())
        .map(|number| {
            let mut episode = dataset.episode(number).unwrap();
            let sequence = episode.infos.remove("sequence").unwrap();
            assert_eq!(sequence, Column::i64(1, vec![number as i64; episode.len()]));
            episode
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_written_is_read_back(
        lengths in prop::collection::vec(1_usize..60, 1..6),
        observation_dim in 1_usize..70,
        action_dim in 1_usize..12,
        noise in prop::collection::vec(-1e30_f32..1e30, 1..50),
    ) {
        let episodes: Vec<Episode> = lengths
            .iter()
            .enumerate()
            .map(|(number, &steps)| {
                let mut episode = episode(steps, observation_dim, action_dim, number);
                for (value, noise) in episode.observations.iter_mut().zip(&noise) {
                    *value = *noise;
                }
                episode
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new folder").join("episodes.hdf5");
        let written = write(&path, &episodes, observation_dim, action_dim);
        prop_assert_eq!(written.episodes, episodes.len());
        prop_assert_eq!(written.steps, lengths.iter().sum::<usize>());
        prop_assert_eq!(written.bytes, std::fs::metadata(&path).unwrap().len());
        prop_assert_eq!(&read_back(&path), &episodes);
        let joined = Dataset::from_episodes(observation_dim, action_dim, &episodes).unwrap();
        prop_assert_eq!(joined.episode(0), episodes.first().cloned());
    }

    #[test]
    fn partitions_are_disjoint_and_in_range(sequences in 1_usize..500, train in 0.0_f64..1.0, seed: u64) {
        for order in [SplitOrder::File, SplitOrder::Shuffled { seed }] {
            let split = Split { train, validation: 1.0 - train, order };
            let Partition { train, validation } = split.apply(sequences).unwrap();
            let mut all: Vec<usize> = train.iter().chain(&validation).copied().collect();
            prop_assert!(!train.is_empty());
            all.sort_unstable();
            prop_assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(all.iter().all(|&number| number < sequences));
            prop_assert_eq!(split.apply(sequences).unwrap(), Partition { train, validation });
        }
    }
}

#[test]
fn many_rows_cross_chunk_borders() {
    let episodes: Vec<Episode> = (0..40).map(|number| episode(277, 60, 9, number)).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.hdf5");
    write(&path, &episodes, 60, 9);
    assert_eq!(read_back(&path), episodes);
}

#[test]
fn an_unfinished_or_failed_file_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demos.hdf5");
    std::fs::write(&path, "old").unwrap();
    let description = Description::default();
    let mut writer = EpisodeWriter::create(&path, 3, 2, &description).unwrap();
    writer.append(&episode(9, 3, 2, 0)).unwrap();
    drop(writer);
    let writer = EpisodeWriter::create(&path, 3, 2, &description).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("no episode"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "a temporary file is left"
    );
    let mut writer = EpisodeWriter::create(&path, 3, 2, &description).unwrap();
    writer.append(&episode(9, 3, 2, 0)).unwrap();
    writer.finish().unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(Dataset::read(&path).unwrap().len(), 9);
    let nowhere = EpisodeWriter::create(path.join("below a file.hdf5"), 3, 2, &description);
    assert!(nowhere.unwrap_err().to_string().contains("cannot be written"));
}

#[test]
fn malformed_episodes_are_refused_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demos.hdf5");
    let mut writer = EpisodeWriter::create(&path, 3, 2, &Description::default()).unwrap();
    let good = episode(8, 3, 2, 0);
    writer.append(&good).unwrap();
    let changed = |change: &dyn Fn(&mut Episode)| {
        let mut episode = good.clone();
        change(&mut episode);
        episode
    };
    for (bad, part) in [
        (changed(&|e| *e = Episode::default()), "no steps"),
        (
            changed(&|e| e.observations.truncate(3)),
            "`observations` should hold 24 values",
        ),
        (changed(&|e| e.actions[5] = f32::NAN), "NaN at row 2, column 1"),
        (changed(&|e| e.rewards[7] = f32::INFINITY), "inf at row 7"),
        (changed(&|e| e.terminals[7] = false), "no step is marked"),
        (changed(&|e| e.timeouts[2] = true), "step 2 of 8 is marked"),
        (changed(&|e| e.timeouts.push(true)), "`timeouts` should hold 8"),
        (changed(&|e| drop(e.infos.remove("qpos"))), "`infos/qpos` is missing"),
        (
            changed(&|e| drop(e.infos.insert("new".into(), Column::u8(1, vec![0; 8])))),
            "`infos/new` was not",
        ),
        (
            changed(&|e| drop(e.infos.insert("qpos".into(), Column::f32(5, vec![0.0; 40])))),
            "another width or type",
        ),
        (
            changed(&|e| drop(e.infos.insert("qpos".into(), Column::f64(5, vec![0.0; 41])))),
            "should hold 40 values",
        ),
        (
            changed(&|e| drop(e.infos.insert("sequence".into(), Column::u8(1, vec![0; 8])))),
            "reserved",
        ),
        (
            changed(&|e| drop(e.infos.insert("a/b".into(), Column::u8(1, vec![0; 8])))),
            "cannot be the name",
        ),
    ] {
        let found = writer.append(&bad).unwrap_err().to_string();
        assert!(found.contains(part), "{part:?} is missing in: {found}");
    }
    writer.append(&good).unwrap();
    writer.finish().unwrap();
    assert_eq!(read_back(&path), [good.clone(), good]);
}

/// Writes until the file may not grow any more; started by the test below in a process of its own.
#[test]
#[ignore = "needs a limit on the size of files"]
fn disk_full_child() {
    let path = PathBuf::from(std::env::var("APPRENTICE_TEST_FILE").unwrap());
    let mut stream = rng::stream(1, Purpose::Batches, 0, 0);
    let mut stream_of_pictures = rng::stream(2, Purpose::Batches, 0, 0);
    let mut noisy = |steps: usize| {
        let mut episode = episode(steps, 60, 9, 0);
        stream.fill_normal(&mut episode.observations);
        episode
    };
    let create = || EpisodeWriter::create(&path, 60, 9, &Description::default()).unwrap();
    // Fails in the middle.
    let mut writer = create();
    let error = (0..100)
        .find_map(|_| writer.append(&noisy(500)).err())
        .expect("the limit is hit");
    println!("{error}");
    assert!(error.to_string().contains("File too large"));
    assert!(
        writer
            .append(&noisy(5))
            .unwrap_err()
            .to_string()
            .contains("earlier write failed")
    );
    assert!(
        writer
            .finish()
            .unwrap_err()
            .to_string()
            .contains("earlier write failed")
    );
    // Fails at the end: what is in the caches no longer fits.
    let mut cached = || {
        let mut writer = create();
        writer.append(&noisy(800)).unwrap();
        writer
    };
    let error = cached().finish().unwrap_err();
    println!("{error}");
    assert!(error.to_string().contains("File too large"));
    drop(cached());
    drop(create());
    // Roll-outs fail as a whole, too.
    let folder = path.with_extension("rollouts");
    for pictures in [false, true] {
        let mut writer = RolloutWriter::create(&folder, 60, 9, &Description::default()).unwrap();
        let mut small = |steps: usize| {
            let mut episode = noisy(steps);
            episode.images = pictures.then(|| {
                // The low bits of normal numbers do not compress.
                let mut noise = vec![0.0_f32; 24 * 24 * 3 * steps];
                stream_of_pictures.fill_normal(&mut noise);
                Images {
                    height: 24,
                    width: 24,
                    bytes: noise.iter().map(|value| value.to_bits() as u8).collect(),
                }
            });
            episode
        };
        writer.append(&small(5)).unwrap();
        let error = writer.append(&small(1200)).unwrap_err();
        assert!(error.to_string().contains("File too large"), "{error}");
        for error in [writer.append(&small(5)).unwrap_err(), writer.finish().unwrap_err()] {
            assert!(error.to_string().contains("earlier write failed"), "{error}");
        }
        assert!(!folder.exists());
    }
    // A small file still fits, and the failures before have left nothing behind.
    let mut writer = create();
    writer.append(&noisy(20)).unwrap();
    writer.finish().unwrap();
    assert_eq!(Dataset::read(&path).unwrap().len(), 20);
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demos.hdf5");
    std::fs::write(&path, "old").unwrap();
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 256; exec \"$0\" data::tests::disk_full_child --exact --ignored --nocapture",
        ])
        .arg(std::env::current_exe().unwrap())
        .env("APPRENTICE_TEST_FILE", &path)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat();
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{:?}\n{text}",
        output.status
    );
    println!("{text}");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "a temporary file is left"
    );
}

/// Runs only where python3 has numpy and h5py.
#[test]
fn h5py_reads_what_we_write() {
    let python = |arguments: &[&str]| std::process::Command::new("python3").args(arguments).output();
    if !python(&["-c", "import numpy, h5py"]).is_ok_and(|output| output.status.success()) {
        println!("skipped: python3 with numpy and h5py is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ours.hdf5");
    let episodes: Vec<Episode> = (0..4).map(|number| episode(300 + number, 60, 9, number)).collect();
    write(&path, &episodes, 60, 9);
    let script = r#"
import sys, h5py, numpy as np
f = h5py.File(sys.argv[1])
n = 1206
assert f["observations"].shape == (n, 60) and f["observations"].dtype == np.float32
assert f["actions"].shape == (n, 9) and f["rewards"].shape == (n,)
assert f["observations"].compression == "gzip"
assert f["terminals"].dtype == np.bool_ and f["timeouts"].dtype == np.bool_
ends = np.flatnonzero(f["terminals"][:] | f["timeouts"][:])
assert list(ends) == [299, 600, 902, 1205], ends
assert list(np.flatnonzero(f["terminals"][:])) == [299, 902]
i = f["infos"]
assert sorted(i) == ["contacts", "qpos", "sequence", "speed", "ticks"]
assert i["qpos"].dtype == np.float64 and i["qpos"].shape == (n, 5) and i["qpos"][1, 2] == 7 * 0.1
assert i["contacts"].dtype == np.uint8 and i["contacts"].shape == (n,)
assert i["ticks"].dtype == np.int64 and i["ticks"][0, 1] == 1 << 40
assert (np.diff(i["sequence"][:]).nonzero()[0] == ends[:-1]).all()
row = np.float32(3.0) + np.array([(k % 97) for k in range(60)], np.float32) / np.float32(7.0)
assert (f["observations"][903] == row).all()
a = f.attrs
assert a["scene"] == "kitchen" and a["seed"] == 3 and list(a["elements"]) == ["microwave", "kettle"]
assert a["demonstrator"] == "(\n    speed: 1.0,\n)" and a["note"] == "ab ü" and a["version"].startswith("apprentice ")
assert a["episodes"] == 4 and a["steps"] == n
"#;
    let output = python(&["-c", script, path.to_str().unwrap()]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn golden_kitchen_windows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/spirl");
    let tensors = candle_core::safetensors::load(folder.join("kitchen_windows.safetensors"), &Device::Cpu).unwrap();
    let floats = |name: &str| tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let pairs = |name: &str| {
        let pairs: Vec<Vec<i64>> = tensors[name].to_vec2().unwrap();
        pairs
            .into_iter()
            .map(|pair| [pair[0] as usize, pair[1] as usize])
            .collect::<Vec<_>>()
    };
    let terminals = tensors["in/terminals"]
        .to_dtype(DType::F32)
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    let steps = terminals.len();
    let length = 11;
    let flat = dataset::Flat {
        observation_dim: 4,
        action_dim: 2,
        observations: floats("in/observations"),
        actions: floats("in/actions"),
        rewards: vec![0.0; steps],
        terminals: terminals.iter().map(|&flag| flag != 0.0).collect(),
        timeouts: vec![false; steps],
        ..dataset::Flat::default()
    };
    let dataset = Arc::new(Dataset::from_flat(flat, &CutRule::spirl_kitchen(length)));
    let expected: Vec<_> = pairs("out/skill_seq_start_len")
        .iter()
        .map(|&[at, rows]| at..at + rows)
        .collect();
    assert_eq!(dataset.sequences(), expected);

    let split = Split {
        train: 0.8,
        validation: 0.2,
        order: SplitOrder::File,
    };
    let partition = split.apply(dataset.sequences().len()).unwrap();
    assert_eq!(
        (partition.train, partition.validation),
        ((0..6).collect(), (6..8).collect())
    );
    assert_eq!([0.8, 0.2].map(|share| spirl_epoch(steps, share, length)), [13, 3]);

    let config = WindowConfig {
        starts: Starts::Spirl,
        ..WindowConfig::new(length)
    };
    let mut sampler = WindowSampler::new(dataset.clone(), dataset.sequences().iter().cloned(), config).unwrap();
    let draws = pairs("in/skill_draws");
    let windows: Vec<Window> = draws
        .iter()
        .map(|&[sequence, start]| Window { sequence, start })
        .collect();
    let (states, actions) = sampler.gather(&windows).unwrap();
    assert_eq!(states, floats("out/skill_states"));
    assert_eq!(actions, floats("out/skill_actions"));

    let bounds = pairs("out/skill_draw_bounds");
    let mut drawn = vec![std::collections::BTreeSet::new(); dataset.sequences().len()];
    let mut stream = rng::stream(1, Purpose::Batches, 0, 0);
    for _ in 0..20_000 {
        let window = sampler.draw(&mut stream);
        drawn[window.sequence].insert(window.start);
    }
    for (&[sequence, _], &[low, high]) in draws.iter().zip(&bounds) {
        assert_eq!(drawn[sequence], (low..high).collect());
    }
}

fn numbered(lengths: &[usize]) -> Arc<Dataset> {
    let mut row = 0;
    let episodes: Vec<Episode> = lengths
        .iter()
        .map(|&steps| {
            let mut episode = episode(steps, 2, 1, 0);
            for step in 0..steps {
                episode.observations[step * 2] = row as f32;
                episode.observations[step * 2 + 1] = -1.0;
                episode.actions[step] = row as f32 + 0.5;
                row += 1;
            }
            episode
        })
        .collect();
    Arc::new(Dataset::from_episodes(2, 1, &episodes).unwrap())
}

#[test]
fn every_window_is_drawn_with_the_right_frequency() {
    let dataset = numbered(&[4, 2, 6, 3]);
    let all = || dataset.sequences().iter().cloned();
    for (weighting, expected) in [
        (
            Weighting::Sequence,
            vec![
                (0, 0, 6.0),
                (0, 1, 6.0),
                (2, 0, 3.0),
                (2, 1, 3.0),
                (2, 2, 3.0),
                (2, 3, 3.0),
                (3, 0, 12.0),
            ],
        ),
        (
            Weighting::Window,
            (0..7)
                .map(|n| [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0)][n])
                .map(|(s, t)| (s, t, 36.0 / 7.0))
                .collect(),
        ),
    ] {
        let config = WindowConfig {
            weighting,
            ..WindowConfig::new(3)
        };
        let sampler = WindowSampler::new(dataset.clone(), all(), config).unwrap();
        assert_eq!((sampler.windows(), sampler.steps(), sampler.skipped()), (7, 13, 1));
        let mut stream = rng::stream(5, Purpose::Batches, 0, 0);
        let mut counts = std::collections::BTreeMap::new();
        let draws = 36_000;
        for _ in 0..draws {
            let Window { sequence, start } = sampler.draw(&mut stream);
            *counts.entry((sequence, start)).or_insert(0_usize) += 1;
        }
        assert_eq!(counts.len(), expected.len());
        for (sequence, start, share) in expected {
            let count = counts[&(sequence, start)] as f64;
            let mean = f64::from(draws) * share / 36.0;
            assert!(
                (count - mean).abs() < 5.0 * mean.sqrt(),
                "{weighting:?} ({sequence}, {start}): {count} of {mean}"
            );
        }
    }
}

#[test]
fn batches_are_shaped_repeatable_and_never_cross_sequences() {
    let dataset = numbered(&[30, 5, 40]);
    let config = WindowConfig {
        observation_dim: Some(1),
        ..WindowConfig::new(6)
    };
    let mut sampler = WindowSampler::new(dataset.clone(), dataset.sequences().iter().cloned(), config).unwrap();
    let mut draw = || {
        let mut stream = rng::stream(9, Purpose::Batches, 0, 0);
        let _first = sampler.sample(7, &mut stream, &Device::Cpu).unwrap();
        sampler.sample(7, &mut stream, &Device::Cpu).unwrap()
    };
    let (states, actions) = draw();
    assert_eq!((states.dims(), actions.dims()), (&[7, 6, 1][..], &[7, 5, 1][..]));
    let numbers = |tensor: &Tensor| tensor.squeeze(2).unwrap().to_vec2::<f32>().unwrap();
    for (states, actions) in numbers(&states).iter().zip(numbers(&actions)) {
        assert!(states.windows(2).all(|pair| pair[1] == pair[0] + 1.0));
        assert!(actions.iter().zip(states).all(|(action, state)| *action == state + 0.5));
        let inside = |rows: &std::ops::Range<usize>| {
            rows.contains(&(states[0] as usize)) && rows.contains(&(states[5] as usize))
        };
        assert!(dataset.sequences().iter().any(inside));
    }
    let again = draw();
    assert_eq!(numbers(&states), numbers(&again.0));
    assert_eq!(numbers(&actions), numbers(&again.1));
}

#[test]
fn padding_puts_zeros_in_front() {
    let dataset = numbered(&[2, 4]);
    let config = WindowConfig {
        pad_front: 3,
        ..WindowConfig::new(3)
    };
    let sequences = vec![dataset.sequences()[1].clone()];
    let mut sampler = WindowSampler::new(dataset, sequences, config).unwrap();
    assert_eq!(sampler.windows(), 5);
    let mut of = |start| {
        let (states, actions) = sampler.gather(&[Window { sequence: 0, start }]).unwrap();
        (states.to_vec(), actions.to_vec())
    };
    assert_eq!(of(0), (vec![0.0; 6], vec![0.0; 2]));
    assert_eq!(of(1), (vec![0.0, 0.0, 0.0, 0.0, 2.0, -1.0], vec![0.0; 2]));
    assert_eq!(of(2), (vec![0.0, 0.0, 2.0, -1.0, 3.0, -1.0], vec![0.0, 2.5]));
    assert_eq!(of(4), (vec![3.0, -1.0, 4.0, -1.0, 5.0, -1.0], vec![3.5, 4.5]));
    assert!(sampler.gather(&[Window { sequence: 0, start: 5 }]).is_err());
    assert!(sampler.gather(&[Window { sequence: 1, start: 0 }]).is_err());
}

#[test]
fn impossible_settings_are_refused() {
    let dataset = numbered(&[4, 5]);
    let sampler = |config| WindowSampler::new(dataset.clone(), dataset.sequences().iter().cloned(), config);
    let found = sampler(WindowConfig::new(6)).unwrap_err().to_string();
    assert!(
        found.contains("6 states") && found.contains("longest has 5 steps"),
        "{found}"
    );
    assert!(sampler(WindowConfig::new(1)).is_err());
    assert!(
        sampler(WindowConfig {
            observation_dim: Some(3),
            ..WindowConfig::new(3)
        })
        .is_err()
    );
    assert!(
        sampler(WindowConfig {
            starts: Starts::Spirl,
            ..WindowConfig::new(4)
        })
        .is_err()
    );
    let outside = std::iter::once(3..10);
    assert!(WindowSampler::new(dataset.clone(), outside, WindowConfig::new(3)).is_err());
    let split = |train, validation| {
        Split {
            train,
            validation,
            order: SplitOrder::File,
        }
        .apply(10)
    };
    assert!(split(0.9, 0.2).is_err() && split(-0.1, 0.2).is_err() && split(f64::NAN, 0.0).is_err());
    assert!(Split::default().apply(0).is_err());
    assert_eq!(
        Split::default().apply(1).unwrap(),
        Partition {
            train: vec![0],
            validation: vec![]
        }
    );
    assert_eq!(
        Split::default().apply(600).unwrap().validation,
        (594..600).collect::<Vec<_>>()
    );
}

#[test]
fn statistics_are_those_of_the_population() {
    let dataset = numbered(&[3, 2]);
    let [first, second] = dataset.observation_statistics(dataset.sequences())[..] else {
        panic!("two columns")
    };
    assert_eq!(
        (first.mean, first.std, first.min, first.max, first.count),
        (2.0, 2.0_f64.sqrt(), 0.0, 4.0, 5)
    );
    assert!(second.is_constant() && second.std == 0.0);
    assert_eq!(dataset.action_statistics(std::slice::from_ref(&(3..5)))[0].mean, 4.0);
}

/// A kitchen-sized episode that completes the microwave at `microwave` and the slide cabinet at `cabinet`.
fn kitchen_episode(steps: usize, microwave: usize, cabinet: usize, number: usize) -> Episode {
    let mut episode = episode(steps, 60, 9, 0);
    episode.observations.fill(0.0);
    for step in 0..steps {
        let row = &mut episode.observations[step * 60..(step + 1) * 60];
        row[0] = step as f32 + number as f32;
        row[22] = if step >= microwave { -0.7 } else { 0.0 };
        row[19] = if step == cabinet { 0.37 } else { 0.0 };
    }
    episode
        .actions
        .iter_mut()
        .enumerate()
        .for_each(|(at, value)| *value = if at % 9 == 8 { 1.0 } else { at as f32 / 1e4 });
    episode.infos.clear();
    episode
}

#[test]
fn inspection_finds_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kitchen.hdf5");
    let description = Description {
        elements: ["Microwave", "SlideCabinet", "Kettle"].map(str::to_owned).to_vec(),
        ..Description::default()
    };
    let mut writer = EpisodeWriter::create(&path, 60, 9, &description).unwrap();
    for (steps, microwave, cabinet, number) in [
        (20, 5, 8, 0),
        (30, 9, 4, 1),
        (25, 7, 99, 2),
        (25, 7, 99, 2),
        (8, 3, 4, 4),
    ] {
        writer
            .append(&kitchen_episode(steps, microwave, cabinet, number))
            .unwrap();
    }
    writer.finish().unwrap();
    let inspection = Inspection::of(&path, &InspectOptions::default()).unwrap();
    println!("{inspection}");
    assert_eq!(inspection.lengths, [20, 30, 25, 25, 8]);
    assert_eq!(
        inspection.length(),
        Summary {
            min: 8.0,
            mean: 21.6,
            max: 30.0
        }
    );
    let report = |name: &str| {
        inspection
            .elements
            .iter()
            .find(|report| report.name == name)
            .unwrap()
            .clone()
    };
    assert_eq!(inspection.elements.len(), 3);
    let microwave = report("microwave");
    assert_eq!(
        (microwave.completed, microwave.at_end, microwave.mean_step),
        (1.0, 1.0, Some(6.2))
    );
    let cabinet = report("slide cabinet");
    assert_eq!((cabinet.completed, cabinet.at_end), (0.6, 0.0));
    assert_eq!(report("kettle").completed, 0.0);
    assert_eq!(inspection.completed_counts, [(1, 2), (2, 3)].into());
    assert!(inspection.orders.contains(&("microwave, slide cabinet".to_owned(), 2)));
    let text = inspection.to_string();
    for part in [
        "5 episodes, 108 steps",
        "1 episode is shorter than a skill of 10 actions",
        "1 episode is an exact copy",
        "constant observation columns: 1-18, 20-21, 23-59",
        "constant action columns: 8",
        "11.11 % of the action values are saturated",
        "most in column 8: 100.0 %",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn inspection_reports_damage_instead_of_refusing_it() {
    let text = Inspection::of(fixture("bad_nan"), &InspectOptions::default())
        .unwrap()
        .to_string();
    assert!(
        text.contains("`observations`: 2 values are not finite, first NaN at row 9, column 2"),
        "{text}"
    );
    let text = Inspection::of(fixture("float16_tail"), &InspectOptions::default())
        .unwrap()
        .to_string();
    assert!(text.contains("the last episode has no end: 14 steps"), "{text}");
    assert!(text.contains("1 episode is shorter than a skill"), "{text}");
    assert!(Inspection::of(fixture("bad_rows"), &InspectOptions::default()).is_err());
    let longest = InspectOptions {
        skill_length: usize::MAX,
        ..InspectOptions::default()
    };
    let text = Inspection::of(fixture("terminals_only"), &longest).unwrap().to_string();
    assert!(text.contains("3 episodes are shorter than a skill"), "{text}");
}
