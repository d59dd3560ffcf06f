//! What commands that train do with several values of a setting: one run for each variant, side by side where they share
//! a world.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Failure, TrainingArguments, finished, only_run_of, print};
use crate::app::Ended;
use crate::experiment::Experiment;
use crate::files::Alternatives;
use crate::run::{
    self, Practising, RunError, RunFolder, RunFolderError, Settings, Sweep, SweepIndex, Variant, share_a_world,
};

/// What is to be trained.
pub(super) enum Task {
    /// One run.
    One(TrainingArguments),
    /// The variants of a sweep that begins.
    Several(Vec<Variant>),
    /// A sweep that goes on in this folder.
    GoesOn(PathBuf, SweepIndex),
}

impl Task {
    /// What the arguments of a command ask for.
    pub(super) fn of(arguments: &TrainingArguments) -> Result<Self, Failure> {
        let TrainingArguments {
            experiment: name,
            overrides,
            out,
            resume,
        } = arguments;
        let one = |overrides| {
            Self::One(TrainingArguments {
                experiment: name.clone(),
                overrides,
                out: out.clone(),
                resume: *resume,
            })
        };
        if !*resume {
            return Ok(match Sweep::of(name, overrides)? {
                Sweep::One(overrides) => one(overrides),
                Sweep::Several(variants) => Self::Several(variants),
            });
        }
        let root = match out {
            Some(root) => root.clone(),
            None => to_go_on_with(name)?,
        };
        Ok(match SweepIndex::open(&root)? {
            Some(index) => Self::GoesOn(root, index),
            None => one(run::single_values(overrides)?),
        })
    }
}

/// The folder of the run or sweep to go on with when none is named: there must be only one of the experiment.
fn to_go_on_with(name: &str) -> Result<PathBuf, Failure> {
    let mut sweeps = SweepIndex::all_of(name);
    if sweeps.is_empty() {
        return only_run_of(name);
    }
    sweeps.extend(RunFolder::all_of(name));
    match sweeps.as_slice() {
        [only] => Ok(only.clone()),
        several => {
            let shown: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            let shown = shown.join(", ");
            Err(
                format!("there are several runs and sweeps of {name} ({shown}); say with --out which one goes on")
                    .into(),
            )
        }
    }
}

/// One run of a sweep. No other process works in its folder meanwhile.
pub(super) struct SweepRun {
    pub(super) name: String,
    /// Those of the experiment that it began with.
    pub(super) overrides: Vec<String>,
    pub(super) experiment: Experiment,
    pub(super) folder: RunFolder,
    /// It was begun by an earlier command.
    pub(super) was_there: bool,
}

/// The runs of a sweep.
pub(super) struct SweepRuns {
    pub(super) root: PathBuf,
    pub(super) runs: Vec<SweepRun>,
}

impl SweepRuns {
    /// Begins a sweep in `root`. With `may_be_there` one with the same variants, begun by an earlier command, goes on.
    pub(super) fn begin(
        root: &Path,
        name: &str,
        overrides: &[String],
        variants: &[Variant],
        may_be_there: bool,
    ) -> Result<Self, Failure> {
        run::check_variants(
            variants
                .iter()
                .map(|variant| (variant.name.as_str(), &variant.experiment)),
        )?;
        variants
            .iter()
            .try_for_each(|variant| variant.experiment.device.ready())?;
        SweepIndex::new(name, overrides, variants).begin(root, may_be_there)?;
        let mut begun = Self::empty(root);
        for variant in variants {
            let path = root.join(&variant.name);
            let there = match RunFolder::resume(&path) {
                Err(RunFolderError::NotARun { .. }) => None,
                _ if !may_be_there => None,
                found => Some(found),
            };
            let was_there = there.is_some();
            let folder = there.unwrap_or_else(|| RunFolder::create(&path, name, &variant.resolved));
            let folder = begun.undo_if_unused(folder.map_err(Failure::from))?;
            begun.runs.push(SweepRun {
                name: variant.name.clone(),
                overrides: variant.overrides.clone(),
                experiment: variant.experiment.clone(),
                folder,
                was_there,
            });
        }
        let kept = begun.keep_scenes();
        begun.undo_if_unused(kept)?;
        Ok(begun)
    }

