//! Bad input gives one clear message and changes nothing.

use std::fs;

use super::program::{Place, copy, demonstrations, files, names, skills, tiny};

/// Names of what is in the folder, without the logs of the runs.
fn left_in(place: &Place) -> Vec<String> {
    names(&place.path(""))
        .into_iter()
        .filter(|name| !name.starts_with(".logs"))
        .collect()
}

#[test]
fn wrong_settings_are_named() {
    let place = Place::new();
    let train = "train kitchen/spirl_cl --out out";
    for (arguments, parts) in [
        (
            "train kitchen/spirl_lc --out out",
            &["no experiment `kitchen/spirl_lc`", "did you mean `kitchen/spirl_cl`"][..],
        ),
        ("train spirl_cl --out out", &["did you mean `maze/spirl_cl`?"]),
        ("learn kitchen/sca --out out", &["did you mean `kitchen/sac`?"]),
        (
            &format!("{train} learner.discout=0.9"),
            &["`learner.discout=0.9`", "unknown field `discout`", "`discount`"],
        ),
        (
            &format!("{train} training.steps=many"),
            &["`steps`: expected a whole number, zero or more, found the name `many`"],
        ),
        (&format!("{train} training.steps"), &["path.to.field=value"]),
        (
            &format!("{train} skill_model=Spril"),
            &["Spril", "did you mean `Spirl`"],
        ),
        (
            &format!("{train} scene=kitchn"),
            &["no scene `kitchn`", "did you mean `kitchen`"],
        ),
        (
            "train kitchen/sac learner.discount=2 --out out",
            &["discount must be between 0 and 1"],
        ),
        (
            "train kitchen/sac seeds=[] --out out",
            &["at least one environment and one seed"],
        ),
        (
            "train kitchen/sac seeds=[1,2,1] --out out",
            &["seeds: expected different ones, found 1 twice"],
        ),
        (
            "train kitchen/sac environments=0 --out out",
            &["at least one environment and one seed"],
        ),
        (
            "train kitchen/sac training.transitions=Original --out out",
            &[
                "training.transitions: Original is a rule for skills",
                "expected Aligned",
            ],
        ),
        (
            "pretrain kitchen/flat_prior pretraining.batch=1 --out out",
            &["pretraining.batch: expected at least 2", "found 1"],
        ),
        (
            "learn kitchen/spirl_cl pretraining.batch=64 skill_model.prior_members=40 --out out",
            &["pretraining.batch: 64 sequences", "each of 40 priors", "80 can"],
        ),
        (
            "train kitchen/sac acts_in=Skills --out out",
            &["acts_in: Skills", "skill_model: Spirl"],
        ),
        (
            "train kitchen/sac --threads 0 --out out",
            &["--threads: expected 1 to 1024, found 0"],
        ),
        (
            "bench --threads 18446744073709551615",
            &["--threads: expected 1 to 1024"],
        ),
        (
            "train kitchen/sac evaluation.final_episodes=18446744073709551615 --out out",
            &["evaluation.final_episodes: expected 1 to 100000"],
        ),
        // What looks like a comment is part of a name.
        (
            "train kitchen/sac scene=kitchen//all --out out",
            &["no scene `kitchen//all`"],
        ),
        (
            "train kitchen/sac seeds=[0]//1 --out out",
            &["expected one value without comments, found more than `[0]`"],
        ),
        (
            "pretrain kitchen/sac --out out",
            &["no skill model to train", "`apprentice train`"],
        ),
        (
            "collect kitchen --episodes 0 --out out/x.hdf5",
            &["at least one demonstration"],
        ),
        (
            "train kitchen/spirl_cl --out out",
            &[
                "no skill model below runs/",
                "apprentice pretrain kitchen/spirl_cl",
                "--skills",
            ],
        ),
        ("rollout kitchen/sac", &["no prior to roll out"]),
        (
            "learn kitchen/sac --resume",
            &["--resume: not needed here", "when the same command is given again"],
        ),
        (
            "train kitchen/sac learner.batch=99999999999 --out out",
            &["learner.batch must be at most 1048576"],
        ),
        (
            "learn kitchen/spirl_cl learner.batch=0 --out out",
            &["batch must be at least 1"],
        ),
    ] {
        place.fails(arguments, parts);
    }
    assert_eq!(left_in(&place), [""; 0]);
}

