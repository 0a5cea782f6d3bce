//! Which operations are sent in batches, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Limits, Options, Order};
use pb::share_service_client::ShareServiceClient;
use tonic::Code;
use uuid::Uuid;

use super::{BY_IDS, SETTINGS, UPDATE_V2, ids_in, options, update_of, updates_of, world};
use crate::harness::{World, by_id, channel, concurrently, custom, lead, lone_read, seen, text, within};
use crate::share::{SAM, SITA};

#[tokio::test]
async fn waiting_updates_are_sent_as_a_batch_and_a_lone_update_by_its_own_endpoint() {
    let world = world("").await;
    let ids = world.insert_leads(52);
    let updates = ids.iter().map(|id| update_of(id, id)).collect();
    for result in world.update_all(updates).await {
        assert_eq!(result.unwrap(), 1);
    }
    for id in &ids {
        assert_eq!(world.value_of(id, "mx_City").as_deref(), Some(id.as_str()));
    }
    let (single, batches) = (world.calls("Lead.Update").len(), ids_in(&world, UPDATE_V2));
    let max = batches.iter().map(Vec::len).max().unwrap();
    assert_eq!(max, 25, "{batches:?}");
    assert_eq!(single + batches.iter().map(Vec::len).sum::<usize>(), 52);
    assert!(
        single + batches.len() <= 8,
        "{single} single calls, {} batches",
        batches.len()
    );
    assert_eq!(world.simulator.stats().refused, 0);
    // A lone update is sent by its own endpoint.
    world.simulator.forget_calls();
    tokio::time::sleep(Duration::from_millis(700)).await;
    world.update(update_of(&ids[0], "Pune")).await.unwrap();
    assert_eq!((world.calls("Lead.Update").len(), world.calls(UPDATE_V2).len()), (1, 0));
}

#[tokio::test]
async fn waiting_reads_are_sent_as_a_batch_and_each_gets_its_own_lead() {
    let options = Options {
        by_ids_order: Order::Reversed,
        by_ids_page_max: 150,
        ..options()
    };
    let world = World::with(options, SETTINGS).await.warm().await;
    let mut ids = world.insert_leads(200);
    let missing = Uuid::new_v4().to_string();
    ids.insert(77, missing.clone());
    ids.push(ids[3].to_uppercase());
    let single = world.get(by_id(&ids[0])).await.unwrap();
    let results = world.get_all(&ids).await;
    for (id, result) in ids.iter().zip(&results) {
        match result {
            Ok(lead) => assert_eq!(lead.lead_id, id.to_lowercase()),
            Err(status) => {
                assert_eq!(*id, missing);
                seen(status.clone()).is(Code::NotFound, "LEAD_NOT_FOUND");
            }
        }
    }
    // A single read and a batch return the same attributes.
    let again = results
        .into_iter()
        .find_map(|result| result.ok().filter(|lead| lead.lead_id == single.lead_id));
    assert_eq!(again.unwrap(), single);
    let calls = world.calls(BY_IDS).len() + world.calls("Leads.GetById").len();
    assert!(calls <= 8, "{calls} calls");
    assert!(world.calls(BY_IDS).len() >= 2, "the pages of 150 are too short for one");
}

#[tokio::test]
async fn many_concurrent_reads_do_not_use_up_the_window_one_by_one() {
    let per = Duration::from_secs(4);
    let mut options = options();
    (options.limits.calls, options.limits.per) = (25, per);
    let settings = "[tenant_defaults.limits]\ncalls = 25\nwindow = \"4s\"\n";
    let world = World::with(options, settings).await.warm().await;
    let ids = world.insert_leads(300);
    assert!(world.get_all(&ids).await.iter().all(Result::is_ok));
    // Without gathering delays, the first 24 reads would use up the window one by one.
    let (alone, batches) = (world.calls("Leads.GetById").len(), world.calls(BY_IDS).len());
    assert!((1..=20).contains(&alone), "{alone} single calls");
    assert!(batches <= 6, "{batches} batches");
    assert!(
        alone + batches <= 24,
        "{alone} single calls and {batches} batches do not fit one window"
    );
}

/// A time zone in which it is early in the day.
fn morning() -> String {
    let hour = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).hour();
    // The signs of these zones are inverse.
    match 2 - hour {
        ahead @ 0.. => format!("Etc/GMT-{ahead}"),
        behind @ -12..0 => format!("Etc/GMT+{}", -behind),
        far => format!("Etc/GMT-{}", far + 24),
    }
}

#[tokio::test]
async fn updates_wait_for_a_bulk_slot_if_the_daily_quota_is_short() {
    let mut options = options();
    options.limits.calls = 10;
    let settings = format!(
        "[tenant_defaults.limits]\ncalls = 10\nbulk = 1\nwindow = \"300ms\"\ndaily = 100\ndaily_reset_zone = \"{}\"\n",
        morning()
    );
    let world = World::with(options, &settings).await.warm().await;
    let ids = world.insert_leads(60);
    let calls = |world: &World| (world.calls("Lead.Update").len(), world.calls(UPDATE_V2).len());
    world.update_all(updates_of(&ids[..8], "Pune")).await;
    let (alone, _) = calls(&world);
    assert!(
        alone >= 4,
        "while the daily quota lasts, an update that finds a slot is sent alone"
    );
    for id in &ids[..50] {
        let mut client = world.client.clone();
        client.batch_get_leads(lone_read(id)).await.unwrap();
    }
    world.simulator.forget_calls();
    let results = world.update_all(updates_of(&ids[8..33], "Pune")).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let (alone, batches) = calls(&world);
    assert_eq!(alone, 0);
    assert!(batches <= 3, "{batches} calls");
    // An update that cannot wait so long is sent alone.
    let (mut urgent, message) = (world.client.clone(), update_of(&ids[50], "Pune"));
    urgent
        .update_lead(within(Duration::from_millis(150), message))
        .await
        .unwrap();
    assert_eq!(calls(&world).0, 1);
}

