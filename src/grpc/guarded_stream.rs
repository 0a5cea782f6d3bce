//! Limits of a connection that the HTTP library does not have: the time for the preface and for headers, the rate of PINGs, and
//! the time for which a client reads nothing. They are applied to the bytes below the HTTP library.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::frame::{self, ENHANCE_YOUR_CALM, Frame, FrameScanner, FrameType};
use crate::telemetry::metrics::Metrics;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Number of PINGs below the minimum interval that a client may send between two responses, as in other gRPC servers.
const MAX_PING_STRIKES: u32 = 2;

/// The limits of one stream of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamLimits {
    /// When the preface and the first SETTINGS must be complete.
    pub(super) established_by: Instant,
    /// Maximum time from the first byte of a header block to its last one.
    pub(super) header_timeout: Duration,
    /// Minimum interval between two PINGs. Zero: none.
    pub(super) ping_interval: Duration,
    /// Maximum time for which the client reads no byte while bytes wait for it.
    pub(super) write_timeout: Duration,
}

/// A stream of bytes that ends with an error when the client exceeds a limit.
pub(super) struct GuardedStream<S> {
    stream: S,
    limits: StreamLimits,
    metrics: Arc<Metrics>,
    reading: Reading,
    read_timer: Timer,
    writing: FrameScanner,
    write_timer: Timer,
    /// Whether HEADERS or DATA were written since the last PING.
    has_responded: bool,
}

/// What the client has sent.
#[derive(Debug)]
struct Reading {
    protocol: Protocol,
    scanner: FrameScanner,
    is_in_header_block: bool,
    /// The time by which the preface, or the header block that has begun, must be complete.
    complete_by: Option<Instant>,
    last_ping: Option<Instant>,
    ping_strikes: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Protocol {
    /// This number of bytes are those of the preface of HTTP/2.
    Preface(usize),
    /// The preface is complete, and the first SETTINGS are not.
    Settings,
    Http2,
    /// The HTTP library has a timeout for the headers of HTTP/1.
    Http1,
}

/// A limit that a client exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exceeded {
    Handshake,
    Headers,
    Pings,
    Writing,
}

impl Exceeded {
    /// The label of the metric.
    fn reason(self) -> &'static str {
        match self {
            Self::Handshake => "handshake_timeout",
            Self::Headers => "header_timeout",
            Self::Pings => "too_many_pings",
            Self::Writing => "write_timeout",
        }
    }
}

impl Reading {
    fn new(limits: &StreamLimits) -> Self {
        Self {
            protocol: Protocol::Preface(0),
            scanner: FrameScanner::default(),
            is_in_header_block: false,
            complete_by: Some(limits.established_by),
            last_ping: None,
            ping_strikes: 0,
        }
    }

    /// Reads the next bytes. Fails if they exceed a limit.
    fn read(
        &mut self,
        mut bytes: &[u8],
        limits: &StreamLimits,
        has_responded: &mut bool,
        now: Instant,
    ) -> Result<(), Exceeded> {
        if let Protocol::Preface(complete) = self.protocol {
            let (expected, taken) = (&PREFACE[complete..], bytes.len().min(PREFACE.len() - complete));
            if bytes[..taken] != expected[..taken] {
                (self.protocol, self.complete_by) = (Protocol::Http1, None);
            } else if complete + taken == PREFACE.len() {
                self.protocol = Protocol::Settings;
            } else {
                self.protocol = Protocol::Preface(complete + taken);
            }
            bytes = &bytes[taken..];
        }
        if matches!(self.protocol, Protocol::Settings | Protocol::Http2) {
            let mut scanner = std::mem::take(&mut self.scanner);
            let mut result = Ok(());
            scanner.scan(bytes, |frame| {
                let checked = self.complete(frame, limits, has_responded, now);
                result = result.and(checked);
            });
            self.scanner = scanner;
            result?;
        }
        if self.protocol == Protocol::Http2 {
            let is_partial = !self.scanner.is_between_frames() && !self.scanner.is_in_data();
            match self.is_in_header_block || is_partial {
                true => drop(self.complete_by.get_or_insert(now + limits.header_timeout)),
                false => self.complete_by = None,
            }
        }
        self.check_time(now)
    }

    /// Takes a complete frame into account.
    fn complete(
        &mut self,
        frame: Frame,
        limits: &StreamLimits,
        has_responded: &mut bool,
        now: Instant,
    ) -> Result<(), Exceeded> {
        match frame.kind {
            FrameType::HEADERS | FrameType::CONTINUATION => self.is_in_header_block = !frame.ends_headers(),
            FrameType::SETTINGS if self.protocol == Protocol::Settings => self.protocol = Protocol::Http2,
            FrameType::PING if !frame.is_ack() => {
                let last = self.last_ping.replace(now);
                if std::mem::take(has_responded) {
                    self.ping_strikes = 0;
                } else if last.is_some_and(|last| now - last < limits.ping_interval) {
                    self.ping_strikes += 1;
                }
                if self.ping_strikes > MAX_PING_STRIKES {
                    return Err(Exceeded::Pings);
                }
            }
            _ => {}
        }
        // The next header block has its own time.
        if !self.is_in_header_block && self.protocol == Protocol::Http2 {
            self.complete_by = None;
        }
        Ok(())
    }

