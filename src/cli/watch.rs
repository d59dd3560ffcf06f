//! `apprentice watch`: practice, trained agents, demonstrations or a scene by itself in a window.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Failure, TrainingArguments, finished, print, train};
use crate::agents::Behaviour;
use crate::app::Ended;
use crate::experiment::Experiment;
use crate::files::{self, FileKind};
use crate::run::{self, Actors, Replay, RunFolder, RunFolderError, SceneShow, Session, Settings};
use crate::scene::Scene;
use crate::watch::Pace;
use crate::watch::reload::Idle;

/// Environments of a replay.
const REPLAYED: usize = 8;

/// Watch practice, trained agents, demonstrations or a scene by itself in a window.
///
/// An experiment begins to practise in a folder of its own, just as with `apprentice train`. A run goes on with its
/// practice; once all its steps are made, while another process works in it, or with --evaluate, its newest checkpoints
/// act without learning, and newer ones take their places when they appear. A checkpoint acts. Demonstrations are
/// played. A scene is shown with nobody in it, and follows its file: a good edit is to be seen at once, a broken one is
/// explained while the old scene stays. Watching changes nothing about what is learned; closing the window ends what it
/// shows, and practice keeps all it has learned.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  apprentice watch kitchen/spirl_cl                 practise, and watch it
  apprentice watch kitchen/sac environments=4 --out runs/sac
  apprentice watch runs/practice                    go on with a run
  apprentice watch runs/practice --evaluate --most-likely --environments 4
  apprentice watch runs/practice/seed_0/checkpoints/step_000100000
  apprentice watch data/kitchen.hdf5 --pace slow    the demonstrations, at a quarter of real time
  apprentice watch kitchen/sac --paused             begin with a pause, go on from the window
  apprentice watch scenes/mine.ron --random         a scene, while its file is being written

Without a screen: `apprentice train` practises, `apprentice evaluate` counts what trained agents complete,
`apprentice inspect` looks into demonstrations.")]
pub(super) struct Arguments {
    /// An experiment (a name in configs/ or a path), the folder of a run, the folder of a checkpoint of a learner, a
    /// file of demonstrations (.hdf5), or a scene (a name in scenes/ or a path).
    what: String,
    /// Overrides of the experiment, such as `training.steps=20_000`; of the scene if demonstrations are played, or the
    /// scene alone is shown.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Environments of each learner, demonstrations at a time, or environments of a scene [default: the experiment's, 8,
    /// or 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    environments: Option<u16>,
    /// Let the newest checkpoints of a run act without learning.
    #[arg(long)]
    evaluate: bool,
    /// Agents that act take the most likely skill instead of a sampled one.
    #[arg(long)]
    most_likely: bool,
    /// Speed to begin with: slow (a quarter of real time), real, fast (as fast as possible) or so many times real time
    /// [default: fast for practice, else real].
    #[arg(long, value_name = "SPEED", value_parser = Speed::parse)]
    pace: Option<Speed>,
    /// Begin with a pause, after the first tick.
    #[arg(long, conflicts_with = "pace")]
    paused: bool,
    /// Scene in which demonstrations are played [default: the one the file names, else kitchen].
    #[arg(long, value_name = "NAME")]
    scene: Option<String>,
    /// Let chance act in a scene that is shown by itself; otherwise nobody does.
    #[arg(long)]
    random: bool,
    /// Folder of the skill model or of a run that has one [default: the run's own, or the newest one below runs/ that
    /// fits].
    #[arg(long, value_name = "FOLDER")]
    skills: Option<PathBuf>,
    /// Folder of the run that an experiment begins [default: runs/EXPERIMENT, or `runs/EXPERIMENT_2` and so on if that
    /// is taken].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on with the run of the experiment in the folder (--out) from its last checkpoints.
    #[arg(long)]
    resume: bool,
}

/// How fast a watched world begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Speed {
    /// It waits.
    Paused,
    /// So many times real time.
    Times(f64),
    /// As fast as it can.
    Fast,
}

impl Speed {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "slow" => Ok(Self::Times(0.25)),
            "real" => Ok(Self::Times(1.0)),
            "fast" => Ok(Self::Fast),
            number => match number.parse::<f64>() {
                Ok(times) if times.is_finite() && times > 0.0 => Ok(Self::Times(times)),
                _ => Err("expected slow, real, fast, or a number above 0 such as 0.5".into()),
            },
        }
    }

    /// The pace of a world whose control steps last `period` seconds.
    pub(super) fn pace(self, period: f64) -> Pace {
        match self {
            Self::Paused => Pace::Paused,
            Self::Times(times) => Pace::Limited(times / period),
            Self::Fast => Pace::Unlimited,
        }
    }
}

