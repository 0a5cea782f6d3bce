//! The keys of an account while the process runs: which pair is in use, when LeadSquared is queried about a pair, and what a
//! rejection (HTTP 401, HTTP 403 or an exception about the keys) says about the pair and about the request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::authentication::{KeyOwner, UserByAccessKey};
use super::keys::{KeyChange, KeyPair, KeySelection, KeyVerdict, Keys, PairName};
use super::retry::{Retries, Safety};
use super::{Client, slot_request};
use crate::context::{Criticality, RequestContext};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::metrics::Metrics;

/// How long the result of a check of the pair in use is valid.
const VERDICT_LIFETIME: Duration = Duration::from_secs(30);
/// How long the result is valid if the pair is rejected and the account has another pair, which LeadSquared may accept soon.
const REJECTION_LIFETIME: Duration = Duration::from_secs(5);
/// Maximum duration of a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before a pair is checked again whose check failed for another reason than the keys.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// The request id of checks that belong to no request.
const CHECK_ID: &str = "key-check";

/// The keys of the account.
#[derive(Debug)]
pub(super) struct AccountKeys {
    sources: Keys,
    selection: Mutex<KeySelection>,
    /// Held during a check. The last check of the pair in use.
    checked: tokio::sync::Mutex<Option<Checked>>,
    /// Notified when files have changed.
    changed: Notify,
}

#[derive(Debug)]
struct Checked {
    at: Instant,
    pair: Arc<KeyPair>,
    verdict: KeyVerdict,
}

/// What follows a result that may be a rejection of the keys.
pub(super) enum KeyDecision<T> {
    /// The request has this result.
    Done(Result<T>),
    /// The request was certainly not executed because its keys are rejected, and another pair is in use now. The result is the
    /// one to return if the request cannot be sent again.
    SendAgain(Result<T>),
}

