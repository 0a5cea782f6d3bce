//! The endpoints that share, revoke and tell what became of a request. The names of their
//! exceptions are assumptions throughout; none was published or seen.

pub(crate) mod store;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::handlers::Desk;
use crate::http::response::{Answer, Exception, Failure, Result};
use crate::sharing::store::{Item, LEAD, OPPORTUNITY, PROCESSED, ShareRequest, World};
use crate::{RevokeUnshared, ShareFailures, UnknownRequest};

/// The number of a user as what something is shared with.
const USER: i64 = 3;
/// The number of an activity as what something is shared through.
const ACTIVITY: i64 = 1;

/// An opportunity of the tenant, as far as sharing needs one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpportunitySpec {
    /// The GUID.
    pub id: String,
    /// The id of the user who owns it.
    pub owner: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
    user_id: Option<String>,
    entity: Option<Whole>,
    entity_type: Option<Whole>,
    entity_id: Option<String>,
    context_entity: Option<Whole>,
    context_entity_id: Option<String>,
    access_type: Option<Whole>,
    duration_in_minutes: Option<Whole>,
}

/// A number that may come as one in a string.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Whole(i64);

impl<'de> Deserialize<'de> for Whole {
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

impl Desk<'_> {
    pub(crate) fn share(self) -> Result<Answer> {
        let items = self.items(false)?;
        if self.tenant.options.share_failures == ShareFailures::AtOnce {
            store::permitted(self.tenant)?;
            let world = self.world();
            items
                .iter()
                .try_for_each(|item| self.ledger.check_share(item, &world, self.now))?;
        }
        Ok(self.accept(false, items))
    }

    pub(crate) fn revoke(self) -> Result<Answer> {
        let items = self.items(true)?;
        let options = &self.tenant.options;
        if options.share_failures == ShareFailures::AtOnce {
            store::permitted(self.tenant)?;
        }
        if options.revoke_unshared == RevokeUnshared::AtOnce {
            items
                .iter()
                .try_for_each(|item| self.ledger.check_revoke(item, self.tenant, self.now))?;
        }
        Ok(self.accept(true, items))
    }

    pub(crate) fn share_status(self) -> Result<Answer> {
        let options = &self.tenant.options;
        let id = self.parameter("id")?;
        match (
            self.ledger.poll(id, self.tenant, self.now),
            options.share_unknown_request,
        ) {
            (Some(request), _) => Ok(self.status(&request)),
            (None, UnknownRequest::Exception) => Err(Exception::invalid("Invalid Input! Parameter Name: id")),
            (None, UnknownRequest::NotFound) => Err(Failure::Nothing),
            (None, UnknownRequest::Pending) => Ok(standing(
                "Request is being processed.",
                options.share_status_pending,
                None,
            )),
        }
    }

    fn accept(self, revoke: bool, items: Vec<Item>) -> Answer {
        let id = self.ledger.accept(revoke, items, self.tenant, self.now);
        Answer::success(Some(json!({"Id": id})))
    }

    fn world(&self) -> World<'_> {
        World {
            tenant: self.tenant,
            crm: self.crm,
            activities: self.activities,
        }
    }

    fn status(&self, request: &ShareRequest) -> Answer {
        let options = &self.tenant.options;
        if let Some(error) = &request.error {
            return standing("Request failed.", options.share_status_failed, Some(error));
        }
        if request.done {
            let number = if request.revoke {
                options.revoke_status_done
            } else {
                PROCESSED
            };
            return standing("Request processed successfully.", number, None);
        }
        let odd = &options.share_status_unknown_numbers;
        let turn = (request.polls.saturating_sub(1) as usize).checked_rem(odd.len());
        let number = turn.map_or(options.share_status_pending, |turn| odd[turn]);
        standing("Request is being processed.", number, None)
    }

    fn items(&self, revoke: bool) -> Result<Vec<Item>> {
        let options = &self.tenant.options;
        let bare = self.body.trim_ascii_start().starts_with(b"{");
        let asked: Vec<Asked> = match bare && options.share_bare_object_tolerated {
            true => vec![self.body()?],
            false => self.body()?,
        };
        let most = options.share_max_items as usize;
        if asked.is_empty() || most > 0 && asked.len() > most {
            return Err(Exception::invalid("Invalid Input! Number of items"));
        }
        let usual = i64::from(options.share_default_minutes);
        asked.into_iter().map(|asked| asked.item(revoke, usual)).collect()
    }
}

