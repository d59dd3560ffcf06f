//! Sweeps: one experiment with several values of some settings, each variant in a run folder of its own.
//!
//! ```text
//! runs/kitchen_spirl_cl/
//!   sweep.ron              the experiment, the overrides that were given, the variants
//!   discount=0.97/         a run folder like any other
//!   discount=0.99/
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::problems::check_in;
use super::{RunError, RunFolderError, load_scene, make_folder, write_whole};
use crate::experiment::Experiment;
use crate::files::{self, Alternatives, FileError, Loaded};

/// Most variants of a sweep.
pub const MOST_VARIANTS: usize = 1_000;
/// Names the variants in the folder of a sweep.
const INDEX: &str = "sweep.ron";
/// Longest name of a variant, in letters.
const LONGEST_NAME: usize = 80;

/// Why the values of a sweep make no set of experiments.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// An override, or the experiment.
    #[error(transparent)]
    File(#[from] FileError),
    /// Values that could be meant in two ways.
    #[error("override `{text}`: {why}")]
    Ambiguous {
        /// The override.
        text: String,
        /// What it could mean, and how to say so.
        why: String,
    },
    /// More variants than anybody wants.
    #[error("the overrides make {found} variants ({factors}); at most {MOST_VARIANTS} are trained in one sweep")]
    TooMany {
        /// How many; the product of all values.
        found: u128,
        /// The factors of the product.
        factors: String,
    },
    /// Two variants that are one.
    #[error("the variants `{one}` and `{other}` have the same settings; leave one of them out")]
    Same {
        /// One of them.
        one: String,
        /// The other one.
        other: String,
    },
    /// A variant that cannot be trained.
    #[error("variant {name}: {error}")]
    Variant {
        /// Its name.
        name: String,
        /// What is wrong with it.
        error: Box<RunError>,
    },
    /// The folder of another sweep.
    #[error("{}: {why}", path.display())]
    Other {
        /// The folder.
        path: PathBuf,
        /// What differs, and the way out.
        why: String,
    },
    /// The index cannot be written or read.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
}

/// What overrides ask for.
#[derive(Debug)]
pub enum Sweep {
    /// One run, with these overrides.
    One(Vec<String>),
    /// Several.
    Several(Vec<Variant>),
}

/// One of the experiments of a sweep.
#[derive(Debug, Clone)]
pub struct Variant {
    /// What differs, as the name of its folder: `discount=0.97`.
    pub name: String,
    /// All overrides, each with one value.
    pub overrides: Vec<String>,
    /// The settings.
    pub experiment: Experiment,
    /// The same as text, with all defaults.
    pub resolved: String,
}

impl Sweep {
    /// The variants of an experiment that `overrides` ask for, in the order of the values: those of the last override
    /// change fastest. `seeds=0..5` is no sweep but the list of seeds, which practise in one run.
    ///
    /// # Errors
    /// Values that mean nothing or two things, more than [`MOST_VARIANTS`] variants, two that are equal, or an
    /// experiment that does not load.
    pub fn of(experiment: &str, overrides: &[String]) -> Result<Self, SweepError> {
        let mut choices = Vec::new();
        for text in overrides {
            choices.push(seeds_as_list(Alternatives::of(text)?, text)?);
        }
        let swept: Vec<&Alternatives> = choices.iter().filter(|choice| choice.listed).collect();
        if swept.is_empty() {
            return Ok(Self::One(choices.iter().map(only).collect()));
        }
        expect_few(&swept)?;
        expect_different(&swept)?;
        expect_no_lists(experiment, &choices)?;
        let names = short_names(&swept);
        let mut variants = Vec::new();
        let mut names_taken = HashMap::new();
        let mut settings: HashMap<String, String> = HashMap::new();
        for values in product(&swept) {
            let name = unused(variant_name(&names, &values), &mut names_taken);
            let mut left = values.iter();
            let overrides: Vec<String> = (choices.iter())
                .map(|choice| match choice.listed {
                    true => choice.with(left.next().copied().unwrap_or_default()),
                    false => only(choice),
                })
                .collect();
            let Loaded {
                value, resolved_text, ..
            } = Experiment::load(experiment, &overrides)?;
            if let Some(one) = settings.insert(resolved_text.clone(), name.clone()) {
                return Err(SweepError::Same { one, other: name });
            }
            variants.push(Variant {
                name,
                overrides,
                experiment: value,
                resolved: resolved_text,
            });
        }
        Ok(Self::Several(variants))
    }
}

