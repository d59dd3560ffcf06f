//! One network's weights as a single flat variable, with named views in the layout of the original checkpoints.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Result, Storage, Tensor, Var, bail};

use super::kernels;

/// What an [`Entry`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Trained weight, a slice of the flat variable.
    Weight,
    /// Not trained: running statistics of a normalisation layer.
    Buffer,
}

/// One named tensor of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name as in the original `PyTorch` state dictionary, relative to the network.
    pub name: String,
    /// Shape as in the original state dictionary, e.g. `[out, in]`.
    pub shape: Vec<usize>,
    /// Weight or buffer.
    pub kind: Kind,
    /// First element in the flat variable (weights) or in the buffer store (buffers).
    pub offset: usize,
}

impl Entry {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Why [`Params::import`] refused a set of tensors. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Some tensors are missing or have another shape.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Mismatch(Vec<Mismatch>),
    /// A tensor could not be read.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// One tensor that [`Params::import`] could not use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// No tensor of this name.
    #[error("no tensor `{name}`{}", suggestion(.nearest.as_deref()))]
    Missing {
        /// The name that was looked for.
        name: String,
        /// The most similar name among the given tensors.
        nearest: Option<String>,
    },
    /// The tensor has another shape.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The shape this network needs.
        expected: Vec<usize>,
        /// The shape that was given.
        found: Vec<usize>,
    },
}

#[derive(Debug)]
struct Inner {
    entries: Vec<Entry>,
    var: Var,
    /// What is not trained, in the processor's memory; empty where passes are composed.
    buffers: Mutex<Vec<f32>>,
    /// The same on the device of the weights, if passes are composed of candle's own operations there; one number at
    /// least.
    composed: Option<Tensor>,
    /// Counts in-place changes of the weights, so that a backward pass can tell that its forward pass is stale.
    version: AtomicU64,
    scratch: Mutex<Vec<Vec<f32>>>,
}

/// Handle to one network's weights: one contiguous `f32` variable of shape `[n]`, plus its non-trained buffers.
///
/// Cloning copies the handle, not the weights; see [`Params::deep_clone`]. Every element belongs to exactly one
/// [`Entry`], so optimiser steps, clipping and target updates are one pass over one slice.
#[derive(Debug, Clone)]
pub struct Params(Arc<Inner>);

/// Collects the tensors of a network before its [`Params`] exist.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    entries: Vec<Entry>,
    weights: Vec<f32>,
    buffers: Vec<f32>,
}

impl Builder {
    fn add(&mut self, name: String, shape: &[usize], kind: Kind, init: impl FnOnce(&mut [f32])) -> usize {
        let store = match kind {
            Kind::Weight => &mut self.weights,
            Kind::Buffer => &mut self.buffers,
        };
        let offset = store.len();
        store.resize(offset + shape.iter().product::<usize>(), 0.0);
        init(&mut store[offset..]);
        self.entries.push(Entry {
            name,
            shape: shape.to_vec(),
            kind,
            offset,
        });
        offset
    }

    /// Appends a trained tensor, which starts at zero before `init` fills it; returns its offset.
    pub(crate) fn weight(&mut self, name: impl Into<String>, shape: &[usize], init: impl FnOnce(&mut [f32])) -> usize {
        self.add(name.into(), shape, Kind::Weight, init)
    }

    /// Appends a buffer filled with `value`; returns its offset.
    pub(crate) fn buffer(&mut self, name: impl Into<String>, shape: &[usize], value: f32) -> usize {
        self.add(name.into(), shape, Kind::Buffer, |slice| slice.fill(value))
    }

    pub(crate) fn build(self) -> Result<Params> {
        Params::new(self.entries, self.weights, self.buffers)
    }
}

impl Params {
    fn new(entries: Vec<Entry>, weights: Vec<f32>, buffers: Vec<f32>) -> Result<Self> {
        let count = weights.len();
        Ok(Self(Arc::new(Inner {
            entries,
            var: Var::from_vec(weights, count, &Device::Cpu)?,
            buffers: Mutex::new(buffers),
            composed: None,
            version: AtomicU64::new(0),
            scratch: Mutex::default(),
        })))
    }

