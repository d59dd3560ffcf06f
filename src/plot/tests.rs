//! Tests of pictures.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::curves::value_at;
use super::*;
use crate::metrics::statistics::{Interval, Statistic};
use crate::rng::{Purpose, Stream, stream};

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

#[test]
fn png_pictures_have_text() {
    let plot = CurvePlot {
        y_label: "completed elements".to_owned(),
        ..CurvePlot::default()
    };
    let png = |plot: &CurvePlot| Curves::new(plot, &methods(), &mut rng()).unwrap().png().unwrap();
    let with = png(&plot);
    keep("curves.png", &with);
    let without = png(&CurvePlot {
        x_label: String::new(),
        y_label: String::new(),
        ..plot
    });
    let dark = |png: &[u8]| {
        let mut reader = png::Decoder::new(png).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!((reader.info().width, reader.info().height), (1_720, 880));
        pixels
            .chunks_exact(3)
            .filter(|pixel| pixel.iter().all(|&part| part < 100))
            .count()
    };
    // Letters of the two labels, about 35 of them.
    assert!(dark(&with) > dark(&without) + 500, "{} {}", dark(&with), dark(&without));
}

#[test]
fn intervals_stand_in_rows() {
    let row = |label: &str, colour, value, interval: Option<(f64, f64)>| Estimate {
        label: label.to_owned(),
        colour,
        value,
        interval: interval.map(|(low, high)| Interval { low, high }),
    };
    let rows = [
        row("SPiRL", 0, 3.4, Some((2.8, 3.9))),
        row("a <b> & c, most likely skills", 1, 0.1, None),
        row("not there", 2, f64::NAN, None),
    ];
    let plot = IntervalPlot {
        x_label: "completed elements".to_owned(),
        x_range: Some((0.0, 4.0)),
        ..IntervalPlot::default()
    };
    let intervals = Intervals::new(&plot, &rows).unwrap();
    let svg = intervals.svg().unwrap();
    keep("intervals.svg", svg.as_bytes());
    keep("intervals.png", &intervals.png().unwrap());
    assert_eq!(svg.matches("<circle").count(), 2);
    assert!(svg.contains("a &lt;b&gt; &amp; c") && !svg.contains("not there"));
    assert_eq!(Intervals::new(&plot, &rows[2..]), Err(PlotError::Empty));
}

#[test]
fn pictures_on_pages_take_the_colours_of_the_page() {
    let method = Method {
        label: "called \"#000000\"".to_owned(),
        seeds: vec![vec![(0.0, 1.0), (10.0, 2.0)]],
    };
    let svg = curves_svg(&CurvePlot::default(), &[method], &mut rng()).unwrap();
    let page = for_page(&svg);
    assert!(svg.contains("#FFFFFF") && !page.contains("#FFFFFF"));
    assert!(page.contains("currentColor") && page.contains("var(--series-0, #0072B2)"));
    assert!(page.contains("&quot;#000000&quot;"), "labels stay");
    assert!(!page.replace("&quot;#000000&quot;", "").contains("#000000"));
}
