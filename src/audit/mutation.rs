//! The line of each mutation: when it is written, and with which outcome.
//!
//! A mutation has two sides. Its caller waits for a response. Its task goes on after the caller has cancelled or its deadline has
//! passed. If the caller waits until the end, the line has the outcome of the response and is written before it. Otherwise the task
//! writes the line when it ends, with the real outcome. So there is one line in any case.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use uuid::Uuid;

use super::line::{Line, Phase, lead_id, names};
use super::writer::{AuditLog, Unwritten};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};

const OK: &str = "OK";

/// The audit of an RPC that mutates. It knows the caller.
pub struct RpcAudit {
    log: AuditLog,
    method: String,
    /// The method of a call that the RPC passes on.
    passed_on: OnceLock<String>,
    caller: Arc<str>,
    tenant: OnceLock<String>,
    request_id: String,
    /// The public reason of an error.
    reason: fn(&Error) -> &'static str,
    /// Whether a mutation of the RPC has a line of its own, or the RPC is no mutation after all.
    has_mutations: AtomicBool,
}

/// The part of a request's context for the audit. Empty for reads, for internal requests, and without an audit.
#[derive(Clone, Default)]
pub struct AuditContext {
    rpc: Option<Arc<RpcAudit>>,
    mutation: Option<Arc<MutationAudit>>,
}

/// What a mutation writes, as far as it is known when it begins.
#[derive(Clone, Debug, Default)]
pub struct AuditSubject {
    /// The lead.
    pub lead_id: Option<String>,
    /// The share.
    pub share_id: Option<Uuid>,
    /// The names of the attributes that are written or cleared.
    pub fields: Vec<String>,
}

/// One mutation, as its caller and its task share it.
struct MutationAudit {
    rpc: Arc<RpcAudit>,
    mutation_id: Option<Uuid>,
    state: Mutex<MutationState>,
}

struct MutationState {
    subject: AuditSubject,
    stage: Stage,
}

/// Which side writes the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is no task yet. The caller's side writes the line.
    Waiting,
    /// The task runs, and the caller waits for it.
    Running,
    /// The task runs, and no caller waits for it. The task writes the line.
    Detached,
    /// The task has ended with this outcome. The caller's side writes the line.
    Ended(&'static str),
    /// The line is written.
    Written,
}

/// The caller's side of a mutation. If it is dropped, the caller has cancelled.
struct ResponseAudit(Option<Arc<MutationAudit>>);

/// The side of the task of a mutation. If it is dropped before its end, the outcome is unknown.
pub struct TaskAudit(Option<Arc<MutationAudit>>);

impl std::fmt::Debug for RpcAudit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RpcAudit")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl RpcAudit {
    /// The audit of an RPC. `reason` returns the public reason of an error.
    pub fn new(
        log: AuditLog,
        method: &str,
        caller: &Arc<str>,
        request_id: &str,
        reason: fn(&Error) -> &'static str,
    ) -> Self {
        Self {
            log,
            method: method.to_owned(),
            passed_on: OnceLock::new(),
            caller: caller.clone(),
            tenant: OnceLock::new(),
            request_id: request_id.to_owned(),
            reason,
            has_mutations: AtomicBool::new(false),
        }
    }

    /// Records the tenant.
    pub fn set_tenant(&self, name: &str) {
        self.tenant.get_or_init(|| name.to_owned());
    }

    /// Writes the line of an RPC that was refused before any of its mutations began.
    pub async fn refused(&self, mutation_id: Option<Uuid>, reason: &'static str) {
        if self.has_mutations.swap(true, Ordering::Relaxed) {
            return;
        }
        let subject = AuditSubject::default();
        let line = self.line(Phase::End, mutation_id, &subject, Some(reason));
        // The writer logs and counts the error.
        let _ = self.log.append(&line).await;
    }

    fn line<'a>(
        &'a self,
        phase: Phase,
        mutation_id: Option<Uuid>,
        subject: &'a AuditSubject,
        outcome: Option<&'static str>,
    ) -> Line<'a> {
        Line {
            time: clock::now(),
            phase,
            caller: &self.caller,
            tenant: self.tenant.get().map(String::as_str),
            method: self.passed_on.get().unwrap_or(&self.method),
            lead_id: subject.lead_id.as_deref(),
            share_id: subject.share_id,
            request_id: &self.request_id,
            mutation_id,
            outcome,
            fields: &subject.fields,
        }
    }
}

impl AuditContext {
    /// The context of an RPC.
    pub fn new(rpc: Option<Arc<RpcAudit>>) -> Self {
        Self { rpc, mutation: None }
    }

    /// Records the method of a call that is passed on.
    pub fn set_method(&self, method: &str) {
        if let Some(rpc) = &self.rpc {
            rpc.passed_on.get_or_init(|| method.to_owned());
        }
    }

    /// Records that the RPC only checks its message.
    pub fn set_validate_only(&self) {
        if let Some(rpc) = &self.rpc {
            rpc.has_mutations.store(true, Ordering::Relaxed);
        }
    }

