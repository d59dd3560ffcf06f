//! Pictures for agents: against `MuJoCo`'s own pictures, in environments, from recorded states, beside the window's.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};

use apprentice::pixels::painter::PaintError;
use apprentice::pixels::{CompiledEye, Gaze, Painter, Sight};
use apprentice::scene::maze::{Layout, RandomLayout};
use apprentice::scene::{Built, CompiledScene, Eye, MazeSpec, PhysicsSpec, PixelSpec, SceneError};
use apprentice::sim::{
    Action, Environment, EnvironmentState, Episode, Eyes, NextPixels, Pixels, SimPlugin, spawn_environment,
};
use apprentice::tick::{Tick, TickPlugin};
use bevy::prelude::*;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Memory) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The maze of the golden pictures.
fn layout() -> String {
    let rows = [
        "#######", "#S....#", "#..#..#", "#.#...#", "#.....#", "##...T#", "#######",
    ];
    format!("physics.built=Maze(layout: Rows({rows:?}))")
}

fn maze(overrides: &[&str]) -> CompiledScene {
    let overrides = overrides.iter().map(|it| (*it).to_owned());
    let overrides: Vec<String> = std::iter::once(layout()).chain(overrides).collect();
    CompiledScene::load("maze_pixels", &overrides).unwrap()
}

fn random_maze(seed: u64) -> CompiledScene {
    CompiledScene::load(
        "maze_pixels",
        &[format!("physics.built=Maze(layout: Random(size: 12, seed: {seed}))")],
    )
    .unwrap()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/pixels")
        .join(name)
}

/// The model of `shapes.xml`, as the eye of `shapes.png` sees it.
fn shapes(model: &Path, pixels: &str) -> Result<CompiledScene, SceneError> {
    let folder = tempfile::tempdir().unwrap();
    let scene = folder.path().join("shapes.ron");
    let text = format!(
        r#"(
            physics: (model: {model:?}, frame_skip: 2),
            control: Motors(motors: [(actuator: "y")]),
            observation: (terms: [Position(joints: ["y"])], pixels: ({pixels})),
            reset: (),
            episode: (steps: 10),
        )"#
    );
    std::fs::write(&scene, text).unwrap();
    CompiledScene::load(scene.to_str().unwrap(), &[])
}

const CARRIED: &str = r#"eye: Carried(body: "eye", offset: (1.5, 0.1, 0.3), target: (0.0, 0.0, -0.35)), size: 64"#;

/// A picture `[3, size, size]` as a file has it, `[size, size, 3]`.
fn interleaved(picture: &[u8]) -> Vec<u8> {
    let plane = picture.len() / 3;
    let pixel = |at: usize| [picture[at], picture[plane + at], picture[2 * plane + at]];
    (0..plane).flat_map(pixel).collect()
}

fn read_png(path: &Path) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::fs::File::open(path).unwrap())
        .read_info()
        .unwrap();
    let mut bytes = vec![0; reader.output_buffer_size()];
    let frame = reader.next_frame(&mut bytes).unwrap();
    assert_eq!(frame.color_type, png::ColorType::Rgb);
    bytes.truncate(frame.buffer_size());
    bytes
}

/// Saves a picture if the folder in the environment variable `PICTURES` is given.
fn save(name: &str, picture: &[u8]) {
    let Ok(folder) = std::env::var("PICTURES") else { return };
    let size = ((picture.len() / 3) as f64).sqrt() as u32;
    let file = std::fs::File::create(Path::new(&folder).join(name)).unwrap();
    let mut encoder = png::Encoder::new(file, size, size);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&interleaved(picture)).unwrap();
}

/// Mean difference of two pictures, and how many numbers differ by more than 16.
fn difference(one: &[u8], other: &[u8]) -> (f64, usize) {
    assert_eq!(one.len(), other.len());
    let differences: Vec<u8> = one.iter().zip(other).map(|(one, other)| one.abs_diff(*other)).collect();
    let sum: f64 = differences.iter().copied().map(f64::from).sum();
    let far = differences.iter().filter(|difference| **difference > 16).count();
    (sum / differences.len() as f64, far)
}

