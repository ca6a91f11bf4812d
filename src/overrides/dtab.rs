//! Linkerd 1's delegation tables: `/svc/web => /svc/web-v2 | /svc/web; …` (pure).
//!
//! ```text
//! dtab     = [entry] {(";" | ",") [entry]}
//! entry    = prefix "=>" tree                          prefix: a path in which "*" is any one part
//! tree     = union {"|" union}                         the first one that is there
//! union    = weighted {"&" weighted}                   shares
//! weighted = [NUMBER "*"] (path | "(" tree ")" | "~" | "!" | "$")
//! path     = "/" | ("/" part)+                         part: letters, digits, "_:.#$%-", "\xNN"
//! ```
//!
//! `~` is "not here, look further", `!` is "nowhere, and look no further", `$` is "here, and nobody". `#` begins a comment
//! where a token could begin.

use std::fmt::{self, Write as _};

pub use super::parse::ParseError;

/// A delegation table; later entries win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dtab {
    /// In the order of writing.
    pub entries: Vec<Entry>,
}

/// One delegation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which names it is for; `None` is `*`.
    pub prefix: Vec<Option<String>>,
    /// What they become.
    pub tree: Tree,
}

/// What a name becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// The first one that is there; two or more.
    Alt(Vec<Self>),
    /// `$`: here, and nobody.
    Empty,
    /// `!`: nowhere, and look no further.
    Fail,
    /// `~`: not here, look further.
    Neg,
    /// Another name.
    Path(Vec<String>),
    /// Shares, by weight in thousandths; two or more, or one with a weight.
    Union(Vec<(u32, Self)>),
}

impl Dtab {
    /// Longest text, in bytes: half of what a head may have.
    pub const MAX_BYTES: usize = 8 * 1024;
    /// Most parentheses inside each other.
    pub const MAX_DEPTH: usize = 8;
    /// Most entries.
    pub const MAX_ENTRIES: usize = 100;
    /// Most parts of a path.
    pub const MAX_PARTS: usize = 16;
    /// The weight that is meant where none is written, in thousandths.
    pub const WEIGHT: u32 = 1000;
    /// Greatest weight, in thousandths.
    pub const MAX_WEIGHT: u32 = 1_000_000;

    /// Parses a table, or says where the first wrong byte stands and what is expected there.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        super::parse::dtab(text)
    }
}

impl Entry {
    /// Returns what is left of a name behind the prefix; `None` where the prefix is not its beginning.
    pub fn residual<'a>(&self, name: &'a [String]) -> Option<&'a [String]> {
        let fits = |(wanted, part): (&Option<String>, &String)| wanted.as_ref().is_none_or(|wanted| wanted == part);
        let residual = name.get(self.prefix.len()..)?;
        self.prefix.iter().zip(name).all(fits).then_some(residual)
    }
}

impl Tree {
    /// Visits every path.
    pub fn for_each_path(&self, visit: &mut dyn FnMut(&[String])) {
        match self {
            Self::Alt(trees) => trees.iter().for_each(|tree| tree.for_each_path(visit)),
            Self::Union(entries) => entries.iter().for_each(|(_, tree)| tree.for_each_path(visit)),
            Self::Path(path) => visit(path),
            Self::Empty | Self::Fail | Self::Neg => {}
        }
    }
}

impl fmt::Display for Dtab {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, entry) in self.entries.iter().enumerate() {
            write!(formatter, "{}{entry}", if position > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix.is_empty() {
            formatter.write_str("/")?;
        }
        for part in &self.prefix {
            formatter.write_char('/')?;
            match part {
                Some(part) => write_part(formatter, part)?,
                None => formatter.write_char('*')?,
            }
        }
        write!(formatter, " => {}", self.tree)
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alt(trees) => {
                for (position, tree) in trees.iter().enumerate() {
                    formatter.write_str(if position > 0 { " | " } else { "" })?;
                    tree.within(formatter, matches!(tree, Self::Alt(_)))?;
                }
                Ok(())
            }
            Self::Empty => formatter.write_char('$'),
            Self::Fail => formatter.write_char('!'),
            Self::Neg => formatter.write_char('~'),
            Self::Path(path) => write!(formatter, "{}", Shown(path)),
            Self::Union(entries) => {
                for (position, (weight, tree)) in entries.iter().enumerate() {
                    formatter.write_str(if position > 0 { " & " } else { "" })?;
                    if *weight != Dtab::WEIGHT {
                        write!(formatter, "{} * ", Decimal(*weight))?;
                    }
                    tree.within(formatter, matches!(tree, Self::Alt(_) | Self::Union(_)))?;
                }
                Ok(())
            }
        }
    }
}

impl Tree {
    fn within(&self, formatter: &mut fmt::Formatter<'_>, parentheses: bool) -> fmt::Result {
        if parentheses { write!(formatter, "({self})") } else { write!(formatter, "{self}") }
    }
}

/// A path as it is written.
pub(super) struct Shown<'a>(pub(super) &'a [String]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            formatter.write_char('/')?;
        }
        for part in self.0 {
            formatter.write_char('/')?;
            write_part(formatter, part)?;
        }
        Ok(())
    }
}

/// A number of thousandths.
struct Decimal(u32);

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0 / 1000)?;
        if !self.0.is_multiple_of(1000) {
            let digits = format!("{:03}", self.0 % 1000);
            write!(formatter, ".{}", digits.trim_end_matches('0'))?;
        }
        Ok(())
    }
}

/// Says whether a byte may stand in a part of a path as it is.
pub(super) fn is_part_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'.' | b'#' | b'$' | b'%' | b'-')
}

fn write_part(formatter: &mut fmt::Formatter<'_>, part: &str) -> fmt::Result {
    for byte in part.bytes() {
        if is_part_byte(byte) {
            formatter.write_char(char::from(byte))?;
        } else {
            write!(formatter, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}
