//! The demo's agent: one support conversation as an instrumented agent exports it, with planted credentials and
//! personal data where real ones turn up. Every planted value is made at run time, is well-formed and opens nothing.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};
use std::time::{SystemTime, UNIX_EPOCH};

/// Values that look like something but are nothing: they must arrive as they were sent.
pub const KEPT: [(&str, &str); 4] =
    [("model name", MODEL), ("commit hash", COMMIT), ("order number", ORDER), ("tool call id", CALL)];
const MODEL: &str = "gpt-5";
const COMMIT: &str = "9f2c6d0d41b7e3a58c1f0b6a2d94e7713c5a8be0";
const ORDER: &str = "2026-118-22107";
const CALL: &str = "call_Zb3kT0aPq81Vd7Lw2mXe9RcN";

const STATUS_ERROR: i32 = 2;
const KIND_INTERNAL: i32 = 1;
const KIND_CLIENT: i32 = 3;
const MILLISECOND: u64 = 1_000_000;

/// A value that must not arrive, and what it is, for the report.
#[derive(Debug)]
pub struct Planted {
    /// What a person calls it.
    pub what: &'static str,
    /// The value.
    pub value: String,
}

/// What is planted in the conversation.
#[derive(Debug)]
pub struct Secrets {
    openai_key: Planted,
    github_token: Planted,
    aws_key_id: Planted,
    aws_secret: Planted,
    session_jwt: Planted,
    database_password: Planted,
    stripe_key: Planted,
    slack_token: Planted,
    admin_password: Planted,
    email: Planted,
    card: Planted,
}

impl Secrets {
    /// Makes them from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let planted = |what, value| Planted { what, value };
        Secrets {
            openai_key: planted(
                "OpenAI API key",
                format!("sk-proj-{}T3BlbkFJ{}", random.text(BASE62, 74), random.text(BASE62, 74)),
            ),
            github_token: planted("GitHub token", format!("ghp_{}", random.text(BASE62, 36))),
            aws_key_id: planted("AWS access key id", format!("AKIA{}", random.text(BASE32, 16))),
            aws_secret: planted("AWS secret key", random.text(BASE62, 40)),
            session_jwt: planted("session token (JWT)", random.jwt()),
            database_password: planted(
                "database password",
                format!("{}!{}", random.text(BASE62, 9), random.text(BASE62, 4)),
            ),
            stripe_key: planted("Stripe live key", format!("sk_live_{}", random.text(BASE62, 24))),
            slack_token: planted(
                "Slack bot token",
                format!("xoxb-{}-{}-{}", random.digits(12), random.digits(12), random.text(BASE62, 24)),
            ),
            admin_password: planted(
                "typed password",
                format!("Winter-{}-{}", random.digits(4), random.text(BASE62, 5)),
            ),
            email: planted(
                "customer e-mail",
                format!("maria.{}@posteo.net", random.text(b"abcdefghijkmnopqrstuvwxyz", 6)),
            ),
            card: planted("card number", random.card()),
        }
    }

    /// All of them, for the report and for the check of what arrived.
    pub fn all(&self) -> [&Planted; 11] {
        [
            &self.openai_key,
            &self.github_token,
            &self.aws_key_id,
            &self.aws_secret,
            &self.session_jwt,
            &self.database_password,
            &self.stripe_key,
            &self.slack_token,
            &self.admin_password,
            &self.email,
            &self.card,
        ]
    }
}

/// The agent's export request.
pub fn conversation(secrets: &Secrets, seed: u64) -> ExportTraceServiceRequest {
    let mut trace = Trace::new(seed);
    let agent = trace.span(None, "invoke_agent support", KIND_INTERNAL, 4200);
    chat_with_pasted_key(&mut trace, agent, secrets);
    look_up_customer(&mut trace, agent, secrets);
    call_deploy_tool(&mut trace, agent, secrets);
    failing_refund(&mut trace, agent, secrets);
    final_answer(&mut trace, agent, secrets);
    trace.spans[agent].attributes = vec![
        text("gen_ai.operation.name", "invoke_agent"),
        text("gen_ai.agent.name", "support"),
        text("gen_ai.conversation.id", "conv-2231"),
    ];
    let resource = Resource {
        attributes: vec![text("service.name", "support-agent"), text("deployment.environment.name", "production")],
        ..Resource::default()
    };
    let scope = InstrumentationScope { name: "support.agent".into(), version: "1.4.0".into(), ..Default::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans: trace.spans, schema_url: String::new() }],
            schema_url: String::new(),
        }],
    }
}

