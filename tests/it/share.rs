//! ShareService as its callers see it.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, OpportunitySpec, Options, Reshare, RevokeUnshared, ShareFailures, What};
use pb::share_lead_request::{Context, Lead, User};
use pb::share_service_client::ShareServiceClient;
use pb::{Access, ShareState, WaitFor};
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{World, channel, custom, seen, text, within};

/// The simulator's users: an administrator, a sales user, one that is inactive, another sales user.
const ASHA: &str = "a0000000-0000-4000-8000-000000000001";
pub const SAM: &str = "a0000000-0000-4000-8000-000000000002";
const LATA: &str = "a0000000-0000-4000-8000-000000000003";
pub const SITA: &str = "a0000000-0000-4000-8000-000000000004";

/// No limit in the way, and everything that takes time takes little.
const QUICK: &str = "[tenants.acme.limits]\ncalls = 10000\nbulk = 10000\n[tenants.acme.sharing]\n\
    default_activity_type = 201\npoll_every = \"20ms\"\npoll_at_most = \"40ms\"\nsettle_after = \"50ms\"\n";

pub struct Office {
    pub world: World,
    pub client: ShareServiceClient<Channel>,
    pub lead: String,
}

impl Office {
    pub async fn open(change: impl FnOnce(&mut Options), settings: &str) -> Self {
        let mut options = Options::default();
        options.limits.calls = 0;
        options.limits.bulk = 0;
        change(&mut options);
        let world = World::with(options, &format!("{QUICK}{settings}")).await.warm().await;
        let client = ShareServiceClient::new(channel(world.address).await);
        let lead = world.simulator.insert_lead(&[("FirstName", "Ann")]);
        Self { world, client, lead }
    }

    pub async fn quick() -> Self {
        Self::open(|_| {}, "").await
    }

    /// Half an hour of writing for Sam, followed until it is there.
    pub fn request(&self) -> pb::ShareLeadRequest {
        pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(self.lead.clone())),
            user: Some(User::UserId(SAM.into())),
            access: Access::Write.into(),
            duration: Some(minutes(30)),
            wait_for: WaitFor::Active.into(),
            ..Default::default()
        }
    }

    pub async fn ask(&self, request: pb::ShareLeadRequest) -> Result<pb::Share, Status> {
        let answer = self.client.clone().share_lead(request).await?;
        Ok(answer.into_inner().share.unwrap())
    }

    pub async fn share(&self) -> pb::Share {
        self.ask(self.request()).await.unwrap()
    }

    pub async fn get(&self, id: &str) -> pb::GetShareResponse {
        let request = pb::GetShareRequest { share_id: id.into() };
        self.client.clone().get_share(request).await.unwrap().into_inner()
    }

    async fn list(&self, request: pb::ListSharesRequest) -> Result<pb::ListSharesResponse, Status> {
        Ok(self.client.clone().list_shares(request).await?.into_inner())
    }

    async fn revoke(&self, id: &str) -> Result<pb::Share, Status> {
        let request = Self::revoking(id, WaitFor::Active);
        Ok(self
            .client
            .clone()
            .revoke_share(request)
            .await?
            .into_inner()
            .share
            .unwrap())
    }

    /// Extends the share by as long as it lasts.
    async fn extend(&self, id: &str, wait: WaitFor) -> Result<pb::Share, Status> {
        let request = pb::ExtendShareRequest {
            share_id: id.into(),
            wait_for: wait.into(),
            ..Default::default()
        };
        Ok(self
            .client
            .clone()
            .extend_share(request)
            .await?
            .into_inner()
            .share
            .unwrap())
    }

    /// What to ask for to have the share revoked.
    fn revoking(id: &str, wait: WaitFor) -> pb::RevokeShareRequest {
        pb::RevokeShareRequest {
            share: Some(pb::revoke_share_request::Share::ShareId(id.into())),
            wait_for: wait.into(),
            ..Default::default()
        }
    }

    async fn retry(&self, id: &str) -> Result<pb::Share, Status> {
        let request = pb::RetryShareRequest {
            share_id: id.into(),
            wait_for: WaitFor::Active.into(),
        };
        Ok(self
            .client
            .clone()
            .retry_share(request)
            .await?
            .into_inner()
            .share
            .unwrap())
    }

    async fn watch(&self, id: &str) -> tonic::Streaming<pb::WatchShareResponse> {
        let request = pb::WatchShareRequest { share_id: id.into() };
        self.client.clone().watch_share(request).await.unwrap().into_inner()
    }

    /// Waits until the share has come to that state.
    async fn until(&self, id: &str, state: ShareState) -> pb::Share {
        let mut watch = self.watch(id).await;
        let limit = Duration::from_secs(10);
        loop {
            let next = tokio::time::timeout(limit, watch.message()).await;
            let share = next.unwrap().unwrap().unwrap().share.unwrap();
            if share.state() == state {
                return share;
            }
        }
    }

    /// What LeadSquared was asked, in order, without the polls.
    fn calls(&self) -> Vec<String> {
        let calls = self.world.simulator.calls().into_iter();
        let calls = calls.map(|call| call.endpoint);
        calls.filter(|name| name != "EntityAccess.Status").collect()
    }

    fn spoil(&self, endpoint: &str, what: What) {
        self.world.simulator.order(Fault::new(endpoint, what));
    }
}

fn minutes(count: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: count * 60,
        nanos: 0,
    }
}

fn reason(result: Result<pb::Share, Status>) -> (Code, String) {
    let seen = seen(result.unwrap_err());
    (seen.code, seen.reason)
}

#[tokio::test]
async fn a_lead_is_shared_with_one_call() {
    let office = Office::quick().await;
    let share = office.share().await;

    assert_eq!(share.state(), ShareState::Active);
    assert_eq!(
        (share.lead_id.as_str(), share.lead_number.as_str()),
        (office.lead.as_str(), "1001")
    );
    assert_eq!((share.user_id.as_str(), share.access()), (SAM, Access::Write));
    assert_eq!(share.duration, Some(minutes(30)));
    let (granted, expires) = (share.grant_time.unwrap(), share.expire_time.unwrap());
    assert_eq!(expires.seconds - granted.seconds, 1800);

    let there = office.world.simulator.shares();
    assert_eq!(there.len(), 1);
    assert_eq!(
        (there[0].user_id.as_str(), there[0].entity_id.as_str(), there[0].access),
        (SAM, "1001", 2)
    );
    assert_eq!(there[0].activity_id.as_deref(), Some(share.activity_id.as_str()));
    let activity = &office.world.simulator.activities()[0];
    assert_eq!(activity.owner.as_deref(), Some(SAM));

    let shown = office.get(&share.share_id).await;
    assert_eq!(shown.source(), pb::ShareSource::Ledger);
    let states: Vec<_> = shown.changes.iter().map(pb::ShareChange::state).collect();
    let way = [
        ShareState::Pending,
        ShareState::Submitted,
        ShareState::Processing,
        ShareState::Active,
    ];
    assert_eq!(states, way);
}

