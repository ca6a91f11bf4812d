//! A DNS server of a test, over UDP, that knows the SRV records of services and can be broken as an HTTP server can.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::http::Mode;

/// How long every record holds, in seconds.
const TTL: u32 = 1;

/// Longest wait for a question before the server looks whether it was told something.
const LOOK: Duration = Duration::from_millis(20);

const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const REFUSED: u8 = 5;

const TYPE_A: u16 = 1;
const TYPE_SRV: u16 = 33;

/// A server; it ends when this is dropped.
///
/// Services are names such as `_app._tcp.mesh.test`. The host of an endpoint on `127.0.0.1` is `127-0-0-1.host.test`.
#[derive(Debug)]
pub struct Server {
    /// Where it listens; stays the same while it is down.
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    mode: Mode,
    services: BTreeMap<String, Vec<SocketAddr>>,
    requests: u64,
    ends: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self::start()
    }
}

impl Server {
    /// Starts one on a loopback port of the kernel's choice.
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || serve(socket, address, &of_thread));
        Self { address, shared, thread: Some(thread) }
    }

    /// Makes a service consist of these endpoints.
    pub fn set_service(&self, name: &str, endpoints: &[SocketAddr]) {
        locked(&self.shared).services.insert(name.to_ascii_lowercase(), endpoints.to_vec());
    }

    /// Changes how it behaves. `Status(403)` is REFUSED, every other status SERVFAIL.
    pub fn set(&self, mode: Mode) {
        locked(&self.shared).mode = mode;
    }

    /// Returns how many questions came.
    pub fn requests(&self) -> u64 {
        locked(&self.shared).requests
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        locked(&self.shared).ends = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn locked(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(socket: UdpSocket, address: SocketAddr, shared: &Mutex<Shared>) {
    let mut socket = Some(socket);
    let mut buffer = [0; 1500];
    loop {
        let (mode, ends) = {
            let shared = locked(shared);
            (shared.mode, shared.ends)
        };
        if ends {
            return;
        }
        if mode == Mode::Down {
            socket = None;
            std::thread::park_timeout(LOOK);
            continue;
        }
        let open = socket.get_or_insert_with(|| UdpSocket::bind(address).unwrap());
        open.set_read_timeout(Some(LOOK)).unwrap();
        let Ok((length, peer)) = open.recv_from(&mut buffer) else { continue };
        let reply = {
            let mut shared = locked(shared);
            shared.requests += 1;
            // What it was told while it waited for the question counts.
            match shared.mode {
                Mode::Down | Mode::Frozen => None,
                // Too short for a header, so that it cannot even be taken for another question's.
                Mode::Garbage => buffer.get(..2).map(|id| [id, &[0xff][..]].concat()),
                Mode::Status(403) => replied(&buffer[..length], REFUSED, &[]),
                Mode::Status(_) => replied(&buffer[..length], SERVER_FAILURE, &[]),
                Mode::Serve | Mode::Slow(_) => answered(&buffer[..length], &shared.services),
            }
        };
        if let Mode::Slow(milliseconds) = mode {
            std::thread::park_timeout(Duration::from_millis(milliseconds));
        }
        if let Some(reply) = reply {
            let _ = open.send_to(&reply, peer);
        }
    }
}

/// Answers a question, or says nothing to what is none.
fn answered(query: &[u8], services: &BTreeMap<String, Vec<SocketAddr>>) -> Option<Vec<u8>> {
    let (name, kind, _) = question(query)?;
    if let Some(host) = name.strip_suffix(".host.test") {
        let address: Ipv4Addr = host.replace('-', ".").parse().ok()?;
        let data = if kind == TYPE_A { vec![address.octets().to_vec()] } else { Vec::new() };
        return replied(query, NO_ERROR, &data);
    }
    let Some(endpoints) = services.get(&name).filter(|endpoints| !endpoints.is_empty()) else {
        return replied(query, NO_SUCH_NAME, &[]);
    };
    let records = endpoints.iter().map(|endpoint| {
        let host = format!("{}.host.test", endpoint.ip().to_string().replace('.', "-"));
        let mut data = [[0, 10], [0, 10], endpoint.port().to_be_bytes()].concat();
        for label in host.split('.') {
            data.push(u8::try_from(label.len()).unwrap());
            data.extend_from_slice(label.as_bytes());
        }
        data.push(0);
        data
    });
    let records: Vec<_> = records.collect();
    replied(query, NO_ERROR, if kind == TYPE_SRV { &records } else { &[] })
}

/// Writes a reply with the question and these records of its type.
fn replied(query: &[u8], code: u8, records: &[Vec<u8>]) -> Option<Vec<u8>> {
    let (_, kind, end) = question(query)?;
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([0x84, 0x80 | code]);
    for count in [1, records.len(), 0, 0] {
        reply.extend(u16::try_from(count).ok()?.to_be_bytes());
    }
    reply.extend_from_slice(query.get(12..end)?);
    for data in records {
        // A pointer to the name in the question.
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1]);
        reply.extend(TTL.to_be_bytes());
        reply.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        reply.extend_from_slice(data);
    }
    Some(reply)
}

/// Returns name and type of a question, and where it ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    let kind = query.get(at + 1..at + 3)?;
    Some((labels.join("."), u16::from_be_bytes([kind[0], kind[1]]), at + 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend_from_slice(label.as_bytes());
        }
        query.push(0);
        query.extend([kind.to_be_bytes(), [0, 1]].concat());
        query
    }

    fn ask(address: SocketAddr, name: &str, kind: u16) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.connect(address).unwrap();
        socket.send(&query(name, kind)).ok()?;
        let mut reply = [0; 1500];
        let length = socket.recv(&mut reply).ok()?;
        Some(reply[..length].to_vec())
    }

    #[test]
    fn a_server_knows_services_and_their_hosts_and_can_be_broken() {
        let server = Server::start();
        server.set_service("_app._tcp.mesh.test", &["127.0.0.1:80".parse().unwrap()]);
        let reply = ask(server.address, "_app._tcp.mesh.test", TYPE_SRV).unwrap();
        assert_eq!((&reply[..2], reply[3] & 15, reply[7]), (&[7, 9][..], NO_ERROR, 1));
        let host = ask(server.address, "127-0-0-1.host.test", TYPE_A).unwrap();
        assert!(host.ends_with(&[127, 0, 0, 1]));
        assert_eq!(ask(server.address, "nobody.test", TYPE_A).unwrap()[3] & 15, NO_SUCH_NAME);
        server.set(Mode::Status(500));
        while ask(server.address, "nobody.test", TYPE_A).is_none_or(|reply| reply[3] & 15 != SERVER_FAILURE) {}
        server.set(Mode::Frozen);
        assert_eq!(ask(server.address, "nobody.test", TYPE_A), None);
        server.set(Mode::Down);
        while ask(server.address, "nobody.test", TYPE_A).is_some() {}
        server.set(Mode::Serve);
        while ask(server.address, "nobody.test", TYPE_A).is_none() {}
        assert!(server.requests() > 3);
    }
}
