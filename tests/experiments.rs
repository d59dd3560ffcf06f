//! Experiments as data, through the real program: what is wrong with them, what they consist of, and sweeps.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;

use apprentice::experiment::Experiment;
use apprentice::metrics::read_scalars;
use apprentice::run::SweepIndex;

#[path = "cli/program.rs"]
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
mod program;

use program::{Place, assert_same, names};

/// Overrides that make practice in the maze as short as can be, with networks that learn nothing.
const TINY: &str = "learner.policy=Scratch(width:8,hidden:0) learner.critic.width=8 learner.critic.hidden=0 \
                    learner.batch=8 training.warmup=4 training.steps=60 training.report_every=20 \
                    training.replay_capacity=100 environments=2 evaluation.every=30 evaluation.episodes=1 \
                    evaluation.final_episodes=1";

/// Step, tag and value of everything but wall times.
fn metrics(folder: &Path) -> Vec<(u64, String, u64)> {
    let rows = read_scalars(folder).unwrap();
    let timed = |tag: &str| tag.starts_with("rate/");
    rows.into_iter()
        .filter(|row| !timed(&row.tag))
        .map(|row| (row.step, row.tag, row.value.to_bits()))
        .collect()
}

#[track_caller]
fn assert_same_practice(one: &Path, other: &Path) {
    let found = metrics(one);
    assert!(found.iter().any(|row| row.1 == "learner/policy_loss"), "{found:?}");
    assert_eq!(found, metrics(other));
    assert_same(&one.join("checkpoints"), &other.join("checkpoints"));
}

/// The lines of a check that begin with what is wrong.
fn errors(stdout: &str) -> Vec<&str> {
    stdout.lines().filter_map(|line| line.strip_prefix("error: ")).collect()
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let place = Place::new();
    place.write(
        "configs/base.ron",
        "(\n  scene: \"maze\",\n  acts_in: Actoins,\n  learner: (regulariser: Entropy(), policy: Scratch(width: 8, hidden: \
         1), discount: 2),\n)\n",
    );
    place.write(
        "configs/mine.ron",
        "(\n  extends: \"base\",\n  learner: (discuont: 0.9, batch: many, critic: (width: 0)),\n  training: (steps: -1, \
         warmup: 5 5, updates_per_tick: 0),\n  environments: 0,\n  sceen: \"maze\",\n)\n",
    );
    let ran = place.run("experiments check mine learner.tau=1 evaluation.final_episodes=0");
    assert_eq!(ran.status.code(), Some(1), "{}{}", ran.stdout, ran.stderr);
    let found = errors(&ran.stdout);
    let expected = [
        "configs/mine.ron:3:13: unknown field `discuont` in `learner`; did you mean `discount`?",
        "configs/mine.ron:3:35: `batch`: expected a whole number, zero or more, found the name `many`",
        "configs/mine.ron:3:57: learner.critic.width must be at least 1",
        "configs/mine.ron:4:21: `steps`: expected a whole number that is not negative, found the number -1",
        "configs/mine.ron:4:35: expected `,` or `)`, found `5`",
        "configs/mine.ron:4:56: training.updates_per_tick: expected at least 1, found 0",
        "configs/mine.ron:5:17: environments: expected at least one environment and one seed, found 0",
        "configs/mine.ron:6:3: unknown field `sceen` in `Experiment`; did you mean `scene`?",
        "configs/base.ron:3:12: unknown variant `Actoins` of `ActionSpace`; did you mean `Actions`?",
        "configs/base.ron:4:85: learner.discount must be between 0 and 1",
        "override `learner.tau=1`: unknown field `tau` in `learner`",
        "override `evaluation.final_episodes=0`: evaluation.final_episodes: expected 1 to 100000, found 0",
    ];
    assert_eq!(found.len(), expected.len(), "{}", ran.stdout);
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "expected {expected}, found {found}");
    }
    assert!(
        ran.stderr.contains("error: 12 errors in 1 of 1 experiment"),
        "{}",
        ran.stderr
    );
    // The place itself is shown as well.
    assert!(ran.stdout.contains("3 |   learner: (discuont: 0.9"), "{}", ran.stdout);
}

