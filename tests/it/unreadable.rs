//! Unreadable records: the other records of a response are returned, without an additional call.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Damage, Fault, FaultKind, Limits, Options, Simulator};
use pb::activity_service_client::ActivityServiceClient;
use pb::user_service_client::UserServiceClient;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{World, by_id, channel, custom, lead, seen, text};
use crate::outage;
use crate::process::{Said, run};

/// Enough calls for all tests.
const SETTINGS: &str = "[tenants.acme.limits]\ncalls = 10000\n";
/// Every damage that makes a record unreadable.
const DAMAGES: [Damage; 6] = [
    Damage::InvalidUtf8,
    Damage::RawQuote,
    Damage::Number,
    Damage::Text,
    Damage::NoId,
    Damage::Cut,
];

async fn world() -> World {
    let mut options = Options::default();
    options.limits.calls = 0;
    World::with(options, SETTINGS).await
}

/// Leads with ordered ids.
fn leads(world: &World, count: usize) -> Vec<String> {
    let insert = |n: usize| {
        let (id, email) = (
            format!("00000000-0000-4000-8000-{n:012}"),
            format!("lead-{n}@example.com"),
        );
        world.simulator.insert_lead(&[
            ("ProspectID", &id),
            ("EmailAddress", &email),
            ("FirstName", "Asha"),
            ("mx_City", "Pune"),
        ])
    };
    (0..count).map(insert).collect()
}

fn break_record(world: &World, endpoint: &str, at: usize, how: Damage) {
    world
        .simulator
        .add_fault(Fault::new(endpoint, FaultKind::BreakRecord { at, how }).times(1_000_000))
        .unwrap();
}

fn read_ids(leads: &[pb::Lead]) -> Vec<String> {
    leads.iter().map(|lead| lead.lead_id.clone()).collect()
}

/// All ids except the one at that position.
fn without(ids: &[String], at: usize) -> Vec<String> {
    let others = ids.iter().enumerate().filter(|(i, _)| *i != at);
    others.map(|(_, id)| id.clone()).collect()
}

fn start() -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp::default())
}

fn assert_names(unreadable: &[pb::UnreadableRecord], position: i32, id: &str, how: Damage) {
    assert_eq!(unreadable.len(), 1, "{how:?}: {unreadable:?}");
    let found = &unreadable[0];
    assert_eq!(found.position, position, "{how:?}");
    assert!(found.json_path.contains(&format!("[{position}]")), "{how:?}: {found:?}");
    let is_lost = matches!(how, Damage::Number | Damage::Text | Damage::NoId | Damage::Cut);
    assert!(found.id == id || is_lost && found.id.is_empty(), "{how:?}: {found:?}");
}

#[tokio::test]
async fn one_damaged_lead_hides_no_other_in_any_list() {
    let world = world().await.warm().await;
    let ids = leads(&world, 9);
    let at = 4;
    for how in DAMAGES {
        for endpoint in [
            "Leads.Get",
            "Leads.GetByQuickSearch",
            "Leads.RecentlyModified",
            "Leads/Retrieve/ByIds",
        ] {
            break_record(&world, endpoint, at, how);
        }
        world.simulator.forget_calls();
        let mut client = world.client.clone();
        let request = pb::SearchLeadsRequest {
            field: "first_name".into(),
            value: Some(text("Asha")),
            ..Default::default()
        };
        let found = client.search_leads(request).await.unwrap().into_inner();
        assert_eq!(read_ids(&found.leads), without(&ids, at), "{how:?}");
        assert_names(&found.unreadable, 4, &ids[at], how);

        let request = pb::QuickSearchLeadsRequest {
            query: "Asha".into(),
            ..Default::default()
        };
        let found = client.quick_search_leads(request).await.unwrap().into_inner();
        assert_eq!(found.leads.len(), 8, "{how:?}");
        assert_eq!(found.unreadable.len(), 1, "{how:?}");

        let request = pb::ListModifiedLeadsRequest {
            start_time: start(),
            ..Default::default()
        };
        let found = client.list_modified_leads(request).await.unwrap().into_inner();
        assert_eq!(read_ids(&found.leads), without(&ids, at), "{how:?}");
        assert_names(&found.unreadable, 4, &ids[at], how);
        assert!(found.unreadable[0].json_path.starts_with("Leads[4]"), "{found:?}");
        assert_eq!(found.next_page_token, "");

        let request = pb::ExportLeadsRequest {
            start_time: start(),
            ..Default::default()
        };
        let mut stream = client.export_leads(request).await.unwrap().into_inner();
        let (mut read, mut unreadable) = (vec![], vec![]);
        while let Some(message) = stream.message().await.unwrap() {
            read.extend(read_ids(&message.leads));
            unreadable.extend(message.unreadable);
        }
        assert_eq!(read, without(&ids, at), "{how:?}");
        assert_names(&unreadable, 4, &ids[at], how);

        let request = pb::BatchGetLeadsRequest {
            lead_ids: ids.clone(),
            ..Default::default()
        };
        let found = client.batch_get_leads(request).await.unwrap().into_inner();
        assert_eq!(found.leads.len(), 8, "{how:?}");
        assert_eq!(found.missing_lead_ids, Vec::<String>::new());
        // All other leads were returned, so the id of the damaged one is known.
        assert_eq!(found.unreadable.len(), 1);
        let one = &found.unreadable[0];
        assert!(
            !read_ids(&found.leads).contains(&one.id) && ids.contains(&one.id),
            "{how:?}: {one:?}"
        );

        // One call for each.
        assert_eq!(world.simulator.calls().len(), 5, "{how:?}");
        world.simulator.clear_faults();
    }
}

