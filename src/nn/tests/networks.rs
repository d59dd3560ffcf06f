use candle_core::{DType, Device, Result, Tensor, Var};

use super::plain;
use crate::nn::{Linear, LstmDecoder, LstmEncoder, LstmSpec, Mlp, MlpSpec, Mode, Norm, Params, backward};
use crate::rng::{Purpose, Stream, stream};

pub(super) fn rng() -> Stream {
    stream(1, Purpose::Weights, 0, 0)
}

pub(super) fn normal(shape: &[usize], entity: u64) -> Tensor {
    stream(1, Purpose::LatentNoise, entity, 0).normal_tensor(shape).unwrap()
}

/// Largest difference divided by the largest value.
fn error(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let max = |x: &Tensor| {
        x.abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    let scale = max(b).max(1e-12);
    let difference = max(&(a - b).unwrap()) / scale;
    if difference.is_nan() { f32::INFINITY } else { difference }
}

#[track_caller]
pub(super) fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32, what: &str) {
    let error = error(a, b);
    assert!(error <= tolerance, "{what}: scaled error {error:.2e}");
}

/// Moves every weight, so that zero and one entries do not hide mistakes.
pub(super) fn shake(params: &Params) {
    let noise = (normal(&[params.len()], 99) * 0.1).unwrap();
    params.var().set(&(params.var().as_tensor() + noise).unwrap()).unwrap();
    params.touch();
}

/// A scalar that depends on every output in a different way.
pub(super) fn loss(y: &Tensor) -> Tensor {
    let weights = normal(y.dims(), 98);
    (y.sqr().unwrap() + (y * weights).unwrap()).unwrap().sum_all().unwrap()
}

/// Compares outputs and the gradients of [`loss`] with respect to `vars` of two functions.
pub(super) fn compare(
    vars: &[(&str, &Var)],
    fused: impl Fn() -> Result<Tensor>,
    plain: impl Fn() -> Result<Tensor>,
    name: &str,
) {
    let (mine, theirs) = (fused().unwrap(), plain().unwrap());
    assert_close(&mine, &theirs, 2e-5, &format!("{name}: output"));
    let (mine, theirs) = (loss(&mine).backward().unwrap(), loss(&theirs).backward().unwrap());
    for (var_name, var) in vars {
        let (mine, theirs) = (mine.get(var).unwrap(), theirs.get(var).unwrap());
        assert_close(mine, theirs, 1e-4, &format!("{name}: gradient of {var_name}"));
    }
}

/// Compares the gradient of [`loss`] with respect to `vars` with central differences along random directions.
pub(super) fn finite_differences(vars: &[(&str, &Var)], f: impl Fn() -> Result<Tensor>, name: &str) {
    let grads = loss(&f().unwrap()).backward().unwrap();
    let scalar = |x: Tensor| f64::from(x.to_scalar::<f32>().unwrap());
    for (entity, (var_name, var)) in vars.iter().enumerate() {
        let grad = grads.get(var).unwrap();
        // Along the gradient and a random vector: the slope is large against the rounding of the loss.
        let unit = |x: &Tensor| (x / scalar(x.sqr().unwrap().sum_all().unwrap()).sqrt()).unwrap();
        let direction = unit(&(unit(grad) + unit(&normal(var.dims(), 50 + entity as u64))).unwrap());
        let expected = scalar((grad * &direction).unwrap().sum_all().unwrap());
        let start = var.as_detached_tensor().copy().unwrap();
        let step = 3e-3;
        let at = |step: f64| {
            var.set(&(&start + (&direction * step).unwrap()).unwrap()).unwrap();
            // Summed in double precision, as the loss itself is rounded more than it changes.
            let y = f().unwrap().detach();
            let weights = normal(y.dims(), 98).to_dtype(DType::F64).unwrap();
            let y = y.to_dtype(DType::F64).unwrap();
            let loss = (y.sqr().unwrap() + (&y * weights).unwrap()).unwrap().sum_all().unwrap();
            loss.to_scalar::<f64>().unwrap()
        };
        let slope = (at(step) - at(-step)) / (2.0 * step);
        var.set(&start).unwrap();
        let error = (slope - expected).abs() / expected.abs();
        assert!(
            error < 1e-2,
            "{name}: {var_name}: {slope} by differences, {expected} by the backward pass"
        );
    }
}

