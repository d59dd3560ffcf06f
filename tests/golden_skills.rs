//! Skill models against numbers of the original SPiRL code: outputs, losses, gradients, weights after training steps,
//! evaluation mode, validation metric and use as low-level policy. Weights are loaded by their original names.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use apprentice::nn::{Compute, DiagGaussian, Mlp, MlpSpec, Mode, Norm, Params, squash};
use apprentice::pretraining::Pretrain;
use apprentice::rng::{Purpose, stream};
use apprentice::skills::import::{ImportedModel, import_model, infer_spirl, read_weights};
use apprentice::skills::prior::{ConditionalFlow, MixtureHead, PriorDistribution, PriorKind};
use apprentice::skills::spirl::{AutoBeta, DecoderKind, PriorTraining, SkillBatch};
use apprentice::skills::{
    ActiveSkill, Bc, BcConfig, Decoding, EarlyClip, PixelDims, Sees, SkillDims, SkillModel, Spirl, SpirlConfig,
    Standardiser,
};
use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Tensor};
use serde_json::Value;

// ------------------------------------------------------------------------------------------------------------ fixtures

#[derive(Clone)]
struct Case {
    tensors: BTreeMap<String, Tensor>,
    json: Value,
    compute: Compute,
}

impl Case {
    fn load(name: &str) -> Self {
        Self::find(name).unwrap_or_else(|| panic!("{name} is not there"))
    }

    /// A case of the repository, or of the folder that `APPRENTICE_GOLDEN` names; `None`, with a printed line, if it is
    /// in neither.
    fn find(name: &str) -> Option<Self> {
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let outside = std::env::var_os("APPRENTICE_GOLDEN").map(PathBuf::from);
        let folders = [Some(bundled), outside].into_iter().flatten();
        let Some(path) = folders
            .map(|folder| folder.join("spirl").join(format!("{name}.json")))
            .find(|path| path.exists())
        else {
            println!("{name}: skipped, set APPRENTICE_GOLDEN to the folder that holds spirl/{name}.json");
            return None;
        };
        let json = std::fs::read_to_string(&path).unwrap();
        Some(Self {
            tensors: read_weights(&path.with_extension("safetensors")).unwrap(),
            json: serde_json::from_str(&json).unwrap(),
            compute: Compute::Fused,
        })
    }

    fn get(&self, name: &str) -> Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .to_dtype(DType::F32)
            .unwrap()
    }

    fn group(&self, group: &str) -> impl Iterator<Item = (&str, &Tensor)> {
        let prefix = format!("{group}/");
        self.tensors
            .iter()
            .filter_map(move |(name, tensor)| Some((name.strip_prefix(&prefix)?, tensor)))
    }

    fn has(&self, group: &str) -> bool {
        self.group(group).next().is_some()
    }

    fn weights(&self) -> BTreeMap<String, Tensor> {
        self.group("w0")
            .map(|(name, tensor)| (name.to_owned(), tensor.clone()))
            .collect()
    }

    fn tolerance(&self, name: &str) -> f32 {
        let group = name.split('/').next().unwrap();
        let value = match &self.json["tolerance_per_tensor"][name] {
            Value::Null => &self.json["tolerance"][group]["scaled"],
            value => value,
        };
        value.as_f64().unwrap_or_else(|| panic!("no tolerance for {name}")) as f32
    }

    /// Largest error over the largest fixture value, held against the fixture's tolerance.
    fn check(&self, name: &str, mine: &Tensor) {
        let wanted = self.get(name);
        assert_eq!(mine.dims(), wanted.dims(), "shape of {name}");
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (mine, wanted) = (values(mine), values(&wanted));
        let largest = wanted.iter().fold(1e-12_f32, |largest, value| largest.max(value.abs()));
        let error = mine.iter().zip(&wanted).fold(0.0_f32, |worst, (a, b)| {
            assert!(a.is_finite(), "{name} is not finite");
            worst.max((a - b).abs())
        });
        let tolerance = self.tolerance(name);
        assert!(
            error / largest <= tolerance,
            "{name}: {} > {tolerance}",
            error / largest
        );
    }

    /// A tensor of a group that may be stored whole, or as every s-th entry and its norm.
    fn check_group(&self, group: &str, mine: impl Fn(&str) -> Option<Tensor>) {
        let mut checked = 0;
        for (name, _) in self.group(group) {
            if let Some(tensor) = mine(name) {
                self.check(&format!("{group}/{name}"), &tensor);
                checked += 1;
            }
        }
        for (name, probe) in self.group(&format!("{group}_probe")) {
            let tensor = mine(name).unwrap().flatten_all().unwrap();
            let step = (tensor.elem_count() / 512) | 1;
            let index: Vec<u32> = (0..probe.elem_count()).map(|i| (i * step) as u32).collect();
            let picked = tensor
                .index_select(&Tensor::new(index, &Device::Cpu).unwrap(), 0)
                .unwrap();
            self.check(&format!("{group}_probe/{name}"), &picked);
            let norm = tensor.sqr().unwrap().sum_all().unwrap().sqrt().unwrap();
            let wanted = self.get(&format!("{group}_l2/{name}"));
            self.check(&format!("{group}_l2/{name}"), &norm.reshape(wanted.dims()).unwrap());
            checked += 1;
        }
        assert!(checked > 0, "nothing in {group}");
    }

    fn curve(&self, name: &str) -> Vec<f32> {
        let value = name.split('/').fold(&self.json["scalars"], |value, key| &value[key]);
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|value| value.as_f64().unwrap() as f32)
            .collect()
    }

    fn spirl_batch(&self) -> SkillBatch {
        SkillBatch {
            states: self.seen(),
            actions: self.get("in/actions"),
        }
    }

    /// Frames `[B, T, 3, R, R]` where the case has them, else states `[B, T, S]`.
    fn seen(&self) -> Tensor {
        if self.tensors.contains_key("in/images_u8") {
            self.get("in/images_u8")
                .affine(1.0 / 255.0, 0.0)
                .and_then(|frames| frames.affine(2.0, -1.0))
                .unwrap()
        } else {
            self.get("in/states")
        }
    }

    /// What a policy sees at the beginning of every window.
    fn beginning(&self, dims: SkillDims) -> Tensor {
        match dims.pixels {
            None => self.seen().narrow(1, 0, 1).unwrap().squeeze(1).unwrap(),
            Some(pixels) => {
                let frames = self.seen().narrow(1, 0, pixels.frames).unwrap().contiguous().unwrap();
                frames.reshape(pixels.shape(frames.dim(0).unwrap())).unwrap()
            }
        }
    }

    fn train_noise(&self, step: usize) -> Tensor {
        self.get("noise/train").get(step).unwrap()
    }

    /// The same case for models that are computed in this way.
    fn computed_by(&self, compute: Compute) -> Self {
        Self {
            compute,
            ..self.clone()
        }
    }

    fn spirl(&self, settings: &SpirlConfig) -> Spirl {
        let imported = import_model(&self.weights(), settings).unwrap();
        assert!(imported.unused.is_empty(), "unused: {:?}", imported.unused);
        match imported.model {
            ImportedModel::Spirl(model) => Spirl::computed_by(*model, &self.compute).unwrap(),
            ImportedModel::Bc(_) => panic!("not a skill model"),
        }
    }
}

