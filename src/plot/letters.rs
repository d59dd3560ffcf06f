//! Text in pictures. SVG leaves letters to whoever shows it; bitmaps get letters of strokes, because machines that only
//! train often have no font.

use plotters::element::{PathElement, Text};
use plotters::prelude::DrawingBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle};

use super::{Area, PlotError};

/// How lengths and letters are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paper {
    /// Pixels for each pixel of the SVG.
    pub(super) scale: u32,
    /// Letters are strokes.
    pub(super) strokes: bool,
}

impl Paper {
    /// So many pixels of the SVG.
    pub(super) fn px(self, pixels: i32) -> i32 {
        pixels.saturating_mul(self.scale as i32)
    }

    /// A width or a radius.
    pub(super) fn wide(self, pixels: u32) -> u32 {
        pixels.saturating_mul(self.scale)
    }
}

/// Where a text lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lies {
    /// It begins at the point.
    RightOf,
    /// It ends at the point.
    LeftOf,
    /// Its middle is at the point.
    Around,
    /// Its middle is at the point, and it is read from below.
    Upwards,
}

const INK: RGBColor = RGBColor(0, 0, 0);

/// Draws a text of `size` pixels at a point, at whose height its middle is.
pub(super) fn write<B: DrawingBackend>(
    area: &Area<B>,
    text: &str,
    at: (i32, i32),
    lies: Lies,
    size: u32,
    paper: Paper,
) -> Result<(), PlotError> {
    if paper.strokes {
        return write_strokes(area, text, at, lies, size, paper);
    }
    let horizontal = match lies {
        Lies::RightOf => HPos::Left,
        Lies::LeftOf => HPos::Right,
        Lies::Around | Lies::Upwards => HPos::Center,
    };
    let transform = match lies {
        Lies::Upwards => FontTransform::Rotate270,
        _ => FontTransform::None,
    };
    let font = ("sans-serif", paper.wide(size)).into_font().transform(transform);
    let style = TextStyle::from(font)
        .color(&INK)
        .pos(Pos::new(horizontal, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))
        .map_err(PlotError::backend)
}

/// Height of capitals in units of the grid that letters are drawn on; small letters begin at [`SMALL`].
const CAPITALS: f64 = 6.0;
const SMALL: f64 = 2.0;

fn write_strokes<B: DrawingBackend>(
    area: &Area<B>,
    text: &str,
    (x, y): (i32, i32),
    lies: Lies,
    size: u32,
    paper: Paper,
) -> Result<(), PlotError> {
    // Capitals are about seven tenths of a font's size.
    let unit = f64::from(paper.wide(size)) * 0.7 / CAPITALS;
    let begin = match lies {
        Lies::RightOf => 0.0,
        Lies::LeftOf => -width(text),
        Lies::Around | Lies::Upwards => -width(text) / 2.0,
    };
    let thickness = (unit * 0.75).floor().max(1.0) as u32;
    let style = ShapeStyle::from(&INK).stroke_width(thickness);
    let place = |right: f64, down: f64| {
        let (right, down) = (right * unit, (down - CAPITALS / 2.0) * unit);
        match lies {
            Lies::Upwards => (x + down.round() as i32, y - right.round() as i32),
            _ => (x + right.round() as i32, y + down.round() as i32),
        }
    };
    let mut left = begin;
    for letter in text.chars() {
        for stroke in strokes(letter) {
            let mut points: Vec<(i32, i32)> = stroke.map(|(right, down)| place(left + right, down)).collect();
            if let [one, other] = points.as_mut_slice()
                && one == other
            {
                // A dot.
                other.1 += thickness as i32;
            }
            area.draw(&PathElement::new(points, style))
                .map_err(PlotError::backend)?;
        }
        left += advance(letter);
    }
    Ok(())
}

/// Width of a text in units of the grid.
fn width(text: &str) -> f64 {
    // Without the gap after the last letter.
    (text.chars().map(advance).sum::<f64>() - GAP).max(0.0)
}

