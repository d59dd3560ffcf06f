//! A world that plays recorded demonstrations.
//!
//! Of N environments, number k plays the sequences k, k + N, k + 2 N and so on, and begins again after the last one.
//! Nothing is simulated: in every tick the physics is put where a row of the data saw it, and the components of the
//! environment hold that row. What was not observed stays as at the start of an episode.
//!
//! | component | holds |
//! |---|---|
//! | [`Observation`] | the row's observation |
//! | [`NextObservation`] | the next row's, or the same one at the end of the sequence |
//! | [`Action`] | the row's action |
//! | [`Outcome`] | the row's reward; the last row ends the episode, as a terminal or cut off |
//! | [`Episode`] | number of the sequence; rows played, the current one included; sum of the rewards in the data |
//! | [`TaskProgress`] | what the scene makes of the state, whatever the data say |

use std::ops::Range;
use std::sync::Arc;

use bevy::prelude::*;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtJoint};

use crate::data::{Column, Dataset, Values};
use crate::scene::{CompiledScene, Source};
use crate::sim::{
    Action, Episode, InstanceOf, Measurement, NextObservation, Observation, Outcome, Physics, SimError, TaskProgress,
    spawn_environment, step,
};
use crate::tick::{Tick, TickSystems, Workers};

/// The side array with the positions of all joints.
pub const POSITIONS: &str = "qpos";

/// Plays demonstrations in the environments of [`spawn_demonstrations`], one row in a [`Tick`]. Takes the place of
/// [`SimPlugin`](crate::sim::SimPlugin).
pub struct DemonstrationsPlugin {
    /// What is played. Its rows should have the sizes of the scene; numbers that are too many are left out.
    pub dataset: Arc<Dataset>,
    /// Sequences that are played at the same time, at least one; no more than there are.
    pub environments: usize,
}

impl Plugin for DemonstrationsPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(Demonstrations {
            dataset: Arc::clone(&self.dataset),
            apart: self.environments.min(self.dataset.sequences().len()).max(1),
        })
        .add_systems(
            Tick,
            (
                begin_sequences.in_set(TickSystems::Reset),
                show_rows.in_set(TickSystems::Simulate),
            ),
        );
    }
}

/// The demonstrations that are played.
#[derive(Resource, Debug)]
pub struct Demonstrations {
    dataset: Arc<Dataset>,
    /// Number of environments, and so the distance between two sequences of one.
    apart: usize,
}

impl Demonstrations {
    /// The rows of the sequence that an episode plays; none if there is no such sequence.
    fn rows(&self, episode: &Episode) -> Option<Range<usize>> {
        let number = usize::try_from(episode.index).ok()?;
        self.dataset.sequences().get(number).cloned()
    }

    /// Number of the sequence that follows in the same environment.
    fn after(&self, index: u64) -> u64 {
        let (apart, count) = (self.apart as u64, self.dataset.sequences().len() as u64);
        match index.checked_add(apart) {
            Some(next) if next < count => next,
            _ => index % apart,
        }
    }
}

/// Marks an environment in which demonstrations are played.
#[derive(Component, Debug, Clone, Copy)]
pub struct Plays;

/// Spawns the environments of the [`DemonstrationsPlugin`] in the scene entity `scene`.
///
/// # Errors
/// [`SimError::NotAScene`] if `scene` has no [`CompiledScene`], [`SimError::Data`] if memory runs out.
pub fn spawn_demonstrations(world: &mut World, scene: Entity) -> Result<Vec<Entity>, SimError> {
    let environments = world.get_resource::<Demonstrations>().map_or(0, |played| played.apart);
    (0..environments)
        .map(|slot| {
            let environment = spawn_environment(world, scene, slot, 0)?;
            world
                .entity_mut(environment)
                .insert((Plays, Episode::new(0, slot as u64)));
            Ok(environment)
        })
        .collect()
}

/// Every environment whose sequence has ended goes on to its next one.
pub fn begin_sequences(
    demonstrations: Res<Demonstrations>,
    mut environments: Query<(&mut Episode, &mut Outcome, &mut TaskProgress), With<Plays>>,
) {
    for (mut episode, mut outcome, mut progress) in &mut environments {
        let rows = demonstrations.rows(&episode);
        let goes_on = rows.is_some_and(|rows| (episode.step as usize) < rows.len());
        if goes_on && !outcome.ended() {
            continue;
        }
        *episode = Episode::new(episode.seed, demonstrations.after(episode.index));
        *outcome = Outcome::default();
        progress.done.fill(false);
        progress.reached.fill(false);
    }
}

