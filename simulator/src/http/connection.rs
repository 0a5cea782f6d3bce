//! Connections that a request handler can abort before the first byte of the response is written.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep},
};

use crate::state::SharedState;

/// A TCP listener whose connections can be aborted.
pub(crate) struct AbortableListener {
    listener: TcpListener,
    shared: Arc<SharedState>,
}

/// A connection that fails all reads and writes after an abort, so that the server closes it.
pub(crate) struct AbortableStream {
    stream: TcpStream,
    handle: ConnectionHandle,
    idle: Option<IdleTimer>,
    /// Whether the connection is aborted if its first bytes are those of HTTP/2.
    aborts_http2: bool,
}

/// The first bytes of a connection with HTTP/2.
const HTTP2: &[u8] = b"PRI * HTTP/2";

/// Ends a connection on which nothing is read or written for a time.
struct IdleTimer {
    lasting: Duration,
    sleep: Pin<Box<Sleep>>,
}

/// The handle that aborts the connection of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionHandle(Arc<AtomicBool>);

impl ConnectionHandle {
    pub(crate) fn abort(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_aborted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl AbortableListener {
    pub(crate) fn new(listener: TcpListener, shared: Arc<SharedState>) -> Self {
        Self { listener, shared }
    }
}

impl Listener for AbortableListener {
    type Io = AbortableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (AbortableStream, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        // Small responses must not wait for a delayed acknowledgement. An error is harmless: the stream still works.
        let _ = stream.set_nodelay(true);
        let handle = ConnectionHandle::default();
        let (lasting, aborts_http2) = {
            let state = self.shared.lock();
            (state.tenant.options.idle_close, state.tenant.options.http1_only)
        };
        let idle = (!lasting.is_zero()).then(|| IdleTimer {
            lasting,
            sleep: Box::pin(tokio::time::sleep(lasting)),
        });
        let stream = AbortableStream {
            stream,
            handle,
            idle,
            aborts_http2,
        };
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, AbortableListener>> for ConnectionHandle {
    fn connect_info(incoming: IncomingStream<'_, AbortableListener>) -> Self {
        incoming.io().handle.clone()
    }
}

impl AbortableStream {
    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if self.handle.is_aborted() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(Pin::new(&mut self.stream))
    }

    /// Starts the time without a read or write again.
    fn used(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.sleep.as_mut().reset(Instant::now() + idle.lasting);
        }
    }
}

impl AsyncRead for AbortableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.stream()?.poll_read(context, buffer);
        if read.is_ready() && buffer.filled().len() > before {
            if std::mem::take(&mut self.aborts_http2) && buffer.filled()[before..].starts_with(HTTP2) {
                self.handle.abort();
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            self.used();
        }
        let is_idle = |idle: &mut IdleTimer| idle.sleep.as_mut().poll(context).is_ready();
        match read.is_pending() && self.idle.as_mut().is_some_and(is_idle) {
            // The end of the stream lets the server close the connection.
            true => Poll::Ready(Ok(())),
            false => read,
        }
    }
}

impl AsyncWrite for AbortableStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.used();
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.used();
        self.stream()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