/// A picture of a state.
fn picture(scene: &CompiledScene, qpos: &[f64], gaze: Option<[f64; 2]>) -> Vec<u8> {
    let mut painter = Painter::of(scene).unwrap();
    let mut out = vec![0; painter.eye().picture_len()];
    painter.paint(None, qpos, gaze, &mut out).unwrap();
    out
}

/// The golden pictures are what `MuJoCo` 3.17 draws with OpenGL, four samples a pixel.
#[test]
fn mazes_look_as_in_mujoco() {
    let scene = maze(&[]);
    let states = [
        ([2.0, 1.1], [3.2, 2.5]),
        ([0.9, 1.3], [1.9, 2.4]),
        ([4.4, 3.0], [5.5, 4.33]),
        ([4.4, 4.6], [5.5, 5.4]),
    ];
    for (index, (qpos, gaze)) in states.into_iter().enumerate() {
        let drawn = picture(&scene, &qpos, Some(gaze));
        save(&format!("maze_{index}.png"), &drawn);
        let original = read_png(&golden(&format!("maze_{index}.png")));
        let (mean, far) = difference(&interleaved(&drawn), &original);
        println!("maze {index}: mean difference {mean:.2}, {far} numbers differ by more than 16");
        assert!(mean < 2.0 && far < 60, "{index}: {mean} {far}");
        let upside_down: Vec<u8> = original.rchunks_exact(3 * 32).flatten().copied().collect();
        assert!(difference(&interleaved(&drawn), &upside_down).0 > 10.0);
    }
}

#[test]
fn shapes_look_as_in_mujoco() {
    let scene = shapes(&golden("shapes.xml"), CARRIED).unwrap();
    let drawn = picture(&scene, &[0.0], None);
    save("shapes.png", &drawn);
    let (mean, far) = difference(&interleaved(&drawn), &read_png(&golden("shapes.png")));
    println!("mean difference {mean:.2}, {far} numbers differ by more than 16");
    // The original smooths the far squares of the floor.
    assert!(mean < 2.5 && far < 800, "{mean} {far}");
}

/// The grid of a maze and rays against the boxes of its model are two ways to the same picture.
#[test]
fn the_grid_and_rays_give_the_same_picture() {
    for seed in 0..6 {
        let scene = random_maze(seed);
        let spec = scene.scene().observation.pixels.clone().unwrap();
        let not_built = PhysicsSpec {
            built: None,
            ..scene.scene().physics.clone()
        };
        let by_rays = CompiledEye::new(&spec, &not_built, scene.model()).unwrap();
        let by_grid = scene.eye().unwrap().clone();
        let mut environment = Environment::new(&scene, 0, seed).unwrap();
        for step in 0..8 {
            let at = |factor: f64| 5.5 + 6.0 * (factor * (8 * seed + step) as f64).sin();
            environment.begin(&scene, 0, &[at(1.3), at(2.1)]);
            let gaze = Gaze([at(1.3) + 1.2 + 0.2 * at(0.7).sin(), at(2.1) + 1.2]);
            let mut pictures = [vec![0; by_grid.picture_len()], vec![0; by_grid.picture_len()]];
            by_grid.draw(&environment.physics, &gaze, &mut pictures[0]);
            by_rays.draw(&environment.physics, &gaze, &mut pictures[1]);
            let (mean, far) = difference(&pictures[0], &pictures[1]);
            assert!(mean < 1.0 && far <= 6, "maze {seed}, state {step}: {mean} {far}");
        }
    }
}

/// Up in a picture is +x and right is -y: the particle is green, and it is looked at from beside.
#[test]
fn up_is_x_and_left_is_y() {
    let scene = maze(&[]);
    let green_at = |gaze: [f64; 2]| {
        let drawn = picture(&scene, &[2.8, 3.8], Some(gaze));
        let green = |at: &usize| {
            let [red, green, blue] = [0, 1, 2].map(|channel| i32::from(drawn[channel * 1024 + at]));
            green > red + 15 && green > blue + 15
        };
        let places: Vec<usize> = (0..1024).filter(green).collect();
        // A disc of 0.2 m is 1.5 pixels wide to each side of its middle.
        assert!((5..=16).contains(&places.len()), "{}", places.len());
        let mean = |of: fn(usize) -> usize| {
            let sum: usize = places.iter().map(|at| of(*at)).sum();
            sum as f64 / places.len() as f64 + 0.5
        };
        (mean(|at| at / 32), mean(|at| at % 32))
    };
    // 5 m away, 32 pixels are 4.142 m wide; spheres bulge by a few hundredths of a pixel.
    let pixels = 32.0 / (2.0 * 5.0 * 22.5_f64.to_radians().tan());
    for (dx, dy) in [(0.0, 0.0), (1.0, 0.0), (0.0, 0.7), (-0.8, 0.3)] {
        let (row, column) = green_at([4.0 - dx, 5.0 - dy]);
        assert!((row - (16.0 - dx * pixels)).abs() < 0.35, "{dx} {dy}: row {row}");
        assert!(
            (column - (16.0 - dy * pixels)).abs() < 0.35,
            "{dx} {dy}: column {column}"
        );
    }
}

