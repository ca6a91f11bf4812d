//! Each rule about bodies is a test here.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::http1::head::{Framing, Reject};

const TRAILER_BYTES: usize = 8 * 1024;

#[derive(Debug, Default, PartialEq, Eq)]
struct Body {
    data: Vec<u8>,
    trailers: HeaderMap,
    complete: bool,
    left: usize,
}

/// Decodes `pieces` as they arrive, to the end, the first refusal or the last piece.
fn decode<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Body, Reject> {
    let mut decoder = Decoder::new(&framing, TRAILER_BYTES);
    let (mut buffer, mut body) = (BytesMut::new(), Body::default());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(data) => {
                    assert!(!data.is_empty());
                    body.data.extend_from_slice(&data);
                }
                Decoded::Trailers(trailers) => {
                    assert!(decoder.is_end() && !trailers.is_empty());
                    body.trailers = trailers;
                }
                Decoded::End => {
                    assert!(decoder.is_end());
                    body.complete = true;
                    break;
                }
                Decoded::NeedMore => break,
            }
        }
    }
    body.left = buffer.len();
    Ok(body)
}

fn chunks(text: &str) -> Result<Body, Reject> {
    decode(Framing::Chunked, [text.as_bytes()])
}

fn refused(text: &str) -> &'static str {
    chunks(text).expect_err(text).label()
}

#[test]
fn a_length_takes_so_many_bytes_and_no_more() {
    let body = decode(Framing::Length(5), [&b"he"[..], b"llo", b"GET /"]).unwrap();
    assert_eq!((body.data.as_slice(), body.complete, body.left), (&b"hello"[..], true, 5));
    assert!(!decode(Framing::Length(5), [&b"hell"[..]]).unwrap().complete);
}

#[test]
fn a_body_is_at_its_end_with_its_last_byte() {
    let mut decoder = Decoder::new(&Framing::Length(2), 0);
    assert_eq!((decoder.is_end(), decoder.remaining()), (false, Some(2)));
    decoder.decode(&mut BytesMut::from("ab")).unwrap();
    assert_eq!((decoder.is_end(), decoder.remaining()), (true, Some(0)));
    for framing in [Framing::None, Framing::Length(0)] {
        assert!(Decoder::new(&framing, 0).is_end());
    }
}

#[test]
fn only_a_body_without_framing_may_end_with_the_connection() {
    assert_eq!(Decoder::new(&Framing::UntilClose, 0).end_of_input(), Ok(()));
    assert_eq!(Decoder::new(&Framing::None, 0).end_of_input(), Ok(()));
    for framing in [Framing::Length(1), Framing::Chunked] {
        assert_eq!(Decoder::new(&framing, 0).end_of_input(), Err(Reject::Truncated));
    }
    let mut decoder = Decoder::new(&Framing::Chunked, 0);
    // All data is there, but not the end of it.
    decoder.decode(&mut BytesMut::from("1\r\na\r\n")).unwrap();
    assert_eq!(decoder.end_of_input(), Err(Reject::Truncated));
}

#[test]
fn chunks_are_joined_and_what_follows_stays() {
    let body = chunks("5\r\nhello\r\n1\r\n \r\n0005\r\nworld\r\n0\r\n\r\nGET /").unwrap();
    assert_eq!((body.data.as_slice(), body.complete, body.left), (&b"hello world"[..], true, 5));
    assert_eq!(chunks("A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n").unwrap().data.len(), 20);
}

#[test]
fn a_chunk_size_is_hexadecimal_digits_and_nothing_else() {
    for text in [
        "\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\t\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "5,\r\nhello\r\n",
        "g\r\n",
        "5\rhello",
        "5\u{b}\r\n",
        "_5\r\n",
        "5_0\r\n",
        "\u{665}\r\n",
        ";a\r\n",
        "5\nhello\n",
        "\n5\r\n",
    ] {
        assert_eq!(refused(text), "chunk_size", "{text:?}");
    }
}

#[test]
fn a_chunk_size_has_16_digits_at_most_and_fits_a_signed_number() {
    assert!(chunks("7fffffffffffffff\r\nx").is_ok());
    assert!(chunks("0000000000000001\r\nx\r\n0\r\n\r\n").unwrap().complete);
    for text in ["8000000000000000\r\n", "ffffffffffffffff\r\n", "00000000000000001\r\nx", "00000000000000000"] {
        assert_eq!(refused(text), "chunk_size", "{text:?}");
    }
}

