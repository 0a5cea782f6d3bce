//! The only place that decides to ask LeadSquared again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::context::RequestContext;
use crate::error::{Error, ErrorKind, Facts, Result};
use crate::quota::Requeue;
use crate::quota::breaker::OperationId;

/// Whether an operation may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// A read: as often as one likes.
    Repeatable,
    /// A write: again only where it is sure that it was not executed.
    Once,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was refused and not executed: back to the head of the queue.
    Requeue,
    /// After a pause, if there is time.
    Again,
    /// It may have been executed: only looking it up can tell.
    Reconcile,
    /// The caller gets to know.
    GiveUp,
}

/// The decision, by the error and by whether the operation may be sent twice.
pub fn decide(safety: Safety, error: &Error) -> Decision {
    match (&error.kind, safety) {
        (ErrorKind::Refused(_), _) => Decision::Requeue,
        (ErrorKind::Unavailable { sent: false }, _) | (ErrorKind::Unavailable { sent: true }, Safety::Repeatable) => {
            Decision::Again
        }
        // What cannot be read proves as little as no answer.
        (ErrorKind::Unavailable { sent: true } | ErrorKind::Unreadable { .. }, Safety::Once) => Decision::Reconcile,
        // An error page may come after the work is done.
        (ErrorKind::Exception, Safety::Once) if error.facts.is_page => Decision::Reconcile,
        (
            ErrorKind::Invalid(_)
            | ErrorKind::Duplicate { .. }
            | ErrorKind::NotFound(_)
            | ErrorKind::DeadlineInfeasible { .. }
            | ErrorKind::CallerLimit { .. }
            | ErrorKind::QueueFull { .. }
            | ErrorKind::BreakerOpen { .. }
            | ErrorKind::DailyBudgetExhausted { .. }
            | ErrorKind::CredentialsRejected { .. }
            | ErrorKind::Denied { .. }
            | ErrorKind::FeatureDisabled
            | ErrorKind::NotASalesUser
            | ErrorKind::ShareLimitReached
            | ErrorKind::ShareExists { .. }
            | ErrorKind::ShareNotActive
            | ErrorKind::ShareNotRetryable
            | ErrorKind::Exception
            | ErrorKind::OutcomeUnknown
            | ErrorKind::ResponseTooLarge { .. }
            | ErrorKind::DeadlineExceeded { .. }
            | ErrorKind::StoreUnavailable
            | ErrorKind::StoreUnreadable
            | ErrorKind::StreamNotRead
            | ErrorKind::ShuttingDown
            | ErrorKind::StreamInterrupted
            | ErrorKind::CallerLeft,
            _,
        )
        | (ErrorKind::Unreadable { .. }, Safety::Repeatable) => Decision::GiveUp,
    }
}

/// The attempts of one call so far.
pub struct Retries {
    operation: OperationId,
    safety: Safety,
    most: u32,
    failures: u32,
    pauses: ExponentialBackoff,
    requeue: Option<Requeue>,
    /// What is known of the last attempt that failed.
    failed: Box<Facts>,
}

