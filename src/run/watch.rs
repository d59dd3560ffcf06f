//! Watched worlds: agents that only act, demonstrations, and the window before either or before practice.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bevy::prelude::*;
use crossbeam::channel;

use super::evaluate::{Trained, no_checkpoint, spawn_actor};
use super::latent::{ELEMENT, latent_space};
use super::pretrain::check_sizes;
use super::problems::check;
use super::scenes::examine;
use super::train::{Foundations, learner_checkpoints};
use super::{RunError, RunFolder, Settings, SkillFolder};
use crate::agents::{AgentPlugin, Behaviour, agent_bundle};
use crate::app::{self, Ended, StopRequest};
use crate::checkpoint;
use crate::data::{Dataset, PAINTED_FROM, ReadOptions};
use crate::evaluate::Measures;
use crate::experiment::{DatasetConfig, Experiment};
use crate::learners::sac::Sac;
use crate::learners::skill_recorder::TransitionRule;
use crate::metrics::{Row, read_scalars};
use crate::practice::{LEARNER, Practice, SavedPractice};
use crate::rng::{Purpose, stream};
use crate::scene::CompiledScene;
use crate::sim::{SimPlugin, spawn_environment};
use crate::skills::latent::LatentMap;
use crate::watch::demonstrations::{DemonstrationsPlugin, POSITIONS, spawn_demonstrations};
use crate::watch::reload::{Idle, IdlePlugin, Read, SceneWorld};
use crate::watch::{self, Notice, Pace, Subject, WatchPlugin, WatcherLink, WorldLink};

/// Snapshots that go around between world and window: two to interpolate between, and one on its way.
const SNAPSHOTS: usize = 3;
/// How often a run is asked for newer checkpoints.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Learners of a run, loaded to act without learning. Nothing is written and nothing is locked, so the run may be one
/// that another process is training.
pub struct Actors<'a> {
    experiment: &'a Experiment,
    folder: &'a RunFolder,
    foundations: Foundations,
    scene: CompiledScene,
    learners: Vec<Trained>,
    /// Whether newer checkpoints are loaded when they appear.
    follows: bool,
}

impl<'a> Actors<'a> {
    /// Those learners of the run that have a checkpoint, from their newest one. `skills` is the skill model they stand
    /// on. Later, newer checkpoints take their places.
    ///
    /// # Errors
    /// The experiment's settings are wrong or do not fit the skill model or a checkpoint; no learner has a checkpoint.
    pub fn newest(
        experiment: &'a Experiment,
        folder: &'a RunFolder,
        skills: Option<PathBuf>,
    ) -> Result<Self, RunError> {
        let mut actors = Self::none(experiment, folder, skills)?;
        for &seed in &experiment.seeds {
            let trained = Trained::newest(experiment, &actors.foundations, folder, seed)?;
            actors.learners.extend(trained);
        }
        match experiment.seeds.first() {
            Some(&seed) if actors.learners.is_empty() => Err(no_checkpoint(folder, seed)),
            _ => Ok(actors),
        }
    }

    /// The learner with this seed from the checkpoint in the folder `path`.
    ///
    /// # Errors
    /// As [`newest`](Self::newest); the checkpoint is damaged, or one of something else.
    pub fn from_checkpoint(
        experiment: &'a Experiment,
        folder: &'a RunFolder,
        skills: Option<PathBuf>,
        seed: u64,
        path: &Path,
    ) -> Result<Self, RunError> {
        let mut actors = Self::none(experiment, folder, skills)?;
        let checkpoint = checkpoint::load::<SavedPractice>(path, RunFolder::LEARNER)?;
        let learner = folder.seed(seed);
        let trained = Trained::of(experiment, &actors.foundations, &learner, seed, checkpoint, LEARNER)?;
        actors.learners.push(trained);
        actors.follows = false;
        Ok(actors)
    }

    fn none(experiment: &'a Experiment, folder: &'a RunFolder, skills: Option<PathBuf>) -> Result<Self, RunError> {
        let scene = check(experiment)?;
        Ok(Self {
            experiment,
            folder,
            foundations: Foundations::load(experiment, &scene, skills)?,
            scene,
            learners: Vec::new(),
            follows: true,
        })
    }

    /// The scene they act in.
    pub fn scene(&self) -> &CompiledScene {
        &self.scene
    }

