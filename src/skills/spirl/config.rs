//! Settings of the `SPiRL` skill model and their checks.

use serde::{Deserialize, Serialize};

use crate::nn::{Norm, OptimiserConfig, OptimiserKind};
use crate::skills::prior::PriorKind;
use crate::skills::weights::{check_number, check_pictures, check_positive, check_weight, optimiser_problems};
use crate::skills::{EarlyClip, Result, SkillDims, SkillError};

/// Settings of a `SPiRL` skill model. Defaults: the published closed-loop model of the kitchen
/// (`kitchen/hierarchical_cl`); the open-loop model of the paper differs only in `decoder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpirlConfig {
    /// Open loop (the paper) or closed loop (the authors' later default). Default: closed loop.
    pub decoder: DecoderKind,
    /// Numbers in a skill, `nz`. Default 10.
    pub latent: usize,
    /// Length of a skill `H`, in ticks. Default 10.
    pub length: usize,
    /// Outputs of the posterior's recurrent network, before the layer to mean and log sigma. Default 128.
    pub encoder_output: usize,
    /// Width of the recurrent networks. Default 128.
    pub lstm_width: usize,
    /// LSTM layers of each recurrent network. Default 1.
    pub lstm_layers: usize,
    /// Width of prior, closed-loop decoder and start networks. Default 128.
    pub width: usize,
    /// Hidden layers of the closed-loop decoder. Default 5.
    pub decoder_hidden_layers: usize,
    /// Hidden layers of the prior and of the start networks; coupling layers of a flow prior. Default 6.
    pub prior_hidden_layers: usize,
    /// Normalisation in the perceptrons' hidden layers. Default: batch normalisation, which a model that sees pictures
    /// needs.
    pub norm: Norm,
    /// Pictures only: channels after the first convolution; each further one doubles them. Default 8.
    pub conv_width: usize,
    /// Pictures only: numbers a picture is encoded to. Default 32.
    pub conv_features: usize,
    /// Open loop only: the decoder's first input and hidden state come from two networks of `s_0` instead of learned
    /// constants, and the posterior sees `s_0` at every step. Default false.
    pub conditioned_start: bool,
    /// Closed loop, when acting: pass decoded actions through tanh, as the original does although the decoder was
    /// trained without it (it then executes 0.76 where it learned 1.0). Default false: actions are used as decoded.
    pub tanh_actions: bool,
    /// Standardise states by mean and standard deviation of the data set. The original does not. Default false.
    pub standardise: bool,

    /// Weight of the reconstruction loss; zero leaves it out. Default 1.
    pub reconstruction_weight: f32,
    /// Weight of the KL loss, which is a mean over batch and latent dimensions; zero leaves it out. Default 5e-4.
    pub kl_weight: f32,
    /// Adapt the KL weight until the KL loss reaches this target (nats per latent dimension) instead of using
    /// `kl_weight`. Default: off.
    pub auto_beta: Option<AutoBeta>,

    /// Family of the prior. Default: Gaussian.
    pub prior: PriorKind,
    /// Numbers between the perceptron and the head of a mixture prior. Default 128.
    pub mixture_features: usize,
    /// Size of the prior ensemble. A batch is cut into as many parts, one per member; member 0 is the one used after
    /// training. Default 1.
    pub prior_members: usize,
    /// How the prior is trained. Default: on samples of the posterior.
    pub prior_training: PriorTraining,
    /// Train only the prior: posterior and decoder keep the weights they were loaded with. Default false.
    pub freeze_embedding: bool,

    /// Update rule. Default: `RAdam`.
    pub optimiser: OptimiserKind,
    /// Default 1e-3.
    pub learning_rate: f64,
    /// Decay of first and second moments. Default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the root of the second moment. Default 1e-8.
    pub epsilon: f64,
    /// Small gradient clip while `RAdam` still takes unadapted steps. Default: norm 0.001 for 100 updates (added to the
    /// original in 2022, against rare divergence).
    pub early_clip: Option<EarlyClip>,
}

impl Default for SpirlConfig {
    fn default() -> Self {
        Self {
            decoder: DecoderKind::ClosedLoop,
            latent: 10,
            length: 10,
            encoder_output: 128,
            lstm_width: 128,
            lstm_layers: 1,
            width: 128,
            decoder_hidden_layers: 5,
            prior_hidden_layers: 6,
            norm: Norm::Batch,
            conv_width: 8,
            conv_features: 32,
            conditioned_start: false,
            tanh_actions: false,
            standardise: false,
            reconstruction_weight: 1.0,
            kl_weight: 5e-4,
            auto_beta: None,
            prior: PriorKind::Gauss,
            mixture_features: 128,
            prior_members: 1,
            prior_training: PriorTraining::Nll,
            freeze_embedding: false,
            optimiser: OptimiserKind::RAdam,
            learning_rate: 1e-3,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            early_clip: Some(EarlyClip::default()),
        }
    }
}

