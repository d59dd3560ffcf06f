//! Changes to a model that need no other file: the field `physics.changes` of a scene.

use mujoco_rs::mujoco_c::{mjtDisableBit, mjtEnableBit, mjtIntegrator};
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;
use serde::{Deserialize, Serialize};

use super::SceneError;
use super::adjust::{Knob, derive_constants};
use super::light::Setting;
use super::resolve::{Resolver, finite, invalid};

/// A change to the model, made once when it is loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ModelChange {
    /// Length of a physics step, s.
    Timestep(f64),
    /// Gravity, m/s², axes of the world.
    Gravity(f64, f64, f64),
    /// Lets things that lie still sleep: they are not simulated until something awake touches them, which costs a scene
    /// with many of them a fraction of the time. Trees of bodies with actuators never sleep. Contacts between sleeping
    /// things are not reported. `MuJoCo`'s `sleep` flag; not for models with the integrator RK4 or without islands.
    Sleep {
        /// What counts as still: the highest speed of a joint, m/s or rad/s, for ten physics steps.
        #[serde(default = "sleep_tolerance")]
        tolerance: f64,
    },
    /// Coefficients of friction: sliding, torsional (m), rolling (m); those left out stay. Of two geoms in contact the
    /// larger one counts, coefficient by coefficient, unless their priorities differ.
    Friction {
        /// The geoms.
        geoms: Vec<String>,
        /// One to three coefficients, in this order.
        value: Vec<f64>,
    },
    /// Mass of bodies, kg. Their inertia changes in the same proportion.
    Mass {
        /// The bodies, each without its children.
        bodies: Vec<String>,
        /// The mass of each.
        value: f64,
    },
    /// Linear damping of joints, N s/m or N m s/rad.
    Damping {
        /// The joints.
        joints: Vec<String>,
        /// The damping of each.
        value: f64,
    },
    /// Scales bodies about their origins: geoms, sites and centres of mass, but not their children or joints. The mass
    /// stays and the inertia is multiplied by `factor²`; with `density: true` they are multiplied by `factor³` and
    /// `factor⁵`. Not for meshes.
    Size {
        /// The bodies.
        bodies: Vec<String>,
        /// Factor on all lengths.
        factor: f64,
        /// Whether the density stays instead of the mass.
        #[serde(default)]
        density: bool,
    },
    /// Multiplies the force of actuators for the same control and state: gain and bias. For a position servo these are
    /// its stiffness and damping.
    Gain {
        /// The actuators.
        actuators: Vec<String>,
        /// Factor on the force.
        factor: f64,
    },
    /// Colour of geoms.
    Colour {
        /// The geoms.
        geoms: Vec<String>,
        /// Red, green, blue and opacity, 0 to 1.
        rgba: (f32, f32, f32, f32),
    },
    /// Moves bodies that have no joints.
    Position {
        /// The bodies.
        bodies: Vec<String>,
        /// Added to the place in the frame of the parent, m.
        offset: (f64, f64, f64),
    },
    /// Sets lights; what is left out stays. A scene that says something of its lights is shown in the light of its model.
    Light {
        /// Names of lights of the model, `"#0"` and so on for those without a name, `"headlight"` for that of the eye.
        lights: Vec<String>,
        /// Place in the frame of the light's body, m.
        #[serde(default)]
        position: Option<(f64, f64, f64)>,
        /// Direction in the frame of the light's body, of any length.
        #[serde(default)]
        direction: Option<(f64, f64, f64)>,
        /// What the light adds everywhere: red, green and blue, 0 to 1.
        #[serde(default)]
        ambient: Option<(f32, f32, f32)>,
        /// What it adds to surfaces that face it.
        #[serde(default)]
        diffuse: Option<(f32, f32, f32)>,
        /// The colour of its highlights.
        #[serde(default)]
        specular: Option<(f32, f32, f32)>,
        /// Whether it is on.
        #[serde(default)]
        active: Option<bool>,
    },
}

/// `MuJoCo`'s own.
const fn sleep_tolerance() -> f64 {
    1e-3
}

/// Makes the changes, in their order.
pub(super) fn apply(changes: &[ModelChange], model: &mut MjModel) -> Result<(), SceneError> {
    let mut consequences = false;
    for (index, change) in changes.iter().enumerate() {
        consequences |= change.apply(model, &format!("physics.changes.{index}"))?;
    }
    if consequences {
        let spare = MjData::try_new(Box::new(model.clone()));
        let mut spare = spare.map_err(|error| invalid("physics.changes", error.to_string()))?;
        derive_constants(model, &mut spare);
    }
    Ok(())
}

