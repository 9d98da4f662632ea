//! A file for each value of a resource attribute. The value comes from a payload, so it may name a file below the
//! configured path and nothing else.

use super::{
    Form,
    config::{Config, GroupBy},
    output::{Output, create_directories},
};
use crate::{
    exporter::Sent,
    otlp::{Signal, split},
};
use bytes::{Bytes, BytesMut};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value::Value},
    resource::v1::Resource,
};
use prost::Message;
use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    io,
    path::PathBuf,
};

/// So many different files are made in the life of an exporter; resources beyond that are rejected.
const MAX_FILES: usize = 10_000;

/// A value with a longer part is rejected, well before a file system would.
const MAX_PART: usize = 150;

/// A value with more parts is rejected.
const MAX_PARTS: usize = 8;

/// The files of all groups.
#[derive(Debug)]
pub(super) struct Groups {
    /// What stands in front of and behind the value.
    prefix: String,
    suffix: String,
    group_by: GroupBy,
    append: bool,
    mode: u32,
    /// The open files, the one used last at the end.
    open: VecDeque<(PathBuf, Output)>,
    /// Those opened before: opened again, they go on.
    begun: HashSet<PathBuf>,
}

/// A request with the resource of one envelope, and nothing else of it read.
#[derive(Message)]
struct Request {
    #[prost(message, optional, tag = "1")]
    envelope: Option<Envelope>,
}

#[derive(Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
}

impl Groups {
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        let path = config.path.to_str().unwrap_or_default();
        let (prefix, suffix) = path.split_once('*').unwrap_or((path, ""));
        let groups = Groups {
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            group_by: config.group_by.clone().unwrap_or_default(),
            append: config.append,
            mode: config.permissions().map_err(io::Error::other)?,
            open: VecDeque::new(),
            begun: HashSet::new(),
        };
        // What cannot be made is better known at start.
        groups.create_directory(&groups.path(""))?;
        Ok(groups)
    }

    /// Writes each group of a request to its file. Resources without a usable value are rejected.
    pub(super) fn write(&mut self, form: Form, signal: Signal, bytes: &Bytes) -> io::Result<Sent> {
        let mut sent = Sent::default();
        let mut groups: BTreeMap<PathBuf, BytesMut> = BTreeMap::new();
        for range in split::envelopes(bytes) {
            let one = bytes.slice(range);
            match self.path_of(&one) {
                Some(path) => groups.entry(path).or_default().extend_from_slice(&one),
                None => sent.rejected += split::count(signal, &one),
            }
        }
        for (path, request) in groups {
            let request = request.freeze();
            if self.begun.len() >= MAX_FILES && !self.begun.contains(&path) {
                sent.rejected += split::count(signal, &request);
                continue;
            }
            let record = form.record(signal, &request)?;
            match self.output(path) {
                Ok(output) => output.write(&record)?,
                // One group's value must not hold the others up.
                Err(error) if is_the_names_fault(&error) => sent.rejected += split::count(signal, &request),
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Hands everything to the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.open.iter_mut().try_for_each(|(_, output)| output.sync())
    }

    fn path_of(&self, request: &[u8]) -> Option<PathBuf> {
        let resource = Request::decode(request).ok()?.envelope?.resource?;
        let attribute = resource.attributes.into_iter().find(|it| it.key == self.group_by.resource_attribute)?;
        match attribute.value {
            Some(AnyValue { value: Some(Value::StringValue(value)) }) => Some(self.path(&segment(&value)?)),
            _ => None,
        }
    }

    fn path(&self, segment: &str) -> PathBuf {
        PathBuf::from(format!("{}{segment}{}", self.prefix, self.suffix))
    }

    fn output(&mut self, path: PathBuf) -> io::Result<&mut Output> {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == path) {
            if let Some(used) = self.open.remove(at) {
                self.open.push_back(used);
            }
        } else {
            if self.open.len() >= self.group_by.max_open_files {
                self.open.pop_front();
            }
            self.create_directory(&path)?;
            let output = Output::at(path.clone(), self.append || self.begun.contains(&path), None)?;
            self.begun.insert(path.clone());
            self.open.push_back((path, output));
        }
        self.open.back_mut().map(|(_, output)| output).ok_or_else(|| io::Error::other("no file is open"))
    }

    fn create_directory(&self, path: &std::path::Path) -> io::Result<()> {
        match path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => create_directories(directory, self.mode),
            _ => Ok(()),
        }
    }
}

/// Whether a file cannot be opened because of what it is called, now and ever: too long for this file system, or in the
/// place of a directory.
fn is_the_names_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory};
    matches!(error.kind(), AlreadyExists | InvalidFilename | InvalidInput | IsADirectory | NotADirectory)
}

/// The part of a path that a value stands for: its parts by slashes, those that lead elsewhere resolved within the
/// value, characters that a person or another system would misread replaced. None when there is no such part.
fn segment(value: &str) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in value.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part if part.len() > MAX_PART => return None,
            part => parts.push(part.chars().map(plain).collect()),
        }
    }
    // Replaced characters may be longer than those they replace.
    let usable = parts.len() <= MAX_PARTS && parts.iter().all(|part| part.len() <= 2 * MAX_PART);
    usable.then(|| parts.join("/"))
}

/// The character itself, where it is harmless in a file's name on any system.
fn plain(c: char) -> char {
    match c {
        '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => '_',
        c if crate::telemetry::display_safe(c.encode_utf8(&mut [0; 4])).len() != c.len_utf8() => '_',
        c => c,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::{Component, Path};

    #[test]
    fn a_value_names_a_file_below_the_path() {
        let of = |value: &str| segment(value).unwrap();
        assert_eq!(of("team-a"), "team-a");
        assert_eq!(of("team/a/b"), "team/a/b");
        assert_eq!(of("./team"), "team");
        assert_eq!(of("../../etc/passwd"), "etc/passwd");
        assert_eq!(of("a/../../b"), "b");
        assert_eq!(of("/etc/passwd"), "etc/passwd");
        assert_eq!(of(r"..\..\windows"), ".._.._windows");
        assert_eq!(of("C:x"), "C_x");
        assert_eq!(of("a\0b\nc\u{1b}[2J\u{202e}"), "a_b_c_[2J_");
        assert_eq!(of("日本"), "日本");
        assert_eq!(of(""), "");
        assert_eq!(of(".."), "");
        assert_eq!(segment(&"x".repeat(MAX_PART + 1)), None);
        assert_eq!(segment(&"x/".repeat(MAX_PARTS + 1)), None);
    }

    proptest::proptest! {
        #[test]
        fn no_value_leads_out(value in "([./\\\\~:a-c\u{0}\u{2215}\u{ff0e}]|\\.\\.|/){0,40}") {
            let Some(segment) = segment(&value) else { return Ok(()) };
            let path = format!("/safe/dir/{segment}.json");
            let plain = Path::new(&path).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            proptest::prop_assert!(plain && path.starts_with("/safe/dir/") && !path.contains('\0'), "{}", path);
        }
    }
}