#[tokio::test]
async fn a_lone_share_costs_four_calls_and_one_of_what_is_known_two() {
    let office = Office::quick().await;
    office.share().await;
    let mut calls = office.calls();
    calls[..2].sort();
    assert_eq!(
        calls,
        [
            "Leads.GetById",
            "Users.Get",
            "ProspectActivity.Create",
            "EntityAccess.Share"
        ]
    );
    office.world.simulator.forget_calls();
    let again = pb::ShareLeadRequest {
        allow_additional: true,
        ..office.request()
    };
    office.ask(again.clone()).await.unwrap();
    assert_eq!(office.calls(), ["ProspectActivity.Create", "EntityAccess.Share"]);

    // Also where it is named by its number.
    office.world.simulator.forget_calls();
    let again = pb::ShareLeadRequest {
        lead: Some(Lead::LeadNumber("1001".into())),
        ..again
    };
    office.ask(again).await.unwrap();
    assert_eq!(office.calls(), ["ProspectActivity.Create", "EntityAccess.Share"]);
}

#[tokio::test]
async fn polls_are_rare_and_end_when_all_is_settled() {
    let office = Office::open(|options| options.share_polls = 6, "").await;
    let share = office.share().await;
    let at: Vec<_> = office
        .world
        .calls("EntityAccess.Status")
        .iter()
        .map(|call| call.stamp)
        .collect();
    assert_eq!(at.len(), 7);
    // The least time between two is kept also while somebody waits.
    let closest = at.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    assert!(closest >= Duration::from_millis(20), "{closest:?}");
    office.watch(&share.share_id).await.message().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(office.world.calls("EntityAccess.Status").len(), 7);
}

#[tokio::test]
async fn each_kind_of_lead_user_and_context() {
    let office = Office::quick().await;
    let given = office
        .world
        .simulator
        .insert_activity(&office.lead, 202, &[("Owner", SAM)]);
    let users = Options::default().users;
    let sam = users.iter().find(|user| user.id == SAM).unwrap();
    let by_number = pb::ShareLeadRequest {
        lead: Some(Lead::LeadNumber("1001".into())),
        user: Some(User::UserEmailAddress(sam.email_address.to_uppercase())),
        context: Some(Context::ActivityId(given.clone())),
        access: Access::Read.into(),
        duration: None,
        ..office.request()
    };
    let share = office.ask(by_number).await.unwrap();
    assert_eq!(
        (share.lead_id.as_str(), share.user_id.as_str()),
        (office.lead.as_str(), SAM)
    );
    assert_eq!(
        (share.activity_id.as_str(), share.access()),
        (given.as_str(), Access::Read)
    );
    assert_eq!(share.duration, Some(minutes(90 * 24 * 60)));
    assert_eq!(office.world.simulator.activities().len(), 1);
    assert_eq!(office.world.simulator.shares()[0].access, 1);

    let with_new = pb::ShareLeadRequest {
        context: Some(Context::NewActivity(pb::NewActivity {
            activity_type: 201,
            note: "Please call".into(),
            fields: custom(&[("mx_Custom_1", text("7"))]),
        })),
        allow_additional: true,
        ..office.request()
    };
    let share = office.ask(with_new).await.unwrap();
    let posted = office.world.simulator.activities();
    let posted = posted.iter().find(|activity| activity.id == share.activity_id).unwrap();
    let note = format!("leadgate share {}\nPlease call", share.share_id);
    assert_eq!(
        (posted.note.as_deref(), posted.fields["mx_Custom_1"].as_str()),
        (Some(note.as_str()), "7")
    );
}

#[tokio::test]
async fn a_caller_waits_as_far_as_asked_and_no_longer_than_the_deadline() {
    let office = Office::open(|options| options.share_polls = 1_000_000, "").await;
    let none = pb::ShareLeadRequest {
        wait_for: WaitFor::None.into(),
        ..office.request()
    };
    let share = office.ask(none).await.unwrap();
    assert!(matches!(share.state(), ShareState::Pending | ShareState::Submitted));

    let submitted = pb::ShareLeadRequest {
        wait_for: WaitFor::Unspecified.into(),
        user: Some(User::UserId(SITA.into())),
        ..office.request()
    };
    let share = office.ask(submitted).await.unwrap();
    assert_eq!(share.state(), ShareState::Processing);
    assert_eq!(share.upstream_request_id.len(), 32);

    let active = pb::ShareLeadRequest {
        allow_additional: true,
        ..office.request()
    };
    let answer = office
        .client
        .clone()
        .share_lead(within(Duration::from_millis(500), active))
        .await;
    let share = answer.unwrap().into_inner().share.unwrap();
    assert_eq!(share.state(), ShareState::Processing);
    office.world.simulator.set_options(|options| options.share_polls = 0);
    office.until(&share.share_id, ShareState::Active).await;
}

#[tokio::test]
async fn all_faults_of_a_message_are_told_at_once() {
    let office = Office::quick().await;
    let wrong = pb::ShareLeadRequest {
        lead: Some(Lead::LeadNumber("x1".into())),
        user: Some(User::UserEmailAddress("nobody".into())),
        access: 0,
        duration: Some(prost_types::Duration { seconds: -5, nanos: 0 }),
        context: Some(Context::NewActivity(pb::NewActivity {
            activity_type: -1,
            fields: custom(&[("mx_Custom_1", pb::FieldValue::default()), ("Owner", text(SITA))]),
            ..Default::default()
        })),
        wait_for: 9,
        request_id: "7".into(),
        ..Default::default()
    };
    let seen = seen(office.ask(wrong).await.unwrap_err());
    seen.is(Code::InvalidArgument, "INVALID_FIELD");
    let mut fields = seen.fields();
    fields.sort_unstable();
    let expected = [
        "access",
        "duration",
        "lead_number",
        "new_activity.activity_type",
        "new_activity.fields[\"Owner\"]",
        "new_activity.fields[\"mx_Custom_1\"]",
        "request_id",
        "user_email_address",
        "wait_for",
    ];
    assert_eq!(fields, expected);
    for seconds in [0, 59, 90, 3600 * 24 * 366 * 11] {
        let wrong = pb::ShareLeadRequest {
            duration: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..office.request()
        };
        assert_eq!(
            reason(office.ask(wrong).await),
            (Code::InvalidArgument, "INVALID_FIELD".into())
        );
    }
    assert!(office.world.simulator.calls().is_empty());
    let empty = office.list(pb::ListSharesRequest::default()).await.unwrap();
    assert!(empty.shares.is_empty());
}

#[tokio::test]
async fn what_can_be_known_is_told_before_anything_is_written() {
    let office = Office::quick().await;
    for (user, code, name) in [
        (ASHA, Code::FailedPrecondition, "NOT_A_SALES_USER"),
        (LATA, Code::FailedPrecondition, "NOT_A_SALES_USER"),
        ("a0000000-0000-4000-8000-00000000000f", Code::NotFound, "USER_NOT_FOUND"),
    ] {
        let request = pb::ShareLeadRequest {
            user: Some(User::UserId(user.into())),
            ..office.request()
        };
        assert_eq!(reason(office.ask(request).await), (code, name.into()), "{user}");
    }
    for lead in [
        Lead::LeadId("b0000000-0000-4000-8000-00000000000f".into()),
        Lead::LeadNumber("999999".into()),
    ] {
        let request = pb::ShareLeadRequest {
            lead: Some(lead),
            ..office.request()
        };
        assert_eq!(
            reason(office.ask(request).await),
            (Code::NotFound, "LEAD_NOT_FOUND".into())
        );
    }
    assert!(office.world.simulator.activities().is_empty());
    assert!(
        office
            .list(pb::ListSharesRequest::default())
            .await
            .unwrap()
            .shares
            .is_empty()
    );
}

