//! Mutations that an earlier owner of the tenant has started, or that may be missing in the current history of the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::lease::fence_of_all_tenants;
use super::server::Server;
use super::{KEEP, request};
use crate::clock;
use crate::context::{RequestContext, RequestId};
use crate::domain::lease::Fence;
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::store::{BeginResult, PriorAttempt, RequestEntry, RequestMark, Requests, Store};

const SECOND: Duration = Duration::from_secs(1);

/// Two owners of a tenant. The second one owns it.
struct Owners {
    server: &'static Server,
    database: String,
    first: Store,
    second: Store,
}

impl Owners {
    async fn new() -> Self {
        let server = Server::shared();
        let database = server.create_database();
        let store = Store::open(&server.url(&database)).await.unwrap();
        let fence = fence_of_all_tenants(&store).await;
        let owners = Self {
            server,
            first: store.fenced(fence.clone()),
            second: store.fenced(Fence {
                owner: "second".into(),
                epoch: 2,
                ..fence
            }),
            database,
        };
        let mark = RequestMark::new(request(1));
        let begun = owners.first.begin_request("acme", "crm", &mark, KEEP);
        begun.await.unwrap();
        owners.sql("UPDATE tenant_lease SET owner = 'second', epoch = 2");
        owners
    }

    fn sql(&self, statement: &str) {
        self.server.sql(&self.database, statement);
    }

    /// The mutations of the second owner. The calls of the first one have ended after that time.
    fn requests(&self, earlier_calls_end_in: Duration) -> Arc<Requests<String>> {
        requests(&self.second, earlier_calls_end_in)
    }
}

fn requests(store: &Store, earlier_calls_end_in: Duration) -> Arc<Requests<String>> {
    let requests = Requests::new(store.clone(), "acme", SECOND * 3600, TaskTracker::new());
    Arc::new(requests.after_earlier_calls(Some(Instant::now() + earlier_calls_end_in)))
}

fn context(limit: Duration) -> RequestContext {
    RequestContext::internal("test", limit)
}

/// Executes a mutation that returns what is known about earlier attempts.
async fn execute(requests: &Arc<Requests<String>>, context: RequestContext, id: RequestId) -> Result<String> {
    let entry: RequestEntry = requests.enter(id, vec![]);
    let recorded = entry.recorded(&context);
    let work = |prior| async move {
        recorded.begin().await?;
        Ok(name(prior).to_owned())
    };
    requests.once(&context, Some(entry), work).await
}

fn name(prior: PriorAttempt) -> &'static str {
    match prior {
        PriorAttempt::None => "new",
        PriorAttempt::OutcomeUnknown { .. } => "unknown outcome",
    }
}

#[tokio::test]
async fn a_repeated_call_gets_the_result_that_an_earlier_owner_stores_late() {
    let owners = Owners::new().await;
    let requests = owners.requests(SECOND * 60);
    let repeated = execute(&requests, context(SECOND * 50), request(1));
    let finish = async {
        tokio::time::sleep(SECOND / 5).await;
        let result = crate::store::record::result::write(Ok("late".to_owned())).unwrap();
        let id = request(1);
        let finished = owners.first.finish_request("acme", "crm", &id, &result);
        finished.await.unwrap();
    };
    assert_eq!(tokio::join!(repeated, finish).0, Ok("late".to_owned()));
}

