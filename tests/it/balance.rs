//! How endpoints are chosen, through the whole gateway: a key finds its endpoint again, requests stay in their zone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::gateway::{self, Running};
use crate::plain::{Origin, client, origin};

/// The text of an endpoints' file.
fn listed(endpoints: &[(&Origin, &str)]) -> String {
    let entry =
        |(origin, extra): &(&Origin, &str)| format!("[[services.web]]\naddress = \"{}\"\n{extra}\n", origin.address);
    endpoints.iter().map(entry).collect::<Vec<_>>().concat()
}

/// Puts a file in place as careful writers do.
fn put(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(&next, path).unwrap();
}

fn gateway(file: &Path, node: &str, policies: &str) -> Running {
    gateway::with(&format!(
        "[node]\n{node}\nworkers = 2\n[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [discovery.file]\npath = \"{}\"\n[services.web]\nfrom = \"file/web\"\n{policies}\n[[routes]]\nto = \"web\"\n",
        file.display()
    ))
    .start()
}

/// Asks once with a header; returns who answered.
fn ask(gateway: &Running, header: &str) -> String {
    let mut client = client(gateway.address("edge"));
    client.send(&format!("GET / HTTP/1.1\r\nhost: a.example\r\n{header}\r\n")).unwrap();
    let reply = client.reply().unwrap();
    assert_eq!(reply.status, 200, "{}", reply.head);
    reply.body
}

/// Who answers each of many users.
fn homes(gateway: &Running, header: impl Fn(u32) -> String) -> BTreeMap<u32, String> {
    (0..60).map(|user| (user, ask(gateway, &header(user)))).collect()
}

fn wait_for(gateway: &Running, endpoints: usize) {
    gateway.wait_until("the endpoints are known", |gateway| {
        let all: Value = serde_json::from_str(&gateway.admin("/endpoints").1).unwrap();
        all["endpoints"].as_array().or(all.as_array()).is_some_and(|all| all.len() == endpoints)
    });
}

#[test]
fn a_user_finds_the_same_endpoint_through_every_gateway_and_moves_only_when_it_leaves() {
    let origins = ["one", "two", "three", "four"].map(origin);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("endpoints.toml");
    for (kind, on) in [("ring-hash", "header:x-user"), ("maglev", "cookie:session")] {
        let header = |user: u32| match on {
            "header:x-user" => format!("x-user: {user}\r\n"),
            _ => format!("cookie: theme=dark; session=s{user}\r\n"),
        };
        let all: Vec<_> = origins.iter().map(|origin| (origin, "")).collect();
        put(&file, &listed(&all));
        let policies = format!("balance = {{ kind = \"{kind}\", on = \"{on}\" }}");
        let (here, there) = (gateway(&file, "", &policies), gateway(&file, "", &policies));
        let before = homes(&here, header);
        assert_eq!(before, homes(&here, header), "{kind}: a user stays");
        assert_eq!(before, homes(&there, header), "{kind}: gateways agree");
        assert_eq!(before.values().collect::<BTreeSet<_>>().len(), 4, "{kind}: all serve");

        // One leaves: its users go elsewhere, the others stay.
        put(&file, &listed(&all[1..]));
        wait_for(&here, 3);
        let without = homes(&here, header);
        let moved = before.iter().filter(|(user, home)| *home != "one" && without[*user] != **home).count();
        assert!(moved <= if kind == "maglev" { 6 } else { 0 }, "{kind}: {moved} moved needlessly");
        assert!(without.values().all(|home| home != "one"));

        // It comes back: all is as it was.
        put(&file, &listed(&all));
        wait_for(&here, 4);
        assert_eq!(before, homes(&here, header), "{kind}: users come home");

        // Without the key anyone answers.
        let anyone: BTreeSet<_> = (0..60).map(|_| ask(&here, "")).collect();
        assert_eq!(anyone.len(), 4, "{kind}");
    }
}

#[test]
fn a_users_endpoint_that_is_dead_is_replaced_by_the_next_one_at_once() {
    let origins = ["one", "two", "three"].map(origin);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("endpoints.toml");
    put(&file, &listed(&origins.each_ref().map(|origin| (origin, ""))));
    let gateway = gateway(&file, "", "balance = { kind = \"ring-hash\", on = \"header:x-user\" }");
    let header = |user: u32| format!("x-user: {user}\r\n");
    let before = homes(&gateway, header);
    let [one, ..] = origins;
    one.die();
    let after = homes(&gateway, header);
    for (user, home) in before {
        assert!(home == "one" || after[&user] == home, "{user} was at {home} and is at {}", after[&user]);
    }
    assert_eq!(after, homes(&gateway, header), "they stay where they went");
}

#[test]
fn requests_stay_in_the_zone_of_the_node_as_far_as_it_can_serve_them() {
    let origins = ["a1", "a2", "b1", "b2", "b3", "b4"].map(origin);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("endpoints.toml");
    let in_zones = |count: usize| {
        let zone = |name: &str| if name.starts_with('a') { "zone = \"a\"" } else { "zone = \"b\"" };
        let names = ["a1", "b1", "a2", "b2", "b3", "b4"];
        let order = [0, 2, 1, 3, 4, 5];
        listed(&order[..count].iter().zip(names).map(|(&at, name)| (&origins[at], zone(name))).collect::<Vec<_>>())
    };
    let share = |gateway: &Running| {
        let answers: Vec<_> = (0..300).map(|_| ask(gateway, "")).collect();
        answers.iter().filter(|name| name.starts_with('a')).count() as f64 / 300.0
    };
    put(&file, &in_zones(4));
    let policies = "balance = \"random\"\nzones = \"prefer\"";
    let gateway_a = gateway(&file, "zone = \"a\"", policies);
    assert!((share(&gateway_a) - 1.0).abs() < 1e-9, "two endpoints here, two there");
    // Two here, four there: the mean is three, 1.4 · 2 ÷ 3 stay.
    put(&file, &in_zones(6));
    wait_for(&gateway_a, 6);
    let stays = share(&gateway_a);
    assert!((stays - 0.933).abs() < 0.06, "{stays}");
    // Not told of a zone, or not asked to prefer it.
    for (node, policies) in [("", policies), ("zone = \"a\"", "balance = \"random\"")] {
        let anywhere = share(&gateway(&file, node, policies));
        assert!((anywhere - 1.0 / 3.0).abs() < 0.12, "{anywhere}");
    }
}
