//! Pictures of recorded states, for data sets whose pictures are drawn when they are needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjData;

use super::maze::Walls;
use super::{CompiledEye, Data, FIELD, Gaze, Painting, invalid};
use crate::scene::maze::ORIGIN;
use crate::scene::{Built, CompiledScene, MazeSpec, Scene, SceneError};

/// Layouts that are remembered, of half a kilobyte each for mazes of 20 x 20 cells.
const REMEMBERED: usize = 50_000;

/// What can be wrong with a recorded state.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PaintError {
    /// The numbers belong to another model, or are none.
    #[error("expected {expected} finite joint positions, found {found}")]
    Positions {
        /// Numbers in a state of the scene.
        expected: usize,
        /// Finite numbers that were given.
        found: usize,
    },
    /// There is not as much room as a picture needs.
    #[error("a picture has {expected} bytes, found room for {found}")]
    Room {
        /// Bytes of a picture.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// The layout cannot be drawn anew.
    #[error("layout {layout}: {reason}")]
    Layout {
        /// Its seed.
        layout: i64,
        /// What is wrong.
        reason: String,
    },
}

/// Draws recorded states of a scene: the same bytes as in practice for mazes, and elsewhere within a physics step of it.
///
/// It belongs to one thread at a time, and each thread may have a clone.
#[derive(Debug, Clone)]
pub struct Painter {
    eye: Arc<CompiledEye>,
    /// Joint positions in a state.
    positions: usize,
    subject: Subject,
}

#[derive(Debug, Clone)]
enum Subject {
    Maze {
        spec: MazeSpec,
        /// Layouts by their seed.
        layouts: BTreeMap<i64, Arc<Walls>>,
    },
    Model(Box<Data>),
}

impl Painter {
    /// Loads the model of a scene.
    ///
    /// # Errors
    /// [`SceneError`] if the scene does not compile, or its agents see no pictures.
    pub fn new(scene: &Scene) -> Result<Self, SceneError> {
        Self::of(&CompiledScene::new(scene.clone())?)
    }

    /// Pictures of a scene that is compiled already.
    ///
    /// # Errors
    /// [`SceneError`] if the agents of the scene see no pictures.
    pub fn of(scene: &CompiledScene) -> Result<Self, SceneError> {
        let missing = || {
            invalid(
                FIELD,
                "the agents of this scene see no pictures: it needs `observation.pixels`",
            )
        };
        let eye = Arc::clone(scene.eye().ok_or_else(missing)?);
        if !scene.randomisation().looks().is_empty() {
            let reason = "what agents see differs from episode to episode (`randomise`), and recorded positions do not say \
                          how: record the pictures themselves, with `collect --images`";
            return Err(invalid(FIELD, reason));
        }
        let model = scene.model();
        let subject = match (&eye.painting, &scene.scene().physics.built) {
            (Painting::Maze { .. }, Some(Built::Maze(spec))) => Subject::Maze {
                spec: spec.clone(),
                layouts: BTreeMap::new(),
            },
            _ => {
                let data = MjData::try_new(Arc::clone(model)).map_err(|error| invalid(FIELD, error.to_string()))?;
                Subject::Model(Box::new(data))
            }
        };
        Ok(Self {
            eye,
            positions: model.qpos0().len(),
            subject,
        })
    }

    /// The eye that is looked with.
    pub fn eye(&self) -> &CompiledEye {
        &self.eye
    }

    /// Draws the state with joint positions `qpos` (`[nq]`) into `out`, channel-first `[3, size, size]`.
    ///
    /// `layout` is the seed of a maze's layout, for [`MazeSpec::drawn`]; none is the layout of the scene itself, and other
    /// models have none. `gaze` is the point looked at, as recorded with the state; none looks straight at the body.
    ///
    /// # Errors
    /// [`PaintError`] if a number is not finite, a length is wrong, or there is no such layout.
    pub fn paint(
        &mut self,
        layout: Option<i64>,
        qpos: &[f64],
        gaze: Option<[f64; 2]>,
        out: &mut [u8],
    ) -> Result<(), PaintError> {
        let finite = qpos.iter().filter(|position| position.is_finite()).count();
        if qpos.len() != self.positions || finite != self.positions {
            return Err(PaintError::Positions {
                expected: self.positions,
                found: finite,
            });
        }
        if out.len() != self.eye.picture_len() {
            return Err(PaintError::Room {
                expected: self.eye.picture_len(),
                found: out.len(),
            });
        }
        let Self { eye, subject, .. } = self;
        match (&eye.painting, subject) {
            (Painting::Maze { view, walls, joints }, Subject::Maze { spec, layouts }) => {
                let particle = joints.map(|joint| qpos[joint]);
                let gaze = gaze.unwrap_or_else(|| particle.map(|at| at + ORIGIN));
                match layout {
                    None => view.draw(walls, particle, gaze, out),
                    Some(layout) => view.draw(&*remembered(spec, layouts, layout)?, particle, gaze, out),
                }
            }
            (_, Subject::Model(data)) => {
                data.qpos_mut().copy_from_slice(qpos);
                data.kinematics();
                let mut at = Gaze::default();
                match gaze {
                    Some(gaze) => at.0 = gaze,
                    None => eye.settle(data, &mut at),
                }
                eye.draw(data, &at, out);
            }
            (Painting::Pieces(_), Subject::Maze { .. }) => {}
        }
        Ok(())
    }
}

impl crate::data::Paint for Painter {
    fn size(&self) -> usize {
        self.eye.size()
    }

    fn paint(
        &mut self,
        layout: Option<i64>,
        qpos: &[f64],
        gaze: Option<[f64; 2]>,
        out: &mut [u8],
    ) -> Result<(), String> {
        Self::paint(self, layout, qpos, gaze, out).map_err(|error| error.to_string())
    }

    fn another(&self) -> Box<dyn crate::data::Paint> {
        Box::new(self.clone())
    }
}

/// The walls of a layout; drawn anew if it has not been asked for since there were too many.
fn remembered(spec: &MazeSpec, layouts: &mut BTreeMap<i64, Arc<Walls>>, layout: i64) -> Result<Arc<Walls>, PaintError> {
    if let Some(known) = layouts.get(&layout) {
        return Ok(Arc::clone(known));
    }
    let wrong = |reason: String| PaintError::Layout { layout, reason };
    let seed = u64::try_from(layout).map_err(|_| wrong("expected a seed, which is not negative".into()))?;
    let drawn = spec.drawn(seed).and_then(|spec| spec.grid());
    let grid = drawn.map_err(|(field, reason)| wrong(format!("{field}: {reason}")))?;
    if layouts.len() >= REMEMBERED {
        layouts.clear();
    }
    let walls = Arc::new(Walls::new(&grid));
    layouts.insert(layout, Arc::clone(&walls));
    Ok(walls)
}
