//! A small HTTP/1 server for scrapers and probes: a few connections, bounded in time.

use crate::net::tls::{Acceptor, secured};
use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore, time};

/// More connections than this wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;

/// For a client to send a request's head, from its first byte or the last answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest a connection lives; scrapers and probes open another.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);

/// After shutdown began, for answers that are on their way.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `shutdown` resolves, then finishes the answers that are on their way.
pub(super) async fn serve(listener: Arc<TcpListener>, router: Router, shutdown: impl Future<Output = ()>) {
    serve_with(None, listener, router, shutdown).await;
}

/// The same, over TLS where there is an acceptor.
pub(super) async fn serve_with(
    tls: Option<Acceptor>,
    listener: Arc<TcpListener>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            () = &mut shutdown => break,
            (permit, accepted) = accepted => match accepted {
                Ok((stream, _)) => (permit, stream),
                Err(_) => {
                    // Out of file descriptors, most likely: waiting is all there is to do.
                    time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let service = TowerToHyperService::new(router.clone());
        let (tls, watcher) = (tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _held = permit;
            // A client that goes away or sends nonsense is its own business.
            let Ok(stream) = secured(tls.as_ref(), stream, HEAD_TIMEOUT).await else { return };
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let _ = time::timeout(CONNECTION_LIFETIME, watcher.watch(connection)).await;
        });
    }
    let _ = time::timeout(GRACE, graceful.shutdown()).await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use axum::routing;
    use std::net::SocketAddr;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
    };

    /// What a server answered.
    pub(in crate::telemetry) struct Answer {
        pub status: u16,
        pub content_type: Option<String>,
        pub body: String,
    }

    /// One request on a connection of its own.
    pub(in crate::telemetry) async fn get(address: SocketAddr, method: &str, path: &str) -> Answer {
        ask(address, &format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close")).await
    }

    /// One request with a head of one's own, on a connection that the server is to close.
    pub(in crate::telemetry) async fn ask(address: SocketAddr, head: &str) -> Answer {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: ").map(str::to_owned));
        Answer { status, content_type, body: body.to_owned() }
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_does_not_hold_up_shutdown_or_others() {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new().route("/", routing::get(|| async { "hello" }));
        let server = tokio::spawn(serve(listener, router, async { drop(stopped.await) }));
        let mut silent = TcpStream::connect(address).await.unwrap();
        let answer = get(address, "GET", "/").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        stop.send(()).unwrap();
        server.await.unwrap();
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }
}
