//! Pictures that agents see, drawn by the processor.
//!
//! A picture depends on nothing but the state it shows: no driver, no window, the same bytes at any number of threads. The
//! [`CompiledEye`] of a scene draws RGB with one byte for each number, channel-first `[3, size, size]`, the top row first.
//! What an agent sees are the last few pictures one after another, oldest first, `[3 * frames, size, size]`; at the start
//! of an episode the first picture stands for those before it. Networks get `byte / 255 * 2 - 1`.
//!
//! | module | what it does |
//! |---|---|
//! | `maze` | mazes from straight above, by their grid of cells |
//! | `rays` | any other model, by rays against its `shapes` |
//! | `light` | the colours of surfaces in `MuJoCo`'s head-light |
//! | [`painter`] | pictures of recorded states, for data sets |
//!
//! # Which state is shown
//!
//! Mazes are drawn from the joint positions after the step, so a picture that is drawn later from the recorded positions
//! has the same bytes. In every other model the poses are those `MuJoCo` has worked out last, at the *beginning* of the
//! last physics step: one physics step behind, as in the original and in the [window](crate::watch), and nothing has to
//! be worked out twice. That is a small part of a control step there. In a maze a physics step is the whole control step;
//! the original's pictures are late by that in data and practice alike.
//!
//! Colours, sizes, places and the head-light are those of the model that the physics has, so what a scene draws of them
//! for every episode is to be seen, but for mazes from above, of which [`CompiledEye`] knows only the grid.
//!
//! # Differences from the original
//!
//! `SPiRL` renders with `MuJoCo`'s OpenGL renderer, four samples a pixel, and scales larger pictures down. Here every pixel
//! is the mean of four points too, but textures are not smoothed beyond that. The floor of a maze has no end.

mod light;
mod maze;
pub mod painter;
mod rays;
mod shapes;

pub use painter::Painter;

use std::sync::Arc;

use bevy::ecs::component::Component;
use bevy::math::{DVec3, Vec3};
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};

use self::maze::{View, Walls};
use self::rays::{Camera, Pieces};
use crate::files;
use crate::scene::maze::ORIGIN;
use crate::scene::{Built, Eye, HEAD_LIGHT, PhysicsSpec, PixelSpec, Randomise, SceneError};

/// Where errors are: the field of a scene.
const FIELD: &str = "observation.pixels";
/// Smallest and largest side of a picture, pixels.
const SMALLEST: usize = 4;
const LARGEST: usize = 256;
/// Most pictures that are seen at once.
const MOST_FRAMES: usize = 16;
/// Widest vertical field of view, degrees.
const WIDEST: f64 = 120.0;
/// Least distance from above, m: that the eye is above all walls.
const NEAREST: f64 = 0.5;

/// State of the physics.
type Data = MjData<Arc<MjModel>>;

/// The point of the ground that an [`Eye::Above`] looks at: x and y in the world, m. It lags behind the body it follows.
/// For an [`Eye::Carried`] it is where the body is.
#[derive(Component, Debug, Clone, Copy, PartialEq, Default)]
pub struct Gaze(pub [f64; 2]);

/// Draws the pictures of an environment.
#[derive(Component, Debug, Clone)]
pub struct Sight(pub Arc<CompiledEye>);

/// A [`PixelSpec`] with its names resolved, and what there is to be seen.
#[derive(Debug, Clone)]
pub struct CompiledEye {
    size: usize,
    frames: usize,
    place: Place,
    painting: Painting,
}

#[derive(Debug, Clone)]
enum Place {
    Above {
        body: usize,
        distance: f64,
        lag: f64,
        half: f64,
    },
    /// The camera as it is when the body is at the origin.
    Carried { body: usize, camera: Camera },
}

#[derive(Debug, Clone)]
enum Painting {
    /// A maze from above.
    Maze {
        view: Box<View>,
        walls: Walls,
        /// Indices of x and y in `qpos`.
        joints: [usize; 2],
    },
    /// Anything else.
    Pieces(Box<Pieces>),
}

