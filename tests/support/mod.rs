//! Reads golden fixtures: `tests/golden/<system>/<case>.safetensors` with `<case>.json` beside it.
//!
//! The JSON holds what the tensors mean, the hyper-parameters and the tolerances. Fixtures too big for the repository
//! are read from the folder in `APPRENTICE_GOLDEN`; without it their tests print a line and pass.
//! Integration tests say `mod support;`, unit tests use `crate::nn::golden`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test support, shared by several test crates"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

/// One fixture.
pub struct Case {
    name: String,
    tensors: BTreeMap<String, Tensor>,
    /// The JSON file: `hyper`, `scalars`, `tolerance`, ...
    pub meta: Value,
}

impl Case {
    /// Reads `<system>/<name>`; `None`, with a printed line, if the fixture is not on this machine.
    pub fn load(system: &str, name: &str) -> Option<Self> {
        let Some(path) = find(system, name) else {
            println!("skipped: {system}/{name} is not in tests/golden; set APPRENTICE_GOLDEN to run this test");
            return None;
        };
        let text = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let widen = |tensor: Tensor| {
            if tensor.dtype() == DType::F16 {
                float(&tensor)
            } else {
                tensor
            }
        };
        Some(Self {
            name: format!("{system}/{name}"),
            tensors: tensors.into_iter().map(|(key, tensor)| (key, widen(tensor))).collect(),
            meta: serde_json::from_str(&text).unwrap(),
        })
    }

    /// Whether there is a tensor `key`.
    pub fn has(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    /// The tensor `key`, e.g. `in/states`; float16 has become float32, other types are as stored.
    pub fn tensor(&self, key: &str) -> Tensor {
        self.tensors
            .get(key)
            .unwrap_or_else(|| panic!("{}: no tensor {key}", self.name))
            .clone()
    }

    /// All tensors of a group, e.g. `w0`, by their names without the group.
    pub fn group(&self, group: &str) -> BTreeMap<String, Tensor> {
        let prefix = format!("{group}/");
        let strip = |key: &str| key.strip_prefix(&prefix).map(str::to_owned);
        self.tensors
            .iter()
            .filter_map(|(key, tensor)| Some((strip(key)?, tensor.clone())))
            .collect()
    }

    /// Names of the tensors of which `group` has values, complete or probed.
    pub fn names(&self, group: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .group(group)
            .into_keys()
            .chain(self.group(&format!("{group}_probe")).into_keys())
            .collect();
        names.sort();
        names
    }

    /// The number at `path` in the JSON, e.g. `&["hyper", "kl_div_weight"]`.
    pub fn number(&self, path: &[&str]) -> f64 {
        let value = path.iter().fold(&self.meta, |value, key| &value[key]);
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{}: {} is not a number", self.name, path.join(".")))
    }

    /// The whole number at `path` in the JSON.
    pub fn count(&self, path: &[&str]) -> usize {
        self.number(path) as usize
    }

    /// Largest allowed scaled error of tensor `key`, and that of its best 99.9 % of entries.
    fn tolerance(&self, key: &str) -> (f64, f64) {
        if let Some(limit) = self.meta["tolerance_per_tensor"][key].as_f64() {
            return (limit, limit);
        }
        let group = key.split('/').next().unwrap();
        let entry = &self.meta["tolerance"][group];
        let limit = entry["scaled"]
            .as_f64()
            .unwrap_or_else(|| panic!("{}: no tolerance for {key}", self.name));
        (limit, entry["scaled_for_99.9_percent"].as_f64().unwrap_or(limit))
    }

    /// Fails unless `mine` equals the fixture's tensor `key` within its tolerance: the largest difference divided by
    /// the largest absolute value.
    #[track_caller]
    pub fn check(&self, key: &str, mine: &Tensor) {
        self.compare(key, mine, &self.tensor(key), self.tolerance(key));
    }

    /// As [`Case::check`] for rows `from..` of both tensors.
    #[track_caller]
    pub fn check_rows(&self, key: &str, mine: &Tensor, from: usize) {
        let rows = |tensor: &Tensor| tensor.narrow(0, from, tensor.dim(0).unwrap() - from).unwrap();
        self.compare(key, &rows(mine), &rows(&self.tensor(key)), self.tolerance(key));
    }

    /// As [`Case::check`] for tensor `name` of a group that may be stored as a probe (every s-th entry) and a 2-norm.
    #[track_caller]
    pub fn check_entry(&self, group: &str, name: &str, mine: &Tensor) {
        let key = format!("{group}/{name}");
        if self.has(&key) {
            return self.check(&key, mine);
        }
        let (probe, l2) = (format!("{group}_probe/{name}"), format!("{group}_l2/{name}"));
        let flat = float(mine).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let stride = (flat.len() / 512) | 1;
        let picked: Vec<f32> = flat.iter().step_by(stride).take(512).copied().collect();
        let shape = self.tensor(&probe).shape().clone();
        self.check(&probe, &Tensor::from_vec(picked, shape, &Device::Cpu).unwrap());
        let norm = flat.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let shape = self.tensor(&l2).shape().clone();
        self.check(&l2, &Tensor::from_vec(vec![norm as f32], shape, &Device::Cpu).unwrap());
    }

    #[track_caller]
    fn compare(&self, key: &str, mine: &Tensor, theirs: &Tensor, (most, nearly_all): (f64, f64)) {
        assert_eq!(mine.dims(), theirs.dims(), "{} {key}: shape", self.name);
        let values = |tensor: &Tensor| {
            tensor
                .to_dtype(DType::F64)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f64>()
                .unwrap()
        };
        let (mine, theirs) = (values(mine), values(theirs));
        let scale = theirs.iter().fold(0.0_f64, |scale, x| scale.max(x.abs()));
        let scale = if scale > 0.0 { scale } else { 1.0 };
        let mut errors: Vec<f64> = mine.iter().zip(&theirs).map(|(a, b)| (a - b).abs() / scale).collect();
        assert!(
            errors.iter().all(|error| error.is_finite()),
            "{} {key}: not finite",
            self.name
        );
        errors.sort_by(f64::total_cmp);
        let Some(worst) = errors.last() else { return };
        assert!(
            *worst <= most,
            "{} {key}: scaled error {worst:.2e}, allowed {most:.2e}",
            self.name
        );
        let quantile = errors[(errors.len() - 1) * 999 / 1000];
        assert!(
            quantile <= nearly_all,
            "{} {key}: 99.9 % error {quantile:.2e}, allowed {nearly_all:.2e}",
            self.name
        );
    }
}

/// The tensor as float32.
pub fn float(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F32).unwrap()
}

fn find(system: &str, name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folders = std::iter::once(own).chain(std::env::var_os("APPRENTICE_GOLDEN").map(PathBuf::from));
    folders
        .map(|folder| folder.join(system).join(format!("{name}.safetensors")))
        .find(|path| path.exists())
}
