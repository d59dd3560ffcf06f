//! Counter-based random streams: one per (purpose, entity, episode) under one master seed.
//!
//! A stream depends on nothing but its four keys and how much of it has been drawn, so results do not depend on the
//! number of threads or the order of systems, and a stream can be stored and resumed.

use candle_core::{Device, Result, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

/// What a stream is used for. Streams of different purposes never share numbers. The values are part of every stream's
/// key: changing one changes all results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u64)]
pub enum Purpose {
    /// Observation noise of an environment.
    ObservationNoise = 1,
    /// Waypoints, speeds and noise of a demonstrator.
    Demonstrator = 3,
    /// Fresh network weights.
    Weights = 4,
    /// Sub-sequences and batches for skill models.
    Batches = 5,
    /// Latent noise while a skill model trains.
    LatentNoise = 6,
    /// Skills and actions of an agent.
    Policy = 7,
    /// Replay sampling of a learner.
    Replay = 8,
    /// Re-parameterisation noise inside a learner's update.
    Update = 9,
    /// Evaluation episodes.
    Evaluation = 10,
    /// Resampling for confidence intervals.
    Bootstrap = 11,
    /// Joint positions and places at the start of an episode.
    Start = 12,
    /// Properties of an episode's model.
    Model = 13,
    /// Goals of an episode.
    Goals = 14,
    /// Delays of an episode.
    Delays = 15,
}

/// A seeded, storable stream of random numbers (`ChaCha8`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredStream", into = "StoredStream")]
pub struct Stream(ChaCha8Rng);

/// A stream in a file: RON has no numbers of 128 bits.
#[derive(Serialize, Deserialize)]
struct StoredStream {
    key: [u8; 32],
    /// 32-bit words drawn so far, high and low half.
    drawn: (u64, u64),
}

impl From<Stream> for StoredStream {
    fn from(stream: Stream) -> Self {
        let drawn = stream.0.get_word_pos();
        Self {
            key: stream.0.get_seed(),
            drawn: ((drawn >> 64) as u64, drawn as u64),
        }
    }
}

impl From<StoredStream> for Stream {
    fn from(stored: StoredStream) -> Self {
        let mut rng = ChaCha8Rng::from_seed(stored.key);
        rng.set_word_pos(u128::from(stored.drawn.0) << 64 | u128::from(stored.drawn.1));
        Self(rng)
    }
}

/// The stream for `(seed, purpose, entity, episode)`.
pub fn stream(seed: u64, purpose: Purpose, entity: u64, episode: u64) -> Stream {
    let mut key = [0_u8; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, purpose as u64, entity, episode]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    Stream(ChaCha8Rng::from_seed(key))
}

impl Stream {
    /// Fills `out` with independent standard normal numbers.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        for value in out {
            *value = StandardNormal.sample(&mut self.0);
        }
    }

    /// A CPU tensor of independent standard normal numbers.
    pub fn normal_tensor(&mut self, shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
        let shape = shape.into();
        let mut values = vec![0.0; shape.elem_count()];
        self.fill_normal(&mut values);
        Tensor::from_vec(values, shape, &Device::Cpu)
    }
}

impl rand::TryRng for Stream {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> std::result::Result<u32, Self::Error> {
        Ok(self.0.next_u32())
    }

    fn try_next_u64(&mut self) -> std::result::Result<u64, Self::Error> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> std::result::Result<(), Self::Error> {
        self.0.fill_bytes(dst);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |purpose, entity, episode| {
            let mut values = [0.0; 4];
            stream(7, purpose, entity, episode).fill_normal(&mut values);
            values
        };
        assert_eq!(draw(Purpose::Policy, 1, 2), draw(Purpose::Policy, 1, 2));
        assert_ne!(draw(Purpose::Policy, 1, 2), draw(Purpose::Replay, 1, 2));
        assert_ne!(draw(Purpose::Policy, 1, 2), draw(Purpose::Policy, 2, 1));
    }

    #[test]
    fn a_stored_stream_goes_on_where_it_was() {
        let mut first = stream(1, Purpose::Replay, 0, 0);
        first.fill_normal(&mut [0.0; 33]);
        let text = crate::files::to_text(&first).expect("streams serialise");
        let mut second: Stream =
            crate::files::from_text(std::path::Path::new("s"), &text).expect("streams deserialise");
        assert_eq!(first, second);
        assert_eq!(first.next_u64(), second.next_u64());
    }
}