/// Overrides with one value each, for a run that goes on; seeds may be listed.
///
/// # Errors
/// An override lists values.
pub fn single_values(overrides: &[String]) -> Result<Vec<String>, SweepError> {
    let single = |text: &String| {
        let choice = seeds_as_list(Alternatives::of(text)?, text)?;
        if choice.listed {
            return Err(SweepError::Ambiguous {
                text: text.clone(),
                why: "lists several values, and what goes on has one value of each setting; begin a new sweep for them"
                    .into(),
            });
        }
        Ok(only(&choice))
    };
    overrides.iter().map(single).collect()
}

/// Finds settings of variants that cannot be used, before anything is made or trained.
///
/// # Errors
/// What is wrong with the first variant that cannot be trained, and which one that is.
pub fn check_variants<'v>(variants: impl IntoIterator<Item = (&'v str, &'v Experiment)>) -> Result<(), SweepError> {
    let mut scenes = BTreeMap::new();
    for (name, experiment) in variants {
        let fail = |error: RunError| SweepError::Variant {
            name: name.to_owned(),
            error: Box::new(error),
        };
        let kept = experiment.kept_scene.as_ref().map(|kept| Arc::clone(&kept.text));
        let key = (experiment.scene.clone(), kept);
        if !scenes.contains_key(&key) {
            scenes.insert(key.clone(), load_scene(experiment).map_err(fail)?);
        }
        if let Some(scene) = scenes.get(&key) {
            check_in(experiment, scene).map_err(fail)?;
        }
    }
    Ok(())
}

/// Whether two variants can practise in one world with one skill model: they share scene, demonstrations and the whole
/// way to the skill model.
pub fn share_a_world(one: &Experiment, other: &Experiment) -> bool {
    share_skills(one, other) && one.acts_in == other.acts_in
}

/// Whether two variants have the same skill model.
pub fn share_skills(one: &Experiment, other: &Experiment) -> bool {
    let key = |experiment: &Experiment| {
        let Experiment {
            scene,
            dataset,
            skill_model,
            pretraining,
            ..
        } = experiment.clone();
        (scene, dataset, skill_model, pretraining)
    };
    key(one) == key(other) && one.shares_scene(other)
}

/// Numbers of variants that belong together, in groups of at most `most`, in the order of the first of each group.
pub fn groups(
    experiments: &[&Experiment],
    together: impl Fn(&Experiment, &Experiment) -> bool,
    most: usize,
) -> Vec<Vec<usize>> {
    let mut found: Vec<Vec<usize>> = Vec::new();
    for (number, experiment) in experiments.iter().enumerate() {
        let joined = found.iter_mut().find(|group| {
            let first = group.first().and_then(|&first| experiments.get(first));
            group.len() < most.max(1) && first.is_some_and(|first| together(first, experiment))
        });
        match joined {
            Some(group) => group.push(number),
            None => found.push(vec![number]),
        }
    }
    found
}

/// `seeds=0..5` and `seeds=0,1,2` are lists of seeds; only lists in brackets make variants.
fn seeds_as_list(choice: Alternatives, text: &str) -> Result<Alternatives, SweepError> {
    if choice.path != "seeds" || !choice.listed {
        return Ok(choice);
    }
    let lists = choice.values.iter().filter(|value| value.starts_with('[')).count();
    if lists == choice.values.len() {
        return Ok(choice);
    }
    if lists > 0 {
        return Err(SweepError::Ambiguous {
            text: text.to_owned(),
            why:
                "mixes seeds and lists of seeds; write `seeds=0,1` for one run with two seeds, `seeds=[0],[1]` for two \
                  runs"
                    .into(),
        });
    }
    let list = choice.as_list();
    let values = list.split_once('=').map(|(_, value)| value.to_owned());
    Ok(Alternatives {
        path: choice.path,
        values: values.into_iter().collect(),
        listed: false,
    })
}