#[test]
fn the_gaze_lags() {
    let scene = maze(&[]);
    let eye = scene.eye().unwrap().clone();
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    environment.begin(&scene, 0, &[1.0, 1.0]);
    let mut gaze = Gaze::default();
    eye.settle(&environment.physics, &mut gaze);
    assert_eq!(gaze, Gaze([2.2, 2.2]));
    // At a constant speed it ends up four steps behind.
    for step in 1..=100 {
        environment.begin(&scene, 0, &[1.0 + 0.05 * f64::from(step), 1.0]);
        eye.follow(&environment.physics, &mut gaze);
    }
    let x = 1.0 + 0.05 * 100.0 + 1.2;
    assert!((gaze.0[0] - (x - 4.0 * 0.05)).abs() < 1e-8, "{gaze:?}");
    assert!((gaze.0[1] - 2.2).abs() < 1e-12);
}

fn app(scene: &CompiledScene, count: usize) -> (App, Vec<Entity>) {
    let mut app = App::new();
    app.add_plugins((TaskPoolPlugin::default(), TickPlugin, SimPlugin));
    let scene = app.world_mut().spawn(scene.clone()).id();
    let environments = (0..count)
        .map(|slot| spawn_environment(app.world_mut(), scene, slot, 3).unwrap())
        .collect();
    (app, environments)
}

fn action(step: u32, slot: usize) -> [f32; 2] {
    let phase = step as f32 * 0.11 + slot as f32;
    [phase.sin(), (1.7 * phase).cos()]
}

fn tick(app: &mut App, environments: &[Entity], step: u32) {
    for (slot, entity) in environments.iter().enumerate() {
        let mut wanted = app.world_mut().get_mut::<Action>(*entity).unwrap();
        wanted.0.copy_from_slice(&action(step, slot));
    }
    app.world_mut().run_schedule(Tick);
}

fn sights(environment: &Environment) -> &[u8] {
    &environment.eyes.0.as_ref().unwrap().pixels
}

/// In the schedule and by hand, over the end of an episode; every picture is that of its state, and the second of a
/// pair is the first of the next.
#[test]
fn environments_see_what_they_are_in() {
    let scene = maze(&["episode.steps=12"]);
    let (mut app, environments) = app(&scene, 3);
    let mut by_hand = Environment::new(&scene, 1, 3).unwrap();
    let mut painter = Painter::of(&scene).unwrap();
    let one = painter.eye().picture_len();
    let mut painted = vec![0; one];
    let mut first = Vec::new();
    for step in 0..30 {
        if step % 12 == 0 {
            by_hand.begin(&scene, u64::from(step / 12), scene.fresh().qpos());
            assert_eq!(
                sights(&by_hand)[..one],
                sights(&by_hand)[one..],
                "the first stands for those before it"
            );
        }
        if step % 12 == 0 {
            first = sights(&by_hand).to_vec();
        }
        let start = sights(&by_hand).to_vec();
        by_hand.step(&scene, &action(step, 1));
        tick(&mut app, &environments, step);
        let world = app.world();
        let entity = environments[1];
        assert_eq!(world.get::<Pixels>(entity).unwrap().0, start, "step {step}");
        let next = &world.get::<NextPixels>(entity).unwrap().0;
        assert_eq!(next, sights(&by_hand), "step {step}");
        assert_eq!(next[..one], start[one..], "step {step}: the younger one stays");
        if step % 12 == 11 {
            assert_ne!(next[one..], first[one..], "step {step}: something has moved");
        }

        let gaze = world.get::<Gaze>(entity).unwrap();
        painter
            .paint(None, by_hand.physics.qpos(), Some(gaze.0), &mut painted)
            .unwrap();
        assert_eq!(painted, next[one..], "step {step}: from the recorded state");
    }
    assert_eq!(app.world().get::<Episode>(environments[1]).unwrap().index, 2);
    assert!(app.world().get::<Eyes>(environments[1]).is_none(), "they are open");
}

