//! Responses and errors fit into the limits of default clients.

use std::collections::BTreeSet;

use leadgate::grpc::pb;
use leadgate_simulator::{ActivityTypeSpec, Limits, Options, UserSpec};
use pb::activity_service_client::ActivityServiceClient;
use pb::lead_service_client::LeadServiceClient;
use pb::user_service_client::UserServiceClient;
use prost::Message;
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};

use crate::harness::{Client, Seen, World, by_id, channel, custom, lead, seen, text};

/// A world with small responses, so that few leads make many pages, and no delay by the quota.
async fn small(options: Options) -> World {
    let limits = Limits {
        calls: 10_000,
        ..Limits::default()
    };
    let options = Options { limits, ..options };
    let settings = "[server]\nmax_response_bytes = 20000\n[tenant_defaults.limits]\ncalls = 10000";
    World::with(options, settings).await
}

const DAY: &str = "2026-03-01 10:00:00";

/// A client with default limits.
async fn client(world: &World) -> Client {
    LeadServiceClient::new(channel(world.address).await)
}

/// Creates leads with notes of about that length.
fn leads(world: &World, count: usize, note: usize) -> Vec<String> {
    let insert = |i: usize| {
        let notes = "n".repeat(note / 2 + (i * 7919) % note.max(1));
        let pairs = [
            ("FirstName", "Lead"),
            ("Notes", notes.as_str()),
            ("LeadLastModifiedOn", DAY),
        ];
        world.simulator.insert_lead(&pairs)
    };
    (0..count).map(insert).collect()
}

fn day() -> pb::ListModifiedLeadsRequest {
    let at = |text: &str| {
        let at: jiff::Timestamp = text.parse().unwrap();
        Some(Timestamp {
            seconds: at.as_second(),
            nanos: 0,
        })
    };
    pb::ListModifiedLeadsRequest {
        start_time: at("2026-03-01T00:00:00Z"),
        end_time: at("2026-03-02T00:00:00Z"),
        ..Default::default()
    }
}

fn export_of_day() -> pb::ExportLeadsRequest {
    pb::ExportLeadsRequest {
        start_time: day().start_time,
        end_time: day().end_time,
        ..Default::default()
    }
}

/// Reads all leads by id, and requests the remaining ones again.
async fn batch_get(world: &World, ids: &[String]) -> (usize, Vec<pb::Lead>, Vec<String>) {
    let mut client = client(world).await;
    let (mut found, mut missing, mut lead_ids) = (vec![], vec![], ids.to_vec());
    for count in 1.. {
        let request = pb::BatchGetLeadsRequest {
            lead_ids,
            ..Default::default()
        };
        let answer = client.batch_get_leads(request).await.unwrap().into_inner();
        found.extend(answer.leads);
        missing.extend(answer.missing_lead_ids);
        lead_ids = answer.remaining_lead_ids;
        if lead_ids.is_empty() {
            return (count, found, missing);
        }
    }
    unreachable!()
}

/// Reads all pages. Returns their number and the leads. The client accepts each page.
async fn list(world: &World, page_size: i32) -> (usize, Vec<String>) {
    let mut client = client(world).await;
    let (mut found, mut page_token) = (vec![], String::new());
    for count in 1.. {
        let request = pb::ListModifiedLeadsRequest {
            page_size,
            page_token,
            ..day()
        };
        let page = client.list_modified_leads(request).await.unwrap().into_inner();
        found.extend(page.leads.into_iter().map(|lead| lead.lead_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (count, found);
        }
    }
    unreachable!()
}

#[tokio::test]
async fn three_thousand_long_leads_are_read_by_id_with_a_default_client() {
    let world = World::start().await.warm().await;
    let mut ids = leads(&world, 3_000, 3_000);
    let nobody = "00000000-0000-0000-0000-000000000001".to_owned();
    ids.push(nobody.clone());
    let (count, found, missing) = batch_get(&world, &ids).await;
    let found: Vec<_> = found.into_iter().map(|lead| lead.lead_id).collect();
    assert_eq!(found.len(), 3_000);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 3_000);
    assert_eq!(missing, [nobody]);
    assert!((2..=4).contains(&count), "{count}");
    // One more call if leads are missing; none for leads that did not fit.
    assert_eq!(world.calls("Leads/Retrieve/ByIds").len(), count + 1);
}

