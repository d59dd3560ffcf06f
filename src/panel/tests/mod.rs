#![allow(clippy::unwrap_used, reason = "tests")]
//! The panels without a window: what they say, what they ask for, and that nothing odd breaks them.

mod fixture;
mod texts;
mod tree;

use std::collections::BTreeMap;

use bevy_egui::egui::accesskit::Role;
use bevy_egui::egui::{Color32, Event, FontId, Key};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};

use self::fixture::{Fixture, environment, fixture};
use super::*;
use crate::skills::latent::LatentMap;
use crate::view::state::{CameraMode, Sort};
use crate::watch::{Request, Snapshot};

/// All panels in a window.
fn window(fixture: Fixture) -> Harness<'static, Fixture> {
    sized([1600.0, 1000.0], fixture)
}

fn sized(size: [f32; 2], fixture: Fixture) -> Harness<'static, Fixture> {
    let builder = Harness::builder().with_size(size);
    let mut harness = builder.build_ui_state(|ui, fixture: &mut Fixture| fixture.draw(ui), fixture);
    harness.run();
    harness.state_mut().asks.clear();
    harness
}

fn click(harness: &mut Harness<'_, Fixture>, label: &str) -> Vec<Ask> {
    harness.get_by_role_and_label(Role::Button, label).click();
    harness.run();
    std::mem::take(&mut harness.state_mut().asks)
}

/// The rows of the list of environments as they stand, top to bottom.
fn rows(harness: &Harness<'_, Fixture>) -> Vec<String> {
    let labels = harness
        .root()
        .children_recursive()
        .filter_map(|node| node.accesskit_node().label());
    labels
        .filter(|label| label.contains(" slot ") && label.contains(", skill "))
        .collect()
}

fn world(request: Request) -> Vec<Ask> {
    vec![Ask::World(request)]
}

#[test]
fn a_row_selects_its_environment_and_asks_for_its_inside() {
    let mut harness = window(fixture());
    let row = rows(&harness).swap_remove(3);
    let asks = click(&mut harness, &row);
    assert_eq!(asks, world(Request::Inspect(Some(environment(3)))));
    assert_eq!(harness.state().view.selected, Some(environment(3)));
    assert!(harness.query_by_label("Seed 0, slot 3").is_some());
}

#[test]
fn the_world_is_held_and_goes_on_at_the_pace_before() {
    let mut harness = window(fixture());
    assert_eq!(click(&mut harness, "⏸ Pause"), world(Request::Pace(Pace::Paused)));
    assert_eq!(harness.state().view.pace, Pace::Limited(12.5));
    harness.state_mut().watched.current.pace = Some(Pace::Paused);
    harness.run();
    assert_eq!(
        click(&mut harness, "▶ Continue"),
        world(Request::Pace(Pace::Limited(12.5)))
    );
    assert_eq!(click(&mut harness, "⏭ Tick"), world(Request::Ticks(1)));
    assert_eq!(click(&mut harness, "max"), world(Request::Pace(Pace::Unlimited)));
    assert_eq!(click(&mut harness, "¼×"), world(Request::Pace(Pace::Limited(3.125))));
}

#[test]
fn pictures_checkpoints_and_steps_are_asked_for() {
    let mut harness = window(fixture());
    assert_eq!(click(&mut harness, "📷 Screenshot"), [Ask::Screenshot]);
    assert_eq!(click(&mut harness, "⏺ Record"), [Ask::Record]);
    assert_eq!(click(&mut harness, "💾 Save"), world(Request::Save));
    assert_eq!(click(&mut harness, "Reset"), [Ask::ResetCamera]);
    assert_eq!(click(&mut harness, "⏵"), [Ask::Step { forward: true }]);
    assert_eq!(click(&mut harness, "⏴"), [Ask::Step { forward: false }]);
    assert!(click(&mut harness, "Follow").is_empty());
    assert_eq!(harness.state().view.camera, CameraMode::Follow);

    let mut watched_only = fixture();
    watched_only.watched.subject.trains = false;
    watched_only.view.recording = Some(("clip.mp4".into(), 1234));
    let mut harness = window(watched_only);
    assert!(harness.query_by_label("💾 Save").is_none());
    assert_eq!(click(&mut harness, "⏺ Stop (1 234 frames)"), [Ask::Record]);
}

