//! What an agent sees: the field `observation` of a scene.
//!
//! Every number is `scale · (value + noise)`, then clipped. Terms see the state after the control step; what `MuJoCo`
//! works out during a physics step (contacts, forces, sensors) is that of the last one, so from the positions before it.

use mujoco_rs::wrappers::mj_model::{MjModel, MjtJoint};
use serde::{Deserialize, Serialize};

use super::place::{Place, Thing};
use super::{five, forty_five, one, thirty_two, two, yes};

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
///
/// `noise` lists amplitudes in the unit of the term, before [`ObservationSpec::noise_scale`]: none, one for all numbers,
/// or one for each. The noise is uniform within plus and minus the amplitude. `scale` is a factor on all numbers of the
/// term and their noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ObservationTerm {
    /// Joint positions: 1 number for a hinge (rad) or slide (m), 4 for a ball joint (quaternion w x y z), 7 for a free
    /// joint (position in m, then quaternion).
    Position {
        /// The joints.
        joints: Vec<String>,
        /// Amplitudes of the noise.
        #[serde(default)]
        noise: Vec<f64>,
        /// Their magnitudes, without the sign.
        #[serde(default)]
        absolute: bool,
        /// Factor. Servos and elements judged on the observation need the joints unscaled.
        #[serde(default = "one")]
        scale: f64,
    },
    /// Joint velocities: 1 number for a hinge (rad/s) or slide (m/s), 3 for a ball joint, 6 for a free joint.
    Velocity {
        /// The joints.
        joints: Vec<String>,
        /// Amplitudes of the noise.
        #[serde(default)]
        noise: Vec<f64>,
        /// Factor.
        #[serde(default = "one")]
        scale: f64,
    },
    /// Positions of bodies in the world, 3 numbers each, m. After a step they are those that `MuJoCo` has worked out in its
    /// last physics step, from the positions before it, as published environments see them; in a scene with terms about
    /// [places](Place) they are those after the step, like these.
    Body {
        /// The bodies.
        bodies: Vec<String>,
    },
    /// For every position and velocity of joints and bodies before it, the goal of the shown elements, or zero where they
    /// have none.
    Goal {
        /// The elements whose goals are shown.
        shown: Shown,
    },
    /// Positions of places, x, y and z each, m: `p`, or `p - p'` relative to another place, or `R'ᵀ (p - p')` in its own
    /// axes.
    Place {
        /// The places.
        of: Vec<Place>,
        /// The other place.
        #[serde(default)]
        relative_to: Option<Place>,
        /// Axes of the numbers.
        #[serde(default)]
        axes: Axes,
        /// Amplitudes of the noise.
        #[serde(default)]
        noise: Vec<f64>,
        /// Factor.
        #[serde(default = "one")]
        scale: f64,
    },
    /// Orientations of places: of the rotation `R`, or `R'ᵀ R` relative to another place.
    Orientation {
        /// The places.
        of: Vec<Place>,
        /// The other place.
        #[serde(default)]
        relative_to: Option<Place>,
        /// In which numbers.
        #[serde(default)]
        form: Rotation,
        /// Amplitudes of the noise.
        #[serde(default)]
        noise: Vec<f64>,
        /// Factor.
        #[serde(default = "one")]
        scale: f64,
    },
    /// Velocities of places, x, y and z each, m/s: `v`, or `v - v'` relative to another place, in the axes of the world or
    /// its own.
    LinearVelocity {
        /// The places.
        of: Vec<Place>,
        /// The other place.
        #[serde(default)]
        relative_to: Option<Place>,
        /// Axes of the numbers.
        #[serde(default)]
        axes: Axes,
        /// Amplitudes of the noise.
        #[serde(default)]
        noise: Vec<f64>,
        /// Factor.
        #[serde(default = "one")]
        scale: f64,
    },
    /// Angular velocities of places, rad/s: `ω`, or `ω - ω'` relative to another place, in the axes of the world or its
    /// own.
    AngularVelocity {
        /// The places.
        of: Vec<Place>,
        /// The other place.
        #[serde(default)]
        relative_to: Option<Place>,
        /// Axes of the numbers.
        #[serde(default)]
        axes: Axes,
        /// Amplitudes of the noise.
        #[serde(default)]
        noise: Vec<f64>,
        /// Factor.
        #[serde(default = "one")]
        scale: f64,
    },
    /// All numbers of sensors of the model, in `MuJoCo`'s units, from its last physics step.
    Sensor {
        /// The sensors.
        sensors: Vec<String>,
        /// Amplitudes of the noise.
        #[serde(default)]
        noise: Vec<f64>,
        /// Factor.
        #[serde(default = "one")]
        scale: f64,
    },
    /// For each pair of things 1 while they touch, otherwise 0; or the sum of the normal forces between them, N. From
    /// `MuJoCo`'s last physics step.
    Contact {
        /// The pairs.
        between: Vec<(Thing, Thing)>,
        /// Whether forces are seen.
        #[serde(default)]
        force: bool,
        /// Amplitudes of the noise.
        #[serde(default)]
        noise: Vec<f64>,
        /// Factor.
        #[serde(default = "one")]
        scale: f64,
    },
    /// The action of the last step, each number clipped to -1 and 1; zeros at the start of an episode.
    PreviousAction {
        /// Amplitudes of the noise.
        #[serde(default)]
        noise: Vec<f64>,
        /// Factor.
        #[serde(default = "one")]
        scale: f64,
    },
    /// Goals of elements: all numbers of the goal for one that is about joints, x, y and z (m) of the target for one that
    /// brings a place near another or into a zone. Where a goal is drawn for each episode, it is the drawn one.
    GoalOf {
        /// The elements.
        shown: Shown,
        /// Targets are seen relative to this place, as in [`ObservationTerm::Place`].
        #[serde(default)]
        relative_to: Option<Place>,
        /// Axes of targets.
        #[serde(default)]
        axes: Axes,
        /// Amplitudes of the noise.
        #[serde(default)]
        noise: Vec<f64>,
        /// Factor.
        #[serde(default = "one")]
        scale: f64,
    },
    /// For each of the elements 1 once it has been counted (or, if it is not in the task, has been at its goal) in this
    /// episode, otherwise 0.
    Done {
        /// The elements.
        shown: Shown,
    },
    /// Share of the episode that is left: `1 - t / T` after `t` steps.
    Time {
        /// `T`; left out, that of the episode.
        #[serde(default)]
        steps: Option<u32>,
    },
}