#[test]
fn a_bare_lf_in_chunked_framing_is_refused() {
    assert_eq!(refused("5\nhello\r\n0\r\n\r\n"), "chunk_size");
    assert_eq!(refused("5\r\nhello\n0\r\n\r\n"), "chunk_end");
    assert_eq!(refused("0\r\n\n"), "bare_lf");
    assert_eq!(refused("0\r\nx: y\n\r\n"), "bare_lf");
    assert_eq!(refused("5;a\nb\r\nhello\r\n0\r\n\r\n"), "chunk_size");
}

#[test]
fn data_longer_than_its_chunk_is_refused() {
    assert_eq!(refused("4\r\nhello\r\n0\r\n\r\n"), "chunk_end");
    assert_eq!(refused("5\r\nhello\rX"), "chunk_end");
}

#[test]
fn extensions_are_checked_and_dropped() {
    for text in
        ["1;a\r\nx\r\n0\r\n\r\n", "1;a=b;c=\"d;\\\"\t\u{e9}\"\r\nx\r\n0;end\r\n\r\n", "1;a=\"\"\r\nx\r\n0\r\n\r\n"]
    {
        let body = chunks(text).expect(text);
        assert_eq!((body.data.as_slice(), body.complete), (&b"x"[..], true));
    }
    for extension in [
        ";",
        ";;a",
        ";a=",
        ";=b",
        ";a b",
        "; a",
        ";a =b",
        ";a=\"b",
        ";a=\"b\"c",
        ";a=\"\\",
        ";a=b\"",
        ";a\0",
        ";a=\"\u{1}\"",
        ";\u{e9}",
    ] {
        let text = format!("1{extension}\r\nx\r\n0\r\n\r\n");
        assert_eq!(refused(&text), "chunk_extension", "{text:?}");
    }
    assert_eq!(refused("1;a\rb\r\nx\r\n"), "chunk_extension");
}

#[test]
fn all_extensions_of_a_message_together_are_bounded() {
    let chunk = |length: usize| format!("1;{}\r\nx\r\n", "a".repeat(length - 1));
    assert!(chunks(&chunk(1024)).is_ok());
    assert_eq!(refused(&chunk(1025)), "chunk_extensions_too_long");
    assert_eq!(refused(&format!("{}{}", chunk(1000), chunk(25))), "chunk_extensions_too_long");
    // One without an end is refused as soon as it is too long.
    assert_eq!(refused(&format!("1;{}", "a".repeat(1025))), "chunk_extensions_too_long");
}

#[test]
fn trailers_are_given_out_after_the_data() {
    let body = chunks("1\r\nx\r\n0\r\nGrpc-Status: 0\r\nx-sum:\tabc \r\nx-sum: d\r\n\r\nrest").unwrap();
    assert_eq!((body.complete, body.left), (true, 4));
    assert_eq!(body.trailers["grpc-status"], "0");
    assert_eq!(body.trailers.get_all("x-sum").iter().count(), 2);
}

#[test]
fn trailers_that_could_be_taken_for_framing_routing_or_credentials_are_refused() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "authorization",
        "cookie",
        "set-cookie",
        "content-type",
        "content-encoding",
        "trailer",
        "te",
        "connection",
        "x-forwarded-for",
        "x-spiffe-id",
        "expect",
        "content_length",
    ] {
        assert_eq!(
            chunks(&format!("0\r\nok: 1\r\n{name}: 1\r\n\r\n")).unwrap_err(),
            Reject::TrailerForbidden { line: 2 },
            "{name}"
        );
    }
}

#[test]
fn malformed_trailers_are_refused() {
    for (text, label) in [
        ("0\r\nx: a\r\n b\r\n\r\n", "field_folded"),
        ("0\r\nx : a\r\n\r\n", "field_space_before_colon"),
        ("0\r\nx: a\0b\r\n\r\n", "field_control"),
        ("0\r\nx: a\rb\r\n\r\n", "bare_cr"),
        ("0\r\nnonsense\r\n\r\n", "field_name"),
        ("0\r\nx_y: a\r\n\r\n", "field_underscore"),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", "field_space_before_colon"),
    ] {
        assert_eq!(refused(text), label, "{text:?}");
    }
    assert_eq!(refused(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(200))), "too_many_fields");
}

#[test]
fn the_trailer_section_is_bounded() {
    let section = |length: usize| format!("0\r\nx: {}\r\n\r\n", "y".repeat(length - 7));
    assert!(chunks(&section(TRAILER_BYTES)).unwrap().complete);
    assert_eq!(refused(&section(TRAILER_BYTES + 1)), "trailers_too_large");
    assert_eq!(refused(&format!("0\r\nx: {}", "y".repeat(TRAILER_BYTES))), "trailers_too_large");
    // A limit of nothing still lets a body end.
    let mut decoder = Decoder::new(&Framing::Chunked, 0);
    assert_eq!(decoder.decode(&mut BytesMut::from("0\r\n\r\n")), Ok(Decoded::End));
}

