//! The syntax tree of a RON text: what was written, and where.
//!
//! `ron::Value` cannot serve here: it keeps neither the names of structs and enum variants nor the places, and both
//! are needed to lay one file over another and to say where a fault is.

use std::collections::HashMap;
use std::hash::Hash;

use super::source::{FileError, Span, did_you_mean};

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

/// A name with its place, such as a field or the name before a parenthesis.
#[derive(Debug, Clone)]
pub(super) struct Ident {
    pub(super) span: Span,
    pub(super) text: String,
}

/// What a text says, before it is known which type is wanted.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `true`, `false`
    Bool(bool),
    /// Any number, digits kept as written but without `_`.
    Number(String),
    /// `'c'`
    Char(char),
    /// `"text"`, `r#"text"#`
    Text(String),
    /// `Name`: a unit struct or variant, `None`, `inf`, `NaN`; in an override also a string without quotes.
    Name(String),
    /// `(a: 1)`, `Name(a: 1)`
    Struct { name: Option<Ident>, fields: Fields },
    /// `()`, `(1, 2)`, `Name(1, 2)`, `Some(1)`
    Tuple { name: Option<Ident>, items: Vec<Node> },
    /// `[1, 2]`
    List(Vec<Node>),
    /// `{"a": 1}`; keys are scalars.
    Map(Vec<(Node, Node)>),
    /// Stands where something faulty stood, while all faults of a text are looked for; never in what was parsed.
    Gap(Gap),
}

/// What is read in the place of something faulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// Nothing: a field is left out and has its default.
    Left,
    /// An empty value of the type that is wanted.
    Filled,
}

/// Fields in the order they are written.
pub(super) type Fields = Vec<(Ident, Node)>;

impl Node {
    /// What the value is, for messages.
    pub(super) fn describe(&self) -> String {
        let named = |kind: &str, name: &Option<Ident>| match name {
            Some(name) => format!("`{}(...)`", shorten(&name.text)),
            None => kind.to_owned(),
        };
        match &self.value {
            Value::Bool(value) => format!("`{value}`"),
            Value::Number(text) => format!("the number {}", shorten(text)),
            Value::Char(value) => format!("the character {value:?}"),
            Value::Text(text) => format!("the string \"{}\"", shorten(text)),
            Value::Name(name) => format!("the name `{}`", shorten(name)),
            Value::Struct { name, .. } => named("a struct `(...: ...)`", name),
            Value::Tuple { name: None, items } if items.is_empty() => "`()`".to_owned(),
            Value::Tuple { name, .. } => named("a tuple `(...)`", name),
            Value::List(_) => "a list `[...]`".to_owned(),
            Value::Map(_) => "a map `{...}`".to_owned(),
            Value::Gap(_) => "nothing".to_owned(),
        }
    }

    /// Whether this is a struct with fields.
    pub(super) fn is_struct(&self) -> bool {
        matches!(&self.value, Value::Struct { fields, .. } if !fields.is_empty())
    }

    /// Whether something faulty stood here.
    pub(super) fn is_gap(&self) -> bool {
        matches!(self.value, Value::Gap(_))
    }

    /// Whether this is the place of a field that is read as if it were not there.
    pub(super) fn is_left_out(&self) -> bool {
        matches!(self.value, Value::Gap(Gap::Left))
    }

    /// Whether anything in this value was faulty.
    pub(super) fn has_gaps(&self) -> bool {
        match &self.value {
            Value::Gap(_) => true,
            Value::Struct { fields, .. } => fields.iter().any(|(_, value)| value.has_gaps()),
            Value::Tuple { items, .. } | Value::List(items) => items.iter().any(Self::has_gaps),
            Value::Map(entries) => entries.iter().any(|(key, value)| key.has_gaps() || value.has_gaps()),
            _ => false,
        }
    }

