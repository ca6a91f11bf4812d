//! A DNS server that speaks real bytes and does what a test says: zones, codes, and every way to fail.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, NS, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Longest answer over UDP without EDNS (RFC 1035, 4.2.1).
const PLAIN: usize = 512;

/// What the server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The right id, and records that end in the middle.
    Garbage,
    /// FORMERR to whoever sends EDNS.
    KnowsNoEdns,
    /// Another name in the question.
    OtherQuestion,
    /// Refers to other servers.
    Refers,
    /// Says nothing.
    Silent,
    /// Takes its time, and sends TCP in pieces.
    Slow,
    /// Cut off over UDP, and TCP is closed at once.
    TruncatedWithoutTcp,
    /// Each answer comes with a wrong id first.
    WrongIdFirst,
    /// Answers nothing but wrong ids.
    WrongId,
}

/// A question that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) kind: RecordType,
    pub(super) over_tcp: bool,
    pub(super) with_edns: bool,
}

/// What the server knows and does.
#[derive(Debug, Default)]
pub(super) struct World {
    records: BTreeMap<(String, RecordType), Vec<(u32, RData)>>,
    codes: BTreeMap<(String, RecordType), ResponseCode>,
    pub(super) fault: Option<Fault>,
    /// Sends the addresses of the hosts of SRV records along.
    pub(super) glue: bool,
    /// Leaves out what a CNAME leads to, as a server does that does not know that zone.
    pub(super) stops_at_cname: bool,
    pub(super) asked: Vec<Asked>,
}

impl World {
    /// Sets the addresses of a host, of both families.
    pub(super) fn host(&mut self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        let data = |wanted: bool| addresses.iter().filter(move |ip| ip.is_ipv4() == wanted);
        self.set(name, RecordType::A, ttl, data(true).map(|ip| RData::from(*ip)).collect());
        self.set(name, RecordType::AAAA, ttl, data(false).map(|ip| RData::from(*ip)).collect());
    }

    /// Sets SRV records: priority, weight, port, host.
    pub(super) fn service(&mut self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let data = |(priority, weight, port, host): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(*priority, *weight, *port, Name::from_str(host).unwrap()))
        };
        self.set(name, RecordType::SRV, ttl, records.iter().map(data).collect());
    }

    pub(super) fn alias(&mut self, name: &str, ttl: u32, target: &str) {
        self.set(name, RecordType::CNAME, ttl, vec![RData::CNAME(CNAME(Name::from_str(target).unwrap()))]);
    }

    pub(super) fn set(&mut self, name: &str, kind: RecordType, ttl: u32, data: Vec<RData>) {
        let key = (name.to_owned(), kind);
        if data.is_empty() {
            self.records.remove(&key);
        } else {
            self.records.insert(key, data.into_iter().map(|data| (ttl, data)).collect());
        }
    }

    /// Forgets a name, so that it is NXDOMAIN.
    pub(super) fn remove(&mut self, name: &str) {
        self.records.retain(|(known, _), _| known != name);
    }

    /// Answers with a code instead; [`ResponseCode::NoError`] ends that.
    pub(super) fn code(&mut self, name: &str, kind: RecordType, code: ResponseCode) {
        self.codes.insert((name.to_owned(), kind), code);
    }

    /// Returns how often a name was asked for.
    pub(super) fn count(&self, name: &str, kind: RecordType) -> usize {
        self.asked.iter().filter(|asked| asked.name == name && asked.kind == kind).count()
    }

    fn find(&self, name: &str, kind: RecordType) -> Vec<Record> {
        let owner = Name::from_str(name).unwrap();
        let found = self.records.get(&(name.to_owned(), kind)).into_iter().flatten();
        found.map(|(ttl, data)| Record::from_rdata(owner.clone(), *ttl, data.clone())).collect()
    }

    fn answer(&mut self, request: &Message, over_tcp: bool) -> Message {
        let query = request.queries[0].clone();
        let (name, kind) = (query.name().to_lowercase().to_ascii(), query.query_type());
        let with_edns = request.edns.is_some();
        self.asked.push(Asked { name: name.clone(), kind, over_tcp, with_edns });
        let mut message = Message::response(request.metadata.id, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.recursion_available = true;
        if self.fault == Some(Fault::OtherQuestion) {
            message.add_query(hickory_resolver::proto::op::Query::query(Name::from_str("evil.x.").unwrap(), kind));
        } else {
            message.add_query(query);
        }
        if self.fault == Some(Fault::KnowsNoEdns) && with_edns {
            message.metadata.response_code = ResponseCode::FormErr;
            return message;
        }
        if self.fault == Some(Fault::Refers) {
            let data = RData::NS(NS(Name::from_str("ns.elsewhere.").unwrap()));
            message.add_authorities([Record::from_rdata(Name::root(), 60, data)]);
            return message;
        }
        match self.codes.get(&(name.clone(), kind)) {
            None | Some(ResponseCode::NoError) => self.fill(&mut message, name, kind),
            Some(code) => message.metadata.response_code = *code,
        }
        message
    }

    fn fill(&self, message: &mut Message, mut name: String, kind: RecordType) {
        for _ in 0..20 {
            let found = self.find(&name, kind);
            if !found.is_empty() {
                if self.glue {
                    for record in &found {
                        if let RData::SRV(service) = &record.data {
                            let host = service.target.to_lowercase().to_ascii();
                            message.add_additionals(self.find(&host, RecordType::A));
                            message.add_additionals(self.find(&host, RecordType::AAAA));
                        }
                    }
                }
                message.add_answers(found);
                return;
            }
            let aliases = self.find(&name, RecordType::CNAME);
            let Some(RData::CNAME(target)) = aliases.first().map(|record| record.data.clone()) else { break };
            message.add_answers(aliases);
            if self.stops_at_cname {
                return;
            }
            name = target.0.to_lowercase().to_ascii();
        }
        if !self.records.keys().any(|(known, _)| *known == name) {
            message.metadata.response_code = ResponseCode::NXDomain;
        }
        let data = SOA::new(Name::from_str("ns.x.").unwrap(), Name::from_str("root.x.").unwrap(), 1, 60, 60, 60, 1);
        message.add_authorities([Record::from_rdata(Name::from_str("x.").unwrap(), 60, RData::SOA(data))]);
    }
}

