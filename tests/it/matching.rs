//! Upserts and captures, end to end: by what they match a lead, and what they return.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{CaptureMessage, Limits, Options, UpsertMatch};
use pb::field_value::Value;
use tonic::{Code, Status};

use crate::harness::{World, custom, lead, seen, text, value};
use crate::lead::update;

async fn upsert(world: &World, lead: pb::LeadFields, match_by: &str) -> Result<pb::UpsertLeadResponse, tonic::Status> {
    let request = pb::UpsertLeadRequest {
        lead: Some(lead),
        match_by: match_by.to_owned(),
        ..Default::default()
    };
    Ok(world.client.clone().upsert_lead(request).await?.into_inner())
}

#[tokio::test]
async fn an_upsert_creates_and_then_updates() {
    let world = World::start().await;
    let first = upsert(&world, lead("Asha"), "").await.unwrap();
    assert_eq!(first.outcome(), pb::UpsertOutcome::Unspecified);
    let again = pb::LeadFields {
        city: Some("Pune".into()),
        ..lead("Asha")
    };
    assert_eq!(
        upsert(&world, again, "EmailAddress").await.unwrap().lead_id,
        first.lead_id
    );
    assert_eq!(world.simulator.leads().len(), 1);
}

#[tokio::test]
async fn an_upsert_matches_by_the_given_attribute() {
    let options = Options {
        unique: ["EmailAddress", "Phone", "Mobile", "mx_Segment"]
            .map(String::from)
            .into(),
        ..Options::default()
    };
    let world = World::with(options, "").await;
    let whole = pb::LeadFields {
        phone: Some("+91-8888888888".into()),
        mobile: Some("+91-7777777777".into()),
        custom: custom(&[("mx_Segment", text("Retail"))]),
        ..lead("Asha")
    };
    let id = world.create(whole).await.unwrap();
    let one = |lead: pb::LeadFields| lead;
    let company = Some("Rao Ltd".to_owned());
    for (match_by, lead) in [
        (
            "Phone",
            one(pb::LeadFields {
                phone: Some("+91-8888888888".into()),
                company: company.clone(),
                ..Default::default()
            }),
        ),
        (
            "mobile",
            one(pb::LeadFields {
                mobile: Some("+91-7777777777".into()),
                company: company.clone(),
                ..Default::default()
            }),
        ),
        (
            "email_address",
            pb::LeadFields {
                company: company.clone(),
                ..lead("Asha")
            },
        ),
        (
            "mx_Segment",
            one(pb::LeadFields {
                custom: custom(&[("mx_Segment", text("Retail"))]),
                company: company.clone(),
                ..Default::default()
            }),
        ),
        (
            "ProspectID",
            one(pb::LeadFields {
                custom: custom(&[("ProspectID", text(&id))]),
                company,
                ..Default::default()
            }),
        ),
    ] {
        assert_eq!(upsert(&world, lead, match_by).await.unwrap().lead_id, id, "{match_by}");
    }
    let error = seen(upsert(&world, lead("Asha"), "Phone").await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["match_by"]);
}

/// Both ways in which LeadSquared may match a lead without `SearchBy`.
const MATCHES: [UpsertMatch; 2] = [UpsertMatch::EmailDecides, UpsertMatch::EmailThenPhone];

async fn capture(world: &World, lead: pb::LeadFields, match_by: &str) -> Result<String, Status> {
    let request = pb::CaptureLeadRequest {
        lead: Some(lead),
        match_by: match_by.to_owned(),
        ..Default::default()
    };
    Ok(world.client.clone().capture_lead(request).await?.into_inner().lead_id)
}

