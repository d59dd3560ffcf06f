use candle_core::{DType, Device, Tensor, Var};

use crate::nn::golden::Case;
use crate::nn::params::Builder;
use crate::nn::{Optimiser, OptimiserConfig, Params};

fn vector(values: &Tensor) -> Params {
    let mut builder = Builder::default();
    let values = values.to_vec1::<f32>().unwrap();
    builder.weight("w", &[values.len()], |w| w.copy_from_slice(&values));
    builder.build().unwrap()
}

/// A gradient store in which the gradient of `params` is `grad`.
fn gradient(params: &Params, grad: &Tensor) -> candle_core::backprop::GradStore {
    (params.var().as_tensor() * grad)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap()
}

#[test]
fn adam_and_radam_match_the_golden_steps() {
    let case = Case::load("spirl", "optim_radam_adam").unwrap();
    let start = case.tensor("in/p0");
    let grads = case.tensor("in/grads");
    for (name, settings) in case.meta["hyper"]["cases"].as_object().unwrap() {
        let lr = settings["lr"].as_f64().unwrap();
        let clip = settings["clip"].as_f64().map(|clip| clip as f32);
        let config = if name.starts_with("radam") {
            OptimiserConfig::radam(lr)
        } else {
            OptimiserConfig::adam(lr)
        };
        let params = vector(&start);
        let mut optimiser = Optimiser::new(config, vec![params.clone()]);
        let (mut weights, mut norms) = (Vec::new(), Vec::new());
        for step in 0..20 {
            let grads = gradient(&params, &grads.get(step).unwrap());
            norms.push(optimiser.step(&grads, clip).unwrap().to_scalar::<f32>().unwrap());
            weights.push(params.tensor("w").unwrap());
        }
        let weights = Tensor::stack(&weights, 0).unwrap();
        case.check(&format!("out/{name}"), &weights);
        let state = optimiser.export().unwrap();
        case.check(&format!("out/{name}_m"), &state["0.first"]);
        case.check(&format!("out/{name}_v"), &state["0.second"]);
        if clip.is_some() {
            let norms = Tensor::from_vec(norms, 20, &Device::Cpu).unwrap();
            case.check(&format!("out/{name}_norms"), &norms);
        }
        // Differences are only about the learning rate, so they show more than the weights themselves.
        let delta = weights.broadcast_sub(&start).unwrap().to_vec2::<f32>().unwrap();
        let expected = case.tensor(&format!("delta/{name}")).to_vec2::<f32>().unwrap();
        let start = start.to_vec1::<f32>().unwrap();
        for (step, (mine, theirs)) in delta.iter().zip(&expected).enumerate() {
            for ((mine, theirs), start) in mine.iter().zip(theirs).zip(&start) {
                let allowed = 1.5e-7 * start.abs().max(1.0) * (step + 1) as f32;
                assert!(
                    (mine - theirs).abs() <= allowed,
                    "{name} step {step}: {mine} against {theirs}"
                );
            }
        }
    }
}

#[test]
fn a_restored_optimiser_goes_on_where_it_was() {
    let start = Tensor::new(&[1.0_f32, -2.0, 3.0], &Device::Cpu).unwrap();
    let grad = |step: usize| Tensor::new(&[0.1 * step as f32, 1.0, -0.5], &Device::Cpu).unwrap();
    let params = vector(&start);
    let mut optimiser = Optimiser::new(OptimiserConfig::radam(1e-2), vec![params.clone()]);
    for step in 0..4 {
        optimiser.step(&gradient(&params, &grad(step)), None).unwrap();
    }
    let copy = params.deep_clone().unwrap();
    let mut second = Optimiser::new(OptimiserConfig::radam(1e-2), vec![copy.clone()]);
    second.import(&optimiser.export().unwrap()).unwrap();
    for step in 4..9 {
        optimiser.step(&gradient(&params, &grad(step)), None).unwrap();
        second.step(&gradient(&copy, &grad(step)), None).unwrap();
    }
    let values = |params: &Params| params.tensor("w").unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&params), values(&copy));

    let mut state = optimiser.export().unwrap();
    state.remove("0.second");
    assert!(second.import(&state).is_err());
}

#[test]
fn a_network_without_gradient_is_left_alone() {
    let used = vector(&Tensor::new(&[1.0_f32], &Device::Cpu).unwrap());
    let unused = vector(&Tensor::new(&[1.0_f32], &Device::Cpu).unwrap());
    let mut optimiser = Optimiser::new(OptimiserConfig::adam(0.1), vec![used.clone(), unused.clone()]);
    let grads = gradient(&used, &Tensor::ones(1, DType::F32, &Device::Cpu).unwrap());
    optimiser.step(&grads, None).unwrap();
    assert!((used.tensor("w").unwrap().to_vec1::<f32>().unwrap()[0] - 0.9).abs() < 1e-6);
    assert_eq!(unused.tensor("w").unwrap().to_vec1::<f32>().unwrap(), [1.0]);
    assert_eq!(optimiser.export().unwrap()["1.steps"].to_scalar::<u32>().unwrap(), 0);
}

#[test]
fn a_target_update_is_seen_through_every_handle() {
    let target = vector(&Tensor::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap());
    let source = vector(&Tensor::new(&[3.0_f32, -2.0], &Device::Cpu).unwrap());
    let handle = target.clone();
    target.soft_update(&source, 0.25).unwrap();
    assert_eq!(handle.tensor("w").unwrap().to_vec1::<f32>().unwrap(), [1.5, 1.0]);
    let other = Var::zeros(3, DType::F32, &Device::Cpu).unwrap();
    assert!(target.soft_update(&vector(&other), 0.5).is_err());
}