    /// Seed and practised environment steps of each learner.
    pub fn practised(&self) -> impl Iterator<Item = (u64, u64)> {
        self.learners
            .iter()
            .map(|learner| (learner.seed, learner.practice.steps))
    }

    /// Lets an agent of every learner act in each of `environments` environments of its own, episode after episode,
    /// until the settings' stop request.
    pub fn act(
        self,
        environments: usize,
        behaviour: Behaviour,
        link: WorldLink,
        settings: &Settings,
    ) -> Result<Ended, RunError> {
        let mut app = app::headless(settings.threads, settings.stop.clone());
        let notices = link.notices.clone();
        app.add_plugins((SimPlugin, AgentPlugin, WatchPlugin { link }));
        let world = app.world_mut();
        let scene = world.spawn(self.scene.clone()).id();
        let mut followed = Vec::new();
        for Trained { seed, practice, sac } in self.learners {
            let steps = practice.steps;
            let learner = spawn_actor(world, &self.foundations, counters(&practice, seed), seed, sac);
            for slot in 0..environments {
                let environment = spawn_environment(world, scene, slot, seed)?;
                // No evaluation has this number.
                let stream = stream(seed, Purpose::Evaluation, u64::MAX, slot as u64);
                let rule = TransitionRule::Aligned;
                world.spawn(agent_bundle(environment, learner, behaviour, rule, stream));
            }
            followed.push(Followed { seed, learner, steps });
        }
        let mut looked = Instant::now();
        app::run(&mut app, |world| {
            if self.follows && looked.elapsed() >= LOOK_EVERY {
                for followed in &mut followed {
                    let news = followed.look(world, self.experiment, &self.foundations, self.folder);
                    // The watcher may have gone.
                    let _ = news.map(|news| notices.send(news));
                }
                looked = Instant::now();
            }
            false
        })
        .map_err(RunError::Tick)
    }
}

/// Counters to show for a learner that only acts: how far it had practised.
fn counters(practised: &Practice, seed: u64) -> Practice {
    let mut practice = Practice::none(seed);
    practice.steps = practised.steps;
    practice.transitions = practised.transitions;
    practice.episodes = practised.episodes;
    practice.faults = practised.faults;
    practice
}

/// A learner whose checkpoints are looked after.
struct Followed {
    seed: u64,
    learner: Entity,
    /// Environment steps of the newest checkpoint that was seen.
    steps: u64,
}

impl Followed {
    /// Puts the newest checkpoint into the learner's place if it is another one than before, and says so.
    fn look(
        &mut self,
        world: &mut World,
        experiment: &Experiment,
        foundations: &Foundations,
        folder: &RunFolder,
    ) -> Option<Notice> {
        let checkpoints = learner_checkpoints(folder, self.seed, &experiment.training);
        // A folder that changes while it is listed is listed again soon.
        let newest = *checkpoints.steps().ok()?.last()?;
        if newest == self.steps {
            return None;
        }
        let seed = self.seed;
        let trained = match Trained::newest(experiment, foundations, folder, seed) {
            Ok(Some(trained)) => trained,
            // Whoever trains may just have removed what was about to be read.
            Ok(None) => return None,
            Err(error) => {
                self.steps = newest;
                return Some(Err(format!(
                    "seed {seed}: the newer checkpoint cannot be used: {error}"
                )));
            }
        };
        let Trained { practice, sac, .. } = trained;
        self.steps = newest;
        let steps = practice.steps;
        let mut learner = world.get_entity_mut(self.learner).ok()?;
        learner.insert::<(Sac, Practice)>((sac, counters(&practice, seed)));
        Some(Ok(format!("seed {seed} acts as after {steps} steps now")))
    }
}

/// Demonstrations that are played in a scene.
pub struct Replay {
    dataset: Arc<Dataset>,
    scene: CompiledScene,
}

/// The side array of mazes with the number that draws each of them.
const LAYOUT: &str = "layout";

