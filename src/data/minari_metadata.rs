//! What a Minari dataset says about itself: `metadata.json`, its spaces, its name.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Description;
use super::minari::PIXELS;
use super::target::Target;

/// The file beside the episodes.
pub(super) const METADATA_FILE: &str = "metadata.json";

/// Largest metadata that are read, bytes.
const LARGEST: u64 = 16 << 20;

/// Version of Minari whose datasets ours are; later ones read them, too.
const VERSION: &str = "0.5.0";

/// The first version that reads large pictures as they are; earlier ones take them for JPEG files.
const VERSION_FOR_PICTURES: &str = "0.5.4";

/// From this height and width on Minari calls an array of bytes a picture.
const PICTURE_FROM: usize = 32;

/// What is made anew for every dataset, or is not text.
pub(super) const COMPUTED: [&str; 9] = [
    "dataset_id",
    "total_episodes",
    "total_steps",
    "dataset_size",
    "data_format",
    "jpeg_encoding",
    "minari_version",
    "observation_space",
    "action_space",
];

/// What Minari expects to be lists of texts.
const LISTS: [&str; 5] = [
    "author",
    "author_email",
    "requirements",
    "combined_datasets",
    "elements",
];

/// What Minari expects to be numbers.
const NUMBERS: [&str; 3] = ["ref_min_score", "ref_max_score", "num_episodes_average_score"];

/// The metadata in the folder `data` of a dataset, as text; `None` if there are none. The spaces and what is neither
/// text nor a number is left out.
///
/// # Errors
/// Why they cannot be read.
pub(super) fn read(data: &Path) -> Result<Option<BTreeMap<String, String>>, String> {
    let path = data.join(METADATA_FILE);
    let Ok(size) = path.metadata() else {
        return Ok(None);
    };
    if !size.is_file() || size.len() > LARGEST {
        let bytes = size.len();
        return Err(format!("it should be a file of at most {LARGEST} bytes, found {bytes}"));
    }
    let text = std::fs::read(&path).map_err(|error| error.to_string())?;
    let found: Map<String, Value> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let kept = found
        .into_iter()
        .filter(|(name, _)| !["observation_space", "action_space", "jpeg_encoding"].contains(&name.as_str()));
    Ok(Some(
        kept.filter_map(|(name, value)| Some((name, plain(&value)?))).collect(),
    ))
}

/// A value as text; lists as `a, b`.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            Some(items?.join(", "))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// What the spaces of a dataset depend on.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Whether an action lies outside of -1 to 1.
    pub unbounded: bool,
    /// Height and width of the pictures.
    pub pictures: Option<[usize; 2]>,
}

/// The text of `metadata.json` for the dataset `id`, whose file with the episodes has so many bytes.
pub(super) fn text(description: &Description, id: &str, target: &Target, contents: &Contents, bytes: u64) -> String {
    let vector = space("float32", &[target.observation_dim], ["-Infinity", "Infinity"]);
    let observations = match contents.pictures {
        None => vector,
        Some([height, width]) => {
            let pictures = space("uint8", &[height, width, 3], ["0", "255"]);
            format!(r#"{{"type": "Dict", "subspaces": {{"observation": {vector}, "{PIXELS}": {pictures}}}}}"#)
        }
    };
    let limits = match contents.unbounded {
        true => ["-Infinity", "Infinity"],
        false => ["-1.0", "1.0"],
    };
    let large = (contents.pictures).is_some_and(|[height, width]| height >= PICTURE_FROM && width >= PICTURE_FROM);
    let mut all = described(description);
    for (name, value) in [
        ("dataset_id", json!(id)),
        ("total_episodes", json!(target.episodes)),
        ("total_steps", json!(target.steps)),
        // In megabytes, with one decimal.
        ("dataset_size", json!((bytes as f64 / 1e5).round() / 10.0)),
        ("data_format", json!("hdf5")),
        ("jpeg_encoding", json!(false)),
        (
            "minari_version",
            json!(if large { VERSION_FOR_PICTURES } else { VERSION }),
        ),
        ("observation_space", json!(observations)),
        ("action_space", json!(space("float32", &[target.action_dim], limits))),
    ] {
        all.insert(name.to_owned(), value);
    }
    // Without the newline at the end, as Python writes it.
    Value::Object(all).to_string()
}

/// The description, with the types that Minari expects.
fn described(description: &Description) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, text) in &description.more {
        let value = if COMPUTED.contains(&name.as_str()) {
            continue;
        } else if LISTS.contains(&name.as_str()) {
            json!(text.split(", ").collect::<Vec<_>>())
        } else if NUMBERS.contains(&name.as_str()) {
            match serde_json::from_str::<Value>(text) {
                Ok(number @ Value::Number(_)) => number,
                _ => continue,
            }
        } else {
            json!(text)
        };
        all.insert(name.clone(), value);
    }
    all.insert("layout".to_owned(), json!("Minari"));
    all.insert("scene".to_owned(), json!(description.scene));
    all.insert("demonstrator".to_owned(), json!(description.demonstrator));
    all.insert("seed".to_owned(), json!(description.seed));
    all.insert(
        "version".to_owned(),
        json!(concat!("apprentice ", env!("CARGO_PKG_VERSION"))),
    );
    if !description.elements.is_empty() {
        all.insert("elements".to_owned(), json!(description.elements));
    }
    all
}

