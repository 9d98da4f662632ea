//! Listening on an endpoint, TCP or unix, and saying what to do where that does not work.

use super::Socket;
use crate::config::ConfigError;
use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Who may connect to a unix socket: its owner and its group. The group is the process's; the directory's permissions
/// narrow it further.
const SOCKET_MODE: u32 = 0o660;

/// The longest path of a unix socket in bytes, on Linux (`sun_path` with its end).
const MAX_SOCKET_PATH: usize = 107;

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
            return check_path(endpoint);
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

fn check_path(path: &str) -> Result<(), ConfigError> {
    let error =
        |text: &str| ConfigError::new("endpoint", text).with_hint("write a path, such as /run/tracegate/otlp.sock");
    let path = path.strip_prefix("unix://").or_else(|| path.strip_prefix("unix:")).unwrap_or(path);
    match path.len() {
        0 => Err(error("unix socket path cannot be empty")),
        n if n > MAX_SOCKET_PATH => Err(error("unix socket path is longer than 107 bytes")),
        _ => Ok(()),
    }
}

/// Whether a host of an endpoint is this machine alone, as far as its text says.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Where in the configuration an endpoint stands, for the error.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The YAML path, such as `receivers::otlp::protocols::grpc::endpoint`.
    pub path: &'a str,
    /// The flag that sets it.
    pub flag: Flag<'a>,
    /// What else helps where the port is in use.
    pub recipe: &'a str,
}

/// The flag that sets an endpoint.
#[derive(Clone, Copy, Debug)]
pub enum Flag<'a> {
    /// `--set KEY=` and an endpoint; the key, such as `receivers.otlp.protocols.grpc.endpoint`.
    Key(&'a str),
    /// A flag as it is to be given.
    Whole(&'a str),
}

impl Flag<'_> {
    fn with(self, endpoint: &str) -> String {
        match self {
            Flag::Key(key) => format!("--set {key}={endpoint}"),
            Flag::Whole(flag) => flag.to_owned(),
        }
    }
}

/// What stands in the way where a Collector holds an OTLP port.
pub const IN_FRONT: &str = "to put tracegate in front of a Collector that holds the port, move the Collector to another \
                            port and export to it, see pipelines/in-front-of-collector.yaml";

