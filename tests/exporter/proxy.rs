//! Requests through proxies, and what goes to whom: credentials, cookies, connections.

use crate::{
    backend::{Answer, Backend, Seen},
    support::{PATIENCE, outgoing, payload},
    tls,
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tracegate::exporter::{
    Failure, ProxyEnvironment, Sender, Sent, Surroundings, SystemResolver, otlp_grpc, otlp_http,
};

/// What a proxy was asked for: the first line, or the address for SOCKS, and the headers or credentials.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    line: String,
    headers: HashMap<String, String>,
}

/// A proxy that leads everything to one backend.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum Speaks {
    Http,
    Socks,
    /// HTTP, and always the same answer.
    Answer(&'static str),
}

impl Proxy {
    async fn start(backend: SocketAddr, speaks: Speaks, tls: Option<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Asked>>>::default());
        let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let mut tasks = JoinSet::new();
        let heard = asked.clone();
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, tls) = (heard.clone(), tls.clone());
                served.spawn(async move {
                    let _ended = match tls {
                        None => lead(stream, backend, speaks, heard).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => lead(stream, backend, speaks, heard).await,
                            Err(error) => Err(error),
                        },
                    };
                });
            }
        });
        Proxy { address, asked, _tasks: tasks }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn lead(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    backend: SocketAddr,
    speaks: Speaks,
    heard: Arc<Mutex<Vec<Asked>>>,
) -> io::Result<()> {
    let asked = match speaks {
        Speaks::Socks => socks(&mut client).await?,
        _ => head(&mut client).await?,
    };
    heard.lock().unwrap().push(asked.clone());
    if let Speaks::Answer(answer) = speaks {
        client.write_all(answer.as_bytes()).await?;
        return client.shutdown().await;
    }
    let mut backend = TcpStream::connect(backend).await?;
    if asked.line.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else if speaks == Speaks::Http {
        // Forwarded as it came, but for what is the proxy's own.
        let path = asked.line.split(' ').nth(1).unwrap().splitn(4, '/').nth(3).unwrap().to_owned();
        let mut head = format!("POST /{path} HTTP/1.1\r\n");
        for (name, value) in asked.headers.iter().filter(|(name, _)| *name != "proxy-authorization") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        backend.write_all(format!("{head}\r\n").as_bytes()).await?;
    }
    copy_bidirectional(&mut client, &mut backend).await.map(|_| ())
}

async fn head(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Asked> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(client.read_u8().await?);
    }
    let text = String::from_utf8(text).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap().to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    Ok(Asked { line, headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect() })
}

/// RFC 1928 and 1929, as far as a test needs them.
async fn socks(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Asked> {
    assert_eq!(client.read_u8().await?, 5);
    let mut methods = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut methods).await?;
    let mut headers = HashMap::new();
    if methods.contains(&2) {
        client.write_all(&[5, 2]).await?;
        assert_eq!(client.read_u8().await?, 1);
        for key in ["user", "password"] {
            let mut text = vec![0; client.read_u8().await?.into()];
            client.read_exact(&mut text).await?;
            headers.insert(key.to_owned(), String::from_utf8(text).unwrap());
        }
        client.write_all(&[1, 0]).await?;
    } else {
        client.write_all(&[5, 0]).await?;
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    assert_eq!(request, [5, 1, 0, 3], "connect to a name");
    let mut name = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut name).await?;
    let port = client.read_u16().await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok(Asked { line: format!("{}:{port}", String::from_utf8(name).unwrap()), headers })
}

fn surroundings(pairs: &[(&str, String)]) -> Surroundings {
    let pairs = pairs.to_vec();
    Surroundings {
        proxies: ProxyEnvironment::of(|name| pairs.iter().find(|(key, _)| *key == name).map(|pair| pair.1.clone())),
        resolver: Arc::new(SystemResolver),
        resolve_interval: Duration::ZERO,
        ..Surroundings::of_process()
    }
}

