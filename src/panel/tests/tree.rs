//! What a screen reader would read, as text to compare with files.

use std::fmt::Write as _;
use std::path::Path;

use bevy_egui::egui::accesskit::{Role, Toggled};
use egui_kittest::kittest::NodeT;
use egui_kittest::{Harness, Node};

/// The accessibility tree in order, a line for every node with a text.
pub(super) fn text<State>(harness: &Harness<'_, State>) -> String {
    let mut text = String::new();
    write(harness.root(), 0, &mut text);
    text
}

fn write(node: Node<'_>, depth: usize, text: &mut String) {
    let mut depth = depth;
    let inner = node.accesskit_node();
    if inner.role() == Role::TextRun {
        return;
    }
    let words: Vec<String> = [inner.label(), inner.value()]
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .collect();
    if !words.is_empty() {
        let state = match inner.toggled() {
            Some(Toggled::True) => " (on)",
            Some(_) => " (off)",
            None => "",
        };
        let disabled = if inner.is_disabled() { " (disabled)" } else { "" };
        let indent = "  ".repeat(depth);
        writeln!(
            text,
            "{indent}{:?}: {}{state}{disabled}",
            inner.role(),
            words.join(" = ")
        )
        .unwrap();
        depth += 1;
    }
    for child in node.children() {
        write(child, depth, text);
    }
}

/// Compares with `tests/window/panels/<name>.txt`; with `APPRENTICE_BLESS=1` the file is written anew.
pub(super) fn compare(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/window/panels");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("APPRENTICE_BLESS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let place = text.lines().zip(expected.lines()).position(|(now, then)| now != then);
    let place = place.unwrap_or_else(|| text.lines().count().min(expected.lines().count()));
    assert!(
        text == expected,
        "{} differs from line {} on: now {:?}, in the file {:?} (APPRENTICE_BLESS=1 writes it anew)",
        path.display(),
        place + 1,
        text.lines().nth(place),
        expected.lines().nth(place),
    );
}
