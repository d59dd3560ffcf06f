//! The best state that a learner has been in, kept beside the newest one.
//!
//! When an evaluation ends with a higher mean score ([`Measures::headline`]) than all before, the learner is copied as it
//! is at that moment. The copy goes into every checkpoint from then on, as a file of its own, which is a hard link to the
//! one of the checkpoint before until a better one comes. So the best learner belongs to the checkpoint that names it: it
//! is as whole as that, and practice that goes on from an earlier checkpoint finds the same best learner again.
//!
//! A copy has no transitions. It can act and be evaluated; practice goes on from the newest checkpoint only.

use std::str::FromStr;

use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use super::{LEARNER, LearnerFailed, Practice, SavedPractice, Seed};
use crate::checkpoint::{Checkpoint, CheckpointError, Checkpoints, Latest, Tensors};
use crate::evaluate::{Evaluation, Measures};
use crate::learners::sac::{Sac, SacError};

/// The file of a checkpoint with the learner as it was after its best evaluation.
pub const BEST: &str = "best";

/// The best evaluation of a learner.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestEvaluation {
    /// Its mean score.
    pub score: f64,
    /// Environment steps of practice when it ended.
    pub step: u64,
}

/// A learner as it was after its best evaluation; nothing before the first one.
#[derive(Component, Debug, Clone, Default)]
pub struct BestLearner {
    found: Option<(BestEvaluation, Tensors)>,
    /// The newest checkpoint has it.
    pub(super) stored: bool,
}

impl BestLearner {
    /// The one that a checkpoint holds, read from there. Practice does without one that is damaged: a warning says so.
    pub fn of(checkpoint: &Checkpoint<SavedPractice>) -> Self {
        let Some(best) = checkpoint.state.best else {
            return Self::default();
        };
        match checkpoint.read(BEST) {
            Ok(tensors) => Self {
                found: Some((best, tensors)),
                stored: true,
            },
            Err(error) => {
                bevy::log::warn!("{error}; the best learner so far is lost, the next evaluation finds another");
                Self::default()
            }
        }
    }

    /// Its evaluation.
    pub fn evaluation(&self) -> Option<BestEvaluation> {
        self.found.as_ref().map(|(evaluation, _)| *evaluation)
    }

    pub(super) fn tensors(&self) -> Option<&Tensors> {
        self.found.as_ref().map(|(_, tensors)| tensors)
    }

    /// Copies the learner if it has never been better.
    fn offer(&mut self, score: f64, step: u64, sac: &Sac) -> Result<(), SacError> {
        let better = self.evaluation().is_none_or(|best| score > best.score);
        if !better || !score.is_finite() {
            return Ok(());
        }
        let mut tensors = Tensors::new();
        for (name, tensor) in sac.export()? {
            // What is exported shares the memory of the learner, which goes on learning.
            tensors.insert(name, tensor.force_contiguous()?);
        }
        self.found = Some((BestEvaluation { score, step }, tensors));
        self.stored = false;
        Ok(())
    }
}

type Evaluated<'a> = (&'a Seed, &'a Sac, &'a Practice, &'a Evaluation, &'a mut BestLearner);

/// Copies every learner whose evaluation has just ended and was its best. One of which more episodes were cut off by
/// faults than finished says too little.
pub fn note_best_learners(
    mut learners: Query<Evaluated>,
    measures: Res<Measures>,
) -> Result<(), LearnerFailed<SacError>> {
    for (seed, sac, practice, evaluation, mut best) in &mut learners {
        let results = &evaluation.results;
        if !evaluation.is_finished() || results.is_empty() || evaluation.faults > results.len() {
            continue;
        }
        let sum: f64 = results.iter().map(|result| measures.value(result)).sum();
        best.bypass_change_detection()
            .offer(sum / results.len() as f64, practice.steps, sac)
            .map_err(seed.failed())?;
    }
    Ok(())
}

/// Which state of a learner to act with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// That of the newest checkpoint.
    #[default]
    Latest,
    /// The one after the best evaluation that the newest checkpoint knows of.
    Best,
    /// That of the checkpoint at this step.
    Step(u64),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self::Latest),
            "best" => Ok(Self::Best),
            _ => text.replace('_', "").parse().map(Self::Step).map_err(|_| {
                format!("expected latest, best or the step of a checkpoint such as 120000, found `{text}`")
            }),
        }
    }
}

impl Choice {
    /// A name for files of results: empty, `_best` or `_120000`.
    pub fn suffix(self) -> String {
        match self {
            Self::Latest => String::new(),
            Self::Best => "_best".into(),
            Self::Step(step) => format!("_{step}"),
        }
    }

