#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use crate::replay::{End, ReplayBuffer, Transition};
use crate::rng::{Purpose, stream};

const DIMS: SacDims = SacDims {
    observation: 3,
    action: 2,
};

fn prior(outputs: usize) -> GaussianNetwork {
    let spec = MlpSpec {
        input: 3,
        width: 8,
        output: outputs,
        hidden: 1,
        norm: Norm::Batch,
    };
    GaussianNetwork::new(Mlp::new(spec, &mut stream(5, Purpose::Weights, 1, 0)).unwrap(), None)
}

fn small() -> SacConfig {
    SacConfig {
        policy: PolicyStart::Scratch { width: 16, hidden: 1 },
        regulariser: Regulariser::Entropy { target: None },
        critic: CriticConfig {
            width: 16,
            hidden: 1,
            ..CriticConfig::default()
        },
        squash: Squash::Tanh {
            range: 1.0,
            single_range_correction: false,
        },
        batch: 16,
        ..SacConfig::default()
    }
}

fn learner(config: SacConfig) -> Sac {
    Sac::new(config, DIMS, Some(&prior(4)), &mut stream(5, Purpose::Weights, 0, 0)).unwrap()
}

fn regularised() -> SacConfig {
    SacConfig {
        policy: PolicyStart::Prior,
        regulariser: Regulariser::default(),
        ..small()
    }
}

fn replay(rows: usize) -> ReplayBuffer {
    let mut buffer = ReplayBuffer::new(rows, 3, 2).unwrap();
    let mut draws = stream(5, Purpose::Batches, 0, 0);
    for row in 0..rows {
        let mut values = [0.0; 9];
        draws.fill_normal(&mut values);
        let transition = Transition {
            observation: &values[..3],
            pixels: None,
            action: &values[3..5],
            reward: values[5],
            next_observation: &values[6..],
            next_pixels: None,
            steps: 10,
            end: [End::Continues, End::Terminated, End::TimedOut][row % 3],
        };
        buffer.push(transition).unwrap();
    }
    buffer
}

fn weights(sac: &Sac) -> Vec<Vec<f32>> {
    sac.networks()
        .iter()
        .map(|(_, params)| params.var().to_vec1().unwrap())
        .collect()
}

/// One step, reward `1 - |a - goal|^2`: the policy must find the goal.
#[test]
fn solves_a_one_step_task() {
    let goal = [0.5_f32, -0.3];
    let config = SacConfig {
        policy_lr: 3e-3,
        critic_lr: 3e-3,
        temperature: Temperature::Fixed(0.01),
        batch: 64,
        ..small()
    };
    let mut sac = learner(config);
    let mut draws = stream(6, Purpose::Policy, 0, 0);
    let mut buffer = ReplayBuffer::new(2000, 3, 2).unwrap();
    let observation = Tensor::new(&[[0.1_f32, -0.2, 0.3]], &Device::Cpu).unwrap();
    for step in 0..800 {
        let action = if step < 100 {
            sac.act_at_random(&observation, &mut draws).unwrap()
        } else {
            let noise = draws.normal_tensor((1, 2)).unwrap();
            sac.act(&observation, Pick::Sample(&noise)).unwrap()
        };
        let action: Vec<f32> = action.flatten_all().unwrap().to_vec1().unwrap();
        let distance: f32 = action.iter().zip(goal).map(|(a, g)| (a - g).powi(2)).sum();
        let seen = [0.1, -0.2, 0.3];
        let transition = Transition {
            observation: &seen,
            pixels: None,
            action: &action,
            reward: 1.0 - distance,
            next_observation: &seen,
            next_pixels: None,
            steps: 1,
            end: End::Terminated,
        };
        buffer.push(transition).unwrap();
        if step >= 100 {
            let batch = buffer.sample(&mut draws, 64).unwrap();
            let noise = sac.draw_noise(&mut draws, 64).unwrap();
            assert!(!sac.update(&batch, &noise).unwrap().skipped);
        }
    }
    let best = sac
        .act(&observation, Pick::Mean)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    for (found, goal) in best.iter().zip(goal) {
        assert!((found - goal).abs() < 0.1, "found {best:?}");
    }
}

