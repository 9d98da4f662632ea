//! `tracegate healthcheck` against the running binary, and against servers that answer badly or not at all.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/binary.rs"]
mod binary;

use binary::{FREE_PORTS, Gateway, run};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

/// A server that gives every connection the same answer, with the request it saw last.
fn answering(answer: &'static str) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, requests) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let _ = stream.write_all(answer.as_bytes());
            let _ = send.send(String::from_utf8_lossy(&head).into_owned());
        }
    });
    (address, requests)
}

fn ask(address: SocketAddr) -> binary::Ended {
    run(&["healthcheck", "--endpoint", &format!("http://{address}/"), "--timeout", "60"], [])
}

#[test]
fn a_running_gateway_is_healthy_and_a_stopped_one_is_not() {
    let gateway = Gateway::spawn(&FREE_PORTS);
    let health = gateway.address("health");
    let ended = ask(health);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert_eq!(ended.stdout, format!("healthy: http://{health}/ answered 200\n"));
    assert!(gateway.stop().0.success());
    let ended = ask(health);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.starts_with(&format!("Error: unhealthy: http://{health}/: cannot connect: ")), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

#[test]
fn the_configuration_says_whom_to_ask() {
    let configured = |port: u16| {
        format!(
            "yaml:{{extensions: {{health_check/probe: {{endpoint: \"0.0.0.0:{port}\", path: /live}}}}, \
             receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:0\"}}}}}}}}, exporters: {{nop: }}, \
             service: {{extensions: [health_check/probe], telemetry: {{metrics: {{level: none}}}}, \
             pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}}}}}"
        )
    };
    // On every address, as in an image; on one port only, so that the answer does not come from elsewhere.
    let gateway = Gateway::spawn(&["--config", &configured(0)]);
    let port = gateway.address("health").port();
    let ended = run(&["healthcheck", "--config", &configured(port), "--timeout", "60"], []);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, format!("healthy: http://127.0.0.1:{port}/live answered 200\n"));
    let wrong = format!("--set=extensions.{}={{endpoint: \"127.0.0.1:{port}\", path: /dead}}", "health_check/probe");
    let ended = run(&["healthcheck", "--config", &configured(port), &wrong, "--timeout", "60"], []);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("/dead answered 404"), "{ended:?}");
}

#[test]
fn a_bad_answer_is_unhealthy_and_says_why() {
    for (answer, expected) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n\
             {\"status\":\"Server not available\",\"reason\":\"dra\\u001bin\"}",
            "answered 503 (dra\\u{1b}in)",
        ),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", "answered 500"),
        ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        ("HTTP/1.1 503 Unavailable\r\nContent-Length: 1000000\r\n\r\ncut off", "answered 503"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "no HTTP answer"),
        ("", "no HTTP answer"),
    ] {
        let ended = ask(answering(answer).0);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{answer}: {ended:?}");
        assert!(
            ended.stderr.starts_with("Error: unhealthy: ") && ended.stderr.contains(expected),
            "{answer}: {ended:?}"
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}

#[test]
fn the_proxy_of_the_environment_is_not_asked() {
    let (healthy, requests) = answering("HTTP/1.1 204 No Content\r\n\r\n");
    let endpoint = format!("http://{healthy}/a?b=c");
    let proxy = [
        ("http_proxy", "http://127.0.0.1:1"),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("ALL_PROXY", "http://127.0.0.1:1"),
    ];
    let ended = run(&["healthcheck", "--endpoint", &endpoint, "--timeout", "60"], proxy);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{request}");
    assert!(request.to_ascii_lowercase().contains(&format!("host: {healthy}\r\n")), "{request}");
}

/// A gateway that accepts and says nothing is not waited for longer than asked.
#[test]
fn silence_is_unhealthy() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = silent.local_addr().unwrap().to_string();
    let ended = run(&["healthcheck", "--endpoint", &endpoint, "--timeout", "1"], []);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr, format!("Error: unhealthy: http://{endpoint}/ did not answer within 1 s\n"));
}

#[test]
fn wrong_arguments_and_configurations_are_one_line() {
    let none = "yaml:{receivers: {otlp: {protocols: {http: }}}, exporters: {nop: }, \
                service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}}";
    for (args, expected) in [
        (&["healthcheck", "--endpoint", "https://127.0.0.1:1/"][..], "Error: --endpoint: only http:// is supported"),
        (&["healthcheck", "--config", none], "starts no health_check"),
        (&["healthcheck", "--config", "yaml:{}"], "Error: invalid configuration: "),
        (&["healthcheck", "--config", "/nowhere/config.yaml"], "/nowhere/config.yaml"),
    ] {
        let ended = run(args, []);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(expected) && ended.stderr.lines().count() == 1, "{expected}: {ended:?}");
    }
    for args in [
        &["healthcheck", "--endpoint", "http://127.0.0.1:1/", "--config", none][..],
        &["healthcheck", "--timeout", "0"],
        &["healthcheck", "extra"],
    ] {
        assert_eq!(run(args, []).code, Some(2), "{args:?}");
    }
}
