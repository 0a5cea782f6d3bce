//! What the failure of a batch call says about its members: whether to split the batch, and how.

use super::super::retry::{Decision, Safety, decide};
use super::Batchable;
use crate::error::{Error, ErrorKind, Outcome};

/// How the failure of a batch call is handled.
pub(super) enum Failure {
    /// All members fail.
    OfAll,
    /// The only member fails.
    OfTheOnlyOne,
    /// The account does not have the batch endpoint.
    NoSuchEndpoint,
    /// One member may cause the failure, and nothing was executed.
    NotExecuted,
    /// One member may cause the failure, and what was executed is unknown.
    Unknown,
}

/// The outcomes of the calls of one batch so far.
pub(super) struct Splitting {
    members: usize,
    pub(super) has_begun: bool,
    /// Maximum number of failed calls in a row that one member can cause.
    max_failures: u32,
    failed_in_a_row: u32,
    /// Whether the endpoint has processed anything in the batch.
    is_served: bool,
    /// Number of calls that the endpoint did not serve.
    unserved: u32,
    /// Number of members that were alone in such a call.
    unserved_alone: usize,
}

/// Minimum number of members of a batch that proves that the account does not have an endpoint.
const MIN_PROOF: usize = 4;

impl Splitting {
    pub(super) fn new(members: usize) -> Self {
        // Number of calls from the whole batch to a single member.
        let levels = members.next_power_of_two().trailing_zeros() + 1;
        Self {
            members,
            has_begun: false,
            max_failures: levels + 1,
            failed_in_a_row: 0,
            is_served: false,
            unserved: 0,
            unserved_alone: 0,
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.failed_in_a_row = 0;
        self.is_served = true;
    }

    /// Whether no member was served, not even alone.
    pub(super) fn is_absent(&self) -> bool {
        !self.is_served && self.members >= MIN_PROOF && self.unserved_alone == self.members
    }

    /// Returns how to handle the failure of a call with this number of members.
    pub(super) fn failed<O: Batchable>(&mut self, error: &Error, members: usize) -> Failure {
        let outcome = outcome(error);
        self.failed_in_a_row += 1;
        self.is_served |= matches!(outcome, BatchOutcome::NotExecuted | BatchOutcome::Unknown);
        let failure = match outcome {
            BatchOutcome::NotTried => return Failure::OfAll,
            BatchOutcome::Unserved if members > 1 => {
                self.unserved += 1;
                // After the whole batch and one half, the third call is the other half.
                let is_proved = self.unserved == 3 && !self.is_served && self.members >= MIN_PROOF;
                match is_proved {
                    true => Failure::NoSuchEndpoint,
                    false => Failure::NotExecuted,
                }
            }
            BatchOutcome::Unserved if O::SAFETY == Safety::Once => {
                self.unserved_alone += 1;
                Failure::OfTheOnlyOne
            }
            _ if members == 1 && O::SAFETY == Safety::Repeatable => Failure::OfTheOnlyOne,
            BatchOutcome::Unknown if members == 1 => Failure::OfAll,
            BatchOutcome::NotExecuted | BatchOutcome::Unserved if members == 1 => Failure::OfTheOnlyOne,
            BatchOutcome::NotExecuted | BatchOutcome::Unserved => Failure::NotExecuted,
            // A read can be sent twice, but an outage is not caused by one member.
            BatchOutcome::Unknown if O::SAFETY == Safety::Repeatable && self.failed_in_a_row > self.max_failures => {
                Failure::OfAll
            }
            BatchOutcome::Unknown if O::SAFETY == Safety::Repeatable => Failure::NotExecuted,
            BatchOutcome::Unknown => Failure::Unknown,
        };
        self.has_begun = true;
        failure
    }
}

/// What the error of a batch call says about its members.
enum BatchOutcome {
    /// The call was not sent, or the rate limiter refused it. Each member decides by itself whether to retry.
    NotTried,
    /// The call was rejected because of its content.
    NotExecuted,
    /// The call was rejected because there is no such endpoint, or because of its content.
    Unserved,
    /// The call may have been executed, or have failed because of its content.
    Unknown,
}

fn outcome(error: &Error) -> BatchOutcome {
    match &error.kind {
        ErrorKind::FeatureDisabled => return BatchOutcome::Unserved,
        ErrorKind::Exception if matches!(error.details.upstream_status, Some(404 | 405)) => {
            return BatchOutcome::Unserved;
        }
        _ => {}
    }
    match decide(Safety::Once, error) {
        Decision::Reconcile => BatchOutcome::Unknown,
        _ if error.kind == ErrorKind::Exception || error.outcome() == Outcome::Rejected => BatchOutcome::NotExecuted,
        _ => BatchOutcome::NotTried,
    }
}

/// Whether the endpoint may not exist in the account.
pub(super) fn is_unserved(error: &Error) -> bool {
    matches!(outcome(error), BatchOutcome::Unserved)
}
