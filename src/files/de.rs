//! From the syntax tree to typed values, with the place of every fault.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected};
use serde::de::{VariantAccess, Visitor};

use super::fill::Filler;
use super::parse::{Integer, float, integer};
use super::source::{FileError, Span};
use super::tree::{Ident, Node, Value, shorten, unknown};

/// Reads a typed value from a tree.
pub(super) fn from_node<T: de::DeserializeOwned>(node: &Node) -> Result<T, FileError> {
    try_node(node).map_err(|fault| fault.error())
}

/// Reads a typed value from a tree that may have gaps; the fault always has a place.
pub(super) fn try_node<T: de::DeserializeOwned>(node: &Node) -> Result<T, Fault> {
    let value = match node.value {
        Value::Gap(_) => T::deserialize(Filler::new()),
        _ => T::deserialize(De::new(node)),
    };
    value.map_err(|fault| fault.within(&node.span))
}

/// Reads a part of a tree, or fills a gap in it.
fn read_part<'de, T: DeserializeSeed<'de>>(seed: T, node: &Node) -> Result<T::Value, Fault> {
    match node.value {
        Value::Gap(_) => seed.deserialize(Filler::new()),
        _ => seed.deserialize(De::new(node)),
    }
}

/// What serde reports while the place is not known yet; the nearest enclosing value fills it in.
#[derive(Debug)]
pub(super) struct Fault {
    problem: Box<Problem>,
    span: Option<Span>,
}

#[derive(Debug)]
enum Problem {
    Wrong {
        field: Option<String>,
        found: String,
        expected: String,
    },
    Missing {
        field: &'static str,
        within: Option<String>,
    },
    UnknownField {
        field: String,
        within: Option<String>,
        valid: &'static [&'static str],
    },
    UnknownVariant {
        variant: String,
        within: Option<String>,
        valid: &'static [&'static str],
    },
    Other(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |within: &Option<String>| within.as_ref().map_or_else(String::new, |name| format!(" in `{name}`"));
        match self {
            Self::Wrong { field, found, expected } => {
                if let Some(field) = field {
                    write!(f, "`{field}`: ")?;
                }
                write!(f, "expected {}, found {found}", plain(expected, found))
            }
            Self::Missing { field, within } => write!(f, "missing field `{field}`{}", place(within)),
            Self::UnknownField {
                field,
                within,
                valid: [],
            } => {
                write!(f, "unknown field `{field}`{}; it has no fields", place(within))
            }
            Self::UnknownField { field, within, valid } => {
                f.write_str(&unknown("field", field, &place(within), "fields", valid))
            }
            Self::UnknownVariant { variant, within, valid } => {
                let place = within.as_ref().map_or_else(String::new, |name| format!(" of `{name}`"));
                f.write_str(&unknown("variant", variant, &place, "one of", valid))
            }
            Self::Other(message) => f.write_str(message),
        }
    }
}

/// The name of a type in words. Whether zero is allowed is often not a matter of the type.
fn plain<'e>(expected: &'e str, found: &str) -> Cow<'e, str> {
    let is_negative = found.starts_with("the number -");
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" if is_negative => "a whole number that is not negative",
        "u8" => "a whole number up to 255",
        "u16" => "a whole number up to 65535",
        "u32" => "a whole number up to 4294967295",
        "u64" | "usize" => "a whole number, zero or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        other => match ["a tuple of size ", "an array of length "]
            .iter()
            .find_map(|kind| other.strip_prefix(kind))
        {
            Some(size) => return Cow::Owned(format!("{size} values `(...)`")),
            None => other,
        },
    };
    Cow::Borrowed(words)
}

/// What serde found, in the words of [`Node::describe`].
fn described(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value:?}"),
        Unexpected::Char(value) => format!("the character {value:?}"),
        Unexpected::Str(text) => format!("the string \"{}\"", shorten(text)),
        Unexpected::Unit => "`()`".to_owned(),
        // Numbers of 128 bits.
        Unexpected::Other(text) => match text.strip_prefix("integer `").and_then(|rest| rest.split('`').next()) {
            Some(number) => format!("the number {number}"),
            None => (*text).to_owned(),
        },
        other => other.to_string(),
    }
}

/// Whether a type is called by a name that says nothing to the user.
fn is_internal(type_name: &str) -> bool {
    ["Config", "Spec", "Demos"].iter().any(|end| type_name.ends_with(end))
}

/// So many values, in words.
fn values(count: usize) -> String {
    format!("{count} value{}", if count == 1 { "" } else { "s" })
}

