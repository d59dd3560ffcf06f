//! What the networks of a `SPiRL` model see of a batch: states, or pictures through convolutional encoders.
//!
//! A picture is a stack of the newest `frames` frames, oldest first, so a window of demonstrations begins
//! `frames - 1` actions before the first one that is decoded. The prior has an encoder of its own; posterior and decoder
//! of a closed-loop model share another one. In the original, each of them encodes the whole sequence, so the running
//! statistics of the shared encoder move twice per step; here it is encoded once, and they move twice all the same.

use candle_core::Tensor;

use super::{Decoder, SkillBatch, Spirl, Use};
use crate::nn::{ConvEncoder, Mode};
use crate::rng::Stream;
use crate::skills::policy::{eye, standardised};
use crate::skills::{PixelDims, Result, SkillError, check_seen, check_shape};

/// Passes over a batch that the shared encoder's running statistics count as: one for the posterior, one for the
/// decoder.
const ENCODED: u32 = 2;

/// The encoder that posterior and decoder share.
pub(super) fn shared_eye(pixels: PixelDims, width: usize, output: usize, rng: &mut Stream) -> Result<ConvEncoder> {
    Ok(eye(pixels, width, output, rng)?.with_statistics_moves(ENCODED))
}

impl Spirl {
    /// Actions of a batch before the first one that is decoded.
    pub(super) fn lead(&self) -> usize {
        self.dims.pixels.map_or(0, |pixels| pixels.frames - 1)
    }

    /// The actions that are decoded, `[B, H, A]`.
    pub(super) fn targets(&self, batch: &SkillBatch) -> Result<Tensor> {
        Ok(match self.lead() {
            0 => batch.actions.clone(),
            lead => batch.actions.narrow(1, lead, self.config.length)?.contiguous()?,
        })
    }

    /// What the prior sees: the first state `[B, S]`, standardised, or the first picture.
    pub(super) fn beginning(&self, batch: &SkillBatch) -> Result<Tensor> {
        match self.dims.pixels {
            None => {
                let first = batch.states.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
                standardised(self.standardiser.as_ref(), &first)
            }
            Some(pixels) => first_picture(&batch.states, pixels),
        }
    }

    /// What posterior and decoder see, `[B, n, width]`; `None` if they see nothing but actions and skills. The first
    /// `H` entries are what the actions to be decoded follow from.
    ///
    /// States: the first `H`, standardised. Contiguous, because candle puts anything else together element by element.
    /// Pictures: their codes, one more than `H` because the posterior also sees the action before.
    pub(super) fn views(&self, batch: &SkillBatch, using: Use) -> Result<Option<Tensor>> {
        if matches!(self.decoder, Decoder::Open { start: None, .. }) {
            return Ok(None);
        }
        let views = match (&self.eye, using) {
            (None, _) => {
                let states = batch.states.narrow(1, 0, self.config.length)?.contiguous()?;
                standardised(self.standardiser.as_ref(), &states)?
            }
            (Some(eye), Use::Train(mode)) => eye.forward_windows(&batch.states, self.views_needed(), mode)?,
            (Some(eye), Use::Frozen) => eye.forward_windows_frozen(&batch.states, self.views_needed(), Mode::Eval)?,
        };
        Ok(Some(views))
    }

    /// What a closed-loop decoder sees when acting on `observations`.
    pub(super) fn view(&self, observations: &Tensor) -> Result<Tensor> {
        check_seen("observations", observations, None, self.dims)?;
        match &self.eye {
            None => standardised(self.standardiser.as_ref(), observations),
            Some(eye) => Ok(eye.forward_frozen(observations, Mode::Eval)?),
        }
    }

    fn views_needed(&self) -> usize {
        self.config.length + self.lead().min(1)
    }

    /// States or frames at the beginning of a window that anything looks at. Of pictures an open-loop model sees those
    /// of the first moment alone.
    pub(super) fn times_seen(&self) -> usize {
        match self.decoder {
            Decoder::Open { .. } if self.dims.pixels.is_some() => self.lead() + 1,
            _ => self.views_needed() + self.lead(),
        }
    }

    /// Rows of a batch that fits the model.
    pub(super) fn check_batch(&self, batch: &SkillBatch) -> Result<usize> {
        let dims = batch.states.dims();
        let (rows, times) = (dims.first().copied().unwrap_or(0), dims.get(1).copied().unwrap_or(0));
        let entry = match self.dims.pixels {
            None => vec![self.dims.state],
            Some(pixels) => vec![3, pixels.size, pixels.size],
        };
        let some = |sizes: &[usize]| sizes.iter().copied().map(Some).collect::<Vec<_>>();
        check_shape("states", &batch.states, &[vec![None, None], some(&entry)].concat())?;
        let actions = [rows, self.config.length + self.lead(), self.dims.action];
        check_shape("actions", &batch.actions, &some(&actions))?;
        let needed = self.times_seen();
        if times < needed {
            let entry: Vec<String> = entry.iter().map(ToString::to_string).collect();
            return Err(SkillError::Shape {
                what: "states",
                expected: format!("[{rows}, at least {needed}, {}]", entry.join(", ")),
                got: dims.to_vec(),
            });
        }
        let members = self.priors.len();
        if rows.div_ceil(members) * (members - 1) >= rows {
            return Err(SkillError::Config(format!(
                "{rows} sequences cannot be cut into {members} parts"
            )));
        }
        Ok(rows)
    }
}

/// The stack of the first frames of `frames [B, T, 3, size, size]`.
pub(in crate::skills) fn first_picture(frames: &Tensor, pixels: PixelDims) -> Result<Tensor> {
    let rows = frames.dim(0)?;
    Ok(frames
        .narrow(1, 0, pixels.frames)?
        .contiguous()?
        .reshape(pixels.shape(rows))?)
}
