//! LeadService as its callers see it.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{CaptureMessage, DateForm, FieldSetForm, Limits, Options, Order, PhoneLookup, UpsertMatch};
use pb::field_value::Value;
use pb::get_lead_request::Key;
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};

use crate::harness::{World, by_id, custom, lead, seen, text, value};

fn mask(paths: &[&str]) -> Option<FieldMask> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Some(FieldMask { paths })
}

async fn update(world: &World, request: pb::UpdateLeadRequest) -> Result<i32, tonic::Status> {
    Ok(world
        .client
        .clone()
        .update_lead(request)
        .await?
        .into_inner()
        .affected_rows)
}

async fn upsert(world: &World, lead: pb::LeadFields, match_by: &str) -> Result<pb::UpsertLeadResponse, tonic::Status> {
    let request = pb::UpsertLeadRequest {
        lead: Some(lead),
        match_by: match_by.to_owned(),
        ..Default::default()
    };
    Ok(world.client.clone().upsert_lead(request).await?.into_inner())
}

/// Every field that a lead can be written with.
fn full() -> pb::LeadFields {
    let some = |text: &str| Some(text.to_owned());
    pb::LeadFields {
        first_name: some("John"),
        last_name: some("Smith"),
        email_address: some("john.smith@example.com"),
        phone: some("+91-8888888888"),
        mobile: some("+91-7777777777"),
        company: some("Smith & Sons"),
        job_title: some("Owner"),
        website: some("https://example.com/?a=1&b=2"),
        source: some("Referral"),
        source_medium: some("Email"),
        source_campaign: some("Spring"),
        source_content: some("Banner"),
        stage: some("Prospect"),
        notes: some("\"quoted\"\nand naïve ☂"),
        time_zone: some("Asia/Kolkata"),
        street1: some("1 Main Road"),
        street2: some("Flat 2"),
        city: some("Bangalore"),
        state: some("Karnataka"),
        country: some("India"),
        zip: some("560001"),
        do_not_email: Some(true),
        do_not_call: Some(false),
        do_not_sms: Some(true),
        do_not_track: Some(false),
        custom: custom(&[
            ("mx_Loan_Amount", value(Value::Number(250_000.5))),
            ("mx_Consent", value(Value::Flag(true))),
            (
                "mx_Next_Call",
                value(Value::Time(Timestamp {
                    seconds: 1_785_000_000,
                    nanos: 0,
                })),
            ),
            (
                "mx_KYC",
                value(Value::FieldSet(pb::FieldSet {
                    value: String::new(),
                    fields: [
                        ("Status".to_owned(), "Pending".to_owned()),
                        ("mx_CustomObject_1".to_owned(), "XYZ12345.png".to_owned()),
                    ]
                    .into(),
                })),
            ),
        ]),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_created_lead_is_read_back_typed() {
    for date_forms in [DateForm::Millis, DateForm::Plain, DateForm::Us, DateForm::Mixed] {
        let options = Options {
            date_forms,
            shuffle_keys: true,
            ..Options::default()
        };
        let world = World::with(options, "").await;
        let id = world.create(full()).await.unwrap();
        let read = world.get(by_id(&id)).await.unwrap();
        assert_eq!(read.lead_id, id);
        assert!(!read.lead_number.is_empty());
        assert!(read.create_time.is_some() && read.update_time.is_some());
        let mut fields = read.fields.unwrap();
        for (name, written) in full().custom {
            assert_eq!(fields.custom.get(&name), Some(&written), "{name}");
        }
        fields.custom.clear();
        let expected = pb::LeadFields {
            owner_id: fields.owner_id.clone(),
            lead_type: fields.lead_type.clone(),
            custom: Default::default(),
            ..full()
        };
        assert_eq!(fields, expected);
    }
}

#[tokio::test]
async fn a_lead_is_found_by_each_of_its_keys() {
    let world = World::start().await;
    let id = world.create(full()).await.unwrap();
    let number = world.get(by_id(&id)).await.unwrap().lead_number;
    for key in [
        by_id(&id.to_uppercase()),
        Key::LeadNumber(number),
        Key::EmailAddress("john.smith@example.com".into()),
        Key::Phone("+918888888888".into()),
        Key::Phone("+91-8888888888".into()),
        Key::Phone("8888888888".into()),
        Key::Phone("+91 77777 77777".into()),
    ] {
        assert_eq!(world.get(key.clone()).await.unwrap().lead_id, id, "{key:?}");
    }
}

#[tokio::test]
async fn both_ways_of_knowing_a_phone_are_tried() {
    for (phone_lookup, phone_miss_404) in [
        (PhoneLookup::Compact, false),
        (PhoneLookup::Hyphenated, false),
        (PhoneLookup::Hyphenated, true),
    ] {
        let options = Options {
            phone_lookup,
            phone_miss_404,
            ..Options::default()
        };
        let world = World::with(options, "").await;
        let id = world.create(full()).await.unwrap();
        let found = world.get(Key::Phone("+918888888888".into())).await.unwrap();
        assert_eq!(found.lead_id, id);
        let missing = world.get(Key::Phone("+919999999999".into())).await.unwrap_err();
        seen(missing).is(Code::NotFound, "LEAD_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_missing_lead_is_not_found_by_any_key() {
    let world = World::start().await;
    world.create(lead("Asha")).await.unwrap();
    for key in [
        by_id("00000000-0000-0000-0000-000000000001"),
        Key::LeadNumber("999999".into()),
        Key::EmailAddress("nobody@example.com".into()),
        Key::Phone("+919999999999".into()),
    ] {
        seen(world.get(key).await.unwrap_err()).is(Code::NotFound, "LEAD_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_mask_leaves_only_what_it_names() {
    let world = World::start().await;
    let id = world.create(full()).await.unwrap();
    let request = pb::GetLeadRequest {
        key: Some(by_id(&id)),
        read_mask: mask(&["fields.city", "fields.custom.mx_Consent", "create_time"]),
        ..Default::default()
    };
    let read = world
        .client
        .clone()
        .get_lead(request)
        .await
        .unwrap()
        .into_inner()
        .lead
        .unwrap();
    let expected = pb::Lead {
        lead_id: id.clone(),
        create_time: read.create_time,
        fields: Some(pb::LeadFields {
            city: Some("Bangalore".into()),
            custom: custom(&[("mx_Consent", value(Value::Flag(true)))]),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(read, expected);
    assert!(read.create_time.is_some());

    let request = pb::GetLeadRequest {
        key: Some(Key::Phone("x".into())),
        read_mask: mask(&["fields.town"]),
        ..Default::default()
    };
    let error = seen(world.client.clone().get_lead(request).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["phone", "read_mask.paths[0]"]);

    let request = pb::GetLeadRequest {
        key: Some(by_id(&id)),
        read_mask: mask(&["lead_id", "fields.custom.mx_Nothing"]),
        ..Default::default()
    };
    let error = seen(world.client.clone().get_lead(request).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["read_mask.paths[1]"]);
}

#[tokio::test]
async fn many_leads_are_read_in_one_call_in_the_order_asked() {
    let options = Options {
        by_ids_order: Order::Reversed,
        ..Options::default()
    };
    let world = World::with(options, "").await.warm().await;
    let ids: Vec<String> = (0..300)
        .map(|i| world.simulator.insert_lead(&[("FirstName", &format!("Lead {i}"))]))
        .collect();
    let missing = "00000000-0000-0000-0000-000000000001".to_owned();
    let mut asked = ids.clone();
    asked.insert(7, missing.clone());
    asked.push(ids[0].to_uppercase());
    let request = pb::BatchGetLeadsRequest {
        lead_ids: asked,
        read_mask: mask(&["fields.first_name"]),
    };
    let answer = world
        .client
        .clone()
        .batch_get_leads(request)
        .await
        .unwrap()
        .into_inner();
    let read: Vec<_> = answer.leads.iter().map(|lead| lead.lead_id.clone()).collect();
    assert_eq!(read, ids);
    assert_eq!(
        answer.leads[42].fields.as_ref().unwrap().first_name.as_deref(),
        Some("Lead 42")
    );
    assert_eq!(answer.missing_lead_ids, [missing]);
    // One for the leads, and one to be sure that no page of them is missing.
    assert_eq!(world.calls("Leads/Retrieve/ByIds").len(), 2);
    let request = pb::BatchGetLeadsRequest {
        lead_ids: ids,
        read_mask: None,
    };
    world.client.clone().batch_get_leads(request).await.unwrap();
    assert_eq!(world.calls("Leads/Retrieve/ByIds").len(), 3);
}

#[tokio::test]
async fn pages_that_are_smaller_than_asked_are_read_to_the_end() {
    let options = Options {
        by_ids_page_max: 40,
        ..Options::default()
    };
    let world = World::with(options, "").await.warm().await;
    let lead_ids: Vec<String> = (0..100)
        .map(|_| world.simulator.insert_lead(&[("LastName", "X")]))
        .collect();
    let request = pb::BatchGetLeadsRequest {
        lead_ids,
        read_mask: None,
    };
    let answer = world
        .client
        .clone()
        .batch_get_leads(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.leads.len(), answer.missing_lead_ids.len()), (100, 0));
}

#[tokio::test]
async fn too_many_ids_and_no_ids_are_invalid() {
    let world = World::start().await.warm().await;
    for lead_ids in [vec![], vec!["x".to_owned(); 10_001], vec!["not an id".to_owned()]] {
        let request = pb::BatchGetLeadsRequest {
            lead_ids,
            read_mask: None,
        };
        let error = seen(world.client.clone().batch_get_leads(request).await.unwrap_err());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn what_a_read_returns_as_fields_can_be_written_back() {
    let world = World::start().await.warm().await;
    let request = pb::DescribeLeadFieldsRequest::default();
    let described = world
        .client
        .clone()
        .describe_lead_fields(request)
        .await
        .unwrap()
        .into_inner()
        .fields;
    // A lead that has a value for every attribute of the account.
    let text = |i: usize, field: &pb::LeadField| match (field.kind(), field.data_type.as_str()) {
        _ if field.schema_name == "ProspectID" => "3f1b8a52-7c1d-4c55-9d0e-0a4c6c1b2d3e".to_owned(),
        _ if ["OwnerId", "CreatedBy", "ModifiedBy"].contains(&field.schema_name.as_str()) => {
            world.simulator.leads()[0]["OwnerId"].clone().unwrap()
        }
        _ if !field.options.is_empty() && field.kind() == pb::FieldKind::Text => field.options[0].clone(),
        (pb::FieldKind::Number, _) => "7".to_owned(),
        (pb::FieldKind::Flag, _) => "1".to_owned(),
        (pb::FieldKind::Time, _) => "2026-03-01 10:00:00".to_owned(),
        (_, "Email") => format!("a{i}@example.com"),
        (_, "Phone") => format!("+91-98450984{i:02}"),
        (_, "Time") => "10:30:00".to_owned(),
        _ => format!("x{i}"),
    };
    world.create(lead("Owner")).await.unwrap();
    let (sets, others): (Vec<_>, Vec<_>) = described
        .iter()
        .partition(|field| field.kind() == pb::FieldKind::FieldSet);
    let values: Vec<_> = others
        .iter()
        .enumerate()
        .map(|(i, field)| (field.schema_name.as_str(), text(i, field)))
        .collect();
    let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let id = world.simulator.insert_lead(&values);
    let set = value(Value::FieldSet(pb::FieldSet {
        value: String::new(),
        fields: [("Status".to_owned(), "Pending".to_owned())].into(),
    }));
    let sets: Vec<_> = sets
        .iter()
        .map(|field| (field.schema_name.as_str(), set.clone()))
        .collect();
    let write = |fields: pb::LeadFields| pb::UpdateLeadRequest {
        lead_id: id.clone(),
        lead: Some(fields),
        ..Default::default()
    };
    let fields = pb::LeadFields {
        custom: custom(&sets),
        ..Default::default()
    };
    update(&world, write(fields)).await.unwrap();

    let read = world.get(by_id(&id)).await.unwrap();
    // Nothing is lost: each attribute is in one place.
    let mut names: Vec<String> = leadgate::grpc::attributes(&mut read.clone())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let parts = [
        "ProspectID",
        "ProspectAutoId",
        "OwnerIdName",
        "OwnerIdEmailAddress",
        "Score",
        "CreatedOn",
        "ModifiedOn",
    ];
    names.extend(parts.map(str::to_owned));
    names.sort();
    let mut all: Vec<&str> = described.iter().map(|field| field.schema_name.as_str()).collect();
    all.extend(parts);
    all.sort_unstable();
    all.dedup();
    let missing: Vec<_> = all
        .iter()
        .filter(|name| !names.iter().any(|known| known == *name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for name in ["CreatedByName", "LastVisitDate", "Web_Referrer", "SourceIPAddress"] {
        assert!(read.read_only_fields.contains_key(name), "{name}");
    }

    let fields = read.fields.clone().unwrap();
    assert_eq!(update(&world, write(fields.clone())).await.unwrap(), 1);
    let again = world.get(by_id(&id)).await.unwrap();
    assert_eq!(again.fields.unwrap(), fields);
    // And so from a list.
    let listed = world
        .client
        .clone()
        .batch_get_leads(crate::harness::lone_read(&id))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        update(&world, write(listed.leads[0].fields.clone().unwrap()))
            .await
            .unwrap(),
        1
    );
    // A mask still finds them under their old names.
    for path in [
        "fields.custom.CreatedByName",
        "read_only_fields.CreatedByName",
        "read_only_fields",
        "fields.custom",
    ] {
        let request = pb::GetLeadRequest {
            key: Some(by_id(&id)),
            read_mask: mask(&[path]),
            ..Default::default()
        };
        let lead = world
            .client
            .clone()
            .get_lead(request)
            .await
            .unwrap()
            .into_inner()
            .lead
            .unwrap();
        assert_eq!(
            lead.read_only_fields.get("CreatedByName"),
            read.read_only_fields.get("CreatedByName"),
            "{path}"
        );
        assert_eq!(
            lead.fields.unwrap().custom.is_empty(),
            path != "fields.custom",
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let world = World::start().await;
    let id = world.create(full()).await.unwrap();
    let request = pb::UpdateLeadRequest {
        lead_id: id.clone(),
        lead: Some(pb::LeadFields {
            city: Some("Pune".into()),
            do_not_email: Some(false),
            ..Default::default()
        }),
        clear_fields: vec!["company".into(), "mx_Loan_Amount".into()],
        ..Default::default()
    };
    assert_eq!(update(&world, request).await.unwrap(), 1);
    let fields = world.get(by_id(&id)).await.unwrap().fields.unwrap();
    assert_eq!(fields.city.as_deref(), Some("Pune"));
    assert_eq!(fields.do_not_email, Some(false));
    assert_eq!(fields.company, None);
    assert!(!fields.custom.contains_key("mx_Loan_Amount"));
    assert_eq!(fields.job_title.as_deref(), Some("Owner"));
    assert_eq!(world.simulator.stats().automations_fired, 0);
}

#[tokio::test]
async fn automations_run_only_where_asked_for() {
    let world = World::start().await;
    let id = world.create(lead("Asha")).await.unwrap();
    let request = pb::UpdateLeadRequest {
        lead_id: id,
        lead: Some(pb::LeadFields {
            city: Some("Pune".into()),
            ..Default::default()
        }),
        run_automations: true,
        ..Default::default()
    };
    update(&world, request).await.unwrap();
    assert_eq!(world.simulator.stats().automations_fired, 1);
}

#[tokio::test]
async fn clearing_by_null_is_a_setting() {
    let options = Options {
        empty_clears: false,
        ..Options::default()
    };
    let world = World::with(options, "[tenant_defaults.writes]\nclear_with = \"null\"").await;
    let id = world.create(full()).await.unwrap();
    let request = pb::UpdateLeadRequest {
        lead_id: id.clone(),
        clear_fields: vec!["mx_City".into()],
        ..Default::default()
    };
    update(&world, request).await.unwrap();
    assert_eq!(world.get(by_id(&id)).await.unwrap().fields.unwrap().city, None);
}

#[tokio::test]
async fn an_update_with_the_leads_own_email_is_no_duplicate() {
    let options = Options {
        own_unique_resend_fails: true,
        ..Options::default()
    };
    let world = World::with(options, "").await;
    let id = world.create(lead("Asha")).await.unwrap();
    let other = world.create(lead("Ben")).await.unwrap();
    let request = pb::UpdateLeadRequest {
        lead_id: id.clone(),
        lead: Some(pb::LeadFields {
            city: Some("Pune".into()),
            ..lead("Asha")
        }),
        ..Default::default()
    };
    assert_eq!(update(&world, request).await.unwrap(), 1);
    assert_eq!(
        world.get(by_id(&id)).await.unwrap().fields.unwrap().city.as_deref(),
        Some("Pune")
    );

    let request = pb::UpdateLeadRequest {
        lead_id: id,
        lead: Some(lead("Ben")),
        ..Default::default()
    };
    let error = seen(update(&world, request).await.unwrap_err());
    error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
    assert_eq!(error.details.resource_info().unwrap().resource_name, other);
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
async fn an_upsert_matches_by_whatever_it_is_told_to() {
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

/// Both ways in which LeadSquared may match a lead without being told by what.
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
async fn a_lead_that_is_found_by_phone_is_updated_where_it_has_no_email_address_or_the_same() {
    for upsert_match in MATCHES {
        for theirs in [None, Some("ASHA@example.com")] {
            let options = Options {
                upsert_match,
                ..Options::default()
            };
            let world = World::with(options, "").await.warm().await;
            let mut there = vec![("Phone", "+91-8888888888"), ("FirstName", "Asha")];
            there.extend(theirs.map(|theirs| ("EmailAddress", theirs)));
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
async fn a_match_by_phone_changes_no_email_address_unless_the_caller_asks_to_match_by_phone() {
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
        // Asked for, it is done.
        assert_eq!(upsert(&world, another(), "Phone").await.unwrap().lead_id, id);
        assert_eq!(email().as_deref(), Some("asha@example.com"));
    }
}

#[tokio::test]
async fn a_lead_that_was_found_by_phone_is_the_one_that_is_written() {
    let world = World::start().await.warm().await;
    // Two leads with the same number in two spellings, which the simulator takes for two numbers.
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
async fn an_empty_text_neither_clears_nor_is_passed_over() {
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
async fn a_custom_field_set_takes_no_other_value() {
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
async fn people_who_share_a_phone_stay_different_people_in_an_import() {
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
        let mut answers = client
            .import_leads(tokio_stream::iter(rows))
            .await
            .unwrap()
            .into_inner();
        let (mut taken, mut rejected) = (vec![], 0);
        while let Some(answer) = answers.message().await.unwrap() {
            match answer.result.unwrap() {
                pb::import_leads_response::Result::Response(_) => taken.push(answer.sequence),
                pb::import_leads_response::Result::Error(_) => rejected += 1,
            }
        }
        taken.sort_unstable();
        // The first in the order of the rows has it.
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
async fn a_capture_tells_whether_the_lead_is_new_in_every_dialect() {
    for (capture_message, told) in [
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
        assert_eq!(first.created, told);
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

#[tokio::test]
async fn fields_are_described_without_a_second_call() {
    let world = World::start().await.warm().await;
    let describe = |names: &[&str]| {
        let schema_names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut client = world.client.clone();
        async move {
            client
                .describe_lead_fields(pb::DescribeLeadFieldsRequest { schema_names })
                .await
        }
    };
    let all = describe(&[]).await.unwrap().into_inner();
    assert!(all.fields.len() > 30 && all.fetch_time.is_some());
    let some = describe(&["city", "mx_Loan_Amount", "mx_Segment"])
        .await
        .unwrap()
        .into_inner()
        .fields;
    let by_name = |name: &str| some.iter().find(|field| field.schema_name == name).unwrap();
    assert_eq!(by_name("mx_City").field_name, "city");
    assert_eq!(by_name("mx_Loan_Amount").kind(), pb::FieldKind::Number);
    assert!(!by_name("mx_Segment").options.is_empty());
    let error = seen(describe(&["mx_Nothing"]).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn all_faults_come_at_once_and_cost_nothing() {
    let world = World::start().await.warm().await;
    let faulty = pb::LeadFields {
        first_name: Some("x".repeat(10_000)),
        email_address: Some("nobody".into()),
        city: Some("Pune".into()),
        custom: custom(&[
            ("mx_City", text("Delhi")),
            ("mx_Loan_Amount", text("much")),
            ("mx_Nothing", text("x")),
            ("mx_Consent", pb::FieldValue { value: None }),
            (
                "mx_Next_Call",
                value(Value::Time(Timestamp {
                    seconds: i64::MAX,
                    nanos: 0,
                })),
            ),
            ("CreatedOn", text("2026-01-01 00:00:00")),
        ]),
        ..Default::default()
    };
    for validate_only in [true, false] {
        let request = pb::CreateLeadRequest {
            lead: Some(faulty.clone()),
            request_id: "seven".into(),
            validate_only,
        };
        let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        let mut fields = error.fields();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "lead.custom[\"CreatedOn\"]",
                "lead.custom[\"mx_City\"]",
                "lead.custom[\"mx_Consent\"]",
                "lead.custom[\"mx_Loan_Amount\"]",
                "lead.custom[\"mx_Next_Call\"]",
                "lead.custom[\"mx_Nothing\"]",
                "lead.email_address",
                "lead.first_name",
                "request_id",
            ]
        );
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn a_message_that_is_only_checked_is_not_sent() {
    let world = World::start().await.warm().await;
    let request = pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        validate_only: true,
        ..Default::default()
    };
    let answer = world.client.clone().create_lead(request).await.unwrap().into_inner();
    assert_eq!(answer.lead_id, "");
    assert!(world.simulator.calls().is_empty() && world.simulator.leads().is_empty());
}

#[tokio::test]
async fn without_metadata_leadsquared_decides() {
    let world = World::start().await;
    let fault = leadgate_simulator::Fault::new("LeadsMetaData.Get", leadgate_simulator::FaultKind::Empty500);
    world.simulator.add_fault(fault.times(1000)).unwrap();
    let id = tokio::time::timeout(Duration::from_secs(20), world.create(lead("Asha")))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        world
            .get(by_id(&id))
            .await
            .unwrap()
            .fields
            .unwrap()
            .first_name
            .as_deref(),
        Some("Asha")
    );
    let unknown = pb::LeadFields {
        custom: custom(&[("mx_Nothing", text("x"))]),
        ..lead("Ben")
    };
    let error = seen(world.create(unknown).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["lead.custom[\"mx_Nothing\"]"]);
}

#[tokio::test]
async fn a_field_set_in_another_form_is_never_an_error() {
    for form in [FieldSetForm::Json, FieldSetForm::Object, FieldSetForm::Absent] {
        let options = Options {
            field_sets_in_reads: form,
            omit_null_keys: true,
            ..Options::default()
        };
        let world = World::with(options, "").await;
        let id = world.create(full()).await.unwrap();
        let fields = world.get(by_id(&id)).await.unwrap().fields.unwrap();
        assert_eq!(fields.custom.contains_key("mx_KYC"), form != FieldSetForm::Absent);
    }
}
