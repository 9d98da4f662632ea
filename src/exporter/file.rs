//! Requests written to files: one JSON document per line, or messages with their length in front. A good sink for tests
//! and golden files. File formats are those of the contrib Collector's exporter.

mod config;
mod group;
mod output;
mod rotate;

pub use config::{Compress, Config, Format, GroupBy, Rotation};

use super::{
    Failure, Observer, Outgoing, Sender, Sent, blocking,
    config::log,
    queue::{MemoryQueue, QueueConfig, Settings},
    response::Rejections,
    retry::RetryConfig,
};
use crate::{
    config::{ConfigError, types::ByteSize},
    otlp::{self, Signal},
    pipeline::Destination,
};
use bytes::Bytes;
use group::Groups;
use output::Output;
use std::{
    fs::OpenOptions,
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// Opens the file and starts the exporter's queue and its one worker. Must be called within a Tokio runtime.
///
/// # Errors
/// [`ConfigError`] when the file cannot be opened.
pub fn start(id: &str, config: &Config, observer: Arc<dyn Observer>) -> Result<Arc<dyn Destination>, ConfigError> {
    config.validate()?;
    log(id, &config.notes());
    let opened =
        if config.grouped() { Groups::new(config).map(Files::Many) } else { Output::open(config).map(Files::One) };
    let files = opened.map_err(|error| ConfigError::new("path", format!("cannot be opened: {error}")))?;
    // One worker: requests stand in the file in the order in which they came.
    let queue = QueueConfig { num_consumers: 1, ..QueueConfig::default() };
    let settings = Settings::new(&queue, RetryConfig::default(), ByteSize(u64::from(u32::MAX)));
    let sender = FileSender {
        files: Arc::new(Mutex::new(files)),
        form: Form { format: config.format, compressed: config.compression == Compress::Zstd },
        rejections: Rejections::of(id),
    };
    Ok(MemoryQueue::start(id, settings, sender, observer))
}

/// A file of our own: what was not recognised as a secret is in it, so only its owner reads it.
pub(in crate::exporter) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[derive(Debug)]
enum Files {
    One(Output),
    Many(Groups),
}

#[derive(Debug)]
struct FileSender {
    files: Arc<Mutex<Files>>,
    form: Form,
    rejections: Rejections,
}

impl Sender for FileSender {
    async fn send(&self, outgoing: &Outgoing) -> Result<Sent, Failure> {
        let (files, form) = (self.files.clone(), self.form);
        let (signal, bytes) = (outgoing.signal, outgoing.to_bytes());
        let written = blocking(move || match &mut *files.lock().unwrap_or_else(PoisonError::into_inner) {
            Files::One(output) => output.write(&form.record(signal, &bytes)?).map(|()| Sent::default()),
            Files::Many(groups) => groups.write(form, signal, &bytes),
        });
        let sent =
            written.await?.map_err(|error| Failure::retryable(format!("the file cannot be written: {error}")))?;
        self.rejections.log(signal, sent);
        Ok(sent)
    }

    async fn close(&self) {
        let files = self.files.clone();
        let synced =
            tokio::task::spawn_blocking(move || match &mut *files.lock().unwrap_or_else(PoisonError::into_inner) {
                Files::One(output) => output.sync(),
                Files::Many(groups) => groups.sync(),
            });
        // Not every file can be synced (a pipe cannot), and there is nobody left to retry.
        let _best_effort = synced.await;
    }
}

/// How a request stands in a file.
#[derive(Clone, Copy, Debug)]
struct Form {
    format: Format,
    compressed: bool,
}

impl Form {
    /// JSON stands in lines. Protobuf, and everything compressed, has its length in front, as four bytes, big-endian;
    /// each message is compressed by itself, so that it can be read without the others.
    fn record(self, signal: Signal, bytes: &Bytes) -> io::Result<Vec<u8>> {
        let message = match self.format {
            Format::Json => Bytes::from(otlp::json::from_protobuf(signal, bytes)),
            Format::Proto => bytes.clone(),
        };
        match (self.compressed, self.format) {
            (false, Format::Json) => {
                let mut line = Vec::from(message);
                line.push(b'\n');
                Ok(line)
            }
            (false, Format::Proto) => with_length(&message),
            (true, _) => with_length(&zstd::bulk::compress(&message, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        }
    }
}

fn with_length(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    let mut record = Vec::with_capacity(4 + message.len());
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(message);
    Ok(record)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn records_are_lines_or_have_their_length_in_front() {
        let bytes = Bytes::from_static(b"abc");
        let form = |format, compressed| Form { format, compressed };
        assert_eq!(form(Format::Proto, false).record(Signal::Traces, &bytes).unwrap(), b"\0\0\0\x03abc");
        assert_eq!(form(Format::Json, false).record(Signal::Traces, &Bytes::new()).unwrap(), b"{}\n");
        let packed = form(Format::Proto, true).record(Signal::Traces, &bytes).unwrap();
        let (length, frame) = packed.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, frame.len());
        assert_eq!(zstd::decode_all(frame).unwrap(), b"abc");
    }
}
