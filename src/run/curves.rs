//! Learning curves of runs.

use std::path::PathBuf;

use super::{RunError, RunFolder, load_scene};
use crate::evaluate::Measures;
use crate::metrics::{read_scalars, series};
use crate::plot::{CurvePlot, Method, curves_svg};
use crate::rng::{Purpose, stream};

const COMPLETED: &str = "practice/completed";

/// The curves of `tag` for labelled run folders as an SVG picture: mean over seeds with a bootstrap interval. Without a
/// tag it is what says most of the episodes of the first run: completed elements, or else the first figure of the reward,
/// or else success.
pub fn learning_curves(runs: &[(String, PathBuf)], tag: Option<&str>) -> Result<String, RunError> {
    let chosen = match (tag, runs.first()) {
        (Some(tag), _) => tag.to_owned(),
        (None, Some((_, root))) => headline(&RunFolder::open(root)?),
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

/// The tag that says most of a run's episodes.
fn headline(run: &RunFolder) -> String {
    let scene = run.experiment(&[]);
    let scene = scene.and_then(|experiment| load_scene(&experiment));
    // A run whose scene is not at hand is most likely one of the kitchen.
    scene.map_or(COMPLETED.to_owned(), |scene| {
        format!("practice/{}", Measures::of(&scene).headline_name())
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
