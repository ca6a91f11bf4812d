//! Limits: what is over one waits or is refused, is counted, and leaves no trace.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::gateway::{self, Running};
use crate::plain::{Reply, client, get, origin, try_client, wait_until};
use crate::process;

fn service(origin: SocketAddr, limits: &str) -> String {
    format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.web]\nfrom = \"static/{origin}\"\nlimits = {{ {limits} }}\n[[routes]]\nto = \"web\"\n"
    )
}

fn edge(origin: SocketAddr, limits: &str) -> String {
    format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"static/{origin}\"\n\
         limits = {{ {limits} }}\n"
    )
}

fn ask(gateway: &Running, count: usize, path: &'static str) -> Vec<JoinHandle<Reply>> {
    let address = gateway.address("edge");
    (0..count).map(|_| thread::spawn(move || get(address, "a.example", path))).collect()
}

fn replies(threads: Vec<JoinHandle<Reply>>) -> Vec<(u16, String)> {
    let mut replies: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .map(|reply| (reply.status, reply.header("meshless-error").unwrap_or_default().to_owned()))
        .collect();
    replies.sort();
    replies
}

#[test]
fn connections_to_a_service_are_limited_over_all_workers() {
    let origin = origin("one");
    let gateway = gateway::with(&service(origin.address, "connections = 2, queue = \"15s\"")).workers(2).start();
    let threads = ask(&gateway, 8, "/hold");
    origin.wait_for_held(2);
    gateway.wait_for_metric("tcp_open_connections", &["peer=\"src\""], 8.0);
    assert_eq!(origin.requests(), 2);
    assert!((gateway.metric("tcp_open_connections", &["peer=\"dst\""]) - 2.0).abs() < 0.5);
    origin.release();
    assert_eq!(replies(threads), vec![(200, String::new()); 8]);
}

#[test]
fn a_request_that_waits_for_a_connection_too_long_is_refused() {
    let origin = origin("one");
    let gateway = gateway::with(&service(origin.address, "connections = 1, queue = \"200ms\"")).workers(2).start();
    let held = ask(&gateway, 1, "/hold");
    origin.wait_for_held(1);
    let start = Instant::now();
    assert_eq!(replies(ask(&gateway, 2, "/")), vec![(503, "limit_queue".to_owned()); 2]);
    assert!(start.elapsed() >= Duration::from_millis(200));
    origin.release();
    assert_eq!(replies(held), [(200, String::new())]);
    assert_eq!(replies(ask(&gateway, 1, "/")), [(200, String::new())], "the place is free again");
}

#[test]
fn so_many_requests_may_wait_for_a_connection_and_no_more() {
    let origin = origin("one");
    let limits = "connections = 1, pending = 2, queue = \"15s\"";
    let gateway = gateway::with(&service(origin.address, limits)).workers(2).start();
    let threads = ask(&gateway, 6, "/hold");
    origin.wait_for_held(1);
    gateway.wait_for_metric("response_total", &["error=\"limit_pending\""], 3.0);
    origin.release();
    let expected = [vec![(200, String::new()); 3], vec![(503, "limit_pending".to_owned()); 3]].concat();
    assert_eq!(replies(threads), expected);
}

#[test]
fn so_many_requests_may_be_in_flight_and_no_more() {
    let origin = origin("one");
    let gateway = gateway::with(&service(origin.address, "requests = 3")).workers(2).start();
    let threads = ask(&gateway, 8, "/hold");
    origin.wait_for_held(3);
    gateway.wait_for_metric("response_total", &["error=\"limit_requests\""], 5.0);
    origin.release();
    let expected = [vec![(200, String::new()); 3], vec![(503, "limit_requests".to_owned()); 5]].concat();
    assert_eq!(replies(threads), expected);
    assert_eq!(replies(ask(&gateway, 1, "/")), [(200, String::new())]);
}

#[test]
fn connections_over_a_listeners_limit_are_closed_and_a_free_place_is_given_again() {
    let origin = origin("one");
    let gateway = gateway::with(&edge(origin.address, "connections = 3")).workers(2).start();
    let address = gateway.address("edge");
    let mut open: Vec<_> = (0..3).map(|_| client(address)).collect();
    for client in &mut open {
        assert_eq!(client.get("a.example", "/").unwrap().status, 200);
    }
    assert!(client(address).is_closed());
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"limit_connections\""], 1.0);
    open.pop();
    wait_until("a place is free", || {
        try_client(address).and_then(|mut client| client.get("a.example", "/")).is_ok_and(|reply| reply.status == 200)
    });
    assert_eq!(open[0].get("a.example", "/").unwrap().status, 200);
}

