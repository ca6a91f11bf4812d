//! An explanation as text, for a terminal.

use std::fmt::{self, Display, Formatter, Write as _};

use super::allow::Allow;
use super::answer::{Branch, Endpoint, Explanation, Logged, Service, Set};

/// Width of the names at the left.
const LEFT: usize = 10;

impl Display for Explanation {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        let url = format!("{}://{}{}{query}", request.scheme, request.host, request.path);
        let asked = format!("{} {url}", request.method);
        let status = self.outcome.status.map(|status| format!("{status}: ")).unwrap_or_default();
        let label = self.outcome.label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
        writeln!(out, "{} → {status}{}{label}", asked.trim_start(), self.outcome.says)?;
        writeln!(out)?;
        let listener = &self.listener;
        row(out, "listener", &format!("{} at {}: {}", listener.name, listener.address, listener.because))?;
        let from = request.from.as_ref().map_or_else(|| "no identity".to_owned(), ToOwned::to_owned);
        let grpc = if request.is_grpc { ", gRPC" } else { "" };
        let upgrade = if request.is_upgrade { ", asks to upgrade" } else { "" };
        row(out, "client", &format!("{}, {from}{grpc}{upgrade}", request.address))?;
        for (position, line) in self.allow.iter().flat_map(Allow::lines).enumerate() {
            row(out, if position == 0 { "allow" } else { "" }, &line)?;
        }
        self.routes(out)?;
        for action in &self.actions {
            row(out, &action.kind.replace('_', " "), &action.says)?;
        }
        for (position, change) in self.headers.iter().enumerate() {
            let name = if position == 0 { "headers" } else { "" };
            row(
                out,
                name,
                &match (&change.before, &change.after) {
                    (_, None) => format!("- {}", change.name),
                    (None, Some(after)) => format!("+ {}: {after}", change.name),
                    (Some(before), Some(after)) => format!("~ {}: {before} → {after}", change.name),
                },
            )?;
        }
        self.destination(out)?;
        for service in &self.services {
            service.write(out)?;
        }
        if let Some(draws) = &self.draws {
            writeln!(out)?;
            let count = draws.count;
            row(
                out,
                "shares",
                &format!("drawn: {count} first tries, seed {}, load and health as they are", draws.seed),
            )?;
            if draws.without_endpoint > 0 {
                row(out, "", &format!("{} of them found no endpoint", draws.without_endpoint))?;
            }
        }
        for note in &self.notes {
            row(out, "note", note)?;
        }
        self.logged.as_ref().map_or(Ok(()), |logged| logged.write(out))
    }
}

impl Explanation {
    fn routes(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match &self.route {
            // What is refused before has no route either.
            None if self.outcome.label.as_deref() == Some("no_route") => row(out, "route", "none")?,
            None => {}
            Some(route) => {
                let place = match (route.position, route.kind.as_str()) {
                    (Some(position), _) => format!("{position} of {}", route.of),
                    (None, "name") => "a rule of [[names]]: no route matched".to_owned(),
                    (None, _) => "the listener's `to`: no route is asked".to_owned(),
                };
                let headers = if route.overridden { ", but a header says where to" } else { "" };
                let captures = route.captures.iter().map(|(name, value)| format!(", {{{name}}} is `{value}`"));
                let local = if route.is_local_hop { ", the application beside us" } else { "" };
                row(
                    out,
                    "route",
                    &format!("{} ({place}){}{local}{headers}", route.name, captures.collect::<String>()),
                )?;
            }
        }
        let widest = self.lost.iter().map(|lost| lost.name.chars().count()).max().unwrap_or_default();
        for lost in &self.lost {
            let why = match (&lost.key, &lost.found) {
                (Some(key), Some(found)) => format!("{key}: found {found}"),
                _ => "all of it holds, but the route above comes first".to_owned(),
            };
            row(out, "", &format!("not {:<widest$}  {why}", lost.name))?;
        }
        Ok(())
    }

    fn destination(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Some(destination) = &self.destination else { return Ok(()) };
        row(out, "to", &destination.expression)?;
        if destination.panic {
            row(out, "", "panic: so little is healthy that all that are listed may get requests")?;
        }
        if !matches!(destination.tree, Branch::Service { .. }) {
            destination.tree.write(out, LEFT + 2)?;
        }
        Ok(())
    }
}