#[tokio::test]
async fn without_a_default_type_a_share_has_to_name_its_context() {
    let world = World::start().await;
    let lead = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let mut client = ShareServiceClient::new(channel(world.address).await);
    let request = pb::ShareLeadRequest {
        lead: Some(Lead::LeadId(lead)),
        user: Some(User::UserId(SAM.into())),
        access: Access::Read.into(),
        ..Default::default()
    };
    let seen = seen(client.share_lead(request).await.unwrap_err());
    assert_eq!(seen.fields(), ["new_activity.activity_type"]);
}

#[tokio::test]
async fn a_user_who_has_access_is_not_given_it_twice_unawares() {
    let office = Office::quick().await;
    let share = office.share().await;
    let seen = seen(office.ask(office.request()).await.unwrap_err());
    seen.is(Code::AlreadyExists, "SHARE_EXISTS");
    assert_eq!(seen.details.resource_info().unwrap().resource_name, share.share_id);
    // Nor through the very same activity.
    let same = pb::ShareLeadRequest {
        context: Some(Context::ActivityId(share.activity_id.clone())),
        allow_additional: true,
        ..office.request()
    };
    assert_eq!(reason(office.ask(same).await).1, "SHARE_EXISTS");
    let more = pb::ShareLeadRequest {
        allow_additional: true,
        ..office.request()
    };
    office.ask(more).await.unwrap();
    assert_eq!(office.world.simulator.shares().len(), 2);
    let other = pb::ShareLeadRequest {
        user: Some(User::UserId(SITA.into())),
        ..office.request()
    };
    office.ask(other).await.unwrap();
}

#[tokio::test]
async fn of_many_at_once_one_gets_the_share() {
    let office = Office::quick().await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (mut client, request) = (office.client.clone(), office.request());
        asked.spawn(async move { client.share_lead(request).await });
    }
    let results = asked.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(office.world.simulator.shares().len(), 1);
    assert_eq!(office.world.simulator.activities().len(), 1);
}

#[tokio::test]
async fn the_same_request_id_is_the_same_share() {
    let office = Office::quick().await;
    let request = pb::ShareLeadRequest {
        request_id: Uuid::new_v4().to_string(),
        ..office.request()
    };
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (mut client, request) = (office.client.clone(), request.clone());
        asked.spawn(async move { client.share_lead(request).await.unwrap().into_inner().share.unwrap() });
    }
    let shares = asked.join_all().await;
    let first = office.ask(request.clone()).await.unwrap();
    assert!(shares.iter().all(|share| share.share_id == first.share_id));
    assert_eq!(office.world.simulator.shares().len(), 1);
    let other = pb::ShareLeadRequest {
        access: Access::Read.into(),
        ..request
    };
    assert_eq!(seen(office.ask(other).await.unwrap_err()).fields(), ["request_id"]);
}

#[tokio::test]
async fn an_impossible_share_says_why_at_once_or_later() {
    for failures in [ShareFailures::AtOnce, ShareFailures::Later] {
        for (change, code, name) in [
            (
                (|options: &mut Options| options.sharing_enabled = false) as fn(&mut Options),
                Code::FailedPrecondition,
                "UPSTREAM_FEATURE_DISABLED",
            ),
            (
                |options| options.role = "Sales_User".into(),
                Code::FailedPrecondition,
                "UPSTREAM_FEATURE_DISABLED",
            ),
            (
                |options| options.share_max_minutes = 5,
                Code::InvalidArgument,
                "INVALID_FIELD",
            ),
        ] {
            let office = Office::open(
                |options| {
                    options.share_failures = failures;
                    change(options);
                },
                "",
            )
            .await;
            let seen = seen(office.ask(office.request()).await.unwrap_err());
            seen.is(code, name);
            // The share says the same.
            let share = office.get(&seen.metadata["share_id"]).await.share.unwrap();
            assert_eq!(
                (share.state(), share.uncertain_step.as_str()),
                (ShareState::Failed, "share")
            );
            assert_eq!(share.failure.unwrap().code, code as i32);
            assert!(office.world.simulator.shares().is_empty());

            // And can be tried again once that is mended.
            office.world.simulator.set_options(|options| {
                options.sharing_enabled = true;
                options.role = "Administrator".into();
                options.share_max_minutes = 0;
            });
            let retried = office.retry(&share.share_id).await.unwrap();
            assert_eq!((retried.state(), retried.failure), (ShareState::Active, None));
            assert_eq!(office.world.simulator.activities().len(), 1);
            assert_eq!(reason(office.retry(&share.share_id).await).1, "SHARE_NOT_RETRYABLE");
        }
    }
}

#[tokio::test]
async fn an_activity_of_another_owner_cannot_be_the_context() {
    for failures in [ShareFailures::AtOnce, ShareFailures::Later] {
        let office = Office::open(|options| options.share_failures = failures, "").await;
        let other = office
            .world
            .simulator
            .insert_activity(&office.lead, 201, &[("Owner", SITA)]);
        let request = pb::ShareLeadRequest {
            context: Some(Context::ActivityId(other)),
            ..office.request()
        };
        assert_eq!(seen(office.ask(request).await.unwrap_err()).fields(), ["activity_id"]);
        let request = pb::ShareLeadRequest {
            context: Some(Context::ActivityId("c0000000-0000-4000-8000-00000000000f".into())),
            ..office.request()
        };
        assert_eq!(
            reason(office.ask(request).await),
            (Code::NotFound, "ACTIVITY_NOT_FOUND".into())
        );
    }
}

#[tokio::test]
async fn the_limit_of_a_user_is_known_before_it_is_reached() {
    let office = Office::open(|options| options.shares_per_user = 3, "leads_per_user = 3\n").await;
    for name in ["Ben", "Cid", "Dan", "Eve"] {
        let lead = office.world.simulator.insert_lead(&[("FirstName", name)]);
        let request = pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(lead)),
            ..office.request()
        };
        let result = office.ask(request).await;
        if name == "Eve" {
            assert_eq!(reason(result), (Code::FailedPrecondition, "SHARE_LIMIT_REACHED".into()));
        } else {
            result.unwrap();
        }
    }
    let usage = |user: pb::get_user_share_usage_request::User| {
        let mut client = office.client.clone();
        let request = pb::GetUserShareUsageRequest { user: Some(user) };
        async move { client.get_user_share_usage(request).await.unwrap().into_inner() }
    };
    let sam = usage(pb::get_user_share_usage_request::User::UserId(SAM.into())).await;
    assert_eq!((sam.used, sam.limit, sam.source()), (3, 3, pb::ShareSource::Ledger));
    let sita = usage(pb::get_user_share_usage_request::User::UserId(SITA.into())).await;
    assert_eq!(sita.used, 0);
    assert_eq!(office.world.calls("EntityAccess.Share").len(), 3);
}

#[tokio::test]
async fn at_the_limit_it_may_be_asked_for_all_the_same() {
    let office = Office::open(
        |options| options.shares_per_user = 1,
        "leads_per_user = 0\nat_limit = \"warn\"\n",
    )
    .await;
    office.share().await;
    let lead = office.world.simulator.insert_lead(&[("FirstName", "Ben")]);
    let request = pb::ShareLeadRequest {
        lead: Some(Lead::LeadId(lead)),
        ..office.request()
    };
    assert_eq!(reason(office.ask(request).await).1, "SHARE_LIMIT_REACHED");
    assert_eq!(office.world.calls("EntityAccess.Share").len(), 2);
}

