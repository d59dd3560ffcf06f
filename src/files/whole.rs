//! Files that are whole or not there: written under another name, synced, then renamed.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Puts `bytes` in the place of a file: either the old or the new content is there, whatever happens.
///
/// # Errors
/// What the system answered; an older file is untouched then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = temporary_beside(path)?;
    // Not through the temporary file itself: its errors name a path that means nothing to the user.
    file.as_file().write_all(bytes)?;
    put_in_place(file, path)?;
    Ok(())
}

/// The same; folders on the way to the file are made.
///
/// # Errors
/// As [`write_whole`].
pub fn write_with_folders(path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(folder_of(path))?;
    write_whole(path, bytes)
}

/// How names of files begin that are being written.
const BEGIN: &str = ".apprentice-";
/// How they end.
const END: &str = ".part";

/// Whether a file of this name is one that somebody is writing, or was when he was killed.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(BEGIN) && name.ends_with(END)
}

/// An empty file in the folder of `path` that removes itself, with the permissions of an ordinary new file.
pub(crate) fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(BEGIN).suffix(END);
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666))
    };
    builder.tempfile_in(folder_of(path)).map_err(unnamed)
}

/// What the system answered, without the name of the temporary file, which means nothing to the user.
fn unnamed(error: io::Error) -> io::Error {
    // It has the code in its text only.
    let text = error.to_string();
    let code = text
        .split("(os error ")
        .nth(1)
        .and_then(|rest| rest.split(')').next()?.parse().ok());
    match code {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error,
    }
}

/// Syncs a finished temporary file and gives it its name, in the place of an older one.
pub(crate) fn put_in_place(file: NamedTempFile, path: &Path) -> io::Result<File> {
    file.as_file().sync_all()?;
    let file = file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder_of(path));
    Ok(file)
}

/// Makes new names in a folder outlast a power cut. Not every file system can; there nothing better can be done.
pub(crate) fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs;

    use super::*;

    #[test]
    fn files_are_replaced_whole_and_can_be_read_by_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        fs::write(&path, "old").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // What the umask leaves of 0666, as for any new file.
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
            let plain = folder.path().join("plain");
            fs::write(&plain, "").unwrap();
            assert_eq!(mode(&path), mode(&plain));
        }
        // A folder is never replaced, and nothing is left of the attempt.
        let before = fs::read_dir(folder.path()).unwrap().count();
        assert!(write_whole(folder.path(), b"new").is_err());
        let error = write_whole(&path.join("below a file"), b"new").unwrap_err().to_string();
        assert!(error.contains("os error") && !error.contains(".apprentice-"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before);
    }
}
