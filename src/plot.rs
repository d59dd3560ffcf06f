//! Pictures of results: learning curves over seeds and maps of latent spaces, as SVG; maps also as PNG for
//! `TensorBoard`.
//!
//! Colours are those of M. Okabe and K. Ito, which colour-blind people can tell apart.

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::element::{Circle, Polygon, Rectangle, Text};
use plotters::prelude::{DrawingArea, DrawingBackend, IntoDrawingArea, LineSeries};
use plotters::style::{BLACK, Color, RGBColor, ShapeStyle, WHITE};

use crate::metrics::statistics::{BootstrapPlan, Interval, Statistic};
use crate::rng::Stream;

/// Orange comes last: it reads worst on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
    RGBColor(230, 159, 0),
];

/// Why a picture could not be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlotError {
    /// There is not one finite point.
    #[error("there is nothing to draw: no curve or group has a finite point")]
    Empty,
    /// One of several methods would be missing from the picture.
    #[error("`{0}` has no curve: its seeds have no step in common, or no finite value")]
    NoCurve(String),
    /// The drawing library failed.
    #[error("the picture cannot be drawn: {0}")]
    Backend(String),
}

impl PlotError {
    fn backend(error: impl std::fmt::Display) -> Self {
        Self::Backend(error.to_string())
    }
}

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
fn value_at(seed: &[(f64, f64)], x: f64, window: f64) -> Option<f64> {
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

/// Learning curves of several methods as SVG text: a line per method with its band over seeds, axes and a legend.
///
/// # Errors
/// [`PlotError::Empty`] when no method has a point, [`PlotError::NoCurve`] when one has no curve.
pub fn curves_svg(plot: &CurvePlot, methods: &[Method], rng: &mut Stream) -> Result<String, PlotError> {
    let is_finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
    let mut points = methods.iter().flat_map(|method| &method.seeds).flatten();
    if !points.any(is_finite) {
        return Err(PlotError::Empty);
    }
    let curves: Vec<Vec<CurvePoint>> = methods.iter().map(|method| aggregate(method, plot, rng)).collect();
    if let Some((method, _)) = methods.iter().zip(&curves).find(|(_, curve)| curve.is_empty()) {
        return Err(PlotError::NoCurve(method.label.clone()));
    }
    let all = || curves.iter().flatten();
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

    let drawn = || methods.iter().zip(&curves).zip(COLOURS.iter().cycle());
    let entries: Vec<(String, RGBColor)> = drawn()
        .map(|((method, _), colour)| {
            let seeds = method.seeds.iter().filter(|seed| !seed.is_empty()).count();
            (
                format!("{} ({seeds} seed{})", method.label, if seeds == 1 { "" } else { "s" }),
                *colour,
            )
        })
        .collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, sides(plot.size)).into_drawing_area();
        area.fill(&WHITE).map_err(PlotError::backend)?;
        let area = legend(&area, &entries)?;
        let mut chart = axes(&area, [&plot.title, &plot.x_label, &plot.y_label], (x_range, y_range))?;
        let clamp = |value: f64| value.clamp(y_range.0, y_range.1);
        // All bands lie below all lines.
        for ((method, curve), colour) in drawn() {
            if method.seeds.len() > 1 {
                let lower = curve.iter().map(|point| (point.x, clamp(point.interval.low)));
                let upper = curve.iter().rev().map(|point| (point.x, clamp(point.interval.high)));
                let band: Vec<(f64, f64)> = lower.chain(upper).collect();
                chart
                    .draw_series([Polygon::new(band, colour.mix(0.18).filled())])
                    .map_err(PlotError::backend)?;
            }
        }
        for ((_, curve), colour) in drawn() {
            let style = ShapeStyle::from(colour).stroke_width(2);
            let points = curve.iter().map(|point| (point.x, clamp(point.value)));
            if curve.len() == 1 {
                chart.draw_series(points.map(|point| Circle::new(point, 4, colour.filled())))
            } else {
                chart.draw_series(LineSeries::new(points, style))
            }
            .map_err(PlotError::backend)?;
        }
        area.present().map_err(PlotError::backend)?;
    }
    Ok(svg)
}

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