fn numbers(state: usize, action: usize) -> SkillDims {
    SkillDims {
        state,
        action,
        pixels: None,
    }
}

/// Two frames of 32 x 32, as in the original. Weights of networks that see pictures do not tell how many numbers there
/// are beside.
fn pictures(action: usize) -> SkillDims {
    SkillDims {
        pixels: Some(PixelDims { frames: 2, size: 32 }),
        ..numbers(0, action)
    }
}

fn gradient(parts: &[(String, &Params)], grads: &GradStore, name: &str) -> Option<Tensor> {
    parts.iter().find_map(|(prefix, params)| {
        let own = name.strip_prefix(prefix.as_str())?;
        params
            .entries()
            .iter()
            .any(|entry| entry.name == own)
            .then(|| params.gradient(grads, own).unwrap())?
    })
}

fn close(mine: f32, wanted: f32, tolerance: f32, what: &str) {
    assert!(
        (mine - wanted).abs() <= tolerance * wanted.abs(),
        "{what}: {mine} instead of {wanted}"
    );
}

/// The names that belong to a model but not to its computation.
fn ignored(name: &str) -> bool {
    name == "log_sigma" || name.ends_with("num_batches_tracked")
}

// -------------------------------------------------------------------------------------------------------- whole models

/// Settings of the original runs: everything is read from shapes but this.
fn settings() -> SpirlConfig {
    SpirlConfig {
        early_clip: None,
        ..SpirlConfig::default()
    }
}

fn check_spirl(case: &Case, settings: &SpirlConfig) {
    for compute in Compute::at_hand() {
        check_spirl_as_computed(&case.computed_by(compute), settings);
    }
}

fn check_spirl_as_computed(case: &Case, settings: &SpirlConfig) {
    check_evaluation(case, settings);
    check_first_step(case, settings);
    let steps = if case.has("w10") { 10 } else { 3 };
    check_training(case, settings, steps, "");
    if case.has("w10_clip") {
        let clipped = SpirlConfig {
            early_clip: Some(EarlyClip::default()),
            ..settings.clone()
        };
        check_training(case, &clipped, 10, "_clip");
    }
}

fn check_pass(case: &Case, model: &Spirl, group: &str, noise: &Tensor, mode: Mode) -> GradStore {
    let batch = case.spirl_batch();
    let pass = model.pass(&batch, noise, mode).unwrap();
    let check = |name: &str, tensor: &Tensor| case.check(&format!("{group}/{name}"), tensor);
    check("q_mu", &pass.posterior.mu);
    check("q_log_sigma", &pass.posterior.log_sigma);
    check("z", &pass.skills);
    check("reconstruction", &pass.actions);
    let gaussians: Vec<&DiagGaussian> = pass.priors.iter().filter_map(PriorDistribution::gauss).collect();
    if !gaussians.is_empty() {
        let all = |part: fn(&DiagGaussian) -> &Tensor| {
            Tensor::cat(&gaussians.iter().map(|gauss| part(gauss)).collect::<Vec<_>>(), 0).unwrap()
        };
        check("prior_mu", &all(|gauss| &gauss.mu));
        check("prior_log_sigma", &all(|gauss| &gauss.log_sigma));
    }
    if let [PriorDistribution::Mixture(mixture)] = pass.priors.as_slice() {
        let (rows, count) = mixture.weights.dims2().unwrap();
        check("prior_pi", &mixture.weights);
        check("prior_mu", &mixture.components.mu.reshape((rows, count, ())).unwrap());
        check(
            "prior_log_sigma",
            &mixture.components.log_sigma.reshape((rows, count, ())).unwrap(),
        );
    }
    let losses = model.losses(&pass, &batch).unwrap();
    let loss_group = if group == "out" { "loss" } else { "eval_loss" };
    case.check(&format!("{loss_group}/rec_mse"), &losses.reconstruction);
    case.check(&format!("{loss_group}/kl_loss"), &losses.kl);
    case.check(&format!("{loss_group}/q_hat_loss"), &losses.prior);
    case.check(&format!("{loss_group}/total"), &losses.total);
    let breakdown = Tensor::stack(&losses.breakdown, 0).unwrap();
    case.check(&format!("{loss_group}_breakdown/q_hat_loss"), &breakdown);
    losses.total.backward().unwrap()
}

fn check_evaluation(case: &Case, settings: &SpirlConfig) {
    let model = case.spirl(settings);
    check_pass(
        case,
        &model,
        "eval",
        &case.get("noise/eval").get(0).unwrap(),
        Mode::Eval,
    );
    let before = model.export().unwrap();
    if case.has("topn") {
        let noise = case.get("noise/eval").get(0).unwrap();
        let (metrics, top) = model
            .validate_step(&case.spirl_batch(), &noise, &case.get("noise/topn"))
            .unwrap();
        let errors = Tensor::new(top.errors.clone(), &Device::Cpu).unwrap();
        case.check("topn/mse", &errors);
        let wanted = &case.json["scalars"]["topn_metrics"];
        let summary = top.summary();
        for (mine, name) in [
            (summary.best_mean, "eval/results/metric/mse/top100_mean"),
            (summary.best_std, "eval/results/verbose/mse/top100_std"),
            (summary.all_mean, "eval/results/verbose/mse/all100_mean"),
            (summary.all_std, "eval/results/verbose/mse/all100_std"),
        ] {
            close(mine as f32, wanted[name].as_f64().unwrap() as f32, 2e-5, name);
        }
        close(
            metrics.total,
            case.get("eval_loss/total").to_scalar().unwrap(),
            5e-6,
            "validation loss",
        );
        assert_eq!(metrics.gradient_norm, 0.0);
    }
    check_acting(case, &model);
    // Nothing of this may move a weight or a running statistic.
    for (name, tensor) in model.export().unwrap() {
        let same = tensor
            .eq(&before[&name])
            .unwrap()
            .to_dtype(DType::F32)
            .unwrap()
            .mean_all()
            .unwrap();
        assert_eq!(same.to_scalar::<f32>().unwrap(), 1.0, "{name} moved in evaluation");
    }
}

