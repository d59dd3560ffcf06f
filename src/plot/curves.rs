//! Learning curves over seeds.

use plotters::element::{Circle, Polygon};
use plotters::prelude::{DrawingBackend, LineSeries};
use plotters::style::{Color, RGBColor, ShapeStyle};

use super::{Area, COLOURS, Paper, Picture, PlotError, axes, legend, padded, span};
use crate::metrics::statistics::{BootstrapPlan, Interval, Statistic};
use crate::rng::Stream;

/// The results of one method: one curve per seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// Its name in the legend.
    pub label: String,
    /// Points `(step, value)` of each seed, in order of steps. Points that are not finite are left out.
    pub seeds: Vec<Vec<(f64, f64)>>,
}

/// How learning curves are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct CurvePlot {
    /// Above the picture; may be empty.
    pub title: String,
    /// Below, such as `environment steps`.
    pub x_label: String,
    /// At the left, such as `completed elements`.
    pub y_label: String,
    /// What the line shows of the seeds.
    pub statistic: Statistic,
    /// Share of bootstrap resamples that the band holds.
    pub level: f64,
    /// Bootstrap resamples.
    pub resamples: usize,
    /// Width of the window, in steps, over which each seed's values are averaged; zero for none.
    pub smoothing: f64,
    /// Ends of the vertical axis; `None` fits them to what is drawn.
    pub y_range: Option<(f64, f64)>,
    /// Width and height in pixels.
    pub size: (u32, u32),
}

impl Default for CurvePlot {
    fn default() -> Self {
        Self {
            title: String::new(),
            x_label: "environment steps".to_owned(),
            y_label: "return".to_owned(),
            statistic: Statistic::Mean,
            level: 0.95,
            resamples: 1_000,
            smoothing: 0.0,
            y_range: None,
            size: (860, 440),
        }
    }
}

/// One point of a curve over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Step.
    pub x: f64,
    /// The statistic over seeds.
    pub value: f64,
    /// Its bootstrap interval.
    pub interval: Interval,
}

/// Points along the horizontal axis at which seeds are compared.
const GRID: usize = 200;

/// The statistic over seeds with its bootstrap interval at up to 200 steps, from the first step that all seeds have to
/// the last one. Between its points a seed is interpolated linearly. With one seed the interval is the value itself.
pub fn aggregate(method: &Method, plot: &CurvePlot, rng: &mut Stream) -> Vec<CurvePoint> {
    let seeds: Vec<Vec<(f64, f64)>> = method
        .seeds
        .iter()
        .map(|seed| {
            let mut points: Vec<(f64, f64)> = seed
                .iter()
                .copied()
                .filter(|(x, y)| x.is_finite() && y.is_finite())
                .collect();
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            points
        })
        .filter(|seed| !seed.is_empty())
        .collect();
    let first = seeds
        .iter()
        .filter_map(|seed| seed.first())
        .map(|point| point.0)
        .reduce(f64::max);
    let last = seeds
        .iter()
        .filter_map(|seed| seed.last())
        .map(|point| point.0)
        .reduce(f64::min);
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    if first > last {
        return Vec::new();
    }
    let plan = BootstrapPlan::new(seeds.len(), plot.resamples, rng);
    let count = if first == last { 1 } else { GRID };
    let mut points = Vec::with_capacity(count);
    for place in 0..count {
        let share = if count == 1 {
            0.0
        } else {
            place as f64 / (count - 1) as f64
        };
        let x = first + (last - first) * share;
        let values: Vec<f64> = seeds
            .iter()
            .filter_map(|seed| value_at(seed, x, plot.smoothing))
            .collect();
        if let (Some(value), Some(interval)) = (
            plot.statistic.of(&values),
            plan.interval(&values, plot.statistic, plot.level),
        ) {
            points.push(CurvePoint { x, value, interval });
        }
    }
    points
}

/// The mean of a seed's values within half a window of `x`, or its interpolated value where there is none.
pub(super) fn value_at(seed: &[(f64, f64)], x: f64, window: f64) -> Option<f64> {
    if window > 0.0 {
        let from = seed.partition_point(|point| point.0 < x - window / 2.0);
        let to = seed.partition_point(|point| point.0 <= x + window / 2.0);
        if let Some(near) = seed.get(from..to).filter(|near| !near.is_empty()) {
            return Some(near.iter().map(|point| point.1).sum::<f64>() / near.len() as f64);
        }
    }
    let after = seed.partition_point(|point| point.0 < x);
    match (
        after.checked_sub(1).and_then(|before| seed.get(before)),
        seed.get(after),
    ) {
        (_, Some(&(at, value))) if at == x => Some(value),
        (Some(&(x0, y0)), Some(&(x1, y1))) => Some(y0 + (y1 - y0) * (x - x0) / (x1 - x0)),
        (Some(&(_, value)), None) | (None, Some(&(_, value))) => Some(value),
        (None, None) => None,
    }
}

