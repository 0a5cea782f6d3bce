//! Client of LeadSquared's REST API. The only module that uses reqwest. Each endpoint is an [`Operation`].
//!
//! [`Client::call`] acquires a [`CallPermit`], sends the request (`Client::exchange`), reads the response, reports the attempt,
//! and tries again if [`retry`] decides so.

mod account;
pub mod activity;
mod address;
pub mod authentication;
pub mod batch;
pub mod bulk;
mod cause;
pub mod clock;
pub mod endpoints;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod json;
mod keys;
mod last_check;
pub mod lead;
pub mod lost;
pub mod metadata;
pub mod passthrough;
pub mod raw;
pub mod removal;
pub mod response;
pub mod retry;
pub mod search;
pub mod share;
mod to_end;
pub mod user;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::cluster::TenantLease;
use crate::context::{Criticality, RequestContext, UPSTREAM_RESPONSE, deadline_exceeded};
use crate::domain::rest::{RestCall, RestMethod, RestResponse};
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::quota::breaker::{self, OperationId};
use crate::quota::{Cost, Quota, Requeue, Slot, SlotRequest, Verdict};
use crate::telemetry::metrics::{Attempt, Metrics};
use crate::telemetry::trace::{Span, Trace};
use account::{AccountKeys, KeyDecision};
use address::Resolver;
use cause::{Outage, OutageChange};
use clock::UpstreamClock;
use keys::KeyPair;
pub use keys::{KeyPairSource, KeySource, Keys, PairName};
use last_check::LastCheck;
use passthrough::Passthrough;
use response::{ResponseHead, UpstreamResponse};
use retry::{Retries, Safety};
use to_end::ToEnd;

/// Maximum length of the query of a URL in bytes. A longer query would fail in each attempt, in the HTTP library or at
/// LeadSquared. The lengths of fields are checked before, so that this maximum is not reached.
const MAX_QUERY_BYTES: usize = 16 * 1024;

/// Maximum number of times that one attempt is sent again because its keys were rejected and another pair is in use.
const MAX_KEY_SWITCHES: u32 = 2;

/// Added to the time that a call has for its slot and its response, so that a call without time for a slot gets a free one.
const MIN_PATIENCE: Duration = Duration::from_millis(1);

/// The delay before another attempt of a call that got no slot in time.
const NO_SLOT: Duration = Duration::from_secs(1);

/// A call of one endpoint: its request, and how its response is read. It is tested without a client.
pub trait Operation: Sync {
    /// The result of a successful call.
    type Output: Send;
    /// The form of its request.
    type Request: Into<OutgoingRequest>;
    /// LeadSquared's name of the endpoint, for logs and metrics.
    const NAME: &'static str;
    /// Whether the call may be sent twice.
    const SAFETY: Safety;
    /// The kind of slot that the call needs.
    const COST: Cost = Cost::Call;
    /// LeadSquared's name of the endpoint of this call.
    fn name(&self) -> &'static str {
        Self::NAME
    }
    /// The name under which the latency of this call is measured.
    fn measured_as(&self) -> &'static str {
        self.name()
    }
    /// Whether this call may be sent twice.
    fn safety(&self) -> Safety {
        Self::SAFETY
    }
    /// The kind of slot that this call needs.
    fn cost(&self) -> Cost {
        Self::COST
    }
    /// Whether the path of this call may be any text of a client, so that no span has it.
    fn has_foreign_path(&self) -> bool {
        false
    }
    /// The keys of what it writes. Calls with a common key are sent one after the other, in their order.
    fn keys(&self) -> Vec<String> {
        Vec::new()
    }
    /// Returns the request.
    fn request(&self) -> Self::Request;
    /// Whether the rate limiter accepted the call.
    fn verdict(response: &UpstreamResponse) -> Verdict {
        response.verdict()
    }
    /// Reads the response.
    fn decode(&self, response: &UpstreamResponse) -> Result<Self::Output>;
    /// The number of unreadable records in the response. The output has the readable ones.
    fn unreadable(_output: &Self::Output) -> usize {
        0
    }
}

/// A request to LeadSquared, without host and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamRequest {
    /// The path after `/v2/`.
    pub path: &'static str,
    /// The query, not encoded.
    pub query: Vec<(&'static str, String)>,
    /// The JSON body of a POST. `None`: the request is a GET.
    pub body: Option<String>,
}

/// A request as it is sent, without host and keys.
#[derive(Clone, Debug)]
pub struct OutgoingRequest {
    method: Method,
    /// The path below the address of the account.
    path: String,
    query: OutgoingQuery,
    headers: HeaderMap,
    body: Option<Bytes>,
}

