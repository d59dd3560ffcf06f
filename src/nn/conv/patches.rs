//! Patches of pictures as rows of a matrix, so that a convolution is a matrix product.

/// Side of every kernel.
pub(in crate::nn) const KERNEL: usize = 4;

/// How a convolution looks at its input.
#[derive(Debug, Clone, Copy)]
pub(in crate::nn) struct Geometry {
    /// Channels of the input.
    pub(in crate::nn) channels: usize,
    /// Side of the input.
    side: usize,
    /// Side of the output.
    out: usize,
    pub(in crate::nn) stride: usize,
    pub(in crate::nn) pad: usize,
    /// Whether the input is stored channel by channel, `[channels, side, side]`, as pictures come. What the network
    /// makes of them is stored pixel by pixel, `[side, side, channels]`: there a row of a patch is one stretch of
    /// memory, and normalisation works on columns.
    ///
    /// The numbers of a patch are ordered as the input is: `[channels, 4, 4]` or `[4, 4, channels]`.
    planes: bool,
}

/// The part of a kernel's side that lies inside the picture.
struct Span {
    /// First tap inside.
    tap: usize,
    /// Where in the picture that tap lies.
    at: usize,
    /// Taps inside.
    taps: usize,
}

impl Geometry {
    /// From `side` to half of it: stride 2, padding 1.
    pub(super) fn halving(channels: usize, side: usize, planes: bool) -> Self {
        Self {
            channels,
            side,
            out: side / 2,
            stride: 2,
            pad: 1,
            planes,
        }
    }

    /// From a picture of the kernel's size to a single vector.
    pub(super) fn whole(channels: usize, side: usize) -> Self {
        Self {
            channels,
            side,
            out: 1,
            stride: 1,
            pad: 0,
            planes: false,
        }
    }

    /// Numbers in a patch.
    pub(super) fn patch(&self) -> usize {
        KERNEL * KERNEL * self.channels
    }

    /// Numbers in an input picture.
    pub(super) fn input(&self) -> usize {
        self.channels * self.side * self.side
    }

    /// Patches per picture.
    pub(super) fn positions(&self) -> usize {
        self.out * self.out
    }

    fn span(&self, position: usize) -> Span {
        let tap = self.pad.saturating_sub(position * self.stride);
        let at = position * self.stride + tap - self.pad;
        Span {
            tap,
            at,
            taps: (KERNEL - tap).min(self.side - at),
        }
    }

    /// Calls `visit(patch, rows, columns)` for every patch of `patches [positions, patch]`.
    fn for_patches<'a>(
        &self,
        patches: impl Iterator<Item = &'a mut [f32]>,
        mut visit: impl FnMut(&mut [f32], &Span, &Span),
    ) {
        for (index, patch) in patches.enumerate() {
            visit(patch, &self.span(index / self.out), &self.span(index % self.out));
        }
    }

    /// Writes all patches of a picture to `patches [positions, patch]`, zero beyond its edges.
    pub(super) fn gather(&self, picture: &[f32], patches: &mut [f32]) {
        let width = self.patch();
        self.for_patches(patches.chunks_exact_mut(width), |patch, rows, columns| {
            if rows.taps < KERNEL || columns.taps < KERNEL {
                patch.fill(0.0);
            }
            if self.planes {
                self.gather_planes(picture, patch, rows, columns);
            } else {
                let length = columns.taps * self.channels;
                for row in 0..rows.taps {
                    let from = ((rows.at + row) * self.side + columns.at) * self.channels;
                    let to = ((rows.tap + row) * KERNEL + columns.tap) * self.channels;
                    patch[to..to + length].copy_from_slice(&picture[from..from + length]);
                }
            }
        });
    }

    fn gather_planes(&self, picture: &[f32], patch: &mut [f32], rows: &Span, columns: &Span) {
        for (plane, taps) in picture
            .chunks_exact(self.side * self.side)
            .zip(patch.as_chunks_mut::<{ KERNEL * KERNEL }>().0)
        {
            for row in 0..rows.taps {
                let from = &plane[(rows.at + row) * self.side + columns.at..];
                let to = &mut taps[(rows.tap + row) * KERNEL + columns.tap..];
                // Four numbers at once almost everywhere: a copy of unknown length is a call.
                match (
                    columns.taps,
                    from.first_chunk::<KERNEL>(),
                    to.first_chunk_mut::<KERNEL>(),
                ) {
                    (KERNEL, Some(from), Some(to)) => *to = *from,
                    _ => to[..columns.taps].copy_from_slice(&from[..columns.taps]),
                }
            }
        }
    }

    /// Adds `patches [positions, patch]` to the places of a picture they come from; only for pixel by pixel.
    pub(super) fn scatter(&self, patches: &[f32], picture: &mut [f32]) {
        for (index, patch) in patches.chunks_exact(self.patch()).enumerate() {
            let (rows, columns) = (self.span(index / self.out), self.span(index % self.out));
            let length = columns.taps * self.channels;
            for row in 0..rows.taps {
                let to = ((rows.at + row) * self.side + columns.at) * self.channels;
                let from = ((rows.tap + row) * KERNEL + columns.tap) * self.channels;
                for (to, from) in picture[to..to + length].iter_mut().zip(&patch[from..from + length]) {
                    *to += from;
                }
            }
        }
    }

    /// Weights `[outputs, channels, 4, 4]` in the order of patches, `[outputs, patch]`.
    pub(super) fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        self.reorder(weights, packed, |tap, channel| {
            (channel * KERNEL * KERNEL + tap, tap * self.channels + channel)
        });
    }

    /// The reverse of [`pack`](Self::pack).
    pub(super) fn unpack(&self, packed: &[f32], weights: &mut [f32]) {
        self.reorder(packed, weights, |tap, channel| {
            (tap * self.channels + channel, channel * KERNEL * KERNEL + tap)
        });
    }

    fn reorder(&self, from: &[f32], to: &mut [f32], places: impl Fn(usize, usize) -> (usize, usize)) {
        if self.planes {
            return to.copy_from_slice(from);
        }
        for (from, to) in from.chunks_exact(self.patch()).zip(to.chunks_exact_mut(self.patch())) {
            for tap in 0..KERNEL * KERNEL {
                for channel in 0..self.channels {
                    let (source, target) = places(tap, channel);
                    to[target] = from[source];
                }
            }
        }
    }
}