fn check_acting(case: &Case, model: &Spirl) {
    let dims = SkillModel::dims(model);
    let (state, latent) = (dims.state, model.space().width());
    let split = |rows: &Tensor| {
        (
            rows.narrow(1, 0, state).unwrap(),
            rows.narrow(1, state, latent).unwrap(),
        )
    };
    let first = case.beginning(dims);
    match model.decoding() {
        Decoding::Plan if case.has("rl") => {
            let skills = case.get("in/rl_z");
            case.check("rl/actions", &model.plan(&first, &skills, 10).unwrap());
            assert_eq!(SkillModel::sees(model), Sees::Numbers, "it looks at nothing");
            if !model.config().conditioned_start {
                case.check("rl/actions", &model.decode_open(None, &skills).unwrap());
            }
            assert!(model.act(&first, &skills).is_err());
        }
        Decoding::React => {
            assert_eq!(SkillModel::sees(model), dims.sees());
            let (states, skills) = match dims.pixels {
                None => split(&case.get("in/rl_obs")),
                Some(_) => (first.clone(), case.get("in/rl_z")),
            };
            let mean = model.act(&states, &skills).unwrap();
            case.check("rl/mean", &mean);
            assert!(!mean.track_op(), "acting records nothing for differentiation");
            // The original policy: sigma of e^-50 clamped to e^-10, then tanh.
            let raw = Tensor::cat(&[&mean, &mean.ones_like().unwrap().affine(-50.0, 0.0).unwrap()], 1).unwrap();
            let policy = DiagGaussian::from_raw(&raw).unwrap();
            case.check("rl/log_sigma", &policy.log_sigma);
            let sample = policy.sample(&case.get("noise/rl")).unwrap();
            case.check("rl/action", &squash::squash(&sample, 1.0).unwrap());
            let log_prob = policy.log_prob(&sample).unwrap() - squash::log_det(&sample, 1.0).unwrap();
            case.check("rl/log_prob", &log_prob.unwrap());

            assert!(model.plan(&states, &skills, 10).is_err());

            // One observation at a time: the skill of a row counts only when the last one is over.
            if !case.has("rl_seq") {
                return;
            }
            let rows = case.get("in/rl_seq_obs");
            let mut active = ActiveSkill::default();
            let mut means = Vec::new();
            for row in 0..rows.dim(0).unwrap() {
                let (state, skill) = split(&rows.narrow(0, row, 1).unwrap());
                if active.is_over() {
                    active.begin(&skill.flatten_all().unwrap().to_vec1().unwrap(), model.lengths()[0]);
                }
                let held = Tensor::from_slice(active.skill(), (1, latent), &Device::Cpu).unwrap();
                means.push(model.act(&state, &held).unwrap());
                active.advance();
            }
            case.check("rl_seq/mean", &Tensor::cat(&means, 0).unwrap());
        }
        Decoding::Plan => {}
    }
    if case.has("eval") && case.tensors.contains_key("eval/prior_mu") && model.config().prior == PriorKind::Gauss {
        // The ensemble's fixture holds member 1 in the second half; acting uses member 0.
        let rows = first.dim(0).unwrap() / model.config().prior_members;
        let prior = model.prior(&first.narrow(0, 0, rows).unwrap()).unwrap();
        let wanted = case.get("eval/prior_mu").narrow(0, 0, rows).unwrap();
        let error = (&prior.mu - wanted)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(error < 2e-5, "prior when acting: {error}");
        assert!(!prior.mu.track_op());
        let network = model.policy_prior().unwrap();
        let policy = network.forward(&first).unwrap();
        assert!(policy.mu.track_op());
        let same = network.forward_frozen(&first).unwrap();
        let error = (policy.mu - same.mu)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(error < 1e-5, "policy and prior: {error}");
    }
}

fn check_first_step(case: &Case, settings: &SpirlConfig) {
    let model = case.spirl(settings);
    let grads = check_pass(case, &model, "out", &case.train_noise(0), Mode::Train);
    let parts = model.parts();
    let log_beta = |name: &str| name == "_log_beta.t";
    case.check_group("grad", |name| {
        (!log_beta(name)).then(|| gradient(&parts, &grads, name).expect(name))
    });
}

fn check_training(case: &Case, settings: &SpirlConfig, steps: usize, suffix: &str) {
    let mut model = case.spirl(settings);
    let batch = case.spirl_batch();
    let (losses, norms) = if suffix.is_empty() {
        (case.curve("loss_curve/total"), case.curve("grad_norm_curve"))
    } else {
        (
            case.curve("loss_curve_with_clip_0.001/total"),
            case.curve("grad_norm_before_clip_curve"),
        )
    };
    for step in 0..steps {
        let metrics = model.train_step(&batch, &case.train_noise(step)).unwrap();
        assert!(!metrics.skipped);
        let tolerance = if step < 3 { 2e-5 } else { 2e-3 };
        close(
            metrics.total,
            losses[step],
            tolerance,
            &format!("loss of step {step}{suffix}"),
        );
        close(
            metrics.gradient_norm,
            norms[step],
            5.0 * tolerance,
            &format!("gradient norm of step {step}{suffix}"),
        );
        let group = format!("w{}{suffix}", step + 1);
        if case.has(&group) {
            let weights = model.export().unwrap();
            case.check_group(&group, |name| (!ignored(name)).then(|| weights[name].clone()));
        }
        if step == 2 && suffix.is_empty() {
            case.check("out3/total", &Tensor::new(metrics.total, &Device::Cpu).unwrap());
        }
    }
    assert_eq!(model.updates(), steps as u64);
}

#[test]
fn open_loop_kitchen() {
    let case = Case::load("ol_kitchen");
    let (config, dims) = infer_spirl(&case.weights(), &settings()).unwrap();
    // The open-loop model of the paper is the default but for its decoder.
    let paper = SpirlConfig {
        decoder: DecoderKind::OpenLoop,
        ..settings()
    };
    assert_eq!((config, dims), (paper, numbers(60, 9)));
    check_spirl(&case, &settings());
}

#[test]
fn open_loop_small() {
    check_spirl(&Case::load("ol_kitchen_small"), &settings());
}

#[test]
fn closed_loop_kitchen() {
    let case = Case::load("cl_kitchen");
    let (config, _) = infer_spirl(&case.weights(), &settings()).unwrap();
    assert_eq!(config, settings());
    check_spirl(&case, &settings());
}

#[test]
fn closed_loop_small() {
    check_spirl(&Case::load("cl_kitchen_small"), &settings());
}

/// Runs a case of a model that sees pictures, whose weights tell everything but the KL weight; the big ones only where
/// they are at hand.
fn check_pictures(name: &str, decoder: DecoderKind, action: usize, kl_weight: f32) {
    let Some(case) = Case::find(name) else { return };
    let settings = SpirlConfig {
        kl_weight,
        ..settings()
    };
    let (config, dims) = infer_spirl(&case.weights(), &settings).unwrap();
    assert_eq!((config.decoder, dims), (decoder, pictures(action)));
    check_spirl(&case, &settings);
}

#[test]
fn open_loop_pictures_of_blocks() {
    check_pictures("ol_image_blocks_small", DecoderKind::OpenLoop, 3, 1e-2);
}

#[test]
fn open_loop_pictures_of_mazes() {
    check_pictures("ol_image_maze", DecoderKind::OpenLoop, 2, 1e-2);
}

