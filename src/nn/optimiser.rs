//! Adam and rectified Adam over flat weights, with clipping of the global gradient norm.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Result, Tensor, bail};

use super::params::{as_mut, slice_of, with_slice};
use super::{Params, kernels};

/// Update rule of an [`Optimiser`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum OptimiserKind {
    /// Kingma & Ba 2015, as in `PyTorch`.
    Adam,
    /// Rectified Adam (Liu et al. 2020): momentum SGD with learning rate `lr / (1 - beta_1^t)` until the variance of
    /// the second moment is tractable (`rho_t >= 5`), then Adam with a rectified step size.
    RAdam,
}

/// Settings of an [`Optimiser`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OptimiserConfig {
    /// Update rule.
    pub kind: OptimiserKind,
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and second moments, default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the root of the second moment, default 1e-8.
    pub eps: f64,
}

impl OptimiserConfig {
    /// Adam with the default betas and epsilon.
    pub fn adam(lr: f64) -> Self {
        Self {
            kind: OptimiserKind::Adam,
            lr,
            betas: (0.9, 0.999),
            eps: 1e-8,
        }
    }

    /// Rectified Adam with the default betas and epsilon.
    pub fn radam(lr: f64) -> Self {
        Self {
            kind: OptimiserKind::RAdam,
            ..Self::adam(lr)
        }
    }
}

/// Moments and step counts by name, as [`Optimiser::export`] gives them.
pub type OptimiserState = BTreeMap<String, Tensor>;

#[derive(Debug)]
struct Slot {
    params: Params,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: u32,
}

/// Updates one or more networks in place, one pass over each flat weight vector.
#[derive(Debug)]
pub struct Optimiser {
    config: OptimiserConfig,
    slots: Vec<Slot>,
}

impl Optimiser {
    /// An optimiser for `params` with zero moments.
    pub fn new(config: OptimiserConfig, params: Vec<Params>) -> Self {
        let slots = params
            .into_iter()
            .map(|params| {
                let count = params.len();
                Slot {
                    params,
                    first: vec![0.0; count],
                    second: vec![0.0; count],
                    steps: 0,
                }
            })
            .collect();
        Self { config, slots }
    }

    /// Changes the learning rate of the steps to come, for schedules.
    pub fn set_lr(&mut self, lr: f64) {
        self.config.lr = lr;
    }

    /// The settings.
    pub fn config(&self) -> &OptimiserConfig {
        &self.config
    }

    /// One step with `grads`; returns the 2-norm of the gradients of all networks together, before clipping.
    ///
    /// With `clip_norm`, gradients are scaled by `clip_norm / (norm + 1e-6)` if that is below one
    /// (`torch.nn.utils.clip_grad_norm_`). A network without a gradient is left alone: its weights, its moments and its
    /// step count stay. The step is taken even if the norm is not finite; use [`Optimiser::gradient_norm`] first to
    /// avoid that.
    pub fn step(&mut self, grads: &GradStore, clip_norm: Option<f32>) -> Result<f32> {
        let norm = self.gradient_norm(grads)?;
        self.step_with_norm(grads, clip_norm, norm)?;
        Ok(norm)
    }

    /// As [`Optimiser::step`], for callers that know the 2-norm of the gradients already.
    pub fn step_with_norm(&mut self, grads: &GradStore, clip_norm: Option<f32>, norm: f32) -> Result<()> {
        let scale = clip_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        for slot in &mut self.slots {
            let Some(grad) = grads.get(slot.params.var()) else {
                continue;
            };
            let grad = grad.contiguous()?;
            slot.steps += 1;
            let rule = Rule::new(&self.config, slot.steps, scale);
            let op = Step {
                rule,
                moments: RefCell::new((&mut slot.first, &mut slot.second)),
            };
            slot.params.var().inplace_op2(&grad, &op)?;
            slot.params.touch();
        }
        Ok(())
    }

    /// 2-norm of the gradients of all networks together.
    pub fn gradient_norm(&self, grads: &GradStore) -> Result<f32> {
        let mut total = 0.0;
        for slot in &self.slots {
            if let Some(grad) = grads.get(slot.params.var()) {
                total += with_slice(&grad.contiguous()?, |values| Ok(kernels::sum_of_squares(values)))?;
            }
        }
        Ok(total.sqrt() as f32)
    }