    /// An independent copy on `device` that is computed by candle's own operations (`composed.rs`).
    pub(crate) fn composed(&self, device: &Device) -> Result<Self> {
        Self::new_composed(
            self.0.entries.clone(),
            self.host_weights()?,
            self.host_buffers()?,
            device,
        )
    }

    fn new_composed(entries: Vec<Entry>, weights: Vec<f32>, mut buffers: Vec<f32>, device: &Device) -> Result<Self> {
        let count = weights.len();
        // Not every device can hold a tensor of nothing.
        buffers.resize(buffers.len().max(1), 0.0);
        let buffer_count = buffers.len();
        Ok(Self(Arc::new(Inner {
            entries,
            var: Var::from_vec(weights, count, device)?,
            buffers: Mutex::default(),
            composed: Some(Tensor::from_vec(buffers, buffer_count, device)?),
            version: AtomicU64::new(0),
            scratch: Mutex::default(),
        })))
    }

    /// An independent copy in the processor's memory for the fused passes.
    pub(crate) fn fused(&self) -> Result<Self> {
        Self::new(self.0.entries.clone(), self.host_weights()?, self.host_buffers()?)
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        self.0.var.device()
    }

    /// Whether passes are composed of candle's own operations, as on every device but the processor.
    pub(crate) fn is_composed(&self) -> bool {
        self.0.composed.is_some()
    }

    /// The number of buffer elements that the entries name.
    fn buffer_count(&self) -> usize {
        let buffers = self.entries().iter().filter(|entry| entry.kind == Kind::Buffer);
        buffers.map(Entry::elements).sum()
    }

    /// A copy of the flat weights.
    fn host_weights(&self) -> Result<Vec<f32>> {
        self.0.var.as_detached_tensor().to_device(&Device::Cpu)?.to_vec1()
    }

    /// A copy of the buffers.
    fn host_buffers(&self) -> Result<Vec<f32>> {
        let Some(buffers) = &self.0.composed else {
            return Ok(self.buffers().clone());
        };
        let mut values: Vec<f32> = buffers.to_device(&Device::Cpu)?.to_vec1()?;
        values.truncate(self.buffer_count());
        Ok(values)
    }

    fn set_buffers(&self, values: Vec<f32>) -> Result<()> {
        let count = values.len();
        match &self.0.composed {
            None => *self.buffers() = values,
            Some(_) if values.is_empty() => {}
            Some(buffers) => buffers.slice_set(&Tensor::from_vec(values, count, buffers.device())?, 0, 0)?,
        }
        Ok(())
    }

    /// A single trained number called `name`, shape `[1]`: a temperature or a loss weight.
    pub fn single(name: &str, value: f32) -> Result<Self> {
        let mut builder = Builder::default();
        builder.weight(name, &[1], |slot| slot.fill(value));
        builder.build()
    }

    /// The flat variable, shape `[len]`: what gradients are taken with respect to. Its values are changed by an
    /// [`Optimiser`](super::Optimiser), [`Params::import`], [`Params::copy_from`] and [`Params::soft_update`] only:
    /// networks keep what they derive from them until one of these says that they changed.
    pub fn var(&self) -> &Var {
        &self.0.var
    }

    /// Number of trained weights.
    #[allow(clippy::len_without_is_empty, reason = "a network has weights")]
    pub fn len(&self) -> usize {
        self.0.var.elem_count()
    }

    /// All named tensors, in state-dictionary order.
    pub fn entries(&self) -> &[Entry] {
        &self.0.entries
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        match self.0.entries.iter().find(|entry| entry.name == name) {
            Some(entry) => Ok(entry),
            None => {
                let names = self.0.entries.iter().map(|entry| entry.name.as_str());
                bail!("no tensor `{name}`{}", suggestion(nearest(name, names)))
            }
        }
    }

