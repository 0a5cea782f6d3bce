//! LeadSquared's REST API: how a call is made. The only place that knows reqwest.

mod account;
pub mod activity;
pub mod authentication;
pub mod batch;
pub mod bulk;
mod cause;
pub mod clock;
mod json;
pub mod lead;
pub mod lost;
pub mod metadata;
pub mod removal;
pub mod response;
pub mod retry;
pub mod search;
pub mod share;
pub mod user;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::context::{RequestContext, deadline_exceeded};
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::quota::breaker::{self, OperationId};
use crate::quota::{Cost, Quota, Requeue, Slot, SlotRequest, Verdict};
use crate::telemetry::metrics::{Attempt, Metrics};
use account::Account;
use cause::{News, Outage};
use clock::Clock;
use response::UpstreamResponse;
use retry::{Retries, Safety};

/// Maximum length of the query of a URL. The texts of callers are checked before, field by field, so that it is not reached: a
/// longer one would fail in each attempt, in our HTTP library or at LeadSquared.
const MAX_QUERY_BYTES: usize = 16 * 1024;

/// One endpoint: how to ask, and how to read the answer. Built, inspected and tested without a client.
pub trait Operation: Sync {
    /// What the answer says.
    type Output: Send;
    /// The vendor's name of the endpoint, for logs and metrics.
    const NAME: &'static str;
    /// Whether it may be sent twice.
    const SAFETY: Safety;
    /// What it pays.
    const COST: Cost = Cost::Call;
    /// What it writes: calls that write the same are sent one after the other, in the order in which they came.
    fn keys(&self) -> Vec<String> {
        Vec::new()
    }
    /// How to ask.
    fn request(&self) -> Request;
    /// How to read the answer.
    fn decode(&self, response: &UpstreamResponse) -> Result<Self::Output>;
    /// The number of records in the answer that cannot be read. The others are in the output.
    fn unreadable(_output: &Self::Output) -> usize {
        0
    }
}

/// A request to LeadSquared, without host and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The path behind `/v2/`.
    pub path: &'static str,
    /// The query, not yet encoded.
    pub query: Vec<(&'static str, String)>,
    /// The JSON to post; `None` makes it a GET.
    pub body: Option<String>,
}

/// Maximum of `breaker_failures`.
const MAX_BREAKER_FAILURES: u32 = 1_000;
/// Minimum of `breaker_pause`.
const MIN_BREAKER_PAUSE: Duration = Duration::from_millis(10);
/// Maximum of the times for which nothing is sent.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How to talk to LeadSquared (`[tenants.NAME.upstream]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrmSettings {
    /// How long a connection may take to be made.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long an answer may take in all.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long an idle connection is kept; below the vendor's own, so that we close first.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// The most requests at one time.
    pub max_in_flight: usize,
    /// The longest answer, in bytes after decompression.
    pub max_answer_bytes: usize,
    /// HTTP/2 instead of HTTP/1.1; without TLS by prior knowledge.
    pub http2: bool,
    /// How often a call is sent at most, refusals not counted.
    pub max_attempts: u32,
    /// How long a write whose answer is lost may take to be settled after its caller has gone, and how long a request may still
    /// be running after its timeout.
    #[serde(with = "humantime_serde")]
    pub settle_timeout: Duration,
    /// How long after a lost answer, timeouts apart, it takes until what a write has done is seen by all reads.
    #[serde(with = "humantime_serde")]
    pub visible_after: Duration,
    /// The number of failures in a row of different operations that open the circuit breaker; 0: it never opens.
    pub breaker_failures: u32,
    /// The pause before the first probe while the circuit breaker is open. Each further pause is twice as long.
    #[serde(with = "humantime_serde")]
    pub breaker_pause: Duration,
    /// Maximum length of such a pause.
    #[serde(with = "humantime_serde")]
    pub breaker_max_pause: Duration,
    /// Maximum time of a `Retry-After` that is kept to. Zero: none is kept to.
    #[serde(with = "humantime_serde")]
    pub max_retry_after: Duration,
    /// The proxy through which LeadSquared is reached, with its credentials; empty: none. The environment names none.
    pub proxy: SecretString,
}

