//! Lights of a model: what a scene may change of them, once or for every episode.

use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use rand::RngExt;

use super::SceneError;
use super::randomise::Draw;
use super::resolve::{Resolver, finite, invalid, unknown};
use crate::rng::Stream;

/// How the light that goes with the eye is named.
pub(crate) const HEAD_LIGHT: &str = "headlight";
/// Shorter directions point nowhere.
const SHORTEST: f64 = 1e-9;

/// Three numbers: a place, a direction or a colour.
pub(super) type Triple<T> = (T, T, T);

/// A light of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lamp {
    /// The one that goes with the eye.
    Head,
    /// One that the model lists.
    Numbered(usize),
}

/// What a light is set to; what is left out stays.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Setting {
    /// In the frame of its body, m.
    pub position: Option<[f64; 3]>,
    /// In the frame of its body, of any length.
    pub direction: Option<[f64; 3]>,
    /// Red, green and blue, 0 to 1, as are the next two.
    pub ambient: Option<[f32; 3]>,
    pub diffuse: Option<[f32; 3]>,
    pub specular: Option<[f32; 3]>,
    pub active: Option<bool>,
}

/// How a [`Setting`] is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct LightDraws {
    pub position: Option<[Draw; 3]>,
    pub direction: Option<[Draw; 3]>,
    pub ambient: Option<[Draw; 3]>,
    pub diffuse: Option<[Draw; 3]>,
    pub specular: Option<[Draw; 3]>,
    /// Share of the episodes in which it is on.
    pub active: Option<f64>,
}

impl Lamp {
    /// Puts the light back to what it is in `base`, a model of the same layout.
    pub fn restore(self, model: &mut MjModel, base: &MjModel) {
        match self {
            Self::Head => model.vis_mut().headlight.clone_from(&base.vis().headlight),
            Self::Numbered(light) => {
                model.light_pos_mut()[light] = base.light_pos()[light];
                model.light_dir_mut()[light] = base.light_dir()[light];
                model.light_ambient_mut()[light] = base.light_ambient()[light];
                model.light_diffuse_mut()[light] = base.light_diffuse()[light];
                model.light_specular_mut()[light] = base.light_specular()[light];
                model.light_active_mut()[light] = base.light_active()[light];
            }
        }
    }

    /// Sets what is given. The head-light has no place and no direction; a direction of no length is left out.
    pub(super) fn set(self, model: &mut MjModel, to: &Setting) {
        fn put<T>(to: &mut T, from: Option<T>) {
            if let Some(from) = from {
                *to = from;
            }
        }
        match self {
            Self::Head => {
                let head = &mut model.vis_mut().headlight;
                put(&mut head.ambient, to.ambient);
                put(&mut head.diffuse, to.diffuse);
                put(&mut head.specular, to.specular);
                put(&mut head.active, to.active.map(i32::from));
            }
            Self::Numbered(light) => {
                put(&mut model.light_pos_mut()[light], to.position);
                put(&mut model.light_dir_mut()[light], to.direction.and_then(unit));
                put(&mut model.light_ambient_mut()[light], to.ambient);
                put(&mut model.light_diffuse_mut()[light], to.diffuse);
                put(&mut model.light_specular_mut()[light], to.specular);
                put(&mut model.light_active_mut()[light], to.active);
            }
        }
    }
}

/// The same direction with length 1.
fn unit(direction: [f64; 3]) -> Option<[f64; 3]> {
    let length = direction.iter().map(|part| part * part).sum::<f64>().sqrt();
    (length > SHORTEST).then(|| direction.map(|part| part / length))
}

impl Setting {
    /// Whether the numbers make sense for these lights. `field` is the change.
    pub(super) fn check(&self, lamps: &[Lamp], field: &str) -> Result<(), SceneError> {
        if *self == Self::default() {
            return Err(nothing_set(field));
        }
        fits(lamps, self.position.is_some(), self.direction.is_some(), field)?;
        for (name, vector) in [("position", self.position), ("direction", self.direction)] {
            finite(&vector.unwrap_or_default(), || format!("{field}.{name}"))?;
        }
        if self.direction.is_some_and(|direction| unit(direction).is_none()) {
            return Err(points_nowhere(field));
        }
        let colours = [
            ("ambient", self.ambient),
            ("diffuse", self.diffuse),
            ("specular", self.specular),
        ];
        for (name, colour) in colours {
            if !colour.unwrap_or_default().iter().all(|part| (0.0..=1.0).contains(part)) {
                return Err(invalid(format!("{field}.{name}"), "must be three numbers from 0 to 1"));
            }
        }
        Ok(())
    }
}

