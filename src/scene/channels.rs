//! Resolving the terms of the observation.

use std::ops::Range;

use mujoco_rs::wrappers::mj_model::MjtObjBase;

use super::condition::Reads;
use super::observation::{
    Axes, Channel, ObservationTerm, Rotation, Shown, Source, joint_unit, sensor_unit, velocity_unit,
};
use super::place::{CompiledContact, CompiledPlace, Place, Thing};
use super::resolve::{Resolver, finite, invalid, numbers};
use super::task::{CompiledElement, Flag, element_index};
use super::{ActionChannel, Scene, SceneError};

/// A term that works its numbers out; see [`ObservationTerm`].
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledTerm {
    /// Its numbers in the observation.
    pub channels: Range<usize>,
    /// What they are.
    pub kind: TermKind,
}

/// What a [`CompiledTerm`] works out.
#[derive(Debug, Clone, PartialEq)]
pub enum TermKind {
    /// Numbers of the state that are scaled.
    Read(Vec<Source>),
    /// Positions.
    Places(Vec<CompiledPlace>, Relative),
    /// Orientations, relative to the place if there is one.
    Orientations(Vec<CompiledPlace>, Option<CompiledPlace>, Rotation),
    /// Velocities.
    LinearVelocities(Vec<CompiledPlace>, Relative),
    /// Angular velocities.
    AngularVelocities(Vec<CompiledPlace>, Relative),
    /// Indices into `sensordata`.
    Sensors(Vec<usize>),
    /// Whether things touch.
    Touching(Vec<CompiledContact>),
    /// Normal forces between things.
    Forces(Vec<CompiledContact>),
    /// The last action, from this index of the memory.
    PreviousAction(usize),
    /// Goals.
    Goals(Vec<GoalPart>, Relative),
    /// Which elements are done.
    Done(Vec<Flag>),
    /// Share of so many steps that is left.
    Time(f64),
}

/// What numbers are relative to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relative {
    /// The other place.
    pub place: Option<CompiledPlace>,
    /// Whether its axes count.
    pub own_axes: bool,
}

/// A part of a goal; the second number of each is where in the memory what is drawn begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GoalPart {
    /// A number of a joint.
    Number(f64, Option<usize>),
    /// The target of a place.
    Point(CompiledPlace, Option<usize>),
}

impl TermKind {
    /// Whether it is known only when the step has been scored.
    pub fn is_scored(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Time(_))
    }

    /// What has to be up to date.
    pub(super) fn reads(&self) -> Reads {
        match self {
            Self::Places(..) | Self::Orientations(..) | Self::LinearVelocities(..) | Self::AngularVelocities(..) => {
                Reads::POSES
            }
            Self::Goals(parts, relative) => {
                let moves = |part: &GoalPart| matches!(part, GoalPart::Point(place, _) if !place.is_fixed());
                Reads {
                    poses: relative.place.is_some() || parts.iter().any(moves),
                    ..Reads::default()
                }
            }
            Self::Touching(_) | Self::Forces(_) | Self::Sensors(_) => Reads::CONTACTS,
            Self::Read(_) | Self::PreviousAction(_) | Self::Done(_) | Self::Time(_) => Reads::default(),
        }
    }
}

/// What an observation is made of.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) channels: Vec<Channel>,
    pub(super) terms: Vec<CompiledTerm>,
}

/// Resolves the observation. `last_action` is where in the memory the last action begins.
pub(super) fn channels(
    scene: &Scene,
    resolver: &Resolver,
    (elements, task): (&[CompiledElement], &[usize]),
    (actions, last_action): (&[ActionChannel], usize),
) -> Result<Observed, SceneError> {
    let spec = &scene.observation;
    if !(spec.noise_scale.is_finite() && spec.noise_scale >= 0.0) {
        return Err(invalid("observation.noise_scale", "must not be negative"));
    }
    let mut builder = Builder {
        scene,
        resolver,
        elements,
        task,
        actions,
        last_action,
        noise_scale: if spec.noise { spec.noise_scale } else { 0.0 },
        term: 0,
        field: String::new(),
        observed: Observed::default(),
    };
    for (index, term) in spec.terms.iter().enumerate() {
        (builder.term, builder.field) = (index, format!("observation.terms.{index}"));
        builder.add(term)?;
    }
    if builder.observed.channels.is_empty() {
        return Err(invalid("observation.terms", "nothing is observed"));
    }
    if let Some((low, high)) = spec.clip
        && !(low.is_finite() && high.is_finite() && low < high)
    {
        return Err(invalid("observation.clip", "must be two numbers, the lower one first"));
    }
    Ok(builder.observed)
}

