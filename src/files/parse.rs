//! From RON text to the syntax tree.
//!
//! The language is the one of the `ron` crate (<https://github.com/ron-rs/ron/blob/master/docs/grammar.md>) without
//! byte strings and number suffixes, with the extensions `implicit_some`, `unwrap_newtypes` and
//! `unwrap_variant_newtypes` always on. Nesting is bounded and time is linear, so no text exhausts the stack or hangs.

use std::collections::HashSet;
use std::sync::Arc;

use super::check::Faults;
use super::source::{FileError, Location, Source, Span};
use super::tree::{Gap, Ident, Node, Value};

/// Largest file that users may write, in bytes.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting of parentheses, brackets and braces (and of nested comments).
const MAX_DEPTH: usize = 100;

/// Reads one whole text.
pub(super) fn parse(source: &Arc<Source>) -> Result<Node, FileError> {
    parse_with(source, &mut Faults::first())
}

/// Reads one whole text, with gaps in the places of faults if those are gathered.
pub(super) fn parse_with(source: &Arc<Source>, faults: &mut Faults) -> Result<Node, FileError> {
    read(source, 0, faults)
}

/// Reads the text from byte `start` to its end.
pub(super) fn parse_from(source: &Arc<Source>, start: usize) -> Result<Node, FileError> {
    read(source, start, &mut Faults::first())
}

fn read(source: &Arc<Source>, start: usize, faults: &mut Faults) -> Result<Node, FileError> {
    let mut parser = Parser {
        source,
        text: source.text(),
        at: start,
        depth: 0,
        faults,
        ended: false,
    };
    parser.eat("\u{feff}");
    parser.extensions()?;
    let node = parser.value()?;
    parser.space()?;
    if parser.peek().is_some() {
        let error = parser.unexpected("the end of the text");
        parser.faults.note(error)?;
    }
    Ok(node)
}

struct Parser<'a> {
    source: &'a Arc<Source>,
    text: &'a str,
    at: usize,
    depth: usize,
    faults: &'a mut Faults,
    /// Something was opened and never closed, so there is nothing after it.
    ended: bool,
}

