//! How a process begins, how it ends, and what the command line says of it.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Version};
use rustix::process::Signal;

use crate::plain::{client, dead_address, get, load, origin, try_client, unix_client, wait_until};
use crate::process::{self, Process, command};

fn edge(origin: SocketAddr, shutdown: &str) -> String {
    format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"{}\"\nto = \"web\"\n\
         [services.web]\nfrom = \"static/{origin}\"\nidle_timeout = \"60s\"\n[shutdown]\n{shutdown}\n",
        // Clients try it after the process has ended: nobody else may have it then.
        dead_address()
    )
}

/// Moves a configuration's listener.
fn on(text: &str, listen: &str) -> String {
    let (before, rest) = text.split_once("listen = \"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    format!("{before}listen = \"{listen}\"{after}")
}

fn is_closed(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

fn code(process: &mut Process) -> Option<i32> {
    process.wait().code()
}

#[test]
fn sigterm_drains_in_order_and_ends_with_0() {
    let origin = origin("one");
    let mut process = process::with(&edge(origin.address, "grace = \"1s\"\ndrain = \"15s\"")).start();
    let address = process.address("edge");
    let mut kept = client(address);
    assert!(!kept.get("a.example", "/").unwrap().closes());
    let held = thread::spawn(move || get(address, "a.example", "/hold"));
    origin.wait_for_held(1);
    process.signal(Signal::TERM);
    wait_until("it is not ready", || process.admin("/ready").status == 503);
    assert!(process.admin("/ready").body.contains("draining"));
    assert_eq!(process.admin("/live").status, 200);
    // Within the grace period it goes on: balancers have not noticed yet.
    assert_eq!(get(address, "a.example", "/").status, 200);
    wait_until("nobody listens any more", || is_closed(address));
    assert!(kept.get("a.example", "/").is_err() || kept.is_closed(), "it was idle for longer than a second");
    assert!(process.runs(), "a request is under way");
    origin.release();
    let held = held.join().unwrap();
    assert_eq!((held.status, held.body.as_str(), held.closes()), (200, "one", true));
    assert_eq!(code(&mut process), Some(0));
    assert!(process.stderr().contains("Drained."), "{}", process.stderr());
}

#[test]
fn a_client_that_asks_while_it_ends_is_answered_and_told_to_leave() {
    let origin = origin("one");
    let mut process = process::with(&edge(origin.address, "drain = \"15s\"")).start();
    let address = process.address("edge");
    let (mut kept, mut fresh) = (client(address), client(address));
    assert_eq!(kept.get("a.example", "/").unwrap().status, 200);
    process.wait_for_connections(2);
    process.signal(Signal::TERM);
    wait_until("nobody listens any more", || is_closed(address));
    for client in [&mut kept, &mut fresh] {
        let last = client.get("a.example", "/").unwrap();
        assert_eq!((last.status, last.closes()), (200, true));
    }
    assert_eq!(code(&mut process), Some(0));
}

#[test]
fn a_stream_that_does_not_end_is_ended_by_the_drain_limit() {
    let origin = origin("one");
    let mut process = process::with(&edge(origin.address, "drain = \"500ms\"")).start();
    let mut stream = client(process.address("edge"));
    stream.send("GET /stream HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    stream.until(b"begin").unwrap();
    let start = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(code(&mut process), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    assert!(process.stderr().contains("The drain limit ends connections that are open."));
    assert!(!String::from_utf8_lossy(&stream.rest().unwrap_or_default()).contains("0\r\n\r\n"), "it must look cut off");
}

#[test]
fn a_second_signal_ends_at_once_and_sockets_do_not_stay() {
    let origin = origin("one");
    let text = on(&edge(origin.address, "grace = \"60s\"\ndrain = \"60s\""), "unix:DIR/edge.sock");
    let mut process = process::with(&text).start();
    let socket = process.directory().join("edge.sock");
    let held = socket.clone();
    let held = thread::spawn(move || unix_client(&held).unwrap().get("a.example", "/hold"));
    origin.wait_for_held(1);
    process.signal(Signal::TERM);
    wait_until("it is not ready", || process.admin("/ready").status == 503);
    let start = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(code(&mut process), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(process.stderr().contains("A second signal"));
    assert!(held.join().unwrap().is_err());
    assert!(!socket.exists() && !process.admin_socket().exists());
}

#[test]
fn sigint_drains_without_grace_and_removes_its_sockets() {
    let origin = origin("one");
    let text = on(&edge(origin.address, "grace = \"60s\"\ndrain = \"15s\""), "unix:DIR/edge.sock");
    let mut process = process::with(&text).start();
    let socket = process.directory().join("edge.sock");
    let held = socket.clone();
    let held = thread::spawn(move || unix_client(&held).unwrap().get("a.example", "/hold").unwrap());
    origin.wait_for_held(1);
    process.signal(Signal::INT);
    wait_until("the socket is gone", || !socket.exists());
    origin.release();
    assert_eq!(held.join().unwrap().status, 200);
    assert_eq!(code(&mut process), Some(0));
    assert!(!process.admin_socket().exists());
}

#[test]
fn post_drain_does_what_sigterm_does() {
    let origin = origin("one");
    let mut process = process::with(&edge(origin.address, "drain = \"5s\"")).start();
    let told = process.try_admin("POST", "/drain").unwrap();
    assert!((200..300).contains(&told.status), "{told:?}");
    assert_eq!(code(&mut process), Some(0));
}

/// How one HTTP/2 request ended.
enum Asked {
    Answered(u16),
    /// The server said that it did not look at it: another connection may be asked.
    Refused,
    Failed(String),
}

type Sender = h2::client::SendRequest<Bytes>;

async fn open(address: SocketAddr) -> std::io::Result<Sender> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(std::io::Error::other)?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

async fn ask(sender: &mut Sender, path: &str) -> Asked {
    let request = Request::get(format!("http://load.example{path}")).version(Version::HTTP_2).body(()).unwrap();
    let refused = |error: &h2::Error| {
        error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
            || error.reason() == Some(h2::Reason::REFUSED_STREAM)
    };
    // Not ready: nothing was sent on it.
    let Ok(mut ready) = sender.clone().ready().await else { return Asked::Refused };
    let asked = match ready.send_request(request, true) {
        Ok((response, _)) => response.await,
        Err(_) => return Asked::Refused,
    };
    let response = match asked {
        Ok(response) => response,
        Err(error) if refused(&error) => return Asked::Refused,
        Err(error) => return Asked::Failed(format!("{error:?}")),
    };
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                let _ = body.flow_control().release_capacity(data.len());
            }
            Err(error) => return Asked::Failed(format!("body: {error:?}")),
        }
    }
    Asked::Answered(status)
}

#[test]
fn an_http2_client_gets_goaway_and_its_streams_end() {
    let origin = origin("one");
    let mut process = process::with(&edge(origin.address, "drain = \"15s\"")).start();
    let address = process.address("edge");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let sender = open(address).await.unwrap();
        let mut held = sender.clone();
        let held = tokio::spawn(async move { ask(&mut held, "/hold").await });
        tokio::task::block_in_place(|| origin.wait_for_held(1));
        process.signal(Signal::TERM);
        let mut waiting = sender.clone();
        let left = async {
            while !matches!(ask(&mut waiting, "/").await, Asked::Refused) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), left).await.expect("GOAWAY did not come");
        origin.release();
        assert!(matches!(held.await.unwrap(), Asked::Answered(200)));
    });
    assert_eq!(code(&mut process), Some(0));
}