/// A map of groups of points as SVG text, with axes and a legend.
///
/// # Errors
/// [`PlotError::Empty`] when no group has a point.
pub fn scatter_svg(plot: &ScatterPlot, groups: &[Group]) -> Result<String, PlotError> {
    let ranges = map_ranges(groups)?;
    let entries: Vec<(String, RGBColor)> = groups
        .iter()
        .zip(COLOURS.iter().cycle())
        .map(|(group, colour)| (group.label.clone(), *colour))
        .collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, sides(plot.size)).into_drawing_area();
        area.fill(&WHITE).map_err(PlotError::backend)?;
        let area = legend(&area, &entries)?;
        let mut chart = axes(&area, [&plot.title, &plot.x_label, &plot.y_label], ranges)?;
        for (group, colour) in groups.iter().zip(COLOURS.iter().cycle()) {
            chart
                .draw_series(finite(group).map(|point| Circle::new(point, 3, colour.mix(0.6).filled())))
                .map_err(PlotError::backend)?;
        }
        area.present().map_err(PlotError::backend)?;
    }
    Ok(svg)
}

type Svg<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws the legend at the right edge, where it hides no data, and gives the area that is left.
fn legend<'a>(area: &Svg<'a>, entries: &[(String, RGBColor)]) -> Result<Svg<'a>, PlotError> {
    const LETTER: u32 = 7;
    let (width, _) = area.dim_in_pixel();
    let longest = entries
        .iter()
        .map(|(label, _)| label.chars().count())
        .max()
        .unwrap_or(0) as u32;
    let strip = 40_u32.saturating_add(longest.saturating_mul(LETTER)).min(width * 2 / 5);
    let room = ((strip - 40) / LETTER) as usize;
    let (left, right) = area.split_horizontally(width - strip);
    for (row, (label, colour)) in entries.iter().enumerate() {
        let y = 46 + 22 * row as i32;
        right
            .draw(&Circle::new((8, y), 5, colour.filled()))
            .map_err(PlotError::backend)?;
        let shown = if label.chars().count() > room {
            label
                .chars()
                .take(room.saturating_sub(3))
                .chain("...".chars())
                .collect()
        } else {
            label.clone()
        };
        right
            .draw(&Text::new(shown, (20, y - 7), ("sans-serif", 13)))
            .map_err(PlotError::backend)?;
    }
    Ok(left)
}

/// Axes with grid and labels; `texts` are title, horizontal and vertical label.
fn axes<'a, 'b>(area: &'b Svg<'a>, texts: [&str; 3], (x, y): Ranges) -> Result<Chart<'a, 'b>, PlotError> {
    let [title, x_label, y_label] = texts;
    let mut builder = ChartBuilder::on(area);
    builder.margin(14).x_label_area_size(46).y_label_area_size(64);
    if !title.is_empty() {
        builder.caption(title, ("sans-serif", 19));
    }
    let mut chart = builder
        .build_cartesian_2d(x.0..x.1, y.0..y.1)
        .map_err(PlotError::backend)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.10))
        .axis_style(BLACK.mix(0.6))
        .x_desc(x_label)
        .y_desc(y_label)
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&|value| tick(*value, x))
        .y_label_formatter(&|value| tick(*value, y))
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(PlotError::backend)?;
    Ok(chart)
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

/// RGB bytes, row by row from the top, as PNG.
pub(crate) fn encode_png(width: u32, height: u32, rgb: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(bytes)
}

fn draw_dots<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
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

type Ranges = ((f64, f64), (f64, f64));

fn map_ranges(groups: &[Group]) -> Result<Ranges, PlotError> {
    let x = span(groups.iter().flat_map(finite).map(|point| point.0)).ok_or(PlotError::Empty)?;
    let y = span(groups.iter().flat_map(finite).map(|point| point.1)).ok_or(PlotError::Empty)?;
    Ok((padded(x, 0.05), padded(y, 0.05)))
}

/// Least and greatest of some numbers.
fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |range, value| match range {
            None => Some((value, value)),
            Some((low, high)) => Some((low.min(value), high.max(value))),
        })
}

/// A range widened at both ends by a share of its width; one of no width becomes wide enough to draw.
fn padded((low, high): (f64, f64), share: f64) -> (f64, f64) {
    // Halved first: the width of the widest range is no finite number.
    let width = (high / 2.0 - low / 2.0) * 2.0;
    let margin = if width > 0.0 {
        (width * share).min(f64::MAX / 4.0)
    } else {
        (low.abs() * 0.1).max(0.5)
    };
    ((low - margin).max(f64::MIN / 4.0), (high + margin).min(f64::MAX / 4.0))
}

/// Sides that the backends can draw and a frame fits in.
fn sides((width, height): (u32, u32)) -> (u32, u32) {
    (width.clamp(160, 8_192), height.clamp(120, 8_192))
}

