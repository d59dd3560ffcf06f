//! What is shown of the one environment that was picked.
//!
//! Policy, prior and critics are asked when a skill begins, once for all its ticks, about what the agent saw when it
//! chose the skill. They are asked at the end of the tick, so after the updates that its learner took beside it.
//!
//! Both distributions are those of a sample *before* it is squashed into an action
//! ([`Squash`](crate::learners::sac::Squash)), because that is where the learner compares them. With `Clip` and `None`
//! samples are skills; with `Tanh` a sample `x` is executed as the skill `range * tanh(x)`. The divergence is in closed
//! form and in the direction that the learner is held to; for a learner that is `reversed` this is the divergence of
//! the prior from the policy.

use bevy::ecs::system::SystemParam;
use bevy::prelude::*;
use candle_core::{Device, Tensor};

use super::publish::agent_of;
use super::{AgentView, Gaussian, SkillView, StepView};
use crate::agents::{ActedInBy, ActsIn, CurrentSkill, LearnsWith};
use crate::learners::sac::{Regulariser, Sac, SacError};
use crate::nn::DiagGaussian;
use crate::sim::{Episode, Observation, Outcome, Physics, Pixels, TaskProgress};
use crate::skills::{GaussianNetwork, Sees, extend_with_brightness};

/// A wrapping object of a tendon's path that breaks the line.
const PULLEY: i32 = -2;

/// The picked environment and what is known of its running episode.
#[derive(Resource, Debug, Default)]
pub struct Inspection {
    environment: Option<Entity>,
    /// Number of the episode that is noted.
    episode: u64,
    history: Vec<StepView>,
    skill: Option<SkillView>,
    /// Whether the skill began while the environment was picked.
    whole: bool,
    /// Whether the skill began with this tick.
    decides: bool,
}

impl Inspection {
    /// The picked environment.
    pub fn environment(&self) -> Option<Entity> {
        self.environment
    }

    /// Forgets what was noted if it is about this environment.
    pub(super) fn forget_episode(&mut self, environment: Entity) {
        if self.environment == Some(environment) {
            self.history.clear();
            self.skill = None;
        }
    }

    /// Fills in skill and history. Of a history that goes on only the new steps are copied.
    pub(super) fn fill(&self, view: &mut AgentView) {
        view.skill.clone_from(&self.skill);
        if self.history.starts_with(&view.history) {
            let known = view.history.len();
            view.history
                .extend_from_slice(self.history.get(known..).unwrap_or_default());
        } else {
            view.history.clone_from(&self.history);
        }
    }
}

/// Notes the skill that the agent of the picked environment carries out. Runs before
/// [`Record`](crate::tick::TickSystems::Record), where the end of an episode drops it.
pub fn note_decision(
    mut inspection: ResMut<Inspection>,
    environments: Query<&ActedInBy>,
    agents: Query<&CurrentSkill>,
) {
    let Some(environment) = inspection.environment else {
        return;
    };
    let agent = agent_of(environments.get(environment).ok());
    let skill = agent.and_then(|agent| agents.get(agent).ok());
    inspection.note_skill(skill);
}

/// Notes the step of the picked environment.
pub fn note_step(mut inspector: Inspector) {
    inspector.note();
}

type Picked<'a> = (
    &'a Episode,
    &'a Outcome,
    &'a TaskProgress,
    &'a Observation,
    Option<&'a Pixels>,
    Option<&'a ActedInBy>,
);

/// Everything that is looked at in a picked environment.
#[derive(SystemParam)]
pub struct Inspector<'w, 's> {
    inspection: ResMut<'w, Inspection>,
    environments: Query<'w, 's, Picked<'static>>,
    agents: Query<'w, 's, (&'static LearnsWith, &'static CurrentSkill), With<ActsIn>>,
    learners: Query<'w, 's, &'static Sac>,
}

impl Inspector<'_, '_> {
    /// Picks an environment, or none; what is no environment is none.
    pub fn pick(&mut self, environment: Option<Entity>) {
        let environment = environment.filter(|environment| self.environments.contains(*environment));
        if environment == self.inspection.environment {
            return;
        }
        *self.inspection = Inspection {
            environment,
            ..Inspection::default()
        };
        let Some((episode, .., acted_in_by)) = self.picked() else {
            return;
        };
        let index = episode.index;
        let agent = agent_of(acted_in_by).and_then(|agent| self.agents.get(agent).ok());
        let skill = agent.map(|(_, skill)| skill.clone());
        self.inspection.episode = index;
        self.inspection.note_skill(skill.as_ref());
        // In the middle of a skill, if one is under way.
        self.inspection.whole = false;
        self.look();
    }

    fn picked(&self) -> Option<Picked<'_>> {
        self.environments.get(self.inspection.environment?).ok()
    }

    fn note(&mut self) {
        if self.inspection.environment.is_none() {
            return;
        }
        let Some((episode, ..)) = self.picked() else {
            // It was removed from the world.
            *self.inspection = Inspection::default();
            return;
        };
        let (index, step) = (episode.index, episode.step.saturating_sub(1));
        if index != self.inspection.episode || step == 0 {
            self.inspection.episode = index;
            self.inspection.history.clear();
        }
        self.look();
        let Some((_, outcome, progress, ..)) = self.picked() else {
            return;
        };
        let Inspection {
            skill, whole, decides, ..
        } = &*self.inspection;
        let step = StepView {
            step,
            reward: outcome.reward,
            distances: progress.distance.iter().map(|distance| *distance as f32).collect(),
            decides: *decides,
            divergence: skill.as_ref().filter(|_| *whole).and_then(SkillView::total_divergence),
        };
        self.inspection.history.push(step);
    }

    /// Asks policy, prior and critics about the skill if that has not been done yet.
    fn look(&mut self) {
        let Some((.., observation, pixels, acted_in_by)) = self.picked() else {
            return;
        };
        let Some(skill) = self.inspection.skill.as_ref() else {
            return;
        };
        if !skill.policy.mean.is_empty() {
            return;
        }
        let agent = agent_of(acted_in_by).and_then(|agent| self.agents.get(agent).ok());
        let sac = agent.and_then(|(learns_with, _)| self.learners.get(learns_with.0).ok());
        let judged = sac.and_then(|sac| judge(sac, observation, pixels, skill).ok());
        // A learner that cannot be asked cannot act either, and its agent says why.
        self.inspection.skill = judged;
    }
}

