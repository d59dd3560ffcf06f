//! Demonstrations into a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::latent::ELEMENT;
use super::{RunError, Settings, load_scene, read_scene};
use crate::app::Ended;
use crate::data::{Dataset, Description, LayoutWriter, PAINTED_FROM, ReadOptions, Written};
use crate::demos::{self, CollectConfig, CollectReport};
use crate::experiment::{DatasetConfig, Experiment, Problem, SkillModelConfig};
use crate::files;
use crate::metrics::{Figure, Progress};
use crate::scene::{CompiledScene, Scene, Task};

/// Attribute of a file with the overrides that were laid over the scene, as a RON list.
pub(super) const OVERRIDES: &str = "overrides";

/// What becomes of the demonstrations gathered before an interruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// They are written all the same, unless the file is there already: then that one stays, and the collection ends
    /// with [`RunError::Interrupted`].
    Keep,
    /// There is no file, and the collection ends with [`RunError::Interrupted`].
    Discard,
}

/// Collects demonstrations in the scene that `config` names and writes them to `path`, which appears when they are
/// complete. `overrides` are laid over the scene.
pub fn collect(
    config: &CollectConfig,
    overrides: &[String],
    path: &Path,
    unfinished: Unfinished,
    settings: &Settings,
) -> Result<(CollectReport, Written, Ended), RunError> {
    if config.episodes == 0 {
        return Err(RunError::Experiment(
            "expected at least one demonstration to collect, found 0".into(),
        ));
    }
    let Some(name) = config.scene.clone() else {
        return Err(RunError::Experiment(
            "dataset.collect.scene: no scene to collect in".into(),
        ));
    };
    // Whatever is wrong with it is told with its place in the file.
    let compiled = CompiledScene::load(&name, overrides)?;
    let described = compiled.scene().clone();
    let mut config = config.clone();
    config.demonstrator = Some(config.demonstrator(&described)?);
    let description = Description {
        scene: name,
        seed: config.seed,
        elements: compiled.elements().iter().map(|element| element.name.clone()).collect(),
        demonstrator: files::to_text(&config)?,
        more: BTreeMap::from([(OVERRIDES.to_owned(), files::to_text(&overrides)?)]),
    };
    let (observation, action) = (compiled.observation_len(), compiled.action_len());
    let writer = LayoutWriter::create(config.layout, path, observation, action, &description)?;
    let mut bars = Progress::default();
    let bar = bars.add("demonstrations", 0, config.episodes as u64, "episodes");
    config.threads = settings.threads;
    write_gathered(writer, path, unfinished, |writer| {
        let report = demos::collect(
            &config,
            &described,
            settings.stop.clone(),
            |demonstration| Ok(writer.append(&demonstration.episode)?),
            |state| {
                let figures = [Figure {
                    name: "rejected",
                    value: state.rejected as f64,
                }];
                bars.update(bar, state.episodes as u64, &figures);
            },
        )?;
        bars.finish();
        Ok(report)
    })
}

/// Lets `gather` append episodes to a file, and gives that its name.
pub(super) fn write_gathered(
    mut writer: LayoutWriter,
    path: &Path,
    unfinished: Unfinished,
    gather: impl FnOnce(&mut LayoutWriter) -> Result<CollectReport, RunError>,
) -> Result<(CollectReport, Written, Ended), RunError> {
    let report = gather(&mut writer)?;
    if report.interrupted && (unfinished == Unfinished::Discard || report.episodes == 0) {
        bevy::log::warn!(
            "{}: the collection was interrupted, and nothing is written",
            path.display()
        );
        return Err(RunError::Interrupted);
    }
    if report.interrupted && path.exists() {
        bevy::log::warn!(
            "{}: the collection was interrupted, so the file that was there stays as it is",
            path.display()
        );
        return Err(RunError::Interrupted);
    }
    let ended = if report.interrupted {
        Ended::Stopped
    } else {
        Ended::Finished
    };
    Ok((report, writer.finish()?, ended))
}