    /// A copy of the entry `name` in its original shape, in the processor's memory.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let entry = self.entry(name)?;
        let all = match entry.kind {
            Kind::Weight => self.host_weights()?,
            Kind::Buffer => self.host_buffers()?,
        };
        entry_tensor(entry, &all)
    }

    /// Adds every entry, buffers included, to `out` under `prefix` + name, in the processor's memory.
    pub fn export(&self, prefix: &str, out: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let (weights, buffers) = (self.host_weights()?, self.host_buffers()?);
        for entry in self.entries() {
            let all = match entry.kind {
                Kind::Weight => &weights,
                Kind::Buffer => &buffers,
            };
            out.insert(format!("{prefix}{}", entry.name), entry_tensor(entry, all)?);
        }
        Ok(())
    }

    /// Takes every entry from `from`, where it is called `prefix` + name, in any float type.
    ///
    /// On error nothing has changed, and the error names every tensor that is missing or has another shape.
    /// Further tensors in `from` are ignored.
    pub fn import(&self, prefix: &str, from: &BTreeMap<String, Tensor>) -> std::result::Result<(), ImportError> {
        Self::import_all(&[(prefix.to_owned(), self.clone())], from)
    }

    /// As [`Params::import`] for several networks, each with its prefix: all of them change or none.
    pub fn import_all(
        networks: &[(String, Self)],
        from: &BTreeMap<String, Tensor>,
    ) -> std::result::Result<(), ImportError> {
        let mut problems = Vec::new();
        let mut read = Vec::with_capacity(networks.len());
        for (prefix, params) in networks {
            read.push(params.read(prefix, from, &mut problems)?);
        }
        if !problems.is_empty() {
            return Err(ImportError::Mismatch(problems));
        }
        for ((_, params), (weights, buffers)) in networks.iter().zip(read) {
            params.set(&weights)?;
            params.set_buffers(buffers)?;
        }
        Ok(())
    }

    /// Weights and buffers as found in `from`, incomplete if this adds to `problems`.
    fn read(
        &self,
        prefix: &str,
        from: &BTreeMap<String, Tensor>,
        problems: &mut Vec<Mismatch>,
    ) -> Result<(Tensor, Vec<f32>)> {
        let mut weights = vec![0.0; self.len()];
        let mut buffers = vec![0.0; self.buffer_count()];
        for entry in self.entries() {
            let name = format!("{prefix}{}", entry.name);
            let Some(tensor) = from.get(&name) else {
                let nearest = nearest(&name, from.keys().map(String::as_str)).map(str::to_owned);
                problems.push(Mismatch::Missing { name, nearest });
                continue;
            };
            if tensor.dims() != entry.shape {
                let (expected, found) = (entry.shape.clone(), tensor.dims().to_vec());
                problems.push(Mismatch::Shape { name, expected, found });
                continue;
            }
            let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let store = match entry.kind {
                Kind::Weight => &mut weights,
                Kind::Buffer => &mut buffers,
            };
            store[entry.offset..entry.offset + values.len()].copy_from_slice(&values);
        }
        Ok((Tensor::from_vec(weights, self.len(), self.device())?, buffers))
    }

    /// The slice of the flat gradient that belongs to `name`, in its original shape; `None` without a gradient.
    pub fn gradient(&self, grads: &GradStore, name: &str) -> Result<Option<Tensor>> {
        let entry = self.entry(name)?;
        if entry.kind == Kind::Buffer {
            bail!("`{name}` is a buffer and has no gradient");
        }
        let Some(flat) = grads.get(&self.0.var) else {
            return Ok(None);
        };
        Ok(Some(
            flat.narrow(0, entry.offset, entry.elements())?
                .reshape(entry.shape.as_slice())?,
        ))
    }

    /// Copies weights and buffers from a network of the same architecture, wherever that is.
    pub fn copy_from(&self, other: &Self) -> Result<()> {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ok(());
        }
        self.same_architecture(other)?;
        self.set(&other.0.var.as_detached_tensor().to_device(self.device())?)?;
        self.set_buffers(other.host_buffers()?)
    }

    /// Moves the weights towards `source` in one pass: `self <- tau * source + (1 - tau) * self`.
    ///
    /// Buffers are left alone, as the target critics this is for have none.
    pub fn soft_update(&self, source: &Self, tau: f32) -> Result<()> {
        if Arc::ptr_eq(&self.0, &source.0) {
            return Ok(());
        }
        self.same_architecture(source)?;
        if self.is_composed() {
            let source = (source.0.var.as_detached_tensor() * f64::from(tau))?;
            return self.set(&(source + (self.0.var.as_detached_tensor() * (1.0 - f64::from(tau)))?)?);
        }
        self.0.var.inplace_op2(&source.0.var, &SoftUpdate(tau))?;
        self.touch();
        Ok(())
    }

    /// An independent copy on the same device.
    pub fn deep_clone(&self) -> Result<Self> {
        if self.is_composed() {
            return self.composed(self.device());
        }
        self.fused()
    }

    fn same_architecture(&self, other: &Self) -> Result<()> {
        if self.0.entries != other.0.entries {
            bail!("the two networks have different architectures");
        }
        Ok(())
    }

    pub(super) fn set(&self, values: &Tensor) -> Result<()> {
        self.0.var.set(values)?;
        self.touch();
        Ok(())
    }

    /// Says that the weights were changed in place.
    pub(crate) fn touch(&self) {
        self.0.version.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of in-place changes so far.
    pub(crate) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Relaxed)
    }

    /// Fails if the weights changed in place since `version`: a backward pass would mix old activations with new
    /// weights.
    pub(crate) fn check_version(&self, version: u64, op: &str) -> Result<()> {
        if self.version() != version {
            bail!("{op}: the weights were changed between the forward and the backward pass");
        }
        Ok(())
    }

    pub(crate) fn buffers(&self) -> MutexGuard<'_, Vec<f32>> {
        self.0.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The buffers of a network whose passes are composed, `[n]`, to be changed in place.
    pub(super) fn composed_buffers(&self) -> Result<&Tensor> {
        match &self.0.composed {
            Some(buffers) => Ok(buffers),
            None => bail!("the network is computed by fused passes"),
        }
    }

    /// A work buffer of at least `len` elements with arbitrary contents, from this network's pool.
    pub(crate) fn take(&self, len: usize) -> Scratch {
        let mut pool = self.0.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest buffer that fits, so that big ones stay free for big requests.
        let best = (0..pool.len())
            .filter(|&i| pool[i].len() >= len)
            .min_by_key(|&i| pool[i].len());
        let data = best.map_or_else(|| vec![0.0; len], |index| pool.swap_remove(index));
        Scratch {
            data,
            len,
            pool: self.clone(),
        }
    }
}

