//! Fresh weights.

use rand::RngExt;

use crate::rng::Stream;

/// Xavier-normal with gain 1 for a `[output, input]` weight (Glorot & Bengio 2010).
pub(super) fn xavier_normal(rng: &mut Stream, out: &mut [f32], input: usize, output: usize) {
    let std = (2.0 / (input + output) as f32).sqrt();
    rng.fill_normal(out);
    for value in out {
        *value *= std;
    }
}

/// Uniform in `+-1 / sqrt(fan)`: the `PyTorch` default of `Linear` (fan = inputs) and `LSTMCell` (fan = hidden units).
pub(super) fn uniform(rng: &mut Stream, out: &mut [f32], fan: usize) {
    let bound = 1.0 / (fan as f32).sqrt();
    for value in out {
        *value = rng.random_range(-bound..bound);
    }
}
