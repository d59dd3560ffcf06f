//! `apprentice collect`: scripted demonstrations, and episodes of agents.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Failure, finished, print, table};
use crate::data::{Layout, Written};
use crate::demos::{CollectConfig, CollectReport};
use crate::experiment::Experiment;
use crate::files::{self, FileKind};
use crate::run::{self, Acting, RecordPlan, RecordSource, RunFolder, Settings, Unfinished};

/// Collect scripted demonstrations into an HDF5 file (D4RL's layout), a folder of them (SPiRL's) or a Minari dataset.
///
/// The scene says who demonstrates (`demonstrator: ...` in its file). An experiment is taken at its word: its scene and
/// its settings (dataset.collect), into its file.
///
/// Episodes of an agent: `--from RUN` lets the trained agent of a run act, or its prior (`--by prior`); `--by random` needs
/// no run, only a scene.
///
/// Interrupted, it writes what it has, unless it was to replace a file: that one stays.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Scene to demonstrate in, or experiment to collect for: a name in scenes/ or configs/, or a path.
    #[arg(value_name = "SCENE|EXPERIMENT", required_unless_present = "from")]
    name: Option<String>,
    /// Overrides of the scene, such as `demonstrator.variety=0.5`, or of the experiment.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Run whose agent acts, in place of a scripted demonstrator.
    #[arg(long, value_name = "RUN")]
    from: Option<PathBuf>,
    /// Who acts in place of a scripted demonstrator [default with --from: agent].
    #[arg(long, value_name = "WHO")]
    by: Option<Acting>,
    /// Seed of the learner whose agent acts [default: the first of the run].
    #[arg(long, value_name = "N", requires = "from")]
    learner: Option<u64>,
    /// Of an agent's episodes keep those that do the whole task only.
    #[arg(long)]
    successful: bool,
    /// Of an agent's episodes keep those only that come to at least this: completed elements, where the task has some,
    /// else success, a figure or the return.
    #[arg(long, value_name = "VALUE")]
    at_least: Option<f64>,
    /// Episodes to gather [default: the experiment's number, otherwise 600; with --from 100].
    #[arg(long, value_name = "N")]
    episodes: Option<usize>,
    /// File or folder to write [default: the experiment's, otherwise data/SCENE.hdf5, data/SCENE or data/SCENE-v0].
    #[arg(long, value_name = "FILE|FOLDER")]
    out: Option<PathBuf>,
    /// Master seed: the same seed gives the same file [default: the experiment's seed, otherwise 0].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Store pictures too, in a scene that has some (observation.pixels).
    #[arg(long)]
    images: bool,
    /// One file with all steps one after another, a folder with a file for each demonstration, or a Minari dataset,
    /// whose name ends in a version [default: d4rl].
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<Layout>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    if arguments.from.is_some() || arguments.by.is_some() {
        return record(arguments, settings);
    }
    for (option, given) in [
        ("--successful", arguments.successful),
        ("--at-least", arguments.at_least.is_some()),
    ] {
        if given {
            return Err(format!(
                "{option}: of scripted demonstrations only successful ones are kept anyway; it is for episodes of an agent \
                 (--from RUN)"
            )
            .into());
        }
    }
    let name = arguments.name.as_deref().unwrap_or_default();
    let Plan {
        mut config,
        overrides,
        out,
    } = Plan::of(name, &arguments.overrides)?;
    config.images |= arguments.images;
    config.layout = arguments.layout.unwrap_or(config.layout);
    let out = arguments.target(config.layout, out)?;
    config.episodes = arguments.episodes.unwrap_or(config.episodes);
    config.seed = arguments.seed.unwrap_or(config.seed);
    let (report, written, ended) = run::collect(&config, &overrides, &out, Unfinished::Keep, settings)?;
    tell(&report, &written)?;
    Ok(finished(ended))
}

/// Records episodes of an agent.
fn record(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    // Without a scene the first word is an override as well.
    let words: Vec<String> = arguments.name.iter().chain(&arguments.overrides).cloned().collect();
    let plan = RecordPlan {
        actor: arguments.by.unwrap_or(Acting::Agent),
        run: arguments.from.clone(),
        learner: arguments.learner,
        episodes: arguments.episodes.unwrap_or(EPISODES),
        seed: arguments.seed.unwrap_or(0),
        successful: arguments.successful,
        at_least: arguments.at_least,
        images: arguments.images,
        layout: arguments.layout.unwrap_or_default(),
    };
    let (report, written, ended) = match &arguments.from {
        Some(run) => {
            let folder = RunFolder::open(run)?;
            let experiment = folder.experiment(&words)?;
            folder.warn_of_changed_scene(&experiment);
            let skills = folder.skills_used()?;
            let stem = folder.root().file_name().unwrap_or(OsStr::new("run"));
            let out = arguments.target(plan.layout, data_file(&format!("{}_episodes", stem.to_string_lossy())))?;
            let source = RecordSource {
                scene: &experiment.scene,
                overrides: &[],
                experiment: Some((&experiment, skills.as_deref())),
                folder: Some(&folder),
            };
            run::record(&source, &plan, &out, settings)?
        }
        None => {
            if plan.actor != Acting::Random {
                return Err("--by: only random actions need no run; say with --from RUN whose agent acts".into());
            }
            let Some((scene, overrides)) = words.split_first() else {
                return Err("which scene?".into());
            };
            let stem = Path::new(scene).file_stem().unwrap_or(OsStr::new("scene"));
            let out = arguments.target(plan.layout, data_file(&format!("{}_random", stem.to_string_lossy())))?;
            let source = RecordSource {
                scene,
                overrides,
                experiment: None,
                folder: None,
            };
            run::record(&source, &plan, &out, settings)?
        }
    };
    tell(&report, &written)?;
    Ok(finished(ended))
}

/// Episodes of an agent that are recorded if nobody says otherwise.
const EPISODES: usize = 100;

/// A file below `data/`.
fn data_file(name: &str) -> PathBuf {
    Path::new("data").join(format!("{name}.hdf5"))
}

impl Arguments {
    /// Where to write: what was asked for, else `out`.
    fn target(&self, layout: Layout, out: PathBuf) -> Result<PathBuf, Failure> {
        let out = self.out.clone().unwrap_or_else(|| match layout {
            Layout::Rollouts if out.extension() == Some(OsStr::new("hdf5")) => out.with_extension(""),
            _ => out,
        });
        may_write(&out, layout, self.force)?;
        Ok(out)
    }
}

/// Whether demonstrations may be written to `out`.
pub(super) fn may_write(out: &Path, layout: Layout, force: bool) -> Result<(), Failure> {
    if layout == Layout::Flat && out.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
        return Err(format!(
            "{}: expected the name of a file, found that of a folder; roll-outs go into one (--layout rollouts)",
            out.display()
        )
        .into());
    }
    if out.exists() && !force {
        return Err(format!("{}: is there already; --force replaces it", out.display()).into());
    }
    Ok(())
}

fn tell(report: &CollectReport, written: &Written) -> Result<(), Failure> {
    print(format_args!("{}\n{}", table::collection(report), summary(written)))
}

/// What was written, in one line.
pub(super) fn summary(written: &Written) -> String {
    let named_as_file = written
        .path
        .extension()
        .is_some_and(|ending| ending == "hdf5" || ending == "h5");
    let kind = match named_as_file && written.path.is_dir() {
        true => " (a folder, whatever its name says)",
        false => "",
    };
    format!(
        "{}{kind}: {} demonstrations, {} steps, {:.1} MB",
        written.path.display(),
        written.episodes,
        written.steps,
        written.bytes as f64 / 1e6
    )
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
