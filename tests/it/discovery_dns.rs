//! Endpoints from DNS, through the whole gateway, with servers that people run: knot and dnsmasq.
//!
//! What a server must be scripted for stands in `discovery/dns/tests.rs`.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::answering::{answering, wait_for};
use crate::gateway::{self, Running};
use crate::plain::{Origin, get, load, origin, origin_at, try_client, wait_until};
use crate::real_programs::program;

/// A DNS server of a folder of its own; ended with this.
#[derive(Debug)]
struct Server {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Server {
    /// Starts a program on a port that is free for UDP and TCP; another one where somebody else was faster.
    fn start(prepare: impl Fn(&TempDir, u16) -> Command) -> Self {
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let port = free_port();
            let log = File::create(folder.path().join("log")).unwrap();
            let mut command = prepare(&folder, port);
            let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
            let mut server = Self { child, folder, port };
            let mut ended = false;
            wait_until(&format!("{command:?} listens"), || {
                ended = server.child.try_wait().unwrap().is_some();
                ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            if !ended {
                return server;
            }
            eprintln!("it ended: {}", std::fs::read_to_string(server.folder.path().join("log")).unwrap());
        }
        panic!("the server does not start");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts a gateway that asks this server; `from` is what the service is, with the floor at its lowest.
    fn gateway(&self, from: &str) -> Running {
        gateway::with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
             [discovery.dns]\nresolvers = [\"127.0.0.1:{}\"]\nmin_ttl = \"1s\"\n\
             [services.web]\nfrom = \"{from}\"\nbalance = \"random\"\n[[routes]]\nto = \"web\"\n",
            self.port
        ))
        .start()
    }
}

fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}

/// knot, an authoritative server, with the zone `mesh.test`, and one that it cannot load.
struct Knot {
    server: Server,
    control: PathBuf,
    serial: u32,
}

impl Knot {
    fn start(records: &str) -> Option<Self> {
        let (knotd, control) = (program("knotd")?, program("knotc")?);
        let server = Server::start(|folder, port| {
            let at = folder.path().display();
            let configuration = format!(
                "server:\n  rundir: \"{at}\"\n  listen: \"127.0.0.1@{port}\"\n\
                 control:\n  listen: \"{at}/knot.sock\"\n\
                 database:\n  storage: \"{at}\"\n\
                 log:\n  - target: stderr\n    any: info\n\
                 zone:\n\
                 \x20 - domain: mesh.test\n    file: \"{at}/mesh.test.zone\"\n    journal-content: none\n\
                 \x20   zonefile-load: whole\n    semantic-checks: off\n\
                 \x20 - domain: broken.test\n    file: \"{at}/missing.zone\"\n"
            );
            std::fs::write(folder.path().join("knot.conf"), configuration).unwrap();
            std::fs::write(folder.path().join("mesh.test.zone"), zone(1, records)).unwrap();
            let mut command = Command::new(&knotd);
            command.arg("-c").arg(folder.path().join("knot.conf"));
            command
        });
        Some(Self { server, control, serial: 1 })
    }