#[test]
fn a_restored_environment_sees_the_same() {
    let scene = maze(&[]);
    let (mut original, environments) = app(&scene, 2);
    for step in 0..7 {
        tick(&mut original, &environments, step);
    }
    let capture = |app: &App, entity: &Entity| EnvironmentState::capture(app.world().entity(*entity)).unwrap();
    let states: Vec<EnvironmentState> = environments.iter().map(|entity| capture(&original, entity)).collect();
    let text = serde_json::to_string(&states).unwrap();
    let stored: Vec<EnvironmentState> = serde_json::from_str(&text).unwrap();
    let (mut copy, copies) = app(&scene, 2);
    for (entity, state) in copies.iter().zip(&stored) {
        state.restore(&mut copy.world_mut().entity_mut(*entity)).unwrap();
    }
    for step in 7..15 {
        tick(&mut original, &environments, step);
        tick(&mut copy, &copies, step);
    }
    for (one, other) in environments.iter().zip(&copies) {
        assert_eq!(capture(&original, one), capture(&copy, other));
    }
    let blind = CompiledScene::load("maze", &[layout()]).unwrap();
    let (mut other, others) = app(&blind, 1);
    let refused = stored[0].restore(&mut other.world_mut().entity_mut(others[0]));
    assert!(refused.unwrap_err().to_string().contains("pixels"));
}

#[test]
fn scenes_without_pixels_have_no_part_of_it() {
    let scene = CompiledScene::load("maze", &[layout()]).unwrap();
    let (mut app, environments) = app(&scene, 1);
    tick(&mut app, &environments, 0);
    let entity = app.world().entity(environments[0]);
    assert!(!entity.contains::<Pixels>() && !entity.contains::<NextPixels>());
    assert!(!entity.contains::<Sight>() && !entity.contains::<Gaze>() && !entity.contains::<Eyes>());
    let error = Painter::of(&scene).unwrap_err().to_string();
    assert!(error.contains("observation.pixels"), "{error}");
}

#[test]
fn steps_with_pictures_allocate_nothing() {
    let shapes = shapes(&golden("shapes.xml"), CARRIED).unwrap();
    for scene in [maze(&[]), shapes] {
        let mut environment = Environment::new(&scene, 0, 0).unwrap();
        let action = vec![0.3_f32; scene.action_len()];
        let before = ALLOCATIONS.get();
        for _ in 0..20 {
            environment.step(&scene, &action);
        }
        assert_eq!(ALLOCATIONS.get(), before);
    }
}

/// Layouts by their seed, more of them than are remembered.
#[test]
fn painters_draw_every_layout() {
    let scene = random_maze(0);
    let mut painter = Painter::of(&scene).unwrap();
    let mut clone = painter.clone();
    let Some(Built::Maze(spec)) = &scene.scene().physics.built else {
        panic!("a maze")
    };
    let mut painted = [
        vec![0; painter.eye().picture_len()],
        vec![0; painter.eye().picture_len()],
    ];
    for layout in (0..300).chain([0, 7]) {
        let own = spec.drawn(layout).unwrap();
        let [x, y] = own.grid().unwrap().start();
        let paint = |painter: &mut Painter, layout, out: &mut [u8]| painter.paint(layout, &[x, y], None, out).unwrap();
        paint(&mut painter, Some(layout as i64), &mut painted[0]);
        if layout % 50 == 0 || layout == 7 {
            let mut scene = scene.scene().clone();
            scene.physics.built = Some(Built::Maze(own));
            paint(&mut Painter::new(&scene).unwrap(), None, &mut painted[1]);
            assert_eq!(painted[0], painted[1], "layout {layout}");
            paint(&mut clone, Some(layout as i64), &mut painted[1]);
            assert_eq!(painted[0], painted[1], "layout {layout}");
        }
    }
    let mut paint =
        |layout, qpos: &[f64], len: usize| painter.paint(layout, qpos, None, &mut vec![0; len]).unwrap_err();
    assert!(matches!(
        paint(None, &[1.0, f64::NAN], 3072),
        PaintError::Positions { expected: 2, found: 1 }
    ));
    assert!(matches!(
        paint(None, &[1.0, 1.0], 3000),
        PaintError::Room { expected: 3072, .. }
    ));
    assert!(matches!(
        paint(Some(-1), &[1.0, 1.0], 3072),
        PaintError::Layout { layout: -1, .. }
    ));
}

