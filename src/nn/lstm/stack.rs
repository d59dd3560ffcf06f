//! What the two recurrent operations share: views of the weights, one layer's passes, and the shards of a batch.
//!
//! The embedding and the input weights of the first layer have no activation in between, so both passes use their
//! product `M = W_ih E` instead: per step and row that saves the multiplication with the wider of the two.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{Result, bail};

use super::super::gemm::{Into, Mat, for_row_blocks, product};
use super::super::kernels;
use super::super::params::{Params, Scratch};
use super::LstmSpec;

/// Rows of a batch that are worked on together. A constant, so that sums over the batch do not depend on the number of
/// threads.
const SHARD: usize = 64;

/// Offsets of the tensors of a block in its flat weights, in the order in which `Block::new` appends them.
pub(super) struct Offsets {
    embed: Range<usize>,
    embed_bias: Range<usize>,
    layers: Vec<LayerOffsets>,
    output: Range<usize>,
    output_bias: Range<usize>,
}

struct LayerOffsets {
    ih: Range<usize>,
    hh: Range<usize>,
    bias_ih: Range<usize>,
    bias_hh: Range<usize>,
}

impl Offsets {
    pub(super) fn new(spec: &LstmSpec) -> Self {
        let LstmSpec {
            input,
            hidden,
            layers,
            output,
        } = *spec;
        let mut at = 0;
        let mut next = |len: usize| {
            at += len;
            at - len..at
        };
        Self {
            embed: next(hidden * input),
            embed_bias: next(hidden),
            layers: (0..layers)
                .map(|_| LayerOffsets {
                    ih: next(4 * hidden * hidden),
                    hh: next(4 * hidden * hidden),
                    bias_ih: next(4 * hidden),
                    bias_hh: next(4 * hidden),
                })
                .collect(),
            output: next(output * hidden),
            output_bias: next(output),
        }
    }
}

/// What both passes derive from the weights.
pub(super) struct Derived {
    /// `M [4 hidden, input]`
    merged: Scratch,
    /// Per layer: the recurrent weights transposed, `[hidden, 4 hidden]`. They are used in every step.
    hh_t: Vec<Scratch>,
    /// Per layer: sum of all biases before the gates `[4 hidden]`.
    bias: Vec<Vec<f32>>,
}

impl Derived {
    pub(super) fn new(spec: &LstmSpec, flat: &[f32], params: &Params) -> Self {
        let LstmSpec { input, hidden, .. } = *spec;
        let offsets = Offsets::new(spec);
        let first = Mat::new(&flat[offsets.layers[0].ih.clone()], 4 * hidden, hidden);
        let mut merged = params.take(4 * hidden * input);
        let embed = Mat::new(&flat[offsets.embed.clone()], hidden, input);
        product(first, embed, Into::Replace, &mut merged);
        let hh_t = offsets.layers.iter().map(|at| {
            let mut hh_t = params.take(at.hh.len());
            kernels::transpose(&flat[at.hh.clone()], hidden, &mut hh_t);
            hh_t
        });
        let sum = |at: &LayerOffsets| {
            let pairs = flat[at.bias_ih.clone()].iter().zip(&flat[at.bias_hh.clone()]);
            pairs.map(|(a, b)| a + b).collect::<Vec<_>>()
        };
        let mut bias: Vec<_> = offsets.layers.iter().map(sum).collect();
        product(
            first,
            Mat::new(&flat[offsets.embed_bias.clone()], hidden, 1),
            Into::Add,
            &mut bias[0],
        );
        Self {
            merged,
            hh_t: hh_t.collect(),
            bias,
        }
    }
}

/// What a forward pass leaves for its backward pass: what it derived from the weights, and an `S` for every shard.
pub(super) struct Kept<S> {
    version: u64,
    saved: OnceLock<(Derived, Vec<S>)>,
}

impl<S> Kept<S> {
    /// Nothing yet, of a forward pass with the weights as they are now.
    pub(super) fn new(params: &Params) -> Self {
        Self {
            version: params.version(),
            saved: OnceLock::new(),
        }
    }

    /// Stores the forward pass of the operation `op`, which happens once.
    pub(super) fn store(&self, op: &str, derived: Derived, shards: Vec<S>) -> Result<()> {
        if self.saved.set((derived, shards)).is_err() {
            bail!("{op}: there was a forward pass before");
        }
        Ok(())
    }

