//! One connection, however it was made.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};

/// A connection to a backend, or to a proxy in front of it.
pub(in crate::exporter) struct Stream {
    io: Io,
    /// The peer is a proxy that forwards requests: they name their host in the request line.
    forwarded: bool,
    /// Its place among the connections to its host, where those are counted.
    _place: Option<OwnedSemaphorePermit>,
}

pub(super) enum Io {
    Tcp(TokioIo<TcpStream>),
    /// To a proxy that is itself behind TLS.
    Proxy(Box<MaybeHttpsStream<TokioIo<TcpStream>>>),
    #[cfg(unix)]
    Unix(TokioIo<tokio::net::UnixStream>),
}

impl Stream {
    pub(super) fn new(io: Io, forwarded: bool, place: Option<OwnedSemaphorePermit>) -> Self {
        Stream { io, forwarded, _place: place }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.forwarded)
    }
}

macro_rules! each {
    ($self:ident, $io:ident => $call:expr) => {
        match &mut $self.get_mut().io {
            Io::Tcp($io) => $call,
            Io::Proxy($io) => $call,
            #[cfg(unix)]
            Io::Unix($io) => $call,
        }
    };
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_read(context, buf))
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write(context, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_shutdown(context))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp(io) => io.is_write_vectored(),
            Io::Proxy(io) => io.is_write_vectored(),
            #[cfg(unix)]
            Io::Unix(io) => io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write_vectored(context, bufs))
    }
}
