//! Reading weights that others trained: `PyTorch` checkpoints and safetensors files, by their original tensor names.
//!
//! `PyTorch` files are pickles. They are read by a parser that builds plain values and never runs what a file names
//! (candle's), both in the zip form of `PyTorch` 1.6 and later and in the older stream form, in which checkpoints from
//! the `PyTorch` version of `SPiRL`'s first years are written. A training checkpoint
//! `{epoch, global_step, state_dict, optimizer}` is entered at `state_dict`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::pickle::{Object, PthTensors, Stack};
use candle_core::{Device, Tensor};

use super::bc::{Bc, BcConfig};
use super::policy::IN_SEQUENCE;
use super::prior::PriorKind;
use super::spirl::{DecoderKind, Spirl, SpirlConfig};
use super::weights::one_name_each;
use super::{PixelDims, Result, SkillDims, SkillError};
use crate::nn::Norm;
use crate::pretraining::Pretrain;
use crate::rng::{self, Purpose};

/// Tensors of a model by name.
pub type Weights = BTreeMap<String, Tensor>;

/// The dictionary entry of a training checkpoint that holds the weights.
const STATE_DICT: &str = "state_dict";
/// First bytes of a `PyTorch` file older than version 1.6: a pickled magic number.
const STREAM_MAGIC: [u8; 15] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e,
];

/// A model built from weights.
pub enum ImportedModel {
    /// `SPiRL` skill model, open or closed loop.
    Spirl(Box<Spirl>),
    /// Flat single-step prior.
    Bc(Box<Bc>),
}

/// Result of [`import_model`].
pub struct Imported {
    /// The model, in evaluation-ready state.
    pub model: ImportedModel,
    /// Tensors of the file that no part of the model uses.
    pub unused: Vec<String>,
}

/// Reads all tensors of a `.pth`, `.pt` or `.safetensors` file; the contents decide, not the name.
///
/// # Errors
/// If the file cannot be read, is neither kind, or holds no tensors.
pub fn read_weights(path: &Path) -> Result<Weights> {
    let fail = |reason: String| SkillError::File {
        path: path.display().to_string(),
        reason,
    };
    let mut head = [0_u8; 15];
    let count = {
        let mut file = File::open(path).map_err(|error| fail(error.to_string()))?;
        read_up_to(&mut file, &mut head).map_err(|error| fail(error.to_string()))?
    };
    let head = head.get(..count).unwrap_or_default();
    let weights = if head.starts_with(b"PK") {
        read_zip(path)
    } else if head == STREAM_MAGIC {
        read_stream(path)
    } else if head.get(8) == Some(&b'{') {
        candle_core::safetensors::load(path, &Device::Cpu).map(|tensors| tensors.into_iter().collect())
    } else {
        return Err(fail("neither a PyTorch checkpoint nor a safetensors file".into()));
    };
    let weights = weights.map_err(|error| fail(error.to_string()))?;
    if weights.is_empty() {
        return Err(fail(
            "no tensors found, neither at the top nor below `state_dict`".into(),
        ));
    }
    Ok(weights)
}

/// Builds the model that a set of weights belongs to and loads them.
///
/// Which model it is and all its sizes follow from names and shapes. What shapes do not tell (skill length, loss
/// weights, switches) comes from `settings` and is only checked where it must fit.
///
/// # Errors
/// If the weights belong to no known model, or a tensor is missing or has another shape.
pub fn import_model(weights: &Weights, settings: &SpirlConfig) -> Result<Imported> {
    let weights = one_name_each(weights);
    // Fresh weights are overwritten at once, so their seed does not matter.
    let mut rng = rng::stream(0, Purpose::Weights, 0, 0);
    let flat = ["net.input.linear.weight", "net.3.input.linear.weight"];
    let (model, parts) = if flat.iter().any(|name| weights.contains_key(*name)) {
        let (config, dims) = infer_bc(&weights)?;
        let mut model = Bc::new(config, dims, &mut rng)?;
        model.import(&weights)?;
        let used = names(&model.parts());
        (ImportedModel::Bc(Box::new(model)), used)
    } else {
        let (config, dims) = infer_spirl(&weights, settings)?;
        let mut model = Spirl::new(config, dims, &mut rng)?;
        model.import(&weights)?;
        let used = names(&model.parts());
        (ImportedModel::Spirl(Box::new(model)), used)
    };
    let unused = weights
        .keys()
        .filter(|name| !parts.contains(*name) && !is_bookkeeping(name))
        .cloned()
        .collect();
    Ok(Imported { model, unused })
}