#[test]
fn overrides_may_give_the_end_of_a_path_to_be_told_the_whole() {
    let place = Place::new();
    for (given, meant) in [
        ("steps=100", "did you mean `training.steps=100`?"),
        (
            "batch=8",
            "did you mean one of `learner.batch=8`, `pretraining.batch=8`?",
        ),
        ("learner.steps=100", "did you mean `training.steps=100`?"),
    ] {
        place.fails(&format!("train kitchen/spirl_cl {given}"), &[given, meant]);
        let ran = place.run(&format!("experiments check kitchen/spirl_cl {given}"));
        assert!(ran.stdout.contains(meant), "{}{}", ran.stdout, ran.stderr);
    }
    // One seed is a list of one; in a file it says so.
    assert!(place.succeeds("train maze/sac seeds=7 --dry-run").contains("seeds [7]"));
    place.write("mine.ron", "(extends: \"maze/sac\", seeds: 0)");
    place.fails(
        "train mine.ron",
        &["mine.ron:1:30: `seeds`: expected a list, as in `[0]`, found the number 0"],
    );
}

#[test]
fn what_does_not_go_together_is_said() {
    let place = Place::new();
    let check = |arguments: &str| {
        let ran = place.run(&format!("experiments check {arguments}"));
        assert!(
            ran.stderr.lines().all(|line| line.starts_with("error: ")),
            "{}",
            ran.stderr
        );
        (ran.status.success(), ran.stdout)
    };
    let data = format!("{}/tests/data", env!("CARGO_MANIFEST_DIR"));
    place.write("text.hdf5", "no data");
    for (arguments, expected) in [
        (
            "maze/sac learner.policy=Prior",
            &["a policy that starts from the prior needs a prior"][..],
        ),
        (
            "maze/sac acts_in=Skills scene=mase",
            &["no scene `mase`; did you mean `maze`?"],
        ),
        (
            "maze/sac acts_in=Skills learner.regulariser=PriorDivergence()",
            &[
                "acts_in: this experiment acts in skills",
                "learner.regulariser: divergence from the prior needs a prior",
            ],
        ),
        (
            "kitchen/spirl_cl skill_model.latent=0 skill_model.learning_rate=-1 pretraining.batch=1 dataset.collect=None",
            &[
                "skill_model.latent: `latent` must be at least 1",
                "skill_model.learning_rate: `learning_rate` must be finite and above 0",
                "pretraining.batch: expected at least 2",
                "does not say how to collect it (dataset.collect)",
            ],
        ),
        (
            "kitchen/spirl_cl skill_model.prior=Flow",
            &["only a Gaussian prior can be used as a policy"],
        ),
        (
            "kitchen/spirl_cl quick=[\"training.stesp=3\",\"environments=0\"]",
            &[
                "unknown field `stesp`",
                "in the short form, environments: expected at least one environment",
            ],
        ),
        (
            "maze/sac training.replay_capacity=10 learner.batch=64",
            &["training.replay_capacity: expected at least a batch (learner.batch, 64), found 10"],
        ),
        (
            "maze/sac training.checkpoint_every=0 evaluation.episodes=0",
            &[
                "training.checkpoint_every: expected at least 1",
                "evaluation.episodes: expected 1 to 100000",
            ],
        ),
        (
            "kitchen/spirl_cl learner.batch=99999999999 pretraining.batch=99999999999",
            &[
                "learner.batch must be at most 1048576",
                "pretraining.batch: expected at most 1048576",
            ],
        ),
        (
            "maze/sac learner.discount=0.9,1.5",
            &["override `learner.discount=1.5`: learner.discount must be between 0 and 1"],
        ),
        (
            &format!("kitchen/spirl_cl dataset.path={data}/timeouts_only.hdf5"),
            &["timeouts_only.hdf5: the demonstrations have"],
        ),
        ("kitchen/spirl_cl dataset.path=text.hdf5", &["text.hdf5: "]),
        (
            "kitchen/spirl_cl learner.squash=Clip(4)",
            &["`squash`: expected `Clip(range: ...)`"],
        ),
        (
            "kitchen/spirl_cl learner=5",
            &["`learner`: expected fields, written `(regulariser: ..., ...)`, found the number 5"],
        ),
        (
            "kitchen/spirl_cl seeds=a",
            &["`seeds`: expected a whole number, zero or more, found the name `a`"],
        ),
        (
            "kitchen/spirl_cl quick=[\"environments=0\"]",
            &["in the short form, environments: expected at least one environment"],
        ),
        (
            "kitchen/spirl_cl dataset.collect.scene=maze_pixles",
            &["no scene `maze_pixles`; did you mean `maze_pixels`?"],
        ),
    ] {
        let (fine, said) = check(arguments);
        assert!(!fine, "{arguments}: {said}");
        for part in expected {
            assert!(said.contains(part), "{arguments}: no `{part}` in {said}");
        }
        assert_eq!(errors(&said).len(), expected.len(), "{arguments}: {said}");
    }
    let (fine, said) = check(
        "maze/sac learner.discount=0.9,0.8 training.replay_capacity=100000000000000 \
                              training.steps=100000000000000",
    );
    assert!(
        fine && said.contains("the replay buffers of all seeds come to") && said.lines().count() == 2,
        "{said}"
    );
    let (fine, said) = check("kitchen/spirl_cl maze/sac");
    assert!(fine && said.ends_with("2 experiments are fine\n"), "{said}");
    // All that come with the program are.
    let (fine, all) = check("");
    assert!(
        fine && errors(&all).is_empty() && all.ends_with(" experiments are fine\n"),
        "{all}"
    );
    assert!(
        said.contains("note: kitchen/spirl_cl: data/kitchen.hdf5: not there yet; 600 demonstrations are collected"),
        "{said}"
    );
}

