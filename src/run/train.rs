//! Practice: agents act in many environments, learners learn from what they did, metrics and checkpoints are kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bevy::ecs::system::RunSystemOnce;
use bevy::prelude::*;

use super::problems::{check, check_in, no_skills, not_gaussian};
use super::skills::latest_files;
use super::{RunError, RunFolder, Settings, SkillFolder};
use crate::agents::{AgentPlugin, Behaviour, SkillDecoder, agent_bundle};
use crate::app::{self, Ended};
use crate::checkpoint::Checkpoints;
use crate::evaluate::{Evaluation, EvaluationPlugin, EvaluationSchedule, Measures};
use crate::experiment::{ActionSpace, Experiment, SkillModelConfig, TrainingConfig};
use crate::learners::sac::{Sac, SacDims};
use crate::metrics::MetricsWriter;
use crate::practice::{
    BEST, BestLearner, Budget, FixedSettings, LearnerCheckpoints, Practice, PracticePlugin, RecentEpisodes,
    RecentUpdates, Replays, SavedPractice, Seed, save_all_learners,
};
use crate::replay::ReplayBuffer;
use crate::reports::{Bars, ReportPlugin, Reporter, next_multiple, report_all_practice};
use crate::rng::{Purpose, stream};
use crate::scene::CompiledScene;
use crate::sim::{SimPlugin, spawn_environment};
use crate::skills::{GaussianNetwork, PixelDims, Primitive, SkillDims, SkillModel};
use crate::watch::{WatchPlugin, WorldLink};

/// What a learner's policy starts from and acts through.
#[derive(Clone)]
pub struct Foundations {
    /// Numbers in an observation of the scene.
    observation: usize,
    /// Turns skills into actions.
    pub skills: Arc<dyn SkillModel>,
    /// The prior over skills (or actions), if the experiment has a trained model and its prior is Gaussian.
    pub prior: Option<GaussianNetwork>,
    /// The folder it came from.
    pub folder: Option<PathBuf>,
    /// The settings of the trained model, as its folder has them.
    pub model: Option<SkillModelConfig>,
    /// The checksum of the trained model's weights.
    pub weights: Option<u32>,
}

/// What [`train`] needs besides the experiment.
pub struct TrainPlan<'a> {
    /// The trained skill model, or none for learners that start from scratch.
    pub skills: Option<PathBuf>,
    /// Where the run is kept.
    pub folder: &'a RunFolder,
    /// Whether learners go on from their checkpoints.
    pub resume: bool,
    /// The link to whoever watches.
    pub watch: Option<WorldLink>,
}

impl Foundations {
    /// Loads what the experiment's learner stands on and checks that it fits the scene.
    pub fn load(experiment: &Experiment, scene: &CompiledScene, skills: Option<PathBuf>) -> Result<Self, RunError> {
        let dims = dims_of(scene);
        let (mut prior, mut model_config, mut weights) = (None, None, None);
        let mut decoder: Option<Arc<dyn SkillModel>> = None;
        if let Some(path) = &skills {
            let (folder, saved) = SkillFolder::open(path)?;
            if !serves(&saved.dims(), &dims) {
                return Err(RunError::Experiment(format!(
                    "{}: the skill model is for {}; scene `{}` has {}",
                    path.display(),
                    saved.in_words(),
                    experiment.scene,
                    in_words(&dims)
                )));
            }
            if saved.model != experiment.skill_model {
                bevy::log::warn!(
                    "{}: the skill model there has other settings than the experiment; its own are used",
                    path.display()
                );
            }
            let model;
            (model, weights) = folder.load(&saved)?;
            prior = model.policy_prior().ok();
            decoder = model.into_skills();
            model_config = Some(saved.model);
        }
        let skills_of = match (experiment.acts_in, decoder) {
            (ActionSpace::Actions, _) => Arc::new(Primitive { dims }),
            (ActionSpace::Skills, Some(decoder)) => decoder,
            (ActionSpace::Skills, None) => return Err(RunError::Experiment(no_skills().to_string())),
        };
        Ok(Self {
            observation: dims.state,
            skills: skills_of,
            prior,
            folder: skills,
            model: model_config,
            weights,
        })
    }

