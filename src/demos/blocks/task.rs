//! Random tasks of block stacking.

use rand::RngExt;
use rand::seq::SliceRandom;

use super::BlocksDemos;
use super::hand::Point;
use crate::rng::Stream;
use crate::scene::BlocksSpec;
use crate::scene::blocks::{EDGE, TABLE_HEIGHT};

/// From the middle of a pile to the end of the table, m: the gripper needs room beside it.
const MARGIN: f64 = 0.1;

/// A tower to build.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct TowerTask {
    /// The blocks, in the order of the tower from below; those after its end stay where they are.
    pub(super) order: Vec<usize>,
    /// Stackings that are done at the start.
    pub(super) done: usize,
    /// Stackings to do.
    pub(super) remaining: usize,
    /// Where each block is at the start.
    pub(super) places: Vec<Point>,
    /// From which the weights of the blocks follow.
    pub(super) density_seed: u32,
}

impl TowerTask {
    /// Draws the order, how much is done, and places for the tower and every block that is not part of it yet: uniform
    /// among all places with the demanded distance.
    pub(super) fn draw(blocks: &BlocksSpec, config: &BlocksDemos, rng: &mut Stream) -> Self {
        let density_seed = rng.random();
        let mut order: Vec<usize> = (0..blocks.count).collect();
        order.shuffle(rng);
        let done = rng.random_range(0..=config.stackings - config.remaining);
        let piles = blocks.count - done;
        // Sorted points of a shortened table, moved apart by the distance.
        let free = Self::free_length(blocks, config) + (blocks.count - piles) as f64 * config.distance;
        let mut along: Vec<f64> = (0..piles).map(|_| free * rng.random::<f64>()).collect();
        along.sort_by(f64::total_cmp);
        for (pile, y) in along.iter_mut().enumerate() {
            *y += pile as f64 * config.distance + MARGIN - blocks.table / 2.0;
        }
        along.shuffle(rng);
        let mut places = vec![[0.0; 2]; blocks.count];
        for (place, block) in order.iter().enumerate() {
            // The first pile is the beginning of the tower.
            let (pile, level) = if place <= done { (0, place) } else { (place - done, 0) };
            let y = along.get(pile).copied().unwrap_or_default();
            if let Some(at) = places.get_mut(*block) {
                *at = [y, TABLE_HEIGHT + EDGE * (level as f64 + 0.5)];
            }
        }
        Self {
            order,
            done,
            remaining: config.remaining,
            places,
            density_seed,
        }
    }

    /// What is left of the table when every block has the distance it needs, m; negative if there is no room.
    pub(super) fn free_length(blocks: &BlocksSpec, config: &BlocksDemos) -> f64 {
        blocks.table - 2.0 * MARGIN - blocks.count.saturating_sub(1) as f64 * config.distance
    }

    /// Place in the order of the last block that is to be on the tower.
    pub(super) fn goal(&self) -> usize {
        self.done + self.remaining
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    #[test]
    fn tasks_have_room_and_vary() {
        let blocks = BlocksSpec {
            count: 5,
            table: 1.2,
            ..BlocksSpec::default()
        };
        let config = BlocksDemos::default();
        let mut done = [0; 3];
        let mut ends = (f64::INFINITY, f64::NEG_INFINITY);
        for attempt in 0..500 {
            let mut rng = stream(1, Purpose::Demonstrator, 0, attempt);
            let task = TowerTask::draw(&blocks, &config, &mut rng);
            done[task.done] += 1;
            assert_eq!(task.goal(), task.done + 2);
            let mut sorted = task.order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
            for (place, &block) in task.order.iter().enumerate() {
                let [y, z] = task.places[block];
                ends = (f64::min(ends.0, y), f64::max(ends.1, y));
                let level = if place <= task.done { place } else { 0 };
                assert!((z - 0.84 - 0.08 * level as f64).abs() < 1e-12);
                for &other in &task.order[..place] {
                    let apart = (task.places[other][0] - y).abs();
                    let same_pile = place <= task.done;
                    assert!(if same_pile { apart == 0.0 } else { apart >= 0.12 - 1e-12 }, "{task:?}");
                }
            }
        }
        assert!(done.iter().all(|count| (120..220).contains(count)), "{done:?}");
        assert!(
            ends.0 >= -0.5 && ends.0 < -0.49 && ends.1 <= 0.5 && ends.1 > 0.49,
            "{ends:?}"
        );
    }
}
