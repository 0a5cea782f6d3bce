//! Steering: requests under `/admin` by which an operator changes the running process. Each one needs `admin.token`. Every response
//! is JSON; that of an error has a `code` and a `message`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use axum::routing::any;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backup::Backups;
use super::server::Connection;
use super::steering_response::{SteeringError, json_response};
use crate::audit::{AuditLog, SteeringAudit};
use crate::clock;
use crate::domain::pause::Pause;
use crate::identity::AdminToken;
use crate::store::{Store, StoreError};
use crate::telemetry::log::{self, FilterError, LineLimit, NewFilter};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::Tracing;
use crate::tenant::Tenants;

/// Maximum length of the body of a request, in bytes.
const MAX_BODY: usize = 4096;
/// Maximum time for a write to the store. The connection is closed soon after it.
const STORE_TIMEOUT: Duration = Duration::from_secs(8);
/// The code of a request that succeeded, in logs and metrics.
const OK: &str = "OK";
/// The action and the method of a request without the token, or of no known request, in logs and metrics and in the audit.
const UNKNOWN: &str = "unknown";

/// What the requests change.
pub(super) struct Steering {
    /// `None`: no request is accepted.
    pub(super) token: Option<Arc<AdminToken>>,
    pub(super) tenants: Tenants,
    pub(super) store: Store,
    pub(super) audit: Option<AuditLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traces: Tracing,
    /// Cancelled by a request to shut down.
    pub(super) shut_down: CancellationToken,
    pub(super) backups: Backups,
    /// Held while a pause changes, so that the store and this process have the same one.
    pub(super) pausing: tokio::sync::Mutex<()>,
    /// Requests that were accepted end also if their clients do not wait.
    pub(super) tasks: TaskTracker,
    /// Limits the log lines of requests without the token.
    pub(super) refused: LineLimit,
}

/// A request with a known path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    GetLogFilter,
    SetLogFilter,
    GetSampling,
    SetSampling,
    GetPause(String),
    Pause(String),
    Resume(String),
    ShutDown,
    Backup,
}

/// The body of a request for another log filter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogBody {
    filter: Option<String>,
}

/// The body of a request for another ratio of sampled traces.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SamplingBody {
    /// `None`: that of the settings. It must be given.
    #[serde(deserialize_with = "Option::deserialize")]
    ratio: Option<f64>,
}

/// The body of a request to pause an account.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PauseBody {
    reason: Option<String>,
    /// Fails if the account is paused already.
    only_new: bool,
}

/// The body of a request to resume an account.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ResumeBody {
    reason: Option<String>,
    /// Fails if the account is paused for another reason.
    only_reason: Option<String>,
}

type SteeringResult = Result<Response, SteeringError>;

/// The routes of the requests.
pub(super) fn routes(steering: Steering) -> Router {
    Router::new()
        .route("/admin", any(respond))
        .route("/admin/", any(respond))
        .route("/admin/{*action}", any(respond))
        .with_state(Arc::new(steering))
}

async fn respond(State(steering): State<Arc<Steering>>, request: Request) -> Response {
    let tasks = steering.tasks.clone();
    let task = tasks.spawn(async move { steering.handle(request).await });
    task.await.unwrap_or_else(|_| {
        let message = "the request was interrupted".to_owned();
        SteeringError::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message).response()
    })
}

