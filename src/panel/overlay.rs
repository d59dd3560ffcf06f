//! What is written into the picture.

use bevy_egui::egui::{Color32, CornerRadius, FontId, Painter, Pos2, Rect, Stroke, StrokeKind, vec2};

use super::style::{ACCENT, TEXT};

/// Writes a label whose lower edge is centred at `at` (points), on a ground that keeps it readable over any picture.
/// That of the selected environment stands out.
pub fn label(painter: &Painter, at: Pos2, text: &str, selected: bool) {
    let colour = if selected { Color32::WHITE } else { TEXT };
    let galley = painter.layout_no_wrap(text.to_owned(), FontId::proportional(12.0), colour);
    let size = galley.size() + vec2(10.0, 4.0);
    let rect = Rect::from_min_size(at - vec2(0.5 * size.x, size.y), size);
    let ground = Color32::from_rgba_unmultiplied(14, 16, 21, 190);
    painter.rect_filled(rect, CornerRadius::same(4), ground);
    if selected {
        painter.rect_stroke(
            rect,
            CornerRadius::same(4),
            Stroke::new(1.0, ACCENT),
            StrokeKind::Outside,
        );
    }
    painter.galley(rect.min + vec2(5.0, 2.0), galley, colour);
}
