//! What a report is made of, as it is named on the command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One method of a report: run folders or tables whose learners are seeds of the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name of the method; `None` if none was given: then tables keep the names of their methods.
    pub label: Option<String>,
    /// Run folders and CSV files.
    pub paths: Vec<PathBuf>,
}

impl Source {
    /// Reads `LABEL=PATH,PATH`, `PATH,PATH` or `PATH`. A text that is the path of something is that, whatever signs are
    /// in it.
    ///
    /// # Errors
    /// When a label or a path is empty.
    pub fn parse(text: &str) -> Result<Self, String> {
        if Path::new(text).exists() {
            return Ok(Self {
                label: None,
                paths: vec![PathBuf::from(text)],
            });
        }
        let (label, paths) = match text.split_once('=') {
            Some((label, paths)) => (Some(label.trim().to_owned()), paths),
            None => (None, text),
        };
        let whole = Path::new(paths).exists();
        let paths: Vec<PathBuf> = match whole {
            true => vec![PathBuf::from(paths)],
            false => paths.split(',').map(PathBuf::from).collect(),
        };
        let empty = paths.iter().any(|path| path.as_os_str().is_empty());
        if empty || label.as_ref().is_some_and(String::is_empty) {
            return Err(format!("`{text}`: expected LABEL=RUN,RUN or RUN"));
        }
        Ok(Self { label, paths })
    }

    /// The name of the method.
    pub fn name(&self) -> String {
        let paths = || self.paths.iter().map(|path| path.display().to_string());
        self.label
            .clone()
            .unwrap_or_else(|| paths().collect::<Vec<_>>().join(","))
    }

    /// Refuses two sources of the same name.
    ///
    /// # Errors
    /// The name that is there twice.
    pub fn expect_different(sources: &[Self]) -> Result<(), String> {
        let mut names = BTreeSet::new();
        match sources.iter().find(|source| !names.insert(source.name())) {
            Some(source) => Err(format!(
                "two methods are called `{}`; expected different labels (LABEL=RUN,RUN)",
                source.name()
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn sources_are_labelled_groups() {
        let of = |text: &str| Source::parse(text).unwrap();
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let ours = of("ours=runs/a,runs/b");
        assert_eq!(
            (ours.name().as_str(), &ours.paths),
            ("ours", &paths(&["runs/a", "runs/b"]))
        );
        assert_eq!(of("runs/a").name(), "runs/a");
        assert_eq!((of("a,b").label, of("a,b").paths), (None, paths(&["a", "b"])));
        for wrong in ["", "a=", "=a", "a=b,", ",b"] {
            let error = Source::parse(wrong).unwrap_err();
            assert!(error.contains("LABEL=RUN,RUN"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a=b,c");
        std::fs::create_dir(&odd).unwrap();
        let text = odd.to_str().unwrap().to_owned();
        assert_eq!(of(&text).paths, std::slice::from_ref(&odd));
        assert_eq!(of(&format!("x={text}")).paths, [odd]);
        assert!(Source::expect_different(&[ours.clone(), of("b")]).is_ok());
        let error = Source::expect_different(&[ours.clone(), ours]).unwrap_err();
        assert!(error.contains("`ours`"), "{error}");
    }
}
