//! The streams of snapshots. A snapshot is made once per second for all streams, and only if there is a stream.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Sources;
use super::snapshot::{Observation, ShareCounts};
use crate::admin::server::Connection;

/// Maximum number of open streams. Further requests fail with HTTP 503.
pub(super) const MAX_STREAMS: usize = 16;
/// Interval of the snapshots.
const INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time for which no event fits into the buffers of the connection, because the client does not read. After it, the stream ends.
const STALL: Duration = Duration::from_secs(20);
/// Interval in which the shares of a tenant are counted while it is shown. Counting reads the store.
const SHARES_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum time for counting the shares.
const SHARES_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a browser waits before it connects again, as the first field of a stream.
const RETRY: &str = "retry: 1000\n";

/// The streams. Clones share them.
#[derive(Clone)]
pub(super) struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    sources: Sources,
    streams: Arc<Semaphore>,
    start: Instant,
    current: Mutex<Current>,
    shares: Mutex<HashMap<String, CountedShares>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The snapshot of one second.
#[derive(Default)]
struct Current {
    /// The second since the start. `None`: no snapshot yet.
    second: Option<u64>,
    observation: Option<Observation>,
    overview: String,
    /// The events by the tenant whose details they have.
    events: HashMap<String, Bytes>,
}

/// The shares of a tenant.
struct CountedShares {
    /// When the last count began.
    begun: Instant,
    counts: Option<ShareCounts>,
}

impl Events {
    pub(super) fn new(sources: Sources, stop: CancellationToken) -> Self {
        Self {
            shared: Arc::new(Shared {
                sources,
                streams: Arc::new(Semaphore::new(MAX_STREAMS)),
                start: Instant::now(),
                current: Mutex::default(),
                shares: Mutex::default(),
                tasks: TaskTracker::new(),
                stop,
            }),
        }
    }

    /// Opens a stream with the details of this tenant, or of the first one if there is none of this name. `None`: too many streams
    /// are open.
    pub(super) fn open(&self, tenant: String, connection: &Connection) -> Option<Body> {
        let permit = self.shared.streams.clone().try_acquire_owned().ok()?;
        let tenants = &self.shared.sources.tenants;
        let tenant = match tenants.named(&tenant) {
            Some(_) => tenant,
            None => tenants
                .iter()
                .next()
                .map_or(String::new(), |first| first.name().to_owned()),
        };
        let ended = CancellationToken::new();
        connection.outlast(ended.clone());
        connection.limit_send_buffer();
        let (sender, receiver) = mpsc::channel(1);
        self.shared
            .tasks
            .spawn(self.clone().send(tenant, sender, permit, ended));
        Some(Body::from_stream(ReceiverStream::new(receiver)))
    }

    /// Sends snapshots until the client is gone or reads nothing, or until the process ends. Then the connection ends.
    async fn send(
        self,
        tenant: String,
        sender: mpsc::Sender<Result<Bytes, Infallible>>,
        permit: OwnedSemaphorePermit,
        ended: CancellationToken,
    ) {
        let _ended = ended.drop_guard();
        let sending = async {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut retry = RETRY;
            loop {
                ticks.tick().await;
                let event = [retry.as_bytes(), &self.shared.event(&tenant)].concat();
                retry = "";
                match tokio::time::timeout(STALL, sender.send(Ok(event.into()))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return,
                }
            }
        };
        tokio::select! {
            () = sending => {}
            () = sender.closed() => {}
            () = self.shared.stop.cancelled() => {}
        }
        drop(permit);
    }
}

impl Shared {
    /// The event of this second with the details of a tenant.
    fn event(self: &Arc<Self>, tenant: &str) -> Bytes {
        let shares = self.shares_of(tenant);
        let second = self.start.elapsed().as_secs();
        let mut current = lock(&self.current);
        if current.second != Some(second) {
            let observation = Observation::new(&self.sources);
            *current = Current {
                second: Some(second),
                overview: observation.overview(&self.sources).unwrap_or_default(),
                observation: Some(observation),
                events: HashMap::new(),
            };
        }
        if let Some(event) = current.events.get(tenant) {
            return event.clone();
        }
        let observation = current.observation.as_ref();
        let detail = observation.and_then(|observation| observation.detail(&self.sources, tenant, shares.as_ref()));
        // The detail is one more field of the overview.
        let event: Bytes = match (detail, current.overview.strip_suffix('}')) {
            (Some(Ok(detail)), Some(overview)) => format!("data: {overview},\"tenant\":{detail}}}\n\n").into(),
            _ => Bytes::from_static(b": the snapshot could not be made\n\n"),
        };
        current.events.insert(tenant.to_owned(), event.clone());
        event
    }

