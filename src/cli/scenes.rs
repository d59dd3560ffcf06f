//! `apprentice scenes`: the scenes there are, what is wrong with them, and what they consist of.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Asked, Failure, print};
use crate::files::{self, FileKind};
use crate::run::{self, SceneSheet};
use crate::scene::{CompiledScene, Delay, LARGEST_PICTURE, Models, Scene};

/// List, check and show scenes.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  apprentice scenes list
  apprentice scenes check scenes/mine.ron            everything that is wrong, at once
  apprentice scenes check kitchen episode.steps=100
  apprentice scenes show maze --image maze.png
  apprentice scenes show scenes/mine.ron --ron       with every default, and where each value comes from
  apprentice watch scenes/mine.ron                   in a window that follows the file")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    List(List),
    Check(Check),
    Show(Show),
}

/// List the scenes there are: numbers of an observation and of an action, who demonstrates, what it is.
#[derive(clap::Args, Debug)]
struct List {}

/// Say everything that is wrong with scenes, at once, and what is legal but probably not meant.
///
/// Ends with exit code 1 if anything is wrong. Without a name all scenes there are are checked.
#[derive(clap::Args, Debug)]
struct Check {
    /// Scenes, by their names in scenes/ or paths, and overrides such as `episode.steps=100`.
    #[arg(value_name = "SCENE|PATH=VALUE")]
    what: Vec<String>,
}

/// Show what a scene consists of: physics, observation, actions, elements, rewards, cameras.
#[derive(clap::Args, Debug)]
struct Show {
    /// Scene: a name in scenes/ or a path.
    scene: String,
    /// Overrides such as `task.order=Listed`.
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Print the whole scene as RON instead, with every default, and where each value comes from.
    #[arg(long, conflicts_with = "json")]
    ron: bool,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Draw the scene at the start of an episode into this file.
    #[arg(long, value_name = "FILE.png")]
    image: Option<PathBuf>,
    /// Camera of the picture; `agent` is what agents see [default: the first one].
    #[arg(long, value_name = "NAME", requires = "image")]
    camera: Option<String>,
    /// Size of the picture [default: the camera's].
    #[arg(long, value_name = "WxH", requires = "image", value_parser = size)]
    size: Option<(u32, u32)>,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| text.parse().ok().filter(|side| (1..=LARGEST_PICTURE).contains(side));
    let sides = text
        .split_once(['x', 'X'])
        .and_then(|(width, height)| Some((side(width)?, side(height)?)));
    sides.ok_or_else(|| format!("expected width x height in pixels, such as 640x480, each 1 to {LARGEST_PICTURE}"))
}

pub(super) fn run(arguments: &Arguments, threads: usize) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::List(_) => list(),
        Command::Check(check) => check.run(),
        Command::Show(show) => show.run(threads),
    }
}

