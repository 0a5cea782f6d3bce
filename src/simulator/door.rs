//! The way in: recognises the endpoint, checks the keys, counts the call, makes ordered faults
//! happen, and only then has the work done.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Recorded, Simulator, What,
    answer::Answer,
    desk::{Desk, unreadable},
    endpoint::Endpoint,
    journal::Ticket,
    limits::Verdict,
    line::Line,
    state::{Shared, State as Inner},
};

const WRONG_KEYS: &str = "Invalid Access Details provided.";

/// A request, taken apart.
pub(super) struct Call {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

/// What the client gets.
enum Outcome {
    Answer(Answer),
    /// The connection closes without a byte.
    Silence,
}

/// What is to happen to a call once the door has looked at it.
enum Course {
    /// This answer, and nothing else.
    Turned(Answer),
    /// The same, by a limit or what looks like one.
    Refused(Answer),
    /// The work, with what goes wrong about it.
    Work(Endpoint, Option<What>),
}

/// Every request that is not for the control path.
pub(super) async fn receive(State(simulator): State<Simulator>, request: Request) -> Response {
    let line = request.extensions().get::<ConnectInfo<Line>>().cloned();
    let closing = request.extensions().get().cloned().unwrap_or_default();
    let shared = simulator.shared;
    let most = shared.lock().tenant.options.max_body;
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, most).await else {
        return respond(Answer::empty(413));
    };
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let call = Call {
        method: parts.method,
        path: parts.uri.path().into(),
        query: url::form_urlencoded::parse(query).into_owned().collect(),
        headers: parts.headers,
        body,
    };
    // As at the vendor, a call goes on when its client has left.
    let tasks = shared.tasks.clone();
    let handled = tasks
        .spawn(async move { handle(&shared, &closing, call).await })
        .await;
    match (handled, line) {
        (Ok(Outcome::Answer(answer)), _) => respond(answer),
        (Ok(Outcome::Silence), Some(ConnectInfo(line))) => {
            line.cut();
            // Never arrives: writing it is what makes the server notice the cut.
            respond(Answer::empty(502))
        }
        // Without a connection to cut, the nearest thing: what a proxy says about one.
        (Ok(Outcome::Silence), None) => respond(Answer::empty(502)),
        (Err(_), _) => respond(Answer::empty(500)),
    }
}

async fn handle(shared: &Shared, closing: &CancellationToken, call: Call) -> Outcome {
    let (before, after) = halves(shared.draw_latency());
    pause(before).await;
    let (ticket, course) = shared.lock().meet(&call);
    let refused = matches!(course, Course::Refused(_));
    let outcome = match course {
        Course::Turned(answer) | Course::Refused(answer) => Outcome::Answer(answer),
        Course::Work(endpoint, None) => Outcome::Answer(shared.lock().work(endpoint, &call)),
        Course::Work(endpoint, Some(what)) => {
            go_wrong(shared, closing, endpoint, what, &call).await
        }
    };
    pause(after).await;
    let mut state = shared.lock();
    match &outcome {
        Outcome::Answer(answer) => state.conclude(ticket, answer.status, refused),
        Outcome::Silence => state.journal.counts.dropped += 1,
    }
    outcome
}

async fn go_wrong(
    shared: &Shared,
    closing: &CancellationToken,
    endpoint: Endpoint,
    what: What,
    call: &Call,
) -> Outcome {
    let work = || shared.lock().work(endpoint, call);
    Outcome::Answer(match what {
        What::DropBefore => return Outcome::Silence,
        What::CommitThenDrop => {
            work();
            return Outcome::Silence;
        }
        What::CommitThenHang { lasting } => {
            work();
            hang(lasting, closing).await;
            return Outcome::Silence;
        }
        What::HangBefore { lasting } => {
            hang(lasting, closing).await;
            return Outcome::Silence;
        }
        What::Html502 => Answer::page(502, "502 Bad Gateway"),
        What::Empty500 => Answer::empty(500),
        What::Empty503 => Answer::empty(503),
        What::GarbageJson => work().garbled(),
        What::Delay { by } => {
            pause(by).await;
            work()
        }
        What::Answer {
            status,
            body,
            content_type,
            commit,
        } => {
            if commit {
                work();
            }
            let content_type = content_type.as_deref().unwrap_or("application/json");
            Answer::text(status, content_type, body)
        }
        // Taken before the call was counted.
        What::Unauthorized | What::Refuse | What::RefuseDaily => work(),
    })
}

impl Inner {
    /// Records the call and decides its course, at one moment.
    fn meet(&mut self, call: &Call) -> (Ticket, Course) {
        let stamp = Instant::now();
        let endpoint = Endpoint::at(&call.path);
        let recorded = call.record(endpoint, stamp);
        let ticket = self
            .journal
            .record(recorded, self.tenant.options.keep_calls);
        let course = self.course(call, endpoint, stamp);
        (ticket, course)
    }

