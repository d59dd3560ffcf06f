//! The autoregressive decoder as one autograd node.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

use super::super::backward::contribute;
use super::super::gemm::{Into, Mat, product};
use super::super::kernels;
use super::super::params::{Scratch, slice_of, with_slice};
use super::stack::{Derived, Factors, Kept, StateDelta, Tape, Weights, map_shards, shards, weight_gradient};
use super::{Block, LstmSpec, Weights as Parts, composed};

/// `z [B, nz]` and `start [1 or B, output + state]` -> `[B, steps, output]`.
pub(super) fn decode(block: &Block, z: &Tensor, start: &Tensor, steps: usize, frozen: bool) -> Result<Tensor> {
    let LstmSpec { input, output, .. } = block.spec;
    let (rows, nz) = z.dims2()?;
    if output + nz != input || steps == 0 {
        bail!(
            "the decoder takes [B, {}] and at least one step, got {:?} and {steps}",
            input - output,
            z.dims()
        );
    }
    let (starts, width) = start.dims2()?;
    if width != output + block.spec.state() || (starts != 1 && starts != rows) {
        bail!(
            "a decoder start is [B, {output}] and [B, {}], got {starts} rows of {width}",
            block.spec.state()
        );
    }
    if block.params.is_composed() {
        return composed::decode(&block.spec, Parts::new(&block.params, frozen), z, start, steps);
    }
    let op = Decode {
        block: block.clone(),
        steps,
        kept: Kept::new(&block.params),
    };
    z.contiguous()?
        .apply_op3(&block.weights(frozen), &start.contiguous()?, op)
}

struct Decode {
    block: Block,
    steps: usize,
    kept: Kept<Saved>,
}

/// One shard's forward pass.
struct Saved {
    rows: Range<usize>,
    /// `x_0` and all outputs, time-major `[T + 1, rows, output]`.
    x: Scratch,
    tapes: Vec<Tape>,
}

/// One shard's backward pass.
struct Deltas {
    /// Gradient of the gates per layer `[T, rows, 4 hidden]`.
    gates: Vec<Scratch>,
    /// That of the first layer summed over the steps `[rows, 4 hidden]`.
    gates_sum: Scratch,
    /// Gradient of the outputs, feedback included, `[T, rows, output]`.
    out: Scratch,
    z: Option<Vec<f32>>,
    /// `[rows, output + state]`
    start: Option<Vec<f32>>,
}

impl Decode {
    fn forward_shard(&self, weights: &Weights<'_>, z: &[f32], start: &[f32], rows: Range<usize>) -> Saved {
        let LstmSpec {
            input,
            hidden,
            layers,
            output,
        } = self.block.spec;
        let params = &self.block.params;
        let (count, nz, width) = (rows.len(), input - output, output + self.block.spec.state());
        let mut x = params.take((self.steps + 1) * count * output);
        let mut tapes: Vec<Tape> = (0..layers)
            .map(|_| Tape::new(params, count, self.steps, hidden))
            .collect();
        for row in 0..count {
            // A single start row serves the whole batch.
            let at = if start.len() == width {
                0
            } else {
                (rows.start + row) * width
            };
            let (x0, state) = start[at..at + width].split_at(output);
            x[row * output..][..output].copy_from_slice(x0);
            for (tape, state) in tapes.iter_mut().zip(state.chunks_exact(2 * hidden)) {
                tape.start(row, state);
            }
        }
        let z = Mat::new(&z[rows.start * nz..rows.end * nz], count, nz);
        let mut from_z = params.take(count * 4 * hidden);
        product(z, weights.merged().columns(output, nz).t(), Into::Replace, &mut from_z);
        for t in 0..self.steps {
            for layer in 0..layers {
                let (below, rest) = tapes.split_at_mut(layer);
                let Some(tape) = rest.first_mut() else { break };
                let gates = &mut tape.gates[4 * t * count * hidden..][..4 * count * hidden];
                if let Some(below) = below.last() {
                    let h = below.outputs(hidden).row_range(t * count, count);
                    product(h, weights.ih(layer).t(), Into::Replace, gates);
                } else {
                    gates.copy_from_slice(&from_z);
                    let x = Mat::new(&x[t * count * output..], count, output);
                    product(x, weights.merged().columns(0, output).t(), Into::Add, gates);
                }
                weights.step(layer, tape, t);
            }
            let out = &mut x[(t + 1) * count * output..][..count * output];
            if let Some(top) = tapes.last() {
                product(
                    top.outputs(hidden).row_range(t * count, count),
                    weights.output().t(),
                    Into::Replace,
                    out,
                );
            }
            kernels::add_bias(out, weights.output_bias());
        }
        Saved { rows, x, tapes }
    }

