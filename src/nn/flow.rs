//! Conditional normalising flows.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use candle_core::{D, Result, Tensor, bail};

use super::dense::{Activation, Dense, Layer};
use super::params::Builder;
use super::{ImportError, Mode, Params};
use crate::rng::Stream;

/// Width of the coupling networks.
const WIDTH: usize = 32;

/// Conditional `RealNVP` (Dinh et al. 2017): a stack of affine coupling layers from data to a unit Gaussian.
///
/// Each layer updates the upper half from the lower one, `u <- u * exp(s1) + t1`, then the lower half from the updated
/// upper one with `s2` and `t2`; the scales are not limited. Each of the four networks reads `[half | condition]`
/// through two hidden layers of 32 tanh units. Weight names: `flows.{i}.{s1,t1,s2,t2}.network.{0,2,4}.{weight,bias}`,
/// fresh weights are the `PyTorch` defaults. A clone shares the weights.
#[derive(Debug, Clone)]
pub struct ConditionalFlow {
    dim: usize,
    layers: Vec<Coupling>,
}

#[derive(Debug, Clone)]
struct Coupling {
    s1: Dense,
    t1: Dense,
    s2: Dense,
    t2: Dense,
}

impl Coupling {
    fn nets(&self) -> [(&'static str, &Dense); 4] {
        [("t1", &self.t1), ("s1", &self.s1), ("t2", &self.t2), ("s2", &self.s2)]
    }
}

impl ConditionalFlow {
    /// `layers` coupling layers over `dim` numbers, given `condition` numbers; fresh weights.
    pub fn new(dim: usize, condition: usize, layers: usize, rng: &mut Stream) -> Result<Self> {
        if dim < 2 || layers == 0 {
            bail!("a flow needs at least two dimensions and one layer");
        }
        let (lower, upper) = (dim / 2, dim - dim / 2);
        let mut net = |input: usize, output: usize| {
            let mut builder = Builder::default();
            let mut layer = |name, sizes, activation| Layer::uniform(&mut builder, name, sizes, activation, rng);
            let layers = [
                layer("network.0.", (input + condition, WIDTH), Activation::Tanh),
                layer("network.2.", (WIDTH, WIDTH), Activation::Tanh),
                layer("network.4.", (WIDTH, output), Activation::None),
            ];
            Result::Ok(Dense {
                params: builder.build()?,
                layers: layers.into(),
                threads: 1,
            })
        };
        let layers = (0..layers)
            .map(|_| {
                let (t1, s1) = (net(lower, upper)?, net(lower, upper)?);
                Ok(Coupling {
                    s1,
                    t1,
                    t2: net(upper, lower)?,
                    s2: net(upper, lower)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { dim, layers })
    }

    /// The weights of every coupling network with its name, e.g. `flows.0.s1.`.
    pub fn params(&self) -> Vec<(String, Params)> {
        let named = |index: usize, (name, net): (&str, &Dense)| (format!("flows.{index}.{name}."), net.params.clone());
        let layers = self.layers.iter().enumerate();
        layers
            .flat_map(|(index, layer)| layer.nets().map(|net| named(index, net)))
            .collect()
    }

    /// Adds all weights to `out` under `prefix` + name.
    pub fn export(&self, prefix: &str, out: &mut BTreeMap<String, Tensor>) -> Result<()> {
        self.params()
            .iter()
            .try_for_each(|(name, params)| params.export(&format!("{prefix}{name}"), out))
    }

    /// Takes all weights from `from`, where they are called `prefix` + name; see [`Params::import`].
    pub fn import(&self, prefix: &str, from: &BTreeMap<String, Tensor>) -> std::result::Result<(), ImportError> {
        let networks = self
            .params()
            .into_iter()
            .map(|(name, params)| (format!("{prefix}{name}"), params));
        Params::import_all(&networks.collect::<Vec<_>>(), from)
    }

    /// Data to base: `x [B, dim]`, `condition [B, c]` -> `z [B, dim]` and the log-determinant `[B]`.
    pub fn forward(&self, x: &Tensor, condition: &Tensor) -> Result<(Tensor, Tensor)> {
        let (mut lower, mut upper) = self.halves(x)?;
        let mut log_det = Tensor::zeros(x.dim(0)?, x.dtype(), x.device())?;
        for layer in &self.layers {
            let given = Tensor::cat(&[&lower, condition], 1)?;
            let s1 = run(&layer.s1, &given)?;
            upper = ((upper * s1.exp()?)? + run(&layer.t1, &given)?)?;
            let given = Tensor::cat(&[&upper, condition], 1)?;
            let s2 = run(&layer.s2, &given)?;
            lower = ((lower * s2.exp()?)? + run(&layer.t2, &given)?)?;
            log_det = ((log_det + s1.sum(D::Minus1)?)? + s2.sum(D::Minus1)?)?;
        }
        Ok((Tensor::cat(&[lower, upper], 1)?, log_det))
    }

    /// Base to data: `z [B, dim]`, `condition [B, c]` -> `x [B, dim]` and the log-determinant `[B]` of this direction.
    /// With unit Gaussian `z` this samples.
    pub fn inverse(&self, z: &Tensor, condition: &Tensor) -> Result<(Tensor, Tensor)> {
        let (mut lower, mut upper) = self.halves(z)?;
        let mut log_det = Tensor::zeros(z.dim(0)?, z.dtype(), z.device())?;
        for layer in self.layers.iter().rev() {
            let given = Tensor::cat(&[&upper, condition], 1)?;
            let s2 = run(&layer.s2, &given)?;
            lower = ((lower - run(&layer.t2, &given)?)? * s2.neg()?.exp()?)?;
            let given = Tensor::cat(&[&lower, condition], 1)?;
            let s1 = run(&layer.s1, &given)?;
            upper = ((upper - run(&layer.t1, &given)?)? * s1.neg()?.exp()?)?;
            log_det = ((log_det - s1.sum(D::Minus1)?)? - s2.sum(D::Minus1)?)?;
        }
        Ok((Tensor::cat(&[lower, upper], 1)?, log_det))
    }

    /// Log-density at `x [B, dim]` given `condition [B, c]` -> `[B]`.
    pub fn log_prob(&self, x: &Tensor, condition: &Tensor) -> Result<Tensor> {
        let (z, log_det) = self.forward(x, condition)?;
        base_log_prob(&z)? + log_det
    }

    /// An independent copy.
    pub fn deep_clone(&self) -> Result<Self> {
        let copy = |net: &Dense| {
            Result::Ok(Dense {
                params: net.params.deep_clone()?,
                ..net.clone()
            })
        };
        let layers = self
            .layers
            .iter()
            .map(|layer| {
                let (s1, t1) = (copy(&layer.s1)?, copy(&layer.t1)?);
                Ok(Coupling {
                    s1,
                    t1,
                    s2: copy(&layer.s2)?,
                    t2: copy(&layer.t2)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { layers, ..*self })
    }

    fn halves(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let lower = self.dim / 2;
        Ok((x.narrow(1, 0, lower)?, x.narrow(1, lower, self.dim - lower)?))
    }
}

fn run(net: &Dense, x: &Tensor) -> Result<Tensor> {
    net.forward(x, Mode::Eval, false)
}

/// Log-density of the unit Gaussian at `z [B, d]` -> `[B]`.
fn base_log_prob(z: &Tensor) -> Result<Tensor> {
    z.sqr()?.affine(-0.5, -0.5 * (2.0 * PI).ln())?.sum(D::Minus1)
}
