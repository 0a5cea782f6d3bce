//! The order in which the writes of one connection arrive: that of their headers. A write takes its place in the order of
//! its lead when its message is complete, and then all writes before it on the connection have taken theirs, unless their
//! messages take too long. Knows neither messages nor leads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long later writes of a connection wait for the message of an earlier one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The writes of one connection that have not taken their places.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    pending: BTreeMap<u64, Pending>,
}

#[derive(Debug)]
enum Pending {
    /// Its message is not complete. It loses its place at that time.
    Incomplete(Instant),
    /// Its message is complete, and it waits for those before it.
    Waiting(oneshot::Sender<()>),
}

/// One write of a connection. Dropped, it gives its place up.
#[derive(Debug)]
pub(super) struct Arrival {
    arrivals: Arc<Arrivals>,
    number: u64,
}

impl Arrivals {
    /// The headers of a write are there.
    pub(super) fn arrive(self: &Arc<Self>) -> Arrival {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state
            .pending
            .insert(number, Pending::Incomplete(Instant::now() + PATIENCE));
        Arrival {
            arrivals: self.clone(),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    /// Waits until all earlier writes of the connection have taken their places or lost them.
    pub(super) async fn turn(&self) {
        loop {
            let (woken, until) = {
                let mut state = self.arrivals.lock();
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
                        // It has been woken and is about to go.
                        Some((_, Pending::Waiting(_))) => break now + PATIENCE,
                    }
                };
                if !state.pending.contains_key(&self.number) {
                    // Its message took too long.
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

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut state = self.arrivals.lock();
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

    /// Runs each of them as a write whose message is complete after so many milliseconds; the order in which they took
    /// their places, and when.
    async fn order(messages: &[Option<u64>]) -> Vec<(usize, u128)> {
        let arrivals = Arc::new(Arrivals::default());
        let (begun, order) = (Instant::now(), Arc::new(Mutex::new(vec![])));
        let mut tasks = tokio::task::JoinSet::new();
        let arrived: Vec<_> = messages.iter().map(|_| arrivals.arrive()).collect();
        // The last one is polled first, as by a scheduler that prefers the latest task.
        for (at, arrival) in arrived.into_iter().enumerate().rev() {
            let (complete, order) = (messages[at], order.clone());
            tasks.spawn(async move {
                let Some(complete) = complete else {
                    return drop(arrival);
                };
                tokio::time::sleep(Duration::from_millis(complete)).await;
                arrival.turn().await;
                order.lock().unwrap().push((at, begun.elapsed().as_millis()));
            });
        }
        tasks.join_all().await;
        assert!(arrivals.lock().pending.is_empty());
        Arc::try_unwrap(order).unwrap().into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn writes_take_their_places_in_the_order_of_their_headers() {
        let places: Vec<_> = order(&[Some(0); 50]).await.into_iter().map(|(at, _)| at).collect();
        assert_eq!(places, (0..50).collect::<Vec<_>>());
        assert_eq!(
            order(&[Some(300), Some(0), Some(100)]).await,
            [(0, 300), (1, 300), (2, 300)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_ends_without_a_place_holds_nobody_up() {
        assert_eq!(order(&[None, Some(0), None, Some(0)]).await, [(1, 0), (3, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_not_complete_in_a_second_loses_its_place() {
        let places = order(&[Some(5_000), Some(0), Some(200)]).await;
        assert_eq!(places.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 0]);
        assert!(
            places[0].1 >= 1_000 && places[1].1 < 1_100 && places[2].1 >= 5_000,
            "{places:?}"
        );
    }
}
