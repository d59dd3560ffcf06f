//! A world with a scene and nobody in it, which follows the scene's files.
//!
//! The files are the scene's own, those it extends, and everything in the folder of its MJCF file. They are looked at
//! every half second, by their times and lengths. Once they have changed and come to rest the scene is read again. A
//! sound one takes the place of the old one, with fresh environments; of a faulty one everything that is wrong is told,
//! and the old one stays. Nothing of it needs a window: [`Follower`] says what is to be done, `look` does it.
//!
//! Scenes in which agents act are not followed: their networks belong to the observations and actions there were.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bevy::prelude::*;
use rand::RngExt;

use super::hold::Clock;
use super::{SceneNews, WorldLink};
use crate::rng::{Purpose, Stream, stream};
use crate::scene::CompiledScene;
use crate::sim::{Action, Environment, InstanceOf, SimError};
use crate::tick::{Tick, TickSystems};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most files beside a model that are looked at.
const MOST_FILES: usize = 2_000;
/// How deep folders beside a model are looked into.
const DEEPEST: usize = 4;

/// How often the scene of this world has been replaced.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SceneGeneration(pub u64);

/// A scene as it is read from its files.
pub struct Read {
    /// The scene, or all that is wrong with it, in whole messages.
    pub scene: Result<CompiledScene, Vec<String>>,
    /// The files it depends on, as far as they are known.
    pub files: Vec<PathBuf>,
}

/// Time and length of files; none for one that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileStates(BTreeMap<PathBuf, Option<(SystemTime, u64)>>);

impl FileStates {
    /// Those of these files now.
    pub fn of<'p>(files: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        let state = |path: &Path| {
            let data = std::fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        };
        Self(files.into_iter().map(|path| (path.clone(), state(path))).collect())
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.keys()
    }
}

/// Finds out when files have changed and come to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// The files as they were when they were read.
    read: FileStates,
    /// The files as they were at the last look, if they had changed.
    changed: Option<FileStates>,
}

impl Follower {
    /// Follows files that were read when they were in these states.
    pub fn new(read: FileStates) -> Self {
        Self { read, changed: None }
    }

    /// Whether it is time to read the files, which are in the states `now`: they have changed since they were read, but
    /// not since the last look. Editors write a file in several steps.
    pub fn is_due(&mut self, now: FileStates) -> bool {
        if now == self.read {
            self.changed = None;
            return false;
        }
        let at_rest = self.changed.as_ref() == Some(&now);
        if at_rest {
            (self.read, self.changed) = (now, None);
        } else {
            self.changed = Some(now);
        }
        at_rest
    }
}

/// The files beside an MJCF file, itself included: what it includes, meshes and textures lie there.
pub fn files_of_model(model: &Path) -> Vec<PathBuf> {
    let mut found = vec![model.to_path_buf()];
    let mut folders = vec![(model.parent().map(Path::to_path_buf).unwrap_or_default(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if found.len() >= MOST_FILES {
                return found;
            }
            if path.is_dir() {
                if depth < DEEPEST {
                    folders.push((path, depth + 1));
                }
            } else {
                found.push(path);
            }
        }
    }
    found
}

/// What the agents that are not there do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Idle {
    /// Actions are zero.
    #[default]
    Rests,
    /// Every number of every action is drawn anew for every tick, evenly from -1 to 1.
    ActsAtRandom,
}

/// Random numbers of an environment whose actions are drawn.
#[derive(Component, Debug)]
pub struct RandomHand(Stream);

/// Follows the files of the scene of [`SceneWorld::begin`].
#[derive(Resource)]
pub struct SceneWorld {
    read: Box<dyn FnMut() -> Read + Send + Sync>,
    follower: Follower,
    looked: Instant,
    scene: Entity,
    environments: usize,
    idle: Idle,
    broken: bool,
}

impl std::fmt::Debug for SceneWorld {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.debug_struct("SceneWorld")
            .field("follower", &self.follower)
            .finish_non_exhaustive()
    }
}

/// Adds the random actions of a [`SceneWorld`].
pub struct IdlePlugin;

impl Plugin for IdlePlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(Tick, act_at_random.in_set(TickSystems::Decide));
    }
}

fn act_at_random(mut environments: Query<(&mut RandomHand, &mut Action)>) {
    for (mut hand, mut action) in &mut environments {
        action
            .iter_mut()
            .for_each(|number| *number = hand.0.random_range(-1.0..=1.0));
    }
}

impl SceneWorld {
    /// Spawns `environments` of a scene that was read from these files, and reads it anew with `read` when they change.
    ///
    /// # Errors
    /// [`SimError::Data`] if memory runs out.
    pub fn begin(
        world: &mut World,
        scene: CompiledScene,
        files: &[PathBuf],
        environments: usize,
        idle: Idle,
        read: impl FnMut() -> Read + Send + Sync + 'static,
    ) -> Result<(), SimError> {
        let scene = populate(world, scene, environments, idle)?;
        world.init_resource::<SceneGeneration>();
        world.insert_resource(Self {
            read: Box::new(read),
            follower: Follower::new(FileStates::of(files)),
            looked: Instant::now(),
            scene,
            environments,
            idle,
            broken: false,
        });
        Ok(())
    }
}