#[test]
fn the_encoder_holds_a_body_to_its_length() {
    let mut out = BytesMut::new();
    let mut encoder = Encoder::new(&Framing::Length(5));
    encoder.data(&mut out, b"hel").unwrap();
    assert_eq!(encoder.data(&mut out, b"lo!"), Err(BodyLength::Long));
    encoder.data(&mut out, b"l").unwrap();
    assert!(!encoder.is_complete());
    assert_eq!(encoder.end(&mut out, None), Err(BodyLength::Short { missing: 1 }));
    assert_eq!(&out[..], b"hell");
    assert_eq!(Encoder::new(&Framing::None).data(&mut out, b"x"), Err(BodyLength::Long));
}

#[test]
fn nothing_can_be_written_after_the_end() {
    let mut out = BytesMut::new();
    let mut encoder = Encoder::new(&Framing::Chunked);
    encoder.end(&mut out, None).unwrap();
    assert_eq!(encoder.data(&mut out, b"x"), Err(BodyLength::Long));
    encoder.end(&mut out, None).unwrap();
    assert_eq!(&out[..], b"0\r\n\r\n");
}

#[test]
fn no_data_does_not_end_a_chunked_body() {
    let mut out = BytesMut::new();
    let mut encoder = Encoder::new(&Framing::Chunked);
    encoder.data(&mut out, b"").unwrap();
    encoder.data(&mut out, b"x").unwrap();
    assert_eq!(&out[..], b"1\r\nx\r\n");
}

#[test]
fn prefix_and_suffix_frame_data_that_is_not_copied() {
    let mut encoder = Encoder::new(&Framing::Chunked);
    assert_eq!(encoder.prefix(0x1_2ab).unwrap().as_ref(), b"12ab\r\n");
    assert_eq!(encoder.prefix(usize::MAX).unwrap().as_ref(), b"ffffffffffffffff\r\n");
    assert_eq!(encoder.suffix(), b"\r\n");
    let mut encoder = Encoder::new(&Framing::Length(3));
    assert_eq!((encoder.prefix(3).unwrap().as_ref(), encoder.suffix()), (&b""[..], &b""[..]));
    assert!(encoder.is_complete());
}

#[test]
fn forbidden_trailers_are_not_written() {
    let mut trailers = HeaderMap::new();
    trailers.insert("content-length", HeaderValue::from_static("5"));
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut out = BytesMut::new();
    Encoder::new(&Framing::Chunked).end(&mut out, Some(&trailers)).unwrap();
    assert_eq!(&out[..], b"0\r\ngrpc-status: 0\r\n\r\n");
}

/// Cuts `bytes` at every place where `cuts`, repeated, is true.
fn cut<'a>(bytes: &'a [u8], cuts: &[bool]) -> Vec<&'a [u8]> {
    let mut cuts = cuts.iter().copied().cycle();
    bytes.split_inclusive(|_| cuts.next().unwrap_or(false)).collect()
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_however_it_is_split(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        trailers in proptest::collection::vec(("x-[a-z]{1,8}", "[a-z]{0,8}"), 0..4),
        chunked: bool,
        cuts in proptest::collection::vec(any::<bool>(), 1..40),
    ) {
        let data = pieces.concat();
        let framing = if chunked { Framing::Chunked } else { Framing::Length(data.len() as u64) };
        let mut fields = HeaderMap::new();
        for (name, value) in &trailers {
            fields.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let mut out = BytesMut::new();
        let mut encoder = Encoder::new(&framing);
        for piece in &pieces {
            encoder.data(&mut out, piece).unwrap();
        }
        encoder.end(&mut out, Some(&fields)).unwrap();
        out.extend_from_slice(b"next");
        let body = decode(framing, cut(&out, &cuts)).unwrap();
        prop_assert!(body.complete);
        prop_assert_eq!(body.data, data);
        prop_assert_eq!(body.left, 4);
        prop_assert_eq!(body.trailers, if chunked { fields } else { HeaderMap::new() });
    }

    #[test]
    fn a_split_changes_nothing_about_any_bytes(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(&b"\r\n\r\n0123;=\"ax:"[..])], 0..120),
        cuts in proptest::collection::vec(any::<bool>(), 1..40),
    ) {
        let whole = decode(Framing::Chunked, [bytes.as_slice()]);
        let split = decode(Framing::Chunked, cut(&bytes, &cuts));
        match (whole, split) {
            (Ok(whole), Ok(split)) => prop_assert_eq!(whole, split),
            // The refusal may come earlier, when less of the line is known.
            (Err(_), Err(_)) => {}
            (whole, split) => prop_assert!(false, "{:?} but {:?}", whole, split),
        }
    }
}