    /// The file of a checkpoint with this state.
    pub fn file(self) -> &'static str {
        match self {
            Self::Best => BEST,
            Self::Latest | Self::Step(_) => LEARNER,
        }
    }

    /// The checkpoint with this state, with the tensors of that [file](Self::file) only, and what is wrong with those
    /// after it; `None` where there is no checkpoint at all. `practice.steps` says how long the chosen learner has
    /// practised.
    ///
    /// # Errors
    /// As [`Checkpoints::load_latest`]; no evaluation had ended by the newest checkpoint; there is none of this step.
    pub fn load(self, checkpoints: &Checkpoints) -> Result<Option<Latest<SavedPractice>>, CheckpointError> {
        let wanted = |file: &str| file == self.file();
        if let Self::Step(step) = self {
            let checkpoint = checkpoints.load_step(step, &wanted)?;
            return Ok(Some((checkpoint, Vec::new())));
        }
        let found = checkpoints.load_latest_files::<SavedPractice>(&wanted)?;
        found
            .map(|(checkpoint, faults)| Ok((self.dated(checkpoint)?, faults)))
            .transpose()
    }

    /// With the steps of the best learner in place of those of the newest one.
    fn dated(self, mut checkpoint: Checkpoint<SavedPractice>) -> Result<Checkpoint<SavedPractice>, CheckpointError> {
        if self == Self::Best {
            let best = checkpoint.state.best.ok_or_else(|| CheckpointError::NoBest {
                path: checkpoint.path.clone(),
            })?;
            checkpoint.state.practice.steps = best.step;
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use bevy::ecs::system::RunSystemOnce;
    use candle_core::DType;

    use super::*;
    use crate::learners::sac::{CriticConfig, PolicyStart, Regulariser, SacConfig, SacDims, Squash};
    use crate::practice::EpisodeResult;
    use crate::rng::{Purpose, stream};

    fn learner(seed: u64) -> Sac {
        let config = SacConfig {
            policy: PolicyStart::Scratch { width: 4, hidden: 1 },
            regulariser: Regulariser::Entropy { target: None },
            critic: CriticConfig {
                width: 4,
                hidden: 1,
                ..CriticConfig::default()
            },
            squash: Squash::Tanh {
                range: 1.0,
                single_range_correction: false,
            },
            ..SacConfig::default()
        };
        let dims = SacDims {
            observation: 2,
            action: 1,
        };
        Sac::new(config, dims, None, &mut stream(seed, Purpose::Weights, 0, 0)).unwrap()
    }

    fn bits<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a candle_core::Tensor)>) -> Vec<u32> {
        let numbers = tensors.into_iter().flat_map(|(_, tensor)| {
            let flat = tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap();
            flat.to_vec1::<f32>().unwrap()
        });
        numbers.map(f32::to_bits).collect()
    }

    #[test]
    fn only_a_better_evaluation_replaces_the_copy() {
        let mut world = World::new();
        // The score is the return.
        world.init_resource::<Measures>();
        let learners = (
            Seed(0),
            Practice::none(0),
            Evaluation::default(),
            BestLearner::default(),
        );
        let entity = world.spawn((learners, learner(0))).id();
        let mut expected = None;
        let mut copied = Vec::new();
        let evaluations: [(&[f32], usize, bool); 7] = [
            (&[], 3, false),
            (&[1.0, 2.0], 0, true),
            (&[0.0, 2.0], 0, false),
            // As good is not better.
            (&[1.5], 0, false),
            (&[3.0, 1.0, 2.0], 3, true),
            // More was cut off than finished.
            (&[9.0, 9.0], 3, false),
            (&[f32::NAN], 0, false),
        ];
        for (number, (returns, faults, better)) in evaluations.into_iter().enumerate() {
            let sac = learner(number as u64);
            let weights = sac.export().unwrap();
            let result = |return_: &f32| EpisodeResult {
                return_: *return_,
                steps: 1,
                done: Vec::new(),
                reached: Vec::new(),
                figures: Vec::new(),
            };
            let evaluation = Evaluation {
                running: 0,
                results: returns.iter().map(result).collect(),
                faults,
            };
            world.entity_mut(entity).insert((sac, evaluation));
            let step = 100 * number as u64;
            world.get_mut::<Practice>(entity).unwrap().steps = step;
            if better {
                let score = f64::from(returns.iter().sum::<f32>()) / returns.len() as f64;
                expected = Some(BestEvaluation { score, step });
                copied = bits(&weights);
            }
            world.run_system_once(note_best_learners).unwrap().unwrap();
            let best = world.get::<BestLearner>(entity).unwrap();
            assert_eq!(best.evaluation(), expected, "evaluation {number}");
            assert!(
                best.tensors().map_or_else(Vec::new, bits) == copied,
                "evaluation {number}"
            );
        }
    }
}
