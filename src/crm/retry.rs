//! Decides whether a request is sent to LeadSquared again. The decisions are by the kind of an error; `response` maps the HTTP
//! status and the exception of a response to the kind. Two other modules decide too: `batch::splitting`, about the parts of a
//! failed batch, and `sharing::machine`, about the steps of a share.
//!
//! * [`decide`]: after a failed attempt. [`Retries`] makes the attempts of one call.
//! * [`decide_lost_write`]: after a look-up of a write whose response was lost. [`Client::send_until_known`] sends such writes.
//! * [`decide_incomplete_page`]: after a page of a list was read that is incomplete.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use super::Client;
use super::lost::LostWrite;
use crate::clock;
use crate::context::RequestContext;
use crate::error::{Error, ErrorKind, FailureDetails, Outcome, Recovery, Result};
use crate::quota::Requeue;
use crate::quota::breaker::OperationId;

/// Maximum number of times that one write is sent if responses get lost.
const MAX_SENDS: u32 = 2;

/// Maximum number of reads of a page whose number of records is less than its count.
const MAX_PAGE_READS: u32 = 3;

/// Whether an operation may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// A read: any number of times.
    Repeatable,
    /// A write: only if it was certainly not executed.
    Once,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Put the call back to the head of the queue. It was refused because of a rate limit and not executed.
    Requeue,
    /// Send it again after a pause, if the deadline allows it.
    Retry,
    /// Look the write up. It may have been executed.
    Reconcile,
    /// Return the error to the caller.
    Fail,
}

/// Decides by the kind of the error and by whether the operation may be sent twice.
pub fn decide(safety: Safety, error: &Error) -> Decision {
    match (&error.kind, safety) {
        (ErrorKind::Refused(_), _) => Decision::Requeue,
        (ErrorKind::Unavailable { sent: false }, _) | (ErrorKind::Unavailable { .. }, Safety::Repeatable) => {
            Decision::Retry
        }
        // The look-ups have been made.
        (ErrorKind::OutcomeUnknown, _) => Decision::Fail,
        // A rejection is returned to the caller although it may not be LeadSquared's. A page may follow the execution.
        (ErrorKind::Exception, _) if !error.details.is_page => Decision::Fail,
        (_, Safety::Once) if error.outcome() == Outcome::Unknown => Decision::Reconcile,
        _ => Decision::Fail,
    }
}

/// Decides about a write whose response was lost, after a look-up has found that it was not executed.
pub fn decide_lost_write(sends: u32) -> Decision {
    if sends < MAX_SENDS {
        Decision::Retry
    } else {
        Decision::Fail
    }
}

/// Decides about an incomplete page that was read `reads` times.
pub fn decide_incomplete_page(reads: u32) -> Decision {
    if reads < MAX_PAGE_READS {
        Decision::Retry
    } else {
        Decision::Fail
    }
}

/// What look-ups have proved of a write whose response was lost.
pub enum Reconciled<T> {
    /// The write was executed.
    Executed(T),
    /// The write was not executed, or may be executed twice.
    NotExecuted,
    /// The batch of the write continues, and the write is sent with it.
    ResendWithBatch,
    /// The outcome is not known.
    Unknown {
        /// What the caller can do. `None` if a later look-up would prove no more.
        recovery: Option<Recovery>,
    },
}

/// A write that can be looked up.
pub trait ReconcilableWrite: Send {
    /// The result of the write.
    type Output: Send;

    /// Sends the write.
    fn send(&mut self, context: &RequestContext) -> impl Future<Output = Result<Self::Output>> + Send;

    /// Looks the write up until it is found, or until a look-up that does not find it is conclusive. `unknown` is the error
    /// that is returned if the outcome stays unknown.
    fn reconcile(
        &mut self,
        context: &RequestContext,
        lost: LostWrite,
        unknown: &Error,
    ) -> impl Future<Output = Result<Reconciled<Self::Output>>> + Send;

    /// Whether the lost request itself can be the reason why sending it again failed with that error. Example: a second
    /// create is a duplicate of the first one.
    fn may_be_own_effect(&self, _error: &Error) -> bool {
        false
    }

    /// Looks up whether the lost request is the reason of that error. `resent` is the write as it was sent again.
    fn reconcile_own_effect(
        &mut self,
        context: &RequestContext,
        lost: LostWrite,
        resent: LostWrite,
    ) -> impl Future<Output = Result<Reconciled<Self::Output>>> + Send {
        let _ = (context, lost, resent);
        async { Ok(Reconciled::NotExecuted) }
    }

    /// The error to return if the outcome stays unknown.
    fn unknown_outcome(&self, unknown: Error) -> Error {
        unknown
    }
}

