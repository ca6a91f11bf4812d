use std::task::{Context, Waker};

use meshless_certs::{Identity, Peer, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::*;
use crate::telemetry::metrics::Registry;

struct Root {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

fn root(name: &str) -> Root {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    let der = params.self_signed(&key).unwrap().der().clone();
    Root { issuer: Issuer::new(params, key), der }
}

impl Root {
    fn leaf(&self, service: &str) -> (CertificateDer<'static>, Zeroizing<Vec<u8>>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names =
            vec![SanType::URI(format!("spiffe://example.org/svc/{service}").try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), Zeroizing::new(key.serialize_der()))
    }
}

fn publish(mesh: &Mesh, issuer: &Root, roots: &[&Root]) {
    let trust_domain: TrustDomain = "example.org".parse().unwrap();
    let roots = roots.iter().map(|root| root.der.clone()).collect();
    let bundle = TrustBundle { trust_domain, sequence: 0, roots, refresh_hint: meshless_certs::REFRESH_HINT };
    let (chain, key) = issuer.leaf("gateway");
    mesh.publish(Arc::new(Identity::new(vec![chain], key, Arc::new(bundle), SystemTime::now()).unwrap()));
}

fn shown(mesh: &Mesh, root: &Root, lifetime: Duration, wall: SystemTime) -> Shown {
    let chain = [root.leaf("peer").0];
    let peer = Peer { not_after: wall + lifetime, ..mesh.peer(&chain, wall).unwrap() };
    Shown::new(peer, Some(&chain))
}

fn worker(mesh: &Arc<Mesh>) -> Rc<Trust> {
    let terms = Terms::new(mesh.clone());
    terms.set_grace(Duration::from_secs(10));
    Trust::new(terms, WorkerMetrics::new(&Registry::new(std::time::Instant::now())))
}

fn is_cut(bond: &Bond) -> bool {
    bond.cut().poll_read(&Context::from_waker(Waker::noop())).is_ready()
}

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test(start_paused = true)]
async fn a_connection_ends_in_order_when_its_certificate_does_and_is_cut_after_the_grace_period() {
    let (mesh, one) = (Arc::<Mesh>::default(), root("one"));
    publish(&mesh, &one, &[&one]);
    let trust = worker(&mesh);
    let (wall, now) = (SystemTime::now(), Instant::now());
    let (short, mut drain) = trust.watch_client(shown(&mesh, &one, HOUR, wall));
    let (long, _) = trust.watch_client(shown(&mesh, &one, HOUR * 3, wall));
    trust.sweep(wall + HOUR / 2, now);
    assert!(!short.is_lost());
    trust.sweep(wall + HOUR * 2, now);
    assert_eq!((short.is_lost(), drain.is_draining(), is_cut(&short)), (true, true, false));
    drain.begun().await;
    trust.sweep(wall + HOUR * 2, now + Duration::from_secs(9));
    assert!(!is_cut(&short));
    trust.sweep(wall + HOUR * 2, now + Duration::from_secs(10));
    assert_eq!((is_cut(&short), long.is_lost(), is_cut(&long)), (true, false, false));
}

#[tokio::test(start_paused = true)]
async fn a_connection_to_an_endpoint_leaves_its_pool_before_the_endpoint_ends_it() {
    let (mesh, one) = (Arc::<Mesh>::default(), root("one"));
    publish(&mesh, &one, &[&one]);
    let trust = worker(&mesh);
    let (wall, now) = (SystemTime::now(), Instant::now());
    let (short, long) = (Duration::from_secs(20), HOUR);
    let in_seconds = trust.watch_endpoint(shown(&mesh, &one, short, wall), wall);
    let in_hours = trust.watch_endpoint(shown(&mesh, &one, long, wall), wall);
    trust.sweep(wall + Duration::from_secs(17), now);
    assert!(!in_seconds.is_lost());
    trust.sweep(wall + Duration::from_secs(18), now);
    assert!(in_seconds.is_lost());
    trust.sweep(wall + HOUR - MARGIN - Duration::from_secs(1), now);
    assert!(!in_hours.is_lost());
    trust.sweep(wall + HOUR - MARGIN, now);
    assert!(in_hours.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_root_that_goes_takes_its_peers_with_it_and_one_that_comes_takes_nobody() {
    let (mesh, one, two) = (Arc::<Mesh>::default(), root("one"), root("two"));
    publish(&mesh, &one, &[&one]);
    let trust = worker(&mesh);
    let (wall, now) = (SystemTime::now(), Instant::now());
    trust.sweep(wall, now);
    let (of_one, _) = trust.watch_client(shown(&mesh, &one, HOUR, wall));
    publish(&mesh, &one, &[&one, &two]);
    trust.sweep(wall, now);
    assert!(trust.review.borrow().is_none(), "nobody has to be checked again");
    let (of_two, _) = trust.watch_client(shown(&mesh, &two, HOUR, wall));
    publish(&mesh, &two, &[&two]);
    trust.sweep(wall, now);
    assert_eq!((of_one.is_lost(), of_two.is_lost()), (true, false));
    assert!(trust.review.borrow().is_none(), "the round is over");
}

#[tokio::test(start_paused = true)]
async fn many_peers_are_checked_again_a_few_at_a_time_and_one_with_many_connections_once() {
    let (mesh, one, two) = (Arc::<Mesh>::default(), root("one"), root("two"));
    publish(&mesh, &one, &[&one, &two]);
    let trust = worker(&mesh);
    let (wall, now) = (SystemTime::now(), Instant::now());
    trust.sweep(wall, now);
    let peers: Vec<_> = (0..40).map(|_| trust.watch_client(shown(&mesh, &one, HOUR, wall)).0).collect();
    publish(&mesh, &two, &[&two]);
    trust.sweep(wall, now);
    assert_eq!(peers.iter().filter(|bond| bond.is_lost()).count(), 32);
    trust.sweep(wall, now);
    assert!(peers.iter().all(|bond| bond.is_lost()));
    publish(&mesh, &two, &[&one, &two]);
    trust.sweep(wall, now);
    let chain = [one.leaf("busy").0];
    let same = || Shown::new(mesh.peer(&chain, SystemTime::now()).unwrap(), Some(&chain));
    let connections: Vec<_> = (0..100).map(|_| trust.watch_client(same()).0).collect();
    publish(&mesh, &two, &[&two]);
    trust.sweep(wall, now);
    assert!(connections.iter().all(|bond| bond.is_lost()));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_a_stream_that_is_cut_is_woken() {
    let (mut near, far) = tokio::io::duplex(16);
    let mut stream = crate::stream::Stream::from(far);
    let cut = Rc::<Cut>::default();
    stream.cut_by(cut.clone());
    let reading = tokio::io::AsyncReadExt::read_u8(&mut stream);
    let cutting = async {
        tokio::io::AsyncWriteExt::write_all(&mut near, b"").await.unwrap();
        tokio::task::yield_now().await;
        cut.cut();
    };
    let (read, ()) = tokio::join!(reading, cutting);
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    let written = tokio::io::AsyncWriteExt::write_all(&mut stream, b"x").await;
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
}