/// What there is to watch.
enum What {
    Experiment,
    Run(RunFolder),
    Checkpoint(RunFolder, u64),
    Demonstrations,
    Scene,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let what = find(&arguments.what, arguments.random)?;
    arguments.check(&what)?;
    match what {
        What::Experiment => {
            let (name, out) = (arguments.what.clone(), arguments.out.clone());
            practise(arguments, name, out, arguments.resume, settings)
        }
        What::Run(folder) => watch_run(arguments, &folder, settings),
        What::Checkpoint(folder, seed) => {
            let experiment = folder.experiment(&arguments.overrides)?;
            folder.warn_of_changed_scene(&experiment);
            let skills = arguments.skills_of(&folder)?;
            let path = Path::new(&arguments.what);
            let actors = Actors::from_checkpoint(&experiment, &folder, skills.clone(), seed, path)?;
            act(arguments, &experiment, &folder, skills.as_deref(), actors, settings)
        }
        What::Demonstrations => replay(arguments, settings),
        What::Scene => show_scene(arguments, settings),
    }
}

/// Finds out what is meant by `what`; where chance is to act (`random`), a scene rather than the experiment of its name.
fn find(what: &str, random: bool) -> Result<What, Failure> {
    let path = Path::new(what);
    let ends_in = |ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    if ends_in("hdf5") || ends_in("h5") {
        return Ok(What::Demonstrations);
    }
    let run = match RunFolder::open(path) {
        Ok(folder) => return Ok(What::Run(folder)),
        Err(error) => error,
    };
    if path.join("manifest.json").is_file() {
        return match RunFolder::of_checkpoint(path) {
            Some((folder, seed)) => Ok(What::Checkpoint(folder, seed)),
            None => Err(format!(
                "{what}: a checkpoint of a learner lies in its run, as RUN/seed_0/checkpoints/step_000100000; this one \
                 does not, and cannot act"
            )
            .into()),
        };
    }
    // The part of a run that belongs to one learner.
    if let Some(parent) = path.parent().filter(|parent| RunFolder::open(parent).is_ok())
        && path.is_dir()
    {
        return Err(format!(
            "{what}: belongs to a run and is none itself; watch the run (`{}`) or a checkpoint in it \
             (`{what}/checkpoints/step_...`)",
            parent.display()
        )
        .into());
    }
    let known = files::list(FileKind::Experiment, &files::roots());
    let is_file = ["", ".ron"].iter().any(|ending| {
        let name = format!("{what}{ending}");
        name.ends_with(".ron") && Path::new(&name).is_file()
    });
    let name = what.trim_end_matches(".ron");
    let is_scene_name = !is_file && files::list(FileKind::Scene, &files::roots()).contains_key(name);
    // An experiment may have the name of its scene.
    if !is_file && known.contains_key(name) && !(random && is_scene_name) {
        return Ok(What::Experiment);
    }
    if is_scene_name {
        return Ok(What::Scene);
    }
    if is_file {
        return Ok(if is_scene(what) { What::Scene } else { What::Experiment });
    }
    Err(unknown(what, &run))
}

/// Whether a file is a scene rather than an experiment: whichever has fewer faults, else what its folder says.
fn is_scene(file: &str) -> bool {
    let scene = files::check::<Scene>(FileKind::Scene, file, &[]).errors.len();
    let experiment = files::check::<Experiment>(FileKind::Experiment, file, &[]).errors.len();
    let mut folders = Path::new(file).components();
    scene < experiment || (scene == experiment && folders.any(|part| part.as_os_str() == FileKind::Scene.folder()))
}

fn unknown(what: &str, run: &RunFolderError) -> Failure {
    let path = Path::new(what);
    // The messages about an experiment and about a run say what is near.
    let near = if path.is_dir() {
        run.to_string()
    } else {
        Experiment::load(what, &[]).map_or_else(|error| error.to_string(), |_| run.to_string())
    };
    format!(
        "{what}: nothing to watch: expected an experiment, the folder of a run or of a checkpoint in one, a file of \
         demonstrations (.hdf5), or a scene; {near}"
    )
    .into()
}

impl Arguments {
    /// Refuses options that mean nothing for `what`.
    fn check(&self, what: &What) -> Result<(), Failure> {
        let is_run = matches!(what, What::Run(_));
        let acts = matches!(what, What::Checkpoint(..)) || (is_run && self.evaluate);
        let begins = matches!(what, What::Experiment);
        let scene = matches!(what, What::Scene);
        let plays = matches!(what, What::Demonstrations) || scene;
        let refused = [
            (
                self.evaluate && (begins || plays),
                "--evaluate",
                "is for the folder of a run",
            ),
            (
                self.most_likely && (begins || plays),
                "--most-likely",
                "is for trained agents (a run with --evaluate, or a checkpoint): agents that practise sample",
            ),
            (
                self.scene.is_some() && (!plays || scene),
                "--scene",
                "is for demonstrations; other scenes are overrides (scene=NAME)",
            ),
            (
                self.skills.is_some() && plays,
                "--skills",
                "means nothing for demonstrations and scenes",
            ),
            (
                self.random && !scene,
                "--random",
                "is for a scene that is shown by itself",
            ),
            (self.out.is_some() && !begins, "--out", "is for an experiment"),
            (
                self.resume && !begins,
                "--resume",
                if acts || plays {
                    "is for an experiment"
                } else {
                    "is not needed: a run goes on"
                },
            ),
        ];
        match refused.iter().find(|(given, ..)| *given) {
            Some((_, option, why)) => Err(format!("{option} {why}").into()),
            None => Ok(()),
        }
    }

