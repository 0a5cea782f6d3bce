//! A stateful simulator of LeadSquared's REST API for leads, activities, sharing and users, served over HTTP. It does
//! not depend on the gateway.
//!
//! # What it simulates
//!
//! * Writes of one lead: create, update, upsert, capture with its eight matching rules, delete and merge.
//! * Writes of many leads: the four bulk endpoints.
//! * Reads of leads: by id, email, phone, word, list of ids, criterion and time of modification.
//! * The metadata of the lead fields.
//! * Activities: creating one (by lead id or by email) or many, and updating one. Reading the activities of a lead, one
//!   activity, and the activities of a time range. The activity types.
//! * Sharing of leads and opportunities with sales users, revoking, and the status of such a request. A request is
//!   processed after a number of polls, after a delay, or both.
//! * Users: list, lookup and search.
//! * Access keys in headers or in the query, unique attributes, and LeadSquared's success and error envelopes.
//! * The ordinary, bulk and daily rate limits, with five ways of counting.
//! * [`Fault`]s: lost responses, hanging calls, invalid responses, and rate limit errors without an exceeded limit.
//!
//! Behavior that LeadSquared does not document is an [`Options`] field, and its default is an assumption. The names and
//! texts of the exceptions of sharing are assumptions too.
//!
//! # What it does not simulate
//!
//! * TLS and compression.
//! * The asynchronous API, webhooks and file upload.
//! * Tasks, lists, notes, tags, accounts and `Lead.Convert`. Of opportunities there is only a list of those that can be
//!   shared.
//! * Other writes of activities: `CreateCustom`, bulk writes by a field, bulk update and delete. The history of
//!   activities, references, advanced search, field sets, files and dropdown values.
//! * The effect of an activity on its lead, including the score.
//! * Shares that automations create, and the view of the user that a lead is shared with.
//! * The activity "Lead Capture" and visitor tracking. The ids of visitors are an option.
//! * Automations. The simulator only counts them.
//! * Permissions and lead visibility of users. Creating users, groups and hierarchies.
//! * The logic of stage, owner and score. Dependent dropdowns and the administration of fields.
//! * The limits on the size and duration of a request.
//! * Writes that LeadSquared loses without an error when a query key contains a raw `$`.
//! * A delay between a write and its visibility.
//! * Counting of calls with an unknown path or method.
//! * Calls of other clients of the account, except as a fault.
//!
//! The simulator executes one call at a time, in the order of arrival. It therefore has none of the races between calls
//! that LeadSquared has. All data is in memory and is lost when the process ends.
//!
//! # For tests
//!
//! An account can start with leads, its clock can be advanced or stopped, and its calls can be recorded and replayed.
//!
//! The control path `/_simulator/` changes options, adds faults, and returns the recorded calls and the stored data.

mod activities;
mod clock;
mod control;
mod faults;
mod handlers;
mod http;
mod leads;
pub mod limits;
mod options;
mod random;
mod recording;
mod sharing;
mod state;
#[cfg(test)]
mod test_support;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use activities::store::Activity;
pub use activities::types::{ActivityFieldSpec, ActivityTypeSpec};
pub use control::journal::{Recorded, Stats};
pub use faults::damage::Damage;
pub use faults::{Fault, FaultKind, UnknownEndpoint};
pub use http::latency::Latency;
pub use leads::fields::FieldSpec;
pub use limits::{Limits, Refusal, Window};
pub use options::choices::{
    BodyForm, CaptureMessage, ComputedWrite, DateForm, DefaultOwner, DuplicateMessage, DuplicateRows, FieldSetForm,
    OffsetMeans, Order, OverMaximum, PhoneLookup, Reshare, RevokeUnshared, RevokeWrongAccess, ShareFailures,
    UnknownRequest, UpsertMatch, WrongCode,
};
pub use options::{KeyPair, Options};
pub use recording::{MAX_RECORDING, Recording, Replay};
pub use sharing::OpportunitySpec;
pub use sharing::store::{ShareRequest, SharedAccess};
pub use users::UserSpec;

use clock::Clock;
use http::connection::{AbortableListener, ConnectionHandle};
use leads::store::Leads;
use leads::{seed, store, value};
use recording::Traffic;
use state::{InitialState, SharedState, Tenant};

