//! A stream of responses, and the error that ends it. The error can be set without waiting for a client that does not read.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tonic::Status;

/// Maximum number of responses of a stream that wait for the client.
const BUFFER: usize = 16;

/// The responses of a stream, from which tonic reads.
pub(super) struct ResponseStream<A> {
    state: Arc<StreamState<A>>,
}

/// Sets the error that ends a stream.
pub(super) struct StreamEnd<A> {
    state: Arc<StreamState<A>>,
}

struct StreamState<A> {
    queue: Mutex<mpsc::Receiver<A>>,
    error: Mutex<Option<Status>>,
}

impl<A> ResponseStream<A> {
    /// Returns a stream and its sender. The stream ends when all senders are dropped.
    pub(super) fn new() -> (mpsc::Sender<A>, Self) {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let state = StreamState {
            queue: Mutex::new(receiver),
            error: Mutex::default(),
        };
        let state = Arc::new(state);
        (sender, Self { state })
    }

    /// Returns the handle that sets the error of the stream.
    pub(super) fn end_handle(&self) -> StreamEnd<A> {
        StreamEnd {
            state: self.state.clone(),
        }
    }
}

impl<A> StreamEnd<A> {
    /// Ends the stream with an error once all senders are dropped. Unread responses are sent first, or discarded.
    pub(super) fn fail(self, error: Status, discard_unread: bool) {
        *locked(&self.state.error) = Some(error);
        if discard_unread {
            let mut queue = locked(&self.state.queue);
            queue.close();
            while queue.try_recv().is_ok() {}
        }
    }
}

impl<A> tokio_stream::Stream for ResponseStream<A> {
    type Item = Result<A, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let response = ready!(locked(&self.state.queue).poll_recv(context));
        Poll::Ready(match response {
            Some(response) => Some(Ok(response)),
            None => locked(&self.state.error).take().map(Err),
        })
    }
}

/// Closes the senders when the client cancels.
impl<A> Drop for ResponseStream<A> {
    fn drop(&mut self) {
        locked(&self.state.queue).close();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn the_error_follows_the_responses() {
        let (sender, responses) = ResponseStream::new();
        sender.send(1).await.unwrap();
        responses.end_handle().fail(Status::aborted("x"), false);
        drop(sender);
        let all: Vec<_> = responses
            .map(|response| response.map_err(|error| error.code()))
            .collect()
            .await;
        assert_eq!(all, [Ok(1), Err(tonic::Code::Aborted)]);
    }

    #[tokio::test]
    async fn the_error_can_replace_unread_responses() {
        let (sender, responses) = ResponseStream::new();
        for number in 0..BUFFER {
            sender.send(number).await.unwrap();
        }
        responses.end_handle().fail(Status::aborted("x"), true);
        let all: Vec<_> = responses
            .map(|response| response.map_err(|error| error.code()))
            .collect()
            .await;
        assert_eq!(all, [Err(tonic::Code::Aborted)]);
    }

    #[tokio::test]
    async fn the_sender_is_closed_when_the_client_leaves() {
        let (sender, responses) = ResponseStream::<()>::new();
        let end = responses.end_handle();
        drop(responses);
        sender.closed().await;
        end.fail(Status::aborted("x"), false);
    }
}
