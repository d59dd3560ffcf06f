//! A run that goes on is what it was: nothing that its learners stand on changes under them, and nothing is forgotten.

use apprentice::metrics::read_scalars;

use super::program::{Place, copy, demonstrations, files, skills, tiny};

#[test]
fn skill_models_stay_with_the_demonstrations_they_were_trained_on() {
    let place = Place::new();
    copy(skills(), &place.path("run"));
    let before = files(&place.path("run"));
    let other = "collect kitchen --episodes 3 --seed 9 --out other.hdf5 --threads 1";
    place.succeeds(other);
    let resume = "pretrain kitchen/spirl_cl pretraining.updates=300 --resume --out run";
    place.fails(
        &format!("{resume} dataset.path=other.hdf5 dataset.collect=None"),
        &[
            "other.hdf5: other demonstrations than those that this model was trained on for 200 updates",
            "--out",
        ],
    );
    assert!(
        before == files(&place.path("run")),
        "a refused command changed something"
    );
    // The same ones in another layout are the same.
    let mine = demonstrations().display();
    place.succeeds(&format!("convert {mine} same.hdf5 --layout rollouts"));
    place.succeeds(&format!("{resume} dataset.path=same.hdf5 dataset.collect=None"));
}

#[test]
fn learners_stay_with_the_skill_model_that_they_practised_with() {
    let place = Place::new();
    // Another model of the same sizes.
    let other = "pretraining.seed=1 pretraining.updates=20 --out other";
    place.succeeds(&format!("pretrain kitchen/spirl_cl {} {other}", tiny()));

    // The run's own model is not trained any further.
    copy(skills(), &place.path("own"));
    place.succeeds("train kitchen/spirl_cl training.steps=60 --resume --out own");
    let before = files(&place.path("own"));
    place.fails(
        "pretrain kitchen/spirl_cl pretraining.updates=300 --resume --out own",
        &["own: learners of this run have practised with its skill model", "--out"],
    );
    assert!(
        before == files(&place.path("own")),
        "a refused command changed something"
    );

    // A copy is not replaced by another model, not even for a learner that has yet to begin.
    let given = skills().display();
    let train = format!(
        "train kitchen/spirl_cl {} training.steps=60 --skills {given} --out run",
        tiny()
    );
    place.succeeds(&train);
    let before = files(&place.path("run"));
    for seeds in ["seeds=[0]", "seeds=[1]"] {
        place.fails(
            &format!("train kitchen/spirl_cl {seeds} training.steps=80 --resume --skills other --out run"),
            &[
                "run: learners of this run have practised with the skill model in its skills/",
                "--out",
            ],
        );
    }
    assert!(
        before == files(&place.path("run")),
        "a refused command changed something"
    );

    // However another model came there, it is noticed.
    std::fs::remove_dir_all(place.path("run/skills")).unwrap();
    copy(&place.path("other/skills"), &place.path("run/skills"));
    let stands = "run/seed_0: this learner stands on another skill model than run/skills";
    let resume = "train kitchen/spirl_cl training.steps=80 --resume --out run";
    place.fails(resume, &[stands, "--skills"]);
    place.fails("evaluate run --episodes 1", &[stands, "that one only"]);
    std::fs::remove_dir_all(place.path("run/skills")).unwrap();
    place.succeeds(&format!("{resume} --skills {given}"));
}

#[test]
fn learners_wait_for_their_own_skill_model_to_be_trained() {
    let place = Place::new();
    copy(skills(), &place.path("run"));
    let train = "train kitchen/spirl_cl training.steps=40 --resume --out run";
    place.fails(
        &format!("{train} pretraining.updates=300"),
        &[
            "has made 200 of 300 updates",
            "`apprentice pretrain` with --resume",
            "`pretraining.updates=200`",
        ],
    );
    place.succeeds(train);
    // Once they stand on it, it is as it is.
    place.succeeds("train kitchen/spirl_cl training.steps=60 pretraining.updates=300 --resume --out run");
}

