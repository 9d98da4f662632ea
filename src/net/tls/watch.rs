//! Looking at files again and again, and using what changed.

use super::pem::read;
use crate::config::ConfigError;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How often files are looked at where `reload_interval` is not set.
pub const DEFAULT_RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// The least interval: a smaller one would only burn time.
const LEAST_INTERVAL: Duration = Duration::from_millis(20);

/// Something made from files.
pub(crate) trait Reload: Send + Sync + 'static {
    /// What the files are for: what the log's sentences begin with.
    const WHAT: &'static str;
    /// What is the first to see changed files, such as `handshake`.
    const FIRST: &'static str;

    /// Reads the files and uses them from now on; on an error nothing changes.
    fn reload(&self) -> Result<(), ConfigError>;
}

/// The content of files, to see whether it changed. Content and not the time of change: links that are moved and files
/// that are written twice within a tick of the clock are seen too.
#[derive(Debug)]
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    seen: AtomicU64,
}

impl Files {
    /// Remembers what the files hold now; call it before reading them for use, so that no change is missed.
    pub(crate) fn now<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().map(Path::to_owned).collect();
        let seen = AtomicU64::new(digest(&paths));
        Files { paths, seen }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether they differ from when they were last looked at.
    fn changed(&self) -> bool {
        let digest = digest(&self.paths);
        self.seen.swap(digest, Ordering::Relaxed) != digest
    }

    fn names(&self) -> String {
        self.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

fn digest(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        read(path).map_err(|error| error.kind()).hash(&mut hasher);
    }
    hasher.finish()
}

/// Watches `files` on behalf of `made` for as long as somebody else holds it. Zero means the default interval. Outside
/// a runtime nothing is watched, because nothing can connect there either.
pub(crate) fn watch<R: Reload>(made: &Arc<R>, files: Files, interval: Duration) {
    if files.is_empty() {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let interval = if interval.is_zero() { DEFAULT_RELOAD_INTERVAL } else { interval.max(LEAST_INTERVAL) };
    let (made, files) = (Arc::downgrade(made), Arc::new(files));
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let Some(made) = made.upgrade() else { return };
            let files = files.clone();
            // A file system may take its time, and a panic there must not end the watch.
            let _ = tokio::task::spawn_blocking(move || look(&*made, &files)).await;
        }
    });
}

fn look<R: Reload>(made: &R, files: &Files) {
    let (what, first) = (R::WHAT, R::FIRST);
    if !files.changed() {
        return;
    }
    match made.reload() {
        Ok(()) => tracing::info!(files = files.names(), "{what}: changed files are in use from the next {first} on"),
        Err(error) => tracing::warn!(
            files = files.names(),
            %error,
            "{what}: changed files cannot be used; what was in use stays until they change again"
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn content_counts_and_links_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("one"), "1").unwrap();
        std::fs::write(at("two"), "2").unwrap();
        std::os::unix::fs::symlink(at("one"), at("link")).unwrap();
        let files = Files::now([at("link").as_path()]);
        assert!(!files.changed());
        std::fs::write(at("one"), "1").unwrap();
        assert!(!files.changed(), "written again, but the same");
        std::os::unix::fs::symlink(at("two"), at("next")).unwrap();
        std::fs::rename(at("next"), at("link")).unwrap();
        assert!(files.changed(), "as a mounted secret changes");
        std::fs::remove_file(at("link")).unwrap();
        assert!(files.changed());
        assert!(!files.changed(), "said once");
    }
}
