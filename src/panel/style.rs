//! How the panels look: one dark style, few colours, numbers in a fixed width.

use bevy_egui::egui::text::LayoutJob;
use bevy_egui::egui::util::IdTypeMap;
use bevy_egui::egui::{
    Align, Color32, Context, CornerRadius, FontFamily, FontId, FontSelection, Id, Response, RichText, Stroke, Style,
    TextStyle, Theme, Ui, Visuals, vec2,
};

/// What is selected, and the policy.
pub const ACCENT: Color32 = Color32::from_rgb(96, 165, 250);
/// What is reached or done.
pub const GOOD: Color32 = Color32::from_rgb(110, 200, 130);
/// What deserves a look: evaluations, warm-up, the best environment.
pub const NOTABLE: Color32 = Color32::from_rgb(240, 185, 90);
/// Errors, and a running recording.
pub const BAD: Color32 = Color32::from_rgb(240, 100, 95);
/// The skill prior.
pub const PRIOR: Color32 = Color32::from_rgb(150, 130, 200);
/// Text that explains.
pub const WEAK: Color32 = Color32::from_rgb(140, 147, 160);
/// Text that tells.
pub const TEXT: Color32 = Color32::from_rgb(208, 213, 222);
/// Where bars and bands lie.
pub const TROUGH: Color32 = Color32::from_rgb(36, 40, 48);

/// Lines of grids in plots.
pub const GRID: Color32 = Color32::from_rgb(70, 75, 86);

const SERIES: [Color32; 10] = [
    Color32::from_rgb(96, 165, 250),
    Color32::from_rgb(245, 158, 80),
    Color32::from_rgb(110, 200, 130),
    Color32::from_rgb(235, 110, 110),
    Color32::from_rgb(178, 140, 235),
    Color32::from_rgb(200, 160, 120),
    Color32::from_rgb(240, 140, 200),
    Color32::from_rgb(150, 170, 185),
    Color32::from_rgb(210, 210, 100),
    Color32::from_rgb(90, 205, 215),
];

/// A colour for each thing of a kind, such as the elements of a scene.
pub fn series(index: usize) -> Color32 {
    SERIES.get(index % SERIES.len()).copied().unwrap_or(TEXT)
}

/// The colour of a seed, the same in all panels.
pub fn of_seed(seed: u64) -> Color32 {
    series((seed % SERIES.len() as u64) as usize)
}

/// Sets the style of a context, once: whether this was the call that did.
pub fn apply(context: &Context) -> bool {
    let applied =
        |data: &mut IdTypeMap| std::mem::replace(data.get_temp_mut_or_default::<bool>(Id::new("panel style")), true);
    let first = !context.data_mut(applied);
    if first {
        context.set_theme(Theme::Dark);
        context.style_mut_of(Theme::Dark, style);
    }
    first
}

fn style(style: &mut Style) {
    let fonts = [
        (TextStyle::Small, 10.5, FontFamily::Proportional),
        (TextStyle::Body, 13.0, FontFamily::Proportional),
        (TextStyle::Button, 13.0, FontFamily::Proportional),
        (TextStyle::Heading, 15.0, FontFamily::Proportional),
        (TextStyle::Monospace, 12.0, FontFamily::Monospace),
    ];
    style.text_styles = fonts
        .map(|(text, size, family)| (text, FontId::new(size, family)))
        .into();
    style.drag_value_text_style = TextStyle::Monospace;
    style.spacing.item_spacing = vec2(6.0, 4.0);
    style.spacing.button_padding = vec2(7.0, 2.0);
    style.spacing.interact_size.y = 20.0;
    style.spacing.indent = 12.0;
    style.spacing.tooltip_width = 320.0;
    // Text that can be marked would catch the clicks on what lies behind it.
    style.interaction.selectable_labels = false;
    style.visuals = visuals();
}

