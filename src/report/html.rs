//! Pieces of a page. Text becomes part of it only through [`text`], so that no label can break it.

use std::fmt::Write as _;

/// A piece of a page that is safe to put in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    /// What the page says.
    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: &Self) {
        self.0.push_str(&piece.0);
    }
}

/// Plain text, for content and for values of attributes in quotes.
pub(super) fn text(plain: &str) -> Html {
    let mut safe = String::with_capacity(plain.len());
    for letter in plain.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // HTML has no signs for these, whatever they were to do in a terminal.
            letter if letter.is_control() && !matches!(letter, '\n' | '\t') => safe.push('\u{FFFD}'),
            letter => safe.push(letter),
        }
    }
    Html(safe)
}

/// Fixed HTML of this program.
pub(super) fn fixed(html: &'static str) -> Html {
    Html(html.to_owned())
}

/// `<name attributes>content</name>`. Values of attributes are made safe; their names are fixed.
pub(super) fn tag(name: &'static str, attributes: &[(&'static str, &str)], content: &Html) -> Html {
    let mut html = open(name, attributes);
    let _ = write!(html, "{}</{name}>", content.0);
    Html(html)
}

/// `<name attributes>`, of elements without content.
pub(super) fn void(name: &'static str, attributes: &[(&'static str, &str)]) -> Html {
    Html(open(name, attributes))
}

fn open(name: &str, attributes: &[(&'static str, &str)]) -> String {
    let mut html = format!("<{name}");
    for (attribute, value) in attributes {
        let _ = write!(html, " {attribute}=\"{}\"", text(value).0);
    }
    html.push('>');
    html
}

/// Pieces one after the other.
pub(super) fn join(pieces: impl IntoIterator<Item = Html>) -> Html {
    Html(pieces.into_iter().map(|piece| piece.0).collect::<Vec<_>>().concat())
}

/// A paragraph of plain text.
pub(super) fn paragraph(plain: &str) -> Html {
    tag("p", &[], &text(plain))
}

/// An SVG picture of [`crate::plot`] as part of a page, with a text for those who cannot see it.
pub(super) fn picture(svg: &str, says: &str) -> Html {
    let svg = crate::plot::for_page(svg);
    let named = format!("<svg role=\"img\" aria-label=\"{}\" ", text(says).0);
    Html(svg.replacen("<svg ", &named, 1))
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a> {
    pub(super) name: &'a str,
    pub(super) numeric: bool,
}

/// A column of text.
pub(super) fn words(name: &str) -> Column<'_> {
    Column { name, numeric: false }
}

/// A column of numbers.
pub(super) fn numbers(name: &str) -> Column<'_> {
    Column { name, numeric: true }
}

/// A table whose first column names the rows, in a box that scrolls sideways on narrow screens.
pub(super) fn table(caption: &str, columns: &[Column], rows: &[Vec<Html>]) -> Html {
    let class = |column: Option<&Column>| match column {
        Some(Column { numeric: true, .. }) => "number",
        _ => "text",
    };
    let header = columns.iter().map(|column| {
        tag(
            "th",
            &[("scope", "col"), ("class", class(Some(column)))],
            &text(column.name),
        )
    });
    let row = |cells: &Vec<Html>| {
        let cell = |(index, cell): (usize, &Html)| {
            let class = class(columns.get(index));
            match index {
                0 => tag("th", &[("scope", "row"), ("class", class)], cell),
                _ => tag("td", &[("class", class)], cell),
            }
        };
        tag("tr", &[], &join(cells.iter().enumerate().map(cell)))
    };
    let table = tag(
        "table",
        &[],
        &join([
            tag("caption", &[], &tag("span", &[], &text(caption))),
            tag("thead", &[], &tag("tr", &[], &join(header))),
            tag("tbody", &[], &join(rows.iter().map(row))),
        ]),
    );
    scrolling(caption, &table)
}

/// What is too wide for a narrow screen; the keyboard reaches it too.
pub(super) fn scrolling(name: &str, content: &Html) -> Html {
    let attributes = [
        ("class", "scroll"),
        ("role", "region"),
        ("aria-label", name),
        ("tabindex", "0"),
    ];
    tag("div", &attributes, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let hostile = "</td><script>alert('1')</script>\" onload=\"x & y\u{0}\u{1b}[31m";
        let safe = text(hostile).into_string();
        assert!(!safe.contains(['<', '>', '"', '\'', '\0', '\u{1b}']), "{safe}");
        assert_eq!(text("a & b < c").into_string(), "a &amp; b &lt; c");
        let cell = tag("td", &[("title", hostile)], &text(hostile)).into_string();
        assert_eq!(cell.matches('<').count(), 2, "{cell}");
        assert_eq!(cell.matches('"').count(), 2, "{cell}");
        let table = table(
            hostile,
            &[words(hostile), numbers("n")],
            &[vec![text(hostile), text("1")]],
        );
        let table = table.into_string();
        assert!(!table.contains("<script") && !table.contains("onload=\""), "{table}");
        assert_eq!(table.matches("scope=\"row\"").count(), 1);
        let picture = picture("<svg width=\"1\"></svg>", hostile).into_string();
        assert!(
            !picture.contains("<script") && picture.matches('<').count() == 2,
            "{picture}"
        );
    }
}
