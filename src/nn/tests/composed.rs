//! Networks composed of candle's own operations against the fused ones, which the other tests hold to plain compositions
//! and to differences.

use candle_core::{Device, Result, Tensor, Var};

use super::networks::{assert_close, loss, normal, rng, shake};
use crate::nn::{
    Compute, ConvEncoder, ConvSpec, Linear, LstmDecoder, LstmEncoder, LstmSpec, Mlp, MlpSpec, Mode, Norm, Optimiser,
    OptimiserConfig, Params, backward, is_finite,
};

/// Every way but the fused one.
fn others() -> Vec<Compute> {
    let all = Compute::at_hand().into_iter();
    all.filter(|compute| !matches!(compute, Compute::Fused)).collect()
}

fn host(x: &Tensor) -> Tensor {
    x.to_device(&Device::Cpu).unwrap()
}

/// Compares outputs, gradients of weights and inputs, and what is not trained.
fn compare(
    (fused, composed): (&[&Params], &[&Params]),
    inputs: &[&Var],
    run: impl Fn(bool) -> Result<Tensor>,
    name: &str,
) {
    let (mine, theirs) = (run(true).unwrap(), run(false).unwrap());
    assert_close(&host(&mine), &theirs, 2e-5, &format!("{name}: output"));
    // Twice, as a network may be used more than once in a loss.
    let twice = |y: &Tensor, again: Tensor| backward(&(loss(&host(y)) + loss(&host(&again))).unwrap()).unwrap();
    let (mine, theirs) = (twice(&mine, run(true).unwrap()), twice(&theirs, run(false).unwrap()));
    for (index, (fused, composed)) in fused.iter().zip(composed).enumerate() {
        let (mine, theirs) = (mine.get(composed.var()).unwrap(), theirs.get(fused.var()).unwrap());
        assert_close(
            &host(mine),
            theirs,
            1e-4,
            &format!("{name}: gradient of weights {index}"),
        );
        for entry in fused.entries() {
            let (mine, theirs) = (
                composed.tensor(&entry.name).unwrap(),
                fused.tensor(&entry.name).unwrap(),
            );
            assert_close(&mine, &theirs, 2e-5, &format!("{name}: {}", entry.name));
        }
    }
    for (index, input) in inputs.iter().enumerate() {
        let (mine, theirs) = (mine.get(input).unwrap(), theirs.get(input).unwrap());
        assert_close(mine, theirs, 1e-4, &format!("{name}: gradient of input {index}"));
    }
}

#[test]
fn perceptrons() {
    for compute in others() {
        for norm in [Norm::None, Norm::Layer, Norm::Batch] {
            let spec = MlpSpec {
                input: 7,
                width: 24,
                output: 3,
                hidden: 2,
                norm,
            };
            let fused = Mlp::new(spec, &mut rng()).unwrap();
            shake(fused.params());
            let composed = fused.moved(&compute).unwrap();
            let x = Var::from_tensor(&normal(&[70, 7], 1)).unwrap();
            let params = (&[fused.params()][..], &[composed.params()][..]);
            for mode in [Mode::Train, Mode::Eval] {
                let name = format!("{compute:?} {norm:?} {mode:?}");
                let net = |other| if other { &composed } else { &fused };
                compare(params, &[&x], |other| net(other).forward(&x, mode), &name);
                let frozen = |other: bool| net(other).forward_frozen(&x, mode);
                let (mine, theirs) = (loss(&host(&frozen(true).unwrap())), loss(&frozen(false).unwrap()));
                let (mine, theirs) = (backward(&mine).unwrap(), backward(&theirs).unwrap());
                assert!(mine.get(composed.params().var()).is_none(), "{name}");
                assert_close(mine.get(&x).unwrap(), theirs.get(&x).unwrap(), 1e-4, &name);
            }
            if norm == Norm::Batch {
                // One batch that is not finite must not spoil the running statistics for good.
                let before = composed.params().tensor("pyramid-0.norm.running_mean").unwrap();
                composed
                    .forward(&(x.as_tensor() * f64::NAN).unwrap(), Mode::Train)
                    .unwrap();
                let after = composed.params().tensor("pyramid-0.norm.running_mean").unwrap();
                assert_close(&before, &after, 0.0, "statistics after a batch of NaN");
                assert!(composed.forward(&x.narrow(0, 0, 1).unwrap(), Mode::Train).is_err());
            }
        }
        let fused = Linear::new(5, 3, &mut rng()).unwrap();
        let composed = fused.moved(&compute).unwrap();
        let x = Var::from_tensor(&normal(&[9, 5], 1)).unwrap();
        let params = (&[fused.params()][..], &[composed.params()][..]);
        compare(
            params,
            &[&x],
            |other| if other { &composed } else { &fused }.forward(&x),
            "linear",
        );
        assert!(composed.forward(&normal(&[9, 4], 1)).is_err());
    }
}

