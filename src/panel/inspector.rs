//! The inside of the selected agent: its episode, task, observation, action and skill.

use bevy::prelude::Entity;
use bevy_egui::egui::{CollapsingHeader, Color32, DragValue, Id, Mesh, Rect, RichText, ScrollArea, Sense, Ui, vec2};
use egui_plot::{Line, LineStyle, Plot, PlotPoints, VLine};

use super::bars::Row;
use super::style::{ACCENT, GOOD, GRID, NOTABLE, TEXT, WEAK, counted, missing, named, of_seed, on_axis, series, short};
use super::{Show, observation, skill};
use crate::scene::{CompiledControl, CompiledElement, CompiledScene, MotorKind};
use crate::view::state::{Ask, ViewState};
use crate::watch::{AgentView, EnvironmentView, Request, StepView};

/// Draws the panel.
pub fn show(ui: &mut Ui, show: &Show<'_>, view: &mut ViewState, asks: &mut Vec<Ask>) {
    let watched = show.watched;
    let Some(selected) = view.selected else {
        missing(ui, "Click an agent in the list or in the picture to look inside it.");
        return;
    };
    let environment = watched
        .index_of(selected)
        .and_then(|index| watched.current.environments.get(index));
    let Some(environment) = environment else {
        missing(
            ui,
            "This environment is gone: evaluation episodes come and go. Click another agent.",
        );
        return;
    };
    let inspected = watched.current.inspected.as_ref();
    let agent = inspected.filter(|agent| agent.environment == selected);
    ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
        head(ui, environment);
        restart(ui, environment, asks);
        let Some(agent) = agent else {
            missing(ui, "Nothing from the inside yet: it comes with the next tick.");
            return;
        };
        let scene = &*watched.subject.scene;
        section(ui, "Task", true, |ui| elements(ui, scene, environment, agent));
        section(ui, "Skill", true, |ui| match &agent.skill {
            Some(chosen) => skill::show(ui, chosen),
            None => missing(
                ui,
                "No skill: nobody chooses skills here, as when demonstrations are played.",
            ),
        });
        if let Some(pixels) = &scene.scene().observation.pixels
            && !agent.pixels.is_empty()
        {
            let size = pixels.size as usize;
            section(ui, "Pictures", true, |ui| pictures(ui, &agent.pixels, size));
        }
        section(ui, "Action", true, |ui| action(ui, scene, &agent.action));
        section(ui, "Episode", true, |ui| episode(ui, scene, &agent.history));
        section(ui, "Observation", false, |ui| {
            observation::show(ui, scene, &agent.observation)
        });
    });
}

fn section(ui: &mut Ui, title: &str, open: bool, contents: impl FnOnce(&mut Ui)) {
    ui.add_space(2.0);
    let header = CollapsingHeader::new(RichText::new(title).strong())
        .id_salt(title)
        .default_open(open);
    header.show_unindented(ui, contents);
}

/// The pictures an agent sees, `[3 * frames, size, size]`, side by side, the newest one at the right. They are drawn pixel
/// by pixel: textures that change in every frame come too late to be seen.
fn pictures(ui: &mut Ui, pixels: &[u8], size: usize) {
    let area = size * size;
    let frames = pixels.len() / (3 * area).max(1);
    let gap = ui.spacing().item_spacing.x;
    let width = (ui.available_width() + gap) / frames.max(1) as f32 - gap;
    ui.horizontal(|ui| {
        for frame in pixels.chunks_exact((3 * area).max(1)) {
            let side = width.clamp(32.0, 150.0);
            let (rect, response) = ui.allocate_exact_size(vec2(side, side), Sense::hover());
            let (red, others) = frame.split_at(area);
            let (green, blue) = others.split_at(area);
            let step = side / size as f32;
            let mut mesh = Mesh::default();
            for (at, ((red, green), blue)) in red.iter().zip(green).zip(blue).enumerate() {
                let corner = rect.min + step * vec2((at % size) as f32, (at / size) as f32);
                let colour = Color32::from_rgb(*red, *green, *blue);
                mesh.add_colored_rect(Rect::from_min_size(corner, vec2(step, step)), colour);
            }
            ui.painter().add(mesh);
            response.on_hover_text("What the agent sees. Oldest first; the newest picture is at the right.");
        }
    });
}

