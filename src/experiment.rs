//! Experiment files: what is learned, from what, where and for how long.
//!
//! `configs/NAME.ron` holds one [`Experiment`]. A file may extend another one (`extends: "kitchen/spirl_cl"`), and any
//! value can be overridden on the command line (`learner.discount=0.97`). See [`crate::files`].

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::data::{ReadOptions, Split};
use crate::demos::CollectConfig;
use crate::files::{self, FileError, FileKind, Loaded};
use crate::learners::sac::SacConfig;
use crate::learners::skill_recorder::TransitionRule;
use crate::nn::Compute;
use crate::pretraining::Pretrain;
use crate::rng::Stream;
use crate::scene::fields;
use crate::skills::{Bc, BcConfig, SkillDims, SkillError, Spirl, SpirlConfig, Standardiser};

/// One experiment: scene, demonstrations, skill model, learner, budgets and seeds.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// What it is, in a line, for lists.
    #[serde(default)]
    pub description: String,
    /// The scene in which the agents practise: a name below `scenes/` or a path.
    pub scene: String,
    /// Demonstrations from which the skill model learns.
    #[serde(default)]
    pub dataset: Option<DatasetConfig>,
    /// What is learned from the demonstrations before any practice.
    #[serde(default)]
    pub skill_model: SkillModelConfig,
    /// How the skill model is trained.
    #[serde(default)]
    pub pretraining: PretrainingConfig,
    /// Whether the policy chooses skills or single actions.
    #[serde(default)]
    pub acts_in: ActionSpace,
    /// The online algorithm.
    #[serde(default)]
    pub learner: SacConfig,
    /// Budgets and parallelism of practice.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Evaluation during and after practice.
    #[serde(default)]
    pub evaluation: EvaluationConfig,
    /// What computes the updates of skill models and learners.
    #[serde(default)]
    pub device: LearningDevice,
    /// Parallel environments of each seed.
    #[serde(default = "eight")]
    pub environments: usize,
    /// One learner per seed; all of them practise side by side in one world.
    #[serde(default = "seed_zero")]
    pub seeds: Vec<u64>,
    /// Overrides that make a short form of this experiment (`--quick`).
    #[serde(default)]
    pub quick: Vec<String>,
    /// The scene as the run keeps it that this is the experiment of; never part of a file.
    #[serde(skip)]
    pub kept_scene: Option<KeptScene>,
}

/// A scene that is read in the place of the one that an experiment names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptScene {
    /// The file.
    pub file: PathBuf,
    /// Its text.
    pub text: Arc<str>,
}

/// Demonstrations: an HDF5 file, and how to make it when it is not there.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// The file, D4RL layout, relative to the current folder.
    pub path: PathBuf,
    /// The scripted demonstrator that makes it. Absent for human data.
    #[serde(default)]
    pub collect: Option<CollectConfig>,
    /// Stored pictures are kept in memory up to this many bytes; of more, windows are read from the disk.
    #[serde(default = "image_memory")]
    pub image_memory: u64,
}

fn image_memory() -> u64 {
    ReadOptions::default().image_memory
}

/// What computes the updates of skill models and learners. Skills are decoded on the CPU whatever it is; a run may go on
/// (`--resume`) on another device, with the same results to rounding only.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename = "device", rename_all = "lowercase")]
pub enum LearningDevice {
    /// The fused passes of this program on the CPU.
    #[default]
    Cpu,
    /// The first NVIDIA graphics processor that CUDA shows (`CUDA_VISIBLE_DEVICES`), with candle's own operations; for
    /// programs built with `--features cuda`.
    Cuda,
    /// candle's own operations on the CPU, two to eight times slower than the fused passes: the computation of `cuda`
    /// without a graphics processor, to check it.
    Candle,
}