#[test]
fn errors_name_the_field_and_the_choice() {
    let spec = |change: fn(&mut PixelSpec)| {
        let mut spec = PixelSpec {
            eye: Eye::Above {
                body: "particle".into(),
                distance: 5.0,
                fovy: 45.0,
                lag: 0.2,
            },
            size: 32,
            frames: 2,
        };
        change(&mut spec);
        spec
    };
    let scene = maze(&[]);
    let refused = |spec: PixelSpec| {
        let error = CompiledEye::new(&spec, &scene.scene().physics, scene.model()).unwrap_err();
        (error.field().unwrap().to_owned(), error.to_string())
    };
    let (field, text) = refused(spec(|spec| spec.size = 1000));
    assert!(
        field == "observation.pixels.size" && text.contains("4 to 256"),
        "{text}"
    );
    let (field, text) = refused(spec(|spec| spec.frames = 0));
    assert!(
        field == "observation.pixels.frames" && text.contains("found 0"),
        "{text}"
    );
    let (field, text) = refused(spec(|spec| {
        if let Eye::Above { body, .. } = &mut spec.eye {
            *body = "particel".into();
        }
    }));
    assert!(
        field == "observation.pixels.eye.body" && text.contains("\"particle\""),
        "{text}"
    );
    let (field, _) = refused(spec(|spec| {
        if let Eye::Above { lag, .. } = &mut spec.eye {
            *lag = 0.0;
        }
    }));
    assert_eq!(field, "observation.pixels.eye.lag");
    let (field, text) = refused(spec(|spec| {
        spec.eye = Eye::Carried {
            body: "particle".into(),
            offset: (1.0, 2.0, 3.0),
            target: (1.0, 2.0, 3.0),
            fovy: 45.0,
        }
    }));
    assert!(
        field == "observation.pixels.eye.target" && text.contains("offset"),
        "{text}"
    );

    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("mesh.xml");
    let text = r#"<mujoco><asset><mesh name="wedge" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset><worldbody>
        <geom name="wedge" type="mesh" mesh="wedge"/>
        <body name="eye"><joint name="y" type="slide" axis="0 1 0"/><geom size="0.1"/></body></worldbody>
        <actuator><motor name="y" joint="y"/></actuator></mujoco>"#;
    std::fs::write(&model, text).unwrap();
    let error = shapes(&model, CARRIED).map(drop).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\"wedge\"") && text.contains("boxes"), "{text}");
}

/// How long pictures take is printed.
#[test]
fn pictures_are_fast() {
    let layout = Layout::Random(RandomLayout {
        size: 40,
        ..RandomLayout::default()
    });
    let mut large = maze(&[]).scene().clone();
    large.physics.built = Some(Built::Maze(MazeSpec {
        layout,
        ..MazeSpec::default()
    }));
    let blocks = CompiledScene::load("blocks_pixels", &[]).unwrap();
    for (name, scene, bound) in [
        ("maze", CompiledScene::new(large).unwrap(), 150.0),
        ("11 blocks", blocks, 2_000.0),
    ] {
        let environment = Environment::new(&scene, 0, 0).unwrap();
        let sighted = environment.eyes.0.unwrap();
        let mut out = vec![0; sighted.sight.0.picture_len()];
        let mut best = f64::INFINITY;
        for _ in 0..50 {
            let begun = std::time::Instant::now();
            for _ in 0..10 {
                sighted.sight.0.draw(&environment.physics, &sighted.gaze, &mut out);
            }
            best = best.min(begun.elapsed().as_secs_f64() * 1e5);
        }
        save(&format!("{name}.png"), &out);
        println!("{name}: {best:.1} us a picture");
        // Ten times what it takes on an idle machine.
        assert!(best < bound, "{name}: {best} us");
    }
}