fn head(ui: &mut Ui, environment: &EnvironmentView) {
    ui.horizontal(|ui| {
        let EnvironmentView { seed, slot, .. } = environment;
        ui.label(RichText::new("⏺").color(of_seed(*seed)));
        ui.label(RichText::new(format!("Seed {seed}, slot {slot}")).heading().color(TEXT));
        if environment.evaluates {
            let explained = "An evaluation episode: the policy acts without exploring.";
            ui.label(RichText::new("evaluation").color(NOTABLE))
                .on_hover_text(explained);
        }
    });
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 12.0;
        let explained = "Number of the episode. With seed and slot it decides about the noise.";
        named(ui, "episode", &counted(environment.episode), explained);
        let explained = "Control steps of the episode so far.";
        named(ui, "step", &environment.step.to_string(), explained);
        let explained = "Sum of the rewards of the episode so far.";
        named(ui, "return", &short(environment.return_), explained);
        named(ui, "reward", &short(environment.reward), "Reward of the last step.");
        if environment.faults > 0 {
            let explained = "Episodes that ended here because the physics could not be trusted.";
            named(ui, "faults", &counted(environment.faults), explained);
        }
    });
}

/// The number typed last, and the environment it was typed for.
type Typed = Option<(Entity, u64)>;

fn restart(ui: &mut Ui, environment: &EnvironmentView, asks: &mut Vec<Ask>) {
    let place = Id::new("episode to restart");
    let typed = ui.data(|data| data.get_temp::<Typed>(place)).flatten();
    let typed = typed.filter(|(typed_for, _)| *typed_for == environment.environment);
    let mut episode = typed.map_or(environment.episode, |(_, episode)| episode);
    ui.horizontal(|ui| {
        let explained = "End the running episode without recording it, and begin the one with this number. Training goes \
                         on differently afterwards than without it.";
        let button = ui.button("⟲ Restart");
        if button.on_hover_text(explained).clicked() {
            asks.push(Ask::World(Request::Restart {
                environment: environment.environment,
                episode: Some(episode),
            }));
        }
        let field = ui.add(DragValue::new(&mut episode).speed(0.1).prefix("as episode "));
        if field.on_hover_text("The episode to begin: drag, or click to type.").changed() {
            let typed: Typed = Some((environment.environment, episode));
            ui.data_mut(|data| data.insert_temp(place, typed));
        }
    });
}

/// The elements of the scene: those of the task in its order, then the others.
fn order(scene: &CompiledScene) -> impl Iterator<Item = (usize, &CompiledElement)> {
    let others = (0..scene.elements().len()).filter(|index| !scene.task().contains(index));
    let all = scene.task().iter().copied().chain(others);
    all.filter_map(|index| Some((index, scene.elements().get(index)?)))
}

fn elements(ui: &mut Ui, scene: &CompiledScene, environment: &EnvironmentView, agent: &AgentView) {
    if scene.elements().is_empty() {
        missing(ui, "The scene has no elements to bring to a goal.");
        return;
    }
    for (index, element) in order(scene) {
        let steps = agent
            .history
            .iter()
            .filter_map(|step| step.distances.get(index).copied());
        let farthest = steps.filter(|distance| distance.is_finite()).fold(0.0, f32::max);
        let distance = agent.history.last().and_then(|step| step.distances.get(index)).copied();
        let (distance, threshold) = (distance.unwrap_or(f32::NAN), element.threshold as f32);
        let place = scene.task().iter().position(|rewarded| *rewarded == index);
        let counted = place
            .and_then(|place| environment.done.get(place))
            .is_some_and(|done| *done);
        let reached = agent.reached.get(index).is_some_and(|reached| *reached);
        let name = if counted || reached {
            format!("✔ {}", element.name)
        } else {
            element.name.clone()
        };
        let number = format!("{} / {}", short(distance), short(threshold));
        let row = Row {
            colour: if counted {
                GOOD
            } else if place.is_some() {
                TEXT
            } else {
                WEAK
            },
            number_width: 96.0,
            ..Row::new(
                &name,
                &number,
                [0.0, farthest.max(2.0 * threshold).max(f32::MIN_POSITIVE)],
            )
        };
        let part = match (counted, place) {
            (true, _) => "done",
            (false, Some(_)) => "to be done",
            (false, None) => "not rewarded",
        };
        let line = format!(
            "{name}: distance {} of threshold {}, {part}",
            short(distance),
            short(threshold)
        );
        let response = row.show(ui, Some(&line), |painter, axis| {
            axis.fill(painter, 0.0, distance, 1.0, series(index));
            axis.tick(painter, threshold, 1.5, Color32::WHITE);
        });
        response.on_hover_ui(|ui| {
            ui.label(&line);
            ui.label(match (&element.when, element.unit()) {
                (None, unit) => {
                    format!("Distance of its joints to the goal ({unit}). Left of the tick it counts as reached.")
                }
                (Some(_), "") => "Left of the tick it counts as reached.".into(),
                (Some(_), unit) => format!("How far it is from it ({unit}). Left of the tick it counts as reached."),
            });
        });
    }
}

