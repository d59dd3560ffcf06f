//! The report of an [`Inspection`] for the terminal.

use std::fmt;
use std::ops::Range;

use super::Statistics;
use super::error::printable;
use super::inspect::{ElementReport, Inspection, PictureReport, Summary};

/// Bars in the histogram of lengths.
const HISTOGRAM_BARS: usize = 10;
/// Characters of the longest bar.
const BAR_WIDTH: usize = 40;
/// Orders of completion that are listed.
const ORDERS_SHOWN: usize = 5;

/// `0-3, 7` for `[0, 1, 2, 3, 7]`.
pub(super) fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|first, second| first + 1 == *second);
    let texts: Vec<String> = runs
        .filter_map(|run| match (run.first()?, run.last()?) {
            (first, last) if first == last => Some(first.to_string()),
            (first, last) => Some(format!("{first}-{last}")),
        })
        .collect();
    texts.join(", ")
}

/// Groups of three digits, separated by spaces.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Equal-width classes of `lengths` with their counts.
fn histogram(lengths: &[usize]) -> Vec<(Range<usize>, usize)> {
    let (Some(&min), Some(&max)) = (lengths.iter().min(), lengths.iter().max()) else {
        return Vec::new();
    };
    let step = (max - min + 1).div_ceil(HISTOGRAM_BARS);
    let mut bars: Vec<(Range<usize>, usize)> = (min..=max)
        .step_by(step)
        .map(|start| (start..start + step, 0))
        .collect();
    for length in lengths {
        bars[(length - min) / step].1 += 1;
    }
    bars
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.lengths.iter().sum();
        writeln!(f, "{}", self.origin)?;
        write!(
            f,
            "  {} episodes, {} steps",
            grouped(self.lengths.len()),
            grouped(steps)
        )?;
        write!(
            f,
            ", observations of {}, actions of {}",
            self.observations.len(),
            self.actions.len()
        )?;
        if self.files > 1 {
            write!(f, ", {} files", grouped(self.files))?;
        }
        match self.bytes {
            0 => {}
            1..1_000_000 => write!(f, ", {:.1} kB", self.bytes as f64 / 1e3)?,
            _ => write!(f, ", {:.1} MB", self.bytes as f64 / 1e6)?,
        }
        writeln!(f)?;
        for (name, value) in self.attributes.iter().filter(|(_, value)| !value.is_empty()) {
            // A demonstrator's settings may be long; the file keeps them in full.
            let value = value.trim_start();
            // What a reader of RON is told says nothing about the demonstrations.
            let value = value.strip_prefix("#![enable(implicit_some)]").unwrap_or(value);
            let line: Vec<&str> = value.split_whitespace().collect();
            let line = line.join(" ");
            let line = printable(&line);
            let shown: String = line.chars().take(90).collect();
            let more = if shown.len() < line.len() { " ..." } else { "" };
            writeln!(f, "  {:<14} {shown}{more}", printable(name))?;
        }

        self.show_side_arrays(f)?;

        let Summary { min, mean, max } = self.length();
        writeln!(f, "\nLength  min {min:.0}  mean {mean:.1}  max {max:.0} steps")?;
        let bars = histogram(&self.lengths);
        let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(1);
        for (class, count) in bars.iter().filter(|_| min < max) {
            let mut bar = "#".repeat(count * BAR_WIDTH / most);
            if *count > 0 && bar.is_empty() {
                bar.push('.');
            }
            writeln!(
                f,
                "  {:>6} - {:<6} {bar:<BAR_WIDTH$} {count}",
                class.start,
                class.end - 1
            )?;
        }

        let Summary { min, mean, max } = self.episode_return();
        writeln!(f, "\nReturn  min {min:.2}  mean {mean:.2}  max {max:.2}")?;

        if !self.elements.is_empty() {
            writeln!(
                f,
                "\nElement           completed   at the end   at the start   mean first step"
            )?;
            for element in &self.elements {
                let ElementReport {
                    name,
                    completed,
                    at_end,
                    at_start,
                    mean_step,
                } = element;
                let [completed, at_end, at_start] = [completed, at_end, at_start].map(|share| 100.0 * share);
                let step = mean_step.map_or_else(|| "-".to_owned(), |step| format!("{step:.0}"));
                writeln!(
                    f,
                    "  {name:<15} {completed:>7.1} %    {at_end:>7.1} %      {at_start:>7.1} %   {step:>15}"
                )?;
            }
            let counts: Vec<String> = self
                .completed_counts
                .iter()
                .rev()
                .map(|(count, of)| format!("{count} in {of} episodes"))
                .collect();
            writeln!(f, "  elements completed: {}", counts.join(", "))?;
            writeln!(f, "  orders of completion: {} different", self.orders.len())?;
            for (order, episodes) in self.orders.iter().take(ORDERS_SHOWN) {
                let order = if order.is_empty() { "(none)" } else { order };
                writeln!(f, "  {episodes:>7} x {order}")?;
            }
        }

        writeln!(f, "\nRanges       min      mean       std       max")?;
        let rewards: Vec<Statistics> = self.rewards.into_iter().collect();
        for (name, statistics) in [
            ("obs", &self.observations),
            ("act", &self.actions),
            ("reward", &rewards),
        ] {
            for (column, value) in statistics.iter().enumerate().filter(|(_, value)| !value.is_constant()) {
                let label = if name == "reward" {
                    name.to_owned()
                } else {
                    format!("{name} {column}")
                };
                let Statistics {
                    mean, std, min, max, ..
                } = value;
                writeln!(f, "  {label:<7} {min:>9.3} {mean:>9.3} {std:>9.3} {max:>9.3}")?;
            }
            let constant: Vec<usize> = (0..statistics.len())
                .filter(|&at| statistics[at].is_constant())
                .collect();
            if !constant.is_empty() && name != "reward" {
                writeln!(f, "  {name} {} constant", ranges(&constant))?;
            }
        }

        if self.odd.is_empty() {
            return write!(f, "\nNothing odd found.");
        }
        write!(f, "\nWorth a look")?;
        for line in &self.odd {
            write!(f, "\n  - {}", printable(line))?;
        }
        Ok(())
    }
}

impl Inspection {
    /// Pictures and side arrays, where there are any.
    fn show_side_arrays(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[&str]| names.join(", ");
        match &self.pictures {
            Some(PictureReport::Stored { count, height, width }) => {
                let bytes = (count * height * width * 3) as f64;
                let megabytes = bytes / 1e6;
                writeln!(
                    f,
                    "  {:<14} {} stored, {height} x {width} pixels ({megabytes:.1} MB unpacked)",
                    "pictures",
                    grouped(*count)
                )?;
            }
            Some(PictureReport::Drawable { from }) => {
                let from: Vec<&str> = from.iter().map(String::as_str).collect();
                writeln!(
                    f,
                    "  {:<14} none stored; a scene with pixels can draw them from infos ({})",
                    "pictures",
                    list(&from)
                )?;
            }
            None => {}
        }
        if self.layouts > 0 {
            writeln!(f, "  {:<14} {} different", "layouts", grouped(self.layouts))?;
        }
        if !self.infos.is_empty() {
            let infos: Vec<&str> = self.infos.iter().map(String::as_str).collect();
            writeln!(f, "  {:<14} {}", "infos", printable(&list(&infos)))?;
        }
        Ok(())
    }
}
