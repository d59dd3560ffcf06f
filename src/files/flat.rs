//! A RON text as a flat list of dotted paths, whatever type it is of: to compare files, also those of other versions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::parse;
use super::source::{FileError, Source};
use super::tree::{Node, Value};

/// Every value of a RON text under its dotted path, as it is spelt in overrides: `learner.critic.width` to `256`. The
/// path of an enum gives the name of the variant, those below it the variant's fields; a list is one value. `path`
/// stands for the text in messages.
///
/// # Errors
/// When the text is no RON.
pub fn flatten(path: &Path, text: &str) -> Result<BTreeMap<String, String>, FileError> {
    let source = Arc::new(Source::File {
        path: path.to_path_buf(),
        text: text.to_owned(),
    });
    let mut found = BTreeMap::new();
    add(&parse::parse(&source)?, "", &mut found);
    Ok(found)
}

fn add(node: &Node, path: &str, found: &mut BTreeMap<String, String>) {
    match &node.value {
        Value::Struct { name, fields } => {
            if let Some(name) = name {
                found.insert(path.to_owned(), name.text.clone());
            }
            for (field, value) in fields {
                let below = match path {
                    "" => field.text.clone(),
                    path => format!("{path}.{}", field.text),
                };
                add(value, &below, found);
            }
        }
        Value::Tuple {
            name: Some(name),
            items,
        } => match items.as_slice() {
            [inner] if name.text == "Some" => add(inner, path, found),
            [inner] if matches!(inner.value, Value::Struct { name: None, .. }) => {
                found.insert(path.to_owned(), name.text.clone());
                add(inner, path, found);
            }
            _ => leaf(node, path, found),
        },
        // Without the `r#` that a name such as `None` may be written with.
        Value::Name(name) => {
            found.insert(path.to_owned(), name.clone());
        }
        _ => leaf(node, path, found),
    }
}

/// The value as it is written, on one line.
fn leaf(node: &Node, path: &str, found: &mut BTreeMap<String, String>) {
    let words: Vec<&str> = node.span.text().split_whitespace().collect();
    found.insert(path.to_owned(), words.join(" "));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn paths_are_those_of_overrides() {
        let text = "#![enable(implicit_some)]\n(scene: \"kitchen\", seeds: [0,\n 1], model: Spirl((latent: 10, clip: (norm: 0.1))),\n \
                    learner: (target: Constant(2.5), decay: Linear(from: 1, to: 2), none: r#None, some: Some(3)))";
        let found = flatten(Path::new("x.ron"), text).unwrap();
        let of = |path: &str| found.get(path).map(String::as_str);
        assert_eq!(of("scene"), Some("\"kitchen\""));
        assert_eq!(of("seeds"), Some("[0, 1]"));
        assert_eq!((of("model"), of("model.latent")), (Some("Spirl"), Some("10")));
        assert_eq!(of("model.clip.norm"), Some("0.1"));
        assert_eq!(of("learner.target"), Some("Constant(2.5)"));
        assert_eq!(
            (of("learner.decay"), of("learner.decay.to")),
            (Some("Linear"), Some("2"))
        );
        assert_eq!((of("learner.none"), of("learner.some")), (Some("None"), Some("3")));
        assert_eq!(found.len(), 11);
        assert!(flatten(Path::new("x.ron"), "(a: ").is_err());
    }
}