fn specs() -> [MlpSpec; 6] {
    let small = MlpSpec {
        input: 7,
        width: 12,
        output: 3,
        hidden: 2,
        norm: Norm::None,
    };
    [
        small,
        MlpSpec {
            norm: Norm::Batch,
            ..small
        },
        MlpSpec {
            hidden: 0,
            output: 1,
            ..small
        },
        MlpSpec {
            input: 60,
            width: 72,
            output: 20,
            hidden: 3,
            norm: Norm::Batch,
        },
        MlpSpec {
            norm: Norm::Layer,
            ..small
        },
        MlpSpec {
            input: 70,
            width: 72,
            output: 1,
            hidden: 2,
            norm: Norm::Layer,
        },
    ]
}

#[test]
fn mlp_equals_a_plain_composition() {
    for spec in specs() {
        for mode in [Mode::Train, Mode::Eval] {
            let net = Mlp::new(spec, &mut rng()).unwrap();
            shake(net.params());
            let x = Var::from_tensor(&normal(&[70, spec.input], 1)).unwrap();
            // One pass in training mode, so that the running statistics are not those of a fresh network.
            net.forward(&normal(&[70, spec.input], 2), Mode::Train).unwrap();
            let frozen = net.deep_clone().unwrap();
            let name = format!("{spec:?} {mode:?}");
            let running = (mode == Mode::Eval).then_some(frozen.params());
            let vars = [("weights", net.params().var()), ("x", &x)];
            compare(
                &vars,
                || net.forward(&x, mode),
                || plain::mlp(&spec, net.params().var(), &x, running),
                &name,
            );
            let forward = || {
                net.params().touch();
                net.forward(&x, mode)
            };
            finite_differences(&vars, forward, &name);
            finite_differences(&vars[1..], || net.forward_frozen(&x, mode), &name);
            // Rows without gradient are left out of the work.
            finite_differences(&vars[1..], || net.forward_frozen(&x, mode)?.narrow(0, 1, 2), &name);
        }
    }
}

#[test]
fn gradients_that_nobody_needs_are_not_computed() {
    let spec = specs()[1];
    let net = Mlp::new(spec, &mut rng()).unwrap();
    let x = Var::from_tensor(&normal(&[40, spec.input], 1)).unwrap();
    for mode in [Mode::Train, Mode::Eval] {
        let whole = loss(&net.forward(&x, mode).unwrap()).backward().unwrap();
        let input_only = loss(&net.forward_frozen(&x, mode).unwrap()).backward().unwrap();
        let weights_only = loss(&net.forward(&x.as_detached_tensor(), mode).unwrap())
            .backward()
            .unwrap();
        assert!(input_only.get(net.params().var()).is_none());
        assert!(weights_only.get(&x).is_none());
        let var = net.params().var();
        assert_close(input_only.get(&x).unwrap(), whole.get(&x).unwrap(), 1e-6, "x alone");
        assert_close(
            weights_only.get(var).unwrap(),
            whole.get(var).unwrap(),
            1e-6,
            "weights alone",
        );
        assert!(!net.forward_frozen(&x.as_detached_tensor(), mode).unwrap().track_op());
    }
}

#[test]
fn running_statistics_follow_pytorch() {
    // One hidden layer whose linear outputs are known: identity weights, positive inputs.
    let spec = MlpSpec {
        input: 2,
        width: 2,
        output: 2,
        hidden: 1,
        norm: Norm::Batch,
    };
    let net = Mlp::new(spec, &mut rng()).unwrap();
    let mut weights = std::collections::BTreeMap::new();
    net.params().export("", &mut weights).unwrap();
    let eye = Tensor::eye(2, DType::F32, &Device::Cpu).unwrap();
    for name in ["input.linear.weight", "pyramid-0.linear.weight"] {
        weights.insert(name.to_owned(), eye.clone());
    }
    net.params().import("", &weights).unwrap();
    let x = Tensor::new(&[[1.0_f32, 2.0], [3.0, 2.0], [5.0, 8.0]], &Device::Cpu).unwrap();
    net.forward(&x, Mode::Train).unwrap();
    let values = |name: &str| net.params().tensor(name).unwrap().to_vec1::<f32>().unwrap();
    // Means 3 and 4, unbiased variances 4 and 12, momentum 0.1 from (0, 1).
    for (mine, expected) in values("pyramid-0.norm.running_mean").iter().zip([0.3, 0.4]) {
        assert!((mine - expected).abs() < 1e-6);
    }
    for (mine, expected) in values("pyramid-0.norm.running_var").iter().zip([1.3, 2.1]) {
        assert!((mine - expected).abs() < 1e-6);
    }
    let before = values("pyramid-0.norm.running_mean");
    net.forward(&x, Mode::Eval).unwrap();
    assert_eq!(before, values("pyramid-0.norm.running_mean"));
    assert!(net.forward(&x.narrow(0, 0, 1).unwrap(), Mode::Train).is_err());
}

