//! The little XML that EC2 and STS answer in, as a tree (pure).

use xmlparser::{ElementEnd, Token, Tokenizer};

/// Most elements inside each other; EC2's answers have seven.
const MAX_DEPTH: usize = 32;

/// An element, with the text and the elements within.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element {
    name: String,
    text: String,
    within: Vec<Self>,
}

impl Element {
    /// Returns every element of that name directly within.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.within.iter().filter(move |element| element.name == name)
    }

    /// Returns the text of the first element of that name directly within, if it is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.within
            .iter()
            .find(|element| element.name == name)
            .map(|element| element.text.trim())
            .filter(|text| !text.is_empty())
    }
}

/// Reads an answer; every element must end, or a part is missing.
pub(super) fn parse(bytes: &[u8]) -> Result<Element, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    // What is open, the innermost last; below it all stands what the document has.
    let mut open = vec![Element::default()];
    for token in Tokenizer::from(text) {
        match token.map_err(|error| error.to_string())? {
            Token::ElementStart { local, .. } => {
                if open.len() > MAX_DEPTH {
                    return Err(format!("more than {MAX_DEPTH} elements inside each other"));
                }
                open.push(Element { name: local.as_str().to_owned(), ..Element::default() });
            }
            Token::ElementEnd { end: ElementEnd::Open, .. } => {}
            Token::ElementEnd { end: ElementEnd::Close(_, name), .. }
                if open.last().is_none_or(|element| element.name != name.as_str()) =>
            {
                return Err(format!("`{name}` ends where it is not open"));
            }
            Token::ElementEnd { .. } => {
                if let Some(element) = open.pop()
                    && let Some(around) = open.last_mut()
                {
                    around.within.push(element);
                }
            }
            Token::Text { text } => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&plain(text.as_str()));
                }
            }
            _ => {}
        }
    }
    match open.as_mut_slice() {
        [document] => document.within.pop().ok_or_else(|| "it is empty".to_owned()),
        _ => Err("it breaks off".to_owned()),
    }
}

/// The five entities that XML knows; nothing that is read here has others.
fn plain(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_name() {
        let text = "<?xml version=\"1.0\"?>\n<R xmlns=\"http://x/\"><set> <item><id>i-1</id></item><item><id>a&amp;b</id><none/></item></set></R>";
        let answer = parse(text.as_bytes()).unwrap();
        let ids: Vec<_> = answer.all("set").flat_map(|set| set.all("item")).map(|item| item.text("id")).collect();
        assert_eq!(ids, [Some("i-1"), Some("a&b")]);
        assert_eq!(answer.text("none"), None);
    }

    #[test]
    fn half_an_answer_is_none() {
        for text in ["", "<R><a>1</a>", "<R><a>1</R>", "<R>", "</R>", "\u{0}\u{1}{", &"<a>".repeat(100)] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
