//! The learners and the list of environments.

use bevy::prelude::Entity;
use bevy_egui::egui::{
    Align2, Button, CollapsingHeader, Color32, ComboBox, DragValue, FontId, Id, ProgressBar, Rect, Response, RichText,
    ScrollArea, Sense, TextStyle, Ui, WidgetInfo, WidgetType, pos2, vec2,
};

use super::Show;
use super::style::{ACCENT, GOOD, NOTABLE, TEXT, WEAK, counted, figure, missing, named, of_seed, short};
use crate::view::state::{Ask, Sort, ViewState};
use crate::watch::{EnvironmentView, LearnerView, Request};

const ROW: f32 = 18.0;
/// Points between a number and the right end of its column.
const GAP: f32 = 6.0;

/// A column: its heading, its share of the width, what it can be sorted by, and a sentence about it.
struct Column {
    name: &'static str,
    share: f32,
    sort: Option<Sort>,
    explained: &'static str,
}

const SEED: Column = Column {
    name: "seed",
    share: 38.0,
    sort: None,
    explained: "Seed of the learner whose agent acts in the environment.",
};

const COLUMNS: [Column; 6] = [
    Column {
        name: "slot",
        share: 52.0,
        sort: Some(Sort::Slot),
        explained: "Place among the environments of the seed. ★ marks the highest return, E an evaluation episode.",
    },
    Column {
        name: "return",
        share: 62.0,
        sort: Some(Sort::Return),
        explained: "Sum of the rewards of the running episode.",
    },
    Column {
        name: "done",
        share: 46.0,
        sort: None,
        explained: "Elements of the task that are done, of all.",
    },
    Column {
        name: "step",
        share: 50.0,
        sort: Some(Sort::Step),
        explained: "Control steps of the running episode.",
    },
    Column {
        name: "skill",
        share: 52.0,
        sort: None,
        explained: "Control steps of the current skill that are done, of all.",
    },
    Column {
        name: "last",
        share: 54.0,
        sort: Some(Sort::LastReturn),
        explained: "Return of the last episode that ended here.",
    },
];

/// Draws the panel.
pub fn show(ui: &mut Ui, show: &Show<'_>, view: &mut ViewState, asks: &mut Vec<Ask>) {
    learners(ui, &show.watched.current.learners);
    let environments = &show.watched.current.environments;
    if environments.is_empty() {
        missing(ui, "No environments yet: they come with the first tick.");
        return;
    }
    let several = several_seeds(show);
    let wide = Columns {
        seed: several,
        skill: has_skills(environments),
    };
    filter(ui, show, view, several);
    let listed = show.watched.listed(view);
    ui.horizontal(|ui| {
        let explained = "Environments that pass the filter, of all.";
        let of_all = format!("of {} environments", environments.len());
        figure(ui, &listed.len().to_string(), &of_all, explained);
        steps_and_alone(ui, view, asks);
    });
    headings(ui, view, wide);
    let scrolled_to = scroll_target(ui, show, view, &listed);
    let best = view.highlight_best.then(|| show.watched.best()).flatten();
    let area = ScrollArea::vertical().auto_shrink([false, false]);
    ui.spacing_mut().item_spacing.y = 0.0;
    area.show_rows(ui, ROW, listed.len(), |ui, visible| {
        if let Some(row) = scrolled_to {
            let top = ui.max_rect().top() + (row as f32 - visible.start as f32) * ROW;
            let rect = Rect::from_min_size(pos2(ui.max_rect().left(), top), vec2(1.0, ROW));
            ui.scroll_to_rect(rect, None);
        }
        for index in listed.get(visible).unwrap_or_default() {
            let Some(environment) = environments.get(*index) else {
                continue;
            };
            let selected = view.selected == Some(environment.environment);
            let marked = best == Some(environment.environment);
            if row(ui, environment, wide, selected, marked).clicked() {
                select(environment.environment, view, asks);
            }
        }
    });
}

/// Selects an environment, and asks to look into it.
pub fn select(environment: Entity, view: &mut ViewState, asks: &mut Vec<Ask>) {
    view.selected = Some(environment);
    asks.push(Ask::World(Request::Inspect(Some(environment))));
}

fn several_seeds(show: &Show<'_>) -> bool {
    let mut seeds = show
        .watched
        .current
        .environments
        .iter()
        .map(|environment| environment.seed);
    let first = seeds.next();
    seeds.any(|seed| Some(seed) != first)
}

fn learners(ui: &mut Ui, learners: &[LearnerView]) {
    if learners.is_empty() {
        return;
    }
    let title = format!("Learners ({})", learners.len());
    let header = CollapsingHeader::new(title).id_salt("learners").default_open(true);
    header.show_unindented(ui, |ui| {
        let area = ScrollArea::vertical().id_salt("learners").max_height(132.0);
        area.auto_shrink([false, true]).show(ui, |ui| {
            for each in learners {
                learner(ui, each);
            }
        });
    });
    ui.separator();
}