impl LearningDevice {
    /// Opens it.
    ///
    /// # Errors
    /// There is none, or the program was built without it.
    pub fn open(self) -> Result<Compute, String> {
        match self {
            Self::Cpu => Ok(Compute::Fused),
            Self::Candle => Ok(Compute::Composed(Device::Cpu)),
            Self::Cuda => self.ready().and_then(|()| {
                Device::new_cuda(0).map(Compute::Composed).map_err(|error| {
                    // Where backtraces are asked for, candle's errors have one in their text.
                    let said = error.to_string();
                    let said = said.lines().next().unwrap_or_default();
                    format!(
                        "device: cuda: no NVIDIA graphics processor could be opened ({said}); `device=cpu` needs none"
                    )
                })
            }),
        }
    }

    /// Whether this program was built with it.
    ///
    /// # Errors
    /// It was not; the text says how it is.
    pub fn ready(self) -> Result<(), String> {
        if self != Self::Cuda || cfg!(feature = "cuda") {
            return Ok(());
        }
        Err(
            "device: cuda needs a program that was built with it (`make build CUDA=1` or `cargo build --features cuda`, \
             with the compiler of the CUDA toolkit); `device=cpu` learns without"
                .into(),
        )
    }
}

/// The model that is learned from demonstrations.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub enum SkillModelConfig {
    /// Nothing: the learner starts from scratch and acts in single actions.
    #[default]
    None,
    /// SPiRL: a latent skill space with a learned skill prior.
    Spirl(SpirlConfig),
    /// A Gaussian over single actions: the flat prior, which is behaviour cloning as well.
    Bc(BcConfig),
}

/// Larger batches are a slip: all of one is in memory at once, several times.
pub const MOST_IN_A_BATCH: usize = 1 << 20;

/// Budget of skill-model training.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainingConfig {
    /// Gradient updates. Published: 480 000 (closed loop), 192 000 (open loop), 1.06 M (flat), on human data.
    pub updates: u64,
    /// Sub-sequences in a batch.
    pub batch: usize,
    /// Share of the updates after which the learning rate falls linearly to zero. 1 keeps it constant, as published;
    /// a fall reaches in a tenth of the updates what a constant rate does.
    pub constant_lr_share: f64,
    /// Updates between two validations; the last update is followed by one as well. 0: none at all.
    pub validate_every: u64,
    /// Which sequences are trained on and which validate.
    pub split: Split,
    /// Seed of weights, batches and latent noise.
    pub seed: u64,
}

impl Default for PretrainingConfig {
    fn default() -> Self {
        Self {
            updates: 100_000,
            batch: 128,
            constant_lr_share: 1.0,
            validate_every: 5_000,
            split: Split::default(),
            seed: 0,
        }
    }
}

impl SkillModelConfig {
    /// Every setting that is impossible for a model of these sizes, alone or together with another one of the model.
    pub fn problems(&self, dims: SkillDims) -> Vec<Problem> {
        let found = match self {
            Self::None => Vec::new(),
            Self::Spirl(config) => config.problems(dims),
            Self::Bc(config) => config.problems(dims),
        };
        let located = found.into_iter().map(|error| {
            let message = error.to_string();
            // The model's own messages name the setting between backticks.
            let named = message.split('`').nth(1).and_then(|name| name.split(':').next());
            match named {
                Some(name) => Problem::new(format!("skill_model.{name}"), message),
                None => Problem::new("skill_model", message),
            }
        });
        located.collect()
    }

    /// A model with fresh weights for these sizes; `None` if the experiment has none. `statistics` gives mean and
    /// deviation of the observations to models that standardise them; `threads` are those of one update.
    pub fn build(
        &self,
        dims: SkillDims,
        statistics: impl FnOnce() -> Result<Standardiser, SkillError>,
        rng: &mut Stream,
        threads: usize,
    ) -> Result<Option<Box<dyn Pretrain>>, SkillError> {
        Ok(match self {
            Self::None => None,
            Self::Spirl(config) => {
                let mut model = Spirl::new(config.clone(), dims, rng)?.with_threads(threads);
                if config.standardise {
                    model.set_standardiser(statistics()?)?;
                }
                Some(Box::new(model))
            }
            Self::Bc(config) => {
                let mut model = Bc::new(config.clone(), dims, rng)?.with_threads(threads);
                if config.standardise {
                    model.set_standardiser(statistics()?)?;
                }
                Some(Box::new(model))
            }
        })
    }
}

