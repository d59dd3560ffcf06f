//! Scenes by themselves: what is wrong with them, and what they consist of.

use std::path::PathBuf;

use serde::Serialize;

use super::RunError;
use crate::demos::{CollectConfig, DemoError, recording_scene};
use crate::files::Loaded;
use crate::scene::{
    ActionChannel, Built, CompiledScene, Delays, Eye, JudgedOn, Models, Order, Scene, SceneError, geared_unit,
};
use crate::sim::Environment;
use crate::watch::reload::files_of_model;

/// What a check of a scene has found. Every text is a whole message with the place in the file.
#[derive(Debug, Default)]
pub struct SceneCheck {
    /// What is wrong, in the order of files and lines.
    pub errors: Vec<String>,
    /// What is legal but probably not meant; empty where something is wrong.
    pub warnings: Vec<String>,
}

/// Finds everything that is wrong with a scene (a name in `scenes/` or a path) with `overrides` laid over it.
pub fn check_scene(name: &str, overrides: &[String]) -> SceneCheck {
    examine(name, overrides).found
}

/// A scene that was read as far as possible.
pub(super) struct Examined {
    /// What a check of it has found.
    pub(super) found: SceneCheck,
    /// The compiled scene, if nothing is wrong.
    pub(super) scene: Option<CompiledScene>,
    /// The files it depends on, as far as they are known.
    pub(super) files: Vec<PathBuf>,
}

/// Reads, checks and compiles a scene.
pub(super) fn examine(name: &str, overrides: &[String]) -> Examined {
    let mut checked = Scene::check_files(name, overrides);
    let (mut warnings, mut files, mut compiled) = (Vec::new(), Vec::new(), None);
    // What one file says makes no scene without the others.
    if let Some(loaded) = checked.loaded.clone().filter(|_| !checked.lacks_parent) {
        files.clone_from(&loaded.sources);
        files.extend(loaded.value.model_file().iter().flat_map(|model| files_of_model(model)));
        let mut models = Models::default();
        let findings = CompiledScene::check_also(&loaded.value, |scene| demonstrates(scene, &mut models));
        // Where a part cannot be read, it stands for nothing: what others miss of it is no fault of theirs.
        let [elements, observation] = ["elements", "observation"].map(|path| checked.is_sound(path));
        for error in &findings.errors {
            let follows = match error {
                SceneError::UnknownName { kind, .. } => *kind == "element" && !elements,
                SceneError::Invalid { reason, .. } => reason.contains("observed") && !observation,
                _ => false,
            };
            let field = error.field().unwrap_or_default();
            if follows || follows_from_key(error, &findings.errors) {
                continue;
            }
            match error.is_of_key() {
                true => checked.report_key(field, error.to_string()),
                false => checked.report(field, error.to_string()),
            }
        }
        compiled = findings.compiled.filter(|_| checked.errors.is_empty());
        warnings = compiled.iter().flat_map(|scene| suspicions(&loaded, scene)).collect();
        // What is strange about the scene that this one extends cannot be mended here.
        if let (Some(parent), false) = (loaded.sources.get(1), warnings.is_empty())
            && let Ok(parent) = Scene::load_with(&parent.display().to_string(), &[])
            && let Ok(scene) = CompiledScene::of_file(&parent)
        {
            let known = suspicions(&parent, &scene);
            warnings.retain(|warning| !known.contains(warning));
        }
    }
    Examined {
        found: SceneCheck {
            errors: checked.into_errors().iter().map(ToString::to_string).collect(),
            warnings,
        },
        scene: compiled,
        files,
    }
}

/// What is strange about a scene, with places.
fn suspicions(loaded: &Loaded<Scene>, scene: &CompiledScene) -> Vec<String> {
    let told = scene.suspicions().into_iter().map(|found| {
        let message = format!("{}: {}", found.field, found.message);
        loaded.error_at(&found.field, message).to_string()
    });
    told.collect()
}

/// Whether a skill is missed because its name is misspelt where it is described, which is told there.
fn follows_from_key(error: &SceneError, all: &[SceneError]) -> bool {
    let SceneError::UnknownName { kind, name: missed, .. } = error else {
        return false;
    };
    let means_it = |other: &SceneError| match other {
        SceneError::UnknownName { field, nearest, .. } => {
            field.starts_with("demonstrator.skills.")
                && other.is_of_key()
                && nearest.as_deref() == Some(missed.as_str())
        }
        _ => false,
    };
    *kind == "skill" && all.iter().any(means_it)
}