impl ModelChange {
    /// Makes the change; true if constants of the model follow from it.
    fn apply(&self, model: &mut MjModel, field: &str) -> Result<bool, SceneError> {
        match self {
            Self::Timestep(seconds) => {
                positive(*seconds, field)?;
                model.opt_mut().timestep = *seconds;
                Ok(false)
            }
            Self::Gravity(x, y, z) => {
                finite(&[*x, *y, *z], || field.into())?;
                model.opt_mut().gravity = [*x, *y, *z];
                Ok(false)
            }
            Self::Sleep { tolerance } => {
                positive(*tolerance, &format!("{field}.tolerance"))?;
                let options = model.opt_mut();
                if options.integrator == mjtIntegrator::mjINT_RK4 as i32 {
                    let reason =
                        "nothing sleeps with the model's integrator RK4; the others, such as implicitfast, allow it";
                    return Err(invalid(field, reason));
                }
                if options.disableflags & mjtDisableBit::mjDSBL_ISLAND as i32 != 0 {
                    return Err(invalid(
                        field,
                        "nothing sleeps in a model with the flag island=\"disable\"",
                    ));
                }
                options.enableflags |= mjtEnableBit::mjENBL_SLEEP as i32;
                options.sleep_tolerance = *tolerance;
                Ok(false)
            }
            Self::Friction { geoms, value } => {
                let field_of_value = format!("{field}.value");
                if value.is_empty() || value.len() > 3 {
                    return Err(invalid(
                        field_of_value,
                        format!("has {} numbers, must have 1 to 3", value.len()),
                    ));
                }
                value
                    .iter()
                    .try_for_each(|&value| not_negative(value, &field_of_value))?;
                for geom in ids(geoms, field, "geoms", |name, field| resolver(model).geom(name, field))? {
                    for (to, from) in model.geom_friction_mut()[geom].iter_mut().zip(value) {
                        *to = *from;
                    }
                }
                Ok(false)
            }
            Self::Mass { bodies, value } => {
                positive(*value, &format!("{field}.value"))?;
                let found = ids(bodies, field, "bodies", |name, field| {
                    resolver(model).heavy_body(name, field)
                })?;
                for body in found {
                    let factor = value / model.body_mass()[body];
                    Knob::Mass { body }.scale(model, factor);
                    model.body_mass_mut()[body] = *value;
                }
                Ok(true)
            }
            Self::Damping { joints, value } => {
                not_negative(*value, &format!("{field}.value"))?;
                let found = ids(joints, field, "joints", |name, field| {
                    Ok(resolver(model).joint(name, field)?.velocities)
                })?;
                for velocity in found.into_iter().flatten() {
                    model.dof_damping_mut()[velocity] = *value;
                }
                Ok(false)
            }
            Self::Size {
                bodies,
                factor,
                density,
            } => {
                positive(*factor, &format!("{field}.factor"))?;
                let found = ids(bodies, field, "bodies", |name, field| {
                    resolver(model).sizeable_body(name, field)
                })?;
                for body in found {
                    let density = *density;
                    Knob::Size { body, density }.scale(model, *factor);
                }
                Ok(true)
            }
            Self::Gain { actuators, factor } => {
                not_negative(*factor, &format!("{field}.factor"))?;
                let found = ids(actuators, field, "actuators", |name, field| {
                    resolver(model).gain(name, field)
                })?;
                for actuator in found {
                    Knob::Gain { actuator }.scale(model, *factor);
                }
                Ok(false)
            }
            Self::Colour { geoms, rgba } => {
                let rgba = [rgba.0, rgba.1, rgba.2, rgba.3];
                if !rgba.iter().all(|part| (0.0..=1.0).contains(part)) {
                    return Err(invalid(format!("{field}.rgba"), "must be four numbers from 0 to 1"));
                }
                for geom in ids(geoms, field, "geoms", |name, field| resolver(model).geom(name, field))? {
                    model.geom_rgba_mut()[geom] = rgba;
                }
                Ok(false)
            }
            Self::Position { bodies, offset } => {
                let offset = [offset.0, offset.1, offset.2];
                finite(&offset, || format!("{field}.offset"))?;
                let found = ids(bodies, field, "bodies", |name, field| {
                    resolver(model).fixed_body(name, field)
                })?;
                for body in found {
                    for (to, by) in model.body_pos_mut()[body].iter_mut().zip(offset) {
                        *to += by;
                    }
                }
                Ok(true)
            }
            Self::Light {
                lights,
                position,
                direction,
                ambient,
                diffuse,
                specular,
                active,
            } => {
                let to = Setting {
                    position: position.map(Into::into),
                    direction: direction.map(Into::into),
                    ambient: ambient.map(Into::into),
                    diffuse: diffuse.map(Into::into),
                    specular: specular.map(Into::into),
                    active: *active,
                };
                let lamps = ids(lights, field, "lights", |name, field| resolver(model).lamp(name, field))?;
                to.check(&lamps, field)?;
                for lamp in lamps {
                    lamp.set(model, &to);
                }
                Ok(true)
            }
        }
    }
}

fn resolver(model: &MjModel) -> Resolver<'_> {
    Resolver { model }
}

/// What `find` makes of each name of a list, of which there is at least one.
pub(super) fn ids<T>(
    names: &[String],
    field: &str,
    list: &str,
    find: impl Fn(&str, &str) -> Result<T, SceneError>,
) -> Result<Vec<T>, SceneError> {
    if names.is_empty() {
        return Err(invalid(format!("{field}.{list}"), "must list at least one name"));
    }
    names
        .iter()
        .enumerate()
        .map(|(at, name)| find(name, &format!("{field}.{list}.{at}")))
        .collect()
}

fn positive(value: f64, field: &str) -> Result<(), SceneError> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(invalid(field, format!("must be a positive number, found {value}")))
    }
}

fn not_negative(value: f64, field: &str) -> Result<(), SceneError> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(invalid(field, format!("must not be negative, found {value}")))
    }
}