#[tokio::test]
async fn a_lead_found_by_phone_is_updated_if_its_email_address_is_empty_or_the_same() {
    for upsert_match in MATCHES {
        for other_email in [None, Some("ASHA@example.com")] {
            let options = Options {
                upsert_match,
                ..Options::default()
            };
            let world = World::with(options, "").await.warm().await;
            let mut there = vec![("Phone", "+91-8888888888"), ("FirstName", "Asha")];
            there.extend(other_email.map(|other_email| ("EmailAddress", other_email)));
            let id = world.simulator.insert_lead(&there);
            let lead = pb::LeadFields {
                phone: Some("8888888888".into()),
                ..lead("Asha")
            };
            assert_eq!(upsert(&world, lead.clone(), "").await.unwrap().lead_id, id);
            assert_eq!(capture(&world, lead, "").await.unwrap(), id);
            assert_eq!(world.simulator.leads().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_match_by_phone_changes_no_email_address_unless_match_by_is_phone() {
    for upsert_match in MATCHES {
        let options = Options {
            upsert_match,
            ..Options::default()
        };
        let world = World::with(options, "").await.warm().await;
        let there = [("Phone", "+91-8888888888"), ("EmailAddress", "first@example.com")];
        let id = world.simulator.insert_lead(&there);
        let another = || pb::LeadFields {
            phone: Some("8888888888".into()),
            ..lead("Asha")
        };
        let email = || world.simulator.leads()[0]["EmailAddress"].clone();
        for refused in [
            upsert(&world, another(), "").await.map(|done| done.lead_id),
            capture(&world, another(), "").await,
        ] {
            let error = seen(refused.unwrap_err());
            error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
            let resource = error.details.resource_info().unwrap();
            assert_eq!(resource.resource_name, id);
            assert!(resource.description.contains("phone"), "{resource:?}");
            assert_eq!(email().as_deref(), Some("first@example.com"));
        }
        assert_eq!(world.simulator.leads().len(), 1);
        // With match_by Phone, the email address is changed.
        assert_eq!(upsert(&world, another(), "Phone").await.unwrap().lead_id, id);
        assert_eq!(email().as_deref(), Some("asha@example.com"));
    }
}

#[tokio::test]
async fn the_lead_found_by_phone_is_the_one_that_is_written() {
    let world = World::start().await.warm().await;
    // Two leads with the same number in two spellings, which are two numbers for the simulator.
    let without = world.simulator.insert_lead(&[("Phone", "+91-9812345678")]);
    let other = [("Phone", "9812345678"), ("EmailAddress", "first@example.com")];
    let other = world.simulator.insert_lead(&other);
    for phone in ["9812345678", "+91-9812345678", "+919812345678"] {
        let lead = pb::LeadFields {
            phone: Some(phone.into()),
            ..lead("Asha")
        };
        let _ = upsert(&world, lead.clone(), "").await;
        let _ = capture(&world, lead, "").await;
        let leads = world.simulator.leads();
        let email = |id: &str| {
            let lead = leads.iter().find(|lead| lead["ProspectID"].as_deref() == Some(id));
            lead.unwrap()["EmailAddress"].clone()
        };
        assert_eq!(email(&other).as_deref(), Some("first@example.com"), "{phone}");
        assert_ne!(email(&without).as_deref(), Some("first@example.com"));
    }
}

#[tokio::test]
async fn an_empty_text_is_neither_cleared_nor_ignored() {
    let world = World::start().await.warm().await;
    let id = world.create(lead("Asha")).await.unwrap();
    let empty = || pb::LeadFields {
        city: Some(String::new()),
        ..lead("Asha")
    };
    let request = pb::UpdateLeadRequest {
        lead_id: id,
        lead: Some(empty()),
        ..Default::default()
    };
    for refused in [
        update(&world, request).await.map(drop),
        upsert(&world, empty(), "").await.map(drop),
        capture(&world, empty(), "").await.map(drop),
    ] {
        let error = seen(refused.unwrap_err());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), ["lead.city"]);
    }
}

#[tokio::test]
async fn a_custom_field_set_accepts_no_other_value() {
    let world = World::start().await.warm().await;
    let id = world.create(lead("Asha")).await.unwrap();
    for wrong in [text("x"), value(Value::Integer(5)), value(Value::Flag(true))] {
        let request = pb::UpdateLeadRequest {
            lead_id: id.clone(),
            lead: Some(pb::LeadFields {
                custom: custom(&[("mx_KYC", wrong)]),
                ..Default::default()
            }),
            ..Default::default()
        };
        let error = seen(update(&world, request).await.unwrap_err());
        assert_eq!(error.fields(), ["lead.custom[\"mx_KYC\"]"]);
    }
}

#[tokio::test]
async fn an_import_keeps_leads_with_the_same_phone_apart() {
    for upsert_match in MATCHES {
        let limits = Limits {
            calls: 50,
            bulk: 20,
            per: Duration::from_millis(100),
            ..Limits::default()
        };
        let options = Options {
            upsert_match,
            limits,
            ..Options::default()
        };
        let limits = "[tenant_defaults.limits]\ncalls = 50\nbulk = 20\nwindow = \"100ms\"\n";
        let world = World::with(options, limits).await.warm().await;
        let rows: Vec<_> = (0..25_i64)
            .map(|sequence| pb::ImportLeadsRequest {
                sequence,
                operation: Some(pb::import_leads_request::Operation::Upsert(pb::UpsertLeadRequest {
                    lead: Some(pb::LeadFields {
                        phone: Some(if sequence < 23 {
                            "+15555550123".into()
                        } else {
                            format!("+1555555{sequence:04}")
                        }),
                        ..lead(&format!("person{sequence}"))
                    }),
                    ..Default::default()
                })),
            })
            .collect();
        let mut client = world.client.clone();
        let mut responses = client
            .import_leads(tokio_stream::iter(rows))
            .await
            .unwrap()
            .into_inner();
        let (mut taken, mut rejected) = (vec![], 0);
        while let Some(response) = responses.message().await.unwrap() {
            match response.result.unwrap() {
                pb::import_leads_response::Result::Response(_) => taken.push(response.sequence),
                pb::import_leads_response::Result::Error(_) => rejected += 1,
            }
        }
        taken.sort_unstable();
        // The first row has the phone.
        assert_eq!((taken, rejected), (vec![0, 23, 24], 22));
        assert_eq!(world.simulator.leads().len(), 3);
    }
}

#[tokio::test]
async fn an_upsert_between_two_leads_is_a_duplicate() {
    let world = World::start().await;
    world.simulator.insert_lead(&[("EmailAddress", "asha@example.com")]);
    world.simulator.insert_lead(&[("Phone", "+91-8888888888")]);
    let lead = pb::LeadFields {
        phone: Some("+91-8888888888".into()),
        ..lead("Asha")
    };
    seen(upsert(&world, lead, "").await.unwrap_err()).is(Code::AlreadyExists, "LEAD_DUPLICATE");
}

#[tokio::test]
async fn every_form_of_a_capture_response_shows_whether_the_lead_is_new() {
    for (capture_message, expected) in [
        (CaptureMessage::Both, true),
        (CaptureMessage::RelatedIdOnly, true),
        (CaptureMessage::PlainString, false),
    ] {
        let options = Options {
            capture_message,
            ..Options::default()
        };
        let world = World::with(options, "").await;
        let capture = |lead: pb::LeadFields, behavior: pb::UpdateBehavior| {
            let mut client = world.client.clone();
            async move {
                let request = pb::CaptureLeadRequest {
                    lead: Some(lead),
                    update_behavior: behavior.into(),
                    ..Default::default()
                };
                client.capture_lead(request).await.unwrap().into_inner()
            }
        };
        let first = capture(lead("Asha"), pb::UpdateBehavior::Unspecified).await;
        assert_eq!(first.lead_id, world.simulator.leads()[0]["ProspectID"].clone().unwrap());
        assert_eq!(first.created, expected);
        let renamed = pb::LeadFields {
            last_name: Some("Rao".into()),
            first_name: Some("Another".into()),
            ..lead("Asha")
        };
        let again = capture(renamed, pb::UpdateBehavior::UpdateOnlyEmptyFields).await;
        assert_eq!((again.lead_id, again.created), (first.lead_id, false));
        let stored = &world.simulator.leads()[0];
        assert_eq!(stored["FirstName"].as_deref(), Some("Asha"));
        assert_eq!(stored["LastName"].as_deref(), Some("Rao"));
    }
}
