//! Generated values: every value that is written is read as the same value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{in_memory, request, share};
use crate::context::RequestContext;
use crate::domain::lead::WriteResult;
use crate::domain::share::{Access, Share, ShareContext, ShareFilter, ShareStage, ShareStep, SharedEntity};
use crate::domain::value::{FieldSet, Value};
use crate::error::{
    Cause, Certificate, Denial, Error, ErrorKind, FailureDetails, Outcome, Recovery, Resource, Violation,
};
use crate::store::{AddShareResult, Requests};

/// Every kind of error with any content, except kinds that are never stored.
fn any_error() -> impl Strategy<Value = Error> {
    let text = || any::<String>();
    let retry = || (0..u64::MAX, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n));
    let violations = proptest::collection::vec((text(), text()).prop_map(|(a, b)| Violation::new(a, b)), 0..3);
    let resource = prop_oneof![
        Just(Resource::Lead),
        Just(Resource::User),
        Just(Resource::Activity),
        Just(Resource::Opportunity),
        Just(Resource::Share)
    ];
    let plain = proptest::sample::select(vec![
        ErrorKind::FeatureDisabled,
        ErrorKind::NotASalesUser,
        ErrorKind::ShareLimitReached,
        ErrorKind::ShareNotActive,
        ErrorKind::ShareNotRetryable,
        ErrorKind::Exception,
        ErrorKind::OutcomeUnknown,
        ErrorKind::StoreUnavailable,
        ErrorKind::StoreUnreadable,
        ErrorKind::ShuttingDown,
        ErrorKind::CallerCancelled,
        ErrorKind::CallerUnknown,
        ErrorKind::CallerNotAllowed(Denial::Method),
        ErrorKind::CallerNotAllowed(Denial::Tenant),
        ErrorKind::AuditUnavailable,
    ]);
    let kind = prop_oneof![
        violations.clone().prop_map(ErrorKind::Invalid),
        violations.prop_map(|violations| ErrorKind::CallerNotAllowed(Denial::Fields(violations))),
        (proptest::option::of(text()), proptest::option::of(text()))
            .prop_map(|(attribute, lead_id)| ErrorKind::Duplicate { attribute, lead_id }),
        resource.prop_map(ErrorKind::NotFound),
        retry().prop_map(|retry_after| ErrorKind::DeadlineInfeasible { retry_after }),
        retry().prop_map(|retry_after| ErrorKind::CallerLimit { retry_after }),
        retry().prop_map(|retry_after| ErrorKind::QueueFull { retry_after }),
        retry().prop_map(|retry_after| ErrorKind::CallerRpcLimit { retry_after }),
        retry().prop_map(|retry_after| ErrorKind::BreakerOpen { retry_after }),
        proptest::option::of(text()).prop_map(|suggested_host| ErrorKind::CredentialsRejected { suggested_host }),
        any::<Option<u128>>().prop_map(|by| ErrorKind::ShareExists {
            by: by.map(Uuid::from_u128)
        }),
        any::<bool>().prop_map(|sent| ErrorKind::Unavailable { sent }),
        (any::<usize>(), any::<usize>(), proptest::option::of(text()))
            .prop_map(|(bytes, limit, lead_id)| { ErrorKind::ResponseTooLarge { bytes, limit, lead_id } }),
        text().prop_map(|place| ErrorKind::DeadlineExceeded { place: place.into() }),
        text().prop_map(|path| ErrorKind::Unreadable { path }),
        plain,
    ];
    let details = (
        any::<Option<u16>>(),
        proptest::option::of(text()),
        any::<bool>(),
        any::<u32>(),
        proptest::option::of(retry()),
    );
    (kind, details, any::<Option<u128>>()).prop_map(|(kind, (status, exception, is_page, attempts, queued), share)| {
        let mut error = Error::from(kind);
        *error.details = FailureDetails {
            upstream_status: status,
            exception_type: exception,
            is_page,
            attempts,
            queued: queued.unwrap_or_default(),
            share_id: share.map(Uuid::from_u128),
            cause: Some(Cause::Certificate(Certificate::Expired)).filter(|_| is_page),
            recovery: queued.map(|after| Recovery::SameRequestId { after }),
        };
        error
    })
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    let seconds = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
    let time = (seconds, 0..1_000_000_000).prop_map(|(s, n)| Timestamp::new(s, n).unwrap_or(Timestamp::MIN));
    prop_oneof![time, Just(Timestamp::MIN), Just(Timestamp::MAX)]
}

/// Every value that a field of an activity can have.
fn any_value() -> impl Strategy<Value = Value> {
    let finite = any::<f64>().prop_filter("messages with other numbers are rejected", |number| number.is_finite());
    let set = (any::<String>(), any::<BTreeMap<String, String>>());
    prop_oneof![
        any::<String>().prop_map(Value::Text),
        finite.prop_map(Value::Number),
        proptest::sample::select(vec![-0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e21, 0.1]).prop_map(Value::Number),
        any::<i64>().prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Flag),
        any_time().prop_map(Value::Time),
        set.prop_map(|(value, fields)| Value::FieldSet(FieldSet { value, fields })),
    ]
}

