//! The recording of one attempt, column by column.

use std::collections::BTreeMap;

use super::collect::Demonstration;
use super::demonstrator::{Account, Act, Demonstrator, Rejection};
use crate::data::{self, Column, Images};
use crate::pixels::Gaze;
use crate::scene::{CompiledScene, Eye};
use crate::sim::{Observation, Outcome, Physics, Pixels, TaskProgress};

/// What has been recorded of an attempt.
#[derive(Debug, Default)]
pub(super) struct Recording {
    episode: data::Episode,
    qpos: Vec<f64>,
    qvel: Vec<f64>,
    /// Actions as they were done, `[T, A]`.
    executed: Vec<f32>,
    /// For each step and element of the scene.
    completed: Vec<u8>,
    /// The demonstrator's own columns, step by step.
    own: Vec<i64>,
    /// The point looked at, `[T, 2]`, where pictures are seen.
    gaze: Vec<f64>,
    /// The newest picture of each step, if pictures are wanted.
    images: Option<Images>,
}

/// What there is before a step, and what the demonstrator makes of it.
pub(super) struct Before<'a> {
    /// Who has columns of its own to add.
    pub demonstrator: Option<&'a dyn Demonstrator>,
    pub scene: &'a CompiledScene,
    pub physics: &'a Physics,
    pub observation: &'a Observation,
    pub sight: Option<(&'a Gaze, &'a Pixels)>,
    pub act: &'a Act,
}

impl Recording {
    /// Nothing yet.
    pub fn new(images: bool) -> Self {
        Self {
            images: images.then(Images::default),
            ..Self::default()
        }
    }

    /// Notes what there is before a step, and the action.
    pub fn before(&mut self, before: Before) {
        let Before {
            demonstrator,
            scene,
            physics,
            observation,
            sight,
            act,
        } = before;
        self.episode.observations.extend_from_slice(observation);
        self.episode.actions.extend(single(&act.intended));
        self.executed.extend(single(&act.executed));
        self.qpos.extend_from_slice(physics.qpos());
        self.qvel.extend_from_slice(physics.qvel());
        if let Some(demonstrator) = demonstrator {
            demonstrator.write_columns(&mut self.own);
        }
        if let Some((gaze, pixels)) = sight {
            self.gaze.extend(gaze.0);
            if let (Some(images), Some(spec)) = (&mut self.images, &scene.scene().observation.pixels) {
                add_newest(images, pixels, spec.size as usize);
            }
        }
    }

    /// The action to take, `[action_len]`, once [`Self::before`] has noted it.
    pub fn action(&self, action_len: usize) -> &[f32] {
        let start = self.executed.len().saturating_sub(action_len);
        self.executed.get(start..).unwrap_or_default()
    }

    /// Notes what came of a step, with what is `added` to its reward; tells if the attempt is over because of it. A
    /// `demonstrator` is asked where it is then.
    pub fn after(
        &mut self,
        added: f32,
        progress: &TaskProgress,
        outcome: &Outcome,
        step_limit: usize,
        demonstrator: Option<&dyn Demonstrator>,
    ) -> Option<Rejection> {
        if let Some(fault) = outcome.fault {
            return Some(Rejection::Fault(fault));
        }
        let reward = outcome.reward + added;
        self.completed
            .extend(progress.reached.iter().map(|reached| u8::from(*reached)));
        self.episode.rewards.push(reward);
        self.episode.terminals.push(false);
        self.episode.timeouts.push(false);
        (self.episode.len() > step_limit).then(|| Rejection::TooLong {
            limit: step_limit,
            at: demonstrator.and_then(Demonstrator::whereabouts),
        })
    }

    /// Ends the recording, once the demonstrator has finished.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn judge(
        &mut self,
        demonstrator: &dyn Demonstrator,
        scene: &CompiledScene,
        (physics, observation, progress): (&Physics, &Observation, &TaskProgress),
        attempt: u64,
    ) -> Result<Demonstration, Rejection> {
        let mut recording = std::mem::take(self);
        recording.episode.final_observation = Some(observation.to_vec());
        demonstrator.judge(scene, physics, progress)?;
        let rows = recording.episode.len();
        if rows == 0 {
            return Err(Rejection::TooShort);
        }
        Ok(Demonstration {
            attempt,
            account: demonstrator.account(),
            episode: recording.whole(demonstrator.columns(), scene, attempt, false),
        })
    }

    /// Ends the recording of an agent's episode, with what is observed after its `last` step.
    pub fn end(&mut self, scene: &CompiledScene, outcome: &Outcome, last: &[f32], number: u64) -> Demonstration {
        let mut recording = std::mem::take(self);
        recording.episode.final_observation = Some(last.to_vec());
        Demonstration {
            attempt: number,
            account: Account::default(),
            episode: recording.whole(&[], scene, number, outcome.terminated),
        }
    }

    /// The episode with all its columns and the demonstrator's `own`. Unless its last step was `terminal` it is ended by
    /// a timeout: the task goes on.
    fn whole(self, own: &[&str], scene: &CompiledScene, attempt: u64, terminal: bool) -> data::Episode {
        let mut episode = self.episode;
        if let (Some(end), Some(cut)) = (episode.terminals.last_mut(), episode.timeouts.last_mut()) {
            (*end, *cut) = (terminal, !terminal);
        }
        let rows = episode.len();
        let width = |values: usize| values.checked_div(rows).unwrap_or(0);
        let mut infos = BTreeMap::new();
        let mut add = |name: &str, column| infos.insert(name.to_owned(), column);
        add("attempt", Column::i64(1, vec![attempt as i64; rows]));
        add("executed", Column::f32(scene.action_len(), self.executed));
        add("qpos", Column::f64(width(self.qpos.len()), self.qpos));
        add("qvel", Column::f64(width(self.qvel.len()), self.qvel));
        if !scene.elements().is_empty() {
            add("completed", Column::u8(scene.elements().len(), self.completed));
        }
        // An eye that is carried along looks where the body is.
        let pixels = scene.scene().observation.pixels.as_ref();
        if pixels.is_some_and(|pixels| matches!(pixels.eye, Eye::Above { .. })) {
            add("gaze", Column::f64(2, self.gaze));
        }
        for (place, name) in own.iter().enumerate() {
            let numbers = self.own.iter().skip(place).step_by(own.len()).copied();
            add(name, Column::i64(1, numbers.collect()));
        }
        episode.infos = infos;
        episode.images = self.images;
        episode
    }
}

/// Appends the newest of the pictures in `pixels` (`[3 * frames, size, size]`) as `[size, size, 3]`.
fn add_newest(images: &mut Images, pixels: &[u8], size: usize) {
    (images.height, images.width) = (size, size);
    let area = size * size;
    let newest = pixels.get(pixels.len().saturating_sub(3 * area)..).unwrap_or_default();
    let (red, rest) = newest.split_at(area.min(newest.len()));
    let (green, blue) = rest.split_at(area.min(rest.len()));
    let colours = red.iter().zip(green).zip(blue);
    images
        .bytes
        .extend(colours.flat_map(|((red, green), blue)| [*red, *green, *blue]));
}

fn single(action: &[f64]) -> impl Iterator<Item = f32> {
    action.iter().map(|number| *number as f32)
}
