//! A scripted demonstrator for block stacking: takes blocks one after another and puts them on a tower.
//!
//! Every attempt is a task of its own: another order of the blocks, other places, other weights, and a part of the tower
//! stands already. The task is drawn in `task`, `hand` knows where the gripper and the blocks are and how to move
//! between them.
//!
//! The way to a block leads up to travel height, across, and down; the way with it to the tower likewise. Each stretch is
//! bent by a detour, so that no two attempts look alike. A block that was missed or fell is tried again.
//!
//! # Source
//! `SPiRL`'s data generation, reference section 4.3.3. What differs: blocks are put down where the held block would be 5
//! mm above the one below, whatever the grip (the original aims the gripper at 0.17 m above it); detours keep clear of
//! other blocks; while the fingers move the gripper stays where it is (the original lets it rise by 1 cm a step).

mod hand;
mod task;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::DemoError;
use super::demonstrator::{Account, Act, Demonstrator, Rejection, Start};
use crate::rng::{Purpose, Stream, stream};
use crate::scene::blocks::{EDGE, REACH, TABLE_HEIGHT};
use crate::scene::{Built, CompiledScene, Scene};
use crate::sim::{Measurement, Physics, TaskProgress};

use hand::{Hand, Point, apart};
use task::TowerTask;

/// Above a block before the gripper goes down to it, and after it went up, m.
const APPROACH: f64 = 0.08;
/// Free height between a block and the one it is put on, m.
const GAP: f64 = 0.005;
/// A point is reached within this distance, m.
const TOLERANCE: f64 = 0.01;
/// A block is lifted if it has come up by this, m.
const LIFTED: f64 = 0.03;
/// Steps after which a point that cannot be reached is passed over.
const PATIENCE: usize = 60;
/// Highest travel height, m: the ceiling is not far above it.
const HIGHEST: f64 = 1.45;
/// Change of the fingers' number of the action in a step.
const FINGER_STEP: f64 = 0.5;

/// How block stacking is demonstrated. The defaults are those of `SPiRL`'s data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlocksDemos {
    /// Stackings in a task: the tower has one more block than that.
    pub stackings: usize,
    /// Stackings that are left to do. As many of the others as still fit below them, none to all, are done at the start.
    pub remaining: usize,
    /// Piles at the start are at least so far apart, m.
    pub distance: f64,
    /// Largest sideways offset of a detour, as a share of the stretch; 0 for straight ways.
    pub detour: f64,
    /// How often a block is tried again.
    pub retries: usize,
    /// Attempts that take more steps are rejected.
    pub step_limit: usize,
}

impl Default for BlocksDemos {
    fn default() -> Self {
        Self {
            stackings: 4,
            remaining: 2,
            distance: 0.12,
            detour: 0.2,
            retries: 3,
            step_limit: 250,
        }
    }
}

impl BlocksDemos {
    /// Checks that every setting makes sense.
    ///
    /// # Errors
    /// [`DemoError::Setting`] with the first one that does not.
    pub fn check(&self) -> Result<(), DemoError> {
        let all = [
            (
                "stackings",
                (1..=5).contains(&self.stackings),
                "1 to 5, what fits below the ceiling",
                self.stackings.to_string(),
            ),
            (
                "remaining",
                (1..=self.stackings).contains(&self.remaining),
                "at least 1 and at most `stackings`",
                self.remaining.to_string(),
            ),
            (
                "distance",
                (0.12..1.0).contains(&self.distance),
                "a distance from 0.12 m, which the fingers need",
                self.distance.to_string(),
            ),
            (
                "detour",
                (0.0..=0.5).contains(&self.detour),
                "a share from 0 to 0.5",
                self.detour.to_string(),
            ),
            (
                "step_limit",
                self.step_limit > 0,
                "at least 1 step",
                self.step_limit.to_string(),
            ),
        ];
        match all.into_iter().find(|(_, valid, ..)| !valid) {
            Some((field, _, expected, value)) => Err(DemoError::Setting { field, expected, value }),
            None => Ok(()),
        }
    }
}

/// Builds towers. See the [module](self).
#[derive(Debug)]
pub struct BlocksDemonstrator {
    config: BlocksDemos,
    /// What the attempts' scenes are made from.
    scene: Scene,
    hand: Hand,
    attempt: Attempt,
}

/// The running attempt.
#[derive(Debug)]
struct Attempt {
    rng: Stream,
    task: TowerTask,
    /// What is being done with which block of the order.
    doing: Doing,
    /// What to do before the next decision, first one first.
    motions: VecDeque<Motion>,
    /// Points to pass in the first of these motions, once it has begun, and the steps spent on the way to the next one.
    points: Option<(VecDeque<Point>, usize)>,
    /// The fingers' number of the last action.
    fingers: f64,
    tries: usize,
}