impl PretrainingConfig {
    /// Checks every number for itself; the error says which one cannot be used, and why.
    pub fn validate(&self) -> Result<(), String> {
        first(self.problems())
    }

    fn problems(&self) -> Vec<Problem> {
        let Self {
            batch,
            constant_lr_share,
            ..
        } = *self;
        let share = (0.0..=1.0).contains(&constant_lr_share);
        let found = [
            expect(
                (1..=MOST_IN_A_BATCH).contains(&batch),
                "pretraining.batch",
                &match batch {
                    0 => "at least 1".to_owned(),
                    _ => format!("at most {MOST_IN_A_BATCH}, which are in memory at once"),
                },
                batch,
            ),
            expect(share, "pretraining.constant_lr_share", "0 to 1", constant_lr_share),
        ];
        found.into_iter().flatten().collect()
    }

    /// Factor on the learning rate at the update with this number.
    pub fn lr_scale(&self, update: u64) -> f64 {
        let done = update as f64 / self.updates.max(1) as f64;
        let constant = self.constant_lr_share.clamp(0.0, 1.0);
        if done <= constant {
            1.0
        } else {
            ((1.0 - done) / (1.0 - constant)).max(0.0)
        }
    }
}

/// The action space of the policy.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
pub enum ActionSpace {
    /// Latents of the skill model, each held for the skill's length.
    #[default]
    Skills,
    /// The scene's own action, one per tick.
    Actions,
}

/// Budgets of practice. Counts are per seed.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Environment steps after the warm-up.
    pub steps: u64,
    /// Transitions gathered before the first update by acting from the policy's start. Published: 5 000.
    pub warmup: u64,
    /// Which states and rewards make up a transition.
    pub transitions: TransitionRule,
    /// Gradient updates per stored transition. Published: 1.
    pub updates_per_transition: f64,
    /// Updates one learner takes in one tick, if it owes as many; more only while it owes more than ten times as many.
    pub updates_per_tick: u32,
    /// Transitions the replay buffer holds.
    pub replay_capacity: usize,
    /// Environment steps between two checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Environment steps between two lines of metrics.
    pub report_every: u64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            steps: 1_500_000,
            warmup: 5_000,
            transitions: TransitionRule::default(),
            updates_per_transition: 1.0,
            updates_per_tick: 1,
            replay_capacity: 1_000_000,
            checkpoint_every: 50_000,
            keep_checkpoints: 2,
            report_every: 5_000,
        }
    }
}

impl TrainingConfig {
    fn problems(&self) -> Vec<Problem> {
        let Self {
            updates_per_transition: rate,
            updates_per_tick,
            replay_capacity,
            checkpoint_every,
            ..
        } = *self;
        let sound = rate.is_finite() && rate >= 0.0;
        let found = [
            expect(sound, "training.updates_per_transition", "at least 0", rate),
            expect(
                updates_per_tick > 0,
                "training.updates_per_tick",
                "at least 1",
                updates_per_tick,
            ),
            expect(
                replay_capacity > 0,
                "training.replay_capacity",
                "at least 1",
                replay_capacity,
            ),
            expect(
                checkpoint_every > 0,
                "training.checkpoint_every",
                "at least 1 (one number that is larger than training.steps leaves only the last checkpoint)",
                checkpoint_every,
            ),
        ];
        found.into_iter().flatten().collect()
    }
}

/// Something in an experiment that cannot be used, alone or together with something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting, with dots: `learner.discount`.
    pub field: String,
    /// What is wrong with it, in words that follow the name of the setting.
    pub message: String,
    /// Further settings with which it does not go together.
    pub because_of: Vec<&'static str>,
}

impl Problem {
    /// A setting that cannot be used whatever the others are.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
            because_of: Vec::new(),
        }
    }

    /// The same, together with other settings.
    pub fn because_of(mut self, others: &[&'static str]) -> Self {
        self.because_of = others.to_vec();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, message, .. } = self;
        let joint = if message.starts_with("must ") { "" } else { ":" };
        write!(f, "{field}{joint} {message}")
    }
}