impl Branch {
    /// Writes tiers and splits, a part a line.
    fn write(&self, out: &mut Formatter<'_>, indent: usize) -> fmt::Result {
        let leaf = |to: &Self| match to {
            Self::Service { name } => name.clone(),
            Self::Target(set) => set.target.clone(),
            Self::Tiers { .. } => "tiers".to_owned(),
            Self::Split { .. } => "split".to_owned(),
        };
        match self {
            Self::Tiers { tiers } => {
                for (position, tier) in tiers.iter().enumerate() {
                    let (number, share) = (position + 1, Percent(tier.share));
                    let carries = Percent(tier.capacity.min(1.0));
                    let name = leaf(&tier.to);
                    writeln!(out, "{:indent$}tier {number}  {share}  can carry {carries}  {name}", "")?;
                    tier.to.write_below(out, indent + 2)?;
                }
            }
            Self::Split { entries } => {
                for entry in entries {
                    let (weight, share, name) = (entry.weight, Percent(entry.share), leaf(&entry.to));
                    writeln!(out, "{:indent$}{weight:>3} *   {share}  {name}", "")?;
                    entry.to.write_below(out, indent + 2)?;
                }
            }
            Self::Target(set) => set.write(out, indent)?,
            Self::Service { .. } => {}
        }
        Ok(())
    }

    fn write_below(&self, out: &mut Formatter<'_>, indent: usize) -> fmt::Result {
        match self {
            Self::Target(set) => set.write_endpoints(out, indent),
            other => other.write(out, indent),
        }
    }
}

impl Set {
    fn write(&self, out: &mut Formatter<'_>, indent: usize) -> fmt::Result {
        writeln!(out, "{:indent$}{}", "", self.target)?;
        self.write_endpoints(out, indent + 2)
    }

    fn write_endpoints(&self, out: &mut Formatter<'_>, indent: usize) -> fmt::Result {
        let failure = self.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
        match (self.assumed, self.source.as_str()) {
            (true, _) => return writeln!(out, "{:indent$}not known: the backend is not asked offline", ""),
            (false, "") => return writeln!(out, "{:indent$}no answer yet{failure}", ""),
            (false, source) => {
                let age = if self.age_seconds > 0.0 {
                    format!(", not confirmed for {:.0} s{failure}", self.age_seconds)
                } else {
                    failure
                };
                writeln!(out, "{:indent$}from {source}{age}", "")?;
            }
        }
        if self.endpoints.is_empty() {
            return writeln!(out, "{:indent$}no endpoint", "");
        }
        let widest = self.endpoints.iter().map(|one| one.view.address.len()).max().unwrap_or_default();
        self.endpoints.iter().try_for_each(|endpoint| endpoint.write(out, indent, widest))
    }
}

impl Endpoint {
    fn write(&self, out: &mut Formatter<'_>, indent: usize, widest: usize) -> fmt::Result {
        let view = &self.view;
        write!(out, "{:indent$}{:<widest$}  {}  weight {}", "", view.address, Percent(self.share), view.weight)?;
        if let Some(zone) = &view.zone {
            write!(out, ", zone {zone}")?;
        }
        if let Some(latency) = view.latency_ms {
            write!(out, ", {latency:.1} ms")?;
        }
        if view.in_flight > 0 {
            write!(out, ", {} in flight", view.in_flight)?;
        }
        // Nobody measured it yet: there is nothing to compare.
        if let Some(score) = self.score.filter(|score| *score > 0.0) {
            write!(out, ", score {score:.1}")?;
        }
        match view.failures_in_row {
            0 => {}
            1 => write!(out, ", its last request failed")?,
            failures => write!(out, ", {failures} failures in a row")?,
        }
        if view.check != "unknown" {
            write!(out, ", check {}", view.check)?;
        }
        if let Some(failure) = &view.check_failure {
            write!(out, " ({failure})")?;
        }
        write!(out, ", {}", self.speaks)?;
        if let Some(why) = &view.unused_because {
            write!(out, "; {why}")?;
        }
        writeln!(out)
    }
}

