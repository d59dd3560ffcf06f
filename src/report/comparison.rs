//! What is compared, and how: one section per scene, estimates over learners with intervals.

use std::collections::BTreeSet;

use super::estimates::{Elements, Improvement, Row, all_scenes, elements, headline_name, improvements};
use super::{Behaviour, Final, Gathered, Learner, Method, Options, ReportError, ReportPicture, file_name, short};
use crate::metrics::statistics::Statistic;
use crate::plot::{self, CurvePlot, Curves, IntervalPlot, Intervals, PlotError};
use crate::rng::{Purpose, Stream, stream};

/// Share of bootstrap resamples that intervals hold.
pub(super) const LEVEL: f64 = 0.95;
/// Bootstrap resamples.
pub(super) const RESAMPLES: usize = 2_000;

/// All that a page shows of results.
#[derive(Debug, Clone, Default)]
pub(super) struct Comparison {
    /// One per scene and overrides.
    pub(super) sections: Vec<Section>,
    /// Methods over all scenes, as shares of each scene's maximum; empty where there is no more than one scene.
    pub(super) all_scenes: Vec<Row>,
    /// What could not be compared.
    pub(super) problems: Vec<String>,
}

/// Results in one scene.
#[derive(Debug, Clone, Default)]
pub(super) struct Section {
    pub(super) scene: String,
    /// Of the evaluation; curves are in the section without any.
    pub(super) overrides: String,
    /// Earlier sections whose pictures would have the same names.
    pub(super) twins: usize,
    /// What is compared, such as `completed`.
    pub(super) name: String,
    /// Its maximum, if it is known.
    pub(super) maximum: Option<f64>,
    pub(super) rows: Vec<Row>,
    pub(super) improvements: Vec<Improvement>,
    pub(super) elements: Elements,
    pub(super) curves: Vec<CurveSet>,
}

impl Section {
    /// For people.
    pub(super) fn title(&self) -> String {
        match self.overrides.as_str() {
            "" => format!("Scene {}", self.scene),
            overrides => format!("Scene {}, with {overrides}", self.scene),
        }
    }

    /// What is compared, for people.
    pub(super) fn label(&self) -> String {
        match self.name.as_str() {
            "completed" => "completed elements".to_owned(),
            "success" => "success".to_owned(),
            "episode_length" => "episode length".to_owned(),
            name => name.rsplit('/').next().unwrap_or(name).to_owned(),
        }
    }
}

/// Learning curves of all methods.
#[derive(Debug, Clone)]
pub(super) struct CurveSet {
    pub(super) tag: String,
    pub(super) methods: Vec<plot::Method>,
    /// Place of each of them among all methods.
    places: Vec<usize>,
}

/// The name of what says most of episodes, from the tags that learners report.
fn guessed_name<'a>(learners: impl Iterator<Item = &'a Learner>) -> String {
    let tags: BTreeSet<&str> = learners
        .flat_map(|learner| learner.curves.keys().map(String::as_str))
        .collect();
    let names = || tags.iter().filter_map(|tag| tag.strip_prefix("practice/"));
    let figure = names().find(|name| name.starts_with("figures/"));
    let has = |wanted: &str| names().any(|name| name == wanted);
    match figure {
        _ if has("completed") => "completed".to_owned(),
        Some(figure) => figure.to_owned(),
        None if has("success") => "success".to_owned(),
        None => "return".to_owned(),
    }
}

impl Comparison {
    /// Compares all methods.
    pub(super) fn of(gathered: &Gathered, options: &Options) -> Result<Self, ReportError> {
        expect_metric(gathered, options.tag.as_deref())?;
        let mut comparison = Self::default();
        for (scene, overrides) in places(gathered) {
            comparison.add(gathered, scene, &overrides, options)?;
        }
        comparison
            .sections
            .retain(|section| !section.rows.is_empty() || !section.curves.is_empty());
        if comparison.sections.is_empty() {
            let why = gathered.problems.first().or(comparison.problems.first());
            return Err(ReportError::Nothing(
                why.cloned().unwrap_or_else(|| "no run was named".to_owned()),
            ));
        }
        for index in 1..comparison.sections.len() {
            let (before, rest) = comparison.sections.split_at_mut(index);
            if let Some(section) = rest.first_mut() {
                let name = section.plain();
                section.twins = before.iter().filter(|other| other.plain() == name).count();
            }
        }
        comparison.all_scenes = all_scenes(&comparison.sections);
        Ok(comparison)
    }

