//! The calls of one run of the command: their pace, their number, what ends them, and their evidence.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{CallKind, CallObservation, CallOutcome, ProbeCaller};
use super::created::{CreatedLead, ProbeLead};
use super::observed::{IdleResult, Observed, Reply};
use super::{ProbeHooks, ProbeOptions};
use crate::config::TenantConfig;
use crate::crm::authentication::KeyOwner;
use crate::crm::raw::{RawBody, RawClient, RawRequest, RawResponse};
use crate::error::{Error, ErrorKind, Refusal};

/// How often a call is sent that the rate limit refuses.
const MAX_ATTEMPTS: u32 = 4;
/// Maximum wait after a refused call. A window may have any length.
const MAX_WINDOW: Duration = Duration::from_secs(60);

/// Why the command ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeStop {
    /// HTTP 401.
    Unauthorized,
    /// Less than one half of `limits.daily` would be left.
    DailyBudget,
    /// LeadSquared refused a call by its daily limit.
    DailyRefused,
    /// The user interrupted the command.
    Interrupted,
}

impl ProbeStop {
    /// The reason for users.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unauthorized => "LeadSquared rejected the keys (HTTP 401)",
            Self::DailyBudget => "less than one half of limits.daily would be left",
            Self::DailyRefused => "LeadSquared refused a call by its daily limit",
            Self::Interrupted => "interrupted",
        }
    }

    /// The name in the JSON report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::DailyBudget | Self::DailyRefused => "daily-budget",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why a probe ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// The command ends.
    Stop(ProbeStop),
    /// The probe failed, for this reason.
    Probe(String),
    /// The command has no calls or no time left.
    Budget(String),
}

pub(super) type ProbeResult<T> = Result<T, Halt>;

/// Maximum number of calls and maximum time of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProbeBudget {
    pub(super) calls: u32,
    pub(super) time: Duration,
}

/// The state of one run.
pub(super) struct Session<'a> {
    pub(super) client: &'a RawClient,
    pub(super) settings: &'a TenantConfig,
    pub(super) options: &'a ProbeOptions,
    pub(super) hooks: &'a dyn ProbeHooks,
    cancelled: &'a CancellationToken,
    /// Cancelled when the command ends, for any reason.
    ended: CancellationToken,
    started: Instant,
    budget: ProbeBudget,
    state: Mutex<SessionState>,
}

struct SessionState {
    calls: u32,
    /// The calls that the day's budget still allows. `None`: no limit is known.
    daily_left: Option<u64>,
    pace: Duration,
    next_call: Instant,
    next_bulk: Instant,
    stop: Option<ProbeStop>,
    evidence: Vec<String>,
    shown: (String, f32),
    owner: Option<KeyOwner>,
    lead: Option<Result<ProbeLead, String>>,
    unreadable: Option<String>,
    created: Vec<CreatedLead>,
    idle: Vec<IdleResult>,
}

/// The time between two calls outside of bursts.
pub(super) fn pace(options: &ProbeOptions, settings: &TenantConfig) -> Duration {
    options.pace.max(settings.limits.window / settings.limits.calls.max(1))
}

