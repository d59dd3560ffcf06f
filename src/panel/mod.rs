//! The panels around the picture: functions of what is watched and what the user has chosen.
//!
//! Nothing here keeps a state of its own beyond what egui remembers (sizes, what is folded, half-typed numbers). A panel
//! reads [`Watched`] and [`Curves`], changes [`ViewState`], and returns what it cannot do itself as [`Ask`]s.
//!
//! | module | panel | where |
//! |---|---|---|
//! | [`controls`] | pace, camera, pictures, what is shown | top |
//! | [`agents`] | learners and the list of environments | left |
//! | [`skill_map`] | the skill space in two dimensions | left, below |
//! | [`inspector`] | the inside of the selected agent | right |
//! | [`learning`] | learning curves | bottom |
//! | [`help`] | the keys | a window |
//! | [`broken`] | what is wrong with a scene that is edited | a window |
//!
//! [`style`] has colours and the formats of numbers, [`bars`] the rows with bars, [`overlay`] what is written into the
//! picture; [`observation`] and [`skill`] are parts of the inspector.

pub mod agents;
pub mod bars;
pub mod broken;
pub mod controls;
pub mod help;
pub mod inspector;
pub mod learning;
pub mod observation;
pub mod overlay;
pub mod skill;
pub mod skill_map;
pub mod style;

#[cfg(test)]
mod tests;

use bevy_egui::egui::{FocusDirection, Panel, Ui};

pub use overlay::label;

use crate::view::state::{Ask, Curves, ViewState, Watched};
use crate::watch::Pace;

/// What the panels show besides the state of the view.
#[derive(Clone, Copy)]
pub struct Show<'a> {
    /// The watched world.
    pub watched: &'a Watched,
    /// Its learning curves.
    pub curves: &'a Curves,
    /// Frames a second that the window draws.
    pub frames_per_second: f32,
}

/// Draws all panels in `ui`, which covers the window; the picture keeps what is left over
/// ([`Ui::available_rect_before_wrap`]). Changes `view`, returns what was asked for.
pub fn panels(ui: &mut Ui, show: &Show<'_>, view: &mut ViewState) -> Vec<Ask> {
    let mut asks = Vec::new();
    if style::apply(ui.ctx()) {
        let style = ui.ctx().global_style();
        ui.set_style(style);
    }
    // Tab steps through the agents and not through the buttons: one with the focus would swallow all other keys.
    ui.memory_mut(|memory| memory.move_focus(FocusDirection::None));
    if let Some(pace @ (Pace::Limited(_) | Pace::Unlimited)) = show.watched.current.pace {
        view.pace = pace;
    }
    Panel::top("controls").show(ui, |ui| controls::show(ui, show, view, &mut asks));

    let mut open = view.agents || view.skill_map;
    let was_open = open;
    let left = Panel::left("agents").default_size(340.0).min_size(240.0);
    left.show_collapsible(ui, &mut open, |ui| {
        if !view.agents {
            skill_map::show(ui, show, view);
            return;
        }
        let mut map = view.skill_map;
        let below = Panel::bottom("skill map")
            .resizable(true)
            .default_size(300.0)
            .min_size(140.0);
        below.show_collapsible(ui, &mut map, |ui| skill_map::show(ui, show, view));
        view.skill_map = map;
        agents::show(ui, show, view, &mut asks);
    });
    if was_open && !open {
        // The edge was dragged shut.
        (view.agents, view.skill_map) = (false, false);
    }
    view.agents |= open && !was_open;

    let mut open = view.inspector;
    let right = Panel::right("inspector").default_size(350.0).min_size(260.0);
    right.show_collapsible(ui, &mut open, |ui| inspector::show(ui, show, view, &mut asks));
    view.inspector = open;

    let mut open = view.learning;
    let bottom = Panel::bottom("learning")
        .resizable(true)
        .default_size(190.0)
        .min_size(110.0);
    bottom.show_collapsible(ui, &mut open, |ui| learning::show(ui, show.curves, view));
    view.learning = open;

    help::show(ui.ctx(), view);
    broken::show(ui.ctx(), &show.watched.broken);
    asks
}
