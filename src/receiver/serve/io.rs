//! The connection of one client: tells [`Activity`] what is read, gives up on a client that does not read, and says a
//! word of its own between the frames of HTTP/2 to a client that pings too often.

use super::{
    super::activity::Activity,
    Rules,
    authority::Authority,
    pings::{Pings, TOO_MANY_PINGS},
};
use crate::net::{Socket, Stream};
use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// How every HTTP/2 connection starts (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A watched connection.
pub(super) struct Watched {
    stream: Stream,
    activity: Arc<Activity>,
    /// Mends what clients call a server on a unix socket.
    authority: Option<Box<Authority>>,
    /// What is still to come of the preface; `None` once the version is known.
    preface: Option<&'static [u8]>,
    /// Counts pings, where there is a policy on them and HTTP/2 is spoken.
    pings: Option<Box<Pings>>,
    /// What is still to be written of our own GOAWAY.
    goaway: &'static [u8],
    write_timeout: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(super) fn new(stream: Stream, activity: Arc<Activity>, rules: &Rules) -> Self {
        let socket = match &stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => tls.get_ref().0,
        };
        Watched {
            authority: matches!(socket, Socket::Unix(_)).then(|| Box::new(Authority::new())),
            stream,
            activity,
            preface: Some(PREFACE),
            pings: rules.pings.map(|policy| Box::new(Pings::new(policy))),
            goaway: &[],
            write_timeout: rules.write_timeout,
            waiting: None,
        }
    }

    fn note(&mut self, mut fresh: &[u8]) {
        if let Some(preface) = self.preface {
            match fresh.strip_prefix(preface) {
                Some(frames) => {
                    self.activity.speaks_http2();
                    self.preface = None;
                    fresh = frames;
                }
                None => {
                    self.preface = preface.strip_prefix(fresh);
                    if self.preface.is_none() {
                        self.pings = None;
                    }
                    fresh = &[];
                }
            }
        }
        self.activity.read();
        let Some(pings) = &mut self.pings else { return };
        let too_many = pings.read(fresh, || self.activity.has_requests());
        if too_many && self.activity.tell_off() {
            self.goaway = TOO_MANY_PINGS;
        }
    }

    /// Writes what we have to say ourselves, where a frame may begin. Answers how much of the rest may follow.
    fn interject(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.goaway.is_empty() {
            return Poll::Ready(Ok(usize::MAX));
        }
        match self.pings.as_ref().map_or(0, |pings| pings.rest_of_frame()) {
            0 => {}
            rest => return Poll::Ready(Ok(rest)),
        }
        while !self.goaway.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, self.goaway))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.goaway = &self.goaway[written..],
            }
        }
        self.pings = None;
        Poll::Ready(Ok(usize::MAX))
    }

    fn write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let room = ready!(self.interject(cx))?;
        let written = match bufs {
            _ if room < usize::MAX => {
                let Some(buf) = bufs.iter().find(|buf| !buf.is_empty()) else { return Poll::Ready(Ok(0)) };
                Pin::new(&mut self.stream).poll_write(cx, &buf[..buf.len().min(room)])
            }
            [buf] => Pin::new(&mut self.stream).poll_write(cx, buf),
            bufs => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        };
        if let (Some(pings), Poll::Ready(Ok(written))) = (&mut self.pings, &written) {
            let mut left = *written;
            for buf in bufs {
                let part = left.min(buf.len());
                pings.written(&buf[..part]);
                left -= part;
            }
        }
        written
    }

    fn within_time<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let timeout = self.write_timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(authority) = &mut self.authority {
            authority.mend(&mut buf.filled_mut()[before..]);
        }
        let fresh = &buf.filled()[before..];
        if !fresh.is_empty() {
            self.note(fresh);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.write(cx, &[IoSlice::new(buf)]);
        self.within_time(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.write(cx, bufs);
        self.within_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
