//! YAML (and JSON) with spans, built from parser events: no alias is expanded, no recursion depends on the input.

use std::collections::BTreeMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{Lines, MAX_DEPTH, Node, Tree, unreadable};
use crate::config::problem::{Place, Problem};

/// A list or table that is still open.
enum Open {
    List { tree: Tree, items: Vec<Tree> },
    Table { tree: Tree, keys: BTreeMap<String, Tree>, key: Option<(String, Place)> },
}

pub(super) fn parse(lines: &Lines<'_>, text: &str) -> Result<Tree, Problem> {
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            unreadable(lines.at(mark.line().max(1), mark.col() + 1), format!("not YAML: {}", error.info()))
        })?;
        let place = lines.at(span.start.line().max(1), span.start.col() + 1);
        let refuse = |message: &str| Err(unreadable(place.clone(), message.to_owned()));
        let done = match event {
            Event::DocumentStart(_) if root.is_some() => {
                return refuse("a file holds one document; remove what follows");
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                continue;
            }
            Event::Alias(_) => return refuse("aliases are not taken; write the value out"),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() >= MAX_DEPTH {
                    return refuse(&format!("at most {MAX_DEPTH} tables and lists inside each other"));
                }
                let tree = Tree { key: place.clone(), value: place, verbatim: None, untyped: false, node: Node::Null };
                open.push(match event {
                    Event::SequenceStart(..) => Open::List { tree, items: Vec::new() },
                    _ => Open::Table { tree, keys: BTreeMap::new(), key: None },
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List { tree, items }) => Tree { node: Node::List(items), ..tree },
                Some(Open::Table { tree, keys, .. }) => Tree { node: Node::Table(keys), ..tree },
                None => return refuse("not YAML: an end without a beginning"),
            },
            Event::Scalar(text, style, _, tag) => {
                let Some(scalar) = Scalar::parse_from_cow_and_metadata(text.clone(), style, tag.as_ref()) else {
                    return refuse("not YAML: the value does not fit its tag");
                };
                if let Some(Open::Table { keys, key: key @ None, .. }) = open.last_mut() {
                    if keys.contains_key(text.as_ref()) {
                        return refuse("the key is set twice");
                    }
                    *key = Some((text.into_owned(), place));
                    continue;
                }
                let verbatim = as_it_is(&text, style, span);
                Tree { key: place.clone(), value: place, verbatim, untyped: false, node: of(scalar) }
            }
        };
        match open.last_mut() {
            None => root = Some(done),
            Some(Open::List { items, .. }) => items.push(done),
            Some(Open::Table { keys, key, .. }) => match key.take() {
                Some((name, place)) => {
                    keys.insert(name, Tree { key: place, ..done });
                }
                None => return Err(unreadable(done.value, "a key is a string".to_owned())),
            },
        }
    }
    Ok(root.unwrap_or_default())
}

fn of(scalar: Scalar<'_>) -> Node {
    match scalar {
        Scalar::Null => Node::Null,
        Scalar::Boolean(value) => Node::Boolean(value),
        Scalar::Integer(value) => Node::Integer(value),
        Scalar::FloatingPoint(value) => Node::Float(value.into_inner()),
        Scalar::String(value) => Node::Text(value.into_owned()),
    }
}

/// Column of the first character of a text that stands in the file as it is.
fn as_it_is(text: &str, style: ScalarStyle, span: Span) -> Option<usize> {
    let quotes = match style {
        ScalarStyle::Plain => 0,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
        ScalarStyle::Literal | ScalarStyle::Folded => return None,
    };
    let same_length = span.len() == text.chars().count() + 2 * quotes;
    (same_length && span.start.line() == span.end.line()).then(|| span.start.col() + 1 + quotes)
}
