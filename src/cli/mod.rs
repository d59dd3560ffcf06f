//! The command line: one module per command.
//!
//! | command | does |
//! |---|---|
//! | `learn` | the whole chain: demonstrations, skill model, practice, evaluation, table and plot |
//! | `collect` | scripted demonstrations into an HDF5 file |
//! | `inspect` | what is inside a demonstration file |
//! | `pretrain` | a skill model from demonstrations |
//! | `rollout` | judge a skill model by sampling its prior, without learning |
//! | `train` | practice in skill space (or in actions) |
//! | `evaluate` | episodes of a trained agent |
//! | `import` | a published PyTorch or safetensors checkpoint into a skill-model folder |
//! | `plot` | learning curves of several runs in one picture |
//! | `bench` | how fast this machine simulates and learns |
//! | `list` | the scenes and experiments there are |

mod bench;
mod collect;
mod evaluate;
mod import;
mod inspect;
mod learn;
mod list;
mod messages;
mod plot;
mod pretrain;
mod rollout;
mod table;
mod train;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use messages::{print, show_warnings};

use crate::app::{Ended, StopRequest};
use crate::experiment::{Experiment, SkillModelConfig};
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
  apprentice train kitchen/sac 'seeds=[0,1,2]' --out runs/sac
  apprentice plot ours=runs/practice sac=runs/sac --out learning.svg

Experiments are RON files in configs/, scenes are RON files in scenes/. Any value of an experiment can be
overridden as `path=value`, for example `learner.discount=0.97`; quote values with brackets for your shell.")]
struct Arguments {
    /// Worker threads for simulation and learning [default: all processors].
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Learn(learn::Arguments),
    Collect(collect::Arguments),
    Inspect(inspect::Arguments),
    Pretrain(pretrain::Arguments),
    Rollout(rollout::Arguments),
    Train(train::Arguments),
    Evaluate(evaluate::Arguments),
    Import(import::Arguments),
    Plot(plot::Arguments),
    Bench(bench::Arguments),
    List(list::Arguments),
}

/// What every command needs besides its own arguments.
pub(crate) struct Context {
    /// Worker threads.
    pub threads: usize,
    /// Set by Ctrl-C and termination signals.
    pub stop: StopRequest,
}

impl Context {
    fn settings(&self) -> Settings {
        Settings {
            threads: self.threads,
            stop: self.stop.clone(),
        }
    }
}

/// Exit code of a command that came to its end: 130 after an interruption.
fn finished(ended: Ended) -> ExitCode {
    match ended {
        Ended::Finished => ExitCode::SUCCESS,
        Ended::Stopped => ExitCode::from(130),
    }
}

/// Says where the results of `command` with the experiment `name` are, or how to go on after an interruption.
fn ended(ended: Ended, command: &str, name: &str, folder: &Path) -> Result<ExitCode, Failure> {
    let folder = folder.display();
    match ended {
        Ended::Finished => print(format_args!("results in {folder}"))?,
        Ended::Stopped => print(format_args!(
            "interrupted; `apprentice {command} {name} --resume --out {folder}` goes on"
        ))?,
    }
    Ok(finished(ended))
}

/// A run that begins or goes on.
struct Begun {
    experiment: Experiment,
    folder: RunFolder,
    resumed: bool,
}

impl Begun {
    /// The run of an experiment in a folder of its own, or the one to go on with: that one keeps its own settings as
    /// far as they are not overridden.
    fn new(name: &str, overrides: &[String], out: Option<&Path>, resume: bool) -> Result<Self, Failure> {
        let folder = match out {
            Some(root) => root.to_path_buf(),
            None if resume => only_run_of(name)?,
            None => RunFolder::next_free(name),
        };
        if resume {
            let folder = RunFolder::open(&folder)?;
            folder.expect_experiment(name)?;
            let loaded = Experiment::load(&folder.experiment_file().display().to_string(), overrides)?;
            return Ok(Self {
                experiment: loaded.value,
                folder,
                resumed: true,
            });
        }
        let loaded = Experiment::load(name, overrides)?;
        let folder = RunFolder::create(&folder, name, &loaded.resolved_text)?;
        Ok(Self {
            experiment: loaded.value,
            folder,
            resumed: false,
        })
    }

    /// Removes the new folder of a run that failed before it left anything in it.
    fn undo_if_unused<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.is_err() && !self.resumed {
            self.folder.remove_if_unused();
        }
        result
    }
}

/// The folder of the run to go on with when none is named: there must be only one of the experiment.
fn only_run_of(name: &str) -> Result<PathBuf, Failure> {
    let first = run::default_name(name);
    let second = Path::new("runs").join(format!("{first}_2"));
    let first = Path::new("runs").join(first);
    if !second.exists() {
        return Ok(first);
    }
    let (first, second) = (first.display(), second.display());
    let message = format!("there are several runs of {name} ({first}, {second}); say with --out which one goes on");
    Err(message.into())
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
    match run::find_skills(&experiment.skill_model, experiment.pretraining.updates) {
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
/// them, 2 for wrong arguments and 130 after an interruption.
pub fn main() -> ExitCode {
    // candle's own pool spins at barriers and starves the simulation beside it.
    // SAFETY: nothing else runs yet.
    #[allow(unsafe_code, reason = "candle reads its thread count from the environment only")]
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
    }
    let arguments = Arguments::parse();
    show_warnings();
    let result = StopRequest::on_signals().map_err(Failure::from).and_then(|stop| {
        let threads = arguments.threads.unwrap_or_else(processors);
        if threads == 0 {
            return Err("--threads: expected at least 1, found 0".into());
        }
        let context = Context { threads, stop };
        match arguments.command {
            Command::Learn(arguments) => learn::run(&arguments, &context),
            Command::Collect(arguments) => collect::run(&arguments, &context),
            Command::Inspect(arguments) => inspect::run(&arguments),
            Command::Pretrain(arguments) => pretrain::run(&arguments, &context),
            Command::Rollout(arguments) => rollout::run(&arguments, &context),
            Command::Train(arguments) => train::run(&arguments, &context),
            Command::Evaluate(arguments) => evaluate::run(&arguments, &context),
            Command::Import(arguments) => import::run(&arguments),
            Command::Plot(arguments) => plot::run(&arguments),
            Command::Bench(arguments) => bench::run(&arguments, &context),
            Command::List(arguments) => list::run(&arguments),
        }
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            let interrupted = matches!(error.downcast_ref(), Some(RunError::Interrupted));
            // Nothing better can be done if standard error is closed.
            let _ = match interrupted {
                true => writeln!(std::io::stderr(), "{error}"),
                false => writeln!(std::io::stderr(), "error: {error}"),
            };
            if interrupted {
                finished(Ended::Stopped)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
