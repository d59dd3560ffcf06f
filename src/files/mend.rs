//! A typed value from a tree with faults: each one is noted, and what is faulty is read as if it were not there.
//!
//! `serde` stops at the first fault, and a seed cannot be used twice. So the tree is mended and read again, until
//! nothing is wrong with it: a field that has a default is left out, anything else is filled with an empty value.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::check::MOST_FAULTS;
use super::de::{Cause, Fault, try_node};
use super::source::{FileError, Span, nearest};
use super::tree::{Gap, Ident, Node, Value};

/// The value of a tree and all that is wrong with it; the tree has gaps in the places of faults afterwards. There is no
/// value if it cannot be mended. `incomplete` says that fields may be missing for other reasons, known already;
/// `mismatched` are brackets that were closed by others, so that they are of the wrong kind is known as well.
pub(super) fn mended<T: DeserializeOwned>(
    tree: &mut Node,
    incomplete: bool,
    mismatched: &[Span],
) -> (Option<T>, Vec<FileError>) {
    let mut mender = Mender {
        tree,
        incomplete,
        mismatched,
        unknown: Vec::new(),
        found: Vec::new(),
    };
    loop {
        let fault = match try_node(mender.tree) {
            Ok(value) => return (Some(value), mender.found),
            Err(fault) => fault,
        };
        if mender.found.len() >= MOST_FAULTS || !mender.mend(&fault) {
            return (None, mender.found);
        }
    }
}

struct Mender<'t> {
    tree: &'t mut Node,
    incomplete: bool,
    mismatched: &'t [Span],
    /// Unknown fields that were taken out, with the structs they stood in.
    unknown: Vec<(Span, String)>,
    found: Vec<FileError>,
}

impl Mender<'_> {
    /// Notes the fault and changes the tree so that it does not come again; false if that is impossible.
    fn mend(&mut self, fault: &Fault) -> bool {
        let Some(span) = fault.span() else {
            self.found.push(fault.error());
            return false;
        };
        let place = find(self.tree, span);
        let mended = match fault.cause() {
            Cause::Missing(field) => self.fill_field(&place, span, field, fault),
            Cause::UnknownField(field, valid) => self.take_out(span, field, valid, fault),
            Cause::Value => false,
        };
        mended || self.leave_gap(place, fault)
    }

    /// Gives a struct the field that it lacks.
    fn fill_field(&mut self, place: &[usize], span: &Span, name: &str, fault: &Fault) -> bool {
        // A slip in its name has been noted already, and so has a fault in its value.
        let misspelt =
            (self.unknown.iter()).any(|(within, found)| same(within, span) && nearest(found, [name]).is_some());
        let Some((_, fields)) = at(self.tree, place).and_then(Node::fields_mut) else {
            return false;
        };
        match fields.iter_mut().find(|(field, _)| field.text == name) {
            Some((_, node)) if node.is_left_out() => node.value = Value::Gap(Gap::Filled),
            Some(_) => return false,
            None => {
                // Without an extent, so that faults of the struct are not taken for faults of the field.
                let span = Span::new(&span.source, span.start, span.start);
                let (text, value) = (name.to_owned(), Value::Gap(Gap::Filled));
                fields.push((
                    Ident {
                        span: span.clone(),
                        text,
                    },
                    Node { span, value },
                ));
                if !misspelt && !self.incomplete {
                    self.found.push(fault.error());
                }
            }
        }
        true
    }

    /// Takes out a field that its struct does not have. The one that was probably meant counts as faulty from then on.
    fn take_out(&mut self, span: &Span, name: &str, valid: &[&str], fault: &Fault) -> bool {
        let meant = nearest(name, valid.iter().copied());
        let Some(within) = take_field(self.tree, span, meant) else {
            return false;
        };
        self.unknown.push((within, name.to_owned()));
        self.found.push(fault.error());
        true
    }

    /// Whether the brackets of a value were closed by others; `span` is that of the value.
    fn is_mismatched(&self, span: &Span) -> bool {
        self.mismatched.iter().any(|open| {
            let same = Arc::ptr_eq(&open.source, &span.source) && (span.start..span.end).contains(&open.start);
            // Before its own bracket a value has nothing but its name.
            let before = span
                .text()
                .get(..open.start.saturating_sub(span.start))
                .unwrap_or_default();
            same && before
                .chars()
                .all(|c| c.is_alphanumeric() || c == '_' || c.is_whitespace())
        })
    }

    /// Leaves a gap in the place of a faulty value; if there is one already, in the place of what holds it.
    fn leave_gap(&mut self, mut place: Vec<usize>, fault: &Fault) -> bool {
        let known = at(self.tree, &place).is_some_and(|node| node.is_gap());
        if !known && !fault.span().is_some_and(|span| self.is_mismatched(span)) {
            self.found.push(fault.error());
        }
        while at(self.tree, &place).is_some_and(|node| node.is_gap()) {
            if place.pop().is_none() {
                return false;
            }
        }
        let is_field = place.split_last().is_some_and(|(_, holder)| {
            at(self.tree, holder).is_some_and(|holder| matches!(holder.value, Value::Struct { .. }))
        });
        let Some(node) = at(self.tree, &place) else {
            return false;
        };
        node.value = Value::Gap(if is_field { Gap::Left } else { Gap::Filled });
        true
    }
}

