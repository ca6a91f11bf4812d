//! How each proxy is configured for each workload: one worker, no access log, connections to the origin kept.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use super::Workload;
use super::certs::{Certs, SERVER_NAME};
use crate::{debian, http, process};

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Proxy {
    Haproxy,
    Meshless,
    Nginx,
}

/// What all of a run share.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) meshless: PathBuf,
    pub(super) certs: Certs,
    pub(super) folder: PathBuf,
}

/// What one process does: takes requests at `listen` and hands them to `to`.
#[derive(Debug, Clone, Copy)]
struct Hop {
    name: &'static str,
    listen: SocketAddr,
    to: SocketAddr,
    accept: Accept,
    is_upstream_tls: bool,
}

/// What a hop speaks with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accept {
    Http1,
    Http2,
    MutualTls,
}

impl Proxy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Meshless => "meshless",
            Self::Nginx => "nginx",
        }
    }

    /// Returns which version took part.
    pub(super) fn version(self, setup: &Setup) -> String {
        match self {
            Self::Haproxy | Self::Nginx => debian::version(self.name()).unwrap_or_else(|| "not Debian's".into()),
            Self::Meshless => process::output(Command::new(&setup.meshless).arg("--version"))
                .map_or_else(|_| "unknown".into(), |version| version.trim().to_owned()),
        }
    }
}

impl Setup {
    /// Returns the origin: nginx with an answer of 1 KiB.
    pub(super) fn origin(&self, listen: SocketAddr) -> anyhow::Result<Command> {
        let server = format!("server {{ listen {listen}; return 200 \"{}\"; }}", "x".repeat(1024));
        self.nginx("origin", &server)
    }

    /// Returns the processes of a proxy, the one that clients talk to last, and its address.
    pub(super) fn commands(
        &self,
        proxy: Proxy,
        workload: Workload,
        origin: SocketAddr,
    ) -> anyhow::Result<(SocketAddr, Vec<(String, Command)>)> {
        let first = http::free_address()?;
        let a = Hop { name: "a", listen: first, to: origin, accept: Accept::Http1, is_upstream_tls: false };
        let hops = match workload {
            Workload::W1 => vec![a],
            Workload::W2 => vec![Hop { accept: Accept::Http2, ..a }],
            Workload::W4 => {
                let second = http::free_address()?;
                let b = Hop { name: "b", listen: second, accept: Accept::MutualTls, ..a };
                vec![b, Hop { to: second, is_upstream_tls: true, ..a }]
            }
        };
        let mut commands = Vec::new();
        for hop in hops {
            let command = match proxy {
                Proxy::Haproxy => self.haproxy(&hop),
                Proxy::Meshless => self.gateway(&hop),
                Proxy::Nginx => self.nginx(&format!("nginx-{}", hop.name), &self.nginx_server(&hop)),
            };
            commands.push((format!("{} {}", proxy.name(), hop.name), command?));
        }
        Ok((first, commands))
    }

    fn gateway(&self, hop: &Hop) -> anyhow::Result<Command> {
        let Certs { authority, client, server } = &self.certs;
        let listener_tls = match hop.accept {
            Accept::Http1 | Accept::Http2 => String::new(),
            Accept::MutualTls => format!(
                "tls = {{ mode = \"server\", cert = \"{}\", key = \"{}\", client_ca = \"{}\" }}\n",
                server.with_extension("crt").display(),
                server.with_extension("key").display(),
                authority.display()
            ),
        };
        let upstream_tls = if hop.is_upstream_tls {
            format!(
                "tls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\", server_name = \"{SERVER_NAME}\" }}\n",
                authority.display(),
                client.with_extension("crt").display(),
                client.with_extension("key").display()
            )
        } else {
            String::new()
        };
        // The second sidecar's hop to its application is what a listener's `to` is for; all else goes by a route. No
        // connection is closed for its age in requests: the peers are told the same.
        let destination = match hop.accept {
            Accept::MutualTls => format!("to = \"static/{}\"\n", hop.to),
            Accept::Http1 | Accept::Http2 => String::new(),
        };
        let route = match hop.accept {
            Accept::MutualTls => String::new(),
            Accept::Http1 | Accept::Http2 => format!(
                "[services.origin]\nfrom = \"static/{}\"\nprotocol = \"http1\"\n{upstream_tls}\n[[routes]]\nto = \"origin\"\n",
                hop.to
            ),
        };
        let text = format!(
            "[node]\nworkers = 1\nstate_dir = \"{state}\"\n\n[admin]\nlisten = \"{admin}\"\n\n[telemetry]\naccess_log = \"off\"\n\n\
             [[listeners]]\nlisten = \"{listen}\"\nlimits = {{ requests_per_connection = 0 }}\n{listener_tls}{destination}\n{route}",
            state = self.folder.join("state").display(),
            admin = http::free_address()?,
            listen = hop.listen,
        );
        let file = self.folder.join(format!("meshless-{}.toml", hop.name));
        std::fs::write(&file, text).context("write the gateway's configuration")?;
        let mut command = Command::new(&self.meshless);
        command.args(["run", "-c"]).arg(file);
        Ok(command)
    }

