//! Statistics of results over seeds.
//!
//! Few runs are the rule in reinforcement learning, so point estimates come with bootstrap intervals, and the
//! interquartile mean stands beside the mean (R. Agarwal et al., *Deep Reinforcement Learning at the Edge of the
//! Statistical Precipice*, `NeurIPS` 2021).

use rand::RngExt;

use crate::rng::Stream;

/// How a set of results becomes one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Statistic {
    /// The arithmetic mean.
    #[default]
    Mean,
    /// The mean of the middle half: less swayed by outliers than the mean, less wasteful than the median.
    InterquartileMean,
    /// The middle value.
    Median,
}

impl Statistic {
    /// The statistic of `values`; `None` of nothing.
    pub fn of(self, values: &[f64]) -> Option<f64> {
        match self {
            Self::Mean => mean(values),
            Self::InterquartileMean => interquartile_mean(values),
            Self::Median => quantile(values, 0.5),
        }
    }
}

/// The ends of a confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample standard deviation (divided by n - 1); `None` of fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// The mean after the lowest and the highest quarter are left out, each rounded down to whole values (what `rliable`
/// computes); `None` of nothing.
pub fn interquartile_mean(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let cut = sorted.len() / 4;
    mean(sorted.get(cut..sorted.len() - cut)?)
}

/// The value below which the share `q` of `values` lies, by linear interpolation; `None` of nothing.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    quantile_of_sorted(&sorted(values), q)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn quantile_of_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let low = sorted.get(place.floor() as usize)?;
    let high = sorted.get(place.ceil() as usize)?;
    Some(low + (high - low) * place.fract())
}

/// Which results each bootstrap resample takes: `resamples` lists of `count` indices, drawn with replacement.
///
/// Curves use one plan for all their points, so that bands do not flicker from point to point.
#[derive(Debug, Clone)]
pub struct BootstrapPlan {
    count: usize,
    draws: Vec<usize>,
}

impl BootstrapPlan {
    /// Draws a plan for `count` results.
    pub fn new(count: usize, resamples: usize, rng: &mut Stream) -> Self {
        let draws = if count == 0 {
            Vec::new()
        } else {
            (0..count * resamples).map(|_| rng.random_range(0..count)).collect()
        };
        Self { count, draws }
    }

    /// The percentile interval of a statistic that holds the share `level` (such as 0.95) of the resamples; `None`
    /// of nothing or when `values` are not as many as the plan was drawn for.
    pub fn interval(&self, values: &[f64], statistic: Statistic, level: f64) -> Option<Interval> {
        if self.count == 0 || values.len() != self.count {
            return None;
        }
        let mut resample = Vec::with_capacity(self.count);
        let mut found = Vec::with_capacity(self.draws.len() / self.count);
        for draws in self.draws.chunks_exact(self.count) {
            resample.clear();
            resample.extend(draws.iter().filter_map(|&index| values.get(index)));
            found.extend(statistic.of(&resample));
        }
        found.sort_by(f64::total_cmp);
        let tail = (1.0 - level.clamp(0.0, 1.0)) / 2.0;
        Some(Interval {
            low: quantile_of_sorted(&found, tail)?,
            high: quantile_of_sorted(&found, 1.0 - tail)?,
        })
    }
}

/// The percentile bootstrap interval of a statistic over independent results (B. Efron, *Bootstrap Methods*, 1979);
/// `None` of nothing.
pub fn bootstrap_interval(
    values: &[f64],
    statistic: Statistic,
    level: f64,
    resamples: usize,
    rng: &mut Stream,
) -> Option<Interval> {
    BootstrapPlan::new(values.len(), resamples, rng).interval(values, statistic, level)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::rng::{Purpose, stream};

    #[test]
    fn point_estimates_are_right() {
        let values = [4.0, 1.0, 100.0, 3.0, 2.0, 5.0, -50.0, 6.0];
        assert_eq!(mean(&values), Some(71.0 / 8.0));
        // scipy.stats.trim_mean(values, 0.25)
        assert_eq!(interquartile_mean(&values), Some(3.5));
        assert_eq!(interquartile_mean(&[1.0, 2.0, 6.0]), Some(3.0));
        // numpy.quantile
        assert!((quantile(&values, 0.9).unwrap() - 34.2).abs() < 1e-12);
        assert_eq!(quantile(&values, 0.5), Some(3.5));
        assert_eq!(standard_deviation(&[1.0, 3.0]), Some(2.0_f64.sqrt()));
        for statistic in [Statistic::Mean, Statistic::InterquartileMean, Statistic::Median] {
            assert_eq!(statistic.of(&[]), None);
            assert_eq!(statistic.of(&[7.0]), Some(7.0));
        }
    }

    #[test]
    fn bootstrap_intervals_cover_and_repeat() {
        let interval = |seed| {
            let mut rng = stream(seed, Purpose::Bootstrap, 0, 0);
            let mut values = [0.0_f32; 100];
            rng.fill_normal(&mut values);
            let values: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
            bootstrap_interval(&values, Statistic::Mean, 0.95, 500, &mut rng).unwrap()
        };
        assert_eq!(interval(1), interval(1));
        // Of 200 intervals at 95 %, about 190 hold the true mean; width about 2 * 1.96 / 10.
        let covering = (0..200)
            .filter(|&seed| interval(seed).low <= 0.0 && interval(seed).high >= 0.0)
            .count();
        assert!((180..=198).contains(&covering), "{covering}");
        let width = interval(3).high - interval(3).low;
        assert!((0.28..0.52).contains(&width), "{width}");
        let mut rng = stream(0, Purpose::Bootstrap, 0, 0);
        assert_eq!(bootstrap_interval(&[], Statistic::Mean, 0.95, 10, &mut rng), None);
        assert_eq!(
            bootstrap_interval(&[2.0], Statistic::Mean, 0.95, 10, &mut rng),
            Some(Interval { low: 2.0, high: 2.0 })
        );
    }
}