#[test]
fn recurrent_networks() {
    for compute in others() {
        for layers in [1, 2] {
            let name = format!("{compute:?} {layers} layers");
            let spec = LstmSpec {
                input: 9,
                hidden: 12,
                layers,
                output: 5,
            };
            let fused = LstmEncoder::new(spec, &mut rng()).unwrap();
            let composed = fused.moved(&compute).unwrap();
            let x = Var::from_tensor(&normal(&[6, 4, 9], 1)).unwrap();
            let params = (&[fused.params()][..], &[composed.params()][..]);
            compare(
                params,
                &[&x],
                |other| if other { &composed } else { &fused }.forward(&x),
                &name,
            );

            let z = Var::from_tensor(&normal(&[6, 4], 2)).unwrap();
            let fused = LstmDecoder::new(spec, true, &mut rng()).unwrap();
            shake(fused.start_params().unwrap());
            let composed = fused.moved(&compute).unwrap();
            let both = |net: &LstmDecoder| [net.params().clone(), net.start_params().unwrap().clone()];
            let (mine, theirs) = (both(&fused), both(&composed));
            let params = (&mine.each_ref()[..], &theirs.each_ref()[..]);
            let run = |other| if other { &composed } else { &fused }.forward(&z, None, 3);
            compare(params, &[&z], run, &name);

            let fused = LstmDecoder::new(spec, false, &mut rng()).unwrap();
            let composed = fused.moved(&compute).unwrap();
            let first = Var::from_tensor(&normal(&[6, 5], 3)).unwrap();
            let hidden = Var::from_tensor(&normal(&[6, spec.state()], 4)).unwrap();
            let params = (&[fused.params()][..], &[composed.params()][..]);
            let run = |other| if other { &composed } else { &fused }.forward(&z, Some((&first, &hidden)), 3);
            compare(params, &[&z, &first, &hidden], run, &name);
        }
    }
}

#[test]
fn convolutions() {
    for compute in others() {
        let spec = ConvSpec {
            channels: 6,
            resolution: 16,
            width: 4,
            output: 5,
        };
        let fused = ConvEncoder::new(spec, &mut rng()).unwrap().with_statistics_moves(2);
        let composed = fused.moved(&compute).unwrap();
        let params = (&[fused.params()][..], &[composed.params()][..]);
        let net = |other| if other { &composed } else { &fused };
        for mode in [Mode::Train, Mode::Eval] {
            let x = normal(&[5, 6, 16, 16], 1);
            compare(params, &[], |other| net(other).forward(&x, mode), "pictures");
            // Stacks of two frames of three channels.
            let x = normal(&[3, 4, 3, 16, 16], 2);
            compare(params, &[], |other| net(other).forward_windows(&x, 3, mode), "windows");
        }
    }
}

/// Steps with and without clipping, state out and in, and steps that are not to be taken.
#[test]
fn optimisers() {
    for compute in others() {
        for (config, clip) in [
            (OptimiserConfig::adam(1e-2), None),
            (OptimiserConfig::radam(1e-2), Some(0.5)),
        ] {
            let fused = Params::single("t", 0.3).unwrap();
            let composed = compute.take(&fused).unwrap();
            let mut mine = Optimiser::new(config, vec![composed.clone()]);
            let mut theirs = Optimiser::new(config, vec![fused.clone()]);
            for step in 0..20 {
                let objective = |params: &Params| {
                    let shifted = (params.var().as_tensor() - (0.1 * f64::from(step))).unwrap();
                    backward(&shifted.sqr().unwrap().sum_all().unwrap()).unwrap()
                };
                let norm = mine.step(&objective(&composed), clip).unwrap();
                let expected = theirs.step(&objective(&fused), clip).unwrap();
                assert_close(&host(&norm), &expected, 1e-5, "norm");
                let (weight, expected) = (composed.tensor("t").unwrap(), fused.tensor("t").unwrap());
                assert_close(&weight, &expected, 1e-5, "weight");
                if step == 10 {
                    let state = mine.export().unwrap();
                    let expected = theirs.export().unwrap();
                    for name in ["0.first", "0.second"] {
                        assert_close(&state[name], &expected[name], 1e-5, name);
                    }
                    mine = Optimiser::new(config, vec![composed.clone()]);
                    mine.import(&state).unwrap();
                }
            }
            let (before, state) = (composed.tensor("t").unwrap(), mine.export().unwrap());
            let gradients = backward(&(composed.var().as_tensor() * f64::NAN).unwrap().sum_all().unwrap()).unwrap();
            let norm = mine.gradient_norm(&gradients).unwrap();
            let sound = is_finite(&norm).unwrap();
            mine.step_with_norm(&gradients, clip, &norm, Some(&sound)).unwrap();
            assert_close(&composed.tensor("t").unwrap(), &before, 0.0, "weight after NaN");
            let after = mine.export().unwrap();
            for name in ["0.first", "0.second"] {
                assert_close(&after[name], &state[name], 0.0, "moments after NaN");
            }
        }
    }
}

#[test]
fn targets_follow_and_weights_go_to_and_fro() {
    for compute in others() {
        let spec = MlpSpec {
            input: 3,
            width: 8,
            output: 2,
            hidden: 1,
            norm: Norm::Batch,
        };
        let fused = Mlp::new(spec, &mut rng()).unwrap();
        let composed = fused.moved(&compute).unwrap();
        let target = composed.deep_clone().unwrap();
        shake(fused.params());
        composed.params().copy_from(fused.params()).unwrap();
        let expected = fused.deep_clone().unwrap();
        expected.params().copy_from(target.params()).unwrap();
        expected.params().soft_update(fused.params(), 0.1).unwrap();
        target.params().soft_update(composed.params(), 0.1).unwrap();
        for entry in fused.params().entries() {
            let (mine, theirs) = (
                target.params().tensor(&entry.name).unwrap(),
                expected.params().tensor(&entry.name).unwrap(),
            );
            assert_close(&mine, &theirs, 1e-6, &entry.name);
        }
        let mut weights = std::collections::BTreeMap::new();
        composed.params().export("", &mut weights).unwrap();
        target.params().import("", &weights).unwrap();
        let again = target.moved(&Compute::Fused).unwrap();
        for entry in fused.params().entries() {
            let (mine, theirs) = (
                again.params().tensor(&entry.name).unwrap(),
                fused.params().tensor(&entry.name).unwrap(),
            );
            assert_close(&mine, &theirs, 0.0, &entry.name);
        }
    }
}
