//! The little BER (X.690) that a signature of AWS is written in (pure).
//!
//! AWS writes lengths that are not known beforehand ("indefinite", 8.1.3.6), which DER parsers refuse. Tags have one byte here, and
//! strings may come in pieces (8.7.3).

/// Deepest nesting that is followed; a signature has ten.
const MAX_DEPTH: usize = 16;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(super) const TAGGED_0: u8 = 0xa0;

const CONSTRUCTED: u8 = 0x20;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node<'a> {
    pub(super) tag: u8,
    /// Its bytes as they stand, with tag and length.
    pub(super) raw: &'a [u8],
    /// Whether its length stood at its beginning, as DER wants it.
    pub(super) is_definite: bool,
    pub(super) value: Value<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Bytes(&'a [u8]),
    Within(Vec<Node<'a>>),
}

impl<'a> Node<'a> {
    /// Reads one value that is all there is.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        match read(bytes, 0)? {
            (node, []) => Some(node),
            _ => None,
        }
    }

    /// Returns what is within, if it has this tag.
    pub(super) fn within(&self, tag: u8) -> Option<&[Self]> {
        match &self.value {
            Value::Within(nodes) if self.tag == tag => Some(nodes),
            _ => None,
        }
    }

    /// Returns the bytes of a value that has this tag and is not made of others.
    pub(super) fn bytes(&self, tag: u8) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) if self.tag == tag => Some(bytes),
            _ => None,
        }
    }

    /// Returns the bytes of an octet string, in one piece or in several.
    pub(super) fn octets(&self) -> Option<Vec<u8>> {
        match &self.value {
            Value::Bytes(bytes) if self.tag == OCTETS => Some(bytes.to_vec()),
            Value::Within(pieces) if self.tag == OCTETS | CONSTRUCTED => {
                let pieces: Option<Vec<&[u8]>> = pieces.iter().map(|piece| piece.bytes(OCTETS)).collect();
                Some(pieces?.concat())
            }
            _ => None,
        }
    }
}

fn read(bytes: &[u8], depth: usize) -> Option<(Node<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    // Tags of several bytes, and nesting without end.
    if tag & 0x1f == 0x1f || depth > MAX_DEPTH {
        return None;
    }
    let is_constructed = tag & CONSTRUCTED != 0;
    let raw = |rest: &[u8]| bytes.get(..bytes.len() - rest.len());
    if first == 0x80 {
        if !is_constructed {
            return None;
        }
        let (mut rest, mut nodes) = (rest, Vec::new());
        loop {
            if let Some(after) = rest.strip_prefix(&[0, 0]) {
                let node = Node { tag, raw: raw(after)?, is_definite: false, value: Value::Within(nodes) };
                return Some((node, after));
            }
            let (node, after) = read(rest, depth + 1)?;
            nodes.push(node);
            rest = after;
        }
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Four bytes of a length are 4 GiB.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let value = if is_constructed {
        let (mut inner, mut nodes) = (content, Vec::new());
        while !inner.is_empty() {
            let (node, after) = read(inner, depth + 1)?;
            nodes.push(node);
            inner = after;
        }
        Value::Within(nodes)
    } else {
        Value::Bytes(content)
    };
    Some((Node { tag, raw: raw(rest)?, is_definite: true, value }, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_stand_at_the_beginning_or_at_the_end() {
        let definite = Node::parse(&[0x30, 3, 2, 1, 5]).unwrap();
        assert_eq!(definite.within(SEQUENCE).unwrap()[0].bytes(INTEGER), Some(&[5][..]));
        let indefinite = Node::parse(&[0x30, 0x80, 2, 1, 5, 0, 0]).unwrap();
        assert_eq!(indefinite.within(SEQUENCE).unwrap()[0].bytes(INTEGER), Some(&[5][..]));
        assert!(definite.is_definite && !indefinite.is_definite);
        assert_eq!(indefinite.raw.len(), 7);
        let long = [&[4, 0x82, 1, 0][..], &[7; 256]].concat();
        assert_eq!(Node::parse(&long).unwrap().octets(), Some(vec![7; 256]));
        let pieces = [0x24, 0x80, 4, 1, 1, 4, 2, 2, 3, 0, 0];
        assert_eq!(Node::parse(&pieces).unwrap().octets(), Some(vec![1, 2, 3]));
    }

    #[test]
    fn what_breaks_off_or_goes_on_is_nothing() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 2, 5],
            &[0x30, 0x80, 2, 1, 5],
            &[4, 0x80, 0, 0],
            &[2, 1, 5, 0],
            &[0x3f, 1, 0],
            &[4, 0x85, 0, 0, 0, 0, 1, 0],
            &[4, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30; 64],
        ] {
            assert_eq!(Node::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(Node::parse(&[0x30, 0x80].repeat(10_000)), None, "nested without end");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(node) = Node::parse(&bytes) {
                prop_assert_eq!(node.raw, &bytes[..]);
            }
        }
    }
}
