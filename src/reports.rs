//! What learners tell while they practise: metrics files and progress bars.

use std::time::Instant;

use bevy::ecs::query::QueryData;
use bevy::prelude::*;

use crate::evaluate::{Evaluation, EvaluationSummary, Measures};
use crate::learners::sac::{Sac, UpdateMetrics};
use crate::metrics::{BarId, Figure, MetricsError, MetricsWriter, Progress};
use crate::practice::{Budget, LearnerCheckpoints, Practice, RecentEpisodes, RecentUpdates, Replays};
use crate::replay::ReplayBuffer;
use crate::tick::{Tick, TickSystems, stop_on_error};

/// The progress bars of the world.
#[derive(Resource, Default, Deref, DerefMut)]
pub struct Bars(pub Progress);

/// Metrics and progress bar of one learner.
#[derive(Component)]
pub struct Reporter {
    writer: MetricsWriter,
    bar: BarId,
    every: u64,
    next: u64,
    since: Instant,
    steps_then: u64,
    /// What says most of an episode, in the last report that had one.
    headline: Option<f64>,
}

impl Reporter {
    /// Reports every `every` environment steps, from step `steps` on; 0 for no more often than checkpoints are written.
    pub fn new(writer: MetricsWriter, bar: BarId, every: u64, steps: u64) -> Self {
        let next = next_multiple(steps, every);
        Self {
            writer,
            bar,
            every,
            next,
            since: Instant::now(),
            steps_then: steps,
            headline: None,
        }
    }

    /// Brings everything written so far to the disk.
    pub fn sync(&mut self) -> Result<(), MetricsError> {
        self.writer.sync()
    }

    fn write(&mut self, step: u64, prefix: &str, summary: &EvaluationSummary) -> Result<(), MetricsError> {
        if summary.counted() == 0 {
            return Ok(());
        }
        if summary.task_elements > 0 {
            self.writer
                .scalar(step, &format!("{prefix}/completed"), summary.completed)?;
        }
        for (name, value) in [
            ("return", summary.return_),
            ("success", summary.success),
            ("episode_length", summary.steps),
            ("episodes", summary.counted() as f64),
        ] {
            self.writer.scalar(step, &format!("{prefix}/{name}"), value)?;
        }
        for (name, value) in &summary.figures {
            self.writer.scalar(step, &format!("{prefix}/figures/{name}"), *value)?;
        }
        for (name, share) in &summary.elements {
            self.writer.scalar(step, &format!("{prefix}/elements/{name}"), *share)?;
        }
        Ok(())
    }

    fn write_updates(&mut self, step: u64, updates: &[UpdateMetrics]) -> Result<(), MetricsError> {
        if updates.is_empty() {
            return Ok(());
        }
        let skipped = updates.iter().filter(|metrics| metrics.skipped).count();
        self.writer
            .scalar(step, "learner/skipped", skipped as f64 / updates.len() as f64)?;
        // Numbers of skipped updates are not finite.
        let made = updates.len() - skipped;
        if made == 0 {
            return Ok(());
        }
        let mean = |value: &dyn Fn(&UpdateMetrics) -> f32| {
            let made_ones = updates.iter().filter(|metrics| !metrics.skipped);
            made_ones.map(|metrics| f64::from(value(metrics))).sum::<f64>() / made as f64
        };
        for (name, value) in [
            ("policy_loss", mean(&|metrics| metrics.policy_loss)),
            (
                "critic_loss",
                mean(&|metrics| 0.5 * (metrics.critic_loss[0] + metrics.critic_loss[1])),
            ),
            ("temperature", mean(&|metrics| metrics.temperature)),
            ("penalty", mean(&|metrics| metrics.penalty)),
            ("penalty_target", mean(&|metrics| metrics.penalty_target)),
            ("entropy", mean(&|metrics| metrics.entropy)),
            ("q", mean(&|metrics| metrics.q[0])),
            ("policy_gradient", mean(&|metrics| metrics.policy_gradient)),
        ] {
            self.writer.scalar(step, &format!("learner/{name}"), value)?;
        }
        Ok(())
    }
}

/// The first multiple of `every` above `steps`; never for an interval of zero.
pub fn next_multiple(steps: u64, every: u64) -> u64 {
    steps
        .checked_div(every)
        .map_or(u64::MAX, |done| done.saturating_add(1).saturating_mul(every))
}