impl CrmSettings {
    /// How the circuit breaker behaves.
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

    /// The proxy's address; `None` if it is no such.
    fn proxy_url(&self) -> Option<Url> {
        let url = Url::parse(self.proxy.expose_secret()).ok()?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        (matches!(url.scheme(), "http" | "https") && url.has_host() && is_bare).then_some(url)
    }

    /// What is wrong with them: the key, and what would be right.
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
        let faults = |rows: &[(&'static str, bool)], text: &str| -> Vec<_> {
            rows.iter()
                .filter(|(_, wrong)| *wrong)
                .map(|(key, _)| (*key, text.to_owned()))
                .collect()
        };
        let mut all = faults(&at_least_one, "must be at least 1");
        all.extend(faults(&not_zero, "must not be zero"));
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

/// An account's keys.
#[derive(Clone, Debug)]
pub struct Keys {
    /// `x-LSQ-AccessKey`.
    pub access: SecretString,
    /// `x-LSQ-SecretKey`.
    pub secret: SecretString,
}

/// The client of one account. Clones share its connections and its quota.
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
    /// Requests under way. Nobody waits for them as such: who wants an answer waits for it.
    exchanges: TaskTracker,
    clock: Clock,
    /// Lanes whose operations go one by one, and lanes of which no member was served.
    disabled_lanes: batch::DisabledLanes,
    absent_lanes: batch::DisabledLanes,
    registries: batch::Registries,
    account: Account,
    outage: Outage,
    /// Whether LeadSquared rejected the keys, and has accepted no call since.
    credentials_rejected: AtomicBool,
}

/// Everything that a call needs to be sent: a slot, and a place among the requests under way.
#[must_use = "a slot is held for nothing"]
pub struct Place {
    slot: Slot,
    permit: OwnedSemaphorePermit,
    queued: Duration,
}

/// The response to a request, and the claims of the calls that were sent in it.
type Ended = (Result<UpstreamResponse>, Vec<Requeue>);

impl Client {
    /// A client for the account at that address. Fails where the keys cannot be header values or TLS cannot be set up.
    pub fn new(
        tenant: &str,
        base: Url,
        keys: &Keys,
        settings: CrmSettings,
        quota: Quota,
        metrics: Arc<Metrics>,
    ) -> std::result::Result<Self, String> {
        let http = http_client(keys, &settings, base.scheme())?;
        Ok(Self {
            shared: Arc::new(Shared {
                http,
                base,
                in_flight: Arc::new(Semaphore::new(settings.max_in_flight)),
                exchanges: TaskTracker::new(),
                clock: Clock::default(),
                disabled_lanes: batch::DisabledLanes::default(),
                absent_lanes: batch::DisabledLanes::default(),
                registries: batch::Registries::default(),
                account: Account::default(),
                outage: Outage::default(),
                credentials_rejected: AtomicBool::new(false),
                settings,
                quota,
                metrics,
                tenant: tenant.to_owned(),
            }),
        })
    }

    /// Makes a call, as often as it takes and is safe. Every attempt pays the tenant's quota.
    pub async fn call<O: Operation>(&self, context: &RequestContext, operation: &O) -> Result<O::Output> {
        self.call_from(None, context, operation).await
    }

    /// Makes a call once, for those who ask again anyway.
    pub async fn try_once<O: Operation>(&self, context: &RequestContext, operation: &O) -> Result<O::Output> {
        let mut retries = Retries::new(O::SAFETY, 1);
        match self.attempt(context, operation, None, &mut retries).await {
            Ok(response) => Ok(response),
            Err(error) => {
                // What was refused waits no longer than others.
                drop(retries.requeue());
                Err(error)
            }
        }
    }

