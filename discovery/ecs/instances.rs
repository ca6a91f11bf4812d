//! Addresses of the instances that tasks without an address of their own run on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::wire::{self, Managed};
use crate::Error;
use crate::aws::{Aws, Element, Service, Trouble, with};

/// Most container instances of one call, and values of a filter of EC2's.
const BATCH: usize = 100;

/// Most instances of a page of SSM's.
const SSM_PAGE: usize = 50;

/// How long the address of a machine outside AWS is taken to hold; those of EC2 hold for as long as the instance lives.
const MANAGED_HOLDS: Duration = Duration::from_mins(5);

/// Most addresses that are kept; beyond them only those in use are.
const MAX_KNOWN: usize = 10_000;

/// Most pages of an answer.
const MAX_PAGES: usize = 20;

/// Knows the addresses of a cluster's instances.
#[derive(Debug)]
pub(super) struct Instances {
    aws: Arc<Aws>,
    cluster: String,
    /// By the ARN of the container instance, with the time until which the address holds.
    known: Mutex<BTreeMap<String, (IpAddr, Option<Instant>)>>,
}

impl Instances {
    pub(super) fn new(aws: Arc<Aws>, cluster: String) -> Self {
        Self { aws, cluster, known: Mutex::default() }
    }

    /// Returns the addresses of these container instances, `None` for one that has none, and an error where not all
    /// could be asked for; those that could not are left out then.
    pub(super) async fn addresses(&self, arns: &BTreeSet<&str>) -> (BTreeMap<String, Option<IpAddr>>, Option<Error>) {
        let mut addresses: BTreeMap<String, Option<IpAddr>> = {
            let now = Instant::now();
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() > MAX_KNOWN {
                known.retain(|arn, _| arns.contains(arn.as_str()));
            }
            known.retain(|_, (_, until)| until.is_none_or(|until| until > now));
            let held = arns.iter().filter_map(|arn| Some(((*arn).to_owned(), Some(known.get(*arn)?.0))));
            held.collect()
        };
        let missing: Vec<&str> = arns.iter().copied().filter(|arn| !addresses.contains_key(*arn)).collect();
        for batch in missing.chunks(BATCH) {
            match self.look_up(batch).await {
                Ok(found) => addresses.extend(found),
                Err(trouble) => return (addresses, Some(trouble.error)),
            }
        }
        (addresses, None)
    }

    async fn look_up(&self, arns: &[&str]) -> Result<BTreeMap<String, Option<IpAddr>>, Trouble> {
        let input = json!({ "cluster": self.cluster, "containerInstances": arns });
        let answer: wire::Instances = self.aws.json(Service::Ecs, "DescribeContainerInstances", input).await?;
        // EC2 refuses a whole call for one id of ECS Anywhere, `mi-…`.
        let (managed, own): (BTreeSet<&str>, BTreeSet<&str>) = answer
            .container_instances
            .iter()
            .filter_map(|each| each.ec2_instance_id.as_deref())
            .partition(|id| is_managed(id));
        let mut by_id = BTreeMap::new();
        if !own.is_empty() {
            by_id.extend(self.of_ec2(&own).await?);
        }
        if !managed.is_empty() {
            by_id.extend(self.of_ssm(&managed).await?);
        }
        let mut addresses: BTreeMap<String, Option<IpAddr>> =
            arns.iter().map(|arn| ((*arn).to_owned(), None)).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for instance in answer.container_instances {
            let Some(id) = instance.ec2_instance_id else { continue };
            let Some(ip) = by_id.get(&id).copied() else { continue };
            let until = is_managed(&id).then(|| Instant::now() + MANAGED_HOLDS);
            known.insert(instance.container_instance_arn.clone(), (ip, until));
            addresses.insert(instance.container_instance_arn, Some(ip));
        }
        Ok(addresses)
    }

    /// By a filter: an id that is gone is no error then.
    async fn of_ec2(&self, ids: &BTreeSet<&str>) -> Result<BTreeMap<String, IpAddr>, Trouble> {
        let mut fields = vec![("Filter.1.Name".to_owned(), "instance-id".to_owned())];
        fields.extend(ids.iter().zip(1..).map(|(id, number)| (format!("Filter.1.Value.{number}"), (*id).to_owned())));
        let mut addresses = BTreeMap::new();
        let mut token = None::<String>;
        for _ in 0..MAX_PAGES {
            let mut fields = fields.clone();
            fields.extend(token.take().map(|token| ("NextToken".to_owned(), token)));
            let answer = self.aws.form(Service::Ec2, "DescribeInstances", &fields).await?;
            let Some(reservations) = answer.all("reservationSet").next() else {
                let problem = "DescribeInstances: the answer has no `reservationSet`".to_owned();
                return Err(Trouble::of(Error::Malformed(problem)));
            };
            let sets = reservations.all("item").flat_map(|reservation| reservation.all("instancesSet"));
            for instance in sets.flat_map(|set| set.all("item")) {
                if let (Some(id), Some(ip)) = (instance.text("instanceId"), address(instance)) {
                    addresses.insert(id.to_owned(), ip);
                }
            }
            token = answer.text("nextToken").map(str::to_owned);
            if token.is_none() {
                return Ok(addresses);
            }
        }
        Err(too_many("DescribeInstances"))
    }

    async fn of_ssm(&self, ids: &BTreeSet<&str>) -> Result<BTreeMap<String, IpAddr>, Trouble> {
        let mut addresses = BTreeMap::new();
        let mut token = None::<String>;
        for _ in 0..MAX_PAGES {
            let input = json!({ "Filters": [{ "Key": "InstanceIds", "Values": ids }], "MaxResults": SSM_PAGE });
            let input = with(input, "NextToken", token.take());
            let page: Managed = self.aws.json(Service::Ssm, "DescribeInstanceInformation", input).await?;
            for instance in page.instance_information_list {
                if let Some(ip) = instance.ip_address.as_ref().and_then(|ip| ip.parse().ok()) {
                    addresses.insert(instance.instance_id, ip);
                }
            }
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(addresses);
            }
        }
        Err(too_many("DescribeInstanceInformation"))
    }
}

/// IPv4, else IPv6.
fn address(instance: &Element) -> Option<IpAddr> {
    instance.text("privateIpAddress").or_else(|| instance.text("ipv6Address"))?.parse().ok()
}

fn is_managed(id: &str) -> bool {
    id.starts_with("mi-")
}

fn too_many(action: &'static str) -> Trouble {
    Trouble::of(Error::Malformed(format!("{action}: more than {MAX_PAGES} pages for {BATCH} instances")))
}