    /// Replaces the records of `mesh.test`; they are served when this returns.
    fn set(&mut self, records: &str) {
        self.serial += 1;
        std::fs::write(self.server.path("mesh.test.zone"), zone(self.serial, records)).unwrap();
        let mut command = Command::new(&self.control);
        command.arg("-s").arg(self.server.path("knot.sock")).args(["-b", "zone-reload", "mesh.test"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
    }
}

/// A zone whose records hold for a second.
fn zone(serial: u32, records: &str) -> String {
    format!("$ORIGIN mesh.test.\n$TTL 1\n@ SOA ns admin {serial} 60 60 60 1\n@ NS ns\nns A 127.0.0.1\n{records}\n")
}

/// Origins on one port of so many loopback addresses: an A record has no port.
fn origins(names: &[&str]) -> Vec<Origin> {
    loop {
        let mut all = vec![origin(names[0])];
        let port = all[0].address.port();
        for (index, name) in names.iter().enumerate().skip(1) {
            let address: SocketAddr = format!("127.0.0.{}:{port}", index + 1).parse().unwrap();
            if TcpListener::bind(address).is_ok() {
                all.push(origin_at(address, name));
            }
        }
        if all.len() == names.len() {
            return all;
        }
    }
}

fn entries(gateway: &Running) -> Vec<Value> {
    let all: Value = serde_json::from_str(&gateway.admin("/endpoints").1).unwrap();
    all["endpoints"].as_array().or(all.as_array()).unwrap().clone()
}

#[test]
fn records_that_change_under_load_fail_no_request() {
    let origins = origins(&["one", "two", "three"]);
    let port = origins[0].address.port();
    let Some(mut knot) = Knot::start("web A 127.0.0.1") else { return };
    let gateway = knot.server.gateway(&format!("dns/web.mesh.test:{port}"));
    wait_for(&gateway, &["one"]);
    let address = gateway.address("edge");
    let load = load(4, "/", false, move || try_client(address));
    for (records, names) in [
        ("web A 127.0.0.1\nweb A 127.0.0.2", &["one", "two"][..]),
        ("web A 127.0.0.2\nweb A 127.0.0.3", &["two", "three"]),
        ("web CNAME lb\nlb A 127.0.0.3", &["three"]),
        ("web A 127.0.0.1", &["one"]),
    ] {
        knot.set(records);
        wait_for(&gateway, names);
        load.wait_for(50);
    }
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    assert!(tally.good > 200, "{}", tally.good);
    assert_eq!(gateway.count("meshless_discovery_errors_total", &[]), 0);
}

/// The example, with a zone of its own in place of Consul's.
#[test]
fn the_example_runs() {
    let (web, api) = (origin("web"), origin("api"));
    let records = format!(
        "web A 127.0.0.1\n_api._tcp SRV 0 0 {} web\n_api._tcp SRV 10 0 {} web",
        api.address.port(),
        web.address.port()
    );
    let Some(knot) = Knot::start(&records) else { return };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/dns.toml");
    let example = std::fs::read_to_string(path).unwrap();
    let address = format!("127.0.0.1:{}", knot.server.port);
    let example = example
        .replace("service.consul.", "mesh.test.")
        .replace("internal.example", "mesh.test")
        .replace("[[listeners]]\n", "[[listeners]]\nname = \"edge\"\n")
        // Nor may the system's servers be asked by a test.
        .replace("[discovery.dns]\n", &format!("[discovery.dns]\nresolvers = [\"{address}\"]\n"));
    let gateway = gateway::with(&example)
        .variable("PORT", "0")
        .variable("DNS_SERVER", &address)
        .variable("WEB_PORT", &web.address.port().to_string())
        .start();
    assert_eq!(get(gateway.address("edge"), "a.example", "/").body, "web");
    assert_eq!(get(gateway.address("edge"), "a.example", "/api/x").body, "api");
}

#[test]
fn srv_records_give_ports_weights_and_tiers() {
    let (light, heavy, spare) = (origin("light"), origin("heavy"), origin("spare"));
    let record = |priority: u16, weight: u16, origin: &Origin, host: &str| {
        format!("_http._tcp.web SRV {priority} {weight} {} {host}\n", origin.address.port())
    };
    let hosts = "a A 127.0.0.1\nb A 127.0.0.1\nc A 127.0.0.1\n";
    let all = [record(0, 1, &light, "a"), record(0, 4, &heavy, "b"), record(9, 1, &spare, "c")].concat();
    let Some(mut knot) = Knot::start(&format!("{hosts}{all}")) else { return };
    let gateway = knot.server.gateway("dns/srv/_http._tcp.web.mesh.test");
    wait_for(&gateway, &["light", "heavy"]);
    let weights: BTreeSet<(String, u64)> = entries(&gateway)
        .iter()
        .map(|each| (each["address"].as_str().unwrap().to_owned(), each["weight"].as_u64().unwrap()))
        .collect();
    let wanted = [(&light, 1), (&heavy, 4), (&spare, 1)].map(|(origin, weight)| (origin.address.to_string(), weight));
    assert_eq!(weights, BTreeSet::from(wanted));
    knot.set(&format!("{hosts}{}", record(9, 1, &spare, "c")));
    wait_for(&gateway, &["spare"]);
}

#[test]
fn both_families_are_endpoints() {
    let four = origin("four");
    let Ok(probe) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: this host has no IPv6");
        return;
    };
    drop(probe);
    let six = origin_at(SocketAddr::new("::1".parse().unwrap(), four.address.port()), "six");
    let Some(knot) = Knot::start("web A 127.0.0.1\nweb AAAA ::1") else { return };
    let gateway = knot.server.gateway(&format!("dns/web.mesh.test:{}", six.address.port()));
    wait_for(&gateway, &["four", "six"]);
}

#[test]
fn more_records_than_a_datagram_holds_come_over_tcp() {
    let records: String = (0..300).map(|number| format!("web A 10.1.{}.{}\n", number / 250, number % 250)).collect();
    let Some(knot) = Knot::start(&records) else { return };
    let gateway = knot.server.gateway("dns/web.mesh.test:80");
    assert_eq!(entries(&gateway).len(), 300);
}

#[test]
fn a_name_that_is_gone_is_held_while_it_still_answers() {
    let one = origin("one");
    let Some(mut knot) = Knot::start("web A 127.0.0.1") else { return };
    let gateway = knot.server.gateway(&format!("dns/web.mesh.test:{}", one.address.port()));
    wait_for(&gateway, &["one"]);
    knot.set("other A 127.0.0.1");
    let standing = |gateway: &Running| entries(gateway).first().map(|each| each["standing"].to_string().to_lowercase());
    gateway.wait_until("the endpoint is held", |gateway| standing(gateway).is_some_and(|word| word.contains("held")));
    assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]));
    knot.set("web A 127.0.0.1");
    gateway.wait_until("it is listed again", |gateway| standing(gateway).is_some_and(|word| word.contains("listed")));
    // That a name is gone was an answer.
    assert_eq!(gateway.count("meshless_discovery_errors_total", &[]), 0);
}