    /// The forward pass of the operation `op`.
    ///
    /// # Errors
    /// There was none, or the weights have changed since.
    pub(super) fn load(&self, op: &str, params: &Params) -> Result<(&Derived, &[S])> {
        params.check_version(self.version, op)?;
        match self.saved.get() {
            Some((derived, shards)) => Ok((derived, shards)),
            None => bail!("{op}: no forward pass was kept"),
        }
    }
}

/// The weights in the form in which the passes need them.
pub(super) struct Weights<'a> {
    spec: LstmSpec,
    offsets: Offsets,
    flat: &'a [f32],
    derived: &'a Derived,
}

impl<'a> Weights<'a> {
    pub(super) fn new(spec: LstmSpec, flat: &'a [f32], derived: &'a Derived) -> Self {
        Self {
            spec,
            offsets: Offsets::new(&spec),
            flat,
            derived,
        }
    }

    /// `M [4 hidden, input]`.
    pub(super) fn merged(&self) -> Mat<'_> {
        Mat::new(&self.derived.merged, 4 * self.spec.hidden, self.spec.input)
    }

    /// Output weights `[output, hidden]`.
    pub(super) fn output(&self) -> Mat<'_> {
        Mat::new(
            &self.flat[self.offsets.output.clone()],
            self.spec.output,
            self.spec.hidden,
        )
    }

    pub(super) fn output_bias(&self) -> &[f32] {
        &self.flat[self.offsets.output_bias.clone()]
    }

    /// Input weights of a layer above the first, `[4 hidden, hidden]`.
    pub(super) fn ih(&self, layer: usize) -> Mat<'_> {
        Mat::new(
            &self.flat[self.offsets.layers[layer].ih.clone()],
            4 * self.spec.hidden,
            self.spec.hidden,
        )
    }

    /// One step of one layer. `gates` holds the part of the pre-activations that comes from below.
    pub(super) fn step(&self, layer: usize, tape: &mut Tape, t: usize) {
        let LstmSpec { hidden, .. } = self.spec;
        let rows = tape.rows;
        let (past, present) = tape.h.split_at_mut((t + 1) * rows * hidden);
        let gates = &mut tape.gates[t * rows * 4 * hidden..][..rows * 4 * hidden];
        if t > 0 || tape.started {
            let h = Mat::new(&past[t * rows * hidden..], rows, hidden);
            product(
                h,
                Mat::new(&self.derived.hh_t[layer], hidden, 4 * hidden),
                Into::Add,
                gates,
            );
        }
        let (c_past, c) = tape.c.split_at_mut((t + 1) * rows * hidden);
        kernels::lstm_forward(
            gates,
            &self.derived.bias[layer],
            &c_past[t * rows * hidden..],
            &mut c[..rows * hidden],
            &mut tape.tanh_c[t * rows * hidden..][..rows * hidden],
            &mut present[..rows * hidden],
        );
    }

    /// Back through one step of one layer: `state` is the gradient of the state after it and becomes that of the state
    /// before; the gradient of the pre-activations goes to `d_gates`. `first` says that nothing needs the gradient of
    /// the hidden state before.
    pub(super) fn step_back(
        &self,
        layer: usize,
        tape: &Tape,
        t: usize,
        first: bool,
        state: &mut StateDelta,
        d_gates: &mut [f32],
    ) {
        let StateDelta { dh, dc } = state;
        let hidden = self.spec.hidden;
        let at = t * tape.rows * hidden;
        let len = tape.rows * hidden;
        let (gates, c) = (&tape.gates[4 * at..][..4 * len], &tape.c[at..][..len]);
        kernels::lstm_backward(gates, c, &tape.tanh_c[at..][..len], dh, dc, d_gates, hidden);
        if !first {
            let hh = Mat::new(&self.flat[self.offsets.layers[layer].hh.clone()], 4 * hidden, hidden);
            product(Mat::new(d_gates, tape.rows, 4 * hidden), hh, Into::Replace, dh);
        }
    }
}

/// Gradient of a layer's hidden and cell state, both `[rows, hidden]`.
pub(super) struct StateDelta {
    pub(super) dh: Scratch,
    pub(super) dc: Scratch,
}

impl StateDelta {
    pub(super) fn zero(params: &Params, size: usize) -> Self {
        let zeros = || {
            let mut values = params.take(size);
            values.fill(0.0);
            values
        };
        Self {
            dh: zeros(),
            dc: zeros(),
        }
    }
}

