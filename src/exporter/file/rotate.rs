//! Files set aside: `traces.json` becomes `traces-2026-11-20T16-05-09.123-size.json`, the name the Collector gives it.

use super::config::Rotation;
use crate::telemetry::timestamp::civil;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Renames a file that is full. One that is not there any more need not be.
pub(super) fn set_aside(path: &Path, now: SystemTime) -> io::Result<()> {
    let millisecond = Duration::from_millis(1);
    // Two files may be full within a millisecond; a name that is taken is not written over.
    let mut name = aside(path, now);
    for later in 1..=1000 {
        if !name.try_exists()? {
            break;
        }
        name = aside(path, now + millisecond * later);
    }
    match fs::rename(path, name) {
        // Somebody took it away, or the new file could not be made after the last rename.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

/// Removes files that were set aside too long ago, or before enough others.
pub(super) fn remove_old(path: &Path, rotation: Rotation, now: SystemTime) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside: Vec<String> = Vec::new();
    for entry in fs::read_dir(directory)? {
        if let Ok(name) = entry?.file_name().into_string()
            && stamp(path, &name).is_some()
        {
            aside.push(name);
        }
    }
    // Names sort by time, newest last.
    aside.sort();
    let beyond = match rotation.max_backups {
        0 => 0,
        keep => aside.len().saturating_sub(keep),
    };
    let days = Duration::from_secs(rotation.max_days.saturating_mul(86_400));
    let oldest = now.checked_sub(days).filter(|_| rotation.max_days > 0).map(time_text);
    for (i, name) in aside.iter().enumerate() {
        let too_old = oldest.as_deref().is_some_and(|oldest| stamp(path, name).is_some_and(|stamp| stamp < oldest));
        if i < beyond || too_old {
            fs::remove_file(directory.join(name))?;
        }
    }
    Ok(())
}

/// The file's stem and its extension with the dot.
fn stem_and_extension(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.rfind('.') {
        Some(dot) => (name[..dot].to_owned(), name[dot..].to_owned()),
        None => (name, String::new()),
    }
}

const REASON: &str = "-size";

fn aside(path: &Path, now: SystemTime) -> PathBuf {
    let (stem, extension) = stem_and_extension(path);
    path.with_file_name(format!("{stem}-{}{REASON}{extension}", time_text(now)))
}

/// The time in the name of a file that was set aside; none in any other name.
fn stamp<'a>(path: &Path, name: &'a str) -> Option<&'a str> {
    let (stem, extension) = stem_and_extension(path);
    let stamp = name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension)?.strip_suffix(REASON)?;
    let form = |(byte, form): (u8, u8)| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
    (stamp.len() == FORM.len() && stamp.bytes().zip(FORM.bytes()).all(form)).then_some(stamp)
}

const FORM: &str = "0000-00-00T00-00-00.000";

fn time_text(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{:03}", since.subsec_millis())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 123)
    }

    #[test]
    fn the_time_stands_in_front_of_the_extension() {
        let name = |path: &str| aside(Path::new(path), at(1_663_131_734)).to_str().unwrap().to_owned();
        assert_eq!(name("dir/data.json"), "dir/data-2022-09-14T05-02-14.123-size.json");
        assert_eq!(name("data"), "data-2022-09-14T05-02-14.123-size");
        assert_eq!(name("a.b.c"), "a.b-2022-09-14T05-02-14.123-size.c");
    }

    #[test]
    fn only_names_of_our_own_are_taken_for_old_files() {
        let stamped = |name: &str| stamp(Path::new("/x/data.json"), name).is_some();
        assert!(stamped("data-2022-09-14T05-02-14.123-size.json"));
        for other in [
            "data.json",
            "data-2022-09-14T05-02-14.123.json",
            "data-2022-09-14T05-02-14.123-size.jsonl",
            "data-2022-09-14T05-02-1x.123-size.json",
            "data-old-2022-09-14T05-02-14.123-size.json",
            "other-2022-09-14T05-02-14.123-size.json",
            "data-secret-size.json",
        ] {
            assert!(!stamped(other), "{other}");
        }
    }

    #[test]
    fn the_oldest_go_first_by_number_and_by_age() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.json");
        let day = 86_400;
        let list = || {
            let mut names: Vec<String> = fs::read_dir(directory.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        for days in [1, 2, 3, 4] {
            fs::write(&path, "x").unwrap();
            set_aside(&path, at(days * day)).unwrap();
        }
        fs::write(directory.path().join("data-precious-size.json"), "x").unwrap();
        let rotation = |max_days, max_backups| Rotation { max_days, max_backups, ..Rotation::default() };
        remove_old(&path, rotation(0, 0), at(5 * day)).unwrap();
        assert_eq!(list().len(), 5);
        remove_old(&path, rotation(0, 3), at(5 * day)).unwrap();
        assert_eq!(list()[0], "data-1970-01-03T00-00-00.123-size.json");
        remove_old(&path, rotation(1, 0), at(5 * day)).unwrap();
        assert_eq!(list(), ["data-1970-01-05T00-00-00.123-size.json", "data-precious-size.json"]);
    }

    #[test]
    fn a_name_that_is_taken_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.json");
        for content in ["one", "two"] {
            fs::write(&path, content).unwrap();
            set_aside(&path, at(0)).unwrap();
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