#[tokio::test]
async fn a_lead_with_half_an_emoji_is_returned_like_the_others_and_one_with_a_raw_line_end_is_named() {
    let world = world().await.warm().await;
    let ids = leads(&world, 3);
    for how in [Damage::RawNewline, Damage::LoneSurrogate] {
        break_record(&world, "Leads.RecentlyModified", 1, how);
        break_record(&world, "Leads.GetById", 0, how);
        let request = pb::ListModifiedLeadsRequest {
            start_time: start(),
            ..Default::default()
        };
        let found = world.client.clone().list_modified_leads(request).await.unwrap();
        let found = found.into_inner();
        match how {
            Damage::RawNewline => {
                assert_eq!(read_ids(&found.leads), [ids[0].clone(), ids[2].clone()]);
                let [named] = &found.unreadable[..] else {
                    panic!("{found:?}");
                };
                assert_eq!((&named.id, named.position), (&ids[1], 1));
            }
            _ => assert_eq!((read_ids(&found.leads), found.unreadable), (ids.clone(), vec![])),
        }
        // A single read can read it.
        assert_eq!(world.get(by_id(&ids[1])).await.unwrap().lead_id, ids[1]);
        world.simulator.clear_faults();
    }
}

#[tokio::test]
async fn a_single_read_of_an_unreadable_lead_fails_with_its_path() {
    let world = world().await.warm().await;
    let ids = leads(&world, 1);
    for how in DAMAGES {
        // Without an id, the key identifies it.
        if how == Damage::NoId {
            continue;
        }
        break_record(&world, "Leads.GetById", 0, how);
        let error = seen(world.get(by_id(&ids[0])).await.unwrap_err());
        error.is(Code::Internal, "UPSTREAM_UNREADABLE");
        assert!(error.metadata["json_path"].starts_with("[0]"), "{how:?}: {error:?}");
        world.simulator.clear_faults();
    }
}

#[tokio::test]
async fn a_lead_that_is_unreadable_in_a_batch_is_read_by_its_own_call() {
    let options = Options {
        limits: Limits {
            calls: 2,
            bulk: 1,
            per: Duration::from_millis(300),
            ..Limits::default()
        },
        ..Options::default()
    };
    let settings = "[tenants.acme.limits]\ncalls = 2\nwindow = \"300ms\"\n";
    let world = World::with(options, settings).await.warm().await;
    let ids = leads(&world, 40);
    // In every batch response, but not in the response to a single read.
    for how in [Damage::InvalidUtf8, Damage::Number] {
        break_record(&world, "Leads/Retrieve/ByIds", 7, how);
        world.simulator.forget_calls();
        let mut reads = JoinSet::new();
        for id in ids.clone() {
            let mut client = world.client.clone();
            reads.spawn(async move {
                let request = pb::GetLeadRequest {
                    key: Some(by_id(&id)),
                    ..Default::default()
                };
                (id, client.get_lead(request).await)
            });
        }
        for (id, result) in reads.join_all().await {
            assert_eq!(result.unwrap().into_inner().lead.unwrap().lead_id, id, "{how:?}");
        }
        let shared = world.calls("Leads/Retrieve/ByIds").len();
        assert!((1..=4).contains(&shared), "{shared} shared calls");
        let calls = world.simulator.calls().len();
        assert!(calls <= 8, "{calls} calls");
        world.simulator.clear_faults();
    }
}