    /// The speed to begin with, where `usual` is the default.
    fn speed(&self, usual: Speed) -> Speed {
        if self.paused {
            Speed::Paused
        } else {
            self.pace.unwrap_or(usual)
        }
    }

    /// The skill model that the learners of a run stand on.
    fn skills_of(&self, folder: &RunFolder) -> Result<Option<PathBuf>, RunFolderError> {
        match &self.skills {
            Some(skills) => Ok(Some(skills.clone())),
            None => folder.skills_used(),
        }
    }
}

/// Practises the experiment `name`, as `apprentice train` does.
fn practise(
    arguments: &Arguments,
    name: String,
    out: Option<PathBuf>,
    resume: bool,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let mut overrides = arguments.overrides.clone();
    overrides.extend(arguments.environments.map(|number| format!("environments={number}")));
    let training = train::Arguments {
        run: TrainingArguments {
            experiment: name,
            overrides,
            out,
            resume,
        },
        skills: arguments.skills.clone(),
        window: true,
        sweep: train::SweepArguments::default(),
    };
    train::run_at(&training, arguments.speed(Speed::Fast), settings)
}

/// Goes on with a run if there is something to go on with; otherwise its learners act.
fn watch_run(arguments: &Arguments, folder: &RunFolder, settings: &Settings) -> Result<ExitCode, Failure> {
    let experiment = folder.experiment(&arguments.overrides)?;
    let why = if arguments.evaluate {
        None
    } else if run::all_steps_made(&experiment, folder)? {
        Some("all steps of this run are made")
    } else {
        match RunFolder::resume(folder.root()) {
            // The lock goes and comes again with the run that goes on.
            Ok(unlocked) => {
                drop(unlocked);
                let root = folder.root().to_path_buf();
                let name = folder.experiment_name().unwrap_or_else(|| root.display().to_string());
                if arguments.most_likely {
                    return Err("--most-likely: agents that practise sample their skills; add --evaluate".into());
                }
                return practise(arguments, name, Some(root), true, settings);
            }
            Err(RunFolderError::InUse(_)) => Some("another process works in this run"),
            Err(error) => return Err(error.into()),
        }
    };
    folder.warn_of_changed_scene(&experiment);
    let skills = arguments.skills_of(folder)?;
    let actors = Actors::newest(&experiment, folder, skills.clone())?;
    run::check_window()?;
    if let Some(why) = why {
        print(format_args!("{why}: its newest checkpoints act, without learning"))?;
    }
    act(arguments, &experiment, folder, skills.as_deref(), actors, settings)
}

/// Lets trained learners act.
fn act(
    arguments: &Arguments,
    experiment: &Experiment,
    folder: &RunFolder,
    skills: Option<&Path>,
    actors: Actors,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let behaviour = match arguments.most_likely {
        true => Behaviour::MostLikely,
        false => Behaviour::Samples,
    };
    let environments = arguments.environments.map_or(experiment.environments, usize::from);
    let scene = actors.scene();
    let pace = arguments.speed(Speed::Times(1.0)).pace(scene.period());
    let subject = run::subject_of_run(experiment, folder, skills, scene, false);
    let session = run::in_window(subject, pace, settings, |link| {
        actors.act(environments, behaviour, link, settings)
    })?;
    Ok(closed(session))
}

fn replay(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let path = Path::new(&arguments.what);
    let replay = Replay::load(path, arguments.scene.as_deref(), &arguments.overrides)?;
    let environments = arguments.environments.map_or(REPLAYED, usize::from);
    let pace = arguments.speed(Speed::Times(1.0)).pace(replay.scene().period());
    let session = run::in_window(replay.subject(), pace, settings, |link| {
        replay.play(environments, link, settings)
    })?;
    Ok(closed(session))
}

fn show_scene(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let show = SceneShow::load(&arguments.what, &arguments.overrides)?;
    let environments = arguments.environments.map_or(1, usize::from);
    let idle = if arguments.random {
        Idle::ActsAtRandom
    } else {
        Idle::Rests
    };
    let pace = arguments.speed(Speed::Times(1.0)).pace(show.scene().period());
    let session = run::in_window(show.subject(), pace, settings, |link| {
        show.play(environments, idle, link, settings)
    })?;
    Ok(closed(session))
}

/// Closing its window is how a world without end comes to its end.
fn closed(session: Session) -> ExitCode {
    finished(match session.interrupted {
        true => Ended::Stopped,
        false => Ended::Finished,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn speeds_are_words_or_multiples_of_real_time() {
        let pace = |text| Speed::parse(text).map(|speed| speed.pace(0.1));
        assert_eq!(pace("real"), Ok(Pace::Limited(10.0)));
        assert_eq!(pace("slow"), Ok(Pace::Limited(2.5)));
        assert_eq!(pace("2"), Ok(Pace::Limited(20.0)));
        assert_eq!(pace("fast"), Ok(Pace::Unlimited));
        for wrong in ["", "0", "-1", "inf", "NaN", "faster"] {
            assert!(pace(wrong).is_err(), "{wrong}");
        }
    }
}