fn http(config: Value, pairs: &[(&str, String)]) -> otlp_http::OtlpHttp {
    let config: otlp_http::Config = serde_json::from_value(config).unwrap();
    config.validate().unwrap();
    otlp_http::OtlpHttp::within(&config, &surroundings(pairs)).unwrap()
}

fn grpc(config: Value, pairs: &[(&str, String)]) -> otlp_grpc::OtlpGrpc {
    let config: otlp_grpc::Config = serde_json::from_value(config).unwrap();
    config.validate().unwrap();
    otlp_grpc::OtlpGrpc::within(&config, &surroundings(pairs)).unwrap()
}

async fn send(sender: &impl Sender) -> Result<Sent, Failure> {
    tokio::time::timeout(PATIENCE, sender.send(&outgoing(payload("a", 1)))).await.unwrap()
}

fn takes() -> impl Fn(usize, &Seen) -> Answer + Send + Sync {
    |_, _| Answer::http(200, "text/plain", "").into()
}

#[tokio::test]
async fn plain_http_is_forwarded_and_the_proxys_password_stays_with_the_proxy() {
    let backend = Backend::start(takes()).await;
    let proxy = Proxy::start(backend.address, Speaks::Http, None).await;
    let url = format!("http://user:p%40ss@{}", proxy.address);
    let sender = http(json!({"endpoint": "http://backend.test:4318", "proxy_url": url}), &[]);
    assert_eq!(send(&sender).await, Ok(Sent::default()));
    let asked = proxy.asked().pop().unwrap();
    assert_eq!(asked.line, "POST http://backend.test:4318/v1/traces HTTP/1.1");
    assert_eq!(asked.headers["proxy-authorization"], "Basic dXNlcjpwQHNz");
    let seen = backend.seen().pop().unwrap();
    assert_eq!((seen.header("host"), seen.header("proxy-authorization")), (Some("backend.test:4318"), None));
}

#[tokio::test]
async fn https_goes_through_a_tunnel_that_sees_no_headers_of_ours() {
    let authority = tls::authority();
    let config = || tls::server(&authority, "backend.test", None, &["h2", "http/1.1"]);
    let backend = Backend::secure(config(), takes()).await;
    let proxy = Proxy::start(backend.address, Speaks::Http, None).await;
    let sender = http(
        json!({
            "endpoint": "https://backend.test",
            "headers": {"x-api-key": "hunter2"},
            "proxy_url": format!("http://user:pass@{}", proxy.address),
            "tls": {"ca_pem": authority.pem()},
        }),
        &[],
    );
    assert_eq!(send(&sender).await, Ok(Sent::default()));
    let asked = proxy.asked().pop().unwrap();
    assert_eq!(asked.line, "CONNECT backend.test:443 HTTP/1.1");
    assert_eq!(asked.headers["proxy-authorization"], "Basic dXNlcjpwYXNz");
    assert!(!asked.headers.contains_key("x-api-key"), "{asked:?}");
    let seen = backend.seen().pop().unwrap();
    assert_eq!((seen.header("x-api-key"), seen.header("proxy-authorization")), (Some("hunter2"), None));
}

#[tokio::test]
async fn a_proxy_may_itself_be_behind_tls() {
    let authority = tls::authority();
    let backend = Backend::secure(tls::server(&authority, "backend.test", None, &["http/1.1"]), takes()).await;
    let proxy = tls::server(&authority, "localhost", None, &["http/1.1"]);
    let proxy = Proxy::start(backend.address, Speaks::Http, Some(proxy)).await;
    let url = format!("https://localhost:{}", proxy.address.port());
    let tls = json!({"ca_pem": authority.pem()});
    let sender = http(json!({"endpoint": "https://backend.test", "proxy_url": url, "tls": tls}), &[]);
    assert_eq!(send(&sender).await, Ok(Sent::default()));
    assert_eq!(proxy.asked().pop().unwrap().line, "CONNECT backend.test:443 HTTP/1.1");
}

