//! The backend against a scripted server: the conformance suite, and each quirk by its name.

mod server;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::time::{Instant, timeout};

use super::client::Client;
use super::schedule::Schedule;
use super::{Dns, DnsConfig};
use crate::conformance::{self, Played, Stage, Trouble};
use crate::{Address, Backend, DnsFamily, Endpoint, Error, Source, Target, Verdict, async_trait};
use server::{Fault, Server};

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A schedule that a test can wait for.
const QUICK: Schedule = Schedule {
    min: Duration::from_millis(20),
    max: Duration::from_millis(60),
    confirm_after: Duration::from_millis(20),
    confirmations: 3,
};

/// Time enough between two answers for a test to do something on a busy machine.
const UNHURRIED: Schedule = Schedule { confirm_after: Duration::from_millis(400), ..QUICK };

fn with(config: &DnsConfig) -> Dns {
    Dns { client: Arc::new(Client::new(config).with_timeout(Duration::from_millis(300))), schedule: QUICK }
}

fn asking(servers: &[&Server]) -> Dns {
    let resolvers = servers.iter().map(|server| server.address).collect();
    with(&DnsConfig { resolvers, ..DnsConfig::default() })
}

fn target(path: &str) -> Target {
    Target { backend: "dns".to_owned(), path: path.to_owned(), options: BTreeMap::new() }
}