#[test]
fn what_a_checkpoint_has_fixed_cannot_change() {
    let place = Place::new();
    copy(skills(), &place.path("run"));
    let before = place.read("run/experiment.ron");
    place.fails(
        "pretrain kitchen/spirl_cl skill_model.latent=6 --resume --out run",
        &["holds a skill model with other settings"],
    );
    assert_eq!(before, place.read("run/experiment.ron"), "a refused command changed it");

    let train = |more: &str| format!("train kitchen/spirl_cl {more} --resume --out run");
    place.succeeds(&train("training.steps=60 training.replay_capacity=1000"));
    let before = files(&place.path("run"));
    for (change, name, from, to) in [
        ("training.warmup=9", "training.warmup", "8", "9"),
        (
            "training.replay_capacity=100",
            "training.replay_capacity",
            "1000",
            "100",
        ),
        (
            "training.transitions=Original",
            "training.transitions",
            "Aligned",
            "Original",
        ),
        (
            "learner.temperature=Fixed(0.5)",
            "learner.temperature",
            "Learned",
            "Fixed(0.5)",
        ),
        ("scene=kitchen_mis_aligned", "scene", "kitchen", "kitchen_mis_aligned"),
    ] {
        place.fails(
            &train(&format!("training.steps=80 {change}")),
            &[
                &format!("{name} cannot change while a run goes on, here from {from}"),
                &format!("to {to};"),
            ],
        );
    }
    assert!(
        before == files(&place.path("run")),
        "a refused command changed something"
    );

    // Not even when another stage has noted it meanwhile.
    place.succeeds("pretrain kitchen/spirl_cl training.warmup=9 --resume --out run");
    place.fails(
        &train("training.steps=80"),
        &["training.warmup cannot change", "from 8 to 9"],
    );
    place.succeeds(&train("training.steps=80 training.warmup=8"));
}

#[test]
fn an_evaluation_that_had_to_wait_is_made_after_all() {
    let place = Place::new();
    // Two environments practise beside one that is evaluated, so an evaluation takes twice as many steps as its
    // episode, and is still under way when the next one is due.
    let train = |steps: u64, out: &str| {
        let evaluation = "evaluation.every=400 evaluation.episodes=1";
        let (tiny, skills) = (tiny(), skills().display());
        format!("train kitchen/spirl_cl {tiny} {evaluation} training.steps={steps} --skills {skills} --out {out}")
    };
    let evaluations = |run: &str| -> Vec<(u64, u64)> {
        let rows = read_scalars(&place.path(run).join("seed_0")).unwrap();
        let completed = rows.into_iter().filter(|row| row.tag == "evaluation/completed");
        completed.map(|row| (row.step, row.value.to_bits())).collect()
    };
    place.succeeds(&train(1600, "whole"));
    let expected = evaluations("whole");
    assert!(expected.len() == 2 && expected[0].0 > 800, "{expected:?}");

    // Interrupted when the first one has ended and the second one has yet to begin.
    place.succeeds(&train(expected[0].0, "parts"));
    assert_eq!(evaluations("parts"), expected[..1]);
    place.succeeds("train kitchen/spirl_cl training.steps=1600 --resume --out parts");
    assert_eq!(evaluations("parts"), expected);
}

#[test]
fn a_prior_that_cannot_act_stops_no_learner_that_does_without() {
    let place = Place::new();
    let settings = format!(
        "kitchen/no_prior {} skill_model.prior=Flow pretraining.updates=20",
        tiny()
    );
    let learn = format!("learn {settings} training.steps=40 evaluation.final_episodes=1 --out run");
    let ran = place.run(&learn);
    assert!(ran.status.success(), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("warning: the prior of this model is not Gaussian"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stdout.contains("seed 0, most likely") && !ran.stdout.contains("prior roll-outs"),
        "{}",
        ran.stdout
    );
    assert!(!place.path("run/prior.json").exists());

    place.fails(
        &format!("rollout {settings} --skills run"),
        &["the prior of this model is not Gaussian; nothing can be rolled out"],
    );
    place.fails(
        &format!(
            "train kitchen/spirl_cl {} skill_model.prior=Flow --skills run --out out",
            tiny()
        ),
        &[
            "only a Gaussian prior can be used as a policy",
            "skill_model.prior: Gauss",
        ],
    );
}

#[test]
fn validation_can_be_switched_off() {
    let place = Place::new();
    let metrics = |every: u64| {
        let out = format!("every_{every}");
        let settings = "pretraining.updates=2 pretraining.split=(train:0.5,validation:0.5)";
        place.succeeds(&format!(
            "pretrain kitchen/spirl_cl {} {settings} pretraining.validate_every={every} --out {out}",
            tiny()
        ));
        place.read(&format!("{out}/skills/metrics.csv"))
    };
    assert!(metrics(1).contains("1,validation/total,"));
    let off = metrics(0);
    assert!(
        off.contains("2,training/total,") && !off.contains("validation/"),
        "{off}"
    );
}
