//! Writes the lines of the audit in a thread of its own. A disk that is full or hangs delays mutations for a limited time, and
//! nothing else.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::file::AuditFile;
use super::line::Line;
use super::{AuditSettings, Target, cannot_write};
use crate::telemetry::metrics::Metrics;

/// Maximum time that a mutation waits until a line is written. A write usually takes some microseconds.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of lines that wait to be written. Reached only while the disk hangs.
const QUEUE: usize = 100_000;
/// Without lines, the path is compared in this interval, so that a deleted file is closed.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// The audit of the process. Clones share it.
#[derive(Clone)]
pub struct AuditLog(Arc<Writer>);

struct Writer {
    is_required: bool,
    queue: Arc<Semaphore>,
    /// Ends the thread when it is dropped.
    commands: Mutex<Sender<Command>>,
    state: Arc<WriterState>,
}

/// What the writer thread shares with the waiting mutations.
struct WriterState {
    /// Why the last line was not written.
    error: Mutex<Option<String>>,
    metrics: Arc<Metrics>,
}

enum Command {
    Append {
        line: Vec<u8>,
        written: oneshot::Sender<Result<(), Unwritten>>,
        _permit: OwnedSemaphorePermit,
    },
    Flush(oneshot::Sender<()>),
}

/// A line was not written. The error is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unwritten;

impl AuditLog {
    /// Opens the file and starts the thread. `None`: there is no audit. Fails with a text for operators.
    pub async fn open(settings: &AuditSettings, metrics: Arc<Metrics>) -> Result<Option<Self>, String> {
        let Some(target) = settings.target() else {
            return Ok(None);
        };
        let opening = tokio::task::spawn_blocking(move || {
            let mut file = AuditFile::new(target.clone());
            match (file.reopen(), target) {
                (Ok(()), _) => Ok(file),
                (Err(error), Target::File(path)) => Err(cannot_write(&path, &error)),
                (Err(error), Target::Stdout) => Err(format!("audit.file: standard output cannot be written: {error}")),
            }
        });
        let file = opening
            .await
            .map_err(|error| format!("opening audit.file failed: {error}"))??;
        let state = Arc::new(WriterState {
            error: Mutex::default(),
            metrics,
        });
        let (commands, received) = mpsc::channel();
        let thread = {
            let state = state.clone();
            std::thread::Builder::new()
                .name("audit".to_owned())
                .spawn(move || run(file, &received, &state))
        };
        thread.map_err(|error| format!("starting the thread of the audit failed: {error}"))?;
        Ok(Some(Self(Arc::new(Writer {
            is_required: settings.required,
            queue: Arc::new(Semaphore::new(QUEUE)),
            commands: Mutex::new(commands),
            state,
        }))))
    }

    /// Whether a mutation fails if its line cannot be written before it is sent.
    pub(super) fn is_required(&self) -> bool {
        self.0.is_required
    }

    /// Returns why the last line was not written. `None`: it was written.
    pub fn error(&self) -> Option<String> {
        self.0.state.error().clone()
    }

    /// Appends a line and waits until the kernel has it.
    pub(super) async fn append(&self, line: &Line<'_>) -> Result<(), Unwritten> {
        let written = self.send(line)?;
        let error = match tokio::time::timeout(WRITE_TIMEOUT, written).await {
            Ok(Ok(written)) => return written,
            Ok(Err(_)) => "the thread of the audit has ended".to_owned(),
            Err(_) => format!("a write takes more than {WRITE_TIMEOUT:?}"),
        };
        self.0.state.failed(error);
        Err(Unwritten)
    }

    /// Appends a line without waiting.
    pub(super) fn append_later(&self, line: &Line<'_>) {
        // The writer logs and counts an error.
        let _ = self.send(line);
    }

    /// Waits a limited time until all lines are written.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.command(Command::Flush(done));
        if tokio::time::timeout(WRITE_TIMEOUT, flushed).await.is_err() {
            tracing::error!("writing the last lines of the audit timed out");
        }
    }

    /// Puts a line into the queue. From then on it is written also if its mutation is dropped.
    fn send(&self, line: &Line<'_>) -> Result<oneshot::Receiver<Result<(), Unwritten>>, Unwritten> {
        let Ok(permit) = self.0.queue.clone().try_acquire_owned() else {
            self.0.state.failed(format!("{QUEUE} lines wait to be written"));
            return Err(Unwritten);
        };
        let (written, receiver) = oneshot::channel();
        self.command(Command::Append {
            line: line.encode(),
            written,
            _permit: permit,
        });
        Ok(receiver)
    }

    fn command(&self, command: Command) {
        // Fails only if the thread has panicked. Then the receiver of the result is closed.
        let _ = lock(&self.0.commands).send(command);
    }
}

