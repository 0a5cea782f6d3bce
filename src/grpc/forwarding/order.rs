//! Keeps the writes of one connection to one tenant in the order of their headers, also when they are repeated at another replica.
//!
//! A dispatch of a write goes to a target: the gateway of this process, or one connection to another replica. It begins when all
//! earlier writes that have no response have begun at the same target. So two writes that both go back because the tenant moves
//! begin again in their order. A write waits no longer than [`MAX_WAIT`] while no earlier write begins.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a write waits for earlier writes that do not begin at the same target, from the last one that has begun.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Where a dispatch is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// In this process.
    Here,
    /// By another replica, over the connection of that number.
    Connection(u64),
}

/// The writes of one connection that have no response.
#[derive(Debug, Default)]
pub(in crate::grpc) struct DispatchOrder {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// The writes by tenant, in the order of their headers.
    tenants: HashMap<String, BTreeMap<u64, Dispatch>>,
}

#[derive(Debug)]
enum Dispatch {
    /// The message is incomplete. From that time on, later writes do not wait for it.
    Incomplete(Instant),
    /// The dispatch can begin, and waits for an owner or for earlier writes.
    Ready(Option<oneshot::Sender<()>>),
    /// With the time of its begin.
    Begun(Target, Instant),
}

/// One write. When it is dropped, it has its response.
#[derive(Debug)]
pub(in crate::grpc) struct OrderedDispatch {
    order: Arc<DispatchOrder>,
    tenant: String,
    number: u64,
}