/// A query.
#[derive(Clone, Debug)]
enum OutgoingQuery {
    /// Not encoded.
    Pairs(Vec<(&'static str, String)>),
    /// Encoded. Empty: there is none.
    Encoded(String),
}

impl OutgoingRequest {
    fn url(&self, base: &Url) -> Url {
        let mut url = below(base, &self.path);
        match &self.query {
            OutgoingQuery::Pairs(pairs) if pairs.is_empty() => {}
            OutgoingQuery::Pairs(pairs) => drop(url.query_pairs_mut().extend_pairs(pairs)),
            OutgoingQuery::Encoded(query) if query.is_empty() => {}
            OutgoingQuery::Encoded(query) => url.set_query(Some(query)),
        }
        url
    }
}

impl From<UpstreamRequest> for OutgoingRequest {
    fn from(request: UpstreamRequest) -> Self {
        let UpstreamRequest { path, query, body } = request;
        let mut headers = HeaderMap::new();
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        Self {
            method: if body.is_some() { Method::POST } else { Method::GET },
            path: format!("v2/{path}"),
            query: OutgoingQuery::Pairs(query),
            headers,
            body: body.map(Bytes::from),
        }
    }
}

impl From<&RestCall> for OutgoingRequest {
    fn from(call: &RestCall) -> Self {
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value: &Option<Vec<u8>>| {
            let value = value.as_ref().and_then(|value| HeaderValue::from_bytes(value).ok());
            value.map(|value| headers.insert(name, value));
        };
        add(CONTENT_TYPE, &call.content_type);
        add(ACCEPT, &call.accept);
        if !call.body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        let method = match call.method {
            RestMethod::Get => Method::GET,
            RestMethod::Post => Method::POST,
            RestMethod::Put => Method::PUT,
            RestMethod::Delete => Method::DELETE,
        };
        let has_body = !call.body.is_empty() && call.method != RestMethod::Get;
        if !has_body && matches!(call.method, RestMethod::Post | RestMethod::Put) {
            // The HTTP library sends no length with an empty body, and some servers reject a POST without one.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Self {
            method,
            path: call.path.sent().to_owned(),
            query: OutgoingQuery::Encoded(call.query.clone()),
            headers,
            body: has_body.then(|| call.body.clone()),
        }
    }
}

/// The content type of bodies.
const JSON: &str = "application/json";

/// Maximum of `breaker_failures`.
const MAX_BREAKER_FAILURES: u32 = 1_000;
/// Minimum of `breaker_pause`.
const MIN_BREAKER_PAUSE: Duration = Duration::from_millis(10);
/// Maximum of `breaker_pause`, `breaker_max_pause` and `max_retry_after`.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The settings `[tenants.NAME.upstream]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrmSettings {
    /// Maximum time to establish a connection.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Maximum time until the response is complete.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long an idle connection is kept. It should be less than LeadSquared's own time, so that leadgate closes first.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Maximum number of requests in progress.
    pub max_in_flight: usize,
    /// Maximum length of a response in bytes, after decompression.
    pub max_answer_bytes: usize,
    /// Whether HTTP/2 is used instead of HTTP/1.1. Without TLS it is used by prior knowledge.
    pub http2: bool,
    /// Maximum number of attempts of a call. Attempts that the rate limit refused do not count.
    pub max_attempts: u32,
    /// Maximum time to reconcile a write whose response was lost, and maximum time for which LeadSquared may still execute a
    /// request after its timeout.
    #[serde(with = "humantime_serde")]
    pub settle_timeout: Duration,
    /// The time after a lost response, except for a timeout, until all reads of LeadSquared show an executed write.
    #[serde(with = "humantime_serde")]
    pub visible_after: Duration,
    /// The number of consecutive failures of different operations that opens the circuit breaker. 0: it never opens.
    pub breaker_failures: u32,
    /// The pause before the first probe while the circuit breaker is open. Each further pause is twice as long.
    #[serde(with = "humantime_serde")]
    pub breaker_pause: Duration,
    /// Maximum pause between probes.
    #[serde(with = "humantime_serde")]
    pub breaker_max_pause: Duration,
    /// Maximum time for which a `Retry-After` is obeyed. Zero: `Retry-After` is ignored.
    #[serde(with = "humantime_serde")]
    pub max_retry_after: Duration,
    /// The URL of the proxy, with its credentials. Empty: no proxy. Proxies in the environment are ignored.
    pub proxy: SecretString,
    /// Whether LeadSquared may be at a private address, such as 10.0.0.1. With a proxy, the proxy decides.
    pub allow_private_addresses: bool,
}

impl CrmSettings {
    /// The settings of the circuit breaker.
    pub fn breaker(&self) -> breaker::BreakerSettings {
        breaker::BreakerSettings {
            failures: self.breaker_failures,
            pause: self.breaker_pause,
            max_pause: self.breaker_max_pause,
            max_retry_after: self.max_retry_after,
        }
    }

    /// Whether LeadSquared is reached through a proxy.
    pub fn has_proxy(&self) -> bool {
        !self.proxy.expose_secret().is_empty()
    }

    /// The URL of the proxy. `None` if it is empty or invalid.
    fn proxy_url(&self) -> Option<Url> {
        let url = Url::parse(self.proxy.expose_secret()).ok()?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        (matches!(url.scheme(), "http" | "https") && url.has_host() && is_bare).then_some(url)
    }

    /// Whether the URL has an address to which no connection is allowed. A host name is checked when it is resolved.
    pub fn refuses(&self, base_url: &Url) -> bool {
        !self.allow_private_addresses && address::of_url(base_url).is_some_and(|ip| !address::is_allowed(ip))
    }

