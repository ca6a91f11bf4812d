//! What is known about the place that this process runs in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

/// Longest value that is taken, in bytes: an ARN has at most 2,048.
const MAX_VALUE: usize = 2048;

/// Where a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Platform {
    /// A virtual machine of AWS.
    Ec2,
    /// A task of AWS ECS, on Fargate, EC2 or elsewhere.
    Ecs,
    /// A pod of Kubernetes.
    Kubernetes,
    /// A task of Nomad.
    Nomad,
    /// A machine that says nothing of itself.
    Vm,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ec2, Self::Ecs, Self::Kubernetes, Self::Nomad, Self::Vm];

    /// Returns its name, as `node.platform` takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Ecs => "ecs",
            Self::Kubernetes => "kubernetes",
            Self::Nomad => "nomad",
            Self::Vm => "vm",
        }
    }

    /// Returns the platform of a name; `None` for `auto` and what is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|platform| platform.as_str() == name)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a platform said of this process, and what it did not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Whereabouts {
    /// Which platform it is.
    pub platform: Platform,
    /// Why it is taken for that one.
    pub because: String,
    /// Why the platform could not be asked, or did not answer; `None`: it did, or need not be asked.
    pub unanswered: Option<String>,
    /// What it gave, by the name that `${…}` takes.
    pub values: BTreeMap<String, Fact>,
    /// What it might give and did not, by name, and why.
    pub missing: BTreeMap<String, String>,
    /// What it lets this process have.
    pub limits: Limits,
}

/// One value, and who said it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// The value: one line that can be printed, not empty.
    pub value: String,
    /// A variable, a file or an address.
    pub from: String,
}

/// What a platform lets a process have, as far as it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Limits {
    /// Processors, such as 0.25.
    pub cpus: Option<f64>,
    /// Memory in bytes, shared with what else is in the same task or allocation.
    pub memory: Option<u64>,
}

impl Whereabouts {
    pub(crate) fn new(platform: Platform, because: impl Into<String>) -> Self {
        Self {
            platform,
            because: because.into(),
            unanswered: None,
            values: BTreeMap::new(),
            missing: BTreeMap::new(),
            limits: Limits::default(),
        }
    }

    /// Returns what stands for a name in `${…}`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|fact| fact.value.as_str())
    }

    /// Returns the zone.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.value("node.zone")
    }

    /// Returns the address that others reach this process by.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.value("node.address")?.parse().ok()
    }

    /// Takes a value, unless there is one already. Nothing is taken that is empty (a variable that is set to nothing), too long,
    /// or would not print as one line.
    pub(crate) fn put(&mut self, name: &str, value: Option<impl Into<String>>, from: &str) {
        let Some(value) = value.map(Into::into) else { return };
        let value = value.trim();
        if value.is_empty() || self.values.contains_key(name) {
            return;
        }
        if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
            self.lack(name, &format!("{from} says something that is longer than {MAX_VALUE} bytes or no line of text"));
            return;
        }
        self.missing.remove(name);
        self.values.insert(name.to_owned(), Fact { value: value.to_owned(), from: from.to_owned() });
    }

    /// Takes an address, if it is one that others can use.
    pub(crate) fn put_address(&mut self, name: &str, value: Option<&str>, from: &str) {
        let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else { return };
        match value.parse::<IpAddr>() {
            Ok(address) => self.put(name, Some(address.to_string()), from),
            Err(_) => self.lack(name, &format!("{from} says what is no IP address")),
        }
    }

    /// Says why there is no value, if there is none; the first reason stays.
    pub(crate) fn lack(&mut self, name: &str, reason: &str) {
        if !self.values.contains_key(name) {
            self.missing.entry(name.to_owned()).or_insert_with(|| reason.to_owned());
        }
    }

    /// The platform did not say any of these.
    pub(crate) fn silent(&mut self, reason: impl Into<String>, names: &[&str]) {
        let reason = reason.into();
        for name in names {
            self.lack(name, &reason);
        }
        self.unanswered = Some(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_parsed_as_it_is_printed() {
        for platform in Platform::ALL {
            assert_eq!(Platform::parse(&platform.to_string()), Some(platform));
        }
        assert_eq!(Platform::parse("auto"), None);
    }

    #[test]
    fn what_is_no_line_of_text_is_not_taken() {
        let mut place = Whereabouts::new(Platform::Vm, "test");
        place.put("a", Some("x\ny"), "A");
        place.put("b", Some(" "), "B");
        place.put("c", Some("x".repeat(3000)), "C");
        place.put_address("d", Some("not.an.address"), "D");
        assert_eq!(place.values, BTreeMap::new());
        assert_eq!(place.missing.keys().collect::<Vec<_>>(), ["a", "c", "d"]);
        place.put("a", Some("first"), "A");
        place.put("a", Some("second"), "B");
        assert_eq!(place.value("a"), Some("first"));
        assert!(!place.missing.contains_key("a"));
    }
}
