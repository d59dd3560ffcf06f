//! Tests of the files of a run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;

use super::*;
use crate::plot::encode_png;

/// A run of three steps with everything in it, with the clock held still.
fn write_sample(folder: &Path) {
    let clock = Clock {
        before: 0.0,
        started: Instant::now(),
        unix: 1_700_000_000.5,
        frozen: true,
    };
    let mut writer = MetricsWriter::start(folder, None, clock).unwrap();
    for step in [10, 20, 30_u64] {
        let value = step as f64 / 7.0;
        writer
            .scalars(
                step,
                &[("train/return", value), ("train/loss, \"total\"", -1.0 / value)],
            )
            .unwrap();
    }
    writer.scalar(30, "odd", f64::NAN).unwrap();
    let picture = encode_png(2, 1, &[255, 0, 0, 0, 0, 255]).unwrap();
    writer.png(20, "latent", 2, 1, picture).unwrap();
    writer.sync().unwrap();
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/metrics")
        .join(name)
}

/// The stored bytes were read back with `TensorBoard`'s own `EventAccumulator` (`tests/golden/metrics/check.py`).
/// `APPRENTICE_BLESS=1` stores them anew.
#[test]
fn files_have_the_bytes_that_tensorboard_read() {
    let folder = tempfile::tempdir().unwrap();
    write_sample(folder.path());
    let events = event_file::existing(folder.path()).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(
        events[0].file_name().unwrap(),
        "events.out.tfevents.1700000000.apprentice"
    );
    for (made, name) in [
        (events[0].clone(), "events.out.tfevents.1700000000.apprentice"),
        (folder.path().join("metrics.csv"), "metrics.csv"),
    ] {
        let made = fs::read(made).unwrap();
        if std::env::var_os("APPRENTICE_BLESS").is_some() {
            fs::create_dir_all(golden("")).unwrap();
            fs::write(golden(name), &made).unwrap();
        }
        assert_eq!(made, fs::read(golden(name)).unwrap(), "{name}");
    }
}

#[test]
fn rows_read_back_with_every_digit() {
    let folder = tempfile::tempdir().unwrap();
    write_sample(folder.path());
    let rows = read_scalars(folder.path()).unwrap();
    assert_eq!(rows.len(), 7);
    assert!(rows[6].value.is_nan());
    let curves = series(&rows);
    assert_eq!(
        curves["train/return"],
        [(10.0, 10.0 / 7.0), (20.0, 20.0 / 7.0), (30.0, 30.0 / 7.0)]
    );
    assert_eq!(curves["train/loss, \"total\""][0], (10.0, -0.7));
}

#[test]
fn a_resumed_run_has_no_gaps_and_no_doubles() {
    let whole = tempfile::tempdir().unwrap();
    let cut = tempfile::tempdir().unwrap();
    let record = |writer: &mut MetricsWriter, steps: std::ops::RangeInclusive<u64>| {
        for step in steps {
            writer
                .scalars(step, &[("a", step as f64), ("b", -(step as f64))])
                .unwrap();
        }
    };
    let values = |folder: &Path| -> Vec<(u64, String, f64)> {
        read_scalars(folder)
            .unwrap()
            .into_iter()
            .map(|row| (row.step, row.tag, row.value))
            .collect()
    };
    let mut writer = MetricsWriter::create(whole.path()).unwrap();
    record(&mut writer, 1..=20);
    drop(writer);

    let mut writer = MetricsWriter::create(cut.path()).unwrap();
    record(&mut writer, 1..=13);
    drop(writer);
    // A crash in the middle of a row and of a record.
    for path in [
        cut.path().join("metrics.csv"),
        event_file::existing(cut.path()).unwrap()[0].clone(),
    ] {
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    }
    let mut writer = MetricsWriter::resume(cut.path(), 10).unwrap();
    record(&mut writer, 11..=20);
    drop(writer);
    assert_eq!(values(cut.path()), values(whole.path()));
    assert_eq!(event_file::existing(cut.path()).unwrap().len(), 2);

    // A second resume from the same place, and one from the end, change nothing but the sessions.
    let mut writer = MetricsWriter::resume(cut.path(), 10).unwrap();
    record(&mut writer, 11..=20);
    drop(writer);
    drop(MetricsWriter::resume(cut.path(), 20).unwrap());
    assert_eq!(values(cut.path()), values(whole.path()));
    let walls: Vec<f64> = read_scalars(cut.path()).unwrap().iter().map(|row| row.wall_s).collect();
    assert!(walls.is_sorted(), "{walls:?}");
}

#[test]
fn faults_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    drop(MetricsWriter::create(folder.path()).unwrap());
    assert!(matches!(
        MetricsWriter::create(folder.path()),
        Err(MetricsError::Exists(_))
    ));
    fs::write(folder.path().join("metrics.csv"), "step,tag,value,wall_s\n1,a,high,0\n").unwrap();
    let error = read_scalars(folder.path()).unwrap_err().to_string();
    assert!(error.contains("metrics.csv is damaged"), "{error}");
    fs::write(folder.path().join("metrics.csv"), "time,reward\n1,2\n").unwrap();
    assert!(matches!(
        MetricsWriter::resume(folder.path(), 5),
        Err(MetricsError::Damaged { .. })
    ));
    assert!(
        read_scalars(folder.path())
            .unwrap_err()
            .to_string()
            .contains("the first line is not")
    );
    assert!(read_scalars(&folder.path().join("nowhere.csv")).is_err());
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(
        MetricsWriter::create(&folder.path().join("file")),
        Err(MetricsError::Io { .. })
    ));
}

/// After a power cut a block of a file may read as zeros although later ones are there.
#[test]
fn a_zeroed_block_does_not_stop_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = MetricsWriter::create(folder.path()).unwrap();
    (1..=100).for_each(|step| writer.scalar(step, "practice/completed", step as f64).unwrap());
    drop(writer);
    let events = event_file::existing(folder.path()).unwrap()[0].clone();
    let csv = folder.path().join("metrics.csv");
    let whole = [&csv, &events].map(|path| fs::read(path).unwrap());
    // At every place of a row and of a record.
    for start in 1_500..1_530 {
        for (path, whole) in [&csv, &events].into_iter().zip(&whole) {
            let mut bytes = whole.clone();
            bytes[start..start + 400].fill(0);
            fs::write(path, bytes).unwrap();
        }
        let before: Vec<PathBuf> = event_file::existing(folder.path()).unwrap();
        drop(MetricsWriter::resume(folder.path(), 90).unwrap());
        for (path, whole) in [&csv, &events].into_iter().zip(&whole) {
            let kept = fs::read(path).unwrap();
            assert!(kept.len() <= start && whole.starts_with(&kept), "{}", path.display());
            assert!(kept.len() > start - 100, "{}: whole rows are lost", path.display());
        }
        let rows = read_scalars(folder.path()).unwrap();
        assert!(rows.iter().zip(1..).all(|(row, step)| row.step == step));
        let made = event_file::existing(folder.path()).unwrap().into_iter();
        made.filter(|path| !before.contains(path))
            .for_each(|path| fs::remove_file(path).unwrap());
    }
}

/// `/dev/full` refuses every byte, as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_error_and_keeps_what_waits() {
    let mut appender = Appender::open(PathBuf::from("/dev/full")).unwrap();
    appender.waiting.extend_from_slice(b"abc");
    let error = appender.flush().unwrap_err().to_string();
    assert!(error.starts_with("cannot write /dev/full: "), "{error}");
    assert_eq!(appender.waiting, b"abc");
}
