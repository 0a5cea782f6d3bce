//! What every RPC has in common: who asks, for which account, until when, and how the answer is put.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::arrivals::Arrival;
use super::connection::{Arrived, InProgress};
use super::observe::Observed;
use super::responses::Responses;
use super::size::Room;
use super::{LONGEST, ServerContext, ServerSettings, status};
use crate::context::{Criticality, RequestContext, deadline_exceeded};
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::Gateway;

pub(super) const TENANT: &str = "x-leadgate-tenant";
pub(super) const CALLER: &str = "x-leadgate-caller";
pub(super) const CRITICALITY: &str = "x-leadgate-criticality";

/// What an RPC is answered with.
pub(super) type RpcResult<A> = std::result::Result<Response<A>, Status>;
/// The answers of an RPC that has many.
pub(super) type ResponseStream<A> = Responses<A>;
/// What an RPC with many answers is answered with.
pub(super) type StreamResult<A> = RpcResult<ResponseStream<A>>;

/// One RPC, once it is known whom it is for.
pub(super) struct Rpc<M> {
    pub(super) gateway: Arc<Gateway>,
    pub(super) context: RequestContext,
    pub(super) message: M,
    pub(super) arrival: InOrder,
    pub(super) observed: Observed,
}

/// The place of an RPC among the writes of its connection.
pub(super) struct InOrder(Option<Arc<Arrival>>);

impl InOrder {
    /// Takes a place in the order of writes, once all earlier writes of the connection have taken theirs. `take` must not
    /// wait.
    pub(super) async fn take<T>(self, context: &RequestContext, take: impl FnOnce() -> T) -> Result<T> {
        if let Some(arrival) = &self.0 {
            context
                .wait("the request messages of earlier writes", arrival.turn())
                .await?;
        }
        let taken = take();
        drop(self);
        Ok(taken)
    }
}

/// Where the answers of an RPC with many of them go.
pub(super) struct ResponseSender<A> {
    sender: mpsc::Sender<A>,
    /// How long the client may leave responses unread.
    patience: Duration,
    status_builder: StatusBuilder,
}

/// How errors of one RPC are told.
#[derive(Clone)]
pub(super) struct StatusBuilder {
    tenant: Option<String>,
    observed: Observed,
    room: Room,
    /// The deadline that the caller has set.
    deadline: Option<Instant>,
}

impl StatusBuilder {
    /// The status for the caller, which is what the RPC ends with.
    pub(super) fn last(&self, error: &Error) -> Status {
        self.observed.reason(status::reason(&error.kind));
        self.status(error)
    }

    /// The status that tells of an error.
    pub(super) fn status(&self, error: &Error) -> Status {
        let left = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        status::from(error, self.tenant.as_deref(), self.observed.id(), left)
    }

    /// What is wrong with a message of the request that was not read.
    pub(super) fn why_unread(&self, status: &Status) -> Option<Error> {
        self.observed.why_unread(status)
    }

    /// Adds a count to the trailers.
    pub(super) fn trailer(&self, name: &'static str, count: u64) {
        self.observed.trailer(name, count);
    }

    /// How much fits into one message of the answer.
    pub(super) fn room(&self) -> Room {
        self.room
    }

    /// The error inside of an answer.
    pub(super) fn part(&self, error: &Error) -> tonic_types::Status {
        // The details of a status are such a message, encoded.
        let status = self.status(error);
        tonic_types::Status::decode(status.details()).unwrap_or_default()
    }
}

impl<A> ResponseSender<A> {
    /// Sends one answer; fails when nobody reads any more, and when it is larger than clients take.
    pub(super) async fn send(&self, answer: A) -> Result<()>
    where
        A: Message,
    {
        self.status_builder.room.check(&answer)?;
        match tokio::time::timeout(self.patience, self.sender.send(answer)).await {
            Ok(sent) => sent.map_err(|_| ErrorKind::CallerCancelled.into()),
            Err(_) => Err(ErrorKind::StreamNotRead.into()),
        }
    }

    /// How errors are told that are part of an answer.
    pub(super) fn status_builder(&self) -> &StatusBuilder {
        &self.status_builder
    }
}

impl ServerContext {
    /// Answers an RPC: `work` does what is its own.
    pub(super) async fn respond<M, A, F>(
        &self,
        request: Request<M>,
        work: impl FnOnce(Rpc<M>, StatusBuilder) -> F,
    ) -> RpcResult<A>
    where
        A: Message,
        F: Future<Output = Result<A>>,
    {
        let (status_builder, entered) = self.enter(request, self.settings.max_deadline);
        let result = match entered {
            Ok((rpc, _place)) => work(rpc, status_builder.clone()).await,
            Err(error) => Err(error),
        };
        let result = result.and_then(|answer| status_builder.room.check(&answer).map(|()| answer));
        result.map(Response::new).map_err(|error| status_builder.last(&error))
    }

