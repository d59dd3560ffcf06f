//! What computes updates: the fused passes, or candle's own operations as on a graphics processor.

use std::path::Path;

use apprentice::metrics::read_scalars;

use super::program::{Place, copy, skills, tiny};

/// The last value of a metric.
fn last(folder: &Path, tag: &str) -> f64 {
    let rows = read_scalars(folder).unwrap();
    let of_tag = rows.iter().filter(|row| row.tag == tag);
    of_tag.map(|row| row.value).next_back().expect(tag)
}

#[test]
fn skill_models_learn_the_same_on_every_device() {
    let place = Place::new();
    for device in ["cpu", "candle"] {
        let settings = "pretraining.updates=12 pretraining.validate_every=12";
        place.succeeds(&format!(
            "pretrain kitchen/spirl_cl {} {settings} device={device} --out {device}",
            tiny()
        ));
    }
    for tag in [
        "training/total",
        "training/gradient_norm",
        "validation/total",
        "validation/top100_mse",
    ] {
        let [fused, composed] = ["cpu", "candle"].map(|device| last(&place.path(device).join("skills"), tag));
        let error = (fused - composed).abs() / fused.abs();
        assert!(error < 1e-3, "{tag}: {fused} and {composed}");
    }
    // What one of them has begun the other one goes on with.
    place.succeeds("pretrain kitchen/spirl_cl pretraining.updates=20 device=cpu --resume --out candle");
}

#[test]
fn learners_practise_on_every_device_and_change_it() {
    let place = Place::new();
    let skills = skills().display();
    for device in ["cpu", "candle"] {
        let settings = "training.steps=120 training.warmup=4 training.report_every=120 learner.batch=4";
        place.succeeds(&format!(
            "train kitchen/spirl_cl {} {settings} device={device} --skills {skills} --out {device}",
            tiny()
        ));
    }
    let value = |device: &str, tag: &str| last(&place.path(device).join("seed_0"), tag);
    for tag in ["learner/penalty", "learner/temperature", "learner/entropy"] {
        let (fused, composed) = (value("cpu", tag), value("candle", tag));
        let error = (fused - composed).abs() / fused.abs().max(0.1);
        assert!(error < 1e-2, "{tag}: {fused} and {composed}");
    }
    copy(&place.path("candle"), &place.path("both"));
    for (device, steps) in [("cpu", 160), ("candle", 200)] {
        place.succeeds(&format!(
            "train kitchen/spirl_cl training.steps={steps} device={device} --resume --out both"
        ));
    }
    assert!(place.read("both/experiment.ron").contains("device: candle"));
    place.succeeds("evaluate both --episodes 1 --sampled-only");
}

#[test]
fn devices_that_are_not_there_are_named() {
    let place = Place::new();
    let train = "train kitchen/sac --out out";
    place.fails(
        &format!("{train} device=gpu"),
        &["unknown variant `gpu` of `device`", "one of: cpu, cuda, candle"],
    );
    let bench = "bench learning --seconds 0.01 --json --device";
    let rates = place.succeeds(&format!("{bench} candle"));
    assert!(rates.contains("closed-loop skill model"), "{rates}");
    assert!(rates.contains("\"device\": \"candle\""), "{rates}");
    place.fails("bench simulation --device candle", &["only the part `learning`"]);
    if !cfg!(feature = "cuda") {
        let learn = format!("learn kitchen/spirl_cl {} --out out device=cuda", tiny());
        for command in [format!("{train} device=cuda"), format!("{bench} cuda"), learn] {
            place.fails(
                &command,
                &["device", "cargo build --features cuda", "`device=cpu` learns without"],
            );
        }
        assert!(!place.path("out").exists());
    }
    // What others will compute can be prepared here, and looked at here afterwards.
    place.succeeds(&format!("{train} device=cuda --dry-run"));
    place.succeeds("experiments check kitchen/sac device=cuda");
    copy(skills(), &place.path("run"));
    place.succeeds("train kitchen/spirl_cl training.steps=20 --resume --out run");
    let written = place.read("run/experiment.ron").replace("device: cpu", "device: cuda");
    assert!(written.contains("device: cuda"));
    place.write("run/experiment.ron", &written);
    place.succeeds("evaluate run --episodes 1 --sampled-only");
}

#[test]
fn the_whole_chain_goes_on_elsewhere() {
    let place = Place::new();
    let learn = format!(
        "learn kitchen/spirl_cl {} pretraining.updates=20 training.steps=20 evaluation.final_episodes=1 --out run",
        tiny()
    );
    place.succeeds(&format!("{learn} device=candle"));
    place.succeeds(&learn);
    place.fails(
        &format!("{learn} learner.discount=0.5"),
        &["holds a run of another experiment"],
    );
}