#[test]
fn one_client_behind_a_balancer_may_have_so_many_connections_and_no_more() {
    let origin = origin("one");
    let text = edge(origin.address, "connections_per_address = 2") + "proxy_protocol = true\n";
    let gateway = gateway::with(&text).workers(2).start();
    let address = gateway.address("edge");
    let from = |source: &str| {
        let mut client = client(address);
        client.send(&format!("PROXY TCP4 {source} 192.0.2.200 1000 80\r\n"))?;
        client.get("a.example", "/").map(|reply| (client, reply.status))
    };
    let first = from("192.0.2.7").unwrap();
    let second = from("192.0.2.7").unwrap();
    assert_eq!((first.1, second.1), (200, 200));
    assert!(from("192.0.2.7").is_err());
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"limit_connections_per_address\""], 1.0);
    assert_eq!(from("192.0.2.8").unwrap().1, 200, "another client is not affected, nor is the balancer");
    drop(first);
    wait_until("a place is free", || from("192.0.2.7").is_ok());
}

#[test]
fn four_connections_on_two_workers_are_two_on_each() {
    let origin = origin("one");
    let gateway = gateway::with(&edge(origin.address, "connections = 100")).workers(2).start();
    for round in 0..10 {
        let mut clients: Vec<_> = (0..4).map(|_| client(gateway.address("edge"))).collect();
        let ids: Vec<u64> = clients
            .iter_mut()
            .map(|client| {
                let reply = client.get("a.example", "/dump").unwrap();
                let id = reply.body.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
                u64::from_str_radix(&id[..16], 16).unwrap()
            })
            .collect();
        let mut by_worker: HashMap<usize, usize> = HashMap::new();
        for id in &ids {
            // The ids of one worker follow each other in known steps.
            let first = ids.iter().position(|other| same_worker(*id, *other)).unwrap();
            *by_worker.entry(first).or_default() += 1;
        }
        assert_eq!(by_worker.values().copied().collect::<Vec<_>>(), [2, 2], "round {round}: {ids:x?}");
        drop(clients);
        gateway.wait_for_metric("tcp_open_connections", &["peer=\"src\""], 0.0);
    }
}

fn same_worker(one: u64, other: u64) -> bool {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let distance = one.wrapping_sub(other);
    (0..100u64).any(|steps| {
        let steps = steps.wrapping_mul(STEP);
        distance == steps || distance == steps.wrapping_neg()
    })
}

#[test]
fn a_process_without_descriptors_neither_spins_nor_ends() {
    let origin = origin("one");
    let text =
        format!("[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"static/{}\"\n", origin.address);
    let mut process = process::with(&text).descriptors(80).start();
    let address = process.address("edge");
    let open: Vec<_> = (0..120).map(|_| client(address)).collect();
    process.wait_for_log("Connections cannot be accepted.");
    wait_until("all descriptors are used", || process.open_descriptors() >= 79);
    let (start, before) = (Instant::now(), process.cpu_ticks());
    while start.elapsed() < Duration::from_secs(1) {
        assert!(process.runs());
        thread::park_timeout(Duration::from_millis(50));
    }
    let used = process.cpu_ticks() - before;
    assert!(used < 30, "{used} of 100 ticks in a second of having no descriptors");
    let lines = process.stderr().matches("Connections cannot be accepted.").count();
    assert!(lines < 100, "{lines} lines in a second or two");
    drop(open);
    wait_until("it serves again", || {
        try_client(address).and_then(|mut client| client.get("a.example", "/")).is_ok_and(|reply| reply.status == 200)
    });
    assert!(process.metric("meshless_connection_refused_total", &["reason=\"accept\""]) >= 1.0);
}