/// The experiment's demonstrations: read from its file, which is made first if it is not there and can be made; then
/// the report comes with them. A file that is there is used as it is; if it holds something else than the experiment
/// would collect, a warning says so.
pub fn ensure_dataset(
    experiment: &Experiment,
    settings: &Settings,
) -> Result<(Arc<Dataset>, Option<CollectReport>), RunError> {
    let Some(config) = &experiment.dataset else {
        return Err(RunError::Experiment(
            "this experiment names no demonstrations (dataset: (path: \"...\"))".into(),
        ));
    };
    let mut collected = None;
    let existed = config.path.exists();
    if !existed {
        let Some(how) = &config.collect else {
            return Err(RunError::Experiment(format!(
                "{}: no such file, and the experiment does not say how to collect it (dataset.collect)",
                config.path.display()
            )));
        };
        if let Some(problem) = other_sizes(how, experiment, &load_scene(experiment)?) {
            return Err(RunError::Experiment(problem.to_string()));
        }
        let how = in_scene(how, experiment);
        // Half a data set would be taken for the whole one next time.
        let (report, ..) = collect(&how, &[], &config.path, Unfinished::Discard, settings)?;
        collected = Some(report);
    }
    // With what the demonstrator was at, for pictures of the latent space.
    let mut infos = vec![ELEMENT.to_owned()];
    if read_scene(experiment)?.value.observation.pixels.is_some() {
        infos.extend(PAINTED_FROM.map(str::to_owned));
    }
    let options = ReadOptions {
        infos,
        image_memory: config.image_memory,
        ..ReadOptions::default()
    };
    let dataset = Dataset::read_with(&config.path, &options)?;
    if existed {
        warn_of_differences(&dataset, config, experiment);
    }
    Ok((Arc::new(dataset), collected))
}