#[test]
fn wrong_files_are_named() {
    let place = Place::new();
    let data = format!("{}/tests/data", env!("CARGO_MANIFEST_DIR"));
    let whole = fs::read(demonstrations()).unwrap();
    fs::write(place.path("cut.hdf5"), &whole[..whole.len() / 2]).unwrap();
    place.write("text.hdf5", "no data");
    place.write("file", "a file where a folder should be");
    place.write(
        "scenes/misspelt.ron",
        "(extends: \"kitchen\", reset: (positions: {\"microvave\": [0.0]}))",
    );
    place.write("scenes/broken.ron", "(extends: \"kitchen\", task: (");
    place.write("mine/version.txt", "mine");
    let before = left_in(&place);
    let pretrain = format!("pretrain kitchen/spirl_cl {} --out out", tiny());
    for (arguments, parts) in [
        (
            format!("{pretrain} dataset.path={data}/bad_nan.hdf5"),
            &["bad_nan.hdf5", "`observations`", "NaN at row 9"][..],
        ),
        (
            format!("{pretrain} dataset.path={data}/bad_rows.hdf5"),
            &["`actions`", "expected 33 rows", "32"],
        ),
        (
            format!("{pretrain} dataset.path={data}/bad_missing.hdf5"),
            &["`observations`", "nearest name"],
        ),
        (
            format!("{pretrain} dataset.path={data}/timeouts_only.hdf5"),
            &["timeouts_only.hdf5", "scene `kitchen` has 60 and 9"],
        ),
        (
            format!("{pretrain} dataset.path=cut.hdf5"),
            &["cut.hdf5: the file is truncated", "bytes expected"],
        ),
        (format!("{pretrain} dataset.path=text.hdf5"), &["text.hdf5"]),
        (
            format!("{pretrain} dataset.path=none.hdf5 dataset.collect=None"),
            &["none.hdf5: no such file", "dataset.collect"],
        ),
        ("inspect none.hdf5".into(), &["none.hdf5: there is no such file"]),
        ("inspect cut.hdf5".into(), &["truncated"]),
        ("inspect scenes".into(), &["scenes"]),
        ("collect kitchen --episodes 1 --out file/x.hdf5".into(), &["file"]),
        (
            "collect kitchen --episodes 1 --out scenes --force".into(),
            &["scenes: cannot be written: this is a folder"],
        ),
        (
            "train kitchen/sac --out file".into(),
            &["file: cannot make the folder: there is a file of this name"],
        ),
        (
            "train kitchen/sac --out file/deeper".into(),
            &["file/deeper: cannot make the folder"],
        ),
        ("learn kitchen/sac --out file".into(), &["file: cannot make the folder"]),
        (
            "train kitchen/sac --out mine".into(),
            &["mine: expected a new or an empty folder, found `version.txt`", "--out"],
        ),
        (
            "learn kitchen/sac --out mine".into(),
            &["mine: expected a new or an empty folder"],
        ),
        (
            "train kitchen/sac scene=misspelt --out out".into(),
            &["microvave", "microwave"],
        ),
        ("train kitchen/sac scene=broken --out out".into(), &["broken.ron:1:"]),
        ("train kitchen/sac --resume --out out".into(), &["out is no run folder"]),
        ("evaluate out".into(), &["out is no run folder"]),
        ("plot run --out p.png".into(), &["p.png: pictures are SVG", ".svg"]),
        ("plot file --out p.svg".into(), &["file is no run folder"]),
        (
            "plot a=one a=two --out p.svg".into(),
            &["two runs are called `a`", "LABEL=FOLDER"],
        ),
        ("import none.pth --out out".into(), &["none.pth"]),
        (
            "import text.hdf5 --out out".into(),
            &["neither a PyTorch checkpoint nor a safetensors file"],
        ),
    ] {
        place.fails(&arguments, parts);
    }
    assert_eq!(left_in(&place), before);
    assert_eq!(place.read("mine/version.txt"), "mine");
}

