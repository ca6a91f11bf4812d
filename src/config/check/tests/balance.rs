//! `balance`, `slow_start`, `zones`, `spill`.

use super::*;
use crate::config::{Balance, HashOn, ZonePreference};

fn service(lines: &str) -> Given {
    around(&format!("[services.a]\nfrom = \"static/127.0.0.1:2\"\n{lines}\n"))
}

#[test]
fn every_way_to_choose_is_taken_and_shown_as_it_is_written() {
    for (written, expected) in [
        ("\"least-request\"", Balance::LeastRequest),
        ("\"peak-ewma\"", Balance::PeakEwma),
        ("\"random\"", Balance::Random),
        ("\"round-robin\"", Balance::RoundRobin),
        (
            "{ kind = \"ring-hash\", on = \"header:X-User\" }",
            Balance::RingHash(HashOn::Header("x-user".parse().unwrap())),
        ),
        ("{ kind = \"maglev\", on = \"cookie:Session\" }", Balance::Maglev(HashOn::Cookie("Session".to_owned()))),
        ("{ kind = \"maglev\", on = \"address\" }", Balance::Maglev(HashOn::Address)),
    ] {
        let config = service(&format!("balance = {written}")).config();
        assert_eq!(config.services["a"].policies.balance, expected);
        let view = serde_json::to_string(&config.services["a"].policies.balance).unwrap();
        let view = view.replace(['"', '{', '}', ',', ':'], " ").replace('=', " ").to_lowercase();
        let written = written.replace(['"', '{', '}', ',', ':', '='], " ").to_lowercase();
        assert_eq!(view.split_whitespace().collect::<Vec<_>>(), written.split_whitespace().collect::<Vec<_>>());
    }
}

#[test]
fn a_hash_without_its_parts_or_with_wrong_ones_is_told_what_it_needs() {
    for (written, expected) in [
        (
            "balance = { }",
            "c.toml:3:1: error: services.a.balance.kind: missing: write `kind = \"ring-hash\"` or `kind = \"maglev\"`\n\
             c.toml:3:1: error: services.a.balance.on: missing: say what is hashed: `header:NAME`, `cookie:NAME` or `address`",
        ),
        (
            "balance = { kind = \"maglef\", on = \"adress\" }",
            "c.toml:3:20: error: services.a.balance.kind: expected `ring-hash` or `maglev`, found `maglef`; did you mean `maglev`?\n\
             c.toml:3:35: error: services.a.balance.on: expected `header:NAME`, `cookie:NAME` or `address`, found `adress`",
        ),
        (
            "balance = { kind = \"maglev\", on = \"header:x user\" }",
            "c.toml:3:35: error: services.a.balance.on: expected `header:NAME`, `cookie:NAME` or `address`, found `header:x user`",
        ),
        (
            "balance = { kind = \"maglev\", on = \"cookie:\" }",
            "c.toml:3:35: error: services.a.balance.on: expected `header:NAME`, `cookie:NAME` or `address`, found `cookie:`",
        ),
        (
            "protocol = \"tcp\"\nbalance = { kind = \"maglev\", on = \"cookie:a\" }",
            "c.toml:4:1: error: services.a.balance: a `tcp` service has no headers to find `cookie:a` in; use `on = \"address\"`",
        ),
        (
            "slow_start = \"2h\"",
            "c.toml:3:14: error: services.a.slow_start: expected at most 1h; an endpoint that is small for good has a weight",
        ),
        ("zones = \"own\"", "c.toml:3:9: error: services.a.zones: expected `ignore` or `prefer`, found `own`"),
        ("spill = 0.9", "c.toml:3:9: error: services.a.spill: expected a number from 1 to 100, found the number 0.9"),
    ] {
        assert_eq!(service(written).problems(), expected);
    }
}

#[test]
fn a_service_may_do_without_the_slow_start_of_the_defaults() {
    let given = "[defaults]\nslow_start = \"30s\"\nzones = \"prefer\"\n";
    let config = toml(&format!(
        "{given}[services.a]\nfrom = \"static/127.0.0.1:2\"\nslow_start = \"0s\"\nzones = \"ignore\"\n\
         [services.b]\nfrom = \"static/127.0.0.1:2\"\n[[listeners]]\nlisten = \"127.0.0.1:1\"\nto = \"a\"\n"
    ))
    .config();
    let of = |name: &str| (config.services[name].policies.slow_start, config.services[name].policies.zones);
    assert_eq!(of("a"), (None, ZonePreference::Ignore));
    assert_eq!(of("b"), (Some(Duration::from_secs(30)), ZonePreference::Prefer));
}