fn action(ui: &mut Ui, scene: &CompiledScene, action: &[f32]) {
    let names: Vec<&str> = scene.actions().iter().map(|channel| channel.name.as_str()).collect();
    let common = observation::common_prefix(&names);
    for (index, value) in action.iter().enumerate() {
        let name = names.get(index).map_or("", |name| name.get(common..).unwrap_or(name));
        let number = short(*value);
        let response = Row::new(name, &number, [-1.0, 1.0]).show(ui, None, |painter, axis| {
            axis.fill(painter, 0.0, *value, 1.0, ACCENT);
            axis.tick(painter, 0.0, 1.0, WEAK);
        });
        response.on_hover_ui(|ui| {
            ui.label(*names.get(index).unwrap_or(&""));
            ui.label(effect(scene, index));
        });
    }
}

/// What an action of 1 does, in words.
fn effect(scene: &CompiledScene, index: usize) -> String {
    match scene.control() {
        CompiledControl::Servos { speed, servos } => {
            let channel = servos.get(index).and_then(|servo| scene.channels().get(servo.channel));
            let unit = channel.map_or("", |channel| channel.unit);
            format!("An action of 1 moves the joint's target at {} {unit}/s.", short(*speed))
        }
        CompiledControl::Motors { motors, .. } => match motors.get(index) {
            Some(motor) if motor.kind == MotorKind::Gripper => "Above 0.5 opens, otherwise closes.".into(),
            Some(motor) => format!("An action of 1 sets the actuator's control to {}.", short(motor.scale)),
            None => String::new(),
        },
        _ => scene.actions().get(index).map_or_else(String::new, |channel| {
            let (low, high) = (short(channel.low as f32), short(channel.high as f32));
            format!(
                "From -1 to 1: {}, from {low} to {high} {}.",
                channel.meaning, channel.unit
            )
        }),
    }
}

fn episode(ui: &mut Ui, scene: &CompiledScene, history: &[StepView]) {
    if history.is_empty() {
        missing(ui, "No step yet since the agent was picked.");
        return;
    }
    let of = |value: &dyn Fn(&StepView) -> Option<f32>| -> Vec<[f64; 2]> {
        let points = history.iter().filter_map(|step| Some((step.step, value(step)?)));
        points
            .filter(|(_, y)| y.is_finite())
            .map(|(x, y)| [f64::from(x), f64::from(y)])
            .collect()
    };
    let decided: Vec<f64> = history
        .iter()
        .filter(|step| step.decides)
        .map(|step| f64::from(step.step))
        .collect();
    let reward = vec![("reward".to_owned(), GOOD, of(&|step| Some(step.reward)))];
    curve(ui, "Reward over control steps", 62.0, &decided, reward);
    let distances = scene.elements().iter().enumerate().map(|(index, element)| {
        let points = of(&|step| step.distances.get(index).copied());
        (element.name.clone(), series(index), points)
    });
    if !scene.elements().is_empty() {
        curve(
            ui,
            "Distances to the goals (rad, m) over control steps",
            110.0,
            &decided,
            distances.collect(),
        );
    }
    let divergence = of(&|step| step.divergence);
    if !divergence.is_empty() {
        let lines = vec![("divergence".to_owned(), NOTABLE, divergence)];
        curve(
            ui,
            "Divergence of the chosen skills (nats) over control steps",
            62.0,
            &decided,
            lines,
        );
    }
}

fn curve(ui: &mut Ui, title: &str, height: f32, decided: &[f64], lines: Vec<(String, Color32, Vec<[f64; 2]>)>) {
    let explained = "Faint vertical lines: a new skill begins. Only steps since the agent was picked are known.";
    ui.label(RichText::new(title).small().color(WEAK))
        .on_hover_text(explained);
    let plot = Plot::new(title)
        .height(height)
        .grid_color(GRID)
        .include_y(0.0)
        .y_axis_min_width(28.0);
    let plot = plot
        .allow_zoom(false)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false);
    let plot = plot
        .y_axis_formatter(|mark, _| on_axis(mark.value))
        .x_axis_formatter(|mark, _| on_axis(mark.value));
    plot.show(ui, |plot| {
        for step in decided {
            let line = VLine::new("new skill", *step).color(Color32::from_gray(60)).width(1.0);
            plot.vline(line.style(LineStyle::Solid).allow_hover(false));
        }
        for (name, colour, points) in lines {
            plot.line(Line::new(name, PlotPoints::from(points)).color(colour).width(1.5));
        }
    });
}