/// Asks on one connection, four at a time, until it takes no more; returns what went wrong.
async fn use_up(sender: Sender, answered: &AtomicUsize) -> Vec<String> {
    let stream = |mut sender: Sender| async move {
        loop {
            match ask(&mut sender, "/").await {
                Asked::Answered(200) => {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                Asked::Refused => return None,
                Asked::Answered(status) => return Some(format!("status {status}")),
                Asked::Failed(error) => return Some(error),
            }
        }
    };
    let four = tokio::join!(stream(sender.clone()), stream(sender.clone()), stream(sender.clone()), stream(sender));
    [four.0, four.1, four.2, four.3].into_iter().flatten().collect()
}

/// Asks by HTTP/2 on two connections at a time until nobody listens; returns what went wrong.
fn http2_load(address: SocketAddr, answered: &Arc<AtomicUsize>) -> thread::JoinHandle<Vec<String>> {
    let answered = answered.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let one_by_one = async || {
            let mut failures = Vec::new();
            while let Ok(sender) = open(address).await
                && failures.is_empty()
            {
                failures.extend(use_up(sender, &answered).await);
            }
            failures
        };
        let (left, right) = runtime.block_on(async { tokio::join!(one_by_one(), one_by_one()) });
        [left, right].concat()
    })
}

#[test]
fn ten_times_sigterm_under_load_and_no_accepted_request_fails() {
    let origin = origin("one");
    let mut seen = 0;
    for round in 0..10 {
        let mut process = process::with(&edge(origin.address, "drain = \"15s\"")).start();
        let address = process.address("edge");
        let by_http1 = load(8, "/", true, move || try_client(address));
        let answered = Arc::new(AtomicUsize::new(0));
        let by_http2 = http2_load(address, &answered);
        by_http1.wait_for(100 + round * 20);
        wait_until("HTTP/2 answers too", || answered.load(Ordering::SeqCst) > 100);
        process.signal(Signal::TERM);
        let tally = by_http1.join();
        assert_eq!(tally.failures, Vec::<String>::new(), "HTTP/1.1, round {round}");
        assert_eq!(by_http2.join().unwrap(), Vec::<String>::new(), "HTTP/2, round {round}");
        assert_eq!(code(&mut process), Some(0), "{}", process.stderr());
        seen += tally.good + answered.load(Ordering::SeqCst);
    }
    assert!(seen > 3000, "{seen}");
}

