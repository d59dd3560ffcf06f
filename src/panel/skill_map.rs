//! The skill space in two dimensions: the skills of the demonstrations, and those chosen lately.

use std::collections::BTreeMap;

use bevy_egui::egui::{Color32, Label, RichText, Ui, vec2};
use egui_plot::{Plot, PlotPoints, Points};

use super::Show;
use super::style::{GRID, WEAK, missing, on_axis, series};
use crate::skills::latent::LatentMap;
use crate::view::state::ViewState;

/// Points of the background that are drawn at most.
const BACKGROUND: usize = 1_200;
/// Chosen skills that are drawn at most.
const LATELY: usize = 300;

const LATELY_COLOUR: Color32 = Color32::from_gray(150);

/// Where a skill lies on the map; on its first two numbers where there is none.
pub fn project(map: Option<&LatentMap>, skill: &[f32]) -> [f64; 2] {
    let number = |index: usize| skill.get(index).map_or(0.0, |number| f64::from(*number));
    let Some(map) = map else {
        return [number(0), number(1)];
    };
    let along = |axis: &Vec<f32>| {
        let numbers = skill.iter().zip(&map.mean).zip(axis);
        numbers
            .map(|((number, mean), axis)| f64::from(number - mean) * f64::from(*axis))
            .sum()
    };
    [along(&map.axes[0]), along(&map.axes[1])]
}

/// Draws the panel.
pub fn show(ui: &mut Ui, show: &Show<'_>, view: &ViewState) {
    let map = show.watched.subject.skill_map.as_deref();
    let recent = &show.watched.current.recent_skills;
    ui.horizontal_wrapped(|ui| {
        let explained = "Coloured: skills of the demonstrations, by what they were at. Grey: skills that agents chose lately. \
                         White: those of the selected environment, the newest the largest.";
        ui.label(RichText::new("Skill map").strong()).on_hover_text(explained);
        let about = match map {
            Some(map) => {
                let [first, second] = map.explained.map(|share| (100.0 * share).round());
                format!("principal axes, {first} % and {second} % of the variance")
            }
            None => "no map of the demonstrations: first two numbers of the skill".into(),
        };
        ui.label(RichText::new(about).small().color(WEAK));
    });
    if map.is_none() && recent.is_empty() {
        missing(ui, "No skill chosen yet.");
        return;
    }
    let background = map.map(|map| background(show, map)).unwrap_or_default();
    let lately = recent.get(recent.len().saturating_sub(LATELY)..).unwrap_or_default();
    let (own, others): (Vec<_>, Vec<_>) = lately
        .iter()
        .partition(|(environment, _)| Some(*environment) == view.selected);
    let projected = |(_, skill): &(_, Vec<f32>)| project(map, skill);
    let finite = |point: &[f64; 2]| point.iter().all(|number| number.is_finite());
    let others: Vec<[f64; 2]> = others.into_iter().map(projected).filter(finite).collect();
    let own: Vec<[f64; 2]> = own.into_iter().map(projected).filter(finite).collect();
    legend(ui, &background);
    let plot = Plot::new("skill map").data_aspect(1.0).grid_color(GRID);
    let plot = plot
        .y_axis_formatter(|mark, _| on_axis(mark.value))
        .x_axis_formatter(|mark, _| on_axis(mark.value));
    plot.allow_scroll(false).show(ui, |plot| {
        for (label, (colour, points)) in background {
            let colour = colour.gamma_multiply(0.55);
            let points = Points::new(label, PlotPoints::from(points)).radius(1.6).color(colour);
            plot.points(points.allow_hover(false));
        }
        if !others.is_empty() {
            plot.points(
                Points::new("chosen lately", PlotPoints::from(others))
                    .radius(2.2)
                    .color(LATELY_COLOUR),
            );
        }
        let newest = own.len().saturating_sub(1);
        for (index, point) in own.into_iter().enumerate() {
            let age = (newest - index) as f32;
            let radius = 2.5 + 3.5 / (1.0 + 0.4 * age);
            plot.points(
                Points::new("selected", PlotPoints::from(point))
                    .radius(radius)
                    .color(Color32::WHITE),
            );
        }
    });
}

fn legend(ui: &mut Ui, background: &Groups<'_>) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(8.0, 0.0);
        let demonstrated = background.iter().map(|(label, (colour, _))| (*label, *colour));
        let chosen = [("chosen lately", LATELY_COLOUR), ("selected", Color32::WHITE)];
        for (label, colour) in demonstrated.chain(chosen) {
            let text = RichText::new(format!("⏺ {label}")).small().color(colour);
            ui.add(Label::new(text).extend());
        }
    });
}

type Groups<'a> = BTreeMap<&'a str, (Color32, Vec<[f64; 2]>)>;

/// The skills of the demonstrations by their labels. Elements have the colours they have in the inspector.
fn background<'a>(show: &Show<'_>, map: &'a LatentMap) -> Groups<'a> {
    let elements = show.watched.subject.scene.elements();
    let mut groups = Groups::new();
    let every = map.points.len().div_ceil(BACKGROUND).max(1);
    for (point, label) in map.points.iter().zip(&map.labels).step_by(every) {
        let others = groups.len();
        let group = groups.entry(label).or_insert_with(|| {
            let element = elements.iter().position(|element| element.name == *label);
            (series(element.unwrap_or(elements.len() + others)), Vec::new())
        });
        if point.iter().all(|number| number.is_finite()) {
            group.1.push(point.map(f64::from));
        }
    }
    groups
}
