//! Videos and pictures that lie in run folders, and how a page holds them.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// A video or a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its type on the web.
    pub mime: &'static str,
}

impl Medium {
    /// Whether it is a video rather than a picture.
    pub fn is_video(&self) -> bool {
        self.mime.starts_with("video/")
    }

    /// The file as an address that holds its content; `None` if it cannot be read.
    pub(super) fn data_uri(&self) -> Option<String> {
        let bytes = fs::read(&self.path).ok()?;
        Some(format!("data:{};base64,{}", self.mime, base64(&bytes)))
    }
}

/// The endings of files that browsers show.
const KINDS: [(&str, &str); 8] = [
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("png", "image/png"),
    ("apng", "image/apng"),
    ("gif", "image/gif"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
];

/// A run with more of them is not looked through to the end.
const MOST: usize = 200;

/// The videos and pictures in a run folder and the folders in it, in the order of their names. Links are not followed: a
/// run may come from somebody else.
pub(super) fn find(run: &Path) -> Vec<Medium> {
    let mut found = Vec::new();
    look_into(run, 2, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn look_into(folder: &Path, depth: usize, found: &mut Vec<Medium>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let hidden = name.to_string_lossy().starts_with('.');
        let Ok(kind) = entry.file_type() else { continue };
        if hidden || name == "checkpoints" || found.len() >= MOST {
            continue;
        }
        if kind.is_dir() && depth > 1 {
            look_into(&path, depth - 1, found);
        }
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        let mime = ending.and_then(|ending| KINDS.iter().find(|(known, _)| *known == ending));
        if let (true, Some((_, mime)), Ok(data)) = (kind.is_file(), mime, entry.metadata()) {
            found.push(Medium {
                size: data.len(),
                path,
                mime,
            });
        }
    }
}

/// How a page in `folder` links to a file.
pub(super) fn link(file: &Path, folder: &Path) -> String {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let folder = match folder.as_os_str().is_empty() {
        true => whole(Path::new(".")),
        false => whole(folder),
    };
    let file = whole(file);
    let parts = |path: &Path| -> Vec<String> {
        let normal = path.components().filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
            _ => None,
        });
        normal.collect()
    };
    let (from, to) = (parts(&folder), parts(&file));
    let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - common);
    let down = to.iter().skip(common).map(|part| percent_encoded(part));
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// A part of an address in which only plain signs stand for themselves (RFC 3986).
fn percent_encoded(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sign = SIGNS
                .get((bits >> (18 - 6 * place)) as usize & 63)
                .copied()
                .unwrap_or(b'=');
            text.push(if place <= group.len() { char::from(sign) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, section 10.
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xFB, 0xEF, 0xFF]), "++//");
    }

    #[test]
    fn media_are_found_and_linked() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("my run");
        for name in [
            "evaluation.mp4",
            "frames/a b#1.PNG",
            "notes.txt",
            ".hidden.png",
            "seed_0/checkpoints/x.png",
        ] {
            let path = run.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "abc").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc/hostname", run.join("secret.png")).unwrap();
        let found = find(&run);
        let names: Vec<String> = found.iter().map(|medium| link(&medium.path, folder.path())).collect();
        assert_eq!(names, ["my%20run/evaluation.mp4", "my%20run/frames/a%20b%231.PNG"]);
        assert!(found[0].is_video() && !found[1].is_video());
        assert_eq!(link(&found[0].path, &run.join("frames")), "../evaluation.mp4");
        assert_eq!(found[0].data_uri().unwrap(), "data:video/mp4;base64,YWJj");
    }
}
