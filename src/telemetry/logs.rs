//! Log lines: structured, one per event, without payload.
//!
//! Our own code logs ids, counts and errors of ours, never payload. The libraries below us do not promise that: at
//! debug level h2 prints header and data frames, hyper and tonic print requests, rustls prints what it decrypts. So
//! only tracegate's own targets follow the configured level; all others stop at `warn`, whatever is configured, and
//! `RUST_LOG` is not read.

use super::{display_safe::display_safe, timestamp::rfc3339};
use crate::config::types;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fmt,
    fs::{File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tracing::{
    Event, Level as TracingLevel, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    filter::filter_fn,
    layer::{Context, Layer, SubscriberExt as _},
    registry::Registry,
};

/// Settings of `service::telemetry::logs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// The least important level that is written.
    #[serde(deserialize_with = "super::settings::lowercase")]
    pub level: Level,
    /// How lines look.
    #[serde(deserialize_with = "super::settings::lowercase")]
    pub encoding: Encoding,
    /// Accepted; has no effect here.
    pub development: bool,
    /// Accepted; lines never say where in the source they come from.
    pub disable_caller: bool,
    /// Accepted; lines never carry stack traces.
    pub disable_stacktrace: bool,
    /// How repeated lines are thinned out.
    pub sampling: Sampling,
    /// `stderr`, `stdout`, or paths of files to append to.
    pub output_paths: Vec<String>,
    /// Accepted; there are no errors of logging that could be written elsewhere.
    pub error_output_paths: Vec<String>,
    /// Fields of every line.
    pub initial_fields: BTreeMap<String, Value>,
    /// The Collector's export of its logs, which tracegate does not have: not empty is an error.
    #[serde(deserialize_with = "no_processors")]
    pub processors: (),
}

fn no_processors<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match Option::<Vec<serde::de::IgnoredAny>>::deserialize(deserializer)? {
        Some(processors) if !processors.is_empty() => Err(serde::de::Error::custom(
            "exporting tracegate's own logs is not supported: remove 'processors' and collect what 'output_paths' names",
        )),
        _ => Ok(()),
    }
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            level: Level::default(),
            encoding: Encoding::default(),
            development: false,
            disable_caller: false,
            disable_stacktrace: false,
            sampling: Sampling::default(),
            output_paths: vec!["stderr".to_owned()],
            error_output_paths: vec!["stderr".to_owned()],
            initial_fields: BTreeMap::new(),
            processors: (),
        }
    }
}

impl Logs {
    /// What is configured and has no effect.
    pub fn warnings(&self) -> Vec<String> {
        let Logs { development, error_output_paths, .. } = Self::default();
        let mut warnings = Vec::new();
        let mut no_effect = |key: &str, why: &str| {
            warnings.push(format!("service::telemetry::logs::{key}: has no effect, {why}"));
        };
        if self.development != development {
            no_effect("development", "log lines are the same everywhere");
        }
        if self.error_output_paths != error_output_paths {
            no_effect("error_output_paths", "errors of logging itself are not written");
        }
        warnings
    }
}

/// Levels, in the Collector's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Everything, for finding faults.
    Debug,
    /// What a person who runs it wants to know.
    #[default]
    Info,
    /// What may need attention.
    Warn,
    /// What needs attention.
    Error,
}

impl Level {
    const fn filter(self) -> LevelFilter {
        match self {
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error => LevelFilter::ERROR,
        }
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Time, level, message and fields as JSON, with tabs between them.
    #[default]
    Console,
    /// One JSON object.
    Json,
}

/// Thins out equal messages from one place in the program: of each `tick`, the first `initial` and then every `thereafter`th.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Off writes every line.
    pub enabled: bool,
    /// The length of a window, such as `10s`.
    #[serde(deserialize_with = "tick")]
    pub tick: Duration,
    /// Lines written before thinning begins.
    pub initial: u64,
    /// After that, one line in so many; 0 writes none.
    pub thereafter: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { enabled: true, tick: Duration::from_secs(10), initial: 10, thereafter: 100 }
    }
}

fn tick<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    types::Duration::deserialize(deserializer).map(types::Duration::get)
}

/// Logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file in `output_paths` cannot be opened.
    #[error("service::telemetry::logs::output_paths: cannot open {path}: {source}")]
    Open {
        /// The path as configured.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something else logs for this process already.
    #[error("logging is already set up in this process")]
    Taken,
}

/// Starts logging for the whole process.
pub fn init(logs: &Logs) -> Result<(), InitError> {
    let subscriber = subscriber(logs, Output::open(&logs.output_paths)?);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError::Taken)
}

fn subscriber(logs: &Logs, output: Output) -> impl Subscriber + Send + Sync + use<> {
    let ours = logs.level.filter();
    let others = ours.min(LevelFilter::WARN);
    // Compared whole: a crate whose name merely begins like ours is not ours.
    let is_ours = |target: &str| target.split("::").next() == Some("tracegate");
    let filter = filter_fn(move |metadata| *metadata.level() <= if is_ours(metadata.target()) { ours } else { others })
        .with_max_level_hint(ours);
    let lines = Lines {
        output,
        encoding: logs.encoding,
        initial_fields: logs.initial_fields.iter().map(|(key, value)| (shown(key), shown_value(value))).collect(),
        sampler: Sampler::new(logs.sampling),
    };
    Registry::default().with(lines.with_filter(filter))
}

fn shown(text: &str) -> String {
    display_safe(text).into_owned()
}