/// Where to begin to mend a tree with a [`Fault`].
pub(super) enum Cause<'a> {
    /// A field that has no default is not there.
    Missing(&'static str),
    /// A field that the type does not have, and those that it has.
    UnknownField(&'a str, &'static [&'static str]),
    /// The value itself.
    Value,
}

impl Fault {
    /// What is wrong, for the one who mends it.
    pub(super) fn cause(&self) -> Cause<'_> {
        match &*self.problem {
            Problem::Missing { field, .. } => Cause::Missing(field),
            Problem::UnknownField { field, valid, .. } => Cause::UnknownField(field, valid),
            _ => Cause::Value,
        }
    }

    /// The place, as far as it is known.
    pub(super) fn span(&self) -> Option<&Span> {
        self.span.as_ref()
    }

    /// The fault as an error for the user.
    pub(super) fn error(&self) -> FileError {
        match &self.span {
            Some(span) => FileError::at(span, self.problem.to_string()),
            None => FileError::plain(self.problem.to_string()),
        }
    }

    fn new(problem: Problem) -> Self {
        Self {
            problem: Box::new(problem),
            span: None,
        }
    }

    fn wrong(node: &Node, expected: &str) -> Self {
        Self::new(Problem::Wrong {
            field: None,
            found: node.describe(),
            expected: expected.to_owned(),
        })
        .within(&node.span)
    }

    /// The place, unless a more exact one is known.
    fn within(mut self, span: &Span) -> Self {
        self.span.get_or_insert_with(|| span.clone());
        self
    }

    /// The struct or enum in which a name is unknown or missing.
    fn of(mut self, type_name: &str) -> Self {
        if let Problem::Missing { within, .. }
        | Problem::UnknownField { within, .. }
        | Problem::UnknownVariant { within, .. } = &mut *self.problem
        {
            within.get_or_insert_with(|| type_name.to_owned());
        }
        self
    }

    /// The field whose value is at fault.
    fn for_field(mut self, name: &str) -> Self {
        match &mut *self.problem {
            Problem::Wrong { field, .. } => {
                field.get_or_insert_with(|| name.to_owned());
            }
            Problem::Missing { within, .. }
            | Problem::UnknownField { within, .. }
            | Problem::UnknownVariant { within, .. } => {
                if let Some(within) = within.as_mut().filter(|within| is_internal(within)) {
                    name.clone_into(within);
                }
            }
            Problem::Other(_) => {}
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Problem::Wrong {
            field: None,
            found: described(&found),
            expected: expected.to_string(),
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        Self::new(Problem::Wrong {
            field: None,
            found: values(length),
            expected: expected.to_string(),
        })
    }

    fn unknown_field(field: &str, valid: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownField {
            field: field.to_owned(),
            within: None,
            valid,
        })
    }

    fn unknown_variant(variant: &str, valid: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownVariant {
            variant: variant.to_owned(),
            within: None,
            valid,
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Problem::Missing { field, within: None })
    }
}

/// Reads one node. `bare` hides the name, for what stands inside a newtype variant written `Name(a: 1)`.
struct De<'a> {
    node: &'a Node,
    bare: bool,
}

impl<'a> De<'a> {
    fn new(node: &'a Node) -> Self {
        Self { node, bare: false }
    }

    fn bare(node: &'a Node) -> Self {
        Self { node, bare: true }
    }

    fn name(&self) -> Option<&'a str> {
        match &self.node.value {
            _ if self.bare => None,
            Value::Struct { name, .. } | Value::Tuple { name, .. } => name.as_ref().map(|name| name.text.as_str()),
            Value::Name(name) => Some(name),
            _ => None,
        }
    }

    /// The written name, if there is one, must be the one of the type.
    fn check_name(&self, wanted: &'static str) -> Result<(), Fault> {
        match self.name() {
            Some(name) if name != wanted => Err(Fault::wrong(self.node, &format!("`{wanted}`"))),
            _ => Ok(()),
        }
    }

    fn wrong(&self, expected: &str) -> Fault {
        Fault::wrong(self.node, expected)
    }

    fn number<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.node.value {
            Value::Number(text) => match (integer(text), float(text)) {
                (Some(Integer::Signed(value)), _) => visit_signed(value, visitor),
                (Some(Integer::Unsigned(value)), _) => visitor.visit_u128(value),
                // `1e6` is a whole number too.
                (None, Some(value)) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => {
                    visit_signed(value as i128, visitor)
                }
                (None, Some(value)) => visitor.visit_f64(value),
                (None, None) => Err(self.wrong(&expectation(&visitor))),
            },
            _ => Err(self.wrong(&expectation(&visitor))),
        };
        result.map_err(|fault| fault.within(&self.node.span))
    }

    fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            // Words and numbers need no quotes on the command line.
            Value::Name(_) | Value::Number(_) | Value::Bool(_) if !self.bare && self.node.span.source.is_override() => {
                Some(self.node.span.text())
            }
            _ => None,
        }
    }

    fn wrong_text<'de, V: Visitor<'de>>(&self, visitor: &V) -> Fault {
        match &self.node.value {
            Value::Name(word) => self.wrong(&format!("{}; write \"{word}\" with quotes", expectation(visitor))),
            _ => self.wrong(&expectation(visitor)),
        }
    }

    fn items<'de, V: Visitor<'de>>(&self, items: &'a [Node], visitor: V) -> Result<V::Value, Fault> {
        let expected = expectation(&visitor);
        let mut access = Items { items: items.iter() };
        let value = visitor
            .visit_seq(&mut access)
            .map_err(|fault| fault.within(&self.node.span))?;
        match access.items.next() {
            None => Ok(value),
            Some(extra) => Err(Fault::new(Problem::Wrong {
                field: None,
                found: values(items.len()),
                expected,
            })
            .within(&extra.span)),
        }
    }

    /// The fields of a struct in any of its spellings.
    fn fields(&self) -> Option<&'a [(Ident, Node)]> {
        match &self.node.value {
            Value::Struct { fields, .. } => Some(fields),
            Value::Tuple { items, .. } if items.is_empty() => Some(&[]),
            Value::Name(_) => Some(&[]),
            _ => None,
        }
    }

    fn visit_fields<'de, V: Visitor<'de>>(
        &self,
        fields: &'a [(Ident, Node)],
        name: Option<&str>,
        valid: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // Checked here as well, so that types that forgot `deny_unknown_fields` are strict all the same.
        if let Some(valid) = valid
            && let Some((field, _)) = fields.iter().find(|(field, _)| !valid.contains(&field.text.as_str()))
        {
            let fault = Fault::unknown_field(&field.text, valid).within(&field.span);
            return Err(name.into_iter().fold(fault, Fault::of));
        }
        visitor
            .visit_map(FieldsAccess {
                fields: fields.iter(),
                value: None,
                name,
            })
            .map_err(|fault| {
                let fault = fault.within(&self.node.span);
                name.into_iter().fold(fault, Fault::of)
            })
    }
}

