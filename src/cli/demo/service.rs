//! A small service of the demo: says who answered, and can go away for a while.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// So long an instance is gone when it was told to stop.
const ABSENCE: Duration = Duration::from_secs(20);
/// Between two attempts to listen again, or to accept after an error.
const PAUSE: Duration = Duration::from_millis(200);

/// One instance of a service, on a port of its own.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) service: &'static str,
    pub(super) address: SocketAddr,
    letter: &'static str,
    delay: Duration,
    stop: Arc<Notify>,
}

impl Instance {
    /// Serves on a socket until the runtime ends. Must be called on one.
    pub(super) fn start(
        service: &'static str,
        letter: &'static str,
        delay: Duration,
        socket: std::net::TcpListener,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let instance = Self { service, letter, delay, address: socket.local_addr()?, stop: Arc::default() };
        tokio::spawn(instance.clone().serve(socket));
        Ok(instance)
    }

    /// Returns its name: `web-v1-a`.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.service, self.letter)
    }

    async fn serve(self, mut socket: TcpListener) {
        loop {
            // Dropping the set closes every connection, as a process that dies does.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    () = self.stop.notified() => break,
                    accepted = socket.accept() => match accepted {
                        Ok((stream, _)) => {
                            let instance = self.clone();
                            connections.spawn(async move {
                                let serving = service_fn(|request| instance.answer(request));
                                // A client that breaks its connection is not worth a line in a demo.
                                let _ = http1::Builder::new()
                                    .timer(TokioTimer::new())
                                    .serve_connection(TokioIo::new(stream), serving)
                                    .await;
                            });
                        }
                        Err(_) => sleep(PAUSE).await,
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
            // Lets the answer to `/stop` out.
            sleep(PAUSE).await;
            drop((socket, connections));
            sleep(ABSENCE).await;
            socket = loop {
                match TcpListener::bind(self.address).await {
                    Ok(socket) => break socket,
                    Err(_) => sleep(PAUSE).await,
                }
            };
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let name = self.name();
        let path = request.uri().path();
        if path == "/stop" {
            self.stop.notify_one();
            let text =
                format!("{name} is gone for {} s; the gateway sends its requests elsewhere.\n", ABSENCE.as_secs());
            return Ok(text_reply(text));
        }
        sleep(self.delay).await;
        let wants_page = request
            .headers()
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|accept| accept.contains("text/html"));
        if !wants_page {
            return Ok(text_reply(format!("{name} at {} answered {path}\n", self.address)));
        }
        let mut reply = Response::new(Full::from(self.page(&name)));
        reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        Ok(reply)
    }

    fn page(&self, name: &str) -> String {
        let colour = match self.service {
            "web-v1" => "#1d4ed8",
            "web-v2" => "#b45309",
            _ => "#374151",
        };
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>\
             <meta name=viewport content=\"width=device-width\">\
             <style>body{{font:18px/1.5 system-ui,sans-serif;max-width:36em;margin:4em auto;padding:0 1em}}\
             h1{{color:{colour}}}</style>\
             <h1>{name}</h1><p>This instance of <b>{}</b> listens on <code>{}</code>. The gateway chose it for this \
             request; reload the page and it may choose another: nine in ten requests go to version 1.</p>\
             <p><a href=\"/slow/\">A slow service</a> · <a href=\"/\">Again</a></p></html>\n",
            self.service, self.address
        )
    }
}

fn text_reply(text: String) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::from(text));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}
