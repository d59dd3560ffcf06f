//! Skill models: what turns a *skill* into a stretch of actions, and which skills are likely in a state.
//!
//! | module | what it holds |
//! |---|---|
//! | [`spirl`] | the `SPiRL` skill model: posterior, open- or closed-loop decoder, learned prior, losses, training |
//! | [`bc`] | the flat single-step prior, which is also the behaviour-cloning model |
//! | [`prior`] | learned priors over skills: Gaussian, Gaussian mixture, conditional flow |
//! | [`policy`] | the Gaussian network that a prior shares with the policies learners start from it |
//! | [`sees`] | what networks look at: numbers or pictures |
//! | [`import`] | `PyTorch` checkpoints and safetensors files, by their original names |
//! | [`top_n`] | validation metric of decodings of random skills |
//! | [`latent`] | two-dimensional pictures of the latent space, as data |
//!
//! The rest of the program uses a skill model through [`SkillModel`] and keeps track of the skill an agent is carrying
//! out with [`ActiveSkill`].

pub mod bc;
pub mod import;
pub mod latent;
pub mod policy;
pub mod prior;
pub mod sees;
pub mod spirl;
pub mod top_n;
mod weights;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

pub use bc::{Bc, BcConfig};
pub(crate) use policy::standardised;
pub use policy::{GaussianNetwork, Standardiser};
pub use sees::{PixelDims, Sees, brightness, extend_with_brightness};
pub use spirl::{Spirl, SpirlConfig};
pub use weights::EarlyClip;

/// What can go wrong in a skill model.
#[derive(Debug, thiserror::Error)]
pub enum SkillError {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// An input has another shape than the model was built for.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which input.
        what: &'static str,
        /// The shape the model needs.
        expected: String,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// A setting is impossible, alone or together with another one.
    #[error("{0}")]
    Config(String),
    /// Weights do not fit the model.
    #[error("the weights do not fit the model:\n{}", .0.join("\n"))]
    Weights(Vec<String>),
    /// A weights file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why it cannot be read.
        reason: String,
    },
}

/// Result of an operation on a skill model.
pub type Result<T> = std::result::Result<T, SkillError>;

/// Sizes of what a skill model sees and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillDims {
    /// Numbers in an observation. A model that sees pictures has no use for it.
    pub state: usize,
    /// Numbers in an action.
    pub action: usize,
    /// Sizes of the pictures that are seen in place of the numbers. Default: none, the numbers are seen.
    #[serde(default)]
    pub pixels: Option<PixelDims>,
}

impl SkillDims {
    /// What a model of these sizes looks at.
    pub fn sees(self) -> Sees {
        self.pixels.map_or(Sees::Numbers, Sees::Pixels)
    }
}

/// The set a skill is chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkillSpace {
    /// Real vectors of this many numbers.
    Continuous(usize),
    /// One of this many codes. A code travels as a vector of one number, its index.
    Discrete(usize),
}

impl SkillSpace {
    /// Numbers in one row of a skill tensor.
    pub fn width(self) -> usize {
        match self {
            Self::Continuous(dim) => dim,
            Self::Discrete(_) => 1,
        }
    }
}

/// When a skill is turned into actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoding {
    /// All at once when the skill begins (open loop): [`SkillModel::plan`].
    Plan,
    /// One action per tick from the current observation (closed loop): [`SkillModel::act`].
    React,
}

/// A trained skill model as agents use it: a skill in, actions out.
///
/// Calls are batched over agents, run in evaluation mode, record nothing for differentiation and change nothing in the
/// model. A model answers either [`plan`](Self::plan) or [`act`](Self::act), as its [`decoding`](Self::decoding) says;
/// the other one returns an error.
pub trait SkillModel: Send + Sync {
    /// Sizes of observation and action.
    fn dims(&self) -> SkillDims;

    /// The set skills are chosen from.
    fn space(&self) -> SkillSpace;

    /// The lengths a skill can have, in ticks, shortest first. One entry: every skill has this length. Several: the
    /// policy chooses the length together with the skill.
    fn lengths(&self) -> &[usize];

    /// Whether actions are decoded once per skill or once per tick.
    fn decoding(&self) -> Decoding;