type Shown<'a> = (
    &'a InstanceOf,
    &'a mut Physics,
    (
        &'a mut Observation,
        &'a mut NextObservation,
        &'a mut Measurement,
        &'a mut Action,
    ),
    (&'a mut Episode, &'a mut TaskProgress, &'a mut Outcome),
);

/// Puts every environment into the state of the next row of its sequence.
pub fn show_rows(
    demonstrations: Res<Demonstrations>,
    mut environments: Query<Shown, With<Plays>>,
    scenes: Query<&CompiledScene>,
    workers: Res<Workers>,
) {
    let dataset = &*demonstrations.dataset;
    workers.spread(
        environments.iter_mut(),
        |(scene, mut physics, seen, (mut episode, mut progress, mut outcome))| {
            let (Ok(scene), Some(rows)) = (scenes.get(scene.0), demonstrations.rows(&episode)) else {
                return;
            };
            let row = rows.start + episode.step as usize;
            if row >= rows.end {
                return;
            }
            let (mut observation, mut next, mut measurement, mut action) = seen;
            let observed = row_of(dataset.observations(), dataset.observation_dim(), row);
            let following = row_of(
                dataset.observations(),
                dataset.observation_dim(),
                (row + 1).min(rows.end - 1),
            );
            fill(&mut observation, observed);
            fill(&mut next, following);
            fill(&mut action, row_of(dataset.actions(), dataset.action_dim(), row));
            for (to, from) in measurement.iter_mut().zip(observed) {
                *to = f64::from(*from);
            }
            place(scene, observed, recorded_positions(dataset, row), &mut physics);

            let earned = episode.return_;
            *outcome = Outcome::default();
            step::score(scene, &physics, &measurement, &mut progress, &mut episode, &mut outcome);
            // The scene judges the elements; reward and end are what was recorded.
            let reward = dataset.rewards().get(row).copied().unwrap_or(0.0);
            let terminal = dataset.terminals().get(row).copied().unwrap_or(false);
            let last = row + 1 == rows.end;
            *outcome = Outcome {
                reward,
                terminated: last && terminal,
                truncated: last && !terminal,
                fault: None,
            };
            episode.return_ = earned + reward;
        },
    );
}

fn row_of(values: &[f32], width: usize, row: usize) -> &[f32] {
    values.get(row * width..(row + 1) * width).unwrap_or_default()
}