/// The text at a tick: `200k`, `1.5M`, `0.25`.
fn tick(value: f64, (low, high): (f64, f64)) -> String {
    let size = low.abs().max(high.abs());
    let (unit, suffix) = match size {
        s if s >= 1e12 || (s > 0.0 && s < 1e-3) => return format!("{value:.1e}"),
        s if s >= 2e9 => (1e9, "G"),
        s if s >= 2e6 => (1e6, "M"),
        s if s >= 2e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let width = (high - low) / unit;
    let decimals = if width > 0.0 {
        (1.0 - (width / 2.0).log10().floor()).clamp(0.0, 6.0) as usize
    } else {
        2
    };
    let mut text = format!("{:.decimals$}", value / unit);
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    if text == "-0" || text == "0" {
        return "0".to_owned();
    }
    text + suffix
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::rng::{Purpose, stream};

    fn rng() -> Stream {
        stream(0, Purpose::Bootstrap, 0, 0)
    }

    /// Saturating curves with noise, five seeds each.
    fn methods() -> Vec<Method> {
        let mut noise = rng();
        [
            ("SPiRL, closed loop", 3.1, 40_000.0),
            ("SAC without prior", 0.9, 120_000.0),
            ("SSP", 1.9, 90_000.0),
        ]
        .into_iter()
        .map(|(label, top, scale)| {
            let seeds = (0..5)
                .map(|_| {
                    let mut drawn = [0.0_f32; 111];
                    noise.fill_normal(&mut drawn);
                    let shift = f64::from(drawn[110]) * 0.2;
                    (0..110)
                        .zip(drawn)
                        .map(|(i, e)| {
                            let x = 2_000.0 * f64::from(i);
                            (x, (top + shift) * (1.0 - (-x / scale).exp()) + 0.15 * f64::from(e))
                        })
                        .collect()
                })
                .collect();
            Method {
                label: label.to_owned(),
                seeds,
            }
        })
        .collect()
    }

    fn groups() -> Vec<Group> {
        let mut noise = rng();
        [
            "microwave",
            "kettle",
            "bottom burner",
            "light switch",
            "slide cabinet",
            "hinge cabinet",
            "top burner",
        ]
        .into_iter()
        .enumerate()
        .map(|(i, label)| {
            let mut drawn = [0.0_f32; 400];
            noise.fill_normal(&mut drawn);
            let angle = i as f64;
            let points = drawn
                .chunks_exact(2)
                .map(|pair| {
                    (
                        2.5 * angle.cos() + f64::from(pair[0]) * 0.6,
                        2.5 * angle.sin() + f64::from(pair[1]) * 0.6,
                    )
                })
                .collect();
            Group {
                label: label.to_owned(),
                points,
            }
        })
        .collect()
    }

    /// `APPRENTICE_PICTURES=folder` keeps the pictures, to be looked at.
    fn keep(name: &str, bytes: &[u8]) {
        if let Some(folder) = std::env::var_os("APPRENTICE_PICTURES") {
            std::fs::write(std::path::Path::new(&folder).join(name), bytes).unwrap();
        }
    }

    #[test]
    fn curves_show_every_method() {
        let plot = CurvePlot {
            title: "Kitchen, mixed task, any order".to_owned(),
            y_label: "completed elements".to_owned(),
            statistic: Statistic::InterquartileMean,
            smoothing: 10_000.0,
            ..CurvePlot::default()
        };
        let svg = curves_svg(&plot, &methods(), &mut rng()).unwrap();
        keep("curves.svg", svg.as_bytes());
        for text in [
            "Kitchen, mixed task",
            "environment steps",
            "completed elements",
            "SPiRL, closed loop (5 seeds)",
            "200k",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("<polygon").count(), 3);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg, curves_svg(&plot, &methods(), &mut rng()).unwrap());
        // One seed has no band.
        let one = Method {
            label: "a <b> & c".to_owned(),
            seeds: vec![vec![(0.0, 1.0), (10.0, 2.0)]],
        };
        let svg = curves_svg(
            &CurvePlot {
                y_range: Some((0.0, 4.0)),
                ..plot
            },
            &[one],
            &mut rng(),
        )
        .unwrap();
        keep("one_seed.svg", svg.as_bytes());
        assert_eq!(svg.matches("<polygon").count(), 0);
        assert!(svg.contains("a &lt;b&gt; &amp; c (1 seed)"));
    }

    #[test]
    fn seeds_are_compared_where_all_have_points() {
        let method = Method {
            label: String::new(),
            seeds: vec![
                vec![(0.0, 0.0), (10.0, 10.0), (20.0, 20.0)],
                vec![(5.0, 1.0), (f64::NAN, 3.0), (7.0, f64::INFINITY), (15.0, 1.0)],
                vec![],
            ],
        };
        let points = aggregate(&method, &CurvePlot::default(), &mut rng());
        assert_eq!((points[0].x, points[0].value), (5.0, 3.0));
        let last = points.last().unwrap();
        assert!((last.x - 15.0).abs() < 1e-9 && (last.value - 8.0).abs() < 1e-9);
        assert!(
            points
                .iter()
                .all(|point| point.interval.low <= point.value && point.value <= point.interval.high)
        );
        assert_eq!((last.interval.low, last.interval.high.round()), (1.0, 15.0));
        // A window averages.
        assert_eq!(value_at(&[(0.0, 0.0), (1.0, 4.0), (2.0, 2.0)], 1.0, 2.0), Some(2.0));
        assert_eq!(value_at(&[(0.0, 0.0), (10.0, 4.0)], 5.0, 2.0), Some(2.0));
        // No common step: nothing to compare.
        let apart = Method {
            label: String::new(),
            seeds: vec![vec![(0.0, 0.0)], vec![(1.0, 0.0)]],
        };
        assert!(aggregate(&apart, &CurvePlot::default(), &mut rng()).is_empty());
        let apart = Method {
            label: "apart".to_owned(),
            ..apart
        };
        let drawn = |methods: &[Method]| curves_svg(&CurvePlot::default(), methods, &mut rng());
        assert_eq!(
            drawn(&[method, apart.clone()]),
            Err(PlotError::NoCurve("apart".to_owned()))
        );
        assert_eq!(drawn(&[apart]), Err(PlotError::NoCurve("apart".to_owned())));
    }

    #[test]
    fn maps_are_drawn_with_and_without_text() {
        let plot = ScatterPlot {
            title: "Skills of the closed-loop model".to_owned(),
            x_label: "first principal component".to_owned(),
            y_label: "second principal component".to_owned(),
            ..ScatterPlot::default()
        };
        let svg = scatter_svg(&plot, &groups()).unwrap();
        keep("scatter.svg", svg.as_bytes());
        assert!(svg.contains("hinge cabinet") && svg.matches("<circle").count() >= 1_400);
        let png = scatter_png((320, 320), &groups()).unwrap();
        keep("scatter.png", &png);
        let mut reader = png::Decoder::new(png.as_slice()).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut pixels).unwrap();
        let mut colours: Vec<&[u8]> = pixels.chunks_exact(3).collect();
        colours.sort_unstable();
        colours.dedup();
        assert!(colours.len() > 7);
    }

    #[test]
    fn odd_numbers_are_drawn_or_refused() {
        let nothing = Method {
            label: "x".to_owned(),
            seeds: vec![vec![], vec![(f64::NAN, 1.0)]],
        };
        assert_eq!(
            curves_svg(&CurvePlot::default(), &[nothing], &mut rng()),
            Err(PlotError::Empty)
        );
        assert_eq!(
            curves_svg(&CurvePlot::default(), &[], &mut rng()),
            Err(PlotError::Empty)
        );
        assert_eq!(scatter_png((10, 10), &[]), Err(PlotError::Empty));
        for value in [0.0, 3.0, -1e-12, 1e300, -1e300] {
            let method = |x| Method {
                label: "x".to_owned(),
                seeds: vec![vec![(x, value)], vec![(x, value)]],
            };
            assert!(
                curves_svg(&CurvePlot::default(), &[method(value)], &mut rng()).is_ok(),
                "{value}"
            );
            let group = Group {
                label: "x".to_owned(),
                points: vec![(value, -value), (value, value)],
            };
            assert!(
                scatter_svg(&ScatterPlot::default(), std::slice::from_ref(&group)).is_ok(),
                "{value}"
            );
            assert!(scatter_png((0, 99_999_999), &[group]).is_ok(), "{value}");
        }
    }

    #[test]
    fn ticks_are_short() {
        let ticks = |range: (f64, f64), values: [f64; 3]| values.map(|value| tick(value, range)).join(" ");
        assert_eq!(ticks((0.0, 220_000.0), [0.0, 50_000.0, 200_000.0]), "0 50k 200k");
        assert_eq!(ticks((0.0, 4.0), [0.0, 0.5, 4.0]), "0 0.5 4");
        assert_eq!(ticks((-0.1, 0.1), [-0.05, 0.0, 0.1]), "-0.05 0 0.1");
        assert_eq!(ticks((0.0, 3e6), [0.0, 5e5, 3e6]), "0 0.5M 3M");
        assert_eq!(ticks((1e-5, 2e-5), [1e-5, 1.5e-5, 2e-5]), "1.0e-5 1.5e-5 2.0e-5");
    }
}
