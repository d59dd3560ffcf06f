//! The bar at the top: pace, camera, pictures, and what is shown.

use bevy_egui::egui::containers::menu::{MenuButton, MenuConfig};
use bevy_egui::egui::{Button, PopupCloseBehavior, RichText, Ui};

use super::style::{BAD, GOOD, WEAK, counted, figure, short};
use super::{Show, style};
use crate::view::state::{Ask, CameraMode, ViewState};
use crate::watch::{Notice, Pace, Request};

/// A pace that can be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaceChoice {
    /// What its button says.
    pub name: &'static str,
    /// A sentence about it.
    pub explained: &'static str,
    /// The pace.
    pub pace: Pace,
}

/// The paces to choose from, in the order of the keys 1 to 4, for a scene with control steps of `period` seconds.
pub fn paces(period: f64) -> [PaceChoice; 4] {
    let real = 1.0 / period;
    let choice = |name, explained, pace| PaceChoice { name, explained, pace };
    [
        choice(
            "¼×",
            "Slow motion: four seconds for each simulated one. (1)",
            Pace::Limited(real / 4.0),
        ),
        choice(
            "1×",
            "Real time: as fast as the robot would move. (2)",
            Pace::Limited(real),
        ),
        choice(
            "4×",
            "Four simulated seconds in each second. (3)",
            Pace::Limited(4.0 * real),
        ),
        choice(
            "max",
            "As fast as possible: no waiting between ticks. (4)",
            Pace::Unlimited,
        ),
    ]
}

fn same(a: Pace, b: Pace) -> bool {
    match (a, b) {
        (Pace::Limited(a), Pace::Limited(b)) => (a - b).abs() <= 1e-3 * b.abs(),
        (Pace::EveryTick, Pace::Unlimited) => true,
        _ => a == b,
    }
}

/// Draws the bar.
pub fn show(ui: &mut Ui, show: &Show<'_>, view: &mut ViewState, asks: &mut Vec<Ask>) {
    ui.add_space(2.0);
    ui.horizontal_wrapped(|ui| {
        pace(ui, show, view, asks);
        ui.separator();
        camera(ui, view, asks);
        ui.separator();
        keep(ui, show, view, asks);
        ui.separator();
        view_menu(ui, view);
        open_panels(ui, view);
    });
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 12.0;
        ui.label(RichText::new(&show.watched.subject.title).strong());
        figures(ui, show);
        news(ui, show);
    });
}

fn pace(ui: &mut Ui, show: &Show<'_>, view: &ViewState, asks: &mut Vec<Ask>) {
    let now = show.watched.current.pace;
    let running = show.watched.ended.is_none();
    ui.add_enabled_ui(running, |ui| {
        let paused = now == Some(Pace::Paused);
        let (text, explained) = if paused {
            ("▶ Continue", "Go on at the pace before. (Space)")
        } else {
            (
                "⏸ Pause",
                "Hold the world after the running tick; nothing is lost. (Space)",
            )
        };
        if ui.button(text).on_hover_text(explained).clicked() {
            let wanted = if paused { view.pace } else { Pace::Paused };
            asks.push(Ask::World(Request::Pace(wanted)));
        }
        let single = "Run one tick, which is one control step of every environment, then hold. (.)";
        if ui.button("⏭ Tick").on_hover_text(single).clicked() {
            asks.push(Ask::World(Request::Ticks(1)));
        }
        for choice in paces(show.watched.subject.scene.period()) {
            let chosen = now.is_some_and(|now| same(now, choice.pace));
            let button = ui.add(Button::selectable(chosen, choice.name));
            if button.on_hover_text(choice.explained).clicked() {
                asks.push(Ask::World(Request::Pace(choice.pace)));
            }
        }
    });
}

fn camera(ui: &mut Ui, view: &mut ViewState, asks: &mut Vec<Ask>) {
    let overview = ui.add(Button::selectable(view.camera == CameraMode::Overview, "Overview"));
    if overview.on_hover_text("Look at all environments. (O)").clicked() {
        view.camera = CameraMode::Overview;
    }
    let follow = Button::selectable(view.camera == CameraMode::Follow, "Follow");
    let follow = ui.add_enabled(view.selected.is_some(), follow);
    let follow = follow.on_hover_text("Stay with the selected environment. (F)");
    if follow
        .on_disabled_hover_text("Select an environment to follow it.")
        .clicked()
    {
        view.camera = CameraMode::Follow;
    }
    let reset = ui
        .button("Reset")
        .on_hover_text("Back to the first point of view. (Home)");
    if reset.clicked() {
        asks.push(Ask::ResetCamera);
    }
}

