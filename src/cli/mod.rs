//! The command line: one module per command.
//!
//! | command | does |
//! |---|---|
//! | `learn` | the whole chain: demonstrations, skill model, practice, evaluation, table and plot |
//! | `collect` | scripted demonstrations into an HDF5 file |
//! | `convert` | demonstrations from one layout into another |
//! | `inspect` | what is inside a demonstration file |
//! | `pretrain` | a skill model from demonstrations |
//! | `rollout` | judge a skill model by sampling its prior, without learning |
//! | `train` | practice in skill space (or in actions) |
//! | `evaluate` | episodes of a trained agent |
//! | `watch` | practice, trained agents or demonstrations in a window |
//! | `import` | a published PyTorch or safetensors checkpoint into a skill-model folder |
//! | `plot` | learning curves of several runs in one picture |
//! | `report` | one page that compares runs: tables, curves, videos, settings |
//! | `bench` | how fast this machine simulates and learns |
//! | `list` | the scenes and experiments there are |
//! | `experiments` | the experiments there are, what is wrong with them, what they consist of |
//! | `scenes` | the scenes there are, what is wrong with them, what they consist of |

mod bench;
mod collect;
mod convert;
mod evaluate;
mod experiments;
mod import;
mod inspect;
mod learn;
mod list;
mod messages;
mod plot;
mod pretrain;
mod report;
mod rollout;
mod scenes;
mod sweep;
mod table;
mod train;
mod watch;

use std::cell::OnceCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use messages::{print, show_warnings};

use crate::app::{Ended, INTERRUPTED, StopRequest};
use crate::experiment::{Experiment, SkillModelConfig};
use crate::files::{self, FileKind, Loaded};
use crate::run::{self, RunError, RunFolder, Settings};

/// Many agents practise in one world: skills from demonstrations, then long tasks in skill space.
#[derive(Parser, Debug)]
#[command(name = "apprentice", version, about, long_about = None, max_term_width = 110)]
#[command(after_help = "Examples:
  apprentice learn kitchen/spirl_cl --quick           the whole chain in a few minutes
  apprentice collect kitchen --episodes 600 --out data/kitchen.hdf5
  apprentice pretrain kitchen/spirl_cl --out runs/skills
  apprentice train kitchen/spirl_cl 'seeds=[0,1,2]' --skills runs/skills --out runs/practice
  apprentice evaluate runs/practice --episodes 50
  apprentice watch runs/practice
  apprentice train kitchen/sac 'seeds=[0,1,2]' training.updates_per_transition=0.1 --out runs/sac
  apprentice plot ours=runs/practice sac=runs/sac --out learning.svg
  apprentice report ours=runs/practice sac=runs/sac --out report.html
  apprentice train kitchen/sac learner.discount=0.97,0.99 seeds=0..3 --out runs/sweep

Experiments are RON files in configs/, scenes are RON files in scenes/. Any value of an experiment can be
overridden as `path=value`, for example `learner.discount=0.97`; quote values with brackets for your shell.")]
struct Arguments {
    /// Worker threads for simulation and learning [default: all processors].
    #[arg(long, global = true, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Learn(learn::Arguments),
    Collect(collect::Arguments),
    Convert(convert::Arguments),
    Inspect(inspect::Arguments),
    Pretrain(pretrain::Arguments),
    Rollout(rollout::Arguments),
    Train(train::Arguments),
    Evaluate(evaluate::Arguments),
    Watch(watch::Arguments),
    Import(import::Arguments),
    Plot(plot::Arguments),
    Report(report::Arguments),
    Bench(bench::Arguments),
    List(list::Arguments),
    Experiments(experiments::Arguments),
    Scenes(scenes::Arguments),
}

// What commands that train have in common. A doc comment would become the description of those commands.
#[derive(clap::Args, Debug)]
struct TrainingArguments {
    /// Experiment: a name in configs/ or a path.
    experiment: String,
    /// Overrides such as `environments=8`, `pretraining.updates=20_000` or `device=cuda`.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Folder of the run [default: runs/EXPERIMENT, or `runs/EXPERIMENT_2` and so on if that is taken].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on with the run in the folder from its last checkpoints, with its own settings and the overrides given now.
    #[arg(long)]
    resume: bool,
}

/// What a check is asked about: files and overrides in any order.
struct Asked {
    names: Vec<String>,
    /// None was named, so these are all there are.
    all: bool,
    overrides: Vec<String>,
}