fn names(parts: &[(String, &crate::nn::Params)]) -> BTreeSet<String> {
    parts
        .iter()
        .flat_map(|(prefix, params)| {
            params
                .entries()
                .iter()
                .map(move |entry| format!("{prefix}{}", entry.name))
        })
        .collect()
}

/// Names that stand in every checkpoint and mean nothing to a model: batch counters of the normalisation layers, and
/// the closed-loop model's unused scalar.
fn is_bookkeeping(name: &str) -> bool {
    name.ends_with(".num_batches_tracked") || name == "log_sigma" || name.starts_with("standardise.")
}

// ------------------------------------------------------------------------------------------------ settings from shapes

/// Sizes of a flat prior from its weights. Those of one that sees pictures say nothing of numbers: then
/// [`SkillDims::state`] is 0.
pub fn infer_bc(weights: &Weights) -> Result<(BcConfig, SkillDims)> {
    let (eye, prefix) = EyeShape::read(weights, "net.")?;
    let net = MlpShape::read(weights, &prefix)?;
    let config = BcConfig {
        width: net.width,
        hidden_layers: net.hidden,
        norm: net.norm,
        conv_width: eye.map_or(BcConfig::default().conv_width, |eye| eye.width),
        standardise: weights.contains_key("standardise.mean"),
        ..BcConfig::default()
    };
    Ok((
        config,
        SkillDims {
            state: if eye.is_some() { 0 } else { net.input },
            action: net.output / 2,
            pixels: eye.map(|eye| eye.pixels),
        },
    ))
}

/// Sizes of a `SPiRL` skill model from its weights; everything else from `settings`. The weights of a model that sees
/// pictures say nothing of numbers: then [`SkillDims::state`] is 0.
pub fn infer_spirl(weights: &Weights, settings: &SpirlConfig) -> Result<(SpirlConfig, SkillDims)> {
    if !weights.contains_key("q.0.cell.embed.weight") {
        let some: Vec<&str> = weights.keys().take(5).map(String::as_str).collect();
        return Err(SkillError::Weights(vec![format!(
            "neither a skill model (`q.0.cell.embed.weight`) nor a flat prior (`net.input.linear.weight`); the names \
             begin with {}",
            some.join(", ")
        )]));
    }
    let (eye, prior_prefix) = EyeShape::read(weights, "p.0.")?;
    let prior_part = |name: &str| format!("{prior_prefix}{name}");
    let (lstm_width, posterior_input) = matrix(weights, "q.0.cell.embed.weight")?;
    let (double_latent, encoder_output) = matrix(weights, "q.1.weight")?;
    let latent = double_latent / 2;

    let (prior, prior_net, mixture_features) = if weights.contains_key(&prior_part("_cond_net.input.linear.weight")) {
        (
            PriorKind::Flow,
            MlpShape::read(weights, &prior_part("_cond_net."))?,
            settings.mixture_features,
        )
    } else if weights.contains_key(&prior_part("1.mu.weight")) {
        let net = MlpShape::read(weights, &prior_part("0."))?;
        let (components, features) = matrix(weights, &prior_part("1.pi.0.weight"))?;
        (PriorKind::Gmm { components }, net, features)
    } else {
        (
            PriorKind::Gauss,
            MlpShape::read(weights, &prior_prefix)?,
            settings.mixture_features,
        )
    };
    let members = count(weights, "p.", ".");

    let closed = weights.contains_key("decoder.input.linear.weight");
    let (action, decoder_hidden_layers) = if closed {
        let net = MlpShape::read(weights, "decoder.")?;
        (net.output, net.hidden)
    } else {
        (
            matrix(weights, "decoder.cell.output.weight")?.0,
            settings.decoder_hidden_layers,
        )
    };
    let auto_beta = if weights.contains_key("_log_beta.t") {
        Some(settings.auto_beta.unwrap_or_default())
    } else {
        None
    };
    let dims = SkillDims {
        state: if eye.is_some() { 0 } else { prior_net.input },
        action,
        pixels: eye.map(|eye| eye.pixels),
    };
    let conditioned_start = weights.contains_key("decoder_input_initalizer.input.linear.weight");
    let expected = if closed || conditioned_start {
        action + prior_net.input
    } else {
        action
    };
    if posterior_input != expected {
        return Err(SkillError::Weights(vec![format!(
            "tensor `q.0.cell.embed.weight` has {posterior_input} inputs, expected {expected} for {action} action and \
             {} {} numbers",
            prior_net.input,
            if eye.is_some() { "encoded" } else { "state" }
        )]));
    }
    let config = SpirlConfig {
        decoder: if closed {
            DecoderKind::ClosedLoop
        } else {
            DecoderKind::OpenLoop
        },
        latent,
        encoder_output,
        lstm_width,
        lstm_layers: count(weights, "q.0.cell.lstm.", ".weight_ih"),
        width: prior_net.width,
        decoder_hidden_layers,
        prior_hidden_layers: prior_net.hidden,
        norm: prior_net.norm,
        conv_width: eye.map_or(settings.conv_width, |eye| eye.width),
        conv_features: if eye.is_some() {
            prior_net.input
        } else {
            settings.conv_features
        },
        conditioned_start,
        standardise: weights.contains_key("standardise.mean"),
        auto_beta,
        prior,
        mixture_features,
        prior_members: members,
        ..settings.clone()
    };
    Ok((config, dims))
}