    /// Makes a read once, if a slot of the quota is free for it at this moment; `None` if not. See [`Quota::try_acquire`].
    pub async fn call_if_free<O: Operation>(
        &self,
        context: &RequestContext,
        operation: &O,
        if_idle: bool,
    ) -> Option<Result<O::Output>> {
        let permit = self.shared.in_flight.clone().try_acquire_owned().ok()?;
        let place = Place {
            slot: self
                .shared
                .quota
                .try_acquire(context, &slot_request(operation), if_idle)?,
            permit,
            queued: Duration::ZERO,
        };
        // What is refused does not come again.
        let mut retries = Retries::new(O::SAFETY, 1);
        Some(self.attempt(context, operation, Some(place), &mut retries).await)
    }

    /// Waits until such a call can be sent, for those who have to write it down right before it is.
    pub async fn place<O: Operation>(&self, context: &RequestContext, operation: &O) -> Result<Place> {
        self.wait(context, operation, &mut Retries::new(O::SAFETY, 1)).await
    }

    /// Makes a call whose first attempt has its place already.
    pub async fn call_from<O: Operation>(
        &self,
        mut place: Option<Place>,
        context: &RequestContext,
        operation: &O,
    ) -> Result<O::Output> {
        let mut retries = Retries::new(O::SAFETY, self.shared.settings.max_attempts);
        loop {
            match self.attempt(context, operation, place.take(), &mut retries).await {
                Ok(response) => return Ok(response),
                Err(error) => self.pause(context, error, &mut retries).await?,
            }
        }
    }

    /// Returns when it is time for another attempt, or with the error to give to the caller.
    async fn pause(&self, context: &RequestContext, error: Error, retries: &mut Retries) -> Result<()> {
        retries.pause(context, error, self.shared.quota.is_open()).await
    }

    /// How a write that was sent is settled: by when at the latest.
    pub fn settle_timeout(&self) -> Duration {
        self.shared.settings.settle_timeout
    }

    /// From how long after a lost answer it counts that a write is not seen.
    pub fn visible_after(&self) -> Duration {
        self.shared.settings.visible_after
    }

    /// Where it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// LeadSquared's clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Why LeadSquared cannot be reached at present, with host and port, for operators.
    pub fn outage(&self) -> Option<String> {
        let cause = self.shared.outage.current()?;
        Some(format!("{}: {cause}", self.shared.address(cause)))
    }

    /// Whether LeadSquared rejected the keys, and has accepted no call since.
    pub fn credentials_rejected(&self) -> bool {
        self.shared.credentials_rejected.load(Ordering::Relaxed)
    }

    /// Whether a call for this operation would be let in, were it made now.
    pub fn would_admit<O: Operation>(&self, context: &RequestContext, operation: &O) -> bool {
        self.shared.quota.would_admit(context, &slot_request(operation))
    }

    async fn wait<O: Operation>(
        &self,
        context: &RequestContext,
        operation: &O,
        retries: &mut Retries,
    ) -> Result<Place> {
        self.acquire(context, &slot_request(operation), retries).await
    }

    async fn acquire(&self, context: &RequestContext, request: &SlotRequest, retries: &mut Retries) -> Result<Place> {
        let requeue = retries.requeue();
        let (slot, queued) = timed(context, self.shared.quota.acquire(context, request, requeue)).await?;
        let permit = self.connection(context).await?;
        Ok(Place { slot, permit, queued })
    }

    async fn connection(&self, context: &RequestContext) -> Result<OwnedSemaphorePermit> {
        let permit = self.shared.in_flight.clone().acquire_owned();
        let permit = context.wait("a connection", permit).await?;
        permit.map_err(|_| ErrorKind::ShuttingDown.into())
    }

    async fn attempt<O: Operation>(
        &self,
        context: &RequestContext,
        operation: &O,
        place: Option<Place>,
        retries: &mut Retries,
    ) -> Result<O::Output> {
        let place = match place {
            Some(place) => place,
            None => self.wait(context, operation, retries).await?,
        };
        if O::SAFETY == Safety::Once {
            context.begin().await?;
        }
        let queued = place.queued;
        context.sent();

        let sent = Instant::now();
        let (response, mut requeues) = self.send(context, operation, retries.operation(), place).await;
        let result = self.read(context, operation, response, queued, sent.elapsed());
        let result = self.blamed(context, result).await;
        let is_refused = result.as_ref().err().is_some_and(Error::is_refused);
        retries.set_requeue(requeues.pop().filter(|_| is_refused));
        result
    }

