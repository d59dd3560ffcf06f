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
    /// What the system answered; an older folder is untouched then.
    pub fn put_in_place(self) -> io::Result<()> {
        sync_folder(self.hidden.path());
        let old = match self.path.exists() {
            false => None,
            true => Some(self.set_aside()?),
        };
        if let Err(error) = fs::rename(self.hidden.path(), &self.path) {
            if let Some(old) = &old {
                let _ = fs::rename(old.path().join("old"), &self.path);
            }
            return Err(error);
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