impl CompiledEye {
    /// Resolves the names against the model and looks up what is to be seen.
    ///
    /// # Errors
    /// [`SceneError`] with the field if there is no such body, a number makes no sense, or the model has visible shapes
    /// that cannot be drawn.
    pub fn new(spec: &PixelSpec, physics: &PhysicsSpec, model: &MjModel) -> Result<Self, SceneError> {
        let size = within("size", spec.size, SMALLEST, LARGEST)?;
        let frames = within("frames", spec.frames, 1, MOST_FRAMES)?;
        let place = Place::new(&spec.eye, model)?;
        let painting = match (&place, &physics.built) {
            (Place::Above { distance, .. }, Some(Built::Maze(maze))) => {
                let fault = |(field, reason)| invalid(format!("physics.built.{field}"), reason);
                let joint = |name: &str| {
                    let joint = model.name_to_id(MjtObjBase::mjOBJ_JOINT, name);
                    let address = joint.and_then(|joint| usize::try_from(*model.jnt_qposadr().get(joint)?).ok());
                    address.ok_or_else(|| invalid(FIELD, format!("the maze has no joint {name:?}")))
                };
                Painting::Maze {
                    view: Box::new(View::new(size, *distance, spec.eye.fovy())),
                    walls: Walls::new(&maze.grid().map_err(fault)?),
                    joints: [joint("x")?, joint("y")?],
                }
            }
            _ => Painting::Pieces(Box::new(Pieces::new(model).map_err(|reason| invalid(FIELD, reason))?)),
        };
        Ok(Self {
            size,
            frames,
            place,
            painting,
        })
    }

    /// Whether pictures show what this term draws for every episode, if it is anything to be seen.
    ///
    /// # Errors
    /// Why they do not, in words.
    pub(crate) fn shows(&self, term: &Randomise) -> Result<(), String> {
        let looks = matches!(
            term,
            Randomise::Colour { .. } | Randomise::Size { .. } | Randomise::Position { .. }
        );
        let light = matches!(term, Randomise::Light { .. });
        let others = matches!(term, Randomise::Light { lights, .. } if lights.iter().any(|light| light != HEAD_LIGHT));
        match &self.painting {
            Painting::Maze { .. } if looks || light => Err(
                "the pictures of a maze that agents see from above show walls, floor and ball as they always are, and not \
                 what this draws; expected no such term, or `observation.pixels` with a `Carried` eye, which shows it"
                    .into(),
            ),
            Painting::Pieces(_) if others => Err(format!(
                "the pictures that agents see (`observation.pixels`) are lit by the {HEAD_LIGHT} alone, and do not show \
                 what this draws; expected `lights: [\"{HEAD_LIGHT}\"]`"
            )),
            _ => Ok(()),
        }
    }

    /// Width and height of a picture, pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Pictures that are seen at once.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Bytes of a picture.
    pub fn picture_len(&self) -> usize {
        3 * self.size * self.size
    }

    /// Bytes that are seen at once, `3 * frames * size * size`.
    pub fn len(&self) -> usize {
        self.frames * self.picture_len()
    }

    /// Whether nothing is seen; never so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks straight at the body: where the gaze would come to rest, as it has at the start of an episode.
    pub fn settle(&self, physics: &Data, gaze: &mut Gaze) {
        let at = self.followed(physics);
        gaze.0 = [at.x, at.y];
    }

    /// Moves the gaze towards the body, by its lag. Every picture begins with this.
    pub fn follow(&self, physics: &Data, gaze: &mut Gaze) {
        let lag = match self.place {
            Place::Above { lag, .. } => lag,
            Place::Carried { .. } => 1.0,
        };
        let at = self.followed(physics);
        for (gaze, at) in gaze.0.iter_mut().zip([at.x, at.y]) {
            *gaze += lag * (at - *gaze);
        }
    }

    /// Draws a picture of the state into `out`, `[3, size, size]`.
    pub fn draw(&self, physics: &Data, gaze: &Gaze, out: &mut [u8]) {
        match &self.painting {
            Painting::Maze { view, walls, joints } => {
                let qpos = physics.qpos();
                view.draw(walls, joints.map(|joint| qpos[joint]), gaze.0, out);
            }
            Painting::Pieces(pieces) => pieces.draw(physics, &self.camera(physics, gaze), self.size, out),
        }
    }

    /// Begins an episode: the gaze comes to rest, and its picture stands for all in `seen`, `[3 * frames, size, size]`.
    pub fn begin(&self, physics: &Data, gaze: &mut Gaze, seen: &mut [u8]) {
        self.settle(physics, gaze);
        let (first, others) = seen.split_at_mut(self.picture_len());
        self.draw(physics, gaze, first);
        for other in others.chunks_exact_mut(first.len()) {
            other.copy_from_slice(first);
        }
    }

    /// After a step: `next` receives the younger pictures of `seen` and one of the state now; both are
    /// `[3 * frames, size, size]`.
    pub fn look(&self, physics: &Data, gaze: &mut Gaze, seen: &[u8], next: &mut [u8]) {
        self.follow(physics, gaze);
        let one = self.picture_len();
        let (older, newest) = next.split_at_mut(self.len() - one);
        older.copy_from_slice(&seen[one..]);
        self.draw(physics, gaze, newest);
    }

    /// Where the body is that the eye follows.
    fn followed(&self, physics: &Data) -> DVec3 {
        match (&self.painting, &self.place) {
            (Painting::Maze { joints, .. }, _) => {
                let [x, y] = joints.map(|joint| physics.qpos()[joint] + ORIGIN);
                DVec3::new(x, y, 0.0)
            }
            (_, Place::Above { body, .. } | Place::Carried { body, .. }) => DVec3::from(physics.xpos()[*body]),
        }
    }

