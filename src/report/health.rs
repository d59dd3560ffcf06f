//! How healthy practice was.

use super::Method;
use crate::metrics::statistics::mean;

/// Numbers of learners that tell how healthy practice was.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Health {
    pub(super) faults: Option<f64>,
    pub(super) refused: Option<f64>,
    pub(super) skipped: Option<f64>,
    pub(super) most_skipped: Option<f64>,
    pub(super) evaluation_faults: usize,
    pub(super) rate: Option<f64>,
}

impl Health {
    /// Those of a method.
    pub(super) fn of(method: &Method) -> Self {
        let curves = |tag: &'static str| {
            method
                .learners
                .iter()
                .filter_map(move |learner| learner.curves.get(tag))
        };
        let last = |tag| {
            let ends: Vec<f64> = curves(tag)
                .filter_map(|curve| curve.last())
                .map(|point| point.1)
                .collect();
            (!ends.is_empty()).then(|| ends.iter().sum())
        };
        let values = |tag| -> Vec<f64> { curves(tag).flatten().map(|point| point.1).collect() };
        let skipped = values("learner/skipped");
        Self {
            faults: last("practice/faults"),
            refused: last("practice/refused"),
            skipped: mean(&skipped),
            most_skipped: skipped.iter().copied().reduce(f64::max),
            evaluation_faults: method.finals.iter().map(|result| result.summary.faults).sum(),
            rate: mean(&values("rate/steps_per_second")),
        }
    }
}
