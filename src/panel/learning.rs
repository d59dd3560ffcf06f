//! Learning curves, as they grow.

use std::collections::BTreeMap;

use bevy_egui::egui::containers::menu::{MenuButton, MenuConfig};
use bevy_egui::egui::{Color32, PopupCloseBehavior, RichText, ScrollArea, Ui, vec2};
use egui_plot::{HoverPosition, Line, Plot, PlotPoints};

use super::style::{GRID, WEAK, missing, of_seed, on_axis, short};
use crate::view::state::{Curves, ViewState};

/// Points of a curve that are drawn at most.
pub const POINTS: usize = 500;
/// Points of a mean over seeds.
const MEANS: usize = 120;
/// Narrowest plot, points.
const NARROW: f32 = 150.0;

/// What is shown before anything is chosen.
const DEFAULTS: [&str; 6] = [
    "practice/completed",
    "evaluation/completed",
    "practice/success",
    "learner/penalty",
    "learner/temperature",
    "rate/steps_per_second",
];

/// Metrics with what they are measured in, and a sentence.
const EXPLAINED: [(&str, &str, &str); 18] = [
    (
        "completed",
        "elements",
        "Elements of the task that were done in an episode, on average since the report before.",
    ),
    (
        "success",
        "share",
        "Share of the episodes in which the whole task was done.",
    ),
    ("episode_length", "control steps", "Length of the episodes."),
    ("episodes", "episodes", "Episodes since the report before."),
    (
        "penalty",
        "nats",
        "Divergence of the policy from the skill prior in the sampled states.",
    ),
    (
        "penalty_target",
        "nats",
        "Where the temperature tries to keep the divergence.",
    ),
    (
        "temperature",
        "",
        "Weight of the divergence from the skill prior (or of the entropy) against the return.",
    ),
    ("entropy", "nats", "Entropy of the policy in the sampled states."),
    ("q", "return", "What the first critic expects of the sampled skills."),
    ("policy_loss", "", "Loss of the policy."),
    ("critic_loss", "", "Mean loss of both critics."),
    ("policy_gradient", "", "Norm of the policy's gradient."),
    (
        "skipped",
        "share",
        "Share of the updates that were left out because a number was not finite.",
    ),
    (
        "steps_per_second",
        "steps/s",
        "Environment steps of this learner in each second.",
    ),
    (
        "faults",
        "episodes",
        "Episodes that ended because the physics could not be trusted.",
    ),
    ("refused", "transitions", "Transitions that the replay buffer refused."),
    (
        "elements",
        "share",
        "Share of the episodes in which this element was done.",
    ),
    ("", "", "A metric of the learner."),
];

/// What a metric is measured in, and a sentence about it.
pub fn explained(tag: &str) -> (&'static str, &'static str) {
    let name = if tag.contains("/elements/") {
        "elements"
    } else {
        tag.rsplit('/').next().unwrap_or(tag)
    };
    let known = EXPLAINED.iter().find(|(known, ..)| *known == name).or(EXPLAINED.last());
    known.map_or(("", ""), |(_, unit, sentence)| (*unit, *sentence))
}

/// The metrics that are shown: those chosen, or a few that tell most.
pub fn shown<'a>(curves: &'a Curves, view: &'a ViewState) -> Vec<&'a str> {
    let chosen: Vec<&str> = if view.curves.is_empty() {
        DEFAULTS.to_vec()
    } else {
        view.curves.iter().map(String::as_str).collect()
    };
    chosen.into_iter().filter(|tag| curves.0.contains_key(*tag)).collect()
}

/// Draws the panel.
pub fn show(ui: &mut Ui, curves: &Curves, view: &mut ViewState) {
    ui.horizontal(|ui| {
        ui.label(RichText::new("Learning").strong());
        if !curves.0.is_empty() {
            choose(ui, curves, view);
            let seeds: std::collections::BTreeSet<u64> = curves.0.values().flat_map(BTreeMap::keys).copied().collect();
            for seed in &seeds {
                ui.label(RichText::new(format!("⏺ seed {seed}")).small().color(of_seed(*seed)));
            }
            if seeds.len() > 1 {
                let explained = "Mean over the seeds, where all of them have numbers.";
                ui.label(RichText::new("⏺ mean").small().color(Color32::WHITE))
                    .on_hover_text(explained);
            }
        }
    });
    if curves.0.is_empty() {
        missing(
            ui,
            "No curves yet: the first numbers come with the first report of a learner.",
        );
        ui.take_available_space();
        return;
    }
    let tags = shown(curves, view);
    if tags.is_empty() {
        missing(
            ui,
            "None of the chosen metrics has numbers yet. Choose others under \"Metrics\".",
        );
        ui.take_available_space();
        return;
    }
    let spacing = ui.spacing().item_spacing.x;
    let width = (ui.available_width() + spacing) / tags.len() as f32 - spacing;
    let size = vec2(width.max(NARROW), ui.available_height());
    ScrollArea::horizontal().auto_shrink([false, false]).show(ui, |ui| {
        ui.horizontal_top(|ui| {
            for tag in tags {
                let Some(seeds) = curves.0.get(tag) else { continue };
                ui.allocate_ui(size, |ui| {
                    ui.vertical(|ui| {
                        ui.set_width(size.x);
                        plot(ui, tag, seeds);
                    });
                });
            }
        });
    });
}

