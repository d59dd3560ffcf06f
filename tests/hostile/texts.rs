//! What is done with a hostile text. The fuzz targets use this file, too.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use apprentice::experiment::Experiment;
use apprentice::files::{self, Alternatives, FileError, FileKind};
use apprentice::scene::Scene;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads bytes as a scene.
pub fn scene(bytes: &[u8]) {
    file::<Scene>(FileKind::Scene, bytes);
}

/// Reads bytes as an experiment, and asks what is wrong with its settings.
pub fn experiment(bytes: &[u8]) {
    if let Some(experiment) = file::<Experiment>(FileKind::Experiment, bytes) {
        experiment.problems();
    }
}

/// Lays lines as overrides over an experiment and over a scene.
pub fn overrides(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // As many as a person would write.
    let lines: Vec<String> = text.lines().take(20).map(str::to_owned).collect();
    for line in &lines {
        match Alternatives::of(line) {
            Ok(found) => assert!(!found.values.is_empty()),
            Err(error) => check(&error, line),
        }
    }
    over::<Experiment>(FileKind::Experiment, "(extends: \"kitchen/spirl_cl\")", &lines);
    over::<Scene>(FileKind::Scene, "(extends: \"maze\")", &lines);
}

fn over<T: DeserializeOwned + Serialize>(kind: FileKind, base: &str, lines: &[String]) {
    match files::load_text::<T>(kind, &place(), base, lines) {
        Ok(loaded) => repeats::<T>(kind, &loaded.resolved_text),
        Err(error) => check(&error, &lines.concat()),
    }
}

/// Reads bytes as a file: a value comes back the same from what is stored of it, and errors have a place. The reading
/// that gathers all faults finds some if and only if the other one does.
fn file<T: DeserializeOwned + Serialize>(kind: FileKind, bytes: &[u8]) -> Option<T> {
    let path = place();
    std::fs::write(&path, bytes).expect("the folder for temporary files can be written");
    let name = path.to_str().expect("temporary files have ordinary names");
    let gathered = files::check::<T>(kind, name, &[]).into_errors();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => {
            assert!(!gathered.is_empty());
            return None;
        }
    };
    gathered.iter().for_each(|error| check(error, text));
    if let Err(error) = files::flatten(&path, text) {
        check(&error, text);
    }
    match files::load_text::<T>(kind, &path, text, &[]) {
        Ok(loaded) => {
            assert!(
                gathered.is_empty(),
                "only one way of reading finds a fault: {gathered:?}"
            );
            repeats::<T>(kind, &loaded.resolved_text);
            Some(loaded.value)
        }
        Err(error) => {
            assert!(!gathered.is_empty(), "only one way of reading finds a fault: {error}");
            check(&error, text);
            None
        }
    }
}

fn repeats<T: DeserializeOwned + Serialize>(kind: FileKind, stored: &str) {
    match files::load_text::<T>(kind, Path::new("stored.ron"), stored, &[]) {
        Ok(again) => assert_eq!(again.resolved_text, stored),
        Err(error) => panic!("what is stored of a value does not read: {error}\n{stored}"),
    }
}

/// An error says where it is and is not endless.
fn check(error: &FileError, text: &str) {
    let message = error.to_string();
    let gives_up = message.starts_with("there are more faults");
    assert!(
        error.location().is_some() || message.starts_with("override `") || gives_up,
        "an error without a place: {message}"
    );
    assert!(
        !error.message().is_empty() && message.len() < 20_000 + 2 * text.len(),
        "{message}"
    );
}

/// A file for this thread alone.
fn place() -> PathBuf {
    thread_local! {
        static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
    }
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a folder for temporary files"));
        folder.path().join("hostile.ron")
    })
}