    /// Returns the invalid settings: the key, and what is valid.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let at_least_one = [
            ("max_in_flight", self.max_in_flight == 0),
            ("max_answer_bytes", self.max_answer_bytes == 0),
            ("max_attempts", self.max_attempts == 0),
        ];
        let not_zero = [
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("timeout", self.timeout.is_zero()),
        ];
        let errors = |rows: &[(&'static str, bool)], text: &str| -> Vec<_> {
            rows.iter()
                .filter(|(_, is_invalid)| *is_invalid)
                .map(|(key, _)| (*key, text.to_owned()))
                .collect()
        };
        let mut all = errors(&at_least_one, "must be at least 1");
        all.extend(errors(&not_zero, "must not be zero"));
        if self.breaker_failures > MAX_BREAKER_FAILURES {
            let text = format!("must be 0 to {MAX_BREAKER_FAILURES}; 0: the circuit breaker never opens");
            all.push(("breaker_failures", text));
        }
        if self.breaker_pause < MIN_BREAKER_PAUSE || self.breaker_pause > MAX_WAIT {
            all.push(("breaker_pause", "must be 10ms to 24h".to_owned()));
        }
        if self.breaker_max_pause < self.breaker_pause || self.breaker_max_pause > MAX_WAIT {
            all.push(("breaker_max_pause", "must be breaker_pause to 24h".to_owned()));
        }
        if self.max_retry_after > MAX_WAIT {
            all.push(("max_retry_after", "must be 0s to 24h".to_owned()));
        }
        if self.has_proxy() && self.proxy_url().is_none() {
            let text = "must be the http:// or https:// URL of a proxy, without a path, such as \"http://proxy.example:3128\", \
                        or empty";
            all.push(("proxy", text.to_owned()));
        }
        all
    }
}

/// The client of one account. Clones share the connections and the quota.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    http: reqwest::Client,
    base: Url,
    settings: CrmSettings,
    in_flight: Arc<Semaphore>,
    quota: Quota,
    metrics: Arc<Metrics>,
    tenant: String,
    /// Requests in progress whose callers no longer wait, and requests of several callers.
    exchanges: TaskTracker,
    clock: UpstreamClock,
    lease: TenantLease,
    /// Lanes whose operations are sent one by one, and lanes of which no member was served.
    disabled_lanes: batch::DisabledLanes,
    absent_lanes: batch::DisabledLanes,
    registries: batch::Registries,
    keys: AccountKeys,
    outage: Outage,
    /// Whether LeadSquared rejected the keys, and has accepted no call since.
    credentials_rejected: AtomicBool,
}

/// The right to send one call: a slot of the quota and one of the `max_in_flight` requests.
#[must_use = "an unused permit holds a slot of the quota"]
pub struct CallPermit {
    slot: Slot,
    connection: OwnedSemaphorePermit,
    /// How long the call has waited for its slot.
    queued: Duration,
}

/// A request that was sent, and its response.
struct Exchanged {
    response: Result<UpstreamResponse>,
    /// How long the call has waited for its slot.
    queued: Duration,
    took: Duration,
    /// The number of operations: more than one for a batch.
    operations: usize,
    span: Span,
}

/// The response, and the positions at the head of the queue of its calls if they were refused.
type ExchangeResult = (Result<UpstreamResponse>, Vec<Requeue>);

impl Client {
    /// A client of the account at that URL. Fails if the keys are no valid header values or if TLS cannot be set up.
    pub fn new(
        tenant: &str,
        base: Url,
        keys: &Keys,
        settings: CrmSettings,
        quota: Quota,
        metrics: Arc<Metrics>,
    ) -> std::result::Result<Self, String> {
        let keys = AccountKeys::new(keys.clone())?;
        account::set_in_use(&metrics, tenant, keys.in_use().name);
        let lease = quota.lease();
        let http = http_client(tenant, &settings, base.scheme(), lease.lateness())?;
        Ok(Self {
            shared: Arc::new(Shared {
                http,
                base,
                in_flight: Arc::new(Semaphore::new(settings.max_in_flight)),
                exchanges: TaskTracker::new(),
                clock: UpstreamClock::default(),
                lease,
                disabled_lanes: batch::DisabledLanes::default(),
                absent_lanes: batch::DisabledLanes::default(),
                registries: batch::Registries::default(),
                keys,
                outage: Outage::default(),
                credentials_rejected: AtomicBool::new(false),
                settings,
                quota,
                metrics,
                tenant: tenant.to_owned(),
            }),
        })
    }

    /// The number of requests in progress.
    pub fn in_progress(&self) -> usize {
        let shared = &*self.shared;
        shared
            .settings
            .max_in_flight
            .saturating_sub(shared.in_flight.available_permits())
    }

    /// Counts a lookup in a cache of responses of an endpoint: `fresh`, `stale` or `missing`.
    pub fn looked_up(&self, endpoint: &'static str, result: &'static str) {
        self.shared.metrics.looked_up(&self.shared.tenant, endpoint, result);
    }

    /// Checks whether a client of an account could be made now: its keys can be read, and the HTTP library accepts the settings.
    pub fn check_settings(
        tenant: &str,
        base: &Url,
        keys: &Keys,
        settings: &CrmSettings,
    ) -> std::result::Result<(), String> {
        AccountKeys::new(keys.clone())?;
        http_client(tenant, settings, base.scheme(), None).map(drop)
    }

