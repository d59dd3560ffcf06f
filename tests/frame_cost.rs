//! What a frame of the window costs the processor outside the renderer, by number of environments. A measurement, not a
//! check: `cargo test --test frame_cost -- --ignored --nocapture`.
#![cfg(feature = "window")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use apprentice::panel::{Show, panels};
use apprentice::scene::CompiledScene;
use apprentice::view::{Curves, PicturePlugin, ViewState, Watched};
use apprentice::watch::{EnvironmentView, Pose, Snapshot, Subject, moving_bodies};
use bevy::prelude::*;
use bevy::transform::TransformPlugin;
use bevy_egui::egui;

/// Frames that are measured, after a few to warm up.
const FRAMES: usize = 200;

fn snapshot(scene: &CompiledScene, environments: usize, tick: u64) -> Box<Snapshot> {
    let data = scene.fresh();
    // Every body moves in every frame, which is more than agents do.
    let shift = 0.01 * (tick as f32).sin();
    let pose = |body: usize| Pose {
        position: data.xpos()[body].map(|value| value as f32 + shift),
        rotation: data.xquat()[body].map(|value| value as f32),
    };
    let bodies = moving_bodies(scene.model());
    Box::new(Snapshot {
        tick,
        environments: (0..environments)
            .map(|slot| EnvironmentView {
                environment: Entity::from_raw_u32(1_000 + slot as u32).unwrap(),
                seed: 0,
                slot,
                evaluates: false,
                episode: 0,
                step: tick as u32,
                return_: 1.0,
                reward: 0.0,
                done: vec![true, false, false, false],
                skill: Some((tick as usize % 10, 10)),
                last_return: Some(2.0),
                faults: 0,
            })
            .collect(),
        poses: (0..environments)
            .flat_map(|_| bodies.iter().copied().map(pose))
            .collect(),
        ..Snapshot::default()
    })
}

/// Mean cost of a frame: placing everything, and all panels.
fn cost(scene: &Arc<CompiledScene>, environments: usize) -> (Duration, Duration) {
    let subject = Subject {
        title: "cost".into(),
        scene: scene.clone(),
        task: scene
            .task()
            .iter()
            .map(|&index| scene.elements()[index].name.clone())
            .collect(),
        skill_map: None,
        trains: true,
        metrics: Vec::new(),
    };
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, AssetPlugin::default(), TransformPlugin))
        .init_asset::<Mesh>()
        .init_asset::<StandardMaterial>()
        .init_asset::<Image>()
        .add_plugins(PicturePlugin { subject });
    let context = egui::Context::default();
    let input = egui::RawInput {
        screen_rect: Some(egui::Rect::from_min_size(egui::Pos2::ZERO, egui::vec2(1440.0, 900.0))),
        ..egui::RawInput::default()
    };
    let curves = Curves::default();
    let mut view = ViewState::default();
    let (mut placing, mut drawing) = (Duration::ZERO, Duration::ZERO);
    for frame in 0..FRAMES + 20 {
        let next = snapshot(scene, environments, frame as u64);
        app.world_mut().resource_mut::<Watched>().current = next;
        let begun = Instant::now();
        app.update();
        let placed = begun.elapsed();
        let watched = app.world().resource::<Watched>();
        let begun = Instant::now();
        let output = context.run_ui(input.clone(), |ui| {
            let show = Show {
                watched,
                curves: &curves,
                frames_per_second: 60.0,
            };
            panels(ui, &show, &mut view);
        });
        std::hint::black_box(output);
        if frame >= 20 {
            placing += placed;
            drawing += begun.elapsed();
        }
    }
    (placing / FRAMES as u32, drawing / FRAMES as u32)
}

#[test]
#[ignore = "a measurement"]
fn by_number_of_environments() {
    let scene = Arc::new(CompiledScene::load("kitchen", &[]).unwrap());
    println!("environments  placing, ms  panels, ms  together, ms");
    for environments in [1, 16, 64, 128, 256] {
        let (placing, panels) = cost(&scene, environments);
        let ms = |duration: Duration| 1e3 * duration.as_secs_f64();
        println!(
            "{environments:>12}  {:>11.3}  {:>10.3}  {:>12.3}",
            ms(placing),
            ms(panels),
            ms(placing + panels)
        );
    }
}
