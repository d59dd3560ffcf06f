//! `apprentice plot`: learning curves.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, print};
use crate::files::write_with_folders;
use crate::run;

/// Draw the learning curves of runs into one picture: mean over seeds with a bootstrap interval.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Folders of runs or of sweeps, which have a curve for each variant; `LABEL=FOLDER` names a curve.
    #[arg(required = true, value_name = "[LABEL=]FOLDER")]
    runs: Vec<String>,
    /// What to draw: a tag of the metrics [default: what says most of an episode, such as practice/completed].
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// SVG file to write.
    #[arg(long, value_name = "FILE", default_value = "learning.svg")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if arguments.out.extension().is_none_or(|extension| extension != "svg") {
        return Err(format!(
            "{}: pictures are SVG; expected a name that ends in .svg",
            arguments.out.display()
        )
        .into());
    }
    let mut runs = Vec::new();
    for text in &arguments.runs {
        runs.extend(run::labelled_runs(text)?);
    }
    let mut labels = BTreeSet::new();
    if let Some((label, _)) = runs.iter().find(|(label, _)| !labels.insert(label)) {
        return Err(format!("two runs are called `{label}`; expected different labels (LABEL=FOLDER)").into());
    }
    let picture = run::learning_curves(&runs, arguments.tag.as_deref())?;
    let out = arguments.out.display();
    write_with_folders(&arguments.out, picture.as_bytes()).map_err(|error| format!("{out}: cannot write: {error}"))?;
    print(format_args!("{out}"))?;
    Ok(ExitCode::SUCCESS)
}
