//! The contrib Collector's `file` exporter in YAML.

use crate::{
    config::{
        ConfigError,
        types::{Duration, present},
    },
    exporter::{Later, Note},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::path::PathBuf;

/// `exporters: file:`, with the contrib Collector's keys and defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file. Made with mode 0600: what was not recognised as a secret is in it.
    pub path: PathBuf,
    /// `json` (default) or `proto`.
    pub format: Format,
    /// Keep what is in the file; otherwise it is emptied at start.
    pub append: bool,
    /// Begins a new file now and then; what is in the file at start is kept.
    #[serde(deserialize_with = "present")]
    pub rotation: Option<Rotation>,
    /// None or `zstd`, each request by itself.
    pub compression: Compress,
    /// Every request is written through at once, which meets any interval.
    pub flush_interval: Duration,
    /// A file for each value of a resource attribute.
    #[serde(deserialize_with = "present")]
    pub group_by: Option<GroupBy>,
    /// Make missing directories.
    pub create_directory: bool,
    /// The mode of directories made, in octal digits, less the process's umask. `0700` when absent, where the Collector
    /// has `0755`.
    pub directory_permissions: String,
    encoding: Option<Later>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            path: PathBuf::new(),
            format: Format::Json,
            append: false,
            rotation: None,
            compression: Compress::None,
            flush_interval: Duration::secs(1),
            group_by: None,
            create_directory: false,
            directory_permissions: String::new(),
            encoding: None,
        }
    }
}

/// How requests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One OTLP/JSON export request per line.
    Json,
    /// Each request as protobuf, its length in front as four bytes, big-endian.
    Proto,
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "json" => Ok(Format::Json),
            "proto" => Ok(Format::Proto),
            _ => Err(D::Error::custom("format type is not supported; use json or proto")),
        }
    }
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// Not at all.
    #[default]
    None,
    /// Each request a zstd frame, its length in front as four bytes, big-endian.
    Zstd,
}

impl<'de> Deserialize<'de> for Compress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Ok(Compress::None),
            "zstd" => Ok(Compress::Zstd),
            _ => Err(D::Error::custom("compression is not supported; use zstd or remove the key")),
        }
    }
}

/// The Collector's `rotation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// A file that would grow beyond so many MiB is renamed, and a new one begun; 0 means 100.
    pub max_megabytes: u64,
    /// Renamed files older than so many days are removed; 0 keeps them.
    pub max_days: u64,
    /// Of renamed files so many are kept; 0 keeps all.
    pub max_backups: usize,
    /// Has no effect: names carry times in UTC; see [`Config::notes`].
    pub localtime: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Rotation { max_megabytes: 100, max_days: 0, max_backups: 100, localtime: false }
    }
}

/// The Collector's `group_by`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupBy {
    /// Whether to group at all.
    pub enabled: bool,
    /// The resource attribute whose value stands for the `*` in the path. Resources without it are rejected.
    pub resource_attribute: String,
    /// Files open at the same time.
    pub max_open_files: usize,
}

impl Default for GroupBy {
    fn default() -> Self {
        GroupBy { enabled: false, resource_attribute: "fileexporter.path_segment".to_owned(), max_open_files: 100 }
    }
}

