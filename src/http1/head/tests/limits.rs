//! How large a head may be.

use super::*;

#[test]
fn a_head_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let limits = |bytes| HeadLimits { bytes, ..HeadLimits::REQUEST };
    assert!(request_with(text.as_bytes(), &limits(text.len())).unwrap().is_some());
    let refusal = request_with(text.as_bytes(), &limits(text.len() - 1)).unwrap_err();
    assert_eq!((refusal.label(), refusal.status().as_u16()), ("head_too_large", 431));
    // The same while it is incomplete: nothing is waited for that cannot fit.
    let incomplete = &text.as_bytes()[..text.len() - 1];
    assert_eq!(request_with(incomplete, &limits(text.len() - 2)).unwrap_err(), Reject::HeadTooLarge);
    // The body that follows does not count.
    let with_body = format!("{text}{}", "x".repeat(100));
    assert!(request_with(with_body.as_bytes(), &limits(text.len())).unwrap().is_some());
}

#[test]
fn a_request_line_beyond_the_limit_is_414() {
    let text = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000));
    assert_eq!(request(&text).unwrap_err().status().as_u16(), 414);
}

#[test]
fn more_fields_than_the_limit_are_431() {
    let fields = |count: usize| "X: y\r\n".repeat(count);
    assert!(get(&fields(99)).is_ok());
    let refusal = get(&fields(100)).unwrap_err();
    assert_eq!((refusal.label(), refusal.status().as_u16()), ("too_many_fields", 431));
}

#[test]
fn a_limit_beyond_the_stack_holds_as_well() {
    let limits = HeadLimits { headers: 300, ..HeadLimits::REQUEST };
    let text = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(request_with(text(299).as_bytes(), &limits).unwrap().unwrap().headers.len(), 300);
    assert_eq!(request_with(text(300).as_bytes(), &limits).unwrap_err(), Reject::TooManyFields);
}
