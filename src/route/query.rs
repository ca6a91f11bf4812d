//! Parameters of a query, as forms write them (pure).

use std::borrow::Cow;

/// Returns the parameters of a query, decoded. One without `=` has an empty value.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// Returns the values of one parameter.
pub(super) fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    parameters(query).filter(move |(found, _)| **found == *name.as_bytes()).map(|(_, value)| value)
}

/// Decodes `%XX` and `+` (WHATWG URL, "application/x-www-form-urlencoded"). A `%` that begins no escape stays.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    rest = after;
                    digit(*high) << 4 | digit(*low)
                }
                _ => b'%',
            },
            other => other,
        });
    }
    Cow::Owned(decoded)
}

fn digit(byte: u8) -> u8 {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_as_forms_write_them() {
        let found: Vec<_> = parameters("a=1&&b&c=%2f+%&a%3D=x=y&%zz=%4")
            .map(|(name, value)| {
                (String::from_utf8(name.into_owned()).unwrap(), String::from_utf8(value.into_owned()).unwrap())
            })
            .collect();
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, [("a", "1"), ("b", ""), ("c", "/ %"), ("a=", "x=y"), ("%zz", "%4")]);
        assert_eq!(values("a=1&a=2", "a").count(), 2);
        assert_eq!(values("", "").count(), 0);
    }
}