    /// A learner that stands on this.
    pub fn learner(&self, experiment: &Experiment, seed: u64) -> Result<Sac, RunError> {
        if experiment.learner.needs_prior() && self.model.is_some() && self.prior.is_none() {
            return Err(RunError::Experiment(not_gaussian().to_string()));
        }
        let dims = SacDims {
            observation: self.observation,
            action: self.skills.space().width(),
        };
        let mut rng = stream(seed, Purpose::Weights, 1, 0);
        Ok(Sac::new(
            experiment.learner.clone(),
            dims,
            self.prior.as_ref(),
            &mut rng,
        )?)
    }

    /// Refuses a learner whose checkpoint stands on another skill model: what it has learned means nothing to this one.
    /// `way_out` is what the user can do. Checkpoints of earlier versions do not say what they stand on.
    pub(super) fn expect_same(
        &self,
        saved: Option<&FixedSettings>,
        learner: &Path,
        way_out: &str,
    ) -> Result<(), RunError> {
        if saved.is_none_or(|saved| saved.skill_model == self.weights) {
            return Ok(());
        }
        let model = match &self.folder {
            Some(folder) => format!("another skill model than {}", folder.display()),
            None => "a skill model, and there is none now".into(),
        };
        Err(RunError::Experiment(format!(
            "{}: this learner stands on {model}; {way_out}",
            learner.display()
        )))
    }
}

/// Sizes of what a skill model in this scene sees and does.
pub fn dims_of(scene: &CompiledScene) -> SkillDims {
    let pixels = scene.scene().observation.pixels.as_ref();
    SkillDims {
        state: scene.observation_len(),
        action: scene.action_len(),
        pixels: pixels.map(|pixels| PixelDims {
            frames: pixels.frames as usize,
            size: pixels.size as usize,
        }),
    }
}

/// Whether a skill model made for `model` can be used where `scene` is seen and done. One that sees pictures has no say
/// about the numbers.
pub(super) fn serves(model: &SkillDims, scene: &SkillDims) -> bool {
    let numbers = model.pixels.is_some() || model.state == scene.state;
    numbers && (model.action, model.pixels) == (scene.action, scene.pixels)
}

/// What is seen and done, in words.
pub(super) fn in_words(dims: &SkillDims) -> String {
    let seen = match dims.pixels {
        None => format!("{} observed numbers", dims.state),
        Some(PixelDims { frames, size }) => format!("pictures ({frames} of {size} x {size} pixels)"),
    };
    format!("{seen} and {} action numbers", dims.action)
}

/// Refuses changes of settings that a learner's checkpoint has fixed.
fn check_unchanged(then: &FixedSettings, now: &FixedSettings) -> Result<(), RunError> {
    let shown = |fixed: &FixedSettings| {
        [
            ("scene", fixed.scene.clone()),
            ("training.replay_capacity", fixed.replay_capacity.to_string()),
            ("training.warmup", fixed.warmup.to_string()),
            ("training.transitions", format!("{:?}", fixed.transitions)),
            ("learner.temperature", format!("{:?}", fixed.temperature)),
        ]
    };
    let mut both = shown(then).into_iter().zip(shown(now));
    match both.find(|(then, now)| then != now) {
        Some(((name, then), (_, now))) => Err(RunError::Experiment(format!(
            "{name} cannot change while a run goes on, here from {then} to {now}; begin another one for that"
        ))),
        None => Ok(()),
    }
}

/// The checkpoints of the learner with this seed.
pub(super) fn learner_checkpoints(folder: &RunFolder, seed: u64, config: &TrainingConfig) -> Checkpoints {
    RunFolder::learner_checkpoints(&folder.seed(seed), config.keep_checkpoints)
}

/// One of the runs that practise side by side.
pub struct Practising<'a> {
    /// What it is a run of.
    pub experiment: &'a Experiment,
    /// The trained skill model, or none for learners that start from scratch.
    pub skills: Option<PathBuf>,
    /// Where the run is kept.
    pub folder: &'a RunFolder,
    /// What its progress bars are called, before the seed.
    pub label: &'a str,
}

