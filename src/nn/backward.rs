//! The backward pass with cheap accumulation of weight gradients.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor};

use super::{Params, kernels};

/// Flat weight gradients, one per network.
type Collected = Vec<(Params, Vec<f32>)>;

thread_local! {
    /// Weight gradients of the backward pass that runs on this thread, if [`backward`] started it.
    static COLLECTED: RefCell<Option<Collected>> = const { RefCell::new(None) };
}

/// Gradients of a scalar: what `loss.backward()` gives, with less work for the weights of this module's networks.
///
/// candle adds every contribution to a fresh tensor of zeros, and for long vectors it does so on a pool of threads that
/// spin while they wait. Here the networks' contributions are summed in place on the calling thread.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let collecting = Collecting::start();
    let mut grads = loss.backward()?;
    for (params, flat) in collecting.finish() {
        let flat = Tensor::from_vec(flat, params.len(), &Device::Cpu)?;
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
    outer: Option<Vec<(Params, Vec<f32>)>>,
}

impl Collecting {
    fn start() -> Self {
        Self {
            outer: COLLECTED.replace(Some(Vec::new())),
        }
    }

    fn finish(self) -> Vec<(Params, Vec<f32>)> {
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
            Some((_, sum)) => kernels::add(sum, &flat),
            None => collected.push((params.clone(), flat)),
        }
        None
    });
    left.map(|flat| Tensor::from_vec(flat, params.len(), &Device::Cpu))
        .transpose()
}