/// Sizes of a convolutional encoder.
#[derive(Clone, Copy)]
struct EyeShape {
    pixels: PixelDims,
    width: usize,
}

impl EyeShape {
    /// The encoder of the network below `prefix`, if it has one, and the prefix of what is behind it.
    fn read(weights: &Weights, prefix: &str) -> Result<(Option<Self>, String)> {
        let encoder = format!("{prefix}{IN_SEQUENCE}");
        let name = format!("{encoder}input.conv.weight");
        let problem = match weights.get(&name).map(Tensor::dims) {
            None => return Ok((None, prefix.to_owned())),
            Some([width, channels, 4, 4]) if channels % 3 == 0 && *channels > 0 => {
                // Pictures of 8 by 8 pixels need no layer between the first and the last one.
                let layers = count(weights, &format!("{encoder}pyramid-"), ".conv.weight");
                let pixels = PixelDims {
                    frames: channels / 3,
                    size: 8 << layers.min(LARGEST),
                };
                return Ok((Some(Self { pixels, width: *width }), format!("{prefix}3.")));
            }
            Some(other) => other,
        };
        Err(SkillError::Weights(vec![format!(
            "tensor `{name}` has shape {problem:?}, expected [any, a multiple of 3, 4, 4]"
        )]))
    }
}

/// Most layers between the first and the last one of an encoder.
const LARGEST: usize = 8;

/// Sizes of a multi-layer perceptron.
struct MlpShape {
    input: usize,
    width: usize,
    output: usize,
    hidden: usize,
    norm: Norm,
}

impl MlpShape {
    fn read(weights: &Weights, prefix: &str) -> Result<Self> {
        let (width, input) = matrix(weights, &format!("{prefix}input.linear.weight"))?;
        let (output, _) = matrix(weights, &format!("{prefix}head.linear.weight"))?;
        let hidden = count(weights, &format!("{prefix}pyramid-"), ".linear.weight");
        let plain = hidden > 0 && !weights.contains_key(&format!("{prefix}pyramid-0.norm.weight"));
        let norm = if plain { Norm::None } else { Norm::Batch };
        Ok(Self {
            input,
            width,
            output,
            hidden,
            norm,
        })
    }
}

/// Rows and columns of a weight matrix.
fn matrix(weights: &Weights, name: &str) -> Result<(usize, usize)> {
    let problem = match weights.get(name).map(Tensor::dims) {
        Some([rows, columns]) => return Ok((*rows, *columns)),
        Some(other) => format!("tensor `{name}` has shape {other:?}, expected a matrix"),
        None => format!("no tensor `{name}`"),
    };
    Err(SkillError::Weights(vec![problem]))
}

/// How many numbers stand between `before` and `after` in the names.
fn count(weights: &Weights, before: &str, after: &str) -> usize {
    let numbers: BTreeSet<usize> = weights
        .keys()
        .filter_map(|name| {
            let rest = name.strip_prefix(before)?;
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let (number, rest) = rest.split_at(digits);
            rest.starts_with(after).then(|| number.parse().ok()).flatten()
        })
        .collect();
    numbers.len()
}

// ------------------------------------------------------------------------------------------------------ PyTorch files

/// `PyTorch` 1.6 and later: a zip archive with a pickle and one member per storage.
fn read_zip(path: &Path) -> candle_core::Result<Weights> {
    // The reader reports a missing key as an error; a bare state dictionary has none.
    let tensors = match PthTensors::new(path, Some(STATE_DICT)) {
        Ok(tensors) if !tensors.tensor_infos().is_empty() => tensors,
        _ => PthTensors::new(path, None)?,
    };
    let mut weights = Weights::new();
    for name in tensors.tensor_infos().keys() {
        if let Some(tensor) = tensors.get(name)? {
            weights.insert(name.clone(), tensor);
        }
    }
    Ok(weights)
}

