//! What scenes change or draw of how they look is to be seen: in snapshots, in the window's pictures, and in those that
//! agents see.

#![allow(clippy::unwrap_used, reason = "tests")]

use apprentice::app::{StopRequest, headless};
use apprentice::scene::{CompiledScene, SceneError};
use apprentice::sim::{Environment, Physics, SimPlugin, spawn_environment};
use apprentice::tick::Tick;
use apprentice::watch::looks::LightKind;
use apprentice::watch::{EnvironmentLook, Pace, Snapshot, WatchPlugin, link};
use bevy::prelude::*;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};

/// A shelf with a cup on it, a lamp that is fixed to the shelf, a ball on a slide, and a light of each kind.
const ROOM: &str = r#"<mujoco><compiler angle="radian"/>
  <visual><headlight ambient=".2 .2 .2" diffuse=".3 .3 .3"/></visual>
  <worldbody>
    <light name="sun" type="directional" pos="0 0 3" dir="0 0.5 -1" diffuse=".5 .5 .5"/>
    <light name="lamp" pos="0 -1 1.5" dir="0 1 -1.2" diffuse=".6 .6 .6" active="false"/>
    <geom name="floor" type="plane" size="0 0 .1" rgba=".5 .6 .7 1"/>
    <body name="shelf" pos=".3 0 .2" euler="0 0 .2"><geom name="shelf" type="box" size=".2 .2 .2" rgba=".2 .8 .2 1"/>
      <body name="knob" pos="0 -.2 .1"><geom name="knob" type="sphere" size=".05" rgba="1 1 0 1"/></body></body>
    <body name="cart" pos="-.4 0 .15"><joint name="x" type="slide" axis="0 1 0"/>
      <geom name="cart" type="box" size=".15 .15 .15" rgba=".8 .2 .2 1"/>
      <body name="cap" pos="0 0 .15"><geom name="cap" type="cylinder" size=".1 .05" pos=".02 0 .05" rgba=".2 .2 .8 1"/>
        <site name="tip" pos="0 0 .1"/></body></body>
  </worldbody>
  <actuator><motor name="push" joint="x"/></actuator>
</mujoco>"#;

const EYE: &str =
    r#", pixels: (eye: Carried(body: "world", offset: (0, -1.6, 1.2), target: (0, 0, 0.2)), size: 64, frames: 1)"#;

fn scene_with(changes: &str, randomise: &str, pixels: &str) -> Result<CompiledScene, SceneError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("room.xml"), ROOM).unwrap();
    let path = folder.path().join("room.ron");
    let text = format!(
        r#"(physics: (model: "room.xml", frame_skip: 5, changes: [{changes}]),
        control: Motors(motors: [(actuator: "push")]),
        observation: (terms: [Position(joints: ["x"])]{pixels}),
        reset: (),
        randomise: [{randomise}],
        cameras: [(name: "front", look_at: (0, 0, 0.2), distance: 2.4, azimuth: 90, elevation: -30, width: 160, height: 120)],
        episode: (steps: 4))"#
    );
    std::fs::write(&path, text).unwrap();
    CompiledScene::load(path.to_str().unwrap(), &[])
}

const VARIED: &str = r#"
    Colour(geoms: ["cart", "knob"], low: (0.5, 0, 0), high: (1, 0.2, 0.2)),
    Size(bodies: ["cap"], factor: Uniform(0.5, 1.5)),
    Position(bodies: ["shelf"], offset: ((-0.1, 0.1), (-0.1, 0.1), (0, 0)), yaw: (-1, 1)),
    Light(lights: ["sun", "lamp"], diffuse: ((0.1, 0.9), (0.1, 0.9), (0.1, 0.9)), active: 0.5),
    Light(lights: ["lamp"], position: ((-1, 1), (-1, -1), (1, 2))),
    Light(lights: ["headlight"], ambient: ((0, 0.5), (0, 0.5), (0, 0.5)))"#;

fn id(model: &MjModel, kind: MjtObjBase, name: &str) -> usize {
    model.name_to_id(kind, name).unwrap()
}