#[test]
fn a_policy_equal_to_the_prior_has_no_divergence() {
    let estimates = [
        Estimate::MonteCarlo { samples: 10 },
        Estimate::Analytic,
        Estimate::AnalyticMean,
    ];
    for (estimate, reversed) in estimates
        .into_iter()
        .flat_map(|estimate| [(estimate, false), (estimate, true)])
    {
        let regulariser = Regulariser::PriorDivergence {
            target: Schedule::Constant(5.0),
            estimate,
            clamp: 100.0,
            reversed,
        };
        let sac = learner(SacConfig {
            regulariser,
            ..regularised()
        });
        let mut draws = stream(1, Purpose::Update, 0, 0);
        let batch = replay(16).sample(&mut draws, 16).unwrap();
        let noise = sac.draw_noise(&mut draws, 16).unwrap();
        let metrics = sac.losses(&batch, &noise).unwrap().figures.read().unwrap();
        assert!(metrics.penalty.abs() < 1e-6, "{estimate:?}: {}", metrics.penalty);
        assert_eq!(metrics.penalty_target, 5.0);
    }
}

/// The moments stand for the samples: the average over them, written out, is the same.
#[test]
fn the_sampled_divergence_is_the_average_over_its_samples() {
    let mut draws = stream(2, Purpose::Update, 0, 0);
    let mut gaussian = || DiagGaussian::from_raw(&draws.normal_tensor((7, 6)).unwrap()).unwrap();
    let (p, q) = (gaussian(), gaussian());
    let noise = draws.normal_tensor((10, 7, 3)).unwrap();
    let x = p.sample(&noise).unwrap();
    let written_out = (p.log_prob(&x).unwrap() - q.log_prob(&x).unwrap())
        .unwrap()
        .mean(0)
        .unwrap();
    let moments = NoiseMoments::of(&noise).unwrap();
    let short = sampled_divergence(&p, &q, &moments).unwrap().sum(D::Minus1).unwrap();
    let error = (written_out - short)
        .unwrap()
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    assert!(error < 1e-4, "{error}");
}

#[test]
fn unsquashed_actions_are_samples_of_the_prior() {
    let mut draws = stream(1, Purpose::Policy, 0, 0);
    let (observation, noise) = (
        draws.normal_tensor((4, 3)).unwrap(),
        draws.normal_tensor((4, 2)).unwrap(),
    );
    let samples = prior(4).forward_frozen(&observation).unwrap().sample(&noise).unwrap();
    let act = |squash| {
        let sac = learner(SacConfig {
            squash,
            ..regularised()
        });
        let action = sac.act(&observation, Pick::Sample(&noise)).unwrap();
        action.to_vec2::<f32>().unwrap()
    };
    assert_eq!(act(Squash::None), samples.to_vec2::<f32>().unwrap());
    let cut_off = samples.clamp(-0.3_f32, 0.3).unwrap();
    assert_eq!(act(Squash::Clip { range: 0.3 }), cut_off.to_vec2::<f32>().unwrap());
    assert_ne!(act(Squash::None), cut_off.to_vec2::<f32>().unwrap());
}

#[test]
fn critics_have_no_say_where_actions_are_cut_off() {
    let far = Squash::Clip { range: 1e-6 };
    let mut draws = stream(1, Purpose::Update, 0, 0);
    let gradient = |squash, draws: &mut Stream| {
        let sac = learner(SacConfig {
            squash,
            temperature: Temperature::Fixed(1e-9),
            ..regularised()
        });
        let noise = sac.draw_noise(draws, 16).unwrap();
        let batch = replay(16).sample(draws, 16).unwrap();
        sac.losses(&batch, &noise)
            .unwrap()
            .figures
            .read()
            .unwrap()
            .policy_gradient
    };
    assert!(gradient(far, &mut draws) < 1e-6);
    assert!(gradient(Squash::None, &mut draws) > 1e-4);
}