    /// Answers an RPC that has many answers, until `work` ends, the caller leaves or the process is told to stop.
    pub(super) async fn stream<M, A, F>(
        &self,
        request: Request<M>,
        work: impl FnOnce(Rpc<M>, ResponseSender<A>) -> F,
    ) -> StreamResult<A>
    where
        F: Future<Output = Result<()>> + Send + 'static,
        A: Send + 'static,
    {
        // Only the caller's own deadline ends it.
        let (status_builder, entered) = self.enter(request, LONGEST);
        let (rpc, place) = entered.map_err(|error| status_builder.last(&error))?;
        let (sender, responses) = Responses::new();
        let (deadline, left) = (rpc.context.deadline, rpc.context.cancelled.clone().drop_guard());
        let responder = ResponseSender {
            sender: sender.clone(),
            patience: self.settings.stream_read_timeout,
            status_builder: status_builder.clone(),
        };
        let work = work(rpc, responder);
        let draining = self.draining.clone();
        let last = responses.last();
        self.tasks.spawn(async move {
            let _held = (place, left);
            // What `work` tells when it is dropped is told before the end of the stream.
            let ended = tokio::select! {
                ended = work => ended,
                () = sender.closed() => Ok(()),
                () = draining.cancelled() => Err(ErrorKind::StreamInterrupted.into()),
                () = tokio::time::sleep_until(deadline) => Err(deadline_exceeded("the next answer")),
            };
            if let Err(error) = ended {
                last.end(status_builder.last(&error), error.kind == ErrorKind::StreamNotRead);
            }
        });
        Ok(Response::new(responses))
    }

    /// Whom a request is for, and its place among those in progress.
    fn enter<M>(&self, mut request: Request<M>, most: Duration) -> (StatusBuilder, Result<(Rpc<M>, Place)>) {
        let arrived = request.extensions_mut().remove::<Arrived>();
        let Some(arrived) = arrived else {
            // Every RPC comes through a connection of ours.
            let status_builder = self.status_builder(request.metadata().as_ref(), Observed::of(&HeaderMap::new()));
            return (status_builder, Err(ErrorKind::ShuttingDown.into()));
        };
        arrived.observed.complete();
        let status_builder = self.status_builder(request.metadata().as_ref(), arrived.observed.clone());
        let place = arrived.place.clone();
        let rpc = self.rpc(request, arrived, most);
        (status_builder, rpc.map(|rpc| (rpc, place)))
    }

    /// How errors of an RPC are told.
    pub(super) fn status_builder(&self, headers: &HeaderMap, observed: Observed) -> StatusBuilder {
        let tenant = self.tenants.get(tenant(headers));
        let tenant = tenant.ok().map(|(name, _)| name.to_owned());
        observed.tenant(tenant.as_deref());
        let has_deadline = headers.contains_key("grpc-timeout");
        let limit = has_deadline.then(|| limit(headers, &self.settings, LONGEST));
        let deadline = limit.and_then(Result::ok).map(|limit| observed.arrived() + limit);
        StatusBuilder {
            tenant,
            deadline,
            observed,
            room: Room::new(self.settings.max_response_bytes),
        }
    }

    fn rpc<M>(&self, request: Request<M>, arrived: Arrived, most: Duration) -> Result<Rpc<M>> {
        if self.draining.is_cancelled() {
            return Err(ErrorKind::ShuttingDown.into());
        }
        let headers = request.metadata().as_ref();
        let (_, gateway) = self.tenants.get(tenant(headers))?;
        let limit = limit(headers, &self.settings, most)?;
        let context = RequestContext {
            id: arrived.observed.id().into(),
            mutation: None,
            caller: caller(request.metadata().as_ref())?,
            criticality: criticality(request.metadata())?,
            deadline: arrived.observed.arrived() + limit,
            cancelled: CancellationToken::new(),
            position: None,
            progress: Arc::default(),
            record: None,
        };
        Ok(Rpc {
            gateway: gateway.clone(),
            context,
            message: request.into_inner(),
            arrival: InOrder(arrived.arrival),
            observed: arrived.observed,
        })
    }
}

/// A place among the RPCs in progress.
type Place = Option<Arc<InProgress>>;

/// How long an RPC may take from its headers on: the caller's timeout, less what its client may have added by rounding, or the
/// longest allowed; and less a margin, so that our error with its details comes before the client's own.
pub(super) fn limit(headers: &HeaderMap, settings: &ServerSettings, most: Duration) -> Result<Duration> {
    let rpc = match headers.get("grpc-timeout") {
        None => most,
        Some(value) => {
            let text = value.to_str().unwrap_or_default();
            let rpc = timeout(text).ok_or_else(|| {
                Error::invalid(
                    "grpc-timeout",
                    "must be up to 8 digits and one of the units H, M, S, m, u and n",
                )
            })?;
            rpc - rounding(text, rpc).min(rpc / 4)
        }
    };
    let limit = rpc.min(most);
    // Of a very short time most is left to the call.
    let margin = settings.deadline_margin.min(limit / 4);
    Ok(limit - margin)
}

