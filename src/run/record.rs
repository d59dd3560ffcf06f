//! Episodes of agents into a file of demonstrations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::collect::{OVERRIDES, write_gathered};
use super::evaluate::{Trained, no_checkpoint, spawn_actor};
use super::train::Foundations;
use super::{RunError, RunFolder, Settings, Unfinished, load_scene};
use crate::agents::{AgentPlugin, Behaviour};
use crate::app::{self, Ended};
use crate::data::{Description, Layout, LayoutWriter, Written};
use crate::demos::record::{Actor, ROUND, RecordPlugin, RecordedEpisodes, begin_round};
use crate::demos::{CollectReport, DemoError, Rejection};
use crate::evaluate::{Headline, Measures};
use crate::experiment::Experiment;
use crate::files;
use crate::learners::sac::PolicyStart;
use crate::metrics::{Figure, Progress};
use crate::practice::{EpisodeResult, Practice};
use crate::scene::CompiledScene;
use crate::sim::SimPlugin;

/// Episodes that are looked at before a share of one in fifty that count is too few.
const PATIENCE: usize = 100;
const FEWEST: usize = 50;

/// Who acts in the episodes that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub enum Acting {
    /// The trained agent, with skills sampled from its policy.
    Agent,
    /// The trained agent, always with its most likely skill.
    MostLikely,
    /// The prior of the skill model, untrained in the task.
    Prior,
    /// Nobody: actions are drawn evenly.
    Random,
}

/// Which episodes are recorded, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordPlan {
    /// Who acts.
    pub actor: Acting,
    /// The run that the agent is from, if it is from one.
    pub run: Option<PathBuf>,
    /// Seed of the learner, of a run with several.
    pub learner: Option<u64>,
    /// Episodes to keep.
    pub episodes: usize,
    /// Master seed of noise and of sampled skills.
    pub seed: u64,
    /// Keep those that do the whole task, or reach the goals of the reward, only.
    pub successful: bool,
    /// Keep those only in which what says most of the scene (completed elements, a figure, the return) is at least this.
    pub at_least: Option<f64>,
    /// Store pictures.
    pub images: bool,
    /// How they are stored.
    pub layout: Layout,
}

impl RecordPlan {
    /// Why an episode is left out, if it is.
    fn refused(&self, measures: &Measures, result: &EpisodeResult) -> Option<Rejection> {
        if self.successful && !measures.succeeded(result) {
            return Some(Rejection::Missed("not successful".into()));
        }
        let value = measures.value(result);
        let low = self.at_least.is_some_and(|least| value < least);
        low.then(|| Rejection::Missed(format!("{} too low", measures.headline_label()).into()))
    }
}

/// Where agents act, and what of the experiment they stand on.
#[derive(Debug, Clone, Copy)]
pub struct RecordSource<'a> {
    /// Name of the scene; that of the experiment, if there is one.
    pub scene: &'a str,
    /// What is laid over the scene, where there is no experiment.
    pub overrides: &'a [String],
    /// For agents and priors: the experiment, and the skill model it stands on.
    pub experiment: Option<(&'a Experiment, Option<&'a Path>)>,
    /// For agents: the run with their checkpoints.
    pub folder: Option<&'a RunFolder>,
}

/// Records episodes to `path`, which appears when they are complete.
///
/// # Errors
/// The agent cannot act in the scene or has no checkpoint; fewer than one in fifty episodes counts; the file cannot be
/// written.
pub fn record(
    source: &RecordSource,
    plan: &RecordPlan,
    path: &Path,
    settings: &Settings,
) -> Result<(CollectReport, Written, Ended), RunError> {
    if plan.episodes == 0 {
        return Err(RunError::Experiment(
            "expected at least one episode to record, found 0".into(),
        ));
    }
    let compiled = match source.experiment {
        Some((experiment, _)) => load_scene(experiment)?,
        None => CompiledScene::load(source.scene, source.overrides)?,
    };
    let measures = Measures::of(&compiled);
    if plan.successful && matches!(measures.headline(), Headline::Figure(_) | Headline::Return) {
        return Err(RunError::Experiment(format!(
            "--successful: scene `{}` has no elements in its task and no goals in its reward, so nothing says what success \
             is; give a number with --at-least ({})",
            source.scene,
            measures.headline_label()
        )));
    }
    if plan.images && compiled.eye().is_none() {
        return Err(DemoError::NoPictures.into());
    }
    let description = Description {
        scene: source.scene.to_owned(),
        seed: plan.seed,
        elements: compiled.elements().iter().map(|element| element.name.clone()).collect(),
        demonstrator: files::to_text(plan)?,
        more: BTreeMap::from([(OVERRIDES.to_owned(), files::to_text(&source.overrides)?)]),
    };
    let (observation, action) = (compiled.observation_len(), compiled.action_len());
    let writer = LayoutWriter::create(plan.layout, path, observation, action, &description)?;
    write_gathered(writer, path, Unfinished::Keep, |writer| {
        gather(source, plan, compiled, &measures, settings, writer)
    })
}

