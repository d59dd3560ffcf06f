//! Learning curves of runs.

use std::path::{Path, PathBuf};

use super::{RunError, RunFolder};
use crate::metrics::{read_scalars, series};
use crate::plot::{CurvePlot, Method, curves_svg};
use crate::rng::{Purpose, stream};

/// The curves of `tag` for labelled run folders as an SVG picture: mean over seeds with a bootstrap interval.
pub fn learning_curves(runs: &[(String, PathBuf)], tag: &str) -> Result<String, RunError> {
    let mut methods = Vec::new();
    for (label, root) in runs {
        RunFolder::open(root)?;
        methods.push(Method {
            label: label.clone(),
            seeds: seeds(root, tag)?,
        });
    }
    let plot = CurvePlot {
        title: String::new(),
        x_label: "environment steps".into(),
        y_label: tag.rsplit('/').next().unwrap_or(tag).into(),
        ..CurvePlot::default()
    };
    Ok(curves_svg(&plot, &methods, &mut stream(0, Purpose::Bootstrap, 0, 0))?)
}

fn seeds(root: &Path, tag: &str) -> Result<Vec<Vec<(f64, f64)>>, RunError> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("seed_"))
        })
        .collect();
    folders.sort();
    let mut curves = Vec::new();
    for folder in &folders {
        let rows = read_scalars(folder)?;
        let mut found = series(&rows);
        match found.remove(tag) {
            Some(curve) => curves.push(curve),
            None => {
                let names: Vec<&str> = found.keys().copied().collect();
                let practised = "metrics of episodes are there once one has ended";
                return Err(RunError::Experiment(format!(
                    "{}: no metric `{tag}` ({practised}); there are: {}",
                    folder.display(),
                    names.join(", ")
                )));
            }
        }
    }
    if curves.is_empty() {
        return Err(RunError::Experiment(format!(
            "{}: no learner has practised here yet",
            root.display()
        )));
    }
    Ok(curves)
}
