//! Gradient updates of the kitchen's published sizes.

use std::time::Instant;

use rand::RngExt;

use super::{BenchConfig, BenchError, Measured};
use crate::experiment::SkillModelConfig;
use crate::learners::sac::{Sac, SacConfig, SacDims};
use crate::nn::{Compute, Mlp, MlpSpec, Norm};
use crate::practice::update_unread;
use crate::pretraining::Pretrain;
use crate::replay::{End, ReplayBuffer, Transition};
use crate::rng::{Purpose, Stream, stream};
use crate::skills::spirl::DecoderKind;
use crate::skills::{GaussianNetwork, SkillDims, SpirlConfig, Standardiser};

/// Updates that another processor is given before it is waited for, about as often as in practice.
const AT_ONCE: u32 = 20;

/// What the kitchen shows and takes.
pub(super) const KITCHEN: SkillDims = SkillDims {
    state: 60,
    action: 9,
    pixels: None,
};
/// Numbers of a skill.
pub(super) const SKILL: usize = 10;
/// Sub-sequences in a batch of a skill model.
const WINDOWS: usize = 128;

/// Updates per second of both skill models (batch 128), which use all threads as in pre-training; of prior-regularised
/// SAC (batch 256), whose learner uses one thread; and of as many SAC learners as there are threads, side by side, all
/// together.
///
/// # Errors
/// A failed update.
pub fn learning(config: &BenchConfig) -> Result<Vec<Measured>, BenchError> {
    let mut results = Vec::new();
    for (name, decoder) in [
        ("closed-loop skill model", DecoderKind::ClosedLoop),
        ("open-loop skill model", DecoderKind::OpenLoop),
    ] {
        let mut model = skill_model(decoder, config.threads)?.computed_by(&config.compute)?;
        let mut noise = stream(0, Purpose::LatentNoise, 0, 0);
        let states = noise.normal_tensor((WINDOWS, model.window(), KITCHEN.state))?;
        let actions = noise.normal_tensor((WINDOWS, model.window() - 1, KITCHEN.action))?;
        let rate = rate(config, || {
            Ok(model.train_unread(states.clone(), actions.clone(), &mut noise, 1.0)?)
        })?;
        results.push(Measured::new(name, rate, "updates/s"));
    }
    let one = sac_rate(config, 0)?;
    results.push(Measured::new("SAC in skill space, one thread", one, "updates/s"));
    if config.threads > 1 {
        let rates: Vec<_> = std::thread::scope(|scope| {
            let learners: Vec<_> = (0..config.threads)
                .map(|seed| scope.spawn(move || sac_rate(config, seed as u64)))
                .collect();
            let panicked = |_| Err(BenchError::Wrong("a learner panicked".into()));
            learners
                .into_iter()
                .map(|learner| learner.join().unwrap_or_else(panicked))
                .collect()
        });
        let all: f64 = rates.into_iter().sum::<Result<_, _>>()?;
        let name = format!("SAC in skill space, {} learners, one thread each", config.threads);
        results.push(Measured::new(name, all, "updates/s"));
    }
    Ok(results)
}

/// Updates per second of one learner.
fn sac_rate(config: &BenchConfig, seed: u64) -> Result<f64, BenchError> {
    let mut learner = LoneLearner::new(seed, config.compute.clone())?;
    rate(config, || learner.update())
}

/// A learner with a full replay buffer and no agents.
pub(super) struct LoneLearner {
    learner: Sac,
    buffer: ReplayBuffer,
    batches: Stream,
    noise: Stream,
}

impl LoneLearner {
    pub(super) fn new(seed: u64, compute: Compute) -> Result<Self, BenchError> {
        Ok(Self {
            learner: sac(&SacConfig::default(), seed)?.computed_by(compute)?,
            buffer: replay(10_000)?,
            batches: stream(seed, Purpose::Replay, 0, 0),
            noise: stream(seed, Purpose::Update, 0, 0),
        })
    }

    /// An update as in practice, most of which read nothing back from another processor.
    pub(super) fn update(&mut self) -> Result<(), BenchError> {
        Ok(update_unread(
            &mut self.learner,
            &self.buffer,
            &mut self.batches,
            &mut self.noise,
        )?)
    }
}

/// A learner that stands on a prior with fresh weights.
pub(super) fn sac(config: &SacConfig, seed: u64) -> Result<Sac, BenchError> {
    let mut weights = stream(seed, Purpose::Weights, 0, 0);
    let spec = MlpSpec {
        input: KITCHEN.state,
        width: 128,
        output: 2 * SKILL,
        hidden: 6,
        norm: Norm::Batch,
    };
    let prior = GaussianNetwork::new(Mlp::new(spec, &mut weights)?, None);
    let dims = SacDims {
        observation: KITCHEN.state,
        action: SKILL,
    };
    Ok(Sac::new(config.clone(), dims, Some(&prior), &mut weights)?)
}

/// A skill model with fresh weights that trains on `threads` threads.
pub(super) fn skill_model(decoder: DecoderKind, threads: usize) -> Result<Box<dyn Pretrain>, BenchError> {
    let config = SkillModelConfig::Spirl(SpirlConfig {
        decoder,
        ..SpirlConfig::default()
    });
    let mut weights = stream(0, Purpose::Weights, 0, 0);
    let unit = || Standardiser::new(&[0.0; KITCHEN.state], &[1.0; KITCHEN.state]);
    let model = config.build(KITCHEN, unit, &mut weights, threads)?;
    model.ok_or_else(|| BenchError::Wrong("there is no skill model".into()))
}

/// A replay buffer full of random transitions.
pub(super) fn replay(capacity: usize) -> Result<ReplayBuffer, BenchError> {
    let mut buffer = ReplayBuffer::new(capacity, KITCHEN.state, SKILL)?;
    let mut random = stream(0, Purpose::Replay, 0, 0);
    let (mut observation, mut next_observation) = ([0.0; KITCHEN.state], [0.0; KITCHEN.state]);
    let mut action = [0.0; SKILL];
    for _ in 0..capacity {
        random.fill_normal(&mut observation);
        random.fill_normal(&mut next_observation);
        random.fill_normal(&mut action);
        buffer.push(Transition {
            observation: &observation,
            pixels: None,
            action: &action,
            reward: random.random_range(0.0..1.0),
            next_observation: &next_observation,
            next_pixels: None,
            steps: 10,
            end: End::Continues,
        })?;
    }
    Ok(buffer)
}

/// Calls per second of `work`, after a few to warm up; all that was begun is done in that time.
fn rate(config: &BenchConfig, mut work: impl FnMut() -> Result<(), BenchError>) -> Result<f64, BenchError> {
    let device = config.compute.device();
    for _ in 0..5 {
        work()?;
    }
    device.synchronize()?;
    let start = Instant::now();
    let mut calls = 0_u32;
    while start.elapsed() < config.time {
        work()?;
        calls += 1;
        if calls.is_multiple_of(AT_ONCE) {
            device.synchronize()?;
        }
    }
    device.synchronize()?;
    Ok(f64::from(calls) / start.elapsed().as_secs_f64())
}