/// The override of a choice without alternatives.
fn only(choice: &Alternatives) -> String {
    choice.with(choice.values.first().map_or("", String::as_str))
}

fn expect_few(swept: &[&Alternatives]) -> Result<(), SweepError> {
    let counts: Vec<usize> = swept.iter().map(|choice| choice.values.len()).collect();
    let found = counts
        .iter()
        .fold(1_u128, |product, &count| product.saturating_mul(count as u128));
    if found <= MOST_VARIANTS as u128 {
        return Ok(());
    }
    let factors: Vec<String> = counts.iter().map(usize::to_string).collect();
    Err(SweepError::TooMany {
        found,
        factors: factors.join(" x "),
    })
}

fn expect_different(swept: &[&Alternatives]) -> Result<(), SweepError> {
    for (number, choice) in swept.iter().enumerate() {
        if swept.iter().take(number).any(|other| other.path == choice.path) {
            return Err(SweepError::Ambiguous {
                text: format!("{}={}", choice.path, choice.values.join(",")),
                why: "lists values of a setting for the second time; list all of them once".into(),
            });
        }
    }
    Ok(())
}

/// Refuses values of a list without brackets: they could be the values of one list.
fn expect_no_lists(experiment: &str, choices: &[Alternatives]) -> Result<(), SweepError> {
    let plain: Vec<String> = choices.iter().filter(|choice| !choice.listed).map(only).collect();
    // What does not load is refused with one of the variants.
    let Ok(base) = Experiment::load(experiment, &plain) else {
        return Ok(());
    };
    for Alternatives { path, values, .. } in choices.iter().filter(|choice| choice.listed) {
        let bare = values
            .iter()
            .any(|value| !value.starts_with(['[', '(']) && value != "None");
        if bare && base.is_list(path) {
            let joined = values.join(",");
            return Err(SweepError::Ambiguous {
                text: format!("{path}={joined}"),
                why: format!(
                    "`{path}` is a list; write `{path}=[{joined}]` for one run with this list, and brackets around each \
                     list for several runs"
                ),
            });
        }
    }
    Ok(())
}

/// Every choice of one value from each, the last one changing fastest.
fn product<'a>(swept: &[&'a Alternatives]) -> Vec<Vec<&'a str>> {
    let mut found = vec![Vec::new()];
    for choice in swept {
        let longer = found.iter().flat_map(|begun: &Vec<&'a str>| {
            choice.values.iter().map(move |value| {
                let mut values = begun.clone();
                values.push(value.as_str());
                values
            })
        });
        found = longer.collect();
    }
    found
}

/// The shortest ends of the paths that tell them apart: `discount` for `learner.discount`.
fn short_names(swept: &[&Alternatives]) -> Vec<String> {
    let end = |path: &str, parts: usize| {
        let all: Vec<&str> = path.split('.').collect();
        all.get(all.len().saturating_sub(parts)..).unwrap_or_default().join(".")
    };
    let name = |choice: &&Alternatives| {
        let most = choice.path.split('.').count();
        let told_apart = |parts: &usize| {
            let others = swept.iter().filter(|other| other.path != choice.path);
            others
                .into_iter()
                .all(|other| end(&other.path, *parts) != end(&choice.path, *parts))
        };
        end(&choice.path, (1..most).find(told_apart).unwrap_or(most))
    };
    swept.iter().map(name).collect()
}

