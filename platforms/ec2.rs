//! A virtual machine of AWS: the instance metadata service, version 2 alone.
//!
//! A token is fetched first, always: version 1 answers whoever can make this machine send a GET, so it is never asked. One document
//! (the instance's identity document) has all that is wanted here.

mod notices;

use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use crate::metadata::{MetadataError, Service, json};
use crate::surroundings::Surroundings;
use crate::whereabouts::{Platform, Whereabouts};

pub use notices::{Notice, NoticeKind, Notices};

/// Longest wait for all of it.
const LIMIT: Duration = Duration::from_secs(1);
/// Where the service is, unless the variables of AWS's own libraries say otherwise.
const IPV4: &str = "http://169.254.169.254";
const IPV6: &str = "http://[fd00:ec2::254]";
/// How long a token is good, in seconds: the most that the service allows.
const TOKEN_TTL: &str = "21600";
const DOCUMENT: &str = "/latest/dynamic/instance-identity/document";
/// What the document gives.
const NAMES: [&str; 8] = [
    "node.zone",
    "node.region",
    "node.address",
    "ec2.account",
    "ec2.instance",
    "ec2.local_ip",
    "ec2.region",
    "ec2.type",
];

/// The identity document.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    account_id: Option<String>,
    availability_zone: Option<String>,
    image_id: Option<String>,
    instance_id: Option<String>,
    instance_type: Option<String>,
    private_ip: Option<String>,
    region: Option<String>,
}

/// Says why this machine looks like one of EC2's, without asking anybody.
pub(crate) fn hint(surroundings: &dyn Surroundings) -> Option<String> {
    const VENDOR: &str = "/sys/class/dmi/id/sys_vendor";
    const UUID: &str = "/sys/hypervisor/uuid";
    let starts = |path: &str, with: &str| {
        let text = surroundings.file(path)?;
        text.trim()
            .to_ascii_lowercase()
            .starts_with(with)
            .then(|| format!("{path} says {}", text.trim().escape_debug()))
    };
    // Nitro and bare metal say it in DMI; Xen by the id of the virtual machine.
    starts(VENDOR, "amazon ec2").or_else(|| starts(UUID, "ec2"))
}

/// Asks the service. What it does not say is missing, with the reason.
pub(crate) async fn ask(because: String, surroundings: &dyn Surroundings) -> Whereabouts {
    let mut place = Whereabouts::new(Platform::Ec2, because);
    let answered = async {
        let service = service(surroundings).map_err(|error| error.to_string())?;
        let token = token(&service).await?;
        let text = service.get(DOCUMENT, &[token_header(&token)]).await.map_err(|error| error.to_string())?;
        let url = service.url(DOCUMENT);
        let document: Document = json(&url, &text).map_err(|error| error.to_string())?;
        Ok::<_, String>((url, document))
    };
    match timeout(LIMIT, answered).await {
        Ok(Ok((url, document))) => read(&mut place, &url, &document, surroundings),
        Ok(Err(reason)) => place.silent(reason, &NAMES),
        Err(_) => place.silent(hop(&format!("the instance metadata service said nothing in {LIMIT:?}")), &NAMES),
    }
    place
}

/// Returns where to ask.
fn service(surroundings: &dyn Surroundings) -> Result<Service, MetadataError> {
    let variable = |name: &str| surroundings.variable(name).filter(|value| !value.trim().is_empty());
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        return Err(MetadataError::Malformed {
            url: "instance metadata".to_owned(),
            reason: "AWS_EC2_METADATA_DISABLED=true: it is not asked".to_owned(),
        });
    }
    let is_ipv6 =
        variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
    let usual = || if is_ipv6 { IPV6 } else { IPV4 }.to_owned();
    Service::parse(&variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(usual), LIMIT)
}

/// Fetches a token.
async fn token(service: &Service) -> Result<String, String> {
    let header = ("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL);
    match service.put("/latest/api/token", &[header]).await {
        Ok(token) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(format!("{} answered what is no token", service.url("/latest/api/token")))
        }
        Ok(token) => Ok(token),
        // Of all answers the token alone is sent with a hop limit: in a container it is lost on the way.
        Err(error @ MetadataError::Unreachable { .. }) => Err(hop(&error.to_string())),
        Err(error) => Err(error.to_string()),
    }
}

fn token_header(token: &str) -> (&str, &str) {
    ("x-aws-ec2-metadata-token", token)
}

fn hop(what: &str) -> String {
    format!("{what} (in a container the instance's metadata hop limit must be 2 at least)")
}

/// Reads the document.
fn read(place: &mut Whereabouts, url: &str, document: &Document, surroundings: &dyn Surroundings) {
    place.put("ec2.account", document.account_id.as_deref(), url);
    place.put("ec2.image", document.image_id.as_deref(), url);
    place.put("ec2.instance", document.instance_id.as_deref(), url);
    place.put("ec2.region", document.region.as_deref(), url);
    place.put("ec2.type", document.instance_type.as_deref(), url);
    place.put("node.region", document.region.as_deref(), url);
    place.put("node.zone", document.availability_zone.as_deref(), url);
    place.put_address("ec2.local_ip", document.private_ip.as_deref(), url);
    place.put_address("node.address", document.private_ip.as_deref(), url);
    // An instance in a subnet of IPv6 alone has no private IPv4 address.
    place.put("node.address", surroundings.address().map(|address| address.to_string()), "the default route");
    for name in NAMES {
        place.lack(name, &format!("{url} does not say it"));
    }
}

#[cfg(test)]
mod tests;
