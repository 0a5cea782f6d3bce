//! Limits the memory of the messages that a replica keeps for the owners of tenants. A message is kept so that its RPC can be sent again
//! when the tenant moves. Above the limit, an RPC is sent once, or fails if no owner is known.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::codegen::StdError;

/// A message that is sent once is read in parts of this size.
const PART: usize = 64 * 1024;

/// The bytes of all messages that are kept, or that are being sent to an owner.
#[derive(Debug)]
pub(in crate::grpc) struct KeptMessages {
    limit: usize,
    bytes: AtomicUsize,
}

/// The bytes of one message. Dropping it releases them.
#[derive(Debug)]
pub(super) struct KeptBytes {
    all: Arc<KeptMessages>,
    bytes: usize,
}

impl KeptMessages {
    /// At most `limit` bytes are kept. The messages that are being sent may have as many again.
    pub(in crate::grpc) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            bytes: AtomicUsize::new(0),
        })
    }

    /// Counts a message that is kept until its RPC ends. `None`: the limit is reached.
    pub(super) fn keep(self: &Arc<Self>, bytes: usize) -> Option<KeptBytes> {
        self.count(bytes, self.limit)
    }

    /// Counts a message that is not kept, until it is sent. `None`: the limit is reached.
    pub(super) fn send(self: &Arc<Self>, bytes: usize) -> Option<KeptBytes> {
        self.count(bytes, self.limit.saturating_mul(2))
    }

    fn count(self: &Arc<Self>, bytes: usize, limit: usize) -> Option<KeptBytes> {
        let added = |total: usize| total.checked_add(bytes).filter(|total| *total <= limit);
        let counted = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
        counted.ok().map(|_| KeptBytes {
            all: self.clone(),
            bytes,
        })
    }
}

impl Drop for KeptBytes {
    fn drop(&mut self) {
        self.all.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The body of a message that is sent once. The HTTP library reads the next part when the owner accepts more bytes.
pub(super) struct SentOnce {
    rest: Bytes,
    counted: Option<KeptBytes>,
}

impl SentOnce {
    pub(super) fn new(message: Bytes, counted: KeptBytes) -> Self {
        Self {
            rest: message,
            counted: Some(counted),
        }
    }
}

impl http_body::Body for SentOnce {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            this.counted = None;
            return Poll::Ready(None);
        }
        let part = this.rest.split_to(this.rest.len().min(PART));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn messages_are_counted_up_to_the_limit() {
        let all = KeptMessages::new(100);
        let (one, other) = (all.keep(60).unwrap(), all.keep(40).unwrap());
        assert!(all.keep(1).is_none());
        let sending = all.send(100).unwrap();
        assert!(all.send(1).is_none());
        drop(sending);
        drop(one);
        assert!(all.keep(61).is_none());
        let again = all.keep(60).unwrap();
        assert!(all.send(usize::MAX).is_none());
        drop((other, again));
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_message_that_is_sent_once_is_counted_until_it_is_read() {
        let all = KeptMessages::new(2 * PART);
        let message = Bytes::from(vec![7; 2 * PART + 1]);
        let mut body = SentOnce::new(message.clone(), all.send(message.len()).unwrap());
        assert!(all.keep(1).is_none());
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            read.push(frame.unwrap().into_data().unwrap().len());
        }
        assert_eq!(read, [PART, PART, 1]);
        drop(body);
        assert!(all.keep(2 * PART).is_some());
    }
}
