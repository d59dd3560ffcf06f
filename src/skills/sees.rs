//! What networks look at: numbers, or pictures drawn from the world.

use serde::{Deserialize, Serialize};

/// Colour channels of a frame.
const COLOURS: usize = 3;

/// Sizes of the pictures an agent sees: the last few frames, stacked oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelDims {
    /// Frames in a picture; 2 in the original.
    pub frames: usize,
    /// Height and width in pixels: 8, 16, 32 (as in the original) or another power of two.
    pub size: usize,
}

impl PixelDims {
    /// Channels of a picture.
    pub fn channels(self) -> usize {
        COLOURS * self.frames
    }

    /// Numbers in a frame, `[3, size, size]`.
    pub fn frame(self) -> usize {
        COLOURS * self.size * self.size
    }

    /// Numbers in a picture, `[3 * frames, size, size]`.
    pub fn picture(self) -> usize {
        self.frames * self.frame()
    }

    /// The shape of `rows` pictures as a network takes them.
    pub fn shape(self, rows: usize) -> (usize, usize, usize, usize) {
        (rows, self.channels(), self.size, self.size)
    }
}

/// What a network, or a whole model, looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// The numbers of an observation, `[B, S]`.
    Numbers,
    /// Pictures, `[B, 3 * frames, size, size]`, values in -1 to 1.
    Pixels(PixelDims),
}

impl Sees {
    /// The sizes of the pictures, if it sees pictures.
    pub fn pixels(self) -> Option<PixelDims> {
        match self {
            Self::Numbers => None,
            Self::Pixels(dims) => Some(dims),
        }
    }
}

/// What a network is given for a byte: `byte / 255 * 2 - 1`.
pub fn brightness(byte: u8) -> f32 {
    f32::from(byte) / 255.0 * 2.0 - 1.0
}

/// Appends what networks are given for `bytes` to `out`.
pub fn extend_with_brightness(out: &mut Vec<f32>, bytes: &[u8]) {
    out.extend(bytes.iter().map(|byte| brightness(*byte)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_span_the_range_of_the_networks() {
        assert_eq!((brightness(0), brightness(255)), (-1.0, 1.0));
        let mut out = vec![7.0];
        extend_with_brightness(&mut out, &[0, 51]);
        assert_eq!(out, [7.0, -1.0, 0.2 * 2.0 - 1.0]);
    }

    #[test]
    fn sizes_of_the_original_pictures() {
        let dims = PixelDims { frames: 2, size: 32 };
        assert_eq!((dims.channels(), dims.frame(), dims.picture()), (6, 3072, 6144));
        assert_eq!(dims.shape(5), (5, 6, 32, 32));
        assert_eq!(
            (Sees::Numbers.pixels(), Sees::Pixels(dims).pixels()),
            (None, Some(dims))
        );
    }
}
