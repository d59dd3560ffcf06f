//! Minari's datasets: those of the package itself, our own, and malformed ones.

use super::rollouts::{images, pictured};
use super::*;

fn real(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/minari")
        .join(name)
}

fn every_info() -> ReadOptions {
    ReadOptions {
        every_info: true,
        ..ReadOptions::default()
    }
}

fn write_minari(path: &Path, episodes: &[Episode]) -> Written {
    let mut writer = MinariWriter::create(path, 4, 2, &Description::default()).unwrap();
    for episode in episodes {
        writer.append(episode).unwrap();
    }
    writer.finish().unwrap()
}

fn all_of(path: &Path) -> Vec<Episode> {
    let dataset = Dataset::read_with(path, &every_info()).unwrap();
    (0..dataset.sequences().len())
        .map(|number| dataset.whole_episode(number).unwrap().unwrap())
        .collect()
}

#[test]
fn reads_what_minari_writes() {
    for path in ["plain-v3", "plain-v3/data", "plain-v3/data/main_data.hdf5"] {
        let dataset = Dataset::read(real(path)).unwrap();
        check_content(&dataset);
        assert_eq!((dataset.notes(), dataset.unterminated()), (&[][..], 0));
        assert_eq!(dataset.attributes()["dataset_id"], "plain-v3");
        assert_eq!(dataset.attributes()["total_steps"], "33");
        assert_eq!(dataset.attributes()["ref_max_score"], "4.0");
        assert!(!dataset.attributes().contains_key("observation_space"));
        let ends = |flags: &[bool]| flags.iter().filter(|flag| **flag).count();
        assert_eq!((ends(dataset.terminals()), ends(dataset.timeouts())), (2, 1));
        // The observation after the last step.
        let last = dataset.episode(1).unwrap().final_observation.unwrap();
        assert_eq!(last, [18.5, 18.625, 18.75, 18.875]);
    }
}