fn visuals() -> Visuals {
    let mut visuals = Visuals::dark();
    let grey = |level: u8| Color32::from_rgb(level, level + 2, level + 7);
    visuals.panel_fill = grey(20);
    visuals.window_fill = grey(24);
    visuals.extreme_bg_color = grey(13);
    visuals.faint_bg_color = grey(26);
    visuals.window_stroke = Stroke::new(1.0, grey(46));
    visuals.selection.bg_fill = Color32::from_rgb(38, 74, 122);
    visuals.selection.stroke = Stroke::new(1.0, Color32::WHITE);
    visuals.hyperlink_color = ACCENT;
    visuals.warn_fg_color = NOTABLE;
    visuals.error_fg_color = BAD;
    visuals.weak_text_color = Some(WEAK);
    visuals.widgets.noninteractive.bg_stroke = Stroke::new(1.0, grey(38));
    visuals.widgets.noninteractive.fg_stroke = Stroke::new(1.0, TEXT);
    for (widget, fill, text) in [
        (&mut visuals.widgets.inactive, grey(38), TEXT),
        (&mut visuals.widgets.hovered, grey(52), Color32::WHITE),
        (&mut visuals.widgets.active, grey(64), Color32::WHITE),
        (&mut visuals.widgets.open, grey(46), Color32::WHITE),
    ] {
        widget.bg_fill = fill;
        widget.weak_bg_fill = fill;
        widget.bg_stroke = Stroke::NONE;
        widget.fg_stroke = Stroke::new(1.0, text);
        widget.corner_radius = CornerRadius::same(4);
        widget.expansion = 0.0;
    }
    visuals
}

/// A number and what it counts or is measured in, as one label; `explained` is shown while the pointer rests on it.
pub fn figure(ui: &mut Ui, number: &str, what: &str, explained: &str) -> Response {
    let number = RichText::new(number).monospace().color(TEXT);
    two(ui, number, RichText::new(format!(" {what}")).color(WEAK), explained)
}

/// A name and its number, as one label; `explained` is shown while the pointer rests on it.
pub fn named(ui: &mut Ui, name: &str, number: &str, explained: &str) -> Response {
    let name = RichText::new(format!("{name} ")).color(WEAK);
    two(ui, name, RichText::new(number).monospace().color(TEXT), explained)
}

fn two(ui: &mut Ui, first: RichText, second: RichText, explained: &str) -> Response {
    let mut job = LayoutJob::default();
    for text in [first, second] {
        text.append_to(&mut job, ui.style(), FontSelection::Default, Align::Center);
    }
    ui.label(job).on_hover_text(explained)
}

/// Text that says what is missing.
pub fn missing(ui: &mut Ui, text: &str) {
    ui.add_space(6.0);
    ui.label(RichText::new(text).color(WEAK).italics());
}

/// A count with its thousands apart.
pub fn counted(count: u64) -> String {
    let digits = count.to_string();
    let mut apart = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            apart.push(' ');
        }
        apart.push(digit);
    }
    apart
}

/// A number with about three digits, a whole one as it is; a dash for what is not finite.
pub fn short(number: impl Into<f64>) -> String {
    let number = number.into();
    let size = number.abs();
    if !number.is_finite() {
        "–".into()
    } else if number.fract() == 0.0 && size < 1e7 {
        format!("{number:.0}")
    } else if !(1e-3..1e7).contains(&size) {
        format!("{number:.1e}")
    } else if size < 1.0 {
        format!("{number:.3}")
    } else if size < 100.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.0}")
    }
}

/// A number on an axis: whole where it can be, thousands as k, millions as M.
pub fn on_axis(number: f64) -> String {
    let scaled = |factor: f64, unit: &str| {
        let text = format!("{:.1}", number / factor);
        format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match number.abs() {
        size if size >= 1e6 => scaled(1e6, "M"),
        size if size >= 1e3 => scaled(1e3, "k"),
        size if size >= 1.0 || size == 0.0 => scaled(1.0, ""),
        _ => short(number),
    }
}
