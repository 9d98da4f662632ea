//! What requests go through: one connection, or one to each address of a name.

use super::{
    Config, Failure,
    config::Balancing,
    endpoint::{Endpoint, Target},
};
use crate::{
    config::ConfigError,
    exporter::client::{Balancer, Chunks, Dial, Failed, HttpClient, Route, Surroundings, server_name, transport_error},
};
use http::{Request, Response, Uri, uri::Scheme};
use hyper::body::Incoming;
use std::{fmt, sync::Arc, time::Duration};

/// The way to a backend.
pub(super) enum Channel {
    /// Wherever the one client connects to.
    One(Box<HttpClient>),
    /// Several addresses.
    Many(Balancer),
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Channel::One(_) => "One",
            Channel::Many(_) => "Many",
        })
    }
}

/// With `wait_for_ready`, connections are tried again after this time, and ever less often down to the last.
const AGAIN: Duration = Duration::from_millis(50);
const AGAIN_AT_MOST: Duration = Duration::from_secs(1);

impl Channel {
    pub(super) fn new(config: &Config, endpoint: &Endpoint, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        let connections = config.connections();
        let tls = config.tls.client_config(endpoint.scheme == Scheme::HTTPS)?;
        let name = match config.tls.server_name()? {
            Some(name) => Some(name),
            // The URI has the authority in it, and that is whose certificate is expected.
            None => match config.authority()? {
                Some(authority) => Some(server_name("authority", authority.host())?),
                None => None,
            },
        };
        let one =
            |route| Ok(Channel::One(Box::new(connections.client(tls.clone(), name.clone(), Dial::new(route, &tls)))));
        let (host, port) = match &endpoint.target {
            Target::Socket(path) => return one(Route::Unix(Arc::new(path.clone()))),
            Target::Name { host, port } | Target::Address { host, port } => (host.clone(), *port),
        };
        // gRPC's proxies are tunnels, whatever goes through them.
        let proxy = surroundings.proxies.https(&host, port)?;
        if config.balancer == Balancing::RoundRobin && proxy.is_none() && matches!(endpoint.target, Target::Name { .. })
        {
            let resolver = surroundings.resolver.clone();
            let interval = surroundings.resolve_interval;
            let balancer = Balancer::new((host, port), resolver, interval, move |to, warm| {
                connections.client(tls.clone(), name.clone(), Dial::new(Route::Balanced { to, warm }, &tls))
            });
            return Ok(Channel::Many(balancer));
        }
        let to: Uri = format!("http://{host}:{port}")
            .parse()
            .map_err(|_| ConfigError::new("endpoint", "is not a valid host:port"))?;
        one(Route::Fixed { to, proxy })
    }

    /// Sends a request. `make` makes one of a body, once for each address tried.
    pub(super) async fn request(
        &self,
        body: Chunks,
        make: impl Fn(Chunks) -> Request<Chunks>,
    ) -> Result<Response<Incoming>, Failure> {
        self.attempt(body, make).await.map_err(Unsent::failure)
    }

    /// Sends a request as soon as there is a connection, however long that takes.
    pub(super) async fn request_when_ready(
        &self,
        body: Chunks,
        make: impl Fn(Chunks) -> Request<Chunks>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut again = AGAIN;
        loop {
            match self.attempt(body.clone(), &make).await {
                Err(unsent) if unsent.connecting => {
                    tokio::time::sleep(again).await;
                    again = (again * 2).min(AGAIN_AT_MOST);
                }
                other => return other.map_err(Unsent::failure),
            }
        }
    }

    async fn attempt(
        &self,
        body: Chunks,
        make: impl Fn(Chunks) -> Request<Chunks>,
    ) -> Result<Response<Incoming>, Unsent> {
        match self {
            Channel::One(client) => client.request(make(body)).await.map_err(|error| Unsent::of(&error)),
            Channel::Many(balancer) => balancer.request(|| make(body.clone())).await.map_err(|failed| match failed {
                Failed::Unresolved(error) => {
                    Unsent { connecting: true, why: format!("cannot find the backend's address: {error}") }
                }
                Failed::Unreachable(why) => {
                    Unsent { connecting: true, why: format!("cannot connect to the backend: {why}") }
                }
                Failed::Request(error) => Unsent::of(&error),
            }),
        }
    }
}

/// There was no answer.
struct Unsent {
    /// There was not even a connection.
    connecting: bool,
    why: String,
}

impl Unsent {
    fn of(error: &hyper_util::client::legacy::Error) -> Self {
        let connecting = error.is_connect();
        let what = if connecting { "cannot connect to the backend" } else { "the connection failed" };
        Unsent { connecting, why: format!("{what}: {}", transport_error(error)) }
    }

    fn failure(self) -> Failure {
        Failure::retryable(self.why)
    }
}
