//! What differs from episode to episode: the field `randomise` of a scene.
//!
//! All draws of an episode come from a random stream of its own, in the order of the list and, within a term, of its
//! names; they depend on nothing but the seed, the slot of the environment and the number of the episode.

use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;
use mujoco_rs::wrappers::mj_model::traits::ModelType;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::adjust::{Knob, derive_constants};
use super::changes::ids;
use super::light::{LightDraws, Setting, Triple, uniform};
use super::looks::Looks;
use super::resolve::{Resolver, finite, invalid};
use super::{Scene, SceneError};
use crate::rng::Stream;

/// How a number is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Draw {
    /// Between two numbers, all equally likely.
    Uniform(f64, f64),
    /// Between two positive numbers, so that the logarithm is uniform: `LogUniform(0.5, 2.0)` halves as often as it
    /// doubles.
    LogUniform(f64, f64),
}

impl Draw {
    /// A number: `low + (high - low) u`, or `exp` of that for the logarithms, with `u` uniform in `[0, 1)`.
    pub fn sample(self, stream: &mut Stream) -> f64 {
        let share = stream.random::<f64>();
        match self {
            Self::Uniform(low, high) => low + (high - low) * share,
            Self::LogUniform(low, high) => {
                let logarithm = low.ln() + (high.ln() - low.ln()) * share;
                logarithm.exp().clamp(low, high)
            }
        }
    }

    /// Lowest and highest number.
    pub fn bounds(self) -> (f64, f64) {
        match self {
            Self::Uniform(low, high) | Self::LogUniform(low, high) => (low, high),
        }
    }

    pub(super) fn check(self, least: f64, field: &str) -> Result<(), SceneError> {
        let (low, high) = self.bounds();
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(invalid(field, "must be two numbers, the lower one first"));
        }
        if low < least {
            return Err(invalid(field, format!("must be at least {least}, found {low}")));
        }
        if matches!(self, Self::LogUniform(..)) && low <= 0.0 {
            return Err(invalid(field, format!("logarithms need positive numbers, found {low}")));
        }
        Ok(())
    }
}

/// A property of the model that is drawn anew for every episode. Factors multiply what the model and `physics.changes`
/// say; several terms may concern one thing, then their factors multiply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::large_enum_variant, reason = "a scene has a handful of them, read once")]
pub enum Randomise {
    /// Mass and inertia of bodies.
    Mass {
        /// The bodies, each without its children.
        bodies: Vec<String>,
        /// Factor on mass and inertia.
        factor: Draw,
        /// One draw for all instead of one for each.
        #[serde(default)]
        together: bool,
    },
    /// Size of bodies; see [`ModelChange::Size`](super::ModelChange::Size).
    Size {
        /// The bodies.
        bodies: Vec<String>,
        /// Factor on all lengths.
        factor: Draw,
        /// One draw for all instead of one for each.
        #[serde(default)]
        together: bool,
        /// Whether the density stays instead of the mass.
        #[serde(default)]
        density: bool,
    },
    /// All three coefficients of friction of geoms.
    Friction {
        /// The geoms.
        geoms: Vec<String>,
        /// Factor on the coefficients.
        factor: Draw,
        /// One draw for all instead of one for each.
        #[serde(default)]
        together: bool,
    },
    /// Linear damping of joints.
    Damping {
        /// The joints.
        joints: Vec<String>,
        /// Factor on the damping.
        factor: Draw,
        /// One draw for all instead of one for each.
        #[serde(default)]
        together: bool,
    },
    /// Gravity.
    Gravity {
        /// Factor on the vector.
        factor: Draw,
    },
    /// Force of actuators for the same control and state; see [`ModelChange::Gain`](super::ModelChange::Gain).
    Gain {
        /// The actuators.
        actuators: Vec<String>,
        /// Factor on the force.
        factor: Draw,
        /// One draw for all instead of one for each.
        #[serde(default)]
        together: bool,
    },
    /// Colour of geoms: red, green and blue, each uniform between two limits. The opacity stays.
    Colour {
        /// The geoms.
        geoms: Vec<String>,
        /// Lowest red, green and blue, 0 to 1.
        #[serde(default)]
        low: (f64, f64, f64),
        /// Highest red, green and blue, 0 to 1.
        #[serde(default = "white")]
        high: (f64, f64, f64),
        /// One draw for all instead of one for each.
        #[serde(default)]
        together: bool,
    },
    /// Place of bodies that have no joints.
    Position {
        /// The bodies.
        bodies: Vec<String>,
        /// Added to the place along the axes x, y and z of the parent's frame, m: lowest and highest, uniform.
        #[serde(default)]
        offset: [(f64, f64); 3],
        /// Turn about the parent's z axis through the body's origin, rad: lowest and highest, uniform.
        #[serde(default)]
        yaw: (f64, f64),
        /// One draw for all instead of one for each.
        #[serde(default)]
        together: bool,
    },
    /// Lights: lowest and highest of each number, uniform; what is left out stays. See
    /// [`ModelChange::Light`](super::ModelChange::Light).
    Light {
        /// The lights.
        lights: Vec<String>,
        /// Place in the frame of the light's body, m.
        #[serde(default)]
        position: Option<Ranges>,
        /// Direction in the frame of the light's body, of any length.
        #[serde(default)]
        direction: Option<Ranges>,
        /// What the light adds everywhere: red, green and blue, 0 to 1.
        #[serde(default)]
        ambient: Option<Ranges>,
        /// What it adds to surfaces that face it.
        #[serde(default)]
        diffuse: Option<Ranges>,
        /// The colour of its highlights.
        #[serde(default)]
        specular: Option<Ranges>,
        /// Share of the episodes in which it is on, 0 to 1.
        #[serde(default)]
        active: Option<f64>,
        /// One draw for all instead of one for each.
        #[serde(default)]
        together: bool,
    },
}