#[test]
fn wrong_arguments_lead_to_the_right_ones() {
    let place = Place::new();
    for (arguments, said) in [
        (
            "train kitchen/sac --learner.discount=0.9",
            "error: --learner.discount=0.9: overrides are written without dashes: `learner.discount=0.9`",
        ),
        ("list --threads x", "expected a whole number from 1 to 1024"),
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(said), "{arguments}: {}", ran.stderr);
    }
    // Demonstrations are not collected under a misspelt name without a word.
    place.write("kitchen_mixed.hdf5", "");
    for command in ["learn", "pretrain"] {
        let said = place.succeeds(&format!(
            "{command} kitchen/spirl_cl dataset.path=kitchen_mixd.hdf5 --dry-run"
        ));
        let note = "kitchen_mixd.hdf5: not there yet; 600 demonstrations are collected into it; did you mean \
                    kitchen_mixed.hdf5, which is there?";
        assert!(said.lines().any(|line| line == note), "{said}");
    }
}

#[test]
fn runs_are_found_by_what_is_nearly_their_path() {
    let place = Place::new();
    place.write(
        "configs/mine.ron",
        "(extends: \"maze/sac\", learner: (standardise: None, policy: Scratch(width: 8, hidden: 0), critic: (width: 8, hidden: 0), batch: 8), \
         training: (steps: 20, warmup: 4), environments: 1, evaluation: (final_episodes: 1))",
    );
    let whole = place.path("configs/mine.ron").display().to_string();
    place.succeeds("train mine --out runs/p");
    // The same file, spelt otherwise.
    place.succeeds(&format!("train {whole} training.steps=30 --resume --out runs/p"));
    place.fails(
        "evaluate runs/p/seed_0/checkpoints/step_000000030",
        &["`apprentice evaluate runs/p --checkpoint 30` lets it act"],
    );
    place.fails("evaluate runs", &["runs is no run folder", "(runs in it: runs/p)"]);
    place.write(
        "clock.ron",
        "(extends: \"maze\", observation: (terms: [Position(joints: [\"x\", \"y\"])]))",
    );
    place.fails(
        "evaluate runs/p scene=clock.ron",
        &["the learner is for 4 observed numbers; scene `clock.ron` has 2"],
    );
    place.succeeds("evaluate runs/p --episodes 2 --sampled-only");
    let said = place.succeeds("evaluate runs/p --episodes 1 --sampled-only");
    assert!(said.contains("in the place of an evaluation of 2 episodes"), "{said}");
}

