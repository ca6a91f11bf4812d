use proptest::prelude::*;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn read(fields: &[(&'static str, &str)]) -> Incoming {
    Incoming::read(&headers(fields))
}

/// Our span in the trace that came in, or in a new one.
fn ours(incoming: &Incoming) -> Ours {
    let trace = incoming.parent().map_or_else(|| TraceId::from_random(1, 2), |(trace, _)| trace);
    Ours { trace, span: SpanId::from_random(0xaaaa), parent: SpanId::from_random(0xbbbb) }
}

fn carried(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = headers(fields);
    let incoming = Incoming::read(&headers);
    incoming.carry(&mut headers, &ours(&incoming));
    headers
}

#[test]
fn a_traceparent_is_read_and_its_flag_decides() {
    let incoming = read(&[("traceparent", PARENT)]);
    let (trace, span) = incoming.parent().unwrap();
    assert_eq!((trace.to_string().as_str(), span.to_string().as_str()), (TRACE, SPAN));
    assert_eq!(incoming.decision(), Some(true));
    assert_eq!(read(&[("traceparent", &PARENT.replace("-01", "-00"))]).decision(), Some(false));
    // Flags that are not known yet do not change what the known one says.
    assert_eq!(read(&[("traceparent", &PARENT.replace("-01", "-fe"))]).decision(), Some(false));
}

#[test]
fn what_is_no_traceparent_is_as_if_it_were_not_there() {
    for wrong in [
        "",
        "00",
        &PARENT.replace("-01", ""),
        &PARENT.replace("-01", "-1"),
        &PARENT.replace("-01", "-0x"),
        &PARENT.to_ascii_uppercase(),
        &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
        &PARENT.replace(SPAN, "0000000000000000"),
        &format!("ff{}", &PARENT[2..]),
        &format!("{PARENT}-extra"),
        &format!("{PARENT}0"),
        &format!("01{}extra", &PARENT[2..]),
        &PARENT.replace('-', "_"),
        &format!("0-0{}", &PARENT[3..]),
    ] {
        assert_eq!(read(&[("traceparent", wrong)]), Incoming::default(), "{wrong}");
    }
    assert_eq!(read(&[("traceparent", PARENT), ("traceparent", PARENT)]), Incoming::default());
}

#[test]
fn a_later_version_is_read_by_what_we_know_and_answered_in_ours() {
    for later in [format!("cc{}", &PARENT[2..]), format!("01{}-what-the-future-brings", &PARENT[2..])] {
        let incoming = read(&[("traceparent", &later)]);
        assert_eq!(incoming.parent().unwrap().0.to_string(), TRACE, "{later}");
        assert_eq!(carried(&[("traceparent", &later)])["traceparent"], format!("00-{TRACE}-000000000000aaaa-01"));
    }
}

#[test]
fn the_flag_for_random_ids_goes_on_and_flags_that_we_do_not_know_do_not() {
    let headers = carried(&[("traceparent", &PARENT.replace("-01", "-ff"))]);
    assert_eq!(headers["traceparent"], format!("00-{TRACE}-000000000000aaaa-03"));
}

#[test]
fn the_state_of_others_is_passed_on() {
    let headers = carried(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]);
    assert_eq!(headers.get_all("tracestate").iter().count(), 2);
    assert_eq!(trace_state(&headers), "a=1,b=2");
    // Without a parent it belongs to nothing.
    assert!(!carried(&[("traceparent", "nonsense"), ("tracestate", "a=1")]).contains_key("tracestate"));
}

#[test]
fn b3_is_read_in_each_of_its_forms() {
    let short = "a3ce929d0e0e4736";
    for (value, decision) in [
        (format!("{TRACE}-{SPAN}"), None),
        (format!("{TRACE}-{SPAN}-1"), Some(true)),
        (format!("{TRACE}-{SPAN}-d"), Some(true)),
        (format!("{TRACE}-{SPAN}-0-05e3ac9a4f6e3b90"), Some(false)),
        (format!("{short}-{SPAN}-1"), Some(true)),
    ] {
        let incoming = read(&[("b3", &value)]);
        assert_eq!((incoming.parent().is_some(), incoming.decision()), (true, decision), "{value}");
    }
    for (value, decision) in [("0", false), ("1", true), ("d", true)] {
        let incoming = read(&[("b3", value)]);
        assert_eq!((incoming.parent(), incoming.decision()), (None, Some(decision)), "{value}");
    }
    for wrong in ["", "2", "-", TRACE, &format!("{TRACE}-{SPAN}-x"), &format!("{TRACE}-{SPAN}-1-{SPAN}-1")] {
        assert_eq!(read(&[("b3", wrong)]), Incoming::default(), "{wrong}");
    }
}

#[test]
fn b3_in_several_fields_is_read_with_the_words_of_old_clients() {
    let ids = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
    for (field, value, decision) in [
        ("x-b3-sampled", "1", Some(true)),
        ("x-b3-sampled", "true", Some(true)),
        ("x-b3-sampled", "false", Some(false)),
        ("x-b3-flags", "1", Some(true)),
        ("x-b3-flags", "0", None),
    ] {
        let incoming = read(&[ids[0], ids[1], (field, value)]);
        assert_eq!((incoming.parent().is_some(), incoming.decision()), (true, decision), "{field}: {value}");
    }
    assert_eq!(read(&[("x-b3-sampled", "0")]).decision(), Some(false));
    assert_eq!(read(&[ids[0]]), Incoming::default());
}

#[test]
fn each_form_that_came_in_carries_our_span_and_no_other_form_is_added() {
    let single = format!("{TRACE}-{SPAN}-1");
    let headers = carried(&[("b3", &single)]);
    assert_eq!(headers["b3"], format!("{TRACE}-000000000000aaaa-1-000000000000bbbb"));
    assert_eq!(headers.len(), 1);

    let several = [("x-b3-traceid", "a3ce929d0e0e4736"), ("x-b3-spanid", SPAN), ("x-b3-flags", "1")];
    let headers = carried(&several);
    assert_eq!(headers["x-b3-traceid"], "a3ce929d0e0e4736");
    assert_eq!(
        (&headers["x-b3-spanid"], &headers["x-b3-parentspanid"]),
        (&HeaderValue::from_static("000000000000aaaa"), &HeaderValue::from_static("000000000000bbbb"))
    );
    assert!(!headers.contains_key("x-b3-sampled") && !headers.contains_key("traceparent"));

    let headers = carried(&[("traceparent", PARENT), ("b3", &single)]);
    assert!(
        headers["b3"].to_str().unwrap().contains("aaaa") && headers["traceparent"].to_str().unwrap().contains("aaaa")
    );
}

#[test]
fn a_decision_without_ids_gets_ids_in_its_own_form() {
    let headers = carried(&[("b3", "1")]);
    assert_eq!(headers["b3"], "00000000000000010000000000000002-000000000000aaaa-1-000000000000bbbb");
    assert_eq!(headers.len(), 1);
}

#[test]
fn a_form_that_names_another_trace_stays_as_it_is() {
    let other = format!("{}-{SPAN}-1", "1".repeat(32));
    let headers = carried(&[("traceparent", PARENT), ("b3", &other)]);
    assert_eq!(headers["b3"], other);
    assert_ne!(headers["traceparent"], PARENT);
}

#[test]
fn a_request_without_context_gets_a_traceparent() {
    let headers = carried(&[]);
    assert_eq!(headers["traceparent"], "00-00000000000000010000000000000002-000000000000aaaa-01");
}

#[test]
fn w3c_decides_before_b3() {
    let denied = PARENT.replace("-01", "-00");
    assert_eq!(read(&[("traceparent", &denied), ("b3", "1")]).decision(), Some(false));
    assert_eq!(read(&[("traceparent", "nonsense"), ("b3", "1")]).decision(), Some(true));
}

#[test]
fn a_share_includes_all_none_or_about_so_many() {
    let trace = |low| TraceId::from_random(7, low);
    assert!(is_included(trace(u64::MAX), threshold(1.0)));
    assert!(!is_included(trace(1), threshold(0.0)));
    let mut random = fastrand::Rng::with_seed(1);
    let hits = (0..100_000).filter(|_| is_included(trace(random.u64(..)), threshold(0.01))).count();
    assert!((900..1100).contains(&hits), "{hits}");
}

proptest! {
    #[test]
    fn nothing_that_a_client_sends_is_misread(value in "[ -~]{0,80}") {
        let fields = [("traceparent", value.as_str()), ("b3", &value), ("x-b3-traceid", &value), ("x-b3-spanid", &value)];
        let incoming = read(&fields);
        // What was read is there, digit by digit.
        if let Some((trace, span)) = incoming.parent() {
            let low = format!("{:016x}", trace.low());
            prop_assert!(value.contains(&low) && value.contains(&span.to_string()));
        }
    }

    #[test]
    fn what_we_write_is_what_the_next_hop_reads(high: u64, low: u64, span: u64, flags: u8, form in 0..4_u8) {
        let (trace, span) = (TraceId::from_random(high, low), SpanId::from_random(span));
        let (trace_text, span_text) = (trace.to_string(), span.to_string());
        let fields = match form {
            0 => vec![("traceparent", format!("00-{trace}-{span}-{flags:02x}"))],
            1 => vec![("b3", format!("{trace}-{span}-1"))],
            2 => vec![("x-b3-traceid", trace_text), ("x-b3-spanid", span_text)],
            _ => vec![],
        };
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut headers = headers(&fields);
        let incoming = Incoming::read(&headers);
        prop_assert_eq!(incoming.parent(), (form < 3).then_some((trace, span)));
        let ours = ours(&incoming);
        incoming.carry(&mut headers, &ours);
        let next = Incoming::read(&headers);
        prop_assert_eq!(next.parent(), Some((ours.trace, ours.span)));
        prop_assert_eq!(next.decision(), Some(true));
        // A further try writes over what the first one wrote.
        let again = Ours { span: SpanId::from_random(5), ..ours };
        incoming.carry(&mut headers, &again);
        prop_assert_eq!(Incoming::read(&headers).parent(), Some((ours.trace, again.span)));
    }
}