/// The window's camera in the same place sees the same things in the same places. It has another light, so only hues are
/// compared, of pixels that are all of one thing in both pictures.
#[cfg(feature = "window")]
mod beside_the_window {
    use std::sync::Arc;

    use apprentice::view::offscreen::{Offscreen, Viewpoint, check_renderer};
    use apprentice::watch::{EnvironmentView, Pose, Snapshot, Subject, moving_bodies};

    use super::*;

    /// What a pixel shows, by its hue.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Hue {
        Warm,
        Green,
        Blue,
        Unclear,
    }

    fn hue([red, green, blue]: [f64; 3]) -> Hue {
        if red > 1.25 * blue && red > green {
            Hue::Warm
        } else if green > 1.15 * red && green > 1.15 * blue {
            Hue::Green
        } else if blue > 1.15 * red {
            Hue::Blue
        } else {
            Hue::Unclear
        }
    }

    fn snapshot(scene: &CompiledScene, environment: &Environment) -> Box<Snapshot> {
        let (positions, rotations) = (environment.physics.xpos(), environment.physics.xquat());
        let poses = moving_bodies(scene.model()).into_iter().map(|body| Pose {
            position: positions[body].map(|number| number as f32),
            rotation: rotations[body].map(|number| number as f32),
        });
        Box::new(Snapshot {
            environments: vec![EnvironmentView {
                environment: Entity::PLACEHOLDER,
                seed: 0,
                slot: 0,
                evaluates: true,
                episode: 0,
                step: 1,
                return_: 0.0,
                reward: 0.0,
                done: Vec::new(),
                skill: None,
                last_return: None,
                faults: 0,
            }],
            poses: poses.collect(),
            ..Snapshot::default()
        })
    }

    #[test]
    fn both_cameras_see_the_same() {
        if let Err(error) = check_renderer() {
            println!("left out: {error}");
            return;
        }
        let gaze = [3.2, 2.5];
        let camera = format!(
            r#"cameras=[(name: "eye", look_at: ({}, {}, 0.0), distance: 5.0, azimuth: 0.0, elevation: -90.0, width: 256, height: 256)]"#,
            gaze[0], gaze[1]
        );
        let scene = Arc::new(maze(&[&camera]));
        let mut environment = Environment::new(&scene, 0, 0).unwrap();
        environment.begin(&scene, 0, &[2.0, 1.1]);
        let drawn = picture(&scene, environment.physics.qpos(), Some(gaze));
        let subject = Subject {
            title: "test".into(),
            scene: scene.clone(),
            task: Vec::new(),
            skill_map: None,
            trains: false,
            metrics: Vec::new(),
        };
        let mut offscreen = Offscreen::new(subject, (256, 256), Viewpoint::Scene).unwrap();
        let window = offscreen.show(snapshot(&scene, &environment)).unwrap();
        let (mut clear, mut same, mut green) = (0, 0, 0);
        let mut scaled = vec![0; drawn.len()];
        for at in 0..1024 {
            let own = [0, 1, 2].map(|channel| f64::from(drawn[channel * 1024 + at]));
            // The mean of 8 x 8 pixels of the window's picture.
            let theirs = [0, 1, 2].map(|channel| {
                let pixel = |inner: usize| (8 * (at / 32) + inner / 8) * 256 + 8 * (at % 32) + inner % 8;
                (0..64)
                    .map(|inner| f64::from(window[4 * pixel(inner) + channel]))
                    .sum::<f64>()
                    / 64.0
            });
            for (channel, value) in theirs.into_iter().enumerate() {
                scaled[channel * 1024 + at] = value as u8;
            }
            let (own, theirs) = (hue(own), hue(theirs));
            if own != Hue::Unclear && theirs != Hue::Unclear {
                clear += 1;
                same += usize::from(own == theirs);
                green += usize::from(own == Hue::Green && theirs == Hue::Green);
            }
        }
        save("window_own.png", &drawn);
        save("window_theirs.png", &scaled);
        println!("{same} of {clear} clear pixels show the same, {green} of them the particle");
        assert!(
            clear > 800 && same * 100 >= clear * 96 && green > 5,
            "{clear} {same} {green}"
        );
    }
}
