//! The learner and its bookkeeping against numbers of the original SPiRL code (`tests/golden/spirl`): three consecutive
//! updates of each agent, and the transitions that the hierarchical sampler stored.
//!
//! Two cases are too large for the repository. They run if `APPRENTICE_GOLDEN` names a folder with `spirl/<case>`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use apprentice::learners::sac::{
    CriticConfig, Estimate, Losses, NoiseMoments, PolicyStart, Regulariser, Sac, SacConfig, SacDims, Schedule, Squash,
    StateNoise, Temperature, UpdateNoise,
};
use apprentice::learners::skill_recorder::{SkillRecorder, TransitionRule};
use apprentice::nn::{Compute, ConvEncoder, ConvSpec, Kind, Mlp, MlpSpec, Norm, Params};
use apprentice::replay::{Batch, End, Transition};
use apprentice::rng::{Purpose, stream};
use apprentice::skills::GaussianNetwork;
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

/// Tensors and description of one case.
struct Case {
    tensors: BTreeMap<String, Tensor>,
    about: Value,
    /// Results that were compared.
    checked: BTreeSet<String>,
    problems: Vec<String>,
}

/// The files of a case, if they are there.
fn files(case: &str) -> Option<(PathBuf, PathBuf)> {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let outside = std::env::var_os("APPRENTICE_GOLDEN").map(PathBuf::from);
    [Some(bundled), outside].into_iter().flatten().find_map(|folder| {
        let path = |suffix| folder.join("spirl").join(format!("{case}.{suffix}"));
        let (tensors, about) = (path("safetensors"), path("json"));
        (tensors.exists() && about.exists()).then_some((tensors, about))
    })
}

impl Case {
    fn load(case: &str) -> Option<Self> {
        let Some((tensors, about)) = files(case) else {
            println!("{case}: skipped, set APPRENTICE_GOLDEN to the folder that holds spirl/{case}.safetensors");
            return None;
        };
        let tensors = candle_core::safetensors::load(tensors, &Device::Cpu)
            .unwrap()
            .into_iter()
            .collect();
        let about = serde_json::from_str(&std::fs::read_to_string(about).unwrap()).unwrap();
        Some(Self {
            tensors,
            about,
            checked: BTreeSet::new(),
            problems: Vec::new(),
        })
    }