#[test]
fn linear_layer_is_affine() {
    let layer = Linear::new(5, 3, &mut rng()).unwrap();
    let x = Var::from_tensor(&normal(&[9, 5], 1)).unwrap();
    let plain = || {
        let flat = layer.params().var();
        x.matmul(&flat.narrow(0, 0, 15)?.reshape((3, 5))?.t()?)?
            .broadcast_add(&flat.narrow(0, 15, 3)?)
    };
    compare(
        &[("weights", layer.params().var()), ("x", &x)],
        || layer.forward(&x),
        plain,
        "linear",
    );
    assert!(layer.forward(&normal(&[9, 4], 1)).is_err());
}

#[test]
fn lstm_encoder_equals_a_plain_composition() {
    for (layers, rows, steps) in [(1, 5, 6), (2, 3, 4), (2, 130, 3), (1, 3, 1)] {
        let spec = LstmSpec {
            input: 7,
            hidden: 12,
            layers,
            output: 5,
        };
        let net = LstmEncoder::new(spec, &mut rng()).unwrap();
        let x = Var::from_tensor(&normal(&[rows, steps, 7], 1)).unwrap();
        let vars = [("weights", net.params().var()), ("x", &x)];
        let name = format!("{layers} layers, {rows} rows, {steps} steps");
        compare(
            &vars,
            || net.forward(&x),
            || plain::encode(&spec, net.params().var(), &x),
            &name,
        );
        finite_differences(&vars, || net.forward(&x), &name);
        finite_differences(&vars[1..], || net.forward_frozen(&x), &name);
    }
}

#[test]
fn lstm_decoder_equals_a_plain_composition() {
    for (layers, rows, steps) in [(1, 5, 6), (2, 3, 4), (2, 130, 3), (1, 3, 1)] {
        let spec = LstmSpec {
            input: 9,
            hidden: 12,
            layers,
            output: 5,
        };
        let name = format!("{layers} layers, {rows} rows, {steps} steps");
        let z = Var::from_tensor(&normal(&[rows, 4], 1)).unwrap();

        let net = LstmDecoder::new(spec, true, &mut rng()).unwrap();
        let start = net.start_params().unwrap();
        shake(start);
        let vars = [("weights", net.params().var()), ("z", &z), ("start", start.var())];
        let fused = || net.forward(&z, None, steps);
        let plain = || plain::decode(&spec, net.params().var(), &z, &start.var().unsqueeze(0)?, steps);
        compare(&vars, fused, plain, &name);
        finite_differences(&vars, fused, &name);
        finite_differences(&vars[1..2], || net.forward_frozen(&z, None, steps), &name);

        let net = LstmDecoder::new(spec, false, &mut rng()).unwrap();
        assert!(net.forward(&z, None, steps).is_err());
        let x0 = Var::from_tensor(&normal(&[rows, 5], 2)).unwrap();
        let hidden = Var::from_tensor(&normal(&[rows, spec.state()], 3)).unwrap();
        let vars = [
            ("weights", net.params().var()),
            ("z", &z),
            ("x0", &x0),
            ("hidden", &hidden),
        ];
        let fused = || net.forward(&z, Some((&x0, &hidden)), steps);
        let plain = || {
            plain::decode(
                &spec,
                net.params().var(),
                &z,
                &Tensor::cat(&[x0.as_tensor(), &hidden], 1)?,
                steps,
            )
        };
        compare(&vars, fused, plain, &name);
        finite_differences(&vars, fused, &name);
    }
}