fn list() -> Result<ExitCode, Failure> {
    let mut models = Models::default();
    print(format_args!(
        "{:<28} {:>8} {:>7}  {:<12} description",
        "scene", "observed", "actions", "demonstrator"
    ))?;
    for (name, path) in files::list(FileKind::Scene, &files::roots()) {
        let loaded = Scene::load_with(&path.display().to_string(), &[]);
        // A file that cannot be used is listed all the same.
        let Ok(Scene {
            description,
            demonstrator,
            ..
        }) = loaded.as_ref().map(|loaded| &loaded.value)
        else {
            print(format_args!(
                "{name:<28} {:>8} {:>7}  {:<12} cannot be read; `apprentice scenes check {name}`",
                "-", "-", "-"
            ))?;
            continue;
        };
        let compiled = loaded
            .as_ref()
            .ok()
            .and_then(|loaded| models.compile(&loaded.value).ok());
        let [observed, actions] = match &compiled {
            Some(scene) => [scene.observation_len().to_string(), scene.action_len().to_string()],
            None => ["-".to_owned(), "-".to_owned()],
        };
        let demonstrator = demonstrator.as_ref().map_or_else(|| "-".to_owned(), run::first_word);
        let broken = if compiled.is_some() {
            ""
        } else {
            " (cannot be used; `apprentice scenes check` says why)"
        };
        print(format_args!(
            "{name:<28} {observed:>8} {actions:>7}  {demonstrator:<12} {description}{broken}"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Check {
    fn run(&self) -> Result<ExitCode, Failure> {
        let Asked { names, overrides, .. } = Asked::of(&self.what, FileKind::Scene);
        let (mut errors, mut faulty, mut told) = (0, 0, Vec::new());
        for name in &names {
            let found = run::check_scene(name, &overrides);
            for error in &found.errors {
                print(format_args!("error: {error}"))?;
            }
            for warning in found.warnings {
                // Scenes that extend one another share what is strange about the one.
                if !told.contains(&warning) {
                    print(format_args!("warning: {warning}"))?;
                    told.push(warning);
                }
            }
            errors += found.errors.len();
            faulty += usize::from(!found.errors.is_empty());
        }
        let count = names.len();
        if errors > 0 {
            return Err(format!(
                "{} in {faulty} of {}",
                counted(errors, "error"),
                counted(count, "scene")
            )
            .into());
        }
        let fine = match count {
            1 => "1 scene is fine".to_owned(),
            count => format!("{count} scenes are fine"),
        };
        match told.len() {
            0 => print(format_args!("{fine}"))?,
            warnings => print(format_args!("{fine}, with {}", counted(warnings, "warning")))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

impl Show {
    fn run(&self, threads: usize) -> Result<ExitCode, Failure> {
        if let Some(path) = &self.image
            && !path
                .extension()
                .is_some_and(|ending| ending.eq_ignore_ascii_case("png"))
        {
            return Err(format!(
                "{}: pictures are PNG; expected a name that ends in .png",
                path.display()
            )
            .into());
        }
        let loaded = Scene::load_with(&self.scene, &self.overrides)?;
        let scene = CompiledScene::load(&self.scene, &self.overrides)?;
        // Before anything is printed: if it cannot be drawn or written, that is all there is to say.
        let drawn = match &self.image {
            None => None,
            Some(path) => {
                let picture = run::picture_of(&scene, self.camera.as_deref(), self.size, threads)?;
                picture.write(path)?;
                Some((path, picture))
            }
        };
        if self.ron {
            print(format_args!("{}", loaded.annotated()?.trim_end()))?;
        } else {
            let sheet = SceneSheet::of(&self.scene, &loaded, &scene)?;
            if self.json {
                print(format_args!("{}", serde_json::to_string_pretty(&sheet)?))?;
            } else {
                print(format_args!("{}", text(&sheet).trim_end()))?;
            }
        }
        if let Some((path, picture)) = drawn {
            let said = format!(
                "{}: {} x {} pixels{}",
                path.display(),
                picture.width,
                picture.height,
                picture.note
            );
            // Beside RON and JSON it would be in the way of programs that read them.
            if self.ron || self.json {
                use std::io::Write as _;
                // Nothing better can be done if standard error is closed.
                let _ = writeln!(std::io::stderr(), "{said}");
            } else {
                print(format_args!("\n{said}"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A number as short as it is exact enough to be read.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let magnitude = value.abs();
    if !(1e-4..1e7).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let digits = (4.0 - magnitude.log10().floor()).clamp(0.0, 8.0) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Rows with columns as wide as they need to be; numbers stand on the right.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(titles: &[&str]) -> Self {
        Self {
            rows: vec![titles.iter().map(|title| (*title).to_owned()).collect()],
        }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Writes the table, unless it has titles only.
    fn write(self, title: &str, out: &mut String) {
        let Self { rows } = self;
        let [titles, rest @ ..] = rows.as_slice() else { return };
        if rest.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{title}");
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..titles.len())
            .map(|column| {
                rows.iter()
                    .map(|row| cell(row, column).chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let numbers: Vec<bool> = (0..titles.len())
            .map(|column| {
                rest.iter()
                    .all(|row| cell(row, column).starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == ' '))
            })
            .collect();
        for row in &rows {
            let mut line = String::from(" ");
            for (column, (&width, &right)) in widths.iter().zip(&numbers).enumerate() {
                let cell = cell(row, column);
                let _ = match right {
                    true => write!(line, " {cell:>width$} "),
                    false => write!(line, " {cell:<width$} "),
                };
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
}

fn list_of(values: &[f64]) -> String {
    let shown: Vec<String> = values.iter().map(|value| number(*value)).collect();
    shown.join(", ")
}

/// A delay in control steps and in seconds.
fn late(delay: Delay, period: f64) -> String {
    let seconds = |steps: u32| number(f64::from(steps) * period);
    match delay {
        Delay::Steps(steps) => format!("{}, {} s", counted(steps as usize, "control step"), seconds(steps)),
        Delay::Uniform(shortest, longest) => format!(
            "{shortest} to {}, {} to {} s, drawn for every episode",
            counted(longest as usize, "control step"),
            seconds(shortest),
            seconds(longest)
        ),
    }
}

/// The sheet as tables.
fn text(sheet: &SceneSheet) -> String {
    let mut out = String::new();
    let files: Vec<String> = sheet.files.iter().map(|path| path.display().to_string()).collect();
    let _ = writeln!(
        out,
        "{}: {}\n{}",
        sheet.name,
        sheet.description,
        files.join(" extends ")
    );
    let physics = &sheet.physics;
    let _ = writeln!(
        out,
        "\nphysics\n  {}\n  {}, {}, {} degrees of freedom, {}, {} at the start\n  time step {} s, {} to a control step of {} s; episodes of {} control steps, {} s",
        physics.model,
        counted_as(physics.bodies, "body", "bodies"),
        counted(physics.joints, "joint"),
        physics.degrees_of_freedom,
        counted(physics.actuators, "actuator"),
        counted(physics.contacts_at_start, "contact"),
        number(physics.time_step),
        physics.frame_skip,
        number(physics.control_period),
        sheet.episode_steps,
        number(sheet.episode_seconds),
    );
    for (what, delay) in [
        ("from an action to its effect", sheet.delays.action),
        ("from a state to its observation", sheet.delays.observation),
    ] {
        if delay.longest() > 0 {
            let _ = writeln!(out, "  delay {what}: {}", late(delay, physics.control_period));
        }
    }
    let mut table = Table::new(&["index", "name", "term", "unit", "noise", "start"]);
    for observed in &sheet.observation {
        let noise = if observed.noise == 0.0 {
            "-".to_owned()
        } else {
            number(observed.noise)
        };
        let unit = match observed.scale {
            1.0 => observed.unit.clone(),
            scale => format!("{} x {}", number(scale), observed.unit),
        };
        table.row([
            observed.index.to_string(),
            observed.name.clone(),
            observed.term.clone(),
            unit,
            noise,
            number(observed.start),
        ]);
    }
    let clip = sheet.observation_clip.map_or_else(String::new, |(low, high)| {
        format!(", clipped to {} to {}", number(low), number(high))
    });
    table.write(
        &format!("observation: {}{clip}", counted(sheet.observation.len(), "number")),
        &mut out,
    );
    if let Some(pictures) = &sheet.pictures {
        let _ = writeln!(
            out,
            "\npictures that agents see: {} of {} x {} pixels\n  {}",
            pictures.frames,
            pictures.size,
            pictures.size,
            run::in_one_line(&pictures.eye)
        );
    }
    let mut table = Table::new(&["index", "name", "-1 is", "1 is", "unit", "meaning"]);
    for action in &sheet.actions {
        table.row([
            action.index.to_string(),
            action.name.clone(),
            number(action.low),
            number(action.high),
            action.unit.clone(),
            action.meaning.clone(),
        ]);
    }
    table.write(
        &format!("actions: {}, each -1 to 1", counted(sheet.actions.len(), "number")),
        &mut out,
    );
    task(sheet, &mut out);
    let mut table = Table::new(&[
        "name",
        "distance",
        "azimuth",
        "elevation",
        "width",
        "height",
        "looks at",
    ]);
    for camera in &sheet.cameras {
        let (x, y, z) = camera.look_at;
        table.row([
            camera.name.clone(),
            number(camera.distance),
            number(camera.azimuth),
            number(camera.elevation),
            camera.width.to_string(),
            camera.height.to_string(),
            list_of(&[x, y, z]),
        ]);
    }
    table.write("cameras", &mut out);
    let demonstrator = sheet.demonstrator.as_deref().unwrap_or("none");
    let _ = writeln!(out, "\ndemonstrator: {demonstrator}");
    out
}

fn task(sheet: &SceneSheet, out: &mut String) {
    let mut table = Table::new(&["element", "threshold", "distance at start", "rewarded", "goal"]);
    for element in &sheet.elements {
        let rewarded = match (element.in_task, element.rewarded) {
            (true, _) => "once",
            (false, true) => "by a term",
            (false, false) => "no",
        };
        table.row([
            element.name.clone(),
            // A condition says itself when it holds.
            match element.when {
                None => number(element.threshold),
                Some(_) => String::new(),
            },
            number(element.distance_at_start),
            rewarded.to_owned(),
            element.when.clone().unwrap_or_else(|| list_of(&element.goal)),
        ]);
    }
    let title = format!("elements: order {:?}, judged on {:?}", sheet.order, sheet.judged_on);
    table.write(&title, out);
    if !sheet.rewards.is_empty() {
        let _ = writeln!(out, "\nfurther terms of the reward");
        for term in &sheet.rewards {
            let _ = writeln!(out, "  {term}");
        }
    }
    if !sheet.figures.is_empty() {
        let _ = writeln!(out, "  figures: {}", sheet.figures.join(", "));
    }
    if !sheet.success.is_empty() {
        let _ = writeln!(out, "\ndone with: {}", sheet.success.join(", "));
    }
    for (title, lines) in [
        ("fails when one of these holds", &sheet.terminate),
        ("drawn for every episode", &sheet.drawn),
    ] {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n{title}");
        }
        for line in lines {
            let _ = writeln!(out, "  {line}");
        }
    }
}

fn counted_as(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn sizes_are_two_numbers() {
        assert_eq!(size("640x480"), Ok((640, 480)));
        for wrong in ["", "640", "0x4", "4x-1", "9000x1", "4x4x4"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, shown) in [
            (0.0, "0"),
            (1.0, "1"),
            (-0.75, "-0.75"),
            (0.148_388_023, "0.14839"),
            (-2.476_857_6, "-2.4769"),
            (12_345.678, "12346"),
            (1.04e-5, "1.040e-5"),
            (280.0, "280"),
        ] {
            assert_eq!(number(value), shown);
        }
    }

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let mut table = Table::new(&["name", "value"]);
        table.row(["a long name".into(), "1".into()]);
        table.row(["b".into(), "-12".into()]);
        let mut out = String::new();
        table.write("title", &mut out);
        assert_eq!(
            out,
            "\ntitle\n  name         value\n  a long name      1\n  b              -12\n"
        );
        let mut empty = String::new();
        Table::new(&["name"]).write("title", &mut empty);
        assert_eq!(empty, "");
    }
}
