//! `apprentice experiments`: the experiments there are, what is wrong with them, and what they consist of.

use std::process::ExitCode;

use super::{Asked, Failure, print};
use crate::experiment::{ActionSpace, Experiment, SkillModelConfig};
use crate::files::{self, FileKind};
use crate::learners::sac::Regulariser;
use crate::run::{Examined, Examiner, Extent, Sweep};

/// List, check and show experiments.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  apprentice experiments list
  apprentice experiments check configs/mine.ron          everything that is wrong, at once
  apprentice experiments check kitchen/spirl_cl learner.discount=0.97
  apprentice experiments show kitchen/spirl              with every default, and where each value comes from")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    List(List),
    Check(Check),
    Show(Show),
}

/// List the experiments there are: scene, method, what it is.
#[derive(clap::Args, Debug)]
struct List {}

/// Say everything that is wrong with experiments, at once.
///
/// Ends with exit code 1 if anything is wrong. Without a name all experiments there are are checked.
#[derive(clap::Args, Debug)]
struct Check {
    /// Experiments, by their names in configs/ or paths, and overrides such as `learner.discount=0.97`, which may list
    /// values as those of a sweep do.
    #[arg(value_name = "EXPERIMENT|PATH=VALUE")]
    what: Vec<String>,
}

/// Show an experiment with every default, where each value comes from, and what it comes to.
///
/// What is printed is RON that loads to the same experiment. A value without a note stands in the file itself.
#[derive(clap::Args, Debug)]
struct Show {
    /// Experiment: a name in configs/ or a path.
    experiment: String,
    /// Overrides such as `learner.discount=0.97`.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::List(_) => list(),
        Command::Check(check) => check.run(),
        Command::Show(show) => show.run(),
    }
}