/// Everything one layer computed for one shard, time-major: step t of `rows` rows lies together.
pub(super) struct Tape {
    pub(super) rows: usize,
    /// Whether the state before step 0 is not zero.
    started: bool,
    /// Activated gates `[T, rows, 4 hidden]`.
    pub(super) gates: Scratch,
    /// Cell states, from before step 0 on, `[T + 1, rows, hidden]`.
    c: Scratch,
    /// Hidden states, likewise.
    pub(super) h: Scratch,
    /// tanh of the cell states after each step `[T, rows, hidden]`.
    tanh_c: Scratch,
}

impl Tape {
    /// A tape whose state before step 0 is zero.
    pub(super) fn new(params: &Params, rows: usize, steps: usize, hidden: usize) -> Self {
        let take = |steps: usize, width: usize| params.take(steps * rows * width);
        let (mut c, mut h) = (take(steps + 1, hidden), take(steps + 1, hidden));
        c[..rows * hidden].fill(0.0);
        h[..rows * hidden].fill(0.0);
        Self {
            rows,
            started: false,
            gates: take(steps, 4 * hidden),
            c,
            h,
            tanh_c: take(steps, hidden),
        }
    }

    /// Sets the state before step 0 of `row` from `[h | c]`.
    pub(super) fn start(&mut self, row: usize, state: &[f32]) {
        let (h, c) = state.split_at(state.len() / 2);
        self.h[row * h.len()..][..h.len()].copy_from_slice(h);
        self.c[row * c.len()..][..c.len()].copy_from_slice(c);
        self.started = true;
    }

    /// Hidden states after each step `[T * rows, hidden]`.
    pub(super) fn outputs(&self, hidden: usize) -> Mat<'_> {
        let skip = self.rows * hidden;
        Mat::new(&self.h[skip..], self.h.len() / hidden - self.rows, hidden)
    }

    /// Hidden states before each step `[T * rows, hidden]`.
    fn inputs(&self, hidden: usize) -> Mat<'_> {
        Mat::new(&self.h, self.h.len() / hidden - self.rows, hidden)
    }
}

/// A shard's part of the weight gradient: pairs of factors over its rows and steps.
pub(super) struct Factors<'a> {
    /// Per layer: gradient of the gates `[T * rows, 4 hidden]`, and the tape.
    pub(super) layers: Vec<(&'a [f32], &'a Tape)>,
    /// What `M` was multiplied with and the gradient of the product, `([_, 4 hidden], [_, columns], first column)`.
    pub(super) merged: Vec<(Mat<'a>, Mat<'a>, usize)>,
    /// Gradient of the outputs `[_, output]` and the hidden states they came from.
    pub(super) output: (&'a [f32], Mat<'a>),
}

/// Hands the factors `a`, `b` of every product `a^T b` of a shard to its second argument.
type Pairs<'a> = dyn Fn(&Factors<'_>, &mut dyn FnMut(Mat<'_>, Mat<'_>)) + Sync + 'a;