/// Spawns a scene with its environments, or nothing at all.
fn populate(world: &mut World, scene: CompiledScene, environments: usize, idle: Idle) -> Result<Entity, SimError> {
    let made: Vec<Environment> = (0..environments)
        .map(|slot| Environment::new(&scene, slot, 0))
        .collect::<Result<_, _>>()?;
    let scene = world.spawn(scene).id();
    for (slot, environment) in made.into_iter().enumerate() {
        let mut environment = world.spawn((environment, InstanceOf(scene)));
        if idle == Idle::ActsAtRandom {
            // No evaluation has this number.
            environment.insert(RandomHand(stream(0, Purpose::Evaluation, u64::MAX, slot as u64)));
        }
    }
    Ok(scene)
}

/// Looks at the files if it is time to, and follows them if they have changed.
pub(super) fn look(world: &mut World) {
    let is_time = |state: &SceneWorld| state.looked.elapsed() >= LOOK_EVERY;
    if !world.get_resource::<SceneWorld>().is_some_and(is_time) {
        return;
    }
    let Some(mut state) = world.remove_resource::<SceneWorld>() else {
        return;
    };
    state.looked = Instant::now();
    let now = FileStates::of(state.follower.read.files());
    if state.follower.is_due(now) {
        state.follow(world);
    }
    world.insert_resource(state);
}

