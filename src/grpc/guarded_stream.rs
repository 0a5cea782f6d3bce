//! Limits of a connection that the HTTP library does not have: the time for the preface and for headers, the rates of PINGs and of
//! frames without data, and the time for which a client reads nothing. They are applied to the bytes below the HTTP library.

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
/// Number of ACKs of PINGs that the server did not send. The HTTP library logs each of them.
const MAX_UNEXPECTED_ACKS: u32 = 2;
/// Number of frames of overhead that a client may send per second: PRIORITY, WINDOW_UPDATE, SETTINGS, RST_STREAM, unknown ones.
const OVERHEAD_PER_SECOND: u32 = 1_000;
/// Number of further frames of overhead for each frame of HEADERS in both directions, and of DATA from the server. Clients send at
/// most two frames of WINDOW_UPDATE for each frame of DATA. Envoy allows ten, too.
const OVERHEAD_PER_FRAME: u32 = 10;

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
}

/// What the client has sent, and what it may send.
#[derive(Debug)]
struct Reading {
    protocol: Protocol,
    scanner: FrameScanner,
    is_in_header_block: bool,
    /// The time by which the preface, or the header block that has begun, must be complete.
    complete_by: Option<Instant>,
    last_ping: Option<Instant>,
    ping_strikes: u32,
    /// Whether HEADERS or DATA were written since the last PING.
    has_responded: bool,
    /// Number of PINGs of the server without an ACK.
    unacknowledged_pings: u32,
    unexpected_acks: u32,
    /// Number of further frames of overhead, and the start of the second.
    allowed_overhead: u32,
    overhead_since: Option<Instant>,
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
    Flood,
    Writing,
}