fn any_share() -> impl Strategy<Value = Share> {
    let fields = proptest::collection::btree_map(any::<String>(), any_value(), 0..4);
    let new = (any::<Option<String>>(), any::<i32>(), any::<String>(), fields)
        .prop_map(|(id, code, note, fields)| ShareContext::New { id, code, note, fields });
    let given = any::<String>().prop_map(|id| ShareContext::Existing { id });
    let lead = (any::<String>(), any::<String>(), prop_oneof![new, given])
        .prop_map(|(id, number, context)| SharedEntity::Lead { id, number, context });
    let entity = prop_oneof![3 => lead, 1 => any::<String>().prop_map(|id| SharedEntity::Opportunity { id })];
    let texts = (
        any::<String>(),
        any::<String>(),
        any::<String>(),
        any::<Option<String>>(),
    );
    let times = (any_time(), any_time(), proptest::option::of(any_time()));
    let flags = any::<[bool; 5]>();
    let state = (
        proptest::sample::select(ShareStage::ALL.to_vec()),
        proptest::option::of(any_error()),
    );
    (entity, texts, times, flags, state, any::<(u128, u128, u32)>()).prop_map(
        |(entity, (user, caller, class, upstream), (created, changed, other), flags, (stage, failure), ids)| Share {
            caller,
            criticality: class,
            stage,
            failure,
            created,
            changed,
            last_requested: other,
            granted: other,
            expires: other,
            revoke_requested: flags[0],
            possibly_granted_before: flags[1],
            posted_again: flags[2],
            additional: flags[3],
            step: Some(ShareStep::Share).filter(|_| flags[4]),
            upstream_request_id: upstream,
            request_id: Some(Uuid::from_u128(ids.1)),
            extends: Some(Uuid::from_u128(ids.1)).filter(|_| flags[4]),
            ..Share::new(Uuid::from_u128(ids.0), entity, user, Access::Read, ids.2, created)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_share_is_read_as_it_was_written(share in any_share(), later in any_share()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = in_memory().await;
            let added = store.add_share("acme", &share, None).await;
            prop_assert!(matches!(added, Ok(AddShareResult::Added { .. })), "{added:?}");
            prop_assert_eq!(store.share("acme", share.id).await, Ok(Some(share.clone())));
            // The share changes.
            let later = Share {
                id: share.id,
                user_id: share.user_id.clone(),
                request_id: share.request_id,
                entity: match (&share.entity, later.entity) {
                    (SharedEntity::Lead { id, number, .. }, SharedEntity::Lead { context, .. }) => SharedEntity::Lead {
                        id: id.clone(),
                        number: number.clone(),
                        context,
                    },
                    _ => share.entity.clone(),
                },
                ..later
            };
            store.save_share("acme", &later, true).await.unwrap();
            let all = ShareFilter { limit: 10, ..ShareFilter::default() };
            prop_assert_eq!(store.shares("acme", &all).await, Ok(vec![later.clone()]));
            prop_assert_eq!(store.share_history("acme", share.id).await.unwrap().len(), 2);
            prop_assert_eq!(store.find_damaged().await, Ok(vec![]));
            Ok(())
        })?;
    }

    #[test]
    fn every_result_of_a_request_is_read_as_it_was_written(
        error in any_error(),
        lead_id: String,
        affected_rows: i32,
        created: Option<bool>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = in_memory().await;
            let day = Duration::from_secs(86_400);
            let requests_of_tenant = || Arc::new(Requests::new(store.clone(), "acme", day, TaskTracker::new()));
            let context = || RequestContext::internal("test", Duration::from_secs(10));
            let success = WriteResult { lead_id, affected_rows, created };
            for (id, result) in [(1, Ok(success)), (2, Err(error))] {
                let is_kept = matches!(Outcome::of_mutation(&result), Outcome::Executed | Outcome::Rejected);
                let first = result.clone();
                let (requests, entry) = (requests_of_tenant(), request(id));
                let entry = requests.enter(entry, vec![]);
                let recorded = entry.recorded(&context());
                let work = |_| async move {
                    recorded.begin().await?;
                    first
                };
                let returned = requests.once(&context(), Some(entry), work).await;
                prop_assert_eq!(&returned, &result);
                if is_kept {
                    let requests = requests_of_tenant();
                    let entry = requests.enter(request(id), vec![]);
                    let again = requests.once(&context(), Some(entry), |_| async { Err(ErrorKind::CallerCancelled.into()) }).await;
                    prop_assert_eq!(again, result);
                }
            }
            prop_assert_eq!(store.find_damaged().await, Ok(vec![]));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_share_that_would_change_when_read_again_is_not_written() {
    let store = in_memory().await;
    let good = share(1, "sam", "l1");
    store.add_share("acme", &good, None).await.unwrap();
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let bad = |id| Share {
            entity: SharedEntity::Lead {
                id: "l1".to_owned(),
                number: "1".to_owned(),
                context: ShareContext::New {
                    id: None,
                    code: 201,
                    note: String::new(),
                    fields: BTreeMap::from([("mx_Score".to_owned(), Value::Number(number))]),
                },
            },
            ..share(id, "sam", "l1")
        };
        let error = store.add_share("acme", &bad(2), None).await;
        assert!(matches!(error, Ok(AddShareResult::Conflict(_))), "{error:?}");
        let other = Share {
            user_id: "sita".to_owned(),
            ..bad(2)
        };
        let error = store.add_share("acme", &other, None).await.unwrap_err();
        assert!(
            error.to_string().starts_with("the store cannot be written: a share: "),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
        assert!(store.save_share("acme", &bad(1), true).await.is_err());
    }
    assert_eq!(store.share("acme", good.id).await, Ok(Some(good)));
    assert_eq!(store.share("acme", Uuid::from_u128(2)).await, Ok(None));
}
