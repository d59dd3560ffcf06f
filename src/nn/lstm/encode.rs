//! The encoder as one autograd node.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};

use super::super::backward::contribute;
use super::super::gemm::{Into, Mat, product};
use super::super::kernels;
use super::super::params::{Scratch, slice_of, with_slice};
use super::stack::{Derived, Factors, Kept, StateDelta, Tape, Weights, map_shards, shards, weight_gradient};
use super::{Block, LstmSpec, Weights as Parts, composed};

/// `x [B, T, input]` -> output of the last step `[B, output]`.
pub(super) fn encode(block: &Block, x: &Tensor, frozen: bool) -> Result<Tensor> {
    let (_, steps, width) = x.dims3()?;
    if width != block.spec.input || steps == 0 {
        bail!("the encoder takes [B, T, {}], got {:?}", block.spec.input, x.dims());
    }
    if block.params.is_composed() {
        return composed::encode(&block.spec, Parts::new(&block.params, frozen), x);
    }
    let op = Encode {
        block: block.clone(),
        kept: Kept::new(&block.params),
    };
    x.contiguous()?.apply_op2(&block.weights(frozen), op)
}

struct Encode {
    block: Block,
    kept: Kept<Saved>,
}

/// One shard's forward pass.
struct Saved {
    rows: Range<usize>,
    /// Inputs, time-major `[T, rows, input]`.
    x: Scratch,
    tapes: Vec<Tape>,
}

/// One shard's backward pass.
struct Deltas {
    /// Gradient of the gates per layer `[T, rows, 4 hidden]`.
    gates: Vec<Scratch>,
    /// Gradient of the inputs, time-major.
    x: Option<Scratch>,
}

impl Encode {
    fn forward_shard(&self, weights: &Weights<'_>, x: &[f32], steps: usize, rows: Range<usize>) -> (Saved, Vec<f32>) {
        let LstmSpec {
            input,
            hidden,
            layers,
            output,
        } = self.block.spec;
        let params = &self.block.params;
        let count = rows.len();
        let mut inputs = params.take(steps * count * input);
        for (row, x) in x[rows.start * steps * input..rows.end * steps * input]
            .chunks_exact(steps * input)
            .enumerate()
        {
            for (t, x) in x.chunks_exact(input).enumerate() {
                inputs[(t * count + row) * input..][..input].copy_from_slice(x);
            }
        }
        let mut tapes: Vec<Tape> = Vec::with_capacity(layers);
        for layer in 0..layers {
            let mut tape = Tape::new(params, count, steps, hidden);
            match tapes.last() {
                None => {
                    let x = Mat::new(&inputs, steps * count, input);
                    product(x, weights.merged().t(), Into::Replace, &mut tape.gates);
                }
                Some(below) => {
                    product(
                        below.outputs(hidden),
                        weights.ih(layer).t(),
                        Into::Replace,
                        &mut tape.gates,
                    );
                }
            }
            for t in 0..steps {
                weights.step(layer, &mut tape, t);
            }
            tapes.push(tape);
        }
        let mut out = vec![0.0; count * output];
        if let Some(top) = tapes.last() {
            let last = top.outputs(hidden).row_range((steps - 1) * count, count);
            product(last, weights.output().t(), Into::Replace, &mut out);
        }
        kernels::add_bias(&mut out, weights.output_bias());
        (Saved { rows, x: inputs, tapes }, out)
    }