fn first(problems: Vec<Problem>) -> Result<(), String> {
    problems.first().map_or(Ok(()), |problem| Err(problem.to_string()))
}

fn expect(sound: bool, field: &str, expected: &str, found: impl fmt::Display) -> Option<Problem> {
    (!sound).then(|| Problem::new(field, format!("expected {expected}, found {found}")))
}

/// Evaluation: whole episodes in fresh environments, without learning.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// Environment steps between two evaluations during practice; 0 switches them off. The learner goes on learning
    /// while its evaluation runs, and one that has not ended when practice does is left out.
    pub every: u64,
    /// Episodes of each.
    pub episodes: usize,
    /// Episodes of the evaluation after practice.
    pub final_episodes: usize,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            every: 0,
            episodes: 10,
            final_episodes: 50,
        }
    }
}

fn eight() -> usize {
    8
}

fn seed_zero() -> Vec<u64> {
    vec![0]
}

impl EvaluationConfig {
    /// More episodes than this are a slip: each has an environment of its own.
    pub const MOST_EPISODES: usize = 100_000;

    fn problems(&self) -> Vec<Problem> {
        let Self {
            every: _,
            episodes,
            final_episodes,
        } = *self;
        let sound = |episodes| (1..=Self::MOST_EPISODES).contains(&episodes);
        let expected = format!("1 to {}", Self::MOST_EPISODES);
        let without = format!("{expected} (`evaluation.every` 0 switches them off)");
        let found = [
            expect(sound(episodes), "evaluation.episodes", &without, episodes),
            expect(
                sound(final_episodes),
                "evaluation.final_episodes",
                &expected,
                final_episodes,
            ),
        ];
        found.into_iter().flatten().collect()
    }
}

impl Experiment {
    /// Reads `configs/NAME.ron` (or a path), merges what it extends, applies `overrides` and checks the result.
    pub fn load(name: &str, overrides: &[String]) -> Result<Loaded<Self>, FileError> {
        files::load(FileKind::Experiment, name, overrides).map_err(|error| {
            let plain: Option<Loaded<Self>> = files::load(FileKind::Experiment, name, &[]).ok();
            let named = overrides.iter().rev().find_map(|text| text.strip_prefix("scene="));
            let scene = named.or(plain.as_ref().map(|loaded| loaded.value.scene.as_str()));
            fields::explain(error, overrides, scene)
        })
    }

    /// Whether two experiments are in one scene: of the same name and, where runs keep theirs, with the same text.
    pub fn shares_scene(&self, other: &Self) -> bool {
        let text = |kept: &Option<KeptScene>| kept.as_ref().map(|kept| Arc::clone(&kept.text));
        self.scene == other.scene && text(&self.kept_scene) == text(&other.kept_scene)
    }

    /// Every setting that cannot be used for itself, whatever the scene is.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let expected = "at least one environment and one seed";
        found.extend(expect(self.environments > 0, "environments", expected, 0));
        found.extend(expect(!self.seeds.is_empty(), "seeds", expected, "none"));
        let mut seen = BTreeSet::new();
        if let Some(seed) = self.seeds.iter().find(|seed| !seen.insert(**seed)) {
            found.push(Problem::new(
                "seeds",
                format!("expected different ones, found {seed} twice"),
            ));
        }
        let learner = self.learner.problems().into_iter();
        found.extend(learner.map(|(field, rule)| Problem::new(format!("learner.{field}"), format!("must be {rule}"))));
        found.extend(self.pretraining.problems());
        found.extend(self.training.problems());
        let (capacity, batch) = (self.training.replay_capacity, self.learner.batch);
        if (1..batch).contains(&capacity) && batch <= MOST_IN_A_BATCH {
            let message = format!("expected at least a batch (learner.batch, {batch}), found {capacity}");
            found.push(Problem::new("training.replay_capacity", message).because_of(&["learner.batch"]));
        }
        found.extend(self.evaluation.problems());
        found
    }
}