impl SceneWorld {
    /// Reads the files again and does what follows.
    fn follow(&mut self, world: &mut World) {
        let Some(link) = world.get_resource::<WorldLink>().cloned() else {
            return;
        };
        let read = (self.read)();
        // Files that were known stay known: what a faulty file extends cannot be told.
        let files: Vec<PathBuf> = match read.scene {
            Ok(_) => read.files,
            Err(_) => self.follower.read.files().cloned().chain(read.files).collect(),
        };
        // Those that were known as they were before they were read: a change since then is a new one.
        let mut states = FileStates::of(&files);
        for (path, state) in &self.follower.read.0 {
            if let Some(now) = states.0.get_mut(path) {
                *now = *state;
            }
        }
        self.follower = Follower::new(states);
        let replaced = read.scene.and_then(|scene| {
            let shared = Arc::new(scene.clone());
            let entity =
                populate(world, scene, self.environments, self.idle).map_err(|error| vec![error.to_string()])?;
            Ok((shared, entity))
        });
        // The watcher may have gone; then nobody misses the news.
        match replaced {
            Err(errors) => {
                for error in &errors {
                    bevy::log::error!("{error}");
                }
                self.broken = true;
                let _ = link.notices.send(Err(
                    "the scene cannot be used as it is written now; the old one stays".into()
                ));
                let _ = link.scenes.send(SceneNews::Broken(errors));
            }
            Ok((scene, entity)) => {
                // Its environments go with it.
                world.despawn(self.scene);
                self.scene = entity;
                let mut generation = world.get_resource_or_init::<SceneGeneration>();
                generation.0 += 1;
                let generation = generation.0;
                if std::mem::take(&mut self.broken) {
                    let _ = link.scenes.send(SceneNews::Sound);
                }
                // Before the first snapshot that shows it.
                let _ = link.scenes.send(SceneNews::Replaced { generation, scene });
                let _ = link
                    .notices
                    .send(Ok(format!("the scene was read again ({generation})")));
            }
        }
        if let Some(mut clock) = world.get_resource_mut::<Clock>() {
            clock.has_changed();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::app::{StopRequest, headless};
    use crate::sim::SimPlugin;
    use crate::watch::{Pace, WatchPlugin, WatcherLink, link};

    fn states(files: &[(&str, u64)]) -> FileStates {
        let state =
            |seconds: u64| (seconds > 0).then(|| (SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), seconds));
        FileStates(
            files
                .iter()
                .map(|&(path, seconds)| (path.into(), state(seconds)))
                .collect(),
        )
    }

    #[test]
    fn files_are_read_when_they_have_changed_and_come_to_rest() {
        let mut follower = Follower::new(states(&[("a", 1), ("b", 1)]));
        let mut look = |files: &[(&str, u64)]| follower.is_due(states(files));
        assert!(!look(&[("a", 1), ("b", 1)]), "nothing has changed");
        assert!(!look(&[("a", 2), ("b", 1)]), "it may be half written");
        assert!(!look(&[("a", 3), ("b", 1)]), "it was");
        assert!(look(&[("a", 3), ("b", 1)]));
        assert!(!look(&[("a", 3), ("b", 1)]), "once is enough");
        assert!(!look(&[("a", 3), ("b", 0)]), "it has gone");
        assert!(look(&[("a", 3), ("b", 0)]));
        assert!(!look(&[("a", 3), ("b", 9)]), "it is back");
        assert!(
            !look(&[("a", 3), ("b", 0)]),
            "and gone again, as it was when it was read"
        );
        assert!(!look(&[("a", 3), ("b", 0)]));
    }

    #[test]
    fn files_beside_a_model_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["model.xml", "parts/arm.xml", "meshes/deep/arm.stl"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = files_of_model(&folder.path().join("model.xml"));
        assert!(
            found.iter().any(|path| path.ends_with("meshes/deep/arm.stl")),
            "{found:?}"
        );
        let states = FileStates::of(&found);
        std::fs::write(folder.path().join("parts/arm.xml"), "<mujoco/>").unwrap();
        assert_ne!(FileStates::of(&found), states);
    }

    /// A paused world of mazes that reads what `next` gives as soon as it looks.
    fn world(
        idle: Idle,
        mut next: impl FnMut() -> Result<CompiledScene, Vec<String>> + Send + Sync + 'static,
    ) -> (App, WatcherLink, PathBuf, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scene.ron");
        std::fs::write(&file, "0").unwrap();
        let (world_end, watcher) = link(Pace::Unlimited, 3);
        let mut app = headless(1, StopRequest::default());
        app.add_plugins((SimPlugin, IdlePlugin, WatchPlugin { link: world_end }));
        let files = vec![file.clone()];
        let scene = CompiledScene::load("maze", &[]).unwrap();
        let read = move || Read {
            scene: next(),
            files: files.clone(),
        };
        SceneWorld::begin(app.world_mut(), scene, std::slice::from_ref(&file), 2, idle, read).unwrap();
        (app, watcher, file, folder)
    }

    /// Two looks at the files, however short ago the last one was.
    fn look_twice(app: &mut App) {
        for _ in 0..2 {
            let mut state = app.world_mut().resource_mut::<SceneWorld>();
            state.looked = Instant::now().checked_sub(2 * LOOK_EVERY).unwrap();
            look(app.world_mut());
        }
    }

    fn environments(app: &mut App) -> Vec<Entity> {
        let world = app.world_mut();
        let mut all = world.query_filtered::<Entity, With<InstanceOf>>();
        all.iter(world).collect()
    }

    #[test]
    fn a_good_edit_replaces_the_scene_and_a_broken_one_keeps_it() {
        let mut reads = 0;
        let (mut app, watcher, file, _folder) = world(Idle::Rests, move || {
            reads += 1;
            match reads {
                1 => Err(vec!["scene.ron:1:1: wrong".into()]),
                _ => Ok(CompiledScene::load("kitchen", &[]).unwrap()),
            }
        });
        app.world_mut().run_schedule(Tick);
        let first = environments(&mut app);
        look_twice(&mut app);
        assert!(watcher.scenes.try_recv().is_err(), "nothing has changed");

        std::fs::write(&file, "broken").unwrap();
        look_twice(&mut app);
        let news = watcher.scenes.try_recv().unwrap();
        assert!(
            matches!(&news, SceneNews::Broken(errors) if errors[0].contains("1:1: wrong")),
            "{news:?}"
        );
        assert_eq!(environments(&mut app), first, "the old scene stays");
        assert!(watcher.notices.try_recv().unwrap().is_err());
        app.world_mut().run_schedule(Tick);

        std::fs::write(&file, "whole again").unwrap();
        look_twice(&mut app);
        assert!(matches!(watcher.scenes.try_recv().unwrap(), SceneNews::Sound));
        let SceneNews::Replaced { generation: 1, scene } = watcher.scenes.try_recv().unwrap() else {
            panic!("it was not replaced");
        };
        assert_eq!(scene.observation_len(), 60);
        let second = environments(&mut app);
        assert_eq!(second.len(), 2);
        assert!(second.iter().all(|environment| !first.contains(environment)));
        while let Ok(snapshot) = watcher.filled.try_recv() {
            assert_eq!(snapshot.scene, 0);
            watcher.empty.send(snapshot).unwrap();
        }
        app.world_mut().run_schedule(Tick);
        let snapshot = watcher.filled.try_recv().unwrap();
        let moving = crate::watch::moving_bodies(scene.model()).len();
        assert_eq!(
            (snapshot.scene, snapshot.environments.len(), snapshot.poses.len()),
            (1, 2, 2 * moving)
        );
    }

    #[test]
    fn nobody_acts_or_chance_does() {
        for (idle, acts) in [(Idle::Rests, false), (Idle::ActsAtRandom, true)] {
            let (mut app, _watcher, ..) = world(idle, || Err(Vec::new()));
            let mut seen = Vec::new();
            for _ in 0..3 {
                app.world_mut().run_schedule(Tick);
                let world = app.world_mut();
                let mut actions = world.query::<&Action>();
                seen.extend(actions.iter(world).map(|action| action.0.clone()));
            }
            assert_eq!(seen.iter().flatten().any(|number| *number != 0.0), acts);
            assert!(seen.iter().flatten().all(|number| number.abs() <= 1.0));
            assert!(!acts || seen[0] != seen[1], "each environment draws its own");
        }
    }
}
