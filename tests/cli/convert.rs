//! Demonstrations from one layout into another.

use super::program::{Place, demonstrations, names};

/// What `inspect` says of the numbers.
fn numbers(place: &Place, path: &str) -> String {
    let report = place.succeeds(&format!("inspect {path}"));
    report[report.find("\nLength").unwrap()..].to_owned()
}

#[test]
fn demonstrations_go_from_layout_to_layout() {
    let place = Place::new();
    let collected = demonstrations().display().to_string();
    let expected = numbers(&place, &collected);
    let mut from = collected.as_str();
    for (to, layout) in [
        ("demos-v0", "minari"),
        ("demos", "rollouts"),
        ("demos.hdf5", "d4rl"),
        ("new/again-v1", "minari"),
    ] {
        let said = place.succeeds(&format!("convert {from} {to} --layout {layout}"));
        assert!(said.starts_with(&format!("{to}: ")), "{said}");
        assert!(
            said.contains(" demonstrations, ") && said.lines().count() == 1,
            "{said}"
        );
        // The observation after the last step has no place outside of Minari.
        let found = numbers(&place, to);
        let found = found.split("\nWorth a look").next().unwrap();
        assert!(expected.starts_with(found), "{to}: {found}\n{expected}");
        from = to;
    }
    let description = |path: &str| {
        let dataset = apprentice::data::Dataset::read(path).unwrap();
        ["scene", "seed", "elements", "demonstrator"].map(|name| dataset.attributes().get(name).cloned())
    };
    let last = place.path("new/again-v1").display().to_string();
    assert_eq!(description(&last), description(&collected));
    assert!(description(&last).iter().all(Option::is_some));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let place = Place::new();
    let from = demonstrations().display().to_string();
    place.write("there.hdf5", "precious");
    place.write("full/notes.txt", "precious");
    let convert = |rest: &str| format!("convert {from} {rest}");
    place.fails(
        &convert("there.hdf5 --layout d4rl"),
        &["there.hdf5: is there already", "--force"],
    );
    place.fails(
        &convert("full/ --layout d4rl --force"),
        &["expected the name of a file"],
    );
    place.fails(
        &convert("full --layout rollouts --force"),
        &["`notes.txt`", "name another folder"],
    );
    place.fails(&convert("full --layout minari --force"), &["`full-v0`"]);
    place.fails(
        "convert nowhere.hdf5 new.hdf5 --layout d4rl",
        &["nowhere.hdf5: there is no such file"],
    );
    assert_eq!(place.read("there.hdf5"), "precious");
    assert_eq!(place.read("full/notes.txt"), "precious");
    assert!(!place.path("new.hdf5").exists());

    place.succeeds(&convert("there.hdf5 --layout d4rl --force"));
    // Also in its own place.
    place.succeeds("convert there.hdf5 there.hdf5 --layout d4rl --force");
    assert_eq!(numbers(&place, "there.hdf5"), numbers(&place, &from));

    // A disk that is full leaves nothing behind.
    let files = || {
        let mut names = names(&place.path(""));
        names.retain(|name| !name.starts_with(".logs"));
        names
    };
    let before = files();
    let ran = place.run_with_small_files(8, &convert("small-v0 --layout minari"));
    ran.fails_with("a full disk", &["small-v0: cannot be written"]);
    assert_eq!(files(), before);
}

#[test]
fn the_help_has_examples() {
    let help = Place::new().succeeds("convert --help");
    for part in ["--layout minari", "--force", "d4rl", "rollouts"] {
        assert!(help.contains(part), "{help}");
    }
}
