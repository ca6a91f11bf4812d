//! A byte stream of any kind that a connection may run over.
//!
//! One concrete type instead of a generic parameter: the data path compiles once, and a stream that had bytes read from
//! it for detection (PROXY header, `ClientHello`, preface) carries them as a prefix.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use crate::telemetry::metrics::TcpConnection;
use crate::trust::Cut;

/// A byte stream with bytes that were read ahead.
#[derive(Debug)]
pub(crate) struct Stream {
    kind: Kind,
    prefix: BytesMut,
    /// Counts what goes over the socket until the stream is dropped.
    counted: Option<TcpConnection>,
    /// Ends it from outside; where its peer showed an identity.
    cut: Option<Rc<Cut>>,
}

#[derive(Debug)]
enum Kind {
    /// What is left when a connection's stream was handed on.
    Closed(tokio::io::Empty),
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<Stream>>),
    Unix(UnixStream),
}

impl Stream {
    fn of(kind: Kind) -> Self {
        Self { kind, prefix: BytesMut::new(), counted: None, cut: None }
    }

    /// Lets it be ended from outside.
    pub(crate) fn cut_by(&mut self, cut: Rc<Cut>) {
        self.cut = Some(cut);
    }

    /// Returns a stream that has ended.
    pub(crate) fn closed() -> Self {
        Self::of(Kind::Closed(tokio::io::empty()))
    }

    /// Counts the connection and its bytes from now on. Before TLS: what is counted is what the network carries.
    pub(crate) fn count(&mut self, connection: TcpConnection) {
        self.counted = Some(connection);
    }

    fn count_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Some(counted), Poll::Ready(Ok(length))) = (&self.counted, &written) {
            counted.written(*length);
        }
        written
    }

    /// Puts bytes that were read ahead back to the front.
    pub(crate) fn unread(&mut self, bytes: BytesMut) {
        if self.prefix.is_empty() {
            self.prefix = bytes;
        } else if !bytes.is_empty() {
            let mut joined = bytes;
            joined.extend_from_slice(&self.prefix);
            self.prefix = joined;
        }
    }

    /// Shuts the sending half of the stream down; TLS says `close_notify` first.
    pub(crate) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(context)
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::of(Kind::Tcp(stream))
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::of(Kind::Unix(stream))
    }
}

impl From<TlsStream<Self>> for Stream {
    fn from(stream: TlsStream<Self>) -> Self {
        Self::of(Kind::Tls(Box::new(stream)))
    }
}

#[cfg(test)]
impl From<tokio::io::DuplexStream> for Stream {
    fn from(stream: tokio::io::DuplexStream) -> Self {
        Self::of(Kind::Memory(stream))
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.kind {
            #[cfg(test)]
            Kind::Memory($stream) => $call,
            Kind::Closed($stream) => $call,
            Kind::Tcp($stream) => $call,
            Kind::Tls($stream) => $call,
            Kind::Unix($stream) => $call,
        }
    };
}

/// The connection had to end, and the time for that is over.
fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the peer is not trusted any more")
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let length = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(self.prefix.get(..length).unwrap_or_default());
            self.prefix.advance(length);
            if self.prefix.is_empty() {
                self.prefix = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        if self.cut.as_ref().is_some_and(|cut| cut.poll_read(context).is_ready()) {
            return Poll::Ready(Err(cut()));
        }
        let before = buffer.filled().len();
        let read = each!(self, stream => Pin::new(stream).poll_read(context, buffer));
        if let Some(counted) = &self.counted {
            counted.read(buffer.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.as_ref().is_some_and(|cut| cut.poll_write(context).is_ready()) {
            return Poll::Ready(Err(cut()));
        }
        let written = each!(self, stream => Pin::new(stream).poll_write(context, bytes));
        self.count_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.cut.as_ref().is_some_and(|cut| cut.poll_write(context).is_ready()) {
            return Poll::Ready(Err(cut()));
        }
        let written = each!(self, stream => Pin::new(stream).poll_write_vectored(context, slices));
        self.count_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            #[cfg(test)]
            Kind::Memory(stream) => stream.is_write_vectored(),
            Kind::Closed(_) => false,
            Kind::Tcp(stream) => stream.is_write_vectored(),
            Kind::Tls(stream) => stream.is_write_vectored(),
            Kind::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