fn is_ident_start(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn is_ident_rest(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Takes characters as long as `wanted` holds.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn span(&self, start: usize) -> Span {
        Span::new(self.source, start, self.at)
    }

    fn error(&self, start: usize, message: impl Into<String>) -> FileError {
        FileError::at(&self.span(start), message)
    }

    fn unexpected(&self, wanted: &str) -> FileError {
        let found = match self.peek() {
            Some(c) => format!("`{}`", c.escape_debug()),
            None => "the end of the text".to_owned(),
        };
        self.error(self.at, format!("expected {wanted}, found {found}"))
    }

    /// Something else than the next item or the end of what opened at `open`.
    fn unexpected_in(&self, open: usize, close: &str) -> FileError {
        let wanted = format!("`,` or `{close}`");
        match (self.peek(), Location::of(&Span::new(self.source, open, open + 1))) {
            (Some(found @ (')' | ']' | '}')), Some(place)) => {
                let bracket = self.text.get(open..open + 1).unwrap_or_default();
                let line = place.line;
                self.error(
                    self.at,
                    format!("expected {wanted}, found `{found}`; what it ends begins with `{bracket}` in line {line}"),
                )
            }
            _ => self.unexpected(&wanted),
        }
    }

    /// What opens at `open` has no end, or what opens before it has: then the indentation may tell.
    fn never_closed(&self, open: usize, close: &str) -> FileError {
        let place = |at: usize| Location::of(&Span::new(self.source, at, at + 1));
        let Some((inner, end)) = closed_by_another(self.text) else {
            return self.error(open, format!("this is never closed: `{close}` is missing"));
        };
        let bracket = |at: usize| self.text.get(at..at + 1).unwrap_or_default();
        let missing = match bracket(inner) {
            "(" => ")",
            "[" => "]",
            _ => "}",
        };
        let line = place(end).map_or(0, |place| place.line);
        let message = format!(
            "`{missing}` is missing: what opens here is closed by the `{}` in line {line}, which is indented less",
            bracket(end)
        );
        FileError::at(&Span::new(self.source, inner, inner + 1), message)
    }

    fn node(&self, start: usize, value: Value) -> Node {
        Node {
            span: self.span(start),
            value,
        }
    }

    /// Skips white space and comments.
    fn space(&mut self) -> Result<(), FileError> {
        loop {
            self.take_while(char::is_whitespace);
            let start = self.at;
            if self.eat("//") {
                self.take_while(|c| c != '\n');
            } else if self.eat("/*") {
                let mut depth = 1_usize;
                while depth > 0 {
                    self.take_while(|c| c != '*' && c != '/');
                    if self.eat("*/") {
                        depth -= 1;
                    } else if self.eat("/*") {
                        depth += 1;
                    } else if let Some(c) = self.peek() {
                        self.at += c.len_utf8();
                    } else {
                        self.at = start + 2;
                        self.ended = true;
                        return Err(self.error(start, "this comment never ends: `*/` is missing"));
                    }
                }
            } else {
                return Ok(());
            }
        }
    }

    /// `#![enable(implicit_some)]`: accepted, since all extensions are on.
    fn extensions(&mut self) -> Result<(), FileError> {
        loop {
            self.space()?;
            if !self.eat("#") {
                return Ok(());
            }
            for token in ["!", "[", "enable", "("] {
                self.space()?;
                if !self.eat(token) {
                    return Err(self.unexpected("`#![enable(...)]`"));
                }
            }
            loop {
                self.space()?;
                let start = self.at;
                let name = self.take_while(is_ident_rest);
                if !["implicit_some", "unwrap_newtypes", "unwrap_variant_newtypes"].contains(&name) {
                    return Err(self.error(start, format!("unknown RON extension `{name}`")));
                }
                self.space()?;
                self.eat(",");
                self.space()?;
                if self.eat(")") {
                    break;
                }
            }
            self.space()?;
            if !self.eat("]") {
                return Err(self.unexpected("`]`"));
            }
        }
    }

    fn value(&mut self) -> Result<Node, FileError> {
        self.space()?;
        let start = self.at;
        let Some(first) = self.peek() else {
            return Err(self.unexpected("a value"));
        };
        match first {
            '(' => self.parentheses(start, None),
            '[' => self.list(start),
            '{' => self.map(start),
            '"' => self.string(start).map(|text| self.node(start, Value::Text(text))),
            '\'' => self.character(start),
            'r' if self.rest().starts_with("r\"") || self.rest().starts_with("r#") => match self.raw(start)? {
                Raw::Text(text) => Ok(self.node(start, Value::Text(text))),
                Raw::Name(name) => self.named(start, name),
            },
            '0'..='9' | '+' | '-' | '.' => self.number(start),
            c if is_ident_start(c) => {
                let name = self.take_while(is_ident_rest).to_owned();
                self.named(start, name)
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    /// What follows a word: nothing, or parentheses.
    fn named(&mut self, start: usize, name: String) -> Result<Node, FileError> {
        match name.as_str() {
            "true" => return Ok(self.node(start, Value::Bool(true))),
            "false" => return Ok(self.node(start, Value::Bool(false))),
            "b" if self.peek() == Some('"') => return Err(self.error(start, "byte strings are not supported")),
            _ => {}
        }
        let end = self.at;
        self.space()?;
        if self.peek() == Some('(') {
            let span = Span::new(self.source, start, end);
            return self.parentheses(start, Some(Ident { span, text: name }));
        }
        self.at = end;
        Ok(self.node(start, Value::Name(name)))
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, FileError>) -> Result<T, FileError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(self.at, format!("nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Reads items up to `close`, separated by commas; the last comma may be left out.
    fn items(
        &mut self,
        open: usize,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        self.deeper(|parser| {
            loop {
                parser.space()?;
                if parser.eat(close) {
                    return Ok(());
                }
                if parser.peek().is_none() {
                    parser.at = open + 1;
                    parser.ended = true;
                    return Err(parser.never_closed(open, close));
                }
                let start = parser.at;
                if let Err(error) = item(parser) {
                    parser.go_on(start, error)?;
                }
                parser.space()?;
                if !parser.eat(",") && !parser.rest().starts_with(close) && parser.peek().is_some() {
                    let error = parser.unexpected_in(open, close);
                    parser.go_on(start, error)?;
                    // A wrong bracket was probably meant for the right one.
                    if !parser.rest().starts_with(close) && [")", "]", "}"].iter().any(|other| parser.eat(other)) {
                        let open = Span::new(parser.source, open, open + 1);
                        parser.faults.note_mismatch(open);
                        return Ok(());
                    }
                    parser.eat(",");
                }
            }
        })
    }

    /// Notes a fault in an item that began at `start`, and goes to the end of that item.
    fn go_on(&mut self, start: usize, error: FileError) -> Result<(), FileError> {
        if self.ended || !self.faults.gathers() {
            return Err(error);
        }
        self.faults.note(error)?;
        self.at = self.at.max(start);
        while self.peek().is_some_and(|next| !matches!(next, ',' | ')' | ']' | '}')) {
            self.skip();
        }
        Ok(())
    }

    /// Goes past one character, or past a string, a comment or all that brackets hold.
    fn skip(&mut self) {
        let start = self.at;
        let Some(next) = self.peek() else { return };
        match next {
            '"' if self.string(start).is_ok() => return,
            '/' if self.space().is_ok() && self.at > start => return,
            '(' | '[' | '{' => return self.skip_brackets(),
            _ => {}
        }
        self.at = start + next.len_utf8();
    }

    /// Goes past brackets that open here, with all they hold.
    fn skip_brackets(&mut self) {
        let mut depth = 0_usize;
        while let Some(next) = self.peek() {
            let start = self.at;
            match next {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                '"' if self.string(start).is_ok() => continue,
                '/' if self.space().is_ok() && self.at > start => continue,
                _ => {}
            }
            self.at = start + next.len_utf8();
            if depth == 0 {
                return;
            }
        }
    }

    /// What stands in the place of a faulty value that began at `start`.
    fn gap(&self, start: usize, gap: Gap) -> Node {
        Node {
            span: Span::new(self.source, start, self.at.max(start)),
            value: Value::Gap(gap),
        }
    }

    /// One value of a list or tuple.
    fn item(&mut self, items: &mut Vec<Node>) -> Result<(), FileError> {
        let start = self.at;
        match self.value() {
            Ok(value) => {
                items.push(value);
                Ok(())
            }
            Err(error) => {
                items.push(self.gap(start, Gap::Filled));
                Err(error)
            }
        }
    }

    /// A struct `(a: 1)` or a tuple `(1, 2)`.
    fn parentheses(&mut self, start: usize, name: Option<Ident>) -> Result<Node, FileError> {
        let open = self.at;
        self.eat("(");
        if self.field_name()?.is_none() {
            let mut items = Vec::new();
            self.items(open, ")", |parser| parser.item(&mut items))?;
            return Ok(self.node(start, Value::Tuple { name, items }));
        }
        let mut fields = Vec::new();
        let mut seen = HashSet::new();
        self.items(open, ")", |parser| {
            let at = parser.at;
            let Some((field, after)) = parser.field_name()? else {
                return Err(parser.unexpected("a field `name: value`"));
            };
            parser.at = after;
            let end = at + field.len();
            let value = match parser.value() {
                Ok(value) => value,
                Err(error) => {
                    // The name is known, so nothing is missing.
                    let span = Span::new(parser.source, at, end);
                    if seen.insert(field.clone()) {
                        fields.push((Ident { span, text: field }, parser.gap(after, Gap::Left)));
                    }
                    return Err(error);
                }
            };
            if !seen.insert(field.clone()) {
                return Err(FileError::at(
                    &Span::new(parser.source, at, end),
                    format!("the field `{field}` is given twice"),
                ));
            }
            fields.push((
                Ident {
                    span: Span::new(parser.source, at, end),
                    text: field,
                },
                value,
            ));
            Ok(())
        })?;
        Ok(self.node(start, Value::Struct { name, fields }))
    }

    /// Looks whether `name:` comes next, without moving; gives the name and the place after the colon.
    fn field_name(&mut self) -> Result<Option<(String, usize)>, FileError> {
        let start = self.at;
        self.space()?;
        let mut name = None;
        if self.rest().starts_with("r#") && self.rest().chars().nth(2).is_some_and(is_ident_rest) {
            self.at += 2;
            name = Some(self.take_while(is_raw_name).to_owned());
        } else if self.peek().is_some_and(is_ident_start) {
            name = Some(self.take_while(is_ident_rest).to_owned());
        }
        let mut found = None;
        if let Some(name) = name {
            self.space()?;
            if self.eat(":") {
                found = Some((name, self.at));
            }
        }
        self.at = start;
        Ok(found)
    }

    fn list(&mut self, start: usize) -> Result<Node, FileError> {
        self.eat("[");
        let mut items = Vec::new();
        self.items(start, "]", |parser| parser.item(&mut items))?;
        Ok(self.node(start, Value::List(items)))
    }

    fn map(&mut self, start: usize) -> Result<Node, FileError> {
        self.eat("{");
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        self.items(start, "}", |parser| {
            let key = parser.value()?;
            let Some(text) = key.key() else {
                return Err(FileError::at(
                    &key.span,
                    format!("{} cannot be the key of a map", key.describe()),
                ));
            };
            if !seen.insert(text) {
                return Err(FileError::at(&key.span, "this key is given twice"));
            }
            parser.space()?;
            if !parser.eat(":") {
                return Err(parser.unexpected("`:` after the key"));
            }
            entries.push((key, parser.value()?));
            Ok(())
        })?;
        Ok(self.node(start, Value::Map(entries)))
    }

    fn string(&mut self, start: usize) -> Result<String, FileError> {
        self.eat("\"");
        let mut text = String::new();
        loop {
            text.push_str(self.take_while(|c| c != '"' && c != '\\'));
            if self.eat("\"") {
                return Ok(text);
            }
            if self.peek().is_none() {
                self.at = start + 1;
                self.ended = true;
                return Err(self.error(start, "this string never ends: `\"` is missing"));
            }
            if let Some(c) = self.escape()? {
                text.push(c);
            }
        }
    }

    /// One escape sequence; a backslash before a line end joins the lines and stands for nothing.
    fn escape(&mut self) -> Result<Option<char>, FileError> {
        let start = self.at;
        self.eat("\\");
        let Some(kind) = self.peek() else {
            return Err(self.unexpected("a character after `\\`"));
        };
        self.at += kind.len_utf8();
        let code = match kind {
            'n' => return Ok(Some('\n')),
            't' => return Ok(Some('\t')),
            'r' => return Ok(Some('\r')),
            '0' => return Ok(Some('\0')),
            '\\' | '"' | '\'' => return Ok(Some(kind)),
            '\n' => {
                self.take_while(char::is_whitespace);
                return Ok(None);
            }
            'x' => {
                let digits = self.rest().get(..2).unwrap_or_default();
                self.at += digits.len();
                u32::from_str_radix(digits, 16).ok()
            }
            'u' if self.eat("{") => {
                let digits = self.take_while(|c| c.is_ascii_hexdigit());
                if self.eat("}") {
                    u32::from_str_radix(digits, 16).ok()
                } else {
                    None
                }
            }
            _ => None,
        };
        match code.and_then(char::from_u32) {
            Some(c) => Ok(Some(c)),
            None => Err(self.error(
                start,
                "unknown escape; use \\n \\t \\r \\0 \\\\ \\\" \\' \\x41 or \\u{1F600}",
            )),
        }
    }

    fn character(&mut self, start: usize) -> Result<Node, FileError> {
        self.eat("'");
        let value = match self.peek() {
            Some('\\') => self.escape()?,
            Some(c) if c != '\'' && c != '\n' => {
                self.at += c.len_utf8();
                Some(c)
            }
            _ => None,
        };
        match value {
            Some(c) if self.eat("'") => Ok(self.node(start, Value::Char(c))),
            _ => Err(self.error(
                start,
                "a character is one letter between `'`; strings stand between `\"`",
            )),
        }
    }

    /// `r"..."`, `r#"..."#` or a raw identifier `r#name`.
    fn raw(&mut self, start: usize) -> Result<Raw, FileError> {
        self.eat("r");
        let hashes = self.take_while(|c| c == '#');
        if !self.eat("\"") {
            let name = self.take_while(is_raw_name);
            if hashes.len() != 1 || name.is_empty() {
                return Err(self.error(start, "expected a raw string `r#\"...\"#` or a raw name `r#name`"));
            }
            return Ok(Raw::Name(name.to_owned()));
        }
        let close = format!("\"{hashes}");
        match self.rest().find(&close) {
            Some(length) => {
                let text = self.rest().get(..length).unwrap_or_default().to_owned();
                self.at += length + close.len();
                Ok(Raw::Text(text))
            }
            None => {
                self.ended = true;
                Err(self.error(start, format!("this raw string never ends: `{close}` is missing")))
            }
        }
    }

    fn number(&mut self, start: usize) -> Result<Node, FileError> {
        // A sign belongs to the exponent or to the front, so `1e-3` is one word and `1-2` is a wrong one.
        self.take_while(|c| is_ident_rest(c) || matches!(c, '.' | '+' | '-'));
        let text: String = self.span(start).text().chars().filter(|&c| c != '_').collect();
        if integer(&text).is_some() || float(&text).is_some() {
            return Ok(self.node(start, Value::Number(text)));
        }
        let hint = range_hint(&text);
        Err(self.error(start, format!("`{}` is no number{hint}", super::tree::shorten(&text))))
    }
}

/// What to write in a file in place of a range such as `0..3`; nothing for other words.
fn range_hint(text: &str) -> String {
    /// More numbers are not written out.
    const SHOWN: i64 = 8;
    let Some((first, last)) = text.split_once("..") else {
        return String::new();
    };
    let list = match (first.parse::<i64>(), last.parse::<i64>()) {
        (Ok(first), Ok(last)) if first < last && last.saturating_sub(first) <= SHOWN => (first..last)
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
            .join(", "),
        _ => "0, 1".to_owned(),
    };
    format!("; ranges are for overrides, in a file write a list: [{list}]")
}

/// The first bracket whose end begins a line that is indented less than the line in which it opens, and that end.
fn closed_by_another(text: &str) -> Option<(usize, usize)> {
    let mut open: Vec<(usize, usize, usize)> = Vec::new();
    let (mut line, mut indent, mut blank) = (0, 0, true);
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\n' => (line, indent, blank) = (line + 1, 0, true),
            ' ' | '\t' if blank => indent += 1,
            '"' => {
                blank = false;
                while let Some((_, letter)) = letters.next() {
                    match letter {
                        '\\' => {
                            letters.next();
                        }
                        '"' => break,
                        '\n' => line += 1,
                        _ => {}
                    }
                }
            }
            '/' if letters.peek().is_some_and(|(_, next)| *next == '/') => {
                blank = false;
                while letters.peek().is_some_and(|(_, next)| *next != '\n') {
                    letters.next();
                }
            }
            '(' | '[' | '{' => {
                blank = false;
                open.push((at, line, indent));
            }
            ')' | ']' | '}' => {
                if let Some((start, first, outer)) = open.pop()
                    && blank
                    && first != line
                    && indent < outer
                {
                    return Some((start, at));
                }
                blank = false;
            }
            letter if letter.is_whitespace() => {}
            _ => blank = false,
        }
    }
    None
}

enum Raw {
    Text(String),
    Name(String),
}

fn is_raw_name(c: char) -> bool {
    is_ident_rest(c) || matches!(c, '.' | '+' | '-')
}

/// The value of an integer literal: decimal, `0x`, `0o` or `0b`, with a sign.
pub(super) fn integer(text: &str) -> Option<Integer> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let magnitude = u128::from_str_radix(digits, radix).ok()?;
    match (negative, i128::try_from(magnitude)) {
        (true, Ok(value)) => Some(Integer::Signed(-value)),
        (true, Err(_)) => None,
        (false, Ok(value)) => Some(Integer::Signed(value)),
        (false, Err(_)) => Some(Integer::Unsigned(magnitude)),
    }
}

/// An integer literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integer {
    /// What fits in `i128`.
    Signed(i128),
    /// What fits in `u128` only.
    Unsigned(u128),
}

/// The value of a floating-point literal; `inf` and `NaN` may have a sign.
pub(super) fn float(text: &str) -> Option<f64> {
    let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
    match plain {
        "inf" | "NaN" => text.parse().ok(),
        _ if plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            text.parse().ok().filter(|value: &f64| value.is_finite())
        }
        _ => None,
    }
}