/// The gradient of the flat weights from the factors of all shards, added up in their order.
pub(super) fn weight_gradient(weights: &Weights<'_>, shards: &[Factors<'_>], threads: usize) -> Vec<f32> {
    let LstmSpec {
        input,
        hidden,
        layers,
        output,
    } = weights.spec;
    let (offsets, flat) = (&weights.offsets, weights.flat);
    let mut out = vec![0.0; flat.len()];
    // Sums over the shards of `a^T b`, into `slot [a.cols, width]`.
    let accumulate = |slot: &mut [f32], width: usize, pair: &Pairs<'_>| {
        for_row_blocks(threads, slot, width, |first, slot| {
            let rows = slot.len() / width;
            let mut into = Into::Replace;
            for shard in shards {
                pair(shard, &mut |a: Mat<'_>, b: Mat<'_>| {
                    product(a.t().row_range(first, rows), b, into, slot);
                    into = Into::Add;
                });
            }
        });
    };
    let sums = |slot: &mut [f32], values: &dyn Fn(&Factors<'_>) -> Vec<f32>| {
        for shard in shards {
            slot.iter_mut()
                .zip(values(shard))
                .for_each(|(sum, value)| *sum += value);
        }
    };

    for (index, at) in offsets.layers.iter().enumerate().take(layers) {
        accumulate(&mut out[at.hh.clone()], hidden, &|shard, add| {
            let (d_gates, tape) = shard.layers[index];
            let d_gates = Mat::new(d_gates, d_gates.len() / (4 * hidden), 4 * hidden);
            let skip = if tape.started { 0 } else { tape.rows };
            let rows = d_gates.rows() - skip;
            add(d_gates.row_range(skip, rows), tape.inputs(hidden).row_range(skip, rows));
        });
        if index > 0 {
            accumulate(&mut out[at.ih.clone()], hidden, &|shard, add| {
                let (d_gates, _) = shard.layers[index];
                let d_gates = Mat::new(d_gates, d_gates.len() / (4 * hidden), 4 * hidden);
                add(d_gates, shard.layers[index - 1].1.outputs(hidden));
            });
        }
        sums(&mut out[at.bias_ih.clone()], &|shard| {
            let mut sum = vec![0.0; 4 * hidden];
            kernels::column_sums(shard.layers[index].0, 4 * hidden, 0, &mut sum);
            sum
        });
        out.copy_within(at.bias_ih.clone(), at.bias_hh.start);
    }

    // Gradient of M, then of its two factors.
    let mut d_merged = vec![0.0; 4 * hidden * input];
    let blocks = shards.first().map_or(0, |shard| shard.merged.len());
    for block in 0..blocks {
        let (_, columns, from) = shards[0].merged[block];
        let width = columns.cols();
        let mut part = vec![0.0; 4 * hidden * width];
        accumulate(&mut part, width, &|shard, add| {
            let (d, x, _) = shard.merged[block];
            add(d, x);
        });
        for (row, part) in d_merged.chunks_exact_mut(input).zip(part.chunks_exact(width)) {
            row[from..from + width].copy_from_slice(part);
        }
    }
    let d_bias = out[offsets.layers[0].bias_ih.clone()].to_vec();
    let embed = Mat::new(&flat[offsets.embed.clone()], hidden, input);
    let embed_bias = &flat[offsets.embed_bias.clone()];
    let d_ih = &mut out[offsets.layers[0].ih.clone()];
    product(Mat::new(&d_merged, 4 * hidden, input), embed.t(), Into::Replace, d_ih);
    for (row, d) in d_ih.chunks_exact_mut(hidden).zip(&d_bias) {
        row.iter_mut().zip(embed_bias).for_each(|(row, bias)| *row += d * bias);
    }
    let first = Mat::new(&flat[offsets.layers[0].ih.clone()], 4 * hidden, hidden);
    product(
        first.t(),
        Mat::new(&d_merged, 4 * hidden, input),
        Into::Replace,
        &mut out[offsets.embed.clone()],
    );
    product(
        first.t(),
        Mat::new(&d_bias, 4 * hidden, 1),
        Into::Replace,
        &mut out[offsets.embed_bias.clone()],
    );

    accumulate(&mut out[offsets.output.clone()], hidden, &|shard, add| {
        let (d, h) = shard.output;
        add(Mat::new(d, d.len() / output, output), h);
    });
    sums(&mut out[offsets.output_bias.clone()], &|shard| {
        let mut sum = vec![0.0; output];
        kernels::column_sums(shard.output.0, output, 0, &mut sum);
        sum
    });
    out
}

/// The row ranges of the shards of a batch.
pub(super) fn shards(rows: usize) -> Vec<Range<usize>> {
    let count = (rows / SHARD).max(1);
    (0..count)
        .map(|i| i * SHARD..if i + 1 == count { rows } else { (i + 1) * SHARD })
        .collect()
}

/// Maps every shard, on up to `threads` threads.
pub(super) fn map_shards<T: Send, S: Sync>(threads: usize, shards: &[S], work: impl Fn(&S) -> T + Sync) -> Vec<T> {
    if threads < 2 || shards.len() < 2 {
        return shards.iter().map(work).collect();
    }
    let mut results: Vec<Option<T>> = shards.iter().map(|_| None).collect();
    let per_thread = shards.len().div_ceil(threads);
    let work = &work;
    rayon::scope(|scope| {
        for (results, shards) in results.chunks_mut(per_thread).zip(shards.chunks(per_thread)) {
            scope.spawn(move |_| {
                for (result, shard) in results.iter_mut().zip(shards) {
                    *result = Some(work(shard));
                }
            });
        }
    });
    results.into_iter().flatten().collect()
}