#[tokio::test]
async fn an_activity_whose_answer_was_lost_is_found_again() {
    for what in [What::CommitThenDrop, What::GarbageJson] {
        let office = Office::quick().await;
        office.spoil("ProspectActivity.Create", what);
        let share = office.share().await;
        assert_eq!(share.state(), ShareState::Active);
        assert_eq!(office.world.calls("ProspectActivity.Create").len(), 1);
        assert_eq!(office.world.simulator.activities().len(), 1);
        assert_eq!(office.world.simulator.shares().len(), 1);
    }
}

#[tokio::test]
async fn an_activity_that_never_arrived_is_posted_again() {
    let office = Office::quick().await;
    office.spoil("ProspectActivity.Create", What::DropBefore);
    let share = office.share().await;
    assert_eq!(share.state(), ShareState::Active);
    assert_eq!(office.world.calls("ProspectActivity.Create").len(), 2);
    assert!(office.world.calls("ProspectActivity.Retrieve").len() >= 2);
    assert_eq!(office.world.simulator.activities().len(), 1);
}

#[tokio::test]
async fn a_share_whose_answer_was_lost_is_uncertain_until_somebody_settles_it() {
    let office = Office::quick().await;
    office.spoil("EntityAccess.Share", What::CommitThenDrop);
    let request = pb::ShareLeadRequest {
        request_id: Uuid::from_u128(9).to_string(),
        ..office.request()
    };
    let lost = seen(office.ask(request.clone()).await.unwrap_err());
    lost.is_settled_by_hand("RetryShare or RevokeShare settles it");
    // The activity, and the share.
    assert_eq!(lost.metadata["attempts"], "2");
    let id = &lost.metadata["share_id"];
    let again = seen(office.ask(request).await.unwrap_err());
    again.is_settled_by_hand("GetShare returns it");
    assert_eq!(&again.metadata["share_id"], id);
    let share = office.get(id).await.share.unwrap();
    assert_eq!(
        (share.state(), share.uncertain_step.as_str()),
        (ShareState::Uncertain, "share")
    );
    assert_eq!(office.world.calls("EntityAccess.Share").len(), 1);
    // It is in the way of another one.
    assert_eq!(reason(office.ask(office.request()).await).1, "SHARE_EXISTS");

    let share = office.retry(id).await.unwrap();
    assert_eq!(share.state(), ShareState::Active);
    assert_eq!(office.world.simulator.shares().len(), 1);
}

/// The endpoints of sharing that were called, without those that ask how a request stands.
fn asked(office: &Office) -> Vec<String> {
    let calls = office.world.simulator.calls().into_iter();
    let endpoints = calls.map(|call| call.endpoint);
    endpoints
        .filter(|name| ["EntityAccess.Share", "EntityAccess.Revoke"].contains(&name.as_str()))
        .collect()
}

#[tokio::test]
async fn a_retry_of_an_uncertain_share_revokes_before_it_asks_again() {
    for what in [What::CommitThenDrop, What::DropBefore] {
        for text in ["Not shared with the user", "No such share"] {
            let change = |options: &mut Options| {
                options.share_polls = 2;
                // A second grant would be seen.
                options.reshare = Reshare::Duplicate;
                options.revoke_unshared_text = text.to_owned();
            };
            let office = Office::open(change, "").await;
            office.spoil("EntityAccess.Share", what.clone());
            let seen = seen(office.ask(office.request()).await.unwrap_err());
            seen.is(Code::Aborted, "OUTCOME_UNKNOWN");
            let id = &seen.metadata["share_id"];
            // What was accepted without an answer is granted by now.
            office.world.simulator.set_options(|options| options.share_polls = 0);

            let share = office.retry(id).await.unwrap();
            assert_eq!(share.state(), ShareState::Active, "{what:?}");
            let order = ["EntityAccess.Share", "EntityAccess.Revoke", "EntityAccess.Share"];
            assert_eq!(asked(&office), order, "{what:?}");
            assert_eq!(office.world.simulator.shares().len(), 1, "{what:?}");
            let states = office.get(id).await.changes;
            let states: Vec<_> = states.iter().map(|change| change.state()).collect();
            assert!(!states.contains(&ShareState::Revoking), "{states:?}");
        }
    }
}