/// Maximum size of the JSON of [`Simulator::with_leads`] in bytes.
pub const MAX_SEED: usize = 64 << 20;

/// A simulated LeadSquared account. Clones share the same state.
#[derive(Clone)]
pub struct Simulator {
    shared: Arc<SharedState>,
}

impl Simulator {
    /// Creates an account without leads.
    pub fn new(options: Options) -> Self {
        let leads = Leads::new(&Tenant::new(options.clone()));
        Self::start(options, leads)
    }

    /// Creates an account with leads: an array in the form of `GET /_simulator/leads`. A field that a lead does not have has
    /// the value of a new lead.
    ///
    /// # Errors
    /// Returns an error that names the record, counted from 1, and the field if the JSON is invalid, has a field that the
    /// options do not define or a value that is invalid for its field, or has the same unique value twice. Also if it is
    /// larger than [`MAX_SEED`].
    pub fn with_leads(options: Options, json: &[u8]) -> Result<Self, String> {
        if json.len() > MAX_SEED {
            return Err(format!("larger than {} MiB", MAX_SEED >> 20));
        }
        let leads = seed::read(json, &Tenant::new(options.clone()), Clock::start().now())?;
        Ok(Self::start(options, leads))
    }

    fn start(options: Options, leads: Leads) -> Self {
        Self {
            shared: Arc::new(SharedState::new(InitialState { options, leads })),
        }
    }

    /// Records all further calls.
    pub fn record(&self, recording: Recording) {
        self.shared.lock().traffic = Traffic::Recorded(recording);
    }

    /// Answers all further calls from a recording. Keys, limits and faults do not apply, and no call changes the account.
    pub fn replay(&self, replay: Replay) {
        self.shared.lock().traffic = Traffic::Replayed(replay);
    }

