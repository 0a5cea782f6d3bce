//! What every RPC has in common: who asks, for which account, until when, and how the answer is put.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::observe::Observed;
use super::{Context, status};
use crate::caller::{Call, RequestId};
use crate::error::{Error, Kind, Result, Violation};
use crate::gateway::Gateway;

/// What an RPC is answered with.
pub(super) type Answer<A> = std::result::Result<Response<A>, Status>;

/// One RPC, once it is known whom it is for.
pub(super) struct Asked<M> {
    pub(super) gateway: Arc<Gateway>,
    pub(super) call: Call,
    pub(super) message: M,
}

impl Context {
    /// Answers an RPC: `work` does what is its own.
    pub(super) async fn answer<M, A, F>(&self, request: Request<M>, work: impl FnOnce(Asked<M>) -> F) -> Answer<A>
    where
        F: Future<Output = Result<A>>,
    {
        let observed = request.extensions().get::<Observed>().cloned().unwrap_or_default();
        let name = request
            .metadata()
            .get("x-leadgate-tenant")
            .map(|name| name.to_str().unwrap_or("?").to_owned());
        let tenant = self.tenants.get(name.as_deref());
        let tenant_name = tenant.as_ref().ok().map(|(name, _)| (*name).to_owned());
        observed.tenant(tenant_name.as_deref());
        let result = match tenant {
            Ok((_, gateway)) => self.work(request, gateway.clone(), &observed, work).await,
            Err(error) => Err(error),
        };
        result.map(Response::new).map_err(|error| {
            observed.reason(status::reason(&error.kind));
            status::from(&error, tenant_name.as_deref(), observed.id())
        })
    }

    async fn work<M, A, F>(
        &self,
        request: Request<M>,
        gateway: Arc<Gateway>,
        observed: &Observed,
        work: impl FnOnce(Asked<M>) -> F,
    ) -> Result<A>
    where
        F: Future<Output = Result<A>>,
    {
        if self.draining.is_cancelled() {
            return Err(Kind::ShuttingDown.into());
        }
        let _place = self.in_flight.try_acquire().map_err(|_| {
            Error::from(Kind::QueueFull {
                retry_after: Duration::from_secs(1),
            })
        })?;
        let call = Call {
            id: observed.id().into(),
            deadline: self.deadline(request.metadata())?,
            left: CancellationToken::new(),
            settling: false,
        };
        let asked = Asked {
            gateway,
            call,
            message: request.into_inner(),
        };
        work(asked).await
    }

    /// The caller's deadline or the longest allowed, and a little before it, so that our answer comes first.
    fn deadline(&self, metadata: &MetadataMap) -> Result<Instant> {
        let most = self.settings.max_deadline;
        let asked = match metadata.get("grpc-timeout") {
            None => most,
            Some(value) => {
                let text = value.to_str().unwrap_or_default();
                timeout(text).ok_or_else(|| Error::invalid("grpc-timeout", "must be up to 8 digits and a unit"))?
            }
        };
        let limit = asked.min(most);
        // Of a very short time most is left to the call.
        let margin = self.settings.deadline_margin.min(limit / 4);
        Ok(Instant::now() + limit - margin)
    }
}

/// The request id of a mutation, with the digest of its message; `None` where the caller gave none.
pub(super) fn request_id<M: prost::Message>(
    text: &str,
    method: &str,
    message: &M,
) -> std::result::Result<Option<RequestId>, Violation> {
    if text.is_empty() {
        return Ok(None);
    }
    let id = Uuid::try_parse(text).map_err(|_| Violation::new("request_id", "must be a UUID"))?;
    let digest = Sha256::new().chain_update(method).chain_update(message.encode_to_vec());
    Ok(Some(RequestId {
        id,
        fingerprint: digest.finalize().into(),
    }))
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
    use super::*;

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

    #[test]
    fn a_digest_tells_messages_and_methods_apart() {
        let id = "0192f0c1-2d3e-7a4b-8c5d-6e7f8a9b0c1d";
        let digest = |method, text: &str| request_id(id, method, &text.to_owned()).unwrap().unwrap().fingerprint;
        assert_eq!(digest("a", "x"), digest("a", "x"));
        assert_ne!(digest("a", "x"), digest("a", "y"));
        assert_ne!(digest("a", "x"), digest("b", "x"));
        assert!(request_id("7", "a", &String::new()).is_err());
    }
}