    /// Goes on with a sweep: every run keeps its own settings as far as `overrides` do not change them.
    pub(super) fn go_on(root: &Path, index: &SweepIndex, name: &str, overrides: &[String]) -> Result<Self, Failure> {
        if !run::same_experiment(&index.experiment, name) {
            let found = &index.experiment;
            let root = root.display();
            return Err(format!("{root} is a sweep of the experiment `{found}`, not of `{name}`").into());
        }
        let mut new = Vec::new();
        for text in overrides {
            // Values that the sweep has listed may be given again.
            if !(index.overrides.contains(text) && Alternatives::of(text)?.listed) {
                new.push(text.clone());
            }
        }
        let new = run::single_values(&new)?;
        let mut begun = Self::empty(root);
        for entry in &index.variants {
            let path = root.join(&entry.name);
            let (folder, was_there) = match RunFolder::resume(&path) {
                // The command that began the sweep did not get so far.
                Err(RunFolderError::NotARun { .. }) => {
                    let loaded = Experiment::load(&index.experiment, &entry.overrides)?;
                    (
                        RunFolder::create(&path, &index.experiment, &loaded.resolved_text)?,
                        false,
                    )
                }
                found => (found?, true),
            };
            begun.runs.push(SweepRun {
                name: entry.name.clone(),
                overrides: entry.overrides.clone(),
                experiment: folder.experiment(&new)?,
                folder,
                was_there,
            });
        }
        let kept = begun.keep_scenes();
        begun.undo_if_unused(kept)?;
        let experiments = begun.runs.iter().map(|run| (run.name.as_str(), &run.experiment));
        let checked = run::check_variants(experiments).map_err(Failure::from);
        begun.undo_if_unused(checked)?;
        Ok(begun)
    }

    /// Lets every run stand on the scene that it keeps, and those that are new keep theirs now: what comes later in the
    /// sweep is not to differ in its scene.
    fn keep_scenes(&mut self) -> Result<(), Failure> {
        for run in &mut self.runs {
            run.folder.attach_scene(&mut run.experiment)?;
            // What was there may have been asked to change its scene, which is refused later.
            if !run.was_there {
                run.folder.keep_scene(&mut run.experiment)?;
            }
        }
        // One warning is enough.
        if let Some(run) = self.runs.iter().find(|run| run.was_there) {
            run.folder.warn_of_changed_scene(&run.experiment);
        }
        Ok(())
    }

    fn empty(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            runs: Vec::new(),
        }
    }

    /// Removes what is new and empty of a sweep that failed.
    pub(super) fn undo_if_unused<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.inspect_err(|_| {
            for run in &self.runs {
                run.folder.remove_if_unused();
            }
            SweepIndex::remove_if_unused(&self.root);
        })
    }

    /// Numbers of the runs that practise side by side, at most `most` in one world.
    pub(super) fn worlds(&self, most: usize) -> Vec<Vec<usize>> {
        let experiments: Vec<&Experiment> = self.runs.iter().map(|run| &run.experiment).collect();
        run::groups(&experiments, share_a_world, most)
    }

    /// Practises with the runs of these numbers in one world, with the skill model that `skills` gives for each. A run that
    /// fails does not take the others with it: they go on one at a time. Failures come back with their runs.
    pub(super) fn practise(
        &self,
        world: &[usize],
        skills: &[Option<PathBuf>],
        resume: bool,
        settings: &Settings,
    ) -> Result<(Ended, Vec<Failed>), Failure> {
        let labels: Vec<String> = self.runs.iter().map(|run| format!("{}, ", run.name)).collect();
        let practising: Vec<Practising> = (world.iter().zip(skills))
            .filter_map(|(&number, skills)| {
                let run = self.runs.get(number)?;
                Some(Practising {
                    experiment: &run.experiment,
                    skills: skills.clone(),
                    folder: &run.folder,
                    label: labels.get(number).map_or("", String::as_str),
                })
            })
            .collect();
        let error = match run::train_side_by_side(&practising, resume, None, settings) {
            Ok(ended) => return Ok((ended, Vec::new())),
            Err(error @ RunError::Interrupted) => return Err(error.into()),
            Err(error) => error,
        };
        let failed = |number: usize, error: RunError| Failed {
            name: self.runs.get(number).map_or_else(String::new, |run| run.name.clone()),
            number,
            error,
        };
        if let [only] = world {
            return Ok((Ended::Finished, vec![failed(*only, error)]));
        }
        bevy::log::warn!("{error}; the variants go on from their last checkpoints, one at a time");
        let mut failures = Vec::new();
        for (&number, run) in world.iter().zip(&practising) {
            match run::train_side_by_side(std::slice::from_ref(run), true, None, settings) {
                Ok(Ended::Finished) => {}
                Ok(Ended::Stopped) => return Ok((Ended::Stopped, failures)),
                Err(error @ RunError::Interrupted) => return Err(error.into()),
                Err(error) => failures.push(failed(number, error)),
            }
        }
        Ok((Ended::Finished, failures))
    }

    /// Says where the results are, or how to go on, or what failed.
    pub(super) fn ended(&self, ended: Ended, again: &str, failures: &[Failed]) -> Result<ExitCode, Failure> {
        let root = self.root.display();
        match ended {
            Ended::Finished => print(format_args!("results in {root}"))?,
            Ended::Stopped => print(format_args!("interrupted; {again} goes on"))?,
        }
        expect_none(failures, self.runs.len())?;
        Ok(finished(ended))
    }
}