    fn backward_shard(&self, weights: &Weights<'_>, saved: &Saved, grad: &[f32], want_x: bool) -> Deltas {
        let LstmSpec {
            input,
            hidden,
            layers,
            output,
        } = self.block.spec;
        let params = &self.block.params;
        let count = saved.rows.len();
        let steps = saved.x.len() / (count * input);
        let size = count * hidden;
        let grad = Mat::new(&grad[saved.rows.start * output..saved.rows.end * output], count, output);
        // Gradient of the hidden states from above: for the top layer only that of the last step.
        let mut from_above = params.take(steps * size);
        from_above.fill(0.0);
        product(
            grad,
            weights.output(),
            Into::Replace,
            &mut from_above[(steps - 1) * size..],
        );
        let mut gates: Vec<Scratch> = Vec::with_capacity(layers);
        for (layer, tape) in saved.tapes.iter().enumerate().rev() {
            let mut d_gates = params.take(4 * steps * size);
            let mut state = StateDelta::zero(params, size);
            for t in (0..steps).rev() {
                kernels::add(&mut state.dh, &from_above[t * size..][..size]);
                weights.step_back(
                    layer,
                    tape,
                    t,
                    t == 0,
                    &mut state,
                    &mut d_gates[4 * t * size..][..4 * size],
                );
            }
            if layer > 0 {
                let d = Mat::new(&d_gates, steps * count, 4 * hidden);
                product(d, weights.ih(layer), Into::Replace, &mut from_above);
            }
            gates.push(d_gates);
        }
        gates.reverse();
        let x = want_x.then(|| {
            let mut x = params.take(steps * count * input);
            product(
                Mat::new(&gates[0], steps * count, 4 * hidden),
                weights.merged(),
                Into::Replace,
                &mut x,
            );
            x
        });
        Deltas { gates, x }
    }
}

impl CustomOp2 for Encode {
    fn name(&self) -> &'static str {
        "lstm-encoder"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, flat) = (slice_of(x, lx)?, slice_of(w, lw)?);
        let (rows, steps) = (lx.dims()[0], lx.dims()[1]);
        let derived = Derived::new(&self.block.spec, flat, &self.block.params);
        let weights = Weights::new(self.block.spec, flat, &derived);
        let results = map_shards(self.block.threads, &shards(rows), |rows| {
            self.forward_shard(&weights, x, steps, rows.clone())
        });
        let mut out = Vec::with_capacity(rows * self.block.spec.output);
        let mut saved = Vec::with_capacity(results.len());
        for (shard, values) in results {
            out.extend_from_slice(&values);
            saved.push(shard);
        }
        self.kept.store(self.name(), derived, saved)?;
        Ok((CpuStorage::F32(out), Shape::from((rows, self.block.spec.output))))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (derived, saved) = self.kept.load(self.name(), &self.block.params)?;
        let LstmSpec {
            input, hidden, layers, ..
        } = self.block.spec;
        let (rows, steps, _) = x.dims3()?;
        let grad = grad.contiguous()?;
        with_slice(w, |flat| {
            with_slice(&grad, |grad| {
                let weights = Weights::new(self.block.spec, flat, derived);
                let deltas = map_shards(self.block.threads, saved, |shard| {
                    self.backward_shard(&weights, shard, grad, x.track_op())
                });
                let d_weights = if w.track_op() {
                    let factors: Vec<_> = saved
                        .iter()
                        .zip(&deltas)
                        .map(|(shard, deltas)| {
                            let count = shard.rows.len();
                            let d_gates = Mat::new(&deltas.gates[0], steps * count, 4 * hidden);
                            let last = shard.tapes[layers - 1]
                                .outputs(hidden)
                                .row_range((steps - 1) * count, count);
                            let output = self.block.spec.output;
                            Factors {
                                layers: deltas.gates.iter().map(|d| &**d).zip(&shard.tapes).collect(),
                                merged: vec![(d_gates, Mat::new(&shard.x, steps * count, input), 0)],
                                output: (&grad[shard.rows.start * output..shard.rows.end * output], last),
                            }
                        })
                        .collect();
                    let flat = weight_gradient(&weights, &factors, self.block.threads);
                    contribute(&self.block.params, flat)?
                } else {
                    None
                };
                let d_x = if x.track_op() {
                    let mut out = vec![0.0; rows * steps * input];
                    for (shard, deltas) in saved.iter().zip(&deltas) {
                        let (Some(d), count) = (&deltas.x, shard.rows.len()) else {
                            continue;
                        };
                        for (index, d) in d.chunks_exact(input).enumerate() {
                            let (t, row) = (index / count, shard.rows.start + index % count);
                            out[(row * steps + t) * input..][..input].copy_from_slice(d);
                        }
                    }
                    Some(Tensor::from_vec(out, x.dims(), &Device::Cpu)?)
                } else {
                    None
                };
                Ok((d_x, d_weights))
            })
        })
    }
}