impl WriterState {
    fn error(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.error)
    }

    /// Counts a line that was not written, and logs the first one.
    fn failed(&self, error: String) {
        self.metrics.audit_failed();
        let mut last = self.error();
        if last.is_none() {
            tracing::error!(error, "writing to the audit failed");
        }
        *last = Some(error);
    }

    fn written(&self) {
        self.metrics.audit_written();
        if self.error().take().is_some() {
            tracing::info!("the audit can be written again");
        }
    }

    fn note(&self, appended: io::Result<()>) -> Result<(), Unwritten> {
        match appended {
            Ok(()) => {
                self.written();
                Ok(())
            }
            Err(error) => {
                self.failed(error.to_string());
                Err(Unwritten)
            }
        }
    }
}

/// The thread. It ends with the last [`AuditLog`].
fn run(mut file: AuditFile, commands: &Receiver<Command>, state: &WriterState) {
    loop {
        match commands.recv_timeout(REOPEN_INTERVAL) {
            Ok(Command::Append { line, written, .. }) => {
                let appended = state.note(file.append(&line));
                // The mutation may not wait any more.
                let _ = written.send(appended);
            }
            Ok(Command::Flush(done)) => drop(done.send(())),
            // The next line reports an error.
            Err(RecvTimeoutError::Timeout) => drop(file.reopen()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command as Process;

    use jiff::Timestamp;
    use tokio::task::JoinSet;

    use super::*;
    use crate::audit::line::Phase;

    async fn open(path: &Path) -> AuditLog {
        let settings = AuditSettings {
            file: path.to_str().unwrap().to_owned(),
            required: false,
        };
        AuditLog::open(&settings, Arc::default()).await.unwrap().unwrap()
    }

    fn line<'a>(request_id: &'a str, fields: &'a [String]) -> Line<'a> {
        Line {
            time: Timestamp::UNIX_EPOCH,
            phase: Phase::End,
            caller: "test",
            tenant: None,
            method: "m",
            lead_id: None,
            share_id: None,
            request_id,
            mutation_id: None,
            outcome: Some("OK"),
            fields,
        }
    }

    fn counted(log: &AuditLog, name: &str) -> String {
        let text = log.0.state.metrics.text(std::iter::empty());
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap().trim().to_owned()
    }

    #[tokio::test]
    async fn lines_of_concurrent_tasks_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = open(&path).await;
        let fields = Arc::new((0..500).map(|n| format!("mx_Field_{n}")).collect::<Vec<_>>());
        let mut tasks = JoinSet::new();
        for n in 0..200 {
            let (log, fields) = (log.clone(), fields.clone());
            tasks.spawn(async move { log.append(&line(&format!("r{n}"), &fields)).await });
        }
        assert!(tasks.join_all().await.into_iter().all(|written| written == Ok(())));
        let text = std::fs::read_to_string(&path).unwrap();
        let ids = text.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["request_id"].as_str().unwrap().to_owned()
        });
        assert_eq!(ids.collect::<std::collections::BTreeSet<_>>().len(), 200);
        assert_eq!(counted(&log, "leadgate_audit_lines_total{outcome=\"written\"}"), "200");
    }

    #[tokio::test]
    async fn a_full_disk_is_reported_and_recovers() {
        let folder = tempfile::tempdir().unwrap();
        let (path, real) = (folder.path().join("audit.jsonl"), folder.path().join("real"));
        symlink("/dev/full", &path).unwrap();
        let log = open(&path).await;
        for _ in 0..2 {
            assert_eq!(log.append(&line("lost", &[])).await, Err(Unwritten));
        }
        assert!(log.error().unwrap().contains("No space left"));
        assert_eq!(counted(&log, "leadgate_audit_lines_total{outcome=\"failed\"}"), "2");
        std::fs::remove_file(&path).unwrap();
        symlink(&real, &path).unwrap();
        assert_eq!(log.append(&line("kept", &[])).await, Ok(()));
        assert_eq!(log.error(), None);
        assert_eq!(std::fs::read_to_string(&real).unwrap().lines().count(), 1);
    }

    /// A pipe that nobody reads stands for a disk that hangs.
    #[tokio::test]
    async fn a_write_that_hangs_does_not_block_the_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = Process::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        // A reader that never reads.
        let reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let log = open(&path).await;
        let fields: Vec<String> = (0..8000).map(|n| format!("mx_Field_{n}")).collect();
        let appended = log.append(&line("hangs", &fields)).await;
        assert_eq!(appended, Err(Unwritten));
        assert!(log.error().unwrap().contains("more than"));
        log.append_later(&line("waits", &[]));
        drop(log);
        drop(reader);
    }

    #[tokio::test]
    async fn lines_without_a_waiter_are_written_before_a_flush_returns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = open(&path).await;
        for _ in 0..100 {
            log.append_later(&line("r", &[]));
        }
        log.flush().await;
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 100);
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_written_fails_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let settings = AuditSettings {
            file: folder.path().to_str().unwrap().to_owned(),
            required: false,
        };
        let error = AuditLog::open(&settings, Arc::default()).await.err().unwrap();
        assert!(error.starts_with("audit.file: "), "{error}");
    }
}