#[tokio::test]
async fn a_retry_whose_revoke_is_refused_does_not_ask_again() {
    let office = Office::open(|options| options.reshare = Reshare::Duplicate, "").await;
    office.spoil("EntityAccess.Share", What::CommitThenDrop);
    let lost = seen(office.ask(office.request()).await.unwrap_err());
    let id = &lost.metadata["share_id"];
    let set_role = |role: &str| {
        let role = role.to_owned();
        office.world.simulator.set_options(|options| options.role = role);
    };
    set_role("Sales_User");
    seen(office.retry(id).await.unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
    let share = office.get(id).await.share.unwrap();
    assert_eq!(
        (share.state(), share.uncertain_step.as_str()),
        (ShareState::Uncertain, "share")
    );
    assert_eq!(asked(&office), ["EntityAccess.Share", "EntityAccess.Revoke"]);
    set_role("Administrator");
    assert_eq!(office.retry(id).await.unwrap().state(), ShareState::Active);
    assert_eq!(office.world.simulator.shares().len(), 1);
}

#[tokio::test]
async fn a_share_that_is_revoked_while_it_is_retried_is_not_asked_for_again() {
    let office = Office::quick().await;
    office.spoil("EntityAccess.Share", What::CommitThenDrop);
    let lost = seen(office.ask(office.request()).await.unwrap_err());
    let id = &lost.metadata["share_id"];
    office
        .world
        .simulator
        .set_options(|options| options.share_polls = 1_000_000);
    let request = pb::RetryShareRequest {
        share_id: id.clone(),
        wait_for: WaitFor::None.into(),
    };
    let retried = office.client.clone().retry_share(request).await.unwrap().into_inner();
    assert_eq!(retried.share.unwrap().state(), ShareState::Pending);
    while office.world.calls("EntityAccess.Revoke").is_empty() {
        tokio::task::yield_now().await;
    }
    let request = Office::revoking(id, WaitFor::None);
    office.client.clone().revoke_share(request).await.unwrap();
    office.world.simulator.set_options(|options| options.share_polls = 0);
    office.until(id, ShareState::Revoked).await;
    assert_eq!(asked(&office), ["EntityAccess.Share", "EntityAccess.Revoke"]);
    assert!(office.world.simulator.shares().is_empty());
}

#[tokio::test]
async fn an_extension_of_an_opportunity_is_retried_without_a_revoke_which_would_end_both() {
    let opportunity = OpportunitySpec {
        id: "f85f3b60-bec7-47c8-8fcd-ae5d9df2d0e5".into(),
        owner: SITA.into(),
    };
    let office = Office::open(|options| options.opportunities = vec![opportunity.clone()], "").await;
    let request = pb::ShareOpportunityRequest {
        opportunity_id: opportunity.id.clone(),
        user: Some(pb::share_opportunity_request::User::UserId(SAM.into())),
        access: Access::Read.into(),
        duration: Some(minutes(30)),
        wait_for: WaitFor::Active.into(),
        ..Default::default()
    };
    let old = office.client.clone().share_opportunity(request).await.unwrap();
    let old = old.into_inner().share.unwrap();
    office.spoil("EntityAccess.Share", What::DropBefore);
    let lost = seen(office.extend(&old.share_id, WaitFor::Active).await.unwrap_err());
    let new = office.retry(&lost.metadata["share_id"]).await.unwrap();
    assert_eq!(new.state(), ShareState::Active);
    assert!(office.world.calls("EntityAccess.Revoke").is_empty());
    office.until(&old.share_id, ShareState::Expired).await;
}

#[tokio::test]
async fn a_revoke_of_what_is_gone_ends_revoked_by_the_text_of_the_settings() {
    for (unshared, text, settings) in [
        (RevokeUnshared::Later, "no such SHARE", ""),
        (RevokeUnshared::AtOnce, "Error: No such share.", ""),
        (
            RevokeUnshared::Later,
            "Kein Zugriff",
            "gone_texts = [\"kein zugriff\"]\n",
        ),
    ] {
        let change = |options: &mut Options| {
            options.share_polls = 0;
            options.revoke_unshared = unshared;
            options.revoke_unshared_text = text.to_owned();
        };
        let office = Office::open(change, settings).await;
        let share = office.share().await;
        // The first one is executed and its answer lost; the second finds no access.
        office.spoil("EntityAccess.Revoke", What::CommitThenDrop);
        let revoked = office.revoke(&share.share_id).await.unwrap();
        assert_eq!(revoked.state(), ShareState::Revoked, "{text}");
        assert_eq!(office.world.calls("EntityAccess.Revoke").len(), 2, "{text}");
    }
    let change = |options: &mut Options| {
        options.share_polls = 0;
        options.revoke_unshared_text = "No such share".into();
    };
    let office = Office::open(change, "gone_texts = []\n").await;
    let share = office.share().await;
    office.spoil("EntityAccess.Revoke", What::CommitThenDrop);
    seen(office.revoke(&share.share_id).await.unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
}

#[tokio::test]
async fn a_share_that_was_active_counts_as_reached_when_its_request_is_repeated() {
    for wait in [WaitFor::Active, WaitFor::Submitted] {
        let office = Office::quick().await;
        let request = pb::ShareLeadRequest {
            request_id: Uuid::from_u128(7).to_string(),
            wait_for: wait.into(),
            ..office.request()
        };
        let ask = || {
            let (mut client, request) = (office.client.clone(), within(Duration::from_secs(5), request.clone()));
            async move {
                let limit = Duration::from_secs(2);
                let answer = tokio::time::timeout(limit, client.share_lead(request)).await;
                answer
                    .expect("the answer comes at once")
                    .unwrap()
                    .into_inner()
                    .share
                    .unwrap()
            }
        };
        let id = ask().await.share_id;
        office.until(&id, ShareState::Active).await;
        office
            .world
            .simulator
            .set_options(|options| options.share_polls = 1_000_000);
        // LeadSquared is slow to take the revoke, and then to process it.
        let by = Duration::from_millis(300);
        office.spoil("EntityAccess.Revoke", What::Delay { by });
        for so_far in [WaitFor::None, WaitFor::Submitted] {
            let revoking = Office::revoking(&id, so_far);
            office.client.clone().revoke_share(revoking).await.unwrap();
            let again = ask().await;
            assert_eq!(
                (&again.share_id, again.state()),
                (&id, ShareState::Revoking),
                "{wait:?}"
            );
        }
        office.world.simulator.set_options(|options| options.share_polls = 0);
        office.until(&id, ShareState::Revoked).await;
        assert_eq!(ask().await.state(), ShareState::Revoked, "{wait:?}");
    }
}

#[tokio::test]
async fn a_share_whose_revoke_is_uncertain_was_granted_and_its_request_says_so() {
    let office = Office::quick().await;
    let request = pb::ShareLeadRequest {
        request_id: Uuid::from_u128(8).to_string(),
        ..office.request()
    };
    let share = office.ask(request.clone()).await.unwrap();
    let lost = Fault::new("EntityAccess.Revoke", What::DropBefore).times(2);
    office.world.simulator.order(lost);
    seen(office.revoke(&share.share_id).await.unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
    let again = office.ask(request).await.unwrap();
    assert_eq!(
        (again.state(), again.uncertain_step.as_str()),
        (ShareState::Uncertain, "revoke")
    );
}

#[tokio::test]
async fn an_uncertain_share_can_be_revoked() {
    for what in [What::CommitThenDrop, What::DropBefore] {
        let office = Office::open(|options| options.share_polls = 0, "").await;
        office.spoil("EntityAccess.Share", what.clone());
        let seen = seen(office.ask(office.request()).await.unwrap_err());
        let revoked = office.revoke(&seen.metadata["share_id"]).await;
        match what {
            What::CommitThenDrop => assert_eq!(revoked.unwrap().state(), ShareState::Revoked),
            // There was nothing to revoke, and LeadSquared says so.
            _ => assert_eq!(revoked.unwrap().state(), ShareState::Revoked),
        }
        assert!(office.world.simulator.shares().is_empty());
    }
}

#[tokio::test]
async fn where_asking_twice_is_asking_once_a_lost_share_is_asked_for_again() {
    let office = Office::open(|_| {}, "may_ask_again = true\n").await;
    office.spoil("EntityAccess.Share", What::CommitThenDrop);
    assert_eq!(office.share().await.state(), ShareState::Active);
    assert_eq!(office.world.calls("EntityAccess.Share").len(), 2);
    assert_eq!(office.world.simulator.shares().len(), 1);
}

#[tokio::test]
async fn a_request_that_is_never_processed_is_given_up_and_asked_about_again() {
    let office = Office::open(|options| options.share_polls = 1_000_000, "give_up_after = \"300ms\"\n").await;
    let seen = seen(office.ask(office.request()).await.unwrap_err());
    seen.is(Code::Aborted, "OUTCOME_UNKNOWN");
    office.world.simulator.set_options(|options| options.share_polls = 0);
    let share = office.retry(&seen.metadata["share_id"]).await.unwrap();
    assert_eq!(share.state(), ShareState::Active);
    // It was not asked for twice.
    assert_eq!(office.world.calls("EntityAccess.Share").len(), 1);
}

#[tokio::test]
async fn numbers_that_nobody_knows_are_waited_out() {
    let office = Office::open(
        |options| {
            options.share_polls = 4;
            options.share_status_unknown_numbers = vec![0, 5, -1, 99];
            options.revoke_status_done = 8;
        },
        "",
    )
    .await;
    let share = office.share().await;
    assert_eq!(share.state(), ShareState::Active);
    assert_eq!(
        office.revoke(&share.share_id).await.unwrap().state(),
        ShareState::Revoked
    );
}

#[tokio::test]
async fn a_share_is_revoked_with_the_access_that_was_granted() {
    let office = Office::quick().await;
    let share = office.share().await;
    let revoked = office.revoke(&share.share_id).await.unwrap();
    assert_eq!((revoked.state(), revoked.failure), (ShareState::Revoked, None));
    assert!(office.world.simulator.shares().is_empty());
    // Once more changes nothing.
    assert_eq!(
        office.revoke(&share.share_id).await.unwrap().state(),
        ShareState::Revoked
    );
    assert_eq!(office.world.calls("EntityAccess.Revoke").len(), 1);
    // The user can be given access again.
    office.share().await;
}

#[tokio::test]
async fn a_share_is_revoked_by_lead_and_user() {
    let office = Office::quick().await;
    let first = office.share().await;
    let more = pb::ShareLeadRequest {
        allow_additional: true,
        ..office.request()
    };
    let second = office.ask(more).await.unwrap();
    let revoke = |activity_id: &str| {
        let triple = pb::ShareTriple {
            lead_id: office.lead.to_uppercase(),
            user_id: SAM.into(),
            activity_id: activity_id.into(),
        };
        let request = pb::RevokeShareRequest {
            share: Some(pb::revoke_share_request::Share::Triple(triple)),
            wait_for: WaitFor::Active.into(),
            request_id: Uuid::new_v4().to_string(),
        };
        let mut client = office.client.clone();
        async move {
            client
                .revoke_share(request)
                .await
                .map(|answer| answer.into_inner().share.unwrap())
        }
    };
    assert_eq!(seen(revoke("").await.unwrap_err()).fields(), ["triple.activity_id"]);
    let revoked = revoke(&first.activity_id).await.unwrap();
    assert_eq!(
        (revoked.share_id.as_str(), revoked.state()),
        (first.share_id.as_str(), ShareState::Revoked)
    );
    assert_eq!(revoke("").await.unwrap().share_id, second.share_id);
    assert_eq!(reason(revoke("").await), (Code::NotFound, "SHARE_NOT_FOUND".into()));
}

#[tokio::test]
async fn a_share_that_is_on_its_way_is_revoked_as_soon_as_it_can_be() {
    let office = Office::open(|options| options.share_polls = 3, "").await;
    let request = pb::ShareLeadRequest {
        wait_for: WaitFor::Submitted.into(),
        ..office.request()
    };
    let share = office.ask(request).await.unwrap();
    assert_eq!(share.state(), ShareState::Processing);
    let request = Office::revoking(&share.share_id, WaitFor::None);
    let revoking = office.client.clone().revoke_share(request).await.unwrap().into_inner();
    assert_eq!(revoking.share.unwrap().state(), ShareState::Revoking);
    office.until(&share.share_id, ShareState::Revoked).await;
    assert!(office.world.simulator.shares().is_empty());
}

#[tokio::test]
async fn a_revoke_that_is_refused_leaves_the_share_as_it_was() {
    let office = Office::quick().await;
    let share = office.share().await;
    office
        .world
        .simulator
        .set_options(|options| options.role = "Sales_User".into());
    assert_eq!(
        reason(office.revoke(&share.share_id).await),
        (Code::FailedPrecondition, "UPSTREAM_FEATURE_DISABLED".into())
    );
    let kept = office.get(&share.share_id).await.share.unwrap();
    assert_eq!((kept.state(), kept.failure.is_some()), (ShareState::Active, true));
    office
        .world
        .simulator
        .set_options(|options| options.role = "Administrator".into());
    assert_eq!(
        office.revoke(&share.share_id).await.unwrap().state(),
        ShareState::Revoked
    );
}

#[tokio::test]
async fn a_revoke_whose_answer_was_lost_is_asked_for_again() {
    for (what, state) in [
        (What::DropBefore, ShareState::Revoked),
        // The second is refused, since there is nothing left to revoke.
        (What::CommitThenDrop, ShareState::Revoked),
    ] {
        let office = Office::open(|options| options.share_polls = 0, "").await;
        let share = office.share().await;
        office.spoil("EntityAccess.Revoke", what);
        let _ = office.revoke(&share.share_id).await;
        assert_eq!(office.get(&share.share_id).await.share.unwrap().state(), state);
        assert!(office.world.simulator.shares().is_empty());
    }
}

#[tokio::test]
async fn all_access_of_a_user_or_to_a_lead_is_revoked_at_once() {
    let office = Office::quick().await;
    let mut ids = Vec::new();
    for user in [SAM, SITA] {
        for name in ["Ben", "Cid", "Dan"] {
            let lead = office.world.simulator.insert_lead(&[("FirstName", name)]);
            let request = pb::ShareLeadRequest {
                lead: Some(Lead::LeadId(lead)),
                user: Some(User::UserId(user.into())),
                ..office.request()
            };
            ids.push(office.ask(request).await.unwrap().share_id);
        }
    }
    let request = pb::RevokeSharesRequest {
        user_id: SAM.into(),
        ..Default::default()
    };
    let mut stream = office.client.clone().revoke_shares(request).await.unwrap().into_inner();
    let mut revoked = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        assert!(answer.error.is_none());
        revoked.push(answer.share.unwrap().share_id);
    }
    revoked.sort();
    assert_eq!(revoked, ids[..3]);
    for id in &revoked {
        office.until(id, ShareState::Revoked).await;
    }
    assert!(
        office
            .world
            .simulator
            .shares()
            .iter()
            .all(|share| share.user_id == SITA)
    );

    let all = office
        .client
        .clone()
        .revoke_shares(pb::RevokeSharesRequest::default())
        .await;
    let status = all.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(seen(status).fields(), ["lead_id"]);
}

#[tokio::test]
async fn a_share_is_extended_without_a_gap() {
    let office = Office::quick().await;
    let old = office.share().await;
    let request = pb::ExtendShareRequest {
        share_id: old.share_id.clone(),
        duration: Some(minutes(120)),
        wait_for: WaitFor::Active.into(),
        request_id: Uuid::new_v4().to_string(),
    };
    let new = office
        .client
        .clone()
        .extend_share(request.clone())
        .await
        .unwrap()
        .into_inner()
        .share
        .unwrap();
    assert_eq!(
        (new.state(), new.extends_share_id.as_str()),
        (ShareState::Active, old.share_id.as_str())
    );
    assert_ne!(new.activity_id, old.activity_id);
    assert_eq!(new.duration, Some(minutes(120)));
    office.until(&old.share_id, ShareState::Revoked).await;
    let there = office.world.simulator.shares();
    assert_eq!(
        (there.len(), there[0].activity_id.as_deref()),
        (1, Some(new.activity_id.as_str()))
    );
    // The old one was there until the new one was.
    let calls = office.calls();
    let place = |name: &str| calls.iter().rposition(|call| call == name).unwrap();
    assert!(place("EntityAccess.Share") < place("EntityAccess.Revoke"));

    let again = office
        .client
        .clone()
        .extend_share(request)
        .await
        .unwrap()
        .into_inner()
        .share
        .unwrap();
    assert_eq!(again.share_id, new.share_id);
    let over = office.extend(&old.share_id, WaitFor::Unspecified).await;
    let seen = seen(over.unwrap_err());
    seen.is(Code::FailedPrecondition, "SHARE_NOT_ACTIVE");
}

#[tokio::test]
async fn an_opportunity_is_shared_revoked_and_extended_without_an_activity() {
    let id = "d0000000-0000-4000-8000-000000000001";
    let opportunity = OpportunitySpec {
        id: id.into(),
        owner: SITA.into(),
    };
    let office = Office::open(|options| options.opportunities = vec![opportunity], "").await;
    let request = |user: &str, opportunity: &str| pb::ShareOpportunityRequest {
        opportunity_id: opportunity.into(),
        user: Some(pb::share_opportunity_request::User::UserId(user.into())),
        access: Access::Write.into(),
        duration: Some(minutes(30)),
        wait_for: WaitFor::Active.into(),
        ..Default::default()
    };
    let ask = |request: pb::ShareOpportunityRequest| {
        let mut client = office.client.clone();
        async move {
            client
                .share_opportunity(request)
                .await
                .map(|answer| answer.into_inner().share.unwrap())
        }
    };
    let share = ask(request(SAM, id)).await.unwrap();
    assert_eq!(
        (share.kind(), share.opportunity_id.as_str()),
        (pb::ShareKind::Opportunity, id)
    );
    assert_eq!((share.lead_id.as_str(), share.activity_id.as_str()), ("", ""));
    assert_eq!(office.calls(), ["Users.Get", "EntityAccess.Share"]);
    assert_eq!(reason(ask(request(SAM, id)).await).1, "SHARE_EXISTS");
    assert_eq!(
        reason(ask(request(SAM, "d0000000-0000-4000-8000-00000000000f")).await),
        (Code::NotFound, "OPPORTUNITY_NOT_FOUND".into())
    );

    let longer = office.extend(&share.share_id, WaitFor::Active).await.unwrap();
    office.until(&share.share_id, ShareState::Expired).await;
    assert_eq!(office.world.simulator.shares().len(), 1);
    office.revoke(&longer.share_id).await.unwrap();
    assert!(office.world.simulator.shares().is_empty());
}

#[tokio::test]
async fn shares_are_listed_page_by_page_and_by_every_filter() {
    let office = Office::quick().await;
    let mut ids = Vec::new();
    for (user, count, duration) in [(SAM, 5, 10), (SITA, 3, 1000)] {
        for _ in 0..count {
            let lead = office.world.simulator.insert_lead(&[("FirstName", "Ben")]);
            let request = pb::ShareLeadRequest {
                lead: Some(Lead::LeadId(lead)),
                user: Some(User::UserId(user.into())),
                duration: Some(minutes(duration)),
                ..office.request()
            };
            ids.push(office.ask(request).await.unwrap());
        }
    }
    office.revoke(&ids[0].share_id).await.unwrap();

    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let request = pb::ListSharesRequest {
            page_size: 3,
            page_token: token,
            ..Default::default()
        };
        let page = office.list(request).await.unwrap();
        assert!(page.shares.len() <= 3);
        listed.extend(page.shares.into_iter().map(|share| share.share_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let newest_first: Vec<_> = ids.iter().rev().map(|share| share.share_id.clone()).collect();
    assert_eq!(listed, newest_first);

    let count = |request: pb::ListSharesRequest| async { office.list(request).await.unwrap().shares.len() };
    let sam = pb::ListSharesRequest {
        user_id: SAM.to_uppercase(),
        ..Default::default()
    };
    assert_eq!(count(sam.clone()).await, 5);
    let live = pb::ListSharesRequest {
        states: vec![ShareState::Active.into()],
        ..sam
    };
    assert_eq!(count(live).await, 4);
    let lead = pb::ListSharesRequest {
        lead_id: ids[7].lead_id.clone(),
        ..Default::default()
    };
    assert_eq!(count(lead).await, 1);
    let soon = prost_types::Timestamp {
        seconds: ids[1].grant_time.unwrap().seconds + 3600,
        nanos: 0,
    };
    let ending = pb::ListSharesRequest {
        expire_before: Some(soon),
        states: vec![ShareState::Active.into()],
        ..Default::default()
    };
    assert_eq!(count(ending).await, 4);

    let wrong = pb::ListSharesRequest {
        lead_id: "?".into(),
        states: vec![77],
        page_token: "p1".into(),
        ..Default::default()
    };
    let seen = seen(office.list(wrong).await.unwrap_err());
    assert_eq!(seen.fields(), ["lead_id", "states[0]", "page_token"]);
}

#[tokio::test]
async fn a_watcher_sees_a_share_to_its_end() {
    let office = Office::open(|options| options.share_polls = 2, "").await;
    let request = pb::ShareLeadRequest {
        wait_for: WaitFor::Submitted.into(),
        ..office.request()
    };
    let share = office.ask(request).await.unwrap();
    let mut watch = office.watch(&share.share_id).await;
    let mut states = Vec::new();
    while let Some(answer) = watch.message().await.unwrap() {
        let share = answer.share.unwrap();
        states.push(share.state());
        if share.state() == ShareState::Active {
            office.revoke(&share.share_id).await.unwrap();
        }
    }
    assert_eq!(states.first(), Some(&ShareState::Processing));
    assert_eq!(states.last(), Some(&ShareState::Revoked));
    assert!(states.contains(&ShareState::Active));

    let nothing = pb::WatchShareRequest {
        share_id: Uuid::new_v4().to_string(),
    };
    let status = office
        .client
        .clone()
        .watch_share(nothing)
        .await
        .unwrap()
        .into_inner()
        .message()
        .await;
    seen(status.unwrap_err()).is(Code::NotFound, "SHARE_NOT_FOUND");
}

#[tokio::test]
async fn a_watcher_is_told_when_the_process_stops() {
    let office = Office::quick().await;
    let share = office.share().await;
    let mut watch = office.watch(&share.share_id).await;
    watch.message().await.unwrap();
    office.world.tell_to_stop();
    let status = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended well"),
            Err(status) => break status,
        }
    };
    seen(status).is(Code::Unavailable, "SHUTTING_DOWN");
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, office.world.stop()).await.unwrap();
}

#[tokio::test]
async fn how_a_request_stands_can_be_asked_by_its_own_id() {
    let office = Office::quick().await;
    let share = office.share().await;
    let ask = |id: String| {
        let mut client = office.client.clone();
        let request = pb::GetShareRequestStatusRequest {
            upstream_request_id: id,
        };
        async move {
            client
                .get_share_request_status(request)
                .await
                .map(tonic::Response::into_inner)
        }
    };
    let status = ask(share.upstream_request_id).await.unwrap();
    assert_eq!((status.share_status, status.processed, status.failed), (6, true, false));
    assert_eq!(
        seen(ask(String::new()).await.unwrap_err()).fields(),
        ["upstream_request_id"]
    );
}

#[tokio::test]
async fn a_full_quota_delays_a_share_and_does_not_lose_it() {
    let office = Office::open(
        |options| {
            options.limits.calls = 2;
            options.limits.per = Duration::from_millis(300);
        },
        "",
    )
    .await;
    let share = office.share().await;
    assert_eq!(share.state(), ShareState::Active);
}

#[tokio::test]
async fn what_leadsquared_does_not_say_by_name_is_no_refusal_of_a_share() {
    for text in [
        "An unknown error occurred while sharing the lead",
        "Something went wrong, contact your administrator",
        "Could not write activity log",
        "User is not a sales user",
    ] {
        let office = Office::quick().await;
        let body = format!(r#"{{"Status":"Error","ExceptionType":"","ExceptionMessage":"{text}"}}"#);
        office.spoil(
            "EntityAccess.Share",
            What::Answer {
                status: 500,
                body,
                content_type: None,
                commit: true,
            },
        );
        let error = seen(office.ask(office.request()).await.unwrap_err());
        error.is(Code::Aborted, "OUTCOME_UNKNOWN");
    }
}

#[tokio::test]
async fn the_same_activity_is_the_same_in_any_case() {
    let office = Office::quick().await;
    let id = office
        .world
        .simulator
        .insert_activity(&office.lead, 201, &[("Owner", SAM)]);
    let through = |id: String| pb::ShareLeadRequest {
        context: Some(Context::ActivityId(id)),
        allow_additional: true,
        ..office.request()
    };
    office.ask(through(id.clone())).await.unwrap();
    assert_eq!(reason(office.ask(through(id.to_uppercase())).await).1, "SHARE_EXISTS");
}

#[tokio::test]
async fn the_limit_of_a_user_holds_for_many_at_once_and_counts_leads() {
    let office = Office::open(|_| {}, "leads_per_user = 3\n").await;
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..10 {
        let lead = office
            .world
            .simulator
            .insert_lead(&[("FirstName", &format!("Ben {number}"))]);
        let request = pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(lead)),
            ..office.request()
        };
        let mut client = office.client.clone();
        asked.spawn(async move {
            client
                .share_lead(request)
                .await
                .map(|answer| answer.into_inner().share.unwrap())
        });
    }
    let results = asked.join_all().await;
    let shares: Vec<_> = results.iter().flatten().collect();
    assert_eq!(shares.len(), 3);
    // One more share of a lead that counts already takes nothing.
    let more = pb::ShareLeadRequest {
        lead: Some(Lead::LeadId(shares[0].lead_id.clone())),
        allow_additional: true,
        ..office.request()
    };
    office.ask(more).await.unwrap();
}