/// Lets the actor act until there are enough episodes that count.
fn gather(
    source: &RecordSource,
    plan: &RecordPlan,
    scene: CompiledScene,
    measures: &Measures,
    settings: &Settings,
    writer: &mut LayoutWriter,
) -> Result<CollectReport, RunError> {
    let mut app = app::headless(settings.threads, settings.stop.clone());
    app.add_plugins((SimPlugin, AgentPlugin, RecordPlugin));
    let actor = actor(app.world_mut(), source, plan, &scene)?;
    let scene = app.world_mut().spawn(scene).id();
    let mut report = CollectReport::default();
    let mut bars = Progress::default();
    let bar = bars.add("episodes", 0, plan.episodes as u64, "episodes");
    let mut begun = 0;
    while report.episodes < plan.episodes {
        let numbers = begun..begun + ROUND as u64;
        begun = numbers.end;
        begin_round(app.world_mut(), scene, actor, plan.seed, numbers, plan.images)?;
        let all = |world: &mut bevy::prelude::World| world.resource::<RecordedEpisodes>().0.len() == ROUND;
        let ended = app::run(&mut app, all).map_err(RunError::Tick)?;
        // In the order of their numbers, also those of a round that was broken off.
        let episodes = std::mem::take(&mut app.world_mut().resource_mut::<RecordedEpisodes>().0);
        for (_, episode) in episodes {
            if report.episodes == plan.episodes {
                break;
            }
            if let Some(kept) = report.take_episode(episode, |result| plan.refused(measures, result)) {
                writer.append(&kept.episode)?;
            }
        }
        let rejected = [Figure {
            name: "rejected",
            value: (report.attempts - report.episodes) as f64,
        }];
        bars.update(bar, report.episodes as u64, &rejected);
        if ended == Ended::Stopped {
            report.interrupted = report.episodes < plan.episodes;
            break;
        }
        if report.attempts >= PATIENCE && report.episodes * FEWEST < report.attempts {
            return Err(too_few(&report, plan.episodes));
        }
    }
    bars.finish();
    Ok(report)
}

fn too_few(report: &CollectReport, episodes: usize) -> RunError {
    let reasons = report
        .rejected
        .iter()
        .map(|(reason, count)| format!("{reason}: {count}"));
    RunError::Demonstrations(DemoError::TooManyFailures {
        attempts: report.attempts,
        accepted: report.episodes,
        episodes,
        reasons: reasons.collect::<Vec<_>>().join(", "),
    })
}

/// Spawns the learner whose agents act.
fn actor(
    world: &mut bevy::prelude::World,
    source: &RecordSource,
    plan: &RecordPlan,
    scene: &CompiledScene,
) -> Result<Actor, RunError> {
    let behaviour = match plan.actor {
        Acting::Random => return Ok(Actor::Random),
        Acting::MostLikely => Behaviour::MostLikely,
        Acting::Agent | Acting::Prior => Behaviour::Samples,
    };
    let Some((experiment, skills)) = source.experiment else {
        return Err(RunError::Experiment(
            "a run is needed whose agent or prior acts (--from RUN)".into(),
        ));
    };
    let foundations = Foundations::load(experiment, scene, skills.map(Path::to_owned))?;
    let first = experiment.seeds.first().copied().unwrap_or(0);
    let seed = plan.learner.unwrap_or(first);
    let (practice, sac) = if plan.actor == Acting::Prior {
        if foundations.prior.is_none() {
            return Err(RunError::Experiment(
                "there is no prior that could act: the run has no skill model, or the prior of its model is not Gaussian"
                    .into(),
            ));
        }
        let mut from_prior = experiment.clone();
        from_prior.learner.policy = PolicyStart::Prior;
        (Practice::none(seed), foundations.learner(&from_prior, seed)?)
    } else {
        let Some(folder) = source.folder else {
            return Err(RunError::Experiment(
                "a run is needed whose agent acts (--from RUN)".into(),
            ));
        };
        if !experiment.seeds.contains(&seed) {
            return Err(RunError::Experiment(format!(
                "--learner: expected one of the run's seeds {:?}, found {seed}",
                experiment.seeds
            )));
        }
        let trained = Trained::newest(experiment, &foundations, folder, seed)?;
        let trained = trained.ok_or_else(|| no_checkpoint(folder, seed))?;
        // No counter of practice: whatever warms up or explores has no place here.
        (Practice::none(seed), trained.sac)
    };
    Ok(Actor::Agent(
        spawn_actor(world, &foundations, practice, seed, sac),
        behaviour,
    ))
}
