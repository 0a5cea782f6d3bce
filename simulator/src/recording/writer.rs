//! The file of a recording that is being written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Header, Line, MAX_RECORDING, RecordedRequest, VERSION};
use crate::control::journal::CallId;
use crate::http::call::Call;
use crate::http::reply::Reply;

/// A file to which calls are recorded.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    file: File,
    size: usize,
    max: usize,
    /// The first error. Nothing is written after it.
    error: Option<String>,
}

impl Recording {
    /// Creates the file, and writes its first line. An older recording is replaced.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be written, or if it exists, is not empty and is no recording.
    pub fn create(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("creating {} failed: {error}", path.display());
        if !is_replaceable(path).map_err(failed)? {
            return Err(format!(
                "{} exists and is no recording. It is not replaced",
                path.display()
            ));
        }
        let mut recording = Self {
            path: path.into(),
            file: File::create(path).map_err(failed)?,
            size: 0,
            max: MAX_RECORDING,
            error: None,
        };
        recording.write_line(&Header {
            leadgate_recording: VERSION,
        });
        match recording.error.take() {
            Some(error) => Err(error),
            None => Ok(recording),
        }
    }

    /// Returns the first error.
    pub(super) fn error(&self) -> Option<String> {
        self.error.clone()
    }

    /// Writes a call. `reply` is `None` if the connection is closed without a response.
    pub(super) fn write(&mut self, id: CallId, call: &Call, reply: Option<&Reply>) {
        if self.error.is_some() {
            return;
        }
        self.write_line(&Line {
            call: Some(id.0),
            request: RecordedRequest::new(call),
            response: reply.cloned(),
        });
    }

    fn write_line(&mut self, line: &impl Serialize) {
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.size += line.len();
            if self.size > self.max {
                return Err(io::Error::other(format!(
                    "a recording has at most {} MiB",
                    self.max >> 20
                )));
            }
            self.file.write_all(&line)
        });
        if let Err(error) = written {
            self.error = Some(format!("writing {} failed: {error}", self.path.display()));
        }
    }
}

/// Whether there is no file with contents, or a recording, or something else than a file, such as a pipe.
fn is_replaceable(path: &Path) -> io::Result<bool> {
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_file() || metadata.len() == 0 => return Ok(true),
        Ok(_) => {}
    }
    let mut first = Vec::new();
    BufReader::new(File::open(path)?)
        .take(1_000)
        .read_until(b'\n', &mut first)?;
    Ok(serde_json::from_slice::<Header>(&first).is_ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::{TestServer, attributes};

    #[test]
    fn only_a_recording_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        std::fs::write(&path, "[{}]").unwrap();
        let error = Recording::create(&path).unwrap_err();
        assert!(error.contains("calls.jsonl exists and is no recording"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"[{}]");

        std::fs::write(&path, "{\"leadgate_recording\":1}\n{\"old\":1}\n").unwrap();
        Recording::create(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"leadgate_recording\":1}\n");

        std::fs::write(&path, "").unwrap();
        Recording::create(&path).unwrap();
        let error = Recording::create(folder.path()).unwrap_err();
        assert!(error.starts_with("creating ") && error.contains("directory"), "{error}");
        let error = Recording::create(&folder.path().join("none/calls.jsonl")).unwrap_err();
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let error = Recording::create(Path::new("/dev/full")).unwrap_err();
        assert!(error.starts_with("writing /dev/full failed: No space left"), "{error}");
    }

    #[tokio::test]
    async fn a_recording_that_cannot_be_written_stops_the_simulator() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let mut recording = Recording::create(&path).unwrap();
        recording.max = 2_000;
        let server = TestServer::new(|_| {});
        server.simulator.record(recording);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serving = server.simulator.clone().serve(listener, std::future::pending());
        let calls = async {
            server.create(&[("FirstName", "Ann")]).await;
            let large = "x".repeat(2_000);
            server.post("Lead.Create", attributes(&[("FirstName", &large)])).await;
            // Nothing follows the line that was not written.
            server.create(&[("FirstName", "Ben")]).await;
        };
        let (served, ()) = tokio::join!(serving, calls);
        let error = served.unwrap_err().to_string();
        assert!(error.contains("calls.jsonl failed: a recording has at most"), "{error}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() == 2 && !text.contains("Ben"), "{text}");
    }
}
