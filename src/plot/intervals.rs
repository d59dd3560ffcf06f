//! Point estimates of several methods with their intervals, side by side.

use plotters::element::{Circle, PathElement};
use plotters::prelude::DrawingBackend;
use plotters::style::{Color, ShapeStyle};

use super::{Area, COLOURS, Lies, Paper, Picture, PlotError, axes, padded, shortened, span, strip_for, write};
use crate::metrics::statistics::Interval;

/// One row: a method, its estimate and how sure that is.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Name of the method.
    pub label: String,
    /// Number of its colour; that of its curve if both have the same place among the methods.
    pub colour: usize,
    /// The point estimate.
    pub value: f64,
    /// Its interval, if it is known.
    pub interval: Option<Interval>,
}

/// How intervals are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalPlot {
    /// Below the axis, such as `completed elements`.
    pub x_label: String,
    /// Ends of the axis; `None` fits them to what is drawn.
    pub x_range: Option<(f64, f64)>,
    /// Width in pixels; the height follows from the rows.
    pub width: u32,
}

impl Default for IntervalPlot {
    fn default() -> Self {
        Self {
            x_label: String::new(),
            x_range: None,
            width: 860,
        }
    }
}

/// Intervals, ready to be drawn: a row per estimate, in their order from the top.
#[derive(Debug, Clone, PartialEq)]
pub struct Intervals {
    plot: IntervalPlot,
    rows: Vec<Estimate>,
    range: (f64, f64),
}

/// Height of a row, and of what is below and above all rows.
const ROW: u32 = 34;
const REST: u32 = 72;

impl Intervals {
    /// Takes the rows whose value is finite.
    ///
    /// # Errors
    /// [`PlotError::Empty`] when there is none.
    pub fn new(plot: &IntervalPlot, rows: &[Estimate]) -> Result<Self, PlotError> {
        let rows: Vec<Estimate> = rows.iter().filter(|row| row.value.is_finite()).cloned().collect();
        let ends = |row: &Estimate| {
            let interval = row.interval.map(|interval| [interval.low, interval.high]);
            std::iter::once(row.value).chain(interval.into_iter().flatten())
        };
        let fitted = span(rows.iter().flat_map(ends)).ok_or(PlotError::Empty)?;
        let range = match plot.x_range {
            Some((low, high)) if low < high && low.is_finite() && high.is_finite() => (low, high),
            _ => padded(fitted, 0.06),
        };
        Ok(Self {
            plot: plot.clone(),
            rows,
            range,
        })
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
}

impl Picture for Intervals {
    fn size(&self) -> (u32, u32) {
        let rows = self.rows.len().min(200) as u32;
        (self.plot.width, REST + ROW * rows)
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>, paper: Paper) -> Result<(), PlotError> {
        let (width, _) = area.dim_in_pixel();
        let (strip, room) = strip_for(self.rows.iter().map(|row| row.label.as_str()), 24, width, paper);
        let (low, high) = self.range;
        // The first row is at the top.
        let ranges = ((low, high), (-(self.rows.len() as f64), 0.0));
        let mut chart = axes(area, ["", &self.plot.x_label, ""], ranges, Some(strip), paper)?;
        for (index, row) in self.rows.iter().enumerate() {
            let colour = COLOURS.get(row.colour % COLOURS.len()).copied().unwrap_or_default();
            let y = -(index as f64) - 0.5;
            let at = |x: f64| (x.clamp(low, high), y);
            if let Some(interval) = row.interval {
                let line = ShapeStyle::from(&colour.mix(0.45)).stroke_width(paper.wide(8));
                chart
                    .draw_series([PathElement::new([at(interval.low), at(interval.high)], line)])
                    .map_err(PlotError::backend)?;
            }
            chart
                .draw_series([Circle::new(at(row.value), paper.wide(5), colour.filled())])
                .map_err(PlotError::backend)?;
            let (x, y) = chart.backend_coord(&(low, y));
            let (left, top) = area.get_base_pixel();
            let label = shortened(&row.label, room);
            write(area, &label, (x - left - paper.px(8), y - top), Lies::LeftOf, 13, paper)?;
        }
        Ok(())
    }
}
