//! Speed of the detection engine on generated text: clean AI text, the same with one secret per 20 KB and rewriting,
//! floods made to be slow, and 1,000 synthetic rules against 100.
//!
//! `cargo bench --bench detect [-- FILE...]`: each line is the best of several runs over the same bytes; files named as
//! arguments are scanned as well. Everything is generated from fixed seeds.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use tracegate::detect::{Engine, Field, replace};

/// Bytes per measurement.
const SIZE: usize = 16 << 20;
/// Length of one field of clean text.
const FIELD: usize = 5_000;

/// A small generator of numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn letters(&mut self, set: &[u8], n: usize) -> String {
        (0..n).map(|_| char::from(set[self.below(set.len())])).collect()
    }
}

const B62: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const WORDS: &[&str] = &[
    "the",
    "model",
    "returns",
    "a",
    "list",
    "of",
    "tokens",
    "and",
    "user",
    "asked",
    "for",
    "an",
    "order",
    "that",
    "was",
    "shipped",
    "to",
    "another",
    "address",
    "please",
    "check",
    "whether",
    "key",
    "value",
    "is",
    "present",
    "in",
    "response",
    "before",
    "calling",
    "next",
    "tool",
    "because",
    "previous",
    "attempt",
    "failed",
    "with",
    "timeout",
    "configuration",
    "should",
    "be",
    "reviewed",
    "by",
    "engineering",
    "customer",
    "reported",
    "invoice",
    "difference",
    "between",
    "system",
    "instructions",
    "answer",
    "carefully",
    "secret",
    "ingredient",
    "authentication",
    "password",
    "policy",
    "step",
];

fn prose(r: &mut Numbers, out: &mut String, n: usize) {
    for i in 0..n {
        if i > 0 {
            out.push_str(if i % 13 == 12 {
                ". "
            } else if i % 7 == 6 {
                ", "
            } else {
                " "
            });
        }
        out.push_str(r.pick(WORDS));
    }
}

fn messages(r: &mut Numbers, out: &mut String) {
    out.push_str("[{\"role\":\"user\",\"parts\":[{\"type\":\"text\",\"content\":\"");
    prose(r, out, 60);
    out.push_str("\\n\\n");
    prose(r, out, 40);
    out.push_str("\"}]},{\"role\":\"assistant\",\"parts\":[{\"type\":\"tool_call\",\"id\":\"call_");
    out.push_str(&r.letters(B62, 24));
    out.push_str("\",\"name\":\"search_orders\",\"arguments\":\"{\\\"customer_id\\\":\\\"");
    let id = [8, 4, 4, 4, 12].map(|n| r.letters(HEX, n)).join("-");
    out.push_str(&id);
    out.push_str("\\\",\\\"limit\\\":25,\\\"since\\\":\\\"2026-03-14T09:26:53Z\\\"}\"}],\"finish_reason\":\"tool_call\"},{\"usage\":{\"prompt_tokens\":1834,\"completion_tokens\":212,\"total_tokens\":2046},\"trace\":\"");
    out.push_str(&r.letters(HEX, 32));
    out.push_str("\"}]");
}

fn code(r: &mut Numbers, out: &mut String) {
    for _ in 0..12 {
        let (a, b, c) = (r.pick(WORDS), r.pick(WORDS), r.pick(WORDS));
        out.push_str(&format!(
            "def {a}_{b}(self, {c}: str, max_tokens: int = 4096) -> dict:\n    result = self.client.{b}({c}, timeout=30)\n    if result.status_code != 200:\n        raise ValueError(f\"{a} failed: {{result}}\")\n    return {{\"{a}\": result, \"{b}\": [x for x in {c}]}}\n\n"
        ));
    }
}

fn cjk(r: &mut Numbers, out: &mut String, n: usize) {
    const PARTS: &[&str] = &[
        "请检查订单",
        "模型返回了",
        "客户的地址",
        "下一步",
        "。",
        "，",
        "密钥",
        "不能",
        "系统",
        "配置文件",
        "これは",
        "テスト",
        "です",
        "회의",
        "설정",
    ];
    for _ in 0..n {
        out.push_str(r.pick(PARTS));
    }
}

fn embeddings(r: &mut Numbers, out: &mut String, n: usize) {
    for _ in 0..n {
        out.push_str(&format!("{}0.{:017}, ", if r.below(2) == 0 { "-" } else { "" }, r.next() % 10_u64.pow(17)));
    }
}