#[tokio::test]
async fn socks5_is_given_the_name_and_its_own_password() {
    let backend = Backend::start(takes()).await;
    let proxy = Proxy::start(backend.address, Speaks::Socks, None).await;
    for (user, want, port) in [("", None, ":4318"), ("user:p%40ss@", Some("p@ss"), "")] {
        let url = format!("socks5://{user}{}", proxy.address);
        let endpoint = format!("http://backend.test{port}");
        let sender = http(json!({"endpoint": endpoint, "proxy_url": url}), &[]);
        assert_eq!(send(&sender).await, Ok(Sent::default()));
        let asked = proxy.asked().pop().unwrap();
        assert_eq!(asked.line, format!("backend.test{}", if port.is_empty() { ":80" } else { port }));
        assert_eq!(asked.headers.get("password").map(String::as_str), want);
        let seen = backend.seen().pop().unwrap();
        assert_eq!((seen.path.as_str(), seen.header("proxy-authorization")), ("/v1/traces", None));
    }
}

#[tokio::test]
async fn grpc_takes_https_proxy_from_the_environment_and_tunnels() {
    let backend = Backend::start(|_, _| Answer::grpc_ok(b"")).await;
    let proxy = Proxy::start(backend.address, Speaks::Http, None).await;
    let environment = [("HTTPS_PROXY", format!("http://user:pass@{}", proxy.address))];
    let config = json!({"endpoint": "backend.test:4317", "tls": {"insecure": true}});
    assert_eq!(send(&grpc(config, &environment)).await, Ok(Sent::default()));
    let asked = proxy.asked().pop().unwrap();
    assert_eq!(asked.line, "CONNECT backend.test:4317 HTTP/1.1");
    assert_eq!(asked.headers["proxy-authorization"], "Basic dXNlcjpwYXNz");
    assert_eq!(backend.seen().pop().unwrap().header("proxy-authorization"), None);
}

