//! `/ready`: for load balancers, whether the process can serve requests; for operators, what limits it. A process is not ready
//! if no request could succeed here but could succeed elsewhere: while it shuts down, or while its own store does not respond. An
//! error of one account, such as an open circuit breaker, degrades it: another process would have the same error. So does the
//! store of several replicas: it fails for all of them at once, and a replica that cannot reach it still forwards.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::task::TaskTracker;

use crate::domain::pause::Pause;
use crate::gateway::{BreakerState, Gateway};
use crate::store::Store;
use crate::tenant::{Membership, Tenants};

/// The time that the store has to respond.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// The result of the last background check of the store: why it cannot be written. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StoreStatus(Arc<Mutex<Option<String>>>);

impl StoreStatus {
    /// Records that the store can be written (`None`), or why it cannot.
    pub fn set(&self, error: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Returns why the store cannot be written.
    pub fn error(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The response of `/ready`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) status: Readiness,
    reasons: Vec<Reason>,
}

/// Whether the process can serve requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Readiness {
    /// It can serve all requests.
    Ready,
    /// It can serve some requests. Load balancers should not move requests to another process, which would fail as well.
    Degraded,
    /// It cannot. Load balancers should send requests to another process.
    NotReady,
}

/// Why the process is not ready, or is degraded.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Reason {
    /// The error reason of the requests that fail because of it, or `METADATA_MISSING`.
    code: &'static str,
    /// The account that it concerns; absent if it concerns all.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    message: String,
    #[serde(skip)]
    severity: Readiness,
}

/// The state of an account, as far as it decides on readiness.
#[derive(Clone, Debug)]
struct TenantState {
    breaker: BreakerState,
    /// Why LeadSquared cannot be reached.
    outage: Option<String>,
    /// When the daily budget is reset, if it is exhausted.
    exhausted_until: Option<Timestamp>,
    has_metadata: bool,
    credentials_rejected: bool,
}

impl Report {
    /// Checks the store and all accounts. `audit_error` is why the audit cannot be written.
    pub(super) async fn new(
        tenants: &Tenants,
        store: &StoreProbe,
        written: &StoreStatus,
        audit_error: Option<String>,
        is_shutting_down: bool,
    ) -> Self {
        let mut reasons = vec![];
        if is_shutting_down {
            reasons.push(Reason::not_ready(
                "SHUTTING_DOWN",
                "the process is shutting down".to_owned(),
            ));
        }
        let problem = tenants.membership().and_then(Membership::problem);
        reasons.extend(problem.map(|problem| Reason::not_ready("NOT_IN_CLUSTER", problem)));
        let store = match written.error() {
            Some(error) => Err(error),
            None => store.check().await,
        };
        reasons.extend(store.err().map(|error| Reason {
            severity: match tenants.membership() {
                None => Readiness::NotReady,
                Some(_) => Readiness::Degraded,
            },
            ..Reason::not_ready("STORE_UNAVAILABLE", error)
        }));
        reasons.extend(audit_error.map(Reason::audit));
        for tenant in tenants.iter() {
            let pause = tenants.pauses().of(tenant.name());
            reasons.extend(pause.map(|pause| Reason::paused(tenant.name(), &pause)));
        }
        for (name, gateway) in tenants.gateways() {
            reasons.extend(TenantState::of(&gateway).reasons(name));
        }
        Self::of(reasons)
    }

    fn of(reasons: Vec<Reason>) -> Self {
        let worst = reasons.iter().map(|reason| reason.severity).max();
        Self {
            status: worst.unwrap_or(Readiness::Ready),
            reasons,
        }
    }
}

impl Reason {
    fn not_ready(code: &'static str, message: String) -> Self {
        Self {
            code,
            tenant: None,
            message,
            severity: Readiness::NotReady,
        }
    }

    /// Reads succeed, and so do mutations unless `audit.required` is set.
    fn audit(error: String) -> Self {
        Self {
            code: "AUDIT_UNAVAILABLE",
            tenant: None,
            message: format!("the last line of the audit was not written: {error}"),
            severity: Readiness::Degraded,
        }
    }

    /// No request of the account succeeds, whichever process gets it.
    fn paused(tenant: &str, pause: &Pause) -> Self {
        let Pause { since, reason } = pause;
        let reason = match reason.as_str() {
            "" => "no reason was given",
            reason => reason,
        };
        let message = format!("an operator paused the account at {since:.0}: {reason}");
        Self::degraded("TENANT_PAUSED", tenant, message)
    }

