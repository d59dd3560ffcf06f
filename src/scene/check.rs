//! Everything that is wrong with a scene, at once.
//!
//! Compilation stops at the first fault. So the scene is mended there and compiled again, until nothing is left to
//! complain of: a name that is not there becomes the nearest one, a number that makes no sense becomes 1, anything else
//! is left out, or what holds it. What follows from a fault that has been told already is not told.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use mujoco_rs::wrappers::mj_model::MjModel;

use super::compile::check_without_model;
use super::{CompiledScene, PhysicsSpec, Scene, SceneError, model};
use crate::files::{self, Checked, Draft, FileKind, Removed};

/// After so many attempts the rest is left alone.
const MOST_ATTEMPTS: usize = 400;

/// Lengths that lists of numbers have: those of joints, and of two slides.
const LENGTHS: [usize; 6] = [1, 2, 3, 4, 6, 7];

/// What came of a check.
#[derive(Debug)]
pub struct Findings {
    /// What is wrong, in the order in which it was found; the fields are those of the scene that was checked.
    pub errors: Vec<SceneError>,
    /// The compiled scene, if nothing is wrong.
    pub compiled: Option<CompiledScene>,
}

impl CompiledScene {
    /// Compiles a scene and gives everything that is wrong with it, as far as faults do not hide others: what needs a
    /// model cannot be checked without one.
    pub fn check(scene: &Scene) -> Findings {
        Self::check_also(scene, |_| Ok(()))
    }

    /// The same, and with what `further` finds in a scene that compiles: in this one, or in what faults leave of it.
    pub(crate) fn check_also(scene: &Scene, further: impl FnMut(&Scene) -> Result<(), SceneError>) -> Findings {
        let draft = match Draft::of(scene) {
            Ok(draft) => draft,
            Err(error) => {
                return Findings {
                    errors: vec![error.into()],
                    compiled: None,
                };
            }
        };
        let mut mender = Mender::new(draft);
        let mut models = Models::default();
        let mut compiled = mender.go_on(scene, |scene| models.compile(scene));
        let left = mender.draft.value().unwrap_or_else(|_| scene.clone());
        if models.0.is_none() {
            mender.go_on(&left, check_without_model);
        } else if compiled.is_some() {
            mender.go_on(&left, further);
        }
        if !mender.errors.is_empty() {
            compiled = None;
        }
        Findings {
            errors: mender.errors,
            compiled,
        }
    }
}

impl Scene {
    /// Reads a scene as far as that is possible, with everything that is wrong with the files as files.
    pub(crate) fn check_files(name: &str, overrides: &[String]) -> Checked<Self> {
        let mut checked = files::check::<Self>(FileKind::Scene, name, overrides);
        if let Some(loaded) = &mut checked.loaded {
            // It fails where the value cannot be written as a text; then the path stays as it is.
            let _ = model::beside_its_scene(loaded);
        }
        checked
    }

    /// The MJCF file of the scene, if it has one and it can be found.
    pub fn model_file(&self) -> Option<PathBuf> {
        let named = &self.physics.model;
        (!named.as_os_str().is_empty())
            .then(|| model::find(named).ok())
            .flatten()
    }
}

/// Compiles scenes one after another without reading a model again that the last one had.
#[derive(Debug, Default)]
pub struct Models(Option<(PhysicsSpec, Arc<MjModel>)>);

impl Models {
    /// Compiles a scene.
    ///
    /// # Errors
    /// As [`CompiledScene::new`].
    pub fn compile(&mut self, scene: &Scene) -> Result<CompiledScene, SceneError> {
        CompiledScene::with_model(scene.clone(), self.get(&scene.physics)?)
    }

    fn get(&mut self, physics: &PhysicsSpec) -> Result<Arc<MjModel>, SceneError> {
        // Other time steps are no reason to read it again.
        let same = |known: &PhysicsSpec| {
            *known
                == PhysicsSpec {
                    frame_skip: known.frame_skip,
                    ..physics.clone()
                }
        };
        match &self.0 {
            Some((known, model)) if same(known) => Ok(Arc::clone(model)),
            _ => {
                let model = model::load(physics)?;
                self.0 = Some((physics.clone(), Arc::clone(&model)));
                Ok(model)
            }
        }
    }
}