#[tokio::test]
async fn pages_with_an_unreadable_lead_are_each_read_once() {
    let world = world().await.warm().await;
    let ids = leads(&world, 35);
    for how in DAMAGES {
        break_record(&world, "Leads.RecentlyModified", 3, how);
        break_record(&world, "Leads.Get", 3, how);
        world.simulator.forget_calls();
        let (mut token, mut read, mut unreadable) = (String::new(), vec![], 0);
        loop {
            let request = pb::ListModifiedLeadsRequest {
                start_time: start(),
                page_size: 10,
                page_token: token,
                ..Default::default()
            };
            let page = world
                .client
                .clone()
                .list_modified_leads(request)
                .await
                .unwrap()
                .into_inner();
            read.extend(read_ids(&page.leads));
            unreadable += page.unreadable.len();
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let expected: Vec<_> = ids
            .iter()
            .enumerate()
            .filter(|(i, _)| i % 10 != 3)
            .map(|(_, id)| id.clone())
            .collect();
        assert_eq!((read, unreadable), (expected.clone(), 4), "{how:?}");
        assert_eq!(world.calls("Leads.RecentlyModified").len(), 4, "{how:?}");

        let (mut token, mut read) = (String::new(), vec![]);
        loop {
            let request = pb::SearchLeadsRequest {
                field: "first_name".into(),
                value: Some(text("Asha")),
                page_size: 10,
                page_token: token,
                ..Default::default()
            };
            let page = world.client.clone().search_leads(request).await.unwrap().into_inner();
            read.extend(read_ids(&page.leads));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(read, expected, "{how:?}");
        world.simulator.clear_faults();
    }
}

#[tokio::test]
async fn a_page_that_breaks_off_is_an_error() {
    let world = world().await.warm().await;
    leads(&world, 5);
    world
        .simulator
        .add_fault(Fault::new("Leads.RecentlyModified", FaultKind::GarbageJson))
        .unwrap();
    let request = pb::ListModifiedLeadsRequest {
        start_time: start(),
        ..Default::default()
    };
    let error = seen(world.client.clone().list_modified_leads(request).await.unwrap_err());
    error.is(Code::Internal, "UPSTREAM_UNREADABLE");
}

#[tokio::test]
async fn one_damaged_activity_hides_no_other() {
    let world = world().await.warm().await;
    let lead_id = leads(&world, 1).remove(0);
    for _ in 0..5 {
        world.simulator.insert_activity(&lead_id, 201, &[("mx_Custom_1", "x")]);
    }
    let mut client = ActivityServiceClient::new(channel(world.address).await);
    for how in DAMAGES {
        for endpoint in ["ProspectActivity.Retrieve", "ProspectActivity.RetrieveRecentlyModified"] {
            break_record(&world, endpoint, 2, how);
        }
        let request = pb::ListLeadActivitiesRequest {
            lead_id: lead_id.clone(),
            ..Default::default()
        };
        let found = client.list_lead_activities(request).await.unwrap().into_inner();
        assert_eq!(
            (found.activities.len(), found.unreadable.len()),
            (4, 1),
            "{how:?}: {found:?}"
        );
        assert_eq!(found.unreadable[0].position, 2);
        let request = pb::ListActivitiesRequest {
            start_time: start(),
            ..Default::default()
        };
        let found = client.list_activities(request).await.unwrap().into_inner();
        assert_eq!(
            (found.activities.len(), found.unreadable.len()),
            (4, 1),
            "{how:?}: {found:?}"
        );
        world.simulator.clear_faults();
    }
}

#[tokio::test]
async fn users_activity_types_and_attributes_are_listed_if_one_is_damaged() {
    for how in DAMAGES {
        let world = world().await;
        for endpoint in ["Users.Get", "ProspectActivity.ActivityTypes", "LeadsMetaData.Get"] {
            break_record(&world, endpoint, 1, how);
        }
        let mut users = UserServiceClient::new(channel(world.address).await);
        let request = pb::ListUsersRequest {
            include_inactive: true,
            ..Default::default()
        };
        let found = users.list_users(request).await.unwrap().into_inner();
        assert!(found.users.len() > 1, "{how:?}: {found:?}");
        assert_eq!(found.unreadable.len(), 1, "{how:?}: {found:?}");

        let mut activities = ActivityServiceClient::new(channel(world.address).await);
        let found = activities
            .list_activity_types(pb::ListActivityTypesRequest {})
            .await
            .unwrap();
        let found = found.into_inner();
        assert!(found.activity_types.len() > 1, "{how:?}: {found:?}");
        assert_eq!(found.unreadable.len(), 1, "{how:?}: {found:?}");

        let request = pb::DescribeLeadFieldsRequest::default();
        let found = world
            .client
            .clone()
            .describe_lead_fields(request)
            .await
            .unwrap()
            .into_inner();
        assert!(found.fields.len() > 10, "{how:?}: {found:?}");
        assert_eq!(found.unreadable.len(), 1, "{how:?}: {found:?}");
    }
}

#[tokio::test]
async fn an_attribute_whose_description_is_unreadable_can_be_written_and_read() {
    let clean = world().await;
    let request = pb::DescribeLeadFieldsRequest::default();
    let all = clean
        .client
        .clone()
        .describe_lead_fields(request)
        .await
        .unwrap()
        .into_inner()
        .fields;
    let at = all.iter().position(|field| field.schema_name == "mx_KYC");
    let (at, name) = match at {
        Some(at) => (at, "mx_KYC".to_owned()),
        None => {
            let at = all
                .iter()
                .position(|field| field.schema_name.starts_with("mx_") && field.data_type == "Text");
            (at.unwrap(), all[at.unwrap()].schema_name.clone())
        }
    };
    for how in [Damage::InvalidUtf8, Damage::Number] {
        let world = world().await;
        break_record(&world, "LeadsMetaData.Get", at, how);
        let world = world.warm().await;
        let mut fields = lead("Asha");
        fields.custom = custom(&[(name.as_str(), text("x"))]);
        let id = world.create(fields).await.unwrap();
        let request = pb::GetLeadRequest {
            key: Some(by_id(&id)),
            read_mask: Some(prost_types::FieldMask {
                paths: vec![format!("fields.custom.{name}"), "lead_id".to_owned()],
            }),
            ..Default::default()
        };
        let found = world.client.clone().get_lead(request).await.unwrap().into_inner();
        assert_eq!(found.lead.unwrap().lead_id, id, "{how:?}");
    }
}

#[tokio::test]
async fn export_lists_unreadable_records_in_a_file_and_ends_with_1() {
    let world = world().await.warm().await;
    let ids = leads(&world, 12);
    break_record(&world, "Leads.RecentlyModified", 5, Damage::RawNewline);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("leads.csv");
    let (address, name) = (world.address.to_string(), out.to_str().unwrap());
    let export = [
        "export",
        "--addr",
        &address,
        "--from",
        "20000d",
        "--fields",
        "FirstName",
        "--out",
        name,
    ];
    world.simulator.forget_calls();
    let said = Said::from(run(&export).await);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("1 record(s)") && said.err.contains("leads.csv.unreadable.jsonl"),
        "{said:?}"
    );
    assert_eq!(world.calls("Leads.RecentlyModified").len(), 1);
    let rows = std::fs::read_to_string(&out).unwrap();
    let read: Vec<_> = rows
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap().to_owned())
        .collect();
    assert_eq!(read, without(&ids, 5));
    let report = folder.path().join("leads.csv.unreadable.jsonl");
    let lines = std::fs::read_to_string(&report).unwrap();
    let line: Json = serde_json::from_str(lines.trim_end()).unwrap();
    assert_eq!(
        (line["id"].clone(), line["position"].clone()),
        (json!(ids[5]), json!(5))
    );
    assert!(line["json_path"].as_str().unwrap().starts_with("Leads[5]"), "{line}");
    assert_eq!(std::fs::metadata(&report).unwrap().permissions().mode() & 0o777, 0o600);

    // The report of another export is not overwritten.
    std::fs::remove_file(&out).unwrap();
    let said = Said::from(run(&export).await);
    assert!(said.code == Some(1) && said.err.contains("--force"), "{said:?}");
    world.simulator.clear_faults();
    let said = Said::from(run(&[&export[..], &["--force"]].concat()).await);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!report.exists());
}

#[tokio::test]
async fn unreadable_metadata_is_logged_and_the_rest_is_used() {
    let simulator = Simulator::new(Options::default());
    let (at, how) = (2, Damage::InvalidUtf8);
    simulator
        .add_fault(Fault::new("LeadsMetaData.Get", FaultKind::BreakRecord { at, how }).times(1_000))
        .unwrap();
    let address = outage::serve(simulator).await;
    let settings = outage::settings(&format!("http://{address}"), "");
    let words = [
        "WARN",
        "LeadsMetaData.Get",
        "response has unreadable records",
        "\"unreadable\":1",
    ];
    let log = outage::log_until(&settings, &[], &words, async |_| {}).await;
    let attempts = log
        .lines()
        .filter(|line| line.contains("leadgate::attempt") && line.contains("\"unreadable\":1"));
    assert_eq!(attempts.count(), 1, "{log}");
}