/// Whether the demonstrator of a scene can be made, if it has one.
fn demonstrates(scene: &Scene, models: &mut Models) -> Result<(), SceneError> {
    if scene.demonstrator.is_none() {
        return Ok(());
    }
    let recorded = models.compile(&recording_scene(scene))?;
    let demonstrator = CollectConfig::default().demonstrator(scene);
    let built = demonstrator.and_then(|demonstrator| demonstrator.build(&recorded));
    built.map(drop).map_err(|error| match error {
        DemoError::Scene(error) => error,
        DemoError::UnknownName(error) => *error,
        error => {
            let (field, message) = (error.field(), error.to_string());
            let reason = message.strip_prefix(&format!("{field}: ")).unwrap_or(&message);
            SceneError::Invalid {
                reason: reason.to_owned(),
                field,
            }
        }
    })
}

/// A scene and all that is to be known about it before anything happens in it.
#[derive(Debug, Clone, Serialize)]
pub struct SceneSheet {
    /// As it was asked for.
    pub name: String,
    /// The file, and those it extends.
    pub files: Vec<PathBuf>,
    /// One line.
    pub description: String,
    /// Model and time.
    pub physics: PhysicsSheet,
    /// Control steps after which an episode is cut off.
    pub episode_steps: u32,
    /// The same in simulated seconds.
    pub episode_seconds: f64,
    /// How late actions and observations are, control steps.
    pub delays: Delays,
    /// Lowest and highest number of an observation; others are clipped.
    pub observation_clip: Option<(f64, f64)>,
    /// The numbers of an observation.
    pub observation: Vec<ObservedNumber>,
    /// The numbers of an action.
    pub actions: Vec<ActionNumber>,
    /// The elements.
    pub elements: Vec<ElementSheet>,
    /// In which order the elements of the task count.
    pub order: Order,
    /// What they are judged on.
    pub judged_on: JudgedOn,
    /// Further terms of the reward, as RON.
    pub rewards: Vec<String>,
    /// Figures that these terms report.
    pub figures: Vec<String>,
    /// Elements that make the task done, where the scene lists them.
    pub success: Vec<String>,
    /// Conditions that make it fail, as RON.
    pub terminate: Vec<String>,
    /// What is drawn for every episode, as RON: the parts of `reset`, then `randomise`.
    pub drawn: Vec<String>,
    /// Pictures that agents see.
    pub pictures: Option<PictureSheet>,
    /// Cameras for people.
    pub cameras: Vec<crate::scene::Camera>,
    /// Who demonstrates, in a word.
    pub demonstrator: Option<String>,
}

/// Model and time.
#[derive(Debug, Clone, Serialize)]
pub struct PhysicsSheet {
    /// The model file, or what the program builds.
    pub model: String,
    /// Bodies, the world not counted.
    pub bodies: usize,
    /// Joints.
    pub joints: usize,
    /// Degrees of freedom.
    pub degrees_of_freedom: usize,
    /// Actuators.
    pub actuators: usize,
    /// Contacts at the start of an episode.
    pub contacts_at_start: usize,
    /// Length of a physics step, s.
    pub time_step: f64,
    /// Physics steps in a control step.
    pub frame_skip: u32,
    /// Length of a control step, s.
    pub control_period: f64,
}

/// A number of the observation.
#[derive(Debug, Clone, Serialize)]
pub struct ObservedNumber {
    /// Place in the observation.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Place of its term in the list of terms, and the kind of term: `0 Position`.
    pub term: String,
    /// Its unit before it is scaled; empty for numbers without one.
    pub unit: String,
    /// Factor on the number.
    pub scale: f64,
    /// Amplitude of its noise.
    pub noise: f64,
    /// Its value at the start of the first episode of seed 0, without noise.
    pub start: f64,
}

/// A number of the action.
#[derive(Debug, Clone, Serialize)]
pub struct ActionNumber {
    /// Place in the action.
    pub index: usize,
    /// What it moves.
    pub name: String,
    /// What -1 asks for.
    pub low: f64,
    /// What 1 asks for.
    pub high: f64,
    /// The unit of both; empty where the model does not say.
    pub unit: String,
    /// What is asked for, in words.
    pub meaning: String,
}

/// An element.
#[derive(Debug, Clone, Serialize)]
pub struct ElementSheet {
    /// Its name.
    pub name: String,
    /// Its goal; empty where a condition is judged.
    pub goal: Vec<f64>,
    /// The condition that is judged in place of joints, as RON.
    pub when: Option<String>,
    /// It is done when it is nearer to the goal than this.
    pub threshold: f64,
    /// How far it is at the start of the first episode of seed 0.
    pub distance_at_start: f64,
    /// Whether it is one of the task's list.
    pub in_task: bool,
    /// Whether anything in the task mentions it.
    pub rewarded: bool,
}

/// Pictures that agents see.
#[derive(Debug, Clone, Serialize)]
pub struct PictureSheet {
    /// Width and height, pixels.
    pub size: usize,
    /// Pictures that are seen at once.
    pub frames: usize,
    /// Where they are taken from.
    pub eye: Eye,
}

