//! A recursive-descent parser of dtabs, bounded in size and depth.
//!
//! It works on bytes and only ever stops at ASCII, so that every offset is a character boundary.

use super::dtab::{Dtab, Entry, Tree, is_part_byte};

/// Why a text is no dtab.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {message}")]
pub struct ParseError {
    /// Where the first wrong byte stands, counted from 0; the length of the text where more was expected.
    pub offset: usize,
    /// What is expected there, and what was found.
    pub message: String,
}

pub(super) fn dtab(text: &str) -> Result<Dtab, ParseError> {
    let mut parser = Parser { text, offset: 0 };
    if text.len() > Dtab::MAX_BYTES {
        return parser.refuse(format!("expected at most {} bytes, found {}", Dtab::MAX_BYTES, text.len()));
    }
    let mut entries = Vec::new();
    loop {
        while matches!(parser.peek(), Some(b';' | b',')) {
            parser.offset += 1;
        }
        if parser.peek().is_none() {
            return Ok(Dtab { entries });
        }
        if entries.len() == Dtab::MAX_ENTRIES {
            return parser.refuse(format!("expected at most {} entries", Dtab::MAX_ENTRIES));
        }
        entries.push(parser.entry()?);
        if !matches!(parser.peek(), None | Some(b';' | b',')) {
            return parser.expected("`|`, `&`, `;` or the end");
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
}

impl Parser<'_> {
    fn entry(&mut self) -> Result<Entry, ParseError> {
        let prefix = self.path(true)?;
        self.peek();
        if !self.rest().starts_with("=>") {
            return self.expected("`=>`");
        }
        self.offset += 2;
        let tree = self.tree(0)?;
        let prefix = prefix.into_iter().map(|part| if part == "*" { None } else { Some(part) }).collect();
        Ok(Entry { prefix, tree })
    }

    fn tree(&mut self, depth: usize) -> Result<Tree, ParseError> {
        let first = self.union(depth)?;
        if self.peek() != Some(b'|') {
            return Ok(first);
        }
        let mut trees = vec![first];
        while self.take(b'|') {
            trees.push(self.union(depth)?);
        }
        Ok(Tree::Alt(trees))
    }

    fn union(&mut self, depth: usize) -> Result<Tree, ParseError> {
        let mut entries = vec![self.weighted(depth)?];
        while self.take(b'&') {
            entries.push(self.weighted(depth)?);
        }
        match entries.pop() {
            Some((Dtab::WEIGHT, only)) if entries.is_empty() => Ok(only),
            last => {
                entries.extend(last);
                Ok(Tree::Union(entries))
            }
        }
    }

    fn weighted(&mut self, depth: usize) -> Result<(u32, Tree), ParseError> {
        let weight = match self.peek() {
            Some(b'0'..=b'9' | b'.') => self.weight()?,
            _ => Dtab::WEIGHT,
        };
        let tree = match self.peek() {
            Some(b'(') if depth == Dtab::MAX_DEPTH => {
                return self.refuse(format!("expected at most {} parentheses inside each other", Dtab::MAX_DEPTH));
            }
            Some(b'(') => {
                self.offset += 1;
                let tree = self.tree(depth + 1)?;
                if !self.take(b')') {
                    return self.expected("`|`, `&` or `)`");
                }
                tree
            }
            Some(b'~') => self.sign(Tree::Neg),
            Some(b'!') => self.sign(Tree::Fail),
            Some(b'$') => self.sign(Tree::Empty),
            Some(b'/') => Tree::Path(self.path(false)?),
            _ => return self.expected("a path such as `/svc/web`, `(`, `~`, `!` or `$`"),
        };
        Ok((weight, tree))
    }

    fn sign(&mut self, tree: Tree) -> Tree {
        self.offset += 1;
        tree
    }

    fn weight(&mut self) -> Result<u32, ParseError> {
        let start = self.offset;
        let number = self.run(|byte| byte.is_ascii_digit() || byte == b'.').to_owned();
        let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
        let thousandths = format!("{fraction:0<3}");
        let parsed = match (whole, thousandths.len()) {
            ("", 3) if !fraction.is_empty() => thousandths.parse::<u32>().ok(),
            (whole, 3) => {
                let whole = whole.parse::<u32>().ok().and_then(|whole| whole.checked_mul(1000));
                whole.zip(thousandths.parse::<u32>().ok()).and_then(|(whole, part)| whole.checked_add(part))
            }
            _ => None,
        };
        let Some(weight) = parsed.filter(|weight| *weight <= Dtab::MAX_WEIGHT) else {
            self.offset = start;
            return self.refuse("expected a weight from 0 to 1000 with three decimals at most".to_owned());
        };
        if !self.take(b'*') {
            return self.expected("`*` after a weight");
        }
        Ok(weight)
    }

    fn path(&mut self, is_prefix: bool) -> Result<Vec<String>, ParseError> {
        if !self.take(b'/') {
            return self.expected("a path such as `/svc/web`");
        }
        let mut parts = Vec::new();
        loop {
            let part = self.part(is_prefix)?;
            if part.is_empty() {
                // `/` alone is the path of no parts.
                return if parts.is_empty() { Ok(parts) } else { self.expected("a part of a path") };
            }
            if parts.len() == Dtab::MAX_PARTS {
                return self.refuse(format!("expected at most {} parts", Dtab::MAX_PARTS));
            }
            parts.push(part);
            if self.next_byte() != Some(b'/') {
                return Ok(parts);
            }
            self.offset += 1;
        }
    }

    fn part(&mut self, is_prefix: bool) -> Result<String, ParseError> {
        if is_prefix && self.next_byte() == Some(b'*') {
            self.offset += 1;
            return Ok("*".to_owned());
        }
        let start = self.offset;
        let mut part = Vec::new();
        loop {
            part.extend_from_slice(self.run(is_part_byte).as_bytes());
            let Some(escape) = self.rest().strip_prefix("\\x") else { break };
            let digits = escape.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                return self.expected("an escape such as `\\x2f`");
            };
            self.offset += 4;
            part.push(byte);
        }
        match String::from_utf8(part) {
            // A star that was escaped would read as any part.
            Ok(part) if !part.contains(char::is_control) && part != "*" => Ok(part),
            _ => {
                self.offset = start;
                self.refuse("expected a part of printable text".to_owned())
            }
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    fn next_byte(&self) -> Option<u8> {
        self.rest().bytes().next()
    }

    /// The next byte that is neither a space nor in a comment.
    fn peek(&mut self) -> Option<u8> {
        loop {
            self.run(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
            if self.next_byte() != Some(b'#') {
                return self.next_byte();
            }
            self.run(|byte| byte != b'\n');
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.offset += usize::from(found);
        found
    }

    fn run(&mut self, accepted: impl Fn(u8) -> bool) -> &str {
        let start = self.offset;
        let length = self.rest().bytes().take_while(|byte| accepted(*byte)).count();
        self.offset += length;
        self.text.get(start..self.offset).unwrap_or_default()
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
