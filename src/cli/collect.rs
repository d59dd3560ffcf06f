//! `apprentice collect`: scripted demonstrations.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Failure, finished, print, table};
use crate::data::Layout;
use crate::demos::CollectConfig;
use crate::experiment::Experiment;
use crate::files::{self, FileKind};
use crate::run::{self, Settings, Unfinished};

/// Collect scripted demonstrations into an HDF5 file (D4RL's layout) or a folder of them (SPiRL's).
///
/// The scene says who demonstrates (`demonstrator: ...` in its file). An experiment is taken at its word: its scene and
/// its settings (dataset.collect), into its file.
///
/// Interrupted, it writes what it has, unless it was to replace a file: that one stays.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Scene to demonstrate in, or experiment to collect for: a name in scenes/ or configs/, or a path.
    #[arg(value_name = "SCENE|EXPERIMENT")]
    name: String,
    /// Overrides of the scene, such as `demonstrator.variety=0.5`, or of the experiment.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Successful demonstrations to gather [default: the experiment's number, otherwise 600].
    #[arg(long, value_name = "N")]
    episodes: Option<usize>,
    /// File or folder to write [default: the experiment's, otherwise data/SCENE.hdf5 or data/SCENE].
    #[arg(long, value_name = "FILE|FOLDER")]
    out: Option<PathBuf>,
    /// Master seed: the same seed gives the same file [default: the experiment's seed, otherwise 0].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Store pictures too, in a scene that has some (observation.pixels).
    #[arg(long)]
    images: bool,
    /// One file with all steps one after another, or a folder with a file for each demonstration [default: d4rl].
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<Layout>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let Plan {
        mut config,
        overrides,
        out,
    } = Plan::of(&arguments.name, &arguments.overrides)?;
    config.images |= arguments.images;
    config.layout = arguments.layout.unwrap_or(config.layout);
    let out = arguments.out.clone().unwrap_or_else(|| match config.layout {
        Layout::Rollouts if out.extension() == Some(OsStr::new("hdf5")) => out.with_extension(""),
        _ => out,
    });
    if config.layout == Layout::Flat && out.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
        return Err(format!(
            "{}: expected the name of a file, found that of a folder; roll-outs go into one (--layout rollouts)",
            out.display()
        )
        .into());
    }
    if out.exists() && !arguments.force {
        return Err(format!("{}: is there already; --force replaces it", out.display()).into());
    }
    config.episodes = arguments.episodes.unwrap_or(config.episodes);
    config.seed = arguments.seed.unwrap_or(config.seed);
    let (report, written, ended) = run::collect(&config, &overrides, &out, Unfinished::Keep, settings)?;
    print(format_args!(
        "{}\n{}: {} demonstrations, {} steps, {:.1} MB",
        table::collection(&report),
        written.path.display(),
        written.episodes,
        written.steps,
        written.bytes as f64 / 1e6
    ))?;
    Ok(finished(ended))
}

/// What is to be collected if no option says otherwise.
struct Plan {
    config: CollectConfig,
    /// Overrides of the scene.
    overrides: Vec<String>,
    out: PathBuf,
}

impl Plan {
    fn of(name: &str, overrides: &[String]) -> Result<Self, Failure> {
        if !is_experiment(name) {
            let stem = Path::new(name).file_stem().unwrap_or(OsStr::new("scene"));
            let config = CollectConfig {
                scene: Some(name.to_owned()),
                ..CollectConfig::default()
            };
            return Ok(Self {
                config,
                overrides: overrides.to_vec(),
                out: Path::new("data").join(stem).with_extension("hdf5"),
            });
        }
        let experiment = Experiment::load(name, overrides)?.value;
        let Some(dataset) = &experiment.dataset else {
            return Err(format!("{name}: this experiment names no demonstrations (dataset: (path: \"...\"))").into());
        };
        let Some(how) = &dataset.collect else {
            return Err(format!(
                "{name}: this experiment does not say how to collect demonstrations (dataset.collect)"
            )
            .into());
        };
        Ok(Self {
            config: run::in_scene(how, &experiment),
            overrides: Vec::new(),
            out: dataset.path.clone(),
        })
    }
}

/// Whether `name` means an experiment: one below `configs/` that is no scene, or a file that reads as one.
fn is_experiment(name: &str) -> bool {
    let roots = files::roots();
    let known = |kind| files::list(kind, &roots).contains_key(name);
    !known(FileKind::Scene) && (known(FileKind::Experiment) || Experiment::load(name, &[]).is_ok())
}
