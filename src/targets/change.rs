//! What changed between two looks at the same targets (pure): `meshless targets --watch`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{EndpointFound, FailureView, TargetView, text};

/// One thing that is another way than it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The target.
    pub target: String,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened to a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum What {
    /// An endpoint is there that was not.
    Added {
        /// It.
        endpoint: EndpointFound,
    },
    /// The target answers again.
    Answers {
        /// How many endpoints it has.
        endpoints: usize,
    },
    /// An endpoint is another way than it was.
    Changed {
        /// How it was.
        before: EndpointFound,
        /// How it is.
        endpoint: EndpointFound,
    },
    /// The target does not answer; what is known of it stays.
    Fails {
        /// Why.
        failure: FailureView,
    },
    /// The gateway does not follow the target any more.
    Left,
    /// An endpoint is gone.
    Removed {
        /// How it was.
        endpoint: EndpointFound,
    },
}

/// Tells two looks apart, by target and address. What was not there before is all news; a target without endpoints that
/// answers for the first time is news too.
pub fn changes(before: &[TargetView], after: &[TargetView]) -> Vec<Change> {
    let known: BTreeMap<&str, &TargetView> = before.iter().map(|view| (view.target.as_str(), view)).collect();
    let still: BTreeMap<&str, &TargetView> = after.iter().map(|view| (view.target.as_str(), view)).collect();
    let mut found = Vec::new();
    for view in after {
        of_target(known.get(view.target.as_str()).copied(), view, &mut found);
    }
    let left = before.iter().filter(|view| !still.contains_key(view.target.as_str()));
    found.extend(left.map(|view| Change { target: view.target.clone(), what: What::Left }));
    found
}

fn of_target(before: Option<&TargetView>, after: &TargetView, found: &mut Vec<Change>) {
    let mut push = |what| found.push(Change { target: after.target.clone(), what });
    let key = |endpoint: &EndpointFound| (endpoint.address.clone(), endpoint.id.clone());
    let had = before.map(|view| view.endpoints.as_slice()).unwrap_or_default();
    let earlier: BTreeMap<_, _> = had.iter().map(|endpoint| (key(endpoint), endpoint)).collect();
    let later: BTreeMap<_, _> = after.endpoints.iter().map(|endpoint| (key(endpoint), endpoint)).collect();
    match (before.and_then(|view| view.failure.as_ref()), &after.failure) {
        // The count goes up with every try, which is no news; another error is.
        (Some(was), Some(is)) if was.kind == is.kind => {}
        (_, Some(failure)) => push(What::Fails { failure: failure.clone() }),
        (Some(_), None) => push(What::Answers { endpoints: after.endpoints.len() }),
        (None, None) => {
            let is_first = before.is_none_or(|view| view.origin.is_empty()) && !after.origin.is_empty();
            if is_first && after.endpoints.is_empty() {
                push(What::Answers { endpoints: 0 });
            }
        }
    }
    for (key, endpoint) in &earlier {
        if !later.contains_key(key) {
            push(What::Removed { endpoint: (*endpoint).clone() });
        }
    }
    for (key, endpoint) in later {
        match earlier.get(&key) {
            None => push(What::Added { endpoint: endpoint.clone() }),
            Some(was) if **was != *endpoint => {
                push(What::Changed { before: (*was).clone(), endpoint: endpoint.clone() });
            }
            Some(_) => {}
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &self.target;
        let line = match &self.what {
            What::Added { endpoint } => format!("+ {target}  {}", text::brief(endpoint)),
            What::Answers { endpoints } => format!("* {target}  answers: {}", text::count(*endpoints, "endpoint")),
            What::Changed { before, endpoint } => {
                format!("~ {target}  {}", text::difference(before, endpoint))
            }
            What::Fails { failure } => {
                format!("! {target}  does not answer, what is known stays: {}", failure.error)
            }
            What::Left => format!("- {target}  is not followed any more"),
            What::Removed { endpoint } => format!("- {target}  {}", text::name(endpoint)),
        };
        formatter.write_str(&text::plain(&line))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::{endpoint, view};
    use super::*;

    fn lines(before: &[TargetView], after: &[TargetView]) -> Vec<String> {
        changes(before, after).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn endpoints_that_come_go_and_change_are_told_apart() {
        let (one, two) = (endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80"));
        let first = [view("consul/web", &[one.clone(), two.clone()])];
        assert_eq!(
            lines(&[], &first),
            ["+ consul/web  10.0.0.1:80  weight 1, healthy", "+ consul/web  10.0.0.2:80  weight 1, healthy"]
        );
        assert!(lines(&first, &first).is_empty());
        let drained = EndpointFound { health: "draining".into(), weight: 3, ..one };
        let next = [view("consul/web", &[drained, endpoint("10.0.0.3:80")])];
        assert_eq!(
            lines(&first, &next),
            [
                "- consul/web  10.0.0.2:80",
                "~ consul/web  10.0.0.1:80  weight 1 → 3, health healthy → draining",
                "+ consul/web  10.0.0.3:80  weight 1, healthy",
            ]
        );
    }

    #[test]
    fn two_instances_on_one_address_are_told_apart_by_their_ids() {
        let with = |id: &str| EndpointFound { id: Some(id.into()), ..endpoint("10.0.0.1:80") };
        let told = lines(&[view("consul/web", &[with("a"), with("b")])], &[view("consul/web", &[with("b")])]);
        assert_eq!(told, ["- consul/web  10.0.0.1:80 (a)"]);
    }

    #[test]
    fn an_outage_is_told_once_and_its_end_once() {
        let well = view("consul/web", &[endpoint("10.0.0.1:80")]);
        let failing = |count| TargetView {
            failure: Some(FailureView {
                kind: "unreachable".into(),
                error: "unreachable: refused".into(),
                count,
                for_seconds: count,
            }),
            ..well.clone()
        };
        let one = |view: &TargetView| [view.clone()];
        assert_eq!(
            lines(&one(&well), &[failing(1)]),
            ["! consul/web  does not answer, what is known stays: unreachable: refused"]
        );
        assert!(lines(&[failing(1)], &[failing(9)]).is_empty());
        assert_eq!(lines(&[failing(9)], &one(&well)), ["* consul/web  answers: 1 endpoint"]);
    }

    #[test]
    fn a_target_without_endpoints_and_one_that_is_let_go_are_told() {
        let empty = view("consul/web", &[]);
        assert_eq!(lines(&[], std::slice::from_ref(&empty)), ["* consul/web  answers: 0 endpoints"]);
        assert_eq!(lines(&[empty], &[]), ["- consul/web  is not followed any more"]);
    }

    #[test]
    fn what_a_backend_says_does_not_drive_the_terminal() {
        let odd = EndpointFound { zone: Some("a\u{1b}[31m".into()), ..endpoint("10.0.0.1:80") };
        assert!(lines(&[], &[view("consul/web", &[odd])])[0].ends_with("zone a\u{fffd}[31m"));
    }
}