    /// Makes a call, with further attempts if they are safe. Every attempt costs quota.
    pub async fn call<O: Operation>(&self, context: &RequestContext, operation: &O) -> Result<O::Output> {
        self.call_from(None, context, operation).await
    }

    /// Makes a call with one attempt only.
    pub async fn try_once<O: Operation>(&self, context: &RequestContext, operation: &O) -> Result<O::Output> {
        let mut retries = Retries::new(operation.safety(), 1);
        match self.attempt(context, operation, None, &mut retries).await {
            Ok(response) => Ok(response),
            Err(error) => {
                // The next call does not use the position at the head of the queue.
                drop(retries.requeue());
                Err(error)
            }
        }
    }

    /// Makes a read with one attempt if a slot of the quota is free now, and returns `None` otherwise. See
    /// [`Quota::try_acquire`].
    pub async fn call_if_free<O: Operation>(
        &self,
        context: &RequestContext,
        operation: &O,
        if_idle: bool,
    ) -> Option<Result<O::Output>> {
        let connection = self.shared.in_flight.clone().try_acquire_owned().ok()?;
        let permit = CallPermit {
            slot: self
                .shared
                .quota
                .try_acquire(context, &slot_request(operation), if_idle)?,
            connection,
            queued: Duration::ZERO,
        };
        // A refused call is not sent again.
        let mut retries = Retries::new(operation.safety(), 1);
        Some(self.attempt(context, operation, Some(permit), &mut retries).await)
    }

    /// Waits until the call can be sent, for callers that write a record right before they send it.
    pub async fn acquire<O: Operation>(&self, context: &RequestContext, operation: &O) -> Result<CallPermit> {
        let mut retries = Retries::new(operation.safety(), 1);
        self.acquire_for(context, &slot_request(operation), &mut retries).await
    }

    /// Makes a call. The first attempt uses the permit.
    pub async fn call_from<O: Operation>(
        &self,
        permit: Option<CallPermit>,
        context: &RequestContext,
        operation: &O,
    ) -> Result<O::Output> {
        let retries = Retries::new(operation.safety(), self.shared.settings.max_attempts);
        self.call_with(retries, permit, context, operation).await
    }

    /// Makes a call that is passed on. Each attempt must have its slot at `slot_by`, if it is given. `returns_refusals`: a refused call is
    /// not sent again.
    pub async fn pass_on(
        &self,
        context: &RequestContext,
        call: &Passthrough<'_>,
        slot_by: Option<Instant>,
        returns_refusals: bool,
    ) -> Result<RestResponse> {
        let retries = Retries::new(call.safety(), self.shared.settings.max_attempts);
        let retries = retries.with_slot_by(slot_by).returning_refusals(returns_refusals);
        self.call_with(retries, None, context, call).await
    }

    async fn call_with<O: Operation>(
        &self,
        mut retries: Retries,
        mut permit: Option<CallPermit>,
        context: &RequestContext,
        operation: &O,
    ) -> Result<O::Output> {
        loop {
            match self.attempt(context, operation, permit.take(), &mut retries).await {
                Ok(response) => return Ok(response),
                Err(error) => self.pause(context, error, &mut retries).await?,
            }
        }
    }

    /// Waits until the next attempt. Fails with the error for the caller if there is none.
    async fn pause(&self, context: &RequestContext, error: Error, retries: &mut Retries) -> Result<()> {
        retries.pause(context, error, self.shared.quota.is_open()).await
    }

    /// Maximum time until the response to a request is complete.
    pub fn timeout(&self) -> Duration {
        self.shared.settings.timeout
    }

    /// Maximum time to reconcile a write whose response was lost.
    pub fn settle_timeout(&self) -> Duration {
        self.shared.settings.settle_timeout
    }

    /// The time after a lost response from which a look-up that does not find the write is conclusive.
    pub fn visible_after(&self) -> Duration {
        self.shared.settings.visible_after
    }

    /// The name of the account.
    pub fn tenant(&self) -> &str {
        &self.shared.tenant
    }

    /// The metrics that the client updates.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// LeadSquared's clock.
    pub fn clock(&self) -> &UpstreamClock {
        &self.shared.clock
    }

    /// Why LeadSquared cannot be reached now, with host and port. The text is for operators.
    pub fn outage(&self) -> Option<String> {
        let cause = self.shared.outage.current()?;
        Some(format!("{}: {cause}", self.shared.address(cause)))
    }

    /// The cause of [`Client::outage`].
    pub fn outage_cause(&self) -> Option<Cause> {
        self.shared.outage.current()
    }

    /// Whether LeadSquared rejected the keys in use, and has accepted no call since.
    pub fn credentials_rejected(&self) -> bool {
        self.shared.credentials_rejected.load(Ordering::Relaxed)
    }

    /// Records whether LeadSquared rejects the keys in use, and logs a change.
    fn set_credentials_rejected(&self, is_rejected: bool) {
        let shared = &*self.shared;
        // Most calls change nothing, and do not write to the memory that all threads read.
        if self.credentials_rejected() == is_rejected {
            return;
        }
        let tenant = &shared.tenant;
        match (
            shared.credentials_rejected.swap(is_rejected, Ordering::Relaxed),
            is_rejected,
        ) {
            (false, true) => {
                tracing::warn!(%tenant, "LeadSquared rejects the keys in use: RPCs fail until it accepts a pair of keys");
            }
            (true, false) => tracing::info!(%tenant, "LeadSquared accepts the keys in use again"),
            (true, true) | (false, false) => {}
        }
    }

