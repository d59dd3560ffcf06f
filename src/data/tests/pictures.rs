//! Pictures of windows: stored in memory, stored in files, and drawn.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;

use super::super::images::resize;
use super::rollouts::{images, pictured, write_rollouts};
use super::*;

fn with_memory(image_memory: u64) -> ReadOptions {
    ReadOptions {
        image_memory,
        ..ReadOptions::default()
    }
}

fn write_flat(path: &Path, episodes: &[Episode]) {
    let mut writer = EpisodeWriter::create(path, 4, 2, &Description::default()).unwrap();
    for episode in episodes {
        writer.append(episode).unwrap();
    }
    writer.finish().unwrap();
}

fn sampler(dataset: &Arc<Dataset>, length: usize) -> WindowSampler {
    let sequences = dataset.sequences().iter().cloned();
    WindowSampler::new(dataset.clone(), sequences, WindowConfig::new(length)).unwrap()
}

fn windows(sampler: &WindowSampler, count: usize) -> Vec<Window> {
    let mut stream = rng::stream(3, Purpose::Batches, 0, 0);
    (0..count).map(|_| sampler.draw(&mut stream)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn pictures_read_window_by_window_are_those_kept_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let [flat, rollouts] = ["flat.hdf5", "rollouts"].map(|name| folder.path().join(name));
    // More files than stay open, and more pictures than a chunk holds.
    let episodes: Vec<Episode> = (0..30).map(|number| pictured(12 + 37 * (number % 3), number)).collect();
    write_flat(&flat, &episodes);
    write_rollouts(&rollouts, &episodes);
    let length = 12;
    let mut found = Vec::new();
    for path in [&flat, &rollouts] {
        // One picture has 90 bytes: a limit of one forces streaming, the default keeps all.
        for (limit, kept) in [(90, false), (2 << 30, true)] {
            let dataset = Arc::new(Dataset::read_with(path, &with_memory(limit)).unwrap());
            assert!(
                dataset.images().unwrap().kept().is_none(),
                "nobody has asked for pictures yet"
            );
            for size in [6, 4] {
                let mut sampler = sampler(&dataset, length).with_pixels(size, length, None).unwrap();
                assert_eq!(dataset.images().unwrap().kept().is_some(), kept);
                let drawn = windows(&sampler, 100);
                found.push((size, bits(&sampler.pixels(&drawn).unwrap().unwrap())));
            }
        }
    }
    for pair in found.chunks(2).collect::<Vec<_>>().windows(2) {
        assert!(pair[0] == pair[1]);
    }

    // And they are the right ones.
    let dataset = Arc::new(Dataset::read_with(&rollouts, &with_memory(0)).unwrap());
    let mut sampler = sampler(&dataset, length).with_pixels(5, length, None).unwrap();
    let drawn = windows(&sampler, 20);
    let pixels = sampler.pixels(&drawn).unwrap().unwrap();
    let (mut between, mut expected) = (Vec::new(), vec![0; 75]);
    for (window, pixels) in drawn.iter().zip(pixels.chunks_exact(length * 75)) {
        let all = &episodes[window.sequence].images.as_ref().unwrap().bytes;
        for (row, pixels) in pixels.chunks_exact(75).enumerate() {
            let at = (window.start + row) * 90;
            resize(&all[at..at + 90], [6, 5], 5, &mut between, &mut expected);
            for (place, &value) in pixels.iter().enumerate() {
                let byte = expected[place % 25 * 3 + place / 25];
                assert_eq!(value, f32::from(byte) / 255.0 * 2.0 - 1.0);
            }
        }
    }
}

#[test]
fn bytes_become_numbers_from_minus_one_to_one() {
    let mut episode = episode(4, 4, 2, 0);
    let bytes = [0_u8, 255, 51, 102]
        .iter()
        .flat_map(|&value| [value, 255 - value, 7])
        .collect();
    episode.images = Some(Images {
        height: 1,
        width: 1,
        bytes,
    });
    let dataset = Arc::new(Dataset::from_episodes(4, 2, [&episode]).unwrap());
    let mut sampler = sampler(&dataset, 4).with_pixels(1, 4, None).unwrap();
    let mut stream = rng::stream(0, Purpose::Batches, 0, 0);
    let batch = sampler.sample_windows(2, &mut stream, &Device::Cpu).unwrap();
    let pixels = batch.pixels.unwrap();
    assert_eq!(pixels.dims(), [2, 4, 3, 1, 1]);
    let pixels: Vec<f32> = pixels.flatten_all().unwrap().to_vec1().unwrap();
    let seven = 7.0 / 255.0 * 2.0 - 1.0;
    let expected = [-1.0, 1.0, seven, 1.0, -1.0, seven, -0.6, 0.6, seven, -0.2, 0.2, seven];
    for (found, expected) in pixels.iter().zip(expected.iter().chain(&expected)) {
        assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
    }
}

/// Numbers from PIL 13 (`Image.resize(..., Image.BILINEAR)`), second channel.
#[test]
fn resizing_is_bilinear_as_in_pil() {
    let picture = |height: usize, width: usize| -> Vec<u8> {
        let mut bytes = Vec::new();
        for y in 0..height {
            for x in 0..width {
                bytes.extend((0..3).map(|c| (37 * y * y + 91 * x + 53 * c * x + 17 * c + 11 * y * x) as u8));
            }
        }
        bytes
    };
    let cases: [(usize, usize, usize, &[u8], u64); 3] = [
        (
            6,
            5,
            4,
            &[68, 134, 102, 114, 119, 146, 138, 94, 84, 101, 161, 72, 130, 98, 83, 132],
            5600,
        ),
        (
            3,
            4,
            7,
            &[
                17, 68, 151, 105, 59, 142, 193, 22, 74, 158, 113, 65, 128, 166, 38, 91, 178, 136, 83, 85, 87, 54, 109,
                198, 159, 101, 43, 7, 102, 119, 148, 159, 158, 103, 69, 149, 130, 98, 158, 216, 163, 130, 165, 133, 81,
                158, 235, 183, 151,
            ],
            17581,
        ),
        (9, 9, 2, &[119, 123, 113, 116], 1468),
    ];
    for (height, width, to, expected, sum) in cases {
        let mut out = vec![0; to * to * 3];
        resize(&picture(height, width), [height, width], to, &mut Vec::new(), &mut out);
        let second: Vec<u8> = out.iter().skip(1).step_by(3).copied().collect();
        assert_eq!(second, expected);
        // PIL counts in fixed point, which turns some halves the other way.
        let found = out.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        assert!(found.abs_diff(sum) <= out.len() as u64 / 16, "{found} for {sum}");
    }
    // The same size changes nothing.
    let same = picture(8, 8);
    let mut out = vec![0; same.len()];
    resize(&same, [8, 8], 8, &mut Vec::new(), &mut out);
    assert_eq!(out, same);
}

/// Colours every pixel by what it is given.
#[derive(Default, Clone)]
struct Colours {
    drawn: Arc<AtomicUsize>,
    needs_layout: bool,
}

impl Paint for Colours {
    fn size(&self) -> usize {
        3
    }

    fn paint(
        &mut self,
        layout: Option<i64>,
        qpos: &[f64],
        gaze: Option<[f64; 2]>,
        out: &mut [u8],
    ) -> Result<(), String> {
        self.drawn.fetch_add(1, Ordering::Relaxed);
        if self.needs_layout && layout.is_none() {
            return Err("the number of the maze is missing (`infos/layout`)".to_owned());
        }
        let layout = layout.unwrap_or(100) as u8;
        let gaze = gaze.map_or(200, |gaze| (gaze[0] + 10.0 * gaze[1]) as u8);
        for (channel, pixels) in out.chunks_exact_mut(9).enumerate() {
            pixels.fill([layout, qpos[1] as u8, gaze][channel]);
        }
        Ok(())
    }

    fn another(&self) -> Box<dyn Paint> {
        Box::new(self.clone())
    }
}

/// An episode from which pictures can be drawn, if it is complete.
fn drawable(steps: usize, number: usize, complete: bool) -> Episode {
    let mut drawable = episode(steps, 4, 2, number);
    let rows = 0..steps;
    let qpos = rows
        .clone()
        .flat_map(|row| [-1.0, (number * 20 + row) as f64])
        .collect();
    drawable.infos = [("qpos".to_owned(), Column::f64(2, qpos))].into();
    if complete {
        let gaze = rows.flat_map(|row| [row as f64, number as f64]).collect();
        drawable.infos.insert("gaze".into(), Column::f64(2, gaze));
        drawable
            .infos
            .insert("layout".into(), Column::i64(1, vec![number as i64; steps]));
    }
    drawable
}

#[test]
fn pictures_are_drawn_from_recorded_states() {
    let episodes = [drawable(9, 0, true), drawable(14, 1, true), drawable(11, 2, true)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rollouts");
    write_rollouts(&path, &episodes);
    let dataset = Arc::new(Dataset::read_with(&path, &with_infos(&PAINTED_FROM)).unwrap());
    let painter = Colours::default();
    let mut sampler = sampler(&dataset, 6).with_pixels(3, 6, Some(painter.another())).unwrap();
    let drawn = windows(&sampler, 64);
    let before = painter.drawn.load(Ordering::Relaxed);
    let pixels = sampler.pixels(&drawn).unwrap().unwrap();
    assert_eq!(painter.drawn.load(Ordering::Relaxed) - before, 64 * 6);
    for (at, &value) in pixels.iter().enumerate() {
        let (window, row, channel) = (drawn[at / (6 * 27)], at / 27 % 6, at / 9 % 3);
        let step = window.start + row;
        let byte = [
            window.sequence,
            window.sequence * 20 + step,
            step + 10 * window.sequence,
        ][channel];
        assert_eq!(value, byte as f32 / 255.0 * 2.0 - 1.0);
    }
    // Any number of threads draws the same.
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut copy = sampler.clone();
        let again = pool.install(|| copy.pixels(&drawn).unwrap().unwrap());
        assert_eq!(bits(&again), bits(&pixels));
    }
    // Only the rows that are looked at are drawn, and their pictures are the same.
    let mut short = super::pictures::sampler(&dataset, 6)
        .with_pixels(3, 2, Some(painter.another()))
        .unwrap();
    let before = painter.drawn.load(Ordering::Relaxed);
    let beginnings = short.pixels(&drawn).unwrap().unwrap();
    assert_eq!(painter.drawn.load(Ordering::Relaxed) - before, 64 * 2);
    for (whole, beginning) in pixels.chunks_exact(6 * 27).zip(beginnings.chunks_exact(2 * 27)) {
        assert_eq!(bits(&whole[..2 * 27]), bits(beginning));
    }
    for frames in [0, 7] {
        let refused = super::pictures::sampler(&dataset, 6).with_pixels(3, frames, Some(painter.another()));
        assert!(refused.unwrap_err().to_string().contains("expected 1 to 6"));
    }
    // Where the scene has neither layouts nor a gaze, they are left out.
    let plain = Arc::new(Dataset::from_episodes(4, 2, [&drawable(9, 0, false)]).unwrap());
    let mut sampler = super::pictures::sampler(&plain, 2)
        .with_pixels(3, 2, Some(painter.another()))
        .unwrap();
    let first = Window { sequence: 0, start: 0 };
    let pixels = sampler.pixels(&[first]).unwrap().unwrap();
    assert_eq!(
        (pixels[0], pixels[18]),
        (100.0 / 255.0 * 2.0 - 1.0, 200.0 / 255.0 * 2.0 - 1.0)
    );
}

#[test]
fn pictures_change_neither_the_windows_nor_the_numbers() {
    let episodes = [pictured(20, 0), pictured(30, 1)];
    let dataset = Arc::new(Dataset::from_episodes(4, 2, &episodes).unwrap());
    let mut plain = sampler(&dataset, 7);
    let mut with = sampler(&dataset, 7).with_pixels(6, 7, None).unwrap();
    let mut streams = [0, 1].map(|_| rng::stream(4, Purpose::Batches, 0, 0));
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for _ in 0..3 {
        let (states, actions) = plain.sample(5, &mut streams[0], &Device::Cpu).unwrap();
        let batch = with.sample_windows(5, &mut streams[1], &Device::Cpu).unwrap();
        assert_eq!(values(&states), values(&batch.states));
        assert_eq!(values(&actions), values(&batch.actions));
        assert_eq!(batch.pixels.unwrap().dims(), [5, 7, 3, 6, 6]);
    }
    let batch = plain.sample_windows(5, &mut streams[0], &Device::Cpu).unwrap();
    assert!(batch.pixels.is_none() && plain.pixels(&[]).unwrap().is_none());
    assert!(with.pixels(&[Window { sequence: 0, start: 14 }]).is_err());
}

#[test]
fn missing_pictures_are_explained() {
    let without = Arc::new(
        Dataset::from_episodes(
            4,
            2,
            [&Episode {
                infos: std::collections::BTreeMap::new(),
                ..episode(9, 4, 2, 0)
            }],
        )
        .unwrap(),
    );
    let incomplete = Arc::new(Dataset::from_episodes(4, 2, [&drawable(9, 0, false)]).unwrap());
    let stored = Arc::new(Dataset::from_episodes(4, 2, [&pictured(9, 0)]).unwrap());
    let colours = |needs_layout| -> Option<Box<dyn Paint>> {
        Some(Box::new(Colours {
            needs_layout,
            ..Colours::default()
        }))
    };
    for (dataset, size, painter, parts) in [
        (&without, 3, None, ["no `images`", "`observation.pixels`"]),
        (
            &without,
            3,
            colours(false),
            ["no `infos/qpos`", "collect the demonstrations anew"],
        ),
        (
            &incomplete,
            3,
            colours(true),
            ["row 0 cannot be drawn", "`infos/layout`"],
        ),
        (&incomplete, 5, colours(false), ["3 pixels a side", "takes 5"]),
        (&stored, 0, None, ["at least 1 pixel", "found 0"]),
    ] {
        let found = sampler(dataset, 3)
            .with_pixels(size, 3, painter)
            .unwrap_err()
            .to_string();
        println!("{found}");
        assert!(
            parts.iter().all(|part| found.contains(part)),
            "{parts:?} is missing in: {found}"
        );
    }
    let config = WindowConfig {
        pad_front: 2,
        ..WindowConfig::new(3)
    };
    let padded = WindowSampler::new(stored.clone(), stored.sequences().iter().cloned(), config).unwrap();
    assert!(
        padded
            .with_pixels(3, 3, None)
            .unwrap_err()
            .to_string()
            .contains("pad_front")
    );
}

#[test]
fn strange_pictures_do_not_stop_those_who_need_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flat.hdf5");
    write_flat(&path, &[pictured(9, 0)]);
    {
        let file = hdf5::File::open_rw(&path).unwrap();
        file.unlink("images").unwrap();
        file.new_dataset::<u8>().shape((9, 3, 6, 5)).create("images").unwrap();
    }
    let dataset = Arc::new(Dataset::read(&path).unwrap());
    assert_eq!(dataset.len(), 9);
    let found = sampler(&dataset, 3).with_pixels(5, 3, None).unwrap_err().to_string();
    println!("{found}");
    assert!(
        found.contains("[9, 3, 6, 5]") && found.contains("[9, height, width, 3]"),
        "{found}"
    );
}