#[tokio::test]
async fn no_batches_are_sent_in_a_disabled_lane() {
    let off = world("[tenant_defaults.batching]\nreads = false\nupdates = false\n").await;
    let ids = off.insert_leads(4);
    off.update_all(updates_of(&ids, "Pune")).await;
    off.get_all(&ids).await;
    for n in 0..4 {
        off.create(lead(&format!("Asha{n}"))).await.unwrap();
    }
    let endpoints: BTreeSet<_> = off.simulator.calls().into_iter().map(|call| call.endpoint).collect();
    assert_eq!(
        endpoints,
        ["Lead.Create", "Lead.Update", "Leads.GetById"]
            .map(str::to_owned)
            .into()
    );
}

#[tokio::test]
async fn writes_that_run_automations_are_not_sent_in_batches() {
    let world = world("").await;
    let ids = world.insert_leads(6);
    let runs = |id: &String| pb::UpdateLeadRequest {
        run_automations: true,
        ..update_of(id, "Pune")
    };
    let results = world.update_all(ids.iter().map(runs).collect()).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((world.calls("Lead.Update").len(), world.calls(UPDATE_V2).len()), (6, 0));
}

#[tokio::test]
async fn updates_with_field_sets_are_not_sent_in_batches() {
    let world = world("").await;
    let ids = world.insert_leads(5);
    let set = pb::FieldValue {
        value: Some(pb::field_value::Value::FieldSet(pb::FieldSet {
            value: String::new(),
            fields: [("Status".to_owned(), "Pending".to_owned())].into(),
        })),
    };
    let with_set = |id: &String| pb::UpdateLeadRequest {
        lead: Some(pb::LeadFields {
            custom: custom(&[("mx_KYC", set.clone()), ("mx_Nickname", text("x"))]),
            ..Default::default()
        }),
        ..update_of(id, "")
    };
    world.update_all(ids.iter().map(with_set).collect()).await;
    assert_eq!(world.calls(UPDATE_V2).len(), 0);
}

#[tokio::test]
async fn attributes_outside_of_the_metadata_are_read_by_single_calls() {
    let world = world("").await;
    let ids = world.insert_leads(8);
    let reads = ids.iter().map(|id| {
        let (mut client, key) = (world.client.clone(), Some(by_id(id)));
        let request = pb::GetLeadRequest {
            key,
            read_mask: Some(prost_types::FieldMask {
                paths: vec!["fields.custom.NotInTheMetadata".to_owned()],
            }),
            ..Default::default()
        };
        async move { client.get_lead(request).await }
    });
    assert!(concurrently(reads).await.iter().all(Result::is_ok));
    assert_eq!((world.calls("Leads.GetById").len(), world.calls(BY_IDS).len()), (8, 0));
}

#[tokio::test]
async fn shares_of_known_leads_with_known_users_cost_little_more_than_one_call_each() {
    let per = Duration::from_millis(500);
    let options = Options {
        limits: Limits {
            calls: 25,
            bulk: 5,
            per,
            ..Limits::default()
        },
        ..options()
    };
    let settings = "[tenants.acme.limits]\ncalls = 25\nbulk = 5\nwindow = \"500ms\"\n\
                    [tenants.acme.batching]\nactivities = true\n\
                    [tenants.acme.sharing]\ndefault_activity_type = 201\npoll_every = \"20ms\"\n";
    let world = World::with(options, settings).await.warm().await;
    let client = ShareServiceClient::new(channel(world.address).await);
    let ids = world.insert_leads(100);
    let share_all = |user: &'static str| {
        let shares = ids.iter().map(|id| {
            let mut client = client.clone();
            let request = pb::ShareLeadRequest {
                lead: Some(pb::share_lead_request::Lead::LeadId(id.clone())),
                user: Some(pb::share_lead_request::User::UserId(user.to_owned())),
                access: pb::Access::Read.into(),
                wait_for: pb::WaitFor::Active.into(),
                ..Default::default()
            };
            async move { client.share_lead(request).await }
        });
        let shares = concurrently(shares);
        async move {
            for share in shares.await {
                let share = share.unwrap().into_inner().share.unwrap();
                assert_eq!(share.state(), pb::ShareState::Active, "{share:?}");
            }
        }
    };
    // From now on the leads are in the store.
    share_all(SITA).await;
    world.simulator.forget_calls();
    share_all(SAM).await;
    let calls = world.simulator.calls();
    let is_poll = |endpoint: &str| endpoint.contains("Status");
    let paid = calls.iter().filter(|call| !is_poll(&call.endpoint)).count();
    assert!(calls.iter().any(|call| is_poll(&call.endpoint)), "{calls:?}");
    assert!((100..=130).contains(&paid), "{paid} calls for 100 shares");
    assert_eq!(world.simulator.stats().refused, 0);
    // Each share has an activity of its own that belongs to the user.
    let activities = world.simulator.activities();
    let ours: BTreeSet<_> = activities
        .iter()
        .filter(|activity| activity.owner.as_deref() == Some(SAM))
        .map(|activity| activity.lead_id.clone())
        .collect();
    assert_eq!(ours.len(), 100);
}
