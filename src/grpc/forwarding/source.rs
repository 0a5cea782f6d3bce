//! The request of an RPC, which can be sent again: its one message, or the stream of its messages as long as the owner has not
//! accepted it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::Frame;
use tonic::codegen::StdError;

use crate::grpc::web_body::ClientBody;

/// Maximum number of bytes of a stream of requests that are kept until an owner accepts the stream.
const MAX_KEPT_BYTES: usize = 64 * 1024;

/// A stream of request messages. Its first bytes are kept until [`RequestStream::accept`]. Clones share it.
#[derive(Clone)]
pub(super) struct RequestStream {
    state: Arc<Mutex<State>>,
}

struct State {
    inner: ClientBody,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    is_accepted: bool,
    has_ended: bool,
    /// The reader that waits because too many bytes are kept.
    waker: Option<Waker>,
    /// The number of the last reader. Former ones read nothing more.
    reader: u64,
}

/// Reads the stream from its beginning.
pub(super) struct RequestReader {
    stream: RequestStream,
    number: u64,
    /// The number of kept frames that were read.
    read: usize,
}

impl RequestStream {
    pub(super) fn new(inner: ClientBody) -> Self {
        let state = State {
            inner,
            kept: VecDeque::new(),
            kept_bytes: 0,
            is_accepted: false,
            has_ended: false,
            waker: None,
            reader: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Returns a reader from the beginning. The former one reads nothing more.
    pub(super) fn reader(&self) -> RequestReader {
        let mut state = self.lock();
        state.reader += 1;
        RequestReader {
            stream: self.clone(),
            number: state.reader,
            read: 0,
        }
    }

    /// Records that an owner has accepted the stream: it is not read again, and keeps nothing more.
    pub(super) fn accept(&self) {
        let mut state = self.lock();
        state.is_accepted = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl http_body::Body for RequestReader {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        let mut state = this.stream.lock();
        if state.reader != this.number {
            return Poll::Ready(Some(Err("the request was sent to another replica".into())));
        }
        // After the stream was accepted, the kept frames that were not read are still to be read.
        if let Some(kept) = state.kept.get(this.read).cloned() {
            this.read += 1;
            return Poll::Ready(Some(Ok(Frame::data(kept))));
        }
        if state.is_accepted && !state.kept.is_empty() {
            state.kept.clear();
            this.read = 0;
        }
        if state.has_ended {
            return Poll::Ready(None);
        }
        if !state.is_accepted && state.kept_bytes >= MAX_KEPT_BYTES {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        match ready!(Pin::new(&mut state.inner).poll_frame(context)) {
            Some(Ok(frame)) => {
                // gRPC requests have no trailers.
                let data = frame.into_data().unwrap_or_default();
                if !state.is_accepted {
                    state.kept_bytes += data.len();
                    state.kept.push_back(data.clone());
                    this.read += 1;
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => {
                state.has_ended = true;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                state.has_ended = true;
                Poll::Ready(None)
            }
        }
    }
}
