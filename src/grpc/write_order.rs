//! Keeps the writes of one connection in the order of their headers.
//!
//! A write enters the queue of its lead when its message is complete and all earlier writes of the connection have entered.
//! An earlier write whose message is incomplete for too long is skipped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long later writes of a connection wait for the message of an earlier write.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The writes of one connection that have not entered the queue.
#[derive(Debug, Default)]
pub(super) struct WriteOrder {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    pending: BTreeMap<u64, Pending>,
}

#[derive(Debug)]
enum Pending {
    /// The message is incomplete. At that time the write loses its position.
    Incomplete(Instant),
    /// The message is complete. The write waits for earlier writes.
    Waiting(oneshot::Sender<()>),
}

/// The position of one write on its connection. When it is dropped, later writes continue.
#[derive(Debug)]
pub(super) struct WritePosition {
    order: Arc<WriteOrder>,
    number: u64,
}

impl WriteOrder {
    /// Registers a write whose headers have arrived.
    pub(super) fn register(self: &Arc<Self>) -> WritePosition {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state
            .pending
            .insert(number, Pending::Incomplete(Instant::now() + MAX_WAIT));
        WritePosition {
            order: self.clone(),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WritePosition {
    /// Waits until all earlier writes of the connection have entered the queue or lost their positions.
    pub(super) async fn wait(&self) {
        loop {
            let (woken, until) = {
                let mut state = self.order.lock();
                let now = Instant::now();
                let until = loop {
                    match state.pending.first_key_value() {
                        Some((first, Pending::Incomplete(until))) if *first < self.number && *until <= now => {
                            let first = *first;
                            state.pending.remove(&first);
                        }
                        Some((first, _)) if *first >= self.number => return,
                        None => return,
                        Some((_, Pending::Incomplete(until))) => break *until,
                        // The earlier write was woken and will enter soon.
                        Some((_, Pending::Waiting(_))) => break now + MAX_WAIT,
                    }
                };
                if !state.pending.contains_key(&self.number) {
                    // This write has lost its position: its message arrived too late.
                    return;
                }
                let (wake, woken) = oneshot::channel();
                state.pending.insert(self.number, Pending::Waiting(wake));
                (woken, until)
            };
            tokio::select! {
                _ = woken => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}

impl Drop for WritePosition {
    fn drop(&mut self) {
        let mut state = self.order.lock();
        state.pending.remove(&self.number);
        let next = state.pending.first_entry();
        if let Some(mut next) = next
            && let Pending::Waiting(wake) = next.get_mut()
        {
            let (used, _) = oneshot::channel();
            let _ = std::mem::replace(wake, used).send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs writes whose messages are complete after that many milliseconds (`None`: never). Returns the order in which the
    /// writes entered the queue, and when.
    async fn order(messages: &[Option<u64>]) -> Vec<(usize, u128)> {
        let write_order = Arc::new(WriteOrder::default());
        let (start, order) = (Instant::now(), Arc::new(Mutex::new(vec![])));
        let mut tasks = tokio::task::JoinSet::new();
        let positions: Vec<_> = messages.iter().map(|_| write_order.register()).collect();
        // The last write is polled first, as by a scheduler that prefers the newest task.
        for (at, position) in positions.into_iter().enumerate().rev() {
            let (complete, order) = (messages[at], order.clone());
            tasks.spawn(async move {
                let Some(complete) = complete else {
                    return drop(position);
                };
                tokio::time::sleep(Duration::from_millis(complete)).await;
                position.wait().await;
                order.lock().unwrap().push((at, start.elapsed().as_millis()));
            });
        }
        tasks.join_all().await;
        assert!(write_order.lock().pending.is_empty());
        Arc::try_unwrap(order).unwrap().into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn writes_enter_the_queue_in_the_order_of_their_headers() {
        let entered: Vec<_> = order(&[Some(0); 50]).await.into_iter().map(|(at, _)| at).collect();
        assert_eq!(entered, (0..50).collect::<Vec<_>>());
        assert_eq!(
            order(&[Some(300), Some(0), Some(100)]).await,
            [(0, 300), (1, 300), (2, 300)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_ends_early_delays_no_later_write() {
        assert_eq!(order(&[None, Some(0), None, Some(0)]).await, [(1, 0), (3, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_incomplete_for_a_second_loses_its_position() {
        let entered = order(&[Some(5_000), Some(0), Some(200)]).await;
        assert_eq!(entered.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 0]);
        assert!(
            entered[0].1 >= 1_000 && entered[1].1 < 1_100 && entered[2].1 >= 5_000,
            "{entered:?}"
        );
    }
}