impl Config {
    /// Checks what can be checked without touching the file, with the Collector's texts.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |what: &str| Err(ConfigError::new("", what));
        if self.path.as_os_str().is_empty() {
            return Err(ConfigError::new("path", "path must be non-empty"));
        }
        if self.append && self.compression != Compress::None {
            return invalid("append and compression enabled at the same time is not supported");
        }
        if self.append && self.rotation.is_some() {
            return invalid("append and rotation enabled at the same time is not supported");
        }
        if let Some(group_by) = self.group_by.as_ref().filter(|group_by| group_by.enabled) {
            self.validate_groups(group_by)?;
        }
        self.permissions().map(|_| ())
    }

    fn validate_groups(&self, group_by: &GroupBy) -> Result<(), ConfigError> {
        let Some(path) = self.path.to_str() else {
            return Err(ConfigError::new("path", "must be UTF-8 when group_by is enabled"));
        };
        if path.matches('*').count() != 1 {
            return Err(ConfigError::new("path", "path must contain exactly one * when group_by is enabled"));
        }
        if path.starts_with('*') {
            return Err(ConfigError::new("path", "path must not start with * when group_by is enabled"));
        }
        if group_by.resource_attribute.is_empty() {
            return Err(ConfigError::new(
                "group_by::resource_attribute",
                "resource_attribute must not be empty when group_by is enabled",
            ));
        }
        if group_by.max_open_files == 0 {
            return Err(ConfigError::new("group_by::max_open_files", "must be positive"));
        }
        Ok(())
    }

    /// Keys that are taken and have no effect.
    pub fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        if self.grouped() && self.rotation.is_some() {
            notes.push(Note { key: "rotation", why: "files of group_by are not rotated, as in the Collector" });
        }
        if self.rotation.is_some_and(|rotation| rotation.localtime) {
            notes.push(Note { key: "rotation::localtime", why: "names of rotated files carry times in UTC" });
        }
        notes
    }

    /// Whether there is a file for each group.
    pub(super) fn grouped(&self) -> bool {
        self.group_by.as_ref().is_some_and(|group_by| group_by.enabled)
    }

    /// The mode of directories made.
    pub(super) fn permissions(&self) -> Result<u32, ConfigError> {
        let invalid = |what: &str| Err(ConfigError::new("directory_permissions", what));
        if self.directory_permissions.is_empty() {
            return Ok(0o700);
        }
        if !self.create_directory {
            return invalid("directory_permissions requires create_directory to be true");
        }
        match u32::from_str_radix(&self.directory_permissions, 8) {
            Err(_) => invalid("directory_permissions value must be a valid octal representation"),
            Ok(mode) if mode & 0o777 != mode => invalid("directory_permissions contain invalid bits for file access"),
            Ok(mode) => Ok(mode),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(more: Value) -> Result<Config, serde_json::Error> {
        let mut all = json!({"path": "x"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all)
    }

    fn error(more: Value) -> String {
        match read(more) {
            Ok(config) => config.validate().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn keys_and_defaults_are_contribs() {
        let plain = read(json!({})).unwrap();
        assert!(plain.validate().is_ok());
        assert_eq!((plain.format, plain.append, plain.rotation), (Format::Json, false, None));
        let rotation = read(json!({"rotation": {}})).unwrap().rotation.unwrap();
        assert_eq!((rotation.max_megabytes, rotation.max_days, rotation.max_backups), (100, 0, 100));
        let group_by = read(json!({"group_by": {"enabled": true}, "path": "a/*.json"})).unwrap();
        assert!(group_by.validate().is_ok() && group_by.grouped());
        let group_by = group_by.group_by.unwrap();
        assert_eq!((&*group_by.resource_attribute, group_by.max_open_files), ("fileexporter.path_segment", 100));
        assert_eq!(plain.permissions(), Ok(0o700));
        let mode = read(json!({"create_directory": true, "directory_permissions": "0755"})).unwrap();
        assert_eq!(mode.permissions(), Ok(0o755));
    }

    #[test]
    fn errors_have_contribs_texts() {
        for (more, want) in [
            (json!({"path": ""}), "path: path must be non-empty"),
            (
                json!({"append": true, "compression": "zstd"}),
                "append and compression enabled at the same time is not supported",
            ),
            (json!({"append": true, "rotation": {}}), "append and rotation enabled at the same time is not supported"),
            (json!({"format": "xml"}), "format type is not supported; use json or proto"),
            (json!({"compression": "gzip"}), "compression is not supported; use zstd or remove the key"),
            (json!({"group_by": {"enabled": true}}), "path: path must contain exactly one * when group_by is enabled"),
            (
                json!({"path": "*/x", "group_by": {"enabled": true}}),
                "path: path must not start with * when group_by is enabled",
            ),
            (
                json!({"path": "a*", "group_by": {"enabled": true, "resource_attribute": ""}}),
                "group_by::resource_attribute: resource_attribute must not be empty when group_by is enabled",
            ),
            (
                json!({"create_directory": true, "directory_permissions": "rwx"}),
                "directory_permissions: directory_permissions value must be a valid octal representation",
            ),
            (
                json!({"create_directory": true, "directory_permissions": "1777"}),
                "directory_permissions: directory_permissions contain invalid bits for file access",
            ),
            (
                json!({"directory_permissions": "0755"}),
                "directory_permissions: directory_permissions requires create_directory to be true",
            ),
        ] {
            assert_eq!(error(more), want);
        }
        assert!(error(json!({"encoding": "otlp_encoding"})).contains("not supported yet"));
        assert!(error(json!({"flush_interval": "-1s"})).contains("must not be negative"));
        assert!(error(json!({"path": "a*", "group_by": {"enabled": true, "max_open_files": 0}})).contains("positive"));
    }
}