    /// Whether the quota would admit a call of this operation now.
    pub fn would_admit<O: Operation>(&self, context: &RequestContext, operation: &O) -> bool {
        self.shared.quota.would_admit(context, &slot_request(operation))
    }

    async fn acquire_for(
        &self,
        context: &RequestContext,
        request: &SlotRequest,
        retries: &mut Retries,
    ) -> Result<CallPermit> {
        let requeue = retries.requeue();
        let quota = &self.shared.quota;
        let acquired = async {
            let Some(by) = retries.slot_by() else {
                return quota.acquire(context, request, requeue).await;
            };
            // A first attempt gets a free slot also if this process was slow until here.
            let by = match requeue {
                None => by.max(Instant::now()),
                Some(_) => by,
            };
            // The deadline of a call in the queue is that of its response.
            let waiting = RequestContext {
                deadline: by + quota.usual_latency(request.endpoint) + MIN_PATIENCE,
                ..context.clone()
            };
            let slot = tokio::time::timeout_at(by, quota.acquire(&waiting, request, requeue)).await;
            let is_too_late = |error: &Error| matches!(error.kind, ErrorKind::DeadlineExceeded { .. });
            match slot {
                Ok(Err(error)) if !is_too_late(&error) => Err(error),
                Ok(Ok(slot)) => Ok(slot),
                // The attempt was not sent, and the attempts that were refused before were not executed.
                Ok(Err(_)) | Err(_) => Err(ErrorKind::DeadlineInfeasible { retry_after: NO_SLOT }.into()),
            }
        };
        let (slot, queued) = timed(context, acquired).await?;
        let connection = self.connection(context).await?;
        Ok(CallPermit {
            slot,
            connection,
            queued,
        })
    }

    async fn connection(&self, context: &RequestContext) -> Result<OwnedSemaphorePermit> {
        let connection = self.shared.in_flight.clone().acquire_owned();
        let connection = context.wait("a connection", connection).await?;
        // The account may have been paused meanwhile.
        if self.is_paused() {
            return Err(ErrorKind::TenantPaused.into());
        }
        connection.map_err(|_| ErrorKind::ShuttingDown.into())
    }

    /// Whether an operator has paused the account, so that no call is sent.
    pub fn is_paused(&self) -> bool {
        self.shared.quota.is_paused()
    }

    /// Waits until the account is paused (`true`) or not paused.
    pub async fn until_paused(&self, is_paused: bool) {
        self.shared.quota.until_paused(is_paused).await;
    }

    /// Makes one attempt. If its keys are rejected and another pair is accepted, it is sent again with that pair.
    async fn attempt<O: Operation>(
        &self,
        context: &RequestContext,
        operation: &O,
        mut permit: Option<CallPermit>,
        retries: &mut Retries,
    ) -> Result<O::Output> {
        let request = slot_request(operation);
        let mut switches = 0;
        loop {
            let permit = match permit.take() {
                Some(permit) => permit,
                None if switches == 0 => self.acquire_for(context, &request, retries).await?,
                None => self.acquire_for(&first_in_queue(context), &request, retries).await?,
            };
            let pair = self.shared.keys.in_use();
            let result = self.attempt_with(context, operation, &pair, permit, retries).await;
            match self.decide_keys(context, &pair, result).await {
                KeyDecision::Done(result) => return result,
                KeyDecision::SendAgain(result) if switches == MAX_KEY_SWITCHES => return result,
                KeyDecision::SendAgain(_) => switches += 1,
            }
            if operation.safety() == Safety::Once {
                context.not_executed().await;
            }
        }
    }

    /// Makes one attempt with these keys.
    async fn attempt_with<O: Operation>(
        &self,
        context: &RequestContext,
        operation: &O,
        pair: &KeyPair,
        permit: CallPermit,
        retries: &mut Retries,
    ) -> Result<O::Output> {
        if operation.safety() == Safety::Once {
            context.begin().await?;
        }
        let queued = permit.queued;
        context.sent();

        let sent = Instant::now();
        let mut span = Span::default();
        let sending = self.send(context, operation, pair, retries.operation(), permit, &mut span);
        let (response, mut requeues) = sending.await;
        let exchanged = Exchanged {
            response,
            queued,
            took: sent.elapsed(),
            operations: 1,
            span,
        };
        let result = self.read(context, operation, exchanged);
        let is_refused = result.as_ref().err().is_some_and(Error::is_refused);
        retries.set_requeue(requeues.pop().filter(|_| is_refused));
        result
    }

    /// Reads the response and reports the attempt.
    fn read<O: Operation>(&self, context: &RequestContext, operation: &O, exchanged: Exchanged) -> Result<O::Output> {
        let Exchanged {
            response,
            queued,
            took,
            operations,
            span,
        } = exchanged;
        let status = response.as_ref().ok().map(|response| response.status.as_u16());
        let result = response.and_then(|response| {
            operation
                .decode(&response)
                .map_err(|error| error.with_status(response.status.as_u16()))
        });
        let unreadable = result.as_ref().map_or(0, O::unreadable);
        end_attempt(span, operation.name(), status, result.as_ref().err());
        self.report(
            context,
            operation.name(),
            status,
            queued,
            took,
            result.as_ref().err(),
            unreadable,
            operations,
        );
        result
    }