#[test]
fn models_that_do_not_fit_are_refused() {
    let place = Place::new();
    let train = |skills: &str| {
        format!(
            "train kitchen/spirl_cl {} training.steps=60 --skills {skills} --out out",
            tiny()
        )
    };
    place.fails(&train("nowhere"), &["nowhere: no skill model here"]);
    assert!(!place.path("out").exists());

    // Sizes of another scene, weights of another model, and no weights at all.
    let altered = |name: &str, from: &str, to: &str| {
        copy(&skills().join("skills"), &place.path(name));
        let model = place.read(&format!("{name}/model.ron"));
        assert!(model.contains(from), "{model}");
        place.write(&format!("{name}/model.ron"), &model.replace(from, to));
    };
    altered("other_scene", "observation: 60", "observation: 30");
    place.fails(
        &train("other_scene"),
        &[
            "other_scene: the skill model is for 30 observed numbers and 9 action numbers",
            "has 60 observed numbers and 9 action numbers",
        ],
    );
    altered("other_sizes", "width: 16", "width: 24");
    place.fails(&train("other_sizes"), &["[16", "[24"]);
    altered("untrained", "latent: 4", "latent: 4");
    fs::remove_dir_all(place.path("untrained/checkpoints")).unwrap();
    place.fails(
        &train("untrained"),
        &["untrained: this skill model has no checkpoint yet"],
    );
    altered("misspelt", "latent: 4", "latnet: 4");
    place.fails(&train("misspelt"), &["model.ron", "unknown field `latnet`", "`latent`"]);
    assert!(!place.path("out").exists());

    // A learner of other sizes: neither its experiment nor its checkpoints change.
    place.succeeds(&train(&skills().display().to_string()));
    let before = files(&place.path("out"));
    place.fails(
        "train kitchen/spirl_cl learner.critic.width=24 training.steps=80 --resume --out out",
        &["critics.0.", "16", "24"],
    );
    place.fails(
        "pretrain kitchen/spirl_cl skill_model.latent=6 --resume --out other_scene",
        &["is no run folder"],
    );
    assert!(before == files(&place.path("out")), "{:?}", names(&place.path("out")));

    // A damaged model is not replaced by an older one that learners do not know.
    let pretrain = |updates: u64, more: &str| {
        let tiny = tiny();
        place.succeeds(&format!(
            "pretrain kitchen/spirl_cl {tiny} pretraining.updates={updates} {more} --out own"
        ));
    };
    pretrain(10, "");
    pretrain(20, "--resume");
    let weights = "own/skills/checkpoints/step_000000020/weights.safetensors";
    let whole = fs::read(place.path(weights)).unwrap();
    let cut = || fs::write(place.path(weights), &whole[..whole.len() / 2]).unwrap();
    let train = "train kitchen/spirl_cl training.steps=60 --resume --out own";
    cut();
    let ran = place.run(&format!("rollout {} --episodes 1", place.path("own").display()));
    assert!(
        ran.status.success() && ran.stderr.contains("going back to step 10"),
        "{}",
        ran.stderr
    );
    fs::write(place.path(weights), &whole).unwrap();
    place.succeeds(train);
    cut();
    for command in [
        "evaluate own",
        "train kitchen/spirl_cl training.steps=80 --resume --out own",
    ] {
        place.fails(
            command,
            &[
                "the skill model of this run is damaged, and its learners need it",
                "restore that file",
            ],
        );
    }
}

#[test]
fn neither_odd_paths_nor_deaf_terminals_stop_a_run() {
    let place = Place::new();
    // A path that is no valid Unicode, then a warning (that the run has more steps already) which nobody can read.
    let script = "\"$0\" train kitchen/sac training.steps=4 training.warmup=8 environments=1 --out $'x\\xff' && \
                  \"$0\" train kitchen/sac training.steps=1 --resume --out $'x\\xff' 2> /dev/full";
    let output = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_apprentice")])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_run_belongs_to_one_process_and_one_experiment() {
    let place = Place::new();
    let train = "train kitchen/sac training.steps=1000000 environments=1 --out run";
    let ran = place.start(train).interrupt_when(|log| {
        let begun = log.contains("seed 0: ");
        if begun {
            for command in ["train kitchen/sac --resume --out run", "learn kitchen/sac --out run"] {
                place.fails(command, &["run is in use: another process works in this run"]);
            }
            place.fails(train, &["run holds a run already"]);
        }
        begun
    });
    assert_eq!(ran.status.code(), Some(130), "{}", ran.stderr);

    let learn = "learn kitchen/sac environments=1 --out run";
    let differs = "training.steps: 1000000 in the file, 100000 in the experiment";
    place.fails(learn, &["another experiment or with other overrides", differs, "--out"]);
    // An earlier version may have had fewer settings and other words: the run is still the same.
    let older = place
        .read("run/experiment.ron")
        .replace("description: \"", "description: \"Earlier: ")
        .replace("keep_checkpoints: 2,", "")
        .replace("steps: 1000000,", "steps: 100000,");
    assert!(
        older.contains("Earlier: ") && !older.contains("keep_checkpoints"),
        "{older}"
    );
    place.write("run/experiment.ron", &older);
    let ran = place.start(learn).interrupt_when(|log| log.contains("seed 0: "));
    assert_eq!(ran.status.code(), Some(130), "{}", ran.stderr);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let script = "\"$0\" list | true; exit ${PIPESTATUS[0]}";
    let output = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_apprentice")])
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let script = "exec \"$0\" list > /dev/full";
    let output = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_apprentice")])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: standard output: "), "{message}");
}