impl Asked {
    /// What is asked, or what of it can not be meant: all but the duration is mandatory, and for a
    /// revoke all but the access type.
    fn item(self, revoke: bool, usual: i64) -> Result<Item> {
        let entity = number("Entity", self.entity, &[LEAD.into(), OPPORTUNITY.into()])?;
        number("EntityType", self.entity_type, &[USER])?;
        let activity_id = if entity == i64::from(LEAD) {
            number("ContextEntity", self.context_entity, &[ACTIVITY])?;
            Some(text("ContextEntityId", self.context_entity_id)?)
        } else if self.context_entity.is_some() || self.context_entity_id.is_some() {
            // Documented as absent; so that a mistake shows, it is not ignored.
            return Err(wrong("ContextEntity"));
        } else {
            None
        };
        let access = match self.access_type {
            None if revoke => 1,
            given => number("AccessType", given, &[1, 2])?,
        };
        Ok(Item {
            user_id: text("UserId", self.user_id)?,
            entity: if entity == i64::from(LEAD) { LEAD } else { OPPORTUNITY },
            entity_id: text("EntityId", self.entity_id)?,
            activity_id,
            access: if access == 1 { 1 } else { 2 },
            minutes: self.duration_in_minutes.map_or(usual, |minutes| minutes.0),
        })
    }
}

