//! A recursive-descent parser, bounded in depth and size.
//!
//! It works on bytes and only ever stops at ASCII, so that every offset is a character boundary.

use std::collections::BTreeMap;

use meshless_discovery::Target;

use super::{Expression, Node, Split, Term, template};

/// Why a text is not a target expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {message}")]
pub struct ParseError {
    /// Where the first wrong byte stands, counted from 0; the length of the text where more was expected.
    pub offset: usize,
    /// What is expected there, and what was found.
    pub message: String,
}

pub(super) fn expression(text: &str) -> Result<Expression, ParseError> {
    parse(text, None)
}

/// Parses an expression in whose leaves the names of `captures` may stand in braces.
pub(super) fn template(text: &str, captures: &[&str]) -> Result<Expression, ParseError> {
    parse(text, Some(captures))
}

fn parse(text: &str, captures: Option<&[&str]>) -> Result<Expression, ParseError> {
    let mut parser = Parser { text, offset: 0, leaves: 0, captures };
    if text.len() > Expression::MAX_BYTES {
        return parser.refuse(format!("expected at most {} bytes, found {}", Expression::MAX_BYTES, text.len()));
    }
    let parsed = parser.tiers(0)?;
    match parser.peek() {
        None => Ok(parsed),
        Some(b')') => parser.refuse("`)` without a `(` before it".to_owned()),
        Some(_) => parser.expected("`|`, `&` or the end"),
    }
}

pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
}

/// What a path may hold besides `[`, which is looked at on its own: anything that is visible and not an operator.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'|' | b'&' | b'(' | b')' | b'[' | b']' | b'"' | b'\'' | b'`' | b'\\')
}

/// Keys may be tags of a cloud (`tag.Team`, `tag.aws:x/y`), so more than names is taken.
fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'/')
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
    leaves: usize,
    /// What may stand in braces; `None`: braces have no meaning.
    captures: Option<&'a [&'a str]>,
}

impl<'a> Parser<'a> {
    fn tiers(&mut self, depth: usize) -> Result<Expression, ParseError> {
        if depth > Expression::MAX_DEPTH {
            return self.refuse(format!("expected at most {} parentheses inside each other", Expression::MAX_DEPTH));
        }
        let mut tiers = vec![self.split(depth)?];
        while self.take(b'|') {
            tiers.push(self.split(depth)?);
        }
        Ok(Expression { tiers })
    }

    fn split(&mut self, depth: usize) -> Result<Split, ParseError> {
        let mut terms = vec![self.term(depth)?];
        while self.take(b'&') {
            terms.push(self.term(depth)?);
        }
        Ok(Split { terms })
    }

    fn term(&mut self, depth: usize) -> Result<Term, ParseError> {
        let weight = self.weight()?;
        let node = if self.take(b'(') {
            let inner = self.tiers(depth + 1)?;
            if !self.take(b')') {
                return self.expected("`|`, `&` or `)`");
            }
            Node::Group(inner)
        } else {
            self.leaf()?
        };
        Ok(Term { weight, node })
    }

    /// Takes `NUMBER *` if it stands here. A number alone is left alone: `90` can be the name of a service.
    fn weight(&mut self) -> Result<u32, ParseError> {
        self.skip_spaces();
        let start = self.offset;
        let digits = self.run(|byte| byte.is_ascii_digit());
        if digits.is_empty() || !self.take(b'*') {
            self.offset = start;
            return Ok(1);
        }
        match digits.parse::<u32>() {
            Ok(weight) if weight <= Expression::MAX_WEIGHT => Ok(weight),
            _ => {
                self.offset = start;
                self.refuse(format!("expected a weight from 0 to {}, found `{digits}`", Expression::MAX_WEIGHT))
            }
        }
    }

    fn leaf(&mut self) -> Result<Node, ParseError> {
        self.skip_spaces();
        let start = self.offset;
        let is_template = self.captures.is_some();
        let name = self.run(|byte| is_name_byte(byte) || is_template && matches!(byte, b'{' | b'}'));
        let begins = |first: char| first.is_ascii_lowercase() || first.is_ascii_digit() || is_template && first == '{';
        if !name.starts_with(begins) {
            self.offset = start;
            return self.expected("a service, a target such as `static/127.0.0.1:80`, or `(`");
        }
        if name.len() > 253 {
            self.offset = start;
            return self.refuse("expected a name of at most 253 bytes".to_owned());
        }
        self.leaves += 1;
        if self.leaves > Expression::MAX_LEAVES {
            self.offset = start;
            return self.refuse(format!("expected at most {} targets and services", Expression::MAX_LEAVES));
        }
        if self.next_byte() != Some(b'/') {
            self.captured(start, "")?;
            return self.ended(Node::Service(name.to_owned()), "`/`, `|`, `&` or the end");
        }
        if is_template && name.contains(['{', '}']) {
            self.offset = start;
            return self
                .refuse("a capture cannot stand in the place of a backend; write the backend's name".to_owned());
        }
        self.offset += 1;
        let path = self.path()?;
        let options = if self.next_byte() == Some(b'[') { self.options()? } else { BTreeMap::new() };
        self.captured(start, name)?;
        let backend = if name == "k8s" { "kubernetes" } else { name }.to_owned();
        self.ended(Node::Target(Target { backend, path, options }), "`|`, `&` or the end")
    }

