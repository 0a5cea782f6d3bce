//! The rows of older versions are read, and the same rows are written.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{StoredResult, result, samples};
use crate::context::{RequestContext, RequestId};
use crate::domain::share::{Share, ShareChange, ShareFilter, ShareState};
use crate::domain::usage::{HeldSlots, QuotaUsage};
use crate::error::{Error, ErrorKind};
use crate::store::damage::{from_json, to_json};
use crate::store::{PriorAttempt, Requests, Store};

/// A store from a version without records: `samples` of the tenant "south", and data of a gateway of the tenant "acme".
const OLD_STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/records/store.sqlite");

/// Number of samples of shares in this store.
const OLD_SHARES: usize = 15;

/// The golden rows of a file.
macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../../tests/golden/records/", $name, ".jsonl"))
    };
}

/// Checks that each golden row is read as its value, and that each value is written as its golden row.
fn compare<T: PartialEq + Debug>(
    golden: &str,
    values: &[T],
    read: impl Fn(&str) -> Result<T, String>,
    write: impl Fn(&T) -> Result<String, String>,
) {
    let rows: Vec<&str> = golden.lines().collect();
    assert_eq!(rows.len(), values.len());
    for (row, value) in rows.into_iter().zip(values) {
        assert_eq!(read(row).as_ref(), Ok(value), "{row}");
        assert_eq!(write(value).as_deref(), Ok(row), "{value:?}");
    }
}

fn compare_records<T, R>(golden: &str, values: &[T])
where
    T: Clone + PartialEq + Debug + From<R>,
    R: From<T> + Serialize + DeserializeOwned,
{
    let read = |row: &str| from_json::<R>(row).map(T::from);
    compare(golden, values, read, |value| to_json(&R::from(value.clone())));
}

#[test]
fn shares_have_the_form_of_version_1() {
    compare_records::<Share, super::share::ShareRecord>(golden!("share"), &samples::shares());
}

#[test]
fn errors_have_the_form_of_version_1() {
    compare_records::<Error, super::error::ErrorRecord>(golden!("error"), &samples::errors());
}

#[test]
fn held_slots_have_the_form_of_version_1() {
    compare_records::<HeldSlots, super::usage::HeldSlotsRecord>(golden!("held_slots"), &samples::held_slots());
}

fn compare_results<T: StoredResult + PartialEq + Debug>(golden: &str, results: &[Result<T, Error>]) {
    compare(golden, results, result::read::<T>, |result| {
        result::write(result.clone())
    });
}

#[test]
fn results_have_the_form_of_version_1() {
    compare_results(golden!("answer_of_lead"), &samples::lead_results());
    compare_results(golden!("answer_of_activity"), &samples::activity_results());
    compare_results(golden!("answer_of_share"), &samples::share_results());
}

#[test]
fn states_have_the_numbers_of_version_1() {
    let states = [
        (1, ShareState::Pending),
        (2, ShareState::Submitted),
        (3, ShareState::Processing),
        (4, ShareState::Active),
        (5, ShareState::Expired),
        (6, ShareState::Failed),
        (7, ShareState::Revoking),
        (8, ShareState::Revoked),
        (9, ShareState::Uncertain),
    ];
    for (number, state) in states {
        assert_eq!(super::change::number_of(state), number);
        assert_eq!(super::change::state_of(number), Some(state));
    }
    for number in [0, 10, -1, i64::MAX] {
        assert_eq!(super::change::state_of(number), None);
    }
}

