//! Whether the listener's `allow` allows a request, and what each rule that does not misses.

use serde::{Deserialize, Serialize};

use crate::authorize::{self, Asked, Decision};

/// What the listener's `allow` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// The rule that allows it, such as `allow[0]`; `None`: no rule does.
    pub rule: Option<String>,
    /// How many rules the listener has.
    pub of: usize,
    /// What would be denied goes on and is counted.
    pub dry_run: bool,
    /// Where no rule allows it: the one that comes closest.
    pub nearest: Option<String>,
    /// The rules that do not allow it, in file order.
    pub missed: Vec<NotAllowed>,
}

/// A rule that does not allow it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotAllowed {
    /// The rule, such as `allow[0]`.
    pub rule: String,
    /// All of its conditions that do not hold.
    pub misses: Vec<Missed>,
}

/// A condition that does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Its key, such as `path`.
    pub key: String,
    /// What was found there.
    pub found: String,
}

impl Allow {
    /// Asks the rules that are in force.
    pub(super) fn new(rules: &authorize::Allow, asked: Asked<'_>) -> Self {
        let named = |rule: usize| format!("allow[{rule}]");
        let rule = match rules.decide(asked) {
            Decision::Allowed(rule) => Some(named(rule)),
            Decision::Denied => None,
        };
        let whys = rules.why(asked);
        let nearest = if rule.is_some() { None } else { authorize::nearest(&whys).map(|why| named(why.rule)) };
        let missed = whys
            .into_iter()
            .map(|why| NotAllowed {
                rule: named(why.rule),
                misses: why.misses.into_iter().map(|miss| Missed { key: miss.key, found: miss.found }).collect(),
            })
            .collect();
        Self { rule, of: rules.len(), dry_run: rules.is_dry_run(), nearest, missed }
    }

    /// Tells whether it ends here.
    pub(super) fn denies(&self) -> bool {
        self.rule.is_none() && !self.dry_run
    }

    /// Returns the lines that tell it; the first one has the answer.
    pub(super) fn lines(&self) -> Vec<String> {
        let count = match self.of {
            0 => "there is none".to_owned(),
            1 => "of 1".to_owned(),
            of => format!("of {of}"),
        };
        let mut lines = vec![match (&self.rule, self.dry_run) {
            (Some(rule), _) => format!("{rule} {count}"),
            (None, true) => format!("no rule allows it ({count}), but `dry_run` lets it pass and counts it"),
            (None, false) => format!("no rule allows it ({count})"),
        }];
        for not in &self.missed {
            let misses: Vec<String> =
                not.misses.iter().map(|miss| format!("{}: found {}", miss.key, miss.found)).collect();
            let nearest = if self.nearest.as_ref() == Some(&not.rule) { "  (comes closest)" } else { "" };
            lines.push(format!("not {}  {}{nearest}", not.rule, misses.join("; ")));
        }
        lines
    }
}
