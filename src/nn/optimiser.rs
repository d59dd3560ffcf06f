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
    moments: Moments,
    steps: u32,
}

/// First and second moment of every weight's gradient.
#[derive(Debug)]
enum Moments {
    /// For the fused step.
    Fused(Vec<f32>, Vec<f32>),
    /// On the device of weights whose passes are composed, `[n]` each; `None` before the first step.
    Composed(Option<(Tensor, Tensor)>),
}

impl Moments {
    fn zero(params: &Params) -> Self {
        match params.is_composed() {
            true => Self::Composed(None),
            false => Self::Fused(vec![0.0; params.len()], vec![0.0; params.len()]),
        }
    }

    /// A copy in the processor's memory.
    fn read(&self, count: usize) -> Result<[Tensor; 2]> {
        match self {
            Self::Fused(first, second) => Ok([
                Tensor::from_slice(first, count, &Device::Cpu)?,
                Tensor::from_slice(second, count, &Device::Cpu)?,
            ]),
            Self::Composed(Some((first, second))) => {
                Ok([first.to_device(&Device::Cpu)?, second.to_device(&Device::Cpu)?])
            }
            Self::Composed(None) => {
                let zeros = Tensor::zeros(count, DType::F32, &Device::Cpu)?;
                Ok([zeros.clone(), zeros])
            }
        }
    }