impl Inspection {
    /// Takes over the skill of an agent: how much of it is done, and if it is a new one, that too.
    fn note_skill(&mut self, current: Option<&CurrentSkill>) {
        let active = current.map(|skill| &skill.active).filter(|active| active.length() > 0);
        let Some(active) = active else {
            (self.skill, self.decides) = (None, false);
            return;
        };
        let (elapsed, length) = (active.elapsed(), active.length());
        self.decides = elapsed == 1;
        match &mut self.skill {
            Some(skill) if !self.decides => (skill.elapsed, skill.length) = (elapsed, length),
            _ => {
                self.whole = self.decides;
                self.skill = Some(SkillView {
                    chosen: active.skill().to_vec(),
                    elapsed,
                    length,
                    policy: Gaussian::default(),
                    prior: None,
                    divergence: Vec::new(),
                    q: None,
                });
            }
        }
    }
}

/// What a learner says about a skill chosen at `observation` (`[S]`), with its picture where the scene has one.
fn judge(sac: &Sac, observation: &[f32], pixels: Option<&Pixels>, skill: &SkillView) -> Result<SkillView, SacError> {
    let row = |values: &[f32]| Tensor::from_slice(values, (1, values.len()), &Device::Cpu);
    let observed = row(observation)?;
    let seen = |network: &GaussianNetwork| match network.sees() {
        Sees::Numbers => Ok(observed.clone()),
        Sees::Pixels(dims) => {
            let mut values = Vec::new();
            extend_with_brightness(&mut values, pixels.ok_or(SacError::NoPictures)?);
            Ok::<_, SacError>(Tensor::from_vec(values, dims.shape(1), &Device::Cpu)?)
        }
    };
    let of = |network: &GaussianNetwork| Ok::<_, SacError>(network.forward_frozen(&seen(network)?)?);
    let policy = of(sac.policy())?;
    let prior = sac.prior().map(of).transpose()?;
    let reversed = matches!(
        sac.config().regulariser,
        Regulariser::PriorDivergence { reversed: true, .. }
    );
    let divergence = match &prior {
        Some(prior) if reversed => numbers(&prior.kl(&policy)?)?,
        Some(prior) => numbers(&policy.kl(prior)?)?,
        None => Vec::new(),
    };
    let judged = sac.judge(&observed, &row(&skill.chosen)?)?;
    let [first, second] = judged.map(|values| values.reshape(())?.to_scalar::<f32>());
    Ok(SkillView {
        policy: gaussian(&policy)?,
        prior: prior.as_ref().map(gaussian).transpose()?,
        divergence,
        q: Some([first?, second?]),
        ..skill.clone()
    })
}

fn gaussian(distribution: &DiagGaussian) -> Result<Gaussian, SacError> {
    Ok(Gaussian {
        mean: numbers(&distribution.mu)?,
        sigma: numbers(&distribution.sigma()?)?,
    })
}

fn numbers(row: &Tensor) -> Result<Vec<f32>, SacError> {
    Ok(row.flatten_all()?.to_vec1()?)
}

/// A view to be filled.
pub(super) fn blank(environment: Entity) -> AgentView {
    AgentView {
        environment,
        episode: 0,
        observation: Vec::new(),
        pixels: Vec::new(),
        action: Vec::new(),
        reached: Vec::new(),
        skill: None,
        history: Vec::new(),
        tendons: Vec::new(),
    }
}

/// The paths of the spatial tendons, cut where a pulley breaks them. Tendons that couple joints have no path.
pub(super) fn fill_tendons(lines: &mut Vec<Vec<[f32; 3]>>, physics: &Physics) {
    let points = physics.wrap_xpos().as_flattened().as_chunks::<3>().0;
    let objects = physics.wrap_obj().as_flattened();
    let mut used = 0;
    for (&start, &count) in physics.ten_wrapadr().iter().zip(physics.ten_wrapnum()) {
        let (Ok(start), Ok(count)) = (usize::try_from(start), usize::try_from(count)) else {
            continue;
        };
        let path = start..start.saturating_add(count);
        let (Some(points), Some(objects)) = (points.get(path.clone()), objects.get(path)) else {
            continue;
        };
        let mut from = 0;
        for part in objects.split(|&object| object == PULLEY) {
            let line = points.get(from..from + part.len()).unwrap_or_default();
            from += part.len() + 1;
            if line.len() < 2 {
                continue;
            }
            if lines.len() <= used {
                lines.push(Vec::new());
            }
            if let Some(kept) = lines.get_mut(used) {
                kept.clear();
                kept.extend(line.iter().map(|point| point.map(|number| number as f32)));
            }
            used += 1;
        }
    }
    lines.truncate(used);
}
