//! Reads YAML, without the parts of it that surprise.
//!
//! The parser's events are made into a small tree that keeps lines, which serde then reads. No anchors and aliases (a
//! few lines of them can mean gigabytes), no tags, one document, bounded depth. A scalar is taken for what is asked
//! for: where a string is wanted `no` is "no", where a number is wanted `3` is 3. So there is no "Norway problem".

use std::fmt;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Deepest nesting; an endpoint's metadata needs five.
const MAX_DEPTH: usize = 16;

/// Reads one document.
pub(super) fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    T::deserialize(tree(text)?)
}

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct YamlError {
    place: Option<(usize, usize)>,
    problem: String,
}

impl YamlError {
    fn at(mark: Marker, problem: &str) -> Self {
        Self { place: Some(place(mark)), problem: problem.to_owned() }
    }

    /// Adds the place to a problem that has none yet, so that the innermost one wins.
    fn or_at(mut self, place: (usize, usize)) -> Self {
        self.place = self.place.or(Some(place));
        self
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(formatter, "line {line}, column {column}: ")?;
        }
        formatter.write_str(&self.problem)
    }
}

impl std::error::Error for YamlError {}

impl de::Error for YamlError {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self { place: None, problem: problem.to_string() }
    }
}

/// A value and where it begins.
#[derive(Debug)]
struct Node {
    place: (usize, usize),
    value: Value,
}

#[derive(Debug)]
enum Value {
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// Text, and whether it stood there without quotes.
    Scalar(String, bool),
}

/// A list or a map that is not closed yet.
enum Open {
    List(Vec<Node>),
    /// Pairs, and the key that waits for its value.
    Map(Vec<(Node, Node)>, Option<Node>),
}

fn place(mark: Marker) -> (usize, usize) {
    (mark.line(), mark.col() + 1)
}

fn tree(text: &str) -> Result<Node, YamlError> {
    let mut stack: Vec<((usize, usize), Open)> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| YamlError::at(*error.marker(), error.info()))?;
        let refuse = |problem: &str| Err(YamlError::at(span.start, problem));
        let done = match event {
            Event::Alias(_) => return refuse("aliases (`*name`) are not taken; write the value again"),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return refuse("anchors (`&name`) are not taken; write the value where it is needed");
            }
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return refuse("tags (`!name`) are not taken; remove it");
            }
            Event::DocumentStart(_) if root.is_some() => return refuse("a second document; use a file for each"),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                continue;
            }
            Event::Scalar(text, style, _, _) => {
                let value = Value::Scalar(text.into_owned(), style == ScalarStyle::Plain);
                Node { place: place(span.start), value }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if stack.len() == MAX_DEPTH => {
                return refuse("the nesting is too deep");
            }
            Event::SequenceStart(..) => {
                stack.push((place(span.start), Open::List(Vec::new())));
                continue;
            }
            Event::MappingStart(..) => {
                stack.push((place(span.start), Open::Map(Vec::new(), None)));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some((place, Open::List(nodes))) => Node { place, value: Value::List(nodes) },
                Some((place, Open::Map(pairs, _))) => Node { place, value: Value::Map(pairs) },
                None => return refuse("an end without a beginning"),
            },
        };
        match stack.last_mut() {
            Some((_, Open::List(nodes))) => nodes.push(done),
            Some((_, Open::Map(pairs, key))) => match key.take() {
                Some(key) => pairs.push((key, done)),
                None => *key = Some(done),
            },
            None => root = Some(done),
        }
    }
    root.ok_or_else(|| de::Error::custom("no content; write `services: {}` or remove the file"))
}

impl IntoDeserializer<'_, YamlError> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Node {
    /// Hands the value on as what it is.
    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        let place = self.place;
        match self.value {
            Value::List(nodes) => visitor.visit_seq(SeqDeserializer::new(nodes.into_iter())),
            Value::Map(pairs) => visitor.visit_map(MapDeserializer::new(pairs.into_iter())),
            Value::Scalar(text, plain) if plain && is_null(&text) => visitor.visit_unit(),
            Value::Scalar(text, _) => visitor.visit_string(text),
        }
        .map_err(|error| error.or_at(place))
    }

    fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, true) if is_null(text))
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null")
}

impl<'de> de::Deserializer<'de> for Node {
    type Error = YamlError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        self.visit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        let number = match &self.value {
            Value::Scalar(text, true) => text.parse::<u32>().ok(),
            _ => None,
        };
        match number {
            Some(number) => visitor.visit_u32(number),
            None => self.visit(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, YamlError> {
        let place = self.place;
        match self.value {
            Value::Scalar(text, _) => visitor.visit_enum(text.into_deserializer()),
            _ => Err(de::Error::custom("expected a word")),
        }
        .map_err(|error: YamlError| error.or_at(place))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write;

    use super::*;

    type Words = BTreeMap<String, String>;

    fn problem(text: &str) -> String {
        from_str::<Words>(text).unwrap_err().to_string()
    }

    #[test]
    fn a_scalar_is_what_is_asked_for() {
        let words: Words = from_str("country: no\nversion: 1.20\naddress: 10.0.0.1:80\nquoted: '~'").unwrap();
        assert_eq!(words["country"], "no");
        assert_eq!(words["version"], "1.20");
        assert_eq!(words["address"], "10.0.0.1:80");
        assert_eq!(words["quoted"], "~");
        assert_eq!(from_str::<BTreeMap<String, u32>>("weight: 3").unwrap()["weight"], 3);
        assert_eq!(from_str::<BTreeMap<String, Option<String>>>("zone: ~").unwrap()["zone"], None);
    }

    #[test]
    fn a_number_in_quotes_is_not_a_number() {
        let error = from_str::<BTreeMap<String, u32>>("weight: '3'").unwrap_err().to_string();
        assert!(error.starts_with("line 1, column 9: invalid type: string"), "{error}");
    }

    #[test]
    fn what_surprises_is_refused() {
        assert!(problem("a: &x 1\nb: *x").starts_with("line 1, column 4: anchors"));
        assert!(problem("a: !secret 1").contains("tags"));
        assert!(problem("a: b\n---\na: c").contains("second document"));
        assert!(problem(&"[".repeat(100)).contains("too deep"));
        assert!(problem("a: [1").starts_with("line"));
    }

    #[test]
    fn a_megabyte_of_openings_is_an_error_and_no_overflow() {
        for opening in ["[", "{", "- ", "? ", "{a: ", "- a: "] {
            problem(&opening.repeat(1_000_000 / opening.len()));
        }
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_at_its_first_line() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let previous = format!("*a{},", level - 1).repeat(10);
            writeln!(bomb, "a{level}: &a{level} [{previous}]").unwrap();
        }
        assert!(problem(&bomb).starts_with("line 1,"));
    }
}