    /// Reads what came, and reports the attempt.
    fn read<O: Operation>(
        &self,
        context: &RequestContext,
        operation: &O,
        response: Result<UpstreamResponse>,
        queued: Duration,
        took: Duration,
    ) -> Result<O::Output> {
        let status = response.as_ref().ok().map(|response| response.status.as_u16());
        let result = response.and_then(|response| {
            operation
                .decode(&response)
                .map_err(|error| error.with_status(response.status.as_u16()))
        });
        let unreadable = result.as_ref().map_or(0, O::unreadable);
        self.report(
            context,
            O::NAME,
            status,
            queued,
            took,
            result.as_ref().err(),
            unreadable,
        );
        result
    }

    /// Sends once. The exchange goes on by itself, so that the slot is told what became of it even if nobody waits any
    /// more. A read is waited for until the caller's deadline; a write that is on its way as long as an answer may take.
    async fn send<O: Operation>(
        &self,
        context: &RequestContext,
        operation: &O,
        id: OperationId,
        place: Place,
    ) -> Ended {
        let request = match self.build(operation.request()) {
            Ok(request) => request,
            Err(error) => return (Err(error), Vec::new()),
        };
        let whole = Instant::now() + self.shared.settings.timeout;
        let exchange = self
            .shared
            .exchanges
            .spawn(self.clone().exchange(id, request, place, whole));
        let ended = match O::SAFETY {
            Safety::Repeatable => tokio::time::timeout_at(context.deadline, exchange).await,
            // It ends by itself at `whole`.
            Safety::Once => Ok(exchange.await),
        };
        match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => (Err(ErrorKind::Unavailable { sent: true }.into()), Vec::new()),
            Err(_) => (Err(deadline_exceeded("LeadSquared's answer")), Vec::new()),
        }
    }

    async fn exchange(self, id: OperationId, request: reqwest::Request, place: Place, whole: Instant) -> Ended {
        let shared = &*self.shared;
        let Place {
            mut slot,
            permit: _permit,
            ..
        } = place;
        slot.sent();
        let exchange = async {
            let is_https = shared.base.scheme() == "https";
            let response = shared.http.execute(request).await;
            let response = response.map_err(|error| from_reqwest(error, is_https))?;
            if let Some(date) = response.headers().get(DATE) {
                shared.clock.seen(date);
            }
            let retry_after = clock::retry_after(response.headers());
            let response = read(response, shared.settings.max_answer_bytes, is_https).await?;
            Ok::<_, Error>((shared.judge_origin(response)?, retry_after))
        };
        match tokio::time::timeout_at(whole, exchange).await {
            Ok(Ok((response, retry_after))) => {
                shared.reached();
                let (verdict, status) = (response.verdict(), response.status.as_u16());
                let is_to_wait = matches!(status, 429 | 503) || verdict != Verdict::Accepted;
                let judgement = breaker::BreakerSignal {
                    operation: id,
                    is_failure: response.is_failure(),
                    retry_after: retry_after.filter(|_| is_to_wait),
                };
                shared.judged(&mut slot, &judgement, Some(status), None);
                (Ok(response), slot.responded(verdict))
            }
            Ok(Err(error)) => {
                // A response that is too long is one.
                let is_failure = matches!(error.kind, ErrorKind::Unavailable { .. });
                shared.judged_missing(&mut slot, id, is_failure, &error);
                if error.kind == (ErrorKind::Unavailable { sent: false }) {
                    slot.unsent();
                }
                if let Some(cause) = error.details.cause {
                    shared.not_reached(cause);
                }
                (Err(error), Vec::new())
            }
            Err(_) => {
                let cause = Cause::ResponseTimeout;
                let error = Error::from(ErrorKind::Unavailable { sent: true }).with_cause(cause);
                shared.judged_missing(&mut slot, id, true, &error);
                shared.not_reached(cause);
                (Err(error), Vec::new())
            }
        }
    }