fn learner(ui: &mut Ui, learner: &LearnerView) {
    ui.horizontal(|ui| {
        ui.label(RichText::new(format!("⏺ seed {}", learner.seed)).color(of_seed(learner.seed)));
        let explained = "Environment steps that the learner has practised, of its budget.";
        let Some(budget) = learner.budget else {
            figure(ui, &counted(learner.steps), "steps", explained);
            return;
        };
        let text = format!("{} / {} steps", counted(learner.steps), counted(budget));
        let bar = ProgressBar::new(learner.steps as f32 / budget.max(1) as f32)
            .text(RichText::new(text).small())
            .corner_radius(2.0)
            .desired_height(14.0);
        ui.add(bar).on_hover_text(explained);
    });
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 10.0;
        figure(ui, &counted(learner.episodes), "episodes", "Episodes that have ended.");
        figure(
            ui,
            &counted(learner.updates),
            "updates",
            "Gradient updates of policy and critics.",
        );
        if learner.warmup_left > 0 {
            let explained = "Transitions that are still gathered before the first update.";
            named(ui, "warm-up left", &counted(learner.warmup_left), explained);
        }
        let explained = "Weight of the divergence from the skill prior (or of the entropy) against the return. It is \
                         adjusted so that the divergence stays near its target.";
        named(ui, "temperature", &short(learner.temperature), explained);
        if learner.evaluating {
            let explained =
                "Evaluation episodes are running: the policy acts without exploring, and nothing is learned.";
            ui.label(RichText::new("evaluating").color(NOTABLE))
                .on_hover_text(explained);
        }
    });
}

fn filter(ui: &mut Ui, show: &Show<'_>, view: &mut ViewState, several: bool) {
    let filter = &mut view.filter;
    ui.horizontal_wrapped(|ui| {
        if several || filter.seed.is_some() {
            let chosen = filter
                .seed
                .map_or_else(|| "all seeds".to_owned(), |seed| format!("seed {seed}"));
            let combo = ComboBox::from_id_salt("seed").selected_text(chosen).width(82.0);
            combo.show_ui(ui, |ui| {
                ui.selectable_value(&mut filter.seed, None, "all seeds");
                let mut last = None;
                // Learner by learner, so equal seeds stand together.
                for environment in &show.watched.current.environments {
                    let seed = Some(environment.seed);
                    if seed != last {
                        ui.selectable_value(&mut filter.seed, seed, format!("seed {}", environment.seed));
                    }
                    last = seed;
                }
            });
        }
        let least = DragValue::new(&mut filter.least_return).speed(0.05).prefix("return ≥ ");
        ui.add(least)
            .on_hover_text("List and show only environments with at least this return.");
        let explained = "Leave out evaluation episodes, which come and go.";
        ui.checkbox(&mut filter.no_evaluations, "hide evaluations")
            .on_hover_text(explained);
    });
}

fn steps_and_alone(ui: &mut Ui, view: &mut ViewState, asks: &mut Vec<Ask>) {
    for (text, forward, explained) in [
        ("⏴", false, "Select the previous environment of the list. (Shift+Tab)"),
        ("⏵", true, "Select the next environment of the list. (Tab)"),
    ] {
        if ui.button(text).on_hover_text(explained).clicked() {
            asks.push(Ask::Step { forward });
        }
    }
    let alone = Button::selectable(view.alone, "alone");
    let alone = ui.add_enabled(view.selected.is_some() || view.alone, alone);
    let alone = alone.on_hover_text("Show the selected environment only. (H)");
    if alone
        .on_disabled_hover_text("Select an environment to see it alone.")
        .clicked()
    {
        view.alone = !view.alone;
    }
}

/// Which of the columns are shown that are not always there.
#[derive(Clone, Copy)]
struct Columns {
    seed: bool,
    skill: bool,
}

/// Whether any agent carries out skills that last longer than a single action.
fn has_skills(environments: &[EnvironmentView]) -> bool {
    let lengths = environments.iter().filter_map(|environment| environment.skill);
    lengths.map(|(_, length)| length).any(|length| length > 1)
}

fn columns(wide: Columns) -> impl Iterator<Item = &'static Column> + Clone {
    let seed: &[Column] = if wide.seed { &[SEED] } else { &[] };
    let all = COLUMNS.iter().take(1).chain(seed).chain(COLUMNS.iter().skip(1));
    all.filter(move |column| wide.skill || column.name != "skill")
}

/// The right ends of the columns in `rect`, and the columns.
fn placed(rect: Rect, wide: Columns) -> impl Iterator<Item = (Rect, &'static Column)> {
    let all = columns(wide);
    let scale = rect.width() / all.clone().map(|column| column.share).sum::<f32>();
    all.scan(rect.left(), move |left, column| {
        let right = *left + scale * column.share;
        let cell = Rect::from_min_max(pos2(*left, rect.top()), pos2(right, rect.bottom()));
        *left = right;
        Some((cell, column))
    })
}

