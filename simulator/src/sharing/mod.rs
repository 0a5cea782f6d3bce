//! The endpoints that share, revoke, and return the status of a request. The names of their exceptions are assumptions:
//! they are neither documented nor observed.

pub(crate) mod store;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::handlers::Handler;
use crate::http::response::{Exception, Failure, Response, Result};
use crate::sharing::store::{LEAD, OPPORTUNITY, PROCESSED, ShareItem, ShareRequest, SharingContext};
use crate::{RevokeUnshared, ShareFailures, UnknownRequest};

/// The `EntityType` of a user, the only one with which an entity can be shared.
const USER: i64 = 3;
/// The `ContextEntity` of an activity, through which an entity is shared.
const ACTIVITY: i64 = 1;

/// An opportunity of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpportunitySpec {
    /// The GUID.
    pub id: String,
    /// The id of the user that owns the opportunity.
    pub owner: String,
}

/// An entity in the body of a share or revoke request.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RequestedItem {
    user_id: Option<String>,
    entity: Option<LenientI64>,
    entity_type: Option<LenientI64>,
    entity_id: Option<String>,
    context_entity: Option<LenientI64>,
    context_entity_id: Option<String>,
    access_type: Option<LenientI64>,
    duration_in_minutes: Option<LenientI64>,
}

/// A signed integer as a JSON number or as a string.
#[derive(Clone, Copy, PartialEq, Eq)]
struct LenientI64(i64);

impl<'de> Deserialize<'de> for LenientI64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = match &value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_i64(),
        };
        let wrong = || serde::de::Error::custom(format!("{value} is no whole number"));
        number.map(Self).ok_or_else(wrong)
    }
}

impl Handler<'_> {
    pub(crate) fn share(self) -> Result<Response> {
        let items = self.items(false)?;
        if self.tenant.options.share_failures == ShareFailures::AtOnce {
            store::check_permission(self.tenant)?;
            let context = self.context();
            items
                .iter()
                .try_for_each(|item| self.shares.check_share(item, &context, self.now))?;
        }
        Ok(self.accept(false, items))
    }

    pub(crate) fn revoke(self) -> Result<Response> {
        let items = self.items(true)?;
        let options = &self.tenant.options;
        if options.share_failures == ShareFailures::AtOnce {
            store::check_permission(self.tenant)?;
        }
        if options.revoke_unshared == RevokeUnshared::AtOnce {
            items
                .iter()
                .try_for_each(|item| self.shares.check_revoke(item, self.tenant, self.now))?;
        }
        Ok(self.accept(true, items))
    }

    pub(crate) fn share_status(self) -> Result<Response> {
        let options = &self.tenant.options;
        let id = self.parameter("id")?;
        match (
            self.shares.poll(id, self.tenant, self.now),
            options.share_unknown_request,
        ) {
            (Some(request), _) => Ok(self.status(&request)),
            (None, UnknownRequest::Exception) => Err(Exception::invalid("Invalid Input! Parameter Name: id")),
            (None, UnknownRequest::NotFound) => Err(Failure::NotFound),
            (None, UnknownRequest::Pending) => Ok(status_response(
                "Request is being processed.",
                options.share_status_pending,
                None,
            )),
        }
    }

    fn accept(self, revoke: bool, items: Vec<ShareItem>) -> Response {
        let id = self.shares.accept(revoke, items, self.tenant, self.now);
        Response::success(Some(json!({"Id": id})))
    }

    fn context(&self) -> SharingContext<'_> {
        SharingContext {
            tenant: self.tenant,
            leads: self.leads,
            activities: self.activities,
        }
    }

    fn status(&self, request: &ShareRequest) -> Response {
        let options = &self.tenant.options;
        if let Some(error) = &request.error {
            return status_response("Request failed.", options.share_status_failed, Some(error));
        }
        if request.done {
            let number = if request.revoke {
                options.revoke_status_done
            } else {
                PROCESSED
            };
            return status_response("Request processed successfully.", number, None);
        }
        let numbers = &options.share_status_unknown_numbers;
        let index = (request.polls.saturating_sub(1) as usize).checked_rem(numbers.len());
        let number = index.map_or(options.share_status_pending, |index| numbers[index]);
        status_response("Request is being processed.", number, None)
    }

    fn items(&self, revoke: bool) -> Result<Vec<ShareItem>> {
        let options = &self.tenant.options;
        let bare = self.body.trim_ascii_start().starts_with(b"{");
        let requested: Vec<RequestedItem> = match bare && options.share_bare_object_tolerated {
            true => vec![self.body()?],
            false => self.body()?,
        };
        let max = options.share_max_items as usize;
        if requested.is_empty() || max > 0 && requested.len() > max {
            return Err(Exception::invalid("Invalid Input! Number of items"));
        }
        let default_minutes = i64::from(options.share_default_minutes);
        requested
            .into_iter()
            .map(|requested| requested.item(revoke, default_minutes))
            .collect()
    }
}

