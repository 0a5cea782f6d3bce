//! Admission of a call: finds the endpoint, checks the keys, selects a fault, checks the limits, and executes the call.
//! Sends no response.

use http::{Method, header};
use tokio::time::Instant;

use crate::control::journal::CallId;
use crate::handlers::Handler;
use crate::http::call::Call;
use crate::http::endpoint::Endpoint;
use crate::http::reply::Reply;
use crate::http::response::{Failure, Response};
use crate::limits::Verdict;
use crate::recording::Traffic;
use crate::state::State;
use crate::{BodyForm, FaultKind};

const WRONG_KEYS: &str = "Invalid Access Details provided.";

/// The decision about a call.
pub(crate) enum Decision {
    /// Send this response. The call was executed, or it is invalid.
    Respond(Response),
    /// Send this rate limit error, caused by a limit or by a fault.
    Refuse(Response),
    /// Apply this fault. The call has not been executed.
    Fault(Endpoint, FaultKind),
    /// Send this recorded response, or close the connection if there is none.
    Replay(Option<Reply>),
}

impl State {
    /// Records the call, decides about it, and executes it if the keys are valid, no limit is exceeded and no fault
    /// applies.
    pub(crate) fn decide(&mut self, call: &Call) -> (CallId, Decision) {
        let stamp = Instant::now();
        let endpoint = Endpoint::from_path(&call.path);
        let recorded = call.record(endpoint, stamp);
        let call_id = self.journal.record(recorded, self.tenant.options.keep_calls);
        let decision = match self.replayed(call, endpoint, stamp) {
            Some(decision) => decision,
            None => self.decision(call, endpoint, stamp),
        };
        (call_id, decision)
    }

    /// Returns the response from the recording, if calls are answered from one.
    fn replayed(&mut self, call: &Call, endpoint: Option<Endpoint>, stamp: Instant) -> Option<Decision> {
        let Traffic::Replayed(replay) = &mut self.traffic else {
            return None;
        };
        let bulk = endpoint.is_some_and(Endpoint::is_bulk);
        let ordinary = !bulk || self.tenant.options.limits.bulk_pays_calls;
        let name = endpoint.map_or("unknown", Endpoint::name);
        self.journal.accept(name, stamp, bulk, ordinary);
        Some(match replay.respond(call) {
            Ok(reply) => Decision::Replay(reply),
            Err(response) => Decision::Respond(response),
        })
    }

    fn decision(&mut self, call: &Call, endpoint: Option<Endpoint>, stamp: Instant) -> Decision {
        let Some(endpoint) = endpoint else {
            let counted = self.tenant.options.limits.count_unknown_paths;
            let refused = counted.then(|| self.admit(None, stamp)).flatten();
            let response = || Response::page(404, "Endpoint not found.");
            return refused.map_or_else(|| Decision::Respond(response()), Decision::Refuse);
        };
        if !endpoint.accepts(&call.method) {
            return Decision::Respond(Response::page(405, "Method not allowed."));
        }
        if let Some(status) = self.refused_body(call) {
            return Decision::Respond(Response::page(status, "The form of the body is not accepted."));
        }
        if let Some(response) = self.check_keys(call, endpoint) {
            let counted = self.tenant.options.limits.count_bad_keys;
            let refused = counted.then(|| self.admit(Some(endpoint), stamp)).flatten();
            return refused.map_or(Decision::Respond(response), Decision::Refuse);
        }
        if let Some(kind) = self.faults.take_early(endpoint.name(), &|text| call.contains(text)) {
            self.journal.counts.faults += 1;
            return self.early_fault(&kind, endpoint, stamp);
        }
        let uncounted = !self.tenant.options.limits.count_bad_bodies && Self::body_failure(endpoint, call).is_some();
        if !uncounted && let Some(refused) = self.admit(Some(endpoint), stamp) {
            return Decision::Refuse(refused);
        }
        match self.faults.take(endpoint.name(), &|text| call.contains(text)) {
            Some(kind) => {
                self.journal.counts.faults += 1;
                Decision::Fault(endpoint, kind)
            }
            None => Decision::Respond(self.execute(endpoint, call)),
        }
    }

    /// Returns the status with which the form of the body is refused.
    fn refused_body(&self, call: &Call) -> Option<u16> {
        let refused = &self.tenant.options.refused_bodies;
        let has = |name: &str| call.header(name).is_some();
        let forms = [
            (BodyForm::Chunked, has(header::TRANSFER_ENCODING.as_str())),
            (BodyForm::EmptyPost, call.method == Method::POST && call.body.is_empty()),
            (
                BodyForm::GetWithLength,
                call.method == Method::GET && has(header::CONTENT_LENGTH.as_str()),
            ),
        ];
        let mut forms = forms.iter().filter(|(_, is_used)| *is_used);
        forms.find_map(|(form, _)| refused.get(form).copied())
    }

