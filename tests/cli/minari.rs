//! Demonstrations as a Minari dataset: collected, looked at, learned from.

use super::program::{Place, demonstrations, tiny};

#[test]
fn a_minari_dataset_serves_as_any_other() {
    let place = Place::new();
    let collect = "collect kitchen --episodes 4 --threads 1 --layout minari";
    place.fails(
        &format!("{collect} --out demos"),
        &["demos: cannot be written", "ends in a version", "`demos-v0`"],
    );
    place.succeeds(&format!("{collect} --out demos-v0"));
    place.fails(&format!("{collect} --out demos-v0"), &["is there already", "--force"]);
    place.succeeds(&format!("{collect} --out demos-v0 --force"));
    let metadata = std::fs::read_to_string(place.path("demos-v0/data/metadata.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["dataset_id"], "demos-v0");
    assert_eq!(metadata["total_episodes"], 4);

    // The same numbers as in the other layout.
    let ranges = |path: &str| {
        let report = place.succeeds(&format!("inspect {path}"));
        let at = report.find("\nLength").unwrap();
        report[at..].to_owned()
    };
    let flat = ranges(&demonstrations().display().to_string());
    for path in ["demos-v0", "demos-v0/data", "demos-v0/data/main_data.hdf5"] {
        assert_eq!(ranges(path), flat);
    }
    // The observation after the last step was recorded: it is not the one before it again.
    assert!(!flat.contains("lack the observation"), "{flat}");
    let file = place.path("demos-v0/data/main_data.hdf5");
    let dataset = apprentice::data::Dataset::read(file).unwrap();
    let episode = dataset.episode(0).unwrap();
    let last = episode.final_observation.unwrap();
    let width = dataset.observation_dim();
    assert_ne!(last, episode.observations[episode.observations.len() - width..]);

    place.succeeds(&format!(
        "pretrain kitchen/spirl_cl {} dataset.path=demos-v0 pretraining.updates=2 --out skills",
        tiny()
    ));
}
