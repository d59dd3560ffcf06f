//! Times of whole training steps, to be compared with a peer on the same quiet machine:
//! `cargo test --lib nn::tests::speed -- --ignored --nocapture --test-threads 1`

use std::time::Instant;

use candle_core::{Result, Tensor};

use super::plain;
use crate::nn::{
    ConvEncoder, ConvSpec, DiagGaussian, Linear, LstmDecoder, LstmEncoder, LstmSpec, Mlp, MlpSpec, Mode, Norm,
    Optimiser, OptimiserConfig, backward, squash,
};
use crate::rng::{Purpose, Stream, stream};

fn normal(shape: &[usize]) -> Tensor {
    stream(2, Purpose::LatentNoise, 0, 0).normal_tensor(shape).unwrap()
}

/// Median and best time of a step in milliseconds.
fn time(name: &str, mut step: impl FnMut() -> Result<()>) {
    for _ in 0..5 {
        step().unwrap();
    }
    let mut times: Vec<f64> = (0..40)
        .map(|_| {
            let start = Instant::now();
            step().unwrap();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "{name}: median {:.2} ms, best {:.2} ms",
        times[times.len() / 2],
        times[0]
    );
}

fn mlp(rng: &mut Stream, input: usize, width: usize, output: usize, hidden: usize, norm: Norm) -> Mlp {
    Mlp::new(
        MlpSpec {
            input,
            width,
            output,
            hidden,
            norm,
        },
        rng,
    )
    .unwrap()
}

/// Reconstruction, divergence to the unit Gaussian and prior likelihood, weighted as for the kitchen.
fn skill_loss(
    decoded: &Tensor,
    actions: &Tensor,
    q: &DiagGaussian,
    prior: &DiagGaussian,
    z: &Tensor,
) -> Result<Tensor> {
    let reconstruction = ((decoded - actions)?.sqr()?.mean_all()? * 0.5)?;
    let divergence = (q.kl_unit()?.mean_all()? * 5e-4)?;
    (reconstruction + divergence)? - prior.log_prob(&z.detach())?.mean_all()?
}

#[test]
#[ignore = "a measurement"]
fn skill_models() {
    for threads in [1, 2] {
        let mut rng = stream(1, Purpose::Weights, 0, 0);
        let (states, actions, noise) = (normal(&[128, 10, 60]), normal(&[128, 10, 9]), normal(&[128, 10]));
        let first_state = states
            .narrow(1, 0, 1)
            .unwrap()
            .squeeze(1)
            .unwrap()
            .contiguous()
            .unwrap();
        let spec = LstmSpec {
            input: 69,
            hidden: 128,
            layers: 1,
            output: 128,
        };
        let encoder = LstmEncoder::new(spec, &mut rng).unwrap().with_threads(threads);
        let head = Linear::new(128, 20, &mut rng).unwrap();
        let decoder = mlp(&mut rng, 70, 128, 9, 5, Norm::Batch).with_threads(threads);
        let prior = mlp(&mut rng, 60, 128, 20, 6, Norm::Batch).with_threads(threads);
        let nets = [encoder.params(), head.params(), decoder.params(), prior.params()];
        let mut optimiser = Optimiser::new(OptimiserConfig::radam(1e-3), nets.into_iter().cloned().collect());
        let sequence = Tensor::cat(&[&actions, &states], 2).unwrap();
        time(
            &format!("closed-loop skill model, batch 128, {threads} threads"),
            || {
                let q = DiagGaussian::from_raw(&head.forward(&encoder.forward(&sequence)?)?)?;
                let z = q.sample(&noise)?;
                let repeated = z.unsqueeze(1)?.broadcast_as((128, 10, 10))?;
                let rows = Tensor::cat(&[&states, &repeated], 2)?.reshape((1280, 70))?;
                let decoded = decoder.forward(&rows, Mode::Train)?.reshape((128, 10, 9))?;
                let p = DiagGaussian::from_raw(&prior.forward(&first_state, Mode::Train)?)?;
                optimiser.step(&backward(&skill_loss(&decoded, &actions, &q, &p, &z)?)?, None)?;
                Ok(())
            },
        );

        let encoder = LstmEncoder::new(LstmSpec { input: 9, ..spec }, &mut rng)
            .unwrap()
            .with_threads(threads);
        let spec = LstmSpec {
            input: 19,
            hidden: 128,
            layers: 1,
            output: 9,
        };
        let decoder = LstmDecoder::new(spec, true, &mut rng).unwrap().with_threads(threads);
        let start = decoder.start_params().unwrap();
        let nets = [encoder.params(), head.params(), decoder.params(), start, prior.params()];
        let mut optimiser = Optimiser::new(OptimiserConfig::radam(1e-3), nets.into_iter().cloned().collect());
        time(&format!("open-loop skill model, batch 128, {threads} threads"), || {
            let q = DiagGaussian::from_raw(&head.forward(&encoder.forward(&actions)?)?)?;
            let z = q.sample(&noise)?;
            let decoded = decoder.forward(&z, None, 10)?;
            let p = DiagGaussian::from_raw(&prior.forward(&first_state, Mode::Train)?)?;
            optimiser.step(&backward(&skill_loss(&decoded, &actions, &q, &p, &z)?)?, None)?;
            Ok(())
        });
    }
}

#[test]
#[ignore = "a measurement"]
fn critics_and_actor() {
    let mut rng = stream(1, Purpose::Weights, 0, 0);
    let (s, next_s, noise) = (normal(&[256, 60]), normal(&[256, 60]), normal(&[256, 10]));
    let action = normal(&[256, 10]);
    let policy = mlp(&mut rng, 60, 128, 20, 6, Norm::Batch);
    let critics = [(); 2].map(|()| mlp(&mut rng, 70, 256, 1, 5, Norm::None));
    let targets = [(); 2].map(|()| mlp(&mut rng, 70, 256, 1, 5, Norm::None));
    let both = |nets: &[Mlp]| nets.iter().map(|net| net.params().clone()).collect::<Vec<_>>();
    let mut critic_optimiser = Optimiser::new(OptimiserConfig::adam(3e-4), both(&critics));
    let mut policy_optimiser = Optimiser::new(OptimiserConfig::adam(3e-4), vec![policy.params().clone()]);
    let x = Tensor::cat(&[&s, &action], 1).unwrap();
    let goal = normal(&[256, 1]);
    time("two critics, forward + backward + Adam, batch 256", || {
        let loss = |critic: &Mlp| (critic.forward(&x, Mode::Train)? - &goal)?.sqr()?.mean_all()? * 0.5;
        let loss = (loss(&critics[0])? + loss(&critics[1])?)?;
        critic_optimiser.step(&backward(&loss)?, None)?;
        Ok(())
    });
    time("one SAC update, batch 256", || {
        let act = |s: &Tensor| {
            let gaussian = DiagGaussian::from_raw(&policy.forward(s, Mode::Eval)?)?;
            let a = gaussian.sample(&noise)?;
            let log_prob = (gaussian.log_prob(&a)? - squash::log_det(&a, 2.0)?)?;
            Result::Ok((squash::squash(&a, 2.0)?, log_prob))
        };
        let (a, log_prob) = act(&s)?;
        let x_new = Tensor::cat(&[&s, &a], 1)?;
        let q = critics[0]
            .forward_frozen(&x_new, Mode::Eval)?
            .minimum(&critics[1].forward_frozen(&x_new, Mode::Eval)?)?;
        let policy_loss = (log_prob.unsqueeze(1)? - q)?.mean_all()?;
        let (a, log_prob) = act(&next_s)?;
        let x_next = Tensor::cat(&[&next_s, &a], 1)?.detach();
        let q = targets[0]
            .forward_frozen(&x_next, Mode::Eval)?
            .minimum(&targets[1].forward_frozen(&x_next, Mode::Eval)?)?;
        let goal = ((q - log_prob.unsqueeze(1)?.detach())? * 0.99)?;
        let loss = |critic: &Mlp| (critic.forward(&x, Mode::Train)? - &goal)?.sqr()?.mean_all()? * 0.5;
        let critic_loss = (loss(&critics[0])? + loss(&critics[1])?)?;
        let (policy_grads, critic_grads) = (backward(&policy_loss)?, backward(&critic_loss)?);
        policy_optimiser.step(&policy_grads, None)?;
        critic_optimiser.step(&critic_grads, None)?;
        for (target, critic) in targets.iter().zip(&critics) {
            target.params().soft_update(critic.params(), 0.005)?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "a measurement"]
fn convolutional_encoder() {
    let spec = ConvSpec {
        channels: 6,
        resolution: 32,
        width: 8,
        output: 32,
    };
    let x = normal(&[128, 6, 32, 32]);
    for threads in [1, 2] {
        let encoder = ConvEncoder::new(spec, &mut stream(1, Purpose::Weights, 0, 0)).unwrap();
        let encoder = encoder.with_threads(threads);
        time(&format!("encoder, forward, batch 128, {threads} threads"), || {
            encoder.forward_frozen(&x, Mode::Eval)?;
            Ok(())
        });
        time(
            &format!("encoder, forward + backward, batch 128, {threads} threads"),
            || {
                backward(&encoder.forward(&x, Mode::Train)?.sqr()?.mean_all()?)?;
                Ok(())
            },
        );
        let frames = normal(&[128, 12, 3, 32, 32]);
        time(
            &format!("encoder, forward + backward, 128 windows of 12 frames, {threads} threads"),
            || {
                backward(&encoder.forward_windows(&frames, 11, Mode::Train)?.sqr()?.mean_all()?)?;
                Ok(())
            },
        );
    }
    let encoder = ConvEncoder::new(spec, &mut stream(1, Purpose::Weights, 0, 0)).unwrap();
    time("candle's conv2d, forward + backward, batch 128", || {
        plain::conv(&spec, encoder.params(), &x, None)?
            .sqr()?
            .mean_all()?
            .backward()?;
        Ok(())
    });
}