#[test]
fn a_server_that_dies_or_fails_takes_no_endpoint_away() {
    let one = origin("one");
    let Some(mut knot) = Knot::start("web A 127.0.0.1") else { return };
    let port = one.address.port();
    // knot answers SERVFAIL for a zone that it could not load.
    let gateway = knot.server.gateway(&format!("dns/web.mesh.test:{port}"));
    let failing = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [discovery.dns]\nresolvers = [\"127.0.0.1:{}\"]\n\
         [[routes]]\nto = \"dns/web.mesh.test:{port} | dns/web.broken.test:{port}\"\n",
        knot.server.port
    ))
    .start();
    wait_for(&gateway, &["one"]);
    wait_for(&failing, &["one"]);
    let errors = ["target=\"dns/web.broken.test", "kind=\"unreachable\""];
    failing.wait_until("SERVFAIL is an error", |failing| failing.count("meshless_discovery_errors_total", &errors) > 0);

    knot.server.end();
    gateway.wait_until("the dead server is noticed", |gateway| {
        gateway.count("meshless_discovery_errors_total", &["kind=\"unreachable\""]) > 1
    });
    assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]));
    assert!(gateway.metric("meshless_discovery_snapshot_age_seconds", &["web.mesh.test"]) > 0.0);
}

#[test]
fn what_dnsmasq_serves_with_a_ttl_of_zero_changes_within_the_floor() {
    let origins = origins(&["one", "two"]);
    let Some(dnsmasq) = program("dnsmasq") else { return };
    let hosts = |list: &[&str]| list.iter().map(|ip| format!("{ip} web.mesh.test\n")).collect::<String>();
    let server = Server::start(|folder, port| {
        std::fs::write(folder.path().join("hosts"), hosts(&["127.0.0.1"])).unwrap();
        let mut command = Command::new(&dnsmasq);
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--local-ttl=0"]);
        command.args(["--bind-interfaces", "--listen-address=127.0.0.1", "--local=/mesh.test/", "--user=root"]);
        command.arg(format!("--port={port}")).arg("--pid-file=").arg("--log-facility=-");
        command.arg(format!("--addn-hosts={}", folder.path().join("hosts").display()));
        command
    });
    let gateway = server.gateway(&format!("dns/web.mesh.test:{}", origins[0].address.port()));
    wait_for(&gateway, &["one"]);
    std::fs::write(server.path("hosts"), hosts(&["127.0.0.1", "127.0.0.2"])).unwrap();
    kill_process(Pid::from_child(&server.child), Signal::HUP).unwrap();
    wait_for(&gateway, &["one", "two"]);
    assert_eq!(gateway.count("meshless_discovery_errors_total", &[]), 0);
}