#[tokio::test]
async fn an_extension_goes_with_what_it_extends() {
    let office = Office::quick().await;
    let old = office.share().await;
    // From now on nothing is processed before its time.
    office
        .world
        .simulator
        .set_options(|options| options.share_polls = 1_000_000);
    let new = office.extend(&old.share_id, WaitFor::Submitted).await.unwrap();
    let again = seen(office.extend(&old.share_id, WaitFor::Submitted).await.unwrap_err());
    again.is(Code::AlreadyExists, "SHARE_EXISTS");
    assert_eq!(again.details.resource_info().unwrap().resource_name, new.share_id);
    office.world.simulator.set_options(|options| options.share_polls = 0);
    assert_eq!(office.revoke(&old.share_id).await.unwrap().state(), ShareState::Revoked);
    office.until(&new.share_id, ShareState::Revoked).await;
    assert!(office.world.simulator.shares().is_empty());
}

#[tokio::test]
async fn to_revoke_an_extension_on_its_way_leaves_what_it_extends() {
    let office = Office::quick().await;
    let old = office.share().await;
    // From now on nothing is processed before its time.
    office
        .world
        .simulator
        .set_options(|options| options.share_polls = 1_000_000);
    let new = office.extend(&old.share_id, WaitFor::Submitted).await.unwrap();
    let request = Office::revoking(&new.share_id, WaitFor::None);
    office.client.clone().revoke_share(request).await.unwrap();
    office.world.simulator.set_options(|options| options.share_polls = 0);
    office.until(&new.share_id, ShareState::Revoked).await;
    let there = office.world.simulator.shares();
    assert_eq!(
        (there.len(), there[0].activity_id.as_deref()),
        (1, Some(old.activity_id.as_str()))
    );
    assert_eq!(
        office.get(&old.share_id).await.share.unwrap().state(),
        ShareState::Active
    );
}

