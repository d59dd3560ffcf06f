//! `apprentice rollout`: judge a skill model before any learning.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Failure, print, skills_for, table};
use crate::experiment::Experiment;
use crate::run::{self, EvaluationPlan, RunFolder, Settings};

/// Roll out the prior of a skill model, without learning: how good are its skills?
///
/// Says more about a skill model than its losses do: elements of the scene completed per episode with sampled skills
/// and with the most likely ones.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Experiment (a name in configs/ or a path), or the folder of a run.
    experiment: String,
    /// Overrides such as `scene=kitchen_all`.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Folder of the skill model or of a run that has one [default: the run's own, or the newest one below runs/ that
    /// fits].
    #[arg(long, value_name = "FOLDER")]
    skills: Option<PathBuf>,
    /// Episodes.
    #[arg(long, value_name = "N", default_value_t = 50)]
    episodes: usize,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let name = &arguments.experiment;
    let (experiment, own) = match RunFolder::open(Path::new(name)) {
        Ok(folder) => {
            let experiment = folder.experiment(&arguments.overrides)?;
            folder.warn_of_changed_scene(&experiment);
            (experiment, folder.skills_used()?)
        }
        Err(_) => (Experiment::load(name, &arguments.overrides)?.value, None),
    };
    let skills = skills_for(&experiment, arguments.skills.clone().or(own), name)?;
    let plan = EvaluationPlan {
        skills,
        episodes: arguments.episodes,
        most_likely: true,
        overrides: arguments.overrides.clone(),
        watch: None,
    };
    let Some(result) = run::evaluate_prior(&experiment, &plan, settings)? else {
        return Err("the prior of this model is not Gaussian; nothing can be rolled out".into());
    };
    print(format_args!("{}", table::rollout(&result)))?;
    Ok(ExitCode::SUCCESS)
}