    /// Runs a mutation, and writes its line before it returns. `mutate` gets the context with which it calls [`Self::task`].
    pub async fn mutation<T, F>(
        &self,
        mutation_id: Option<Uuid>,
        subject: AuditSubject,
        mutate: impl FnOnce(Self) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mutation = self.rpc.as_ref().map(|rpc| {
            rpc.has_mutations.store(true, Ordering::Relaxed);
            let state = MutationState {
                subject: subject.checked(),
                stage: Stage::Waiting,
            };
            Arc::new(MutationAudit {
                rpc: rpc.clone(),
                mutation_id,
                state: Mutex::new(state),
            })
        });
        let response = ResponseAudit(mutation.clone());
        let result = mutate(Self {
            rpc: self.rpc.clone(),
            mutation,
        })
        .await;
        response.finish(result.as_ref().err()).await;
        result
    }

    /// Begins the task of the mutation.
    pub fn task(&self) -> TaskAudit {
        if let Some(mutation) = &self.mutation {
            mutation.state().stage = Stage::Running;
        }
        TaskAudit(self.mutation.clone())
    }

    /// Writes the line with the phase `begin`, if the settings require it. Nothing may be sent before.
    pub async fn begin(&self) -> Result<()> {
        let Some(mutation) = self.mutation.as_ref().filter(|mutation| mutation.rpc.log.is_required()) else {
            return Ok(());
        };
        let subject = mutation.state().subject.clone();
        let begun = mutation.append(Phase::Begin, &subject, None).await;
        begun.map_err(|Unwritten| ErrorKind::AuditUnavailable.into())
    }

    /// Records the lead and the share, which are known later than the mutation begins.
    pub fn learn(&self, lead: Option<&str>, share: Option<Uuid>) {
        if let Some(mutation) = &self.mutation {
            mutation.learn(lead, share);
        }
    }

    /// Records the names of the attributes as the account spells them.
    pub fn set_fields(&self, fields: Vec<String>) {
        if let Some(mutation) = &self.mutation {
            mutation.state().subject.fields = names(fields);
        }
    }
}

impl std::fmt::Debug for AuditContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditContext").finish_non_exhaustive()
    }
}

impl AuditSubject {
    /// Without the ids and names that have another form.
    fn checked(self) -> Self {
        Self {
            lead_id: self.lead_id.as_deref().and_then(lead_id),
            share_id: self.share_id,
            fields: names(self.fields),
        }
    }
}

impl MutationAudit {
    fn state(&self) -> MutexGuard<'_, MutationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, lead: Option<&str>, share: Option<Uuid>) {
        let mut state = self.state();
        if let Some(id) = lead.and_then(lead_id) {
            state.subject.lead_id = Some(id);
        }
        state.subject.share_id = share.or(state.subject.share_id);
    }

    fn outcome(&self, error: Option<&Error>) -> &'static str {
        error.map_or(OK, self.rpc.reason)
    }

    /// Returns the outcome and the subject of the line that the caller's side writes. `None`: the task writes it.
    fn end_response(&self, error: Option<&Error>) -> Option<(&'static str, AuditSubject)> {
        self.learn(None, error.and_then(|error| error.details.share_id));
        let mut state = self.state();
        let outcome = match state.stage {
            Stage::Running => {
                state.stage = Stage::Detached;
                return None;
            }
            // The task has ended before.
            Stage::Ended(outcome) if error.is_some_and(is_end_of_wait) => outcome,
            Stage::Waiting | Stage::Ended(_) => self.outcome(error),
            Stage::Detached | Stage::Written => return None,
        };
        state.stage = Stage::Written;
        Some((outcome, state.subject.clone()))
    }

    /// Returns the subject of the line that the task writes. `None`: the caller's side writes it.
    fn end_task(&self, outcome: &'static str) -> Option<AuditSubject> {
        let mut state = self.state();
        match state.stage {
            Stage::Detached => {
                state.stage = Stage::Written;
                Some(state.subject.clone())
            }
            Stage::Waiting | Stage::Running => {
                state.stage = Stage::Ended(outcome);
                None
            }
            Stage::Ended(_) | Stage::Written => None,
        }
    }

    async fn append(
        &self,
        phase: Phase,
        subject: &AuditSubject,
        outcome: Option<&'static str>,
    ) -> std::result::Result<(), Unwritten> {
        let line = self.rpc.line(phase, self.mutation_id, subject, outcome);
        self.rpc.log.append(&line).await
    }

    fn append_later(&self, subject: &AuditSubject, outcome: &'static str) {
        let line = self.rpc.line(Phase::End, self.mutation_id, subject, Some(outcome));
        self.rpc.log.append_later(&line);
    }
}

/// Whether the error only says that the caller does not wait any longer.
fn is_end_of_wait(error: &Error) -> bool {
    match error.kind {
        ErrorKind::DeadlineExceeded { .. } | ErrorKind::CallerCancelled => true,
        // An uncertain share has its id in the error.
        ErrorKind::OutcomeUnknown => error.details.share_id.is_none(),
        _ => false,
    }
}