fn source(backend: &Dns, path: &str) -> Box<dyn Source> {
    backend.source(&target(path)).unwrap()
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

async fn answer(source: &mut Box<dyn Source>) -> Result<Vec<String>, Error> {
    let snapshot = timeout(PATIENCE, source.next()).await.expect("no answer came")?;
    Ok(snapshot.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect())
}

/// What a fresh source says first.
async fn first(backend: &Dns, path: &str) -> Result<Vec<String>, Error> {
    answer(&mut source(backend, path)).await
}

async fn error(backend: &Dns, path: &str) -> Error {
    first(backend, path).await.expect_err("an answer came")
}

/// A stage whose place is a server, asked for a host or for a service.
struct Zone {
    server: Server,
    is_service: bool,
}

impl Zone {
    async fn new(is_service: bool) -> Self {
        Self { server: Server::start().await, is_service }
    }
}

#[async_trait]
impl Stage for Zone {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(asking(&[&self.server]))
    }

    fn target(&self) -> Target {
        target(if self.is_service { "srv/_http._tcp.web.x" } else { "web.x:80" })
    }

    async fn set(&mut self, endpoints: &[Endpoint]) {
        let list: Vec<IpAddr> = endpoints
            .iter()
            .map(|endpoint| match &endpoint.address {
                Address::Tcp(address) => address.ip(),
                Address::Unix(path) => panic!("{path:?} is not for DNS"),
            })
            .collect();
        let mut world = self.server.world();
        if !self.is_service {
            return world.host("web.x.", 0, &list);
        }
        let hosts: Vec<String> = (0..list.len()).map(|number| format!("host{number}.x.")).collect();
        for (host, ip) in hosts.iter().zip(&list) {
            world.host(host, 0, &[*ip]);
        }
        let records: Vec<_> = hosts.iter().map(|host| (0, 0, 80, host.as_str())).collect();
        world.service("_http._tcp.web.x.", 0, &records);
    }

    async fn play(&mut self, trouble: Trouble) -> Played {
        if trouble == Trouble::Restart {
            self.server.restart().await;
            return Played::Done;
        }
        let mut world = self.server.world();
        match (trouble, self.is_service) {
            (Trouble::Garbage, _) => world.fault = Some(Fault::Garbage),
            (Trouble::Slow, _) => world.fault = Some(Fault::Slow),
            (Trouble::Unreachable, _) => world.fault = Some(Fault::Silent),
            (Trouble::Partial, false) => world.code("web.x.", RecordType::AAAA, ResponseCode::ServFail),
            (Trouble::Partial, true) => world.code("host1.x.", RecordType::A, ResponseCode::ServFail),
            // A message has 64 KiB: so many addresses fit only under several names.
            (Trouble::Huge, false) => return Played::Impossible,
            (Trouble::Huge, true) => {
                for host in 0..4_u8 {
                    let list: Vec<IpAddr> = (0..2600_u16)
                        .map(|ip| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | (u32::from(host) << 16) | u32::from(ip))))
                        .collect();
                    world.host(&format!("huge{host}.x."), 0, &list);
                }
                let records: Vec<_> =
                    ["huge0.x.", "huge1.x.", "huge2.x.", "huge3.x."].map(|host| (0, 0, 80, host)).to_vec();
                world.service("_http._tcp.huge.x.", 0, &records);
                world.set("_http._tcp.web.x.", RecordType::SRV, 0, vec![]);
                world.alias("_http._tcp.web.x.", 0, "_http._tcp.huge.x.");
            }
            (Trouble::Restart, _) => {}
        }
        Played::Done
    }

    async fn recover(&mut self) {
        let mut world = self.server.world();
        world.fault = None;
        world.code("web.x.", RecordType::AAAA, ResponseCode::NoError);
        world.code("host1.x.", RecordType::A, ResponseCode::NoError);
        world.set("_http._tcp.web.x.", RecordType::CNAME, 0, vec![]);
        if self.is_service {
            world.service("_http._tcp.web.x.", 0, &[(0, 0, 80, "host0.x."), (0, 0, 80, "host1.x.")]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_pass_the_conformance_suite() {
    let handle = tokio::runtime::Handle::current();
    let stage = || tokio::task::block_in_place(|| handle.block_on(Zone::new(false)));
    assert_eq!(conformance::run(stage).await, [Trouble::Huge]);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_pass_the_conformance_suite() {
    let handle = tokio::runtime::Handle::current();
    let stage = || tokio::task::block_in_place(|| handle.block_on(Zone::new(true)));
    assert_eq!(conformance::run(stage).await, []);
}

#[tokio::test]
async fn addresses_of_both_families_are_endpoints_and_one_family_alone_is_an_answer() {
    let server = Server::start().await;
    server.world().host("both.x.", 60, &ips(&["192.0.2.1", "2001:db8::1"]));
    server.world().host("four.x.", 60, &ips(&["192.0.2.1", "192.0.2.2"]));
    server.world().host("six.x.", 60, &ips(&["2001:db8::1"]));
    let dns = asking(&[&server]);
    assert_eq!(first(&dns, "both.x:80").await.unwrap(), ["192.0.2.1:80", "[2001:db8::1]:80"]);
    assert_eq!(first(&dns, "four.x:80").await.unwrap(), ["192.0.2.1:80", "192.0.2.2:80"]);
    assert_eq!(first(&dns, "six.x:80").await.unwrap(), ["[2001:db8::1]:80"]);
}

#[tokio::test]
async fn a_family_that_cannot_be_had_is_an_error_unless_it_is_not_wanted() {
    let server = Server::start().await;
    server.world().host("web.x.", 60, &ips(&["192.0.2.1"]));
    server.world().code("web.x.", RecordType::AAAA, ResponseCode::ServFail);
    let failed = error(&asking(&[&server]), "web.x:80").await;
    assert!(
        matches!(&failed, Error::Unreachable(text) if text.contains("AAAA") && text.contains("SERVFAIL")),
        "{failed}"
    );
    let config = DnsConfig { resolvers: vec![server.address], family: DnsFamily::Ipv4, ..DnsConfig::default() };
    let asked = server.world().count("web.x.", RecordType::AAAA);
    assert_eq!(first(&with(&config), "web.x:80").await.unwrap(), ["192.0.2.1:80"]);
    assert_eq!(server.world().count("web.x.", RecordType::AAAA), asked);
}

#[tokio::test]
async fn each_failure_is_an_error_of_its_kind() {
    let server = Server::start().await;
    let dns = asking(&[&server]);
    for (code, label) in [
        (ResponseCode::ServFail, "unreachable"),
        (ResponseCode::Refused, "denied"),
        (ResponseCode::NotImp, "malformed"),
        (ResponseCode::FormErr, "malformed"),
        (ResponseCode::Unknown(11), "malformed"),
    ] {
        server.world().code("web.x.", RecordType::A, code);
        let failed = error(&dns, "web.x:80").await;
        assert_eq!(failed.label(), label, "{code}: {failed}");
        assert!(failed.to_string().contains(&server.address.to_string()), "{failed}");
    }
    server.world().code("web.x.", RecordType::A, ResponseCode::NoError);
    server.world().host("web.x.", 60, &ips(&["192.0.2.1"]));
    for (fault, label) in [
        (Fault::Silent, "unreachable"),
        (Fault::WrongId, "unreachable"),
        (Fault::OtherQuestion, "unreachable"),
        (Fault::TruncatedWithoutTcp, "unreachable"),
        (Fault::Garbage, "malformed"),
        (Fault::Refers, "malformed"),
    ] {
        server.world().fault = Some(fault);
        let failed = error(&dns, "web.x:80").await;
        assert_eq!(failed.label(), label, "{fault:?}: {failed}");
    }
}

#[tokio::test]
async fn an_answer_with_a_wrong_id_is_passed_over_and_the_right_one_taken() {
    let server = Server::start().await;
    server.world().host("web.x.", 60, &ips(&["192.0.2.1"]));
    server.world().fault = Some(Fault::WrongIdFirst);
    assert_eq!(first(&asking(&[&server]), "web.x:80").await.unwrap(), ["192.0.2.1:80"]);
}

#[tokio::test]
async fn nobody_is_told_only_after_three_answers_in_a_row() {
    let server = Server::start().await;
    server.world().host("web.x.", 0, &ips(&["192.0.2.1"]));
    let dns = Dns { schedule: UNHURRIED, ..asking(&[&server]) };
    let mut source = source(&dns, "web.x:80");
    assert_eq!(answer(&mut source).await.unwrap(), ["192.0.2.1:80"]);

    // A moment without the name is not told at all.
    let before = {
        let mut world = server.world();
        world.remove("web.x.");
        world.count("web.x.", RecordType::A)
    };
    let flicker = async {
        while server.world().count("web.x.", RecordType::A) < before + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.world().host("web.x.", 0, &ips(&["192.0.2.2"]));
    };
    let (told, ()) = tokio::join!(answer(&mut source), flicker);
    assert_eq!(told.unwrap(), ["192.0.2.2:80"]);

    let before = {
        let mut world = server.world();
        world.remove("web.x.");
        world.count("web.x.", RecordType::A)
    };
    assert_eq!(answer(&mut source).await.unwrap(), [""; 0]);
    assert!(server.world().count("web.x.", RecordType::A) >= before + 3);
}

#[tokio::test]
async fn an_error_between_two_answers_that_say_nobody_makes_them_count_anew() {
    let server = Server::start().await;
    server.world().host("web.x.", 0, &ips(&["192.0.2.1"]));
    let dns = Dns { schedule: UNHURRIED, ..asking(&[&server]) };
    let mut source = source(&dns, "web.x:80");
    answer(&mut source).await.unwrap();
    for _ in 0..3 {
        let before = {
            let mut world = server.world();
            world.remove("web.x.");
            world.code("web.x.", RecordType::A, ResponseCode::NoError);
            world.count("web.x.", RecordType::A)
        };
        let fail = async {
            while server.world().count("web.x.", RecordType::A) < before + 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            server.world().code("web.x.", RecordType::A, ResponseCode::ServFail);
        };
        let (told, ()) = tokio::join!(answer(&mut source), fail);
        assert_eq!(told.unwrap_err().label(), "unreachable");
    }
}

#[tokio::test]
async fn a_name_that_has_only_other_records_is_nobody() {
    let server = Server::start().await;
    server.world().service("web.x.", 60, &[(0, 0, 80, "a.x.")]);
    assert_eq!(first(&asking(&[&server]), "web.x:80").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_ttl_of_zero_does_not_mean_to_ask_without_end() {
    let server = Server::start().await;
    server.world().host("web.x.", 0, &ips(&["192.0.2.1"]));
    let dns = Dns { schedule: Schedule { min: Duration::from_millis(100), ..QUICK }, ..asking(&[&server]) };
    let mut source = source(&dns, "web.x:80");
    answer(&mut source).await.unwrap();
    assert!(timeout(Duration::from_secs(1), source.next()).await.is_err());
    let asked = server.world().count("web.x.", RecordType::A);
    assert!((2..=11).contains(&asked), "{asked}");
}

#[tokio::test]
async fn more_than_a_hundred_records_are_read_over_tcp() {
    let server = Server::start().await;
    let many: Vec<IpAddr> = (0..300_u16).map(|ip| Ipv4Addr::from(0x0a00_0000 | u32::from(ip)).into()).collect();
    server.world().host("web.x.", 60, &many);
    assert_eq!(first(&asking(&[&server]), "web.x:80").await.unwrap().len(), 300);
    let asked = server.world().asked.clone();
    let over_tcp =
        |wanted: bool| asked.iter().filter(|one| one.kind == RecordType::A && one.over_tcp == wanted).count();
    assert_eq!((over_tcp(false), over_tcp(true)), (1, 1), "{asked:?}");
    assert!(asked.iter().all(|one| one.with_edns), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_takes_edns_for_an_error_is_asked_without() {
    let server = Server::start().await;
    server.world().host("web.x.", 60, &ips(&["192.0.2.1"]));
    server.world().fault = Some(Fault::KnowsNoEdns);
    assert_eq!(first(&asking(&[&server]), "web.x:80").await.unwrap(), ["192.0.2.1:80"]);
}

#[tokio::test]
async fn a_chain_of_names_is_followed_within_an_answer_and_beyond_it() {
    for stops_at_cname in [false, true] {
        let server = Server::start().await;
        server.world().stops_at_cname = stops_at_cname;
        server.world().alias("web.x.", 60, "lb.y.");
        server.world().alias("lb.y.", 60, "node.z.");
        server.world().host("node.z.", 60, &ips(&["192.0.2.1"]));
        assert_eq!(first(&asking(&[&server]), "web.x:80").await.unwrap(), ["192.0.2.1:80"]);
    }
}

#[tokio::test]
async fn names_that_lead_to_each_other_are_an_error_and_not_without_end() {
    let server = Server::start().await;
    server.world().stops_at_cname = true;
    server.world().alias("web.x.", 60, "lb.x.");
    server.world().alias("lb.x.", 60, "web.x.");
    assert_eq!(error(&asking(&[&server]), "web.x:80").await.label(), "malformed");
    assert!(server.world().count("web.x.", RecordType::A) < 20);
}

/// hickory's own resolver follows the host of the last record instead of the name, and finds nothing.
#[tokio::test]
async fn a_service_behind_another_name_is_found() {
    let server = Server::start().await;
    server.world().alias("_http._tcp.web.x.", 60, "_http._tcp.web.y.");
    server.world().service("_http._tcp.web.y.", 60, &[(0, 0, 8080, "a.y.")]);
    server.world().host("a.y.", 60, &ips(&["192.0.2.1"]));
    assert_eq!(first(&asking(&[&server]), "srv/_http._tcp.web.x").await.unwrap(), ["192.0.2.1:8080"]);
}

#[tokio::test]
async fn a_service_has_priority_weight_and_port_of_its_records() {
    let server = Server::start().await;
    for glue in [false, true] {
        server.world().glue = glue;
        server.world().service("_http._tcp.x.", 60, &[(0, 3, 8080, "A.x."), (0, 1, 8081, "b.x."), (5, 0, 80, "c.x.")]);
        server.world().host("a.x.", 60, &ips(&["192.0.2.1"]));
        server.world().host("b.x.", 60, &ips(&["192.0.2.2", "2001:db8::2"]));
        server.world().host("c.x.", 60, &ips(&["192.0.2.3"]));
        let before = server.world().count("b.x.", RecordType::A);
        let dns = asking(&[&server]);
        let snapshot = timeout(PATIENCE, source(&dns, "srv/_http._tcp.x").next()).await.unwrap().unwrap();
        let told: Vec<(String, u16, u32, &str)> = snapshot
            .endpoints()
            .iter()
            .map(|one| (one.address.to_string(), one.priority, one.weight, one.metadata["host"].as_str()))
            .collect();
        let wanted = [
            ("192.0.2.1:8080", 0, 6, "a.x"),
            ("192.0.2.2:8081", 0, 1, "b.x"),
            ("192.0.2.3:80", 5, 1, "c.x"),
            ("[2001:db8::2]:8081", 0, 1, "b.x"),
        ];
        assert_eq!(told, wanted.map(|(address, priority, weight, host)| (address.to_owned(), priority, weight, host)));
        let asked = server.world().count("b.x.", RecordType::A) - before;
        assert_eq!(asked, usize::from(!glue), "glue: {glue}");
    }
}

/// An answer that sends only the IPv4 addresses along must not make the others disappear.
#[tokio::test]
async fn a_family_that_the_server_did_not_send_along_is_asked_for() {
    let server = Server::start().await;
    server.world().glue = true;
    server.world().service("_http._tcp.x.", 60, &[(0, 0, 80, "a.x.")]);
    server.world().host("a.x.", 60, &ips(&["192.0.2.1"]));
    first(&asking(&[&server]), "srv/_http._tcp.x").await.unwrap();
    let world = server.world();
    assert_eq!((world.count("a.x.", RecordType::A), world.count("a.x.", RecordType::AAAA)), (0, 1));
}

#[tokio::test]
async fn a_service_that_is_not_offered_has_no_endpoints_and_needs_no_confirmation() {
    let server = Server::start().await;
    server.world().service("_http._tcp.x.", 0, &[(0, 0, 80, "a.x.")]);
    server.world().host("a.x.", 0, &ips(&["192.0.2.1"]));
    let dns = Dns { schedule: Schedule { confirm_after: PATIENCE * 2, ..QUICK }, ..asking(&[&server]) };
    let mut source = source(&dns, "srv/_http._tcp.x");
    answer(&mut source).await.unwrap();
    server.world().service("_http._tcp.x.", 0, &[(0, 0, 0, ".")]);
    assert_eq!(answer(&mut source).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn an_address_that_a_server_sends_along_twice_is_one() {
    let server = Server::start().await;
    server.world().glue = true;
    server.world().service("_http._tcp.x.", 60, &[(0, 5, 80, "a.x."), (7, 3, 81, "a.x.")]);
    server.world().host("a.x.", 60, &ips(&["192.0.2.1"]));
    let dns = asking(&[&server]);
    let snapshot = timeout(PATIENCE, source(&dns, "srv/_http._tcp.x").next()).await.unwrap().unwrap();
    let weights: Vec<u32> = snapshot.endpoints().iter().map(|endpoint| endpoint.weight).collect();
    assert_eq!(weights, [5, 3]);
}

#[tokio::test]
async fn a_record_with_port_zero_is_an_error() {
    let server = Server::start().await;
    server.world().service("_http._tcp.x.", 60, &[(0, 0, 80, "a.x."), (0, 0, 0, "b.x.")]);
    server.world().host("a.x.", 60, &ips(&["192.0.2.1"]));
    let failed = error(&asking(&[&server]), "srv/_http._tcp.x").await;
    assert!(matches!(&failed, Error::Malformed(text) if text.contains("b.x. has port 0")), "{failed}");
}

#[tokio::test]
async fn a_host_of_a_service_that_does_not_exist_is_left_out_and_one_that_fails_is_an_error() {
    let server = Server::start().await;
    server.world().service("_http._tcp.x.", 60, &[(0, 0, 80, "a.x."), (0, 0, 80, "b.x.")]);
    server.world().host("a.x.", 60, &ips(&["192.0.2.1"]));
    let dns = asking(&[&server]);
    assert_eq!(first(&dns, "srv/_http._tcp.x").await.unwrap(), ["192.0.2.1:80"]);
    server.world().code("b.x.", RecordType::A, ResponseCode::ServFail);
    assert_eq!(error(&dns, "srv/_http._tcp.x").await.label(), "unreachable");
}

#[tokio::test]
async fn a_metadata_address_is_refused_with_all_that_came_with_it() {
    let server = Server::start().await;
    server.world().host("web.x.", 60, &ips(&["192.0.2.1", "169.254.169.254"]));
    let failed = error(&asking(&[&server]), "web.x:80").await;
    assert!(matches!(&failed, Error::Denied(text) if text.contains("allow_link_local")), "{failed}");
    let config = DnsConfig { resolvers: vec![server.address], allow_link_local: true, ..DnsConfig::default() };
    assert_eq!(first(&with(&config), "web.x:80").await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails_and_stays_the_first() {
    let (broken, good) = (Server::start().await, Server::start().await);
    good.world().host("web.x.", 60, &ips(&["192.0.2.1"]));
    broken.world().code("web.x.", RecordType::A, ResponseCode::ServFail);
    broken.world().code("web.x.", RecordType::AAAA, ResponseCode::ServFail);
    let dns = asking(&[&broken, &good]);
    assert_eq!(first(&dns, "web.x:80").await.unwrap(), ["192.0.2.1:80"]);
    let asked = broken.world().asked.len();
    assert_eq!(first(&dns, "web.x:80").await.unwrap(), ["192.0.2.1:80"]);
    assert_eq!(broken.world().asked.len(), asked);
}

#[tokio::test]
async fn that_there_is_no_such_name_is_an_answer_and_no_reason_to_ask_the_next_server() {
    let (one, other) = (Server::start().await, Server::start().await);
    other.world().host("web.x.", 60, &ips(&["192.0.2.1"]));
    assert_eq!(first(&asking(&[&one, &other]), "web.x:80").await.unwrap(), [""; 0]);
    assert_eq!(other.world().asked, []);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_asked_again() {
    let server = Server::start().await;
    server.world().host("web.x.", 60, &ips(&["192.0.2.1"]));
    server.world().fault = Some(Fault::Silent);
    let dns = asking(&[&server]);
    let heal = async {
        while server.world().asked.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.world().fault = None;
    };
    let (told, ()) = tokio::join!(first(&dns, "web.x:80"), heal);
    assert_eq!(told.unwrap(), ["192.0.2.1:80"]);
}

/// Asks the servers of a file, as of the system's.
fn of_system(file: &std::path::Path, port: u16) -> Dns {
    let client = Client::new(&DnsConfig::default()).with_system(file.to_owned(), port);
    Dns { client: Arc::new(client), schedule: QUICK }
}

#[tokio::test]
async fn the_system_s_file_is_read_again_when_it_changes() {
    let (one, other) = Server::pair().await;
    one.world().host("web.a.x.", 0, &ips(&["192.0.2.1"]));
    other.world().host("web.b.x.", 0, &ips(&["192.0.2.2"]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\nsearch a.x\n").unwrap();
    let dns = of_system(&file, one.address.port());
    let mut source = source(&dns, "web:80");
    assert_eq!(answer(&mut source).await.unwrap(), ["192.0.2.1:80"]);
    // Gone for a moment, as while it is written anew: what it said holds.
    std::fs::remove_file(&file).unwrap();
    assert!(timeout(Duration::from_millis(1200), source.next()).await.is_err());
    std::fs::write(&file, "nameserver 127.0.0.2\nsearch b.x\n").unwrap();
    assert_eq!(answer(&mut source).await.unwrap(), ["192.0.2.2:80"]);
}

#[tokio::test]
async fn a_missing_system_file_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let dns = of_system(&folder.path().join("resolv.conf"), 53);
    let failed = error(&dns, "web.x:80").await;
    assert!(failed.to_string().contains("set `resolvers`"), "{failed}");
}

/// libc and hickory go on to the next domain after an error: `web.b.x` would take the traffic of `web.a.x` for as long
/// as the server of `a.x` has trouble, or nobody would.
#[tokio::test]
async fn an_error_ends_the_search_and_that_there_is_no_such_name_does_not() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\nsearch a.x b.x\noptions timeout:1 attempts:1\n").unwrap();
    let dns = of_system(&file, server.address.port());
    server.world().host("web.b.x.", 60, &ips(&["192.0.2.2"]));
    assert_eq!(first(&dns, "web:80").await.unwrap(), ["192.0.2.2:80"]);
    server.world().code("web.a.x.", RecordType::A, ResponseCode::ServFail);
    assert_eq!(error(&dns, "web:80").await.label(), "unreachable");
    server.world().code("web.a.x.", RecordType::A, ResponseCode::NoError);
    server.world().host("web.a.x.", 60, &ips(&["192.0.2.1"]));
    assert_eq!(first(&dns, "web:80").await.unwrap(), ["192.0.2.1:80"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_in_time() {
    let mut server = Server::start().await;
    server.stop();
    let begun = Instant::now();
    assert_eq!(error(&asking(&[&server]), "web.x:80").await.label(), "unreachable");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_option_and_a_bad_path_are_refused_with_the_target() {
    let dns = with(&DnsConfig { resolvers: vec![SocketAddr::from(([127, 0, 0, 1], 53))], ..DnsConfig::default() });
    let error = dns.source(&target("10.0.0.1:80")).unwrap_err().to_string();
    assert!(error.starts_with("target `dns/10.0.0.1:80`: ") && error.contains("static/10.0.0.1:80"), "{error}");
    let mut with_option = target("web.x:80");
    with_option.options.insert("tag".to_owned(), "blue".to_owned());
    assert!(dns.source(&with_option).unwrap_err().to_string().contains("option `tag`"));
}

#[tokio::test]
async fn records_of_another_type_in_place_of_the_one_asked_for_are_an_error() {
    let server = Server::start().await;
    server.world().set("web.x.", RecordType::A, 60, vec![RData::from("2001:db8::1".parse::<IpAddr>().unwrap())]);
    assert_eq!(error(&asking(&[&server]), "web.x:80").await.label(), "malformed");
}

#[tokio::test]
async fn each_server_is_examined_over_udp_and_over_tcp() {
    let (well, silent, refuses) = (Server::start().await, Server::start().await, Server::start().await);
    well.world().host("web.x.", 60, &ips(&["10.0.0.1"]));
    silent.world().fault = Some(Fault::Silent);
    refuses.world().code("web.x.", RecordType::A, ResponseCode::Refused);
    let findings = asking(&[&well, &silent, &refuses]).examine(&[target("web.x:80")]).await;
    let told: Vec<(Verdict, Option<&str>)> = findings.iter().map(|finding| (finding.verdict, finding.kind())).collect();
    assert_eq!(
        told,
        [
            (Verdict::Good, None),
            (Verdict::Good, None),
            (Verdict::Bad, Some("unreachable")),
            (Verdict::Warning, Some("unreachable")),
            (Verdict::Bad, Some("denied")),
            (Verdict::Bad, Some("denied")),
        ],
        "{findings:?}"
    );
    assert!(findings.iter().all(|finding| finding.remedy.is_some() == (finding.verdict != Verdict::Good)));
    let asked = well.world().asked.clone();
    assert!(asked.iter().any(|asked| asked.over_tcp) && asked.iter().any(|asked| !asked.over_tcp), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_answers_over_udp_alone_is_a_warning() {
    let server = Server::start().await;
    server.world().fault = Some(Fault::TruncatedWithoutTcp);
    let findings = asking(&[&server]).examine(&[]).await;
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert_eq!(findings[1].verdict, Verdict::Warning, "{findings:?}");
}
