//! SPiRL's roll-out files: those of others, our own, and malformed ones.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

const SIZE: [usize; 2] = [6, 5];

fn foreign() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rollouts")
}

/// Pictures with recognisable content.
pub(super) fn images(rows: usize, [height, width]: [usize; 2], number: usize) -> Images {
    let count = rows * height * width * 3;
    Images {
        height,
        width,
        bytes: (0..count).map(|at| (at * 7 + at / 13 + number * 31) as u8).collect(),
    }
}

/// An episode with pictures.
pub(super) fn pictured(steps: usize, number: usize) -> Episode {
    Episode {
        images: Some(images(steps, SIZE, number)),
        ..episode(steps, 4, 2, number)
    }
}

pub(super) fn write_rollouts(path: &Path, episodes: &[Episode]) -> Written {
    let mut writer = RolloutWriter::create(path, 4, 2, &Description::default()).unwrap();
    for episode in episodes {
        writer.append(episode).unwrap();
    }
    writer.finish().unwrap()
}

fn every_info() -> ReadOptions {
    ReadOptions {
        every_info: true,
        ..ReadOptions::default()
    }
}

fn all_of(path: &Path) -> Vec<Episode> {
    let dataset = Dataset::read_with(path, &every_info()).unwrap();
    (0..dataset.sequences().len())
        .map(|number| dataset.whole_episode(number).unwrap().unwrap())
        .collect()
}

#[test]
fn reads_what_h5py_writes_in_the_order_of_the_paths() {
    let dataset = Dataset::read(foreign()).unwrap();
    // The last row of every trajectory is masked out.
    assert_eq!(dataset.sequences(), [0..11, 11..17, 17..30]);
    assert_eq!(
        (dataset.len(), dataset.observation_dim(), dataset.action_dim()),
        (30, 4, 2)
    );
    assert_eq!(dataset.unterminated(), 0);
    let store = dataset.images().unwrap();
    assert_eq!((store.len(), store.height(), store.width()), (30, 6, 5));
    let mut bytes = Vec::new();
    for (number, rows) in dataset.sequences().iter().enumerate() {
        store.read(rows.clone(), &mut bytes).unwrap();
        for (row, at) in rows.clone().enumerate() {
            for column in 0..4 {
                let expected = (100 * number + row) as f32 + column as f32 / 8.0;
                assert_eq!(dataset.observations()[at * 4 + column], expected);
            }
            assert_eq!(dataset.actions()[at * 2 + 1], 0.125 - row as f32 / 64.0);
            for (place, &byte) in bytes[row * 90..(row + 1) * 90].iter().enumerate() {
                let (y, x, c) = (place / 15, place / 3 % 5, place % 3);
                assert_eq!(usize::from(byte), (number + 7 * row + 5 * y + 3 * x + c) % 256);
            }
        }
        assert!(dataset.timeouts()[rows.end - 1] && !dataset.terminals()[rows.end - 1]);
    }
    assert_eq!(
        dataset.notes(),
        ["3 of 3 trajectories have no `rewards`: they count as 0"]
    );
    // A rule for flat arrays does not matter here.
    let options = ReadOptions {
        cut: CutRule::spirl_kitchen(11),
        ..ReadOptions::default()
    };
    assert_eq!(Dataset::read_with(foreign(), &options).unwrap().sequences().len(), 3);
    // A single file works, too.
    let one = Dataset::read(foreign().join("a/deep/rollout_7.h5")).unwrap();
    assert_eq!(one.sequences(), [0..11, 11..17]);
}

