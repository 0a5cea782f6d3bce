//! LEAD_DUPLICATE names the lead that a write clashes with.

use std::time::Duration;

use leadgate::context::RequestContext;
use leadgate::grpc::pb;
use leadgate::quota::{Cost, SlotRequest};
use leadgate_simulator::{Fault, FaultKind, Options};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::harness::{Seen, World, lead, quota, seen, within};

const BY_EMAIL: &str = "Leads.GetByEmailaddress";
const BY_PHONE: &str = "RetrieveLeadByPhoneNumber";

fn with_phone(phone: &str) -> pb::LeadFields {
    pb::LeadFields {
        phone: Some(phone.to_owned()),
        ..Default::default()
    }
}

fn create(lead: pb::LeadFields) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        lead: Some(lead),
        ..Default::default()
    }
}

fn named(error: &Seen) -> (&str, &str) {
    error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
    let resource = error.details.resource_info().unwrap();
    // Both name the field as a BadRequest would.
    assert_eq!(error.metadata["field"], resource.description);
    (&resource.resource_name, &resource.description)
}

fn look_ups(world: &World) -> usize {
    world.calls(BY_EMAIL).len() + world.calls(BY_PHONE).len()
}

/// Updates a lead of its own with these fields.
async fn update(world: &World, fields: pb::LeadFields) -> Status {
    let own = world.create(lead("Own")).await.unwrap();
    let request = pb::UpdateLeadRequest {
        lead_id: own.clone(),
        lead: Some(fields),
        ..Default::default()
    };
    let error = world.client.clone().update_lead(request).await.unwrap_err();
    assert!(world.simulator.delete_lead(&own));
    error
}

#[tokio::test]
async fn every_write_that_clashes_names_the_other_lead_by_one_look_up() {
    for own_values_may_clash in [true, false] {
        let settings = format!("[tenant_defaults.writes]\nown_values_may_clash = {own_values_may_clash}");
        let world = World::with(Options::default(), &settings).await.warm().await;
        let both = pb::LeadFields {
            phone: Some("+91-9845098450".to_owned()),
            ..lead("Asha")
        };
        let id = world.create(both).await.unwrap();
        // The number is written otherwise than it is stored.
        let by_phone = || with_phone("98450 98450");
        let by_email = || pb::LeadFields {
            email_address: Some("ASHA@example.com".to_owned()),
            ..Default::default()
        };
        for (fields, field) in [(by_email(), "lead.email_address"), (by_phone(), "lead.phone")] {
            world.simulator.forget_calls();
            let error = seen(world.create(fields.clone()).await.unwrap_err());
            assert_eq!(named(&error), (id.as_str(), field));
            assert_eq!(look_ups(&world), 1);

            world.simulator.forget_calls();
            let error = seen(update(&world, fields).await);
            assert_eq!(named(&error), (id.as_str(), field));
            assert_eq!(look_ups(&world), 1);
        }
        // Matched by email, the phone is that of another lead.
        world.simulator.forget_calls();
        let request = pb::UpsertLeadRequest {
            lead: Some(pb::LeadFields {
                phone: Some("+91-9845098450".to_owned()),
                ..lead("Bela")
            }),
            match_by: "EmailAddress".to_owned(),
            ..Default::default()
        };
        let error = seen(world.client.clone().upsert_lead(request).await.unwrap_err());
        assert_eq!(named(&error), (id.as_str(), "lead.phone"));
        assert_eq!(look_ups(&world), 1);
    }
}

