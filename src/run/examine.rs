//! What is wrong with an experiment, and what it comes to.

use std::collections::BTreeMap;

use super::collect::other_sizes;
use super::problems::problems_in;
use super::train::dims_of;
use super::{RunError, check_scene, in_scene, load_scene};
use crate::experiment::{ActionSpace, DatasetConfig, Experiment, Problem, SkillModelConfig};
use crate::files::{self, Checked, FileKind};
use crate::learners::sac::{Sac, SacDims};
use crate::replay::transition_bytes;
use crate::rng::{Purpose, stream};
use crate::scene::{CompiledScene, Scene};
use crate::skills::{GaussianNetwork, Standardiser};

/// What [`examine`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// What is wrong: faults of the experiment in the order of files and lines, then those of its scene.
    pub errors: Vec<String>,
    /// What is good to know.
    pub notes: Vec<String>,
}

/// Finds everything that is wrong with an experiment (a name in `configs/` or a path) with `overrides` laid over it:
/// what its file says, settings that do not go together, its scene, its demonstrations, its short form.
pub fn examine(name: &str, overrides: &[String]) -> Examined {
    let mut checked = files::check::<Experiment>(FileKind::Experiment, name, overrides);
    let mut found = Examined::default();
    let Some(experiment) = checked.loaded.as_ref().map(|loaded| loaded.value.clone()) else {
        found.errors = texts(checked);
        return found;
    };
    // What one file says makes no experiment without the others.
    if checked.lacks_parent {
        found.errors = texts(checked);
        return found;
    }
    report_all(&mut checked, experiment.problems());
    let mut of_scene = Vec::new();
    if checked.is_sound("scene") {
        of_scene = check_scene(&experiment.scene, &[]).errors;
        match of_scene.as_slice() {
            [] => {
                if let Ok(scene) = load_scene(&experiment) {
                    report_all(&mut checked, problems_in(&experiment, &scene));
                }
            }
            // There is nothing to be checked.
            [message] if message.starts_with("no scene `") => {
                checked.report("scene", message.as_str());
                of_scene.clear();
            }
            _ => {}
        }
    }
    demonstrations(&mut checked, &experiment, &mut found.notes);
    short_form(&mut checked, name, overrides, &experiment);
    found.errors = texts(checked);
    found.errors.extend(of_scene);
    found
}

fn texts(checked: Checked<Experiment>) -> Vec<String> {
    checked.into_errors().iter().map(ToString::to_string).collect()
}

/// Reports problems, unless they come of something that is known to be wrong.
fn report_all(checked: &mut Checked<Experiment>, problems: Vec<Problem>) {
    for problem in problems {
        if problem.because_of.iter().all(|path| checked.is_sound(path)) {
            checked.report(&problem.field, problem.to_string());
        }
    }
}

/// Whether there are demonstrations to learn from, or can be.
fn demonstrations(checked: &mut Checked<Experiment>, experiment: &Experiment, notes: &mut Vec<String>) {
    if experiment.skill_model == SkillModelConfig::None || !checked.is_sound("skill_model") {
        return;
    }
    let Some(dataset) = &experiment.dataset else {
        if checked.is_sound("dataset") {
            notes.push(
                "there are no demonstrations (dataset) to train the skill model from; it must be named with --skills"
                    .into(),
            );
        }
        return;
    };
    let DatasetConfig { path, collect, .. } = dataset;
    match collect {
        _ if !checked.is_sound("dataset.path") || !checked.is_sound("dataset.collect") || path.exists() => {}
        Some(config) => notes.push(format!(
            "{}: not there yet; {} demonstrations are collected when they are needed",
            path.display(),
            config.episodes
        )),
        None => {
            let message = "no such file, and the experiment does not say how to collect it (dataset.collect)";
            checked.report("dataset.path", format!("{}: {message}", path.display()));
        }
    }
    if let Some(config) = collect
        && checked.is_sound("dataset.collect")
        && checked.is_sound("scene")
    {
        if config.episodes == 0 {
            checked.report(
                "dataset.collect.episodes",
                "expected at least one demonstration, found 0",
            );
        }
        let name = in_scene(config, experiment).scene.unwrap_or_default();
        match Scene::load(&name) {
            // A fault of the experiment's own scene is reported as such.
            Err(error) if config.scene.is_some() => checked.report("dataset.collect.scene", error.to_string()),
            Err(_) => {}
            Ok(scene) => {
                let own = CompiledScene::load(&experiment.scene, &[]).ok();
                if let Some(problem) = own.and_then(|own| other_sizes(config, experiment, &own)) {
                    checked.report(&problem.field, problem.message);
                } else if let Err(error) = config.demonstrator(&scene) {
                    checked.report("dataset.collect", error.to_string());
                }
            }
        }
    }
}

