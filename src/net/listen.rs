//! Listening on an endpoint, TCP or unix.

mod advice;
mod unix;

pub use advice::{Flag, IN_FRONT, ListenError, Place};

use super::Socket;
use crate::config::ConfigError;
use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};
use tokio::net::{TcpListener, UnixListener};
use unix::SocketFile;

/// Over what a server listens; the Collector's `transport`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// `tcp`: either version of IP.
    #[default]
    Tcp,
    /// `tcp4`: IPv4 only.
    Tcp4,
    /// `tcp6`: IPv6 only.
    Tcp6,
    /// `unix`: a stream socket in the file system; `@name` is a name in Linux's abstract namespace.
    Unix,
}

impl Transport {
    /// Reads the key `transport`; absent and empty mean TCP.
    ///
    /// # Errors
    /// [`ConfigError`] at `transport`.
    pub fn parse(configured: Option<&str>) -> Result<Self, ConfigError> {
        match configured {
            None | Some("" | "tcp") => Ok(Transport::Tcp),
            Some("tcp4") => Ok(Transport::Tcp4),
            Some("tcp6") => Ok(Transport::Tcp6),
            Some("unix") => Ok(Transport::Unix),
            Some(_) => {
                let hint = "write tcp, tcp4, tcp6 or unix";
                Err(ConfigError::new("transport", "invalid transport type").with_hint(hint))
            }
        }
    }

    /// Checks an endpoint without listening: `host:port`, `[v6]:port` or `:port`, or the path of a socket.
    ///
    /// # Errors
    /// [`ConfigError`] at `endpoint`.
    pub fn check(self, endpoint: &str) -> Result<(), ConfigError> {
        if self == Transport::Unix {
            return unix::check(endpoint);
        }
        let error =
            |text: &str| ConfigError::new("endpoint", text).with_hint("write host:port, such as 127.0.0.1:4317");
        let (host, port) = endpoint.rsplit_once(':').ok_or_else(|| error("missing port in address"))?;
        if port.is_empty() || port.ends_with(']') {
            return Err(error("missing port in address"));
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_none();
        if bare && host.contains(':') {
            return Err(error("too many colons in address; write an IPv6 address in brackets"));
        }
        port.parse::<u16>().map(|_| ()).map_err(|_| error("invalid port"))
    }
}

/// Whether a host of an endpoint is this machine alone, as far as its text says.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// With the real port where port 0 was configured.
    Tcp(SocketAddr),
    /// The path of the socket.
    Unix(PathBuf),
}

impl Address {
    /// The address, where it is one of the network.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound endpoint. Dropping it stops listening and removes the socket file it made.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    address: Address,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, #[allow(dead_code, reason = "removes the file when dropped")] Option<SocketFile>),
}

impl Listener {
    /// Listens on an endpoint: IPv4 first where a name has both versions, as the Collector does.
    ///
    /// # Errors
    /// [`ListenError`]; a unix socket of a process that is gone is replaced, one that answers is an error.
    pub async fn bind(transport: Transport, endpoint: &str, place: Place<'_>) -> Result<Self, ListenError> {
        let bound = match transport {
            Transport::Unix => unix::bind(endpoint).await.map(|(listener, file, path)| Listener {
                kind: Kind::Unix(listener, file),
                address: Address::Unix(path),
            }),
            _ => tcp(transport, endpoint)
                .await
                .map(|(listener, address)| Listener { kind: Kind::Tcp(listener), address: Address::Tcp(address) }),
        };
        bound.map_err(|cause| advice::explain(transport, endpoint, place, cause))
    }

    /// Listens on TCP only, for a server that brings its own accept loop.
    ///
    /// # Errors
    /// [`ListenError`]
    pub async fn bind_tcp(endpoint: &str, place: Place<'_>) -> Result<(TcpListener, SocketAddr), ListenError> {
        tcp(Transport::Tcp, endpoint).await.map_err(|cause| advice::explain(Transport::Tcp, endpoint, place, cause))
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a connection. A unix peer has no address.
    ///
    /// # Errors
    /// What the system says, about one connection or about the listener.
    pub async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // What is written here is awaited; a socket that refuses the option still works.
                let _ = stream.set_nodelay(true);
                Ok((Socket::Tcp(stream), Some(peer)))
            }
            Kind::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), None))
            }
        }
    }
}

