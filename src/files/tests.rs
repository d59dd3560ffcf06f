//! Tests of the whole module through its public functions.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Scene {
    title: String,
    task: Task,
    learner: Learner,
    order: Order,
    joints: BTreeMap<String, Range>,
    seeds: Vec<u64>,
    start: [f32; 3],
    limit: Option<Range>,
    depth: f64,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            title: "untitled".to_owned(),
            task: Task::default(),
            learner: Learner::Random,
            order: Order::Any,
            joints: BTreeMap::new(),
            seeds: vec![0],
            start: [0.0; 3],
            limit: None,
            depth: f64::INFINITY,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Task {
    elements: Vec<Element>,
    horizon: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Element {
    name: String,
    threshold: f32,
    #[serde(default)]
    goal: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Range(f32, f32);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Order {
    Any,
    Fixed,
    None,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Learner {
    Random,
    Sac(Sac),
    Planner { horizon: u32, elites: u32 },
    Mixed(f32, f32),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sac {
    discount: f32,
    temperature: Option<f32>,
}

impl Default for Sac {
    fn default() -> Self {
        Self {
            discount: 0.99,
            temperature: Some(0.1),
        }
    }
}

fn scene(text: &str, overrides: &[&str]) -> Result<Scene, FileError> {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    load_text(FileKind::Scene, Path::new("s.ron"), text, &overrides).map(|loaded| loaded.value)
}

fn fault(text: &str, overrides: &[&str]) -> String {
    scene(text, overrides).expect_err("this text has a fault").to_string()
}

#[test]
fn all_spellings_are_read() {
    let text = r##"#![enable(implicit_some)]
// A comment, /* nested */ too.
Scene(
    title: "a \"b\"\n\u{e9}\x41\
        c", /* out /* in */ */
    task: (elements: [(name: r#"x"y"#, threshold: 3), Element(name: "z", threshold: 0.5, goal: [1, -2.5e-1,])]),
    learner: Sac(temperature: None),
    order: None,
    joints: {"elbow": (-1, 1.), "wrist": Range(0x10, 1_000)},
    seeds: [1e3, 18446744073709551615],
    start: (0, .5, inf),
    limit: (0, 1),
    depth: -inf,
)"##;
    let read = scene(text, &[]).unwrap();
    assert_eq!(read.title, "a \"b\"\néAc");
    assert_eq!(
        read.task.elements[0],
        Element {
            name: "x\"y".into(),
            threshold: 3.0,
            goal: vec![]
        }
    );
    assert_eq!(read.task.elements[1].goal, [1.0, -0.25]);
    assert_eq!(
        read.learner,
        Learner::Sac(Sac {
            temperature: None,
            ..Sac::default()
        })
    );
    assert_eq!(read.order, Order::None);
    assert_eq!(read.joints["wrist"], Range(16.0, 1000.0));
    assert_eq!(read.seeds, [1000, u64::MAX]);
    assert_eq!(read.start, [0.0, 0.5, f32::INFINITY]);
    assert_eq!(read.limit, Some(Range(0.0, 1.0)));
    assert_eq!(read.depth, f64::NEG_INFINITY);
    assert_eq!(
        scene("(learner: Sac)", &[]).unwrap().learner,
        Learner::Sac(Sac::default())
    );
    assert_eq!(
        scene("(learner: Sac((discount: 0.5)))", &[]),
        scene("(learner: Sac(discount: 0.5))", &[])
    );
    assert_eq!(scene("(limit: Some((1, 2)))", &[]), scene("(limit: Range(1, 2))", &[]));
    assert_eq!(scene("()", &[]).unwrap(), Scene::default());
}

#[test]
fn faults_are_located_and_explained() {
    let text = "(\n    task: (\n        elements: [(name: \"kettle\", theshold: 0.3)],\n    ),\n)";
    assert_eq!(
        fault(text, &[]),
        "s.ron:3:37: unknown field `theshold` in `Element`; did you mean `threshold`? (fields: name, threshold, goal)\n\
         3 |         elements: [(name: \"kettle\", theshold: 0.3)],\n  \
           |                                     ^^^^^^^^"
    );
    for (text, message) in [
        // Types.
        (
            "(depth: \"deep\")",
            "s.ron:1:9: `depth`: expected a number, found the string \"deep\"",
        ),
        (
            "(title: kitchen)",
            "s.ron:1:9: `title`: expected a string; write \"kitchen\" with quotes, found the name",
        ),
        (
            "(seeds: (1, 2))",
            "s.ron:1:9: `seeds`: expected a list `[...]`, found a tuple",
        ),
        (
            "(seeds: [1, -2])",
            "s.ron:1:13: `seeds`: expected a whole number that is not negative, found the number -2",
        ),
        (
            "(seeds: [0.5])",
            "s.ron:1:10: `seeds`: expected a whole number, zero or more, found the number 0.5",
        ),
        (
            "(task: (horizon: 5000000000))",
            "s.ron:1:18: `horizon`: expected a whole number up to 4294967295, found the number 5000000000",
        ),
        (
            "(start: (1, 2))",
            "s.ron:1:9: `start`: expected 3 values `(...)`, found 2 values",
        ),
        (
            "(start: (1, 2, 3, 4))",
            "s.ron:1:19: `start`: expected 3 values `(...)`, found 4 values",
        ),
        (
            "(task: [])",
            "s.ron:1:8: `task`: expected `Task`, written `(elements: ..., ...)`, found a list",
        ),
        (
            "(task: Tusk(horizon: 1))",
            "s.ron:1:8: `task`: expected `Task`, found `Tusk(...)`",
        ),
        (
            "(start: (1e60, 0, 0))",
            "s.ron:1:10: `start`: expected a 32-bit floating-point number, found the number 1e60",
        ),
        ("3", "s.ron:1:1: expected `Scene`"),
        // Names.
        (
            "(oder: Any)",
            "s.ron:1:2: unknown field `oder` in `Scene`; did you mean `order`? (fields: title, task,",
        ),
        (
            "(task: (horizons: 3))",
            "s.ron:1:9: unknown field `horizons` in `Task`; did you mean `horizon`?",
        ),
        (
            "(order: any)",
            "s.ron:1:9: unknown variant `any` of `Order`; did you mean `Any`? (one of: Any, Fixed, None)",
        ),
        (
            "(order: \"Any\")",
            "s.ron:1:9: `order`: expected a variant of `Order` (one of: Any, Fixed, None), without",
        ),
        (
            "(order: Any(1))",
            "s.ron:1:9: `order`: expected `Any` alone: it holds nothing, found `Any(...)`",
        ),
        (
            "(learner: Planner(horizon: 3))",
            "s.ron:1:11: missing field `elites` in `Planner`",
        ),
        (
            "(learner: Planner(horizn: 3))",
            "s.ron:1:19: unknown field `horizn` in `Planner`; did you mean `horizon`?",
        ),
        (
            "(learner: Sac(discnt: 3))",
            "s.ron:1:15: unknown field `discnt` in `Sac`; did you mean `discount`?",
        ),
        (
            "(learner: Mixed(1))",
            "s.ron:1:11: `learner`: expected tuple variant Learner::Mixed with 2 elements, found 1",
        ),
        (
            "(task: (elements: [(name: \"a\")]))",
            "s.ron:1:20: missing field `threshold` in `Element`",
        ),
        // Syntax.
        (
            "(order: Any, order: Any)",
            "s.ron:1:14: the field `order` is given twice",
        ),
        (
            "(joints: {\"a\": (0, 1), \"a\": (0, 1)})",
            "s.ron:1:24: this key is given twice",
        ),
        (
            "(joints: {[1]: (0, 1)})",
            "s.ron:1:11: a list `[...]` cannot be the key of a map",
        ),
        ("(depth: 1.2.3)", "s.ron:1:9: `1.2.3` is no number"),
        (
            "(seeds: 0..3)",
            "s.ron:1:9: `0..3` is no number; ranges are for overrides, in a file write a list: [0, 1, 2]",
        ),
        (
            "(\n  task: (\n    horizon: 3,\n  seeds: [1],\n)\n",
            "s.ron:2:9: `)` is missing: what opens here is closed by the `)` in line 5, which is indented less",
        ),
        ("(depth: 3 seeds: [])", "s.ron:1:11: expected `,` or `)`, found `s`"),
        ("(seeds: [1, 2)", "s.ron:1:14: expected `,` or `]`, found `)`"),
        ("(seeds: [1, 2", "s.ron:1:9: this is never closed: `]` is missing"),
        ("(title: \"abc)", "s.ron:1:9: this string never ends"),
        (
            "(title: r#\"abc\")",
            "s.ron:1:9: this raw string never ends: `\"#` is missing",
        ),
        ("(title: \"\\q\")", "s.ron:1:10: unknown escape"),
        ("/* (", "s.ron:1:1: this comment never ends"),
        ("() ()", "s.ron:1:4: expected the end of the text, found `(`"),
        ("", "s.ron:1:1: expected a value, found the end of the text"),
        ("(task: )", "s.ron:1:8: expected a value, found `)`"),
        ("#![enable(magic)] ()", "s.ron:1:11: unknown RON extension `magic`"),
        ("(1, a: 2)", "s.ron:1:6: expected `,` or `)`, found `:`"),
        (
            "(order: Any, 2)",
            "s.ron:1:14: expected a field `name: value`, found `2`",
        ),
    ] {
        let found = fault(text, &[]);
        assert!(
            found.starts_with(message),
            "{text}\n  expected {message}\n  found    {found}"
        );
    }
}

#[test]
fn carets_stand_under_the_fault() {
    let caret = |text: &str| {
        let shown = fault(text, &[]);
        let lines: Vec<&str> = shown.lines().collect();
        let start = lines[2].chars().position(|c| c == '^').unwrap();
        lines[1]
            .chars()
            .skip(start)
            .take(lines[2].matches('^').count())
            .collect::<String>()
    };
    assert_eq!(caret("(\n\n\t\ttitle: 3)"), "3");
    assert_eq!(caret("(title: \"é→ü\", oder: Any)"), "oder");
    assert_eq!(
        caret(&format!("(title: \"{}\", oder: Any, depth: 1)", "x".repeat(500))),
        "oder"
    );
    assert_eq!(caret("(task: (\nelements: 3,\n),\nseeds: {\n})"), "3");
    assert_eq!(caret("(seeds: {\n})"), "{");
}

#[test]
fn overrides_are_laid_on_top() {
    let base = "(task: (elements: [(name: \"kettle\", threshold: 0.3)], horizon: 280), learner: Sac(discount: 0.9))";
    let read = scene(
        base,
        &[
            "title=data/kitchen-v2.hdf5",
            "learner.discount=0.5",
            "learner.temperature=None",
            "task.elements.0.threshold=1",
            "task.elements.0.name=microwave",
            "seeds=[0,1,2]",
            "order=Fixed",
            "joints.elbow=(0,1)",
            "limit=(2,3)",
            "limit.1=4",
        ],
    )
    .unwrap();
    assert_eq!(read.title, "data/kitchen-v2.hdf5");
    assert_eq!(
        read.learner,
        Learner::Sac(Sac {
            discount: 0.5,
            temperature: None
        })
    );
    assert_eq!(
        read.task.elements,
        [Element {
            name: "microwave".into(),
            threshold: 1.0,
            goal: vec![]
        }]
    );
    assert_eq!(read.task.horizon, 280);
    assert_eq!(read.seeds, [0, 1, 2]);
    assert_eq!(read.order, Order::Fixed);
    assert_eq!(read.joints["elbow"], Range(0.0, 1.0));
    assert_eq!(read.limit, Some(Range(2.0, 4.0)));
    // Values that the file leaves at their default, variants without parentheses, other variants, wrapped structs.
    assert_eq!(scene("()", &["task.horizon=7"]).unwrap().task.horizon, 7);
    let sac = |discount| {
        Learner::Sac(Sac {
            discount,
            ..Sac::default()
        })
    };
    assert_eq!(
        scene("(learner: Sac)", &["learner.discount=0.5"]).unwrap().learner,
        sac(0.5)
    );
    assert_eq!(
        scene("(learner: Sac((discount: 0.1)))", &["learner.discount=0.5"])
            .unwrap()
            .learner,
        sac(0.5)
    );
    assert_eq!(
        scene("(learner: Mixed(1, 2))", &["learner=Sac(discount: 0.5)"])
            .unwrap()
            .learner,
        sac(0.5)
    );
    assert_eq!(
        scene("(learner: Sac(discount: 0.5))", &["learner=Sac"])
            .unwrap()
            .learner,
        sac(0.5)
    );
    assert_eq!(
        scene("(learner: Sac(discount: 0.5))", &["learner=Random"])
            .unwrap()
            .learner,
        Learner::Random
    );
    assert_eq!(
        scene("(learner: Mixed(1, 2))", &["learner.1=5"]).unwrap().learner,
        Learner::Mixed(1.0, 5.0)
    );
    assert_eq!(scene("()", &["title=12", "title=true"]).unwrap().title, "true");
    // What looks like a comment is part of a word.
    for word in [
        "some words",
        "data//none.hdf5",
        "a/*b",
        "a/*b*/c",
        "/*a*/b",
        "//server/data",
        "12//3",
    ] {
        assert_eq!(scene("()", &[&format!("title= {word} ")]).unwrap().title, word);
    }
    assert_eq!(scene("()", &["title=\"a//b\""]).unwrap().title, "a//b");
}

#[test]
fn faulty_overrides_are_named() {
    let base = "(task: (elements: [(name: \"kettle\", threshold: 0.3)]), learner: Sac(discount: 0.9))";
    for (text, message) in [
        (
            "learner.discont=0.9",
            "unknown field `discont` in `Sac`; did you mean `discount`? (fields: discount, temp",
        ),
        (
            "lerner.discount=0.9",
            "unknown field `lerner` in `Scene`; did you mean `learner`?",
        ),
        (
            "learner.discount=high",
            "`discount`: expected a number, found the name `high`",
        ),
        ("learner.discount", "an override is written `path.to.field=value`"),
        ("learner..discount=1", "the path before `=` has an empty part"),
        ("=1", "the path before `=` has an empty part"),
        ("title=", "expected a value, found the end of the text"),
        ("task.elements.1.name=x", "`1` is no element of a list of 1: use 0 to 0"),
        ("task.elements.first=x", "`first` is no element of a list of 1"),
        (
            "task.elements.0.name.x=1",
            "there is no `x` here: the value is the string \"kettle\", which has no parts",
        ),
        ("order=fixd", "unknown variant `fixd` of `Order`; did you mean `Fixed`?"),
        ("seeds=[0,1", "this is never closed: `]` is missing"),
        (
            "seeds=[0,1]//2",
            "expected one value without comments, found more than `[0,1]`",
        ),
        ("order=Fixed//x", "`order`: expected a variant"),
        ("extends=kitchen", "unknown field `extends` in `Scene`"),
    ] {
        let found = fault(base, &[text]);
        let expected = format!("override `{text}`: {message}");
        assert!(
            found.starts_with(&expected),
            "{text}\n  expected {expected}\n  found    {found}"
        );
    }
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn load_in(folder: &tempfile::TempDir, name: &str) -> Result<Loaded<Scene>, FileError> {
    load_from(FileKind::Scene, name, &[], &[folder.path().to_path_buf()])
}

#[test]
fn files_extend_files() {
    let folder = folder(&[
        (
            "scenes/kitchen.ron",
            "(title: \"kitchen\", task: (horizon: 280, elements: [(name: \"a\", threshold: 1)]),
              learner: Sac(discount: 0.9, temperature: 0.5), joints: {\"a\": (0, 1), \"b\": (0, 1)})",
        ),
        (
            "scenes/kitchen/mixed.ron",
            "(extends: \"kitchen\", task: (elements: []), learner: Sac(discount: 0.8), joints: {\"b\": (2, 3)})",
        ),
        (
            "scenes/kitchen/long.ron",
            "(extends: \"mixed\", task: (horizon: 500), title: \"long\")",
        ),
        (
            "scenes/bad.ron",
            "(\n  extends: \"kitchen\",\n  task: (horizont: 1),\n)",
        ),
        ("scenes/worse.ron", "(extends: \"bad\", depth: 3)"),
        ("scenes/a.ron", "(extends: \"b\")"),
        ("scenes/b.ron", "(extends: \"a\")"),
        ("scenes/lost.ron", "(\n extends: \"kitchn\")"),
        ("scenes/odd.ron", "(extends: 3)"),
        ("scenes/self.ron", "(extends: \"self\")"),
        ("mine/kitchen.ron", "(extends: \"kitchen\", title: \"my kitchen\")"),
    ]);
    let long = load_in(&folder, "kitchen/long").unwrap();
    assert_eq!(long.value.title, "long");
    assert_eq!(
        long.value.task,
        Task {
            elements: vec![],
            horizon: 500
        }
    );
    assert_eq!(
        long.value.learner,
        Learner::Sac(Sac {
            discount: 0.8,
            temperature: Some(0.5)
        })
    );
    assert_eq!(long.value.joints.len(), 2);
    assert_eq!(long.value.joints["b"], Range(2.0, 3.0));
    let names: Vec<_> = long
        .sources
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, ["long.ron", "mixed.ron", "kitchen.ron"]);
    // The stored text stands alone and means the same.
    assert_eq!(scene(&long.resolved_text, &[]).unwrap(), long.value);

    let fault = |name: &str| load_in(&folder, name).expect_err("faulty").to_string();
    let path = |name: &str| folder.path().join("scenes").join(name).display().to_string();
    assert!(
        fault("bad").starts_with(&format!("{}:3:10: unknown field `horizont`", path("bad.ron"))),
        "{}",
        fault("bad")
    );
    assert!(
        fault("worse").starts_with(&format!("{}:3:10: unknown", path("bad.ron"))),
        "{}",
        fault("worse")
    );
    assert!(fault("a").contains("this file extends itself"), "{}", fault("a"));
    assert!(fault("self").contains("this file extends itself"), "{}", fault("self"));
    assert!(fault("lost").starts_with(&format!(
        "{}:2:11: extends: no scene `kitchn`; did you mean `kitchen`?",
        path("lost.ron")
    )));
    assert!(
        fault("odd").contains(":1:11: `extends` wants a string, found the number 3"),
        "{}",
        fault("odd")
    );
    assert!(
        fault("micowave")
            .starts_with("no scene `micowave` (there are: a, b, bad, kitchen, kitchen/long, kitchen/mixed")
    );
    assert!(
        fault("mixd").starts_with("no scene `mixd`; did you mean `kitchen/mixed`?"),
        "{}",
        fault("mixd")
    );
    assert!(fault(" ").contains("is empty"));

    // By path, with and without the ending.
    assert_eq!(load_in(&folder, &path("kitchen/long.ron")).unwrap().value, long.value);
    assert_eq!(load_in(&folder, &path("kitchen/long")).unwrap().value, long.value);
    // A file may extend its namesake.
    let mine = load_in(&folder, folder.path().join("mine/kitchen").to_str().unwrap()).unwrap();
    assert_eq!(
        (mine.value.title.as_str(), mine.value.task.horizon),
        ("my kitchen", 280)
    );
    // Faults that show only when a value is used.
    let error = long
        .error_at("learner.discount", "must lie between 0 and 1")
        .to_string();
    assert!(
        error.starts_with(&format!("{}:1:67: must lie", path("kitchen/mixed.ron"))),
        "{error}"
    );
}

#[test]
fn a_long_chain_and_hostile_files_end_in_errors() {
    let files: Vec<(String, String)> = (0..30)
        .map(|i| (format!("scenes/s{i}.ron"), format!("(extends: \"s{}\")", i + 1)))
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let folder = folder(&files);
    assert!(
        load_in(&folder, "s0")
            .unwrap_err()
            .to_string()
            .contains("more than 16 files")
    );
    fs::write(folder.path().join("scenes/binary.ron"), [0xff, 0xfe, 0x00]).unwrap();
    assert!(
        load_in(&folder, "binary")
            .unwrap_err()
            .to_string()
            .contains("is no text")
    );
    fs::write(folder.path().join("scenes/large.ron"), vec![b' '; parse::MAX_BYTES + 1]).unwrap();
    assert!(load_in(&folder, "large").unwrap_err().to_string().contains("at most"));
    for text in ["(", "[", "{1:", "Some(", "/*", "r#", "(a:", "-", "\"\\", "'"] {
        fault(&text.repeat(100_000), &[]);
    }
    fault("()", &[&"a.".repeat(100_000), "a=1"]);
    fault("()", &[&format!("{}b=1", "a.".repeat(99)), "a=1"]);
    // Many keys take linear time.
    let keys: String = (0..200_000).map(|i| format!("k{i}: 1,")).collect();
    fault(&format!("({keys})"), &[]);
    fault(&format!("(joints: {{{}}})", keys.replace('k', "")), &[]);
}

#[test]
fn near_names_are_found() {
    assert_eq!(nearest("Light-Switch", ["Kettle", "LightSwitch"]), Some("LightSwitch"));
    assert_eq!(nearest("thershold", ["name", "threshold"]), Some("threshold"));
    assert_eq!(nearest("velocity", ["name", "threshold"]), None);
    assert_eq!(nearest("x", []), None);
}

fn any_float() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<f32>().prop_filter("NaN is unequal to itself", |x| !x.is_nan()),
        Just(0.1),
        Just(f32::INFINITY)
    ]
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let range = || (any_float(), any_float()).prop_map(|(low, high)| Range(low, high));
    let element = (".{0,12}", any_float(), prop::collection::vec(any_float(), 0..3))
        .prop_map(|(name, threshold, goal)| Element { name, threshold, goal });
    let learner = prop_oneof![
        Just(Learner::Random),
        (any_float(), prop::option::of(any_float()))
            .prop_map(|(discount, temperature)| Learner::Sac(Sac { discount, temperature })),
        any::<(u32, u32)>().prop_map(|(horizon, elites)| Learner::Planner { horizon, elites }),
        (any_float(), any_float()).prop_map(|(a, b)| Learner::Mixed(a, b)),
    ];
    let order = prop_oneof![Just(Order::Any), Just(Order::Fixed), Just(Order::None)];
    let depth = any::<f64>().prop_filter("NaN is unequal to itself", |x| !x.is_nan());
    (
        any::<String>(),
        prop::collection::vec(element, 0..3),
        learner,
        order,
        prop::collection::btree_map(any::<String>(), range(), 0..3),
        prop::collection::vec(any::<u64>(), 0..4),
        [any_float(), any_float(), any_float()],
        prop::option::of(range()),
        (depth, any::<u32>()),
    )
        .prop_map(
            |(title, elements, learner, order, joints, seeds, start, limit, (depth, horizon))| Scene {
                title,
                task: Task { elements, horizon },
                learner,
                order,
                joints,
                seeds,
                start,
                limit,
                depth,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn written_values_read_back_the_same(value in any_scene()) {
        let text = to_text(&value).unwrap();
        prop_assert_eq!(&scene(&text, &[]).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?, &value);
        // The ron crate agrees.
        prop_assert_eq!(&ron::from_str::<Scene>(&text).unwrap(), &value);
        // Laid over itself it stays the same.
        let fields = text.trim_end().strip_prefix("#![enable(implicit_some)]\n(");
        let fields = fields.and_then(|rest| rest.strip_suffix(')'));
        let child = format!("(extends: \"parent\",{})", fields.unwrap());
        let folder = folder(&[("scenes/parent.ron", &text), ("scenes/child.ron", &child)]);
        prop_assert_eq!(&load_in(&folder, "child").unwrap().value, &value);
    }

    #[test]
    fn no_text_panics_or_hangs(text in "\\PC{0,60}", override_ in "\\PC{0,30}") {
        let _ = scene(&text, &[]);
        let _ = scene("(learner: Sac(discount: 1))", &[&override_]);
        let _ = scene(&text, &[&format!("task.{override_}=1")]).map_err(|error| error.to_string());
    }

    #[test]
    fn no_token_soup_panics(tokens in prop::collection::vec(prop::sample::select(vec![
        "(", ")", "[", "]", "{", "}", ",", ":", "a", "task", "Some", "None", "1", "-", "1e", ".5", "\"", "\\", "r#",
        "'", "//", "/*", "*/", "\n", "é", "=", "extends", "0x", "true", "_", "#![enable(", "inf",
    ]), 0..40)) {
        let text = tokens.concat();
        let _ = scene(&text, &[]).map_err(|error| error.to_string());
        let _ = scene("(task: (elements: []))", &[&text]).map_err(|error| error.to_string());
    }

    #[test]
    fn mutations_never_panic(
        value in any_scene(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = to_text(&value).unwrap().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(text) = String::from_utf8(bytes) {
            let _ = scene(&text, &[]).map_err(|error| error.to_string());
        }
    }
}