impl RequestedItem {
    /// Validates the item. All parameters are mandatory, except the duration, and except the access type of a revoke
    /// request. `default_minutes` is the duration if the request has none.
    fn item(self, revoke: bool, default_minutes: i64) -> Result<ShareItem> {
        let entity = number("Entity", self.entity, &[LEAD.into(), OPPORTUNITY.into()])?;
        number("EntityType", self.entity_type, &[USER])?;
        let activity_id = if entity == i64::from(LEAD) {
            number("ContextEntity", self.context_entity, &[ACTIVITY])?;
            Some(text("ContextEntityId", self.context_entity_id)?)
        } else if self.context_entity.is_some() || self.context_entity_id.is_some() {
            // The parameter is documented as absent. An error makes a mistake of the client visible.
            return Err(wrong("ContextEntity"));
        } else {
            None
        };
        let access = match self.access_type {
            None if revoke => 1,
            given => number("AccessType", given, &[1, 2])?,
        };
        Ok(ShareItem {
            user_id: text("UserId", self.user_id)?,
            entity: if entity == i64::from(LEAD) { LEAD } else { OPPORTUNITY },
            entity_id: text("EntityId", self.entity_id)?,
            activity_id,
            access: if access == 1 { 1 } else { 2 },
            minutes: self.duration_in_minutes.map_or(default_minutes, |minutes| minutes.0),
        })
    }
}

fn status_response(text: &str, number: i64, error: Option<&str>) -> Response {
    Response::json(
        200,
        &json!({
            "Status": "Success",
            "Message": {"ResponseText": text},
            "ShareStatus": number,
            "ErrorMessage": error,
        }),
    )
}

fn text(name: &str, given: Option<String>) -> Result<String> {
    let given = given.filter(|given| !given.is_empty());
    given.ok_or_else(|| Exception::missing(format!("'{name}' is mandatory")))
}

fn number(name: &str, given: Option<LenientI64>, known: &[i64]) -> Result<i64> {
    let given = given.ok_or_else(|| Exception::missing(format!("'{name}' is mandatory")))?;
    known.contains(&given.0).then_some(given.0).ok_or_else(|| wrong(name))
}

