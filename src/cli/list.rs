//! `apprentice list`: the scenes and experiments there are.

use std::process::ExitCode;

use super::{Failure, print};
use crate::experiment::Experiment;
use crate::files::{self, FileKind};
use crate::scene::Scene;

/// List the scenes and experiments there are, with their files; `scenes list` and `experiments list` say more of each.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments) -> Result<ExitCode, Failure> {
    let roots = files::roots();
    for (title, kind) in [("Scenes", FileKind::Scene), ("Experiments", FileKind::Experiment)] {
        print(format_args!("{title}"))?;
        for (name, path) in files::list(kind, &roots) {
            // A file that cannot be read is listed all the same; using it says why.
            let path_text = path.display().to_string();
            let about = match kind {
                FileKind::Scene => Scene::load(&path_text).ok().map(|scene| scene.description),
                FileKind::Experiment => {
                    let loaded = Experiment::load(&path_text, &[]).ok();
                    loaded.map(|loaded| loaded.value.description)
                }
            };
            let about = about.unwrap_or_default();
            print(format_args!(
                "{}",
                format!("  {name:<32} {path_text}  {about}").trim_end()
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