impl Client {
    /// Sends a write until its outcome is known. After a lost response the write is looked up, also after the caller's
    /// deadline. It is sent again only before that deadline, so that it is never sent after the caller got OUTCOME_UNKNOWN.
    /// `lost` is the write if it was begun before.
    pub async fn send_until_known<W: ReconcilableWrite>(
        &self,
        mut context: RequestContext,
        mut lost: Option<LostWrite>,
        write: &mut W,
    ) -> Result<W::Output> {
        let deadline = context.deadline;
        let mut unknown = Error::from(ErrorKind::OutcomeUnknown);
        let mut sends = 0;
        loop {
            if let Some(lost) = lost {
                match write.reconcile(&context, lost, &unknown).await? {
                    Reconciled::Executed(output) => return Ok(output),
                    Reconciled::NotExecuted if decide_lost_write(sends) == Decision::Retry => {}
                    Reconciled::NotExecuted => {
                        unknown.details.recovery = Some(lost.recovery());
                        break;
                    }
                    // The batch decides how often it is sent.
                    Reconciled::ResendWithBatch => sends = 1,
                    Reconciled::Unknown { recovery } => {
                        unknown.details.recovery = recovery;
                        break;
                    }
                }
            }
            let sent_at = clock::now();
            let sending = RequestContext {
                deadline,
                ..context.clone()
            };
            sends += 1;
            let error = match write.send(&sending).await {
                Ok(output) => return Ok(output),
                Err(error) => error,
            };
            let is_lost = error.kind == ErrorKind::OutcomeUnknown;
            match lost {
                _ if is_lost => {
                    let now_lost = self.lost_write(sent_at, &error).after(lost);
                    context = self.reconciling(&context, now_lost);
                    lost = Some(now_lost);
                    unknown = error;
                }
                Some(first) if write.may_be_own_effect(&error) => {
                    let resent = self.lost_write(sent_at, &error).after(lost);
                    return match write.reconcile_own_effect(&context, first, resent).await? {
                        Reconciled::Executed(output) => Ok(output),
                        Reconciled::NotExecuted | Reconciled::ResendWithBatch => Err(error),
                        Reconciled::Unknown { recovery } => {
                            unknown.details.recovery = recovery;
                            Err(unknown)
                        }
                    };
                }
                // An error that prevents another attempt says nothing about the first one.
                Some(first) if error.outcome() != Outcome::Rejected => {
                    unknown.details = error.details;
                    unknown.details.recovery = Some(first.recovery());
                    break;
                }
                _ => return Err(error),
            }
        }
        Err(write.unknown_outcome(unknown))
    }
}

/// The attempts of one call so far.
pub struct Retries {
    operation: OperationId,
    safety: Safety,
    max_attempts: u32,
    failures: u32,
    pauses: ExponentialBackoff,
    requeue: Option<Requeue>,
    /// When each attempt must have its slot, if not only before the deadline of the caller.
    slot_by: Option<Instant>,
    /// Whether a refused call is not sent again.
    returns_refusals: bool,
    /// The details of the last attempt that failed.
    last_failure: Box<FailureDetails>,
}