/// A way to get past a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// The name that was probably meant.
    Nearest,
    /// The number 1.
    One,
    /// So many ones: a list has the wrong length.
    Ones(usize),
    /// Without the value, or without what its path names with so many parts.
    Without(usize),
}

struct Mender {
    draft: Draft,
    /// Items of lists that were taken out: the path of the list and the place in it, both as in the scene.
    removed: BTreeSet<(String, usize)>,
    /// Ways that were gone, with the path of the fault in the scene.
    gone: BTreeSet<(String, Way)>,
    /// Paths in the scene of which something has been said.
    told: BTreeSet<String>,
    /// Parts of the scene from which something is missing now.
    incomplete: BTreeSet<String>,
    /// Names that were put in the place of others.
    guessed: Vec<String>,
    /// Elements that were taken out.
    elements: Vec<String>,
    /// Something of the observation was taken out.
    unseen: bool,
    errors: Vec<SceneError>,
}

impl Mender {
    fn new(draft: Draft) -> Self {
        Self {
            draft,
            removed: BTreeSet::new(),
            gone: BTreeSet::new(),
            told: BTreeSet::new(),
            incomplete: BTreeSet::new(),
            guessed: Vec::new(),
            elements: Vec::new(),
            unseen: false,
            errors: Vec::new(),
        }
    }

    /// Mends the scene until the `step` takes it, or nothing helps.
    fn go_on<T>(&mut self, scene: &Scene, mut step: impl FnMut(&Scene) -> Result<T, SceneError>) -> Option<T> {
        let mut scene = scene.clone();
        for _ in 0..MOST_ATTEMPTS {
            let error = match step(&scene) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let place = match &error {
                SceneError::UnknownName { field, nearest, .. } => Some((field.clone(), nearest.clone())),
                SceneError::Invalid { field, .. } => Some((field.clone(), None)),
                // Nothing takes the place of a model.
                _ => None,
            };
            self.note(error);
            let (field, nearest) = place?;
            scene = self.mend(&field, nearest.as_deref())?;
        }
        None
    }

    /// Takes the fault down unless it follows from one that was.
    fn note(&mut self, error: SceneError) {
        let Some(field) = error.field().map(str::to_owned) else {
            return self.errors.push(error);
        };
        let original = self.original(&field);
        // What follows at a place has been put right there, and what comes of that follows as well.
        let first = self.told.insert(original.clone());
        if !first || self.follows(&error, &field, &original) {
            return;
        }
        self.errors.push(match error {
            SceneError::UnknownName {
                kind,
                name,
                nearest,
                known,
                ..
            } => SceneError::UnknownName {
                field: original,
                kind,
                name,
                nearest,
                known,
            },
            SceneError::Invalid { reason, .. } => SceneError::Invalid {
                field: original,
                reason,
            },
            other => other,
        });
    }

    fn follows(&self, error: &SceneError, field: &str, original: &str) -> bool {
        // Of a list or a map from which something was taken out nothing is known.
        let holds = |part: &String| part.strip_prefix(original).is_some_and(|rest| rest.starts_with('.'));
        if self.incomplete.iter().any(holds) {
            return true;
        }
        match error {
            SceneError::UnknownName { kind, name, .. } => *kind == "element" && self.elements.contains(name),
            SceneError::Invalid { reason, .. } => {
                let guessed = self
                    .draft
                    .text(field)
                    .is_some_and(|text| self.guessed.iter().any(|name| name == text));
                let unseen = self.unseen && reason.contains("observed");
                // A maze that lost rows may have lost its target with them.
                let in_layout = |part: &String| part.starts_with("physics.built");
                let unbuilt = reason.contains("in the layout") && self.incomplete.iter().any(in_layout);
                // Another part of the scene is blamed, and that was taken out.
                let misses = self.incomplete.iter().any(|part| reason.contains(&format!("`{part}`")));
                guessed || unseen || unbuilt || misses || self.incomplete.contains(unit(original))
            }
            _ => false,
        }
    }

