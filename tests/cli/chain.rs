//! The chain of commands from demonstrations to the finished agent, and what it leaves behind.

use apprentice::data::{Dataset, Description, EpisodeWriter};
use apprentice::metrics::{read_scalars, series};

use super::program::{Place, assert_same, copy, demonstrations, files, names, skills, tiny};

/// Two environments and episodes of 280 steps: at 800 steps both have finished one, and so has the evaluation that
/// began at 200.
const PRACTICE: &str = "training.steps=800 training.checkpoint_every=300 training.report_every=100 \
                        evaluation.every=200 evaluation.episodes=1 evaluation.final_episodes=2";

#[test]
fn learning_leaves_a_complete_run_folder_and_does_nothing_twice() {
    let place = Place::new();
    let command = format!("learn kitchen/spirl_cl {} {PRACTICE} --out run", tiny());
    let out = place.succeeds(&command);
    assert!(
        out.contains("sampled skills") && out.contains("seed 0, most likely") && out.contains("in all"),
        "{out}"
    );

    let run = place.path("run");
    let found = names(&run);
    for name in [
        "experiment.ron",
        "version.txt",
        "prior.json",
        "evaluation.json",
        "learning.svg",
        "skills/model.ron",
        "skills/metrics.csv",
        "skills/latent.svg",
        "skills/checkpoints/step_000000200/weights.safetensors",
        "seed_0/metrics.csv",
        "seed_0/checkpoints/step_000000600/manifest.json",
        "seed_0/checkpoints/step_000000800/learner.safetensors",
        "seed_0/checkpoints/step_000000800/replay.safetensors",
        "seed_0/checkpoints/step_000000800/state.ron",
    ] {
        assert!(found.contains(&name.to_owned()), "no {name} in {found:#?}");
    }
    for folder in ["seed_0", "skills"] {
        let events = format!("{folder}/events.out.tfevents.");
        assert_eq!(
            found.iter().filter(|name| name.starts_with(&events)).count(),
            1,
            "{found:#?}"
        );
    }
    let last = found
        .iter()
        .filter(|name| name.starts_with("seed_0/checkpoints/step_000000800"));
    assert_eq!(last.count(), 6, "the last checkpoint is written once: {found:#?}");
    assert!(
        place.read("run/skills/latent.svg").contains("kettle"),
        "skills are labelled by elements"
    );
    assert!(place.read("run/version.txt").contains("apprentice ") && place.read("run/learning.svg").contains("<svg"));
    assert!(place.read("run/experiment.ron").contains("steps: 800"));
    let results: serde_json::Value = serde_json::from_str(&place.read("run/evaluation.json")).unwrap();
    assert_eq!(results[0]["practised"], 800);
    assert_eq!(results[0]["sampled"]["episodes"], 2);

    let rows = read_scalars(&run.join("seed_0")).unwrap();
    let curves = series(&rows);
    for tag in [
        "practice/completed",
        "practice/elements/kettle",
        "evaluation/completed",
        "evaluation/faults",
        "learner/policy_loss",
        "learner/temperature",
        "rate/steps_per_second",
    ] {
        assert!(curves.contains_key(tag), "no {tag} in {:?}", curves.keys());
    }
    assert_eq!(curves["learner/temperature"].last().unwrap().0, 800.0);

    // The same command again finds everything done.
    let before = files(&run);
    let again = place.run(&command);
    assert!(again.status.success(), "{}", again.stderr);
    assert!(again.stdout.contains("seed 0, most likely"), "{}", again.stdout);
    assert!(
        !again.stderr.contains("updates") && !again.stderr.contains("steps"),
        "{}",
        again.stderr
    );
    assert!(before == files(&run), "the second time changed something");

    // Demonstrations serve only what is not made yet: a picture that is missing is drawn if they are there.
    let picture = place.read("run/skills/latent.svg");
    std::fs::remove_file(place.path("run/skills/latent.svg")).unwrap();
    place.succeeds(&command);
    assert!(place.read("run/skills/latent.svg") == picture);
    assert!(before == files(&run), "the picture came with something else");
    let experiment = place.read("run/experiment.ron");
    place.write(
        "run/experiment.ron",
        &experiment.replace(&demonstrations().display().to_string(), "none.hdf5"),
    );
    place.succeeds(&format!("{command} dataset.path=none.hdf5"));
    assert!(!place.path("none.hdf5").exists());
    place.write("run/experiment.ron", &experiment);

    place.fails(
        &command.replace("training.steps=800", "training.steps=700"),
        &[
            "run: holds a run of another experiment or with other overrides",
            "--out",
        ],
    );
    assert!(before == files(&run), "a refused command changed something");
    place.fails(
        &command.replace("learn ", "train "),
        &["run holds a run already", "--resume"],
    );

    // The other commands on the same run.
    place.fails("evaluate run seeds=[]", &["at least one environment and one seed"]);
    place.fails(
        "evaluate run seeds=[0,0]",
        &["seeds: expected different ones, found 0 twice"],
    );
    assert!(before == files(&run), "a refused command changed something");
    let out = place.succeeds("evaluate run --episodes 1 --sampled-only scene=kitchen_mis_aligned");
    assert!(out.contains("slide cabinet") && !out.contains("most likely"), "{out}");
    assert!(
        place
            .read("run/evaluation_with_overrides.json")
            .contains("kitchen_mis_aligned")
    );
    assert!(!place.read("run/evaluation.json").contains("kitchen_mis_aligned"));
    place.succeeds("plot tiny=run --tag evaluation/completed --out curve.svg");
    assert!(place.read("curve.svg").contains("tiny"));
    place.fails(
        "plot run --tag practice/complete",
        &["no metric `practice/complete`", "practice/completed"],
    );
}