/// An endpoint could not be listened on: one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot listen on {endpoint}: {cause}; {advice}")]
pub struct ListenError {
    /// Where the endpoint is configured.
    pub path: String,
    /// The endpoint as configured.
    pub endpoint: String,
    /// What the system says.
    pub cause: io::Error,
    /// What to do.
    pub advice: String,
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
            Transport::Unix => unix(endpoint).await,
            _ => tcp(transport, endpoint)
                .await
                .map(|(listener, address)| Listener { kind: Kind::Tcp(listener), address: Address::Tcp(address) }),
        };
        bound.map_err(|cause| explain(transport, endpoint, place, cause))
    }

    /// Listens on TCP only, for a server that brings its own accept loop.
    ///
    /// # Errors
    /// [`ListenError`]
    pub async fn bind_tcp(endpoint: &str, place: Place<'_>) -> Result<(TcpListener, SocketAddr), ListenError> {
        tcp(Transport::Tcp, endpoint).await.map_err(|cause| explain(Transport::Tcp, endpoint, place, cause))
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

async fn unix(endpoint: &str) -> io::Result<Listener> {
    let name = endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
    let address = Address::Unix(name.into());
    if let Some(name) = name.strip_prefix('@') {
        let listener = UnixListener::bind(format!("\0{name}"))?;
        return Ok(Listener { kind: Kind::Unix(listener, None), address });
    }
    let path = Path::new(name);
    make_room(path).await?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile::made(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(Listener { kind: Kind::Unix(listener, Some(file)), address })
}

/// Removes the socket of a process that is gone. Nothing else is ever removed.
async fn make_room(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is in the way"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Somebody listens, or it is not ours to know.
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

/// The file of our own socket; removed with it, unless another process has put its own there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn made(path: &Path) -> io::Result<Self> {
        let made = std::fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), identity: (made.dev(), made.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if ours {
            // What cannot be removed is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn explain(transport: Transport, endpoint: &str, place: Place<'_>, cause: io::Error) -> ListenError {
    let advice = match (transport, cause.kind()) {
        (Transport::Unix, kind) => advice_unix(kind, endpoint, place),
        (_, io::ErrorKind::AddrInUse) => {
            let port = endpoint.rsplit_once(':').map_or("", |(_, port)| port);
            let recipe = if place.recipe.is_empty() { String::new() } else { format!("; {}", place.recipe) };
            let flag = place.flag.with(&elsewhere(endpoint));
            format!(
                "see which process has the port with \"ss -ltnp 'sport = :{port}'\" and stop it, or listen elsewhere with \
                 {flag}{recipe}"
            )
        }
        (_, io::ErrorKind::PermissionDenied) => "ports below 1024 need a privilege; set a higher port".to_owned(),
        (_, io::ErrorKind::AddrNotAvailable) => "set an address this machine has, 0.0.0.0 for all of them".to_owned(),
        _ => "set it to host:port, such as 127.0.0.1:4317".to_owned(),
    };
    ListenError { path: place.path.to_owned(), endpoint: endpoint.to_owned(), advice, cause }
}

fn advice_unix(kind: io::ErrorKind, endpoint: &str, place: Place<'_>) -> String {
    match kind {
        io::ErrorKind::AddrInUse => {
            let flag = place.flag.with(&format!("{endpoint}.2"));
            format!(
                "see which process has the socket with \"ss -lxp | grep {endpoint}\" and stop it, or listen elsewhere \
                 with {flag}"
            )
        }
        io::ErrorKind::NotFound => "make the directory first; tracegate makes only the socket".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "the user tracegate runs as must be able to write to the directory".to_owned()
        }
        io::ErrorKind::AlreadyExists => "move it away, or set the path of a socket".to_owned(),
        _ => "set it to the path of a socket, such as /run/tracegate/otlp.sock".to_owned(),
    }
}

/// The same endpoint with a port that is likely to be free: 14317 for 4317.
fn elsewhere(endpoint: &str) -> String {
    let Some((host, port)) = endpoint.rsplit_once(':') else { return endpoint.to_owned() };
    match port.parse::<u32>().map(|port| port + 10_000) {
        Ok(port) if port <= u32::from(u16::MAX) => format!("{host}:{port}"),
        _ => format!("{host}:PORT"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { path: "a::endpoint", flag: Flag::Key("a.endpoint"), recipe: IN_FRONT };

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

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_or_another_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let endpoint = path.to_str().unwrap();
        // A listener of the standard library leaves its file behind, as a killed process does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::bind(Transport::Unix, endpoint, PLACE).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(listener.address().to_string(), format!("unix:{endpoint}"));

        let error = Listener::bind(Transport::Unix, endpoint, PLACE).await.unwrap_err();
        assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse, "somebody listens");
        assert!(error.advice.contains("--set a.endpoint="), "{error}");
        assert!(path.exists());
        drop(listener);
        assert!(!path.exists(), "removed with its listener");

        std::fs::write(&path, "precious").unwrap();
        let error = Listener::bind(Transport::Unix, endpoint, PLACE).await.unwrap_err();
        assert!(error.to_string().contains("not a socket is in the way; move it away"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let nowhere = directory.path().join("none/s.sock");
        let error = Listener::bind(Transport::Unix, nowhere.to_str().unwrap(), PLACE).await.unwrap_err();
        assert!(error.to_string().contains("make the directory first"), "{error}");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let first = Listener::bind(Transport::Unix, path.to_str().unwrap(), PLACE).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = Listener::bind(Transport::Unix, path.to_str().unwrap(), PLACE).await.unwrap();
        drop(first);
        assert!(UnixStream::connect(&path).await.is_ok());
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
        assert_eq!(elsewhere("localhost:4317"), "localhost:14317");
        assert_eq!(elsewhere("[::1]:60000"), "[::1]:PORT");
    }
}