/// The budget for these options.
pub(super) fn budget(options: &ProbeOptions) -> ProbeBudget {
    let parts = [
        (true, 60, 90),
        (options.write, 60, 120),
        (options.burst, 540, 270),
        (options.burst && options.operator, 600, 300),
    ];
    let parts = parts.into_iter().filter(|(is_given, ..)| *is_given);
    let (calls, seconds) = parts.fold((0, 0), |sum, (_, calls, seconds)| (sum.0 + calls, sum.1 + seconds));
    ProbeBudget {
        calls: options.max_calls.unwrap_or(calls),
        time: Duration::from_secs(seconds),
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(
        client: &'a RawClient,
        settings: &'a TenantConfig,
        options: &'a ProbeOptions,
        hooks: &'a dyn ProbeHooks,
        cancelled: &'a CancellationToken,
    ) -> Self {
        let now = Instant::now();
        let limits = &settings.limits;
        // One half of the day's calls stays for others.
        let daily_left = (limits.daily > 0).then(|| (limits.daily / 2).saturating_sub(options.used_today));
        Self {
            client,
            settings,
            options,
            hooks,
            cancelled,
            ended: cancelled.child_token(),
            started: now,
            budget: budget(options),
            state: Mutex::new(SessionState {
                calls: 0,
                daily_left,
                pace: pace(options, settings),
                next_call: now,
                next_bulk: now,
                stop: None,
                evidence: vec![],
                shown: (String::new(), 0.0),
                owner: None,
                lead: None,
                unreadable: None,
                created: vec![],
                idle: vec![],
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of calls so far.
    pub(super) fn calls(&self) -> u32 {
        self.state().calls
    }

    /// Why the command ends. `None`: it does not end.
    pub(super) fn stop(&self) -> Option<ProbeStop> {
        if self.cancelled.is_cancelled() {
            return Some(ProbeStop::Interrupted);
        }
        self.state().stop.clone()
    }

    /// Ends the command. The first reason counts.
    pub(super) fn end(&self, stop: ProbeStop) {
        self.state().stop.get_or_insert(stop);
        self.ended.cancel();
    }

    /// Whether the day's calls end before those of the command.
    pub(super) fn is_bound_by_day(&self) -> bool {
        let state = self.state();
        let left = u64::from(self.budget.calls.saturating_sub(state.calls));
        state.daily_left.is_some_and(|daily| daily < left)
    }

    /// Why the account cannot be read. Then nothing is written.
    pub(super) fn unreadable(&self) -> Option<String> {
        self.state().unreadable.clone()
    }

    pub(super) fn set_unreadable(&self, reason: String) {
        self.state().unreadable = Some(reason);
    }

    /// The owner of the keys, if the probe `account` has run.
    pub(super) fn owner(&self) -> Option<KeyOwner> {
        self.state().owner.clone()
    }

    pub(super) fn set_owner(&self, owner: KeyOwner) {
        self.state().owner = Some(owner);
    }

    /// The lead of the command, if it was created, or why it cannot be created.
    pub(super) fn known_lead(&self) -> Option<Result<ProbeLead, String>> {
        self.state().lead.clone()
    }

    pub(super) fn set_lead(&self, lead: Result<ProbeLead, String>) {
        self.state().lead = Some(lead);
    }

    /// Registers a lead that may exist from now on. Returns its position.
    pub(super) fn register(&self, created: CreatedLead) -> usize {
        let mut state = self.state();
        state.created.push(created);
        state.created.len() - 1
    }

    /// Records the id of a registered lead. `None`: it was certainly not created.
    pub(super) fn settle(&self, position: usize, id: Option<String>) {
        if let Some(created) = self.state().created.get_mut(position) {
            match id {
                Some(id) => created.id = Some(id),
                None => created.is_absent = true,
            }
        }
    }

    /// Takes the leads that may exist, the last one first.
    pub(super) fn take_created(&self) -> Vec<CreatedLead> {
        let mut created = std::mem::take(&mut self.state().created);
        created.retain(|created| !created.is_absent);
        created.reverse();
        created
    }

    /// Records what became of the idle connections, for the probe `connection`.
    pub(super) fn set_idle(&self, idle: Vec<IdleResult>) {
        self.state().idle = idle;
    }

    pub(super) fn idle(&self) -> Vec<IdleResult> {
        self.state().idle.clone()
    }

    /// Takes the evidence since the last time.
    pub(super) fn take_evidence(&self) -> Vec<String> {
        std::mem::take(&mut self.state().evidence)
    }

    /// Adds a line to the evidence, with the time since the start.
    pub(super) fn note_evidence(&self, text: &str) {
        let line = self.line(text);
        self.state().evidence.push(line);
    }

    /// A line of evidence, with the time since the start.
    pub(super) fn line(&self, text: &str) -> String {
        let text = self.client.without_keys(text);
        format!("+{:.2} s {text}", self.started.elapsed().as_secs_f64())
    }

    /// Shows what the command does.
    pub(super) fn show(&self, text: &str, fraction: f32) {
        let calls = {
            let mut state = self.state();
            state.shown = (text.to_owned(), fraction);
            state.calls
        };
        self.hooks.progress(text, calls, fraction);
    }

    /// Sends a read at the pace of the command. A refused call is sent again after the window.
    pub(super) async fn read(&self, request: RawRequest) -> ProbeResult<Observed> {
        let (observed, _) = self.paced(self.client, &request, false).await?;
        self.judged(observed)
    }

    /// The same for a write. An interruption waits for its response.
    pub(super) async fn write(&self, request: RawRequest) -> ProbeResult<Observed> {
        let (observed, _) = self.paced(self.client, &request, true).await?;
        self.judged(observed)
    }

    /// Sends a read with another client of the account, and returns the response, too.
    pub(super) async fn read_with(
        &self,
        client: &RawClient,
        request: &RawRequest,
    ) -> ProbeResult<(Observed, Option<RawResponse>)> {
        let (observed, response) = self.paced(client, request, false).await?;
        Ok((self.judged(observed)?, response))
    }

    /// Sends a read at once, without the pace, and adds its evidence to `evidence`. A refused call is not sent again.
    pub(super) async fn read_at_once(
        &self,
        client: &RawClient,
        request: &RawRequest,
        evidence: &mut Vec<String>,
    ) -> ProbeResult<Option<RawResponse>> {
        if let Some(stop) = self.stop() {
            return Err(Halt::Stop(stop));
        }
        {
            let mut state = self.state();
            if state.calls >= self.budget.calls || state.daily_left == Some(0) {
                return Err(Halt::Budget("no calls are left".to_owned()));
            }
            state.count(Instant::now(), false, self.settings);
        }
        let (observed, response, line) = tokio::select! {
            sent = self.sent(client, request) => sent,
            () = self.ended.cancelled() => return Err(Halt::Probe("the command ends".to_owned())),
        };
        evidence.push(line);
        if observed.refusal() == Some(Refusal::Daily) {
            self.end(ProbeStop::DailyRefused);
        }
        self.judged(observed)?;
        Ok(response)
    }

    /// Sends a read to another host. HTTP 401 does not end the command.
    pub(super) async fn read_elsewhere(&self, client: &RawClient, request: &RawRequest) -> ProbeResult<Observed> {
        Ok(self.paced(client, request, false).await?.0)
    }

    /// Waits until the pace allows a call. Fails if the command ends or has no calls or time left.
    async fn turn(&self, is_bulk: bool) -> ProbeResult<()> {
        loop {
            if let Some(stop) = self.stop() {
                return Err(Halt::Stop(stop));
            }
            let now = Instant::now();
            let wait_until = {
                let mut state = self.state();
                if state.calls >= self.budget.calls {
                    let reason = format!("the command has sent its maximum of {} calls", self.budget.calls);
                    return Err(Halt::Budget(reason));
                }
                if now.saturating_duration_since(self.started) >= self.budget.time {
                    let reason = format!("the maximum time of {:.0?} is over", self.budget.time);
                    return Err(Halt::Budget(reason));
                }
                if state.daily_left == Some(0) {
                    drop(state);
                    self.end(ProbeStop::DailyBudget);
                    continue;
                }
                let at = match is_bulk {
                    true => state.next_call.max(state.next_bulk),
                    false => state.next_call,
                };
                if at <= now {
                    state.count(now, is_bulk, self.settings);
                    return Ok(());
                }
                at
            };
            tokio::select! {
                () = tokio::time::sleep_until(wait_until) => {}
                () = self.ended.cancelled() => {}
            }
        }
    }

    async fn paced(
        &self,
        client: &RawClient,
        request: &RawRequest,
        is_write: bool,
    ) -> ProbeResult<(Observed, Option<RawResponse>)> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            self.turn(is_bulk(request)).await?;
            let sending = self.exchange(client, request);
            let (observed, response) = match is_write {
                true => sending.await,
                false => tokio::select! {
                    sent = sending => sent,
                    () = self.cancelled.cancelled() => return Err(Halt::Stop(ProbeStop::Interrupted)),
                },
            };
            match observed.refusal() {
                Some(Refusal::Daily) => {
                    self.end(ProbeStop::DailyRefused);
                    return Err(Halt::Stop(ProbeStop::DailyRefused));
                }
                Some(Refusal::Window(limit)) if attempts < MAX_ATTEMPTS => {
                    let per = limit.map_or(self.settings.limits.window, |limit| limit.per);
                    let mut state = self.state();
                    let until = Instant::now() + per.min(MAX_WINDOW);
                    state.next_call = state.next_call.max(until);
                    if let Some(limit) = limit.filter(|_| !is_bulk(request)) {
                        state.pace = state.pace.max(limit.per.min(MAX_WINDOW) / limit.calls);
                    }
                }
                Some(Refusal::Window(_)) => {
                    return Err(Halt::Probe(format!(
                        "the rate limit refused the same call {MAX_ATTEMPTS} times: other clients use the account"
                    )));
                }
                None => return Ok((observed, response)),
            }
        }
    }

    /// Sends one request and records the evidence.
    async fn exchange(&self, client: &RawClient, request: &RawRequest) -> (Observed, Option<RawResponse>) {
        {
            let state = self.state();
            let (text, fraction) = state.shown.clone();
            let calls = state.calls;
            drop(state);
            self.hooks.progress(&text, calls, fraction);
        }
        let (observed, response, line) = self.sent(client, request).await;
        self.state().evidence.push(line);
        (observed, response)
    }

    /// Sends one request. Returns its line of evidence, too.
    async fn sent(&self, client: &RawClient, request: &RawRequest) -> (Observed, Option<RawResponse>, String) {
        let sent = Instant::now();
        let result = client.send(request).await;
        let took = sent.elapsed();
        let (observed, response) = match result {
            Ok(response) => {
                let observed = Observed::new(&response.response, took, |text| client.without_keys(text));
                (observed, Some(response))
            }
            Err(error) => (Observed::lost(&error, took), None),
        };
        let line = self.line(&format!("{}: {} ({:.0?})", label(request), observed.summary(), took));
        (observed, response, line)
    }

    /// The response, unless it ends the command.
    fn judged(&self, observed: Observed) -> ProbeResult<Observed> {
        match is_unauthorized(&observed) {
            true => {
                self.end(ProbeStop::Unauthorized);
                Err(Halt::Stop(ProbeStop::Unauthorized))
            }
            false => Ok(observed),
        }
    }

    /// Sends a request that cleans up. It has the pace of the command, but neither its budget nor its interruption.
    pub(super) async fn clean(&self, request: RawRequest) -> Observed {
        let until = self.state().next_call;
        tokio::time::sleep_until(until).await;
        self.state().count(Instant::now(), false, self.settings);
        let (observed, _) = self.exchange(self.client, &request).await;
        if let Some(Refusal::Window(limit)) = observed.refusal() {
            let per = limit.map_or(self.settings.limits.window, |limit| limit.per);
            tokio::time::sleep(per.min(MAX_WINDOW)).await;
            self.state().count(Instant::now(), false, self.settings);
            let (observed, _) = self.exchange(self.client, &request).await;
            return observed;
        }
        observed
    }

    /// Waits, unless the command ends.
    pub(super) async fn sleep(&self, time: Duration) -> ProbeResult<()> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.ended.cancelled() => Err(Halt::Stop(self.stop().unwrap_or(ProbeStop::Interrupted))),
        }
    }

    /// The time that the command still has.
    pub(super) fn time_left(&self) -> Duration {
        self.budget.time.saturating_sub(self.started.elapsed())
    }

    /// Completes when the command is interrupted.
    pub(super) async fn interrupted(&self) {
        self.cancelled.cancelled().await;
    }
}

impl SessionState {
    fn count(&mut self, now: Instant, is_bulk: bool, settings: &TenantConfig) {
        self.calls += 1;
        if let Some(left) = &mut self.daily_left {
            *left = left.saturating_sub(1);
        }
        self.next_call = now + self.pace;
        if is_bulk {
            self.next_bulk = now + settings.limits.window / settings.limits.bulk.max(1);
        }
    }
}

fn is_bulk(request: &RawRequest) -> bool {
    request.path.contains("/Bulk/")
}

/// Whether LeadSquared rejected the keys.
pub(super) fn is_unauthorized(observed: &Observed) -> bool {
    observed.status == 401 || matches!(observed.kind(), Some(ErrorKind::CredentialsRejected { .. }))
}

/// The method and the last parts of the path. The query may contain personal data.
fn label(request: &RawRequest) -> String {
    let method = match request.body {
        RawBody::None | RawBody::LengthZero => "GET",
        RawBody::Empty | RawBody::Sized(_) | RawBody::Chunked(_) => "POST",
    };
    format!("{method} {}", request.path)
}

/// The calls of a burst: sent at once, also at the same time.
pub(super) struct BurstCaller<'s, 'a> {
    pub(super) session: &'s Session<'a>,
}

impl ProbeCaller for BurstCaller<'_, '_> {
    async fn call(&self, kind: CallKind) -> CallObservation {
        let session = self.session;
        let sent = Instant::now();
        if session.stop().is_some() || self.calls_left() == 0 {
            return CallObservation {
                kind,
                sent,
                received: sent,
                outcome: CallOutcome::Failed("not sent: the command ends".to_owned()),
            };
        }
        session.state().count(sent, kind == CallKind::Bulk, session.settings);
        let result = session.client.send(&burst_request(kind)).await;
        let received = result
            .as_ref()
            .map_or_else(|_| Instant::now(), |response| response.received);
        let outcome = outcome(&result, |text| session.client.without_keys(text));
        let stop = match &outcome {
            CallOutcome::Unauthorized => Some(ProbeStop::Unauthorized),
            CallOutcome::DailyRefused { .. } => Some(ProbeStop::DailyRefused),
            _ => None,
        };
        if let Some(stop) = stop {
            session.end(stop);
        }
        CallObservation {
            kind,
            sent,
            received,
            outcome,
        }
    }

    fn calls_left(&self) -> u32 {
        let session = self.session;
        if session.stop().is_some() || session.started.elapsed() >= session.budget.time {
            return 0;
        }
        let state = session.state();
        let left = session.budget.calls.saturating_sub(state.calls);
        let daily = state.daily_left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
        left.min(daily.unwrap_or(u32::MAX))
    }

    fn progress(&self, text: &str, fraction: f32) {
        self.session.show(text, fraction);
    }
}

/// The request of a call of a burst.
fn burst_request(kind: CallKind) -> RawRequest {
    match kind {
        CallKind::Read => super::request::metadata(),
        CallKind::Bulk => super::request::update_unknown(1),
        CallKind::UnknownPath => RawRequest {
            path: "LeadManagement.svc/Leadgate.Probe",
            query: vec![],
            body: RawBody::None,
        },
        CallKind::BadJson => RawRequest {
            path: super::request::READ_BY_IDS,
            query: vec![],
            body: RawBody::Sized("{".to_owned()),
        },
    }
}

/// What the limit said about a call.
fn outcome(result: &Result<RawResponse, Error>, without_keys: impl Fn(&str) -> String) -> CallOutcome {
    let observed = match result {
        Ok(response) => Observed::new(&response.response, Duration::ZERO, without_keys),
        Err(error) => Observed::lost(error, Duration::ZERO),
    };
    let status = observed.status;
    if is_unauthorized(&observed) {
        return CallOutcome::Unauthorized;
    }
    match observed.reply {
        Reply::Success => CallOutcome::Accepted(status),
        Reply::Lost(cause) => CallOutcome::Failed(cause),
        Reply::Rejected { kind, text, .. } => match kind {
            ErrorKind::Refused(Refusal::Window(_)) => CallOutcome::Refused { status, text },
            ErrorKind::Refused(Refusal::Daily) => CallOutcome::DailyRefused { status, text },
            ErrorKind::Unavailable { .. } => CallOutcome::Failed(format!("HTTP {status}")),
            _ => CallOutcome::Accepted(status),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(status: u16, body: &str) -> Result<RawResponse, Error> {
        Ok(RawResponse {
            response: crate::crm::response::UpstreamResponse {
                status: http::StatusCode::from_u16(status).unwrap(),
                body: body.to_owned().into(),
                head: Default::default(),
            },
            version: http::Version::HTTP_11,
            headers: http::HeaderMap::new(),
            connection: None,
            received: Instant::now(),
        })
    }

    #[tokio::test]
    async fn a_call_of_a_burst_is_accepted_refused_failed_or_unauthorized() {
        let text = "API calls exceeded the limit of 25 in 5 second(s)";
        let refusal = |text: &str| {
            format!(
                "{{\"Status\":\"Error\",\"ExceptionType\":\"MXAPIRateLimitExceededException\",\"ExceptionMessage\":\"{text}\"}}"
            )
        };
        let of = |status, body: &str| outcome(&result(status, body), str::to_owned);
        for status in [200, 403, 429] {
            let refused = CallOutcome::Refused {
                status,
                text: text.to_owned(),
            };
            assert_eq!(of(status, &refusal(text)), refused);
        }
        assert_eq!(
            of(429, &refusal("no more today")),
            CallOutcome::DailyRefused {
                status: 429,
                text: "no more today".to_owned()
            }
        );
        assert_eq!(of(200, "[]"), CallOutcome::Accepted(200));
        assert_eq!(of(404, "<html>"), CallOutcome::Accepted(404));
        assert_eq!(of(400, "Unexpected character"), CallOutcome::Accepted(400));
        assert_eq!(of(401, ""), CallOutcome::Unauthorized);
        assert_eq!(of(503, ""), CallOutcome::Failed("HTTP 503".to_owned()));
        let lost = Error::from(ErrorKind::Unavailable { sent: true }).with_cause(crate::error::Cause::Closed);
        assert!(matches!(outcome(&Err(lost), str::to_owned), CallOutcome::Failed(_)));
    }

    #[test]
    fn each_flag_adds_calls_and_time() {
        let mut options = ProbeOptions::default();
        let of = |options: &ProbeOptions| (budget(options).calls, budget(options).time.as_secs());
        assert_eq!(of(&options), (60, 90));
        options.burst = true;
        assert_eq!(of(&options), (600, 360));
        options.max_calls = Some(1_500);
        assert_eq!(of(&options), (1_500, 360));
        options.max_calls = None;
        options.burst = false;
        options.write = true;
        assert_eq!(of(&options), (120, 210));
    }
}
