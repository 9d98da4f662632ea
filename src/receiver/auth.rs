//! The gate of a server with `auth`: who sends a request is known before a byte of its body is read.

use super::fault::Fault;
use crate::{
    auth::{Denied, Principal, Server},
    pipeline::{Refusal, Transport},
    telemetry::Seldom,
};
use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// When a client should come back whose password found no turn to be checked.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a server with `auth` runs with.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Who knows the credentials.
    pub server: Server,
    /// Query parameters that are taken for headers; the Collector's `request_params`.
    pub request_params: Vec<String>,
}

/// Asked about every request.
#[derive(Debug)]
pub(super) struct Gate {
    auth: Auth,
    receiver: Arc<str>,
    transport: Transport,
    log: Seldom,
}

impl Gate {
    pub(super) fn new(auth: Auth, receiver: Arc<str>, transport: Transport) -> Self {
        Gate { auth, receiver, transport, log: Seldom::default() }
    }

    /// Who sends a request with this head.
    pub(super) async fn admit(&self, head: &Parts, peer: Option<SocketAddr>) -> Result<Arc<Principal>, Fault> {
        let Auth { server, request_params } = &self.auth;
        let header = server.header();
        let mut parameters = request_params.iter().filter(|name| name.eq_ignore_ascii_case(header.as_str()));
        // As in the Collector, a parameter stands in the place of the header.
        let admitted = match parameters.find_map(|name| parameters_of(head, name)) {
            Some(values) => server.authenticate(values.iter().map(Vec::as_slice)).await,
            None => server.authenticate(head.headers.get_all(header).iter().map(|value| value.as_bytes())).await,
        };
        admitted.map_err(|denied| {
            if let Some(refused) = self.log.turn(1) {
                let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
                tracing::warn!(
                    receiver = &*self.receiver,
                    transport = self.transport.name(),
                    peer,
                    refused,
                    "requests are not authenticated; the last one: {denied}"
                );
            }
            match denied {
                Denied::Busy => {
                    Fault::Refused(Refusal::Overloaded { message: denied.to_string(), retry_after: RETRY_AFTER })
                }
                denied => Fault::Unauthenticated { denied, challenge: server.challenge() },
            }
        })
    }

    /// Takes credentials out of headers that travel on with the request.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        headers.remove(self.auth.server.header());
    }
}

/// The values of a query parameter; `None` where it is not there.
fn parameters_of(head: &Parts, name: &str) -> Option<Vec<Vec<u8>>> {
    let pairs = head.uri.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let values: Vec<_> =
        pairs.filter(|(key, _)| decoded(key) == name.as_bytes()).map(|(_, value)| decoded(value)).collect();
    (!values.is_empty()).then_some(values)
}

/// A name or value of a query (URL Standard, "application/x-www-form-urlencoded parsing"). What is not well-formed
/// stays as it is.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::Request;

    fn parameters(uri: &str, name: &str) -> Option<Vec<Vec<u8>>> {
        parameters_of(&Request::post(uri).body(()).unwrap().into_parts().0, name)
    }

    #[test]
    fn parameters_are_decoded() {
        let one = |value: &[u8]| Some(vec![value.to_vec()]);
        assert_eq!(parameters("/v1/traces?authorization=Bearer%20a%2Bb+c", "authorization"), one(b"Bearer a+b c"));
        assert_eq!(parameters("/?x=1&%61uth=%ff%", "auth"), one(b"\xff%"));
        assert_eq!(parameters("/?auth", "auth"), one(b""));
        assert_eq!(parameters("/?auth=%zz%4", "auth"), one(b"%zz%4"));
        assert_eq!(parameters("/?auth=1&auth=2", "auth").unwrap().len(), 2);
        assert_eq!(parameters("/?Auth=1", "auth"), None);
        assert_eq!(parameters("/", "auth"), None);
    }
}
