//! Overrides that list several values.
//!
//! `learner.discount=0.97,0.99` has two values, `training.warmup=0..3` the whole numbers 0, 1 and 2, and
//! `learner.batch=64,128..=130` four. Commas within brackets or quotes belong to the value: `a=[0,1]` is one list.

use std::sync::Arc;

use super::source::{FileError, Source, Span};

/// Most values that one override may list.
pub const MOST_VALUES: usize = 1_000;

/// One `path=value` of the command line and the values it lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternatives {
    /// The dotted path.
    pub path: String,
    /// The values as RON texts: one for an ordinary override.
    pub values: Vec<String>,
    /// Whether the values were listed by commas or a range.
    pub listed: bool,
}

impl Alternatives {
    /// The values of an override. Whether they fit the path shows only when they are laid over a file.
    ///
    /// # Errors
    /// A value is empty, stands there twice or is a range of no or of too many numbers.
    pub fn of(text: &str) -> Result<Self, FileError> {
        let source = Arc::new(Source::Override(text.to_owned()));
        let fail = |message: String| FileError::at(&Span::new(&source, 0, text.len()), message);
        let Some((path, value)) = text.split_once('=') else {
            return Err(fail("an override is written `path.to.field=value`".into()));
        };
        let pieces = pieces(value);
        let mut found = Self {
            path: path.trim().to_owned(),
            values: Vec::new(),
            listed: pieces.len() > 1,
        };
        for piece in &pieces {
            let piece = piece.trim();
            if piece.is_empty() && found.listed {
                return Err(fail(
                    "an empty value between two commas; values are listed as `a=1,2,3`".into(),
                ));
            }
            match range(piece) {
                None => found.values.push(piece.to_owned()),
                Some(Err(message)) => return Err(fail(message)),
                Some(Ok(numbers)) => {
                    found.listed = true;
                    found.values.extend(numbers.map(|number| number.to_string()));
                }
            }
            if found.values.len() > MOST_VALUES {
                return Err(fail(format!("lists more than {MOST_VALUES} values")));
            }
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = found.values.iter().find(|value| !seen.insert(value.as_str())) {
            return Err(fail(format!("lists the value `{twice}` twice")));
        }
        Ok(found)
    }

    /// The override with one of its values.
    pub fn with(&self, value: &str) -> String {
        format!("{}={value}", self.path)
    }

    /// All values as one list in brackets.
    pub fn as_list(&self) -> String {
        format!("{}=[{}]", self.path, self.values.join(","))
    }
}

/// A value cut at its commas that stand outside of brackets and quotes.
fn pieces(value: &str) -> Vec<&str> {
    let (mut depth, mut quoted, mut escaped, mut start) = (0_usize, false, false, 0);
    let mut found = Vec::new();
    for (at, letter) in value.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push(value.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(value.get(start..).unwrap_or_default());
    found
}

/// The numbers of `0..3` or `0..=2`; `None` for what is no range, such as the path `../data`.
fn range(piece: &str) -> Option<Result<std::ops::Range<i128>, String>> {
    let (first, rest) = piece.split_once("..")?;
    let (last, inclusive) = match rest.strip_prefix('=') {
        Some(last) => (last, true),
        None => (rest, false),
    };
    let plain = |text: &str| text.trim().replace('_', "");
    let (first, last) = (plain(first), plain(last));
    let number = |text: &str| text.parse::<i64>().ok().map(i128::from);
    let (Some(from), Some(to)) = (number(&first), number(&last)) else {
        let numeric = first.parse::<f64>().is_ok() && last.parse::<f64>().is_ok();
        let message = format!("`{piece}`: a range goes from one whole number to another; list other values as `a=1,2`");
        return numeric.then_some(Err(message));
    };
    let end = to + i128::from(inclusive);
    if end <= from {
        return Some(Err(format!(
            "the range `{piece}` is empty; the end of `0..3` is not part of it, that of `0..=3` is"
        )));
    }
    if end - from > MOST_VALUES as i128 {
        return Some(Err(format!("the range `{piece}` has more than {MOST_VALUES} numbers")));
    }
    Some(Ok(from..end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_listed_by_commas_and_ranges() {
        for (text, values, listed) in [
            ("a=1", "1", false),
            ("a=[0,1]", "[0,1]", false),
            ("a=0.97,0.99", "0.97 0.99", true),
            ("a = 1 , 2", "1 2", true),
            ("a=0..3", "0 1 2", true),
            ("a=-1..=1", "-1 0 1", true),
            ("a=1_0..1_2,20", "10 11 20", true),
            ("a=[0],[1,2]", "[0] [1,2]", true),
            ("a=Clip(range:1),(b:2)", "Clip(range:1) (b:2)", true),
            ("a=\"x,y\",\"\\\",\"", "\"x,y\" \"\\\",\"", true),
            ("a=../data.hdf5", "../data.hdf5", false),
            ("a=data/0..5", "data/0..5", false),
            ("a=", "", false),
        ] {
            let found = Alternatives::of(text).unwrap();
            assert_eq!(
                (found.path.as_str(), found.values.join(" ").as_str(), found.listed),
                ("a", values, listed)
            );
        }
        assert_eq!(Alternatives::of("a=0..3").unwrap().as_list(), "a=[0,1,2]");
    }

    #[test]
    fn lists_that_mean_nothing_are_refused() {
        for (text, part) in [
            ("a", "path.to.field=value"),
            ("a=1,,2", "an empty value"),
            ("a=1,2,", "an empty value"),
            ("a=1,1", "lists the value `1` twice"),
            ("a=0..2,1", "lists the value `1` twice"),
            ("a=3..3", "the range `3..3` is empty"),
            ("a=3..=1", "is empty"),
            ("a=0.1..0.5", "from one whole number to another"),
            ("a=0..1_001", "more than 1000 numbers"),
            ("a=-9223372036854775808..9223372036854775807", "more than 1000 numbers"),
            ("a=0..=9223372036854775807", "more than 1000 numbers"),
        ] {
            let message = Alternatives::of(text).unwrap_err().to_string();
            assert!(
                message.starts_with("override `a") && message.contains(part),
                "{text}: {message}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_has_values_or_an_error(text in "[a-c=,.0-9\\[\\]()\"\\\\ _-]{0,40}") {
            if let Ok(found) = Alternatives::of(&text) {
                prop_assert!(!found.values.is_empty() && found.values.len() <= MOST_VALUES);
                prop_assert!(found.listed || found.values.len() == 1);
            }
        }
    }
}
