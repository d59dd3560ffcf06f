//! What the inspected agent sees, number by number, in the parts the scene names.

use std::ops::Range;

use bevy_egui::egui::{CollapsingHeader, Grid, RichText, Ui};
use mujoco_rs::wrappers::mj_model::MjtJoint;

use super::style::{TEXT, WEAK, missing, short};
use crate::scene::{Channel, CompiledScene, ObservationTerm, Source};

/// A part of the observation: one term of the scene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub title: String,
    /// Its channels.
    pub channels: Range<usize>,
    /// Whether these are goals, in the order of the measured channels before them.
    pub goals: bool,
}

/// The parts of a scene's observation, in its order.
pub fn parts(scene: &CompiledScene) -> Vec<Part> {
    let channels = scene.channels();
    let mut at = 0;
    let mut parts = Vec::new();
    for term in &scene.scene().observation.terms {
        let first = at;
        let (title, goals) = match term {
            ObservationTerm::Position { joints, .. } => {
                at += stretch(channels.get(at..).unwrap_or_default(), joints);
                (titled("Position", joints, at - first), false)
            }
            ObservationTerm::Velocity { joints, .. } => {
                at += stretch(channels.get(at..).unwrap_or_default(), joints);
                (titled("Velocity", joints, at - first), false)
            }
            ObservationTerm::Body { bodies } => {
                at = (at + 3 * bodies.len()).min(channels.len());
                (titled("Place", bodies, at - first), false)
            }
            ObservationTerm::Goal { .. } => {
                let before = channels.get(..at).unwrap_or_default();
                at = (at + before.iter().filter(|channel| measured(channel)).count()).min(channels.len());
                (format!("Goals ({})", at - first), true)
            }
        };
        parts.push(Part {
            title,
            channels: first..at,
            goals,
        });
    }
    parts
}

fn measured(channel: &Channel) -> bool {
    !matches!(channel.source, Source::Constant(_))
}

/// How many of the channels belong to these joints, one after another.
fn stretch(channels: &[Channel], joints: &[String]) -> usize {
    let mut at = 0;
    for joint in joints {
        let belongs = |channel: &&Channel| {
            let rest = channel.name.strip_prefix(joint.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        };
        at += channels.iter().skip(at).take_while(belongs).count();
    }
    at
}

fn titled(what: &str, joints: &[String], count: usize) -> String {
    let own = |name: &String| name.rsplit(':').next().unwrap_or(name).to_owned();
    match (joints.first(), joints.last()) {
        (Some(first), Some(last)) if first != last => format!("{what}: {} … {} ({count})", own(first), own(last)),
        (Some(only), _) => format!("{what}: {} ({count})", own(only)),
        _ => format!("{what} ({count})"),
    }
}

/// Length of what all names begin with, up to a separator.
pub fn common_prefix(names: &[&str]) -> usize {
    let Some((first, others)) = names.split_first().filter(|(_, others)| !others.is_empty()) else {
        return 0;
    };
    let shared = |other: &&str| first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let length = others.iter().map(shared).min().unwrap_or(0);
    let shared = first.as_bytes().get(..length).unwrap_or_default();
    let separated = shared
        .iter()
        .rposition(|byte| matches!(byte, b':' | b'_' | b'/' | b' '));
    separated.map_or(0, |at| at + 1)
}

/// What a number of a state is measured in.
pub fn unit(scene: &CompiledScene, source: Source) -> &'static str {
    let model = scene.model();
    let (starts, index) = match source {
        Source::Position(index) | Source::Magnitude(index) => (model.jnt_qposadr(), index),
        Source::Body(_) => return "m",
        Source::Velocity(index) => (model.jnt_dofadr(), index),
        Source::Constant(_) => return "",
    };
    let Some(joint) = starts.iter().rposition(|start| *start as usize <= index) else {
        return "";
    };
    let Some((kind, start)) = model.jnt_type().get(joint).zip(starts.get(joint)) else {
        return "";
    };
    let place = index - *start as usize;
    match (source, kind) {
        (Source::Velocity(_), MjtJoint::mjJNT_SLIDE) => "m/s",
        (Source::Velocity(_), MjtJoint::mjJNT_FREE) if place < 3 => "m/s",
        (Source::Velocity(_), _) => "rad/s",
        (_, MjtJoint::mjJNT_SLIDE) => "m",
        (_, MjtJoint::mjJNT_FREE) if place < 3 => "m",
        (_, MjtJoint::mjJNT_HINGE) => "rad",
        // A number of a quaternion.
        _ => "",
    }
}

/// Draws the parts, each of which can be unfolded.
pub fn show(ui: &mut Ui, scene: &CompiledScene, observation: &[f32]) {
    if observation.is_empty() {
        missing(ui, "Nothing observed yet.");
        return;
    }
    for part in parts(scene) {
        let header = CollapsingHeader::new(RichText::new(&part.title).color(TEXT)).id_salt(part.channels.start);
        header.show(ui, |ui| numbers(ui, scene, &part, observation));
    }
}

fn numbers(ui: &mut Ui, scene: &CompiledScene, part: &Part, observation: &[f32]) {
    let channels = scene.channels().get(part.channels.clone()).unwrap_or_default();
    let names: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
    let common = common_prefix(&names);
    let mut mirrored = scene.channels().iter().filter(|channel| measured(channel));
    Grid::new(part.channels.start)
        .num_columns(4)
        .spacing([10.0, 2.0])
        .show(ui, |ui| {
            for (index, channel) in part.channels.clone().zip(channels) {
                // A goal is measured in what it is the goal of.
                let source = if part.goals {
                    mirrored.next().map(|channel| channel.source)
                } else {
                    Some(channel.source)
                };
                let name = channel.name.get(common..).unwrap_or(&channel.name);
                ui.label(RichText::new(name).color(WEAK)).on_hover_text(&channel.name);
                let value = observation.get(index).map_or_else(|| "–".into(), |value| short(*value));
                ui.label(RichText::new(value).monospace());
                ui.label(RichText::new(source.map_or("", |source| unit(scene, source))).color(WEAK));
                if channel.noise > 0.0 {
                    let noise = RichText::new(format!("± {}", short(channel.noise)))
                        .monospace()
                        .color(WEAK);
                    ui.label(noise)
                        .on_hover_text("Uniform noise of the measurement lies within these bounds.");
                }
                ui.end_row();
            }
        });
}