impl DispatchOrder {
    /// Registers a write whose headers have arrived.
    pub(in crate::grpc) fn register(self: &Arc<Self>, tenant: &str) -> OrderedDispatch {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let writes = state.tenants.entry(tenant.to_owned()).or_default();
        writes.insert(number, Dispatch::Incomplete(Instant::now() + MAX_WAIT));
        OrderedDispatch {
            order: self.clone(),
            tenant: tenant.to_owned(),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OrderedDispatch {
    /// Waits until the next dispatch may begin at the target. Without an await in between, the caller then begins it and calls
    /// [`OrderedDispatch::begun`].
    pub(super) async fn wait(&self, target: Target) {
        let start = Instant::now();
        loop {
            let (woken, until) = {
                let mut state = self.order.lock();
                let Some(writes) = state.tenants.get_mut(&self.tenant) else {
                    return;
                };
                let now = Instant::now();
                let earlier = writes.range(..self.number).map(|(_, earlier)| earlier);
                let begun = earlier.clone().filter_map(|earlier| match earlier {
                    Dispatch::Begun(_, at) => Some(*at),
                    Dispatch::Incomplete(_) | Dispatch::Ready(_) => None,
                });
                let limit = begun.fold(start, Instant::max) + MAX_WAIT;
                let blocked_until = earlier.filter_map(|earlier| match earlier {
                    Dispatch::Incomplete(until) => Some(*until),
                    Dispatch::Ready(_) => Some(limit),
                    Dispatch::Begun(begun, _) => (*begun != target).then_some(limit),
                });
                let Some(until) = blocked_until.filter(|until| *until > now).min() else {
                    return;
                };
                let (wake, woken) = oneshot::channel();
                writes.insert(self.number, Dispatch::Ready(Some(wake)));
                (woken, until)
            };
            tokio::select! {
                _ = woken => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Records that the dispatch has begun.
    pub(super) fn begun(&self, target: Target) {
        self.set(Dispatch::Begun(target, Instant::now()));
    }

    /// Records that the message is complete, or that a dispatch has ended without a response and another one follows.
    pub(super) fn ready(&self) {
        self.set(Dispatch::Ready(None));
    }

    fn set(&self, dispatch: Dispatch) {
        let mut state = self.order.lock();
        if let Some(writes) = state.tenants.get_mut(&self.tenant) {
            writes.insert(self.number, dispatch);
            wake_next(writes, self.number);
        }
    }
}

/// Wakes the next write that waits. It wakes the one after it when it has begun.
fn wake_next(writes: &mut BTreeMap<u64, Dispatch>, number: u64) {
    let mut wakers = writes.range_mut(number + 1..).filter_map(|(_, later)| match later {
        Dispatch::Ready(waker) => waker.take(),
        Dispatch::Incomplete(_) | Dispatch::Begun(..) => None,
    });
    if let Some(waker) = wakers.next() {
        let _ = waker.send(());
    }
}

impl Drop for OrderedDispatch {
    fn drop(&mut self) {
        let mut state = self.order.lock();
        let Some(writes) = state.tenants.get_mut(&self.tenant) else {
            return;
        };
        writes.remove(&self.number);
        wake_next(writes, self.number);
        if writes.is_empty() {
            state.tenants.remove(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Target = Target::Connection(1);
    const TWO: Target = Target::Connection(2);

    fn register(count: usize) -> (Arc<DispatchOrder>, Vec<Arc<OrderedDispatch>>) {
        let order = Arc::new(DispatchOrder::default());
        let writes = (0..count).map(|_| Arc::new(order.register("acme"))).collect();
        (order, writes)
    }

    async fn waits(write: &OrderedDispatch, target: Target) -> Duration {
        let start = Instant::now();
        write.wait(target).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_writes_begin_in_the_order_of_their_headers() {
        let (order, writes) = register(50);
        for write in &writes {
            write.wait(ONE).await;
            write.begun(ONE);
        }
        let begun = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        // The last write fails first.
        for (number, write) in writes.into_iter().enumerate().rev() {
            let begun = begun.clone();
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_millis(50 - number as u64)).await;
                write.ready();
                write.wait(TWO).await;
                write.begun(TWO);
                begun.lock().unwrap().push(number);
            });
        }
        tasks.join_all().await;
        assert_eq!(*begun.lock().unwrap(), (0..50).collect::<Vec<_>>());
        assert!(order.lock().tenants.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn writes_that_begin_slowly_keep_their_order() {
        let (_order, writes) = register(20);
        let begun = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for (number, write) in writes.into_iter().enumerate() {
            write.ready();
            let begun = begun.clone();
            tasks.spawn(async move {
                // All of them wait from the start, except that each one needs time before it can begin.
                if number == 0 {
                    tokio::time::sleep(MAX_WAIT / 2).await;
                }
                write.wait(TWO).await;
                begun.lock().unwrap().push(number);
                tokio::time::sleep(MAX_WAIT / 2).await;
                write.begun(TWO);
                write
            });
        }
        tasks.join_all().await;
        assert_eq!(*begun.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_a_second_for_an_earlier_one_at_another_target() {
        let (_order, writes) = register(3);
        writes[0].begun(ONE);
        assert_eq!(waits(&writes[1], ONE).await, Duration::ZERO);
        writes[1].begun(ONE);
        // The first one is in progress at the former owner.
        writes[1].ready();
        assert_eq!(waits(&writes[1], TWO).await, MAX_WAIT);
        writes[1].begun(TWO);
        drop(writes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_ends_the_wait_and_other_tenants_do_not_wait() {
        let (order, mut writes) = register(2);
        let other = order.register("other");
        assert_eq!(waits(&other, TWO).await, Duration::ZERO);
        writes[0].begun(ONE);
        let (first, second) = (writes.remove(0), writes.remove(0));
        second.ready();
        let start = Instant::now();
        let end = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            drop(first);
        };
        tokio::join!(second.wait(TWO), end);
        assert_eq!(start.elapsed(), Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_whose_message_is_incomplete_delays_later_ones_by_a_second_in_all() {
        let (_order, writes) = register(3);
        tokio::time::sleep(Duration::from_millis(400)).await;
        // The message of the first one never arrives.
        assert_eq!(waits(&writes[1], ONE).await, Duration::from_millis(600));
        writes[1].begun(ONE);
        assert_eq!(waits(&writes[2], ONE).await, Duration::ZERO);
    }
}