/// What a visitor wants, in its own words.
fn expectation<'de, V: Visitor<'de>>(visitor: &V) -> String {
    struct Wanted<'v, V>(&'v V);
    impl<'de, V: Visitor<'de>> fmt::Display for Wanted<'_, V> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.expecting(f)
        }
    }
    Wanted(visitor).to_string()
}

fn visit_signed<'de, V: Visitor<'de>>(value: i128, visitor: V) -> Result<V::Value, Fault> {
    if let Ok(value) = i64::try_from(value) {
        visitor.visit_i64(value)
    } else if let Ok(value) = u64::try_from(value) {
        visitor.visit_u64(value)
    } else {
        visitor.visit_i128(value)
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.number(visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for De<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let span = &self.node.span;
        match &self.node.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(text) if integer(text).is_some() => return self.number(visitor),
            Value::Number(text) => match float(text) {
                Some(value) => visitor.visit_f64(value),
                None => return self.number(visitor),
            },
            Value::Char(value) => visitor.visit_char(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::Name(_) if self.bare => visitor.visit_unit(),
            Value::Name(name) if name == "None" => visitor.visit_none(),
            Value::Name(name) => match float(name) {
                Some(value) => visitor.visit_f64(value),
                None => visitor.visit_str(name),
            },
            Value::Struct { fields, .. } => return self.visit_fields(fields, None, None, visitor),
            Value::Tuple {
                name: Some(name),
                items,
            } if name.text == "Some" && items.len() == 1 => {
                return self.deserialize_option(visitor);
            }
            Value::Tuple { items, .. } if items.is_empty() => visitor.visit_unit(),
            Value::Tuple { items, .. } | Value::List(items) => return self.items(items, visitor),
            Value::Map(_) => return self.deserialize_map(visitor),
            Value::Gap(_) => visitor.visit_unit(),
        }
        .map_err(|fault: Fault| fault.within(span))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Bool(value) => visitor
                .visit_bool(*value)
                .map_err(|fault: Fault| fault.within(&self.node.span)),
            _ => Err(self.wrong("`true` or `false`")),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // Parsed as f32 directly: by way of f64 it would be rounded twice.
        match &self.node.value {
            Value::Number(text) if integer(text).is_none() && float(text).is_some_and(f64::is_finite) => {
                match text.parse::<f32>() {
                    Ok(value) if value.is_finite() => visitor
                        .visit_f32(value)
                        .map_err(|fault: Fault| fault.within(&self.node.span)),
                    _ => Err(self.wrong("a 32-bit floating-point number")),
                }
            }
            _ => self.deserialize_f64(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = match &self.node.value {
            Value::Number(text) => match (integer(text), float(text)) {
                (Some(Integer::Signed(value)), _) => Some(value as f64),
                (Some(Integer::Unsigned(value)), _) => Some(value as f64),
                (None, value) => value,
            },
            Value::Name(name) => float(name),
            _ => None,
        };
        match value {
            Some(value) => visitor
                .visit_f64(value)
                .map_err(|fault: Fault| fault.within(&self.node.span)),
            None => Err(self.wrong("a number")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = match &self.node.value {
            Value::Char(value) => Some(*value),
            _ => self.text().and_then(|text| {
                let mut letters = text.chars();
                letters.next().filter(|_| letters.next().is_none())
            }),
        };
        match value {
            Some(value) => visitor
                .visit_char(value)
                .map_err(|fault: Fault| fault.within(&self.node.span)),
            None => Err(self.wrong("a character such as 'a'")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text() {
            Some(text) => visitor
                .visit_str(text)
                .map_err(|fault: Fault| fault.within(&self.node.span)),
            None => Err(self.wrong_text(&visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let span = &self.node.span;
        match &self.node.value {
            Value::Name(name) if name == "None" => visitor.visit_none(),
            Value::Tuple {
                name: Some(name),
                items,
            } if name.text == "Some" => match items.as_slice() {
                [inner] if inner.is_gap() => visitor.visit_some(Filler::new()),
                [inner] => visitor.visit_some(De::new(inner)),
                _ => Err(self.wrong("`Some(value)` with one value")),
            },
            _ => visitor.visit_some(self),
        }
        .map_err(|fault| fault.within(span))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Tuple { items, .. } if items.is_empty() && self.name().is_none() => visitor.visit_unit(),
            Value::Name(_) if self.bare => visitor.visit_unit(),
            _ => Err(self.wrong("`()`")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        self.check_name(name)?;
        match self.fields() {
            Some([]) => visitor.visit_unit(),
            _ => Err(self.wrong(&format!("`{name}`"))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        let span = &self.node.span;
        let inner = match &self.node.value {
            Value::Tuple { items, .. } if self.name().is_none_or(|written| written == name) => match items.as_slice() {
                [inner] if inner.is_gap() => return visitor.visit_newtype_struct(Filler::new()),
                [inner] => De::new(inner),
                _ if self.name().is_some() => De::bare(self.node),
                _ => self,
            },
            Value::Struct { .. } if self.name() == Some(name) => De::bare(self.node),
            _ => self,
        };
        visitor.visit_newtype_struct(inner).map_err(|fault| fault.within(span))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::List(items) => self.items(items, visitor),
            // On the command line one number or word stands for a list of one.
            Value::Number(_) | Value::Name(_) | Value::Text(_) if self.node.span.source.is_override() => {
                self.items(std::slice::from_ref(self.node), visitor)
            }
            Value::Number(number) => Err(self.wrong(&format!("a list, as in `[{}]`", shorten(number)))),
            _ => Err(self.wrong("a list `[...]`")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        let items = match &self.node.value {
            Value::List(items) => items,
            Value::Tuple { items, .. } if self.name().is_none() => items,
            _ => return Err(self.wrong(&format!("{length} values `(...)`"))),
        };
        // Before they are read: which of them is missing is not known, so nothing can be said of the others.
        if items.len() < length {
            let fault = Problem::Wrong {
                field: None,
                found: values(items.len()),
                expected: format!("{length} values `(...)`"),
            };
            return Err(Fault::new(fault).within(&self.node.span));
        }
        self.items(items, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.check_name(name)?;
        match &self.node.value {
            Value::Tuple { items, .. } => self.items(items, visitor),
            _ => Err(self.wrong(&format!("{length} values `{name}(...)`"))),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Map(entries) => visitor
                .visit_map(Entries {
                    entries: entries.iter(),
                    value: None,
                })
                .map_err(|fault| fault.within(&self.node.span)),
            // Types with flattened parts ask for a map although they are written as structs.
            Value::Struct { fields, .. } if self.name().is_none() => self.visit_fields(fields, None, None, visitor),
            _ => Err(self.wrong("a map `{...}`")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        valid: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.check_name(name)?;
        match self.fields() {
            Some(fields) => self.visit_fields(fields, Some(name), Some(valid), visitor),
            None => {
                // Some structs may be written as a name alone.
                if let Value::Text(text) = &self.node.value
                    && let Ok(whole) = visitor.visit_str::<Fault>(text)
                {
                    return Ok(whole);
                }
                let first = valid.first().copied().unwrap_or("field");
                let written = match valid.len() {
                    0 | 1 => format!("`({first}: ...)`"),
                    _ => format!("`({first}: ..., ...)`"),
                };
                Err(match is_internal(name) {
                    true => self.wrong(&format!("fields, written {written}")),
                    false => self.wrong(&format!("`{name}`, written {written}")),
                })
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        valid: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let (variant, span) = match &self.node.value {
            Value::Struct {
                name: Some(variant), ..
            }
            | Value::Tuple {
                name: Some(variant), ..
            } if !self.bare => (variant.text.as_str(), &variant.span),
            Value::Name(variant) if !self.bare => (variant.as_str(), &self.node.span),
            _ => {
                let hint = if matches!(self.node.value, Value::Text(_)) {
                    ", without quotes"
                } else {
                    ""
                };
                return Err(self.wrong(&format!("a variant of `{name}` (one of: {}){hint}", valid.join(", "))));
            }
        };
        visitor
            .visit_enum(Variant {
                node: self.node,
                variant,
                span,
                name,
            })
            .map_err(|fault| fault.of(name).within(&self.node.span))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Name(text) | Value::Text(text) => visitor
                .visit_str(text)
                .map_err(|fault: Fault| fault.within(&self.node.span)),
            _ => Err(self.wrong("a name")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        read_part(seed, item)
            .map(Some)
            .map_err(|fault| fault.within(&item.span))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct FieldsAccess<'a> {
    fields: std::slice::Iter<'a, (Ident, Node)>,
    value: Option<&'a (Ident, Node)>,
    name: Option<&'a str>,
}

impl<'de> MapAccess<'de> for FieldsAccess<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.value = self.fields.find(|(_, node)| !node.is_left_out());
        let Some((field, _)) = self.value else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Fault> = field.text.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|fault| {
            let fault = fault.within(&field.span);
            self.name.into_iter().fold(fault, Fault::of)
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((field, value)) = self.value.take() else {
            return Err(Fault::custom("a value was asked for before its key"));
        };
        read_part(seed, value).map_err(|fault| fault.for_field(&field.text).within(&value.span))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.fields.len())
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Node, Node)>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        read_part(seed, key).map(Some).map_err(|fault| fault.within(&key.span))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(value) = self.value.take() else {
            return Err(Fault::custom("a value was asked for before its key"));
        };
        read_part(seed, value).map_err(|fault| fault.within(&value.span))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

struct Variant<'a> {
    node: &'a Node,
    variant: &'a str,
    span: &'a Span,
    /// The enum.
    name: &'static str,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let key: StrDeserializer<'_, Fault> = self.variant.into_deserializer();
        let value = seed
            .deserialize(key)
            .map_err(|fault| fault.of(self.name).within(self.span))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match De::bare(self.node).fields() {
            Some([]) => Ok(()),
            _ => Err(Fault::wrong(
                self.node,
                &format!("`{}` alone: it holds nothing", self.variant),
            )),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        let inner = match &self.node.value {
            Value::Tuple { items, .. } => match items.as_slice() {
                [inner] if inner.is_gap() => return seed.deserialize(Filler::new()),
                [inner] => De::new(inner),
                _ => De::bare(self.node),
            },
            _ => De::bare(self.node),
        };
        let span = &inner.node.span;
        seed.deserialize(inner).map_err(|fault| fault.within(span))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Tuple { items, .. } => De::bare(self.node).items(items, visitor),
            _ => Err(Fault::wrong(
                self.node,
                &format!("`{}(...)` with {length} values", self.variant),
            )),
        }
    }

    fn struct_variant<V: Visitor<'de>>(self, valid: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        let bare = De::bare(self.node);
        match bare.fields() {
            Some(fields) => bare.visit_fields(fields, Some(self.variant), Some(valid), visitor),
            None => {
                let first = valid.first().copied().unwrap_or("field");
                let more = if valid.len() > 1 { ", ..." } else { "" };
                Err(Fault::wrong(
                    self.node,
                    &format!("`{}({first}: ...{more})`", self.variant),
                ))
            }
        }
    }
}
