//! A value as a tree that is changed part by part, to find out what else is wrong with it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::tree::{Node, Value};
use super::{FileError, de, parse, source, to_text};

/// A value with all its defaults written out. Paths have dots, as in overrides: `control.servos.0.joint`.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    tree: Node,
}

/// What [`Draft::remove`] has taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// An item of a list; those behind it have moved up.
    Item,
    /// An entry of a map.
    Entry,
    /// A field; it has its default now.
    Field,
}

impl Draft {
    /// The draft of a value.
    ///
    /// # Errors
    /// As [`to_text`].
    pub(crate) fn of<T: Serialize>(value: &T) -> Result<Self, FileError> {
        let source = std::sync::Arc::new(source::Source::File {
            path: "draft".into(),
            text: to_text(value)?,
        });
        Ok(Self {
            tree: parse::parse(&source)?,
        })
    }

    /// The value it stands for now.
    ///
    /// # Errors
    /// When something was removed that has no default.
    pub(crate) fn value<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        de::from_node(&self.tree)
    }

    /// The text at a path, if there is one.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        match &self.tree.find(path).value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Puts another text in the place of one; false if there is none.
    pub(crate) fn set_text(&mut self, path: &str, new: &str) -> bool {
        match place(&mut self.tree, path).map(|node| &mut node.value) {
            Some(Value::Text(text)) => {
                new.clone_into(text);
                true
            }
            _ => false,
        }
    }

    /// Puts the number 1 in the place of one; false if there is none.
    pub(crate) fn set_one(&mut self, path: &str) -> bool {
        match place(&mut self.tree, path).map(|node| &mut node.value) {
            Some(value @ (Value::Number(_) | Value::Name(_))) => {
                *value = Value::Number("1".to_owned());
                true
            }
            _ => false,
        }
    }

    /// Puts so many ones in the place of a list of numbers; false if there is none.
    pub(crate) fn set_ones(&mut self, path: &str, count: usize) -> bool {
        let Some(node) = place(&mut self.tree, path) else {
            return false;
        };
        let one = Node {
            span: node.span.clone(),
            value: Value::Number("1".to_owned()),
        };
        match &mut node.value {
            Value::List(items)
                if items
                    .iter()
                    .all(|item| matches!(item.value, Value::Number(_) | Value::Name(_))) =>
            {
                *items = vec![one; count];
                true
            }
            _ => false,
        }
    }

    /// Takes out what is at a path, if it is part of something.
    pub(crate) fn remove(&mut self, path: &str) -> Option<Removed> {
        let (holder, last) = path.rsplit_once('.').unwrap_or(("", path));
        match &mut unwrapped(place(&mut self.tree, holder)?, last)?.value {
            Value::Struct { fields, .. } => {
                let at = fields.iter().position(|(name, _)| name.text == last)?;
                fields.remove(at);
                Some(Removed::Field)
            }
            Value::Map(entries) => {
                let at = entries.iter().position(|(key, _)| is_key(key, last))?;
                entries.remove(at);
                Some(Removed::Entry)
            }
            Value::List(items) => {
                let at = last.parse().ok().filter(|&at: &usize| at < items.len())?;
                items.remove(at);
                Some(Removed::Item)
            }
            _ => None,
        }
    }
}

/// The node at a path.
fn place<'n>(tree: &'n mut Node, path: &str) -> Option<&'n mut Node> {
    path.split('.')
        .filter(|part| !part.is_empty())
        .try_fold(tree, |node, part| match &mut unwrapped(node, part)?.value {
            Value::Struct { fields, .. } => fields
                .iter_mut()
                .find(|(name, _)| name.text == part)
                .map(|(_, node)| node),
            Value::Map(entries) => entries
                .iter_mut()
                .find(|(key, _)| is_key(key, part))
                .map(|(_, node)| node),
            // A path may name a variant: `to.Body`.
            Value::Tuple { name, items } => {
                let is_named = name.as_ref().is_some_and(|name| name.text == part);
                items.get_mut(if is_named { 0 } else { part.parse().ok()? })
            }
            Value::List(items) => items.get_mut(part.parse::<usize>().ok()?),
            _ => None,
        })
}

/// What a variant holds, where the next part of the path is the name of something in it.
fn unwrapped<'n>(node: &'n mut Node, part: &str) -> Option<&'n mut Node> {
    let wraps = matches!(&node.value, Value::Tuple { name: Some(_), items } if items.len() == 1);
    let is_named = matches!(&node.value, Value::Tuple { name: Some(name), .. } if name.text == part);
    if !wraps || is_named || part.parse::<usize>().is_ok() {
        return Some(node);
    }
    match &mut node.value {
        Value::Tuple { items, .. } => unwrapped(items.first_mut()?, part),
        _ => None,
    }
}

fn is_key(key: &Node, part: &str) -> bool {
    matches!(&key.value, Value::Text(text) | Value::Name(text) if text == part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scene::Scene;

    #[test]
    fn parts_are_changed_and_taken_out() {
        let scene = Scene::load("kitchen").unwrap();
        let mut draft = Draft::of(&scene).unwrap();
        assert_eq!(draft.value::<Scene>().unwrap(), scene, "nothing is lost");
        assert_eq!(draft.text("control.servos.1.joint"), Some("robot:panda0_joint2"));
        assert!(draft.set_text("control.servos.1.joint", "elbow") && draft.set_one("elements.0.threshold"));
        assert!(!draft.set_text("elements.0.threshold", "") && !draft.set_one("elements.9.threshold"));
        assert!(draft.set_ones("elements.0.goal", 3) && !draft.set_ones("elements", 3));
        assert_eq!(draft.remove("elements.1"), Some(Removed::Item));
        assert_eq!(draft.remove("reset.positions.kettle"), Some(Removed::Entry));
        assert_eq!(draft.remove("task.order"), Some(Removed::Field));
        assert_eq!(
            (draft.remove("elements.7"), draft.remove("elements.kettle")),
            (None, None)
        );
        let changed: Scene = draft.value().unwrap();
        assert_eq!((changed.elements.len(), changed.elements[0].threshold), (6, 1.0));
        assert_eq!(changed.elements[0].goal, [1.0; 3]);
        assert!(!changed.reset.positions.contains_key("kettle"));
        draft.remove("episode.steps");
        assert!(draft.value::<Scene>().is_err(), "it has no default");
    }
}