/// Practises until every seed has made its steps, or goes on from checkpoints. Returns how it ended.
pub fn train(experiment: &Experiment, plan: &TrainPlan, settings: &Settings) -> Result<Ended, RunError> {
    let run = Practising {
        experiment,
        skills: plan.skills.clone(),
        folder: plan.folder,
        label: "",
    };
    train_side_by_side(&[run], plan.resume, plan.watch.as_ref(), settings)
}

/// Practises with the learners of several runs in one world, as [`train`] does with those of one: each does what it would
/// do alone, to the last bit. The runs must be in the same scene.
pub fn train_side_by_side(
    runs: &[Practising],
    resume: bool,
    watch: Option<&WorldLink>,
    settings: &Settings,
) -> Result<Ended, RunError> {
    let Some((first, others)) = runs.split_first() else {
        return Ok(Ended::Finished);
    };
    let scene = check(first.experiment)?;
    for other in others {
        if !other.experiment.shares_scene(first.experiment) {
            let message = format!(
                "runs in one world share their scene; expected {}, found {}",
                first.experiment.scene, other.experiment.scene
            );
            return Err(RunError::Experiment(message));
        }
        check_in(other.experiment, &scene)?;
    }
    let measures = Measures::of(&scene);
    let mut foundations = Vec::new();
    for run in runs {
        foundations.push(Foundations::load(run.experiment, &scene, run.skills.clone())?);
        if let Some(skills) = &run.skills {
            run.folder.expect_skills(skills)?;
        }
    }

    let mut app = app::headless(settings.threads, settings.stop.clone());
    app.add_plugins((SimPlugin, AgentPlugin, PracticePlugin, EvaluationPlugin, ReportPlugin));
    if let Some(link) = watch {
        app.add_plugins(WatchPlugin { link: link.clone() });
    }
    let world = app.world_mut();
    world.insert_resource(measures);
    let scene = world.spawn(scene).id();
    let mut learners = Vec::new();
    let mut practising = Vec::new();
    for (run, foundations) in runs.iter().zip(&foundations) {
        let before = learners.len();
        for &seed in &run.experiment.seeds {
            learners.extend(spawn_learner(world, run, resume, watch, foundations, scene, seed)?);
        }
        practising.push(learners.len() > before);
    }
    // Not before every checkpoint has turned out to fit.
    for ((run, foundations), practises) in runs.iter().zip(&foundations).zip(practising) {
        run.note(foundations, practises)?;
    }
    if learners.is_empty() {
        return Ok(Ended::Finished);
    }

    let ended = app::run(&mut app, |world| {
        learners.iter().all(|&learner| world.get_entity(learner).is_err())
    });
    let world = app.world_mut();
    world.resource_mut::<Bars>().finish();
    // After an error the last checkpoint is the one to trust.
    let ended = ended.map_err(RunError::Tick)?;
    let reported = world
        .run_system_once(report_all_practice)
        .map_err(|error| RunError::Tick(error.to_string()))?;
    save_all_learners(world)?;
    reported?;
    Ok(ended)
}

impl Practising<'_> {
    /// Notes in its folder what the run stands on, and if it has learners that practise its settings, with the model that
    /// is really used.
    fn note(&self, foundations: &Foundations, practises: bool) -> Result<(), RunError> {
        if let Some(skills) = &self.skills {
            self.folder.note_skills(skills)?;
        }
        if practises {
            let mut used = self.experiment.clone();
            used.skill_model = foundations.model.clone().unwrap_or(used.skill_model);
            self.folder.note_settings(&used)?;
        }
        Ok(())
    }
}

