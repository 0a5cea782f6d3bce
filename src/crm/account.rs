//! Whose fault HTTP 401 and 403 are, where LeadSquared does not say so itself: the account's, whose keys are rejected, or that
//! of one request, which a proxy or a firewall refuses.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Client;
use super::authentication::UserByAccessKey;
use crate::context::{Criticality, RequestContext};
use crate::error::{Error, ErrorKind, Result};

/// How long a call that succeeded proves that the keys are good, and how long what was found out by a call counts.
const PROOF: Duration = Duration::from_secs(30);
/// How long that call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What is known of an account's keys.
#[derive(Debug, Default)]
pub(super) struct Account {
    succeeded: Mutex<Option<Instant>>,
    /// When LeadSquared was last asked, and whether it rejected the keys.
    asked: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

impl Account {
    fn has_succeeded(&self) {
        *self.succeeded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_proved(&self) -> bool {
        let succeeded = *self.succeeded.lock().unwrap_or_else(PoisonError::into_inner);
        succeeded.is_some_and(|at| at.elapsed() < PROOF)
    }
}

impl Client {
    /// The same result; of HTTP 401 or 403 without LeadSquared's own word it says whose fault it is.
    pub(super) async fn blamed<T>(&self, context: &RequestContext, result: Result<T>) -> Result<T> {
        let account = &self.shared.account;
        let error = match result {
            Ok(output) => {
                account.has_succeeded();
                return Ok(output);
            }
            Err(error) => error,
        };
        let ErrorKind::Denied { suggested_host } = &error.kind else {
            // An exception with a name is LeadSquared's own word, which only good keys get.
            let is_named = error.details.exception_type.is_some();
            if is_named
                && !matches!(
                    error.kind,
                    ErrorKind::CredentialsRejected { .. } | ErrorKind::Refused(_)
                )
            {
                account.has_succeeded();
            }
            return Err(error);
        };
        let is_rejected = !account.is_proved() && self.is_rejected(context, &error).await;
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

    /// Asks LeadSquared whose keys these are, at most once in a while.
    async fn is_rejected(&self, context: &RequestContext, error: &Error) -> bool {
        let mut asked = self.shared.account.asked.lock().await;
        if let Some((at, is_rejected)) = *asked
            && at.elapsed() < PROOF
        {
            return is_rejected;
        }
        let context = RequestContext::internal(&context.id, LIMIT).of(&context.caller, Criticality::CriticalPlus);
        let answered = Box::pin(self.try_once(&context, &UserByAccessKey)).await;
        let is_rejected = match answered {
            Ok(_) => false,
            Err(Error {
                kind: ErrorKind::CredentialsRejected { .. },
                ..
            }) => true,
            // Nobody knows: then the status says what it says.
            Err(_) => return error.details.upstream_status == Some(401),
        };
        *asked = Some((Instant::now(), is_rejected));
        is_rejected
    }
}