    fn check_time(&self, now: Instant) -> Result<(), Exceeded> {
        match self.complete_by {
            Some(time) if time <= now => Err(match self.protocol {
                Protocol::Http2 => Exceeded::Headers,
                _ => Exceeded::Handshake,
            }),
            _ => Ok(()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> GuardedStream<S> {
    pub(super) fn new(stream: S, limits: StreamLimits, metrics: Arc<Metrics>) -> Self {
        Self {
            stream,
            limits,
            metrics,
            reading: Reading::new(&limits),
            read_timer: Timer::default(),
            writing: FrameScanner::default(),
            write_timer: Timer::default(),
            has_responded: false,
        }
    }

    /// Counts the exceeded limit, and sends GOAWAY to the client if that is possible without waiting.
    fn end(&mut self, exceeded: Exceeded, context: &mut Context<'_>) -> io::Error {
        let reason = exceeded.reason();
        self.metrics.connection_closed(reason);
        if matches!(exceeded, Exceeded::Headers | Exceeded::Pings) && self.writing.is_between_frames() {
            let goaway = frame::enhance_your_calm(reason);
            // A client that does not read learns nothing, and the connection ends anyway.
            let _ = Pin::new(&mut self.stream).poll_write(context, &goaway);
            let _ = Pin::new(&mut self.stream).poll_flush(context);
        }
        io::Error::other(reason)
    }

    /// Takes written bytes into account.
    fn written(&mut self, bytes: &[u8]) {
        let (has_responded, metrics) = (&mut self.has_responded, &self.metrics);
        if matches!(self.reading.protocol, Protocol::Http1) {
            return;
        }
        self.writing.scan(bytes, |frame| match frame.kind {
            FrameType::HEADERS | FrameType::DATA => *has_responded = true,
            FrameType::GOAWAY if frame.error_code() == ENHANCE_YOUR_CALM => metrics.connection_closed("flood"),
            FrameType::GOAWAY if frame.error_code() != 0 => metrics.connection_closed("protocol_error"),
            _ => {}
        });
    }

    /// Returns an error if the client has read nothing for too long.
    fn check_write<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer.stop();
            return written;
        }
        let timeout = self.limits.write_timeout;
        match self.write_timer.poll(|| Instant::now() + timeout, context) {
            Poll::Ready(()) => Poll::Ready(Err(self.end(Exceeded::Writing, context))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let bytes = &buffer.filled()[before..];
                let now = Instant::now();
                let read = this.reading.read(bytes, &this.limits, &mut this.has_responded, now);
                Poll::Ready(read.map_err(|exceeded| this.end(exceeded, context)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let Some(complete_by) = this.reading.complete_by else {
                    this.read_timer.stop();
                    return Poll::Pending;
                };
                if this.read_timer.until != Some(complete_by) {
                    this.read_timer.stop();
                }
                if this.read_timer.poll(|| complete_by, context).is_pending() {
                    return Poll::Pending;
                }
                let exceeded = this
                    .reading
                    .check_time(complete_by)
                    .err()
                    .unwrap_or(Exceeded::Handshake);
                Poll::Ready(Err(this.end(exceeded, context)))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        if let Poll::Ready(Ok(mut length)) = written {
            for part in parts {
                let taken = length.min(part.len());
                this.written(&part[..taken]);
                length -= taken;
            }
        }
        this.check_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        this.check_write(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut_down = Pin::new(&mut this.stream).poll_shutdown(context);
        this.check_write(context, shut_down)
    }
}

/// A timer that is created when it is first needed.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// `None`: it does not run.
    until: Option<Instant>,
}

impl Timer {
    fn stop(&mut self) {
        self.until = None;
    }

    /// Starts the timer if it does not run. Ready when it has ended.
    fn poll(&mut self, until: impl FnOnce() -> Instant, context: &mut Context<'_>) -> Poll<()> {
        let is_started = self.until.is_some();
        let until = *self.until.get_or_insert_with(until);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if !is_started {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(now: Instant) -> StreamLimits {
        StreamLimits {
            established_by: now + Duration::from_secs(10),
            header_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
        }
    }

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], &vec![0; length.into()]].concat()
    }

    /// A connection that has begun, and its limits.
    fn established(now: Instant) -> (Reading, StreamLimits) {
        let limits = limits(now);
        let mut reading = Reading::new(&limits);
        let begin = [PREFACE, &frame(4, 0, 6)].concat();
        reading.read(&begin, &limits, &mut false, now).unwrap();
        (reading, limits)
    }

    #[tokio::test(start_paused = true)]
    async fn the_preface_and_the_first_settings_have_a_time() {
        let now = Instant::now();
        let begin = [PREFACE, &frame(4, 0, 6)].concat();
        for length in 0..begin.len() {
            let limits = limits(now);
            let mut reading = Reading::new(&limits);
            reading.read(&begin[..length], &limits, &mut false, now).unwrap();
            let late = limits.established_by;
            let before = late - Duration::from_millis(1);
            assert_eq!(reading.check_time(before), Ok(()), "{length}");
            assert_eq!(reading.check_time(late), Err(Exceeded::Handshake), "{length}");
        }
        let (reading, _) = established(now);
        assert_eq!(reading.complete_by, None);
    }

    #[tokio::test(start_paused = true)]
    async fn other_protocols_have_no_limits_here() {
        let now = Instant::now();
        let limits = limits(now);
        let mut reading = Reading::new(&limits);
        for byte in b"PRX" {
            reading.read(&[*byte], &limits, &mut false, now).unwrap();
        }
        assert_eq!((reading.protocol, reading.complete_by), (Protocol::Http1, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_block_has_a_time_from_its_first_byte() {
        let now = Instant::now();
        let (mut reading, limits) = established(now);
        let second = Duration::from_secs(1);
        let headers = [frame(1, 0, 20), frame(9, 0, 20), frame(9, 4, 20)].concat();
        let mut at = now;
        for byte in &headers[..5] {
            reading.read(&[*byte], &limits, &mut false, at).unwrap();
            at += second;
        }
        assert_eq!(
            reading.read(&headers[5..6], &limits, &mut false, at),
            Err(Exceeded::Headers)
        );

        // CONTINUATION does not begin the time again, and the next block does.
        let (mut reading, limits) = established(now);
        for (at, part) in headers.chunks(29).enumerate() {
            reading
                .read(part, &limits, &mut false, now + second * 2 * u32::try_from(at).unwrap())
                .unwrap();
        }
        assert_eq!(reading.complete_by, None);
        let at = now + 60 * second;
        reading.read(&headers[..29], &limits, &mut false, at).unwrap();
        assert_eq!(reading.check_time(at + 4 * second), Ok(()));
        assert_eq!(reading.check_time(at + 5 * second), Err(Exceeded::Headers));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_of_data_has_no_time_and_frames_in_pieces_are_fine() {
        let now = Instant::now();
        let (mut reading, limits) = established(now);
        reading.read(&frame(0, 0, 100)[..50], &limits, &mut false, now).unwrap();
        assert_eq!(reading.complete_by, None);
        // Each piece ends in the middle of a frame for a minute.
        let (mut reading, limits) = established(now);
        let many: Vec<u8> = (0..60).flat_map(|_| frame(1, 4, 20)).collect();
        for (at, part) in many.chunks(28).enumerate() {
            let at = now + Duration::from_secs(at.try_into().unwrap());
            reading.read(part, &limits, &mut false, at).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_third_ping_below_the_interval_is_too_many() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let (ping, ack) = (frame(6, 0, 8), frame(6, 1, 8));
        let pings = |interval: Duration, responds: bool| {
            let (mut reading, limits) = established(now);
            (0..20_u32).find(|number| {
                let mut has_responded = responds;
                let at = now + interval * *number;
                reading.read(&ack, &limits, &mut has_responded, at).unwrap();
                reading.read(&ping, &limits, &mut has_responded, at).is_err()
            })
        };
        assert_eq!(pings(9 * second, false), Some(3));
        assert_eq!(pings(10 * second, false), None);
        // Clients that measure the bandwidth send a PING for each response.
        assert_eq!(pings(Duration::ZERO, true), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_no_byte_for_too_long_ends_the_connection() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (start, metrics) = (Instant::now(), Arc::new(Metrics::default()));
        let (mut client, server) = tokio::io::duplex(100);
        let mut server = GuardedStream::new(server, limits(start), metrics.clone());
        let slow = async {
            // As long as the client reads something, it may be slow.
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(15)).await;
                client.read_exact(&mut [0; 10]).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        };
        let write = async {
            let error = server.write_all(&[0; 1_000]).await.unwrap_err();
            assert_eq!(error.to_string(), "write_timeout");
            start.elapsed()
        };
        let ((), ended) = tokio::join!(slow, write);
        assert_eq!(ended, Duration::from_secs(150 + 20));
        let text = metrics.text(std::iter::empty());
        assert!(
            text.contains("leadgate_connections_closed_total{reason=\"write_timeout\"} 1"),
            "{text}"
        );
    }
}