/// What the motions are for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Doing {
    /// Nothing: it has to be decided what is next.
    Deciding,
    /// Taking the block at this place of the order, which stood at this height.
    Taking { place: usize, height: f64 },
    /// Putting it on the one before.
    Putting { place: usize },
    /// The tower stands, or there is no sense in going on.
    Finished,
}

/// A piece of motion.
#[derive(Debug, Clone, Copy)]
enum Motion {
    /// To a point.
    Go {
        to: Point,
        /// The block that is held, if any.
        held: Option<usize>,
        /// Whether a detour is wanted.
        bend: bool,
    },
    /// Opens (1) or closes (0) the fingers at a point.
    Fingers { to: f64, at: Point },
}

impl BlocksDemonstrator {
    /// A demonstrator for `scene`.
    ///
    /// # Errors
    /// [`DemoError::Unfit`] if the scene is not block stacking or has too few blocks or too short a table,
    /// [`DemoError::Setting`] if a setting makes no sense.
    pub fn new(scene: &CompiledScene, config: BlocksDemos) -> Result<Self, DemoError> {
        config.check()?;
        let hand = Hand::new(scene)?;
        let demonstrator = Self {
            attempt: Attempt::new(stream(0, Purpose::Demonstrator, 0, 0), TowerTask::default()),
            scene: scene.scene().clone(),
            hand,
            config,
        };
        let Some(Built::Blocks(blocks)) = &demonstrator.scene.physics.built else {
            return Err(unfit("a scene in which `physics.built` is `Blocks`"));
        };
        let config = &demonstrator.config;
        if blocks.count <= config.stackings {
            let needed = config.stackings + 1;
            return Err(unfit(&format!("{needed} blocks for {} stackings", config.stackings)));
        }
        if TowerTask::free_length(blocks, config) < 0.0 {
            return Err(unfit(&format!("a table on which {} blocks find room", blocks.count)));
        }
        Ok(demonstrator)
    }

    /// Height at which the gripper travels, m.
    fn travel(&self) -> f64 {
        (TABLE_HEIGHT + self.config.stackings as f64 * EDGE + 0.2).min(HIGHEST)
    }

    /// Decides what comes next, when all motions are done.
    fn decide(&mut self, physics: &Physics) {
        match self.attempt.doing {
            Doing::Taking { place, height } if self.is_lifted(place, height, physics) => self.put(place, physics),
            Doing::Taking { .. } => {
                // Nothing to hold: opens, and then the block is looked for again.
                let at = self.hand.position(physics);
                self.attempt.motions.push_back(Motion::Fingers { to: 1.0, at });
                self.attempt.doing = Doing::Deciding;
            }
            Doing::Putting { .. } | Doing::Deciding => match self.missing(physics) {
                Some(place) if self.attempt.tries < self.config.remaining + self.config.retries => {
                    self.take(place, physics);
                }
                _ => self.attempt.doing = Doing::Finished,
            },
            Doing::Finished => {}
        }
    }

    fn block(&self, place: usize) -> usize {
        self.attempt.task.order.get(place).copied().unwrap_or_default()
    }

    fn is_lifted(&self, place: usize, height: f64, physics: &Physics) -> bool {
        self.hand.block(self.block(place), physics)[1] - height > LIFTED
    }

    /// The lowest place of the tower whose block is not on the one before.
    fn missing(&self, physics: &Physics) -> Option<usize> {
        (1..=self.attempt.task.goal()).find(|&place| {
            let (lower, upper) = (self.block(place - 1), self.block(place));
            !self.hand.is_stacked(lower, upper, physics)
        })
    }

    /// Plans to take the block at `place`.
    fn take(&mut self, place: usize, physics: &Physics) {
        let [y, z] = self.hand.block(self.block(place), physics);
        let [here, _] = self.hand.position(physics);
        let travel = self.travel();
        let (above, at) = ([y, z + REACH + APPROACH], [y, z + REACH]);
        let go = |to, bend| Motion::Go { to, held: None, bend };
        let held = Some(self.block(place));
        self.attempt.tries += 1;
        self.attempt.doing = Doing::Taking { place, height: z };
        // It opens on the way.
        self.attempt.motions.extend([
            Motion::Fingers {
                to: 1.0,
                at: self.hand.position(physics),
            },
            go([here, travel], true),
            go([y, travel], true),
            go(above, true),
            go(at, false),
            Motion::Fingers { to: 0.0, at },
            Motion::Go {
                to: above,
                held,
                bend: false,
            },
        ]);
    }

