//! The stages of an experiment, each a headless app: demonstrations, skill model, practice, evaluation.
//!
//! Commands call these functions with a loaded [`Experiment`](crate::experiment::Experiment) and a [`RunFolder`];
//! everything a stage makes is written there.

mod collect;
mod curves;
mod evaluate;
mod examine;
#[cfg(feature = "window")]
mod film;
mod folder;
mod kept_scene;
mod latent;
mod pretrain;
mod problems;
mod record;
mod scene_picture;
mod scenes;
mod skills;
mod sweep;
mod train;
mod watch;
mod windows;

pub use collect::{Unfinished, collect, collection_note, differences, ensure_dataset, in_scene};
pub use curves::learning_curves;
pub use evaluate::{Evaluated, EvaluationPlan, evaluate_chosen, evaluate_prior, evaluate_run};
pub use examine::{Examined, Examiner, Extent, memory_note};
#[cfg(feature = "window")]
pub use film::{FilmError, Filming, Recording, default_video};
pub use folder::{RunFolder, RunFolderError, default_name, make_folder, processor, same_experiment, write_whole};
pub use kept_scene::load_scene;
use kept_scene::read_scene;
pub use pretrain::{expect_trained, needs_demonstrations, pretrain};
pub use problems::{check, problems_in};
pub use record::{Acting, RecordPlan, RecordSource, record};
pub use scene_picture::{Picture, PictureError, picture_of};
pub use scenes::{
    ActionNumber, ElementSheet, ObservedNumber, PhysicsSheet, PictureSheet, SceneCheck, SceneSheet, check_scene,
    first_word, in_one_line,
};
pub use skills::{SavedModel, SkillFolder, find_skills, save_imported};
pub use sweep::{
    MOST_VARIANTS, Sweep, SweepEntry, SweepError, SweepIndex, Variant, check_variants, groups, labelled_runs, runs_of,
    share_a_world, share_skills, single_values,
};
pub use train::{Foundations, Practising, TrainPlan, train, train_side_by_side};
pub use watch::{
    Actors, Replay, SceneShow, Session, WatchError, all_steps_made, check_window, in_window, subject_of_run,
};

use crate::app::StopRequest;

/// What every stage needs besides the experiment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Worker threads.
    pub threads: usize,
    /// Set by Ctrl-C and termination signals.
    pub stop: StopRequest,
}

/// Why a stage could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The experiment or scene file.
    #[error(transparent)]
    File(#[from] crate::files::FileError),
    /// The scene.
    #[error(transparent)]
    Scene(#[from] crate::scene::SceneError),
    /// An environment.
    #[error(transparent)]
    Sim(#[from] crate::sim::SimError),
    /// The demonstrations.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// The demonstrator.
    #[error(transparent)]
    Demonstrations(#[from] crate::demos::DemoError),
    /// The skill model.
    #[error("skill model: {0}")]
    Skill(#[from] crate::skills::SkillError),
    /// The learner.
    #[error("learner: {0}")]
    Learner(#[from] crate::learners::sac::SacError),
    /// The replay buffer.
    #[error("replay buffer: {0}")]
    Replay(#[from] crate::replay::ReplayError),
    /// A learner could not be saved.
    #[error(transparent)]
    Save(#[from] crate::practice::LearnerFailed<crate::practice::SaveError>),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// Metrics could not be written.
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricsError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A picture could not be drawn.
    #[error(transparent)]
    Plot(#[from] crate::plot::PlotError),
    /// The run folder.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// An error inside a tick.
    #[error("{0}")]
    Tick(String),
    /// The user asked for the end.
    #[error("interrupted")]
    Interrupted,
    /// Parts of the experiment do not fit each other.
    #[error("{0}")]
    Experiment(String),
}
