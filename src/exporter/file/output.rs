//! One open file, written a whole record at a time.

use super::{
    config::{Config, Rotation},
    private, rotate,
};
use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    path: PathBuf,
    /// The size beyond which a new file is begun, and what becomes of the old ones.
    rotation: Option<Rotation>,
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

    /// Opens a file, to go on at its end or to begin anew.
    pub(super) fn at(path: PathBuf, append: bool, rotation: Option<Rotation>) -> io::Result<Self> {
        let mut file = private().write(true).open(&path)?;
        if append {
            file.seek(SeekFrom::End(0)).or_else(ignore_unseekable)?;
        } else if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        warn_if_others_may_read(&file, &path)?;
        Ok(Output { file, path, rotation })
    }

    /// Writes all of a record, or takes back what was written: half a record would spoil every record behind it.
    pub(super) fn write(&mut self, record: &[u8]) -> io::Result<()> {
        self.rotate_before(record.len() as u64)?;
        let before = self.file.stream_position();
        let Err(error) = self.file.write_all(record) else { return Ok(()) };
        if let Ok(before) = before {
            self.file.set_len(before)?;
            self.file.seek(SeekFrom::Start(before))?;
        }
        Err(error)
    }

    /// Hands everything to the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn rotate_before(&mut self, more: u64) -> io::Result<()> {
        let Some(rotation) = self.rotation else { return Ok(()) };
        let size = self.file.stream_position()?;
        let max = if rotation.max_megabytes == 0 { 100 } else { rotation.max_megabytes };
        // A record that is itself too large stands alone.
        if size == 0 || size.saturating_add(more) <= max.saturating_mul(1024 * 1024) {
            return Ok(());
        }
        let now = SystemTime::now();
        self.file.sync_data()?;
        rotate::set_aside(&self.path, now)?;
        self.file = private().write(true).create_new(true).open(&self.path)?;
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

/// Pipes and terminals have no position.
fn ignore_unseekable(error: io::Error) -> io::Result<u64> {
    if error.kind() == io::ErrorKind::NotSeekable { Ok(0) } else { Err(error) }
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
}
