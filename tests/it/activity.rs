//! ActivityService and UserService as their callers see them.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{DateForm, Fault, FaultKind, OffsetMeans, Options, UserSpec, WrongCode};
use pb::activity_service_client::ActivityServiceClient;
use pb::field_value::Value;
use pb::get_user_request::Key;
use pb::user_service_client::UserServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{World, channel, custom, seen, text, value};

/// The id of the simulator's active sales user.
const SAM: &str = "a0000000-0000-4000-8000-000000000002";

async fn activities(world: &World) -> ActivityServiceClient<Channel> {
    ActivityServiceClient::new(channel(world.address).await)
}

async fn users(world: &World) -> UserServiceClient<Channel> {
    UserServiceClient::new(channel(world.address).await)
}

fn lead_of(world: &World) -> String {
    world.simulator.insert_lead(&[("FirstName", "Asha")])
}

fn evaluation(lead_id: &str) -> pb::PostActivityRequest {
    pb::PostActivityRequest {
        lead_id: lead_id.to_owned(),
        activity_type: 201,
        note: "Evaluate, please".into(),
        owner_id: SAM.into(),
        fields: custom(&[("mx_Custom_1", text("123")), ("Status", text("Active"))]),
        ..Default::default()
    }
}

async fn post(world: &World, request: pb::PostActivityRequest) -> Result<String, Status> {
    let mut client = activities(world).await;
    Ok(client.post_activity(request).await?.into_inner().activity_id)
}

#[tokio::test]
async fn a_posted_activity_is_read_back_in_every_way_and_form() {
    for activity_dates in [None, Some(DateForm::Us), Some(DateForm::Ticks), Some(DateForm::Mixed)] {
        let options = Options {
            activity_dates,
            ..Options::default()
        };
        let world = World::with(options, "").await;
        let lead_id = lead_of(&world);
        let id = post(&world, evaluation(&lead_id)).await.unwrap();
        let mut client = activities(&world).await;

        let request = pb::GetActivityRequest {
            activity_id: id.clone(),
        };
        let details = client
            .get_activity(request)
            .await
            .unwrap()
            .into_inner()
            .activity
            .unwrap();
        let request = pb::ListLeadActivitiesRequest {
            lead_id: lead_id.clone(),
            activity_type: 201,
            ..Default::default()
        };
        let of_lead = client
            .list_lead_activities(request)
            .await
            .unwrap()
            .into_inner()
            .activities;
        let day_ago = leadgate::clock::now() - Duration::from_secs(24 * 3600);
        let request = |activity_type| pb::ListActivitiesRequest {
            start_time: Some(prost_types::Timestamp {
                seconds: day_ago.as_second(),
                nanos: 0,
            }),
            activity_type,
            ..Default::default()
        };
        let by_type = client
            .list_activities(request(201))
            .await
            .unwrap()
            .into_inner()
            .activities;
        let by_time = client
            .list_activities(request(0))
            .await
            .unwrap()
            .into_inner()
            .activities;
        for (place, read) in [&details, &of_lead[0], &by_type[0], &by_time[0]]
            .into_iter()
            .enumerate()
        {
            assert_eq!(read.activity_id, id, "{place}");
            assert_eq!(read.note, "Evaluate, please", "{place}");
            assert_eq!(read.fields["mx_Custom_1"], text("123"), "{place}");
            if place > 0 {
                assert_eq!(read.lead_id, lead_id, "{place}");
                assert_eq!(read.activity_type, 201, "{place}");
                assert!(read.create_time.is_some() && read.update_time.is_some(), "{place}");
            }
        }
        assert_eq!(
            (of_lead[0].owner_id.as_str(), of_lead[0].status.as_str()),
            (SAM, "Active")
        );
    }
}

#[tokio::test]
async fn an_update_changes_what_it_names() {
    let world = World::start().await;
    let id = post(&world, evaluation(&lead_of(&world))).await.unwrap();
    let mut client = activities(&world).await;
    let request = pb::UpdateActivityRequest {
        activity_id: id.clone(),
        activity_type: 201,
        fields: custom(&[("Status", text("Completed"))]),
        ..Default::default()
    };
    assert_eq!(
        client.update_activity(request).await.unwrap().into_inner().activity_id,
        id
    );
    let stored = &world.simulator.activities()[0];
    assert_eq!(stored.fields["Status"], "Completed");
    assert_eq!(stored.fields["mx_Custom_1"], "123");
    assert_eq!(stored.note.as_deref(), Some("Evaluate, please"));
}

