//! Where scene and experiment files are found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{FileError, choices, nearest};

/// What a file describes, and so in which folder it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A scene, in `scenes/`.
    Scene,
    /// An experiment, in `configs/`.
    Experiment,
}

impl FileKind {
    /// The folder of this kind below each root.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Scene => "scenes",
            Self::Experiment => "configs",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Scene => "scene",
            Self::Experiment => "experiment",
        }
    }
}

/// Folders below which `scenes/` and `configs/` are looked for, in order: the current folder, the project this program
/// was built from, and the folder of the executable.
pub fn roots() -> Vec<PathBuf> {
    let built_from = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    let beside = std::env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Path::to_path_buf));
    let mut roots = vec![PathBuf::new()];
    let mut seen: BTreeSet<PathBuf> = std::env::current_dir().into_iter().collect();
    for root in [built_from, beside].into_iter().flatten() {
        if seen.insert(root.clone()) {
            roots.push(root);
        }
    }
    roots
}

/// Names of all files of a kind below `roots`, with their paths. The first root that has a name wins.
pub fn list(kind: FileKind, roots: &[PathBuf]) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for root in roots {
        collect(&root.join(kind.folder()), "", 0, &mut found);
    }
    found
}

fn collect(folder: &Path, prefix: &str, depth: usize, found: &mut BTreeMap<String, PathBuf>) {
    // Bounds that no sensible set of files reaches: a link back to a parent folder must not loop.
    if depth > 4 || found.len() > 10_000 {
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        let name = if prefix.is_empty() {
            stem.to_owned()
        } else {
            format!("{prefix}/{stem}")
        };
        if path.is_dir() {
            collect(&path, &name, depth + 1, found);
        } else if path.extension().is_some_and(|extension| extension == "ron") {
            found.entry(name).or_insert(path);
        }
    }
}

/// The file meant by `name`: a path (with or without `.ron`, relative to the asking file or the current folder), or the
/// name of a file in the folder of its kind. A file that asks for its own name means another one if there is one, so a
/// user's `kitchen` can extend the `kitchen` that comes with the program.
pub(super) fn find(kind: FileKind, name: &str, asking: Option<&Path>, roots: &[PathBuf]) -> Result<PathBuf, FileError> {
    if name.trim().is_empty() {
        return Err(FileError::plain(format!("the name of the {} is empty", kind.noun())));
    }
    let file_name = if name.ends_with(".ron") {
        name.to_owned()
    } else {
        format!("{name}.ron")
    };
    let beside = asking.and_then(Path::parent).map(|folder| folder.join(&file_name));
    let by_kind = roots.iter().map(|root| root.join(kind.folder()).join(&file_name));
    let candidates = beside.into_iter().chain([PathBuf::from(&file_name)]).chain(by_kind);
    let found: Vec<PathBuf> = candidates.filter(|path| path.is_file()).collect();
    let other = found
        .iter()
        .find(|path| asking.is_none_or(|asking| !same_file(path, asking)));
    if let Some(path) = other.or(found.first()) {
        return Ok(path.clone());
    }
    if is_path(name) {
        return Err(no_such_file(kind, name, asking, roots));
    }
    let known = list(kind, roots);
    let wanted = name;
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    // A near whole name, else the shortest one with the nearest last part (`kitchen/spirl_cl` for `spirl_cl`).
    let hint = nearest(wanted, known.keys().map(String::as_str))
        .map(str::to_owned)
        .or_else(|| {
            let lasts: BTreeSet<String> = known.keys().map(|name| last(name)).collect();
            let near = nearest(&last(wanted), lasts.iter().map(String::as_str))?;
            known
                .keys()
                .filter(|name| last(name) == near)
                .min_by_key(|name| name.len())
                .cloned()
        });
    let names: Vec<&str> = known.keys().map(String::as_str).take(40).collect();
    let hint = match hint {
        Some(name) => format!("; did you mean `{name}`?"),
        None if names.is_empty() => format!(" (there are none in {})", folders(kind, roots)),
        None => format!(" (there are: {})", names.join(", ")),
    };
    Err(FileError::plain(format!("no {} `{name}`{hint}", kind.noun())))
}

/// Whether a name is meant for a path, and not for the name of something in the folder of its kind.
fn is_path(name: &str) -> bool {
    name.ends_with(".ron") || Path::new(name).is_absolute() || name.starts_with("./") || name.starts_with("../")
}

/// There is no file at a path: what is near in its folder, else the name that was probably meant.
fn no_such_file(kind: FileKind, name: &str, asking: Option<&Path>, roots: &[PathBuf]) -> FileError {
    let fail = |said: String| FileError::plain(format!("no {} `{name}`: {said}", kind.noun()));
    let path = Path::new(name);
    if path.is_dir() {
        return fail("this is a folder, not a file".into());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    let beside = asking.and_then(Path::parent).map(|folder| folder.join(parent));
    let here = match parent.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => parent.to_path_buf(),
    };
    let Some(folder) = beside.into_iter().chain([here]).find(|folder| folder.is_dir()) else {
        return fail(format!("there is no folder {}", parent.display()));
    };
    let mut files: Vec<String> = (std::fs::read_dir(&folder).into_iter().flatten().flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|file| file.ends_with(".ron"))
        .collect();
    files.sort();
    let file = path.file_name().map(|file| file.to_string_lossy()).unwrap_or_default();
    let near_file =
        nearest(&file, files.iter().map(String::as_str)).map(|near| parent.join(near).display().to_string());
    let known = list(kind, roots);
    let near = near_file
        .or_else(|| nearest(name.trim_end_matches(".ron"), known.keys().map(String::as_str)).map(str::to_owned));
    fail(match near {
        Some(near) => format!("there is no such file; did you mean `{near}`?"),
        None if files.is_empty() => "there is no such file".to_owned(),
        None => format!("there is no such file{}", choices(files.iter().map(String::as_str))),
    })
}

/// Whether two names of this kind, as [`load`](super::load) takes them, lead to one file now.
pub fn means_the_same(kind: FileKind, one: &str, other: &str) -> bool {
    let roots = roots();
    let found = |name: &str| find(kind, name, None, &roots).ok();
    matches!((found(one), found(other)), (Some(one), Some(other)) if same_file(&one, &other))
}

/// True when two paths lead to one file.
pub(super) fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn folders(kind: FileKind, roots: &[PathBuf]) -> String {
    let shown: Vec<String> = roots
        .iter()
        .map(|root| root.join(kind.folder()).display().to_string())
        .collect();
    shown.join(", ")
}
