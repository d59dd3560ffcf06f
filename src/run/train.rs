//! Practice: agents act in many environments, learners learn from what they did, metrics and checkpoints are kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bevy::ecs::system::RunSystemOnce;
use bevy::prelude::*;

use super::skills::latest;
use super::{RunError, RunFolder, Settings, SkillFolder};
use crate::agents::{AgentPlugin, Behaviour, SkillDecoder, agent_bundle};
use crate::app::{self, Ended};
use crate::checkpoint::Checkpoints;
use crate::evaluate::{Evaluation, EvaluationPlugin, EvaluationSchedule, Measures};
use crate::experiment::{ActionSpace, Experiment, SkillModelConfig, TrainingConfig};
use crate::files;
use crate::learners::sac::{Sac, SacDims};
use crate::learners::skill_recorder::TransitionRule;
use crate::metrics::MetricsWriter;
use crate::nn::Norm;
use crate::practice::{
    Budget, FixedSettings, LearnerCheckpoints, Practice, PracticePlugin, RecentEpisodes, RecentUpdates, Replays,
    SavedPractice, Seed, save_all_learners,
};
use crate::replay::ReplayBuffer;
use crate::reports::{Bars, ReportPlugin, Reporter, next_multiple, report_all_practice};
use crate::rng::{Purpose, stream};
use crate::scene::CompiledScene;
use crate::sim::{SimPlugin, spawn_environment};
use crate::skills::{GaussianNetwork, PixelDims, Primitive, SkillDims, SkillModel, Standardiser};
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
            (ActionSpace::Skills, None) => return Err(no_skills()),
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
            return Err(not_gaussian());
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