#[test]
fn shown_experiments_say_where_values_come_from_and_load_again() {
    let place = Place::new();
    let mine = "(\n  extends: \"kitchen/spirl_cl\",\n  description: \"mine\",\n  learner: (batch: 32),\n)\n";
    place.write("configs/mine.ron", mine);
    let shown = place.succeeds("experiments show mine learner.discount=0.9 seeds=[1,2]");
    let line = |name: &str| {
        let mut lines = shown.lines().map(str::trim_start);
        lines
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("no {name} in {shown}"))
    };
    for (name, note) in [
        ("description:", ""),
        ("batch: 64", "configs/kitchen/spirl_cl.ron:12"),
        ("batch: 32", ""),
        ("discount:", "override"),
        ("seeds:", "override"),
        ("target_rate:", "default"),
        ("latent:", "default"),
        ("decoder:", "configs/kitchen/spirl_cl.ron:10"),
        ("scene:", "configs/kitchen/spirl_cl.ron:4"),
    ] {
        let found = line(name).split_once("// ").map_or("", |(_, note)| note);
        assert!(
            found.ends_with(note) && found.is_empty() == note.is_empty(),
            "{name}: {found}"
        );
    }
    for part in [
        "// policy: chooses 10 numbers, a skill of 10 control steps (0.800 s)",
        "// each of 2 seeds: 100000 steps in 12500 ticks, about 10300 transitions",
    ] {
        assert!(shown.contains(part), "no `{part}` in {shown}");
    }
    // It is the same experiment, on its own.
    place.write("shown.ron", &shown);
    let load = |name: &Path, overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        Experiment::load(&name.display().to_string(), &overrides).unwrap().value
    };
    let original = load(
        &place.path("configs/mine.ron"),
        &["learner.discount=0.9", "seeds=[1,2]"],
    );
    assert_eq!(load(&place.path("shown.ron"), &[]), original);

    let listed = place.succeeds("experiments list");
    let sac = listed.lines().find(|line| line.starts_with("kitchen/sac ")).unwrap();
    assert!(
        sac.contains("no model, SAC") && sac.ends_with("neither skills nor prior"),
        "{sac}"
    );
    assert!(listed.lines().any(|line| line.starts_with("mine ")), "{listed}");
}