#[test]
fn dict_observations_are_read_in_part() {
    let dataset = Dataset::read_with(real("goals/dict-v0"), &every_info()).unwrap();
    check_content(&dataset);
    let notes = dataset.notes();
    assert!(
        notes.contains(
            &"of the dict observations `observation` was read, and `pixels` as pictures; left out: `achieved_goal`, \
              `desired_goal`"
                .to_owned()
        ),
        "{notes:?}"
    );
    assert!(
        notes[0].contains("`episode_0/infos/nested` is not an array"),
        "{notes:?}"
    );
    let episode = dataset.whole_episode(1).unwrap().unwrap();
    assert_eq!(episode.infos["count"], Column::i64(1, (12..19).collect()));
    let pictures = episode.images.unwrap();
    assert_eq!((pictures.size(), pictures.bytes.len()), ([6, 5], 7 * 90));
    for (at, &byte) in pictures.bytes.iter().enumerate() {
        assert_eq!(usize::from(byte), (at % 90 + 7 * (12 + at / 90)) % 256);
    }
    let inspection = Inspection::of(real("goals/dict-v0"), &InspectOptions::default()).unwrap();
    let text = inspection.to_string();
    println!("{text}");
    for part in [
        "3 episodes, 33 steps, observations of 4, actions of 2",
        "minari_version",
        "33 stored, 6 x 5 pixels",
        "left out: `achieved_goal`",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn episodes_come_back_as_they_were(
        lengths in prop::collection::vec(1_usize..40, 1..14),
        pictures: bool,
        known: bool,
    ) {
        let episodes: Vec<Episode> = lengths
            .iter()
            .enumerate()
            .map(|(number, &steps)| Episode {
                final_observation: known.then(|| vec![0.5, -1.5, number as f32, 7.0]),
                images: pictures.then(|| images(steps, [6, 5], number)),
                ..episode(steps, 4, 2, number)
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let [minari, flat, again] = ["demos-v0", "flat.hdf5", "again-v1"].map(|name| folder.path().join(name));
        let written = write_minari(&minari, &episodes);
        prop_assert_eq!((written.episodes, written.steps), (lengths.len(), lengths.iter().sum::<usize>()));
        prop_assert_eq!(&all_of(&minari), &episodes);
        convert(&minari, &again, Layout::Minari);
        prop_assert_eq!(&all_of(&again), &episodes);
        // Other layouts do not hold the last observation.
        convert(&minari, &flat, Layout::Flat);
        convert(&flat, &again, Layout::Minari);
        let mut without = episodes;
        without.iter_mut().for_each(|episode| episode.final_observation = None);
        prop_assert_eq!(&all_of(&again), &without);
    }
}

#[test]
fn conversion_keeps_the_description_and_what_minari_says() {
    let folder = tempfile::tempdir().unwrap();
    let [flat, minari, back] = ["flat.hdf5", "mine-v0", "back.hdf5"].map(|name| folder.path().join(name));
    write(&flat, &[episode(5, 3, 2, 0), episode(6, 3, 2, 1)], 3, 2);
    convert(&flat, &minari, Layout::Minari);
    convert(&minari, &back, Layout::Flat);
    let attributes = |path: &Path| Dataset::read(path).unwrap().attributes().clone();
    assert_eq!(attributes(&back), attributes(&flat));
    assert_eq!(attributes(&minari)["dataset_id"], "mine-v0");
    assert_eq!(attributes(&minari)["layout"], "Minari");
    // Of a foreign dataset the authors stay a list.
    convert(real("plain-v3"), &minari, Layout::Minari);
    let text = std::fs::read_to_string(minari.join("data/metadata.json")).unwrap();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut authors: Vec<&str> = found["author"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    authors.sort_unstable();
    assert_eq!(authors, ["A", "B"]);
    assert_eq!(
        (found["total_steps"].as_u64(), found["ref_max_score"].as_f64()),
        (Some(33), Some(4.0))
    );
    assert_eq!(found["dataset_id"], "mine-v0");
}

/// A dataset with two good episodes, the second of which has been changed.
fn changed(change: &dyn Fn(&hdf5::File)) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demos-v0");
    write_minari(&path, &[episode(5, 4, 2, 0), episode(6, 4, 2, 1)]);
    let file = hdf5::File::open_rw(path.join("data/main_data.hdf5")).unwrap();
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
fn every_malformed_episode_is_named() {
    type Change<'a> = (&'a dyn Fn(&hdf5::File), &'a [&'a str]);
    let cases: &[Change] = &[
        (
            &|f| f.unlink("episode_1/observations").unwrap(),
            &["`episode_1/observations`", "no such dataset"],
        ),
        (
            &|f| f.unlink("episode_1/actions").unwrap(),
            &["`episode_1/actions`", "no such dataset"],
        ),
        (
            &|f| f.unlink("episode_1/rewards").unwrap(),
            &["`episode_1/rewards`", "no such dataset"],
        ),
        (
            &|f| f.relink("episode_1", "episode_2").unwrap(),
            &["`episode_1`", "numbered from 0", "`episode_2` after 1"],
        ),
        (
            &|f| {
                f.unlink("episode_1").unwrap();
                f.new_dataset::<f32>().shape(3).create("episode_1").unwrap();
            },
            &["`episode_1`", "a group with one episode"],
        ),
        (
            &|f| replace(f, "episode_1/observations", &[8, 4], &[0.0_f32; 32]),
            &["`episode_1/observations`", "7 rows, one more than `actions`", "8 rows"],
        ),
        (
            &|f| replace(f, "episode_1/observations", &[7, 3], &[0.0_f32; 21]),
            &[
                "`episode_1/observations`",
                "4 columns, as in the first episode",
                "3 columns",
            ],
        ),
        (
            &|f| replace(f, "episode_1/observations", &[7, 2, 2], &[0.0_f32; 28]),
            &["`episode_1/observations`", "[steps + 1, observation size]", "[7, 2, 2]"],
        ),
        (
            &|f| replace(f, "episode_1/actions", &[6, 3], &[0.0_f32; 18]),
            &["`episode_1/actions`", "2 columns, as in the first episode", "3 columns"],
        ),
        (
            &|f| replace(f, "episode_1/actions", &[6], &[0_i64; 6]),
            &["`episode_1/actions`", "continuous", "discrete actions"],
        ),
        (
            &|f| replace(f, "episode_1/actions", &[0, 2], &[0.0_f32; 0]),
            &["`episode_1/actions`", "at least one row"],
        ),
        (
            &|f| {
                f.unlink("episode_1/actions").unwrap();
                f.create_group("episode_1/actions/_index_0").unwrap();
            },
            &["`episode_1/actions`", "a Dict or Tuple space", "`_index_0`"],
        ),
        (
            &|f| {
                f.unlink("episode_1/observations").unwrap();
                f.create_group("episode_1/observations/kettle").unwrap();
            },
            &["`episode_1/observations`", "`observation` or `state`", "`kettle`"],
        ),
        (
            &|f| replace(f, "episode_1/rewards", &[6, 2], &[0.0_f32; 12]),
            &["`episode_1/rewards`", "[6] or [6, 1], as `actions`", "[6, 2]"],
        ),
        (
            &|f| replace(f, "episode_1/truncations", &[5], &[0_u8; 5]),
            &["`episode_1/truncations`", "[6] or [6, 1], as `actions`", "[5]"],
        ),
        (
            &|f| replace(f, "episode_1/observations", &[7, 4], &[f32::NAN; 28]),
            &["`episode_1/observations`", "28 values", "row 0"],
        ),
        (
            &|f| {
                f.unlink("episode_1/observations").unwrap();
                let builder = f.new_dataset::<f32>().chunk((1024, 4)).deflate(4);
                builder
                    .shape((1_usize << 40, 4))
                    .create("episode_1/observations")
                    .unwrap();
            },
            &["`episode_1/observations`", "1099511627776 x 4 values", "0 bytes stored"],
        ),
        (
            &|f| {
                f.unlink("episode_1").unwrap();
                f.link_external("other.hdf5", "/episode_1", "episode_1").unwrap();
            },
            &["`episode_1`", "link to another file"],
        ),
    ];
    for (change, parts) in cases {
        let (_folder, path) = changed(change);
        let found = message(&path);
        println!("{found}");
        for part in parts.iter().chain(&["main_data.hdf5", "expected", "found"]) {
            assert!(found.contains(part), "{part:?} is missing in: {found}");
        }
        assert!(!found.contains('\n') && found.len() < 500, "{found}");
    }
}

#[test]
fn what_does_not_matter_is_noted() {
    let (_folder, path) = changed(&|file| {
        for name in ["terminations", "truncations", "infos"] {
            file.unlink(&format!("episode_1/{name}")).unwrap();
        }
        // As some tools write them: no observation after the last step.
        replace(file, "episode_1/observations", &[6, 4], &[1.0_f32; 24]);
        let steps = file.group("episode_1").unwrap().attr("total_steps").unwrap();
        steps.write_scalar(&9_i64).unwrap();
    });
    std::fs::write(
        path.join("data/metadata.json"),
        "{\"total_episodes\": 5, \"author\": [\"a\"]}",
    )
    .unwrap();
    let dataset = Dataset::read_with(&path, &every_info()).unwrap();
    assert_eq!(dataset.sequences(), [0..5, 5..11]);
    assert_eq!((dataset.terminals()[10], dataset.timeouts()[10]), (false, true));
    assert!(dataset.infos().is_empty());
    let notes = dataset.notes().join("\n");
    for part in [
        "`episode_1` says that it has 9 steps, but its arrays have 6",
        "the metadata count 5 episodes, but there are 2",
        "1 of 2 episodes end without termination or truncation",
        "2 of 2 episodes lack the observation after the last step",
    ] {
        assert!(notes.contains(part), "{part:?} is missing in:\n{notes}");
    }
    // Metadata that cannot be read do not stand in the way.
    std::fs::write(path.join("data/metadata.json"), "{\"total_episodes\": NaN}").unwrap();
    let dataset = Dataset::read(&path).unwrap();
    assert!(
        dataset.notes()[0].contains("`metadata.json` is ignored"),
        "{:?}",
        dataset.notes()
    );
    std::fs::remove_file(path.join("data/metadata.json")).unwrap();
    assert_eq!(Dataset::read(&path).unwrap().len(), 11);
}

#[test]
fn other_storage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("arrow-v0/data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("metadata.json"), "{\"data_format\": \"arrow\"}").unwrap();
    for path in [data.clone(), folder.path().join("arrow-v0")] {
        let found = message(path);
        assert!(
            found.contains("stored as `arrow`") && found.contains("`hdf5`"),
            "{found}"
        );
    }
    // A folder of several datasets.
    write_minari(&folder.path().join("one-v0"), &[episode(5, 4, 2, 0)]);
    let found = message(folder.path());
    assert!(found.contains("Minari") && found.contains("by itself"), "{found}");
}

#[test]
fn one_memory_limit_holds_over_all_episodes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demos-v0");
    write_minari(&path, &[episode(50, 4, 2, 0), episode(50, 4, 2, 1)]);
    // Observations, actions and three arrays with one number per step.
    let one = 4 * (51 * 4 + 50 * (2 + 3));
    let read = |memory| {
        let limits = Limits {
            memory,
            ..Limits::default()
        };
        Dataset::read_with(
            &path,
            &ReadOptions {
                limits,
                ..ReadOptions::default()
            },
        )
    };
    let found = read(one + 100).unwrap_err().to_string();
    assert!(found.contains("`episode_1/") && found.contains("MiB in all"), "{found}");
    assert_eq!(read(2 * one).unwrap().len(), 100);
}

#[test]
fn datasets_appear_whole_and_replace_only_datasets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("demos-v0");
    let entries = || std::fs::read_dir(folder.path().join("new")).unwrap().count();
    let create = || MinariWriter::create(&path, 4, 2, &Description::default());
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
    write_minari(&path, &[pictured(5, 0), pictured(3, 1)]);
    write_minari(&path, &[pictured(4, 2)]);
    assert_eq!((all_of(&path), entries()), (vec![pictured(4, 2)], 1));
    std::fs::write(path.join("data/notes.txt"), "mine").unwrap();
    let found = create().unwrap_err().to_string();
    assert!(
        found.contains("`notes.txt`") && found.contains("not replaced"),
        "{found}"
    );
    for (name, near) in [
        ("demos", "`demos-v0`"),
        ("demos.hdf5", "`demos-v0`"),
        ("a b-v1", "`ab-v1-v0`"),
        ("x-v", "-v0"),
    ] {
        let found = MinariWriter::create(folder.path().join(name), 4, 2, &Description::default());
        let found = found.unwrap_err().to_string();
        assert!(found.contains("ends in a version") && found.contains(near), "{found}");
    }
}

