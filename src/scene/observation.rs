//! What an agent sees: the field `observation` of a scene.

use mujoco_rs::wrappers::mj_model::MjtObjBase;
use serde::{Deserialize, Serialize};

use super::resolve::{Resolver, finite, invalid};
use super::task::{CompiledElement, element_index};
use super::{Scene, SceneError, five, forty_five, one, thirty_two, two, yes};

/// What an agent sees: the terms one after another, with uniform noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservationSpec {
    /// Whether noise is added at all.
    #[serde(default = "yes")]
    pub noise: bool,
    /// Factor on the amplitudes of all terms.
    #[serde(default = "one")]
    pub noise_scale: f64,
    /// Lowest and highest number; others are clipped.
    #[serde(default)]
    pub clip: Option<(f64, f64)>,
    /// The terms, in the order of the observation's numbers.
    pub terms: Vec<ObservationTerm>,
    /// Pictures that agents see besides the numbers.
    #[serde(default)]
    pub pixels: Option<PixelSpec>,
}

/// Pictures that agents see: RGB, the last few of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelSpec {
    /// Where they are taken from.
    pub eye: Eye,
    /// Width and height, pixels.
    #[serde(default = "thirty_two")]
    pub size: u32,
    /// Pictures that are seen at once, one for each of the last control steps.
    #[serde(default = "two")]
    pub frames: u32,
}

/// Where the pictures of a [`PixelSpec`] are taken from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Eye {
    /// From straight above: up in the picture is +x, right is -y. The point that is looked at follows a body.
    Above {
        /// The body.
        body: String,
        /// Distance from the point that is looked at, m.
        #[serde(default = "five")]
        distance: f64,
        /// Vertical field of view, degrees.
        #[serde(default = "forty_five")]
        fovy: f64,
        /// Share of the way to the body by which the point moves at each picture; 1 follows at once.
        #[serde(default = "one")]
        lag: f64,
    },
    /// Carried along by a body without turning with it.
    Carried {
        /// The body.
        body: String,
        /// From the body to the eye, m, axes of the world.
        offset: (f64, f64, f64),
        /// From the body to the point that is looked at, m, axes of the world.
        target: (f64, f64, f64),
        /// Vertical field of view, degrees.
        #[serde(default = "forty_five")]
        fovy: f64,
    },
}

/// A stretch of numbers in the observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ObservationTerm {
    /// Joint positions: 1 number for a hinge (rad) or slide (m), 4 for a ball joint (quaternion w x y z), 7 for a free
    /// joint (position in m, then quaternion).
    Position {
        /// The joints.
        joints: Vec<String>,
        /// Noise amplitudes before [`ObservationSpec::noise_scale`]: none, one for all numbers, or one for each. The
        /// noise is uniform within plus and minus the amplitude.
        #[serde(default)]
        noise: Vec<f64>,
        /// Their magnitudes, without the sign.
        #[serde(default)]
        absolute: bool,
    },
    /// Joint velocities: 1 number for a hinge (rad/s) or slide (m/s), 3 for a ball joint, 6 for a free joint.
    Velocity {
        /// The joints.
        joints: Vec<String>,
        /// Noise amplitudes, as for positions.
        #[serde(default)]
        noise: Vec<f64>,
    },
    /// Positions of bodies in the world, 3 numbers each, m. After a step they are those that `MuJoCo` has worked out in its
    /// last physics step, from the positions before it.
    Body {
        /// The bodies.
        bodies: Vec<String>,
    },
    /// For every position and velocity before it, the goal of the shown elements, or zero where they have none.
    Goal {
        /// The elements whose goals are shown.
        shown: Shown,
    },
}

/// The elements whose goals an observation shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Shown {
    /// Those of the task.
    Task,
    /// These, whatever the task is.
    Elements(Vec<String>),
}

/// One number of the observation.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Joint name, with the component for joints of several numbers, for example `kettle[2]`.
    pub name: String,
    /// Where the number comes from.
    pub source: Source,
    /// Amplitude of the uniform noise, after all scales; 0 for none.
    pub noise: f64,
}

/// Where a number of the observation comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source {
    /// Index into `qpos`.
    Position(usize),
    /// Magnitude of the number at this index in `qpos`.
    Magnitude(usize),
    /// Index into `qvel`.
    Velocity(usize),
    /// Index into `xpos`, the bodies' positions in the world, three numbers each.
    Body(usize),
    /// Always this number.
    Constant(f64),
}

