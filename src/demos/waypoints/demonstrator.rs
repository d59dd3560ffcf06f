//! Does sequences of elements by the stretches of the scene file.

use rand::RngExt;

use super::compiled::{Step, steps};
use super::hand::{self, Hand, Look};
use super::walk::{Pace, Walk, Walker};
use super::{WaypointDemos, lookup};
use crate::demos::DemoError;
use crate::demos::demonstrator::{Account, Act, Demonstrator, Rejection, Start};
use crate::demos::kitchen::Recorded;
use crate::rng::{Purpose, Stream, stream};
use crate::scene::CompiledScene;
use crate::sim::{Measurement, Physics, TaskProgress};

/// An element and how it is done.
#[derive(Debug)]
struct Skill {
    /// Its place among the elements of the scene.
    element: usize,
    name: String,
    steps: Vec<Step>,
}

/// Does a sequence of elements, one control step at a time.
///
/// Its data has the column `element`: the index in the scene of the element that it is at. A step in which an element of
/// the sequence is at its goal for the first time is worth 1.
#[derive(Debug)]
pub struct WaypointDemonstrator {
    config: WaypointDemos,
    skills: Vec<Skill>,
    /// Places in `skills`.
    sequences: Vec<Vec<usize>>,
    hand: Box<dyn Hand>,
    /// Indices in `qpos` of the fingers' joints.
    fingers: Vec<usize>,
    pace: Pace,
    attempt: Attempt,
}

/// The running attempt.
#[derive(Debug)]
struct Attempt {
    rng: Stream,
    sequence: Vec<usize>,
    /// Place in the sequence of what it is at.
    current: usize,
    walker: Option<Walker>,
    /// Whether the skill has to be begun.
    fresh: bool,
    failures: usize,
    /// Attempts at elements that failed, in all.
    repeated: usize,
    /// Of the last attempt at an element that failed: the step, and what went wrong there.
    trouble: Option<(usize, &'static str)>,
    /// For each element of the scene.
    reached: Vec<bool>,
    noise: Vec<f32>,
}

impl Attempt {
    fn new(rng: Stream, sequence: Vec<usize>) -> Self {
        Self {
            rng,
            sequence,
            current: 0,
            walker: None,
            fresh: true,
            failures: 0,
            repeated: 0,
            trouble: None,
            reached: Vec::new(),
            noise: Vec::new(),
        }
    }
}

impl WaypointDemonstrator {
    /// A demonstrator for `scene`.
    ///
    /// # Errors
    /// [`DemoError`] with the place below `demonstrator` if a setting makes no sense, a name does not exist, or the action
    /// of the scene does not move the hand.
    pub fn new(scene: &CompiledScene, config: WaypointDemos) -> Result<Self, DemoError> {
        config.check()?;
        let hand = hand::of(scene, &config)?;
        let model = scene.model();
        let mut skills = Vec::new();
        for (name, stretches) in &config.skills {
            let field = format!("skills.{name}");
            let known = scene.elements().iter().map(|element| element.name.as_str());
            let element = (scene.elements().iter().position(|element| element.name == *name))
                .ok_or_else(|| lookup::no_such("element", name, &field, known))?;
            let steps = steps(stretches, &config, model, &field, hand.positions().len())?;
            if steps.is_empty() {
                return Err(super::wrong(&field, "expected at least one stretch, found none"));
            }
            skills.push(Skill {
                element,
                name: name.clone(),
                steps,
            });
        }
        let task: Vec<String> = (scene.task().iter())
            .filter_map(|&index| Some(scene.elements().get(index)?.name.clone()))
            .collect();
        let place = |name: &String| skills.iter().position(|skill| skill.name == *name);
        let sequences = config.sequences(&task)?;
        let sequences = sequences.iter().map(|names| names.iter().filter_map(place).collect());
        let mut fingers = Vec::new();
        for (place, name) in config.gripper.iter().flat_map(|gripper| &gripper.joints).enumerate() {
            fingers.push(lookup::joint(model, name, &format!("gripper.joints.{place}"))?.position);
        }
        Ok(Self {
            sequences: sequences.collect(),
            skills,
            hand,
            fingers,
            pace: Pace {
                period: scene.period(),
                turning: config.turning,
                joint_speed: config.joint_speed,
                variety: config.variety,
                speed: 1.0,
            },
            attempt: Attempt::new(stream(0, Purpose::Demonstrator, 0, 0), Vec::new()),
            config,
        })
    }

    /// The skill that it is at.
    fn skill(&self) -> Option<&Skill> {
        let skill = self.attempt.sequence.get(self.attempt.current)?;
        self.skills.get(*skill)
    }

    /// Ends the skill that it is at: the next one, or the same anew.
    fn end_skill(&mut self, ended: Walk) {
        let element = self.skill().map(|skill| skill.element);
        let attempt = &mut self.attempt;
        attempt.trouble = attempt.walker.as_ref().and_then(|walker| walker.trouble(ended));
        let done = element.and_then(|element| attempt.reached.get(element).copied());
        if done.unwrap_or(false) {
            attempt.failures = 0;
            attempt.current += 1;
        } else if attempt.failures >= self.config.retries {
            // There is no sense in going on.
            attempt.current = attempt.sequence.len();
        } else {
            attempt.failures += 1;
            attempt.repeated += 1;
        }
        attempt.fresh = true;
    }

