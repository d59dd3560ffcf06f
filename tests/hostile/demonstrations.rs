//! What is done with a hostile file of demonstrations. The fuzz targets use this file, too.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use apprentice::data::{Dataset, InspectOptions, Inspection, Limits, ReadOptions};

/// Reads bytes as an HDF5 file of any layout, pictures and side arrays included.
pub fn hdf5(bytes: &[u8]) {
    let path = place("hostile.hdf5");
    std::fs::write(&path, bytes).expect("the folder for temporary files can be written");
    read(&path, bytes.len().is_multiple_of(2));
}

/// Reads bytes as the metadata of a Minari dataset whose episodes are sound.
#[allow(dead_code, reason = "not every user of this file needs it")]
pub fn metadata(bytes: &[u8]) {
    const EPISODES: &[u8] = include_bytes!("../data/minari/plain-v3/data/main_data.hdf5");
    let path = place("main_data.hdf5");
    if !path.exists() {
        std::fs::write(&path, EPISODES).expect("the folder for temporary files can be written");
    }
    std::fs::write(place("metadata.json"), bytes).expect("the folder for temporary files can be written");
    let dataset = Dataset::read(&path).expect("metadata stop nobody");
    assert_eq!(dataset.len(), 33);
    // The file names what else the folder could be.
    if let Err(error) = Dataset::read(place("")) {
        check(&place(""), &error.to_string());
    }
}

fn read(path: &Path, strict: bool) {
    let options = ReadOptions {
        limits: Limits {
            memory: 64 << 20,
            chunk: 16 << 20,
        },
        every_info: true,
        keep_non_finite: !strict,
        image_memory: 16 << 20,
        ..ReadOptions::default()
    };
    match Dataset::read_with(path, &options) {
        Ok(dataset) => {
            is_consistent(&dataset, strict);
            for number in 0..dataset.sequences().len() {
                match dataset.whole_episode(number) {
                    Ok(episode) => assert!(episode.is_some_and(|episode| !episode.is_empty())),
                    Err(error) => check(path, &error.to_string()),
                }
            }
        }
        Err(error) => check(path, &error.to_string()),
    }
    let options = InspectOptions {
        read: options,
        ..InspectOptions::default()
    };
    match Inspection::of(path, &options) {
        Ok(inspection) => {
            let report = inspection.to_string();
            assert!(report.len() < 1 << 20 && report.lines().all(|line| !line.contains(char::is_control)));
        }
        Err(error) => check(path, &error.to_string()),
    }
}

/// The sizes agree with each other, and values are finite where they must be.
fn is_consistent(dataset: &Dataset, strict: bool) {
    let rows = dataset.len();
    assert!(rows > 0);
    assert_eq!(dataset.observations().len(), rows * dataset.observation_dim());
    assert_eq!(dataset.actions().len(), rows * dataset.action_dim());
    assert_eq!((dataset.terminals().len(), dataset.timeouts().len()), (rows, rows));
    for column in dataset.infos().values() {
        assert_eq!(column.values.len(), rows * column.width);
    }
    let mut last = 0;
    for sequence in dataset.sequences() {
        assert!(sequence.start >= last && sequence.start < sequence.end && sequence.end <= rows);
        last = sequence.end;
    }
    if strict {
        let all = [dataset.observations(), dataset.actions(), dataset.rewards()];
        assert!(all.iter().all(|values| values.iter().all(|value| value.is_finite())));
    }
}

/// An error is one line that names the file.
fn check(path: &Path, message: &str) {
    assert!(
        message.contains(&path.display().to_string()),
        "an error without a place: {message}"
    );
    assert!(
        !message.contains(char::is_control) && message.len() < 4_000,
        "{message:?}"
    );
}

/// A file in a folder for this thread alone.
fn place(name: &str) -> PathBuf {
    thread_local! {
        static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
    }
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a folder for temporary files"));
        folder.path().join(name)
    })
}
