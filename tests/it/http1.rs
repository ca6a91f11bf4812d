//! The HTTP/1.1 codec against hyper, on generated attacks and on what fuzzing found.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;

use http::{HeaderMap, Method, Uri};
use meshless::http1::Reject;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::corpus::{self, Recipe};
use crate::differential::{self, Agreement, End, Message, Oracle, Start};
use crate::invariants;

const CASES: u32 = 20_000;

fn recipes() -> impl Strategy<Value = Recipe> {
    let trick = (any::<u8>(), 0..10_000_usize, 0..10_000_usize);
    (0..100_usize, proptest::collection::vec(trick, 1..=3)).prop_map(|(base, tricks)| Recipe { base, tricks })
}

/// Compares many generated inputs; returns how many were taken and how often each reason refused one.
fn explore(compare: impl Fn(&Recipe) -> Result<Agreement, String>) -> (u32, BTreeMap<&'static str, u32>) {
    let (taken, refused) = (Cell::new(0), RefCell::new(BTreeMap::new()));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&recipes(), |recipe| {
            match compare(&recipe).map_err(TestCaseError::fail)?.end {
                End::Refused(reject) => *refused.borrow_mut().entry(reject.label()).or_insert(0) += 1,
                End::Closed => taken.set(taken.get() + 1),
                End::Truncated => {}
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    (taken.get(), refused.into_inner())
}

#[test]
fn valid_messages_are_taken_by_both() {
    let oracle = Oracle::new();
    let (requests, responses) = corpus::valid();
    for text in requests {
        let agreement = oracle.compare_requests(text.as_bytes()).unwrap_or_else(|difference| panic!("{difference}"));
        assert_eq!(agreement.end, End::Closed, "{text:?}");
        assert!(!agreement.messages.is_empty(), "{text:?}");
    }
    for text in responses {
        let agreement =
            oracle.compare_response(&Method::GET, text.as_bytes()).unwrap_or_else(|difference| panic!("{difference}"));
        assert_eq!((agreement.messages.len(), agreement.end), (1, End::Closed), "{text:?}");
    }
}

#[test]
fn a_difference_is_noticed() {
    let message = |path: &'static str, body: &str| Message {
        start: Start::Request(Method::GET, Uri::from_static(path)),
        headers: HeaderMap::new(),
        body: body.into(),
        trailers: HeaderMap::new(),
    };
    let refused = End::Refused(Reject::BareLineFeed);
    for (ours, end, theirs) in [
        (vec![message("/a", "")], End::Closed, vec![message("/b", "")]),
        (vec![message("/a", "x")], refused, vec![message("/a", "")]),
        // We took what hyper did not, or found fewer messages in the same bytes.
        (vec![message("/a", "")], refused, vec![]),
        (vec![message("/a", "")], End::Closed, vec![message("/a", ""), message("/b", "")]),
        (vec![], End::Truncated, vec![message("/a", "")]),
    ] {
        assert!(differential::judge(b"", ours, end, &theirs).is_err());
    }
    // A refusal is what we are for.
    assert!(differential::judge(b"", vec![], refused, &[message("/a", "")]).is_ok());
}

#[test]
fn attacks_on_requests_mean_the_same_to_hyper_or_are_refused() {
    let oracle = Oracle::new();
    let (taken, refused) = explore(|recipe| oracle.compare_requests(&corpus::requests(recipe)));
    // The generator must reach both sides of the line, and most of the rules, or it tests nothing.
    assert!(taken > CASES / 50, "only {taken} taken; refused: {refused:?}");
    assert!(refused.len() > 25, "{refused:?}");
}

#[test]
fn attacks_on_responses_mean_the_same_to_hyper_or_are_refused() {
    let oracle = Oracle::new();
    for method in [Method::GET, Method::HEAD] {
        let (taken, refused) = explore(|recipe| oracle.compare_response(&method, &corpus::response(recipe)));
        assert!(taken > CASES / 50, "only {taken} taken; refused: {refused:?}");
        assert!(refused.len() > 10, "{refused:?}");
    }
}

#[test]
fn generated_attacks_keep_the_invariants() {
    let config = Config { cases: CASES / 4, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&recipes(), |recipe| {
            let request = corpus::requests(&recipe);
            invariants::request_head(&request);
            invariants::response_head(&corpus::response(&recipe));
            // Whatever follows the head is as good a chunked body as any.
            let body = request.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
            invariants::chunked_body(&request[body..]);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn what_fuzzing_found_stays_found() {
    let oracle = Oracle::new();
    let differential = |bytes: &[u8]| invariants::differential(&oracle, bytes);
    replay("request_head", invariants::request_head);
    replay("response_head", invariants::response_head);
    replay("chunked_body", invariants::chunked_body);
    replay("differential", differential);
}

pub(crate) fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut seeds = 0;
    for entry in folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        check(&std::fs::read(&path).expect("a seed"));
        seeds += 1;
    }
    assert!(seeds > 0, "no seeds for {target}");
}
