//! A scene that is edited while it is shown.

use std::collections::VecDeque;
use std::sync::Arc;

use bevy::prelude::*;

use crate::evaluate::Measures;
use crate::scene::CompiledScene;
use crate::view::Watched;
use crate::view::crowd::SceneChange;
use crate::watch::{SceneNews, WatcherLink};

/// Scenes that were announced and are not to be seen in any snapshot yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Announced(VecDeque<(u64, Arc<CompiledScene>)>);

impl Announced {
    fn push(&mut self, generation: u64, scene: Arc<CompiledScene>) {
        self.0.push_back((generation, scene));
    }

    /// The scene of a snapshot, if it is another one than before.
    fn take(&mut self, generation: u64) -> Option<Arc<CompiledScene>> {
        let at = self.0.iter().position(|(announced, _)| *announced == generation)?;
        self.0.drain(..=at).next_back().map(|(_, scene)| scene)
    }
}

/// Shows the scene that the newest snapshot belongs to, and says what is wrong with its files.
pub(super) fn follow_scene(
    link: Res<WatcherLink>,
    mut watched: ResMut<Watched>,
    mut change: SceneChange,
    mut announced: Local<Announced>,
) {
    while let Ok(news) = link.scenes.try_recv() {
        match news {
            SceneNews::Replaced { generation, scene } => announced.push(generation, scene),
            SceneNews::Broken(errors) => watched.broken = errors,
            SceneNews::Sound => watched.broken.clear(),
        }
    }
    let Some(scene) = announced.take(watched.current.scene) else {
        return;
    };
    // Nothing lies between two scenes.
    if let Some(previous) = watched.previous.take() {
        // It fails only when the world has ended, and then nobody needs it.
        let _ = link.empty.try_send(previous);
    }
    watched.subject.task = Measures::of(&scene).task;
    change.make(&scene);
    watched.subject.scene = scene;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_scene_is_shown_with_the_first_snapshot_of_it() {
        let scene = Arc::new(CompiledScene::load("maze", &[]).unwrap());
        let mut announced = Announced::default();
        assert!(announced.take(0).is_none());
        for generation in 1..4 {
            announced.push(generation, Arc::clone(&scene));
        }
        assert!(announced.take(0).is_none(), "the snapshot is older");
        assert!(announced.take(2).is_some(), "the first one was never to be seen");
        assert!(announced.take(2).is_none(), "once");
        assert!(announced.take(3).is_some() && announced.0.is_empty());
    }
}
