//! Request coalescing, and cached leads.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind};
use tonic::Code;

use super::{BY_IDS, update_of, world};
use crate::harness::{World, by_id, concurrently, seen, within};

#[tokio::test]
async fn concurrent_identical_reads_are_one_call() {
    let world = world("").await;
    world.insert_leads(3);
    world
        .simulator
        .add_fault(Fault::new(
            "Leads.GetByEmailaddress",
            FaultKind::Delay {
                by: Duration::from_millis(150),
            },
        ))
        .unwrap();
    let reads = (0..30).map(|n| {
        let (mut client, email) = (
            world.client.clone(),
            if n % 2 == 0 {
                "lead-1@example.com"
            } else {
                "LEAD-1@example.com"
            },
        );
        let request = pb::GetLeadRequest {
            key: Some(pb::get_lead_request::Key::EmailAddress(email.to_owned())),
            ..Default::default()
        };
        async move { client.get_lead(request).await }
    });
    for read in concurrently(reads).await {
        let lead = read.unwrap().into_inner().lead.unwrap();
        assert_eq!(
            lead.fields.unwrap().email_address.as_deref(),
            Some("lead-1@example.com")
        );
    }
    assert_eq!(world.calls("Leads.GetByEmailaddress").len(), 1);
    world
        .until("leadgate_reads_coalesced_total{tenant=\"acme\",by=\"flight\"} 29")
        .await;
}

#[tokio::test]
async fn a_read_after_a_write_does_not_join_a_read_that_started_before() {
    let world = World::start().await.warm().await;
    let ids = world.insert_leads(2);
    let get = |n: usize| {
        let (world, email) = (world.client.clone(), format!("lead-{n}@example.com"));
        async move {
            let key = Some(pb::get_lead_request::Key::EmailAddress(email));
            let request = pb::GetLeadRequest {
                key,
                ..Default::default()
            };
            world.clone().get_lead(request).await.map(|_| ())
        }
    };
    let hang = FaultKind::Delay {
        by: Duration::from_millis(400),
    };
    world
        .simulator
        .add_fault(Fault::new("Leads.GetByEmailaddress", hang))
        .unwrap();
    let early = tokio::spawn(get(0));
    while world.calls("Leads.GetByEmailaddress").is_empty() {
        tokio::task::yield_now().await;
    }
    // The read does not know its lead yet. It may be the lead that is written.
    world.update(update_of(&ids[1], "Pune")).await.unwrap();
    get(0).await.unwrap();
    assert!(!early.is_finished(), "the first read is still in progress");
    assert_eq!(world.calls("Leads.GetByEmailaddress").len(), 2);
    early.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_coalesced_read_continues_after_the_deadline_of_its_first_caller() {
    let world = world("").await;
    let delay = || {
        Fault::new(
            "Leads.GetByEmailaddress",
            FaultKind::Delay {
                by: Duration::from_millis(200),
            },
        )
    };
    world.insert_leads(1);
    let get = |limit| {
        let mut client = world.client.clone();
        let request = pb::GetLeadRequest {
            key: Some(pb::get_lead_request::Key::EmailAddress("lead-0@example.com".to_owned())),
            ..Default::default()
        };
        async move { client.get_lead(within(limit, request)).await }
    };
    world.simulator.add_fault(delay()).unwrap();
    let (short, long) = tokio::join!(get(Duration::from_millis(120)), get(Duration::from_secs(5)));
    seen(short.unwrap_err()).is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    // The deadline of one caller does not end the read of another.
    assert_eq!(
        long.unwrap()
            .into_inner()
            .lead
            .unwrap()
            .fields
            .unwrap()
            .first_name
            .as_deref(),
        Some("Old")
    );
}

#[tokio::test]
async fn a_cached_lead_is_returned_within_max_staleness_until_the_lead_is_written() {
    let world = world("").await;
    let ids = world.insert_leads(2);
    let get = |id: &str, seconds: Option<i64>, paths: &[&str]| {
        let mut client = world.client.clone();
        let request = pb::GetLeadRequest {
            key: Some(by_id(id)),
            max_staleness: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            read_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
        };
        async move {
            client
                .get_lead(request)
                .await
                .unwrap()
                .into_inner()
                .lead
                .unwrap()
                .fields
                .unwrap()
        }
    };
    let reads = || world.calls("Leads.GetById").len() + world.calls(BY_IDS).len();
    get(&ids[0], Some(60), &[]).await;
    get(&ids[0], Some(60), &["fields.city"]).await;
    get(&ids[0].to_uppercase(), Some(60), &[]).await;
    assert_eq!(reads(), 1);
    // Without max_staleness, the lead is read again.
    get(&ids[0], None, &[]).await;
    assert_eq!(reads(), 2);
    world.update(update_of(&ids[0], "Pune")).await.unwrap();
    let fields = get(&ids[0], Some(60), &["fields.city"]).await;
    assert_eq!((fields.city.as_deref(), fields.first_name), (Some("Pune"), None));
    assert_eq!(reads(), 3);
    // A response with few fields does not serve a request for more.
    assert_eq!(get(&ids[0], Some(60), &[]).await.first_name.as_deref(), Some("Old"));
    assert_eq!(reads(), 4);
}