    /// Sends one request. The exchange continues even if the caller no longer waits, so that the response is reported to the slot. A read ends at the caller's deadline. A write ends with its response or after `upstream.timeout`.
    async fn send<O: Operation>(
        &self,
        context: &RequestContext,
        operation: &O,
        pair: &KeyPair,
        id: OperationId,
        permit: CallPermit,
        span: &mut Span,
    ) -> ExchangeResult {
        let request = match self.build(operation.request().into(), pair) {
            Ok(request) => request,
            Err(error) => return (Err(error), Vec::new()),
        };
        let foreign = operation.has_foreign_path().then(|| operation.name());
        *span = attempt_span(&context.trace, &request, foreign);
        let timeout = Instant::now() + self.shared.settings.timeout;
        let exchange = ToEnd::new(
            self.clone().exchange(id, request, permit, timeout, O::verdict),
            &self.shared.exchanges,
        );
        match operation.safety() {
            Safety::Repeatable => match tokio::time::timeout_at(context.deadline, exchange).await {
                Ok(result) => result,
                Err(_) => (Err(deadline_exceeded(UPSTREAM_RESPONSE)), Vec::new()),
            },
            // The exchange ends at `timeout`.
            Safety::Once => exchange.await,
        }
    }

    async fn exchange(
        self,
        id: OperationId,
        mut request: reqwest::Request,
        permit: CallPermit,
        timeout: Instant,
        verdict: fn(&UpstreamResponse) -> Verdict,
    ) -> ExchangeResult {
        let shared = &*self.shared;
        let CallPermit {
            mut slot,
            connection: _connection,
            ..
        } = permit;
        slot.sent();
        let check = shared.last_check(&mut request);
        let exchange = async {
            let is_https = shared.base.scheme() == "https";
            let response = shared.http.execute(request).await;
            let response = response.map_err(|error| match &check {
                Some(check) if check.has_refused() => ErrorKind::Moved { sent: false }.into(),
                _ => from_reqwest(error, is_https),
            })?;
            if let Some(date) = response.headers().get(DATE) {
                shared.clock.observe(date);
            }
            let retry_after = clock::retry_after(response.headers());
            let response = read(response, shared.settings.max_answer_bytes, is_https).await?;
            Ok::<_, Error>((shared.check_origin(response)?, retry_after))
        };
        match tokio::time::timeout_at(timeout, exchange).await {
            Ok(Ok((response, retry_after))) => {
                shared.reached();
                let (verdict, status) = (verdict(&response), response.status.as_u16());
                let obeys_retry_after = matches!(status, 429 | 503) || verdict != Verdict::Accepted;
                let outcome = breaker::BreakerSignal {
                    operation: id,
                    is_failure: response.is_failure(),
                    retry_after: retry_after.filter(|_| obeys_retry_after),
                };
                shared.report_to_breaker(&mut slot, &outcome, Some(status), None);
                (Ok(response), slot.responded(verdict))
            }
            Ok(Err(error)) => {
                // A response that is too long is a response.
                let is_failure = matches!(error.kind, ErrorKind::Unavailable { .. });
                shared.report_missing_response(&mut slot, id, is_failure, &error);
                match error.kind {
                    ErrorKind::Unavailable { sent: false } => slot.unsent(),
                    // With HTTP/2, the headers may have been sent.
                    ErrorKind::Moved { sent: false } if !shared.settings.http2 => slot.unsent(),
                    _ => {}
                }
                if let Some(cause) = error.details.cause {
                    shared.not_reached(cause);
                }
                (Err(error), Vec::new())
            }
            Err(_) => {
                let cause = Cause::ResponseTimeout;
                let error = Error::from(ErrorKind::Unavailable { sent: true }).with_cause(cause);
                shared.report_missing_response(&mut slot, id, true, &error);
                shared.not_reached(cause);
                (Err(error), Vec::new())
            }
        }
    }

    fn build(&self, request: OutgoingRequest, pair: &KeyPair) -> Result<reqwest::Request> {
        let shared = &*self.shared;
        let url = request.url(&shared.base);
        let bytes = url.query().map_or(0, str::len);
        if bytes > MAX_QUERY_BYTES {
            let text = format!("is too long for a URL: {bytes} bytes, encoded; must be at most {MAX_QUERY_BYTES}");
            return Err(Error::invalid("request", text));
        }
        let builder = shared.http.request(request.method, url).headers(request.headers);
        let builder = match request.body {
            None => builder,
            Some(body) => builder.body(body),
        };
        builder
            .headers(pair.headers())
            .build()
            // No request that was checked.
            .map_err(|_| Error::invalid("request", "cannot be sent to LeadSquared"))
    }