#[tokio::test]
async fn the_rows_of_a_batch_name_the_other_leads_too() {
    let world = World::start().await.warm().await;
    let ids = [
        world.create(lead("Asha")).await.unwrap(),
        world.create(lead("Bela")).await.unwrap(),
    ];
    let requests = ["Asha", "Bela", "Cora"].map(|name| create(lead(name))).to_vec();
    let request = pb::BatchCreateLeadsRequest {
        requests,
        ..Default::default()
    };
    let results = world
        .client
        .clone()
        .batch_create_leads(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    for (result, id) in results.iter().zip(&ids) {
        let Some(pb::batch_create_leads_result::Result::Error(error)) = &result.result else {
            panic!("{result:?}");
        };
        let status = Status::with_details(Code::from(error.code), "", prost::Message::encode_to_vec(error).into());
        assert_eq!(named(&seen(status)), (id.as_str(), "lead.email_address"));
    }
    assert_eq!(look_ups(&world), 2);
}

#[tokio::test]
async fn nothing_is_looked_up_where_no_slot_is_free() {
    let settings = "[tenant_defaults.limits]\ncalls = 4\nbulk = 4\nwindow = \"60s\"";
    let world = World::with(Options::default(), settings).await.warm().await;
    world.create(lead("Asha")).await.unwrap();
    // Two of four slots are used by now, and this one is the third: a row of a batch leaves the last one to others.
    let request = pb::BatchCreateLeadsRequest {
        requests: vec![create(lead("Asha"))],
        ..Default::default()
    };
    let results = world
        .client
        .clone()
        .batch_create_leads(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    assert!(matches!(
        results[0].result,
        Some(pb::batch_create_leads_result::Result::Error(_))
    ));
    assert_eq!(look_ups(&world), 0);
    // The fourth.
    let started = Instant::now();
    let error = seen(world.create(lead("Asha")).await.unwrap_err());
    assert_eq!(named(&error), ("", "lead.email_address"));
    assert_eq!(look_ups(&world), 0);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_spare_only_if_nobody_else_may_count_on_it() {
    let tasks = tokio_util::task::TaskTracker::new();
    let stop = tokio_util::sync::CancellationToken::new();
    let tenant = "[tenants.a]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"";
    let text = format!("{tenant}\nlimits = {{ calls = 4, window = \"1s\" }}");
    let config = leadgate::config::Config::read("test", &text, std::iter::empty()).unwrap();
    let tenant = &config.tenants["a"];
    let quota = quota(tenant, None, &tasks, stop.clone());
    let want = SlotRequest {
        cost: Cost::Call,
        endpoint: "Lead.Get",
        keys: vec![],
        batch: None,
    };
    let context = |limit| RequestContext::internal("test", Duration::from_millis(limit));
    let is_spare = |if_idle| quota.try_acquire(&context(500), &want, if_idle).is_some();

    // FaultKind is not sent is free again.
    for _ in 0..10 {
        assert!(is_spare(true) && is_spare(false));
    }
    let mut held = Vec::new();
    for (any, if_idle) in [(true, true), (true, true), (true, false), (false, false)] {
        held.push(quota.acquire(&context(500), &want, None).await.unwrap());
        assert_eq!((is_spare(false), is_spare(true)), (any, if_idle), "{} held", held.len());
    }
    // A call that is refused now is to retry when slots are free.
    held.iter_mut().for_each(|slot| slot.sent());
    let refused = quota.acquire(&context(500), &want, None).await.err().unwrap();
    assert_eq!(refused.name(), "deadline-infeasible");
    held.into_iter().for_each(|slot| slot.unsent());
    assert_eq!(quota.snapshot().calls.used, 0);
    assert!(!is_spare(false));
    // When it does not come, the slots are nobody's.
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(is_spare(false) && is_spare(true));
    stop.cancel();
}

#[tokio::test]
async fn a_setting_switches_the_look_up_off() {
    let world = World::with(Options::default(), "[tenant_defaults.writes]\nfind_duplicates = false").await;
    world.create(lead("Asha")).await.unwrap();
    let error = seen(world.create(lead("Asha")).await.unwrap_err());
    assert_eq!(named(&error), ("", "lead.email_address"));
    assert_eq!(look_ups(&world), 0);
}

#[tokio::test]
async fn a_lead_without_the_value_is_not_named() {
    let world = World::start().await.warm().await;
    let other = world
        .simulator
        .insert_lead(&[("EmailAddress", "other@example.com"), ("Mobile", "+91-9845098450")]);
    world.create(with_phone("+91-9845098451")).await.unwrap();
    // LeadSquared says that the phone is taken, and finds a lead that has it as its mobile.
    let body = r#"{"Status":"Error","ExceptionType":"MXDuplicateEntryException","ExceptionMessage":"A Lead with same Phone Number already exists."}"#;
    let what = FaultKind::Respond {
        status: 500,
        body: body.to_owned(),
        content_type: None,
        commit: false,
    };
    for write in ["Lead.Create", "Lead.Update"] {
        world.simulator.forget_calls();
        world.simulator.add_fault(Fault::new(write, what.clone())).unwrap();
        let error = match write {
            "Lead.Create" => world.create(with_phone("+91-9845098450")).await.unwrap_err(),
            _ => update(&world, with_phone("+91-9845098450")).await,
        };
        assert_eq!(named(&seen(error)), ("", "lead.phone"), "{write}");
        assert_eq!(look_ups(&world), 1);
    }
    assert!(world.simulator.delete_lead(&other));
}

#[tokio::test]
async fn a_slow_look_up_does_not_hold_back_the_error_beyond_the_deadline() {
    let world = World::start().await.warm().await;
    world.create(lead("Asha")).await.unwrap();
    let lasting = Duration::from_secs(60);
    world
        .simulator
        .add_fault(Fault::new(BY_EMAIL, FaultKind::HangBefore { lasting }))
        .unwrap();
    let request = within(Duration::from_secs(1), create(lead("Asha")));
    let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
    assert_eq!(named(&error), ("", "lead.email_address"));
    assert_eq!(look_ups(&world), 1);
}