#[test]
fn time_outs_and_lengths_weigh_the_next_value() {
    let batch = replay(3).gather(&[0, 1, 2]).unwrap();
    let discounts = |time_outs, discounting| {
        let config = SacConfig {
            time_outs,
            discounting,
            discount: 0.5,
            ..small()
        };
        learner(config).discounts(&batch).unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(
        discounts(TimeOuts::Bootstrap, Discounting::PerTransition),
        [0.5, 0.0, 0.5]
    );
    assert_eq!(
        discounts(TimeOuts::Terminal, Discounting::PerTransition),
        [0.5, 0.0, 0.0]
    );
    let per_step = discounts(TimeOuts::Bootstrap, Discounting::PerStep);
    assert!((per_step[0] - 0.5_f32.powi(10)).abs() < 1e-8);
}

#[test]
fn numbers_that_are_not_finite_change_nothing_and_end_in_an_error() {
    let mut sac = learner(SacConfig {
        skip_limit: 2,
        ..regularised()
    });
    let mut draws = stream(1, Purpose::Update, 0, 0);
    let noise = sac.draw_noise(&mut draws, 16).unwrap();
    let good = replay(16).sample(&mut draws, 16).unwrap();
    let bad = Batch {
        reward: (&good.reward * f64::NAN).unwrap(),
        ..good.clone()
    };
    let before = (weights(&sac), sac.temperature.state().unwrap());
    assert!(sac.update(&bad, &noise).unwrap().skipped);
    assert!(sac.update(&bad, &noise).unwrap().skipped);
    assert_eq!((weights(&sac), sac.temperature.state().unwrap()), before);
    assert!(!sac.update(&good, &noise).unwrap().skipped);
    assert_ne!(weights(&sac), before.0);
    assert!(sac.update(&bad, &noise).is_ok() && sac.update(&bad, &noise).is_ok());
    assert!(matches!(
        sac.update(&bad, &noise),
        Err(SacError::Diverged { count: 3, .. })
    ));
    assert_eq!((sac.skipped(), sac.updates()), (5, 1));
}

#[test]
fn threads_do_not_change_the_bits() {
    let run = |threads| {
        let mut sac = learner(regularised()).with_threads(threads);
        let mut draws = stream(1, Purpose::Update, 0, 0);
        for _ in 0..3 {
            let batch = replay(300).sample(&mut draws, 256).unwrap();
            let noise = sac.draw_noise(&mut draws, 256).unwrap();
            sac.update(&batch, &noise).unwrap();
        }
        weights(&sac)
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_restored_learner_goes_on_with_the_same_bits() {
    let buffer = replay(64);
    let mut draws = stream(1, Purpose::Update, 0, 0);
    let mut step = |sac: &mut Sac| {
        let batch = buffer.sample(&mut draws, 16).unwrap();
        let noise = sac.draw_noise(&mut draws, 16).unwrap();
        sac.update(&batch, &noise).unwrap()
    };
    let mut first = learner(regularised());
    for _ in 0..3 {
        step(&mut first);
    }
    let state = first.export().unwrap();
    let mut second = Sac::new(
        regularised(),
        DIMS,
        Some(&prior(4)),
        &mut stream(99, Purpose::Weights, 0, 0),
    )
    .unwrap();
    second.import(&state).unwrap();
    let mut again = stream(1, Purpose::Batches, 0, 0);
    let batch = buffer.sample(&mut again, 16).unwrap();
    let noise = first.draw_noise(&mut again, 16).unwrap();
    assert_eq!(
        first.update(&batch, &noise).unwrap(),
        second.update(&batch, &noise).unwrap()
    );
    assert_eq!(weights(&first), weights(&second));
    assert_eq!((first.updates(), second.updates()), (4, 4));

    let mut broken = state.clone();
    broken.remove("critics.1.head.linear.bias");
    let before = weights(&second);
    assert!(second.import(&broken).is_err());
    assert_eq!(weights(&second), before);
}

#[test]
fn standardised_numbers_are_learned_from_as_if_they_had_been_stored_so() {
    let standardise = Standardise {
        mean: vec![1.0, -2.0, 0.5],
        deviation: vec![2.0, 0.5, 4.0],
        frequencies: 0,
    };
    let standardiser = Standardiser::new(&standardise.mean, &standardise.deviation).unwrap();
    let new = |standardise| {
        let config = SacConfig { standardise, ..small() };
        Sac::new(config, DIMS, None, &mut stream(5, Purpose::Weights, 0, 0)).unwrap()
    };
    let (mut plain, mut standardising) = (new(None), new(Some(standardise.clone())));
    let buffer = replay(64);
    let mut draws = stream(5, Purpose::Batches, 1, 0);
    for _ in 0..5 {
        let raw = buffer.sample(&mut draws, 16).unwrap();
        let noise = plain.draw_noise(&mut draws, 16).unwrap();
        let mut batch = raw.clone();
        batch.observation = standardiser.apply(&raw.observation).unwrap();
        batch.next_observation = standardiser.apply(&raw.next_observation).unwrap();
        let expected = plain.update(&batch, &noise).unwrap();
        assert_eq!(standardising.update(&raw, &noise).unwrap(), expected);
        let found = standardising.judge(&raw.observation, &raw.action).unwrap();
        let expected = plain.judge(&batch.observation, &raw.action).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.to_vec1::<f32>().unwrap(), expected.to_vec1::<f32>().unwrap());
        }
        assert!(
            plain.judge(&raw.observation, &raw.action).unwrap()[0]
                .to_vec1::<f32>()
                .unwrap()
                != expected[0].to_vec1::<f32>().unwrap()
        );
    }

    let problem = |standardise| {
        let config = SacConfig {
            standardise: Some(standardise),
            ..small()
        };
        let built = Sac::new(config, DIMS, None, &mut stream(5, Purpose::Weights, 0, 0));
        built.map(|_| ()).unwrap_err().to_string()
    };
    let short = Standardise {
        mean: vec![0.0; 2],
        deviation: vec![1.0; 2],
        frequencies: 0,
    };
    let said = "standardise has 2 means or deviations, an observation has 3 numbers";
    assert!(problem(short).contains(said));
    let flat = Standardise {
        deviation: vec![1.0, 0.0, 1.0],
        ..standardise.clone()
    };
    assert!(problem(flat).contains("standardise.deviation must be above zero"));
    let uneven = Standardise {
        deviation: vec![1.0; 2],
        ..standardise
    };
    assert!(problem(uneven).contains(said));
    let one = |mean: Vec<f32>, deviation: Vec<f32>| {
        let sac = new(Some(Standardise {
            mean,
            deviation,
            frequencies: 0,
        }));
        let batch = buffer.gather(&[0, 1]).unwrap();
        sac.judge(&batch.observation, &batch.action).unwrap()[0]
            .to_vec1::<f32>()
            .unwrap()
    };
    assert_eq!(one(vec![0.5], vec![2.0]), one(vec![0.5; 3], vec![2.0; 3]));
}

#[test]
fn critics_see_waves_of_the_numbers() {
    let config = SacConfig {
        standardise: Some(Standardise {
            mean: vec![1.0, -2.0, 0.5],
            deviation: vec![2.0, 0.5, 4.0],
            frequencies: 2,
        }),
        ..small()
    };
    let sac = learner(config);
    let observation = Tensor::new(&[[2.0_f32, -2.5, 3.5]], &Device::Cpu).unwrap();
    let u = [0.5_f32, -1.0, 0.75];
    let pi = std::f32::consts::PI;
    let mut expected = u.to_vec();
    for wave in [pi, 2.0 * pi] {
        expected.extend(u.map(|u| (wave * u).sin()));
        expected.extend(u.map(|u| (wave * u).cos()));
    }
    let found = sac.seen_by_critics(&observation).unwrap().flatten_all().unwrap();
    let found = found.to_vec1::<f32>().unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    assert_eq!(sac.critics()[0].spec().input, 3 * 5 + 2);

    // The action comes last, as it is.
    let action = [0.25_f32, -0.75];
    let row = Tensor::from_vec([found, action.to_vec()].concat(), (1, 17), &Device::Cpu).unwrap();
    let action = Tensor::new(&[action], &Device::Cpu).unwrap();
    let judged = sac.judge(&observation, &action).unwrap();
    for (critic, judged) in sac.critics().iter().zip(&judged) {
        let expected = critic.forward_frozen(&row, Mode::Eval).unwrap().squeeze(1).unwrap();
        assert_eq!(judged.to_vec1::<f32>().unwrap(), expected.to_vec1::<f32>().unwrap());
    }
}

#[test]
fn settings_are_checked_and_unknown_fields_refused() {
    let new = |config, prior: Option<&GaussianNetwork>| {
        Sac::new(config, DIMS, prior, &mut stream(0, Purpose::Weights, 0, 0)).map(|_| ())
    };
    let wrong = SacConfig {
        target_rate: 0.0,
        ..small()
    };
    assert!(matches!(
        new(wrong, None),
        Err(SacError::Config {
            field: "target_rate",
            ..
        })
    ));
    assert!(matches!(new(SacConfig::default(), None), Err(SacError::NoPrior(_))));
    assert!(matches!(
        new(regularised(), Some(&prior(6))),
        Err(SacError::PriorSize { .. })
    ));
    assert!(new(small(), None).is_ok());

    let text = "(regulariser: PriorDivergence(target: Constant(1.0)), squash: Tanh(range: 1.0), discount: 0.98)";
    let config: SacConfig = ron::from_str(text).unwrap();
    assert_eq!(config.batch, 256);
    assert!(ron::from_str::<SacConfig>("(discont: 0.98)").is_err());
    assert!(ron::from_str::<SacConfig>("(squash: Tanh(rnge: 1.0))").is_err());
}

#[test]
fn schedules_and_the_temperature_keep_their_limits() {
    let schedule = Schedule::Linear {
        from: 1.0,
        to: 5.0,
        updates: 4,
        delay: 2,
    };
    assert_eq!(
        [0, 2, 3, 6, 99].map(|updates| schedule.at(updates)),
        [1.0, 1.0, 2.0, 5.0, 5.0]
    );
    let setting = Temperature::Learned {
        initial: 1.0,
        lr: 0.1,
        minimum: Some(0.5),
    };
    let stepped = |temperature: LearnedTemperature, gradient: f32| {
        let gradient = Tensor::new(gradient, &Device::Cpu).unwrap();
        temperature.stepped(&gradient).unwrap()
    };
    let value = |temperature: &LearnedTemperature| temperature.value().unwrap().to_scalar::<f32>().unwrap();
    let mut temperature = LearnedTemperature::new(setting, &Device::Cpu).unwrap();
    for _ in 0..100 {
        temperature = stepped(temperature, 1.0);
    }
    assert!((value(&temperature) - 0.5).abs() < 1e-6);
    temperature = stepped(temperature, -1e4);
    assert!(value(&temperature) > 0.5, "it comes back at once");
    let fixed = LearnedTemperature::new(Temperature::Fixed(0.2), &Device::Cpu).unwrap();
    assert_eq!(value(&stepped(fixed, 1.0)), 0.2);
}

/// `cargo test --no-default-features --lib -- --ignored --nocapture cost_of_one_update`
#[test]
#[ignore = "measures time"]
fn cost_of_one_update() {
    let dims = SacDims {
        observation: 60,
        action: 10,
    };
    let spec = MlpSpec {
        input: 60,
        width: 128,
        output: 20,
        hidden: 6,
        norm: Norm::Batch,
    };
    let mut draws = stream(1, Purpose::Weights, 0, 0);
    let prior = GaussianNetwork::new(Mlp::new(spec, &mut draws).unwrap(), None);
    let mut buffer = ReplayBuffer::new(10_000, 60, 10).unwrap();
    for _ in 0..10_000 {
        let mut values = [0.0; 131];
        draws.fill_normal(&mut values);
        let transition = Transition {
            observation: &values[..60],
            pixels: None,
            action: &values[60..70],
            reward: values[70],
            next_observation: &values[71..],
            next_pixels: None,
            steps: 10,
            end: End::Continues,
        };
        buffer.push(transition).unwrap();
    }
    let mut sac = Sac::new(SacConfig::default(), dims, Some(&prior), &mut draws).unwrap();
    let mut parts = [const { Vec::new() }; 3];
    for _ in 0..300 {
        let start = std::time::Instant::now();
        let batch = buffer.sample(&mut draws, 256).unwrap();
        parts[0].push(start.elapsed());
        let noise = sac.draw_noise(&mut draws, 256).unwrap();
        parts[1].push(start.elapsed());
        sac.update(&batch, &noise).unwrap();
        parts[2].push(start.elapsed());
    }
    let milliseconds = |part: &mut Vec<std::time::Duration>| {
        part.sort_unstable();
        (
            part[part.len() / 10].as_secs_f64() * 1e3,
            part[part.len() / 2].as_secs_f64() * 1e3,
        )
    };
    let names = ["batch", "batch and noise", "batch, noise and update"];
    for (name, part) in names.into_iter().zip(&mut parts) {
        let (fast, median) = milliseconds(part);
        println!("{name}: {median:.2} ms (fastest tenth {fast:.2} ms)");
    }
}

#[test]
fn what_the_prior_said_once_is_what_it_would_say_again() {
    let sac = learner(regularised());
    let plain = replay(40);
    let mut kept = plain.clone().with_prior().unwrap();
    assert_eq!(kept.waiting().len(), 40);
    sac.ask_prior(&mut kept).unwrap();
    assert!(kept.waiting().is_empty());
    let rows: Vec<usize> = (0..16).map(|row| row * 2).collect();
    let noise = sac.draw_noise(&mut stream(1, Purpose::Update, 0, 0), 16).unwrap();
    let [without, with] = [&plain, &kept].map(|buffer| sac.losses(&buffer.gather(&rows).unwrap(), &noise).unwrap());
    for (without, with) in [(&without.here, &with.here), (&without.next, &with.next)] {
        let difference = (&without.penalty - &with.penalty)
            .unwrap()
            .abs()
            .unwrap()
            .max(0)
            .unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-5);
    }
    // The two states are told apart.
    let apart = (&with.here.prior.unwrap().mu - &with.next.prior.unwrap().mu)
        .unwrap()
        .abs()
        .unwrap();
    assert!(apart.max_all().unwrap().to_scalar::<f32>().unwrap() > 1e-2);
}