    fn values(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
        tensor
            .to_dtype(DType::F32)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    /// Row `index` of a tensor stacked over updates.
    fn row(&self, name: &str, index: usize) -> Tensor {
        self.tensors[name].get(index).unwrap().contiguous().unwrap()
    }

    /// Compares `mine` with the fixture: largest difference over the fixture's largest number.
    fn check(&mut self, name: &str, mine: &[f32]) {
        let golden = self.values(name);
        assert_eq!(golden.len(), mine.len(), "{name}");
        let group = name.split('/').next().unwrap();
        let tolerance = self.about["tolerance_per_tensor"][name]
            .as_f64()
            .or_else(|| self.about["tolerance"][group]["scaled"].as_f64())
            .unwrap_or_else(|| panic!("no tolerance for {name}"));
        let scale = golden.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let difference = golden
            .iter()
            .zip(mine)
            .fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        // A NaN counts as a difference.
        if difference.is_nan() || f64::from(difference) > tolerance * f64::from(scale) {
            self.problems.push(format!(
                "{name}: off by {:.1e}, allowed {tolerance:.1e}",
                difference / scale
            ));
        }
        self.checked.insert(name.to_owned());
    }

    /// Compares a whole tensor with whatever the fixture holds of it: all of it, or a probe and its norm.
    fn check_tensor(&mut self, group: &str, name: &str, mine: &[f32]) {
        let whole = format!("{group}/{name}");
        if self.tensors.contains_key(&whole) {
            return self.check(&whole, mine);
        }
        let stride = (mine.len() / 512) | 1;
        let probe: Vec<f32> = mine.iter().copied().step_by(stride).take(512).collect();
        self.check(&format!("{group}_probe/{name}"), &probe);
        let norm = mine.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        self.check(&format!("{group}_l2/{name}"), &[norm as f32]);
    }

    fn check_weights(&mut self, group: &str, prefix: &str, params: &Params) {
        for entry in params.entries() {
            let mine = params
                .tensor(&entry.name)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            self.check_tensor(group, &format!("{prefix}{}", entry.name), &mine);
        }
    }

    fn check_gradients(&mut self, losses: &Losses, prefix: &str, params: &Params) {
        for entry in params.entries().iter().filter(|entry| entry.kind == Kind::Weight) {
            let mine = params
                .gradient(&losses.gradients, &entry.name)
                .unwrap()
                .expect("a gradient");
            let mine = mine.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            self.check_tensor("grad", &format!("{prefix}{}", entry.name), &mine);
        }
    }

    /// Bytes of row `index` as pictures, if the fixture has them.
    fn pictures(&self, name: &str, index: usize) -> Option<Tensor> {
        let bytes = self.tensors.get(name)?.get(index).unwrap();
        let bytes = bytes.to_dtype(DType::F32).unwrap();
        Some(bytes.affine(1.0 / 255.0, 0.0).unwrap().affine(2.0, -1.0).unwrap())
    }

    /// The policy or prior below `prefix`, behind an encoder if it has one.
    fn gaussian(&self, prefix: &str) -> GaussianNetwork {
        let Some(head) = prefix.strip_suffix("3.") else {
            return GaussianNetwork::new(self.network(prefix), None);
        };
        let eye = format!("w0/{head}1.net.net.");
        let first = self.tensors[&format!("{eye}input.conv.weight")].dims().to_vec();
        let net = self.network(prefix);
        let spec = ConvSpec {
            channels: first[1],
            resolution: 32,
            width: first[0],
            output: net.spec().input,
        };
        let encoder = ConvEncoder::new(spec, &mut stream(0, Purpose::Weights, 0, 0)).unwrap();
        encoder.params().import(&eye, &self.tensors).unwrap();
        GaussianNetwork::seeing(encoder, net)
    }

    /// Prefix of the network whose first layer's name begins with `start`, if there is one.
    fn prefix(&self, start: &str) -> Option<String> {
        let first = "input.linear.weight";
        self.tensors.keys().find_map(|key| {
            let key = key.strip_prefix("w0/")?;
            key.starts_with(start)
                .then(|| key.strip_suffix(first))
                .flatten()
                .map(str::to_owned)
        })
    }

    /// The start weights of a network below `prefix`, with the architecture that their shapes tell.
    fn network(&self, prefix: &str) -> Mlp {
        let dims = |name: &str| {
            self.tensors
                .get(&format!("w0/{prefix}{name}"))
                .map(|tensor| tensor.dims().to_vec())
        };
        let (first, head) = (
            dims("input.linear.weight").unwrap(),
            dims("head.linear.weight").unwrap(),
        );
        let spec = MlpSpec {
            input: first[1],
            width: first[0],
            output: head[0],
            hidden: (0..)
                .take_while(|i| dims(&format!("pyramid-{i}.linear.weight")).is_some())
                .count(),
            norm: if dims("pyramid-0.norm.weight").is_some() {
                Norm::Batch
            } else {
                Norm::None
            },
        };
        let network = Mlp::new(spec, &mut stream(0, Purpose::Weights, 0, 0)).unwrap();
        network.params().import(&format!("w0/{prefix}"), &self.tensors).unwrap();
        network
    }
}

/// Runs the three updates of a case and compares everything the fixture holds.
fn agent(name: &str, estimate: Estimate) {
    for compute in Compute::at_hand() {
        agent_computed_by(compute, name, estimate);
    }
}

fn agent_computed_by(compute: Compute, name: &str, estimate: Estimate) {
    let Some(mut case) = Case::load(name) else { return };
    let policy_prefix = case.prefix("policy.net.").unwrap();
    let prior_prefix = case.prefix("policy.prior_net.");
    let (policy, critic) = (case.network(&policy_prefix), case.network("critics.0._net."));
    let sees_pictures = case.tensors.contains_key("in/observation_images_u8");
    let (now, later) = if sees_pictures {
        ("in/observation_state", "in/observation_next_state")
    } else {
        ("in/observation", "in/observation_next")
    };
    let hyper = &case.about["hyper"];
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    let regulariser = match hyper["target_entropy"].as_f64() {
        Some(target) => Regulariser::Entropy {
            target: Some(target as f32),
        },
        None => {
            let target = Schedule::Constant(number(&hyper["agent_params"]["td_schedule_params"]["p"]));
            Regulariser::PriorDivergence {
                target,
                estimate,
                clamp: 100.0,
                reversed: false,
            }
        }
    };
    let from_prior = policy.spec().norm == Norm::Batch;
    let PolicySize { width, hidden } = PolicySize::of(&policy);
    let config = SacConfig {
        regulariser,
        policy: if from_prior {
            PolicyStart::Prior
        } else {
            PolicyStart::Scratch { width, hidden }
        },
        critic: CriticConfig {
            width: critic.spec().width,
            hidden: critic.spec().hidden,
            norm: critic.spec().norm,
        },
        squash: Squash::Tanh {
            range: number(&hyper["policy_params"]["max_action_range"]),
            single_range_correction: true,
        },
        temperature: Temperature::Learned {
            initial: number_at(&case, "alpha/before"),
            lr: 3e-4,
            minimum: None,
        },
        batch: hyper["B"].as_u64().unwrap() as usize,
        ..SacConfig::default()
    };
    let action = policy.spec().output / 2;
    let dims = SacDims {
        observation: case.tensors[now].dims()[2],
        action,
    };
    let prior = from_prior.then(|| case.gaussian(prior_prefix.as_ref().unwrap_or(&policy_prefix)));
    let sac = Sac::new(config, dims, prior.as_ref(), &mut stream(0, Purpose::Weights, 0, 0)).unwrap();
    let mut sac = sac.computed_by(compute).unwrap();

    assert_eq!(sac.pixels().is_some(), sees_pictures);
    let whole = policy_prefix.strip_suffix("3.").unwrap_or(&policy_prefix);
    let parts = sac.policy().parts().into_iter();
    let mut networks: Vec<(String, Params)> = parts
        .map(|(name, params)| (format!("{whole}{name}"), params.clone()))
        .collect();
    for index in 0..2 {
        networks.push((format!("critics.{index}._net."), sac.critics()[index].params().clone()));
        networks.push((
            format!("critic_targets.{index}._net."),
            sac.targets()[index].params().clone(),
        ));
    }
    for (prefix, params) in &networks {
        // Where the targets start equal to the critics they are not stored.
        let stored = case.tensors.keys().any(|key| key.starts_with(&format!("w0/{prefix}")));
        let start = if stored {
            prefix.clone()
        } else {
            prefix.replace("critic_targets", "critics")
        };
        params.import(&format!("w0/{start}"), &case.tensors).unwrap();
    }

    let mut results: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    let updates = case.tensors["in/reward"].dim(0).unwrap();
    for update in 0..updates {
        let done = case.row("in/done", update);
        let batch = Batch {
            observation: case.row(now, update),
            pixels: case.pictures("in/observation_images_u8", update),
            action: case.row("in/action", update),
            reward: case.row("in/reward", update),
            next_observation: case.row(later, update),
            next_pixels: case.pictures("in/observation_next_images_u8", update),
            prior: None,
            steps: done.ones_like().unwrap(),
            timed_out: done.zeros_like().unwrap(),
            terminated: done,
        };
        let noise = |action: &str, divergence: &str| StateNoise {
            action: case.row(action, update),
            divergence: case
                .tensors
                .contains_key(divergence)
                .then(|| NoiseMoments::of(&case.row(divergence, update)).unwrap()),
        };
        let noise = UpdateNoise {
            here: noise("noise/policy", "noise/kl"),
            next: noise("noise/policy_next", "noise/kl_next"),
        };
        let before = sac.temperature();
        let losses = sac.losses(&batch, &noise).unwrap();
        let metrics = sac.update(&batch, &noise).unwrap();
        assert_eq!(
            losses.figures.read().unwrap(),
            metrics,
            "computing the losses changes nothing"
        );

        let mut keep = |name: &str, tensor: &Tensor| {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            results.entry(name.to_owned()).or_default().extend(values);
        };
        for (name, pass) in [("pi", &losses.here), ("pi_next", &losses.next)] {
            keep(&format!("out/{name}_action"), &pass.action);
            keep(&format!("out/{name}_log_prob"), &pass.log_prob);
            keep(&format!("out/{name}_mu"), &pass.policy.mu);
            keep(&format!("out/{name}_log_sigma"), &pass.policy.log_sigma);
            if let Some(prior) = &pass.prior {
                keep(&format!("out/{name}_prior_divergence"), &pass.penalty);
                keep(&format!("out/{name}_prior_mu"), &prior.mu);
                keep(&format!("out/{name}_prior_log_sigma"), &prior.log_sigma);
            }
        }
        keep("out/value_next", &losses.value_next);
        keep("out/q_target", &losses.q_target);
        keep("out/q1", &losses.q[0]);
        keep("out/q2", &losses.q[1]);
        for (name, value) in [
            ("loss/policy", metrics.policy_loss),
            ("loss/alpha", metrics.temperature_loss),
            ("loss/critics.0", metrics.critic_loss[0]),
            ("loss/critics.1", metrics.critic_loss[1]),
            ("alpha/before", before),
            ("alpha/after", sac.temperature()),
        ] {
            results.entry(name.to_owned()).or_default().push(value);
        }

        if update == 0 {
            for (prefix, params) in networks
                .iter()
                .filter(|(prefix, _)| !prefix.starts_with("critic_targets"))
            {
                case.check_gradients(&losses, prefix, params);
            }
            case.check("grad/_log_alpha.t", &[metrics.temperature_loss]);
        }
        if update == 0 || update == 2 {
            let group = format!("w{}", update + 1);
            for (prefix, params) in &networks {
                case.check_weights(&group, prefix, params);
            }
            let log_alpha = sac.export().unwrap()["temperature"].to_vec1::<f64>().unwrap()[0];
            case.check(&format!("{group}/_log_alpha.t"), &[log_alpha as f32]);
        }
    }
    for (name, values) in &results {
        case.check(name, values);
    }

    assert!(case.problems.is_empty(), "{name}:\n{}", case.problems.join("\n"));
    let given = ["in", "noise", "w0"];
    let missed: Vec<_> = case
        .tensors
        .keys()
        .filter(|key| !given.contains(&key.split('/').next().unwrap()) && !case.checked.contains(*key))
        .collect();
    assert!(missed.is_empty(), "{name}: never compared: {missed:?}");
    println!("{name}: {} tensors agree", case.checked.len());
}

struct PolicySize {
    width: usize,
    hidden: usize,
}

impl PolicySize {
    fn of(policy: &Mlp) -> Self {
        Self {
            width: policy.spec().width,
            hidden: policy.spec().hidden,
        }
    }
}

fn number_at(case: &Case, name: &str) -> f32 {
    case.values(name)[0]
}

const SAMPLES: Estimate = Estimate::MonteCarlo { samples: 10 };

#[test]
fn plain_sac_on_skills() {
    agent("sac_hl_kitchen_small", SAMPLES);
}

#[test]
fn plain_sac_on_skills_full_size() {
    agent("sac_hl_kitchen", SAMPLES);
}

#[test]
fn plain_sac_on_actions() {
    agent("sac_flat_kitchen_small", SAMPLES);
}

#[test]
fn behaviour_cloning_fine_tuned() {
    agent("sac_bc_finetune_small", SAMPLES);
}

#[test]
fn skill_prior() {
    agent("apsac_hl_kitchen_small", SAMPLES);
}

#[test]
fn skill_prior_that_sees_pictures() {
    agent("apsac_image_maze_small", SAMPLES);
}

#[test]
fn skill_prior_full_size() {
    agent("apsac_hl_kitchen", SAMPLES);
}

#[test]
fn skill_prior_with_analytic_divergence() {
    agent("apsac_hl_kitchen_analytic_small", Estimate::Analytic);
}

#[test]
fn flat_prior() {
    agent("apsac_flat_kitchen_small", SAMPLES);
}

/// The script's episodes, played over and over through the recorder with the original rule, give the stored rows; and
/// each call of the original sampler ends at the control step at which the recorder has handed out enough.
#[test]
fn hierarchical_sampler() {
    let case = Case::load("hl_sampler").unwrap();
    let hyper = &case.about["hyper"];
    let (interval, limit) = (
        hyper["hl_interval"].as_u64().unwrap(),
        hyper["max_episode_len"].as_u64().unwrap(),
    );
    let script = case.values("in/script");
    let episodes = script.chunks_exact(4).map(|row| row[0] as usize).max().unwrap() + 1;
    let steps: BTreeMap<(usize, u64), (f32, bool)> = script
        .chunks_exact(4)
        .map(|row| ((row[0] as usize, row[1] as u64), (row[2], row[3] == 1.0)))
        .collect();
    for name in ["one", "many"] {
        let wanted = hyper["calls"][name].as_array().unwrap();
        let golden_rows = case.values(&format!("out/{name}_hl"));
        let golden_steps = case.tensors[&format!("out/{name}_env_steps")].to_vec1::<i64>().unwrap();
        let mut recorder = SkillRecorder::new(TransitionRule::Original);
        let (mut episode, mut t, mut decision) = (0, 0, 0);
        let mut rows: Vec<f32> = Vec::new();
        for (call, wanted) in wanted.iter().enumerate() {
            let (mut found, mut taken) = (0, 0);
            // A call of the original takes at least two control steps.
            while found < wanted.as_u64().unwrap() || taken < 2 {
                let state = [episode as f32, t as f32];
                let mut keep = |transition: Transition<'_>| {
                    found += 1;
                    rows.push(call as f32);
                    rows.extend(transition.observation);
                    rows.extend(transition.action);
                    rows.extend([transition.reward, f32::from(u8::from(transition.end.is_over()))]);
                    rows.extend(transition.next_observation);
                };
                if t % interval == 0 {
                    recorder.decide(&state, None, &[decision as f32]).map(&mut keep);
                    decision += 1;
                }
                let (reward, terminated) = steps[&(episode, t)];
                t += 1;
                taken += 1;
                let end = match (terminated, t >= limit) {
                    (true, _) => End::Terminated,
                    (false, true) => End::TimedOut,
                    (false, false) => End::Continues,
                };
                recorder
                    .step(reward, &[episode as f32, t as f32], None, end)
                    .map(&mut keep);
                if end.is_over() {
                    (episode, t) = ((episode + 1) % episodes, 0);
                }
            }
            assert_eq!(taken, golden_steps[call], "control steps of call {call} of \"{name}\"");
        }
        assert_eq!(rows, golden_rows, "\"{name}\"");
    }
}