#[test]
fn headings_sort_and_turn_the_order() {
    let mut harness = window(fixture());
    let returns = |harness: &Harness<'_, Fixture>| -> Vec<f32> {
        let number = |row: &String| {
            row.split("return ")
                .nth(1)
                .unwrap()
                .split(',')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        };
        rows(harness).iter().map(number).collect()
    };
    assert!(!returns(&harness).is_sorted());
    click(&mut harness, "return");
    assert_eq!(
        (harness.state().view.sort, harness.state().view.descending),
        (Sort::Return, true)
    );
    assert!(returns(&harness).is_sorted_by(|a, b| a >= b));
    click(&mut harness, "return ⏷");
    assert!(returns(&harness).is_sorted());
    click(&mut harness, "slot");
    assert!(rows(&harness)[0].starts_with("seed 0 slot 0"));
}

#[test]
fn the_filter_leaves_out_what_was_not_asked_for() {
    let mut harness = window(fixture());
    assert_eq!(rows(&harness).len(), 12);
    harness.get_by_label("hide evaluations").click();
    harness.run();
    assert_eq!(rows(&harness).len(), 10);
    harness.state_mut().view.filter.seed = Some(1);
    harness.run();
    assert!(rows(&harness).len() == 5 && rows(&harness).iter().all(|row| row.starts_with("seed 1")));
    harness.state_mut().view.filter.least_return = 2.0;
    harness.run();
    assert!(
        rows(&harness)
            .iter()
            .all(|row| row.contains("return 2") || row.contains("return 3"))
    );
    assert!(harness.query_by_value("3 of 12 environments").is_some());
}

#[test]
fn an_episode_begins_anew_or_another_one() {
    let mut harness = window(fixture());
    let restart = |episode| {
        world(Request::Restart {
            environment: environment(1),
            episode: Some(episode),
        })
    };
    assert_eq!(click(&mut harness, "⟲ Restart"), restart(41));
    harness.get_by_value("as episode 41").click();
    harness.run();
    harness.event(Event::Text("7".into()));
    harness.run();
    harness.key_press(Key::Enter);
    harness.run();
    assert_eq!(click(&mut harness, "⟲ Restart"), restart(7));
}

#[test]
fn of_many_environments_only_those_in_view_are_drawn() {
    let mut many = fixture();
    many.watched.current.environments = (0..256).map(fixture::environment_view).collect();
    let mut harness = window(many);
    let drawn = rows(&harness);
    assert!((10..60).contains(&drawn.len()), "{} rows", drawn.len());
    // A selection from elsewhere comes into view.
    harness.state_mut().view.selected = Some(environment(250));
    harness.run();
    let slot = fixture::environment_view(250).slot;
    assert!(
        rows(&harness).iter().any(|row| row.contains(&format!("slot {slot}:"))),
        "{:?}",
        rows(&harness)
    );
}

#[test]
fn panels_fold_and_leave_room_for_the_picture() {
    let mut harness = window(fixture());
    let beside = harness.state().left_over;
    assert!(beside.width() > 700.0 && beside.height() > 600.0, "{beside:?}");
    for name in ["Agents", "Skill map", "Inspector", "Learning"] {
        click(&mut harness, name);
    }
    let alone = harness.state().left_over;
    assert!(alone.width() > 1500.0 && alone.height() > 880.0, "{alone:?}");
    assert!(rows(&harness).is_empty());
    click(&mut harness, "Agents");
    assert_eq!(rows(&harness).len(), 12);
}

#[test]
fn no_button_takes_the_keys() {
    let mut harness = window(fixture());
    for _ in 0..3 {
        harness.key_press(Key::Tab);
        harness.run();
        assert_eq!(harness.ctx.memory(|memory| memory.focused()), None);
    }
    click(&mut harness, "⏸ Pause");
    assert!(!harness.ctx.egui_wants_keyboard_input());
}

#[test]
fn geoms_are_shown_by_group() {
    let mut harness = window(fixture());
    click(&mut harness, "View ⏷");
    for name in ["Group 0 (visual)", "Group 3 (collision)", "Shadows"] {
        harness.get_by_label(name).click();
        harness.run();
    }
    let view = &harness.state().view;
    assert_eq!(view.groups, [false, true, true, true, false, false]);
    assert!(!view.shadows);
}

