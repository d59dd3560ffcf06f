#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::rng::{Purpose, stream};

/// A transition all of whose values tell its number.
fn numbered(buffer: &mut ReplayBuffer, number: usize) -> bool {
    let value = number as f32;
    let observation = vec![value; buffer.observation_size()];
    let next = vec![value + 0.5; buffer.observation_size()];
    let action = vec![-value; buffer.action_size()];
    let picture = buffer.pixels().map_or(0, PixelDims::picture);
    let (pixels, next_pixels) = (vec![number as u8; picture], vec![number as u8 + 100; picture]);
    let end = [End::Continues, End::Terminated, End::TimedOut][number % 3];
    let transition = Transition {
        observation: &observation,
        pixels: Some(&pixels),
        action: &action,
        reward: value,
        next_observation: &next,
        next_pixels: Some(&next_pixels),
        steps: number as u32,
        end,
    };
    buffer.push(transition).expect("sizes fit")
}

proptest! {
    /// Whatever was pushed, the buffer holds exactly the last `capacity` transitions, each one whole.
    #[test]
    fn holds_the_newest_whole(capacity in 1_usize..20, pushed in 0_usize..70, s in 1_usize..4, a in 1_usize..4) {
        let mut buffer = ReplayBuffer::new(capacity, s, a).unwrap();
        for number in 0..pushed {
            prop_assert!(numbered(&mut buffer, number));
        }
        prop_assert_eq!(buffer.len(), pushed.min(capacity));
        let mut numbers: Vec<usize> = Vec::new();
        for row in 0..buffer.len() {
            let t = buffer.get(row).unwrap();
            prop_assert!(t.observation.iter().all(|&v| v == t.reward));
            prop_assert!(t.next_observation.iter().all(|&v| v == t.reward + 0.5));
            prop_assert!(t.action.iter().all(|&v| v == -t.reward));
            prop_assert_eq!(t.steps as f32, t.reward);
            prop_assert_eq!(t.end as usize, t.steps as usize % 3);
            numbers.push(t.steps as usize);
        }
        numbers.sort_unstable();
        let expected: Vec<usize> = (pushed.saturating_sub(capacity)..pushed).collect();
        prop_assert_eq!(numbers, expected);
        prop_assert!(buffer.get(buffer.len()).is_none());
    }

    /// A stored and loaded buffer is the same buffer and goes on in the same way.
    #[test]
    fn survives_a_checkpoint(capacity in 1_usize..9, pushed in 0_usize..20) {
        let mut first = ReplayBuffer::new(capacity, 2, 3).unwrap();
        for number in 0..pushed {
            numbered(&mut first, number);
        }
        let mut second = ReplayBuffer::import(&first.export().unwrap()).unwrap();
        prop_assert_eq!(&first, &second);
        numbered(&mut first, 99);
        numbered(&mut second, 99);
        prop_assert_eq!(first, second);
    }
}

#[test]
fn batches_are_whole_transitions_and_repeat_with_the_stream() {
    let mut buffer = ReplayBuffer::new(7, 2, 1).unwrap();
    let mut draws = stream(3, Purpose::Replay, 0, 0);
    assert!(matches!(buffer.sample(&mut draws, 4), Err(ReplayError::NothingStored)));
    for number in 0..10 {
        numbered(&mut buffer, number);
    }
    let mut again = draws.clone();
    let batch = buffer.sample(&mut draws, 500).unwrap();
    let reward: Vec<f32> = batch.reward.to_vec1().unwrap();
    assert_eq!(
        reward,
        buffer.sample(&mut again, 500).unwrap().reward.to_vec1::<f32>().unwrap()
    );
    for value in 3..10 {
        assert!(reward.contains(&(value as f32)), "uniform sampling reaches every row");
    }
    let observation: Vec<Vec<f32>> = batch.observation.to_vec2().unwrap();
    let terminated: Vec<f32> = batch.terminated.to_vec1().unwrap();
    let timed_out: Vec<f32> = batch.timed_out.to_vec1().unwrap();
    for row in 0..500 {
        assert_eq!(observation[row], vec![reward[row]; 2]);
        assert_eq!(terminated[row] == 1.0, reward[row] as u32 % 3 == 1);
        assert_eq!(timed_out[row] == 1.0, reward[row] as u32 % 3 == 2);
    }
}