#[test]
fn demonstrations_made_otherwise_are_used_with_a_warning() {
    let place = Place::new();
    // The same demonstrations without a word on where they come from, as human data.
    let dataset = Dataset::read(demonstrations()).unwrap();
    let (observation, action) = (dataset.observation_dim(), dataset.action_dim());
    let mut writer =
        EpisodeWriter::create(place.path("mine.hdf5"), observation, action, &Description::default()).unwrap();
    for number in 0..dataset.sequences().len() {
        writer.append(&dataset.episode(number).unwrap()).unwrap();
    }
    writer.finish().unwrap();

    let pretrain = format!("pretrain kitchen/spirl_cl {} pretraining.updates=1", tiny());
    let warnings = |more: &str| {
        let ran = place.run(&format!("{pretrain} {more}"));
        assert!(ran.status.success(), "{}", ran.stderr);
        let lines = ran.stderr.lines().filter(|line| line.starts_with("warning: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let fitting = [
        "scene=kitchen_mis_aligned",
        "dataset.collect.environments=2",
        "dataset.path=mine.hdf5 dataset.collect.seed=5",
        "dataset.collect=None",
    ];
    for more in fitting {
        assert_eq!(warnings(more), [""; 0], "{more}");
    }
    place.write(
        "scenes/noisy.ron",
        "(extends: \"kitchen\", observation: (noise_scale: 2.0))",
    );
    let found = warnings("dataset.collect.seed=5 dataset.collect.episodes=600 scene=noisy");
    assert_eq!(found.len(), 1, "{found:?}");
    for part in [
        "four.hdf5: ",
        "dataset.collect.seed: 0 in the file, 5 in the experiment",
        "dataset.collect.episodes: 4 in the file, 600 in the experiment",
        "scene: kitchen in the file, noisy in the experiment",
        "dataset.path",
        "collect --force",
    ] {
        assert!(found[0].contains(part), "no `{part}` in {}", found[0]);
    }
}

#[test]
fn lists_inspects_and_explains_itself() {
    let place = Place::new();
    place.write("configs/mine.ron", "(extends: \"kitchen/sac\", environments: 3)");
    let out = place.succeeds("list");
    for name in [
        "kitchen_mis_aligned",
        "kitchen/spirl_cl",
        "kitchen/published/spirl",
        "mine",
    ] {
        assert!(
            out.lines().any(|line| line.trim_start().starts_with(name)),
            "no {name} in {out}"
        );
    }
    assert!(
        out.contains("neither skills nor prior"),
        "descriptions are shown: {out}"
    );
    let help = place.succeeds("--help");
    let commands = "learn collect inspect pretrain rollout train evaluate import plot bench list";
    for command in commands.split_whitespace() {
        assert!(help.contains(&format!("\n  {command} ")), "no {command} in {help}");
        assert!(
            place
                .succeeds(&format!("{command} --help"))
                .contains("Usage: apprentice")
        );
    }
    // It fails unless the physics of schedule and bare loop end in the same bits.
    let bench = place.succeeds("bench simulation --environments 1,3 --seconds 0.2 --json");
    let bench: serde_json::Value = serde_json::from_str(&bench).unwrap();
    let names: Vec<&str> = (0..8)
        .filter_map(|row| bench["results"][row]["name"].as_str())
        .collect();
    assert!(names.contains(&"simulation to bare mj_step, 3 kitchens"), "{names:?}");
    assert!(place.succeeds("--version").starts_with("apprentice "));
    assert_eq!(place.run("practise").status.code(), Some(2), "unknown command");

    let demonstrations = demonstrations().display();
    let out = place.succeeds(&format!("inspect {demonstrations}"));
    assert!(
        out.contains("4 episodes") && out.contains("microwave") && out.contains("Return"),
        "{out}"
    );
    let data = format!("inspect {}/tests/data/bad_nan.hdf5", env!("CARGO_MANIFEST_DIR"));
    assert!(place.run(&data).stdout.contains("NaN"), "what is odd is shown");
}

#[test]
fn a_run_keeps_the_skill_model_that_it_stands_on() {
    let place = Place::new();
    copy(skills(), &place.path("elsewhere"));
    place.succeeds(&format!(
        "train kitchen/spirl_cl {} training.steps=60 --skills elsewhere --out run",
        tiny()
    ));
    assert!(
        place
            .read("run/skills/copied_from.txt")
            .trim()
            .ends_with("elsewhere/skills")
    );
    let checkpoint = "skills/checkpoints/step_000000200";
    assert_same(
        &place.path("elsewhere").join(checkpoint),
        &place.path("run").join(checkpoint),
    );
    // The same model again, and the copy itself.
    for skills in ["elsewhere", "run", "./run/skills"] {
        place.succeeds(&format!(
            "train kitchen/spirl_cl training.steps=80 --resume --skills {skills} --out run"
        ));
    }

    std::fs::remove_dir_all(place.path("elsewhere")).unwrap();
    std::fs::rename(place.path("run"), place.path("sent")).unwrap();
    place.succeeds("evaluate sent --episodes 1 --sampled-only");
    place.succeeds("train kitchen/spirl_cl training.steps=100 --resume --out sent");
    assert!(place.read("sent/experiment.ron").contains("steps: 100"));

    place.fails(
        "train kitchen/no_prior --resume --out sent",
        &["sent is a run of the experiment `kitchen/spirl_cl`, not of `kitchen/no_prior`"],
    );

    // A skill model that a run has trained itself stays.
    copy(skills(), &place.path("own"));
    let own = files(&place.path("own/skills"));
    place.fails(
        "train kitchen/spirl_cl training.steps=60 --resume --skills sent --out own",
        &["own: this run has trained a skill model of its own", "--out"],
    );
    assert!(own == files(&place.path("own/skills")));
    let left = names(&place.path(""));
    assert!(!left.iter().any(|name| name.contains(".skills.")), "{left:?}");
}

#[test]
fn weights_come_back_by_their_original_names() {
    let place = Place::new();
    let weights = "checkpoints/step_000000200/weights.safetensors";
    let original = skills().join("skills").join(weights);
    let out = place.succeeds(&format!("import {} --out imported", original.display()));
    assert!(
        out.contains("60 observed numbers and 9 action numbers") && !out.contains("not used"),
        "{out}"
    );
    let stored = weights.replace("200", "000");
    assert!(std::fs::read(original).unwrap() == std::fs::read(place.path("imported").join(stored)).unwrap());
    let model = place.read("imported/model.ron");
    assert!(
        model.contains("latent: 4") && model.contains("lstm_width: 16"),
        "{model}"
    );

    let roll_out = |skills: &str| {
        place.succeeds(&format!(
            "rollout kitchen/spirl_cl {} --skills {skills} --episodes 1",
            tiny()
        ))
    };
    let out = roll_out("imported");
    assert!(
        out.contains("sampled skills") && out.contains("of 7 per episode (1 episodes)"),
        "{out}"
    );
    assert_eq!(out, roll_out(&skills().display().to_string()));
    place.fails(
        &format!("import {} --out imported", skills().join("experiment.ron").display()),
        &["neither a PyTorch checkpoint nor a safetensors file"],
    );
    place.fails(
        &format!(
            "import {} --out imported",
            skills().join("skills").join(weights).display()
        ),
        &["imported: holds a skill model already"],
    );
}
