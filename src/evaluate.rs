//! Evaluation: whole episodes in fresh environments, beside practice or without it.
//!
//! An evaluation is a set of environments and agents like any others, which live for one episode each. Their random
//! numbers have streams of their own, so evaluating changes nothing about practice.

use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use crate::agents::{ActsIn, AgentState, Agents, Behaviour, agent_bundle};
use crate::learners::skill_recorder::TransitionRule;
use crate::metrics::statistics::{self, Interval, Statistic};
use crate::practice::{EpisodeResult, LearnerFailed, Practice, Seed, note_best_learners};
use crate::reports::next_multiple;
use crate::rng::{Purpose, stream};
use crate::scene::{CompiledReward, CompiledScene, Flag, RewardKind};
use crate::sim::{Episode, Outcome, SimError, TaskProgress, spawn_environment};
use crate::tick::{Tick, TickSystems, stop_on_error};

/// An evaluation that a learner's agents are in the middle of, or have finished.
#[derive(Component, Debug, Clone, Default)]
pub struct Evaluation {
    /// Episodes still running.
    pub running: usize,
    /// Results of finished episodes, in the order in which they ended.
    pub results: Vec<EpisodeResult>,
    /// Episodes that ended with a fault. They have no result.
    pub faults: usize,
}

impl Evaluation {
    /// Whether episodes are running.
    pub fn is_running(&self) -> bool {
        self.running > 0
    }

    /// Whether all episodes have ended and there is something to report, if only that they ended with a fault.
    pub fn is_finished(&self) -> bool {
        self.running == 0 && (!self.results.is_empty() || self.faults > 0)
    }
}

/// When a practising learner is evaluated.
#[derive(Component, Debug, Clone, PartialEq)]
pub struct EvaluationSchedule {
    /// Scene of the evaluation.
    pub scene: Entity,
    /// Episodes of one evaluation.
    pub episodes: usize,
    /// Environment steps between two of them; 0 for none.
    pub every: u64,
    /// Environment steps of practice at which the next one is due.
    pub next: u64,
    /// One was under way in the checkpoint that practice goes on from, which does not say how far: it begins again at
    /// once, whatever else is due.
    pub again: bool,
    /// Evaluations begun.
    pub begun: usize,
}

impl EvaluationSchedule {
    /// Whether an evaluation begins. One at a time: the next one waits until the episodes of the last have ended and
    /// their results have been reported.
    fn is_due(&self, practice: &Practice, evaluation: &Evaluation) -> bool {
        (self.again || practice.steps >= self.next) && !evaluation.is_running() && !evaluation.is_finished()
    }
}

/// Marks an agent that lives for one evaluation episode.
#[derive(Component, Debug, Clone, Copy)]
pub struct Evaluates;

/// Slots of evaluation environments start here, so that their random streams are nobody else's.
const FIRST_SLOT: usize = 1 << 32;

/// The most environments of one evaluation.
const SLOTS: usize = 1 << 20;

/// Number of the episode within its evaluation, from the slot of its environment.
pub fn evaluation_episode(slot: usize) -> usize {
    slot % SLOTS
}

/// Spawns `episodes` environments and agents for one evaluation of `learner`. `number` counts the learner's
/// evaluations: another number draws other noise.
pub fn begin_evaluation(
    world: &mut World,
    learner: Entity,
    scene: Entity,
    episodes: usize,
    behaviour: Behaviour,
    number: usize,
) -> Result<(), SimError> {
    let seed = world.get::<Seed>(learner).map_or(0, |seed| seed.0);
    for episode in 0..episodes {
        let slot = FIRST_SLOT + number * SLOTS + episode;
        let environment = spawn_environment(world, scene, slot, seed)?;
        let stream = stream(seed, Purpose::Evaluation, number as u64, episode as u64);
        world.spawn((
            agent_bundle(environment, learner, behaviour, TransitionRule::Aligned, stream),
            Evaluates,
        ));
    }
    world.entity_mut(learner).insert(Evaluation {
        running: episodes,
        ..Evaluation::default()
    });
    Ok(())
}

