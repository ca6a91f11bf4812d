//! `[[listeners]]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::Check;
use super::targets::May;
use crate::config::problem::{At, Path};
use crate::config::units::Size;
use crate::config::{
    Admin, ControlFrames, ListenAddress, Listener, ListenerLimits, ListenerProtocol, ListenerTls, raw,
};

impl Check<'_> {
    /// Checks every listener; one that is wrong is `None`, so that the others keep their positions.
    pub(super) fn listeners(&mut self, raw: &[raw::Listener]) -> Vec<Option<Listener>> {
        let root = Path::default().key("listeners");
        if raw.is_empty() {
            self.missing(&root, "there is no listener; add [[listeners]] with `listen = \"127.0.0.1:4140\"`");
        }
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let mut listeners = Vec::new();
        for (position, table) in raw.iter().enumerate() {
            let path = root.position(position);
            let listener = self.listener(table, &path);
            if let Some(listener) = &listener
                && let Some(first) = names.insert(listener.name.clone(), position)
                && table.name.is_some()
            {
                let message = format!("listeners[{first}] has this name already; names are unique");
                self.error(&path.key("name"), At::Value, message);
            }
            listeners.push(listener);
        }
        listeners
    }

    fn listener(&mut self, raw: &raw::Listener, path: &Path) -> Option<Listener> {
        let listen = match &raw.listen {
            Some(text) => self.listen_address(text, &path.key("listen")),
            None if self.wrong.contains(path) => None,
            None => {
                self.missing(
                    &path.key("listen"),
                    "missing: say where to listen, such as `listen = \"127.0.0.1:4140\"`",
                );
                None
            }
        };
        if raw.name.as_deref().is_some_and(str::is_empty) {
            self.error(&path.key("name"), At::Value, "expected a name, found nothing");
        }
        let to = raw.to.as_deref().map(|text| self.expression(text, &path.key("to"), May::ServicesToo));
        let protocol = match raw.protocol {
            None | Some(raw::ListenerProtocol::Auto) => ListenerProtocol::Auto,
            Some(raw::ListenerProtocol::Http) => ListenerProtocol::Http,
            Some(raw::ListenerProtocol::Tcp) => ListenerProtocol::Tcp,
            Some(raw::ListenerProtocol::TlsPassthrough) => ListenerProtocol::TlsPassthrough,
        };
        let tls = raw.tls.as_ref().map_or(ListenerTls::Off, |tls| self.listener_tls(tls, &path.key("tls")));
        if protocol == ListenerProtocol::TlsPassthrough && tls != ListenerTls::Off {
            let message = "a `tls-passthrough` listener passes TLS on unopened; remove `tls`, or change `protocol`";
            self.error(&path.key("tls"), At::Key, message);
        }
        let limits = self.listener_limits(raw.limits.as_ref(), &path.key("limits"));
        let overrides = self.overrides(raw, protocol, path);
        let allow = self.allow(raw, path);
        let listen = listen?;
        let to = match to {
            Some(Some(to)) => Some(to),
            // It has a `to`, though a wrong one: it is not a listener for routes.
            Some(None) => return None,
            None => None,
        };
        let name = raw.name.clone().unwrap_or_else(|| listen.to_string());
        let proxy_protocol = raw.proxy_protocol.unwrap_or(false);
        let dry_run = raw.dry_run.unwrap_or(false);
        Some(Listener { name, listen, protocol, to, tls, proxy_protocol, overrides, allow, dry_run, limits })
    }

    fn listener_tls(&mut self, raw: &raw::ListenerTls, path: &Path) -> ListenerTls {
        let (without_files, word) = match raw.mode {
            Some(raw::TlsMode::Server) => (None, "server"),
            Some(raw::TlsMode::Off) => (Some(ListenerTls::Off), "off"),
            Some(raw::TlsMode::Permissive) => (Some(ListenerTls::Permissive), "permissive"),
            Some(raw::TlsMode::Strict) => (Some(ListenerTls::Strict), "strict"),
            None => {
                let message = "missing: write `mode = \"strict\"`, `\"permissive\"`, `\"server\"` or `\"off\"`";
                self.missing(&path.key("mode"), message);
                return ListenerTls::Off;
            }
        };
        if let Some(tls) = without_files {
            if tls.is_mesh() {
                self.needs_identity(&format!("`mode = \"{word}\"`"), &path.key("mode"));
            }
            let given = [
                ("cert", raw.cert.is_some()),
                ("key", raw.key.is_some()),
                ("certs", raw.certs.is_some()),
                ("client_ca", raw.client_ca.is_some()),
            ];
            for (key, _) in given.iter().filter(|(_, given)| *given) {
                let message =
                    format!("has no meaning with `mode = \"{word}\"`; remove it, or write `mode = \"server\"`");
                self.error(&path.key(key), At::Key, message);
            }
            return tls;
        }
        let mut certs: Vec<_> = self.certified_key(raw.cert.as_ref(), raw.key.as_ref(), path).into_iter().collect();
        let single = raw.cert.is_some() || raw.key.is_some();
        match &raw.certs {
            Some(_) if single => {
                self.error(
                    &path.key("certs"),
                    At::Key,
                    "stands beside `cert` and `key`; write all certificates in `certs`",
                );
            }
            Some(list) if list.is_empty() => {
                self.error(&path.key("certs"), At::Value, "expected at least one certificate");
            }
            Some(list) => {
                for (position, pair) in list.iter().enumerate() {
                    let path = path.key("certs").position(position);
                    if pair.cert.is_none() && pair.key.is_none() && !self.is_wrong(&path) {
                        self.error(&path, At::Value, "expected `cert` and `key`");
                    }
                    certs.extend(self.certified_key(pair.cert.as_ref(), pair.key.as_ref(), &path));
                }
            }
            None if !single => {
                self.missing(&path.key("cert"), "missing: `mode = \"server\"` needs `cert` and `key`, or `certs`");
            }
            None => {}
        }
        if let Some(file) = &raw.client_ca {
            self.not_empty(&file.to_string_lossy(), &path.key("client_ca"));
        }
        ListenerTls::Server { certs, client_ca: raw.client_ca.clone() }
    }

    fn listener_limits(&mut self, raw: Option<&raw::ListenerLimits>, path: &Path) -> ListenerLimits {
        let base = ListenerLimits::default();
        let Some(raw) = raw else { return base };
        let frames = raw.control_frames.clone().unwrap_or_default();
        let default = base.control_frames;
        ListenerLimits {
            connections: raw.connections.unwrap_or(base.connections),
            connections_per_address: raw.connections_per_address.unwrap_or(base.connections_per_address),
            requests: raw.requests.unwrap_or(base.requests),
            requests_per_connection: raw.requests_per_connection.unwrap_or(base.requests_per_connection),
            connection_age: self.positive(&path.key("connection_age"), raw.connection_age, base.connection_age),
            handshake_timeout: self.positive(
                &path.key("handshake_timeout"),
                raw.handshake_timeout,
                base.handshake_timeout,
            ),
            header_timeout: self.positive(&path.key("header_timeout"), raw.header_timeout, base.header_timeout),
            idle_timeout: self.positive(&path.key("idle_timeout"), raw.idle_timeout, base.idle_timeout),
            head_bytes: self.bytes(&path.key("head_bytes"), raw.head_bytes, 1 << 10, base.head_bytes),
            headers: raw.headers.unwrap_or(base.headers),
            trailer_bytes: self.bytes(&path.key("trailer_bytes"), raw.trailer_bytes, 0, base.trailer_bytes),
            streams: raw.streams.unwrap_or(base.streams),
            control_frames: ControlFrames {
                settings: frames.settings.unwrap_or(default.settings),
                ping: frames.ping.unwrap_or(default.ping),
                reset: frames.reset.unwrap_or(default.reset),
                other: frames.other.unwrap_or(default.other),
            },
            hops: raw.hops.unwrap_or(base.hops),
        }
    }

    /// A size of what one connection may make us hold: at most 1 MiB.
    fn bytes(&mut self, path: &Path, value: Option<Size>, least: usize, default: usize) -> usize {
        const MOST: usize = 1 << 20;
        let Some(Size(bytes)) = value else { return default };
        if !(least..=MOST).contains(&bytes) {
            self.error(path, At::Value, format!("expected {} to {}, found {}", Size(least), Size(MOST), Size(bytes)));
        }
        bytes
    }

    /// No two sockets of ours can have one address.
    pub(super) fn addresses(&mut self, admin: Option<&Admin>, listeners: &[Option<Listener>]) {
        let root = Path::default();
        let mut taken: Vec<(Path, &ListenAddress)> = Vec::new();
        let admin = admin.into_iter().flat_map(|admin| {
            let probes = admin.probes.as_ref().map(|address| (root.key("admin").key("probes"), address));
            std::iter::once((root.key("admin").key("listen"), &admin.listen)).chain(probes)
        });
        let listeners = listeners.iter().enumerate().filter_map(|(position, listener)| {
            let path = root.key("listeners").position(position).key("listen");
            listener.as_ref().map(|listener| (path, &listener.listen))
        });
        for (path, address) in admin.chain(listeners) {
            if let Some((first, _)) = taken.iter().find(|(_, other)| collide(address, other)) {
                let message = format!("`{address}` is taken by {first} already");
                self.error(&path, At::Value, message);
            }
            taken.push((path, address));
        }
    }
}

/// Port 0 is a free one each time; a wildcard address takes its port on every address of its family.
fn collide(left: &ListenAddress, right: &ListenAddress) -> bool {
    let covers = |one: &SocketAddr, other: &SocketAddr| {
        let same_family = one.is_ipv4() == other.is_ipv4();
        one.ip() == other.ip() || (same_family && IpAddr::is_unspecified(&one.ip()))
    };
    match (left, right) {
        (ListenAddress::Tcp(left), ListenAddress::Tcp(right)) => {
            left.port() != 0 && left.port() == right.port() && (covers(left, right) || covers(right, left))
        }
        (left, right) => left == right,
    }
}