async fn tcp(transport: Transport, endpoint: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in candidates(transport, endpoint).await? {
        match TcpListener::bind(candidate).await {
            Ok(listener) => {
                let address = listener.local_addr()?;
                return Ok((listener, address));
            }
            // A machine without this version of IP has the other one. A port that is taken is not looked for elsewhere:
            // clients would reach whoever has it.
            Err(error) if no_such_family(&error) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

async fn candidates(transport: Transport, endpoint: &str) -> io::Result<Vec<SocketAddr>> {
    let mut found: Vec<SocketAddr> = match endpoint.strip_prefix(':') {
        // Every address of the machine: an IPv6 socket takes IPv4 too.
        Some(port) => {
            let port = port.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
        }
        None => {
            let mut found: Vec<SocketAddr> = tokio::net::lookup_host(endpoint).await?.collect();
            found.sort_by_key(SocketAddr::is_ipv6);
            found
        }
    };
    match transport {
        Transport::Tcp4 => found.retain(SocketAddr::is_ipv4),
        Transport::Tcp6 => found.retain(SocketAddr::is_ipv6),
        Transport::Tcp | Transport::Unix => {}
    }
    Ok(found)
}

fn no_such_family(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    pub(super) const PLACE: Place<'static> =
        Place { path: "a::endpoint", flag: Flag::Key("a.endpoint"), recipe: IN_FRONT };

    #[tokio::test]
    async fn names_and_bare_ports_are_listened_on() {
        for (endpoint, ip) in
            [("localhost:0", "127.0.0.1"), ("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "0.0.0.0"), (":0", "")]
        {
            let listener = Listener::bind(Transport::Tcp, endpoint, PLACE).await.unwrap();
            let address = listener.address().tcp().unwrap();
            assert!(ip.is_empty() && address.ip().is_unspecified() || address.ip().to_string() == ip, "{endpoint}");
            assert_ne!(address.port(), 0);
        }
    }

    #[tokio::test]
    async fn a_version_of_ip_can_be_asked_for() {
        let four = Listener::bind(Transport::Tcp4, ":0", PLACE).await.unwrap();
        assert!(four.address().tcp().unwrap().is_ipv4());
        let error = Listener::bind(Transport::Tcp6, "127.0.0.1:0", PLACE).await.unwrap_err();
        assert!(error.to_string().contains("set an address this machine has"), "{error}");
    }

    #[tokio::test]
    async fn a_port_in_use_is_not_looked_for_under_the_other_version_of_ip() {
        let held = Listener::bind(Transport::Tcp, "127.0.0.1:0", PLACE).await.unwrap();
        let port = held.address().tcp().unwrap().port();
        let error = Listener::bind(Transport::Tcp, &format!("localhost:{port}"), PLACE).await.unwrap_err();
        assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse);
        let other = match port {
            ..=55_535 => (port + 10_000).to_string(),
            _ => "PORT".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            format!(
                "a::endpoint: cannot listen on localhost:{port}: {}; see which process has the port with \"ss -ltnp 'sport \
                 = :{port}'\" and stop it, or listen elsewhere with --set a.endpoint=localhost:{other}; to put tracegate in \
                 front of a Collector that holds the port, move the Collector to another port and export to it, see \
                 pipelines/in-front-of-collector.yaml",
                error.cause
            )
        );
    }

    #[test]
    fn endpoints_are_checked_by_transport() {
        for endpoint in ["a:1", ":0", "[::1]:4317", "0.0.0.0:65535"] {
            assert!(Transport::Tcp.check(endpoint).is_ok(), "{endpoint}");
        }
        for (endpoint, text) in [("", "unix socket path cannot be empty"), (&*"x".repeat(108), "longer than 107 bytes")]
        {
            assert!(Transport::Unix.check(endpoint).unwrap_err().message.contains(text));
        }
        assert!(Transport::Unix.check("/run/x.sock").is_ok());
        assert!(Transport::parse(Some("udp")).is_err());
    }
}