#[test]
fn names_below_minaris_folder_have_namespaces() {
    use super::super::minari_metadata::dataset_id;
    let all = Path::new("/home/me/.minari/datasets");
    let id = |path: &str| dataset_id(Path::new(path), Some(all));
    assert_eq!(
        id("/home/me/.minari/datasets/kitchen/mine-v2").unwrap(),
        "kitchen/mine-v2"
    );
    assert_eq!(id("/home/me/.minari/datasets/mine-v12/").unwrap(), "mine-v12");
    assert_eq!(id("/home/me/kitchen/mine-v2").unwrap(), "mine-v2");
    assert_eq!(id("mine-v2").unwrap(), "mine-v2");
    assert!(id("/home/me/.minari/datasets/a b/mine-v2").is_err());
}

#[test]
fn flipped_bytes_never_crash_the_reader_of_minari() {
    use rand::RngExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flipped.hdf5");
    let options = ReadOptions {
        limits: Limits {
            memory: 1 << 28,
            chunk: 1 << 26,
        },
        ..every_info()
    };
    let whole = std::fs::read(real("goals/dict-v0/data/main_data.hdf5")).unwrap();
    let mut stream = rng::stream(13, Purpose::Batches, 0, 0);
    let mut refused = 0;
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..stream.random_range(1..40) {
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

/// Runs only where python3 has Minari.
#[test]
fn minari_reads_our_datasets() {
    let python = |arguments: &[&str]| std::process::Command::new("python3").args(arguments).output();
    if !python(&["-c", "import minari, h5py"]).is_ok_and(|output| output.status.success()) {
        println!("skipped: python3 with minari and h5py is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let last = |episode: Episode| Episode {
        final_observation: Some(vec![9.0, 8.0, 7.0, 6.0]),
        ..episode
    };
    write_minari(
        &folder.path().join("plain-v0"),
        &[last(episode(50, 4, 2, 0)), last(episode(20, 4, 2, 1))],
    );
    write_minari(&folder.path().join("pictures-v1"), &[pictured(5, 0), pictured(4, 1)]);
    let large = |number| Episode {
        images: Some(images(4, [32, 40], number)),
        ..episode(4, 4, 2, number)
    };
    write_minari(&folder.path().join("large-v0"), &[large(0), large(1)]);
    let script = r#"
import os, sys
os.environ["MINARI_DATASETS_PATH"] = sys.argv[1]
import minari, numpy as np
assert sorted(minari.list_local_datasets()) == ["large-v0", "pictures-v1", "plain-v0"]
d = minari.load_dataset("plain-v0")
assert (d.total_episodes, d.total_steps, d.id) == (2, 70, "plain-v0"), d.spec
assert d.observation_space.shape == (4,) and d.action_space.shape == (2,)
e = list(d.iterate_episodes())[1]
assert e.id == 1 and len(e) == 20
assert e.observations.shape == (21, 4) and e.observations.dtype == np.float32
assert (e.observations[-1] == [9, 8, 7, 6]).all() and e.observations[0, 0] == 1
assert e.actions.shape == (20, 2) and e.rewards.shape == (20,)
assert e.terminations.dtype == bool and not e.terminations.any()
assert e.truncations[-1] and not e.truncations[:-1].any()
assert all(d.observation_space.contains(o) for o in e.observations)
assert all(d.action_space.contains(a) for a in e.actions)
assert e.infos["qpos"].shape == (21, 5) and (e.infos["qpos"][-1] == e.infos["qpos"][-2]).all()
assert len(d.sample_episodes(2)) == 2
assert [m["total_steps"] for m in d.storage.get_episode_metadata([0, 1])] == [50, 20]
assert len(d.filter_episodes(lambda e: len(e) > 30)) == 1
d = minari.MinariDataset(os.path.join(sys.argv[1], "pictures-v1", "data"))
e = d[1]
assert e.observations["observation"].shape == (5, 4) and e.observations["pixels"].shape == (5, 6, 5, 3)
assert (e.observations["pixels"][:4].ravel() == (np.arange(360) * 7 + np.arange(360) // 13 + 31) % 256).all()
s = d.observation_space
assert s.contains({k: v[0] for k, v in e.observations.items()}), s
if tuple(map(int, minari.__version__.split("."))) >= (0, 5, 4):
    e = minari.load_dataset("large-v0")[0]
    assert e.observations["pixels"].shape == (5, 32, 40, 3)
    a, b = minari.split_dataset(minari.load_dataset("plain-v0"), [1, 1])
    assert {a.total_steps, b.total_steps} == {50, 20}
    c = minari.combine_datasets([minari.load_dataset("plain-v0")] * 2, "twice-v0")
    assert c.total_steps == 140
print(minari.__version__)
"#;
    let output = python(&["-c", script, folder.path().to_str().unwrap()]).unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