    /// Gets past a fault at `field` in a way that was not gone yet; gives the scene to go on with.
    fn mend(&mut self, field: &str, nearest: Option<&str>) -> Option<Scene> {
        let original = self.original(field);
        let parts = field.split('.').count();
        let ways = [Way::Nearest, Way::One]
            .into_iter()
            .chain(LENGTHS.map(Way::Ones))
            .chain((1..=parts).rev().map(Way::Without));
        for way in ways {
            if self.gone.contains(&(original.clone(), way)) {
                continue;
            }
            let mut draft = self.draft.clone();
            let cut: Vec<&str> = match way {
                Way::Without(kept) => field.split('.').take(kept).collect(),
                _ => Vec::new(),
            };
            let cut = cut.join(".");
            let removed = match way {
                Way::Nearest => nearest
                    .is_some_and(|nearest| draft.set_text(field, nearest))
                    .then_some(None),
                Way::One => draft.set_one(field).then_some(None),
                Way::Ones(count) => draft.set_ones(field, count).then_some(None),
                Way::Without(kept) => draft
                    .remove(&cut)
                    .filter(|removed| kept == parts || *removed != Removed::Field)
                    .map(Some),
            };
            let (Some(removed), Ok(scene)) = (removed, draft.value()) else {
                continue;
            };
            self.gone.insert((original.clone(), way));
            match (way, nearest) {
                (Way::Nearest, Some(nearest)) => self.guessed.push(nearest.to_owned()),
                (Way::Without(_), _) => self.take_out(&cut, &original, removed),
                _ => {}
            }
            self.draft = draft;
            return Some(scene);
        }
        None
    }

    /// Remembers that the value at `cut` is going to be taken out, because of a fault at `fault` in the scene.
    fn take_out(&mut self, cut: &str, fault: &str, removed: Option<Removed>) {
        self.incomplete.insert(unit(fault).to_owned());
        self.unseen |= cut.starts_with("observation.");
        let mut parts = cut.split('.');
        if parts.next() == Some("elements") && parts.next().is_some() && parts.next().is_none() {
            let name = self.draft.text(&format!("{cut}.name"));
            self.elements.extend(name.map(str::to_owned));
        }
        if removed == Some(Removed::Item) {
            let original = self.original(cut);
            if let Some((list, Ok(place))) = original.rsplit_once('.').map(|(list, place)| (list, place.parse())) {
                self.removed.insert((list.to_owned(), place));
            }
        }
    }

    /// The path in the scene that was to be checked of one in the draft, from which items of lists are missing.
    fn original(&self, path: &str) -> String {
        let mut original = String::new();
        for part in path.split('.') {
            let place = part.parse::<usize>().ok().map(|mut place| {
                for (list, missing) in &self.removed {
                    // In ascending order.
                    if *list == original && *missing <= place {
                        place += 1;
                    }
                }
                place.to_string()
            });
            if !original.is_empty() {
                original.push('.');
            }
            original.push_str(place.as_deref().unwrap_or(part));
        }
        original
    }
}