/// Between two letters.
const GAP: f64 = 1.8;

fn advance(letter: char) -> f64 {
    let right = strokes(letter).flatten().map(|(right, _)| right).fold(0.0, f64::max);
    GAP + if letter == ' ' { SMALL } else { right }
}

/// The strokes of a letter: points to the right and down from the top left corner of a capital.
fn strokes(letter: char) -> impl Iterator<Item = impl Iterator<Item = (f64, f64)>> {
    let known = |letter: char| (letter as usize).checked_sub(32).and_then(|index| STROKES.get(index));
    let glyph = known(letter).or_else(|| known('?')).copied().unwrap_or_default();
    glyph.split_ascii_whitespace().map(|stroke| {
        let unit = |digit: u8| f64::from(digit.saturating_sub(b'0'));
        stroke
            .as_bytes()
            .as_chunks::<2>()
            .0
            .iter()
            .map(move |&[right, down]| (unit(right), unit(down)))
    })
}

/// For each character of ASCII from the blank on: strokes, of which two digits are a point.
#[rustfmt::skip]
const STROKES: [&str; 95] = [
    "", "0004 0606", "0002 2022", "1016 3036 0242 0444", "413010010213334445361605 2027",
    "4006 0010110100 3545463635", "461120310405162643", "0002", "10010516", "00111506", "2125 0244 0442",
    "2125 0343", "151607", "0333", "0606", "0640", "103041453616050110", "022026 0646", "01103041420646",
    "004022324345361605", "300444 3036", "400002324345361605", "413010010516364544331304", "004016",
    "103041423313020110 1304051636454433", "051636454130100102133342", "0303 0606", "1313 151607", "310335",
    "0242 0444", "013305", "01103041422324 2626", "4536160501103041443432 3222131424 2434", "062046 1434",
    "003041423303 3344453606 0006", "4130100105163645", "00063645413000", "40000646 0333", "400006 0333",
    "41301001051636454323", "0006 4046 0343", "0006", "3035261605", "0006 4004 1346", "000646", "0600234046",
    "06004640", "103041453616050110", "06003041423303", "103041453616050110 2446", "06003041423303 2346",
    "413010010213334445361605", "0040 2026", "000516364540", "002640", "0016233640", "0046 4006", "002340 2326",
    "00400646", "10000616", "0046", "00101606", "022042", "0747", "0011", "4246 4332120305163645",
    "0006 0312324345361605", "4332120305163645", "4046 4332120305163645", "04444332120305163645", "30201116 0232",
    "4247381807 4332120305163645", "0006 0312324346", "0206 0000", "121708 1010", "0006 3205 1436", "000516",
    "0206 03122326 23324346", "0206 0312324346", "123243453616050312", "0208 0312324345361605",
    "4248 4332120305163645", "0206 031232", "43321203143445361605", "10152636 0232", "0205163645 4246", "022642",
    "0216233642", "0246 4206", "0226 4218", "02420646", "20111203141526", "0007", "00111223141506", "04133443",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_has_strokes_within_its_grid() {
        for letter in '!'..='~' {
            assert!(strokes(letter).count() > 0, "{letter}");
            for stroke in strokes(letter) {
                let points: Vec<(f64, f64)> = stroke.collect();
                assert!(points.len() > 1, "{letter}");
                assert!(
                    points.iter().all(|&(right, down)| right <= 4.0 && down <= 8.0),
                    "{letter}"
                );
            }
        }
        let drawn = |letter: char| strokes(letter).map(Iterator::collect).collect::<Vec<Vec<_>>>();
        let mut all: Vec<_> = (' '..='~').map(|letter| format!("{:?}", drawn(letter))).collect();
        all.sort();
        all.dedup();
        // Only the letter O and the digit 0 look alike.
        assert_eq!(all.len(), 94);
        assert_eq!(drawn('é'), drawn('?'), "not known");
        assert!(width("ii") < width("mm") && width("") == 0.0);
    }
}
