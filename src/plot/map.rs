//! Maps of latent spaces.

use plotters::backend::BitMapBackend;
use plotters::chart::ChartBuilder;
use plotters::element::{Circle, Rectangle};
use plotters::prelude::{DrawingBackend, IntoDrawingArea};
use plotters::style::{BLACK, Color, RGBColor, WHITE};

use super::{Area, COLOURS, Paper, Picture, PlotError, Ranges, axes, encode_png, legend, padded, sides, span};

/// Points of one kind on a map, such as the skills used while one element was moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name in the legend.
    pub label: String,
    /// The points. Those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// How a map is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterPlot {
    /// Above the picture; may be empty.
    pub title: String,
    /// Below, such as `first principal component`.
    pub x_label: String,
    /// At the left.
    pub y_label: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
}

impl Default for ScatterPlot {
    fn default() -> Self {
        Self {
            title: String::new(),
            x_label: String::new(),
            y_label: String::new(),
            size: (620, 520),
        }
    }
}

/// A map with what it shows.
struct Map<'a> {
    plot: &'a ScatterPlot,
    groups: &'a [Group],
}

impl Picture for Map<'_> {
    fn size(&self) -> (u32, u32) {
        self.plot.size
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>, paper: Paper) -> Result<(), PlotError> {
        let Self { plot, groups } = self;
        let ranges = map_ranges(groups)?;
        let coloured = || groups.iter().zip(COLOURS.iter().cycle());
        let entries: Vec<(String, RGBColor)> = coloured()
            .map(|(group, colour)| (group.label.clone(), *colour))
            .collect();
        let area = legend(area, &entries, paper)?;
        let texts = [&plot.title, &plot.x_label, &plot.y_label].map(String::as_str);
        let mut chart = axes(&area, texts, ranges, None, paper)?;
        for (group, colour) in coloured() {
            chart
                .draw_series(finite(group).map(|point| Circle::new(point, paper.wide(3), colour.mix(0.6).filled())))
                .map_err(PlotError::backend)?;
        }
        Ok(())
    }
}

/// A map of groups of points as SVG text, with axes and a legend.
///
/// # Errors
/// [`PlotError::Empty`] when no group has a point.
pub fn scatter_svg(plot: &ScatterPlot, groups: &[Group]) -> Result<String, PlotError> {
    Map { plot, groups }.to_svg()
}

/// The same map as a PNG without text, for [`crate::metrics::MetricsWriter::png`]; groups have the same colours.
///
/// # Errors
/// [`PlotError::Empty`] when no group has a point.
pub fn scatter_png(size: (u32, u32), groups: &[Group]) -> Result<Vec<u8>, PlotError> {
    let (x_range, y_range) = map_ranges(groups)?;
    let (width, height) = sides(size);
    let mut rgb = vec![0; width as usize * height as usize * 3];
    {
        let area = BitMapBackend::with_buffer(&mut rgb, (width, height)).into_drawing_area();
        draw_dots(&area, x_range, y_range, groups)?;
        area.present().map_err(PlotError::backend)?;
    }
    encode_png(width, height, &rgb).map_err(PlotError::backend)
}

fn draw_dots<B: DrawingBackend>(
    area: &Area<B>,
    x_range: (f64, f64),
    y_range: (f64, f64),
    groups: &[Group],
) -> Result<(), PlotError> {
    area.fill(&WHITE).map_err(PlotError::backend)?;
    let (width, height) = area.dim_in_pixel();
    let frame = Rectangle::new([(0, 0), (width as i32 - 1, height as i32 - 1)], BLACK.mix(0.4));
    area.draw(&frame).map_err(PlotError::backend)?;
    let mut chart = ChartBuilder::on(area)
        .build_cartesian_2d(x_range.0..x_range.1, y_range.0..y_range.1)
        .map_err(PlotError::backend)?;
    for (group, colour) in groups.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(finite(group).map(|point| Circle::new(point, 2, colour.mix(0.7).filled())))
            .map_err(PlotError::backend)?;
    }
    Ok(())
}

fn finite(group: &Group) -> impl Iterator<Item = (f64, f64)> + '_ {
    group
        .points
        .iter()
        .copied()
        .filter(|(x, y)| x.is_finite() && y.is_finite())
}

fn map_ranges(groups: &[Group]) -> Result<Ranges, PlotError> {
    let x = span(groups.iter().flat_map(finite).map(|point| point.0)).ok_or(PlotError::Empty)?;
    let y = span(groups.iter().flat_map(finite).map(|point| point.1)).ok_or(PlotError::Empty)?;
    Ok((padded(x, 0.05), padded(y, 0.05)))
}