/// A server on a port of its own, UDP and TCP; ends with this.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    world: Arc<Mutex<World>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    pub(super) async fn start() -> Self {
        // The port must be free for both.
        for _ in 0..100 {
            if let Some(server) = Self::start_at((Ipv4Addr::LOCALHOST, 0).into()).await {
                return server;
            }
        }
        panic!("no port is free for both UDP and TCP");
    }

    /// Starts two on one port of two addresses: the system's file knows no ports.
    pub(super) async fn pair() -> (Self, Self) {
        for _ in 0..100 {
            let one = Self::start().await;
            let other = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), one.address.port());
            if let Some(other) = Self::start_at(other).await {
                return (one, other);
            }
        }
        panic!("no port is free on two addresses");
    }

    async fn start_at(address: SocketAddr) -> Option<Self> {
        let tcp = TcpListener::bind(address).await.ok()?;
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.ok()?;
        let mut server = Self { address, world: Arc::default(), tasks: Vec::new() };
        server.serve(udp, tcp);
        Some(server)
    }

    /// Ends it as a crash would and starts another instance on the same port, with nothing of the first but its zone.
    pub(super) async fn restart(&mut self) {
        self.stop();
        let until = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            if let (Ok(udp), Ok(tcp)) = (UdpSocket::bind(self.address).await, TcpListener::bind(self.address).await) {
                return self.serve(udp, tcp);
            }
            assert!(tokio::time::Instant::now() < until, "the port was taken by somebody else");
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(super) fn stop(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }

    fn serve(&mut self, udp: UdpSocket, tcp: TcpListener) {
        let udp = Arc::new(udp);
        let world = Arc::clone(&self.world);
        self.tasks.push(tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let Ok((length, from)) = udp.recv_from(&mut buffer).await else { continue };
                let request = Message::from_vec(&buffer[..length]).unwrap();
                let (udp, world) = (Arc::clone(&udp), Arc::clone(&world));
                tokio::spawn(async move {
                    for datagram in datagrams(&world, &request) {
                        delay(&world).await;
                        let _ = udp.send_to(&datagram, from).await;
                    }
                });
            }
        }));
        let world = Arc::clone(&self.world);
        self.tasks.push(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = tcp.accept().await {
                let world = Arc::clone(&world);
                connections.spawn(async move {
                    let _ = connection(stream, &world).await;
                });
            }
        }));
    }
}

async fn delay(world: &Mutex<World>) {
    let is_slow = world.lock().unwrap().fault == Some(Fault::Slow);
    if is_slow {
        sleep(Duration::from_millis(40)).await;
    }
}

/// Returns what is sent over UDP.
fn datagrams(world: &Mutex<World>, request: &Message) -> Vec<Vec<u8>> {
    let mut world = world.lock().unwrap();
    let answer = world.answer(request, false);
    let mut bytes = answer.to_vec().unwrap();
    let room = request.edns.as_ref().map_or(PLAIN, |edns| usize::from(edns.max_payload()).max(PLAIN));
    if bytes.len() > room || world.fault == Some(Fault::TruncatedWithoutTcp) {
        let mut short = Message::response(answer.metadata.id, OpCode::Query);
        short.add_query(answer.queries[0].clone());
        short.metadata.truncation = true;
        bytes = short.to_vec().unwrap();
    }
    let mut wrong = bytes.clone();
    wrong[0] ^= 0xff;
    match world.fault {
        Some(Fault::Silent) => vec![],
        Some(Fault::Garbage) => vec![garbage(&bytes)],
        Some(Fault::WrongId) => vec![wrong],
        Some(Fault::WrongIdFirst) => vec![vec![7], wrong, bytes],
        _ => vec![bytes],
    }
}

/// A whole header that promises records, and none of them.
fn garbage(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes[..12].to_vec();
    bytes[3] = 0x80;
    bytes[4..12].copy_from_slice(&[0, 1, 0, 9, 0, 0, 0, 0]);
    bytes.extend([0xff; 30]);
    bytes
}

async fn connection(mut stream: TcpStream, world: &Mutex<World>) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await?;
        let request = Message::from_vec(&bytes).unwrap();
        let (answer, fault) = {
            let mut world = world.lock().unwrap();
            (world.answer(&request, true), world.fault)
        };
        match fault {
            Some(Fault::TruncatedWithoutTcp) => return Ok(()),
            Some(Fault::Silent) => continue,
            _ => {}
        }
        let mut answer = answer.to_vec().unwrap();
        if fault == Some(Fault::Garbage) {
            answer = garbage(&answer);
        }
        delay(world).await;
        let mut framed = u16::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
        framed.extend(answer);
        for piece in framed.chunks(if fault == Some(Fault::Slow) { 700 } else { usize::MAX }) {
            stream.write_all(piece).await?;
            stream.flush().await?;
            tokio::task::yield_now().await;
        }
    }
}
