//! The window: pictures of a watched world.
//!
//! The window has a Bevy world of its own, with the renderer. What it shows comes as snapshots from the world that is
//! [watched](crate::watch); MuJoCo's geoms are drawn by [`model`], nothing of MuJoCo's own viewer is used.
//!
//! | plugin | duty |
//! |---|---|
//! | [`PicturePlugin`] | the resources [`Watched`], [`ViewState`] and [`Curves`], and the three plugins below |
//! | [`crowd::CrowdPlugin`] | an instance of the model for every environment, in a grid, with its poses |
//! | [`stage::StagePlugin`] | light (with [`lights::LightsPlugin`] where a scene says what it is), sky and floor |
//! | [`camera::CameraPlugin`] | cameras that circle around all environments or one |
//!
//! [`run_window`] adds the window itself: snapshots, requests, keys, panels, pictures and videos.
//!
//! [`offscreen`] renders the same pictures without a window.

pub mod camera;
pub mod crowd;
pub mod lights;
pub mod model;
pub mod offscreen;
pub mod stage;
pub mod state;
pub mod video;
pub mod window;

use std::collections::VecDeque;
use std::time::Instant;

use bevy::prelude::*;

pub use offscreen::{Offscreen, ViewError};
pub use state::{Ask, CameraMode, Curves, Filter, Sort, ViewState, Watched};
pub use window::{check_display, run_window};

use crate::watch::Subject;

/// The order in which a frame is made, in [`Update`].
#[derive(SystemSet, Debug, Clone, PartialEq, Eq, Hash)]
pub enum ViewSystems {
    /// Snapshots arrive, keys and panels ask for something.
    Receive,
    /// Instances come and go, with their place in the grid and their visibility.
    Arrange,
    /// Bodies move to their poses.
    Pose,
    /// Cameras follow.
    Camera,
}

/// Everything a picture needs but a camera's target and the snapshots.
pub struct PicturePlugin {
    /// What is shown.
    pub subject: Subject,
}

impl Plugin for PicturePlugin {
    fn build(&self, app: &mut App) {
        use ViewSystems::*;
        let mut curves = Curves::default();
        for (seed, row) in &self.subject.metrics {
            curves.push(*seed, row);
        }
        app.insert_resource(Watched {
            subject: self.subject.clone(),
            current: Box::default(),
            since: Instant::now(),
            previous: None,
            ticks_per_second: 0.0,
            notices: VecDeque::new(),
            ended: None,
            broken: Vec::new(),
        })
        .insert_resource(curves)
        .insert_resource(ViewState {
            learning: self.subject.trains || !self.subject.metrics.is_empty(),
            skill_map: self.subject.skill_map.is_some(),
            ..ViewState::default()
        })
        .configure_sets(Update, (Receive, Arrange, Pose, Camera).chain())
        .add_plugins((crowd::CrowdPlugin, stage::StagePlugin, camera::CameraPlugin));
    }
}