#[test]
fn a_claim_of_many_pictures_reserves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claim.hdf5");
    write_flat(&path, &[pictured(9, 0)]);
    {
        let file = hdf5::File::open_rw(&path).unwrap();
        file.unlink("images").unwrap();
        let builder = file.new_dataset::<u8>().chunk((1, 2048, 2048, 3)).deflate(4);
        builder.shape((9, 2048, 2048, 3)).create("images").unwrap();
    }
    let dataset = Dataset::read(&path).unwrap();
    assert!(dataset.images().is_none());
    assert!(dataset.notes()[0].contains("0 bytes stored"), "{:?}", dataset.notes());
}

#[test]
fn files_that_change_while_they_are_read_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rollouts");
    write_rollouts(&path, &[pictured(9, 0), pictured(8, 1), pictured(8, 2)]);
    let dataset = Arc::new(Dataset::read_with(&path, &with_memory(0)).unwrap());
    let mut sampler = sampler(&dataset, 8).with_pixels(5, 8, None).unwrap();
    let window = |sequence| [Window { sequence, start: 0 }];
    sampler.pixels(&window(0)).unwrap();
    std::fs::remove_file(path.join("rollout_000001.h5")).unwrap();
    let found = sampler.pixels(&window(1)).unwrap_err().to_string();
    assert!(
        found.contains("rollout_000001.h5") && found.contains("no such file"),
        "{found}"
    );
    {
        let file = hdf5::File::open_rw(path.join("rollout_000002.h5")).unwrap();
        file.unlink("traj0/images").unwrap();
    }
    let found = sampler.pixels(&window(2)).unwrap_err().to_string();
    assert!(
        found.contains("rollout_000002.h5") && found.contains("changed"),
        "{found}"
    );
    let mut bytes = Vec::new();
    assert!(dataset.images().unwrap().read(20..40, &mut bytes).is_err());
    assert_eq!(dataset.images().unwrap().files().len(), 3);
}