    /// Logs and counts one attempt. The log has the endpoint but not the URL, whose query may contain personal data.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of the log line")]
    fn report(
        &self,
        context: &RequestContext,
        endpoint: &'static str,
        status: Option<u16>,
        queued: Duration,
        took: Duration,
        error: Option<&Error>,
        unreadable: usize,
        operations: usize,
    ) {
        let shared = &*self.shared;
        let outcome = error.map_or("ok", Error::name);
        tracing::info!(
            target: "leadgate::attempt",
            request_id = %context.id,
            mutation_id = context.mutation.map(tracing::field::display),
            trace_id = context.trace.id().map(tracing::field::display),
            tenant = %shared.tenant,
            endpoint,
            status,
            outcome,
            exception_type = error.and_then(|error| error.details.exception_type.as_deref()),
            cause = error.and_then(|error| error.details.cause).map(Cause::name),
            unreadable = Some(unreadable).filter(|count| *count > 0),
            queued_ms = queued.as_millis() as u64,
            took_ms = took.as_millis() as u64,
            "upstream request finished"
        );
        shared.metrics.attempted(&Attempt {
            tenant: &shared.tenant,
            caller: &context.caller,
            endpoint,
            outcome,
            took,
            queued,
            class: context.criticality.name(),
            cause: error.and_then(|error| error.details.cause).map(Cause::name),
            trace_id: context.trace.exemplar(),
            refused_with: status.filter(|_| error.is_some_and(|error| matches!(error.kind, ErrorKind::Refused(_)))),
            operations,
        });
    }
}

impl Shared {
    /// Lets a request check the lease immediately before its first byte is written. `None`: the lease is permanent.
    fn last_check(&self, request: &mut reqwest::Request) -> Option<LastCheck> {
        self.lease.fence()?;
        let check = LastCheck::new(&self.lease);
        let data = request.body().and_then(reqwest::Body::as_bytes);
        let body = check.body(data.map(Bytes::copy_from_slice));
        *request.body_mut() = Some(body);
        Some(check)
    }

    /// The host and port that the cause is about: those of the proxy or of LeadSquared.
    fn address(&self, cause: Cause) -> String {
        let is_about_proxy = matches!(
            cause,
            Cause::Dns | Cause::Refused | Cause::Unreachable | Cause::ConnectTimeout | Cause::Proxy
        );
        let proxy = self.settings.proxy_url().filter(|_| is_about_proxy);
        let url = proxy.as_ref().unwrap_or(&self.base);
        let port = url.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", url.host_str().unwrap_or_default())
    }

    /// Reports a missing or unreadable response to the circuit breaker.
    fn report_missing_response(&self, slot: &mut Slot, operation: OperationId, is_failure: bool, error: &Error) {
        let response = breaker::BreakerSignal {
            operation,
            is_failure,
            retry_after: None,
        };
        self.report_to_breaker(slot, &response, error.details.upstream_status, error.details.cause);
    }

    /// Reports a response to the circuit breaker, and logs a change of the breaker.
    fn report_to_breaker(
        &self,
        slot: &mut Slot,
        response: &breaker::BreakerSignal,
        status: Option<u16>,
        cause: Option<Cause>,
    ) {
        let tenant = &self.tenant;
        let cause = cause.map(Cause::name);
        match slot.judged(response) {
            Some(breaker::BreakerChange::Opened { failures, next_probe }) => tracing::warn!(
                %tenant,
                failures,
                status,
                cause,
                retry_after_ms = response.retry_after.map(|after| after.as_millis() as u64),
                next_probe_ms = next_probe.as_millis() as u64,
                "circuit breaker opened: LeadSquared is failing; calls wait until a probe succeeds"
            ),
            Some(breaker::BreakerChange::ProbeFailed { next_probe }) => tracing::debug!(
                %tenant,
                status,
                cause,
                next_probe_ms = next_probe.as_millis() as u64,
                "circuit breaker stays open: the probe failed"
            ),
            Some(breaker::BreakerChange::Closed { open, probes }) => tracing::info!(
                %tenant,
                open_ms = open.as_millis() as u64,
                probes,
                "circuit breaker closed: LeadSquared responds again"
            ),
            None => {}
        }
    }

    /// Records that LeadSquared responded.
    fn reached(&self) {
        if self.outage.ended(Instant::now()) == Some(OutageChange::Ended) {
            tracing::info!(tenant = %self.tenant, "LeadSquared can be reached again");
        }
    }

    /// Records that there was no response. Logs a new cause.
    fn not_reached(&self, cause: Cause) {
        if self.outage.failed(cause, Instant::now()) == Some(OutageChange::Began) {
            tracing::warn!(
                tenant = %self.tenant,
                address = %self.address(cause),
                cause = cause.name(),
                "LeadSquared cannot be reached: {cause}"
            );
        }
    }

    /// Returns the response. Fails if it shows that the request did not reach LeadSquared because of wrong settings.
    fn check_origin(&self, response: UpstreamResponse) -> Result<UpstreamResponse> {
        if self.settings.has_proxy() && response.status == http::StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(Error::from(ErrorKind::Unavailable { sent: false }).with_cause(Cause::Proxy));
        }
        if self.base.scheme() == "http" && response.wants_https() {
            return Err(Error::from(ErrorKind::Unavailable { sent: true }).with_cause(Cause::HttpsOnly));
        }
        Ok(response)
    }
}

