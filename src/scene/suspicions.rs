//! What is legal in a scene, but probably not meant.

use super::{CompiledScene, Scene, Source};
use crate::demos::DemonstratorSpec;
use crate::demos::waypoints::{Pull, Push, Stretch, Turn};
use crate::files;
use crate::sim::Environment;

/// How far a joint may start outside its range, as a share of it: recorded states are never quite inside.
const SLACK: f64 = 0.01;

/// Something that is legal and probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// Where in the scene, with dots: `reset.positions.door`.
    pub field: String,
    /// What is strange about it.
    pub message: String,
}

impl CompiledScene {
    /// What is legal in this scene, but probably not meant.
    pub fn suspicions(&self) -> Vec<Suspicion> {
        let mut found = Vec::new();
        let mut note = |field: String, message: String| found.push(Suspicion { field, message });
        rewards(self, &mut note);
        joints(self, &mut note);
        pushes(self, &mut note);
        start(self, &mut note);
        for (index, camera) in self.scene().cameras.iter().enumerate().skip(1) {
            let message = format!(
                "no window and no video uses the camera {:?}, only the first one; `apprentice scenes show --camera` does",
                camera.name
            );
            note(format!("cameras.{index}.name"), message);
        }
        found
    }

    /// Indices of the elements that the task mentions anywhere: in its list or in a term of the reward.
    pub(crate) fn rewarded(&self) -> Vec<usize> {
        let task = files::to_text(&self.scene().task).unwrap_or_default();
        let mentioned = |name: &str| task.contains(&format!("{name:?}"));
        let elements = self.elements().iter().enumerate();
        elements
            .filter(|(_, element)| mentioned(&element.name))
            .map(|(index, _)| index)
            .collect()
    }
}

fn rewards(scene: &CompiledScene, note: &mut impl FnMut(String, String)) {
    let described: &Scene = scene.scene();
    if described.task.elements.is_empty() && described.task.rewards.is_empty() {
        let message = "no step of any episode is rewarded: neither `elements` nor `rewards` names anything";
        note("task".into(), message.into());
    }
    // A demonstrator shows what may be rewarded in other tasks.
    if described.demonstrator.is_none() {
        let rewarded = scene.rewarded();
        for (index, element) in scene.elements().iter().enumerate() {
            if !rewarded.contains(&index) {
                let message = format!(
                    "nothing rewards the element {:?}, and no demonstrator shows it",
                    element.name
                );
                note(format!("elements.{index}.name"), message);
            }
        }
    }
}

/// The range of the joint whose position is at this place in `qpos`, if it has one.
fn range_of(scene: &CompiledScene, position: usize) -> Option<[f64; 2]> {
    let model = scene.model();
    let addresses = model.jnt_qposadr();
    let joint = addresses
        .iter()
        .position(|&address| usize::try_from(address) == Ok(position))?;
    let range = *model.jnt_range().get(joint)?;
    let limited = model.jnt_limited().get(joint).is_some_and(|limited| *limited);
    limited.then_some(range)
}

fn outside(value: f64, [low, high]: [f64; 2], slack: f64) -> bool {
    value < low - slack || value > high + slack
}

/// Stretches of a demonstrator that move a joint far beyond its range: a little beyond, a hand presses on.
fn pushes(scene: &CompiledScene, note: &mut impl FnMut(String, String)) {
    let Some(DemonstratorSpec::Waypoints(demonstrator)) = &scene.scene().demonstrator else {
        return;
    };
    for (skill, stretches) in &demonstrator.skills {
        for (place, stretch) in stretches.iter().enumerate() {
            let (joint, to) = match stretch {
                Stretch::Pull(Pull { joint, to, .. })
                | Stretch::Push(Push { joint, to, .. })
                | Stretch::Turn(Turn { joint, to, .. }) => (joint, *to),
                _ => continue,
            };
            let position = scene.joint_positions(joint).ok().filter(|range| range.len() == 1);
            let Some(range) = position.and_then(|position| range_of(scene, position.start)) else {
                continue;
            };
            let [low, high] = range;
            if outside(to, range, high - low) {
                let message = format!(
                    "{joint} can never be at {to}: its range is {low:.4} to {high:.4} (rad or m), and the hand goes on until \
                     its time is up"
                );
                note(format!("demonstrator.skills.{skill}.{place}.to"), message);
            }
        }
    }
}

