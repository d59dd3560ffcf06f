//! What a set of demonstrations shows, and how varied it is.

use std::collections::BTreeMap;
use std::fmt;

use super::collect::Demonstration;
use super::kitchen::{KitchenAccount, KitchenElement};

/// Phases at which the paths of two attempts are compared.
const PHASES: usize = 21;

/// Running mean and standard deviation of one quantity.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    count: usize,
    mean: f64,
    squares: f64,
    range: Option<(f64, f64)>,
}

impl Summary {
    /// Takes in one value (Welford's update).
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        let off = value - self.mean;
        self.mean += off / self.count as f64;
        self.squares += off * (value - self.mean);
        self.range = Some(
            self.range
                .map_or((value, value), |(low, high)| (low.min(value), high.max(value))),
        );
    }

    /// Values taken in.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Their mean; 0 without any.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Their standard deviation (of the population).
    pub fn deviation(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            (self.squares / self.count as f64).sqrt()
        }
    }

    /// Smallest and largest value.
    pub fn range(&self) -> Option<(f64, f64)> {
        self.range
    }
}

/// Variation of the successful attempts at one element.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ElementSpread {
    /// Attempts, successful or not.
    pub attempts: usize,
    /// Steps of an attempt.
    pub steps: Summary,
    /// Speed of the tool, m per step.
    pub tool_speed: Summary,
    /// Yaw, pitch and roll of the tool at the object, rad.
    pub angles: [Summary; 3],
    /// First contact point aimed for, m.
    pub contact: [Summary; 3],
    /// Tool position at matched phases of the attempt, m.
    path: [[Summary; 3]; PHASES],
}

impl ElementSpread {
    /// Standard deviation of the tool position at matched phase, m: all three axes together, averaged over phases.
    pub fn path_deviation(&self) -> f64 {
        let off = |phase: &[Summary; 3]| phase.iter().map(|axis| axis.deviation().powi(2)).sum::<f64>().sqrt();
        self.path.iter().map(off).sum::<f64>() / PHASES as f64
    }
}

/// Variation of a set of demonstrations.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spread {
    /// Steps of a demonstration.
    pub steps: Summary,
    /// How many show the same, by what they show in words.
    pub shown: BTreeMap<String, usize>,
    /// Numbers that the demonstrator tells of each demonstration.
    pub figures: BTreeMap<&'static str, Summary>,
    /// The kitchen's elements; `None` elsewhere.
    pub kitchen: Option<KitchenSpread>,
}

impl Spread {
    /// Takes in one demonstration.
    pub fn add(&mut self, demonstration: &Demonstration) {
        let account = &demonstration.account;
        self.steps.add(demonstration.episode.len() as f64);
        if !account.shown.is_empty() {
            *self.shown.entry(account.shown.clone()).or_default() += 1;
        }
        for (name, value) in &account.figures {
            self.figures.entry(name).or_default().add(*value);
        }
        if let Some(account) = &account.kitchen {
            self.kitchen.get_or_insert_default().add(account);
        }
    }
}

/// Variation of a set of kitchen demonstrations.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KitchenSpread {
    /// Difference between intended and executed actions, root mean square over the arm joints of an episode.
    pub correction: Summary,
    /// For each element that occurs.
    pub elements: BTreeMap<KitchenElement, ElementSpread>,
    /// How often each element comes first, second, ...
    pub places: BTreeMap<KitchenElement, Vec<usize>>,
}

impl KitchenSpread {
    /// Takes in one demonstration.
    pub fn add(&mut self, account: &KitchenAccount) {
        self.correction.add(account.correction);
        for (place, element) in account.sequence.iter().enumerate() {
            let counts = self.places.entry(*element).or_default();
            if counts.len() <= place {
                counts.resize(place + 1, 0);
            }
            if let Some(count) = counts.get_mut(place) {
                *count += 1;
            }
        }
        for attempt in &account.attempts {
            let spread = self.elements.entry(attempt.element).or_default();
            spread.attempts += 1;
            let path = account.tool.get(attempt.start..attempt.end);
            let Some(path) = path.filter(|path| path.len() > 1) else {
                continue;
            };
            if !attempt.done {
                continue;
            }
            spread.steps.add(path.len() as f64);
            for (from, to) in path.iter().zip(path.iter().skip(1)) {
                let square: f64 = from.iter().zip(to).map(|(from, to)| (to - from).powi(2)).sum();
                spread.tool_speed.add(square.sqrt());
            }
            for (summary, value) in spread.angles.iter_mut().zip(attempt.angles) {
                summary.add(value);
            }
            for (summary, value) in spread.contact.iter_mut().zip(attempt.contact) {
                summary.add(value);
            }
            for (phase, summaries) in spread.path.iter_mut().enumerate() {
                if let Some(point) = path.get(phase * (path.len() - 1) / (PHASES - 1)) {
                    for (summary, value) in summaries.iter_mut().zip(point) {
                        summary.add(*value);
                    }
                }
            }
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        let (low, high) = self.steps.range().unwrap_or_default();
        write!(
            to,
            "{} demonstrations of {:.0} ± {:.0} steps ({low:.0} to {high:.0})",
            self.steps.count(),
            self.steps.mean(),
            self.steps.deviation(),
        )?;
        match &self.kitchen {
            Some(kitchen) => writeln!(to, "; {kitchen}")?,
            None => writeln!(to)?,
        }
        for (name, figure) in &self.figures {
            let (low, high) = figure.range().unwrap_or_default();
            let (mean, deviation) = (figure.mean(), figure.deviation());
            writeln!(to, "{name}: {mean:.2} ± {deviation:.2} ({low:.2} to {high:.2})")?;
        }
        let mut shown: Vec<_> = self.shown.iter().collect();
        shown.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (what, count) in shown {
            writeln!(to, "{count:6}  {what}")?;
        }
        Ok(())
    }
}

impl fmt::Display for KitchenSpread {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            to,
            "recorded and executed actions differ by {:.3}",
            self.correction.mean()
        )?;
        writeln!(
            to,
            "element         attempts  done  steps          tool cm/step  path ± cm  yaw ± rad      pitch ± rad    \
             contact ± cm"
        )?;
        for (element, spread) in &self.elements {
            let (low, high) = spread.steps.range().unwrap_or_default();
            let [yaw, pitch, _] = &spread.angles;
            let contact = spread
                .contact
                .iter()
                .map(|axis| axis.deviation().powi(2))
                .sum::<f64>()
                .sqrt();
            writeln!(
                to,
                "{:14}  {:8}  {:4}  {:3.0} ({low:3.0}-{high:3.0})  {:4.1} ± {:3.1}    {:9.1}  {:5.2} ± {:4.2}   \
                 {:5.2} ± {:4.2}   {:5.1}",
                element.name(),
                spread.attempts,
                spread.steps.count(),
                spread.steps.mean(),
                100.0 * spread.tool_speed.mean(),
                100.0 * spread.tool_speed.deviation(),
                100.0 * spread.path_deviation(),
                yaw.mean(),
                yaw.deviation(),
                pitch.mean(),
                pitch.deviation(),
                100.0 * contact,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_mean_deviation_and_range() {
        let mut summary = Summary::default();
        for value in [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
            summary.add(value);
        }
        assert_eq!(
            (summary.count(), summary.mean(), summary.range()),
            (8, 5.0, Some((2.0, 9.0)))
        );
        assert!((summary.deviation() - 2.0).abs() < 1e-12);
    }
}