/// A heap that leads nowhere is put among the pictures, where it harms nobody: only who looks finds it.
#[test]
fn files_are_looked_through_again_only_if_they_have_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flat.hdf5");
    write_flat(&path, &[pictured(9, 0)]);
    let stored = vec![7_u8; 9 * 6 * 5 * 3];
    {
        let file = hdf5::File::open_rw(&path).unwrap();
        file.unlink("images").unwrap();
        let dataset = file.new_dataset::<u8>().shape((9, 6, 5, 3)).create("images").unwrap();
        dataset.write_raw(&stored).unwrap();
    }
    let dataset = Dataset::read_with(&path, &with_memory(0)).unwrap();
    let known = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(stored.len())
        .position(|window| *window == *stored)
        .unwrap();
    bytes[at..at + 32].fill(0);
    bytes[at..at + 5].copy_from_slice(b"GCOL\x01");
    bytes[at + 8] = 64;
    std::fs::write(&path, bytes).unwrap();
    let changed = |time| {
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(time).unwrap();
        let mut read = Vec::new();
        let found = dataset.images().unwrap().read(0..9, &mut read);
        found.map(|()| read).map_err(|error| error.to_string())
    };
    let later = known + std::time::Duration::from_secs(2);
    let found = changed(later).unwrap_err();
    assert!(found.contains("free space of size 0"), "{found}");
    let read = changed(known).unwrap();
    assert_eq!(read[32..], stored[32..], "and what is read is what is there");
}