    /// The key under which a scalar stands in a map: equal keys of one map have equal text.
    pub(super) fn key(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(format!("b{value}")),
            Value::Number(text) => Some(format!("n{text}")),
            Value::Char(value) => Some(format!("c{value}")),
            Value::Text(text) => Some(format!("t{text}")),
            Value::Name(name) => Some(format!("i{name}")),
            _ => None,
        }
    }

    /// Lays `over` on `self`: structs and maps merge key by key, and so do variants of the same name; everything else
    /// is replaced.
    pub(super) fn merge(&mut self, over: Node) {
        let compatible = match (self.holder(), over.holder(), &over.value) {
            // A bare word says nothing about fields: over the variant of that name it changes nothing.
            (Some(Some(old)), Some(Some(new)), Value::Name(_)) if old == new => return,
            (_, _, Value::Name(_)) => false,
            (Some(Some(old)), Some(Some(new)), _) => old == new,
            (Some(_), Some(_), _) => true,
            _ => false,
        };
        if compatible {
            let span = over.span.clone();
            if let (Some((old, under)), Some((new, fields))) = (self.fields_mut(), over.into_fields()) {
                if new.is_some() {
                    *old = new;
                }
                merge_by_key(under, fields, |field| field.text.clone());
                self.span = span;
            }
            return;
        }
        match (&mut self.value, over.value) {
            (Value::Map(under), Value::Map(entries)) => {
                merge_by_key(under, entries, Node::key);
                self.span = over.span;
            }
            (
                Value::Tuple {
                    name: Some(old),
                    items: under,
                },
                Value::Tuple {
                    name: Some(new),
                    mut items,
                },
            ) if old.text == new.text && under.len() == 1 && items.len() == 1 => {
                if let (Some(under), Some(item)) = (under.first_mut(), items.pop()) {
                    under.merge(item);
                }
                *old = new;
                self.span = over.span;
            }
            (_, value) => *self = Node { span: over.span, value },
        }
    }

    /// If the value is a struct however it is spelt (`(a: 1)`, `Sac(a: 1)`, `Sac((a: 1))`, `Sac`, `()`, or one of them
    /// in `Some`): its name, if it has one.
    fn holder(&self) -> Option<Option<&str>> {
        match &self.value {
            Value::Struct { name, .. } => Some(name.as_ref().map(|name| name.text.as_str())),
            Value::Name(name) if name != "None" => Some(Some(name)),
            Value::Tuple {
                name: Some(name),
                items,
            } => match items.as_slice() {
                [] => Some(Some(&name.text)),
                [inner] if name.text == "Some" => inner.holder(),
                [
                    Node {
                        value: Value::Struct { name: None, .. },
                        ..
                    },
                ] => Some(Some(&name.text)),
                _ => None,
            },
            Value::Tuple { name: None, items } if items.is_empty() => Some(None),
            _ => None,
        }
    }

    /// The name and the fields of what [`Node::holder`] recognises; bare names become structs without fields.
    pub(super) fn fields_mut(&mut self) -> Option<(&mut Option<Ident>, &mut Fields)> {
        self.holder()?;
        let bare = match &mut self.value {
            Value::Name(name) => Some(Some(Ident {
                span: self.span.clone(),
                text: std::mem::take(name),
            })),
            Value::Tuple { name, items } if items.is_empty() => Some(name.take()),
            _ => None,
        };
        if let Some(name) = bare {
            self.value = Value::Struct {
                name,
                fields: Vec::new(),
            };
        }
        match &mut self.value {
            Value::Struct { name, fields } => Some((name, fields)),
            Value::Tuple { name, items } => match items.first_mut() {
                Some(inner) if name.as_ref().is_some_and(|name| name.text == "Some") => inner.fields_mut(),
                Some(Node {
                    value: Value::Struct { fields, .. },
                    ..
                }) => Some((name, fields)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The owned form of [`Node::fields_mut`].
    fn into_fields(mut self) -> Option<(Option<Ident>, Fields)> {
        self.fields_mut()
            .map(|(name, fields)| (name.take(), std::mem::take(fields)))
    }

    /// Lays one override on the tree: `path` holds the parts of `a.0.b`, `over` the value.
    pub(super) fn set(&mut self, path: &[Ident], over: Node) -> Result<(), FileError> {
        let Some((part, rest)) = path.split_first() else {
            self.merge(over);
            return Ok(());
        };
        let index = part.text.parse::<usize>().ok();
        // What the file leaves at its default is written down here, and checked when the types are known.
        if index.is_none()
            && let Some((_, fields)) = self.fields_mut()
        {
            match fields.iter_mut().find(|(name, _)| name.text == part.text) {
                Some((_, value)) => return value.set(rest, over),
                None => fields.push((part.clone(), nested(rest, over))),
            }
            return Ok(());
        }
        match &mut self.value {
            Value::Name(name) if name == "None" => {
                *self = nested(path, over);
                Ok(())
            }
            Value::Tuple { name: Some(_), items } if index.is_none() && items.len() == 1 => {
                items.iter_mut().try_for_each(|inner| inner.set(path, over.clone()))
            }
            Value::Map(entries) => {
                let same = |key: &Node| match &key.value {
                    Value::Text(text) | Value::Name(text) | Value::Number(text) => *text == part.text,
                    _ => false,
                };
                if let Some((_, value)) = entries.iter_mut().find(|(key, _)| same(key)) {
                    return value.set(rest, over);
                }
                let key = Node {
                    span: part.span.clone(),
                    value: Value::Text(part.text.clone()),
                };
                entries.push((key, nested(rest, over)));
                Ok(())
            }
            Value::List(items) | Value::Tuple { items, .. } => {
                let count = items.len();
                match index.and_then(|at| items.get_mut(at)) {
                    Some(item) => item.set(rest, over),
                    None if count == 0 => Err(FileError::at(&part.span, "the list is empty: give it as a whole")),
                    None => Err(FileError::at(
                        &part.span,
                        format!(
                            "`{}` is no element of a list of {count}: use 0 to {}",
                            part.text,
                            count - 1
                        ),
                    )),
                }
            }
            _ => Err(FileError::at(
                &part.span,
                format!(
                    "there is no `{}` here: the value is {}, which has no parts",
                    part.text,
                    self.describe()
                ),
            )),
        }
    }

    /// The deepest node on a dotted path, for errors found after loading.
    pub(super) fn find(&self, path: &str) -> &Node {
        self.follow(path).0
    }

    /// The place of the key at the end of a dotted path, if that leads into a map.
    pub(super) fn find_key(&self, path: &str) -> Option<&Span> {
        let (holder, last) = path.rsplit_once('.')?;
        let mut node = self.find_whole(holder)?;
        while let Value::Tuple { name: Some(_), items } = &node.value
            && let [inner] = items.as_slice()
        {
            node = inner;
        }
        let Value::Map(entries) = &node.value else { return None };
        let is_last = |key: &Node| matches!(&key.value, Value::Text(text) | Value::Name(text) if text == last);
        entries.iter().find(|(key, _)| is_last(key)).map(|(key, _)| &key.span)
    }

    /// The node at a dotted path, if that was written down.
    pub(super) fn find_whole(&self, path: &str) -> Option<&Node> {
        match self.follow(path) {
            (node, true) => Some(node),
            _ => None,
        }
    }

    /// The deepest node on a dotted path, and whether it is the one that was meant.
    fn follow(&self, path: &str) -> (&Node, bool) {
        let mut node = self;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            while let Value::Tuple { name: Some(_), items } = &node.value
                && let [inner] = items.as_slice()
                && part.parse::<usize>().is_err()
            {
                node = inner;
            }
            let next = match &node.value {
                Value::Struct { fields, .. } => fields
                    .iter()
                    .find(|(name, _)| name.text == part)
                    .map(|(_, value)| value),
                Value::Map(entries) => entries
                    .iter()
                    .find(|(key, _)| matches!(&key.value, Value::Text(text) | Value::Name(text) if text == part))
                    .map(|(_, value)| value),
                Value::List(items) | Value::Tuple { items, .. } => {
                    part.parse::<usize>().ok().and_then(|at| items.get(at))
                }
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return (node, false),
            }
        }
        (node, true)
    }

    /// Takes the string field `name` out of a top-level struct.
    pub(super) fn take_text_field(&mut self, name: &str) -> Result<Option<(Span, String)>, FileError> {
        let Value::Struct { fields, .. } = &mut self.value else {
            return Ok(None);
        };
        let Some(at) = fields.iter().position(|(field, _)| field.text == name) else {
            return Ok(None);
        };
        let (_, node) = fields.remove(at);
        match node.value {
            Value::Text(text) => Ok(Some((node.span, text))),
            Value::Name(word) => Err(FileError::at(
                &node.span,
                format!("`{name}` wants a string: write \"{word}\" with quotes"),
            )),
            _ => Err(FileError::at(
                &node.span,
                format!("`{name}` wants a string, found {}", node.describe()),
            )),
        }
    }
}

/// `(b: (c: over))` for the path `b.c`.
fn nested(path: &[Ident], over: Node) -> Node {
    path.iter().rev().fold(over, |value, part| Node {
        span: part.span.clone(),
        value: Value::Struct {
            name: None,
            fields: vec![(part.clone(), value)],
        },
    })
}

/// Lays entries over entries: those with equal keys merge, the others are added at the end.
fn merge_by_key<K, I: Eq + Hash>(under: &mut Vec<(K, Node)>, over: Vec<(K, Node)>, identity: impl Fn(&K) -> I) {
    let mut index: HashMap<I, usize> = under
        .iter()
        .enumerate()
        .map(|(at, (key, _))| (identity(key), at))
        .collect();
    for (key, node) in over {
        match index.get(&identity(&key)).and_then(|&at| under.get_mut(at)) {
            Some((place, value)) => {
                *place = key;
                value.merge(node);
            }
            None => {
                index.insert(identity(&key), under.len());
                under.push((key, node));
            }
        }
    }
}

/// At most 40 characters of a text, for messages.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Says which of the words that are valid was probably meant.
pub(super) fn unknown(kind: &str, word: &str, place: &str, valid_kind: &str, valid: &[&str]) -> String {
    let hint = did_you_mean(word, valid.iter().copied());
    let joined = valid.join(", ");
    format!(
        "unknown {kind} `{}`{place}{hint} ({valid_kind}: {joined})",
        shorten(word)
    )
}