#[test]
fn refuses_and_counts_what_is_not_finite() {
    let mut buffer = ReplayBuffer::new(4, 2, 1).unwrap();
    let good = Transition {
        observation: &[0.0, 1.0],
        pixels: None,
        action: &[0.0],
        reward: 0.0,
        next_observation: &[1.0, 2.0],
        next_pixels: None,
        steps: 1,
        end: End::Continues,
    };
    assert!(buffer.push(good).unwrap());
    assert!(
        !buffer
            .push(Transition {
                reward: f32::NAN,
                ..good
            })
            .unwrap()
    );
    assert!(
        !buffer
            .push(Transition {
                action: &[f32::INFINITY],
                ..good
            })
            .unwrap()
    );
    assert!(
        !buffer
            .push(Transition {
                next_observation: &[f32::NAN, 0.0],
                ..good
            })
            .unwrap()
    );
    assert_eq!((buffer.len(), buffer.refused()), (1, 3));
    assert!(matches!(
        buffer.push(Transition {
            action: &[0.0, 0.0],
            ..good
        }),
        Err(ReplayError::Size { .. })
    ));
}

const DIMS: PixelDims = PixelDims { frames: 2, size: 2 };

#[test]
fn pictures_travel_with_their_transitions() {
    let mut buffer = ReplayBuffer::with_pixels(5, 2, 1, DIMS).unwrap();
    for number in 0..12 {
        assert!(numbered(&mut buffer, number));
    }
    let mut draws = stream(3, Purpose::Replay, 0, 0);
    let batch = buffer.sample(&mut draws, 40).unwrap();
    let (pixels, next) = (batch.pixels.unwrap(), batch.next_pixels.unwrap());
    assert_eq!((pixels.dims(), next.dims()), (&[40, 6, 2, 2][..], &[40, 6, 2, 2][..]));
    let rows = |tensor: &Tensor| tensor.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    for ((pixels, next), number) in rows(&pixels)
        .iter()
        .zip(&rows(&next))
        .zip(batch.reward.to_vec1::<f32>().unwrap())
    {
        let seen = |byte: f32| byte / 255.0 * 2.0 - 1.0;
        assert!(pixels.iter().all(|value| *value == seen(number)));
        assert!(next.iter().all(|value| *value == seen(number + 100.0)));
    }
    let mut again = ReplayBuffer::import(&buffer.export().unwrap()).unwrap();
    assert_eq!(buffer, again);
    numbered(&mut buffer, 99);
    numbered(&mut again, 99);
    assert_eq!(buffer, again);
    let empty = ReplayBuffer::with_pixels(5, 2, 1, DIMS).unwrap();
    assert_eq!(ReplayBuffer::import(&empty.export().unwrap()).unwrap(), empty);
}

#[test]
fn a_buffer_that_keeps_pictures_needs_them() {
    let mut buffer = ReplayBuffer::with_pixels(5, 1, 1, DIMS).unwrap();
    let picture = [0; 24];
    let whole = Transition {
        observation: &[0.0],
        pixels: Some(&picture),
        action: &[0.0],
        reward: 0.0,
        next_observation: &[0.0],
        next_pixels: Some(&picture),
        steps: 1,
        end: End::Continues,
    };
    assert!(buffer.push(whole).unwrap());
    for wrong in [None, Some(&picture[1..])] {
        let transition = Transition {
            next_pixels: wrong,
            ..whole
        };
        assert!(matches!(buffer.push(transition), Err(ReplayError::Size { .. })));
    }
    let mut plain = ReplayBuffer::new(5, 1, 1).unwrap();
    assert!(plain.push(whole).unwrap() && plain.gather(&[0]).unwrap().pixels.is_none());
    assert!(ReplayBuffer::with_pixels(5, 1, 1, PixelDims { frames: 0, size: 2 }).is_err());
}

#[test]
fn columns_that_do_not_fit_together_are_an_error() {
    let mut buffer = ReplayBuffer::with_pixels(4, 2, 1, DIMS).unwrap();
    numbered(&mut buffer, 1);
    let whole = buffer.export().unwrap();
    for (file, name) in whole
        .iter()
        .flat_map(|(file, tensors)| tensors.keys().map(move |name| (file, name)))
    {
        // Without it, a buffer without pictures is read.
        if name == PICTURES {
            continue;
        }
        let mut damaged = whole.clone();
        damaged.get_mut(file).unwrap().remove(name);
        // A block without observations counts as none, and then the cursor is wrong.
        assert!(
            matches!(ReplayBuffer::import(&damaged), Err(ReplayError::Stored(_))),
            "{name}"
        );
    }
    let mut poisoned = whole;
    let block = poisoned.get_mut(&block_name(0)).unwrap();
    block.insert("reward".to_owned(), Tensor::new(&[f32::NAN], &Device::Cpu).unwrap());
    assert!(matches!(ReplayBuffer::import(&poisoned), Err(ReplayError::Stored(_))));
}

