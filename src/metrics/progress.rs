//! How far a run is, for people: bars on a terminal, plain lines in a log.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Rates are those of about this much past time.
const WINDOW: Duration = Duration::from_secs(60);
/// Samples kept within the window.
const SAMPLES: usize = 120;

/// One number shown beside a bar, such as the return or the completed elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure<'a> {
    /// What it is.
    pub name: &'a str,
    /// Its value, shown with three significant digits.
    pub value: f64,
}

/// Which bar of a [`Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarId(usize);

/// Progress of one or several things that run side by side: bars on a terminal, otherwise one plain line per bar every
/// few seconds. Everything goes to the standard error stream; failing to write there is ignored.
pub struct Progress {
    output: Output,
    bars: Vec<Bar>,
    started: Instant,
}

enum Output {
    Terminal(MultiProgress),
    Lines {
        to: Box<dyn Write + Send + Sync>,
        every: Duration,
    },
}

struct Bar {
    label: String,
    unit: &'static str,
    total: u64,
    position: u64,
    /// When (since the start) the bar stood where; the rate comes from the first and the last.
    samples: VecDeque<(Duration, u64)>,
    shown: Option<Duration>,
    finished: bool,
    /// On a terminal.
    bar: Option<ProgressBar>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("bars", &self.bars.len())
            .finish_non_exhaustive()
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new(Duration::from_secs(10))
    }
}