impl Replay {
    /// Reads the file `path`, whose rows must have the sizes of the scene `scene`: a name in `scenes/` or a path, with
    /// `overrides` laid over it. Without a name it is the scene that the file names, or `kitchen`.
    ///
    /// # Errors
    /// The file or the scene cannot be read, or they do not fit each other.
    pub fn load(path: &Path, scene: Option<&str>, overrides: &[String]) -> Result<Self, RunError> {
        let options = ReadOptions {
            infos: [POSITIONS, LAYOUT].map(str::to_owned).to_vec(),
            ..ReadOptions::default()
        };
        let dataset = Dataset::read_with(path, &options)?;
        if dataset.infos().contains_key(LAYOUT) {
            bevy::log::warn!(
                "{}: every demonstration was made in a maze of its own; all are played in the maze of the scene",
                path.display()
            );
        }
        let named = dataset.attributes().get("scene").map(String::as_str);
        let name = scene.or(named).unwrap_or("kitchen");
        let scene = CompiledScene::load(name, overrides)?;
        check_sizes(name, &scene, &dataset)?;
        Ok(Self {
            dataset: Arc::new(dataset),
            scene,
        })
    }

    /// The scene they are played in.
    pub fn scene(&self) -> &CompiledScene {
        &self.scene
    }

    /// What is to be known about it.
    pub fn subject(&self) -> Subject {
        let count = self.dataset.sequences().len();
        Subject {
            title: format!("{}: {count} demonstrations", self.dataset.origin()),
            scene: Arc::new(self.scene.clone()),
            task: Measures::of(&self.scene).task,
            skill_map: None,
            trains: false,
            metrics: Vec::new(),
        }
    }

    /// Plays them in `environments` environments, over and over, until the settings' stop request.
    pub fn play(self, environments: usize, link: WorldLink, settings: &Settings) -> Result<Ended, RunError> {
        let mut app = app::headless(settings.threads, settings.stop.clone());
        let demonstrations = DemonstrationsPlugin {
            dataset: self.dataset,
            environments,
        };
        app.add_plugins((demonstrations, WatchPlugin { link }));
        let world = app.world_mut();
        let scene = world.spawn(self.scene).id();
        spawn_demonstrations(world, scene)?;
        app::run(&mut app, |_| false).map_err(RunError::Tick)
    }
}

/// A scene by itself, whose files are followed.
pub struct SceneShow {
    name: String,
    overrides: Vec<String>,
    scene: CompiledScene,
    files: Vec<PathBuf>,
}

impl SceneShow {
    /// Reads a scene, a name in `scenes/` or a path, with `overrides` laid over it.
    ///
    /// # Errors
    /// The scene cannot be used as it is.
    pub fn load(name: &str, overrides: &[String]) -> Result<Self, RunError> {
        // The first fault is enough here; `scenes check` tells all.
        let scene = CompiledScene::load(name, overrides)?;
        Ok(Self {
            name: name.to_owned(),
            overrides: overrides.to_vec(),
            scene,
            files: examine(name, overrides).files,
        })
    }

    /// The scene as it is now.
    pub fn scene(&self) -> &CompiledScene {
        &self.scene
    }

    /// What is to be known about it.
    pub fn subject(&self) -> Subject {
        Subject {
            title: format!("scene {}", self.name),
            scene: Arc::new(self.scene.clone()),
            task: Measures::of(&self.scene).task,
            skill_map: None,
            trains: false,
            metrics: Vec::new(),
        }
    }

    /// Runs it in `environments` environments in which nobody acts but chance, until the settings' stop request. When its
    /// files change it is read again.
    pub fn play(
        self,
        environments: usize,
        idle: Idle,
        link: WorldLink,
        settings: &Settings,
    ) -> Result<Ended, RunError> {
        let mut app = app::headless(settings.threads, settings.stop.clone());
        app.add_plugins((SimPlugin, IdlePlugin, WatchPlugin { link }));
        let (name, overrides) = (self.name, self.overrides);
        let read = move || {
            let examined = examine(&name, &overrides);
            Read {
                scene: examined.scene.ok_or(examined.found.errors),
                files: examined.files,
            }
        };
        SceneWorld::begin(app.world_mut(), self.scene, &self.files, environments, idle, read)?;
        app::run(&mut app, |_| false).map_err(RunError::Tick)
    }
}

