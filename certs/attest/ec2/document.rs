//! What the identity document of an instance says (pure). It is read after its signature was verified.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::attest::evidence::{is_account, is_region, refused};
use crate::attest::{Rejected, when};

/// How far ahead of ours the clock of AWS may be.
const SKEW: Duration = Duration::from_mins(5);

/// The one version that there is.
const VERSION: &str = "2017-09-30";

/// What a document says, of what is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) account: String,
    pub(super) region: String,
    pub(super) zone: String,
    pub(super) instance: String,
    pub(super) image: String,
    pub(super) private_ip: IpAddr,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    account_id: String,
    region: String,
    availability_zone: String,
    instance_id: String,
    image_id: String,
    private_ip: IpAddr,
    pending_time: String,
    version: String,
}

impl Document {
    pub(super) fn parse(text: &str, now: SystemTime) -> Result<Self, Rejected> {
        let raw: Raw = serde_json::from_str(text)
            .map_err(|error| refused("malformed", format!("the document cannot be read: {error}")))?;
        let wrong = |what: &str| refused("malformed", format!("the document's {what} is not what AWS writes"));
        if raw.version != VERSION {
            return Err(wrong("version"));
        }
        if !is_account(&raw.account_id) {
            return Err(wrong("accountId"));
        }
        if !is_region(&raw.region) {
            return Err(wrong("region"));
        }
        // `eu-west-1a`, and `us-west-2-lax-1a` of a local zone.
        let is_zone = raw.availability_zone.starts_with(&raw.region) && is_word(&raw.availability_zone);
        if !is_zone {
            return Err(wrong("availabilityZone"));
        }
        if !is_id(&raw.instance_id, "i-") {
            return Err(wrong("instanceId"));
        }
        if !is_id(&raw.image_id, "ami-") {
            return Err(wrong("imageId"));
        }
        let started = when::extended(&raw.pending_time).ok_or_else(|| wrong("pendingTime"))?;
        if started > now + SKEW {
            return Err(refused("not_yet_valid", "the instance starts in the future; compare the clocks"));
        }
        Ok(Self {
            account: raw.account_id,
            region: raw.region,
            zone: raw.availability_zone,
            instance: raw.instance_id,
            image: raw.image_id,
            private_ip: raw.private_ip.to_canonical(),
        })
    }
}

/// `i-0123456789abcdef0`; older ones have eight digits.
fn is_id(text: &str, prefix: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix(prefix).is_some_and(|digits| matches!(digits.len(), 8 | 17) && digits.bytes().all(is_hex))
}

fn is_word(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document() -> Value {
        json!({
            "accountId": "123456789012", "architecture": "x86_64", "availabilityZone": "eu-west-1a", "billingProducts": null,
            "imageId": "ami-0123456789abcdef0", "instanceId": "i-0123456789abcdef0", "instanceType": "t3.micro",
            "kernelId": null, "pendingTime": "2026-01-02T03:04:05Z", "privateIp": "10.0.0.7", "ramdiskId": null,
            "region": "eu-west-1", "version": "2017-09-30",
        })
    }

    fn parse(document: &Value) -> Result<Document, &'static str> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        Document::parse(&document.to_string(), now).map_err(|rejected| match rejected {
            Rejected::Refused { reason, .. } => reason,
            Rejected::Unavailable(_) => "unavailable",
        })
    }

    #[test]
    fn a_document_says_which_instance_it_is_of() {
        let found = parse(&document()).unwrap();
        assert_eq!((found.instance.as_str(), found.zone.as_str()), ("i-0123456789abcdef0", "eu-west-1a"));
        let mut local = document();
        local["availabilityZone"] = json!("eu-west-1-lis-1a");
        assert!(parse(&local).is_ok());
    }

    #[test]
    fn what_aws_does_not_write_is_refused() {
        for (key, value, reason) in [
            ("accountId", json!("12345678901"), "malformed"),
            ("accountId", json!(123_456_789_012_u64), "malformed"),
            ("region", json!("eu-west-1/../"), "malformed"),
            ("availabilityZone", json!("us-east-1a"), "malformed"),
            ("availabilityZone", json!("eu-west-1/a"), "malformed"),
            ("instanceId", json!("i-*"), "malformed"),
            ("instanceId", Value::Null, "malformed"),
            ("imageId", json!("ami-"), "malformed"),
            ("privateIp", json!("10.0.0"), "malformed"),
            ("pendingTime", json!("yesterday"), "malformed"),
            ("pendingTime", json!("2026-01-02T03:10:00Z"), "not_yet_valid"),
            ("version", json!("2010-08-31"), "malformed"),
        ] {
            let mut changed = document();
            changed[key] = value.clone();
            assert_eq!(parse(&changed), Err(reason), "{key} = {value}");
        }
        let twice = document().to_string().replacen('{', "{\"accountId\": \"210987654321\",", 1);
        assert!(Document::parse(&twice, SystemTime::now()).is_err(), "a name that stands twice");
    }
}
