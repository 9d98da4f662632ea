//! A small HTTP/1 server for scrapers and probes: a few connections, bounded in time.

use crate::net::tls::{Acceptor, secured};
use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time,
};

/// What clients may take.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// More connections than this wait in the kernel's queue.
    connections: usize,
    /// For a client to send a request's head, from its first byte or the last answer.
    head: Duration,
    /// The longest a connection lives; scrapers and probes open another. A client that does not read its answer is
    /// ended by this and `answer`.
    lifetime: Duration,
    /// For the answer that is on its way when the lifetime is over.
    answer: Duration,
}

const BOUNDS: Bounds = Bounds {
    connections: 64,
    head: Duration::from_secs(10),
    lifetime: Duration::from_secs(60),
    answer: Duration::from_secs(10),
};

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
    serve_within(BOUNDS, tls, listener, router, shutdown).await;
}

async fn serve_within(
    bounds: Bounds,
    tls: Option<Acceptor>,
    listener: Arc<TcpListener>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let connections = Arc::new(Semaphore::new(bounds.connections));
    let stop = watch::Sender::new(false);
    let mut shutdown = pin!(shutdown);
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
        let tls = tls.clone();
        let mut stopped = stop.subscribe();
        tokio::spawn(async move {
            let _held = permit;
            // A client that goes away or sends nonsense is its own business.
            let Ok(stream) = secured(tls.as_ref(), stream, bounds.head).await else { return };
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(bounds.head)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                () = time::sleep(bounds.lifetime) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = time::timeout(bounds.answer, connection).await;
        });
    }
    stop.send_replace(true);
    // Every connection holds a permit.
    let all = u32::try_from(bounds.connections).unwrap_or(u32::MAX);
    let _ = time::timeout(GRACE, connections.acquire_many(all)).await;
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

    /// A server with short bounds, and an answer too large for what the system buffers.
    fn short(connections: usize) -> (SocketAddr, oneshot::Sender<()>) {
        let bounds = Bounds {
            connections,
            head: Duration::from_millis(50),
            lifetime: Duration::from_millis(200),
            answer: Duration::from_millis(50),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = Arc::new(TcpListener::from_std(listener).unwrap());
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new()
            .route("/", routing::get(|| async { "hello" }))
            .route("/large", routing::get(|| async { "x".repeat(64 << 20) }));
        tokio::spawn(serve_within(bounds, None, listener, router, async { drop(stopped.await) }));
        (address, stop)
    }

    #[tokio::test]
    async fn half_a_head_is_not_waited_for() {
        let (address, _stop) = short(8);
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        let mut rest = Vec::new();
        // Without the bound this never ends.
        let _reset = slow.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("hello"));
    }

    #[tokio::test]
    async fn clients_that_do_not_read_make_room_for_others() {
        let (address, _stop) = short(2);
        let mut silent = Vec::new();
        for _ in 0..4 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            silent.push(stream);
        }
        // Both seats are taken twice over; it is answered when those were ended.
        assert_eq!(get(address, "GET", "/").await.status, 200);
        drop(silent);
    }

    #[tokio::test]
    async fn http_1_0_is_answered_and_closed() {
        let (address, _stop) = short(8);
        let answer = ask(address, "GET / HTTP/1.0").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    }
}
