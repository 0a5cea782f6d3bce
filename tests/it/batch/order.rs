//! The order of writes with a common key, and members that are cancelled.

use std::collections::BTreeSet;
use std::time::Duration;

use leadgate::grpc::pb;
use tokio::task::JoinSet;
use tonic::Code;

use super::{ALL_LANES, UPDATE_V2, ids_in, options, update_of, updates_of, waiting, world};
use crate::harness::{World, lead, seen, within};

#[tokio::test]
async fn updates_of_one_lead_are_never_in_one_batch_and_keep_their_order() {
    let world = world("").await;
    let ids = world.insert_leads(6);
    let mut updates = JoinSet::new();
    // Each round waits until the round before it is in the queue, so that the order is known.
    for round in 0..4 {
        for id in &ids {
            let mut client = world.client.clone();
            let message = update_of(
                &if round % 2 == 0 { id.clone() } else { id.to_uppercase() },
                &format!("{round}"),
            );
            updates.spawn(async move { client.update_lead(message).await.map(|_| ()) });
        }
        let queued = 6 * (round + 1);
        let waiting = async {
            while world.simulator.calls().len() + waiting(&world).await < queued {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), waiting)
            .await
            .unwrap_or(());
    }
    for result in updates.join_all().await {
        result.unwrap();
    }
    for batch in ids_in(&world, UPDATE_V2) {
        let distinct: BTreeSet<_> = batch.iter().map(|id| id.to_lowercase()).collect();
        assert_eq!(distinct.len(), batch.len(), "{batch:?}");
    }
    for id in &ids {
        assert_eq!(world.value_of(id, "mx_City").as_deref(), Some("3"));
    }
}

#[tokio::test]
async fn the_second_create_with_the_same_email_address_is_a_duplicate_in_any_batch() {
    let world = world(ALL_LANES).await;
    let leads = (0..16).map(|n| lead(&format!("Asha{}", n / 2)));
    let results = world.create_all(leads.collect()).await;
    let created = results.iter().filter(|result| result.is_ok()).count();
    for status in results.into_iter().filter_map(Result::err) {
        seen(status).is(Code::AlreadyExists, "LEAD_DUPLICATE");
    }
    assert_eq!((created, world.simulator.leads().len()), (8, 8));
    for call in world.calls("Lead/Bulk/Create") {
        let addresses = call.body.matches("@example.com").count();
        let distinct: BTreeSet<_> = call
            .body
            .split('"')
            .filter(|text| text.ends_with("@example.com"))
            .collect();
        assert_eq!(distinct.len(), addresses, "{}", call.body);
    }
}

#[tokio::test]
async fn an_update_after_an_upsert_of_the_same_email_address_is_executed_after_it() {
    let world = world(ALL_LANES).await;
    let ids = world.insert_leads(20);
    // Because of these updates, all calls wait.
    let others = world.update_all(updates_of(&ids, "Pune"));
    let pair = async {
        let mut results = Vec::new();
        for (n, id) in ids.iter().enumerate().take(5) {
            let email = format!("lead-{n}@example.com");
            let fields = |city: &str| pb::LeadFields {
                email_address: Some(email.clone()),
                city: Some(city.to_owned()),
                ..Default::default()
            };
            let upsert = pb::UpsertLeadRequest {
                lead: Some(fields("Delhi")),
                ..Default::default()
            };
            let update = pb::UpdateLeadRequest {
                lead: Some(fields("Mumbai")),
                ..update_of(id, "")
            };
            let (mut first, mut second) = (world.client.clone(), world.client.clone());
            let upsert = tokio::spawn(async move { first.upsert_lead(upsert).await });
            tokio::time::sleep(Duration::from_millis(5)).await;
            let update = tokio::spawn(async move { second.update_lead(update).await });
            results.push((upsert, update));
        }
        for (upsert, update) in results {
            upsert.await.unwrap().unwrap();
            update.await.unwrap().unwrap();
        }
    };
    let (others, ()) = tokio::join!(others, pair);
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    for id in &ids[..5] {
        assert_eq!(world.value_of(id, "mx_City").as_deref(), Some("Mumbai"));
    }
}

#[tokio::test]
async fn a_member_that_is_cancelled_or_expires_before_the_call_is_not_sent() {
    // The windows are long enough that no slot becomes free before the deadlines below.
    let mut options = options();
    options.limits.per = Duration::from_secs(1);
    let settings = "[tenant_defaults.limits]\ncalls = 2\nbulk = 1\nwindow = \"1s\"\n";
    let world = World::with(options, settings).await.warm().await;
    let ids = world.insert_leads(9);
    // With the call for the metadata, these calls fill two windows. The second window has just begun.
    for id in [&ids[0], &ids[1], &ids[8]] {
        world.update(update_of(id, "Pune")).await.unwrap();
    }
    let (mut expiring, message) = (world.client.clone(), update_of(&ids[2], "Late"));
    let expired = expiring.update_lead(within(Duration::from_millis(60), message)).await;
    assert!(matches!(
        expired.unwrap_err().code(),
        Code::ResourceExhausted | Code::DeadlineExceeded
    ));
    let (mut cancelling, message) = (world.client.clone(), update_of(&ids[3], "Cancelled"));
    let cancelled = tokio::time::timeout(Duration::from_millis(50), cancelling.update_lead(message)).await;
    assert!(cancelled.is_err());
    let rest = world.update_all(updates_of(&ids[4..8], "Pune")).await;
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
    for id in &ids[2..4] {
        assert_eq!(world.value_of(id, "mx_City"), None);
    }
    let sent: Vec<_> = ids_in(&world, UPDATE_V2).concat();
    assert!(!sent.contains(&ids[2]) && !sent.contains(&ids[3]), "{sent:?}");
}