    fn course(&mut self, call: &Call, endpoint: Option<Endpoint>, stamp: Instant) -> Course {
        let Some(endpoint) = endpoint else {
            return Course::Turned(Answer::page(404, "Endpoint not found."));
        };
        if !endpoint.takes(&call.method) {
            return Course::Turned(Answer::page(405, "Method not allowed."));
        }
        if let Some(answer) = self.keys_fail(call, endpoint) {
            let counted = self.tenant.options.limits.count_bad_keys;
            let refused = counted.then(|| self.admit(endpoint, stamp)).flatten();
            return refused.map_or(Course::Turned(answer), Course::Refused);
        }
        if let Some(what) = self.faults.take_early(endpoint.name()) {
            self.journal.counts.faults += 1;
            return self.turn_away(&what, endpoint, stamp);
        }
        if let Some(refused) = self.admit(endpoint, stamp) {
            return Course::Refused(refused);
        }
        let what = self.faults.take(endpoint.name());
        self.journal.counts.faults += u64::from(what.is_some());
        Course::Work(endpoint, what)
    }

    /// The answer to wrong keys, if they are.
    fn keys_fail(&self, call: &Call, endpoint: Endpoint) -> Option<Answer> {
        let options = &self.tenant.options;
        let access = call.key("x-lsq-accesskey", "accessKey");
        let secret = call.key("x-lsq-secretkey", "secretKey");
        let right = access == Some(&options.access_key) && secret == Some(&options.secret_key);
        let active = options.users.first().is_none_or(|owner| owner.active);
        if !right || !active {
            return Some(Answer::unauthorized(WRONG_KEYS));
        }
        let host = options.right_host.as_deref();
        let host = host.filter(|_| endpoint != Endpoint::UserByAccessKey)?;
        Some(Answer::unauthorized(&format!(
            "{WRONG_KEYS} Use the API host {host} for this account."
        )))
    }

    /// Counts the call; the refusal if it is one too many.
    fn admit(&mut self, endpoint: Endpoint, stamp: Instant) -> Option<Answer> {
        let limits = &self.tenant.options.limits;
        let day = self.clock.day(limits.daily_reset_hour);
        let bulk = endpoint.is_bulk();
        match self.limiter.admit(stamp, day, bulk, limits) {
            Verdict::Admitted => {
                let ordinary = !bulk || limits.bulk_pays_calls;
                self.journal.accept(endpoint.name(), stamp, bulk, ordinary);
                None
            }
            verdict => Some(self.refusal(verdict)),
        }
    }

    /// The course of a fault that happens before a call is counted.
    fn turn_away(&mut self, what: &What, endpoint: Endpoint, stamp: Instant) -> Course {
        match what {
            What::Refuse => {
                let limits = &self.tenant.options.limits;
                let verdict = self.limiter.refuse(stamp, endpoint.is_bulk(), limits);
                Course::Refused(self.refusal(verdict))
            }
            What::RefuseDaily => Course::Refused(self.refusal(Verdict::RefusedDaily)),
            _ => Course::Turned(Answer::unauthorized(WRONG_KEYS)),
        }
    }

    fn refusal(&mut self, verdict: Verdict) -> Answer {
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
        Answer::refused(options.limits.refusal.status(), &message)
    }

    fn work(&mut self, endpoint: Endpoint, call: &Call) -> Answer {
        if endpoint.has_body()
            && let Some(complaint) = call.complaint()
        {
            return complaint;
        }
        let desk = Desk {
            crm: &mut self.crm,
            tenant: &self.tenant,
            query: &call.query,
            body: &call.body,
            host: call.header(header::HOST.as_str()).unwrap_or_default(),
            now: self.clock.now(),
        };
        desk.serve(endpoint)
    }

    fn conclude(&mut self, ticket: Ticket, status: u16, refused: bool) {
        self.journal.counts.unauthorized += u64::from(status == 401);
        self.journal.conclude(ticket, status, refused);
    }
}

impl Call {
    fn record(&self, endpoint: Option<Endpoint>, stamp: Instant) -> Recorded {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = self.headers.iter();
        Recorded {
            endpoint: endpoint.map_or_else(|| self.path.clone(), |endpoint| endpoint.name().into()),
            method: self.method.to_string(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: String::from_utf8_lossy(&self.body).into_owned(),
            stamp,
            status: 0,
            refused: false,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A key from its header or, failing that, from the query.
    fn key(&self, header: &str, parameter: &str) -> Option<&str> {
        let parameter = || self.query.iter().find(|(name, _)| name == parameter);
        self.header(header)
            .or_else(|| Some(parameter()?.1.as_str()))
    }

    /// What is wrong with the body before anyone looks for a meaning in it.
    fn complaint(&self) -> Option<Answer> {
        let kind = self
            .header(header::CONTENT_TYPE.as_str())
            .unwrap_or_default();
        let json = kind.split(';').next().unwrap_or_default().trim();
        if !json.eq_ignore_ascii_case("application/json") {
            let message = "The content type of the request is not application/json";
            return Some(Answer::error(400, "MXInvalidInputException", message));
        }
        let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(&self.body);
        Some(unreadable(&parsed.err()?).into_answer(400))
    }
}

impl Shared {
    fn draw_latency(&self) -> Duration {
        let mut state = self.lock();
        let latency = state.tenant.options.latency;
        latency.draw(&mut state.dice)
    }
}

/// Waits, but not longer than the simulator serves.
async fn hang(lasting: Duration, closing: &CancellationToken) {
    tokio::select! {
        () = sleep(lasting) => {}
        () = closing.cancelled() => {}
    }
}

fn halves(whole: Duration) -> (Duration, Duration) {
    let half = whole / 2;
    (half, whole - half)
}

/// Even an elapsed sleep lets others run first, which an undelayed call must not.
async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn respond(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(kind) = HeaderValue::from_str(&answer.content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}
