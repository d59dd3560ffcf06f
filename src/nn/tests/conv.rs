//! The convolutional encoder against candle's own convolution, and its promises.

use candle_core::{Device, Result, Tensor};

use super::networks::{assert_close, compare, finite_differences, loss, normal, rng, shake};
use super::plain;
use crate::nn::{ConvEncoder, ConvSpec, Mode, Params, backward};

fn specs() -> [ConvSpec; 4] {
    let original = ConvSpec {
        channels: 6,
        resolution: 32,
        width: 8,
        output: 32,
    };
    [
        original,
        ConvSpec {
            channels: 3,
            resolution: 16,
            width: 3,
            output: 5,
        },
        ConvSpec {
            channels: 1,
            resolution: 8,
            width: 2,
            output: 1,
        },
        ConvSpec {
            resolution: 64,
            width: 2,
            output: 7,
            ..original
        },
    ]
}

fn pictures(spec: &ConvSpec, rows: usize, entity: u64) -> Tensor {
    normal(&[rows, spec.channels, spec.resolution, spec.resolution], entity)
}

fn encoder(spec: ConvSpec) -> ConvEncoder {
    let net = ConvEncoder::new(spec, &mut rng()).unwrap();
    shake(net.params());
    net
}

#[test]
fn the_encoder_equals_a_plain_composition() {
    for spec in specs() {
        for mode in [Mode::Train, Mode::Eval] {
            let net = encoder(spec);
            // One pass in training mode, so that the running statistics are not those of a fresh network.
            net.forward(&pictures(&spec, 19, 2), Mode::Train).unwrap();
            let frozen = net.deep_clone().unwrap();
            let running = (mode == Mode::Eval).then_some(frozen.params());
            // Parts of two lengths.
            let x = pictures(&spec, 19, 1);
            let name = format!("{spec:?} {mode:?}");
            let vars = [("weights", net.params().var())];
            compare(
                &vars,
                || net.forward(&x, mode),
                || plain::conv(&spec, net.params(), &x, running),
                &name,
            );
            let forward = || {
                net.params().touch();
                net.forward(&x, mode)
            };
            finite_differences(&vars, forward, &name);
        }
    }
}

#[test]
fn one_pass_in_training_mode_moves_the_running_statistics_like_pytorch() {
    let spec = specs()[1];
    let (once, twice) = (encoder(spec), encoder(spec).with_statistics_moves(2));
    let x = pictures(&spec, 5, 1);
    let before = once.deep_clone().unwrap();
    for net in [&once, &twice] {
        net.forward(&x, Mode::Train).unwrap();
        net.forward(&x, Mode::Eval).unwrap();
        net.forward_frozen(&x, Mode::Eval).unwrap();
    }
    // What enters the only normalisation: the first convolution, and the second without its own.
    let linear = plain::conv_linear(&spec, before.params(), &x).unwrap();
    let rows = linear.dim(0).unwrap() as f64;
    let mean = linear.mean(0).unwrap();
    let var = linear.broadcast_sub(&mean).unwrap().sqr().unwrap().mean(0).unwrap();
    let var = (var * (rows / (rows - 1.0))).unwrap();
    for (name, batch) in [("running_mean", mean), ("running_var", var)] {
        let name = format!("pyramid-0.norm.{name}");
        let moved = |from: Tensor| ((from * 0.9).unwrap() + (&batch * 0.1).unwrap()).unwrap();
        let first = moved(before.params().tensor(&name).unwrap());
        assert_close(&once.params().tensor(&name).unwrap(), &first, 1e-5, &name);
        assert_close(&twice.params().tensor(&name).unwrap(), &moved(first), 1e-5, &name);
    }
}

#[test]
fn windows_of_a_sequence_are_stacks_of_its_frames() {
    let spec = specs()[0];
    let net = encoder(spec);
    let frames = normal(&[3, 7, 3, 32, 32], 4);
    let stacks: Vec<Tensor> = (0..5).map(|t| frames.narrow(1, t, 2).unwrap()).collect();
    let stacks = Tensor::stack(&stacks, 1).unwrap().reshape((15, 6, 32, 32)).unwrap();
    for mode in [Mode::Eval, Mode::Train] {
        let var = net.params().var();
        let one = net.forward(&stacks, mode).unwrap();
        let windows = net.forward_windows(&frames, 5, mode).unwrap();
        let windows = windows.reshape((15, spec.output)).unwrap();
        assert_close(&windows, &one, 0.0, "codes");
        let gradient = |y: &Tensor| backward(&loss(y)).unwrap().get(var).unwrap().clone();
        assert_close(&gradient(&windows), &gradient(&one), 0.0, "gradients");
    }
    let frozen = net.forward_windows_frozen(&frames, 6, Mode::Eval).unwrap();
    assert_eq!(frozen.dims(), &[3, 6, 32]);
    assert!(net.forward_windows(&frames, 7, Mode::Eval).is_err());
}

