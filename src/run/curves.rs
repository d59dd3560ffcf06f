//! Learning curves of runs.

use std::path::PathBuf;

use super::{RunError, RunFolder};
use crate::metrics::{read_scalars, series};
use crate::plot::{CurvePlot, Method, curves_svg};
use crate::rng::{Purpose, stream};

/// The curves of `tag` for labelled run folders as an SVG picture: mean over seeds with a bootstrap interval. Without a
/// tag it is what says most of the episodes of the first run: completed elements, or else the first figure of the reward,
/// or else success.
pub fn learning_curves(runs: &[(String, PathBuf)], tag: Option<&str>) -> Result<String, RunError> {
    let chosen = match (tag, runs.first()) {
        (Some(tag), _) => tag.to_owned(),
        (None, Some((_, root))) => headline(&RunFolder::open(root)?)?,
        (None, None) => COMPLETED.to_owned(),
    };
    let tag = chosen.as_str();
    let mut methods = Vec::new();
    for (label, root) in runs {
        methods.push(Method {
            label: label.clone(),
            seeds: seeds(&RunFolder::open(root)?, tag)?,
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

const COMPLETED: &str = "practice/completed";

/// The tag that says most of a run's episodes.
fn headline(run: &RunFolder) -> Result<String, RunError> {
    let Some(folder) = run.learners()?.into_iter().next() else {
        return Ok(COMPLETED.to_owned());
    };
    let rows = read_scalars(&folder)?;
    let found = series(&rows);
    let figure = || found.keys().find(|tag| tag.starts_with("practice/figures/"));
    let success = || found.keys().find(|tag| **tag == "practice/success");
    Ok(match found.contains_key(COMPLETED) {
        true => COMPLETED.to_owned(),
        false => figure()
            .or_else(success)
            .map_or(COMPLETED.to_owned(), |tag| (*tag).to_owned()),
    })
}

fn seeds(run: &RunFolder, tag: &str) -> Result<Vec<Vec<(f64, f64)>>, RunError> {
    let mut curves = Vec::new();
    for folder in &run.learners()? {
        let rows = read_scalars(folder)?;
        let mut found = series(&rows);
        match found.remove(tag) {
            Some(curve) => curves.push(curve),
            None => {
                let names: Vec<&str> = found.keys().copied().collect();
                let practised = "metrics of episodes are there once one has ended, those of evaluations only with \
                                 evaluation.every above 0";
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
            run.root().display()
        )));
    }
    Ok(curves)
}