    fn haproxy(&self, hop: &Hop) -> anyhow::Result<Command> {
        let Certs { authority, client, server } = &self.certs;
        let bind = match hop.accept {
            Accept::Http1 => String::new(),
            Accept::Http2 => " proto h2".into(),
            Accept::MutualTls => format!(
                " ssl crt {} ca-file {} verify required alpn http/1.1",
                server.with_extension("pem").display(),
                authority.display()
            ),
        };
        let tls = if hop.is_upstream_tls {
            format!(
                " ssl crt {} ca-file {} verify required verifyhost {SERVER_NAME} sni str({SERVER_NAME})",
                client.with_extension("pem").display(),
                authority.display()
            )
        } else {
            String::new()
        };
        let text = format!(
            "global\n  nbthread 1\n  maxconn 4096\n\
             defaults\n  mode http\n  http-reuse always\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             frontend in\n  bind {}{bind}\n  default_backend out\n\
             backend out\n  server origin {}{tls}\n",
            hop.listen, hop.to
        );
        let file = self.folder.join(format!("haproxy-{}.cfg", hop.name));
        std::fs::write(&file, text).context("write HAProxy's configuration")?;
        let mut command = Command::new(process::find("haproxy").context("haproxy is not installed")?);
        command.args(["-db", "-f"]).arg(file);
        Ok(command)
    }

    fn nginx_server(&self, hop: &Hop) -> String {
        let Certs { authority, client, server } = &self.certs;
        let listen = match hop.accept {
            Accept::Http1 => format!("listen {};", hop.listen),
            Accept::Http2 => format!("listen {} http2;", hop.listen),
            Accept::MutualTls => format!(
                "listen {} ssl; ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {}; \
                 ssl_client_certificate {}; ssl_verify_client on;",
                hop.listen,
                server.with_extension("crt").display(),
                server.with_extension("key").display(),
                authority.display()
            ),
        };
        let upstream = if hop.is_upstream_tls {
            format!(
                "proxy_pass https://out; proxy_ssl_protocols TLSv1.3; proxy_ssl_certificate {}; \
                 proxy_ssl_certificate_key {}; proxy_ssl_trusted_certificate {}; proxy_ssl_verify on; \
                 proxy_ssl_name {SERVER_NAME}; proxy_ssl_server_name on;",
                client.with_extension("crt").display(),
                client.with_extension("key").display(),
                authority.display()
            )
        } else {
            "proxy_pass http://out;".into()
        };
        format!(
            "upstream out {{ server {}; keepalive 256; keepalive_requests 1000000000; keepalive_time 1h; }}\n\
             server {{ {listen} location / {{ {upstream} proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}",
            hop.to
        )
    }

    fn nginx(&self, name: &str, server: &str) -> anyhow::Result<Command> {
        // As root its workers would become somebody who may not read our folder.
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        let folder = self.folder.display();
        let text = format!(
            "{user}daemon off;\nworker_processes 1;\nerror_log stderr;\npid {folder}/{name}.pid;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\naccess_log off;\nkeepalive_requests 1000000000;\nkeepalive_time 1h;\n\
             client_body_temp_path {folder}/{name}-body;\nproxy_temp_path {folder}/{name}-proxy;\n\
             fastcgi_temp_path {folder}/{name}-fastcgi;\nuwsgi_temp_path {folder}/{name}-uwsgi;\n\
             scgi_temp_path {folder}/{name}-scgi;\n{server}\n}}\n"
        );
        let file = self.folder.join(format!("{name}.conf"));
        std::fs::write(&file, text).context("write nginx's configuration")?;
        let mut command = Command::new(process::find("nginx").context("nginx is not installed")?);
        command.args(["-e", "stderr", "-c"]).arg(file);
        Ok(command)
    }
}
