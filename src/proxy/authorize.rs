//! Rules of `allow` on the way of a request: counted, and written down where nothing allows it.
//!
//! The rules are those of the table in force and not those that the connection began with: whoever is shut out is so with
//! the next request.

use super::Session;
use super::failure::Failure;
use super::headers::X_REQUEST_ID;
use crate::authorize::{Allow, Asked, Decision, nearest, still_allowed};
use crate::route::Facts;
use crate::upstream::plan::ListenerPlan;

impl Session {
    /// Lets a request through, or denies it.
    pub(super) fn authorize(&self, listener: &ListenerPlan, facts: &Facts<'_>) -> Result<(), Failure> {
        match &listener.allow {
            None => Ok(()),
            Some(allow) => self.ask(allow, Asked::Request(facts)),
        }
    }

    /// Lets a connection that carries bytes through, or denies it.
    pub(super) fn authorize_bytes(&self, listener: &ListenerPlan) -> Result<(), Failure> {
        match &listener.allow {
            None => Ok(()),
            Some(allow) => self.ask(allow, Asked::Bytes(self.identity(), self.client())),
        }
    }

    /// Tells whether the client may stay connected by the rules that are in force now; see [`still_allowed`]. Of a
    /// listener that is gone the last rules hold.
    pub(super) fn is_still_allowed(&self, is_bytes: bool) -> bool {
        let table = self.table();
        let allow = table.listener(self.listener_name()).and_then(|plan| plan.allow.as_deref());
        still_allowed(allow, self.identity(), self.client(), is_bytes)
    }

    fn ask(&self, allow: &Allow, asked: Asked<'_>) -> Result<(), Failure> {
        let is_http = matches!(asked, Asked::Request(_));
        match allow.decide(asked) {
            Decision::Allowed(rule) => {
                self.listener_series().allowed(is_http, rule);
                Ok(())
            }
            Decision::Denied => {
                self.listener_series().denied(is_http, allow.is_dry_run());
                self.write_down(allow, asked);
                if allow.is_dry_run() { Ok(()) } else { Err(Failure::Denied) }
            }
        }
    }

    /// Writes a line for the audit, unless there are too many of them. A query may carry secrets and is left out.
    #[cold]
    fn write_down(&self, allow: &Allow, asked: Asked<'_>) {
        let Some(left_out) = self.worker().audit().admit(self.worker().uptime()) else { return };
        let whys = allow.why(asked);
        let (rule, missed) = nearest(&whys).map_or_else(
            || (String::new(), "there is no rule".to_owned()),
            |why| {
                let misses: Vec<String> = why.misses.iter().map(ToString::to_string).collect();
                (format!("allow[{}]", why.rule), misses.join("; "))
            },
        );
        let (method, path, request_id) = match asked {
            Asked::Request(facts) => {
                let id = facts.headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok());
                (facts.method.as_str(), facts.path, id.unwrap_or_default())
            }
            Asked::Bytes(..) => ("", "", ""),
        };
        let address = self.client().map(|address| address.to_string()).unwrap_or_default();
        tracing::info!(
            target: "audit",
            listener = self.listener_name(),
            from = self.identity().unwrap_or_default(),
            address,
            method,
            path,
            request_id,
            nearest = rule,
            missed,
            dry_run = allow.is_dry_run(),
            left_out,
            "No rule allows what a client asks for."
        );
    }
}