    /// Returns the error response if the keys or the host are wrong.
    fn check_keys(&self, call: &Call, endpoint: Endpoint) -> Option<Response> {
        let options = &self.tenant.options;
        let access = call.key("x-lsq-accesskey", "accessKey");
        let secret = call.key("x-lsq-secretkey", "secretKey");
        let is_pair = |pair: (&str, &str)| access == Some(pair.0) && secret == Some(pair.1);
        let further = options.further_keys.iter();
        let right = is_pair((&options.access_key, &options.secret_key))
            || further.map(|pair| (&*pair.access_key, &*pair.secret_key)).any(is_pair);
        let active = options.users.first().is_none_or(|owner| owner.active);
        if !right || !active {
            return Some(match options.wrong_keys_in_envelope {
                true => Response::unauthorized(WRONG_KEYS),
                false => Response::empty(401),
            });
        }
        let host = options.right_host.as_deref();
        let host = host.filter(|_| endpoint != Endpoint::UserByAccessKey)?;
        let message = options.wrong_host_message.replace("{host}", host);
        Some(Response::unauthorized(&message))
    }

    /// Counts the call. Returns a rate limit error if a limit is exceeded.
    fn admit(&mut self, endpoint: Option<Endpoint>, stamp: Instant) -> Option<Response> {
        let limits = &self.tenant.options.limits;
        let day = self.clock.day(limits.daily_reset_hour);
        let bulk = endpoint.is_some_and(Endpoint::is_bulk);
        match self.limiter.admit(stamp, day, bulk, limits) {
            Verdict::Admitted => {
                let ordinary = !bulk || limits.bulk_pays_calls;
                let name = endpoint.map_or("unknown", Endpoint::name);
                self.journal.accept(name, stamp, bulk, ordinary);
                None
            }
            verdict => Some(self.refusal(verdict)),
        }
    }

    /// Returns the decision for a fault that applies before the call is counted.
    fn early_fault(&mut self, kind: &FaultKind, endpoint: Endpoint, stamp: Instant) -> Decision {
        match kind {
            FaultKind::Refuse => {
                let limits = &self.tenant.options.limits;
                let verdict = self.limiter.refuse(stamp, endpoint.is_bulk(), limits);
                Decision::Refuse(self.refusal(verdict))
            }
            FaultKind::RefuseDaily => Decision::Refuse(self.refusal(Verdict::RefusedDaily)),
            _ => Decision::Respond(Response::unauthorized(WRONG_KEYS)),
        }
    }

    fn refusal(&mut self, verdict: Verdict) -> Response {
        self.journal.counts.refused += 1;
        let options = &self.tenant.options;
        let message = match verdict {
            Verdict::Refused { limit } => {
                let seconds = options.limits.per.as_secs().max(1);
                format!("API calls exceeded the limit of {limit} in {seconds} second(s)")
            }
            _ => {
                self.journal.counts.refused_daily += 1;
                options.daily_message.clone()
            }
        };
        let mut response = Response::refused(options.limits.refusal.status(), &message);
        let seconds = || options.limits.per.as_secs().max(1).to_string();
        response.retry_after = options.limits.retry_after.then(seconds);
        response
    }

    /// Executes the call.
    pub(crate) fn execute(&mut self, endpoint: Endpoint, call: &Call) -> Response {
        if let Some(body_error) = Self::body_failure(endpoint, call) {
            return body_error.into_response(400, self.tenant.options.bad_body_in_envelope);
        }
        self.process_due();
        let handler = Handler {
            leads: &mut self.leads,
            activities: &mut self.activities,
            shares: &mut self.shares,
            tenant: &self.tenant,
            query: &call.query,
            body: &call.body,
            host: call.header(header::HOST.as_str()).unwrap_or_default(),
            now: self.clock.now(),
        };
        let response = handler.respond(endpoint);
        self.process_due();
        response
    }

    /// Returns an error if the endpoint has a body, and the body is not JSON.
    fn body_failure(endpoint: Endpoint, call: &Call) -> Option<Failure> {
        let is_empty_body = endpoint.allows_empty_body() && call.body.is_empty();
        let is_read = endpoint.has_body() && !is_empty_body;
        is_read.then(|| call.body_error()).flatten()
    }