    /// Looks at the captures of the leaf that began at `start` and has just ended.
    fn captured(&mut self, start: usize, backend: &str) -> Result<(), ParseError> {
        let Some(known) = self.captures else { return Ok(()) };
        let leaf = self.text.get(start..self.offset).unwrap_or_default();
        let found = template::captures(leaf, known).and_then(|found| match (backend, found) {
            ("static" | "dns", Some(offset)) => {
                let message = format!(
                    "a capture cannot stand in `{backend}/`: whoever sends a request would choose the address; \
                     name a backend that knows the endpoints"
                );
                Err(ParseError { offset, message })
            }
            _ => Ok(()),
        });
        found.map_err(|error| ParseError { offset: start + error.offset, ..error })
    }

    /// A leaf ends at a space, an operator or the end; anything glued to it is a mistake that is named here.
    fn ended(&self, leaf: Node, expected: &str) -> Result<Node, ParseError> {
        match self.next_byte() {
            None | Some(b'|' | b'&' | b')' | b' ' | b'\t' | b'\n' | b'\r') => Ok(leaf),
            Some(_) => self.expected(expected),
        }
    }

    fn path(&mut self) -> Result<String, ParseError> {
        let start = self.offset;
        loop {
            self.run(is_path_byte);
            if self.next_byte() != Some(b'[') || self.options_begin() {
                break;
            }
            self.ipv6()?;
        }
        let path = self.text.get(start..self.offset).unwrap_or_default();
        if path.is_empty() {
            return self.expected("what to look up in the backend, such as a name or an address");
        }
        if path.ends_with(',') {
            return self.refuse("a list in a path is written without spaces, and does not end in a comma".to_owned());
        }
        Ok(path.to_owned())
    }

    /// Options begin with `key=`, an IPv6 address does not.
    fn options_begin(&self) -> bool {
        let inside = self.rest().get(1..).unwrap_or_default();
        let key = inside.bytes().take_while(|byte| is_key_byte(*byte)).count();
        key > 0 && inside.as_bytes().get(key) == Some(&b'=')
    }

    fn ipv6(&mut self) -> Result<(), ParseError> {
        let start = self.offset;
        self.offset += 1;
        let address = self.run(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
        if address.contains(':') {
            if self.next_byte() == Some(b'%') {
                self.offset += 1;
                self.run(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
            }
            if self.next_byte() == Some(b']') {
                self.offset += 1;
                return Ok(());
            }
        }
        self.offset = start;
        self.refuse("expected options such as `[tag=blue]`, or an IPv6 address such as `[::1]`".to_owned())
    }

    fn options(&mut self) -> Result<BTreeMap<String, String>, ParseError> {
        let mut options = BTreeMap::new();
        self.offset += 1;
        loop {
            self.skip_spaces();
            let start = self.offset;
            let key = self.run(is_key_byte);
            if key.is_empty() || self.next_byte() != Some(b'=') {
                return self.expected("an option such as `tag=blue`");
            }
            self.offset += 1;
            let value = self.value()?;
            if options.insert(key.to_owned(), value).is_some() {
                self.offset = start;
                return self.refuse(format!("the option `{key}` stands twice"));
            }
            match self.next_byte() {
                Some(b',') => self.offset += 1,
                Some(b']') => {
                    self.offset += 1;
                    return Ok(options);
                }
                _ => return self.expected("`,` or `]`"),
            }
        }
    }

    /// A value goes to the next `,` or `]`; spaces within it count, spaces around it do not.
    fn value(&mut self) -> Result<String, ParseError> {
        let rest = self.rest();
        let length = rest
            .find(|character: char| matches!(character, ',' | ']' | '[') || character.is_control())
            .unwrap_or(rest.len());
        let value = rest.get(..length).unwrap_or_default().trim();
        if value.is_empty() {
            return self.expected("a value");
        }
        self.offset += length;
        Ok(value.to_owned())
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    fn next_byte(&self) -> Option<u8> {
        self.rest().bytes().next()
    }

    fn skip_spaces(&mut self) {
        self.run(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// The next byte that is not a space.
    fn peek(&mut self) -> Option<u8> {
        self.skip_spaces();
        self.next_byte()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.offset += usize::from(found);
        found
    }

    fn run(&mut self, accepted: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| accepted(*byte)).count();
        self.offset += length;
        rest.get(..length).unwrap_or_default()
    }

    fn expected<T>(&self, what: &str) -> Result<T, ParseError> {
        let found = self.rest().chars().next();
        let found = found.map_or_else(|| "the end".to_owned(), |character| format!("`{}`", character.escape_debug()));
        self.refuse(format!("expected {what}, found {found}"))
    }

    fn refuse<T>(&self, message: String) -> Result<T, ParseError> {
        Err(ParseError { offset: self.offset, message })
    }
}