/// How a skill is turned into actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecoderKind {
    /// A recurrent network unrolls the skill without looking at the world.
    OpenLoop,
    /// A perceptron maps the current state and the skill to the next action.
    ClosedLoop,
}

/// What the prior is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PriorTraining {
    /// `-log p(z | s_0)` of posterior samples, summed over dimensions.
    Nll,
    /// `KL(q || p)`, mean over dimensions; Gaussian priors only.
    Kl,
}

/// Automatic KL weight: `beta = exp(log beta)` grows while the KL loss is above its target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoBeta {
    /// Target of the KL loss, nats per latent dimension. Default 1.
    pub target: f32,
    /// Start of log beta. Default 0.
    pub start: f32,
    /// Learning rate of log beta, which has its own `RAdam`. Default 3e-4.
    pub learning_rate: f64,
    /// Step log beta a second time with the model's optimiser, and count its gradient in the clip, as happens in the
    /// original where it is also registered as a model parameter. Default false.
    pub double_step: bool,
}

impl Default for AutoBeta {
    fn default() -> Self {
        Self {
            target: 1.0,
            start: 0.0,
            learning_rate: 3e-4,
            double_step: false,
        }
    }
}

/// Most actions of a skill: beyond, a slip of the pen is likelier than a wish.
const LONGEST: usize = 10_000;

impl SpirlConfig {
    /// Refuses settings that are impossible, alone or together; those of the optimiser are checked with it.
    pub(super) fn check(&self, dims: SkillDims) -> Result<()> {
        self.impossible(dims).into_iter().next().map_or(Ok(()), Err)
    }

    /// Every setting that is impossible, alone or together with another one, for a model of these sizes.
    pub(crate) fn problems(&self, dims: SkillDims) -> Vec<SkillError> {
        let mut found = self.impossible(dims);
        found.extend(optimiser_problems(&self.optimiser_config(), self.early_clip));
        found
    }

    fn impossible(&self, dims: SkillDims) -> Vec<SkillError> {
        let mut found = Vec::new();
        let mut fail = |wrong: bool, reason: &str| {
            if wrong {
                found.push(SkillError::Config(reason.into()));
            }
        };
        let seen = dims.pixels.map_or(dims.state, |pixels| pixels.frames.min(pixels.size));
        fail(seen.min(dims.action) == 0, "sizes of a skill model must be at least 1");
        for (name, size) in [
            ("latent", self.latent),
            ("length", self.length),
            ("encoder_output", self.encoder_output),
            ("lstm_width", self.lstm_width),
            ("lstm_layers", self.lstm_layers),
            ("width", self.width),
            ("conv_width", self.conv_width),
            ("conv_features", self.conv_features),
            ("mixture_features", self.mixture_features),
            ("prior_members", self.prior_members),
        ] {
            fail(
                size == 0,
                &format!("`{name}` must be at least 1: sizes of a skill model are"),
            );
        }
        fail(
            self.length > LONGEST,
            &format!("`length` must be at most {LONGEST} actions, not {}", self.length),
        );
        fail(
            self.conditioned_start && self.decoder == DecoderKind::ClosedLoop,
            "`conditioned_start` is for open-loop decoders; a closed-loop one sees every state",
        );
        fail(
            self.conditioned_start && dims.pixels.is_some(),
            "`conditioned_start` is for models that see states, and this one sees pictures",
        );
        fail(
            self.prior_training == PriorTraining::Kl && self.prior != PriorKind::Gauss,
            "`prior_training: Kl` needs a Gaussian prior",
        );
        fail(
            matches!(self.prior, PriorKind::Gmm { components: 0 }),
            "a mixture `prior` needs at least one component",
        );
        fail(
            self.prior == PriorKind::Flow && self.latent < 2,
            "a flow `prior` needs at least two latent dimensions",
        );
        let mut numbers = vec![
            check_weight("reconstruction_weight", self.reconstruction_weight),
            check_weight("kl_weight", self.kl_weight),
        ];
        if let Some(beta) = self.auto_beta {
            numbers.push(check_weight("auto_beta.target", beta.target));
            numbers.push(check_number(
                "auto_beta.start",
                beta.start,
                beta.start.is_finite(),
                "finite",
            ));
            numbers.push(check_positive("auto_beta.learning_rate", beta.learning_rate));
        }
        if dims.pixels.is_some() {
            numbers.push(check_pictures(self.norm, self.standardise));
        }
        found.extend(numbers.into_iter().filter_map(Result::err));
        found
    }

    pub(super) fn optimiser_config(&self) -> OptimiserConfig {
        OptimiserConfig {
            kind: self.optimiser,
            lr: self.learning_rate,
            betas: self.betas,
            eps: self.epsilon,
        }
    }
}