    fn backward_shard(
        &self,
        weights: &Weights<'_>,
        saved: &Saved,
        grad: &[f32],
        want_z: bool,
        want_start: bool,
    ) -> Deltas {
        let LstmSpec {
            input,
            hidden,
            layers,
            output,
        } = self.block.spec;
        let params = &self.block.params;
        let (count, steps, nz) = (saved.rows.len(), self.steps, input - output);
        let size = count * hidden;
        let mut out = params.take(steps * count * output);
        for (index, row) in out.chunks_exact_mut(output).enumerate() {
            let (t, batch_row) = (index / count, saved.rows.start + index % count);
            row.copy_from_slice(&grad[(batch_row * steps + t) * output..][..output]);
        }
        let mut gates: Vec<Scratch> = (0..layers).map(|_| params.take(4 * steps * size)).collect();
        let mut state: Vec<_> = (0..layers).map(|_| StateDelta::zero(params, size)).collect();
        let mut gates_sum = params.take(4 * size);
        gates_sum.fill(0.0);
        let mut from_above = params.take(size);
        let feedback = weights.merged().columns(0, output);
        for t in (0..steps).rev() {
            if t + 1 < steps {
                // The output was also the next step's input.
                let next = Mat::new(&gates[0][4 * (t + 1) * size..], count, 4 * hidden);
                product(
                    next,
                    feedback,
                    Into::Add,
                    &mut out[t * count * output..][..count * output],
                );
            }
            let d_out = Mat::new(&out[t * count * output..], count, output);
            product(d_out, weights.output(), Into::Replace, &mut from_above);
            for (layer, tape) in saved.tapes.iter().enumerate().rev() {
                let d_gates = &mut gates[layer][4 * t * size..][..4 * size];
                let state = &mut state[layer];
                kernels::add(&mut state.dh, &from_above);
                weights.step_back(layer, tape, t, t == 0 && !want_start, state, d_gates);
                if layer > 0 {
                    product(
                        Mat::new(d_gates, count, 4 * hidden),
                        weights.ih(layer),
                        Into::Replace,
                        &mut from_above,
                    );
                } else {
                    kernels::add(&mut gates_sum, d_gates);
                }
            }
        }
        let sum = Mat::new(&gates_sum, count, 4 * hidden);
        let z = want_z.then(|| {
            let mut z = vec![0.0; count * nz];
            product(sum, weights.merged().columns(output, nz), Into::Replace, &mut z);
            z
        });
        let start = want_start.then(|| {
            let mut x0 = vec![0.0; count * output];
            product(Mat::new(&gates[0], count, 4 * hidden), feedback, Into::Replace, &mut x0);
            let mut start = Vec::with_capacity(count * (output + self.block.spec.state()));
            for row in 0..count {
                start.extend_from_slice(&x0[row * output..][..output]);
                for StateDelta { dh, dc } in &state {
                    start.extend_from_slice(&dh[row * hidden..][..hidden]);
                    start.extend_from_slice(&dc[row * hidden..][..hidden]);
                }
            }
            start
        });
        Deltas {
            gates,
            gates_sum,
            out,
            z,
            start,
        }
    }

