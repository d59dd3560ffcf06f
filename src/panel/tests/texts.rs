//! Each panel's texts, compared with files.

use bevy_egui::egui::Ui;
use egui_kittest::Harness;

use super::fixture::{Fixture, fixture};
use super::tree;
use crate::panel::{agents, controls, help, inspector, learning, skill_map, style};

fn compare(name: &str, size: [f32; 2], fixture: Fixture, draw: impl FnMut(&mut Ui, &mut Fixture)) {
    let mut harness = Harness::builder().with_size(size).build_ui_state(draw, fixture);
    style::apply(&harness.ctx);
    harness.run();
    tree::compare(name, &tree::text(&harness));
}

#[test]
fn controls() {
    compare("controls", [1600.0, 80.0], fixture(), |ui, fixture| {
        let (mut view, mut asks) = (fixture.view.clone(), Vec::new());
        controls::show(ui, &fixture.show(), &mut view, &mut asks);
    });
}

#[test]
fn agents() {
    compare("agents", [340.0, 600.0], fixture(), |ui, fixture| {
        let (mut view, mut asks) = (fixture.view.clone(), Vec::new());
        agents::show(ui, &fixture.show(), &mut view, &mut asks);
    });
}

#[test]
fn inspector() {
    compare("inspector", [360.0, 1600.0], fixture(), |ui, fixture| {
        let (mut view, mut asks) = (fixture.view.clone(), Vec::new());
        inspector::show(ui, &fixture.show(), &mut view, &mut asks);
    });
}

#[test]
fn skill_map() {
    compare("skill_map", [340.0, 260.0], fixture(), |ui, fixture| {
        skill_map::show(ui, &fixture.show(), &fixture.view);
    });
}

#[test]
fn learning() {
    compare("learning", [1000.0, 190.0], fixture(), |ui, fixture| {
        learning::show(ui, &fixture.curves, &mut fixture.view);
    });
}

#[test]
fn help() {
    let mut open = fixture();
    open.view.help = true;
    compare("help", [700.0, 600.0], open, |ui, fixture| {
        help::show(ui.ctx(), &mut fixture.view)
    });
}
