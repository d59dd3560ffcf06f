//! What is to be seen of the things that are drawn for every episode.

use mujoco_rs::wrappers::mj_model::MjModel;

use super::Scene;
use super::adjust::{Knob, geoms_of, sites_of};
use super::changes::ModelChange;
use super::randomise::Randomise;

/// What an episode's model may show differently than that of the scene.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Looks {
    /// Geoms, then sites, each in the order of the model.
    pub pieces: Vec<VariedPiece>,
    /// Whether lights are drawn.
    pub lights: bool,
}

/// A geom or a site that may look different or be elsewhere on its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VariedPiece {
    /// A geom, by its number.
    Geom(usize),
    /// A site, by its number.
    Site(usize),
}

impl Looks {
    /// Whether all episodes look alike.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && !self.lights
    }

    pub(super) fn of<'k>(knobs: impl Iterator<Item = &'k Knob>, model: &MjModel) -> Self {
        let mut looks = Self::default();
        for knob in knobs {
            match knob {
                Knob::Colour { geom } => looks.pieces.push(VariedPiece::Geom(*geom)),
                Knob::Size { body, .. } => looks.add_body(model, *body),
                Knob::Position { body } => {
                    for body in fixed_to(model, *body) {
                        looks.add_body(model, body);
                    }
                }
                Knob::Light(_) => looks.lights = true,
                Knob::Mass { .. }
                | Knob::Friction { .. }
                | Knob::Damping { .. }
                | Knob::Gravity
                | Knob::Gain { .. } => {}
            }
        }
        looks.pieces.sort_unstable();
        looks.pieces.dedup();
        looks
    }

    fn add_body(&mut self, model: &MjModel, body: usize) {
        self.pieces.extend(geoms_of(model, body).map(VariedPiece::Geom));
        self.pieces.extend(sites_of(model, body).map(VariedPiece::Site));
    }
}

/// A body and all that is fixed to it without a joint.
fn fixed_to(model: &MjModel, body: usize) -> Vec<usize> {
    let (parents, joints) = (model.body_parentid(), model.body_jntnum());
    let mut found = vec![body];
    // Children stand behind their parents.
    for child in body + 1..parents.len() {
        if joints[child] == 0 && found.contains(&(parents[child] as usize)) {
            found.push(child);
        }
    }
    found
}

/// Whether a scene says something of its lights: then it is shown in the light of its model.
pub(super) fn says_lights(scene: &Scene) -> bool {
    let changed = |change: &ModelChange| matches!(change, ModelChange::Light { .. });
    let drawn = |term: &Randomise| matches!(term, Randomise::Light { .. });
    scene.physics.changes.iter().any(changed) || scene.randomise.iter().any(drawn)
}
