//! The rows that older versions have written are read, and the same rows are written.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Answer, answer, samples};
use crate::context::{RequestContext, RequestId};
use crate::domain::share::{Share, ShareChange, ShareFilter, ShareState};
use crate::domain::usage::{HeldSlots, QuotaUsage};
use crate::error::{Error, ErrorKind};
use crate::store::damage::{from_json, to_json};
use crate::store::{Before, Requests, Store};

/// A store that was written before there were records: `samples` as the tenant "south", and what a gateway has left as "acme".
const OLD_STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/records/store.sqlite");

/// The number of shares that it has of the samples.
const OLD_SHARES: usize = 15;

/// The golden rows of a file.
macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../../tests/golden/records/", $name, ".jsonl"))
    };
}

/// Compares golden rows with values, in both directions.
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

fn compare_answers<T: Answer + PartialEq + Debug>(golden: &str, answers: &[Result<T, Error>]) {
    compare(golden, answers, answer::read::<T>, |answer| {
        answer::write(answer.clone())
    });
}

#[test]
fn answers_have_the_form_of_version_1() {
    compare_answers(golden!("answer_of_lead"), &samples::lead_answers());
    compare_answers(golden!("answer_of_activity"), &samples::activity_answers());
    compare_answers(golden!("answer_of_share"), &samples::share_answers());
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

/// The names of all variants of an enum, out of the error for a name that is none of them.
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
        variants::<error::RepeatRecord>(),
        variants::<error::CauseRecord>(),
        variants::<error::Certificate>(),
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
fn fields_that_the_oldest_documents_lack_have_a_default() {
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
        sends: 0,
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
    let fault = from_json::<super::share::ShareRecord>(&with(&share, 2)).unwrap_err();
    assert_eq!(fault, "the content has an unexpected value at version");
    let slots = first(golden!("held_slots"));
    assert!(from_json::<super::usage::HeldSlotsRecord>(&with(&slots, 1)).is_ok());
    assert!(from_json::<super::usage::HeldSlotsRecord>(&with(&slots, 2)).is_err());
    let answer = first(golden!("answer_of_activity"));
    assert!(answer::read::<String>(&answer).is_ok());
    assert!(answer::read::<String>(&with(&answer, 2)).is_err());
}

/// The state of a share as it is added to the old store, before what it becomes is saved.
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
    }
}

/// What a repeated request with that id returns; its own work fails.
async fn repeated<T: Answer>(store: &Store, id: u128) -> (Option<Before>, Result<T, Error>) {
    let keep = Duration::from_secs(1_000 * 366 * 86_400);
    let requests = Arc::new(Requests::<T>::new(store.clone(), "south", keep, TaskTracker::new()));
    let entry = requests.enter(request(id));
    let (send, begun) = tokio::sync::oneshot::channel();
    let work = |before| async move {
        send.send(before).unwrap();
        Err(ErrorKind::OutcomeUnknown.into())
    };
    let call = RequestContext::internal("test", Duration::from_secs(10));
    let result = requests.once(&call, Some(entry), work).await;
    (begun.await.ok(), result)
}

async fn compare_repeated<T: Answer + PartialEq + Debug>(store: &Store, first: u128, answers: Vec<Result<T, Error>>) {
    for (id, answer) in (first..).zip(answers) {
        assert_eq!(repeated::<T>(store, id).await, (None, answer));
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
        .filter(|share| share.stage.is_unsettled())
        .cloned()
        .collect();
    assert_eq!(store.unsettled_shares("south").await, Ok(unsettled));
    shares.reverse();
    let all = ShareFilter {
        most: 100,
        ..ShareFilter::default()
    };
    assert_eq!(store.shares("south", &all).await, Ok(shares));

    compare_repeated(&store, 10, samples::lead_answers()).await;
    compare_repeated(&store, 20, samples::activity_answers()).await;
    compare_repeated(&store, 30, samples::share_answers()).await;
    let (before, _) = repeated::<Uuid>(&store, 40).await;
    let since = Timestamp::from_second(1_800_000_000).unwrap();
    assert_eq!(before, Some(Before::Uncertain { since }));
    assert_eq!(repeated::<Uuid>(&store, 41).await.0, Some(Before::Nothing));

    assert_eq!(store.quota_usage("south").await, Ok(Some(usage())));
    assert!(store.quota_usage("acme").await.unwrap().unwrap().slots.is_some());
}
