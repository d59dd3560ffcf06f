//! What makes an experiment impossible, all of it, before anything is made or trained.

use super::train::dims_of;
use super::{RunError, load_scene};
use crate::experiment::{ActionSpace, Experiment, Problem, SkillModelConfig};
use crate::learners::sac::{PolicyStart, Regulariser, SacConfig};
use crate::learners::skill_recorder::TransitionRule;
use crate::nn::Norm;
use crate::rng::{Purpose, stream};
use crate::scene::CompiledScene;
use crate::skills::Standardiser;

/// Finds settings of practice that cannot be used, before anything is made or trained. Returns the scene.
pub fn check(experiment: &Experiment) -> Result<CompiledScene, RunError> {
    refuse(experiment.problems())?;
    let scene = load_scene(experiment)?;
    refuse(problems_in(experiment, &scene))?;
    Ok(scene)
}

/// [`check`] for an experiment whose scene is at hand.
pub(super) fn check_in(experiment: &Experiment, scene: &CompiledScene) -> Result<(), RunError> {
    refuse(experiment.problems())?;
    refuse(problems_in(experiment, scene))
}

fn refuse(problems: Vec<Problem>) -> Result<(), RunError> {
    match problems.first() {
        Some(problem) => Err(RunError::Experiment(problem.to_string())),
        None => Ok(()),
    }
}

/// Everything that keeps skill model and learner of an experiment from working together in its scene.
pub fn problems_in(experiment: &Experiment, scene: &CompiledScene) -> Vec<Problem> {
    let acts_in_skills = experiment.acts_in == ActionSpace::Skills;
    let mut found = Vec::new();
    if !acts_in_skills && experiment.training.transitions == TransitionRule::Original {
        let message = "Original is a rule for skills, and would store single actions (acts_in: Actions) with states they \
                       were not taken in; expected Aligned";
        found.push(Problem::new("training.transitions", message).because_of(&["acts_in"]));
    }
    if let SkillModelConfig::Spirl(config) = &experiment.skill_model
        && config.freeze_embedding
    {
        let message = "an experiment trains its model from the start, and a posterior that never learned is of no use; \
                       expected false";
        found.push(Problem::new("skill_model.freeze_embedding", message));
    }
    if experiment.skill_model == SkillModelConfig::None {
        if acts_in_skills {
            found.push(no_skills());
        }
        found.extend(without_prior(&experiment.learner));
        return found;
    }
    if !acts_in_skills && matches!(experiment.skill_model, SkillModelConfig::Spirl(_)) {
        let message = "Actions needs a model of actions (skill_model: Bc) or none; found Spirl";
        found.push(Problem::new("acts_in", message).because_of(&["skill_model"]));
    }
    found.extend(batch_problem(&experiment.skill_model, experiment.pretraining.batch));
    let dims = dims_of(scene);
    let impossible = experiment.skill_model.problems(dims);
    if !impossible.is_empty() {
        found.extend(impossible);
        return found;
    }
    let standardiser = || Standardiser::new(&vec![0.0; dims.state], &vec![1.0; dims.state]);
    let mut weights = stream(0, Purpose::Weights, 0, 0);
    match experiment.skill_model.build(dims, standardiser, &mut weights, 1) {
        Err(error) => found.push(Problem::new("skill_model", error.to_string())),
        Ok(None) => {}
        Ok(Some(model)) => {
            if experiment.learner.needs_prior() && model.policy_prior().is_err() {
                found.push(not_gaussian());
            }
            if acts_in_skills && model.into_skills().is_none() {
                found.push(no_skills());
            }
        }
    }
    found
}

/// What a learner asks of a prior where there is none.
fn without_prior(learner: &SacConfig) -> Vec<Problem> {
    let policy = (learner.policy == PolicyStart::Prior).then_some(("policy", "a policy that starts from the prior"));
    let divergence = matches!(learner.regulariser, Regulariser::PriorDivergence { .. });
    let penalty = divergence.then_some(("regulariser", "divergence from the prior"));
    let wishes = [policy, penalty].into_iter().flatten();
    let problem = |(field, what)| {
        let message = format!("{what} needs a prior, and none is learned (skill_model: None)");
        Problem::new(format!("learner.{field}"), message).because_of(&["skill_model"])
    };
    wishes.map(problem).collect()
}

/// Whether every network of the skill model sees enough of a batch to learn from it.
fn batch_problem(model: &SkillModelConfig, batch: usize) -> Option<Problem> {
    let (norm, members) = match model {
        SkillModelConfig::None => return None,
        SkillModelConfig::Spirl(config) => (config.norm, config.prior_members.max(1)),
        SkillModelConfig::Bc(config) => (config.norm, 1),
    };
    let least = if norm == Norm::Batch { 2 } else { 1 };
    // As `Spirl::pass` cuts a batch: all parts but the last are equal.
    let part = batch.div_ceil(members);
    let last = batch.saturating_sub(part.saturating_mul(members - 1));
    // A batch of nothing is refused anyway.
    if last >= least || batch == 0 {
        return None;
    }
    let message = if members == 1 {
        format!(
            "expected at least {least}, because batch normalisation (skill_model.norm) needs means over a batch; found \
             {batch}"
        )
    } else {
        format!(
            "{batch} sequences cannot be shared out so that each of {members} priors (skill_model.prior_members) gets \
             at least {least}; {} can",
            part.max(least).saturating_mul(members)
        )
    };
    Some(Problem::new("pretraining.batch", message).because_of(&["skill_model"]))
}

/// The learner wants a policy made from the prior, and that cannot be had.
pub(super) fn not_gaussian() -> Problem {
    let message = "this learner starts from the prior or stays close to it, and only a Gaussian prior can be used as a \
                   policy (skill_model.prior: Gauss)";
    Problem::new("learner", message).because_of(&["skill_model"])
}

/// The learner wants skills, and there are none.
pub(super) fn no_skills() -> Problem {
    let message = "this experiment acts in skills (acts_in: Skills) and needs a trained model of skills (skill_model: \
                   Spirl)";
    Problem::new("acts_in", message).because_of(&["skill_model"])
}
