//! Ends connections whose clients are slow or idle: without a request, with incomplete headers, or with a response that is not read.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// Until the headers of a request are complete, and until the first byte of a connection.
    pub(super) headers: Duration,
    /// Until the next request.
    pub(super) keep_alive: Duration,
    /// Until the client reads the next part of a response.
    pub(super) unread: Duration,
}

/// What a connection waits for. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct ConnectionClock {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    timeouts: Timeouts,
}

#[derive(Debug)]
struct State {
    waits_for: WaitsFor,
    since: Instant,
    /// Since when bytes wait for the client to read.
    unread_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitsFor {
    FirstByte,
    NextRequest,
    Headers,
    /// A request is in progress.
    Response,
}

/// A connection that reports its reads and writes to its clock.
pub(super) struct TimedStream<S> {
    stream: S,
    clock: ConnectionClock,
}

/// A request in progress. Dropping it is its end.
pub(super) struct RequestInProgress(ConnectionClock);

impl ConnectionClock {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        let state = State {
            waits_for: WaitsFor::FirstByte,
            since: Instant::now(),
            unread_since: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::default(),
            timeouts,
        }
    }

    /// A request begins: its headers are complete.
    pub(super) fn request(&self) -> RequestInProgress {
        self.set(WaitsFor::Response);
        RequestInProgress(self.clone())
    }

    /// Resolves when the client is too slow.
    pub(super) async fn expired(&self) {
        loop {
            let due = self.due();
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                () = self.changed.notified() => continue,
            }
            if self.due().is_some_and(|due| due <= Instant::now()) {
                return;
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let state = self.lock();
        let limit = match state.waits_for {
            WaitsFor::FirstByte | WaitsFor::Headers => Some(self.timeouts.headers),
            WaitsFor::NextRequest => Some(self.timeouts.keep_alive),
            WaitsFor::Response => None,
        };
        let unread = state.unread_since.map(|since| since + self.timeouts.unread);
        limit.map(|limit| state.since + limit).into_iter().chain(unread).min()
    }

    fn set(&self, waits_for: WaitsFor) {
        let mut state = self.lock();
        (state.waits_for, state.since) = (waits_for, Instant::now());
        drop(state);
        self.changed.notify_one();
    }

    fn has_read(&self) {
        let waits_for = self.lock().waits_for;
        if matches!(waits_for, WaitsFor::FirstByte | WaitsFor::NextRequest) {
            self.set(WaitsFor::Headers);
        }
    }

    fn has_written(&self, is_pending: bool) {
        let mut state = self.lock();
        let is_known = state.unread_since.is_some();
        if is_pending != is_known {
            state.unread_since = is_pending.then(Instant::now);
            drop(state);
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.set(WaitsFor::NextRequest);
    }
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, clock: ConnectionClock) -> Self {
        Self { stream, clock }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.clock.has_read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.clock.has_written(written.is_pending());
        written
    }

    // Otherwise the HTTP library would copy each response.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.clock.has_written(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