/// A borrowed work buffer; returns to its network's pool when dropped.
pub(crate) struct Scratch {
    data: Vec<f32>,
    len: usize,
    pool: Params,
}

impl std::ops::Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        self.pool
            .0
            .scratch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(data);
    }
}

struct SoftUpdate(f32);

impl InplaceOp2 for SoftUpdate {
    fn name(&self) -> &'static str {
        "soft-update"
    }

    fn cpu_fwd(&self, target: &mut CpuStorage, _: &Layout, source: &CpuStorage, layout: &Layout) -> Result<()> {
        let source = slice_of(source, layout)?;
        kernels::lerp(as_mut(target)?, source, self.0);
        Ok(())
    }
}

/// The `f32` elements of a contiguous CPU storage.
pub(crate) fn slice_of<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("expected a contiguous tensor"),
    }
}

/// The `f32` elements of a CPU storage, to be changed in place.
pub(crate) fn as_mut(storage: &mut CpuStorage) -> Result<&mut [f32]> {
    match storage {
        CpuStorage::F32(values) => Ok(values),
        _ => bail!("expected f32 elements"),
    }
}

/// Runs `read` on the elements of a contiguous CPU tensor.
pub(crate) fn with_slice<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(slice_of(storage, layout)?),
        _ => bail!("expected a CPU tensor"),
    }
}

fn entry_tensor(entry: &Entry, all: &[f32]) -> Result<Tensor> {
    let Some(values) = all.get(entry.offset..entry.offset + entry.elements()) else {
        bail!("`{}` lies outside its network", entry.name)
    };
    Tensor::from_slice(values, entry.shape.as_slice(), &Device::Cpu)
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest
        .map(|name| format!(", the nearest name is `{name}`"))
        .unwrap_or_default()
}

fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|candidate| (strsim::normalized_levenshtein(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
