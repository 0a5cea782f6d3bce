//! A stateful simulator of LeadSquared's REST API for leads, activities, sharing and users, served
//! over HTTP. It knows nothing of the gateway.
//!
//! **Imitated.** Writing one lead (create, update, upsert, capture with its eight matching
//! rules, delete, merge) and many (the four bulk calls); reading leads by id, email, phone,
//! word, ids, criterion and time of modification; field metadata; posting activities (one, by
//! lead or by email, and many), changing them, reading those of a lead, one, and those of a time,
//! and their types; sharing leads and opportunities with sales users, revoking, and the status of
//! such a request, which is processed some polls or some time after it was accepted; users, by
//! list, lookup and search; keys in headers or in the query; uniqueness of attributes; the
//! ordinary, bulk and daily limits in five ways of counting; the vendor's success and error
//! envelopes; and, as [`Fault`]s, lost responses, hanging calls, invalid responses and unexplained
//! refusals. What the vendor leaves open is an [`Options`] field with an assumption for its
//! default; the names and texts of sharing's exceptions are assumptions throughout.
//!
//! **Not imitated.** TLS, compression and HTTP/2; the asynchronous API, webhooks and file
//! upload; tasks, lists, notes, tags, accounts and `Lead.Convert`; opportunities beyond a list of
//! those that can be shared; the other forms of writing activities (`CreateCustom`, bulk by a
//! field, bulk update, delete), their history, references and advanced search, field sets, files
//! and dropdown values; what an activity does to its lead, score included; shares made by
//! automations, and what a share lets its user see; the "Lead Capture" activity and visitor
//! tracking (ids of visitors are an option); automations beyond counting them; permissions and
//! lead visibility of users; creating users, groups and the hierarchy; stage, owner and score
//! logic; dependent dropdowns and field administration; the limits of request size and duration;
//! writes silently lost when a raw `$` stands in a query key; delays between a write and its being
//! seen; a charge for calls with a wrong path or verb; foreign traffic on the account other than
//! by a fault. Calls are handled in the order in which they arrive, each
//! at one moment: there are no races between them as there are at the vendor. Nothing outlives
//! the process.
//!
//! The control path `/_simulator/` changes options, adds faults and shows what was received.

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
mod sharing;
mod state;
#[cfg(test)]
mod test_support;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use activities::store::Activity;
pub use activities::types::{ActivityFieldSpec, ActivityTypeSpec};
pub use control::journal::{Recorded, Stats};
pub use faults::damage::Damage;
pub use faults::{Fault, What};
pub use http::latency::Latency;
pub use leads::fields::FieldSpec;
pub use limits::{Limits, Refusal, Window};
pub use options::Options;
pub use options::choices::{
    CaptureMessage, ComputedWrite, DateForm, DefaultOwner, DuplicateMessage, DuplicateRows, FieldSetForm, OffsetMeans,
    Order, OverMaximum, PhoneLookup, Reshare, RevokeUnshared, RevokeWrongAccess, ShareFailures, UnknownRequest,
    UpsertMatch, WrongCode,
};
pub use sharing::OpportunitySpec;
pub use sharing::store::{ShareRequest, SharedAccess};
pub use users::UserSpec;

use http::connection::{AbortableListener, ConnectionHandle};
use leads::{store, value};
use state::Shared;

/// A handle on a simulated tenant. Clones share it.
#[derive(Clone)]
pub struct Simulator {
    shared: Arc<Shared>,
}

impl Simulator {
    /// A tenant without leads.
    pub fn new(options: Options) -> Self {
        Self {
            shared: Arc::new(Shared::new(options)),
        }
    }