impl Source {
    /// The number in a state of the scene's model: `qpos` `[nq]`, `qvel` `[nv]` and `xpos` `[nbody]`.
    pub fn read(self, qpos: &[f64], qvel: &[f64], xpos: &[[f64; 3]]) -> f64 {
        match self {
            Self::Position(index) => qpos[index],
            Self::Magnitude(index) => qpos[index].abs(),
            Self::Velocity(index) => qvel[index],
            Self::Body(index) => xpos[index / 3][index % 3],
            Self::Constant(value) => value,
        }
    }
}

pub(super) fn channels(
    scene: &Scene,
    resolver: &Resolver,
    elements: &[CompiledElement],
    task: &[usize],
) -> Result<Vec<Channel>, SceneError> {
    let spec = &scene.observation;
    if !(spec.noise_scale.is_finite() && spec.noise_scale >= 0.0) {
        return Err(invalid("observation.noise_scale", "must not be negative"));
    }
    let scale = if spec.noise { spec.noise_scale } else { 0.0 };
    let mut channels: Vec<Channel> = Vec::new();
    for (index, term) in spec.terms.iter().enumerate() {
        let field = format!("observation.terms.{index}");
        let first = channels.len();
        let (joints, noise) = match term {
            ObservationTerm::Position { joints, noise, .. } | ObservationTerm::Velocity { joints, noise } => {
                (joints, noise)
            }
            ObservationTerm::Body { bodies } => {
                for (at, name) in bodies.iter().enumerate() {
                    let field = format!("{field}.bodies.{at}");
                    let id = resolver.id(MjtObjBase::mjOBJ_BODY, "body", name, &field)?;
                    channels.extend(["x", "y", "z"].iter().enumerate().map(|(axis, letter)| Channel {
                        name: format!("{name}.{letter}"),
                        source: Source::Body(3 * id + axis),
                        noise: 0.0,
                    }));
                }
                continue;
            }
            ObservationTerm::Goal { shown } => {
                let shown = match shown {
                    Shown::Task => task.to_vec(),
                    Shown::Elements(names) => names
                        .iter()
                        .enumerate()
                        .map(|(at, name)| element_index(elements, name, &format!("{field}.shown.{at}")))
                        .collect::<Result<_, _>>()?,
                };
                let seen = channels
                    .iter()
                    .filter(|channel| !matches!(channel.source, Source::Constant(_)));
                let goals: Vec<_> = seen.map(|channel| goal_of(channel, elements, &shown)).collect();
                channels.extend(goals);
                continue;
            }
        };
        for (at, name) in joints.iter().enumerate() {
            let joint = resolver.joint(name, &format!("{field}.joints.{at}"))?;
            let (range, source): (_, fn(usize) -> Source) = match term {
                ObservationTerm::Velocity { .. } => (joint.velocities, Source::Velocity),
                ObservationTerm::Position { absolute: true, .. } => (joint.positions, Source::Magnitude),
                _ => (joint.positions, Source::Position),
            };
            let several = range.len() > 1;
            channels.extend(range.enumerate().map(|(component, address)| Channel {
                name: if several {
                    format!("{name}[{component}]")
                } else {
                    name.clone()
                },
                source: source(address),
                noise: 0.0,
            }));
        }
        let stretch = &mut channels[first..];
        if !(noise.len() <= 1 || noise.len() == stretch.len()) {
            let reason = format!("has {} numbers, must have 0, 1 or {}", noise.len(), stretch.len());
            return Err(invalid(format!("{field}.noise"), reason));
        }
        finite(noise, || format!("{field}.noise"))?;
        for (channel, amplitude) in stretch.iter_mut().zip(noise.iter().cycle()) {
            channel.noise = amplitude.abs() * scale;
        }
    }
    if channels.is_empty() {
        return Err(invalid("observation.terms", "nothing is observed"));
    }
    if let Some((low, high)) = spec.clip
        && !(low.is_finite() && high.is_finite() && low < high)
    {
        return Err(invalid("observation.clip", "must be two numbers, the lower one first"));
    }
    Ok(channels)
}

pub(super) fn goal_of(channel: &Channel, elements: &[CompiledElement], shown: &[usize]) -> Channel {
    let goal = shown
        .iter()
        .filter_map(|&element| elements.get(element))
        .find_map(|element| {
            element
                .values
                .iter()
                .zip(&element.goal)
                .find(|(value, _)| **value == channel.source)
                .map(|(_, goal)| *goal)
        });
    Channel {
        name: format!("goal of {}", channel.name),
        source: Source::Constant(goal.unwrap_or(0.0)),
        noise: 0.0,
    }
}
