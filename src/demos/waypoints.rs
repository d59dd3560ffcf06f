//! Demonstrations that are written down in the scene file: for every element a list of stretches of motion relative to
//! named things of the scene.
//!
//! | item | duty |
//! |---|---|
//! | [`WaypointDemos`] | the settings, as they stand in the file |
//! | [`Stretch`] | one piece of motion: [`Reach`], [`Grasp`], [`Pull`], [`Steer`], ... |
//! | [`Spot`] | a place in the scene: a site, a body, a point |
//! | [`WaypointDemonstrator`] | does sequences of elements by these lists |
//! | [`Hand`] | what a control law makes of where the hand should be: one implementation for each kind |
//!
//! A hand is a site of the model. Its reference moves from stretch to stretch, along straight lines unless a stretch says
//! otherwise, and waits for a hand that lags behind. Arms whose joints are driven follow by inverse kinematics
//! ([`chain`]); where the action is the velocity of the hand itself there is nothing to solve.

pub mod chain;
mod compiled;
mod demonstrator;
mod driven;
mod hand;
mod joints;
mod lookup;
mod stretch;
mod walk;

pub use demonstrator::WaypointDemonstrator;
pub use hand::{Aim, Hand};
pub use stretch::{
    Axes, Beyond, Close, Facing, Fingers, Grasp, Move, Open, Path, Place, Pull, Push, Reach, Spot, Steer, Stretch,
    Turn, Wait,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DemoError;
use super::kitchen::Recorded;

/// How elements of a scene are demonstrated by waypoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WaypointDemos {
    /// The point that is moved.
    pub hand: HandSpec,
    /// The fingers, where the hand has some.
    pub gripper: Option<GripperSpec>,
    /// For each element that can be shown, by its name: what the hand does one after another.
    pub skills: BTreeMap<String, Vec<Stretch>>,
    /// Which elements are shown one after another.
    pub orders: Orders,
    /// Sequences of just these elements, in any order, are left out: a downstream task must not be in its data.
    pub without: Vec<Vec<String>>,
    /// Speed of the hand, m/s, of stretches that do not say.
    pub speed: f64,
    /// Speed at which the hand turns, rad/s.
    pub turning: f64,
    /// Most that a driven joint moves, rad/s or m/s.
    pub joint_speed: f64,
    /// Distance within which the end of a stretch is reached, m, of stretches that do not say.
    pub tolerance: f64,
    /// Time after which a stretch is passed over, s, of stretches that do not say.
    pub limit: f64,
    /// Where the hand points, of stretches that do not say. Without it the hand may turn as it likes.
    pub facing: Option<Facing>,
    /// Posture that joints are pulled to as far as the hand's pose leaves them free, in the order of the driven joints;
    /// none for that of the scene's start.
    pub posture: Vec<f64>,
    /// Factor by which position servos are led ahead of where the joints are; above 1 for slow ones.
    pub lead: f64,
    /// Scale of the `spread` of all stretches; 0 gives the same motion always.
    pub variety: f64,
    /// Every element is done at a speed drawn from `1 - slowdown` to 1.
    pub slowdown: f64,
    /// Driven joints of the arm start within plus and minus this of the scene's start, rad or m.
    pub start_spread: f64,
    /// Standard deviation of noise on the executed numbers of the hand.
    pub noise: f64,
    /// Which action is recorded where noise is added.
    pub record: Recorded,
    /// Further attempts at an element that was not done.
    pub retries: usize,
    /// Attempts that take more steps are rejected.
    pub step_limit: usize,
}

impl Default for WaypointDemos {
    fn default() -> Self {
        Self {
            hand: HandSpec::default(),
            gripper: None,
            skills: BTreeMap::new(),
            orders: Orders::Task,
            without: Vec::new(),
            speed: 0.3,
            turning: 1.5,
            joint_speed: 1.0,
            tolerance: 0.01,
            limit: 4.0,
            facing: None,
            posture: Vec::new(),
            lead: 1.0,
            variety: 1.0,
            slowdown: 0.3,
            start_spread: 0.05,
            noise: 0.05,
            record: Recorded::Intended,
            retries: 2,
            step_limit: 500,
        }
    }
}

/// The point that is moved, and its axes: z is the direction in which it approaches things, y that in which fingers open.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandSpec {
    /// Site of the model.
    pub site: String,
    /// From there to the point, m, axes of the site.
    #[serde(default)]
    pub offset: (f64, f64, f64),
}