impl Retries {
    /// No attempts yet, and at most `max_attempts`.
    pub fn new(safety: Safety, max_attempts: u32) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .without_max_times()
            .build();
        Self {
            operation: OperationId::unique(),
            safety,
            max_attempts,
            failures: 0,
            pauses,
            requeue: None,
            slot_by: None,
            returns_refusals: false,
            last_failure: Box::default(),
        }
    }

    /// The same attempts, each of which must have its slot at that time.
    #[must_use]
    pub fn with_slot_by(self, slot_by: Option<Instant>) -> Self {
        Self { slot_by, ..self }
    }

    /// The same attempts. With `true`, a refused call is not sent again.
    #[must_use]
    pub fn returning_refusals(self, returns_refusals: bool) -> Self {
        Self {
            returns_refusals,
            ..self
        }
    }

    /// When each attempt must have its slot.
    pub fn slot_by(&self) -> Option<Instant> {
        self.slot_by
    }

    /// The operation, for the circuit breaker.
    pub fn operation(&self) -> OperationId {
        self.operation
    }

    /// Makes the further attempts a part of that operation.
    pub fn part_of(&mut self, operation: OperationId) {
        self.operation = operation;
    }

    /// Takes the position at the head of the queue, which a refused attempt has reserved for the next one.
    pub fn requeue(&mut self) -> Option<Requeue> {
        self.requeue.take()
    }

    /// Keeps the position at the head of the queue for the next attempt.
    pub fn set_requeue(&mut self, requeue: Option<Requeue>) {
        self.requeue = requeue;
    }

    /// Waits until the next attempt. Fails with the error for the caller if there is none. While the circuit breaker
    /// `is_open`, the next attempt waits in the queue of the quota and not here.
    pub async fn pause(&mut self, context: &RequestContext, error: Error, is_open: bool) -> Result<()> {
        let decision = decide(self.safety, &error);
        if self.safety == Safety::Once && matches!(decision, Decision::Requeue | Decision::Retry) {
            context.not_executed().await;
        }
        match decision {
            Decision::Requeue if self.returns_refusals => Err(self.final_error(context, error)),
            Decision::Requeue => Ok(()),
            Decision::Retry => {
                self.failures += 1;
                let pause = self.pauses.next().unwrap_or_default();
                if self.failures >= self.max_attempts {
                    return Err(self.final_error(context, error));
                }
                self.last_failure = error.details.clone();
                if is_open {
                    return Ok(());
                }
                // The error is more useful now than after a pause that lasts until the deadline.
                let end = self.slot_by.map_or(context.deadline, |by| by.min(context.deadline));
                if Instant::now() + pause >= end {
                    return Err(self.final_error(context, error));
                }
                context.wait("another attempt", tokio::time::sleep(pause)).await
            }
            Decision::Reconcile => {
                let details = error.details;
                let kind = ErrorKind::OutcomeUnknown;
                Err(context.with_progress(Error { kind, details }))
            }
            Decision::Fail => Err(self.final_error(context, error)),
        }
    }

    fn final_error(&mut self, context: &RequestContext, mut error: Error) -> Error {
        if matches!(error.kind, ErrorKind::BreakerOpen { .. }) {
            // These details describe why the earlier attempts failed.
            error.details = std::mem::take(&mut self.last_failure);
        }
        context.with_progress(error)
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

    /// Every documented name of an exception, and an unknown one.
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

    /// The error of a response, and the decisions for a read and for a write.
    fn decisions(status: u16, body: &str) -> String {
        let response = UpstreamResponse {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            head: Default::default(),
        };
        match response.json::<serde_json::Value>() {
            Ok(_) => "success".to_owned(),
            Err(error) => format!(
                "{:<24} read: {:?}, write: {:?}",
                error.name(),
                decide(Safety::Repeatable, &error),
                decide(Safety::Once, &error)
            ),
        }
    }

    /// One line for each run of statuses with the same decisions.
    fn table(title: &str, body: &str) -> String {
        let mut lines = format!("{title}\n");
        let mut runs: Vec<(u16, u16, String)> = Vec::new();
        for status in 100..=599 {
            let decisions = decisions(status, body);
            match runs.last_mut() {
                Some((_, last, same)) if *same == decisions => *last = status,
                _ => runs.push((status, status, decisions)),
            }
        }
        for (first, last, decisions) in runs {
            lines += &format!("  {first}-{last} {decisions}\n");
        }
        lines
    }

    #[test]
    fn the_decisions_for_every_status_and_every_exception() {
        let mut all = String::new();
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
            all += &table(title, &body);
        }
        for name in EXCEPTIONS {
            all += &table(name, &exception(name, "some text"));
        }
        insta::assert_snapshot!("decisions", all);
    }

    #[test]
    fn a_write_is_sent_again_only_if_it_was_certainly_not_executed() {
        let lost = ErrorKind::Unavailable { sent: true }.into();
        assert_eq!(decide(Safety::Once, &lost), Decision::Reconcile);
        assert_eq!(decide(Safety::Repeatable, &lost), Decision::Retry);
        let unsent = ErrorKind::Unavailable { sent: false }.into();
        assert_eq!(decide(Safety::Once, &unsent), Decision::Retry);
        for refusal in [Refusal::Daily, Refusal::Window(None)] {
            assert_eq!(
                decide(Safety::Once, &ErrorKind::Refused(refusal).into()),
                Decision::Requeue
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_count_and_the_deadline_limit_the_attempts() {
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
    async fn while_the_breaker_is_open_the_next_attempt_waits_in_the_queue() {
        let lost = || Error::from(ErrorKind::Unavailable { sent: true }).with_status(503);
        let context = RequestContext::internal("test", Duration::from_millis(50));
        let mut retries = Retries::new(Safety::Repeatable, 3);
        let began = Instant::now();
        assert_eq!(retries.pause(&context, lost(), true).await, Ok(()));
        assert_eq!(began.elapsed(), Duration::ZERO);
        let retry_after = Duration::from_secs(2);
        let open = ErrorKind::BreakerOpen { retry_after };
        let error = retries.pause(&context, open.clone().into(), true).await.unwrap_err();
        assert_eq!((error.kind, error.details.upstream_status), (open, Some(503)));
        let mut retries = Retries::new(Safety::Repeatable, 1);
        assert_eq!(retries.pause(&context, lost(), true).await, Err(lost()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_call_is_requeued_any_number_of_times() {
        let context = RequestContext::internal("test", Duration::from_secs(60));
        let mut retries = Retries::new(Safety::Once, 1);
        for _ in 0..10 {
            let refused = ErrorKind::Refused(Refusal::Window(None)).into();
            assert_eq!(retries.pause(&context, refused, false).await, Ok(()));
        }
    }
}
