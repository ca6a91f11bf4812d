//! Tries, as they are seen on the way to the endpoints.
//!
//! A frozen or dead endpoint counts nothing, and each proxy counts in its own way. So they are counted off the wire of
//! the run's own network: a segment that begins with a request, and each attempt to connect.

use std::io::{ErrorKind, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

/// `ETH_P_IP` in network order: what is sent out is not seen, so each packet on loopback is seen once.
const IPV4: u16 = 0x0800_u16.to_be();

/// TCP's number in a header of IPv4.
const TCP: u8 = 6;

/// What a segment is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first segment of a connection.
    Connect,
    /// The beginning of a request.
    Request,
}

/// A segment on its way to a port.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    /// In seconds from the start.
    pub(crate) at: f64,
    pub(crate) port: u16,
    pub(crate) kind: Kind,
}

/// Listens until it is asked for what it saw.
#[derive(Debug)]
pub(crate) struct Tap {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Seen>>,
}

impl Tap {
    /// Begins to listen for segments to these ports.
    pub(crate) fn start(ports: Vec<u16>, start: Instant) -> anyhow::Result<Self> {
        let mut socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(IPV4))))
            .context("listen on the wire: this needs root, or CAP_NET_RAW")?;
        socket.set_recv_buffer_size(8 << 20).context("set the tap's buffer")?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).context("set the tap's timeout")?;
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = is_over.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            // Headers and the first word of a request; the rest of a packet is of no interest.
            let mut packet = [0; 160];
            while !flag.load(Ordering::Relaxed) {
                let length = match socket.read(&mut packet) {
                    Ok(length) => length,
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                    Err(_) => break,
                };
                let segment = packet.get(..length).and_then(read);
                if let Some((port, kind)) = segment.filter(|(port, _)| ports.contains(port)) {
                    seen.push(Seen { at: start.elapsed().as_secs_f64(), port, kind });
                }
            }
            seen
        });
        Ok(Self { is_over, thread })
    }

    /// Ends it and returns what it saw, in order.
    pub(crate) fn finish(self) -> anyhow::Result<Vec<Seen>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the tap panicked"))
    }
}

/// Reads a packet of IPv4: the port that it goes to, where it is of interest.
fn read(packet: &[u8]) -> Option<(u16, Kind)> {
    let first = packet.first()?;
    if first >> 4 != 4 || *packet.get(9)? != TCP {
        return None;
    }
    let segment = packet.get(usize::from(first & 0x0f) * 4..)?;
    let port = u16::from_be_bytes([*segment.get(2)?, *segment.get(3)?]);
    let flags = *segment.get(13)?;
    let (syn, ack) = (flags & 0x02 != 0, flags & 0x10 != 0);
    if syn && !ack {
        return Some((port, Kind::Connect));
    }
    let payload = segment.get(usize::from(segment.get(12)? >> 4) * 4..)?;
    payload.starts_with(b"GET ").then_some((port, Kind::Request))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[9] = TCP;
        packet[22..24].copy_from_slice(&8081_u16.to_be_bytes());
        packet[32] = 0x50;
        packet[33] = flags;
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn attempts_to_connect_and_requests_are_seen_and_nothing_else() {
        assert_eq!(read(&packet(0x02, b"")), Some((8081, Kind::Connect)));
        assert_eq!(read(&packet(0x18, b"GET / HTTP/1.1\r\n")), Some((8081, Kind::Request)));
        for other in [packet(0x12, b""), packet(0x10, b""), packet(0x18, b"HTTP/1.1 200 OK\r\n"), packet(0x14, b"")] {
            assert_eq!(read(&other), None);
        }
        assert_eq!((read(b""), read(&packet(0x18, b"GET /")[..30])), (None, None));
    }
}