    fn build(&self, request: Request) -> Result<reqwest::Request> {
        let shared = &*self.shared;
        let mut url = shared.base.clone();
        url.set_path(&format!(
            "{}/v2/{}",
            shared.base.path().trim_end_matches('/'),
            request.path
        ));
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let bytes = url.query().map_or(0, str::len);
        if bytes > MAX_QUERY_BYTES {
            let text = format!("is too long for a URL: {bytes} bytes, encoded; at most {MAX_QUERY_BYTES} can be sent");
            return Err(Error::invalid("request", text));
        }
        let builder = match request.body {
            None => shared.http.get(url),
            Some(body) => shared
                .http
                .post(url)
                .header(CONTENT_TYPE, "application/json")
                .body(body),
        };
        builder
            .build()
            .map_err(|error| from_reqwest(error, shared.base.scheme() == "https"))
    }

    /// One line and one count per attempt. Names the endpoint, never the URL, whose query may hold personal data.
    #[expect(clippy::too_many_arguments, reason = "they are the columns of the line")]
    fn report(
        &self,
        context: &RequestContext,
        endpoint: &'static str,
        status: Option<u16>,
        queued: Duration,
        took: Duration,
        error: Option<&Error>,
        unreadable: usize,
    ) {
        let shared = &*self.shared;
        let outcome = error.map_or("ok", Error::name);
        match error.map(|error| &error.kind) {
            None => shared.credentials_rejected.store(false, Ordering::Relaxed),
            Some(ErrorKind::CredentialsRejected { .. }) => shared.credentials_rejected.store(true, Ordering::Relaxed),
            Some(_) => {}
        }
        tracing::info!(
            target: "leadgate::attempt",
            request_id = %context.id,
            mutation_id = context.mutation.map(tracing::field::display),
            tenant = %shared.tenant,
            endpoint,
            status,
            outcome,
            exception_type = error.and_then(|error| error.details.exception_type.as_deref()),
            cause = error.and_then(|error| error.details.cause).map(Cause::name),
            unreadable = Some(unreadable).filter(|count| *count > 0),
            queued_ms = queued.as_millis() as u64,
            took_ms = took.as_millis() as u64,
            "asked LeadSquared"
        );
        shared.metrics.attempted(&Attempt {
            tenant: &shared.tenant,
            endpoint,
            outcome,
            took,
            queued,
            class: context.criticality.name(),
            refused_with: status.filter(|_| error.is_some_and(|error| matches!(error.kind, ErrorKind::Refused(_)))),
        });
    }
}

impl Shared {
    /// The host and the port that a cause is about.
    fn address(&self, cause: Cause) -> String {
        let is_of_proxy = matches!(
            cause,
            Cause::Dns | Cause::Refused | Cause::Unreachable | Cause::ConnectTimeout | Cause::Proxy
        );
        let proxy = self.settings.proxy_url().filter(|_| is_of_proxy);
        let url = proxy.as_ref().unwrap_or(&self.base);
        let port = url.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", url.host_str().unwrap_or_default())
    }

    /// Tells the circuit breaker that there was no response that can be read.
    fn judged_missing(&self, slot: &mut Slot, operation: OperationId, is_failure: bool, error: &Error) {
        let response = breaker::BreakerSignal {
            operation,
            is_failure,
            retry_after: None,
        };
        self.judged(slot, &response, error.details.upstream_status, error.details.cause);
    }

