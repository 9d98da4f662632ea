//! What a client says beside its request travels with it only where that is asked for, and is never shown.

use crate::support::*;
use tracegate::otlp::Signal;

async fn server(include: bool) -> Server {
    let mut settings = settings();
    http(&mut settings).include_metadata = include;
    grpc(&mut settings).include_metadata = include;
    Server::with(settings).await
}

async fn export_both(server: &Server) {
    let request = post(server, "/v1/traces", PROTOBUF)
        .header("x-tenant", "blue")
        .header("X-Tenant", "green")
        .header("authorization", "Bearer planted");
    assert_eq!(send(request.body(spans("x")).unwrap()).await.status(), 200);
    let request = call(server, Signal::Traces).header("x-tenant", "red").header("authorization", "Bearer planted");
    let body = framed(0, spans("x").len() as u32, &spans("x"));
    assert_eq!(raw_call(server, request.body(body).unwrap()).await.grpc().code(), tonic::Code::Ok);
}

#[tokio::test]
async fn metadata_is_included_on_both_protocols_and_never_shown() {
    let server = server(true).await;
    export_both(&server).await;
    let seen = server.recorder.seen.lock().unwrap();
    let [(_, _, over_http), (_, _, over_grpc)] = &seen[..] else { panic!("two requests") };
    assert_eq!(over_http.metadata.get_all("x-tenant").collect::<Vec<_>>(), [&b"blue"[..], b"green"]);
    assert_eq!(over_grpc.metadata.get_all("X-Tenant").collect::<Vec<_>>(), [b"red"]);
    for (origin, address) in [(over_http, server.http()), (over_grpc, server.grpc())] {
        assert_eq!(origin.metadata.get_all("authorization").collect::<Vec<_>>(), [b"Bearer planted"]);
        assert_eq!(origin.metadata.get_all("host").collect::<Vec<_>>(), [address.to_string().as_bytes()]);
        assert!(!format!("{origin:?}").contains("planted"), "{origin:?}");
    }
}

#[tokio::test]
async fn metadata_is_not_included_unless_asked_for() {
    let server = server(false).await;
    export_both(&server).await;
    assert!(server.recorder.seen.lock().unwrap().iter().all(|(_, _, origin)| origin.metadata.is_empty()));
}

/// It waits in queues that count payloads only.
#[tokio::test]
async fn metadata_that_is_too_large_to_travel_is_431() {
    let long = "a".repeat(10_000);
    for (include, status) in [(true, 431), (false, 200)] {
        let server = server(include).await;
        let request = post(&server, "/v1/traces", PROTOBUF).header("x-a", &long).header("x-b", &long);
        let answer = send(request.body(spans("x")).unwrap()).await;
        assert_eq!(answer.status(), status);
        if include {
            assert!(answer.status_body().message.contains("larger than the limit of 16384 bytes"));
        }
    }
    // HTTP/2 has this bound for everyone.
    let server = server(false).await;
    let request = call(&server, Signal::Traces).header("x-a", &long).header("x-b", &long);
    assert_eq!(raw_call(&server, request.body(framed(0, 0, b"")).unwrap()).await.status(), 431);
}
