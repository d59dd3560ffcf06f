#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use super::*;
use crate::watch::{EnvironmentView, Pose, moving_bodies};

#[test]
fn free_cameras_look_as_in_mujoco() {
    let camera = |azimuth, elevation| {
        free_camera(&SceneCamera {
            name: "test".into(),
            look_at: (1.0, 2.0, 3.0),
            distance: 2.0,
            azimuth,
            elevation,
            width: 4,
            height: 4,
        })
    };
    let focus = Vec3::new(1.0, 3.0, -2.0);
    // In Bevy's frame: x stays, MuJoCo's y is -z, its z is y.
    for (azimuth, elevation, forward) in [
        (0.0, 0.0, Vec3::X),
        (90.0, 0.0, Vec3::NEG_Z),
        (180.0, 0.0, Vec3::NEG_X),
        (90.0, -90.0, Vec3::NEG_Y),
        (0.0, -45.0, Vec3::new(0.5_f32.sqrt(), -0.5_f32.sqrt(), 0.0)),
    ] {
        let place = camera(azimuth, elevation);
        assert!(
            (place.forward().as_vec3() - forward).length() < 1e-6,
            "{azimuth} {elevation}"
        );
        assert!((place.translation - (focus - 2.0 * forward)).length() < 1e-5);
        assert!(place.right().y.abs() < 1e-6, "the horizon is level");
    }
}

/// The scene at its start, with the moving bodies shifted.
fn snapshot(scene: &CompiledScene, shift: f32) -> Box<Snapshot> {
    let data = scene.fresh();
    let poses = moving_bodies(scene.model()).into_iter().map(|body| {
        let position = data.xpos()[body].map(|number| number as f32);
        Pose {
            position: [position[0], position[1], position[2] + shift],
            rotation: data.xquat()[body].map(|number| number as f32),
        }
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
fn the_same_snapshot_gives_the_same_picture() {
    if let Err(error) = check_renderer() {
        eprintln!("left out: {error}");
        return;
    }
    let scene = Arc::new(CompiledScene::load("kitchen", &[]).unwrap());
    let subject = Subject {
        title: "test".into(),
        scene: scene.clone(),
        task: Vec::new(),
        skill_map: None,
        trains: false,
        metrics: Vec::new(),
    };
    // A width that is no multiple of 64, so that rows are filled up.
    let (width, height) = (200, 120);
    let mut offscreen = Offscreen::new(subject.clone(), (width, height), Viewpoint::Scene).unwrap();
    let first = offscreen.show(snapshot(&scene, 0.0)).unwrap().to_vec();
    assert_eq!(first.len(), (width * height * 4) as usize);
    if let Ok(folder) = std::env::var("PICTURES") {
        save(&folder, "scene.png", (width, height), &first);
    }
    let mut colours: Vec<&[u8]> = first.chunks_exact(4).collect();
    colours.sort_unstable();
    colours.dedup();
    assert!(colours.len() > 200, "only {} colours", colours.len());
    assert!(first.iter().skip(3).step_by(4).all(|alpha| *alpha == 255));

    let moved = offscreen.show(snapshot(&scene, 0.3)).unwrap().to_vec();
    let differ = first.chunks_exact(4).zip(moved.chunks_exact(4)).filter(|(a, b)| a != b);
    assert!(differ.count() > 300, "what moves is to be seen at once");
    assert!(offscreen.show(snapshot(&scene, 0.0)).unwrap() == first, "the same app");
    let mut again = Offscreen::new(subject, (width, height), Viewpoint::Scene).unwrap();
    assert!(again.show(snapshot(&scene, 0.0)).unwrap() == first, "another app");
}

fn save(folder: &str, name: &str, (width, height): (u32, u32), rgba: &[u8]) {
    let file = std::fs::File::create(std::path::Path::new(folder).join(name)).unwrap();
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Rgba);
    encoder.write_header().unwrap().write_image_data(rgba).unwrap();
}
