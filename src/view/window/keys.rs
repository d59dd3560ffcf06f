//! What keys do. The window lists them under F1.

use bevy::prelude::*;
use bevy_egui::input::EguiWantsInput;

use crate::panel::controls;
use crate::view::{Ask, CameraMode, ViewState, Watched};
use crate::watch::{Pace, Request};

/// The keys of the paces, slowest first.
const PACES: [KeyCode; 4] = [KeyCode::Digit1, KeyCode::Digit2, KeyCode::Digit3, KeyCode::Digit4];

/// Turns keys into changes of the view and requests.
pub(super) fn press_keys(
    keys: Res<ButtonInput<KeyCode>>,
    wants: Res<EguiWantsInput>,
    watched: Res<Watched>,
    mut view: ResMut<ViewState>,
    mut asks: MessageWriter<Ask>,
) {
    if wants.wants_keyboard_input() || keys.get_just_pressed().len() == 0 {
        return;
    }
    for (key, choice) in PACES.iter().zip(controls::paces(watched.subject.scene.period())) {
        if keys.just_pressed(*key) {
            asks.write(Ask::World(Request::Pace(choice.pace)));
        }
    }
    let shift = keys.any_pressed([KeyCode::ShiftLeft, KeyCode::ShiftRight]);
    for key in keys.get_just_pressed() {
        match key {
            KeyCode::Space => {
                let pace = match watched.current.pace {
                    Some(Pace::Paused) => view.pace,
                    _ => Pace::Paused,
                };
                asks.write(Ask::World(Request::Pace(pace)));
            }
            KeyCode::Period => {
                asks.write(Ask::World(Request::Ticks(1)));
            }
            KeyCode::Tab => {
                asks.write(Ask::Step { forward: !shift });
            }
            KeyCode::KeyF => view.camera = CameraMode::Follow,
            KeyCode::KeyO => view.camera = CameraMode::Overview,
            KeyCode::KeyH => view.alone = !view.alone,
            KeyCode::KeyB => view.highlight_best = !view.highlight_best,
            KeyCode::KeyL => view.labels = !view.labels,
            KeyCode::KeyG => {
                // The groups to be seen, or those that collide.
                let visual = view.groups[..3].contains(&true);
                for (group, shown) in view.groups.iter_mut().enumerate() {
                    *shown = (group < 3) != visual;
                }
            }
            KeyCode::Home => {
                asks.write(Ask::ResetCamera);
            }
            KeyCode::KeyP => {
                asks.write(Ask::Screenshot);
            }
            KeyCode::KeyV => {
                asks.write(Ask::Record);
            }
            KeyCode::Escape => {
                view.selected = None;
                view.alone = false;
            }
            KeyCode::F1 => view.help = !view.help,
            _ => {}
        }
    }
}