#[test]
fn a_variant_of_a_sweep_does_what_it_does_alone() {
    let place = Place::new();
    let sweep = "train maze/sac learner.discount=0.9,0.99 seeds=0..2";
    let planned = place.succeeds(&format!("{sweep} {TINY} --out sweep --dry-run"));
    assert!(
        planned.starts_with("2 variants of maze/sac in sweep, in one world\n"),
        "{planned}"
    );
    assert!(
        planned.contains("  discount=0.99: 2 seeds, learner.discount=0.99 seeds=[0,1] "),
        "{planned}"
    );
    assert!(!place.path("sweep").exists());

    place.succeeds(&format!("{sweep} {TINY} --out sweep"));
    let index = SweepIndex::open(&place.path("sweep")).unwrap().unwrap();
    let variants: Vec<&str> = index.variants.iter().map(|variant| variant.name.as_str()).collect();
    assert_eq!(
        (index.experiment.as_str(), variants),
        ("maze/sac", vec!["discount=0.9", "discount=0.99"])
    );
    for discount in ["0.9", "0.99"] {
        let alone = format!("alone_{discount}");
        place.succeeds(&format!(
            "train maze/sac learner.discount={discount} seeds=[0,1] {TINY} --out {alone}"
        ));
        for seed in ["seed_0", "seed_1"] {
            let variant = place.path("sweep").join(format!("discount={discount}"));
            assert_same_practice(&variant.join(seed), &place.path(&alone).join(seed));
        }
        let settings = |run: &str| place.read(&format!("{run}/experiment.ron"));
        assert_eq!(settings(&format!("sweep/discount={discount}")), settings(&alone));
    }
    assert_ne!(
        metrics(&place.path("sweep/discount=0.9/seed_0")),
        metrics(&place.path("sweep/discount=0.99/seed_0"))
    );

    // One after another it is the same, and so it is in two parts.
    place.succeeds(&format!("{sweep} {TINY} --out single --at-once 1"));
    place.succeeds(&format!("{sweep} {TINY} training.steps=30 --out parts"));
    std::fs::remove_dir_all(place.path("parts/discount=0.99")).unwrap();
    place.succeeds("train maze/sac learner.discount=0.9,0.99 training.steps=60 --resume --out parts");
    for run in ["discount=0.9/seed_0", "discount=0.99/seed_1"] {
        let last = |sweep: &str| place.path(sweep).join(run).join("checkpoints/step_000000060");
        assert_same_practice(&place.path("sweep").join(run), &place.path("single").join(run));
        let bytes = |sweep: &str| std::fs::read(last(sweep).join("learner.safetensors")).unwrap();
        assert!(bytes("sweep") == bytes("parts"), "{run}");
    }
    place.fails(
        "train maze/sac learner.discount=0.9,0.5 --resume --out sweep",
        &["lists several values", "begin a new sweep"],
    );
    place.fails(
        &format!("train maze/sac learner.discount=0.9,0.5 {TINY} --out sweep"),
        &["sweep: holds a sweep already", "--resume"],
    );

    // Plots and evaluations take the whole sweep.
    place.succeeds("plot sweep --tag learner/temperature --out learning.svg");
    let picture = place.read("learning.svg");
    assert!(
        picture.contains("\ndiscount=0.9 (") && picture.contains("\ndiscount=0.99 ("),
        "{picture}"
    );
    place.succeeds("plot sweep/discount=0.9 --tag learner/temperature");
    let said = place.succeeds("evaluate sweep --episodes 1 --sampled-only");
    assert!(
        said.contains("discount=0.9\n") && said.contains("discount=0.99\n"),
        "{said}"
    );
    assert!(place.path("sweep/discount=0.99/evaluation.json").is_file());
}

#[test]
fn sweeps_that_mean_nothing_or_too_much_are_refused() {
    let place = Place::new();
    for (overrides, parts) in [
        ("learner.discount=0.9,0.9", &["lists the value `0.9` twice"][..]),
        ("learner.discount=0.9,,0.8", &["an empty value between two commas"]),
        (
            "learner.discount=0.1..0.5",
            &["a range goes from one whole number to another"],
        ),
        ("learner.batch=5..5", &["the range `5..5` is empty"]),
        (
            "learner.batch=1..101 training.warmup=0..11",
            &["1100 variants (100 x 11)", "at most 1000"],
        ),
        ("seeds=[0],1", &["mixes seeds and lists of seeds"]),
        ("quick=a,b", &["`quick` is a list; write `quick=[a,b]`"]),
        (
            "learner.discount=0.9,2",
            &["variant discount=2: learner.discount must be between 0 and 1"],
        ),
        (
            "learner.discount=0.9,x",
            &["override `learner.discount=x`", "expected a number"],
        ),
    ] {
        place.fails(&format!("train maze/sac {overrides} --out out"), parts);
    }
    assert!(!place.path("out").exists(), "{:?}", names(&place.path("out")));
}