impl Asked {
    fn of(what: &[String], kind: FileKind) -> Self {
        // A file may have `=` in its name, as those of variants have.
        let is_override = |text: &String| text.contains('=') && !Path::new(text).is_file();
        let (overrides, mut names): (Vec<String>, Vec<String>) = what.iter().cloned().partition(is_override);
        let all = names.is_empty();
        if all {
            names = files::list(kind, &files::roots()).into_keys().collect();
        }
        Self { names, all, overrides }
    }
}

/// Exit code of a command that came to its end: 130 after an interruption.
fn finished(ended: Ended) -> ExitCode {
    match ended {
        Ended::Finished => ExitCode::SUCCESS,
        Ended::Stopped => ExitCode::from(INTERRUPTED),
    }
}

/// Says where the results of `command` are, or how to go on after an interruption.
fn ended(ended: Ended, command: &str, arguments: &TrainingArguments, folder: &RunFolder) -> Result<ExitCode, Failure> {
    let (name, folder) = (&arguments.experiment, folder.root().display());
    match ended {
        Ended::Finished => print(format_args!("results in {folder}"))?,
        Ended::Stopped => print(format_args!(
            "interrupted; `apprentice {command} {name} --resume --out {folder}` goes on"
        ))?,
    }
    Ok(finished(ended))
}

/// A run that begins or goes on. No other process works in its folder meanwhile.
struct Begun {
    experiment: Experiment,
    folder: RunFolder,
}

impl Begun {
    /// The run of an experiment in a folder of its own, or the one to go on with: that one keeps its own settings as
    /// far as they are not overridden.
    fn new(arguments: &TrainingArguments) -> Result<Self, Failure> {
        let TrainingArguments {
            experiment: name,
            overrides,
            out,
            resume,
        } = arguments;
        let folder = match out {
            Some(root) => root.clone(),
            None if *resume => only_run_of(name)?,
            None => RunFolder::next_free(name),
        };
        if *resume {
            let folder = RunFolder::resume(&folder)?;
            folder.expect_experiment(name)?;
            let mut experiment = folder.experiment(overrides)?;
            // Also where an override names the scene again: a run does not change it.
            folder.attach_scene(&mut experiment)?;
            folder.warn_of_changed_scene(&experiment);
            experiment.device.ready()?;
            return Ok(Self { experiment, folder });
        }
        let Loaded {
            value: mut experiment,
            resolved_text,
            ..
        } = Experiment::load(name, overrides)?;
        // Before the scene is kept, so that faults are told of its own file.
        run::check(&experiment)?;
        experiment.device.ready()?;
        let folder = RunFolder::create(&folder, name, &resolved_text)?;
        let kept = folder.keep_scene(&mut experiment);
        kept.inspect_err(|_| folder.remove_if_unused())?;
        Ok(Self { experiment, folder })
    }

    /// Removes the new folder of a run that failed before it left anything in it.
    fn undo_if_unused<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.inspect_err(|_| self.folder.remove_if_unused())
    }
}

/// The folder of the run to go on with when none is named: there must be only one of the experiment.
fn only_run_of(name: &str) -> Result<PathBuf, Failure> {
    let mut runs = RunFolder::all_of(name);
    if runs.len() > 1 {
        let runs: Vec<String> = runs.iter().map(|run| run.display().to_string()).collect();
        let runs = runs.join(", ");
        return Err(format!("there are several runs of {name} ({runs}); say with --out which one goes on").into());
    }
    // Opening the folder says what is wrong where there is none.
    Ok(runs
        .pop()
        .unwrap_or_else(|| Path::new("runs").join(run::default_name(name))))
}

/// The skill model an experiment needs: the one asked for, or the newest one that fits.
fn skills_for(experiment: &Experiment, asked: Option<PathBuf>, name: &str) -> Result<Option<PathBuf>, Failure> {
    if experiment.skill_model == SkillModelConfig::None {
        return match asked {
            Some(_) => Err(format!("--skills: {name} learns without a skill model (skill_model: None)").into()),
            None => Ok(None),
        };
    }
    if asked.is_some() {
        return Ok(asked);
    }
    match run::find_skills(experiment)? {
        Some(path) => {
            print(format_args!("skill model: {}", path.display()))?;
            Ok(Some(path))
        }
        None => Err(format!(
            "no skill model below runs/ has the experiment's settings and {} updates; train one with `apprentice \
             pretrain {name}`, or name a folder with --skills",
            experiment.pretraining.updates
        )
        .into()),
    }
}