    fn degraded(code: &'static str, tenant: &str, message: String) -> Self {
        Self {
            code,
            tenant: Some(tenant.to_owned()),
            message,
            severity: Readiness::Degraded,
        }
    }
}

impl TenantState {
    fn of(gateway: &Gateway) -> Self {
        let quota = gateway.quota();
        let is_exhausted = quota.daily.closed || quota.daily.remaining == Some(0);
        Self {
            breaker: quota.breaker.state,
            outage: gateway.outage(),
            exhausted_until: is_exhausted.then_some(quota.daily.reset),
            has_metadata: gateway.has_metadata(),
            credentials_rejected: gateway.credentials_rejected(),
        }
    }

    fn reasons(self, tenant: &str) -> Vec<Reason> {
        let mut reasons = vec![];
        let mut add = |code, message| reasons.push(Reason::degraded(code, tenant, message));
        if self.credentials_rejected {
            let text = "LeadSquared rejects the keys of the account: check access_key, secret_key and base_url";
            add("UPSTREAM_CREDENTIALS_REJECTED", text.to_owned());
        }
        let cause = self.outage.map_or(String::new(), |outage| format!(": {outage}"));
        match self.breaker {
            BreakerState::Closed => {}
            BreakerState::Open => add("UPSTREAM_UNAVAILABLE", format!("the circuit breaker is open{cause}")),
            BreakerState::HalfOpen => add(
                "UPSTREAM_UNAVAILABLE",
                format!("the circuit breaker is half-open{cause}"),
            ),
        }
        if let Some(reset) = self.exhausted_until {
            let text = format!("the daily budget of calls is exhausted until {reset:.0}");
            add("DAILY_BUDGET_EXHAUSTED", text);
        }
        if !self.has_metadata {
            let text = "the metadata of the account has not been fetched: values of writes are not checked against it";
            add("METADATA_MISSING", text.to_owned());
        }
        reasons
    }
}

type Check = dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync;

/// Checks whether the store responds. At most one check is in progress, so that a disk that hangs blocks one thread, and not one
/// thread for each request of `/ready`.
#[derive(Clone)]
pub(super) struct StoreProbe {
    check: Arc<Check>,
    turn: Arc<tokio::sync::Mutex<()>>,
    tasks: TaskTracker,
}

impl StoreProbe {
    /// A probe that checks the file of the store and reads a row.
    pub(super) fn new(store: Store, tenants: &Tenants) -> Self {
        let tenant = tenants
            .iter()
            .next()
            .map(|tenant| tenant.name().to_owned())
            .unwrap_or_default();
        Self::with(move || {
            let (store, tenant) = (store.clone(), tenant.clone());
            async move {
                store.probe(false).await.map_err(|error| error.to_string())?;
                let usage = store.quota_usage(&tenant).await;
                usage.map(drop).map_err(|error| error.to_string())
            }
        })
    }

