//! What is wrong with an experiment, and what it comes to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::collect::{collection_note, other_sizes};
use super::pretrain::check_sizes;
use super::problems::problems_in;
use super::train::dims_of;
use super::{RunError, check_scene, in_scene, load_scene};
use crate::data::{Dataset, ReadOptions};
use crate::experiment::{ActionSpace, DatasetConfig, Experiment, Problem, SkillModelConfig};
use crate::files::{self, Checked, FileKind};
use crate::learners::sac::{Sac, SacDims};
use crate::replay::transition_bytes;
use crate::rng::{Purpose, stream};
use crate::scene::{CompiledScene, Scene};
use crate::skills::{GaussianNetwork, Standardiser};

/// What [`Examiner::examine`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// What is wrong: faults of the experiment in the order of files and lines, then those of its scene.
    pub errors: Vec<String>,
    /// What is good to know.
    pub notes: Vec<String>,
}

/// Examines experiments one after another without reading demonstrations twice.
#[derive(Debug, Default)]
pub struct Examiner {
    /// What keeps the demonstrations of a file from being used in a scene and with a split, if anything does.
    read: BTreeMap<(PathBuf, String, String), Option<String>>,
}

impl Examiner {
    /// Finds everything that is wrong with an experiment (a name in `configs/` or a path) with `overrides` laid over it:
    /// what its file says, settings that do not go together, its scene, its demonstrations, its short form.
    pub fn examine(&mut self, name: &str, overrides: &[String]) -> Examined {
        examine(name, overrides, self)
    }

    /// Why demonstrations that are there cannot be used, as `apprentice pretrain` would say it.
    fn unusable(&mut self, experiment: &Experiment, path: &Path) -> Option<String> {
        let split = experiment.pretraining.split;
        let key = (path.to_path_buf(), experiment.scene.clone(), format!("{split:?}"));
        if let Some(known) = self.read.get(&key) {
            return known.clone();
        }
        let check = || -> Result<(), RunError> {
            let scene = load_scene(experiment)?;
            let options = ReadOptions {
                image_memory: 0,
                ..ReadOptions::default()
            };
            let dataset = Dataset::read_with(path, &options)?;
            check_sizes(&experiment.scene, &scene, &dataset)?;
            split.apply(dataset.sequences().len())?;
            Ok(())
        };
        let found = check().err().map(|error| error.to_string());
        self.read.insert(key, found.clone());
        found
    }
}

fn examine(name: &str, overrides: &[String], examiner: &mut Examiner) -> Examined {
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
    demonstrations(&mut checked, &experiment, overrides, examiner, &mut found.notes);
    short_form(&mut checked, name, overrides, &experiment);
    if checked.errors.is_empty() {
        found.notes.extend(memory_note(&experiment));
    }
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
fn demonstrations(
    checked: &mut Checked<Experiment>,
    experiment: &Experiment,
    overrides: &[String],
    examiner: &mut Examiner,
    notes: &mut Vec<String>,
) {
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
        _ if !checked.is_sound("dataset.path") || !checked.is_sound("dataset.collect") => {}
        _ if path.exists() => {
            let sound = checked.is_sound("scene") && check_scene(&experiment.scene, &[]).errors.is_empty();
            if sound && let Some(message) = examiner.unusable(experiment, path) {
                checked.report("dataset.path", message);
            }
        }
        Some(_) => notes.extend(collection_note(experiment, overrides)),
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
    match load(&fitting) {
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

/// What to say if the replay buffers of all seeds can become larger than the memory of this machine.
pub fn memory_note(experiment: &Experiment) -> Option<String> {
    let memory = memory()?;
    let dims = dims_of(&load_scene(experiment).ok()?);
    let (chosen, length) = match (experiment.acts_in, &experiment.skill_model) {
        (ActionSpace::Skills, SkillModelConfig::Spirl(config)) => (config.latent, config.length.max(1)),
        _ => (dims.action, 1),
    };
    let training = &experiment.training;
    let practised = training.steps.div_ceil(length as u64);
    let held = (training.replay_capacity as u64).min(training.warmup.saturating_add(practised));
    let each = held.saturating_mul(transition_bytes(dims.state, chosen, dims.pixels, false) as u64);
    let all = each.saturating_mul(experiment.seeds.len() as u64);
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    (all > memory).then(|| {
        format!(
            "the replay buffers of all seeds come to {:.1} GB (training.replay_capacity), and this machine has {:.1} GB of \
             memory",
            gigabytes(all),
            gigabytes(memory)
        )
    })
}

/// Bytes of memory of this machine, or of what it lends to this process; `None` where the system does not say.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let machine = line
        .split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()?
        .saturating_mul(1024);
    let lent = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let lent = lent.and_then(|text| text.trim().parse().ok());
    Some(lent.map_or(machine, |lent: u64| lent.min(machine)))
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