/// Joints that start outside their range, and goals that lie outside it.
fn joints(scene: &CompiledScene, note: &mut impl FnMut(String, String)) {
    let range_of = |position: usize| range_of(scene, position);
    for name in scene.scene().reset.positions.keys() {
        let Some(position) = scene.joint_positions(name).ok().filter(|range| range.len() == 1) else {
            continue;
        };
        let (Some(&value), Some(range)) = (scene.start().get(position.start), range_of(position.start)) else {
            continue;
        };
        let [low, high] = range;
        if outside(value, range, SLACK * (high - low)) {
            let message = format!("{name} starts at {value:.4}, outside its range of {low:.4} to {high:.4}");
            note(format!("reset.positions.{name}"), message);
        }
    }
    for (name, pairs) in &scene.scene().reset.ranges {
        let position = scene.joint_positions(name).ok().filter(|range| range.len() == 1);
        let range = position.and_then(|position| range_of(position.start));
        if let (Some(range), Some(&(low, high))) = (range, pairs.first()) {
            let slack = SLACK * (range[1] - range[0]);
            if outside(low, range, slack) || outside(high, range, slack) {
                let message = format!(
                    "{name} may start outside its range of {:.4} to {:.4} (rad or m)",
                    range[0], range[1]
                );
                note(format!("reset.ranges.{name}"), message);
            }
        }
    }
    for (index, element) in scene.elements().iter().enumerate() {
        for (source, &goal) in element.values.iter().zip(&element.goal) {
            if let Source::Position(position) = source
                && let Some([low, high]) = range_of(*position)
                && outside(goal, [low, high], element.threshold)
            {
                let message = format!(
                    "{:?} can never be at its goal: {goal:.4} is further than the threshold outside the joint's range of \
                     {low:.4} to {high:.4}",
                    element.name
                );
                note(format!("elements.{index}.goal"), message);
            }
        }
    }
}

/// Rewarded elements that are at their goal from the start, and episodes that end at once.
fn start(scene: &CompiledScene, note: &mut impl FnMut(String, String)) {
    let Ok(mut environment) = Environment::new(scene, 0, 0) else {
        return;
    };
    let rewarded = scene.rewarded();
    for (index, (element, distance)) in scene.elements().iter().zip(&environment.progress.distance).enumerate() {
        // A condition may well hold from the start and be rewarded as long as it does.
        let counts = match element.when {
            Some(_) => scene.task().contains(&index),
            None => rewarded.contains(&index),
        };
        if !counts || *distance >= element.threshold {
            continue;
        }
        if element.when.is_some() {
            let message = format!("{:?} counts from the start: its condition holds then", element.name);
            note(format!("elements.{index}.when"), message);
        } else {
            let message = format!(
                "{:?} is at its goal from the start: {distance:.4} away, and the threshold is {}",
                element.name, element.threshold
            );
            note(format!("elements.{index}.goal"), message);
        }
    }
    let still = vec![0.0_f32; scene.action_len()];
    let outcome = environment.step(scene, &still);
    if outcome.terminated && !scene.scene().task.terminate.is_empty() {
        let message = "an episode without action has ended after its first step: does one of these conditions hold from \
                       the start? Angles of conditions are in degrees, those of joints in rad";
        note("task.terminate".into(), message.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn fields(name: &str, overrides: &[&str]) -> Vec<String> {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let scene = CompiledScene::load(name, &overrides).unwrap();
        scene.suspicions().into_iter().map(|found| found.field).collect()
    }

    #[test]
    fn what_is_strange_is_found() {
        assert_eq!(fields("maze", &[]), [""; 0]);
        assert_eq!(fields("blocks", &[]), [""; 0]);
        assert_eq!(
            fields("maze", &["task.rewards=[]", "demonstrator=None"]),
            ["task", "elements.0.name"]
        );
        // Cell (10, 24) is the start.
        assert_eq!(fields("maze", &["elements.0.goal=[10, 24.5]"]), ["elements.0.goal"]);
        // The recorded start of the kitchen has a finger 8 mm too far out.
        let finger = "reset.positions.robot:panda0_finger_joint1";
        assert_eq!(fields("kitchen", &[]), [finger]);
        let strange = [
            "reset.positions.microwave=[-3]",
            "elements.5.goal=[2]",
            "demonstrator=None",
        ];
        assert_eq!(
            fields("kitchen", &strange),
            [
                "elements.3.name",
                "elements.5.name",
                "elements.6.name",
                "reset.positions.microwave",
                finger,
                "elements.5.goal"
            ]
        );
    }
}
