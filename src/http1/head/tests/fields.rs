//! Names and values.

use super::*;

#[test]
fn folding_is_refused() {
    assert_eq!(get("X: a\r\n b\r\n").unwrap_err(), Reject::FieldFolded { line: 4 });
    assert_eq!(get_refused("X: a\r\n\tb\r\n"), "field_folded");
    assert_eq!(get_refused("X:\r\n b\r\n"), "field_folded");
    assert_eq!(refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), "field_folded");
}

#[test]
fn space_before_the_colon_is_refused() {
    for fields in ["X : a\r\n", "X\t: a\r\n", "Content-Length : 3\r\n", "Transfer-Encoding : chunked\r\n"] {
        assert_eq!(get_refused(fields), "field_space_before_colon", "{fields:?}");
    }
}

#[test]
fn a_name_that_is_not_a_token_is_refused() {
    for fields in [
        ": a\r\n",
        "X(: a\r\n",
        "X\u{e9}: a\r\n",
        "X/Y: a\r\n",
        "X\0: a\r\n",
        "no colon\r\n",
        "nocolon\r\n",
        "\u{7f}: a\r\n",
    ] {
        let label = get_refused(fields);
        assert!(matches!(label, "field_name" | "field_space_before_colon"), "{fields:?}: {label}");
    }
}

#[test]
fn a_control_byte_in_a_value_is_refused() {
    for byte in (0..32_u8).chain([127]).filter(|byte| !b"\t\r\n".contains(byte)) {
        let fields = format!("X: a{}b\r\n", char::from(byte));
        assert_eq!(get_refused(&fields), "field_control", "{byte}");
        assert_eq!(get_refused(&format!("X: {}\r\n", char::from(byte))), "field_control", "{byte}");
    }
    let head = get("X: \t a\tb\u{e9} \t\r\nY:\r\nZ: \r\n").unwrap();
    assert_eq!(head.headers["x"].as_bytes(), "a\tb\u{e9}".as_bytes());
    assert_eq!((head.headers["y"].as_bytes(), head.headers["z"].as_bytes()), (&b""[..], &b""[..]));
}

#[test]
fn names_with_an_underscore_are_refused_by_default() {
    assert_eq!(get("X_Y: a\r\n").unwrap_err(), Reject::FieldUnderscore { line: 3 });
}

#[test]
fn underscore_twins_are_refused_even_where_underscores_pass() {
    let limits = HeadLimits { underscores: Underscores::Pass, ..HeadLimits::REQUEST };
    let with =
        |field: &str| request_with(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}: 1\r\n\r\n").as_bytes(), &limits);
    assert!(with("X_Y").unwrap().is_some());
    for field in ["Content_Length", "TRANSFER_ENCODING", "X_Forwarded_For", "x-forwarded_proto", "X_SPIFFE_ID"] {
        assert_eq!(with(field).unwrap_err().label(), "field_underscore", "{field}");
    }
    assert_eq!(response("HTTP/1.1 200 OK\r\ncontent_length: 1\r\n\r\n").unwrap_err().label(), "field_underscore");
    assert!(response("HTTP/1.1 200 OK\r\nx_y: 1\r\ncontent-length: 0\r\n\r\n").is_ok());
}

#[test]
fn standard_and_repeated_fields_are_kept_in_order() {
    let head = get("Accept: a\r\nACCEPT: b\r\naccept: c\r\n").unwrap();
    let values: Vec<_> = head.headers.get_all("accept").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(values, ["a", "b", "c"]);
}