/// Bits of a tensor.
fn bits(x: &Tensor) -> Vec<u32> {
    x.flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap()
        .into_iter()
        .map(f32::to_bits)
        .collect()
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let mut reference: Option<Vec<Vec<u32>>> = None;
    for threads in [1, 2, 3] {
        let mut results = Vec::new();
        let mut add = |y: Tensor, vars: &[&Var]| {
            let grads = loss(&y).backward().unwrap();
            results.push(bits(&y));
            results.extend(vars.iter().map(|var| bits(grads.get(var).unwrap())));
        };
        for (spec, rows) in [
            (
                MlpSpec {
                    input: 70,
                    width: 128,
                    output: 9,
                    hidden: 2,
                    norm: Norm::Batch,
                },
                1280,
            ),
            (
                MlpSpec {
                    input: 70,
                    width: 96,
                    output: 1,
                    hidden: 2,
                    norm: Norm::None,
                },
                200,
            ),
            (
                MlpSpec {
                    input: 70,
                    width: 96,
                    output: 1,
                    hidden: 2,
                    norm: Norm::Layer,
                },
                200,
            ),
        ] {
            let net = Mlp::new(spec, &mut rng()).unwrap().with_threads(threads);
            let x = Var::from_tensor(&normal(&[rows, spec.input], 1)).unwrap();
            for mode in [Mode::Train, Mode::Eval] {
                add(net.forward(&x, mode).unwrap(), &[net.params().var(), &x]);
                add(net.forward_frozen(&x, mode).unwrap(), &[&x]);
            }
        }
        let spec = LstmSpec {
            input: 19,
            hidden: 40,
            layers: 2,
            output: 9,
        };
        let encoder = LstmEncoder::new(spec, &mut rng()).unwrap().with_threads(threads);
        let x = Var::from_tensor(&normal(&[200, 4, 19], 1)).unwrap();
        add(encoder.forward(&x).unwrap(), &[encoder.params().var(), &x]);
        let decoder = LstmDecoder::new(spec, true, &mut rng()).unwrap().with_threads(threads);
        let z = Var::from_tensor(&normal(&[200, 10], 1)).unwrap();
        let vars = [decoder.params().var(), decoder.start_params().unwrap().var(), &z];
        add(decoder.forward(&z, None, 4).unwrap(), &vars);
        let reference = reference.get_or_insert_with(|| results.clone());
        for (index, (mine, first)) in results.iter().zip(reference.iter()).enumerate() {
            assert!(mine == first, "result {index} differs with {threads} threads");
        }
    }
}

#[test]
fn a_stale_backward_pass_is_refused() {
    let net = Mlp::new(specs()[0], &mut rng()).unwrap();
    let y = loss(&net.forward(&normal(&[4, 7], 1), Mode::Train).unwrap());
    net.params()
        .soft_update(net.deep_clone().unwrap().params(), 0.5)
        .unwrap();
    assert!(y.backward().unwrap_err().to_string().contains("changed between"));
}

#[test]
fn parameter_counts_match_the_reference() {
    let mlp = |input, width, output, hidden, norm| {
        Mlp::new(
            MlpSpec {
                input,
                width,
                output,
                hidden,
                norm,
            },
            &mut rng(),
        )
        .unwrap()
        .params()
        .len()
    };
    assert_eq!(mlp(60, 128, 20, 6, Norm::Batch), 110_228);
    assert_eq!(mlp(70, 128, 9, 5, Norm::Batch), 93_449);
    assert_eq!(mlp(60, 128, 18, 5, Norm::Batch), 93_330);
    assert_eq!(mlp(70, 256, 1, 5, Norm::None), 347_393);
    assert_eq!(mlp(60, 256, 20, 5, Norm::None), 349_716);
    let spec = LstmSpec {
        input: 9,
        hidden: 128,
        layers: 1,
        output: 128,
    };
    let encoder = LstmEncoder::new(spec, &mut rng()).unwrap();
    let head = Linear::new(128, 20, &mut rng()).unwrap();
    assert_eq!(encoder.params().len() + head.params().len(), 152_468);
    let spec = LstmSpec {
        input: 19,
        hidden: 128,
        layers: 1,
        output: 9,
    };
    let decoder = LstmDecoder::new(spec, true, &mut rng()).unwrap();
    assert_eq!(
        (decoder.params().len(), decoder.start_params().unwrap().len()),
        (135_817, 265)
    );
}