    fn add(&mut self, gathered: &Gathered, scene: &str, overrides: &str, options: &Options) -> Result<(), ReportError> {
        let here = |result: &&Final| result.scene == scene && result.overrides.join(" ") == overrides;
        let finals: Vec<(usize, &Method, Vec<&Final>)> = (gathered.methods.iter().enumerate())
            .map(|(place, method)| (place, method, method.finals.iter().filter(here).collect()))
            .collect();
        let practised = |learner: &&Learner| overrides.is_empty() && learner.scene == scene;
        let learners = || {
            gathered
                .methods
                .iter()
                .flat_map(|method| &method.learners)
                .filter(practised)
        };
        let headline = || {
            let first = finals.iter().flat_map(|(.., finals)| finals).next();
            first.map(|result| headline_name(&result.summary).to_owned())
        };
        let asked = options.tag.as_ref().and_then(|tag| tag.split_once('/'));
        let name = match asked {
            Some((_, name)) => name.to_owned(),
            None => headline().unwrap_or_else(|| guessed_name(learners())),
        };
        let mut section = Section {
            scene: scene.to_owned(),
            overrides: overrides.to_owned(),
            maximum: maximum(&name, finals.iter().flat_map(|(.., finals)| finals.iter().copied())),
            name,
            ..Section::default()
        };
        for behaviour in [Behaviour::Sampled, Behaviour::MostLikely] {
            for (place, method, finals) in &finals {
                let finals = finals.iter().filter(|result| result.behaviour == behaviour).copied();
                let row = Row::of(&section, &method.label, *place, behaviour, finals, &mut self.problems);
                section.rows.extend(row);
            }
        }
        section.improvements = improvements(&section.rows);
        section.elements = elements(&finals);
        let tag = match &options.tag {
            Some(tag) => tag.clone(),
            None => format!("practice/{}", section.name),
        };
        for tag in [tag, format!("evaluation/{}", section.name)] {
            let set = curve_set(gathered, &tag, practised, &section, &mut self.problems)?;
            let again = set
                .as_ref()
                .is_some_and(|set| section.curves.iter().any(|known| known.tag == set.tag));
            section.curves.extend(set.filter(|_| !again));
        }
        self.sections.push(section);
        Ok(())
    }

    /// The pictures of all sections.
    pub(super) fn pictures(&self) -> Result<Vec<ReportPicture>, PlotError> {
        let mut pictures = Vec::new();
        for section in &self.sections {
            pictures.extend(section.interval_picture()?);
            for set in &section.curves {
                let curves = section.plotted(set)?;
                pictures.push(ReportPicture {
                    name: section.curve_name(set),
                    svg: curves.svg()?,
                    png: curves.png()?,
                });
            }
        }
        Ok(pictures)
    }
}

impl Section {
    /// The scene and the overrides as part of the name of a file.
    fn plain(&self) -> String {
        match self.overrides.as_str() {
            "" => file_name(&self.scene),
            overrides => file_name(&format!("{}_{overrides}", self.scene)),
        }
    }

    /// The name of a picture.
    fn part(&self, what: &str) -> String {
        let name = format!("{what}_{}", self.plain());
        match self.twins {
            0 => name,
            twins => format!("{name}-{}", twins + 1),
        }
    }

    /// Name of the picture of the estimates.
    pub(super) fn interval_name(&self) -> String {
        self.part("final")
    }

    /// Name of the picture of learning curves.
    pub(super) fn curve_name(&self, set: &CurveSet) -> String {
        self.part(&file_name(&set.tag))
    }

    /// The ends of the axis of what is compared, where its maximum is known.
    fn axis(&self) -> Option<(f64, f64)> {
        self.maximum.map(|maximum| (-0.02 * maximum, 1.02 * maximum))
    }

    fn interval_picture(&self) -> Result<Option<ReportPicture>, PlotError> {
        let row = |row: &Row| plot::Estimate {
            label: match row.behaviour {
                Behaviour::Sampled => row.method.clone(),
                Behaviour::MostLikely => format!("{}, most likely", row.method),
            },
            colour: row.place,
            value: row.iqm.value,
            interval: row.iqm.interval,
        };
        let rows: Vec<plot::Estimate> = self.rows.iter().map(row).collect();
        let plot = IntervalPlot {
            x_label: format!("{} (interquartile mean)", self.label()),
            x_range: self.axis(),
            ..IntervalPlot::default()
        };
        match Intervals::new(&plot, &rows) {
            Err(PlotError::Empty) => Ok(None),
            intervals => {
                let intervals = intervals?;
                Ok(Some(ReportPicture {
                    name: self.interval_name(),
                    svg: intervals.svg()?,
                    png: intervals.png()?,
                }))
            }
        }
    }

    /// The curves of a set, ready to be drawn.
    pub(super) fn plotted(&self, set: &CurveSet) -> Result<Curves, PlotError> {
        let name = set.tag.split_once('/').map_or(set.tag.as_str(), |(_, name)| name);
        let plot = CurvePlot {
            y_label: match name == self.name {
                true => self.label(),
                false => name.to_owned(),
            },
            statistic: Statistic::InterquartileMean,
            resamples: RESAMPLES,
            y_range: self.axis().filter(|_| name == self.name),
            ..CurvePlot::default()
        };
        Ok(Curves::new(&plot, &set.methods, &mut rng())?.in_colours(set.places.clone()))
    }
}