    /// What [`plan`](Self::plan) or [`act`](Self::act) are given as observations: numbers `[B, S]`, or pictures
    /// `[B, 3 * frames, size, size]` in -1 to 1.
    fn sees(&self) -> Sees {
        Sees::Numbers
    }

    /// The actions of whole skills, `[B, length, A]`, from the observations in which they begin and the skills
    /// `[B, space().width()]`.
    fn plan(&self, observations: &Tensor, skills: &Tensor, length: usize) -> Result<Tensor>;

    /// The next actions `[B, A]` from the current observations and the skills being carried out
    /// `[B, space().width()]`.
    fn act(&self, observations: &Tensor, skills: &Tensor) -> Result<Tensor>;
}

/// No skills: the "skill" is the action itself and lasts one tick.
///
/// With it, learners that act directly run through the same code as learners that act in skill space.
#[derive(Debug, Clone)]
pub struct Primitive {
    /// Sizes of observation and action.
    pub dims: SkillDims,
}

impl SkillModel for Primitive {
    fn dims(&self) -> SkillDims {
        self.dims
    }

    fn space(&self) -> SkillSpace {
        SkillSpace::Continuous(self.dims.action)
    }

    fn lengths(&self) -> &[usize] {
        &[1]
    }

    fn decoding(&self) -> Decoding {
        Decoding::React
    }

    fn plan(&self, _observations: &Tensor, _skills: &Tensor, _length: usize) -> Result<Tensor> {
        Err(SkillError::Config("primitive actions are not planned ahead".into()))
    }

    fn act(&self, _observations: &Tensor, skills: &Tensor) -> Result<Tensor> {
        Ok(skills.detach())
    }
}

/// The skill an agent is carrying out: held fixed until its length has passed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ActiveSkill {
    skill: Vec<f32>,
    length: usize,
    elapsed: usize,
}

impl ActiveSkill {
    /// Whether a new skill is due: none was begun, or the last one has run its length.
    pub fn is_over(&self) -> bool {
        self.elapsed >= self.length
    }

    /// Begins a skill of `length` ticks.
    pub fn begin(&mut self, skill: &[f32], length: usize) {
        self.skill.clear();
        self.skill.extend_from_slice(skill);
        self.length = length;
        self.elapsed = 0;
    }

    /// Counts one tick of the skill as done.
    pub fn advance(&mut self) {
        self.elapsed += 1;
    }

    /// Drops the skill, as at the start of an episode.
    pub fn clear(&mut self) {
        self.length = 0;
        self.elapsed = 0;
    }

    /// Ticks of the skill that are done.
    pub fn elapsed(&self) -> usize {
        self.elapsed
    }

    /// Ticks of the skill in all; 0 if none was begun.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The skill, empty before the first one has begun.
    pub fn skill(&self) -> &[f32] {
        &self.skill
    }
}

/// Checks that observations are what a network looks at.
pub(crate) fn check_seen(what: &'static str, tensor: &Tensor, rows: Option<usize>, dims: SkillDims) -> Result<()> {
    match dims.sees() {
        Sees::Numbers => check_shape(what, tensor, &[rows, Some(dims.state)]),
        Sees::Pixels(pixels) => {
            let (side, channels) = (Some(pixels.size), Some(pixels.channels()));
            check_shape(what, tensor, &[rows, channels, side, side])
        }
    }
}

/// Checks a tensor against the shape a model needs; `None` stands for any size.
pub(crate) fn check_shape(what: &'static str, tensor: &Tensor, expected: &[Option<usize>]) -> Result<()> {
    let got = tensor.dims();
    let fits = got.len() == expected.len()
        && got
            .iter()
            .zip(expected)
            .all(|(size, wanted)| wanted.is_none_or(|wanted| wanted == *size));
    if fits {
        return Ok(());
    }
    let sizes: Vec<String> = expected
        .iter()
        .map(|size| size.map_or_else(|| "any".into(), |size| size.to_string()))
        .collect();
    Err(SkillError::Shape {
        what,
        expected: format!("[{}]", sizes.join(", ")),
        got: got.to_vec(),
    })
}

/// One `f32` out of a tensor with a single element.
pub(crate) fn scalar(tensor: &Tensor) -> Result<f32> {
    Ok(tensor.reshape(())?.to_scalar::<f32>()?)
}