#[test]
fn fresh_weights_have_the_reference_statistics() {
    let spec = MlpSpec {
        input: 60,
        width: 128,
        output: 20,
        hidden: 6,
        norm: Norm::Batch,
    };
    let net = Mlp::new(spec, &mut rng()).unwrap();
    let std = |x: &Tensor| {
        x.sqr()
            .unwrap()
            .mean_all()
            .unwrap()
            .sqrt()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    let weight = net.params().tensor("pyramid-2.linear.weight").unwrap();
    assert!((std(&weight) / (2.0_f32 / 256.0).sqrt() - 1.0).abs() < 0.03);
    let encoder = LstmEncoder::new(
        LstmSpec {
            input: 9,
            hidden: 128,
            layers: 1,
            output: 20,
        },
        &mut rng(),
    )
    .unwrap();
    let weight = encoder.params().tensor("lstm.0.weight_hh").unwrap();
    assert!((std(&weight) * 384.0_f32.sqrt() - 1.0).abs() < 0.03);
    for name in ["lstm.0.bias_ih", "lstm.0.bias_hh"] {
        let bias = encoder.params().tensor(name).unwrap().to_vec1::<f32>().unwrap();
        assert!(bias[128..256].iter().all(|b| *b == 1.0));
        assert!(
            bias[..128]
                .iter()
                .chain(&bias[256..])
                .all(|b| b.abs() <= 1.0 / 128.0_f32.sqrt())
        );
    }
}

#[test]
fn weights_survive_a_round_trip_by_name() {
    let spec = specs()[1];
    let (a, b) = (Mlp::new(spec, &mut rng()).unwrap(), Mlp::new(spec, &mut rng()).unwrap());
    shake(a.params());
    let x = normal(&[8, 7], 1);
    a.forward(&x, Mode::Train).unwrap();
    let mut stored = std::collections::BTreeMap::new();
    a.params().export("p.0.", &mut stored).unwrap();
    assert_eq!(stored["p.0.pyramid-1.linear.weight"].dims(), [12, 12]);
    b.params().import("p.0.", &stored).unwrap();
    assert_eq!(
        bits(&a.forward(&x, Mode::Eval).unwrap()),
        bits(&b.forward(&x, Mode::Eval).unwrap())
    );

    let before = bits(b.params().var());
    shake(a.params());
    stored.clear();
    a.params().export("p.0.", &mut stored).unwrap();
    let wrong = stored.remove("p.0.head.linear.bias").unwrap();
    stored.insert("p.0.haed.linear.bias".to_owned(), wrong);
    let flat = stored["p.0.input.linear.weight"].flatten_all().unwrap();
    stored.insert("p.0.input.linear.weight".to_owned(), flat);
    let message = b.params().import("p.0.", &stored).unwrap_err().to_string();
    assert!(message.contains("no tensor `p.0.head.linear.bias`, the nearest name is `p.0.haed.linear.bias`"));
    assert!(message.contains("`p.0.input.linear.weight` has shape [84], expected [12, 7]"));
    assert_eq!(before, bits(b.params().var()));
    assert!(
        a.params()
            .tensor("head.linear.bais")
            .unwrap_err()
            .to_string()
            .contains("the nearest name is `head.linear.bias`")
    );
}

#[test]
fn one_entry_of_the_gradient() {
    let net = Mlp::new(specs()[1], &mut rng()).unwrap();
    let y = net.forward(&normal(&[8, 7], 1), Mode::Train).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    let bias = net.params().gradient(&grads, "head.linear.bias").unwrap().unwrap();
    assert_eq!(bias.to_vec1::<f32>().unwrap(), [8.0; 3]);
    assert!(net.params().gradient(&grads, "pyramid-0.norm.running_mean").is_err());
    let other = Mlp::new(specs()[1], &mut rng()).unwrap();
    assert!(other.params().gradient(&grads, "head.linear.bias").unwrap().is_none());
}

#[test]
fn collected_gradients_are_those_of_candle() {
    let net = Mlp::new(specs()[1], &mut rng()).unwrap();
    let other = Linear::new(3, 3, &mut rng()).unwrap();
    let x = Var::from_tensor(&normal(&[40, 7], 1)).unwrap();
    let build = || {
        // One network twice, and its variable once more outside of it.
        let y = (net.forward(&x, Mode::Eval)? + net.forward(&(x.as_tensor() * 0.5)?, Mode::Eval)?)?;
        loss(&other.forward(&y)?) + net.params().var().sqr()?.sum_all()?
    };
    let (fast, plain) = (
        backward(&build().unwrap()).unwrap(),
        build().unwrap().backward().unwrap(),
    );
    for var in [&x, net.params().var(), other.params().var()] {
        assert_close(fast.get(var).unwrap(), plain.get(var).unwrap(), 1e-6, "collected");
    }
}
