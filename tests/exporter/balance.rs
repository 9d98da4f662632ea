//! Names with several addresses, waiting for a backend, and sockets of this machine.

use crate::{
    backend::{Answer, Backend, Reserved, Seen},
    support::{PATIENCE, Scratch, outgoing, payload, soon},
};
use serde_json::{Value, json};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tracegate::exporter::{Failure, ProxyEnvironment, Resolve, Sender, Sent, Surroundings, otlp_grpc};

/// Answers what the test says, whatever is asked, and counts.
#[derive(Default)]
struct Names {
    addresses: Mutex<Vec<SocketAddr>>,
    asked: Mutex<Vec<(String, u16)>>,
}

impl Resolve for Names {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        self.asked.lock().unwrap().push((host.to_owned(), port));
        let addresses = self.addresses.lock().unwrap().clone();
        Box::pin(
            async move { if addresses.is_empty() { Err(io::Error::other("no such name")) } else { Ok(addresses) } },
        )
    }
}

fn names(addresses: &[SocketAddr]) -> Arc<Names> {
    Arc::new(Names { addresses: Mutex::new(addresses.to_vec()), ..Names::default() })
}

fn sender(resolver: &Arc<Names>, more: Value) -> otlp_grpc::OtlpGrpc {
    let mut config = json!({"endpoint": "backend.test:4317", "tls": {"insecure": true}, "compression": "none"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let surroundings = Surroundings {
        proxies: ProxyEnvironment::default(),
        resolver: resolver.clone(),
        resolve_interval: Duration::ZERO,
        ..Surroundings::of_process()
    };
    otlp_grpc::OtlpGrpc::within(&serde_json::from_value(config).unwrap(), &surroundings).unwrap()
}

fn accepts() -> impl Fn(usize, &Seen) -> Answer + Send + Sync {
    |_, _| Answer::grpc_ok(b"")
}

#[tokio::test]
async fn requests_go_round_all_addresses_with_one_connection_each() {
    let backends = [Backend::start(accepts()).await, Backend::start(accepts()).await, Backend::start(accepts()).await];
    let resolver = names(&backends.each_ref().map(|backend| backend.address));
    let sender = sender(&resolver, json!({}));
    let until = soon();
    while backends.iter().any(|backend| backend.seen().len() < 5) {
        assert_eq!(sender.send(&outgoing(payload("a", 1))).await, Ok(Sent::default()));
        assert!(Instant::now() < until);
    }
    for backend in &backends {
        assert_eq!(backend.connections(), 1);
        assert_eq!(backend.seen()[0].authority.as_deref(), Some("backend.test:4317"));
    }
    assert_eq!(*resolver.asked.lock().unwrap(), [("backend.test".to_owned(), 4317)]);
}

#[tokio::test]
async fn an_address_where_nobody_listens_costs_nothing() {
    let backend = Backend::start(accepts()).await;
    let nobody = [Reserved::new(), Reserved::new()];
    let resolver = names(&[nobody[0].address(), backend.address, nobody[1].address()]);
    let sender = sender(&resolver, json!({}));
    for _ in 0..20 {
        assert_eq!(sender.send(&outgoing(payload("a", 1))).await, Ok(Sent::default()));
    }
    assert_eq!(backend.seen().len(), 20);
}

/// At an address of its own: what it leaves behind when it goes must not be another test's.
#[cfg(target_os = "linux")]
async fn apart() -> Backend {
    Backend::on(tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap(), accepts())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_name_is_resolved_again_when_its_backend_has_moved() {
    let first = apart().await;
    let resolver = names(&[first.address]);
    let sender = sender(&resolver, json!({}));
    assert_eq!(sender.send(&outgoing(payload("a", 1))).await, Ok(Sent::default()));
    let second = Backend::start(accepts()).await;
    *resolver.addresses.lock().unwrap() = vec![second.address];
    drop(first);
    let until = soon();
    while second.seen().is_empty() {
        let answer = sender.send(&outgoing(payload("a", 1))).await;
        assert!(matches!(answer, Ok(_) | Err(Failure::Retryable { .. })), "{answer:?}");
        assert!(Instant::now() < until, "{:?}", resolver.asked.lock().unwrap());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_a_retryable_failure_until_it_has_one() {
    let resolver = names(&[]);
    let sender = sender(&resolver, json!({}));
    let failure = sender.send(&outgoing(payload("a", 1))).await.unwrap_err();
    assert!(matches!(failure, Failure::Retryable { .. }), "{failure:?}");
    assert!(failure.to_string().starts_with("cannot find the backend's address: "), "{failure}");
    let nobody = Reserved::new();
    resolver.addresses.lock().unwrap().push(nobody.address());
    let failure = sender.send(&outgoing(payload("a", 1))).await.unwrap_err();
    assert!(failure.to_string().starts_with("cannot connect to the backend: "), "{failure}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_lost_while_idle_is_made_again() {
    let (first, second) = (apart().await, Backend::start(accepts()).await);
    let resolver = names(&[first.address, second.address]);
    let sender = sender(&resolver, json!({}));
    let until = soon();
    while first.seen().is_empty() || second.seen().is_empty() {
        sender.send(&outgoing(payload("a", 1))).await.unwrap();
        assert!(Instant::now() < until);
    }
    drop(first);
    let before = second.seen().len();
    let mut taken = 0;
    for _ in 0..10 {
        match sender.send(&outgoing(payload("a", 1))).await {
            Ok(_) => taken += 1,
            // At most the one that was on its way when the connection went.
            Err(failure) => assert!(matches!(failure, Failure::Retryable { .. }), "{failure:?}"),
        }
    }
    assert!(taken >= 8, "{taken}");
    assert_eq!(second.seen().len() - before, taken);
}

#[tokio::test]
async fn wait_for_ready_waits_for_a_backend_within_one_attempt() {
    for balanced in [false, true] {
        let nobody = Reserved::new();
        let address = nobody.address();
        let resolver = names(&[address]);
        let endpoint = if balanced { "backend.test:4317".to_owned() } else { address.to_string() };
        let more = json!({"endpoint": endpoint, "wait_for_ready": true, "timeout": "20s"});
        let sender = Arc::new(sender(&resolver, more));
        let attempt = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send(&outgoing(payload("a", 1))).await }
        });
        tokio::task::yield_now().await;
        let _backend = Backend::on(nobody.listen(), accepts());
        let answer = tokio::time::timeout(PATIENCE, attempt).await.unwrap().unwrap();
        assert_eq!(answer, Ok(Sent::default()), "balanced: {balanced}");
    }
    let nobody = Reserved::new();
    let never = sender(&names(&[nobody.address()]), json!({"wait_for_ready": true, "timeout": "50ms"}));
    let failure = never.send(&outgoing(payload("a", 1))).await.unwrap_err();
    assert_eq!(failure, Failure::Retryable { what: "no answer within 50ms".into(), after: None });
}

#[tokio::test]
async fn authority_and_the_certificates_name_are_what_the_backend_hears() {
    let backend = Backend::start(accepts()).await;
    for (more, want) in [
        (json!({"authority": "other.test:1"}), "other.test:1"),
        (json!({"tls": {"insecure": true, "server_name_override": "cert.test"}}), "cert.test"),
        (json!({}), "backend.test:4317"),
    ] {
        let sender = sender(&names(&[backend.address]), more);
        sender.send(&outgoing(payload("a", 1))).await.unwrap();
        assert_eq!(backend.seen().pop().unwrap().authority.as_deref(), Some(want));
    }
}

#[tokio::test]
async fn pick_first_and_passthrough_leave_names_to_the_system() {
    let backend = Backend::start(accepts()).await;
    let port = backend.address.port();
    for more in [
        json!({"endpoint": format!("localhost:{port}"), "balancer_name": "pick_first"}),
        json!({"endpoint": format!("passthrough:///localhost:{port}")}),
        json!({"endpoint": format!("dns:///127.0.0.1:{port}")}),
    ] {
        let resolver = names(&[]);
        let sender = sender(&resolver, more);
        assert_eq!(sender.send(&outgoing(payload("a", 1))).await, Ok(Sent::default()));
        assert!(resolver.asked.lock().unwrap().is_empty());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn g11_a_backend_behind_a_unix_socket() {
    let scratch = Scratch::new("unix");
    let path = scratch.0.join("otlp.sock");
    let backend = Backend::unix(&path, accepts());
    for endpoint in [format!("unix://{}", path.display()), format!("unix:{}", path.display())] {
        let sender = sender(&names(&[]), json!({"endpoint": endpoint}));
        assert_eq!(sender.send(&outgoing(payload("a", 1))).await, Ok(Sent::default()));
        assert_eq!(backend.seen().pop().unwrap().authority.as_deref(), Some("localhost"));
    }
    let nowhere = sender(&names(&[]), json!({"endpoint": format!("unix:{}/no.sock", scratch.0.display())}));
    let failure = nowhere.send(&outgoing(payload("a", 1))).await.unwrap_err();
    assert!(failure.to_string().starts_with("cannot connect to the backend: "), "{failure}");
}
