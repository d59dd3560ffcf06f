//! Pictures of results: learning curves over seeds, intervals of methods side by side and maps of latent spaces, as SVG
//! and PNG.
//!
//! Colours are those of M. Okabe and K. Ito, which colour-blind people can tell apart.

mod curves;
mod intervals;
mod letters;
mod map;
#[cfg(test)]
mod tests;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::element::{Circle, PathElement};
use plotters::prelude::{DrawingArea, DrawingBackend, IntoDrawingArea};
use plotters::style::{BLACK, Color, RGBColor, ShapeStyle, WHITE};

pub use curves::{CurvePlot, CurvePoint, Curves, Method, aggregate, curves_svg};
pub use intervals::{Estimate, IntervalPlot, Intervals};
pub use map::{Group, ScatterPlot, scatter_png, scatter_svg};

use letters::{Lies, Paper, write};

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

/// A picture that any backend can draw.
trait Picture {
    /// Width and height in pixels of the SVG.
    fn size(&self) -> (u32, u32);

    fn draw<B: DrawingBackend>(&self, area: &Area<B>, paper: Paper) -> Result<(), PlotError>;

    /// As SVG text.
    fn to_svg(&self) -> Result<String, PlotError> {
        let paper = Paper {
            scale: 1,
            strokes: false,
        };
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, sides(self.size())).into_drawing_area();
            area.fill(&WHITE).map_err(PlotError::backend)?;
            self.draw(&area, paper)?;
            area.present().map_err(PlotError::backend)?;
        }
        Ok(svg)
    }

    /// As PNG with twice the pixels, for screens and print that show them.
    fn to_png(&self) -> Result<Vec<u8>, PlotError> {
        let paper = Paper {
            scale: 2,
            strokes: true,
        };
        let (width, height) = self.size();
        let (width, height) = sides((paper.wide(width), paper.wide(height)));
        let mut rgb = vec![0; width as usize * height as usize * 3];
        {
            let area = BitMapBackend::with_buffer(&mut rgb, (width, height)).into_drawing_area();
            area.fill(&WHITE).map_err(PlotError::backend)?;
            self.draw(&area, paper)?;
            area.present().map_err(PlotError::backend)?;
        }
        encode_png(width, height, &rgb).map_err(PlotError::backend)
    }
}

type Area<B> = DrawingArea<B, Shift>;
type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// An SVG picture for a page with a light and a dark form: no background, text and lines in the page's own colour, and
/// the colours of methods as the variables `--series-0` and so on, with the usual colours where a page sets none.
pub fn for_page(svg: &str) -> String {
    // The library writes quotes inside text as entities, so what is replaced are attributes.
    let mut text = svg.replace("fill=\"#FFFFFF\"", "fill=\"none\"");
    text = text.replace("\"#000000\"", "\"currentColor\"");
    for (index, RGBColor(red, green, blue)) in COLOURS.iter().enumerate() {
        let colour = format!("#{red:02X}{green:02X}{blue:02X}");
        text = text.replace(
            &format!("\"{colour}\""),
            &format!("\"var(--series-{index}, {colour})\""),
        );
    }
    text
}

/// Draws the legend at the right edge, where it hides no data, and gives the area that is left.
fn legend<B: DrawingBackend>(
    area: &Area<B>,
    entries: &[(String, RGBColor)],
    paper: Paper,
) -> Result<Area<B>, PlotError> {
    let (width, _) = area.dim_in_pixel();
    let (strip, room) = strip_for(entries.iter().map(|(label, _)| label.as_str()), 40, width, paper);
    let (left, right) = area.split_horizontally(width.saturating_sub(strip));
    for (row, (label, colour)) in entries.iter().enumerate() {
        let y = paper.px(46 + 22 * row as i32);
        right
            .draw(&Circle::new((paper.px(8), y), paper.wide(5), colour.filled()))
            .map_err(PlotError::backend)?;
        let at = (paper.px(20), y);
        write(&right, &shortened(label, room), at, Lies::RightOf, 13, paper)?;
    }
    Ok(left)
}