impl LightDraws {
    /// A setting, drawn in the order of the fields.
    pub(super) fn sample(&self, stream: &mut Stream) -> Setting {
        let mut numbers = |draws: Option<[Draw; 3]>| draws.map(|draws| draws.map(|draw| draw.sample(stream)));
        let colour = |numbers: Option<[f64; 3]>| numbers.map(|numbers| numbers.map(|number| number as f32));
        let (position, direction) = (numbers(self.position), numbers(self.direction));
        let (ambient, diffuse) = (colour(numbers(self.ambient)), colour(numbers(self.diffuse)));
        let specular = colour(numbers(self.specular));
        Setting {
            position,
            direction,
            ambient,
            diffuse,
            specular,
            active: self.active.map(|share| stream.random::<f64>() < share),
        }
    }

    /// Whether the numbers make sense for these lights. `field` is the term.
    pub(super) fn check(&self, lamps: &[Lamp], field: &str) -> Result<(), SceneError> {
        if *self == Self::default() {
            return Err(nothing_set(field));
        }
        fits(lamps, self.position.is_some(), self.direction.is_some(), field)?;
        let colours = [
            ("ambient", self.ambient),
            ("diffuse", self.diffuse),
            ("specular", self.specular),
        ];
        for (name, draws) in [("position", self.position), ("direction", self.direction)]
            .into_iter()
            .chain(colours)
        {
            for (at, draw) in draws.iter().flatten().enumerate() {
                draw.check(f64::NEG_INFINITY, &format!("{field}.{name}.{at}"))?;
            }
        }
        let nothing = |draws: [Draw; 3]| draws.iter().all(|draw| draw.bounds() == (0.0, 0.0));
        if self.direction.is_some_and(nothing) {
            return Err(points_nowhere(field));
        }
        for (name, draws) in colours {
            let inside = |draw: &Draw| (0.0..=1.0).contains(&draw.bounds().0) && draw.bounds().1 <= 1.0;
            if !draws.iter().flatten().all(inside) {
                let reason = "must be three pairs of numbers from 0 to 1";
                return Err(invalid(format!("{field}.{name}"), reason));
            }
        }
        match self.active {
            Some(share) if !(0.0..=1.0).contains(&share) => Err(invalid(
                format!("{field}.active"),
                format!("is the share of episodes in which the light is on, 0 to 1, found {share}"),
            )),
            _ => Ok(()),
        }
    }
}

/// Three ranges as what they draw.
pub(super) fn uniform(ranges: &Option<Triple<(f64, f64)>>) -> Option<[Draw; 3]> {
    ranges.map(|(x, y, z)| [x, y, z].map(|(low, high)| Draw::Uniform(low, high)))
}

fn points_nowhere(field: &str) -> SceneError {
    invalid(format!("{field}.direction"), "points nowhere: it has no length")
}

fn nothing_set(field: &str) -> SceneError {
    let reason = "changes nothing; expected `position`, `direction`, `ambient`, `diffuse`, `specular` or `active`";
    invalid(field, reason)
}

/// The light at the eye shines from wherever the eye is.
fn fits(lamps: &[Lamp], position: bool, direction: bool, field: &str) -> Result<(), SceneError> {
    let given = [(position, "position"), (direction, "direction")];
    match given.into_iter().find(|(given, _)| *given) {
        Some((_, name)) if lamps.contains(&Lamp::Head) => Err(invalid(
            format!("{field}.{name}"),
            format!("the {HEAD_LIGHT} goes with the eye and has none; only colours and `active` can be set"),
        )),
        _ => Ok(()),
    }
}

impl Resolver<'_> {
    /// A light by its name; one without a name is called by its number in the model, `"#0"` for the first.
    pub(super) fn lamp(&self, name: &str, field: &str) -> Result<Lamp, SceneError> {
        let count = self.model.light_type().len();
        let number = name.strip_prefix('#').and_then(|number| number.parse().ok());
        if let Some(light) = number.filter(|light| *light < count) {
            return Ok(Lamp::Numbered(light));
        }
        // A NUL byte cannot be part of a name in the model, and must not reach the C side.
        let known = if name.contains('\0') {
            None
        } else {
            self.model.name_to_id(MjtObjBase::mjOBJ_LIGHT, name)
        };
        match known {
            Some(light) => Ok(Lamp::Numbered(light)),
            None if name == HEAD_LIGHT => Ok(Lamp::Head),
            None => {
                let names: Vec<String> = (0..count)
                    .map(|light| {
                        let name = self.model.id_to_name(MjtObjBase::mjOBJ_LIGHT, light);
                        name.filter(|name| !name.is_empty())
                            .map_or_else(|| format!("#{light}"), str::to_owned)
                    })
                    .chain([HEAD_LIGHT.to_owned()])
                    .collect();
                Err(unknown(field, "light", name, names.iter().map(String::as_str)))
            }
        }
    }
}