fn fill(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// The positions of all joints before a row, `[nq]`, where the recording has them.
fn recorded_positions(dataset: &Dataset, row: usize) -> Option<&[f64]> {
    let Column {
        width,
        values: Values::F64(values),
    } = dataset.infos().get(POSITIONS)?
    else {
        return None;
    };
    values.get(row * width..(row + 1) * width)
}

/// Puts the physics at rest at the `recorded` positions (`[nq]`), or else where `observation` (`[observation_len]`) saw it.
/// Only positions of bodies and tendons are worked out: there are no forces in a recording.
fn place(scene: &CompiledScene, observation: &[f32], recorded: Option<&[f64]>, physics: &mut Physics) {
    physics.qvel_mut().fill(0.0);
    let positions = physics.qpos_mut();
    if let Some(recorded) = recorded.filter(|recorded| recorded.len() == positions.len()) {
        positions.copy_from_slice(recorded);
    } else {
        positions.copy_from_slice(scene.start());
        for (channel, &value) in scene.channels().iter().zip(observation) {
            if let Source::Position(index) = channel.source
                && let Some(position) = positions.get_mut(index)
            {
                *position = f64::from(value);
            }
        }
    }
    normalise_rotations(scene.model(), positions);
    if scene.reads().contacts {
        physics.forward();
    } else {
        physics.forward_kinematics();
        physics.com_vel();
    }
}

/// Makes the rotations in `positions` (`[nq]`) unit quaternions again: noise and single precision made them others.
fn normalise_rotations(model: &MjModel, positions: &mut [f64]) {
    for (kind, &address) in model.jnt_type().iter().zip(model.jnt_qposadr()) {
        let start = address as usize
            + match kind {
                MjtJoint::mjJNT_FREE => 3,
                MjtJoint::mjJNT_BALL => 0,
                MjtJoint::mjJNT_SLIDE | MjtJoint::mjJNT_HINGE => continue,
            };
        let Some(rotation) = positions.get_mut(start..start + 4) else {
            continue;
        };
        let norm = rotation.iter().map(|number| number * number).sum::<f64>().sqrt();
        if norm > 1e-6 {
            rotation.iter_mut().for_each(|number| *number /= norm);
        } else {
            rotation.copy_from_slice(&[1.0, 0.0, 0.0, 0.0]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeMap;

    use super::*;
    use crate::app::{StopRequest, headless};
    use crate::sim::Environment;
    use crate::watch::{Pace, Request, WatchPlugin, link};

    /// Episodes of the given lengths that begin at the start of the scene and turn its first joint a little with every
    /// row; every row is worth as much as its number.
    fn recorded(scene: &CompiledScene, lengths: &[usize]) -> Dataset {
        let start = Environment::new(scene, 0, 0).unwrap().observation.0;
        let episodes: Vec<_> = (lengths.iter().enumerate())
            .map(|(number, &length)| crate::data::Episode {
                observations: (0..length)
                    .flat_map(|row| {
                        let mut row_of = start.clone();
                        row_of[0] += 0.01 * (row + 1) as f32 + 0.1 * number as f32;
                        row_of
                    })
                    .collect(),
                actions: (0..length).flat_map(|row| vec![0.1 * row as f32; 9]).collect(),
                rewards: (0..length).map(|row| row as f32).collect(),
                terminals: (0..length).map(|row| row + 1 == length && number != 1).collect(),
                timeouts: (0..length).map(|row| row + 1 == length && number == 1).collect(),
                infos: BTreeMap::new(),
                ..crate::data::Episode::default()
            })
            .collect();
        Dataset::from_episodes(scene.observation_len(), scene.action_len(), &episodes).unwrap()
    }

    fn world(lengths: &[usize], environments: usize) -> (App, Arc<Dataset>, CompiledScene, Vec<Entity>) {
        let scene = CompiledScene::load("kitchen", &[]).unwrap();
        let dataset = Arc::new(recorded(&scene, lengths));
        let mut app = headless(1, StopRequest::default());
        app.add_plugins(DemonstrationsPlugin {
            dataset: Arc::clone(&dataset),
            environments,
        });
        let entity = app.world_mut().spawn(scene.clone()).id();
        let environments = spawn_demonstrations(app.world_mut(), entity).unwrap();
        (app, dataset, scene, environments)
    }

    #[test]
    fn every_row_of_every_sequence_is_shown_as_it_was_recorded() {
        let (mut app, dataset, scene, environments) = world(&[3, 2, 4], 2);
        assert_eq!(environments.len(), 2);
        // Which sequence and which row each of them is at, tick by tick.
        let first = [0, 0, 0, 2, 2, 2, 2, 0].into_iter().zip([0, 1, 2, 0, 1, 2, 3, 0]);
        let second = [1, 1, 1, 1, 1, 1, 1, 1].into_iter().zip([0, 1, 0, 1, 0, 1, 0, 1]);
        for ticks in first.zip(second) {
            app.world_mut().run_schedule(Tick);
            for (&environment, (sequence, row)) in environments.iter().zip([ticks.0, ticks.1]) {
                let rows = dataset.sequences()[sequence].clone();
                let number = rows.start + row;
                let shown = app.world().entity(environment);
                let observed = row_of(dataset.observations(), 60, number);
                assert_eq!(shown.get::<Observation>().unwrap().0, observed);
                assert_eq!(
                    shown.get::<Action>().unwrap().0,
                    row_of(dataset.actions(), 9, number),
                    "row {number}"
                );
                let physics = shown.get::<Physics>().unwrap();
                let mut rotations = 0;
                for (channel, &value) in scene.channels().iter().zip(observed) {
                    let Source::Position(address) = channel.source else {
                        continue;
                    };
                    let (name, reached) = (&channel.name, physics.qpos()[address]);
                    if ["[3]", "[4]", "[5]", "[6]"].iter().any(|part| name.ends_with(part)) {
                        // The recording is noisy, a rotation is not.
                        rotations += 1;
                        assert!((reached - f64::from(value)).abs() < 0.02, "{name}: {reached} {value}");
                    } else {
                        assert_eq!(reached, f64::from(value), "{name}");
                    }
                }
                assert_eq!(rotations, 4);
                let episode = shown.get::<Episode>().unwrap();
                assert_eq!((episode.index, episode.step as usize), (sequence as u64, row + 1));
                assert_eq!(episode.return_, (0..=row).sum::<usize>() as f32);
                let outcome = shown.get::<Outcome>().unwrap();
                let last = row + 1 == rows.len();
                assert_eq!(outcome.reward, row as f32);
                assert_eq!((outcome.ended(), outcome.truncated), (last, last && sequence == 1));
            }
        }
        // Bodies follow the joints.
        let positions: Vec<Vec<f64>> = environments
            .iter()
            .map(|&environment| {
                let physics = app.world().get::<Physics>(environment).unwrap();
                physics.xpos().iter().flatten().copied().collect()
            })
            .collect();
        assert_ne!(positions[0], positions[1]);
        let progress = app.world().get::<TaskProgress>(environments[0]).unwrap();
        assert!(
            progress
                .distance
                .iter()
                .all(|distance| distance.is_finite() && *distance > 0.0)
        );
    }

    #[test]
    fn there_are_no_more_environments_than_sequences() {
        let (mut app, _, _, environments) = world(&[1], 8);
        assert_eq!(environments.len(), 1);
        for _ in 0..3 {
            app.world_mut().run_schedule(Tick);
            assert_eq!(app.world().get::<Episode>(environments[0]).unwrap().step, 1);
        }
    }

    #[test]
    fn rotations_become_unit_quaternions() {
        let scene = CompiledScene::load("kitchen", &[]).unwrap();
        let kettle = scene.channels().iter().position(|channel| channel.name == "kettle[3]");
        let mut environment = Environment::new(&scene, 0, 0).unwrap();
        let mut observation = environment.observation.0.clone();
        let first = kettle.unwrap();
        for scale in [0.5, 0.0] {
            observation[first..first + 4].copy_from_slice(&[scale, 0.0, 0.0, scale]);
            place(&scene, &observation, None, &mut environment.physics);
            let Source::Position(address) = scene.channels()[first].source else {
                panic!("a position");
            };
            let rotation = &environment.physics.qpos()[address..address + 4];
            let norm: f64 = rotation.iter().map(|number| number * number).sum();
            assert!((norm - 1.0).abs() < 1e-12, "{rotation:?}");
        }
    }

    #[test]
    fn a_watcher_sees_what_is_played() {
        let scene = CompiledScene::load("kitchen", &[]).unwrap();
        let dataset = Arc::new(recorded(&scene, &[3, 3]));
        let (world_end, watcher) = link(Pace::EveryTick, 3);
        let stop = StopRequest::default();
        let mut app = headless(1, stop.clone());
        app.add_plugins((
            DemonstrationsPlugin {
                dataset,
                environments: 2,
            },
            WatchPlugin { link: world_end },
        ));
        let scene = app.world_mut().spawn(scene).id();
        spawn_demonstrations(app.world_mut(), scene).unwrap();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while seen.len() < 8 {
                let snapshot = watcher.filled.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
                let environments = snapshot.environments.iter();
                seen.push(
                    environments
                        .map(|view| (view.episode, view.step))
                        .collect::<Vec<(u64, u32)>>(),
                );
                if seen.len() == 4 {
                    let restart = Request::Restart {
                        environment: snapshot.environments[0].environment,
                        episode: Some(1),
                    };
                    watcher.requests.send(restart).unwrap();
                }
                let _ = watcher.empty.send(snapshot);
            }
            stop.make();
            seen
        });
        crate::app::run(&mut app, |_| false).unwrap();
        let seen = thread.join().unwrap();
        assert_eq!(seen[..4], [1, 2, 3, 1].map(|step| vec![(0, step), (1, step)]));
        // The first environment plays the other sequence from some tick on.
        assert!(seen[4..].iter().any(|views| views[0].0 == 1), "{seen:?}");
    }
}
