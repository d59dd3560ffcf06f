//! Text for the user: results on standard output, warnings on standard error.

use std::fmt::{self, Arguments};
use std::io::{ErrorKind, Write};

use bevy::log::tracing::{Event, Subscriber};
use bevy::log::tracing_subscriber::filter::Targets;
use bevy::log::tracing_subscriber::fmt::format::Writer;
use bevy::log::tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use bevy::log::tracing_subscriber::layer::SubscriberExt;
use bevy::log::tracing_subscriber::registry::LookupSpan;
use bevy::log::tracing_subscriber::util::SubscriberInitExt;
use bevy::log::{Level, tracing_subscriber};

use super::Failure;

/// Prints a line to standard output. A reader that has seen enough, as `head` does, is no error.
pub(super) fn print(text: Arguments) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {error}").into()),
        _ => Ok(()),
    }
}

/// From now on, warnings and errors that any part of the program logs appear on standard error, one plain line each.
pub(super) fn show_warnings() {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Otherwise it would report a closed standard error on standard error, and panic.
        .log_internal_errors(false)
        .event_format(Plain);
    // What a window's libraries find missing in a display or a driver, they do without; the window says what matters.
    let quiet = [
        "winit",
        "wgpu",
        "wgpu_core",
        "wgpu_hal",
        "bevy_render",
        "bevy_light",
        "bevy_egui",
        "bevy_winit",
    ];
    let levels = Targets::new()
        .with_default(Level::WARN)
        .with_targets(quiet.map(|target| (target, Level::ERROR)));
    // It fails only where something else listens already, and then nothing is lost.
    let _ = tracing_subscriber::registry().with(lines).with(levels).try_init();
}

/// `warning: what happened`, without time and place.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        to.write_str(if *event.metadata().level() == Level::ERROR {
            "error: "
        } else {
            "warning: "
        })?;
        context.field_format().format_fields(to.by_ref(), event)?;
        writeln!(to)
    }
}
