//! State of the learner by name, for checkpoints.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::{LearnedTemperature, Result, Sac, SacError, optimisers};
use crate::nn::{Mlp, Optimiser, Params};
use crate::skills::GaussianNetwork;

impl Sac {
    /// Everything the learner would need to go on, by name: networks, targets, temperature, optimisers, counters.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn export(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        for (name, params) in self.networks() {
            params.export(&name, &mut out)?;
        }
        for (name, optimiser) in self.optimisers() {
            out.extend(
                optimiser
                    .export()?
                    .into_iter()
                    .map(|(key, tensor)| (format!("{name}{key}"), tensor)),
            );
        }
        let temperature = self.temperature.state()?;
        out.insert(TEMPERATURE.into(), Tensor::new(&temperature, &Device::Cpu)?);
        let steps = self.temperature.steps;
        let counters = [steps, self.updates, self.skipped, u64::from(self.skipped_in_row)];
        out.insert(
            COUNTERS.into(),
            Tensor::new(&counters.map(|count| count as i64), &Device::Cpu)?,
        );
        Ok(out)
    }

    /// Takes up the state that [`export`](Self::export) gave, for a learner of the same settings and sizes.
    ///
    /// # Errors
    /// A tensor is missing or does not fit; the learner is then unchanged.
    pub fn import(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        let get = |name: &str| {
            from.get(name)
                .ok_or_else(|| SacError::Checkpoint(format!("no tensor `{name}`")))
        };
        let policy = self.policy.deep_clone()?;
        let prior = self.prior.as_ref().map(GaussianNetwork::deep_clone).transpose()?;
        let [critic_1, critic_2] = self.critics.each_ref().map(Mlp::deep_clone);
        let [target_1, target_2] = self.targets.each_ref().map(Mlp::deep_clone);
        let (critics, targets) = ([critic_1?, critic_2?], [target_1?, target_2?]);
        let (policy_optimiser, critic_optimisers) = optimisers(&self.config, &policy, &critics);
        let mut fresh = Self {
            config: self.config.clone(),
            dims: self.dims,
            policy,
            prior,
            critics,
            targets,
            standardiser: self.standardiser.clone(),
            temperature: self.temperature.clone(),
            policy_optimiser,
            critic_optimisers,
            compute: self.compute.clone(),
            updates: 0,
            skipped: 0,
            skipped_in_row: 0,
        };
        for (name, params) in fresh.networks() {
            params.import(&name, from)?;
        }
        for (name, optimiser) in fresh.optimisers_mut() {
            let state = from
                .iter()
                .filter_map(|(key, tensor)| Some((key.strip_prefix(name)?.to_owned(), tensor.clone())));
            optimiser.import(&state.collect())?;
        }
        let temperature = numbers(TEMPERATURE, get(TEMPERATURE)?.to_vec1::<f64>()?)?;
        let counters: [i64; 4] = numbers(COUNTERS, get(COUNTERS)?.to_vec1()?)?;
        let [steps, updates, skipped, in_row] = counters.map(|count| u64::try_from(count).unwrap_or(0));
        fresh.temperature =
            LearnedTemperature::with_state(self.temperature.setting, temperature, steps, self.compute.device())?;
        fresh.updates = updates;
        fresh.skipped = skipped;
        fresh.skipped_in_row = u32::try_from(in_row).unwrap_or(u32::MAX);
        *self = fresh;
        Ok(())
    }

    pub(super) fn networks(&self) -> Vec<(String, Params)> {
        let gaussians =
            std::iter::once(("policy", &self.policy)).chain(self.prior.iter().map(|prior| ("prior", prior)));
        let mut all: Vec<(String, Params)> = gaussians
            .flat_map(|(whose, network)| network.parts().into_iter().map(move |part| (whose, part)))
            .map(|(whose, (name, params))| (format!("{whose}.{name}"), params.clone()))
            .collect();
        for (index, (critic, target)) in self.critics.iter().zip(&self.targets).enumerate() {
            all.push((format!("critics.{index}."), critic.params().clone()));
            all.push((format!("critic_targets.{index}."), target.params().clone()));
        }
        all
    }

    fn optimisers(&self) -> [(&'static str, &Optimiser); 3] {
        let [first, second] = &self.critic_optimisers;
        [
            (OPTIMISERS[0], &self.policy_optimiser),
            (OPTIMISERS[1], first),
            (OPTIMISERS[2], second),
        ]
    }

    fn optimisers_mut(&mut self) -> [(&'static str, &mut Optimiser); 3] {
        let [first, second] = &mut self.critic_optimisers;
        [
            (OPTIMISERS[0], &mut self.policy_optimiser),
            (OPTIMISERS[1], first),
            (OPTIMISERS[2], second),
        ]
    }
}

const OPTIMISERS: [&str; 3] = ["optimiser.policy.", "optimiser.critics.0.", "optimiser.critics.1."];
const TEMPERATURE: &str = "temperature";
const COUNTERS: &str = "counters";

pub(super) fn numbers<T, const N: usize>(name: &str, values: Vec<T>) -> Result<[T; N]> {
    let wrong = |values: Vec<T>| SacError::Checkpoint(format!("`{name}` has {} values, not {N}", values.len()));
    values.try_into().map_err(wrong)
}
