//! Weights and training state of whole models as named tensors.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::{Result, SkillError};
use crate::nn::{ImportError, Optimiser, Params};

const UPDATES: &str = "updates";

/// Drops the second name of every decoder tensor, or takes it where the first one is missing.
pub(super) fn one_name_each(from: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let mut out = from.clone();
    for (name, tensor) in from {
        if let Some(rest) = name.strip_prefix("decoder.lstm.cell.") {
            out.remove(name);
            out.entry(format!("decoder.cell.{rest}"))
                .or_insert_with(|| tensor.clone());
        }
    }
    out
}

/// Imports several networks or none: all problems are collected before anything changes.
pub(super) fn import_all(parts: &[(String, &Params)], from: &BTreeMap<String, Tensor>) -> Result<()> {
    let mut problems = Vec::new();
    let mut ready = Vec::with_capacity(parts.len());
    for (prefix, params) in parts {
        let copy = params.deep_clone()?;
        match copy.import(prefix, from) {
            Ok(()) => ready.push(copy),
            Err(ImportError::Tensor(error)) => return Err(error.into()),
            Err(ImportError::Mismatch(found)) => problems.extend(found.iter().map(ToString::to_string)),
        }
    }
    if !problems.is_empty() {
        return Err(SkillError::Weights(problems));
    }
    for ((_, params), copy) in parts.iter().zip(&ready) {
        params.copy_from(copy)?;
    }
    Ok(())
}

/// Optimiser moments and the number of updates as named tensors.
pub(super) fn export_training(optimisers: &[(&str, &Optimiser)], updates: u64) -> Result<BTreeMap<String, Tensor>> {
    let mut out = BTreeMap::new();
    for (prefix, optimiser) in optimisers {
        for (name, tensor) in optimiser.export()? {
            out.insert(format!("{prefix}{name}"), tensor);
        }
    }
    out.insert(
        UPDATES.into(),
        Tensor::from_vec(vec![updates as i64], (), &Device::Cpu)?,
    );
    Ok(out)
}

/// Takes what [`export_training`] gave and returns the number of updates.
pub(super) fn import_training(
    optimisers: &mut [(&str, &mut Optimiser)],
    from: &BTreeMap<String, Tensor>,
) -> Result<u64> {
    let problem = |text: String| SkillError::Weights(vec![text]);
    let Some(updates) = from.get(UPDATES) else {
        return Err(problem(format!(
            "no tensor `{UPDATES}`: this is not the training state of a model"
        )));
    };
    let updates = updates.to_dtype(DType::I64)?.to_scalar::<i64>()?;
    let updates = u64::try_from(updates).map_err(|_| problem(format!("`{UPDATES}` is {updates}")))?;
    for (prefix, optimiser) in optimisers {
        let own = from
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(*prefix)?.into(), tensor.clone())));
        optimiser.import(&own.collect())?;
    }
    Ok(updates)
}