#[test]
fn order_does_not_depend_on_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["c/1.h5", "a/2.h5", "b.h5", "a/1.hdf5", "c/deep/er/0.h5"];
    for (number, name) in names.iter().enumerate() {
        let written = folder.path().join("written");
        write_rollouts(&written, &[episode(3 + number, 4, 2, 0)]);
        let path = folder.path().join("all").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::rename(written.join("rollout_000000.h5"), path).unwrap();
    }
    let all = folder.path().join("all");
    std::fs::write(all.join("readme.txt"), "not data").unwrap();
    std::fs::write(all.join(".half.h5"), "being written").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&all, all.join("loop")).unwrap();
    let lengths: Vec<usize> = Dataset::read(&all)
        .unwrap()
        .sequences()
        .iter()
        .map(|rows| rows.len())
        .collect();
    assert_eq!(lengths, [6, 4, 5, 3, 7]);
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(message(&empty).contains("no roll-out files"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn layouts_are_turned_into_each_other_without_loss(lengths in prop::collection::vec(1_usize..40, 1..14), pictures: bool) {
        let episodes: Vec<Episode> = lengths
            .iter()
            .enumerate()
            .map(|(number, &steps)| if pictures { pictured(steps, number) } else { episode(steps, 4, 2, number) })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let [rollouts, flat, again] = ["rollouts", "flat.hdf5", "again"].map(|name| folder.path().join(name));
        let written = write_rollouts(&rollouts, &episodes);
        prop_assert_eq!((written.episodes, written.steps), (lengths.len(), lengths.iter().sum::<usize>()));
        prop_assert_eq!(&all_of(&rollouts), &episodes);
        convert(&rollouts, &flat, Layout::Flat);
        prop_assert_eq!(&all_of(&flat), &episodes);
        convert(&flat, &again, Layout::Rollouts);
        prop_assert_eq!(&all_of(&again), &episodes);
    }
}

#[test]
fn conversion_keeps_the_description_and_marks_ends() {
    let folder = tempfile::tempdir().unwrap();
    let [flat, rollouts, back] = ["flat.hdf5", "rollouts", "back.hdf5"].map(|name| folder.path().join(name));
    write(&flat, &[episode(5, 3, 2, 0), episode(6, 3, 2, 1)], 3, 2);
    convert(&flat, &rollouts, Layout::Rollouts);
    convert(&rollouts, &back, Layout::Flat);
    let attributes = |path: &Path| Dataset::read(path).unwrap().attributes().clone();
    assert_eq!(attributes(&back), attributes(&flat));
    assert_eq!(attributes(&rollouts)["layout"], "SPiRL roll-outs");
    assert_eq!(attributes(&rollouts)["elements"], "microwave, kettle");
    // A recording that was broken off ends with a timeout afterwards.
    convert(fixture("float16_tail"), &rollouts, Layout::Rollouts);
    let dataset = Dataset::read(&rollouts).unwrap();
    assert_eq!(dataset.sequences(), [0..12, 12..19, 19..33]);
    assert_eq!((dataset.terminals()[18], dataset.timeouts()[18]), (true, false));
    assert_eq!((dataset.terminals()[32], dataset.timeouts()[32]), (false, true));
}

/// A folder with two good trajectories, the second of which has been changed.
fn changed(change: &dyn Fn(&hdf5::File)) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rollouts");
    write_rollouts(&path, &[pictured(5, 0), pictured(6, 1)]);
    let file = hdf5::File::open_rw(path.join("rollout_000001.h5")).unwrap();
    change(&file);
    drop(file);
    (folder, path)
}

fn replace<T: hdf5::H5Type>(file: &hdf5::File, name: &str, shape: &[usize], values: &[T]) {
    file.unlink(name).unwrap();
    let dataset = file.new_dataset::<T>().shape(shape).create(name).unwrap();
    dataset.write_raw(values).unwrap();
}

