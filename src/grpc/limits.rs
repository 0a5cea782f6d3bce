//! The limits that the listeners for callers share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::accept::Handshakes;
use super::keyed_limit::{KeyedLimit, KeyedPermit};
use super::refusals::Refusals;
use super::settings::ServerSettings;
use super::unary_limit::{UnaryLimit, UnaryPermit};
use super::unfinished::{UnfinishedMessage, UnfinishedMessages};
use crate::telemetry::metrics::Metrics;

/// The time after which a caller above a limit of its own should retry.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The limits of the listeners for callers.
pub struct SharedLimits {
    connections: Arc<Semaphore>,
    addresses: Arc<KeyedLimit<IpAddr>>,
    pub(super) refusals: Arc<Refusals>,
    /// The handshakes of callers.
    pub handshakes: Arc<Handshakes>,
    pub(super) unary: Arc<UnaryLimit>,
    callers: Arc<KeyedLimit<Arc<str>>>,
    pub(super) unfinished: Arc<UnfinishedMessages>,
}

/// An open connection.
pub struct ConnectionPermit {
    _of_all: OwnedSemaphorePermit,
    _of_address: KeyedPermit<IpAddr>,
}

/// A request of the REST listener in progress.
pub struct RequestPermit {
    _of_caller: KeyedPermit<Arc<str>>,
    _of_all: UnaryPermit,
}

impl SharedLimits {
    /// The limits of the settings.
    pub fn new(settings: &ServerSettings, metrics: Arc<Metrics>) -> Arc<Self> {
        let refusals = Refusals::new(metrics.clone());
        Arc::new(Self {
            handshakes: Handshakes::new(settings.max_handshakes, refusals.clone(), metrics),
            connections: Arc::new(Semaphore::new(settings.max_connections as usize)),
            addresses: KeyedLimit::new(settings.max_connections_per_address),
            refusals,
            unary: UnaryLimit::new(settings.max_in_flight),
            callers: KeyedLimit::new(settings.max_streams_per_caller),
            unfinished: UnfinishedMessages::new(settings.max_unfinished_bytes),
        })
    }

    /// Returns the permit of a new connection, or `None` if a limit is reached.
    pub fn connection(&self, address: IpAddr) -> Option<ConnectionPermit> {
        let of_all = self.connections.clone().try_acquire_owned().ok();
        let setting = match of_all.map(|all| (all, self.addresses.acquire(address))) {
            Some((of_all, Some(of_address))) => {
                return Some(ConnectionPermit {
                    _of_all: of_all,
                    _of_address: of_address,
                });
            }
            Some((_, None)) => "server.max_connections_per_address",
            None => "server.max_connections",
        };
        self.refusals.report(setting);
        None
    }

    /// Returns the permit of a request of the REST listener, or the time after which the caller should retry.
    pub fn request(&self, caller: &Arc<str>) -> Result<RequestPermit, Duration> {
        Ok(RequestPermit {
            _of_caller: self.callers.acquire(caller.clone()).ok_or(RETRY_AFTER)?,
            _of_all: self.unary.acquire()?,
        })
    }

    /// Returns an empty body of a new request.
    pub fn body(&self) -> UnfinishedMessage {
        self.unfinished.message()
    }
}