#[test]
fn answers_of_a_prior_stay_with_their_transitions() {
    let gaussian = |first: f32, rows: usize| {
        let values = |add: f32| (0..rows * 2).map(|at| first + add + at as f32).collect::<Vec<_>>();
        let tensor = |add| Tensor::from_vec(values(add), (rows, 2), &Device::Cpu).unwrap();
        DiagGaussian {
            mu: tensor(0.0),
            log_sigma: tensor(0.5),
        }
    };
    let mut buffer = ReplayBuffer::new(3, 1, 2).unwrap().with_prior().unwrap();
    for number in 0..3 {
        numbered(&mut buffer, number);
    }
    assert_eq!(buffer.waiting(), [0, 1, 2]);
    assert!(
        buffer.answer(&gaussian(0.0, 4), &gaussian(0.0, 4)).is_err(),
        "nobody asked about a fourth"
    );
    buffer.answer(&gaussian(0.0, 2), &gaussian(100.0, 2)).unwrap();
    assert_eq!(buffer.waiting(), [2]);
    buffer.answer(&gaussian(4.0, 1), &gaussian(104.0, 1)).unwrap();
    let stored = ReplayBuffer::import(&buffer.export().unwrap()).unwrap();
    assert_eq!(stored, buffer);
    let batch = stored.gather(&[2, 0]).unwrap().prior.unwrap();
    assert_eq!(batch.here.mu.to_vec2::<f32>().unwrap(), [[4.0, 5.0], [0.0, 1.0]]);
    assert_eq!(
        batch.next.log_sigma.to_vec2::<f32>().unwrap(),
        [[104.5, 105.5], [100.5, 101.5]]
    );

    // The oldest transition is overwritten, and its answer with it.
    numbered(&mut buffer, 3);
    assert_eq!(buffer.waiting(), [0]);
    buffer.answer(&gaussian(50.0, 1), &gaussian(60.0, 1)).unwrap();
    let batch = buffer.gather(&[0]).unwrap().prior.unwrap();
    assert_eq!(batch.here.mu.to_vec2::<f32>().unwrap(), [[50.0, 51.0]]);
}

#[test]
fn only_blocks_with_new_rows_have_changed() {
    // Pictures of 3 MB each: two transitions make a block.
    let dims = PixelDims { frames: 1, size: 1024 };
    let mut buffer = ReplayBuffer::with_pixels(5, 1, 1, dims).unwrap();
    let changed = |buffer: &ReplayBuffer, stored| -> Vec<usize> {
        (0..buffer.blocks())
            .filter(|&block| buffer.has_changed(block, stored))
            .collect()
    };
    for number in 0..3 {
        numbered(&mut buffer, number);
    }
    assert_eq!((buffer.blocks(), buffer.stored()), (2, 3));
    assert_eq!(changed(&buffer, 0), [0, 1]);
    assert_eq!(changed(&buffer, 3), [0; 0]);
    numbered(&mut buffer, 3);
    assert_eq!(changed(&buffer, 3), [1]);
    numbered(&mut buffer, 4);
    numbered(&mut buffer, 5);
    assert_eq!(
        changed(&buffer, 4),
        [0, 2],
        "the last row and, around the ring, the first"
    );
    assert_eq!(changed(&buffer, 0), [0, 1, 2]);
    let files = buffer.export().unwrap();
    assert_eq!(
        files.keys().map(String::as_str).collect::<Vec<_>>(),
        ["replay", "replay_00000", "replay_00001", "replay_00002"]
    );
    assert_eq!(ReplayBuffer::import(&files).unwrap(), buffer);
}

#[test]
fn buffers_of_earlier_versions_are_read() {
    let mut buffer = ReplayBuffer::new(3, 2, 1).unwrap();
    for number in 0..2 {
        numbered(&mut buffer, number);
    }
    let mut files = buffer.export().unwrap();
    let block = files.remove(&block_name(0)).unwrap();
    let head = files.get_mut(HEAD).unwrap();
    head.extend(block);
    let counters = head["counters"].narrow(0, 0, 5).unwrap();
    head.insert("counters".to_owned(), counters);
    assert_eq!(ReplayBuffer::import(&files).unwrap(), buffer);
}