#[test]
fn every_malformed_trajectory_is_named() {
    type Change<'a> = (&'a dyn Fn(&hdf5::File), &'a [&'a str]);
    let cases: &[Change] = &[
        (
            &|f| f.unlink("traj0/states").unwrap(),
            &["`traj0/states`", "no such dataset"],
        ),
        (
            &|f| f.unlink("traj0/actions").unwrap(),
            &["`traj0/actions`", "no such dataset"],
        ),
        (&|f| f.unlink("traj0").unwrap(), &["`traj0`", "no such group"]),
        (
            &|f| replace(f, "traj_per_file", &[], &[2_i64]),
            &["`traj_per_file`", "expected 1", "found 2"],
        ),
        (
            &|f| replace(f, "traj_per_file", &[2], &[1_i64, 1]),
            &["`traj_per_file`", "a single number", "[2]"],
        ),
        (&|f| f.relink("traj0", "traj1").unwrap(), &["`traj0`", "`traj1`"]),
        (
            &|f| replace(f, "traj0/states", &[6, 3], &[0.0_f32; 18]),
            &["`traj0/states`", "4 columns, as in", "rollout_000000.h5", "3 columns"],
        ),
        (
            &|f| replace(f, "traj0/actions", &[6, 1], &[0.0_f32; 6]),
            &["`traj0/actions`", "2 columns, as in", "1 columns"],
        ),
        (
            &|f| replace(f, "traj0/actions", &[5, 2], &[0.0_f32; 10]),
            &["`traj0/actions`", "6 rows, as `states` has", "5 rows"],
        ),
        (
            &|f| replace(f, "traj0/states", &[6, 2, 2], &[0.0_f32; 24]),
            &["`traj0/states`", "[steps, state size]", "[6, 2, 2]"],
        ),
        (
            &|f| replace(f, "traj0/states", &[6, 4], &[f32::NAN; 24]),
            &["`traj0/states`", "24 values", "row 0"],
        ),
        (
            &|f| replace(f, "traj0/states", &[0, 4], &[0.0_f32; 0]),
            &["`traj0/states`", "at least one row"],
        ),
        (
            &|f| replace(f, "traj0/pad_mask", &[6], &[0.0_f32; 6]),
            &["`traj0/pad_mask`", "at least one row with 1", "none"],
        ),
        (
            &|f| replace(f, "traj0/pad_mask", &[5], &[1.0_f32; 5]),
            &["`traj0/pad_mask`", "[6] or [6, 1], as `states`", "[5]"],
        ),
        (
            &|f| replace(f, "traj0/rewards", &[6, 2], &[1.0_f32; 12]),
            &["`traj0/rewards`", "[6] or [6, 1]", "[6, 2]"],
        ),
        (
            &|f| replace(f, "traj0/images", &[6, 6, 4, 3], &[0_u8; 432]),
            &["`traj0/images`", "6 x 5 pixels as before", "6 x 4 pixels"],
        ),
        (
            &|f| f.unlink("traj0/images").unwrap(),
            &["`traj0/images`", "6 x 5 pixels as before", "no pictures"],
        ),
        (
            &|f| replace(f, "traj0/images", &[6, 3, 6, 5], &[0_u8; 540]),
            &["`traj0/images`", "[6, height, width, 3]", "[6, 3, 6, 5]"],
        ),
        (
            &|f| replace(f, "traj0/images", &[5, 6, 5, 3], &[0_u8; 450]),
            &["`traj0/images`", "[6, height, width, 3]", "[5, 6, 5, 3]"],
        ),
        (
            &|f| replace(f, "traj0/images", &[6, 6, 5, 3], &[0.0_f32; 540]),
            &["`traj0/images`", "bytes", "type float"],
        ),
        (
            &|f| {
                f.unlink("traj0/images").unwrap();
                let builder = f.new_dataset::<u8>().chunk((1, 6, 4096, 3)).deflate(4);
                builder.shape((6, 6, 4096, 3)).create("traj0/images").unwrap();
            },
            &["`traj0/images`", "sides of 1 to 2048", "4096"],
        ),
        (
            &|f| {
                f.unlink("traj0").unwrap();
                let group = f.create_group("traj0").unwrap();
                let builder = group.new_dataset::<f32>().chunk((1024, 4)).deflate(4);
                builder.shape((1_usize << 40, 4)).create("states").unwrap();
            },
            &["`traj0/states`", "1099511627776 x 4 values", "0 bytes stored"],
        ),
        (
            &|f| {
                f.unlink("traj0/images").unwrap();
                f.link_external("rollout_000000.h5", "/traj0/images", "traj0/images")
                    .unwrap();
            },
            &["`traj0/images`", "link to another file"],
        ),
        (
            &|f| drop(f.new_dataset::<f32>().shape(3).create("observations").unwrap()),
            &["D4RL's flat arrays"],
        ),
    ];
    for (change, parts) in cases {
        let (_folder, path) = changed(change);
        let found = message(&path);
        println!("{found}");
        for part in parts.iter().chain(&["rollout_000001.h5", "expected", "found"]) {
            assert!(found.contains(part), "{part:?} is missing in: {found}");
        }
        assert!(!found.contains('\n') && found.len() < 500, "{found}");
    }
}

#[test]
fn optional_parts_may_be_missing() {
    let (_folder, path) = changed(&|file| {
        for name in ["pad_mask", "rewards", "terminals", "timeouts", "infos"] {
            file.unlink(&format!("traj0/{name}")).unwrap();
        }
        file.unlink("traj_per_file").unwrap();
    });
    let dataset = Dataset::read_with(&path, &every_info()).unwrap();
    assert_eq!(dataset.sequences(), [0..5, 5..11]);
    assert_eq!(dataset.rewards()[5..], [0.0; 6]);
    assert!(dataset.infos().is_empty());
    assert_eq!(
        dataset.notes(),
        [
            "1 of 2 trajectories have no `rewards`: they count as 0",
            "1 of 2 trajectories have no `pad_mask`: all of their rows count"
        ]
    );
}

