//! HTTP 401 and 403 without an exception of LeadSquared: decides whether the account's keys are rejected, or whether a proxy or
//! firewall rejected this one request.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Client;
use super::authentication::UserByAccessKey;
use crate::context::{Criticality, RequestContext};
use crate::error::{Error, ErrorKind, Result};

/// How long a successful call proves that the keys are valid, and how long the result of a check is used.
const PROOF_LIFETIME: Duration = Duration::from_secs(30);
/// Maximum duration of a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of the account's keys.
#[derive(Debug, Default)]
pub(super) struct KeyStatus {
    succeeded: Mutex<Option<Instant>>,
    /// The time of the last check, and whether LeadSquared rejected the keys.
    checked: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

impl KeyStatus {
    fn record_success(&self) {
        *self.succeeded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_valid(&self) -> bool {
        let succeeded = *self.succeeded.lock().unwrap_or_else(PoisonError::into_inner);
        succeeded.is_some_and(|at| at.elapsed() < PROOF_LIFETIME)
    }
}

impl Client {
    /// The same result. An HTTP 401 or 403 without an exception becomes `CredentialsRejected` or `Exception`.
    pub(super) async fn resolve_denied<T>(&self, context: &RequestContext, result: Result<T>) -> Result<T> {
        let keys = &self.shared.keys;
        let error = match result {
            Ok(output) => {
                keys.record_success();
                return Ok(output);
            }
            Err(error) => error,
        };
        let ErrorKind::Denied { suggested_host } = &error.kind else {
            // LeadSquared returns a named exception only to valid keys.
            let is_named = error.details.exception_type.is_some();
            if is_named
                && !matches!(
                    error.kind,
                    ErrorKind::CredentialsRejected { .. } | ErrorKind::Refused(_)
                )
            {
                keys.record_success();
            }
            return Err(error);
        };
        let is_rejected = !keys.is_valid() && self.are_keys_rejected(context, &error).await;
        let kind = match is_rejected {
            true => ErrorKind::CredentialsRejected {
                suggested_host: suggested_host.clone(),
            },
            false => ErrorKind::Exception,
        };
        Err(Error {
            kind,
            details: error.details,
        })
    }

    /// Checks the keys by a call that needs nothing but valid keys, at most once per `PROOF_LIFETIME`.
    async fn are_keys_rejected(&self, context: &RequestContext, error: &Error) -> bool {
        let mut checked = self.shared.keys.checked.lock().await;
        if let Some((at, is_rejected)) = *checked
            && at.elapsed() < PROOF_LIFETIME
        {
            return is_rejected;
        }
        let context =
            RequestContext::internal(&context.id, CHECK_TIMEOUT).of(&context.caller, Criticality::CriticalPlus);
        let owner = Box::pin(self.try_once(&context, &UserByAccessKey)).await;
        let is_rejected = match owner {
            Ok(_) => false,
            Err(Error {
                kind: ErrorKind::CredentialsRejected { .. },
                ..
            }) => true,
            // The check failed, so only the status is known.
            Err(_) => return error.details.upstream_status == Some(401),
        };
        *checked = Some((Instant::now(), is_rejected));
        is_rejected
    }
}