#[tokio::test]
async fn pages_of_a_leads_activities_are_whole_whatever_offsets_count() {
    for (activity_offset, setting) in [(OffsetMeans::Rows, "rows"), (OffsetMeans::Pages, "pages")] {
        let options = Options {
            activity_offset,
            ..Options::default()
        };
        let settings = format!("[tenant_defaults]\nactivity_offset = \"{setting}\"");
        let world = World::with(options, &settings).await;
        let lead_id = lead_of(&world);
        for i in 0..7 {
            world
                .simulator
                .insert_activity(&lead_id, 201, &[("mx_Custom_1", &i.to_string())]);
        }
        let mut client = activities(&world).await;
        let (mut seen, mut page_token) = (vec![], String::new());
        loop {
            let request = pb::ListLeadActivitiesRequest {
                lead_id: lead_id.clone(),
                page_size: 3,
                page_token,
                ..Default::default()
            };
            let page = client.list_lead_activities(request).await.unwrap().into_inner();
            seen.extend(page.activities.into_iter().map(|read| read.activity_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 7, "{setting}");
    }
}

#[tokio::test]
async fn faults_of_activities_are_told_at_once() {
    let world = World::start().await.warm().await;
    let request = pb::PostActivityRequest {
        lead_id: "not an id".into(),
        owner_id: SAM.into(),
        fields: custom(&[("Owner", text("x")), ("mx_Custom_1", value(Value::Number(f64::NAN)))]),
        request_id: "x".into(),
        ..Default::default()
    };
    let error = seen(post(&world, request).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    let mut fields = error.fields();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "activity_type",
            "fields[\"Owner\"]",
            "fields[\"mx_Custom_1\"]",
            "lead_id",
            "request_id"
        ]
    );
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn a_wrong_type_is_invalid_in_both_dialects() {
    for activity_wrong_code in [WrongCode::Exception, WrongCode::Failed] {
        let options = Options {
            activity_wrong_code,
            ..Options::default()
        };
        let world = World::with(options, "").await;
        let mut request = evaluation(&lead_of(&world));
        request.activity_type = 999;
        let error = seen(post(&world, request).await.unwrap_err());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
    }
}

#[tokio::test]
async fn an_unknown_activity_is_not_found() {
    let world = World::start().await;
    let request = pb::GetActivityRequest {
        activity_id: Uuid::new_v4().to_string(),
    };
    let error = activities(&world).await.get_activity(request).await.unwrap_err();
    seen(error).is(Code::NotFound, "ACTIVITY_NOT_FOUND");
}

#[tokio::test]
async fn a_post_whose_answer_is_lost_is_looked_for_and_never_made_twice() {
    let world = World::start().await;
    let lead_id = lead_of(&world);
    world
        .simulator
        .add_fault(Fault::new("ProspectActivity.Create", FaultKind::CommitThenDrop))
        .unwrap();
    let id = post(&world, evaluation(&lead_id)).await.unwrap();
    assert_eq!(world.simulator.activities()[0].id, id);
    assert_eq!(world.calls("ProspectActivity.Create").len(), 1);

    let request_id = Uuid::new_v4().to_string();
    let other = pb::PostActivityRequest {
        note: "Another".into(),
        request_id,
        ..evaluation(&lead_id)
    };
    world
        .simulator
        .add_fault(Fault::new("ProspectActivity.Create", FaultKind::DropBefore))
        .unwrap();
    for _ in 0..2 {
        let error = seen(post(&world, other.clone()).await.unwrap_err());
        error.is_settled_by_hand("look at the activities of the lead in LeadSquared");
    }
    assert_eq!(world.calls("ProspectActivity.Create").len(), 2);
}

#[tokio::test]
async fn a_lost_post_or_update_that_could_not_be_looked_up_is_settled_by_its_request_id() {
    let world = World::start().await;
    let lead_id = lead_of(&world);
    let request = pb::PostActivityRequest {
        request_id: Uuid::new_v4().to_string(),
        ..evaluation(&lead_id)
    };
    let lose = |endpoint: &str, what: FaultKind, look_up: &str| {
        world.simulator.add_fault(Fault::new(endpoint, what)).unwrap();
        world
            .simulator
            .add_fault(Fault::new(look_up, FaultKind::Empty500).times(100))
            .unwrap();
    };
    let retrieve = "ProspectActivity.Retrieve";
    lose("ProspectActivity.Create", FaultKind::CommitThenDrop, retrieve);
    seen(post(&world, request.clone()).await.unwrap_err()).is_settled_by_repeating();
    world.simulator.clear_faults();
    let id = post(&world, request).await.unwrap();
    assert_eq!(world.calls("ProspectActivity.Create").len(), 1);

    let update = |note: &str, request_id: u128| pb::UpdateActivityRequest {
        activity_id: id.clone(),
        activity_type: 201,
        note: Some(note.to_owned()),
        request_id: Uuid::from_u128(request_id).to_string(),
        ..Default::default()
    };
    let mut client = activities(&world).await;
    lose(
        "ProspectActivity.Update",
        FaultKind::CommitThenDrop,
        "ProspectActivity.GetActivityDetails",
    );
    let error = client.update_activity(update("First", 1)).await.unwrap_err();
    seen(error).is_settled_by_repeating();
    world.simulator.clear_faults();
    client.update_activity(update("First", 1)).await.unwrap();
    // One that is seen not to be there may come still, and is not sent again.
    world
        .simulator
        .add_fault(Fault::new("ProspectActivity.Update", FaultKind::DropBefore))
        .unwrap();
    for _ in 0..2 {
        let error = client.update_activity(update("Second", 2)).await.unwrap_err();
        seen(error).is_settled_by_hand("look at the activities of the lead in LeadSquared");
    }
    assert_eq!(world.calls("ProspectActivity.Update").len(), 2);
}

#[tokio::test]
async fn the_same_request_id_posts_once() {
    let world = World::start().await;
    let request = pb::PostActivityRequest {
        request_id: Uuid::new_v4().to_string(),
        ..evaluation(&lead_of(&world))
    };
    let first = post(&world, request.clone()).await.unwrap();
    assert_eq!(post(&world, request).await.unwrap(), first);
    assert_eq!(world.simulator.activities().len(), 1);
}

#[tokio::test]
async fn types_are_listed_from_memory() {
    let world = World::start().await;
    let mut client = activities(&world).await;
    for _ in 0..3 {
        let types = client
            .list_activity_types(pb::ListActivityTypesRequest {})
            .await
            .unwrap()
            .into_inner();
        assert!(
            types
                .activity_types
                .iter()
                .any(|known| known.activity_type == 201 && !known.name.is_empty())
        );
    }
    assert_eq!(world.calls("ProspectActivity.ActivityTypes").len(), 1);
}

#[tokio::test]
async fn users_are_found_by_id_and_by_email_in_one_call_for_all() {
    let world = World::start().await.warm().await;
    let mut client = users(&world).await;
    let get = |key| pb::GetUserRequest { key: Some(key) };
    let sam = client
        .get_user(get(Key::UserId(SAM.to_uppercase())))
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert_eq!(
        (sam.user_id.as_str(), sam.role.as_str(), sam.active),
        (SAM, "Sales_User", true)
    );
    let by_email = get(Key::EmailAddress(sam.email_address.to_uppercase()));
    assert_eq!(client.get_user(by_email).await.unwrap().into_inner().user.unwrap(), sam);
    assert_eq!(world.simulator.calls().len(), 1);
}

#[tokio::test]
async fn a_user_whom_the_roster_lacks_is_asked_for() {
    let world = World::start().await;
    let mut client = users(&world).await;
    client.list_users(pb::ListUsersRequest::default()).await.unwrap();
    let id = Uuid::new_v4().to_string();
    let get = || pb::GetUserRequest {
        key: Some(Key::UserId(id.clone())),
    };
    seen(client.get_user(get()).await.unwrap_err()).is(Code::NotFound, "USER_NOT_FOUND");
    world
        .simulator
        .insert_user(UserSpec::new(&id, "New", "Comer", "Sales_User"));
    let found = client.get_user(get()).await.unwrap().into_inner().user.unwrap();
    assert_eq!(found.first_name, "New");
}

#[tokio::test]
async fn a_roster_that_fails_does_not_keep_a_user_from_being_found() {
    let world = World::start().await;
    world
        .simulator
        .add_fault(Fault::new("Users.Get", FaultKind::Empty500).times(100))
        .unwrap();
    let request = pb::GetUserRequest {
        key: Some(Key::UserId(SAM.into())),
    };
    let found = users(&world)
        .await
        .get_user(request)
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert_eq!(found.user_id, SAM);
}

#[tokio::test]
async fn users_are_listed_by_role_and_page() {
    let world = World::start().await;
    let mut client = users(&world).await;
    let mut list = async |include_inactive, page_size, page_token: String| {
        let request = pb::ListUsersRequest {
            role: "sales_user".into(),
            include_inactive,
            page_size,
            page_token,
        };
        client.list_users(request).await.unwrap().into_inner()
    };
    let active = list(false, 0, String::new()).await;
    let all = list(true, 0, String::new()).await;
    assert!(active.users.iter().all(|user| user.active && user.role == "Sales_User"));
    assert_eq!(all.users.len(), active.users.len() + 1);
    let first = list(true, 2, String::new()).await;
    let second = list(true, 2, first.next_page_token.clone()).await;
    let paged: Vec<_> = first.users.into_iter().chain(second.users).collect();
    assert_eq!(paged, all.users);
    assert_eq!(second.next_page_token, "");
}