/// An evaluation under way, for checkpoints: going on from here gives what it would have given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedEvaluation {
    /// The agents whose episodes are running.
    agents: Vec<AgentState>,
    results: Vec<EpisodeResult>,
    faults: usize,
}

impl SavedEvaluation {
    /// The one of a learner, if there is one.
    pub fn capture(world: &World, learner: Entity) -> Option<Self> {
        let evaluation = world.get::<Evaluation>(learner).filter(|it| it.is_running())?;
        let agents = evaluating_agents(world, learner).into_iter();
        Some(Self {
            agents: agents.filter_map(|agent| AgentState::capture(world, agent)).collect(),
            results: evaluation.results.clone(),
            faults: evaluation.faults,
        })
    }

    /// Goes on with it in `scene`. Its agents come after those that practise, as they did then.
    ///
    /// # Errors
    /// As [`begin_evaluation`] and [`AgentState::restore`].
    pub fn resume(&self, world: &mut World, learner: Entity, scene: Entity) -> Result<(), SimError> {
        // Slots and streams of the new agents do not matter: they come with the states.
        begin_evaluation(world, learner, scene, self.agents.len(), Behaviour::Samples, 0)?;
        for (agent, state) in evaluating_agents(world, learner).into_iter().zip(&self.agents) {
            state.restore(world, agent)?;
        }
        if let Some(mut evaluation) = world.get_mut::<Evaluation>(learner) {
            evaluation.results.clone_from(&self.results);
            evaluation.faults = self.faults;
        }
        Ok(())
    }
}

fn evaluating_agents(world: &World, learner: Entity) -> Vec<Entity> {
    let members = world.get::<Agents>(learner).into_iter().flat_map(Agents::iter);
    members
        .filter(|agent| world.get::<Evaluates>(*agent).is_some())
        .collect()
}

/// Gathers the results of evaluation episodes.
pub struct EvaluationPlugin;

impl Plugin for EvaluationPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Measures>().add_systems(
            Tick,
            (
                gather_results,
                note_best_learners.pipe(stop_on_error),
                begin_due_evaluations.pipe(stop_on_error).run_if(an_evaluation_is_due),
            )
                .chain()
                .in_set(TickSystems::Evaluate),
        );
    }
}

/// Whether [`begin_due_evaluations`] has anything to do, which would otherwise have the world to itself in every tick.
fn an_evaluation_is_due(learners: Query<(&Practice, &Evaluation, &EvaluationSchedule)>) -> bool {
    learners
        .iter()
        .any(|(practice, evaluation, schedule)| schedule.is_due(practice, evaluation))
}

/// Begins the evaluation of every learner that is due for one.
pub fn begin_due_evaluations(world: &mut World) -> Result<(), LearnerFailed<SimError>> {
    let mut due = Vec::new();
    let mut learners = world.query::<(Entity, &Seed, &Practice, &Evaluation, &mut EvaluationSchedule)>();
    for (learner, seed, practice, evaluation, mut schedule) in learners.iter_mut(world) {
        if schedule.is_due(practice, evaluation) {
            due.push((learner, *seed, schedule.scene, schedule.episodes, schedule.begun));
            if !std::mem::take(&mut schedule.again) {
                schedule.next = next_multiple(practice.steps, schedule.every);
            }
            schedule.begun += 1;
        }
    }
    for (learner, seed, scene, episodes, number) in due {
        begin_evaluation(world, learner, scene, episodes, Behaviour::Samples, number).map_err(seed.failed())?;
    }
    Ok(())
}