    /// Serves on `listener` until `stop` resolves. Then it completes the calls in progress and ends
    /// the hanging ones.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let shutdown = CancellationToken::new();
        let router = self.router().layer(Extension(shutdown.clone()));
        let stopped = async move {
            stop.await;
            shutdown.cancel();
        };
        let service = router.into_make_service_with_connect_info::<ConnectionHandle>();
        axum::serve(AbortableListener(listener), service)
            .with_graceful_shutdown(stopped)
            .await
    }

    /// Adds a fault to the queue.
    pub fn order(&self, fault: Fault) {
        self.shared.lock().faults.order(fault);
    }

    /// Removes all faults that have not happened.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Counts so far.
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats()
    }

    /// Every request seen, in the order in which they met the limits, save those on the control
    /// path; the last [`Options::keep_calls`] of them.
    pub fn calls(&self) -> Vec<Recorded> {
        self.shared.lock().journal.calls()
    }

    /// Forgets the recorded calls; counts, limits and stamps stay.
    pub fn forget_calls(&self) {
        self.shared.lock().journal.forget_calls();
    }

    /// All leads as they are stored, in the order of their numbers: every field of the tenant,
    /// `None` where unset.
    pub fn leads(&self) -> Vec<BTreeMap<String, Option<String>>> {
        let state = self.shared.lock();
        let leads = state.leads.iter();
        leads.map(|lead| lead.snapshot(&state.tenant)).collect()
    }

    /// Inserts a lead, without limits and rules, and returns its id. Values are kept in the usual
    /// form where they have one. `ProspectID`, and the dates of creation and modification, may
    /// be given.
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
                match (*name, value::moment(value)) {
                    ("ProspectID", _) => {}
                    ("CreatedOn", Some(moment)) => lead.created = moment,
                    ("ModifiedOn" | "LeadLastModifiedOn", Some(moment)) => lead.modified = moment,
                    _ => {
                        let value = store::lookup(name, value, tenant);
                        lead.values.insert((*name).into(), value);
                    }
                }
            }
        });
        leads.id(number).into()
    }

    /// Removes a lead, without limits and rules. Returns whether there was one.
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

    /// All activities as they are stored, in the order in which they were posted.
    pub fn activities(&self) -> Vec<Activity> {
        self.shared.lock().activities.iter().cloned().collect()
    }

    /// Inserts an activity, without limits and rules, and returns its id. `fields` are by schema name,
    /// `Owner` and `ActivityEvent_Note` among them; `ProspectActivityId`, and the dates
    /// `CreatedOn` and `ModifiedOn`, may be given.
    pub fn insert_activity(&self, lead_id: &str, code: u32, fields: &[(&str, &str)]) -> String {
        let mut state = self.shared.lock();
        let mut activity = Activity::new(lead_id, code, state.clock.now());
        for (name, value) in fields {
            match (*name, value::moment(value)) {
                ("ProspectActivityId", _) => activity.id = (*value).into(),
                ("CreatedOn", Some(moment)) => activity.created = moment,
                ("ModifiedOn", Some(moment)) => activity.modified = moment,
                _ => activity.set(name, Some((*value).into())),
            }
        }
        state.activities.insert(activity)
    }

    /// Adds a user, or replaces the user with its id.
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

    /// The live shares, user by user.
    pub fn shares(&self) -> Vec<SharedAccess> {
        let mut state = self.shared.lock();
        state.process_due();
        let now = state.clock.now();
        state.shares.live(now).cloned().collect()
    }

    /// All accepted share and revoke requests, in order.
    pub fn share_requests(&self) -> Vec<ShareRequest> {
        let mut state = self.shared.lock();
        state.process_due();
        state.shares.requests().cloned().collect()
    }

    /// Changes the behaviour of the running simulator. A new seed shows after a reset only.
    pub fn set_options(&self, change: impl FnOnce(&mut Options)) {
        let mut state = self.shared.lock();
        let mut options = state.tenant.options.clone();
        change(&mut options);
        state.set_options(options);
    }

    /// The most accepted calls that pay the ordinary limit in any half-open interval of the
    /// length [`Limits::per`], by their stamps.
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
    async fn a_dropped_call_is_a_closed_connection_and_the_next_one_works() {
        let running = Running::start().await;
        for (what, leads) in [(What::DropBefore, 1), (What::CommitThenDrop, 3)] {
            assert_eq!(running.create().await.unwrap(), 200);
            running.simulator.order(Fault::new("Lead.Create", what));
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
            .order(Fault::new("*", What::CommitThenHang { lasting }));
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