#[tokio::test]
async fn the_outcome_of_an_earlier_owner_is_looked_up_after_its_calls_have_ended() {
    let owners = Owners::new().await;
    let start = Instant::now();
    let wait = SECOND * 3 / 2;
    let result = execute(&owners.requests(wait), context(SECOND * 50), request(1)).await;
    assert_eq!(result, Ok("unknown outcome".to_owned()));
    assert!(start.elapsed() >= wait, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_deadline_before_the_calls_of_an_earlier_owner_have_ended_says_when_to_repeat() {
    let owners = Owners::new().await;
    let error = execute(&owners.requests(SECOND * 60), context(SECOND * 4), request(1)).await;
    let error: Error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::OutcomeUnknown);
    let Some(Recovery::SameRequestId { after }) = error.details.recovery else {
        panic!("{error:?}");
    };
    assert!(after > SECOND * 30 && after <= SECOND * 60, "{after:?}");
}

#[tokio::test]
async fn a_call_that_was_received_before_the_history_is_looked_up_if_it_is_unknown() {
    let owners = Owners::new().await;
    owners.sql("UPDATE history SET first_seen = clock_timestamp() - interval '60 seconds'");
    let requests = owners.requests(Duration::ZERO);
    let received = |ago: u32| RequestContext {
        first_received: Instant::now() - SECOND * ago,
        is_repeated: true,
        ..context(SECOND * 50)
    };
    let unknown = execute(&requests, received(600), request(2)).await;
    assert_eq!(unknown, Ok("unknown outcome".to_owned()));
    assert_eq!(execute(&requests, received(5), request(3)).await, Ok("new".to_owned()));
    // A call that no replica can have received before.
    let new = RequestContext {
        is_repeated: false,
        ..received(600)
    };
    assert_eq!(execute(&requests, new, request(4)).await, Ok("new".to_owned()));
    // Its result is stored like that of any other call.
    let again = execute(&requests, received(600), request(2)).await;
    assert_eq!(again, Ok("unknown outcome".to_owned()));
}

#[tokio::test]
async fn an_old_request_id_of_version_7_counts_as_received_at_its_time() {
    let owners = Owners::new().await;
    owners.sql("UPDATE history SET first_seen = clock_timestamp() - interval '60 seconds'");
    let requests = owners.requests(Duration::ZERO);
    let made = |seconds_ago: i64| {
        let seconds = u64::try_from(clock::now().as_second() - seconds_ago).unwrap();
        RequestId {
            id: Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0)),
            fingerprint: [7; 32],
            is_internal: false,
        }
    };
    let old = execute(&requests, context(SECOND * 50), made(600)).await;
    assert_eq!(old, Ok("unknown outcome".to_owned()));
    let recent = execute(&requests, context(SECOND * 50), made(20)).await;
    assert_eq!(recent, Ok("new".to_owned()));
    // It was made when it arrived, and has waited since.
    let waited = RequestContext {
        first_received: Instant::now() - SECOND * 601,
        ..context(SECOND * 50)
    };
    assert_eq!(execute(&requests, waited, made(600)).await, Ok("new".to_owned()));
}

#[tokio::test]
async fn a_mark_that_could_not_be_deleted_does_not_make_its_mutation_uncertain() {
    let server = Server::start("fsync = off");
    let store = Store::open(&server.url(&server.create_database())).await.unwrap();
    let store = store.fenced(fence_of_all_tenants(&store).await);
    let requests = requests(&store, Duration::ZERO);
    let call = context(SECOND * 60);
    let entry = requests.enter(request(1), vec![]);
    let recorded = entry.recorded(&call);
    let server = &server;
    let stopping = async {
        recorded.begin().await.unwrap();
        server.stop();
        recorded.not_executed().await;
    };
    stopping.await;
    drop(entry);
    server.restart();
    assert_eq!(
        execute(&requests, context(SECOND * 60), request(1)).await,
        Ok("new".to_owned())
    );
}

#[tokio::test]
async fn without_the_lease_a_mutation_is_not_started_and_goes_to_the_next_owner() {
    let owners = Owners::new().await;
    let requests = requests(&owners.first, Duration::ZERO);
    let error = execute(&requests, context(SECOND * 50), request(5)).await;
    assert_eq!(error, Err(ErrorKind::Moved { sent: false }.into()));
}

#[tokio::test]
async fn a_mutation_whose_id_a_replica_has_chosen_is_kept_for_an_hour() {
    let owners = Owners::new().await;
    for (id, is_internal) in [(2, true), (3, false), (4, true)] {
        let mark = RequestMark::new(RequestId {
            is_internal,
            ..request(id)
        });
        let began = owners.second.begin_request("acme", "crm", &mark, KEEP).await;
        assert_eq!(began, Ok(BeginResult::Started));
        if id < 4 {
            owners.sql("UPDATE request SET begun = begun - 2 * 3600 * 1000");
        }
    }
    assert_eq!(owners.second.delete_old_requests(KEEP).await, Ok(1));
    let gone = owners.second.request("acme", "crm", &Uuid::from_u128(2), KEEP).await;
    assert_eq!(gone, Ok(None));
}