#[test]
fn the_mask_cuts_every_array() {
    let (_folder, path) = changed(&|file| {
        // As the original reads it, the last 1 counts, not the first 0.
        replace(file, "traj0/pad_mask", &[6], &[1.0_f32, 0.0, 1.0, 1.0, 0.0, 0.0]);
    });
    let expected = pictured(6, 1);
    let found = &all_of(&path)[1];
    assert_eq!(found.observations, expected.observations[..16]);
    assert_eq!(found.infos["ticks"], expected.infos["ticks"].slice(0..4));
    assert_eq!(
        found.images.as_ref().unwrap().bytes,
        expected.images.unwrap().bytes[..4 * 90]
    );
    assert_eq!(found.timeouts, [false, false, false, true]);
}

#[test]
fn one_memory_limit_holds_over_all_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rollouts");
    write_rollouts(&path, &[pictured(50, 0), pictured(50, 1)]);
    // States, actions and four arrays with one number per step.
    let one = 50 * 4 * (4 + 2 + 4);
    let read = |memory| {
        let limits = Limits {
            memory,
            ..Limits::default()
        };
        let options = ReadOptions {
            limits,
            ..ReadOptions::default()
        };
        Dataset::read_with(&path, &options)
    };
    let found = read(one + 100).unwrap_err().to_string();
    assert!(
        found.contains("rollout_000001.h5") && found.contains("MiB in all"),
        "{found}"
    );
    assert_eq!(read(2 * one + 100).unwrap().len(), 100);
}

#[test]
fn flipped_bytes_never_crash_the_reader_of_rollouts() {
    use rand::RngExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flipped.h5");
    let options = ReadOptions {
        limits: Limits {
            memory: 1 << 28,
            chunk: 1 << 26,
        },
        ..every_info()
    };
    let whole = std::fs::read(foreign().join("a/deep/rollout_7.h5")).unwrap();
    let mut stream = rng::stream(12, Purpose::Batches, 0, 0);
    let mut refused = 0;
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..stream.random_range(1..4) {
            let at = stream.random_range(0..bytes.len() as u64) as usize;
            bytes[at] = stream.random_range(0..=255) as u8;
        }
        std::fs::write(&path, bytes).unwrap();
        let read = Dataset::read_with(&path, &options)
            .and_then(|dataset| (0..dataset.sequences().len()).try_for_each(|n| dataset.whole_episode(n).map(drop)));
        refused += usize::from(read.is_err());
    }
    println!("{refused} of 300 refused");
    assert!(refused > 0);
}

#[test]
fn folders_appear_whole_and_replace_only_rollouts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("rollouts");
    let entries = || std::fs::read_dir(folder.path().join("new")).unwrap().count();
    let create = || RolloutWriter::create(&path, 4, 2, &Description::default());
    let mut writer = create().unwrap();
    writer.append(&pictured(5, 0)).unwrap();
    assert!(!path.exists());
    drop(writer);
    assert_eq!(entries(), 0);
    assert!(
        create()
            .unwrap()
            .finish()
            .unwrap_err()
            .to_string()
            .contains("no episode")
    );
    let written = write_rollouts(&path, &[pictured(5, 0), pictured(3, 1)]);
    let sizes: u64 = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert_eq!((written.bytes, written.path.clone()), (sizes, path.clone()));
    write_rollouts(&path, &[pictured(4, 2)]);
    assert_eq!((all_of(&path), entries()), (vec![pictured(4, 2)], 1));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let plain = folder.path().join("plain");
        std::fs::create_dir(&plain).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }
    std::fs::write(path.join("notes.txt"), "mine").unwrap();
    let found = create().unwrap_err().to_string();
    assert!(
        found.contains("`notes.txt`") && found.contains("not replaced"),
        "{found}"
    );
    let found = RolloutWriter::create(path.join("notes.txt"), 4, 2, &Description::default()).unwrap_err();
    assert!(found.to_string().contains("this is a file"), "{found}");
}

