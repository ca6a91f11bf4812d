//! The one request that is signed by the workload and sent by the authority (pure).

use std::fmt;

use serde::Serialize;

use crate::attest::Challenge;
use crate::attest::evidence::is_region;

/// A region of AWS. Its name becomes a part of a host's name, so it is never taken as it comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Region(String);

impl Region {
    /// Reads a name such as `eu-west-1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_region(text).then(|| Self(text.to_owned()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host of its STS. The domain is that of the region's partition, as AWS publishes it in `partitions.json`.
    #[must_use]
    pub fn sts(&self) -> String {
        const DOMAINS: [(&str, &str); 6] = [
            ("cn-", "amazonaws.com.cn"),
            ("eu-isoe-", "cloud.adc-e.uk"),
            ("eusc-", "amazonaws.eu"),
            ("us-isob-", "sc2s.sgov.gov"),
            ("us-isof-", "csp.hci.ic.gov"),
            ("us-iso-", "c2s.ic.gov"),
        ];
        let found = DOMAINS.iter().find(|(prefix, _)| self.0.starts_with(prefix));
        format!("sts.{}.{}", self.0, found.map_or("amazonaws.com", |(_, domain)| domain))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// `POST /` to STS, without what a signature adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// Whom it is for; the region of the signature is that of this host.
    pub host: String,
    /// The region.
    pub region: String,
    /// Headers beside `host` and those of the signature; all are signed.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: &'static str,
}

impl Unsigned {
    /// Returns the request that answers a challenge in a region.
    #[must_use]
    pub fn new(region: &Region, challenge: &Challenge) -> Self {
        Self {
            host: region.sts(),
            region: region.0.clone(),
            headers: vec![
                // Without it STS answers in XML, into which a role's session name could be written (decision 0126).
                ("accept", "application/json".to_owned()),
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
                ("x-meshless-authority", challenge.authority.clone()),
                ("x-meshless-key", challenge.key.clone()),
                ("x-meshless-nonce", challenge.nonce.clone()),
            ],
            body: "Action=GetCallerIdentity&Version=2011-06-15",
        }
    }

    /// Returns the names of all headers that must be signed, sorted, as `SignedHeaders` has them.
    pub(super) fn signed_headers(&self, has_token: bool) -> String {
        let mut names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).chain(["host", "x-amz-date"]).collect();
        names.extend(has_token.then_some("x-amz-security-token"));
        names.sort_unstable();
        names.join(";")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sts_of_a_region_is_in_the_domain_of_its_partition() {
        for (region, host) in [
            ("eu-west-1", "sts.eu-west-1.amazonaws.com"),
            ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
            ("eusc-de-east-1", "sts.eusc-de-east-1.amazonaws.eu"),
            ("us-isob-east-1", "sts.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            assert_eq!(Region::parse(region).unwrap().sts(), host);
        }
        assert_eq!(Region::parse("eu-west-1.evil.example"), None);
    }

    #[test]
    fn the_challenge_stands_in_signed_headers() {
        let challenge =
            Challenge { authority: "example.org".to_owned(), nonce: "nonce".to_owned(), key: "key".to_owned() };
        let unsigned = Unsigned::new(&Region::parse("eu-west-1").unwrap(), &challenge);
        assert_eq!(
            unsigned.signed_headers(true),
            "accept;content-type;host;x-amz-date;x-amz-security-token;x-meshless-authority;x-meshless-key;x-meshless-nonce"
        );
    }
}
