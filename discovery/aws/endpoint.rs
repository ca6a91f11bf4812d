//! Where a service of AWS answers (pure).
//!
//! AWS publishes the rule with each SDK as `partitions.json`; this is its part that the five services here need.

/// A service that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Cloud Map's discovery of instances, which has hosts of its own.
    #[cfg(feature = "cloudmap")]
    Cloudmap,
    #[cfg(feature = "ecs")]
    Ec2,
    #[cfg(feature = "ecs")]
    Ecs,
    #[cfg(feature = "ecs")]
    Ssm,
    Sts,
}

impl Service {
    /// The name in host names.
    fn host(self) -> &'static str {
        match self {
            #[cfg(feature = "cloudmap")]
            Self::Cloudmap => "data-servicediscovery",
            #[cfg(feature = "ecs")]
            Self::Ec2 => "ec2",
            #[cfg(feature = "ecs")]
            Self::Ecs => "ecs",
            #[cfg(feature = "ecs")]
            Self::Ssm => "ssm",
            Self::Sts => "sts",
        }
    }

    /// The name that requests are signed for, and that actions in IAM begin with.
    pub(super) fn signing_name(self) -> &'static str {
        match self {
            #[cfg(feature = "cloudmap")]
            Self::Cloudmap => "servicediscovery",
            other => other.host(),
        }
    }

    /// What stands before the action in `x-amz-target`; `None` for services that take forms.
    pub(super) fn json_prefix(self) -> Option<&'static str> {
        match self {
            #[cfg(feature = "cloudmap")]
            Self::Cloudmap => Some("Route53AutoNaming_v20170314"),
            #[cfg(feature = "ecs")]
            Self::Ecs => Some("AmazonEC2ContainerServiceV20141113"),
            #[cfg(feature = "ecs")]
            Self::Ssm => Some("AmazonSSM"),
            _ => None,
        }
    }

    /// The version of the interface, for services that take forms.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::Sts => "2011-06-15",
            _ => "2016-11-15",
        }
    }
}

/// What else decides about a host name; both are settings of an account's profile or of the environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) dual_stack: bool,
    pub(super) fips: bool,
}

/// Returns the URL of a service in a region.
pub(super) fn url(service: Service, region: &str, variant: Variant) -> String {
    let (plain, dual) = suffixes(region);
    let host = service.host();
    let fips = if variant.fips { "-fips" } else { "" };
    let suffix = if variant.dual_stack { dual } else { plain };
    format!("https://{host}{fips}.{region}.{suffix}/")
}

/// The domain of a region's partition, and the one whose hosts have IPv6 addresses too.
fn suffixes(region: &str) -> (&'static str, &'static str) {
    const PARTITIONS: [(&str, &str, &str); 8] = [
        ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
        ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
        ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
        ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
        ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
        ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
        ("us-gov-", "amazonaws.com", "api.aws"),
        ("", "amazonaws.com", "api.aws"),
    ];
    PARTITIONS
        .iter()
        .find(|(prefix, _, _)| region.starts_with(prefix))
        .map_or(("amazonaws.com", "api.aws"), |(_, plain, dual)| (*plain, *dual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(feature = "ecs", feature = "cloudmap"))]
    #[test]
    fn each_service_answers_where_its_partition_says() {
        let (plain, dual) = (Variant::default(), Variant { dual_stack: true, fips: false });
        let fips = Variant { dual_stack: false, fips: true };
        for (service, region, variant, expected) in [
            (Service::Ecs, "eu-west-1", plain, "https://ecs.eu-west-1.amazonaws.com/"),
            (Service::Ec2, "cn-north-1", plain, "https://ec2.cn-north-1.amazonaws.com.cn/"),
            (Service::Ssm, "us-gov-west-1", plain, "https://ssm.us-gov-west-1.amazonaws.com/"),
            (Service::Sts, "us-iso-east-1", plain, "https://sts.us-iso-east-1.c2s.ic.gov/"),
            (Service::Sts, "us-isob-east-1", plain, "https://sts.us-isob-east-1.sc2s.sgov.gov/"),
            (Service::Cloudmap, "eusc-de-east-1", plain, "https://data-servicediscovery.eusc-de-east-1.amazonaws.eu/"),
            (Service::Ecs, "us-east-1", dual, "https://ecs.us-east-1.api.aws/"),
            (Service::Ecs, "us-east-1", fips, "https://ecs-fips.us-east-1.amazonaws.com/"),
        ] {
            assert_eq!(url(service, region, variant), expected);
        }
        assert_eq!(Service::Cloudmap.signing_name(), "servicediscovery");
    }
}
