//! Videos of evaluation episodes, made without a window.
//!
//! While the episodes run, all of them side by side, what is to be seen of the first ones is recorded tick by tick. When
//! they are over, they are drawn one after another. So the video shows the very episodes that were evaluated, and the
//! results do not wait for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bevy::prelude::*;

use super::{RunError, Settings, load_scene};
use crate::app;
use crate::evaluate::Measures;
use crate::experiment::Experiment;
use crate::metrics::Progress;
use crate::scene::CompiledScene;
use crate::view::crowd;
use crate::view::offscreen::Viewpoint;
use crate::view::video::{Video, VideoError, VideoWriter, check_target};
use crate::view::{Offscreen, ViewError};
use crate::watch::{
    EnvironmentLook, EnvironmentView, Pace, Snapshot, Subject, WatcherLink, WorldLink, link, moving_bodies,
};

/// Height of the pictures, pixels. They are as wide as the scene's first camera says.
const HEIGHT: u32 = 480;
/// Pictures a second, at least: ticks that are further apart get pictures in between, unless the processor draws.
const LEAST_RATE: f64 = 25.0;
/// Episodes in a video if nothing else is asked for, and if the processor draws it.
const EPISODES: (usize, usize) = (4, 1);
/// How long the end of an episode stays, s.
const REST: f64 = 0.8;

/// Why there is no video.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    /// The scene.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The renderer.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The file.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// More episodes than there are, or none.
    #[error("episodes in the video: expected 1 to {most}, as many as are evaluated, found {found}")]
    Episodes {
        /// Episodes that are evaluated.
        most: usize,
        /// Episodes asked for.
        found: usize,
    },
    /// No episode was recorded.
    #[error("there is nothing to film: no episode of the learner with seed {0} was seen")]
    Nothing(u64),
}

/// Everything a video needs but the episodes. It is made before they run, so that nothing that can be wrong with the
/// video costs an evaluation.
pub struct Filming {
    scene: Arc<CompiledScene>,
    seed: u64,
    episodes: usize,
    offscreen: Offscreen,
    writer: VideoWriter,
    timing: Timing,
}

/// Episodes as they were seen, tick by tick, each with a single environment.
pub struct Recording(Vec<Vec<Snapshot>>);

impl Filming {
    /// Prepares a video in `file` of the first `episodes` of the `evaluated` ones of the experiment's first learner, by
    /// default of four, or of one if the processor draws. The sampled ones are filmed, not those with most likely skills.
    ///
    /// # Errors
    /// The number of episodes, the scene, the driver, and a file that cannot be written.
    pub fn prepare(
        experiment: &Experiment,
        file: &Path,
        episodes: Option<usize>,
        evaluated: usize,
        settings: &Settings,
    ) -> Result<Self, FilmError> {
        if let Some(episodes) = episodes
            && !(1..=evaluated).contains(&episodes)
        {
            return Err(FilmError::Episodes {
                most: evaluated,
                found: episodes,
            });
        }
        let scene = Arc::new(load_scene(experiment)?);
        let size = picture_size(&scene);
        // What is wrong with the name should not wait for the renderer.
        check_target(file)?;
        let subject = Subject {
            title: experiment.scene.clone(),
            scene: scene.clone(),
            task: Measures::of(&scene).task,
            skill_map: None,
            trains: false,
            metrics: Vec::new(),
        };
        // The renderer's app would take all processors.
        app::task_pools(settings.threads).create_default_pools();
        let offscreen = Offscreen::new(subject, size, Viewpoint::Scene)?;
        let least_rate = if offscreen.software() { 0.0 } else { LEAST_RATE };
        let timing = Timing::of(scene.period(), least_rate);
        let usual = if offscreen.software() { EPISODES.1 } else { EPISODES.0 };
        Ok(Self {
            scene,
            seed: experiment.seeds.first().copied().unwrap_or(0),
            episodes: episodes.unwrap_or(usual.min(evaluated)),
            offscreen,
            writer: VideoWriter::create(file, size.0, size.1, timing.rate)?,
            timing,
        })
    }

    /// Episodes in the video.
    pub fn episodes(&self) -> usize {
        self.episodes
    }