    /// Records the status of the response.
    pub(crate) fn record_outcome(&mut self, call_id: CallId, status: u16, refused: bool) {
        self.journal.counts.unauthorized += u64::from(status == 401);
        self.journal.record_outcome(call_id, status, refused);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::{TestServer, attributes};
    use crate::{Fault, Refusal, Window};
    use axum::{body::Body, extract::Request};
    use serde_json::json;
    use std::time::Duration;

    const SEARCH: &str = "Leads.GetByEmailaddress?emailaddress=a@x.co";

    fn unsigned(query: &str) -> http::request::Builder {
        Request::builder().uri(format!("/v2/LeadManagement.svc/LeadsMetaData.Get{query}"))
    }

    #[tokio::test]
    async fn keys_are_accepted_in_headers_or_in_the_query() {
        let server = TestServer::new(|_| {});
        let right = unsigned("?accessKey=u%24rSimulatorAccessKey&secretKey=simulator-secret-key");
        assert_eq!(server.send(right.body(Body::empty()).unwrap()).await.0, 200);
        let (status, body) = server.send(unsigned("").body(Body::empty()).unwrap()).await;
        assert_eq!(status, 401);
        assert_eq!(
            body,
            r#"{"Status":"Error","ExceptionType":"MXInvalidAccessDetailsException","ExceptionMessage":"Invalid Access Details provided."}"#
        );
        let stats = server.simulator.stats();
        assert_eq!((stats.accepted, stats.unauthorized), (1, 1));
    }

    #[tokio::test]
    async fn the_accepted_pairs_of_keys_can_change_at_run_time() {
        let server = TestServer::new(|_| {});
        let send = async |access: &str, secret: &str| {
            let keys = format!("?accessKey={access}&secretKey={secret}");
            server.send(unsigned(&keys).body(Body::empty()).unwrap()).await.0
        };
        let (old, new) = (("u$rSimulatorAccessKey", "simulator-secret-key"), ("u$rNew", "new"));
        assert_eq!((send(old.0, old.1).await, send(new.0, new.1).await), (200, 401));
        server.simulator.set_options(|options| {
            options.further_keys = vec![crate::KeyPair {
                access_key: new.0.into(),
                secret_key: new.1.into(),
            }];
        });
        assert_eq!((send(old.0, old.1).await, send(new.0, new.1).await), (200, 200));
        assert_eq!(send(old.0, new.1).await, 401);
        server.simulator.set_options(|options| {
            options.further_keys.clear();
            (options.access_key, options.secret_key) = (new.0.into(), new.1.into());
        });
        assert_eq!((send(old.0, old.1).await, send(new.0, new.1).await), (401, 200));
    }

    #[tokio::test]
    async fn the_keys_of_an_inactive_user_are_rejected() {
        let server = TestServer::new(|options| options.users[0].active = false);
        assert_eq!(server.get(SEARCH).await.0, 401);
    }

    #[tokio::test]
    async fn a_wrong_host_returns_the_right_host() {
        let server = TestServer::new(|options| options.right_host = Some("api-in21.example".into()));
        let (status, body) = server.get(SEARCH).await;
        assert_eq!(status, 401);
        assert!(body["ExceptionMessage"].as_str().unwrap().contains("api-in21.example"));
        let (status, body) = server.get("/v2/Authentication.svc/UserByAccessKey.Get").await;
        assert_eq!(status, 200);
        assert_eq!(body["LSQCommonServiceURLs"]["api"], "https://api-in21.example");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_error_has_the_configured_status() {
        for (refusal, status) in [(Refusal::S429, 429), (Refusal::S403, 403), (Refusal::S200, 200)] {
            let server = TestServer::new(|options| {
                options.limits.calls = 2;
                options.limits.refusal = refusal;
            });
            for _ in 0..2 {
                assert_eq!(server.get(SEARCH).await, (200, json!([])));
            }
            let (given, body) = server.get(SEARCH).await;
            assert_eq!(given, status);
            assert_eq!(
                body["ExceptionMessage"],
                "API calls exceeded the limit of 2 in 5 second(s)"
            );
            tokio::time::advance(Duration::from_secs(5)).await;
            assert_eq!(server.get(SEARCH).await, (200, json!([])));

            let stats = server.simulator.stats();
            assert_eq!((stats.accepted, stats.refused, stats.worst_window), (3, 1, 2));
            let refused: Vec<_> = server.simulator.calls().iter().map(|call| call.refused).collect();
            assert_eq!(refused, [false, false, true, false]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn limits_can_change_at_run_time() {
        let server = TestServer::new(|options| options.limits.calls = 1);
        assert_eq!(server.get(SEARCH).await.0, 200);
        assert_eq!(server.get(SEARCH).await.0, 429);
        server.simulator.set_options(|options| options.limits.calls = 2);
        assert_eq!(server.get(SEARCH).await.0, 200);
        server.simulator.set_options(|options| options.limits.daily = 2);
        let (_, body) = server.get(SEARCH).await;
        assert_eq!(body["ExceptionMessage"], "API calls exceeded the daily limit");
        assert_eq!(server.simulator.stats().daily_used, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_names_one_second_for_a_shorter_window() {
        let server = TestServer::new(|options| {
            options.limits.calls = 1;
            options.limits.per = Duration::from_millis(100);
        });
        assert_eq!(server.get(SEARCH).await.0, 200);
        let (_, body) = server.get(SEARCH).await;
        assert_eq!(
            body["ExceptionMessage"],
            "API calls exceeded the limit of 1 in 1 second(s)"
        );
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(server.get(SEARCH).await.0, 200);
    }

    #[tokio::test]
    async fn a_change_of_unique_attributes_applies_to_existing_leads() {
        let server = TestServer::new(|_| {});
        server.create(&[("FirstName", "x"), ("mx_Zip", "1")]).await;
        server
            .simulator
            .set_options(|options| options.unique = vec!["mx_Zip".into()]);
        let body = attributes(&[("FirstName", "y"), ("mx_Zip", "1")]);
        assert_eq!(server.post("Lead.Create", body).await.0, 500);
    }

    #[tokio::test(start_paused = true)]
    async fn bulk_calls_have_a_separate_limit() {
        let server = TestServer::new(|options| options.limits.bulk = 1);
        assert_eq!(server.post("Lead/Bulk/Create", json!([])).await.0, 200);
        let (status, body) = server.post("Lead/Bulk/UpdateV2", json!({})).await;
        assert_eq!(status, 429);
        assert_eq!(
            body["ExceptionMessage"],
            "API calls exceeded the limit of 1 in 5 second(s)"
        );
        assert_eq!(server.simulator.stats().worst_bulk_window, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_with_wrong_keys_count_if_configured_and_unknown_paths_never_count() {
        for counted in [false, true] {
            let server = TestServer::new(|options| {
                options.limits.calls = 1;
                options.limits.count_bad_keys = counted;
            });
            server.get("Lead.Destroy").await;
            let wrong = || unsigned("").body(Body::empty()).unwrap();
            assert_eq!(server.send(wrong()).await.0, 401);
            assert_eq!(server.send(wrong()).await.0, if counted { 429 } else { 401 });
            assert_eq!(server.get(SEARCH).await.0, if counted { 429 } else { 200 });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_an_unknown_path_and_with_an_invalid_body_count_or_not() {
        for (counted, next) in [(true, 429), (false, 200)] {
            let limits = |options: &mut crate::Options| {
                options.limits.calls = 1;
                options.limits.count_unknown_paths = counted;
                options.limits.count_bad_bodies = counted;
            };
            let server = TestServer::new(limits);
            assert_eq!(server.get("Lead.Destroy").await.0, 404);
            assert_eq!(server.get("Lead.Destroy").await.0, if counted { 429 } else { 404 });
            assert_eq!(server.get(SEARCH).await.0, next);
            let server = TestServer::new(limits);
            assert_eq!(server.call(http::Method::POST, "Lead.Create", "{".into()).await.0, 400);
            assert_eq!(server.get(SEARCH).await.0, next);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn faults_before_admission_are_not_counted() {
        for (kind, status, exception) in [
            (FaultKind::Refuse, 429, "MXAPIRateLimitExceededException"),
            (FaultKind::RefuseDaily, 429, "MXAPIRateLimitExceededException"),
            (FaultKind::Unauthorized, 401, "MXInvalidAccessDetailsException"),
        ] {
            let server = TestServer::new(|options| options.limits.calls = 1);
            server.simulator.add_fault(Fault::new("*", kind)).unwrap();
            let (given, body) = server.get(SEARCH).await;
            assert_eq!((given, body["ExceptionType"].as_str()), (status, Some(exception)));
            assert_eq!(server.simulator.calls()[0].refused, status == 429);
            assert_eq!(server.get(SEARCH).await.0, 200);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_call_does_not_consume_a_fault() {
        let server = TestServer::new(|options| {
            options.limits.calls = 1;
            options.limits.window = Window::Fixed;
        });
        assert_eq!(server.get(SEARCH).await.0, 200);
        server
            .simulator
            .add_fault(Fault::new("*", FaultKind::Empty500))
            .unwrap();
        assert_eq!(server.get(SEARCH).await.0, 429);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(server.get(SEARCH).await.0, 500);
    }
}