/// The name of a variant, fit for a folder on any system.
fn variant_name(names: &[String], values: &[&str]) -> String {
    let pairs: Vec<String> = names
        .iter()
        .zip(values)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let plain = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' | '+' | '=' | ',' => letter,
        _ => '-',
    };
    let name: String = pairs.join(",").chars().map(plain).take(LONGEST_NAME).collect();
    // Windows knows no names that end in a dot.
    name.trim_end_matches(['-', '.']).to_owned()
}

/// The name itself, or with a number if it is taken. Case counts for nothing: it does not on every system.
fn unused(name: String, taken: &mut HashMap<String, usize>) -> String {
    let mut candidate = name.clone();
    let mut number = 1;
    while taken.insert(candidate.to_lowercase(), number).is_some() {
        number += 1;
        candidate = format!("{name}_{number}");
    }
    candidate
}

/// What the folder of a sweep says about it: its file `sweep.ron`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepIndex {
    /// The experiment, as it was named.
    pub experiment: String,
    /// The overrides that were given.
    pub overrides: Vec<String>,
    /// The variants, in their order.
    pub variants: Vec<SweepEntry>,
}

/// One variant in a [`SweepIndex`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepEntry {
    /// Its folder within the folder of the sweep.
    pub name: String,
    /// Its overrides, each with one value.
    pub overrides: Vec<String>,
}

impl SweepIndex {
    /// The index of a new sweep.
    pub fn new(experiment: &str, overrides: &[String], variants: &[Variant]) -> Self {
        let entry = |variant: &Variant| SweepEntry {
            name: variant.name.clone(),
            overrides: variant.overrides.clone(),
        };
        Self {
            experiment: experiment.to_owned(),
            overrides: overrides.to_vec(),
            variants: variants.iter().map(entry).collect(),
        }
    }

    /// The index in the folder of a sweep; `None` if it is the folder of anything else.
    ///
    /// # Errors
    /// The index cannot be read, or names a variant outside of its folder.
    pub fn open(root: &Path) -> Result<Option<Self>, SweepError> {
        let path = root.join(INDEX);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
            Err(source) => {
                let action = "read";
                return Err(RunFolderError::Io { path, action, source }.into());
            }
        };
        let index: Self = files::from_text(&path, &text)?;
        let outside = |name: &str| name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':']);
        match index.variants.iter().find(|variant| outside(&variant.name)) {
            Some(variant) => Err(SweepError::Other {
                why: format!("expected the name of a folder beside it, found `{}`", variant.name),
                path,
            }),
            None => Ok(Some(index)),
        }
    }

    /// Writes the index into the folder of a new sweep, or finds the same one there.
    ///
    /// # Errors
    /// The folder holds something else.
    pub fn begin(&self, root: &Path, may_be_there: bool) -> Result<(), SweepError> {
        let other = |why: &str| {
            Err(SweepError::Other {
                path: root.to_path_buf(),
                why: format!("{why}; choose another folder (--out)"),
            })
        };
        match Self::open(root)? {
            Some(_) if !may_be_there => other("holds a sweep already; go on with it (--resume), or"),
            Some(found) if found != *self => other("holds another sweep, or one with other overrides"),
            Some(_) => Ok(()),
            None => {
                super::folder::expect_empty(root)?;
                make_folder(root)?;
                Ok(write_whole(&root.join(INDEX), &files::to_text(self)?)?)
            }
        }
    }

    /// Removes the index and the folder if no variant is left in it.
    pub fn remove_if_unused(root: &Path) {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        if entries.into_iter().all(|entry| entry.file_name() == INDEX) {
            // What cannot be removed does no harm.
            let _ = std::fs::remove_file(root.join(INDEX));
            let _ = std::fs::remove_dir(root);
        }
    }

    /// Sweeps of an experiment below `runs/`, in folders whose names begin with that of the experiment.
    pub fn all_of(experiment: &str) -> Vec<PathBuf> {
        let name = super::default_name(experiment);
        let entries = std::fs::read_dir("runs").into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&name))
            .map(|entry| entry.path())
            .filter(|path| {
                let index = Self::open(path).ok().flatten();
                index.is_some_and(|index| super::default_name(&index.experiment) == name)
            })
            .collect();
        found.sort();
        found
    }
}