    /// The same kind of moments with these numbers.
    fn of(&self, first: Vec<f32>, second: Vec<f32>, device: &Device) -> Result<Self> {
        Ok(match self {
            Self::Fused(..) => Self::Fused(first, second),
            Self::Composed(_) => {
                let count = first.len();
                let tensor = |values| Tensor::from_vec(values, count, device);
                Self::Composed(Some((tensor(first)?, tensor(second)?)))
            }
        })
    }
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
            .map(|params| Slot {
                moments: Moments::zero(&params),
                params,
                steps: 0,
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

    /// One step with `grads`; returns the 2-norm of the gradients of all networks together, before clipping, `[]`.
    ///
    /// With `clip_norm`, gradients are scaled by `clip_norm / (norm + 1e-6)` if that is below one
    /// (`torch.nn.utils.clip_grad_norm_`). A network without a gradient is left alone: its weights, its moments and its
    /// step count stay. The step is taken even if the norm is not finite; use [`Optimiser::gradient_norm`] first to
    /// avoid that.
    pub fn step(&mut self, grads: &GradStore, clip_norm: Option<f32>) -> Result<Tensor> {
        let norm = self.gradient_norm(grads)?;
        self.step_with_norm(grads, clip_norm, &norm, None)?;
        Ok(norm)
    }

    /// As [`Optimiser::step`], for callers that know the 2-norm of the gradients already.
    ///
    /// With `sound`, a condition `[]` on the device of networks that are composed of candle's operations, weights and
    /// moments stay as they are where it is 0. Their step counts do not: nothing is read back.
    pub fn step_with_norm(
        &mut self,
        grads: &GradStore,
        clip_norm: Option<f32>,
        norm: &Tensor,
        sound: Option<&Tensor>,
    ) -> Result<()> {
        for slot in &mut self.slots {
            let Some(grad) = grads.get(slot.params.var()) else {
                continue;
            };
            let grad = grad.contiguous()?;
            slot.steps += 1;
            match &mut slot.moments {
                Moments::Fused(first, second) => {
                    let scale = match clip_norm {
                        Some(limit) => (limit / (norm.to_scalar::<f32>()? + 1e-6)).min(1.0),
                        None => 1.0,
                    };
                    let rule = Rule::new(&self.config, slot.steps, scale);
                    let moments = RefCell::new((first, second));
                    slot.params.var().inplace_op2(&grad, &Step { rule, moments })?;
                    slot.params.touch();
                }
                Moments::Composed(moments) => {
                    let grad = match clip_norm {
                        Some(limit) => grad.broadcast_mul(&clip_factor(norm, limit)?)?,
                        None => grad,
                    };
                    let rule = Rule::new(&self.config, slot.steps, 1.0);
                    rule.composed(&slot.params, &grad, moments, sound)?;
                }
            }
        }
        Ok(())
    }

    /// 2-norm of the gradients of all networks together, `[]`.
    pub fn gradient_norm(&self, grads: &GradStore) -> Result<Tensor> {
        let (mut total, mut composed) = (0.0, None);
        for slot in &self.slots {
            let Some(grad) = grads.get(slot.params.var()) else {
                continue;
            };
            let grad = grad.contiguous()?;
            if slot.params.is_composed() {
                let own = grad.sqr()?.sum_all()?;
                composed = Some(match composed {
                    Some(others) => (others + own)?,
                    None => own,
                });
            } else {
                total += with_slice(&grad, |values| Ok(kernels::sum_of_squares(values)))?;
            }
        }
        match composed {
            Some(sum) => sum.sqrt(),
            None => Tensor::new(total.sqrt() as f32, &Device::Cpu),
        }
    }

    /// Moments (`{i}.first`, `{i}.second`, `[len]`) and step counts (`{i}.steps`, `[]`) of the i-th network.
    pub fn export(&self) -> Result<OptimiserState> {
        let mut state = BTreeMap::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let moments = slot.moments.read(slot.params.len())?;
            for (name, values) in ["first", "second"].into_iter().zip(moments) {
                state.insert(format!("{index}.{name}"), values);
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
                if values.len() != slot.params.len() {
                    bail!(
                        "optimiser state `{name}` has {} elements, expected {}",
                        values.len(),
                        slot.params.len()
                    );
                }
                Ok(values)
            };
            let steps = get(format!("{index}.steps"))?
                .to_dtype(DType::U32)?
                .reshape(())?
                .to_scalar::<u32>()?;
            let moments = (slot.moments).of(moment("first")?, moment("second")?, slot.params.device())?;
            read.push((moments, steps));
        }
        for (slot, (moments, steps)) in self.slots.iter_mut().zip(read) {
            (slot.moments, slot.steps) = (moments, steps);
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

impl Rule {
    /// The step in candle's operations. Gradients are scaled already.
    fn composed(
        &self,
        params: &Params,
        grad: &Tensor,
        moments: &mut Option<(Tensor, Tensor)>,
        sound: Option<&Tensor>,
    ) -> Result<()> {
        let weights = params.var().as_detached_tensor();
        let (first, second) = match moments.take() {
            Some(moments) => moments,
            None => (weights.zeros_like()?, weights.zeros_like()?),
        };
        let blend =
            |old: &Tensor, beta: f32, new: &Tensor, rest: f32| (old * f64::from(beta))? + (new * f64::from(rest))?;
        let new_first = blend(&first, self.betas.0, grad, self.rest.0)?;
        let new_second = blend(&second, self.betas.1, &grad.sqr()?, self.rest.1)?;
        let change = match self.adaptive {
            true => {
                let root = new_second.sqrt()?.affine(f64::from(self.root), f64::from(self.eps))?;
                ((&new_first * f64::from(self.step))? / root)?
            }
            false => (&new_first * f64::from(self.step))?,
        };
        let new_weights = (&weights - change)?;
        let choose = |new: Tensor, old: &Tensor| match sound {
            Some(sound) => sound.broadcast_as(old.shape())?.where_cond(&new, old),
            None => Ok(new),
        };
        *moments = Some((choose(new_first, &first)?, choose(new_second, &second)?));
        params.set(&choose(new_weights, &weights)?)
    }
}

/// What gradients of this norm are scaled by so that it is no larger than `limit`, `[]`.
fn clip_factor(norm: &Tensor, limit: f32) -> Result<Tensor> {
    ((norm + 1e-6)?.recip()? * f64::from(limit))?.minimum(1.0)
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