    /// Tells the circuit breaker of a response, and logs what that has changed.
    fn judged(&self, slot: &mut Slot, response: &breaker::BreakerSignal, status: Option<u16>, cause: Option<Cause>) {
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
                "circuit breaker opened: LeadSquared fails, and calls wait until a probe succeeds"
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

    /// There was a response.
    fn reached(&self) {
        if self.outage.ended(Instant::now()) == Some(News::Ended) {
            tracing::info!(tenant = %self.tenant, "LeadSquared can be reached again");
        }
    }

    /// There was no response. Logged where the cause is new.
    fn not_reached(&self, cause: Cause) {
        if self.outage.failed(cause, Instant::now()) == Some(News::Begun) {
            tracing::warn!(
                tenant = %self.tenant,
                address = %self.address(cause),
                cause = cause.name(),
                "LeadSquared cannot be reached: {cause}"
            );
        }
    }

    /// The response, unless it surely comes from something before LeadSquared that says that the way is wrong.
    fn judge_origin(&self, response: UpstreamResponse) -> Result<UpstreamResponse> {
        if self.settings.has_proxy() && response.status == http::StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(Error::from(ErrorKind::Unavailable { sent: false }).with_cause(Cause::Proxy));
        }
        if self.base.scheme() == "http" && response.wants_https() {
            return Err(Error::from(ErrorKind::Unavailable { sent: true }).with_cause(Cause::HttpsOnly));
        }
        Ok(response)
    }
}

/// The slot that a call of its own needs.
fn slot_request<O: Operation>(operation: &O) -> SlotRequest {
    SlotRequest {
        cost: O::COST,
        endpoint: O::NAME,
        keys: operation.keys(),
        batch: None,
    }
}

/// Waits for a turn; how long that took.
async fn timed<T>(context: &RequestContext, turn: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let waiting = Instant::now();
    let turn = turn.await;
    let queued = waiting.elapsed();
    context.queued(queued);
    Ok((turn?, queued))
}

fn http_client(keys: &Keys, settings: &CrmSettings, scheme: &str) -> std::result::Result<reqwest::Client, String> {
    let key = |name: &'static str, secret: &SecretString| {
        let mut value = HeaderValue::from_str(secret.expose_secret())
            .map_err(|_| format!("the {name} holds characters that no header may have"))?;
        value.set_sensitive(true);
        Ok::<_, String>(value)
    };
    let headers = HeaderMap::from_iter([
        (
            HeaderName::from_static("x-lsq-accesskey"),
            key("access_key", &keys.access)?,
        ),
        (
            HeaderName::from_static("x-lsq-secretkey"),
            key("secret_key", &keys.secret)?,
        ),
    ]);
    let builder = reqwest::Client::builder()
        .default_headers(headers)
        .user_agent(concat!("leadgate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(settings.idle_timeout)
        .pool_max_idle_per_host(settings.max_in_flight)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // The environment does not say how an account is reached; the settings do.
        .no_proxy();
    let builder = match settings.proxy_url() {
        None => builder,
        // The error might name the proxy's password.
        Some(url) => builder.proxy(reqwest::Proxy::all(url).map_err(|_| "the proxy cannot be used".to_owned())?),
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

/// Reads an answer up to a size. One that breaks off is no answer.
async fn read(mut response: reqwest::Response, most: usize, is_https: bool) -> Result<UpstreamResponse> {
    let status = response.status();
    let mut body = Vec::new();
    let broken = |error| from_reqwest(error, is_https);
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > most {
            let path = format!("byte {most}, the longest answer allowed");
            return Err(Error::from(ErrorKind::Unreadable { path }).with_status(status.as_u16()));
        }
        body.extend_from_slice(&chunk);
    }
    // A byte order mark is no JSON.
    let body = bytes::Bytes::from(body);
    let body = if body.starts_with(b"\xef\xbb\xbf") {
        body.slice(3..)
    } else {
        body
    };
    Ok(UpstreamResponse { status, body })
}

fn from_reqwest(error: reqwest::Error, is_https: bool) -> Error {
    // Only a failure to connect is sure to have sent nothing.
    let sent = !(error.is_connect() || error.is_builder());
    let cause = cause::of(&error, is_https);
    tracing::debug!(error = ?error.without_url(), "no answer from LeadSquared");
    Error::from(ErrorKind::Unavailable { sent }).with_cause(cause)
}