fn choose(ui: &mut Ui, curves: &Curves, view: &mut ViewState) {
    let stays = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    MenuButton::new("Metrics ⏷").config(stays).ui(ui, |ui| {
        ScrollArea::vertical().max_height(420.0).show(ui, |ui| {
            for tag in curves.0.keys() {
                let now: Vec<&str> = shown(curves, view);
                let mut on = now.contains(&tag.as_str());
                if ui.checkbox(&mut on, tag).on_hover_text(explained(tag).1).changed() {
                    let kept = now.into_iter().filter(|shown| shown != tag).map(str::to_owned);
                    view.curves = kept.chain(on.then(|| tag.clone())).collect();
                }
            }
        });
    });
}

fn plot(ui: &mut Ui, tag: &str, seeds: &BTreeMap<u64, Vec<[f64; 2]>>) {
    let (unit, sentence) = explained(tag);
    let title = if unit.is_empty() {
        tag.to_owned()
    } else {
        format!("{tag} ({unit})")
    };
    let newest = seeds
        .values()
        .filter_map(|points| points.last())
        .map(|[_, y]| *y)
        .collect::<Vec<_>>();
    let hover = format!("{sentence} Over environment steps.");
    ui.horizontal(|ui| {
        ui.label(RichText::new(title).small().color(WEAK)).on_hover_text(&hover);
        if let [only] = newest.as_slice() {
            ui.label(RichText::new(short(*only)).small().monospace())
                .on_hover_text("The newest number.");
        }
    });
    let most = (ui.available_width() as usize).clamp(2, POINTS);
    let plot = Plot::new(tag)
        .height(ui.available_height())
        .grid_color(GRID)
        .y_axis_min_width(28.0)
        .allow_scroll(false);
    let plot = plot
        .y_axis_formatter(|mark, _| on_axis(mark.value))
        .x_axis_formatter(|mark, _| on_axis(mark.value));
    let plot = plot.label_formatter(|position| match position {
        HoverPosition::NearDataPoint {
            plot_name, position, ..
        } => Some(format!(
            "{plot_name}\n{} steps\n{}",
            on_axis(position.x),
            short(position.y)
        )),
        HoverPosition::Elsewhere { .. } => None,
    });
    // A curve that does not move yet has a scale all the same.
    let all = seeds.values().flatten().map(|[_, y]| *y).filter(|y| y.is_finite());
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| {
        (low.min(y), high.max(y))
    });
    let flat = low <= high && high - low <= 1e-6 * high.abs();
    let room = if flat { 0.5 * high.abs().max(1.0) } else { 0.0 };
    let plot = if flat {
        plot.include_y(low - room).include_y(high + room)
    } else {
        plot
    };
    plot.show(ui, |plot| {
        for (seed, points) in seeds {
            let colour = if seeds.len() > 1 {
                of_seed(*seed).gamma_multiply(0.75)
            } else {
                of_seed(*seed)
            };
            let line = Line::new(format!("seed {seed}"), PlotPoints::from(thinned(points, most)));
            plot.line(line.color(colour).width(1.2));
        }
        if seeds.len() > 1 {
            let line = Line::new("mean", PlotPoints::from(mean(seeds)));
            plot.line(line.color(Color32::WHITE).width(2.0));
        }
    });
}

/// At most `most` of the points, evenly spread and with the last one, without those that are not finite.
pub fn thinned(points: &[[f64; 2]], most: usize) -> Vec<[f64; 2]> {
    let every = points.len().div_ceil(most.saturating_sub(1).max(1)).max(1);
    let picked = points.iter().step_by(every);
    let last = points.last().filter(|_| points.len() % every != 1 && every > 1);
    let finite = |point: &&[f64; 2]| point.iter().all(|number| number.is_finite());
    picked.chain(last).filter(finite).copied().collect()
}

/// The mean over all seeds where all of them have numbers, which are joined by straight lines.
pub fn mean(seeds: &BTreeMap<u64, Vec<[f64; 2]>>) -> Vec<[f64; 2]> {
    let start = seeds
        .values()
        .filter_map(|points| points.first())
        .map(|[x, _]| *x)
        .fold(f64::NEG_INFINITY, f64::max);
    let end = seeds
        .values()
        .filter_map(|points| points.last())
        .map(|[x, _]| *x)
        .fold(f64::INFINITY, f64::min);
    if seeds.values().any(Vec::is_empty) || !(start.is_finite() && end.is_finite() && start <= end) {
        return Vec::new();
    }
    let place = |index: usize| start + (end - start) * index as f64 / MEANS as f64;
    let point = |x: f64| {
        let sum: f64 = seeds.values().map(|points| between(points, x)).sum();
        [x, sum / seeds.len() as f64]
    };
    (0..=MEANS)
        .map(place)
        .map(point)
        .filter(|[_, y]| y.is_finite())
        .collect()
}

/// The height of a curve at `x`, on the straight line between its neighbours.
fn between(points: &[[f64; 2]], x: f64) -> f64 {
    let after = points.partition_point(|[other, _]| *other < x);
    match (
        after.checked_sub(1).and_then(|before| points.get(before)),
        points.get(after),
    ) {
        (Some([x0, y0]), Some([x1, y1])) if x1 > x0 => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (_, Some([_, y])) | (Some([_, y]), None) => *y,
        (None, None) => f64::NAN,
    }
}
