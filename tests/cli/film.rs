//! Videos of evaluation episodes.
#![cfg(feature = "window")]

use apprentice::view::offscreen::check_renderer;

use super::program::Place;

/// Episodes of a second: pictures take their time where the processor draws them.
const SHORT: &str = r#"(extends: "kitchen", episode: (steps: 12))"#;
const TRAIN: &str = "train kitchen/sac scene=short.ron training.steps=48 training.warmup=8 learner.batch=16 \
                     learner.critic.width=16 environments=2 --out run";

#[test]
fn an_evaluation_is_filmed_without_a_display() {
    let place = Place::new();
    place.write("short.ron", SHORT);
    place.succeeds(TRAIN);
    let evaluate = "evaluate run --sampled-only --episodes 2";
    place.fails(&format!("{evaluate} --video run/film.gif"), &["film.gif", ".mp4"]);
    place.fails(&format!("{evaluate} --video none/film.mp4"), &["none"]);
    if let Err(error) = check_renderer() {
        eprintln!("left out: {error}");
        return;
    }
    place.fails(
        &format!("{evaluate} --video film.mp4 --video-episodes 3"),
        &["expected 1 to 2", "found 3"],
    );
    assert!(!place.path("run/evaluation.json").exists(), "nothing was evaluated yet");

    let ran = place.run_without_display(&format!("{evaluate} --video --video-episodes 1"));
    assert!(ran.status.success(), "{}", ran.stderr);
    assert!(ran.stdout.contains("evaluation.mp4"), "{}", ran.stdout);
    let video = std::fs::read(place.path("run/evaluation.mp4")).unwrap();
    assert_eq!(video.get(4..8), Some(&b"ftyp"[..]), "an mp4 file");
    assert!(video.len() > 5_000, "{} bytes", video.len());
    assert!(place.path("run/evaluation.json").exists());
}