#[test]
fn pictures_of_chunked_files_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chunks.hdf5");
    let all = images(20, [2, 2], 5);
    let whole = Episode {
        images: Some(all.clone()),
        ..episode(20, 4, 2, 0)
    };
    {
        let file = hdf5::File::create(&path).unwrap();
        for (number, rows) in [0..3, 3..16, 16..20].into_iter().enumerate() {
            let group = file.create_group(&format!("virtual/{number}")).unwrap();
            let put = |name: &str, width: usize, values: &[f32]| {
                let values = &values[rows.start * width..rows.end * width];
                let dataset = group
                    .new_dataset::<f32>()
                    .shape((rows.len(), width))
                    .create(name)
                    .unwrap();
                dataset.write_raw(values).unwrap();
            };
            put("observations", 4, &whole.observations);
            put("actions", 2, &whole.actions);
            put("rewards", 1, &whole.rewards);
            let ends: Vec<f32> = whole.terminals.iter().map(|&end| f32::from(u8::from(end))).collect();
            put("terminals", 1, &ends);
            let dataset = group
                .new_dataset::<u8>()
                .shape((rows.len(), 2, 2, 3))
                .create("images")
                .unwrap();
            dataset.write_raw(&all.bytes[rows.start * 12..rows.end * 12]).unwrap();
        }
    }
    let dataset = Dataset::read_with(&path, &with_memory(0)).unwrap();
    let mut bytes = Vec::new();
    for rows in [0..20, 2..17, 3..4, 15..16, 15..17] {
        dataset.images().unwrap().read(rows.clone(), &mut bytes).unwrap();
        assert_eq!(bytes, all.bytes[rows.start * 12..rows.end * 12]);
    }
    assert_eq!(dataset.whole_episode(0).unwrap().unwrap().images, Some(all));
}

#[test]
fn presets_share_out_as_the_original_does() {
    let counts = |split: Split| {
        let Partition { train, validation } = split.apply(1000).unwrap();
        (train.len(), validation.len())
    };
    assert_eq!(counts(Split::spirl_maze()), (900, 100));
    assert_eq!(counts(Split::spirl_blocks()), (950, 50));
}