impl ResponseAudit {
    async fn finish(mut self, error: Option<&Error>) {
        if let Some(mutation) = self.0.take()
            && let Some((outcome, subject)) = mutation.end_response(error)
        {
            // The response is given in any case. The writer logs and counts the error.
            let _ = mutation.append(Phase::End, &subject, Some(outcome)).await;
        }
    }
}

impl Drop for ResponseAudit {
    fn drop(&mut self) {
        if let Some(mutation) = self.0.take()
            && let Some((outcome, subject)) = mutation.end_response(Some(&ErrorKind::CallerCancelled.into()))
        {
            mutation.append_later(&subject, outcome);
        }
    }
}

impl TaskAudit {
    /// Ends the task. If no caller waits, the line is written now.
    pub async fn end(mut self, error: Option<&Error>) {
        if let Some(mutation) = self.0.take() {
            let outcome = mutation.outcome(error);
            if let Some(subject) = mutation.end_task(outcome) {
                // The writer logs and counts the error.
                let _ = mutation.append(Phase::End, &subject, Some(outcome)).await;
            }
        }
    }

    /// Records the lead and the share of the result.
    pub fn learn(&self, lead: Option<&str>, share: Option<Uuid>) {
        if let Some(mutation) = &self.0 {
            mutation.learn(lead, share);
        }
    }
}

impl Drop for TaskAudit {
    fn drop(&mut self) {
        if let Some(mutation) = self.0.take() {
            let outcome = mutation.outcome(Some(&ErrorKind::OutcomeUnknown.into()));
            if let Some(subject) = mutation.end_task(outcome) {
                mutation.append_later(&subject, outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditSettings;

    /// A log, and the context of an RPC that writes to it.
    async fn rpc(folder: &tempfile::TempDir) -> (AuditLog, AuditContext) {
        let settings = AuditSettings {
            file: folder.path().join("audit.jsonl").to_str().unwrap().to_owned(),
            required: false,
        };
        let log = AuditLog::open(&settings, Arc::default()).await.unwrap().unwrap();
        let reason = |error: &Error| match error.kind {
            ErrorKind::CallerCancelled => "CALLER_LEFT",
            ErrorKind::DeadlineExceeded { .. } => "DEADLINE_EXCEEDED",
            ErrorKind::OutcomeUnknown => "OUTCOME_UNKNOWN",
            _ => "OTHER",
        };
        let rpc = RpcAudit::new(log.clone(), "m", &"test".into(), "r", reason);
        (log, AuditContext::new(Some(Arc::new(rpc))))
    }

    async fn outcomes(log: &AuditLog, folder: &tempfile::TempDir) -> Vec<String> {
        log.flush().await;
        let text = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
        let outcome = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["outcome"].as_str().unwrap().to_owned()
        };
        text.lines().map(outcome).collect()
    }

    fn deadline() -> Error {
        let place = "a test".into();
        ErrorKind::DeadlineExceeded { place }.into()
    }

    #[tokio::test]
    async fn there_is_one_line_with_the_real_outcome_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let (log, rpc) = rpc(&folder).await;
        let subject = AuditSubject::default;

        // The deadline passes before the task begins.
        let _ = rpc.mutation::<(), _>(None, subject(), async |_| Err(deadline())).await;
        assert_eq!(outcomes(&log, &folder).await, ["DEADLINE_EXCEEDED"]);

        // The deadline passes while the task runs.
        let (send, task) = tokio::sync::oneshot::channel();
        let mutate = async |context: AuditContext| {
            send.send(context.task()).ok().unwrap();
            Err(deadline())
        };
        let _ = rpc.mutation::<(), _>(None, subject(), mutate).await;
        assert_eq!(outcomes(&log, &folder).await.len(), 1);
        task.await.unwrap().end(None).await;
        assert_eq!(outcomes(&log, &folder).await[1..], ["OK"]);

        // The task ends first.
        let mutate = async |context: AuditContext| {
            context.task().end(None).await;
            Err(deadline())
        };
        let _ = rpc.mutation::<(), _>(None, subject(), mutate).await;
        assert_eq!(outcomes(&log, &folder).await[2..], ["OK"]);

        // The task is dropped, and then the caller.
        let mut dropped = Box::pin(rpc.mutation::<(), _>(None, subject(), async |context: AuditContext| {
            drop(context.task());
            std::future::pending().await
        }));
        assert!(is_pending(&mut dropped));
        drop(dropped);
        assert_eq!(outcomes(&log, &folder).await[3..], ["OUTCOME_UNKNOWN"]);

        // The caller cancels before the task begins.
        let mut dropped = Box::pin(rpc.mutation::<(), _>(None, subject(), async |_| std::future::pending().await));
        assert!(is_pending(&mut dropped));
        drop(dropped);
        assert_eq!(outcomes(&log, &folder).await[4..], ["CALLER_LEFT"]);
    }

    /// Polls a future once. Returns whether it is pending.
    fn is_pending<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        future.as_mut().poll(&mut context).is_pending()
    }
}