/// Checks a look against what `MuJoCo` has worked out of the same model.
fn expect_right(look: &EnvironmentLook, scene: &CompiledScene, physics: &Physics) {
    use apprentice::scene::VariedPiece::{Geom, Site};
    let model = physics.model();
    let geom = |name| Geom(id(model, MjtObjBase::mjOBJ_GEOM, name));
    let tip = Site(id(model, MjtObjBase::mjOBJ_SITE, "tip"));
    let pieces = &scene.randomisation().looks().pieces;
    let mut expected = vec![geom("cart"), geom("knob"), geom("shelf"), geom("cap"), tip];
    expected.sort();
    assert_eq!(*pieces, expected, "the knob goes with the shelf, the site with the cap");
    assert_eq!(look.pieces.len(), pieces.len());
    for (piece, look) in pieces.iter().zip(&look.pieces) {
        let (place, size, rgba, body) = match *piece {
            Geom(geom) => (
                physics.geom_xpos()[geom],
                model.geom_size()[geom],
                model.geom_rgba()[geom],
                model.geom_bodyid()[geom],
            ),
            Site(site) => (
                physics.site_xpos()[site],
                model.site_size()[site],
                model.site_rgba()[site],
                model.site_bodyid()[site],
            ),
        };
        assert_eq!(look.rgba, rgba);
        assert_eq!(look.size, size.map(|side| side as f32));
        // What the cart carries is given in the cart's frame.
        let cart = id(model, MjtObjBase::mjOBJ_BODY, "cart");
        let carried = model.body_weldid()[body as usize] as usize == cart;
        let origin = if carried { physics.xpos()[cart] } else { [0.0; 3] };
        for axis in 0..3 {
            let expected = (place[axis] - origin[axis]) as f32;
            assert!(
                (look.pose.position[axis] - expected).abs() < 1e-5,
                "{piece:?} {look:?} {expected}"
            );
        }
    }
    let kinds: Vec<LightKind> = look.lights.iter().map(|light| light.kind).collect();
    assert_eq!(kinds, [LightKind::Head, LightKind::Sun, LightKind::Spot]);
    assert_eq!(look.lights[0].ambient, model.vis().headlight.ambient);
    for (light, look) in look.lights[1..].iter().enumerate() {
        assert_eq!(
            (look.on, look.diffuse),
            (model.light_active()[light], model.light_diffuse()[light])
        );
        assert_eq!(look.position, model.light_pos()[light].map(|part| part as f32));
    }
}

#[test]
fn snapshots_carry_what_environments_differ_in_once_for_each_episode() {
    let scene = scene_with("", VARIED, "").unwrap();
    let (to_world, watcher) = link(Pace::Unlimited, 1);
    let mut app = headless(1, StopRequest::default());
    app.add_plugins((SimPlugin, WatchPlugin { link: to_world }));
    let entity = app.world_mut().spawn(scene.clone()).id();
    for slot in 0..3 {
        spawn_environment(app.world_mut(), entity, slot, 4).unwrap();
    }
    let mut before: Option<Snapshot> = None;
    let mut changes = 0;
    for count in 0..14 {
        app.world_mut().run_schedule(Tick);
        let snapshot = watcher.filled.try_recv().unwrap();
        assert_eq!(snapshot.looks.len(), 3);
        for (index, view) in snapshot.environments.iter().enumerate() {
            let look = snapshot.look_of(index).unwrap();
            assert_eq!((look.environment, look.episode), (view.environment, view.episode));
            expect_right(look, &scene, app.world().get::<Physics>(view.environment).unwrap());
            if let Some(before) = &before {
                let same = before.environments[index].episode == view.episode;
                assert_eq!(before.look_of(index).unwrap() == look, same, "tick {count}");
                changes += usize::from(!same);
            }
        }
        assert_ne!(snapshot.looks[0].pieces, snapshot.looks[1].pieces);
        before = Some((*snapshot).clone());
        watcher.empty.send(snapshot).unwrap();
    }
    assert_eq!(changes, 9, "episodes last four ticks");
}

#[test]
fn snapshots_of_environments_that_look_alike_carry_nothing() {
    for randomise in ["", r#"Mass(bodies: ["cart"], factor: Uniform(0.5, 2))"#] {
        let scene = scene_with("", randomise, "").unwrap();
        assert!(scene.randomisation().looks().is_empty());
        let (to_world, watcher) = link(Pace::Unlimited, 1);
        let mut app = headless(1, StopRequest::default());
        app.add_plugins((SimPlugin, WatchPlugin { link: to_world }));
        let entity = app.world_mut().spawn(scene).id();
        spawn_environment(app.world_mut(), entity, 0, 4).unwrap();
        app.world_mut().run_schedule(Tick);
        let snapshot = watcher.filled.try_recv().unwrap();
        assert!(snapshot.looks.is_empty() && snapshot.look_of(0).is_none());
    }
}

