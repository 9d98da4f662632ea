//! Unix sockets: their paths, their files, and what a process that is gone has left.

use crate::config::ConfigError;
use std::{
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::{UnixListener, UnixStream};

/// Who may connect to a unix socket: its owner and its group. The group is the process's; the directory's permissions
/// narrow it further.
const SOCKET_MODE: u32 = 0o660;

/// The longest path of a unix socket in bytes, on Linux (`sun_path` with its end).
const MAX_SOCKET_PATH: usize = 107;

/// Checks an endpoint without listening.
pub(super) fn check(endpoint: &str) -> Result<(), ConfigError> {
    let error =
        |text: &str| ConfigError::new("endpoint", text).with_hint("write a path, such as /run/tracegate/otlp.sock");
    match socket_path(endpoint).len() {
        0 => Err(error("unix socket path cannot be empty")),
        n if n > MAX_SOCKET_PATH => Err(error("unix socket path is longer than 107 bytes")),
        _ => Ok(()),
    }
}

/// The path in an endpoint: as it is, or behind `unix:` or `unix://`.
fn socket_path(endpoint: &str) -> &str {
    endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint)
}

/// Listens, and answers the path as well; a name in the abstract namespace has no file.
pub(super) async fn bind(endpoint: &str) -> io::Result<(UnixListener, Option<SocketFile>, PathBuf)> {
    let name = socket_path(endpoint);
    if let Some(abstract_name) = name.strip_prefix('@') {
        let listener = UnixListener::bind(format!("\0{abstract_name}"))?;
        return Ok((listener, None, name.into()));
    }
    let path = Path::new(name);
    make_room(path).await?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile::made(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok((listener, Some(file), path.to_owned()))
}

/// Removes the socket of a process that is gone. Nothing else is ever removed.
async fn make_room(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is in the way"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Somebody listens, or it is not ours to know.
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

/// The file of our own socket; removed with it, unless another process has put its own there.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn made(path: &Path) -> io::Result<Self> {
        let made = std::fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), identity: (made.dev(), made.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if ours {
            // What cannot be removed is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Listener, Transport, tests::PLACE};
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_or_another_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let endpoint = path.to_str().unwrap();
        // A listener of the standard library leaves its file behind, as a killed process does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::bind(Transport::Unix, endpoint, PLACE).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(listener.address().to_string(), format!("unix:{endpoint}"));

        let error = Listener::bind(Transport::Unix, endpoint, PLACE).await.unwrap_err();
        assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse, "somebody listens");
        assert!(error.advice.contains("--set a.endpoint="), "{error}");
        assert!(path.exists());
        drop(listener);
        assert!(!path.exists(), "removed with its listener");

        std::fs::write(&path, "precious").unwrap();
        let error = Listener::bind(Transport::Unix, endpoint, PLACE).await.unwrap_err();
        assert!(error.to_string().contains("not a socket is in the way; move it away"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let nowhere = directory.path().join("none/s.sock");
        let error = Listener::bind(Transport::Unix, nowhere.to_str().unwrap(), PLACE).await.unwrap_err();
        assert!(error.to_string().contains("make the directory first"), "{error}");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let first = Listener::bind(Transport::Unix, path.to_str().unwrap(), PLACE).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = Listener::bind(Transport::Unix, path.to_str().unwrap(), PLACE).await.unwrap();
        drop(first);
        assert!(UnixStream::connect(&path).await.is_ok());
    }
}
