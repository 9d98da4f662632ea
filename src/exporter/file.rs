//! Requests appended to a file: one JSON document per line, or protobuf messages with their length in front. A good
//! sink for tests and golden files.

use super::{
    Failure, Later, Observer, Outgoing, Sender, Sent, blocking,
    queue::{MemoryQueue, QueueConfig, Settings},
    retry::RetryConfig,
};
use crate::{
    config::{
        ConfigError,
        types::{ByteSize, Duration},
    },
    otlp,
    pipeline::Destination,
};
use bytes::Bytes;
use serde::Deserialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// `exporters: file:`, with the contrib Collector's keys.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file. Made with mode 0600: what was not recognised as a secret is in it.
    pub path: PathBuf,
    /// `json` (default) or `proto`.
    pub format: Format,
    /// Keep what is in the file; otherwise it is emptied at start.
    pub append: bool,
    /// Every request is written through at once, which meets any interval.
    pub flush_interval: Duration,
    /// Make missing directories, with mode 0700.
    pub create_directory: bool,
    directory_permissions: Option<Later>,
    rotation: Option<Later>,
    compression: Option<Later>,
    encoding: Option<Later>,
    group_by: Option<Later>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            path: PathBuf::new(),
            format: Format::Json,
            append: false,
            flush_interval: Duration::secs(1),
            create_directory: false,
            directory_permissions: None,
            rotation: None,
            compression: None,
            encoding: None,
            group_by: None,
        }
    }
}

/// How requests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One OTLP/JSON export request per line.
    Json,
    /// Each request as protobuf, its length in front as four bytes, big-endian.
    Proto,
}

impl Config {
    /// Checks what can be checked without touching the file.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.path.as_os_str().is_empty() {
            return Err(ConfigError::new("path", "path must be non-empty"));
        }
        Ok(())
    }
}

/// Opens the file and starts the exporter's queue and its one worker. Must be called within a Tokio runtime.
///
/// # Errors
/// [`ConfigError`] when the file cannot be opened.
pub fn start(id: &str, config: &Config, observer: Arc<dyn Observer>) -> Result<Arc<dyn Destination>, ConfigError> {
    config.validate()?;
    let file = open(config).map_err(|error| ConfigError::new("path", format!("cannot be opened: {error}")))?;
    // One worker: requests stand in the file in the order in which they came.
    let queue = QueueConfig { num_consumers: 1, ..QueueConfig::default() };
    let settings = Settings::new(&queue, RetryConfig::default(), ByteSize(u64::from(u32::MAX)));
    let sender = FileSender { file: Arc::new(Mutex::new(file)), format: config.format };
    Ok(MemoryQueue::start(id, settings, sender, observer))
}

fn open(config: &Config) -> io::Result<File> {
    if config.create_directory
        && let Some(directory) = config.path.parent()
    {
        create_directories(directory)?;
    }
    let mut options = OpenOptions::new();
    options.create(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&config.path)?;
    if config.append {
        file.seek(SeekFrom::End(0)).or_else(ignore_unseekable)?;
    } else if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let found = file.metadata()?;
        if found.is_file() && found.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %config.path.display(), "the file was there already and others may read or write it");
        }
    }
    Ok(file)
}

fn create_directories(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Pipes and terminals have no position.
fn ignore_unseekable(error: io::Error) -> io::Result<u64> {
    if error.kind() == io::ErrorKind::NotSeekable { Ok(0) } else { Err(error) }
}

#[derive(Debug)]
struct FileSender {
    file: Arc<Mutex<File>>,
    format: Format,
}

impl Sender for FileSender {
    async fn send(&self, outgoing: &Outgoing) -> Result<Sent, Failure> {
        let (file, format) = (self.file.clone(), self.format);
        let (signal, bytes) = (outgoing.signal, outgoing.to_bytes());
        let written = blocking(move || {
            let record = record(format, signal, &bytes)?;
            write_whole(&mut file.lock().unwrap_or_else(PoisonError::into_inner), &record)
        });
        match written.await? {
            Ok(()) => Ok(Sent::default()),
            Err(error) => Err(Failure::retryable(format!("the file cannot be written: {error}"))),
        }
    }

    async fn close(&self) {
        let file = self.file.clone();
        let synced =
            tokio::task::spawn_blocking(move || file.lock().unwrap_or_else(PoisonError::into_inner).sync_data());
        // Not every file can be synced (a pipe cannot), and there is nobody left to retry.
        let _best_effort = synced.await;
    }
}

fn record(format: Format, signal: otlp::Signal, bytes: &Bytes) -> io::Result<Vec<u8>> {
    match format {
        Format::Json => {
            let mut line = otlp::json::from_protobuf(signal, bytes);
            line.push(b'\n');
            Ok(line)
        }
        Format::Proto => {
            let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            let mut record = Vec::with_capacity(4 + bytes.len());
            record.extend_from_slice(&length.to_be_bytes());
            record.extend_from_slice(bytes);
            Ok(record)
        }
    }
}

/// Writes all of it, or takes back what was written: half a record would spoil every record behind it.
fn write_whole(file: &mut File, record: &[u8]) -> io::Result<()> {
    let before = file.stream_position();
    let Err(error) = file.write_all(record) else { return Ok(()) };
    if let Ok(before) = before {
        file.set_len(before)?;
        file.seek(SeekFrom::Start(before))?;
    }
    Err(error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_contribs() {
        let read = |value| serde_json::from_value::<Config>(value);
        assert_eq!(read(json!({})).unwrap().validate().unwrap_err().to_string(), "path: path must be non-empty");
        let config = read(json!({"path": "x", "format": "proto", "append": true})).unwrap();
        assert_eq!((config.format, config.append), (Format::Proto, true));
        for later in ["rotation", "compression", "encoding", "group_by", "directory_permissions"] {
            let error = read(json!({"path": "x", later: {}})).unwrap_err().to_string();
            assert!(error.contains("not supported yet"), "{later}: {error}");
        }
        assert!(read(json!({"path": "x", "format": "xml"})).is_err());
    }

    #[test]
    fn a_proto_record_has_its_length_in_front() {
        let bytes = Bytes::from_static(b"abc");
        assert_eq!(record(Format::Proto, otlp::Signal::Traces, &bytes).unwrap(), b"\0\0\0\x03abc");
    }

    /// Writing to `/dev/full` fails as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_not_a_panic() {
        let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(write_whole(&mut full, b"record").is_err());
    }
}