/// Starts the span of one attempt. It has neither the query of the URL, which may contain personal data, nor the headers with the keys.
/// `foreign`: the name of the endpoint if the path is that of a client. Then the span has no URL.
fn attempt_span(trace: &Trace, request: &reqwest::Request, foreign: Option<&'static str>) -> Span {
    let (method, url) = (request.method(), request.url());
    let mut span = trace.client_span(|| format!("{method} {}", foreign.unwrap_or_else(|| url.path())));
    span.set_with("http.request.method", || method.to_string());
    span.set_with("server.address", || url.host_str().unwrap_or_default().to_owned());
    span.set_with("server.port", || {
        i64::from(url.port_or_known_default().unwrap_or_default())
    });
    if foreign.is_some() {
        return span;
    }
    span.set_with("url.full", || {
        let mut url = url.clone();
        url.set_query(None);
        // The settings allow none.
        let _ = (url.set_username(""), url.set_password(None));
        url.to_string()
    });
    span
}

fn end_attempt(mut span: Span, endpoint: &'static str, status: Option<u16>, error: Option<&Error>) {
    span.set("leadgate.endpoint", endpoint);
    if let Some(status) = status {
        span.set("http.response.status_code", i64::from(status));
    }
    if let Some(error) = error {
        span.fail(error.name());
        if let Some(cause) = error.details.cause {
            span.set("leadgate.cause", cause.name());
        }
    }
}

/// The slot that a single call needs.
fn slot_request<O: Operation>(operation: &O) -> SlotRequest {
    SlotRequest {
        cost: operation.cost(),
        endpoint: operation.measured_as(),
        keys: operation.keys(),
        batch: None,
    }
}

/// The same context in the highest class of the queue, for a call that has waited in the queue before.
fn first_in_queue(context: &RequestContext) -> RequestContext {
    RequestContext {
        criticality: Criticality::CriticalPlus,
        ..context.clone()
    }
}

/// Waits for a slot. Returns also how long it took.
async fn timed<T>(context: &RequestContext, slot: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let slot = slot.await;
    let queued = start.elapsed();
    context.queued(queued);
    Ok((slot?, queued))
}

/// The URL of an endpoint: the path is that after `/v2/`, the query is not encoded.
fn endpoint_url(base: &Url, path: &str, query: &[(&'static str, String)]) -> Url {
    let mut url = below(base, &format!("v2/{path}"));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// The URL of a path below the address of an account.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// `lateness`: with several replicas, the maximum time for which bytes that were written may stay on their way.
fn http_client(
    tenant: &str,
    settings: &CrmSettings,
    scheme: &str,
    lateness: Option<Duration>,
) -> std::result::Result<reqwest::Client, String> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("leadgate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(settings.idle_timeout)
        .pool_max_idle_per_host(settings.max_in_flight)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // Only the settings say how an account is reached.
        .no_proxy();
    let builder = match settings.proxy_url() {
        None => builder,
        // The error may contain the proxy's password.
        Some(url) => builder.proxy(
            reqwest::Proxy::all(url).map_err(|_| "the URL of the proxy is invalid (upstream.proxy)".to_owned())?,
        ),
    };
    // With a proxy, only the name of the proxy is resolved here.
    let builder = match settings.allow_private_addresses || settings.has_proxy() {
        true => builder,
        false => builder.dns_resolver(Resolver::new(tenant)),
    };
    let builder = match lateness {
        None => builder,
        Some(lateness) => builder.tcp_user_timeout(lateness),
    };
    let builder = match (settings.http2, scheme) {
        (false, _) => builder.http1_only(),
        (true, "http") => builder.http2_prior_knowledge(),
        (true, _) => builder,
    };
    builder
        .build()
        .map_err(|error| format!("the HTTPS client cannot be set up: {}", error.without_url()))
}

/// Reads a response of at most `max` bytes. Fails if the response is longer or incomplete.
async fn read(mut response: reqwest::Response, max: usize, is_https: bool) -> Result<UpstreamResponse> {
    let status = response.status();
    let mut head = ResponseHead::of(response.headers());
    let mut body = Vec::new();
    // The HTTP library has removed the name of an encoding that it has decoded.
    let encoding = response.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let path = "the body, which is compressed in another way than gzip".to_owned();
        let error = Error::from(ErrorKind::Unreadable { path }).with_cause(Cause::Other);
        return Err(error.with_status(status.as_u16()));
    }
    // Its status shows that the response had begun.
    let incomplete = |error| from_reqwest(error, is_https).with_status(status.as_u16());
    while let Some(chunk) = response.chunk().await.map_err(incomplete)? {
        if body.len() + chunk.len() > max {
            let path = format!("byte {max}, which is upstream.max_answer_bytes");
            return Err(Error::from(ErrorKind::Unreadable { path }).with_status(status.as_u16()));
        }
        body.extend_from_slice(&chunk);
    }
    // A byte order mark is not valid JSON.
    let body = bytes::Bytes::from(body);
    let body = if body.starts_with(b"\xef\xbb\xbf") {
        head.marked_body = Some(body.clone());
        body.slice(3..)
    } else {
        body
    };
    Ok(UpstreamResponse { status, body, head })
}

fn from_reqwest(error: reqwest::Error, is_https: bool) -> Error {
    // Only if the connection failed, nothing was certainly sent.
    let sent = !(error.is_connect() || error.is_builder());
    let cause = cause::of(&error, is_https);
    tracing::debug!(error = ?error.without_url(), "upstream request failed");
    Error::from(ErrorKind::Unavailable { sent }).with_cause(cause)
}