#[test]
fn closed_loop_pictures_of_blocks() {
    check_pictures("cl_image_blocks_small", DecoderKind::ClosedLoop, 3, 1e-4);
}

#[test]
fn closed_loop_pictures_of_mazes() {
    check_pictures("cl_image_maze", DecoderKind::ClosedLoop, 2, 1e-2);
}

#[test]
fn mixture_prior() {
    check_spirl(&Case::load("variant_prior_gmm"), &settings());
}

#[test]
fn flow_prior() {
    check_spirl(&Case::load("variant_prior_flow"), &settings());
}

#[test]
fn prior_trained_by_kl() {
    let settings = SpirlConfig {
        prior_training: PriorTraining::Kl,
        ..settings()
    };
    check_spirl(&Case::load("variant_prior_kl"), &settings);
}

#[test]
fn prior_ensemble() {
    check_spirl(&Case::load("variant_prior_ensemble"), &settings());
}

#[test]
fn conditioned_decoder_start() {
    check_spirl(&Case::load("variant_ol_cond"), &settings());
}

#[test]
fn two_lstm_layers() {
    check_spirl(&Case::load("variant_lstm2"), &settings());
}

#[test]
fn automatic_beta_as_in_the_original() {
    for compute in Compute::at_hand() {
        automatic_beta_computed_by(compute);
    }
}

fn automatic_beta_computed_by(compute: Compute) {
    let case = Case::load("variant_auto_beta").computed_by(compute);
    let beta = AutoBeta {
        target: 0.05,
        double_step: true,
        ..AutoBeta::default()
    };
    let settings = SpirlConfig {
        auto_beta: Some(beta),
        ..settings()
    };
    check_evaluation(&case, &settings);
    check_first_step(&case, &settings);
    check_training(&case, &settings, 3, "");
    // The gradient of log beta shows in what the two optimisers make of it.
    let mut model = case.spirl(&settings);
    for (step, wanted) in case.curve("beta_after_each_step").iter().enumerate() {
        model.train_step(&case.spirl_batch(), &case.train_noise(step)).unwrap();
        let log_beta = model.export().unwrap()["_log_beta.t"].to_vec1::<f32>().unwrap()[0];
        close(log_beta.exp(), *wanted, 1e-6, "beta");
    }
}

#[test]
fn automatic_beta_steps_once_by_default() {
    let case = Case::load("variant_auto_beta");
    let settings = SpirlConfig {
        auto_beta: Some(AutoBeta {
            target: 0.05,
            ..AutoBeta::default()
        }),
        ..settings()
    };
    let mut model = case.spirl(&settings);
    let before = model.export().unwrap()["_log_beta.t"].to_vec1::<f32>().unwrap()[0];
    let metrics = model.train_step(&case.spirl_batch(), &case.train_noise(0)).unwrap();
    let after = model.export().unwrap()["_log_beta.t"].to_vec1::<f32>().unwrap()[0];
    // The first RAdam update is the bare gradient times the learning rate.
    let gradient = before.exp() * (0.05 - metrics.kl);
    close(after - before, -3e-4 * gradient, 2e-2, "step of log beta");
}

#[test]
fn behaviour_cloning() {
    check_cloning("bc_kitchen", numbers(60, 9));
}

#[test]
fn behaviour_cloning_from_pictures() {
    check_cloning("bc_image_maze", pictures(2));
}

fn check_cloning(name: &str, dims: SkillDims) {
    for compute in Compute::at_hand() {
        check_cloning_computed_by(&compute, name, dims);
    }
}

