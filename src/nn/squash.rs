//! Squashing of unbounded policy samples into a box: `action = range * tanh(a)`.

use candle_core::{D, Result, Tensor};

/// `range * tanh(a)`, any shape.
pub fn squash(a: &Tensor, range: f64) -> Result<Tensor> {
    a.tanh()? * range
}

/// What squashing adds to the log-density: subtract this from `log p(a)` to get `log p(action)`. `a [B, d]` -> `[B]`.
///
/// `ln range + 2 sum_d (ln 2 - a_d - softplus(-2 a_d))`, stable for large `|a|`. As in `SPiRL`, `ln range` enters once
/// and not `d` times: a constant offset of the log-density, which the entropy targets of its experiments include.
pub fn log_det(a: &Tensor, range: f64) -> Result<Tensor> {
    let per_dim = ((std::f64::consts::LN_2 - a)? - softplus(&(a * -2.0)?)?)?;
    per_dim.sum(D::Minus1)?.affine(2.0, range.ln())
}

/// `ln(1 + exp(x))` without overflow.
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + ((x.abs()?.neg()?.exp()? + 1.0)?).log()?
}