/// What to say before an experiment's demonstrations are collected because their file is not there; `None` if it is
/// there, or is not collected. Where `overrides` name the file, a near name may have been meant.
pub fn collection_note(experiment: &Experiment, overrides: &[String]) -> Option<String> {
    let config = experiment.dataset.as_ref()?;
    let how = config.collect.as_ref()?;
    if experiment.skill_model == SkillModelConfig::None || config.path.exists() {
        return None;
    }
    let gives = |wanted: &str| {
        let paths = overrides.iter().filter_map(|text| text.split_once('='));
        let mut paths = paths.map(|(path, _)| path.trim());
        paths.any(|path| {
            path.strip_prefix(wanted)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    let named = gives("dataset.path") && !gives("dataset.collect");
    let near = named.then(|| near_file(&config.path)).flatten();
    let near = near.map_or_else(String::new, |near| {
        format!("; did you mean {}, which is there?", near.display())
    });
    Some(format!(
        "{}: not there yet; {} demonstrations are collected into it{near}",
        config.path.display(),
        how.episodes
    ))
}

/// The file or folder beside `path` whose name is most like its own.
fn near_file(path: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(files::folder_of(path)).ok()?;
    let names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    let near = files::nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    Some(path.with_file_name(near))
}

/// Demonstrations that would be collected in another scene than the experiment's, and could not be used in it.
pub(super) fn other_sizes(config: &CollectConfig, experiment: &Experiment, scene: &CompiledScene) -> Option<Problem> {
    let name = config.scene.as_ref().filter(|name| **name != experiment.scene)?;
    // A scene that cannot be used at all is told of elsewhere.
    let other = CompiledScene::load(name, &[]).ok()?;
    // Where pictures are seen, the numbers beside them may be others.
    let numbers = |of: &CompiledScene| scene.eye().map_or(of.observation_len(), |_| 0);
    let sizes = |of: &CompiledScene| (numbers(of), of.action_len());
    if sizes(&other) == sizes(scene) {
        return None;
    }
    let (actions, acts) = (other.action_len(), scene.action_len());
    let message = format!(
        "demonstrations of {name} have {} observed numbers and {actions} action numbers, the scene {} has {} and {acts}; \
         `dataset: (collect: (scene: None))` collects in the experiment's own scene",
        other.observation_len(),
        experiment.scene,
        scene.observation_len(),
    );
    Some(Problem::new("dataset.collect.scene", message).because_of(&["scene"]))
}

/// How to collect for an experiment: in its own scene, unless `config` names another one.
pub fn in_scene(config: &CollectConfig, experiment: &Experiment) -> CollectConfig {
    CollectConfig {
        scene: Some(config.scene.clone().unwrap_or_else(|| experiment.scene.clone())),
        ..config.clone()
    }
}

/// Warns if a file that [`collect`] wrote is not what the experiment would collect, or was never completed. Files from
/// elsewhere do not say how they were made, and are nobody's business but the user's.
fn warn_of_differences(dataset: &Dataset, config: &DatasetConfig, experiment: &Experiment) {
    let attributes = dataset.attributes();
    let made = (attributes.get("demonstrator"))
        .and_then(|text| files::from_text::<CollectConfig>(Path::new("demonstrator"), text).ok());
    let Some(made) = made else { return };
    let mut found = Vec::new();
    let present = dataset.sequences().len();
    if present < made.episodes {
        found.push(format!(
            "it holds only {present} of {} demonstrations, because its collection was interrupted",
            made.episodes
        ));
    }
    if let Some(wanted) = &config.collect {
        let mut wanted = in_scene(wanted, experiment);
        let scene = wanted.scene.clone().unwrap_or_default();
        if let Ok(described) = Scene::load(&scene) {
            wanted.demonstrator = wanted.demonstrator(&described).ok();
        }
        let overrides = recorded_overrides(dataset);
        if let Some(of_file) = attributes.get("scene")
            && !records_alike((of_file, &overrides), &scene)
        {
            let with = if overrides.is_empty() { "" } else { " with " };
            let overrides = overrides.join(" ");
            found.push(format!(
                "scene: {of_file}{with}{overrides} in the file, {scene} in the experiment"
            ));
        }
        // The scenes have been compared, and the others do not change what is collected.
        let irrelevant = ["scene", "threads", "environments", "layout"].map(|name| format!("dataset.collect.{name}"));
        let irrelevant = irrelevant.each_ref().map(String::as_str);
        found.extend(differences("dataset.collect", &made, &wanted, &irrelevant));
    }
    if !found.is_empty() {
        let path = config.path.display();
        bevy::log::warn!(
            "{path}: used as it is, but {}. For new demonstrations name another file (dataset.path) or remove this one; \
             `apprentice collect --force` replaces it. If it is as you want it, give its settings as overrides",
            found.join("; ")
        );
    }
}

/// The overrides that were laid over the scene of a file's demonstrations.
pub(super) fn recorded_overrides(dataset: &Dataset) -> Vec<String> {
    let text = dataset.attributes().get(OVERRIDES);
    text.and_then(|text| files::from_text(Path::new(OVERRIDES), text).ok())
        .unwrap_or_default()
}

/// Whether demonstrations in both scenes are the same, the first one with its overrides. The elements of a task are not
/// recorded, nor is what people read; the demonstrators are compared elsewhere.
fn records_alike((one, overrides): (&str, &[String]), other: &str) -> bool {
    let recorded = |name: &str, overrides: &[String]| {
        let scene = Scene::load_with(name, overrides).ok()?.value;
        let scene = demos::recording_scene(&scene);
        Some(Scene {
            description: String::new(),
            task: Task {
                rewards: scene.task.rewards.clone(),
                ..Task::default()
            },
            cameras: Vec::new(),
            demonstrator: None,
            ..scene
        })
    };
    let same = one == other && overrides.is_empty();
    same || recorded(one, overrides).is_some_and(|one| recorded(other, &[]) == Some(one))
}

/// Names the settings below `path` (none: all) in which a configuration in a file differs from the one that is wanted
/// now. Those with one of the paths `irrelevant` do not count.
pub fn differences<T: Serialize>(path: &str, made: &T, wanted: &T, irrelevant: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    if let (Ok(made), Ok(wanted)) = (serde_json::to_value(made), serde_json::to_value(wanted)) {
        compare(path, &made, &wanted, irrelevant, &mut found);
    }
    found
}

fn compare(path: &str, made: &Value, wanted: &Value, irrelevant: &[&str], found: &mut Vec<String>) {
    /// Longer values, such as lists of sequences, are not shown.
    const LONGEST: usize = 40;
    match (made, wanted) {
        _ if made == wanted || irrelevant.contains(&path) => {}
        (Value::Object(made), Value::Object(wanted)) if made.keys().eq(wanted.keys()) => {
            let dot = if path.is_empty() { "" } else { "." };
            for ((name, made), wanted) in made.iter().zip(wanted.values()) {
                compare(&format!("{path}{dot}{name}"), made, wanted, irrelevant, found);
            }
        }
        _ => {
            let (made, wanted) = (shown(made), shown(wanted));
            found.push(if made.len().max(wanted.len()) <= LONGEST {
                format!("{path}: {made} in the file, {wanted} in the experiment")
            } else {
                format!("{path} differs")
            });
        }
    }
}

/// A value as text. Numbers that fit into 32 bits have no digits beyond those, which nobody wrote.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(exact) if f64::from(exact as f32) == exact => format!("{:?}", exact as f32),
            _ => number.to_string(),
        },
        Value::Array(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::demos::{DemonstratorSpec, KitchenDemos};

    #[test]
    fn settings_that_differ_are_named() {
        let made = CollectConfig {
            demonstrator: Some(DemonstratorSpec::Kitchen(KitchenDemos::default())),
            ..CollectConfig::default()
        };
        let mut wanted = CollectConfig {
            environments: 7,
            threads: 3,
            ..made.clone()
        };
        let differences = |wanted: &CollectConfig| {
            differences("collect", &made, wanted, &["collect.environments", "collect.threads"])
        };
        assert_eq!(differences(&wanted), [""; 0]);
        wanted.seed = 5;
        let mut kitchen = KitchenDemos::default();
        kitchen.sequences.pop();
        kitchen.variety = 0.5;
        wanted.demonstrator = Some(DemonstratorSpec::Kitchen(kitchen));
        assert_eq!(
            differences(&wanted),
            [
                "collect.demonstrator.Kitchen.sequences differs",
                "collect.demonstrator.Kitchen.variety: 1.0 in the file, 0.5 in the experiment",
                "collect.seed: 0 in the file, 5 in the experiment",
            ]
        );
    }

    #[test]
    fn numbers_are_shown_as_they_were_written() {
        let made = serde_json::json!({"discount": 0.97_f32, "rates": [0.1_f32, 1], "exact": 0.97_f64});
        let wanted = serde_json::json!({"discount": 0.9_f32, "rates": [0.2_f32, 1], "exact": 0.98_f64});
        assert_eq!(
            differences("", &made, &wanted, &[]),
            [
                "discount: 0.97 in the file, 0.9 in the experiment",
                "exact: 0.97 in the file, 0.98 in the experiment",
                "rates: [0.1,1] in the file, [0.2,1] in the experiment",
            ]
        );
    }

    #[test]
    fn a_near_file_is_named_where_the_name_was_given() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kitchen_mixed.hdf5"), "").unwrap();
        let path = folder.path().join("kitchen_mixd.hdf5");
        let given = vec![format!("dataset.path={}", path.display())];
        let experiment = Experiment::load("kitchen/spirl_cl", &given).unwrap().value;
        let note = collection_note(&experiment, &given).unwrap();
        assert!(
            note.contains("600 demonstrations are collected into it; did you mean")
                && note.contains("kitchen_mixed.hdf5"),
            "{note}"
        );
        let asked = [given, vec!["dataset.collect.episodes=9".into()]].concat();
        assert!(!collection_note(&experiment, &asked).unwrap().contains("did you mean"));
        let there = vec![format!(
            "dataset.path={}",
            folder.path().join("kitchen_mixed.hdf5").display()
        )];
        let experiment = Experiment::load("kitchen/spirl_cl", &there).unwrap().value;
        assert_eq!(collection_note(&experiment, &there), None);
    }

    #[test]
    fn scenes_with_other_tasks_are_recorded_alike() {
        assert!(records_alike(("kitchen", &[]), "kitchen_mis_aligned"));
        assert!(!records_alike(("kitchen", &[]), "no_such_scene"));
        let overridden = |text: &str| records_alike(("kitchen", &[text.to_owned()]), "kitchen");
        assert!(overridden("task.order=Listed"));
        assert!(!overridden("observation.noise=false"));
    }
}