#[tokio::test]
async fn the_environments_proxy_is_not_for_this_machine_or_for_whom_it_exempts() {
    let backend = Backend::start(takes()).await;
    let proxy = Proxy::start(backend.address, Speaks::Http, None).await;
    let to = |host: &str| json!({"endpoint": format!("http://{host}:{}", backend.address.port())});
    let environment = |no: &str| [("HTTP_PROXY", proxy.address.to_string()), ("NO_PROXY", no.to_owned())];
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(send(&http(to(host), &environment(""))).await, Ok(Sent::default()));
    }
    assert_eq!(proxy.asked(), []);
    assert_eq!(send(&http(to("backend.test"), &environment("other.test"))).await, Ok(Sent::default()));
    assert_eq!(proxy.asked().len(), 1);
    // A name that does not exist: without the proxy nobody is found.
    let exempt = send(&http(to("backend.invalid"), &environment(".invalid"))).await;
    assert!(matches!(exempt, Err(Failure::Retryable { .. })), "{exempt:?}");
    assert_eq!(proxy.asked().len(), 1);
    let unusable = [("HTTP_PROXY", "ftp://user:hunter2@x".to_owned())];
    let config = serde_json::from_value(to("backend.test")).unwrap();
    let error = otlp_http::OtlpHttp::within(&config, &surroundings(&unusable)).unwrap_err().to_string();
    assert!(
        error.starts_with("endpoint: the environment variable HTTP_PROXY") && !error.contains("hunter2"),
        "{error}"
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_is_a_failure_to_connect_and_shows_no_password() {
    let authority = tls::authority();
    for answer in [
        "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 7\r\n\r\nforeign",
        "220 mail.test\r\n",
        "",
    ] {
        let proxy = Proxy::start(([127, 0, 0, 1], 1).into(), Speaks::Answer(answer), None).await;
        let url = format!("http://user:hunter2@{}", proxy.address);
        let tls = json!({"ca_pem": authority.pem()});
        let config = json!({"endpoint": "https://backend.test", "proxy_url": url, "tls": tls});
        let failure = send(&http(config, &[])).await.unwrap_err();
        let shown = format!("{failure} {failure:?}");
        assert!(matches!(failure, Failure::Retryable { .. }), "{answer:?}: {shown}");
        assert!(shown.starts_with("cannot connect to the backend: "), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("foreign") && !shown.contains("dXNlcj"), "{shown}");
    }
}

#[tokio::test]
async fn cookies_go_back_where_they_came_from_if_asked_for() {
    let sets = |n: usize, _: &Seen| {
        let mut answer = Answer::http(200, "text/plain", "");
        answer.headers.push(("set-cookie", format!("lb=node-{n}; Path=/; HttpOnly")));
        answer.into()
    };
    for (cookies, want) in [(json!({}), Some("lb=node-0")), (json!(null), None), (json!({"enabled": false}), None)] {
        let backend = Backend::start(sets).await;
        let other = Backend::start(takes()).await;
        let config = json!({
            "endpoint": format!("http://{}", backend.address),
            "logs_endpoint": format!("http://localhost:{}/v1/logs", other.address.port()),
            "cookies": cookies,
        });
        let sender = http(config, &[]);
        for _ in 0..2 {
            send(&sender).await.unwrap();
        }
        let mut logs = outgoing(payload("a", 1));
        logs.signal = tracegate::otlp::Signal::Logs;
        sender.send(&logs).await.unwrap();
        let seen = backend.seen();
        assert_eq!((seen[0].header("cookie"), seen[1].header("cookie")), (None, want));
        assert_eq!(other.seen()[0].header("cookie"), None, "another host");
    }
}

#[tokio::test]
async fn connections_are_as_many_as_configured() {
    let backend = Backend::start(takes()).await;
    let config = |more: Value| {
        let mut config = json!({"endpoint": format!("http://{}", backend.address)});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let before = backend.connections();
    let single = http(config(json!({"disable_keep_alives": true})), &[]);
    for _ in 0..3 {
        send(&single).await.unwrap();
    }
    assert_eq!(backend.connections() - before, 3);
    assert_eq!(backend.seen().pop().unwrap().header("connection"), Some("close"));
    let before = backend.connections();
    let limited = Arc::new(http(config(json!({"max_conns_per_host": 2})), &[]));
    let mut all = JoinSet::new();
    for _ in 0..20 {
        let limited = limited.clone();
        all.spawn(async move { send(&*limited).await });
    }
    while let Some(answer) = all.join_next().await {
        assert_eq!(answer.unwrap(), Ok(Sent::default()));
    }
    assert!((1..=2).contains(&(backend.connections() - before)));
}

#[tokio::test]
async fn a_host_of_ones_own_choice_is_sent_over_http_1() {
    let authority = tls::authority();
    let backend = Backend::secure(tls::server(&authority, "localhost", None, &["h2", "http/1.1"]), takes()).await;
    for (more, host, version) in [
        (json!({"headers": {"Host": "tenant.test"}}), "tenant.test", ::http::Version::HTTP_11),
        (json!({"force_attempt_http2": false}), "localhost", ::http::Version::HTTP_11),
        (json!({}), "localhost", ::http::Version::HTTP_2),
    ] {
        let endpoint = format!("https://localhost:{}", backend.address.port());
        let mut config = json!({"endpoint": endpoint, "tls": {"ca_pem": authority.pem()}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        send(&http(config, &[])).await.unwrap();
        let seen = backend.seen().pop().unwrap();
        assert_eq!(seen.version, version);
        let named = seen.header("host").map(str::to_owned).or(seen.authority).unwrap();
        assert!(named.starts_with(host), "{named}");
    }
}

/// A server that takes connections and says nothing.
#[tokio::test]
async fn http_2_pings_find_out_that_nobody_is_there() {
    let authority = tls::authority();
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(&authority, "localhost", None, &["h2"])));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let mut silent = JoinSet::new();
    silent.spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            // An empty SETTINGS frame: HTTP/2 has begun, and that is all.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            kept.push(stream);
        }
    });
    let config = json!({
        "endpoint": endpoint,
        "timeout": "0s",
        "tls": {"ca_pem": authority.pem()},
        "http2_read_idle_timeout": "30ms",
        "http2_ping_timeout": "30ms",
    });
    let answer = send(&http(config, &[])).await;
    assert!(matches!(answer, Err(Failure::Retryable { .. })), "{answer:?}");
}