fn headings(ui: &mut Ui, view: &mut ViewState, wide: Columns) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::hover());
    let font = TextStyle::Small.resolve(ui.style());
    for (cell, column) in placed(rect, wide) {
        let active = column.sort == Some(view.sort);
        let arrow = match (active, view.descending) {
            (false, _) => "",
            (true, true) => " ⏷",
            (true, false) => " ⏶",
        };
        let text = format!("{}{arrow}", column.name);
        let sense = if column.sort.is_some() {
            Sense::click()
        } else {
            Sense::hover()
        };
        let heading = ui.interact(cell, ui.id().with(column.name), sense);
        heading.widget_info(|| {
            let kind = column.sort.map_or(WidgetType::Label, |_| WidgetType::Button);
            WidgetInfo::labeled(kind, ui.is_enabled(), &text)
        });
        let colour = if active || heading.hovered() { ACCENT } else { WEAK };
        let at = cell.right_center() - vec2(GAP, 0.0);
        ui.painter().text(at, Align2::RIGHT_CENTER, &text, font.clone(), colour);
        let Some(sort) = column.sort else {
            heading.on_hover_text(column.explained);
            continue;
        };
        let explained = format!("{} Click to sort, again to turn the order.", column.explained);
        if heading.on_hover_text(explained).clicked() {
            // The highest of everything but the slot is what one looks for.
            view.descending = if active { !view.descending } else { sort != Sort::Slot };
            view.sort = sort;
        }
    }
}

/// The row to scroll to: that of the selected environment, when it has just been selected.
fn scroll_target(ui: &Ui, show: &Show<'_>, view: &ViewState, listed: &[usize]) -> Option<usize> {
    let before = ui.data_mut(|data| {
        let last = data.get_temp_mut_or_default::<Option<Entity>>(Id::new("selected in the list"));
        std::mem::replace(last, view.selected)
    });
    if before == view.selected {
        return None;
    }
    let index = show.watched.index_of(view.selected?)?;
    listed.iter().position(|listed| *listed == index)
}

fn row(ui: &mut Ui, environment: &EnvironmentView, wide: Columns, selected: bool, best: bool) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::click());
    response.widget_info(|| {
        WidgetInfo::selected(
            WidgetType::SelectableLabel,
            ui.is_enabled(),
            selected,
            line(environment, best),
        )
    });
    if !ui.is_rect_visible(rect) {
        return response;
    }
    let painter = ui.painter();
    if selected || response.hovered() {
        let visuals = ui.visuals();
        let fill = if selected {
            visuals.selection.bg_fill
        } else {
            visuals.faint_bg_color
        };
        painter.rect_filled(rect, 3.0, fill);
    }
    let font: FontId = TextStyle::Monospace.resolve(ui.style());
    for (cell, column) in placed(rect, wide) {
        let (text, colour) = content(environment, column.name);
        let at = cell.right_center() - vec2(GAP, 0.0);
        painter.text(at, Align2::RIGHT_CENTER, text, font.clone(), colour);
    }
    let mark = match (best, environment.evaluates) {
        (true, _) => Some("★"),
        (false, true) => Some("E"),
        _ => None,
    };
    if let Some(mark) = mark {
        let font = TextStyle::Body.resolve(ui.style());
        painter.text(
            rect.left_center() + vec2(4.0, 0.0),
            Align2::LEFT_CENTER,
            mark,
            font,
            NOTABLE,
        );
    }
    response
}

fn content(environment: &EnvironmentView, column: &str) -> (String, Color32) {
    let done = environment.completed();
    match column {
        "slot" => (environment.slot.to_string(), TEXT),
        "seed" => (environment.seed.to_string(), of_seed(environment.seed)),
        "return" => (short(environment.return_), if done > 0 { GOOD } else { TEXT }),
        "done" => (
            format!("{done}/{}", environment.done.len()),
            if done > 0 { GOOD } else { WEAK },
        ),
        "step" => (environment.step.to_string(), WEAK),
        "skill" => {
            let text = environment.skill.map(|(elapsed, length)| format!("{elapsed}/{length}"));
            (text.unwrap_or_else(|| "–".into()), WEAK)
        }
        _ => (environment.last_return.map_or_else(|| "–".into(), short), WEAK),
    }
}

/// The row in words.
fn line(environment: &EnvironmentView, best: bool) -> String {
    let EnvironmentView { seed, slot, step, .. } = environment;
    let kind = if environment.evaluates { "evaluation " } else { "" };
    let (done, all) = (environment.completed(), environment.done.len());
    let of = |column| content(environment, column).0;
    let (sum, skill, last) = (of("return"), of("skill"), of("last"));
    let best = if best { ", best" } else { "" };
    format!(
        "{kind}seed {seed} slot {slot}: return {sum}, {done} of {all} done, step {step}, skill {skill}, last {last}{best}"
    )
}