    fn weight_gradient(&self, weights: &Weights<'_>, saved: &[Saved], deltas: &[Deltas], z: &[f32]) -> Vec<f32> {
        let LstmSpec {
            input,
            hidden,
            layers,
            output,
        } = self.block.spec;
        let nz = input - output;
        let factors: Vec<_> = saved
            .iter()
            .zip(deltas)
            .map(|(shard, deltas)| {
                let (count, rows) = (shard.rows.len(), self.steps * shard.rows.len());
                let z = Mat::new(&z[shard.rows.start * nz..shard.rows.end * nz], count, nz);
                Factors {
                    layers: deltas.gates.iter().map(|d| &**d).zip(&shard.tapes).collect(),
                    merged: vec![
                        (
                            Mat::new(&deltas.gates[0], rows, 4 * hidden),
                            Mat::new(&shard.x, rows, output),
                            0,
                        ),
                        (Mat::new(&deltas.gates_sum, count, 4 * hidden), z, output),
                    ],
                    output: (&deltas.out, shard.tapes[layers - 1].outputs(hidden)),
                }
            })
            .collect();
        weight_gradient(weights, &factors, self.block.threads)
    }
}

impl CustomOp3 for Decode {
    fn name(&self) -> &'static str {
        "lstm-decoder"
    }

    fn cpu_fwd(
        &self,
        z: &CpuStorage,
        lz: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        start: &CpuStorage,
        ls: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (z, flat, start) = (slice_of(z, lz)?, slice_of(w, lw)?, slice_of(start, ls)?);
        let (rows, output, steps) = (lz.dims()[0], self.block.spec.output, self.steps);
        let derived = Derived::new(&self.block.spec, flat, &self.block.params);
        let weights = Weights::new(self.block.spec, flat, &derived);
        let saved = map_shards(self.block.threads, &shards(rows), |rows| {
            self.forward_shard(&weights, z, start, rows.clone())
        });
        let mut out = vec![0.0; rows * steps * output];
        for shard in &saved {
            let count = shard.rows.len();
            for (index, x) in shard.x[count * output..].chunks_exact(output).enumerate() {
                let (t, row) = (index / count, shard.rows.start + index % count);
                out[(row * steps + t) * output..][..output].copy_from_slice(x);
            }
        }
        self.kept.store(self.name(), derived, saved)?;
        Ok((CpuStorage::F32(out), Shape::from((rows, steps, output))))
    }

    fn bwd(
        &self,
        z: &Tensor,
        w: &Tensor,
        start: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (derived, saved) = self.kept.load(self.name(), &self.block.params)?;
        let grad = grad.contiguous()?;
        with_slice(w, |flat| {
            let weights = Weights::new(self.block.spec, flat, derived);
            let deltas = with_slice(&grad, |grad| {
                Ok(map_shards(self.block.threads, saved, |shard| {
                    self.backward_shard(&weights, shard, grad, z.track_op(), start.track_op())
                }))
            })?;
            let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.dims(), &Device::Cpu);
            let d_weights = if w.track_op() {
                let flat = with_slice(z, |z| Ok(self.weight_gradient(&weights, saved, &deltas, z)))?;
                contribute(&self.block.params, flat)?
            } else {
                None
            };
            let d_z = if z.track_op() {
                Some(tensor(
                    deltas
                        .iter()
                        .filter_map(|d| d.z.as_deref())
                        .flatten()
                        .copied()
                        .collect(),
                    z,
                )?)
            } else {
                None
            };
            let d_start = if start.track_op() {
                let rows = deltas.iter().filter_map(|d| d.start.as_deref());
                if start.dims()[0] == 1 {
                    let mut sum = vec![0.0; start.elem_count()];
                    for row in rows.flat_map(|rows| rows.chunks_exact(start.elem_count())) {
                        kernels::add(&mut sum, row);
                    }
                    Some(tensor(sum, start)?)
                } else {
                    Some(tensor(rows.flatten().copied().collect(), start)?)
                }
            } else {
                None
            };
            Ok((d_z, d_weights, d_start))
        })
    }
}
