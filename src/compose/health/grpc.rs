//! The messages of `grpc.health.v1.Health/Check`, framed (pure): one string there, one number back.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protobuf::{self, Malformed, Value};

/// What a server says of a service (`HealthCheckResponse.ServingStatus`).
const SERVING: u64 = 1;
/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// `HealthCheckRequest { service }`, framed.
pub(super) fn request(service: &str) -> Bytes {
    let mut message = protobuf::Message::default();
    message.bytes(1, service.as_bytes());
    let message = message.into_bytes();
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

/// Reads a framed `HealthCheckResponse`; the error says why it is not `SERVING`.
pub(super) fn is_serving(body: &[u8]) -> Result<(), String> {
    let malformed = || "the answer is no HealthCheckResponse".to_owned();
    let (prefix, message) = body.split_at_checked(PREFIX).ok_or_else(malformed)?;
    let (compressed, length) = prefix.split_first().ok_or_else(malformed)?;
    let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    if *compressed != 0 || length != message.len() {
        return Err(malformed());
    }
    match status(message).map_err(|Malformed| malformed())? {
        SERVING => Ok(()),
        0 => Err("UNKNOWN".to_owned()),
        2 => Err("NOT_SERVING".to_owned()),
        3 => Err("SERVICE_UNKNOWN".to_owned()),
        other => Err(format!("status {other}")),
    }
}

/// Field 1 of the message, 0 where it is left out; other fields are passed over.
fn status(mut message: &[u8]) -> Result<u64, Malformed> {
    let mut status = 0;
    while let Some((field, value)) = protobuf::next_field(&mut message)? {
        if let (1, Value::Number(number)) = (field, value) {
            status = number;
        }
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_request_has_the_bytes_that_protoc_makes() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        assert_eq!(&request(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn only_serving_is_good() {
        assert_eq!(is_serving(b"\0\0\0\0\x02\x08\x01"), Ok(()));
        assert_eq!(is_serving(b"\0\0\0\0\x02\x08\x02"), Err("NOT_SERVING".to_owned()));
        assert_eq!(is_serving(b"\0\0\0\0\x00"), Err("UNKNOWN".to_owned()));
        assert_eq!(is_serving(b"\0\0\0\0\x06\x12\x02hi\x08\x01"), Ok(()), "a field of a later version");
        for broken in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02\x08", b"\x01\0\0\0\x02\x08\x01", b"\0\0\0\0\x02\x0b\x01"] {
            assert_eq!(is_serving(broken), Err("the answer is no HealthCheckResponse".to_owned()), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = is_serving(&body);
        }
    }
}