impl AccountKeys {
    /// The first pair is in use. Fails if a pair cannot be read.
    pub(super) fn new(sources: Keys) -> std::result::Result<Self, String> {
        let first = sources.first.read(PairName::First)?;
        let next = match &sources.next {
            Some(source) => Some(
                source
                    .read(PairName::Next)
                    .map_err(|error| format!("{}.{error}", PairName::Next))?,
            ),
            None => None,
        };
        Ok(Self {
            sources,
            selection: Mutex::new(KeySelection::new(first, next)),
            checked: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// The pair with which requests are sent.
    pub(super) fn in_use(&self) -> Arc<KeyPair> {
        self.selection().in_use().clone()
    }

    pub(super) fn is_in_use(&self, pair: &Arc<KeyPair>) -> bool {
        self.selection().is_in_use(pair)
    }

    fn has_others(&self) -> bool {
        !self.selection().others().is_empty()
    }

    fn selection(&self) -> MutexGuard<'_, KeySelection> {
        self.selection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Whether these are keys of the account.
    pub fn has_keys(&self, access: &[u8], secret: &[u8]) -> bool {
        let selection = self.shared.keys.selection();
        let mut pairs = std::iter::once(selection.in_use().clone()).chain(selection.others());
        pairs.any(|pair| pair.is(access, secret))
    }

    /// Reads a pair again. A pair that has changed is used when LeadSquared accepts it ([`Client::maintain_keys`]).
    pub fn reload_keys(&self, name: PairName) -> std::result::Result<(), String> {
        let keys = &self.shared.keys;
        if let Some(source) = keys.sources.source(name) {
            let pair = source.read(name)?;
            if keys.selection().replace(pair) {
                keys.changed.notify_one();
            }
        }
        Ok(())
    }

    /// Checks the next pair at the start, and pairs whose files have changed, until `stop`. Sends nothing if there is neither.
    pub async fn maintain_keys(self, stop: CancellationToken) {
        let keys = &self.shared.keys;
        loop {
            let checked = async {
                self.until_paused(false).await;
                self.check_candidates().await
            };
            let is_complete = tokio::select! {
                is_complete = checked => is_complete,
                () = stop.cancelled() => return,
            };
            let pause = async {
                match is_complete {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(RETRY_PAUSE).await,
                }
            };
            tokio::select! {
                () = keys.changed.notified() => {}
                () = pause => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Queries LeadSquared about a pair of the settings. `None` if the settings have no such pair. Changes nothing.
    pub async fn owner_of_keys(&self, context: &RequestContext, name: PairName) -> Option<Result<KeyOwner>> {
        let pair = self.shared.keys.sources.source(name)?.read(name);
        let max_attempts = self.shared.settings.max_attempts;
        Some(match pair {
            Ok(pair) => self.key_owner(context, &Arc::new(pair), max_attempts).await,
            Err(error) => Err(Error::invalid(name.name(), error)),
        })
    }

    /// Decides what follows the result of a request with that pair. An HTTP 401 or 403 without an exception becomes
    /// `CredentialsRejected` or `Exception`.
    pub(super) async fn decide_keys<T>(
        &self,
        context: &RequestContext,
        pair: &Arc<KeyPair>,
        result: Result<T>,
    ) -> KeyDecision<T> {
        let decision = self.judge_keys(context, pair, result).await;
        let KeyDecision::Done(result) = &decision else {
            return decision;
        };
        let is_rejected = match result.as_ref().map_err(|error| &error.kind) {
            Ok(_) => false,
            Err(ErrorKind::CredentialsRejected { .. }) => true,
            Err(_) => return decision,
        };
        if self.shared.keys.is_in_use(pair) {
            self.set_credentials_rejected(is_rejected);
        }
        decision
    }

    async fn judge_keys<T>(&self, context: &RequestContext, pair: &Arc<KeyPair>, result: Result<T>) -> KeyDecision<T> {
        let keys = &self.shared.keys;
        let error = match result {
            Ok(output) => {
                pair.record_success(Instant::now());
                return KeyDecision::Done(Ok(output));
            }
            Err(error) => error,
        };
        let has_others = || !keys.is_in_use(pair) || keys.has_others();
        let is_bare = match &error.kind {
            ErrorKind::Denied { .. } => true,
            // Keys of another region. A different pair does not change the host.
            ErrorKind::CredentialsRejected {
                suggested_host: Some(_),
            } => return KeyDecision::Done(Err(error)),
            ErrorKind::CredentialsRejected { suggested_host: None } if has_others() => false,
            ErrorKind::CredentialsRejected { .. } | ErrorKind::Refused(_) => return KeyDecision::Done(Err(error)),
            _ => {
                // LeadSquared returns a named exception only to valid keys.
                if error.details.exception_type.is_some() {
                    pair.record_success(Instant::now());
                }
                return KeyDecision::Done(Err(error));
            }
        };
        let is_unauthorized = error.details.upstream_status == Some(401);
        // Keys that were valid a moment ago may have been replaced by the other pair.
        let may_be_replaced = is_unauthorized && has_others();
        let verdict = match is_bare && pair.is_proved(Instant::now()) && !may_be_replaced {
            true => KeyVerdict::Accepted,
            false => self.verdict(context, pair).await,
        };
        let is_rejected = match verdict {
            KeyVerdict::Accepted => !is_bare,
            KeyVerdict::Rejected => true,
            // The check failed, so only the status is known.
            KeyVerdict::Unknown => !is_bare || is_unauthorized,
        };
        let kind = match error.kind {
            ErrorKind::Denied { suggested_host } if is_rejected => ErrorKind::CredentialsRejected { suggested_host },
            ErrorKind::Denied { .. } => ErrorKind::Exception,
            kind => kind,
        };
        let details = error.details;
        let result = Err(Error { kind, details });
        match verdict == KeyVerdict::Rejected && !keys.is_in_use(pair) {
            true => KeyDecision::SendAgain(result),
            false => KeyDecision::Done(result),
        }
    }

    /// What LeadSquared says about a pair with which a request was rejected. The check continues if the caller does not wait, so
    /// that the next request knows its result.
    async fn verdict(&self, context: &RequestContext, pair: &Arc<KeyPair>) -> KeyVerdict {
        let check = self.clone().check_rejected(context.id.clone(), pair.clone());
        let check = self.shared.exchanges.spawn(check);
        match context.wait("a check of the keys", check).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) | Err(_) => KeyVerdict::Unknown,
        }
    }

    /// Checks all pairs at the same time, after a request with this pair was rejected.
    async fn check_rejected(self, id: Arc<str>, pair: Arc<KeyPair>) -> KeyVerdict {
        let keys = &self.shared.keys;
        let mut checked = keys.checked.lock().await;
        if !keys.is_in_use(&pair) {
            // Another pair replaced it. That does not prove that it is rejected.
            return match pair.is_rejected() {
                true => KeyVerdict::Rejected,
                false => self.check(&id, &pair).await,
            };
        }
        let others = keys.selection().others();
        if let Some(last) = &*checked {
            let lifetime = match last.verdict == KeyVerdict::Rejected && !others.is_empty() {
                true => REJECTION_LIFETIME,
                false => VERDICT_LIFETIME,
            };
            if Arc::ptr_eq(&last.pair, &pair) && last.at.elapsed() < lifetime {
                return last.verdict;
            }
        }
        let mut checks = JoinSet::new();
        for pair in std::iter::once(pair.clone()).chain(others) {
            let (client, id) = (self.clone(), id.clone());
            checks.spawn(async move {
                let verdict = client.check(&id, &pair).await;
                (pair, verdict)
            });
        }
        let results = checks.join_all().await;
        let verdict = results.iter().find(|(checked, _)| Arc::ptr_eq(checked, &pair));
        let verdict = verdict.map_or(KeyVerdict::Unknown, |(_, verdict)| *verdict);
        *checked = (verdict != KeyVerdict::Unknown).then(|| Checked {
            at: Instant::now(),
            pair,
            verdict,
        });
        self.record(&results);
        verdict
    }

    /// Checks the pairs that would be used instead of the pair in use. Returns whether LeadSquared has judged all of them.
    async fn check_candidates(&self) -> bool {
        let keys = &self.shared.keys;
        let _checked = keys.checked.lock().await;
        let mut unknown = Vec::new();
        loop {
            let candidates = keys.selection().candidates();
            let is_new = |pair: &Arc<KeyPair>| !unknown.iter().any(|checked| Arc::ptr_eq(checked, pair));
            let Some(pair) = candidates.into_iter().find(is_new) else {
                return unknown.is_empty();
            };
            let verdict = self.check(CHECK_ID, &pair).await;
            self.record(&[(pair.clone(), verdict)]);
            if verdict == KeyVerdict::Unknown {
                unknown.push(pair);
            }
        }
    }

    /// Queries LeadSquared about a pair by a call that needs nothing but valid keys.
    async fn check(&self, id: &str, pair: &Arc<KeyPair>) -> KeyVerdict {
        let context = RequestContext::internal(id, CHECK_TIMEOUT);
        let caller = context.caller.clone();
        let context = context.of(&caller, Criticality::CriticalPlus);
        let verdict = match self.key_owner(&context, pair, 1).await {
            Ok(_) => KeyVerdict::Accepted,
            Err(error) if matches!(error.kind, ErrorKind::CredentialsRejected { .. }) => KeyVerdict::Rejected,
            Err(_) => KeyVerdict::Unknown,
        };
        if verdict != KeyVerdict::Unknown {
            pair.set_rejected(verdict == KeyVerdict::Rejected);
        }
        let shared = &self.shared;
        shared
            .metrics
            .keys_checked(&shared.tenant, pair.name.name(), verdict.name());
        verdict
    }

    async fn key_owner(&self, context: &RequestContext, pair: &Arc<KeyPair>, max_attempts: u32) -> Result<KeyOwner> {
        let mut retries = Retries::new(Safety::Repeatable, max_attempts);
        loop {
            let permit = self
                .acquire_for(context, &slot_request(&UserByAccessKey), &mut retries)
                .await?;
            match self
                .attempt_with(context, &UserByAccessKey, pair, permit, &mut retries)
                .await
            {
                Ok(owner) => {
                    pair.record_success(Instant::now());
                    return Ok(owner);
                }
                Err(error) => self.pause(context, error, &mut retries).await?,
            }
        }
    }

    /// Records the results of checks. Logs and counts what follows from them.
    fn record(&self, results: &[(Arc<KeyPair>, KeyVerdict)]) {
        let shared = &self.shared;
        let changes = shared.keys.selection().record(results);
        let tenant = &shared.tenant;
        for change in changes {
            match change {
                KeyChange::Switched { from, to } => {
                    self.set_credentials_rejected(false);
                    shared.metrics.keys_switched(tenant, to.name());
                    set_in_use(&shared.metrics, tenant, to);
                    tracing::info!(%tenant, %from, %to, "LeadSquared keys switched");
                }
                KeyChange::NotAccepted { pair, in_use } => tracing::warn!(
                    %tenant,
                    %pair,
                    %in_use,
                    "LeadSquared rejects a pair of keys; the pair in use does not change"
                ),
                KeyChange::Rejected { pair } => {
                    tracing::warn!(%tenant, %pair, "LeadSquared rejects the keys in use, and accepts no other pair");
                }
            }
        }
    }
}

/// Sets the metric of the pair in use.
pub(super) fn set_in_use(metrics: &Metrics, tenant: &str, in_use: PairName) {
    for name in PairName::ALL {
        metrics.keys_in_use(tenant, name.name(), name == in_use);
    }
}