/// `PyTorch` before 1.6: five pickles (magic number, version, system, object, storage keys), then every storage as an
/// element count and its bytes, in the order of the keys.
fn read_stream(path: &Path) -> candle_core::Result<Weights> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(STREAM_MAGIC.len() as u64))?;
    let mut reader = BufReader::new(file);
    let mut pickle = || -> candle_core::Result<Object> {
        let mut stack = Stack::empty();
        stack.read_loop(&mut reader)?;
        stack.finalize()
    };
    let (_version, _system, object, keys) = (pickle()?, pickle()?, pickle()?, pickle()?);

    let mut widths = HashMap::new();
    collect_storages(&object, &mut widths);
    let mut storages = HashMap::new();
    let Object::List(keys) = keys else {
        candle_core::bail!("the list of storages is missing")
    };
    for key in keys {
        let Object::Unicode(key) = key else {
            candle_core::bail!("a storage has no name")
        };
        let Some(width) = widths.get(&key) else {
            candle_core::bail!("storage {key} is of an unknown type")
        };
        let mut elements = [0_u8; 8];
        reader.read_exact(&mut elements)?;
        let bytes = u64::from_le_bytes(elements)
            .checked_mul(*width)
            .filter(|bytes| *bytes <= size);
        let Some(bytes) = bytes else {
            candle_core::bail!("storage {key} is longer than the file")
        };
        let mut data = vec![0; bytes as usize];
        reader.read_exact(&mut data)?;
        storages.insert(key, data);
    }

    let Object::Dict(entries) = object else {
        candle_core::bail!("not a dictionary of tensors")
    };
    let inner = entries
        .iter()
        .position(|(key, _)| *key == Object::Unicode(STATE_DICT.into()));
    let mut entries = entries;
    let entries = match inner.map(|index| entries.swap_remove(index).1) {
        Some(Object::Dict(inner)) => inner,
        Some(_) => candle_core::bail!("`{STATE_DICT}` is not a dictionary of tensors"),
        None => entries,
    };
    let mut weights = Weights::new();
    for (name, value) in entries {
        let Some(info) = value.into_tensor_info(name, Path::new(""))? else {
            continue;
        };
        let key = info.path.trim_start_matches('/');
        let width = info.dtype.size_in_bytes();
        // The reader gives the start in bytes.
        let start = info.layout.start_offset();
        let end = start + info.layout.shape().elem_count() * width;
        let Some(data) = storages.get(key).and_then(|data| data.get(start..end)) else {
            candle_core::bail!("tensor {} lies outside its storage", info.name)
        };
        if !info.layout.is_contiguous() {
            candle_core::bail!("tensor {} is not contiguous", info.name)
        }
        let tensor = Tensor::from_raw_buffer(data, info.dtype, info.layout.dims(), &Device::Cpu)?;
        weights.insert(info.name, tensor);
    }
    Ok(weights)
}

/// Element widths in bytes of all storages an object refers to, by storage key.
fn collect_storages(object: &Object, out: &mut HashMap<String, u64>) {
    match object {
        // ("storage", type, key, location, elements, view)
        Object::PersistentLoad(id) => {
            if let Object::Tuple(id) = &**id
                && let [_, Object::Class { class_name, .. }, Object::Unicode(key), ..] = id.as_slice()
                && let Some(width) = storage_width(class_name)
            {
                out.insert(key.clone(), width);
            }
        }
        Object::Tuple(items) | Object::List(items) => {
            for item in items {
                collect_storages(item, out);
            }
        }
        Object::Dict(items) => {
            for (key, value) in items {
                collect_storages(key, out);
                collect_storages(value, out);
            }
        }
        Object::Reduce { callable, args } | Object::Build { callable, args } => {
            collect_storages(callable, out);
            collect_storages(args, out);
        }
        _ => {}
    }
}

fn storage_width(class_name: &str) -> Option<u64> {
    Some(match class_name {
        "DoubleStorage" | "LongStorage" => 8,
        "FloatStorage" | "IntStorage" => 4,
        "HalfStorage" | "BFloat16Storage" | "ShortStorage" => 2,
        "ByteStorage" | "CharStorage" | "BoolStorage" => 1,
        _ => return None,
    })
}

/// Fills `buffer` as far as the file goes.
fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