/// A user pastes a key and a mail address into the chat; the instrumentation records the messages as a JSON string.
fn chat_with_pasted_key(trace: &mut Trace, parent: usize, secrets: &Secrets) {
    let messages = serde_json::json!([
        {"role": "system", "parts": [{"type": "text", "content": "You are the support agent of Fernweh Travel."}]},
        {"role": "user", "parts": [{"type": "text", "content": format!(
            "My bookings fail since Monday. I am {}, and here is the key our script uses: {} — the admin login is \
             admin, password: {}",
            secrets.email.value, secrets.openai_key.value, secrets.admin_password.value
        )}]}
    ]);
    let chat = trace.span(Some(parent), "chat gpt-5", KIND_CLIENT, 900);
    trace.spans[chat].attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.request.model", MODEL),
        integer("gen_ai.request.max_tokens", 2048),
        integer("gen_ai.usage.input_tokens", 611),
        text("gen_ai.input.messages", &messages.to_string()),
    ];
}

/// The tool result is a database row, card number included; the query span carries the connection string.
fn look_up_customer(trace: &mut Trace, parent: usize, secrets: &Secrets) {
    let tool = trace.span(Some(parent), "execute_tool find_customer", KIND_INTERNAL, 260);
    let result = serde_json::json!({
        "customer_id": "c_81734", "mail": secrets.email.value, "card": secrets.card.value, "order": ORDER
    });
    trace.spans[tool].attributes = vec![
        text("gen_ai.tool.name", "find_customer"),
        text("gen_ai.tool.call.id", CALL),
        text("gen_ai.tool.call.arguments", &serde_json::json!({"email": secrets.email.value}).to_string()),
        text("gen_ai.tool.call.result", &result.to_string()),
    ];
    let query = trace.span(Some(tool), "SELECT customers", KIND_CLIENT, 41);
    trace.spans[query].attributes = vec![
        text("db.system.name", "postgresql"),
        text("db.query.text", "SELECT * FROM customers WHERE mail = $1"),
        text(
            "db.connection_string",
            &format!("postgresql://svc_support:{}@db.internal:5432/crm", secrets.database_password.value),
        ),
    ];
}

/// A shell tool: credentials in arguments, in a header, in the environment it prints.
fn call_deploy_tool(trace: &mut Trace, parent: usize, secrets: &Secrets) {
    let tool = trace.span(Some(parent), "execute_tool shell", KIND_INTERNAL, 1800);
    let command =
        format!("curl -H 'Authorization: Bearer {}' https://api.internal/bookings?retry=1", secrets.session_jwt.value);
    let output = format!(
        "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\nGITHUB_TOKEN={}\nCOMMIT={COMMIT}\n",
        secrets.aws_key_id.value, secrets.aws_secret.value, secrets.github_token.value
    );
    trace.spans[tool].attributes = vec![
        text("gen_ai.tool.name", "shell"),
        text("gen_ai.tool.call.arguments", &serde_json::json!({"command": command}).to_string()),
        text("gen_ai.tool.call.result", &serde_json::json!({"exit_code": 0, "stdout": output}).to_string()),
    ];
}