/// The part of the scene that a path lies in: the item of the outermost list, or the value itself.
fn unit(path: &str) -> &str {
    let mut end = 0;
    for part in path.split('.') {
        end += part.len();
        if part.parse::<usize>().is_ok() {
            return path.get(..end).unwrap_or(path);
        }
        end += 1;
    }
    path
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::files::{FileKind, load_text};

    fn findings(text: &str) -> Vec<String> {
        let path = std::path::Path::new("test.ron");
        let scene: Scene = load_text(FileKind::Scene, path, text, &[]).unwrap().value;
        CompiledScene::check(&scene)
            .errors
            .iter()
            .map(SceneError::to_string)
            .collect()
    }

    #[test]
    fn a_sound_scene_is_compiled() {
        let findings = CompiledScene::check(&Scene::load("maze").unwrap());
        assert!(findings.errors.is_empty(), "{:?}", findings.errors);
        assert_eq!(findings.compiled.unwrap().observation_len(), 4);
    }

    #[test]
    fn independent_faults_are_all_found_and_told_once() {
        let found = findings(
            r#"(
                extends: "maze",
                physics: (frame_skip: 0),
                control: Motors(motors: [(actuator: "xx"), (actuator: "nothing like it"), (actuator: "y", scale: inf)], speed_limit: -1),
                observation: (terms: [Position(joints: ["x", "yy"], noise: [1, 2, 3]), Velocity(joints: ["wheel"]), Body(bodies: ["partikle"])]),
                reset: (positions: {"x": [1, 2], "door": [0]}),
                elements: [
                    (name: "goal", joints: ["x", "y"], threshold: -2),
                    (name: "far", joints: ["far away"], threshold: 1),
                    (name: "near", joints: ["x"], goal: [1, 2], threshold: 0),
                ],
                task: (elements: ["far", "gaol"], rewards: [Near(element: "near"), Near(element: "nowhere")]),
                episode: (steps: 0),
                cameras: [
                    (name: "a", look_at: (0, 0, 0), distance: 1, azimuth: 0, elevation: 0, width: 1, height: 1),
                    (name: "a", look_at: (0, 0, 0), distance: 1, azimuth: 0, elevation: 0, width: 1, height: 1),
                ],
            )"#,
        );
        let expected = [
            "physics.frame_skip: must",
            "episode.steps: must",
            "cameras.1.name: a second",
            "elements.0.threshold: must",
            "elements.1.joints.0: no joint is named \"far away\"",
            "elements.2.goal: has 2 numbers, the joints have 1",
            "elements.2.threshold: must",
            "task.elements.1: no element is named \"gaol\"; did you mean \"goal\"?",
            "observation.terms.0.joints.1: no joint is named \"yy\"",
            "observation.terms.0.noise: has 3",
            "observation.terms.1.joints.0: no joint is named \"wheel\"",
            "observation.terms.2.bodies.0: no body is named \"partikle\"; did you mean \"particle\"?",
            "control.motors.0.actuator: no actuator is named \"xx\"",
            "control.motors.1.actuator: no actuator is named \"nothing like it\"",
            "control.motors.2.scale: must",
            "control.speed_limit: must",
            "task.rewards.1.element: no element is named \"nowhere\"",
            "reset.positions.door: no joint",
            "reset.positions.x: has 2 numbers",
        ];
        for part in expected {
            assert!(
                found.iter().any(|found| found.starts_with(part)),
                "no `{part}` in {found:#?}"
            );
        }
        // The goal of an element that lost its joints is nobody's business.
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn without_a_model_the_rest_is_checked() {
        let found =
            findings(r#"(extends: "kitchen", physics: (model: "no/such.xml", frame_skip: 0), episode: (steps: 0))"#);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].contains("no/such.xml") && found[1].starts_with("physics.frame_skip"));
    }

    #[test]
    fn paths_are_those_of_the_scene() {
        let draft = Draft::of(&Scene::load("kitchen").unwrap()).unwrap();
        let mut mender = Mender::new(draft);
        for (list, place) in [("elements", 0), ("elements", 2), ("elements.3.joints", 1)] {
            mender.removed.insert((list.to_owned(), place));
        }
        for (path, original) in [
            ("elements.0.joints.1", "elements.1.joints.1"),
            ("elements.1.joints.1", "elements.3.joints.2"),
            ("elements.1.joints.0", "elements.3.joints.0"),
            ("task.elements.0", "task.elements.0"),
        ] {
            assert_eq!(mender.original(path), original);
        }
        assert_eq!(unit("elements.3.joints.0"), "elements.3");
        assert_eq!(unit("reset.positions.door"), "reset.positions.door");
    }
}
