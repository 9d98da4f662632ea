//! Requests printed for a person. It never holds anything up: a thread of its own prints, and what comes faster than
//! it can be printed is counted and left out.

mod config;
mod detailed;
mod normal;
mod output;
mod text;

pub use config::{Config, Verbosity};
pub use output::Output;

use super::{
    Observer, Outcome,
    config::log,
    queue::{Item, Ledger},
};
use crate::{
    config::ConfigError,
    otlp::{Signal, split},
    pipeline::{Budget, Destination, Payload, Permit},
};
use bytes::Bytes;
use prost::Message;
use std::{
    future::Future,
    io::{self, BufWriter, Write},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Starts the exporter and its thread.
///
/// # Errors
/// [`ConfigError`] for an invalid configuration, or when no thread can be made.
pub fn start(id: &str, config: &Config, observer: Arc<dyn Observer>) -> Result<Arc<dyn Destination>, ConfigError> {
    config.validate()?;
    log(id, &config.notes());
    start_with(id, config, Output::open(config)?, observer)
}

/// [`start`] with a place of one's own to print to.
///
/// # Errors
/// [`ConfigError`] when no thread can be made.
pub fn start_with(
    id: &str,
    config: &Config,
    output: Output,
    observer: Arc<dyn Observer>,
) -> Result<Arc<dyn Destination>, ConfigError> {
    let shared = Arc::new(Shared { abandoned: AtomicBool::new(false), unprinted: AtomicU64::new(0) });
    let (requests, received) = mpsc::channel();
    let (ended, end) = oneshot::channel();
    let ledger = Arc::new(Ledger::new(id, observer));
    let mut printer = Printer {
        shared: shared.clone(),
        ledger: ledger.clone(),
        out: BufWriter::with_capacity(64 * 1024, output.writer),
        style: text::Style { color: output.color },
        verbosity: config.verbosity,
        samplers: [Sampler::new(config.sampling_initial, config.sampling_thereafter); Signal::ALL.len()],
        closed: false,
    };
    let thread = move || {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| printer.run(&received)));
        if caught.is_err() {
            printer.ledger.observer.worker_panicked();
        }
        let _nobody_waits = ended.send(());
    };
    std::thread::Builder::new()
        .name("debug-exporter".to_owned())
        .spawn(thread)
        .map_err(|error| ConfigError::new("", format!("cannot start a thread: {error}")))?;
    Ok(Arc::new(Debug {
        ledger,
        unbounded: Budget::new(u64::MAX, u64::MAX),
        room: Budget::new(MAX_BYTES, MAX_REQUESTS),
        shared,
        requests: Mutex::new(Some(requests)),
        end: tokio::sync::Mutex::new(Some(end)),
    }))
}

/// What waits to be printed, at most.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
const MAX_REQUESTS: u64 = 10_000;

/// Requests are decoded in pieces of this size, since decoded they are several times as large.
const PIECE: usize = 1024 * 1024;

struct Shared {
    /// Print nothing more.
    abandoned: AtomicBool,
    /// Items taken and not yet printed.
    unprinted: AtomicU64,
}

struct Debug {
    ledger: Arc<Ledger>,
    /// What the pipeline sees: printing refuses nothing.
    unbounded: Budget,
    /// What really bounds memory.
    room: Budget,
    shared: Arc<Shared>,
    requests: Mutex<Option<mpsc::Sender<Item>>>,
    end: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
}

impl Destination for Debug {
    fn id(&self) -> &str {
        &self.ledger.exporter
    }

    fn budget(&self) -> &Budget {
        &self.unbounded
    }

    fn enqueue(&self, _permit: Permit, payload: Payload) {
        let (signal, count) = (payload.signal, payload.count);
        let Ok(room) = self.room.try_reserve(payload.bytes.len() as u64) else {
            self.ledger.enter(Outcome::Dropped, signal, count);
            self.ledger.log_drop(signal, count, &"output is slower than what comes in");
            return;
        };
        let item = Item::new(self.ledger.clone(), room, payload);
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(requests) = requests.as_ref() {
            self.shared.unprinted.fetch_add(count, Ordering::Relaxed);
            // An item that cannot be sent is dropped there, which reports it.
            let _ended = requests.send(item);
        }
    }