    /// Serves HTTP on `listener` until `stop` resolves. Then it completes the calls in progress, and ends hanging calls
    /// at once.
    ///
    /// # Errors
    /// Returns the error of the listener if it fails permanently. Also the error of a [`Recording`] that cannot be written:
    /// the simulator then stops at once, as if `stop` had resolved.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let shutdown = CancellationToken::new();
        let shared = self.shared.clone();
        let router = self.router().layer(Extension(shutdown.clone()));
        let recording_failed = shared.recording_failed.clone();
        let stopped = async move {
            tokio::select! {
                () = stop => {}
                () = recording_failed.cancelled() => {}
            }
            shutdown.cancel();
        };
        let service = router.into_make_service_with_connect_info::<ConnectionHandle>();
        axum::serve(AbortableListener::new(listener, shared.clone()), service)
            .with_graceful_shutdown(stopped)
            .await?;
        match shared.lock().traffic.error() {
            Some(error) => Err(std::io::Error::other(error)),
            None => Ok(()),
        }
    }

    /// Advances the clock of the simulator: the times of records, the expiry of shares, the day of the daily limit and the
    /// header `Date`. The windows of the rate limits, latencies and hanging calls keep their time.
    ///
    /// # Errors
    /// Returns an error if the clock would be advanced by more than ten years in total, or in a replay. The clock is then
    /// unchanged.
    pub fn advance_clock(&self, by: Duration) -> Result<(), String> {
        self.shared.lock().advance_clock(by)
    }

    /// Adds a fault to the queue.
    ///
    /// # Errors
    /// Returns [`UnknownEndpoint`] if [`Fault::on`] is neither `*` nor the name of an endpoint. The queue is then
    /// unchanged.
    pub fn add_fault(&self, fault: Fault) -> Result<(), UnknownEndpoint> {
        self.shared.lock().faults.add(fault)
    }

    /// Removes all faults from the queue.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Returns the counters of the simulator.
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats()
    }

    /// Returns the recorded calls in the order in which the limits checked them: the last [`Options::keep_calls`]
    /// calls. Requests to the control path are not recorded.
    pub fn calls(&self) -> Vec<Recorded> {
        self.shared.lock().journal.calls()
    }

    /// Deletes the recorded calls. Counters, limits and the times of accepted calls are unchanged.
    pub fn forget_calls(&self) {
        self.shared.lock().journal.forget_calls();
    }

    /// Returns all leads in the order of their numbers, with their stored values. Each lead has every field of the
    /// account; an unset field is `None`.
    pub fn leads(&self) -> Vec<BTreeMap<String, Option<String>>> {
        let state = self.shared.lock();
        let leads = state.leads.iter();
        leads.map(|lead| lead.snapshot(&state.tenant)).collect()
    }

    /// Inserts a lead without validation and without limits, and returns its id. Values that are valid for their field
    /// are converted to the stored form. `attributes` may contain `ProspectID`, `CreatedOn` and `ModifiedOn`. A lead
    /// with the same `ProspectID` is replaced.
    pub fn insert_lead(&self, attributes: &[(&str, &str)]) -> String {
        let mut state = self.shared.lock();
        let state = &mut *state;
        let (leads, tenant) = (&mut state.leads, &state.tenant);
        let given = |name: &str| attributes.iter().find(|(known, _)| *known == name);
        let id = given("ProspectID").map(|(_, id)| (*id).to_owned());
        if let Some(number) = id.as_deref().and_then(|id| leads.by_id(id)) {
            leads.remove(number, tenant);
            state.shares.end_lead(number);
        }
        let number = leads.insert(id, state.clock.now(), tenant, |lead| {
            for (name, value) in attributes {
                match (*name, value::parse_timestamp(value)) {
                    ("ProspectID", _) => {}
                    ("CreatedOn", Some(timestamp)) => lead.created = timestamp,
                    ("ModifiedOn" | "LeadLastModifiedOn", Some(timestamp)) => lead.modified = timestamp,
                    _ => {
                        let value = store::lookup(name, value, tenant);
                        lead.values.insert((*name).into(), value);
                    }
                }
            }
        });
        leads.id(number).into()
    }

    /// Deletes a lead without limits. Returns whether the lead existed.
    pub fn delete_lead(&self, id: &str) -> bool {
        let mut state = self.shared.lock();
        state.process_due();
        let state = &mut *state;
        let number = state.leads.by_id(id);
        let removed = number.and_then(|number| state.leads.remove(number, &state.tenant));
        if let Some(lead) = &removed {
            state.activities.remove_lead(&lead.id);
            state.shares.end_lead(lead.number);
        }
        removed.is_some()
    }

    /// Returns all activities in the order of insertion, with their stored values.
    pub fn activities(&self) -> Vec<Activity> {
        self.shared.lock().activities.iter().cloned().collect()
    }

    /// Inserts an activity without validation and without limits, and returns its id. `fields` has schema names,
    /// including `Owner` and `ActivityEvent_Note`. It may contain `ProspectActivityId`, `CreatedOn` and `ModifiedOn`.
    /// An activity with the same `ProspectActivityId` is replaced.
    pub fn insert_activity(&self, lead_id: &str, code: u32, fields: &[(&str, &str)]) -> String {
        let mut state = self.shared.lock();
        let mut activity = Activity::new(lead_id, code, state.clock.now());
        for (name, value) in fields {
            match (*name, value::parse_timestamp(value)) {
                ("ProspectActivityId", _) => activity.id = (*value).into(),
                ("CreatedOn", Some(timestamp)) => activity.created = timestamp,
                ("ModifiedOn", Some(timestamp)) => activity.modified = timestamp,
                _ => activity.set(name, Some((*value).into())),
            }
        }
        state.activities.insert(activity)
    }

    /// Adds a user. A user with the same id is replaced.
    pub fn insert_user(&self, user: UserSpec) {
        self.set_options(|options| {
            let known = options
                .users
                .iter_mut()
                .find(|known| known.id.eq_ignore_ascii_case(&user.id));
            match known {
                Some(known) => *known = user,
                None => options.users.push(user),
            }
        });
    }

    /// Returns the shares that have not expired, sorted by user.
    pub fn shares(&self) -> Vec<SharedAccess> {
        let mut state = self.shared.lock();
        state.process_due();
        let now = state.clock.now();
        state.shares.live(now).cloned().collect()
    }

    /// Returns all accepted share and revoke requests in the order of acceptance.
    pub fn share_requests(&self) -> Vec<ShareRequest> {
        let mut state = self.shared.lock();
        state.process_due();
        state.shares.requests().cloned().collect()
    }

    /// Changes the options of the running simulator, until the next reset. A change of `seed` has no effect.
    pub fn set_options(&self, change: impl FnOnce(&mut Options)) {
        let mut state = self.shared.lock();
        let mut options = state.tenant.options.clone();
        change(&mut options);
        state.set_options(options);
    }

    /// Returns the maximum number of accepted calls in any half-open interval of the length [`Limits::per`]. Only calls
    /// that count against the ordinary limit are included.
    pub fn worst_window(&self) -> usize {
        let state = self.shared.lock();
        state.journal.worst_window(state.tenant.options.limits.per)
    }

    fn router(self) -> Router {
        control::routes().fallback(http::receive).with_state(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::TcpListener;

    struct Running {
        simulator: Simulator,
        address: String,
        stop: CancellationToken,
        served: tokio::task::JoinHandle<std::io::Result<()>>,
        client: reqwest::Client,
    }

    impl Running {
        async fn start() -> Self {
            let simulator = Simulator::new(Options::default());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let stop = CancellationToken::new();
            let serving = simulator.clone().serve(listener, stop.clone().cancelled_owned());
            let served = tokio_util::task::TaskTracker::new().spawn(serving);
            let client = reqwest::Client::builder()
                .timeout(Duration::from_secs(10))
                .retry(reqwest::retry::never())
                .build()
                .unwrap();
            Self {
                simulator,
                address,
                stop,
                served,
                client,
            }
        }

        async fn create(&self) -> reqwest::Result<u16> {
            let options = Options::default();
            let sent = self
                .client
                .post(format!("{}/v2/LeadManagement.svc/Lead.Create", self.address))
                .header("x-LSQ-AccessKey", options.access_key)
                .header("x-LSQ-SecretKey", options.secret_key)
                .header("content-type", "application/json")
                .body(r#"[{"Attribute":"FirstName","Value":"Ann"}]"#);
            Ok(sent.send().await?.status().as_u16())
        }
    }

    #[tokio::test]
    async fn a_drop_fault_closes_the_connection_and_the_next_call_succeeds() {
        let running = Running::start().await;
        for (kind, leads) in [(FaultKind::DropBefore, 1), (FaultKind::CommitThenDrop, 3)] {
            assert_eq!(running.create().await.unwrap(), 200);
            running.simulator.add_fault(Fault::new("Lead.Create", kind)).unwrap();
            let error = running.create().await.unwrap_err();
            assert!(
                !error.is_timeout() && !error.is_connect() && error.is_request(),
                "{error:?}"
            );
            let stats = running.simulator.stats();
            assert_eq!((stats.leads, stats.dropped), (leads, 1 + u64::from(leads == 3)));
        }
        let statuses: Vec<_> = running.simulator.calls().iter().map(|call| call.status).collect();
        assert_eq!(statuses, [200, 0, 200, 0]);
    }

    #[tokio::test]
    async fn a_hanging_call_ends_when_the_simulator_stops() {
        let running = Running::start().await;
        let lasting = Duration::from_secs(3_600);
        running
            .simulator
            .add_fault(Fault::new("*", FaultKind::CommitThenHang { lasting }))
            .unwrap();
        let (response, ()) = tokio::join!(running.create(), async {
            while running.simulator.stats().leads == 0 {
                tokio::task::yield_now().await;
            }
            running.stop.cancel();
        });
        assert!(response.is_err());
        let served = tokio::time::timeout(Duration::from_secs(10), running.served).await;
        served.unwrap().unwrap().unwrap();
    }

    #[test]
    fn an_inserted_lead_is_not_validated() {
        let simulator = Simulator::new(Options::default());
        let id = simulator.insert_lead(&[
            ("ProspectID", "chosen"),
            ("Phone", "9845098450"),
            ("Score", "-10"),
            ("Nonsense", "kept"),
            ("CreatedOn", "2020-01-02 03:04:05"),
        ]);
        assert_eq!(id, "chosen");
        let lead = &simulator.leads()[0];
        let value = |name: &str| lead[name].as_deref();
        assert_eq!(value("Phone"), Some("+91-9845098450"));
        assert_eq!(value("Score"), Some("-10"));
        assert_eq!(value("Nonsense"), Some("kept"));
        assert_eq!(value("CreatedOn"), Some("2020-01-02 03:04:05.000"));
        assert_eq!(value("Mobile"), None);
        simulator.insert_lead(&[("ProspectID", "CHOSEN")]);
        assert_eq!(simulator.leads().len(), 1);
        assert!(simulator.delete_lead("chosen"));
        assert!(!simulator.delete_lead("chosen"));
    }
}