/// Fingers that open and close.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GripperSpec {
    /// Actuators of the fingers, among those that the action drives.
    pub actuators: Vec<String>,
    /// What they get to open: position of a velocity-limited servo, otherwise the control of the actuator.
    pub open: f64,
    /// The same to close.
    pub closed: f64,
    /// Time that this takes, s.
    #[serde(default = "quarter")]
    pub time: f64,
    /// Joints that say how far the fingers are open, for [`Grasp::holds`].
    #[serde(default)]
    pub joints: Vec<String>,
    /// Whether it is open at the start.
    #[serde(default = "yes")]
    pub starts_open: bool,
}

fn quarter() -> f64 {
    0.25
}

fn yes() -> bool {
    true
}

/// Which elements are shown one after another. Every attempt draws one of the sequences.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Orders {
    /// The elements of the scene's task in their order.
    #[default]
    Task,
    /// Any elements with a skill, in any order, so many of them; 0 for all.
    Permutations {
        /// Elements of a sequence.
        #[serde(default)]
        length: usize,
    },
    /// These sequences.
    Listed(Vec<Vec<String>>),
}

/// More sequences than this are a slip.
const MOST_SEQUENCES: usize = 10_000;

impl WaypointDemos {
    /// The sequences that are left, with the elements of the scene's task where they are asked for. Each names elements
    /// that have a skill.
    ///
    /// # Errors
    /// [`DemoError::NoSequences`] if none is, [`DemoError::Waypoints`] with the place of a name that has no skill.
    pub fn sequences(&self, task: &[String]) -> Result<Vec<Vec<String>>, DemoError> {
        let known: Vec<&String> = self.skills.keys().collect();
        let mut sequences = match &self.orders {
            Orders::Task => vec![task.to_vec()],
            Orders::Listed(listed) => listed.clone(),
            Orders::Permutations { length } => {
                let length = if *length == 0 { known.len() } else { *length };
                let count = (0..length).map(|place| known.len().saturating_sub(place));
                let count = count.fold(1_usize, usize::saturating_mul);
                if count > MOST_SEQUENCES {
                    return Err(setting("orders", "fewer sequences (a smaller `length`)", count));
                }
                permutations(&known, length)
            }
        };
        for (number, sequence) in sequences.iter().enumerate() {
            for (place, name) in sequence.iter().enumerate() {
                if !self.skills.contains_key(name) {
                    let field = match self.orders {
                        Orders::Task => "orders".to_owned(),
                        _ => format!("orders.Listed.{number}.{place}"),
                    };
                    return Err(lookup::no_such(
                        "skill",
                        name,
                        &field,
                        known.iter().map(|name| name.as_str()),
                    ));
                }
            }
        }
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        let without: Vec<_> = self.without.iter().map(|names| sorted(names)).collect();
        sequences.retain(|sequence| !sequence.is_empty() && !without.contains(&sorted(sequence)));
        if sequences.is_empty() {
            Err(DemoError::NoSequences)
        } else {
            Ok(sequences)
        }
    }

    /// The same settings with the sequences listed, for a scene in which `task` are the elements of the task.
    pub(super) fn listed(&self, task: &[String]) -> Self {
        let orders = match &self.orders {
            Orders::Task if !task.is_empty() => Orders::Listed(vec![task.to_vec()]),
            other => other.clone(),
        };
        Self { orders, ..self.clone() }
    }