/// Spawns a learner with its agents, from its checkpoint if practice goes on; `None` if its steps are made already.
fn spawn_learner(
    world: &mut World,
    run: &Practising,
    resume: bool,
    watch: Option<&WorldLink>,
    foundations: &Foundations,
    scene: Entity,
    seed: u64,
) -> Result<Option<Entity>, RunError> {
    let experiment = run.experiment;
    let config = &experiment.training;
    let root = run.folder.seed(seed);
    let folder = learner_checkpoints(run.folder, seed, config);
    let compute = experiment.device.open().map_err(RunError::Experiment)?;
    let mut sac = foundations.learner(experiment, seed)?.computed_by(compute)?;
    let dims = sac.dims();
    let mut practice = Practice::new(config, seed);
    let mut buffer = match sac.pixels() {
        None => ReplayBuffer::new(config.replay_capacity, dims.observation, dims.action)?,
        Some(pixels) => ReplayBuffer::with_pixels(config.replay_capacity, dims.observation, dims.action, pixels)?,
    };
    if sac.keeps_prior() {
        buffer = buffer.with_prior()?;
    }
    let fixed = FixedSettings::new(experiment, foundations.weights);
    let (mut evaluations, mut evaluating, mut next_evaluation, mut agents) = (0, false, None, Vec::new());
    let (mut saved_at, mut last, mut best) = (None, None, BestLearner::default());
    let mut under_way = None;
    if resume && let Some(checkpoint) = latest_files::<SavedPractice>(&folder, &|file| file != BEST)? {
        let saved = checkpoint.state.fixed.as_ref();
        saved.map_or(Ok(()), |saved| check_unchanged(saved, &fixed))?;
        foundations.expect_same(saved, &root, "give that one (--skills) or begin another run")?;
        folder.tidy(&checkpoint.path)?;
        sac.import(checkpoint.file("learner")?)?;
        best = BestLearner::of(&checkpoint);
        buffer = ReplayBuffer::import(&checkpoint.tensors)?;
        if sac.keeps_prior() {
            buffer = buffer.with_prior()?;
        }
        // Blocks of a buffer whose prior must be asked again are others than those on the disk.
        last = buffer
            .waiting()
            .is_empty()
            .then(|| (checkpoint.path.clone(), buffer.stored()));
        practice = checkpoint.state.practice.with_rates(config);
        SavedPractice {
            evaluations,
            evaluating,
            evaluation: under_way,
            next_evaluation,
            agents,
            ..
        } = checkpoint.state;
        saved_at = Some(0);
    }
    let steps = practice.steps;
    if saved_at.is_some() && steps >= config.steps {
        if steps > config.steps {
            bevy::log::warn!("seed {seed} has practised {steps} steps already, more than training.steps");
        }
        return Ok(None);
    }
    // Metrics without a checkpoint are those of a run that ended before its first one; they are cut to nothing.
    let mut writer = if resume {
        MetricsWriter::resume(&root, steps)?
    } else {
        MetricsWriter::create(&root)?
    };
    if let Some(link) = watch {
        writer.tell(seed, link.metrics.clone());
    }

    let bar = world
        .resource_mut::<Bars>()
        .add(&format!("{}seed {seed}", run.label), steps, config.steps, "steps");
    let replay = world.spawn(buffer).id();
    let every = experiment.evaluation.every;
    // One that had to wait for the one under way is still due, unless they were switched off since.
    let overdue = next_evaluation.filter(|next| every > 0 && *next <= steps);
    let under_way = under_way.filter(|_| every > 0);
    let learner = world
        .spawn((
            Name::new(format!("learner, {}seed {seed}", run.label)),
            (
                Seed(seed),
                sac,
                practice,
                Replays(replay),
                SkillDecoder(foundations.skills.clone()),
                fixed,
            ),
            (
                RecentEpisodes::default(),
                RecentUpdates::default(),
                Evaluation::default(),
                best,
            ),
            EvaluationSchedule {
                scene,
                episodes: experiment.evaluation.episodes,
                every,
                next: overdue.unwrap_or_else(|| next_multiple(steps, every)),
                again: evaluating && under_way.is_none() && every > 0,
                begun: evaluations + usize::from(under_way.is_some()),
            },
            LearnerCheckpoints {
                folder,
                every: config.checkpoint_every,
                next: next_multiple(steps, config.checkpoint_every),
                saved_at,
                last,
            },
            Budget(config.steps),
            Reporter::new(writer, bar, config.report_every, steps),
        ))
        .id();
    for slot in 0..experiment.environments {
        let environment = spawn_environment(world, scene, slot, seed)?;
        let stream = stream(seed, Purpose::Policy, slot as u64, steps);
        let agent = agent_bundle(environment, learner, Behaviour::Practises, config.transitions, stream);
        let agent = world.spawn(agent).id();
        if let Some(state) = agents.get(slot) {
            state.restore(world, agent)?;
        }
    }
    if let Some(under_way) = under_way {
        under_way.resume(world, learner, scene)?;
    }
    Ok(Some(learner))
}