#[test]
fn requests_of_a_listener_are_limited_over_its_connections_and_workers() {
    let origin = origin("one");
    let gateway = gateway::with(&edge(origin.address, "requests = 2")).workers(2).start();
    let held = ask(&gateway, 2, "/hold");
    origin.wait_for_held(2);
    assert_eq!(replies(ask(&gateway, 3, "/")), vec![(503, "limit_listener_requests".to_owned()); 3]);
    origin.release();
    assert_eq!(replies(held), vec![(200, String::new()); 2]);
    // What has ended makes room, refused requests left nothing behind.
    gateway.wait_until("there is room again", |gateway| get(gateway.address("edge"), "a.example", "/").status == 200);
    assert_eq!(replies(ask(&gateway, 1, "/")), vec![(200, String::new())]);
    assert_eq!(gateway.count("response_total", &["error=\"limit_listener_requests\""]), 3);
}

/// The control group of the gateway uses so much of its limit, in percent.
fn use_memory(machine: &gateway::SystemFiles, percent: u64) {
    let files = [
        ("/proc/self/cgroup", "0::/\n".to_owned()),
        ("/sys/fs/cgroup/memory.max", "1000000\n".to_owned()),
        ("/sys/fs/cgroup/memory.current", format!("{}\n", percent * 10_000)),
    ];
    machine.lock().unwrap().extend(files.map(|(path, text)| (path.to_owned(), text)));
}

/// A gateway that sees half of its memory used.
fn in_a_group(origin: SocketAddr) -> (Running, gateway::SystemFiles) {
    let machine = gateway::SystemFiles::default();
    use_memory(&machine, 50);
    (gateway::with(&edge(origin, "connections = 100")).files(&machine).start(), machine)
}

#[test]
fn short_memory_refuses_connections_and_lets_those_that_are_open_go_on() {
    let origin = origin("one");
    let (gateway, machine) = in_a_group(origin.address);
    let address = gateway.address("edge");
    let mut early = client(address);
    assert_eq!(early.get("a.example", "/").unwrap().status, 200);
    gateway.wait_for_metric("meshless_memory_used_bytes", &[], 500_000.0);
    use_memory(&machine, 92);
    gateway.wait_for_metric("meshless_memory_pressure", &[], 1.0);
    assert_eq!(early.get("a.example", "/").unwrap().status, 200);
    assert!(client(address).get("a.example", "/").is_err(), "a new connection is closed");
    assert!(gateway.count("meshless_connection_refused_total", &["reason=\"limit_memory\""]) >= 1);
    use_memory(&machine, 84);
    gateway.wait_for_metric("meshless_memory_pressure", &[], 0.0);
    assert_eq!(get(address, "a.example", "/").status, 200);
}

#[test]
fn very_short_memory_closes_connections_that_idle_and_lets_a_request_under_way_end() {
    let origin = origin("one");
    let (gateway, machine) = in_a_group(origin.address);
    let address = gateway.address("edge");
    let mut idle = client(address);
    assert_eq!(idle.get("a.example", "/").unwrap().status, 200);
    let mut busy = client(address);
    busy.send("GET /hold HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    origin.wait_for_held(1);
    use_memory(&machine, 99);
    gateway.wait_for_metric("meshless_memory_pressure", &[], 2.0);
    assert!(idle.is_closed(), "it idles");
    gateway.wait_for_metric("tcp_open_connections", &["peer=\"dst\""], 1.0);
    origin.release();
    let reply = busy.reply().unwrap();
    assert!(reply.status == 200 && reply.closes(), "{reply:?}");
    gateway.wait_for_metric("tcp_open_connections", &["peer=\"src\""], 0.0);
    use_memory(&machine, 10);
    gateway.wait_for_metric("meshless_memory_pressure", &[], 0.0);
    assert_eq!(get(address, "a.example", "/").status, 200);
}

#[test]
fn a_request_that_comes_when_memory_is_very_short_is_told_so() {
    let origin = origin("one");
    let (gateway, machine) = in_a_group(origin.address);
    // The worker ends its connections within a quarter of a second; what comes on one before that is answered.
    let deadline = Instant::now() + Duration::from_secs(20);
    let refused = loop {
        assert!(Instant::now() < deadline, "no request came in between");
        use_memory(&machine, 10);
        gateway.wait_for_metric("meshless_memory_pressure", &[], 0.0);
        let mut client = client(gateway.address("edge"));
        use_memory(&machine, 99);
        let mut replies = std::iter::from_fn(|| client.get("a.example", "/").ok());
        if let Some(refused) = replies.find(|reply| reply.status != 200) {
            break refused;
        }
    };
    assert_eq!((refused.status, refused.header("meshless-error")), (503, Some("limit_memory")));
}