fn keep(ui: &mut Ui, show: &Show<'_>, view: &ViewState, asks: &mut Vec<Ask>) {
    let screenshot = ui.button("📷 Screenshot");
    if screenshot
        .on_hover_text("Save the next picture of the window as a PNG file. (P)")
        .clicked()
    {
        asks.push(Ask::Screenshot);
    }
    let (text, explained) = match &view.recording {
        None => (
            RichText::new("⏺ Record"),
            "Begin a video: every tick becomes a frame, so the world waits for the pictures. (V)".to_owned(),
        ),
        Some((path, frames)) => (
            RichText::new(format!("⏺ Stop ({} frames)", counted(*frames))).color(BAD),
            format!("End the video {}. (V)", path.display()),
        ),
    };
    if ui.button(text).on_hover_text(explained).clicked() {
        asks.push(Ask::Record);
    }
    if show.watched.subject.trains {
        let save = ui.add_enabled(show.watched.ended.is_none(), Button::new("💾 Save"));
        let explained = "Write a checkpoint of every learner now, besides those that are due anyway.";
        if save.on_hover_text(explained).clicked() {
            asks.push(Ask::World(Request::Save));
        }
    }
}

fn view_menu(ui: &mut Ui, view: &mut ViewState) {
    let stays = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let menu = MenuButton::new("View ⏷").config(stays);
    menu.ui(ui, |ui| {
        ui.label(RichText::new("Geoms by group").color(WEAK));
        for (group, shown) in view.groups.iter_mut().enumerate() {
            let kind = if group < 3 { "visual" } else { "collision" };
            let explained = "MuJoCo's groups of geoms: by convention 0 to 2 are to be seen and 3 to 5 collide. (G)";
            ui.checkbox(shown, format!("Group {group} ({kind})"))
                .on_hover_text(explained);
        }
        ui.separator();
        let tendons = "Lines of spatial tendons, of the selected environment only.";
        let alone = "Hide all environments but the selected one. (H)";
        for (shown, name, explained) in [
            (
                &mut view.sites,
                "Sites",
                "Marked places of the model, such as grasp points.",
            ),
            (&mut view.tendons, "Tendons", tendons),
            (
                &mut view.labels,
                "Labels",
                "Return, elements and skill above each environment. (L)",
            ),
            (
                &mut view.highlight_best,
                "Mark the best",
                "The environment with the highest return. (B)",
            ),
            (&mut view.shadows, "Shadows", "Shadows cost drawing time."),
            (&mut view.alone, "Alone", alone),
        ] {
            ui.checkbox(shown, name).on_hover_text(explained);
        }
    });
}

fn open_panels(ui: &mut Ui, view: &mut ViewState) {
    for (open, name, explained) in [
        (
            &mut view.agents,
            "Agents",
            "The list of learners and environments, on the left.",
        ),
        (
            &mut view.skill_map,
            "Skill map",
            "The skill space in two dimensions, on the left.",
        ),
        (
            &mut view.inspector,
            "Inspector",
            "The inside of the selected agent, on the right.",
        ),
        (&mut view.learning, "Learning", "Learning curves, below."),
        (&mut view.help, "Help", "The keys. (F1)"),
    ] {
        ui.toggle_value(open, name).on_hover_text(explained);
    }
}

fn figures(ui: &mut Ui, show: &Show<'_>) {
    let watched = show.watched;
    let (ticks, environments) = (f64::from(watched.ticks_per_second), watched.current.environments.len());
    let period = watched.subject.scene.period();
    let explained = "Ticks since the world was made. A tick is one control step of every environment.";
    figure(ui, &counted(watched.current.tick), "ticks", explained);
    let explained = "Ticks in the last second or so.";
    figure(ui, &short(ticks), "ticks/s", explained);
    let explained = format!(
        "Simulated seconds for each second on the clock. A tick simulates {} s.",
        short(period)
    );
    figure(ui, &short(ticks * period), "× real time", &explained);
    let explained = format!("Control steps of all {environments} environments together.");
    figure(
        ui,
        &short(ticks * environments as f64),
        "environment steps/s",
        &explained,
    );
    let explained = "Pictures a second that this window draws. The world does not wait for them.";
    figure(ui, &short(show.frames_per_second), "frames/s", explained);
}

fn news(ui: &mut Ui, show: &Show<'_>) {
    let line = |ui: &mut Ui, notice: &Notice, good| {
        let (text, colour) = match notice {
            Ok(text) => (text, good),
            Err(text) => (text, BAD),
        };
        ui.label(RichText::new(text).color(colour));
    };
    if let Some(ended) = &show.watched.ended {
        ui.separator();
        ui.label(RichText::new("Ended:").strong());
        line(ui, ended, GOOD);
    }
    if let Some(notice) = show.watched.notices.back() {
        ui.separator();
        line(ui, notice, style::TEXT);
    }
}