impl Steering {
    async fn handle(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let connection = parts.extensions.get::<Connection>();
        if let Err(error) = self.authorize(&parts.headers) {
            return self.refused(error, connection);
        }
        let action = Action::of(&parts.method, parts.uri.path());
        let (name, method, tenant) = match &action {
            Ok(action) => (action.name(), action.method(), action.tenant().map(str::to_owned)),
            Err(_) => (UNKNOWN, UNKNOWN, None),
        };
        let tenant = tenant.filter(|name| self.tenants.named(name).is_some());
        let request_id = uuid::Uuid::new_v4().to_string();
        let audited = SteeringAudit {
            method,
            tenant: tenant.as_deref(),
            request_id: &request_id,
        };
        let may_begin = match &self.audit {
            Some(audit) => audit.begin_steering(&audited).await,
            None => true,
        };
        let result = match (action, may_begin) {
            (Ok(action), true) => self.execute(&action, body, connection, &request_id).await,
            (Err(error), _) => Err(error),
            (Ok(_), false) => Err(SteeringError::unavailable(
                "AUDIT_UNAVAILABLE",
                "the audit file cannot be written (audit.required); nothing was changed".to_owned(),
            )),
        };
        let outcome = result.as_ref().map_or_else(|error| error.code, |_| OK);
        if let Some(audit) = &self.audit {
            audit.end_steering(&audited, outcome).await;
        }
        self.metrics.steered(name, outcome);
        let (action, tenant) = (name, audited.tenant);
        match &result {
            Ok(_) => tracing::info!(action, tenant, request_id, "steering request finished"),
            Err(SteeringError { code, message, .. }) => {
                tracing::warn!(
                    action,
                    tenant,
                    request_id,
                    code,
                    reason = message,
                    "steering request failed"
                );
            }
        }
        result.unwrap_or_else(SteeringError::response)
    }

    /// Fails if a request does not have the token.
    fn authorize(&self, headers: &HeaderMap) -> Result<(), SteeringError> {
        let Some(token) = &self.token else {
            let message = "steering requests are not accepted: admin.token is not set".to_owned();
            return Err(SteeringError::new(StatusCode::FORBIDDEN, "STEERING_DISABLED", message));
        };
        let mut values = headers.get_all(AUTHORIZATION).iter();
        // Another program may have checked the other value.
        let given = values.next().filter(|_| values.next().is_none());
        let given = given.and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match given {
            Some(given) if token.is(given) => Ok(()),
            _ => {
                let message = "there must be one header \"authorization: Bearer TOKEN\", with the token of admin.token"
                    .to_owned();
                Err(SteeringError::new(StatusCode::UNAUTHORIZED, "TOKEN_INVALID", message))
            }
        }
    }

    /// Counts and logs a request without the token.
    fn refused(&self, error: SteeringError, connection: Option<&Connection>) -> Response {
        self.metrics.steered(UNKNOWN, error.code);
        if let Some(suppressed) = self.refused.admit(Instant::now()) {
            let peer = connection.map(|connection| tracing::field::display(connection.peer()));
            tracing::warn!(peer, code = error.code, suppressed, "steering request refused");
        }
        error.response()
    }