fn clean(seed: u64) -> String {
    let mut r = Numbers(seed);
    let mut out = String::with_capacity(SIZE + 8192);
    while out.len() < SIZE {
        match r.below(10) {
            0..=4 => messages(&mut r, &mut out),
            5..=6 => prose(&mut r, &mut out, 200),
            7..=8 => code(&mut r, &mut out),
            _ => cjk(&mut r, &mut out, 60),
        }
        out.push('\n');
    }
    out
}

fn with_secrets(clean: &str) -> String {
    let mut r = Numbers(99);
    let mut out = String::with_capacity(clean.len() + clean.len() / 100);
    for (i, line) in clean.split_inclusive('\n').enumerate() {
        out.push_str(line);
        if out.len() / 20_000 > (out.len() - line.len()) / 20_000 {
            let secret = match i % 5 {
                0 => format!("use ghp_{} here\n", r.letters(B62, 36)),
                1 => format!("{{\"api_key\":\"sk-proj-{}\"}}\n", r.letters(B62, 100)),
                2 => format!("mail ada.{}@example.org\n", r.letters(b"abcdefghij", 6)),
                3 => format!("password: {}\n", r.letters(B62, 14)),
                _ => format!("postgres://app:{}@db.internal/app\n", r.letters(B62, 20)),
            };
            out.push_str(&secret);
        }
    }
    out
}

/// Cuts text into fields, at character boundaries, with a gap between them.
fn fields(text: &str, len: usize) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let mut end = (at + len).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        fields.push(Field { start: at as u32, len: (end - at) as u32, key_start: 0, key_len: 0 });
        at = end + 1;
        while at < text.len() && !text.is_char_boundary(at) {
            at += 1;
        }
    }
    fields
}

/// Seconds this thread has spent on a CPU: on a machine that does other work too, wall time says little. Wall time
/// where the system does not tell.
fn cpu(start: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match stat.split(' ').next().and_then(|n| n.parse::<u64>().ok()) {
        Some(nanoseconds) => nanoseconds as f64 / 1e9,
        None => start.elapsed().as_secs_f64(),
    }
}

/// The best GB per CPU second of `runs` runs. The clock ticks in milliseconds, so a run repeats the work until it has
/// taken a good many of them.
fn best(bytes: usize, runs: usize, mut run: impl FnMut()) -> f64 {
    let mut best: f64 = 0.0;
    let start = Instant::now();
    for _ in 0..runs {
        let begin = cpu(start);
        let mut times = 0;
        while cpu(start) - begin < 0.1 {
            run();
            times += 1;
        }
        best = best.max(bytes as f64 * f64::from(times) / (cpu(start) - begin) / 1e9);
    }
    best
}

fn scan(engine: &Engine, name: &str, text: &str, len: usize, runs: usize) -> f64 {
    let fields = fields(text, len);
    let mut hits = Vec::new();
    let mut seen = Default::default();
    let rate = best(text.len(), runs, || {
        hits.clear();
        seen = engine.scan(black_box(text.as_bytes()), &fields, &mut hits);
    });
    println!("{name:44} {rate:7.3} GB/s  {:8} hits  {seen:?}", hits.len());
    rate
}

fn rewrite(engine: &Engine, name: &str, text: &str, runs: usize) {
    let fields = fields(text, FIELD);
    let mut hits = Vec::new();
    let mut out = Vec::with_capacity(text.len() + (1 << 20));
    let rate = best(text.len(), runs, || {
        hits.clear();
        out.clear();
        engine.scan(black_box(text.as_bytes()), &fields, &mut hits);
        let mut at = 0;
        for hit in &hits {
            out.extend_from_slice(&text.as_bytes()[at..hit.start as usize]);
            out.extend_from_slice(&replace::replacement(&engine.rules()[hit.rule as usize], hit));
            at = (hit.start + hit.len) as usize;
        }
        out.extend_from_slice(&text.as_bytes()[at..]);
        black_box(&out);
    });
    println!("{name:44} {rate:7.3} GB/s  {:8} hits", hits.len());
}

