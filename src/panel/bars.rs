//! Rows with a bar: a name, a bar that shows a number between two ends, and the number in figures.

use bevy_egui::egui::{
    Align2, Color32, Painter, Rect, Response, Sense, Stroke, TextStyle, Ui, WidgetInfo, WidgetType, pos2, vec2,
};

use super::style::{TEXT, TROUGH, WEAK};

/// Height of a row, points.
pub const HEIGHT: f32 = 17.0;

/// A horizontal axis on the screen.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// The number at the left end.
    pub low: f32,
    /// The number at the right end.
    pub high: f32,
    /// Where it lies.
    pub rect: Rect,
}

impl Axis {
    /// Where a number lies; at an end if it is outside, nowhere if it is not finite.
    pub fn place(&self, number: f32) -> Option<f32> {
        let share = ((number - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        share.is_finite().then(|| self.rect.left() + share * self.rect.width())
    }

    /// Fills from one number to another, with the height as a share of the axis' own.
    pub fn fill(&self, painter: &Painter, from: f32, to: f32, height: f32, colour: Color32) {
        if let (Some(from), Some(to)) = (self.place(from), self.place(to)) {
            let (left, right) = (from.min(to), from.max(to));
            let half = 0.5 * height * self.rect.height();
            let middle = self.rect.center().y;
            let rect = Rect::from_min_max(pos2(left, middle - half), pos2(right, middle + half));
            painter.rect_filled(rect, 2.0, colour);
        }
    }

    /// Draws a vertical tick.
    pub fn tick(&self, painter: &Painter, at: f32, width: f32, colour: Color32) {
        if let Some(x) = self.place(at) {
            painter.vline(x, self.rect.y_range(), Stroke::new(width, colour));
        }
    }
}

/// One row. Its texts are drawn as they are; the whole of it has one line for readers of the accessibility tree.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The name on the left.
    pub name: &'a str,
    /// Colour of the name.
    pub colour: Color32,
    /// The number in figures, on the right.
    pub number: &'a str,
    /// Points for the name.
    pub name_width: f32,
    /// Points for the number.
    pub number_width: f32,
    /// The two ends of the bar.
    pub ends: [f32; 2],
}

impl<'a> Row<'a> {
    /// A row with the usual widths.
    pub fn new(name: &'a str, number: &'a str, ends: [f32; 2]) -> Self {
        Self {
            name,
            colour: TEXT,
            number,
            name_width: 104.0,
            number_width: 62.0,
            ends,
        }
    }

    /// Shows the row; `draw` fills the bar. Without a line of its own, the name and the number are the accessible text.
    pub fn show(self, ui: &mut Ui, line: Option<&str>, draw: impl FnOnce(&Painter, Axis)) -> Response {
        let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), HEIGHT), Sense::hover());
        response.widget_info(|| {
            let enabled = ui.is_enabled();
            let text = line.map_or_else(|| format!("{}: {}", self.name, self.number), str::to_owned);
            WidgetInfo::labeled(WidgetType::ProgressIndicator, enabled, text)
        });
        if !ui.is_rect_visible(rect) {
            return response;
        }
        let right = rect.right() - self.number_width;
        let left = (rect.left() + self.name_width).min(right);
        let trough = Rect::from_min_max(pos2(left, rect.top() + 3.0), pos2(right, rect.bottom() - 3.0));
        let painter = ui.painter();
        painter.rect_filled(trough, 2.0, TROUGH);
        let [low, high] = self.ends;
        let axis = Axis {
            low,
            high,
            rect: trough,
        };
        draw(painter, axis);
        let names = Rect::from_min_max(rect.min, pos2(left - 4.0, rect.bottom()));
        let font = TextStyle::Body.resolve(ui.style());
        ui.painter_at(names)
            .text(names.left_center(), Align2::LEFT_CENTER, self.name, font, self.colour);
        let font = TextStyle::Monospace.resolve(ui.style());
        painter.text(rect.right_center(), Align2::RIGHT_CENTER, self.number, font, WEAK);
        response
    }
}