/// Metrics and progress of learners.
pub struct ReportPlugin;

impl Plugin for ReportPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Bars>().init_resource::<Measures>().add_systems(
            Tick,
            (
                report_practice.pipe(stop_on_error),
                report_evaluations.pipe(stop_on_error),
                show_practice,
            )
                .chain()
                .in_set(TickSystems::Report),
        );
    }
}

type Reporting<'a> = (
    &'a Practice,
    &'a Replays,
    &'a mut Reporter,
    &'a mut RecentEpisodes,
    &'a mut RecentUpdates,
);

/// Writes what the episodes and updates since the last report looked like, for every learner that is due. A checkpoint
/// and the end of practice make it due as well: what is not written by then would be lost.
pub fn report_practice(
    mut learners: Query<(Reporting, &LearnerCheckpoints, &Budget)>,
    buffers: Query<&ReplayBuffer>,
    measures: Res<Measures>,
) -> Result<(), MetricsError> {
    for (learner, checkpoints, budget) in &mut learners {
        let (practice, _, reporter, ..) = &learner;
        if practice.steps >= reporter.next || checkpoints.are_due(practice, *budget) {
            report(learner, &buffers, &measures)?;
        }
    }
    Ok(())
}

/// Writes what every learner has not reported yet, as at the end of a run.
pub fn report_all_practice(
    mut learners: Query<Reporting>,
    buffers: Query<&ReplayBuffer>,
    measures: Res<Measures>,
) -> Result<(), MetricsError> {
    learners
        .iter_mut()
        .try_for_each(|learner| report(learner, &buffers, &measures))
}

fn report(
    (practice, replays, mut reporter, mut episodes, mut updates): <Reporting as QueryData>::Item<'_, '_>,
    buffers: &Query<&ReplayBuffer>,
    measures: &Measures,
) -> Result<(), MetricsError> {
    let steps = practice.steps;
    if steps <= reporter.steps_then {
        return Ok(());
    }
    let episodes = std::mem::take(&mut episodes.0);
    let updates = std::mem::take(&mut updates.0);
    let summary = EvaluationSummary::of(&episodes, measures, 0);
    let rate = (steps - reporter.steps_then) as f64 / reporter.since.elapsed().as_secs_f64().max(1e-9);
    reporter.write(steps, "practice", &summary)?;
    reporter.write_updates(steps, &updates)?;
    reporter.writer.scalar(steps, "rate/steps_per_second", rate)?;
    reporter
        .writer
        .scalar(steps, "practice/faults", practice.faults as f64)?;
    if let Ok(buffer) = buffers.get(replays.0) {
        reporter
            .writer
            .scalar(steps, "practice/refused", buffer.refused() as f64)?;
    }
    (reporter.since, reporter.steps_then) = (Instant::now(), steps);
    reporter.next = next_multiple(steps, reporter.every);
    if summary.episodes > 0 {
        reporter.headline = Some(summary.value);
    }
    Ok(())
}

/// Moves the progress bar of every learner.
pub fn show_practice(learners: Query<(&Practice, &Sac, &Reporter)>, measures: Res<Measures>, mut bars: ResMut<Bars>) {
    let headline = measures.headline_label();
    for (practice, sac, reporter) in &learners {
        let mut figures = Vec::new();
        if practice.warms_up() {
            figures.push(Figure {
                name: "warm-up transitions left",
                value: practice.warmup_left() as f64,
            });
        } else {
            figures.extend(reporter.headline.map(|value| Figure { name: headline, value }));
            figures.push(Figure {
                name: "temperature",
                value: f64::from(sac.temperature()),
            });
        }
        bars.update(reporter.bar, practice.steps, &figures);
    }
}

/// Writes the results of evaluations that have ended.
pub fn report_evaluations(
    mut learners: Query<(&Practice, &mut Evaluation, &mut Reporter)>,
    measures: Res<Measures>,
) -> Result<(), MetricsError> {
    for (practice, mut evaluation, mut reporter) in &mut learners {
        if evaluation.is_finished() {
            let Evaluation { results, faults, .. } = std::mem::take(&mut *evaluation);
            let summary = EvaluationSummary::of(&results, &measures, 0).with_faults(faults);
            reporter.write(practice.steps, "evaluation", &summary)?;
            reporter
                .writer
                .scalar(practice.steps, "evaluation/faults", faults as f64)?;
        }
    }
    Ok(())
}
