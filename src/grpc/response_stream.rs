//! The responses of a stream on their way to its client, and the error that the stream ends with, which never waits for a
//! client that does not read. Knows no service.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tonic::Status;

/// How many responses of a stream wait for the client.
const BUFFER: usize = 16;

/// What tonic sends to the client.
pub(super) struct Responses<A> {
    shared: Arc<Shared<A>>,
}

/// Where the error of a stream is put.
pub(super) struct Last<A> {
    shared: Arc<Shared<A>>,
}

struct Shared<A> {
    queue: Mutex<mpsc::Receiver<A>>,
    error: Mutex<Option<Status>>,
}

impl<A> Responses<A> {
    pub(super) fn new() -> (mpsc::Sender<A>, Self) {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let shared = Shared {
            queue: Mutex::new(receiver),
            error: Mutex::default(),
        };
        let shared = Arc::new(shared);
        (sender, Self { shared })
    }

    pub(super) fn last(&self) -> Last<A> {
        Last {
            shared: self.shared.clone(),
        }
    }
}

impl<A> Last<A> {
    /// The stream ends with that error once all senders are dropped: after the responses that wait, or instead of them.
    pub(super) fn end(self, error: Status, instead: bool) {
        *locked(&self.shared.error) = Some(error);
        if instead {
            let mut queue = locked(&self.shared.queue);
            queue.close();
            while queue.try_recv().is_ok() {}
        }
    }
}

impl<A> tokio_stream::Stream for Responses<A> {
    type Item = Result<A, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let response = ready!(locked(&self.shared.queue).poll_recv(context));
        Poll::Ready(match response {
            Some(response) => Some(Ok(response)),
            None => locked(&self.shared.error).take().map(Err),
        })
    }
}

/// The senders learn that nobody reads any more.
impl<A> Drop for Responses<A> {
    fn drop(&mut self) {
        locked(&self.shared.queue).close();
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
    async fn the_error_comes_after_the_responses() {
        let (sender, responses) = Responses::new();
        sender.send(1).await.unwrap();
        responses.last().end(Status::aborted("x"), false);
        drop(sender);
        let all: Vec<_> = responses
            .map(|response| response.map_err(|error| error.code()))
            .collect()
            .await;
        assert_eq!(all, [Ok(1), Err(tonic::Code::Aborted)]);
    }

    #[tokio::test]
    async fn the_error_replaces_responses_that_are_not_read() {
        let (sender, responses) = Responses::new();
        for number in 0..BUFFER {
            sender.send(number).await.unwrap();
        }
        responses.last().end(Status::aborted("x"), true);
        let all: Vec<_> = responses
            .map(|response| response.map_err(|error| error.code()))
            .collect()
            .await;
        assert_eq!(all, [Err(tonic::Code::Aborted)]);
    }

    #[tokio::test]
    async fn senders_learn_that_the_client_is_gone() {
        let (sender, responses) = Responses::<()>::new();
        let last = responses.last();
        drop(responses);
        sender.closed().await;
        last.end(Status::aborted("x"), false);
    }
}