/// Learning curves of several methods, ready to be drawn: a line per method with its band over seeds, axes and a legend.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    plot: CurvePlot,
    labels: Vec<(String, usize)>,
    curves: Vec<Vec<CurvePoint>>,
    colours: Vec<usize>,
}

impl Curves {
    /// Computes the curves.
    ///
    /// # Errors
    /// [`PlotError::Empty`] when no method has a point, [`PlotError::NoCurve`] when one has no curve.
    pub fn new(plot: &CurvePlot, methods: &[Method], rng: &mut Stream) -> Result<Self, PlotError> {
        let is_finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        let mut points = methods.iter().flat_map(|method| &method.seeds).flatten();
        if !points.any(is_finite) {
            return Err(PlotError::Empty);
        }
        let curves: Vec<Vec<CurvePoint>> = methods.iter().map(|method| aggregate(method, plot, rng)).collect();
        if let Some((method, _)) = methods.iter().zip(&curves).find(|(_, curve)| curve.is_empty()) {
            return Err(PlotError::NoCurve(method.label.clone()));
        }
        let seeds = |method: &Method| method.seeds.iter().filter(|seed| !seed.is_empty()).count();
        Ok(Self {
            plot: plot.clone(),
            labels: methods
                .iter()
                .map(|method| (method.label.clone(), seeds(method)))
                .collect(),
            colours: (0..methods.len()).collect(),
            curves,
        })
    }

    /// The same curves in other colours, by their numbers, so that a method has one colour in several pictures.
    pub fn in_colours(mut self, colours: Vec<usize>) -> Self {
        self.colours = colours;
        self
    }

    /// The points of each method, in the order of the methods.
    pub fn points(&self) -> &[Vec<CurvePoint>] {
        &self.curves
    }

    /// The picture as SVG text.
    ///
    /// # Errors
    /// [`PlotError::Backend`].
    pub fn svg(&self) -> Result<String, PlotError> {
        self.to_svg()
    }

    /// The picture as PNG with twice as many pixels each way.
    ///
    /// # Errors
    /// [`PlotError::Backend`].
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        self.to_png()
    }

    fn coloured(&self) -> impl Iterator<Item = ((&(String, usize), &Vec<CurvePoint>), &RGBColor)> {
        let colours = self
            .colours
            .iter()
            .filter_map(|number| COLOURS.get(number % COLOURS.len()));
        self.labels.iter().zip(&self.curves).zip(colours)
    }
}

impl Picture for Curves {
    fn size(&self) -> (u32, u32) {
        self.plot.size
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>, paper: Paper) -> Result<(), PlotError> {
        let plot = &self.plot;
        let all = || self.curves.iter().flatten();
        let x_range = span(all().map(|point| point.x)).ok_or(PlotError::Empty)?;
        let y_fitted = span(all().flat_map(|point| [point.interval.low, point.interval.high, point.value]));
        let y_range = match plot.y_range {
            Some((low, high)) if low < high && low.is_finite() && high.is_finite() => (low, high),
            _ => padded(y_fitted.ok_or(PlotError::Empty)?, 0.04),
        };
        let x_range = if x_range.0 < x_range.1 {
            x_range
        } else {
            padded(x_range, 0.5)
        };
        let entries: Vec<(String, RGBColor)> = self
            .coloured()
            .map(|(((label, seeds), _), colour)| {
                let plural = if *seeds == 1 { "" } else { "s" };
                (format!("{label} ({seeds} seed{plural})"), *colour)
            })
            .collect();
        let area = legend(area, &entries, paper)?;
        let texts = [&plot.title, &plot.x_label, &plot.y_label].map(String::as_str);
        let mut chart = axes(&area, texts, (x_range, y_range), None, paper)?;
        let clamp = |value: f64| value.clamp(y_range.0, y_range.1);
        // All bands lie below all lines.
        for (((_, seeds), curve), colour) in self.coloured() {
            if *seeds > 1 {
                let lower = curve.iter().map(|point| (point.x, clamp(point.interval.low)));
                let upper = curve.iter().rev().map(|point| (point.x, clamp(point.interval.high)));
                let band: Vec<(f64, f64)> = lower.chain(upper).collect();
                chart
                    .draw_series([Polygon::new(band, colour.mix(0.18).filled())])
                    .map_err(PlotError::backend)?;
            }
        }
        for ((_, curve), colour) in self.coloured() {
            let style = ShapeStyle::from(colour).stroke_width(paper.wide(2));
            let points = curve.iter().map(|point| (point.x, clamp(point.value)));
            if curve.len() == 1 {
                chart.draw_series(points.map(|point| Circle::new(point, paper.wide(4), colour.filled())))
            } else {
                chart.draw_series(LineSeries::new(points, style))
            }
            .map_err(PlotError::backend)?;
        }
        Ok(())
    }
}

/// [`Curves`] as SVG text.
///
/// # Errors
/// Those of [`Curves::new`].
pub fn curves_svg(plot: &CurvePlot, methods: &[Method], rng: &mut Stream) -> Result<String, PlotError> {
    Curves::new(plot, methods, rng)?.svg()
}
