//! The operator's door: a Unix socket that takes commands as HTTP/1.1 and JSON, one at a time for each connection.
//!
//! Who may open the socket may do everything, so the socket is its owner's alone (0600, in a directory of 0700).

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::{ACCEPT_PAUSE, LAST_WORDS, Spawn, stopped};
use crate::authority::command::PATH;

/// Connections at a time.
const CONNECTIONS: usize = 16;
/// Largest command, in bytes.
const COMMAND_BYTES: usize = 1024 * 1024;
/// Until a head, or a body, is complete.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does what an operator says.
#[async_trait]
pub trait Operator: fmt::Debug + Send + Sync {
    /// Carries a command out and says how it went; a command that is none is answered, too.
    async fn execute(&self, command: Value) -> Value;
}

/// Accepts until `stop` says true or its sender is gone; then waits, 20 s at most, for what is under way.
pub async fn serve(listener: UnixListener, operator: Arc<dyn Operator>, spawn: Spawn, stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut stopped = std::pin::pin!(stopped(stop.clone()));
    loop {
        let accepted = async {
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let accepted = tokio::select! {
            () = &mut stopped => break,
            accepted = accepted => accepted,
        };
        match accepted {
            (Ok(permit), Ok((stream, _))) => {
                spawn(Box::pin(connection(stream, operator.clone(), spawn.clone(), permit, stop.clone())));
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "The authority cannot accept an operator's connection.");
                sleep(ACCEPT_PAUSE).await;
            }
            (Err(_), _) => break,
        }
    }
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = timeout(LAST_WORDS, room.acquire_many(all)).await;
}

async fn connection(
    stream: UnixStream,
    operator: Arc<dyn Operator>,
    spawn: Spawn,
    _room: OwnedSemaphorePermit,
    stop: watch::Receiver<bool>,
) {
    let service = service_fn(|request| {
        let (operator, spawn) = (operator.clone(), spawn.clone());
        async move { Ok::<_, Infallible>(answer(request, operator, spawn).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "An operator's connection ended early.");
    }
}

async fn answer(request: Request<Incoming>, operator: Arc<dyn Operator>, spawn: Spawn) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return respond(StatusCode::NOT_FOUND, &json!({ "error": "there is no such path" }));
    }
    if request.method() != Method::POST {
        return respond(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "commands are sent by POST" }));
    }
    let body = match timeout(PATIENCE, Limited::new(request.into_body(), COMMAND_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return respond(StatusCode::BAD_REQUEST, &json!({ "error": format!("the body: {error}") })),
        Err(_) => {
            return respond(StatusCode::REQUEST_TIMEOUT, &json!({ "error": "the body was not complete in 10 s" }));
        }
    };
    let command = match serde_json::from_slice(&body) {
        Ok(command) => command,
        Err(error) => return respond(StatusCode::BAD_REQUEST, &json!({ "error": format!("the body: {error}") })),
    };
    // A job of its own: an operator who goes away does not stop a rotation in the middle.
    let (tell, reply) = oneshot::channel();
    spawn(Box::pin(async move {
        let _ = tell.send(operator.execute(command).await);
    }));
    match reply.await {
        Ok(reply) => respond(StatusCode::OK, &reply),
        Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": "the command did not end" })),
    }
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
