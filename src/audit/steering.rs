//! The lines of steering requests: an operator has changed the running process through the admin port.

use super::line::{Line, Phase};
use super::writer::{AuditLog, Unwritten};
use crate::clock;

/// The caller in the lines of steering requests. No caller of the settings has such a name.
const CALLER: &str = "(admin)";

/// A steering request.
#[derive(Clone, Copy, Debug)]
pub struct SteeringAudit<'a> {
    /// The method and the path, without the names in it: `POST /admin/drain`.
    pub method: &'static str,
    /// The tenant, if the request is about one.
    pub tenant: Option<&'a str>,
    /// The id of the request.
    pub request_id: &'a str,
}

impl AuditLog {
    /// Writes the line with the phase `begin`, if the settings require it. Returns whether the request may be executed.
    pub async fn begin_steering(&self, request: &SteeringAudit<'_>) -> bool {
        !self.is_required() || self.append(&request.line(Phase::Begin, None)).await.is_ok()
    }

    /// Writes the line with the outcome: `OK`, or the code of the error.
    pub async fn end_steering(&self, request: &SteeringAudit<'_>, outcome: &'static str) {
        // The writer logs and counts the error.
        let _: Result<(), Unwritten> = self.append(&request.line(Phase::End, Some(outcome))).await;
    }
}

impl<'a> SteeringAudit<'a> {
    fn line(&self, phase: Phase, outcome: Option<&'static str>) -> Line<'a> {
        Line {
            time: clock::now(),
            phase,
            caller: CALLER,
            tenant: self.tenant,
            method: self.method,
            lead_id: None,
            share_id: None,
            request_id: self.request_id,
            mutation_id: None,
            outcome,
            fields: &[],
        }
    }
}