fn same(one: &Span, other: &Span) -> bool {
    Arc::ptr_eq(&one.source, &other.source) && (one.start, one.end) == (other.start, other.end)
}

/// The parts of a value, in their order.
fn parts(node: &mut Node) -> Vec<&mut Node> {
    match &mut node.value {
        Value::Struct { fields, .. } => fields.iter_mut().map(|(_, value)| value).collect(),
        Value::Tuple { items, .. } | Value::List(items) => items.iter_mut().collect(),
        Value::Map(entries) => entries.iter_mut().flat_map(|(key, value)| [key, value]).collect(),
        _ => Vec::new(),
    }
}

/// The node at the end of a way of such numbers.
fn at<'n>(node: &'n mut Node, place: &[usize]) -> Option<&'n mut Node> {
    match place.split_first() {
        None => Some(node),
        Some((&first, rest)) => at(parts(node).into_iter().nth(first)?, rest),
    }
}

/// The way to the smallest value that holds a span, as numbers of parts; to the whole tree if none does. Files that
/// are laid over each other leave parts of one text in values of another, so every value is looked at.
fn find(tree: &mut Node, span: &Span) -> Vec<usize> {
    fn look(node: &mut Node, span: &Span, way: &mut Vec<usize>, best: &mut (usize, Vec<usize>)) {
        let own = &node.span;
        let holds = Arc::ptr_eq(&own.source, &span.source) && own.start <= span.start && span.end <= own.end;
        // Of two with the same span, the inner one.
        if holds && own.end - own.start <= best.0 {
            *best = (own.end - own.start, way.clone());
        }
        for (number, part) in parts(node).into_iter().enumerate() {
            way.push(number);
            look(part, span, way, best);
            way.pop();
        }
    }
    let mut best = (usize::MAX, Vec::new());
    look(tree, span, &mut Vec::new(), &mut best);
    best.1
}

/// Removes the field whose name has this span, and leaves a gap in the place of the one that was `meant` unless that is
/// there; gives the span of the struct it stood in.
fn take_field(node: &mut Node, span: &Span, meant: Option<&str>) -> Option<Span> {
    if let Some(at) = fields_of(node).and_then(|fields| fields.iter().position(|(field, _)| same(&field.span, span))) {
        let within = node.span.clone();
        let fields = fields_of(node)?;
        fields.remove(at);
        if let Some(meant) = meant
            && !fields.iter().any(|(field, _)| field.text == meant)
        {
            let span = Span::new(&within.source, within.start, within.start);
            let field = Ident {
                span: span.clone(),
                text: meant.to_owned(),
            };
            let value = Value::Gap(Gap::Left);
            fields.push((field, Node { span, value }));
        }
        return Some(within);
    }
    parts(node).into_iter().find_map(|part| take_field(part, span, meant))
}

fn fields_of(node: &mut Node) -> Option<&mut super::tree::Fields> {
    match &mut node.value {
        Value::Struct { fields, .. } => Some(fields),
        _ => None,
    }
}