    async fn execute(
        &self,
        action: &Action,
        body: Body,
        connection: Option<&Connection>,
        request_id: &str,
    ) -> SteeringResult {
        let body = to_bytes(body, MAX_BODY).await.map_err(|_| {
            let message = format!("the body has more than {MAX_BODY} bytes, or cannot be read");
            SteeringError::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message)
        })?;
        match action {
            Action::GetLogFilter => get_log_filter(),
            Action::SetLogFilter => set_log_filter(&body, request_id),
            Action::GetSampling => self.get_sampling(),
            Action::SetSampling => self.set_sampling(&body, request_id),
            Action::GetPause(tenant) => self.get_pause(tenant).await,
            Action::Pause(tenant) => self.pause(tenant, &body).await,
            Action::Resume(tenant) => self.resume(tenant, &body).await,
            Action::ShutDown => {
                self.shut_down.cancel();
                Ok(json_response(StatusCode::ACCEPTED, &json!({"status": "shutting_down"})))
            }
            Action::Backup => self.backups.respond(&self.store, connection).await,
        }
    }

    fn get_sampling(&self) -> SteeringResult {
        let sampling = self.traces.sampling().ok_or_else(traces_off)?;
        let response = json!({"ratio": sampling.in_use, "configured": sampling.configured});
        Ok(json_response(StatusCode::OK, &response))
    }

    /// Changes the ratio of sampled traces until the next start of the process.
    fn set_sampling(&self, body: &Bytes, request_id: &str) -> SteeringResult {
        let SamplingBody { ratio } = body_of(body)?;
        if ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
            return Err(SteeringError::invalid(
                "ratio must be 0 to 1, or null for that of the settings".to_owned(),
            ));
        }
        let before = self.traces.sampling().ok_or_else(traces_off)?;
        let ratio = ratio.unwrap_or(before.configured);
        log_change("sampling", request_id, &before.in_use.to_string(), &ratio.to_string());
        self.traces.set_sampling(ratio);
        Ok(json_response(StatusCode::OK, &json!({"ratio": ratio})))
    }

    /// The pause of an account in the store.
    async fn get_pause(&self, tenant: &str) -> SteeringResult {
        self.check_tenant(tenant)?;
        let response = match self.stored_pause(tenant).await? {
            Some(Pause { since, reason }) => {
                json!({"tenant": tenant, "paused": true, "since": since.to_string(), "reason": reason})
            }
            None => json!({"tenant": tenant, "paused": false}),
        };
        Ok(json_response(StatusCode::OK, &response))
    }

    async fn stored_pause(&self, tenant: &str) -> Result<Option<Pause>, SteeringError> {
        Ok(within_timeout(self.store.pauses()).await?.remove(tenant))
    }

    /// Pauses an account. With several replicas, its owner reads the pause with its next beat.
    async fn pause(&self, tenant: &str, body: &Bytes) -> SteeringResult {
        self.check_tenant(tenant)?;
        let PauseBody { reason, only_new } = optional(body)?;
        let pause = Pause::new(clock::now(), &reason.unwrap_or_default()).map_err(SteeringError::invalid)?;
        let _pausing = self.pausing.lock().await;
        if only_new && let Some(before) = self.stored_pause(tenant).await? {
            let message = format!("the tenant is paused already, since {}", before.since);
            return Err(SteeringError::new(StatusCode::CONFLICT, "TENANT_PAUSED", message));
        }
        let pause = within_timeout(self.store.pause(tenant, &pause)).await?;
        // Immediately: the store and this process must not differ, whatever follows.
        if self.tenants.membership().is_none() {
            self.tenants.pauses().set(tenant, Some(pause.clone()));
        }
        let Pause { since, reason } = pause;
        tracing::warn!(tenant, reason, "tenant pause requested");
        let response = json!({
            "tenant": tenant,
            "paused": true,
            "since": since.to_string(),
            "reason": reason,
        });
        Ok(json_response(StatusCode::OK, &response))
    }

    async fn resume(&self, tenant: &str, body: &Bytes) -> SteeringResult {
        self.check_tenant(tenant)?;
        let ResumeBody { reason, only_reason } = optional(body)?;
        let reason = reason.unwrap_or_default();
        // The same rules as for a pause. The reason is only logged.
        Pause::new(clock::now(), &reason).map_err(SteeringError::invalid)?;
        let _pausing = self.pausing.lock().await;
        if let Some(only) = only_reason
            && let Some(pause) = self.stored_pause(tenant).await?
            && pause.reason != only
        {
            let message = "the tenant is paused for another reason".to_owned();
            return Err(SteeringError::new(StatusCode::CONFLICT, "TENANT_PAUSED", message));
        }
        within_timeout(self.store.resume(tenant)).await?;
        // As for a pause.
        if self.tenants.membership().is_none() {
            self.tenants.pauses().set(tenant, None);
        }
        tracing::info!(tenant, reason, "tenant resumption requested");
        Ok(json_response(
            StatusCode::OK,
            &json!({"tenant": tenant, "paused": false}),
        ))
    }

    fn check_tenant(&self, name: &str) -> Result<(), SteeringError> {
        match self.tenants.named(name) {
            Some(_) => Ok(()),
            None => {
                let message = "the settings have no tenant of this name".to_owned();
                Err(SteeringError::new(StatusCode::NOT_FOUND, "TENANT_NOT_FOUND", message))
            }
        }
    }
}

