//! Has a command done: on the directory, or by the server that has it open.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use meshless_certs::authority::command::{Command, PATH, Refusal, Reply};
use meshless_certs::authority::{Desk, OpenError, SOCKET};
use tokio::net::UnixStream;

use super::Exit;
use super::place::{Failure, Place};

/// Most of an answer that is read: a backup of ten thousand workloads is 10 MB.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Longest wait for an answer: a passphrase takes time, and the audit log is read whole.
const PATIENCE: Duration = Duration::from_mins(1);

/// Has a command done.
pub(super) fn ask(place: &Place, command: Command) -> Result<Reply, Failure> {
    let directory = place.directory()?;
    match Desk::open(&directory, place.options()?) {
        Ok(desk) => Ok(desk.execute(command)?),
        Err(error @ OpenError::InUse(_)) => at_socket(&directory.join(SOCKET), &command, &error),
        Err(error) => Err(error.into()),
    }
}

fn at_socket(socket: &Path, command: &Command, why: &OpenError) -> Result<Reply, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the system refused a runtime: {error}")))?;
    let exchange = async {
        tokio::time::timeout(PATIENCE, post(socket, command))
            .await
            .unwrap_or_else(|_| Err(format!("nothing came within {} s", PATIENCE.as_secs()).into()))
    };
    let answer = runtime.block_on(exchange);
    let answer = answer.map_err(|error| {
        Failure::new(format!("{why}; there, nobody answers: {} ({error})", socket.display()), Exit::Unreachable)
    })?;
    Ok(answer?)
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn post(socket: &Path, command: &Command) -> Result<Result<Reply, Refusal>, BoxError> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(PATH)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(serde_json::to_vec(command)?)))?;
    let exchange = async {
        let reply = sender.send_request(request).await?;
        let status = reply.status();
        let body = Limited::new(reply.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
        if status != StatusCode::OK {
            return Err(format!("it answered with {status}; is it a meshless of this version?").into());
        }
        Ok(serde_json::from_slice(&body)?)
    };
    // The connection must be driven beside the exchange; once it ended, the exchange knows why.
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        reply = &mut exchange => reply,
        _ = &mut connection => exchange.await,
    }
}