    fn drain(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(async move {
            drop(self.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
            if let Some(end) = self.end.lock().await.take()
                && tokio::time::timeout_at(deadline.into(), end).await.is_err()
            {
                self.shared.abandoned.store(true, Ordering::Relaxed);
            }
            self.shared.unprinted.load(Ordering::Relaxed)
        })
    }
}

struct Printer {
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    out: BufWriter<Box<dyn Write + Send>>,
    style: text::Style,
    verbosity: Verbosity,
    /// One a signal, in the order of [`Signal::ALL`]: many log records must not hide the spans.
    samplers: [Sampler; Signal::ALL.len()],
    /// Nobody reads any more.
    closed: bool,
}

impl Printer {
    fn run(&mut self, requests: &mpsc::Receiver<Item>) {
        while let Ok(item) = requests.recv() {
            if self.shared.abandoned.load(Ordering::Relaxed) {
                continue;
            }
            if !self.closed && self.samplers[item.signal() as usize].takes(Instant::now()) {
                let printed = self.print(item.signal(), item.bytes(), item.count());
                if let Err(error) = printed.and_then(|()| self.out.flush()) {
                    self.closed = true;
                    tracing::warn!(
                        exporter = %self.ledger.exporter,
                        error = %error.kind(),
                        "the debug exporter's output is closed; nothing more is printed"
                    );
                }
            }
            self.shared.unprinted.fetch_sub(item.count(), Ordering::Relaxed);
            item.settle_all(Outcome::Sent);
        }
    }

    /// One line of counts, then, if asked for, what was counted.
    fn print(&mut self, signal: Signal, bytes: &Bytes, count: u64) -> io::Result<()> {
        let (resources, items) = (split::envelopes(bytes).count(), split::items(bytes));
        match signal {
            Signal::Traces => {
                writeln!(self.out, "Traces\t{{\"resource spans\": {resources}, \"spans\": {items}}}")?;
            }
            Signal::Logs => {
                writeln!(self.out, "Logs\t{{\"resource logs\": {resources}, \"log records\": {items}}}")?;
            }
            Signal::Metrics => writeln!(
                self.out,
                "Metrics\t{{\"resource metrics\": {resources}, \"metrics\": {items}, \"data points\": {count}}}"
            )?,
        }
        if self.verbosity == Verbosity::Basic {
            return Ok(());
        }
        for part in split::split(signal, bytes, PIECE) {
            let printed = match signal {
                Signal::Traces => self.decoded(&part.bytes, normal::traces, detailed::traces),
                Signal::Logs => self.decoded(&part.bytes, normal::logs, detailed::logs),
                Signal::Metrics => self.decoded(&part.bytes, normal::metrics, detailed::metrics),
            };
            if !printed? {
                let (count, name) = (part.count, signal.items_name());
                writeln!(self.out, "  ({count} {name} not shown: there is text that is not UTF-8)")?;
            }
        }
        Ok(())
    }

    /// False when the request cannot be decoded.
    fn decoded<M: Message + Default>(
        &mut self,
        bytes: &Bytes,
        normal: fn(&mut dyn Write, text::Style, &M) -> io::Result<()>,
        detailed: fn(&mut dyn Write, text::Style, &M) -> io::Result<()>,
    ) -> io::Result<bool> {
        let Ok(request) = M::decode(bytes.clone()) else { return Ok(false) };
        let print = if self.verbosity == Verbosity::Normal { normal } else { detailed };
        print(&mut self.out, self.style, &request).map(|()| true)
    }
}

/// Lets through the first requests of every second, then one of so many.
#[derive(Clone, Copy, Debug)]
struct Sampler {
    initial: u64,
    thereafter: u64,
    second: Option<Instant>,
    seen: u64,
}

impl Sampler {
    fn new(initial: u64, thereafter: u64) -> Self {
        Sampler { initial, thereafter, second: None, seen: 0 }
    }

    fn takes(&mut self, now: Instant) -> bool {
        if self.second.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.seen = 0;
        }
        self.seen += 1;
        let beyond = self.seen.saturating_sub(self.initial);
        beyond == 0 || (self.thereafter > 0 && beyond.is_multiple_of(self.thereafter))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sampling_begins_anew_every_second() {
        let mut sampler = Sampler::new(2, 3);
        let now = Instant::now();
        let taken: Vec<bool> = (0..8).map(|_| sampler.takes(now)).collect();
        assert_eq!(taken, [true, true, false, false, true, false, false, true]);
        assert!(sampler.takes(now + Duration::from_secs(1)));
        let mut none = Sampler::new(1, 0);
        assert!(none.takes(now) && !none.takes(now) && !none.takes(now));
    }
}