fn standing(text: &str, number: i64, error: Option<&str>) -> Answer {
    Answer::json(
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

fn number(name: &str, given: Option<Whole>, known: &[i64]) -> Result<i64> {
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
    use crate::test_support::Bench;
    use crate::{Fault, Options, Reshare, RevokeWrongAccess, SharedAccess, What};
    use jiff::SignedDuration;
    use std::time::Duration;

    const ASHA: &str = "a0000000-0000-4000-8000-000000000001";
    const SAM: &str = "a0000000-0000-4000-8000-000000000002";
    const LATA: &str = "a0000000-0000-4000-8000-000000000003";
    const SITA: &str = "a0000000-0000-4000-8000-000000000004";

    /// A tenant with a lead and an activity of Sam's on it.
    struct Office {
        bench: Bench,
        lead: String,
        activity: String,
    }

    impl Office {
        fn new(change: impl FnOnce(&mut Options)) -> Self {
            let bench = Bench::new(change);
            let lead = bench.simulator.insert_lead(&[("FirstName", "Ann")]);
            let activity = bench.simulator.insert_activity(&lead, 201, &[("Owner", SAM)]);
            Self { bench, lead, activity }
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

        async fn ask(&self, name: &str, item: Value) -> (u16, Value) {
            self.bench
                .post(&format!("/v2/EntityAccess.svc/{name}"), json!([item]))
                .await
        }

        /// Has it accepted, and returns the id.
        async fn request(&self, name: &str, item: Value) -> String {
            let (status, answer) = self.ask(name, item).await;
            assert_eq!(status, 200, "{answer}");
            answer["Message"]["Id"].as_str().unwrap().into()
        }

        async fn poll(&self, id: &str) -> (u16, Value) {
            self.bench
                .get(&format!("/v2/EntityAccess.svc/Status/Get?id={id}"))
                .await
        }

        /// Has it accepted and processed, and returns the last status.
        async fn done(&self, name: &str, item: Value) -> Value {
            let id = self.request(name, item).await;
            self.poll(&id).await;
            self.poll(&id).await.1
        }

        fn shares(&self) -> Vec<SharedAccess> {
            self.bench.simulator.shares()
        }
    }

    fn minutes(share: &SharedAccess) -> i64 {
        share.expires.duration_since(share.granted).as_mins()
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_is_accepted_then_processed_then_ends() {
        let office = Office::new(|_| {});
        let id = office.request("Share", office.item()).await;
        assert!(
            id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{id}"
        );
        assert!(office.shares().is_empty());
        let (status, answer) = office.poll(&id).await;
        assert_eq!((status, &answer["ShareStatus"]), (200, &json!(1)));
        let answer = office.poll(&id).await.1;
        assert_eq!(
            answer,
            json!({
                "Status": "Success",
                "Message": {"ResponseText": "Request processed successfully."},
                "ShareStatus": 6,
                "ErrorMessage": null,
            })
        );
        let shares = office.shares();
        assert_eq!((shares.len(), shares[0].access, minutes(&shares[0])), (1, 2, 30));
        assert_eq!(shares[0].activity_id.as_deref(), Some(office.activity.as_str()));
        assert_eq!(
            (shares[0].user_id.as_str(), shares[0].entity_id.as_str()),
            (SAM, "1001")
        );
        tokio::time::advance(Duration::from_secs(30 * 60)).await;
        assert!(office.shares().is_empty());
        let requests = office.bench.simulator.share_requests();
        assert_eq!((requests.len(), requests[0].polls, requests[0].done), (1, 2, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_its_polls_and_its_delay() {
        let office = Office::new(|options| {
            options.share_polls = 3;
            options.share_delay = Duration::from_secs(10);
            options.share_status_unknown_numbers = vec![2, -9];
        });
        let id = office.request("Share", office.item()).await;
        let accepted = office.bench.simulator.share_requests()[0].accepted;
        let mut numbers = Vec::new();
        for _ in 0..4 {
            numbers.push(office.poll(&id).await.1["ShareStatus"].clone());
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        numbers.push(office.poll(&id).await.1["ShareStatus"].clone());
        assert_eq!(numbers, [2, -9, 2, -9, 6]);
        let share = &office.shares()[0];
        assert_eq!(share.granted.duration_since(accepted), SignedDuration::from_secs(10));
    }

    #[tokio::test]
    async fn without_polls_or_delay_a_share_is_there_at_once() {
        let office = Office::new(|options| options.share_polls = 0);
        office.request("Share", office.item()).await;
        assert_eq!(office.shares().len(), 1);
        assert_eq!(office.bench.simulator.stats().shares, 1);
    }

    #[tokio::test]
    async fn a_body_that_can_not_be_meant_is_refused_at_once() {
        let office = Office::new(|options| {
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
            let (given, answer) = office.ask("Share", office.with(name, value.clone())).await;
            assert_eq!(
                (given, &answer["ExceptionType"]),
                (status, &json!(kind)),
                "{name} {value}"
            );
        }
        let share = "/v2/EntityAccess.svc/Share";
        for items in [json!([]), json!([office.item(), office.item()])] {
            assert_eq!(office.bench.post(share, items).await.0, 500);
        }
        assert_eq!(office.bench.post(share, office.item()).await.0, 400);
        office
            .bench
            .simulator
            .set_options(|options| options.share_bare_object_tolerated = true);
        assert_eq!(office.bench.post(share, office.item()).await.0, 200);
    }

    /// What is asked, on which tenant, and why it can not be.
    type Impossible = (Value, fn(&mut Options), &'static str);

    fn impossible(office: &Office) -> Vec<Impossible> {
        let other = office.bench.simulator.insert_lead(&[("FirstName", "Bob")]);
        let elsewhere = office.bench.simulator.insert_activity(&other, 201, &[("Owner", SAM)]);
        let call = office
            .bench
            .simulator
            .insert_activity(&office.lead, 21, &[("Owner", SAM)]);
        let nothing: fn(&mut Options) = |_| {};
        vec![
            (office.with("UserId", json!("nobody")), nothing, "User not found"),
            (office.with("UserId", json!(LATA)), nothing, "User is not active"),
            (office.with("UserId", json!(ASHA)), nothing, "User is not a sales user"),
            (
                office.with("UserId", json!(SITA)),
                nothing,
                "User is not the owner of the activity",
            ),
            (office.with("EntityId", json!("7")), nothing, "Lead not found"),
            (office.with("EntityId", json!(office.lead)), nothing, "Lead not found"),
            (office.with("EntityId", json!("01001")), nothing, "Lead not found"),
            (
                office.with("ContextEntityId", json!("x")),
                nothing,
                "Activity does not exist.",
            ),
            (
                office.with("ContextEntityId", json!(elsewhere)),
                nothing,
                "Activity is not of the lead",
            ),
            (
                office.with("ContextEntityId", json!(call)),
                |options| options.share_custom_activities_only = true,
                "Activity is not a custom activity",
            ),
            (
                office.with("DurationInMinutes", json!(0)),
                nothing,
                "Invalid Input! Parameter Name: DurationInMinutes",
            ),
            (
                office.item(),
                |options| options.share_max_minutes = 29,
                "Invalid Input! Parameter Name: DurationInMinutes",
            ),
            (
                office.item(),
                |options| options.sharing_enabled = false,
                "Entity Sharing is not enabled for your account",
            ),
            (
                office.item(),
                |options| options.role = "Sales_User".into(),
                "Only an administrator can share or revoke",
            ),
        ]
    }

    #[tokio::test]
    async fn an_impossible_share_is_refused_at_once_or_fails_later() {
        for failures in [ShareFailures::AtOnce, ShareFailures::Later] {
            let office = Office::new(|options| options.share_failures = failures);
            for (item, change, why) in impossible(&office) {
                let before = office.bench.simulator.shared.lock().tenant.options.clone();
                office.bench.simulator.set_options(change);
                if failures == ShareFailures::AtOnce {
                    let (status, answer) = office.ask("Share", item).await;
                    assert_eq!((status, &answer["ExceptionMessage"]), (500, &json!(why)));
                } else {
                    let answer = office.done("Share", item).await;
                    let found = (&answer["Status"], &answer["ShareStatus"], &answer["ErrorMessage"]);
                    assert_eq!(found, (&json!("Success"), &json!(7), &json!(why)));
                }
                office.bench.simulator.set_options(|options| *options = before);
            }
            assert!(office.shares().is_empty());
        }
    }

    #[tokio::test]
    async fn what_becomes_impossible_while_it_waits_fails_later() {
        let office = Office::new(|_| {});
        let id = office.request("Share", office.item()).await;
        office.bench.simulator.delete_lead(&office.lead);
        office.poll(&id).await;
        assert_eq!(office.poll(&id).await.1["ErrorMessage"], "Lead not found");
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_has_only_so_many_live_shares() {
        let office = Office::new(|options| {
            options.shares_per_user = 1;
            options.share_polls = 0;
        });
        let second = office
            .bench
            .simulator
            .insert_activity(&office.lead, 201, &[("Owner", SAM)]);
        office.request("Share", office.item()).await;
        office.request("Share", office.item()).await;
        let other = || office.with("ContextEntityId", json!(second));
        let (_, answer) = office.ask("Share", other()).await;
        assert_eq!(answer["ExceptionType"], "MXLimitExceededException");
        office
            .bench
            .simulator
            .set_options(|options| options.share_limit_counts_leads = true);
        assert_eq!(office.ask("Share", other()).await.0, 500);
        office
            .bench
            .simulator
            .set_options(|options| options.shares_per_user = 2);
        assert_eq!(office.ask("Share", other()).await.0, 200);
        office
            .bench
            .simulator
            .set_options(|options| options.shares_per_user = 1);
        tokio::time::advance(Duration::from_secs(30 * 60)).await;
        assert_eq!(office.ask("Share", other()).await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_share_through_one_activity_does_what_is_chosen() {
        for (reshare, expected) in [
            (Reshare::Replace, vec![(1, 10)]),
            (Reshare::Extend, vec![(1, 40)]),
            (Reshare::Duplicate, vec![(2, 30), (1, 10)]),
            (Reshare::Reject, vec![(2, 30)]),
        ] {
            let office = Office::new(|options| {
                options.reshare = reshare;
                options.share_polls = 0;
            });
            office.request("Share", office.item()).await;
            let mut again = office.with("DurationInMinutes", json!(10));
            again["AccessType"] = json!(1);
            let (status, _) = office.ask("Share", again).await;
            assert_eq!(status, if reshare == Reshare::Reject { 500 } else { 200 });
            let shares = office.shares();
            let found: Vec<_> = shares.iter().map(|share| (share.access, minutes(share))).collect();
            assert_eq!(found, expected, "{reshare:?}");
        }
    }

    #[tokio::test]
    async fn a_share_without_a_duration_lasts_ninety_days() {
        let office = Office::new(|options| options.share_polls = 0);
        office
            .request("Share", office.with("DurationInMinutes", Value::Null))
            .await;
        assert_eq!(minutes(&office.shares()[0]), 129_600);
    }

    #[tokio::test]
    async fn no_duration_is_too_long() {
        let office = Office::new(|options| options.share_polls = 0);
        for _ in 0..2 {
            office
                .request("Share", office.with("DurationInMinutes", json!(i64::MAX)))
                .await;
            assert_eq!(office.shares()[0].expires, jiff::Timestamp::MAX);
            office
                .bench
                .simulator
                .set_options(|options| options.reshare = Reshare::Extend);
        }
    }

    #[tokio::test]
    async fn a_revoke_ends_the_share_through_its_activity_only() {
        let office = Office::new(|_| {});
        let second = office
            .bench
            .simulator
            .insert_activity(&office.lead, 201, &[("Owner", SAM)]);
        office.done("Share", office.item()).await;
        office
            .done("Share", office.with("ContextEntityId", json!(second)))
            .await;
        office
            .bench
            .simulator
            .set_options(|options| options.revoke_status_done = 9);
        let answer = office.done("Revoke", office.item()).await;
        assert_eq!(
            (&answer["ShareStatus"], &answer["ErrorMessage"]),
            (&json!(9), &Value::Null)
        );
        let shares = office.shares();
        assert_eq!((shares.len(), shares[0].activity_id.as_ref()), (1, Some(&second)));
    }

    #[tokio::test]
    async fn a_revoke_with_another_access_type_does_what_is_chosen() {
        for (chosen, left, number) in [
            (RevokeWrongAccess::Fails, 1, 7),
            (RevokeWrongAccess::Ignored, 1, 6),
            (RevokeWrongAccess::Works, 0, 6),
        ] {
            let office = Office::new(|options| options.revoke_wrong_access = chosen);
            office.done("Share", office.item()).await;
            // Without an access type a revoke means 1, and 2 was granted.
            let answer = office.done("Revoke", office.with("AccessType", Value::Null)).await;
            assert_eq!(
                (office.shares().len(), &answer["ShareStatus"]),
                (left, &json!(number)),
                "{chosen:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_revoke_of_what_is_not_shared_does_what_is_chosen() {
        let office = Office::new(|_| {});
        let answer = office.done("Revoke", office.item()).await;
        assert_eq!(answer["ErrorMessage"], "Not shared with the user");
        office
            .bench
            .simulator
            .set_options(|options| options.revoke_unshared = RevokeUnshared::Succeeds);
        assert_eq!(office.done("Revoke", office.item()).await["ShareStatus"], 6);
        office
            .bench
            .simulator
            .set_options(|options| options.revoke_unshared = RevokeUnshared::AtOnce);
        assert_eq!(office.ask("Revoke", office.item()).await.0, 500);
    }

    #[tokio::test]
    async fn one_bad_entity_spoils_its_array_or_not() {
        for (all_or_nothing, count) in [(true, 0), (false, 1)] {
            let office = Office::new(|options| {
                options.share_failures = ShareFailures::Later;
                options.share_all_or_nothing = all_or_nothing;
                options.share_polls = 0;
            });
            let items = json!([office.item(), office.with("EntityId", json!("7"))]);
            office.bench.post("/v2/EntityAccess.svc/Share", items).await;
            assert_eq!(office.shares().len(), count);
            let requests = office.bench.simulator.share_requests();
            assert_eq!(requests[0].error.as_deref(), Some("Lead not found"));
        }
    }

    #[tokio::test]
    async fn an_opportunity_is_shared_without_an_activity() {
        let office = Office::new(|options| {
            let owned = |id: &str, owner: &str| OpportunitySpec {
                id: id.into(),
                owner: owner.into(),
            };
            options.opportunities = vec![owned("o1", ASHA), owned("o2", SAM)];
            options.share_polls = 0;
        });
        let item = |id: &str| json!({"UserId": SAM, "Entity": 5, "EntityType": 3, "EntityId": id, "AccessType": 1});
        office.request("Share", item("o1")).await;
        let share = &office.shares()[0];
        assert_eq!((share.entity, share.activity_id.as_ref()), (5, None));
        let message = async |item| office.ask("Share", item).await.1["ExceptionMessage"].clone();
        assert_eq!(message(item("o2")).await, "User is the owner of the opportunity");
        assert_eq!(message(item("o3")).await, "Opportunity not found");
        let mut through = item("o1");
        through["ContextEntity"] = json!(1);
        assert_eq!(message(through).await, "Invalid Input! Parameter Name: ContextEntity");
        office.request("Revoke", item("o1")).await;
        assert!(office.shares().is_empty());
        office
            .bench
            .simulator
            .set_options(|options| options.opportunity_sharing_enabled = false);
        assert_eq!(office.ask("Share", item("o1")).await.0, 500);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_request_is_answered_as_chosen() {
        let office = Office::new(|options| options.share_request_lifetime = Duration::from_secs(60));
        let (status, answer) = office.poll("x").await;
        assert_eq!(
            (status, &answer["ExceptionType"]),
            (500, &json!("MXInvalidInputException"))
        );
        let id = office.request("Share", office.item()).await;
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(office.poll(&id).await.0, 500);
        for (chosen, status) in [(UnknownRequest::NotFound, 404), (UnknownRequest::Pending, 200)] {
            office
                .bench
                .simulator
                .set_options(|options| options.share_unknown_request = chosen);
            let (given, answer) = office.poll("x").await;
            assert_eq!(given, status);
            assert_eq!(answer["ShareStatus"].is_number(), status == 200);
        }
    }

    #[tokio::test]
    async fn another_owner_of_the_activity_ends_the_share_if_chosen() {
        for ends in [false, true] {
            let office = Office::new(|options| options.owner_change_ends_shares = ends);
            office.done("Share", office.item()).await;
            let body = json!({
                "ProspectActivityId": office.activity,
                "ActivityEvent": 201,
                "Fields": [{"SchemaName": "Owner", "Value": SITA}],
            });
            office
                .bench
                .post("/v2/ProspectActivity.svc/CustomActivity/Update", body)
                .await;
            assert_eq!(office.shares().is_empty(), ends);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sharing_has_faults_and_the_ordinary_limit() {
        let office = Office::new(|options| {
            options.limits.calls = 2;
            options.limits.bulk = 1;
        });
        office
            .bench
            .simulator
            .order(Fault::new("EntityAccess.Share", What::CommitThenDrop));
        assert_eq!(office.ask("Share", office.item()).await.0, 502);
        assert_eq!(office.bench.simulator.share_requests().len(), 1);
        office
            .bench
            .simulator
            .order(Fault::new("EntityAccess.Status", What::Empty503));
        assert_eq!(office.poll("x").await.0, 503);
        assert_eq!(office.ask("Revoke", office.item()).await.0, 429);
        tokio::time::advance(Duration::from_secs(5)).await;
        let bulk = "/v2/ProspectActivity.svc/Bulk/CustomActivity/Add/ByLeadId";
        assert_eq!(office.bench.post(bulk, json!([])).await.0, 200);
        assert_eq!(office.bench.post(bulk, json!([])).await.0, 429);
        assert_eq!(office.bench.get("/v2/EntityAccess.svc/Share").await.0, 405);
    }

    #[tokio::test]
    async fn activities_shares_and_requests_are_seen_on_the_control_path() {
        let office = Office::new(|options| options.share_polls = 0);
        office.request("Share", office.item()).await;
        let see = async |name: &str| office.bench.get(&format!("/_simulator/{name}")).await.1[0].clone();
        let (activity, share, request) = (
            see("activities").await,
            see("shares").await,
            see("share-requests").await,
        );
        assert_eq!(
            (&activity["id"], &activity["owner"]),
            (&json!(office.activity), &json!(SAM))
        );
        assert_eq!((&share["user_id"], &share["access"]), (&json!(SAM), &json!(2)));
        assert_eq!((&request["revoke"], &request["done"]), (&json!(false), &json!(true)));
    }
}