fn not_gaussian() -> RunError {
    RunError::Experiment(
        "this learner starts from the prior or stays close to it, and only a Gaussian prior can be used as a policy \
         (skill_model.prior: Gauss)"
            .into(),
    )
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

/// The scene of an experiment, compiled.
pub fn load_scene(experiment: &Experiment) -> Result<CompiledScene, RunError> {
    Ok(CompiledScene::load(&experiment.scene, &[])?)
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

/// Practises until every seed has made its steps, or goes on from checkpoints. Returns how it ended.
pub fn train(experiment: &Experiment, plan: &TrainPlan, settings: &Settings) -> Result<Ended, RunError> {
    let scene = check(experiment)?;
    let measures = Measures::of(&scene);
    let foundations = Foundations::load(experiment, &scene, plan.skills.clone())?;
    if let Some(skills) = &plan.skills {
        plan.folder.expect_skills(skills)?;
    }

    let mut app = app::headless(settings.threads, settings.stop.clone());
    app.add_plugins((SimPlugin, AgentPlugin, PracticePlugin, EvaluationPlugin, ReportPlugin));
    if let Some(link) = &plan.watch {
        app.add_plugins(WatchPlugin { link: link.clone() });
    }
    let world = app.world_mut();
    world.insert_resource(measures);
    let scene = world.spawn(scene).id();
    let mut learners = Vec::new();
    for &seed in &experiment.seeds {
        learners.extend(spawn_learner(world, experiment, plan, &foundations, scene, seed)?);
    }
    // Not before every checkpoint has turned out to fit; with the model that is really used.
    if let Some(skills) = &plan.skills {
        plan.folder.note_skills(skills)?;
    }
    if learners.is_empty() {
        return Ok(Ended::Finished);
    }
    let mut used = experiment.clone();
    used.skill_model = foundations.model.clone().unwrap_or(used.skill_model);
    plan.folder.note_experiment(&files::to_text(&used)?)?;

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

/// Finds settings of practice that cannot be used, before anything is made or trained. Returns the scene.
pub fn check(experiment: &Experiment) -> Result<CompiledScene, RunError> {
    if experiment.environments == 0 || experiment.seeds.is_empty() {
        return Err(RunError::Experiment(
            "expected at least one environment and one seed".into(),
        ));
    }
    let mut seen = BTreeSet::new();
    if let Some(seed) = experiment.seeds.iter().find(|seed| !seen.insert(**seed)) {
        return Err(RunError::Experiment(format!(
            "seeds: expected different ones, found {seed} twice"
        )));
    }
    experiment.learner.validate()?;
    let budgets = (experiment.pretraining.validate())
        .and_then(|()| experiment.training.validate())
        .and_then(|()| experiment.evaluation.validate());
    budgets.map_err(RunError::Experiment)?;
    let scene = load_scene(experiment)?;
    check_model(experiment, &scene)?;
    Ok(scene)
}

/// Finds out whether the experiment's skill model can be made and trained, and serves its learner.
fn check_model(experiment: &Experiment, scene: &CompiledScene) -> Result<(), RunError> {
    if experiment.acts_in == ActionSpace::Actions && experiment.training.transitions == TransitionRule::Original {
        let message = "training.transitions: Original is a rule for skills, and would store single actions (acts_in: \
                       Actions) with states they were not taken in; expected Aligned";
        return Err(RunError::Experiment(message.into()));
    }
    if let SkillModelConfig::Spirl(config) = &experiment.skill_model
        && config.freeze_embedding
    {
        let message = "skill_model.freeze_embedding: an experiment trains its model from the start, and a posterior \
                       that never learned is of no use; expected false";
        return Err(RunError::Experiment(message.into()));
    }
    let dims = dims_of(scene);
    let standardiser = || Standardiser::new(&vec![0.0; dims.state], &vec![1.0; dims.state]);
    let mut weights = stream(0, Purpose::Weights, 0, 0);
    let Some(model) = experiment.skill_model.build(dims, standardiser, &mut weights, 1)? else {
        return match experiment.acts_in {
            ActionSpace::Actions => Ok(()),
            ActionSpace::Skills => Err(no_skills()),
        };
    };
    check_batch(&experiment.skill_model, experiment.pretraining.batch)?;
    if experiment.learner.needs_prior() && model.policy_prior().is_err() {
        return Err(not_gaussian());
    }
    if experiment.acts_in == ActionSpace::Actions && matches!(experiment.skill_model, SkillModelConfig::Spirl(_)) {
        let message = "acts_in: Actions needs a model of actions (skill_model: Bc) or none; found Spirl";
        return Err(RunError::Experiment(message.into()));
    }
    if experiment.acts_in == ActionSpace::Skills && model.into_skills().is_none() {
        return Err(no_skills());
    }
    Ok(())
}

/// Finds out whether every network of the skill model sees enough of a batch to learn from it.
fn check_batch(model: &SkillModelConfig, batch: usize) -> Result<(), RunError> {
    let (norm, members) = match model {
        SkillModelConfig::None => return Ok(()),
        SkillModelConfig::Spirl(config) => (config.norm, config.prior_members.max(1)),
        SkillModelConfig::Bc(config) => (config.norm, 1),
    };
    let least = if norm == Norm::Batch { 2 } else { 1 };
    // As `Spirl::pass` cuts a batch: all parts but the last are equal.
    let part = batch.div_ceil(members);
    let last = batch.saturating_sub(part.saturating_mul(members - 1));
    if last >= least {
        return Ok(());
    }
    Err(RunError::Experiment(if members == 1 {
        format!(
            "pretraining.batch: expected at least {least}, because batch normalisation (skill_model.norm) needs means \
             over a batch; found {batch}"
        )
    } else {
        format!(
            "pretraining.batch: {batch} sequences cannot be shared out so that each of {members} priors \
             (skill_model.prior_members) gets at least {least}; {} can",
            part.max(least).saturating_mul(members)
        )
    }))
}

fn no_skills() -> RunError {
    RunError::Experiment(
        "this experiment acts in skills (acts_in: Skills) and needs a trained model of skills (skill_model: Spirl)"
            .into(),
    )
}

/// Spawns a learner with its agents, from its checkpoint if practice goes on; `None` if its steps are made already.
fn spawn_learner(
    world: &mut World,
    experiment: &Experiment,
    plan: &TrainPlan,
    foundations: &Foundations,
    scene: Entity,
    seed: u64,
) -> Result<Option<Entity>, RunError> {
    let config = &experiment.training;
    let root = plan.folder.seed(seed);
    let folder = learner_checkpoints(plan.folder, seed, config);
    let mut sac = foundations.learner(experiment, seed)?;
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
    let (mut saved_at, mut last) = (None, None);
    if plan.resume
        && let Some(checkpoint) = latest::<SavedPractice>(&folder)?
    {
        let saved = checkpoint.state.fixed.as_ref();
        saved.map_or(Ok(()), |saved| check_unchanged(saved, &fixed))?;
        foundations.expect_same(saved, &root, "give that one (--skills) or begin another run")?;
        sac.import(checkpoint.file("learner")?)?;
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
    let mut writer = if plan.resume {
        MetricsWriter::resume(&root, steps)?
    } else {
        MetricsWriter::create(&root)?
    };
    if let Some(link) = &plan.watch {
        writer.tell(seed, link.metrics.clone());
    }

    let bar = world
        .resource_mut::<Bars>()
        .add(&format!("seed {seed}"), steps, config.steps, "steps");
    let replay = world.spawn(buffer).id();
    let every = experiment.evaluation.every;
    // One that had to wait for the one under way is still due, unless they were switched off since.
    let overdue = every > 0 && next_evaluation.is_some_and(|next| next <= steps);
    let learner = world
        .spawn((
            Name::new(format!("learner, seed {seed}")),
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
            ),
            EvaluationSchedule {
                scene,
                episodes: experiment.evaluation.episodes,
                every,
                next: if overdue { steps } else { next_multiple(steps, every) },
                again: evaluating && every > 0,
                begun: evaluations,
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
    Ok(Some(learner))
}