    fn camera(&self, physics: &Data, gaze: &Gaze) -> Camera {
        let body = self.followed(physics);
        match &self.place {
            Place::Above { distance, half, .. } => Camera {
                eye: DVec3::new(gaze.0[0], gaze.0[1], body.z + distance),
                ..Camera::towards(DVec3::NEG_Z, *half)
            },
            Place::Carried { camera, .. } => Camera {
                eye: body + camera.eye,
                ..*camera
            },
        }
    }
}

impl Place {
    fn new(eye: &Eye, model: &MjModel) -> Result<Self, SceneError> {
        let fovy = eye.fovy();
        if !(fovy > 0.0 && fovy <= WIDEST) {
            return Err(invalid(
                format!("{FIELD}.eye.fovy"),
                format!("expected degrees above 0 and up to {WIDEST}, found {fovy}"),
            ));
        }
        let half = (0.5 * fovy.to_radians()).tan();
        match eye {
            Eye::Above {
                body, distance, lag, ..
            } => {
                if !(distance.is_finite() && *distance >= NEAREST) {
                    let reason = format!("expected a number from {NEAREST}, found {distance}");
                    return Err(invalid(format!("{FIELD}.eye.distance"), reason));
                }
                if !(*lag > 0.0 && *lag <= 1.0) {
                    let reason = format!("expected a share above 0 and up to 1, found {lag}");
                    return Err(invalid(format!("{FIELD}.eye.lag"), reason));
                }
                Ok(Self::Above {
                    body: body_id(model, body)?,
                    distance: *distance,
                    lag: *lag,
                    half,
                })
            }
            Eye::Carried {
                body, offset, target, ..
            } => {
                let (eye, target) = (DVec3::from(*offset), DVec3::from(*target));
                let Some(forward) = (target - eye).try_normalize().filter(|_| eye.is_finite()) else {
                    let reason = "must be away from `offset`: the eye looks from there to it";
                    return Err(invalid(format!("{FIELD}.eye.target"), reason));
                };
                let camera = Camera {
                    eye,
                    ..Camera::towards(forward, half)
                };
                Ok(Self::Carried {
                    body: body_id(model, body)?,
                    camera,
                })
            }
        }
    }
}

impl Camera {
    /// At the origin, with a level horizon; up in a picture from straight above is +x.
    fn towards(forward: DVec3, half: f64) -> Self {
        let level = forward.cross(DVec3::Z);
        let right = if level.length() > 1e-6 {
            level
        } else {
            forward.cross(DVec3::X)
        }
        .normalize();
        Self {
            eye: DVec3::ZERO,
            right,
            up: right.cross(forward),
            forward,
            half,
        }
    }
}

impl Eye {
    /// Vertical field of view, degrees.
    fn fovy(&self) -> f64 {
        match self {
            Self::Above { fovy, .. } | Self::Carried { fovy, .. } => *fovy,
        }
    }
}

fn body_id(model: &MjModel, name: &str) -> Result<usize, SceneError> {
    model.name_to_id(MjtObjBase::mjOBJ_BODY, name).ok_or_else(|| {
        let count = usize::try_from(model.nbody()).unwrap_or_default();
        let names = (0..count).filter_map(|id| model.id_to_name(MjtObjBase::mjOBJ_BODY, id));
        SceneError::UnknownName {
            field: format!("{FIELD}.eye.body"),
            kind: "body",
            name: name.into(),
            nearest: files::nearest(name, names.clone()).map(str::to_owned),
            known: files::choices(names).into(),
        }
    })
}

fn within(field: &str, value: u32, least: usize, most: usize) -> Result<usize, SceneError> {
    let number = usize::try_from(value)
        .ok()
        .filter(|number| (least..=most).contains(number));
    let reason = || format!("expected {least} to {most}, found {value}");
    number.ok_or_else(|| invalid(format!("{FIELD}.{field}"), reason()))
}

fn invalid(field: impl Into<String>, reason: impl Into<String>) -> SceneError {
    SceneError::Invalid {
        field: field.into(),
        reason: reason.into(),
    }
}

/// The points of a pixel: how far from its left edge each is; they lie evenly from its upper edge to its lower one. No two
/// share a row or a column, so straight edges show in five steps. `MuJoCo` gets the same points from graphics drivers.
const POINTS: [f32; 4] = [0.375, 0.875, 0.125, 0.625];

/// The mean of the four points of a pixel.
fn mean([one, two, three, four]: [Vec3; 4]) -> Vec3 {
    0.25 * ((one + two) + (three + four))
}
