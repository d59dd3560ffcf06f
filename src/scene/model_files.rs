//! The files of a model, to be taken elsewhere as a whole or compared with those of another one.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{PhysicsSpec, model};

/// The files that a model is made of, all below one folder, so that a copy of them is the same model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelFiles {
    root: PathBuf,
    /// Below the root.
    main: PathBuf,
    /// All files, the model itself among them, below the root.
    files: BTreeSet<PathBuf>,
    /// Folders that the scene names, below the root.
    folders: BTreeSet<PathBuf>,
}

impl ModelFiles {
    /// The files of a scene's model. `None` for models that the program builds or finds by their names in one of the
    /// [`model_folders`](super::model_folders), and for those that name anything by an absolute path or cannot be read.
    pub(crate) fn of(physics: &PhysicsSpec) -> Option<Self> {
        let path = &physics.model;
        if physics.built.is_some() || !path.is_absolute() || physics.allow.iter().any(|folder| folder.is_absolute()) {
            return None;
        }
        let mjcf = model::open(path, &physics.allow).ok()?;
        if mjcf.is_bound() {
            return None;
        }
        let files = mjcf.opened().ok()?;
        let files: Vec<PathBuf> = files.iter().map(|file| plain(file)).collect::<Option<_>>()?;
        let main = plain(path)?;
        let home = main.parent()?;
        let allowed = physics.allow.iter().map(|folder| plain(&home.join(folder)));
        let folders: Vec<PathBuf> = allowed.collect::<Option<_>>()?;
        // A `..` behind a link leads elsewhere for the system than for us.
        if !(files.iter().all(|file| file.is_file()) && folders.iter().all(|folder| folder.is_dir())) {
            return None;
        }
        let mut root = home.to_path_buf();
        for path in files.iter().chain(&folders) {
            while !path.starts_with(&root) {
                root = root.parent()?.to_path_buf();
            }
        }
        let below = |path: &PathBuf| path.strip_prefix(&root).ok().map(Path::to_path_buf);
        Some(Self {
            main: below(&main)?,
            files: files.iter().filter_map(below).collect(),
            folders: folders.iter().filter_map(below).collect(),
            root,
        })
    }

    /// The model itself, below the folder of a copy.
    pub(crate) fn main(&self) -> &Path {
        &self.main
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        let length = |file: &PathBuf| std::fs::metadata(self.root.join(file)).map_or(0, |file| file.len());
        self.files.iter().map(length).sum()
    }

    /// Copies all files into a folder, which is made.
    pub(crate) fn copy_to(&self, target: &Path) -> std::io::Result<()> {
        for folder in &self.folders {
            std::fs::create_dir_all(target.join(folder))?;
        }
        for file in &self.files {
            let to = target.join(file);
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder)?;
            }
            // Not `fs::copy`, which would copy that a file is read-only.
            std::fs::write(to, std::fs::read(self.root.join(file))?)?;
        }
        Ok(())
    }

    /// The files that are in one of the two only, or not the same in both.
    pub(crate) fn differing(&self, other: &Self) -> Vec<PathBuf> {
        let read = |files: &Self, file: &PathBuf| std::fs::read(files.root.join(file)).ok();
        let differs = |file: &&PathBuf| {
            let both = self.files.contains(*file) && other.files.contains(*file);
            !both || read(self, file) != read(other, file)
        };
        self.files.union(&other.files).filter(differs).cloned().collect()
    }
}

/// An absolute path without `.` and `..`.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            other => plain.push(other),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs;

    use super::*;
    use crate::scene::Scene;

    fn physics(model: &Path, allow: &[&str]) -> PhysicsSpec {
        PhysicsSpec {
            model: model.to_path_buf(),
            allow: allow.iter().map(PathBuf::from).collect(),
            ..Scene::load("kitchen").unwrap().physics
        }
    }

    #[test]
    fn a_copy_has_every_file_that_is_opened() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        for folder in ["robot/parts", "shared/meshes"] {
            fs::create_dir_all(place.join(folder)).unwrap();
        }
        let main = place.join("robot/arm.xml");
        let text = "<mujoco><compiler meshdir='../shared/meshes'/><include file='parts/hand.xml'/>\
                    <asset><mesh name='m' file='m.obj'/></asset></mujoco>";
        fs::write(&main, text).unwrap();
        let hand = "<mujoco><worldbody><body><geom size='1'/></body></worldbody></mujoco>";
        fs::write(place.join("robot/parts/hand.xml"), hand).unwrap();
        let mesh = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n";
        fs::write(place.join("shared/meshes/m.obj"), mesh).unwrap();
        fs::write(place.join("robot/notes.txt"), "of no use").unwrap();
        let physics = |model: &Path| physics(model, &["../shared"]);
        let found = ModelFiles::of(&physics(&main)).unwrap();
        assert_eq!(found.root, place);
        assert_eq!(found.main(), Path::new("robot/arm.xml"));
        let names: Vec<&str> = found.files.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(names, ["robot/arm.xml", "robot/parts/hand.xml", "shared/meshes/m.obj"]);
        assert_eq!(found.bytes(), (text.len() + hand.len() + mesh.len()) as u64);

        let copy = place.join("copy");
        found.copy_to(&copy).unwrap();
        let copied = ModelFiles::of(&physics(&copy.join(found.main()))).unwrap();
        assert_eq!(copied.root, copy);
        assert!(found.differing(&copied).is_empty());
        model::load(&physics(&copy.join(found.main()))).unwrap();
        fs::write(copy.join("robot/parts/hand.xml"), hand.replace('1', "2")).unwrap();
        assert_eq!(found.differing(&copied), [PathBuf::from("robot/parts/hand.xml")]);
        // A path that means one machine only.
        let bound = text.replace("'m.obj'", &format!("'{}'", place.join("shared/meshes/m.obj").display()));
        fs::write(&main, bound).unwrap();
        assert_eq!(ModelFiles::of(&physics(&main)), None);
    }
}