#[test]
fn frozen_passes_give_the_same_codes_and_no_gradient() {
    let spec = specs()[1];
    let net = encoder(spec);
    let x = pictures(&spec, 9, 1);
    for mode in [Mode::Eval, Mode::Train] {
        let frozen = net.forward_frozen(&x, mode).unwrap();
        assert!(!frozen.track_op());
        assert_close(&frozen, &net.forward(&x, mode).unwrap(), 1e-6, "codes");
    }
    // Row by row, as an agent does it: the bits of one picture do not depend on the others.
    let all = net.forward_frozen(&x, Mode::Eval).unwrap();
    let first = net.forward_frozen(&x.narrow(0, 0, 1).unwrap(), Mode::Eval).unwrap();
    assert_close(&first, &all.narrow(0, 0, 1).unwrap(), 1e-6, "a single picture");
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let spec = specs()[0];
    let run = |threads: usize| {
        let net = encoder(spec).with_threads(threads);
        let codes = net.forward(&pictures(&spec, 37, 1), Mode::Train).unwrap();
        let grads = backward(&loss(&codes)).unwrap();
        let bits = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let running = net.params().tensor("pyramid-1.norm.running_var").unwrap();
        [
            bits(&codes),
            bits(grads.get(net.params().var()).unwrap()),
            bits(&running),
        ]
    };
    let one = run(1);
    for threads in [2, 3, 5] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn weights_carry_the_names_of_the_original() {
    let net = ConvEncoder::new(specs()[0], &mut rng()).unwrap();
    let named = |params: &Params| {
        let entries = params.entries().iter();
        entries
            .map(|entry| (entry.name.clone(), entry.shape.clone()))
            .collect::<Vec<_>>()
    };
    let norm = |index: usize, width: usize| {
        ["weight", "bias", "running_mean", "running_var"]
            .map(|part| (format!("pyramid-{index}.norm.{part}"), vec![width]))
    };
    let conv = |name: &str, shape: [usize; 4]| (format!("{name}.weight"), shape.to_vec());
    let mut wanted = vec![
        conv("input.conv", [8, 6, 4, 4]),
        ("input.conv.bias".to_owned(), vec![8]),
        conv("pyramid-0.conv", [16, 8, 4, 4]),
    ];
    wanted.extend(norm(0, 16));
    wanted.push(conv("pyramid-1.conv", [32, 16, 4, 4]));
    wanted.extend(norm(1, 32));
    wanted.extend([conv("head", [32, 32, 4, 4]), ("head.bias".to_owned(), vec![32])]);
    assert_eq!(named(net.params()), wanted);
    assert_eq!(net.params().len(), 27_528);
    // Kaiming-uniform with a = sqrt 5: within one over the root of the inputs, and filling that range.
    for (name, fan) in [
        ("input.conv.weight", 96.0_f32),
        ("head.weight", 512.0),
        ("head.bias", 512.0),
    ] {
        let values = net
            .params()
            .tensor(name)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs())) * fan.sqrt();
        assert!((0.85..=1.0).contains(&largest), "{name}: {largest}");
    }
}

#[test]
fn shapes_and_sizes_that_do_not_fit_are_errors() -> Result<()> {
    let spec = specs()[0];
    for (resolution, width) in [(4, 8), (24, 8), (32, 0)] {
        let wrong = ConvSpec {
            resolution,
            width,
            ..spec
        };
        assert!(ConvEncoder::new(wrong, &mut rng()).is_err());
    }
    let net = ConvEncoder::new(spec, &mut rng())?;
    for shape in [[2, 6, 32, 16], [2, 3, 32, 32], [2, 6, 16, 16]] {
        let x = Tensor::zeros(&shape, candle_core::DType::F32, &Device::Cpu)?;
        let message = net.forward(&x, Mode::Eval).unwrap_err().to_string();
        assert!(message.contains("6 channels and 32 x 32 pixels"), "{message}");
    }
    // Weights that change between the passes are noticed.
    let y = loss(&net.forward(&pictures(&spec, 2, 1), Mode::Train)?);
    net.params().touch();
    assert!(y.backward().is_err());
    Ok(())
}
