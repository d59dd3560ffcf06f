//! The backward pass with cheap accumulation of weight gradients.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor};

use super::{Params, kernels};

/// Weight gradients, one entry per network.
type Collected = Vec<(Params, Gradient)>;

/// The gradient of a network's weights.
enum Gradient {
    /// Flat.
    Whole(Vec<f32>),
    /// Flat parts by the offset of their first weight; where there is none the gradient is zero.
    Parts(BTreeMap<usize, Tensor>),
}

impl Gradient {
    fn into_flat(self, params: &Params) -> Result<Tensor> {
        let parts = match self {
            Self::Whole(values) => return Tensor::from_vec(values, params.len(), &Device::Cpu),
            Self::Parts(parts) => parts,
        };
        let zeros = |count: usize| Tensor::zeros(count, DType::F32, params.device());
        let (mut at, mut pieces) = (0, Vec::with_capacity(parts.len()));
        for (offset, part) in parts {
            if offset > at {
                pieces.push(zeros(offset - at)?);
            }
            at = offset + part.elem_count();
            pieces.push(part);
        }
        if at < params.len() {
            pieces.push(zeros(params.len() - at)?);
        }
        Tensor::cat(&pieces, 0)
    }
}

thread_local! {
    /// Weight gradients of the backward pass that runs on this thread, if [`backward`] started it.
    static COLLECTED: RefCell<Option<Collected>> = const { RefCell::new(None) };
}

/// Gradients of a scalar: what `loss.backward()` gives, with less work for the weights of this module's networks.
///
/// candle adds every contribution to a fresh tensor of zeros, and for long vectors it does so on a pool of threads that
/// spin while they wait. Here the networks' contributions are summed in place on the calling thread, and those to parts
/// of a network that is composed of candle's operations are joined at the end.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let collecting = Collecting::start();
    let mut grads = loss.backward()?;
    for (params, gradient) in collecting.finish() {
        let flat = gradient.into_flat(&params)?;
        // Something else than a network may depend on the same variable.
        let total = match grads.remove(params.var()) {
            Some(other) => (flat + other)?,
            None => flat,
        };
        grads.insert(params.var(), total);
    }
    Ok(grads)
}

/// Restores what was collected before, also on errors and panics.
struct Collecting {
    outer: Option<Collected>,
}

impl Collecting {
    fn start() -> Self {
        Self {
            outer: COLLECTED.replace(Some(Vec::new())),
        }
    }

    fn finish(self) -> Collected {
        COLLECTED.take().unwrap_or_default()
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        COLLECTED.set(self.outer.take());
    }
}

/// Hands over the flat gradient of a network's weights: to [`backward`] if that is running, else back to candle.
pub(super) fn contribute(params: &Params, flat: Vec<f32>) -> Result<Option<Tensor>> {
    let left = COLLECTED.with_borrow_mut(|collected| {
        let Some(collected) = collected else { return Some(flat) };
        match collected
            .iter_mut()
            .find(|(known, _)| known.var().id() == params.var().id())
        {
            Some((_, Gradient::Whole(sum))) => kernels::add(sum, &flat),
            // A network is computed in one way or the other.
            Some((_, Gradient::Parts(_))) => return Some(flat),
            None => collected.push((params.clone(), Gradient::Whole(flat))),
        }
        None
    });
    left.map(|flat| Gradient::Whole(flat).into_flat(params)).transpose()
}

/// As [`contribute`], for the gradient of the weights from `offset` on.
pub(super) fn contribute_part(params: &Params, offset: usize, part: &Tensor) -> Result<Option<Tensor>> {
    let part = part.flatten_all()?;
    let left = COLLECTED.with_borrow_mut(|collected| {
        let Some(collected) = collected else {
            return Ok(Some(part));
        };
        let known = (collected.iter_mut()).find(|(known, _)| known.var().id() == params.var().id());
        match known {
            Some((_, Gradient::Parts(parts))) => {
                let sum = match parts.get(&offset) {
                    Some(before) => (before + &part)?,
                    None => part,
                };
                parts.insert(offset, sum);
            }
            Some((_, Gradient::Whole(_))) => return Ok(Some(part)),
            None => collected.push((params.clone(), Gradient::Parts(BTreeMap::from([(offset, part)])))),
        }
        Ok::<_, candle_core::Error>(None)
    })?;
    let alone = |part| Gradient::Parts(BTreeMap::from([(offset, part)])).into_flat(params);
    left.map(alone).transpose()
}