    /// Runs an evaluation and records its first episodes meanwhile. The evaluation gets the link to be watched through,
    /// and must have dropped it when it returns.
    pub fn record<T>(&self, evaluate: impl FnOnce(WorldLink) -> T) -> (T, Recording) {
        let (world, watcher) = link(Pace::EveryTick, 2);
        let moving = moving_bodies(self.scene.model()).len();
        let (seed, episodes) = (self.seed, self.episodes);
        thread::scope(|scope| {
            let recorder = scope.spawn(move || gather(&watcher, seed, episodes, moving));
            let result = evaluate(world);
            let episodes = recorder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (result, Recording(episodes))
        })
    }

    /// Draws the recorded episodes one after another and writes the video.
    ///
    /// # Errors
    /// The driver, the encoder, the file, and a request to stop. Then there is no video.
    pub fn film(mut self, recording: &Recording, settings: &Settings) -> Result<Video, FilmError> {
        let shots: Vec<_> = recording
            .0
            .iter()
            .map(|episode| self.timing.shots(episode.len()))
            .collect();
        let total: usize = shots.iter().map(Vec::len).sum();
        if total == 0 {
            return Err(FilmError::Nothing(self.seed));
        }
        let mut bars = Progress::default();
        let bar = bars.add("video", 0, total as u64, "pictures");
        for (episode, shots) in recording.0.iter().zip(&shots) {
            for &(tick, progress) in shots {
                if settings.stop.is_made() {
                    return Err(RunError::Interrupted.into());
                }
                let Some(from) = episode.get(tick) else { continue };
                let snapshot = match episode.get(tick + 1) {
                    Some(to) if progress > 0.0 => between(from, to, progress),
                    _ => from.clone(),
                };
                self.writer.push(self.offscreen.show(Box::new(snapshot))?)?;
                bars.update(bar, self.writer.frames(), &[]);
            }
        }
        let video = self.writer.finish()?;
        bars.finish();
        Ok(video)
    }
}

/// Width and height of the pictures of a scene, pixels.
fn picture_size(scene: &CompiledScene) -> (u32, u32) {
    let shape = scene.scene().cameras.first();
    let shape = shape.map_or(16.0 / 9.0, |camera| {
        f64::from(camera.width) / f64::from(camera.height.max(1))
    });
    // A multiple of 8: encoders and players like it.
    let width = (shape.clamp(0.25, 4.0) * f64::from(HEIGHT) / 8.0).round() as u32 * 8;
    (width, HEIGHT)
}

/// Which pictures are taken of an episode.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Timing {
    /// Pictures a second.
    rate: f64,
    /// Pictures from one tick to the next.
    per_tick: usize,
}

impl Timing {
    /// For a scene whose ticks are this far apart, s, in real time.
    fn of(period: f64, least_rate: f64) -> Self {
        // A hair less, so that a rate that fits is not doubled.
        let per_tick = (least_rate * period - 1e-6).ceil().max(1.0);
        Self {
            rate: per_tick / period,
            per_tick: per_tick as usize,
        }
    }

    /// The pictures of an episode of this many ticks: the tick, and how far it is to the next one.
    fn shots(&self, ticks: usize) -> Vec<(usize, f32)> {
        let Some(last) = ticks.checked_sub(1) else {
            return Vec::new();
        };
        let on_the_way =
            (0..last).flat_map(|tick| (0..self.per_tick).map(move |part| (tick, part as f32 / self.per_tick as f32)));
        let rest = (REST * self.rate).round() as usize;
        on_the_way.chain(std::iter::repeat_n((last, 0.0), 1 + rest)).collect()
    }
}

/// Takes down the first `episodes` of a learner until the world is gone. They are those that run when the first
/// snapshot comes: an evaluation begins all of them at once, and those that come later use most likely skills.
fn gather(watcher: &WatcherLink, seed: u64, episodes: usize, moving: usize) -> Vec<Vec<Snapshot>> {
    let mut recorded: Vec<(Entity, Vec<Snapshot>)> = Vec::new();
    while let Ok(snapshot) = watcher.filled.recv() {
        if recorded.is_empty() {
            let of_seed = |view: &&EnvironmentView| view.seed == seed && view.evaluates;
            let first = snapshot.environments.iter().filter(of_seed).take(episodes);
            recorded.extend(first.map(|view| (view.environment, Vec::new())));
        }
        for (index, view) in snapshot.environments.iter().enumerate() {
            let mine = recorded
                .iter_mut()
                .find(|(environment, _)| *environment == view.environment);
            if let Some((_, episode)) = mine {
                episode.push(alone(&snapshot, index, view, moving));
            }
        }
        // The world may be gone already.
        let _ = watcher.empty.send(snapshot);
    }
    recorded.into_iter().map(|(_, episode)| episode).collect()
}

