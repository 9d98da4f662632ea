//! The server's half of a handshake, bounded in time, and a word to a client that does not speak TLS.

use super::server::Server;
use crate::net::{Socket, Stream};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// The first byte of every TLS connection: a record that carries a handshake (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// How long a client without TLS may take to read that it needs it.
const FAREWELL: Duration = Duration::from_secs(1);

/// To HTTP/1, in the words of Go's server.
const NO_TLS_HTTP1: &[u8] = b"HTTP/1.0 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// To HTTP/2: empty SETTINGS, then GOAWAY with INADEQUATE_SECURITY and a sentence (RFC 9113, 6.5 and 6.8).
const NO_TLS_HTTP2: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x2a\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0cthis port speaks TLS; use https://";

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client took too long.
    #[error("the handshake took too long")]
    Slow,
    /// The client began with something else.
    #[error("the client does not speak TLS; its endpoint must begin with https:// or have TLS on")]
    Plaintext,
    /// The connection ended before anything was sent, as a port check does.
    #[error("the connection was closed before the handshake")]
    Closed,
    /// openssl writes such certificates unless it is given extensions.
    #[error("the client's certificate is X.509 version 1; version 3 is needed")]
    Version1,
    /// The two did not agree, or the connection broke.
    #[error("{0}")]
    Failed(io::Error),
}

/// Accepts TLS with the certificate that is current at that moment. Clones share the certificate.
#[derive(Clone, Debug)]
pub struct Acceptor(pub(super) Arc<Server>);

impl Acceptor {
    /// Shakes hands within the given time.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection is closed.
    pub async fn accept(&self, socket: Socket, within: Duration) -> Result<Stream, HandshakeError> {
        match timeout(within, self.shake_hands(socket)).await {
            Ok(done) => done,
            Err(_) => Err(HandshakeError::Slow),
        }
    }

    async fn shake_hands(&self, mut socket: Socket) -> Result<Stream, HandshakeError> {
        let mut start = [0; 4];
        let seen = peek(&socket, &mut start).await.map_err(HandshakeError::Failed)?;
        let start = &start[..seen];
        match start.first() {
            None => return Err(HandshakeError::Closed),
            Some(&HANDSHAKE_RECORD) => {}
            Some(_) => {
                // It is gone or does not listen; both are fine.
                let _ = timeout(FAREWELL, refuse(&mut socket, start)).await;
                return Err(HandshakeError::Plaintext);
            }
        }
        let acceptor = TlsAcceptor::from(self.0.current.load_full());
        acceptor.accept(socket).await.map(|stream| Stream::Tls(Box::new(stream))).map_err(failed)
    }
}

/// The connection as it is where no TLS is spoken, and behind a handshake where it is.
///
/// # Errors
/// As [`Acceptor::accept`].
pub async fn secured(
    tls: Option<&Acceptor>,
    socket: impl Into<Socket>,
    within: Duration,
) -> Result<Stream, HandshakeError> {
    match tls {
        None => Ok(Stream::Plain(socket.into())),
        Some(acceptor) => acceptor.accept(socket.into(), within).await,
    }
}

/// What does not begin with a record of TLS comes from a client without it.
fn failed(error: io::Error) -> HandshakeError {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(&rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => HandshakeError::Plaintext,
        // webpki's own type is not part of rustls' interface, and its Debug text no sentence.
        Some(error) if error.to_string().contains("UnsupportedCertVersion") => HandshakeError::Version1,
        _ => HandshakeError::Failed(error),
    }
}

/// The first bytes, left in the socket. Unix sockets cannot be peeked into; there the handshake itself finds out, and the
/// client hears an alert.
async fn peek(socket: &Socket, start: &mut [u8]) -> io::Result<usize> {
    match socket {
        Socket::Tcp(tcp) => tcp.peek(start).await,
        Socket::Unix(_) => {
            start[0] = HANDSHAKE_RECORD;
            Ok(1)
        }
    }
}

/// Tells a client without TLS what it did, if it is likely to understand.
async fn refuse(socket: &mut Socket, start: &[u8]) -> io::Result<()> {
    let answer = match start {
        b"PRI " => NO_TLS_HTTP2,
        [first, ..] if first.is_ascii_uppercase() => NO_TLS_HTTP1,
        _ => return Ok(()),
    };
    socket.write_all(answer).await?;
    socket.shutdown().await?;
    // What the client still sends is read: a socket closed over unread bytes is reset, and the answer lost.
    let mut rest = [0; 4096];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CertificateError, OtherError};
    use std::{error::Error, fmt};

    #[test]
    fn the_answer_to_http2_is_two_whole_frames() {
        let (settings, goaway) = NO_TLS_HTTP2.split_at(9);
        assert_eq!(settings, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        assert_eq!(usize::from(goaway[2]), goaway.len() - 9, "length");
        assert_eq!((goaway[3], goaway[16]), (7, 12));
    }

    /// As webpki's own, whose type cannot be named.
    #[derive(Debug)]
    struct UnsupportedCertVersion;

    impl fmt::Display for UnsupportedCertVersion {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("unsupported")
        }
    }

    impl Error for UnsupportedCertVersion {}

    #[test]
    fn what_went_wrong_is_said_in_a_sentence() {
        let of = |error: rustls::Error| failed(io::Error::other(error)).to_string();
        let version = CertificateError::Other(OtherError(Arc::new(UnsupportedCertVersion)));
        assert!(of(rustls::Error::InvalidCertificate(version)).contains("X.509 version 1"));
        let plaintext = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert!(of(plaintext).contains("does not speak TLS"));
    }
}