#[tokio::test]
async fn of_an_opportunity_all_shares_with_a_user_are_one() {
    let id = "d0000000-0000-4000-8000-000000000001";
    let opportunity = OpportunitySpec {
        id: id.into(),
        owner: SITA.into(),
    };
    let office = Office::open(|options| options.opportunities = vec![opportunity], "").await;
    let request = pb::ShareOpportunityRequest {
        opportunity_id: id.into(),
        user: Some(pb::share_opportunity_request::User::UserId(SAM.into())),
        access: Access::Read.into(),
        wait_for: WaitFor::Active.into(),
        ..Default::default()
    };
    let old = office
        .client
        .clone()
        .share_opportunity(request)
        .await
        .unwrap()
        .into_inner()
        .share
        .unwrap();
    office.spoil("EntityAccess.Share", What::CommitThenDrop);
    let uncertain = seen(office.extend(&old.share_id, WaitFor::Active).await.unwrap_err());
    office.revoke(&uncertain.metadata["share_id"]).await.unwrap();
    office.until(&old.share_id, ShareState::Revoked).await;
    assert!(office.world.simulator.shares().is_empty());
    // By an opportunity's id no share of a lead is found, and the other way round.
    let as_lead = pb::ListSharesRequest {
        lead_id: id.into(),
        ..Default::default()
    };
    assert!(office.list(as_lead).await.unwrap().shares.is_empty());
}