/// The runs in a folder: the variants of a sweep, named as in its index, or the folder itself without a name.
///
/// # Errors
/// The index of the sweep cannot be read.
pub fn runs_of(root: &Path) -> Result<Vec<(Option<String>, PathBuf)>, SweepError> {
    Ok(match SweepIndex::open(root)? {
        None => vec![(None, root.to_path_buf())],
        Some(index) => (index.variants.into_iter())
            .map(|SweepEntry { name, .. }| (Some(name.clone()), root.join(name)))
            .collect(),
    })
}

/// The runs that `[LABEL=]FOLDER` means, each with its label: that of a variant is its name, after the label of the sweep if
/// that has one. A folder that is there may have `=` in its name, as those of variants have.
///
/// # Errors
/// As [`runs_of`].
pub fn labelled_runs(text: &str) -> Result<Vec<(String, PathBuf)>, SweepError> {
    let (label, root) = match text.split_once('=') {
        Some((label, folder)) if !Path::new(text).is_dir() => (Some(label), Path::new(folder)),
        _ => (None, Path::new(text)),
    };
    let labelled = |(name, path): (Option<String>, PathBuf)| {
        let label = match (label, name) {
            (Some(label), Some(name)) => format!("{label} {name}"),
            (None, Some(name)) => name,
            (Some(label), None) => label.to_owned(),
            (None, None) => text.to_owned(),
        };
        (label, path)
    };
    Ok(runs_of(root)?.into_iter().map(labelled).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn of(overrides: &[&str]) -> Result<Sweep, String> {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        Sweep::of("kitchen/sac", &overrides).map_err(|error| error.to_string())
    }

    fn names(overrides: &[&str]) -> Vec<String> {
        match of(overrides).unwrap() {
            Sweep::One(overrides) => panic!("{overrides:?}"),
            Sweep::Several(variants) => variants.into_iter().map(|variant| variant.name).collect(),
        }
    }

    #[test]
    fn the_product_of_all_values_is_made() {
        let Sweep::Several(variants) =
            of(&["learner.discount=0.97,0.99", "training.steps=7", "learner.batch=8..10"]).unwrap()
        else {
            panic!("no sweep")
        };
        let found: Vec<(&str, f32, usize, u64)> = (variants.iter())
            .map(|Variant { name, experiment, .. }| {
                let Experiment { learner, training, .. } = experiment;
                (name.as_str(), learner.discount, learner.batch, training.steps)
            })
            .collect();
        let expected = [
            ("discount=0.97,batch=8", 0.97, 8, 7),
            ("discount=0.97,batch=9", 0.97, 9, 7),
            ("discount=0.99,batch=8", 0.99, 8, 7),
            ("discount=0.99,batch=9", 0.99, 9, 7),
        ];
        assert_eq!(found, expected);
        assert_eq!(
            variants[1].overrides,
            ["learner.discount=0.97", "training.steps=7", "learner.batch=9"]
        );
    }

    #[test]
    fn names_tell_variants_apart_and_fit_folders() {
        assert_eq!(
            names(&["learner.squash=Clip(range: 2.0),None"]),
            ["squash=Clip-range--2.0", "squash=None"]
        );
        assert_eq!(
            names(&["learner.batch=8,9", "pretraining.batch=8"]),
            ["batch=8", "batch=9"]
        );
        assert_eq!(
            names(&["learner.batch=8,9", "pretraining.batch=4,5"])[0],
            "learner.batch=8,pretraining.batch=4"
        );
        assert_eq!(
            names(&["description=a/b,a:b"]),
            ["description=a-b", "description=a-b_2"]
        );
        let long = format!("description={}1,{}2", "x".repeat(300), "x".repeat(300));
        let found = names(&[&long]);
        assert!(found.iter().all(|name| name.len() <= LONGEST_NAME + 2), "{found:?}");
    }

    #[test]
    fn seeds_are_lists_unless_they_stand_in_brackets() {
        for (text, expected) in [
            ("seeds=0..3", "seeds=[0,1,2]"),
            ("seeds=4,2", "seeds=[4,2]"),
            ("seeds=[1,2]", "seeds=[1,2]"),
            ("seeds=0..=1,7", "seeds=[0,1,7]"),
        ] {
            let Sweep::One(overrides) = of(&[text]).unwrap() else {
                panic!("{text} is no sweep")
            };
            assert_eq!(overrides, [expected]);
        }
        assert_eq!(names(&["seeds=[0],[1,2]"]), ["seeds=-0", "seeds=-1,2"]);
    }

    #[test]
    fn what_means_nothing_or_two_things_is_refused() {
        for (overrides, part) in [
            (vec!["seeds=[0],1"], "mixes seeds and lists of seeds"),
            (vec!["quick=a,b"], "`quick` is a list; write `quick=[a,b]`"),
            (vec!["learner.batch=1,2", "learner.batch=3,4"], "for the second time"),
            (
                vec!["learner.batch=1..1001", "seeds=[0],[1]"],
                "2000 variants (1000 x 2)",
            ),
            (vec!["learner.discount=0.97,0.970"], "have the same settings"),
            (vec!["learner.discuont=0.97,0.98"], "did you mean `discount`"),
            (vec!["learner.discount=0.97,x"], "expected a number"),
        ] {
            let message = of(&overrides).unwrap_err();
            assert!(message.contains(part), "{overrides:?}: {message}");
        }
    }

    #[test]
    fn variants_with_one_skill_model_share_a_world() {
        let Sweep::Several(variants) = of(&["scene=kitchen,maze", "learner.discount=0.9,0.8,0.7"]).unwrap() else {
            panic!("no sweep")
        };
        let experiments: Vec<&Experiment> = variants.iter().map(|variant| &variant.experiment).collect();
        assert_eq!(groups(&experiments, share_a_world, 99), [vec![0, 1, 2], vec![3, 4, 5]]);
        assert_eq!(
            groups(&experiments, share_a_world, 2),
            [vec![0, 1], vec![2], vec![3, 4], vec![5]]
        );
    }

    #[test]
    fn the_index_of_a_sweep_is_read_again() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("sweep");
        let overrides = ["learner.batch=8,9".to_owned()];
        let Sweep::Several(variants) = of(&["learner.batch=8,9"]).unwrap() else {
            panic!("no sweep")
        };
        let index = SweepIndex::new("kitchen/sac", &overrides, &variants);
        index.begin(&root, false).unwrap();
        assert_eq!(SweepIndex::open(&root).unwrap(), Some(index.clone()));
        index.begin(&root, true).unwrap();
        assert!(index.begin(&root, false).unwrap_err().to_string().contains("--resume"));
        let other = SweepIndex::new("kitchen/sac", &[], &variants);
        assert!(
            other
                .begin(&root, true)
                .unwrap_err()
                .to_string()
                .contains("another sweep")
        );
        assert_eq!(
            runs_of(&root).unwrap()[1],
            (Some("batch=9".into()), root.join("batch=9"))
        );
        assert_eq!(runs_of(place.path()).unwrap(), [(None, place.path().to_path_buf())]);
        std::fs::write(
            root.join(INDEX),
            files::to_text(&index).unwrap().replace("batch=9", "../batch=9"),
        )
        .unwrap();
        assert!(SweepIndex::open(&root).unwrap_err().to_string().contains("../batch=9"));
        std::fs::create_dir(root.join("batch=8")).unwrap();
        SweepIndex::remove_if_unused(&root);
        assert!(root.exists());
        std::fs::remove_dir(root.join("batch=8")).unwrap();
        SweepIndex::remove_if_unused(&root);
        assert!(!root.exists());
    }
}
