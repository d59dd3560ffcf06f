//! Reads what runs and tables hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::kept::read_kept;
use super::{ReportError, Source, kept, media, settings};
use crate::evaluate::EvaluationSummary;
use crate::metrics::{read_scalars, series};
use crate::run::{Evaluated, RunFolder};

/// Everything a report is made of.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// The methods, in the order in which they were named.
    pub methods: Vec<Method>,
    /// What is missing or damaged, one line each.
    pub problems: Vec<String>,
}

/// One method: learners that are seeds of the same thing.
#[derive(Debug, Clone, Default)]
pub struct Method {
    /// Its name.
    pub label: String,
    /// Its learners with what they reported during practice.
    pub learners: Vec<Learner>,
    /// Evaluations after practice.
    pub finals: Vec<Final>,
    /// Its run folders.
    pub runs: Vec<Run>,
    /// Its tables.
    pub tables: Vec<PathBuf>,
}

/// What one learner reported during practice.
#[derive(Debug, Clone, PartialEq)]
pub struct Learner {
    /// The scene of practice.
    pub scene: String,
    /// Its seed.
    pub seed: u64,
    /// Tag to `(step, value)` in order of steps.
    pub curves: BTreeMap<String, Vec<(f64, f64)>>,
}

/// How skills are chosen in an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// Sampled from the policy.
    Sampled,
    /// The most likely ones.
    MostLikely,
}

impl Behaviour {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::MostLikely => "most likely",
        }
    }
}

/// An evaluation of one learner after practice.
#[derive(Debug, Clone, PartialEq)]
pub struct Final {
    /// The scene of the episodes.
    pub scene: String,
    /// Overrides of the run's experiment.
    pub overrides: Vec<String>,
    /// How skills were chosen.
    pub behaviour: Behaviour,
    /// The learner's seed.
    pub seed: u64,
    /// Environment steps it had practised.
    pub steps: u64,
    /// The result.
    pub summary: EvaluationSummary,
}

/// What a run folder says about itself.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The folder.
    pub path: PathBuf,
    /// The resolved experiment: dotted paths to values. `None` if it cannot be read.
    pub settings: Option<BTreeMap<String, String>>,
    /// The lines of `version.txt`: what, and its value.
    pub facts: Vec<(String, String)>,
    /// Seeds of the learners that are there.
    pub seeds: Vec<u64>,
    /// Videos and pictures.
    pub media: Vec<media::Medium>,
}

impl Run {
    /// A setting without quotes.
    pub fn setting(&self, path: &str) -> Option<&str> {
        let value = self.settings.as_ref()?.get(path)?;
        Some(value.trim_matches('"'))
    }

    /// What `version.txt` says under a word.
    pub fn fact(&self, name: &str) -> Option<&str> {
        let found = self.facts.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Environment steps that each learner is to make.
    pub fn steps(&self) -> Option<u64> {
        self.setting("training.steps")?.parse().ok()
    }
}

/// In the folder of a sweep, whose folders are runs.
const SWEEP: &str = "sweep.ron";

/// Where no file says which scene it was.
const UNKNOWN: &str = "unknown";

/// Reads every source. What is missing or damaged in a run becomes a line of [`Gathered::problems`].
///
/// # Errors
/// When a path is not there, is no run folder, or a table cannot be read: those are slips of who named them.
pub fn gather(sources: &[Source]) -> Result<Gathered, ReportError> {
    let mut gathered = Gathered::default();
    for source in sources {
        let mut method = Method {
            label: source.name(),
            ..Method::default()
        };
        let mut more = Vec::new();
        let mut seen = BTreeSet::new();
        for path in &source.paths {
            if !path.exists() {
                return Err(ReportError::Missing(path.clone()));
            }
            if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                let what = format!(
                    "{} is named twice for `{}`; it counts once",
                    path.display(),
                    method.label
                );
                gathered.problems.push(what);
            } else if path.join(SWEEP).is_file() {
                more.extend(read_sweep(path, source.label.as_deref(), &mut gathered.problems)?);
            } else if path.is_dir() {
                read_run(path, &mut method, &mut gathered.problems)?;
            } else if path.extension().is_some_and(|extension| extension == "csv") {
                more.extend(read_table(path, source.label.as_deref())?);
            } else {
                return Err(ReportError::Other(path.clone()));
            }
        }
        let methods = std::iter::once(method)
            .filter(|method| !method.runs.is_empty())
            .chain(more);
        methods.for_each(|method| add(&mut gathered.methods, method));
    }
    for method in &gathered.methods {
        gathered.problems.extend(seeds_twice(method));
    }
    Ok(gathered)
}

/// Adds a method, to one of the same name if there is one.
fn add(methods: &mut Vec<Method>, method: Method) {
    match methods.iter_mut().find(|known| known.label == method.label) {
        Some(known) => {
            known.learners.extend(method.learners);
            known.finals.extend(method.finals);
            known.runs.extend(method.runs);
            known.tables.extend(method.tables);
        }
        None => methods.push(method),
    }
}

/// Seeds that a method has more than once.
fn seeds_twice(method: &Method) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for learner in &method.learners {
        if !seen.insert((&learner.scene, learner.seed)) {
            twice.insert((&learner.scene, learner.seed));
        }
    }
    let line = |(scene, seed): (&String, u64)| {
        format!(
            "`{}` has seed {seed} more than once in scene {scene}; if those runs are copies, its intervals are too narrow",
            method.label
        )
    };
    twice.into_iter().map(line).collect()
}

