//! One open file, written a whole record at a time.

use super::{
    config::{Config, Rotation},
    private, rotate,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    path: PathBuf,
    /// The size beyond which a new file is begun, and what becomes of the old ones.
    rotation: Option<Rotation>,
    open: Open,
}

/// The files that are open in this process, by device and inode, and how often.
static OPEN: Mutex<BTreeMap<(u64, u64), usize>> = Mutex::new(BTreeMap::new());

/// An entry among the open files.
#[derive(Debug)]
struct Open((u64, u64));

impl Open {
    /// Enters a file; whether it was open before.
    fn enter(file: &File) -> io::Result<(Self, bool)> {
        let found = file.metadata()?;
        let key = (found.dev(), found.ino());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let times = open.entry(key).or_insert(0);
        *times += 1;
        Ok((Open(key), *times > 1))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let last = open.get_mut(&self.0).is_none_or(|times| {
            *times -= 1;
            *times == 0
        });
        if last {
            open.remove(&self.0);
        }
    }
}

impl Output {
    /// Opens the configured file.
    pub(super) fn open(config: &Config) -> io::Result<Self> {
        if config.create_directory
            && let Some(directory) = config.path.parent()
        {
            let mode = config.permissions().map_err(io::Error::other)?;
            create_directories(directory, mode)?;
        }
        // A rotated file goes on where it ended.
        Self::at(config.path.clone(), config.append || config.rotation.is_some(), config.rotation)
    }

    /// Opens a file, to go on at its end or to begin anew. What this process has open already goes on: a reload does not
    /// destroy what was written under the configuration before, least of all one that fails.
    pub(super) fn at(path: PathBuf, append: bool, rotation: Option<Rotation>) -> io::Result<Self> {
        // Whoever else writes to it, as what a reload replaces does until its queue is empty: nothing is written over.
        let file = private().append(true).open(&path)?;
        let (open, others) = Open::enter(&file)?;
        if !append && !others && file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        warn_if_others_may_read(&file, &path)?;
        Ok(Output { file, path, rotation, open })
    }

    /// Writes all of a record, or takes back what was written: half a record would spoil every record behind it.
    pub(super) fn write(&mut self, record: &[u8]) -> io::Result<()> {
        self.rotate_before(record.len() as u64)?;
        let before = self.end();
        let Err(error) = self.file.write_all(record) else { return Ok(()) };
        if let Ok(before) = before {
            self.file.set_len(before)?;
        }
        Err(error)
    }

    /// How long the file is. Pipes and terminals have no end.
    fn end(&mut self) -> io::Result<u64> {
        self.file.seek(SeekFrom::End(0))
    }

    /// Hands everything to the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn rotate_before(&mut self, more: u64) -> io::Result<()> {
        let Some(rotation) = self.rotation else { return Ok(()) };
        let size = self.end()?;
        let max = if rotation.max_megabytes == 0 { 100 } else { rotation.max_megabytes };
        // A record that is itself too large stands alone.
        if size == 0 || size.saturating_add(more) <= max.saturating_mul(1024 * 1024) {
            return Ok(());
        }
        let now = SystemTime::now();
        self.file.sync_data()?;
        rotate::set_aside(&self.path, now)?;
        self.file = private().append(true).create_new(true).open(&self.path)?;
        self.open = Open::enter(&self.file)?.0;
        // What cannot be removed now is tried again at the next rotation.
        let _next_time = rotate::remove_old(&self.path, rotation, now);
        Ok(())
    }
}

fn warn_if_others_may_read(file: &File, path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let found = file.metadata()?;
        if found.is_file() && found.permissions().mode() & 0o077 != 0 {
            let path = path.display().to_string();
            let path = crate::telemetry::display_safe(&path);
            tracing::warn!(%path, "the file was there already and others may read or write it");
        }
    }
    Ok(())
}

pub(super) fn create_directories(directory: &Path, mode: u32) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    builder.create(directory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Writing to `/dev/full` fails as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_not_a_panic() {
        let mut full = Output::at("/dev/full".into(), true, None).unwrap();
        assert!(full.write(b"record").is_err());
    }

    #[test]
    fn two_outputs_to_one_file_write_behind_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.json");
        std::fs::write(&path, "old\n").unwrap();
        let mut before = Output::at(path.clone(), false, None).unwrap();
        before.write(b"1\n").unwrap();
        let mut after = Output::at(path.clone(), false, None).unwrap();
        after.write(b"2\n").unwrap();
        before.write(b"3\n").unwrap();
        after.write(b"4\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n4\n");
        drop((before, after));
        drop(Output::at(path.clone(), false, None).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "", "a start begins anew");
    }

    #[test]
    fn rotation_goes_on_when_the_file_was_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.json");
        let mut output =
            Output::at(path.clone(), true, Some(Rotation { max_megabytes: 1, ..Rotation::default() })).unwrap();
        let record = vec![b'x'; 600 * 1024];
        output.write(&record).unwrap();
        std::fs::remove_file(&path).unwrap();
        output.write(&record).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), record.len() as u64);
    }
}