/// Lowest and highest of three numbers.
type Ranges = Triple<(f64, f64)>;

fn white() -> (f64, f64, f64) {
    (1.0, 1.0, 1.0)
}

/// What a term does with the numbers it draws.
#[derive(Debug, Clone, PartialEq)]
enum Effect {
    /// One factor.
    Factor(Draw),
    /// Red, green and blue.
    Colour([Draw; 3]),
    /// Offsets along three axes and a turn.
    Move([Draw; 4]),
    /// What lights are set to.
    Light(Box<LightDraws>),
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    knobs: Vec<Knob>,
    effect: Effect,
    together: bool,
}

/// A resolved list of [`Randomise`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CompiledRandomisation {
    terms: Vec<Term>,
    consequences: bool,
    looks: Looks,
}

impl CompiledRandomisation {
    /// Whether all episodes have the model of the scene.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// What of it is to be seen.
    pub fn looks(&self) -> &Looks {
        &self.looks
    }

    /// Turns `model`, a copy of `base`, into that of the episode with this stream, whatever it was before. `data`, of
    /// the same layout, is left in an arbitrary pose.
    pub(crate) fn apply<M: ModelType>(
        &self,
        model: &mut MjModel,
        base: &MjModel,
        data: &mut MjData<M>,
        stream: &mut Stream,
    ) {
        for knob in self.terms.iter().flat_map(|term| &term.knobs) {
            knob.restore(model, base);
        }
        for term in &self.terms {
            term.apply(model, stream);
        }
        if self.consequences {
            derive_constants(model, data);
        }
    }

    /// The largest factor by which a body can grow.
    pub(super) fn largest_size(&self, body: usize) -> f64 {
        let grows = |knob: &&Knob| matches!(knob, Knob::Size { body: sized, .. } if *sized == body);
        let factor = |term: &Term| match term.effect {
            Effect::Factor(draw) => draw.bounds().1.powi(term.knobs.iter().filter(grows).count() as i32),
            _ => 1.0,
        };
        self.terms.iter().map(factor).product()
    }
}

impl Term {
    fn apply(&self, model: &mut MjModel, stream: &mut Stream) {
        let mut numbers = [0.0; 4];
        let mut setting = Setting::default();
        for (index, knob) in self.knobs.iter().enumerate() {
            if index == 0 || !self.together {
                match &self.effect {
                    Effect::Light(draws) => setting = draws.sample(stream),
                    effect => effect.draw(stream, &mut numbers),
                }
            }
            match knob {
                Knob::Colour { geom } => {
                    for (to, from) in model.geom_rgba_mut()[*geom].iter_mut().zip(&numbers[..3]) {
                        *to = *from as f32;
                    }
                }
                Knob::Position { body } => relocate(model, *body, &numbers),
                Knob::Light(lamp) => lamp.set(model, &setting),
                factor => factor.scale(model, numbers[0]),
            }
        }
    }
}

impl Effect {
    fn draw(&self, stream: &mut Stream, numbers: &mut [f64; 4]) {
        let draws = match self {
            Self::Factor(draw) => std::slice::from_ref(draw),
            Self::Colour(draws) => draws,
            Self::Move(draws) => draws,
            Self::Light(_) => &[],
        };
        for (number, draw) in numbers.iter_mut().zip(draws) {
            *number = draw.sample(stream);
        }
    }
}

/// Moves a body by three offsets and turns it about the vertical of its parent.
fn relocate(model: &mut MjModel, body: usize, [x, y, z, yaw]: &[f64; 4]) {
    for (to, by) in model.body_pos_mut()[body].iter_mut().zip([x, y, z]) {
        *to += by;
    }
    if *yaw != 0.0 {
        let turned = turned(model.body_quat()[body], *yaw);
        model.body_quat_mut()[body] = turned;
    }
}

/// A rotation (w x y z) followed by a turn about z.
pub(crate) fn turned([w, x, y, z]: [f64; 4], yaw: f64) -> [f64; 4] {
    let (sin, cos) = (yaw / 2.0).sin_cos();
    [
        cos * w - sin * z,
        cos * x - sin * y,
        cos * y + sin * x,
        cos * z + sin * w,
    ]
}

