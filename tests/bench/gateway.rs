//! End to end on loopback: load generator → gateway → counting sink, over OTLP/gRPC, by default without compression.
//!
//! For spans of 0.6, 5 and 66 KB it prints spans and megabytes per CPU-second of the gateway process, peak memory,
//! and what was lost or arrived twice, beside a bare forwarder (tonic, raw bytes, nothing looked at) in the same run.
//! Generator and sink run in this process; their CPU is not counted. On few cores they compete with the gateway for
//! wall time, so compare CPU-seconds, and rows of one run.
//!
//!     cargo bench --bench gateway -- [--seconds N] [--connections N] [--only SIZE] [--processors "identity, mask"]
//!         [--spans N] [--requests N] [--rounds N] [--metrics LEVEL] [--compression gzip|zstd] [--tls] [--against BINARY]
//!
//! `--spans N` puts so many spans in a request: with one, what a request costs by itself shows. `--requests N` sends so
//! many requests instead of for so many seconds, for instruction counts. `--metrics` is the gateway's
//! `service::telemetry::metrics::level`, `none` unless told. `--compression` is used by generator, gateway, forwarder and
//! sink; `--tls` only between generator and gateway. `--against` measures another build's binary in turn with this one,
//! and `--rounds` everything several times; the medians are printed last, those of systems beside a
//! bare forwarder with their ratio to it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use bytes::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use prost::Message;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    codec::CompressionEncoding,
    transport::{Channel, Endpoint, Server},
};

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/raw.rs"]
mod raw;

const SIZES: [(&str, usize, usize); 3] = [("0.6 KB", 600, 100), ("5 KB", 5_000, 50), ("66 KB", 66_000, 10)];
const FORWARDER: &str = "forwarder";
const LIMIT: usize = 256 << 20;

struct Options {
    seconds: u64,
    /// Spans of a request, instead of those that go with their size.
    spans: Option<usize>,
    /// So many requests, instead of seconds.
    requests: Option<u64>,
    rounds: usize,
    connections: usize,
    processors: String,
    metrics: String,
    compression: Option<CompressionEncoding>,
    tls: Option<Tls>,
    against: Option<String>,
    only: Option<String>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [role, port, sink, compression] = &args[..]
        && role == FORWARDER
    {
        return runtime().block_on(forward(port, sink, encoding(compression)));
    }
    let at = |name: &str| args.iter().position(|arg| arg == name);
    let value = |name: &str| at(name).and_then(|at| args.get(at + 1));
    let options = Options {
        seconds: value("--seconds").map_or(5, |seconds| seconds.parse().expect("--seconds N")),
        spans: value("--spans").map(|count| count.parse().expect("--spans N")),
        requests: value("--requests").map(|count| count.parse().expect("--requests N")),
        rounds: value("--rounds").map_or(1, |count| count.parse().expect("--rounds N")),
        connections: value("--connections").map_or(4, |count| count.parse().expect("--connections N")),
        only: value("--only").cloned(),
        processors: value("--processors").cloned().unwrap_or_else(|| "memory_limiter, identity, mask".into()),
        metrics: value("--metrics").cloned().unwrap_or_else(|| "none".into()),
        compression: encoding(value("--compression").map_or("none", String::as_str)),
        tls: at("--tls").map(|_| Tls::new()),
        against: value("--against").cloned(),
    };
    runtime().block_on(compare(&options));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn encoding(name: &str) -> Option<CompressionEncoding> {
    match name {
        "none" => None,
        "gzip" => Some(CompressionEncoding::Gzip),
        "zstd" => Some(CompressionEncoding::Zstd),
        other => panic!("--compression {other}: use none, gzip or zstd"),
    }
}

fn name_of(encoding: Option<CompressionEncoding>) -> &'static str {
    match encoding {
        Some(CompressionEncoding::Gzip) => "gzip",
        Some(CompressionEncoding::Zstd) => "zstd",
        _ => "none",
    }
}