fn wrong(name: &str) -> Failure {
    Exception::invalid(format!("Invalid Input! Parameter Name: {name}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::TestServer;
    use crate::{Fault, FaultKind, Options, Reshare, RevokeWrongAccess, SharedAccess};
    use jiff::SignedDuration;
    use std::time::Duration;

    const ASHA: &str = "a0000000-0000-4000-8000-000000000001";
    const SAM: &str = "a0000000-0000-4000-8000-000000000002";
    const LATA: &str = "a0000000-0000-4000-8000-000000000003";
    const SITA: &str = "a0000000-0000-4000-8000-000000000004";

    /// An account with a lead and an activity of the lead that Sam owns.
    struct SharingTest {
        server: TestServer,
        lead: String,
        activity: String,
    }

    impl SharingTest {
        fn new(change: impl FnOnce(&mut Options)) -> Self {
            let server = TestServer::new(change);
            let lead = server.simulator.insert_lead(&[("FirstName", "Ann")]);
            let activity = server.simulator.insert_activity(&lead, 201, &[("Owner", SAM)]);
            Self { server, lead, activity }
        }

        fn item(&self) -> Value {
            json!({
                "UserId": SAM, "Entity": 1, "EntityType": 3, "EntityId": "1001",
                "ContextEntity": 1, "ContextEntityId": self.activity,
                "AccessType": 2, "DurationInMinutes": 30,
            })
        }

        fn with(&self, name: &str, value: Value) -> Value {
            let mut item = self.item();
            item[name] = value;
            item
        }

        async fn call(&self, name: &str, item: Value) -> (u16, Value) {
            self.server
                .post(&format!("/v2/EntityAccess.svc/{name}"), json!([item]))
                .await
        }

        /// Sends a request, asserts that it is accepted, and returns its id.
        async fn request(&self, name: &str, item: Value) -> String {
            let (status, response) = self.call(name, item).await;
            assert_eq!(status, 200, "{response}");
            response["Message"]["Id"].as_str().unwrap().into()
        }

        async fn poll(&self, id: &str) -> (u16, Value) {
            self.server
                .get(&format!("/v2/EntityAccess.svc/Status/Get?id={id}"))
                .await
        }

        /// Sends a request, asserts that it is accepted, polls until it is processed, and returns the last status.
        async fn done(&self, name: &str, item: Value) -> Value {
            let id = self.request(name, item).await;
            self.poll(&id).await;
            self.poll(&id).await.1
        }

        fn shares(&self) -> Vec<SharedAccess> {
            self.server.simulator.shares()
        }
    }

    fn minutes(share: &SharedAccess) -> i64 {
        share.expires.duration_since(share.granted).as_mins()
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_is_accepted_and_processed_and_expires() {
        let test = SharingTest::new(|_| {});
        let id = test.request("Share", test.item()).await;
        assert!(
            id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{id}"
        );
        assert!(test.shares().is_empty());
        let (status, response) = test.poll(&id).await;
        assert_eq!((status, &response["ShareStatus"]), (200, &json!(1)));
        let response = test.poll(&id).await.1;
        assert_eq!(
            response,
            json!({
                "Status": "Success",
                "Message": {"ResponseText": "Request processed successfully."},
                "ShareStatus": 6,
                "ErrorMessage": null,
            })
        );
        let shares = test.shares();
        assert_eq!((shares.len(), shares[0].access, minutes(&shares[0])), (1, 2, 30));
        assert_eq!(shares[0].activity_id.as_deref(), Some(test.activity.as_str()));
        assert_eq!(
            (shares[0].user_id.as_str(), shares[0].entity_id.as_str()),
            (SAM, "1001")
        );
        tokio::time::advance(Duration::from_secs(30 * 60)).await;
        assert!(test.shares().is_empty());
        let requests = test.server.simulator.share_requests();
        assert_eq!((requests.len(), requests[0].polls, requests[0].done), (1, 2, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_processed_after_its_polls_and_its_delay() {
        let test = SharingTest::new(|options| {
            options.share_polls = 3;
            options.share_delay = Duration::from_secs(10);
            options.share_status_unknown_numbers = vec![2, -9];
        });
        let id = test.request("Share", test.item()).await;
        let accepted = test.server.simulator.share_requests()[0].accepted;
        let mut numbers = Vec::new();
        for _ in 0..4 {
            numbers.push(test.poll(&id).await.1["ShareStatus"].clone());
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        numbers.push(test.poll(&id).await.1["ShareStatus"].clone());
        assert_eq!(numbers, [2, -9, 2, -9, 6]);
        let share = &test.shares()[0];
        assert_eq!(share.granted.duration_since(accepted), SignedDuration::from_secs(10));
    }

    #[tokio::test]
    async fn a_request_without_polls_and_delay_is_processed_immediately() {
        let test = SharingTest::new(|options| options.share_polls = 0);
        test.request("Share", test.item()).await;
        assert_eq!(test.shares().len(), 1);
        assert_eq!(test.server.simulator.stats().shares, 1);
    }

    #[tokio::test]
    async fn invalid_parameters_are_rejected_immediately() {
        let test = SharingTest::new(|options| {
            options.share_failures = ShareFailures::Later;
            options.share_max_items = 1;
        });
        let (missing, invalid) = ("MXMandatoryFieldMissingException", "MXInvalidInputException");
        for (name, value, status, kind) in [
            ("UserId", Value::Null, 500, missing),
            ("ContextEntityId", Value::Null, 500, missing),
            ("AccessType", Value::Null, 500, missing),
            ("AccessType", json!(3), 500, invalid),
            ("Entity", json!(2), 500, invalid),
            ("EntityType", json!(1), 500, invalid),
            ("EntityId", json!(1001), 400, invalid),
            ("DurationInMinutes", json!("soon"), 400, invalid),
        ] {
            let (given, response) = test.call("Share", test.with(name, value.clone())).await;
            assert_eq!(
                (given, &response["ExceptionType"]),
                (status, &json!(kind)),
                "{name} {value}"
            );
        }
        let share = "/v2/EntityAccess.svc/Share";
        for items in [json!([]), json!([test.item(), test.item()])] {
            assert_eq!(test.server.post(share, items).await.0, 500);
        }
        assert_eq!(test.server.post(share, test.item()).await.0, 400);
        test.server
            .simulator
            .set_options(|options| options.share_bare_object_tolerated = true);
        assert_eq!(test.server.post(share, test.item()).await.0, 200);
    }

    /// An item, a change of the options, and the error of the item.
    type InvalidItem = (Value, fn(&mut Options), &'static str);

    fn invalid_items(test: &SharingTest) -> Vec<InvalidItem> {
        let other = test.server.simulator.insert_lead(&[("FirstName", "Bob")]);
        let elsewhere = test.server.simulator.insert_activity(&other, 201, &[("Owner", SAM)]);
        let call = test.server.simulator.insert_activity(&test.lead, 21, &[("Owner", SAM)]);
        let nothing: fn(&mut Options) = |_| {};
        vec![
            (test.with("UserId", json!("nobody")), nothing, "User not found"),
            (test.with("UserId", json!(LATA)), nothing, "User is not active"),
            (test.with("UserId", json!(ASHA)), nothing, "User is not a sales user"),
            (
                test.with("UserId", json!(SITA)),
                nothing,
                "User is not the owner of the activity",
            ),
            (test.with("EntityId", json!("7")), nothing, "Lead not found"),
            (test.with("EntityId", json!(test.lead)), nothing, "Lead not found"),
            (test.with("EntityId", json!("01001")), nothing, "Lead not found"),
            (
                test.with("ContextEntityId", json!("x")),
                nothing,
                "Activity does not exist.",
            ),
            (
                test.with("ContextEntityId", json!(elsewhere)),
                nothing,
                "Activity is not of the lead",
            ),
            (
                test.with("ContextEntityId", json!(call)),
                |options| options.share_custom_activities_only = true,
                "Activity is not a custom activity",
            ),
            (
                test.with("DurationInMinutes", json!(0)),
                nothing,
                "Invalid Input! Parameter Name: DurationInMinutes",
            ),
            (
                test.item(),
                |options| options.share_max_minutes = 29,
                "Invalid Input! Parameter Name: DurationInMinutes",
            ),
            (
                test.item(),
                |options| options.sharing_enabled = false,
                "Entity Sharing is not enabled for your account",
            ),
            (
                test.item(),
                |options| options.role = "Sales_User".into(),
                "Only an administrator can share or revoke",
            ),
        ]
    }

    #[tokio::test]
    async fn an_invalid_share_fails_immediately_or_later() {
        for failures in [ShareFailures::AtOnce, ShareFailures::Later] {
            let test = SharingTest::new(|options| options.share_failures = failures);
            for (item, change, message) in invalid_items(&test) {
                let before = test.server.simulator.shared.lock().tenant.options.clone();
                test.server.simulator.set_options(change);
                if failures == ShareFailures::AtOnce {
                    let (status, response) = test.call("Share", item).await;
                    assert_eq!((status, &response["ExceptionMessage"]), (500, &json!(message)));
                } else {
                    let response = test.done("Share", item).await;
                    let found = (&response["Status"], &response["ShareStatus"], &response["ErrorMessage"]);
                    assert_eq!(found, (&json!("Success"), &json!(7), &json!(message)));
                }
                test.server.simulator.set_options(|options| *options = before);
            }
            assert!(test.shares().is_empty());
        }
    }

    #[tokio::test]
    async fn a_pending_share_that_becomes_invalid_fails_later() {
        let test = SharingTest::new(|_| {});
        let id = test.request("Share", test.item()).await;
        test.server.simulator.delete_lead(&test.lead);
        test.poll(&id).await;
        assert_eq!(test.poll(&id).await.1["ErrorMessage"], "Lead not found");
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_shares_of_a_user_is_limited() {
        let test = SharingTest::new(|options| {
            options.shares_per_user = 1;
            options.share_polls = 0;
        });
        let second = test
            .server
            .simulator
            .insert_activity(&test.lead, 201, &[("Owner", SAM)]);
        test.request("Share", test.item()).await;
        test.request("Share", test.item()).await;
        let other = || test.with("ContextEntityId", json!(second));
        let (_, response) = test.call("Share", other()).await;
        assert_eq!(response["ExceptionType"], "MXLimitExceededException");
        test.server
            .simulator
            .set_options(|options| options.share_limit_counts_leads = true);
        assert_eq!(test.call("Share", other()).await.0, 500);
        test.server.simulator.set_options(|options| options.shares_per_user = 2);
        assert_eq!(test.call("Share", other()).await.0, 200);
        test.server.simulator.set_options(|options| options.shares_per_user = 1);
        tokio::time::advance(Duration::from_secs(30 * 60)).await;
        assert_eq!(test.call("Share", other()).await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_share_through_one_activity_has_the_configured_effect() {
        for (reshare, expected) in [
            (Reshare::Replace, vec![(1, 10)]),
            (Reshare::Extend, vec![(1, 40)]),
            (Reshare::Duplicate, vec![(2, 30), (1, 10)]),
            (Reshare::Reject, vec![(2, 30)]),
        ] {
            let test = SharingTest::new(|options| {
                options.reshare = reshare;
                options.share_polls = 0;
            });
            test.request("Share", test.item()).await;
            let mut again = test.with("DurationInMinutes", json!(10));
            again["AccessType"] = json!(1);
            let (status, _) = test.call("Share", again).await;
            assert_eq!(status, if reshare == Reshare::Reject { 500 } else { 200 });
            let shares = test.shares();
            let found: Vec<_> = shares.iter().map(|share| (share.access, minutes(share))).collect();
            assert_eq!(found, expected, "{reshare:?}");
        }
    }

    #[tokio::test]
    async fn a_share_without_a_duration_expires_after_ninety_days() {
        let test = SharingTest::new(|options| options.share_polls = 0);
        test.request("Share", test.with("DurationInMinutes", Value::Null)).await;
        assert_eq!(minutes(&test.shares()[0]), 129_600);
    }

    #[tokio::test]
    async fn the_longest_duration_is_accepted() {
        let test = SharingTest::new(|options| options.share_polls = 0);
        for _ in 0..2 {
            test.request("Share", test.with("DurationInMinutes", json!(i64::MAX)))
                .await;
            assert_eq!(test.shares()[0].expires, jiff::Timestamp::MAX);
            test.server
                .simulator
                .set_options(|options| options.reshare = Reshare::Extend);
        }
    }

    #[tokio::test]
    async fn a_revoke_ends_only_the_share_through_its_activity() {
        let test = SharingTest::new(|_| {});
        let second = test
            .server
            .simulator
            .insert_activity(&test.lead, 201, &[("Owner", SAM)]);
        test.done("Share", test.item()).await;
        test.done("Share", test.with("ContextEntityId", json!(second))).await;
        test.server
            .simulator
            .set_options(|options| options.revoke_status_done = 9);
        let response = test.done("Revoke", test.item()).await;
        assert_eq!(
            (&response["ShareStatus"], &response["ErrorMessage"]),
            (&json!(9), &Value::Null)
        );
        let shares = test.shares();
        assert_eq!((shares.len(), shares[0].activity_id.as_ref()), (1, Some(&second)));
    }

    #[tokio::test]
    async fn a_revoke_with_another_access_type_has_the_configured_effect() {
        for (chosen, shares, number) in [
            (RevokeWrongAccess::Fails, 1, 7),
            (RevokeWrongAccess::Ignored, 1, 6),
            (RevokeWrongAccess::Works, 0, 6),
        ] {
            let test = SharingTest::new(|options| options.revoke_wrong_access = chosen);
            test.done("Share", test.item()).await;
            // The default access type of a revoke request is 1. The share has 2.
            let response = test.done("Revoke", test.with("AccessType", Value::Null)).await;
            assert_eq!(
                (test.shares().len(), &response["ShareStatus"]),
                (shares, &json!(number)),
                "{chosen:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_revoke_of_a_missing_share_has_the_configured_effect() {
        let test = SharingTest::new(|_| {});
        let response = test.done("Revoke", test.item()).await;
        assert_eq!(response["ErrorMessage"], "Not shared with the user");
        test.server
            .simulator
            .set_options(|options| options.revoke_unshared = RevokeUnshared::Succeeds);
        assert_eq!(test.done("Revoke", test.item()).await["ShareStatus"], 6);
        test.server
            .simulator
            .set_options(|options| options.revoke_unshared = RevokeUnshared::AtOnce);
        assert_eq!(test.call("Revoke", test.item()).await.0, 500);
    }

    #[tokio::test]
    async fn one_invalid_entity_fails_the_whole_request_or_only_itself() {
        for (all_or_nothing, count) in [(true, 0), (false, 1)] {
            let test = SharingTest::new(|options| {
                options.share_failures = ShareFailures::Later;
                options.share_all_or_nothing = all_or_nothing;
                options.share_polls = 0;
            });
            let items = json!([test.item(), test.with("EntityId", json!("7"))]);
            test.server.post("/v2/EntityAccess.svc/Share", items).await;
            assert_eq!(test.shares().len(), count);
            let requests = test.server.simulator.share_requests();
            assert_eq!(requests[0].error.as_deref(), Some("Lead not found"));
        }
    }

    #[tokio::test]
    async fn an_opportunity_is_shared_without_an_activity() {
        let test = SharingTest::new(|options| {
            let owned = |id: &str, owner: &str| OpportunitySpec {
                id: id.into(),
                owner: owner.into(),
            };
            options.opportunities = vec![owned("o1", ASHA), owned("o2", SAM)];
            options.share_polls = 0;
        });
        let item = |id: &str| json!({"UserId": SAM, "Entity": 5, "EntityType": 3, "EntityId": id, "AccessType": 1});
        test.request("Share", item("o1")).await;
        let share = &test.shares()[0];
        assert_eq!((share.entity, share.activity_id.as_ref()), (5, None));
        let message = async |item| test.call("Share", item).await.1["ExceptionMessage"].clone();
        assert_eq!(message(item("o2")).await, "User is the owner of the opportunity");
        assert_eq!(message(item("o3")).await, "Opportunity not found");
        let mut through = item("o1");
        through["ContextEntity"] = json!(1);
        assert_eq!(message(through).await, "Invalid Input! Parameter Name: ContextEntity");
        test.request("Revoke", item("o1")).await;
        assert!(test.shares().is_empty());
        test.server
            .simulator
            .set_options(|options| options.opportunity_sharing_enabled = false);
        assert_eq!(test.call("Share", item("o1")).await.0, 500);
    }

    #[tokio::test(start_paused = true)]
    async fn the_response_to_an_unknown_request_id_is_configurable() {
        let test = SharingTest::new(|options| options.share_request_lifetime = Duration::from_secs(60));
        let (status, response) = test.poll("x").await;
        assert_eq!(
            (status, &response["ExceptionType"]),
            (500, &json!("MXInvalidInputException"))
        );
        let id = test.request("Share", test.item()).await;
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(test.poll(&id).await.0, 500);
        for (chosen, status) in [(UnknownRequest::NotFound, 404), (UnknownRequest::Pending, 200)] {
            test.server
                .simulator
                .set_options(|options| options.share_unknown_request = chosen);
            let (given, response) = test.poll("x").await;
            assert_eq!(given, status);
            assert_eq!(response["ShareStatus"].is_number(), status == 200);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_advanced_clock_processes_requests_and_ends_shares() {
        let test = SharingTest::new(|options| {
            options.share_polls = 0;
            options.share_delay = Duration::from_secs(600);
        });
        test.request("Share", test.item()).await;
        let advance = |minutes: u64| {
            test.server
                .simulator
                .advance_clock(Duration::from_secs(60 * minutes))
                .unwrap()
        };
        advance(9);
        assert!(test.shares().is_empty());
        // The share of 30 minutes began when the request was due, after 10 minutes.
        advance(30);
        assert_eq!(test.shares().len(), 1);
        advance(2);
        assert!(test.shares().is_empty());
    }

    #[tokio::test]
    async fn a_change_of_the_activity_owner_ends_the_share_if_configured() {
        for ends in [false, true] {
            let test = SharingTest::new(|options| options.owner_change_ends_shares = ends);
            test.done("Share", test.item()).await;
            let body = json!({
                "ProspectActivityId": test.activity,
                "ActivityEvent": 201,
                "Fields": [{"SchemaName": "Owner", "Value": SITA}],
            });
            test.server
                .post("/v2/ProspectActivity.svc/CustomActivity/Update", body)
                .await;
            assert_eq!(test.shares().is_empty(), ends);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn faults_and_the_ordinary_limit_apply_to_sharing() {
        let test = SharingTest::new(|options| {
            options.limits.calls = 2;
            options.limits.bulk = 1;
        });
        test.server
            .simulator
            .add_fault(Fault::new("EntityAccess.Share", FaultKind::CommitThenDrop))
            .unwrap();
        assert_eq!(test.call("Share", test.item()).await.0, 502);
        assert_eq!(test.server.simulator.share_requests().len(), 1);
        test.server
            .simulator
            .add_fault(Fault::new("EntityAccess.Status", FaultKind::Empty503))
            .unwrap();
        assert_eq!(test.poll("x").await.0, 503);
        assert_eq!(test.call("Revoke", test.item()).await.0, 429);
        tokio::time::advance(Duration::from_secs(5)).await;
        let bulk = "/v2/ProspectActivity.svc/Bulk/CustomActivity/Add/ByLeadId";
        assert_eq!(test.server.post(bulk, json!([])).await.0, 200);
        assert_eq!(test.server.post(bulk, json!([])).await.0, 429);
        assert_eq!(test.server.get("/v2/EntityAccess.svc/Share").await.0, 405);
    }

    #[tokio::test]
    async fn the_control_path_returns_activities_shares_and_share_requests() {
        let test = SharingTest::new(|options| options.share_polls = 0);
        test.request("Share", test.item()).await;
        let get = async |name: &str| test.server.get(&format!("/_simulator/{name}")).await.1[0].clone();
        let (activity, share, request) = (
            get("activities").await,
            get("shares").await,
            get("share-requests").await,
        );
        assert_eq!(
            (&activity["id"], &activity["owner"]),
            (&json!(test.activity), &json!(SAM))
        );
        assert_eq!((&share["user_id"], &share["access"]), (&json!(SAM), &json!(2)));
        assert_eq!((&request["revoke"], &request["done"]), (&json!(false), &json!(true)));
    }
}