/// Takes down the result of every evaluation episode that has ended, and removes its agent and environment.
pub fn gather_results(
    mut commands: Commands,
    mut learners: Query<(&Agents, &mut Evaluation)>,
    agents: Query<&ActsIn, With<Evaluates>>,
    environments: Query<(&Outcome, &Episode, &TaskProgress)>,
) {
    for (members, mut evaluation) in &mut learners {
        if evaluation.running == 0 {
            continue;
        }
        for member in members.iter() {
            let Ok(acts_in) = agents.get(member) else { continue };
            let Ok((outcome, episode, progress)) = environments.get(acts_in.0) else {
                continue;
            };
            if outcome.ended() {
                // As in practice: an episode that the physics cut off says nothing about the agent.
                if outcome.fault.is_some() {
                    evaluation.faults += 1;
                } else {
                    evaluation.results.push(EpisodeResult::of(episode, progress));
                }
                evaluation.running -= 1;
                commands.entity(member).despawn();
                commands.entity(acts_in.0).despawn();
            }
        }
    }
}

/// What episodes of a scene are measured by: the names of what is reported of them.
#[derive(Resource, Debug, Clone, Default, PartialEq, Eq)]
pub struct Measures {
    /// Elements of the task, in its order.
    pub task: Vec<String>,
    /// Elements of the scene, in its order.
    pub scene: Vec<String>,
    /// What terms of the reward report.
    pub figures: Vec<String>,
    /// Elements of the scene that terms of the reward are about; reaching all of them is success where the task has no
    /// elements.
    pub goals: Vec<usize>,
    /// What success is where the task lists it.
    pub success: Vec<Flag>,
    /// The figure that says most where the task has neither elements nor goals; others are only parts of the reward.
    pub leading: Option<usize>,
}

/// The one number of an episode that says most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Headline {
    /// Completed elements of the task.
    Completed,
    /// Whether the goals were reached.
    Success,
    /// A figure that the reward reports, by its place.
    Figure(usize),
    /// Sum of the rewards.
    Return,
}

impl Measures {
    /// Those of a scene.
    pub fn of(scene: &CompiledScene) -> Self {
        let names: Vec<String> = scene.elements().iter().map(|element| element.name.clone()).collect();
        let listed = !scene.scene().task.success.is_empty();
        let stack = |reward: &&CompiledReward| matches!(reward.kind, RewardKind::Stack(_));
        Self {
            task: (scene.task().iter())
                .filter_map(|&index| names.get(index).cloned())
                .collect(),
            figures: scene.figures().to_vec(),
            goals: scene.rewards().iter().filter_map(CompiledReward::goal).collect(),
            success: if listed { scene.success().to_vec() } else { Vec::new() },
            leading: scene.rewards().iter().find(stack).map(|reward| reward.figures.start),
            scene: names,
        }
    }

    /// What says most: completed elements where the task has any, else its success or the goals of the reward, else its
    /// leading figure.
    pub fn headline(&self) -> Headline {
        match self {
            Self { task, .. } if !task.is_empty() => Headline::Completed,
            Self { goals, success, .. } if !(goals.is_empty() && success.is_empty()) => Headline::Success,
            Self {
                leading: Some(figure), ..
            } => Headline::Figure(*figure),
            _ => Headline::Return,
        }
    }

    /// Name of the headline, as in the tags of metrics (`practice/NAME`).
    pub fn headline_name(&self) -> String {
        match self.headline() {
            Headline::Completed => "completed".into(),
            Headline::Success => "success".into(),
            Headline::Figure(index) => format!("figures/{}", self.figures.get(index).map_or("", String::as_str)),
            Headline::Return => "return".into(),
        }
    }

    /// The same in a word, for people.
    pub fn headline_label(&self) -> &str {
        match self.headline() {
            Headline::Completed => "completed",
            Headline::Success => "success",
            Headline::Figure(index) => self.figures.get(index).map_or("", String::as_str),
            Headline::Return => "return",
        }
    }

    /// The headline of one episode.
    pub fn value(&self, result: &EpisodeResult) -> f64 {
        match self.headline() {
            Headline::Completed => result.completed() as f64,
            Headline::Success => f64::from(u8::from(self.succeeded(result))),
            Headline::Figure(index) => result.figures.get(index).copied().unwrap_or(0.0),
            Headline::Return => f64::from(result.return_),
        }
    }