#[test]
fn a_wrong_configuration_ends_with_64_and_a_port_in_use_with_1() {
    let mut wrong = process::with("[[listeners]]\nlisten = \"127.0.0.1:0\"\nto = \"nobody\"\n").spawn();
    assert_eq!(code(&mut wrong), Some(64));
    wait_until("it is told", || wrong.stderr().contains("meshless.toml:3"));
    assert!(wrong.stderr().contains("nobody"), "{}", wrong.stderr());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap();
    for (text, variable) in [
        (format!("[[listeners]]\nlisten = \"{place}\"\nto = \"static/127.0.0.1:1\"\n"), None),
        ("[[listeners]]\nlisten = \"127.0.0.1:0\"\nto = \"static/127.0.0.1:1\"\n".to_owned(), Some(place.to_string())),
    ] {
        let mut builder = process::with(&text);
        if let Some(admin) = &variable {
            builder = builder.variable("MESHLESS__ADMIN__LISTEN", admin);
        }
        let mut process = builder.spawn();
        assert_eq!(code(&mut process), Some(1));
        wait_until("the address is told", || process.stderr().contains(&place.to_string()));
    }
    let missing = command(&["run", "-c", "/nowhere/meshless.toml"]);
    assert_eq!(missing.status.code(), Some(64));
    assert_eq!(command(&["run"]).status.code(), Some(64));
}

#[test]
fn a_second_process_does_not_take_half_of_the_traffic() {
    let (one, two) = (origin("one"), origin("two"));
    let first = process::with(&edge(one.address, "")).start();
    let address = first.address("edge");
    let text = on(&edge(two.address, ""), &address.to_string());
    let mut second = process::with(&text).spawn();
    assert_eq!(code(&mut second), Some(1));
    wait_until("it is told", || second.stderr().contains("in use by another process"));
    let answers: BTreeSet<String> = (0..20).map(|_| get(address, "a.example", "/").body).collect();
    assert_eq!(answers, BTreeSet::from(["one".to_owned()]));
    // Nor the admin socket, nor a Unix socket that it listens on.
    let admin = format!("unix:{}", first.admin_socket().display());
    let mut third = process::with(&edge(two.address, "")).variable("MESHLESS__ADMIN__LISTEN", &admin).spawn();
    assert_eq!(code(&mut third), Some(1));
    assert_eq!(first.admin("/ready").status, 200);
}

#[test]
fn a_port_that_was_in_use_a_moment_ago_can_be_listened_on() {
    let one = origin("one");
    let place = dead_address().to_string();
    for _ in 0..3 {
        let mut process = process::with(&on(&edge(one.address, ""), &place)).start();
        let mut kept = client(process.address("edge"));
        assert_eq!(kept.get("a.example", "/").unwrap().body, "one");
        process.signal(Signal::TERM);
        assert_eq!(code(&mut process), Some(0));
    }
}

#[test]
fn status_and_healthcheck_say_how_it_is() {
    let one = origin("one");
    let mut process = process::with(&edge(one.address, "grace = \"60s\"")).start();
    let admin = format!("unix:{}", process.admin_socket().display());
    let address = process.address("edge").to_string();
    let run = |subcommand: &str, extra: &[&str]| {
        let output = command(&[&[subcommand, "--admin", admin.as_str()], extra].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, text) = run("status", &[]);
    assert!(code == Some(0) && text.contains(&address) && text.contains("web"), "{text}");
    let (code, text) = run("status", &["--json"]);
    assert_eq!(code, Some(0));
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(status.to_string().contains(&address), "{status}");
    assert_eq!(run("healthcheck", &[]), (Some(0), "ready\n".to_owned()));
    assert_eq!(run("healthcheck", &["--live"]), (Some(0), "live\n".to_owned()));
    process.signal(Signal::TERM);
    wait_until("it is not ready", || process.admin("/ready").status == 503);
    let (code, text) = run("healthcheck", &[]);
    assert!(code == Some(1) && text.contains("draining"), "{text}");
    assert_eq!(run("status", &[]).0, Some(1));
    process.signal(Signal::TERM);
    process.wait();
    assert_eq!(run("healthcheck", &[]).0, Some(1));
    assert_eq!(run("status", &[]).0, Some(69));
}