pub(super) fn randomisation(scene: &Scene, resolver: &Resolver) -> Result<CompiledRandomisation, SceneError> {
    let terms = scene.randomise.iter().enumerate();
    let terms = terms.map(|(index, term)| compile(term, &format!("randomise.{index}"), resolver));
    let terms = terms.collect::<Result<Vec<_>, _>>()?;
    let consequences = terms.iter().flat_map(|term| &term.knobs).any(Knob::has_consequences);
    let knobs = terms.iter().flat_map(|term| &term.knobs);
    let looks = Looks::of(knobs, resolver.model);
    Ok(CompiledRandomisation {
        terms,
        consequences,
        looks,
    })
}

fn compile(term: &Randomise, field: &str, resolver: &Resolver) -> Result<Term, SceneError> {
    let factor = |draw: Draw, least: f64| {
        draw.check(least, &format!("{field}.factor"))?;
        Ok::<_, SceneError>(Effect::Factor(draw))
    };
    // Nothing may weigh nothing or have no extent.
    const SOME: f64 = 1e-6;
    let (knobs, effect, together) = match term {
        Randomise::Mass {
            bodies,
            factor: draw,
            together,
        } => {
            let body = |name: &str, field: &str| resolver.heavy_body(name, field).map(|body| Knob::Mass { body });
            (ids(bodies, field, "bodies", body)?, factor(*draw, SOME)?, *together)
        }
        Randomise::Size {
            bodies,
            factor: draw,
            together,
            density,
        } => {
            let density = *density;
            let body = |name: &str, field: &str| {
                let body = resolver.sizeable_body(name, field)?;
                Ok(Knob::Size { body, density })
            };
            (ids(bodies, field, "bodies", body)?, factor(*draw, SOME)?, *together)
        }
        Randomise::Friction {
            geoms,
            factor: draw,
            together,
        } => {
            let geom = |name: &str, field: &str| resolver.geom(name, field).map(|geom| Knob::Friction { geom });
            (ids(geoms, field, "geoms", geom)?, factor(*draw, 0.0)?, *together)
        }
        Randomise::Damping {
            joints,
            factor: draw,
            together,
        } => {
            let joint = |name: &str, field: &str| {
                let velocities = resolver.joint(name, field)?.velocities;
                Ok(Knob::Damping { velocities })
            };
            (ids(joints, field, "joints", joint)?, factor(*draw, 0.0)?, *together)
        }
        Randomise::Gravity { factor: draw } => (vec![Knob::Gravity], factor(*draw, 0.0)?, false),
        Randomise::Gain {
            actuators,
            factor: draw,
            together,
        } => {
            let gain = |name: &str, field: &str| resolver.gain(name, field).map(|actuator| Knob::Gain { actuator });
            (
                ids(actuators, field, "actuators", gain)?,
                factor(*draw, 0.0)?,
                *together,
            )
        }
        Randomise::Colour {
            geoms,
            low,
            high,
            together,
        } => {
            let geom = |name: &str, field: &str| resolver.geom(name, field).map(|geom| Knob::Colour { geom });
            let draws = [(low.0, high.0), (low.1, high.1), (low.2, high.2)].map(|(low, high)| Draw::Uniform(low, high));
            for draw in draws {
                draw.check(0.0, &format!("{field}.low"))?;
                if draw.bounds().1 > 1.0 {
                    return Err(invalid(format!("{field}.high"), "must be three numbers from 0 to 1"));
                }
            }
            (ids(geoms, field, "geoms", geom)?, Effect::Colour(draws), *together)
        }
        Randomise::Position {
            bodies,
            offset,
            yaw,
            together,
        } => {
            let body = |name: &str, field: &str| resolver.fixed_body(name, field).map(|body| Knob::Position { body });
            let [x, y, z] = offset.map(|(low, high)| Draw::Uniform(low, high));
            for (axis, draw) in [x, y, z].into_iter().enumerate() {
                draw.check(f64::NEG_INFINITY, &format!("{field}.offset.{axis}"))?;
            }
            finite(&[yaw.0, yaw.1], || format!("{field}.yaw"))?;
            let turn = Draw::Uniform(yaw.0, yaw.1);
            turn.check(f64::NEG_INFINITY, &format!("{field}.yaw"))?;
            (
                ids(bodies, field, "bodies", body)?,
                Effect::Move([x, y, z, turn]),
                *together,
            )
        }
        Randomise::Light {
            lights,
            position,
            direction,
            ambient,
            diffuse,
            specular,
            active,
            together,
        } => {
            let lamps = ids(lights, field, "lights", |name, field| resolver.lamp(name, field))?;
            let draws = LightDraws {
                position: uniform(position),
                direction: uniform(direction),
                ambient: uniform(ambient),
                diffuse: uniform(diffuse),
                specular: uniform(specular),
                active: *active,
            };
            draws.check(&lamps, field)?;
            let knobs = lamps.into_iter().map(Knob::Light).collect();
            (knobs, Effect::Light(Box::new(draws)), *together)
        }
    };
    Ok(Term {
        knobs,
        effect,
        together,
    })
}