/// A run of a sweep that could not be trained.
pub(super) struct Failed {
    pub(super) name: String,
    pub(super) number: usize,
    pub(super) error: RunError,
}

fn expect_none(failures: &[Failed], runs: usize) -> Result<(), Failure> {
    if failures.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = failures
        .iter()
        .map(|Failed { name, error, .. }| format!("{name}: {error}"))
        .collect();
    Err(format!("{} of {runs} variants failed\n{}", failures.len(), told.join("\n")).into())
}

/// Says what a command would do with variants in `root`; `collects` says that it collects demonstrations that are not
/// there.
pub(super) fn plan(root: &Path, name: &str, variants: &[Variant], collects: bool) -> Result<ExitCode, Failure> {
    run::check_variants(
        variants
            .iter()
            .map(|variant| (variant.name.as_str(), &variant.experiment)),
    )?;
    let experiments: Vec<&Experiment> = variants.iter().map(|variant| &variant.experiment).collect();
    let worlds = run::groups(&experiments, share_a_world, usize::MAX).len();
    print(format_args!(
        "{} variants of {name} in {}, in {}",
        variants.len(),
        root.display(),
        match worlds {
            1 => "one world".to_owned(),
            worlds => format!("{worlds} worlds, one after another"),
        }
    ))?;
    for Variant {
        name,
        overrides,
        experiment,
        ..
    } in variants
    {
        let seeds = match experiment.seeds.as_slice() {
            [seed] => format!("seed {seed}"),
            seeds => format!("{} seeds", seeds.len()),
        };
        print(format_args!("  {name}: {seeds}, {}", overrides.join(" ")))?;
    }
    let mut told = Vec::new();
    for variant in variants {
        for note in notes(&variant.experiment, &variant.overrides, collects) {
            if !told.contains(&note) {
                print(format_args!("{note}"))?;
                told.push(note);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is good to know before a run begins.
fn notes(experiment: &Experiment, overrides: &[String], collects: bool) -> Vec<String> {
    let collected = collects.then(|| run::collection_note(experiment, overrides)).flatten();
    collected.into_iter().chain(run::memory_note(experiment)).collect()
}

/// Says what a command would do with one experiment in `root`, as [`plan`] does with several.
pub(super) fn plan_one(root: &Path, name: &str, overrides: &[String], collects: bool) -> Result<ExitCode, Failure> {
    let experiment = Experiment::load(name, overrides)?.value;
    run::check(&experiment)?;
    print(format_args!(
        "one run of {name} in {}: seeds {:?}",
        root.display(),
        experiment.seeds
    ))?;
    for note in notes(&experiment, overrides, collects) {
        print(format_args!("{note}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what a command would go on with.
pub(super) fn plan_to_go_on(root: &Path, index: &SweepIndex) -> Result<ExitCode, Failure> {
    let names: Vec<&str> = index.variants.iter().map(|variant| variant.name.as_str()).collect();
    let (count, names) = (names.len(), names.join(" "));
    print(format_args!(
        "{count} variants of {} go on in {}: {names}",
        index.experiment,
        root.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
