//! The list of keys.

use bevy_egui::egui::{Align2, Context, Grid, RichText, Window};

use super::style::{ACCENT, WEAK};
use crate::view::state::ViewState;

/// Keys and what they do.
pub const KEYS: [(&str, &str); 21] = [
    ("Space", "pause or go on"),
    (".", "a single tick"),
    (
        "1 – 4",
        "slow motion, real time, four times real time, as fast as possible",
    ),
    ("Tab, Shift+Tab", "next or previous agent of the list"),
    ("F", "follow the selected environment"),
    ("O", "overview of all environments"),
    ("Home", "first point of view"),
    ("H", "the selected environment alone"),
    ("B", "mark the best environment"),
    ("L", "labels above the environments"),
    ("G", "visual or collision geoms"),
    ("P", "screenshot"),
    ("V", "begin or end a video"),
    ("Esc", "select nothing"),
    ("F1", "these keys"),
    ("", ""),
    ("left click", "select an environment"),
    ("right drag", "turn the camera"),
    ("middle drag", "move the camera"),
    ("Shift + right drag", "move the camera"),
    ("wheel", "zoom"),
];

/// Shows the window with the keys while it is open.
pub fn show(context: &Context, view: &mut ViewState) {
    let window = Window::new("Keys").open(&mut view.help);
    let centred = window
        .collapsible(false)
        .resizable(false)
        .anchor(Align2::CENTER_CENTER, [0.0, 0.0]);
    centred.show(context, |ui| {
        Grid::new("keys").num_columns(2).spacing([18.0, 4.0]).show(ui, |ui| {
            for (key, effect) in KEYS {
                ui.label(RichText::new(key).monospace().color(ACCENT));
                ui.label(RichText::new(effect).color(WEAK));
                ui.end_row();
            }
        });
    });
}