#[tokio::test]
async fn pages_of_leads_by_id_that_would_not_fit_are_not_read() {
    let options = Options {
        by_ids_page_max: 20,
        ..Options::default()
    };
    let world = small(options).await.warm().await;
    let mut ids = leads(&world, 100, 1_500);
    ids.push("00000000-0000-0000-0000-000000000001".to_owned());
    let (count, found, missing) = batch_get(&world, &ids).await;
    assert_eq!((found.len(), missing.len()), (100, 1));
    // One call per page, and one to verify that a lead is missing.
    let calls = world.calls("Leads/Retrieve/ByIds").len();
    assert!(calls <= count + 2, "{calls} calls for {count}");
}

#[tokio::test]
async fn pages_of_five_thousand_long_leads_are_read_with_a_default_client() {
    let world = World::start().await.warm().await;
    let mut expected = leads(&world, 6_000, 3_000);
    expected.sort();
    let (count, mut found) = list(&world, 5_000).await;
    found.sort();
    assert_eq!(found, expected);
    // One call per page, and no page is much smaller than necessary.
    let bytes = 6_000 * 3_100;
    assert!(count <= bytes / 4_000_000 * 2, "{count}");
    assert_eq!(world.calls("Leads.RecentlyModified").len(), count);
}

#[tokio::test]
async fn pages_of_leads_of_different_lengths_lose_no_lead() {
    let world = small(Options::default()).await;
    for (i, length) in [9_000, 10, 5_000, 14_000, 3, 8_000, 8_000, 700, 12_000, 20]
        .into_iter()
        .cycle()
        .take(60)
        .enumerate()
    {
        let (name, notes) = (format!("Lead {i}"), "n".repeat(length));
        let pairs = [
            ("FirstName", name.as_str()),
            ("Notes", &notes),
            ("LeadLastModifiedOn", DAY),
        ];
        world.simulator.insert_lead(&pairs);
    }
    let all: BTreeSet<_> = ids(&world);
    for page_size in [0, 7, 50] {
        let (_, found) = list(&world, page_size).await;
        assert_eq!(found.len(), 60, "{page_size}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all);
    }
    let (_, found, _) = batch_get(&world, &all.iter().cloned().collect::<Vec<_>>()).await;
    assert_eq!(found.len(), 60);
}

fn ids(world: &World) -> BTreeSet<String> {
    let leads = world.simulator.leads().into_iter();
    leads.filter_map(|lead| lead["ProspectID"].clone()).collect()
}

#[tokio::test]
async fn pages_of_a_search_end_early_and_continue_after_the_last_lead() {
    let world = small(Options::default()).await;
    leads(&world, 90, 1_500);
    let (mut client, mut found, mut page_token, mut pages) = (client(&world).await, vec![], String::new(), 0);
    loop {
        let request = pb::SearchLeadsRequest {
            field: "first_name".into(),
            value: Some(text("Lead")),
            page_size: 40,
            page_token,
            ..Default::default()
        };
        let answer = client.search_leads(request).await.unwrap().into_inner();
        assert!(answer.encoded_len() <= 20_000);
        found.extend(answer.leads.into_iter().map(|lead| lead.lead_id));
        pages += 1;
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ids(&world).into_iter().collect::<Vec<_>>());
    assert_eq!(world.calls("Leads.Get").len(), pages);
    assert!(pages <= 14, "{pages}");
}

#[tokio::test]
async fn pages_of_activities_end_early_and_continue_after_the_last_one() {
    let world = small(Options::default()).await;
    let lead_id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    let note = "n".repeat(1_800);
    let activity = |_| {
        world
            .simulator
            .insert_activity(&lead_id, 201, &[("ActivityEvent_Note", &note), ("mx_Custom_1", &note)])
    };
    let mut expected: Vec<_> = (0..50).map(activity).collect();
    expected.sort();
    let mut client = ActivityServiceClient::new(channel(world.address).await);
    for of_lead in [true, false] {
        let (mut found, mut page_token) = (vec![], String::new());
        loop {
            let (activities, next) = if of_lead {
                let request = pb::ListLeadActivitiesRequest {
                    lead_id: lead_id.clone(),
                    page_size: 30,
                    page_token,
                    ..Default::default()
                };
                let page = client.list_lead_activities(request).await.unwrap().into_inner();
                assert!(page.encoded_len() <= 20_000);
                (page.activities, page.next_page_token)
            } else {
                let request = pb::ListActivitiesRequest {
                    start_time: Some(Timestamp::default()),
                    activity_type: 201,
                    page_size: 30,
                    page_token,
                    ..Default::default()
                };
                let page = client.list_activities(request).await.unwrap().into_inner();
                assert!(page.encoded_len() <= 20_000);
                (page.activities, page.next_page_token)
            };
            found.extend(activities.into_iter().map(|activity| activity.activity_id));
            page_token = next;
            if page_token.is_empty() {
                break;
            }
        }
        found.sort();
        assert_eq!(found, expected, "{of_lead}");
    }
}

#[tokio::test]
async fn pages_of_users_end_early_and_continue_after_the_last_one() {
    let world = small(Options::default()).await;
    for i in 0..200 {
        let id = format!("b0000000-0000-4000-8000-{i:012}");
        let name = format!("{}{i}", "Long".repeat(50));
        world
            .simulator
            .insert_user(UserSpec::new(&id, &name, "User", "Sales_User"));
    }
    let mut client = UserServiceClient::new(channel(world.address).await);
    let (mut found, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = pb::ListUsersRequest {
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = client.list_users(request).await.unwrap().into_inner();
        assert!(page.encoded_len() <= 20_000);
        for user in page.users {
            assert!(found.insert(user.user_id));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found.iter().filter(|id| id.starts_with('b')).count(), 200);
}

#[tokio::test]
async fn the_messages_of_an_export_fit_a_default_client() {
    let world = small(Options::default()).await;
    let mut expected = leads(&world, 200, 1_500);
    expected.sort();
    let mut stream = client(&world)
        .await
        .export_leads(export_of_day())
        .await
        .unwrap()
        .into_inner();
    let mut found = vec![];
    while let Some(message) = stream.message().await.unwrap() {
        assert!(message.encoded_len() <= 20_000);
        found.extend(message.leads.into_iter().map(|lead| lead.lead_id));
    }
    assert_eq!(found, expected);
    assert_eq!(world.calls("Leads.RecentlyModified").len(), 1);
}

fn is_too_large(status: Status) -> Seen {
    let error = seen(status);
    error.is(Code::ResourceExhausted, "RESPONSE_TOO_LARGE");
    let message = error.status.message();
    assert!(
        message.contains("server.max_response_bytes (20000)") && message.contains("read_mask"),
        "{message}"
    );
    assert_eq!(error.status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
    error
}

#[tokio::test]
async fn a_lead_that_is_too_large_by_itself_is_named_and_can_be_read_in_part() {
    let world = small(Options::default()).await;
    let long = leads(&world, 1, 30_000).remove(0);
    let long_notes = "n".repeat(30_000);
    let long_too = world.simulator.insert_lead(&[
        ("FirstName", "Lead"),
        ("Notes", &long_notes),
        ("LeadLastModifiedOn", DAY),
    ]);
    world.simulator.insert_lead(&[
        ("ProspectID", &long),
        ("Notes", &long_notes),
        ("LeadLastModifiedOn", DAY),
    ]);
    let short = leads(&world, 1, 10).remove(0);
    let mut client = client(&world).await;
    let mask = || {
        let paths = vec!["fields.first_name".into()];
        Some(FieldMask { paths })
    };

    let get = |read_mask| pb::GetLeadRequest {
        key: Some(by_id(&long)),
        read_mask,
        ..Default::default()
    };
    is_too_large(client.get_lead(get(None)).await.unwrap_err());
    assert!(client.get_lead(get(mask())).await.is_ok());

    // The other leads are read. In the end, the remaining lead is rejected.
    let batch = |lead_ids: Vec<String>, read_mask| pb::BatchGetLeadsRequest { lead_ids, read_mask };
    let all = vec![long.clone(), short.clone(), long_too.clone()];
    let answer = client.batch_get_leads(batch(all, None)).await.unwrap().into_inner();
    assert_eq!((answer.leads.len(), &answer.leads[0].lead_id), (1, &short));
    assert_eq!(answer.remaining_lead_ids, [long.clone(), long_too]);
    assert!(answer.missing_lead_ids.is_empty());
    let rest = answer.remaining_lead_ids;
    let error = is_too_large(client.batch_get_leads(batch(rest.clone(), None)).await.unwrap_err());
    assert!(rest.contains(&error.details.resource_info().unwrap().resource_name));
    let answer = client.batch_get_leads(batch(rest, mask())).await.unwrap().into_inner();
    assert_eq!(answer.leads.len(), 2);

    let request = pb::SearchLeadsRequest {
        field: "ProspectID".into(),
        value: Some(text(&long)),
        ..Default::default()
    };
    let error = is_too_large(client.search_leads(request).await.unwrap_err());
    assert_eq!(error.details.resource_info().unwrap().resource_name, long);

    let mut ended = client.export_leads(export_of_day()).await.unwrap().into_inner();
    let error = loop {
        match ended.message().await {
            Ok(message) => assert!(message.unwrap().encoded_len() <= 20_000),
            Err(status) => break is_too_large(status),
        }
    };
    assert!(!error.details.resource_info().unwrap().resource_name.is_empty());
}

#[tokio::test]
async fn a_response_without_pages_is_rejected_if_it_is_too_large() {
    let options = Options {
        activity_types: (0..600)
            .map(|i| ActivityTypeSpec::new(300 + i, "A long name of a type of activities"))
            .collect(),
        ..Default::default()
    };
    let world = small(options).await;
    let mut client = ActivityServiceClient::new(channel(world.address).await);
    let request = pb::ListActivityTypesRequest {};
    let error = is_too_large(client.list_activity_types(request).await.unwrap_err());
    assert_eq!(error.metadata["tenant"], "acme");
    leads(&world, 40, 1_500);
    let request = pb::QuickSearchLeadsRequest {
        query: "Lead".into(),
        read_mask: None,
    };
    is_too_large(
        self::client(&world)
            .await
            .quick_search_leads(request)
            .await
            .unwrap_err(),
    );
}

/// A lead with attributes that the account does not have.
fn unknown(names: impl IntoIterator<Item = String>) -> pb::LeadFields {
    let names: Vec<_> = names.into_iter().collect();
    let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), text("x"))).collect();
    pb::LeadFields {
        custom: custom(&pairs),
        ..lead("Asha")
    }
}

fn create(lead: pb::LeadFields) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        lead: Some(lead),
        ..Default::default()
    }
}