/// The names of all variants of an enum, from the error for an unknown name.
fn variants<R: DeserializeOwned + Debug>() -> Vec<String> {
    let error = serde_json::from_str::<R>(r#""?""#).unwrap_err().to_string();
    let names: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
    assert!(names.len() > 1, "{error}");
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_variant_has_a_golden_row() {
    use super::{error, share, value};
    let errors = [
        variants::<error::ErrorKindRecord>(),
        variants::<error::RefusalRecord>(),
        variants::<error::ResourceRecord>(),
        variants::<error::RecoveryRecord>(),
        variants::<error::CauseRecord>(),
        variants::<error::CertificateRecord>(),
    ];
    let shares = [
        variants::<share::SharedEntityRecord>(),
        variants::<share::ShareContextRecord>(),
        variants::<share::AccessRecord>(),
        variants::<share::ShareStageRecord>(),
        variants::<share::ShareStepRecord>(),
        variants::<value::ValueRecord>(),
    ];
    for (golden, names) in [(golden!("error"), errors.concat()), (golden!("share"), shares.concat())] {
        for name in names {
            assert!(golden.contains(&format!("\"{name}\"")), "{name}");
        }
    }
}

#[test]
fn fields_that_are_missing_in_the_oldest_documents_have_a_default() {
    let mut document: serde_json::Value = from_json(golden!("share").lines().next().unwrap()).unwrap();
    let mut remove = |parent: &str, names: [&str; 4]| {
        let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        for name in names {
            parent.remove(name).unwrap();
        }
    };
    remove("", ["caller", "criticality", "share_again", "sends"]);
    remove("/failure/facts", ["is_page", "share_id", "cause", "repeat"]);
    let record: super::share::ShareRecord = from_json(&document.to_string()).unwrap();
    let mut expected = samples::shares().swap_remove(0);
    let details = &mut expected.failure.as_mut().unwrap().details;
    (details.is_page, details.share_id, details.cause, details.recovery) = (false, None, None, None);
    let expected = Share {
        caller: String::new(),
        criticality: String::new(),
        share_again: false,
        attempts: 0,
        ..expected
    };
    assert_eq!(Share::from(record), expected);
}

#[test]
fn a_later_version_is_not_read() {
    let first = |golden: &str| golden.lines().next().unwrap().to_owned();
    let with = |row: &str, version| row.replacen('{', &format!("{{\"version\":{version},"), 1);
    let share = first(golden!("share"));
    assert!(from_json::<super::share::ShareRecord>(&with(&share, 1)).is_ok());
    let error = from_json::<super::share::ShareRecord>(&with(&share, 2)).unwrap_err();
    assert_eq!(error, "the content has an unexpected value at version");
    let slots = first(golden!("held_slots"));
    assert!(from_json::<super::usage::HeldSlotsRecord>(&with(&slots, 1)).is_ok());
    assert!(from_json::<super::usage::HeldSlotsRecord>(&with(&slots, 2)).is_err());
    let row = first(golden!("answer_of_activity"));
    assert!(result::read::<String>(&row).is_ok());
    assert!(result::read::<String>(&with(&row, 2)).is_err());
}

/// The share as it was added to the old store, before its last state was saved.
fn added(share: &Share) -> Share {
    Share {
        stage: crate::domain::share::ShareStage::ShareQueued,
        changed: share.created,
        failure: None,
        ..share.clone()
    }
}

fn usage() -> QuotaUsage {
    QuotaUsage {
        day: "2027-01-15".to_owned(),
        calls: 7,
        last_grant: Timestamp::from_second(1_800_000_000).unwrap(),
        slots: samples::held_slots().first().cloned(),
    }
}

fn request(id: u128) -> RequestId {
    RequestId {
        id: Uuid::from_u128(id),
        fingerprint: [7; 32],
        is_internal: false,
    }
}

/// Repeats a request. Returns what its work knows about earlier calls, and its result. The work itself fails.
async fn repeated<T: StoredResult>(store: &Store, id: u128) -> (Option<PriorAttempt>, Result<T, Error>) {
    let keep = Duration::from_secs(1_000 * 366 * 86_400);
    let requests = Arc::new(Requests::<T>::new(store.clone(), "south", keep, TaskTracker::new()));
    let entry = requests.enter(request(id), vec![]);
    let (send, prior) = tokio::sync::oneshot::channel();
    let work = |prior| async move {
        send.send(prior).unwrap();
        Err(ErrorKind::OutcomeUnknown.into())
    };
    let call = RequestContext::internal("test", Duration::from_secs(10));
    let result = requests.once(&call, Some(entry), work).await;
    (prior.await.ok(), result)
}

async fn compare_repeated<T: StoredResult + PartialEq + Debug>(
    store: &Store,
    first: u128,
    results: Vec<Result<T, Error>>,
) {
    for (id, result) in (first..).zip(results) {
        assert_eq!(repeated::<T>(store, id).await, (None, result));
    }
}

#[tokio::test]
async fn a_store_of_version_1_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    std::fs::copy(Path::new(OLD_STORE), &file).unwrap();
    let store = Store::open(&format!("sqlite://{}", file.display())).await.unwrap();
    assert_eq!(store.find_damaged().await, Ok(vec![]));

    let mut shares = samples::shares();
    shares.truncate(OLD_SHARES);
    for share in &shares {
        assert_eq!(store.share("south", share.id).await, Ok(Some(share.clone())));
        let change = |share: &Share| ShareChange {
            state: share.state(),
            at: Timestamp::from_millisecond(share.changed.as_millisecond()).unwrap(),
            failure: share.failure.as_ref().map_or("", Error::name).to_owned(),
        };
        let history = store.share_history("south", share.id).await;
        assert_eq!(history, Ok(vec![change(&added(share)), change(share)]));
    }
    let unsettled: Vec<Share> = shares
        .iter()
        .filter(|share| share.stage.is_in_progress())
        .cloned()
        .collect();
    assert_eq!(store.shares_in_progress("south").await, Ok(unsettled));
    shares.reverse();
    let all = ShareFilter {
        limit: 100,
        ..ShareFilter::default()
    };
    assert_eq!(store.shares("south", &all).await, Ok(shares));

    compare_repeated(&store, 10, samples::lead_results()).await;
    compare_repeated(&store, 20, samples::activity_results()).await;
    compare_repeated(&store, 30, samples::share_results()).await;
    let (prior, _) = repeated::<Uuid>(&store, 40).await;
    let since = Timestamp::from_second(1_800_000_000).unwrap();
    assert_eq!(prior, Some(PriorAttempt::OutcomeUnknown { since }));
    assert_eq!(repeated::<Uuid>(&store, 41).await.0, Some(PriorAttempt::None));

    assert_eq!(store.quota_usage("south").await, Ok(Some(usage())));
    assert!(store.quota_usage("acme").await.unwrap().unwrap().slots.is_some());
}