/// An exception: key in the message, stack trace and status.
fn failing_refund(trace: &mut Trace, parent: usize, secrets: &Secrets) {
    let tool = trace.span(Some(parent), "execute_tool refund", KIND_INTERNAL, 320);
    let message = format!("Invalid API Key provided: {}", secrets.stripe_key.value);
    let start = trace.spans[tool].start_time_unix_nano;
    trace.spans[tool].attributes = vec![text("gen_ai.tool.name", "refund"), text("error.type", "AuthenticationError")];
    trace.spans[tool].events = vec![span::Event {
        time_unix_nano: start + 300 * MILLISECOND,
        name: "exception".into(),
        attributes: vec![
            text("exception.type", "stripe.error.AuthenticationError"),
            text("exception.message", &message),
            text(
                "exception.stacktrace",
                &format!(
                    "Traceback (most recent call last):\n  File \"refund.py\", line 88, in refund\n    \
                          client.refunds.create(key=\"{}\")\nstripe.error.AuthenticationError: {message}",
                    secrets.stripe_key.value
                ),
            ),
        ],
        dropped_attributes_count: 0,
    }];
    trace.spans[tool].status = Some(Status { code: STATUS_ERROR, message });
}

/// The answer, with the reasoning that repeats what was seen.
fn final_answer(trace: &mut Trace, parent: usize, secrets: &Secrets) {
    let chat = trace.span(Some(parent), "chat gpt-5", KIND_CLIENT, 700);
    let messages = serde_json::json!([{"role": "assistant", "parts": [
        {"type": "reasoning", "content": format!(
            "The refund failed. I could post to Slack with {} to ask a human.", secrets.slack_token.value)},
        {"type": "text", "content": format!(
            "I have passed this on. You will hear from us at {}.", secrets.email.value)}
    ]}]);
    trace.spans[chat].attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.request.model", MODEL),
        text("gen_ai.output.messages", &messages.to_string()),
    ];
}

/// Spans of one trace, with ids and times.
struct Trace {
    random: Random,
    trace_id: Vec<u8>,
    now: u64,
    spans: Vec<Span>,
}

impl Trace {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let trace_id = random.bytes(16);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Trace { random, trace_id, now, spans: Vec::new() }
    }

    /// Adds a span of `millis` milliseconds under `parent` and answers its position.
    fn span(&mut self, parent: Option<usize>, name: &str, kind: i32, millis: u64) -> usize {
        let parent_span_id = parent.map(|parent| self.spans[parent].span_id.clone()).unwrap_or_default();
        let start_time_unix_nano = self.now + self.spans.len() as u64 * 100 * MILLISECOND;
        self.spans.push(Span {
            trace_id: self.trace_id.clone(),
            span_id: self.random.bytes(8),
            parent_span_id,
            name: name.into(),
            kind,
            start_time_unix_nano,
            end_time_unix_nano: start_time_unix_nano + millis * MILLISECOND,
            ..Span::default()
        });
        self.spans.len() - 1
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
        ..KeyValue::default()
    }
}

fn integer(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::IntValue(value)) }), ..KeyValue::default() }
}

const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// SplitMix64: enough to make values that look real.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 32) as u8 | 1).collect()
    }

    fn text(&mut self, alphabet: &[u8], len: usize) -> String {
        (0..len).map(|_| alphabet[(self.next() >> 32) as usize % alphabet.len()] as char).collect()
    }

    fn digits(&mut self, len: usize) -> String {
        self.text(b"123456789", len)
    }

    /// A Visa-like number with a valid Luhn digit.
    fn card(&mut self) -> String {
        let mut digits: Vec<u32> =
            format!("4{}", self.digits(14)).bytes().map(|digit| u32::from(digit - b'0')).collect();
        let doubled = |digit: u32| if digit * 2 > 9 { digit * 2 - 9 } else { digit * 2 };
        let sum: u32 = digits.iter().enumerate().map(|(i, &d)| if i % 2 == 0 { doubled(d) } else { d }).sum();
        digits.push((10 - sum % 10) % 10);
        let grouped = digits.chunks(4).map(|group| group.iter().map(u32::to_string).collect::<String>());
        grouped.collect::<Vec<_>>().join(" ")
    }

    fn jwt(&mut self) -> String {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
        let header = BASE64.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = BASE64.encode(format!(r#"{{"sub":"{}","role":"agent"}}"#, self.digits(8)));
        format!("{header}.{claims}.{}", self.text(BASE62, 43))
    }
}