/// The size of the trailers of an error as HTTP/2 counts it.
fn trailers(status: &Status) -> usize {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

#[tokio::test]
async fn errors_with_many_or_long_names_fit_every_client() {
    let world = World::start().await.warm().await;
    let many = (0..100).map(|i| format!("mx_Unknown_{i}"));
    let long = ["x".repeat(5_000)];
    let foreign = ["नाम".repeat(1_500), "mx_Shoe_Size".to_owned()];
    let many_long = (0..60).map(|i| format!("mx_{i}_{}", "é\"{".repeat(700)));
    for (lead, count) in [
        (unknown(many), 100),
        (unknown(long), 1),
        (unknown(foreign), 2),
        (unknown(many_long), 60),
    ] {
        for rest in [None, Some("i".repeat(128))] {
            let mut request = tonic::Request::new(create(lead.clone()));
            if let Some(id) = &rest {
                request.metadata_mut().insert("x-request-id", id.parse().unwrap());
            }
            let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
            error.is(Code::InvalidArgument, "INVALID_FIELD");
            assert!(trailers(&error.status) < 6_000, "{}", trailers(&error.status));
            assert_eq!(error.metadata["tenant"], "acme");
            let violations = &error.details.bad_request().unwrap().field_violations;
            if violations.len() < count {
                let last = &violations.last().unwrap().description;
                assert_eq!(*last, format!("and {} more", count - (violations.len() - 1)));
            }
            assert!(violations.len() > 4.min(count) - 1, "{}", violations.len());
        }
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn a_batch_with_many_long_errors_fits_a_default_client() {
    let world = World::start().await.warm().await;
    // Each error has some kilobytes.
    let lead = || unknown((0..18).map(|i| format!("mx_{i}_{}", "u".repeat(180))));
    let requests = (0..1_000).map(|_| create(lead())).collect();
    let request = pb::BatchCreateLeadsRequest {
        requests,
        ..Default::default()
    };
    let mut client = client(&world).await;
    let answer = client.batch_create_leads(request).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), 1_000);
    assert!(answer.encoded_len() <= 4_000_000);
    for result in answer.results {
        let Some(pb::batch_create_leads_result::Result::Error(error)) = result.result else {
            panic!("{result:?}");
        };
        let status = Status::with_details(error.code.into(), error.message.clone(), error.encode_to_vec().into());
        let error = seen(status);
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        let violations = &error.details.bad_request().unwrap().field_violations;
        let last = &violations.last().unwrap().description;
        assert_eq!(*last, format!("and {} more", 18 - (violations.len() - 1)));
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn results_are_shortened_to_reason_and_retry_info() {
    let settings = "[server]\nmax_response_bytes = 16384\n[tenant_defaults.limits]\ncalls = 1\nwindow = \"30s\"";
    let world = World::with(Options::default(), settings).await.warm().await;
    let requests = |count: usize| pb::BatchCreateLeadsRequest {
        requests: (0..count).map(|i| create(lead(&format!("L{i}")))).collect(),
        ..Default::default()
    };
    let mut client = client(&world).await;
    let short = crate::harness::within(std::time::Duration::from_millis(500), requests(50));
    let answer = client.batch_create_leads(short).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), 50);
    assert!(answer.encoded_len() <= 16_384);
    for result in answer.results {
        let Some(pb::batch_create_leads_result::Result::Error(error)) = result.result else {
            panic!("{result:?}");
        };
        let status = Status::with_details(error.code.into(), error.message.clone(), error.encode_to_vec().into());
        let error = seen(status);
        error.is(Code::ResourceExhausted, "DEADLINE_INFEASIBLE");
        assert!(error.details.retry_info().unwrap().retry_delay.is_some());
    }

    // A batch whose results would not fit is not executed.
    world.simulator.forget_calls();
    let error = seen(client.batch_create_leads(requests(60)).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["requests"]);
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn a_duplicate_names_the_field_as_the_request_does() {
    let world = World::start().await;
    world.create(lead("Asha")).await.unwrap();
    let error = seen(world.create(lead("Asha")).await.unwrap_err());
    error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
    assert_eq!(error.metadata["field"], "lead.email_address");
    assert_eq!(error.details.resource_info().unwrap().description, "lead.email_address");
}

#[tokio::test]
async fn a_response_is_sent_up_to_the_limit_and_not_above() {
    let world = small(Options::default()).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    let mut client = LeadServiceClient::new(channel(world.address).await).max_decoding_message_size(20_000);
    let mut sent = 0;
    for length in 19_930..=20_000 {
        let notes = "n".repeat(length);
        world.simulator.insert_lead(&[("ProspectID", &id), ("Notes", &notes)]);
        let paths = vec!["fields.notes".into()];
        let request = pb::GetLeadRequest {
            key: Some(by_id(&id)),
            read_mask: Some(FieldMask { paths }),
            ..Default::default()
        };
        match client.get_lead(request).await {
            Ok(_) => sent = length,
            Err(status) => drop(is_too_large(status)),
        }
    }
    assert!((19_930..20_000).contains(&sent), "{sent}");
}
