//! TOML with spans.

use std::collections::BTreeMap;
use std::ops::Range;

use toml_edit::{Document, Item, TableLike, Value};

use super::{Lines, MAX_DEPTH, Node, Tree};
use crate::config::problem::{Place, Problem};

pub(super) fn parse(lines: &Lines<'_>, text: &str) -> Result<Tree, Problem> {
    let document = Document::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        lines.problem(offset, format!("not TOML: {}", error.message().trim().replace('\n', ", ").to_lowercase()))
    })?;
    let root = lines.place(0);
    table(lines, document.as_table(), root, 0)
}

fn table(lines: &Lines<'_>, source: &dyn TableLike, place: Place, depth: usize) -> Result<Tree, Problem> {
    let mut keys = BTreeMap::new();
    for (name, item) in source.iter() {
        let key =
            source.key(name).and_then(toml_edit::Key::span).map_or_else(|| place.clone(), |at| lines.place(at.start));
        let mut child = one(lines, item, &key, depth + 1)?;
        child.key = key;
        keys.insert(name.to_owned(), child);
    }
    Ok(Tree { key: place.clone(), value: place, verbatim: None, untyped: false, node: Node::Table(keys) })
}

fn one(lines: &Lines<'_>, item: &Item, key: &Place, depth: usize) -> Result<Tree, Problem> {
    let span = item.span();
    let place = span.as_ref().map_or_else(|| key.clone(), |span| lines.place(span.start));
    if depth > MAX_DEPTH {
        let offset = span.map_or(0, |span| span.start);
        return Err(lines.problem(offset, format!("at most {MAX_DEPTH} tables and lists inside each other")));
    }
    match item {
        Item::None => Ok(Tree { key: key.clone(), value: place, verbatim: None, untyped: false, node: Node::Null }),
        Item::Table(inner) => table(lines, inner, place, depth),
        Item::ArrayOfTables(tables) => {
            let list = tables.iter().map(|inner| {
                let start = inner.span().map_or_else(|| place.clone(), |span| lines.place(span.start));
                table(lines, inner, start, depth + 1)
            });
            let node = Node::List(list.collect::<Result<_, _>>()?);
            Ok(Tree { key: key.clone(), value: place, verbatim: None, untyped: false, node })
        }
        Item::Value(inner) => value(lines, inner, place, depth),
    }
}

fn value(lines: &Lines<'_>, source: &Value, place: Place, depth: usize) -> Result<Tree, Problem> {
    let span = source.span().unwrap_or_default();
    if depth > MAX_DEPTH {
        return Err(lines.problem(span.start, format!("at most {MAX_DEPTH} tables and lists inside each other")));
    }
    let mut verbatim = None;
    let node = match source {
        Value::Array(values) => {
            let list = values.iter().map(|inner| {
                let start = inner.span().map_or_else(|| place.clone(), |span| lines.place(span.start));
                value(lines, inner, start, depth + 1)
            });
            Node::List(list.collect::<Result<_, _>>()?)
        }
        Value::Boolean(inner) => Node::Boolean(*inner.value()),
        Value::Datetime(_) => {
            return Err(lines.problem(span.start, "a date has no meaning here; write a string in quotes".to_owned()));
        }
        Value::Float(inner) => Node::Float(*inner.value()),
        Value::InlineTable(inner) => return table(lines, inner, place, depth),
        Value::Integer(inner) => Node::Integer(*inner.value()),
        Value::String(inner) => {
            verbatim = quoted_as_it_is(lines, &span, inner.value(), &place);
            Node::Text(inner.value().clone())
        }
    };
    Ok(Tree { key: place.clone(), value: place, verbatim, untyped: false, node })
}

/// Column of the first character after the quote, if nothing in the quotes was an escape.
fn quoted_as_it_is(lines: &Lines<'_>, span: &Range<usize>, text: &str, place: &Place) -> Option<usize> {
    let inside = lines.text.get(span.start + 1..span.end.checked_sub(1)?)?;
    match place {
        Place::File { column, .. } if inside == text => Some(column + 1),
        _ => None,
    }
}