#[tokio::test]
async fn what_leadsquared_does_not_have_any_more_is_revoked() {
    let office = Office::quick().await;
    let share = office.share().await;
    office.world.simulator.delete_lead(&office.lead);
    assert_eq!(
        office.revoke(&share.share_id).await.unwrap().state(),
        ShareState::Revoked
    );
}

#[tokio::test]
async fn a_revoke_does_not_wait_for_a_request_that_is_never_processed() {
    let office = Office::open(|options| options.share_polls = 1_000_000, "").await;
    let request = pb::ShareLeadRequest {
        wait_for: WaitFor::Submitted.into(),
        ..office.request()
    };
    let share = office.ask(request).await.unwrap();
    let request = Office::revoking(&share.share_id, WaitFor::Submitted);
    let revoking = office
        .client
        .clone()
        .revoke_share(request)
        .await
        .unwrap()
        .into_inner()
        .share
        .unwrap();
    assert_eq!(revoking.state(), ShareState::Revoking);
    assert_eq!(office.world.calls("EntityAccess.Revoke").len(), 1);
}

#[tokio::test]
async fn an_account_that_cannot_be_reached_is_not_tried_for_ever() {
    let office = Office::open(|_| {}, "give_up_after = \"1s\"\n").await;
    let share = office.share().await;
    office
        .world
        .simulator
        .order(Fault::new("*", What::Unauthorized).times(1000));
    let refused = reason(office.revoke(&share.share_id).await);
    assert_eq!(
        refused,
        (Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED".into())
    );
    office.world.simulator.clear_faults();
    office
        .world
        .simulator
        .order(Fault::new("EntityAccess.Revoke", What::Refuse).times(1000));
    let given_up = office.revoke(&share.share_id).await;
    assert!(given_up.is_err());
    assert_eq!(
        office.get(&share.share_id).await.share.unwrap().state(),
        ShareState::Active
    );
}

#[tokio::test]
async fn watchers_take_no_place_of_other_calls() {
    let office = Office::open(|_| {}, "[server]\nmax_in_flight = 2\nmax_streams = 3\n").await;
    let share = office.share().await;
    let mut watches = Vec::new();
    for _ in 0..3 {
        let mut watch = office.watch(&share.share_id).await;
        watch.message().await.unwrap();
        watches.push(watch);
    }
    office.get(&share.share_id).await;
    let request = pb::WatchShareRequest {
        share_id: share.share_id.clone(),
    };
    let refused = office.client.clone().watch_share(request).await;
    seen(refused.unwrap_err()).is(Code::ResourceExhausted, "QUEUE_FULL");
}

#[tokio::test]
async fn durations_that_are_none_are_faults_and_no_more() {
    let office = Office::quick().await;
    for (seconds, nanos) in [
        (i64::MIN, 0),
        (i64::MIN, i32::MIN),
        (60, -1),
        (60, i32::MAX),
        (i64::MAX, 0),
    ] {
        let request = pb::ShareLeadRequest {
            duration: Some(prost_types::Duration { seconds, nanos }),
            ..office.request()
        };
        assert_eq!(seen(office.ask(request).await.unwrap_err()).fields(), ["duration"]);
    }
}
