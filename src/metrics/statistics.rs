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
        percentile_interval(&mut found, level)
    }
}

/// The middle part of what resamples gave that holds the share `level` of them; `None` of nothing.
fn percentile_interval(found: &mut [f64], level: f64) -> Option<Interval> {
    found.sort_by(f64::total_cmp);
    let tail = (1.0 - level.clamp(0.0, 1.0)) / 2.0;
    Some(Interval {
        low: quantile_of_sorted(found, tail)?,
        high: quantile_of_sorted(found, 1.0 - tail)?,
    })
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

/// How far `values` stay below `maximum` on average, as a share of it; what lies above counts as reached (the optimality
/// gap of Agarwal et al.). `None` of nothing or where the maximum is not a positive number.
pub fn optimality_gap(values: &[f64], maximum: f64) -> Option<f64> {
    if !maximum.is_finite() || maximum <= 0.0 {
        return None;
    }
    let missing: Vec<f64> = values.iter().map(|value| (1.0 - value / maximum).max(0.0)).collect();
    mean(&missing)
}

/// The probability that a result drawn from `one` is better than one drawn from `other`, ties counted half: the
/// statistic of Mann and Whitney divided by the number of pairs. `None` if there is no pair.
pub fn probability_of_improvement(one: &[f64], other: &[f64]) -> Option<f64> {
    let better = one.iter().flat_map(|one| {
        other.iter().map(move |other| {
            if one > other {
                1.0
            } else if one == other {
                0.5
            } else {
                0.0
            }
        })
    });
    mean(&better.collect::<Vec<f64>>())
}

/// The learners of one stratum, such as those of one method in one scene: for each learner the values of its episodes,
/// or one value where only their mean is known. The score of a learner is the mean of its values.
pub type Stratum = Vec<Vec<f64>>;

/// The scores of the learners of each stratum; learners without values have none.
pub fn scores(strata: &[Stratum]) -> Vec<Vec<f64>> {
    let of = |stratum: &Stratum| stratum.iter().filter_map(|values| mean(values)).collect();
    strata.iter().map(of).collect()
}

/// What is computed of the scores of each stratum; `None` where there is nothing to compute it of.
pub type OfScores<'a> = &'a dyn Fn(&[Vec<f64>]) -> Option<f64>;

/// The stratified percentile bootstrap of several statistics of the same results (Agarwal et al.): every resample draws
/// as many learners from each stratum as it has, with replacement, and as many of the values of each drawn learner. The
/// second draw adds the noise of episodes once more, so intervals are rather a little too wide than too narrow; of a
/// single learner they are those over its episodes.
///
/// A statistic gets the scores of each stratum. Its interval is `None` where it is `None` of every resample.
pub fn stratified_intervals<const N: usize>(
    strata: &[Stratum],
    statistics: [OfScores; N],
    level: f64,
    resamples: usize,
    rng: &mut Stream,
) -> [Option<Interval>; N] {
    let strata: Vec<Vec<&[f64]>> = strata
        .iter()
        .map(|stratum| {
            stratum
                .iter()
                .map(Vec::as_slice)
                .filter(|values| !values.is_empty())
                .collect()
        })
        .collect();
    let mut drawn: Vec<Vec<f64>> = strata.iter().map(|stratum| Vec::with_capacity(stratum.len())).collect();
    let mut found: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(resamples));
    for _ in 0..resamples {
        for (stratum, scores) in strata.iter().zip(&mut drawn) {
            scores.clear();
            for _ in 0..stratum.len() {
                let learner = stratum
                    .get(rng.random_range(0..stratum.len()))
                    .copied()
                    .unwrap_or_default();
                scores.extend(resampled_mean(learner, rng));
            }
        }
        for (statistic, found) in statistics.iter().zip(&mut found) {
            found.extend(statistic(&drawn));
        }
    }
    found.map(|mut found| percentile_interval(&mut found, level))
}