/// A snapshot of one environment. All have the same name in the video, so that the same things are drawn throughout.
fn alone(snapshot: &Snapshot, index: usize, view: &EnvironmentView, moving: usize) -> Snapshot {
    Snapshot {
        tick: snapshot.tick,
        environments: vec![EnvironmentView {
            environment: Entity::PLACEHOLDER,
            ..view.clone()
        }],
        poses: snapshot.poses_of(index, moving).to_vec(),
        looks: (snapshot.look_of(index).cloned())
            .map(|look| EnvironmentLook {
                environment: Entity::PLACEHOLDER,
                ..look
            })
            .into_iter()
            .collect(),
        ..Snapshot::default()
    }
}

/// What is to be seen between two ticks.
fn between(from: &Snapshot, to: &Snapshot, progress: f32) -> Snapshot {
    Snapshot {
        poses: (from.poses.iter().zip(&to.poses))
            .map(|(from, to)| crowd::between(from, to, progress))
            .collect(),
        ..from.clone()
    }
}

/// The name of a run's video if none is given.
pub fn default_video(run: &Path, overridden: bool) -> PathBuf {
    run.join(match overridden {
        false => "evaluation.mp4",
        true => "evaluation_with_overrides.mp4",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Pose;

    #[test]
    fn ticks_far_apart_get_pictures_in_between() {
        // The kitchen: 12.5 ticks a second.
        let of = |period| Timing::of(period, LEAST_RATE);
        let timing = of(0.08);
        assert_eq!((timing.rate, timing.per_tick), (25.0, 2));
        assert_eq!(of(0.01).per_tick, 1);
        assert_eq!(of(0.04).per_tick, 1);
        assert_eq!(of(0.1).rate, 30.0);
        let shots = timing.shots(3);
        assert_eq!(
            shots.get(..5),
            Some(&[(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5), (2, 0.0)][..])
        );
        assert_eq!((shots.len(), shots.last()), (5 + 20, Some(&(2, 0.0))));
        assert!(timing.shots(0).is_empty());
    }

    fn view(environment: Entity, seed: u64) -> EnvironmentView {
        EnvironmentView {
            environment,
            seed,
            slot: 0,
            evaluates: true,
            episode: 0,
            step: 1,
            return_: 0.0,
            reward: 0.0,
            done: Vec::new(),
            skill: None,
            last_return: None,
            faults: 0,
        }
    }

    fn pose(x: f32) -> Pose {
        Pose {
            position: [x, 0.0, 0.0],
            rotation: [1.0, 0.0, 0.0, 0.0],
        }
    }

    #[test]
    fn the_first_episodes_of_the_first_learner_are_recorded() {
        let entities: Vec<Entity> = (1..7).filter_map(Entity::from_raw_u32).collect();
        let (world, watcher) = link(Pace::EveryTick, 2);
        let recorder = thread::spawn(move || gather(&watcher, 7, 2, 1));
        // Another learner, three episodes, of which the second one ends early; then those with most likely skills.
        for (tick, shown) in [vec![0, 1, 2, 3], vec![0, 1, 3], vec![4, 5]].iter().enumerate() {
            let Ok(mut snapshot) = world.empty.recv() else {
                panic!("the recorder is gone")
            };
            let seed = |index: usize| if index == 0 { 3 } else { 7 };
            snapshot.tick = tick as u64;
            snapshot.environments = shown.iter().map(|&index| view(entities[index], seed(index))).collect();
            snapshot.poses = shown.iter().map(|&index| pose((10 * tick + index) as f32)).collect();
            assert!(world.filled.send(snapshot).is_ok());
        }
        drop(world);
        let Ok(episodes) = recorder.join() else {
            panic!("the recorder failed")
        };
        let poses = |episode: &Vec<Snapshot>| -> Vec<Pose> {
            episode.iter().flat_map(|snapshot| snapshot.poses.clone()).collect()
        };
        let poses: Vec<_> = episodes.iter().map(poses).collect();
        assert_eq!(poses, [vec![pose(1.0), pose(11.0)], vec![pose(2.0)]]);
        let halfway = between(&episodes[0][0], &episodes[0][1], 0.25);
        assert_eq!(halfway.poses, [pose(3.5)]);
        assert!(
            halfway
                .environments
                .iter()
                .all(|view| view.environment == Entity::PLACEHOLDER)
        );
    }
}
