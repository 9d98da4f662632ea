//! Where the debug exporter prints: standard output or error, files, or several of them.

use super::Config;
use crate::config::ConfigError;
use std::io::{self, IsTerminal, Write};

/// Where to print.
pub struct Output {
    /// Written to from one thread; may block, may fail.
    pub writer: Box<dyn Write + Send>,
    /// Whether markers are highlighted with terminal colours.
    pub color: bool,
}

impl Output {
    /// Opens what the configuration asks for.
    pub(super) fn open(config: &Config) -> Result<Self, ConfigError> {
        let default = [STDOUT.to_owned()];
        let paths = config.output_paths.as_deref().unwrap_or(&default);
        let color = |terminal: bool| terminal && std::env::var_os("NO_COLOR").is_none();
        match paths {
            [one] if one == STDOUT => {
                return Ok(Output { writer: Box::new(io::stdout()), color: color(io::stdout().is_terminal()) });
            }
            [one] if one == STDERR => {
                return Ok(Output { writer: Box::new(io::stderr()), color: color(io::stderr().is_terminal()) });
            }
            _ => {}
        }
        let open = |path: &String| -> Result<Box<dyn Write + Send>, ConfigError> {
            match path.as_str() {
                STDOUT => Ok(Box::new(io::stdout())),
                STDERR => Ok(Box::new(io::stderr())),
                path => match crate::exporter::file::private().append(true).open(path) {
                    Ok(file) => Ok(Box::new(file)),
                    Err(error) => Err(ConfigError::new("output_paths", format!("cannot be opened: {error}"))),
                },
            }
        };
        let writers = paths.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Output { writer: Box::new(Everywhere(writers)), color: false })
    }
}

const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";

/// Writes the same to all of them. One that fails does not keep the others from it.
struct Everywhere(Vec<Box<dyn Write + Send>>);

impl Write for Everywhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut last = Err(io::Error::from(io::ErrorKind::BrokenPipe));
        self.0.retain_mut(|writer| {
            let written = writer.write_all(bytes);
            let keep = written.is_ok();
            if keep || last.is_err() {
                last = written.map(|()| bytes.len());
            }
            keep
        });
        last
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|writer| writer.flush())
    }
}
