//! The fields of a scene, for those who look for them elsewhere.

use super::{Scene, SceneError};
use crate::files::{self, FileError};

/// The fields of a scene that an experiment does not have.
pub(crate) const FIELDS: [&str; 11] = [
    "physics",
    "control",
    "observation",
    "reset",
    "randomise",
    "delays",
    "elements",
    "task",
    "episode",
    "cameras",
    "demonstrator",
];

/// What to say where `overrides` were laid over an experiment in the scene `scene` and `error` came of it, because one of
/// them is meant for a scene. Otherwise the error itself.
pub(crate) fn explain(error: FileError, overrides: &[String], scene: Option<&str>) -> FileError {
    let guessed = error.message().contains("did you mean");
    let meant = overrides.iter().find_map(|text| {
        let path = text.split_once('=')?.0;
        let first = path.split('.').next()?.trim();
        let blamed = error.message().contains(&format!("override `{text}`"));
        let field = FIELDS.into_iter().find(|field| *field == first);
        let near = || files::nearest(first, FIELDS).filter(|_| !guessed);
        Some((text, first, field.or_else(near)?)).filter(|_| blamed)
    });
    let Some((text, first, field)) = meant else {
        return error;
    };
    let base = scene.unwrap_or("kitchen");
    let mut message = if first == field {
        format!("`{first}` is a field of scenes, not of experiments")
    } else {
        format!("unknown field `{first}` in `Experiment`; `{field}` is one of scenes")
    };
    message += &format!(
        "; scene fields are set in a scene file: write one that extends \"{base}\", and name it with `scene=FILE`"
    );
    // What is wrong with it even there; nothing where the scene itself is at fault.
    if first == field
        && Scene::load(base).is_ok()
        && let Err(SceneError::File(inner)) = Scene::load_with(base, std::slice::from_ref(text))
    {
        let inner = inner.message();
        let inner = inner.split_once("`: ").map_or(inner, |(_, inner)| inner);
        message += &format!(". There: {inner}");
    }
    FileError::of_override(text, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::experiment::Experiment;

    #[test]
    fn all_fields_are_known() {
        let scene = serde_json::to_value(Scene::load("kitchen").unwrap()).unwrap();
        let mut fields: Vec<&str> = scene.as_object().unwrap().keys().map(String::as_str).collect();
        fields.retain(|field| *field != "description");
        let mut known = FIELDS.to_vec();
        known.sort_unstable();
        fields.sort_unstable();
        assert_eq!(known, fields);
    }

    #[test]
    fn overrides_meant_for_scenes_say_where_they_belong() {
        let error = |text: &str| {
            let error = Experiment::load("maze/sac", &["seeds=[1]".into(), text.to_owned()]).unwrap_err();
            error.to_string()
        };
        let message = error("physics.frame_skip=20");
        for part in [
            "override `physics.frame_skip=20`: `physics` is a field of scenes",
            "extends \"maze\"",
            "scene=FILE",
        ] {
            assert!(message.contains(part), "no `{part}` in {message}");
        }
        assert!(!message.contains("There:"), "{message}");
        let message = error("physics.frame_skp=20");
        assert!(
            message.contains("There: unknown field `frame_skp`") && message.contains("did you mean `frame_skip`?"),
            "{message}"
        );
        assert!(error("obsrvation.noise=false").contains("`observation` is one of scenes"));
        let message = error("lerner.discount=0.9");
        assert!(
            message.contains("did you mean `learner`?") && !message.contains("scene file"),
            "{message}"
        );
    }
}