impl Exceeded {
    /// The label of the metric.
    fn reason(self) -> &'static str {
        match self {
            Self::Handshake => "handshake_timeout",
            Self::Headers => "header_timeout",
            Self::Pings => "too_many_pings",
            Self::Flood => "flood",
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
            has_responded: false,
            unacknowledged_pings: 0,
            unexpected_acks: 0,
            allowed_overhead: 0,
            overhead_since: None,
        }
    }

    /// Reads the next bytes. Fails if they exceed a limit.
    fn read(&mut self, mut bytes: &[u8], limits: &StreamLimits, now: Instant) -> Result<(), Exceeded> {
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
                let checked = self.complete(frame, limits, now);
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
    fn complete(&mut self, frame: Frame, limits: &StreamLimits, now: Instant) -> Result<(), Exceeded> {
        if frame.is_overhead() {
            self.count_overhead(now)?;
        }
        if frame.kind == FrameType::HEADERS {
            self.allow_overhead();
        }
        match frame.kind {
            FrameType::HEADERS | FrameType::CONTINUATION => self.is_in_header_block = !frame.ends_headers(),
            FrameType::PING if frame.is_ack() => match self.unacknowledged_pings.checked_sub(1) {
                Some(others) => self.unacknowledged_pings = others,
                None => {
                    self.unexpected_acks += 1;
                    if self.unexpected_acks > MAX_UNEXPECTED_ACKS {
                        return Err(Exceeded::Flood);
                    }
                }
            },
            FrameType::SETTINGS if self.protocol == Protocol::Settings => self.protocol = Protocol::Http2,
            FrameType::PING => {
                let last = self.last_ping.replace(now);
                if std::mem::take(&mut self.has_responded) {
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

    /// Takes a frame of the server into account.
    fn written(&mut self, frame: Frame) {
        match frame.kind {
            FrameType::HEADERS | FrameType::DATA => {
                self.has_responded = true;
                self.allow_overhead();
            }
            FrameType::PING if !frame.is_ack() => self.unacknowledged_pings += 1,
            _ => {}
        }
    }

    fn allow_overhead(&mut self) {
        self.allowed_overhead = self.allowed_overhead.saturating_add(OVERHEAD_PER_FRAME);
    }

    /// Counts a frame of overhead. Fails if the client has sent too many.
    fn count_overhead(&mut self, now: Instant) -> Result<(), Exceeded> {
        const SECOND: Duration = Duration::from_secs(1);
        if self.overhead_since.is_none_or(|since| now - since >= SECOND) {
            self.overhead_since = Some(now);
            self.allowed_overhead = self.allowed_overhead.max(OVERHEAD_PER_SECOND);
        }
        self.allowed_overhead = self.allowed_overhead.checked_sub(1).ok_or(Exceeded::Flood)?;
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
        }
    }

    /// Counts the exceeded limit, and sends GOAWAY to the client if that is possible without waiting.
    fn end(&mut self, exceeded: Exceeded, context: &mut Context<'_>) -> io::Error {
        let reason = exceeded.reason();
        self.metrics.connection_closed(reason);
        if matches!(exceeded, Exceeded::Headers | Exceeded::Pings | Exceeded::Flood) && self.writing.is_between_frames()
        {
            let goaway = frame::enhance_your_calm(reason);
            // A client that does not read learns nothing, and the connection ends anyway.
            let _ = Pin::new(&mut self.stream).poll_write(context, &goaway);
            let _ = Pin::new(&mut self.stream).poll_flush(context);
        }
        io::Error::other(reason)
    }

    /// Takes written bytes into account.
    fn written(&mut self, bytes: &[u8]) {
        let (reading, metrics) = (&mut self.reading, &self.metrics);
        if reading.protocol == Protocol::Http1 {
            return;
        }
        self.writing.scan(bytes, |frame| {
            reading.written(frame);
            match frame.kind {
                FrameType::GOAWAY if frame.error_code() == ENHANCE_YOUR_CALM => metrics.connection_closed("flood"),
                FrameType::GOAWAY if frame.error_code() != 0 => metrics.connection_closed("protocol_error"),
                _ => {}
            }
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
                let read = this.reading.read(bytes, &this.limits, now);
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
        reading.read(&begin, &limits, now).unwrap();
        (reading, limits)
    }

    #[tokio::test(start_paused = true)]
    async fn the_preface_and_the_first_settings_have_a_time() {
        let now = Instant::now();
        let begin = [PREFACE, &frame(4, 0, 6)].concat();
        for length in 0..begin.len() {
            let limits = limits(now);
            let mut reading = Reading::new(&limits);
            reading.read(&begin[..length], &limits, now).unwrap();
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
            reading.read(&[*byte], &limits, now).unwrap();
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
            reading.read(&[*byte], &limits, at).unwrap();
            at += second;
        }
        assert_eq!(reading.read(&headers[5..6], &limits, at), Err(Exceeded::Headers));

        // CONTINUATION does not begin the time again, and the next block does.
        let (mut reading, limits) = established(now);
        for (at, part) in headers.chunks(29).enumerate() {
            reading
                .read(part, &limits, now + second * 2 * u32::try_from(at).unwrap())
                .unwrap();
        }
        assert_eq!(reading.complete_by, None);
        let at = now + 60 * second;
        reading.read(&headers[..29], &limits, at).unwrap();
        assert_eq!(reading.check_time(at + 4 * second), Ok(()));
        assert_eq!(reading.check_time(at + 5 * second), Err(Exceeded::Headers));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_of_data_has_no_time_and_frames_in_pieces_are_fine() {
        let now = Instant::now();
        let (mut reading, limits) = established(now);
        reading.read(&frame(0, 0, 100)[..50], &limits, now).unwrap();
        assert_eq!(reading.complete_by, None);
        // Each piece ends in the middle of a frame for a minute.
        let (mut reading, limits) = established(now);
        let many: Vec<u8> = (0..60).flat_map(|_| frame(1, 4, 20)).collect();
        for (at, part) in many.chunks(28).enumerate() {
            let at = now + Duration::from_secs(at.try_into().unwrap());
            reading.read(part, &limits, at).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_third_ping_below_the_interval_is_too_many() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let (ping, ack) = (frame(6, 0, 8), frame(6, 1, 8));
        let pings = |interval: Duration, responds: bool| {
            let (mut reading, limits) = established(now);
            (0..20_u32).find(|number| {
                let at = now + interval * *number;
                (reading.has_responded, reading.unacknowledged_pings) = (responds, 1);
                // The response to a PING of the server is no PING of the client.
                reading.read(&ack, &limits, at).unwrap();
                reading.read(&ping, &limits, at).is_err()
            })
        };
        assert_eq!(pings(9 * second, false), Some(3));
        assert_eq!(pings(10 * second, false), None);
        // Clients that measure the bandwidth send a PING for each response.
        assert_eq!(pings(Duration::ZERO, true), None);
    }

    /// Takes a frame into account that the server has written.
    fn write(reading: &mut Reading, frame: &[u8]) {
        FrameScanner::default().scan(frame, |frame| reading.written(frame));
    }

    #[tokio::test(start_paused = true)]
    async fn the_third_unexpected_ack_of_a_ping_is_a_flood() {
        let now = Instant::now();
        let (mut reading, limits) = established(now);
        let (ping, ack) = (frame(6, 0, 8), frame(6, 1, 8));
        for _ in 0..10 {
            write(&mut reading, &ping);
            reading.read(&ack, &limits, now).unwrap();
        }
        // The ACK of the server to a PING of the client.
        write(&mut reading, &ack);
        let (second, third) = ([&ack[..], &ack].concat(), &ack);
        assert_eq!(reading.read(&second, &limits, now), Ok(()));
        assert_eq!(reading.read(third, &limits, now), Err(Exceeded::Flood));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_overhead_is_found_in_each_second() {
        let now = Instant::now();
        let per_second = OVERHEAD_PER_SECOND as usize;
        // PRIORITY, RST_STREAM, SETTINGS and its ACK, WINDOW_UPDATE, an unknown type, and empty DATA.
        for (kind, flags, length) in [
            (2, 0, 5),
            (3, 0, 4),
            (4, 0, 6),
            (4, 1, 0),
            (8, 0, 4),
            (250, 0, 8),
            (0, 0, 0),
        ] {
            let (mut reading, limits) = established(now);
            let frames = frame(kind, flags, length).repeat(per_second);
            // The first SETTINGS belong to the first second.
            reading
                .read(&frames[frame(kind, flags, length).len()..], &limits, now)
                .unwrap();
            let second = Duration::from_secs(1);
            for at in 1..5 {
                let read = reading.read(&frames, &limits, now + second * at);
                assert_eq!(read, Ok(()), "{kind} in second {at}");
            }
            let late = now + second * 5 - Duration::from_millis(1);
            let read = reading.read(&frame(kind, flags, length), &limits, late);
            assert_eq!(read, Err(Exceeded::Flood), "{kind}");
        }
        // Requests and their messages are no overhead.
        let (mut reading, limits) = established(now);
        let requests = [frame(1, 4, 20), frame(0, 0, 100), frame(0, 1, 0)].concat();
        reading.read(&requests.repeat(10 * per_second), &limits, now).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_send_more_overhead_for_requests_and_responses() {
        let now = Instant::now();
        let update = frame(8, 0, 4);
        let updates = |count: u32| update.repeat(count as usize);
        for (is_written, kind) in [(false, 1), (true, 1), (true, 0)] {
            let (mut reading, limits) = established(now);
            reading.read(&updates(OVERHEAD_PER_SECOND - 1), &limits, now).unwrap();
            for _ in 0..1_000 {
                match is_written {
                    true => write(&mut reading, &frame(kind, 4, 100)),
                    false => reading.read(&frame(kind, 4, 100), &limits, now).unwrap(),
                }
            }
            reading
                .read(&updates(1_000 * OVERHEAD_PER_FRAME), &limits, now)
                .unwrap();
            assert_eq!(reading.read(&update, &limits, now), Err(Exceeded::Flood), "{kind}");
        }
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