impl SceneSheet {
    /// The sheet of a scene that was read from `loaded` and compiled.
    ///
    /// # Errors
    /// [`RunError::Sim`] if memory runs out.
    pub fn of(name: &str, loaded: &Loaded<Scene>, scene: &CompiledScene) -> Result<Self, RunError> {
        let described = scene.scene();
        let environment = still(scene)?;
        let rewarded = scene.rewarded();
        let distances = &environment.progress.distance;
        let elements = scene.elements().iter().zip(distances).enumerate();
        Ok(Self {
            name: name.to_owned(),
            files: loaded.sources.clone(),
            description: described.description.clone(),
            physics: PhysicsSheet::of(scene),
            episode_steps: described.episode.steps,
            episode_seconds: f64::from(described.episode.steps) * scene.period(),
            delays: described.delays,
            observation_clip: described.observation.clip,
            observation: (scene.channels().iter().zip(environment.measurement.iter()).enumerate())
                .map(|(index, (channel, &start))| ObservedNumber {
                    index,
                    name: channel.name.clone(),
                    term: match described.observation.terms.get(channel.term) {
                        Some(term) => format!("{} {}", channel.term, first_word(term)),
                        None => String::new(),
                    },
                    unit: channel.unit.to_owned(),
                    scale: channel.scale,
                    noise: channel.noise,
                    start,
                })
                .collect(),
            actions: (scene.actions().iter().enumerate())
                .map(|(index, action)| ActionNumber {
                    index,
                    name: action.name.clone(),
                    low: action.low,
                    high: action.high,
                    unit: unit_of(action, scene),
                    meaning: action.meaning.to_owned(),
                })
                .collect(),
            elements: elements
                .map(|(index, (element, &distance_at_start))| ElementSheet {
                    name: element.name.clone(),
                    goal: element.goal.clone(),
                    when: described
                        .elements
                        .get(index)
                        .and_then(|element| element.when.as_ref())
                        .map(in_one_line),
                    threshold: element.threshold,
                    distance_at_start,
                    in_task: scene.task().contains(&index),
                    rewarded: rewarded.contains(&index),
                })
                .collect(),
            order: described.task.order,
            judged_on: described.task.judged_on,
            rewards: described.task.rewards.iter().map(in_one_line).collect(),
            figures: scene.figures().to_vec(),
            success: described.task.success.clone(),
            terminate: described.task.terminate.iter().map(in_one_line).collect(),
            drawn: drawn(described),
            pictures: scene
                .eye()
                .zip(described.observation.pixels.as_ref())
                .map(|(eye, spec)| PictureSheet {
                    size: eye.size(),
                    frames: eye.frames(),
                    eye: spec.eye.clone(),
                }),
            cameras: described.cameras.clone(),
            demonstrator: described.demonstrator.as_ref().map(first_word),
        })
    }
}

/// The unit of an action; of a motor with a gear, what a control of 1 is.
fn unit_of(action: &ActionChannel, scene: &CompiledScene) -> String {
    match geared_unit(scene.model(), &action.name) {
        Some((factor, unit)) if action.unit.is_empty() => format!("{factor} x {unit}"),
        _ => action.unit.to_owned(),
    }
}

/// An environment at the start of its first episode that observes without noise.
fn still(scene: &CompiledScene) -> Result<Environment, RunError> {
    let mut described = scene.scene().clone();
    described.observation.noise = false;
    let quiet = CompiledScene::with_model(described, scene.model().clone())?;
    Ok(Environment::new(&quiet, 0, 0)?)
}

impl PhysicsSheet {
    fn of(scene: &CompiledScene) -> Self {
        let (model, physics) = (scene.model(), &scene.scene().physics);
        let count = |number: i64| usize::try_from(number).unwrap_or_default();
        Self {
            model: match &physics.built {
                Some(Built::Maze(_)) => "built: Maze".to_owned(),
                Some(Built::Blocks(_)) => "built: Blocks".to_owned(),
                None => physics.model.display().to_string(),
            },
            bodies: count(model.nbody()).saturating_sub(1),
            joints: count(model.njnt()),
            degrees_of_freedom: count(model.nv()),
            actuators: count(model.nactuator()),
            contacts_at_start: scene.fresh().contact().len(),
            time_step: model.opt().timestep,
            frame_skip: physics.frame_skip,
            control_period: scene.period(),
        }
    }
}

/// What is drawn for every episode.
fn drawn(scene: &Scene) -> Vec<String> {
    let reset = &scene.reset;
    let ranges = [("positions", &reset.ranges), ("velocities", &reset.velocities)];
    let ranges = ranges.into_iter().flat_map(|(what, joints)| {
        let of_joint =
            move |(joint, range): (&String, &Vec<(f64, f64)>)| format!("{what} of {joint}: {}", in_one_line(range));
        joints.iter().map(of_joint)
    });
    let placements = reset.placements.iter().map(in_one_line);
    ranges
        .chain(placements)
        .chain(scene.randomise.iter().map(in_one_line))
        .collect()
}