/// How much longer than the client's own deadline a timeout may be. Clients on C-core (Python, Ruby, PHP, C++) round it up to
/// at most three digits: 30 s are sent as `30100m` or `30S`. Timeouts in microseconds or with more digits are not rounded so.
fn rounding(text: &str, timeout: Duration) -> Duration {
    let step: u64 = match timeout.as_secs() {
        0 => 1,
        1..10 => 10,
        10..100 => 100,
        100..1_000 => 1_000,
        1_000..10_000 => 10_000,
        _ => 100_000,
    };
    match text.as_bytes().last() {
        Some(b'n' | b'u') => Duration::ZERO,
        // Some that would be rounded to 100 s are rounded to minutes.
        Some(b'M' | b'H') => Duration::from_millis(step.min(60_000)),
        _ if timeout.as_millis().is_multiple_of(step.into()) => Duration::from_millis(step),
        _ => Duration::from_millis(1),
    }
}

/// The account that is named.
pub(super) fn tenant(headers: &HeaderMap) -> Option<&str> {
    headers.get(TENANT).map(|name| name.to_str().unwrap_or("?"))
}

/// Who asks, by its own word.
pub(super) fn caller(headers: &HeaderMap) -> Result<Arc<str>> {
    let Some(name) = headers.get(CALLER) else {
        return Ok("anonymous".into());
    };
    let name = name.to_str().unwrap_or_default();
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_name) {
        return Err(Error::invalid(CALLER, "must be 1 to 64 letters, digits, - _ or ."));
    }
    Ok(name.into())
}

fn criticality(metadata: &MetadataMap) -> Result<Criticality> {
    let Some(name) = metadata.get(CRITICALITY) else {
        return Ok(Criticality::default());
    };
    let name = name.to_str().unwrap_or_default();
    Criticality::named(name).ok_or_else(|| {
        let allowed = Criticality::ALL.map(Criticality::name).join(", ");
        // The name of the enum's value in QuotaService, or another spelling of it.
        let folded = name.to_ascii_lowercase().replace('_', "-");
        let meant = Criticality::named(folded.trim_start_matches("criticality-"));
        let hint = meant.map_or(String::new(), |meant| format!("; did you mean {}?", meant.name()));
        Error::invalid(CRITICALITY, format!("must be one of {allowed}{hint}"))
    })
}

/// Reads `grpc-timeout`: "100m", "5S".
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The header that C-core sends for a deadline in so many milliseconds (src/core/lib/transport/timeout_encoding.cc).
    fn c_core(millis: u64) -> String {
        let up = |value: u64, by: u64| value.div_ceil(by);
        if millis < 1_000 {
            return format!("{millis}m");
        }
        for (below, by) in [(10_000, 10), (100_000, 100)] {
            if millis < below {
                let value = up(millis, by);
                if !(value * by).is_multiple_of(1_000) {
                    return format!("{}m", value * by);
                }
                break;
            }
        }
        let seconds = up(millis, 1_000);
        for (below, by) in [(1_000, 1), (10_000, 10), (100_000, 100)] {
            if seconds < below {
                let value = up(seconds, by) * by;
                if !value.is_multiple_of(60) {
                    return format!("{value}S");
                }
                break;
            }
        }
        format!("{}M", up(seconds, 60))
    }

    fn limit_of(timeout: &str) -> Duration {
        static SETTINGS: std::sync::OnceLock<ServerSettings> = std::sync::OnceLock::new();
        let settings = SETTINGS.get_or_init(|| {
            let tenant = "[tenants.a]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"";
            crate::config::Config::read("test", tenant, std::iter::empty())
                .unwrap()
                .server
        });
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), timeout.parse().unwrap())]);
        limit(&headers, settings, LONGEST).unwrap()
    }

    #[test]
    fn the_margin_grows_with_the_rounding_of_the_timeout() {
        for (timeout, millis) in [
            ("30100m", 29_980),
            ("30S", 29_880),
            ("10S", 9_880),
            ("60S", 59_880),
            ("1M", 59_880),
            ("5S", 4_970),
            ("5010m", 4_980),
            ("500m", 479),
            ("200S", 198_980),
            // Not rounded.
            ("30000000u", 29_980),
            ("29999m", 29_978),
        ] {
            assert_eq!(limit_of(timeout).as_millis(), millis, "{timeout}");
        }
        // Of a very short timeout most is left.
        assert!(limit_of("4m") >= Duration::from_millis(2));
    }

    proptest! {
        #[test]
        fn our_deadline_is_before_that_of_a_client_that_rounds_up(millis in prop_oneof![100..100_000_u64, 100_000..86_000_000_u64]) {
            let deadline = Duration::from_millis(millis);
            let timeout = c_core(millis);
            prop_assert!(limit_of(&timeout) + Duration::from_millis(20) <= deadline, "{timeout} for {deadline:?}");
        }
    }

    #[test]
    fn timeouts_are_read_in_every_unit() {
        assert_eq!(timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(timeout("7u"), Some(Duration::from_micros(7)));
        assert_eq!(timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
    }

    #[test]
    fn what_is_no_timeout_is_refused() {
        for text in ["", "S", "5", "5s", "-1S", "123456789S", "1.5S", "٣S"] {
            assert_eq!(timeout(text), None, "{text}");
        }
    }
}