struct Builder<'a> {
    scene: &'a Scene,
    resolver: &'a Resolver<'a>,
    elements: &'a [CompiledElement],
    task: &'a [usize],
    actions: &'a [ActionChannel],
    last_action: usize,
    noise_scale: f64,
    /// Index of the term at hand.
    term: usize,
    /// Where it stands.
    field: String,
    observed: Observed,
}

/// Letters of a vector.
const XYZ: [&str; 3] = ["x", "y", "z"];

impl Builder<'_> {
    fn add(&mut self, term: &ObservationTerm) -> Result<(), SceneError> {
        let first = self.observed.channels.len();
        match term {
            ObservationTerm::Position {
                joints,
                noise,
                absolute,
                scale,
            } => {
                self.joints(
                    joints,
                    true,
                    if *absolute { Source::Magnitude } else { Source::Position },
                )?;
                self.scale_joints(first, *scale);
                self.finish(first, noise, *scale)
            }
            ObservationTerm::Velocity { joints, noise, scale } => {
                self.joints(joints, false, Source::Velocity)?;
                self.scale_joints(first, *scale);
                self.finish(first, noise, *scale)
            }
            ObservationTerm::Body { bodies } => self.bodies(bodies),
            ObservationTerm::Goal { shown } => self.goals_of_channels(shown),
            ObservationTerm::Place {
                of,
                relative_to,
                axes,
                noise,
                scale,
            } => {
                let (places, relative) = self.places(of, relative_to.as_ref(), *axes)?;
                self.vectors(of, relative_to.as_ref(), "", "m");
                self.works_out(first, TermKind::Places(places, relative), noise, *scale)
            }
            ObservationTerm::Orientation {
                of,
                relative_to,
                form,
                noise,
                scale,
            } => {
                let (places, relative) = self.places(of, relative_to.as_ref(), Axes::Own)?;
                let letters: &[&str] = match form {
                    Rotation::Quaternion => &["qw", "qx", "qy", "qz"],
                    Rotation::Matrix => &["r11", "r12", "r13", "r21", "r22", "r23", "r31", "r32", "r33"],
                    Rotation::Columns => &["r11", "r21", "r31", "r12", "r22", "r32"],
                };
                self.components(of, relative_to.as_ref(), letters.iter().map(|it| (*it).to_owned()), "");
                self.works_out(
                    first,
                    TermKind::Orientations(places, relative.place, *form),
                    noise,
                    *scale,
                )
            }
            ObservationTerm::LinearVelocity {
                of,
                relative_to,
                axes,
                noise,
                scale,
            } => {
                let (places, relative) = self.places(of, relative_to.as_ref(), *axes)?;
                self.vectors(of, relative_to.as_ref(), "v", "m/s");
                self.works_out(first, TermKind::LinearVelocities(places, relative), noise, *scale)
            }
            ObservationTerm::AngularVelocity {
                of,
                relative_to,
                axes,
                noise,
                scale,
            } => {
                let (places, relative) = self.places(of, relative_to.as_ref(), *axes)?;
                self.vectors(of, relative_to.as_ref(), "w", "rad/s");
                self.works_out(first, TermKind::AngularVelocities(places, relative), noise, *scale)
            }
            ObservationTerm::Sensor { sensors, noise, scale } => {
                let kind = self.sensors(sensors)?;
                self.works_out(first, kind, noise, *scale)
            }
            ObservationTerm::Contact {
                between,
                force,
                noise,
                scale,
            } => {
                let kind = self.contacts(between, *force)?;
                self.works_out(first, kind, noise, *scale)
            }
            ObservationTerm::PreviousAction { noise, scale } => {
                for action in self.actions {
                    self.push(format!("last action {}", action.name), "", Source::Term);
                }
                self.works_out(first, TermKind::PreviousAction(self.last_action), noise, *scale)
            }
            ObservationTerm::GoalOf {
                shown,
                relative_to,
                axes,
                noise,
                scale,
            } => {
                let kind = self.goals(shown, relative_to.as_ref(), *axes)?;
                self.works_out(first, kind, noise, *scale)
            }
            ObservationTerm::Done { shown } => {
                let shown = self.shown(shown)?;
                for &element in &shown {
                    self.push(format!("done {}", self.elements[element].name), "", Source::Term);
                }
                let flags = shown.iter().map(|&element| Flag::of(element, self.task)).collect();
                self.works_out(first, TermKind::Done(flags), &[], 1.0)
            }
            ObservationTerm::Time { steps } => {
                let steps = steps.unwrap_or(self.scene.episode.steps);
                if steps == 0 {
                    return Err(invalid(format!("{}.steps", self.field), "must be at least 1"));
                }
                self.push("time left".into(), "", Source::Term);
                self.works_out(first, TermKind::Time(f64::from(steps)), &[], 1.0)
            }
        }
    }

    fn push(&mut self, name: String, unit: &'static str, source: Source) {
        self.observed.channels.push(Channel {
            name,
            unit,
            source,
            noise: 0.0,
            scale: 1.0,
            term: self.term,
        });
    }

    /// Notes what works out the channels from `first` on, their noise and scale.
    fn works_out(&mut self, first: usize, kind: TermKind, noise: &[f64], scale: f64) -> Result<(), SceneError> {
        let channels = first..self.observed.channels.len();
        self.observed.terms.push(CompiledTerm { channels, kind });
        self.finish(first, noise, scale)
    }

    /// Noise and scale of the channels from `first` on.
    fn finish(&mut self, first: usize, noise: &[f64], scale: f64) -> Result<(), SceneError> {
        let field = &self.field;
        let stretch = &mut self.observed.channels[first..];
        if !(noise.len() <= 1 || noise.len() == stretch.len()) {
            let reason = format!("has {}, must have 0, 1 or {}", numbers(noise.len()), stretch.len());
            return Err(invalid(format!("{field}.noise"), reason));
        }
        finite(noise, || format!("{field}.noise"))?;
        finite(&[scale], || format!("{field}.scale"))?;
        for (channel, amplitude) in stretch.iter_mut().zip(noise.iter().cycle()) {
            channel.noise = amplitude.abs() * self.noise_scale * scale.abs();
        }
        for channel in stretch {
            channel.scale = scale;
        }
        Ok(())
    }

    fn joints(&mut self, joints: &[String], position: bool, source: fn(usize) -> Source) -> Result<(), SceneError> {
        for (at, name) in joints.iter().enumerate() {
            let field = format!("{}.joints.{at}", self.field);
            let joint = self.resolver.joint(name, &field)?;
            let id = self.resolver.id(MjtObjBase::mjOBJ_JOINT, "joint", name, &field)?;
            let range = if position { joint.positions } else { joint.velocities };
            let several = range.len() > 1;
            for (component, address) in range.enumerate() {
                let name = if several {
                    format!("{name}[{component}]")
                } else {
                    name.clone()
                };
                let unit = if position { joint_unit } else { velocity_unit };
                self.push(name, unit(self.resolver.model, id, component), source(address));
            }
        }
        Ok(())
    }

    /// Scaled channels are no longer what servos and elements look for.
    fn scale_joints(&mut self, first: usize, scale: f64) {
        if scale == 1.0 {
            return;
        }
        let mut sources = Vec::new();
        for channel in &mut self.observed.channels[first..] {
            sources.push(std::mem::replace(&mut channel.source, Source::Term));
        }
        let channels = first..self.observed.channels.len();
        let kind = TermKind::Read(sources);
        self.observed.terms.push(CompiledTerm { channels, kind });
    }

    fn bodies(&mut self, bodies: &[String]) -> Result<(), SceneError> {
        for (at, name) in bodies.iter().enumerate() {
            let field = format!("{}.bodies.{at}", self.field);
            let id = self.resolver.id(MjtObjBase::mjOBJ_BODY, "body", name, &field)?;
            for (axis, letter) in XYZ.iter().enumerate() {
                self.push(format!("{name}.{letter}"), "m", Source::Body(3 * id + axis));
            }
        }
        Ok(())
    }

    fn goals_of_channels(&mut self, shown: &Shown) -> Result<(), SceneError> {
        let shown = self.shown(shown)?;
        let known =
            |channel: &&Channel| !matches!(channel.source, Source::Constant(_) | Source::Drawn(..) | Source::Term);
        let seen = self.observed.channels.iter().filter(known);
        let goals: Vec<_> = seen
            .map(|channel| Channel {
                name: format!("goal of {}", channel.name),
                unit: channel.unit,
                source: goal_of(channel, self.elements, &shown),
                noise: 0.0,
                scale: 1.0,
                term: self.term,
            })
            .collect();
        self.observed.channels.extend(goals);
        Ok(())
    }

    /// Indices of the elements that a term is about.
    fn shown(&self, shown: &Shown) -> Result<Vec<usize>, SceneError> {
        match shown {
            Shown::Task => Ok(self.task.to_vec()),
            Shown::Elements(names) => names
                .iter()
                .enumerate()
                .map(|(at, name)| element_index(self.elements, name, &format!("{}.shown.0.{at}", self.field)))
                .collect(),
        }
    }

    fn relative(&self, relative_to: Option<&Place>, axes: Axes) -> Result<Relative, SceneError> {
        let field = format!("{}.relative_to", self.field);
        let place = relative_to
            .map(|place| self.resolver.place(place, &field))
            .transpose()?;
        Ok(Relative {
            place,
            own_axes: axes == Axes::Own,
        })
    }

    fn places(
        &self,
        of: &[Place],
        relative_to: Option<&Place>,
        axes: Axes,
    ) -> Result<(Vec<CompiledPlace>, Relative), SceneError> {
        let places = self.resolver.places(of, &format!("{}.of", self.field))?;
        Ok((places, self.relative(relative_to, axes)?))
    }

    fn vectors(&mut self, of: &[Place], relative_to: Option<&Place>, prefix: &str, unit: &'static str) {
        let letters = XYZ.iter().map(|letter| format!("{prefix}{letter}"));
        self.components(of, relative_to, letters, unit);
    }

    fn components(
        &mut self,
        of: &[Place],
        relative_to: Option<&Place>,
        letters: impl Iterator<Item = String> + Clone,
        unit: &'static str,
    ) {
        let from = relative_to.map_or_else(String::new, |place| format!(" from {}", place.label()));
        for place in of {
            let label = place.label();
            for letter in letters.clone() {
                self.push(format!("{label}.{letter}{from}"), unit, Source::Term);
            }
        }
    }

    fn sensors(&mut self, sensors: &[String]) -> Result<TermKind, SceneError> {
        let mut addresses = Vec::new();
        for (at, name) in sensors.iter().enumerate() {
            let field = format!("{}.sensors.{at}", self.field);
            let model = self.resolver.model;
            let id = self.resolver.id(MjtObjBase::mjOBJ_SENSOR, "sensor", name, &field)?;
            let (start, dim) = (model.sensor_adr()[id] as usize, model.sensor_dim()[id] as usize);
            for component in 0..dim {
                let name = if dim > 1 {
                    format!("{name}[{component}]")
                } else {
                    name.clone()
                };
                self.push(name, sensor_unit(model, id), Source::Term);
            }
            addresses.extend(start..start + dim);
        }
        Ok(TermKind::Sensors(addresses))
    }

    fn contacts(&mut self, between: &[(Thing, Thing)], force: bool) -> Result<TermKind, SceneError> {
        let mut contacts = Vec::new();
        for (at, pair) in between.iter().enumerate() {
            contacts.push(self.resolver.contact(pair, &format!("{}.between.{at}", self.field))?);
            let (what, unit) = if force { ("force", "N") } else { ("contact", "") };
            let name = format!("{what} {}-{}", pair.0.label(), pair.1.label());
            self.push(name, unit, Source::Term);
        }
        Ok(if force {
            TermKind::Forces(contacts)
        } else {
            TermKind::Touching(contacts)
        })
    }

    fn goals(&mut self, shown: &Shown, relative_to: Option<&Place>, axes: Axes) -> Result<TermKind, SceneError> {
        let relative = self.relative(relative_to, axes)?;
        let from = relative_to.map_or_else(String::new, |place| format!(" from {}", place.label()));
        let mut parts = Vec::new();
        for index in self.shown(shown)? {
            let element = &self.elements[index];
            let drawn = element.drawn.as_ref().map(|drawn| drawn.memory);
            if let Some(target) = element.when.as_ref().and_then(|when| when.target()) {
                parts.push(GoalPart::Point(target, drawn));
                for letter in XYZ {
                    self.push(format!("goal of {}.{letter}{from}", element.name), "m", Source::Term);
                }
            } else if element.goal.is_empty() {
                let reason = format!("{:?} has no goal that could be shown, only a condition", element.name);
                return Err(invalid(format!("{}.shown", self.field), reason));
            } else {
                for (at, &goal) in element.goal.iter().enumerate() {
                    parts.push(GoalPart::Number(goal, drawn.map(|drawn| drawn + at)));
                    let several = element.goal.len() > 1;
                    let component = if several { format!("[{at}]") } else { String::new() };
                    self.push(
                        format!("goal of {}{component}", element.name),
                        element.units[at],
                        Source::Term,
                    );
                }
            }
        }
        Ok(TermKind::Goals(parts, relative))
    }
}

/// The goal that the shown elements have for a channel.
fn goal_of(channel: &Channel, elements: &[CompiledElement], shown: &[usize]) -> Source {
    let goals = shown.iter().filter_map(|&element| elements.get(element));
    let found = goals
        .filter_map(|element| {
            let at = element.values.iter().position(|value| *value == channel.source)?;
            Some((element, at))
        })
        .next();
    match found {
        Some((element, at)) => match &element.drawn {
            Some(drawn) => Source::Drawn(element.goal[at], drawn.memory + at),
            None => Source::Constant(element.goal[at]),
        },
        None => Source::Constant(0.0),
    }
}