fn check_cloning_computed_by(compute: &Compute, name: &str, dims: SkillDims) {
    let case = Case::load(name);
    let states = case.beginning(dims);
    // The action that follows the newest frame.
    let newest = dims.pixels.map_or(1, |pixels| pixels.frames) - 1;
    let actions = case.get("in/actions").get_on_dim(1, newest).unwrap();
    let fresh = |early_clip| {
        let imported = import_model(&case.weights(), &settings()).unwrap();
        assert!(imported.unused.is_empty());
        let ImportedModel::Bc(model) = imported.model else {
            panic!("not a flat prior")
        };
        assert_eq!((model.config(), model.dims()), (&BcConfig::default(), dims));
        assert_eq!(
            (model.window(), Pretrain::sees(model.as_ref())),
            (newest + 2, dims.sees())
        );
        let config = BcConfig {
            early_clip,
            ..model.config().clone()
        };
        let model = Bc::new(config, model.dims(), &mut stream(0, Purpose::Weights, 0, 0)).unwrap();
        let mut model = Bc::computed_by(model, compute).unwrap();
        model.import(&case.weights()).unwrap();
        model
    };

    let model = fresh(None);
    for (group, loss_group, mode) in [("eval", "eval_loss", Mode::Eval), ("out", "loss", Mode::Train)] {
        let prediction = model.forward(&states, mode).unwrap();
        case.check(&format!("{group}/pred_mu"), &prediction.mu);
        case.check(&format!("{group}/pred_log_sigma"), &prediction.log_sigma);
        let loss = prediction
            .log_prob(&actions)
            .unwrap()
            .mean_all()
            .unwrap()
            .neg()
            .unwrap();
        case.check(&format!("{loss_group}/nll"), &loss);
    }
    let model = fresh(None);
    let network = model.policy_prior().unwrap().forward_frozen(&states).unwrap();
    case.check("eval/pred_mu", &network.mu);
    let grads = model.loss(&states, &actions, Mode::Train).unwrap().backward().unwrap();
    case.check_group("grad", |name| gradient(&model.parts(), &grads, name));

    // Whole windows, as the program gives them.
    let nll = |numbers: Vec<(&str, f32)>| numbers.iter().find(|(name, _)| *name == "nll").unwrap().1;
    let noise = &mut stream(0, Purpose::Batches, 0, 0);
    let validated = fresh(None)
        .validate(case.seen(), case.get("in/actions"), noise)
        .unwrap();
    close(
        nll(validated),
        case.get("eval_loss/nll").to_scalar().unwrap(),
        5e-6,
        "validation",
    );
    let trained = fresh(None)
        .train(case.seen(), case.get("in/actions"), noise, 1.0)
        .unwrap();
    close(
        nll(trained),
        case.get("loss/nll").to_scalar().unwrap(),
        5e-6,
        "training",
    );

    for (clip, suffix) in [(None, ""), (Some(EarlyClip::default()), "_clip")] {
        let mut model = fresh(clip);
        let curve = if clip.is_none() {
            "loss_curve/total"
        } else {
            "loss_curve_with_clip_0.001/total"
        };
        let losses = case.curve(curve);
        for (step, wanted) in losses.iter().enumerate() {
            let metrics = model.train_step(&states, &actions).unwrap();
            close(metrics.nll, *wanted, 5e-5, curve);
            if step == 2 && clip.is_none() {
                case.check("out3/total", &Tensor::new(metrics.nll, &Device::Cpu).unwrap());
            }
            let group = format!("w{}{suffix}", step + 1);
            if case.has(&group) {
                let weights = model.export().unwrap();
                case.check_group(&group, |name| (!ignored(name)).then(|| weights[name].clone()));
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------ distributions

#[test]
fn mixture_head() {
    let case = Case::load("dist_mdn_gmm");
    let mut rng = stream(0, Purpose::Weights, 0, 0);
    let head = MixtureHead::new(16, 6, 5, &mut rng).unwrap();
    let weights = case.weights();
    for (name, params) in head.parts() {
        params.import(&format!("{name}."), &weights).unwrap();
    }
    let mixture = head.forward(&case.get("in/h")).unwrap();
    let rows = |tensor: &Tensor| tensor.reshape((12, 5, 6)).unwrap();
    case.check("out/pi", &mixture.weights);
    case.check("out/mu", &rows(&mixture.components.mu));
    case.check("out/log_sigma", &rows(&mixture.components.log_sigma));
    let log_prob = mixture.log_prob(&case.get("in/x")).unwrap().narrow(0, 1, 11).unwrap();
    case.check("out/log_prob", &log_prob);
    let loss = log_prob.mean_all().unwrap().neg().unwrap();
    case.check("loss/mean_nll_rows_1_on", &loss);
    let grads = loss.backward().unwrap();
    for (name, params) in head.parts() {
        for entry in params.entries() {
            let mine = params.gradient(&grads, &entry.name).unwrap().unwrap();
            case.check(&format!("grad/{name}.{}", entry.name), &mine);
        }
    }
    let chosen: Vec<usize> = case.tensors["noise/component"]
        .to_vec1::<i64>()
        .unwrap()
        .into_iter()
        .map(|pick| pick as usize)
        .collect();
    let noise = case.get("noise/eps");
    let own: Vec<Tensor> = chosen
        .iter()
        .enumerate()
        .map(|(row, pick)| noise.get(row).unwrap().get(*pick).unwrap())
        .collect();
    let sample = mixture.sample_of(&chosen, &Tensor::stack(&own, 0).unwrap()).unwrap();
    case.check("out/sample", &sample);
    assert_eq!(mixture.sample(&mut rng).unwrap().dims(), &[12, 6]);
}

#[test]
fn conditional_flow() {
    let case = Case::load("dist_realnvp");
    let mut rng = stream(0, Purpose::Weights, 0, 0);
    let spec = MlpSpec {
        input: 7,
        width: 16,
        output: 16,
        hidden: 2,
        norm: Norm::Batch,
    };
    let flow = ConditionalFlow::new(Mlp::new(spec, &mut rng).unwrap(), 10, 6, &mut rng).unwrap();
    let weights = case.weights();
    for (prefix, params) in flow.parts() {
        params.import(&prefix, &weights).unwrap();
    }
    let conditioned = flow.condition_on(&case.get("in/obs"), Mode::Train).unwrap();
    case.check("out/cond", conditioned.condition());
    let (base, log_det) = conditioned.to_base(&case.get("in/x")).unwrap();
    case.check("out/z", &base);
    case.check("out/log_det", &log_det);
    case.check("out/sample", &conditioned.sample(&case.get("noise/eps")).unwrap());
    case.check("out/inverse_of_z", &conditioned.sample(&base).unwrap());
    let log_prob = conditioned.log_prob(&case.get("in/x")).unwrap();
    case.check("out/log_prob", &log_prob);
    let loss = log_prob.mean_all().unwrap().neg().unwrap();
    case.check("loss/mean_nll", &loss);
    let grads = loss.backward().unwrap();
    case.check_group("grad", |name| gradient(&flow.parts(), &grads, name));
}

// ------------------------------------------------------------------------------------------------------------- weights

#[test]
fn parameter_counts_are_the_published_ones() {
    let mut rng = stream(0, Purpose::Weights, 0, 0);
    let kitchen = numbers(60, 9);
    let office = numbers(97, 8);
    let open = SpirlConfig {
        decoder: DecoderKind::OpenLoop,
        ..SpirlConfig::default()
    };
    let office_config = SpirlConfig {
        encoder_output: 32,
        ..SpirlConfig::default()
    };
    let picture_config = SpirlConfig {
        decoder_hidden_layers: 3,
        ..office_config.clone()
    };
    let open_picture_config = SpirlConfig {
        decoder: DecoderKind::OpenLoop,
        ..picture_config.clone()
    };
    for (config, dims, counts) in [
        (open, kitchen, [152_468, 135_817, 265, 110_228, 0]),
        (SpirlConfig::default(), kitchen, [160_148, 93_449, 0, 110_228, 0]),
        (office_config, office, [150_452, 98_056, 0, 114_964, 0]),
        (
            open_picture_config.clone(),
            pictures(2),
            [137_268, 134_018, 258, 134_172, 0],
        ),
        (open_picture_config, pictures(3), [137_396, 134_275, 259, 134_172, 0]),
        (
            picture_config.clone(),
            pictures(2),
            [141_364, 55_682, 0, 134_172, 27_528],
        ),
        (picture_config, pictures(3), [141_492, 55_811, 0, 134_172, 27_528]),
    ] {
        let model = Spirl::new(config, dims, &mut rng).unwrap();
        let count = |prefixes: &[&str]| -> usize {
            let parts = model.parts();
            let entries = parts.iter().flat_map(|(prefix, params)| {
                let weights = params
                    .entries()
                    .iter()
                    .filter(|entry| entry.kind == apprentice::nn::Kind::Weight);
                weights.map(move |entry| (format!("{prefix}{}", entry.name), entry.elements()))
            });
            entries
                .filter(|(name, _)| prefixes.iter().any(|p| name.starts_with(p)))
                .map(|(_, count)| count)
                .sum()
        };
        let mine = [
            count(&["q."]),
            count(&["decoder."]),
            count(&["decoder_"]),
            count(&["p."]),
            count(&["img_encoder."]),
        ];
        assert_eq!(mine, counts);
        assert_eq!(model.parameter_count(), counts.iter().sum::<usize>());
    }
    for (dims, wanted) in [(kitchen, 93_330), (pictures(2), 177_004), (pictures(3), 177_262)] {
        let model = Bc::new(BcConfig::default(), dims, &mut rng).unwrap();
        assert_eq!(model.parameter_count(), wanted);
    }
}

fn tiny() -> (SpirlConfig, SkillDims) {
    let config = SpirlConfig {
        latent: 4,
        length: 5,
        encoder_output: 8,
        lstm_width: 8,
        width: 8,
        decoder_hidden_layers: 1,
        prior_hidden_layers: 2,
        ..SpirlConfig::default()
    };
    (config, numbers(6, 3))
}

fn tiny_batch(seed: u64) -> (SkillBatch, Tensor) {
    let mut rng = stream(seed, Purpose::Batches, 0, 0);
    let batch = SkillBatch {
        states: rng.normal_tensor((7, 6, 6)).unwrap(),
        actions: rng.normal_tensor((7, 5, 3)).unwrap(),
    };
    (batch, rng.normal_tensor((7, 4)).unwrap())
}

/// As [`tiny`], for pictures, with `frames` of 16 x 16.
fn tiny_pictures(frames: usize, decoder: DecoderKind) -> (SpirlConfig, SkillDims) {
    let (config, dims) = tiny();
    let config = SpirlConfig {
        decoder,
        conv_width: 2,
        conv_features: 6,
        ..config
    };
    let pixels = Some(PixelDims { frames, size: 16 });
    (config, SkillDims { pixels, ..dims })
}

#[test]
fn any_number_of_frames_is_stacked() {
    for decoder in [DecoderKind::OpenLoop, DecoderKind::ClosedLoop] {
        for frames in 1..4 {
            let (config, dims) = tiny_pictures(frames, decoder);
            let mut model = Spirl::new(config, dims, &mut stream(1, Purpose::Weights, 0, 0)).unwrap();
            let mut rng = stream(2, Purpose::Batches, 0, 0);
            let window = model.window();
            assert_eq!((window, Pretrain::sees(&model)), (5 + frames, dims.sees()));
            let states = rng.normal_tensor((7, window, 3, 16, 16)).unwrap();
            let actions = rng.normal_tensor((7, window - 1, 3)).unwrap();
            model.train(states.clone(), actions.clone(), &mut rng, 1.0).unwrap();
            model.validate(states.clone(), actions.clone(), &mut rng).unwrap();
            let embedded = model.embed(states.clone(), actions.clone()).unwrap().unwrap();
            assert_eq!(embedded.dims(), &[7, 4]);
            // What is decoded from the first picture when acting is the first decoded action of a window.
            let batch = SkillBatch { states, actions };
            let pass = model.pass(&batch, &embedded.zeros_like().unwrap(), Mode::Eval).unwrap();
            let picture = batch.states.narrow(1, 0, frames).unwrap().contiguous().unwrap();
            let picture = picture.reshape((7, 3 * frames, 16, 16)).unwrap();
            let prior = &pass.priors[0].gauss().unwrap().mu;
            let mut pairs = vec![(model.prior(&picture).unwrap().mu, prior.clone())];
            if decoder == DecoderKind::ClosedLoop {
                let first = pass.actions.get_on_dim(1, 0).unwrap();
                pairs.push((model.act(&picture, &pass.skills).unwrap(), first));
            }
            let network = model.policy_prior().unwrap();
            assert_eq!((network.sees(), network.observation_dim()), (dims.sees(), None));
            pairs.push((network.forward(&picture).unwrap().mu, prior.clone()));
            for (mine, wanted) in pairs {
                let error = (mine - wanted).unwrap().abs().unwrap().max_all().unwrap();
                assert!(error.to_scalar::<f32>().unwrap() < 1e-5, "{frames} frames");
            }
            // An open-loop model needs the frames of the first moment only; with one frame nothing sees the last.
            let seen = Pretrain::frames(&model);
            let open = decoder == DecoderKind::OpenLoop;
            let closed = window - usize::from(frames == 1);
            assert_eq!(seen, if open { frames } else { closed });
            let beginning = |frames: usize| SkillBatch {
                states: batch.states.narrow(1, 0, frames).unwrap(),
                actions: batch.actions.clone(),
            };
            let noise = embedded.zeros_like().unwrap();
            let enough = model.pass(&beginning(seen), &noise, Mode::Eval).unwrap();
            for (mine, wanted) in [(&enough.actions, &pass.actions), (&enough.skills, &pass.skills)] {
                let error = (mine - wanted).unwrap().abs().unwrap().max_all().unwrap();
                assert!(error.to_scalar::<f32>().unwrap() == 0.0, "{frames} frames");
            }
            let short = beginning(seen - 1);
            let message = model.pass(&short, &pass.skills, Mode::Eval).err().unwrap().to_string();
            assert!(
                message.contains("at least") && message.contains("3, 16, 16"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_model_of_pictures_is_built_again_from_its_weights() {
    for decoder in [DecoderKind::OpenLoop, DecoderKind::ClosedLoop] {
        for prior in [PriorKind::Gauss, PriorKind::Gmm { components: 3 }, PriorKind::Flow] {
            let (config, dims) = tiny_pictures(3, decoder);
            // What the weights of an open-loop model do not tell.
            let decoder_hidden_layers = if decoder == DecoderKind::OpenLoop { 5 } else { 2 };
            let config = SpirlConfig {
                prior,
                prior_members: 2,
                decoder_hidden_layers,
                mixture_features: if prior == (PriorKind::Gmm { components: 3 }) {
                    7
                } else {
                    128
                },
                ..config
            };
            let model = Spirl::new(config.clone(), dims, &mut stream(1, Purpose::Weights, 0, 0)).unwrap();
            let settings = SpirlConfig {
                length: 5,
                ..SpirlConfig::default()
            };
            let imported = import_model(&model.export().unwrap(), &settings).unwrap();
            let ImportedModel::Spirl(again) = imported.model else {
                panic!("not a skill model")
            };
            assert_eq!((again.config(), imported.unused), (&config, Vec::new()));
            assert_eq!(SkillModel::dims(again.as_ref()), SkillDims { state: 0, ..dims });
            assert_eq!(bits(&again.export().unwrap()), bits(&model.export().unwrap()));
        }
    }
}

#[test]
fn pictures_need_the_settings_of_their_encoders() {
    let (config, dims) = tiny_pictures(2, DecoderKind::OpenLoop);
    let mut rng = stream(1, Purpose::Weights, 0, 0);
    for (wrong, word) in [
        (
            SpirlConfig {
                norm: Norm::None,
                ..config.clone()
            },
            "`norm`",
        ),
        (
            SpirlConfig {
                standardise: true,
                ..config.clone()
            },
            "`standardise`",
        ),
        (
            SpirlConfig {
                conditioned_start: true,
                ..config.clone()
            },
            "`conditioned_start`",
        ),
    ] {
        let message = Spirl::new(wrong, dims, &mut rng).err().unwrap().to_string();
        assert!(message.contains(word), "{message}");
    }
    for pixels in [PixelDims { frames: 2, size: 20 }, PixelDims { frames: 0, size: 16 }] {
        let dims = SkillDims {
            pixels: Some(pixels),
            ..dims
        };
        assert!(Spirl::new(config.clone(), dims, &mut rng).is_err());
        assert!(Bc::new(BcConfig::default(), dims, &mut rng).is_err());
    }
}

fn bits(weights: &BTreeMap<String, Tensor>) -> Vec<u32> {
    weights
        .values()
        .flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        .map(f32::to_bits)
        .collect()
}

#[test]
fn a_resumed_training_goes_on_bit_for_bit() {
    let (config, dims) = tiny();
    for auto_beta in [
        None,
        Some(AutoBeta {
            double_step: true,
            ..AutoBeta::default()
        }),
    ] {
        let config = SpirlConfig {
            auto_beta,
            standardise: true,
            ..config.clone()
        };
        let mut first = Spirl::new(config.clone(), dims, &mut stream(1, Purpose::Weights, 0, 0)).unwrap();
        first
            .set_standardiser(Standardiser::new(&[0.5; 6], &[2.0; 6]).unwrap())
            .unwrap();
        let train = |model: &mut Spirl, steps: std::ops::Range<u64>| {
            for step in steps {
                let (batch, noise) = tiny_batch(step);
                model.train_step(&batch, &noise).unwrap();
            }
        };
        train(&mut first, 0..7);
        let mut second = Spirl::new(config, dims, &mut stream(2, Purpose::Weights, 0, 0)).unwrap();
        second.import(&first.export().unwrap()).unwrap();
        second.import_optimiser(&first.export_optimiser().unwrap()).unwrap();
        train(&mut first, 7..12);
        train(&mut second, 7..12);
        assert_eq!(first.updates(), second.updates());
        assert_eq!(bits(&first.export().unwrap()), bits(&second.export().unwrap()));
    }
}

#[test]
fn weights_that_do_not_fit_are_named_and_change_nothing() {
    let (config, dims) = tiny();
    let mut model = Spirl::new(config, dims, &mut stream(1, Purpose::Weights, 0, 0)).unwrap();
    let before = bits(&model.export().unwrap());
    let mut weights = model.export().unwrap();
    let moved = weights.remove("q.1.weight").unwrap();
    weights.insert("q.1.wieght".into(), (moved * 2.0).unwrap());
    weights.insert(
        "decoder.head.linear.bias".into(),
        Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap(),
    );
    for tensor in weights.values_mut() {
        *tensor = (&*tensor + 1.0).unwrap();
    }
    let message = model.import(&weights).unwrap_err().to_string();
    for part in ["q.1.weight", "q.1.wieght", "decoder.head.linear.bias", "[4]", "[3]"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(bits(&model.export().unwrap()), before);
}

#[test]
fn a_loss_that_is_not_finite_changes_no_weight() {
    let (config, dims) = tiny();
    let mut model = Spirl::new(config, dims, &mut stream(1, Purpose::Weights, 0, 0)).unwrap();
    let weights: Vec<_> = model
        .parts()
        .iter()
        .map(|(_, params)| params.var().to_vec1::<f32>().unwrap())
        .collect();
    let (batch, noise) = tiny_batch(0);
    let broken = SkillBatch {
        actions: (batch.actions * f64::NAN).unwrap(),
        ..batch
    };
    assert!(model.train_step(&broken, &noise).unwrap().skipped);
    let after: Vec<_> = model
        .parts()
        .iter()
        .map(|(_, params)| params.var().to_vec1::<f32>().unwrap())
        .collect();
    assert_eq!(weights, after);
    assert_eq!(model.updates(), 0);
}

#[test]
fn a_frozen_embedding_keeps_its_weights() {
    let (config, dims) = tiny();
    let config = SpirlConfig {
        freeze_embedding: true,
        early_clip: None,
        ..config
    };
    let mut model = Spirl::new(config, dims, &mut stream(1, Purpose::Weights, 0, 0)).unwrap();
    let before = model.export().unwrap();
    let (batch, noise) = tiny_batch(0);
    model.train_step(&batch, &noise).unwrap();
    for (name, tensor) in model.export().unwrap() {
        let moved = (tensor - &before[&name])
            .unwrap()
            .abs()
            .unwrap()
            .max(D::Minus1)
            .unwrap();
        let moved = moved.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap() > 0.0;
        assert_eq!(moved, name.starts_with("p."), "{name}");
    }
    let mut other = Spirl::new(model.config().clone(), dims, &mut stream(2, Purpose::Weights, 0, 0)).unwrap();
    other.import_embedding(&before).unwrap();
    for (name, tensor) in other.export().unwrap() {
        let same = bits(&BTreeMap::from([(name.clone(), tensor)]))
            == bits(&BTreeMap::from([(name.clone(), before[&name].clone())]));
        // Fresh biases and normalisation layers are equal anyway.
        assert!(same || name.starts_with("p."), "{name}");
    }
    assert_ne!(bits(&other.export().unwrap()), bits(&before));
}

#[test]
fn standardised_states_reach_every_network() {
    let (config, dims) = tiny();
    let plain = Spirl::new(config.clone(), dims, &mut stream(1, Purpose::Weights, 0, 0)).unwrap();
    let config = SpirlConfig {
        standardise: true,
        ..config
    };
    let mut model = Spirl::new(config, dims, &mut stream(1, Purpose::Weights, 0, 0)).unwrap();
    let (mean, deviation) = ([1.0, -2.0, 0.0, 3.0, 0.5, 7.0], [0.1, 2.0, 1.0, 4.0, 0.5, 0.0]);
    model
        .set_standardiser(Standardiser::new(&mean, &deviation).unwrap())
        .unwrap();
    let (batch, noise) = tiny_batch(3);
    // A dimension that never moves is centred only.
    let scale = Tensor::new(&[0.1_f32, 2.0, 1.0, 4.0, 0.5, 1.0], &Device::Cpu).unwrap();
    let mean = Tensor::new(&mean, &Device::Cpu).unwrap();
    let raw = batch
        .states
        .broadcast_mul(&scale)
        .unwrap()
        .broadcast_add(&mean)
        .unwrap();
    let total = |model: &Spirl, states: &Tensor| {
        let batch = SkillBatch {
            states: states.clone(),
            actions: batch.actions.clone(),
        };
        model
            .loss(&batch, &noise, Mode::Eval)
            .unwrap()
            .total
            .to_scalar::<f32>()
            .unwrap()
    };
    close(total(&model, &raw), total(&plain, &batch.states), 1e-5, "loss");
    let first = |states: &Tensor| states.narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
    let skills = noise.clone();
    for (mine, wanted) in [
        (
            model.policy_prior().unwrap().forward(&first(&raw)).unwrap().mu,
            plain.prior(&first(&batch.states)).unwrap().mu,
        ),
        (
            model.prior(&first(&raw)).unwrap().mu,
            plain.prior(&first(&batch.states)).unwrap().mu,
        ),
        (
            model.act(&first(&raw), &skills).unwrap(),
            plain.act(&first(&batch.states), &skills).unwrap(),
        ),
    ] {
        let error = (mine - wanted)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(error < 1e-4, "{error}");
    }
    let mut back = Spirl::new(model.config().clone(), dims, &mut stream(5, Purpose::Weights, 0, 0)).unwrap();
    back.import(&model.export().unwrap()).unwrap();
    assert_eq!(total(&back, &raw).to_bits(), total(&model, &raw).to_bits());
    let mut other = plain;
    assert!(other.import(&model.export().unwrap()).is_err());
}

#[test]
fn impossible_settings_and_shapes_are_errors() {
    let (config, dims) = tiny();
    let mut rng = stream(1, Purpose::Weights, 0, 0);
    for wrong in [
        SpirlConfig {
            conditioned_start: true,
            ..config.clone()
        },
        SpirlConfig {
            latent: 0,
            ..config.clone()
        },
        SpirlConfig {
            prior_training: PriorTraining::Kl,
            prior: PriorKind::Flow,
            ..config.clone()
        },
        SpirlConfig {
            prior: PriorKind::Gmm { components: 0 },
            ..config.clone()
        },
    ] {
        assert!(Spirl::new(wrong, dims, &mut rng).is_err());
    }
    let beta = |target, learning_rate| {
        Some(AutoBeta {
            target,
            learning_rate,
            ..AutoBeta::default()
        })
    };
    for (field, wrong) in [
        (
            "`kl_weight`",
            SpirlConfig {
                kl_weight: f32::NAN,
                ..config.clone()
            },
        ),
        (
            "`reconstruction_weight`",
            SpirlConfig {
                reconstruction_weight: -1.0,
                ..config.clone()
            },
        ),
        (
            "`auto_beta.target`",
            SpirlConfig {
                auto_beta: beta(-1.0, 3e-4),
                ..config.clone()
            },
        ),
        (
            "`auto_beta.learning_rate`",
            SpirlConfig {
                auto_beta: beta(1.0, 0.0),
                ..config.clone()
            },
        ),
        (
            "`learning_rate`",
            SpirlConfig {
                learning_rate: 0.0,
                ..config.clone()
            },
        ),
    ] {
        let message = Spirl::new(wrong, dims, &mut rng).err().unwrap().to_string();
        assert!(message.starts_with(field), "{message}");
    }
    let wrong = BcConfig {
        betas: (0.9, 1.0),
        ..BcConfig::default()
    };
    let message = Bc::new(wrong, dims, &mut rng).err().unwrap().to_string();
    assert_eq!(message, "`betas` must be at least 0 and below 1, not 1");
    let model = Spirl::new(config, dims, &mut rng).unwrap();
    let (batch, noise) = tiny_batch(0);
    let short = SkillBatch {
        states: batch.states.narrow(1, 0, 4).unwrap(),
        actions: batch.actions.clone(),
    };
    let message = model.loss(&short, &noise, Mode::Eval).err().unwrap().to_string();
    assert!(
        message.contains("states") && message.contains("at least 5"),
        "{message}"
    );
    assert!(model.prior(&batch.actions).is_err());
    let read = serde_json::from_str::<SpirlConfig>(r#"{"latent": 3, "kl_wieght": 1.0}"#);
    assert!(read.unwrap_err().to_string().contains("kl_wieght"));
    assert_eq!(
        serde_json::from_str::<SpirlConfig>("{}").unwrap(),
        SpirlConfig::default()
    );
}

// ------------------------------------------------------------------------------------------------------- PyTorch files

fn torch_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/torch")
        .join(name)
}

#[test]
fn pytorch_checkpoints_load() {
    let wanted = read_weights(&torch_file("tiny.safetensors")).unwrap();
    for name in ["tiny_zip.pth", "tiny_zip_bare.pth", "tiny_stream.pth"] {
        let weights = read_weights(&torch_file(name)).unwrap();
        assert_eq!(
            weights.keys().collect::<Vec<_>>(),
            wanted.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for (key, tensor) in &wanted {
            assert_eq!(tensor.dims(), weights[key].dims(), "{name}: {key}");
            let values = |t: &Tensor| {
                t.to_dtype(DType::F64)
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f64>()
                    .unwrap()
            };
            assert_eq!(values(tensor), values(&weights[key]), "{name}: {key}");
        }
        let imported = import_model(
            &weights,
            &SpirlConfig {
                length: 4,
                ..settings()
            },
        )
        .unwrap();
        assert!(imported.unused.is_empty(), "{:?}", imported.unused);
        let ImportedModel::Spirl(model) = imported.model else {
            panic!("not a skill model")
        };
        assert_eq!(model.config().decoder, DecoderKind::OpenLoop);
        assert_eq!(model.dims(), numbers(3, 2));
        let skills = Tensor::ones((1, model.config().latent), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(model.decode_open(None, &skills).unwrap().dims(), &[1, 4, 2]);
    }
}

#[test]
fn files_that_are_no_weights_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights_ep3.pth");
    assert!(
        read_weights(&path)
            .err()
            .unwrap()
            .to_string()
            .contains("weights_ep3.pth")
    );
    std::fs::write(&path, "hello, this is text").unwrap();
    assert!(read_weights(&path).err().unwrap().to_string().contains("neither"));
    for name in ["tiny_zip.pth", "tiny_stream.pth", "tiny.safetensors"] {
        let whole = std::fs::read(torch_file(name)).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
        assert!(read_weights(&path).is_err(), "{name} cut off");
    }
    let other = BTreeMap::from([(
        "conv.weight".to_owned(),
        Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap(),
    )]);
    assert!(
        import_model(&other, &settings())
            .err()
            .unwrap()
            .to_string()
            .contains("conv.weight")
    );
}

#[test]
fn the_number_of_threads_does_not_change_a_bit_of_pictures() {
    let train = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut rng = stream(4, Purpose::Weights, 0, 0);
            let (config, dims) = tiny_pictures(2, DecoderKind::ClosedLoop);
            let mut model = Spirl::new(config, dims, &mut rng).unwrap().with_threads(threads);
            for _ in 0..2 {
                let states = rng.normal_tensor((33, 7, 3, 16, 16)).unwrap();
                let actions = rng.normal_tensor((33, 6, 3)).unwrap();
                model.train(states, actions, &mut rng, 1.0).unwrap();
            }
            bits(&model.export().unwrap())
        })
    };
    assert!(train(1) == train(2) && train(1) == train(3));
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let dims = numbers(60, 9);
    for decoder in [DecoderKind::OpenLoop, DecoderKind::ClosedLoop] {
        let train = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut rng = stream(4, Purpose::Weights, 0, 0);
                let config = SpirlConfig {
                    decoder,
                    early_clip: None,
                    ..SpirlConfig::default()
                };
                let mut model = Spirl::new(config, dims, &mut rng).unwrap().with_threads(threads);
                for _ in 0..3 {
                    let batch = SkillBatch {
                        states: rng.normal_tensor((64, 11, 60)).unwrap(),
                        actions: rng.normal_tensor((64, 10, 9)).unwrap(),
                    };
                    model.train_step(&batch, &rng.normal_tensor((64, 10)).unwrap()).unwrap();
                }
                bits(&model.export().unwrap())
            })
        };
        assert!(train(1) == train(2));
    }
}
