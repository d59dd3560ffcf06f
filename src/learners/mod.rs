//! Online learners, one file per algorithm, and the bookkeeping they share.
//!
//! | module | content |
//! |---|---|
//! | [`sac`] | soft actor-critic, plain and regularised by a skill prior (`SPiRL`) |
//! | [`skill_recorder`] | turns control steps into transitions between skills |

pub mod sac;
pub mod skill_recorder;

pub use sac::{Sac, SacConfig};
pub use skill_recorder::SkillRecorder;