/// Any error of a command, with all it says about itself.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Parses the command line and runs the command. Errors go to standard error as one message; the exit code is 1 for
/// them, 2 for wrong arguments, 130 after an interruption and 75 after one by a batch system.
pub fn main() -> ExitCode {
    // candle's own pool spins at barriers and starves the simulation beside it.
    // SAFETY: nothing else runs yet.
    #[allow(unsafe_code, reason = "candle reads its thread count from the environment only")]
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
    }
    if !std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|folder| Path::new(&folder).is_absolute()) {
        // Mesa's layer that orders graphics cards asks Wayland, whose library complains on standard error that it misses
        // this folder; without it there is no Wayland to ask.
        // SAFETY: as above.
        #[allow(unsafe_code, reason = "the layer is switched off in the environment only")]
        unsafe {
            std::env::set_var("NODEVICE_SELECT", "1");
        }
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => match dashed_override(&error) {
            Some(message) => {
                // Nothing better can be done if standard error is closed.
                let _ = writeln!(std::io::stderr(), "error: {message}");
                return ExitCode::from(2);
            }
            None => error.exit(),
        },
    };
    show_warnings();
    let stop = OnceCell::new();
    let result = run(arguments, &stop);
    // Commands know that they were interrupted, not by whom.
    let interruption = stop.get().map_or(INTERRUPTED, StopRequest::exit_code);
    match result {
        Ok(code) if code == finished(Ended::Stopped) => ExitCode::from(interruption),
        Ok(code) => code,
        Err(error) => {
            let interrupted = matches!(error.downcast_ref(), Some(RunError::Interrupted));
            // Nothing better can be done if standard error is closed.
            let _ = match interrupted {
                true => writeln!(std::io::stderr(), "{error}"),
                false => writeln!(std::io::stderr(), "error: {error}"),
            };
            if interrupted {
                ExitCode::from(interruption)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(arguments: Arguments, stop: &OnceCell<StopRequest>) -> Result<ExitCode, Failure> {
    let threads = arguments.threads.unwrap_or_else(processors);
    if !(1..=MOST_THREADS).contains(&threads) {
        return Err(format!("--threads: expected 1 to {MOST_THREADS}, found {threads}").into());
    }
    // Before anything uses it; it would take all processors otherwise.
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    // Only for commands that look at the request: the others, as any program, end at the first Ctrl-C.
    let settings = || {
        let request = StopRequest::on_signals()?;
        Ok::<_, std::io::Error>(Settings {
            threads,
            stop: stop.get_or_init(|| request).clone(),
        })
    };
    match arguments.command {
        Command::Learn(arguments) => learn::run(&arguments, &settings()?),
        Command::Collect(arguments) => collect::run(&arguments, &settings()?),
        Command::Convert(arguments) => convert::run(&arguments, &settings()?),
        Command::Pretrain(arguments) => pretrain::run(&arguments, &settings()?),
        Command::Rollout(arguments) => rollout::run(&arguments, &settings()?),
        Command::Train(arguments) => train::run(&arguments, &settings()?),
        Command::Evaluate(arguments) => evaluate::run(&arguments, &settings()?),
        Command::Watch(arguments) => watch::run(&arguments, &settings()?),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Plot(arguments) => plot::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments, threads),
        Command::List(arguments) => list::run(&arguments),
        Command::Experiments(arguments) => experiments::run(&arguments),
        Command::Scenes(arguments) => scenes::run(&arguments, threads),
    }
}

fn thread_count(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("expected a whole number from 1 to {MOST_THREADS}"))
}

/// What to say where an override was written as an option is: `--learner.discount=0.9`.
fn dashed_override(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    // What is nearly an option is probably meant for one.
    if error.get(ContextKind::SuggestedArg).is_some() && !unknown.contains('.') {
        return None;
    }
    let mut given = std::env::args_os().filter_map(|text| text.into_string().ok());
    let text = given.find(|text| {
        text.strip_prefix(unknown.as_str())
            .is_some_and(|rest| rest.starts_with('='))
    })?;
    let plain = text.trim_start_matches('-');
    Some(format!("{text}: overrides are written without dashes: `{plain}`"))
}

/// More worker threads than this are a slip, and no system could start them.
const MOST_THREADS: usize = 1024;

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS))
}