#[tokio::test]
async fn the_keys_of_a_mutation_of_unknown_outcome_are_not_held_by_the_next_owner() {
    let owners = Owners::new().await;
    let requests = owners.requests(Duration::ZERO);
    let entry = requests.enter(request(6), vec![7]);
    let recorded = entry.recorded(&context(SECOND * 50));
    let keys_of = async |id: u128| {
        let unfinished = owners.second.unfinished_requests("acme").await.unwrap();
        let request = unfinished.into_iter().find(|request| request.id == Uuid::from_u128(id));
        request.unwrap().keys
    };
    let (begun, resume) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
    let (begun, resume) = (Arc::new(begun), Arc::new(resume));
    let (is_begun, may_resume) = (begun.clone(), resume.clone());
    let work = |_| async move {
        recorded.begin().await?;
        is_begun.notify_one();
        may_resume.notified().await;
        Err(ErrorKind::OutcomeUnknown.into())
    };
    let call = context(SECOND * 50);
    let executing = requests.once(&call, Some(entry), work);
    let looking = async {
        begun.notified().await;
        assert_eq!(keys_of(6).await, [7]);
        resume.notify_one();
    };
    assert_eq!(
        tokio::join!(executing, looking).0,
        Err(ErrorKind::OutcomeUnknown.into())
    );
    assert_eq!(keys_of(6).await, Vec::<i64>::new());
}

#[tokio::test]
async fn the_keys_of_earlier_owners_are_forgotten_together() {
    let owners = Owners::new().await;
    owners.sql("UPDATE request SET keys = '{1,2}'");
    let mark = RequestMark {
        keys: vec![3],
        ..RequestMark::new(request(7))
    };
    let begun = owners.second.begin_request("acme", "crm", &mark, KEEP).await;
    assert_eq!(begun, Ok(BeginResult::Started));
    // Not without the lease.
    owners.first.release_keys("acme", None).await.unwrap();
    let keys = async || {
        let unfinished = owners.second.unfinished_requests("acme").await.unwrap();
        unfinished.into_iter().map(|request| request.keys).collect::<Vec<_>>()
    };
    assert_eq!(keys().await, [vec![1, 2], vec![3]]);
    owners.second.release_keys("acme", None).await.unwrap();
    assert_eq!(keys().await, [vec![], vec![3]]);
}

/// Executes a mutation whose result is a text, and returns the stored result.
async fn execute_once(requests: &Arc<Requests<String>>, id: u128, result: &str) -> Result<String> {
    let call = context(SECOND * 50);
    let entry = requests.enter(request(id), vec![]);
    let (recorded, result) = (entry.recorded(&call), result.to_owned());
    let work = |_| async move {
        recorded.begin().await?;
        Ok(result)
    };
    requests.once(&call, Some(entry), work).await
}

#[tokio::test]
async fn a_replica_whose_clock_is_wrong_by_a_day_neither_repeats_nor_forgets_a_mutation() {
    for (case, hours) in [25, -25].into_iter().enumerate() {
        let owners = Owners::new().await;
        let requests = owners.requests(Duration::ZERO);
        let wrong = || clock::set_ahead(jiff::SignedDuration::from_hours(hours));
        let right = || clock::set_ahead(jiff::SignedDuration::ZERO);
        let id = 10 * (1 + case as u128);

        wrong();
        assert_eq!(execute_once(&requests, id, "first").await, Ok("first".to_owned()));
        right();
        assert_eq!(execute_once(&requests, id, "second").await, Ok("first".to_owned()));
        assert_eq!(requests.delete_expired().await, Ok(0), "{hours}");

        assert_eq!(execute_once(&requests, id + 1, "first").await, Ok("first".to_owned()));
        wrong();
        assert_eq!(execute_once(&requests, id + 1, "second").await, Ok("first".to_owned()));
        assert_eq!(requests.delete_expired().await, Ok(0), "{hours}");

        // A mutation of unknown outcome is looked up from its start on, in the time of the replica that looks it up.
        let found = owners.second.request("acme", "crm", &Uuid::from_u128(1), KEEP).await;
        let age = clock::now().duration_since(found.unwrap().unwrap().started);
        assert!(age.abs() < jiff::SignedDuration::from_secs(10), "{age}");
        right();
    }
}
