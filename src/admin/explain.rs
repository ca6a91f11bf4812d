//! `/explain`: a question as a query, and back.

use std::fmt::Write as _;

use http::StatusCode;

use super::answer::{Answer, decode, error, json};
use super::view::View;
use crate::explain::{Question, Refusal};

/// Answers a question.
pub(super) fn answer(view: &dyn View, query: Option<&str>) -> Answer {
    match question(query.unwrap_or_default()).and_then(|question| view.explain(&question)) {
        Ok(explanation) => json(StatusCode::OK, &explanation),
        Err(refusal) => error(StatusCode::BAD_REQUEST, &refusal.reason, &refusal.hint),
    }
}

/// Reads the question that a query asks.
fn question(query: &str) -> Result<Question, Refusal> {
    let hint = "GET /explain?method=GET&url=http://HOST/PATH, percent-encoded, and as wanted listener, header=NAME:VALUE \
                (again for more), from, address, seed";
    let refuse = |reason: String| Refusal::new(reason, hint);
    let mut question = Question::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value).ok_or_else(|| refuse(format!("`{name}` is not percent-encoded UTF-8")))?;
        let no_number = || refuse(format!("`{value}` is no value of `{name}`"));
        match name {
            "method" => question.method = value,
            "url" => question.url = value,
            "listener" => question.listener = Some(value),
            "header" => {
                let (name, value) = value.split_once(':').ok_or_else(no_number)?;
                question.headers.push((name.to_owned(), value.to_owned()));
            }
            "from" => question.from = Some(value),
            "address" => question.address = Some(value.parse().map_err(|_| no_number())?),
            "seed" => question.seed = Some(value.parse().map_err(|_| no_number())?),
            other => return Err(refuse(format!("`{other}` is nothing that can be asked"))),
        }
    }
    if question.url.is_empty() {
        return Err(refuse("`url` is missing".to_owned()));
    }
    Ok(question)
}

/// Writes a question as the path to ask.
pub fn path(question: &Question) -> String {
    let mut path = "/explain?url=".to_owned();
    encode(&mut path, &question.url);
    let mut add = |name: &str, value: &str| {
        path.push('&');
        path.push_str(name);
        path.push('=');
        encode(&mut path, value);
    };
    if !question.method.is_empty() {
        add("method", &question.method);
    }
    if let Some(listener) = &question.listener {
        add("listener", listener);
    }
    for (name, value) in &question.headers {
        add("header", &format!("{name}:{value}"));
    }
    if let Some(from) = &question.from {
        add("from", from);
    }
    if let Some(address) = &question.address {
        add("address", &address.to_string());
    }
    if let Some(seed) = question.seed {
        add("seed", &seed.to_string());
    }
    path
}

fn encode(path: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_goes_to_a_query_and_back() {
        let asked = Question {
            listener: Some("edge & more".to_owned()),
            method: "POST".to_owned(),
            url: "http://a.example:81/x y?b=1&c=%20#d".to_owned(),
            headers: vec![("x-a".to_owned(), "b: c=d&é".to_owned()), ("x-a".to_owned(), String::new())],
            from: Some("spiffe://example.org/svc/web".to_owned()),
            address: Some([10, 0, 0, 1].into()),
            seed: Some(7),
        };
        let path = path(&asked);
        assert_eq!(question(path.strip_prefix("/explain?").unwrap()), Ok(asked));
    }

    #[test]
    fn a_query_that_asks_nothing_is_refused_with_what_can_be_asked() {
        for (query, reason) in [
            ("", "`url` is missing"),
            ("url=%2", "not percent-encoded"),
            ("url=a&ulr=b", "`ulr` is nothing"),
            ("url=a&header=b", "`b` is no value of `header`"),
            ("url=a&address=b", "`b` is no value of `address`"),
        ] {
            let refusal = question(query).unwrap_err();
            assert!(refusal.reason.contains(reason) && refusal.hint.contains("header=NAME:VALUE"), "{refusal:?}");
        }
    }
}