impl Action {
    /// The action of a method and a path.
    fn of(method: &Method, path: &str) -> Result<Self, SteeringError> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').skip(1).collect();
        let (expected, action) = match parts.as_slice() {
            ["log"] if *method == Method::GET => (Method::GET, Self::GetLogFilter),
            ["log"] => (Method::PUT, Self::SetLogFilter),
            ["sampling"] if *method == Method::GET => (Method::GET, Self::GetSampling),
            ["sampling"] => (Method::PUT, Self::SetSampling),
            ["tenants", name, "pause"] if *method == Method::GET => (Method::GET, Self::GetPause((*name).to_owned())),
            ["tenants", name, "pause"] => (Method::POST, Self::Pause((*name).to_owned())),
            ["tenants", name, "resume"] => (Method::POST, Self::Resume((*name).to_owned())),
            ["drain"] => (Method::POST, Self::ShutDown),
            ["store", "backup"] => (Method::POST, Self::Backup),
            _ => {
                let message = "there is no such steering request".to_owned();
                return Err(SteeringError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message));
            }
        };
        if *method != expected {
            let has_get = expected == Method::PUT || parts.last() == Some(&"pause");
            let or_get = if has_get { "GET or " } else { "" };
            let message = format!("the method must be {or_get}{expected}");
            return Err(SteeringError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                message,
            ));
        }
        Ok(action)
    }

    /// The name in logs and metrics. The description of the metric lists all of them.
    fn name(&self) -> &'static str {
        match self {
            Self::GetLogFilter => "get_log",
            Self::SetLogFilter => "log",
            Self::GetSampling => "get_sampling",
            Self::SetSampling => "sampling",
            Self::GetPause(_) => "get_pause",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::ShutDown => "drain",
            Self::Backup => "backup",
        }
    }

    /// The method and the path in the audit.
    fn method(&self) -> &'static str {
        match self {
            Self::GetLogFilter => "GET /admin/log",
            Self::GetSampling => "GET /admin/sampling",
            Self::SetLogFilter => "PUT /admin/log",
            Self::SetSampling => "PUT /admin/sampling",
            Self::GetPause(_) => "GET /admin/tenants/NAME/pause",
            Self::Pause(_) => "POST /admin/tenants/NAME/pause",
            Self::Resume(_) => "POST /admin/tenants/NAME/resume",
            Self::ShutDown => "POST /admin/drain",
            Self::Backup => "POST /admin/store/backup",
        }
    }

    fn tenant(&self) -> Option<&str> {
        match self {
            Self::GetPause(tenant) | Self::Pause(tenant) | Self::Resume(tenant) => Some(tenant),
            Self::GetLogFilter
            | Self::SetLogFilter
            | Self::GetSampling
            | Self::SetSampling
            | Self::ShutDown
            | Self::Backup => None,
        }
    }
}

fn get_log_filter() -> SteeringResult {
    let filters = log::filters()?;
    let response = json!({"filter": filters.in_use, "configured": filters.configured});
    Ok(json_response(StatusCode::OK, &response))
}

/// Changes the log filter until the next start of the process.
fn set_log_filter(body: &Bytes, request_id: &str) -> SteeringResult {
    let filter = body_of::<LogBody>(body)?.filter.filter(|filter| !filter.is_empty());
    let new = NewFilter::new(filter.as_deref())?;
    let before = log::filters()?;
    let filter = filter.unwrap_or(before.configured);
    log_change("log", request_id, &before.in_use, &filter);
    new.apply()?;
    Ok(json_response(StatusCode::OK, &json!({"filter": filter})))
}

/// Logs a change before it is made: the new log filter may leave out later lines.
fn log_change(action: &'static str, request_id: &str, former_value: &str, value: &str) {
    tracing::info!(
        action,
        request_id,
        former_value,
        value,
        "value changes until the process ends"
    );
}

fn traces_off() -> SteeringError {
    let message = "traces are off: telemetry.otlp_endpoint is not set".to_owned();
    SteeringError::new(StatusCode::CONFLICT, "TRACES_OFF", message)
}

impl From<FilterError> for SteeringError {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::Invalid(reason) => {
                let message = format!("filter is invalid: {reason}");
                Self::new(StatusCode::BAD_REQUEST, "INVALID_FILTER", message)
            }
            FilterError::NoLog => {
                let message = "this process writes no log".to_owned();
                Self::unavailable("LOG_UNAVAILABLE", message)
            }
        }
    }
}