#[test]
fn episodes_that_differ_from_the_first_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for layout in [Layout::Flat, Layout::Rollouts] {
        let path = folder.path().join(format!("{layout:?}"));
        let mut writer = LayoutWriter::create(layout, &path, 4, 2, &Description::default()).unwrap();
        writer.append(&pictured(5, 0)).unwrap();
        let sized = |size| Episode {
            images: Some(images(5, size, 0)),
            ..pictured(5, 0)
        };
        let mut short = pictured(5, 0);
        short.images.as_mut().unwrap().bytes.pop();
        let mut other = pictured(5, 0);
        other.infos.remove("qpos");
        for (bad, part) in [
            (episode(5, 4, 2, 0), "`images` are missing"),
            (sized([5, 6]), "5 x 6 pixels, in the first episode 6 x 5"),
            (sized([0, 6]), "sides of 1 to 2048, found 0 x 6"),
            (short, "should hold 450 bytes for 5 pictures of 6 x 5, found 449"),
            (other, "`infos/qpos` is missing"),
            (episode(5, 3, 2, 0), "`observations` should hold 20"),
        ] {
            let found = writer.append(&bad).unwrap_err().to_string();
            assert!(found.contains(part), "{part:?} is missing in: {found}");
        }
        writer.append(&pictured(3, 1)).unwrap();
        assert_eq!(writer.episodes(), 2);
        writer.finish().unwrap();
        assert_eq!(all_of(&path), [pictured(5, 0), pictured(3, 1)]);
    }
}

/// Runs only where python3 has numpy and h5py.
#[test]
fn h5py_reads_our_rollouts() {
    let python = |arguments: &[&str]| std::process::Command::new("python3").args(arguments).output();
    if !python(&["-c", "import numpy, h5py"]).is_ok_and(|output| output.status.success()) {
        println!("skipped: python3 with numpy and h5py is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rollouts");
    write_rollouts(&path, &[pictured(50, 0), pictured(20, 1)]);
    let script = r#"
import sys, os, h5py, numpy as np
assert sorted(os.listdir(sys.argv[1])) == ["rollout_000000.h5", "rollout_000001.h5"]
f = h5py.File(os.path.join(sys.argv[1], "rollout_000001.h5"))
assert f["traj_per_file"][()] == 1
t = f["traj0"]
assert t["states"].shape == (20, 4) and t["states"].dtype == np.float32
assert t["actions"].shape == (20, 2) and t["pad_mask"].shape == (20,) and (t["pad_mask"][:] == 1).all()
assert t["rewards"].shape == (20,) and t["timeouts"][19] and not t["terminals"][:].any()
i = t["images"]
assert i.shape == (20, 6, 5, 3) and i.dtype == np.uint8 and i.compression == "gzip"
assert i.chunks[1:] == (6, 5, 3)
at = np.arange(20 * 90)
assert (i[:].ravel() == (at * 7 + at // 13 + 31) % 256).all()
assert t["infos/qpos"].dtype == np.float64
"#;
    let output = python(&["-c", script, path.to_str().unwrap()]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn inspection_understands_folders_and_pictures() {
    let inspection = Inspection::of(foreign(), &InspectOptions::default()).unwrap();
    let text = inspection.to_string();
    println!("{text}");
    assert_eq!(inspection.lengths, [11, 6, 13]);
    assert_eq!(
        inspection.pictures,
        Some(PictureReport::Stored {
            count: 30,
            height: 6,
            width: 5
        })
    );
    for part in [
        "3 episodes, 30 steps, observations of 4, actions of 2, 2 files",
        "pictures       30 stored, 6 x 5 pixels",
        "no `rewards`",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    // A maze's file: no pictures, but what they are drawn from. Its sizes are those of the kitchen, its scene is not.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maze.hdf5");
    let description = Description {
        scene: "maze".to_owned(),
        ..Description::default()
    };
    let mut writer = EpisodeWriter::create(&path, 60, 9, &description).unwrap();
    for number in 0..3 {
        let mut episode = episode(20, 60, 9, 0);
        episode
            .infos
            .insert("layout".into(), Column::i64(1, vec![number / 2; 20]));
        episode.infos.insert("gaze".into(), Column::f64(2, vec![0.5; 40]));
        writer.append(&episode).unwrap();
    }
    writer.finish().unwrap();
    let inspection = Inspection::of(&path, &InspectOptions::default()).unwrap();
    let text = inspection.to_string();
    println!("{text}");
    assert!(inspection.elements.is_empty());
    for part in [
        "none stored; a scene with pixels can draw them from infos (qpos, layout, gaze)",
        "layouts        2 different",
        "infos          contacts, gaze, layout, qpos, sequence, speed, ticks",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::read(fixture("terminals_only")).unwrap();
    for (layout, name) in [
        (Layout::Flat, "out.hdf5"),
        (Layout::Rollouts, "out"),
        (Layout::Minari, "out-v0"),
    ] {
        let mut told = Vec::new();
        let written = super::super::convert(&dataset, folder.path().join(name), layout, |episodes| {
            told.push(episodes);
            episodes < 2
        });
        assert_eq!((written.unwrap(), told), (None, vec![0, 1, 2]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{name}");
    }
}