/// The mean of as many values as there are, drawn with replacement.
fn resampled_mean(values: &[f64], rng: &mut Stream) -> Option<f64> {
    if let [] | [_] = values {
        return values.first().copied();
    }
    let drawn = (0..values.len()).filter_map(|_| values.get(rng.random_range(0..values.len())));
    Some(drawn.sum::<f64>() / values.len() as f64)
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

    #[test]
    fn gaps_and_probabilities_are_right() {
        // (0 + 1/2 + 0) / 3; what lies above the maximum does not make up for the rest.
        assert!((optimality_gap(&[4.0, 2.0, 5.0], 4.0).unwrap() - 1.0 / 6.0).abs() < 1e-12);
        assert_eq!(optimality_gap(&[], 4.0), None);
        assert_eq!(optimality_gap(&[1.0], 0.0), None);
        assert_eq!(optimality_gap(&[1.0], f64::NAN), None);
        // Pairs won: 0, then 1/2 + 1/2, then 1 + 1, of 9; scipy.stats.mannwhitneyu gives U = 3.
        assert_eq!(
            probability_of_improvement(&[1.0, 2.0, 3.0], &[2.0, 2.0, 4.0]),
            Some(3.0 / 9.0)
        );
        assert_eq!(probability_of_improvement(&[1.0], &[]), None);
        let mut rng = stream(5, Purpose::Bootstrap, 0, 0);
        for _ in 0..50 {
            let mut draw = |count| -> Vec<f64> { (0..count).map(|_| f64::from(rng.random_range(0..6))).collect() };
            let (one, other) = (draw(7), draw(4));
            let forth = probability_of_improvement(&one, &other).unwrap();
            let back = probability_of_improvement(&other, &one).unwrap();
            assert!((0.0..=1.0).contains(&forth) && (forth + back - 1.0).abs() < 1e-12);
            assert_eq!(probability_of_improvement(&one, &one), Some(0.5));
        }
    }

    fn flat_mean(scores: &[Vec<f64>]) -> Option<f64> {
        mean(&scores.concat())
    }

    fn flat_iqm(scores: &[Vec<f64>]) -> Option<f64> {
        interquartile_mean(&scores.concat())
    }

    #[test]
    fn resamples_keep_strata_and_know_episodes() {
        let mut rng = stream(0, Purpose::Bootstrap, 0, 0);
        let mut of = |strata: &[Stratum]| stratified_intervals(strata, [&flat_mean, &flat_iqm], 0.95, 2_000, &mut rng);
        let at = |value| {
            Some(Interval {
                low: value,
                high: value,
            })
        };
        // Every resample holds one learner of each stratum, whichever it is.
        assert_eq!(of(&[vec![vec![0.0]; 3], vec![vec![10.0]; 3]])[0], at(5.0));
        // The mean of two of {0, 1} is 0, 1/2 or 1, with 1/4, 1/2, 1/4.
        assert_eq!(
            of(&[vec![vec![0.0], vec![1.0]]])[0],
            Some(Interval { low: 0.0, high: 1.0 })
        );
        // One learner: 100 episodes with a mean of 1/2, so plus and minus 1.96 * 0.5 / 10.
        let episodes: Vec<f64> = (0..100).map(|index| f64::from(index % 2)).collect();
        let one = of(&[vec![episodes.clone()]])[0].unwrap();
        assert!(
            (one.low - 0.402).abs() < 0.021 && (one.high - 0.598).abs() < 0.021,
            "{one:?}"
        );
        assert_eq!(
            of(&[vec![vec![3.0]]]),
            [at(3.0), at(3.0)],
            "nothing is known about its noise"
        );
        assert_eq!(of(&[]), [None, None]);
        assert_eq!(
            of(&[vec![vec![], vec![2.0]]])[0],
            at(2.0),
            "a learner without values is left out"
        );
        assert_eq!(scores(&[vec![vec![1.0, 3.0], vec![]], vec![]]), [vec![2.0], vec![]]);
    }

    #[test]
    fn stratified_intervals_hold_the_true_mean() {
        // Learners with mean 0 and deviation 1, 20 episodes each with deviation 1: a learner's score has variance 1.05.
        let interval = |seed| {
            let mut rng = stream(seed, Purpose::Bootstrap, 1, 0);
            let learners = (0..20).map(|_| {
                let mut drawn = [0.0_f32; 21];
                rng.fill_normal(&mut drawn);
                drawn[1..].iter().map(|value| f64::from(drawn[0] + value)).collect()
            });
            let stratum: Stratum = learners.collect();
            let [mean, iqm] = stratified_intervals(&[stratum], [&flat_mean, &flat_iqm], 0.95, 400, &mut rng);
            (mean.unwrap(), iqm.unwrap())
        };
        assert_eq!(interval(1), interval(1));
        let holds = |interval: Interval| usize::from(interval.low <= 0.0 && interval.high >= 0.0);
        let held = (0..100).map(interval).fold((0, 0), |(mean, iqm), (one, other)| {
            (mean + holds(one), iqm + holds(other))
        });
        assert!((86..=100).contains(&held.0) && (86..=100).contains(&held.1), "{held:?}");
    }
}