/// Resampling does not depend on what was resampled before.
pub(super) fn rng() -> Stream {
    stream(0, Purpose::Bootstrap, 0, 0)
}

/// Scenes and overrides, in the order in which methods have them; those without overrides first.
fn places(gathered: &Gathered) -> Vec<(&str, String)> {
    let mut places: Vec<(&str, String)> = Vec::new();
    let mut keep = |scene, overrides: String| {
        if !places.contains(&(scene, overrides.clone())) {
            places.push((scene, overrides));
        }
    };
    for method in &gathered.methods {
        let learners = method.learners.iter().map(|learner| learner.scene.as_str());
        learners.for_each(|scene| keep(scene, String::new()));
        let finals = method.finals.iter();
        finals.for_each(|result| keep(result.scene.as_str(), result.overrides.join(" ")));
    }
    places.sort_by_key(|(_, overrides)| !overrides.is_empty());
    places
}

/// The metric that was asked for must be there.
fn expect_metric(gathered: &Gathered, tag: Option<&str>) -> Result<(), ReportError> {
    let Some(tag) = tag else { return Ok(()) };
    let curves = || {
        gathered
            .methods
            .iter()
            .flat_map(|method| &method.learners)
            .flat_map(|learner| learner.curves.keys())
    };
    if curves().any(|known| known == tag) {
        return Ok(());
    }
    let there: BTreeSet<&str> = curves().map(String::as_str).collect();
    Err(ReportError::NoMetric {
        tag: tag.to_owned(),
        there: there.into_iter().collect::<Vec<_>>().join(", "),
    })
}

/// The most that can be reached of what is compared.
fn maximum<'a>(name: &str, mut finals: impl Iterator<Item = &'a Final>) -> Option<f64> {
    match name {
        "completed" => {
            let elements = finals
                .find(|result| result.summary.task_elements > 0)?
                .summary
                .task_elements;
            Some(elements as f64)
        }
        "success" => Some(1.0),
        name => name.starts_with("elements/").then_some(1.0),
    }
}

/// The curves of a tag; `None` where no method has one.
fn curve_set(
    gathered: &Gathered,
    tag: &str,
    practised: impl Fn(&&Learner) -> bool,
    section: &Section,
    problems: &mut Vec<String>,
) -> Result<Option<CurveSet>, ReportError> {
    let mut set = CurveSet {
        tag: tag.to_owned(),
        methods: Vec::new(),
        places: Vec::new(),
    };
    for (place, method) in gathered.methods.iter().enumerate() {
        let curves = method
            .learners
            .iter()
            .filter(&practised)
            .map(|learner| learner.curves.get(tag));
        let method = plot::Method {
            label: method.label.clone(),
            seeds: curves.flatten().cloned().collect(),
        };
        if method.seeds.is_empty() {
            continue;
        }
        let alone = CurveSet {
            tag: tag.to_owned(),
            methods: vec![method],
            places: vec![place],
        };
        match section.plotted(&alone) {
            Ok(_) => {
                set.methods.extend(alone.methods);
                set.places.push(place);
            }
            Err(PlotError::Empty | PlotError::NoCurve(_)) => {
                let label = alone.methods.first().map_or("", |method| &method.label);
                problems.push(format!(
                    "`{label}` has no curve of {tag}: its seeds have no step in common, or no finite value"
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((!set.methods.is_empty()).then_some(set))
}

/// Steps of practice that learners of a method reported: fewest and most.
pub(super) fn reported_steps(method: &Method) -> Option<(u64, u64)> {
    let last = |learner: &Learner| {
        let ends = learner.curves.values().filter_map(|curve| curve.last());
        ends.map(|point| point.0 as u64).max()
    };
    let steps = method.learners.iter().filter_map(last);
    let evaluated = method.finals.iter().map(|result| result.steps);
    let all: Vec<u64> = steps.chain(evaluated).collect();
    Some((*all.iter().min()?, *all.iter().max()?))
}

/// A title that says what is compared.
pub(super) fn title(gathered: &Gathered, comparison: &Comparison) -> String {
    let mut scenes: Vec<&str> = comparison
        .sections
        .iter()
        .map(|section| section.scene.as_str())
        .collect();
    scenes.dedup();
    let names: Vec<String> = (gathered.methods.iter())
        .map(|method| short(std::path::Path::new(&method.label)))
        .collect();
    let names = match names.len() {
        0..=4 => names.join(", "),
        count => format!("{count} methods"),
    };
    format!("{}: {names}", scenes.join(", "))
}
