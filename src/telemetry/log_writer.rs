//! Writes log lines in a thread of their own. No RPC waits for the reader of the log or for its disk. Lines that arrive together are
//! written together.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Maximum number of bytes that wait to be written. Further lines are dropped.
const MAX_WAITING: usize = 4 * 1024 * 1024;
/// The pause after each write, in which further lines arrive.
const PAUSE: Duration = Duration::from_millis(1);

/// Passes log lines to the thread that writes them. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct LogWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    /// Notified when the thread has something to do.
    changed: Condvar,
    /// Notified when all lines are written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: Vec<u8>,
    /// Whether the thread waits for lines.
    is_idle: bool,
    /// Number of calls of [`LogWriter::flush`] in progress.
    flushes: u32,
    /// Number of lines that were not written.
    dropped: u64,
    /// Number of them that no log line has reported.
    unreported: u64,
}

impl LogWriter {
    /// Starts the thread. Without a thread, the error says why.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let writer = Self::default();
        let shared = writer.0.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.run(output))?;
        Ok(writer)
    }

    /// Waits until all lines are written, or until the timeout.
    pub(super) fn flush(&self, timeout: Duration) {
        let mut lines = self.0.lock();
        lines.flushes += 1;
        self.0.changed.notify_one();
        let is_waiting = |lines: &mut Lines| !(lines.is_idle && lines.waiting.is_empty());
        let waited = self.0.written.wait_timeout_while(lines, timeout, is_waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0.flushes -= 1;
    }

    /// Number of lines that were not written.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut output: impl Write) {
        let mut lines = Vec::new();
        loop {
            let unreported = self.take(&mut lines);
            // The line goes to the end of the waiting lines.
            if unreported > 0 {
                tracing::warn!(lines = unreported, "log lines dropped: the log was not written in time");
            }
            let is_written = output.write_all(&lines).and_then(|()| output.flush()).is_ok();
            if !is_written {
                self.lock().drop_lines(count(&lines));
            }
            lines.clear();
        }
    }

    /// Waits for lines and takes them. Returns the number of dropped lines that no log line has reported.
    fn take(&self, taken: &mut Vec<u8>) -> u64 {
        let waiting = self.lock();
        let has_time = |lines: &mut Lines| lines.flushes == 0;
        let paused = self.changed.wait_timeout_while(waiting, PAUSE, has_time);
        let mut waiting = paused.unwrap_or_else(PoisonError::into_inner).0;
        while waiting.waiting.is_empty() {
            waiting.is_idle = true;
            self.written.notify_all();
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_idle = false;
        std::mem::swap(&mut waiting.waiting, taken);
        std::mem::take(&mut waiting.unreported)
    }

    fn append(&self, line: &[u8]) {
        let mut lines = self.lock();
        if lines.waiting.len() + line.len() > MAX_WAITING {
            return lines.drop_lines(count(line));
        }
        lines.waiting.extend_from_slice(line);
        let is_idle = std::mem::take(&mut lines.is_idle);
        drop(lines);
        if is_idle {
            self.changed.notify_one();
        }
    }
}

impl Lines {
    fn drop_lines(&mut self, count: u64) {
        self.dropped += count;
        self.unreported += count;
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Takes one line.
pub(super) struct LineWriter<'a>(&'a Shared);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(&self.0)
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.append(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// An output that reports each write, and waits for its result.
    struct Output {
        written: Sender<Vec<u8>>,
        results: Receiver<io::Result<()>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.results.recv().map_err(io::Error::other)??;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started() -> (LogWriter, Receiver<Vec<u8>>, Sender<io::Result<()>>) {
        let ((written, writes), (results, of_writes)) = (channel(), channel());
        let output = Output {
            written,
            results: of_writes,
        };
        (LogWriter::start(output).unwrap(), writes, results)
    }

    fn log(writer: &LogWriter, line: &str) {
        writer.make_writer().write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn lines_wait_while_the_output_is_blocked_and_are_written_together() {
        let (writer, writes, results) = started();
        log(&writer, "1\n");
        assert_eq!(writes.recv().unwrap(), b"1\n");
        log(&writer, "2\n");
        log(&writer, "3\n");
        // A blocked output does not block for longer than the timeout.
        writer.flush(Duration::from_millis(1));
        results.send(Ok(())).unwrap();
        assert_eq!(writes.recv().unwrap(), b"2\n3\n");
        results.send(Ok(())).unwrap();
        writer.flush(60 * SECOND);
        let lines = writer.0.lock();
        assert!(lines.is_idle && lines.waiting.is_empty());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (writer, writes, results) = started();
        log(&writer, "1\n2\n");
        writes.recv().unwrap();
        results.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        writer.flush(60 * SECOND);
        assert_eq!(writer.dropped(), 2);
        // The next lines are written again.
        log(&writer, "3\n");
        assert_eq!(writes.recv().unwrap(), b"3\n");
    }

    #[test]
    fn lines_above_the_limit_are_dropped() {
        let (writer, writes, _results) = started();
        log(&writer, "1\n");
        writes.recv().unwrap();
        let long = format!("{}\n", "x".repeat(MAX_WAITING / 2));
        for _ in 0..3 {
            log(&writer, &long);
        }
        assert_eq!((writer.dropped(), writer.0.lock().waiting.len()), (2, long.len()));
    }
}
