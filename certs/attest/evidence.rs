//! What every attestor does with evidence first, and how it refuses.

use serde::Deserialize;

use super::Rejected;

/// Reads evidence in its attestor's form; what is more, less or other is refused.
pub(super) fn read<'a, T: Deserialize<'a>>(evidence: &'a serde_json::Value) -> Result<T, Rejected> {
    T::deserialize(evidence).map_err(|error| refused("malformed", format!("not the form of this attestor: {error}")))
}

/// Refuses: `reason` is the word in metrics and the audit log, `why` is for the authority's own log.
pub(super) fn refused(reason: &'static str, why: impl Into<String>) -> Rejected {
    Rejected::Refused { reason, why: why.into() }
}

/// Returns SHA-256, hexadecimal, lower case.
pub(super) fn fingerprint(bytes: &[u8]) -> String {
    crate::hex(&crate::fingerprint(bytes))
}

/// What somebody else sent, as a log shows it: short and on one line.
pub(super) fn shown(text: &str) -> String {
    const SHOWN: usize = 100;
    text.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

/// Tells whether a text is the number of an account of AWS.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Tells whether a text has the form of a region of AWS, such as `us-gov-west-1`: it becomes a part of a host's name.
pub(super) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    text.len() <= 32
        && words.len() >= 2
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_nothing_in_it_that_could_change_a_host() {
        for region in ["eu-west-1", "us-gov-west-1", "ap-southeast-10", "us-isob-east-1", "eusc-de-east-1"] {
            assert!(is_region(region), "{region}");
        }
        for other in [
            "",
            "-",
            "eu-west",
            "eu-west-",
            "1",
            "eu-1",
            "eu--1",
            "EU-west-1",
            "eu-west-1.evil.example/",
            "eu-west-1@evil.example",
            "eu-west-1#",
            "evil.example/?-a-1",
            "eu-west-1\r\nhost: a",
        ] {
            assert!(!is_region(other), "{other:?}");
        }
        assert!(is_account("123456789012"));
        assert!(!is_account("12345678901") && !is_account("12345678901a") && !is_account("１23456789012"));
    }
}