    /// The last counts of the shares of a tenant. Begins to count them if they are old.
    fn shares_of(self: &Arc<Self>, tenant: &str) -> Option<ShareCounts> {
        let now = Instant::now();
        let mut all = lock(&self.shares);
        let known = all.get(tenant);
        let counts = known.and_then(|known| known.counts.clone());
        if known.is_none_or(|known| now.duration_since(known.begun) >= SHARES_INTERVAL) {
            let begun = CountedShares {
                begun: now,
                counts: counts.clone(),
            };
            all.insert(tenant.to_owned(), begun);
            self.tasks.spawn(self.clone().count_shares(tenant.to_owned()));
        }
        counts
    }

    /// Counts the shares of a tenant. After an error, the last counts stay, and the page says how old they are.
    async fn count_shares(self: Arc<Self>, tenant: String) {
        let counting = self.sources.store.count_shares(&tenant);
        let counted = tokio::time::timeout(SHARES_TIMEOUT, counting).await;
        if let (Ok(Ok(counts)), Some(known)) = (counted, lock(&self.shares).get_mut(&tenant)) {
            known.counts = Some(ShareCounts {
                at: Instant::now(),
                counts: counts.into_iter().collect(),
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http_body_util::BodyExt;

    use super::*;
    use crate::admin::status::ShownSettings;
    use crate::clock;
    use crate::store::Store;
    use crate::tenant::{TenantRoute, Tenants};

    /// The streams of a gateway with one tenant, which another replica serves.
    async fn events() -> (Events, CancellationToken) {
        let store = Store::open("sqlite::memory:").await.unwrap();
        // The store needs the real time to open.
        tokio::time::pause();
        let stop = CancellationToken::new();
        let sources = Sources {
            tenants: Tenants::new(BTreeMap::from([("acme".to_owned(), TenantRoute::Unknown)]), None),
            metrics: Arc::default(),
            store,
            store_status: Default::default(),
            audit: None,
            shutting_down: CancellationToken::new(),
            settings: Arc::new(|_| ShownSettings::default()),
            started: clock::now(),
        };
        (Events::new(sources, stop.clone()), stop)
    }

    fn connection() -> Connection {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Connection::new(permit, std::net::Ipv4Addr::LOCALHOST.into(), None)
    }

    /// Waits until all streams have ended.
    async fn until_ended(events: &Events) {
        let all = events.shared.streams.acquire_many(MAX_STREAMS as u32).await;
        drop(all.unwrap());
    }

    #[tokio::test]
    async fn the_number_of_streams_is_limited_and_a_closed_stream_makes_room() {
        let (events, _stop) = events().await;
        let open = || events.open("acme".to_owned(), &connection());
        let streams: Vec<_> = (0..MAX_STREAMS).map(|_| open().unwrap()).collect();
        assert!(open().is_none());
        let start = Instant::now();
        drop(streams);
        until_ended(&events).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(open().is_some());
    }

    #[tokio::test]
    async fn a_stream_that_is_not_read_ends() {
        let (events, _stop) = events().await;
        let start = Instant::now();
        let _unread = events.open("acme".to_owned(), &connection()).unwrap();
        until_ended(&events).await;
        // The first event fits into the channel. Timers are accurate to a millisecond.
        let expected = INTERVAL + STALL;
        assert!((expected..expected + Duration::from_millis(10)).contains(&start.elapsed()));
    }

    #[tokio::test]
    async fn streams_end_with_the_process() {
        let (events, stop) = events().await;
        let mut body = events.open(String::new(), &connection()).unwrap();
        assert!(body.frame().await.is_some());
        let start = Instant::now();
        stop.cancel();
        while body.frame().await.is_some() {}
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn all_streams_share_the_snapshot_of_a_second() {
        let (events, _stop) = events().await;
        let mut texts = vec![];
        for tenant in ["acme", "", "unknown"] {
            let mut body = events.open(tenant.to_owned(), &connection()).unwrap();
            let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
            let (first, second) = (next().await, next().await);
            let first = std::str::from_utf8(&first)
                .unwrap()
                .strip_prefix(RETRY)
                .unwrap()
                .to_owned();
            texts.extend([first, String::from_utf8(second.to_vec()).unwrap()]);
        }
        // The second event of a stream is from the same second as the first event of the next one.
        assert_eq!((&texts[1], &texts[3]), (&texts[2], &texts[4]));
        let data = texts[0].strip_prefix("data: ").unwrap();
        let snapshot: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(
            (&snapshot["tenant"]["name"], &snapshot["tenant"]["quota"]),
            (&"acme".into(), &().into())
        );
        assert_eq!(snapshot["verdict"]["kind"], "not_served");
        // No snapshot was made while nobody watched.
        let made = lock(&events.shared.current).second;
        tokio::time::sleep(INTERVAL * 5).await;
        assert_eq!(lock(&events.shared.current).second, made);
    }
}