/// The methods of a table, named after it if it has a label and only one method.
fn read_table(path: &Path, label: Option<&str>) -> Result<Vec<Method>, ReportError> {
    let mut methods = kept::methods(&read_kept(path)?);
    let only = methods.len() == 1;
    for method in &mut methods {
        if let Some(label) = label {
            method.label = match only {
                true => label.to_owned(),
                false => format!("{label}: {}", method.label),
            };
        }
        method.tables.push(path.to_path_buf());
    }
    Ok(methods)
}

/// The runs of a sweep, each a method of its own.
fn read_sweep(path: &Path, label: Option<&str>, problems: &mut Vec<String>) -> Result<Vec<Method>, ReportError> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join("experiment.ron").is_file());
    folders.sort();
    let mut methods = Vec::new();
    for folder in folders {
        let name = super::short(&folder);
        let mut method = Method {
            label: label.map_or(name.clone(), |label| format!("{label}: {name}")),
            ..Method::default()
        };
        read_run(&folder, &mut method, problems)?;
        methods.push(method);
    }
    if methods.is_empty() {
        problems.push(format!("{}: this sweep has no runs yet", path.display()));
    }
    Ok(methods)
}

fn read_run(path: &Path, method: &mut Method, problems: &mut Vec<String>) -> Result<(), ReportError> {
    let learners = learner_folders(path);
    let file = |name: &str| path.join(name);
    let something = file("experiment.ron").is_file() || file("evaluation.json").is_file() || !learners.is_empty();
    if !something {
        // It says what a run folder is, and which are near.
        RunFolder::open(path)?;
    }
    let mut problem = |what: String| problems.push(format!("{}: {what}", path.display()));
    let mut run = Run {
        path: path.to_path_buf(),
        facts: facts(&file("version.txt")),
        seeds: learners.iter().map(|(seed, _)| *seed).collect(),
        media: media::find(path),
        ..Run::default()
    };
    if run.facts.is_empty() {
        problem("version.txt is not there or empty; machine and version are not known".to_owned());
    }
    match settings::read(&file("experiment.ron")) {
        Ok(settings) => run.settings = Some(settings),
        Err(error) => problem(format!("the settings cannot be read ({error}); they are not compared")),
    }
    let mut finals = Vec::new();
    for (name, needed) in [("evaluation.json", true), ("evaluation_with_overrides.json", false)] {
        match read_evaluation(&file(name)) {
            Ok(Some(found)) => finals.extend(found),
            Ok(None) if needed => problem(format!(
                "there is no final evaluation; `apprentice evaluate {}` makes one",
                path.display()
            )),
            Ok(None) => {}
            Err(error) => problem(format!("{name} cannot be read ({error}); its results are left out")),
        }
    }
    let evaluated = finals.first().map(|result: &Final| result.scene.clone());
    let scene = run.setting("scene").map(str::to_owned).or(evaluated);
    let scene = scene.unwrap_or_else(|| UNKNOWN.to_owned());
    for (seed, folder) in learners {
        match read_learner(&folder, &scene, seed) {
            Ok(learner) => {
                if let Some(what) = unfinished(&learner, run.steps()) {
                    problem(what);
                }
                method.learners.push(learner);
            }
            Err(error) => problem(format!("seed {seed} has no curve: {error}")),
        }
    }
    let wanted = run.setting("seeds").map(settings::numbers).unwrap_or_default();
    let missing: Vec<String> = wanted
        .iter()
        .filter(|seed| !run.seeds.contains(seed))
        .map(u64::to_string)
        .collect();
    if !missing.is_empty() {
        problem(format!("no learner has practised with seed {}", missing.join(", ")));
    }
    method.finals.extend(finals);
    method.runs.push(run);
    Ok(())
}

/// Says so if a learner has made fewer steps than it was to make.
fn unfinished(learner: &Learner, steps: Option<u64>) -> Option<String> {
    let made = learner
        .curves
        .values()
        .filter_map(|curve| curve.last())
        .map(|point| point.0);
    let made = made.fold(0.0, f64::max) as u64;
    let wanted = steps.filter(|&steps| made < steps)?;
    Some(format!("seed {} has reported {made} of {wanted} steps", learner.seed))
}

/// The folders of learners, in the order of seeds.
fn learner_folders(run: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let seed = entry.file_name().to_str()?.strip_prefix("seed_")?.parse().ok()?;
            Some((seed, entry.path()))
        })
        .filter(|(_, path)| path.is_dir())
        .collect();
    found.sort();
    found
}

fn read_learner(folder: &Path, scene: &str, seed: u64) -> Result<Learner, String> {
    let rows = read_scalars(folder).map_err(|error| error.to_string())?;
    if rows.is_empty() {
        return Err("metrics.csv is empty".to_owned());
    }
    let curves = series(&rows).into_iter().map(|(tag, curve)| (tag.to_owned(), curve));
    Ok(Learner {
        scene: scene.to_owned(),
        seed,
        curves: curves.collect(),
    })
}

/// The results in a file; `None` if it is not there.
fn read_evaluation(path: &Path) -> Result<Option<Vec<Final>>, String> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| error.to_string())?,
    };
    let results: Vec<Evaluated> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut finals = Vec::new();
    for result in results {
        let rounds = [
            (Behaviour::Sampled, Some(result.sampled)),
            (Behaviour::MostLikely, result.most_likely),
        ];
        for (behaviour, summary) in rounds {
            finals.extend(summary.map(|summary| Final {
                scene: result.scene.clone(),
                overrides: result.overrides.clone(),
                behaviour,
                seed: result.seed,
                steps: result.practised,
                summary,
            }));
        }
    }
    Ok(Some(finals))
}

/// The lines of `version.txt`, as word and rest.
fn facts(path: &Path) -> Vec<(String, String)> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let fact = |line: &str| {
        line.split_once(' ')
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
    };
    text.lines().filter_map(fact).collect()
}
