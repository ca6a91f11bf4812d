//! What a workload shows of its signature, read in the one form that it has (pure).
//!
//! Whether the signature is right only STS knows. Here it is seen to that it covers all of what we send, and was made just now.

use std::time::{Duration, SystemTime};

use super::request::{Region, Unsigned};
use crate::attest::evidence::refused;
use crate::attest::{Rejected, when};

/// How old a signature may be, and how far ahead the workload's clock (security paper, 2).
const MAX_AGE: Duration = Duration::from_mins(5);

/// Longest session token, in bytes. AWS promises no bound; they have about one KiB, with many tags two.
const MAX_TOKEN: usize = 8 * 1024;

/// `Authorization` of Signature Version 4.
pub(super) struct Authorization;

impl Authorization {
    /// Checks what was shown: date, session token, scope, and that exactly the headers that we send are signed.
    pub(super) fn check(
        authorization: &str,
        unsigned: &Unsigned,
        date: &str,
        token: Option<&str>,
        region: &Region,
        now: SystemTime,
    ) -> Result<(), Rejected> {
        let at = when::basic(date).ok_or_else(|| refused("malformed", "`date` is not `YYYYMMDDTHHMMSSZ`"))?;
        if now.duration_since(at).unwrap_or_default() > MAX_AGE {
            return Err(refused("expired", "the signature is older than 5 min; compare the clocks"));
        }
        if at.duration_since(now).unwrap_or_default() > MAX_AGE {
            return Err(refused("not_yet_valid", "the signature is more than 5 min ahead; compare the clocks"));
        }
        let is_token = |text: &str| {
            (1..=MAX_TOKEN).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_.~%".contains(&byte))
        };
        if !token.is_none_or(is_token) {
            return Err(refused("malformed", "`security_token` is no session token"));
        }
        let malformed = || refused("malformed", "`authorization` is no signature of version 4");
        let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=").ok_or_else(malformed)?;
        let (credential, rest) = rest.split_once(", SignedHeaders=").ok_or_else(malformed)?;
        let (headers, signature) = rest.split_once(", Signature=").ok_or_else(malformed)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if signature.len() != 64 || !signature.bytes().all(is_hex) {
            return Err(malformed());
        }
        let (id, scope) = credential.split_once('/').ok_or_else(malformed)?;
        if !(16..=128).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(malformed());
        }
        let day = date.get(..8).unwrap_or_default();
        if scope != format!("{day}/{region}/sts/aws4_request") {
            return Err(refused("scope", "it was signed for another day, region or service"));
        }
        // A header that we send and that is not signed could be anybody's.
        if headers != unsigned.signed_headers(token.is_some()) {
            return Err(refused("signed_headers", "other headers were signed than those that the authority sends"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::attest::Challenge;

    const DATE: &str = "20260102T030405Z";
    const SIGNED: &str = "accept;content-type;host;x-amz-date;x-meshless-authority;x-meshless-key;x-meshless-nonce";

    fn authorization(id: &str, scope: &str, headers: &str, signature: &str) -> String {
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={headers}, Signature={signature}")
    }

    fn good() -> String {
        authorization("AKIDEXAMPLE123456", "20260102/eu-west-1/sts/aws4_request", SIGNED, &"0a".repeat(32))
    }

    fn check(authorization: &str, date: &str, token: Option<&str>) -> Result<(), &'static str> {
        let region = Region::parse("eu-west-1").unwrap();
        let challenge = Challenge { authority: "a".to_owned(), nonce: "n".to_owned(), key: "k".to_owned() };
        let now = UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        Authorization::check(authorization, &Unsigned::new(&region, &challenge), date, token, &region, now).map_err(
            |rejected| match rejected {
                Rejected::Refused { reason, .. } => reason,
                Rejected::Unavailable(_) => "unavailable",
            },
        )
    }

    #[test]
    fn a_signature_over_exactly_what_is_sent_is_sent() {
        assert_eq!(check(&good(), DATE, None), Ok(()));
        let with_token = good().replace("x-amz-date;", "x-amz-date;x-amz-security-token;");
        assert_eq!(check(&with_token, DATE, Some("FwoGZXIvYXdzE+/=")), Ok(()));
    }

    #[test]
    fn all_else_is_refused_before_anybody_is_asked() {
        let signature = "0a".repeat(32);
        let scope = "20260102/eu-west-1/sts/aws4_request";
        let id = "AKIDEXAMPLE123456";
        for (text, reason) in [
            (String::new(), "malformed"),
            (good().replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "malformed"),
            (good().replace(", ", ","), "malformed"),
            (good() + "\r\nhost: evil.example", "malformed"),
            (good() + ", Signature=00", "malformed"),
            (good().replace("0a", "0A"), "malformed"),
            (authorization("AKID", scope, SIGNED, &signature), "malformed"),
            (authorization("AKIDEXAMPLE/23456", scope, SIGNED, &signature), "malformed"),
            (authorization(id, "20260102/eu-west-1/iam/aws4_request", SIGNED, &signature), "scope"),
            (authorization(id, "20260102/us-east-1/sts/aws4_request", SIGNED, &signature), "scope"),
            (authorization(id, "20260101/eu-west-1/sts/aws4_request", SIGNED, &signature), "scope"),
            (good().replace(";x-meshless-nonce", ""), "signed_headers"),
            (good().replace("x-meshless-authority;", ""), "signed_headers"),
            (good().replace("x-meshless-key;", ""), "signed_headers"),
            (good().replace("host;", ""), "signed_headers"),
            (good().replace("accept;", ""), "signed_headers"),
            (good().replace("accept;", "accept;accept;"), "signed_headers"),
            (good().replace("x-meshless-nonce", "x-meshless-nonce;x-more"), "signed_headers"),
            (good().replace("x-amz-date;", "x-amz-date;x-amz-security-token;"), "signed_headers"),
        ] {
            assert_eq!(check(&text, DATE, None), Err(reason), "{text}");
        }
        assert_eq!(check(&good(), DATE, Some("token")), Err("signed_headers"), "a token that was not signed");
        let with_token = good().replace("x-amz-date;", "x-amz-date;x-amz-security-token;");
        for token in ["", "a b", "a\r\nx-evil: 1", "é"] {
            assert_eq!(check(&with_token, DATE, Some(token)), Err("malformed"), "{token:?}");
        }
        assert_eq!(check(&with_token, DATE, Some(&"a".repeat(8193))), Err("malformed"));
    }

    #[test]
    fn a_signature_is_of_now() {
        for (date, reason) in [
            ("20260102T025904Z", "expired"),
            ("20260102T030906Z", "not_yet_valid"),
            ("20250102T030405Z", "expired"),
            ("2026-01-02T03:04:05Z", "malformed"),
            ("20260102T030405Z\n", "malformed"),
        ] {
            assert_eq!(check(&good(), date, None), Err(reason), "{date:?}");
        }
        for date in ["20260102T025905Z", "20260102T030905Z"] {
            assert_eq!(check(&good(), date, None), Ok(()), "{date}");
        }
    }
}
