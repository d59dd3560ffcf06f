//! The "top of N" metric of `SPiRL`'s evaluator: how close decodings of random skills come to true actions.

/// Errors of decodings of random skills against true actions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopN {
    /// Mean squared error over time and action dimensions: one row per sequence, one entry per draw.
    pub errors: Vec<Vec<f32>>,
}

/// Summary of [`TopN`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TopNSummary {
    /// Best of the N draws, mean over sequences.
    pub best_mean: f64,
    /// Population standard deviation of the bests over sequences.
    pub best_std: f64,
    /// Mean over all draws and sequences.
    pub all_mean: f64,
    /// Population standard deviation over the draws of a sequence, mean over sequences.
    pub all_std: f64,
}

impl TopN {
    /// The four numbers of the original evaluator; zeros without any error.
    pub fn summary(&self) -> TopNSummary {
        let rows = || self.errors.iter().filter(|row| !row.is_empty());
        let (best_mean, best_std) = moments(rows().map(|row| row.iter().copied().fold(f32::INFINITY, f32::min).into()));
        let (means, deviations): (Vec<f64>, Vec<f64>) = rows()
            .map(|row| moments(row.iter().map(|error| f64::from(*error))))
            .unzip();
        let (all_mean, _) = moments(means.into_iter());
        let (all_std, _) = moments(deviations.into_iter());
        TopNSummary {
            best_mean,
            best_std,
            all_mean,
            all_std,
        }
    }
}

/// Mean and population standard deviation; zeros for nothing.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    (
        mean,
        (values.map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt(),
    )
}
