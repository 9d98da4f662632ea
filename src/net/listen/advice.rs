//! What to do where an endpoint cannot be listened on.

use super::Transport;
use std::io;

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

pub(super) fn explain(transport: Transport, endpoint: &str, place: Place<'_>, cause: io::Error) -> ListenError {
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
mod tests {
    use super::elsewhere;

    #[test]
    fn another_port_is_proposed_where_there_is_one() {
        assert_eq!(elsewhere("localhost:4317"), "localhost:14317");
        assert_eq!(elsewhere("[::1]:60000"), "[::1]:PORT");
    }
}
