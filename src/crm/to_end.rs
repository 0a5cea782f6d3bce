//! A future that also ends after its caller no longer waits for it.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Runs a future as a part of its caller. If the caller drops it before its end, it continues as a task. A task from the start would
/// cost a move of the future and two switches of threads.
pub(super) struct ToEnd<F: Future + Send + 'static>
where
    F::Output: Send,
{
    /// `None` after its end.
    future: Option<Pin<Box<F>>>,
    tasks: TaskTracker,
    runtime: Handle,
}

impl<F: Future + Send + 'static> ToEnd<F>
where
    F::Output: Send,
{
    /// Must be called in a runtime.
    pub(super) fn new(future: F, tasks: &TaskTracker) -> Self {
        Self {
            future: Some(Box::pin(future)),
            tasks: tasks.clone(),
            runtime: Handle::current(),
        }
    }
}

impl<F: Future + Send + 'static> Future for ToEnd<F>
where
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // After its end it is not polled.
        let Some(future) = &mut self.future else {
            return Poll::Pending;
        };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.future = None;
        }
        polled
    }
}

impl<F: Future + Send + 'static> Drop for ToEnd<F>
where
    F::Output: Send,
{
    fn drop(&mut self) {
        // A future that has panicked does not continue.
        if let Some(future) = self.future.take().filter(|_| !std::thread::panicking()) {
            self.tasks.spawn_on(future, &self.runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dropped_future_continues_as_a_task() {
        let (tasks, (sender, receiver)) = (TaskTracker::new(), oneshot::channel());
        let future = async move {
            sleep(Duration::from_secs(2)).await;
            let _ = sender.send(5);
        };
        let short = timeout(Duration::from_secs(1), ToEnd::new(future, &tasks)).await;
        assert!(short.is_err());
        assert_eq!((tasks.len(), receiver.await), (1, Ok(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_ends_needs_no_task() {
        let tasks = TaskTracker::new();
        let future = async {
            sleep(Duration::from_secs(2)).await;
            5
        };
        assert_eq!(ToEnd::new(future, &tasks).await, 5);
        assert!(tasks.is_empty());
    }
}