#[test]
fn curves_are_chosen_among_the_metrics_there_are() {
    let mut harness = window(fixture());
    let choose = |harness: &mut Harness<'_, Fixture>, tag: &str| {
        harness.get_by_role_and_label(Role::CheckBox, tag).click();
        harness.run();
        harness.state().view.curves.clone()
    };
    click(&mut harness, "Metrics ⏷");
    let chosen = choose(&mut harness, "learner/policy_loss");
    assert_eq!(chosen.first().map(String::as_str), Some("practice/completed"));
    assert_eq!(chosen.last().map(String::as_str), Some("learner/policy_loss"));
    assert!(!choose(&mut harness, "practice/completed").contains(&"practice/completed".to_owned()));
    assert_eq!(learning::explained("practice/elements/kettle").0, "share");
    assert_eq!(learning::explained("practice/completed").0, "elements");
    assert_eq!(learning::explained("unheard/of").0, "");
}

#[test]
fn observations_unfold_with_units_and_noise() {
    let mut harness = sized([1600.0, 2400.0], fixture());
    click(&mut harness, "Observation");
    click(&mut harness, "Position: kettle (7)");
    assert!(harness.query_by_value("kettle[6]").is_some());
    let count = |value| harness.query_all_by_value(value).count();
    assert_eq!((count("m"), count("± 5.0e-4"), count("± 0.010")), (3, 4, 3));
}