/// A configured value, harmless on a line at any depth.
fn shown_value(value: &Value) -> Value {
    match value {
        Value::String(text) => shown(text).into(),
        Value::Array(items) => items.iter().map(shown_value).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (shown(key), shown_value(value))).collect(),
        other => other.clone(),
    }
}

/// Where lines go.
struct Output(Vec<Sink>);

enum Sink {
    Stderr,
    Stdout,
    File(Mutex<File>),
    #[cfg(test)]
    Memory(std::sync::Arc<Mutex<Vec<u8>>>),
}

impl Output {
    fn open(paths: &[String]) -> Result<Self, InitError> {
        let open = |path: &String| match path.as_str() {
            "stderr" => Ok(Sink::Stderr),
            "stdout" => Ok(Sink::Stdout),
            _ => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(|file| Sink::File(Mutex::new(file)))
                .map_err(|source| InitError::Open { path: path.clone(), source }),
        };
        paths.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// A line that cannot be written is lost: logging must not stop the data.
    fn write(&self, line: &str) {
        for sink in &self.0 {
            let _ = match sink {
                Sink::Stderr => io::stderr().lock().write_all(line.as_bytes()),
                Sink::Stdout => io::stdout().lock().write_all(line.as_bytes()),
                Sink::File(file) => file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes()),
                #[cfg(test)]
                Sink::Memory(bytes) => bytes.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes()),
            };
        }
    }
}

/// Turns events into lines.
struct Lines {
    output: Output,
    encoding: Encoding,
    initial_fields: Map<String, Value>,
    sampler: Sampler,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields { message: String::new(), fields: self.initial_fields.clone() };
        event.record(&mut fields);
        let Some(left_out) = self.sampler.keeps(event.metadata(), &fields.message, Instant::now()) else {
            if let Some(dropped) = DROPPED.get(level_index(*event.metadata().level())) {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
            return;
        };
        if left_out > 0 {
            fields.fields.insert("left_out".to_owned(), left_out.into());
        }
        self.output.write(&line(self.encoding, SystemTime::now(), event.metadata(), fields));
    }
}

/// Lines that sampling left out, of all logging in this process, by level.
static DROPPED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Names of levels, as [`level_index`] orders them.
const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

fn level_index(level: TracingLevel) -> usize {
    match level {
        TracingLevel::ERROR => 3,
        TracingLevel::WARN => 2,
        TracingLevel::INFO => 1,
        _ => 0,
    }
}

/// How many lines sampling left out so far, by level.
pub(super) fn dropped() -> [(&'static str, u64); 4] {
    let mut counts = DROPPED.iter().map(|count| count.load(Ordering::Relaxed));
    LEVELS.map(|level| (level, counts.next().unwrap_or(0)))
}

fn line(encoding: Encoding, time: SystemTime, metadata: &Metadata<'_>, fields: Fields) -> String {
    let level = LEVELS[level_index(*metadata.level())];
    let Fields { message, mut fields } = fields;
    match encoding {
        Encoding::Console => {
            let mut line = format!("{}\t{level}\t{}", rfc3339(time), display_safe(&message));
            if !fields.is_empty() {
                line.push('\t');
                line.push_str(&Value::Object(fields).to_string());
            }
            line.push('\n');
            line
        }
        Encoding::Json => {
            fields.insert("level".to_owned(), level.into());
            fields.insert("ts".to_owned(), rfc3339(time).into());
            fields.insert("msg".to_owned(), display_safe(&message).into());
            Value::Object(fields).to_string() + "\n"
        }
    }
}

/// The fields of one event.
struct Fields {
    message: String,
    fields: Map<String, Value>,
}

impl Fields {
    fn insert(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.insert(field, display_safe(&format!("{value:?}")).into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            _ => self.insert(field, display_safe(value).into()),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.insert(field, display_safe(&value.to_string()).into());
    }
}

/// Counts lines per place in the program and message. Counters are few and shared by chance, so that memory is bounded
/// whatever messages say.
struct Sampler {
    sampling: Sampling,
    windows: Mutex<Vec<Window>>,
}

#[derive(Clone, Copy, Default)]
struct Window {
    start: Option<Instant>,
    lines: u64,
    /// Left out since the last line that was written, in this window or an earlier one.
    left_out: u64,
}

impl Sampler {
    const COUNTERS: usize = 4096;

    fn new(sampling: Sampling) -> Self {
        Self { sampling, windows: Mutex::new(vec![Window::default(); Self::COUNTERS]) }
    }

    /// Whether to write a line: none, or how many like it were left out since the last one.
    fn keeps(&self, metadata: &Metadata<'_>, message: &str, now: Instant) -> Option<u64> {
        let Sampling { enabled, tick, initial, thereafter } = self.sampling;
        if !enabled {
            return Some(0);
        }
        let mut hasher = DefaultHasher::new();
        (metadata.callsite(), message).hash(&mut hasher);
        #[allow(clippy::cast_possible_truncation)] // any bits of a hash will do
        let slot = hasher.finish() as usize % Self::COUNTERS;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(window) = windows.get_mut(slot) else { return Some(0) };
        if window.start.is_none_or(|start| now.saturating_duration_since(start) >= tick) {
            window.start = Some(now);
            window.lines = 0;
        }
        window.lines += 1;
        if window.lines <= initial || (window.lines - initial).checked_rem(thereafter) == Some(0) {
            return Some(std::mem::take(&mut window.left_out));
        }
        window.left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests;