impl Retries {
    /// No attempts yet, and so many at most.
    pub fn new(safety: Safety, most: u32) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .without_max_times()
            .build();
        Self {
            operation: OperationId::unique(),
            safety,
            most,
            failures: 0,
            pauses,
            requeue: None,
            failed: Box::default(),
        }
    }

    /// The operation that is sent, for the circuit breaker.
    pub fn operation(&self) -> OperationId {
        self.operation
    }

    /// From now on it is sent as a part of that operation.
    pub fn part_of(&mut self, operation: OperationId) {
        self.operation = operation;
    }

    /// The right of the next attempt to stand before others, if it was refused before.
    pub fn requeue(&mut self) -> Option<Requeue> {
        self.requeue.take()
    }

    /// What a refused call has left in its hands.
    pub fn set_requeue(&mut self, requeue: Option<Requeue>) {
        self.requeue = requeue;
    }

    /// Returns when it is time for another attempt, or with the error to give to the caller. While the circuit breaker
    /// `is_open`, the next attempt waits in the queue of the quota and not here.
    pub async fn pause(&mut self, context: &RequestContext, error: Error, is_open: bool) -> Result<()> {
        let decision = decide(self.safety, &error);
        if self.safety == Safety::Once && matches!(decision, Decision::Requeue | Decision::Again) {
            context.not_executed().await;
        }
        match decision {
            Decision::Requeue => Ok(()),
            Decision::Again => {
                self.failures += 1;
                let pause = self.pauses.next().unwrap_or_default();
                if self.failures >= self.most {
                    return Err(self.complete(context, error));
                }
                self.failed = error.facts.clone();
                if is_open {
                    return Ok(());
                }
                // A pause that would outlast the deadline helps nobody: better the reason now.
                if Instant::now() + pause >= context.deadline {
                    return Err(self.complete(context, error));
                }
                context.wait("another attempt", tokio::time::sleep(pause)).await
            }
            Decision::Reconcile => {
                let facts = error.facts;
                let kind = ErrorKind::OutcomeUnknown;
                Err(context.known(Error { kind, facts }))
            }
            Decision::GiveUp => Err(self.complete(context, error)),
        }
    }

    fn complete(&mut self, context: &RequestContext, mut error: Error) -> Error {
        if matches!(error.kind, ErrorKind::BreakerOpen { .. }) {
            // It says why the attempts before have failed.
            error.facts = std::mem::take(&mut self.failed);
        }
        context.known(error)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::crm::response::UpstreamResponse;
    use crate::error::Refusal;

    /// Every name of an exception that the fact sheets know, and one that nobody knows.
    const EXCEPTIONS: [&str; 23] = [
        "MXAPIRateLimitExceededException",
        "MXAuthenticationFailedException",
        "MXDuplicateEntityNameException",
        "MXDuplicateEntryException",
        "MXInvalidAccessDetailsException",
        "MXInvalidActivityException",
        "MXInvalidActivityFieldsException",
        "MXInvalidDataTypeException",
        "MXInvalidEntityReferenceException",
        "MXInvalidFieldException",
        "MXInvalidInputException",
        "MXInvalidLeadException",
        "MXMailDeliveryException",
        "MXMandatoryAttributeMissingException",
        "MXMandatoryFieldMissingException",
        "MXNobodyKnowsException",
        "MXThrottleException",
        "MXTimeoutException",
        "MXUnAuthorizedAccessException",
        "MXUnauthorizedRequestException",
        "MXUnknownAttributeException",
        "MXUnknownProspectActivityException",
        "MXXSSException",
    ];

    fn exception(name: &str, text: &str) -> String {
        json!({"Status": "Error", "ExceptionType": name, "ExceptionMessage": text}).to_string()
    }

    /// What becomes of that answer: what it means, and what is done for a read and for a write.
    fn fate(status: u16, body: &str) -> String {
        let response = UpstreamResponse {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        match response.json::<serde_json::Value>() {
            Ok(_) => "answered".to_owned(),
            Err(error) => format!(
                "{:<24} read: {:?}, write: {:?}",
                error.name(),
                decide(Safety::Repeatable, &error),
                decide(Safety::Once, &error)
            ),
        }
    }

    /// One line for each run of statuses with the same fate.
    fn fates(title: &str, body: &str) -> String {
        let mut lines = format!("{title}\n");
        let mut runs: Vec<(u16, u16, String)> = Vec::new();
        for status in 100..=599 {
            let fate = fate(status, body);
            match runs.last_mut() {
                Some((_, last, same)) if *same == fate => *last = status,
                _ => runs.push((status, status, fate)),
            }
        }
        for (first, last, fate) in runs {
            lines += &format!("  {first}-{last} {fate}\n");
        }
        lines
    }

    #[test]
    fn the_fate_of_every_status_and_every_exception() {
        let mut table = String::new();
        for (title, body) in [
            (
                "success",
                json!({"Status": "Success", "Message": {"Id": "x"}}).to_string(),
            ),
            ("a list", "[]".to_owned()),
            ("nothing", String::new()),
            ("half a JSON", r#"{"Status":"Succ"#.to_owned()),
            ("a page", "<html>Bad Gateway</html>".to_owned()),
            (
                "a plain refusal",
                "API calls exceeded the limit of 25 in 5 second(s)".to_owned(),
            ),
            (
                "a failure without a name",
                json!({"Status": "Failed", "Message": {"Message": "no"}}).to_string(),
            ),
            (
                "a refusal with a limit",
                exception(
                    "MXAPIRateLimitExceededException",
                    "API calls exceeded the limit of 25 in 5 second(s)",
                ),
            ),
            (
                "a missing lead",
                exception("MXInvalidEntityReferenceException", "Lead not found"),
            ),
            (
                "a feature that is off",
                exception("MXOtherException", "Delete is not enabled for you"),
            ),
        ] {
            table += &fates(title, &body);
        }
        for name in EXCEPTIONS {
            table += &fates(name, &exception(name, "some text"));
        }
        insta::assert_snapshot!("fates", table);
    }

    #[test]
    fn only_what_surely_was_not_executed_is_sent_again() {
        let lost = ErrorKind::Unavailable { sent: true }.into();
        assert_eq!(decide(Safety::Once, &lost), Decision::Reconcile);
        assert_eq!(decide(Safety::Repeatable, &lost), Decision::Again);
        let unsent = ErrorKind::Unavailable { sent: false }.into();
        assert_eq!(decide(Safety::Once, &unsent), Decision::Again);
        for refusal in [Refusal::Daily, Refusal::Window(None)] {
            assert_eq!(
                decide(Safety::Once, &ErrorKind::Refused(refusal).into()),
                Decision::Requeue
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_by_count_and_by_deadline() {
        let lost = || Error::from(ErrorKind::Unavailable { sent: true });
        let context = RequestContext::internal("test", Duration::from_secs(60));
        let mut retries = Retries::new(Safety::Repeatable, 3);
        assert_eq!(retries.pause(&context, lost(), false).await, Ok(()));
        assert_eq!(retries.pause(&context, lost(), false).await, Ok(()));
        assert_eq!(retries.pause(&context, lost(), false).await, Err(lost()));

        let short = RequestContext::internal("test", Duration::from_millis(50));
        let mut retries = Retries::new(Safety::Repeatable, 3);
        assert_eq!(retries.pause(&short, lost(), false).await, Err(lost()));
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_breaker_is_open_the_pause_is_that_of_the_queue() {
        let lost = || Error::from(ErrorKind::Unavailable { sent: true }).seen_at(503);
        let context = RequestContext::internal("test", Duration::from_millis(50));
        let mut retries = Retries::new(Safety::Repeatable, 3);
        let began = Instant::now();
        assert_eq!(retries.pause(&context, lost(), true).await, Ok(()));
        assert_eq!(began.elapsed(), Duration::ZERO);
        let retry_after = Duration::from_secs(2);
        let open = ErrorKind::BreakerOpen { retry_after };
        let error = retries.pause(&context, open.clone().into(), true).await.unwrap_err();
        assert_eq!((error.kind, error.facts.upstream_status), (open, Some(503)));
        let mut retries = Retries::new(Safety::Repeatable, 1);
        assert_eq!(retries.pause(&context, lost(), true).await, Err(lost()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_call_is_made_again_however_often() {
        let context = RequestContext::internal("test", Duration::from_secs(60));
        let mut retries = Retries::new(Safety::Once, 1);
        for _ in 0..10 {
            let refused = ErrorKind::Refused(Refusal::Window(None)).into();
            assert_eq!(retries.pause(&context, refused, false).await, Ok(()));
        }
    }
}