    /// Checks that every number makes sense.
    ///
    /// # Errors
    /// [`DemoError::Setting`] or [`DemoError::Waypoints`] with the first one that does not.
    pub fn check(&self) -> Result<(), DemoError> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let size = |value: f64| value.is_finite() && value >= 0.0;
        for (field, value, valid, expected) in [
            ("speed", self.speed, positive(self.speed), "a positive number, m/s"),
            (
                "turning",
                self.turning,
                positive(self.turning),
                "a positive number, rad/s",
            ),
            (
                "joint_speed",
                self.joint_speed,
                positive(self.joint_speed),
                "a positive number, rad/s or m/s",
            ),
            (
                "tolerance",
                self.tolerance,
                positive(self.tolerance),
                "a positive number, m",
            ),
            ("limit", self.limit, positive(self.limit), "a positive number, s"),
            ("lead", self.lead, positive(self.lead), "a positive number"),
            ("variety", self.variety, size(self.variety), "a number from 0"),
            (
                "start_spread",
                self.start_spread,
                size(self.start_spread),
                "a number from 0",
            ),
            ("noise", self.noise, size(self.noise), "a number from 0"),
            (
                "slowdown",
                self.slowdown,
                (0.0..1.0).contains(&self.slowdown),
                "a number from 0 to below 1",
            ),
        ] {
            if !valid {
                return Err(setting(field, expected, value));
            }
        }
        if self.step_limit == 0 {
            return Err(setting("step_limit", "at least 1 step", self.step_limit));
        }
        if let Some(gripper) = &self.gripper {
            let finite = gripper.open.is_finite() && gripper.closed.is_finite();
            if !finite || !size(gripper.time) {
                return Err(setting(
                    "gripper",
                    "numbers for `open` and `closed`, and a `time` from 0 s",
                    format!("({}, {}, {})", gripper.open, gripper.closed, gripper.time),
                ));
            }
        }
        if let Some(facing) = &self.facing {
            facing.check().map_err(|problem| wrong("facing", problem))?;
        }
        for (name, stretches) in &self.skills {
            for (place, stretch) in stretches.iter().enumerate() {
                let located = |problem: String| {
                    // The field that the message names.
                    let named = problem.split("for `").nth(1).and_then(|rest| rest.split('`').next());
                    let named = named.filter(|named| !named.contains(','));
                    let below = named.map_or_else(String::new, |named| format!(".{named}"));
                    wrong(&format!("skills.{name}.{place}{below}"), problem)
                };
                stretch.check().map_err(located)?;
            }
        }
        Ok(())
    }
}

/// All ordered choices of `length` of the names.
fn permutations(names: &[&String], length: usize) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = vec![Vec::new()];
    for _ in 0..length {
        let longer = found.iter().flat_map(|begun| {
            let others = names.iter().filter(|name| !begun.contains(name));
            others.map(|name| begun.iter().cloned().chain([(*name).clone()]).collect())
        });
        found = longer.collect();
    }
    found
}

fn setting(field: &'static str, expected: &'static str, value: impl ToString) -> DemoError {
    DemoError::Setting {
        field,
        expected,
        value: value.to_string(),
    }
}

fn wrong(field: &str, problem: impl Into<String>) -> DemoError {
    DemoError::Waypoints {
        field: field.to_owned(),
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn with(skills: &[&str], orders: Orders) -> WaypointDemos {
        WaypointDemos {
            skills: skills.iter().map(|name| ((*name).to_owned(), Vec::new())).collect(),
            orders,
            ..WaypointDemos::default()
        }
    }

    #[test]
    fn permutations_are_all_there_and_what_is_left_out_is_not() {
        let mut demos = with(&["a", "b", "c", "d"], Orders::Permutations { length: 3 });
        let sequences = demos.sequences(&[]).unwrap();
        assert_eq!(sequences.len(), 24);
        let different: std::collections::BTreeSet<_> = sequences.iter().collect();
        assert_eq!(different.len(), 24);
        demos.without = vec![vec!["c".into(), "a".into(), "b".into()]];
        assert_eq!(demos.sequences(&[]).unwrap().len(), 24 - 6);
        demos.orders = Orders::Permutations { length: 0 };
        assert_eq!(demos.sequences(&[]).unwrap().len(), 24);
        demos.orders = Orders::Permutations { length: 5 };
        assert!(matches!(demos.sequences(&[]), Err(DemoError::NoSequences)));
    }

    #[test]
    fn the_task_is_the_sequence_and_unknown_names_are_named() {
        let demos = with(&["door", "button"], Orders::Task);
        let task = ["button".to_owned(), "door".to_owned()];
        assert_eq!(demos.sequences(&task).unwrap(), [task.to_vec()]);
        assert_eq!(demos.listed(&task).sequences(&[]).unwrap(), [task.to_vec()]);
        let listed = with(&["door"], Orders::Listed(vec![vec!["door".into()], vec!["dor".into()]]));
        assert_eq!(
            listed.sequences(&[]).unwrap_err().to_string(),
            "demonstrator.orders.Listed.1.0: no skill is named \"dor\"; did you mean \"door\"?"
        );
    }
}