    /// Whether an episode did all that was asked for; never where nothing is.
    pub fn succeeded(&self, result: &EpisodeResult) -> bool {
        let reached = |index: &usize| result.reached.get(*index).copied().unwrap_or(false);
        let set = |flag: &Flag| match flag {
            Flag::Counted(place) => result.done.get(*place).copied().unwrap_or(false),
            Flag::Reached(element) => reached(element),
        };
        match self.headline() {
            _ if !self.success.is_empty() => self.success.iter().all(set),
            Headline::Completed => result.completed() == self.task.len(),
            Headline::Success => self.goals.iter().all(reached),
            Headline::Figure(_) | Headline::Return => false,
        }
    }
}

/// What an evaluation says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationSummary {
    /// Episodes. Those with a fault are among them once [`with_faults`](Self::with_faults) has added them.
    pub episodes: usize,
    /// Episodes that ended with a fault, as far as they were added. All other numbers leave them out.
    #[serde(default)]
    pub faults: usize,
    /// Completed elements of the task per episode, mean.
    pub completed: f64,
    /// What says most in this scene ([`Measures::headline_name`]); empty in results of older versions, which are all of
    /// completed elements.
    #[serde(default)]
    pub headline: String,
    /// Its mean over the episodes.
    #[serde(default)]
    pub value: f64,
    /// Its 95 % bootstrap interval over episodes.
    pub interval: (f64, f64),
    /// What says most of every episode that counts, in the order in which they ended; not in results of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f64>,
    /// Sum of the rewards of an episode, mean.
    #[serde(default, rename = "return")]
    pub return_: f64,
    /// What terms of the reward reported at the end: name and mean.
    #[serde(default)]
    pub figures: Vec<(String, f64)>,
    /// Elements of the task.
    pub task_elements: usize,
    /// Share of episodes that completed the whole task, or reached the goals of the reward where the task has no elements.
    pub success: f64,
    /// Mean control steps per episode.
    pub steps: f64,
    /// For each element of the task, in its order: name and share of episodes that completed it.
    pub elements: Vec<(String, f64)>,
    /// For each element of the scene: name and share of episodes in which it was at its goal at some time.
    pub reached: Vec<(String, f64)>,
}

impl EvaluationSummary {
    /// Summarises results of episodes that are measured by `measures`.
    pub fn of(results: &[EpisodeResult], measures: &Measures, seed: u64) -> Self {
        let values: Vec<f64> = results.iter().map(|result| measures.value(result)).collect();
        let mean = |value: &dyn Fn(&EpisodeResult) -> f64| {
            statistics::mean(&results.iter().map(value).collect::<Vec<_>>()).unwrap_or(0.0)
        };
        let share = |holds: &dyn Fn(&EpisodeResult) -> bool| {
            results.iter().filter(|result| holds(result)).count() as f64 / results.len().max(1) as f64
        };
        let each = |names: &[String], flags: fn(&EpisodeResult) -> &[bool]| {
            names
                .iter()
                .enumerate()
                .map(|(index, name)| {
                    (
                        name.clone(),
                        share(&|result| flags(result).get(index).copied().unwrap_or(false)),
                    )
                })
                .collect()
        };
        let mut rng = stream(seed, Purpose::Bootstrap, 0, 0);
        let Interval { low, high } = statistics::bootstrap_interval(&values, Statistic::Mean, 0.95, 2_000, &mut rng)
            .unwrap_or(Interval { low: 0.0, high: 0.0 });
        Self {
            episodes: results.len(),
            faults: 0,
            completed: mean(&|result| result.completed() as f64),
            headline: measures.headline_name(),
            value: mean(&|result| measures.value(result)),
            interval: (low, high),
            values,
            return_: mean(&|result| f64::from(result.return_)),
            figures: (measures.figures.iter().enumerate())
                .map(|(index, name)| {
                    let of = |result: &EpisodeResult| result.figures.get(index).copied().unwrap_or(0.0);
                    (name.clone(), mean(&of))
                })
                .collect(),
            task_elements: measures.task.len(),
            success: share(&|result| measures.succeeded(result)),
            steps: mean(&|result| f64::from(result.steps)),
            elements: each(&measures.task, |result| &result.done),
            reached: each(&measures.scene, |result| &result.reached),
        }
    }