#[test]
fn every_character_has_a_glyph() {
    let mut complete = fixture();
    complete.view.help = true;
    complete.view.filter.least_return = 0.0;
    let harness = window(complete);
    let nodes = harness.root().children_recursive();
    let texts = nodes.flat_map(|node| {
        let node = node.accesskit_node();
        [node.label(), node.value()].into_iter().flatten().collect::<Vec<_>>()
    });
    let texts: String = texts.chain(["★ ⏷ ⏶ – … ± × ▶ ⏸ ✔ ■ ⏺".into()]).collect();
    // What fonts lack is drawn as the same box as this character, which no font has.
    let drawn = |character: char| {
        let layout = |text: String| {
            let font = FontId::proportional(13.0);
            harness
                .ctx
                .fonts_mut(|fonts| fonts.layout_no_wrap(text, font, Color32::WHITE))
        };
        let galley = layout(character.into());
        galley
            .rows
            .first()
            .and_then(|row| row.glyphs.first().map(|glyph| glyph.uv_rect))
    };
    let lacking = drawn('\u{e123}');
    let missing: Vec<char> = texts.chars().filter(|character| drawn(*character) == lacking).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn nothing_odd_breaks_the_panels() {
    let mut empty = fixture();
    *empty.watched.current = Snapshot::default();
    empty.curves = Curves::default();
    empty.watched.subject.skill_map = None;
    empty.watched.ended = Some(Err("the world is gone".into()));
    let harness = window(empty);
    assert!(
        harness
            .query_by_value("This environment is gone: evaluation episodes come and go. Click another agent.")
            .is_some()
    );

    let mut odd = fixture();
    for environment in &mut odd.watched.current.environments {
        (environment.return_, environment.reward, environment.last_return) = (f32::NAN, f32::INFINITY, Some(f32::NAN));
        environment.skill = Some((3, 0));
        environment.done.clear();
    }
    odd.view.filter.least_return = f32::NAN;
    for learner in &mut odd.watched.current.learners {
        (learner.temperature, learner.budget) = (f32::NAN, Some(0));
    }
    let agent = odd.watched.current.inspected.as_mut().unwrap();
    agent.observation = vec![f32::NAN; 3];
    agent.action = vec![f32::NAN; 20];
    agent.reached.clear();
    for step in &mut agent.history {
        (step.reward, step.divergence) = (f32::NAN, Some(f32::NEG_INFINITY));
        step.distances = vec![f32::NAN; 2];
    }
    let skill = agent.skill.as_mut().unwrap();
    skill.chosen[0] = f32::NAN;
    skill.policy.mean = vec![f32::INFINITY; 4];
    skill.policy.sigma.clear();
    skill.divergence = vec![f32::NAN; 2];
    skill.length = 0;
    odd.watched.current.recent_skills.push((environment(1), vec![f32::NAN]));
    odd.watched.current.recent_skills.push((environment(1), Vec::new()));
    for seeds in odd.curves.0.values_mut() {
        seeds
            .entry(0)
            .or_default()
            .iter_mut()
            .for_each(|point| point[1] = f64::NAN);
        seeds.insert(7, Vec::new());
        seeds.insert(8, vec![[f64::NAN, 1.0]]);
    }
    let mut harness = window(odd);
    harness.state_mut().watched.ticks_per_second = f32::NAN;
    harness.state_mut().view.skill_map = false;
    harness.run();
}

#[test]
fn skills_are_projected_on_the_map_or_on_their_first_numbers() {
    let map = LatentMap {
        points: Vec::new(),
        labels: Vec::new(),
        explained: [0.5, 0.25],
        mean: vec![1.0, 0.0, 0.0],
        axes: [vec![0.0, 0.6, 0.8], vec![1.0, 0.0, 0.0]],
    };
    let [x, y] = skill_map::project(Some(&map), &[3.0, 1.0, 2.0]);
    assert!((x - 2.2).abs() < 1e-6 && (y - 2.0).abs() < 1e-6);
    assert_eq!(skill_map::project(None, &[3.0, 1.0, 2.0]), [3.0, 1.0]);
    assert_eq!(skill_map::project(None, &[3.0]), [3.0, 0.0]);
}

#[test]
fn long_curves_are_thinned_and_keep_their_ends() {
    let points: Vec<[f64; 2]> = (0..12_345).map(|x| [f64::from(x), f64::from(x)]).collect();
    let thinned = learning::thinned(&points, 500);
    assert!(thinned.len() <= 500);
    assert_eq!((thinned.first(), thinned.last()), (points.first(), points.last()));
    assert!(thinned.is_sorted_by(|a, b| a[0] < b[0]));
    for few in 0..4 {
        assert_eq!(learning::thinned(&points[..few], 500), points[..few]);
    }
    for length in 2..200 {
        let thinned = learning::thinned(&points[..length], 50);
        assert!(
            thinned.len() <= 50 && thinned.last() == Some(&points[length - 1]),
            "{length}"
        );
    }
}

#[test]
fn means_are_over_all_seeds_where_all_have_numbers() {
    let line = |from: i32, slope: f64| {
        (from..=10)
            .map(|x| [f64::from(x), slope * f64::from(x)])
            .collect::<Vec<_>>()
    };
    let seeds: BTreeMap<u64, Vec<[f64; 2]>> = [(0, line(0, 1.0)), (1, line(5, 3.0))].into();
    let mean = learning::mean(&seeds);
    assert_eq!(mean.first(), Some(&[5.0, 10.0]));
    assert!(mean.iter().all(|[x, y]| (y - 2.0 * x).abs() < 1e-9));
    assert!(learning::mean(&[(0, Vec::new())].into()).is_empty());
}

#[test]
fn observations_fall_into_the_parts_of_the_scene() {
    let scene = fixture::scene();
    let parts = observation::parts(&scene);
    assert_eq!(
        parts.first().unwrap().title,
        "Position: panda0_joint1 … panda0_finger_joint2 (9)"
    );
    assert!(
        parts
            .windows(2)
            .all(|pair| pair[0].channels.end == pair[1].channels.start)
    );
    assert_eq!(parts.last().unwrap().channels, 30..60);
    let unit = |index: usize| scene.channels()[index].unit;
    assert_eq!([unit(0), unit(7), unit(23), unit(27)], ["rad", "m", "m", ""]);
    assert_eq!(
        observation::common_prefix(&["robot:panda0_joint1", "robot:panda0_finger_joint1"]),
        13
    );
    assert_eq!(observation::common_prefix(&["kettle"]), 0);
}

#[test]
fn numbers_are_short() {
    assert_eq!(style::counted(1_234_567), "1 234 567");
    assert_eq!(style::counted(12), "12");
    let shown = [0.0, 1.5, 0.012_34, 123.4, -2.0, 1e-5, f64::NAN].map(style::short);
    assert_eq!(shown, ["0", "1.50", "0.012", "123", "-2", "1.0e-5", "–"]);
    assert_eq!(
        [0.0, 0.25, 5.0, 2500.0, 3e6].map(style::on_axis),
        ["0", "0.250", "5", "2.5k", "3M"]
    );
}

#[test]
fn following_needs_a_selection() {
    let mut nothing = fixture();
    nothing.view.selected = None;
    let harness = window(nothing);
    assert!(harness.get_by_label("Follow").accesskit_node().is_disabled());
    let text = "Click an agent in the list or in the picture to look inside it.";
    assert!(harness.query_by_value(text).is_some());
}
