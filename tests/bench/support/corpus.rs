//! Generated trace data that looks like what agents send: chat messages as JSON strings, tool calls, prose, code.
//! Seeded, so that every run works on the same bytes.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};

/// One secret about every so many bytes, where secrets are asked for.
const SECRET_EVERY: usize = 20_000;

const WORDS: &[&str] = &[
    "the",
    "agent",
    "should",
    "look",
    "up",
    "order",
    "and",
    "then",
    "answer",
    "with",
    "a",
    "short",
    "summary",
    "of",
    "what",
    "happened",
    "customer",
    "request",
    "because",
    "database",
    "returned",
    "no",
    "rows",
    "for",
    "this",
    "query",
    "function",
    "result",
    "token",
    "model",
    "context",
    "window",
    "if",
    "key",
    "is",
    "missing",
    "retry",
    "after",
    "seconds",
    "region",
    "invoice",
    "shipping",
    "address",
    "we",
    "can",
    "not",
    "find",
    "any",
    "matching",
    "record",
    "please",
    "check",
    "again",
    "using",
    "different",
    "filter",
    "value",
    "secret",
    "santa",
    "password",
    "reset",
    "page",
];

/// An export request of `spans` spans of about `span_bytes` each.
pub fn request(span_bytes: usize, spans: usize, secrets: bool) -> ExportTraceServiceRequest {
    let mut random = Random(0x7ace_6a7e);
    let mut since_secret = 0;
    let spans = (0..spans).map(|_| span(&mut random, span_bytes, secrets.then_some(&mut since_secret))).collect();
    let resource = Resource {
        attributes: vec![string("service.name", "bench-agent".into()), string("host.name", "node-7".into())],
        ..Default::default()
    };
    let scope =
        InstrumentationScope { name: "bench.instrumentation".into(), version: "1.2.3".into(), ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans, schema_url: String::new() }],
    }
}

fn span(random: &mut Random, bytes: usize, since_secret: Option<&mut usize>) -> Span {
    // The fixed attributes and framing take about 330 bytes.
    let content = bytes.saturating_sub(330);
    let mut text = messages(random, content);
    if let Some(since) = since_secret {
        *since += bytes;
        if *since >= SECRET_EVERY {
            *since = 0;
            let middle = text.len() / 2;
            let at = (middle..text.len()).find(|&at| text.as_bytes()[at] == b' ').unwrap_or(0);
            text.insert_str(at, &format!(" ghp_{}", random.base62(36)));
        }
    }
    let start = 1_790_000_000_000_000_000 + random.next() % 1_000_000_000;
    Span {
        trace_id: random.bytes(16),
        span_id: random.bytes(8),
        parent_span_id: random.bytes(8),
        name: "chat gpt-5".into(),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_234_567_890,
        attributes: vec![
            string("gen_ai.operation.name", "chat".into()),
            string("gen_ai.request.model", "gpt-5".into()),
            string("gen_ai.response.id", format!("chatcmpl-{}", random.base62(29))),
            integer("gen_ai.usage.input_tokens", (random.next() % 9000) as i64),
            integer("gen_ai.usage.output_tokens", (random.next() % 900) as i64),
            string("gen_ai.conversation.id", format!("conv_{}", random.base62(16))),
            string("gen_ai.input.messages", text),
        ],
        ..Default::default()
    }
}

/// About `len` bytes of chat messages as a JSON string.
pub fn messages(random: &mut Random, len: usize) -> String {
    let mut parts = Vec::new();
    let mut size = 2;
    while size < len {
        let text = match random.next() % 4 {
            0 => code(random),
            1 => tool_result(random),
            _ => prose(random, 60),
        };
        let room = len.saturating_sub(size + 60).max(8);
        let text: String = text.chars().take(room).collect();
        let role = ["system", "user", "assistant", "tool"][(random.next() % 4) as usize];
        let part = serde_json::json!({"role": role, "parts": [{"type": "text", "content": text}]}).to_string();
        size += part.len() + 1;
        parts.push(part);
    }
    format!("[{}]", parts.join(","))
}

fn prose(random: &mut Random, words: usize) -> String {
    let mut text = String::new();
    for i in 0..words {
        text += WORDS[(random.next() as usize >> 8) % WORDS.len()];
        text += if i % 13 == 12 { ". " } else { " " };
    }
    text
}

fn code(random: &mut Random) -> String {
    let (a, b) = (WORDS[(random.next() % 40) as usize], WORDS[(random.next() % 40) as usize]);
    format!(
        "def {a}_{b}(self, limit: int = {}):\n    rows = self.db.fetch(\"select {a}, {b} from items where id = %s\", limit)\n    \
         return [row.{a} for row in rows if row.{b} != None]\n",
        random.next() % 500
    )
}

fn tool_result(random: &mut Random) -> String {
    serde_json::json!({
        "id": format!("call_{}", random.base62(24)),
        "commit": random.hex(40),
        "items": [{"sku": format!("A-{}", random.next() % 100_000), "price": (random.next() % 10_000) as f64 / 100.0}],
        "took_ms": random.next() % 2000,
        "url": format!("https://shop.example/orders/{}?page={}", random.next() % 100_000, random.next() % 9),
    })
    .to_string()
}

fn string(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::StringValue(value)) }), ..Default::default() }
}

fn integer(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::IntValue(value)) }), ..Default::default() }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 24) as u8 | 1).collect()
    }

    fn text(&mut self, alphabet: &[u8], len: usize) -> String {
        (0..len).map(|_| alphabet[(self.next() >> 24) as usize % alphabet.len()] as char).collect()
    }

    fn base62(&mut self, len: usize) -> String {
        self.text(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", len)
    }

    fn hex(&mut self, len: usize) -> String {
        self.text(b"0123456789abcdef", len)
    }
}