    fn with<F>(check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self {
            check: Arc::new(move || Box::pin(check())),
            turn: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Fails if the store reports an error or does not respond in time.
    async fn check(&self) -> Result<(), String> {
        let checked = async {
            let turn = self.turn.clone().lock_owned().await;
            let check = (self.check)();
            let checked = self.tasks.spawn(async move {
                let _turn = turn;
                check.await
            });
            checked.await.unwrap_or_else(|error| Err(error.to_string()))
        };
        match tokio::time::timeout(STORE_TIMEOUT, checked).await {
            Ok(checked) => checked,
            Err(_) => Err(format!("the store does not respond within {STORE_TIMEOUT:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const GOOD: TenantState = TenantState {
        breaker: BreakerState::Closed,
        outage: None,
        exhausted_until: None,
        has_metadata: true,
        credentials_rejected: false,
    };

    /// The response for an account in that state, as JSON.
    fn report(state: TenantState) -> String {
        serde_json::to_string(&Report::of(state.reasons("acme"))).unwrap()
    }

    async fn store_report(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Report {
        let probe = StoreProbe::with(move || std::future::ready(check()));
        Report::new(
            &Tenants::new([].into(), None),
            &probe,
            &StoreStatus::default(),
            None,
            false,
        )
        .await
    }

    #[test]
    fn an_account_without_errors_is_ready() {
        assert_eq!(report(GOOD), r#"{"status":"ready","reasons":[]}"#);
    }

    #[test]
    fn an_open_breaker_degrades_and_names_the_cause() {
        let open = TenantState {
            breaker: BreakerState::Open,
            outage: Some("api.example:443: connection refused".to_owned()),
            ..GOOD
        };
        assert_eq!(
            report(open),
            r#"{"status":"degraded","reasons":[{"code":"UPSTREAM_UNAVAILABLE","tenant":"acme","message":"the circuit breaker is open: api.example:443: connection refused"}]}"#
        );
        let half_open = TenantState {
            breaker: BreakerState::HalfOpen,
            ..GOOD
        };
        assert!(report(half_open).contains("the circuit breaker is half-open\""));
    }

    #[test]
    fn an_exhausted_daily_budget_degrades_and_says_until_when() {
        let state = TenantState {
            exhausted_until: Some("2026-08-01T00:00:00Z".parse().unwrap()),
            ..GOOD
        };
        let text = report(state);
        assert!(
            text.contains("degraded") && text.contains("DAILY_BUDGET_EXHAUSTED"),
            "{text}"
        );
        assert!(text.contains("until 2026-08-01T00:00:00Z"), "{text}");
    }

    #[test]
    fn missing_metadata_and_rejected_credentials_degrade() {
        let state = TenantState {
            has_metadata: false,
            credentials_rejected: true,
            ..GOOD
        };
        let report = Report::of(state.reasons("acme"));
        let codes: Vec<_> = report.reasons.iter().map(|reason| reason.code).collect();
        assert_eq!(report.status, Readiness::Degraded);
        assert_eq!(codes, ["UPSTREAM_CREDENTIALS_REJECTED", "METADATA_MISSING"]);
    }

    #[tokio::test]
    async fn a_store_with_an_error_is_not_ready() {
        let report = store_report(|| Err("the store cannot be read".to_owned())).await;
        assert_eq!(report.status, Readiness::NotReady);
        assert_eq!(report.reasons[0].message, "the store cannot be read");
        assert_eq!(store_report(|| Ok(())).await.status, Readiness::Ready);
    }

    #[tokio::test]
    async fn the_store_of_several_replicas_degrades() {
        let probe = StoreProbe::with(|| std::future::ready(Err("the database does not respond".to_owned())));
        let tenants = Tenants::new([].into(), Some(Membership::new("10.0.0.5:50052")));
        let report = Report::new(&tenants, &probe, &StoreStatus::default(), None, false).await;
        assert_eq!(
            (report.status, report.reasons[0].code),
            (Readiness::Degraded, "STORE_UNAVAILABLE")
        );
        let report = Report::new(&tenants, &probe, &StoreStatus::default(), None, true).await;
        assert_eq!(report.status, Readiness::NotReady, "the process is shutting down");
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_written_is_not_ready() {
        let (probe, written) = (StoreProbe::with(|| std::future::ready(Ok(()))), StoreStatus::default());
        written.set(Some("the disk is full".to_owned()));
        let report = Report::new(&Tenants::new([].into(), None), &probe, &written, None, false).await;
        assert_eq!(
            (report.status, report.reasons[0].code),
            (Readiness::NotReady, "STORE_UNAVAILABLE")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_respond_is_not_ready_after_one_second_and_is_checked_once() {
        let checks = Arc::new(AtomicUsize::new(0));
        let count = checks.clone();
        let probe = StoreProbe::with(move || {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending()
        });
        let began = tokio::time::Instant::now();
        for _ in 0..2 {
            let report = Report::new(
                &Tenants::new([].into(), None),
                &probe,
                &StoreStatus::default(),
                None,
                false,
            )
            .await;
            assert_eq!(report.status, Readiness::NotReady);
            assert_eq!(report.reasons[0].message, "the store does not respond within 1s");
        }
        assert_eq!(
            (began.elapsed(), checks.load(Ordering::Relaxed)),
            (STORE_TIMEOUT * 2, 1)
        );
    }

    #[tokio::test]
    async fn an_audit_that_cannot_be_written_degrades_the_process() {
        let probe = StoreProbe::with(|| std::future::ready(Ok(())));
        let error = Some("No space left on device".to_owned());
        let report = Report::new(
            &Tenants::new([].into(), None),
            &probe,
            &StoreStatus::default(),
            error,
            false,
        )
        .await;
        assert_eq!(
            (report.status, report.reasons[0].code),
            (Readiness::Degraded, "AUDIT_UNAVAILABLE")
        );
    }

    #[tokio::test]
    async fn a_process_that_shuts_down_is_not_ready() {
        let probe = StoreProbe::with(|| std::future::ready(Ok(())));
        let report = Report::new(
            &Tenants::new([].into(), None),
            &probe,
            &StoreStatus::default(),
            None,
            true,
        )
        .await;
        assert_eq!(
            (report.status, report.reasons[0].code),
            (Readiness::NotReady, "SHUTTING_DOWN")
        );
    }
}