/// Spans per CPU-second of every round, by size of span and system.
type Results = BTreeMap<(usize, &'static str), Vec<f64>>;

const CLEAN: &str = "tracegate, clean";
const SECRETS: &str = "tracegate, 1 secret/20 KB";
const AGAINST: &str = "the other build, clean";
const BARE: &str = "bare forwarder";

async fn compare(options: &Options) {
    let tls = if options.tls.is_some() { ", TLS to the gateway" } else { "" };
    let (connections, seconds) = (options.connections, options.seconds);
    let compression = name_of(options.compression);
    println!("{connections} connections, {seconds} s a row, OTLP/gRPC, compression: {compression}{tls}");
    println!(
        "{:>8}  {:<25} {:>12} {:>10} {:>12} {:>10} {:>9} {:>6} {:>6}",
        "span", "system", "spans/CPU-s", "MB/CPU-s", "spans/s", "CPU", "RSS peak", "lost", "twice"
    );
    let mut results = Results::new();
    for _ in 0..options.rounds {
        round(options, &mut results).await;
    }
    if options.rounds > 1 {
        summary(options, &results);
    }
}

async fn round(options: &Options, results: &mut Results) {
    let chosen = |name: &str| options.only.as_ref().is_none_or(|only| name.starts_with(only.as_str()));
    for (at, (_, span_bytes, spans)) in SIZES.into_iter().enumerate().filter(|(_, (name, ..))| chosen(name)) {
        let spans = options.spans.unwrap_or(spans);
        let load = Load::new(span_bytes, spans, false);
        let mut measure = async |what, load: &Load, start: fn(SocketAddr, &Options) -> System| {
            let spans_per_cpu_second = row(SIZES[at].0, what, options, load, start).await;
            results.entry((at, what)).or_default().push(spans_per_cpu_second);
        };
        measure(CLEAN, &load, System::gateway).await;
        if options.against.is_some() {
            measure(AGAINST, &load, System::other_gateway).await;
        }
        measure(BARE, &load, System::forwarder).await;
        measure(SECRETS, &Load::new(span_bytes, spans, true), System::gateway).await;
    }
}

/// Medians over the rounds; ratios are taken within a round first, because the machine changes between rounds.
fn summary(options: &Options, results: &Results) {
    println!("medians of {} rounds", options.rounds);
    for ((at, what), values) in results {
        let ratio_to = |other: &'static str| {
            let others = results.get(&(*at, other)).filter(|_| other != *what)?;
            Some(median(values.iter().zip(others).map(|(one, other)| one / other).collect()))
        };
        print!("{:>8}  {what:<25} {:>12.0}", SIZES[*at].0, median(values.clone()));
        for (other, name) in [(BARE, "the forwarder"), (AGAINST, "the other build")] {
            if let Some(ratio) = ratio_to(other) {
                print!("   {ratio:.3} of {name}");
            }
        }
        println!();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

/// Runs one load through one system and prints its row.
async fn row(size: &str, what: &str, options: &Options, load: &Load, start: fn(SocketAddr, &Options) -> System) -> f64 {
    let sink = Sink::start(options.compression).await;
    let system = start(sink.address, options);
    let before = system.cpu_seconds();
    let started = Instant::now();
    let sent = generate(&system, options, load).await;
    sink.wait_for(sent.spans, Duration::from_secs(20)).await;
    let (wall, cpu, rss) = (started.elapsed().as_secs_f64(), system.cpu_seconds() - before, system.peak_rss_mib());
    let (arrived, twice) = sink.counts();
    let megabytes = sent.bytes as f64 / 1e6;
    println!(
        "{size:>8}  {what:<25} {:>12.0} {:>10.0} {:>12.0} {cpu:>9.2}s {rss:>5} MiB {:>6} {twice:>6}",
        sent.spans as f64 / cpu,
        megabytes / cpu,
        sent.spans as f64 / wall,
        sent.spans - arrived,
    );
    system.stop();
    sent.spans as f64 / cpu
}

/// A request body whose span ids can be renumbered in place.
struct Load {
    body: Vec<u8>,
    ids: Vec<usize>,
}

impl Load {
    fn new(span_bytes: usize, spans: usize, secrets: bool) -> Load {
        let request = corpus::request(span_bytes, spans, secrets);
        let body = request.encode_to_vec();
        let index = tracegate::otlp::walk(tracegate::otlp::Signal::Traces, &body, &Default::default()).unwrap();
        let ids = index.items.iter().map(|span| {
            let (start, end) = (span.payload as usize, span.end as usize);
            start + body[start..end].windows(8).position(|window| window == span.span_id).unwrap()
        });
        let ids = ids.collect();
        Load { body, ids }
    }

    /// The body with span ids counting up from `first`.
    fn numbered(&self, first: u64) -> Bytes {
        let mut body = self.body.clone();
        for (id, number) in self.ids.iter().zip(first..) {
            body[*id..id + 8].copy_from_slice(&number.to_be_bytes());
        }
        body.into()
    }
}

#[derive(Default)]
struct Sent {
    spans: u64,
    bytes: u64,
}

/// Sends on several connections until time is up; each waits for its answer, as SDKs do. A refusal for want of room is
/// tried again, so every span numbered is a span accepted.
async fn generate(system: &System, options: &Options, load: &Load) -> Sent {
    let next = AtomicU64::new(1);
    let bytes = AtomicU64::new(0);
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let spans = load.ids.len() as u64;
    let per_connection = options.requests.map(|requests| requests / options.connections as u64);
    let tls = options.tls.as_ref().filter(|_| system.endpoint.starts_with("https"));
    let connection = || async {
        let mut client = raw::Client::new(channel(&system.endpoint, tls).await, options.compression);
        let mut sent = 0;
        while per_connection.map_or_else(|| Instant::now() < until, |requests| sent < requests) {
            sent += 1;
            let body = load.numbered(next.fetch_add(spans, Ordering::Relaxed));
            while let Err(status) = client.export(body.clone()).await {
                assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        }
    };
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(connection());
    }
    futures_util::future::join_all(connections).await;
    Sent { spans: next.into_inner() - 1, bytes: bytes.into_inner() }
}

/// Counts spans by their number: what is missing was lost, what comes again arrived twice.
struct Sink {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    bits: Vec<u64>,
    distinct: u64,
    twice: u64,
}

impl Sink {
    async fn start(compression: Option<CompressionEncoding>) -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let counted = seen.clone();
        let service = raw::Service::new(compression, move |body: Bytes| {
            counted.lock().unwrap().count(&body);
            std::future::ready(Ok(Bytes::new()))
        });
        tokio::spawn(serve(listener, service));
        Sink { address, seen }
    }

    async fn wait_for(&self, spans: u64, patience: Duration) {
        let until = Instant::now() + patience;
        while self.counts().0 < spans && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn counts(&self) -> (u64, u64) {
        let seen = self.seen.lock().unwrap();
        (seen.distinct, seen.twice)
    }
}

impl Seen {
    fn count(&mut self, body: &[u8]) {
        let index = tracegate::otlp::walk(tracegate::otlp::Signal::Traces, body, &Default::default()).unwrap();
        for span in index.items {
            let number = u64::from_be_bytes(span.span_id) as usize;
            let (word, bit) = (number / 64, 1u64 << (number % 64));
            if self.bits.len() <= word {
                self.bits.resize(word * 2 + 1, 0);
            }
            let new = self.bits[word] & bit == 0;
            self.bits[word] |= bit;
            self.distinct += u64::from(new);
            self.twice += u64::from(!new);
        }
    }
}

/// The process under test.
struct System {
    process: Child,
    endpoint: String,
    _config: Option<tempfile::NamedTempFile>,
}

impl System {
    fn gateway(sink: SocketAddr, options: &Options) -> System {
        System::gateway_of(env!("CARGO_BIN_EXE_tracegate"), sink, options)
    }

    fn other_gateway(sink: SocketAddr, options: &Options) -> System {
        System::gateway_of(options.against.as_deref().unwrap(), sink, options)
    }

    fn gateway_of(binary: &str, sink: SocketAddr, options: &Options) -> System {
        let port = free_port();
        let (processors, level, compression) = (&options.processors, &options.metrics, name_of(options.compression));
        // Metrics at their usual port would be in the way of whatever else runs here.
        let readers = match level.as_str() {
            "none" => String::new(),
            _ => {
                let port = free_port();
                format!(", readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {port}}}}}}}}}]")
            }
        };
        let (scheme, tls) = match &options.tls {
            None => ("http", String::new()),
            Some(tls) => ("https", format!(", tls: {{cert_file: {:?}, key_file: {:?}}}", tls.cert(), tls.key())),
        };
        let config = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        let yaml = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:{port}\"{tls}}}}}}}}}\n\
             processors: {{memory_limiter: {{check_interval: 1s, limit_mib: 4096}}, identity: {{}}, mask: {{}}}}\n\
             exporters: {{otlp_grpc: {{endpoint: \"{sink}\", tls: {{insecure: true}}, compression: {compression}}}}}\n\
             service:\n  telemetry: {{metrics: {{level: {level}{readers}}}}}\n  pipelines:\n    \
             traces: {{receivers: [otlp], processors: [{processors}], exporters: [otlp_grpc]}}\n"
        );
        std::fs::write(config.path(), yaml).unwrap();
        let mut command = Command::new(binary);
        command.arg("--config").arg(config.path());
        let process = start(command, "Everything is ready");
        System { process, endpoint: format!("{scheme}://127.0.0.1:{port}"), _config: Some(config) }
    }

    fn forwarder(sink: SocketAddr, options: &Options) -> System {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([FORWARDER, &port.to_string(), &format!("http://{sink}"), name_of(options.compression)]);
        let process = start(command, "ready");
        System { process, endpoint: format!("http://127.0.0.1:{port}"), _config: None }
    }

    /// User and system time of the process so far, from `/proc/PID/stat`.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }

    fn peak_rss_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    fn stop(mut self) {
        Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        self.process.wait().unwrap();
    }
}

fn start(mut command: Command, ready: &str) -> Child {
    let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    loop {
        match lines.next() {
            Some(Ok(line)) if line.contains(ready) => break,
            Some(Ok(line)) => log.push(line),
            _ => panic!("the system under test did not start: {}", log.join("\n")),
        }
    }
    std::thread::spawn(move || lines.for_each(drop));
    process
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The bare forwarder: what tonic costs when nothing is done to the bytes.
async fn forward(port: &str, sink: &str, compression: Option<CompressionEncoding>) {
    let client = raw::Client::new(channel(sink, None).await, compression);
    let service = raw::Service::new(compression, move |body| {
        let mut client = client.clone();
        async move { client.export(body).await }
    });
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    std::io::Write::write_all(&mut std::io::stderr(), b"ready\n").unwrap();
    serve(listener, service).await;
}

async fn serve<H: raw::Handler>(listener: TcpListener, service: raw::Service<H>) {
    let server = Server::builder().initial_stream_window_size(8 << 20).initial_connection_window_size(16 << 20);
    server.tcp_nodelay(true).add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
}

/// A channel with the window sizes of the systems under test.
async fn channel(endpoint: &str, tls: Option<&Tls>) -> Channel {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).unwrap();
    let endpoint = endpoint.initial_stream_window_size(8 << 20).initial_connection_window_size(16 << 20);
    let endpoint = endpoint.tcp_nodelay(true);
    match tls {
        None => endpoint.connect().await.unwrap(),
        Some(tls) => endpoint.connect_with_connector(tls.connector()).await.unwrap(),
    }
}

/// A certificate of the gateway's own, which the generator trusts.
struct Tls {
    directory: tempfile::TempDir,
    client: rustls::ClientConfig,
}

impl Tls {
    fn new() -> Tls {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
        let tls = Tls { directory: tempfile::tempdir().unwrap(), client };
        std::fs::write(tls.cert(), made.cert.pem()).unwrap();
        std::fs::write(tls.key(), made.signing_key.serialize_pem()).unwrap();
        tls
    }

    fn cert(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    fn connector(&self) -> HttpsConnector<HttpConnector> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new().with_tls_config(self.client.clone()).https_only();
        https.enable_http2().wrap_connector(tcp)
    }
}
