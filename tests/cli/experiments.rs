//! Every experiment that comes with the program loads and starts.

use apprentice::experiment::{Experiment, SkillModelConfig};
use apprentice::files::{FileKind, list};

use super::program::{Place, demonstrations};

#[test]
fn every_experiment_starts() {
    let place = Place::new();
    let names: Vec<String> = list(FileKind::Experiment, &[env!("CARGO_MANIFEST_DIR").into()])
        .into_keys()
        .collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let experiment = Experiment::load(&name, &[]).unwrap().value;
        let quick = Experiment::load(&name, &experiment.quick).unwrap().value;
        assert!(quick.training.steps <= experiment.training.steps, "{name}");
        let out = name.replace('/', "_");
        let mut budgets = "pretraining.updates=2 pretraining.batch=8 learner.batch=8 training.steps=40 \
                           training.warmup=3 environments=2"
            .to_owned();
        if experiment.skill_model == SkillModelConfig::None {
            assert_eq!(experiment.dataset, None, "{name}");
            place.succeeds(&format!("train {name} {budgets} --out {out}"));
        } else {
            budgets += &match name.split_once('/') {
                Some(("kitchen", _) | ("examples", "kitchen_breakfast")) => {
                    format!(" dataset.path={}", demonstrations().display())
                }
                // Collected by the first experiment of the family.
                Some((family, _)) => format!(" dataset.path={family}.hdf5 dataset.collect.episodes=4"),
                None => panic!("{name}: experiments have folders"),
            };
            place.succeeds(&format!("pretrain {name} {budgets} --out {out}"));
            place.succeeds(&format!("train {name} --resume --out {out}"));
        }
        assert!(
            place
                .path(&out)
                .join("seed_0/checkpoints/step_000000040/manifest.json")
                .is_file(),
            "{name}"
        );
        let metrics = place.read(&format!("{out}/seed_0/metrics.csv"));
        assert!(metrics.contains("40,learner/policy_loss,"), "{name}: {metrics}");
    }
}