impl Service {
    fn write(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let tls = if self.tls { ", TLS" } else { "" };
        let (name, share) = (&self.name, Percent(self.share).to_string());
        writeln!(out, "\n{name}  {} of these requests, {}{tls}", share.trim_start(), self.balance)?;
        if let Branch::Target(set) = &self.from
            && set.target == self.name
        {
            set.write_endpoints(out, 2)?;
        } else {
            self.from.write(out, 2)?;
        }
        let time = &self.time;
        let until = time.until_head_ms.map_or_else(|| "no limit".to_owned(), Self::span);
        let head = if time.because.contains("connection") { "" } else { " until the head of the reply" };
        let mut says = format!("{until}{head} ({})", time.because);
        if let Some(deadline) = time.deadline_ms {
            let _ = write!(says, "; the client's deadline leaves {}", Self::span(deadline));
        }
        if let Some(per_try) = time.per_try_ms {
            let _ = write!(says, "; {} for each try", Self::span(per_try));
        }
        // Writing to a string does not fail.
        let _ = write!(says, "; connect {}, silence {}", Self::span(time.connect_ms), Self::span(time.silence_ms));
        inner(out, "time", &says)?;
        self.write_retry(out)?;
        if !time.hedge.is_empty() {
            let after = time.hedge_ms.map_or_else(
                || "not this request, or too few latencies are known".to_owned(),
                |after| format!("a second endpoint is asked after {}", Self::span(after)),
            );
            inner(out, "hedge", &format!("{}: {after}", time.hedge))?;
        }
        Ok(())
    }

    fn write_retry(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let retry = &self.retry;
        let says = if retry.attempts <= 1 {
            format!("none; up to {} other endpoints for what was provably not seen", retry.requeues)
        } else {
            let [from, to] = retry.backoff_ms;
            let repeats = if retry.repeats {
                "the method may be repeated"
            } else {
                "the method is not repeated once an endpoint may have seen it"
            };
            format!(
                "up to {} tries on {} ({repeats}), wait up to {} … {}, bodies up to {} bytes; budget {} + {}/s, {:.0} left",
                retry.attempts,
                retry.on.join(", "),
                Self::span(from),
                Self::span(to),
                retry.body_limit,
                Percent(retry.budget).to_string().trim_start(),
                retry.min_per_second,
                retry.budget_left
            )
        };
        inner(out, "retries", &says)
    }

    fn span(millis: u64) -> String {
        match millis {
            whole if whole >= 3_600_000 && whole.is_multiple_of(3_600_000) => format!("{} h", whole / 3_600_000),
            whole if whole >= 60_000 && whole.is_multiple_of(60_000) => format!("{} min", whole / 60_000),
            whole if whole >= 1000 && whole.is_multiple_of(1000) => format!("{} s", whole / 1000),
            other => format!("{other} ms"),
        }
    }
}

impl Logged {
    fn write(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out)?;
        let status = self.status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
        let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
        let (route, service, endpoint) = (or_none(&self.route), or_none(&self.service), or_none(&self.endpoint));
        row(out, "logged", &format!("request {} at {}: {status} {}", self.request_id, self.time, self.error))?;
        row(out, "", &format!("route {route}, service {service}, endpoint {endpoint}, tries {}", self.tries))?;
        if self.differences.is_empty() {
            row(out, "", "now it would be decided the same way")?;
        }
        for difference in &self.differences {
            row(out, "now", difference)?;
        }
        self.unknown.iter().try_for_each(|unknown| row(out, "unknown", unknown))
    }
}

/// A line with a name at the left.
fn row(out: &mut Formatter<'_>, name: &str, says: &str) -> fmt::Result {
    // The names of some actions are longer.
    let width = LEFT.max(name.chars().count());
    writeln!(out, "{name:<width$}  {}", says.trim_end())
}

/// The same, below a service.
fn inner(out: &mut Formatter<'_>, name: &str, says: &str) -> fmt::Result {
    writeln!(out, "  {name:<8}{says}")
}

/// A share as people read it, always of the same width.
struct Percent(f64);

impl Display for Percent {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{:>5.1} %", self.0 * 100.0)
    }
}