/// Waits for the store, but no longer than the connection may last.
async fn within_timeout<T>(written: impl Future<Output = Result<T, StoreError>>) -> Result<T, SteeringError> {
    let written = tokio::time::timeout(STORE_TIMEOUT, written).await;
    let unavailable = |message| SteeringError::unavailable("STORE_UNAVAILABLE", message);
    match written {
        Ok(written) => written.map_err(|error| unavailable(error.to_string())),
        Err(_) => Err(unavailable(format!(
            "the store does not respond within {STORE_TIMEOUT:?}"
        ))),
    }
}

/// Reads a body that may be empty.
fn optional<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, SteeringError> {
    match body.is_empty() {
        true => Ok(T::default()),
        false => body_of(body),
    }
}

fn body_of<T: DeserializeOwned>(body: &Bytes) -> Result<T, SteeringError> {
    // A list could be read as the fields of a struct, too.
    let fields = serde_json::from_slice::<serde_json::Map<String, Value>>(body);
    let body = fields.and_then(|fields| serde_json::from_value(Value::Object(fields)));
    body.map_err(|error| SteeringError::invalid(format!("the body is invalid: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_has_one_method_and_one_path() {
        let action = |method: Method, path: &str| Action::of(&method, path).map_err(|error| error.code);
        assert_eq!(action(Method::PUT, "/admin/log"), Ok(Action::SetLogFilter));
        assert_eq!(action(Method::GET, "/admin/log"), Ok(Action::GetLogFilter));
        assert_eq!(action(Method::PUT, "/admin/sampling"), Ok(Action::SetSampling));
        assert_eq!(action(Method::GET, "/admin/sampling"), Ok(Action::GetSampling));
        assert_eq!(
            action(Method::POST, "/admin/tenants/acme/pause"),
            Ok(Action::Pause("acme".to_owned()))
        );
        assert_eq!(action(Method::POST, "/admin/drain"), Ok(Action::ShutDown));
        assert_eq!(action(Method::GET, "/admin/drain"), Err("METHOD_NOT_ALLOWED"));
        for path in [
            "/admin/",
            "/admin/tenants/acme",
            "/admin/tenants/a/b/pause",
            "/admin/log/x",
        ] {
            assert_eq!(action(Method::POST, path), Err("NOT_FOUND"), "{path}");
        }
    }

    #[test]
    fn the_metric_lists_each_action() {
        let actions = [
            Action::GetLogFilter,
            Action::SetLogFilter,
            Action::GetSampling,
            Action::SetSampling,
            Action::GetPause(String::new()),
            Action::Pause(String::new()),
            Action::Resume(String::new()),
            Action::ShutDown,
            Action::Backup,
        ];
        let metrics = Metrics::descriptions();
        let metric = metrics
            .iter()
            .find(|metric| metric.name == "leadgate_steering_requests_total");
        let label = metric
            .unwrap()
            .labels
            .iter()
            .find(|label| label.name == "action")
            .unwrap();
        let listed: Vec<_> = label.values.split('`').skip(1).step_by(2).collect();
        let names = actions.iter().map(Action::name).chain([UNKNOWN]);
        assert_eq!(listed, names.collect::<Vec<_>>());
    }

    #[test]
    fn a_body_has_only_known_fields() {
        let pause = |text: &str| optional::<PauseBody>(&Bytes::from(text.to_owned()));
        assert_eq!(pause("").unwrap().reason, None);
        assert_eq!(pause("{}").unwrap().reason, None);
        assert_eq!(pause(r#"{"reason":"x"}"#).unwrap().reason.as_deref(), Some("x"));
        for text in ["x", "[]", r#"{"why":"x"}"#, r#"{"reason":1}"#] {
            assert_eq!(pause(text).map(|_| ()).unwrap_err().code, "INVALID_BODY", "{text}");
        }
        let ratio = |text: &'static str| body_of::<SamplingBody>(&Bytes::from_static(text.as_bytes()));
        assert_eq!(ratio(r#"{"ratio":null}"#).unwrap().ratio, None);
        assert_eq!(ratio("{}").map(|_| ()).unwrap_err().code, "INVALID_BODY");
    }
}
