//! A folder that appears whole or not at all: it grows under a hidden name beside its target.

use std::path::{Path, PathBuf};
use std::{fs, io};

use tempfile::TempDir;

use crate::files::{folder_of, sync_folder};

/// A folder that is being written. Dropping it removes it.
#[derive(Debug)]
pub(super) struct NewFolder {
    hidden: TempDir,
    path: PathBuf,
}

impl NewFolder {
    /// Starts the folder `path` under another name. Folders on the way to it are created.
    ///
    /// # Errors
    /// What the system answered.
    pub fn create(path: &Path) -> io::Result<Self> {
        let beside = folder_of(path);
        fs::create_dir_all(beside)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".apprentice-").suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        Ok(Self {
            hidden: builder.tempdir_in(beside)?,
            path: path.to_owned(),
        })
    }

    /// The folder as long as it is written.
    pub fn hidden(&self) -> &Path {
        self.hidden.path()
    }

    /// Gives the folder its name, in the place of an older one.
    ///
    /// # Errors
    /// What the system answered; an older folder is untouched then, or the error says where it is.
    pub fn put_in_place(self) -> io::Result<()> {
        sync_folder(self.hidden.path());
        let old = match self.path.exists() {
            false => None,
            true => Some(self.set_aside()?),
        };
        if let Err(error) = fs::rename(self.hidden.path(), &self.path) {
            return Err(match old {
                Some(old) => put_back(old, &self.path, error),
                None => error,
            });
        }
        sync_folder(folder_of(&self.path));
        // It has another name now and must not be removed.
        let _ = self.hidden.keep();
        Ok(())
    }

    /// Moves the older folder out of the way, into a hidden one that removes itself.
    fn set_aside(&self) -> io::Result<TempDir> {
        let mut builder = tempfile::Builder::new();
        let aside = builder.prefix(".apprentice-").tempdir_in(folder_of(&self.path))?;
        fs::rename(&self.path, aside.path().join("old"))?;
        Ok(aside)
    }
}

/// Gives the older folder in `aside` its name `path` again, after `error`; tells of it if that fails, too.
fn put_back(aside: TempDir, path: &Path, error: io::Error) -> io::Error {
    let old = aside.path().join("old");
    let Err(again) = fs::rename(&old, path) else {
        return error;
    };
    // It is all that is left of what the user had.
    let _ = aside.keep();
    io::Error::new(
        error.kind(),
        format!(
            "{error}; the former folder is {} now, and stays there ({again})",
            old.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_put_back_is_kept_and_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("mine"), "all there is").unwrap();
        let new = NewFolder::create(&path).unwrap();
        let aside = new.set_aside().unwrap();
        let old = aside.path().join("old");
        assert!(!path.exists() && old.is_dir());
        // A file in its place.
        fs::write(&path, "").unwrap();
        let told = put_back(aside, &path, io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(told.contains(&old.display().to_string()), "{told}");
        assert_eq!(fs::read_to_string(old.join("mine")).unwrap(), "all there is");
        fs::remove_file(&path).unwrap();

        fs::create_dir(&path).unwrap();
        let told = put_back(new.set_aside().unwrap(), &path, io::ErrorKind::PermissionDenied.into());
        assert_eq!((told.kind(), path.is_dir()), (io::ErrorKind::PermissionDenied, true));
        assert!(!told.to_string().contains("former folder"));
    }
}