/// A space of type `Box`. Its limits are Python's, which plain JSON does not know.
fn space(kind: &str, shape: &[usize], limits: [&str; 2]) -> String {
    let nested = |limit: &str| {
        let wrap = |inner: String, &side: &usize| format!("[{}]", vec![inner; side].join(", "));
        shape.iter().rev().fold(limit.to_owned(), wrap)
    };
    let [low, high] = limits.map(nested);
    format!(r#"{{"type": "Box", "dtype": "{kind}", "shape": {shape:?}, "low": {low}, "high": {high}}}"#)
}

/// The name by which Minari knows the dataset in the folder `path`: its path below the folder of all datasets, if it is
/// there, and otherwise its own name.
///
/// # Errors
/// What is wrong with the name.
pub(super) fn dataset_id(path: &Path, all_datasets: Option<&Path>) -> Result<String, String> {
    let valid = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let versioned = |name: &str| {
        let (start, version) = name.rsplit_once("-v")?;
        let digits = !version.is_empty() && version.chars().all(|c| c.is_ascii_digit());
        (digits && valid(start)).then_some(())
    };
    if versioned(name).is_none() {
        let letters: String = name
            .chars()
            .take_while(|&c| c != '.')
            .filter(|c| valid(&c.to_string()))
            .collect();
        let near = if letters.is_empty() { "demonstrations" } else { &letters };
        return Err(format!(
            "expected a folder whose name consists of letters, digits, `_` and `-` and ends in a version, as Minari wants \
             it, such as `{near}-v0`; found `{name}`"
        ));
    }
    let absolute = |path: &Path| std::path::absolute(path).ok();
    let below = all_datasets
        .and_then(absolute)
        .zip(absolute(path))
        .and_then(|(all, path)| Some(path.strip_prefix(all).ok()?.to_owned()));
    let parts: Option<Vec<&str>> = below.as_deref().map_or(Some(Vec::new()), |below| {
        below
            .iter()
            .map(|part| part.to_str().filter(|part| valid(part)))
            .collect()
    });
    match parts {
        Some(parts) if parts.len() > 1 => Ok(parts.join("/")),
        Some(_) => Ok(name.to_owned()),
        None => {
            Err("folders between Minari's own and the dataset have names of letters, digits, `_` and `-`".to_owned())
        }
    }
}

/// The folder in which Minari looks for datasets.
pub(super) fn all_datasets() -> Option<std::path::PathBuf> {
    match std::env::var_os("MINARI_DATASETS_PATH") {
        Some(path) => Some(path.into()),
        None => Some(std::env::home_dir()?.join(".minari").join("datasets")),
    }
}