/// The word that a value's text begins with: `Kitchen` of `Kitchen((...))`.
pub fn first_word<T: Serialize>(value: &T) -> String {
    let text = in_one_line(value);
    text.split('(').next().unwrap_or_default().to_owned()
}

/// A value as RON in one line, without what is not given.
pub fn in_one_line<T: Serialize>(value: &T) -> String {
    let options = ron::Options::default().with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
    let text = options.to_string(value).unwrap_or_default();
    let (mut line, mut quoted, mut escaped) = (String::new(), false, false);
    for letter in text.chars() {
        line.push(letter);
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ':' | ',' if !quoted => line.push(' '),
            _ => {}
        }
        if !quoted && matches!(letter, ',' | ')') {
            drop_none(&mut line);
        }
    }
    line
}

/// Takes `, name: None` or `name: None, ` off the end of a line, before the bracket that may close it.
fn drop_none(line: &mut String) {
    let (rest, end) = match line.strip_suffix(": None)") {
        Some(rest) => (rest, ")"),
        None => match line.strip_suffix(": None, ") {
            Some(rest) => (rest, ""),
            None => return,
        },
    };
    let before = rest.trim_end_matches(|letter: char| letter.is_alphanumeric() || letter == '_');
    let kept = if end == ")" {
        before.trim_end_matches([' ', ','])
    } else {
        before
    };
    *line = format!("{kept}{end}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn sheet(name: &str) -> SceneSheet {
        let loaded = Scene::load_with(name, &[]).unwrap();
        let scene = CompiledScene::load(name, &[]).unwrap();
        SceneSheet::of(name, &loaded, &scene).unwrap()
    }

    #[test]
    fn the_sheet_of_the_kitchen_has_its_numbers() {
        let sheet = sheet("kitchen");
        assert_eq!(
            (sheet.observation.len(), sheet.actions.len(), sheet.elements.len()),
            (60, 9, 7)
        );
        let first = &sheet.observation[0];
        assert_eq!(
            (first.name.as_str(), first.unit.as_str()),
            ("robot:panda0_joint1", "rad")
        );
        assert_eq!((first.noise, first.start), (0.1 * 0.1, 1.483_880_23e-1));
        // The fingers slide; a rotation has no unit.
        assert_eq!(
            (sheet.observation[7].unit.as_str(), sheet.observation[29].unit.as_str()),
            ("m", "")
        );
        assert_eq!(
            (sheet.actions[8].name.as_str(), sheet.actions[8].high),
            ("robot:panda0_finger_joint2", 2.0)
        );
        assert_eq!(sheet.physics.control_period, 0.08);
        assert!((sheet.episode_seconds - 22.4).abs() < 1e-9);
        let microwave = &sheet.elements[0];
        assert!(microwave.in_task && microwave.rewarded);
        assert!((microwave.distance_at_start - 0.751_080).abs() < 1e-5);
        assert!(!sheet.elements[3].rewarded, "the top burner");
        assert_eq!(sheet.demonstrator.as_deref(), Some("Kitchen"));
    }

    #[test]
    fn the_sheet_of_a_maze_with_pictures_names_them() {
        let sheet = sheet("maze_pixels");
        assert_eq!(sheet.files.len(), 2);
        let pictures = sheet.pictures.unwrap();
        assert_eq!((pictures.size, pictures.frames), (32, 2));
        assert_eq!(sheet.observation[3].unit, "m/s");
        assert!(sheet.rewards[0].starts_with("Near(") && sheet.elements[0].rewarded && !sheet.elements[0].in_task);
    }

    #[test]
    fn faults_of_reading_and_of_meaning_come_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.ron");
        let text = "(\n  extends: \"maze\",\n  observatoin: (noise: true),\n  elements: [\n    (name: \"goal\", joints: [\"z\"], \
                    threshold: \"two\"),\n  ],\n  reset: (positions: {\"door\": [0]}),\n)\n";
        std::fs::write(&path, text).unwrap();
        let found = check_scene(
            path.to_str().unwrap(),
            &["task.rewards=[Near(element: gaol)]".to_owned()],
        );
        let all = found.errors.join("\n");
        for part in [
            "mine.ron:3:3: unknown field `observatoin`",
            "mine.ron:5:46:",
            "no joint is named \"door\"",
        ] {
            assert!(all.contains(part), "no `{part}` in {all}");
        }
        assert!(!all.contains("gaol"), "the elements cannot be read: {all}");
        assert_eq!(check_scene("maze", &[]).errors, [""; 0]);
    }
}