impl Progress {
    /// Bars when the standard error stream is a terminal, otherwise lines, one per bar and `every` so often.
    pub fn new(every: Duration) -> Self {
        if std::io::stderr().is_terminal() {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5));
            Self {
                output: Output::Terminal(bars),
                bars: Vec::new(),
                started: Instant::now(),
            }
        } else {
            Self::lines(Box::new(std::io::stderr()), every)
        }
    }

    /// Lines to a place of the caller's choice.
    pub fn lines(to: Box<dyn Write + Send + Sync>, every: Duration) -> Self {
        Self {
            output: Output::Lines { to, every },
            bars: Vec::new(),
            started: Instant::now(),
        }
    }

    /// Adds a bar that stands at `position` of `total` `unit`s (`"steps"`, `"episodes"`).
    pub fn add(&mut self, label: &str, position: u64, total: u64, unit: &'static str) -> BarId {
        let bar = match &self.output {
            Output::Terminal(bars) => {
                let bar = bars.add(ProgressBar::new(total));
                // The template is a constant; a wrong one would only cost the looks.
                if let Ok(style) = ProgressStyle::with_template("{prefix:>16} {bar:24} {msg}") {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_prefix(label.to_owned());
                bar.set_position(position);
                Some(bar)
            }
            Output::Lines { .. } => None,
        };
        self.bars.push(Bar {
            label: label.to_owned(),
            unit,
            total,
            position,
            samples: VecDeque::from([(self.started.elapsed(), position)]),
            shown: None,
            finished: false,
            bar,
        });
        BarId(self.bars.len() - 1)
    }

    /// Moves a bar and shows its figures.
    pub fn update(&mut self, id: BarId, position: u64, figures: &[Figure<'_>]) {
        self.update_at(self.started.elapsed(), id, position, figures);
    }

    fn update_at(&mut self, now: Duration, id: BarId, position: u64, figures: &[Figure<'_>]) {
        let Some(bar) = self.bars.get_mut(id.0).filter(|bar| !bar.finished) else {
            return;
        };
        bar.moved(now, position);
        match &mut self.output {
            Output::Terminal(_) => {
                if let Some(shown) = &bar.bar {
                    shown.set_position(position);
                    shown.set_message(bar.status(figures));
                }
            }
            Output::Lines { to, every } => {
                let due = bar.shown.is_none_or(|shown| now.saturating_sub(shown) >= *every);
                if due || position >= bar.total {
                    bar.shown = Some(now);
                    let _ = writeln!(to, "{}: {}", bar.label, bar.status(figures));
                    let _ = to.flush();
                }
                bar.finished = position >= bar.total;
            }
        }
    }

    /// Leaves the bars as they stand; nothing moves after this.
    pub fn finish(&mut self) {
        for bar in &mut self.bars {
            bar.finished = true;
            if let Some(bar) = &bar.bar {
                bar.abandon();
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Bar {
    fn moved(&mut self, now: Duration, position: u64) {
        // A bar that goes back starts anew.
        if position < self.position {
            self.samples.clear();
        }
        self.position = position;
        let spacing = WINDOW / SAMPLES as u32;
        // The newest sample moves along until it is worth a place of its own.
        if let [.., before, last] = self.samples.make_contiguous()
            && last.0.saturating_sub(before.0) < spacing
        {
            self.samples.pop_back();
        }
        self.samples.push_back((now, position));
        while self.samples.len() > 2
            && self
                .samples
                .front()
                .is_some_and(|first| now.saturating_sub(first.0) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Units per second over the window.
    fn rate(&self) -> Option<f64> {
        let (&(from, first), &(to, last)) = (self.samples.front()?, self.samples.back()?);
        let seconds = to.saturating_sub(from).as_secs_f64();
        (seconds > 0.0 && last > first).then(|| (last - first) as f64 / seconds)
    }

    /// `12 000/220 000 steps (5 %), 930/s, 3 min 44 s left, return 1.25, completed 2.9`
    fn status(&self, figures: &[Figure<'_>]) -> String {
        let share = if self.total == 0 {
            100.0
        } else {
            100.0 * self.position as f64 / self.total as f64
        };
        let mut text = format!(
            "{}/{} {} ({:.0} %)",
            grouped(self.position),
            grouped(self.total),
            self.unit,
            share.floor()
        );
        if let Some(rate) = self.rate() {
            let _ = write!(text, ", {}/s", significant(rate));
            let left = self.total.saturating_sub(self.position);
            if left > 0 {
                let _ = write!(text, ", {} left", duration(left as f64 / rate));
            }
        }
        for figure in figures {
            let _ = write!(text, ", {} {}", figure.name, significant(figure.value));
        }
        text
    }
}

/// `220 000`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits: `0.0123`, `1.23`, `123`, `1 235`.
fn significant(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || value == 0.0 {
        return format!("{value}");
    }
    // Counts are whole.
    if size < 999.5 && value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{value:.2e}");
    }
    if size >= 999.5 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", grouped(size.round() as u64));
    }
    let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// `3 h 12 min`, `3 min 44 s`, `9 s`
fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds > 1e9 {
        return "very long".to_owned();
    }
    let seconds = seconds.ceil() as u64;
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_lines_come_at_intervals_and_at_the_end() {
        let sink = Sink::default();
        let mut progress = Progress::lines(Box::new(sink.clone()), Duration::from_secs(10));
        let id = progress.add("seed 0", 1_000, 101_000, "steps");
        for second in 0..=100 {
            let figures = [
                Figure {
                    name: "return",
                    value: 1.254,
                },
                Figure {
                    name: "completed",
                    value: 2.9,
                },
            ];
            progress.update_at(Duration::from_secs(second), id, 1_000 + 1_000 * second, &figures);
        }
        // Nothing after the end.
        progress.update_at(Duration::from_secs(200), id, 101_000, &[]);
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 11, "{text}");
        assert_eq!(
            lines[5],
            "seed 0: 51 000/101 000 steps (50 %), 1 000/s, 50 s left, return 1.25, completed 2.90"
        );
        assert_eq!(
            lines[10],
            "seed 0: 101 000/101 000 steps (100 %), 1 000/s, return 1.25, completed 2.90"
        );
    }

    #[test]
    fn the_rate_follows_the_last_minute() {
        let mut progress = Progress::lines(Box::new(std::io::sink()), Duration::from_secs(1));
        let id = progress.add("x", 0, 1_000_000, "steps");
        for tenth in 0..3_000_u64 {
            let position = if tenth < 1_500 {
                tenth
            } else {
                1_500 + (tenth - 1_500) * 10
            };
            progress.update_at(Duration::from_millis(100 * tenth), id, position, &[]);
        }
        let rate = progress.bars[0].rate().unwrap();
        assert!((rate - 100.0).abs() < 1.0, "{rate}");
        assert!(progress.bars[0].samples.len() <= SAMPLES + 2);
    }

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> = [0.0, 1.0, 0.012345, 12.345, 999.7, 1234.5, -0.5, 1e-7, 2.5e12, f64::NAN]
            .map(significant)
            .to_vec();
        assert_eq!(
            shown,
            [
                "0", "1", "0.0123", "12.3", "1 000", "1 235", "-0.500", "1.00e-7", "2.50e12", "NaN"
            ]
        );
        let times: Vec<String> = [8.2, 224.0, 11_520.0, 180_000.0, f64::INFINITY].map(duration).to_vec();
        assert_eq!(times, ["9 s", "3 min 44 s", "3 h 12 min", "2 d 2 h", "very long"]);
    }
}