    /// Moments (`{i}.first`, `{i}.second`, `[len]`) and step counts (`{i}.steps`, `[]`) of the i-th network.
    pub fn export(&self) -> Result<OptimiserState> {
        let mut state = BTreeMap::new();
        for (index, slot) in self.slots.iter().enumerate() {
            for (name, values) in [("first", &slot.first), ("second", &slot.second)] {
                state.insert(
                    format!("{index}.{name}"),
                    Tensor::from_slice(values, values.len(), &Device::Cpu)?,
                );
            }
            state.insert(
                format!("{index}.steps"),
                Tensor::from_slice(&[slot.steps], (), &Device::Cpu)?,
            );
        }
        Ok(state)
    }

    /// Takes a state that [`Optimiser::export`] gave for the same networks. On error nothing has changed.
    pub fn import(&mut self, state: &OptimiserState) -> Result<()> {
        let get = |name: String| match state.get(&name) {
            Some(tensor) => Ok(tensor),
            None => bail!("the optimiser state has no tensor `{name}`"),
        };
        let mut read = Vec::with_capacity(self.slots.len());
        for (index, slot) in self.slots.iter().enumerate() {
            let moment = |name: &str| {
                let name = format!("{index}.{name}");
                let values = get(name.clone())?
                    .to_dtype(DType::F32)?
                    .flatten_all()?
                    .to_vec1::<f32>()?;
                if values.len() != slot.first.len() {
                    bail!(
                        "optimiser state `{name}` has {} elements, expected {}",
                        values.len(),
                        slot.first.len()
                    );
                }
                Ok(values)
            };
            let steps = get(format!("{index}.steps"))?
                .to_dtype(DType::U32)?
                .reshape(())?
                .to_scalar::<u32>()?;
            read.push((moment("first")?, moment("second")?, steps));
        }
        for (slot, (first, second, steps)) in self.slots.iter_mut().zip(read) {
            (slot.first, slot.second, slot.steps) = (first, second, steps);
        }
        Ok(())
    }
}

/// One step's coefficients: `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`, then
/// `w <- w - step * m / (sqrt(v) * root + eps)`, or `w <- w - step * m` if not `adaptive`; `g` is scaled first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) betas: (f32, f32),
    /// `1 - beta`, rounded after the subtraction.
    pub(super) rest: (f32, f32),
    pub(super) step: f32,
    pub(super) root: f32,
    pub(super) eps: f32,
    pub(super) adaptive: bool,
    pub(super) scale: f32,
}

impl Rule {
    fn new(config: &OptimiserConfig, t: u32, scale: f32) -> Self {
        let (b1, b2) = config.betas;
        let t = f64::from(t);
        let (correction1, correction2) = (1.0 - b1.powf(t), 1.0 - b2.powf(t));
        let (step, root, adaptive) = match config.kind {
            OptimiserKind::Adam => (config.lr / correction1, 1.0 / correction2.sqrt(), true),
            OptimiserKind::RAdam => {
                let rho_max = 2.0 / (1.0 - b2) - 1.0;
                let rho = rho_max - 2.0 * t * b2.powf(t) / correction2;
                if rho >= 5.0 {
                    let rectify =
                        correction2 * (rho - 4.0) / (rho_max - 4.0) * (rho - 2.0) / rho * rho_max / (rho_max - 2.0);
                    (config.lr * rectify.sqrt() / correction1, 1.0, true)
                } else {
                    (config.lr / correction1, 1.0, false)
                }
            }
        };
        Self {
            betas: (b1 as f32, b2 as f32),
            rest: ((1.0 - b1) as f32, (1.0 - b2) as f32),
            step: step as f32,
            root: root as f32,
            eps: config.eps as f32,
            adaptive,
            scale,
        }
    }
}

struct Step<'a> {
    rule: Rule,
    moments: RefCell<(&'a mut Vec<f32>, &'a mut Vec<f32>)>,
}

impl InplaceOp2 for Step<'_> {
    fn name(&self) -> &'static str {
        "optimiser-step"
    }

    fn cpu_fwd(&self, weights: &mut CpuStorage, _: &Layout, grad: &CpuStorage, layout: &Layout) -> Result<()> {
        let mut moments = self.moments.borrow_mut();
        let (first, second) = &mut *moments;
        kernels::adam(as_mut(weights)?, slice_of(grad, layout)?, first, second, &self.rule);
        Ok(())
    }
}