/// Whether the overrides of the short form fit the experiment, and can be used together.
fn short_form(checked: &mut Checked<Experiment>, name: &str, overrides: &[String], experiment: &Experiment) {
    if !checked.errors.is_empty() || experiment.quick.is_empty() {
        return;
    }
    let load = |quick: &[String]| Experiment::load(name, &[overrides, quick].concat());
    // One after another: what one of them names, the next one may change.
    let mut fitting = Vec::new();
    for (number, text) in experiment.quick.iter().enumerate() {
        fitting.push(text.clone());
        if let Err(error) = load(&fitting) {
            fitting.pop();
            checked.report(&format!("quick.{number}"), error.to_string());
        }
    }
    if fitting.len() < experiment.quick.len() {
        return;
    }
    match load(&experiment.quick) {
        Err(error) => checked.report("quick", error.to_string()),
        Ok(quick) => {
            let mut problems = quick.value.problems();
            if let Ok(scene) = load_scene(&quick.value) {
                problems.extend(problems_in(&quick.value, &scene));
            }
            for problem in problems {
                checked.report("quick", format!("in the short form, {problem}"));
            }
        }
    }
}

/// What an experiment comes to, in numbers that its file does not say.
#[derive(Debug, Clone, PartialEq)]
pub struct Extent {
    /// Numbers in an observation.
    pub observation: usize,
    /// Numbers in an action.
    pub action: usize,
    /// Numbers in what the policy chooses: a skill or an action.
    pub chosen: usize,
    /// Control steps for which that is held.
    pub length: usize,
    /// Length of a control step, s.
    pub period: f64,
    /// Weights of the skill model, its prior included.
    pub skill_weights: usize,
    /// Weights of the policy.
    pub policy_weights: usize,
    /// Weights of one of the two critics.
    pub critic_weights: usize,
    /// Transitions of one seed, the warm-up included, if no episode ends within a skill.
    pub transitions: u64,
    /// Gradient updates of one seed.
    pub updates: f64,
    /// Most bytes of one seed's replay buffer.
    pub replay_bytes: u64,
}

impl Extent {
    /// That of an experiment.
    ///
    /// # Errors
    /// As [`check`](super::check()).
    pub fn of(experiment: &Experiment) -> Result<Self, RunError> {
        let scene = super::check(experiment)?;
        let dims = dims_of(&scene);
        let standardiser = || Standardiser::new(&vec![0.0; dims.state], &vec![1.0; dims.state]);
        let mut rng = stream(0, Purpose::Weights, 0, 0);
        let model = experiment.skill_model.build(dims, standardiser, &mut rng, 1)?;
        let weights = |tensors: &BTreeMap<String, candle_core::Tensor>, of: &str| {
            let counted = tensors.iter().filter(|(name, _)| name.starts_with(of));
            counted.map(|(_, tensor)| tensor.elem_count()).sum()
        };
        let (mut skill_weights, mut prior) = (0, None::<GaussianNetwork>);
        let (mut chosen, mut length) = (dims.action, 1);
        if let Some(model) = model {
            skill_weights = weights(&model.export()?, "");
            prior = model.policy_prior().ok();
            if experiment.acts_in == ActionSpace::Skills
                && let Some(skills) = model.into_skills()
            {
                chosen = skills.space().width();
                length = skills.lengths().first().copied().unwrap_or(1).max(1);
            }
        }
        let sizes = SacDims {
            observation: dims.state,
            action: chosen,
        };
        let learner = Sac::new(experiment.learner.clone(), sizes, prior.as_ref(), &mut rng)?;
        let tensors = learner.export()?;
        let config = &experiment.training;
        let practised = config.steps.div_ceil(length as u64);
        let SacDims { observation, action } = learner.dims();
        let held = (config.replay_capacity as u64).min(config.warmup.saturating_add(practised));
        Ok(Self {
            observation: dims.state,
            action: dims.action,
            chosen,
            length,
            period: scene.period(),
            skill_weights,
            policy_weights: weights(&tensors, "policy."),
            critic_weights: weights(&tensors, "critics.0."),
            transitions: config.warmup.saturating_add(practised),
            updates: practised as f64 * config.updates_per_transition,
            replay_bytes: held.saturating_mul(transition_bytes(
                observation,
                action,
                learner.pixels(),
                learner.keeps_prior(),
            ) as u64),
        })
    }
}
