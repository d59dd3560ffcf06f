use candle_core::{D, Tensor, Var};

use crate::nn::golden::Case;
use crate::nn::{DiagGaussian, squash};

/// Sum over rows `from..` of the elements.
fn sum_from(x: &Tensor, from: usize) -> Tensor {
    x.narrow(0, from, x.dim(0).unwrap() - from).unwrap().sum_all().unwrap()
}

fn grad(loss: &Tensor, of: &Var) -> Tensor {
    loss.backward().unwrap().get(of).unwrap().clone()
}

#[test]
fn gaussian_matches_golden() {
    let case = Case::load("spirl", "dist_gaussian").unwrap();
    let raw_q = Var::from_tensor(&case.tensor("in/raw_q")).unwrap();
    let raw_p = Var::from_tensor(&case.tensor("in/raw_p")).unwrap();
    let (q, p) = (
        DiagGaussian::from_raw(&raw_q).unwrap(),
        DiagGaussian::from_raw(&raw_p).unwrap(),
    );
    let x = case.tensor("in/x");
    let log_prob = q.log_prob(&x).unwrap();
    let per_dim = q.log_prob_per_dim(&x).unwrap();
    let (nll, kl) = (log_prob.neg().unwrap(), q.kl(&p).unwrap());
    case.check("out/q_mu", &q.mu);
    case.check("out/q_log_sigma", &q.log_sigma);
    case.check("out/q_sigma", &q.sigma().unwrap());
    case.check("out/log_prob_per_dim", &per_dim);
    case.check("out/nll_per_dim", &per_dim.neg().unwrap());
    case.check("out/log_prob", &log_prob);
    case.check("out/nll", &nll);
    case.check("out/entropy_per_dim", &q.entropy().unwrap());
    case.check("out/kl_q_p_per_dim", &kl);
    case.check("out/kl_p_q_per_dim", &p.kl(&q).unwrap());
    case.check("out/sample", &q.sample(&case.tensor("noise/eps")).unwrap());

    case.check_rows("grad/raw_q_of_sum_nll", &grad(&sum_from(&nll, 1), &raw_q), 1);
    let row0 = nll.narrow(0, 0, 1).unwrap().sum_all().unwrap();
    case.check("grad/raw_q_of_nll_row0", &grad(&row0, &raw_q));
    case.check_rows("grad/raw_q_of_sum_kl_q_p", &grad(&sum_from(&kl, 1), &raw_q), 1);
    case.check_rows("grad/raw_p_of_sum_kl_q_p", &grad(&sum_from(&kl, 1), &raw_p), 1);
}

#[test]
fn kl_to_the_unit_gaussian_is_the_general_one() {
    let case = Case::load("spirl", "dist_gaussian").unwrap();
    let q = DiagGaussian::from_raw(&case.tensor("in/raw_q")).unwrap();
    let zeros = q.mu.zeros_like().unwrap();
    let unit = DiagGaussian {
        mu: zeros.clone(),
        log_sigma: zeros,
    };
    let difference = (q.kl(&unit).unwrap() - q.kl_unit().unwrap()).unwrap().abs().unwrap();
    let scale = q
        .kl_unit()
        .unwrap()
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    assert!(difference.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-6 * scale);
}

#[test]
fn squashed_gaussian_matches_golden() {
    let case = Case::load("spirl", "dist_tanh_gaussian").unwrap();
    let raw = Var::from_tensor(&case.tensor("in/raw")).unwrap();
    let policy = DiagGaussian::from_raw(&raw).unwrap();
    let sample = policy.sample(&case.tensor("noise/eps")).unwrap();
    for range in [1, 2] {
        let action = squash::squash(&sample, f64::from(range)).unwrap();
        let gauss = policy.log_prob(&sample).unwrap();
        let log_prob = (&gauss - squash::log_det(&sample, f64::from(range)).unwrap()).unwrap();
        case.check(&format!("out/R{range}_pre_tanh"), &sample);
        case.check(&format!("out/R{range}_gauss_log_prob"), &gauss);
        case.check(&format!("out/R{range}_action"), &action);
        case.check(&format!("out/R{range}_log_prob"), &log_prob);
        case.check(
            &format!("grad/R{range}_raw_of_sum_action"),
            &grad(&sum_from(&action, 2), &raw),
        );
        case.check(
            &format!("grad/R{range}_raw_of_sum_log_prob"),
            &grad(&sum_from(&log_prob, 2), &raw),
        );
    }
}

#[test]
fn monte_carlo_divergence_matches_golden() {
    let case = Case::load("spirl", "dist_mc_kl").unwrap();
    let raw_p = Var::from_tensor(&case.tensor("in/raw_p")).unwrap();
    let p = DiagGaussian::from_raw(&raw_p).unwrap();
    let q = DiagGaussian::from_raw(&case.tensor("in/raw_q")).unwrap();
    let noise = case.tensor("noise/eps");
    let estimate = |p: &DiagGaussian, q: &DiagGaussian| {
        let samples = p.sample(&noise).unwrap();
        (p.log_prob(&samples).unwrap() - q.log_prob(&samples).unwrap())
            .unwrap()
            .mean(0)
            .unwrap()
    };
    let forward = estimate(&p, &q);
    case.check("out/mc_kl", &forward);
    case.check("out/mc_kl_reverse", &estimate(&q, &p));
    let analytic = p.kl(&q).unwrap().sum(D::Minus1).unwrap();
    case.check("out/analytic_kl_sum", &analytic);
    case.check("grad/p_of_mean_mc_kl", &grad(&forward.mean_all().unwrap(), &raw_p));
    case.check("grad/p_of_mean_analytic", &grad(&analytic.mean_all().unwrap(), &raw_p));
}