    /// Writes the next action into `action`; tells if there is one.
    fn walk(&mut self, look: Look, action: &mut [f64]) -> bool {
        // Every skill has a step, but a step may be over at once: only so many skills in one control step.
        for _ in 0..=self.attempt.sequence.len() + self.config.retries {
            let Some(&skill) = self.attempt.sequence.get(self.attempt.current) else {
                return false;
            };
            let attempt = &mut self.attempt;
            let grip = self.config.gripper.as_ref();
            let grip = grip.map_or(0.0, |gripper| {
                if gripper.starts_open {
                    gripper.open
                } else {
                    gripper.closed
                }
            });
            let walker = (attempt.walker).get_or_insert_with(|| Walker::new(&*self.hand, look.physics, grip));
            if std::mem::take(&mut attempt.fresh) {
                walker.restart(&mut *self.hand, look.physics);
                self.pace.speed = 1.0 - self.config.slowdown * attempt.rng.random_range(0.0..1.0);
            }
            let steps = self.skills.get(skill).map_or(&[][..], |skill| &skill.steps);
            let hand = &mut *self.hand;
            match walker.walk(steps, hand, look, &self.pace, &mut attempt.rng, action) {
                Walk::Acts => return true,
                ended @ (Walk::Done | Walk::Missed) => self.end_skill(ended),
            }
        }
        false
    }

    /// The action with noise on the numbers of the hand.
    fn disturbed(&mut self, action: &[f64]) -> Vec<f64> {
        let mut executed = action.to_vec();
        let places = self.hand.places();
        self.attempt.noise.resize(places.len(), 0.0);
        self.attempt.rng.fill_normal(&mut self.attempt.noise);
        for (place, noise) in places.iter().zip(&self.attempt.noise) {
            if let Some(number) = executed.get_mut(*place) {
                *number = (*number + self.config.noise * f64::from(*noise)).clamp(-1.0, 1.0);
            }
        }
        executed
    }
}

/// The stretch that a step is part of, as messages have it.
fn stretch(step: &Step) -> String {
    format!("stretch {} ({})", step.place, step.kind)
}

impl Demonstrator for WaypointDemonstrator {
    fn begin(&mut self, seed: u64, attempt: u64) -> Result<Start, DemoError> {
        let mut rng = stream(seed, Purpose::Demonstrator, 0, attempt);
        let choice = rng.random_range(0..self.sequences.len().max(1));
        let sequence = self.sequences.get(choice).cloned().unwrap_or_default();
        let spread = self.config.start_spread;
        let shifts = self
            .hand
            .positions()
            .iter()
            .map(|&position| (position, spread * rng.random_range(-1.0..1.0)));
        let shifts = shifts.collect();
        self.attempt = Attempt::new(rng, sequence);
        Ok(Start {
            shifts,
            ..Start::of_scene()
        })
    }

    fn act(&mut self, scene: &CompiledScene, physics: &Physics, measurement: &Measurement) -> Option<Act> {
        let open = |position: &usize| physics.qpos().get(*position).copied().unwrap_or(0.0);
        let look = Look {
            physics,
            measurement,
            fingers: self.fingers.iter().map(open).sum(),
        };
        let mut action = vec![0.0; scene.action_len()];
        if !self.walk(look, &mut action) {
            return None;
        }
        if self.config.noise == 0.0 {
            return Some(Act::exact(action));
        }
        let executed = self.disturbed(&action);
        let intended = match self.config.record {
            Recorded::Intended => action,
            Recorded::Executed => executed.clone(),
        };
        Some(Act { intended, executed })
    }

    fn after(&mut self, _scene: &CompiledScene, _physics: &Physics, progress: &TaskProgress) -> f32 {
        let attempt = &mut self.attempt;
        attempt.reached.resize(progress.reached.len(), false);
        let mut reward = 0.0;
        let shown = attempt.sequence.iter().filter_map(|&skill| self.skills.get(skill));
        for element in shown.map(|skill| skill.element) {
            let now = progress.reached.get(element).copied().unwrap_or(false);
            if let Some(reached) = attempt.reached.get_mut(element) {
                reward += f32::from(u8::from(now && !*reached));
                *reached |= now;
            }
        }
        reward
    }

    fn judge(&self, _scene: &CompiledScene, _physics: &Physics, _progress: &TaskProgress) -> Result<(), Rejection> {
        let attempt = &self.attempt;
        let mut shown = attempt.sequence.iter().filter_map(|&skill| self.skills.get(skill));
        let done = |skill: &&Skill| attempt.reached.get(skill.element).copied().unwrap_or(false);
        match shown.find(|skill| !done(skill)) {
            Some(skill) => {
                let trouble = attempt
                    .trouble
                    .and_then(|(step, what)| Some((skill.steps.get(step)?, what)));
                let why = match trouble {
                    Some((step, what)) => format!("{} {what}", stretch(step)),
                    None => "every stretch came to its end".to_owned(),
                };
                Err(Rejection::Missed(format!("{} not done: {why}", skill.name).into()))
            }
            None => Ok(()),
        }
    }

    fn step_limit(&self) -> usize {
        self.config.step_limit
    }

    fn whereabouts(&self) -> Option<String> {
        let skill = self.skill()?;
        let step = (self.attempt.walker.as_ref()).and_then(|walker| skill.steps.get(walker.step()));
        Some(match step {
            Some(step) => format!("{}, {}", skill.name, stretch(step)),
            None => skill.name.clone(),
        })
    }

    fn account(&self) -> Account {
        let names = self.attempt.sequence.iter().filter_map(|&skill| self.skills.get(skill));
        let names: Vec<&str> = names.map(|skill| skill.name.as_str()).collect();
        Account {
            shown: names.join(", "),
            figures: vec![("repeated", self.attempt.repeated as f64)],
            kitchen: None,
        }
    }

    fn columns(&self) -> &'static [&'static str] {
        &["element"]
    }

    fn write_columns(&self, numbers: &mut Vec<i64>) {
        numbers.push(self.skill().map_or(-1, |skill| skill.element as i64));
    }
}
