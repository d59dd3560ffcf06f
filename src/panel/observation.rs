//! What the inspected agent sees, number by number, in the parts the scene names.

use std::ops::Range;

use super::style::{TEXT, WEAK, missing, short};
use crate::scene::{CompiledScene, ObservationTerm, Place};
use bevy_egui::egui::{CollapsingHeader, Grid, RichText, Ui};

/// A part of the observation: one term of the scene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub title: String,
    /// Its channels.
    pub channels: Range<usize>,
}

/// The parts of a scene's observation, in its order.
pub fn parts(scene: &CompiledScene) -> Vec<Part> {
    let channels = scene.channels();
    let terms = scene.scene().observation.terms.iter().enumerate();
    terms
        .map(|(index, term)| {
            let first = channels.partition_point(|channel| channel.term < index);
            let end = channels.partition_point(|channel| channel.term <= index);
            Part {
                title: title(term, end - first),
                channels: first..end,
            }
        })
        .collect()
}

fn title(term: &ObservationTerm, count: usize) -> String {
    let places = |places: &[Place]| -> Vec<String> { places.iter().map(Place::label).collect() };
    match term {
        ObservationTerm::Position { joints, .. } => titled("Position", joints, count),
        ObservationTerm::Velocity { joints, .. } => titled("Velocity", joints, count),
        ObservationTerm::Body { bodies } => titled("Place", bodies, count),
        ObservationTerm::Goal { .. } | ObservationTerm::GoalOf { .. } => format!("Goals ({count})"),
        ObservationTerm::Place { of, .. } => titled("Place", &places(of), count),
        ObservationTerm::Orientation { of, .. } => titled("Orientation", &places(of), count),
        ObservationTerm::LinearVelocity { of, .. } => titled("Velocity", &places(of), count),
        ObservationTerm::AngularVelocity { of, .. } => titled("Angular velocity", &places(of), count),
        ObservationTerm::Sensor { sensors, .. } => titled("Sensor", sensors, count),
        ObservationTerm::Contact { force: false, .. } => format!("Contacts ({count})"),
        ObservationTerm::Contact { force: true, .. } => format!("Contact forces ({count})"),
        ObservationTerm::PreviousAction { .. } => format!("Last action ({count})"),
        ObservationTerm::Done { .. } => format!("Done ({count})"),
        ObservationTerm::Time { .. } => "Time left (1)".into(),
    }
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
    Grid::new(part.channels.start)
        .num_columns(4)
        .spacing([10.0, 2.0])
        .show(ui, |ui| {
            for (index, channel) in part.channels.clone().zip(channels) {
                let name = channel.name.get(common..).unwrap_or(&channel.name);
                ui.label(RichText::new(name).color(WEAK)).on_hover_text(&channel.name);
                let value = observation.get(index).map_or_else(|| "–".into(), |value| short(*value));
                ui.label(RichText::new(value).monospace());
                ui.label(RichText::new(channel.unit).color(WEAK));
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