#[test]
fn a_variant_that_fails_does_not_take_the_others_with_it() {
    let place = Place::new();
    let sweep = format!("train maze/sac {TINY} learner.skip_limit=0 learner.critic_lr=1e-3,1e37,2e-3 --out sweep");
    let said = place.fails(
        &sweep,
        &["1 of 3 variants failed", "critic_lr=1e37: learner with seed 0"],
    );
    assert!(said.contains("one at a time"), "{said}");
    for (variant, finished) in [
        ("critic_lr=1e-3", true),
        ("critic_lr=1e37", false),
        ("critic_lr=2e-3", true),
    ] {
        let last = format!("sweep/{variant}/seed_0/checkpoints/step_000000060/manifest.json");
        assert_eq!(place.path(&last).is_file(), finished, "{variant}");
    }
    place.succeeds(&format!(
        "train maze/sac {TINY} learner.skip_limit=0 learner.critic_lr=2e-3 --out alone"
    ));
    let last = |run: &str| {
        place
            .path(run)
            .join("seed_0/checkpoints/step_000000060/learner.safetensors")
    };
    let bytes = |run: &str| std::fs::read(last(run)).unwrap();
    assert!(bytes("sweep/critic_lr=2e-3") == bytes("alone"));
}

#[test]
fn variants_learn_on_one_skill_model() {
    let place = Place::new();
    // Numbers in place of pictures, which would take long.
    let settings = format!(
        "maze/flat_prior scene=maze dataset.path=maze.hdf5 dataset.collect.episodes=3 dataset.collect.scene=maze_data \
         skill_model.width=8 skill_model.hidden_layers=1 pretraining.updates=3 pretraining.batch=4 \
         {TINY} learner.policy=Prior"
    );
    let sweep = format!("learn {settings} learner.discount=0.9,0.99 training.report_every=10 --out sweep");
    let said = place.succeeds(&sweep);
    assert!(
        said.contains("\ndiscount=0.99\n") && said.contains("results in sweep"),
        "{said}"
    );
    assert_eq!(
        said.matches("prior roll-outs").count(),
        2,
        "one table, one time: {said}"
    );
    let [leader, follower] = ["0.9", "0.99"].map(|discount| place.path(&format!("sweep/discount={discount}")));
    assert!(!leader.join("skills/copied_from.txt").exists() && follower.join("skills/copied_from.txt").is_file());
    for file in ["evaluation.json", "seed_0/metrics.csv"] {
        assert!(leader.join(file).is_file() && follower.join(file).is_file());
    }
    // The same command finds everything done.
    let before = program::files(&follower.join("seed_0"));
    place.succeeds(&sweep);
    assert!(before == program::files(&follower.join("seed_0")));
    place.fails(
        &sweep.replace("0.99", "0.98"),
        &["sweep: holds another sweep, or one with other overrides"],
    );
    place.succeeds(&format!(
        "learn {settings} learner.discount=0.99 training.report_every=10 --out alone"
    ));
    assert_same_practice(&follower.join("seed_0"), &place.path("alone/seed_0"));

    // Models of their own for variants of the model.
    let pretrain = format!("pretrain {settings}");
    place.fails(
        &format!("{pretrain} learner.discount=0.9,0.99 --out models"),
        &["`discount=0.9` and `discount=0.99` train the same skill model"],
    );
    place.succeeds(&format!("{pretrain} pretraining.seed=0..2 --out models"));
    let weights = |seed: u64| {
        let folder = format!("models/seed={seed}/skills/checkpoints/step_000000003/weights.safetensors");
        std::fs::read(place.path(&folder)).unwrap()
    };
    assert!(weights(0) != weights(1));
    let alone = place.path("alone/skills/checkpoints/step_000000003/weights.safetensors");
    assert!(weights(0) == std::fs::read(alone).unwrap());
}