    /// Plans to put the held block at `place` on the one before.
    fn put(&mut self, place: usize, physics: &Physics) {
        let held = self.block(place);
        let [here, height] = self.hand.position(physics);
        let block = self.hand.block(held, physics);
        let [below_y, below_z] = self.hand.block(self.block(place - 1), physics);
        // Where the gripper is when the block is where it should be.
        let (y, z) = (below_y + here - block[0], below_z + EDGE + GAP + height - block[1]);
        let travel = self.travel();
        let (above, at) = ([y, z + APPROACH], [y, z]);
        let go = |to, bend| Motion::Go {
            to,
            held: Some(held),
            bend,
        };
        let leave = |to| Motion::Go {
            to,
            held: None,
            bend: false,
        };
        self.attempt.doing = Doing::Putting { place };
        self.attempt.motions.extend([
            go([here, travel], true),
            go([y, travel], true),
            go(above, true),
            go(at, false),
            Motion::Fingers { to: 1.0, at },
            leave(above),
            leave([y, travel.max(z + APPROACH)]),
        ]);
    }

    /// Works on the first motion: the action, or `None` if that motion is done.
    fn follow(&mut self, motion: Motion, physics: &Physics) -> Option<[f64; 3]> {
        let position = self.hand.position(physics);
        match motion {
            Motion::Fingers { to, at } => {
                let left = to - self.attempt.fingers;
                if left == 0.0 {
                    return None;
                }
                self.attempt.fingers += left.clamp(-FINGER_STEP, FINGER_STEP);
                let [y, z] = self.hand.towards(position, at);
                Some([y, z, self.attempt.fingers])
            }
            Motion::Go { to, held, bend } => {
                if self.attempt.points.is_none() {
                    let share = if bend { self.config.detour } else { 0.0 };
                    let detour = self
                        .hand
                        .detour(position, to, held, share, physics, &mut self.attempt.rng);
                    self.attempt.points = Some((detour.into_iter().chain([to]).collect(), 0));
                }
                let (points, steps) = self.attempt.points.as_mut()?;
                while points
                    .front()
                    .is_some_and(|next| apart(*next, position) < TOLERANCE || *steps >= PATIENCE)
                {
                    points.pop_front();
                    *steps = 0;
                }
                let next = *points.front()?;
                *steps += 1;
                let [y, z] = self.hand.towards(position, next);
                Some([y, z, self.attempt.fingers])
            }
        }
    }
}

impl Attempt {
    fn new(rng: Stream, task: TowerTask) -> Self {
        Self {
            rng,
            task,
            doing: Doing::Deciding,
            motions: VecDeque::new(),
            points: None,
            fingers: 1.0,
            tries: 0,
        }
    }
}

impl Demonstrator for BlocksDemonstrator {
    fn begin(&mut self, seed: u64, attempt: u64) -> Result<Start, DemoError> {
        let mut rng = stream(seed, Purpose::Demonstrator, 0, attempt);
        let mut scene = self.scene.clone();
        let Some(Built::Blocks(blocks)) = &mut scene.physics.built else {
            return Err(unfit("a scene in which `physics.built` is `Blocks`"));
        };
        let task = TowerTask::draw(blocks, &self.config, &mut rng);
        blocks.density_seed = task.density_seed.into();
        let scene = CompiledScene::new(scene)?;
        let mut qpos = scene.start().to_vec();
        for (block, at) in task.places.iter().enumerate() {
            self.hand.place(block, *at, &mut qpos);
        }
        self.attempt = Attempt::new(rng, task);
        Ok(Start {
            scene: Some(scene),
            qpos,
            ..Start::of_scene()
        })
    }

    fn act(&mut self, _scene: &CompiledScene, physics: &Physics, _measurement: &Measurement) -> Option<Act> {
        loop {
            let Some(motion) = self.attempt.motions.front().copied() else {
                self.decide(physics);
                if self.attempt.doing == Doing::Finished {
                    return None;
                }
                continue;
            };
            match self.follow(motion, physics) {
                Some(action) => return Some(Act::exact(self.hand.action(action))),
                None => {
                    self.attempt.motions.pop_front();
                    self.attempt.points = None;
                }
            }
        }
    }

    fn judge(&self, _scene: &CompiledScene, physics: &Physics, _progress: &TaskProgress) -> Result<(), Rejection> {
        match self.missing(physics) {
            None => Ok(()),
            Some(_) => Err(Rejection::Missed("tower not built".into())),
        }
    }

    fn step_limit(&self) -> usize {
        self.config.step_limit
    }

    fn account(&self) -> Account {
        let task = &self.attempt.task;
        Account {
            figures: vec![
                ("blocks in the tower", task.goal() as f64 + 1.0),
                ("grasps", self.attempt.tries as f64),
            ],
            ..Account::default()
        }
    }

    fn columns(&self) -> &'static [&'static str] {
        &["density_seed", "block"]
    }

    fn write_columns(&self, numbers: &mut Vec<i64>) {
        let block = match self.attempt.doing {
            Doing::Taking { place, .. } | Doing::Putting { place } => self.block(place) as i64,
            Doing::Deciding | Doing::Finished => -1,
        };
        numbers.extend([self.attempt.task.density_seed.into(), block]);
    }
}

fn unfit(needs: &str) -> DemoError {
    DemoError::Unfit {
        demonstrator: "block",
        needs: needs.into(),
    }
}