/// The elements that a term of the observation is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Shown {
    /// Those of the task.
    Task,
    /// These, whatever the task is.
    Elements(Vec<String>),
}

/// Axes that relative numbers are given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Axes {
    /// Those of the world.
    #[default]
    World,
    /// Those of the place they are relative to.
    Own,
}

/// Numbers that stand for a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Rotation {
    /// A unit quaternion, w x y z; of the two that mean the same, the one with `w ≥ 0`.
    #[default]
    Quaternion,
    /// The matrix, 9 numbers row by row.
    Matrix,
    /// The first two columns of the matrix, 6 numbers: continuous, unlike the quaternion (Zhou et al. 2019,
    /// <https://arxiv.org/abs/1812.07035>).
    Columns,
}

/// One number of the observation.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// What it is: the joint, with the component for joints of several numbers, for example `kettle[2]`.
    pub name: String,
    /// What it is measured in, before [`Self::scale`]; empty for pure numbers.
    pub unit: &'static str,
    /// Where the number comes from.
    pub source: Source,
    /// Amplitude of the uniform noise, after all scales; 0 for none.
    pub noise: f64,
    /// Factor on the number; 1 for most.
    pub scale: f64,
    /// Index of the [term](ObservationSpec::terms) it belongs to.
    pub term: usize,
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
    /// This number plus what is drawn for each episode: the number at an index of
    /// [`TaskProgress::memory`](crate::sim::TaskProgress::memory).
    Drawn(f64, usize),
    /// Worked out by the term.
    Term,
}

impl Source {
    /// The number in a state of the scene's model: `qpos` `[nq]`, `qvel` `[nv]` and `xpos` `[nbody]`. What is drawn counts
    /// as zero here, and so does what a term works out.
    pub fn read(self, qpos: &[f64], qvel: &[f64], xpos: &[[f64; 3]]) -> f64 {
        match self {
            Self::Position(index) => qpos[index],
            Self::Magnitude(index) => qpos[index].abs(),
            Self::Velocity(index) => qvel[index],
            Self::Body(index) => xpos[index / 3][index % 3],
            Self::Constant(value) | Self::Drawn(value, _) => value,
            Self::Term => 0.0,
        }
    }
}

/// What number `component` of a joint's position is measured in.
pub(super) fn joint_unit(model: &MjModel, joint: usize, component: usize) -> &'static str {
    match model.jnt_type()[joint] {
        MjtJoint::mjJNT_SLIDE => "m",
        MjtJoint::mjJNT_FREE if component < 3 => "m",
        MjtJoint::mjJNT_HINGE => "rad",
        // A number of a quaternion.
        _ => "",
    }
}

/// What number `component` of a joint's velocity is measured in.
pub(super) fn velocity_unit(model: &MjModel, joint: usize, component: usize) -> &'static str {
    match model.jnt_type()[joint] {
        MjtJoint::mjJNT_SLIDE => "m/s",
        MjtJoint::mjJNT_FREE if component < 3 => "m/s",
        _ => "rad/s",
    }
}

/// What a sensor measures in; empty for pure numbers and where that depends on what it is attached to.
pub(super) fn sensor_unit(model: &MjModel, sensor: usize) -> &'static str {
    use mujoco_rs::mujoco_c::mjtSensor::*;
    match model.sensor_type()[sensor] {
        mjSENS_TOUCH | mjSENS_FORCE => "N",
        mjSENS_TORQUE => "N m",
        mjSENS_ACCELEROMETER | mjSENS_FRAMELINACC => "m/s²",
        mjSENS_VELOCIMETER | mjSENS_FRAMELINVEL | mjSENS_SUBTREELINVEL => "m/s",
        mjSENS_GYRO | mjSENS_FRAMEANGVEL | mjSENS_BALLANGVEL => "rad/s",
        mjSENS_FRAMEANGACC => "rad/s²",
        mjSENS_MAGNETOMETER => "T",
        mjSENS_RANGEFINDER | mjSENS_TENDONPOS | mjSENS_FRAMEPOS | mjSENS_SUBTREECOM | mjSENS_GEOMDIST
        | mjSENS_GEOMFROMTO => "m",
        mjSENS_TENDONVEL => "m/s",
        mjSENS_SUBTREEANGMOM => "kg m²/s",
        mjSENS_E_POTENTIAL | mjSENS_E_KINETIC => "J",
        mjSENS_CLOCK => "s",
        kind @ (mjSENS_JOINTPOS | mjSENS_JOINTVEL) => {
            let joint = usize::try_from(model.sensor_objid()[sensor]).unwrap_or(0);
            if kind == mjSENS_JOINTPOS {
                joint_unit(model, joint, 0)
            } else {
                velocity_unit(model, joint, 0)
            }
        }
        _ => "",
    }
}