/// The newest picture that the agent of an environment sees.
fn seen(environment: &Environment) -> Vec<u8> {
    environment.eyes.0.as_ref().unwrap().pixels.0.clone()
}

#[test]
fn agents_see_what_is_drawn() {
    // The same numbers, once drawn and once fixed.
    let red = r#"Colour(geoms: ["shelf"], low: (0.9, 0.1, 0.1), high: (0.9, 0.1, 0.1))"#;
    let drawn = [
        (red, r#"Colour(geoms: ["shelf"], rgba: (0.9, 0.1, 0.1, 1))"#),
        (
            r#"Size(bodies: ["cap"], factor: Uniform(1.5, 1.5))"#,
            r#"Size(bodies: ["cap"], factor: 1.5)"#,
        ),
        (
            r#"Position(bodies: ["shelf"], offset: ((0.1, 0.1), (0, 0), (0, 0)))"#,
            r#"Position(bodies: ["shelf"], offset: (0.1, 0, 0))"#,
        ),
        (
            r#"Light(lights: ["headlight"], diffuse: ((0.9, 0.9), (0.1, 0.1), (0.1, 0.1)))"#,
            r#"Light(lights: ["headlight"], diffuse: (0.9, 0.1, 0.1))"#,
        ),
    ];
    let plain = Environment::new(&scene_with("", "", EYE).unwrap(), 0, 0).unwrap();
    for (randomise, change) in drawn {
        let (varied, fixed) = (
            scene_with("", randomise, EYE).unwrap(),
            scene_with(change, "", EYE).unwrap(),
        );
        let (varied, fixed) = (
            Environment::new(&varied, 0, 0).unwrap(),
            Environment::new(&fixed, 0, 0).unwrap(),
        );
        assert!(seen(&varied) == seen(&fixed), "{randomise}");
        let differ = seen(&plain)
            .iter()
            .zip(seen(&fixed))
            .filter(|(one, other)| **one != *other)
            .count();
        assert!(differ > 40, "{change}: {differ}");
    }
}

#[test]
fn what_agents_would_not_see_is_refused() {
    let message = |randomise: &str, pixels: &str| scene_with("", randomise, pixels).unwrap_err().to_string();
    let lamp = message(
        r#"Gravity(factor: Uniform(1, 1)), Light(lights: ["lamp"], active: 0.5)"#,
        EYE,
    );
    assert!(
        lamp.contains("randomise.1: the pictures that agents see")
            && lamp.contains(r#"expected `lights: ["headlight"]`"#),
        "{lamp}"
    );
    let walls = CompiledScene::load("maze", &[]).unwrap();
    let name = (0..walls.model().ngeom() as usize)
        .find_map(|geom| {
            walls
                .model()
                .id_to_name(MjtObjBase::mjOBJ_GEOM, geom)
                .filter(|name| !name.is_empty())
        })
        .unwrap()
        .to_owned();
    let maze = |overrides: &[String]| CompiledScene::load("maze", overrides);
    let colour = format!("randomise=[Colour(geoms: [{name:?}])]");
    maze(std::slice::from_ref(&colour)).unwrap();
    let eye = r#"observation.pixels=(eye: Above(body: "particle", distance: 5), size: 32)"#.to_owned();
    let error = maze(&[colour, eye]).unwrap_err().to_string();
    assert!(
        error.contains("randomise.0: the pictures of a maze that agents see from above"),
        "{error}"
    );
}

#[test]
fn mistakes_about_lights_are_named() {
    let fixed = |change: &str| scene_with(change, "", "").unwrap_err().to_string();
    let drawn = |term: &str| scene_with("", term, "").unwrap_err().to_string();
    let name = fixed(r#"Light(lights: ["lmp"], active: true)"#);
    assert!(
        name.contains("no light is named \"lmp\"; did you mean \"lamp\"?"),
        "{name}"
    );
    let nothing = fixed(r#"Light(lights: ["lamp"])"#);
    assert!(nothing.contains("physics.changes.0: changes nothing"), "{nothing}");
    let head = fixed(r#"Light(lights: ["headlight"], position: (0, 0, 1))"#);
    assert!(
        head.contains("physics.changes.0.position: the headlight goes with the eye"),
        "{head}"
    );
    let nowhere = fixed(r#"Light(lights: ["sun"], direction: (0, 0, 0))"#);
    assert!(
        nowhere.contains("physics.changes.0.direction: points nowhere"),
        "{nowhere}"
    );
    let nowhere = drawn(r#"Light(lights: ["sun"], direction: ((0, 0), (0, 0), (0, 0)))"#);
    assert!(nowhere.contains("direction: points nowhere"), "{nowhere}");
    let bright = fixed(r#"Light(lights: ["sun"], diffuse: (0, 2, 0))"#);
    assert!(
        bright.contains("diffuse: must be three numbers from 0 to 1"),
        "{bright}"
    );
    let share = drawn(r#"Light(lights: ["sun"], active: 1.5)"#);
    assert!(
        share.contains("randomise.0.active: is the share of episodes"),
        "{share}"
    );
    let order = drawn(r#"Light(lights: ["sun"], position: ((1, 0), (0, 0), (0, 0)))"#);
    assert!(
        order.contains("randomise.0.position.0: must be two numbers, the lower one first"),
        "{order}"
    );
    // By its number, where a light has no name.
    let scene = scene_with(
        r##"Light(lights: ["#1"], active: true, direction: (0, 0, -2))"##,
        "",
        "",
    )
    .unwrap();
    assert!(scene.lit_by_model() && scene.model().light_active()[1]);
    assert_eq!(scene.model().light_dir()[1], [0.0, 0.0, -1.0]);
}

#[test]
fn lights_are_drawn_as_often_as_they_should() {
    let scene = scene_with("", VARIED, "").unwrap();
    let mut it = Environment::new(&scene, 0, 0).unwrap();
    let mut on = 0;
    const COUNT: u64 = 1000;
    for index in 0..COUNT {
        it.begin_anew(&scene, index);
        let model = it.physics.model();
        on += u64::from(model.light_active()[0]);
        assert!(model.light_diffuse()[0].iter().all(|part| (0.1..=0.9).contains(part)));
        assert_eq!(model.light_pos()[1][1], -1.0);
        assert!(
            model
                .vis()
                .headlight
                .ambient
                .iter()
                .all(|part| (0.0..=0.5).contains(part))
        );
    }
    assert!((430..570).contains(&on), "{on}");
}

#[cfg(feature = "window")]
mod pictures {
    use std::sync::Arc;

    use apprentice::view::Offscreen;
    use apprentice::view::offscreen::{Viewpoint, check_renderer};
    use apprentice::watch::{Subject, still_look, still_view};

    use super::*;

    const SIZE: (u32, u32) = (320, 240);

    /// Pictures of a scene at the start of these episodes of one environment, or of some environments together.
    struct Pictures(Offscreen, Arc<CompiledScene>);

    impl Pictures {
        fn of(scene: CompiledScene, viewpoint: Viewpoint) -> Self {
            let scene = Arc::new(scene);
            let subject = Subject {
                title: "test".into(),
                scene: scene.clone(),
                task: Vec::new(),
                skill_map: None,
                trains: false,
                metrics: Vec::new(),
            };
            Self(Offscreen::new(subject, SIZE, viewpoint).unwrap(), scene)
        }

        fn show(&mut self, slots: usize, episode: u64, name: &str) -> Vec<[u8; 3]> {
            let mut snapshot = Snapshot::default();
            for slot in 0..slots {
                let mut environment = Environment::new(&self.1, slot, 0).unwrap();
                environment.begin_anew(&self.1, episode);
                let (mut view, poses) = still_view(&self.1, &environment);
                let mut looks = still_look(&self.1, &environment);
                view.environment = Entity::from_raw_u32(100 + slot as u32).unwrap();
                looks.iter_mut().for_each(|look| look.environment = view.environment);
                snapshot.environments.push(view);
                snapshot.poses.extend(poses);
                snapshot.looks.extend(looks);
            }
            let rgba = self.0.show(Box::new(snapshot)).unwrap();
            let pixels: Vec<[u8; 3]> = rgba
                .chunks_exact(4)
                .map(|pixel| [pixel[0], pixel[1], pixel[2]])
                .collect();
            if let Ok(folder) = std::env::var("PICTURES") {
                let file = std::fs::File::create(std::path::Path::new(&folder).join(name)).unwrap();
                let mut encoder = png::Encoder::new(file, SIZE.0, SIZE.1);
                encoder.set_color(png::ColorType::Rgb);
                let bytes: Vec<u8> = pixels.iter().flatten().copied().collect();
                encoder.write_header().unwrap().write_image_data(&bytes).unwrap();
            }
            pixels
        }
    }

    fn differing(one: &[[u8; 3]], other: &[[u8; 3]]) -> usize {
        let far = |(one, other): (&[u8; 3], &[u8; 3])| (0..3).any(|at| one[at].abs_diff(other[at]) > 6);
        one.iter().zip(other).filter(|pair| far(*pair)).count()
    }

    fn brightness(picture: &[[u8; 3]]) -> f64 {
        picture.iter().flatten().map(|value| f64::from(*value)).sum::<f64>() / (3 * picture.len()) as f64
    }

    fn no_driver() -> bool {
        check_renderer()
            .map_err(|error| eprintln!("left out: {error}"))
            .is_err()
    }

    #[test]
    fn what_is_drawn_looks_like_what_is_fixed() {
        if no_driver() {
            return;
        }
        let plain = Pictures::of(scene_with("", "", "").unwrap(), Viewpoint::Scene).show(1, 0, "plain.png");
        let drawn = [
            (
                "colour",
                r#"Colour(geoms: ["shelf"], low: (0.9, 0.1, 0.1), high: (0.9, 0.1, 0.1))"#,
                r#"Colour(geoms: ["shelf"], rgba: (0.9, 0.1, 0.1, 1))"#,
            ),
            (
                "size",
                r#"Size(bodies: ["cap"], factor: Uniform(1.5, 1.5))"#,
                r#"Size(bodies: ["cap"], factor: 1.5)"#,
            ),
            (
                "position",
                r#"Position(bodies: ["shelf"], offset: ((0.1, 0.1), (0, 0), (0, 0)))"#,
                r#"Position(bodies: ["shelf"], offset: (0.1, 0, 0))"#,
            ),
        ];
        for (name, randomise, change) in drawn {
            let mut drawn = Pictures::of(scene_with("", randomise, "").unwrap(), Viewpoint::Scene);
            let drawn = drawn.show(1, 0, &format!("{name}_drawn.png"));
            let mut fixed = Pictures::of(scene_with(change, "", "").unwrap(), Viewpoint::Scene);
            let fixed = fixed.show(1, 0, &format!("{name}_fixed.png"));
            assert!(differing(&plain, &fixed) > 250, "{name}: {}", differing(&plain, &fixed));
            assert!(differing(&drawn, &fixed) < 60, "{name}: {}", differing(&drawn, &fixed));
        }
    }

    #[test]
    fn every_episode_and_environment_has_its_own_look() {
        if no_driver() {
            return;
        }
        let mut pictures = Pictures::of(scene_with("", VARIED, "").unwrap(), Viewpoint::Scene);
        let first = pictures.show(1, 0, "episode_0.png");
        let second = pictures.show(1, 1, "episode_1.png");
        assert!(differing(&first, &second) > 1_000);
        assert!(differing(&first, &pictures.show(1, 0, "episode_0_again.png")) == 0);
        let mut all = Pictures::of(scene_with("", VARIED, "").unwrap(), Viewpoint::Overview);
        let one = all.show(6, 0, "six_0.png");
        assert!(differing(&one, &all.show(6, 1, "six_1.png")) > 1_000);
    }

    #[test]
    fn lights_are_those_that_the_scene_says() {
        if no_driver() {
            return;
        }
        let picture = |change: &str, name: &str| {
            let mut pictures = Pictures::of(scene_with(change, "", "").unwrap(), Viewpoint::Scene);
            pictures.show(1, 0, name)
        };
        let as_they_are = picture(r#"Light(lights: ["sun"], active: true)"#, "lights.png");
        let dark = picture(
            r#"Light(lights: ["sun", "lamp", "headlight"], active: false)"#,
            "dark.png",
        );
        let lamp = picture(
            r#"Light(lights: ["sun", "headlight"], active: false), Light(lights: ["lamp"], active: true, diffuse: (1, 0.2, 0.2))"#,
            "lamp.png",
        );
        let aside = picture(
            r#"Light(lights: ["headlight"], active: false), Light(lights: ["sun"], direction: (1, 0.2, -0.4))"#,
            "aside.png",
        );
        assert!(brightness(&dark) < 0.5 * brightness(&as_they_are));
        assert!(brightness(&lamp) > brightness(&dark) + 3.0);
        let channel = |at: usize| lamp.iter().map(|pixel| f64::from(pixel[at])).sum::<f64>();
        let plain = |at: usize| dark.iter().map(|pixel| f64::from(pixel[at])).sum::<f64>();
        assert!(channel(0) - plain(0) > 1.5 * (channel(1) - plain(1)), "the lamp is red");
        assert!(differing(&as_they_are, &aside) > 5_000);
    }
}