/// Width of a strip with labels, `margin` pixels wider than they, of a picture that is `width` wide; and how many letters
/// have room in it.
fn strip_for<'a>(labels: impl Iterator<Item = &'a str>, margin: u32, width: u32, paper: Paper) -> (u32, usize) {
    let (letter, margin) = (paper.wide(7), paper.wide(margin));
    let longest = labels.map(|label| label.chars().count()).max().unwrap_or(0) as u32;
    let strip = margin.saturating_add(longest.saturating_mul(letter)).min(width * 2 / 5);
    (strip, (strip.saturating_sub(margin) / letter.max(1)) as usize)
}

/// A label that has room in so many letters.
fn shortened(label: &str, room: usize) -> String {
    if label.chars().count() > room {
        label
            .chars()
            .take(room.saturating_sub(3))
            .chain("...".chars())
            .collect()
    } else {
        label.to_owned()
    }
}

/// Axes with grid and labels; `texts` are title, horizontal and vertical label. Without a vertical label the vertical
/// axis has no ticks either, and `strip` pixels at its left stay free.
fn axes<'a, B: DrawingBackend>(
    area: &'a Area<B>,
    texts: [&str; 3],
    ranges: Ranges,
    strip: Option<u32>,
    paper: Paper,
) -> Result<Chart<'a, B>, PlotError> {
    let [title, x_label, y_label] = texts;
    let ((x_low, x_high), (y_low, y_high)) = ranges;
    let (width, height) = area.dim_in_pixel();
    let edge = paper.wide(14);
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(edge)
        .margin_top(if title.is_empty() { edge } else { paper.wide(44) })
        .x_label_area_size(paper.wide(46))
        .y_label_area_size(strip.unwrap_or(paper.wide(64)));
    let chart = builder
        .build_cartesian_2d(x_low..x_high, y_low..y_high)
        .map_err(PlotError::backend)?;
    let place = |x, y| {
        let (left, top) = area.get_base_pixel();
        let (x, y) = chart.backend_coord(&(x, y));
        (x - left, y - top)
    };
    let line = |points: [(i32, i32); 2], share: f64| {
        let style = ShapeStyle::from(&BLACK.mix(share)).stroke_width(paper.scale);
        area.draw(&PathElement::new(points, style)).map_err(PlotError::backend)
    };
    let (left, bottom) = place(x_low, y_low);
    let (right, top) = place(x_high, y_high);
    for value in ticks((x_low, x_high)) {
        let (x, _) = place(value, y_low);
        line([(x, top), (x, bottom)], 0.1)?;
        line([(x, bottom), (x, bottom + paper.px(5))], 0.6)?;
        write(
            area,
            &tick(value, (x_low, x_high)),
            (x, bottom + paper.px(16)),
            Lies::Around,
            13,
            paper,
        )?;
    }
    if strip.is_none() {
        for value in ticks((y_low, y_high)) {
            let (_, y) = place(x_low, value);
            line([(left, y), (right, y)], 0.1)?;
            line([(left - paper.px(5), y), (left, y)], 0.6)?;
            write(
                area,
                &tick(value, (y_low, y_high)),
                (left - paper.px(9), y),
                Lies::LeftOf,
                13,
                paper,
            )?;
        }
        let at = (paper.px(18), (top + bottom) / 2);
        write(area, y_label, at, Lies::Upwards, 15, paper)?;
    }
    line([(left, top), (left, bottom)], 0.6)?;
    line([(left, bottom), (right, bottom)], 0.6)?;
    let under = (left / 2 + right / 2, height as i32 - paper.px(20));
    write(area, x_label, under, Lies::Around, 15, paper)?;
    write(area, title, (width as i32 / 2, paper.px(24)), Lies::Around, 19, paper)?;
    Ok(chart)
}

/// Round numbers in a range, about eight of them.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let step = round_step((high / 8.0 - low / 8.0).abs());
    let (first, last) = ((low / step).ceil(), (high / step).floor());
    // A range that is tiny beside its ends has no room for round numbers.
    if !step.is_normal() || !first.is_finite() || !(0.0..=20.0).contains(&(last - first)) || first.abs() > 1e15 {
        return Vec::new();
    }
    (0..=(last - first) as u32)
        .map(|index| (first + f64::from(index)) * step)
        .collect()
}

/// The least of 1, 2, 5, 10, 20 and so on that is at least `width`.
fn round_step(width: f64) -> f64 {
    let power = 10.0_f64.powf(width.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    // A hair less is the same: steps are computed.
    steps
        .into_iter()
        .find(|step| *step >= width * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
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

type Ranges = ((f64, f64), (f64, f64));

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
