//! The skill an agent carries out, against what policy and prior thought of it.

use bevy_egui::egui::{Align2, Color32, Painter, ProgressBar, Rect, RichText, Sense, TextStyle, Ui, pos2, vec2};

use super::bars::{Axis, Row};
use super::style::{ACCENT, NOTABLE, PRIOR, TEXT, TROUGH, WEAK, named, short};
use crate::watch::{Gaussian, SkillView};

const NAME: f32 = 30.0;
/// Room on the right of the bands: a bar for the divergence, and its number.
const RIGHT: f32 = 108.0;
const BAR: f32 = 46.0;

/// Draws the skill.
pub fn show(ui: &mut Ui, skill: &SkillView) {
    if skill.length > 1 {
        let share = skill.elapsed as f32 / skill.length as f32;
        let text = format!("{} of {} control steps", skill.elapsed, skill.length);
        let bar = ProgressBar::new(share)
            .text(RichText::new(text).small())
            .desired_height(14.0);
        ui.add(bar)
            .on_hover_text("How far the skill has been carried out. After its last step the policy chooses again.");
    } else {
        ui.label(RichText::new("a single action").color(WEAK))
            .on_hover_text("The policy chooses the action anew in every control step.");
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 12.0;
        match skill.total_divergence() {
            Some(total) => {
                let explained = "Kullback-Leibler divergence of the policy from the skill prior, over all numbers of the \
                                 skill: how much the policy departs from what demonstrations suggest here.";
                named(ui, "divergence", &format!("{} nats", short(total)), explained);
            }
            None => {
                let explained = "The learner is held back by the entropy of its policy instead.";
                ui.label(RichText::new("no prior").color(WEAK)).on_hover_text(explained);
            }
        }
        if let Some([first, second]) = skill.q {
            let explained = "What the two critics expect: the discounted return, less the weighted divergence, after this \
                             skill. The smaller one counts.";
            named(ui, "Q", &format!("{} / {}", short(first), short(second)), explained);
        }
    });
    if !skill.chosen.is_empty() {
        bands(ui, skill);
    }
}

/// The outer end of the common axis: what is needed to show everything, in halves.
pub fn reach(skill: &SkillView) -> f32 {
    let spread = |gaussian: &Gaussian| {
        let ends = gaussian
            .mean
            .iter()
            .zip(&gaussian.sigma)
            .map(|(mean, sigma)| mean.abs() + sigma.abs());
        ends.filter(|end| end.is_finite()).fold(0.0, f32::max)
    };
    let chosen = skill
        .chosen
        .iter()
        .map(|number| number.abs())
        .filter(|number| number.is_finite());
    let widest = chosen
        .fold(spread(&skill.policy), f32::max)
        .max(skill.prior.as_ref().map_or(0.0, spread));
    ((2.0 * widest).ceil() / 2.0).clamp(0.5, 1e6)
}

fn bands(ui: &mut Ui, skill: &SkillView) {
    let reach = reach(skill);
    legend(ui, skill.prior.is_some());
    scale(ui, reach);
    let largest = skill
        .divergence
        .iter()
        .copied()
        .filter(|nats| nats.is_finite())
        .fold(1e-3, f32::max);
    for (index, chosen) in skill.chosen.iter().enumerate() {
        let policy = of(&skill.policy, index);
        let prior = skill.prior.as_ref().and_then(|prior| of(prior, index));
        let divergence = skill.prior.as_ref().and_then(|_| skill.divergence.get(index)).copied();
        let (name, number) = (format!("z{index}"), divergence.map(short).unwrap_or_default());
        let row = Row {
            colour: WEAK,
            name_width: NAME,
            number_width: RIGHT,
            ..Row::new(&name, &number, [-reach, reach])
        };
        let line = line(index, *chosen, policy, prior, divergence);
        let response = row.show(ui, Some(&line), |painter, axis| {
            band(painter, axis, prior, PRIOR, 1.0);
            band(painter, axis, policy, ACCENT, 0.5);
            axis.tick(painter, 0.0, 1.0, Color32::from_gray(80));
            axis.tick(painter, *chosen, 2.0, Color32::WHITE);
            let left = axis.rect.right() + 6.0;
            let rect = Rect::from_x_y_ranges(left..=left + BAR, axis.rect.y_range());
            painter.rect_filled(rect, 2.0, TROUGH);
            let nats = Axis {
                low: 0.0,
                high: largest,
                rect,
            };
            nats.fill(painter, 0.0, divergence.unwrap_or(f32::NAN), 1.0, NOTABLE);
        });
        response.on_hover_text(line);
    }
}

fn of(gaussian: &Gaussian, index: usize) -> Option<(f32, f32)> {
    Some((*gaussian.mean.get(index)?, *gaussian.sigma.get(index)?))
}

fn band(painter: &Painter, axis: Axis, gaussian: Option<(f32, f32)>, colour: Color32, height: f32) {
    if let Some((mean, sigma)) = gaussian {
        axis.fill(painter, mean - sigma, mean + sigma, height, colour.gamma_multiply(0.45));
        if let Some(x) = axis.place(mean) {
            let half = 0.5 * height * axis.rect.height();
            let middle = axis.rect.center().y;
            painter.vline(x, middle - half..=middle + half, (1.5, colour));
        }
    }
}

fn line(
    index: usize,
    chosen: f32,
    policy: Option<(f32, f32)>,
    prior: Option<(f32, f32)>,
    divergence: Option<f32>,
) -> String {
    let spread = |name: &str, gaussian: Option<(f32, f32)>| {
        gaussian
            .map(|(mean, sigma)| format!(", {name} {} ± {}", short(mean), short(sigma)))
            .unwrap_or_default()
    };
    let nats = divergence
        .map(|nats| format!(", divergence {} nats", short(nats)))
        .unwrap_or_default();
    format!(
        "z{index}: chosen {}{}{}{nats}",
        short(chosen),
        spread("policy", policy),
        spread("prior", prior)
    )
}

fn legend(ui: &mut Ui, prior: bool) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 10.0;
        let explained = "The number that was drawn, for each number of the skill.";
        ui.label(RichText::new("| chosen").small().color(TEXT))
            .on_hover_text(explained);
        let explained = "The policy: mean and one standard deviation to each side, where the skill was chosen.";
        ui.label(RichText::new("■ policy ± σ").small().color(ACCENT))
            .on_hover_text(explained);
        if prior {
            let explained = "The skill prior: what demonstrations suggest in this state.";
            ui.label(RichText::new("■ prior ± σ").small().color(PRIOR))
                .on_hover_text(explained);
            let explained = "Divergence of the policy from the prior, number by number. Right of each band.";
            ui.label(RichText::new("■ divergence (nats)").small().color(NOTABLE))
                .on_hover_text(explained);
        }
    });
}

fn scale(ui: &mut Ui, reach: f32) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 10.0), Sense::hover());
    let (left, right) = (rect.left() + NAME, rect.right() - RIGHT);
    let font = TextStyle::Small.resolve(ui.style());
    for (x, align, number) in [
        (left, Align2::LEFT_CENTER, -reach),
        (0.5 * (left + right), Align2::CENTER_CENTER, 0.0),
        (right, Align2::RIGHT_CENTER, reach),
    ] {
        let at = pos2(x, rect.center().y);
        ui.painter().text(at, align, number.to_string(), font.clone(), WEAK);
    }
}
