//! What is wrong with the scene's files while they are edited.

use bevy_egui::egui::{Align2, Context, RichText, ScrollArea, Window};

use super::style::{BAD, WEAK};

/// Says all that is wrong, in the upper part of the picture; nothing if nothing is.
pub fn show(context: &Context, errors: &[String]) {
    if errors.is_empty() {
        return;
    }
    let window = Window::new(RichText::new("The scene cannot be used as it is written now").color(BAD));
    let anchored = window
        .id("broken scene".into())
        .collapsible(true)
        .resizable(true)
        .default_width(760.0)
        .anchor(Align2::CENTER_TOP, [0.0, 90.0]);
    anchored.show(context, |ui| {
        ui.label(
            RichText::new("What you see is the scene as it was before. It follows as soon as the file is sound.")
                .color(WEAK),
        );
        ScrollArea::vertical().max_height(420.0).show(ui, |ui| {
            for error in errors {
                ui.separator();
                ui.label(RichText::new(error).monospace());
            }
        });
    });
}