/// `count` rules of random prefixes, as a catalog file.
fn synthetic(count: usize) -> String {
    let mut r = Numbers(5);
    let mut out = String::new();
    for i in 0..count {
        let prefix = r.letters(b"abcdefghijklmnopqrstuvwxyz", 4);
        out.push_str(&format!(
            "[[rule]]\nid = \"synthetic-{i}\"\ntitle = \"t\"\nclass = \"credential\"\nseverity = \"low\"\nshapes = [\"{prefix}_{{b62 30}}\"]\nsource = \"synthetic\"\nmatch = []\nno_match = []\n"
        ));
    }
    out
}

fn main() {
    let engine = Engine::builtin();
    let runs = 5;
    let text = clean(7);
    println!("{} rules, {} MiB per line, best of {runs}", engine.rules().len(), SIZE >> 20);
    scan(engine, "clean, fields of 5 KB", &text, FIELD, runs);
    scan(engine, "clean, fields of 40 bytes", &text, 40, runs);
    scan(engine, "clean, one field", &text, text.len(), runs);
    for (name, make) in [
        ("  JSON messages", messages as fn(&mut Numbers, &mut String)),
        ("  prose", |r, o| prose(r, o, 100)),
        ("  code", code),
        ("  CJK", |r, o| cjk(r, o, 100)),
        ("  embeddings", |r, o| embeddings(r, o, 100)),
    ] {
        let mut r = Numbers(11);
        let mut part = String::new();
        while part.len() < SIZE {
            make(&mut r, &mut part);
            part.push('\n');
        }
        scan(engine, name, &part, FIELD, runs);
    }
    let secrets = with_secrets(&text);
    scan(engine, "1 secret / 20 KB, scan", &secrets, FIELD, runs);
    rewrite(engine, "1 secret / 20 KB, scan and rewrite", &secrets, runs);

    let few = Engine::with_rules(&synthetic(100)).unwrap();
    let many = Engine::with_rules(&synthetic(1000)).unwrap();
    let a = scan(&few, "built-in + 100 synthetic rules", &text, FIELD, runs);
    let b = scan(&many, "built-in + 1000 synthetic rules", &text, FIELD, runs);
    println!("{:44} {:7.3} x", "1000 rules cost against 100 rules", a / b);

    if std::env::args().any(|a| a == "quick") {
        return;
    }
    for unit in [
        "eyJ",
        "eyJhbGciOiJ",
        "eyJx.",
        "eyJx-",
        "sk-",
        "sk-ant-",
        "sk-proj-",
        "ghp_",
        "key=",
        "key=key=",
        "password=",
        "token: ",
        "password ",
        "\"",
        "'",
        "\\",
        "\\\"",
        "%25",
        "@",
        "a@",
        "a@b.",
        "a.b@c.d.",
        "1",
        "1111 ",
        "411111111111111",
        "+1",
        "+1 ",
        "4-",
        ":",
        "://",
        "a://b:",
        "a://b:c@",
        "=",
        "-",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "-----END",
        "-u ",
        " -u a:",
        "~",
        "Q~",
        "Basic ",
        "Bearer a",
        "Authorization: Basic ",
        "Cookie: a=",
        "[MASKED:",
        "[MASKED:jwt]",
        "DE89",
        "DE89 ",
        "GB",
        "\\u0041",
        "\\n",
        "<password>",
        "x\",\"password\":\"",
        "xoxb-1-",
        "0.",
        "ZXlK",
        "A",
        "aB3",
        "aB3dE5-",
        "é",
        "\u{200b}",
        " is ",
        "api key ",
        "(",
        "name\":\"",
    ] {
        let flood = unit.repeat((4 << 20) / unit.len());
        let fields = [Field { start: 0, len: flood.len() as u32, key_start: 0, key_len: 0 }];
        let mut hits = Vec::new();
        let mut seen = Default::default();
        let rate = best(flood.len(), 1, || {
            hits.clear();
            seen = engine.scan(black_box(flood.as_bytes()), &fields, &mut hits);
        });
        let slow = if rate < 0.1 { "  BELOW 0.1" } else { "" };
        println!("flood {:38} {rate:7.3} GB/s  {:8} hits  {seen:?}{slow}", format!("{unit:?}"), hits.len());
    }
    let token = "aB3".repeat((64 << 20) / 3);
    scan(engine, "one token of 64 MB", &token, token.len(), 2);
    for path in std::env::args().skip(1).filter(|a| !a.starts_with('-')) {
        if let Ok(text) = std::fs::read_to_string(&path) {
            scan(engine, &path, &text, text.len(), runs);
        }
    }
}
