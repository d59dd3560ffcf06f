//! The kitchen repeats the reference traces of `tests/golden/kitchen`.
//!
//! The bits depend on the vector instructions of the processor. Where it has AVX-512, as the recording machine had,
//! every number must be equal. Elsewhere the first 20 steps must agree within
//! 1e-6, and the scripted traces must complete their elements in the same steps, give or take two.
#![allow(clippy::unwrap_used, reason = "tests")]

use apprentice::scene::{CompiledScene, Scene};
use apprentice::sim::Environment;
use safetensors::SafeTensors;

/// Numbers of one trace, row by row.
struct Trace {
    actions: Vec<f64>,
    positions: Vec<f64>,
    velocities: Vec<f64>,
    distances: Vec<f64>,
}

fn read(name: &str) -> Trace {
    let path = format!(
        "{}/tests/golden/kitchen/trace_{name}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    );
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |name: &str| {
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(8)
            .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    };
    Trace {
        actions: numbers("actions"),
        positions: numbers("qpos"),
        velocities: numbers("qvel"),
        distances: numbers("element_distance"),
    }
}

fn noiseless_kitchen() -> CompiledScene {
    let mut scene = Scene::load("kitchen").unwrap();
    scene.observation.noise = false;
    CompiledScene::new(scene).unwrap()
}

fn same_processor_class() -> bool {
    #[cfg(target_arch = "x86_64")]
    let same = std::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    let same = false;
    same
}

fn assert_equal(what: &str, step: usize, here: &[f64], reference: &[f64], exact: bool) {
    for (index, (here, reference)) in here.iter().zip(reference).enumerate() {
        let equal = if exact {
            here.to_bits() == reference.to_bits()
        } else {
            (here - reference).abs() <= 1e-6
        };
        assert!(
            equal,
            "{what}[{index}] after {step} steps: {here:?}, reference {reference:?}"
        );
    }
}

fn follow(name: &str) {
    let scene = noiseless_kitchen();
    let trace = read(name);
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let exact = same_processor_class();
    let (positions, velocities) = (scene.model().nq() as usize, scene.model().nv() as usize);
    let elements = scene.elements().len();
    let mut completed = vec![None; elements];
    let mut expected = vec![None; elements];
    for step in 0..=trace.actions.len() / scene.action_len() {
        if step > 0 {
            let action = &trace.actions[(step - 1) * scene.action_len()..step * scene.action_len()];
            assert_eq!(environment.step(&scene, action).fault, None, "step {step}");
        }
        let reference = &trace.distances[step * elements..][..elements];
        let note = |first: &mut [Option<usize>], distances: &[f64]| {
            for ((first, distance), element) in first.iter_mut().zip(distances).zip(scene.elements()) {
                if *distance < element.threshold {
                    first.get_or_insert(step);
                }
            }
        };
        note(&mut completed, &environment.progress.distance);
        note(&mut expected, reference);
        if exact || step <= 20 {
            assert_equal(
                "qpos",
                step,
                environment.physics.qpos(),
                &trace.positions[step * positions..],
                exact,
            );
            assert_equal(
                "qvel",
                step,
                environment.physics.qvel(),
                &trace.velocities[step * velocities..],
                exact,
            );
            assert_equal("distance", step, &environment.progress.distance, reference, exact);
        }
    }
    if exact {
        assert_eq!(completed, expected);
    } else if name.starts_with("demo") {
        for (element, (here, reference)) in completed.iter().zip(&expected).enumerate() {
            let close = match (here, reference) {
                (Some(here), Some(reference)) => usize::abs_diff(*here, *reference) <= 2,
                (here, reference) => here == reference,
            };
            assert!(
                close,
                "{} done in step {here:?}, reference {reference:?}",
                scene.elements()[element].name
            );
        }
    }
}

#[test]
fn random_actions() {
    follow("random");
}

#[test]
fn smooth_actions() {
    follow("smooth");
}

#[test]
fn scripted_microwave_kettle_burner_light() {
    follow("demo0");
}

#[test]
fn scripted_burner_cabinets_light() {
    follow("demo1");
}