    /// The same summary of an evaluation in which `faults` more episodes ended with a fault.
    pub fn with_faults(mut self, faults: usize) -> Self {
        self.episodes += faults;
        self.faults += faults;
        self
    }

    /// Episodes that the numbers are about: those without a fault.
    pub fn counted(&self) -> usize {
        self.episodes.saturating_sub(self.faults)
    }

    /// Mean number of elements of the scene that were at their goal at some time, task or not.
    pub fn reached_mean(&self) -> f64 {
        self.reached.iter().fold(0.0, |sum, (_, share)| sum + share)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use bevy::ecs::system::RunSystemOnce;

    use super::*;
    use crate::agents::LearnsWith;
    use crate::sim::Fault;

    #[test]
    fn an_evaluation_that_waits_is_not_forgotten() {
        let mut world = World::new();
        let scene = world.spawn_empty().id();
        let mut practice = Practice::none(0);
        practice.steps = 500;
        // Without episodes, so that no environment is needed.
        let schedule = EvaluationSchedule {
            scene,
            episodes: 0,
            every: 200,
            next: 400,
            again: true,
            begun: 3,
        };
        let learner = world.spawn((Seed(0), practice, Evaluation::default(), schedule)).id();
        let begin = |world: &mut World, running| {
            world.get_mut::<Evaluation>(learner).unwrap().running = running;
            let due = world.run_system_once(an_evaluation_is_due).unwrap();
            begin_due_evaluations(world).unwrap();
            let schedule = world.get::<EvaluationSchedule>(learner).unwrap();
            (due, schedule.next, schedule.begun)
        };
        assert_eq!(begin(&mut world, 0), (true, 400, 4), "the one that was under way");
        assert_eq!(begin(&mut world, 1), (false, 400, 4));
        assert_eq!(begin(&mut world, 0), (true, 600, 5), "the one that had to wait");
        assert_eq!(begin(&mut world, 0), (false, 600, 5));
    }

    #[test]
    fn episodes_with_a_fault_are_counted_apart() {
        let mut world = World::new();
        let learner = world
            .spawn(Evaluation {
                running: 3,
                ..default()
            })
            .id();
        for (done, fault) in [(true, None), (true, Some(Fault::Unstable)), (false, None)] {
            let outcome = Outcome {
                terminated: done && fault.is_none(),
                truncated: !done || fault.is_some(),
                fault,
                ..default()
            };
            let progress = TaskProgress {
                done: vec![done],
                reached: vec![done],
                distance: vec![0.0],
                memory: Vec::new(),
                figures: Vec::new(),
            };
            let environment = world.spawn((outcome, Episode::default(), progress)).id();
            world.spawn((ActsIn(environment), LearnsWith(learner), Evaluates));
        }
        world.run_system_once(gather_results).unwrap();
        let evaluation = world.get::<Evaluation>(learner).unwrap();
        assert!(evaluation.is_finished());
        let names = vec!["kettle".to_owned()];
        let measures = Measures {
            task: names.clone(),
            scene: names,
            ..Measures::default()
        };
        let summary = EvaluationSummary::of(&evaluation.results, &measures, 0).with_faults(evaluation.faults);
        assert_eq!((summary.episodes, summary.faults, summary.counted()), (3, 1, 2));
        assert_eq!((summary.success, summary.completed), (0.5, 0.5));
        assert_eq!((summary.headline.as_str(), summary.value), ("completed", 0.5));
        assert_eq!(summary.values.iter().sum::<f64>(), 1.0);
        let all_faulted = Evaluation { faults: 2, ..default() };
        assert!(all_faulted.is_finished() && !Evaluation::default().is_finished());
    }
}