fn list() -> Result<ExitCode, Failure> {
    let mut rows = vec![["experiment", "scene", "method", "description"].map(str::to_owned)];
    for (name, path) in files::list(FileKind::Experiment, &files::roots()) {
        rows.push(match Experiment::load(&path.display().to_string(), &[]) {
            Ok(loaded) => {
                let method = method(&loaded.value);
                [name, loaded.value.scene, method, loaded.value.description]
            }
            // A file that cannot be read is listed all the same.
            Err(_) => {
                let why = format!("cannot be read; `apprentice experiments check {name}`");
                [name, "-".into(), "-".into(), why]
            }
        });
    }
    let width = |column: fn(&[String; 4]) -> &String| rows.iter().map(|row| column(row).chars().count()).max();
    let widths = [width(|row| &row[0]), width(|row| &row[1]), width(|row| &row[2])].map(Option::unwrap_or_default);
    let [first, second, third] = widths;
    for [name, scene, method, description] in &rows {
        let line = format!("{name:<first$}  {scene:<second$}  {method:<third$}  {description}");
        print(format_args!("{}", line.trim_end()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The method of an experiment in a few words: what is learned before practice, and what the learner pays for.
fn method(experiment: &Experiment) -> String {
    let before = match (&experiment.skill_model, experiment.acts_in) {
        (SkillModelConfig::None, _) => "no model",
        (SkillModelConfig::Spirl(_), _) => "SPiRL skills",
        (SkillModelConfig::Bc(_), ActionSpace::Actions) => "cloned actions",
        (SkillModelConfig::Bc(_), ActionSpace::Skills) => "Bc",
    };
    let learner = match experiment.learner.regulariser {
        Regulariser::Entropy { .. } => "SAC",
        Regulariser::PriorDivergence { .. } => "SAC near the prior",
    };
    format!("{before}, {learner}")
}

impl Check {
    fn run(&self) -> Result<ExitCode, Failure> {
        let Asked { names, all, overrides } = Asked::of(&self.what, FileKind::Experiment);
        let (mut errors, mut faulty) = (0, 0);
        let mut examiner = Examiner::default();
        for name in &names {
            let found = examined(&mut examiner, name, &overrides);
            for error in &found.errors {
                print(format_args!("error: {error}"))?;
            }
            // Of those that were asked for: most experiments wait for their demonstrations.
            for note in found.notes.iter().filter(|_| !all) {
                print(format_args!("note: {name}: {note}"))?;
            }
            errors += found.errors.len();
            faulty += usize::from(!found.errors.is_empty());
        }
        let count = names.len();
        if errors > 0 {
            return Err(format!(
                "{} in {faulty} of {}",
                counted(errors, "error"),
                counted(count, "experiment")
            )
            .into());
        }
        match count {
            1 => print(format_args!("1 experiment is fine"))?,
            count => print(format_args!("{count} experiments are fine"))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is to be said of an experiment; where overrides list values, of all its variants.
fn examined(examiner: &mut Examiner, name: &str, overrides: &[String]) -> Examined {
    let variants = match Sweep::of(name, overrides) {
        Ok(Sweep::One(overrides)) => vec![overrides],
        Ok(Sweep::Several(variants)) => variants.into_iter().map(|variant| variant.overrides).collect(),
        Err(error) => {
            return Examined {
                errors: vec![error.to_string()],
                notes: Vec::new(),
            };
        }
    };
    let mut found = Examined::default();
    for overrides in variants {
        let Examined { errors, notes } = examiner.examine(name, &overrides);
        for (all, more) in [(&mut found.errors, errors), (&mut found.notes, notes)] {
            for text in more {
                if !all.contains(&text) {
                    all.push(text);
                }
            }
        }
    }
    found
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

impl Show {
    fn run(&self) -> Result<ExitCode, Failure> {
        let loaded = Experiment::load(&self.experiment, &self.overrides)?;
        let files: Vec<String> = loaded.sources.iter().map(|path| path.display().to_string()).collect();
        print(format_args!("// {}", files.join(" extends ")))?;
        print(format_args!("{}", loaded.annotated()?.trim_end()))?;
        match Extent::of(&loaded.value) {
            Ok(extent) => print(format_args!("{}", summary(&extent, &loaded.value).trim_end()))?,
            // The settings are what was asked for.
            Err(error) => print(format_args!(
                "// It cannot be trained: {error}\n// `apprentice experiments check {}` says everything that is wrong.",
                self.experiment
            ))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What the experiment comes to, as comments.
fn summary(extent: &Extent, experiment: &Experiment) -> String {
    let Extent {
        observation,
        action,
        chosen,
        length,
        period,
        skill_weights,
        policy_weights,
        critic_weights,
        transitions,
        updates,
        replay_bytes,
    } = *extent;
    let mut lines = vec![format!(
        "scene {}: {observation} observed numbers, {action} action numbers, control steps of {period} s",
        experiment.scene
    )];
    if skill_weights > 0 {
        let updates = experiment.pretraining.updates;
        let sequences = updates.saturating_mul(experiment.pretraining.batch as u64);
        lines.push(format!(
            "skill model: {skill_weights} weights; {updates} updates on {sequences} sequences in all"
        ));
    }
    lines.push(match length {
        1 => format!("policy: chooses {chosen} numbers, an action of one control step"),
        _ => format!(
            "policy: chooses {chosen} numbers, a skill of {length} control steps ({:.3} s)",
            length as f64 * period
        ),
    });
    lines.push(format!(
        "learner: {policy_weights} weights in the policy, {critic_weights} in each of two critics"
    ));
    let ticks = experiment
        .training
        .steps
        .div_ceil(experiment.environments.max(1) as u64);
    lines.push(format!(
        "each of {}: {} steps in {ticks} ticks, about {transitions} transitions with those of the warm-up, {updates:.0} \
         updates, {} of replay",
        counted(experiment.seeds.len(), "seed"),
        experiment.training.steps,
        bytes(replay_bytes),
    ));
    lines.iter().map(|line| format!("// {line}\n")).collect()
}

/// A number of bytes as people say it.
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 1_000.0 {
            return match unit {
                "bytes" => format!("{count} bytes"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1_000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        let shown = [0, 999, 1_000, 1_250_000, 2_000_000_000, 3_000_000_000_000].map(bytes);
        assert_eq!(shown, ["0 bytes", "999 bytes", "1.0 kB", "1.2 MB", "2.0 GB", "3.0 TB"]);
    }
}