/// Whether every learner of a run has practised as long as its experiment says.
pub fn all_steps_made(experiment: &Experiment, folder: &RunFolder) -> Result<bool, RunError> {
    for &seed in &experiment.seeds {
        let steps = learner_checkpoints(folder, seed, &experiment.training).steps()?;
        if steps.last().is_none_or(|&steps| steps < experiment.training.steps) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is to be known about a run: about practice if it `trains`, otherwise about learners that act. `skills` is the
/// skill model they stand on. A map of its skills, and the metrics so far, are there if they can be read.
pub fn subject_of_run(
    experiment: &Experiment,
    folder: &RunFolder,
    skills: Option<&Path>,
    scene: &CompiledScene,
    trains: bool,
) -> Subject {
    let root = folder.root().display();
    let title = match trains {
        true => format!("{root}: practice"),
        false => format!("{root}: acting"),
    };
    Subject {
        title,
        scene: Arc::new(scene.clone()),
        task: Measures::of(scene).task,
        skill_map: skills.and_then(|skills| skill_map(experiment, skills)).map(Arc::new),
        trains,
        metrics: metrics_so_far(experiment, folder, trains),
    }
}

/// The skills of the experiment's demonstrations in two dimensions; `None` if model or demonstrations cannot be read or
/// do not fit, or the model has no latent space.
fn skill_map(experiment: &Experiment, skills: &Path) -> Option<LatentMap> {
    let (folder, saved) = SkillFolder::open(skills).ok()?;
    let DatasetConfig { path, image_memory, .. } = experiment.dataset.as_ref()?;
    let options = ReadOptions {
        image_memory: *image_memory,
        infos: std::iter::once(ELEMENT)
            .chain(PAINTED_FROM)
            .map(str::to_owned)
            .collect(),
        ..ReadOptions::default()
    };
    let dataset = Dataset::read_with(path, &options).ok()?;
    if (dataset.observation_dim(), dataset.action_dim()) != (saved.observation, saved.action) {
        return None;
    }
    let (model, _) = folder.load(&saved).ok()?;
    latent_space(model.as_ref(), experiment, &Arc::new(dataset))
        .ok()
        .flatten()
}

/// Metrics of all learners of the run. Of practice that goes on, those up to the checkpoint from which it does; the
/// others come again.
fn metrics_so_far(experiment: &Experiment, folder: &RunFolder, trains: bool) -> Vec<(u64, Row)> {
    let mut metrics = Vec::new();
    for &seed in &experiment.seeds {
        let checkpoints = learner_checkpoints(folder, seed, &experiment.training);
        let newest = checkpoints.steps().ok().and_then(|steps| steps.last().copied());
        let most = if trains { newest.unwrap_or(0) } else { u64::MAX };
        let rows = read_scalars(&folder.seed(seed)).unwrap_or_default();
        let rows = rows.into_iter().filter(|row| row.step <= most);
        metrics.extend(rows.map(|row| (seed, row)));
    }
    metrics
}

/// Why a world could not be watched to its end.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The world failed.
    #[error(transparent)]
    World(#[from] RunError),
    /// The window failed.
    #[cfg(feature = "window")]
    #[error(transparent)]
    View(#[from] crate::view::ViewError),
    /// The program has no window.
    #[cfg(not(feature = "window"))]
    #[error(
        "this program was built without its window (--no-default-features); build it with `cargo build`, or leave the \
         window out: `apprentice train` practises, `apprentice evaluate` evaluates, `apprentice inspect` looks into \
         demonstrations"
    )]
    NoWindow,
    /// The world got no thread of its own.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// How a watched world ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// What the world says. Closing the window stops it.
    pub world: Ended,
    /// Whether a signal such as Ctrl-C ended both.
    pub interrupted: bool,
}

/// Fails where no window can be opened. To be called before anything is begun.
#[cfg(feature = "window")]
pub fn check_window() -> Result<(), WatchError> {
    Ok(crate::view::check_display()?)
}

/// Fails: this program has no window.
#[cfg(not(feature = "window"))]
pub fn check_window() -> Result<(), WatchError> {
    Err(WatchError::NoWindow)
}

/// Runs `world` on a thread of its own, starting at `pace`, and shows it in a window until that is closed, which ends
/// the world by the settings' stop request. Must be called on the main thread.
pub fn in_window(
    subject: Subject,
    pace: Pace,
    settings: &Settings,
    world: impl FnOnce(WorldLink) -> Result<Ended, RunError> + Send,
) -> Result<Session, WatchError> {
    check_window()?;
    // Otherwise the app that is first would decide for both.
    app::make_room_for_window(settings.threads);
    watched(pace, settings, world, |link, ended| {
        show(subject, link, settings.stop.clone(), ended)
    })
}

#[cfg(feature = "window")]
fn show(
    subject: Subject,
    link: WatcherLink,
    stop: StopRequest,
    ended: channel::Receiver<Notice>,
) -> Result<(), WatchError> {
    Ok(crate::view::run_window(subject, link, stop, ended)?)
}

#[cfg(not(feature = "window"))]
fn show(_: Subject, _: WatcherLink, _: StopRequest, _: channel::Receiver<Notice>) -> Result<(), WatchError> {
    Err(WatchError::NoWindow)
}

/// Runs `world` on a thread of its own while `watcher` runs on this one. When the watcher comes back, the stop request
/// is made, and the world's last words decide.
fn watched(
    pace: Pace,
    settings: &Settings,
    world: impl FnOnce(WorldLink) -> Result<Ended, RunError> + Send,
    watcher: impl FnOnce(WatcherLink, channel::Receiver<Notice>) -> Result<(), WatchError>,
) -> Result<Session, WatchError> {
    let (world_end, watcher_end) = watch::link(pace, SNAPSHOTS);
    let (last_words, ended) = channel::bounded(1);
    thread::scope(|scope| {
        // However the watcher ends, or the scope would wait for a world that nobody stops.
        let stop = StopAtEnd(&settings.stop);
        let world = thread::Builder::new()
            .name("world".into())
            .spawn_scoped(scope, move || {
                let result = catch_unwind(AssertUnwindSafe(|| world(world_end)));
                let words = match &result {
                    Ok(Ok(Ended::Finished)) => Ok("all steps are made".to_owned()),
                    Ok(Ok(Ended::Stopped)) => Ok("stopped".to_owned()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("the program has a fault; standard error says where".to_owned()),
                };
                // The watcher may have gone.
                let _ = last_words.send(words);
                result.unwrap_or_else(|fault| resume_unwind(fault))
            })?;
        let shown = watcher(watcher_end, ended);
        let interrupted = settings.stop.is_made();
        drop(stop);
        let world = world.join().unwrap_or_else(|fault| resume_unwind(fault))?;
        shown?;
        Ok(Session { world, interrupted })
    })
}

/// Makes a stop request when it goes out of scope.
struct StopAtEnd<'a>(&'a StopRequest);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.make();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn settings() -> Settings {
        Settings {
            threads: 1,
            stop: StopRequest::default(),
        }
    }

    /// A world that does nothing until it is stopped.
    fn idle(stop: StopRequest) -> impl FnOnce(WorldLink) -> Result<Ended, RunError> + Send {
        move |_| {
            while !stop.is_made() {
                thread::yield_now();
            }
            Ok(Ended::Stopped)
        }
    }

    #[test]
    fn a_world_ends_with_its_watcher() {
        let settings = settings();
        let world = idle(settings.stop.clone());
        let session = watched(Pace::Unlimited, &settings, world, |_, _| Ok(())).unwrap();
        assert_eq!((session.world, session.interrupted), (Ended::Stopped, false));

        let settings = self::settings();
        let (world, stop) = (idle(settings.stop.clone()), settings.stop.clone());
        let session = watched(Pace::Unlimited, &settings, world, |_, ended| {
            stop.make();
            assert_eq!(ended.recv().unwrap(), Ok("stopped".to_owned()));
            Ok(())
        });
        assert!(session.unwrap().interrupted);
    }

    #[test]
    fn a_watcher_hears_how_a_world_ended() {
        let settings = settings();
        let fails = |_| Err(RunError::Tick("no more".into()));
        let mut words = None;
        let error = watched(Pace::Paused, &settings, fails, |_, ended| {
            words = ended.recv().ok();
            Ok(())
        });
        assert_eq!(words, Some(Err("no more".to_owned())));
        assert!(matches!(error, Err(WatchError::World(RunError::Tick(_)))), "{error:?}");
        let finishes = |_| Ok(Ended::Finished);
        let session = watched(Pace::Paused, &self::settings(), finishes, |_, ended| {
            words = ended.recv().ok();
            Ok(())
        });
        assert_eq!(words, Some(Ok("all steps are made".to_owned())));
        assert_eq!(session.unwrap().world, Ended::Finished);
    }
}
